/* Private to commit.c (the steps), check.c (what a draft must be, and the metadata.json it gets), about.c (what it tells of itself) and record.c (what stays of it). */
#ifndef REGISTRY_COMMIT_H
#define REGISTRY_COMMIT_H

#include "lineage.h"

#define METADATA_NAME "metadata.json"
#define PROCESS_NAME "process.json"

struct commit_work {
	struct registry *r;
	struct catalog_version v;
	struct draft *d;
	const char *message;
	struct fault *f;
	char label[VERSION_LABEL_MAX];
	pid_t tid;           /* who waits for it; 0: nobody that can be seen */
	int64_t looked_ns;   /* when it was last asked whether to stop */
	const char *stopped; /* why it is to; NULL: it is not */
	struct draft_tree tree;
	struct metadata metadata;
	bool has_metadata;   /* the trainer left one */
	int64_t generated;   /* index of the entry that is ours, beside the tree; -1: none */
	char generated_path[64];
	struct blob_item *items;
	size_t n_items;
	struct catalog_entry *entries;
	struct catalog_metric *metrics;
	size_t n_metrics;
	int64_t ahead, ahead_ns;     /* record.c: as in catalog_commit; entries, and items, that are in ahead */
	size_t n_ahead, items_ahead;
	struct blob_id digest; /* of the whole tree */
	struct lineage lineage;
};

/* Is the commit to stop? Asked where it may: up to its transaction. arg: the struct commit_work. */
bool commit_is_to_stop(void *arg);
int commit_refuse_stopped(struct commit_work *w); /* -EINTR, with the reason */

/* metadata.json, torn files: fills metadata, has_metadata. For each file as it is scanned, then for what no file was opened for. */
int commit_check_file(struct commit_work *w, const struct draft_entry *e, int fd);
int commit_check_rest(struct commit_work *w);
int commit_write_metadata(struct commit_work *w); /* beside the draft, and into w->tree */

/* about.c: what the version tells of itself; prepared when all is hashed, written in the transaction. */
int about_prepare(struct commit_work *w);
int about_write(struct catalog_conn *conn, const struct commit_work *w);

/* record.c: from what is hashed to a version that stays, or nothing at all. */
int commit_record(struct commit_work *w);

#endif
