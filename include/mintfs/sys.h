/* System calls on the store, in one place: 0 or a result >= 0, or -errno; EINTR is retried where the call allows it; every
 * descriptor is O_CLOEXEC. Built with MINTFS_FAULTS, each of them can be made to fail (sys_fault_arm). All thread-safe. */
#ifndef MINTFS_SYS_H
#define MINTFS_SYS_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

int sys_openat(int dirfd, const char *path, int flags, mode_t mode);
/* As sys_openat, but no component may be a symbolic link, leave dirfd or cross a mount (openat2 RESOLVE_BENEATH,
 * RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV; Linux 5.6). -ELOOP or -EXDEV where one does, -ENOSYS on older kernels.
 * For every path a user had a hand in. */
int sys_openat_beneath(int dirfd, const char *path, int flags, mode_t mode);
int sys_reopen(int fd, int flags); /* opens what an O_PATH descriptor stands for, by /proc/self/fd */
int sys_close(int fd);             /* checked close of a written descriptor */
ssize_t sys_pread(int fd, void *data, size_t len, off_t off);        /* as pread, may be short */
ssize_t sys_pread_full(int fd, void *data, size_t len, off_t off);   /* short only at the end of the file */
ssize_t sys_pwrite(int fd, const void *data, size_t len, off_t off); /* may be short */
int sys_pwrite_full(int fd, const void *data, size_t len, off_t off);
int sys_fsync(int fd);
int sys_fdatasync(int fd);
int sys_syncfs(int fd);
int sys_write_range(int fd); /* all bytes of the file handed to the disk and taken (sync_file_range); neither its size nor the disk's own cache is synced */
int sys_ftruncate(int fd, off_t size);
int sys_fallocate(int fd, int mode, off_t off, off_t len);
int sys_fstat(int fd, struct stat *st);
int sys_fstatat(int dirfd, const char *name, struct stat *st, int flags); /* AT_EMPTY_PATH allowed */
int sys_fchmod(int fd, mode_t mode);                   /* O_PATH descriptors too (by /proc/self/fd) */
int sys_fchownat(int dirfd, const char *name, uid_t uid, gid_t gid, int flags);
/* What root has just made for MintFS in the directory of somebody else (a user's store) goes to the owner of that directory, so that he can work there later; else nothing is done.
 * He may have put anything there under that name meanwhile: only a directory or an empty file of root that has no second name is given. */
int sys_give_to_owner(int fd, int dirfd);
int sys_utimensat(int dirfd, const char *name, const struct timespec ts[2], int flags); /* "" and AT_EMPTY_PATH allowed */
int sys_mkdirat(int dirfd, const char *name, mode_t mode);
int sys_unlinkat(int dirfd, const char *name, int flags);
int sys_renameat2(int olddir, const char *oldname, int newdir, const char *newname, unsigned flags);
int sys_linkat_fd(int fd, int newdir, const char *newname); /* a name for the inode of fd (any kind of descriptor) */
int sys_symlinkat(const char *target, int dirfd, const char *name);
ssize_t sys_readlinkat(int dirfd, const char *name, char *buf, size_t size); /* NUL-terminated; -ENAMETOOLONG if size is short */
int sys_mknodat(int dirfd, const char *name, mode_t mode);  /* regular files only: -EPERM for others */
int sys_statvfs(int fd, struct statvfs *st);

/* A stream over the directory fd, which belongs to it from now on (is closed on failure). fd < 0, the -errno of its open, is given back. */
int sys_fdopendir(int fd, DIR **ret);
/* The next entry but "." and "..": 1, 0 at the end, or -errno. *ret is good until the next call. */
int sys_readdir(DIR *dir, struct dirent **ret);

/* A directory at dirfd/name and everything below, without following links. ENOENT is success. */
int sys_remove_tree(int dirfd, const char *name);

/* The immutable flag (chattr +i). -EOPNOTSUPP where the file system or the privilege lacks it. fd: not O_PATH. */
int sys_set_immutable(int fd, bool on);

/* Is any descriptor or mapping able to write to this regular file? Asks by fcntl(F_SETLEASE, F_RDLCK) and gives the lease back.
 * fd: opened O_RDONLY, no other descriptor of the caller open for writing. 0: nobody can write. -EBUSY: somebody can.
 * -EOPNOTSUPP where leases do not work (file owned by another, no CAP_LEASE; some file systems). Source: fcntl(2); tried, docs/design/base.md. */
int sys_probe_writers(int fd);
/* As sys_probe_writers, by F_WRLCK: does anybody else have the file open or mapped, to read or to write, by whatever way (a mapping through FUSE passthrough, too)? */
int sys_probe_users(int fd);

/* What stands there, for sentences: "a FIFO", "a device", …; "a file" for a regular one. */
const char *sys_kind_of(mode_t mode);

/* Whole small file. Refuses past max bytes with -EFBIG, a directory with -EISDIR, what is no file either (nothing is read of it, nor waited for) with -EINVAL; of a socket
 * the kernel says -ENXIO. *ret_data is NUL-terminated, to be freed. */
int sys_read_file(int dirfd, const char *path, size_t max, char **ret_data, size_t *ret_len);
/* Writes data to a temporary name, syncs it, renames it to path, syncs the directory. In the directory dirfd of somebody else the file is his (sys_give_to_owner). */
int sys_write_file_durably(int dirfd, const char *path, const void *data, size_t len, mode_t mode);
/* Is it a name of that temporary file? A power cut may leave one, which means nothing. */
bool sys_is_temporary(const char *name);

/* An advisory lock on an open file (flock): exclusive or shared. With wait false: -EWOULDBLOCK if held. Closing unlocks. */
int sys_lock(int fd, bool exclusive, bool wait);
int sys_unlock(int fd);

#ifdef MINTFS_FAULTS
/* The nth next call (1 = the very next) of the wrapper with this name ("linkat", "fsync", …; "*": any) fails with errno `error`, and
 * if `stay` all after it. sys_fault_arm(NULL, 0, 0, 0) disarms. Also read once from the environment: MINTFS_FAULT=name:n:errno[:stay],
 * errno as a number. A wrapper's name is its function's without sys_ ("linkat" for sys_linkat_fd); the compound functions count as the wrappers they call. SYS_FAULT_SHORT instead of an errno: pread and pwrite
 * move half of what they were asked to, other calls do all of it. Three more names, which "*" does not mean, are not of this file: "sql_step" (a
 * step of a statement), "sql_io" (a read, write or sync of SQLite), and "malloc" where a test is linked to ask for it (tests/unit/alloc_faults.h).
 * sys_fault_hits: how often the armed call was made since. */
#define SYS_FAULT_SHORT 4096
void sys_fault_arm(const char *name, int nth, int error, bool stay);
int sys_fault_hits(void);
int sys_fault_point(const char *name); /* for calls that are made elsewhere: 0, or -errno if this one is to fail */
/* A named place between two steps. Where the environment says MINTFS_CRASH=name, or name:n for the nth passing, the process ends here as by SIGKILL:
 * _exit(137), nothing is flushed or undone. The names stand in docs/design/registry.md. Where it says MINTFS_HANG=name, or name:n, the thread stays here
 * for ever; by MINTFS_DELAY=name:ms for so long, at each passing. Where it says MINTFS_MARKS=file, each name that is passed is written to that file. */
void sys_crash_point(const char *name);
#else
#define sys_fault_point(name) 0
#define sys_crash_point(name) ((void)0)
#endif

#endif
