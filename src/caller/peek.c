/* A look into the memory of a caller, in bounded time.
 *
 * process_vm_readv(2) waits for the pages it reads, and whose they are is the caller's choice: a mapping of a file system of his own, which never answers, would hold
 * the thread that serves him for ever, and the directory that the kernel has locked for his call. (For environ and cmdline of /proc the kernel refuses such pages
 * since Linux 4.17, CVE-2018-1120.) So the look is taken by a thread of its own, which is left behind where it does not come back.
 *
 * Some 20 µs for the thread, at a mint. Rejected: to ask /proc/<pid>/maps or pagemap before, since the caller's other threads change them in between. */
#include "proc.h"

#include <mintfs/cleanup.h>
#include <mintfs/util.h>

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/uio.h>

#define PEEK_WAIT_NS (NS_PER_SEC / 5) /* a page that is swapped out comes sooner */
#define PEEKS_MAX 64                  /* under way: no more threads than that are left behind */
#define PEEK_NAME "mintfs-peek" /* src/fs/hangs.c knows it by that */
#define PEEK_STACK ((size_t)256 * 1024)

struct peek_limit {
	atomic_uint refs, under_way;
};

struct peek {
	atomic_uint refs; /* the one who waits, and the thread */
	struct peek_limit *limit;
	pid_t tid;
	uint64_t address;
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool ended; /* under lock; then what follows is valid */
	ssize_t len;
	char path[PATH_MAX];
};

struct peek_limit *peek_limit_new(void)
{
	struct peek_limit *l = calloc(1, sizeof *l);
	if (l)
		atomic_init(&l->refs, 1);
	return l;
}

void peek_limit_put(struct peek_limit *l)
{
	if (l && atomic_fetch_sub(&l->refs, 1) == 1)
		free(l);
}

static void peek_put(struct peek *p)
{
	if (atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	peek_limit_put(p->limit);
	pthread_cond_destroy(&p->done);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static struct peek *peek_new(struct peek_limit *limit, pid_t tid, uint64_t address)
{
	pthread_condattr_t a;
	struct peek *p = malloc(sizeof *p);
	if (!p)
		return NULL;
	*p = (struct peek){.limit = limit, .tid = tid, .address = address};
	atomic_init(&p->refs, 2);
	atomic_fetch_add(&limit->refs, 1);
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&p->done, &a);
	pthread_condattr_destroy(&a);
	return p;
}

/* Page by page, since the one behind its end may not be there. */
static ssize_t read_path(pid_t tid, uint64_t address, char out[PATH_MAX])
{
	size_t len = 0, page = (size_t)sysconf(_SC_PAGESIZE);
	while (len < PATH_MAX) {
		size_t want = page - (size_t)((address + len) % page);
		struct iovec to = {out + len, want < PATH_MAX - len ? want : PATH_MAX - len}, from = {(void *)(uintptr_t)(address + len), to.iov_len};
		ssize_t n = process_vm_readv(tid, &to, 1, &from, 1, 0);
		if (n <= 0)
			return n < 0 ? -errno : -EFAULT;
		const char *end = memchr(out + len, '\0', (size_t)n);
		if (end)
			return end - out;
		len += (size_t)n;
	}
	return -ENAMETOOLONG;
}

static void *peek_run(void *arg)
{
	struct peek *p = arg;
	pthread_setname_np(pthread_self(), PEEK_NAME);
	ssize_t len = read_path(p->tid, p->address, p->path);
	atomic_fetch_sub(&p->limit->under_way, 1);
	pthread_mutex_lock(&p->lock);
	p->len = len;
	p->ended = true;
	pthread_cond_signal(&p->done);
	pthread_mutex_unlock(&p->lock);
	peek_put(p);
	return NULL;
}

static bool start(struct peek *p)
{
	pthread_attr_t attr;
	pthread_t thread;
	if (pthread_attr_init(&attr) != 0)
		return false;
	pthread_attr_setstacksize(&attr, PEEK_STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	bool started = pthread_create(&thread, &attr, peek_run, p) == 0;
	pthread_attr_destroy(&attr);
	return started;
}

/* 0 when the thread has ended in time. */
static int wait_for(struct peek *p)
{
	struct timespec until = ns_timespec(time_monotonic_ns() + PEEK_WAIT_NS);
	SCOPED_LOCK(&p->lock);
	while (!p->ended)
		if (pthread_cond_timedwait(&p->done, &p->lock, &until) != 0)
			return -ETIMEDOUT;
	return 0;
}

ssize_t peek_path(struct peek_limit *limit, pid_t tid, uint64_t address, char out[PATH_MAX])
{
	if (atomic_fetch_add(&limit->under_way, 1) >= PEEKS_MAX) {
		atomic_fetch_sub(&limit->under_way, 1);
		return -EAGAIN;
	}
	struct peek *p = peek_new(limit, tid, address);
	if (!p || !start(p)) {
		atomic_fetch_sub(&limit->under_way, 1);
		if (p) {
			peek_put(p);
			peek_put(p);
		}
		return -EAGAIN;
	}
	ssize_t len = wait_for(p);
	if (len == 0) {
		len = p->len;
		if (len > 0)
			memcpy(out, p->path, (size_t)len);
	}
	peek_put(p);
	return len;
}
