/* The system-call wrappers, each at the edges where it differs from the bare call. Every test has a directory of its own. */
#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

#define NOBODY 65534

struct place {
	char path[64];
	int dir;
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	if (!p)
		return -1;
	strcpy(p->path, "/tmp/mintfs-test-sys-XXXXXX");
	if (!mkdtemp(p->path) || chmod(p->path, 0777) < 0)
		return -1;
	p->dir = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = p;
	return p->dir < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	int r = sys_remove_tree(AT_FDCWD, p->path);

	close(p->dir);
	free(p);
	return r;
}

static int dir_of(void **state)
{
	return ((struct place *)*state)->dir;
}

static void make_file(int dir, const char *name, const char *text)
{
	auto_close int fd = sys_openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(sys_pwrite_full(fd, text, strlen(text), 0), 0);
}

static int count_entries(int dir)
{
	auto_dir DIR *d = NULL;
	struct dirent *e;
	int n = 0, r;

	assert_int_equal(sys_fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), &d), 0);
	while ((r = sys_readdir(d, &e)) > 0)
		n++;
	assert_int_equal(r, 0);
	return n;
}

/* Runs fn in a child as an ordinary user; skips if we are one who cannot become another. */
static void as_nobody(int (*fn)(int dir), int dir)
{
	int status;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
			_exit(99);
		_exit(fn(dir));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_descriptors_are_closed_on_exec(void **state)
{
	int dir = dir_of(state);
	auto_close int a = sys_openat(dir, "f", O_RDWR | O_CREAT, 0600);
	auto_close int b = sys_openat_beneath(dir, "f", O_RDONLY, 0);
	auto_close int c = sys_reopen(a, O_RDONLY);

	assert_int_equal(fcntl(a, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(b, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(c, F_GETFD), FD_CLOEXEC);
}

static void test_open_beneath_stays_beneath(void **state)
{
	int dir = dir_of(state);
	struct stat st;

	assert_int_equal(sys_mkdirat(dir, "d", 0755), 0);
	make_file(dir, "d/f", "x");
	assert_int_equal(sys_symlinkat("d", dir, "to-d"), 0);
	assert_int_equal(sys_symlinkat("f", dir, "d/to-f"), 0);
	assert_int_equal(sys_symlinkat("/etc/passwd", dir, "out"), 0);
	{
		auto_close int fd = sys_openat_beneath(dir, "d/f", O_RDONLY, 0);
		auto_close int new_fd = sys_openat_beneath(dir, "d/new", O_WRONLY | O_CREAT | O_EXCL, 0640);
		auto_close int link_fd = sys_openat_beneath(dir, "d/to-f", O_PATH | O_NOFOLLOW, 0);
		auto_close int root = sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY, 0);
		assert_true(fd >= 0);
		assert_true(new_fd >= 0);
		assert_int_equal(sys_fstat(link_fd, &st), 0);
		assert_true(S_ISLNK(st.st_mode));
		assert_int_equal(sys_openat_beneath(root, "proc/version", O_RDONLY, 0), -EXDEV);
	}
	assert_int_equal(sys_openat_beneath(dir, "to-d/f", O_RDONLY, 0), -ELOOP);
	assert_int_equal(sys_openat_beneath(dir, "d/to-f", O_RDONLY, 0), -ELOOP);
	assert_int_equal(sys_openat_beneath(dir, "out", O_RDONLY, 0), -ELOOP);
	assert_int_equal(sys_openat_beneath(dir, "..", O_PATH, 0), -EXDEV);
	assert_int_equal(sys_openat_beneath(dir, "d/../../etc", O_PATH, 0), -EXDEV);
	assert_int_equal(sys_openat_beneath(dir, "/etc/passwd", O_RDONLY, 0), -EXDEV);
	assert_int_equal(sys_openat_beneath(dir, "missing", O_RDONLY, 0), -ENOENT);
}

static void test_an_o_path_descriptor_can_be_reopened_and_changed(void **state)
{
	int dir = dir_of(state);
	struct stat st;

	make_file(dir, "f", "text");
	auto_close int place = sys_openat(dir, "f", O_PATH | O_NOFOLLOW, 0);
	auto_close int fd = sys_reopen(place, O_WRONLY | O_NOFOLLOW | O_CREAT | O_EXCL);
	assert_true(fd >= 0);
	assert_int_equal(sys_pwrite_full(fd, "T", 1, 0), 0);
	assert_int_equal(sys_fchmod(place, 0611), 0);
	assert_int_equal(sys_utimensat(place, "", (struct timespec[]){{11, 0}, {22, 0}}, AT_EMPTY_PATH), 0);
	assert_int_equal(sys_fchownat(place, "", (uid_t)-1, (gid_t)-1, AT_EMPTY_PATH), 0);
	assert_int_equal(sys_fstatat(place, "", &st, AT_EMPTY_PATH), 0);
	assert_int_equal(st.st_mode & 07777, 0611);
	assert_int_equal(st.st_mtim.tv_sec, 22);
	assert_int_equal(sys_fchmod(-1, 0600), -EBADF);
	assert_int_equal(sys_fchmod(9999, 0600), -EBADF);
	assert_int_equal(sys_close(9999), -EBADF);
}

static void test_full_reads_are_short_only_at_the_end(void **state)
{
	char data[10] = "";
	auto_close int fd = sys_openat(dir_of(state), "f", O_RDWR | O_CREAT, 0600);
	struct stat st;

	assert_int_equal(sys_pwrite_full(fd, "0123456", 7, 3), 0);
	assert_int_equal(sys_pread_full(fd, data, 10, 5), 5);
	assert_memory_equal(data, "23456", 5);
	assert_int_equal(sys_pread_full(fd, data, 3, 0), 3);
	assert_memory_equal(data, "\0\0\0", 3);
	assert_int_equal(sys_pread_full(fd, data, 3, 10), 0);
	assert_int_equal(sys_pread_full(-1, data, 3, 0), -EBADF);
	assert_int_equal(sys_pwrite_full(-1, data, 3, 0), -EBADF);
	assert_int_equal(sys_ftruncate(fd, 4), 0);
	assert_int_equal(sys_fallocate(fd, 0, 0, 100), 0);
	assert_int_equal(sys_fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 100);
	assert_int_equal(sys_fsync(fd), 0);
	assert_int_equal(sys_fdatasync(fd), 0);
	assert_int_equal(sys_syncfs(fd), 0);
	assert_int_equal(sys_write_range(fd), 0);
}

static int link_all_kinds(int dir)
{
	auto_close int fd = sys_openat(dir, "mine", O_RDWR | O_CREAT, 0600);
	auto_close int place = sys_openat(dir, "mine", O_PATH, 0);
	auto_close int unnamed = sys_openat(dir, ".", O_TMPFILE | O_RDWR, 0600);
	struct stat st;

	if (fd < 0 || sys_linkat_fd(fd, dir, "a") < 0 || sys_linkat_fd(place, dir, "b") < 0)
		return 1;
	if (sys_linkat_fd(fd, dir, "a") != -EEXIST)
		return 2;
	if (sys_fstat(fd, &st) < 0 || st.st_nlink != 3)
		return 3;
	if (unnamed >= 0 && (sys_linkat_fd(unnamed, dir, "c") < 0 || sys_fstat(unnamed, &st) < 0 || st.st_nlink != 1))
		return 4;
	return 0;
}

static void test_any_descriptor_can_be_given_a_name(void **state)
{
	assert_int_equal(link_all_kinds(dir_of(state)), 0);
}

static void test_an_ordinary_user_can_give_names_too(void **state)
{
	as_nobody(link_all_kinds, dir_of(state));
}

static void test_a_link_target_is_whole_or_refused(void **state)
{
	char target[6] = "old";

	assert_int_equal(sys_symlinkat("12345", dir_of(state), "l"), 0);
	assert_int_equal(sys_readlinkat(dir_of(state), "l", target, 5), -ENAMETOOLONG);
	assert_string_equal(target, "old");
	assert_int_equal(sys_readlinkat(dir_of(state), "l", target, 6), 5);
	assert_string_equal(target, "12345");
	assert_int_equal(sys_readlinkat(dir_of(state), "missing", target, 6), -ENOENT);
}

static void test_only_regular_files_are_made_as_nodes(void **state)
{
	int dir = dir_of(state);

	assert_int_equal(sys_mknodat(dir, "fifo", S_IFIFO | 0600), -EPERM);
	assert_int_equal(sys_mknodat(dir, "device", S_IFCHR | 0600), -EPERM);
	assert_int_equal(sys_mknodat(dir, "a", S_IFREG | 0600), 0);
	assert_int_equal(sys_mknodat(dir, "b", 0600), 0);
	assert_int_equal(sys_mknodat(dir, "b", 0600), -EEXIST);
	assert_int_equal(count_entries(dir), 2);
	assert_int_equal(sys_renameat2(dir, "a", dir, "b", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(sys_renameat2(dir, "a", dir, "b", 0), 0);
	assert_int_equal(count_entries(dir), 1);
}

static void test_results_stay_untouched_on_failure(void **state)
{
	struct stat st = {.st_size = 4711};
	struct statvfs vfs = {.f_bsize = 4711};
	auto_close int dir = dup(dir_of(state));

	assert_int_equal(sys_fstat(-1, &st), -EBADF);
	assert_int_equal(sys_fstatat(dir, "missing", &st, 0), -ENOENT);
	assert_int_equal(st.st_size, 4711);
	assert_int_equal(sys_statvfs(-1, &vfs), -EBADF);
	assert_int_equal(vfs.f_bsize, 4711);
	assert_int_equal(sys_statvfs(dir, &vfs), 0);
	assert_int_not_equal(vfs.f_bsize, 4711);
}

static void test_a_directory_tells_its_names_without_the_dots(void **state)
{
	int dir = dir_of(state);
	auto_dir DIR *d = NULL;
	int file;

	make_file(dir, "f", "x");
	make_file(dir, "...", "x");
	assert_int_equal(count_entries(dir), 2);
	assert_int_equal(sys_fdopendir(-EACCES, &d), -EACCES);
	file = sys_openat(dir, "f", O_RDONLY, 0);
	assert_int_equal(sys_fdopendir(file, &d), -ENOTDIR);
	assert_null(d);
	assert_int_equal(fcntl(file, F_GETFD), -1); /* closed */
}

static void test_removing_a_tree_follows_no_link_and_missing_is_success(void **state)
{
	int dir = dir_of(state);
	struct stat st;

	assert_int_equal(sys_mkdirat(dir, "keep", 0755), 0);
	make_file(dir, "keep/f", "x");
	assert_int_equal(sys_mkdirat(dir, "t", 0755), 0);
	assert_int_equal(sys_mkdirat(dir, "t/d", 0755), 0);
	make_file(dir, "t/d/f", "x");
	assert_int_equal(sys_symlinkat("../keep", dir, "t/to-keep"), 0);
	assert_int_equal(sys_symlinkat("../../keep/f", dir, "t/d/to-f"), 0);
	assert_int_equal(sys_symlinkat("keep", dir, "link"), 0);
	assert_int_equal(sys_remove_tree(dir, "t"), 0);
	assert_int_equal(sys_fstatat(dir, "t", &st, 0), -ENOENT);
	assert_int_equal(sys_fstatat(dir, "keep/f", &st, 0), 0);
	assert_int_equal(sys_remove_tree(dir, "t"), 0);
	assert_int_equal(sys_remove_tree(dir, "link"), -ENOTDIR);
	assert_int_equal(sys_remove_tree(dir, "keep/f"), -ENOTDIR);
	assert_int_equal(count_entries(dir), 2);
}

/* Far deeper than there are descriptors, and with a file beside each step. */
static int grow_deep_tree(int dir, const char *name, int depth, mode_t mode)
{
	auto_close int at = -1;

	if (sys_mkdirat(dir, name, 0755) < 0)
		return -1;
	at = sys_openat(dir, name, O_RDONLY | O_DIRECTORY, 0);
	for (int i = 0; i < depth; i++) {
		int next;
		if (sys_mkdirat(at, "d", 0755) < 0 || sys_mknodat(at, "f", 0444) < 0 || sys_mkdirat(at, "empty", mode) < 0)
			return -1;
		next = sys_openat(at, "d", O_RDONLY | O_DIRECTORY, 0);
		if (sys_fchmod(at, mode) < 0)
			return -1;
		close(at);
		at = next;
	}
	return at < 0 ? -1 : 0;
}

static void test_a_tree_may_be_deeper_than_there_are_descriptors(void **state)
{
	struct rlimit old, few = {.rlim_cur = 64};
	int r;

	assert_int_equal(grow_deep_tree(dir_of(state), "t", 1000, 0755), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	few.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	r = sys_remove_tree(dir_of(state), "t");
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(r, 0);
	assert_int_equal(count_entries(dir_of(state)), 0);
}

static int remove_forbidding_tree(int dir)
{
	static const mode_t modes[] = {0000, 0100, 0444, 0555};

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		if (grow_deep_tree(dir, "t", 100, modes[i]) < 0 || sys_remove_tree(dir, "t") != 0)
			return 1 + (int)i;
	}
	return 0;
}

static void test_an_ordinary_user_removes_directories_made_read_only(void **state)
{
	as_nobody(remove_forbidding_tree, dir_of(state));
	assert_int_equal(count_entries(dir_of(state)), 0);
}

static int remove_in_read_only_parent(int dir)
{
	struct stat st;

	if (sys_mkdirat(dir, "parent", 0755) < 0 || sys_mkdirat(dir, "parent/t", 0755) < 0)
		return 1;
	auto_close int parent = sys_openat(dir, "parent", O_RDONLY | O_DIRECTORY, 0);
	if (sys_fchmod(parent, 0555) < 0 || sys_remove_tree(parent, "t") != -EACCES)
		return 2;
	return sys_fstat(parent, &st) == 0 && (st.st_mode & 07777) == 0555 ? 0 : 3;
}

static void test_the_directory_around_a_tree_keeps_its_mode(void **state)
{
	as_nobody(remove_in_read_only_parent, dir_of(state));
}

static void test_an_immutable_file_cannot_be_written_until_it_is_cleared(void **state)
{
	int dir = dir_of(state), r;

	make_file(dir, "f", "x");
	auto_close int fd = sys_openat(dir, "f", O_RDONLY, 0);
	r = sys_set_immutable(fd, true);
	if (r == -EOPNOTSUPP)
		skip();
	assert_int_equal(r, 0);
	assert_int_equal(sys_set_immutable(fd, true), 0);
	assert_int_equal(sys_openat(dir, "f", O_WRONLY, 0), -EPERM);
	assert_int_equal(sys_unlinkat(dir, "f", 0), -EPERM);
	assert_int_equal(sys_set_immutable(fd, false), 0);
	assert_int_equal(sys_unlinkat(dir, "f", 0), 0);
}

static int set_immutable_without_privilege(int dir)
{
	auto_close int fd = sys_openat(dir, "mine", O_RDWR | O_CREAT, 0600);
	auto_close int proc = sys_openat(AT_FDCWD, "/proc/version", O_RDONLY, 0);

	return sys_set_immutable(fd, true) == -EOPNOTSUPP && sys_set_immutable(proc, true) == -EOPNOTSUPP ? 0 : 1;
}

static void test_the_immutable_flag_is_unsupported_without_privilege(void **state)
{
	as_nobody(set_immutable_without_privilege, dir_of(state));
}

static void test_writers_are_found_even_behind_a_mapping(void **state)
{
	int dir = dir_of(state), r, writer;
	void *map;

	make_file(dir, "f", "some text");
	auto_close int fd = sys_openat(dir, "f", O_RDONLY, 0);
	r = sys_probe_writers(fd);
	if (r == -EOPNOTSUPP)
		skip();
	assert_int_equal(r, 0);
	auto_close int reader = sys_openat(dir, "f", O_RDONLY, 0);
	assert_true(reader >= 0);
	assert_int_equal(sys_probe_writers(fd), 0);
	writer = sys_openat(dir, "f", O_RDWR, 0);
	assert_int_equal(sys_probe_writers(fd), -EBUSY);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, writer, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	close(writer);
	assert_int_equal(sys_probe_writers(fd), -EBUSY);
	munmap(map, 4096);
	assert_int_equal(sys_probe_writers(fd), 0);
	assert_int_equal(sys_probe_writers(fd), 0);
}

struct opener {
	int dir;
	atomic_bool stop;
	atomic_int refused; /* opens that met the lease of a probe */
};

static void *open_again_and_again(void *arg)
{
	struct opener *o = arg;

	while (!atomic_load(&o->stop)) {
		int fd = openat(o->dir, "f", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd >= 0)
			close(fd);
		else if (errno == EWOULDBLOCK)
			atomic_fetch_add(&o->refused, 1);
	}
	return NULL;
}

/* Somebody who opens the file for writing just while it is probed breaks the lease, and its holder is sent a signal: by
 * default SIGIO, which would end the daemon. An open that met the lease proves that the moment was hit. */
static void test_the_holder_of_a_broken_lease_lives_on(void **state)
{
	struct opener o = {.dir = dir_of(state)};
	int64_t deadline = time_monotonic_ns() + 10 * NS_PER_SEC;
	pthread_t thread;

	make_file(o.dir, "f", "x");
	auto_close int fd = sys_openat(o.dir, "f", O_RDONLY, 0);
	if (sys_probe_writers(fd) == -EOPNOTSUPP)
		skip();
	assert_int_equal(pthread_create(&thread, NULL, open_again_and_again, &o), 0);
	while (atomic_load(&o.refused) < 3 && time_monotonic_ns() < deadline) {
		int r = sys_probe_writers(fd);
		assert_true(r == 0 || r == -EBUSY);
	}
	atomic_store(&o.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(sys_probe_writers(fd), 0);
	if (atomic_load(&o.refused) == 0)
		skip(); /* the moment was never hit */
}

static int probe_foreign_file(int dir)
{
	auto_close int fd = sys_openat(dir, "root's", O_RDONLY, 0);

	return sys_probe_writers(fd) == -EOPNOTSUPP ? 0 : 1;
}

static void test_probing_a_foreign_file_is_unsupported_without_privilege(void **state)
{
	make_file(dir_of(state), "root's", "x");
	as_nobody(probe_foreign_file, dir_of(state));
}

static void test_small_files_are_read_whole_or_refused(void **state)
{
	int dir = dir_of(state);
	char big[10001], *data = NULL;
	size_t len = 4711;

	make_file(dir, "empty", "");
	assert_int_equal(sys_read_file(dir, "empty", 0, &data, &len), 0);
	assert_int_equal(len, 0);
	assert_string_equal(data, "");
	free(data);
	for (size_t size = 4094; size <= 4098; size++) { /* around the first read */
		memset(big, 'x', size);
		big[size] = '\0';
		make_file(dir, "big", big);
		assert_int_equal(sys_read_file(dir, "big", size, &data, &len), 0);
		assert_int_equal(len, size);
		assert_string_equal(data, big);
		free(data);
		data = NULL;
		assert_int_equal(sys_read_file(dir, "big", size - 1, &data, &len), -EFBIG);
		assert_null(data);
	}
	assert_int_equal(sys_read_file(AT_FDCWD, "/proc/self/status", 1 << 20, &data, &len), 0); /* its size is said to be 0 */
	assert_int_equal(strlen(data), len);
	assert_non_null(strstr(data, "Pid:"));
	free(data);
	data = NULL;
	assert_int_equal(sys_read_file(AT_FDCWD, "/proc/self/status", 10, &data, &len), -EFBIG);
	assert_int_equal(sys_read_file(dir, "missing", 10, &data, &len), -ENOENT);
	assert_int_equal(sys_read_file(dir, ".", 1 << 20, &data, &len), -EISDIR);
	assert_int_equal(mkfifoat(dir, "fifo", 0600), 0);
	assert_int_equal(sys_read_file(dir, "fifo", 1 << 20, &data, &len), -EINVAL);
	assert_int_equal(sys_read_file(AT_FDCWD, "/dev/zero", 1 << 20, &data, &len), -EINVAL);
	assert_null(data);
}

static void test_a_file_is_replaced_with_exactly_the_mode_asked_for(void **state)
{
	int dir = dir_of(state);
	mode_t mask = umask(077);
	char *data = NULL;
	struct stat st;
	size_t len;

	assert_int_equal(sys_mkdirat(dir, "sub", 0755), 0);
	for (int i = 0; i < 2; i++) {
		const char *path = i ? "sub/config.json" : "config.json";
		make_file(dir, path, "something longer than before");
		assert_int_equal(sys_write_file_durably(dir, path, "new", 3, 0644), 0);
		assert_int_equal(sys_read_file(dir, path, 100, &data, &len), 0);
		assert_string_equal(data, "new");
		free(data);
		assert_int_equal(sys_fstatat(dir, path, &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, 0644);
	}
	umask(mask);
	assert_int_equal(sys_write_file_durably(dir, "missing/x", "new", 3, 0644), -ENOENT);
	assert_int_equal(sys_write_file_durably(dir, "sub", "new", 3, 0644), -EISDIR);
	assert_int_equal(count_entries(dir), 2);
}

static void test_locks_exclude_each_other_until_they_are_given_back(void **state)
{
	int dir = dir_of(state);
	auto_close int a = sys_openat(dir, "lock", O_RDWR | O_CREAT, 0600);
	auto_close int b = sys_openat(dir, "lock", O_RDWR, 0);

	assert_int_equal(sys_lock(a, false, false), 0);
	assert_int_equal(sys_lock(b, false, false), 0);
	assert_int_equal(sys_lock(a, true, false), -EWOULDBLOCK);
	assert_int_equal(sys_unlock(b), 0);
	assert_int_equal(sys_lock(a, true, true), 0);
	assert_int_equal(sys_lock(b, false, false), -EWOULDBLOCK);
	assert_int_equal(sys_close(take_fd(&a)), 0);
	assert_int_equal(sys_lock(b, true, false), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_descriptors_are_closed_on_exec),
		T(test_open_beneath_stays_beneath),
		T(test_an_o_path_descriptor_can_be_reopened_and_changed),
		T(test_full_reads_are_short_only_at_the_end),
		T(test_any_descriptor_can_be_given_a_name),
		T(test_an_ordinary_user_can_give_names_too),
		T(test_a_link_target_is_whole_or_refused),
		T(test_only_regular_files_are_made_as_nodes),
		T(test_results_stay_untouched_on_failure),
		T(test_a_directory_tells_its_names_without_the_dots),
		T(test_removing_a_tree_follows_no_link_and_missing_is_success),
		T(test_a_tree_may_be_deeper_than_there_are_descriptors),
		T(test_an_ordinary_user_removes_directories_made_read_only),
		T(test_the_directory_around_a_tree_keeps_its_mode),
		T(test_an_immutable_file_cannot_be_written_until_it_is_cleared),
		T(test_the_immutable_flag_is_unsupported_without_privilege),
		T(test_writers_are_found_even_behind_a_mapping),
		T(test_the_holder_of_a_broken_lease_lives_on),
		T(test_probing_a_foreign_file_is_unsupported_without_privilege),
		T(test_small_files_are_read_whole_or_refused),
		T(test_a_file_is_replaced_with_exactly_the_mode_asked_for),
		T(test_locks_exclude_each_other_until_they_are_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
