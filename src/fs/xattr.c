/* Extended attributes: user.mintfs.*, and nothing else.
 *
 *   listed, on versions and what is in them     what the registry says of a version or a file
 *   readable on every node, not listed          store (path of the store), path (relative to the root of the drive), datapath (passthrough, or daemon and why), error (the last refusal there)
 *   readable on the root, not listed            restarts (of the worker)
 *   written                                     commit (a message; on a version), discard (1, or force); on a model retire (vN, or vN force; a message on the next line); on the root upgrade (a program that takes over)
 *
 * To set or remove what is generated is no error and has no effect: rsync -X and cp --preserve=xattr do so with what they listed at the other end.
 * Everything else cannot be set (EOPNOTSUPP, on which cp -a and tar go on) and is not there (ENODATA). */
#include "session.h"

#include <errno.h>
#include <limits.h>
#include <mintfs/buf.h>
#include <mintfs/cleanup.h>
#include <string.h>

#define PREFIX "user.mintfs."
#define LIST_MAX 65536 /* XATTR_LIST_MAX of the kernel */

static const char *own_name(const char *name)
{
	return strncmp(name, PREFIX, strlen(PREFIX)) == 0 ? name + strlen(PREFIX) : NULL;
}

struct search {
	const char *name;
	char *value; /* owned */
	int error;
};

static int take_match(const char *name, const char *value, void *arg)
{
	struct search *s = arg;

	if (s->value || !value || strcmp(name, s->name) != 0)
		return 0;
	s->value = strdup(value);
	if (!s->value)
		s->error = -ENOMEM;
	return 1; /* enough */
}

static int class_value(struct call *c, const struct node_ops *ops, fuse_ino_t ino, const char *name, char **ret)
{
	struct search s = {.name = name};
	int r = ops->xattrs ? ops->xattrs(c, ino, take_match, &s) : 0;

	if (s.error < 0)
		return s.error;
	if (s.value) {
		*ret = s.value;
		return 0;
	}
	return r < 0 ? r : -ENODATA;
}

static int copy(const char *value, char **ret)
{
	char *p = strdup(value);

	if (!p)
		return -ENOMEM;
	*ret = p;
	return 0;
}

static int find_value(struct call *c, const struct node_ops *ops, fuse_ino_t ino, const char *name, char **ret)
{
	char text[CATALOG_PATH_MAX + 4096 + 16];
	int r;

	if (strcmp(name, "store") == 0)
		return copy(registry_path(c->fs->registry), ret);
	if (strcmp(name, "datapath") == 0) {
		char why[sizeof text / 2];
		bool direct = passthrough_enabled(&c->fs->passthrough, why, sizeof why);
		snprintf(text, sizeof text, "%s%s", direct ? "passthrough" : "daemon: ", why);
		return copy(text, ret);
	}
	if (ino == NODE_ROOT && c->fs->ask && c->fs->ask(c->fs->keeper_arg, name, text, sizeof text) == 0)
		return copy(text, ret);
	if (strcmp(name, "path") == 0) {
		r = node_path(c->fs, ino, text, sizeof text);
		if (r == 0)
			return copy(text, ret);
		return r == -EOPNOTSUPP ? class_value(c, ops, ino, name, ret) : r;
	}
	r = class_value(c, ops, ino, name, ret);
	if (r == -ENODATA && strcmp(name, "error") == 0 && errors_find(&c->fs->errors, ino, text) == 0)
		return copy(text, ret);
	return r;
}

static void reply_bytes(struct call *c, const char *data, size_t len, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(c->req, len);
	else if (len > size)
		fuse_reply_err(c->req, ERANGE);
	else
		fuse_reply_buf(c->req, data, len);
}

/* What ls -l asks for each name: told that there is no such thing here, it asks once. */
static bool is_unknown_here(const char *name)
{
	return strncmp(name, "system.posix_acl_", 17) == 0 || strcmp(name, "security.selinux") == 0;
}

/* Asked at many an ls and write for names of others: those are answered without a look at anything. */
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct call c;
	const struct node_ops *ops;
	const char *own = own_name(name);
	auto_free char *value = NULL;

	if (!own) {
		fuse_reply_err(req, is_unknown_here(name) ? EOPNOTSUPP : ENODATA);
		return;
	}
	int r = call_begin_at(&c, req, ino, NULL, &ops);
	if (r == 0)
		r = find_value(&c, ops, ino, own, &value);
	if (r != 0)
		call_fail(&c, ino, r);
	else
		reply_bytes(&c, value, strlen(value), size);
}

static int add_name(const char *name, const char *value, void *arg)
{
	struct buf *list = arg;

	if (!value || strcmp(name, "path") == 0 || strcmp(name, "store") == 0)
		return 0;
	buf_puts(list, PREFIX);
	buf_puts(list, name);
	return buf_putc(list, '\0');
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct call c;
	const struct node_ops *ops;
	auto_buf struct buf list = BUF_INIT(LIST_MAX);
	int r = call_begin_at(&c, req, ino, NULL, &ops);

	if (r == 0 && ops->xattrs)
		r = ops->xattrs(&c, ino, add_name, &list);
	if (r == 0)
		r = list.error;
	if (r < 0)
		call_fail(&c, ino, r);
	else
		reply_bytes(&c, buf_text(&list), list.len, size);
}

struct setxattr_job {
	struct call c;
	fuse_ino_t ino;
	size_t size;
	char *name; /* both within the job's memory */
	char *value;
};

static int upgrade(struct call *c, const char *program)
{
	struct fs *fs = c->fs;

	if (!fs->upgrade)
		return -EOPNOTSUPP;
	if (c->who.uid != 0 && c->who.uid != fs->uid)
		return fault_set(&c->fault, EPERM, "only who mounted the drive, and root, may have another program take it over");
	if (program[0] != '/')
		return fault_set(&c->fault, EINVAL, "the program that is to take over is named by its absolute path");
	return fs->upgrade(fs->keeper_arg, program, c->again, &c->fault);
}

static void setxattr_run(void *arg)
{
	auto_free struct setxattr_job *j = arg;
	const struct node_ops *ops;
	struct notify *notify = j->c.fs->notify;
	struct notify_hold hold;

	notify_hold_begin(notify, &hold);
	if (node_tag(j->ino) == NODE_VERSION && strcmp(j->name, PREFIX "discard") == 0 && strcmp(j->value, "force") != 0)
		open_wait_closed(j->c.fs, (int64_t)node_value(j->ino));
	else if (node_tag(j->ino) == NODE_VERSION)
		open_wait_writers(j->c.fs, (int64_t)node_value(j->ino));
	int r = node_ops_of(j->c.fs, j->ino, &ops);
	if (r == 0 && j->ino == NODE_ROOT && strcmp(j->name, PREFIX "upgrade") == 0)
		r = upgrade(&j->c, j->value);
	else if (r == 0)
		r = ops->setxattr ? ops->setxattr(&j->c, j->ino, j->name, j->value, j->size) : -EOPNOTSUPP;
	call_reply_err(&j->c, j->ino, r);
	notify_hold_end(notify, &hold);
}

static struct setxattr_job *new_job(const struct call *c, fuse_ino_t ino, const char *name, const char *value, size_t size)
{
	size_t name_size = strlen(name) + 1;
	struct setxattr_job *j = calloc(1, sizeof *j + name_size + size + 1); /* the value ends in NUL too */

	if (!j)
		return NULL;
	call_move(&j->c, c);
	j->ino = ino;
	j->size = size;
	j->name = (char *)(j + 1);
	j->value = j->name + name_size;
	memcpy(j->name, name, name_size);
	memcpy(j->value, value, size);
	return j;
}

static bool is_generated(const char *own)
{
	static const char *const names[] = {"version", "state", "sha256", "digest", "size", "run", "created", "message", "error", "store", "path", "datapath", "restarts"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(own, names[i]) == 0)
			return true;
	}
	return false;
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	const char *own = own_name(name);

	fuse_reply_err(req, own && is_generated(own) ? 0 : ENODATA);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct call c;
	struct setxattr_job *j;
	const char *own = own_name(name);
	int r = own && is_generated(own) ? 0 : -EOPNOTSUPP;

	call_begin(&c, req);
	if (own && r < 0) {
		j = new_job(&c, ino, name, value, size);
		r = j ? fs_pool_run(c.fs, FS_POOL_LONG, c.who.uid, setxattr_run, j) : -ENOMEM;
		if (r == 0)
			return;
		free(j);
	}
	fuse_reply_err(req, -r);
}
