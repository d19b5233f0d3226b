/* What an implementation of the content-addressed store provides. The calls mean what the door (mintfs/blob.h) says of
 * the functions with their names; store.c hands each of them on. Hashing and verifying are the same for all and need no
 * entry here. */
#ifndef BLOB_STORE_H
#define BLOB_STORE_H

#include <mintfs/blob.h>

struct blob_store_ops {
	const char *name; /* for messages: "local" */
	void (*close)(struct blob_store *s); /* frees s */
	int (*put_batch)(struct blob_store *s, struct blob_item *items, size_t n, struct fault *f);
	int (*seal)(struct blob_store *s, const struct blob_id *id, uint64_t inode, uint64_t *ret_size); /* -EMLINK: somebody else's file; ret_size is set then */
	int (*open)(struct blob_store *s, const struct blob_id *id);
	int (*size)(struct blob_store *s, const struct blob_id *id, uint64_t *ret_size);
	int (*still_put)(struct blob_store *s, const struct blob_item *item);
	bool (*is_sealed)(struct blob_store *s, const struct blob_id *id, uint64_t size);
	int (*remove)(struct blob_store *s, const struct blob_id *id);
	int (*each)(struct blob_store *s, blob_each_fn *fn, void *arg);
	bool (*can_protect)(struct blob_store *s);
	int (*scan)(struct blob_store *s, int first_byte, blob_found_fn *fn, void *arg);
	int (*set_aside)(struct blob_store *s, const char *name, int newdir, const char *newname);
	int (*make_private)(struct blob_store *s, const struct blob_id *id, uint64_t size);
};

/* The first member of every implementation's own struct. Never changed after it was opened. */
struct blob_store {
	const struct blob_store_ops *ops;
	struct log *log; /* borrowed, may be NULL */
};

/* "No space left on device"; error is positive. Unlike strerror it may be called by any thread. */
const char *blob_error_text(int error);

#endif
