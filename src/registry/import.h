/* Private to import.c (the rules and the transaction), import_tree.c (the entries of one version) and import_about.c (what it tells of itself). */
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

#endif
