/* What every operation on a draft begins with: a node in use, a change of the tree begun, a directory to work in; or
 * a refusal, in words.
 *
 * Order in every change: the node is taken in use, the draft's change is begun (a commit waits for it or refuses it),
 * the backing file is reached (draft_reach.c), the system call is done, the table told. No lock is held in between,
 * but the rename lock around renameat2. */
#include "draft_nodes.h"
#include "session.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <stdlib.h>

/* ---- refusals ---- */

int draft_refuse(struct call *c, enum registry_verdict v, const char *fmt, ...)
{
	int error = registry_verdict_errno(v);
	va_list ap;

	va_start(ap, fmt);
	fault_vset(&c->fault, error, fmt, ap);
	va_end(ap);
	c->fault.verdict = (int)v;
	return -error;
}

enum catalog_state draft_version_state(struct fs *fs, int64_t version_id)
{
	auto_read struct catalog_conn *conn = NULL;
	struct catalog_version v;

	return registry_read_begin(fs_registry(fs), &conn) == 0 && catalog_version_get(conn, version_id, &v) == 0 ? v.state : CATALOG_DISCARDED;
}

int draft_refuse_state(struct call *c, const struct draft_node *node, int error)
{
	if (error == -EBUSY)
		return draft_refuse(c, VERDICT_BUSY, "v%u is just being committed; nothing in it can change until that has ended", node->top->number);
	if (error == -EROFS && draft_version_state(c->fs, node->top->version_id) == CATALOG_COMMITTED)
		return committed_refuse(c, node_make(NODE_VERSION, (uint64_t)node->top->version_id));
	if (error == -EROFS)
		return draft_refuse(c, VERDICT_IMMUTABLE, "v%u is a draft no longer; it does not change any more", node->top->number);
	return error;
}

/* The draft cannot be written here: says where. */
static int refuse_elsewhere(struct call *c, const struct draft_node *node)
{
	struct registry *reg = fs_registry(c->fs);
	auto_free struct catalog_mount *mount = malloc(sizeof(*mount));
	struct catalog_conn *conn;
	struct catalog_version v;
	int r;

	if (registry_read_only(reg))
		return draft_refuse(c, VERDICT_READ_ONLY, "the store is opened read-only");
	if (!mount)
		return -ENOMEM;
	r = registry_read_begin(reg, &conn);
	if (r < 0)
		return r;
	r = catalog_version_get(conn, node->top->version_id, &v);
	catalog_read_end(conn);
	if (r == 0)
		r = registry_draft_mount(reg, &v, mount);
	if (r < 0)
		return draft_refuse(c, VERDICT_ELSEWHERE, "the draft v%u is served by another mount, or this one has as many drafts as its limit of open files allows", node->top->number);
	return draft_refuse(c, VERDICT_ELSEWHERE, "the draft v%u is served by the mount at %s; write there", node->top->number, mount->mountpoint);
}

int draft_check_mode(struct call *c, mode_t mode, bool is_dir)
{
	if ((mode & S_ISUID) || (!is_dir && (mode & S_ISGID)))
		return draft_refuse(c, VERDICT_SPECIAL_FILE, "set-user-id and set-group-id files are not kept");
	return 0;
}

int draft_writable(struct call *c, const struct draft_node *node, struct draft **ret)
{
	auto_draft struct draft *d = NULL;
	bool writable;
	int r;

	if (fs_is_read_only(c->fs))
		return draft_refuse(c, VERDICT_READ_ONLY, "the drive is mounted read-only");
	if (draft_node_is_gone(fs_draft_nodes(c->fs), node))
		return draft_refuse_state(c, node, -EROFS);
	r = registry_draft_get(fs_registry(c->fs), node->top->version_id, &d, &writable);
	if (r < 0)
		return draft_refuse_state(c, node, r == -ENOENT ? -EROFS : r);
	if (!writable)
		return refuse_elsewhere(c, node);
	atomic_store(&node->top->elsewhere, false); /* adopted, perhaps just now */
	*ret = take_ptr(d);
	return 0;
}

/* ---- scopes ---- */

/* The root node of a version that nobody remembers yet. */
static int make_root(struct call *c, int64_t version_id, struct draft_node **ret)
{
	struct registry *reg = fs_registry(c->fs);
	auto_draft struct draft *d = NULL;
	struct catalog_conn *conn;
	struct catalog_version v;
	struct draft_top top;
	bool writable;
	int r = registry_draft_get(reg, version_id, &d, &writable);

	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	r = registry_read_begin(reg, &conn);
	if (r < 0)
		return r;
	r = catalog_version_get(conn, version_id, &v);
	catalog_read_end(conn);
	if (r < 0)
		return r;
	top = (struct draft_top){
		.draft = d,
		.version_id = version_id,
		.model_id = v.model_id,
		.number = v.number,
		.fd = draft_root(d),
		.elsewhere = !writable,
	};
	return draft_node_root(fs_draft_nodes(c->fs), &top, ret);
}

int draft_root_again(struct fs *fs, int64_t version_id, struct draft_node **ret)
{
	struct call c = {.fs = fs};
	auto_read struct catalog_conn *conn = NULL;
	struct catalog_version v;
	int r = make_root(&c, version_id, ret);

	if (r != -ESTALE && r != -ENXIO)
		return r;
	r = registry_read_begin(fs_registry(fs), &conn);
	if (r == 0)
		r = catalog_version_get(conn, version_id, &v);
	if (r < 0)
		return r;
	const struct draft_top top = {.version_id = version_id, .model_id = v.model_id, .number = v.number, .fd = -1};
	return draft_node_root(fs_draft_nodes(fs), &top, ret);
}

/* Is the draft of another mount committed or discarded by now? */
static void look_elsewhere(struct call *c, struct draft_node *node)
{
	struct draft_nodes *n = fs_draft_nodes(c->fs);
	auto_read struct catalog_conn *conn = NULL;
	struct catalog_version v;

	if (draft_node_is_gone(n, node) || registry_read_begin(fs_registry(c->fs), &conn) < 0 || catalog_version_get(conn, node->top->version_id, &v) < 0)
		return;
	if (v.state == CATALOG_COMMITTED || v.state == CATALOG_RETIRED)
		draft_twins_settle(n, conn, v.id);
}

int draft_use_begin(struct call *c, fuse_ino_t ino, struct draft_use *ret)
{
	struct draft_nodes *n = fs_draft_nodes(c->fs);
	struct draft_node *node = NULL;
	int r = draft_node_get(n, ino, &node);

	if (r == -ESTALE && node_tag(ino) == NODE_VERSION)
		r = make_root(c, (int64_t)node_value(ino), &node);
	if (r == 0 && atomic_load(&node->top->elsewhere))
		look_elsewhere(c, node);
	if (r == 0)
		r = draft_nodes_find(n, node);
	if (r < 0) {
		if (node)
			draft_node_put(n, node);
		return r;
	}
	*ret = (struct draft_use){n, node};
	return 0;
}

void draft_use_end(struct draft_use *u)
{
	if (u->nodes)
		draft_node_put(u->nodes, u->node);
	*u = (struct draft_use)DRAFT_USE_INIT;
}

int draft_change_open(struct call *c, const struct draft_node *node, struct draft_change *ret)
{
	auto_draft struct draft *d = NULL;
	int r = draft_writable(c, node, &d);

	if (r < 0)
		return r;
	r = draft_change_begin(d);
	if (r < 0)
		return draft_refuse_state(c, node, r);
	ret->draft = take_ptr(d);
	return 0;
}

void draft_change_close(struct draft_change *ch)
{
	if (!ch->draft)
		return;
	draft_change_end(ch->draft);
	draft_put(ch->draft);
	ch->draft = NULL;
}

int draft_place_begin(struct call *c, fuse_ino_t parent, struct draft_place *ret)
{
	int r = draft_use_begin(c, parent, &ret->use);

	if (r == 0)
		r = draft_change_open(c, ret->use.node, &ret->change);
	return r < 0 ? r : draft_node_dir(ret->use.nodes, ret->use.node, &ret->dir);
}

void draft_place_end(struct draft_place *p)
{
	draft_dir_release(&p->dir);
	draft_change_close(&p->change);
	draft_use_end(&p->use);
}
