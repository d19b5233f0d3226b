/* Draft nodes after the death of a worker: the kernel goes on using the numbers that it knew.
 *
 * Kept of a node are its number, its counts and its pin, not its name: a name in shared memory would have to change together with the file system, and a worker may die in
 * between. The tree knows better. So when the first of a version's nodes is used again, its tree is walked once and every node that is met gets its parent and name; one
 * that is met nowhere has no name any more, and is reached by its pin. The walk takes no attributes, only directories are read (100,000 files: some 0.1 s).
 *
 * Directories get a node for the time of the walk, since a name needs its parent's node; those that nobody needs go when it is over. */
#include "draft_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <string.h>

int draft_node_again(struct draft_nodes *n, struct draft_node *root, struct kept_node *kept)
{
	struct draft_node *node = calloc(1, sizeof *node);
	struct stat st;
	int pin = keep_held(&kept->slot, 0), r;

	if (pin >= 0 && (fstat(pin, &st) < 0 || st.st_ino != kept->file))
		pin = -1; /* not ours after all: better lost than another file */
	if (!node)
		return -ENOMEM;
	*node = (struct draft_node){.ino = kept->ino, .file = kept->file, .type = kept->type, .top = root->top, .root = root, .fd = pin,
		.nlookup = atomic_load(&kept->nlookup), .unfound = true, .twin = pin >= 0 ? atomic_load(&kept->twin) : 0, .kept = kept};
	SCOPED_LOCK(&n->lock);
	r = table_enter(n, node);
	if (r < 0) {
		free(node);
		return r;
	}
	if (node->twin && map64_put(n->twins, (uint64_t)node->twin, node) < 0)
		node->twin = 0;
	atomic_store(&n->standing, map64_count(n->twins));
	keep_hold(&kept->slot, 0, pin);
	if (pin >= 0 && S_ISDIR(node->type))
		n->dir_fds++;
	root->links++;
	if (!root->unfound)
		atomic_fetch_add(&n->unfound, 1);
	root->unfound = true;
	return 0;
}

/* Directories whose entries are still to be read; each node in use. */
struct walk {
	struct draft_nodes *n;
	struct draft_node *root;
	struct draft_node **dirs;
	size_t count, room;
};

static int push(struct walk *w, struct draft_node *dir)
{
	if (w->count == w->room) {
		size_t room = w->room ? 2 * w->room : 64;
		struct draft_node **dirs = reallocarray(w->dirs, room, sizeof(struct draft_node *));
		if (!dirs)
			return -ENOMEM;
		w->dirs = dirs;
		w->room = room;
	}
	w->dirs[w->count++] = dir;
	return 0;
}

/* An entry of dir. A file is of interest only if its node is known; a directory is walked through. *ret_dir: its node, in use. */
static int meet(struct walk *w, struct draft_node *dir, const struct dirent *d, mode_t type, struct draft_node **ret_dir)
{
	struct draft_nodes *n = w->n;
	struct stat st = {.st_ino = d->d_ino, .st_mode = type};
	struct trash t = TRASH_INIT;
	struct draft_node *node;
	int r = 0;

	pthread_mutex_lock(&n->lock);
	node = table_find(n, w->root, d->d_ino, type);
	if (S_ISDIR(type))
		r = table_find_or_add(n, w->root, &st, &node);
	if (r == 0 && node && !node->parent) {
		char *name = strdup(d->d_name);
		if (name) {
			table_set_name(n, node, dir, name, &t);
			node->unfound = false;
		} else {
			r = -ENOMEM;
		}
	}
	if (r == 0 && node && S_ISDIR(type)) {
		node->users++;
		*ret_dir = node;
	}
	pthread_mutex_unlock(&n->lock);
	table_trash_empty(&t);
	return r;
}

static int read_dir(struct walk *w, struct draft_node *node)
{
	auto_dirfd struct draft_dir at = DRAFT_DIR_INIT;
	auto_dir DIR *dir = NULL;
	struct dirent *d;
	int r = table_dir_once(w->n, node, &at);

	if (r == 0)
		r = sys_fdopendir(sys_reopen(at.fd, O_RDONLY | O_DIRECTORY), &dir);
	while (r == 0 && (r = sys_readdir(dir, &d)) > 0) {
		struct draft_node *below = NULL;
		struct stat st;
		mode_t type = DTTOIF(d->d_type);
		if (d->d_type == DT_UNKNOWN && sys_fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			type = st.st_mode & S_IFMT;
		r = meet(w, node, d, type, &below);
		if (r == 0 && below) {
			r = push(w, below);
			if (r < 0)
				draft_node_put(w->n, below);
		}
	}
	return r;
}

static int walk(struct draft_nodes *n, struct draft_node *root)
{
	struct walk w = {.n = n, .root = root};
	int r = read_dir(&w, root);

	while (w.count > 0) {
		struct draft_node *dir = w.dirs[--w.count];
		int rc = r == 0 ? read_dir(&w, dir) : 0;
		draft_node_put(n, dir);
		if (rc < 0 && rc != -ESTALE && rc != -ENOENT) /* removed since it was met: a version that another mount serves */
			r = rc;
	}
	free(w.dirs);
	return r;
}

static bool found(uint64_t ino, void *value, void *arg)
{
	struct draft_node *node = value, *root = arg;

	(void)ino;
	if (node->root == root)
		node->unfound = false;
	return true;
}

int table_find_names(struct draft_nodes *n, struct draft_node *root, bool gone_too)
{
	bool unfound;
	int r = 0;

	if (atomic_load(&n->unfound) == 0)
		return 0;
	draft_renames_lock(n); /* no name moves meanwhile, and of two threads one walks */
	pthread_mutex_lock(&n->lock);
	unfound = root->unfound;
	pthread_mutex_unlock(&n->lock);
	if (unfound && (gone_too || !draft_node_is_gone(n, root)))
		r = walk(n, root);
	if (unfound && r == 0) {
		SCOPED_LOCK(&n->lock);
		map64_each(n->map, found, root);
		root->unfound = false;
		atomic_fetch_sub(&n->unfound, 1);
	}
	draft_renames_unlock(n);
	return r;
}

int draft_nodes_find(struct draft_nodes *n, struct draft_node *node)
{
	return table_find_names(n, node->root, false);
}
