/* The content-addressed store: one blob a distinct content, named by its SHA-256. A blob never changes.
 *
 * An interface with a local implementation (directory blobs/ab/cdef…, 62 hex digits after the two); another one, S3 say,
 * can take its place: callers only see this page. Thread-safe; several processes may use one store at once. Durability: after
 * blob_put_batch returned 0 every content of the batch and its name survive power loss. */
#ifndef MINTFS_BLOB_H
#define MINTFS_BLOB_H

#include <mintfs/error.h>
#include <mintfs/log.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BLOB_ID_SIZE 32
#define BLOB_HEX_SIZE (2 * BLOB_ID_SIZE + 1)

struct blob_id { uint8_t sha256[BLOB_ID_SIZE]; };
void blob_id_hex(const struct blob_id *id, char out[BLOB_HEX_SIZE]);
int blob_id_parse(const char *hex, struct blob_id *ret); /* -EINVAL */
static inline bool blob_id_equal(const struct blob_id *a, const struct blob_id *b) { return __builtin_memcmp(a, b, sizeof *a) == 0; }

/* Hashing. blob_hash_fd reads fd (any offset is kept) from 0 to its end; *go_on (may be NULL) is looked at between pieces of 1 MiB and, when it
 * has become false, -ECANCELED is returned. *ret_size: bytes hashed. */
struct blob_hasher;
int blob_hasher_new(struct blob_hasher **ret);
int blob_hasher_add(struct blob_hasher *h, const void *data, size_t len);
int blob_hasher_finish(struct blob_hasher *h, struct blob_id *ret); /* h may be used again for a new content */
void blob_hasher_free(struct blob_hasher *h);
int blob_hash_fd(int fd, const _Atomic bool *go_on, struct blob_id *ret_id, uint64_t *ret_size);

struct blob_store;

/* Opens the blobs below the directory dirfd (the store; borrowed, dup'ed), making `blobs/` mode 0700 if it is missing and create is set. */
int blob_store_open_local(int dirfd, bool create, struct log *log, struct blob_store **ret, struct fault *f);
void blob_store_close(struct blob_store *s); /* NULL is fine */

/* One content to take in. The file lies at dirfd/path (path relative, no symbolic links followed; the whole batch on the store's file system or not: where it
 * cannot be linked it is copied). It must not change while the batch runs. */
struct blob_item {
	int dirfd;
	const char *path;
	struct blob_id id; /* of the content, as hashed by the caller */
	uint64_t size;
	bool ret_new; /* set: the content was not there before; of equal items of a batch, the first one only */
	uint64_t ret_inode; /* set: of the file that was linked, this one or an equal one of the batch; 0: what is there is sealed */
};

/* Takes in all items, or fails; a failure may leave some (unreferenced) blobs. Items with equal ids are fine. Order: what is not there
 * is written, then linked, then the directories are synced (docs/design/blob.md: by how many calls) - also for contents that were there, since another process may be in
 * the midst of the same. A blob there of another size than item->size is damaged: it is replaced. A blob that is not sealed may be the file of some draft, which can still
 * be written to: unless it is the item's own file, it is replaced by a private copy. So a version is best put in one batch.
 * -EBUSY: the file has not item->size bytes. -EINVAL: not a plain file; equal ids of different sizes. -ENOSPC, -EIO, … with the file named. */
int blob_put_batch(struct blob_store *s, struct blob_item *items, size_t n, struct fault *f);

/* Is what blob_put_batch left for this item still there: a sealed blob, or the very file that it linked? -EAGAIN: a sweep took it, and nothing is there or what somebody else
 * has put since, who may still write to it: put it again. For who holds the store's write lock and refers to it next. */
int blob_still_put(struct blob_store *s, const struct blob_item *item);

/* After the catalog refers to it and the draft's own name is gone: mode 0444, immutable flag where the file system has it. inode: ret_inode of the item, 0 where it is not known.
 * A blob of another inode that has a second name is the file of somebody who is at work with it: it is left to him, and a sealed copy takes its place.
 * 0: as far as the file system and our rights allow; or it is gone. -EIO, -ENOSPC, -EMFILE, …: another time may do better; logged. */
int blob_seal(struct blob_store *s, const struct blob_id *id, uint64_t inode);

int blob_open(struct blob_store *s, const struct blob_id *id);                           /* O_RDONLY descriptor, or -ENOENT, … */
int blob_size(struct blob_store *s, const struct blob_id *id, uint64_t *ret_size);       /* -ENOENT if it is not there, whatever else has its name */
/* Is it there with this size and sealed? Only then can its bytes be relied on without being read: a name alone may be what a power cut left of a blob_put_batch. */
bool blob_is_sealed(struct blob_store *s, const struct blob_id *id, uint64_t size);
/* Reads it all: 0 sound, -EIO damaged (f says how), -ENOENT. */
int blob_verify(struct blob_store *s, const struct blob_id *id, uint64_t expected_size, struct fault *f);
/* Removes it (clearing the immutable flag first). -ENOENT is 0. The caller holds the store's write lock and knows nobody refers to it. */
int blob_remove(struct blob_store *s, const struct blob_id *id);
/* Calls fn for each blob in order of name until it returns non-zero, which is returned. mtime_ns: last change of its inode (ctime). Stray files are passed over. */
typedef int blob_each_fn(const struct blob_id *id, uint64_t size, int64_t ctime_ns, void *arg);
int blob_each(struct blob_store *s, blob_each_fn *fn, void *arg);

/* ---- for fsck and sweeps ---- */
/* What stands under a name, whatever it is. */
struct blob_found {
	const char *name;  /* "ab/cdef…", relative to the place of the blobs; borrowed */
	bool is_blob;      /* a plain file with the name of a blob; else a stray */
	struct blob_id id; /* this and the rest: of blobs only */
	uint64_t size;
	int64_t ctime_ns;
	bool sealed;       /* read-only, and this is its only name; whatever the immutable flag */
	bool immutable;    /* sealed, and has the flag */
	bool lacks_flag;   /* sealed, and could have the flag by its file system; neither: that cannot be told */
	unsigned links;
};
typedef int blob_found_fn(const struct blob_found *b, void *arg);
#define BLOB_BESIDE (-1)
/* Calls fn for each blob whose id begins with this byte, and each stray among them, in order of name; with BLOB_BESIDE for the strays beside the directories of
 * the 256 bytes. All names are read before fn is called first, so it may remove them. Non-zero of fn is returned. */
int blob_scan(struct blob_store *s, int first_byte, blob_found_fn *fn, void *arg);
/* Could blob_seal set the immutable flag, by file system and privilege? Tried on a file that nobody sees; false where there can be none. */
bool blob_can_protect(struct blob_store *s);
/* Moves what has that name (of blob_scan) to newdir/newname, on the same file system: -EEXIST if that is taken, -ENOENT if it is gone. Durable, also in newdir. For a
 * blob, the caller holds the store's write lock. */
int blob_set_aside(struct blob_store *s, const char *name, int newdir, const char *newname);
/* Seals a blob whose inode has other names than its own by putting a private copy in its place. -EIO: its bytes are not what its name says. */
int blob_make_private(struct blob_store *s, const struct blob_id *id, uint64_t size, struct fault *f);

#endif
