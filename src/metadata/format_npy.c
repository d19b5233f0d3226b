/* .npy: a magic, a version, and a header that is a Python dictionary: {'descr': '<f4', 'fortran_order': False,
 * 'shape': (3, 4)}. descr is a type, or for records a list of (name, type) or (name, type, shape), where a type may
 * be such a list again. The file holds shape × item size bytes behind the header; more is fine, since several arrays
 * may be saved into one file. Objects are pickled, so their size is not known. Source: numpy/lib/format.py. */
#include "format.h"

#include <errno.h>
#include <inttypes.h>
#include <mintfs/cleanup.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_READ_MAX (1u << 20) /* numpy itself refuses more than 10000 bytes unless told otherwise */
#define NESTING_MAX 32

/* A place in a Python literal. Invariant: p <= end. */
struct literal {
	const char *p, *end;
	unsigned depth;
};

struct item {
	uint64_t size;
	bool unknown; /* objects, and types of numpy's future */
};

/* The next character behind blanks, 0 at the end. */
static char peek(struct literal *l)
{
	while (l->p < l->end && strchr(" \t\r\n", *l->p) && *l->p)
		l->p++;
	return l->p < l->end ? *l->p : '\0';
}

static bool accept(struct literal *l, char c)
{
	if (peek(l) != c)
		return false;
	l->p++;
	return true;
}

/* Between the members of a list: true if the closing bracket was eaten, false if another member follows. */
static bool closes(struct literal *l, char bracket)
{
	accept(l, ',');
	return accept(l, bracket);
}

/* 'text' or "text", perhaps with a letter before it. The text stays as it is written, escapes and all. */
static int read_text(struct literal *l, const char **ret, size_t *ret_len)
{
	char quote = peek(l);

	if (quote == 'u' || quote == 'b') {
		l->p++;
		quote = l->p < l->end ? *l->p : '\0';
	}
	if (quote != '\'' && quote != '"')
		return -EINVAL;
	const char *start = ++l->p;
	while (l->p < l->end && *l->p != quote)
		l->p += *l->p == '\\' && l->end - l->p > 1 ? 2 : 1;
	if (l->p >= l->end)
		return -EINVAL;
	*ret = start;
	*ret_len = (size_t)(l->p++ - start);
	return 0;
}

static int read_count(struct literal *l, uint64_t *ret)
{
	uint64_t value = 0;

	if (peek(l) < '0' || peek(l) > '9')
		return -EINVAL;
	for (; l->p < l->end && *l->p >= '0' && *l->p <= '9'; l->p++)
		if (__builtin_mul_overflow(value, 10u, &value) || __builtin_add_overflow(value, (uint64_t)(*l->p - '0'), &value))
			return -EINVAL;
	if (l->p < l->end && *l->p == 'L') /* Python 2 */
		l->p++;
	*ret = value;
	return 0;
}

/* Multiplies *count by a shape: (), (3,), (3, 4) or 3. A product that does not fit is more than any file holds. */
static int read_shape(struct literal *l, uint64_t *count)
{
	uint64_t length, product = *count;
	bool zero = false, overflow = false, tuple = accept(l, '(');

	while (!tuple || !closes(l, ')')) {
		if (read_count(l, &length) < 0)
			return -EINVAL;
		zero |= length == 0;
		overflow |= __builtin_mul_overflow(product, length, &product);
		if (!tuple)
			break;
	}
	*count = zero ? 0 : overflow ? UINT64_MAX : product;
	return 0;
}

/* "<f4": byte order, kind, bytes (U: characters of 4 bytes); for times followed by their unit. */
static void read_type_text(const char *text, size_t len, struct item *ret)
{
	struct literal l = {text, text + len, 0};
	uint64_t n = 0;

	if (l.p < l.end && strchr("<>|=", *l.p))
		l.p++;
	char kind = l.p < l.end ? *l.p++ : '\0';
	if (!kind || !strchr("biufcSaVmMU", kind) || read_count(&l, &n) < 0 || n > UINT32_MAX)
		ret->unknown = true;
	else
		ret->size = kind == 'U' ? n * 4 : n;
}

static int read_type(struct literal *l, struct item *ret);

/* (name, type) or (name, type, shape); a name may be ('title', 'name'). */
static int read_record_member(struct literal *l, struct item *ret) /* NOLINT(misc-no-recursion): to NESTING_MAX */
{
	const char *text;
	size_t len;
	uint64_t count = 1;
	struct item item = {0, false};

	if (!accept(l, '('))
		return -EINVAL;
	if (accept(l, '(')) {
		if (read_text(l, &text, &len) < 0 || !accept(l, ',') || read_text(l, &text, &len) < 0 || !closes(l, ')'))
			return -EINVAL;
	} else if (read_text(l, &text, &len) < 0) {
		return -EINVAL;
	}
	if (!accept(l, ',') || read_type(l, &item) < 0)
		return -EINVAL;
	if (!closes(l, ')') && (read_shape(l, &count) < 0 || !closes(l, ')')))
		return -EINVAL;
	if (__builtin_mul_overflow(item.size, count, &item.size) || __builtin_add_overflow(ret->size, item.size, &ret->size))
		ret->size = UINT64_MAX;
	ret->unknown |= item.unknown;
	return 0;
}

static int read_type(struct literal *l, struct item *ret) /* NOLINT(misc-no-recursion): as above */
{
	struct item item = {0, false};
	const char *text;
	size_t len;

	if (accept(l, '[')) {
		if (++l->depth > NESTING_MAX)
			return -EINVAL;
		while (!closes(l, ']'))
			if (read_record_member(l, &item) < 0)
				return -EINVAL;
		l->depth--;
	} else {
		if (read_text(l, &text, &len) < 0)
			return -EINVAL;
		read_type_text(text, len, &item);
	}
	*ret = item;
	return 0;
}

/* The dictionary. On -EINVAL l->p stands at the trouble. */
static int read_header(struct literal *l, struct item *ret_item, uint64_t *ret_count)
{
	bool descr = false, shape = false;
	const char *key;
	size_t len;

	if (!accept(l, '{'))
		return -EINVAL;
	while (!closes(l, '}')) {
		if (read_text(l, &key, &len) < 0 || !accept(l, ':'))
			return -EINVAL;
		if (len == 5 && !memcmp(key, "descr", 5)) {
			descr = true;
			if (read_type(l, ret_item) < 0)
				return -EINVAL;
		} else if (len == 5 && !memcmp(key, "shape", 5)) {
			shape = true;
			*ret_count = 1;
			if (read_shape(l, ret_count) < 0)
				return -EINVAL;
		} else { /* fortran_order: True or False */
			while (peek(l) && !strchr(",}", peek(l)))
				l->p++;
		}
	}
	return descr && shape ? 0 : -EINVAL;
}

static int check_data(const struct format_file *file, const char *header, size_t len, uint64_t header_at)
{
	struct literal l = {header, header + len, 0};
	struct item item = {0, false};
	uint64_t count = 0, bytes, there = file->size - header_at - len;

	if (read_header(&l, &item, &count) < 0)
		return format_torn(file, header_at + (uint64_t)(l.p - header), "torn: a header that does not describe an array");
	if (item.unknown)
		return 0;
	if (__builtin_mul_overflow(item.size, count, &bytes))
		bytes = UINT64_MAX;
	if (bytes > there)
		return format_torn(file, file->size, "torn: its array takes %" PRIu64 " bytes, but %" PRIu64 " are there; ends",
				   bytes, there);
	return 0;
}

int format_check_npy(const struct format_file *file)
{
	uint8_t head[12];
	size_t have = file->size < sizeof(head) ? (size_t)file->size : sizeof(head);
	int r = format_read(file, 0, head, have, "its signature");

	if (r < 0)
		return r;
	if (memcmp(head, "\x93NUMPY", have < 6 ? have : 6) != 0 || (have > 6 && (head[6] < 1 || head[6] > 3)))
		return 0;
	size_t width = have > 6 && head[6] > 1 ? 4 : 2, at = 8 + width;
	if (have < at)
		return format_torn(file, file->size, "torn: ends within its header");
	uint64_t len = format_le(head + 8, (unsigned)width);
	if (len > file->size - at)
		return format_torn(file, file->size, "torn: ends within its header of %" PRIu64 " bytes", len);
	if (len > HEADER_READ_MAX)
		return 0;
	auto_free char *header = malloc((size_t)len + 1);
	if (!header)
		return fault_set(file->f, ENOMEM, "%s: not enough memory to read its header", file->name);
	if ((r = format_read(file, at, header, (size_t)len, "its header")) < 0)
		return r;
	return check_data(file, header, (size_t)len, at);
}
