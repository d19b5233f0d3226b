/* Room caller: who is calling, asked about real processes. */
#include "test_caller_child.h"

#include <linux/ptrace.h>
#include <mintfs/util.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* ptrace(2) of libc and <linux/ptrace.h> do not go together */
static long trace(long request, pid_t pid, unsigned long addr, void *data)
{
	return syscall(SYS_ptrace, request, pid, addr, data);
}

static const char *const sleeper[] = {"/bin/sleep", "600", NULL};

static void test_caller_is_the_process_of_its_thread_and_its_ancestors(void **state)
{
	struct child middle;
	int fd, told[2];
	assert_int_equal(pipe(told), 0);
	if (child_fork(&middle, &fd)) {
		struct child leaf = child_exiting(0);
		(void)!write(told[1], &leaf.pid, sizeof leaf.pid);
		wait_for_go(fd);
		child_kill(&leaf);
		_exit(0);
	}
	pid_t leaf;
	assert_int_equal(read(told[0], &leaf, sizeof leaf), sizeof leaf);
	struct caller c;
	caller_identify(leaf, 1001, 1002, &c);
	assert_int_equal(c.self.pid, leaf);
	assert_int_equal(c.uid, 1001);
	assert_int_equal(c.gid, 1002);
	assert_true(c.n_ancestors >= 2);
	assert_true(caller_same(c.ancestors[0], process_of(middle.pid)));
	assert_true(caller_same(c.ancestors[1], process_of(getpid())));
	for (unsigned i = 1; i < c.n_ancestors; i++)
		assert_int_not_equal(c.ancestors[i].pid, 1);
	child_go(&middle);
	child_reap(&middle);
	close(told[0]);
	close(told[1]);
}

/* An orphan belongs to init, or to a nearer reaper: whoever it is comes first. */
static void test_orphan_has_its_new_parent_as_ancestor(void **state)
{
	struct child middle;
	int fd, told[2];
	pid_t pids[2];
	assert_int_equal(pipe(told), 0);
	if (child_fork(&middle, &fd)) {
		pids[0] = getpid();
		if (fork() != 0)
			_exit(0);
		while (getppid() == pids[0])
			nanosleep(&(struct timespec){0, 1000000}, NULL);
		pids[0] = getpid();
		pids[1] = getppid();
		(void)!write(told[1], pids, sizeof pids);
		wait_for_go(fd);
		_exit(0);
	}
	child_reap(&middle);
	assert_int_equal(read(told[0], pids, sizeof pids), sizeof pids);
	struct caller c;
	caller_identify(pids[0], 0, 0, &c);
	assert_int_equal(c.self.pid, pids[0]);
	if (pids[1] == 0) {
		assert_int_equal(c.n_ancestors, 0); /* in another pid namespace */
	} else {
		assert_int_equal(c.ancestors[0].pid, pids[1]);
		if (pids[1] == 1)
			assert_int_equal(c.n_ancestors, 1);
	}
	kill(pids[0], SIGKILL);
	close(told[0]);
	close(told[1]);
}

static void *tell_and_wait(void *arg)
{
	int *pipes = arg;
	pid_t tid = (pid_t)syscall(SYS_gettid);
	(void)!write(pipes[1], &tid, sizeof tid);
	wait_for_go(pipes[2]);
	return NULL;
}

static void test_thread_is_known_as_its_process(void **state)
{
	int pipes[4];
	pthread_t thread;
	pid_t tid;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(pipe(pipes + 2), 0);
	assert_int_equal(pthread_create(&thread, NULL, tell_and_wait, pipes), 0);
	assert_int_equal(read(pipes[0], &tid, sizeof tid), sizeof tid);
	assert_int_not_equal(tid, getpid());
	assert_true(caller_same(process_of(tid), process_of(getpid())));
	struct caller c;
	caller_identify(tid, 0, 0, &c);
	assert_int_equal(c.self.pid, getpid());
	assert_int_equal(c.ancestors[0].pid, getppid());
	close(pipes[3]);
	pthread_join(thread, NULL);
	for (int i = 0; i < 3; i++)
		close(pipes[i]);
}

static bool in_mkdir(pid_t tid, const char *name)
{
	struct caller_cache *cache = caller_cache_new();
	assert_non_null(cache);
	bool is = caller_in_mkdir(cache, tid, name);
	caller_cache_free(cache);
	return is;
}

static void test_caller_that_cannot_be_seen_is_nobody(void **state)
{
	static const pid_t unseen[] = {0, -1, 0x3fffffff};
	for (size_t i = 0; i < ARRAY_SIZE(unseen); i++) {
		struct caller c;
		struct caller_process p = {77, 77};
		memset(&c, 0xff, sizeof c);
		caller_identify(unseen[i], 5, 6, &c);
		assert_int_equal(c.self.pid, 0);
		assert_int_equal(c.n_ancestors, 0);
		assert_string_equal(c.run_id, "");
		assert_int_equal(c.uid, 5);
		assert_int_equal(c.gid, 6);
		assert_int_equal(caller_process_of(unseen[i], &p), -ESRCH);
		assert_int_equal(p.pid, 77);
		assert_false(in_mkdir(unseen[i], "a"));
	}
	assert_false(caller_same((struct caller_process){0, 0}, (struct caller_process){0, 0}));
}

static void test_run_id_is_that_of_the_environment_at_exec(void **state)
{
	static const char *const env[] = {"PATH=/bin", "RANK=1", "MASTER_ADDR=node1", "MASTER_PORT=29500", NULL};
	static const char *const bare[] = {NULL};
	struct child with = child_exec(sleeper, env), without = child_exec(sleeper, bare);
	struct caller c;
	caller_identify(with.pid, 0, 0, &c);
	assert_string_equal(c.run_id, "node1:29500");
	caller_identify(without.pid, 0, 0, &c);
	assert_string_equal(c.run_id, "");
	assert_int_equal(c.self.pid, without.pid);
	child_kill(&with);
	child_kill(&without);
}

/* A child whose environment has MINTFS_RUN behind this many bytes. */
static struct child child_with_large_environment(size_t bytes)
{
	enum { EACH = 64 * 1024 };
	const char *env[16] = {NULL};
	char *filler = malloc(EACH + 1);
	assert_non_null(filler);
	memset(filler, 'x', EACH);
	memcpy(filler, "FILLER=", 7);
	filler[EACH - 1] = '\0'; /* EACH bytes with its NUL */
	size_t n = 0;
	for (; bytes >= EACH; bytes -= EACH)
		env[n++] = filler;
	char *rest = strdup(filler);
	assert_non_null(rest);
	if (bytes) {
		rest[bytes - 1] = '\0';
		env[n++] = rest;
	}
	env[n] = "MINTFS_RUN=far away";
	struct child c = child_exec(sleeper, env);
	free(filler);
	free(rest);
	return c;
}

static void test_run_id_is_found_up_to_256_kib_of_environment(void **state)
{
	static const struct {
		size_t before;
		bool found;
	} rows[] = {{16 * 1024 - 30, true}, {16 * 1024 - 20, true}, {16 * 1024, true}, {200 * 1024, true}, {256 * 1024 - 20, true},
		{256 * 1024 - 19, false}, {300 * 1024, false}};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct child child = child_with_large_environment(rows[i].before);
		struct caller c;
		caller_identify(child.pid, 0, 0, &c);
		child_kill(&child);
		if (strcmp(c.run_id, rows[i].found ? "far away" : "") != 0)
			fail_msg("behind %zu bytes: \"%s\"", rows[i].before, c.run_id);
	}
}

static void test_process_lives_until_it_is_a_zombie(void **state)
{
	struct child child = child_exiting(0);
	struct caller_process p = process_of(child.pid);
	assert_true(caller_alive(p));
	assert_false(caller_alive((struct caller_process){p.pid, p.start + 1}));
	assert_false(caller_alive((struct caller_process){0, p.start}));
	child_go(&child);
	child_wait_zombie(&child);
	assert_false(caller_alive(p));
	child_reap(&child);
	assert_false(caller_alive(p));
}

static char state_of(pid_t pid)
{
	char path[64], text[512];
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	return strrchr(text, ')')[2];
}

static void test_a_command_in_words_is_cut_with_dots_and_empty_once_it_has_ended(void **state)
{
	char words[64], few[12];
	struct child child = child_exiting(0);
	struct caller_process p = process_of(child.pid);
	caller_command_words(p, words, sizeof words);
	assert_true(strlen(words) > 0);
	caller_command_words(p, few, sizeof few);
	assert_int_equal(strlen(few), sizeof few - 1);
	assert_string_equal(few + sizeof few - 4, "...");
	assert_memory_equal(few, words, sizeof few - 4);
	assert_false(caller_is_terminal_shell(p));
	child_go(&child);
	child_reap(&child);
	caller_command_words(p, words, sizeof words);
	assert_string_equal(words, "");
	assert_false(caller_is_terminal_shell(p));
}

static void *wait_then_exit(void *arg)
{
	wait_for_go(*(int *)arg);
	_exit(0);
}

static void test_process_lives_on_when_only_its_first_thread_has_ended(void **state)
{
	struct child child;
	int fd;
	if (child_fork(&child, &fd)) {
		pthread_t thread;
		pthread_create(&thread, NULL, wait_then_exit, &fd);
		syscall(SYS_exit, 0); /* this thread only */
	}
	struct caller_process p = process_of(child.pid);
	WAIT_FOR(state_of(child.pid) == 'Z');
	assert_true(caller_alive(p));
	struct caller c;
	caller_identify(child.pid, 0, 0, &c);
	assert_true(caller_same(c.self, p));
	child_go(&child);
	child_wait_zombie(&child);
	assert_false(caller_alive(p));
	child_reap(&child);
}

/* Calls that a child makes one after the other, stopped at each by its tracer. */
static void make_calls(void)
{
#ifdef SYS_mkdir
	syscall(SYS_mkdir, "/nonexistent/a", 0777);
#endif
	syscall(SYS_symlinkat, "x", AT_FDCWD, "/nonexistent/a");
	syscall(SYS_mkdirat, AT_FDCWD, "/nonexistent/a//", 0777);
	syscall(SYS_openat, AT_FDCWD, "/nonexistent/a", O_RDONLY | O_CLOEXEC);
}

static void test_mkdir_is_seen_in_a_thread_that_waits_in_it(void **state)
{
	struct child child;
	int fd, status, mkdirs = 0, others = 0;
	if (child_fork(&child, &fd)) {
		if (trace(PTRACE_TRACEME, 0, 0, NULL) < 0)
			_exit(1);
		raise(SIGSTOP);
		make_calls();
		_exit(0);
	}
	assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
	if (!WIFSTOPPED(status)) {
		close(child.go);
		skip(); /* tracing is not allowed here */
	}
	assert_int_equal(trace(PTRACE_SETOPTIONS, child.pid, 0, (void *)PTRACE_O_TRACESYSGOOD), 0);
	for (;;) {
		assert_int_equal(trace(PTRACE_SYSCALL, child.pid, 0, NULL), 0);
		assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
		if (WIFEXITED(status))
			break;
		struct ptrace_syscall_info info = {0};
		trace(PTRACE_GET_SYSCALL_INFO, child.pid, sizeof info, &info);
		if (info.op != PTRACE_SYSCALL_INFO_ENTRY)
			continue;
		bool is_mkdir = info.entry.nr == SYS_mkdirat;
#ifdef SYS_mkdir
		is_mkdir = is_mkdir || info.entry.nr == SYS_mkdir;
#endif
		assert_int_equal(in_mkdir(child.pid, "a"), is_mkdir);
		assert_false(in_mkdir(child.pid, "nonexistent")); /* on the way to what is made */
		assert_false(in_mkdir(child.pid, "t/a"));
		mkdirs += is_mkdir;
		others += info.entry.nr == SYS_symlinkat || info.entry.nr == SYS_openat;
	}
	close(child.go);
#ifdef SYS_mkdir
	assert_int_equal(mkdirs, 2);
#else
	assert_int_equal(mkdirs, 1);
#endif
	assert_true(others >= 2);
}

static void test_mkdir_is_not_seen_in_a_process_that_waits_in_read_or_is_a_zombie(void **state)
{
	struct child child = child_exiting(0);
	WAIT_FOR(state_of(child.pid) == 'S');
	assert_false(in_mkdir(child.pid, "a"));
	child_go(&child);
	child_wait_zombie(&child);
	assert_false(in_mkdir(child.pid, "a"));
	child_reap(&child);
	assert_false(in_mkdir(child.pid, "a"));
}

static void test_mkdir_is_not_waited_for_in_a_process_that_runs_on(void **state)
{
	struct child child;
	int fd;
	if (child_fork(&child, &fd))
		for (volatile unsigned i = 0;; i++)
			;
	WAIT_FOR(state_of(child.pid) == 'R');
	int64_t begin = clock_ms();
	assert_false(in_mkdir(child.pid, "a"));
	assert_true(clock_ms() - begin < 1000); /* 2 ms, and what a busy machine adds */
	child_kill(&child);
}

static void identify_both(struct caller_cache *cache, pid_t pid, struct caller *remembered, struct caller *fresh)
{
	caller_cache_identify(cache, pid, getuid(), getgid(), remembered);
	caller_identify(pid, getuid(), getgid(), fresh);
}

static void test_a_remembered_caller_is_the_same_and_another_program_is_seen_at_once(void **state)
{
	static const char *const first[] = {"MINTFS_RUN=first", NULL};
	struct caller_cache *cache = caller_cache_new();
	struct caller a, b;
	assert_non_null(cache);
	struct child child;
	int fd;
	if (child_fork(&child, &fd)) {
		wait_for_go(fd);
		dup2(fd, 0); /* what the shell then waits for */
		execle("/bin/sh", "sh", "-c", "read x", (char *)NULL, first);
		_exit(1);
	}
	for (int i = 0; i < 2; i++) {
		identify_both(cache, child.pid, &a, &b);
		assert_string_equal(a.run_id, b.run_id);
		assert_true(caller_same(a.self, b.self));
		assert_int_equal(a.n_ancestors, b.n_ancestors);
	}
	assert_int_equal(write(child.go, "x", 1), 1);
	WAIT_FOR((caller_identify(child.pid, getuid(), getgid(), &b), strcmp(b.run_id, "first") == 0));
	caller_cache_identify(cache, child.pid, getuid(), getgid(), &a);
	assert_string_equal(a.run_id, "first");
	child_kill(&child);
	caller_cache_free(cache);
}

static void test_details_are_those_of_the_process(void **state)
{
	static const char *const env[] = {NULL};
	char here[4096];
	assert_non_null(getcwd(here, sizeof here));
	int64_t before = time_now_ns();
	static const char *const shell[] = {"/bin/sh", "-c", "kill -STOP $$", "", "a \"b\"\n", "\xff", NULL};
	struct child child = child_exec(shell, env);
	WAIT_FOR(state_of(child.pid) == 'T');
	struct caller_details d;
	struct caller_process p = process_of(child.pid);
	caller_details_read(p, &d);
	assert_string_equal(d.command, "[\"/bin/sh\",\"-c\",\"kill -STOP $$\",\"\",\"a \\\"b\\\"\\n\",\"\xef\xbf\xbd\"]");
	assert_string_equal(d.cwd, here);
	assert_string_equal(d.program, "sh");
	assert_true(d.started_ns > before - NS_PER_SEC && d.started_ns < time_now_ns() + NS_PER_SEC);
	caller_details_release(&d);
	assert_null(d.command);

	caller_details_read((struct caller_process){p.pid, p.start + 1}, &d);
	assert_null(d.command);
	assert_null(d.cwd);
	assert_null(d.program);
	assert_int_equal(d.started_ns, 0);
	child_kill(&child);
	caller_details_read(p, &d);
	assert_null(d.program);
	caller_details_release(&d);
}

static void test_details_of_a_long_command_are_cut_and_still_json(void **state)
{
	static const char *const env[] = {NULL};
	char *script = malloc(100001);
	assert_non_null(script);
	memset(script, '\x01', 100000);
	script[100000] = '\0';
	const char *argv[] = {"/bin/sh", "-c", "kill -STOP $$", script, NULL};
	struct child child = child_exec(argv, env);
	free(script);
	WAIT_FOR(state_of(child.pid) == 'T');
	struct caller_details d;
	caller_details_read(process_of(child.pid), &d);
	assert_non_null(d.command);
	/* 64 KiB less the 25 bytes of the first three arguments; each byte of the rest is written as \u0001 */
	const char start[] = "[\"/bin/sh\",\"-c\",\"kill -STOP $$\",\"", end[] = "\\u0001\"]";
	assert_int_equal(strncmp(d.command, start, strlen(start)), 0);
	size_t len = strlen(d.command);
	assert_string_equal(d.command + len - strlen(end), end);
	assert_int_equal(len, strlen(start) + (64 * 1024 - 25) * 6 + 2);
	caller_details_release(&d);
	child_kill(&child);
}

static void test_user_is_named_or_numbered(void **state)
{
	char name[64], small[4];
	caller_user_name(0, name, sizeof name);
	assert_string_equal(name, "root");
	caller_user_name(3999999999U, name, sizeof name);
	assert_string_equal(name, "3999999999");
	caller_user_name(3999999999U, small, sizeof small);
	assert_string_equal(small, "399");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_caller_is_the_process_of_its_thread_and_its_ancestors),
		cmocka_unit_test(test_orphan_has_its_new_parent_as_ancestor),
		cmocka_unit_test(test_thread_is_known_as_its_process),
		cmocka_unit_test(test_caller_that_cannot_be_seen_is_nobody),
		cmocka_unit_test(test_run_id_is_that_of_the_environment_at_exec),
		cmocka_unit_test(test_run_id_is_found_up_to_256_kib_of_environment),
		cmocka_unit_test(test_process_lives_until_it_is_a_zombie),
		cmocka_unit_test(test_a_command_in_words_is_cut_with_dots_and_empty_once_it_has_ended),
		cmocka_unit_test(test_process_lives_on_when_only_its_first_thread_has_ended),
		cmocka_unit_test(test_mkdir_is_seen_in_a_thread_that_waits_in_it),
		cmocka_unit_test(test_mkdir_is_not_seen_in_a_process_that_waits_in_read_or_is_a_zombie),
		cmocka_unit_test(test_mkdir_is_not_waited_for_in_a_process_that_runs_on),
		cmocka_unit_test(test_a_remembered_caller_is_the_same_and_another_program_is_seen_at_once),
		cmocka_unit_test(test_details_are_those_of_the_process),
		cmocka_unit_test(test_details_of_a_long_command_are_cut_and_still_json),
		cmocka_unit_test(test_user_is_named_or_numbered),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
