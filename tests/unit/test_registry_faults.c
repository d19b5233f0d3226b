/* Each system call fails in turn: an error with a sentence, nothing half-made, and the next try works. */
#include "registry_env.h"

#include "../../src/registry/registry.h"

#ifndef MINTFS_FAULTS
int main(void) { return 77; /* needs injected faults */ }
#else

#define CALLS_MAX 4000

struct attempt { struct fixture *x; int64_t id; struct fault f; int64_t ret_id; };
typedef int attempt_fn(struct attempt *a);

/* Lets the nth call fail. *ret_over: there was no nth call. */
static int try_with_fault(struct attempt *a, attempt_fn *fn, int n, int error, bool *ret_over)
{
	a->f = (struct fault)FAULT_INIT;
	sys_fault_arm("*", n, error, false);
	int rc = fn(a);
	*ret_over = sys_fault_hits() < n;
	sys_fault_arm(NULL, 0, 0, false);
	if (rc < 0 && (!a->f.error || !a->f.text[0] || !a->f.verdict))
		fail_msg("call %d: %d without a sentence", n, rc);
	return rc;
}

static int count_in(const char *base, const char *dir)
{
	char path[256];
	int n = 0;
	snprintf(path, sizeof path, "%s/%s", base, dir);
	DIR *d = opendir(path);
	if (!d)
		return 0;
	for (struct dirent *e; (e = readdir(d));)
		n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
	closedir(d);
	return n;
}

static int attempt_init(struct attempt *a)
{
	char path[96];
	snprintf(path, sizeof path, "%s/other", a->x->path);
	return registry_init(path, &a->f);
}

static void test_init_is_whole_or_leaves_nothing(void **state)
{
	struct attempt a = {.x = *state};
	char path[96];
	bool over = false;
	int failures = 0;
	snprintf(path, sizeof path, "%s/other", a.x->path);
	for (int n = 1; !over; n++) {
		assert_true(n < CALLS_MAX);
		if (try_with_fault(&a, attempt_init, n, ENOSPC, &over) < 0) {
			failures++;
			if (access(path, F_OK) == 0 && access(path, W_OK) == 0 && count_in(a.x->path, "other") != 0) {
				/* its own undoing may have met the fault only if nothing else did */
				fail_msg("call %d left something behind", n);
			}
		} else {
			struct registry_options o = {.path = path, .serve = true, .mountpoint = "/nowhere"};
			struct registry *r;
			char command[160];
			assert_int_equal(registry_open(&o, &r, NULL), 0);
			registry_close(r);
			snprintf(command, sizeof command, "rm -rf %s", path);
			assert_int_equal(system(command), 0);
		}
	}
	assert_true(failures > 5);
}

static int attempt_open(struct attempt *a)
{
	struct registry_options o = {.path = a->x->store, .serve = true, .mountpoint = "/elsewhere"};
	struct registry *r;
	int rc = registry_open(&o, &r, &a->f);
	if (rc == 0)
		registry_close(r);
	return rc;
}

static void test_opening_works_or_says_why(void **state)
{
	struct attempt a = {.x = *state};
	int64_t model = make_path(a.x, "product/P001_all/mlstm");
	struct catalog_version v = mint(a.x, model, "next");
	bool over = false;
	put(a.x, v.id, "model.pth", "weights");
	registry_close(a.x->r);
	a.x->r = NULL;
	for (int n = 1; !over; n++) {
		assert_true(n < CALLS_MAX);
		try_with_fault(&a, attempt_open, n, EIO, &over);
	}
	open_store(a.x);
	assert_int_equal(get(a.x, v.id).state, CATALOG_DRAFT);
	commit_ok(a.x, v.id);
}

static void test_a_draft_whose_directory_cannot_be_read_is_not_taken_for_an_empty_one(void **state)
{
	struct fixture *x = *state;
	struct fault f = FAULT_INIT;
	struct catalog_version v = mint(x, make_path(x, "product/P001_all/mlstm"), "next");
	put(x, v.id, "model.pth", "weights");
	sys_fault_arm("readdir", 1, EIO, false);
	assert_int_equal(registry_discard(x->r, &x->me, v.id, REGISTRY_DISCARD_EMPTY_ONLY, &f), -EIO);
	sys_fault_arm(NULL, 0, 0, false);
	assert_int_equal(get(x, v.id).state, CATALOG_DRAFT);
	commit_ok(x, v.id);
}

static int attempt_mint(struct attempt *a)
{
	struct catalog_version v;
	int rc = registry_mint(a->x->r, &a->x->me, a->id, "next", 0755, &v, &a->f);
	if (rc == 0)
		a->ret_id = v.id;
	return rc;
}

static void test_a_mint_that_fails_takes_no_number_and_leaves_no_directory(void **state)
{
	struct attempt a = {.x = *state};
	a.id = make_path(a.x, "product/P001_all/mlstm");
	uint32_t last = 0;
	int failures = 0, drafts = 0;
	bool over = false;
	for (int n = 1; !over; n++) {
		assert_true(n < CALLS_MAX);
		if (try_with_fault(&a, attempt_mint, n, EMFILE, &over) < 0) {
			failures++;
		} else {
			drafts++;
			assert_int_equal(get(a.x, a.ret_id).number, ++last);
			put(a.x, a.ret_id, "model.pth", "weights"); /* served and writable, whatever failed */
		}
		assert_int_equal(count_in(a.x->store, "drafts"), drafts);
	}
	assert_true(failures > 2);
}

static int attempt_commit(struct attempt *a) { return registry_commit(a->x->r, &a->x->me, a->id, "m", &a->f); }

static void test_a_commit_that_fails_leaves_the_draft_and_the_next_one_works(void **state)
{
	struct attempt a = {.x = *state};
	int64_t model = make_path(a.x, "product/P001_all/mlstm");
	char text[32] = "", dir[64];
	bool over = false;
	int failures = 0;
	a.id = 0;
	for (int n = 1; !over; n++) {
		assert_true(n < CALLS_MAX);
		if (!a.id) {
			a.id = mint(a.x, model, "next").id;
			snprintf(text, sizeof text, "weights %d", n);
			snprintf(dir, sizeof dir, "drafts/%lld", (long long)a.id);
			put(a.x, a.id, "model.pth", text);
		}
		int rc = try_with_fault(&a, attempt_commit, n, n % 2 ? ENOSPC : EIO, &over);
		failures += rc < 0;
		if (rc < 0) {
			assert_int_equal(get(a.x, a.id).state, CATALOG_DRAFT);
			assert_int_equal(count_in(a.x->store, dir), 1);
			continue;
		}
		registry_settle(a.x->r);
		assert_int_equal(get(a.x, a.id).state, CATALOG_COMMITTED);
		assert_content(a.x, a.id, "model.pth", text);
		a.id = 0;
	}
	assert_true(failures > 10);
	registry_close(a.x->r); /* staging trees whose removal met the fault go at the next mount */
	open_store(a.x);
	assert_int_equal(count_in(a.x->store, "drafts"), 0);
}

/* A sweep that knows no grace: takes a blob as soon as it is there. */
struct sweeper { struct registry *r; struct blob_id id; _Atomic bool stop; };

static void *sweep(void *arg)
{
	struct sweeper *s = arg;
	while (!s->stop)
		blob_remove(s->r->blobs, &s->id);
	return NULL;
}

static void test_a_commit_whose_blobs_vanish_again_and_again_is_refused_and_loses_nothing(void **state)
{
	struct attempt a = {.x = *state};
	struct sweeper s = {.r = a.x->r};
	pthread_t thread;
	struct blob_hasher *h;
	assert_int_equal(blob_hasher_new(&h), 0);
	assert_int_equal(blob_hasher_add(h, "weights", 7), 0);
	assert_int_equal(blob_hasher_finish(h, &s.id), 0);
	blob_hasher_free(h);
	int64_t model = make_path(a.x, "product/P001_all/mlstm");
	int rc = 0;
	assert_int_equal(pthread_create(&thread, NULL, sweep, &s), 0);
	for (int i = 0; rc == 0 && i < 200; i++) { /* until the sweeper has won each of the races of one commit */
		a.id = mint(a.x, model, "next").id;
		put(a.x, a.id, "model.pth", "weights");
		rc = attempt_commit(&a);
		assert_int_equal(get(a.x, a.id).state, rc == 0 ? CATALOG_COMMITTED : CATALOG_DRAFT);
	}
	s.stop = true;
	pthread_join(thread, NULL);
	if (rc == 0)
		skip();
	commit_ok(a.x, a.id);
	assert_content(a.x, a.id, "model.pth", "weights");
}

static int attempt_discard(struct attempt *a)
{
	int rc = registry_discard(a->x->r, NULL, a->id, 0, &a->f);
	registry_settle(a->x->r);
	return rc;
}

static void test_a_discard_that_fails_leaves_the_draft_whole(void **state)
{
	struct attempt a = {.x = *state};
	int64_t model = make_path(a.x, "product/P001_all/mlstm");
	char dir[64];
	bool over = false;
	for (int n = 1; !over; n++) {
		assert_true(n < CALLS_MAX);
		if (!a.id) {
			a.id = mint(a.x, model, "next").id;
			snprintf(dir, sizeof dir, "drafts/%lld", (long long)a.id);
			put(a.x, a.id, "model.pth", "w");
			put(a.x, a.id, "notes.txt", "n");
			registry_settle(a.x->r);
		}
		if (try_with_fault(&a, attempt_discard, n, EIO, &over) < 0) {
			assert_int_equal(get(a.x, a.id).state, CATALOG_DRAFT);
			assert_int_equal(count_in(a.x->store, dir), 2);
			continue;
		}
		assert_int_equal(get(a.x, a.id).state, CATALOG_DISCARDED);
		a.id = 0;
	}
	registry_close(a.x->r);
	open_store(a.x);
	assert_int_equal(count_in(a.x->store, "drafts"), 0);
}

static void test_the_end_of_a_draft_on_a_full_disk_keeps_its_metadata_free_tree(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = mint(x, model, "next");
	struct fault f = FAULT_INIT;
	char dir[64];
	put(x, v.id, "model.pth", "weights");
	snprintf(dir, sizeof dir, "drafts/%lld", (long long)v.id);
	sys_fault_arm("pwrite", 1, ENOSPC, true);
	int rc = registry_commit(x->r, &x->me, v.id, NULL, &f);
	sys_fault_arm(NULL, 0, 0, false);
	assert_int_equal(rc, -ENOSPC);
	assert_non_null(strstr(f.text, "v1 of product/P001_all/mlstm"));
	assert_non_null(strstr(f.text, "No space left"));
	assert_int_equal(count_in(x->store, dir), 1);
	assert_int_equal(count_in(x->store, "drafts"), 1);
	commit_ok(x, v.id);
}

/* ---- fsck ---- */

static void no_stray(const struct registry_finding *x, void *arg)
{
	if (!strcmp(x->kind, "stray") && x->name && !strncmp(x->name, "drafts/", 7))
		fail_msg("%s", x->text);
}

/* Each look at a name in turn finds it gone. */
static void test_a_tree_that_is_cleared_away_under_the_eyes_of_fsck_is_no_stray(void **state)
{
	struct fixture *x = *state;
	int64_t version = committed(x, make_path(x, "product/P001_all/mlstm"), NULL);
	char path[160];
	registry_settle(x->r);
	snprintf(path, sizeof path, "%s/drafts/%lld", x->store, (long long)version); /* as a commit leaves it for a moment */
	assert_int_equal(mkdir(path, 0700), 0);
	for (int nth = 1;; nth++) {
		struct registry_fsck_result sum;
		sys_fault_arm("fstatat", nth, ENOENT, false);
		assert_int_equal(registry_fsck(x->r, &(struct registry_fsck){.finding = no_stray}, &sum, NULL), 0);
		bool over = sys_fault_hits() < nth;
		sys_fault_arm(NULL, 0, 0, false);
		if (over)
			break;
	}
}

static void test_what_the_disk_refuses_to_seal_is_sealed_by_the_next_mount(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	static const char *const calls[] = {"fchmod", "set_immutable"};
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		bool over = false;
		int nth = 1;
		for (; !over; nth++) {
			char text[64];
			snprintf(text, sizeof text, "%s %d", calls[i], nth);
			struct catalog_version v = mint(x, model, "next");
			put(x, v.id, "model.pth", text);
			sys_fault_arm(calls[i], nth, EIO, false);
			commit_ok(x, v.id);
			registry_settle(x->r);
			over = sys_fault_hits() < nth;
			sys_fault_arm(NULL, 0, 0, false);
			assert_true(count_unsealed(x) == 0 || count_in(x->store, "drafts") > 0); /* the next mount knows by it */
			registry_close(x->r);
			open_store(x);
			registry_settle(x->r);
			assert_int_equal(count_unsealed(x), 0);
			assert_int_equal(count_in(x->store, "drafts"), 0);
			assert_content(x, v.id, "model.pth", text);
		}
		assert_true(nth > 2); /* its own content, and its metadata.json */
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_init_is_whole_or_leaves_nothing),
		T(test_opening_works_or_says_why),
		T(test_a_draft_whose_directory_cannot_be_read_is_not_taken_for_an_empty_one),
		T(test_a_mint_that_fails_takes_no_number_and_leaves_no_directory),
		T(test_a_commit_that_fails_leaves_the_draft_and_the_next_one_works),
		T(test_a_commit_whose_blobs_vanish_again_and_again_is_refused_and_loses_nothing),
		T(test_a_discard_that_fails_leaves_the_draft_whole),
		T(test_the_end_of_a_draft_on_a_full_disk_keeps_its_metadata_free_tree),
		T(test_a_tree_that_is_cleared_away_under_the_eyes_of_fsck_is_no_stray),
		T(test_what_the_disk_refuses_to_seal_is_sealed_by_the_next_mount),
	};
	return cmocka_run_group_tests_name("registry, failing calls", tests, NULL, NULL);
}
#endif
