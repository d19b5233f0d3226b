/* Commits, the entries of committed versions, `best`, and the plans of the queries the daemon asks all the time. */
#include "catalog_env.h"

/* a tree: model.pth  logs/  link -> model.pth  logs/a  logs/deep/  logs/deep/b (hard link of model.pth) */
static const struct catalog_entry TREE[] = {
	{.name = "model.pth", .type = CATALOG_FILE, .mode = 0444, .uid = 1, .gid = 2, .size = 100, .blocks = 8, .mtime_ns = 5000000000, .nlink = 2,
		.parent = -1, .inode = 0, .blob = {{1, 2, 3}}},
	{.name = "logs", .type = CATALOG_DIRECTORY, .mode = 0555, .nlink = 3, .parent = -1, .inode = 1, .first_child = 3, .n_children = 2},
	{.name = "link", .target = "model.pth", .type = CATALOG_SYMLINK, .mode = 0777, .size = 9, .nlink = 1, .parent = -1, .inode = 2},
	{.name = "a", .type = CATALOG_FILE, .mode = 0440, .size = 7, .nlink = 1, .parent = 1, .inode = 3, .blob = {{9}}},
	{.name = "deep", .type = CATALOG_DIRECTORY, .mode = 0555, .nlink = 2, .parent = 1, .inode = 4, .first_child = 5, .n_children = 1},
	{.name = "b\xff", .type = CATALOG_FILE, .mode = 0444, .size = 100, .nlink = 2, .parent = 4, .inode = 0, .blob = {{1, 2, 3}}},
};

static struct catalog_commit tree_commit(int64_t version_id)
{
	return (struct catalog_commit){.version_id = version_id, .committed_ns = 11, .mtime_ns = 12, .uid = 13, .gid = 14, .mode = 0555, .size = 107,
		.n_files = 3, .n_dirs = 1, .n_top = 3, .message = "first", .entries = TREE, .n_entries = ARRAY_SIZE(TREE)};
}

static int64_t draft(struct catalog_conn *conn)
{
	return env_mint(conn, env_add_model(conn, "P001_all", "mlstm"), 1);
}

static void test_a_commit_records_the_version_and_frees_it_from_its_daemon(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_version v;
	struct catalog_version_text t;
	int64_t id = draft(conn);
	struct catalog_commit c = tree_commit(id);
	assert_int_equal(catalog_version_set_reason(conn, id, "was incomplete"), 0);
	assert_int_equal(catalog_version_commit(conn, &c), 0);
	assert_int_equal(catalog_version_get(conn, id, &v), 0);
	assert_int_equal(v.state, CATALOG_COMMITTED);
	assert_int_equal(v.committed_ns, 11);
	assert_int_equal(v.mtime_ns, 12);
	assert_int_equal(v.uid, 13);
	assert_int_equal(v.gid, 14);
	assert_int_equal(v.mode, 0555);
	assert_int_equal(v.size, 107);
	assert_int_equal(v.n_files, 3);
	assert_int_equal(v.n_dirs, 1);
	assert_int_equal(v.n_children, 3);
	assert_int_equal(v.owner, 0);
	assert_int_equal(v.run_id, 7);
	assert_int_equal(catalog_version_text(conn, id, &t), 0);
	assert_string_equal(t.message, "first");
	assert_string_equal(t.author, "ada");
	assert_null(t.reason);
	catalog_version_text_release(&t);
	assert_int_equal(catalog_version_commit(conn, &c), -ESTALE);
	c.version_id = 999;
	assert_int_equal(catalog_version_commit(conn, &c), -ENOENT);
	assert_sql(conn, "SELECT metrics_summary FROM model_versions", "{}");
	direct_end(e, conn);
}

struct names { char all[512]; };

static int note_file(const struct catalog_file *f, void *arg)
{
	struct names *n = arg;
	strcat(strcat(n->all, f->name), ";");
	return strcmp(f->name, "stop") == 0 ? 42 : 0;
}

static int note_path(const char *path, const struct catalog_file *f, void *arg)
{
	struct names *n = arg;
	strcat(strcat(n->all, path), f->type == CATALOG_DIRECTORY ? "/;" : ";");
	return 0;
}

static void test_entries_are_found_by_name_and_keep_what_they_were(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_file model, logs, deep, b, same;
	int64_t id = draft(conn);
	struct catalog_commit c = tree_commit(id);
	assert_int_equal(catalog_version_commit(conn, &c), 0);
	assert_int_equal(catalog_file_find(conn, -id, "model.pth", &model), 0);
	assert_int_equal(model.version_id, id);
	assert_int_equal(model.parent, -id);
	assert_int_equal(model.type, CATALOG_FILE);
	assert_int_equal(model.mode, 0444);
	assert_int_equal(model.uid, 1);
	assert_int_equal(model.gid, 2);
	assert_int_equal(model.size, 100);
	assert_int_equal(model.blocks, 8);
	assert_int_equal(model.mtime_ns, 5000000000);
	assert_int_equal(model.nlink, 2);
	assert_int_equal(model.inode, model.id);
	assert_true(blob_id_equal(&model.blob, &TREE[0].blob));
	assert_int_equal(catalog_file_find(conn, -id, "logs", &logs), 0);
	assert_int_equal(catalog_file_find(conn, logs.id, "deep", &deep), 0);
	assert_int_equal(catalog_file_find(conn, deep.id, "b\xff", &b), 0);
	assert_int_equal(b.inode, model.id);
	assert_int_equal(deep.inode, deep.id);
	assert_int_equal(deep.first_child, b.id);
	assert_int_equal(catalog_file_get(conn, b.id, &same), 0);
	assert_string_equal(same.name, "b\xff");
	assert_int_equal(catalog_file_find(conn, deep.id, "c", &same), -ENOENT);
	assert_int_equal(catalog_file_get(conn, b.id + 1, &same), -ENOENT);
	direct_end(e, conn);
}

static void test_a_directory_is_a_range_and_a_version_is_listed_with_paths(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_version v;
	struct catalog_file logs;
	int64_t id = draft(conn);
	struct catalog_commit c = tree_commit(id);
	assert_int_equal(catalog_version_commit(conn, &c), 0);
	assert_int_equal(catalog_version_get(conn, id, &v), 0);
	int64_t second = env_mint(conn, v.model_id, 2); /* a neighbour */
	assert_int_equal(env_commit(conn, second, 5, 1), 0);
	struct names n = {""};
	assert_int_equal(catalog_file_range(conn, v.first_child, v.first_child + v.n_children, note_file, &n), 0);
	assert_string_equal(n.all, "model.pth;logs;link;");
	assert_int_equal(catalog_file_find(conn, -id, "logs", &logs), 0);
	n.all[0] = '\0';
	assert_int_equal(catalog_file_range(conn, logs.first_child, logs.first_child + logs.n_children, note_file, &n), 0);
	assert_string_equal(n.all, "a;deep;");
	n.all[0] = '\0';
	assert_int_equal(catalog_file_list(conn, id, note_path, &n), 0);
	assert_string_equal(n.all, "model.pth;logs/;link;logs/a;logs/deep/;logs/deep/b\xff;");
	n.all[0] = '\0';
	assert_int_equal(catalog_file_list(conn, second, note_path, &n), 0);
	assert_string_equal(n.all, "model.pth;");
	assert_int_equal(catalog_file_list(conn, 999, note_path, &n), -ENOENT);
	direct_end(e, conn);
}

static void test_a_symbolic_link_gives_its_target_and_nothing_else_does(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_file link, model;
	char target[32] = "untouched";
	int64_t id = draft(conn);
	struct catalog_commit c = tree_commit(id);
	assert_int_equal(catalog_version_commit(conn, &c), 0);
	assert_int_equal(catalog_file_find(conn, -id, "link", &link), 0);
	assert_int_equal(catalog_file_find(conn, -id, "model.pth", &model), 0);
	assert_int_equal(catalog_file_target(conn, model.id, target, sizeof target), -ENOENT);
	assert_int_equal(catalog_file_target(conn, link.id, target, 9), -ENAMETOOLONG);
	assert_string_equal(target, "untouched");
	assert_int_equal(catalog_file_target(conn, link.id, target, 10), 0);
	assert_string_equal(target, "model.pth");
	direct_end(e, conn);
}

static void test_a_content_is_recorded_once_and_known_from_the_commit_on(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_blob b;
	int64_t id = draft(conn);
	struct catalog_commit c = tree_commit(id);
	assert_int_equal(catalog_blob_find(conn, &TREE[0].blob, &b), -ENOENT);
	assert_int_equal(catalog_version_commit(conn, &c), 0);
	assert_int_equal(catalog_blob_find(conn, &TREE[0].blob, &b), 0);
	assert_sql(conn, "SELECT count(*) FROM blobs", "2");
	direct_end(e, conn);
}

static void test_entries_that_do_not_fit_together_are_refused(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	int64_t id = draft(conn);
	for (int fault = 0; fault < 9; fault++) {
		struct catalog_entry t[ARRAY_SIZE(TREE)];
		struct catalog_commit c = tree_commit(id);
		memcpy(t, TREE, sizeof t);
		c.entries = t;
		switch (fault) {
		case 0: t[3].parent = 3; break;      /* its own parent */
		case 1: t[3].parent = 0; break;      /* in a file */
		case 2: t[2].parent = 1; break;      /* not at the top, among the top entries */
		case 3: t[1].n_children = 9; break;  /* past the end */
		case 4: t[1].first_child = 1; break; /* itself */
		case 5: t[0].name = "a/b"; break;
		case 6: t[0].name = ""; break;
		case 7: t[2].target = NULL; break;
		case 8: t[0].inode = 5; break;
		}
		assert_int_equal(catalog_version_commit(conn, &c), -EINVAL);
	}
	struct catalog_entry twice[2] = {TREE[0], TREE[0]};
	struct catalog_commit c = tree_commit(id);
	c.entries = twice;
	c.n_entries = c.n_top = 2;
	twice[1].inode = 1;
	assert_int_equal(catalog_version_commit(conn, &c), -EEXIST); /* two entries of one name */
	direct_end(e, conn);
}

static void test_version_files_shows_paths_hashes_and_octal_modes(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	int64_t id = draft(conn);
	struct catalog_commit c = tree_commit(id);
	assert_int_equal(catalog_version_commit(conn, &c), 0);
	assert_sql(conn, "SELECT group_concat(name, ' ') FROM pragma_table_info('version_files')",
		"version_id model_path version path type mode size mtime sha256");
	assert_sql(conn, "SELECT group_concat(path, ' ') FROM version_files WHERE model_path = 'saved_models/product/P001_all/mlstm/v1/'",
		"model.pth logs link logs/a logs/deep logs/deep/b\xff");
	assert_sql(conn, "SELECT sha256 FROM version_files WHERE path = 'logs/a'", "0900000000000000000000000000000000000000000000000000000000000000");
	assert_sql(conn, "SELECT type || mode || size || mtime || version FROM version_files WHERE path = 'model.pth'",
		"file04441001970-01-01 00:00:05v1");
	assert_sql(conn, "SELECT type FROM version_files WHERE sha256 IS NULL ORDER BY type DESC", "symlink");
	direct_end(e, conn);
}

/* ---- best ---- */

static void set_best(struct catalog_conn *conn, int64_t model, const char *metric, int mode)
{
	struct catalog_model m;
	assert_int_equal(catalog_model_get(conn, model, &m), 0);
	text_copy(m.best_metric, sizeof m.best_metric, metric);
	m.best_mode = mode;
	assert_int_equal(catalog_model_update(conn, &m), 0);
}

static void test_best_is_the_lowest_number_with_the_best_value_among_the_committed(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	static const double rmse[] = {0, 3.0, 1.5, 1.5, -0.0, 7.0, 7.0, 9.0};
	int64_t model = env_add_model(conn, "P001_all", "mlstm"), other = env_add_model(conn, "P001_all", "kan"), v[8];
	uint32_t best = 77;
	set_best(conn, model, "rmse", 1);
	assert_int_equal(catalog_best(conn, model, &best), -ENOENT);
	assert_int_equal(env_commit(conn, env_mint(conn, other, 1), 1, -100), 0); /* another model's */
	for (uint32_t n = 1; n <= 7; n++) {
		v[n] = env_mint(conn, model, n);
		if (n < 7) /* 7 stays a draft */
			assert_int_equal(env_commit(conn, v[n], n, rmse[n]), 0);
	}
	assert_int_equal(catalog_best(conn, model, &best), 0);
	assert_int_equal(best, 4);
	assert_int_equal(catalog_version_set_state(conn, v[4], CATALOG_RETIRED), 0);
	assert_int_equal(catalog_best(conn, model, &best), 0);
	assert_int_equal(best, 2); /* 3 has the same value */
	set_best(conn, model, "rmse", 2);
	assert_int_equal(catalog_best(conn, model, &best), 0);
	assert_int_equal(best, 5); /* 6 has the same value */
	set_best(conn, model, "rmse", 0);
	assert_int_equal(catalog_best(conn, model, &best), -ENOENT);
	set_best(conn, model, "mae", 1);
	assert_int_equal(catalog_best(conn, model, &best), -ENOENT);
	assert_int_equal(best, 5);
	assert_int_equal(catalog_best(conn, 999, &best), -ENOENT);
	direct_end(e, conn);
}

/* ---- rows ahead ---- */

static void set_ahead(struct catalog_conn *conn, int64_t id, int64_t first, int64_t n)
{
	char text[160];
	snprintf(text, sizeof text, "UPDATE versions SET first_child = %lld, n_entries = %lld WHERE id = %lld", (long long)first, (long long)n, (long long)id);
	assert_int_equal(sql_script(conn->db, text), 0);
}

/* What a hostile catalog says of a draft costs nobody else his rows, and no more time than there are rows. */
static void test_a_range_that_cannot_be_is_given_up_and_takes_nothing_of_others(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	static const struct { int64_t first, n; } ranges[] = {{1, 6}, {1, 1}, {2, INT64_MAX}, {1, INT64_MAX}, {INT64_MAX, INT64_MAX}, {INT64_MAX, 1}, {INT64_MAX - 1, -5},
		{5, -1}, {5, 0}, {0, 5}, {-5, 8}, {INT64_MIN, INT64_MAX}, {INT64_MIN + 1, -9}, {INT64_MIN, INT64_MIN}};
	int64_t model = env_add_model(conn, "P001_all", "mlstm"), other = env_mint(conn, model, 1), id = env_mint(conn, model, 2);
	struct catalog_commit c = tree_commit(other);
	assert_int_equal(catalog_version_commit(conn, &c), 0);
	c.version_id = id;
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		int64_t end = -1;
		bool more = true;
		set_ahead(conn, id, ranges[i].first, ranges[i].n);
		assert_int_equal(catalog_ahead_end(conn, id, &end), 0);
		for (unsigned tries = 0; more; tries++) {
			assert_in_range(tries, 0, ARRAY_SIZE(TREE) / 2);
			assert_int_equal(catalog_ahead_drop(conn, id, end, 2, &more), 0);
		}
		assert_int_equal(catalog_ahead_end(conn, id, &end), 0);
		assert_int_equal(end, 0);
		assert_sql(conn, "SELECT count(*) FROM files", "6");
		assert_int_equal(catalog_ahead_begin(conn, &c, 3, &c.ahead), 0); /* and the draft can be committed */
		assert_int_equal(catalog_ahead_end(conn, id, &end), 0);
		for (more = true; more;)
			assert_int_equal(catalog_ahead_drop(conn, id, end, 2, &more), 0);
		assert_sql(conn, "SELECT count(*) FROM files", "6");
	}
	direct_end(e, conn);
}

static void test_ids_that_ran_out_are_no_ids(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_commit c = tree_commit(draft(conn));
	static const char *const seqs[] = {"9223372036854775807", "9223372036854775803", "-9223372036854775807", "-1"};
	assert_int_equal(catalog_ahead_begin(conn, &c, 6, &c.ahead), 0); /* so that there is a row */
	for (size_t i = 0; i < ARRAY_SIZE(seqs); i++) {
		char text[96];
		bool more;
		int64_t end;
		assert_int_equal(catalog_ahead_end(conn, c.version_id, &end), 0);
		assert_int_equal(catalog_ahead_drop(conn, c.version_id, end, 6, &more), 0);
		snprintf(text, sizeof text, "UPDATE sqlite_sequence SET seq = %s WHERE name = 'files'", seqs[i]);
		assert_int_equal(sql_script(conn->db, text), 0);
		c.ahead = 0;
		assert_int_equal(catalog_version_commit(conn, &c), -EUCLEAN);
		assert_int_equal(catalog_ahead_begin(conn, &c, 6, &c.ahead), -EUCLEAN);
		assert_sql(conn, "SELECT count(*) FROM files", "0");
	}
	direct_end(e, conn);
}

/* ---- plans ---- */

struct plan { struct catalog_conn *conn; unsigned n; };

/* Every statement the hot functions prepared must find its rows by an index or a rowid and sort nothing. */
static void check_plan(const char *text, void *arg)
{
	struct plan *p = arg;
	char explain[4096];
	auto_stmt struct sql_stmt *st = NULL;
	if (strncmp(text, "SELECT", 6) != 0 || strstr(text, "sqlite_sequence")) /* which has a row a table */
		return;
	p->n++;
	snprintf(explain, sizeof explain, "EXPLAIN QUERY PLAN %s", text);
	assert_int_equal(sql_prepare_once(p->conn->db, explain, &st), 0);
	while (sql_step(st) > 0) {
		const char *line = sql_text(st, 3);
		if (strstr(line, "TEMP B-TREE") || (strncmp(line, "SCAN", 4) == 0 && !strstr(line, "CONSTANT ROW")))
			fail_msg("%s\n  in: %s", line, text);
	}
}

static int no_dir(const struct catalog_dir *d, void *arg) { (void)d; (void)arg; return 0; }
static int no_version(const struct catalog_version *v, const struct catalog_version_text *t, void *arg) { (void)v; (void)t; (void)arg; return 0; }

static void test_hot_queries_use_an_index_and_sort_nothing(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_dir d;
	struct catalog_model m;
	struct catalog_version v;
	struct catalog_file f;
	struct catalog_alias a;
	struct names n = {""};
	char target[16];
	uint32_t best;
	struct catalog_blob blob;
	int64_t model = env_add_model(conn, "P001_all", "mlstm");
	assert_int_equal(env_commit(conn, env_mint(conn, model, 1), 1, 1), 0);
	catalog_dir_get(conn, 1, &d);
	catalog_dir_find(conn, 1, "product", &d);
	catalog_dir_list(conn, 1, 0, no_dir, NULL);
	catalog_model_get(conn, model, &m);
	catalog_model_find(conn, "x", &m);
	catalog_model_find_key(conn, "x", &m);
	catalog_numbers_stamp(conn, &(int64_t){0});
	catalog_version_get(conn, 1, &v);
	catalog_version_find(conn, model, 1, &v);
	for (unsigned i = 0; i < 4; i++) {
		struct catalog_version_list q = {.model_id = model, .states = i & 1 ? 1 : 15, .descending = i & 2, .with_text = true};
		assert_int_equal(catalog_version_list(conn, &q, no_version, NULL), 0);
	}
	catalog_file_get(conn, 1, &f);
	catalog_file_find(conn, -1, "model.pth", &f);
	catalog_file_range(conn, 1, 2, note_file, &n);
	catalog_file_list(conn, 1, note_path, &n);
	catalog_file_target(conn, 1, target, sizeof target);
	catalog_blob_find(conn, &TREE[0].blob, &blob);
	set_best(conn, model, "rmse", 1);
	assert_int_equal(catalog_best(conn, model, &best), 0);
	set_best(conn, model, "rmse", 2);
	assert_int_equal(catalog_best(conn, model, &best), 0);
	catalog_alias_get(conn, 1, &a);
	catalog_alias_find(conn, model, "production", &a);
	struct plan p = {.conn = conn};
	sql_each_kept(conn->db, check_plan, &p);
	assert_true(p.n >= 20); /* all of the above were looked at */
	direct_end(e, conn);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, env_setup, env_teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_commit_records_the_version_and_frees_it_from_its_daemon),
		T(test_entries_are_found_by_name_and_keep_what_they_were),
		T(test_a_directory_is_a_range_and_a_version_is_listed_with_paths),
		T(test_a_symbolic_link_gives_its_target_and_nothing_else_does),
		T(test_a_content_is_recorded_once_and_known_from_the_commit_on),
		T(test_entries_that_do_not_fit_together_are_refused),
		T(test_version_files_shows_paths_hashes_and_octal_modes),
		T(test_best_is_the_lowest_number_with_the_best_value_among_the_committed),
		T(test_a_range_that_cannot_be_is_given_up_and_takes_nothing_of_others),
		T(test_ids_that_ran_out_are_no_ids),
		T(test_hot_queries_use_an_index_and_sort_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
