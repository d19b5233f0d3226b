/* The fault injector, and what the compound wrappers leave behind when each of their calls fails in turn. */
#include <mintfs/sys.h>

#ifndef MINTFS_FAULTS
int main(void)
{
	return 77; /* skipped: built without MINTFS_FAULTS */
}
#else
#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

static char place[] = "/tmp/mintfs-test-inject-XXXXXX";
static int dir;

static int setup(void **state)
{
	strcpy(place + strlen(place) - 6, "XXXXXX");
	if (!mkdtemp(place))
		return -1;
	dir = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	sys_fault_arm(NULL, 0, 0, false);
	close(dir);
	return sys_remove_tree(AT_FDCWD, place);
}

static int count_entries(void)
{
	auto_dir DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	return n - 2;
}

static int count_descriptors(void)
{
	auto_dir DIR *d = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	return n;
}

static void test_the_nth_call_fails_and_only_that(void **state)
{
	struct stat st;

	sys_fault_arm("fstat", 3, EIO, false);
	assert_int_equal(sys_fstat(dir, &st), 0);
	assert_int_equal(sys_fsync(dir), 0);
	assert_int_equal(sys_fstat(dir, &st), 0);
	assert_int_equal(sys_fstat(dir, &st), -EIO);
	assert_int_equal(sys_fstat(dir, &st), 0);
	assert_int_equal(sys_fault_hits(), 4);
	sys_fault_arm(NULL, 0, 0, false);
	assert_int_equal(sys_fstat(dir, &st), 0);
	assert_int_equal(sys_fault_hits(), 4);
}

static void test_a_fault_may_stay(void **state)
{
	sys_fault_arm("fsync", 2, ENOSPC, true);
	assert_int_equal(sys_fsync(dir), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(sys_fsync(dir), -ENOSPC);
	sys_fault_arm(NULL, 0, 0, false);
	assert_int_equal(sys_fsync(dir), 0);
}

static void test_every_wrapper_can_be_made_to_fail(void **state)
{
	auto_close int fd = sys_openat(dir, "f", O_RDWR | O_CREAT, 0600);
	struct stat st;
	struct statvfs vfs;
	char text[10];

#define FAILS(name, call) \
	do { \
		sys_fault_arm(name, 1, EDQUOT, false); \
		if ((call) != -EDQUOT) \
			fail_msg("%s did not fail", name); \
		assert_int_equal(sys_fault_hits(), 1); \
	} while (0)
	FAILS("openat", sys_openat(dir, "f", O_RDONLY, 0));
	FAILS("openat_beneath", sys_openat_beneath(dir, "f", O_RDONLY, 0));
	FAILS("reopen", sys_reopen(fd, O_RDONLY));
	FAILS("pread", sys_pread(fd, text, 1, 0));
	FAILS("pread", sys_pread_full(fd, text, 1, 0));
	FAILS("pwrite", sys_pwrite(fd, text, 1, 0));
	FAILS("pwrite", sys_pwrite_full(fd, text, 1, 0));
	FAILS("fsync", sys_fsync(fd));
	FAILS("fdatasync", sys_fdatasync(fd));
	FAILS("syncfs", sys_syncfs(fd));
	FAILS("write_range", sys_write_range(fd));
	FAILS("ftruncate", sys_ftruncate(fd, 0));
	FAILS("fallocate", sys_fallocate(fd, 0, 0, 1));
	FAILS("fstat", sys_fstat(fd, &st));
	FAILS("fstatat", sys_fstatat(dir, "f", &st, 0));
	FAILS("fchmod", sys_fchmod(fd, 0600));
	FAILS("fchownat", sys_fchownat(dir, "f", 0, 0, 0));
	FAILS("utimensat", sys_utimensat(dir, "f", NULL, 0));
	FAILS("mkdirat", sys_mkdirat(dir, "x", 0700));
	FAILS("unlinkat", sys_unlinkat(dir, "f", 0));
	FAILS("renameat2", sys_renameat2(dir, "f", dir, "x", 0));
	FAILS("linkat", sys_linkat_fd(fd, dir, "x"));
	FAILS("symlinkat", sys_symlinkat("f", dir, "x"));
	FAILS("readlinkat", sys_readlinkat(dir, "f", text, sizeof(text)));
	FAILS("mknodat", sys_mknodat(dir, "x", 0600));
	FAILS("statvfs", sys_statvfs(dir, &vfs));
	FAILS("set_immutable", sys_set_immutable(fd, true));
	FAILS("probe_writers", sys_probe_writers(fd));
	FAILS("lock", sys_lock(fd, true, false));
	FAILS("readdir", (sys_mkdirat(dir, "d", 0700), sys_mkdirat(dir, "d/d", 0700), sys_remove_tree(dir, "d")));
	FAILS("close", sys_close(take_fd(&fd)));
	FAILS("*", sys_fsync(dir));
#undef FAILS
}

static void test_a_failed_close_has_closed(void **state)
{
	int before = count_descriptors(), fd = sys_openat(dir, "f", O_RDWR | O_CREAT, 0600);

	sys_fault_arm("close", 1, EIO, false);
	assert_int_equal(sys_close(fd), -EIO);
	assert_int_equal(count_descriptors(), before);
}

/* Whatever fails: the file is the old or the new one, whole; nothing else is left behind. */
static void test_a_durable_write_is_all_or_nothing_whichever_call_fails(void **state)
{
	bool failed = true;

	for (int stay = 0; stay < 2; stay++) {
		for (int n = 1; n == 1 || failed; n++) {
			int before = count_descriptors(), r;
			char *data = NULL;
			size_t len;

			assert_int_equal(sys_write_file_durably(dir, "f", "old", 3, 0644), 0);
			sys_fault_arm("*", n, EIO, stay);
			r = sys_write_file_durably(dir, "f", "newer", 5, 0644);
			failed = sys_fault_hits() >= n;
			sys_fault_arm(NULL, 0, 0, false);
			assert_int_equal(r, failed ? -EIO : 0);
			assert_int_equal(sys_read_file(dir, "f", 100, &data, &len), 0);
			assert_true((failed && strcmp(data, "old") == 0) || strcmp(data, "newer") == 0);
			free(data);
			assert_int_equal(count_entries(), 1);
			assert_int_equal(count_descriptors(), before);
		}
	}
}

static void test_reading_and_removing_leak_nothing_whichever_call_fails(void **state)
{
	bool failed = true;

	for (int n = 1; failed; n++) {
		int before = count_descriptors();
		char *data = NULL;
		size_t len;

		assert_int_equal(sys_write_file_durably(dir, "f", "text", 4, 0644), 0);
		sys_fault_arm("*", n, EIO, false);
		int r = sys_read_file(dir, "f", 100, &data, &len);
		failed = sys_fault_hits() >= n;
		assert_int_equal(r, failed ? -EIO : 0);
		assert_true(failed == !data);
		free(data);
		assert_int_equal(count_descriptors(), before);
	}
	for (int n = 1, r = -EIO; r < 0; n++) {
		int before = count_descriptors();

		sys_fault_arm(NULL, 0, 0, false);
		sys_mkdirat(dir, "t", 0755);
		sys_mkdirat(dir, "t/d", 0755);
		sys_mknodat(dir, "t/d/f", 0644);
		sys_fault_arm("*", n, EIO, false);
		r = sys_remove_tree(dir, "t");
		assert_int_equal(r, sys_fault_hits() >= n ? -EIO : 0);
		assert_int_equal(count_descriptors(), before);
	}
	assert_int_equal(count_entries(), 1);
}

/* What child_main says, in a process of its own: the environment is read once. */
static int child_with_environment(const char *plan)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		setenv("MINTFS_FAULT", plan, 1);
		execl("/proc/self/exe", "test_base_inject", "child", NULL);
		_exit(99);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* A bit for each of three calls that fails with ENOSPC (28). */
static int child_main(void)
{
	int bits = 0, root = open("/", O_RDONLY | O_CLOEXEC);
	struct stat st;

	for (int i = 0; i < 3; i++)
		bits |= (sys_fstat(root, &st) == -ENOSPC) << i;
	return bits;
}

static void test_the_environment_arms_a_fault(void **state)
{
	static const struct {
		const char *plan;
		int bits;
	} rows[] = {
		{"fstat:2:28", 2}, {"fstat:2:28:stay", 6}, {"*:1:28", 1}, {"fsync:1:28", 0}, {"fstat:2", 0}, {"fstat:0:28", 0},
		{"fstat:1:28:forever", 0}, {"nonsense:1:28", 0}, {"", 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(child_with_environment(rows[i].plan), rows[i].bits);
}

static void *call_many(void *arg)
{
	atomic_int *failures = arg;
	struct stat st;

	for (int i = 0; i < 10000; i++) {
		if (sys_fstat(dir, &st) == -EIO)
			atomic_fetch_add(failures, 1);
	}
	return NULL;
}

static void test_of_many_threads_exactly_one_meets_the_fault(void **state)
{
	atomic_int failures = 0;
	pthread_t threads[4];

	sys_fault_arm("fstat", 20000, EIO, false);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, call_many, &failures), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&failures), 1);
	assert_int_equal(sys_fault_hits(), 40000);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		T(test_the_nth_call_fails_and_only_that),
		T(test_a_fault_may_stay),
		T(test_every_wrapper_can_be_made_to_fail),
		T(test_a_failed_close_has_closed),
		T(test_a_durable_write_is_all_or_nothing_whichever_call_fails),
		T(test_reading_and_removing_leak_nothing_whichever_call_fails),
		T(test_the_environment_arms_a_fault),
		T(test_of_many_threads_exactly_one_meets_the_fault),
	};

	if (argc > 1)
		return child_main();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
