/* The directories above the versions: the root, scopes, models, and what happens at the names in a model.
 *
 * The rules are the registry's; here its answers become entries. `latest` is asked for with the caller's thread id, as its target is per run. */
#include "session.h"

#include <errno.h>
#include <linux/fs.h>
#include <mintfs/cleanup.h>
#include <stdio.h>
#include <string.h>

#define VERSIONS_NAME "versions.json"
#define DIR_BITS (01777 | S_ISGID)

int layout_dir_get(struct fs *fs, fuse_ino_t ino, struct catalog_dir *ret)
{
	struct catalog_dir d;
	auto_read struct catalog_conn *conn = NULL;
	int r = registry_read_begin(fs->registry, &conn);

	if (r < 0)
		return r;
	r = catalog_dir_get(conn, node_dir_id(ino), &d);
	if (r < 0)
		return r;
	if (d.hidden || d.lives != node_dir_life(ino))
		return -ENOENT;
	*ret = d;
	return 0;
}

fuse_ino_t layout_dir_node(struct fs *fs, int64_t dir_id)
{
	struct catalog_dir d;
	auto_read struct catalog_conn *conn = NULL;

	return registry_read_begin(fs->registry, &conn) < 0 || catalog_dir_get(conn, dir_id, &d) < 0 ? 0 : node_of_dir(&d);
}

static void dir_stat(const struct catalog_dir *d, struct stat *st)
{
	node_stat(node_of_dir(d), S_IFDIR | (d->mode & DIR_BITS), d->uid, d->gid, d->mtime_ns, st);
}

void layout_dir_entry(const struct catalog_dir *d, struct fuse_entry_param *e)
{
	struct stat st;

	dir_stat(d, &st);
	node_entry(&st, TIMEOUT_LAYOUT, TIMEOUT_LAYOUT, e);
}

int layout_version_entry(struct fs *fs, const struct catalog_version *v, struct fuse_entry_param *e)
{
	return v->state == CATALOG_DRAFT ? draft_version_entry(fs, v, e) : committed_version_entry(fs, v, e);
}

int layout_refuse(struct call *c, fuse_ino_t ino)
{
	struct catalog_dir d = {0};
	char path[CATALOG_PATH_MAX] = "";

	if (layout_dir_get(c->fs, ino, &d) < 0 || registry_dir_path(c->fs->registry, d.id, path, sizeof path) < 0)
		return -EPERM;
	if (d.is_model)
		fault_set(&c->fault, EPERM, "files of the model %s stand in its versions: mkdir %s/latest, then write there", path, path);
	else
		fault_set(&c->fault, EPERM, "files stand in versions only, as in product/P001_all/mlstm/v1, not in %s", path[0] ? path : "the root of the drive");
	c->fault.verdict = VERDICT_PLACE;
	return -EPERM;
}

static int child_entry(struct call *c, const struct catalog_dir *model, const struct registry_child *child, struct fuse_entry_param *e)
{
	switch (child->kind) {
	case REGISTRY_VERSION:
		return layout_version_entry(c->fs, &child->version, e);
	case REGISTRY_LATEST:
		link_entry(node_make(NODE_LATEST, (uint64_t)model->id), model, child->number, model->mtime_ns, e);
		return 0;
	case REGISTRY_BEST:
		link_entry(node_make(NODE_BEST, (uint64_t)model->id), model, child->number, model->mtime_ns, e);
		return 0;
	case REGISTRY_ALIAS:
		link_entry(node_make(NODE_ALIAS, (uint64_t)child->alias.id), model, child->number, child->alias.set_ns, e);
		return 0;
	}
	return -ENOENT;
}

static int find_dir(struct fs *fs, int64_t parent, const char *name, struct catalog_dir *ret)
{
	struct catalog_dir d;
	auto_read struct catalog_conn *conn = NULL;
	int r = registry_read_begin(fs->registry, &conn);

	if (r < 0)
		return r;
	r = catalog_dir_find(conn, parent, name, &d);
	if (r < 0)
		return r;
	if (d.hidden)
		return -ENOENT;
	*ret = d;
	return 0;
}

static int layout_lookup(struct call *c, fuse_ino_t parent, const char *name, struct fuse_entry_param *e)
{
	struct catalog_dir dir, found;
	struct registry_child child;
	int r;

	if (parent == NODE_ROOT && strcmp(name, VERSIONS_NAME) == 0)
		return versions_entry(c->fs, e);
	r = layout_dir_get(c->fs, parent, &dir);
	if (r == 0 && dir.is_model) {
		r = registry_child_find(c->fs->registry, dir.id, name, &c->who, &child);
		return r < 0 ? r : child_entry(c, &dir, &child, e);
	}
	if (r == 0)
		r = find_dir(c->fs, dir.id, name, &found);
	if (r == 0)
		layout_dir_entry(&found, e);
	return r;
}

static int layout_getattr(struct call *c, fuse_ino_t ino, struct stat *st, double *timeout)
{
	struct catalog_dir d;
	int r = layout_dir_get(c->fs, ino, &d);

	if (r < 0)
		return r;
	dir_stat(&d, st);
	*timeout = TIMEOUT_LAYOUT;
	return 0;
}

static int layout_setattr(struct call *c, fuse_ino_t ino, const struct stat *to, int to_set, struct open_file *of, struct stat *st, double *timeout)
{
	struct catalog_dir now, d = {.uid = to->st_uid, .gid = to->st_gid, .mode = to->st_mode & DIR_BITS, .mtime_ns = timespec_ns(to->st_mtim)};
	unsigned what = 0;
	int r;

	if (to_set & FUSE_SET_ATTR_MODE)
		what |= REGISTRY_SET_MODE;
	if (to_set & FUSE_SET_ATTR_UID)
		what |= REGISTRY_SET_UID;
	if (to_set & FUSE_SET_ATTR_GID)
		what |= REGISTRY_SET_GID;
	if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW))
		what |= REGISTRY_SET_MTIME;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		d.mtime_ns = time_now_ns();
	if (what == 0)
		return layout_getattr(c, ino, st, timeout);
	r = layout_dir_get(c->fs, ino, &now);
	if (r == 0)
		r = registry_dir_set(c->fs->registry, now.id, what, &d, &d);
	if (r < 0)
		return r;
	dir_stat(&d, st);
	*timeout = TIMEOUT_LAYOUT;
	return 0;
}

/* ---- changes ---- */

/* Answers with the directory of the new version, whatever name it was asked for by: the kernel wants a directory, and later lookups of `latest` may
 * well find a link. */
static int mint(struct call *c, const struct catalog_dir *model, const char *name, mode_t mode, struct fuse_entry_param *e)
{
	struct catalog_version v;
	int r = registry_mint_once(c->fs->registry, &c->who, model->id, name, mode & 07777, c->hand ? &c->hand->once : NULL, &v, &c->fault);

	if (r == 0)
		r = draft_version_entry(c->fs, &v, e);
	if (r == 0 && name[0] != 'v')
		e->entry_timeout = TIMEOUT_LINK;
	return r;
}

static int layout_mkdir(struct call *c, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_entry_param *e)
{
	struct catalog_dir dir, made;
	int r = layout_dir_get(c->fs, parent, &dir);

	if (r < 0)
		return r;
	if (dir.is_model)
		return mint(c, &dir, name, mode, e);
	r = registry_dir_make(c->fs->registry, &c->who, dir.id, name, mode & DIR_BITS, &made, &c->fault);
	if (r == -EEXIST && c->again) /* made by the worker that died */
		r = find_dir(c->fs, dir.id, name, &made);
	if (r < 0)
		return r;
	layout_dir_entry(&made, e);
	return 0;
}

/* What a request that comes again does not find is what it took away before. */
static int done_before(struct call *c, int r)
{
	if (r != -ENOENT || !c->again)
		return r;
	c->fault = (struct fault)FAULT_INIT;
	return 0;
}

static bool find_alias(struct call *c, int64_t model_id, const char *name, struct catalog_alias *ret)
{
	struct registry_child child;

	if (registry_child_find(c->fs->registry, model_id, name, &c->who, &child) < 0 || child.kind != REGISTRY_ALIAS)
		return false;
	*ret = child.alias;
	return true;
}

static int layout_rmdir(struct call *c, fuse_ino_t parent, const char *name)
{
	struct catalog_dir dir;
	struct registry_child child;
	int r = layout_dir_get(c->fs, parent, &dir);

	if (r < 0)
		return r;
	if (!dir.is_model)
		return done_before(c, registry_dir_remove(c->fs->registry, dir.id, name, &c->fault));
	r = registry_child_find(c->fs->registry, dir.id, name, &c->who, &child);
	if (r < 0)
		return done_before(c, r);
	if (child.kind != REGISTRY_VERSION)
		return -ENOTDIR;
	if (child.version.state != CATALOG_DRAFT) {
		c->subject = node_make(NODE_VERSION, (uint64_t)child.version.id);
		return committed_refuse(c, c->subject);
	}
	open_wait_closed(c->fs, child.version.id); /* we are on the pool (ops.c, may_be_version) */
	return done_before(c, registry_discard(c->fs->registry, &c->who, child.version.id, REGISTRY_DISCARD_EMPTY_ONLY, &c->fault));
}

static bool has_committed(struct fs *fs, int64_t model_id)
{
	struct catalog_model m;
	auto_read struct catalog_conn *conn = NULL;

	return registry_read_begin(fs->registry, &conn) < 0 || catalog_model_get(conn, model_id, &m) < 0 || m.newest_committed != 0;
}

/* `latest` of a model without a committed version leads the caller to a draft, and goes with it. It stands before the versions in the listing, and rm -r gives up a directory of which a name could
 * not be removed: so to remove it is no error, and has no effect. */
static bool goes_with_the_draft(struct call *c, int64_t model_id, const char *name)
{
	uint32_t number;

	return strcmp(name, "latest") == 0 && !has_committed(c->fs, model_id) && registry_latest(c->fs->registry, model_id, &c->who, &number) == 0;
}

static int layout_unlink(struct call *c, fuse_ino_t parent, const char *name)
{
	struct catalog_dir dir;
	int r = layout_dir_get(c->fs, parent, &dir);

	if (r < 0)
		return r;
	if (dir.is_model && goes_with_the_draft(c, dir.id, name))
		return 0;
	if (dir.is_model)
		return done_before(c, registry_alias_drop(c->fs->registry, &c->who, dir.id, name, &c->fault));
	if (parent == NODE_ROOT && strcmp(name, VERSIONS_NAME) == 0)
		return call_refuse(c, &versions_ops, NODE_VERSIONS_JSON);
	return -ENOENT;
}

static int layout_symlink(struct call *c, fuse_ino_t parent, const char *name, const char *target, struct fuse_entry_param *e)
{
	struct catalog_dir dir;
	struct catalog_alias a;
	int r = layout_dir_get(c->fs, parent, &dir);

	if (r < 0)
		return r;
	if (!dir.is_model)
		return layout_refuse(c, parent);
	r = registry_alias_set(c->fs->registry, &c->who, dir.id, name, target, &a, &c->fault);
	if (r == -EEXIST && c->again && find_alias(c, dir.id, name, &a)) /* set by the worker that died */
		r = 0;
	if (r == 0)
		link_entry(node_make(NODE_ALIAS, (uint64_t)a.id), &dir, a.number, a.set_ns, e);
	return r;
}

static int layout_rename(struct call *c, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned flags)
{
	struct catalog_dir dir;
	struct catalog_alias a;
	int r = layout_dir_get(c->fs, parent, &dir);

	if (r < 0)
		return r;
	if (flags & ~(unsigned)RENAME_NOREPLACE)
		return -EINVAL;
	if (dir.is_model && parent == newparent) {
		r = registry_alias_rename(c->fs->registry, &c->who, dir.id, name, newname, flags & RENAME_NOREPLACE, &c->fault);
		return r == -ENOENT && find_alias(c, dir.id, newname, &a) ? done_before(c, r) : r;
	}
	if (parent == NODE_ROOT && strcmp(name, VERSIONS_NAME) == 0)
		return call_refuse(c, &versions_ops, NODE_VERSIONS_JSON);
	fault_set(&c->fault, EPERM, "%s keeps its place: versions and models are recorded by their paths, and an alias belongs to its model", name);
	c->fault.verdict = VERDICT_PLACE;
	return -EPERM;
}

/* ---- retirement ----
 * Asked for at the model, not at the version: a committed version has no write bits. */

/* "v3", "v3 force", each perhaps with a line break and a message behind. Takes text apart in place. */
static int parse_retire(char *text, uint32_t *ret_number, struct registry_retire *ret)
{
	char *message = strchr(text, '\n'), *word;

	if (message)
		*message++ = '\0';
	word = strchr(text, ' ');
	if (word)
		*word++ = '\0';
	if (layout_classify_child(text, ret_number) != LAYOUT_CHILD_VERSION || (word && strcmp(word, "force") != 0))
		return -EINVAL;
	*ret = (struct registry_retire){.message = message && message[0] ? message : NULL, .force = word != NULL};
	return 0;
}

static int find_version(struct fs *fs, int64_t model_id, uint32_t number, struct catalog_version *ret)
{
	auto_read struct catalog_conn *conn = NULL;
	int r = registry_read_begin(fs->registry, &conn);
	return r < 0 ? r : catalog_version_find(conn, model_id, number, ret);
}

static int retire(struct call *c, const struct catalog_dir *model, char *text)
{
	struct registry_retire how;
	struct catalog_version v;
	uint32_t number;
	int r = parse_retire(text, &number, &how) < 0 ? fault_set(&c->fault, EINVAL, "user.mintfs.retire takes a version, such as v3, perhaps with 'force' behind it") : 0;

	if (r == 0)
		r = find_version(c->fs, model->id, number, &v);
	if (r == -ENOENT)
		return fault_set(&c->fault, ENOENT, "the model has no version v%u", number);
	if (r < 0)
		return r;
	how.open_files = open_count(c->fs, v.id);
	return registry_retire(c->fs->registry, &c->who, v.id, &how, &c->fault);
}

/* `setfattr -n user.mintfs.commit -v 'v3 MESSAGE' MODEL`, `… discard -v 'v3 [force]' …`: for the owner and the group of a model, who may not write to a draft of
 * somebody else. */
static int layout_setxattr(struct call *c, fuse_ino_t ino, const char *name, const char *value, size_t size)
{
	struct catalog_dir dir;
	struct registry_child child;
	auto_free char *text = strndup(value, size);
	int r = text ? layout_dir_get(c->fs, ino, &dir) : -ENOMEM;

	if (r < 0)
		return r;
	if (dir.is_model && strcmp(name, "user.mintfs.retire") == 0)
		return retire(c, &dir, text);
	bool commits = strcmp(name, "user.mintfs.commit") == 0;
	if (!dir.is_model || (!commits && strcmp(name, "user.mintfs.discard") != 0))
		return -EOPNOTSUPP;
	char *rest = text + strcspn(text, " ");
	if (*rest)
		*rest++ = '\0';
	r = registry_child_find(c->fs->registry, dir.id, text, &c->who, &child);
	if (r < 0 && !commits && c->again)
		return 0; /* discarded by the worker that died */
	if (r < 0 || child.kind != REGISTRY_VERSION)
		return fault_set(&c->fault, ENOENT, "'%s' is no version of the model: write v3, and what belongs to it behind a blank", text);
	bool force = strcmp(rest, "force") == 0;
	if (commits || force)
		open_wait_writers(c->fs, child.version.id);
	else
		open_wait_closed(c->fs, child.version.id);
	if (commits)
		return registry_commit(c->fs->registry, &c->who, child.version.id, *rest ? rest : NULL, &c->fault);
	return registry_discard(c->fs->registry, &c->who, child.version.id, force ? REGISTRY_DISCARD_FORCE : 0, &c->fault);
}

const struct node_ops layout_ops = {
	.lookup = layout_lookup,
	.getattr = layout_getattr,
	.setattr = layout_setattr,
	.mkdir = layout_mkdir,
	.rmdir = layout_rmdir,
	.unlink = layout_unlink,
	.symlink = layout_symlink,
	.rename = layout_rename,
	.readdir = layout_readdir,
	.setxattr = layout_setxattr,
};
