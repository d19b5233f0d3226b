/* The table of the nodes that the kernel knows below drafts, and the way from a node to its backing file.
 *
 * A node is reached by its parent directory and the name it was last seen under; no descriptor is kept for a file,
 * unless it is *pinned*: open, or without a name that we know. Directories keep one (O_PATH) while a budget lasts,
 * from their first use as a directory to their FORGET.
 *
 * Threads: everything here is thread-safe. A node is got, used and put; while it is in use it is not freed and its
 * descriptor stays open. What is not marked "lock" below is fixed when the node is made. */
#ifndef MINTFS_FS_DRAFT_TABLE_H
#define MINTFS_FS_DRAFT_TABLE_H

#include "node.h"
#include <mintfs/keep.h>

#include <limits.h>

/* What belongs to the version as a whole; owned by its root node. */
struct draft_top {
	struct draft *draft; /* referenced; NULL: gone since before this worker */
	int64_t version_id, model_id;
	uint32_t number;
	int fd;              /* O_PATH, of the root directory; the draft's own. -1 where there is no draft */
	_Atomic bool elsewhere; /* another mount serves it, as far as is known: nobody tells when it commits */
};

struct draft_node {
	fuse_ino_t ino;             /* the key; DRAFT | file, or another DRAFT while the kernel knows that one for a file of before, or VERSION | id for a root */
	ino_t file;                 /* st_ino below; 0 for a root */
	mode_t type;                /* S_IFMT bits */
	struct draft_top *top;      /* of the root */
	struct draft_node *root;    /* counted in links; itself for a root, then not counted */
	struct draft_node *parent;  /* lock; counted in links; NULL: a root, or no living name is known */
	char *name;                 /* lock; NULL as parent is */
	uint64_t nlookup;           /* lock; what the kernel will give back by FORGET */
	unsigned links;             /* lock; nodes that name this one as parent or root */
	unsigned users;             /* lock; got and not yet put */
	unsigned opens;             /* lock; open files: as long as there are any, fd is set */
	int fd;                     /* lock; O_PATH, or -1; a root's is borrowed from the draft */
	bool gone;                  /* lock; roots: committed or discarded */
	bool settled;               /* lock; roots: committed, and its directories know what they have become */
	int64_t twin;               /* lock; of a directory that goes on after the commit: files.id of what it has become. 0: none */
	bool unfound;               /* lock; known from the worker before, and not looked for yet. Roots: some of their nodes */
	struct draft_node *other;   /* lock; next in the chain of draft_nodes.others */
	struct kept_node *kept;     /* lock; NULL: the next worker will not know it */
};

/* max_dir_fds: descriptors that may be kept for directories. keep: NULL, nothing outlives the process. */
int draft_table_new(struct keep *keep, size_t max_dir_fds, struct draft_nodes **ret);
size_t draft_table_count(struct draft_nodes *n); /* nodes remembered, roots too */

/* The node of ino, in use. -ESTALE: not remembered. */
int draft_node_get(struct draft_nodes *n, fuse_ino_t ino, struct draft_node **ret);
/* The root node of a version, in use; made if it is not there, with a copy of *top and a reference of its own to the
 * draft. */
int draft_node_root(struct draft_nodes *n, const struct draft_top *top, struct draft_node **ret);
void draft_node_put(struct draft_nodes *n, struct draft_node *node); /* NULL is fine */
bool draft_node_is_gone(struct draft_nodes *n, const struct draft_node *node); /* its version was committed or discarded */

/* A name was seen (in parent, which is in use): counts one lookup of the node and fills *e, timeouts too. -ESTALE: the version is gone. */
int draft_node_remember(struct draft_nodes *n, struct draft_node *parent, const char *name, const struct stat *st,
	struct fuse_entry_param *e);
/* The same for a file without a name: pinned by fd (O_PATH, taken over on success). */
int draft_node_remember_unnamed(struct draft_nodes *n, struct draft_node *root, int *fd, const struct stat *st,
	struct fuse_entry_param *e);
void draft_node_forget(struct draft_nodes *n, fuse_ino_t ino, uint64_t nlookup);

/* A node's directory: an O_PATH descriptor, good while the node is in use. own: it is the caller's to close
 * (draft_dir_release does). */
struct draft_dir {
	int fd;
	bool own;
};
#define DRAFT_DIR_INIT {-1, false}
int draft_node_dir(struct draft_nodes *n, struct draft_node *node, struct draft_dir *ret); /* -ENOTDIR; -ESTALE: it is no more */
void draft_dir_release(struct draft_dir *d);
#define auto_dirfd __attribute__((cleanup(draft_dir_release)))

/* The backing file of a node: an O_PATH descriptor as above, and its attributes now (st_ino is the backing one).
 * -ESTALE: it is no more. */
int draft_node_reach(struct draft_nodes *n, struct draft_node *node, struct draft_dir *ret_fd, struct stat *ret_st);
/* The attributes alone, without a descriptor. */
int draft_node_stat(struct draft_nodes *n, struct draft_node *node, struct stat *ret_st);
/* An open file begins: pins the node by fd (O_PATH; taken over if there is no pin yet, -1 then). It ends by
 * draft_nodes_closed. */
void draft_node_opened(struct draft_nodes *n, struct draft_node *node, int *fd);

/* ---- draft_again.c: after the death of a worker ---- */
/* A node that the worker before knew. root is in use. Its name is looked for when it is needed. */
int draft_node_again(struct draft_nodes *n, struct draft_node *root, struct kept_node *kept);
/* Gives the nodes of a version their names, by a walk through its tree. Nothing to do: 0. Not under a lock. */
int draft_nodes_find(struct draft_nodes *n, struct draft_node *node);

/* ---- draft_twins.c: directories that the kernel knows by the draft's numbers, after the commit. Used by who answers for a committed version too. ---- */
bool draft_twins_any(struct draft_nodes *n); /* false: no version has a node in the table. No lock */
/* The version is committed, as conn sees it: its directories become what they are from now on, once. Cheap where that was done. No lock may be held. */
void draft_twins_settle(struct draft_nodes *n, struct catalog_conn *conn, int64_t version_id);
/* The number by which the kernel knows the committed directory `id` (files.id) of a settled version; 0: by none of ours. */
fuse_ino_t draft_twins_number(struct draft_nodes *n, int64_t id);
/* The same for an entry of it that is told to the kernel: number, timeout; one lookup is counted. False: *e is as it was. */
bool draft_twins_lookup(struct draft_nodes *n, int64_t id, struct fuse_entry_param *e);
bool draft_twins_has(struct draft_nodes *n, int64_t version_id); /* the kernel knows nodes of it */
bool draft_twins_stand(struct draft_nodes *n); /* false: no directory of any version goes on. No lock */
/* The reverse: files.id of what the node of that number has become; 0: it is none that goes on. */
int64_t draft_twins_id(struct draft_nodes *n, fuse_ino_t ino);
/* Calls fn for each directory of a version that goes on, those below before those above, without locks. */
void draft_twins_each(struct draft_nodes *n, int64_t version_id, void (*fn)(fuse_ino_t ino, void *arg), void *arg);
/* After a version was settled, where many directories go on: calls fn, without locks, for the names of those of other versions, to be dropped. */
void draft_twins_relieve(struct draft_nodes *n, int64_t version_id, void (*fn)(fuse_ino_t parent, const char *name, void *arg), void *arg);

/* The name it was last seen under, for messages; "" if none is known. */
void draft_node_name(struct draft_nodes *n, const struct draft_node *node, char out[NAME_MAX + 1]);
/* Its path from the root of the version, "" for the root. -ESTALE: it has no name. -ENAMETOOLONG */
int draft_node_path(struct draft_nodes *n, struct draft_node *node, char buffer[PATH_MAX], const char **ret);
/* Inode number of the directory it was last seen in; its own if none is known. */
fuse_ino_t draft_node_parent(struct draft_nodes *n, const struct draft_node *node);

/* ---- names that change. The kernel holds the directories' locks: no lookup of these names is under way. ---- */
/* The name (seen as *st in dirfd) is about to be removed, replaced or moved: if its node is remembered it is pinned.
 * In use; NULL: not remembered. */
struct draft_node *draft_node_leaving(struct draft_nodes *n, const struct draft_node *root, int dirfd,
	const char *name, const struct stat *st);
/* The name was removed. (NULL is fine, here and below.) */
void draft_node_left(struct draft_nodes *n, struct draft_node *node, const struct draft_node *parent, const char *name);
/* The node was moved to parent/name, or got one more name there; *name is taken over. */
void draft_node_moved(struct draft_nodes *n, struct draft_node *node, struct draft_node *parent, char **name);
/* Held around renameat2 and the calls above that record it. */
void draft_renames_lock(struct draft_nodes *n);
void draft_renames_unlock(struct draft_nodes *n);

#endif
