/* Draft nodes: making, moving and removing names.
 *
 * The kernel holds the locks of the directories that a request names, so of one name there is one request at a time;
 * the table is told of a change after the file system has done it, and of a loss before (the pin). */
#include "draft_nodes.h"
#include "kept.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <stdio.h>
#include <string.h>

static void joined(struct call *c, const struct draft_place *p)
{
	registry_draft_joined(fs_registry(c->fs), p->use.node->top->version_id, &c->who);
}

/* What is known of a file's content outlives a change of its names (its ctime moves, and the draft has to hear of it), and goes with the last one. */

/* The name in dirfd is about to be removed or replaced: a descriptor by which to see what becomes of the file, -1 if it has no other name. */
static int hold_others(int dirfd, const char *name, const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_nlink > 1 ? sys_openat(dirfd, name, O_PATH | O_NOFOLLOW, 0) : -1;
}

/* It was. fd: of hold_others. */
static void name_lost(struct draft *d, const struct stat *before, int fd)
{
	struct stat now;

	if (fd >= 0 && sys_fstat(fd, &now) == 0 && now.st_nlink > 0)
		draft_file_restamped(d, now.st_ino, &now);
	else if (S_ISREG(before->st_mode))
		draft_file_touched(d, before->st_ino);
}

static void name_moved(struct draft *d, int dirfd, const char *name)
{
	struct stat now;

	if (sys_fstatat(dirfd, name, &now, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(now.st_mode))
		draft_file_restamped(d, now.st_ino, &now);
}

int draft_own(struct call *c, int dirfd, int fd, mode_t mode, struct stat *ret_st)
{
	struct stat dir, st;
	mode_t wanted = mode & MODE_BITS;
	bool changed = false;
	gid_t gid;
	int r = sys_fstat(fd, &st);

	if (r == 0)
		r = sys_fstat(dirfd, &dir);
	if (r != 0)
		return r;
	gid = dir.st_mode & S_ISGID ? st.st_gid : c->who.gid; /* the file system has passed the directory's group on: inode(7) */
	if (S_ISDIR(st.st_mode))
		wanted |= dir.st_mode & S_ISGID;
	if (st.st_uid != c->who.uid || st.st_gid != gid) {
		r = sys_fchownat(fd, "", c->who.uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
		if (r == -EPERM && geteuid() != 0)
			r = 0; /* an ordinary user's drive: everything is his */
		changed = true;
	}
	/* the kernel has applied the caller's umask; the daemon's own, or the chown, may have taken more away */
	if (r == 0 && !S_ISLNK(st.st_mode) && (changed || (st.st_mode & MODE_BITS) != wanted)) {
		r = sys_fchmod(fd, wanted);
		changed = true;
	}
	if (r == 0 && changed)
		r = sys_fstat(fd, &st);
	if (r == 0)
		*ret_st = st;
	return r;
}

/* `name` was just made in p by the daemon: makes it the caller's and remembers it; on failure it is taken away again. Who only makes directories has
 * written nothing: a shell's `mkdir -p v3/train` ends at once, and the draft goes on with the shell. */
static int adopt(struct call *c, const struct draft_place *p, const char *name, mode_t mode, struct fuse_entry_param *e)
{
	auto_close int fd = sys_openat(p->dir.fd, name, O_PATH | O_NOFOLLOW, 0);
	struct stat st;
	int r = fd < 0 ? fd : draft_own(c, p->dir.fd, fd, mode, &st);

	if (r == 0)
		r = draft_node_remember(p->use.nodes, p->use.node, name, &st, e);
	if (r < 0) {
		unlinkat(p->dir.fd, name, S_ISDIR(mode) ? AT_REMOVEDIR : 0);
		return r;
	}
	if (!S_ISDIR(mode))
		joined(c, p);
	return 0;
}

/* The kernel had looked and found no such name, and holds the directory: what a request that comes again finds there the worker that died had made for it. */
static int made_before(const struct call *c, int r)
{
	return r == -EEXIST && c->again ? 0 : r;
}

int draft_mkdir(struct call *c, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_entry_param *e)
{
	auto_place struct draft_place p = DRAFT_PLACE_INIT;
	int r = draft_check_mode(c, mode, true);

	if (r == 0)
		r = draft_place_begin(c, parent, &p);
	if (r == 0)
		r = made_before(c, sys_mkdirat(p.dir.fd, name, mode & 07777));
	return r != 0 ? r : adopt(c, &p, name, S_IFDIR | mode, e);
}

int draft_mknod(struct call *c, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_entry_param *e)
{
	auto_place struct draft_place p = DRAFT_PLACE_INIT;
	int r;

	if ((mode & S_IFMT) != 0 && !S_ISREG(mode))
		return draft_refuse(c, VERDICT_SPECIAL_FILE, "\"%s\": a version holds files, directories and symbolic links, no devices, pipes or sockets", name);
	r = draft_check_mode(c, mode, false);
	if (r == 0)
		r = draft_place_begin(c, parent, &p);
	if (r == 0)
		r = made_before(c, sys_mknodat(p.dir.fd, name, mode));
	return r != 0 ? r : adopt(c, &p, name, S_IFREG | (mode & 07777), e);
}

int draft_symlink(struct call *c, fuse_ino_t parent, const char *name, const char *target, struct fuse_entry_param *e)
{
	auto_place struct draft_place p = DRAFT_PLACE_INIT;
	int r = draft_place_begin(c, parent, &p);

	if (r == 0)
		r = made_before(c, sys_symlinkat(target, p.dir.fd, name));
	return r != 0 ? r : adopt(c, &p, name, S_IFLNK | 0777, e);
}

int draft_link(struct call *c, fuse_ino_t ino, fuse_ino_t newparent, const char *newname, struct fuse_entry_param *e)
{
	auto_use struct draft_use u = DRAFT_USE_INIT;
	auto_place struct draft_place p = DRAFT_PLACE_INIT;
	auto_dirfd struct draft_dir at = DRAFT_DIR_INIT;
	struct stat st;
	int r = draft_place_begin(c, newparent, &p);

	if (r == 0 && node_tag(ino) != NODE_DRAFT)
		r = -EXDEV;
	if (r == 0)
		r = draft_use_begin(c, ino, &u);
	if (r != 0)
		return r;
	if (u.node->root != p.use.node->root)
		return -EXDEV;
	r = draft_node_reach(u.nodes, u.node, &at, &st);
	if (r == 0)
		r = made_before(c, sys_linkat_fd(at.fd, p.dir.fd, newname));
	if (r < 0)
		return r;
	r = sys_fstat(at.fd, &st);
	if (r == 0) {
		draft_file_restamped(p.change.draft, st.st_ino, &st);
		r = draft_node_remember(p.use.nodes, p.use.node, newname, &st, e);
	}
	if (r < 0) {
		unlinkat(p.dir.fd, newname, 0);
		return r;
	}
	joined(c, &p);
	return 0;
}

static int remove_name(struct call *c, fuse_ino_t parent, const char *name, int flags)
{
	auto_place struct draft_place p = DRAFT_PLACE_INIT;
	auto_close int others = -1;
	struct draft_node *node;
	struct stat st;
	int r = draft_place_begin(c, parent, &p);

	if (r == 0)
		r = sys_fstatat(p.dir.fd, name, &st, AT_SYMLINK_NOFOLLOW);
	if (r == -ENOENT && c->again && p.dir.fd >= 0)
		return 0; /* the worker that died had removed it */
	if (r != 0)
		return r;
	others = hold_others(p.dir.fd, name, &st);
	node = draft_node_leaving(p.use.nodes, p.use.node->root, p.dir.fd, name, &st);
	r = sys_unlinkat(p.dir.fd, name, flags);
	if (r == 0) {
		draft_node_left(p.use.nodes, node, p.use.node, name);
		name_lost(p.change.draft, &st, others);
	}
	draft_node_put(p.use.nodes, node);
	return r;
}

int draft_unlink(struct call *c, fuse_ino_t parent, const char *name)
{
	return remove_name(c, parent, name, 0);
}

int draft_rmdir(struct call *c, fuse_ino_t parent, const char *name)
{
	return remove_name(c, parent, name, AT_REMOVEDIR);
}

/* One end of a rename. */
struct end {
	struct draft_node *dir;
	int dirfd;
	const char *name;
	char *copy;              /* of the other end's name, for the node that comes from here */
	bool exists;
	struct stat st;
	struct draft_node *node; /* in use; NULL: not remembered */
};

static int end_look(struct draft_nodes *n, struct end *e)
{
	int r = sys_fstatat(e->dirfd, e->name, &e->st, AT_SYMLINK_NOFOLLOW);

	e->exists = r == 0;
	if (e->exists)
		e->node = draft_node_leaving(n, e->dir->root, e->dirfd, e->name, &e->st);
	return r == -ENOENT ? 0 : r;
}

/* Had the worker that died carried it out? Two names exchanged look as before: which file was to move it had noted. */
static bool renamed_before(const struct call *c, const struct end *from, const struct end *to, unsigned flags)
{
	if (!(flags & RENAME_EXCHANGE))
		return !from->exists && to->exists;
	return c->hand && to->exists && atomic_load(&c->hand->moving) == to->st.st_ino;
}

/* Under the rename lock. */
static int rename_locked(struct call *c, struct draft_nodes *n, struct draft *d, struct end *from, struct end *to, unsigned flags)
{
	auto_close int others = -1;
	int r = end_look(n, from);

	if (r == 0)
		r = end_look(n, to);
	if (r == 0 && c->again && renamed_before(c, from, to, flags))
		return 0;
	if (c->hand)
		atomic_store(&c->hand->moving, from->exists ? from->st.st_ino : 0);
	if (r == 0 && to->exists)
		others = hold_others(to->dirfd, to->name, &to->st);
	if (r == 0)
		r = sys_renameat2(from->dirfd, from->name, to->dirfd, to->name, flags);
	if (r < 0)
		return r;
	if (to->exists && to->st.st_ino == from->st.st_ino)
		return 0; /* two names of one file: rename(2) leaves both */
	if (flags & RENAME_EXCHANGE) {
		draft_node_moved(n, to->node, from->dir, &to->copy);
		name_moved(d, from->dirfd, from->name);
	} else {
		draft_node_left(n, to->node, to->dir, to->name);
		if (to->exists)
			name_lost(d, &to->st, others);
	}
	draft_node_moved(n, from->node, to->dir, &from->copy);
	name_moved(d, to->dirfd, to->name);
	return 0;
}

int draft_rename(struct call *c, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned flags)
{
	auto_place struct draft_place p = DRAFT_PLACE_INIT;
	auto_use struct draft_use q = DRAFT_USE_INIT;
	auto_dirfd struct draft_dir newdir = DRAFT_DIR_INIT;
	auto_free char *name_copy = strdup(name), *newname_copy = strdup(newname);
	struct end from, to;
	int r;

	if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) || flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	if (!name_copy || !newname_copy)
		return -ENOMEM;
	r = draft_use_begin(c, newparent, &q);
	if (r == 0)
		r = draft_place_begin(c, parent, &p);
	if (r != 0)
		return r;
	if (p.use.node->root != q.node->root)
		return -EXDEV; /* another version: mv(1) copies */
	r = draft_node_dir(q.nodes, q.node, &newdir);
	if (r < 0)
		return r;
	from = (struct end){.dir = p.use.node, .dirfd = p.dir.fd, .name = name, .copy = take_ptr(newname_copy)};
	to = (struct end){.dir = q.node, .dirfd = newdir.fd, .name = newname, .copy = take_ptr(name_copy)};
	draft_renames_lock(q.nodes);
	r = rename_locked(c, q.nodes, p.change.draft, &from, &to, flags);
	draft_renames_unlock(q.nodes);
	draft_node_put(q.nodes, from.node);
	draft_node_put(q.nodes, to.node);
	free(from.copy);
	free(to.copy);
	if (r == 0)
		joined(c, &p);
	return r;
}
