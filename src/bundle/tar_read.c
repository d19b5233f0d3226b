/* Reading a tar archive that anybody may have made: ustar, pax extended headers, and GNU's long names, since who repacks a bundle has GNU tar.
 *
 * All is bounded: a header is a block, an extended one at most EXTENDED_MAX bytes, a content is handed on in pieces. Whatever else tar archives hold - devices, FIFOs,
 * sparse files, several volumes - is refused by name, and so is an archive without its end: it may be torn. */
#include "tar.h"

#include <errno.h>
#include <inttypes.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER (1u << 16)
#define EXTENDED_MAX (1u << 16)
#define END_MAX (UINT64_C(64) << 20) /* of empty blocks at the end: tar fills the last record, of 10 KiB mostly */

struct tar_reader {
	tar_read_fn *fn;
	void *arg;
	uint64_t taken;   /* bytes handed on so far */
	uint64_t content; /* what is left of the last member's */
	size_t padding;   /* behind it */
	size_t begin, end; /* of what is in the buffer */
	bool over;
	uint8_t buffer[BUFFER];
};

/* What extended headers say of the next member. */
struct extended {
	bool has_path, has_target, has_size;
	uint64_t size;
};

int tar_reader_new(tar_read_fn *fn, void *arg, struct tar_reader **ret)
{
	struct tar_reader *t = calloc(1, sizeof *t);

	if (!t)
		return -ENOMEM;
	t->fn = fn;
	t->arg = arg;
	*ret = t;
	return 0;
}

void tar_reader_free(struct tar_reader *t) { free(t); }
uint64_t tar_position(const struct tar_reader *t) { return t->taken; }

/* ---- bytes ---- */

/* Up to len bytes; large pieces go past the buffer. 0: the source is over. */
static ssize_t take(struct tar_reader *t, void *data, size_t len)
{
	if (t->begin == t->end && len >= BUFFER) {
		ssize_t n = t->fn(t->arg, data, len);
		if (n > 0)
			t->taken += (uint64_t)n;
		return n;
	}
	if (t->begin == t->end) {
		ssize_t n = t->fn(t->arg, t->buffer, BUFFER);
		if (n <= 0)
			return n;
		t->begin = 0;
		t->end = (size_t)n;
	}
	size_t n = t->end - t->begin < len ? t->end - t->begin : len;
	memcpy(data, t->buffer + t->begin, n);
	t->begin += n;
	t->taken += n;
	return (ssize_t)n;
}

static int torn(const struct tar_reader *t, struct fault *f)
{
	return fault_set(f, EINVAL, "the bundle is torn: it ends at byte %" PRIu64 ", in the middle", t->taken);
}

static int take_all(struct tar_reader *t, void *data, size_t len, struct fault *f)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = take(t, (uint8_t *)data + at, len - at);
		if (n < 0)
			return fault_set(f, (int)-n, "the bundle cannot be read: %s", strerror((int)-n));
		if (n == 0)
			return torn(t, f);
		at += (size_t)n;
	}
	return 0;
}

static int pass_over(struct tar_reader *t, uint64_t len, struct fault *f)
{
	uint8_t piece[TAR_BLOCK * 8];

	while (len > 0) {
		size_t n = len < sizeof piece ? (size_t)len : sizeof piece;
		int error = take_all(t, piece, n, f);
		if (error)
			return error;
		len -= n;
	}
	return 0;
}

ssize_t tar_read(struct tar_reader *t, void *data, size_t len, struct fault *f)
{
	if (len > t->content)
		len = (size_t)t->content;
	if (len == 0)
		return 0;
	ssize_t n = take(t, data, len);
	if (n < 0)
		return fault_set(f, (int)-n, "the bundle cannot be read: %s", strerror((int)-n));
	if (n == 0)
		return torn(t, f);
	t->content -= (uint64_t)n;
	return n;
}

/* ---- headers ---- */

/* Octal, or with the first bit set base 256, as GNU tar writes large numbers. -EINVAL */
static int read_number(const uint8_t *field, size_t width, uint64_t *ret)
{
	uint64_t value = 0;
	size_t i = 0;

	if (field[0] & 0x80) {
		if (field[0] != 0x80)
			return -EINVAL; /* negative, or beyond any size */
		for (i = 1; i < width; i++) {
			if (value >> 55)
				return -EINVAL;
			value = value << 8 | field[i];
		}
		*ret = value;
		return 0;
	}
	while (i < width && field[i] == ' ')
		i++;
	for (; i < width && field[i] >= '0' && field[i] <= '7'; i++) {
		if (value >> 60)
			return -EINVAL;
		value = value * 8 + (uint64_t)(field[i] - '0');
	}
	if (i < width && field[i] != ' ' && field[i] != '\0')
		return -EINVAL;
	*ret = value;
	return 0;
}

static bool sum_is_right(const uint8_t block[TAR_BLOCK])
{
	uint64_t said;
	unsigned sum = 0;

	for (size_t i = 0; i < TAR_BLOCK; i++)
		sum += i >= 148 && i < 156 ? ' ' : block[i];
	return read_number(block + 148, 8, &said) == 0 && said == sum;
}

static bool is_zero(const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (data[i])
			return false;
	return true;
}

/* A field that ends with a NUL or is full. */
static int copy_field(char *out, const uint8_t *field, size_t width)
{
	size_t len = strnlen((const char *)field, width);

	memcpy(out, field, len);
	out[len] = '\0';
	return 0;
}

static int copy_value(char *out, const char *value, size_t len, struct fault *f)
{
	if (len >= TAR_NAME_MAX)
		return fault_set(f, EINVAL, "the bundle holds a name of %zu bytes: more than any file system takes", len);
	if (memchr(value, '\0', len))
		return fault_set(f, EINVAL, "the bundle holds a name with a NUL in it");
	memcpy(out, value, len);
	out[len] = '\0';
	return 0;
}

static int bad_extended(const struct tar_reader *t, struct fault *f)
{
	return fault_set(f, EINVAL, "the bundle is damaged before byte %" PRIu64 ": an extended header that cannot be understood", t->taken);
}

static int take_record(struct tar_reader *t, struct tar_entry *e, struct extended *x, const char *key, size_t key_len, const char *value, size_t len, struct fault *f)
{
#define KEY(word) (key_len == sizeof word - 1 && !memcmp(key, word, sizeof word - 1))
	char digits[24];

	if (KEY("path")) {
		x->has_path = true;
		return copy_value(e->path, value, len, f);
	}
	if (KEY("linkpath")) {
		x->has_target = true;
		return copy_value(e->target, value, len, f);
	}
	if (KEY("size")) {
		if (len >= sizeof digits)
			return bad_extended(t, f);
		memcpy(digits, value, len);
		digits[len] = '\0';
		x->has_size = true;
		return parse_u64(digits, INT64_MAX, &x->size) < 0 ? bad_extended(t, f) : 0;
	}
	if (key_len > 11 && !memcmp(key, "GNU.sparse.", 11))
		return fault_set(f, EINVAL, "the bundle holds a sparse file before byte %" PRIu64 ": pack it without --sparse", t->taken);
	return 0; /* times, owners, comments: the manifest has them */
#undef KEY
}

/* "LENGTH KEY=VALUE\n" one after the other. */
static int take_records(struct tar_reader *t, const char *text, size_t len, struct tar_entry *e, struct extended *x, struct fault *f)
{
	for (size_t at = 0; at < len;) {
		uint64_t record = 0;
		size_t p = at;
		while (p < len && text[p] >= '0' && text[p] <= '9' && record <= EXTENDED_MAX)
			record = record * 10 + (uint64_t)(text[p++] - '0');
		if (p == at || p >= len || text[p] != ' ' || record > len - at || at + record <= p + 1 || text[at + record - 1] != '\n')
			return bad_extended(t, f);
		const char *key = text + p + 1, *end = text + at + record - 1, *equals = memchr(key, '=', (size_t)(end - key));
		if (!equals)
			return bad_extended(t, f);
		int error = take_record(t, e, x, key, (size_t)(equals - key), equals + 1, (size_t)(end - equals - 1), f);
		if (error)
			return error;
		at += (size_t)record;
	}
	return 0;
}

/* A member that only speaks of the next one. */
static int take_extended(struct tar_reader *t, char type, uint64_t size, struct tar_entry *e, struct extended *x, struct fault *f)
{
	if (size > EXTENDED_MAX)
		return fault_set(f, EINVAL, "the bundle holds an extended header of %" PRIu64 " bytes before byte %" PRIu64 ": more than %u are not read", size, t->taken,
			EXTENDED_MAX);
	auto_free char *text = malloc((size_t)size + 1);
	if (!text)
		return fault_set(f, ENOMEM, "not enough memory");
	int error = take_all(t, text, (size_t)size, f);
	if (!error)
		error = pass_over(t, tar_padding(size), f);
	if (error)
		return error;
	switch (type) {
	case 'x': return take_records(t, text, (size_t)size, e, x, f);
	case 'L':
		x->has_path = true;
		return copy_value(e->path, text, strnlen(text, (size_t)size), f);
	case 'K':
		x->has_target = true;
		return copy_value(e->target, text, strnlen(text, (size_t)size), f);
	default: return 0; /* 'g': nothing in it matters here */
	}
}

static void read_names(const uint8_t *block, struct tar_entry *e, const struct extended *x)
{
	char name[101], prefix[156];

	copy_field(name, block, 100);
	copy_field(prefix, block + 345, 155);
	bool posix = !memcmp(block + 257, "ustar", 6); /* GNU's own headers have a blank there, and other things in the prefix */
	if (!x->has_path) {
		size_t len = posix ? strlen(prefix) : 0;
		memcpy(e->path, prefix, len);
		e->path[len] = '/';
		strcpy(e->path + (len ? len + 1 : 0), name);
	}
	if (!x->has_target)
		copy_field(e->target, block + 157, 100);
}

static void trim_path(char *path)
{
	size_t skip = 0, len = strlen(path);

	while (path[skip] == '.' && path[skip + 1] == '/')
		skip += 2;
	memmove(path, path + skip, len - skip + 1);
	len -= skip;
	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
}

static int read_type(char c, enum tar_type *ret)
{
	switch (c) {
	case '0':
	case '7': /* "contiguous" */
	case '\0': *ret = TAR_FILE; return 0;
	case '1': *ret = TAR_HARDLINK; return 0;
	case '2': *ret = TAR_SYMLINK; return 0;
	case '5': *ret = TAR_DIRECTORY; return 0;
	default: return -EINVAL;
	}
}

static int refuse_type(const struct tar_entry *e, char c, struct fault *f)
{
	const char *what = c == '3' || c == '4' ? "a device" : c == '6' ? "a FIFO" : c == 'S' ? "a sparse file (pack it without --sparse)" :
		c == 'M' || c == 'V' ? "a part of several volumes" : "something that is no file";

	return fault_set(f, EINVAL, "%s: is %s, and no bundle holds that", e->path, what);
}

/* Behind the two empty blocks nothing but padding may stand. */
static int read_end(struct tar_reader *t, struct fault *f)
{
	uint8_t block[TAR_BLOCK];
	uint64_t began = t->taken;
	int error = take_all(t, block, sizeof block, f);

	if (error)
		return error;
	if (!is_zero(block, sizeof block))
		return fault_set(f, EINVAL, "the bundle is damaged before byte %" PRIu64 ": an empty block between members", t->taken);
	for (;;) {
		ssize_t n = take(t, block, sizeof block);
		if (n < 0)
			return fault_set(f, (int)-n, "the bundle cannot be read: %s", strerror((int)-n));
		if (n == 0)
			break;
		if (!is_zero(block, (size_t)n))
			return fault_set(f, EINVAL, "the bundle goes on behind its end, at byte %" PRIu64, t->taken - (uint64_t)n);
		if (t->taken - began > END_MAX)
			return fault_set(f, EINVAL, "the bundle has no end: nothing but empty blocks from byte %" PRIu64 " on", began);
	}
	t->over = true;
	return 0;
}

static int read_header(struct tar_reader *t, uint8_t block[TAR_BLOCK], struct fault *f)
{
	uint64_t at = t->taken;
	int error = take_all(t, block, TAR_BLOCK, f);

	if (error || is_zero(block, TAR_BLOCK))
		return error;
	if (sum_is_right(block))
		return 1;
	return at == 0 ? fault_set(f, EINVAL, "this is no tar archive, so it is no bundle")
		: fault_set(f, EINVAL, "the bundle is damaged at byte %" PRIu64 ": what stands there is no header of a member", at);
}

int tar_next(struct tar_reader *t, struct tar_entry *ret, struct fault *f)
{
	struct extended x = {0};
	uint8_t block[TAR_BLOCK];
	uint64_t size;

	if (t->over)
		return 0;
	int error = pass_over(t, t->content, f);
	if (!error)
		error = pass_over(t, t->padding, f);
	if (error)
		return error;
	t->content = t->padding = 0;
	for (;;) {
		int got = read_header(t, block, f);
		if (got < 0)
			return got;
		if (got == 0)
			return x.has_path || x.has_target || x.has_size ? bad_extended(t, f) : read_end(t, f);
		if (read_number(block + 124, 12, &size) < 0 || size > INT64_MAX)
			return fault_set(f, EINVAL, "the bundle is damaged before byte %" PRIu64 ": a size that is no number", t->taken);
		char type = (char)block[156];
		if (type != 'x' && type != 'g' && type != 'L' && type != 'K')
			break;
		if ((error = take_extended(t, type, size, ret, &x, f)))
			return error;
	}
	read_names(block, ret, &x);
	trim_path(ret->path);
	if (read_type((char)block[156], &ret->type) < 0)
		return refuse_type(ret, (char)block[156], f);
	if (ret->type == TAR_HARDLINK)
		trim_path(ret->target); /* the name of a member, as `path` is */
	ret->size = ret->type == TAR_FILE ? (x.has_size ? x.size : size) : 0;
	t->content = ret->size;
	t->padding = tar_padding(ret->size);
	return 1;
}
