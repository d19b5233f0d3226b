/* The handlers for names and attributes, and the table of all handlers. Each makes a call, asks the class of the node, replies once.
 *
 * What may take long is handed to the pool with a copy of its arguments: freezing a draft by chmod, and rmdir of a version. */
#include "session.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <mintfs/cleanup.h>
#include <stdio.h>
#include <string.h>

#define READLINK_MAX (PATH_MAX + 1)

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct call c;
	const struct node_ops *ops;
	struct fuse_entry_param e = {0};
	int r = call_begin_at(&c, req, parent, name, &ops);

	if (r == 0)
		r = ops->lookup ? ops->lookup(&c, parent, name, &e) : -ENOTDIR;
	call_reply_entry(&c, parent, r, &e);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	node_forget(fuse_req_userdata(req), ino, nlookup);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < count; i++)
		node_forget(fuse_req_userdata(req), forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct call c;
	const struct node_ops *ops;
	struct stat st = {0};
	double timeout = 0;
	int r = call_begin_at(&c, req, ino, NULL, &ops);

	if (r == 0)
		r = ops->getattr(&c, ino, &st, &timeout);
	call_reply_attr(&c, ino, r, &st, timeout);
}

struct setattr_job {
	struct call c;
	fuse_ino_t ino;
	struct stat to;
	int to_set;
};

/* The class is asked for again: while this waited, somebody else may have committed. */
static void setattr_run(void *arg)
{
	auto_free struct setattr_job *j = arg;
	const struct node_ops *ops;
	struct notify *notify = j->c.fs->notify;
	struct notify_hold hold;
	struct stat st = {0};
	double timeout = 0;

	notify_hold_begin(notify, &hold);
	open_wait_writers(j->c.fs, (int64_t)node_value(j->ino));
	int r = node_ops_of(j->c.fs, j->ino, &ops);
	if (r == 0)
		r = ops->setattr(&j->c, j->ino, &j->to, j->to_set, NULL, &st, &timeout);
	if (r == 0)
		errors_drop(&j->c.fs->errors, j->ino);
	call_reply_attr(&j->c, j->ino, r, &st, timeout);
	notify_hold_end(notify, &hold);
}

static bool is_commit(const struct node_ops *ops, fuse_ino_t ino, const struct stat *to, int to_set)
{
	return ops == &draft_ops && node_tag(ino) == NODE_VERSION && (to_set & FUSE_SET_ATTR_MODE) && !(to->st_mode & 0222);
}

static int setattr_later(const struct call *c, fuse_ino_t ino, const struct stat *to, int to_set)
{
	struct setattr_job *j = malloc(sizeof *j);
	if (!j)
		return -ENOMEM;
	*j = (struct setattr_job){.ino = ino, .to = *to, .to_set = to_set};
	call_move(&j->c, c);
	int r = fs_pool_run(c->fs, FS_POOL_LONG, c->who.uid, setattr_run, j);
	if (r < 0)
		free(j);
	return r;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct call c;
	const struct node_ops *ops;
	struct stat st = {0};
	double timeout = 0;
	int r = call_begin_at(&c, req, ino, NULL, &ops);

	if (r == 0 && is_commit(ops, ino, attr, to_set)) {
		r = setattr_later(&c, ino, attr, to_set);
		if (r == 0)
			return;
	} else if (r == 0) {
		r = ops->setattr ? ops->setattr(&c, ino, attr, to_set, fi ? open_file_of(c.fs, fi) : NULL, &st, &timeout) : call_refuse(&c, ops, ino);
	}
	call_reply_attr(&c, ino, r, &st, timeout);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct call c;
	const struct node_ops *ops;
	char target[READLINK_MAX] = "";
	int r = call_begin_at(&c, req, ino, NULL, &ops);

	if (r == 0)
		r = ops->readlink ? ops->readlink(&c, ino, target, sizeof target) : -EINVAL;
	if (r < 0)
		call_fail(&c, ino, r);
	else
		fuse_reply_readlink(req, target);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct call c;
	const struct node_ops *ops;
	struct fuse_entry_param e = {0};
	int r = call_begin_at(&c, req, parent, name, &ops);

	if (r == 0)
		r = ops->mkdir ? ops->mkdir(&c, parent, name, mode, &e) : call_refuse(&c, ops, parent);
	if (r == 0)
		errors_drop(&c.fs->errors, parent);
	call_reply_entry(&c, parent, r, &e);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct call c;
	const struct node_ops *ops;
	struct fuse_entry_param e = {0};
	int r = call_begin_at(&c, req, parent, name, &ops);

	if (r == 0)
		r = ops->mknod ? ops->mknod(&c, parent, name, mode, &e) : call_refuse(&c, ops, parent);
	call_reply_entry(&c, parent, r, &e);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct call c;
	const struct node_ops *ops;
	struct fuse_entry_param e = {0};
	int r = call_begin_at(&c, req, parent, name, &ops);

	if (r == 0)
		r = ops->symlink ? ops->symlink(&c, parent, name, target, &e) : call_refuse(&c, ops, parent);
	if (r == 0)
		errors_drop(&c.fs->errors, parent);
	call_reply_entry(&c, parent, r, &e);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct call c;
	const struct node_ops *ops;
	int r = call_begin_at(&c, req, parent, name, &ops);

	if (r == 0)
		r = ops->unlink ? ops->unlink(&c, parent, name) : call_refuse(&c, ops, parent);
	call_reply_err(&c, parent, r);
}

struct rmdir_job {
	struct call c;
	fuse_ino_t parent;
	char name[NAME_MAX + 1];
};

static void rmdir_run(void *arg)
{
	auto_free struct rmdir_job *j = arg;
	struct notify *notify = j->c.fs->notify;
	struct notify_hold hold;

	notify_hold_begin(notify, &hold);
	call_reply_err(&j->c, j->parent, layout_ops.rmdir(&j->c, j->parent, j->name));
	notify_hold_end(notify, &hold);
}

/* Only a guess at the name: what is no version after all is removed by a job as well as by a handler. */
static bool may_be_version(const struct node_ops *ops, const char *name)
{
	return ops == &layout_ops && name[0] == 'v' && isdigit((unsigned char)name[1]);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct call c;
	const struct node_ops *ops;
	int r = call_begin_at(&c, req, parent, name, &ops);

	if (r == 0 && may_be_version(ops, name)) {
		struct rmdir_job *j = calloc(1, sizeof *j);
		r = -ENOMEM;
		if (j) {
			call_move(&j->c, &c);
			j->parent = parent;
			text_copy(j->name, sizeof j->name, name);
			r = fs_pool_run(c.fs, FS_POOL_LONG, c.who.uid, rmdir_run, j);
			if (r == 0)
				return;
			free(j);
		}
	} else if (r == 0) {
		r = ops->rmdir ? ops->rmdir(&c, parent, name) : call_refuse(&c, ops, parent);
	}
	call_reply_err(&c, parent, r);
}

/* Between two worlds a file cannot move. EXDEV makes mv copy, so it is the answer only where a copy would do. */
static int rename_between(struct call *c, const struct node_ops *from, fuse_ino_t parent, const struct node_ops *to, fuse_ino_t newparent)
{
	if (to == &committed_ops)
		return committed_refuse(c, newparent);
	if (from == &committed_ops)
		return committed_refuse(c, parent);
	return layout_refuse(c, to == &layout_ops ? newparent : parent);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned flags)
{
	struct call c;
	const struct node_ops *ops, *newops;
	int r = call_begin_at(&c, req, parent, name, &ops);

	if (r == 0)
		r = strlen(newname) > NAME_MAX ? -ENAMETOOLONG : node_ops_of(c.fs, newparent, &newops);
	if (r == 0 && ops != newops)
		r = rename_between(&c, ops, parent, newops, newparent);
	else if (r == 0)
		r = ops->rename ? ops->rename(&c, parent, name, newparent, newname, flags) : call_refuse(&c, ops, parent);
	call_reply_err(&c, parent, r);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname)
{
	struct call c;
	const struct node_ops *ops, *from;
	struct fuse_entry_param e = {0};
	int r = call_begin_at(&c, req, newparent, newname, &ops);

	if (r == 0)
		r = node_ops_of(c.fs, ino, &from);
	if (r == 0 && !ops->link)
		r = call_refuse(&c, ops, newparent);
	else if (r == 0)
		r = from == ops || ops == &draft_ops ? ops->link(&c, ino, newparent, newname, &e) : -EXDEV;
	call_reply_entry(&c, newparent, r, &e);
}

/* No flush: libfuse then says ENOSYS, once, and the kernel stops asking at every close. No locks, no ioctl, no access: the kernel's own do. */
const struct fuse_lowlevel_ops fs_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write = op_write,
	.release = op_release,
	.fsync = op_fsync,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
	.statfs = op_statfs,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.setxattr = op_setxattr,
	.removexattr = op_removexattr,
};
