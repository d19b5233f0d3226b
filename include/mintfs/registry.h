/* The registry: every rule of MintFS. FUSE, the command line and later services stand on it; no rule is written twice.
 *
 * Reading: registry_read_begin lends a catalog snapshot, and the reading half of catalog.h (catalog_…_get, _find, _list, _range …) is
 * used on it; whoever stands on the registry never writes to the catalog itself (tests/check/arrows holds that).
 * Work in drafts: registry_draft_get lends a `struct draft`; file work in it has no rules but those of draft.h.
 *
 * Refusals: a function returns -errno and fills f with a verdict and a sentence that names the thing and the reason. One table
 * (registry_verdict_…) turns a verdict into errno and exit code. All functions are thread-safe. Those marked [slow] may hash, sync or wait for a disk: FUSE calls
 * them from its pool, never from a thread that others wait for. */
#ifndef MINTFS_REGISTRY_H
#define MINTFS_REGISTRY_H

#include <mintfs/buf.h>
#include <mintfs/caller.h>
#include <mintfs/catalog.h>
#include <mintfs/draft.h>
#include <mintfs/error.h>
#include <mintfs/keep.h>
#include <mintfs/layout.h>
#include <mintfs/log.h>
#include <mintfs/metadata.h>
#include <mintfs/process_spec.h>
#include <mintfs/util.h>

enum registry_verdict {
	VERDICT_OK,
	VERDICT_NAME,          /* EINVAL: outside the grammar */
	VERDICT_PLACE,         /* EPERM: a file outside a version, renaming a version … */
	VERDICT_KEY_TAKEN,     /* EEXIST: another path has the same key */
	VERDICT_EXISTS,        /* EEXIST */
	VERDICT_NUMBER_USED,   /* EEXIST: mkdir v7 where 7 or more was used */
	VERDICT_NUMBERS_OUT,   /* EMLINK: no number left */
	VERDICT_NUMBER_FAR,    /* ERANGE: mkdir v999999999, after which few or none would be left */
	VERDICT_NOT_FOUND,     /* ENOENT */
	VERDICT_NOT_EMPTY,     /* ENOTEMPTY */
	VERDICT_IMMUTABLE,     /* EROFS: a committed version does not change */
	VERDICT_READ_ONLY,     /* EROFS: the mount or the store is read-only */
	VERDICT_ELSEWHERE,     /* EROFS: the draft is served by another mount */
	VERDICT_BUSY,          /* EBUSY: open for writing, or a commit is under way */
	VERDICT_EMPTY_DRAFT,   /* EINVAL */
	VERDICT_BAD_METADATA,  /* EINVAL */
	VERDICT_TORN,          /* EINVAL */
	VERDICT_BAD_PROCESS,   /* EINVAL: process.json, or what it names */
	VERDICT_BAD_EVALUATION, /* EINVAL */
	VERDICT_SPECIAL_FILE,  /* EPERM */
	VERDICT_RESERVED,      /* EPERM: latest, next, best cannot be set by hand */
	VERDICT_BAD_ALIAS,     /* EINVAL: does not lead to a committed version of this model */
	VERDICT_NOT_DRAFT,     /* ENOENT: the version is no draft any more, and not committed either: its name leads nowhere */
	VERDICT_DENIED,        /* EACCES */
	VERDICT_DAMAGED,       /* EIO: a blob is missing or damaged */
	VERDICT_NEWER_STORE,   /* EPROTONOSUPPORT */
	VERDICT_NOT_A_STORE,   /* ENOTDIR, ENOENT …: see f->error */
	VERDICT_ALIASED,       /* EBUSY: an alias leads there */
	VERDICT_NOT_COMMITTED, /* EINVAL: only a committed version can be retired */
	VERDICT_RETIRED,       /* ESTALE: the version was retired, and what it held is freed */
	VERDICT_SYSTEM,        /* any errno of the system */
	VERDICTS
};
int registry_verdict_errno(enum registry_verdict v);     /* positive */
int registry_verdict_exit(enum registry_verdict v);      /* exit code of the command line: 1 refused, 3 not found */

struct registry;

/* Makes a store: the directory (0700; made if missing, must be empty otherwise), config.json, catalog, blobs/, drafts/, run/. Whole or not at all. */
int registry_init(const char *path, struct fault *f);

/* Looks at a place without opening it: is it a store, may we enter, is its format known? *ret_path (PATH_MAX bytes): its absolute path. */
int registry_check(const char *path, char *ret_path, struct fault *f);

struct registry_event { enum { REGISTRY_COMMITTED, REGISTRY_DISCARDED, REGISTRY_RETIRED } kind; int64_t model_id, version_id; uint32_t number; };
typedef void registry_event_fn(const struct registry_event *e, void *arg); /* on any thread, without locks; must not block */

struct registry_options {
	const char *path;
	bool read_only;
	bool serve;             /* a daemon: owns drafts, tracks runs, recovers; mountpoint is recorded */
	const char *mountpoint; /* absolute */
	struct log *log;        /* borrowed; may be NULL */
	struct keep *keep;      /* borrowed; where another process may take over this one's mount; NULL else */
	int daemon_pid;         /* the process that others know the mount by; 0: this one */
	registry_event_fn *on_event;
	void *event_arg;
};
int registry_open(const struct registry_options *o, struct registry **ret, struct fault *f);
/* A daemon serves from now on. After the death of one before, no run settles until then: its open files are told to the drafts first. */
void registry_begin(struct registry *r);
/* It is about to be closed: commits under way are given REGISTRY_GRACE_MS to be done, and end then, by -EINTR, where they still read or hash. Their drafts stay as they are;
 * those whose run has ended well are tried again by the next mount. */
#define REGISTRY_GRACE_MS 4000
void registry_close_soon(struct registry *r);
void registry_close(struct registry *r); /* the same, and waits for what is under way. NULL is fine */
/* For who watches over a process that serves from outside, through what it keeps: since when (CLOCK_MONOTONIC; 0: it is at none) each of its threads for automatic commits is at one.
 * i < REGISTRY_OWN_THREADS */
#define REGISTRY_OWN_THREADS 12
struct registry_own { int64_t since_ns; pid_t tid; };
void registry_own_look(struct keep *keep, unsigned i, struct registry_own *ret);
/* The process that serves was ended, and not for what it did: what it was at is not held against a draft. */
void registry_own_excuse(struct keep *keep);
const char *registry_path(const struct registry *r); /* absolute path of the store */
bool registry_read_only(const struct registry *r);
int registry_store_dirfd(const struct registry *r); /* borrowed; for statfs */

int registry_read_begin(struct registry *r, struct catalog_conn **ret); /* end by catalog_read_end */
/* Whoever was refused with this -errno may be told more: that the catalog takes no writes any more, since somebody has changed its schema under us. Then f gets that sentence. */
void registry_explain(struct registry *r, int error, struct fault *f);

/* Who asks, and hence whether he may: -EACCES, VERDICT_DENIED. The rules stand at the top of src/registry/allow.c. tid 0: cannot be seen. */
struct registry_actor { pid_t tid; uid_t uid; gid_t gid; };

/* ---- directories ---- */
int registry_dir_make(struct registry *r, const struct registry_actor *who, int64_t parent, const char *name, mode_t mode, struct catalog_dir *ret, struct fault *f);
int registry_dir_remove(struct registry *r, int64_t parent, const char *name, struct fault *f);
enum { REGISTRY_SET_MODE = 1, REGISTRY_SET_UID = 2, REGISTRY_SET_GID = 4, REGISTRY_SET_MTIME = 8 };
int registry_dir_set(struct registry *r, int64_t id, unsigned what, const struct catalog_dir *values, struct catalog_dir *ret);
/* Path of a directory relative to the root of the drive ("" for the root). */
int registry_dir_path(struct registry *r, int64_t id, char *out, size_t size);

/* ---- what stands in a model ---- */
enum registry_child_kind { REGISTRY_VERSION, REGISTRY_LATEST, REGISTRY_BEST, REGISTRY_ALIAS };
struct registry_child {
	enum registry_child_kind kind;
	uint32_t number;                /* of the version it is or leads to */
	struct catalog_version version; /* VERSION: itself; others: untouched */
	struct catalog_alias alias;     /* ALIAS */
};
/* A lookup of `name` in a model by a caller: `latest` depends on who asks (docs/DESIGN.md, "Who holds a draft") and is -ENOENT for a caller in mkdir
 * that may mint. Retired and discarded versions, and `next`, are -ENOENT. No sentence: a lookup that finds nothing is no refusal. */
int registry_child_find(struct registry *r, int64_t model_id, const char *name, const struct registry_actor *who, struct registry_child *ret);
int registry_latest(struct registry *r, int64_t model_id, const struct registry_actor *who, uint32_t *ret_number); /* -ENOENT */
int registry_best(struct registry *r, int64_t model_id, uint32_t *ret_number);                                     /* -ENOENT */

/* ---- the life of a version ---- */
/* name: latest, next, or v{N}. mode: permission bits after umask. */
int registry_mint(struct registry *r, const struct registry_actor *who, int64_t model_id, const char *name, mode_t mode, struct catalog_version *ret, struct fault *f);
/* The same, for a request that may come again because this process dies: *once lies in memory that outlives it, zero at first. Called again with it, the mint that was
 * carried out is answered, and none is made. */
struct registry_once { int64_t version_id, minted_ns; };
int registry_mint_once(struct registry *r, const struct registry_actor *who, int64_t model_id, const char *name, mode_t mode, struct registry_once *once,
	struct catalog_version *ret, struct fault *f);
/* [slow] message may be NULL. -EINTR: who asks (who->tid) is about to die of a signal, or the registry is about to be closed; the draft stays as it was. Committing a committed version is 0 and changes nothing. On refusal the reason is also kept with the draft (user.mintfs.error). */
int registry_commit(struct registry *r, const struct registry_actor *who, int64_t version_id, const char *message, struct fault *f);
/* [slow] tree_empty_only: rmdir's meaning, -ENOTEMPTY where a name is left. force: also while files are open. */
enum { REGISTRY_DISCARD_EMPTY_ONLY = 1, REGISTRY_DISCARD_FORCE = 2 };
int registry_discard(struct registry *r, const struct registry_actor *who /* NULL: MintFS itself */, int64_t version_id, unsigned flags, struct fault *f);

/* A draft that this process serves (adopted if its daemon is gone). *ret_writable: false where another mount serves it or we are read-only; then it may only be read.
 * -ENOENT: not a draft. Put it by draft_put. Quick: no disk wait but opening the directory the first time. */
int registry_draft_get(struct registry *r, int64_t version_id, struct draft **ret, bool *ret_writable);
/* A process opens a file of the draft for writing, or creates one: it joins the draft's run. Cheap when it has joined already. */
void registry_draft_joined(struct registry *r, int64_t version_id, const struct registry_actor *who);
/* fsync in a draft: makes the mint itself durable, once a draft. [slow the first time] */
int registry_draft_anchor(struct registry *r, int64_t version_id);
/* The mount that serves a draft now: 0 and *ret filled if it is alive, -ENOENT if none (or it is ourselves). */
int registry_draft_mount(struct registry *r, const struct catalog_version *v, struct catalog_mount *ret);
int registry_mount_alive(struct registry *r, const struct catalog_mount *m, bool *ret_alive);

/* ---- aliases ---- */
/* target: as `ln -s` gives it: "vN", "./vN", or another alias' name of this model; must be committed. */
int registry_alias_set(struct registry *r, const struct registry_actor *who, int64_t model_id, const char *name, const char *target, struct catalog_alias *ret, struct fault *f);
int registry_alias_drop(struct registry *r, const struct registry_actor *who, int64_t model_id, const char *name, struct fault *f);
/* rename(2) of a link in a model: `ln -sfn` makes a link of a temporary name and renames it. */
int registry_alias_rename(struct registry *r, const struct registry_actor *who, int64_t model_id, const char *from, const char *to, bool no_replace, struct fault *f);

/* ---- reading a version ---- */
/* O_RDONLY descriptor of a committed file's content. -EIO with a sentence (and a line in the log) where the blob is missing or has another size. */
int registry_file_open(struct registry *r, const struct catalog_file *file, int *ret_fd, struct fault *f);
/* user.mintfs.*: calls fn for each name (without prefix) and value. file NULL: of the version directory. */
typedef int registry_attr_fn(const char *name, const char *value, void *arg);
int registry_version_attrs(struct registry *r, int64_t version_id, const struct catalog_file *file, registry_attr_fn *fn, void *arg);

/* Somebody opens a file of a committed version for reading: lineage. Costs a look at one word where the same thread did so a moment ago; never waits for a disk. */
void registry_reading(struct registry *r, int64_t version_id, const struct registry_actor *who);

/* The digest of a committed version's tree, as docs/SPEC.md defines it: as recorded, or computed from the catalog where a MintFS of format 1 committed it. -ENOENT: no
 * committed version. */
int registry_version_digest(struct registry *r, struct catalog_conn *conn, const struct catalog_version *v, struct blob_id *ret);

/* versions.json. Takes out's old content away only on success. *ret_stamp tells one state of it from another (registry_versions_stamp). */
int registry_versions_json(struct registry *r, struct buf *out, int64_t *ret_stamp);
int registry_versions_stamp(struct registry *r, int64_t *ret_stamp);

/* ---- finding things by what people write ---- */
struct registry_ref {
	struct catalog_model model;
	bool has_version;
	struct catalog_version version;
	char rest[4096]; /* path within the version, "" */
};
/* MODEL, MODEL/vN, MODEL/latest (newest committed), MODEL/best, MODEL/ALIAS, each also with a key for MODEL, each with a path behind. VERDICT_NOT_FOUND names what is missing. */
int registry_resolve(struct registry *r, const char *text, struct registry_ref *ret, struct fault *f);

/* A condition of `mintfs find`: FIELD OPERATOR VALUE, such as "labels.rows >= 1000" or "metrics.rmse<11". -EINVAL with a sentence that names the position and what was
 * expected there. State conditions are turned into *ret_states (a mask; untouched by others) and are no condition: then *ret_is_state. Inputs are not looked up: text. */
int registry_condition_parse(const char *text, struct catalog_condition *ret, unsigned *ret_states, bool *ret_is_state, struct fault *f);
struct registry_find {
	const char *scope; /* NULL or "": everything; a mode; a model's path or key; the beginning of a path; or a pattern with * ? [ on paths */
	const char *const *conditions;
	unsigned n_conditions; /* at most CATALOG_CONDITIONS_MAX */
	uint32_t limit;        /* 0: all */
};
/* Versions that satisfy all conditions, newest first; committed ones only, unless a condition is about the state. fn may read on conn; it is ended between two pages. */
typedef int registry_found_fn(struct catalog_conn *conn, const struct catalog_version *v, const struct catalog_model *model, void *arg);
int registry_find(struct registry *r, const struct registry_find *q, registry_found_fn *fn, void *arg, struct fault *f);

/* Why a draft is still a draft, for status: live processes of its run. */
struct registry_draft_info {
	uint64_t files, bytes;
	bool run_alive;      /* a process of its run, or the shell that holds it, lives (as far as can be seen from here) */
	unsigned open_files; /* 0 where another process serves it */
};
int registry_draft_info(struct registry *r, const struct catalog_version *v, struct registry_draft_info *ret);

/* ---- evaluations ---- */
/* Records a result of a committed version of a model on a committed version of a dataset. metrics: the text of a JSON object, NaN allowed; kept as compact JSON.
 * VERDICT_BAD_METADATA: it is none, or holds no number; VERDICT_BAD_EVALUATION: not committed, no model, no dataset. */
int registry_evaluate(struct registry *r, const struct registry_actor *who, int64_t version_id, int64_t dataset_id, const char *metrics, size_t len, int64_t *ret_id, struct fault *f);

/* ---- who uses a version ---- */
#define REGISTRY_USE_PIDS 8
struct registry_use {
	const struct catalog_use *use; /* borrowed */
	unsigned n_living;             /* processes of it that opened files of the version and live, on this host */
	pid_t pids[REGISTRY_USE_PIDS]; /* the newest of them */
};
typedef int registry_use_fn(const struct registry_use *u, void *arg);
/* In order of the last use; the sum of those who are not kept apart comes last. conn: of registry_read_begin. */
int registry_use_list(struct registry *r, struct catalog_conn *conn, int64_t version_id, registry_use_fn *fn, void *arg);

/* ---- processes: what is known and decided of them; process.h carries them out ---- */
struct registry_process {
	struct catalog_model model;     /* process/NAME */
	struct catalog_version version; /* committed */
	struct process_spec spec;
};
/* A committed process by what people write: NAME, process/NAME, process/NAME/vN, an alias … Without a version the newest committed one. Its process.json is read and
 * checked again (registry_process_check). VERDICT_NOT_FOUND, VERDICT_BAD_PROCESS. */
int registry_process_load(struct registry *r, const char *text, struct registry_process *ret, struct fault *f);
void registry_process_release(struct registry_process *p); /* may be called twice */
/* Do the datasets and models that it names exist, are they such, and are its conditions understood? VERDICT_BAD_PROCESS with the line. A commit of a process asks this. */
int registry_process_check(struct registry *r, const struct process_spec *s, struct fault *f);
/* The newest committed version that satisfies the selector's conditions. -ENOENT with a sentence. */
int registry_process_select(struct registry *r, const struct process_selector *s, struct catalog_version *ret, struct fault *f);

/* One run or update of a process at a time, in whatever process of the machine: VERDICT_BUSY. *ret_fd is closed to give it back. */
int registry_process_lock(struct registry *r, const struct catalog_model *process, int *ret_fd, struct fault *f);
/* Records the beginning with all its steps, durably; sets run->id. Until its end what they name is not retired but by force; VERDICT_BAD_PROCESS: one of them is retired already. */
int registry_process_begin(struct registry *r, struct catalog_process_run *run, const struct catalog_process_step *steps, size_t n, struct fault *f);
int registry_process_step(struct registry *r, int64_t run_id, const struct catalog_process_step *s, struct fault *f); /* records a step as it is now */
/* Records the end, durably, in one transaction: with it the associations and the aliases move, or nothing does. Updates before it that were interrupted become SUPERSEDED with it.
 * VERDICT_BAD_PROCESS: a version was retired meanwhile, and nothing is recorded; or a newer run was associated meanwhile, and this one is recorded as SUPERSEDED. */
struct registry_process_end {
	const struct catalog_process_run *run; /* state, sum, reason */
	const struct catalog_process_binding *bindings; /* of all nodes; only where the run's state is DONE */
	size_t n_bindings;
	const struct process_list *aliases;   /* NULL: none */
	const struct catalog_version *adopted; /* models to which these aliases move */
	size_t n_adopted;
};
int registry_process_finish(struct registry *r, const struct registry_actor *who, const struct registry_process_end *e, struct fault *f);

/* Waits until no automatic commit or discard is queued or running, and what commits leave is tidied away (tests, unmount). */
void registry_settle(struct registry *r);

/* ---- versions from elsewhere (import) ----
 * Contents come first, then one transaction records all versions of a manifest: all of them or none. Until then nothing is visible, and what a death leaves is cleared by
 * the next import or mount. One import is for one thread; several may run at once. */
struct registry_import;
struct manifest_reader;
int registry_import_begin(struct registry *r, const struct registry_actor *who, struct registry_import **ret, struct fault *f);
void registry_import_end(struct registry_import *im); /* NULL is fine */
#define REGISTRY_IMPORT_ENTRIES_MAX 1000000 /* of one version */
/* renumber: versions get the next numbers of their models. Without it they keep theirs; one that is here already with the same content is no refusal and stays as it is. */
struct registry_import_totals { uint64_t versions, already, entries, bytes; };
/* Would the manifest be taken in? Grammar, order, numbers; every rule that needs no content. [slow with a large manifest] */
int registry_import_check(struct registry_import *im, struct manifest_reader *m, bool renumber, struct registry_import_totals *ret, struct fault *f);
bool registry_import_has(struct registry_import *im, const struct blob_id *id, uint64_t size);
/* A file for a content that is not here: fill it, then _file_done (id: the hash of what was written; consumes fd) or _file_cancel. One at a time.
 * size: how much will come; -ENOSPC at once where it cannot fit. [slow] */
int registry_import_file(struct registry_import *im, uint64_t size, int *ret_fd, struct fault *f);
int registry_import_file_done(struct registry_import *im, int fd, const struct blob_id *id, uint64_t size, struct fault *f);
void registry_import_file_cancel(struct registry_import *im, int fd);
/* What became of each version and alias of the manifest, in its order. */
struct registry_imported {
	enum { REGISTRY_IMPORTED_VERSION, REGISTRY_IMPORTED_ALIAS } kind;
	const char *model, *alias;
	uint32_t wanted, number; /* in the manifest, in this store. An alias that is set here already to another version stays there */
	bool already;            /* nothing was changed */
};
typedef void registry_imported_fn(const struct registry_imported *i, void *arg);
/* Records it. Every content must be here. Known formats and metadata.json are checked as at a commit. Root keeps owners as recorded; what others import is theirs. [slow] */
int registry_import_record(struct registry_import *im, struct manifest_reader *m, bool renumber, registry_imported_fn *fn, void *arg, struct fault *f);
/* Of versions that came by themselves and in any order: takes what the metadata.json of each declares as its inputs, once all are in. What is known of a version already stands; what
 * could not be found before is looked for again. root: absolute paths below it mean the models of the same path, or "". [slow] */
int registry_import_declared(struct registry_import *im, const int64_t *version_ids, size_t n, const char *root, struct fault *f);

/* ---- keeping house (docs/design/keeping.md) ---- */
/* [slow] A committed version goes out of use: no name leads to it any more, its number is never used again, its row stays; what it alone held is freed by a later
 * registry_gc. Refused while an alias leads there (VERDICT_ALIASED) or a process is bound to it or run with it, others were made from it, a process that has read it lives (not `who`, nor
 * those above him) or somebody has a file of it open or mapped (VERDICT_BUSY); by force the aliases are dropped, and who has files open goes on reading them. Retiring a retired version is 0 and changes nothing. */
struct registry_retire {
	const char *message; /* why; may be NULL */
	bool force;
	unsigned open_files; /* files of the version that are open, as far as the caller knows */
};
int registry_retire(struct registry *r, const struct registry_actor *who, int64_t version_id, const struct registry_retire *how, struct fault *f);

/* [slow] Frees the contents that no committed version holds: of versions retired, and of commits that failed, more than grace_ns ago. May run beside anything, be
 * killed, and be run again. dry_run: only counts. fn (may be NULL) is told of each content that goes, or would. */
#define REGISTRY_GC_GRACE_NS (3600 * NS_PER_SEC) /* the usual grace_ns */
struct registry_gc {
	bool dry_run;
	int64_t grace_ns;
	void (*fn)(const struct blob_id *id, uint64_t size, void *arg);
	void (*sealed)(const struct blob_id *id, uint64_t size, void *arg); /* of each that stays since its immutable flag cannot be taken off; may be NULL */
	void *arg;
};
struct registry_gc_result {
	uint64_t freed, freed_bytes; /* contents, their bytes; or what would be freed */
	uint64_t young, young_bytes; /* not needed either, but not for so long */
	uint64_t kept, kept_bytes;   /* needed */
	uint64_t sealed, sealed_bytes; /* not needed, but immutable by root, and the caller may not change that */
};
int registry_gc(struct registry *r, const struct registry_gc *how, struct registry_gc_result *ret, struct fault *f);

/* What a retention rule would retire: nothing is changed. A committed version of the model is kept if it is the newest, one of the keep_last newest, one of the keep_best
 * best, if an alias leads to it, or if it was committed less than older_than_ns ago. At least one of the three must be set, else VERDICT_SYSTEM (EINVAL).
 * It stays as well where a retirement by `who` would be refused because it is needed, as far as the catalog knows: bound, used by a run, made others, read by a living process.
 * fn is called for each committed version, newest first, on a snapshot that is over with the call; kept_by: why it stays, NULL: it would be retired; passed_over: no rule
 * keeps it, it is needed. */
struct registry_retention {
	unsigned keep_last, keep_best; /* 0: no such rule */
	int64_t older_than_ns;         /* 0: no such rule */
};
typedef int registry_retention_fn(const struct catalog_version *v, const char *kept_by, bool passed_over, void *arg);
int registry_retention_plan(struct registry *r, const struct registry_actor *who, int64_t model_id, const struct registry_retention *rule, registry_retention_fn *fn, void *arg,
	struct fault *f);
/* [slow] The same for drafts: one is kept while its run lives, while files of it are open, or if anything in it was changed less than older_than_ns ago.
 * model_id 0: of all models. changed_ns: the last change. */
typedef int registry_draft_retention_fn(const struct catalog_version *v, int64_t changed_ns, const char *kept_by, void *arg);
int registry_draft_retention_plan(struct registry *r, int64_t model_id, int64_t older_than_ns, registry_draft_retention_fn *fn, void *arg, struct fault *f);

/* ---- copies of a whole store ---- */
struct registry_copy {
	const char *dest;
	void (*progress)(uint64_t done, uint64_t total, void *arg); /* bytes of contents; may be NULL */
	void *arg;
};
struct registry_copy_totals { uint64_t contents, copied, bytes /* of these */, removed, missing; };
/* A backup of the store in the directory dest, which is made, or was made by an earlier one of the same store: then only what is missing is copied. It is consistent - the
 * catalog of one moment, and every content it needs - and a store itself, to be opened read-only or restored. Safe beside all that goes on in the store. Every content that is copied
 * is compared with its hash. Open drafts are not copied: in the backup their numbers are spent. -EIO with a sentence: the backup is made, but contents are missing or damaged in
 * the store itself. After a death or a failure dest is the old backup, or can be gone on with. [slow] */
int registry_backup(struct registry *r, const struct registry_copy *how, struct registry_copy_totals *ret, struct fault *f);
/* A new store in the empty or missing directory dest, from the backup (or any store) r. A restore that died can be repeated. Every content is compared with its hash; where one is
 * damaged or missing nothing is restored (-EIO). [slow] */
int registry_restore(struct registry *r, const struct registry_copy *how, struct registry_copy_totals *ret, struct fault *f);
bool registry_is_backup(const char *path); /* such a copy: whoever only looks at it does not open it for writing */

/* [slow] Is the store what it should be? The database, the rules of this page on its rows, drafts, contents, strays. It may run beside anything; r may be read-only unless
 * repair is asked for. verify: contents are hashed, at most rate bytes a second (0: as fast as can be); a run that was interrupted goes on where it ended, unless
 * restart. repair: what can be mended without loss is; what belongs nowhere goes to lost+found/; contents that are lost are recorded, and the next commit of the same ones
 * heals them. go_on (may be NULL) becomes false: -ECANCELED; ret is then what was found so far. finding and progress are called on this thread, and may be NULL. */
struct registry_finding {
	const char *kind;   /* a stable word: docs/design/keeping.md */
	bool problem;       /* else only worth knowing */
	bool repaired;
	const char *action; /* what a repair did, or why it could not; NULL */
	const char *text;   /* a sentence */
	char model[CATALOG_PATH_MAX]; /* "": none */
	uint32_t number;    /* of a version of it; 0: none */
	const char *name;   /* a path in the store, or an alias; NULL */
	const struct blob_id *blob; /* NULL: none */
};
struct registry_fsck {
	bool verify, repair, restart;
	uint64_t rate;
	const _Atomic bool *go_on;
	void (*finding)(const struct registry_finding *x, void *arg);
	void (*progress)(uint64_t done, uint64_t all, void *arg); /* bytes, while contents are hashed */
	void *arg;
};
struct registry_fsck_result {
	uint64_t problems, repaired, notes;
	uint64_t models, versions, entries, contents, drafts; /* looked at */
	uint64_t verified_bytes;
	bool resumed;
};
int registry_fsck(struct registry *r, const struct registry_fsck *how, struct registry_fsck_result *ret, struct fault *f);

#endif
