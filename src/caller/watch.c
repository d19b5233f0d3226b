/* The end of processes, by pidfd: one thread waits on all of them with epoll. Those for whom there is no descriptor are looked for by their start times.
 *
 * The life of a watched process:
 *
 *     caller_watch_add ──▶ running ── pidfd readable ──▶ settled? ── yes ──▶ fn, forgotten
 *                        (in epoll)                         │ no: not reaped yet, or we may not know
 *                                                           ▼
 *                                                         ended ── asked again, at most for GIVE_UP_NS ──▶ fn, forgotten
 *                                                       (own list)
 *
 * A pidfd becomes readable when the process is a zombie. Its exit status comes from /proc/<pid>/stat then, where we
 * have the rights to see it; else from the pidfd itself, once the parent has reaped it (PIDFD_INFO_EXIT, Linux 6.15).
 * Whoever waits for that waits in a list, on the timeout of epoll_wait, so that one parent that does not reap delays
 * nobody else.
 *
 * A pidfd is a descriptor of ours, and a user may have thousands of processes that write. So each may have a part of the descriptors, and what is beyond stands in a list (`unseen`) that is
 * gone through at times: who is gone is told, for who lives a descriptor is tried again.
 *
 * Invariants
 * - A watched process is in `known` from its adding until just before fn is called for it, and fn is called once.
 * - Only the thread frees a watched process; so the pointers that epoll returns are good.
 * - fn is called without the lock. The list of the ended belongs to the thread alone.
 * - A share counts the pidfds of its user. Who has none is in `unseen`, or in the hand of the thread.
 *
 * Locks: `lock` only, innermost; nothing is read from /proc under it. */
#include "proc.h"

#include <mintfs/caller.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define GIVE_UP_NS NS_PER_SEC
#define FIRST_PAUSE_NS (1000LL * 1000)
#define LONGEST_PAUSE_NS (64LL * 1000 * 1000)
#define EVENTS_AT_ONCE 32
#define SHARE 8 /* one part of so many of the descriptors */
#define LOOK_NS NS_PER_SEC
#define LOOK_NS_EACH (1000LL * 1000) /* with thousands it takes longer, so that looking takes a hundredth of a processor at most */

/* struct pidfd_info of <linux/pidfd.h> in its first size, which headers of older systems lack. */
struct exit_info {
	uint64_t mask; /* what is asked; on return what was answered */
	uint64_t cgroupid;
	uint32_t pid, tgid, ppid;
	uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
	int32_t exit_code; /* as wait(2) gives it */
};
_Static_assert(sizeof(struct exit_info) == 64, "PIDFD_INFO_SIZE_VER0");
#define EXIT_INFO_GET _IOWR(0xFF, 11, struct exit_info)
#define EXIT_INFO_EXIT (UINT64_C(1) << 3)

/* held[0]: the pidfd. */
struct kept_process {
	struct keep_slot slot;
	uint64_t start;
	int32_t pid;
};
_Static_assert(sizeof(struct kept_process) <= KEEP_PROCESS_SIZE, "a process fits its record");

struct watched {
	struct caller_process process;
	uid_t who;
	int pidfd;                 /* -1: unseen */
	struct kept_process *kept; /* NULL: not kept */
	bool waits;                /* lock; not in epoll yet: until all are known again who were before */
	/* of the ended, thread only; CLOCK_MONOTONIC */
	int64_t ask_again_ns, give_up_ns, pause_ns;
	struct watched *next;      /* of the ended or, under the lock, of the unseen */
};

struct caller_watch {
	caller_ended_fn *fn;
	void *arg;
	struct log *log;
	int epoll, wake; /* wake: an eventfd, readable when the thread has to look at the next two */
	_Atomic bool stopping;
	_Atomic bool looks; /* somebody is unseen */
	pthread_t thread;
	pthread_mutex_t lock;
	struct map64 *known;    /* lock; by key_of() */
	struct keep *keep;      /* NULL: nothing is kept */
	struct map64 *before;   /* lock; records of the process before this one that nobody asked for yet; NULL: none */
	struct map64 *shares;   /* lock; how many pidfds a user has, by uid */
	size_t share;           /* how many he may have; fixed */
	_Atomic int64_t patience_ns; /* GIVE_UP_NS */
	struct watched *unseen; /* lock */
	size_t n_unseen;        /* lock */
	int64_t look_ns;        /* thread; when the unseen are looked for next */
	struct watched *ended;  /* thread */
};

/* Pids have 22 bits at most (PID_MAX_LIMIT of the kernel); 42 bits of ticks last a thousand years. */
static uint64_t key_of(struct caller_process p)
{
	return p.start << 22 | (uint64_t)p.pid;
}

/* ---- shares ---- */

/* Under the lock. */
static void count_pidfd(struct caller_watch *w, uid_t who, int n)
{
	size_t now = (uintptr_t)map64_get(w->shares, who) + (size_t)n; /* a number */
	if (now == 0)
		map64_remove(w->shares, who);
	else
		map64_put(w->shares, who, (void *)(uintptr_t)now); /* without memory he has one more */
}

static bool take_share(struct caller_watch *w, uid_t who)
{
	SCOPED_LOCK(&w->lock);
	if (who != CALLER_NO_SHARE && (uintptr_t)map64_get(w->shares, who) >= w->share)
		return false;
	count_pidfd(w, who, 1);
	return true;
}

static void give_share(struct caller_watch *w, uid_t who)
{
	SCOPED_LOCK(&w->lock);
	if (map64_get(w->shares, who))
		count_pidfd(w, who, -1);
}

static void watched_free(struct caller_watch *w, struct watched *e)
{
	keep_drop(w->keep, KEEP_PROCESSES, e->kept);
	if (e->pidfd >= 0) {
		close(e->pidfd);
		give_share(w, e->who);
	}
	free(e);
}

/* The wait status of a process that has ended, or -1 if it is not known (yet). */
static int status_of(const struct watched *e)
{
	struct exit_info info = {.mask = EXIT_INFO_EXIT};
	if (ioctl(e->pidfd, EXIT_INFO_GET, &info) == 0 && (info.mask & EXIT_INFO_EXIT))
		return info.exit_code;
	int status;
	return proc_zombie_status(e->process.pid, e->process.start, &status) == 0 ? status : -1;
}

static void finish(struct caller_watch *w, struct watched *e, int status)
{
	struct caller_process p = e->process;
	pthread_mutex_lock(&w->lock);
	map64_remove(w->known, key_of(p));
	pthread_mutex_unlock(&w->lock);
	if (status < 0 && e->pidfd < 0)
		log_info(w->log, "process %d has ended; its exit status is not known, since user %u has more processes in drafts than descriptors for them", (int)p.pid, (unsigned)e->who);
	else if (status < 0)
		log_info(w->log, "process %d has ended; the kernel does not tell its exit status", (int)p.pid);
	w->fn(p, status, w->arg);
	watched_free(w, e); /* after it was told: a death in between, and the next process hears of it again */
}

static void on_readable(struct caller_watch *w, struct watched *e)
{
	epoll_ctl(w->epoll, EPOLL_CTL_DEL, e->pidfd, NULL);
	int status = status_of(e);
	if (status >= 0) {
		finish(w, e, status);
		return;
	}
	int64_t now = time_monotonic_ns();
	e->give_up_ns = now + atomic_load(&w->patience_ns);
	e->pause_ns = FIRST_PAUSE_NS;
	e->ask_again_ns = now + e->pause_ns;
	e->next = w->ended;
	w->ended = e;
}

/* Older kernels call a pidfd readable for a moment too when a thread other than the first one calls exec. */
static bool goes_on(struct caller_watch *w, struct watched *e)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = e};
	return caller_alive(e->process) && epoll_ctl(w->epoll, EPOLL_CTL_ADD, e->pidfd, &event) == 0;
}

/* Asks again for those whose time has come. fn cannot change the list: only on_readable does. */
static void ask_again(struct caller_watch *w)
{
	int64_t now = w->ended ? time_monotonic_ns() : 0;
	for (struct watched **link = &w->ended, *e; (e = *link);) {
		int status = e->ask_again_ns <= now ? status_of(e) : -1;
		if (status < 0 && e->give_up_ns > now) {
			if (e->ask_again_ns <= now) {
				e->pause_ns = e->pause_ns * 2 < LONGEST_PAUSE_NS ? e->pause_ns * 2 : LONGEST_PAUSE_NS;
				e->ask_again_ns = now + e->pause_ns < e->give_up_ns ? now + e->pause_ns : e->give_up_ns;
			}
			link = &e->next;
			continue;
		}
		*link = e->next;
		if (status >= 0 || !goes_on(w, e))
			finish(w, e, status);
	}
}

static int open_pidfd(struct caller_process p, int *ret_fd);
static void keep_pidfd(struct caller_watch *w, struct watched *e);
static int add_to_epoll(struct caller_watch *w, struct watched *e);

/* A descriptor for e. -EMFILE: it stays unseen; -ESRCH: it has ended. */
static int see(struct caller_watch *w, struct watched *e)
{
	if (!take_share(w, e->who))
		return proc_is_gone(e->process.pid, e->process.start) ? -ESRCH : -EMFILE;
	int r = open_pidfd(e->process, &e->pidfd);
	if (r == 0) {
		keep_pidfd(w, e);
		return 0;
	}
	give_share(w, e->who);
	return r == -ESRCH || proc_is_gone(e->process.pid, e->process.start) ? -ESRCH : -EMFILE;
}

static void unsee(struct caller_watch *w, struct watched *e)
{
	keep_drop(w->keep, KEEP_PROCESSES, e->kept);
	e->kept = NULL;
	close(take_fd(&e->pidfd));
	give_share(w, e->who);
}

static void put_unseen(struct caller_watch *w, struct watched *e)
{
	e->next = w->unseen;
	w->unseen = e;
	w->n_unseen++;
	atomic_store(&w->looks, true);
}

/* Goes through the unseen, if it is time. Who comes meanwhile is new in the list. */
static void look(struct caller_watch *w)
{
	int64_t now = time_monotonic_ns();
	struct watched *all, *e;
	if (!atomic_load(&w->looks) || now < w->look_ns)
		return;
	pthread_mutex_lock(&w->lock);
	size_t n = w->before ? 0 : w->n_unseen;
	all = w->before ? NULL : w->unseen; /* one that has ended is told to all who ask for it: when they have asked */
	if (!w->before) {
		w->unseen = NULL;
		w->n_unseen = 0;
		atomic_store(&w->looks, false);
	}
	pthread_mutex_unlock(&w->lock);
	while ((e = all)) {
		all = e->next;
		int r = see(w, e);
		if (r == -ESRCH) {
			finish(w, e, status_of(e));
			continue;
		}
		if (r == 0 && add_to_epoll(w, e) == 0)
			continue;
		if (r == 0)
			unsee(w, e);
		SCOPED_LOCK(&w->lock);
		put_unseen(w, e);
	}
	w->look_ns = time_monotonic_ns() + LOOK_NS + (int64_t)n * LOOK_NS_EACH;
}

/* Milliseconds until somebody must be asked again, for epoll_wait. */
static int timeout_of(const struct caller_watch *w)
{
	int64_t first = atomic_load(&w->looks) ? w->look_ns : INT64_MAX;
	for (const struct watched *e = w->ended; e; e = e->next)
		if (e->ask_again_ns < first)
			first = e->ask_again_ns;
	if (first == INT64_MAX)
		return -1;
	int64_t left = first - time_monotonic_ns();
	return left <= 0 ? 0 : (int)(left / 1000000) + 1;
}

static void *watch_main(void *arg)
{
	struct caller_watch *w = arg;
	struct epoll_event events[EVENTS_AT_ONCE];
	for (;;) {
		int n = epoll_wait(w->epoll, events, EVENTS_AT_ONCE, timeout_of(w));
		if (n < 0 && errno != EINTR) {
			log_error(w->log, "the watch over processes has ended: %s", strerror(errno));
			return NULL;
		}
		for (int i = 0; i < n; i++) {
			eventfd_t woken;
			if (events[i].data.ptr)
				on_readable(w, events[i].data.ptr);
			else
				eventfd_read(w->wake, &woken);
		}
		if (atomic_load(&w->stopping))
			return NULL;
		ask_again(w);
		look(w);
	}
}

/* Signals are for the daemon's other threads. */
static int start_thread(struct caller_watch *w)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&w->thread, NULL, watch_main, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r == 0)
		pthread_setname_np(w->thread, "mintfs-watch");
	return -r;
}

static size_t share_of_one(void)
{
	struct rlimit l = {.rlim_cur = 1024};
	getrlimit(RLIMIT_NOFILE, &l);
	return (size_t)l.rlim_cur / SHARE;
}

int caller_watch_new(caller_ended_fn *fn, void *arg, struct log *log, struct caller_watch **ret)
{
	struct caller_watch *w = calloc(1, sizeof *w);
	if (!w)
		return -ENOMEM;
	*w = (struct caller_watch){.fn = fn, .arg = arg, .log = log, .epoll = -1, .wake = -1, .share = share_of_one(), .patience_ns = GIVE_UP_NS};
	pthread_mutex_init(&w->lock, NULL);
	int r = -ENOMEM;
	w->known = map64_new();
	w->shares = map64_new();
	if (!w->known || !w->shares)
		goto undo;
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct epoll_event wake = {.events = EPOLLIN, .data.ptr = NULL};
	if (w->epoll < 0 || w->wake < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wake, &wake) < 0) {
		r = -errno;
		goto undo;
	}
	r = start_thread(w);
	if (r < 0)
		goto undo;
	*ret = w;
	return 0;
undo:
	if (w->wake >= 0)
		close(w->wake);
	if (w->epoll >= 0)
		close(w->epoll);
	map64_free(w->known);
	map64_free(w->shares);
	pthread_mutex_destroy(&w->lock);
	free(w);
	return r;
}

void watch_set_patience(struct caller_watch *w, int64_t ns) { atomic_store(&w->patience_ns, ns); }

static bool is_known(struct caller_watch *w, struct caller_process p)
{
	SCOPED_LOCK(&w->lock);
	return map64_get(w->known, key_of(p)) != NULL;
}

/* A pidfd of this very process: opened first, then compared, so that it cannot stand for a later one with the same pid. */
static int open_pidfd(struct caller_process p, int *ret_fd)
{
	auto_close int fd = (int)syscall(SYS_pidfd_open, p.pid, 0);
	if (fd < 0) /* EINVAL, ENOENT: the number is a thread's by now */
		return errno == EINVAL || errno == ENOENT ? -ESRCH : -errno;
	if (proc_is_gone(p.pid, p.start))
		return -ESRCH;
	*ret_fd = take_fd(&fd);
	return 0;
}

static int add_to_epoll(struct caller_watch *w, struct watched *e)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = e};
	return epoll_ctl(w->epoll, EPOLL_CTL_ADD, e->pidfd, &event);
}

static bool begin_waiting(uint64_t key, void *value, void *arg)
{
	struct watched *e = value;
	if (e->waits && e->pidfd >= 0 && add_to_epoll(arg, e) == 0)
		e->waits = false;
	return true;
}

/* Makes e known; -EEXIST if another thread was faster. */
static int enlist(struct caller_watch *w, struct watched *e)
{
	SCOPED_LOCK(&w->lock);
	if (map64_get(w->known, key_of(e->process)))
		return -EEXIST;
	int r = map64_put(w->known, key_of(e->process), e);
	if (r < 0)
		return r;
	if (e->pidfd < 0) {
		put_unseen(w, e);
		return 0;
	}
	e->waits = w->before != NULL; /* one that has ended is told to all who ask for it, not to the first alone */
	if (e->waits || add_to_epoll(w, e) == 0)
		return 0;
	r = -errno;
	map64_remove(w->known, key_of(e->process));
	return r;
}

int caller_watch_keep(struct caller_watch *w, struct keep *keep)
{
	SCOPED_LOCK(&w->lock);
	if (!keep)
		return 0;
	w->keep = keep;
	w->before = map64_new();
	if (!w->before)
		return -ENOMEM;
	for (uint32_t i = 0; i < keep_count(keep, KEEP_PROCESSES); i++) {
		struct kept_process *k = keep_at(keep, KEEP_PROCESSES, i);
		if (keep_state_of(k) != KEEP_USED)
			continue;
		int r = map64_put(w->before, key_of((struct caller_process){.pid = k->pid, .start = k->start}), k);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool let_go(uint64_t key, void *value, void *arg)
{
	struct caller_watch *w = arg;
	struct kept_process *k = value;
	int fd = keep_held(&k->slot, 0);
	keep_drop(w->keep, KEEP_PROCESSES, k);
	if (fd >= 0)
		close(fd);
	return true;
}

void caller_watch_kept_done(struct caller_watch *w)
{
	SCOPED_LOCK(&w->lock);
	if (!w->before)
		return;
	map64_each(w->before, let_go, w);
	map64_free(w->before);
	w->before = NULL;
	map64_each(w->known, begin_waiting, w);
	eventfd_write(w->wake, 1);
}

/* The pidfd that the process before this one held. False: none. */
static bool take_kept(struct caller_watch *w, struct watched *e)
{
	SCOPED_LOCK(&w->lock);
	e->kept = w->before ? map64_remove(w->before, key_of(e->process)) : NULL;
	if (!e->kept)
		return false;
	e->pidfd = keep_held(&e->kept->slot, 0);
	count_pidfd(w, e->who, 1);
	return true;
}

static void keep_pidfd(struct caller_watch *w, struct watched *e)
{
	e->kept = keep_take(w->keep, KEEP_PROCESSES);
	if (!e->kept)
		return;
	e->kept->pid = e->process.pid;
	e->kept->start = e->process.start;
	keep_hold(&e->kept->slot, 0, e->pidfd);
	keep_publish(e->kept);
}

int caller_watch_add(struct caller_watch *w, struct caller_process p, uid_t who)
{
	if (p.pid <= 0)
		return -ESRCH;
	if (is_known(w, p))
		return 0;
	struct watched *e = calloc(1, sizeof *e);
	if (!e)
		return -ENOMEM;
	*e = (struct watched){.process = p, .who = who, .pidfd = -1};
	int r = take_kept(w, e) ? 0 : see(w, e);
	if (r == -ESRCH) {
		free(e);
		return r;
	}
	bool unseen = e->pidfd < 0;
	r = enlist(w, e);
	if (r < 0)
		watched_free(w, e);
	else if (unseen)
		eventfd_write(w->wake, 1);
	return r == -EEXIST ? 0 : r;
}

size_t caller_watch_count(struct caller_watch *w)
{
	SCOPED_LOCK(&w->lock);
	return map64_count(w->known);
}

static bool free_known(uint64_t key, void *value, void *arg)
{
	watched_free(arg, value);
	return true;
}

void caller_watch_free(struct caller_watch *w)
{
	if (!w)
		return;
	atomic_store(&w->stopping, true);
	eventfd_write(w->wake, 1);
	pthread_join(w->thread, NULL);
	caller_watch_kept_done(w);
	map64_each(w->known, free_known, w);
	map64_free(w->known);
	map64_free(w->shares);
	close(w->wake);
	close(w->epoll);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
