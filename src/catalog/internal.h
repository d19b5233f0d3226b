/* What the sources of the catalog share: the catalog itself, its connections, and the parts open, pool, writer and schema.
 *
 * Locks of a struct catalog, in the order in which they may be taken:
 *   writer.mutex   the queue and the flags of the writer; never held while anything waits for a disk
 *   store_mutex    then flock(lock_fd): the store's write lock. flock belongs to the open file description, which the threads of this
 *                  catalog share: the mutex parts the threads, flock the processes (and other catalogs in this process)
 *   pool.mutex     the free readers
 * No two of the mutexes are held at once; the order is here so that it stays so. */
#ifndef MINTFS_CATALOG_INTERNAL_H
#define MINTFS_CATALOG_INTERNAL_H

#include <mintfs/catalog.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <errno.h>
#include <pthread.h>

#include "sql.h"

#define CATALOG_READERS_MAX 8
#define CATALOG_FILE_NAME "catalog.db"
#define CATALOG_LOCK_NAME "lock"
#define CATALOG_APPLICATION_ID 0x4d494e54 /* "MINT" */
#define CATALOG_WHERE_MAX 480             /* the store's path with NUL: SQLite's unix VFS takes 512 bytes with the names of its files */

struct catalog_conn {
	struct sql *db;
	struct catalog *catalog;
	struct catalog_conn *next; /* in the pool */
};

struct pool {
	pthread_mutex_t mutex;
	pthread_cond_t returned;
	struct catalog_conn *free; /* newest first, so that few connections do the work */
	unsigned n_all, n_used;
};

struct writer_job;
struct writer {
	pthread_mutex_t mutex; /* for all but what belongs to the owner */
	pthread_cond_t wake;   /* the resting thread */
	struct writer_job *head, **tail;
	unsigned n_queued;
	bool busy;                /* somebody has the connection: */
	pthread_t owner;
	pthread_t thread;         /* the resting one */
	bool started, sleeping, closing;
	int nice;                 /* of the program when it opened the catalog */
	bool unsynced;            /* something may be committed and not yet on the disk */
	int waiting_pages;        /* as the last owner left it: of the log, that no checkpoint was tried on */
	bool wants_sync;          /* likewise: the log, when there is time */
	int64_t free_since_ns;    /* CLOCK_MONOTONIC */
	int64_t rest_ns;          /* for so long nobody writes before a sync by itself; only tests have another one */
	bool store_locked;        /* by catalog_locked, on the thread below */
	pthread_t store_locker;
	uint64_t n_commits, n_syncs; /* for tests and measurements */
	struct fault refusal;        /* why nothing can be written, if the last transaction was refused for the schema that it met */
	/* the owner's: */
	struct catalog_conn *conn; /* opened with the first write */
	int log_pages, checkpoint_pages; /* of the log now, and when the last checkpoint was tried */
	int64_t schema; /* the cookie of the one that was verified; -1: none yet */
	bool may_sync; /* by itself: not after a failure, until something is written again; catalog_sync reports it */
};

struct schema_step {
	int format;       /* brings the format before to this one */
	const char *text; /* SQL, run in one transaction with all the other steps */
};
struct schema_plan {
	int format; /* what this program writes */
	const struct schema_step *steps;
	size_t n_steps;
	const struct schema_step *altered; /* CREATE TABLE of what steps up to a format have altered, as sqlite_schema has it then */
	size_t n_altered;
};

struct catalog {
	int dirfd;
	int lock_fd; /* -1: read-only */
	bool read_only;
	enum sql_access reader_access;
	const struct schema_plan *plan; /* lives as long */
	struct log *log;
	char where[CATALOG_WHERE_MAX];
	pthread_mutex_t store_mutex;
	struct pool pool;
	struct writer writer;
};

/* open.c */
int catalog_open_with(int dirfd, bool read_only, struct log *log, const struct schema_plan *plan, struct catalog **ret, struct fault *f);
int catalog_connect(struct catalog *c, enum sql_access access, struct catalog_conn **ret);
void catalog_disconnect(struct catalog_conn *conn); /* NULL is fine */
int store_lock(struct catalog *c, bool wait); /* -EWOULDBLOCK without wait */
void store_unlock(struct catalog *c);

/* schema.c */
extern const struct schema_plan schema_current;
extern const char schema_tables[], schema_views[]; /* of format 1 */
int schema_create(struct sql *db);
/* Is this a catalog? Its format into *ret_format: -EUCLEAN, -EPROTONOSUPPORT with a sentence. */
int schema_check(struct sql *db, int known, const char *where, int *ret_format, struct fault *f);
int schema_format(struct sql *db, int *ret_format);
int schema_cookie(struct sql *db, int64_t *ret); /* differs after each change of the schema */
int schema_is_logged(struct sql *db, bool *ret_logged);
int schema_upgrade(struct sql *db, const struct schema_plan *plan, const char *where, struct log *log, struct fault *f);

/* schema_own.c: is what our statements meet as we made it at that format, and nothing added that would run with them? -EUCLEAN with a sentence. */
int schema_verify(struct sql *db, const struct schema_plan *plan, int format, const char *where, struct fault *f);

/* schema_lineage.c: steps to format 2 */
extern const char schema_modes[], schema_about[], schema_lineage[], schema_elsewhere[], schema_experiments[];

/* pool.c */
void pool_init(struct pool *p);
bool pool_release(struct pool *p); /* false: a reader is still in use, nothing was freed */

/* writer.c */
void writer_init(struct writer *w);
void writer_finish(struct catalog *c); /* runs what is queued, ends the thread, checkpoints */

/* commit.c: are they what a version's entries can be? */
int commit_check_entries(const struct catalog_commit *c);

/* entries.c: adds n entries from `from` on, whose contents are absent no more; all of them are in, ahead of their commit. */
int entries_next_id(struct sql *db, size_t n, int64_t *ret_base); /* of n */
int entries_add(struct sql *db, const struct catalog_commit *c, int64_t base, size_t from, size_t n);
int entries_ahead_whole(struct sql *db, const struct catalog_commit *c, int64_t base);

/* models.c: versions.json has changed. */
int numbers_changed(struct sql *db);

/* keeping.c: the contents of n entries from files.id `base` on have just been stored: none of them is absent any more. */
int absent_returned(struct sql *db, int64_t base, size_t n);
int absent_since(struct sql *db, int64_t since_ns, int64_t base, size_t n); /* -EAGAIN: one of them is, since then */
int absent_count(struct sql *db, enum catalog_absence kind, int64_t *ret);

/* uses.c: a command goes with the last that refers to it. */
int command_drop(struct sql *db, int64_t command_id);

/* evaluations.c: binds the parameters 1 to 6: version, dataset, time, user, author, metrics. */
void evaluation_bind(struct sql_stmt *st, const struct catalog_evaluation *e);

#endif
