/* Single names of the grammar, and how they are shown in sentences. */
#ifndef MINTFS_LAYOUT_NAME_H
#define MINTFS_LAYOUT_NAME_H

#include <mintfs/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Bytes of a path, without a NUL of their own. */
struct span {
	const char *text;
	size_t len;
};

static inline bool span_is(struct span s, const char *word)
{
	return strlen(word) == s.len && memcmp(s.text, word, s.len) == 0;
}

#define QUOTED_BYTES_MAX 60

struct quoted {
	char text[QUOTED_BYTES_MAX + 4];
};

/* The span as it may be shown to people: at most QUOTED_BYTES_MAX bytes (then "..."), control characters and bytes that
 * are not UTF-8 as '?'. Returns q->text. */
const char *quote(struct span s, struct quoted *q);

/* Is it an id by the rules of the door? -EINVAL with a sentence that calls it `label`, e.g. "store id". */
int name_check(const char *label, struct span s, struct fault *f);

/* Is it 'v' and digits only, whether or not that is a version? */
bool name_is_version_like(struct span s);

#endif
