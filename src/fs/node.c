/* From an inode number to its class, its attributes, its path. */
#include "draft_table.h"
#include "session.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <stdio.h>
#include <string.h>

#define NODE_BLOCK 4096 /* st_blksize: the kernel makes it the inode's block size, and one above a page is asking for trouble */

/* A draft that was discarded stays with its class, which knows what the kernel still holds of it; a retired version reads on for
 * whoever is in it, though no name leads there any more. */
static int version_ops_of(struct fs *fs, fuse_ino_t ino, const struct node_ops **ret)
{
	struct catalog_version v;
	auto_read struct catalog_conn *conn = NULL;
	int r = registry_read_begin(fs->registry, &conn);

	if (r == 0)
		r = catalog_version_get(conn, (int64_t)node_value(ino), &v);
	if (r == 0)
		*ret = v.state == CATALOG_DRAFT || v.state == CATALOG_DISCARDED ? &draft_ops : &committed_ops;
	return r == -ENOENT ? -ESTALE : r;
}

int node_ops_of(struct fs *fs, fuse_ino_t ino, const struct node_ops **ret)
{
	switch (node_tag(ino)) {
	case NODE_SPECIAL:
		*ret = ino == NODE_ROOT ? &layout_ops : &versions_ops;
		return ino == NODE_ROOT || ino == NODE_VERSIONS_JSON ? 0 : -ESTALE;
	case NODE_DIR:
		*ret = &layout_ops;
		return 0;
	case NODE_VERSION:
		return version_ops_of(fs, ino, ret);
	case NODE_FILE:
		*ret = &committed_ops;
		return 0;
	case NODE_LATEST:
	case NODE_BEST:
	case NODE_ALIAS:
		*ret = &link_ops;
		return 0;
	case NODE_DRAFT:
		*ret = &draft_ops;
		return 0;
	}
	return -ESTALE;
}

int64_t node_dir_id(fuse_ino_t ino)
{
	return ino == NODE_ROOT ? CATALOG_DIR_ROOT : (int64_t)(node_value(ino) & (((uint64_t)1 << NODE_DIR_ID_BITS) - 1));
}

uint32_t node_dir_life(fuse_ino_t ino)
{
	return ino == NODE_ROOT ? 0 : (uint32_t)(node_value(ino) >> NODE_DIR_ID_BITS);
}

fuse_ino_t node_of_dir(const struct catalog_dir *d)
{
	return d->id == CATALOG_DIR_ROOT ? NODE_ROOT : node_make(NODE_DIR, (uint64_t)d->lives << NODE_DIR_ID_BITS | (uint64_t)d->id);
}

void node_stat(fuse_ino_t ino, mode_t mode, uid_t uid, gid_t gid, int64_t mtime_ns, struct stat *st)
{
	memset(st, 0, sizeof *st);
	st->st_ino = ino;
	st->st_mode = mode;
	st->st_nlink = 1; /* of a directory: the number of its subdirectories is not counted */
	st->st_uid = uid;
	st->st_gid = gid;
	st->st_blksize = NODE_BLOCK;
	st->st_atim = st->st_mtim = st->st_ctim = ns_timespec(mtime_ns);
}

void node_entry(const struct stat *st, double entry_timeout, double attr_timeout, struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){.ino = st->st_ino, .attr = *st, .entry_timeout = entry_timeout, .attr_timeout = attr_timeout};
}

/* Access times are kept nowhere, so setting one changes nothing. */
bool node_setattr_is_nothing(const struct stat *now, const struct stat *to, int to_set)
{
	const mode_t bits = 07777;

	if ((to_set & FUSE_SET_ATTR_MODE) && ((now->st_mode ^ to->st_mode) & bits))
		return false;
	if ((to_set & FUSE_SET_ATTR_UID) && to->st_uid != now->st_uid)
		return false;
	if ((to_set & FUSE_SET_ATTR_GID) && to->st_gid != now->st_gid)
		return false;
	if (to_set & (FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MTIME_NOW)) /* a truncation to the same size is a write too */
		return false;
	if (to_set & FUSE_SET_ATTR_MTIME)
		return timespec_ns(to->st_mtim) == timespec_ns(now->st_mtim);
	return true;
}

static int join(char *out, size_t size, const char *dir, const char *name)
{
	int n = snprintf(out, size, "%s%s%s", dir, dir[0] ? "/" : "", name);
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

static int version_path(struct fs *fs, int64_t version_id, char *out, size_t size)
{
	struct catalog_version v;
	char dir[CATALOG_PATH_MAX], name[16];
	{
		auto_read struct catalog_conn *conn = NULL;
		int r = registry_read_begin(fs->registry, &conn);
		if (r < 0)
			return r;
		r = catalog_version_get(conn, version_id, &v);
		if (r < 0)
			return r;
	}
	int r = registry_dir_path(fs->registry, v.model_id, dir, sizeof dir);
	if (r < 0)
		return r;
	snprintf(name, sizeof name, "v%u", v.number);
	return join(out, size, dir, name);
}

static int file_path(struct fs *fs, int64_t file_id, char *out, size_t size)
{
	struct catalog_file f;
	char tail[4096] = "", top[CATALOG_PATH_MAX + 16], longer[sizeof tail];
	{
		auto_read struct catalog_conn *conn = NULL;
		int r = registry_read_begin(fs->registry, &conn);
		for (f.parent = file_id; r == 0 && f.parent > 0;) {
			r = catalog_file_get(conn, f.parent, &f);
			if (r == 0)
				r = tail[0] ? join(longer, sizeof longer, f.name, tail) : text_copy(longer, sizeof longer, f.name);
			if (r == 0)
				memcpy(tail, longer, sizeof tail);
		}
		if (r < 0)
			return r;
	}
	int r = version_path(fs, -f.parent, top, sizeof top);
	return r < 0 ? r : join(out, size, top, tail);
}

int node_path(struct fs *fs, fuse_ino_t ino, char *out, size_t size)
{
	int64_t twin;

	switch (node_tag(ino)) {
	case NODE_SPECIAL:
		return text_copy(out, size, ino == NODE_VERSIONS_JSON ? "versions.json" : "");
	case NODE_DIR:
		return registry_dir_path(fs->registry, node_dir_id(ino), out, size);
	case NODE_VERSION:
		return version_path(fs, (int64_t)node_value(ino), out, size);
	case NODE_FILE:
		return file_path(fs, (int64_t)node_value(ino), out, size);
	case NODE_LATEST: /* user attributes of links are the kernel's to refuse */
	case NODE_BEST:
	case NODE_ALIAS:
		break;
	case NODE_DRAFT:
		twin = draft_twins_id(fs->draft_nodes, ino);
		return twin ? file_path(fs, twin, out, size) : -EOPNOTSUPP;
	}
	return -EOPNOTSUPP;
}
