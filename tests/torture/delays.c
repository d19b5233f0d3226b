/* delays.so, for LD_PRELOAD: before and after calls of the system a thread now and then waits for a moment, as on a machine whose processor or disk is elsewhere. What two
 * processes do in an order that nobody promised then comes the other way round, too.
 *
 * DELAYS_ONE_IN: how rarely (default 50); DELAYS_US: the longest wait in microseconds (default 10000); short ones are more frequent. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	uint64_t n = text ? strtoull(text, NULL, 10) : 0;
	return n > 0 ? n : otherwise;
}

/* Xorshift, one row of numbers for each thread. */
static uint64_t next_random(void)
{
	static _Thread_local uint64_t x;
	if (x == 0) {
		struct timespec now;
		clock_gettime(CLOCK_MONOTONIC, &now);
		x = ((uint64_t)now.tv_nsec * UINT64_C(6364136223846793005) ^ (uint64_t)syscall(SYS_gettid) << 32) | 1;
	}
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x >> 11;
}

static void delay(void)
{
	static _Atomic uint64_t one_in, longest_us;
	int error = errno;
	if (one_in == 0) {
		longest_us = number("DELAYS_US", 10000);
		one_in = number("DELAYS_ONE_IN", 50);
	}
	if (next_random() % one_in == 0) {
		uint64_t us = next_random() % (longest_us + 1);
		us = us * us / (longest_us + 1);
		const struct timespec pause = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
		syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &pause, NULL);
	}
	errno = error;
}

/* The function behind ours. POSIX's own way to take its address from dlsym. */
#define FIND(real, name) \
	if (!(real)) \
	*(void **)&(real) = dlsym(RTLD_NEXT, #name)

#define DELAYED(type, name, parameters, arguments) \
	type name parameters; \
	type name parameters \
	{ \
		static type(*real) parameters; \
		FIND(real, name); \
		delay(); \
		type ret = real arguments; \
		delay(); \
		return ret; \
	}

/* names */
DELAYED(int, rename, (const char *from, const char *to), (from, to))
DELAYED(int, renameat, (int fd, const char *from, int fd2, const char *to), (fd, from, fd2, to))
DELAYED(int, renameat2, (int fd, const char *from, int fd2, const char *to, unsigned flags), (fd, from, fd2, to, flags))
DELAYED(int, unlink, (const char *path), (path))
DELAYED(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags))
DELAYED(int, rmdir, (const char *path), (path))
DELAYED(int, linkat, (int fd, const char *from, int fd2, const char *to, int flags), (fd, from, fd2, to, flags))
DELAYED(int, symlinkat, (const char *target, int fd, const char *path), (target, fd, path))
DELAYED(int, mkdir, (const char *path, mode_t mode), (path, mode))
DELAYED(int, mkdirat, (int fd, const char *path, mode_t mode), (fd, path, mode))
/* attributes and contents */
DELAYED(int, fstat, (int fd, struct stat *st), (fd, st))
DELAYED(int, fstatat, (int fd, const char *restrict path, struct stat *restrict st, int flags), (fd, path, st, flags))
DELAYED(int, statx, (int fd, const char *restrict path, int flags, unsigned mask, struct statx *restrict st), (fd, path, flags, mask, st))
DELAYED(int, fchmod, (int fd, mode_t mode), (fd, mode))
DELAYED(int, ftruncate, (int fd, off_t size), (fd, size))
DELAYED(int, fsync, (int fd), (fd))
DELAYED(int, fdatasync, (int fd), (fd))
DELAYED(int, close, (int fd), (fd))
DELAYED(ssize_t, read, (int fd, void *to, size_t n), (fd, to, n))
DELAYED(ssize_t, pread64, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at))
DELAYED(ssize_t, readv, (int fd, const struct iovec *to, int n), (fd, to, n))
DELAYED(ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n))
DELAYED(ssize_t, pwrite64, (int fd, const void *from, size_t n, off64_t at), (fd, from, n, at))
DELAYED(ssize_t, writev, (int fd, const struct iovec *from, int n), (fd, from, n))
DELAYED(ssize_t, splice, (int in, off64_t *at, int out, off64_t *at2, size_t n, unsigned flags), (in, at, out, at2, n, flags))
/* processes and threads */
DELAYED(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
DELAYED(ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags))
DELAYED(int, poll, (struct pollfd *fds, nfds_t n, int ms), (fds, n, ms))
DELAYED(int, epoll_wait, (int fd, struct epoll_event *events, int n, int ms), (fd, events, n, ms))
DELAYED(pid_t, waitpid, (pid_t pid, int *status, int flags), (pid, status, flags))
DELAYED(int, pthread_create, (pthread_t *restrict t, const pthread_attr_t *restrict a, void *(*run)(void *), void *restrict arg), (t, a, run, arg))

/* with arguments that not each call has */
#define DELAYED_OPEN(name) \
	int name(int fd, const char *path, int flags, ...); \
	int name(int fd, const char *path, int flags, ...) \
	{ \
		static int (*real)(int, const char *, int, ...); \
		mode_t mode = 0; \
		va_list more; \
		va_start(more, flags); \
		if (flags & (O_CREAT | O_TMPFILE)) \
			mode = va_arg(more, mode_t); \
		va_end(more); \
		FIND(real, name); \
		delay(); \
		int ret = real(fd, path, flags, mode); \
		delay(); \
		return ret; \
	}
DELAYED_OPEN(openat)
DELAYED_OPEN(openat64)

int ioctl(int fd, unsigned long what, ...)
{
	static int (*real)(int, unsigned long, ...);
	va_list more;
	va_start(more, what);
	void *arg = va_arg(more, void *);
	va_end(more);
	FIND(real, ioctl);
	delay();
	int ret = real(fd, what, arg);
	delay();
	return ret;
}
