/* The machine of "every fault": during each operation of a table each system call on the store, each allocation, each step of SQLite and each of its reads,
 * writes and syncs is made to fail in turn. The caller gets that error with a sentence, nothing is half-made, the next try
 * works, no descriptor is lost, and at the end the store is opened anew and everything committed is read back.
 *
 * By default the errors take turns over the calls; MINTFS_EVERY_FAULT=1 tries each error at each call (scripts/torture). */
#ifndef TEST_EVERY_FAULT_H
#define TEST_EVERY_FAULT_H

#include "registry_env.h"

#include "alloc_faults.h"

#define CALLS_MAX 3000
#define KEPT_MAX 4096

struct walk {
	struct fixture *x;
	struct fault f;
	int64_t model, product, id; /* the last: of what prepare made */
	uint32_t number;     /* the newest number that is certainly taken */
	int turn, bundle;    /* the second: a descriptor, from the first export on */
	char name[64], text[64];
	struct { int64_t id; char text[64]; } kept[KEPT_MAX]; /* committed: to be read at the end */
	int n_kept;
};

struct operation {
	const char *name;
	void (*prepare)(struct walk *w);
	int (*act)(struct walk *w);
	void (*is_old)(struct walk *w); /* it failed: nothing happened. NULL: it changes nothing */
	void (*is_new)(struct walk *w); /* it worked */
	bool silent;                    /* its errors carry no sentence (registry.h) */
	int limit;                      /* of the calls that are tried, where each try makes it longer; 0: all */
};

static int count_descriptors(void)
{
	int n = 0;
	DIR *d = opendir("/proc/self/fd");
	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void put_text(struct walk *w, const char *name, const char *text) { put(w->x, w->id, name, text); }

static void keep(struct walk *w)
{
	assert_true(w->n_kept < KEPT_MAX);
	w->kept[w->n_kept].id = w->id;
	strcpy(w->kept[w->n_kept++].text, w->text);
}

static bool has_file(struct walk *w, const char *name)
{
	char path[256];
	snprintf(path, sizeof path, "%s/drafts/%lld/%s", w->x->store, (long long)w->id, name);
	return access(path, F_OK) == 0;
}

/* ---- what operations begin with ---- */

static void fresh_draft(struct walk *w)
{
	struct catalog_version v = mint(w->x, w->model, "next");
	w->id = v.id;
	w->number = v.number;
	snprintf(w->text, sizeof w->text, "weights %d", w->turn);
	put_text(w, "model.pth", w->text);
	put_text(w, "notes.txt", "the same in each version");
	registry_settle(w->x->r);
}

static void commit_prepare(struct walk *w)
{
	fresh_draft(w);
	commit_ok(w->x, w->id);
}

/* ---- the machine ---- */

static const struct kind { const char *call; int errors[8]; } kinds[] = {
	{"*", {EIO, ENOSPC, EDQUOT, EMFILE, ENOMEM, EINTR, SYS_FAULT_SHORT, 0}},
	{"malloc", {ENOMEM, 0}},
	{"sql_step", {EIO, ENOSPC, ENOMEM, EBUSY, 0}},
	{"sql_io", {EIO, ENOSPC, ENOMEM, 0}},
};

/* Is this the right answer to a failure with `error`? SQLite's reads and writes come back as what SQLite makes of them. */
static bool is_right(const struct kind *k, int error, int rc)
{
	if (rc == -error)
		return true;
	if (!strcmp(k->call, "sql_io"))
		return rc == -EIO || rc == -ENOMEM || rc == -ENOSPC || rc == -EUCLEAN;
	return false;
}

/* The nth call fails. Returns how often it was made, at most. */
static int one(struct walk *w, const struct operation *o, const struct kind *k, int n, int error)
{
	w->turn++;
	o->prepare(w);
	w->f = (struct fault)FAULT_INIT;
	sys_fault_arm(k->call, n, error, false);
	int rc = o->act(w);
	int hits = sys_fault_hits();
	sys_fault_arm(NULL, 0, 0, false);
	if (rc < 0) {
		if (getenv("MINTFS_TELL"))
			fprintf(stderr, "%s: %s %d, %s: %s\n", o->name, k->call, n, strerror(error), w->f.text);
		if (!o->silent && (!w->f.error || !w->f.text[0]))
			fail_msg("%s: %s %d fails with %s: %d without a sentence", o->name, k->call, n, strerror(error), rc);
		if (!is_right(k, error, rc))
			fail_msg("%s: %s %d fails with %s, the caller hears %s: %s", o->name, k->call, n, strerror(error), strerror(-rc), w->f.text);
		if (o->is_old)
			o->is_old(w);
		w->f = (struct fault)FAULT_INIT;
		rc = o->act(w);
		if (rc < 0)
			fail_msg("%s: %s %d failed with %s, and the next try too: %s (%s)", o->name, k->call, n, strerror(error), strerror(-rc), w->f.text);
	}
	o->is_new(w);
	return hits;
}

static void everything_is_there(struct walk *w)
{
	registry_close(w->x->r);
	open_store(w->x);
	for (int i = 0; i < w->n_kept; i++) {
		assert_int_equal(get(w->x, w->kept[i].id).state, CATALOG_COMMITTED);
		assert_content(w->x, w->kept[i].id, "model.pth", w->kept[i].text);
	}
}

static void walk_through(struct walk *w, const struct operation *o, const struct kind *k)
{
	bool all = getenv("MINTFS_EVERY_FAULT") != NULL;
	int hits = 0, n_errors = 1, tried = 0;
	while (k->errors[n_errors]) /* each kind has one at least */
		n_errors++;
	one(w, o, k, CALLS_MAX, EIO); /* warms what is kept: statements, connections */
	int before = count_descriptors();
	for (int n = 1; hits >= n - 1 && (!o->limit || n <= o->limit); n++) {
		assert_true(n < CALLS_MAX);
		for (int e = all ? 0 : n % n_errors; e < (all ? n_errors : n % n_errors + 1); e++) {
			hits = one(w, o, k, n, k->errors[e]);
			tried += hits >= n;
		}
	}
	int after = count_descriptors();
	if (after > before + 2 * w->turn + 8) /* two for each draft that is left open on purpose */
		fail_msg("%s, %s: %d descriptors before, %d after", o->name, k->call, before, after);
	fprintf(stderr, "%-42s %-9s %4d failures\n", o->name, k->call, tried);
}

static void each_fault(void **state, const struct kind *k, const struct operation *operations, size_t n_operations)
{
	static struct walk walk;
	struct walk *w = &walk;
	memset(w, 0, sizeof *w);
	w->x = *state;
	w->model = make_path(w->x, "product/P001_all/mlstm");
	w->product = make_path(w->x, "product");
	for (int i = 1; i <= 2; i++) {
		w->turn++;
		fresh_draft(w);
		commit_ok(w->x, w->id);
		keep(w);
	}
	for (size_t i = 0; i < n_operations; i++)
		walk_through(w, &operations[i], k);
	everything_is_there(w);
	if (w->bundle > 0)
		close(w->bundle);
}

#define EVERY_FAULT_TESTS(operations) \
	static void test_each_system_call_fails_once_and_nothing_is_half_made(void **state) { each_fault(state, &kinds[0], operations, ARRAY_SIZE(operations)); } \
	static void test_each_allocation_fails_once_and_nothing_is_half_made(void **state) { each_fault(state, &kinds[1], operations, ARRAY_SIZE(operations)); } \
	static void test_each_sql_step_fails_once_and_nothing_is_half_made(void **state) { each_fault(state, &kinds[2], operations, ARRAY_SIZE(operations)); } \
	static void test_each_read_and_write_of_sqlite_fails_once_and_nothing_is_half_made(void **state) { each_fault(state, &kinds[3], operations, ARRAY_SIZE(operations)); }

#define EVERY_FAULT_MAIN(title) \
	int main(void) \
	{ \
		const struct CMUnitTest tests[] = { \
			cmocka_unit_test_setup_teardown(test_each_system_call_fails_once_and_nothing_is_half_made, setup_in_memory, teardown), \
			cmocka_unit_test_setup_teardown(test_each_allocation_fails_once_and_nothing_is_half_made, setup_in_memory, teardown), \
			cmocka_unit_test_setup_teardown(test_each_sql_step_fails_once_and_nothing_is_half_made, setup_in_memory, teardown), \
			cmocka_unit_test_setup_teardown(test_each_read_and_write_of_sqlite_fails_once_and_nothing_is_half_made, setup_in_memory, teardown), \
		}; \
		return cmocka_run_group_tests_name(title, tests, NULL, NULL); \
	}

#endif
