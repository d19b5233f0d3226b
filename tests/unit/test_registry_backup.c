/* A backup or restore that dies at any step: what was there is whole, and the same command goes on. */
#include "registry_env.h"

#ifndef MINTFS_FAULTS
int main(void) { return 77; /* needs crash points */ }
#else

#define MODEL "product/P001_all/mlstm"

static int copy_to(struct fixture *x, const char *dest, bool restore, struct fault *f)
{
	struct registry_copy how = {.dest = dest};
	struct registry_copy_totals totals;
	return restore ? registry_restore(x->r, &how, &totals, f) : registry_backup(x->r, &how, &totals, f);
}

static void copy_ok(struct fixture *x, const char *dest, bool restore)
{
	struct fault f = FAULT_INIT;
	if (copy_to(x, dest, restore, &f) != 0)
		fail_msg("%s", f.text);
}

static void dies_at(struct fixture *x, const char *point, const char *dest, bool restore)
{
	pid_t pid = fork_to_die(x, point);
	if (pid == 0) {
		copy_to(x, dest, restore, NULL);
		_exit(0);
	}
	wait_for_death(x, point, pid);
}

/* Opens the copy for reading and looks for exactly `versions` committed ones, each with all it holds. */
static void assert_copy(const char *dest, uint32_t versions)
{
	struct registry_options o = {.path = dest, .read_only = true};
	struct fixture copy = {0};
	struct fault f = FAULT_INIT;
	struct registry_ref *ref = calloc(1, sizeof *ref);
	if (registry_open(&o, &copy.r, &f) != 0)
		fail_msg("%s", f.text);
	assert_int_equal(registry_resolve(copy.r, MODEL "/latest", ref, &f), 0);
	assert_int_equal(ref->version.number, versions);
	for (uint32_t i = 1; i <= versions; i++) {
		char name[64], text[32];
		snprintf(name, sizeof name, MODEL "/v%u", i);
		snprintf(text, sizeof text, "weights %u", i);
		assert_int_equal(registry_resolve(copy.r, name, ref, &f), 0);
		assert_content(&copy, ref->version.id, "model.pth", text);
	}
	free(ref);
	registry_close(copy.r);
}

static void add_version(struct fixture *x, uint32_t number)
{
	char text[32];
	struct catalog_version v = mint(x, make_path(x, MODEL), "next");
	assert_int_equal(v.number, number);
	snprintf(text, sizeof text, "weights %u", number);
	put(x, v.id, "model.pth", text);
	commit_ok(x, v.id);
}

static const char *const points[] = {"backup.marked", "backup.catalog-copied", "backup.content", "backup.content:2", "backup.contents-copied", "backup.published"};

static void test_death_in_the_first_backup_leaves_no_store_or_a_whole_one_and_can_be_gone_on_with(void **state)
{
	struct fixture *x = *state;
	add_version(x, 1);
	add_version(x, 2);
	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		char dest[96];
		struct registry_options o = {.path = dest, .read_only = true};
		struct registry *r;
		snprintf(dest, sizeof dest, "%s/first-%zu", x->path, i);
		dies_at(x, points[i], dest, false);
		assert_int_equal(registry_open(&o, &r, NULL), -ENOENT);
		copy_ok(x, dest, false);
		assert_copy(dest, 2);
	}
}

static void test_death_in_a_later_backup_leaves_the_old_one_or_the_new_one(void **state)
{
	struct fixture *x = *state;
	add_version(x, 1);
	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		char dest[96];
		uint32_t n = (uint32_t)i + 1;
		bool new = !strcmp(points[i], "backup.published");
		snprintf(dest, sizeof dest, "%s/later-%zu", x->path, i);
		copy_ok(x, dest, false);
		add_version(x, n + 1);
		dies_at(x, points[i], dest, false);
		assert_copy(dest, new ? n + 1 : n);
		copy_ok(x, dest, false);
		assert_copy(dest, n + 1);
	}
}

/* A power cut before the mark had its name. */
static void test_a_backup_that_was_cut_off_before_its_mark_can_be_begun_anew(void **state)
{
	struct fixture *x = *state;
	char command[256], dest[96];
	add_version(x, 1);
	snprintf(dest, sizeof dest, "%s/cut", x->path);
	snprintf(command, sizeof command, "mkdir %s && touch %s/.mintfs-tmp-0123456789abcdef", dest, dest);
	assert_int_equal(system(command), 0);
	copy_ok(x, dest, false);
	assert_copy(dest, 1);
}

/* Names reached the disk, the bytes of "weights 1" did not. */
static void test_names_that_a_power_cut_left_without_their_bytes_are_not_taken_for_contents(void **state)
{
	struct fixture *x = *state;
	static const char *const left[] = {"blobs/$d/$f", "incoming/0123456789abcdef/$h"};
	add_version(x, 1);
	for (size_t i = 0; i < ARRAY_SIZE(left); i++) {
		char command[1024], dest[96];
		snprintf(dest, sizeof dest, "%s/zeros-%zu", x->path, i);
		assert_int_equal(mkdir(dest, 0700), 0);
		dies_at(x, "backup.marked", dest, false);
		snprintf(command, sizeof command, "cd %s && h=$(printf 'weights 1' | sha256sum | cut -c1-64) && d=$(echo $h | cut -c1-2) && f=$(echo $h | cut -c3-) && "
			"mkdir -p blobs/$d incoming/0123456789abcdef && head -c 9 /dev/zero >blobs/$d/$f && chmod 600 blobs/$d/$f && { ln blobs/$d/$f %s 2>/dev/null || true; }", dest, left[i]);
		assert_int_equal(system(command), 0);
		copy_ok(x, dest, false);
		assert_copy(dest, 1);
	}
}

static void test_death_in_a_restore_leaves_no_store_and_can_be_gone_on_with(void **state)
{
	struct fixture *x = *state;
	add_version(x, 1);
	add_version(x, 2);
	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		char dest[96];
		struct registry_options o = {.path = dest, .read_only = true};
		struct registry *r;
		struct fault f = FAULT_INIT;
		snprintf(dest, sizeof dest, "%s/restored-%zu", x->path, i);
		dies_at(x, points[i], dest, true);
		assert_int_equal(registry_open(&o, &r, NULL), -ENOENT);
		assert_int_equal(copy_to(x, dest, false, &f), -ENOTEMPTY); /* it is no backup */
		copy_ok(x, dest, true);
		assert_copy(dest, 2);
		assert_int_equal(copy_to(x, dest, true, NULL), -ENOTEMPTY);
	}
}

static void test_a_failing_system_call_leaves_a_backup_that_can_be_gone_on_with(void **state)
{
	struct fixture *x = *state;
	static const struct { const char *call; int error; } cases[] = {{"pwrite", ENOSPC}, {"openat", EMFILE}, {"fsync", EIO}, {"linkat", ENOSPC}, {"renameat2", EIO},
		{"mkdirat", ENOSPC}, {"unlinkat", EIO}, {"fstat", EIO}, {"pread", EIO}};
	char dest[96];
	add_version(x, 1);
	snprintf(dest, sizeof dest, "%s/faults", x->path);
	copy_ok(x, dest, false);
	for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
		add_version(x, i + 2);
		for (int nth = 1; nth < 300; nth += nth < 20 ? 1 : 7) {
			struct fault f = FAULT_INIT;
			sys_fault_arm(cases[i].call, nth, cases[i].error, false);
			int rc = copy_to(x, dest, false, &f);
			bool hit = sys_fault_hits() >= nth;
			sys_fault_arm(NULL, 0, 0, false);
			if (rc != 0)
				assert_true(f.error != 0 && f.text[0]);
			if (!hit)
				break;
		}
		copy_ok(x, dest, false);
		assert_copy(dest, i + 2);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_death_in_the_first_backup_leaves_no_store_or_a_whole_one_and_can_be_gone_on_with),
		T(test_death_in_a_later_backup_leaves_the_old_one_or_the_new_one),
		T(test_a_backup_that_was_cut_off_before_its_mark_can_be_begun_anew),
		T(test_names_that_a_power_cut_left_without_their_bytes_are_not_taken_for_contents),
		T(test_death_in_a_restore_leaves_no_store_and_can_be_gone_on_with),
		T(test_a_failing_system_call_leaves_a_backup_that_can_be_gone_on_with),
	};
	return cmocka_run_group_tests_name("registry, backup", tests, NULL, NULL);
}
#endif
