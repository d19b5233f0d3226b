/* metadata.json, metrics, and the file formats whose torn files MintFS knows. Nothing here trusts its input: sizes, depth and
 * counts are bounded. cJSON stays inside the room. Thread-safe (no shared state). */
#ifndef MINTFS_METADATA_H
#define MINTFS_METADATA_H

#include <mintfs/buf.h>
#include <mintfs/error.h>
#include <stdbool.h>
#include <stdint.h>

#define METADATA_SIZE_MAX (8u << 20) /* a larger metadata.json is refused */
#define METADATA_DEPTH_MAX 200       /* deeper nesting is refused before anything recurses over it */
#define METADATA_METRICS_MAX 1024    /* further top-level metrics stay in the summary but are not indexed */
#define METADATA_INPUTS_MAX 65536    /* further inputs are left out */

enum metadata_best_mode { METADATA_BEST_UNKNOWN, METADATA_BEST_MIN, METADATA_BEST_MAX };

struct metadata_metric {
	char *name;
	double value; /* finite */
};

#define METADATA_FACTS_MAX 256       /* labels, and as many parameters; further ones are not indexed */
#define METADATA_FACT_TEXT_MAX 1024  /* bytes; a longer value is not indexed */
#define METADATA_OBJECT_MAX (256u << 10) /* labels or parameters larger than this are not kept as a whole */
#define METADATA_TEXT_MAX (16u << 10) /* of a description; what is longer is cut */
struct metadata_fact { char *name /* "labels.rows" */, *text; bool is_number; double number; }; /* scalars; true and false as text */

struct metadata {
	char *metrics_summary; /* the `metrics` object as compact JSON, keys in their order; "{}" if there is none */
	struct metadata_metric *metrics; /* its top-level finite numbers, in order (booleans, null, NaN and nested values left out) */
	unsigned n_metrics;
	char *best_name; /* the metric that decides `best`, or NULL: `best.metric` if named, else the first top-level number of metrics (NaN too, although it has no value there) */
	enum metadata_best_mode best_mode; /* `best.mode`, else by the well-known name (case ignored; also as the last part after '_', '-', '.', '/' as in val_loss); UNKNOWN: there is no best */
	bool best_named; /* metadata.json named the metric itself */
	char **inputs;   /* strings of the `inputs` array, as written; or the one string that stands for it */
	unsigned n_inputs;
	char *description, *maintainer, *source; /* string members of these names, or NULL */
	char *labels, *params; /* the objects `labels`, and `parameters` or `params` (the last of them), as compact JSON; or NULL */
	struct metadata_fact *facts; /* their scalars, flattened, in order; of equal names the last counts */
	unsigned n_facts;
	bool generated; /* MintFS wrote it itself (metadata_is_generated) */
};

/* Parses the text of a metadata.json. Must be one JSON object (UTF-8, a BOM is skipped, only blanks after it); `NaN`, `Infinity`, `-Infinity` as values are
 * read as null (also in the summary). Duplicate keys: the last wins. -EINVAL with "metadata.json: … at byte N" (line and column too), -EFBIG, -ENOMEM.
 * A `metrics` that is not an object, or a `best` that is not {"metric": string, "mode": "min"|"max"} (mode optional), is -EINVAL. */
int metadata_parse(const char *text, size_t len, struct metadata *ret, struct fault *f);
/* Reads fd (a regular file, else -EINVAL "is a directory" …) and parses it. */
int metadata_read(int fd, struct metadata *ret, struct fault *f);
void metadata_release(struct metadata *m);

enum metadata_best_mode metadata_mode_of(const char *metric_name);

/* The scalar fields of a JSON object, flattened ("optimizer.lr" → "0.001"), for `mintfs diff`: fn is called in order of occurrence; strings unquoted,
 * arrays as compact JSON cut at 200 bytes. -EINVAL as metadata_parse. */
typedef int metadata_field_fn(const char *name, const char *value, void *arg);
int metadata_each_field(const char *text, size_t len, metadata_field_fn *fn, void *arg, struct fault *f);
/* The same, with each value as compact JSON beside it, whole: of its own type, and null for NaN and Infinity. */
typedef int metadata_value_fn(const char *name, const char *value, const char *json, void *arg);
int metadata_each_value(const char *text, size_t len, metadata_value_fn *fn, void *arg, struct fault *f);

/* Appends one JSON value without blanks; null for NaN, Infinity and numbers that no double holds, which older builds recorded as they were written. -EINVAL: it is none; -ENOMEM, -EFBIG.
 * On failure a part of it may have been appended. */
int metadata_compact(const char *text, size_t len, struct buf *out);

/* A known format whose file is torn? Decides by name and first bytes:
 *   .pth .pt .npz .ckpt .bin beginning with "PK": the zip end record (also zip64) must be there and its central directory lie inside the file;
 *   .safetensors: header length, JSON header, largest data_offsets end == the rest of the file;   .npy: header and shape × item size;
 *   .png: chunks up to IEND;   .h5 .hdf5: superblock's end-of-file address (versions 0 to 3, also behind a user block);
 *   .pth .pt .npz .safetensors .npy .png .h5 of 0 bytes: torn.
 * 0: sound or unknown. -EINVAL: torn; f says "NAME: … at byte N". Only reads a bounded part (at most some MiB, png: chunk headers only). name: the last component. */
int metadata_check_format(int fd, const char *name, struct fault *f);

/* What commit writes when the trainer left no metadata.json. NULL members are left out. */
struct metadata_file { const char *path; const char *type; uint64_t size; const char *sha256; };
struct metadata_record {
	const char *model, *version;
	const char *run_id, *command /* JSON array */, *cwd, *user, *host, *git_commit;
	int git_dirty; /* 0, 1; -1 unknown */
	int64_t started_ns, ended_ns; /* 0: unknown */
	const char *const *inputs; unsigned n_inputs;
	const struct metadata_file *files; size_t n_files;
};
/* Indented JSON with a final newline; carries "generated_by": "mintfs" so that a reader can tell. -ENOMEM, -EFBIG. */
int metadata_generate(const struct metadata_record *r, struct buf *out);
/* Does a metadata.json begin as metadata_generate begins it? Decided by its first METADATA_GENERATED_SIZE bytes (docs/SPEC.md). */
#define METADATA_GENERATED "{\n  \"generated_by\": \"mintfs\","
#define METADATA_GENERATED_SIZE (sizeof METADATA_GENERATED - 1)
bool metadata_is_generated(const char *text, size_t len);

/* config.json of a store: {"format": 1, …}. */
struct metadata_config { int format; };
int metadata_config_parse(const char *text, size_t len, struct metadata_config *ret, struct fault *f);
int metadata_config_generate(const struct metadata_config *c, struct buf *out);

/* "product/P001_all/mlstm" style keys → numbers: versions.json. Feed entries in the order they shall stand; one entry a line, as
 * people diff it. */
int metadata_versions_begin(struct buf *out);
int metadata_versions_add(struct buf *out, const char *key, uint32_t number, bool first);
int metadata_versions_end(struct buf *out);

#endif
