/* manifest.json of a bundle: what its versions are, with a hash for each content. Written and read as a stream: one entry at a time is in memory, however many
 * there are. The format stands in docs/spec/bundle.md. Belongs to the room metadata, and like all of it trusts no input. Not for several threads at once. */
#ifndef MINTFS_MANIFEST_H
#define MINTFS_MANIFEST_H

#include <mintfs/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MANIFEST_FORMAT 1
#define MANIFEST_SIZE_MAX (UINT64_C(1) << 30) /* a larger one is refused */

enum manifest_type { MANIFEST_FILE = 1, MANIFEST_DIRECTORY, MANIFEST_SYMLINK };

/* Strings are borrowed where they are given, and belong to the reader where they are got. NULL: not known. */
struct manifest_model {
	char *path;
	mode_t mode; /* of the model's directory */
	uid_t uid;
	gid_t gid;
	int64_t last_number; /* highest number it ever used, where that is to be kept; 0: not told */
	char *best_metric;
	int64_t best_mode; /* enum metadata_best_mode */
	bool best_named;
};
struct manifest_alias { char *name; int64_t number, set_ns; };
struct manifest_run {
	char *key, *process /* "pid:start" of the one that minted */, *user, *host, *command /* JSON array */, *cwd, *git_commit;
	int64_t git_dirty, exit_status; /* -1: not known */
	int64_t started_ns, ended_ns;   /* 0: not known */
};
struct manifest_version {
	int64_t number;
	int64_t minted_ns, committed_ns, mtime_ns;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	char *author, *message;
	char *metrics; /* JSON object */
	bool has_run;
	struct manifest_run run;
};
struct manifest_entry {
	char *path; /* in the version; any bytes but NUL */
	enum manifest_type type;
	int64_t size;
	char *sha256; /* files: 64 hex digits */
	char *target; /* links; any bytes but NUL */
	int64_t same_as; /* hard link: the index, within the version, of the first entry with the same inode; -1: none */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	int64_t mtime_ns;
};

/* Lineage. A version is named by the path of its model, its number, and the digest of its tree (64 hex digits): as the store names it that the bundle comes from. */
enum manifest_how { MANIFEST_OBSERVED = 1, MANIFEST_DECLARED, MANIFEST_BOTH };
struct manifest_input { char *model; int64_t number; char *digest; enum manifest_how how; };
struct manifest_unknown { char *text, *reason; }; /* declared as an input, but it names no version */
struct manifest_evaluation { char *model; int64_t number; char *digest; int64_t at_ns; char *author, *metrics /* JSON object */; };

/* ---- writing: begin, then for each model: model, its aliases, then for each version: version, its inputs, unknown inputs and evaluations, its entries; finish ---- */
struct manifest_writer;
typedef int manifest_out_fn(const void *data, size_t len, void *arg); /* 0 or -errno */
int manifest_writer_new(manifest_out_fn *fn, void *arg, struct manifest_writer **ret);
void manifest_writer_free(struct manifest_writer *w); /* NULL is fine */
/* store, program: told to people. All answer the first error of the writer. */
int manifest_begin(struct manifest_writer *w, const char *program, const char *store, int64_t at_ns);
int manifest_add_model(struct manifest_writer *w, const struct manifest_model *m);
int manifest_add_alias(struct manifest_writer *w, const struct manifest_alias *a);
int manifest_add_version(struct manifest_writer *w, const struct manifest_version *v);
int manifest_add_input(struct manifest_writer *w, const struct manifest_input *i);
int manifest_add_unknown(struct manifest_writer *w, const struct manifest_unknown *u);
int manifest_add_evaluation(struct manifest_writer *w, const struct manifest_evaluation *e);
int manifest_add_entry(struct manifest_writer *w, const struct manifest_entry *e);
int manifest_finish(struct manifest_writer *w);

/* ---- reading ---- */
/* MODEL, ALIAS …, then for each version VERSION, INPUT …, UNKNOWN …, EVALUATION …, ENTRY …, VERSION_END; MODEL_END; at last END. What was got of a model or version stands until its
 * end item, included. */
enum manifest_item { MANIFEST_END, MANIFEST_MODEL, MANIFEST_ALIAS, MANIFEST_VERSION, MANIFEST_INPUT, MANIFEST_UNKNOWN, MANIFEST_EVALUATION, MANIFEST_ENTRY, MANIFEST_VERSION_END,
	MANIFEST_MODEL_END };
struct manifest_reader;
/* text is borrowed until the free, and may be a mapped file. */
int manifest_reader_new(const char *text, size_t len, struct manifest_reader **ret);
void manifest_reader_free(struct manifest_reader *r); /* NULL is fine */
void manifest_rewind(struct manifest_reader *r);
/* The next item. -EINVAL with "manifest.json: … at byte N": not JSON, or not a manifest; -EPROTONOSUPPORT: of a newer format. After an error only rewind helps. What the
 * values mean is not checked here beyond their types: a path may be any bytes. */
int manifest_next(struct manifest_reader *r, enum manifest_item *ret, struct fault *f);
const struct manifest_model *manifest_model(const struct manifest_reader *r);
const struct manifest_alias *manifest_alias(const struct manifest_reader *r);
const struct manifest_version *manifest_version(const struct manifest_reader *r);
const struct manifest_input *manifest_input(const struct manifest_reader *r);
const struct manifest_unknown *manifest_unknown(const struct manifest_reader *r);
const struct manifest_evaluation *manifest_evaluation(const struct manifest_reader *r);
const struct manifest_entry *manifest_entry(const struct manifest_reader *r);

#endif
