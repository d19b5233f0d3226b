/* The inside of the table of draft nodes: draft_table.c, draft_reach.c, draft_again.c, draft_twins.c. */
#ifndef MINTFS_FS_DRAFT_INNER_H
#define MINTFS_FS_DRAFT_INNER_H

#include "draft_table.h"
#include "kept.h"

#include <errno.h>
#include <mintfs/util.h>
#include <pthread.h>

struct draft_nodes {
	struct keep *keep; /* NULL: nothing outlives the process */
	size_t max_dir_fds;
	int last_pin; /* a name that goes away is not pinned by a descriptor from this one on */
	pthread_mutex_t settling; /* one version at a time; who takes it has a reader of the catalog in hand already */
	pthread_mutex_t renames;
	pthread_mutex_t lock;
	struct map64 *map; /* ino → node */
	struct map64 *others; /* st_ino → the nodes, chained, of files that have it and not the ino that goes with it */
	uint64_t next_other;  /* for such an ino */
	struct map64 *twins; /* files.id → the node that goes on as that directory */
	_Atomic size_t known, standing; /* how many map and twins have */
	size_t dir_fds;    /* directories with a descriptor, roots not counted */
	_Atomic unsigned unfound; /* versions whose nodes have no names yet */
};

/* What a change of counts left over, to be destroyed without locks. */
struct trash {
	struct draft_node *nodes; /* chained by parent */
	int fd;
};
#define TRASH_INIT {NULL, -1}
void table_trash_empty(struct trash *t);

static inline bool table_is_root(const struct draft_node *node) { return node->root == node; }

/* Is a file that was found with st the one node stands for? 0, or -ESTALE. */
static inline int table_check_same(const struct draft_node *node, const struct stat *st)
{
	return st->st_ino == node->file && (st->st_mode & S_IFMT) == node->type ? 0 : -ESTALE;
}

/* All under the lock. */
void table_set_name(struct draft_nodes *n, struct draft_node *node, struct draft_node *parent, char *name /* taken */, struct trash *t);
/* Counts for the kernel. */
void table_count(struct draft_node *node, uint64_t nlookup);
/* Notes the pin for the next worker: before it is relied on, and taken out before it is closed. */
void table_keep_pin(struct draft_node *node, int fd);
/* The node of this file, NULL if it is not remembered. */
struct draft_node *table_find(const struct draft_nodes *n, const struct draft_node *root, ino_t file, mode_t type);
/* Puts a node with its ino and file into the table. */
int table_enter(struct draft_nodes *n, struct draft_node *node);
/* The node of a file just found, made if need be. */
int table_find_or_add(struct draft_nodes *n, struct draft_node *root, const struct stat *st, struct draft_node **ret);

/* Not under the lock: one try at draft_node_dir, for who holds the rename lock or does not mind a rename. */
int table_dir_once(struct draft_nodes *n, struct draft_node *node, struct draft_dir *ret);
/* Not under the lock: gives the nodes of root their names if they have none yet. gone_too: also if the version is committed; its tree must still be there. */
int table_find_names(struct draft_nodes *n, struct draft_node *root, bool gone_too);

#endif
