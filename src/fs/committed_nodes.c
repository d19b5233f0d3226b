/* Committed versions: their directory, and the files, directories and links in them.
 *
 * Everything is computed from the catalog's rows, which never change, so nothing is remembered here and the kernel may believe all of it for a day.
 * Only the version's own directory has a short life in its caches: the version may be retired. And a directory that the kernel knows since it was a draft's
 * is told by that number (draft_twins.c), as its entry, as "." and as "..".
 *
 * A listing's offset is 1 after ".", 2 after "..", 3 + i after the entry i of the directory: the children of a directory have consecutive ids. */
#include "draft_table.h"
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <stdio.h>
#include <string.h>

#define WRITE_BITS 0222
#define AFTER_DOT 1
#define AFTER_DOTDOT 2

static int version_get(struct fs *fs, int64_t id, struct catalog_version *ret)
{
	auto_read struct catalog_conn *conn = NULL;
	int r = registry_read_begin(fs->registry, &conn);
	return r < 0 ? r : catalog_version_get(conn, id, ret);
}

static int file_get(struct fs *fs, int64_t id, struct catalog_file *ret)
{
	auto_read struct catalog_conn *conn = NULL;
	int r = registry_read_begin(fs->registry, &conn);
	return r < 0 ? r : catalog_file_get(conn, id, ret);
}

int committed_refuse(struct call *c, fuse_ino_t ino)
{
	struct catalog_version v = {0};
	struct catalog_file file;
	char path[CATALOG_PATH_MAX] = "";
	int64_t id = (int64_t)node_value(ino);

	if (node_tag(ino) == NODE_FILE)
		id = file_get(c->fs, id, &file) == 0 ? file.version_id : 0;
	if (version_get(c->fs, id, &v) < 0 || registry_dir_path(c->fs->registry, v.model_id, path, sizeof path) < 0)
		return fault_set(&c->fault, EROFS, "a committed version does not change");
	fault_set(&c->fault, EROFS, "v%u of %s is committed and does not change; mkdir %s/latest makes a new version", v.number, path, path);
	c->fault.verdict = VERDICT_IMMUTABLE;
	return -EROFS;
}

static void version_stat(const struct catalog_version *v, struct stat *st)
{
	node_stat(node_make(NODE_VERSION, (uint64_t)v->id), S_IFDIR | (v->mode & ~(mode_t)WRITE_BITS), v->uid, v->gid, v->mtime_ns, st);
	st->st_ctim = ns_timespec(v->committed_ns);
	st->st_nlink = v->n_dirs + 2;
}

static mode_t type_bits(enum catalog_type t)
{
	switch (t) {
	case CATALOG_FILE:
		return S_IFREG;
	case CATALOG_DIRECTORY:
		return S_IFDIR;
	case CATALOG_SYMLINK:
		return S_IFLNK;
	}
	return S_IFREG;
}

static void file_stat(const struct catalog_file *f, struct stat *st)
{
	mode_t mode = f->type == CATALOG_SYMLINK ? 0777 : f->mode & ~(mode_t)(WRITE_BITS | S_ISUID | (f->type == CATALOG_FILE ? S_ISGID : 0));

	node_stat(node_make(NODE_FILE, (uint64_t)f->inode), type_bits(f->type) | mode, f->uid, f->gid, f->mtime_ns, st);
	st->st_size = (off_t)f->size;
	st->st_blocks = (blkcnt_t)f->blocks;
	if (f->nlink > 0)
		st->st_nlink = f->nlink;
}

static void file_entry(const struct catalog_file *f, struct fuse_entry_param *e)
{
	struct stat st;

	file_stat(f, &st);
	node_entry(&st, TIMEOUT_COMMITTED, TIMEOUT_COMMITTED, e);
}

int committed_version_entry(struct fs *fs, const struct catalog_version *v, struct fuse_entry_param *e)
{
	struct stat st;

	version_stat(v, &st);
	node_entry(&st, TIMEOUT_LAYOUT, TIMEOUT_LAYOUT, e);
	return 0;
}

static int committed_lookup(struct call *c, fuse_ino_t parent, const char *name, struct fuse_entry_param *e)
{
	struct catalog_file f;
	int64_t id = (int64_t)node_value(parent);
	auto_read struct catalog_conn *conn = NULL;
	int r = registry_read_begin(c->fs->registry, &conn);

	if (r == 0)
		r = catalog_file_find(conn, node_tag(parent) == NODE_VERSION ? -id : id, name, &f);
	if (r != 0)
		return r;
	file_entry(&f, e);
	if (f.type == CATALOG_DIRECTORY && draft_twins_any(c->fs->draft_nodes)) {
		draft_twins_settle(c->fs->draft_nodes, conn, f.version_id);
		draft_twins_lookup(c->fs->draft_nodes, f.id, e);
	}
	return 0;
}

static int committed_getattr(struct call *c, fuse_ino_t ino, struct stat *st, double *timeout)
{
	struct catalog_version v;
	struct catalog_file f;
	int r;

	if (node_tag(ino) == NODE_VERSION) {
		r = version_get(c->fs, (int64_t)node_value(ino), &v);
		if (r < 0)
			return r;
		version_stat(&v, st);
		*timeout = TIMEOUT_LAYOUT;
		return 0;
	}
	r = file_get(c->fs, (int64_t)node_value(ino), &f);
	if (r < 0)
		return r;
	file_stat(&f, st);
	*timeout = TIMEOUT_COMMITTED;
	return 0;
}

static int committed_setattr(struct call *c, fuse_ino_t ino, const struct stat *to, int to_set, struct open_file *of, struct stat *st, double *timeout)
{
	struct stat now;
	double valid;
	int r = committed_getattr(c, ino, &now, &valid);

	if (r < 0)
		return r;
	if (!node_setattr_is_nothing(&now, to, to_set))
		return committed_refuse(c, ino);
	*st = now;
	*timeout = valid;
	return 0;
}

static int committed_readlink(struct call *c, fuse_ino_t ino, char *out, size_t size)
{
	auto_read struct catalog_conn *conn = NULL;
	int r = registry_read_begin(c->fs->registry, &conn);
	return r < 0 ? r : catalog_file_target(conn, (int64_t)node_value(ino), out, size);
}

/* The kernel reopens a backing file with the client's flags and our rights, so this is the wall against writing, not the mode of the blob. */
static int open_content(struct call *c, fuse_ino_t ino, struct fuse_file_info *fi, bool may_be_small)
{
	struct catalog_file f;
	struct open_file proto = {.fd = -1, .path_fd = -1, .ino = ino};
	int r;

	if (node_tag(ino) != NODE_FILE)
		return -EISDIR;
	if ((fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC))
		return committed_refuse(c, ino);
	r = file_get(c->fs, (int64_t)node_value(ino), &f);
	if (r < 0)
		return r;
	if (f.type != CATALOG_FILE)
		return f.type == CATALOG_DIRECTORY ? -EISDIR : -ELOOP;
	proto.version_id = f.version_id;
	r = registry_file_open(c->fs->registry, &f, &proto.fd, &c->fault);
	if (r < 0)
		return r;
	registry_reading(c->fs->registry, f.version_id, &c->who);
	if (may_be_small && small_file_remember(c->fs, ino, &f)) {
		close(proto.fd);
		small_file_opened(fi);
		return 0;
	}
	r = open_file_begin(c, &proto, fi);
	if (r < 0)
		close(proto.fd);
	return r;
}

static int committed_open(struct call *c, fuse_ino_t ino, struct fuse_file_info *fi)
{
	int64_t version_id;

	if ((fi->flags & O_ACCMODE) == O_RDONLY && !(fi->flags & O_TRUNC) && small_file_known(c->fs, ino, &version_id)) {
		registry_reading(c->fs->registry, version_id, &c->who);
		small_file_opened(fi);
		return 0;
	}
	return open_content(c, ino, fi, true);
}

int committed_open_as(struct call *c, fuse_ino_t ino, struct fuse_file_info *fi)
{
	return open_content(c, ino, fi, false);
}

struct children {
	fuse_ino_t self, parent;
	int64_t version_id, first;
	uint32_t n;
};

static int find_children(struct fs *fs, fuse_ino_t ino, struct children *ret)
{
	struct catalog_version v;
	struct catalog_file f;
	int64_t id = (int64_t)node_value(ino);
	int r;

	if (node_tag(ino) == NODE_VERSION) {
		r = version_get(fs, id, &v);
		if (r < 0)
			return r;
		*ret = (struct children){ino, layout_dir_node(fs, v.model_id), id, v.first_child, v.n_children};
		return 0;
	}
	r = file_get(fs, id, &f);
	if (r < 0)
		return r;
	fuse_ino_t parent = f.parent < 0 ? node_make(NODE_VERSION, (uint64_t)-f.parent) : node_make(NODE_FILE, (uint64_t)f.parent);
	*ret = (struct children){ino, parent, f.version_id, f.first_child, f.n_children};
	return 0;
}

static int committed_opendir(struct call *c, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct children k = {.version_id = (int64_t)node_value(ino)};
	bool cached = !draft_twins_stand(c->fs->draft_nodes);

	if (!cached) { /* numbers that will be others when the kernel has forgotten the draft's are not for its caches */
		int r = node_tag(ino) == NODE_VERSION ? 0 : find_children(c->fs, ino, &k);
		if (r < 0)
			return r;
		cached = !draft_twins_has(c->fs->draft_nodes, k.version_id);
	}
	fi->cache_readdir = fi->keep_cache = cached;
	return 0;
}

struct list {
	struct dir_sink *sink;
	int64_t first;
	struct draft_nodes *twins; /* NULL: the version has none */
};

/* The number by which a directory is told. */
static fuse_ino_t number_of(struct draft_nodes *twins, fuse_ino_t ino)
{
	fuse_ino_t twin = twins && node_tag(ino) == NODE_FILE ? draft_twins_number(twins, (int64_t)node_value(ino)) : 0;

	return twin ? twin : ino;
}

static int list_one(const struct catalog_file *f, void *arg)
{
	struct list *l = arg;
	struct fuse_entry_param e;
	bool counted = false;

	if (dir_sink_skips(l->sink, f->name))
		return 0;
	file_entry(f, &e);
	if (l->twins && f->type == CATALOG_DIRECTORY && dir_sink_plus(l->sink))
		counted = draft_twins_lookup(l->twins, f->id, &e);
	else if (f->type == CATALOG_DIRECTORY)
		e.attr.st_ino = number_of(l->twins, e.ino);
	if (dir_sink_add(l->sink, f->name, &e, AFTER_DOTDOT + 1 + (f->id - l->first)))
		return 0;
	if (counted)
		draft_node_forget(l->twins, e.ino, 1);
	return 1;
}

/* NULL: the kernel knows no directory of the version by its draft's number. */
static struct draft_nodes *twins_of(struct fs *fs, struct catalog_conn *conn, int64_t version_id)
{
	if (!draft_twins_has(fs->draft_nodes, version_id))
		return NULL;
	draft_twins_settle(fs->draft_nodes, conn, version_id);
	return fs->draft_nodes;
}

static int committed_readdir(struct call *c, fuse_ino_t ino, off_t offset, struct dir_sink *sink, struct fuse_file_info *fi)
{
	struct children k;
	struct fuse_entry_param dot = {.attr = {.st_mode = S_IFDIR}};
	int r = find_children(c->fs, ino, &k);

	if (r < 0)
		return r;
	auto_read struct catalog_conn *conn = NULL;
	r = registry_read_begin(c->fs->registry, &conn);
	if (r < 0)
		return r;
	struct list l = {.sink = sink, .first = k.first, .twins = twins_of(c->fs, conn, k.version_id)};
	dot.attr.st_ino = number_of(l.twins, k.self);
	if (offset < AFTER_DOT && !dir_sink_add(sink, ".", &dot, AFTER_DOT))
		return 0;
	dot.attr.st_ino = number_of(l.twins, k.parent);
	if (offset < AFTER_DOTDOT && !dir_sink_add(sink, "..", &dot, AFTER_DOTDOT))
		return 0;
	/* whoever reads a directory chooses the offset: beyond its end there are no entries, and none of another version's */
	int64_t from = range_end(k.first, offset > AFTER_DOTDOT ? offset - AFTER_DOTDOT : 0), end = range_end(k.first, k.n);
	if (from >= end)
		return 0;
	r = catalog_file_range(conn, from, end, list_one, &l);
	return r < 0 ? r : 0;
}

static int committed_xattrs(struct call *c, fuse_ino_t ino, registry_attr_fn *fn, void *arg)
{
	struct catalog_file f;
	int64_t id = (int64_t)node_value(ino);

	if (node_tag(ino) == NODE_VERSION)
		return registry_version_attrs(c->fs->registry, id, NULL, fn, arg);
	int r = file_get(c->fs, id, &f);
	return r < 0 ? r : registry_version_attrs(c->fs->registry, f.version_id, &f, fn, arg);
}

/* To commit once more changes nothing, so it succeeds. */
static int committed_setxattr(struct call *c, fuse_ino_t ino, const char *name, const char *value, size_t size)
{
	if (node_tag(ino) == NODE_VERSION && strcmp(name, "user.mintfs.commit") == 0)
		return 0;
	if (node_tag(ino) == NODE_VERSION && strcmp(name, "user.mintfs.discard") == 0)
		return committed_refuse(c, ino);
	return -EOPNOTSUPP;
}

const struct node_ops committed_ops = {
	.lookup = committed_lookup,
	.getattr = committed_getattr,
	.setattr = committed_setattr,
	.readlink = committed_readlink,
	.open = committed_open,
	.opendir = committed_opendir,
	.readdir = committed_readdir,
	.xattrs = committed_xattrs,
	.setxattr = committed_setxattr,
};
