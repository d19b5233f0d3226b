/* The three kinds of link in a model: latest, best, and aliases.
 *
 * Their targets are asked for at every use, by whoever uses them: no entry, attribute or target of them is ever cached. They belong to the owner of the
 * model's directory, whoever set them, since the kernel does not follow another user's link in a directory that all may write to
 * (fs.protected_symlinks). */
#include "session.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <stdio.h>
#include <string.h>

#define TARGET_MAX 16 /* vN */

void link_entry(fuse_ino_t ino, const struct catalog_dir *dir, uint32_t number, int64_t mtime_ns, struct fuse_entry_param *e)
{
	struct stat st;
	char target[TARGET_MAX];

	node_stat(ino, S_IFLNK | 0777, dir->uid, dir->gid, mtime_ns, &st);
	st.st_size = snprintf(target, sizeof target, "v%u", number);
	node_entry(&st, TIMEOUT_LINK, TIMEOUT_LINK, e);
}

struct where {
	int64_t model_id;
	uint32_t number;
	int64_t set_ns; /* 0: not an alias */
};

static int find_alias(struct fs *fs, int64_t id, struct where *ret)
{
	struct catalog_alias a;
	auto_read struct catalog_conn *conn = NULL;
	int r = registry_read_begin(fs->registry, &conn);

	if (r == 0)
		r = catalog_alias_get(conn, id, &a);
	if (r < 0)
		return r;
	*ret = (struct where){.model_id = a.model_id, .number = a.number, .set_ns = a.set_ns};
	return 0;
}

static int find(struct call *c, fuse_ino_t ino, struct where *ret)
{
	struct registry *r = c->fs->registry;
	int64_t id = (int64_t)node_value(ino);
	uint32_t number = 0;
	int rc;

	if (node_tag(ino) == NODE_ALIAS)
		return find_alias(c->fs, id, ret);
	rc = node_tag(ino) == NODE_LATEST ? registry_latest(r, id, &c->who, &number) : registry_best(r, id, &number);
	if (rc < 0)
		return rc;
	*ret = (struct where){.model_id = id, .number = number};
	return 0;
}

static int link_getattr(struct call *c, fuse_ino_t ino, struct stat *st, double *timeout)
{
	struct where w;
	struct catalog_dir dir;
	struct fuse_entry_param e;
	int r = find(c, ino, &w);

	if (r < 0)
		return r;
	auto_read struct catalog_conn *conn = NULL;
	r = registry_read_begin(c->fs->registry, &conn);
	if (r == 0)
		r = catalog_dir_get(conn, w.model_id, &dir);
	if (r != 0)
		return r;
	link_entry(ino, &dir, w.number, w.set_ns ? w.set_ns : dir.mtime_ns, &e);
	*st = e.attr;
	*timeout = TIMEOUT_LINK;
	return 0;
}

static int link_readlink(struct call *c, fuse_ino_t ino, char *out, size_t size)
{
	struct where w;
	int r = find(c, ino, &w);

	if (r < 0)
		return r;
	r = snprintf(out, size, "v%u", w.number);
	return (size_t)r < size ? 0 : -ENAMETOOLONG;
}

/* Times of links are not kept: cp -a and rsync set them on each link they made, and are not to fail over it. */
static int link_setattr(struct call *c, fuse_ino_t ino, const struct stat *to, int to_set, struct open_file *of, struct stat *st, double *timeout)
{
	struct stat now;
	int r = link_getattr(c, ino, &now, timeout);

	if (r < 0)
		return r;
	if (!node_setattr_is_nothing(&now, to, to_set & ~NODE_SET_TIMES))
		return fault_set(&c->fault, EPERM, "a link in a model belongs to the owner of the model, and has no mode of its own");
	*st = now;
	return 0;
}

const struct node_ops link_ops = {
	.getattr = link_getattr,
	.setattr = link_setattr,
	.readlink = link_readlink,
};
