/* A growable byte buffer with a maximum, always NUL-terminated; and JSON text written into it.
 *
 * Errors stick: after the first failed append (-ENOMEM, or -EFBIG past the maximum) `error` is set, later appends do
 * nothing and return it, so a writer checks once at the end. Not for several threads at once. */
#ifndef MINTFS_BUF_H
#define MINTFS_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	char *data; /* owned; NULL while empty: use buf_text() */
	size_t len; /* bytes without the NUL */
	size_t cap;
	size_t max; /* the most bytes it may hold */
	int error;  /* 0 or -errno, sticky */
};

#define BUF_INIT(max_bytes) {NULL, 0, 0, (max_bytes), 0}
void buf_init(struct buf *b, size_t max);
void buf_release(struct buf *b); /* frees; b may be used again */
#define auto_buf __attribute__((cleanup(buf_release)))

int buf_add(struct buf *b, const void *data, size_t len);
int buf_puts(struct buf *b, const char *text);
int buf_putc(struct buf *b, char c);
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_truncate(struct buf *b, size_t len); /* keeps the first len bytes (len <= b->len) */
const char *buf_text(const struct buf *b);    /* never NULL */
char *buf_take(struct buf *b);                /* the text, to be freed by the caller; NULL on error; b is empty again */

/* JSON writer. Commas and indentation are the writer's work: begin, then key/value pairs or values, then end. Strings may
 * hold any bytes: what is not UTF-8 is written as U+FFFD. Depth at most JSON_DEPTH_MAX (-EOVERFLOW sticks). */
#define JSON_DEPTH_MAX 32
struct json_out {
	struct buf *out; /* borrowed */
	int indent;      /* spaces a level; 0: compact, no newline */
	int depth;
	bool filled[JSON_DEPTH_MAX]; /* the level has a member already */
	bool after_key;
};
void json_init(struct json_out *j, struct buf *out, int indent);
void json_object_begin(struct json_out *j);
void json_object_end(struct json_out *j);
void json_array_begin(struct json_out *j);
void json_array_end(struct json_out *j);
void json_key(struct json_out *j, const char *key);
void json_string(struct json_out *j, const char *value); /* NULL: null */
void json_int(struct json_out *j, int64_t value);
void json_real(struct json_out *j, double value); /* shortest text that reads back the same; not finite: null */
void json_bool(struct json_out *j, bool value);
void json_null(struct json_out *j);
void json_raw(struct json_out *j, const char *json); /* text that is JSON already */
/* key and value in one */
void json_field_string(struct json_out *j, const char *key, const char *value);
void json_field_int(struct json_out *j, const char *key, int64_t value);
void json_field_bool(struct json_out *j, const char *key, bool value);

#endif
