/* Private to the sources that keep house: retire.c, in_use.c, gc.c, prune.c, fsck*.c. */
#ifndef REGISTRY_KEEPING_H
#define REGISTRY_KEEPING_H

#include "registry.h"

/* ---- references.c: which contents are needed ---- */

/* A bit for each row of `blobs`, whose ids are small and dense: a million contents cost 125 KB. A bit that is set too many keeps a content; none is ever set too few:
 * whoever wants to remove a content looks, under the store's lock, at the entries that have come since (references_newer). They have higher ids than all before, or ids that a commit of very
 * many has set apart: of these ranges it is known how far they have been looked at. */
struct open_range { int64_t end, upto, seen; };
struct references {
	uint64_t *bits;
	size_t n_words;
	int64_t last_file, last_seen; /* entries up to last_file have been looked at, but for those of the open ranges behind `upto`; seen: by references_newer */
	struct open_range *open;
	size_t n_open;
	int64_t retired_since_ns; /* versions retired after that time count as if they were not */
	bool with_drafts;         /* what is recorded ahead of a commit counts */
};
int references_collect(struct registry *r, int64_t retired_since_ns, bool with_drafts, struct references *ret); /* in pieces, each with a snapshot of its own */
/* Sets the bits of the entries that came since, too, as conn sees them. If the transaction is not undone they need not be looked at again: references_keep. */
int references_newer(struct references *refs, struct catalog_conn *conn);
void references_keep(struct references *refs);
int references_add(struct references *refs, int64_t blob); /* -ENOMEM; -EUCLEAN for an id that cannot be */
bool references_has(const struct references *refs, int64_t blob);
void references_release(struct references *refs);
#define auto_references __attribute__((cleanup(references_release)))

/* The contents that the catalog has under one first byte, in order of their names. */
struct blob_rows { struct catalog_blob *v; size_t n, cap; };
int blob_rows_read(struct registry *r, uint8_t first_byte, struct blob_rows *ret);
void blob_rows_release(struct blob_rows *l);

/* ---- in_use.c: who needs a version although no file of it is open ---- */

struct asker { struct caller caller; int64_t now_ns; }; /* who wants it to go */
void asker_init(struct asker *a, const struct registry_actor *who);
/* Both set the rest of a sentence, or "" if nobody is known; _run alone: "update 7 of process/screening, which is under way, needs it". */
#define IN_USE_MAX 256
int in_use_by_run(struct registry *r, struct catalog_conn *conn, int64_t version_id, char why[IN_USE_MAX]);
/* That, or "process 4711 (python3 train.py) has read it and lives". What was read a moment ago may not be on record: readers_flush. */
int in_use_by(struct registry *r, struct catalog_conn *conn, const struct asker *a, int64_t version_id, char why[IN_USE_MAX]);

#endif
