/* Files without a name that hold what would else take memory: the text of a manifest, and where each content of an archive was first seen. Private to the room. */
#ifndef BUNDLE_SPOOL_H
#define BUNDLE_SPOOL_H

#include <mintfs/blob.h>
#include <stdint.h>

/* Bytes one after the other. */
struct spool {
	int fd;
	uint64_t len;
	char *map; /* NULL until spool_map */
};
#define SPOOL_INIT {-1, 0, NULL}
int spool_open(struct spool *s);
void spool_release(struct spool *s); /* an initialized one, too */
int spool_add(struct spool *s, const void *data, size_t len);
int spool_out(const void *data, size_t len, void *spool); /* as manifest_out_fn */
int spool_map(struct spool *s, const char **ret_text); /* readable until the release; nothing may be added then */

/* The first path of each content. */
struct contents;
int contents_new(struct contents **ret);
void contents_free(struct contents *c); /* NULL is fine */
/* 0 and the path; -ENOENT */
int contents_find(struct contents *c, const struct blob_id *id, char *out, size_t size);
int contents_add(struct contents *c, const struct blob_id *id, const char *path); /* not there yet */

#endif
