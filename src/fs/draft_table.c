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
 * Lock order: settling, renames, lock. Nothing that can wait is done under `lock`; descriptors are closed, and drafts put,
 * after it (struct trash). */
#include "draft_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>

#define OTHERS (UINT64_C(1) << (NODE_VALUE_BITS - 1)) /* no file system counts its inodes up to here */

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

static bool is_other(const struct draft_node *node) { return node->ino != node_make(NODE_DRAFT, node->file); }

static void leave(struct draft_nodes *n, struct draft_node *node)
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

/* Of a node that nobody has open or uses. One without a name is reached by its pin only, and loses it where descriptors are few. */
static bool can_unpin(const struct draft_nodes *n, const struct draft_node *node)
{
	if (node->fd < 0 || node->twin || table_is_root(node))
		return false;
	if (!node->parent)
		return node->fd >= n->last_pin;
	return !S_ISDIR(node->type) || n->dir_fds > n->max_dir_fds;
}

/* After counts of node went down: lets its pin go if nobody needs it, or the node itself, and then perhaps those that
 * it named. */
static void settle(struct draft_nodes *n, struct draft_node *node, struct trash *t)
{
	while (node && node->users == 0 && node->opens == 0) {
		struct draft_node *parent = node->parent, *root = table_is_root(node) ? NULL : node->root;

		if (node->nlookup > 0 || node->links > 0) {
			if (t->fd < 0 && can_unpin(n, node))
				t->fd = drop_fd(n, node);
			return;
		}
		leave(n, node);
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

/* Who holds thousands of removed files without having them open (O_PATH, working directories) costs a pin each. The kernel gives the lowest free number, so one beyond this says
 * that all below are taken: what is left is for opens. */
static int last_pin(void)
{
	struct rlimit l = {.rlim_cur = 1024};

	getrlimit(RLIMIT_NOFILE, &l);
	return l.rlim_cur < INT_MAX ? (int)(l.rlim_cur - l.rlim_cur / 8) : INT_MAX;
}

int draft_table_new(struct keep *keep, size_t max_dir_fds, struct draft_nodes **ret)
{
	struct draft_nodes *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->last_pin = last_pin();
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

size_t draft_table_count(struct draft_nodes *n)
{
	SCOPED_LOCK(&n->lock);

	return map64_count(n->map);
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
	settle(n, node, &t);
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
		settle(n, before, t);
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

int table_find_or_add(struct draft_nodes *n, struct draft_node *root, const struct stat *st, struct draft_node **ret)
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
	r = parent->root->gone ? -ESTALE : table_find_or_add(n, parent->root, st, &node);
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
		settle(n, node, &u); /* a pin may have become needless */
	}
	pthread_mutex_unlock(&n->lock);
	table_trash_empty(&t);
	table_trash_empty(&u);
	return r;
}

int draft_node_remember_unnamed(struct draft_nodes *n, struct draft_node *root, int *fd, const struct stat *st,
	struct fuse_entry_param *e)
{
	struct draft_node *node;
	SCOPED_LOCK(&n->lock);
	int r = table_find_or_add(n, root, st, &node);

	if (r < 0)
		return r;
	if (node->fd < 0)
		node->fd = take_fd(fd);
	table_keep_pin(node, node->fd);
	table_count(node, node->nlookup + 1);
	fill_entry(node, st, e);
	return 0;
}

void draft_node_forget(struct draft_nodes *n, fuse_ino_t ino, uint64_t nlookup)
{
	struct trash t = TRASH_INIT;
	struct draft_node *node;

	pthread_mutex_lock(&n->lock);
	node = map64_get(n->map, ino);
	if (node && !table_is_root(node)) {
		table_count(node, node->nlookup - (nlookup < node->nlookup ? nlookup : node->nlookup));
		settle(n, node, &t);
	}
	pthread_mutex_unlock(&n->lock);
	table_trash_empty(&t);
}

/* ---- open files, and what a node is called ---- */

void draft_node_opened(struct draft_nodes *n, struct draft_node *node, int *fd)
{
	SCOPED_LOCK(&n->lock);

	if (node->fd < 0 && *fd >= 0)
		node->fd = take_fd(fd);
	table_keep_pin(node, node->fd);
	node->opens++;
}

void draft_nodes_closed(struct draft_nodes *n, fuse_ino_t ino)
{
	struct trash t = TRASH_INIT;
	struct draft_node *node;

	pthread_mutex_lock(&n->lock);
	node = map64_get(n->map, ino);
	if (node && node->opens > 0) {
		node->opens--;
		settle(n, node, &t);
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
	if (fd < 0 || fd >= n->last_pin || sys_fstat(fd, &found) < 0 || table_check_same(node, &found) < 0)
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
