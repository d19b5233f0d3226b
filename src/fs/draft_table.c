/* The table of draft nodes: counts, names, descriptors.
 *
 * Invariants (all under `lock`):
 *   - A node is freed when nothing counts on it: nlookup, links, users and opens are all 0.
 *   - name and parent are set together. A node without them that is no root is *unnamed*; it has a descriptor, or it
 *     is lost (-ESTALE).
 *   - A file's descriptor (pin) exists while it is unnamed or open. So the inode number of a remembered file cannot
 *     pass to a new file of the draft. If a pin could not be had, or the version is gone and its tree removed, the
 *     number may come back while the kernel still has the old node, open perhaps by its twin: then the new file gets
 *     an ino of its own, above OTHERS. (Not the same one with another generation: the kernel would make the old inode
 *     a bad one under its readers, and both would have one route of data.)
 *   - A descriptor is never closed while the node has users, nor that of a directory that goes on after the commit (twin).
 *
 * Finding the backing file races with renames: name and parent are copied under `lock` and used without it. Whoever
 * then meets another inode, or nothing, tries once more under `renames`, which is held around each renameat2 until
 * the table knows of it.
 *
 * Lock order: settling, renames, lock. Nothing that can wait is done under `lock`; descriptors are closed, and drafts put,
 * after it (struct trash). */
#include "draft_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <string.h>

#define OTHERS (UINT64_C(1) << (NODE_VALUE_BITS - 1)) /* no file system counts its inodes up to here */

static int fd_of(const struct draft_node *node)
{
	return table_is_root(node) ? node->top->fd : node->fd;
}

static void node_free(struct draft_node *node)
{
	if (node->fd >= 0)
		close(node->fd);
	if (table_is_root(node)) {
		draft_put(node->top->draft);
		free(node->top);
	}
	free(node->name);
	free(node);
}

void table_trash_empty(struct trash *t)
{
	struct draft_node *next;

	if (t->fd >= 0)
		close(t->fd);
	for (struct draft_node *node = t->nodes; node; node = next) {
		next = node->parent;
		node_free(node);
	}
}

void table_keep_pin(struct draft_node *node, int fd)
{
	if (node->kept)
		keep_hold(&node->kept->slot, 0, fd);
}

void table_count(struct draft_node *node, uint64_t nlookup)
{
	node->nlookup = nlookup;
	if (node->kept)
		atomic_store(&node->kept->nlookup, nlookup);
}

static void drop_kept(struct draft_nodes *n, struct draft_node *node)
{
	keep_drop(n->keep, KEEP_NODES, node->kept);
	node->kept = NULL;
}

/* A node without a record is not known to the next worker: -ESTALE then. */
static void make_kept(struct draft_nodes *n, struct draft_node *node)
{
	struct kept_node *kept = keep_take(n->keep, KEEP_NODES);

	if (!kept)
		return;
	kept->ino = node->ino;
	kept->file = node->file;
	kept->version_id = node->top->version_id;
	kept->type = node->type;
	atomic_store(&kept->nlookup, node->nlookup);
	keep_publish(kept);
	node->kept = kept;
}

static int drop_fd(struct draft_nodes *n, struct draft_node *node)
{
	if (S_ISDIR(node->type))
		n->dir_fds--;
	table_keep_pin(node, -1);
	return take_fd(&node->fd);
}

/* After counts of node went down: lets its pin go if nobody needs it, or the node itself, and then perhaps those that
 * it named. */
void table_settle(struct draft_nodes *n, struct draft_node *node, struct trash *t)
{
	while (node && node->users == 0 && node->opens == 0) {
		struct draft_node *parent = node->parent, *root = table_is_root(node) ? NULL : node->root;

		if (node->nlookup > 0 || node->links > 0) {
			if (parent && node->fd >= 0 && t->fd < 0 && !node->twin && (!S_ISDIR(node->type) || n->dir_fds > n->max_dir_fds))
				t->fd = drop_fd(n, node);
			return;
		}
		table_leave(n, node);
		if (node->twin && map64_get(n->twins, (uint64_t)node->twin) == node)
			map64_remove(n->twins, (uint64_t)node->twin);
		atomic_store(&n->standing, map64_count(n->twins));
		drop_kept(n, node);
		if (node->fd >= 0 && S_ISDIR(node->type))
			n->dir_fds--;
		if (root)
			root->links--;
		if (parent)
			parent->links--;
		node->parent = t->nodes;
		t->nodes = node;
		node = parent ? parent : root; /* a parent that stays keeps the root */
	}
}

int draft_table_new(struct fs *fs, struct keep *keep, size_t max_dir_fds, struct draft_nodes **ret)
{
	struct draft_nodes *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->map = map64_new();
	n->others = map64_new();
	n->twins = map64_new();
	if (!n->map || !n->others || !n->twins) {
		map64_free(n->map);
		map64_free(n->others);
		map64_free(n->twins);
		free(n);
		return -ENOMEM;
	}
	n->next_other = OTHERS;
	n->fs = fs;
	n->keep = keep;
	n->max_dir_fds = max_dir_fds;
	pthread_mutex_init(&n->settling, NULL);
	pthread_mutex_init(&n->renames, NULL);
	pthread_mutex_init(&n->lock, NULL);
	*ret = n;
	return 0;
}

static bool free_each(uint64_t key, void *value, void *arg)
{
	node_free(value);
	return true;
}

void draft_nodes_free(struct draft_nodes *n)
{
	if (!n)
		return;
	map64_each(n->map, free_each, NULL);
	map64_free(n->map);
	map64_free(n->others);
	map64_free(n->twins);
	pthread_mutex_destroy(&n->settling);
	pthread_mutex_destroy(&n->renames);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

struct fs *draft_table_fs(const struct draft_nodes *n)
{
	return n->fs;
}

size_t draft_table_count(struct draft_nodes *n)
{
	SCOPED_LOCK(&n->lock);

	return map64_count(n->map);
}

void draft_renames_lock(struct draft_nodes *n)
{
	pthread_mutex_lock(&n->renames);
}

void draft_renames_unlock(struct draft_nodes *n)
{
	pthread_mutex_unlock(&n->renames);
}

/* ---- getting and putting ---- */

int draft_node_get(struct draft_nodes *n, fuse_ino_t ino, struct draft_node **ret)
{
	struct draft_node *node;
	SCOPED_LOCK(&n->lock);

	node = map64_get(n->map, ino);
	if (!node)
		return -ESTALE;
	node->users++;
	*ret = node;
	return 0;
}

void draft_node_put(struct draft_nodes *n, struct draft_node *node)
{
	struct trash t = TRASH_INIT;

	if (!node)
		return;
	pthread_mutex_lock(&n->lock);
	node->users--;
	table_settle(n, node, &t);
	pthread_mutex_unlock(&n->lock);
	table_trash_empty(&t);
}

static struct draft_node *root_new(const struct draft_top *top)
{
	struct draft_node *node = calloc(1, sizeof(*node));

	if (!node)
		return NULL;
	node->top = malloc(sizeof(*top));
	if (!node->top) {
		free(node);
		return NULL;
	}
	*node->top = *top;
	if (top->draft)
		draft_ref(top->draft);
	node->gone = node->settled = !top->draft;
	node->ino = node_make(NODE_VERSION, (uint64_t)top->version_id);
	node->type = S_IFDIR;
	node->root = node;
	node->fd = -1;
	return node;
}

int draft_node_root(struct draft_nodes *n, const struct draft_top *top, struct draft_node **ret)
{
	struct draft_node *made = root_new(top), *node;
	int r = 0;

	if (!made)
		return -ENOMEM;
	pthread_mutex_lock(&n->lock);
	node = map64_get(n->map, made->ino);
	if (!node) {
		r = map64_put(n->map, made->ino, made);
		if (r == 0)
			node = take_ptr(made);
		atomic_store(&n->known, map64_count(n->map));
	}
	if (node) {
		node->users++;
		*ret = node;
	}
	pthread_mutex_unlock(&n->lock);
	if (made)
		node_free(made);
	return r;
}

bool draft_node_is_gone(struct draft_nodes *n, const struct draft_node *node)
{
	bool gone;

	pthread_mutex_lock(&n->lock);
	gone = node->root->gone;
	pthread_mutex_unlock(&n->lock);
	return gone || !node->top->draft || draft_is_gone(node->top->draft);
}

/* ---- what the kernel remembers ---- */

void table_set_name(struct draft_nodes *n, struct draft_node *node, struct draft_node *parent, char *name, struct trash *t)
{
	struct draft_node *before = node->parent;

	free(node->name);
	node->name = name;
	node->parent = parent;
	if (parent)
		parent->links++;
	if (before) {
		before->links--;
		table_settle(n, before, t);
	}
}

static bool is_named(const struct draft_node *node, const struct draft_node *parent, const char *name)
{
	return node->parent && node->parent == parent && strcmp(node->name, name) == 0;
}

/* Does the node in the table stand for another file than the one found now with its inode number? */
static bool is_another(const struct draft_node *node, const struct draft_node *root, mode_t type)
{
	bool lost = !node->parent && node->fd < 0 && !node->unfound;

	return node->root != root || node->type != type || lost;
}

static bool is_other(const struct draft_node *node) { return node->ino != node_make(NODE_DRAFT, node->file); }

int table_enter(struct draft_nodes *n, struct draft_node *node)
{
	int r = map64_get(n->map, node->ino) ? -EEXIST : map64_put(n->map, node->ino, node);

	if (r == 0 && is_other(node)) {
		struct draft_node *first = map64_get(n->others, node->file);
		r = map64_put(n->others, node->file, node);
		if (r < 0)
			map64_remove(n->map, node->ino);
		node->other = first;
		if (node_value(node->ino) >= n->next_other)
			n->next_other = node_value(node->ino) + 1;
	}
	atomic_store(&n->known, map64_count(n->map));
	return r;
}

void table_leave(struct draft_nodes *n, struct draft_node *node)
{
	map64_remove(n->map, node->ino);
	atomic_store(&n->known, map64_count(n->map));
	if (table_is_root(node) || !is_other(node))
		return;
	struct draft_node *first = map64_get(n->others, node->file);
	if (first != node) {
		while (first->other != node)
			first = first->other;
		first->other = node->other;
	} else if (node->other) {
		map64_put(n->others, node->file, node->other); /* no memory needed: the key is there */
	} else {
		map64_remove(n->others, node->file);
	}
}

struct draft_node *table_find(const struct draft_nodes *n, const struct draft_node *root, ino_t file, mode_t type)
{
	struct draft_node *node = map64_get(n->map, node_make(NODE_DRAFT, file));

	if (node && !is_another(node, root, type))
		return node;
	for (node = map64_get(n->others, file); node && is_another(node, root, type); node = node->other)
		;
	return node;
}

static int add_node(struct draft_nodes *n, struct draft_node *root, ino_t file, mode_t type, struct draft_node **ret)
{
	struct draft_node *node = calloc(1, sizeof(*node));
	int r;

	if (!node)
		return -ENOMEM;
	node->ino = node_make(NODE_DRAFT, file);
	if (map64_get(n->map, node->ino))
		node->ino = node_make(NODE_DRAFT, n->next_other);
	node->file = file;
	node->type = type;
	node->fd = -1;
	r = table_enter(n, node);
	if (r < 0) {
		free(node);
		return r;
	}
	node->root = root;
	node->top = root->top;
	root->links++;
	make_kept(n, node);
	*ret = node;
	return 0;
}

/* The node of a file just found, made if need be. */
int table_find_or_add(struct draft_nodes *n, struct draft_node *root, const struct stat *st,
	struct draft_node **ret, struct trash *t)
{
	mode_t type = st->st_mode & S_IFMT;
	struct draft_node *node = table_find(n, root, st->st_ino, type);

	if (st->st_ino >= OTHERS)
		return -EOVERFLOW;
	if (!node)
		return add_node(n, root, st->st_ino, type, ret);
	*ret = node;
	return 0;
}

static void fill_entry(const struct draft_node *node, const struct stat *st, struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){
		.ino = node->ino,
		.attr = *st,
		.attr_timeout = TIMEOUT_DRAFT,
		.entry_timeout = TIMEOUT_DRAFT,
	};
	e->attr.st_ino = node->ino;
}

int draft_node_remember(struct draft_nodes *n, struct draft_node *parent, const char *name, const struct stat *st,
	struct fuse_entry_param *e)
{
	struct trash t = TRASH_INIT, u = TRASH_INIT;
	struct draft_node *node;
	char *copy;
	int r;

	pthread_mutex_lock(&n->lock);
	r = parent->root->gone ? -ESTALE : table_find_or_add(n, parent->root, st, &node, &t);
	if (r == 0 && !is_named(node, parent, name)) {
		copy = strdup(name);
		if (copy)
			table_set_name(n, node, parent, copy, &t);
		else
			r = -ENOMEM;
	}
	if (r == 0) {
		table_count(node, node->nlookup + 1);
		fill_entry(node, st, e);
		table_settle(n, node, &u); /* a pin may have become needless */
	}
	pthread_mutex_unlock(&n->lock);
	table_trash_empty(&t);
	table_trash_empty(&u);
	return r;
}

int draft_node_remember_unnamed(struct draft_nodes *n, struct draft_node *root, int *fd, const struct stat *st,
	struct fuse_entry_param *e)
{
	struct trash t = TRASH_INIT;
	struct draft_node *node;
	int r;

	pthread_mutex_lock(&n->lock);
	r = table_find_or_add(n, root, st, &node, &t);
	if (r == 0) {
		if (node->fd < 0)
			node->fd = take_fd(fd);
		table_keep_pin(node, node->fd);
		table_count(node, node->nlookup + 1);
		fill_entry(node, st, e);
	}
	pthread_mutex_unlock(&n->lock);
	table_trash_empty(&t);
	return r;
}

void draft_node_forget(struct draft_nodes *n, fuse_ino_t ino, uint64_t nlookup)
{
	struct trash t = TRASH_INIT;
	struct draft_node *node;

	pthread_mutex_lock(&n->lock);
	node = map64_get(n->map, ino);
	if (node && !table_is_root(node)) {
		table_count(node, node->nlookup - (nlookup < node->nlookup ? nlookup : node->nlookup));
		table_settle(n, node, &t);
	}
	pthread_mutex_unlock(&n->lock);
	table_trash_empty(&t);
}

/* ---- from a node to its file ---- */

/* Could a rename under way be the reason? */
static bool is_stale(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -EXDEV || r == -ESTALE;
}

static int check_same(const struct draft_node *node, const struct stat *st)
{
	return st->st_ino == node->file && (st->st_mode & S_IFMT) == node->type ? 0 : -ESTALE;
}

/* Writes the path of node to the end of buffer: from the root, or from the nearest ancestor with a descriptor. Under
 * the lock. */
static int path_up(struct draft_node *node, bool to_root, char buffer[PATH_MAX], const char **ret_path,
	struct draft_node **ret_from)
{
	char *p = buffer + PATH_MAX - 1;

	for (*p = '\0'; to_root ? !table_is_root(node) : fd_of(node) < 0; node = node->parent) {
		size_t len;
		if (!node->parent)
			return -ESTALE;
		len = strlen(node->name);
		if (len + 1 > (size_t)(p - buffer))
			return -ENAMETOOLONG;
		if (*p)
			*--p = '/';
		p -= len;
		memcpy(p, node->name, len);
	}
	*ret_path = p;
	*ret_from = node;
	return 0;
}

/* Keeps fd with the node if the budget allows; consumes fd. */
static struct draft_dir keep_dir(struct draft_nodes *n, struct draft_node *node, int fd)
{
	struct draft_dir d = {fd, true};

	pthread_mutex_lock(&n->lock);
	if (node->fd < 0 && n->dir_fds < n->max_dir_fds) {
		n->dir_fds++;
		node->fd = take_fd(&fd);
	}
	if (node->fd >= 0)
		d = (struct draft_dir){node->fd, false};
	pthread_mutex_unlock(&n->lock);
	if (!d.own && fd >= 0)
		close(fd);
	return d;
}

/* Opens a directory that has no descriptor of its own, at its first use or beyond the budget. */
static int dir_open(struct draft_nodes *n, struct draft_node *node)
{
	char buffer[PATH_MAX];
	struct draft_node *ancestor;
	const char *path;
	int fd = -1, r;

	pthread_mutex_lock(&n->lock);
	r = path_up(node, false, buffer, &path, &ancestor);
	if (r == 0) {
		ancestor->users++;
		fd = fd_of(ancestor);
	}
	pthread_mutex_unlock(&n->lock);
	if (r < 0)
		return r;
	fd = sys_openat_beneath(fd, path, O_PATH | O_DIRECTORY, 0);
	draft_node_put(n, ancestor);
	return fd;
}

int table_dir_once(struct draft_nodes *n, struct draft_node *node, struct draft_dir *ret)
{
	struct stat st;
	int fd, r;

	pthread_mutex_lock(&n->lock);
	fd = fd_of(node);
	pthread_mutex_unlock(&n->lock);
	if (fd >= 0) {
		*ret = (struct draft_dir){fd, false};
		return 0;
	}
	fd = dir_open(n, node);
	if (fd < 0)
		return fd;
	r = sys_fstat(fd, &st);
	if (r == 0)
		r = check_same(node, &st);
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret = keep_dir(n, node, fd);
	return 0;
}

int draft_node_dir(struct draft_nodes *n, struct draft_node *node, struct draft_dir *ret)
{
	int r;

	if (!S_ISDIR(node->type))
		return -ENOTDIR;
	r = table_dir_once(n, node, ret);
	if (!is_stale(r))
		return r;
	draft_renames_lock(n);
	r = table_dir_once(n, node, ret);
	draft_renames_unlock(n);
	return is_stale(r) ? -ESTALE : r;
}

void draft_dir_release(struct draft_dir *d)
{
	if (d->own)
		close(d->fd);
	*d = (struct draft_dir)DRAFT_DIR_INIT;
}

/* The file by its name in the parent. */
static int reach_by_name(struct draft_nodes *n, struct draft_node *node, struct draft_node *parent, const char *name,
	struct draft_dir *ret_fd, struct stat *st)
{
	auto_dirfd struct draft_dir dir = DRAFT_DIR_INIT;
	auto_close int fd = -1;
	int r = table_dir_once(n, parent, &dir);

	if (r < 0)
		return r;
	if (!ret_fd) {
		r = sys_fstatat(dir.fd, name, st, AT_SYMLINK_NOFOLLOW);
		return r < 0 ? r : check_same(node, st);
	}
	fd = sys_openat(dir.fd, name, O_PATH | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	r = sys_fstat(fd, st);
	if (r == 0)
		r = check_same(node, st);
	if (r == 0)
		*ret_fd = (struct draft_dir){take_fd(&fd), true};
	return r;
}

static int reach_once(struct draft_nodes *n, struct draft_node *node, struct draft_dir *ret_fd /* NULL: only st */,
	struct stat *st)
{
	struct draft_node *parent = NULL;
	char name[NAME_MAX + 1];
	int fd, r = 0;

	pthread_mutex_lock(&n->lock);
	fd = fd_of(node);
	if (fd < 0) {
		r = node->parent ? text_copy(name, sizeof(name), node->name) : -ESTALE;
		if (r == 0) {
			parent = node->parent;
			parent->users++;
		}
	}
	pthread_mutex_unlock(&n->lock);
	if (r < 0)
		return r;
	if (parent) {
		r = reach_by_name(n, node, parent, name, ret_fd, st);
		draft_node_put(n, parent);
		return r;
	}
	r = sys_fstat(fd, st);
	if (r == 0 && ret_fd)
		*ret_fd = (struct draft_dir){fd, false};
	return r;
}

static int reach(struct draft_nodes *n, struct draft_node *node, struct draft_dir *ret_fd, struct stat *ret_st)
{
	struct stat st;
	int r = reach_once(n, node, ret_fd, &st);

	if (is_stale(r)) {
		draft_renames_lock(n);
		r = reach_once(n, node, ret_fd, &st);
		draft_renames_unlock(n);
	}
	if (r < 0)
		return is_stale(r) ? -ESTALE : r;
	*ret_st = st;
	return 0;
}

int draft_node_reach(struct draft_nodes *n, struct draft_node *node, struct draft_dir *ret_fd, struct stat *ret_st)
{
	return reach(n, node, ret_fd, ret_st);
}

int draft_node_stat(struct draft_nodes *n, struct draft_node *node, struct stat *ret_st)
{
	return reach(n, node, NULL, ret_st);
}

int draft_node_opened(struct draft_nodes *n, struct draft_node *node, int *fd)
{
	SCOPED_LOCK(&n->lock);

	if (node->fd < 0)
		node->fd = take_fd(fd);
	table_keep_pin(node, node->fd);
	node->opens++;
	return 0;
}

void draft_nodes_closed(struct draft_nodes *n, fuse_ino_t ino)
{
	struct trash t = TRASH_INIT;
	struct draft_node *node;

	pthread_mutex_lock(&n->lock);
	node = map64_get(n->map, ino);
	if (node && node->opens > 0) {
		node->opens--;
		table_settle(n, node, &t);
	}
	pthread_mutex_unlock(&n->lock);
	table_trash_empty(&t);
}

void draft_node_name(struct draft_nodes *n, const struct draft_node *node, char out[NAME_MAX + 1])
{
	SCOPED_LOCK(&n->lock);

	if (!node->name || text_copy(out, NAME_MAX + 1, node->name) < 0)
		out[0] = '\0';
}

int draft_node_path(struct draft_nodes *n, struct draft_node *node, char buffer[PATH_MAX], const char **ret)
{
	struct draft_node *root;
	SCOPED_LOCK(&n->lock);

	return path_up(node, true, buffer, ret, &root);
}

fuse_ino_t draft_node_parent(struct draft_nodes *n, const struct draft_node *node)
{
	SCOPED_LOCK(&n->lock);

	return node->parent ? node->parent->ino : node->ino;
}

/* ---- names that change ---- */

struct draft_node *draft_node_leaving(struct draft_nodes *n, const struct draft_node *root, int dirfd,
	const char *name, const struct stat *st)
{
	auto_close int fd = -1;
	struct draft_node *node;
	struct stat found;
	bool pinned = true;

	pthread_mutex_lock(&n->lock);
	node = table_find(n, root, st->st_ino, st->st_mode & S_IFMT);
	if (node) {
		node->users++;
		pinned = node->fd >= 0;
		table_keep_pin(node, node->fd);
	}
	pthread_mutex_unlock(&n->lock);
	if (pinned)
		return node;
	fd = sys_openat(dirfd, name, O_PATH | O_NOFOLLOW, 0);
	if (fd < 0 || sys_fstat(fd, &found) < 0 || check_same(node, &found) < 0)
		return node; /* no descriptor left: the node may be lost, the removal goes on */
	pthread_mutex_lock(&n->lock);
	if (node->fd < 0) {
		node->fd = take_fd(&fd);
		table_keep_pin(node, node->fd);
		if (S_ISDIR(node->type))
			n->dir_fds++;
	}
	pthread_mutex_unlock(&n->lock);
	return node;
}

void draft_node_left(struct draft_nodes *n, struct draft_node *node, const struct draft_node *parent, const char *name)
{
	struct trash t = TRASH_INIT;

	if (!node)
		return;
	pthread_mutex_lock(&n->lock);
	if (is_named(node, parent, name))
		table_set_name(n, node, NULL, NULL, &t);
	pthread_mutex_unlock(&n->lock);
	table_trash_empty(&t);
}

void draft_node_moved(struct draft_nodes *n, struct draft_node *node, struct draft_node *parent, char **name)
{
	struct trash t = TRASH_INIT;

	if (!node)
		return;
	pthread_mutex_lock(&n->lock);
	table_set_name(n, node, parent, take_ptr(*name), &t);
	pthread_mutex_unlock(&n->lock);
	table_trash_empty(&t);
}
