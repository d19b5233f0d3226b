/* A request from its beginning to its one reply. The sign of errors turns here and nowhere else.
 *
 * A reply that the kernel does not take (the caller was interrupted, the connection is gone) undoes what the reply would have handed over: a lookup
 * is forgotten here. */
#include "session.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

void call_begin(struct call *c, fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	memset(c, 0, sizeof *c);
	c->fs = fuse_req_userdata(req);
	c->req = req;
	c->who = (struct registry_actor){.tid = ctx->pid, .uid = ctx->uid, .gid = ctx->gid};
	c->hand = channel_hand(&c->fs->channel);
	if (!c->hand)
		return;
	c->unique = atomic_load(&c->hand->unique);
	c->again = atomic_load(&c->hand->resent) != 0;
	if (c->again)
		resent_begin(c);
}

void call_move(struct call *to, const struct call *from)
{
	if (to != from)
		*to = *from;
	to->hand = NULL; /* the thread goes on to other requests */
}

void call_counted(struct call *c, fuse_ino_t ino)
{
	if (c->hand && node_tag(ino) == NODE_DRAFT)
		atomic_store(&c->hand->counted, ino);
}

int call_begin_at(struct call *c, fuse_req_t req, fuse_ino_t ino, const char *name, const struct node_ops **ret)
{
	call_begin(c, req);
	if (name && strlen(name) > NAME_MAX) /* the kernel lets 1024 bytes and more through */
		return -ENAMETOOLONG;
	return node_ops_of(c->fs, ino, ret);
}

void call_fail(struct call *c, fuse_ino_t ino, int r)
{
	if (r == -EUCLEAN || r == -EPROTONOSUPPORT)
		registry_explain(c->fs->registry, r, &c->fault);
	if (c->fault.text[0] != '\0' && errors_keep(&c->fs->errors, c->subject ? c->subject : ino, c->fault.text))
		log_info(c->fs->log, "refused to uid %u, thread %d: %s", (unsigned)c->who.uid, (int)c->who.tid, c->fault.text);
	fuse_reply_err(c->req, -r);
}

void call_reply_err(struct call *c, fuse_ino_t ino, int r)
{
	if (r < 0) {
		call_fail(c, ino, r);
		return;
	}
	errors_drop(&c->fs->errors, ino);
	fuse_reply_err(c->req, 0);
}

void call_reply_entry(struct call *c, fuse_ino_t ino, int r, const struct fuse_entry_param *e)
{
	struct fs *fs = c->fs;

	if (r < 0) {
		call_fail(c, ino, r);
		return;
	}
	call_counted(c, e->ino);
	if (fuse_reply_entry(c->req, e) != 0)
		node_forget(fs, e->ino, 1);
}

void call_reply_attr(struct call *c, fuse_ino_t ino, int r, const struct stat *st, double timeout)
{
	if (r < 0)
		call_fail(c, ino, r);
	else
		fuse_reply_attr(c->req, st, timeout);
}

int call_refuse(struct call *c, const struct node_ops *ops, fuse_ino_t ino)
{
	if (ops == &committed_ops)
		return committed_refuse(c, ino);
	if (ops == &layout_ops)
		return layout_refuse(c, ino);
	if (ops == &versions_ops)
		return fault_set(&c->fault, EPERM, "versions.json is generated from the catalog: it cannot be changed by hand");
	return -EPERM;
}

void node_forget(struct fs *fs, fuse_ino_t ino, uint64_t nlookup)
{
	enum node_tag tag = node_tag(ino);

	if (tag == NODE_DRAFT || tag == NODE_VERSION) /* everything else is computed, not remembered */
		draft_ops.forget(fs, ino, nlookup);
}
