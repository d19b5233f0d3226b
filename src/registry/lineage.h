/* Lineage: what a version was made from. Private to the registry: readers.c sees, lineage.c puts together and records. */
#ifndef REGISTRY_LINEAGE_H
#define REGISTRY_LINEAGE_H

#include "registry.h"

struct lineage_input { int64_t version_id; enum catalog_how how; };
struct lineage_unknown { char *text, *reason; }; /* declared, but it names no version */
struct lineage {
	struct lineage_input *inputs; /* each version once */
	size_t n_inputs;
	struct lineage_unknown *unknown;
	size_t n_unknown;
};
void lineage_release(struct lineage *l);
int lineage_add(struct lineage *l, int64_t version_id, enum catalog_how how); /* what is there already is joined */

/* Adds what the run of a draft was seen to read. */
int readers_collect(struct registry *r, const struct catalog_version *v, struct lineage *to);

/* What a metadata.json declares as one input, added: as an input, or with the reason why it is none. root: a directory whose paths lead to versions as the drive's do, or NULL; with
 * it only a number names a version, since what else leads to one may have led to another before. ref: room. */
#define LINEAGE_DECLARED_MAX 4096 /* of one version; further ones are left out */
int lineage_declared(struct registry *r, const struct catalog_version *v, const char *text, const char *root, struct registry_ref *ref, struct lineage *to);
void lineage_forget_unknown(struct lineage *l);

/* Observed and declared inputs of a draft. md may be NULL. */
int lineage_prepare(struct registry *r, const struct catalog_version *v, const struct metadata *md, struct lineage *ret);
/* In a transaction. */
int lineage_write(struct catalog_conn *conn, int64_t version_id, const struct lineage *l);
/* The names of the inputs, "dataset/mol/v3", sorted; each and the array to be freed. */
int lineage_names(struct registry *r, const struct lineage *l, char ***ret_names, unsigned *ret_n);
/* For a draft that is not to be committed now: its run failed, or it is to be discarded. Keeps inputs, parameters and scores, as far as they can be told; d is read without a freeze. */
void lineage_keep(struct registry *r, const struct catalog_version *v, struct draft *d);

#endif
