/* The log: whole lines from many writers, and the turn of a long file. */
#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/log.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

struct place {
	char dir[64], log[80], old[96];
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	if (!p)
		return -1;
	strcpy(p->dir, "/tmp/mintfs-test-log-XXXXXX");
	if (!mkdtemp(p->dir))
		return -1;
	snprintf(p->log, sizeof(p->log), "%s/daemon.log", p->dir);
	snprintf(p->old, sizeof(p->old), "%s.1", p->log);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	int r = sys_remove_tree(AT_FDCWD, p->dir);

	free(p);
	return r;
}

static char *contents(const char *path)
{
	char *data = NULL;
	size_t len;

	assert_int_equal(sys_read_file(AT_FDCWD, path, 64 << 20, &data, &len), 0);
	return data;
}

static void make_long(const char *path, off_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static void test_a_line_has_date_level_and_clean_text(void **state)
{
	struct place *p = *state;
	struct log *log = NULL;
	int y, mo, d, h, mi, s, ms, at = 0;
	struct stat st;

	umask(0);
	assert_int_equal(log_open(p->log, LOG_LEVEL_INFO, &log, NULL), 0);
	log_warning(log, "draft %d\nof '%s'", 3, "药");
	log_debug(log, "not written");
	log_close(log);
	auto_free char *text = contents(p->log);
	assert_int_equal(sscanf(text, "%4d-%2d-%2d %2d:%2d:%2d.%3d %n", &y, &mo, &d, &h, &mi, &s, &ms, &at), 7);
	assert_int_equal(at, 24);
	assert_string_equal(text + at, "warning draft 3?of '药'\n");
	assert_int_equal(sys_fstatat(AT_FDCWD, p->log, &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_the_level_decides_what_is_written(void **state)
{
	static const int lines[] = {1, 2, 3, 4};

	for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
		struct place *p = *state;
		struct log *log = NULL;
		int n = 0;

		unlink(p->log);
		assert_int_equal(log_open(p->log, (enum log_level)level, &log, NULL), 0);
		log_error(log, "a");
		log_warning(log, "b");
		log_info(log, "c");
		log_debug(log, "d");
		log_close(log);
		auto_free char *text = contents(p->log);
		for (const char *c = text; (c = strchr(c, '\n')); c++)
			n++;
		assert_int_equal(n, lines[level]);
	}
}

static void test_no_log_drops_what_it_is_given(void **state)
{
	log_error(NULL, "nobody reads %s", "this");
	log_close(NULL);
}

static void test_a_log_that_cannot_be_opened_is_refused_with_its_name(void **state)
{
	struct place *p = *state;
	struct log *log = NULL;
	struct fault f = FAULT_INIT;
	char path[128];

	snprintf(path, sizeof(path), "%s/missing/daemon.log", p->dir);
	assert_int_equal(log_open(path, LOG_LEVEL_INFO, &log, &f), -ENOENT);
	assert_non_null(strstr(f.text, path));
	assert_int_equal(log_open(p->dir, LOG_LEVEL_INFO, &log, &f), -EISDIR);
	assert_null(log);
}

static void test_a_long_file_is_turned_over_at_open(void **state)
{
	struct place *p = *state;
	struct log *log = NULL;
	struct stat st;

	make_long(p->log, 8 << 20);
	assert_int_equal(log_open(p->log, LOG_LEVEL_INFO, &log, NULL), 0); /* not over 8 MiB yet */
	log_close(log);
	assert_int_equal(sys_fstatat(AT_FDCWD, p->old, &st, 0), -ENOENT);

	make_long(p->log, (8 << 20) + 1);
	assert_int_equal(log_open(p->log, LOG_LEVEL_INFO, &log, NULL), 0);
	log_info(log, "fresh");
	log_close(log);
	assert_int_equal(sys_fstatat(AT_FDCWD, p->old, &st, 0), 0);
	assert_int_equal(st.st_size, (8 << 20) + 1);
	assert_int_equal(sys_fstatat(AT_FDCWD, p->log, &st, 0), 0);
	assert_in_range(st.st_size, 1, 100);
}

static void test_a_writer_follows_when_somebody_else_moved_the_file(void **state)
{
	struct place *p = *state;
	struct log *log = NULL;

	assert_int_equal(log_open(p->log, LOG_LEVEL_INFO, &log, NULL), 0);
	log_info(log, "first");
	assert_int_equal(rename(p->log, p->old), 0); /* as logrotate does */
	log_info(log, "second");
	log_close(log);
	auto_free char *now = contents(p->log);
	auto_free char *old = contents(p->old);
	assert_non_null(strstr(now, "second"));
	assert_null(strstr(now, "first"));
	assert_non_null(strstr(old, "first"));
}

static void test_a_relative_path_survives_a_change_of_directory(void **state)
{
	struct place *p = *state;
	struct log *log = NULL;
	auto_close int here = open(".", O_PATH | O_DIRECTORY);

	assert_int_equal(chdir(p->dir), 0);
	assert_int_equal(log_open("daemon.log", LOG_LEVEL_INFO, &log, NULL), 0);
	assert_int_equal(fchdir(here), 0);
	assert_int_equal(rename(p->log, p->old), 0);
	log_info(log, "still here");
	log_close(log);
	auto_free char *text = contents(p->log);
	assert_non_null(strstr(text, "still here"));
}

/* 4 processes write 3200 lines of 3.5 KB: 11 MB, so the file is turned over once, and no line may get lost or torn. */
#define WRITERS 4
#define LINES 800
#define FILLER 3500

static void write_lines(const char *path, int writer)
{
	struct log *log = NULL;
	char filler[FILLER + 1];

	memset(filler, 'a' + writer, FILLER);
	filler[FILLER] = '\0';
	if (log_open(path, LOG_LEVEL_INFO, &log, NULL) < 0)
		_exit(1);
	for (int i = 0; i < LINES; i++)
		log_info(log, "<%d %d %s>", writer, i, filler);
	log_close(log);
	_exit(0);
}

static void count_lines(const char *path, bool seen[WRITERS][LINES])
{
	auto_free char *text = contents(path);
	char *rest = text, *line;

	while ((line = strsep(&rest, "\n")) && *line) {
		int writer, i, at = 0;
		assert_int_equal(sscanf(line, "%*d-%*d-%*d %*d:%*d:%*d.%*d info <%d %d %n", &writer, &i, &at), 2);
		assert_in_range(writer, 0, WRITERS - 1);
		assert_in_range(i, 0, LINES - 1);
		assert_int_equal(strspn(line + at, (char[]){(char)('a' + writer), '\0'}), FILLER);
		assert_string_equal(line + at + FILLER, ">");
		assert_false(seen[writer][i]);
		seen[writer][i] = true;
	}
}

static void test_processes_share_a_log_and_its_turn_without_losing_a_line(void **state)
{
	static bool seen[WRITERS][LINES];
	struct place *p = *state;
	pid_t pids[WRITERS];

	for (int w = 0; w < WRITERS; w++) {
		pids[w] = fork();
		assert_true(pids[w] >= 0);
		if (pids[w] == 0)
			write_lines(p->log, w);
	}
	for (int w = 0; w < WRITERS; w++) {
		int status;
		assert_int_equal(waitpid(pids[w], &status, 0), pids[w]);
		assert_int_equal(status, 0);
	}
	count_lines(p->old, seen);
	count_lines(p->log, seen);
	for (int w = 0; w < WRITERS; w++)
		for (int i = 0; i < LINES; i++)
			assert_true(seen[w][i]);
}

struct thread_arg {
	struct log *log;
	int writer;
};

static void *write_from_thread(void *arg)
{
	const struct thread_arg *a = arg;

	for (int i = 0; i < 500; i++)
		log_info(a->log, "<%d %d>", a->writer, i);
	return NULL;
}

static void test_threads_share_a_log(void **state)
{
	struct place *p = *state;
	struct thread_arg args[4];
	pthread_t threads[4];
	int next[4] = {0}, n = 0;

	assert_int_equal(log_open(p->log, LOG_LEVEL_INFO, &args[0].log, NULL), 0);
	for (int t = 0; t < 4; t++) {
		args[t] = (struct thread_arg){args[0].log, t};
		assert_int_equal(pthread_create(&threads[t], NULL, write_from_thread, &args[t]), 0);
	}
	for (int t = 0; t < 4; t++)
		pthread_join(threads[t], NULL);
	log_close(args[0].log);
	auto_free char *text = contents(p->log);
	char *rest = text, *line;
	while ((line = strsep(&rest, "\n")) && *line) {
		int writer, i;
		assert_int_equal(sscanf(line, "%*d-%*d-%*d %*d:%*d:%*d.%*d info <%d %d>", &writer, &i), 2);
		assert_in_range(writer, 0, 3);
		assert_int_equal(i, next[writer]++);
		n++;
	}
	assert_int_equal(n, 2000);
}

static void test_standard_error_has_no_date_under_the_journal(void **state)
{
	for (int journal = 0; journal < 2; journal++) {
		int ends[2], saved = dup(STDERR_FILENO);
		struct log *log = NULL;
		char line[200];
		ssize_t n;

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		dup2(ends[1], STDERR_FILENO);
		if (journal)
			setenv("JOURNAL_STREAM", "8:1", 1);
		else
			unsetenv("JOURNAL_STREAM");
		int r = log_open(NULL, LOG_LEVEL_INFO, &log, NULL);
		log_info(log, "hello");
		log_close(log);
		unsetenv("JOURNAL_STREAM");
		dup2(saved, STDERR_FILENO);
		close(saved);
		close(ends[1]);
		n = read(ends[0], line, sizeof(line) - 1);
		close(ends[0]);
		assert_int_equal(r, 0);
		assert_true(n > 0);
		line[n] = '\0';
		assert_string_equal(line + (journal ? 0 : 24), "info hello\n");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_line_has_date_level_and_clean_text, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_level_decides_what_is_written, setup, teardown),
		cmocka_unit_test(test_no_log_drops_what_it_is_given),
		cmocka_unit_test_setup_teardown(test_a_log_that_cannot_be_opened_is_refused_with_its_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_long_file_is_turned_over_at_open, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_writer_follows_when_somebody_else_moved_the_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_relative_path_survives_a_change_of_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_processes_share_a_log_and_its_turn_without_losing_a_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads_share_a_log, setup, teardown),
		cmocka_unit_test(test_standard_error_has_no_date_under_the_journal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
