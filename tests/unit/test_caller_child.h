/* Real child processes for the tests of room caller. */
#ifndef MINTFS_TEST_CALLER_CHILD_H
#define MINTFS_TEST_CALLER_CHILD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <mintfs/caller.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A child that goes on only when it is told. */
struct child {
	pid_t pid;
	int go; /* one byte lets the child go on; later children hold this end too, so that closing it does not */
};

/* Waits in the child until the parent says go. */
static inline void wait_for_go(int fd)
{
	char byte;
	while (read(fd, &byte, 1) < 0 && errno == EINTR)
		;
}

/* Forks. Returns 1 in the child, with *ret_fd to be given to wait_for_go, and 0 in the parent. */
static inline int child_fork(struct child *c, int *ret_fd)
{
	int ends[2];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	c->go = -1;
	c->pid = fork();
	assert_true(c->pid >= 0);
	if (c->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ends[1]);
		*ret_fd = ends[0];
		return 1;
	}
	close(ends[0]);
	c->go = ends[1];
	return 0;
}

/* A child that ends with this code once it is told. */
static inline struct child child_exiting(int code)
{
	struct child c;
	int fd;
	if (child_fork(&c, &fd)) {
		wait_for_go(fd);
		_exit(code);
	}
	return c;
}

/* A child that has executed a program with this environment; back once it has. */
static inline struct child child_exec(const char *const *argv, const char *const *envp)
{
	union {
		const char *const *text;
		char *const *exec;
	} args = {.text = argv}, env = {.text = envp};
	struct child c;
	int fd, done[2];
	char byte;
	assert_int_equal(pipe2(done, O_CLOEXEC), 0);
	if (child_fork(&c, &fd)) {
		execve(argv[0], args.exec, env.exec);
		_exit(127);
	}
	close(done[1]);
	assert_int_equal(read(done[0], &byte, 1), 0); /* closed by exec */
	close(done[0]);
	return c;
}

static inline void child_go(struct child *c)
{
	(void)!write(c->go, "g", 1);
	close(c->go);
	c->go = -1;
}

static inline int child_reap(struct child *c)
{
	int status = -1;
	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	if (c->go >= 0)
		close(c->go);
	c->go = -1;
	return status;
}

static inline void child_kill(struct child *c)
{
	kill(c->pid, SIGKILL);
	child_reap(c);
}

static inline struct caller_process process_of(pid_t pid)
{
	struct caller_process p;
	assert_int_equal(caller_process_of(pid, &p), 0);
	return p;
}

/* Waits until the child is a zombie, without reaping it. */
static inline void child_wait_zombie(const struct child *c)
{
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOWAIT), 0);
}

static inline int64_t clock_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits for a condition that another process brings about; the cap is only there to end a broken test. */
#define WAIT_FOR(condition)                                                     \
	do {                                                                    \
		int64_t until_ = clock_ms() + 100000;                           \
		while (!(condition)) {                                          \
			if (clock_ms() > until_)                                \
				fail_msg("waited in vain for %s", #condition);  \
			nanosleep(&(struct timespec){0, 1000000}, NULL);        \
		}                                                               \
	} while (0)

#endif
