/* What is special to the store in a directory: linking instead of copying, sealing, distrust of what is not sealed,
 * copies where no link can be had; and every system call of a put made to fail in turn. */
#include "blob_env.h"
#include "local.h"

#include <dirent.h>
#include <linux/stat.h>
#include <sys/file.h>

static int open_local(int dirfd, struct blob_store **ret)
{
	return blob_store_open_local(dirfd, true, NULL, ret, NULL);
}

static const struct implementation local = {"local", open_local};

#ifdef MINTFS_FAULTS
/* How the store is to sync from now on, whatever lies below it. */
static void set_way(struct env *e, enum local_way way)
{
	local_store(e->store)->way = way;
}
#endif

static void blob_path(const struct blob_id *id, char out[80])
{
	char hex[BLOB_HEX_SIZE];

	blob_id_hex(id, hex);
	snprintf(out, 80, "blobs/%.2s/%s", hex, hex + 2);
}

static struct stat stat_blob(const struct env *e, const struct blob_id *id)
{
	struct stat st = {0};
	char path[80];

	blob_path(id, path);
	assert_int_equal(fstatat(e->dir, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st;
}

static struct stat stat_src(const struct env *e, const char *name)
{
	struct stat st = {0};

	assert_int_equal(fstatat(e->src, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st;
}

static bool same_inode(const struct env *e, const struct blob_item *item)
{
	struct stat a = stat_blob(e, &item->id), b = stat_src(e, item->path);

	return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

static bool is_immutable(const struct env *e, const struct blob_id *id)
{
	struct statx stx = {0};
	char path[80];

	blob_path(id, path);
	assert_int_equal(statx(e->dir, path, AT_SYMLINK_NOFOLLOW, STATX_TYPE, &stx), 0);
	return stx.stx_attributes & STATX_ATTR_IMMUTABLE;
}

/* Needs a file system that has the flag, and the privilege. */
static bool have_immutable(const struct env *e)
{
	auto_close int fd = openat(e->dir, "probe", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	bool have = sys_set_immutable(fd, true) == 0;

	sys_set_immutable(fd, false);
	unlinkat(e->dir, "probe", 0);
	return have;
}

/* Everything in blobs/ is a directory of two digits: no temporary name is left. */
static void assert_tidy(const struct env *e)
{
	auto_dir DIR *dir = fdopendir(openat(e->dir, "blobs", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *d;

	assert_non_null(dir);
	while ((d = readdir(dir)) != NULL)
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 && strlen(d->d_name) != 2)
			fail_msg("left behind: blobs/%s", d->d_name);
}

static void assert_sealed_copy(const struct env *e, const struct blob_item *item)
{
	struct stat st = stat_blob(e, &item->id);

	assert_false(same_inode(e, item));
	assert_int_equal(st.st_mode & 07777, 0444);
	assert_int_equal(st.st_nlink, 1);
	assert_sound(e->store, item);
	assert_tidy(e);
}

/* ---- layout ---- */

static void test_a_put_links_the_file_itself(void **state)
{
	struct env *e = *state;
	struct blob_item item = put_seeded(e->src, "model.pth", 1, 1000);
	struct stat st;

	assert_put(e->store, &item, 1);
	assert_true(same_inode(e, &item));
	assert_int_equal(stat_blob(e, &item.id).st_nlink, 2);
	assert_int_equal(fstatat(e->dir, "blobs", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

static void test_a_store_that_is_not_there_is_made_only_when_asked(void **state)
{
	struct env *e = *state;
	struct blob_store *s = NULL;
	struct fault f = FAULT_INIT;

	assert_int_equal(mkdirat(e->src, "empty", 0700), 0);
	auto_close int dir = openat(e->src, "empty", O_PATH | O_CLOEXEC);
	assert_int_equal(blob_store_open_local(dir, false, NULL, &s, &f), -ENOENT);
	assert_null(s);
	assert_non_null(strstr(f.text, "blobs"));
	assert_int_equal(blob_store_open_local(dir, true, NULL, &s, NULL), 0);
	blob_store_close(s);
	assert_int_equal(blob_store_open_local(dir, false, NULL, &s, NULL), 0);
	blob_store_close(s);
}

static void test_a_sealed_blob_cannot_be_changed(void **state)
{
	struct env *e = *state;
	struct blob_item item = put_seeded(e->src, "a", 1, 1000);
	char path[80];

	assert_put(e->store, &item, 1);
	assert_int_equal(unlinkat(e->src, "a", 0), 0);
	blob_seal(e->store, &item.id, item.ret_inode);
	assert_int_equal(stat_blob(e, &item.id).st_mode & 07777, 0444);
	if (!have_immutable(e))
		skip();
	blob_path(&item.id, path);
	assert_true(is_immutable(e, &item.id));
	assert_int_equal(openat(e->dir, path, O_WRONLY | O_CLOEXEC), -1);
	assert_int_equal(unlinkat(e->dir, path, 0), -1);
}

static void test_strays_are_passed_over(void **state)
{
	struct env *e = *state;
	struct blob_item item = put_seeded(e->src, "a", 1, 1000);
	char path[80];

	assert_put(e->store, &item, 1);
	assert_int_equal(mkdirat(e->dir, "blobs/zz", 0700), 0);
	mkdirat(e->dir, "blobs/00", 0700);
	put_file(e->dir, "blobs/readme", "x", 1);
	put_file(e->dir, "blobs/00/short", "x", 1);
	put_file(e->dir, "blobs/00/ZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZZ", "x", 1);
	mkdirat(e->dir, "blobs/01", 0700);
	snprintf(path, sizeof path, "blobs/01/%062d", 0);
	assert_int_equal(mkdirat(e->dir, path, 0700), 0); /* a directory with a blob's name */
	put_file(e->dir, "blobs/02", "a file where a directory should be", 5);
	assert_int_equal(count_blobs(e->store), 1);
}

static void test_verify_finds_changed_bytes(void **state)
{
	struct env *e = *state;
	struct blob_item item = put_seeded(e->src, "a", 1, 1000);
	struct fault f = FAULT_INIT;

	assert_put(e->store, &item, 1);
	put_seeded(e->src, "a", 2, 1000); /* in place: the draft was never committed */
	assert_int_equal(blob_verify(e->store, &item.id, 1000, &f), -EIO);
	assert_non_null(strstr(f.text, "changed"));
}

/* ---- what is there already, but not to be trusted ---- */

static void test_a_second_attempt_with_the_same_file_links_it_still(void **state)
{
	struct env *e = *state;
	struct blob_item item = put_seeded(e->src, "a", 1, 1000);

	assert_put(e->store, &item, 1);
	assert_put(e->store, &item, 1);
	assert_false(item.ret_new);
	assert_true(same_inode(e, &item));
}

/* A commit that failed leaves a blob whose inode is still a draft's file. Whoever comes with the same content must not
 * depend on it. */
static void test_a_draft_left_behind_cannot_change_what_others_commit(void **state)
{
	struct env *e = *state;
	struct blob_item mine = put_seeded(e->src, "mine", 1, 1000), theirs = put_seeded(e->src, "theirs", 1, 1000), third;

	assert_put(e->store, &mine, 1);
	put_seeded(e->src, "mine", 2, 1000); /* same size: only distrust helps */
	assert_put(e->store, &theirs, 1);
	assert_false(theirs.ret_new);
	assert_sealed_copy(e, &theirs);
	put_seeded(e->src, "mine", 3, 1000);
	put_seeded(e->src, "theirs", 4, 1000); /* its commit fails too, later, and training goes on */
	assert_sound(e->store, &mine);
	third = put_seeded(e->src, "third", 1, 1000);
	assert_put(e->store, &third, 1);
	assert_sound(e->store, &third);
}

/* Swept after it was put, and put again by another draft: for the catalog to refer to it would be to trust that draft. */
static void test_what_another_draft_put_since_a_sweep_is_not_what_was_put(void **state)
{
	struct env *e = *state;
	struct blob_item mine[] = {put_seeded(e->src, "mine", 1, 1000), put_seeded(e->src, "equal", 1, 1000)}, theirs = put_seeded(e->src, "theirs", 1, 1000);

	assert_put(e->store, mine, 2);
	assert_int_equal(blob_still_put(e->store, &mine[0]), 0);
	assert_int_equal(blob_still_put(e->store, &mine[1]), 0);
	assert_int_equal(blob_remove(e->store, &theirs.id), 0);
	assert_int_equal(blob_still_put(e->store, &mine[0]), -EAGAIN);
	assert_put(e->store, &theirs, 1);
	assert_int_equal(blob_still_put(e->store, &mine[0]), -EAGAIN);
	assert_int_equal(blob_still_put(e->store, &mine[1]), -EAGAIN);
	assert_int_equal(blob_still_put(e->store, &theirs), 0);
	assert_put(e->store, mine, 2);
	assert_sealed_copy(e, &mine[0]);
	assert_int_equal(blob_still_put(e->store, &mine[0]), 0);
	assert_int_equal(blob_still_put(e->store, &mine[1]), 0);
	assert_int_equal(blob_still_put(e->store, &theirs), 0);
}

/* A version that was retired and swept before its contents were sealed: under the name may be the file of who puts the same just now. */
static void test_the_file_of_a_draft_at_work_is_not_sealed_but_copied(void **state)
{
	struct env *e = *state;
	struct blob_item mine = put_seeded(e->src, "mine", 1, 1000), theirs = put_seeded(e->src, "theirs", 1, 1000);

	assert_put(e->store, &mine, 1);
	assert_int_equal(unlinkat(e->src, "mine", 0), 0);
	assert_int_equal(blob_remove(e->store, &mine.id), 0);
	assert_put(e->store, &theirs, 1);
	blob_seal(e->store, &mine.id, mine.ret_inode);
	assert_sealed_copy(e, &theirs);
	put_seeded(e->src, "theirs", 2, 1000); /* its commit fails, and training goes on */
	assert_sound(e->store, &mine);
	assert_int_equal(unlinkat(e->src, "theirs", 0), 0);
}

static void test_a_blob_of_wrong_size_is_replaced_also_when_sealed(void **state)
{
	struct env *e = *state;
	struct blob_item item = put_seeded(e->src, "a", 1, 1000);

	assert_put(e->store, &item, 1);
	put_seeded(e->src, "a", 2, 10);
	assert_int_equal(unlinkat(e->src, "a", 0), 0);
	blob_seal(e->store, &item.id, item.ret_inode); /* 10 bytes, immutable where that is possible */
	item = put_seeded(e->src, "a", 1, 1000);
	assert_put(e->store, &item, 1);
	assert_true(item.ret_new);
	assert_sealed_copy(e, &item);
	assert_int_equal(is_immutable(e, &item.id), have_immutable(e));
	put_seeded(e->src, "a", 3, 1000);
	item.path = "gone"; /* sound now: its file is not even looked at */
	assert_put(e->store, &item, 1);
	assert_sound(e->store, &item);
}

static void test_an_empty_file_left_by_a_power_cut_is_replaced(void **state)
{
	struct env *e = *state;
	struct blob_item item = put_seeded(e->src, "a", 1, 1000);
	char path[80];

	assert_put(e->store, &item, 1);
	blob_path(&item.id, path);
	assert_int_equal(unlinkat(e->dir, path, 0), 0);
	put_file(e->dir, path, "", 0);
	assert_put(e->store, &item, 1);
	assert_sealed_copy(e, &item);
}

/* One inode under two names, one of them of another content: the flag must survive that the other one goes, by a sweep
 * or a put. */
static void test_the_immutable_flag_survives_the_loss_of_a_second_name(void **state)
{
	struct env *e = *state;
	struct blob_item old, now, again;

	if (!have_immutable(e))
		skip();
	for (int by_put = 0; by_put < 2; by_put++) {
		old = put_seeded(e->src, "a", 1, 1000);
		assert_put(e->store, &old, 1);
		now = put_seeded(e->src, "a", 2 + (unsigned)by_put, 1000); /* a failed commit, then written anew */
		assert_put(e->store, &now, 1);
		assert_int_equal(unlinkat(e->src, "a", 0), 0);
		blob_seal(e->store, &now.id, now.ret_inode);
		assert_int_equal(stat_blob(e, &old.id).st_ino, stat_blob(e, &now.id).st_ino);
		if (by_put) {
			again = put_seeded(e->src, "again", 1, 1000);
			assert_put(e->store, &again, 1);
			assert_sealed_copy(e, &again);
		} else {
			assert_int_equal(blob_remove(e->store, &old.id), 0);
			assert_absent(e->store, &old.id);
		}
		assert_true(is_immutable(e, &now.id));
		assert_sound(e->store, &now);
	}
}

/* ---- copies ---- */

static void test_content_of_another_file_system_is_copied(void **state)
{
	struct env *e = *state;
	char other_path[] = "/dev/shm/mintfs-blob-XXXXXX";
	struct stat here, there;
	struct blob_item item;
	int other;

	if (!mkdtemp(other_path))
		skip();
	other = open(other_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(fstat(other, &there), 0);
	assert_int_equal(fstat(e->dir, &here), 0);
	if (here.st_dev == there.st_dev) {
		close(other);
		rmdir(other_path);
		skip();
	}
	item = put_seeded(other, "model.pth", 1, (3 << 20) + 17);
	assert_put(e->store, &item, 1);
	assert_true(item.ret_new);
	close(other);
	assert_int_equal(sys_remove_tree(AT_FDCWD, other_path), 0);
	assert_sound(e->store, &item);
	assert_int_equal(stat_blob(e, &item.id).st_nlink, 1);
	assert_tidy(e);
}

static void test_leftovers_of_a_crash_are_swept_and_those_in_use_are_not(void **state)
{
	struct env *e = *state;
	struct stat st;
	int held;

	put_file(e->dir, "blobs/tmp.0000000000000001", "x", 1);
	put_file(e->dir, "blobs/tmp.0000000000000002", "x", 1);
	held = openat(e->dir, "blobs/tmp.0000000000000002", O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(held, LOCK_EX), 0);
	blob_store_close(e->store);
	assert_int_equal(open_local(e->dir, &e->store), 0);
	assert_int_equal(fstatat(e->dir, "blobs/tmp.0000000000000001", &st, 0), -1);
	assert_int_equal(fstatat(e->dir, "blobs/tmp.0000000000000002", &st, 0), 0);
	close(held);
}

#ifdef MINTFS_FAULTS

static void test_where_link_is_refused_the_bytes_are_copied(void **state)
{
	static const int refusals[] = {EXDEV, EMLINK, EPERM, EOPNOTSUPP};
	static const size_t lengths[] = {0, 1000, 1 << 20, (2 << 20) + 1};
	struct env *e = *state;

	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		struct blob_item item = put_seeded(e->src, "a", (unsigned)i, lengths[i]);

		sys_fault_arm("linkat", 1, refusals[i], false);
		assert_put(e->store, &item, 1);
		assert_true(sys_fault_hits() > 0);
		sys_fault_arm(NULL, 0, 0, false);
		assert_true(item.ret_new);
		assert_sealed_copy(e, &item);
	}
}

static void test_a_copy_keeps_its_holes(void **state)
{
	enum { SIZE = 16 << 20 };
	struct env *e = *state;
	auto_close int fd = openat(e->src, "sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	struct blob_item item = {.dirfd = e->src, .path = "sparse"};

	assert_int_equal(pwrite(fd, "begin", 5, 100), 5);
	assert_int_equal(pwrite(fd, "middle", 6, SIZE / 2), 6);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(blob_hash_fd(fd, NULL, &item.id, &item.size), 0);
	assert_int_equal(item.size, SIZE);
	if (stat_src(e, "sparse").st_blocks * 512 > SIZE / 2)
		skip(); /* a file system without holes */
	sys_fault_arm("linkat", 1, EMLINK, false);
	assert_put(e->store, &item, 1);
	assert_sealed_copy(e, &item);
	assert_true(stat_blob(e, &item.id).st_blocks * 512 < SIZE / 2);
}

static void test_without_tmpfile_a_named_temporary_does(void **state)
{
	static const int refusals[] = {EOPNOTSUPP, EISDIR};
	struct env *e = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(refusals); i++) {
		struct blob_item first = put_seeded(e->src, "first", i, 5000), second = put_seeded(e->src, "second", i, 5000);

		set_way(e, LOCAL_EACH);
	assert_put(e->store, &first, 1);
		sys_fault_arm("openat", 1, refusals[i], false); /* the first openat of a put that copies is that with O_TMPFILE */
		assert_put(e->store, &second, 1);
		sys_fault_arm(NULL, 0, 0, false);
		assert_sealed_copy(e, &second);
		assert_int_equal(unlinkat(e->src, "first", 0), 0);
	}
}

static void test_a_full_disk_is_told_with_the_name_of_the_file(void **state)
{
	static const char *const calls[] = {"pwrite", "fsync", "linkat"};
	struct env *e = *state;
	struct blob_item first = put_seeded(e->src, "first", 1, 5000);
	struct blob_item second = put_seeded(e->src, "checkpoint_best.pth", 1, 5000);

	set_way(e, LOCAL_EACH);
	assert_put(e->store, &first, 1);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		struct fault f = FAULT_INIT;

		sys_fault_arm(calls[i], 1, ENOSPC, true);
		assert_int_equal(blob_put_batch(e->store, &second, 1, &f), -ENOSPC);
		sys_fault_arm(NULL, 0, 0, false);
		assert_int_equal(f.error, ENOSPC);
		assert_non_null(strstr(f.text, "checkpoint_best.pth"));
		assert_non_null(strstr(f.text, "No space left"));
		assert_tidy(e);
	}
}

static void test_no_name_appears_before_its_bytes_are_safe(void **state)
{
	struct env *e = *state;
	struct blob_item items[40];
	char names[40][8];

	for (unsigned i = 0; i < 40; i++) {
		snprintf(names[i], sizeof names[i], "f%u", i);
		items[i] = put_seeded(e->src, names[i], i, 100);
	}
	static const struct { enum local_way way; const char *call; mode_t mode; } ways[] = {
		{LOCAL_EACH, "fsync", 0644}, {LOCAL_JOURNAL, "write_range", 0644},
		{LOCAL_ALL, "syncfs", 0444}}; /* files that look like sealed blobs */

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		set_way(e, ways[i].way);
		assert_int_equal(fchmodat(e->src, names[7], ways[i].mode, 0), 0);
		sys_fault_arm(ways[i].call, 1, EIO, true);
		assert_int_equal(blob_put_batch(e->store, items, 40, NULL), -EIO);
		if (ways[i].way == LOCAL_ALL) /* the others share the syncfs of the names */
			assert_absent(e->store, &items[7].id);
		else
			assert_int_equal(count_blobs(e->store), 0);
	}
	set_way(e, LOCAL_JOURNAL);
	sys_fault_arm("fsync", 1, EIO, true); /* of the journal: what fails now is names */
	assert_int_equal(blob_put_batch(e->store, items, 40, NULL), -EIO);
	assert_int_equal(count_blobs(e->store), 40);
	sys_fault_arm(NULL, 0, 0, false);
	assert_put(e->store, items, 40);
}

/* Where bytes and names share one syncfs, a failure leaves names of which nobody knows what they lead to. */
static void test_a_name_left_by_a_failed_sync_is_taken_for_nothing(void **state)
{
	struct env *e = *state;
	struct blob_item first = put_seeded(e->src, "first", 1, 5000), second = put_seeded(e->src, "second", 1, 5000);

	set_way(e, LOCAL_ALL);
	sys_fault_arm("syncfs", 1, EIO, false);
	assert_int_equal(blob_put_batch(e->store, &first, 1, NULL), -EIO);
	put_seeded(e->src, "first", 2, 5000); /* what a power cut may have made of it */
	assert_put(e->store, &second, 1);
	assert_sound(e->store, &second);
}

static void test_a_copy_takes_the_name_only_when_its_bytes_are_safe(void **state)
{
	struct env *e = *state;
	struct blob_item first = put_seeded(e->src, "first", 1, 5000), second = put_seeded(e->src, "second", 1, 5000);

	set_way(e, LOCAL_EACH);
	assert_put(e->store, &first, 1);
	sys_fault_arm("fsync", 2, EIO, false); /* of the second file, then of the copy */
	assert_int_equal(blob_put_batch(e->store, &second, 1, NULL), -EIO);
	assert_true(same_inode(e, &first));
	assert_tidy(e);
	sys_fault_arm("fsync", 100, EIO, false);
	assert_put(e->store, &second, 1);
	assert_int_equal(sys_fault_hits(), 4); /* and blobs/xx, blobs/ */
}

/* What the kernel answers when somebody else was faster: the name is there although it was not seen, or it was sealed
 * before the rename. */
static void test_a_lost_race_is_run_again(void **state)
{
	static const struct { const char *call; int error; } lost[] = {{"linkat", EEXIST}, {"renameat2", EPERM}};
	struct env *e = *state;

	for (size_t i = 0; i < ARRAY_SIZE(lost); i++) {
		struct blob_item first = put_seeded(e->src, "first", (unsigned)i, 5000);
		struct blob_item second = put_seeded(e->src, "second", (unsigned)i, 5000);

		sys_fault_arm(lost[i].call, 1, lost[i].error, false);
		assert_put(e->store, &first, 1);
		assert_put(e->store, &second, 1);
		assert_true(sys_fault_hits() > 1);
		sys_fault_arm(NULL, 0, 0, false);
		assert_sealed_copy(e, &second);
		assert_int_equal(unlinkat(e->src, "first", 0), 0);
	}
	/* It is not run for ever. */
	struct blob_item first = put_seeded(e->src, "first", 9, 5000), second = put_seeded(e->src, "second", 9, 5000);
	assert_put(e->store, &first, 1);
	sys_fault_arm("renameat2", 1, EPERM, true);
	assert_int_equal(blob_put_batch(e->store, &second, 1, NULL), -EPERM);
	assert_tidy(e);
}

static void test_directories_are_synced_also_for_contents_that_were_there(void **state)
{
	struct env *e = *state;
	struct blob_item item = put_seeded(e->src, "a", 1, 100);

	static const struct { enum local_way way; const char *call; int n; } ways[] = {
		{LOCAL_EACH, "fsync", 2}, /* blobs/xx and blobs/ */
		{LOCAL_ALL, "syncfs", 1}, {LOCAL_JOURNAL, "fsync", 1}};

	assert_put(e->store, &item, 1);
	assert_int_equal(unlinkat(e->src, "a", 0), 0);
	blob_seal(e->store, &item.id, item.ret_inode);
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		set_way(e, ways[i].way);
		for (int nth = 1; nth <= ways[i].n; nth++) {
			sys_fault_arm(ways[i].call, nth, EIO, false);
			assert_int_equal(blob_put_batch(e->store, &item, 1, NULL), -EIO);
		}
		sys_fault_arm(ways[i].call, 100, EIO, false);
		assert_put(e->store, &item, 1);
		assert_int_equal(sys_fault_hits(), ways[i].n);
	}
}

static uint64_t change_ns(const struct env *e)
{
	struct stat st;

	assert_int_equal(fstatat(e->dir, "blobs", &st, 0), 0);
	return (uint64_t)timespec_ns(st.st_ctim);
}

/* With a journal one sync carries all that was changed before what is synced: so that is changed last. */
static void test_with_a_journal_the_directory_that_is_synced_is_changed_last(void **state)
{
	struct env *e = *state;
	struct blob_item items[3];
	uint64_t before;

	set_way(e, LOCAL_JOURNAL);
	for (unsigned i = 0; i < 3; i++)
		items[i] = put_seeded(e->src, (const char *[]){"a", "b", "c"}[i], i, 100);
	assert_put(e->store, items, 3); /* makes blobs/xx */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(unlinkat(e->src, items[i].path, 0), 0);
		blob_seal(e->store, &items[i].id, items[i].ret_inode);
	}
	before = change_ns(e);
	while (time_now_ns() - (int64_t)before < 20000000) /* some ticks of the clock that file systems use */
		;
	sys_fault_arm("fsync", 100, EIO, false);
	assert_put(e->store, items, 3); /* links nothing */
	assert_int_equal(sys_fault_hits(), 1);
	assert_true(change_ns(e) > before);
}

/* Puts that take each way through the code: before, what is done without faults; items, what is put with them. */
enum way { FEW_FILES, MANY_FILES, OVER_A_SHARED_BLOB, OVER_A_DAMAGED_BLOB, WAYS };

static size_t prepare(struct env *e, enum way way, unsigned seed, struct blob_item items[40], char names[40][16])
{
	size_t n = way == MANY_FILES ? 40 : 3;
	struct blob_item old;

	for (unsigned i = 0; i < n; i++) {
		snprintf(names[i], sizeof names[i], "f%u", i);
		unlinkat(e->src, names[i], 0);
		items[i] = put_seeded(e->src, names[i], 1000 * seed + (i < 3 ? i % 2 : i), 3000); /* the third is the first again */
	}
	if (way == OVER_A_SHARED_BLOB || way == OVER_A_DAMAGED_BLOB) {
		unlinkat(e->src, "old", 0);
		old = put_seeded(e->src, "old", 1000 * seed, 3000);
		assert_put(e->store, &old, 1);
	}
	if (way == OVER_A_DAMAGED_BLOB) {
		put_seeded(e->src, "old", 7, 10);
		assert_int_equal(unlinkat(e->src, "old", 0), 0);
		blob_seal(e->store, &old.id, old.ret_inode);
	}
	return n;
}

/* The nth call of a kind fails, for each n there is (of many files, after the first ones, for each seventh). Returns
 * how many there are. */
static unsigned fail_each_call(struct env *e, enum way way, const char *call, unsigned *seed)
{
	for (int nth = 1;; nth += way == MANY_FILES && nth > 2 ? 7 : 1) {
		char names[40][16];
		struct blob_item items[40];
		size_t n = prepare(e, way, ++*seed, items, names);
		struct fault f = FAULT_INIT;
		int r, hits;

		sys_fault_arm(call, nth, EIO, false);
		r = blob_put_batch(e->store, items, n, &f);
		hits = sys_fault_hits();
		sys_fault_arm(NULL, 0, 0, false);
		if (hits >= nth && (r != -EIO || f.error != EIO || f.text[0] == '\0'))
			fail_msg("way %d, %s number %d failed, but the put gave %d (%s)", (int)way, call, nth, r, f.text);
		if (hits < nth && r != 0)
			fail_msg("way %d, without a fault in %s: %d (%s)", (int)way, call, r, f.text);
		assert_tidy(e);
		assert_put(e->store, items, n);
		for (size_t i = 0; i < n; i++)
			assert_sound(e->store, &items[i]);
		if (hits < nth)
			return (unsigned)hits;
	}
}

static void test_whatever_call_fails_the_put_says_so_and_the_next_one_works(void **state)
{
	static const struct { const char *call; enum local_way sync; unsigned at_least[WAYS]; } table[] = {
		/* few files, many files, over a shared blob, over a damaged one; the least number of calls the design asks for */
		{"fstatat", LOCAL_CHOOSE, {2, 39, 2, 2}},
		{"openat_beneath", LOCAL_EACH, {4, 78, 4, 4}}, /* looked at first, then placed */
		{"fstat", LOCAL_EACH, {4, 78, 6, 6}},
		{"fsync", LOCAL_EACH, {4, 60, 5, 5}}, /* bytes, directories (some ids share one), the copy */
		{"syncfs", LOCAL_ALL, {1, 1, 1, 1}},
		{"fsync", LOCAL_ALL, {0, 0, 1, 1}},
		{"write_range", LOCAL_JOURNAL, {2, 39, 2, 2}},
		{"utimensat", LOCAL_JOURNAL, {1, 1, 1, 1}},
		{"fsync", LOCAL_JOURNAL, {1, 1, 2, 2}},
		{"linkat", LOCAL_CHOOSE, {2, 39, 3, 3}},
		{"openat", LOCAL_EACH, {2, 20, 4, 4}},
		{"pread", LOCAL_CHOOSE, {0, 0, 1, 1}},
		{"pwrite", LOCAL_CHOOSE, {0, 0, 1, 1}},
		{"ftruncate", LOCAL_CHOOSE, {0, 0, 1, 1}},
		{"fchmod", LOCAL_CHOOSE, {0, 0, 1, 1}},
		{"lock", LOCAL_CHOOSE, {0, 0, 1, 1}},
		{"renameat2", LOCAL_CHOOSE, {0, 0, 1, 1}},
		{"close", LOCAL_CHOOSE, {0, 0, 1, 1}},
	};
	struct env *e = *state;
	unsigned seed = 0;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		for (int way = 0; way < WAYS; way++) {
			set_way(e, table[i].sync);
			unsigned calls = fail_each_call(e, (enum way)way, table[i].call, &seed);
			if (calls < table[i].at_least[way])
				fail_msg("way %d made only %u calls of %s", way, calls, table[i].call);
		}
}

static void test_whatever_call_fails_no_temporary_name_stays(void **state)
{
	struct env *e = *state;
	unsigned seed = 0;
	int nth = 1, hits;

	do { /* any call, and all after it: the disk is gone */
		char names[40][16];
		struct blob_item items[40];
		size_t n = prepare(e, OVER_A_SHARED_BLOB, ++seed, items, names);
		int r;

		sys_fault_arm("*", nth, EIO, true);
		r = blob_put_batch(e->store, items, n, NULL);
		hits = sys_fault_hits();
		sys_fault_arm(NULL, 0, 0, false);
		assert_int_equal(r, hits < nth ? 0 : -EIO);
		assert_tidy(e);
		assert_put(e->store, items, n);
		for (size_t i = 0; i < n; i++)
			assert_sound(e->store, &items[i]);
	} while (hits >= nth++);
	assert_true(nth > 20);
}

static void test_a_directory_that_cannot_be_made_is_told(void **state)
{
	struct env *e = *state;
	struct blob_item item = put_seeded(e->src, "a", 1, 100);
	struct fault f = FAULT_INIT;

	sys_fault_arm("mkdirat", 1, ENOSPC, false);
	assert_int_equal(blob_put_batch(e->store, &item, 1, &f), -ENOSPC);
	assert_non_null(strstr(f.text, "a: "));
	assert_put(e->store, &item, 1);
	assert_sound(e->store, &item);
}

static void test_a_read_error_is_not_taken_for_a_digest(void **state)
{
	struct env *e = *state;
	struct blob_item item = put_seeded(e->src, "a", 1, (2 << 20) + 5);
	struct blob_id id = {{0}}, untouched = id;
	auto_close int fd = openat(e->src, "a", O_RDONLY | O_CLOEXEC);
	uint64_t size = 42;

	assert_put(e->store, &item, 1);
	for (int nth = 1; nth <= 3; nth++) {
		sys_fault_arm("pread", nth, EIO, false);
		assert_int_equal(blob_hash_fd(fd, NULL, &id, &size), -EIO);
		assert_true(blob_id_equal(&id, &untouched));
		sys_fault_arm("pread", nth, EIO, false);
		assert_int_equal(blob_verify(e->store, &item.id, item.size, NULL), -EIO);
	}
}

#endif

#define LOCAL_TEST(test) cmocka_unit_test_prestate_setup_teardown(test, env_setup, env_teardown, &impl)

int main(void)
{
	struct implementation impl = local;
	const struct CMUnitTest tests[] = {
		LOCAL_TEST(test_a_put_links_the_file_itself),
		LOCAL_TEST(test_a_store_that_is_not_there_is_made_only_when_asked),
		LOCAL_TEST(test_a_sealed_blob_cannot_be_changed),
		LOCAL_TEST(test_strays_are_passed_over),
		LOCAL_TEST(test_verify_finds_changed_bytes),
		LOCAL_TEST(test_a_second_attempt_with_the_same_file_links_it_still),
		LOCAL_TEST(test_a_draft_left_behind_cannot_change_what_others_commit),
		LOCAL_TEST(test_what_another_draft_put_since_a_sweep_is_not_what_was_put),
		LOCAL_TEST(test_the_file_of_a_draft_at_work_is_not_sealed_but_copied),
		LOCAL_TEST(test_a_blob_of_wrong_size_is_replaced_also_when_sealed),
		LOCAL_TEST(test_an_empty_file_left_by_a_power_cut_is_replaced),
		LOCAL_TEST(test_the_immutable_flag_survives_the_loss_of_a_second_name),
		LOCAL_TEST(test_content_of_another_file_system_is_copied),
		LOCAL_TEST(test_leftovers_of_a_crash_are_swept_and_those_in_use_are_not),
#ifdef MINTFS_FAULTS
		LOCAL_TEST(test_where_link_is_refused_the_bytes_are_copied),
		LOCAL_TEST(test_a_copy_keeps_its_holes),
		LOCAL_TEST(test_without_tmpfile_a_named_temporary_does),
		LOCAL_TEST(test_a_full_disk_is_told_with_the_name_of_the_file),
		LOCAL_TEST(test_no_name_appears_before_its_bytes_are_safe),
		LOCAL_TEST(test_a_name_left_by_a_failed_sync_is_taken_for_nothing),
		LOCAL_TEST(test_a_copy_takes_the_name_only_when_its_bytes_are_safe),
		LOCAL_TEST(test_a_lost_race_is_run_again),
		LOCAL_TEST(test_directories_are_synced_also_for_contents_that_were_there),
		LOCAL_TEST(test_with_a_journal_the_directory_that_is_synced_is_changed_last),
		LOCAL_TEST(test_whatever_call_fails_the_put_says_so_and_the_next_one_works),
		LOCAL_TEST(test_whatever_call_fails_no_temporary_name_stays),
		LOCAL_TEST(test_a_directory_that_cannot_be_made_is_told),
		LOCAL_TEST(test_a_read_error_is_not_taken_for_a_digest),
#endif
	};

	return cmocka_run_group_tests_name("local", tests, NULL, NULL);
}
