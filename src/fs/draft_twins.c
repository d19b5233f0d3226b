/* Directories of a draft that the kernel knows when the draft is committed: they go on under their numbers, as the directories they have become.
 *
 * Somebody may stand in one of them. Its name in the kernel (a dentry) lives as long as lookups give it the same number; with another one it is dropped, and
 * getcwd(2) fails. So a committed directory is told to the kernel by the draft's number as long as the kernel knows that, and by its own (FILE) from then on.
 *
 * Invariants:
 *   - Settled is done once for a version, before a first answer about a directory of it as committed. From then on its root is gone, and a gone version
 *     gets no more nodes (draft_node_remember): so no directory is ever told by its draft's number after it was told by its own.
 *   - A node with a twin is pinned, for the next worker too: its tree is about to be removed, and its inode number must not come back while the kernel
 *     means the old one. What cannot be pinned (no descriptors left, a tree that another mount has removed) does not go on, and its name is dropped as before.
 *   - At most half of the descriptors for directories serve these pins. When half of those are taken, those of earlier versions are let go (draft_twins_relieve): most
 *     were left long ago, and the kernel holds them only because it has names in them cached.
 *
 * Each directory is found by its parent's id and its name, one query; no lock is held for it but `settling`. */
#include "draft_inner.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct stander {
	struct draft_node *node; /* in use */
	unsigned depth;          /* 1: at the top of the version */
	int64_t id;              /* files.id; 0: not found */
};

struct standers {
	const struct draft_node *root; /* whose they are; NULL: of all versions but that of `but` */
	const struct draft_node *but;
	bool twins; /* only those that go on */
	struct stander *all;
	size_t count, room;
};

static unsigned depth_of(const struct draft_node *node)
{
	unsigned depth = 0;

	for (; node && !table_is_root(node); node = node->parent)
		depth++;
	return node ? depth : 0;
}

/* Under the lock. */
static bool collect(uint64_t key, void *value, void *arg)
{
	struct standers *s = arg;
	struct draft_node *node = value;

	if ((s->root ? node->root != s->root : node->root == s->but) || table_is_root(node) || !S_ISDIR(node->type) || (s->twins && !node->twin))
		return true;
	if (s->count == s->room) {
		size_t room = s->room ? 2 * s->room : 64;
		struct stander *bigger = reallocarray(s->all, room, sizeof *bigger);
		if (!bigger)
			return false; /* the rest does not go on */
		s->all = bigger;
		s->room = room;
	}
	node->users++;
	s->all[s->count++] = (struct stander){.node = node, .depth = depth_of(node)};
	return true;
}

static int by_depth(const void *a, const void *b)
{
	unsigned x = ((const struct stander *)a)->depth, y = ((const struct stander *)b)->depth;

	return (x > y) - (x < y);
}

static void gather(struct draft_nodes *n, struct standers *s)
{
	pthread_mutex_lock(&n->lock);
	map64_each(n->map, collect, s);
	pthread_mutex_unlock(&n->lock);
	if (s->count > 0)
		qsort(s->all, s->count, sizeof *s->all, by_depth);
}

static void put_all(struct draft_nodes *n, struct standers *s)
{
	for (size_t i = 0; i < s->count; i++)
		draft_node_put(n, s->all[i].node);
	free(s->all);
}

/* The id of the committed directory at the path of s; 0: there is none. done: those above, by their numbers. */
static int64_t find_id(struct draft_nodes *n, struct catalog_conn *conn, const struct map64 *done, const struct stander *s)
{
	char name[NAME_MAX + 1];
	const struct stander *above = NULL;
	struct catalog_file file;
	int64_t parent;

	{
		SCOPED_LOCK(&n->lock);
		if (s->depth == 0 || !s->node->parent || text_copy(name, sizeof name, s->node->name) < 0)
			return 0; /* removed before the commit */
		parent = -s->node->top->version_id;
		if (s->depth > 1)
			above = map64_get(done, s->node->parent->ino);
	}
	if (s->depth > 1)
		parent = above ? above->id : 0;
	if (parent == 0 || catalog_file_find(conn, parent, name, &file) < 0 || file.type != CATALOG_DIRECTORY)
		return 0;
	return file.id;
}

static size_t pins_max(const struct draft_nodes *n)
{
	return n->max_dir_fds / 2;
}

static void go_on(struct draft_nodes *n, struct draft_node *node, int64_t id)
{
	auto_dirfd struct draft_dir dir = DRAFT_DIR_INIT;
	bool known;

	{
		SCOPED_LOCK(&n->lock);
		known = node->nlookup > 0 && map64_count(n->twins) < pins_max(n);
	}
	if (!known || table_dir_once(n, node, &dir) < 0)
		return;
	SCOPED_LOCK(&n->lock);
	if (node->fd < 0 || map64_put(n->twins, (uint64_t)id, node) < 0)
		return;
	atomic_store(&n->standing, map64_count(n->twins));
	table_keep_pin(node, node->fd);
	node->twin = id;
	if (node->kept)
		atomic_store(&node->kept->twin, id);
}

static void settle(struct draft_nodes *n, struct catalog_conn *conn, struct draft_node *root)
{
	struct standers s = {.root = root};
	struct map64 *done = map64_new();

	table_find_names(n, root, true);
	gather(n, &s);
	for (size_t i = 0; done && i < s.count; i++) {
		s.all[i].id = find_id(n, conn, done, &s.all[i]);
		if (s.all[i].id > 0 && map64_put(done, s.all[i].node->ino, &s.all[i]) == 0)
			go_on(n, s.all[i].node, s.all[i].id);
	}
	put_all(n, &s);
	map64_free(done);
}

bool draft_twins_any(struct draft_nodes *n)
{
	return atomic_load(&n->known) > 0;
}

/* The root of a version that is to be settled, in use; NULL: there is nothing to do. */
static struct draft_node *unsettled(struct draft_nodes *n, int64_t version_id)
{
	SCOPED_LOCK(&n->lock);
	struct draft_node *root = map64_get(n->map, node_make(NODE_VERSION, (uint64_t)version_id));

	if (!root || root->settled)
		return NULL;
	root->gone = true;
	root->users++;
	return root;
}

void draft_twins_settle(struct draft_nodes *n, struct catalog_conn *conn, int64_t version_id)
{
	struct draft_node *root = draft_twins_any(n) ? unsettled(n, version_id) : NULL;

	if (!root)
		return;
	pthread_mutex_lock(&n->settling);
	if (!root->settled) { /* written under both locks */
		settle(n, conn, root);
		SCOPED_LOCK(&n->lock);
		root->settled = true;
	}
	pthread_mutex_unlock(&n->settling);
	draft_node_put(n, root);
}

fuse_ino_t draft_twins_number(struct draft_nodes *n, int64_t id)
{
	SCOPED_LOCK(&n->lock);
	const struct draft_node *node = map64_get(n->twins, (uint64_t)id);

	return node && node->nlookup > 0 ? node->ino : 0;
}

bool draft_twins_lookup(struct draft_nodes *n, int64_t id, struct fuse_entry_param *e)
{
	SCOPED_LOCK(&n->lock);
	struct draft_node *node = map64_get(n->twins, (uint64_t)id);

	if (!node || node->nlookup == 0)
		return false;
	table_count(node, node->nlookup + 1);
	e->ino = e->attr.st_ino = node->ino;
	e->entry_timeout = TIMEOUT_DRAFT; /* when it has expired and nobody uses the name any more, the kernel drops it */
	return true;
}

bool draft_twins_has(struct draft_nodes *n, int64_t version_id)
{
	if (!draft_twins_any(n))
		return false;
	SCOPED_LOCK(&n->lock);
	return map64_get(n->map, node_make(NODE_VERSION, (uint64_t)version_id)) != NULL;
}

bool draft_twins_stand(struct draft_nodes *n)
{
	return atomic_load(&n->standing) > 0;
}

int64_t draft_twins_id(struct draft_nodes *n, fuse_ino_t ino)
{
	SCOPED_LOCK(&n->lock);
	const struct draft_node *node = map64_get(n->map, ino);

	return node ? node->twin : 0;
}

void draft_twins_each(struct draft_nodes *n, int64_t version_id, void (*fn)(fuse_ino_t ino, void *arg), void *arg)
{
	struct standers s = {.twins = true};

	{
		SCOPED_LOCK(&n->lock);
		if (map64_count(n->twins) == 0)
			return;
		s.root = map64_get(n->map, node_make(NODE_VERSION, (uint64_t)version_id));
	}
	if (!s.root)
		return;
	gather(n, &s);
	for (size_t i = s.count; i > 0; i--)
		fn(s.all[i - 1].node->ino, arg);
	put_all(n, &s);
}

void draft_twins_relieve(struct draft_nodes *n, int64_t version_id, void (*fn)(fuse_ino_t parent, const char *name, void *arg), void *arg)
{
	struct standers s = {.twins = true};

	{
		SCOPED_LOCK(&n->lock);
		if (map64_count(n->twins) <= pins_max(n) / 2)
			return;
		s.but = map64_get(n->map, node_make(NODE_VERSION, (uint64_t)version_id));
	}
	gather(n, &s);
	for (size_t i = s.count; i > 0; i--) {
		char name[NAME_MAX + 1] = "";
		fuse_ino_t parent = draft_node_parent(n, s.all[i - 1].node);
		draft_node_name(n, s.all[i - 1].node, name);
		if (name[0]) /* a worker before this one knew it */
			fn(parent, name, arg);
	}
	put_all(n, &s);
}
