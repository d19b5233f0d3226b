/* Reading a frozen tree: order, kinds of entries, links, what is refused; and the sums over a draft that is being written. */
#include "draft_env.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

static void make_dir(struct env *e, const char *path)
{
	assert_int_equal(mkdirat(e->root, path, 0755), 0);
}

/* What the header promises of every tree. */
static void assert_in_order(const struct draft_tree *t)
{
	int64_t expected = (int64_t)t->n_top;

	for (size_t i = 0; i < t->n; i++) {
		const struct draft_entry *e = &t->entries[i];
		const char *base = strrchr(e->path, '/');
		assert_string_equal(e->name, base ? base + 1 : e->path);
		assert_int_equal(e->parent < 0, i < t->n_top);
		assert_true(e->parent < (int64_t)i);
		if (e->parent >= 0) {
			const struct draft_entry *p = &t->entries[e->parent];
			assert_int_equal(p->type, DRAFT_DIRECTORY);
			assert_in_range(i, p->first_child, p->first_child + p->n_children - 1);
			assert_memory_equal(e->path, p->path, strlen(p->path));
			assert_int_equal(e->path[strlen(p->path)], '/');
		}
		if (i > 0 && t->entries[i - 1].parent == e->parent)
			assert_true(strcmp(t->entries[i - 1].name, e->name) < 0);
		if (e->type == DRAFT_DIRECTORY) { /* the children of one follow those of the one before */
			assert_int_equal(e->first_child, expected);
			expected += e->n_children;
		} else {
			assert_int_equal(e->n_children, 0);
		}
	}
	assert_int_equal(expected, t->n);
}

static void test_an_empty_draft_has_an_empty_tree(void **state)
{
	struct env *e = *state;

	assert_int_equal(env_scan(e), 0);
	assert_int_equal(e->tree.n, 0);
	assert_int_equal(e->tree.n_top, 0);
	assert_int_equal(e->tree.size, 0);
	assert_int_equal(e->tree.root.st_mode, S_IFDIR | 0755);
	assert_int_equal(draft_hash(e->d, &e->tree, &e->f), 0);
}

static void test_entries_come_breadth_first_and_sorted_by_bytes(void **state)
{
	static const char *const expected[] = {"B", "a", "a-b", "b", "\xe4\xb8\xad", "a/B", "a/x", "b/m", "a/x/deep"};
	struct env *e = *state;

	make_dir(e, "b");
	make_dir(e, "a");
	make_dir(e, "a/x");
	env_write(e, "a/x/deep", "1");
	env_write(e, "a/B", "22");
	env_write(e, "b/m", "333");
	env_write(e, "\xe4\xb8\xad", "4444");
	env_write(e, "a-b", "55555");
	env_write(e, "B", "666666");
	assert_int_equal(env_scan(e), 0);
	assert_int_equal(e->tree.n, ARRAY_SIZE(expected));
	for (size_t i = 0; i < e->tree.n; i++)
		assert_string_equal(e->tree.entries[i].path, expected[i]);
	assert_in_order(&e->tree);
	assert_int_equal(e->tree.n_top, 5);
	assert_int_equal(e->tree.n_files, 6);
	assert_int_equal(e->tree.n_top_dirs, 2);
	assert_int_equal(e->tree.size, 21);
	assert_int_equal(env_find(&e->tree, "a")->nlink, 3);
	assert_int_equal(env_find(&e->tree, "b")->nlink, 2);
}

static void test_attributes_are_those_of_the_file(void **state)
{
	struct env *e = *state;
	const struct draft_entry *entry;
	struct timespec ts[2] = {{5, 6}, {1700000000, 123456789}};
	struct stat st;

	env_write(e, "f", "abc");
	assert_int_equal(fchmodat(e->root, "f", 04750, 0), 0);
	assert_int_equal(utimensat(e->root, "f", ts, 0), 0);
	st = env_stat(e, "f");
	assert_int_equal(env_scan(e), 0);
	entry = env_find(&e->tree, "f");
	assert_int_equal(entry->type, DRAFT_FILE);
	assert_int_equal(entry->mode, 04750);
	assert_int_equal(entry->uid, geteuid());
	assert_int_equal(entry->gid, getegid());
	assert_int_equal(entry->size, 3);
	assert_int_equal(entry->blocks, st.st_blocks);
	assert_true(entry->mtime_ns == 1700000000123456789);
	assert_int_equal(entry->ino, st.st_ino);
	assert_int_equal(entry->nlink, 1);
	assert_int_equal(entry->inode, 0);
	assert_false(entry->hashed);
}

static void test_a_sparse_file_has_its_size_and_only_the_blocks_that_are_there(void **state)
{
	struct env *e = *state;
	auto_close int fd = openat(e->root, "sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(ftruncate(fd, 64 << 20), 0);
	assert_int_equal(pwrite(fd, "end", 3, (64 << 20) - 3), 3);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(close(take_fd(&fd)), 0);
	assert_int_equal(env_scan(e), 0);
	assert_int_equal(e->tree.entries[0].size, 64 << 20);
	assert_true(e->tree.entries[0].blocks > 0);
	assert_true(e->tree.entries[0].blocks < 8192); /* 4 MiB, far below the 64 of the size */
}

static void test_hard_links_are_one_inode_counted_within_the_tree(void **state)
{
	struct env *e = *state;
	const struct draft_entry *m, *best, *alone;

	make_dir(e, "ckpt");
	env_write(e, "model.pth", "weights");
	env_write(e, "alone", "1");
	assert_int_equal(linkat(e->root, "model.pth", e->root, "best.pth", 0), 0);
	assert_int_equal(linkat(e->root, "model.pth", e->root, "ckpt/last.pth", 0), 0);
	assert_int_equal(linkat(e->root, "alone", e->store, "outside", 0), 0);
	assert_int_equal(env_scan(e), 0);
	best = env_find(&e->tree, "best.pth");
	m = env_find(&e->tree, "model.pth");
	alone = env_find(&e->tree, "alone");
	assert_int_equal(best->inode, best - e->tree.entries); /* the first of them in order */
	assert_int_equal(m->inode, best->inode);
	assert_int_equal(env_find(&e->tree, "ckpt/last.pth")->inode, best->inode);
	assert_int_equal(best->nlink, 3);
	assert_int_equal(m->nlink, 3);
	assert_int_equal(m->size, 7);
	assert_int_equal(alone->nlink, 1);
	assert_int_equal(alone->inode, alone - e->tree.entries);
	assert_int_equal(e->tree.size, 8);
	assert_int_equal(e->tree.n_files, 4);
}

static void test_symbolic_links_are_read_and_never_followed(void **state)
{
	struct env *e = *state;
	char longest[4096];

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	make_dir(e, "real");
	env_write(e, "real/f", "x");
	assert_int_equal(symlinkat("real", e->root, "dir"), 0);
	assert_int_equal(symlinkat("/etc/passwd", e->root, "absolute"), 0);
	assert_int_equal(symlinkat("..", e->root, "real/up"), 0);
	assert_int_equal(symlinkat(longest, e->root, "long"), 0);
	assert_int_equal(linkat(e->root, "dir", e->root, "same", 0), 0);
	assert_int_equal(env_scan(e), 0);
	assert_in_order(&e->tree);
	assert_int_equal(e->tree.n, 7);
	assert_int_equal(env_find(&e->tree, "dir")->type, DRAFT_SYMLINK);
	assert_string_equal(env_find(&e->tree, "dir")->target, "real");
	assert_string_equal(env_find(&e->tree, "absolute")->target, "/etc/passwd");
	assert_string_equal(env_find(&e->tree, "real/up")->target, "..");
	assert_string_equal(env_find(&e->tree, "long")->target, longest);
	assert_string_equal(env_find(&e->tree, "same")->target, "real");
	assert_int_equal(env_find(&e->tree, "same")->inode, env_find(&e->tree, "dir")->inode);
	assert_int_equal(env_find(&e->tree, "dir")->nlink, 2);
	assert_int_equal(e->tree.n_files, 1);
	assert_int_equal(e->tree.size, 1);
}

static void test_special_files_are_refused_by_name(void **state)
{
	static const struct { mode_t type; const char *says; } cases[] = {
		{S_IFIFO, "a FIFO"},
		{S_IFSOCK, "a socket"},
		{S_IFCHR, "a device"},
	};
	struct env *e = *state;

	make_dir(e, "logs");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (mknodat(e->root, "logs/odd", cases[i].type | 0600, cases[i].type == S_IFCHR ? makedev(1, 3) : 0) < 0) {
			assert_int_equal(errno, EPERM); /* devices are for root */
			continue;
		}
		assert_int_equal(env_scan(e), -EINVAL);
		assert_int_equal(e->f.error, EINVAL);
		assert_non_null(strstr(e->f.text, "logs/odd"));
		assert_non_null(strstr(e->f.text, cases[i].says));
		assert_int_equal(e->tree.n, 0);
		draft_thaw(e->d);
		assert_int_equal(unlinkat(e->root, "logs/odd", 0), 0);
	}
}

static void test_a_mapping_that_can_still_write_is_found_though_its_descriptor_is_closed(void **state)
{
	struct env *e = *state;
	char *map;
	int fd;

	make_dir(e, "data");
	env_write(e, "data/array.npy", "abc");
	fd = openat(e->root, "data/array.npy", O_RDWR | O_CLOEXEC);
	map = mmap(NULL, 3, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(close(fd), 0);
	assert_int_equal(env_scan(e), -EBUSY);
	assert_int_equal(e->f.error, EBUSY);
	assert_non_null(strstr(e->f.text, "data/array.npy"));
	assert_non_null(strstr(e->f.text, "mapped writable"));
	draft_thaw(e->d);
	map[0] = 'x';
	assert_int_equal(munmap(map, 3), 0);
	assert_int_equal(env_scan(e), 0);
	assert_int_equal(draft_hash(e->d, &e->tree, &e->f), 0);
	struct blob_id id = env_hash_of("xbc", 3);
	assert_memory_equal(&env_find(&e->tree, "data/array.npy")->blob, &id, sizeof(id));
}

static void test_a_mapping_that_can_only_read_does_no_harm(void **state)
{
	struct env *e = *state;
	void *map;
	int fd;

	env_write(e, "array.npy", "abc");
	fd = openat(e->root, "array.npy", O_RDONLY | O_CLOEXEC);
	map = mmap(NULL, 3, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(env_scan(e), 0);
	assert_int_equal(munmap(map, 3), 0);
	assert_int_equal(close(fd), 0);
}

/* A chain of directories below dir, each with a name of 255 bytes. The last one is returned. */
static int make_chain(struct env *e, int depth)
{
	char name[256];
	int dir = sys_reopen(e->root, O_RDONLY | O_DIRECTORY);

	memset(name, 'd', 255);
	name[255] = '\0';
	for (int i = 0; i < depth; i++) {
		assert_int_equal(mkdirat(dir, name, 0755), 0);
		int next = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(dir);
		dir = next;
	}
	return dir;
}

static void test_a_path_as_long_as_the_system_takes_is_committed(void **state)
{
	struct env *e = *state;
	auto_close int dir = make_chain(e, 15);
	char name[256];
	bool empty = true;

	memset(name, 'f', 255);
	name[255] = '\0';
	assert_int_equal(close(openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
	assert_int_equal(env_scan(e), 0);
	assert_in_order(&e->tree);
	assert_int_equal(e->tree.n, 16);
	assert_int_equal(strlen(e->tree.entries[15].path), 4095);
	assert_int_equal(draft_hash(e->d, &e->tree, &e->f), 0);
	assert_int_equal(draft_is_empty(e->d, &empty), 0);
	assert_false(empty);
}

static void test_a_path_longer_than_that_is_refused_in_words(void **state)
{
	struct env *e = *state;
	auto_close int dir = make_chain(e, 40);
	uint64_t files = 9, bytes;
	bool flag = true;

	assert_int_equal(close(openat(dir, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
	assert_int_equal(env_scan(e), -ENAMETOOLONG);
	assert_int_equal(e->f.error, ENAMETOOLONG);
	assert_non_null(strstr(e->f.text, "4095"));
	assert_int_equal(draft_is_empty(e->d, &flag), -ENAMETOOLONG);
	assert_int_equal(draft_usage(e->d, &files, &bytes, &flag), 0);
	assert_int_equal(files, 0);
}

static void test_thousands_of_files_are_scanned_and_hashed(void **state)
{
	enum { DIRS = 20, FILES = 200 };
	struct env *e = *state;
	char path[64];

	for (int i = 0; i < DIRS; i++) {
		snprintf(path, sizeof(path), "d%d", i);
		make_dir(e, path);
		for (int j = 0; j < FILES; j++) {
			snprintf(path, sizeof(path), "d%d/f%d", i, j);
			env_write(e, path, path);
		}
	}
	assert_int_equal(env_scan(e), 0);
	assert_int_equal(e->tree.n, DIRS + DIRS * FILES);
	assert_int_equal(e->tree.n_files, DIRS * FILES);
	assert_in_order(&e->tree);
	assert_int_equal(draft_hash(e->d, &e->tree, &e->f), 0);
	for (size_t i = DIRS; i < e->tree.n; i++) {
		const struct draft_entry *entry = &e->tree.entries[i];
		struct blob_id id = env_hash_of(entry->path, strlen(entry->path));
		assert_true(entry->hashed);
		assert_memory_equal(&entry->blob, &id, sizeof(id));
	}
}

static void test_usage_counts_files_and_the_bytes_of_each_inode_once(void **state)
{
	struct env *e = *state;
	uint64_t files, bytes;
	bool has_model;

	make_dir(e, "sub");
	env_write(e, "sub/model.pth", "12345");
	assert_int_equal(draft_usage(e->d, &files, &bytes, &has_model), 0);
	assert_int_equal(files, 1);
	assert_int_equal(bytes, 5);
	assert_false(has_model); /* only at the top does it make a version complete */
	assert_int_equal(linkat(e->root, "sub/model.pth", e->root, "best.pth", 0), 0);
	make_dir(e, "model.dir");
	env_write(e, "models", "1");
	assert_int_equal(symlinkat("/", e->root, "sub/root"), 0);
	assert_int_equal(draft_usage(e->d, &files, &bytes, &has_model), 0);
	assert_int_equal(files, 3);
	assert_int_equal(bytes, 6);
	assert_false(has_model);
	env_write(e, "model.safetensors", "");
	assert_int_equal(draft_usage(e->d, &files, &bytes, &has_model), 0);
	assert_int_equal(files, 4);
	assert_true(has_model);
}

static void test_a_draft_with_nothing_but_directories_is_empty(void **state)
{
	struct env *e = *state;
	bool empty = false;

	assert_int_equal(draft_is_empty(e->d, &empty), 0);
	assert_true(empty);
	make_dir(e, "a");
	make_dir(e, "a/b");
	make_dir(e, "c");
	empty = false;
	assert_int_equal(draft_is_empty(e->d, &empty), 0);
	assert_true(empty);
	assert_int_equal(symlinkat("nowhere", e->root, "a/b/link"), 0);
	assert_int_equal(draft_is_empty(e->d, &empty), 0);
	assert_false(empty);
}

#ifdef MINTFS_FAULTS
/* Each system call of a scan, a hashing and the sums fails in turn: the result is a clean refusal, or right in spite of it. */
static void test_any_system_call_may_fail_and_nothing_is_lost_or_made_up(void **state)
{
	struct env *e = *state;
	struct blob_id id = env_hash_of("abc", 3);
	int failures = 0;
	bool more = true;

	make_dir(e, "d");
	env_write(e, "d/f", "abc");
	assert_int_equal(symlinkat("f", e->root, "d/l"), 0);
	assert_int_equal(draft_freeze(e->d, NULL), 0);
	for (int n = 1; more; n++) {
		struct draft_tree t = {0};
		uint64_t files = 77, bytes = 77;
		bool has_model, empty;
		e->f = (struct fault)FAULT_INIT;

		sys_fault_arm("*", n, EIO, false);
		int r = draft_scan(e->d, &t, &e->f);
		if (r < 0)
			assert_int_equal(t.n, 0);
		else
			r = draft_hash(e->d, &t, &e->f);
		if (r == 0)
			assert_memory_equal(&env_find(&t, "d/f")->blob, &id, sizeof(id));
		else
			assert_int_equal(e->f.error, EIO);
		if (draft_usage(e->d, &files, &bytes, &has_model) < 0)
			assert_int_equal(files, 77);
		else
			assert_int_equal(files, 1);
		if (draft_is_empty(e->d, &empty) == 0)
			assert_false(empty);
		more = sys_fault_hits() >= n;
		sys_fault_arm(NULL, 0, 0, false);
		failures += r < 0;
		draft_tree_release(&t);
	}
	assert_true(failures > 5);
	assert_int_equal(draft_scan(e->d, &e->tree, &e->f), 0);
}
#endif

#define T(f) cmocka_unit_test_setup_teardown(f, env_setup, env_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_an_empty_draft_has_an_empty_tree),
		T(test_entries_come_breadth_first_and_sorted_by_bytes),
		T(test_attributes_are_those_of_the_file),
		T(test_a_sparse_file_has_its_size_and_only_the_blocks_that_are_there),
		T(test_hard_links_are_one_inode_counted_within_the_tree),
		T(test_symbolic_links_are_read_and_never_followed),
		T(test_special_files_are_refused_by_name),
		T(test_a_mapping_that_can_still_write_is_found_though_its_descriptor_is_closed),
		T(test_a_mapping_that_can_only_read_does_no_harm),
		T(test_a_path_as_long_as_the_system_takes_is_committed),
		T(test_a_path_longer_than_that_is_refused_in_words),
		T(test_thousands_of_files_are_scanned_and_hashed),
		T(test_usage_counts_files_and_the_bytes_of_each_inode_once),
		T(test_a_draft_with_nothing_but_directories_is_empty),
#ifdef MINTFS_FAULTS
		T(test_any_system_call_may_fail_and_nothing_is_lost_or_made_up),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
