/* The entries of a very large version go into the catalog ahead of its commit, in slices: nobody sees them before, none stays of a commit that fails or dies, no sweep takes their contents. */
#include "registry_env.h"

#include "../../src/registry/keeping.h"

#include <pthread.h>

#define DIRS 5
#define FILES 3 /* in each */
#define ENTRIES (DIRS * (FILES + 1) + 1 /* metadata.json */)
#define SMALL 4

static struct catalog_version large_draft(struct fixture *x, int64_t model, const char *what)
{
	struct catalog_version v = mint(x, model, "next");
	struct draft *d;
	bool writable;
	assert_int_equal(registry_draft_get(x->r, v.id, &d, &writable), 0);
	for (int i = 0; i < DIRS; i++) {
		char name[32];
		snprintf(name, sizeof name, "d%d", i);
		assert_int_equal(mkdirat(draft_root(d), name, 0755), 0);
	}
	draft_put(d);
	for (int i = 0; i < DIRS * FILES; i++) {
		char name[32], text[64];
		snprintf(name, sizeof name, "d%d/f%d", i / FILES, i % FILES);
		snprintf(text, sizeof text, "%s %d", what, i);
		put(x, v.id, name, text);
	}
	return v;
}

struct look { struct fixture *x; const char *what; int n, files; };

static int look_at(const char *path, const struct catalog_file *file, void *arg)
{
	struct look *l = arg;
	int dir, number, fd;
	l->n++;
	if (file->type != CATALOG_FILE || sscanf(path, "d%d/f%d", &dir, &number) != 2)
		return 0;
	char text[64], expected[64];
	snprintf(expected, sizeof expected, "%s %d", l->what, dir * FILES + number);
	assert_int_equal(registry_file_open(l->x->r, file, &fd, NULL), 0);
	ssize_t got = read(fd, text, sizeof text);
	close(fd);
	assert_int_equal(got, strlen(expected));
	assert_memory_equal(text, expected, strlen(expected));
	l->files++;
	return 0;
}

static void is_committed(struct fixture *x, int64_t id, const char *what)
{
	struct look l = {.x = x, .what = what};
	struct catalog_conn *conn;
	assert_int_equal(get(x, id).state, CATALOG_COMMITTED);
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_file_list(conn, id, look_at, &l), 0);
	catalog_read_end(conn);
	assert_int_equal(l.n, ENTRIES);
	assert_int_equal(l.files, DIRS * FILES);
}

static int count_range(const struct catalog_file *file, void *arg)
{
	++*(int *)arg;
	return 0;
}

static int count_rows(struct fixture *x)
{
	struct catalog_conn *conn;
	int n = 0;
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_file_range(conn, 0, INT64_MAX, count_range, &n), 0);
	catalog_read_end(conn);
	return n;
}

static void is_sound(struct fixture *x)
{
	struct registry_fsck_result sum;
	assert_int_equal(registry_fsck(x->r, &(struct registry_fsck){.verify = true}, &sum, NULL), 0);
	assert_int_equal(sum.problems, 0);
}

static void test_a_version_is_the_same_in_slices_of_any_size(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	for (size_t size = 1; size <= ENTRIES + 1; size++) {
		char what[32];
		snprintf(what, sizeof what, "slices of %zu", size);
		struct catalog_version v = large_draft(x, model, what);
		x->r->slice = size;
		commit_ok(x, v.id);
		is_committed(x, v.id, what);
	}
	registry_settle(x->r);
	is_sound(x);
}

#ifdef MINTFS_FAULTS
static void commit_to_die(struct fixture *x, const char *point, int64_t id)
{
	pid_t pid = fork_to_die(x, point);
	if (pid == 0) {
		x->r->slice = SMALL;
		registry_commit(x->r, &x->me, id, NULL, NULL);
		registry_settle(x->r);
		_exit(0);
	}
	wait_for_death(x, point, pid);
}

static void test_a_death_between_slices_leaves_a_draft_and_the_next_mount_no_rows(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	static const char *const points[] = {"commit.in-slice:1", "commit.in-slice:2", "commit.in-slice:6", "commit.in-transaction"};
	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		struct catalog_version v = large_draft(x, model, points[i]);
		int before = count_rows(x);
		commit_to_die(x, points[i], v.id);
		assert_int_equal(get(x, v.id).state, CATALOG_DRAFT);
		registry_settle(x->r);
		assert_int_equal(count_rows(x), before);
		is_sound(x);
		x->r->slice = SMALL;
		commit_ok(x, v.id);
		is_committed(x, v.id, points[i]);
	}
}

static void test_a_commit_that_follows_a_death_at_once_waits_for_no_tidying(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = large_draft(x, model, "weights");
	commit_to_die(x, "commit.in-transaction", v.id); /* all rows are in */
	x->r->slice = 1;
	commit_ok(x, v.id); /* beside those who take the old ones out */
	registry_settle(x->r);
	is_committed(x, v.id, "weights");
	assert_int_equal(count_rows(x), ENTRIES);
	is_sound(x);
}
#endif

/* ---- beside a sweep ---- */

struct hand { struct catalog_commit c; size_t from, n; int rc; };

static int add_by_hand(struct catalog_conn *conn, void *arg)
{
	struct hand *h = arg;
	return h->from == 0 ? catalog_ahead_begin(conn, &h->c, h->n, &h->c.ahead) : catalog_ahead_add(conn, &h->c, h->from, h->n);
}

static int commit_by_hand(struct catalog_conn *conn, void *arg) { return catalog_version_commit(conn, &((struct hand *)arg)->c); }

static void add_rows(struct fixture *x, struct hand *h, size_t n)
{
	h->n = n;
	assert_int_equal(catalog_write(x->r->catalog, false, add_by_hand, h), 0);
	h->from += n;
}

static bool is_needed(struct fixture *x, struct references *refs, const struct blob_id *id)
{
	struct catalog_blob row = {0};
	struct catalog_conn *conn;
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(references_newer(refs, conn), 0);
	int rc = catalog_blob_find(conn, id, &row);
	catalog_read_end(conn);
	return rc == 0 && references_has(refs, row.id);
}

/* Others commit meanwhile, so that the slices come below entries that the sweep has passed; the first of them holds no file. */
static void test_a_sweep_needs_what_slices_bring_whenever_they_come(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_entry e[5] = {{.name = "d", .type = CATALOG_DIRECTORY, .parent = -1, .first_child = 1, .n_children = 4}};
	for (int i = 1; i < 5; i++)
		e[i] = (struct catalog_entry){.name = (const char *const[]){"", "a", "b", "c", "d"}[i], .type = CATALOG_FILE, .parent = 0, .inode = i, .nlink = 1, .size = 7, .blob = {{(uint8_t)i, 0xfe}}};
	for (int kept = 0; kept < 2; kept++) {
		struct hand h = {.c = {.version_id = mint(x, model, "next").id, .n_top = 1, .n_files = 4, .n_dirs = 1, .metrics_summary = "{}", .entries = e, .n_entries = 5}};
		auto_references struct references refs = {0};
		for (int i = 1; i < 5; i++)
			e[i].blob.sha256[2] = (uint8_t)kept;
		add_rows(x, &h, 1);
		committed(x, model, NULL);
		assert_int_equal(references_collect(x->r, INT64_MAX, true, &refs), 0);
		for (int i = 1; i < 4; i++) {
			assert_false(is_needed(x, &refs, &e[i].blob));
			add_rows(x, &h, 1);
			assert_true(is_needed(x, &refs, &e[i].blob));
			if (kept)
				references_keep(&refs);
			committed(x, model, NULL);
		}
		add_rows(x, &h, 1);
		assert_int_equal(catalog_write(x->r->catalog, false, commit_by_hand, &h), 0); /* and it is no draft any more */
		assert_true(is_needed(x, &refs, &e[4].blob));
	}
}

struct beside { struct fixture *x; int64_t id; char what[32]; struct blob_id content; int rc; };

static void *commit_beside(void *arg)
{
	struct beside *b = arg;
	b->rc = registry_commit(b->x->r, &b->x->me, b->id, NULL, NULL);
	return NULL;
}

/* As fsck does with a content that is damaged. -ENOENT: it is not recorded yet; -ESTALE: with its version already. */
static int lose_content(struct catalog_conn *conn, void *arg)
{
	struct beside *b = arg;
	char name[BLOB_HEX_SIZE + 8], hex[BLOB_HEX_SIZE];
	struct catalog_blob row;
	struct catalog_version v;
	int rc = catalog_blob_find(conn, &b->content, &row);
	if (rc == 0)
		rc = catalog_version_get(conn, b->id, &v);
	if (rc == 0 && v.state != CATALOG_DRAFT)
		rc = -ESTALE;
	blob_id_hex(&b->content, hex);
	snprintf(name, sizeof name, "blobs/%.2s/%s", hex, hex + 2);
	if (rc == 0)
		rc = sys_unlinkat(b->x->r->dirfd, name, 0);
	return rc < 0 ? rc : catalog_absent_set(conn, row.id, CATALOG_DAMAGED, time_now_ns(), "damaged");
}

static void hash_text(const char *text, struct blob_id *ret)
{
	struct blob_hasher *h;
	assert_int_equal(blob_hasher_new(&h), 0);
	assert_int_equal(blob_hasher_add(h, text, strlen(text)), 0);
	assert_int_equal(blob_hasher_finish(h, ret), 0);
	blob_hasher_free(h);
}

static void test_a_content_that_is_lost_between_its_slice_and_the_commit_is_put_again(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	int rc = -ESTALE;
	x->r->slice = 1;
	for (int i = 0; rc == -ESTALE; i++) { /* until we are in time */
		struct beside b = {.x = x};
		char text[64];
		pthread_t thread;
		snprintf(b.what, sizeof b.what, "try %d", i);
		snprintf(text, sizeof text, "%s 0", b.what);
		hash_text(text, &b.content);
		b.id = large_draft(x, model, b.what).id;
		assert_int_equal(pthread_create(&thread, NULL, commit_beside, &b), 0);
		do
			rc = catalog_write(x->r->catalog, false, lose_content, &b);
		while (rc == -ENOENT);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(b.rc, 0);
		is_committed(x, b.id, b.what);
	}
	assert_int_equal(rc, 0);
	registry_settle(x->r);
	is_sound(x);
}

static void test_rows_of_another_attempt_are_neither_added_to_nor_committed_nor_dropped(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = large_draft(x, model, "weights");
	struct catalog_entry e[2] = {{.name = "a", .type = CATALOG_DIRECTORY, .parent = -1}, {.name = "b", .type = CATALOG_DIRECTORY, .parent = -1, .inode = 1}};
	struct hand old = {.c = {.version_id = v.id, .n_top = 2, .n_dirs = 2, .metrics_summary = "{}", .entries = e, .n_entries = 2}}, new = old, half;
	int64_t old_end, end;
	add_rows(x, &old, 2);
	assert_int_equal(ahead_end(x->r, v.id, &old_end), 0);
	assert_int_equal(ahead_drop(x->r, v.id, old_end), 0);
	add_rows(x, &new, 1);
	assert_int_equal(catalog_write(x->r->catalog, false, commit_by_hand, &old), -ESTALE);
	half = new;
	assert_int_equal(catalog_write(x->r->catalog, false, commit_by_hand, &half), -ESTALE); /* one is missing */
	assert_int_equal(ahead_drop(x->r, v.id, old_end), 0);
	assert_int_equal(ahead_end(x->r, v.id, &end), 0);
	assert_int_not_equal(end, 0);
	assert_int_not_equal(end, old_end);
	assert_int_equal(count_rows(x), 1);
	old.from = 1;
	old.n = 1;
	assert_int_equal(catalog_write(x->r->catalog, false, add_by_hand, &old), -ESTALE);
	commit_ok(x, v.id); /* the draft itself */
	is_committed(x, v.id, "weights");
	assert_int_equal(count_rows(x), ENTRIES);
}

/* A commit failed, and so did the taking out of its rows. */
static void test_a_draft_that_is_discarded_leaves_no_rows(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_entry e[2] = {{.name = "a", .type = CATALOG_DIRECTORY, .parent = -1}, {.name = "b", .type = CATALOG_DIRECTORY, .parent = -1, .inode = 1}};
	struct hand h = {.c = {.version_id = mint(x, model, "next").id, .n_top = 2, .n_dirs = 2, .metrics_summary = "{}", .entries = e, .n_entries = 2}};
	add_rows(x, &h, 1);
	assert_int_equal(registry_discard(x->r, &x->me, h.c.version_id, REGISTRY_DISCARD_FORCE, NULL), 0);
	registry_settle(x->r);
	assert_int_equal(count_rows(x), 0);
	is_sound(x);
}

static struct hand rows_of(int64_t version_id, struct catalog_entry e[3])
{
	for (int i = 0; i < 3; i++)
		e[i] = (struct catalog_entry){.name = (const char *const[]){"a", "b", "c"}[i], .type = CATALOG_DIRECTORY, .parent = -1, .inode = i};
	return (struct hand){.c = {.version_id = version_id, .n_top = 3, .n_dirs = 3, .metrics_summary = "{}", .entries = e, .n_entries = 3}};
}

static void nothing_is_left_of(struct fixture *x, int64_t id, enum catalog_state state)
{
	WAIT_FOR(count_rows(x) == 0 && get(x, id).state == state && (state == CATALOG_DRAFT || !exists(x, "drafts/%lld", id)));
	is_sound(x);
}

/* The drive ends before it comes to them. Nor is anything wrong until the next. */
static void test_the_end_of_a_drive_leaves_the_rows_of_a_discarded_draft_to_the_next(void **state)
{
	struct fixture *x = *state;
	struct catalog_entry e[3];
	int64_t id = mint(x, make_path(x, "product/P001_all/mlstm"), "next").id;
	struct hand h = rows_of(id, e);
	add_rows(x, &h, 2);
	registry_close_soon(x->r);
	assert_int_equal(registry_discard(x->r, &x->me, id, REGISTRY_DISCARD_FORCE, NULL), 0);
	is_sound(x);
	registry_close(x->r);
	open_store(x);
	nothing_is_left_of(x, id, CATALOG_DISCARDED);
}

static void test_a_repair_leaves_no_rows_of_a_draft_whose_tree_is_lost(void **state)
{
	struct fixture *x = *state;
	struct catalog_entry e[3];
	char tree[128];
	int64_t id = mint(x, make_path(x, "product/P001_all/mlstm"), "next").id;
	struct hand h = rows_of(id, e);
	struct registry_fsck_result sum;
	add_rows(x, &h, 2);
	snprintf(tree, sizeof tree, "%s/drafts/%lld", x->store, (long long)id);
	assert_int_equal(rmdir(tree), 0);
	assert_int_equal(registry_fsck(x->r, &(struct registry_fsck){.repair = true}, &sum, NULL), 0);
	assert_int_equal(sum.repaired, 1);
	nothing_is_left_of(x, id, CATALOG_DISCARDED);
}

#ifdef MINTFS_FAULTS
/* A draft with three rows ahead, of which a process dies while it takes them out. */
static int64_t dies_while_dropping(struct fixture *x, int64_t model, const char *point, void prepare(struct fixture *x, int64_t id))
{
	int64_t id = mint(x, model, "next").id;
	pid_t pid = fork_to_die(x, point);
	if (pid == 0) {
		struct catalog_entry e[3];
		struct hand h = rows_of(id, e);
		add_rows(x, &h, 3);
		x->r->slice = 1;
		prepare(x, id);
		registry_settle(x->r);
		registry_close(x->r);
		_exit(0);
	}
	wait_for_death(x, point, pid);
	return id;
}

static void drop_now(struct fixture *x, int64_t id)
{
	int64_t end;
	if (ahead_end(x->r, id, &end) == 0)
		ahead_drop(x->r, id, end);
}

static void discard_now(struct fixture *x, int64_t id)
{
	registry_discard(x->r, &x->me, id, REGISTRY_DISCARD_FORCE, NULL);
	WAIT_FOR(count_rows(x) == 0);
}

static void mount_without_its_tree(struct fixture *x, int64_t id)
{
	char tree[128];
	registry_close(x->r);
	snprintf(tree, sizeof tree, "%s/drafts/%lld", x->store, (long long)id);
	rmdir(tree);
	open_store(x);
	WAIT_FOR(count_rows(x) == 0);
}

static void test_what_a_death_leaves_of_the_rows_goes_with_the_next_mount(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	static const struct { const char *point; void (*prepare)(struct fixture *x, int64_t id); enum catalog_state becomes; } deaths[] = {
		{"commit.in-drop:1", drop_now, CATALOG_DRAFT},
		{"commit.in-drop:2", drop_now, CATALOG_DRAFT},
		{"discard.recorded", discard_now, CATALOG_DISCARDED},
		{"commit.in-drop:2", discard_now, CATALOG_DISCARDED},
		{"commit.in-drop:1", mount_without_its_tree, CATALOG_DISCARDED},
	};
	for (size_t i = 0; i < ARRAY_SIZE(deaths); i++)
		nothing_is_left_of(x, dies_while_dropping(x, model, deaths[i].point, deaths[i].prepare), deaths[i].becomes);
}
#endif

static void test_a_backup_has_no_rows_of_a_commit_under_way(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_entry e[2] = {{.name = "a", .type = CATALOG_DIRECTORY, .parent = -1}, {.name = "b", .type = CATALOG_DIRECTORY, .parent = -1, .inode = 1}};
	struct hand h = {.c = {.version_id = mint(x, model, "next").id, .n_top = 2, .n_dirs = 2, .metrics_summary = "{}", .entries = e, .n_entries = 2}};
	struct fault f = FAULT_INIT;
	char path[96];
	int64_t stays = committed(x, model, NULL);
	add_rows(x, &h, 1);
	snprintf(path, sizeof path, "%s/backup", x->path);
	struct registry_copy_totals totals;
	if (registry_backup(x->r, &(struct registry_copy){.dest = path}, &totals, &f) != 0)
		fail_msg("%s", f.text);
	struct registry *r = x->r;
	struct registry_options o = {.path = path, .read_only = true};
	assert_int_equal(registry_open(&o, &x->r, &f), 0);
	assert_int_equal(get(x, h.c.version_id).state, CATALOG_DISCARDED);
	assert_content(x, stays, "model.pth", "weights");
	assert_int_equal(count_rows(x), 2); /* model.pth, metadata.json */
	is_sound(x);
	registry_close(x->r);
	x->r = r;
	is_sound(x); /* nor is anything wrong with the original */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_version_is_the_same_in_slices_of_any_size, setup_in_memory, teardown),
#ifdef MINTFS_FAULTS
		cmocka_unit_test_setup_teardown(test_a_death_between_slices_leaves_a_draft_and_the_next_mount_no_rows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_commit_that_follows_a_death_at_once_waits_for_no_tidying, setup, teardown),
#endif
		cmocka_unit_test_setup_teardown(test_a_sweep_needs_what_slices_bring_whenever_they_come, setup_in_memory, teardown),
		cmocka_unit_test_setup_teardown(test_a_content_that_is_lost_between_its_slice_and_the_commit_is_put_again, setup_in_memory, teardown),
		cmocka_unit_test_setup_teardown(test_rows_of_another_attempt_are_neither_added_to_nor_committed_nor_dropped, setup_in_memory, teardown),
		cmocka_unit_test_setup_teardown(test_a_draft_that_is_discarded_leaves_no_rows, setup_in_memory, teardown),
		cmocka_unit_test_setup_teardown(test_the_end_of_a_drive_leaves_the_rows_of_a_discarded_draft_to_the_next, setup_in_memory, teardown),
		cmocka_unit_test_setup_teardown(test_a_repair_leaves_no_rows_of_a_draft_whose_tree_is_lost, setup_in_memory, teardown),
#ifdef MINTFS_FAULTS
		cmocka_unit_test_setup_teardown(test_what_a_death_leaves_of_the_rows_goes_with_the_next_mount, setup_in_memory, teardown),
#endif
		cmocka_unit_test_setup_teardown(test_a_backup_has_no_rows_of_a_commit_under_way, setup_in_memory, teardown),
	};
	return cmocka_run_group_tests_name("rows ahead of a commit", tests, NULL, NULL);
}
