/* The keeper's loop.
 *
 *     start a worker ──▶ watch it ── it ended well ─────────────────────────────▶ done
 *         ▲                  │ it died (or hung, and was killed)
 *         │                  ▼
 *         └─ yes ── can another take over? ── no: five deaths in a minute, an old kernel, never ready ──▶ the drive is taken away
 *
 * Everything that a dead worker had open and nobody needs is closed here, before the next one exists: nobody else then uses the table of descriptors.
 *
 * A worker is a copy of this process made by clone(2) with CLONE_FILES, which fork(3) has no word for. The C library does not know of it: so the worker's first
 * thread, whose idea of its own number is wrong, only waits, and all work is done by a second one. This process has one thread and holds no locks, so the
 * copy is whole. Rejected: exec (it gives the worker a table of descriptors of its own), and passing descriptors to the keeper over a socket (some microseconds
 * at each open of a file, and a moment in which a death loses one). */
#include "shared.h"

#include <errno.h>
#include <mintfs/sys.h>
#include <mintfs/task.h>
#include <mintfs/util.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_NS (500 * 1000000L)       /* how often the worker is looked at */
#define HANG_SECONDS 30                /* without a heartbeat, or with a request that makes no progress */
#define MINUTE_NS (60 * NS_PER_SEC)
#define DEATHS_MAX 64
#define STUCK_PART(hang) ((hang) / 3 * 2) /* of the time for a hang: a worker that cannot be killed by then */
#define SUCCESSOR_TRIES 3              /* of a new program, before the old one is taken again */
#define VAIN_MAX 12                    /* workers in a row that never are ready end the drive: with the pauses between them after half a minute */
#define VAIN_PAUSE_NS (100 * 1000000LL) /* before the next one; twice as long each time */
#define VAIN_PAUSE_MAX_NS (4 * NS_PER_SEC)

struct keeper {
	const struct keeper_options *o;
	struct keeper_shared *s;
	sigset_t signals;
	pid_t worker, helper;
	int64_t started_ns, killed_ns; /* killed: by us; 0 */
	bool told_of_disk;             /* that it cannot be killed since the disk does not answer */
	char why_killed[120];
	bool stopping, told_ready, worker_ended;
	int status;
	int64_t deaths[DEATHS_MAX];
	unsigned n_deaths, vain; /* vain: the last workers that never were ready */
	int64_t hang_ns;
};

static void say(struct keeper *k, bool bad, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void say(struct keeper *k, bool bad, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	k->o->say(k->o->arg, bad, text);
}

/* ---- making processes ---- */

static void *run_work(void *arg)
{
	const struct keeper_options *o = arg;

	exit(o->work(o->arg));
}

static void be_worker(struct keeper *k)
{
	pthread_t t;
	sigset_t all;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	prctl(PR_SET_NAME, "mintfs-worker");
	if (getppid() != atomic_load(&k->s->keeper))
		_exit(0);
	if (pthread_create(&t, NULL, run_work, (void *)(uintptr_t)k->o) != 0)
		_exit(EXIT_FAILURE);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	pthread_join(t, NULL);
	_exit(EXIT_FAILURE); /* run_work never returns */
}

static void be_helper(struct keeper *k)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "mintfs-notices");
	if (getppid() == atomic_load(&k->s->keeper))
		k->o->help(k->o->keep);
	_exit(0);
}

/* The same table of descriptors, another copy of memory. */
static pid_t copy_process(void)
{
#ifdef __s390x__
	return (pid_t)syscall(SYS_clone, 0, CLONE_FILES | SIGCHLD, 0, 0, 0);
#else
	return (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
#endif
}

static void start_helper(struct keeper *k)
{
	k->helper = copy_process();
	if (k->helper == 0)
		be_helper(k);
	atomic_store(&k->s->helper, k->helper > 0 ? (int32_t)k->helper : 0);
}

static int start_worker(struct keeper *k)
{
	int error = 0;

	k->started_ns = time_monotonic_ns();
	k->killed_ns = 0;
	k->told_of_disk = k->worker_ended = false;
	atomic_store(&k->s->beat_ns, 0);
	k->worker = copy_process();
	if (k->worker == 0)
		be_worker(k);
	if (k->worker < 0)
		error = -errno;
	atomic_store(&k->s->worker, error ? 0 : (int32_t)k->worker);
	return error;
}

/* ---- watching ---- */

static void kill_worker(struct keeper *k, const char *why)
{
	if (k->killed_ns)
		return;
	k->killed_ns = time_monotonic_ns();
	text_copy(k->why_killed, sizeof k->why_killed, why);
	kill(k->worker, SIGKILL);
}

static void reap(struct keeper *k)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
		if (WIFSTOPPED(status)) {
			if (pid == k->helper) /* nobody watches it, and an unmount would wait for its notices */
				kill(pid, SIGCONT);
		} else if (pid == k->worker) {
			k->worker_ended = true;
			k->status = status;
		} else if (pid == k->helper) {
			start_helper(k);
		}
	}
}

/* A worker was killed and does not end. Where a thread of it waits for what only a cut connection gives, that is cut. Where the disk does not answer, or a file system has much to
 * do for it, nothing helps: who uses the drive waits, as on any file system of that disk. */
static void look_at_stuck(struct keeper *k, int64_t now)
{
	char place[KEEPER_PLACE_MAX];
	enum keeper_stuck s = keeper_stuck_in(k->worker, place);

	k->killed_ns = now; /* when the disk answers it may take a moment to end */
	if (s == KEEPER_STUCK_FOR_US) {
		say(k, true, "the worker cannot be killed: it is stuck in the kernel; the drive is cut off");
		k->o->give_up(k->o->arg);
		k->stopping = true;
	} else if (s != KEEPER_STUCK_NOT && !k->told_of_disk) {
		if (s == KEEPER_STUCK_DISK)
			say(k, true, "the worker cannot be killed: the disk of the store does not answer (it waits in %s); the drive goes on when it does", place);
		else
			say(k, true, "the worker cannot be killed yet: the kernel is at work for it; the drive goes on when that is done");
		k->told_of_disk = true;
	}
}

static void look_for_hang(struct keeper *k)
{
	int64_t now = time_monotonic_ns(), beat = atomic_load(&k->s->beat_ns);
	char why[100];

	if (k->killed_ns) {
		if (now - k->killed_ns > STUCK_PART(k->hang_ns))
			look_at_stuck(k, now);
		return;
	}
	if (k->stopping)
		return; /* what is under way may take its time */
	if (now - (beat ? beat : k->started_ns) > k->hang_ns) {
		snprintf(why, sizeof why, "no sign of life for %lld s", (long long)((now - (beat ? beat : k->started_ns)) / NS_PER_SEC));
		kill_worker(k, why);
	} else if (k->o->stuck && k->o->stuck(k->o->keep, k->worker, k->hang_ns, why, sizeof why)) {
		kill_worker(k, why);
	}
}

static void tell_ready(struct keeper *k)
{
	char text[128];

	if (k->told_ready || !atomic_load(&k->s->ready))
		return;
	k->told_ready = true;
	snprintf(text, sizeof text, "READY=1\nMAINPID=%d\nSTATUS=the drive is mounted", (int)getpid());
	systemd_tell(text);
}

static void refuse_upgrade(struct keeper *k, const char *sentence)
{
	text_copy(k->s->refusal, sizeof k->s->refusal, sentence);
	atomic_store(&k->s->upgrade, UPGRADE_REFUSED);
	say(k, true, "upgrade refused: %s", sentence);
}

/* The worker is killed as if it had died: its successor is another program, that is all. */
static void begin_upgrade(struct keeper *k)
{
	struct fault f = FAULT_INIT;

	if (upgrade_check(k->s->program, &f) < 0) {
		refuse_upgrade(k, f.text);
		return;
	}
	atomic_store(&k->s->upgrade, UPGRADE_UNDER_WAY);
	kill_worker(k, "for an upgrade");
}

static void settle_upgrade(struct keeper *k)
{
	if (atomic_load(&k->s->upgrade) == UPGRADE_UNDER_WAY && !k->killed_ns && atomic_load(&k->s->ready_worker) == (int32_t)k->worker) {
		atomic_store(&k->s->upgrade, UPGRADE_DONE);
		say(k, false, "%s has taken over", k->s->program);
	}
}

static void on_signal(struct keeper *k, int signal)
{
	if (signal == SIGCHLD) {
		reap(k);
	} else if (signal == SIGUSR1) {
		tell_ready(k);
		settle_upgrade(k);
		if (atomic_load(&k->s->upgrade) == UPGRADE_ASKED && !k->stopping)
			begin_upgrade(k);
	} else {
		if (!k->stopping)
			systemd_tell("STOPPING=1");
		k->stopping = true;
		kill(k->worker, SIGTERM);
	}
}

/* Until the worker has ended. */
static void watch(struct keeper *k)
{
	const struct timespec pause = {.tv_nsec = LOOK_NS};

	while (!k->worker_ended) {
		int signal = sigtimedwait(&k->signals, NULL, &pause);
		if (signal > 0)
			on_signal(k, signal);
		else
			reap(k);
		tell_ready(k);
		if (!k->worker_ended) /* its number may be another's now */
			look_for_hang(k);
	}
	atomic_store(&k->s->worker, 0);
}

/* ---- after a death ---- */

static void describe_end(const struct keeper *k, char *out, size_t size)
{
	if (k->killed_ns)
		snprintf(out, size, "killed by its keeper: %s", k->why_killed);
	else if (WIFSIGNALED(k->status))
		snprintf(out, size, "killed by signal %d%s", WTERMSIG(k->status), WCOREDUMP(k->status) ? ", core dumped" : "");
	else
		snprintf(out, size, "exit status %d", WEXITSTATUS(k->status));
}

/* Another death: too many within a minute? */
static bool dies_too_often(struct keeper *k)
{
	int64_t now = time_monotonic_ns();
	unsigned recent = 0;

	k->deaths[k->n_deaths++ % DEATHS_MAX] = now;
	for (unsigned i = 0; i < DEATHS_MAX && i < k->n_deaths; i++)
		recent += now - k->deaths[i] < MINUTE_NS;
	return k->o->deaths > 0 && recent >= k->o->deaths;
}

static int end_drive(struct keeper *k, struct fault *f, const char *reason)
{
	say(k, true, "the drive ends: %s", reason);
	k->o->give_up(k->o->arg);
	return fault_set(f, EIO, "%s", reason);
}

/* A program that took over and never got ready gives way to the one before. */
static void take_old_again(struct keeper *k)
{
	char text[200];

	if (atomic_load(&k->s->upgrade) != UPGRADE_UNDER_WAY || k->vain < SUCCESSOR_TRIES)
		return;
	snprintf(text, sizeof text, "the new program took over and did not get ready: the old one goes on");
	refuse_upgrade(k, text);
	if (k->helper > 0)
		kill(k->helper, SIGKILL);
	k->o->become(k->o->arg, NULL, true); /* returns only where it cannot */
}

/* Of tests: one death was asked for, and the next worker shall live. */
static void forget_plans(void)
{
	unsetenv("MINTFS_CRASH");
	unsetenv("MINTFS_HANG");
	unsetenv("MINTFS_FAULT");
}

static void go_on_as_new(struct keeper *k)
{
	char text[PATH_MAX + 100];
	int r;

	if (k->helper > 0)
		kill(k->helper, SIGKILL);
	sys_crash_point("keeper.upgrade");
	forget_plans();
	r = k->o->become(k->o->arg, k->s->program, false);
	snprintf(text, sizeof text, "%.300s cannot be run: %s", k->s->program, strerror(-r));
	refuse_upgrade(k, text);
}

static bool said_why_not(const struct keeper *k) { return WIFEXITED(k->status) && WEXITSTATUS(k->status) == KEEPER_REFUSED && !k->killed_ns; }

/* A worker that cannot even begin (a full disk, a store that was moved for a moment) is no bug that dies again and again: the next one gets time, and open files live on meanwhile. */
static void pause_in_vain(struct keeper *k)
{
	int64_t pause = VAIN_PAUSE_NS << (k->vain < 7 ? k->vain - 1 : 6), end = time_monotonic_ns() + (pause < VAIN_PAUSE_MAX_NS ? pause : VAIN_PAUSE_MAX_NS), left;

	while (!k->stopping && (left = end - time_monotonic_ns()) > 0) {
		const struct timespec t = ns_timespec(left);
		int signal = sigtimedwait(&k->signals, NULL, &t);

		if (signal == SIGCHLD)
			reap(k);
		else if (signal > 0 && signal != SIGUSR1)
			k->stopping = true; /* there is no worker to pass it on to */
	}
}

/* 0: another worker may start. */
static int after_death(struct keeper *k, struct fault *f)
{
	const char *why_not = NULL;
	char how[160], text[300];
	bool upgrade = atomic_load(&k->s->upgrade) == UPGRADE_UNDER_WAY && k->killed_ns;

	describe_end(k, how, sizeof how);
	if (!atomic_load(&k->s->ready)) {
		k->o->give_up(k->o->arg);
		return fault_set(f, EIO, "the daemon died before the drive was ready (%s)", how);
	}
	if (!upgrade)
		say(k, true, "worker %d died (%s) after %lld s", (int)k->worker, how, (long long)((time_monotonic_ns() - k->started_ns) / NS_PER_SEC));
	if (k->stopping) {
		snprintf(text, sizeof text, "the worker died while it ended (%s)", how);
		return end_drive(k, f, text);
	}
	k->vain = atomic_load(&k->s->ready_worker) == (int32_t)k->worker ? 0 : k->vain + 1;
	if (k->vain >= VAIN_MAX) {
		snprintf(text, sizeof text, "none of its last %d workers got ready, the last one: %s", VAIN_MAX, how);
		return end_drive(k, f, text);
	}
	if (!upgrade && !said_why_not(k) && dies_too_often(k)) {
		snprintf(text, sizeof text, "its worker died %u times within a minute, the last time: %s", k->o->deaths, how);
		return end_drive(k, f, text);
	}
	if (!k->o->can_go_on(k->o->keep, &why_not)) {
		snprintf(text, sizeof text, "its worker died (%s), and %s", how, why_not);
		return end_drive(k, f, text);
	}
	if (said_why_not(k) && k->vain > 0)
		pause_in_vain(k);
	if (k->stopping) {
		snprintf(text, sizeof text, "it was to end, and its last worker never got ready: %s", how);
		return end_drive(k, f, text);
	}
	sys_crash_point("keeper.death");
	keep_close_others(k->o->keep);
	sys_crash_point("keeper.closed");
	text_copy(k->s->reason, sizeof k->s->reason, how);
	atomic_store(&k->s->restarted_ns, time_now_ns());
	atomic_fetch_add(&k->s->restarts, 1);
	if (upgrade) {
		go_on_as_new(k);
	} else {
		forget_plans();
		take_old_again(k);
	}
	return 0;
}

/* ---- all of it ---- */

static bool ended_well(const struct keeper *k) { return WIFEXITED(k->status) && WEXITSTATUS(k->status) == 0 && !k->killed_ns; }
static bool refused(const struct keeper *k)
{
	return said_why_not(k) && !atomic_load(&k->s->ready);
}

static int run_workers(struct keeper *k, struct fault *f)
{
	for (;;) {
		int r = start_worker(k);
		if (r < 0)
			return end_drive(k, f, "no process can be made");
		watch(k);
		if (ended_well(k))
			return 0;
		if (refused(k))
			return fault_set(f, EIO, "%s", "");
		r = after_death(k, f);
		if (r < 0)
			return r;
	}
}

static void end_helper(struct keeper *k)
{
	if (k->helper <= 0)
		return;
	kill(k->helper, SIGKILL);
	for (int i = 0; i < 200 && waitpid(k->helper, NULL, WNOHANG) == 0; i++)
		usleep(1000);
}

/* In seconds, for tests. */
static int64_t hang_limit(void)
{
	const char *text = getenv("MINTFS_HANG_SECONDS");
	uint64_t seconds = HANG_SECONDS;

	if (text && parse_u64(text, 86400, &seconds) < 0)
		seconds = HANG_SECONDS;
	return (int64_t)seconds * NS_PER_SEC;
}

int keeper_run(const struct keeper_options *o, struct fault *f)
{
	struct keeper k = {.o = o, .s = shared_of(o->keep), .hang_ns = hang_limit()};
	sigset_t old;
	int r;

	sigemptyset(&k.signals);
	sigaddset(&k.signals, SIGCHLD);
	sigaddset(&k.signals, SIGTERM);
	sigaddset(&k.signals, SIGINT);
	sigaddset(&k.signals, SIGHUP);
	sigaddset(&k.signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &k.signals, &old);
	atomic_store(&k.s->keeper, (int32_t)getpid());
	k.told_ready = atomic_load(&k.s->ready) != 0; /* a program after an upgrade */
	start_helper(&k);
	r = run_workers(&k, f);
	end_helper(&k);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return r;
}
