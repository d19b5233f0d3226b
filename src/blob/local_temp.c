/* Private copies: how content becomes a blob where the file itself must not (the name is taken by an inode that some
 * draft may write to) or cannot (another file system, too many links) be linked.
 *
 * A copy is complete, sealed and synced before it gets its name. It is made without any name where the file system has
 * O_TMPFILE, so that a crash leaves nothing; elsewhere, and for the moment between link and rename, it is blobs/tmp.<16
 * hex digits>. The maker holds a lock (flock) on it, which the kernel drops when the maker dies: local_temp_sweep
 * removes what nobody holds. */
#include "local.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>

#define PIECE (1U << 20)

/* A random name: process ids are not unique where two containers share a store. */
static int temp_name(char out[LOCAL_TEMP_NAME_SIZE])
{
	uint8_t bytes[8];

	if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
		return -EIO;
	memcpy(out, LOCAL_TEMP_PREFIX, sizeof LOCAL_TEMP_PREFIX);
	hex_encode(bytes, sizeof bytes, out + sizeof LOCAL_TEMP_PREFIX - 1);
	return 0;
}

/* Without O_TMPFILE a sweep may get between making the file and locking it, and then remove it: try another. */
static int open_named(const struct local_store *s, struct local_temp *t)
{
	for (int i = 0; i < LOCAL_TRIES; i++) {
		char name[LOCAL_TEMP_NAME_SIZE];
		auto_close int fd = -1;
		struct stat st;
		int r = temp_name(name);

		if (r < 0)
			return r;
		fd = sys_openat(s->dir, name, O_RDWR | O_CREAT | O_EXCL, 0600);
		if (fd == -EEXIST)
			continue;
		if (fd < 0)
			return fd;
		r = sys_lock(fd, true, true);
		if (r == 0)
			r = sys_fstat(fd, &st);
		if (r != 0) {
			unlinkat(s->dir, name, 0);
			return r;
		}
		if (st.st_nlink == 0)
			continue;
		memcpy(t->name, name, sizeof name);
		t->fd = take_fd(&fd);
		return 0;
	}
	return -EBUSY;
}

int local_temp_open(const struct local_store *s, struct local_temp *t)
{
	auto_close int fd = sys_openat(s->dir, ".", O_RDWR | O_TMPFILE, 0600);
	int r;

	/* open(2), O_TMPFILE: EOPNOTSUPP from file systems, EISDIR and ENOENT from kernels and layers that do not know it. */
	if (fd == -EOPNOTSUPP || fd == -EISDIR || fd == -ENOENT)
		return open_named(s, t);
	if (fd < 0)
		return fd;
	r = sys_lock(fd, true, true);
	if (r < 0)
		return r;
	t->name[0] = '\0';
	t->fd = take_fd(&fd);
	return 0;
}

static int copy_range(int to, int from, off_t begin, off_t end, char *piece)
{
	while (begin < end) {
		size_t want = end - begin < (off_t)PIECE ? (size_t)(end - begin) : PIECE;
		ssize_t n = sys_pread_full(from, piece, want, begin);
		int r;

		if (n < 0)
			return (int)n;
		if ((size_t)n < want)
			return -EBUSY;
		r = sys_pwrite_full(to, piece, want, begin);
		if (r < 0)
			return r;
		begin += (off_t)want;
	}
	return 0;
}

/* Where the file system does not know holes, SEEK_DATA finds data everywhere or fails, and all is copied. */
static int copy_data(int to, int from, off_t size)
{
	auto_free char *piece = malloc(PIECE);
	off_t end = 0;
	int r = piece ? 0 : -ENOMEM;

	while (r == 0 && end < size) {
		off_t begin = lseek(from, end, SEEK_DATA);

		if (begin < 0 && errno == ENXIO)
			break; /* a hole up to the end */
		if (begin < 0)
			begin = end;
		end = lseek(from, begin, SEEK_HOLE);
		if (end <= begin || end > size)
			end = size;
		r = copy_range(to, from, begin, end, piece);
	}
	return r;
}

int local_temp_copy(const struct local_temp *t, int src, uint64_t size)
{
	struct stat st;
	int r;

	/* Shared extents where the file system has them (XFS, btrfs): no bytes move. */
	if (ioctl(t->fd, FICLONE, src) != 0) {
		r = copy_data(t->fd, src, (off_t)size);
		if (r < 0)
			return r;
	}
	r = sys_fstat(src, &st);
	if (r < 0)
		return r;
	if ((uint64_t)st.st_size != size)
		return -EBUSY;
	r = sys_ftruncate(t->fd, (off_t)size);
	if (r == 0)
		r = sys_fchmod(t->fd, LOCAL_MODE);
	return r < 0 ? r : sys_fsync(t->fd);
}

int local_temp_publish(const struct local_store *s, struct local_temp *t, const char *name)
{
	int r;

	for (int i = 0; t->name[0] == '\0'; i++) {
		char candidate[LOCAL_TEMP_NAME_SIZE];

		r = temp_name(candidate);
		if (r == 0)
			r = sys_linkat_fd(t->fd, s->dir, candidate);
		if (r == 0)
			memcpy(t->name, candidate, sizeof candidate);
		else if (r != -EEXIST || i == LOCAL_TRIES)
			return r;
	}
	r = sys_renameat2(s->dir, t->name, s->dir, name, 0);
	if (r < 0)
		return r;
	t->name[0] = '\0';
	sys_set_immutable(t->fd, true); /* after the rename, which an immutable file refuses; quiet where it cannot be */
	return 0;
}

int local_temp_close(const struct local_store *s, struct local_temp *t)
{
	if (t->name[0])
		unlinkat(s->dir, t->name, 0); /* directly: an injected fault that stays must not leave it behind */
	t->name[0] = '\0';
	return sys_close(take_fd(&t->fd));
}

static void sweep_one(const struct local_store *s, const char *name)
{
	auto_close int fd = sys_openat(s->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);

	if (fd < 0 || sys_lock(fd, true, false) < 0)
		return;
	if (sys_unlinkat(s->dir, name, 0) == 0)
		log_info(s->base.log, "blobs/%s: left by a crash, removed", name);
}

void local_temp_sweep(const struct local_store *s)
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;

	if (sys_fdopendir(sys_openat(s->dir, ".", O_RDONLY | O_DIRECTORY, 0), &dir) < 0)
		return;
	while (sys_readdir(dir, &e) > 0)
		if (strncmp(e->d_name, LOCAL_TEMP_PREFIX, sizeof LOCAL_TEMP_PREFIX - 1) == 0)
			sweep_one(s, e->d_name);
}
