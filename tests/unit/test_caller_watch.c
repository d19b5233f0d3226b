/* Room caller: the end of processes. */
#include "test_caller_child.h"

#include <mintfs/util.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "../../src/caller/proc.h"

enum { MAX_ENDS = 256 };

/* What fn was told, in order. */
struct ends {
	pthread_mutex_t lock;
	unsigned n;
	struct caller_process process[MAX_ENDS];
	int status[MAX_ENDS];
	int64_t when_ms[MAX_ENDS];
	struct caller_watch *watch;      /* not NULL: add `next` when told the first time */
	struct caller_process next;
	int next_result, again_result;
};
#define ENDS_INIT {.lock = PTHREAD_MUTEX_INITIALIZER, .next_result = 1, .again_result = 1}

static void on_end(struct caller_process p, int status, void *arg)
{
	struct ends *e = arg;
	pthread_mutex_lock(&e->lock);
	if (e->watch && e->n == 0) {
		e->next_result = caller_watch_add(e->watch, e->next, CALLER_NO_SHARE);
		e->again_result = caller_watch_add(e->watch, p, CALLER_NO_SHARE);
	}
	if (e->n < MAX_ENDS) {
		e->process[e->n] = p;
		e->status[e->n] = status;
		e->when_ms[e->n] = clock_ms();
	}
	e->n++;
	pthread_mutex_unlock(&e->lock);
}

static unsigned ends_count(struct ends *e)
{
	pthread_mutex_lock(&e->lock);
	unsigned n = e->n;
	pthread_mutex_unlock(&e->lock);
	return n;
}

static struct caller_watch *new_watch(struct ends *e)
{
	struct caller_watch *w = NULL;
	assert_int_equal(caller_watch_new(on_end, e, NULL, &w), 0);
	return w;
}

/* Does the kernel keep the exit status in the pidfd (Linux 6.15)? */
static bool kernel_keeps_status(void)
{
	struct utsname u;
	int major = 0, minor = 0;
	return uname(&u) == 0 && sscanf(u.release, "%d.%d", &major, &minor) == 2 && (major > 6 || (major == 6 && minor >= 15));
}

static void test_end_is_told_with_the_exit_status(void **state)
{
	static const struct {
		int code;
		int signal;
	} rows[] = {{0, 0}, {3, 0}, {255, 0}, {0, SIGKILL}, {0, SIGTERM}};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct ends ends = ENDS_INIT;
		struct caller_watch *w = new_watch(&ends);
		struct child child = child_exiting(rows[i].code);
		struct caller_process p = process_of(child.pid);
		assert_int_equal(caller_watch_add(w, p, CALLER_NO_SHARE), 0);
		assert_int_equal(caller_watch_count(w), 1);
		if (rows[i].signal)
			kill(child.pid, rows[i].signal);
		else
			child_go(&child);
		int status = child_reap(&child); /* at once: races with the watch, as a shell would */
		WAIT_FOR(ends_count(&ends) == 1);
		assert_true(caller_same(ends.process[0], p));
		if (kernel_keeps_status() || ends.status[0] != -1)
			assert_int_equal(ends.status[0], status);
		assert_int_equal(caller_watch_count(w), 0);
		caller_watch_free(w);
		assert_int_equal(ends.n, 1);
	}
}

static void test_end_of_a_zombie_that_nobody_reaps_is_told_with_its_status(void **state)
{
	struct ends ends = ENDS_INIT;
	struct caller_watch *w = new_watch(&ends);
	struct child child = child_exiting(3);
	assert_int_equal(caller_watch_add(w, process_of(child.pid), CALLER_NO_SHARE), 0);
	child_go(&child);
	WAIT_FOR(ends_count(&ends) == 1);
	assert_true(WIFEXITED(ends.status[0]));
	assert_int_equal(WEXITSTATUS(ends.status[0]), 3);
	child_reap(&child);
	caller_watch_free(w);
}

static void test_status_of_a_zombie_is_not_read_from_another_process(void **state)
{
	struct child child = child_exiting(3);
	struct caller_process p = process_of(child.pid);
	int status = -7;
	assert_int_equal(proc_zombie_status(p.pid, p.start, &status), -ESRCH); /* it lives */
	child_go(&child);
	child_wait_zombie(&child);
	assert_int_equal(proc_zombie_status(p.pid, p.start + 1, &status), -ESRCH);
	assert_int_equal(status, -7);
	assert_int_equal(proc_zombie_status(p.pid, p.start, &status), 0);
	assert_int_equal(status, child_reap(&child));
	assert_int_equal(proc_zombie_status(p.pid, p.start, &status), -ESRCH);
}

static void *wait_then_exit_7(void *arg)
{
	wait_for_go(*(int *)arg);
	_exit(7);
}

static void test_end_comes_with_the_last_thread_and_the_status_of_the_group(void **state)
{
	struct ends ends = ENDS_INIT;
	struct child child, other = child_exiting(0);
	int fd;
	if (child_fork(&child, &fd)) {
		pthread_t thread;
		pthread_create(&thread, NULL, wait_then_exit_7, &fd);
		pthread_exit(NULL);
	}
	struct caller_watch *w = new_watch(&ends); /* after the fork: only a child of one thread may make threads */
	assert_int_equal(caller_watch_add(w, process_of(child.pid), CALLER_NO_SHARE), 0);
	assert_int_equal(caller_watch_add(w, process_of(other.pid), CALLER_NO_SHARE), 0);
	child_go(&other);
	WAIT_FOR(ends_count(&ends) == 1);
	assert_int_equal(ends.process[0].pid, other.pid);
	child_go(&child);
	int status = child_reap(&child);
	assert_int_equal(WEXITSTATUS(status), 7);
	WAIT_FOR(ends_count(&ends) == 2);
	if (kernel_keeps_status())
		assert_int_equal(ends.status[1], status);
	child_reap(&other);
	caller_watch_free(w);
}

static void test_process_that_is_no_child_is_watched_too(void **state)
{
	struct ends ends = ENDS_INIT;
	struct child middle;
	int fd, told[2];
	assert_int_equal(pipe(told), 0);
	if (child_fork(&middle, &fd)) {
		struct child leaf = child_exiting(5);
		(void)!write(told[1], &leaf.pid, sizeof leaf.pid);
		wait_for_go(fd);
		child_go(&leaf);
		child_reap(&leaf);
		pause();
	}
	pid_t leaf;
	assert_int_equal(read(told[0], &leaf, sizeof leaf), sizeof leaf);
	struct caller_watch *w = new_watch(&ends);
	assert_int_equal(caller_watch_add(w, process_of(leaf), CALLER_NO_SHARE), 0);
	child_go(&middle);
	WAIT_FOR(ends_count(&ends) == 1);
	if (kernel_keeps_status())
		assert_int_equal(WEXITSTATUS(ends.status[0]), 5);
	child_kill(&middle);
	caller_watch_free(w);
	close(told[0]);
	close(told[1]);
}

static void test_process_watched_twice_ends_once(void **state)
{
	struct ends ends = ENDS_INIT;
	struct caller_watch *w = new_watch(&ends);
	struct child child = child_exiting(0);
	struct caller_process p = process_of(child.pid);
	for (int i = 0; i < 5; i++)
		assert_int_equal(caller_watch_add(w, p, CALLER_NO_SHARE), 0);
	assert_int_equal(caller_watch_count(w), 1);
	child_go(&child);
	child_reap(&child);
	WAIT_FOR(ends_count(&ends) > 0);
	caller_watch_free(w);
	assert_int_equal(ends.n, 1);
}

static void test_process_that_has_ended_cannot_be_watched(void **state)
{
	struct ends ends = ENDS_INIT;
	struct caller_watch *w = new_watch(&ends);
	struct child child = child_exiting(0);
	struct caller_process p = process_of(child.pid);
	assert_int_equal(caller_watch_add(w, (struct caller_process){p.pid, p.start + 1}, CALLER_NO_SHARE), -ESRCH);
	assert_int_equal(caller_watch_add(w, (struct caller_process){0, 0}, CALLER_NO_SHARE), -ESRCH);
	assert_int_equal(caller_watch_add(w, (struct caller_process){-1, 0}, CALLER_NO_SHARE), -ESRCH);
	child_go(&child);
	child_wait_zombie(&child);
	assert_int_equal(caller_watch_add(w, p, CALLER_NO_SHARE), -ESRCH);
	child_reap(&child);
	assert_int_equal(caller_watch_add(w, p, CALLER_NO_SHARE), -ESRCH);
	assert_int_equal(caller_watch_count(w), 0);
	caller_watch_free(w);
	assert_int_equal(ends.n, 0);
}

static void test_watch_may_be_added_to_while_an_end_is_told(void **state)
{
	struct ends ends = ENDS_INIT;
	struct caller_watch *w = new_watch(&ends);
	struct child first = child_exiting(1), second = child_exiting(2);
	ends.next = process_of(second.pid);
	ends.watch = w;
	assert_int_equal(caller_watch_add(w, process_of(first.pid), CALLER_NO_SHARE), 0);
	child_go(&first);
	WAIT_FOR(ends_count(&ends) == 1);
	assert_int_equal(ends.next_result, 0);
	assert_int_equal(ends.again_result, -ESRCH);
	child_go(&second);
	WAIT_FOR(ends_count(&ends) == 2);
	assert_int_equal(ends.process[1].pid, second.pid);
	child_reap(&first);
	child_reap(&second);
	caller_watch_free(w);
}

static void test_hundred_processes_end_at_once_and_each_is_told(void **state)
{
	enum { N = 100 };
	struct ends ends = ENDS_INIT;
	struct caller_watch *w = new_watch(&ends);
	struct child child[N];
	int status[N];
	for (int i = 0; i < N; i++) {
		child[i] = child_exiting(i);
		assert_int_equal(caller_watch_add(w, process_of(child[i].pid), CALLER_NO_SHARE), 0);
	}
	assert_int_equal(caller_watch_count(w), N);
	for (int i = 0; i < N; i++)
		child_go(&child[i]);
	for (int i = 0; i < N; i++)
		status[i] = child_reap(&child[i]);
	WAIT_FOR(ends_count(&ends) == N);
	for (int i = 0; i < N; i++) {
		int at = -1;
		for (int k = 0; k < N; k++)
			at = ends.process[k].pid == child[i].pid ? k : at;
		assert_true(at >= 0);
		if (kernel_keeps_status())
			assert_int_equal(ends.status[at], status[i]);
	}
	caller_watch_free(w);
}

static unsigned count_pidfds(void)
{
	char path[64], target[64];
	unsigned n = 0;
	for (int fd = 0; fd < 1024; fd++) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		ssize_t len = readlink(path, target, sizeof target - 1);
		target[len > 0 ? len : 0] = '\0';
		n += strstr(target, "pidfd") != NULL;
	}
	return n;
}

static void test_processes_of_one_user_take_a_part_of_the_descriptors_and_each_end_is_told(void **state)
{
	enum { N = 40, LIMIT = 128, SHARE = LIMIT / 8, WHO = 4002, OTHER = 4003 };
	struct ends ends = ENDS_INIT;
	struct rlimit old, low;
	struct child child[N], other = child_exiting(4);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = LIMIT;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	struct caller_watch *w = new_watch(&ends);
	for (int i = 0; i < N; i++) {
		child[i] = child_exiting(3);
		assert_int_equal(caller_watch_add(w, process_of(child[i].pid), WHO), 0);
		assert_true(count_pidfds() <= SHARE);
	}
	assert_int_equal(caller_watch_count(w), N);
	assert_int_equal(caller_watch_add(w, process_of(other.pid), OTHER), 0);
	assert_int_equal(count_pidfds(), SHARE + 1);
	child_go(&other);
	child_reap(&other);
	WAIT_FOR(ends_count(&ends) == 1);
	for (int i = 0; i < SHARE; i++) { /* those who were seen make room for others */
		child_go(&child[i]);
		child_reap(&child[i]);
	}
	WAIT_FOR(ends_count(&ends) == 1 + SHARE && count_pidfds() == SHARE);
	for (int i = SHARE; i < N; i++) {
		child_go(&child[i]);
		child_reap(&child[i]);
	}
	WAIT_FOR(ends_count(&ends) == 1 + N);
	unsigned known = 0;
	for (int i = 0; i < 1 + N; i++)
		known += ends.status[i] == 3 << 8;
	if (kernel_keeps_status())
		assert_true(known >= 2 * SHARE);
	assert_int_equal(caller_watch_count(w), 0);
	WAIT_FOR(count_pidfds() == 0); /* the last one is closed behind the telling */
	caller_watch_free(w);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

struct adder {
	struct caller_watch *watch;
	struct caller_process *process;
	int n;
	int threads;
	atomic_int arrived; /* a barrier that spins, as one that sleeps would wake them one by one */
};

static void *add_all(void *arg)
{
	struct adder *a = arg;
	for (int i = 0; i < a->n; i++) {
		atomic_fetch_add(&a->arrived, 1);
		while (atomic_load(&a->arrived) < (i + 1) * a->threads)
			;
		caller_watch_add(a->watch, a->process[i], CALLER_NO_SHARE);
	}
	return NULL;
}

static void test_threads_that_add_the_same_processes_are_told_once(void **state)
{
	enum { N = 100, THREADS = 2 };
	struct ends ends = ENDS_INIT;
	struct caller_watch *w = new_watch(&ends);
	struct child child[N];
	struct caller_process process[N];
	pthread_t thread[THREADS];
	for (int i = 0; i < N; i++) {
		child[i] = child_exiting(0);
		process[i] = process_of(child[i].pid);
	}
	struct adder adder = {.watch = w, .process = process, .n = N, .threads = THREADS};
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, add_all, &adder), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(caller_watch_count(w), N);
	for (int i = 0; i < N; i++)
		child_go(&child[i]);
	WAIT_FOR(ends_count(&ends) == N);
	for (int i = 0; i < N; i++)
		child_reap(&child[i]);
	caller_watch_free(w);
	assert_int_equal(ends.n, N);
}

static void test_nothing_is_told_after_the_watch_is_freed(void **state)
{
	struct ends ends = ENDS_INIT;
	struct caller_watch *w = new_watch(&ends);
	struct child child = child_exiting(0);
	assert_int_equal(caller_watch_add(w, process_of(child.pid), CALLER_NO_SHARE), 0);
	caller_watch_free(w);
	child_go(&child);
	child_reap(&child);
	assert_int_equal(ends.n, 0);
	caller_watch_free(NULL);
}

/* --- a watch without the right to see the status of a zombie --- */

/* Becomes an ordinary user, watches all of these, says so, and waits until all have ended. patience_ns: 0, the usual. */
static void watch_as_stranger(struct ends *ends, const struct child *child, unsigned n, int64_t patience_ns, int ready)
{
	struct caller_watch *w;
	if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
		_exit(2);
	if (caller_watch_new(on_end, ends, NULL, &w) < 0)
		_exit(3);
	if (patience_ns)
		watch_set_patience(w, patience_ns);
	for (unsigned i = 0; i < n; i++) {
		struct caller_process p;
		if (caller_process_of(child[i].pid, &p) < 0 || caller_watch_add(w, p, CALLER_NO_SHARE) < 0)
			_exit(4);
	}
	(void)!write(ready, "r", 1);
	for (unsigned seen = 0; seen < n;) {
		unsigned now = ends_count(ends);
		for (; seen < now; seen++)
			(void)!write(ready, "e", 1);
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	}
	caller_watch_free(w);
}

static void expect_byte(int fd, char expected)
{
	char byte = 0;
	assert_int_equal(read(fd, &byte, 1), 1);
	assert_int_equal(byte, expected);
}

static void test_status_that_may_not_be_seen_is_told_once_the_process_is_reaped(void **state)
{
	if (geteuid() != 0 || !kernel_keeps_status())
		skip();
	struct ends ends = ENDS_INIT;
	struct child child[2] = {child_exiting(6), child_exiting(3)}, stranger;
	int fd, told[2];
	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	if (child_fork(&stranger, &fd)) {
		watch_as_stranger(&ends, child, 2, 100 * NS_PER_SEC, told[1]); /* however long we take to reap */
		bool right = ends.process[0].pid == child[1].pid && ends.status[0] == 3 << 8 && ends.status[1] == 6 << 8;
		_exit(right ? 0 : 1);
	}
	close(told[1]);
	expect_byte(told[0], 'r');
	child_go(&child[0]);
	child_wait_zombie(&child[0]); /* not reaped yet: the second one must not wait for it */
	child_go(&child[1]);
	child_reap(&child[1]);
	expect_byte(told[0], 'e');
	child_reap(&child[0]);
	expect_byte(told[0], 'e');
	assert_int_equal(child_reap(&stranger), 0);
	close(told[0]);
}

static void test_status_that_may_not_be_seen_is_given_up_after_a_second(void **state)
{
	if (geteuid() != 0)
		skip();
	struct ends ends = ENDS_INIT;
	struct child child = child_exiting(0), stranger; /* 0 is also what the kernel shows to those who may not know */
	int fd, told[2];
	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	if (child_fork(&stranger, &fd)) {
		int64_t begin = clock_ms();
		watch_as_stranger(&ends, &child, 1, 0, told[1]);
		_exit(ends.status[0] != -1 ? 1 : ends.when_ms[0] - begin < 900 ? 5 : 0);
	}
	close(told[1]);
	expect_byte(told[0], 'r');
	child_go(&child);
	expect_byte(told[0], 'e');
	child_reap(&child);
	assert_int_equal(child_reap(&stranger), 0);
	close(told[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_end_is_told_with_the_exit_status),
		cmocka_unit_test(test_end_of_a_zombie_that_nobody_reaps_is_told_with_its_status),
		cmocka_unit_test(test_status_of_a_zombie_is_not_read_from_another_process),
		cmocka_unit_test(test_end_comes_with_the_last_thread_and_the_status_of_the_group),
		cmocka_unit_test(test_process_that_is_no_child_is_watched_too),
		cmocka_unit_test(test_process_watched_twice_ends_once),
		cmocka_unit_test(test_process_that_has_ended_cannot_be_watched),
		cmocka_unit_test(test_watch_may_be_added_to_while_an_end_is_told),
		cmocka_unit_test(test_hundred_processes_end_at_once_and_each_is_told),
		cmocka_unit_test(test_processes_of_one_user_take_a_part_of_the_descriptors_and_each_end_is_told),
		cmocka_unit_test(test_threads_that_add_the_same_processes_are_told_once),
		cmocka_unit_test(test_nothing_is_told_after_the_watch_is_freed),
		cmocka_unit_test(test_status_that_may_not_be_seen_is_told_once_the_process_is_reaped),
		cmocka_unit_test(test_status_that_may_not_be_seen_is_given_up_after_a_second),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
