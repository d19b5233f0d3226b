/* The catalog: what exists, in a database. Schema and queries; no rule of the registry is known here beyond what the schema's
 * constraints say. SQL is spoken nowhere else. Today SQLite in WAL mode (catalog.db); another driver can go below (src/catalog/sql.h).
 *
 * Threads: a `struct catalog` may be used by all. Reads run on the caller's thread on a connection borrowed from a small pool; writes are
 * queued, and one of those who wait puts all that wait into one transaction (group commit), each in its own savepoint, and
 * answers after COMMIT. Processes: each write transaction and each checkpoint runs under flock(store/lock), and no
 * connection checkpoints by itself, which avoids SQLite's WAL-reset bug (docs/design/catalog.md).
 *
 * Errors: -errno; SQLite's codes are turned here (SQLITE_FULL -ENOSPC, SQLITE_IOERR -EIO, SQLITE_NOMEM -ENOMEM, SQLITE_CORRUPT and SQLITE_NOTADB -EUCLEAN,
 * SQLITE_READONLY -EROFS, SQLITE_BUSY -EBUSY, unique constraint -EEXIST, other constraint -EINVAL …) and logged. `find` and `get` answer -ENOENT. */
#ifndef MINTFS_CATALOG_H
#define MINTFS_CATALOG_H

#include <mintfs/blob.h>
#include <mintfs/error.h>
#include <mintfs/log.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CATALOG_NAME_MAX 256  /* with NUL */
#define CATALOG_PATH_MAX 1536 /* with NUL; LAYOUT_PATH_MAX */
#define CATALOG_FORMAT 2      /* user_version of the schema this program writes */

struct catalog;
struct catalog_conn; /* a connection in use: a reader's snapshot, or the writer's transaction */

/* Makes catalog.db (and lock) in the store directory dirfd: -EEXIST if one is there. Durable. */
int catalog_create(int dirfd, struct fault *f);
/* Opens it. Upgrades an older format in a transaction; a newer one is -EPROTONOSUPPORT with a sentence; none is -ENOENT; not a database -EUCLEAN.
 * read_only: catalog_write answers -EROFS; nothing is upgraded (an older format is then -EROFS). dirfd is dup'ed. */
int catalog_open(int dirfd, bool read_only, struct log *log, struct catalog **ret, struct fault *f);
void catalog_close(struct catalog *c); /* finishes queued writes; checkpoints under the lock; NULL is fine */

/* A consistent snapshot. Must be ended by the same thread; do not hold one across anything slow. At most 8 at once; more wait. */
int catalog_read_begin(struct catalog *c, struct catalog_conn **ret);
void catalog_read_end(struct catalog_conn *conn); /* NULL is fine */
static inline void catalog_read_end_(struct catalog_conn **c) { catalog_read_end(*c); }
#define auto_read __attribute__((cleanup(catalog_read_end_)))

/* Runs fn in the writer's transaction, on the thread of whoever leads the group (so it must be quick, and must not call catalog_write). fn returns 0 to keep, or -errno to undo
 * what it did (others in the same transaction are not affected); that is returned. A failure of COMMIT itself is returned to all.
 * fn may be run again if the transaction around it had to be undone: it must only depend on arg and the database, and set its results anew.
 * durable: synced to disk before it returns. Without it, the next durable write or catalog_sync takes it along, and the writer does so by itself within
 * about 100 ms of rest. */
typedef int catalog_write_fn(struct catalog_conn *conn, void *arg);
int catalog_write(struct catalog *c, bool durable, catalog_write_fn *fn, void *arg);
/* Was the last write refused since somebody has changed the catalog's schema under us? Sets f to a sentence, and returns its -errno; else 0, and f is untouched. */
int catalog_write_refusal(struct catalog *c, struct fault *f);
int catalog_sync(struct catalog *c); /* everything written before this call is durable when it returns; free if it is already */
/* Runs fn under the store's write lock without a transaction of its own (for a sweep). Never within catalog_write. */
int catalog_locked(struct catalog *c, int (*fn)(void *arg), void *arg);

/* ---- directories above the versions ---- */
#define CATALOG_DIR_ROOT 1
#define CATALOG_LIVES_MAX 0xfffff
struct catalog_dir {
	int64_t id;     /* never reused */
	int64_t parent; /* 0 for the root */
	char name[CATALOG_NAME_MAX];
	bool is_model;
	bool hidden; /* a removed model whose numbers must not be used again */
	uint32_t lives; /* how often it came back from that; at most CATALOG_LIVES_MAX, then from 0 again */
	uid_t uid;
	gid_t gid;
	mode_t mode; /* permission bits only, e.g. 0755 */
	int64_t mtime_ns;
};
int catalog_dir_get(struct catalog_conn *conn, int64_t id, struct catalog_dir *ret);
int catalog_dir_find(struct catalog_conn *conn, int64_t parent, const char *name, struct catalog_dir *ret); /* hidden ones too */
/* Children with id > after, not hidden, in order of id, until fn returns non-zero (returned). */
typedef int catalog_dir_fn(const struct catalog_dir *d, void *arg);
int catalog_dir_list(struct catalog_conn *conn, int64_t parent, int64_t after, catalog_dir_fn *fn, void *arg);
int catalog_dir_add(struct catalog_conn *conn, const struct catalog_dir *d /* id ignored */, int64_t *ret_id);
int catalog_dir_update(struct catalog_conn *conn, const struct catalog_dir *d); /* uid, gid, mode, mtime_ns, hidden, lives */
int catalog_dir_remove(struct catalog_conn *conn, int64_t id);                  /* and its model row, if no version was ever minted: else -ENOTEMPTY */

/* ---- models ---- */
struct catalog_model {
	int64_t id; /* the id of its directory */
	int mode;   /* enum layout_mode */
	char path[CATALOG_PATH_MAX], key[CATALOG_PATH_MAX], identifier[CATALOG_PATH_MAX];
	char type[CATALOG_NAME_MAX];
	uint32_t last_number;      /* highest number ever used; 0: none */
	uint32_t newest_committed; /* highest committed (not retired) number; 0: none */
	char best_metric[CATALOG_NAME_MAX]; /* "" if none; names longer than this are not used */
	int best_mode;             /* enum metadata_best_mode */
	bool best_named;           /* a metadata.json named it */
};
int catalog_model_get(struct catalog_conn *conn, int64_t id, struct catalog_model *ret);
int catalog_model_find(struct catalog_conn *conn, const char *path, struct catalog_model *ret);
int catalog_model_find_key(struct catalog_conn *conn, const char *key, struct catalog_model *ret);
int catalog_model_add(struct catalog_conn *conn, const struct catalog_model *m); /* -EEXIST: path or key is taken */
int catalog_model_update(struct catalog_conn *conn, const struct catalog_model *m); /* last_number, newest_committed, best_… */
typedef int catalog_model_fn(const struct catalog_model *m, void *arg);
int catalog_model_list(struct catalog_conn *conn, catalog_model_fn *fn, void *arg); /* not hidden, in order of path (bytes) */
/* versions.json: models with a newest committed version, in order of key. */
typedef int catalog_number_fn(const char *key, uint32_t number, void *arg);
int catalog_model_numbers(struct catalog_conn *conn, catalog_number_fn *fn, void *arg);
/* A counter that rises with every commit, retirement, and hiding of a model: versions.json depends on nothing else. */
int catalog_numbers_stamp(struct catalog_conn *conn, int64_t *ret_stamp);

/* ---- versions ---- */
enum catalog_state { CATALOG_DRAFT, CATALOG_COMMITTED, CATALOG_RETIRED, CATALOG_DISCARDED };
const char *catalog_state_name(enum catalog_state s); /* "draft" … */
struct catalog_version {
	int64_t id; /* never reused; names drafts/<id> */
	int64_t model_id;
	uint32_t number;
	enum catalog_state state;
	int64_t minted_ns, committed_ns; /* wall clock; 0 */
	int64_t mtime_ns;                /* of the version directory, once committed */
	uid_t uid;
	gid_t gid;
	mode_t mode;                     /* permission bits of the version directory once committed; as minted before */
	uint64_t size;                   /* sum of the sizes of its regular files, each hard-linked file once */
	uint32_t n_files;                /* regular files */
	uint32_t n_dirs;                 /* subdirectories directly below: nlink is n_dirs + 2 */
	int64_t first_child;             /* files.id of the first of its n_children entries */
	uint32_t n_children;
	int64_t run_id;                  /* runs.id */
	int64_t owner;                   /* mounts.id of the daemon that serves the draft; 0: none */
};
/* The long texts, owned by the struct; NULL where there is none. */
struct catalog_version_text { char *author, *message, *reason, *metrics_summary; };
void catalog_version_text_release(struct catalog_version_text *t);

int catalog_version_get(struct catalog_conn *conn, int64_t id, struct catalog_version *ret);
int catalog_version_find(struct catalog_conn *conn, int64_t model_id, uint32_t number, struct catalog_version *ret);
int catalog_version_text(struct catalog_conn *conn, int64_t id, struct catalog_version_text *ret);
/* Adds a draft: model_id, number, minted_ns, uid, gid, mode, run_id, owner are taken, author by name. */
int catalog_version_add(struct catalog_conn *conn, const struct catalog_version *v, const char *author, int64_t *ret_id);
int catalog_version_set_state(struct catalog_conn *conn, int64_t id, enum catalog_state s); /* to DISCARDED or RETIRED; keeps newest_committed right */
int catalog_version_set_reason(struct catalog_conn *conn, int64_t id, const char *reason);  /* NULL clears */
int catalog_version_set_owner(struct catalog_conn *conn, int64_t id, int64_t owner);
/* Versions of a model with number > after (or < after with descending; 0 starts at the newest), states by mask (1u << state), until fn returns non-zero. text is NULL unless with_text; borrowed. */
typedef int catalog_version_fn(const struct catalog_version *v, const struct catalog_version_text *text, void *arg);
struct catalog_version_list { int64_t model_id; uint32_t after; unsigned states; bool descending, with_text; };
int catalog_version_list(struct catalog_conn *conn, const struct catalog_version_list *q, catalog_version_fn *fn, void *arg);
int catalog_draft_list(struct catalog_conn *conn, catalog_version_fn *fn, void *arg); /* all open drafts by id, with text */

/* ---- commit ---- */
enum catalog_type { CATALOG_FILE = 1, CATALOG_DIRECTORY, CATALOG_SYMLINK };
struct catalog_file {
	int64_t id;      /* never reused */
	int64_t version_id;
	int64_t parent;  /* id of the directory; -version_id at the top */
	char name[CATALOG_NAME_MAX]; /* any bytes but '/' and NUL */
	enum catalog_type type;
	mode_t mode;     /* permission bits without write bits */
	uid_t uid;
	gid_t gid;
	uint64_t size;   /* symlink: length of the target; directory: 0 */
	uint64_t blocks; /* of 512 bytes */
	int64_t mtime_ns;
	uint32_t nlink;
	int64_t inode;   /* id of the first entry with the same inode: itself unless hard-linked */
	int64_t first_child; /* directories: their n_children entries have consecutive ids from here */
	uint32_t n_children;
	struct blob_id blob; /* regular files */
};
/* The entries of a version to be, in breadth-first order: the children of each directory stand together, after all the directories before them;
 * parent and first_child are indexes into this array (parent -1: top), inode is the index of the first entry with the same inode. The top entries come first. */
struct catalog_entry {
	const char *name;
	const char *target; /* symlink */
	enum catalog_type type;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint64_t size, blocks;
	int64_t mtime_ns;
	uint32_t nlink, n_children;
	int64_t parent, first_child, inode;
	struct blob_id blob;
};
struct catalog_metric { const char *name; double value; };
struct catalog_commit {
	int64_t version_id;
	int64_t committed_ns, mtime_ns;
	uid_t uid;
	gid_t gid;
	mode_t mode;
	uint64_t size;
	uint32_t n_files, n_dirs, n_top;
	const char *message, *metrics_summary; /* message may be NULL */
	const struct catalog_entry *entries;
	size_t n_entries;
	const struct catalog_metric *metrics;
	size_t n_metrics;
	int64_t ahead; /* 0: the entries go in with the commit; else of catalog_ahead_begin, and all of them are in */
	int64_t ahead_ns; /* when that was. -EAGAIN: a content of theirs was lost since; put all again, and begin anew */
};
/* The entries of a version that has very many go in ahead of its commit, in slices, each in a transaction of its own: so others' writes have their turns in between. They are no
 * version's until catalog_version_commit. Who gives up takes them out again; who dies leaves that to the next who serves the draft. -ESTALE: it is no draft, or its rows
 * ahead are not what the caller thinks. */
int catalog_ahead_begin(struct catalog_conn *conn, const struct catalog_commit *c, size_t n, int64_t *ret_ahead); /* sets the ids of all apart; adds the first n > 0 */
int catalog_ahead_add(struct catalog_conn *conn, const struct catalog_commit *c, size_t from, size_t n);          /* in their order, without a gap */
int catalog_ahead_end(struct catalog_conn *conn, int64_t version_id, int64_t *ret_end); /* 0: it has none. No two attempts have the same end */
/* Takes out at most limit of the rows that end there; if there are others by now, or none, nothing. */
int catalog_ahead_drop(struct catalog_conn *conn, int64_t version_id, int64_t end, unsigned limit, bool *ret_more);
/* Turns a draft (else -ESTALE) into a committed version: files, blobs, metrics, the row itself, the model's newest_committed, the stamp. */
int catalog_version_commit(struct catalog_conn *conn, const struct catalog_commit *c);

int catalog_file_get(struct catalog_conn *conn, int64_t id, struct catalog_file *ret);
int catalog_file_find(struct catalog_conn *conn, int64_t parent, const char *name, struct catalog_file *ret);
/* Entries with from <= id < end, in order, until fn returns non-zero: one range is one directory's listing, one query. */
typedef int catalog_file_fn(const struct catalog_file *file, void *arg);
int catalog_file_range(struct catalog_conn *conn, int64_t from, int64_t end, catalog_file_fn *fn, void *arg);
/* All entries of a version with their paths, parents first. */
typedef int catalog_file_path_fn(const char *path, const struct catalog_file *file, void *arg);
int catalog_file_list(struct catalog_conn *conn, int64_t version_id, catalog_file_path_fn *fn, void *arg);
int catalog_file_target(struct catalog_conn *conn, int64_t id, char *out, size_t size); /* of a symlink, NUL-terminated */

/* The number of the committed version of a model with the best value of its best_metric; the lowest number among equals. -ENOENT. */
int catalog_best(struct catalog_conn *conn, int64_t model_id, uint32_t *ret_number);

/* ---- aliases ---- */
struct catalog_alias {
	int64_t id; /* never reused; a moved alias keeps its id */
	int64_t model_id;
	char name[CATALOG_NAME_MAX];
	uint32_t number; /* of the version it leads to */
	uid_t uid;
	gid_t gid;
	int64_t set_ns;
};
struct catalog_alias_event { char name[CATALOG_NAME_MAX]; uint32_t from, to; /* 0: none */ int64_t at_ns; uid_t uid; const char *author; };
int catalog_alias_get(struct catalog_conn *conn, int64_t id, struct catalog_alias *ret);
int catalog_alias_find(struct catalog_conn *conn, int64_t model_id, const char *name, struct catalog_alias *ret);
/* Sets or moves, and writes the history. Moving to the same version changes nothing and writes nothing. */
int catalog_alias_set(struct catalog_conn *conn, const struct catalog_alias *a, const char *author, int64_t *ret_id);
int catalog_alias_drop(struct catalog_conn *conn, int64_t model_id, const char *name, int64_t at_ns, uid_t uid, const char *author); /* -ENOENT */
/* Drops a name that only stood in between, as `ln -sfn` makes one and renames it: where it was set once, at since_ns or later, that event goes too and
 * the history never knew it. An older one is dropped as above. */
int catalog_alias_take_back(struct catalog_conn *conn, int64_t model_id, const char *name, int64_t since_ns, int64_t at_ns, uid_t uid, const char *author);
typedef int catalog_alias_fn(const struct catalog_alias *a, void *arg);
int catalog_alias_list(struct catalog_conn *conn, int64_t model_id, int64_t after_id, catalog_alias_fn *fn, void *arg); /* id > after, in order */
typedef int catalog_alias_event_fn(const struct catalog_alias_event *e, void *arg);
int catalog_alias_history(struct catalog_conn *conn, int64_t model_id, const char *name_or_null, catalog_alias_event_fn *fn, void *arg); /* oldest first */

/* ---- runs ---- */
struct catalog_run { /* strings borrowed when added; owned by the struct when got (catalog_run_release) */
	int64_t id;
	char *key;     /* run id from the environment, or NULL */
	char *boot_id; /* of the host when the processes below lived */
	char *chain;   /* "pid:start pid:start …": the minting process, then its ancestors, nearest first */
	uid_t uid;
	char *user, *host, *command, *cwd, *git_commit;
	int git_dirty;   /* 0, 1; -1 unknown */
	int64_t started_ns, ended_ns; /* 0 unknown */
	int exit_status; /* wait status; -1 unknown */
};
int catalog_run_add(struct catalog_conn *conn, const struct catalog_run *r, int64_t *ret_id);
int catalog_run_update(struct catalog_conn *conn, const struct catalog_run *r); /* all but id */
int catalog_run_get(struct catalog_conn *conn, int64_t id, struct catalog_run *ret);
void catalog_run_release(struct catalog_run *r);

/* ---- mounts: which daemons serve this store. Liveness is a lock on a file, see registry. ---- */
struct catalog_mount { int64_t id; pid_t pid; bool read_only; int64_t since_ns; char host[CATALOG_NAME_MAX]; char boot_id[40]; char mountpoint[4096]; };
int catalog_mount_add(struct catalog_conn *conn, const struct catalog_mount *m, int64_t *ret_id);
int catalog_mount_get(struct catalog_conn *conn, int64_t id, struct catalog_mount *ret);
int catalog_mount_remove(struct catalog_conn *conn, int64_t id);
typedef int catalog_mount_fn(const struct catalog_mount *m, void *arg);
int catalog_mount_list(struct catalog_conn *conn, catalog_mount_fn *fn, void *arg);

/* ---- events: what happened, told by the tables themselves ---- */
/* kind: minted, committed, discarded, retired, failed (a draft whose reason was found), alias, ran, updated, not updated … text: author, message, reason, or the alias' name; NULL. */
struct catalog_event { int64_t id, at_ns; const char *kind; int64_t model_id; uint32_t number; const char *text; };
typedef int catalog_event_fn(const struct catalog_event *e, void *arg); /* borrowed */
int catalog_event_list(struct catalog_conn *conn, int64_t after, unsigned limit, catalog_event_fn *fn, void *arg); /* id > after, in order; at most limit */
int catalog_event_last(struct catalog_conn *conn, int64_t *ret_id); /* 0: none yet */

/* ---- evaluations: results of a version on a dataset, found after its commit ---- */
struct catalog_evaluation { int64_t id, version_id, dataset_id /* a version of a dataset */, at_ns; uid_t uid; const char *author, *metrics /* a compact JSON object */; };
int catalog_evaluation_add(struct catalog_conn *conn, const struct catalog_evaluation *e, int64_t *ret_id);
int catalog_evaluation_add_once(struct catalog_conn *conn, const struct catalog_evaluation *e); /* unless there is one of that version, dataset, time and metrics */
typedef int catalog_evaluation_fn(const struct catalog_evaluation *e, void *arg); /* borrowed */
int catalog_evaluation_list(struct catalog_conn *conn, int64_t version_id, catalog_evaluation_fn *fn, void *arg); /* of a version, or on a version of a dataset; oldest first */

/* ---- processes: their runs and updates, and what their nodes are bound to ---- */
enum catalog_process_kind { CATALOG_PROCESS_RUN, CATALOG_PROCESS_UPDATE };
enum catalog_process_state { CATALOG_PROCESS_RUNNING, CATALOG_PROCESS_DONE, CATALOG_PROCESS_REFUSED, CATALOG_PROCESS_FAILED, CATALOG_PROCESS_ENDED /* interrupted */,
	CATALOG_PROCESS_OPEN /* its nodes are run one by one, from outside */, CATALOG_PROCESS_SUPERSEDED /* not ended, and a newer run was associated: it never will be */ };
struct catalog_process_run { /* texts borrowed when added; owned when got (catalog_process_run_release) */
	int64_t id, process_id, version_id;
	enum catalog_process_kind kind;
	enum catalog_process_state state;
	int64_t started_ns, ended_ns;
	double sum, sum_before; /* NaN: none */
	char *author, *host, *reason;
};
enum catalog_step_kind { CATALOG_STEP_TRAIN, CATALOG_STEP_NODE };
enum catalog_step_state { CATALOG_STEP_WAITING, CATALOG_STEP_RUNNING, CATALOG_STEP_DONE, CATALOG_STEP_FAILED, CATALOG_STEP_KEPT /* its result of before stands */,
	CATALOG_STEP_NOT_ADOPTED, CATALOG_STEP_SKIPPED };
struct catalog_process_step { /* texts as above (catalog_process_step_release) */
	enum catalog_step_kind kind;
	unsigned place;        /* within its kind, from 0 */
	char *name;            /* of the node or the model */
	int64_t dataset_id, model_id, before_id; /* versions: the data; the model that is used, or was made (0: not yet); what a training shall replace */
	enum catalog_step_state state;
	int64_t started_ns, ended_ns;
	int exit_status;       /* wait status; -1: it did not end */
	double weight, score;  /* score: NaN where there is none */
	char *result, *output, *reason;
};
struct catalog_process_binding { char *node; int64_t dataset_id, model_id; double score, weight; char *result; int64_t run_id; };
int catalog_process_run_add(struct catalog_conn *conn, const struct catalog_process_run *r, int64_t *ret_id);
int catalog_process_run_end(struct catalog_conn *conn, const struct catalog_process_run *r); /* state, ended_ns, sums, reason */
int catalog_process_run_get(struct catalog_conn *conn, int64_t id, struct catalog_process_run *ret);
void catalog_process_run_release(struct catalog_process_run *r);
typedef int catalog_process_run_fn(const struct catalog_process_run *r, void *arg);
int catalog_process_run_list(struct catalog_conn *conn, int64_t process_id, unsigned limit, catalog_process_run_fn *fn, void *arg); /* newest first */
int catalog_process_step_put(struct catalog_conn *conn, int64_t run_id, const struct catalog_process_step *s); /* adds or replaces */
/* Runs that are on record as RUNNING or OPEN and name the version in a step, or are of it; an OPEN one only where something of it was recorded after open_since_ns. Newest first.
 * Whether one that is RUNNING still does is told by its lock. */
typedef int catalog_process_need_fn(const struct catalog_process_run *r, void *arg); /* id, process_id, kind and state only */
int catalog_process_need_list(struct catalog_conn *conn, int64_t version_id, int64_t open_since_ns, catalog_process_need_fn *fn, void *arg);
typedef int catalog_process_step_fn(const struct catalog_process_step *s, void *arg);
int catalog_process_step_list(struct catalog_conn *conn, int64_t run_id, catalog_process_step_fn *fn, void *arg); /* trainings, then nodes, by place */
void catalog_process_step_release(struct catalog_process_step *s);
/* The updates before a run that were interrupted become SUPERSEDED, with this reason. */
int catalog_process_supersede(struct catalog_conn *conn, int64_t process_id, int64_t run_id, int64_t at_ns, const char *reason);
int catalog_process_bound_by(struct catalog_conn *conn, int64_t process_id, int64_t *ret_run_id); /* the newest run that it is associated by; 0: none */
int catalog_process_bindings_clear(struct catalog_conn *conn, int64_t process_id);
int catalog_process_binding_put(struct catalog_conn *conn, int64_t process_id, const struct catalog_process_binding *b);
typedef int catalog_process_binding_fn(const struct catalog_process_binding *b, void *arg); /* borrowed */
int catalog_process_binding_list(struct catalog_conn *conn, int64_t process_id, catalog_process_binding_fn *fn, void *arg); /* by node */
int catalog_process_binding_find(struct catalog_conn *conn, int64_t version_id, int64_t *ret_process_id); /* one that is bound to it; -ENOENT: none is */

/* Counts for `mintfs status`. files and logical_bytes: of committed versions; blobs and stored_bytes: what the store has; damaged: contents known to be. */
struct catalog_totals { int64_t models, drafts, committed, retired, discarded, files, blobs, damaged; uint64_t logical_bytes, stored_bytes; };
int catalog_totals_get(struct catalog_conn *conn, struct catalog_totals *ret);

/* ---- what a version tells of itself ---- */
#define CATALOG_FACT_TEXT_MAX 1024 /* bytes; longer values are not to be found by */
struct catalog_fact { const char *name /* "labels.rows" */, *text /* or NULL */; bool is_number; double number; };
struct catalog_about { /* texts borrowed when set; owned by the struct when got (catalog_about_release) */
	bool has_digest;
	struct blob_id digest; /* of the tree: docs/SPEC.md */
	char *description, *maintainer, *source, *labels, *params, *scores; /* the last three: compact JSON objects */
};
int catalog_about_set(struct catalog_conn *conn, int64_t version_id, const struct catalog_about *a); /* replaces */
int catalog_about_get(struct catalog_conn *conn, int64_t version_id, struct catalog_about *ret);     /* -ENOENT */
void catalog_about_release(struct catalog_about *a);
/* Of equal names the last counts. Names longer than CATALOG_NAME_MAX - 1 bytes and texts longer than CATALOG_FACT_TEXT_MAX are left out. */
int catalog_facts_add(struct catalog_conn *conn, int64_t version_id, const struct catalog_fact *facts, size_t n);

/* ---- lineage: what a version was made from ---- */
enum catalog_how { CATALOG_OBSERVED = 1, CATALOG_DECLARED = 2, CATALOG_BOTH = 3 };
const char *catalog_how_name(enum catalog_how how);
int catalog_input_add(struct catalog_conn *conn, int64_t version_id, int64_t input_id, enum catalog_how how); /* what is there already is joined: BOTH */
int catalog_input_unknown_add(struct catalog_conn *conn, int64_t version_id, const char *text, const char *reason);
int catalog_input_unknown_drop(struct catalog_conn *conn, int64_t version_id, const char *text); /* of which there may be none */
/* How many versions was it made from, and how many were made from it? A NULL is not asked. What was discarded does not count. */
int catalog_lineage_count(struct catalog_conn *conn, int64_t version_id, int64_t *ret_inputs, int64_t *ret_outputs);
/* One step of the graph from a version, in order of the other version's id: what it was made from, or with down what was made from it. */
struct catalog_edge { int64_t version_id /* the other end */; enum catalog_how how; uint32_t number; enum catalog_state state; const char *model /* path; borrowed */; };
typedef int catalog_edge_fn(const struct catalog_edge *e, void *arg);
int catalog_lineage_list(struct catalog_conn *conn, int64_t version_id, bool down, catalog_edge_fn *fn, void *arg);
/* Committed versions made from a version of another model of which there is a newer committed one: those with an alias first (once for each alias), then the newest of each model, or with
 * all every other. Of models whose path begins with prefix, in order of path. */
struct catalog_stale { const char *model; uint32_t number; const char *alias /* or NULL */, *input_model; uint32_t used, newest; };
typedef int catalog_stale_fn(const struct catalog_stale *s, void *arg);
int catalog_stale_list(struct catalog_conn *conn, const char *prefix, bool all, catalog_stale_fn *fn, void *arg);
typedef int catalog_unknown_fn(const char *text, const char *reason, void *arg);
int catalog_input_unknown_list(struct catalog_conn *conn, int64_t version_id, catalog_unknown_fn *fn, void *arg);
int catalog_lineage_known(struct catalog_conn *conn, int64_t version_id, bool *ret); /* is anything known that it was made from, here, elsewhere or unknown? */

/* ---- versions elsewhere: inputs and datasets of versions that came in, which this store does not have ---- */
struct catalog_elsewhere {
	int64_t id;
	const char *model; /* path, as its own store names it; borrowed */
	uint32_t number;   /* there */
	bool has_digest;
	struct blob_id digest; /* of its tree: by this it is found again */
};
int catalog_elsewhere_note(struct catalog_conn *conn, const struct catalog_elsewhere *e, int64_t *ret_id); /* the row with that name and digest, made if there is none; id is not looked at */
int catalog_elsewhere_input_add(struct catalog_conn *conn, int64_t version_id, int64_t elsewhere_id, enum catalog_how how); /* as catalog_input_add */
int catalog_elsewhere_evaluation_add(struct catalog_conn *conn, const struct catalog_evaluation *e); /* dataset_id: the id of a row here; an equal one is not added again */
typedef int catalog_elsewhere_input_fn(const struct catalog_elsewhere *e, enum catalog_how how, void *arg);
int catalog_elsewhere_input_list(struct catalog_conn *conn, int64_t version_id, catalog_elsewhere_input_fn *fn, void *arg);
typedef int catalog_elsewhere_evaluation_fn(const struct catalog_elsewhere *e, const struct catalog_evaluation *x, void *arg); /* all borrowed */
int catalog_elsewhere_evaluation_list(struct catalog_conn *conn, int64_t version_id, catalog_elsewhere_evaluation_fn *fn, void *arg); /* oldest first */
int catalog_elsewhere_known(struct catalog_conn *conn, const char *model, uint32_t first, uint32_t last, bool *ret); /* is there an input elsewhere of that name and a number in the range? */
/* The committed or retired version with e's digest: that of its name and number if there is one, else one of its model, else the committed one that is here longest. dataset: a version of a
 * dataset. Never `except` (0: none). -ENOENT. */
int catalog_version_find_digest(struct catalog_conn *conn, const struct catalog_elsewhere *e, bool dataset, int64_t except, int64_t *ret_id);
/* A version with that digest has come: what refers to one elsewhere with the digest now refers to the one that is here. */
int catalog_elsewhere_join(struct catalog_conn *conn, const struct blob_id *digest);
/* ---- keeping.c: versions out of use, contents that are not there, and what refers to a content ---- */
/* Committed to RETIRED (else -ESTALE), with who, when and why. The rows of its entries stay: they tell what it held. message may be NULL. */
int catalog_version_retire(struct catalog_conn *conn, int64_t id, int64_t at_ns, uid_t uid, const char *author, const char *message);
struct catalog_retirement { int64_t at_ns; uid_t uid; char *author, *message; }; /* strings owned, NULL where there is none */
int catalog_retirement_get(struct catalog_conn *conn, int64_t version_id, struct catalog_retirement *ret);
void catalog_retirement_release(struct catalog_retirement *t);
/* The numbers of committed versions by the model's best metric, best first (equal values: lower number first); at most limit. */
typedef int catalog_rank_fn(uint32_t number, void *arg);
int catalog_best_list(struct catalog_conn *conn, int64_t model_id, unsigned limit, catalog_rank_fn *fn, void *arg);

/* A row of `blobs`. A content may be absent: freed by a sweep, since only retired versions had it, or damaged. Its next commit ends that. */
enum catalog_absence { CATALOG_PRESENT, CATALOG_FREED, CATALOG_DAMAGED };
struct catalog_blob { int64_t id; struct blob_id sha256; uint64_t size; enum catalog_absence absence; };
typedef int catalog_blob_row_fn(const struct catalog_blob *b, void *arg);
int catalog_blob_shard(struct catalog_conn *conn, uint8_t first_byte, catalog_blob_row_fn *fn, void *arg); /* in order of sha256 */
int catalog_blob_find(struct catalog_conn *conn, const struct blob_id *sha256, struct catalog_blob *ret);
int catalog_absent_set(struct catalog_conn *conn, int64_t blob, enum catalog_absence kind, int64_t at_ns, const char *why); /* FREED, DAMAGED */
int catalog_absent_drop(struct catalog_conn *conn, int64_t blob);
int catalog_version_returned(struct catalog_conn *conn, int64_t version_id); /* none of its contents is absent any more */
int catalog_version_whole(struct catalog_conn *conn, int64_t version_id, bool *ret); /* is none of its contents absent? */
/* Which entries hold which content: regular files with after < id < end, in order, at most limit. blob is an id in `blobs`, small and dense. The range of a draft's rows ahead ends
 * at ahead_end, and may still be filled up to there; 0 of any other version. So that no such range is overlooked, its first row comes in any case, with blob 0 if it is no file. */
struct catalog_reference { int64_t file_id, version_id, blob; enum catalog_state state; int64_t retired_ns, ahead_end; };
typedef int catalog_reference_fn(const struct catalog_reference *x, void *arg);
int catalog_reference_list(struct catalog_conn *conn, int64_t after, int64_t end, unsigned limit, catalog_reference_fn *fn, void *arg);

/* ---- audit.c: facts for fsck, side by side, and the parts that can be made anew from others ---- */
typedef int catalog_text_fn(const char *text, void *arg);
int catalog_audit_pages(struct catalog_conn *conn, catalog_text_fn *fn, void *arg); /* what the database finds damaged in itself; at most 100 lines */
int catalog_audit_blobs(struct catalog_conn *conn); /* 0: each row of `blobs` is found by its digest, and no other; -EUCLEAN. 100,000 rows: some 0.2 s */
int catalog_audit_links(struct catalog_conn *conn, catalog_text_fn *fn, void *arg); /* rows that refer to none */
struct catalog_model_facts { struct catalog_model m; uint32_t max_number, max_committed; };
typedef int catalog_model_facts_fn(const struct catalog_model_facts *x, void *arg);
int catalog_audit_models(struct catalog_conn *conn, int64_t after, unsigned limit, catalog_model_facts_fn *fn, void *arg); /* by id, hidden ones too */
struct catalog_alias_facts { struct catalog_alias a; bool has_version; enum catalog_state state; };
typedef int catalog_alias_facts_fn(const struct catalog_alias_facts *x, void *arg);
int catalog_audit_aliases(struct catalog_conn *conn, catalog_alias_facts_fn *fn, void *arg); /* those that do not lead to a committed version */
struct catalog_version_facts { struct catalog_version v; int64_t n_entries; const char *metrics_summary; /* borrowed; may be NULL */ };
typedef int catalog_version_facts_fn(const struct catalog_version_facts *x, void *arg);
int catalog_audit_versions(struct catalog_conn *conn, int64_t after, unsigned limit, catalog_version_facts_fn *fn, void *arg); /* by id */
struct catalog_entry_facts {
	int64_t id, version_id, parent, size, inode, first_child, n_children, blob, blob_size; /* blob, blob_size: 0, -1 where there is none */
	int type;
	const char *name; /* borrowed; "" where there is none */
};
typedef int catalog_entry_facts_fn(const struct catalog_entry_facts *x, void *arg);
int catalog_audit_entries(struct catalog_conn *conn, int64_t from, int64_t end, catalog_entry_facts_fn *fn, void *arg);
typedef int catalog_pair_fn(int64_t a, int64_t b, void *arg);
int catalog_audit_orphans(struct catalog_conn *conn, catalog_pair_fn *fn, void *arg);       /* entries in no version's range: version id, how many */
int catalog_audit_idle_metrics(struct catalog_conn *conn, catalog_pair_fn *fn, void *arg);  /* metrics of what is not committed: model id, number */
typedef int catalog_metric_fn(const struct catalog_metric *m, void *arg);
int catalog_metric_list(struct catalog_conn *conn, int64_t model_id, uint32_t number, catalog_metric_fn *fn, void *arg); /* by name (bytes) */
/* Made anew: last_number (never lower) and newest_committed; key, identifier, type and mode; the sums of a version; its metrics (n 0: none). */
int catalog_rebuild_indexes(struct catalog_conn *conn); /* all of them, from their tables; -EUCLEAN: more than these is damaged, or an index knows of rows that its table lost */
int catalog_rebuild_numbers(struct catalog_conn *conn, int64_t model_id);
int catalog_rebuild_names(struct catalog_conn *conn, const struct catalog_model *m);
int catalog_rebuild_sums(struct catalog_conn *conn, int64_t version_id, uint64_t size, uint32_t n_files, uint32_t n_dirs);
int catalog_rebuild_metrics(struct catalog_conn *conn, int64_t model_id, uint32_t number, const struct catalog_metric *metrics, size_t n);

/* ---- copies ---- */
/* A copy of the catalog as it is at one moment, made while others go on writing: dirfd/name, which must not be there; no write-ahead log belongs to it. Drafts have become
 * discarded versions in it, since their trees are not copied, and no mount is recorded. Not yet synced. */
int catalog_copy(struct catalog *c, int dirfd, const char *name, struct fault *f);
int catalog_store_id(struct catalog_conn *conn, int64_t *ret_id); /* tells one store from another; a copy has that of its original */
typedef int catalog_blob_fn(const struct blob_id *id, uint64_t size, void *arg);
int catalog_blob_list(struct catalog_conn *conn, catalog_blob_fn *fn, void *arg); /* all but what was freed, in order of id, until fn returns non-zero */
int catalog_blob_committed(struct catalog_conn *conn, const struct blob_id *id, bool *ret); /* does a committed version use it? reads all entries */

/* ---- a table model_versions that another program wrote ---- */
struct catalog_legacy;
/* Reads the table once, into a temporary one. -ENOENT; -EUCLEAN: no database, or without such a table. */
int catalog_legacy_open(const char *path, struct log *log, struct catalog_legacy **ret, struct fault *f);
void catalog_legacy_close(struct catalog_legacy *l); /* NULL is fine */
struct catalog_legacy_row { char *created_at, *metrics_summary; }; /* as written there; NULL: null. To be freed */
int catalog_legacy_find(struct catalog_legacy *l, const char *identifier, const char *type, const char *version, struct catalog_legacy_row *ret); /* -ENOENT */
/* ---- what was seen of living processes: which committed versions they opened files of, which drafts they wrote ---- */
struct catalog_seen {
	int64_t id;
	const char *boot_id; /* borrowed */
	pid_t pid;
	uint64_t start;
	const char *chain;   /* "pid:start pid:start": its ancestors of the same job, nearest first; borrowed */
	const char *run_key; /* or NULL; borrowed */
	uid_t uid;
	int64_t seen_ns;
	bool reads, wrote, wrote_open, wrote_this; /* given by the list: it read versions; wrote drafts, one that is a draft still, the one asked for */
};
int catalog_seen_put(struct catalog_conn *conn, const struct catalog_seen *p, int64_t *ret_id); /* known already: only seen_ns is new */
int catalog_seen_read_put(struct catalog_conn *conn, int64_t seen_id, int64_t version_id, int64_t at_ns);
int catalog_seen_write_put(struct catalog_conn *conn, int64_t seen_id, int64_t version_id);
typedef int catalog_seen_fn(const struct catalog_seen *p, void *arg);
int catalog_seen_list(struct catalog_conn *conn, int64_t draft_id /* for wrote_this */, catalog_seen_fn *fn, void *arg); /* in order of id */
typedef int catalog_id_fn(int64_t id, void *arg);
int catalog_seen_read_list(struct catalog_conn *conn, int64_t seen_id, catalog_id_fn *fn, void *arg); /* versions */
/* Who is remembered to have read a version, the last first. */
struct catalog_reader {
	const char *boot_id, *chain; /* as above; borrowed */
	pid_t pid;
	uint64_t start;
	bool inherited;    /* not by itself: by a child that has ended */
	int64_t at_ns;     /* the last time */
	int64_t others_ns; /* the last time that it read another version of the same model; 0: never */
};
typedef int catalog_reader_fn(const struct catalog_reader *x, void *arg);
int catalog_seen_reader_list(struct catalog_conn *conn, int64_t version_id, catalog_reader_fn *fn, void *arg);
int catalog_seen_move(struct catalog_conn *conn, int64_t from_id, int64_t to_id); /* what one read, the other did */
int catalog_seen_drop(struct catalog_conn *conn, int64_t seen_id);
/* Forgets the processes seen longest ago beyond max_processes, and of each process the versions read longest ago beyond max_reads. */
int catalog_seen_trim(struct catalog_conn *conn, int64_t max_processes, int64_t max_reads);

/* ---- who uses a version: one row for each version and reader ---- */
struct catalog_use {
	int64_t version_id, command_id; /* command_id 0: all others, summed up */
	uid_t uid;
	const char *host, *command; /* command: a JSON array of arguments; both borrowed, NULL for the others */
	bool whole;                 /* false: only the first arguments, or the name of the program */
	int64_t first_ns, last_ns, times, readers;
};
/* A process that is remembered (seen_id) opened files of the version at last_ns; before catalog_seen_read_put, which tells one use from the next. */
int catalog_use_put(struct catalog_conn *conn, const struct catalog_use *u, int64_t seen_id, int64_t *ret_times /* 1: may be a new row */);
int catalog_use_count(struct catalog_conn *conn, int64_t version_id, int64_t *ret); /* without the sum */
int catalog_use_sum_up(struct catalog_conn *conn, int64_t version_id, int64_t command_id); /* it joins the sum */
typedef int catalog_use_fn(const struct catalog_use *u, void *arg);
int catalog_use_list(struct catalog_conn *conn, int64_t version_id, catalog_use_fn *fn, void *arg); /* the last first, the others at the end */
typedef int catalog_use_process_fn(const char *boot_id, pid_t pid, uint64_t start, void *arg);
/* Processes of that command that are remembered and read the version themselves. */
int catalog_use_process_list(struct catalog_conn *conn, int64_t version_id, int64_t command_id, catalog_use_process_fn *fn, void *arg);

/* ---- find: versions by what is known of them ---- */
#define CATALOG_CONDITIONS_MAX 16
enum catalog_field {
	CATALOG_FIELD_FACT, /* name: "labels.rows", "metrics.rmse", "params.lr", "maintainer", "source" */
	CATALOG_FIELD_AUTHOR, CATALOG_FIELD_CREATED, CATALOG_FIELD_SIZE, CATALOG_FIELD_FILES, CATALOG_FIELD_VERSION, CATALOG_FIELD_MODEL, CATALOG_FIELD_TYPE,
	CATALOG_FIELD_MESSAGE, CATALOG_FIELD_DESCRIPTION, CATALOG_FIELD_RUN, CATALOG_FIELD_GIT, CATALOG_FIELD_ALIAS /* latest and best too */, CATALOG_FIELD_DIGEST,
	CATALOG_FIELD_INPUT /* id: of a version */, CATALOG_FIELD_INPUT_MODEL /* id: of a model */,
	CATALOG_FIELD_INPUT_ELSEWHERE /* text: a model; lo_ns to hi_ns: numbers of it, included */
};
enum catalog_op { CATALOG_EQ, CATALOG_NE, CATALOG_LT, CATALOG_LE, CATALOG_GT, CATALOG_GE, CATALOG_MATCH /* glob */ };
struct catalog_condition {
	enum catalog_field field;
	enum catalog_op op;
	char name[CATALOG_NAME_MAX], text[CATALOG_FACT_TEXT_MAX + 1];
	bool is_number;       /* then number counts; for = and != of facts, text too */
	double number;
	int64_t lo_ns, hi_ns; /* INPUT_ELSEWHERE: numbers; CREATED: the time named, from lo to before hi; > is after all of it */
	int64_t id;
	struct blob_id digest_lo, digest_hi;
};
struct catalog_find {
	int64_t model_id;         /* 0: by mode; of this model */
	int mode;                 /* -1: by prefix; enum layout_mode */
	const char *prefix, *glob; /* NULL: all models; paths that begin so and match the pattern */
	const struct catalog_condition *conditions; /* all of them hold */
	size_t n_conditions;
	unsigned states;          /* 1u << enum catalog_state */
	int64_t before_id;        /* 0: from the newest on; else only versions.id below it: the next page */
	uint32_t limit;           /* 0: all */
};
typedef int catalog_found_fn(int64_t version_id, void *arg);
/* Newest first, until fn returns non-zero (returned). */
int catalog_find_versions(struct catalog_conn *conn, const struct catalog_find *q, catalog_found_fn *fn, void *arg);
int catalog_fact_text(struct catalog_conn *conn, int64_t version_id, const char *name, char **ret /* to be freed */); /* -ENOENT */

#endif
