/* What takes more than one system call: whole files, whole trees, the immutable flag, leases and locks. All of it stands on
 * the wrappers, so that injected faults reach it. */
#include <mintfs/sys.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>

#include "inject.h"

#define TEMPORARY_TRIES 100
#define READ_FIRST 4096

int sys_set_immutable(int fd, bool on)
{
	int flags, wanted;

	INJECT("set_immutable");
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
		wanted = on ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
		if (wanted == flags || ioctl(fd, FS_IOC_SETFLAGS, &wanted) == 0)
			return 0;
	}
	switch (errno) {
	case ENOTTY:
	case EINVAL:
	case ENOSYS:
	case EOPNOTSUPP:
	case EPERM:
	case EACCES:
		return -EOPNOTSUPP;
	default:
		return -errno;
	}
}

static int probe_lease(int fd, int kind)
{
	/* Somebody who opens the file between the two calls breaks the lease. The holder is told so by SIGIO, which would
	 * end the process, unless another signal is asked for: SIGURG is ignored by default. Asked for each time, since
	 * giving the lease back forgets it. fcntl(2); lease_modify in the kernel's fs/locks.c */
	if (fcntl(fd, F_SETSIG, SIGURG) < 0)
		return -errno;
	if (fcntl(fd, F_SETLEASE, kind) == 0) {
		fcntl(fd, F_SETLEASE, F_UNLCK);
		return 0;
	}
	switch (errno) {
	case EAGAIN:
		return -EBUSY;
	case EACCES:
	case EPERM:
	case EINVAL:
	case EOPNOTSUPP:
	case ENOSYS:
		return -EOPNOTSUPP;
	default:
		return -errno;
	}
}

int sys_probe_writers(int fd)
{
	INJECT("probe_writers");
	return probe_lease(fd, F_RDLCK);
}

/* A write lease is granted where nobody else has the file open in any way: check_conflicting_open in the kernel's fs/locks.c. */
int sys_probe_users(int fd)
{
	INJECT("probe_users");
	return probe_lease(fd, F_WRLCK);
}

int sys_lock(int fd, bool exclusive, bool wait)
{
	int r;

	INJECT("lock");
	RETRY(r, flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB)));
	return r < 0 ? -errno : 0;
}

int sys_unlock(int fd)
{
	return flock(fd, LOCK_UN) < 0 ? -errno : 0;
}

const char *sys_kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "a file";
	case S_IFDIR:
		return "a directory";
	case S_IFLNK:
		return "a symbolic link";
	case S_IFIFO:
		return "a FIFO";
	case S_IFSOCK:
		return "a socket";
	case S_IFBLK:
	case S_IFCHR:
		return "a device";
	default:
		return "a special file";
	}
}

int sys_read_file(int dirfd, const char *path, size_t max, char **ret_data, size_t *ret_len)
{
	auto_close int fd = sys_openat(dirfd, path, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0); /* a pipe is no file */
	auto_free char *data = NULL;
	size_t len = 0, room = READ_FIRST;
	struct stat st;
	int r;

	if (fd < 0)
		return fd;
	r = sys_fstat(fd, &st);
	if (r < 0)
		return r;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	if ((uint64_t)st.st_size > max)
		return -EFBIG;
	if (st.st_size > READ_FIRST)
		room = (size_t)st.st_size + 1; /* one more, so that the end is seen at the first read */
	for (;;) {
		char *bigger = realloc(data, room + 1);
		if (!bigger)
			return -ENOMEM;
		data = bigger;
		ssize_t n = sys_pread_full(fd, data + len, room - len, (off_t)len);
		if (n < 0)
			return (int)n;
		len += (size_t)n;
		if (len > max)
			return -EFBIG;
		if (len < room)
			break;
		room *= 2;
	}
	data[len] = '\0';
	*ret_data = take_ptr(data);
	*ret_len = len;
	return 0;
}

/* By direct calls: the log does this, too. */
int sys_give_to_owner(int fd, int dirfd)
{
	struct stat st, dir;

	if (geteuid() != 0)
		return 0;
	if (fstat(dirfd, &dir) < 0)
		return -errno;
	if (dir.st_uid == 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid != 0 || !(S_ISDIR(st.st_mode) || (S_ISREG(st.st_mode) && st.st_size == 0 && st.st_nlink == 1)))
		return 0;
	return fchown(fd, dir.st_uid, (gid_t)-1) == 0 || errno == EPERM ? 0 : -errno; /* EPERM: a file system where root is nobody */
}

#define TEMPORARY_PREFIX ".mintfs-tmp-"

bool sys_is_temporary(const char *name) { return !strncmp(name, TEMPORARY_PREFIX, sizeof TEMPORARY_PREFIX - 1); }

/* Makes a new file beside path, under a name of its own that begins with a dot. */
static int open_temporary(int dirfd, const char *path, char **ret_name)
{
	const char *slash = strrchr(path, '/');
	int dir_len = slash ? (int)(slash - path + 1) : 0;
	uint64_t salt = (uint64_t)time_now_ns() ^ (uint64_t)getpid() << 40;

	for (int i = 0; i < TEMPORARY_TRIES; i++, salt += 0x9e3779b97f4a7c15ULL) {
		auto_free char *name = NULL;
		if (asprintf(&name, "%.*s%s%016llx", dir_len, path, TEMPORARY_PREFIX, (unsigned long long)salt) < 0) {
			name = NULL;
			return -ENOMEM;
		}
		int fd = sys_openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
		if (fd == -EEXIST)
			continue;
		if (fd >= 0)
			*ret_name = take_ptr(name);
		return fd;
	}
	return -EEXIST;
}

/* Consumes fd. */
static int fill_durably(int fd, const void *data, size_t len, mode_t mode)
{
	int r = sys_pwrite_full(fd, data, len, 0), closed;

	if (r == 0)
		r = sys_fchmod(fd, mode);
	if (r == 0)
		r = sys_fsync(fd);
	closed = sys_close(fd);
	return r < 0 ? r : closed;
}

static int sync_directory_of(int dirfd, const char *path)
{
	const char *slash = strrchr(path, '/');
	auto_free char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	auto_close int fd = -1;

	if (!dir)
		return -ENOMEM;
	fd = sys_openat(dirfd, dir, O_RDONLY | O_DIRECTORY, 0);
	return fd < 0 ? fd : sys_fsync(fd);
}

int sys_write_file_durably(int dirfd, const char *path, const void *data, size_t len, mode_t mode)
{
	auto_free char *temporary = NULL;
	int fd = open_temporary(dirfd, path, &temporary), r;

	if (fd < 0)
		return fd;
	r = sys_give_to_owner(fd, dirfd); /* what root writes in a user's store the user can read, and write again */
	if (r == 0)
		r = fill_durably(fd, data, len, mode);
	else
		close(fd);
	if (r == 0)
		r = sys_renameat2(dirfd, temporary, dirfd, path, 0);
	if (r < 0) {
		unlinkat(dirfd, temporary, 0); /* directly: a fault that stays must not leave it behind */
		return r;
	}
	return sync_directory_of(dirfd, path);
}
