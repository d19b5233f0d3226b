/* Inside the registry: the store's context and what its files offer each other.
 *
 * Lock order: nothing is locked while another room is called, but for short, non-blocking calls that say so. live.c's mutex is the
 * only one here. The store's own locks: flock(lock) by the catalog, flock(drafts/<id>) held by whoever serves the draft, flock(run/<mount>) held by
 * a living daemon. */
#ifndef REGISTRY_PRIVATE_H
#define REGISTRY_PRIVATE_H

#include <mintfs/blob.h>
#include <mintfs/cleanup.h>
#include <mintfs/registry.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>

struct live_table;
struct observer;
struct readers;

#define JOBS_THREADS REGISTRY_OWN_THREADS
#define JOBS_EACH 3 /* of one user: another's automatic commit does not wait behind his terabytes */

#define SLICE 2048 /* 20 to 40 ms, for which others wait */

struct registry {
	char *path, *mountpoint; /* mountpoint: NULL unless we serve one */
	int dirfd;
	uid_t owner; /* of the store's directory */
	bool read_only, serve;
	struct keep *keep;  /* NULL: nothing outlives the process */
	int daemon_pid;     /* that stands in the catalog */
	bool resumed;       /* another process served this mount before */
	struct log *log;
	struct catalog *catalog;
	struct blob_store *blobs;
	struct drafts *drafts;
	struct live_table *live;
	struct caller_cache *callers;
	struct workq *jobs;    /* automatic commits, removal of big trees */
	struct workq *tidying; /* what a usual commit leaves: its staging tree goes, its blobs are sealed; never long */
	struct observer *observer;
	struct readers *readers; /* NULL unless we serve and may write */
	_Atomic size_t slice; /* entries of a commit that go into the catalog in one transaction; SLICE but in tests */
	bool excused; /* settle.c: of the process before this one; fixed */
	_Atomic int64_t ending_ns; /* since when it is to end (CLOCK_MONOTONIC); 0: it is not */
	int64_t mount_id;   /* 0: no daemon */
	int mount_fd;       /* flock on run/<mount_id> */
	char host[CATALOG_NAME_MAX], boot_id[40];
	registry_event_fn *on_event;
	void *event_arg;
};

/* Sets verdict and sentence; returns -errno of the verdict. */
int refuse(struct fault *f, enum registry_verdict v, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* As refuse for VERDICT_SYSTEM: keeps a deeper sentence, adds strerror otherwise. error is -errno and is returned. */
int refuse_system(struct fault *f, int error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#ifdef __clang_analyzer__ /* as in mintfs/error.h */
#define refuse(f, verdict, ...) ((void)(refuse)(f, verdict, __VA_ARGS__), -EINVAL)
#define refuse_system(f, error, ...) ((void)(refuse_system)(f, error, __VA_ARGS__), -EIO)
#endif

/* What the registry keeps for the process after this one, in KEEP_AREA_REGISTRY; zero at first. */
struct registry_kept {
	int64_t mount_id;
	struct own_work { _Atomic int64_t since_ns; _Atomic int32_t tid; } own[REGISTRY_OWN_THREADS];
	atomic_bool excused; /* the process before was ended for a reason of its own */
};
_Static_assert(sizeof(struct registry_kept) <= KEEP_AREA_SIZE, "it fits its area");
void settle_own_forget(struct registry *r); /* a process begins: what the one before was at, it is at no more */

void live_pause(struct live_table *t);  /* nothing settles until live_resume */
void live_resume(struct live_table *t); /* open files are known again: what is over may settle */

void registry_emit(struct registry *r, int kind, int64_t model_id, int64_t version_id, uint32_t number);
/* "v3 of product/P001_all/mlstm", for sentences: of a long path the end, since the reason must fit behind it. out is always text. */
#define VERSION_LABEL_MAX 224
void version_label(struct registry *r, int64_t model_id, uint32_t number, char out[VERSION_LABEL_MAX]);

/* ---- mounts.c: the row and the lock by which others know that a process serves the store ---- */
bool mount_resume(struct registry *r); /* those of the process before this one, whose descriptor is still open. false: there are none */
int mount_announce(struct registry *r, const char *mountpoint, struct fault *f);
void mount_withdraw(struct registry *r); /* the row goes, and the name of the lock */
void mount_unlock(struct registry *r);   /* after everything else of the store is closed */
void mounts_forget_dead(struct registry *r);

/* ---- recover.c ---- */
void recover(struct registry *r); /* of a store that was just opened to be served */

/* ---- allow.c: who may do what; -EACCES with a sentence that begins with `what` ("v3 of … is not committed") ---- */
int allow_in_model(struct registry *r, const struct registry_actor *who, int64_t model_id, const char *what, struct fault *f);     /* mint, set a new alias, remove an empty draft */
int allow_alias_change(struct registry *r, const struct registry_actor *who, int64_t model_id, const char *what, struct fault *f); /* move or drop an alias */
int allow_version(struct registry *r, const struct registry_actor *who, const struct catalog_version *v, const char *what, struct fault *f); /* commit, discard, retire */

/* ---- live.c: the drafts this process serves, and their runs ---- */
struct live; /* one of them; reference-counted */

int live_table_new(struct registry *r, struct live_table **ret);
void live_table_stop(struct live_table *t); /* no more automatic commits */
void live_table_free(struct live_table *t); /* all gives back locks and drafts */

/* The entry of a draft, or NULL. Put it by live_put. */
struct live *live_find(struct live_table *t, int64_t version_id);
void live_put(struct live *l);
static inline void live_put_(struct live **l) { if (*l) live_put(*l); }
#define auto_live __attribute__((cleanup(live_put_)))
struct draft *live_draft(struct live *l); /* borrowed */

/* Before a mint: does a draft of this model with the caller's run id, or minted by this very process, exist (or come into being just now: then waits)?
 * -EEXIST; else reserves a place for it (`*ret`), to be ended by live_mint_done or live_mint_failed. c is copied. */
struct live_mint;
int live_mint_begin(struct live_table *t, int64_t model_id, const struct caller *c, bool exclusive, struct live_mint **ret);
void live_mint_failed(struct live_table *t, struct live_mint *m);
/* lock_fd: flock on the draft's directory, as taken by live_lock_draft; consumed. */
int live_mint_done(struct live_table *t, struct live_mint *m, const struct catalog_version *v, int lock_fd);
/* Whoever serves a draft holds an exclusive flock on its directory: a descriptor, or -EWOULDBLOCK, -ENOENT … */
int live_lock_draft(struct registry *r, int64_t version_id);
/* Would a mkdir of `latest` be refused with EEXIST? */
bool live_held(struct live_table *t, int64_t model_id, const struct caller *c);
/* The number of the caller's draft of this model: of those that belong to its run the nearest in ancestry, of these the newest. -ENOENT. */
int live_latest(struct live_table *t, int64_t model_id, const struct caller *c, uint32_t *ret_number);
bool live_any(struct live_table *t, int64_t model_id); /* cheap: is there any draft of this model? */
/* Takes over a draft that nobody serves: -EWOULDBLOCK somebody else does; -ESTALE it is no draft any more; -ENOENT no directory. */
int live_adopt(struct live_table *t, const struct catalog_version *v, struct live **ret);
/* Committed or discarded: forgotten. */
void live_remove(struct live_table *t, int64_t version_id);
/* Those who hold or held the draft: the process that minted it, up to its present holder; at most max. */
unsigned live_holders(struct live *l, struct caller_process *out, unsigned max);
void live_joined(struct live *l, const struct registry_actor *who);
void live_quiet(struct live_table *t, int64_t version_id); /* its last open file was closed */
bool live_run_alive(struct live *l);
bool live_anchored(struct live *l);
void live_set_anchored(struct live *l);
void live_settle_wait(struct live_table *t);

/* ---- run.c: the record of a run ---- */
/* Record of the minting caller, with what git said of its directory a moment ago (*ret_observed: nothing is left to be found out); strings owned by ret
 * (catalog_run_release). */
int run_describe(struct registry *r, const struct caller *c, const char *user, struct catalog_run *ret, bool *ret_observed);
/* Leaves out of a minting caller's ancestors what holds the drafts of nobody: the service (sshd, tmux, cron) that the session stands below. */
void run_leave_out_service(struct caller *c);
/* Later facts, found in the background by threads of their own: the command of the first writer, the git state. */
int observer_new(struct observer **ret);
void observer_stop(struct observer *o); /* what has not begun is passed over, nobody waits any more. NULL is fine */
void observer_free(struct observer *o); /* NULL is fine */
void run_observe(struct registry *r, int64_t run_id, struct caller_process p, uid_t uid, gid_t gid); /* a writer */
void run_observe_minter(struct registry *r, int64_t run_id, const struct catalog_run *run, uid_t uid, gid_t gid); /* run: as described, on record already */
void run_wait_observed(struct registry *r, int64_t run_id); /* what was asked of this run is in the catalog, or 6 s have passed */
/* The chain of processes on record; at most max of them. */
unsigned run_chain_parse(const char *text, struct caller_process *out, unsigned max);

/* ---- readers.c: who read which version, who wrote which draft ---- */
int readers_new(struct registry *r, struct readers **ret);
void readers_free(struct readers *rs);  /* what waits is written. NULL is fine */
void readers_flush(struct readers *rs); /* what was seen before is in the catalog. NULL is fine */
void readers_wrote(struct readers *rs, int64_t version_id, const struct registry_actor *who);

/* ---- process.c ---- */
int process_is_locked(struct registry *r, int64_t process_id, bool *ret); /* is it being run or updated, by whatever program? */

/* ---- aside.c ---- */
/* Moves STORE/path (or, with from_blobs, a name of blob_scan) to lost+found/ under a name made of prefix and its last component; *ret_name: "lost+found/…". */
#define ASIDE_NAME_MAX 400
int aside_put(struct registry *r, bool from_blobs, const char *path, const char *prefix, char ret_name[ASIDE_NAME_MAX]);
/* A directory drafts/<id> that belongs to no draft: removed if it is empty, else put aside. Under the store's lock. */
int staging_put_away(struct registry *r, int64_t version_id);

/* ---- commit.c ---- */
/* For recovery, after the commit or discard of a version: removes its staging tree and seals its blobs. */
void commit_clear_staging(struct registry *r, int64_t version_id);
/* The tree of a draft that is committed or discarded, and the metadata.json that a commit may have prepared beside it. */
int staging_remove(struct registry *r, int64_t version_id);
/* Where a commit prepares the metadata.json of a draft that has none: beside its tree, which stays as it was whatever happens. */
void staging_metadata_name(int64_t version_id, char out[64]);

/* ---- record.c: rows ahead of a commit (mintfs/catalog.h) that did not come to its end ---- */
int ahead_end(struct registry *r, int64_t version_id, int64_t *ret);  /* 0: there are none */
int ahead_drop(struct registry *r, int64_t version_id, int64_t end); /* those of one attempt. -EINTR: the drive is about to end, the rest is for the next mount. Logs what else fails */
int ahead_clear(struct registry *r, int64_t version_id);             /* whatever there is. Before a discarded draft's directory goes: by that the next mount knows where to look */

/* ---- evaluate.c ---- */
/* The text of a JSON object that holds a number, into compact JSON, to be freed: NaN is null, numbers stay as they were written. VERDICT_BAD_METADATA: it is none. */
int evaluation_metrics_read(const char *text, size_t len, char **ret, struct fault *f);

/* ---- dirs.c ---- */
/* In a transaction: the directories down to the model at `path`, those that are missing made with the owner, mode and time of attrs. */
int dirs_ensure_model(struct catalog_conn *conn, const struct catalog_dir *attrs, const char *path, int64_t *ret_id, struct fault *f);

/* ---- place.c ---- */
/* The directory at path, or else the one in which mkdir would make it, resolved. */
int place_find(const char *path, char ret[PATH_MAX], struct fault *f);
/* VERDICT_PLACE where `found` (of place_find) lies on a drive: a directory made there would be a model, or lie in a draft. path: for the sentence. */
int place_check(const char *path, const char *found, struct fault *f);

/* ---- discard.c, settle.c ---- */
enum { DISCARD_NO_FILES = 1 << 8 }; /* a flag of registry_discard: only where there is nothing but directories */
/* The reason kept with a draft; NULL clears it. fallback: a reason that is there already stands. */
void version_reason(struct registry *r, int64_t version_id, const char *reason, bool fallback);

#endif
