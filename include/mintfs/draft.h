/* Staging trees: drafts/<id>/ as the trainer wrote it, their open writers, and hashing in the background.
 *
 * A draft in memory is in one of three states:
 *     OPEN ──draft_freeze──▶ FROZEN ──draft_finish──▶ GONE (committed or discarded)
 *       ◀──────draft_thaw──────┘
 * Changes are bracketed by draft_change_begin/_end, writers by draft_file_opened/_closed; a freeze refuses while a writer is there and waits for
 * changes under way (each is one short system call). Everything here is thread-safe. The room never calls out under its locks. */
#ifndef MINTFS_DRAFT_H
#define MINTFS_DRAFT_H

#include <mintfs/blob.h>
#include <mintfs/error.h>
#include <mintfs/log.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

struct drafts; /* the drafts of one store, in this process */
struct draft;  /* one of them; reference-counted */

/* quiet_fn is called (on any thread, without locks) when the last open file of a draft was closed. May be NULL. */
typedef void draft_quiet_fn(int64_t id, void *arg);
int drafts_open(int store_dirfd, bool create, struct log *log, draft_quiet_fn *quiet_fn, void *arg, struct drafts **ret, struct fault *f);
void drafts_close(struct drafts *ds); /* stops hashing; all drafts must have been put. NULL is fine */

int drafts_make(struct drafts *ds, int64_t id, uid_t uid, gid_t gid, mode_t mode); /* the directory drafts/<id>; -EEXIST */
int drafts_sync(struct drafts *ds);                                               /* the directory drafts/ itself */
/* Removes drafts/<id> and all below; -ENOENT is 0. Any draft in memory must be GONE. May take long: not from a handler's thread. */
int drafts_remove(struct drafts *ds, int64_t id);
typedef int drafts_each_fn(int64_t id, void *arg);
int drafts_each(struct drafts *ds, drafts_each_fn *fn, void *arg); /* the ids on disk, until fn returns non-zero */

/* The draft in memory, opened at its first get: the same object for everybody in this process, as long as somebody holds a reference; what is known of its files (open
 * counts, hashes) lives with it, so whoever serves a draft keeps one. -ENOENT: no such directory. */
int draft_get(struct drafts *ds, int64_t id, struct draft **ret);
struct draft *draft_ref(struct draft *d);
void draft_put(struct draft *d); /* NULL is fine */
static inline void draft_put_(struct draft **d) { draft_put(*d); }
#define auto_draft __attribute__((cleanup(draft_put_)))
int64_t draft_id(const struct draft *d);
int draft_root(const struct draft *d); /* O_PATH | O_DIRECTORY descriptor of the tree's root; borrowed */

/* A change of the tree: create, unlink, rename, link, setattr. -EBUSY: a commit is at work. -EROFS: GONE. */
int draft_change_begin(struct draft *d);
void draft_change_end(struct draft *d);
/* A file's content was changed by other means than an open writer (truncate by name): its hash is dropped. */
void draft_file_touched(struct draft *d, ino_t ino);
/* A change of a file that left its content alone but moved its ctime (rename, link, unlink of one of its names, chmod, chown, xattr) was made by the caller, within
 * draft_change_begin/_end; now: its attributes after it. A hash that still fits in size and mtime is kept for the new ctime. Not calling it is safe and costs a second hashing. */
void draft_file_restamped(struct draft *d, ino_t ino, const struct stat *now);

/* An open file. For writable the same refusals as draft_change_begin; read-only opens always succeed. name is a hint for messages. */
int draft_file_opened(struct draft *d, ino_t ino, bool writable, const char *name);
/* fd: any descriptor of the file that is still open, or O_PATH (borrowed; used to reopen it for hashing when its last writer is gone). The caller's writable
 * descriptor must be closed before its hash can be trusted: so pass an O_PATH or read-only one, or -1 where the file has no name any more. */
void draft_file_closed(struct draft *d, ino_t ino, bool writable, int fd);
unsigned draft_open_files(struct draft *d); /* open handles, read-only ones too */

/* OPEN → FROZEN. Waits for changes under way, and for another commit or discard to thaw or finish the draft (so never from a thread that one needs).
 * -EBUSY: a file is open for writing (f names one); -EROFS: GONE. */
int draft_freeze(struct draft *d, struct fault *f);
void draft_thaw(struct draft *d);   /* FROZEN → OPEN */
void draft_finish(struct draft *d); /* FROZEN → GONE; also OPEN → GONE, with files open (a discard by force): waits for changes under way */
bool draft_is_gone(struct draft *d);

enum draft_type { DRAFT_FILE = 1, DRAFT_DIRECTORY, DRAFT_SYMLINK };
/* One entry of a scanned tree. Order: breadth-first, the children of a directory together and sorted by name (bytes), the top first: as the catalog wants it. */
struct draft_entry {
	char *name;   /* last component; owned by the tree */
	char *path;   /* relative to the root; owned */
	char *target; /* symlink; owned */
	enum draft_type type;
	mode_t mode;  /* permission bits */
	uid_t uid;
	gid_t gid;
	uint64_t size, blocks;
	int64_t mtime_ns;
	uint32_t nlink;      /* links within the tree */
	int64_t parent;      /* index; -1 at the top */
	int64_t first_child; /* index of the first of n_children */
	uint32_t n_children;
	int64_t inode;       /* index of the first entry with the same inode; itself if that is this one */
	ino_t ino;
	bool hashed;
	struct blob_id blob; /* valid if hashed */
};
struct draft_tree {
	struct draft_entry *entries;
	size_t n, n_top;
	uint64_t size;         /* of regular files, each inode once */
	uint32_t n_files, n_top_dirs;
	struct stat root;      /* of the draft's root directory */
};
/* Reads the tree of a FROZEN draft. -EBUSY: a file can still be written by a mapping (sys_probe_writers; f names it); -EINVAL: a special file. Hashes known from the
 * background are filled in where size, mtime and ctime are still as they were hashed; small files may be hashed at once. */
int draft_scan(struct draft *d, struct draft_tree *ret, struct fault *f);
/* The same, with a look at each file (of several names of one inode, at the first) while it is open for reading: nobody writes to it any more. What visit returns, if not 0, ends
 * the scan and is returned; e holds all but its hash, its place in the array may still change, fd may be read by pread only. */
typedef int draft_visit_fn(const struct draft_entry *e, int fd, void *arg);
int draft_scan_visit(struct draft *d, draft_visit_fn *visit, void *arg, struct draft_tree *ret, struct fault *f);
/* Hashes what is not hashed yet, several files at once; waits for files that the background is just hashing. Entries of one inode share the result. */
int draft_hash(struct draft *d, struct draft_tree *t, struct fault *f);
/* The same, until stop says that nobody wants it any more: -ECANCELED, without a sentence. It is asked some times a second, on this thread, while there is much to hash. */
typedef bool draft_stop_fn(void *arg);
int draft_hash_until(struct draft *d, struct draft_tree *t, draft_stop_fn *stop, void *arg, struct fault *f);
void draft_tree_release(struct draft_tree *t);

/* Sums for status: regular files and their bytes. Walks the tree: may take long. */
int draft_usage(struct draft *d, uint64_t *ret_files, uint64_t *ret_bytes, bool *ret_has_model /* a file model.* at the top */);
/* When anything of its tree was changed last (mtime or ctime, the newest of all). Walks the tree. */
int draft_last_change(struct draft *d, int64_t *ret_ns);
/* Is there nothing but directories in it? */
int draft_is_empty(struct draft *d, bool *ret_empty);
/* Waits until the background has hashed all it was given (tests, benchmarks). */
void drafts_drain(struct drafts *ds);

#endif
