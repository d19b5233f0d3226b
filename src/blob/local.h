/* The local implementation's own page: local.c (open, look, read, remove), local_put.c (taking a batch in),
 * local_sync.c (how it becomes durable), local_temp.c (private copies, made under a temporary name),
 * local_scan.c (all that stands there, for fsck).
 *
 * Three states of a name in blobs/ matter, and the first line of defence of "a committed byte never changes" is to tell
 * them apart:
 *
 *   sound    right size, mode 0444, its only name: sealed. Nobody can write to it; another version may share it.
 *   shared   right size, but not sealed: some draft, running its commit at this moment or left behind by one that
 *            failed, may have the same inode under its own name and write to it later. The bytes may even be other ones
 *            already.
 *   damaged  anything else under that name.
 *
 * Only a sound blob is ever taken for content that is "already there". */
#ifndef BLOB_LOCAL_H
#define BLOB_LOCAL_H

#include "store.h"

#include <sys/stat.h>

#define LOCAL_NAME_SIZE (BLOB_HEX_SIZE + 1) /* "ab/cdef…" */
#define LOCAL_SHARDS 256
#define LOCAL_MODE 0444                     /* of a sealed blob */
#define LOCAL_TRIES 4 /* of what another process may spoil: each failure means that somebody else got ahead */

enum local_way { LOCAL_CHOOSE, LOCAL_EACH, LOCAL_ALL, LOCAL_JOURNAL }; /* of syncing: local_sync.c */

struct local_store {
	struct blob_store base;
	int dir;            /* blobs/, read-only descriptor */
	enum local_way way; /* LOCAL_JOURNAL where there is one, else LOCAL_CHOOSE: each batch does; tests set the others */
};

static inline struct local_store *local_store(struct blob_store *s) { return (struct local_store *)s; }

void local_name(const struct blob_id *id, char out[LOCAL_NAME_SIZE]);

enum local_state { LOCAL_ABSENT, LOCAL_SOUND, LOCAL_SHARED, LOCAL_DAMAGED };
enum local_state local_judge(const struct stat *st, uint64_t size);
/* *ret_st may be NULL; it is not set for LOCAL_ABSENT. */
int local_look(const struct local_store *s, const char *name, uint64_t size, enum local_state *ret_state,
	       struct stat *ret_st);

/* Does the inode carry the immutable flag? false where that cannot be told. */
bool local_is_immutable(int fd);

/* local_sync.c */
bool local_has_journal(int dir);
/* How to sync n files (or directories) that hold so many bytes; up to each_max of them may be synced one by one. Never LOCAL_CHOOSE. */
enum local_way local_sync_way(const struct local_store *s, size_t n, size_t each_max, uint64_t bytes);
/* All names in these directories of blobs/, and blobs/ itself; all: by syncfs, since bytes wait for it too. fs: a descriptor of the file system that was opened before
 * the names were made: a failed syncfs is told once to each descriptor (syncfs(2)). */
int local_sync_names(const struct local_store *s, const uint8_t *shards, size_t n, bool all, int fs, struct fault *f);

/* local_scan.c */
int local_scan(struct blob_store *s, int first_byte, blob_found_fn *fn, void *arg);
bool local_can_protect(struct blob_store *s);
int local_set_aside(struct blob_store *s, const char *name, int newdir, const char *newname);
int local_make_private(struct blob_store *s, const struct blob_id *id, uint64_t size);

/* A private copy of src under the name, whatever is there but a sound blob: -EEXIST. The directories are not synced. */
int local_place_copy(const struct local_store *s, int src, const char *name, uint64_t size);
int local_put_batch(struct blob_store *s, struct blob_item *items, size_t n, struct fault *f);

/* A file of nobody else's, to become a blob. Where the file system can, it has no name until it is published. It is
 * locked as long as it is open, by which local_temp_sweep knows the ones whose makers have died. */
#define LOCAL_TEMP_PREFIX "tmp."
#define LOCAL_TEMP_NAME_SIZE 32
struct local_temp {
	int fd;
	char name[LOCAL_TEMP_NAME_SIZE]; /* in blobs/; "" while it has none */
};
int local_temp_open(const struct local_store *s, struct local_temp *t);
/* Fills it with the first `size` bytes of src, holes kept, mode LOCAL_MODE, and syncs it. -EBUSY if src is shorter. */
int local_temp_copy(const struct local_temp *t, int src, uint64_t size);
/* Moves it over the name (whatever is there; -EPERM where that is immutable) and seals it. The directories are not
 * synced. */
int local_temp_publish(const struct local_store *s, struct local_temp *t, const char *name);
/* Removes what was not published. Every local_temp_open that returned 0 ends with it. Also the checked close. */
int local_temp_close(const struct local_store *s, struct local_temp *t);
void local_temp_sweep(const struct local_store *s);

#endif
