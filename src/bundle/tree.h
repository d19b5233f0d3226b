/* An existing folder on its way in. Private to tree.c, which walks through it, and tree_version.c, which takes in what it finds. */
#ifndef BUNDLE_TREE_H
#define BUNDLE_TREE_H

#include <limits.h>
#include <mintfs/bundle.h>

struct number { char *key; uint32_t number; };
struct numbers { struct number *v; size_t n, cap; };

struct tree {
	struct registry *r;
	struct registry_actor who;
	const struct bundle_tree *how;
	int dir;
	const char *database_name; /* its name in dir, or NULL */
	char database_found[NAME_MAX + 1];
	struct catalog_legacy *legacy;
	struct numbers numbers; /* versions.json, sorted by key */
	struct registry_import *im;
	struct blob_hasher *hasher;
	uint8_t *piece;
	int64_t *made;    /* versions of the folder with a metadata.json, by their ids in the store */
	size_t n_made, cap_made;
	char root[PATH_MAX]; /* the folder as paths in it name it; "" */
	bool measuring;   /* the first walk */
	uint64_t total, done;
	struct bundle_tree_totals totals;
	struct fault *f;
};

/* Tells of a version, or of what stands there and is none, and counts it. reason: NULL, it was taken in or is here already. Nothing is told by the first walk. */
void tree_note(struct tree *k, const char *path, const char *reason, bool taken, bool already);
void tree_advance(struct tree *k, uint64_t bytes);
uint32_t tree_number_of(const struct tree *k, const char *key); /* by the folder's versions.json; 0: it has none */

/* Takes in the directory v<number> of a model, or measures it. Trouble of this version alone is told, and 0; -errno, with a sentence: of the store or of memory, which ends it all. */
int tree_version(struct tree *k, const struct layout_model *model, int model_dir, uint32_t number);

#endif
