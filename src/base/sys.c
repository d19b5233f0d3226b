/* The thin wrappers of sys.h: one system call each.
 *
 * EINTR is retried only where a second call is the same as the first: not for those that make or remove a name. A failed
 * fsync is never retried: the kernel reports an error of writing back once and then forgets it. */
#include <mintfs/sys.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "inject.h"

#define PROC_FD_MAX 32
#define BENEATH_TRIES 16

static int status(int r)
{
	return r < 0 ? -errno : 0;
}

static void proc_fd_path(int fd, char out[PROC_FD_MAX])
{
	snprintf(out, PROC_FD_MAX, "/proc/self/fd/%d", fd);
}

int sys_openat(int dirfd, const char *path, int flags, mode_t mode)
{
	int fd;

	INJECT("openat");
	RETRY(fd, openat(dirfd, path, flags | O_CLOEXEC, mode));
	return fd < 0 ? -errno : fd;
}

int sys_openat_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV};
	long fd = -1;

	INJECT("openat_beneath");
	how.flags = (unsigned)(flags | O_CLOEXEC);
	if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE)
		how.mode = mode & 07777; /* openat2 refuses a mode that has no use */
	for (int i = 0; i < BENEATH_TRIES; i++) {
		RETRY(fd, syscall(SYS_openat2, dirfd, path, &how, sizeof(how)));
		if (fd >= 0 || errno != EAGAIN)
			break; /* EAGAIN: a rename raced with "..", openat2(2) */
	}
	return fd < 0 ? -errno : (int)fd; /* -ENOSYS before Linux 5.6: refused rather than opened without the checks */
}

int sys_reopen(int fd, int flags)
{
	char path[PROC_FD_MAX];
	int r;

	INJECT("reopen");
	proc_fd_path(fd, path);
	RETRY(r, open(path, (flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW)) | O_CLOEXEC));
	return r < 0 ? -errno : r;
}

int sys_close(int fd)
{
	int r = status(close(fd));

	INJECT("close");
	return r == -EINTR ? 0 : r; /* Linux has closed it all the same: close(2) */
}

ssize_t sys_pread(int fd, void *data, size_t len, off_t off)
{
	ssize_t n;

	INJECT_TRANSFER("pread", len);
	RETRY(n, pread(fd, data, len, off));
	return n < 0 ? -errno : n;
}

ssize_t sys_pread_full(int fd, void *data, size_t len, off_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = sys_pread(fd, (char *)data + done, len - done, off + (off_t)done);
		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t sys_pwrite(int fd, const void *data, size_t len, off_t off)
{
	ssize_t n;

	INJECT_TRANSFER("pwrite", len);
	RETRY(n, pwrite(fd, data, len, off));
	return n < 0 ? -errno : n;
}

int sys_pwrite_full(int fd, const void *data, size_t len, off_t off)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = sys_pwrite(fd, (const char *)data + done, len - done, off + (off_t)done);
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -EIO;
		done += (size_t)n;
	}
	return 0;
}

int sys_fsync(int fd)
{
	int r;

	INJECT("fsync");
	RETRY(r, fsync(fd));
	return status(r);
}

int sys_fdatasync(int fd)
{
	int r;

	INJECT("fdatasync");
	RETRY(r, fdatasync(fd));
	return status(r);
}

int sys_syncfs(int fd)
{
	INJECT("syncfs");
	return status(syncfs(fd));
}

int sys_write_range(int fd)
{
	INJECT("write_range");
	/* the three together mean WB_SYNC_ALL: no page is passed over (fs/sync.c) */
	return status(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
}

int sys_ftruncate(int fd, off_t size)
{
	int r;

	INJECT("ftruncate");
	RETRY(r, ftruncate(fd, size));
	return status(r);
}

int sys_fallocate(int fd, int mode, off_t off, off_t len)
{
	int r;

	INJECT("fallocate");
	RETRY(r, fallocate(fd, mode, off, len));
	return status(r);
}

int sys_fstat(int fd, struct stat *st)
{
	struct stat found;

	INJECT("fstat");
	if (fstat(fd, &found) < 0)
		return -errno;
	*st = found;
	return 0;
}

int sys_fstatat(int dirfd, const char *name, struct stat *st, int flags)
{
	struct stat found;

	INJECT("fstatat");
	if (fstatat(dirfd, name, &found, flags) < 0)
		return -errno;
	*st = found;
	return 0;
}

int sys_fchmod(int fd, mode_t mode)
{
	char path[PROC_FD_MAX];

	INJECT("fchmod");
	if (fchmod(fd, mode) == 0)
		return 0;
	if (errno != EBADF || fcntl(fd, F_GETFD) < 0)
		return -errno;
	proc_fd_path(fd, path); /* an O_PATH descriptor: open(2) */
	return status(chmod(path, mode));
}

int sys_fchownat(int dirfd, const char *name, uid_t uid, gid_t gid, int flags)
{
	INJECT("fchownat");
	return status(fchownat(dirfd, name, uid, gid, flags));
}

int sys_utimensat(int dirfd, const char *name, const struct timespec ts[2], int flags)
{
	INJECT("utimensat");
	return status(utimensat(dirfd, name, ts, flags));
}

int sys_mkdirat(int dirfd, const char *name, mode_t mode)
{
	INJECT("mkdirat");
	return status(mkdirat(dirfd, name, mode));
}

int sys_unlinkat(int dirfd, const char *name, int flags)
{
	INJECT("unlinkat");
	return status(unlinkat(dirfd, name, flags));
}

int sys_renameat2(int olddir, const char *oldname, int newdir, const char *newname, unsigned flags)
{
	INJECT("renameat2");
	return status(renameat2(olddir, oldname, newdir, newname, flags));
}

int sys_linkat_fd(int fd, int newdir, const char *newname)
{
	char path[PROC_FD_MAX];

	INJECT("linkat");
	if (linkat(fd, "", newdir, newname, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno != ENOENT && errno != EPERM)
		return -errno;
	proc_fd_path(fd, path); /* without CAP_DAC_READ_SEARCH the first way is ENOENT: linkat(2) */
	return status(linkat(AT_FDCWD, path, newdir, newname, AT_SYMLINK_FOLLOW));
}

int sys_symlinkat(const char *target, int dirfd, const char *name)
{
	INJECT("symlinkat");
	return status(symlinkat(target, dirfd, name));
}

ssize_t sys_readlinkat(int dirfd, const char *name, char *buf, size_t size)
{
	char target[4096]; /* PATH_MAX: the kernel stores no longer one */
	ssize_t n;

	INJECT("readlinkat");
	n = readlinkat(dirfd, name, target, sizeof(target));
	if (n < 0)
		return -errno;
	if ((size_t)n >= size)
		return -ENAMETOOLONG;
	for (ssize_t i = 0; i < n; i++)
		buf[i] = target[i];
	buf[n] = '\0';
	return n;
}

int sys_mknodat(int dirfd, const char *name, mode_t mode)
{
	INJECT("mknodat");
	if ((mode & S_IFMT) != 0 && !S_ISREG(mode))
		return -EPERM;
	return status(mknodat(dirfd, name, S_IFREG | (mode & 07777), 0));
}

int sys_fdopendir(int fd, DIR **ret)
{
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		int r = fd < 0 ? fd : -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	*ret = dir;
	return 0;
}

int sys_readdir(DIR *dir, struct dirent **ret)
{
	struct dirent *e;

	do {
		INJECT("readdir");
		errno = 0;
		e = readdir(dir);
		if (!e)
			return -errno;
	} while (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
	*ret = e;
	return 1;
}

int sys_statvfs(int fd, struct statvfs *st)
{
	struct statvfs found;

	INJECT("statvfs");
	if (fstatvfs(fd, &found) < 0)
		return -errno;
	*st = found;
	return 0;
}
