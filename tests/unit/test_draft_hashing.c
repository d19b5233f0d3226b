/* Hashing: in the background, what makes its results void, and what is left to a commit. */
#include "draft_env.h"

#include <sys/mman.h>

#define HUGE_SIZE ((off_t)1 << 40) /* a hole of 1 TiB: takes minutes to hash, unless it is dropped */
#define OTHER_USER 4002

static void assert_blob(const struct draft_entry *entry, const char *text)
{
	struct blob_id id = env_hash_of(text, strlen(text));

	assert_true(entry->hashed);
	assert_memory_equal(&entry->blob, &id, sizeof(id));
}

static void test_a_file_is_hashed_when_its_last_writer_closes_it(void **state)
{
	static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; /* FIPS 180-2, B.1 */
	struct env *e = *state;
	const struct draft_entry *entry;
	char hex[BLOB_HEX_SIZE];
	ino_t ino;

	env_write(e, "model.pth", "abc");
	ino = env_ino(e, "model.pth");
	assert_int_equal(draft_file_opened(e->d, ino, true, "model.pth"), 0);
	assert_int_equal(draft_file_opened(e->d, ino, true, "model.pth"), 0);
	env_close_written(e, "model.pth");
	drafts_drain(e->ds);
	draft_file_closed(e->d, ino, true, -1);
	assert_false(env_is_hashed(e, "model.pth")); /* no descriptor to hash from */
	assert_int_equal(draft_file_opened(e->d, ino, true, "model.pth"), 0);
	env_close_written(e, "model.pth");
	drafts_drain(e->ds);
	assert_int_equal(env_scan(e), 0);
	entry = env_find(&e->tree, "model.pth");
	assert_true(entry->hashed);
	blob_id_hex(&entry->blob, hex);
	assert_string_equal(hex, abc);
}

static void test_a_file_that_a_reader_closes_is_not_hashed(void **state)
{
	struct env *e = *state;

	env_write(e, "model.pth", "abc");
	assert_int_equal(draft_file_opened(e->d, env_ino(e, "model.pth"), false, "model.pth"), 0);
	auto_close int fd = openat(e->root, "model.pth", O_PATH | O_CLOEXEC);
	draft_file_closed(e->d, env_ino(e, "model.pth"), false, fd);
	drafts_drain(e->ds);
	assert_false(env_is_hashed(e, "model.pth"));
}

/* ---- what makes a hash void ---- */

static void open_for_writing(struct env *e)
{
	assert_int_equal(draft_file_opened(e->d, env_ino(e, "f"), true, "f"), 0);
	draft_file_closed(e->d, env_ino(e, "f"), true, -1);
}

static void touch(struct env *e)
{
	draft_file_touched(e->d, env_ino(e, "f"));
}

static void grow(struct env *e)
{
	auto_close int fd = openat(e->root, "f", O_WRONLY | O_APPEND | O_CLOEXEC);

	assert_int_equal(write(fd, "g", 1), 1);
}

/* Other bytes, the same size and mtime: only the ctime tells. Repeated, since a clock of older kernels stands still for some ms. */
static void forge(struct env *e)
{
	struct stat was = env_stat(e, "f"), is = was;
	auto_close int fd = openat(e->root, "f", O_WRONLY | O_CLOEXEC);
	struct timespec ts[2] = {was.st_atim, was.st_mtim};

	while (timespec_ns(is.st_ctim) == timespec_ns(was.st_ctim)) {
		assert_int_equal(pwrite(fd, "xyz", 3, 0), 3);
		assert_int_equal(futimens(fd, ts), 0);
		is = env_stat(e, "f");
	}
	assert_int_equal(is.st_size, was.st_size);
	assert_true(timespec_ns(is.st_mtim) == timespec_ns(was.st_mtim));
}

static void set_mtime(struct env *e)
{
	struct timespec ts[2] = {{1, 2}, {3, 4}};
	struct stat st;

	assert_int_equal(utimensat(e->root, "f", ts, 0), 0);
	st = env_stat(e, "f");
	draft_file_restamped(e->d, st.st_ino, &st); /* is for the ctime only */
}

static void replace(struct env *e)
{
	env_write(e, "other", "xyz");
	assert_int_equal(renameat(e->root, "other", e->root, "f"), 0);
}

static void test_a_hash_is_void_after_anything_that_may_have_changed_the_content(void **state)
{
	static void (*const gestures[])(struct env *e) = {open_for_writing, touch, grow, forge, set_mtime, replace};
	struct env *e = *state;

	for (size_t i = 0; i < ARRAY_SIZE(gestures); i++) {
		env_save(e, "f", "abc", 0);
		drafts_drain(e->ds);
		assert_true(env_is_hashed(e, "f"));
		gestures[i](e);
		if (env_is_hashed(e, "f"))
			fail_msg("gesture %zu left the hash", i);
	}
}

static void test_an_inode_number_that_comes_back_with_another_file_does_not_bring_its_hash(void **state)
{
	struct env *e = *state;
	struct stat was;

	env_save(e, "f", "abc", 0);
	drafts_drain(e->ds);
	was = env_stat(e, "f");
	assert_int_equal(unlinkat(e->root, "f", 0), 0);
	env_write(e, "g", "xyz");
	if (env_ino(e, "g") != was.st_ino)
		skip(); /* this file system hands numbers out in another order */
	struct timespec ts[2] = {was.st_atim, was.st_mtim};
	assert_int_equal(utimensat(e->root, "g", ts, 0), 0);
	assert_false(env_is_hashed(e, "g"));
}

/* chmod until the ctime has moved: see forge. */
static struct stat move_ctime(struct env *e, const char *path)
{
	struct stat was = env_stat(e, path), is = was;

	for (mode_t m = 0600; timespec_ns(is.st_ctim) == timespec_ns(was.st_ctim); m ^= 0040) {
		assert_int_equal(fchmodat(e->root, path, m, 0), 0);
		is = env_stat(e, path);
	}
	return is;
}

static void test_a_hash_outlives_rename_and_chmod_that_the_drive_has_told_of(void **state)
{
	struct env *e = *state;
	struct stat st;

	env_save(e, "f.tmp", "abc", 0);
	drafts_drain(e->ds);
	assert_int_equal(renameat(e->root, "f.tmp", e->root, "f"), 0);
	st = move_ctime(e, "f");
	assert_false(env_is_hashed(e, "f"));
	draft_file_restamped(e->d, st.st_ino, &st);
	assert_int_equal(env_scan(e), 0);
	assert_blob(env_find(&e->tree, "f"), "abc");
}

static void test_a_rename_before_the_hashing_begins_does_no_harm(void **state)
{
	struct env *e = *state;

	env_write(e, "f.tmp", "abc");
	assert_int_equal(draft_file_opened(e->d, env_ino(e, "f.tmp"), true, "f.tmp"), 0);
	auto_close int fd = openat(e->root, "f.tmp", O_PATH | O_CLOEXEC);
	assert_int_equal(renameat(e->root, "f.tmp", e->root, "f"), 0);
	draft_file_closed(e->d, env_ino(e, "f"), true, fd);
	drafts_drain(e->ds);
	assert_true(env_is_hashed(e, "f"));
}

static void test_a_file_still_mapped_writable_is_not_hashed_in_the_background(void **state)
{
	struct env *e = *state;
	int fd;
	void *map;

	env_write(e, "f", "abc");
	fd = openat(e->root, "f", O_RDWR | O_CLOEXEC);
	map = mmap(NULL, 3, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(close(fd), 0);
	assert_int_equal(draft_file_opened(e->d, env_ino(e, "f"), true, "f"), 0);
	env_close_written(e, "f");
	drafts_drain(e->ds);
	assert_int_equal(munmap(map, 3), 0);
	assert_false(env_is_hashed(e, "f"));
}

static void test_a_file_without_a_name_is_left_alone(void **state)
{
	struct env *e = *state;

	env_write(e, "f", "abc");
	ino_t ino = env_ino(e, "f");
	auto_close int fd = openat(e->root, "f", O_PATH | O_CLOEXEC);
	assert_int_equal(draft_file_opened(e->d, ino, true, "f"), 0);
	assert_int_equal(unlinkat(e->root, "f", 0), 0);
	draft_file_closed(e->d, ino, true, fd);
	drafts_drain(e->ds);
	assert_int_equal(env_scan(e), 0);
	assert_int_equal(e->tree.n, 0);
}

/* ---- files too big to wait for ---- */

static unsigned count_descriptors(void)
{
	auto_dir DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	return n;
}

/* Two holes keep both threads of the background busy: each has a descriptor of the job and one to read. */
static void occupy_background(struct env *e)
{
	unsigned before = count_descriptors();

	env_save(e, "huge1", "1", HUGE_SIZE);
	env_save(e, "huge2", "2", HUGE_SIZE);
	env_wait_until(count_descriptors() == before + 4);
}

static void free_background(struct env *e)
{
	draft_file_touched(e->d, env_ino(e, "huge1"));
	draft_file_touched(e->d, env_ino(e, "huge2"));
	assert_int_equal(unlinkat(e->root, "huge1", 0), 0);
	assert_int_equal(unlinkat(e->root, "huge2", 0), 0);
}

static void test_hashing_is_dropped_at_once_when_the_file_is_opened_for_writing_again(void **state)
{
	struct env *e = *state;

	occupy_background(e);
	assert_int_equal(draft_file_opened(e->d, env_ino(e, "huge1"), true, "huge1"), 0);
	draft_file_touched(e->d, env_ino(e, "huge2"));
	drafts_drain(e->ds);
	draft_file_closed(e->d, env_ino(e, "huge1"), true, -1);
	assert_false(env_is_hashed(e, "huge1"));
	assert_false(env_is_hashed(e, "huge2"));
}

static void test_hashing_is_dropped_at_once_when_the_draft_goes(void **state)
{
	struct env *e = *state;

	occupy_background(e);
	assert_int_equal(draft_freeze(e->d, NULL), 0);
	draft_finish(e->d);
	drafts_drain(e->ds);
	assert_true(draft_is_gone(e->d));
}

static void test_closing_the_drafts_does_not_wait_for_what_is_being_hashed(void **state)
{
	struct env *e = *state;

	occupy_background(e);
	env_save(e, "f", "abc", 0); /* waits in the queue */
	draft_put(e->d);
	drafts_close(e->ds);
	assert_int_equal(drafts_open(e->store, false, NULL, NULL, NULL, &e->ds, NULL), 0);
	assert_int_equal(draft_get(e->ds, ENV_ID, &e->d), 0);
}

static void test_of_many_files_closed_at_once_the_largest_wait_and_the_descriptors_stay_few(void **state)
{
	enum { FILES = 300, KEPT = 64 };
	struct env *e = *state;
	unsigned before;
	char name[16];

	occupy_background(e);
	before = count_descriptors();
	for (int i = 0; i < FILES; i++) {
		int size = 1 + i * 7 % FILES; /* each of 1 to FILES once: 7 and 300 have no common divisor */
		snprintf(name, sizeof(name), "f%d", size);
		env_save(e, name, "x", size);
		assert_true(count_descriptors() <= before + KEPT);
	}
	free_background(e);
	drafts_drain(e->ds);
	assert_int_equal(count_descriptors(), before - 4);
	assert_int_equal(env_scan(e), 0);
	assert_int_equal(e->tree.n, FILES);
	for (size_t i = 0; i < e->tree.n; i++) {
		const struct draft_entry *entry = &e->tree.entries[i];
		if (entry->hashed != (entry->size > FILES - KEPT))
			fail_msg("%s is %shashed", entry->name, entry->hashed ? "" : "not ");
	}
	assert_int_equal(draft_hash(e->d, &e->tree, &e->f), 0);
	for (size_t i = 0; i < e->tree.n; i++) {
		char content[FILES] = "x";
		struct blob_id id = env_hash_of(content, e->tree.entries[i].size);
		assert_true(e->tree.entries[i].hashed);
		assert_memory_equal(&e->tree.entries[i].blob, &id, sizeof(id));
	}
}

/* A file that another user wrote through the drive. */
static void save_of_other(struct env *e, const char *path, off_t size)
{
	env_write(e, path, "x");
	assert_int_equal(fchownat(e->root, path, OTHER_USER, OTHER_USER, 0), 0);
	auto_close int fd = openat(e->root, path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, size), 0);
	assert_int_equal(close(take_fd(&fd)), 0);
	assert_int_equal(draft_file_opened(e->d, env_ino(e, path), true, path), 0);
	env_close_written(e, path);
}

static void test_one_user_s_huge_files_do_not_hold_up_those_of_another(void **state)
{
	struct env *e = *state;

	if (geteuid() != 0)
		skip();
	occupy_background(e);
	env_save(e, "huge3", "3", HUGE_SIZE); /* waits, whatever threads there are */
	save_of_other(e, "other", 10);
	env_wait_until(env_is_hashed(e, "other"));
	assert_false(env_is_hashed(e, "huge3"));
	draft_file_touched(e->d, env_ino(e, "huge3"));
	free_background(e);
}

static void test_one_user_s_many_large_files_leave_another_a_place_in_the_queue(void **state)
{
	struct env *e = *state;
	char name[16];

	if (geteuid() != 0)
		skip();
	occupy_background(e);
	unsigned before = count_descriptors();
	save_of_other(e, "other-huge", HUGE_SIZE);
	env_wait_until(count_descriptors() == before + 2);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		env_save(e, name, "x", 1000 + i);
	}
	save_of_other(e, "other", 10);
	free_background(e);
	draft_file_touched(e->d, env_ino(e, "other-huge"));
	drafts_drain(e->ds);
	assert_true(env_is_hashed(e, "other"));
	assert_int_equal(env_scan(e), 0);
	unsigned hashed = 0;
	for (size_t i = 0; i < e->tree.n; i++)
		hashed += e->tree.entries[i].hashed;
	assert_int_equal(hashed, 64);
}

static void test_a_file_opened_and_closed_again_and_again_takes_one_place_in_the_queue(void **state)
{
	struct env *e = *state;
	unsigned before;

	occupy_background(e);
	before = count_descriptors();
	for (int i = 0; i < 200; i++)
		env_save(e, "log.txt", "line\n", 0);
	assert_int_equal(count_descriptors(), before + 1);
	free_background(e);
	drafts_drain(e->ds);
	assert_int_equal(env_scan(e), 0);
	assert_blob(env_find(&e->tree, "log.txt"), "line\n");
}

static void test_a_commit_takes_over_the_files_that_wait_for_the_background(void **state)
{
	struct env *e = *state;
	struct draft *other;

	assert_int_equal(drafts_make(e->ds, 43, geteuid(), getegid(), 0755), 0);
	assert_int_equal(draft_get(e->ds, 43, &other), 0);
	occupy_background(e);
	/* the holes belong to draft 42; the file to draft 43, which is committed meanwhile */
	auto_close int fd = sys_openat(draft_root(other), "f", O_RDWR | O_CREAT, 0600);
	assert_int_equal(pwrite(fd, "abc", 3, 0), 3);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(draft_file_opened(other, st.st_ino, true, "f"), 0);
	auto_close int path_fd = openat(draft_root(other), "f", O_PATH | O_CLOEXEC);
	assert_int_equal(close(take_fd(&fd)), 0);
	draft_file_closed(other, st.st_ino, true, path_fd);

	assert_int_equal(draft_freeze(other, NULL), 0);
	assert_int_equal(draft_scan(other, &e->tree, &e->f), 0);
	assert_false(e->tree.entries[0].hashed);
	assert_int_equal(draft_hash(other, &e->tree, &e->f), 0);
	assert_blob(&e->tree.entries[0], "abc");
	draft_put(other);
	free_background(e);
}

/* ---- the commit's own hashing ---- */

static void test_a_commit_gets_the_hash_of_a_file_that_the_background_is_at(void **state)
{
	const size_t size = (size_t)32 << 20;
	auto_free char *content = calloc(1, size);
	struct env *e = *state;
	struct blob_id id;

	assert_non_null(content);
	content[0] = 'x';
	id = env_hash_of(content, size);
	for (int i = 0; i < 5; i++) {
		env_save(e, "f", "x", (off_t)size);
		assert_int_equal(env_scan(e), 0);
		assert_int_equal(draft_hash(e->d, &e->tree, &e->f), 0);
		assert_memory_equal(&e->tree.entries[0].blob, &id, sizeof(id));
		draft_thaw(e->d);
	}
}

/* A file that the background will not finish for minutes. The tree is told that it is small, so that the patience is short. */
static void test_a_commit_does_not_wait_for_the_background_beyond_its_patience(void **state)
{
	struct env *e = *state;

	occupy_background(e);
	assert_int_equal(env_scan(e), 0);
	for (size_t i = 0; i < e->tree.n; i++)
		e->tree.entries[i].size = 1;
	assert_int_equal(draft_hash(e->d, &e->tree, &e->f), -EIO); /* its size is another one */
	draft_thaw(e->d);
	free_background(e); /* one of them may not have been reached */
	drafts_drain(e->ds);
}

static void test_a_commit_hashes_what_is_left_and_links_of_one_file_share_the_result(void **state)
{
	struct env *e = *state;

	env_save(e, "a", "abc", 0);
	drafts_drain(e->ds);
	env_write(e, "b", "left");
	env_write(e, "empty", "");
	env_write(e, "secret", "nobody may read it");
	assert_int_equal(linkat(e->root, "b", e->root, "c", 0), 0);
	assert_int_equal(symlinkat("b", e->root, "link"), 0);
	assert_int_equal(mkdirat(e->root, "dir", 0755), 0);
	if (geteuid() == 0)
		assert_int_equal(fchmodat(e->root, "secret", 0, 0), 0);
	assert_int_equal(env_scan(e), 0);
	assert_int_equal(draft_hash(e->d, &e->tree, &e->f), 0);
	assert_blob(env_find(&e->tree, "a"), "abc");
	assert_blob(env_find(&e->tree, "b"), "left");
	assert_blob(env_find(&e->tree, "c"), "left");
	assert_blob(env_find(&e->tree, "empty"), "");
	assert_blob(env_find(&e->tree, "secret"), "nobody may read it");
	assert_false(env_find(&e->tree, "link")->hashed);
	assert_false(env_find(&e->tree, "dir")->hashed);
	draft_thaw(e->d);
	assert_true(env_is_hashed(e, "b")); /* a second try need not hash again */
}

static void test_a_file_changed_behind_a_frozen_draft_fails_the_commit(void **state)
{
	struct env *e = *state;

	env_write(e, "model.pth", "abc");
	assert_int_equal(env_scan(e), 0);
	env_write(e, "model.pth", "longer");
	assert_int_equal(draft_hash(e->d, &e->tree, &e->f), -EIO);
	assert_non_null(strstr(e->f.text, "model.pth"));
	draft_thaw(e->d);
	assert_int_equal(env_scan(e), 0);
	assert_int_equal(unlinkat(e->root, "model.pth", 0), 0);
	assert_int_equal(draft_hash(e->d, &e->tree, &e->f), -EIO);
}

static void set_size(const struct env *e, const char *path, off_t size)
{
	auto_close int fd = openat(e->root, path, O_WRONLY | O_CLOEXEC);

	assert_int_equal(ftruncate(fd, size), 0);
}

static bool stop_at_third(void *arg)
{
	return ++*(int *)arg >= 3;
}

static void test_a_commit_that_is_told_to_stop_does_so_and_can_be_tried_again(void **state)
{
	struct env *e = *state;
	int asked = 0;

	env_write(e, "huge", "1");
	set_size(e, "huge", HUGE_SIZE);
	assert_int_equal(env_scan(e), 0);
	assert_int_equal(draft_hash_until(e->d, &e->tree, stop_at_third, &asked, &e->f), -ECANCELED);
	assert_int_equal(asked, 3);
	assert_int_equal(e->f.error, 0);
	assert_false(env_find(&e->tree, "huge")->hashed);
	draft_thaw(e->d);
	set_size(e, "huge", 1);
	assert_int_equal(env_scan(e), 0);
	assert_int_equal(draft_hash(e->d, &e->tree, &e->f), 0);
	assert_blob(env_find(&e->tree, "huge"), "1");
}

static void test_a_draft_that_is_not_frozen_is_not_hashed(void **state)
{
	struct env *e = *state;
	struct draft_tree t = {0};

	assert_int_equal(draft_scan(e->d, &t, NULL), -EINVAL);
	assert_int_equal(draft_hash(e->d, &t, NULL), -EINVAL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, env_setup, env_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_a_file_is_hashed_when_its_last_writer_closes_it),
		T(test_a_file_that_a_reader_closes_is_not_hashed),
		T(test_a_hash_is_void_after_anything_that_may_have_changed_the_content),
		T(test_an_inode_number_that_comes_back_with_another_file_does_not_bring_its_hash),
		T(test_a_hash_outlives_rename_and_chmod_that_the_drive_has_told_of),
		T(test_a_rename_before_the_hashing_begins_does_no_harm),
		T(test_a_file_still_mapped_writable_is_not_hashed_in_the_background),
		T(test_a_file_without_a_name_is_left_alone),
		T(test_hashing_is_dropped_at_once_when_the_file_is_opened_for_writing_again),
		T(test_hashing_is_dropped_at_once_when_the_draft_goes),
		T(test_closing_the_drafts_does_not_wait_for_what_is_being_hashed),
		T(test_of_many_files_closed_at_once_the_largest_wait_and_the_descriptors_stay_few),
		T(test_one_user_s_huge_files_do_not_hold_up_those_of_another),
		T(test_one_user_s_many_large_files_leave_another_a_place_in_the_queue),
		T(test_a_file_opened_and_closed_again_and_again_takes_one_place_in_the_queue),
		T(test_a_commit_takes_over_the_files_that_wait_for_the_background),
		T(test_a_commit_gets_the_hash_of_a_file_that_the_background_is_at),
		T(test_a_commit_does_not_wait_for_the_background_beyond_its_patience),
		T(test_a_commit_hashes_what_is_left_and_links_of_one_file_share_the_result),
		T(test_a_file_changed_behind_a_frozen_draft_fails_the_commit),
		T(test_a_commit_that_is_told_to_stop_does_so_and_can_be_tried_again),
		T(test_a_draft_that_is_not_frozen_is_not_hashed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
