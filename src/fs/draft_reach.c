/* From a draft node to its backing file: by the node's own descriptor, or by the name it was last seen under.
 *
 * This races with renames: name and parent are copied under `lock` and used without it. Whoever then meets another
 * inode, or nothing, tries once more under `renames`, which is held around each renameat2 until the table knows of it.
 * Lock order, and when a descriptor stays open: draft_table.c. */
#include "draft_inner.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <string.h>

static int fd_of(const struct draft_node *node)
{
	return table_is_root(node) ? node->top->fd : node->fd;
}

void draft_renames_lock(struct draft_nodes *n)
{
	pthread_mutex_lock(&n->renames);
}

void draft_renames_unlock(struct draft_nodes *n)
{
	pthread_mutex_unlock(&n->renames);
}

/* Could a rename under way be the reason? */
static bool is_stale(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -EXDEV || r == -ESTALE;
}

/* Writes the path of node to the end of buffer: from the root, or from the nearest ancestor with a descriptor. Under
 * the lock. */
static int path_up(struct draft_node *node, bool to_root, char buffer[PATH_MAX], const char **ret_path,
	struct draft_node **ret_from)
{
	char *p = buffer + PATH_MAX - 1;

	for (*p = '\0'; to_root ? !table_is_root(node) : fd_of(node) < 0; node = node->parent) {
		size_t len;
		if (!node->parent)
			return -ESTALE;
		len = strlen(node->name);
		if (len + 1 > (size_t)(p - buffer))
			return -ENAMETOOLONG;
		if (*p)
			*--p = '/';
		p -= len;
		memcpy(p, node->name, len);
	}
	*ret_path = p;
	*ret_from = node;
	return 0;
}

/* Keeps fd with the node if the budget allows; consumes fd. */
static struct draft_dir keep_dir(struct draft_nodes *n, struct draft_node *node, int fd)
{
	struct draft_dir d = {fd, true};

	pthread_mutex_lock(&n->lock);
	if (node->fd < 0 && n->dir_fds < n->max_dir_fds) {
		n->dir_fds++;
		node->fd = take_fd(&fd);
	}
	if (node->fd >= 0)
		d = (struct draft_dir){node->fd, false};
	pthread_mutex_unlock(&n->lock);
	if (!d.own && fd >= 0)
		close(fd);
	return d;
}

/* Opens a directory that has no descriptor of its own, at its first use or beyond the budget. */
static int dir_open(struct draft_nodes *n, struct draft_node *node)
{
	char buffer[PATH_MAX];
	struct draft_node *ancestor;
	const char *path;
	int fd = -1, r;

	pthread_mutex_lock(&n->lock);
	r = path_up(node, false, buffer, &path, &ancestor);
	if (r == 0) {
		ancestor->users++;
		fd = fd_of(ancestor);
	}
	pthread_mutex_unlock(&n->lock);
	if (r < 0)
		return r;
	fd = sys_openat_beneath(fd, path, O_PATH | O_DIRECTORY, 0);
	draft_node_put(n, ancestor);
	return fd;
}

int table_dir_once(struct draft_nodes *n, struct draft_node *node, struct draft_dir *ret)
{
	struct stat st;
	int fd, r;

	pthread_mutex_lock(&n->lock);
	fd = fd_of(node);
	pthread_mutex_unlock(&n->lock);
	if (fd >= 0) {
		*ret = (struct draft_dir){fd, false};
		return 0;
	}
	fd = dir_open(n, node);
	if (fd < 0)
		return fd;
	r = sys_fstat(fd, &st);
	if (r == 0)
		r = table_check_same(node, &st);
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret = keep_dir(n, node, fd);
	return 0;
}

int draft_node_dir(struct draft_nodes *n, struct draft_node *node, struct draft_dir *ret)
{
	int r;

	if (!S_ISDIR(node->type))
		return -ENOTDIR;
	r = table_dir_once(n, node, ret);
	if (!is_stale(r))
		return r;
	draft_renames_lock(n);
	r = table_dir_once(n, node, ret);
	draft_renames_unlock(n);
	return is_stale(r) ? -ESTALE : r;
}

void draft_dir_release(struct draft_dir *d)
{
	if (d->own)
		close(d->fd);
	*d = (struct draft_dir)DRAFT_DIR_INIT;
}

/* The file by its name in the parent. */
static int reach_by_name(struct draft_nodes *n, struct draft_node *node, struct draft_node *parent, const char *name,
	struct draft_dir *ret_fd, struct stat *st)
{
	auto_dirfd struct draft_dir dir = DRAFT_DIR_INIT;
	auto_close int fd = -1;
	int r = table_dir_once(n, parent, &dir);

	if (r < 0)
		return r;
	if (!ret_fd) {
		r = sys_fstatat(dir.fd, name, st, AT_SYMLINK_NOFOLLOW);
		return r < 0 ? r : table_check_same(node, st);
	}
	fd = sys_openat(dir.fd, name, O_PATH | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	r = sys_fstat(fd, st);
	if (r == 0)
		r = table_check_same(node, st);
	if (r == 0)
		*ret_fd = (struct draft_dir){take_fd(&fd), true};
	return r;
}

static int reach_once(struct draft_nodes *n, struct draft_node *node, struct draft_dir *ret_fd /* NULL: only st */,
	struct stat *st)
{
	struct draft_node *parent = NULL;
	char name[NAME_MAX + 1];
	int fd, r = 0;

	pthread_mutex_lock(&n->lock);
	fd = fd_of(node);
	if (fd < 0) {
		r = node->parent ? text_copy(name, sizeof(name), node->name) : -ESTALE;
		if (r == 0) {
			parent = node->parent;
			parent->users++;
		}
	}
	pthread_mutex_unlock(&n->lock);
	if (r < 0)
		return r;
	if (parent) {
		r = reach_by_name(n, node, parent, name, ret_fd, st);
		draft_node_put(n, parent);
		return r;
	}
	r = sys_fstat(fd, st);
	if (r == 0 && ret_fd)
		*ret_fd = (struct draft_dir){fd, false};
	return r;
}

int draft_node_reach(struct draft_nodes *n, struct draft_node *node, struct draft_dir *ret_fd, struct stat *ret_st)
{
	struct stat st;
	int r = reach_once(n, node, ret_fd, &st);

	if (is_stale(r)) {
		draft_renames_lock(n);
		r = reach_once(n, node, ret_fd, &st);
		draft_renames_unlock(n);
	}
	if (r < 0)
		return is_stale(r) ? -ESTALE : r;
	*ret_st = st;
	return 0;
}

int draft_node_stat(struct draft_nodes *n, struct draft_node *node, struct stat *ret_st)
{
	return draft_node_reach(n, node, NULL, ret_st);
}

int draft_node_path(struct draft_nodes *n, struct draft_node *node, char buffer[PATH_MAX], const char **ret)
{
	struct draft_node *root;
	SCOPED_LOCK(&n->lock);

	return path_up(node, true, buffer, ret, &root);
}
