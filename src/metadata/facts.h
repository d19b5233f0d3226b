/* Labels and parameters of a metadata.json, as facts. Private to the room. */
#ifndef METADATA_FACTS_H
#define METADATA_FACTS_H

#include "scan.h"

/* Adds the scalars below the object as PREFIX.key.key; of more than METADATA_FACTS_MAX the first. -ENOMEM. */
int facts_flatten(const char *text, const struct scan_token *object, const char *prefix, struct metadata *md);
/* The object without blanks, to be freed; *ret stays NULL where it is larger than METADATA_OBJECT_MAX. -ENOMEM. */
int facts_compact(const char *text, const struct scan_token *object, char **ret);
void facts_release(struct metadata *md);

#endif
