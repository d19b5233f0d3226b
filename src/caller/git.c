/* The state of a git work tree, asked of `git` itself.
 *
 * The daemon has threads and often is root, so between fork and exec the child makes system calls only, takes no lock,
 * and has given up its rights before it looks at anything the user owns. Not vfork: a child that changes its uid must
 * not share our memory.
 *
 * What the repository says is not ours to run: hooks and fsmonitor are off, and no repository that hides in a plain
 * directory is taken. git itself refuses a work tree that belongs to somebody else than the user it runs as
 * (safe.directory).
 *
 * Invariants
 * - The child leads a session of its own. It is not reaped before its group was killed where it may have left others
 *   behind, so that the number of the group is still its own.
 * - Every child is reaped: by us, or, where it does not even die of SIGKILL, by a thread left behind for that. */
#include "proc.h"

#include <mintfs/caller.h>
#include <mintfs/cleanup.h>
#include <mintfs/privileges.h>
#include <mintfs/util.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define GIT_TIME_NS (5 * NS_PER_SEC)
#define DYING_TIME_NS NS_PER_SEC
#define REAP_NAP_NS (1000LL * 1000)

#ifdef SYS_setresuid32
enum { CALL_SETGROUPS = SYS_setgroups32, CALL_SETRESGID = SYS_setresgid32, CALL_SETRESUID = SYS_setresuid32 };
#else
enum { CALL_SETGROUPS = SYS_setgroups, CALL_SETRESGID = SYS_setresgid, CALL_SETRESUID = SYS_setresuid };
#endif

static const char *const git_paths[] = {"/usr/local/bin/git", "/usr/bin/git", "/bin/git"};

#define GIT_COMMAND \
	"git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "safe.bareRepository=explicit"
static const char *const git_head[] = {GIT_COMMAND, "rev-parse", "--verify", "--quiet", "HEAD", NULL};
static const char *const git_status[] = {GIT_COMMAND, "status", "--porcelain", "--untracked-files=no", NULL};

static const char *const git_environment[] = {
	"PATH=/usr/local/bin:/usr/bin:/bin",
	"HOME=/nonexistent",
	"LC_ALL=C",
	"GIT_OPTIONAL_LOCKS=0",
	"GIT_TERMINAL_PROMPT=0",
	"GIT_NO_LAZY_FETCH=1", /* a partial clone is not to fetch by network, where git knows this (2.44) */
	NULL,
};

struct git_job {
	const char *cwd;
	uid_t uid;
	gid_t gid;
	int64_t deadline; /* CLOCK_MONOTONIC; of all commands together */
};

/* --- the child, between fork and exec: system calls only --- */

/* By raw calls: those of libc would tell the other threads, which the child does not have. */
static bool become_user(uid_t uid, gid_t gid)
{
	if (geteuid() != 0) {
		if (uid != geteuid())
			return false;
	} else if (syscall(CALL_SETGROUPS, 0, NULL) < 0 || syscall(CALL_SETRESGID, gid, gid, gid) < 0 ||
		   syscall(CALL_SETRESUID, uid, uid, uid) < 0) {
		return false;
	}
	return privileges_drop_all() == 0;
}

/* A child holds what the daemon had open at the fork, files of drafts that are written too, and as long as it does a commit of theirs finds somebody who can still write. So
 * its first act is to close all that, and only then it takes the lowest priority: a child that has it from birth may wait for the processor for longer than a commit has patience. */
static void let_go(int out)
{
	if (out > 3)
		syscall(SYS_close_range, 3U, (unsigned)out - 1, 0U); /* Linux 5.9; before it close-on-exec does */
	syscall(SYS_close_range, (unsigned)out + 1, ~0U, 0U);
	syscall(SYS_setpriority, PRIO_PROCESS, 0, 19);
	syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
}

/* Standard input and error from nowhere, output to the pipe, nothing else. Both descriptors are moved out of the way
 * first, as the daemon may run without standard descriptors. */
static bool set_descriptors(int out)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	null = fcntl(null, F_DUPFD, 3);
	out = fcntl(out, F_DUPFD, 3);
	if (null < 0 || out < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(null, 2) < 0)
		return false;
	if (syscall(SYS_close_range, 3U, ~0U, 0U) < 0) {
		close(null);
		close(out);
	}
	return true;
}

/* A caught signal would run the daemon's handler in here, and an ignored one would stay ignored in git. All are blocked
 * as yet. */
static void reset_signals(void)
{
	struct sigaction standard = {.sa_handler = SIG_DFL};
	for (int s = 1; s < NSIG; s++)
		sigaction(s, &standard, NULL);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void run_child(const struct git_job *job, const char *const *argv, int out)
{
	union { /* execve takes char *const * and changes nothing */
		const char *const *text;
		char *const *exec;
	} args = {.text = argv}, env = {.text = git_environment};
	let_go(out);
	setsid();
	if (set_descriptors(out) && become_user(job->uid, job->gid) && chdir(job->cwd) == 0) {
		reset_signals();
		for (size_t i = 0; i < ARRAY_SIZE(git_paths); i++)
			execve(git_paths[i], args.exec, env.exec);
	}
	_exit(127);
}

/* --- the parent --- */

/* Returns the child, or -errno; *ret_out: the end of the pipe that it writes to. */
static pid_t start_git(const struct git_job *job, const char *const *argv, int *ret_out)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid_t pid = fork();
	int error = errno;
	if (pid == 0)
		run_child(job, argv, ends[1]);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return -error;
	}
	*ret_out = ends[0];
	return pid;
}

/* Reads until the end of the output (0), until buf is full (-EFBIG) or until the deadline (-ETIMEDOUT); *len is what
 * was read. */
static int read_output(int fd, int64_t deadline, char *buf, size_t size, size_t *len)
{
	for (*len = 0; *len < size;) {
		int64_t left = deadline - time_monotonic_ns();
		struct pollfd ready = {fd, POLLIN, 0};
		int n = left <= 0 ? 0 : poll(&ready, 1, (int)(left / 1000000) + 1);
		if (n == 0)
			return -ETIMEDOUT;
		ssize_t got = n < 0 ? -1 : read(fd, buf + *len, size - *len);
		if (got < 0 && errno != EINTR)
			return -errno;
		if (got == 0)
			return 0;
		if (got > 0)
			*len += (size_t)got;
	}
	return -EFBIG;
}

static void *reap_later(void *arg)
{
	while (waitpid((pid_t)(intptr_t)arg, NULL, 0) < 0 && errno == EINTR)
		;
	return NULL;
}

/* A child in uninterruptible sleep, as on a dead network drive, outlives SIGKILL until its call returns. */
static void leave_to_thread(pid_t pid)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, reap_later, (void *)(intptr_t)pid) == 0)
		pthread_detach(thread);
}

static void kill_group(pid_t leader)
{
	kill(-leader, SIGKILL);
	kill(leader, SIGKILL); /* it may not have made its session yet */
}

/* The exit status of the child, which is killed at the deadline: then -ETIMEDOUT. */
static int reap(pid_t pid, int64_t deadline, int *ret_status)
{
	bool killed = false;
	for (;;) {
		int status;
		pid_t got = waitpid(pid, &status, WNOHANG);
		if (got < 0 && errno != EINTR)
			return -errno;
		if (got == pid && killed)
			return -ETIMEDOUT;
		if (got == pid) {
			*ret_status = status;
			return 0;
		}
		int64_t now = time_monotonic_ns();
		if (killed && now >= deadline + DYING_TIME_NS) {
			leave_to_thread(pid);
			return -ETIMEDOUT;
		}
		if (!killed && now >= deadline) {
			kill_group(pid);
			killed = true;
		}
		struct timespec nap = ns_timespec(REAP_NAP_NS);
		nanosleep(&nap, NULL);
	}
}

/* Runs git and reads its output, at most size bytes: with more, git is stopped, and that is success. -ENOENT: git
 * failed. */
static int run_git(const struct git_job *job, const char *const *argv, char *buf, size_t size, size_t *ret_len)
{
	auto_close int out = -1;
	int status = -1;
	size_t len;
	pid_t pid = start_git(job, argv, &out);
	if (pid < 0)
		return pid;
	int r = read_output(out, job->deadline, buf, size, &len);
	if (r < 0) {
		kill_group(pid);
		(void)reap(pid, time_monotonic_ns(), &status);
		if (r != -EFBIG)
			return r;
	} else {
		r = reap(pid, job->deadline, &status);
		if (r < 0)
			return r;
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			return -ENOENT;
	}
	*ret_len = len;
	return 0;
}

/* "0123…\n": 40 digits, or 64 with SHA-256 */
static bool is_commit(const char *text, size_t len)
{
	if ((len != 41 && len != 65) || text[len - 1] != '\n')
		return false;
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < len - 1; i++)
		if (!memchr(digits, text[i], sizeof digits - 1))
			return false;
	return true;
}

int git_state_within(const char *cwd, uid_t uid, gid_t gid, int64_t limit_ns, char commit[65], bool *ret_dirty)
{
	if (!cwd || cwd[0] != '/')
		return -ENOENT;
	struct git_job job = {cwd, uid, gid, time_monotonic_ns() + limit_ns};
	char head[66], change;
	size_t len, changes;
	int r = run_git(&job, git_head, head, sizeof head, &len);
	if (r < 0)
		return r;
	if (!is_commit(head, len))
		return -ENOENT;
	r = run_git(&job, git_status, &change, 1, &changes); /* the first byte tells */
	if (r < 0)
		return r;
	memcpy(commit, head, len - 1);
	commit[len - 1] = '\0';
	*ret_dirty = changes > 0;
	return 0;
}

int caller_git_state(const char *cwd, uid_t uid, gid_t gid, char commit[65], bool *ret_dirty)
{
	return git_state_within(cwd, uid, gid, GIT_TIME_NS, commit, ret_dirty);
}
