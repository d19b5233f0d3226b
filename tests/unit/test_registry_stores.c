/* The registry without a mount: stores that end and begin again, several users of one, discards, and many at once. */
#include "registry_env.h"

#include "../../src/registry/registry.h"

/* ---- life and death of stores ---- */

static void test_a_draft_survives_its_daemon_and_is_served_by_the_next(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = mint(x, model, "next");
	put(x, v.id, "model.pth", "weights");
	registry_close(x->r);
	open_store(x);
	assert_int_equal(get(x, v.id).state, CATALOG_DRAFT);
	commit_ok(x, v.id);
}

static void test_a_draft_of_a_living_mount_is_read_only_elsewhere(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = mint(x, model, "next");
	put(x, v.id, "model.pth", "weights");
	struct registry *second;
	struct registry_options o = {.path = x->store, .serve = true, .mountpoint = "/elsewhere"};
	assert_int_equal(registry_open(&o, &second, NULL), 0);
	struct draft *d;
	bool writable = true;
	struct catalog_mount m;
	struct fault f = FAULT_INIT;
	assert_int_equal(registry_draft_get(second, v.id, &d, &writable), 0);
	assert_false(writable);
	draft_put(d);
	assert_int_equal(registry_commit(second, &x->me, v.id, NULL, &f), -EROFS);
	assert_int_equal(f.verdict, VERDICT_ELSEWHERE);
	struct catalog_version now = get(x, v.id);
	assert_int_equal(registry_draft_mount(second, &now, &m), 0);
	assert_string_equal(m.mountpoint, "/nowhere");
	registry_close(second);
	commit_ok(x, v.id);
}

/* ---- discard ---- */

static void test_discard_refuses_while_a_file_is_open_and_force_does_not_ask(void **state)
{
	struct fixture *x = *state;
	struct catalog_version v = mint(x, make_path(x, "product/P001_all/mlstm"), "next");
	struct fault f = FAULT_INIT;
	struct draft *d;
	struct stat st;
	bool writable;
	put(x, v.id, "model.pth", "weights");
	assert_int_equal(registry_draft_get(x->r, v.id, &d, &writable), 0);
	assert_int_equal(fstatat(draft_root(d), "model.pth", &st, 0), 0);
	assert_int_equal(draft_file_opened(d, st.st_ino, true, "model.pth"), 0);
	assert_int_equal(registry_discard(x->r, NULL, v.id, REGISTRY_DISCARD_EMPTY_ONLY, &f), -EBUSY);
	assert_int_equal(f.verdict, VERDICT_BUSY);
	assert_non_null(strstr(f.text, "v1 of product/P001_all/mlstm"));
	assert_int_equal(registry_discard(x->r, NULL, v.id, 0, &f), -EBUSY);
	assert_int_equal(f.verdict, VERDICT_BUSY);
	assert_int_equal(registry_discard(x->r, NULL, v.id, REGISTRY_DISCARD_FORCE, &f), 0);
	draft_file_closed(d, st.st_ino, true, -1);
	draft_put(d);
	registry_settle(x->r);
	assert_false(exists(x, "drafts/%lld", v.id));
	assert_int_equal(registry_discard(x->r, NULL, v.id, 0, &f), -ENOENT);
	assert_int_equal(f.verdict, VERDICT_NOT_DRAFT);
}

static void test_rmdir_discards_an_empty_draft_only_and_a_committed_version_never(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = mint(x, model, "next"), empty = mint(x, model, "next");
	struct fault f = FAULT_INIT;
	put(x, v.id, "model.pth", "weights");
	assert_int_equal(registry_discard(x->r, NULL, v.id, REGISTRY_DISCARD_EMPTY_ONLY, &f), -ENOTEMPTY);
	assert_int_equal(registry_discard(x->r, NULL, empty.id, REGISTRY_DISCARD_EMPTY_ONLY, &f), 0);
	commit_ok(x, v.id);
	assert_int_equal(registry_discard(x->r, NULL, v.id, 0, &f), -EROFS);
	assert_int_equal(f.verdict, VERDICT_IMMUTABLE);
	assert_int_equal(registry_commit(x->r, &x->me, empty.id, NULL, &f), -ENOENT);
	assert_int_equal(f.verdict, VERDICT_NOT_DRAFT);
}

/* ---- several at once ---- */

/* cmocka's assertions belong to the test's own thread: the others only count what they see. */
struct crowd { struct fixture *x; int64_t id; pthread_barrier_t start; int results[3], strange; uint8_t seen[65]; };

static void strange_unless(struct crowd *c, bool condition)
{
	if (!condition)
		__atomic_add_fetch(&c->strange, 1, __ATOMIC_SEQ_CST);
}

static void *mint_one(void *arg)
{
	struct crowd *c = arg;
	struct catalog_version v;
	pthread_barrier_wait(&c->start);
	bool good = registry_mint(c->x->r, &c->x->me, c->id, "next", 0755, &v, NULL) == 0 && v.number <= 64;
	strange_unless(c, good);
	if (good)
		__atomic_add_fetch(&c->seen[v.number], 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void *commit_or_discard(void *arg)
{
	struct crowd *c = arg;
	int which = pthread_barrier_wait(&c->start) == PTHREAD_BARRIER_SERIAL_THREAD;
	int rc = which ? registry_discard(c->x->r, NULL, c->id, 0, NULL) : registry_commit(c->x->r, &c->x->me, c->id, NULL, NULL);
	strange_unless(c, rc == 0 || rc == -EBUSY || rc == (which ? -EROFS : -ENOENT)); /* as who comes later is told */
	__atomic_add_fetch(&c->results[rc != 0 ? 2 : which], 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void *get_writable(void *arg)
{
	struct crowd *c = arg;
	struct draft *d;
	bool writable = false;
	pthread_barrier_wait(&c->start);
	if (registry_draft_get(c->x->r, c->id, &d, &writable) == 0)
		draft_put(d);
	__atomic_add_fetch(&c->results[writable], 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void all_at_once(struct crowd *c, void *(*fn)(void *), unsigned n)
{
	pthread_t threads[64];
	pthread_barrier_init(&c->start, NULL, n);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fn, c), 0);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&c->start);
	assert_int_equal(c->strange, 0);
}

static void test_sixty_four_mints_at_once_get_sixty_four_dense_numbers(void **state)
{
	struct crowd c = {.x = *state};
	c.id = make_path(c.x, "product/P001_all/mlstm");
	all_at_once(&c, mint_one, 64);
	for (unsigned i = 1; i <= 64; i++)
		assert_int_equal(c.seen[i], 1);
}

static void test_a_draft_committed_and_discarded_at_once_is_one_or_the_other(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	for (int i = 0; i < 50; i++) {
		struct crowd c = {.x = x, .id = mint(x, model, "next").id};
		put(x, c.id, "model.pth", "weights");
		all_at_once(&c, commit_or_discard, 4);
		registry_settle(x->r);
		enum catalog_state s = get(x, c.id).state;
		if (c.results[1])
			assert_int_equal(s, CATALOG_DISCARDED);
		else
			assert_int_equal(s, CATALOG_COMMITTED);
		assert_int_equal(c.results[0] > 0, s == CATALOG_COMMITTED);
		assert_false(exists(x, "drafts/%lld", c.id));
		char *reason = reason_of(x, c.id);
		if (s == CATALOG_COMMITTED) /* nor did who came second write one later */
			assert_null(reason);
		free(reason);
	}
}

static void test_whoever_comes_first_to_a_draft_left_over_all_can_write_it(void **state)
{
	struct fixture *x = *state;
	struct catalog_version v = mint(x, make_path(x, "product/P001_all/mlstm"), "next");
	run_wait_observed(x->r, v.run_id); /* a git just forked holds copies of our locks for a moment */
	for (int i = 0; i < 20; i++) {
		struct crowd c = {.x = x, .id = v.id};
		live_remove(x->r->live, v.id); /* as if nobody served it */
		all_at_once(&c, get_writable, 8);
		assert_int_equal(c.results[1], 8);
	}
}

/* The blobs of a commit are sealed behind it; who comes with the same content waits for that and does not copy. */
static void test_a_commit_right_behind_another_shares_its_contents(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	for (int i = 0; i < 20; i++) {
		struct catalog_version v[2] = {mint(x, model, "next"), mint(x, model, "next")};
		struct stat st[2], tree;
		char text[32], name[64];
		snprintf(text, sizeof text, "weights %d", i);
		put(x, v[0].id, "model.pth", text);
		put(x, v[1].id, "model.pth", text);
		for (int k = 0; k < 2; k++) {
			commit_ok(x, v[k].id);
			struct catalog_conn *conn;
			struct catalog_file file;
			int fd;
			assert_int_equal(registry_read_begin(x->r, &conn), 0);
			assert_int_equal(catalog_file_find(conn, -v[k].id, "model.pth", &file), 0);
			catalog_read_end(conn);
			assert_int_equal(registry_file_open(x->r, &file, &fd, NULL), 0);
			assert_int_equal(fstat(fd, &st[k]), 0);
			close(fd);
		}
		assert_int_equal(st[0].st_ino, st[1].st_ino);
		registry_settle(x->r);
		snprintf(name, sizeof name, "%s/drafts/%lld", x->store, (long long)v[1].id);
		assert_int_equal(stat(name, &tree), -1);
	}
}

/* A lookup may have read the row just before the commit, and come to the directory just after it went. */
struct committer { struct fixture *x; int64_t id; pthread_t thread; int rc; };

static void *commit_run(void *arg)
{
	struct committer *c = arg;
	c->rc = registry_commit(c->x->r, &c->x->me, c->id, NULL, NULL);
	return NULL;
}

/* A commit that has put its content and not recorded it yet: it waits for the store's lock, which the test holds. */
static int start_commit(struct fixture *x, struct committer *c, const struct blob_id *id)
{
	char hex[BLOB_HEX_SIZE], path[160];
	snprintf(path, sizeof path, "%s/lock", x->store);
	int lock = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(sys_lock(lock, true, true), 0);
	assert_int_equal(pthread_create(&c->thread, NULL, commit_run, c), 0);
	blob_id_hex(id, hex);
	snprintf(path, sizeof path, "%s/blobs/%.2s/%s", x->store, hex, hex + 2);
	WAIT_FOR(access(path, F_OK) == 0);
	return lock;
}

/* As a sweep takes a content that nobody refers to yet, and a commit puts its own that comes to nothing (a full disk, a kill). */
static void sweep_and_put(struct fixture *x, const struct blob_id *id, int64_t other, const char *name, uint64_t size)
{
	struct blob_store *blobs;
	struct draft *d;
	bool writable;
	auto_close int store = open(x->store, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(registry_draft_get(x->r, other, &d, &writable), 0);
	struct blob_item item = {.dirfd = draft_root(d), .path = name, .id = *id, .size = size};
	assert_int_equal(blob_store_open_local(store, false, NULL, &blobs, NULL), 0);
	assert_int_equal(blob_remove(blobs, id), 0);
	assert_int_equal(blob_put_batch(blobs, &item, 1, NULL), 0);
	blob_store_close(blobs);
	draft_put(d);
}

static void test_no_commit_takes_another_drafts_file_for_a_content_of_its_own_that_was_swept(void **state)
{
	static const char old[] = "weights", new[] = "WEIGHTS";
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = mint(x, model, "next"), other = mint(x, model, "next");
	struct committer c = {.x = x, .id = v.id};
	struct blob_hasher *h;
	struct blob_id id;
	put(x, v.id, "model.pth", old);
	put(x, other.id, "model.pth", old);
	assert_int_equal(blob_hasher_new(&h), 0);
	assert_int_equal(blob_hasher_add(h, old, strlen(old)), 0);
	assert_int_equal(blob_hasher_finish(h, &id), 0);
	blob_hasher_free(h);
	int lock = start_commit(x, &c, &id);
	sweep_and_put(x, &id, other.id, "model.pth", strlen(old));
	close(lock);
	assert_int_equal(pthread_join(c.thread, NULL), 0);
	assert_int_equal(c.rc, 0);
	registry_settle(x->r);
	put(x, other.id, "model.pth", new); /* its trainer goes on */
	assert_content(x, v.id, "model.pth", old);
	commit_ok(x, other.id);
	assert_content(x, other.id, "model.pth", new);
	registry_settle(x->r);
	assert_false(exists(x, "drafts/%lld", v.id));
	assert_false(exists(x, "drafts/%lld", other.id));
}

static void test_a_draft_that_was_committed_since_it_was_looked_up_is_gone_not_lost(void **state)
{
	struct fixture *x = *state;
	struct catalog_version v = mint(x, make_path(x, "product/P001_all/mlstm"), "next"), lost = mint(x, v.model_id, "next");
	struct live *l;
	put(x, v.id, "model.pth", "weights");
	commit_ok(x, v.id);
	registry_settle(x->r);
	assert_false(exists(x, "drafts/%lld", v.id));
	assert_int_equal(live_adopt(x->r->live, &v, &l), -ESTALE); /* v still says draft */
	live_remove(x->r->live, lost.id);
	assert_int_equal(drafts_remove(x->r->drafts, lost.id), 0);
	assert_int_equal(live_adopt(x->r->live, &lost, &l), -ENOENT);
}

/* ---- read-only ---- */

static void test_a_store_opened_read_only_is_read_and_nothing_else(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm"), id = committed(x, model, NULL);
	struct catalog_version draft = mint(x, model, "next"), v;
	put(x, draft.id, "model.pth", "weights");
	registry_close(x->r);
	struct registry_options o = {.path = x->store, .read_only = true, .serve = true, .mountpoint = "/nowhere"};
	struct fault f = FAULT_INIT;
	struct catalog_dir dir;
	struct catalog_alias a;
	struct draft *d;
	bool writable = true;
	uint32_t n;
	assert_int_equal(registry_open(&o, &x->r, NULL), 0);
	assert_true(registry_read_only(x->r));
	assert_int_equal(registry_mint(x->r, &x->me, model, "latest", 0755, &v, &f), -EROFS);
	assert_int_equal(f.verdict, VERDICT_READ_ONLY);
	assert_int_equal(registry_commit(x->r, &x->me, draft.id, NULL, &f), -EROFS);
	assert_int_equal(registry_discard(x->r, NULL, draft.id, 0, &f), -EROFS);
	assert_int_equal(registry_dir_make(x->r, &x->me, CATALOG_DIR_ROOT, "product", 0755, &dir, &f), -EROFS);
	assert_int_equal(registry_dir_remove(x->r, CATALOG_DIR_ROOT, "product", &f), -EROFS);
	assert_int_equal(registry_alias_set(x->r, &x->me, model, "production", "v1", &a, &f), -EROFS);
	assert_int_equal(registry_dir_set(x->r, model, REGISTRY_SET_MODE, &(struct catalog_dir){.mode = 0700}, &dir), -EROFS);
	assert_int_equal(registry_commit(x->r, &x->me, id, NULL, &f), 0); /* it is already */
	assert_int_equal(registry_draft_get(x->r, draft.id, &d, &writable), 0);
	assert_false(writable);
	draft_put(d);
	assert_int_equal(registry_latest(x->r, model, &x->me, &n), 0);
	assert_int_equal(n, 1);
	assert_content(x, id, "model.pth", "weights");
}

/* ---- without a daemon ---- */

static void test_the_command_line_commits_what_a_dead_daemon_left(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = mint(x, model, "next");
	put(x, v.id, "model.pth", "weights");
	registry_close(x->r);
	struct registry_options o = {.path = x->store};
	assert_int_equal(registry_open(&o, &x->r, NULL), 0);
	assert_int_equal(registry_commit(x->r, &x->me, v.id, "by hand", NULL), 0);
	assert_int_equal(get(x, v.id).state, CATALOG_COMMITTED);
	registry_settle(x->r);
	assert_false(exists(x, "drafts/%lld", v.id));
}

static void test_a_second_mount_is_never_taken_for_dead(void **state)
{
	struct fixture *x = *state;
	struct registry_options o = {.path = x->store, .serve = true, .mountpoint = "/elsewhere"};
	for (int i = 0; i < 5; i++) {
		struct registry *second;
		struct catalog_mount m;
		struct catalog_conn *conn;
		bool alive = false;
		assert_int_equal(registry_open(&o, &second, NULL), 0);
		assert_int_equal(registry_read_begin(second, &conn), 0);
		assert_int_equal(catalog_mount_get(conn, x->r->mount_id, &m), 0);
		catalog_read_end(conn);
		assert_int_equal(registry_mount_alive(second, &m, &alive), 0);
		assert_true(alive);
		m.id = second->mount_id;
		registry_close(second);
		assert_int_equal(registry_mount_alive(x->r, &m, &alive), 0);
		assert_false(alive);
	}
}

static void test_a_model_removed_since_it_was_looked_up_is_not_minted_into(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm"), parent = make_path(x, "product/P001_all");
	struct catalog_version v = mint(x, model, "next");
	struct catalog_dir d;
	struct fault f = FAULT_INIT;
	assert_int_equal(registry_discard(x->r, NULL, v.id, 0, NULL), 0);
	assert_int_equal(registry_dir_remove(x->r, parent, "mlstm", NULL), 0);
	assert_int_equal(registry_mint(x->r, &x->me, model, "next", 0755, &v, &f), -ENOENT);
	assert_int_equal(registry_dir_remove(x->r, make_path(x, "product"), "P001_all", NULL), 0);
	assert_int_equal(registry_dir_make(x->r, &x->me, parent, "kan", 0755, &d, &f), -ENOENT);
	assert_int_equal(make_path(x, "product/P001_all/mlstm"), model);
	assert_int_equal(mint(x, model, "next").number, 2);
}

static void test_one_mkdir_does_not_use_up_the_numbers_of_a_model(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v;
	struct fault f = FAULT_INIT;
	assert_int_equal(mint(x, model, "next").number, 1);
	assert_int_equal(registry_mint(x->r, &x->me, model, "v999999999", 0755, &v, &f), -ERANGE);
	assert_int_equal(f.verdict, VERDICT_NUMBER_FAR);
	assert_non_null(strstr(f.text, "v999999999 of product/P001_all/mlstm"));
	assert_non_null(strstr(f.text, "the next is v2"));
	assert_int_equal(mint(x, model, "next").number, 2);
	assert_int_equal(mint(x, model, "v20251126").number, 20251126);
	assert_int_equal(mint(x, model, "v899999999").number, 899999999);
	assert_int_equal(registry_mint(x->r, &x->me, model, "v900000001", 0755, &v, NULL), -ERANGE);
	assert_int_equal(mint(x, model, "v900000000").number, 900000000);
	assert_int_equal(mint(x, model, "next").number, 900000001);
}

static int set_last_number(struct catalog_conn *conn, void *arg)
{
	struct catalog_model m;
	int rc = catalog_model_get(conn, *(int64_t *)arg, &m);
	m.last_number = 999999998;
	return rc == 0 ? catalog_model_update(conn, &m) : rc;
}

static void test_the_last_number_of_all_ends_the_model(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v;
	struct fault f = FAULT_INIT;
	assert_int_equal(catalog_write(x->r->catalog, false, set_last_number, &model), 0);
	assert_int_equal(mint(x, model, "v999999999").number, 999999999);
	assert_int_equal(registry_mint(x->r, &x->me, model, "next", 0755, &v, &f), -EMLINK);
	assert_int_equal(f.verdict, VERDICT_NUMBERS_OUT);
}

static void test_a_lost_or_cut_blob_is_named(void **state)
{
	struct fixture *x = *state;
	int64_t id = committed(x, make_path(x, "product/P001_all/mlstm"), NULL);
	struct catalog_conn *conn;
	struct catalog_file file;
	struct fault f = FAULT_INIT;
	char hex[BLOB_HEX_SIZE];
	int fd;
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_file_find(conn, -id, "model.pth", &file), 0);
	catalog_read_end(conn);
	blob_id_hex(&file.blob, hex);
	file.size++;
	assert_int_equal(registry_file_open(x->r, &file, &fd, &f), -EIO);
	file.size--;
	assert_int_equal(blob_remove(x->r->blobs, &file.blob), 0);
	assert_int_equal(registry_file_open(x->r, &file, &fd, NULL), -EIO);
	assert_int_equal(registry_file_open(x->r, &file, &fd, &f), -EIO);
	assert_int_equal(f.verdict, VERDICT_DAMAGED);
	assert_non_null(strstr(f.text, hex));
	assert_non_null(strstr(f.text, "model.pth"));
}

static void test_init_refuses_a_second_time_and_in_a_full_directory(void **state)
{
	struct fixture *x = *state;
	struct fault f = FAULT_INIT;
	assert_int_equal(registry_init(x->store, &f), -EEXIST);
	assert_non_null(strstr(f.text, x->store));
	assert_int_equal(registry_init(x->path, &f), -ENOTEMPTY);
	assert_int_equal(registry_init("/proc/version", &f), -ENOTDIR);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_draft_survives_its_daemon_and_is_served_by_the_next),
		T(test_a_draft_of_a_living_mount_is_read_only_elsewhere),
		T(test_discard_refuses_while_a_file_is_open_and_force_does_not_ask),
		T(test_rmdir_discards_an_empty_draft_only_and_a_committed_version_never),
		T(test_sixty_four_mints_at_once_get_sixty_four_dense_numbers),
		T(test_a_draft_committed_and_discarded_at_once_is_one_or_the_other),
		T(test_whoever_comes_first_to_a_draft_left_over_all_can_write_it),
		T(test_a_commit_right_behind_another_shares_its_contents),
		T(test_no_commit_takes_another_drafts_file_for_a_content_of_its_own_that_was_swept),
		T(test_a_draft_that_was_committed_since_it_was_looked_up_is_gone_not_lost),
		T(test_a_store_opened_read_only_is_read_and_nothing_else),
		T(test_the_command_line_commits_what_a_dead_daemon_left),
		T(test_a_second_mount_is_never_taken_for_dead),
		T(test_a_model_removed_since_it_was_looked_up_is_not_minted_into),
		T(test_one_mkdir_does_not_use_up_the_numbers_of_a_model),
		T(test_the_last_number_of_all_ends_the_model),
		T(test_a_lost_or_cut_blob_is_named),
		T(test_init_refuses_a_second_time_and_in_a_full_directory),
	};
	return cmocka_run_group_tests_name("registry stores", tests, NULL, NULL);
}
