/* The inside of the table of draft nodes: draft_table.c and draft_again.c. */
#ifndef MINTFS_FS_DRAFT_INNER_H
#define MINTFS_FS_DRAFT_INNER_H

#include "draft_table.h"
#include "kept.h"

#include <mintfs/util.h>
#include <pthread.h>

struct draft_nodes {
	struct fs *fs;
	struct keep *keep; /* NULL: nothing outlives the process */
	size_t max_dir_fds;
	pthread_mutex_t renames;
	pthread_mutex_t lock;
	struct map64 *map; /* ino → node */
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

/* All under the lock. */
/* After counts of node went down: lets its pin go if nobody needs it, or the node itself, and then perhaps those that it named. */
void table_settle(struct draft_nodes *n, struct draft_node *node, struct trash *t);
void table_set_name(struct draft_nodes *n, struct draft_node *node, struct draft_node *parent, char *name /* taken */, struct trash *t);
/* The node of a file just found, made if need be. */
int table_find_or_add(struct draft_nodes *n, struct draft_node *root, const struct stat *st, struct draft_node **ret, struct trash *t);

/* Not under the lock: one try at draft_node_dir, for who holds the rename lock or does not mind a rename. */
int table_dir_once(struct draft_nodes *n, struct draft_node *node, struct draft_dir *ret);

#endif
