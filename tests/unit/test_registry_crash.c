/* A process that dies at any step: the next mount finds the old state or the new one, whole, and can go on. */
#include "registry_env.h"

#ifndef MINTFS_FAULTS
int main(void) { return 77; /* needs crash points */ }
#else

/* Runs fn on the store in a child that is to die at `point`, and opens the store again. */
static void dies_at(struct fixture *x, const char *point, void (*fn)(struct fixture *x, int64_t id), int64_t id)
{
	pid_t pid = fork_to_die(x, point);
	if (pid == 0) {
		fn(x, id);
		_exit(0);
	}
	wait_for_death(x, point, pid);
}

static void do_commit(struct fixture *x, int64_t id)
{
	registry_commit(x->r, &x->me, id, "a message", NULL);
	registry_settle(x->r); /* its last steps run behind it */
}

static void do_discard(struct fixture *x, int64_t id) { registry_discard(x->r, NULL, id, 0, NULL); }

static void do_mint(struct fixture *x, int64_t model)
{
	struct catalog_version v;
	registry_mint(x->r, &x->me, model, "next", 0755, &v, NULL);
}

static void do_alias(struct fixture *x, int64_t model)
{
	struct catalog_alias a;
	registry_alias_set(x->r, &x->me, model, "production", "v2", &a, NULL);
}

static void do_retire(struct fixture *x, int64_t id) { registry_retire(x->r, &x->me, id, &(struct registry_retire){.force = true}, NULL); }

static void do_gc(struct fixture *x, int64_t id)
{
	struct registry_gc_result sum;
	registry_gc(x->r, &(struct registry_gc){.grace_ns = 0}, &sum, NULL);
}

static void do_repair(struct fixture *x, int64_t id)
{
	struct registry_fsck_result sum;
	registry_fsck(x->r, &(struct registry_fsck){.verify = true, .repair = true}, &sum, NULL);
}

static int count_names(struct fixture *x, const char *dir)
{
	char path[256];
	int n = 0;
	snprintf(path, sizeof path, "%s/%s", x->store, dir);
	DIR *d = opendir(path);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static const char *const before_it[] = {"commit.hashed", "commit.metadata-written", "commit.blobs-put", "commit.in-transaction"};
static const char *const after_it[] = {"commit.recorded", "commit.tidying", "commit.staging-emptied", "commit.sealed"};

static void test_death_before_the_transaction_of_a_commit_leaves_the_draft_as_it_was(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	for (size_t i = 0; i < ARRAY_SIZE(before_it); i++) {
		struct catalog_version v = mint(x, model, "next");
		char old[32], new[32], dir[64];
		snprintf(old, sizeof old, "weights %zu", i); /* of its own, so that each content is new to the store */
		snprintf(new, sizeof new, "WEIGHTS %zu", i);
		put(x, v.id, "model.pth", old);
		dies_at(x, before_it[i], do_commit, v.id);
		assert_int_equal(get(x, v.id).state, CATALOG_DRAFT);
		snprintf(dir, sizeof dir, "drafts/%lld", (long long)v.id);
		assert_int_equal(count_names(x, dir), 1);
		put(x, v.id, "model.pth", new); /* the trainer goes on, in a file that may have a name in blobs/ */
		struct catalog_version other = mint(x, model, "next");
		put(x, other.id, "model.pth", old);
		commit_ok(x, other.id);
		commit_ok(x, v.id);
		assert_content(x, other.id, "model.pth", old);
		assert_content(x, v.id, "model.pth", new);
	}
	registry_settle(x->r);
	assert_int_equal(count_names(x, "drafts"), 0);
}

static void test_death_after_the_transaction_of_a_commit_leaves_a_committed_version(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	for (size_t i = 0; i < ARRAY_SIZE(after_it); i++) {
		struct catalog_version v = mint(x, model, "next");
		struct catalog_conn *conn;
		struct catalog_file file;
		struct stat st;
		int fd;
		char text[32];
		snprintf(text, sizeof text, "weights %zu", i);
		put(x, v.id, "model.pth", text);
		dies_at(x, after_it[i], do_commit, v.id);
		assert_int_equal(get(x, v.id).state, CATALOG_COMMITTED);
		assert_content(x, v.id, "model.pth", text);
		assert_int_equal(count_names(x, "drafts"), 0);
		assert_int_equal(registry_read_begin(x->r, &conn), 0);
		assert_int_equal(catalog_file_find(conn, -v.id, "model.pth", &file), 0);
		catalog_read_end(conn);
		assert_int_equal(registry_file_open(x->r, &file, &fd, NULL), 0);
		assert_int_equal(fstat(fd, &st), 0);
		close(fd);
		assert_int_equal(st.st_mode & 07777, 0444); /* sealed by the next mount */
		assert_int_equal(st.st_nlink, 1);
		commit_ok(x, v.id); /* again: nothing to do */
	}
}

static void test_death_in_a_mint_takes_no_number_before_its_transaction_and_one_after_it(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	dies_at(x, "mint.directory-made", do_mint, model);
	assert_int_equal(count_names(x, "drafts"), 0);
	dies_at(x, "mint.recorded", do_mint, model);
	struct catalog_conn *conn;
	struct catalog_version v;
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_version_find(conn, model, 1, &v), 0);
	catalog_read_end(conn);
	assert_int_equal(v.state, CATALOG_DRAFT);
	assert_int_equal(mint(x, model, "next").number, 2);
	put(x, v.id, "model.pth", "weights");
	commit_ok(x, v.id);
}

static void test_death_in_a_discard_never_brings_half_a_draft_back(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = mint(x, model, "next");
	put(x, v.id, "model.pth", "weights");
	dies_at(x, "discard.recorded", do_discard, v.id);
	assert_int_equal(get(x, v.id).state, CATALOG_DISCARDED);
	assert_int_equal(count_names(x, "drafts"), 0);
	assert_int_equal(mint(x, model, "next").number, 2);
}

static int count_event(const struct catalog_alias_event *e, void *arg)
{
	++*(int *)arg;
	return 0;
}

static void test_death_around_the_move_of_an_alias_leaves_the_old_or_the_new_target(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	static const struct { const char *point; uint32_t number; int events; } cases[] = {{"alias.begin", 1, 1}, {"alias.recorded", 2, 2}};
	struct catalog_alias a;
	committed(x, model, NULL);
	committed(x, model, NULL);
	assert_int_equal(registry_alias_set(x->r, &x->me, model, "production", "v1", &a, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct catalog_conn *conn;
		int events = 0;
		dies_at(x, cases[i].point, do_alias, model);
		assert_int_equal(registry_read_begin(x->r, &conn), 0);
		assert_int_equal(catalog_alias_find(conn, model, "production", &a), 0);
		assert_int_equal(catalog_alias_history(conn, model, "production", count_event, &events), 0);
		catalog_read_end(conn);
		assert_int_equal(a.number, cases[i].number);
		assert_int_equal(events, cases[i].events);
	}
}

static void test_death_around_a_retirement_leaves_a_version_with_its_alias_or_none_of_both(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	static const struct { const char *point; int state; int alias; } cases[] = {{"retire.begin", CATALOG_COMMITTED, 0}, {"retire.recorded", CATALOG_RETIRED, -ENOENT}};
	struct catalog_alias a;
	int64_t id = committed(x, model, NULL);
	assert_int_equal(registry_alias_set(x->r, &x->me, model, "production", "v1", &a, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct catalog_conn *conn;
		struct catalog_model m;
		dies_at(x, cases[i].point, do_retire, id);
		assert_int_equal(get(x, id).state, cases[i].state);
		assert_int_equal(registry_read_begin(x->r, &conn), 0);
		assert_int_equal(catalog_alias_find(conn, model, "production", &a), cases[i].alias);
		assert_int_equal(catalog_model_get(conn, model, &m), 0);
		catalog_read_end(conn);
		assert_int_equal(m.newest_committed, cases[i].state == CATALOG_COMMITTED ? 1 : 0);
		assert_content(x, id, "model.pth", "weights");
	}
	assert_int_equal(mint(x, model, "next").number, 2);
}

static void test_death_in_a_sweep_takes_only_what_nobody_needs_and_the_next_one_goes_on(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	static const char *const points[] = {"gc.in-transaction", "gc.recorded"};
	int64_t stays = committed(x, model, NULL); /* "weights" */
	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		struct registry_gc_result sum;
		struct catalog_version v = mint(x, model, "next");
		put(x, v.id, "model.pth", "weights");
		put(x, v.id, "other.pth", points[i]);
		commit_ok(x, v.id);
		do_retire(x, v.id);
		dies_at(x, points[i], do_gc, 0);
		assert_content(x, stays, "model.pth", "weights");
		assert_int_equal(registry_gc(x->r, &(struct registry_gc){.grace_ns = 0}, &sum, NULL), 0);
		assert_int_equal(sum.freed, 0); /* the files were gone before the death */
		assert_int_equal(sum.kept, 2);  /* model.pth, metadata.json */
		v = mint(x, model, "next");
		put(x, v.id, "model.pth", points[i]); /* a content that was swept */
		commit_ok(x, v.id);
		assert_content(x, v.id, "model.pth", points[i]);
		do_retire(x, v.id);
		do_gc(x, 0);
	}
}

/* Other bytes of the same length under the name of a content. */
static void let_rot(struct fixture *x, int64_t version, const char *name)
{
	struct catalog_conn *conn;
	struct catalog_file file;
	char hex[BLOB_HEX_SIZE], command[512];
	registry_settle(x->r); /* else a seal that comes behind its commit takes the write bit off again in between */
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_file_find(conn, -version, name, &file), 0);
	catalog_read_end(conn);
	blob_id_hex(&file.blob, hex);
	snprintf(command, sizeof command, "f=%s/blobs/%.2s/%s; chattr -i $f 2>/dev/null; chmod u+w $f && printf WEIGHTS >$f && chmod 0444 $f", x->store, hex, hex + 2);
	assert_int_equal(system(command), 0);
}

static void test_death_in_a_repair_of_a_damaged_content_leaves_it_for_the_next_and_a_commit_heals_it(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	static const char *const points[] = {"aside.put", "fsck.recorded"};
	int64_t id = committed(x, model, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		struct registry_fsck_result sum;
		let_rot(x, id, "model.pth");
		dies_at(x, points[i], do_repair, 0);
		assert_int_equal(count_names(x, "lost+found"), i + 1);
		assert_int_equal(registry_fsck(x->r, &(struct registry_fsck){.repair = true}, &sum, NULL), 0);
		assert_int_equal(sum.problems, 2 + i); /* the content, and each version that holds it */
		assert_int_equal(sum.repaired, 0);
		committed(x, model, NULL);
		assert_content(x, id, "model.pth", "weights");
		assert_int_equal(registry_fsck(x->r, &(struct registry_fsck){.verify = true}, &sum, NULL), 0);
		assert_int_equal(sum.problems, 0);
	}
}

/* The directory reached the disk, the row that the mint had written did not: its files are kept, and no fsck complains. */
static void test_a_directory_whose_mint_a_power_cut_took_back_is_kept_aside(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm"), id = mint(x, model, "next").id + 1;
	static const char *const kept[] = {"", ".1"};
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		char command[512], path[256];
		struct registry_fsck_result sum;
		snprintf(command, sizeof command, "d=%s/drafts/%lld; mkdir $d && echo work >$d/model.pth && echo {} >$d.metadata.json", x->store, (long long)id);
		assert_int_equal(system(command), 0);
		if (i == 0) { /* the next mount finds it; and the mint that gets its id does */
			registry_close(x->r);
			open_store(x);
		} else {
			assert_int_equal(mint(x, model, "next").id, id);
		}
		snprintf(path, sizeof path, "%s/lost+found/draft-%lld%s/model.pth", x->store, (long long)id, kept[i]);
		assert_int_equal(access(path, F_OK), 0);
		assert_int_equal(registry_fsck(x->r, &(struct registry_fsck){.verify = true}, &sum, NULL), 0);
		assert_int_equal(sum.problems, 0);
	}
}

static void test_an_init_that_died_can_be_begun_anew(void **state)
{
	struct fixture *x = *state;
	static const char *const points[] = {"init.directories-made", "init.catalog-made"};
	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		char path[96];
		struct fault f = FAULT_INIT;
		struct registry *r;
		snprintf(path, sizeof path, "%s/second-%zu", x->path, i);
		pid_t pid = fork();
		if (pid == 0) {
			setenv("MINTFS_CRASH", points[i], 1);
			registry_init(path, NULL);
			_exit(0);
		}
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(WEXITSTATUS(status), 137);
		struct registry_options o = {.path = path, .serve = true, .mountpoint = "/nowhere"};
		assert_int_equal(registry_open(&o, &r, &f), -ENOENT);
		assert_non_null(strstr(f.text, "config.json"));
		if (registry_init(path, &f) != 0)
			fail_msg("%s: %s", points[i], f.text);
		assert_int_equal(registry_open(&o, &r, NULL), 0);
		registry_close(r);
	}
}

static void test_init_never_clears_a_store_that_lost_its_config(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct fault f = FAULT_INIT;
	char config[96], away[96];
	committed(x, model, NULL);
	registry_close(x->r);
	x->r = NULL;
	snprintf(config, sizeof config, "%s/config.json", x->store);
	snprintf(away, sizeof away, "%s/config.json", x->path);
	assert_int_equal(rename(config, away), 0);
	assert_int_equal(registry_init(x->store, &f), -ENOTEMPTY);
	assert_int_equal(rename(away, config), 0);
	open_store(x);
	assert_int_equal(mint(x, model, "next").number, 2);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_death_before_the_transaction_of_a_commit_leaves_the_draft_as_it_was),
		T(test_death_after_the_transaction_of_a_commit_leaves_a_committed_version),
		T(test_death_in_a_mint_takes_no_number_before_its_transaction_and_one_after_it),
		T(test_death_in_a_discard_never_brings_half_a_draft_back),
		T(test_death_around_the_move_of_an_alias_leaves_the_old_or_the_new_target),
		T(test_death_around_a_retirement_leaves_a_version_with_its_alias_or_none_of_both),
		T(test_death_in_a_sweep_takes_only_what_nobody_needs_and_the_next_one_goes_on),
		T(test_death_in_a_repair_of_a_damaged_content_leaves_it_for_the_next_and_a_commit_heals_it),
		T(test_a_directory_whose_mint_a_power_cut_took_back_is_kept_aside),
		T(test_an_init_that_died_can_be_begun_anew),
		T(test_init_never_clears_a_store_that_lost_its_config),
	};
	return cmocka_run_group_tests_name("registry, killed", tests, NULL, NULL);
}
#endif
