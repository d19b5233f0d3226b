/* Reading directories: one at a time, from the root down by its path, so that the depth of a tree costs neither descriptors nor
 * stack. And the sums over a tree that others may be changing: what vanishes on the way is passed over. */
#include "inner.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <string.h>

static int point_at_names(struct listing *l)
{
	char *name = l->text.data;

	if (l->n == 0)
		return 0;
	l->names = reallocarray(NULL, l->n, sizeof(*l->names));
	if (!l->names)
		return -ENOMEM;
	for (size_t i = 0; i < l->n; i++, name += strlen(name) + 1)
		l->names[i] = ++name; /* behind the type */
	return 0;
}

static int read_names(struct listing *l)
{
	struct dirent *e;
	int r;

	buf_init(&l->text, SIZE_MAX / 4);
	while ((r = sys_readdir(l->dir, &e)) > 0) {
		buf_add(&l->text, &e->d_type, 1);
		buf_add(&l->text, e->d_name, strlen(e->d_name) + 1);
		l->n++;
	}
	if (r < 0)
		return r;
	return l->text.error ? l->text.error : point_at_names(l);
}

int listing_read(int root, const char *path, struct listing *ret)
{
	auto_listing struct listing l = {0};
	int r = sys_fdopendir(sys_openat_beneath(root, path, O_RDONLY | O_DIRECTORY, 0), &l.dir);

	if (r == 0)
		r = read_names(&l);
	if (r < 0)
		return r;
	*ret = l;
	l = (struct listing){0};
	return 0;
}

void listing_release(struct listing *l)
{
	if (l->dir)
		closedir(l->dir);
	buf_release(&l->text);
	free(l->names);
	*l = (struct listing){0};
}

/* ---- sums ---- */

/* Directories still to be read: the last one is next. */
struct walk {
	char **todo;
	size_t n, cap;
	bool too_deep; /* a directory was passed over since its path is too long for a system call */
};
/* top: is it an entry of the root? Non-zero ends the walk. */
typedef int visit_fn(const char *name, const struct stat *st, bool top, void *arg);

static int walk_later(struct walk *w, const char *dir, const char *name)
{
	char *path;

	if (dir && strlen(dir) + 1 + strlen(name) > DRAFT_PATH_MAX) {
		w->too_deep = true;
		return 0;
	}
	if (w->n == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 64;
		char **bigger = reallocarray(w->todo, cap, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		w->todo = bigger;
		w->cap = cap;
	}
	if (asprintf(&path, "%s%s%s", dir ? dir : "", dir ? "/" : "", name) < 0)
		return -ENOMEM;
	w->todo[w->n++] = path;
	return 0;
}

/* path NULL: the root. */
static int walk_directory(struct walk *w, int root, const char *path, visit_fn *fn, void *arg)
{
	auto_listing struct listing l = {0};
	int r = listing_read(root, path ? path : ".", &l);

	if (path && (r == -ENOENT || r == -ENOTDIR || r == -ELOOP))
		return 0;
	for (size_t i = 0; r == 0 && i < l.n; i++) {
		struct stat st;
		r = sys_fstatat(dirfd(l.dir), l.names[i], &st, AT_SYMLINK_NOFOLLOW);
		if (r == -ENOENT) {
			r = 0;
			continue;
		}
		if (r == 0)
			r = fn(l.names[i], &st, !path, arg);
		if (r == 0 && S_ISDIR(st.st_mode))
			r = walk_later(w, path, l.names[i]);
	}
	return r;
}

static int walk_tree(struct draft *d, visit_fn *fn, void *arg, bool *ret_too_deep)
{
	struct walk w = {0};
	int r = walk_directory(&w, d->root, NULL, fn, arg);

	while (r == 0 && w.n > 0) {
		auto_free char *path = w.todo[--w.n];
		r = walk_directory(&w, d->root, path, fn, arg);
	}
	while (w.n > 0)
		free(w.todo[--w.n]);
	free(w.todo);
	*ret_too_deep = w.too_deep;
	return r;
}

struct usage {
	uint64_t files, bytes;
	bool has_model;
	struct map64 *linked; /* inodes with several links that were counted */
};

static int add_usage(const char *name, const struct stat *st, bool top, void *arg)
{
	struct usage *u = arg;

	if (!S_ISREG(st->st_mode))
		return 0;
	if (top && strncmp(name, "model.", strlen("model.")) == 0)
		u->has_model = true;
	u->files++;
	if (st->st_nlink > 1) {
		if (map64_get(u->linked, st->st_ino))
			return 0;
		int r = map64_put(u->linked, st->st_ino, u); /* any pointer: it is a set */
		if (r < 0)
			return r;
	}
	u->bytes += (uint64_t)st->st_size;
	return 0;
}

int draft_usage(struct draft *d, uint64_t *ret_files, uint64_t *ret_bytes, bool *ret_has_model)
{
	struct usage u = {.linked = map64_new()};
	bool too_deep;
	int r;

	if (!u.linked)
		return -ENOMEM;
	r = walk_tree(d, add_usage, &u, &too_deep); /* what is too deep is not counted: no commit will take it */
	map64_free(u.linked);
	if (r < 0)
		return r;
	*ret_files = u.files;
	*ret_bytes = u.bytes;
	*ret_has_model = u.has_model;
	return 0;
}

static int64_t change_of(const struct stat *st)
{
	int64_t m = timespec_ns(st->st_mtim), c = timespec_ns(st->st_ctim);

	return m > c ? m : c;
}

static int take_newest(const char *name, const struct stat *st, bool top, void *arg)
{
	int64_t *newest = arg, t = change_of(st);

	(void)name;
	(void)top;
	if (t > *newest)
		*newest = t;
	return 0;
}

int draft_last_change(struct draft *d, int64_t *ret_ns)
{
	struct stat st;
	bool too_deep;
	int64_t newest;
	int r = sys_fstat(d->root, &st);

	if (r < 0)
		return r;
	newest = change_of(&st);
	r = walk_tree(d, take_newest, &newest, &too_deep);
	if (r == 0)
		*ret_ns = newest;
	return r;
}

static int stop_unless_directory(const char *name, const struct stat *st, bool top, void *arg)
{
	(void)name;
	(void)top;
	(void)arg;
	return S_ISDIR(st->st_mode) ? 0 : 1;
}

int draft_is_empty(struct draft *d, bool *ret_empty)
{
	bool too_deep;
	int r = walk_tree(d, stop_unless_directory, NULL, &too_deep);

	if (r < 0)
		return r;
	if (r == 0 && too_deep)
		return -ENAMETOOLONG; /* who knows what is down there */
	*ret_empty = r == 0;
	return 0;
}
