/* A strict reader of JSON text: one token at a time, no recursion, no memory of its own. Beside JSON it knows `NaN`,
 * `Infinity` and `-Infinity`, which Python writes. A text that was read to SCAN_END is well-formed, so a part of it
 * can be read again without fear. Not for several threads at once. */
#ifndef METADATA_SCAN_H
#define METADATA_SCAN_H

#include <mintfs/buf.h>
#include <mintfs/metadata.h>
#include <stdbool.h>
#include <stddef.h>

enum scan_kind {
	SCAN_END, /* the text is over; only blanks were left */
	SCAN_OBJECT,
	SCAN_OBJECT_END,
	SCAN_ARRAY,
	SCAN_ARRAY_END,
	SCAN_KEY, /* with its quotes; the colon is eaten */
	SCAN_STRING, /* with its quotes */
	SCAN_NUMBER,
	SCAN_NAN, /* NaN, Infinity, -Infinity: numbers to the one who wrote them, null to us */
	SCAN_TRUE,
	SCAN_FALSE,
	SCAN_NULL,
};

enum scan_expect {
	SCAN_WANTS_VALUE,
	SCAN_WANTS_FIRST_VALUE, /* or the end of the array */
	SCAN_WANTS_KEY,
	SCAN_WANTS_FIRST_KEY, /* or the end of the object */
	SCAN_WANTS_COMMA,     /* or the end of either */
	SCAN_WANTS_NOTHING,
};

struct scan {
	const char *text; /* borrowed, need not end in NUL */
	size_t pos, end;  /* offsets into text; after a refusal pos is its place */
	unsigned depth;
	char open[METADATA_DEPTH_MAX]; /* '{' or '[' for each level */
	enum scan_expect expect;
	const char *wanted; /* set by a refusal: what should have stood at pos … */
	const char *wrong;  /* … or else what is wrong there */
};

struct scan_token {
	enum scan_kind kind;
	size_t start, end; /* of its text; scan_skip moves end */
};

/* Reads text[start, end): one JSON value. */
void scan_init(struct scan *s, const char *text, size_t start, size_t end);
/* The next token. -EINVAL: the text is not JSON from s->pos on; say it with scan_problem. */
int scan_next(struct scan *s, struct scan_token *ret);
/* Takes t, just read, to the end of its value: for an object or array everything up to its closing bracket. */
int scan_skip(struct scan *s, struct scan_token *t);

#define SCAN_PROBLEM_MAX 120
/* What is wrong at s->pos, without the place. */
void scan_problem(const struct scan *s, char ret_words[SCAN_PROBLEM_MAX]);

/* The decoded text of a key or string, to be freed. U+FFFD stands for what C strings or UTF-8 cannot hold: U+0000
 * and lone surrogates. -ENOMEM, -EFBIG. */
int scan_string(const char *text, const struct scan_token *t, char **ret);
/* Is this key or string, decoded, the word? */
bool scan_is(const char *text, const struct scan_token *t, const char *word);
/* A number as double, infinite if it is too large. -ENOMEM. */
int scan_number(const char *text, const struct scan_token *t, double *ret);

/* Appends text[start, end), which was read well before, without blanks; numbers as they are written, NaN and what is too large for a double as null.
 * Stops early once out is longer than enough. -ENOMEM, -EFBIG. */
int scan_compact(const char *text, size_t start, size_t end, size_t enough, struct buf *out);

#endif
