/* The fault injector: makes the nth call of a system-call wrapper fail. Only in builds for tests.
 *
 * It is the one place with mutable globals: wrappers have no context to carry them. All are atomics, so that arming,
 * calling and reading may happen in any threads; a call that races with arming belongs to either plan. The name of a wrapper
 * is kept as its index, since a pointer to a caller's string could not be replaced safely. */
#include <mintfs/sys.h>

#include "inject.h"

#ifdef MINTFS_FAULTS
#include <errno.h>
#include <fcntl.h>
#include <mintfs/util.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const wrapper_names[] = {
	"openat", "openat_beneath", "reopen", "close", "pread", "pwrite", "fsync", "fdatasync", "syncfs", "write_range",
	"ftruncate", "fallocate", "fstat", "fstatat", "fchmod", "fchownat", "utimensat", "mkdirat", "unlinkat",
	"renameat2", "linkat", "symlinkat", "readlinkat", "mknodat", "statvfs", "readdir", "lock",
	"set_immutable", "probe_writers",
	/* What follows is no system call of base: "*" does not mean it. */
	"malloc", "sql_step", "sql_io",
};
#define N_SYSTEM_CALLS (ARRAY_SIZE(wrapper_names) - 3)

#define DISARMED (-1)
#define ANY_WRAPPER (-2)

static atomic_int armed = DISARMED; /* index into wrapper_names, or one of the two above */
static atomic_int calls_left;       /* until the call that fails; below 1: it is over */
static atomic_int fault_error;
static atomic_bool fault_stays;
static atomic_int hits;
static atomic_int crash_passes, hang_passes;
static pthread_once_t environment_once = PTHREAD_ONCE_INIT;

static int find_wrapper(const char *name)
{
	if (strcmp(name, "*") == 0)
		return ANY_WRAPPER;
	for (size_t i = 0; i < ARRAY_SIZE(wrapper_names); i++) {
		if (strcmp(name, wrapper_names[i]) == 0)
			return (int)i;
	}
	fprintf(stderr, "mintfs: no system-call wrapper '%s' to make fail\n", name);
	return DISARMED;
}

static void arm(const char *name, int nth, int error, bool stay)
{
	atomic_store(&armed, DISARMED);
	if (!name)
		return;
	atomic_store(&calls_left, nth);
	atomic_store(&fault_error, error);
	atomic_store(&fault_stays, stay);
	atomic_store(&hits, 0);
	atomic_store(&armed, find_wrapper(name));
}

/* MINTFS_FAULT=name:n:errno[:stay] */
static void arm_from_environment(void)
{
	const char *plan = getenv("MINTFS_FAULT");
	char name[32], stay[8] = "";
	int nth, error, n;

	if (!plan)
		return;
	n = sscanf(plan, "%31[^:]:%d:%d:%7s", name, &nth, &error, stay);
	if (n < 3 || nth < 1 || error < 1 || (n == 4 && strcmp(stay, "stay") != 0))
		fprintf(stderr, "mintfs: MINTFS_FAULT=%s is not name:n:errno[:stay]\n", plan);
	else
		arm(name, nth, error, n == 4);
}

void sys_fault_arm(const char *name, int nth, int error, bool stay)
{
	pthread_once(&environment_once, arm_from_environment); /* an older plan must not overwrite this one later */
	arm(name, nth, error, stay);
}

int sys_fault_hits(void)
{
	return atomic_load(&hits);
}

static bool is_meant(int which, const char *name)
{
	if (which == DISARMED)
		return false;
	if (which != ANY_WRAPPER)
		return strcmp(wrapper_names[which], name) == 0;
	for (size_t i = N_SYSTEM_CALLS; i < ARRAY_SIZE(wrapper_names); i++) {
		if (strcmp(wrapper_names[i], name) == 0)
			return false;
	}
	return true;
}

/* The error of this call, 0 for none. */
static int next_error(const char *name)
{
	int left;

	pthread_once(&environment_once, arm_from_environment);
	if (!is_meant(atomic_load(&armed), name))
		return 0;
	atomic_fetch_add(&hits, 1);
	left = atomic_fetch_sub(&calls_left, 1);
	return left == 1 || (left < 1 && atomic_load(&fault_stays)) ? atomic_load(&fault_error) : 0;
}

int inject_fault(const char *name)
{
	int error = next_error(name);

	return error == SYS_FAULT_SHORT ? 0 : -error;
}

int inject_transfer(const char *name, size_t *len)
{
	int error = next_error(name);

	if (error == SYS_FAULT_SHORT) {
		*len = (*len + 1) / 2;
		return 0;
	}
	return -error;
}

int sys_fault_point(const char *name)
{
	return inject_fault(name);
}

/* Tells that a place was passed, in one write; a test that cannot be told does without. */
static void mark(const char *path, const char *name)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, name, strlen(name)) < 0)
		fprintf(stderr, "mintfs: MINTFS_MARKS=%s cannot be written\n", path);
	close(fd);
}

/* Is it now, at this name, that something was planned to happen? */
static bool its_time(const char *plan, const char *name, atomic_int *passes)
{
	size_t len = strlen(name);

	if (!plan || strncmp(plan, name, len) != 0 || (plan[len] != '\0' && plan[len] != ':'))
		return false;
	return atomic_fetch_add(passes, 1) + 1 >= (plan[len] == ':' ? atoi(plan + len + 1) : 1);
}

/* The environment is read at each passing: a test sets it in a child, after the fork. */
void sys_crash_point(const char *name)
{
	const char *marks = getenv("MINTFS_MARKS");

	if (marks)
		mark(marks, name);
	if (its_time(getenv("MINTFS_CRASH"), name, &crash_passes))
		_exit(137);
	while (its_time(getenv("MINTFS_HANG"), name, &hang_passes))
		pause();
	const char *delay = getenv("MINTFS_DELAY");
	if (delay && strncmp(delay, name, strlen(name)) == 0 && delay[strlen(name)] == ':')
		usleep((useconds_t)atoi(delay + strlen(name) + 1) * 1000);
}
#endif
