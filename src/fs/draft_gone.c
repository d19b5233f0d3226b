/* Draft nodes at the end of their version: what the kernel is told to forget when it was committed or discarded. Not the names of directories that go on
 * (draft_twins.c). */
#include "draft_inner.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The names of a version's nodes: by them the kernel may have the nodes cached. */
struct leftover {
	fuse_ino_t parent;
	char *name; /* owned */
};
struct leftovers {
	const struct draft_node *root;
	bool deep; /* names of directories at the top, or all others */
	struct leftover *all;
	size_t count, room;
};

static bool collect(uint64_t key, void *value, void *arg)
{
	struct leftovers *l = arg;
	const struct draft_node *node = value;
	struct leftover *bigger;
	char *name;

	if (node->root != l->root || !node->parent || node->nlookup == 0 || node->twin || l->deep == (node->parent == l->root && S_ISDIR(node->type)))
		return true;
	if (l->count == l->room) {
		size_t room = l->room ? 2 * l->room : 64;
		bigger = reallocarray(l->all, room, sizeof(*bigger));
		if (!bigger)
			return false; /* the rest expires by itself: TIMEOUT_DRAFT */
		l->all = bigger;
		l->room = room;
	}
	name = strdup(node->name);
	if (name)
		l->all[l->count++] = (struct leftover){node->parent->ino, name};
	return name != NULL;
}

void draft_nodes_gone(struct draft_nodes *n, int64_t version_id, void (*fn)(fuse_ino_t parent, const char *name,
	void *arg), void *arg)
{
	struct leftovers l = {0};
	struct draft_node *root;

	pthread_mutex_lock(&n->lock);
	root = map64_get(n->map, node_make(NODE_VERSION, (uint64_t)version_id));
	if (root) {
		root->gone = true;
		l.root = root;
		map64_each(n->map, collect, &l); /* first: what is below these can be met by no path any more */
		l.deep = true;
		map64_each(n->map, collect, &l);
	}
	pthread_mutex_unlock(&n->lock);
	for (size_t i = 0; i < l.count; i++) {
		fn(l.all[i].parent, l.all[i].name, arg);
		free(l.all[i].name);
	}
	free(l.all);
}
