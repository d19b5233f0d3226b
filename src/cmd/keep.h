/* What the commands that keep house share: acting where a drive can tell the kernel, and amounts as people write them. */
#ifndef MINTFS_CMD_KEEP_H
#define MINTFS_CMD_KEEP_H

#include "source.h"

/* Both act through a living drive of the store, if one can be reached, so that its kernel is told at once; else on the registry. ref: of a version. */
int source_discard(struct source *s, const struct source_ref *ref, bool force, struct fault *f);
int source_retire(struct source *s, const struct source_ref *ref, bool force, const char *message, struct fault *f);

/* What discard and retire answer, as their exit code: "v3 of product/P001_all/mlstm WORDS", or its state now as JSON. */
int cmd_tell_end(const struct command *self, const struct cmd_options *o, const struct source_ref *ref, enum catalog_state now, const char *words);

/* Writes out what a long list has gathered in b, from time to time, so that it does not stay in memory. */
void json_stream(struct buf *b);

/* "90s", "15m", "12h", "30d", "8w"; "0" alone. -EINVAL, -ERANGE */
int parse_duration(const char *text, int64_t *ret_ns);
/* "500k", "100M", "1G" (of 1024), or plain bytes. */
int parse_bytes(const char *text, uint64_t *ret);

#endif
