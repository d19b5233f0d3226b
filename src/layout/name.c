/* What a single name may be. The rules stand in the door, in the order in which they are checked here. */
#include "name.h"

#include <errno.h>
#include <mintfs/layout.h>
#include <mintfs/util.h>
#include <string.h>

/* The length of the UTF-8 character at p, 0 if there is none. */
static size_t character(const char *p, size_t len)
{
	for (size_t n = 1; n <= 4 && n <= len; n++) {
		if (utf8_valid(p, n))
			return n;
	}
	return 0;
}

static bool is_control(const char *p, size_t n)
{
	const unsigned char *u = (const unsigned char *)p;

	if (n == 1)
		return u[0] < 0x20 || u[0] == 0x7f;
	return n == 2 && u[0] == 0xc2 && u[1] < 0xa0; /* U+0080 to U+009F */
}

const char *quote(struct span s, struct quoted *q)
{
	size_t in = 0, out = 0;

	while (in < s.len) {
		size_t n = character(s.text + in, s.len - in);
		if (out + (n ? n : 1) > QUOTED_BYTES_MAX) {
			memcpy(q->text + out, "...", 3);
			out += 3;
			break;
		}
		if (n == 0 || is_control(s.text + in, n)) {
			q->text[out++] = '?';
		} else {
			memcpy(q->text + out, s.text + in, n);
			out += n;
		}
		in += n ? n : 1;
	}
	q->text[out] = '\0';
	return q->text;
}

bool name_is_version_like(struct span s)
{
	if (s.len < 2 || s.text[0] != 'v')
		return false;
	for (size_t i = 1; i < s.len; i++) {
		if (s.text[i] < '0' || s.text[i] > '9')
			return false;
	}
	return true;
}

static bool is_reserved(struct span s)
{
	static const char *const words[] = {"latest", "next", "best"};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (span_is(s, words[i]))
			return true;
	}
	return name_is_version_like(s);
}

static bool has_control(struct span s)
{
	for (size_t i = 0, n; i < s.len; i += n) {
		n = character(s.text + i, s.len - i);
		if (is_control(s.text + i, n))
			return true;
	}
	return false;
}

/* Space, no-break space and the ideographic space of Chinese text: nobody sees them at the end of a name. */
static bool has_blank_end(struct span s)
{
	static const char *const blanks[] = {" ", "\xc2\xa0", "\xe3\x80\x80"};

	for (size_t i = 0; i < ARRAY_SIZE(blanks); i++) {
		size_t n = strlen(blanks[i]);
		if (s.len >= n && (memcmp(s.text, blanks[i], n) == 0 || memcmp(s.text + s.len - n, blanks[i], n) == 0))
			return true;
	}
	return false;
}

int name_check(const char *label, struct span s, struct fault *f)
{
	struct quoted q;

	if (s.len == 0)
		return fault_set(f, EINVAL, "the %s is empty", label);
	quote(s, &q);
	if (s.len > LAYOUT_NAME_MAX)
		return fault_set(f, EINVAL, "the %s '%s' is %zu bytes long; the limit is %d bytes", label, q.text, s.len,
			LAYOUT_NAME_MAX);
	if (!utf8_valid(s.text, s.len))
		return fault_set(f, EINVAL, "the %s '%s' is not valid UTF-8; write it in a UTF-8 locale", label, q.text);
	if (memchr(s.text, '/', s.len))
		return fault_set(f, EINVAL, "the %s '%s' contains a '/'", label, q.text);
	if (has_control(s))
		return fault_set(f, EINVAL, "the %s '%s' contains a control character (shown as '?'), such as a line break",
			label, q.text);
	if (s.text[0] == '.')
		return fault_set(f, EINVAL, "the %s '%s' begins with a dot; names with a dot in front are kept for tools",
			label, q.text);
	if (has_blank_end(s))
		return fault_set(f, EINVAL, "the %s '%s' begins or ends with a blank; write it without", label, q.text);
	if (is_reserved(s))
		return fault_set(f, EINVAL, "the %s '%s' is reserved: latest, next, best and v1, v2, ... stand for the versions "
			"inside a model, e.g. product/P001_all/mlstm/v2", label, q.text);
	return 0;
}
