/* Draft nodes: listings.
 *
 * A listing reads the backing directory, and its offsets are those of the backing file system: so telldir and seekdir
 * work, and a name that is removed while the listing goes on makes no other name be left out. */
#include "draft_nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <string.h>

struct listing {
	struct draft_use use;   /* the node stays in use */
	pthread_mutex_t lock;   /* the rest: threads may share one open directory */
	DIR *dir;
	struct dirent *next;    /* read, but not delivered; valid until the next readdir() */
	off_t at;               /* offset that the stream stands at, before `next` if there is one */
	bool ended;             /* there was nothing more at `at` */
	fuse_ino_t twin;        /* not 0: the version is committed, and this directory of it is listed instead */
	struct map64 *told;     /* hashes of the names delivered since offset 0: a commit in the midst goes on with the others */
};

static uint64_t name_hash(const char *name)
{
	uint64_t h = 0xcbf29ce484222325ULL; /* FNV-1a */

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 0x100000001b3ULL;
	return h;
}

static bool was_told(const char *name, void *arg)
{
	struct listing *l = arg;

	return map64_get(l->told, name_hash(name)) != NULL;
}

static void forget_told(struct listing *l)
{
	map64_free(l->told);
	l->told = NULL;
}

static int tell(struct listing *l, const char *name)
{
	if (!l->told && !(l->told = map64_new()))
		return -ENOMEM;
	return map64_put(l->told, name_hash(name), l);
}

static struct listing *listing_of(const struct fuse_file_info *fi)
{
	return (struct listing *)(uintptr_t)fi->fh;
}

static int open_stream(struct draft_use *u, DIR **ret)
{
	auto_dirfd struct draft_dir dir = DRAFT_DIR_INIT;
	int r = draft_node_dir(u->nodes, u->node, &dir);

	return r < 0 ? r : sys_fdopendir(sys_reopen(dir.fd, O_RDONLY | O_DIRECTORY), ret);
}

int draft_opendir(struct call *c, fuse_ino_t ino, struct fuse_file_info *fi)
{
	auto_use struct draft_use u = DRAFT_USE_INIT;
	struct listing *l;
	int r = draft_use_begin(c, ino, &u);

	if (r < 0)
		return r;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	r = draft_node_is_gone(u.nodes, u.node) ? -ESTALE : open_stream(&u, &l->dir);
	if (r == -ESTALE && draft_node_is_gone(u.nodes, u.node))
		r = draft_twin(c, &u, &l->twin);
	if (r < 0) {
		free(l);
		return r;
	}
	pthread_mutex_init(&l->lock, NULL);
	l->use = u;
	u = (struct draft_use)DRAFT_USE_INIT;
	fi->fh = (uint64_t)(uintptr_t)l;
	return 0;
}

int draft_releasedir(struct call *c, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct listing *l = listing_of(fi);

	pthread_mutex_lock(&l->lock); /* the kernel has seen the reply of the last reader; we see that it has left */
	if (l->dir)
		closedir(l->dir);
	map64_free(l->told);
	pthread_mutex_unlock(&l->lock);
	draft_use_end(&l->use);
	pthread_mutex_destroy(&l->lock);
	free(l);
	return 0;
}

/* The entry after l->at; *ret is NULL at the end. */
static int next_entry(struct listing *l, struct dirent **ret)
{
	if (!l->next) {
		errno = 0;
		l->next = readdir(l->dir);
		if (!l->next && errno != 0)
			return -errno;
	}
	*ret = l->next;
	return 0;
}

/* Inode number of ".." in a listing. The version's parent is its model. */
static fuse_ino_t parent_of(const struct listing *l)
{
	const struct draft_node *node = l->use.node;

	return node->root == node ? node_make(NODE_DIR, (uint64_t)node->top->model_id) : draft_node_parent(l->use.nodes, node);
}

/* What is known without asking the file system. */
static void bare_entry(const struct listing *l, const struct dirent *d, struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){.attr.st_ino = node_make(NODE_DRAFT, d->d_ino), .attr.st_mode = DTTOIF(d->d_type)};
	if (strcmp(d->d_name, ".") == 0)
		e->attr.st_ino = l->use.node->ino;
	else if (strcmp(d->d_name, "..") == 0)
		e->attr.st_ino = parent_of(l);
}

static bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Delivers one entry; *ret_full: there was no room for it. */
static int deliver(struct listing *l, const struct dirent *d, const struct draft_dir *dir, bool lookups,
	struct dir_sink *sink, bool *ret_full)
{
	struct fuse_entry_param e;
	struct stat st;
	int r;

	bare_entry(l, d, &e);
	if (lookups && !is_dot(d->d_name)) {
		r = sys_fstatat(dir->fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW);
		if (r == 0)
			r = draft_node_remember(l->use.nodes, l->use.node, d->d_name, &st, &e);
		if (r == -ENOENT)
			return 0; /* removed since it was read */
		if (r < 0)
			return r;
		draft_keep_dir(&l->use, &e);
	}
	*ret_full = !dir_sink_add(sink, d->d_name, &e, d->d_off);
	if (*ret_full && e.ino)
		draft_node_forget(l->use.nodes, e.ino, 1);
	return 0;
}

static int read_backing(struct listing *l, off_t offset, struct dir_sink *sink)
{
	auto_dirfd struct draft_dir dir = DRAFT_DIR_INIT;
	bool full = false, lookups = dir_sink_plus(sink);
	struct dirent *d = NULL;
	int r = lookups ? draft_node_dir(l->use.nodes, l->use.node, &dir) : 0;

	if (r < 0)
		return r;
	if (offset != l->at) {
		seekdir(l->dir, offset);
		l->at = offset;
		l->next = NULL;
	} else if (offset == 0 && !l->next) {
		rewinddir(l->dir); /* to see what was added since */
	}
	l->ended = false;
	while (!full) {
		r = next_entry(l, &d);
		l->ended = r == 0 && !d;
		if (r < 0 || !d)
			break;
		r = deliver(l, d, &dir, lookups, sink, &full);
		if (r < 0)
			break;
		if (!full) {
			r = tell(l, d->d_name);
			if (r < 0)
				break;
			l->at = d->d_off;
			l->next = NULL;
		}
	}
	return r;
}

/* The version is committed: its directory is listed from the start, without what this listing has told already. */
static int read_twin(struct call *c, struct listing *l, off_t offset, struct dir_sink *sink, const struct fuse_file_info *fi)
{
	struct fuse_file_info twin_fi = *fi;
	int r;

	if (!l->twin) {
		if (l->ended && offset == l->at)
			return 0;
		r = draft_twin(c, &l->use, &l->twin);
		if (r < 0)
			return r;
		if (offset != 0)
			offset = 0; /* offsets are others there */
		else
			forget_told(l);
	} else if (offset == 0) {
		forget_told(l); /* begun anew */
	}
	if (l->told)
		dir_sink_skip(sink, was_told, l);
	twin_fi.fh = 0;
	return committed_ops.readdir(c, l->twin, offset, sink, &twin_fi);
}

int draft_readdir(struct call *c, fuse_ino_t ino, off_t offset, struct dir_sink *sink, struct fuse_file_info *fi)
{
	struct listing *l = listing_of(fi);
	int r;
	SCOPED_LOCK(&l->lock);

	if (l->twin || draft_node_is_gone(l->use.nodes, l->use.node))
		return read_twin(c, l, offset, sink, fi);
	if (offset == 0)
		forget_told(l);
	r = read_backing(l, offset, sink);
	return r == -ESTALE && l->at == offset && draft_node_is_gone(l->use.nodes, l->use.node) ? read_twin(c, l, offset, sink, fi) : r;
}

int draft_fsyncdir(struct call *c, fuse_ino_t ino, int datasync)
{
	auto_use struct draft_use u = DRAFT_USE_INIT;
	auto_dirfd struct draft_dir dir = DRAFT_DIR_INIT;
	auto_draft struct draft *d = NULL;
	auto_close int fd = -1;
	int r = draft_use_begin(c, ino, &u);

	if (r < 0)
		return r;
	r = draft_writable(c, u.node, &d);
	if (r == -EROFS) { /* nothing here was changed by us, or it is durable since the commit */
		c->fault = (struct fault)FAULT_INIT;
		return 0;
	}
	if (r == 0)
		r = registry_draft_anchor(fs_registry(c->fs), u.node->top->version_id);
	if (r == 0)
		r = draft_node_dir(u.nodes, u.node, &dir);
	if (r < 0)
		return r;
	fd = sys_reopen(dir.fd, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	return datasync ? sys_fdatasync(fd) : sys_fsync(fd);
}
