/* The entries of a version from elsewhere. The one who wrote the list is not trusted: each path must lead to a place within the version that no other entry has,
 * through directories that the list itself names before.
 *
 * All that is checked by the order: breadth-first, the children of a directory together and sorted by name. So an entry's directory is the present one or a later one,
 * and a name that is not greater than the one before it is there twice, or out of order. Nothing needs to be looked up. */
#include "import.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

void import_tree_reset(struct import_tree *t)
{
	for (size_t i = 0; i < t->n; i++) {
		free(t->paths[i]);
		free((void *)(uintptr_t)t->entries[i].target);
	}
	t->n = t->n_top = 0;
	t->dir = -1;
	t->n_files = t->n_top_dirs = 0;
	t->size = 0;
}

void import_tree_release(struct import_tree *t)
{
	import_tree_reset(t);
	free(t->entries);
	free(t->paths);
	*t = (struct import_tree){.dir = -1};
}

static int grow(struct import_tree *t)
{
	if (t->n < t->cap)
		return 0;
	size_t cap = t->cap ? 2 * t->cap : 64;
	struct catalog_entry *entries = reallocarray(t->entries, cap, sizeof *entries);
	if (!entries)
		return -ENOMEM;
	t->entries = entries;
	char **paths = reallocarray(t->paths, cap, sizeof *paths);
	if (!paths)
		return -ENOMEM;
	t->paths = paths;
	t->cap = cap;
	return 0;
}

static const char *path_problem(const char *path)
{
	if (path[0] == '/')
		return "it is absolute";
	if (strlen(path) >= PATH_MAX)
		return "it is longer than a path may be";
	for (const char *p = path;; p++) {
		size_t len = strcspn(p, "/");
		if (len == 0)
			return "a part of it is empty";
		if ((len == 1 && p[0] == '.') || (len == 2 && p[0] == '.' && p[1] == '.'))
			return "it goes through . or ..";
		if (len >= CATALOG_NAME_MAX)
			return "a part of it is longer than 255 bytes";
		p += len;
		if (!*p)
			return NULL;
	}
}

/* The directory of the next entry: the present one, or the next ones in order. */
static int find_parent(struct import_tree *t, const char *path, size_t len)
{
	for (int64_t i = t->dir; i < (int64_t)t->n; i++) {
		if (i >= 0 && t->entries[i].type != CATALOG_DIRECTORY)
			continue;
		const char *dir = i < 0 ? "" : t->paths[i];
		if (strlen(dir) == len && !memcmp(dir, path, len)) {
			t->dir = i;
			return 0;
		}
	}
	return -EINVAL;
}

static int take_content(struct import_tree *t, struct catalog_entry *c, const struct manifest_entry *e, const char *label, struct fault *f)
{
	if (e->type == MANIFEST_FILE && (e->size < 0 || blob_id_parse(e->sha256, &c->blob) < 0))
		return refuse(f, VERDICT_PLACE, "%s: %s has no size and SHA-256 that could be", label, e->path);
	if (e->type == MANIFEST_SYMLINK && (!*e->target || strlen(e->target) >= PATH_MAX))
		return refuse(f, VERDICT_PLACE, "%s: the link %s leads to nothing that could be", label, e->path);
	c->size = e->type == MANIFEST_FILE ? (uint64_t)e->size : e->type == MANIFEST_SYMLINK ? strlen(e->target) : 0;
	if (e->same_as < 0)
		return 0;
	struct catalog_entry *first = e->same_as < (int64_t)t->n ? &t->entries[e->same_as] : NULL;
	if (!first || first->inode != e->same_as || first->type != c->type || c->type == CATALOG_DIRECTORY || first->size != c->size ||
	    (c->type == CATALOG_FILE && !blob_id_equal(&first->blob, &c->blob)))
		return refuse(f, VERDICT_PLACE, "%s: %s is told to be the same as an entry that is another", label, e->path);
	c->inode = e->same_as;
	first->nlink++;
	return 0;
}

static int append(struct import_tree *t, struct catalog_entry *c, const struct manifest_entry *e)
{
	int rc = grow(t);
	if (rc < 0)
		return rc;
	char *path = strdup(e->path), *target = e->type == MANIFEST_SYMLINK ? strdup(e->target) : NULL;
	if (!path || (e->type == MANIFEST_SYMLINK && !target)) {
		free(path);
		free(target);
		return -ENOMEM;
	}
	const char *slash = strrchr(path, '/');
	c->name = slash ? slash + 1 : path;
	c->target = target;
	t->entries[t->n] = *c;
	t->paths[t->n++] = path;
	return 0;
}

static void count(struct import_tree *t, const struct catalog_entry *c)
{
	t->n_files += c->type == CATALOG_FILE;
	if (c->parent < 0) {
		t->n_top++;
		t->n_top_dirs += c->type == CATALOG_DIRECTORY;
		return;
	}
	struct catalog_entry *up = &t->entries[c->parent];
	if (up->n_children++ == 0)
		up->first_child = (int64_t)t->n - 1;
	up->nlink += c->type == CATALOG_DIRECTORY;
}

int import_tree_add(struct import_tree *t, const struct manifest_entry *e, const char *label, struct fault *f)
{
	const char *why = path_problem(e->path), *slash = strrchr(e->path, '/');
	if (why)
		return refuse(f, VERDICT_PLACE, "%s: '%.200s' is no path within a version: %s", label, e->path, why);
	if (t->n == REGISTRY_IMPORT_ENTRIES_MAX)
		return refuse(f, VERDICT_PLACE, "%s holds more than %d entries", label, REGISTRY_IMPORT_ENTRIES_MAX);
	if (find_parent(t, e->path, slash ? (size_t)(slash - e->path) : 0) < 0)
		return refuse(f, VERDICT_PLACE, "%s: %.200s is out of order, or its directory is not told before it", label, e->path);
	struct catalog_entry c = {.type = e->type == MANIFEST_FILE ? CATALOG_FILE : e->type == MANIFEST_DIRECTORY ? CATALOG_DIRECTORY : CATALOG_SYMLINK,
		.uid = e->uid, .gid = e->gid, .mtime_ns = e->mtime_ns, .parent = t->dir, .inode = (int64_t)t->n};
	c.mode = e->type == MANIFEST_SYMLINK ? 0777 : e->mode & (e->type == MANIFEST_DIRECTORY ? 03555 : 0555);
	c.nlink = e->type == MANIFEST_DIRECTORY ? 2 : 1;
	if (t->n > 0 && t->entries[t->n - 1].parent == t->dir && strcmp(t->entries[t->n - 1].name, slash ? slash + 1 : e->path) >= 0)
		return refuse(f, VERDICT_PLACE, "%s: %.200s is told twice, or out of order", label, e->path);
	int rc = take_content(t, &c, e, label, f);
	if (rc < 0)
		return rc;
	c.blocks = c.type == CATALOG_FILE ? (c.size + 511) / 512 : 0;
	if (c.type == CATALOG_FILE && c.inode == (int64_t)t->n) {
		if (c.size > INT64_MAX - t->size)
			return refuse(f, VERDICT_PLACE, "%s is larger than anything can be", label);
		t->size += c.size;
	}
	rc = append(t, &c, e);
	if (rc < 0)
		return refuse_system(f, rc, "%s cannot be taken in", label);
	count(t, &c);
	return 0;
}

void import_tree_finish(struct import_tree *t)
{
	for (size_t i = 0; i < t->n; i++)
		t->entries[i].nlink = t->entries[t->entries[i].inode].nlink;
}

/* ---- the same? ---- */

struct comparing { const struct import_tree *t; struct catalog_conn *conn; size_t at; bool same; };

static int compare_entry(const char *path, const struct catalog_file *file, void *arg)
{
	struct comparing *c = arg;
	char target[PATH_MAX];
	const struct catalog_entry *e = c->at < c->t->n ? &c->t->entries[c->at] : NULL;
	c->same = e && e->type == file->type && !strcmp(c->t->paths[c->at], path) && (e->type != CATALOG_FILE || (e->size == file->size &&
		blob_id_equal(&e->blob, &file->blob)));
	if (c->same && e->type == CATALOG_SYMLINK) {
		int rc = catalog_file_target(c->conn, file->id, target, sizeof target);
		if (rc < 0)
			return rc;
		c->same = !strcmp(target, e->target);
	}
	c->at++;
	return !c->same;
}

int import_tree_compare(const struct import_tree *t, struct catalog_conn *conn, int64_t version_id, bool *ret_same)
{
	struct comparing c = {t, conn, 0, true};
	int rc = catalog_file_list(conn, version_id, compare_entry, &c);
	if (rc < 0)
		return rc;
	*ret_same = c.same && c.at == t->n;
	return 0;
}
