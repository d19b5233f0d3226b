/* All that stands in blobs/, for fsck and sweeps: blobs and strays, one directory of the 256 at a time. And what a repair does with it. */
#include "local.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <mintfs/buf.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>

#define FILE_HEX_LEN ((size_t)2 * (BLOB_ID_SIZE - 1))
#define NAME_SIZE 300 /* "ab/" and any name */

/* The names of one directory, sorted: each with its NUL in text. */
struct names {
	struct buf text;
	const char **v;
	size_t n;
};

static void names_release(struct names *l)
{
	buf_release(&l->text);
	free(l->v);
}
#define auto_names __attribute__((cleanup(names_release)))

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int sort_names(struct names *l)
{
	const char *at = buf_text(&l->text);

	if (l->text.error || l->n == 0)
		return l->text.error;
	l->v = calloc(l->n, sizeof *l->v);
	if (!l->v)
		return -ENOMEM;
	for (size_t i = 0; i < l->n; i++, at += strlen(at) + 1)
		l->v[i] = at;
	qsort(l->v, l->n, sizeof *l->v, compare_names);
	return 0;
}

static int read_names(const struct local_store *s, const char *name, struct names *l)
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	int r = sys_fdopendir(sys_openat(s->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0), &dir);

	if (r < 0)
		return r;
	while ((r = sys_readdir(dir, &e)) > 0) {
		buf_add(&l->text, e->d_name, strlen(e->d_name) + 1);
		l->n++;
	}
	return r < 0 ? r : sort_names(l);
}

/* By one more look at a cached inode, 0.5 microseconds, instead of an open and an ioctl. */
static void tell_flag(const struct local_store *s, struct blob_found *b)
{
	struct statx stx;

	if (statx(s->dir, b->name, AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC, 0, &stx) < 0 || !(stx.stx_attributes_mask & STATX_ATTR_IMMUTABLE))
		return;
	b->immutable = (stx.stx_attributes & STATX_ATTR_IMMUTABLE) != 0;
	b->lacks_flag = !b->immutable;
}

static int tell(const struct local_store *s, const char *name, const struct blob_id *id, blob_found_fn *fn, void *arg)
{
	struct blob_found b = {.name = name};
	struct stat st;
	int r;

	if (id) {
		r = sys_fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		b.is_blob = S_ISREG(st.st_mode);
	}
	if (b.is_blob) {
		b.id = *id;
		b.size = (uint64_t)st.st_size;
		b.ctime_ns = timespec_ns(st.st_ctim);
		b.sealed = local_judge(&st, b.size) == LOCAL_SOUND;
		b.links = (unsigned)st.st_nlink;
		if (b.sealed)
			tell_flag(s, &b);
	}
	return fn(&b, arg);
}

static int scan_shard(const struct local_store *s, uint8_t shard, blob_found_fn *fn, void *arg)
{
	auto_names struct names l = {.text = BUF_INIT(SIZE_MAX / 4)};
	char name[NAME_SIZE];
	int r;

	hex_encode(&shard, 1, name);
	r = read_names(s, name, &l);
	if (r < 0)
		return r == -ENOENT || r == -ENOTDIR || r == -ELOOP ? 0 : r;
	for (size_t i = 0; r == 0 && i < l.n; i++) {
		struct blob_id id = {{shard}};
		bool fits = strlen(l.v[i]) == FILE_HEX_LEN && hex_decode(l.v[i], BLOB_ID_SIZE - 1, id.sha256 + 1) == 0;

		snprintf(name + 2, sizeof name - 2, "/%s", l.v[i]);
		r = tell(s, name, fits ? &id : NULL, fn, arg);
	}
	return r;
}

static bool is_shard(const struct local_store *s, const char *name)
{
	struct stat st;
	uint8_t byte;

	return strlen(name) == 2 && hex_decode(name, 1, &byte) == 0 && sys_fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* Temporary names are not told: their makers are at work, or the next opening of the store removes them. */
static int scan_beside(const struct local_store *s, blob_found_fn *fn, void *arg)
{
	auto_names struct names l = {.text = BUF_INIT(SIZE_MAX / 4)};
	int r = read_names(s, ".", &l);

	for (size_t i = 0; r == 0 && i < l.n; i++)
		if (!is_shard(s, l.v[i]) && strncmp(l.v[i], LOCAL_TEMP_PREFIX, sizeof LOCAL_TEMP_PREFIX - 1) != 0)
			r = tell(s, l.v[i], NULL, fn, arg);
	return r;
}

int local_scan(struct blob_store *s, int first_byte, blob_found_fn *fn, void *arg)
{
	return first_byte == BLOB_BESIDE ? scan_beside(local_store(s), fn, arg) : scan_shard(local_store(s), (uint8_t)first_byte, fn, arg);
}

/* ---- repairs ---- */

bool local_can_protect(struct blob_store *base)
{
	const struct local_store *s = local_store(base);
	struct local_temp t;
	bool can;

	if (local_temp_open(s, &t) < 0)
		return false;
	can = sys_set_immutable(t.fd, true) == 0 && sys_set_immutable(t.fd, false) == 0;
	local_temp_close(s, &t);
	return can;
}

static int sync_parent(const struct local_store *s, const char *name)
{
	char shard[3] = {name[0], name[1], '\0'};
	auto_close int fd = sys_openat(s->dir, strlen(name) > 2 && name[2] == '/' ? shard : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

	return fd < 0 ? fd : sys_fsync(fd);
}

int local_set_aside(struct blob_store *base, const char *name, int newdir, const char *newname)
{
	const struct local_store *s = local_store(base);
	struct stat st;
	int r = sys_fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW);

	if (r < 0)
		return r;
	auto_close int fd = S_ISREG(st.st_mode) ? sys_openat(s->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0) : -1;
	/* An immutable inode has no name taken; out there nobody needs the flag any more. */
	if (fd >= 0 && local_is_immutable(fd)) {
		r = sys_set_immutable(fd, false);
		if (r < 0)
			return r;
	}
	r = sys_renameat2(s->dir, name, newdir, newname, RENAME_NOREPLACE);
	if (r == 0)
		r = sync_parent(s, name);
	return r == 0 ? sys_fsync(newdir) : r;
}

int local_make_private(struct blob_store *base, const struct blob_id *id, uint64_t size)
{
	const struct local_store *s = local_store(base);
	char name[LOCAL_NAME_SIZE];
	int r;

	local_name(id, name);
	auto_close int fd = sys_openat(s->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	r = local_place_copy(s, fd, name, size);
	if (r == 0)
		r = sync_parent(s, name);
	return r == -EEXIST ? 0 : r; /* sound meanwhile */
}
