/* Where the commands read from: the store, or - for who may not open it, since it belongs to somebody else - a drive of it alone.
 *
 * Both ways fill the same structs. Through the drive alone some things are not known: who committed, the command and host of a run, the history of
 * aliases, totals. All functions return 0 or -errno with a sentence in f. */
#ifndef MINTFS_CMD_SOURCE_H
#define MINTFS_CMD_SOURCE_H

#include "cmd.h"

struct source {
	struct registry *r;           /* NULL: the drive alone */
	struct registry_actor me;
	char store[4096], mount[4096]; /* mount: a drive of it that can be seen from here, or "" */
};

/* write: the registry is opened for changes. */
int source_open(const struct cmd_target *t, bool write, struct source **ret, struct fault *f);
void source_close(struct source *s); /* NULL is fine */
static inline void source_close_(struct source **s) { source_close(*s); }
#define auto_source __attribute__((cleanup(source_close_)))
/* -EACCES with a sentence where there is only the drive. what: "the history of aliases" */
int source_need_store(const struct source *s, const char *what, struct fault *f);

/* For an argument of the command line: cmd_find_target, source_open and, unless store_for is NULL, source_need_store(store_for). *ret may be set on failure, too. */
int source_find(const char *arg, const struct cmd_options *o, bool write, const char *store_for, struct source **ret, struct cmd_target *ret_target, struct fault *f);

/* A model, or a version of it. */
struct source_ref {
	char model[CATALOG_PATH_MAX];
	bool has_version;
	uint32_t number;
	enum catalog_state state;
	char rest[4096];              /* path within the version, "" */
	int64_t model_id, version_id; /* 0: the drive alone */
};
int source_resolve(struct source *s, const char *text, struct source_ref *ret, struct fault *f);
int source_find_ref(const char *arg, const struct cmd_options *o, bool write, const char *store_for, struct source **ret, struct source_ref *ret_ref, struct fault *f); /* source_find, source_resolve */
void source_label(const struct source_ref *ref, char out[CATALOG_PATH_MAX + 16]); /* "product/P001_all/mlstm/v2" */

/* The links of a model: latest and best, then aliases by name. */
struct link { char name[CATALOG_NAME_MAX]; uint32_t number; int64_t set_ns; uid_t uid; }; /* set_ns 0: made by MintFS, or not known */
struct links { struct link *v; size_t n; };
int source_links(struct source *s, const struct source_ref *model, struct links *ret, struct fault *f);
void links_release(struct links *l);
#define auto_links __attribute__((cleanup(links_release)))
void links_of(const struct links *l, uint32_t number, struct buf *out); /* "latest, production" */

struct version_info {
	struct catalog_version v;         /* id 0: the drive alone */
	struct catalog_version_text text; /* of drafts: metrics as far as their metadata.json tells */
	char *run;                        /* name of the run, as user.mintfs.run */
	bool sized;                       /* v.size and v.n_files are known */
};
typedef int source_version_fn(const struct version_info *v, void *arg); /* v is borrowed; non-zero stops and is returned if negative */
struct source_query {
	unsigned states; /* 1u << enum catalog_state */
	uint32_t limit;  /* 0: all */
	bool brief;      /* texts and metrics are not needed */
	bool runs;       /* the names of runs are; a version's own look-up has it always */
};
/* Versions of a model, newest first. */
int source_versions(struct source *s, const struct source_ref *model, const struct source_query *q, source_version_fn *fn, void *arg, struct fault *f);
int source_version(struct source *s, const struct source_ref *version, source_version_fn *fn, void *arg, struct fault *f);

struct model_info {
	char path[CATALOG_PATH_MAX], key[CATALOG_PATH_MAX];
	char best_metric[CATALOG_NAME_MAX]; /* "" if none or not known */
	int best_mode;
	uint32_t newest, best;              /* 0: none */
	uint32_t n_versions, n_drafts;      /* committed and retired ones; open drafts */
	uint64_t size;                      /* of committed versions */
	int64_t changed_ns;                 /* newest mint or commit; 0: none */
};
typedef int source_model_fn(const struct model_info *m, void *arg);
int source_models(struct source *s, const char *prefix, source_model_fn *fn, void *arg, struct fault *f); /* in order of path */
int source_model(struct source *s, const struct source_ref *model, struct model_info *ret, struct fault *f);

struct file_info {
	char *path, *target; /* target: of a link, or NULL */
	enum catalog_type type;
	uint64_t size;
	mode_t mode;
	char sha256[BLOB_HEX_SIZE]; /* "": not known */
	bool damaged;               /* fsck recorded that its content is lost; not told on a drive */
};
struct files { struct file_info *v; size_t n; };
int source_files(struct source *s, const struct source_ref *version, struct files *ret, struct fault *f); /* in order of path */
void files_release(struct files *l);
#define auto_files __attribute__((cleanup(files_release)))
/* Content of a regular file, O_RDONLY. -ENOENT */
int source_content(struct source *s, const struct source_ref *version, const char *path, int *ret_fd, struct fault *f);

/* The directory of a draft's tree, or of a version on the drive, as a path for this process: what `source_files` walks. fd keeps
 * it alive and is closed by the caller. */
int source_tree(struct source *s, const struct source_ref *version, char *out, size_t size, int *ret_fd, struct fault *f);
/* As user.mintfs.run: the run's own id, else HOST:PID:START; to be freed. */
char *run_name(const struct catalog_run *run);
/* metrics of the metadata.json in a directory, as compact JSON, to be freed; NULL if there are none */
char *metrics_of_tree(const char *dir);

/* ---- acting on a draft, where it is served ---- */
/* The version directory of a draft on the drive that serves it: 0; -ENOENT if no drive does (the registry may be used directly);
 * else f says why it cannot be reached. */
int source_serving(struct source *s, const struct source_ref *draft, char *out, size_t size, struct fault *f);
/* setxattr user.mintfs.NAME on it; the drive's own sentence in f. */
int source_ask(const char *dir, const char *name, const char *value, const char *label, struct fault *f);

/* ---- implementations ---- */
int store_resolve(struct source *s, const char *text, struct source_ref *ret, struct fault *f);
int store_links(struct source *s, const struct source_ref *model, struct links *ret);
int store_versions(struct source *s, const struct source_ref *model, const struct source_query *q, source_version_fn *fn, void *arg);
int store_version(struct source *s, const struct source_ref *version, source_version_fn *fn, void *arg);
int store_models(struct source *s, const char *prefix, source_model_fn *fn, void *arg);
int store_model(struct source *s, const struct source_ref *model, struct model_info *ret);
int store_file(struct catalog_conn *conn, int64_t version_id, const char *path, struct catalog_file *ret); /* of a committed or retired version; -ENOENT */
int store_files(struct source *s, const struct source_ref *version, struct files *ret);

int drive_resolve(struct source *s, const char *text, struct source_ref *ret, struct fault *f);
int drive_links(struct source *s, const struct source_ref *model, struct links *ret);
int drive_versions(struct source *s, const struct source_ref *model, const struct source_query *q, source_version_fn *fn, void *arg);
int drive_version(struct source *s, const struct source_ref *version, source_version_fn *fn, void *arg);
int drive_models(struct source *s, const char *prefix, source_model_fn *fn, void *arg);
int drive_model(struct source *s, const struct source_ref *model, struct model_info *ret);
int tree_files(const char *dir, bool hashes /* ask user.mintfs.sha256 */, struct files *ret);
/* What is added last is at the end; all of file is copied. */
int files_add(struct files *l, const struct file_info *file);
int links_add(struct links *l, const struct link *link);

#endif
