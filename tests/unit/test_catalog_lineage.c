/* The catalog's format 2: the way from format 1; what versions tell of themselves; the graph of inputs. */
#include "catalog_env.h"

/* ---- from format 1 ---- */

static void make_format_1(struct env *e)
{
	auto_free char *text = NULL;
	size_t len;
	char path[128];
	struct sql *db;
	snprintf(path, sizeof path, "%s/catalog.db", e->dir);
	assert_int_equal(sys_read_file(AT_FDCWD, MINTFS_TEST_ASSETS "/format1/catalog.sql", 1 << 20, &text, &len), 0);
	assert_int_equal(sql_open(path, SQL_CREATE, NULL, &db), 0);
	assert_int_equal(sql_script(db, text), 0);
	sql_close(db);
}

static void test_a_catalog_of_format_1_gets_the_new_modes_and_stays_as_it_was(void **state)
{
	struct env *e = *state;
	struct catalog_dir root, d;
	struct catalog_file file;
	struct catalog_version v;
	uint32_t best = 0;
	make_format_1(e);
	env_open(e);
	auto_read struct catalog_conn *conn = NULL;
	assert_int_equal(catalog_read_begin(e->c, &conn), 0);
	assert_sql(conn, "PRAGMA user_version", "2");
	assert_int_equal(catalog_dir_get(conn, CATALOG_DIR_ROOT, &root), 0);
	static const char *const modes[] = {"product", "store", "global", "dataset", "process"};
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		assert_int_equal(catalog_dir_find(conn, CATALOG_DIR_ROOT, modes[i], &d), 0);
		assert_int_equal(d.mode, 01777);
		assert_int_equal(d.uid, root.uid);
	}
	assert_sql(conn, "SELECT group_concat(model_path || ' ' || metrics_summary, ';') FROM model_versions WHERE id < 4",
		"saved_models/product/P001_all/mlstm/v1/ {\"rmse\":12.5,\"r2\":0.81,\"note\":\"x\",\"nan\":null};"
		"saved_models/product/P001_all/mlstm/v2/ {\"rmse\":10.5,\"r2\":0.89}");
	assert_int_equal(catalog_version_get(conn, 1, &v), 0);
	assert_int_equal(v.n_files, 3);
	assert_int_equal(catalog_file_find(conn, -1, "logs", &file), 0);
	assert_int_equal(catalog_file_find(conn, file.id, "one.txt", &file), 0);
	assert_int_equal(file.size, 5);
	assert_int_equal(catalog_best(conn, v.model_id, &best), 0);
	assert_int_equal(best, 2);
	assert_sql(conn, "SELECT to_number FROM alias_events WHERE name = 'production' ORDER BY id DESC", "2");
	catalog_read_end(conn);
	conn = NULL;
	env_check_sound(e);
}

static void test_the_metrics_of_format_1_are_facts_after_the_upgrade(void **state)
{
	struct env *e = *state;
	make_format_1(e);
	env_open(e);
	auto_read struct catalog_conn *conn = NULL;
	assert_int_equal(catalog_read_begin(e->c, &conn), 0);
	assert_sql(conn, "SELECT group_concat(version_id || ' ' || name || ' ' || number, ';') FROM"
		" (SELECT * FROM facts f JOIN fact_names n ON n.id = f.name_id ORDER BY version_id, name)",
		"1 metrics.r2 0.81;1 metrics.rmse 12.5;2 metrics.r2 0.89;2 metrics.rmse 10.5"); /* no text, no null */
}

static void test_runs_of_format_1_are_experiments_after_the_upgrade(void **state)
{
	struct env *e = *state;
	make_format_1(e);
	env_open(e);
	auto_read struct catalog_conn *conn = NULL;
	assert_int_equal(catalog_read_begin(e->c, &conn), 0);
	assert_sql(conn, "SELECT count(*) FROM experiments", "6");
	assert_sql(conn, "SELECT parameters || data || scores FROM experiments WHERE experiment_id = 2",
		"{\"command\":[\"bash\",\"train.sh\"]}[]{\"rmse\":10.5,\"r2\":0.89}");
	assert_sql(conn, "SELECT group_concat(state) FROM (SELECT state FROM experiments WHERE model = 'global/all/sum/kan' ORDER BY experiment_id)",
		"committed,discarded,draft");
}

/* ---- about, facts ---- */

static void test_what_a_version_tells_of_itself_is_kept_and_replaced(void **state)
{
	struct env *e = *state;
	struct catalog_about a = {.has_digest = true, .digest = env_blob(1), .description = (char *)(uintptr_t)"sales", .labels = (char *)(uintptr_t)"{\"rows\":4400}"}, got;
	struct catalog_conn *conn = direct_begin(e);
	int64_t id = env_mint(conn, env_add_model(conn, "P001_all", "mlstm"), 1);
	assert_int_equal(catalog_about_get(conn, id, &got), -ENOENT);
	assert_int_equal(catalog_about_set(conn, id, &a), 0);
	a.description = NULL;
	assert_int_equal(catalog_about_set(conn, id, &a), 0);
	assert_int_equal(catalog_about_get(conn, id, &got), 0);
	assert_true(got.has_digest && blob_id_equal(&got.digest, &a.digest));
	assert_null(got.description);
	assert_string_equal(got.labels, "{\"rows\":4400}");
	catalog_about_release(&got);
	direct_end(e, conn);
}

static void test_the_last_of_equal_facts_counts_and_what_is_too_long_is_left_out(void **state)
{
	struct env *e = *state;
	char name[CATALOG_NAME_MAX + 1], text[CATALOG_FACT_TEXT_MAX + 2];
	memset(name, 'n', sizeof name - 1);
	memset(text, 't', sizeof text - 1);
	name[sizeof name - 1] = text[sizeof text - 1] = '\0';
	struct catalog_fact facts[] = {{"labels.rows", "4400", true, 4400}, {"labels.kind", "assay", false, 0}, {"labels.rows", "9", true, 9}, {name, "x", false, 0},
		{"labels.long", text, false, 0}, {"metrics.inf", NULL, true, 1e308 * 10}};
	struct catalog_conn *conn = direct_begin(e);
	int64_t id = env_mint(conn, env_add_model(conn, "P001_all", "mlstm"), 1);
	assert_int_equal(catalog_facts_add(conn, id, facts, ARRAY_SIZE(facts)), 0);
	assert_sql(conn, "SELECT group_concat(name || '=' || coalesce(number, '') || '/' || text, ' ') FROM"
		" (SELECT * FROM facts f JOIN fact_names n ON n.id = f.name_id ORDER BY name)", "labels.kind=/assay labels.rows=9.0/9");
	direct_end(e, conn);
}

/* ---- inputs ---- */

struct edges { int64_t id[8]; enum catalog_how how[8]; size_t n; };

static int note_edge(const struct catalog_edge *edge, void *arg)
{
	struct edges *all = arg;
	all->id[all->n] = edge->version_id;
	all->how[all->n++] = edge->how;
	return 0;
}

static int note_unknown(const char *text, const char *reason, void *arg)
{
	snprintf(arg, 64, "%s: %s", text, reason);
	return 0;
}

static void test_an_input_observed_and_declared_is_both_and_is_found_from_both_ends(void **state)
{
	struct env *e = *state;
	struct edges up = {0}, down = {0};
	int64_t n_inputs = -1, n_outputs = -1;
	char unknown[64] = "";
	struct catalog_conn *conn = direct_begin(e);
	int64_t model = env_add_model(conn, "P001_all", "mlstm"), data = env_mint(conn, model, 1), other = env_mint(conn, model, 2), made = env_mint(conn, model, 3);
	assert_int_equal(catalog_input_add(conn, made, data, CATALOG_OBSERVED), 0);
	assert_int_equal(catalog_input_add(conn, made, other, CATALOG_DECLARED), 0);
	assert_int_equal(catalog_input_add(conn, made, data, CATALOG_DECLARED), 0);
	assert_int_equal(catalog_input_unknown_add(conn, made, "dataset/no/v1", "it is not there"), 0);
	assert_int_equal(catalog_lineage_list(conn, made, false, note_edge, &up), 0);
	assert_int_equal(up.n, 2);
	assert_int_equal(up.id[0], data);
	assert_int_equal(up.how[0], CATALOG_BOTH);
	assert_int_equal(up.how[1], CATALOG_DECLARED);
	assert_int_equal(catalog_lineage_list(conn, data, true, note_edge, &down), 0);
	assert_int_equal(down.n, 1);
	assert_int_equal(down.id[0], made);
	assert_int_equal(catalog_lineage_count(conn, made, &n_inputs, &n_outputs), 0);
	assert_int_equal(n_inputs, 2);
	assert_int_equal(n_outputs, 0);
	assert_int_equal(catalog_input_unknown_list(conn, made, note_unknown, unknown), 0);
	assert_string_equal(unknown, "dataset/no/v1: it is not there");
	assert_sql(conn, "SELECT data FROM experiments WHERE model_path LIKE '%/v3/'", "[\"product/P001_all/mlstm/v1\",\"product/P001_all/mlstm/v2\"]");
	direct_end(e, conn);
}

static void test_what_was_discarded_was_not_made_from_anything_but_keeps_its_inputs(void **state)
{
	struct env *e = *state;
	int64_t n_inputs = -1, n_outputs = -1;
	struct catalog_conn *conn = direct_begin(e);
	int64_t model = env_add_model(conn, "P001_all", "mlstm"), data = env_mint(conn, model, 1), made = env_mint(conn, model, 2);
	assert_int_equal(catalog_input_add(conn, made, data, CATALOG_OBSERVED), 0);
	assert_int_equal(catalog_version_set_state(conn, made, CATALOG_DISCARDED), 0);
	assert_int_equal(catalog_lineage_count(conn, data, NULL, &n_outputs), 0);
	assert_int_equal(n_outputs, 0);
	assert_int_equal(catalog_lineage_count(conn, made, &n_inputs, NULL), 0);
	assert_int_equal(n_inputs, 1);
	direct_end(e, conn);
}

/* ---- versions elsewhere ---- */

static int note_elsewhere(const struct catalog_elsewhere *e, enum catalog_how how, void *arg)
{
	char *out = arg;
	snprintf(out + strlen(out), 200 - strlen(out), "%s/v%u %s%s ", e->model, e->number, catalog_how_name(how), e->has_digest ? "" : " without digest");
	return 0;
}

static struct catalog_elsewhere elsewhere(const char *model, uint32_t number, int digest)
{
	struct catalog_elsewhere e = {.model = model, .number = number, .has_digest = digest != 0};
	memset(e.digest.sha256, digest, sizeof e.digest.sha256);
	return e;
}

/* A version that is here, with a digest. */
static int64_t here(struct catalog_conn *conn, int64_t model, uint32_t number, int digest)
{
	const struct catalog_commit c = {.version_id = env_mint(conn, model, number), .committed_ns = 1, .metrics_summary = "{}"};
	struct catalog_about a = {.has_digest = true};
	memset(a.digest.sha256, digest, sizeof a.digest.sha256);
	assert_int_equal(catalog_version_commit(conn, &c), 0);
	assert_int_equal(catalog_about_set(conn, c.version_id, &a), 0);
	return c.version_id;
}

static int64_t note(struct catalog_conn *conn, const char *model, uint32_t number, int digest)
{
	const struct catalog_elsewhere e = elsewhere(model, number, digest);
	int64_t id = 0;
	assert_int_equal(catalog_elsewhere_note(conn, &e, &id), 0);
	return id;
}

static void join(struct catalog_conn *conn, int digest)
{
	const struct catalog_elsewhere e = elsewhere("", 0, digest);
	assert_int_equal(catalog_elsewhere_join(conn, &e.digest), 0);
}

static void test_a_version_elsewhere_is_named_once_and_shown_as_an_input(void **state)
{
	struct env *e = *state;
	char text[200] = "";
	bool known = false;
	struct catalog_conn *conn = direct_begin(e);
	int64_t made = env_mint(conn, env_add_model(conn, "P001_all", "mlstm"), 1), first = note(conn, "dataset/mol", 3, 1);
	assert_int_equal(note(conn, "dataset/mol", 3, 1), first);
	int64_t unlike = note(conn, "dataset/mol", 3, 2), nameless = note(conn, "dataset/old", 1, 0);
	assert_int_equal(note(conn, "dataset/old", 1, 0), nameless);
	assert_true(unlike != first);
	assert_int_equal(catalog_lineage_known(conn, made, &known), 0);
	assert_false(known);
	assert_int_equal(catalog_elsewhere_input_add(conn, made, first, CATALOG_OBSERVED), 0);
	assert_int_equal(catalog_elsewhere_input_add(conn, made, first, CATALOG_DECLARED), 0);
	assert_int_equal(catalog_elsewhere_input_add(conn, made, nameless, CATALOG_DECLARED), 0);
	assert_int_equal(catalog_lineage_known(conn, made, &known), 0);
	assert_true(known);
	assert_int_equal(catalog_elsewhere_input_list(conn, made, note_elsewhere, text), 0);
	assert_string_equal(text, "dataset/mol/v3 both dataset/old/v1 declared without digest ");
	assert_sql(conn, "SELECT data FROM experiments", "[\"dataset/mol/v3\",\"dataset/old/v1\"]");
	assert_int_equal(catalog_elsewhere_known(conn, "dataset/mol", 1, 9, &known), 0);
	assert_true(known);
	assert_int_equal(catalog_elsewhere_known(conn, "dataset/mol", 4, 9, &known), 0);
	assert_false(known);
	direct_end(e, conn);
}

static void test_of_versions_with_one_digest_the_one_of_the_name_is_found_then_one_of_the_model(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	int64_t a = env_add_model(conn, "P001_all", "mlstm"), b = env_add_model(conn, "P002_all", "mlstm"), id = 0;
	int64_t a1 = here(conn, a, 1, 1), b1 = here(conn, b, 1, 1), b2 = here(conn, b, 2, 1);
	const struct { const char *model; uint32_t number; int64_t except, found; } cases[] = {{"product/P002_all/mlstm", 2, 0, b2}, {"product/P002_all/mlstm", 9, 0, b1},
		{"product/P002_all/mlstm", 2, b2, b1}, {"dataset/mol", 2, 0, a1}, {"dataset/mol", 2, a1, b1}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct catalog_elsewhere wanted = elsewhere(cases[i].model, cases[i].number, 1);
		assert_int_equal(catalog_version_find_digest(conn, &wanted, false, cases[i].except, &id), 0);
		assert_int_equal(id, cases[i].found);
		assert_int_equal(catalog_version_find_digest(conn, &wanted, true, cases[i].except, &id), -ENOENT); /* no dataset */
	}
	assert_int_equal(catalog_version_retire(conn, a1, 1, 0, NULL, NULL), 0);
	struct catalog_elsewhere wanted = elsewhere("dataset/mol", 1, 1);
	assert_int_equal(catalog_version_find_digest(conn, &wanted, false, 0, &id), 0);
	assert_int_equal(id, b1); /* committed before retired */
	direct_end(e, conn);
}

static void test_what_waited_for_a_version_joins_it_and_nothing_is_made_from_itself(void **state)
{
	struct env *e = *state;
	struct edges up = {0};
	char text[200] = "";
	struct catalog_conn *conn = direct_begin(e);
	int64_t model = env_add_model(conn, "P001_all", "mlstm"), made = here(conn, model, 1, 5), twin = here(conn, model, 2, 1);
	int64_t wanted = note(conn, "dataset/mol", 3, 1), other = note(conn, "dataset/mol", 4, 2);
	assert_int_equal(catalog_elsewhere_input_add(conn, made, wanted, CATALOG_OBSERVED), 0);
	assert_int_equal(catalog_elsewhere_input_add(conn, made, other, CATALOG_OBSERVED), 0);
	assert_int_equal(catalog_elsewhere_input_add(conn, twin, wanted, CATALOG_OBSERVED), 0);
	assert_int_equal(catalog_input_add(conn, made, twin, CATALOG_DECLARED), 0);
	const struct catalog_evaluation x = {.version_id = made, .dataset_id = wanted, .at_ns = 5, .metrics = "{\"rmse\":1}"};
	assert_int_equal(catalog_elsewhere_evaluation_add(conn, &x), 0);
	assert_int_equal(catalog_elsewhere_evaluation_add(conn, &x), 0);
	assert_sql(conn, "SELECT count(*) FROM elsewhere_evaluations", "1");
	join(conn, 1); /* the twin is no dataset, and not made from itself */
	assert_int_equal(catalog_lineage_list(conn, made, false, note_edge, &up), 0);
	assert_int_equal(up.n, 1);
	assert_int_equal(up.id[0], twin);
	assert_int_equal(up.how[0], CATALOG_BOTH);
	assert_int_equal(catalog_elsewhere_input_list(conn, made, note_elsewhere, text), 0);
	assert_string_equal(text, "dataset/mol/v4 observed ");
	assert_sql(conn, "SELECT (SELECT count(*) FROM elsewhere) || ' ' || (SELECT count(*) FROM elsewhere_inputs) || ' ' || (SELECT count(*) FROM elsewhere_evaluations)", "2 2 1");
	join(conn, 2);
	join(conn, 3); /* nobody waits for that */
	assert_sql(conn, "SELECT count(*) FROM elsewhere", "2");
	direct_end(e, conn);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, env_setup, env_teardown)
#define OLD(name) cmocka_unit_test_setup_teardown(name, env_setup_closed, env_teardown)
	const struct CMUnitTest tests[] = {
		OLD(test_a_catalog_of_format_1_gets_the_new_modes_and_stays_as_it_was),
		OLD(test_the_metrics_of_format_1_are_facts_after_the_upgrade),
		OLD(test_runs_of_format_1_are_experiments_after_the_upgrade),
		T(test_what_a_version_tells_of_itself_is_kept_and_replaced),
		T(test_the_last_of_equal_facts_counts_and_what_is_too_long_is_left_out),
		T(test_an_input_observed_and_declared_is_both_and_is_found_from_both_ends),
		T(test_what_was_discarded_was_not_made_from_anything_but_keeps_its_inputs),
		T(test_a_version_elsewhere_is_named_once_and_shown_as_an_input),
		T(test_of_versions_with_one_digest_the_one_of_the_name_is_found_then_one_of_the_model),
		T(test_what_waited_for_a_version_joins_it_and_nothing_is_made_from_itself),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
