/* What the files of the draft class share. */
#ifndef MINTFS_FS_DRAFT_NODES_H
#define MINTFS_FS_DRAFT_NODES_H

#include "draft_table.h"

#define MODE_BITS 07777

/* ---- draft_use.c ---- */
/* A node in use, until the end of the scope. */
struct draft_use {
	struct draft_nodes *nodes;
	struct draft_node *node;
};
#define DRAFT_USE_INIT {NULL, NULL}
int draft_use_begin(struct call *c, fuse_ino_t ino, struct draft_use *ret); /* -ESTALE; a VERSION's root is made if need be */
void draft_use_end(struct draft_use *u);
/* The root node of a version whose nodes the worker before knew, in use; of one that is no draft any more too. */
int draft_root_again(struct fs *fs, int64_t version_id, struct draft_node **ret);
#define auto_use __attribute__((cleanup(draft_use_end)))

/* May this mount change the version of node now? *ret is its draft, referenced. Else a refusal with its sentence. */
int draft_writable(struct call *c, const struct draft_node *node, struct draft **ret);
/* The same, and a change of the tree is begun, until the end of the scope. */
struct draft_change {
	struct draft *draft;
};
#define DRAFT_CHANGE_INIT {NULL}
int draft_change_open(struct call *c, const struct draft_node *node, struct draft_change *ret);
void draft_change_close(struct draft_change *ch);
#define auto_change __attribute__((cleanup(draft_change_close)))

/* A directory in which something is about to change. */
struct draft_place {
	struct draft_use use;
	struct draft_change change;
	struct draft_dir dir;
};
#define DRAFT_PLACE_INIT {DRAFT_USE_INIT, DRAFT_CHANGE_INIT, DRAFT_DIR_INIT}
int draft_place_begin(struct call *c, fuse_ino_t parent, struct draft_place *ret);
void draft_place_end(struct draft_place *p);
#define auto_place __attribute__((cleanup(draft_place_end)))

/* Sets the call's verdict and sentence; returns its -errno. */
int draft_refuse(struct call *c, enum registry_verdict v, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* What the draft says to a change or a writer while it is not open for them, in words. Other errors are passed on. */
int draft_refuse_state(struct call *c, const struct draft_node *node, int error);
/* The state of a version now; CATALOG_DISCARDED where that cannot be told. */
enum catalog_state draft_version_state(struct fs *fs, int64_t version_id);
/* No file of a draft gets set-user-id, no file set-group-id: -EPERM. */
int draft_check_mode(struct call *c, mode_t mode, bool is_dir);

/* ---- draft_nodes.c ---- */
/* Truncation by name. fd: O_PATH. Within a change. */
int draft_truncate(struct draft *d, int fd, ino_t backing, off_t size);

/* Once the version is committed: the node that stands for the same thing in it, by its path. Who is still in the
 * draft (its working directory, a descriptor of a directory) reads on there. -ESTALE: discarded, or without a name. */
int draft_twin(struct call *c, const struct draft_use *u, fuse_ino_t *ret);

/* e was just told, of a draft that another mount serves: a directory keeps its descriptor from now on, for when that mount commits and its tree is gone before
 * we hear of it (draft_twins.c). */
void draft_keep_dir(const struct draft_use *u, const struct fuse_entry_param *e);

int draft_lookup(struct call *c, fuse_ino_t parent, const char *name, struct fuse_entry_param *e);

/* ---- draft_ops_tree.c ---- */
/* Gives what was just made in dirfd (fd: any descriptor of it) the owner and mode that its maker would have got;
 * *ret_st: as it is then. */
int draft_own(struct call *c, int dirfd, int fd, mode_t mode, struct stat *ret_st);
int draft_mkdir(struct call *c, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_entry_param *e);
int draft_mknod(struct call *c, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_entry_param *e);
int draft_symlink(struct call *c, fuse_ino_t parent, const char *name, const char *target, struct fuse_entry_param *e);
int draft_link(struct call *c, fuse_ino_t ino, fuse_ino_t newparent, const char *newname, struct fuse_entry_param *e);
int draft_unlink(struct call *c, fuse_ino_t parent, const char *name);
int draft_rmdir(struct call *c, fuse_ino_t parent, const char *name);
int draft_rename(struct call *c, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned flags);

/* ---- draft_ops_open.c ---- */
int draft_open(struct call *c, fuse_ino_t ino, struct fuse_file_info *fi);
int draft_create(struct call *c, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi,
	struct fuse_entry_param *e);

/* ---- draft_ops_dir.c ---- */
int draft_opendir(struct call *c, fuse_ino_t ino, struct fuse_file_info *fi);
int draft_readdir(struct call *c, fuse_ino_t ino, off_t offset, struct dir_sink *sink, struct fuse_file_info *fi);
int draft_releasedir(struct call *c, fuse_ino_t ino, struct fuse_file_info *fi);
int draft_fsyncdir(struct call *c, fuse_ino_t ino, int datasync);

#endif
