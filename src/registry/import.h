/* Private to import.c (the rules and the transaction), import_tree.c (the entries of one version), import_about.c (what it tells of itself) and import_lineage.c (what it was made
 * from). */
#ifndef REGISTRY_IMPORT_H
#define REGISTRY_IMPORT_H

#include "registry.h"

#include <mintfs/manifest.h>

/* The entries of a version, as the catalog wants them: breadth-first, which is the order of a manifest. */
struct import_tree {
	struct catalog_entry *entries; /* names and targets belong to the tree; a name is the end of its path */
	char **paths;
	size_t n, cap, n_top;
	int64_t dir; /* index of the directory whose children come now; -1: the top */
	uint32_t n_files, n_top_dirs;
	uint64_t size; /* of regular files, each inode once */
};
void import_tree_reset(struct import_tree *t);
void import_tree_release(struct import_tree *t);
/* Refuses what is no path within a version, stands there twice, or is out of order. label: "v2 of product/P001_all/mlstm". */
int import_tree_add(struct import_tree *t, const struct manifest_entry *e, const char *label, struct fault *f);
void import_tree_finish(struct import_tree *t); /* after the last entry */
/* Does the version in the catalog hold the same: paths, types, contents, targets? */
int import_tree_compare(const struct import_tree *t, struct catalog_conn *conn, int64_t version_id, bool *ret_same);

/* import_about.c: in the transaction, for a version that was just recorded. metrics: those of its record. */
int import_about(struct catalog_conn *conn, struct registry *r, const struct import_tree *t, int64_t version_id, const struct metadata *metrics);

/* ---- import_lineage.c: what versions were made from, and what they were evaluated on ---- */

/* What became of the versions of a manifest, in its order: models by their path, versions of a model by their number. */
struct import_version { uint32_t wanted, number; bool already; int64_t id; };
struct import_map {
	struct import_version *v;
	size_t n, cap;
	struct import_model { char *path; size_t first; /* of its versions */ } *models;
	size_t n_models, cap_models;
};
void import_map_reset(struct import_map *m);
void import_map_release(struct import_map *m);
int import_map_add_model(struct import_map *m, const char *path);
int import_map_add(struct import_map *m, const struct import_version *v); /* of the model added last */

struct registry *registry_import_store(const struct registry_import *im);

/* Is what the reader has at hand (an input, an unknown one, an evaluation) something that could be recorded of that version? label: "v2 of product/P001_all/mlstm". */
int import_lineage_check(const struct manifest_reader *m, enum manifest_item item, const struct layout_model *model, const char *label, struct fault *f);
/* In the transaction, when all versions of the manifest are recorded: reads it once more, and binds each input to the version that it is here. */
int import_lineage_record(struct catalog_conn *conn, struct manifest_reader *m, const struct import_map *map, uid_t uid, struct fault *f);
/* After that: what is new here may be what others have waited for. */
int import_lineage_join(struct catalog_conn *conn, const struct import_map *map);

#endif
