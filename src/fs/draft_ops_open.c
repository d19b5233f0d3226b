/* Draft nodes: opening and creating files.
 *
 * What the client's flags become on the backing file:
 *   O_APPEND     dropped: the kernel holds the inode's lock and knows the size, since a draft is written through one
 *                mount; it says at which offset each write goes. On the descriptor, pwrite(2) would ignore the
 *                offset, which is wrong for pages that a mapping writes back and after F_SETFL
 *   O_DIRECT     dropped: the bytes pass through the daemon's buffer, whose address and length need not be aligned
 *   O_NOATIME    dropped: the kernel never asks a FUSE server to set an access time on reading
 *   O_SYNC, O_DSYNC, O_TRUNC, and the access mode   kept */
#include "draft_nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <stdio.h>
#include <string.h>

#define KEPT_FLAGS (O_ACCMODE | O_SYNC | O_DSYNC | O_TRUNC)

static bool wants_write(const struct fuse_file_info *fi)
{
	return (fi->flags & O_ACCMODE) != O_RDONLY;
}

static int backing_flags(const struct fuse_file_info *fi)
{
	return fi->flags & KEPT_FLAGS;
}

/* An open that the draft knows of already becomes one that open.c knows. d, *fd and *pin (O_PATH) are taken over on
 * success. */
static int begin(struct call *c, struct draft_use *u, struct draft *d, int *fd, int *pin, ino_t backing,
	struct fuse_file_info *fi)
{
	struct open_file of = {
		.fd = *fd,
		.ino = u->node->ino,
		.writable = wants_write(fi),
		.is_draft = true,
		.version_id = u->node->top->version_id,
		.backing_ino = backing,
		.path_fd = -1,
		.draft = d,
	};
	int r;

	if (of.writable) {
		of.path_fd = fcntl(*pin, F_DUPFD_CLOEXEC, 0);
		if (of.path_fd < 0)
			return -errno;
	}
	draft_node_opened(u->nodes, u->node, pin);
	r = open_file_begin(c, &of, fi);
	if (r < 0) {
		draft_nodes_closed(u->nodes, u->node->ino);
		if (of.path_fd >= 0)
			close(of.path_fd);
		return r;
	}
	*fd = -1;
	return 0;
}

/* open(O_RDONLY | O_TRUNC) truncates on Linux. */
static int truncate_first(struct call *c, const struct draft_use *u, int path_fd, ino_t backing)
{
	auto_change struct draft_change change = DRAFT_CHANGE_INIT;
	int r = draft_change_open(c, u->node, &change);

	return r < 0 ? r : draft_truncate(change.draft, path_fd, backing, 0);
}

/* Whose open it is, told to the draft. *ret is referenced. */
static int open_in_draft(struct call *c, const struct draft_use *u, ino_t backing, bool writable, struct draft **ret)
{
	auto_draft struct draft *d = NULL;
	char name[NAME_MAX + 1];
	int r = 0;

	if (writable)
		r = draft_writable(c, u->node, &d);
	else if (u->node->top->draft)
		d = draft_ref(u->node->top->draft);
	if (r < 0)
		return r;
	if (!d) { /* gone since before this worker: there is only the file */
		*ret = NULL;
		return 0;
	}
	if (writable)
		registry_draft_joined(fs_registry(c->fs), u->node->top->version_id, &c->who);
	draft_node_name(u->nodes, u->node, name);
	r = draft_file_opened(d, backing, writable, name);
	if (r < 0)
		return draft_refuse_state(c, u->node, r);
	*ret = take_ptr(d);
	return 0;
}

/* Committed a moment ago: the kernel asks by the draft's number, and the draft's file is still there. It is a reading of the version all the same. */
static void note_reading(struct call *c, const struct draft_use *u)
{
	if (draft_node_is_gone(u->nodes, u->node) && draft_version_state(c->fs, u->node->top->version_id) == CATALOG_COMMITTED)
		registry_reading(fs_registry(c->fs), u->node->top->version_id, &c->who);
}

int draft_open(struct call *c, fuse_ino_t ino, struct fuse_file_info *fi)
{
	auto_use struct draft_use u = DRAFT_USE_INIT;
	auto_dirfd struct draft_dir at = DRAFT_DIR_INIT;
	auto_close int fd = -1;
	struct draft *d = NULL;
	struct stat st;
	fuse_ino_t twin;
	int r = draft_use_begin(c, ino, &u);

	if (r < 0)
		return r;
	r = draft_node_reach(u.nodes, u.node, &at, &st);
	if (r == -ESTALE && draft_node_is_gone(u.nodes, u.node) && draft_twin(c, &u, &twin) == 0)
		return committed_open_as(c, twin, fi);
	if (r < 0)
		return r;
	if (!S_ISREG(u.node->type))
		return S_ISDIR(u.node->type) ? -EISDIR : -ELOOP;
	if (!wants_write(fi) && (fi->flags & O_TRUNC))
		r = truncate_first(c, &u, at.fd, st.st_ino);
	if (r == 0)
		r = open_in_draft(c, &u, st.st_ino, wants_write(fi), &d);
	if (r != 0)
		return r;
	fd = sys_reopen(at.fd, backing_flags(fi));
	if (fd < 0) {
		r = fd;
	} else {
		int pin = at.own ? at.fd : fcntl(at.fd, F_DUPFD_CLOEXEC, 0);
		at.own = false;
		r = pin < 0 ? -errno : begin(c, &u, d, &fd, &pin, st.st_ino, fi);
		if (pin >= 0)
			close(pin);
	}
	if (r < 0 && d) {
		draft_file_closed(d, st.st_ino, wants_write(fi), -1);
		draft_put(d);
	}
	if (r == 0 && !wants_write(fi))
		note_reading(c, &u);
	return r;
}

/* ---- create ---- */

/* The name is there already and O_EXCL was not said: another mount made it, or the kernel's entry is out of date. */
static int open_existing(struct call *c, fuse_ino_t parent, const char *name, struct fuse_file_info *fi,
	struct fuse_entry_param *e)
{
	struct fuse_entry_param found;
	int r = draft_lookup(c, parent, name, &found);

	if (r < 0)
		return r;
	r = S_ISREG(found.attr.st_mode) ? draft_open(c, found.ino, fi) : S_ISDIR(found.attr.st_mode) ? -EISDIR : -ESTALE; /* a link: the kernel follows it then */
	if (r < 0)
		draft_node_forget(fs_draft_nodes(c->fs), found.ino, 1);
	else
		*e = found;
	return r;
}

/* The file fd was just made in p, under name or (NULL) without one: it becomes the caller's, remembered, and open. */
static int begin_created(struct call *c, const struct draft_place *p, const char *name, mode_t mode, int *fd,
	struct fuse_file_info *fi, struct fuse_entry_param *e)
{
	auto_use struct draft_use u = DRAFT_USE_INIT;
	auto_close int pin = sys_reopen(*fd, O_PATH), spare = -1;
	struct fuse_entry_param made;
	struct draft *d = NULL;
	struct stat st;
	int r = pin < 0 ? pin : draft_own(c, p->dir.fd, *fd, mode, &st);

	if (r < 0)
		return r;
	if (!name && (spare = fcntl(pin, F_DUPFD_CLOEXEC, 0)) < 0)
		return -errno;
	r = name ? draft_node_remember(p->use.nodes, p->use.node, name, &st, &made)
		 : draft_node_remember_unnamed(p->use.nodes, p->use.node->root, &spare, &st, &made);
	if (r < 0)
		return r;
	r = draft_use_begin(c, made.ino, &u);
	if (r == 0)
		r = open_in_draft(c, &u, st.st_ino, wants_write(fi), &d);
	if (r == 0) {
		r = begin(c, &u, d, fd, &pin, st.st_ino, fi);
		if (r < 0) {
			draft_file_closed(d, st.st_ino, wants_write(fi), -1);
			draft_put(d);
		}
	}
	if (r < 0) {
		draft_node_forget(p->use.nodes, made.ino, 1);
		return r;
	}
	if (!wants_write(fi))
		registry_draft_joined(fs_registry(c->fs), u.node->top->version_id, &c->who);
	*e = made;
	return 0;
}

static int create_unnamed(struct call *c, const struct draft_place *p, mode_t mode, struct fuse_file_info *fi,
	struct fuse_entry_param *e)
{
	auto_close int fd = sys_openat(p->dir.fd, ".", O_TMPFILE | O_RDWR | (fi->flags & (O_EXCL | O_SYNC | O_DSYNC)), mode);

	return fd < 0 ? fd : begin_created(c, p, NULL, mode, &fd, fi, e);
}

static bool unlink_unused(int dirfd, const char *name)
{
	struct stat st;

	return sys_fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_size == 0 && st.st_nlink == 1 &&
	       sys_unlinkat(dirfd, name, 0) == 0;
}

int draft_create(struct call *c, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi,
	struct fuse_entry_param *e)
{
	auto_place struct draft_place p = DRAFT_PLACE_INIT;
	auto_close int fd = -1;
	int r = draft_check_mode(c, mode, false);

	mode &= 07777;
	if (r == 0)
		r = draft_place_begin(c, parent, &p);
	if (r != 0)
		return r;
	if (strcmp(name, "/") == 0)
		return create_unnamed(c, &p, mode, fi, e);
	fd = sys_openat(p.dir.fd, name, backing_flags(fi) | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
	if (fd == -EEXIST && c->again && unlink_unused(p.dir.fd, name)) /* made by the worker that died, perhaps not to the end: made anew */
		fd = sys_openat(p.dir.fd, name, backing_flags(fi) | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
	if (fd == -EEXIST && !(fi->flags & O_EXCL)) {
		draft_place_end(&p);
		return open_existing(c, parent, name, fi, e);
	}
	if (fd < 0)
		return fd;
	r = begin_created(c, &p, name, mode, &fd, fi, e);
	if (r < 0)
		unlinkat(p.dir.fd, name, 0);
	return r;
}
