/* What the sources of this room share. Nobody else includes it.
 *
 *   drafts.c    the directory drafts/, and the drafts in memory
 *   draft.c     one draft: its state, changes and writers, and what is known of its files
 *   hashing.c   hashing in the background
 *   tree_hash.c hashing what is left at a commit
 *   scan.c      reading a frozen tree
 *   walk.c      reading directories: of a frozen tree, and of one that others change
 *
 * Lock order: drafts.lock, draft.lock, hash_queue.lock. None is held over a system call that may block, nor over a call out of the
 * room (the log included). */
#ifndef DRAFT_INNER_H
#define DRAFT_INNER_H

#include <dirent.h>
#include <limits.h>
#include <mintfs/buf.h>
#include <mintfs/draft.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <pthread.h>
#include <stdatomic.h>

#define DRAFT_PATH_MAX (PATH_MAX - 1) /* bytes of the longest path that a system call takes, without its NUL */
#define HASH_PENDING_MAX 64           /* files that wait for a background thread: each of them holds a descriptor */
#define HASH_EACH 2                   /* files of one user that are hashed at once */
#define HASH_THREADS (HASH_EACH + 1)
#define HASH_SIZE_MIN ((off_t)256 * 1024) /* smaller files are hashed by the commit: handing them over would cost more than hashing them */

/* A file to be hashed in the background. It belongs to whoever runs it or took it out of the queue. While it is attached to
 * its file (known_file.job) nobody has opened the file for writing since: that is what makes its result worth keeping. */
struct hash_job {
	struct draft *draft; /* a reference */
	ino_t ino;
	uid_t who;           /* whose file it is */
	uint64_t size;       /* when it was queued; only the order depends on it */
	int fd;              /* owned, O_PATH or read-only: while it is open the inode number cannot go to another file */
	_Atomic bool go_on;  /* cleared, under draft.lock, when the job is detached; never set again */
	struct hash_job *next; /* in a list of jobs to be freed */
};

struct hash_queue {
	pthread_mutex_t lock;
	struct hash_job *pending[HASH_PENDING_MAX]; /* under lock; of one user the largest runs first */
	unsigned n;                                 /* under lock */
	uid_t running[HASH_THREADS];                /* under lock: whose files are being hashed */
	unsigned n_running;                         /* under lock */
	off_t size_min;                             /* of a file worth the hand-over; fixed */
	struct workq *q; /* run_waiting is called at least as often as files were put in; it takes what it may, until nothing is left */
};

/* What is known of a file: there while it has writers, is being hashed or is hashed. Under draft.lock. */
struct known_file {
	unsigned writers;
	bool hashed;          /* size, mtime_ns, ctime_ns and blob hold; never with writers */
	char *name;           /* of a file with writers: a hint for people; may be NULL */
	struct hash_job *job; /* queued or running; never with writers */
	uint64_t size;
	int64_t mtime_ns, ctime_ns;
	struct blob_id blob;
};

enum draft_state { STATE_OPEN, STATE_FREEZING, STATE_FROZEN, STATE_GONE };

struct draft {
	struct drafts *set;
	int64_t id;
	int root;
	unsigned refs;           /* under set->lock; 0 only on the way out */
	pthread_mutex_t lock;
	pthread_cond_t moved;    /* changes fell to 0, the state changed, or a job was detached; waits by CLOCK_MONOTONIC */
	enum draft_state state;  /* this and all below: under lock */
	unsigned changes;        /* under way; 0 in FROZEN and GONE */
	unsigned writers;        /* open handles that may write; 0 in FROZEN */
	unsigned open_files;     /* open handles, writers included */
	struct map64 *files;     /* inode number to known_file; NULL once GONE */
};

struct drafts {
	int dir;                 /* drafts/ */
	struct log *log;
	draft_quiet_fn *quiet_fn;
	void *quiet_arg;
	pthread_mutex_t lock;
	struct map64 *open;      /* under lock: id to draft; each has at least one reference */
	struct hash_queue hashing;
};

/* ---- draft.c ---- */
int draft_new(struct drafts *set, int64_t id, int root /* taken on success */, struct draft **ret);
void draft_free(struct draft *d);
/* What is queued or running of this draft shall not be finished. *jobs: a list that gets those to be freed without locks. */
void draft_drop_jobs(struct draft *d, struct hash_job **jobs);
bool draft_is_frozen(struct draft *d);
/* Attaches a job to its file. False where that makes no sense any more: the job stays the caller's. */
bool draft_job_attach(struct draft *d, struct hash_job *job);
/* Detaches it, if it still is attached. st and blob: the result, NULL if there is none. */
void draft_job_end(struct hash_job *job, const struct stat *st, const struct blob_id *blob);
/* For a commit: takes a waiting job off the file. True if the file is just being hashed: see draft_job_await. */
bool draft_job_claim(struct draft *d, ino_t ino);
/* Waits until the job of a file has ended, but only until the deadline (CLOCK_MONOTONIC), or until *go_on is false; then it is dropped. */
void draft_job_await(struct draft *d, ino_t ino, int64_t deadline_ns, const _Atomic bool *go_on);
#define STOP_LOOK_NS 50000000LL /* how often a wait of a commit looks whether it is to stop */
bool draft_hash_find(struct draft *d, ino_t ino, const struct stat *st, struct blob_id *ret);
void draft_hash_keep(struct draft *d, ino_t ino, const struct stat *st, const struct blob_id *blob);

/* ---- hashing.c ---- */
int hash_queue_init(struct hash_queue *q);
void hash_queue_release(struct hash_queue *q); /* runs what is queued: drop the jobs before */
bool hash_queue_remove(struct hash_queue *q, const struct hash_job *job); /* false: it does not wait there */
void hash_job_free_list(struct hash_job *jobs); /* NULL is fine. Without locks: it closes files and puts drafts */
/* A file has lost its last writer. fd is borrowed. */
void hash_offer(struct draft *d, ino_t ino, int fd);
bool hash_stat_same(const struct stat *a, const struct stat *b); /* size, mtime and ctime */
/* sys_probe_writers, asked again for some milliseconds: a descriptor may be closed for its owner but not yet for the kernel.
 * *patience: tries left, shared by a whole scan. */
#define HASH_PATIENCE 20
#define SCAN_PATIENCE 200 /* a second: on a busy machine the kernel, and a child between fork and exec, take their time to let go */
int hash_probe(int fd, unsigned *patience);

/* ---- walk.c ---- */
/* One directory, read to its end. */
struct listing {
	DIR *dir;
	struct buf text; /* the names, each with its d_type before it and its NUL behind */
	char **names;    /* into text; without "." and ".." */
	size_t n;
};
static inline unsigned char listing_type(const struct listing *l, size_t i) { return (unsigned char)l->names[i][-1]; } /* DT_REG, …, DT_UNKNOWN */
int listing_read(int root, const char *path /* "." the root itself */, struct listing *ret);
void listing_release(struct listing *l); /* a zeroed one is fine */
#define auto_listing __attribute__((cleanup(listing_release)))

/* ---- scan.c ---- */
/* The sentence for an error met in a tree that nobody should change. Returns -errno. */
int scan_trouble(struct fault *f, int error /* negative */, const char *path);

#endif
