/* JSON text written into a buffer.
 *
 * Invariants: depth is the number of open objects and arrays; filled[depth - 1] says whether the innermost one has a
 * member, hence whether the next one is preceded by a comma. Errors stick in the buffer, so no call here returns one. */
#include <mintfs/buf.h>
#include <mintfs/util.h>

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

void json_init(struct json_out *j, struct buf *out, int indent)
{
	*j = (struct json_out){.out = out, .indent = indent};
}

static void new_line(struct json_out *j)
{
	if (j->indent > 0)
		buf_printf(j->out, "\n%*s", j->indent * j->depth, "");
}

/* What stands before a value or a key: nothing after a key, else the comma and the line of the member. */
static void before_member(struct json_out *j)
{
	if (j->after_key) {
		j->after_key = false;
		return;
	}
	if (j->depth == 0)
		return;
	if (j->filled[j->depth - 1])
		buf_putc(j->out, ',');
	j->filled[j->depth - 1] = true;
	new_line(j);
}

static void begin(struct json_out *j, char bracket)
{
	before_member(j);
	buf_putc(j->out, bracket);
	if (j->depth == JSON_DEPTH_MAX) {
		if (!j->out->error)
			j->out->error = -EOVERFLOW;
		return;
	}
	j->filled[j->depth++] = false;
}

static void end(struct json_out *j, char bracket)
{
	bool filled;

	if (j->depth == 0) { /* one end too many, or an overflow before */
		if (!j->out->error)
			j->out->error = -EINVAL;
		return;
	}
	filled = j->filled[--j->depth];
	if (filled)
		new_line(j);
	buf_putc(j->out, bracket);
}

void json_object_begin(struct json_out *j)
{
	begin(j, '{');
}

void json_object_end(struct json_out *j)
{
	end(j, '}');
}

void json_array_begin(struct json_out *j)
{
	begin(j, '[');
}

void json_array_end(struct json_out *j)
{
	end(j, ']');
}

static void put_ascii(struct buf *out, char c)
{
	static const char named[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
	const char *at = c ? strchr(named, c) : NULL;

	if (at) {
		buf_putc(out, '\\');
		buf_putc(out, letters[at - named]);
	} else if ((unsigned char)c < 0x20 || c == 0x7f) {
		buf_printf(out, "\\u%04x", (unsigned)c);
	} else {
		buf_putc(out, c);
	}
}

static void put_text(struct buf *out, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t left = strlen(text);

	buf_putc(out, '"');
	while (left > 0) {
		size_t n = utf8_sequence(p, left);
		unsigned code = n > 1 ? utf8_command((const char *)p, left, &n) : 0;
		if (n == 1)
			put_ascii(out, (char)*p);
		else if (code) /* JSON is read on terminals, too */
			buf_printf(out, "\\u%04x", code);
		else if (n > 1)
			buf_add(out, p, n);
		else
			buf_puts(out, "\xef\xbf\xbd"); /* U+FFFD for each byte that belongs to no character */
		p += n ? n : 1;
		left -= n ? n : 1;
	}
	buf_putc(out, '"');
}

void json_key(struct json_out *j, const char *key)
{
	before_member(j);
	put_text(j->out, key);
	buf_puts(j->out, j->indent > 0 ? ": " : ":");
	j->after_key = true;
}

void json_string(struct json_out *j, const char *value)
{
	before_member(j);
	if (value)
		put_text(j->out, value);
	else
		buf_puts(j->out, "null");
}

void json_int(struct json_out *j, int64_t value)
{
	before_member(j);
	buf_printf(j->out, "%" PRId64, value);
}

void json_real(struct json_out *j, double value)
{
	char text[48];
	char *comma;

	if (!isfinite(value)) {
		json_null(j);
		return;
	}
	before_member(j);
	/* a whole number: 10, where %g with the fewest digits says 1e+01 */
	if (value > -1e15 && value < 1e15 && value == (double)(int64_t)value) {
		buf_printf(j->out, "%.0f", value);
		return;
	}
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, value);
		if (strtod(text, NULL) == value)
			break;
	}
	comma = strchr(text, ','); /* a program that called setlocale */
	if (comma)
		*comma = '.';
	buf_puts(j->out, text);
}

void json_bool(struct json_out *j, bool value)
{
	json_raw(j, value ? "true" : "false");
}

void json_null(struct json_out *j)
{
	json_raw(j, "null");
}

void json_raw(struct json_out *j, const char *json)
{
	before_member(j);
	buf_puts(j->out, json);
}

void json_field_string(struct json_out *j, const char *key, const char *value)
{
	json_key(j, key);
	json_string(j, value);
}

void json_field_int(struct json_out *j, const char *key, int64_t value)
{
	json_key(j, key);
	json_int(j, value);
}

void json_field_bool(struct json_out *j, const char *key, bool value)
{
	json_key(j, key);
	json_bool(j, value);
}
