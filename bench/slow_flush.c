/* slow_flush.so, for LD_PRELOAD: a disk that takes SLOW_FLUSH_US microseconds more for each flush (fsync, fdatasync, syncfs). What a machine with a quick
 * virtual disk measures is the way through the kernel; on the disks that people train with, waiting for flushes is most of a small commit. */
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static int after(const char *name, int fd)
{
	const char *us = getenv("SLOW_FLUSH_US");
	long ns = us ? atol(us) * 1000 : 0;
	int (*real)(int);

	*(void **)&real = dlsym(RTLD_NEXT, name); /* POSIX's own way to take a function's address from it */
	int r = real(fd);
	nanosleep(&(struct timespec){ns / 1000000000, ns % 1000000000}, NULL);
	return r;
}

int fsync(int fd);
int fdatasync(int fd);
int syncfs(int fd);

int fsync(int fd) { return after("fsync", fd); }
int fdatasync(int fd) { return after("fdatasync", fd); }
int syncfs(int fd) { return after("syncfs", fd); }
