/* Reading documents whose every field is known: objects by tables of fields, refusals by line. Private to the room. */
#ifndef METADATA_DOCUMENT_H
#define METADATA_DOCUMENT_H

#include "scan.h"

struct document {
	const char *name; /* of the file, for sentences */
	const char *text;
	struct fault *f;  /* may be NULL */
};

/* Reads a member's value into its place. key: to name it. */
typedef int field_fn(const struct document *d, const char *key, const struct scan_token *value, void *to);
struct field {
	const char *name; /* NULL: any other name */
	field_fn *read;
	size_t offset;    /* of its place in the struct that is filled */
	bool needed;
};

/* -EINVAL with "NAME, line N: SENTENCE". */
int document_refuse(const struct document *d, size_t pos, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
unsigned document_line(const struct document *d, size_t pos);

/* Proves the text to be one JSON value and gives its token. */
int document_open(const struct document *d, size_t len, struct scan_token *ret);
/* what: "a node", for sentences. A field that comes twice, is unknown, or is missing though it is needed is refused. */
int document_object(const struct document *d, const char *what, const struct scan_token *object, const struct field *fields, size_t n, void *to);
/* Calls fn for each value of an array. key names the array. */
typedef int element_fn(const struct document *d, const char *key, const struct scan_token *value, void *arg);
int document_array(const struct document *d, const char *key, const struct scan_token *array, size_t max, element_fn *fn, void *arg);

/* Fields of a kind: to is char ** (non-empty text without control characters), double *, unsigned * (1 …), … */
int document_text(const struct document *d, const char *key, const struct scan_token *value, char **ret);
int document_number(const struct document *d, const char *key, const struct scan_token *value, double *ret); /* finite */

#endif
