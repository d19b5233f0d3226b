/* Private to fsck*.c. See fsck.c. */
#ifndef REGISTRY_FSCK_H
#define REGISTRY_FSCK_H

#include "keeping.h"

enum finding {
	FOUND_CATALOG_PAGE, FOUND_CATALOG_LINK, FOUND_MODEL_NAMES, FOUND_MODEL_NUMBERS, FOUND_ALIAS_ASTRAY, FOUND_METRICS_IDLE, FOUND_METRICS_DIFFER,
	FOUND_ENTRIES_ASTRAY, FOUND_ENTRIES_BROKEN, FOUND_SUMS_WRONG,
	FOUND_BLOB_MISSING, FOUND_BLOB_SIZE, FOUND_BLOB_DAMAGED, FOUND_BLOB_UNSEALED, FOUND_BLOB_RETURNED, FOUND_BLOB_UNREADABLE, FOUND_BLOB_UNPROTECTED, FOUND_BLOB_UNNEEDED, FOUND_VERSION_DAMAGED,
	FOUND_DRAFT_LOST, FOUND_DRAFT_LEFTOVER, FOUND_DRAFT_ASTRAY, FOUND_STRAY,
	FINDINGS
};

/* What was found, before it is told. Gathered on a snapshot, told and repaired when that is over. */
struct problem {
	enum finding kind;
	int64_t model_id;       /* 0: none */
	uint32_t number;        /* of a version; 0: none */
	int64_t id;             /* of the row it is about: a version, an alias, a blob, a draft … */
	bool has_blob;
	struct blob_id blob;
	uint64_t size;          /* of the blob, as the catalog says */
	uint64_t ino;           /* of what was looked at, so that a repair takes nothing else */
	uint64_t sums[3];       /* as they should be: size, files, directories */
	char *name;             /* a path in the store or in a version, an alias; owned; NULL */
	char *text;             /* owned */
};

struct fsck {
	struct registry *r;
	const struct registry_fsck *how;
	struct registry_fsck_result sum;
	struct problem *problems;
	size_t n, cap;
	struct references live; /* contents that committed versions hold */
	enum { INDEXES_AS_FOUND, INDEXES_MADE_ANEW, INDEXES_NO_HELP } indexes;
	bool live_unknown;      /* some of them: the entries could not all be read */
	struct references later; /* the same, some time later: collected when first asked for */
	struct references bad;  /* of these, the ones that are lost or damaged */
	struct verify *verify;  /* NULL unless asked for */
	int64_t began_ns;
};

/* fsck.c */
/* A problem to be told by fsck_settle. Set its other fields afterwards; NULL on failure, which ends the run (k->sum is what was found so far). */
struct problem *fsck_note(struct fsck *k, enum finding kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int fsck_settle(struct fsck *k); /* no snapshot is held */
bool fsck_go_on(const struct fsck *k);
/* A repair: 1 done, with a few words of what; 0 it cannot be mended, or need not any more (words say so); -errno. */
typedef int fsck_repair_fn(struct fsck *k, const struct problem *p, char *words, size_t size);

/* fsck_catalog.c */
int fsck_catalog(struct fsck *k);
fsck_repair_fn repair_pages, repair_names, repair_numbers, repair_alias, repair_idle_metrics;

/* fsck_versions.c */
int fsck_versions(struct fsck *k);
fsck_repair_fn repair_metrics, repair_sums;

/* fsck_blobs.c */
int fsck_blobs(struct fsck *k);
fsck_repair_fn repair_missing, repair_damaged, repair_unsealed, repair_returned, repair_unprotected;

/* fsck_verify.c: hashing, with its pace and its place */
struct verify;
int verify_begin(struct fsck *k, struct verify **ret);
/* 1 sound, 0 damaged (text says how), -ECANCELED, -errno. A content that an earlier, interrupted run found sound is passed over. */
int verify_blob(struct verify *v, const struct blob_id *id, uint64_t size, char *text, size_t text_size);
void verify_end(struct verify *v, bool complete); /* NULL is fine */
uint64_t verify_done(const struct verify *v);

/* fsck_store.c */
int fsck_drafts(struct fsck *k);
int fsck_strays(struct fsck *k);
fsck_repair_fn repair_draft_lost, repair_draft_leftover, repair_draft_astray, repair_stray;

#endif
