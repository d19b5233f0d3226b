/* One thread waits for all: output by pipes, ends by pidfds, signals by a signalfd, limits by the timeout of poll. */
#include "task.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_KEPT ((size_t)64 << 10)
#define MERCY_NS (5 * NS_PER_SEC) /* between SIGTERM and SIGKILL */

struct runner {
	struct task *running;
	unsigned n;
	sigset_t old;
	int signals;
	bool ending; /* a signal came */
};

struct task *task_new(void)
{
	struct task *t = calloc(1, sizeof *t);
	if (t) {
		t->pidfd = t->out_fd = -1;
		t->output = (struct buf)BUF_INIT(4 * OUTPUT_KEPT);
	}
	return t;
}

void task_free(struct task *t)
{
	if (!t)
		return;
	for (char **a = t->argv; a && *a; a++)
		free(*a);
	free(t->argv);
	free(t->dir);
	buf_release(&t->output);
	free(t);
}

void task_words(const struct task *t, char *out, size_t size)
{
	if (t->start_error)
		snprintf(out, size, "'%s' cannot be started: %s", t->argv[0], strerror(t->start_error));
	else if (t->timed_out)
		snprintf(out, size, "it did not end within %u s", t->timeout_s);
	else if (WIFSIGNALED(t->status))
		snprintf(out, size, "it was ended by signal %d (%s)", WTERMSIG(t->status), strsignal(WTERMSIG(t->status)));
	else
		snprintf(out, size, "it ended with exit status %d", WEXITSTATUS(t->status));
}

/* ---- starting ---- */

/* In the child, between fork and exec: system calls only. */
static void child(const struct task *t, const sigset_t *mask, pid_t parent, int out, int report)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM); /* a program that was killed leaves nothing running */
	if (getppid() == parent && null >= 0 && chdir(t->dir) == 0 && dup2(null, 0) == 0 && dup2(out, 1) == 1 && dup2(out, 2) == 2) {
		signal(SIGPIPE, SIG_DFL);
		sigprocmask(SIG_SETMASK, mask, NULL);
		execvp(t->argv[0], t->argv);
	}
	int error = errno ? errno : ECHILD;
	ssize_t n = write(report, &error, sizeof error);
	(void)n;
	_exit(127);
}

static int start(struct runner *r, struct task *t)
{
	int out[2], report[2];
	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(report, O_CLOEXEC) < 0) {
		int error = -errno;
		close(out[0]);
		close(out[1]);
		return error;
	}
	pid_t parent = getpid();
	t->pid = fork();
	if (t->pid == 0)
		child(t, &r->old, parent, out[1], report[1]);
	int error = t->pid < 0 ? -errno : 0;
	close(out[1]);
	close(report[1]);
	if (error == 0) {
		ssize_t n = read(report[0], &t->start_error, sizeof t->start_error); /* nothing: exec succeeded */
		t->start_error = n == (ssize_t)sizeof t->start_error ? t->start_error : 0;
		t->pidfd = (int)syscall(SYS_pidfd_open, t->pid, 0);
		t->out_fd = out[0];
		fcntl(t->out_fd, F_SETFL, O_NONBLOCK);
		t->deadline_ns = time_monotonic_ns() + t->timeout_s * NS_PER_SEC;
	} else {
		close(out[0]);
	}
	close(report[0]);
	return error;
}

/* ---- waiting ---- */

static void read_output(struct task *t)
{
	char piece[16 << 10];
	ssize_t n;
	while (t->out_fd >= 0 && (n = read(t->out_fd, piece, sizeof piece)) != 0) {
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				break;
			return;
		}
		buf_add(&t->output, piece, (size_t)n);
		if (t->output.len > 2 * OUTPUT_KEPT) {
			memmove(t->output.data, t->output.data + t->output.len - OUTPUT_KEPT, OUTPUT_KEPT);
			buf_truncate(&t->output, OUTPUT_KEPT);
		}
	}
	if (t->out_fd >= 0)
		close(t->out_fd);
	t->out_fd = -1;
}

static void finish_output(struct task *t)
{
	read_output(t);
	if (t->out_fd >= 0)
		close(t->out_fd); /* held by somebody whom it left behind */
	t->out_fd = -1;
	if (t->output.len > OUTPUT_KEPT) {
		memmove(t->output.data, t->output.data + t->output.len - OUTPUT_KEPT, OUTPUT_KEPT);
		buf_truncate(&t->output, OUTPUT_KEPT);
	}
}

/* The whole group goes with its leader: what a command left running would go on to write results that nobody waits for. */
static bool has_ended(struct task *t)
{
	pid_t pid = waitpid(t->pid, &t->status, WNOHANG);
	if (pid == 0 || (pid < 0 && errno == EINTR))
		return false;
	kill(-t->pid, SIGKILL);
	finish_output(t);
	close(t->pidfd);
	t->pidfd = -1;
	return true;
}

static void ask_to_end(struct task *t, int64_t now)
{
	kill(-t->pid, SIGTERM);
	t->deadline_ns = now + MERCY_NS;
}

static void check_limit(struct task *t, int64_t now, bool ending)
{
	if (now < t->deadline_ns)
		return;
	if (!t->timed_out && !ending) {
		t->timed_out = true;
		ask_to_end(t, now);
	} else {
		kill(-t->pid, SIGKILL);
		t->deadline_ns = INT64_MAX;
	}
}

static int collect(struct runner *r, const struct task_source *s)
{
	int64_t now = time_monotonic_ns();
	for (struct task **at = &r->running; *at;) {
		struct task *t = *at;
		read_output(t);
		check_limit(t, now, r->ending);
		if (!has_ended(t)) {
			at = &t->next;
			continue;
		}
		*at = t->next;
		r->n--;
		int rc = s->ended(t, s->arg);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void take_signals(struct runner *r)
{
	struct signalfd_siginfo info;
	if (read(r->signals, &info, sizeof info) != (ssize_t)sizeof info || r->ending)
		return;
	r->ending = true;
	int64_t now = time_monotonic_ns();
	for (struct task *t = r->running; t; t = t->next)
		ask_to_end(t, now);
}

static int wait_for_more(struct runner *r)
{
	size_t n = 1 + 2 * (size_t)r->n, k = 0;
	auto_free struct pollfd *p = calloc(n, sizeof *p);
	if (!p)
		return -ENOMEM;
	int64_t next = INT64_MAX, now = time_monotonic_ns();
	p[k++] = (struct pollfd){.fd = r->signals, .events = POLLIN};
	for (struct task *t = r->running; t; t = t->next) {
		p[k++] = (struct pollfd){.fd = t->pidfd, .events = POLLIN};
		p[k++] = (struct pollfd){.fd = t->out_fd, .events = POLLIN};
		next = t->deadline_ns < next ? t->deadline_ns : next;
	}
	int64_t ms = next == INT64_MAX ? 1000 : (next - now) / (NS_PER_SEC / 1000) + 1;
	if (poll(p, (nfds_t)k, ms < 0 ? 0 : ms > 1000 ? 1000 : (int)ms) < 0 && errno != EINTR)
		return -errno;
	if (p[0].revents & POLLIN)
		take_signals(r);
	return 0;
}

static int start_more(struct runner *r, const struct task_source *s, unsigned jobs)
{
	while (!r->ending && r->n < jobs) {
		struct task *t = s->next(s->arg);
		if (!t)
			return 0;
		int rc = start(r, t);
		if (rc < 0) {
			t->start_error = -rc;
			rc = s->ended(t, s->arg);
			if (rc < 0)
				return rc;
			continue;
		}
		t->next = r->running;
		r->running = t;
		r->n++;
	}
	return 0;
}

/* After a failure of ours nothing may stay behind. */
static void end_all(struct runner *r)
{
	while (r->running) {
		struct task *t = r->running;
		r->running = t->next;
		kill(-t->pid, SIGKILL);
		while (waitpid(t->pid, &t->status, 0) < 0 && errno == EINTR)
			;
		finish_output(t);
		close(t->pidfd);
		task_free(t);
	}
}

int tasks_run(const struct task_source *s, unsigned jobs)
{
	struct runner r = {.signals = -1};
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, &r.old);
	r.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	int rc = r.signals < 0 ? -errno : start_more(&r, s, jobs);
	while (rc == 0 && r.running) {
		rc = wait_for_more(&r);
		if (rc == 0)
			rc = collect(&r, s);
		if (rc == 0)
			rc = start_more(&r, s, jobs);
	}
	end_all(&r);
	if (r.signals >= 0)
		close(r.signals);
	sigprocmask(SIG_SETMASK, &r.old, NULL);
	return rc == 0 && r.ending ? -EINTR : rc;
}
