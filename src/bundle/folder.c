/* Reading a version's directory: folder.h. Breadth-first, which the list of entries itself is the queue for. */
#include "folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mintfs/cleanup.h>
#include <mintfs/registry.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdlib.h>
#include <string.h>

struct names { char **v; size_t n, cap; };

static void names_release(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static int read_names(int dirfd, struct names *l)
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	int rc = sys_fdopendir(sys_reopen(dirfd, O_RDONLY | O_DIRECTORY), &dir);
	if (rc < 0)
		return rc;
	while ((rc = sys_readdir(dir, &e)) > 0) {
		if (l->n == l->cap) {
			size_t cap = l->cap ? 2 * l->cap : 32;
			char **v = reallocarray(l->v, cap, sizeof *v);
			if (!v)
				return -ENOMEM;
			l->v = v;
			l->cap = cap;
		}
		if (!(l->v[l->n] = strdup(e->d_name)))
			return -ENOMEM;
		l->n++;
	}
	if (rc < 0)
		return rc;
	if (l->n)
		qsort(l->v, l->n, sizeof *l->v, compare_names);
	return 0;
}

void folder_release(struct folder *d)
{
	for (size_t i = 0; i < d->n; i++) {
		free(d->entries[i].path);
		free(d->entries[i].target);
	}
	free(d->entries);
	*d = (struct folder){.dir = -1};
}

static int add_entry(struct folder *d, const char *parent, const char *name, struct folder_entry **ret)
{
	if (d->n == REGISTRY_IMPORT_ENTRIES_MAX)
		return -E2BIG;
	if (d->n == d->cap) {
		size_t cap = d->cap ? 2 * d->cap : 32;
		struct folder_entry *v = reallocarray(d->entries, cap, sizeof *v);
		if (!v)
			return -ENOMEM;
		d->entries = v;
		d->cap = cap;
	}
	struct folder_entry *e = &d->entries[d->n];
	*e = (struct folder_entry){.same_as = -1};
	size_t len = strlen(parent), name_len = strlen(name);
	if (len + name_len + 2 > PATH_MAX)
		return -ENAMETOOLONG;
	e->path = malloc(len + name_len + 2);
	if (!e->path)
		return -ENOMEM;
	memcpy(e->path, parent, len);
	if (len)
		e->path[len++] = '/';
	memcpy(e->path + len, name, name_len + 1);
	d->n++;
	*ret = e;
	return 0;
}

static int measure(struct folder *d, int dirfd, const char *name, struct folder_entry *e, struct map64 *links, struct fault *f)
{
	int rc = sys_fstatat(dirfd, name, &e->st, AT_SYMLINK_NOFOLLOW);
	if (rc < 0)
		return fault_set(f, -rc, "%s cannot be looked at: %s", e->path, strerror(-rc));
	if (!S_ISREG(e->st.st_mode) && !S_ISDIR(e->st.st_mode) && !S_ISLNK(e->st.st_mode))
		return fault_set(f, EINVAL, "%s is %s: only files, directories and symbolic links can be taken in", e->path, sys_kind_of(e->st.st_mode));
	if (S_ISLNK(e->st.st_mode)) {
		char target[PATH_MAX];
		ssize_t n = sys_readlinkat(dirfd, name, target, sizeof target);
		e->target = n < 0 ? NULL : strdup(target);
		return n < 0 ? (int)n : e->target ? 0 : -ENOMEM;
	}
	if (!S_ISREG(e->st.st_mode))
		return 0;
	if (e->st.st_nlink > 1) {
		uintptr_t seen = (uintptr_t)map64_get(links, e->st.st_ino);
		if (seen) {
			e->same_as = (int64_t)seen - 1;
			return 0;
		}
		rc = map64_put(links, e->st.st_ino, (void *)(uintptr_t)d->n); /* a number: the index, from 1 */
	}
	d->bytes += (uint64_t)e->st.st_size;
	return rc;
}

static int scan_directory(struct folder *d, const char *path, struct map64 *links, struct fault *f)
{
	__attribute__((cleanup(names_release))) struct names l = {0};
	auto_free char *own = strdup(path); /* entries move */
	auto_close int fd = *path ? sys_openat_beneath(d->dir, path, O_RDONLY | O_DIRECTORY, 0) : sys_reopen(d->dir, O_RDONLY | O_DIRECTORY);
	int rc = !own ? -ENOMEM : fd < 0 ? fd : read_names(fd, &l);
	for (size_t i = 0; rc == 0 && i < l.n; i++) {
		struct folder_entry *e;
		rc = add_entry(d, own, l.v[i], &e);
		if (rc == 0)
			rc = measure(d, fd, l.v[i], e, links, f);
	}
	return rc < 0 ? fault_default(f, -rc, "%s cannot be read: %s", *path ? path : "its directory", strerror(-rc)) : 0;
}

int folder_scan(int dir, struct folder *ret, struct fault *f)
{
	auto_folder struct folder d = {.dir = dir};
	struct map64 *links = map64_new();
	int rc = links ? scan_directory(&d, "", links, f) : -ENOMEM;
	for (size_t i = 0; rc == 0 && i < d.n; i++)
		if (S_ISDIR(d.entries[i].st.st_mode))
			rc = scan_directory(&d, d.entries[i].path, links, f);
	map64_free(links);
	if (rc < 0)
		return rc;
	*ret = d;
	d = (struct folder){.dir = -1};
	return 0;
}

int folder_unchanged(const struct folder_entry *e, int fd, struct fault *f)
{
	struct stat now;
	int rc = sys_fstat(fd, &now);
	if (rc < 0)
		return rc;
	bool same = S_ISREG(now.st_mode) && now.st_ino == e->st.st_ino && now.st_size == e->st.st_size && timespec_ns(now.st_mtim) == timespec_ns(e->st.st_mtim);
	return same ? 0 : fault_set(f, EBUSY, "%s changes while it is read", e->path);
}

int folder_open(const struct folder *d, const struct folder_entry *e, int *ret_fd, struct fault *f)
{
	auto_close int fd = sys_openat_beneath(d->dir, e->path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0)
		return fault_set(f, -fd, "%s cannot be opened: %s", e->path, strerror(-fd));
	int rc = sys_probe_writers(fd);
	if (rc == -EBUSY)
		return fault_set(f, EBUSY, "%s is open for writing: something still works on it", e->path);
	rc = folder_unchanged(e, fd, f);
	if (rc == 0)
		*ret_fd = take_fd(&fd);
	return rc;
}

int folder_write(const struct folder *d, struct manifest_writer *w)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < d->n; i++) {
		const struct folder_entry *e = &d->entries[i];
		char hex[BLOB_HEX_SIZE];
		struct manifest_entry m = {.path = e->path, .target = e->target, .same_as = e->same_as, .size = (int64_t)e->st.st_size, .mode = e->st.st_mode & 07777,
			.uid = e->st.st_uid, .gid = e->st.st_gid, .mtime_ns = timespec_ns(e->st.st_mtim)};
		m.type = S_ISREG(e->st.st_mode) ? MANIFEST_FILE : S_ISDIR(e->st.st_mode) ? MANIFEST_DIRECTORY : MANIFEST_SYMLINK;
		blob_id_hex(e->same_as >= 0 ? &d->entries[e->same_as].id : &e->id, hex);
		m.sha256 = hex;
		rc = manifest_add_entry(w, &m);
	}
	return rc;
}
