/* Threads of a process, by /proc. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <mintfs/task.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static void test_a_line_is_understood_whatever_the_name_holds(void **state)
{
	struct task t;

	assert_int_equal(task_parse("42 (a) b (c) D 1 42 42 0 -1 4194304 10 0 20 0 7 5 0 0 20 0 1 0 100\n", &t), 0);
	assert_int_equal(t.tid, 42);
	assert_string_equal(t.name, "a) b (c");
	assert_int_equal(t.state, TASK_DISK);
	assert_int_equal(t.ticks, 12);
}

static void test_what_is_no_such_line_is_refused(void **state)
{
	static const char *const bad[] = {"", "42", "42 (x", "42 x) D 1", "x (x) D 1 2 3", "42 (x) D", "42 (x) D 1 42 42 0 -1 4194304 10 0 20 0", "42 (x) D 1 42 42 0 -1 4194304 10 0 20 0 x 5"};

	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct task t = {.tid = 7};
		assert_int_equal(task_parse(bad[i], &t), -EPROTO);
		assert_int_equal(t.tid, 7);
	}
}

struct other { atomic_int tid; int go_on[2]; };

static void *wait_named(void *arg)
{
	struct other *o = arg;
	char byte;

	pthread_setname_np(pthread_self(), "waits (here)");
	atomic_store(&o->tid, gettid());
	while (read(o->go_on[0], &byte, 1) < 0)
		;
	return NULL;
}

static bool find(const struct task *t, void *arg)
{
	struct task *wanted = arg;

	if (t->tid != wanted->tid)
		return true;
	*wanted = *t;
	return false;
}

static void test_another_thread_is_seen_with_its_name_and_state(void **state)
{
	struct other o = {0};
	struct task t;
	pthread_t thread;
	char place[64];

	assert_int_equal(pipe(o.go_on), 0);
	assert_int_equal(pthread_create(&thread, NULL, wait_named, &o), 0);
	while (atomic_load(&o.tid) == 0 || task_look(getpid(), atomic_load(&o.tid), &t) < 0 || t.state != 'S')
		usleep(100);
	assert_string_equal(t.name, "waits (here)");
	struct task found = {.tid = atomic_load(&o.tid)};
	assert_int_equal(task_each(getpid(), find, &found), 0);
	assert_string_equal(found.name, "waits (here)");
	int r = task_waits_in(getpid(), found.tid, place, sizeof place);
	assert_true(r < 0 || strcmp(place, "0") == 0 || strstr(place, "pipe") != NULL || place[0] != '\0');
	assert_int_equal(write(o.go_on[1], "x", 1), 1);
	pthread_join(thread, NULL);
	/* The kernel wakes who joins (CLONE_CHILD_CLEARTID) a moment before it takes the thread out of /proc. */
	while (task_look(getpid(), found.tid, &t) == 0)
		usleep(100);
	close(o.go_on[0]);
	close(o.go_on[1]);
}

static void test_a_process_that_is_not_there_is_told(void **state)
{
	struct task t;

	assert_int_equal(task_each(0x7ffffffe, find, &t), -ENOENT);
	assert_int_equal(task_look(0x7ffffffe, 1, &t), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_line_is_understood_whatever_the_name_holds),
		cmocka_unit_test(test_what_is_no_such_line_is_refused),
		cmocka_unit_test(test_another_thread_is_seen_with_its_name_and_state),
		cmocka_unit_test(test_a_process_that_is_not_there_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
