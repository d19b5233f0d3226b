/* A worker takes over a mount in use: nodes, open files and listings of the worker before are made again from what is kept of them, before anything is read. */
#include "draft_nodes.h"
#include "session.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <string.h>

/* Root nodes of versions by their ids, in use while nodes are made. */
struct roots {
	struct fs *fs;
	struct map64 *map;
};

static int find_root(struct roots *roots, int64_t version_id, struct draft_node **ret)
{
	struct draft_node *root = map64_get(roots->map, (uint64_t)version_id);
	int r;

	if (root) {
		*ret = root;
		return 0;
	}
	r = draft_root_again(roots->fs, version_id, &root);
	if (r < 0)
		return r;
	r = map64_put(roots->map, (uint64_t)version_id, root);
	if (r < 0)
		draft_node_put(roots->fs->draft_nodes, root);
	else
		*ret = root;
	return r;
}

static bool put_root(uint64_t key, void *value, void *arg)
{
	struct fs *fs = arg;

	draft_node_put(fs->draft_nodes, value);
	return true;
}

static unsigned restore_nodes(struct fs *fs)
{
	struct roots roots = {.fs = fs, .map = map64_new()};
	unsigned n = 0;

	for (uint32_t i = 0; roots.map && i < keep_count(fs->keep, KEEP_NODES); i++) {
		struct kept_node *kept = keep_at(fs->keep, KEEP_NODES, i);
		struct draft_node *root;
		if (keep_state_of(kept) != KEEP_USED)
			continue;
		int r = find_root(&roots, kept->version_id, &root);
		if (r == 0)
			r = draft_node_again(fs->draft_nodes, root, kept);
		if (r == 0) {
			n++;
			continue;
		}
		log_warning(fs->log, "node %#llx of version %lld is lost: %s", (unsigned long long)kept->ino, (long long)kept->version_id, strerror(-r));
		keep_drop(fs->keep, KEEP_NODES, kept);
	}
	if (roots.map)
		map64_each(roots.map, put_root, fs);
	map64_free(roots.map);
	return n;
}

/* A file whose release was under way: nobody has it open any more. Its descriptors are closed by now. */
static void finish_release(struct fs *fs, struct kept_open *kept)
{
	int id = kept->node ? kept->backing_id : 0;

	for (uint32_t i = 0; id && i < keep_count(fs->keep, KEEP_OPENS); i++) {
		const struct kept_open *other = keep_at(fs->keep, KEEP_OPENS, i);
		if (other != kept && keep_state_of(other) == KEEP_USED && other->node && other->backing_id == id)
			id = 0; /* has others */
	}
	if (id)
		passthrough_forget_strays(fs, id);
	keep_drop(fs->keep, KEEP_OPENS, kept);
}

static unsigned restore_opens(struct fs *fs)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < keep_count(fs->keep, KEEP_OPENS); i++) {
		struct kept_open *kept = keep_at(fs->keep, KEEP_OPENS, i);
		if (keep_state_of(kept) == KEEP_ENDING)
			finish_release(fs, kept);
		if (keep_state_of(kept) != KEEP_USED)
			continue;
		int r = open_again(fs, kept);
		if (r == 0) {
			n++;
			continue;
		}
		log_error(fs->log, "an open file of node %#llx is lost: %s", (unsigned long long)kept->ino, strerror(-r));
		keep_drop(fs->keep, KEEP_OPENS, kept);
	}
	return n;
}

static unsigned restore_listings(struct fs *fs)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < keep_count(fs->keep, KEEP_LISTINGS); i++) {
		struct kept_listing *kept = keep_at(fs->keep, KEEP_LISTINGS, i);
		if (keep_state_of(kept) == KEEP_USED && listing_again(fs, kept) == 0)
			n++;
	}
	return n;
}

int again_restore(struct fs *fs, struct again_count *ret)
{
	struct again_count n = {0};

	n.requests = resent_collect(fs->channel.kept);
	n.nodes = restore_nodes(fs);
	n.opens = restore_opens(fs);
	n.listings = restore_listings(fs);
	passthrough_forget_strays(fs, 0);
	*ret = n;
	return 0;
}
