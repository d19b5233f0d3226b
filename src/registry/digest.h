/* The digest of a version's tree (docs/SPEC.md). Private to the registry. */
#ifndef REGISTRY_DIGEST_H
#define REGISTRY_DIGEST_H

#include "registry.h"

struct digest_entry {
	const char *path;   /* relative to the version's directory */
	const char *target; /* type 'l' */
	char type;          /* 'f', 'd', 'l' */
	mode_t mode;
	uint64_t size;
	struct blob_id blob; /* type 'f' */
};
int digest_of(struct digest_entry *entries /* gets sorted */, size_t n, struct blob_id *ret);
/* skip: index of an entry to leave out (a metadata.json of MintFS), or -1. All files are hashed. */
int digest_of_tree(const struct draft_tree *t, int64_t skip, struct blob_id *ret);

#endif
