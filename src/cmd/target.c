/* What an argument names: a path on a drive, or a name in a store; and which drives there are.
 *
 * A drive tells by itself whose it is: user.mintfs.store and user.mintfs.path, readable on its directories and committed files. What lies within a draft, or does
 * not exist, is found by the nearest parent that does. */
#include "cmd.h"

#include <errno.h>
#include <limits.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

/* ---- drives ---- */

int path_append(char *out, size_t size, const char *tail)
{
	size_t len = strlen(out);
	if (!*tail)
		return 0;
	int n = snprintf(out + len, size - len, "%s%s", len ? "/" : "", tail);
	return n < 0 || (size_t)n >= size - len ? -ENAMETOOLONG : 0;
}

int drive_attr(const char *path, const char *name, char *out, size_t size)
{
	char whole[256];
	snprintf(whole, sizeof whole, "user.mintfs.%s", name);
	ssize_t n = getxattr(path, whole, out, size - 1);
	if (n < 0)
		return -errno;
	out[n] = '\0';
	return 0;
}

/* Calls fn for each mount in order, the one on top of others last. */
typedef void mount_entry_fn(const struct mntent *m, void *arg);

static void each_mount(mount_entry_fn *fn, void *arg)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	char space[4 * PATH_MAX];
	struct mntent m;
	while (f && getmntent_r(f, &m, space, sizeof space))
		fn(&m, arg);
	if (f)
		endmntent(f);
}

struct on_dir { const char *dir; struct drive_mount found; bool any; };

static void look_on_dir(const struct mntent *m, void *arg)
{
	struct on_dir *o = arg;
	if (strcmp(m->mnt_dir, o->dir) != 0)
		return;
	o->any = true;
	o->found = (struct drive_mount){.read_only = hasmntopt(m, "ro") != NULL};
	text_copy(o->found.type, sizeof o->found.type, m->mnt_type);
	text_copy(o->found.store, sizeof o->found.store, m->mnt_fsname);
}

int drive_mounted_on(const char *dir, struct drive_mount *ret)
{
	struct on_dir o = {.dir = dir};
	each_mount(look_on_dir, &o);
	if (!o.any)
		return -ENOENT;
	*ret = o.found;
	return 0;
}

struct of_store { const char *store; drive_fn *fn; void *arg; };

static void look_for_store(const struct mntent *m, void *arg)
{
	struct of_store *o = arg;
	if (!strcmp(m->mnt_type, "fuse.mintfs") && !strcmp(m->mnt_fsname, o->store))
		o->fn(m->mnt_dir, hasmntopt(m, "ro") != NULL, o->arg);
}

void drive_each(const char *store, drive_fn *fn, void *arg)
{
	char whole[PATH_MAX]; /* the name the daemon gave: without links */
	struct of_store o = {realpath(store, whole) ? whole : store, fn, arg};
	each_mount(look_for_store, &o);
}

struct choice { char *out; size_t size; bool found, writable; };

static void choose(const char *dir, bool read_only, void *arg)
{
	struct choice *c = arg;
	char store[PATH_MAX];
	if ((c->found && (c->writable || read_only)) || drive_attr(dir, "store", store, sizeof store) < 0)
		return; /* there is a better one, or its daemon is dead */
	if (text_copy(c->out, c->size, dir) < 0)
		return;
	c->found = true;
	c->writable = !read_only;
}

int drive_find(const char *store, char *out, size_t size)
{
	struct choice c = {.out = out, .size = size};
	drive_each(store, choose, &c);
	return c.found ? 0 : -ENOENT;
}

/* ---- arguments ---- */

/* Splits the last component off path (it must not be empty): "a/b//" becomes "a" and "b". The parent of "b" is ".". */
static char *cut_last(char *path)
{
	size_t len = strlen(path);
	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
	char *slash = strrchr(path, '/');
	if (!slash)
		return path;
	*slash = '\0';
	return slash + 1;
}

/* The tail of `path` that does not exist, or is not known by its own name, goes to the front of *tail. */
static int climb(char *path, char *tail, size_t size)
{
	char last[NAME_MAX + 1], rest[PATH_MAX];
	char *name = cut_last(path);
	int rc = text_copy(last, sizeof last, name);
	if (rc == 0)
		rc = text_copy(rest, sizeof rest, tail);
	if (rc == 0)
		rc = text_copy(tail, size, last);
	if (rc == 0)
		rc = path_append(tail, size, rest);
	if (name == path)
		strcpy(path, ".");
	else if (!*path)
		strcpy(path, "/");
	return rc;
}

/* 0: path lies on a drive, *t is filled. -ENODATA: it does not. Else -errno. */
static int find_on_drive(const char *arg, struct cmd_target *t)
{
	char path[PATH_MAX], real[PATH_MAX], tail[PATH_MAX] = "", rel[PATH_MAX];
	int rc = text_copy(path, sizeof path, arg);
	while (rc == 0 && !realpath(path, real)) {
		if (errno != ENOENT && errno != ENOTDIR)
			return -errno;
		if (!strcmp(path, ".") || !strcmp(path, "/"))
			return -ENODATA;
		rc = climb(path, tail, sizeof tail);
	}
	while (rc == 0 && (rc = drive_attr(real, "path", rel, sizeof rel)) < 0) {
		if (rc != -ENODATA && rc != -EOPNOTSUPP)
			return rc;
		if (drive_attr(real, "store", t->store, sizeof t->store) < 0)
			return -ENODATA; /* no drive at all: its parent is none either, or the argument would not name what lies there */
		rc = climb(real, tail, sizeof tail);
	}
	if (rc == 0)
		rc = drive_attr(real, "store", t->store, sizeof t->store);
	if (rc < 0)
		return rc;
	size_t len = strlen(real), rel_len = strlen(rel);
	text_copy(t->mount, sizeof t->mount, real);
	if (rel_len && len > rel_len && !strcmp(real + len - rel_len, rel))
		t->mount[len - rel_len - 1] = '\0';
	else if (rel_len) /* a part of the drive, bound elsewhere */
		t->mount[0] = '\0';
	rc = text_copy(t->name, sizeof t->name, rel);
	return rc < 0 ? rc : path_append(t->name, sizeof t->name, tail);
}

static bool is_mode(const char *name, size_t len)
{
	for (int m = 0; m < LAYOUT_MODES; m++)
		if (strlen(layout_mode_name((enum layout_mode)m)) == len && !strncmp(layout_mode_name((enum layout_mode)m), name, len))
			return true;
	return false;
}

/* A relative name whose first component is not there, such as product/P001_all/mlstm typed deep within the drive: counted from the drive's root. */
static bool counts_from_root(const char *arg)
{
	char first[NAME_MAX + 1], real[PATH_MAX];
	size_t len = strcspn(arg, "/");
	if (len == 0 || len > NAME_MAX || !is_mode(arg, len))
		return false;
	memcpy(first, arg, len);
	first[len] = '\0';
	return !realpath(first, real);
}

static int in_store(const char *name, const struct cmd_options *o, struct cmd_target *t, struct fault *f)
{
	int rc = 0;
	if (!realpath(o->store, t->store)) {
		if (errno == ENOENT)
			return fault_set(f, ENOENT, "there is no store at %s: make one with 'mintfs init %s'", o->store, o->store);
		if (errno != EACCES || o->store[0] != '/')
			return fault_set(f, errno, "cannot resolve the store %s: %s", o->store, strerror(errno));
		rc = text_copy(t->store, sizeof t->store, o->store); /* a drive of it may still be there for us */
	}
	if (rc == 0)
		rc = text_copy(t->name, sizeof t->name, name);
	return rc < 0 ? fault_set(f, ENAMETOOLONG, "the name is too long") : 0;
}

int cmd_find_target(const char *arg, const struct cmd_options *o, struct cmd_target *ret, struct fault *f)
{
	auto_free struct cmd_target *t = calloc(1, sizeof *t);
	int rc = -ENODATA;
	if (!t)
		return fault_set(f, ENOMEM, "not enough memory");
	if (arg && !*arg)
		return fault_set(f, EINVAL, "an empty name names nothing");
	/* --store decides, but an absolute path is a path */
	if (!o->store_named || (arg && arg[0] == '/'))
		rc = find_on_drive(arg && !counts_from_root(arg) ? arg : ".", t);
	if (rc == 0 && arg && counts_from_root(arg))
		rc = text_copy(t->name, sizeof t->name, arg);
	if (rc == -ENODATA && o->store && !(arg && arg[0] == '/')) {
		*t = (struct cmd_target){0};
		rc = in_store(arg ? arg : "", o, t, f);
		if (rc < 0)
			return rc;
	}
	if (rc == -ENODATA && arg && (arg[0] == '/' || arg[0] == '.'))
		return fault_set(f, ENOENT, "%s does not lie on a MintFS drive", arg);
	if (rc == -ENODATA)
		return fault_set(f, ENOENT, "which store? Name it with --store DIR or MINTFS_STORE, or give a path on a drive");
	if (rc == -ENOTCONN || rc == -ECONNABORTED)
		return fault_set(f, EIO, "the drive under %s has lost its daemon: 'mintfs umount' it and mount it again", arg ? arg : "the working directory");
	if (rc < 0)
		return fault_set(f, -rc, "cannot look at %s: %s", arg ? arg : "the working directory", strerror(-rc));
	*ret = *t;
	return 0;
}

int cmd_find_store(const char *arg, const struct cmd_options *o, struct cmd_target *ret, struct fault *f)
{
	char store[4096], whole[PATH_MAX];
	if (!arg || drive_attr(arg, "store", store, sizeof store) == 0)
		return cmd_find_target(arg, o, ret, f);
	if (!realpath(arg, whole))
		return fault_set(f, errno, "cannot look at %s: %s", arg, strerror(errno));
	*ret = (struct cmd_target){0};
	return text_copy(ret->store, sizeof ret->store, whole);
}
