/* Room keeper: why does a worker that was killed not end? Asked about processes that do what such a worker may. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <mintfs/task.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shared.h"

static pid_t child(void (*what)(void))
{
	pid_t pid = fork();

	if (pid == 0) {
		alarm(120);
		what();
		_exit(0);
	}
	assert_true(pid > 0);
	return pid;
}

static void end_child(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void wait_state(pid_t pid, char state)
{
	struct task t;

	while (task_look(pid, pid, &t) == 0 && t.state != state && t.state != 'Z')
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	assert_int_equal(t.state, state);
}

static void spin(void)
{
	for (volatile unsigned i = 0;; i++)
		;
}

static void sleep_on(void)
{
	pause();
}

/* As on a disk that does not answer: a parent waits like that for the child of its vfork(2). Asked of the kernel itself, as ThreadSanitizer makes a fork of vfork. */
static void wait_like_for_a_disk(void)
{
	pid_t self = getpid();
#ifdef __s390x__
	long pid = syscall(SYS_clone, 0, CLONE_VFORK | SIGCHLD, 0, 0, 0);
#else
	long pid = syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
#endif

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == self) /* else it was killed before we asked to be told: we would wait for ever, and ctest for us, since we hold its pipe */
			pause();
		_exit(0);
	}
}

static void test_a_worker_for_which_the_kernel_is_at_work_is_not_cut_off(void **state)
{
	pid_t pid = child(spin);
	char place[KEEPER_PLACE_MAX] = "x";

	wait_state(pid, TASK_RUNS);
	assert_int_equal(keeper_stuck_in(pid, place), KEEPER_STUCK_AT_WORK);
	assert_string_equal(place, "");
	end_child(pid);
}

static void test_a_worker_that_waits_in_the_kernel_for_something_else_than_us_is_not_cut_off(void **state)
{
	pid_t pid = child(wait_like_for_a_disk);
	char place[KEEPER_PLACE_MAX] = "";

	wait_state(pid, TASK_DISK);
	assert_int_equal(keeper_stuck_in(pid, place), KEEPER_STUCK_DISK);
	assert_true(strlen(place) > 0);
	end_child(pid);
}

static void test_a_worker_of_which_nothing_is_seen_is_cut_off(void **state)
{
	pid_t pid = child(sleep_on);
	char place[KEEPER_PLACE_MAX] = "x";

	wait_state(pid, 'S');
	assert_int_equal(keeper_stuck_in(pid, place), KEEPER_STUCK_FOR_US);
	assert_string_equal(place, "");
	end_child(pid);
}

static void test_a_worker_that_has_ended_is_not_cut_off(void **state)
{
	pid_t pid = child(sleep_on);
	char place[KEEPER_PLACE_MAX] = "x";

	assert_int_equal(kill(pid, SIGKILL), 0);
	wait_state(pid, 'Z');
	assert_int_equal(keeper_stuck_in(pid, place), KEEPER_STUCK_NOT);
	assert_string_equal(place, "");
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(keeper_stuck_in(pid, place), KEEPER_STUCK_NOT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_worker_for_which_the_kernel_is_at_work_is_not_cut_off),
		cmocka_unit_test(test_a_worker_that_waits_in_the_kernel_for_something_else_than_us_is_not_cut_off),
		cmocka_unit_test(test_a_worker_of_which_nothing_is_seen_is_cut_off),
		cmocka_unit_test(test_a_worker_that_has_ended_is_not_cut_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
