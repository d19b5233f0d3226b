/* Listings of the directories above the versions.
 *
 * An offset is a phase (upper bits: what comes next) and the last id or number given of that phase. Each phase gives its entries in the order of what never
 * changes of them (id, number), so that a listing that is read while things come and go gives each entry that stays exactly once.
 *
 *   any      "."  ".."
 *   root     versions.json, then as a scope
 *   scope    its directories by id
 *   model    latest (if it leads the caller anywhere), best, the aliases by id, the versions by number
 *
 * Versions are asked for by the batch, one query each: a model with 200,000 of them is never held in memory. `next` leads nowhere and is not listed. */
#include "session.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <string.h>

enum phase { AT_DOT, AT_DOTDOT, AT_VERSIONS_JSON, AT_DIRS, AT_LATEST, AT_BEST, AT_ALIASES, AT_VERSIONS };
#define PHASE_SHIFT 56
#define BATCH 64

struct listing {
	struct call *c;
	struct dir_sink *sink;
	struct catalog_dir dir;
	enum phase phase;
	uint64_t after;
	bool full;
};

static off_t offset_of(enum phase phase, uint64_t after)
{
	return (off_t)(((uint64_t)phase << PHASE_SHIFT) | after);
}

static void add(struct listing *l, const char *name, const struct fuse_entry_param *e, off_t next)
{
	l->full = !dir_sink_add(l->sink, name, e, next);
}

static void go_on(struct listing *l, enum phase phase)
{
	l->phase = phase;
	l->after = 0;
}

static void add_dot(struct listing *l, const char *name, fuse_ino_t ino, enum phase next)
{
	struct fuse_entry_param e = {.attr = {.st_ino = ino, .st_mode = S_IFDIR}};

	add(l, name, &e, offset_of(next, 0));
	go_on(l, next);
}

static int add_versions_json(struct listing *l)
{
	struct fuse_entry_param e = {.attr = {.st_ino = NODE_VERSIONS_JSON, .st_mode = S_IFREG}};
	int r = dir_sink_plus(l->sink) ? versions_entry(l->c->fs, &e) : 0;

	if (r < 0)
		return r;
	add(l, "versions.json", &e, offset_of(AT_DIRS, 0));
	go_on(l, AT_DIRS);
	return 0;
}

static int add_one_dir(const struct catalog_dir *d, void *arg)
{
	struct listing *l = arg;
	struct fuse_entry_param e;

	layout_dir_entry(d, &e);
	add(l, d->name, &e, offset_of(AT_DIRS, (uint64_t)d->id));
	return l->full;
}

static int add_dirs(struct listing *l)
{
	auto_read struct catalog_conn *conn = NULL;
	int r = registry_read_begin(l->c->fs->registry, &conn);

	if (r == 0)
		r = catalog_dir_list(conn, l->dir.id, (int64_t)l->after, add_one_dir, l);
	return r < 0 ? r : 0;
}

static int add_generated_link(struct listing *l, enum phase next)
{
	struct fs *fs = l->c->fs;
	bool latest = l->phase == AT_LATEST;
	struct fuse_entry_param e;
	uint32_t number;
	int r = latest ? registry_latest(fs->registry, l->dir.id, &l->c->who, &number) : registry_best(fs->registry, l->dir.id, &number);

	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0) {
		link_entry(node_make(latest ? NODE_LATEST : NODE_BEST, (uint64_t)l->dir.id), &l->dir, number, l->dir.mtime_ns, &e);
		add(l, latest ? "latest" : "best", &e, offset_of(next, 0));
	}
	go_on(l, next);
	return 0;
}

static int add_one_alias(const struct catalog_alias *a, void *arg)
{
	struct listing *l = arg;
	struct fuse_entry_param e;

	link_entry(node_make(NODE_ALIAS, (uint64_t)a->id), &l->dir, a->number, a->set_ns, &e);
	add(l, a->name, &e, offset_of(AT_ALIASES, (uint64_t)a->id));
	return l->full;
}

static int add_aliases(struct listing *l)
{
	auto_read struct catalog_conn *conn = NULL;
	int r = registry_read_begin(l->c->fs->registry, &conn);

	if (r == 0)
		r = catalog_alias_list(conn, l->dir.id, (int64_t)l->after, add_one_alias, l);
	return r < 0 ? r : 0;
}

struct batch {
	unsigned n;
	struct catalog_version versions[BATCH];
};

static int take_version(const struct catalog_version *v, const struct catalog_version_text *text, void *arg)
{
	struct batch *b = arg;

	b->versions[b->n++] = *v;
	return b->n == BATCH;
}

/* An entry without a node (ino 0) is a name only: what the kernel wants to know of a draft that is just going it asks by a lookup. */
static void add_version(struct listing *l, const struct catalog_version *v)
{
	struct fuse_entry_param e, name_only = {.attr = {.st_ino = node_make(NODE_VERSION, (uint64_t)v->id), .st_mode = S_IFDIR}};
	char name[16];

	snprintf(name, sizeof name, "v%u", v->number);
	if (!dir_sink_plus(l->sink) || layout_version_entry(l->c->fs, v, &e) < 0)
		e = name_only;
	add(l, name, &e, offset_of(AT_VERSIONS, v->number));
}

/* The snapshot is given back before entries are made: a draft's may wait for a disk. */
static int add_versions(struct listing *l)
{
	struct catalog_version_list q = {.model_id = l->dir.id, .states = 1U << CATALOG_DRAFT | 1U << CATALOG_COMMITTED};
	auto_free struct batch *b = malloc(sizeof *b);

	if (!b)
		return -ENOMEM;
	do {
		auto_read struct catalog_conn *conn = NULL;
		int r = registry_read_begin(l->c->fs->registry, &conn);
		b->n = 0;
		q.after = (uint32_t)l->after;
		if (r == 0)
			r = catalog_version_list(conn, &q, take_version, b);
		if (r < 0)
			return r;
		catalog_read_end(conn);
		conn = NULL;
		for (unsigned i = 0; i < b->n && !l->full; i++) {
			add_version(l, &b->versions[i]);
			l->after = b->versions[i].number;
		}
	} while (!l->full && b->n == BATCH);
	return 0;
}

/* One phase, or what is left of it. *ret_end: nothing comes after it. */
static int add_phase(struct listing *l, bool *ret_end)
{
	int r = 0;

	switch (l->phase) {
	case AT_DOT:
		add_dot(l, ".", node_of_dir(&l->dir), AT_DOTDOT);
		return 0;
	case AT_DOTDOT:
		add_dot(l, "..", l->dir.parent ? layout_dir_node(l->c->fs, l->dir.parent) : NODE_ROOT, l->dir.is_model ? AT_LATEST : l->dir.id == CATALOG_DIR_ROOT ? AT_VERSIONS_JSON : AT_DIRS);
		return 0;
	case AT_VERSIONS_JSON:
		return add_versions_json(l);
	case AT_DIRS:
		r = add_dirs(l);
		*ret_end = true;
		return r;
	case AT_LATEST:
		return add_generated_link(l, AT_BEST);
	case AT_BEST:
		return add_generated_link(l, AT_ALIASES);
	case AT_ALIASES:
		r = add_aliases(l);
		go_on(l, AT_VERSIONS);
		return r;
	case AT_VERSIONS:
		r = add_versions(l);
		*ret_end = true;
		return r;
	}
	return -EINVAL;
}

int layout_readdir(struct call *c, fuse_ino_t ino, off_t offset, struct dir_sink *sink, struct fuse_file_info *fi)
{
	struct listing l = {.c = c, .sink = sink};
	bool end = false;
	int r = layout_dir_get(c->fs, ino, &l.dir);

	l.phase = (enum phase)((uint64_t)offset >> PHASE_SHIFT);
	l.after = (uint64_t)offset & ((1ULL << PHASE_SHIFT) - 1);
	while (r == 0 && !l.full && !end)
		r = add_phase(&l, &end);
	return r;
}
