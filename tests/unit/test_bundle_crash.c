/* An import that dies at any step: nothing of it is seen, or all of it; the next mount clears up, and the import can be done again. */
#include "registry_env.h"

#include <mintfs/bundle.h>

#ifndef MINTFS_FAULTS
int main(void) { return 77; /* needs crash points */ }
#else

#define MODEL "product/P001_all/mlstm"

#define DATA "dataset/mol"

/* A bundle of two versions and the dataset that one was made from and the other evaluated on, from the fixture's store, and an empty second store in its place. */
static int make_bundle(struct fixture *x)
{
	char path[96];
	struct bundle_totals totals;
	struct fault f = FAULT_INIT;
	struct bundle_export what = {.all = true, .program = "test"};
	int64_t model = make_path(x, MODEL);
	committed(x, model, "{\"metrics\": {\"rmse\": 1}}");
	struct catalog_version v = mint(x, model, "next");
	put(x, v.id, "model.pth", "other weights");
	put(x, v.id, "copy.pth", "weights");
	put(x, v.id, "metadata.json", "{\"inputs\": [\"" MODEL "/v1\", \"" DATA "/v1\", \"dataset/none/v1\"]}");
	int64_t data = committed(x, make_path(x, DATA), NULL), evaluation;
	commit_ok(x, v.id);
	assert_int_equal(registry_evaluate(x->r, &x->me, v.id, data, "{\"rmse\": 2}", 11, &evaluation, NULL), 0);
	struct catalog_alias a;
	assert_int_equal(registry_alias_set(x->r, &x->me, model, "production", "v2", &a, NULL), 0);
	snprintf(path, sizeof path, "%s/bundle.tar", x->path);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	if (bundle_export(x->r, &what, fd, &totals, &f) != 0)
		fail_msg("export: %s", f.text);
	assert_int_equal(totals.versions, 3);
	registry_close(x->r);
	snprintf(x->store, sizeof x->store, "%s/second", x->path);
	assert_int_equal(registry_init(x->store, NULL), 0);
	open_store(x);
	return fd;
}

static int take(struct fixture *x, int fd, struct fault *f)
{
	struct bundle_import how = {0};
	struct registry_import_totals totals;
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return bundle_import(x->r, &x->me, &how, fd, &totals, f);
}

static void dies_at(struct fixture *x, const char *point, int fd)
{
	pid_t pid = fork_to_die(x, point);
	if (pid == 0) {
		take(x, fd, NULL);
		_exit(0);
	}
	wait_for_death(x, point, pid);
}

static int count_model(const struct catalog_model *m, void *arg)
{
	++*(int *)arg;
	return 0;
}

static void assert_nothing(struct fixture *x)
{
	struct catalog_conn *conn;
	struct catalog_dir dir;
	int models = 0;
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_model_list(conn, count_model, &models), 0);
	assert_int_equal(catalog_dir_find(conn, CATALOG_DIR_ROOT, "product", &dir), 0);
	assert_int_equal(catalog_dir_find(conn, dir.id, "P001_all", &dir), -ENOENT);
	catalog_read_end(conn);
	assert_int_equal(models, 0);
	assert_false(exists(x, "incoming", 0));
}

static int count_unknown(const char *text, const char *reason, void *arg) { return ++*(int *)arg, 0; }
static int count_evaluation(const struct catalog_evaluation *e, void *arg) { return ++*(int *)arg, 0; }

static void assert_lineage(struct catalog_conn *conn, int64_t version_id)
{
	int64_t made_from;
	int unknown = 0, evaluations = 0;
	assert_int_equal(catalog_lineage_count(conn, version_id, &made_from, NULL), 0);
	assert_int_equal(catalog_input_unknown_list(conn, version_id, count_unknown, &unknown), 0);
	assert_int_equal(catalog_evaluation_list(conn, version_id, count_evaluation, &evaluations), 0);
	assert_int_equal(made_from, 2);
	assert_int_equal(unknown, 1);
	assert_int_equal(evaluations, 1);
}

static void assert_sealed(struct fixture *x, int64_t version, const char *name)
{
	struct catalog_conn *conn;
	struct catalog_file file;
	struct stat st;
	int fd;
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_file_find(conn, -version, name, &file), 0);
	catalog_read_end(conn);
	assert_int_equal(registry_file_open(x->r, &file, &fd, NULL), 0);
	assert_int_equal(fstat(fd, &st), 0);
	close(fd);
	if ((st.st_mode & 07777) != 0444 || st.st_nlink != 1)
		fail_msg("%s: mode %o, %u names", name, (unsigned)st.st_mode, (unsigned)st.st_nlink);
}

static void assert_all(struct fixture *x)
{
	struct registry_ref *ref = calloc(1, sizeof *ref);
	struct catalog_conn *conn;
	struct catalog_alias a;
	struct fault f = FAULT_INIT;
	if (registry_resolve(x->r, MODEL "/v2", ref, &f) != 0)
		fail_msg("%s", f.text);
	assert_int_equal(ref->version.state, CATALOG_COMMITTED);
	assert_content(x, ref->version.id, "model.pth", "other weights");
	assert_content(x, ref->version.id, "copy.pth", "weights");
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_alias_find(conn, ref->model.id, "production", &a), 0);
	assert_int_equal(a.number, 2);
	assert_lineage(conn, ref->version.id);
	catalog_read_end(conn);
	assert_sealed(x, ref->version.id, "model.pth");
	assert_sealed(x, ref->version.id, "copy.pth");
	assert_sealed(x, ref->version.id, "metadata.json");
	assert_false(exists(x, "incoming", 0));
	assert_int_equal(registry_resolve(x->r, MODEL "/v1", ref, NULL), 0);
	free(ref);
}

static void test_death_before_the_transaction_of_an_import_leaves_nothing(void **state)
{
	struct fixture *x = *state;
	static const char *const points[] = {"import.content", "import.content:3", "import.blobs-put", "import.in-transaction"};
	int fd = make_bundle(x);
	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		dies_at(x, points[i], fd);
		assert_nothing(x);
	}
	struct fault f = FAULT_INIT;
	if (take(x, fd, &f) != 0)
		fail_msg("%s", f.text);
	assert_all(x);
	close(fd);
}

static void test_death_after_the_transaction_of_an_import_leaves_all_of_it(void **state)
{
	struct fixture *x = *state;
	static const char *const points[] = {"import.recorded", "import.name-gone", "import.name-gone:2", "import.name-gone:3", "import.name-gone:4", "import.settled"};
	int fd = make_bundle(x);
	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		char path[96];
		snprintf(path, sizeof path, "%s/after-%zu", x->path, i);
		registry_close(x->r);
		snprintf(x->store, sizeof x->store, "%s", path);
		assert_int_equal(registry_init(x->store, NULL), 0);
		open_store(x);
		dies_at(x, points[i], fd);
		assert_all(x);
		assert_int_equal(take(x, fd, NULL), 0); /* again: nothing to do */
		assert_all(x);
	}
	close(fd);
}

static void test_a_death_does_not_stand_in_the_way_of_an_import_without_a_mount_between(void **state)
{
	struct fixture *x = *state;
	int fd = make_bundle(x);
	pid_t pid = fork_to_die(x, "import.blobs-put");
	if (pid == 0) {
		take(x, fd, NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(exists(x, "incoming", 0));
	struct registry_options o = {.path = x->store}; /* as the command line opens it */
	assert_int_equal(registry_open(&o, &x->r, NULL), 0);
	assert_int_equal(take(x, fd, NULL), 0);
	assert_all(x);
	close(fd);
}

/* ---- every system call fails in turn ---- */

static void fresh_store(struct fixture *x, const char *name, int nth)
{
	char path[sizeof x->store];
	registry_close(x->r);
	assert_true(snprintf(path, sizeof path, "%.60s/%s-%d", x->path, name, nth) < (int)sizeof path);
	strcpy(x->store, path);
	assert_int_equal(registry_init(x->store, NULL), 0);
	open_store(x);
}

static void test_what_was_recorded_and_could_not_be_settled_is_settled_by_the_next_mount(void **state)
{
	struct fixture *x = *state;
	static const char *const calls[] = {"unlinkat", "fchmod", "set_immutable"};
	int fd = make_bundle(x);
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		int nth = 1;
		for (bool hit = true; hit; nth++) {
			fresh_store(x, calls[i], nth);
			sys_fault_arm(calls[i], nth, EIO, false);
			int rc = take(x, fd, NULL);
			hit = sys_fault_hits() >= nth;
			sys_fault_arm(NULL, 0, 0, false);
			assert_int_equal(rc, 0);
			registry_close(x->r);
			open_store(x);
			assert_all(x);
			assert_int_equal(count_unsealed(x), 0);
		}
		assert_true(nth > 4); /* one for each content, at least */
	}
	close(fd);
}

static void test_a_failing_system_call_leaves_nothing_and_the_next_try_works(void **state)
{
	struct fixture *x = *state;
	static const struct { const char *call; int error; } cases[] = {{"pwrite", ENOSPC}, {"openat", EMFILE}, {"fsync", EIO}, {"linkat", ENOSPC}, {"renameat2", EIO},
		{"mkdirat", ENOSPC}, {"close", EIO}, {"fstat", EIO}};
	int fd = make_bundle(x);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (int nth = 1; nth < 200; nth++) {
			struct fault f = FAULT_INIT;
			sys_fault_arm(cases[i].call, nth, cases[i].error, false);
			int rc = take(x, fd, &f);
			bool hit = sys_fault_hits() >= nth;
			sys_fault_arm(NULL, 0, 0, false);
			if (rc == 0) { /* not needed, or something that the next mount makes good: then a fresh store */
				char path[96];
				registry_close(x->r);
				open_store(x);
				assert_all(x);
				registry_close(x->r);
				snprintf(path, sizeof path, "%s/again-%zu-%d", x->path, i, nth);
				snprintf(x->store, sizeof x->store, "%s", path);
				assert_int_equal(registry_init(x->store, NULL), 0);
				open_store(x);
				if (!hit)
					break;
				continue;
			}
			assert_true(hit);
			assert_true(f.error != 0 && f.text[0]);
			struct catalog_conn *conn;
			int models = 0;
			assert_int_equal(registry_read_begin(x->r, &conn), 0);
			assert_int_equal(catalog_model_list(conn, count_model, &models), 0);
			catalog_read_end(conn);
			assert_int_equal(models, 0);
		}
	assert_int_equal(take(x, fd, NULL), 0);
	assert_all(x);
	close(fd);
}

/* ---- sweeps meanwhile ---- */

static int take_anew(struct fixture *x, int fd, struct bundle_watcher watcher, struct fault *f)
{
	struct bundle_import how = {.renumber = true, .watcher = watcher};
	struct registry_import_totals totals;
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	*f = (struct fault)FAULT_INIT;
	return bundle_import(x->r, &x->me, &how, fd, &totals, f);
}

static int retire_one(const struct catalog_version *v, const struct catalog_version_text *text, void *arg)
{
	int64_t *ids = arg;
	ids[++ids[0]] = v->id;
	return 0;
}

/* Nothing is in use any more, but what was taken in is still there. */
static void retire_all(struct fixture *x)
{
	static const char *const models[] = {MODEL, DATA};
	for (size_t i = 0; i < ARRAY_SIZE(models); i++) {
		int64_t ids[64] = {0};
		struct catalog_version_list q = {.model_id = make_path(x, models[i]), .states = 1u << CATALOG_COMMITTED};
		struct catalog_conn *conn;
		assert_int_equal(registry_read_begin(x->r, &conn), 0);
		assert_int_equal(catalog_version_list(conn, &q, retire_one, ids), 0);
		catalog_read_end(conn);
		for (int64_t k = 1; k <= ids[0]; k++)
			assert_int_equal(registry_retire(x->r, &x->me, ids[k], &(struct registry_retire){.force = true}, NULL), 0);
	}
}

struct sweeper { struct fixture *x; uint64_t freed; };

static void sweep(uint64_t done, uint64_t all, void *arg)
{
	struct sweeper *s = arg;
	struct registry_gc_result sum;
	assert_int_equal(registry_gc(s->x->r, &(struct registry_gc){.grace_ns = 0}, &sum, NULL), 0);
	s->freed += sum.freed;
}

static void test_contents_that_the_store_had_and_loses_meanwhile_are_taken_from_the_bundle(void **state)
{
	struct fixture *x = *state;
	struct sweeper s = {.x = x};
	struct fault f;
	int fd = make_bundle(x);
	assert_int_equal(take(x, fd, NULL), 0);
	registry_settle(x->r);
	retire_all(x);
	if (take_anew(x, fd, (struct bundle_watcher){sweep, &s}, &f) != 0)
		fail_msg("%s", f.text);
	assert_true(s.freed > 0);
	registry_settle(x->r);
	struct registry_fsck_result sum;
	assert_int_equal(registry_fsck(x->r, &(struct registry_fsck){.verify = true}, &sum, NULL), 0);
	assert_int_equal(sum.problems, 0);
	close(fd);
}

/* As seen by an import from which a sweep has just taken a content that it had put. */
static void test_a_content_that_a_sweep_took_is_no_fault_of_the_bundle(void **state)
{
	struct fixture *x = *state;
	struct fault f;
	int fd = make_bundle(x), taken = 0;
	for (int nth = 1;; nth++) {
		sys_fault_arm("openat_beneath", nth, ENOENT, false);
		int rc = take_anew(x, fd, (struct bundle_watcher){0}, &f);
		bool hit = sys_fault_hits() >= nth;
		sys_fault_arm(NULL, 0, 0, false);
		assert_int_not_equal(f.verdict, VERDICT_DAMAGED);
		taken += rc == 0;
		if (!hit)
			break;
	}
	assert_true(taken > 1);
	close(fd);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_death_before_the_transaction_of_an_import_leaves_nothing),
		T(test_death_after_the_transaction_of_an_import_leaves_all_of_it),
		T(test_a_death_does_not_stand_in_the_way_of_an_import_without_a_mount_between),
		T(test_what_was_recorded_and_could_not_be_settled_is_settled_by_the_next_mount),
		T(test_a_failing_system_call_leaves_nothing_and_the_next_try_works),
		T(test_contents_that_the_store_had_and_loses_meanwhile_are_taken_from_the_bundle),
		T(test_a_content_that_a_sweep_took_is_no_fault_of_the_bundle),
	};
	return cmocka_run_group_tests_name("bundle, killed", tests, NULL, NULL);
}
#endif
