/* The class of draft nodes: a plain directory tree on the store's file system, mirrored. Here: attributes, what is special
 * about the version's own directory, whose chmod commits, and what those meet who are still in a draft after its commit.
 * Names: draft_ops_tree.c. Files: draft_ops_open.c. Listings: draft_ops_dir.c. How each operation begins: draft_use.c. */
#include "draft_nodes.h"
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define WRITE_BITS 0222

int draft_nodes_new(struct fs *fs, struct draft_nodes **ret)
{
	struct rlimit limit = {.rlim_cur = 1024};

	getrlimit(RLIMIT_NOFILE, &limit);
	return draft_table_new(fs->keep, (size_t)(limit.rlim_cur / 4), ret); /* see shares.c for the rest */
}

/* ---- a version that was committed, for those who are still in its draft ---- */

int draft_twin(struct call *c, const struct draft_use *u, fuse_ino_t *ret)
{
	int64_t version_id = u->node->top->version_id;
	auto_read struct catalog_conn *conn = NULL;
	char buffer[PATH_MAX], name[NAME_MAX + 1];
	struct catalog_version v;
	struct catalog_file file = {.id = -version_id};
	const char *path;
	int64_t twin = draft_twins_id(u->nodes, u->node->ino);
	int r;

	if (twin) {
		*ret = node_make(NODE_FILE, (uint64_t)twin);
		return 0;
	}
	r = draft_node_path(u->nodes, u->node, buffer, &path);
	if (r == 0)
		r = registry_read_begin(fs_registry(c->fs), &conn);
	if (r == 0)
		r = catalog_version_get(conn, version_id, &v);
	if (r == 0 && v.state != CATALOG_COMMITTED && v.state != CATALOG_RETIRED)
		r = -ESTALE;
	while (r == 0 && *path) {
		size_t len = strcspn(path, "/");
		snprintf(name, sizeof(name), "%.*s", (int)len, path);
		path += len + (path[len] == '/');
		r = catalog_file_find(conn, file.id, name, &file);
	}
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	*ret = file.id < 0 ? node_make(NODE_VERSION, (uint64_t)version_id) : node_make(NODE_FILE, (uint64_t)file.inode);
	return 0;
}

/* ---- attributes ---- */

/* The version is gone, perhaps since this lookup began: then the tree is being removed, or a node of it is told no more. */
static int lookup_gone(struct call *c, const struct draft_use *u, const char *name, struct fuse_entry_param *e)
{
	fuse_ino_t twin;
	int r = draft_twin(c, u, &twin);

	return r < 0 ? r : committed_ops.lookup(c, twin, name, e);
}

void draft_keep_dir(const struct draft_use *u, const struct fuse_entry_param *e)
{
	auto_dirfd struct draft_dir dir = DRAFT_DIR_INIT;
	struct draft_node *node;

	if (!S_ISDIR(e->attr.st_mode) || !atomic_load(&u->node->top->elsewhere) || draft_node_get(u->nodes, e->ino, &node) < 0)
		return;
	draft_node_dir(u->nodes, node, &dir);
	draft_node_put(u->nodes, node);
}

int draft_lookup(struct call *c, fuse_ino_t parent, const char *name, struct fuse_entry_param *e)
{
	auto_use struct draft_use u = DRAFT_USE_INIT;
	auto_dirfd struct draft_dir dir = DRAFT_DIR_INIT;
	struct stat st;
	int r = draft_use_begin(c, parent, &u);

	if (r < 0)
		return r;
	if (draft_node_is_gone(u.nodes, u.node))
		return lookup_gone(c, &u, name, e);
	r = draft_node_dir(u.nodes, u.node, &dir);
	if (r == 0)
		r = sys_fstatat(dir.fd, name, &st, AT_SYMLINK_NOFOLLOW);
	if (r == 0)
		r = draft_node_remember(u.nodes, u.node, name, &st, e);
	if (r == 0)
		draft_keep_dir(&u, e);
	return (r == -ENOENT || r == -ESTALE) && draft_node_is_gone(u.nodes, u.node) ? lookup_gone(c, &u, name, e) : r;
}

/* Of a node whose version is gone: as in the committed version, or (unnamed) by its pin. */
static int gone_attributes(struct call *c, struct draft_use *u, struct stat *st)
{
	double ignored;
	fuse_ino_t twin;
	int r = draft_twin(c, u, &twin);

	r = r == 0 ? committed_ops.getattr(c, twin, st, &ignored) : draft_node_stat(u->nodes, u->node, st);
	if (r == 0)
		st->st_mode &= ~(mode_t)WRITE_BITS;
	return r;
}

static int get_attributes(struct call *c, struct draft_use *u, struct stat *st, double *timeout)
{
	int r = draft_node_is_gone(u->nodes, u->node) ? -ESTALE : draft_node_stat(u->nodes, u->node, st);

	if (r == -ESTALE && draft_node_is_gone(u->nodes, u->node))
		r = gone_attributes(c, u, st);
	if (r < 0)
		return r;
	st->st_ino = u->node->ino;
	*timeout = TIMEOUT_DRAFT;
	return 0;
}

static int draft_getattr(struct call *c, fuse_ino_t ino, struct stat *st, double *timeout)
{
	auto_use struct draft_use u = DRAFT_USE_INIT;
	int r = draft_use_begin(c, ino, &u);

	return r < 0 ? r : get_attributes(c, &u, st, timeout);
}

int draft_truncate(struct draft *d, int fd, ino_t backing, off_t size)
{
	int data = sys_reopen(fd, O_WRONLY), r, closed;

	if (data < 0)
		return data;
	r = sys_ftruncate(data, size);
	closed = sys_close(data);
	draft_file_touched(d, backing);
	return r < 0 ? r : closed;
}

static int set_owner(int fd, const struct stat *to, int to_set)
{
	uid_t uid = to_set & FUSE_SET_ATTR_UID ? to->st_uid : (uid_t)-1;
	gid_t gid = to_set & FUSE_SET_ATTR_GID ? to->st_gid : (gid_t)-1;

	return sys_fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
}

static int set_times(int fd, const struct stat *to, int to_set)
{
	struct timespec ts[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};

	if (to_set & FUSE_SET_ATTR_ATIME)
		ts[0] = to->st_atim;
	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		ts[0].tv_nsec = UTIME_NOW;
	if (to_set & FUSE_SET_ATTR_MTIME)
		ts[1] = to->st_mtim;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		ts[1].tv_nsec = UTIME_NOW;
	return sys_utimensat(fd, "", ts, AT_EMPTY_PATH);
}

#define SETS_TIMES (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)

/* In the order in which one does not undo the other: a chown clears mode bits, a truncation sets times. */
static int apply(struct draft *d, int fd, const struct stat *now, const struct stat *to, int to_set, struct open_file *of)
{
	int r = 0;

	if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		r = set_owner(fd, to, to_set);
	if (r == 0 && (to_set & FUSE_SET_ATTR_MODE))
		r = sys_fchmod(fd, to->st_mode & MODE_BITS);
	if (r == 0 && (to_set & FUSE_SET_ATTR_SIZE))
		r = of && of->writable ? sys_ftruncate(of->fd, to->st_size) : draft_truncate(d, fd, now->st_ino, to->st_size);
	if (r == 0 && (to_set & SETS_TIMES))
		r = set_times(fd, to, to_set);
	return r;
}

/* The bits of the version's directory besides the write bits, as they shall be once it is committed. *ret_before:
 * what they were. */
static int set_root_mode(struct call *c, fuse_ino_t ino, mode_t mode, mode_t *ret_before)
{
	auto_use struct draft_use u = DRAFT_USE_INIT;
	auto_change struct draft_change change = DRAFT_CHANGE_INIT;
	struct stat st;
	int r = draft_use_begin(c, ino, &u);

	if (r == 0)
		r = draft_node_stat(u.nodes, u.node, &st);
	if (r != 0)
		return r;
	*ret_before = st.st_mode & MODE_BITS;
	if ((*ret_before & ~(mode_t)WRITE_BITS) == mode)
		return 0;
	r = draft_change_open(c, u.node, &change);
	return r < 0 ? r : sys_fchmod(u.node->top->fd, mode | (*ret_before & WRITE_BITS));
}

/* chmod a-w on the version's directory. */
static int commit_by_chmod(struct call *c, fuse_ino_t ino, mode_t mode, struct stat *st, double *timeout)
{
	struct registry *reg = fs_registry(c->fs);
	int64_t id = (int64_t)node_value(ino);
	struct fuse_entry_param e;
	struct catalog_conn *conn;
	struct catalog_version v;
	mode_t before = mode, ignored;
	int r = set_root_mode(c, ino, mode, &before);

	if (r < 0)
		return r;
	r = registry_commit(reg, &c->who, id, NULL, &c->fault);
	if (r < 0) {
		struct fault kept = c->fault;
		if ((before & ~(mode_t)WRITE_BITS) != mode)
			set_root_mode(c, ino, before & ~(mode_t)WRITE_BITS, &ignored); /* a refused commit leaves all as it was */
		c->fault = kept;
		return r;
	}
	r = registry_read_begin(reg, &conn);
	if (r < 0)
		return r;
	r = catalog_version_get(conn, id, &v);
	catalog_read_end(conn);
	if (r == 0)
		r = committed_version_entry(c->fs, &v, &e);
	if (r != 0)
		return r;
	*st = e.attr;
	*timeout = e.attr_timeout;
	return 0;
}

/* `chmod -R a-w` goes on after its first chmod has committed: what changes nothing succeeds. */
static int set_gone(struct call *c, struct draft_use *u, const struct stat *to, int to_set, struct stat *st, double *timeout)
{
	struct stat now;
	double valid;
	int r = get_attributes(c, u, &now, &valid);

	if (r == 0 && !node_setattr_is_nothing(&now, to, to_set))
		r = draft_refuse_state(c, u->node, -EROFS);
	if (r < 0)
		return r;
	*st = now;
	*timeout = valid;
	return 0;
}

static int draft_setattr(struct call *c, fuse_ino_t ino, const struct stat *to, int to_set, struct open_file *of,
	struct stat *st, double *timeout)
{
	auto_use struct draft_use u = DRAFT_USE_INIT;
	auto_change struct draft_change change = DRAFT_CHANGE_INIT;
	auto_dirfd struct draft_dir at = DRAFT_DIR_INIT;
	struct stat now;
	int r;

	if (node_tag(ino) == NODE_VERSION && (to_set & FUSE_SET_ATTR_MODE) && !(to->st_mode & WRITE_BITS))
		return commit_by_chmod(c, ino, to->st_mode & MODE_BITS, st, timeout);
	r = draft_use_begin(c, ino, &u);
	if (r < 0)
		return r;
	if (draft_node_is_gone(u.nodes, u.node))
		return set_gone(c, &u, to, to_set, st, timeout);
	r = to_set & FUSE_SET_ATTR_MODE ? draft_check_mode(c, to->st_mode, S_ISDIR(u.node->type)) : 0;
	if (r == 0)
		r = draft_change_open(c, u.node, &change);
	if (r == 0)
		r = draft_node_reach(u.nodes, u.node, &at, &now);
	if (r == 0)
		r = apply(change.draft, at.fd, &now, to, to_set, of);
	if (r == 0)
		r = sys_fstat(at.fd, &now);
	if (r != 0)
		return r;
	if (!(to_set & FUSE_SET_ATTR_SIZE))
		draft_file_restamped(change.draft, now.st_ino, &now);
	now.st_ino = ino;
	*st = now;
	*timeout = TIMEOUT_DRAFT;
	return 0;
}

static int draft_readlink(struct call *c, fuse_ino_t ino, char *out, size_t size)
{
	auto_use struct draft_use u = DRAFT_USE_INIT;
	auto_dirfd struct draft_dir at = DRAFT_DIR_INIT;
	fuse_ino_t twin;
	struct stat st;
	ssize_t n;
	int r = draft_use_begin(c, ino, &u);

	if (r < 0)
		return r;
	if (draft_node_is_gone(u.nodes, u.node) && draft_twin(c, &u, &twin) == 0)
		return committed_ops.readlink(c, twin, out, size);
	r = draft_node_reach(u.nodes, u.node, &at, &st);
	if (r < 0)
		return r;
	n = sys_readlinkat(at.fd, "", out, size);
	return n < 0 ? (int)n : 0;
}

/* ---- user.mintfs.* ---- */

struct attr_filter {
	registry_attr_fn *fn;
	void *arg;
};

/* Of what is said of the version, that which holds for each of its files too. */
static int filter_attr(const char *name, const char *value, void *arg)
{
	static const char *const common[] = {"version", "state", "run", "created", "model"};
	struct attr_filter *f = arg;

	for (size_t i = 0; i < ARRAY_SIZE(common); i++) {
		if (strcmp(name, common[i]) == 0)
			return f->fn(name, value, f->arg);
	}
	return 0;
}

static int draft_xattrs(struct call *c, fuse_ino_t ino, registry_attr_fn *fn, void *arg)
{
	auto_use struct draft_use u = DRAFT_USE_INIT;
	struct attr_filter filter = {fn, arg};
	char size[24];
	struct stat st;
	double ignored;
	fuse_ino_t twin;
	int r = draft_use_begin(c, ino, &u);

	if (r < 0)
		return r;
	if (draft_node_is_gone(u.nodes, u.node) && draft_twin(c, &u, &twin) == 0)
		return committed_ops.xattrs(c, twin, fn, arg);
	if (node_tag(ino) == NODE_VERSION)
		return registry_version_attrs(fs_registry(c->fs), u.node->top->version_id, NULL, fn, arg);
	r = get_attributes(c, &u, &st, &ignored);
	if (r == 0)
		r = registry_version_attrs(fs_registry(c->fs), u.node->top->version_id, NULL, filter_attr, &filter);
	if (r < 0 || !S_ISREG(st.st_mode))
		return r;
	snprintf(size, sizeof(size), "%lld", (long long)st.st_size);
	return fn("size", size, arg);
}

/* `setfattr -n user.mintfs.commit -v MESSAGE vN`, `setfattr -n user.mintfs.discard [-v force] vN`: for those who have
 * no command line at hand. */
static int draft_setxattr(struct call *c, fuse_ino_t ino, const char *name, const char *value, size_t size)
{
	struct registry *reg = fs_registry(c->fs);
	int64_t id = (int64_t)node_value(ino);
	auto_free char *text = NULL;

	if (node_tag(ino) != NODE_VERSION)
		return -EOPNOTSUPP;
	text = strndup(value, size);
	if (!text)
		return -ENOMEM;
	if (strcmp(name, "user.mintfs.commit") == 0)
		return registry_commit(reg, &c->who, id, text[0] ? text : NULL, &c->fault);
	if (strcmp(name, "user.mintfs.discard") == 0 && c->again && draft_version_state(c->fs, id) == CATALOG_DISCARDED)
		return 0; /* by the worker that died */
	if (strcmp(name, "user.mintfs.discard") == 0)
		return registry_discard(reg, &c->who, id, strcmp(text, "force") == 0 ? REGISTRY_DISCARD_FORCE : 0, &c->fault);
	return -EOPNOTSUPP;
}

/* ---- the version's directory as an entry of its model ---- */

int draft_version_entry(struct fs *fs, const struct catalog_version *v, struct fuse_entry_param *e)
{
	auto_draft struct draft *d = NULL;
	struct stat st;
	bool writable;
	int r = registry_draft_get(fs_registry(fs), v->id, &d, &writable);

	if (r == 0)
		r = sys_fstat(draft_root(d), &st);
	if (r < 0)
		return r;
	*e = (struct fuse_entry_param){
		.ino = node_make(NODE_VERSION, (uint64_t)v->id),
		.attr = st,
		.attr_timeout = TIMEOUT_DRAFT,
		.entry_timeout = TIMEOUT_DRAFT,
	};
	e->attr.st_ino = e->ino;
	return 0;
}

static void draft_forget(struct fs *fs, fuse_ino_t ino, uint64_t nlookup)
{
	draft_node_forget(fs_draft_nodes(fs), ino, nlookup);
}

const struct node_ops draft_ops = {
	.lookup = draft_lookup,
	.getattr = draft_getattr,
	.setattr = draft_setattr,
	.readlink = draft_readlink,
	.mkdir = draft_mkdir,
	.mknod = draft_mknod,
	.symlink = draft_symlink,
	.unlink = draft_unlink,
	.rmdir = draft_rmdir,
	.rename = draft_rename,
	.link = draft_link,
	.open = draft_open,
	.create = draft_create,
	.opendir = draft_opendir,
	.readdir = draft_readdir,
	.releasedir = draft_releasedir,
	.fsyncdir = draft_fsyncdir,
	.xattrs = draft_xattrs,
	.setxattr = draft_setxattr,
	.forget = draft_forget,
};
