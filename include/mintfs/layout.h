/* The path grammar of the drive: bytes to and from a reference. Pure: no memory is allocated, nothing is looked up, every
 * function may be called by any thread.
 *
 *   product/{product_id}_{scope}/{model_type}/v{N}     scope: all or a store id
 *   store/{store_id}_{scope}/{model_type}/v{N}         scope: all or a product id
 *   global/{scope_path}/{aggregation}/{model_type}/v{N}
 *          scope_path: all | stores/{store_id} | products/{product_id} | custom/{store_id}/{product_id}
 *   dataset/{name}/v{N}    process/{name}/v{N}
 *
 * An id is 1 to 255 bytes of UTF-8 without '/', NUL, control characters (below U+0020, U+007F to U+009F); not "." or "..",
 * not beginning with '.' (hidden names stay free for tools) and without blank (space, U+00A0, U+3000) at either end; the
 * scope is what follows the last '_'. `latest`, `next`, `best` and `v` followed by digits only are reserved as the names of
 * a model's children, and no id may be one of them. */
#ifndef MINTFS_LAYOUT_H
#define MINTFS_LAYOUT_H

#include <mintfs/error.h>
#include <stdbool.h>
#include <stdint.h>

#define LAYOUT_NAME_MAX 255  /* bytes of one component */
#define LAYOUT_PATH_MAX 1536 /* bytes of a model path with its NUL: global/custom + 4 ids */
#define LAYOUT_DEPTH_MAX 6   /* components from the root to the model, at most: global/custom/s/p/agg/type */
#define LAYOUT_NUMBER_MAX 999999999

enum layout_mode { LAYOUT_PRODUCT, LAYOUT_STORE, LAYOUT_GLOBAL, LAYOUT_DATASET, LAYOUT_PROCESS, LAYOUT_MODES };

/* What stands at a place of the tree above the versions. */
enum layout_kind {
	LAYOUT_ROOT,
	LAYOUT_SCOPE, /* an inner directory: the mode itself, product/P001_all, global/stores … */
	LAYOUT_MODEL, /* its children are versions, links and aliases */
};

struct layout_model {
	enum layout_mode mode;
	char path[LAYOUT_PATH_MAX];       /* product/P001_all/mlstm */
	char identifier[LAYOUT_PATH_MAX]; /* product_P001_all; dataset and process: dataset_mol */
	char type[LAYOUT_NAME_MAX + 1];   /* mlstm; dataset and process: "" */
	char key[LAYOUT_PATH_MAX];        /* product_P001_all_mlstm: the key of versions.json */
};

/* What a child of a model may be called. */
enum layout_child {
	LAYOUT_CHILD_VERSION, /* v{N}, N from 1 to LAYOUT_NUMBER_MAX without leading zero */
	LAYOUT_CHILD_LATEST,
	LAYOUT_CHILD_NEXT,
	LAYOUT_CHILD_BEST,
	LAYOUT_CHILD_ALIAS,   /* any other id */
	LAYOUT_CHILD_INVALID, /* v0, v01, v99999999999, or no id at all */
};

const char *layout_mode_name(enum layout_mode mode);
bool layout_mode_typed(enum layout_mode mode); /* product, store, global: trained models, of a type; false for dataset and process */

/* Is `name` an id? -EINVAL with the reason in f. */
int layout_check_id(const char *name, struct fault *f);

/* What does the directory at `path` (relative, components by single '/', no leading or trailing '/'; "" is the root) stand
 * for? -EINVAL with a reason that names the component where the path does not fit the grammar. A path that goes on below a
 * model is -EINVAL too. On LAYOUT_MODEL *ret_model is filled (NULL allowed). */
int layout_classify(const char *path, enum layout_kind *ret_kind, struct layout_model *ret_model, struct fault *f);

enum layout_child layout_classify_child(const char *name, uint32_t *ret_number /* for VERSION; NULL allowed */);

/* A reference as people write it, e.g. on the command line. Accepts MODEL, MODEL/CHILD, MODEL/vN/REST and the record form
 * saved_models/MODEL/vN/; MODEL is a model path. Trailing and doubled slashes are dropped. child is "" if there is none;
 * rest is what follows the child, "" if nothing. -EINVAL with the reason. A key (product_P001_all_mlstm) has no '/' and is not parsed here: the
 * catalog knows keys; layout_parse says -ENOENT for a text without '/'. */
struct layout_ref {
	struct layout_model model;
	char child[LAYOUT_NAME_MAX + 1];
	char rest[4096];
};
int layout_parse(const char *text, struct layout_ref *ret_ref, struct fault *f);

/* "saved_models/product/P001_all/mlstm/v2/" into out; -ENAMETOOLONG. */
int layout_record_path(const char *model_path, uint32_t number, char *out, size_t size);

#endif
