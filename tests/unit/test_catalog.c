/* The catalog's queries: directories, models, versions, aliases, runs, mounts, totals, and the views for other programs. Commits and files are in test_catalog_commit.c, the writer in test_catalog_writer.c. */
#include "catalog_env.h"

/* ---- directories ---- */

static void test_a_new_catalog_has_the_root_and_the_five_modes(void **state)
{
	auto_read struct catalog_conn *conn = NULL;
	struct env *e = *state;
	struct catalog_dir d;
	assert_int_equal(catalog_read_begin(e->c, &conn), 0);
	assert_int_equal(catalog_dir_get(conn, CATALOG_DIR_ROOT, &d), 0);
	assert_int_equal(d.parent, 0);
	assert_string_equal(d.name, "");
	static const char *const modes[] = {"product", "store", "global", "dataset", "process"};
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		assert_int_equal(catalog_dir_find(conn, CATALOG_DIR_ROOT, modes[i], &d), 0);
		assert_int_equal(d.mode, 01777);
		assert_int_equal(d.uid, geteuid());
		assert_int_equal(d.gid, getegid());
		assert_false(d.is_model);
	}
	assert_int_equal(catalog_dir_find(conn, CATALOG_DIR_ROOT, "sets", &d), -ENOENT);
	assert_int_equal(catalog_dir_find(conn, 0, "", &d), -ENOENT);
}

struct ids { int64_t id[16]; size_t n; int64_t stop_at; };

static int note_dir(const struct catalog_dir *d, void *arg)
{
	struct ids *ids = arg;
	ids->id[ids->n++] = d->id;
	return d->id == ids->stop_at ? 42 : 0;
}

static void test_directories_are_listed_by_id_without_the_hidden_and_can_be_stopped(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_dir d;
	int64_t zebra = env_add_dir(conn, 2, "zebra", false), ape = env_add_dir(conn, 2, "ape", false), cat = env_add_dir(conn, 2, "猫", false);
	assert_int_equal(catalog_dir_get(conn, ape, &d), 0);
	assert_int_equal(d.lives, 0);
	d.hidden = true;
	d.lives = CATALOG_LIVES_MAX;
	d.mode = 02750;
	d.uid = 5;
	d.gid = 6;
	d.mtime_ns = 99;
	assert_int_equal(catalog_dir_update(conn, &d), 0);

	struct ids ids = {.n = 0};
	assert_int_equal(catalog_dir_list(conn, 2, 0, note_dir, &ids), 0);
	assert_int_equal(ids.n, 2);
	assert_int_equal(ids.id[0], zebra);
	assert_int_equal(ids.id[1], cat);
	ids = (struct ids){.stop_at = zebra};
	assert_int_equal(catalog_dir_list(conn, 2, 0, note_dir, &ids), 42);
	ids = (struct ids){.n = 0};
	assert_int_equal(catalog_dir_list(conn, 2, zebra, note_dir, &ids), 0);
	assert_int_equal(ids.n, 1);

	struct catalog_dir again = {.id = -1};
	assert_int_equal(catalog_dir_find(conn, 2, "ape", &again), 0);
	assert_true(again.hidden);
	assert_int_equal(again.lives, CATALOG_LIVES_MAX);
	assert_int_equal(again.mode, 02750);
	assert_int_equal(again.uid, 5);
	assert_int_equal(again.gid, 6);
	assert_int_equal(again.mtime_ns, 99);
	d.id = 12345;
	assert_int_equal(catalog_dir_update(conn, &d), -ENOENT);
	direct_end(e, conn);
}

static void test_a_name_is_used_once_in_a_directory_and_its_id_never_again(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_dir d = {.parent = 2, .name = "P001_all", .mode = 0755};
	int64_t id = env_add_dir(conn, 2, "P001_all", false), other = -1;
	assert_int_equal(catalog_dir_add(conn, &d, &other), -EEXIST);
	assert_int_equal(other, -1);
	assert_int_equal(catalog_dir_remove(conn, id), 0);
	assert_int_equal(catalog_dir_get(conn, id, &d), -ENOENT);
	assert_int_equal(catalog_dir_remove(conn, id), -ENOENT);
	assert_true(env_add_dir(conn, 2, "P001_all", false) > id);
	d = (struct catalog_dir){.parent = 777, .name = "x"};
	assert_int_equal(catalog_dir_add(conn, &d, &other), -ENOENT);
	d = (struct catalog_dir){.parent = 2, .name = ""};
	assert_int_equal(catalog_dir_add(conn, &d, &other), -EINVAL);
	direct_end(e, conn);
}

static void test_a_directory_with_children_or_used_numbers_is_not_removed(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_dir d;
	struct catalog_model m;
	int64_t model = env_add_model(conn, "P001_all", "mlstm");
	assert_int_equal(catalog_dir_get(conn, model, &d), 0);
	assert_int_equal(catalog_dir_remove(conn, d.parent), -ENOTEMPTY);
	int64_t version = env_mint(conn, model, 1);
	assert_int_equal(catalog_version_set_state(conn, version, CATALOG_DISCARDED), 0);
	assert_int_equal(catalog_dir_remove(conn, model), -ENOTEMPTY);
	int64_t unused = env_add_model(conn, "P001_all", "kan");
	assert_int_equal(catalog_dir_remove(conn, unused), 0);
	assert_int_equal(catalog_model_get(conn, unused, &m), -ENOENT);
	assert_int_equal(catalog_model_find(conn, "product/P001_all/kan", &m), -ENOENT);
	direct_end(e, conn);
}

/* ---- models ---- */

static void test_models_are_found_by_id_path_and_key(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_model m;
	int64_t id = env_add_model(conn, "阿司匹林_all", "mlstm");
	assert_int_equal(catalog_model_get(conn, id, &m), 0);
	assert_string_equal(m.path, "product/阿司匹林_all/mlstm");
	assert_int_equal(catalog_model_find(conn, "product/阿司匹林_all/mlstm", &m), 0);
	assert_int_equal(m.id, id);
	assert_string_equal(m.identifier, "product_阿司匹林_all");
	assert_string_equal(m.type, "mlstm");
	assert_int_equal(catalog_model_find_key(conn, "product_阿司匹林_all_mlstm", &m), 0);
	assert_int_equal(m.id, id);
	assert_int_equal(catalog_model_find_key(conn, "product_P001_all", &m), -ENOENT);
	direct_end(e, conn);
}

static void test_a_second_model_of_the_same_key_is_refused(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_model m;
	int64_t id = env_add_model(conn, "P001_all", "mlstm");
	assert_int_equal(catalog_model_get(conn, id, &m), 0);
	m.id = env_add_dir(conn, 3, "other", true);
	text_copy(m.path, sizeof m.path, "store/other/mlstm");
	assert_int_equal(catalog_model_add(conn, &m), -EEXIST); /* the key */
	text_copy(m.key, sizeof m.key, "store_other_mlstm");
	text_copy(m.path, sizeof m.path, "product/P001_all/mlstm");
	assert_int_equal(catalog_model_add(conn, &m), -EEXIST); /* the path */
	text_copy(m.path, sizeof m.path, "store/other/mlstm");
	m.id = 999;
	assert_int_equal(catalog_model_add(conn, &m), -EINVAL); /* no such directory */
	direct_end(e, conn);
}

static void test_a_model_keeps_what_is_updated_but_its_last_number_never_sinks(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_model m;
	int64_t id = env_add_model(conn, "P001_all", "mlstm");
	assert_int_equal(catalog_model_get(conn, id, &m), 0);
	m.last_number = 9;
	m.best_mode = 2;
	m.best_named = true;
	text_copy(m.best_metric, sizeof m.best_metric, "r2");
	assert_int_equal(catalog_model_update(conn, &m), 0);
	m.last_number = 4;
	assert_int_equal(catalog_model_update(conn, &m), 0);
	assert_int_equal(catalog_model_get(conn, id, &m), 0);
	assert_int_equal(m.last_number, 9);
	assert_int_equal(m.best_mode, 2);
	assert_true(m.best_named);
	assert_string_equal(m.best_metric, "r2");
	m.id = 999;
	assert_int_equal(catalog_model_update(conn, &m), -ENOENT);
	direct_end(e, conn);
}

struct texts { char all[512]; };

static int note_model(const struct catalog_model *m, void *arg)
{
	struct texts *t = arg;
	strcat(strcat(t->all, m->path), ";");
	return 0;
}

static int note_number(const char *key, uint32_t number, void *arg)
{
	struct texts *t = arg;
	size_t len = strlen(t->all);
	snprintf(t->all + len, sizeof t->all - len, "%s=%u;", key, number);
	return 0;
}

static void test_models_are_listed_by_path_and_numbers_by_key(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	int64_t b = env_add_model(conn, "b_all", "t"), a = env_add_model(conn, "a_all", "t"), gone = env_add_model(conn, "c_all", "t");
	env_add_model(conn, "d_all", "t"); /* without versions */
	struct catalog_dir d;
	assert_int_equal(env_commit(conn, env_mint(conn, b, 1), 1, 1), 0);
	assert_int_equal(env_commit(conn, env_mint(conn, a, 1), 2, 1), 0);
	assert_int_equal(env_commit(conn, env_mint(conn, a, 3), 3, 1), 0);
	assert_int_equal(env_commit(conn, env_mint(conn, gone, 1), 4, 1), 0);
	env_mint(conn, a, 4); /* a draft */
	assert_int_equal(catalog_dir_get(conn, gone, &d), 0);
	d.hidden = true;
	assert_int_equal(catalog_dir_update(conn, &d), 0);
	struct texts t = {""};
	assert_int_equal(catalog_model_list(conn, note_model, &t), 0);
	assert_string_equal(t.all, "product/a_all/t;product/b_all/t;product/d_all/t;");
	t.all[0] = '\0';
	assert_int_equal(catalog_model_numbers(conn, note_number, &t), 0);
	assert_string_equal(t.all, "product_a_all_t=3;product_b_all_t=1;");
	direct_end(e, conn);
}

static int64_t stamp(struct catalog_conn *conn)
{
	int64_t s = -1;
	assert_int_equal(catalog_numbers_stamp(conn, &s), 0);
	return s;
}

static void test_the_stamp_rises_with_commits_retirements_and_hidings_only(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_dir d;
	int64_t s0 = stamp(conn), id = env_add_model(conn, "P001_all", "mlstm");
	int64_t v1 = env_mint(conn, id, 1), v2 = env_mint(conn, id, 2);
	assert_int_equal(catalog_version_set_state(conn, v2, CATALOG_DISCARDED), 0);
	assert_int_equal(catalog_dir_get(conn, id, &d), 0);
	d.mtime_ns++;
	assert_int_equal(catalog_dir_update(conn, &d), 0);
	assert_int_equal(stamp(conn), s0);
	assert_int_equal(env_commit(conn, v1, 1, 1), 0);
	int64_t s1 = stamp(conn);
	assert_true(s1 > s0);
	assert_int_equal(catalog_version_set_state(conn, v1, CATALOG_RETIRED), 0);
	int64_t s2 = stamp(conn);
	assert_true(s2 > s1);
	d.hidden = true;
	assert_int_equal(catalog_dir_update(conn, &d), 0);
	assert_true(stamp(conn) > s2);
	direct_end(e, conn);
}

/* ---- versions ---- */

static void test_a_minted_version_is_a_draft_with_what_it_was_given(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_version v, same;
	struct catalog_model m;
	int64_t model = env_add_model(conn, "P001_all", "mlstm"), id = env_mint(conn, model, 5);
	assert_int_equal(catalog_version_get(conn, id, &v), 0);
	assert_int_equal(v.model_id, model);
	assert_int_equal(v.number, 5);
	assert_int_equal(v.state, CATALOG_DRAFT);
	assert_int_equal(v.minted_ns, 1005);
	assert_int_equal(v.uid, 1000);
	assert_int_equal(v.gid, 1001);
	assert_int_equal(v.mode, 0755);
	assert_int_equal(v.run_id, 7);
	assert_int_equal(v.owner, 3);
	assert_int_equal(v.committed_ns, 0);
	assert_int_equal(catalog_version_find(conn, model, 5, &same), 0);
	assert_int_equal(same.id, id);
	assert_int_equal(catalog_version_find(conn, model, 4, &same), -ENOENT);
	assert_int_equal(catalog_model_get(conn, model, &m), 0);
	assert_int_equal(m.last_number, 5);
	int64_t other = -1;
	assert_int_equal(catalog_version_add(conn, &v, NULL, &other), -EEXIST);
	v.number = 0;
	assert_int_equal(catalog_version_add(conn, &v, NULL, &other), -EINVAL);
	v.number = 6;
	v.model_id = 999;
	assert_int_equal(catalog_version_add(conn, &v, NULL, &other), -EINVAL);
	assert_int_equal(other, -1);
	direct_end(e, conn);
}

static void test_texts_are_null_until_they_are_set(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_version_text t;
	int64_t id = env_mint(conn, env_add_model(conn, "P001_all", "mlstm"), 1);
	assert_int_equal(catalog_version_text(conn, id, &t), 0);
	assert_string_equal(t.author, "ada");
	assert_null(t.message);
	assert_null(t.reason);
	assert_null(t.metrics_summary);
	catalog_version_text_release(&t);
	assert_null(t.author);
	assert_int_equal(catalog_version_set_reason(conn, id, "failed: exit 137"), 0);
	assert_int_equal(catalog_version_text(conn, id, &t), 0);
	assert_string_equal(t.reason, "failed: exit 137");
	catalog_version_text_release(&t);
	assert_int_equal(catalog_version_set_reason(conn, id, NULL), 0);
	assert_int_equal(catalog_version_text(conn, id, &t), 0);
	assert_null(t.reason);
	catalog_version_text_release(&t);
	assert_int_equal(catalog_version_set_reason(conn, 999, "x"), -ENOENT);
	assert_int_equal(catalog_version_set_owner(conn, 999, 1), -ENOENT);
	assert_int_equal(catalog_version_text(conn, 999, &t), -ENOENT);
	direct_end(e, conn);
}

static void test_states_change_only_along_the_life_of_a_version(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_version v;
	int64_t model = env_add_model(conn, "P001_all", "mlstm"), draft = env_mint(conn, model, 1), done = env_mint(conn, model, 2);
	assert_int_equal(env_commit(conn, done, 1, 1), 0);
	assert_int_equal(catalog_version_set_state(conn, draft, CATALOG_RETIRED), -ESTALE);
	assert_int_equal(catalog_version_set_state(conn, draft, CATALOG_COMMITTED), -EINVAL);
	assert_int_equal(catalog_version_set_state(conn, done, CATALOG_DISCARDED), -ESTALE);
	assert_int_equal(catalog_version_set_state(conn, 999, CATALOG_DISCARDED), -ENOENT);
	assert_int_equal(catalog_version_set_state(conn, draft, CATALOG_DISCARDED), 0);
	assert_int_equal(catalog_version_set_state(conn, draft, CATALOG_DISCARDED), -ESTALE);
	assert_int_equal(catalog_version_get(conn, draft, &v), 0);
	assert_int_equal(v.state, CATALOG_DISCARDED);
	assert_int_equal(v.owner, 0);
	assert_int_equal(env_commit(conn, draft, 1, 1), -ESTALE);
	assert_int_equal(catalog_version_set_state(conn, done, CATALOG_RETIRED), 0);
	assert_int_equal(catalog_version_get(conn, done, &v), 0);
	assert_int_equal(v.state, CATALOG_RETIRED);
	assert_string_equal(catalog_state_name(v.state), "retired");
	assert_string_equal(catalog_state_name(CATALOG_DRAFT), "draft");
	direct_end(e, conn);
}

static uint32_t newest(struct catalog_conn *conn, int64_t model)
{
	struct catalog_model m;
	assert_int_equal(catalog_model_get(conn, model, &m), 0);
	return m.newest_committed;
}

static void test_retiring_the_newest_makes_the_next_lower_one_the_newest(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	int64_t model = env_add_model(conn, "P001_all", "mlstm"), v[5];
	for (uint32_t n = 1; n <= 4; n++)
		v[n] = env_mint(conn, model, n);
	assert_int_equal(env_commit(conn, v[4], 4, 1), 0);
	assert_int_equal(env_commit(conn, v[1], 1, 1), 0); /* later, but not the newest */
	assert_int_equal(newest(conn, model), 4);
	assert_int_equal(env_commit(conn, v[3], 3, 1), 0);
	assert_int_equal(catalog_version_set_state(conn, v[3], CATALOG_RETIRED), 0);
	assert_int_equal(newest(conn, model), 4);
	assert_int_equal(catalog_version_set_state(conn, v[4], CATALOG_RETIRED), 0);
	assert_int_equal(newest(conn, model), 1);
	assert_int_equal(catalog_version_set_state(conn, v[1], CATALOG_RETIRED), 0);
	assert_int_equal(newest(conn, model), 0);
	direct_end(e, conn);
}

static int note_version(const struct catalog_version *v, const struct catalog_version_text *text, void *arg)
{
	struct texts *t = arg;
	size_t len = strlen(t->all);
	snprintf(t->all + len, sizeof t->all - len, "%u%s%s;", v->number, text ? text->author : "", text && text->reason ? text->reason : "");
	return v->number == 99 ? 42 : 0;
}

static void test_versions_are_listed_by_number_in_both_directions_and_by_state(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	int64_t model = env_add_model(conn, "P001_all", "mlstm"), other = env_add_model(conn, "P001_all", "kan"), v[6];
	const unsigned all = 15, drafts = 1u << CATALOG_DRAFT, committed = 1u << CATALOG_COMMITTED;
	for (uint32_t n = 1; n <= 5; n++)
		v[n] = env_mint(conn, model, n);
	env_mint(conn, other, 2);
	assert_int_equal(env_commit(conn, v[2], 1, 1), 0);
	assert_int_equal(env_commit(conn, v[4], 2, 1), 0);
	assert_int_equal(catalog_version_set_state(conn, v[5], CATALOG_DISCARDED), 0);
	assert_int_equal(catalog_version_set_reason(conn, v[3], "!"), 0);
	const struct { struct catalog_version_list q; const char *expected; } table[] = {
		{{.states = all}, "1;2;3;4;5;"},
		{{.states = all, .descending = true}, "5;4;3;2;1;"},
		{{.states = all, .after = 3}, "4;5;"},
		{{.states = all, .after = 3, .descending = true}, "2;1;"},
		{{.states = committed}, "2;4;"},
		{{.states = committed, .descending = true}, "4;2;"},
		{{.states = drafts}, "1;3;"},
		{{.states = drafts, .after = 1}, "3;"},
		{{.states = drafts, .descending = true, .with_text = true}, "3ada!;1ada;"},
		{{.states = drafts | committed, .with_text = true, .after = 2}, "3ada!;4ada;"},
		{{.states = 0}, ""},
	};
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct catalog_version_list q = table[i].q;
		struct texts t = {""};
		q.model_id = model;
		assert_int_equal(catalog_version_list(conn, &q, note_version, &t), 0);
		assert_string_equal(t.all, table[i].expected);
	}
	env_mint(conn, other, 99);
	struct texts t = {""};
	assert_int_equal(catalog_draft_list(conn, note_version, &t), 42);
	assert_string_equal(t.all, "1ada;3ada!;2ada;99ada;");
	direct_end(e, conn);
}

struct nested { struct catalog_conn *conn; int64_t model; char all[64]; unsigned depth; };

static int note_nested(const struct catalog_version *v, const struct catalog_version_text *text, void *arg)
{
	struct nested *n = arg;
	(void)text;
	snprintf(n->all + strlen(n->all), sizeof n->all - strlen(n->all), "%u", v->number);
	if (n->depth == 1)
		return 0;
	n->depth++;
	struct catalog_version_list q = {.model_id = n->model, .states = 15};
	int r = catalog_version_list(n->conn, &q, note_nested, n);
	n->depth--;
	return r;
}

static void test_a_listing_within_the_same_listing_sees_all_rows(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct nested n = {.conn = conn, .model = env_add_model(conn, "P001_all", "mlstm")};
	env_mint(conn, n.model, 1);
	env_mint(conn, n.model, 2);
	struct catalog_version_list q = {.model_id = n.model, .states = 15};
	assert_int_equal(catalog_version_list(conn, &q, note_nested, &n), 0);
	assert_string_equal(n.all, "112212");
	direct_end(e, conn);
}

/* ---- aliases ---- */

static int note_event(const struct catalog_alias_event *ev, void *arg)
{
	struct texts *t = arg;
	size_t len = strlen(t->all);
	snprintf(t->all + len, sizeof t->all - len, "%s %u>%u @%lld %u %s;", ev->name, ev->from, ev->to, (long long)ev->at_ns, ev->uid,
		ev->author ? ev->author : "-");
	return 0;
}

static int note_alias(const struct catalog_alias *a, void *arg)
{
	struct ids *ids = arg;
	ids->id[ids->n++] = a->id;
	return 0;
}

static void test_aliases_move_under_one_id_and_every_change_is_kept(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	int64_t model = env_add_model(conn, "P001_all", "mlstm"), id = 0, again = 0, other = 0;
	struct catalog_alias a = {.model_id = model, .name = "production", .number = 1, .uid = 10, .gid = 20, .set_ns = 100}, got;
	assert_int_equal(catalog_alias_set(conn, &a, "ada", &id), 0);
	a.set_ns = 200;
	assert_int_equal(catalog_alias_set(conn, &a, "bob", &again), 0); /* no change */
	assert_int_equal(again, id);
	assert_int_equal(catalog_alias_get(conn, id, &got), 0);
	assert_int_equal(got.set_ns, 100);
	a.number = 3;
	a.uid = 11;
	a.set_ns = 300;
	assert_int_equal(catalog_alias_set(conn, &a, NULL, &again), 0);
	assert_int_equal(again, id);
	assert_int_equal(catalog_alias_find(conn, model, "production", &got), 0);
	assert_int_equal(got.number, 3);
	assert_int_equal(got.uid, 11);
	assert_int_equal(got.gid, 20);
	assert_int_equal(got.set_ns, 300);
	text_copy(a.name, sizeof a.name, "canary");
	assert_int_equal(catalog_alias_set(conn, &a, "ada", &other), 0);
	assert_int_equal(catalog_alias_drop(conn, model, "production", 400, 12, "eve"), 0);
	assert_int_equal(catalog_alias_drop(conn, model, "production", 400, 12, "eve"), -ENOENT);
	assert_int_equal(catalog_alias_find(conn, model, "production", &got), -ENOENT);
	text_copy(a.name, sizeof a.name, "production");
	assert_int_equal(catalog_alias_set(conn, &a, "ada", &again), 0);
	assert_true(again > other);

	struct ids ids = {.n = 0};
	assert_int_equal(catalog_alias_list(conn, model, 0, note_alias, &ids), 0);
	assert_int_equal(ids.n, 2);
	assert_int_equal(ids.id[0], other);
	assert_int_equal(ids.id[1], again);
	ids.n = 0;
	assert_int_equal(catalog_alias_list(conn, model, other, note_alias, &ids), 0);
	assert_int_equal(ids.n, 1);

	struct texts t = {""};
	assert_int_equal(catalog_alias_history(conn, model, "production", note_event, &t), 0);
	assert_string_equal(t.all, "production 0>1 @100 10 ada;production 1>3 @300 11 -;production 3>0 @400 12 eve;production 0>3 @300 11 ada;");
	t.all[0] = '\0';
	assert_int_equal(catalog_alias_history(conn, model, NULL, note_event, &t), 0);
	assert_non_null(strstr(t.all, "3 @300 11 -;canary 0>3 @300 11 ada;production 3>0"));
	direct_end(e, conn);
}

/* ---- runs, mounts, totals ---- */

#define MUTABLE(text) ((char[]){text})

static void test_a_run_is_kept_whole_and_updated_whole(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	int64_t id = 0;
	struct catalog_run r = {.key = MUTABLE("job-1"), .boot_id = MUTABLE("b"), .chain = MUTABLE("10:5 9:4"), .uid = 1000, .user = MUTABLE("ada"),
		.host = MUTABLE("h"), .command = MUTABLE("[\"python\"]"), .cwd = MUTABLE("/w"), .git_dirty = -1, .started_ns = 5, .exit_status = -1}, got;
	assert_int_equal(catalog_run_add(conn, &r, &id), 0);
	assert_int_equal(catalog_run_get(conn, id, &got), 0);
	assert_int_equal(got.id, id);
	assert_string_equal(got.key, "job-1");
	assert_string_equal(got.chain, "10:5 9:4");
	assert_string_equal(got.command, "[\"python\"]");
	assert_null(got.git_commit);
	assert_int_equal(got.git_dirty, -1);
	assert_int_equal(got.ended_ns, 0);
	catalog_run_release(&got);
	r.id = id;
	r.key = NULL;
	r.git_commit = MUTABLE("abc");
	r.git_dirty = 1;
	r.ended_ns = 9;
	r.exit_status = 256;
	assert_int_equal(catalog_run_update(conn, &r), 0);
	assert_int_equal(catalog_run_get(conn, id, &got), 0);
	assert_null(got.key);
	assert_string_equal(got.boot_id, "b");
	assert_string_equal(got.user, "ada");
	assert_string_equal(got.host, "h");
	assert_string_equal(got.cwd, "/w");
	assert_string_equal(got.git_commit, "abc");
	assert_int_equal(got.git_dirty, 1);
	assert_int_equal(got.started_ns, 5);
	assert_int_equal(got.ended_ns, 9);
	assert_int_equal(got.exit_status, 256);
	assert_int_equal(got.uid, 1000);
	catalog_run_release(&got);
	r.id = 999;
	assert_int_equal(catalog_run_update(conn, &r), -ENOENT);
	assert_int_equal(catalog_run_get(conn, 999, &got), -ENOENT);
	direct_end(e, conn);
}

static int note_mount(const struct catalog_mount *m, void *arg)
{
	struct texts *t = arg;
	size_t len = strlen(t->all);
	snprintf(t->all + len, sizeof t->all - len, "%s %d %d %lld %s %s;", m->mountpoint, (int)m->pid, m->read_only, (long long)m->since_ns,
		m->host, m->boot_id);
	return 0;
}

static void test_mounts_come_and_go_and_no_id_returns(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_mount m = {.pid = 10, .read_only = true, .since_ns = 7, .host = "h", .boot_id = "b", .mountpoint = "/mnt/models"}, got;
	int64_t a = 0, b = 0, c = 0;
	assert_int_equal(catalog_mount_add(conn, &m, &a), 0);
	m.pid = 11;
	m.read_only = false;
	assert_int_equal(catalog_mount_add(conn, &m, &b), 0);
	struct texts t = {""};
	assert_int_equal(catalog_mount_list(conn, note_mount, &t), 0);
	assert_string_equal(t.all, "/mnt/models 10 1 7 h b;/mnt/models 11 0 7 h b;");
	assert_int_equal(catalog_mount_get(conn, a, &got), 0);
	assert_int_equal(got.pid, 10);
	assert_int_equal(catalog_mount_remove(conn, b), 0);
	assert_int_equal(catalog_mount_remove(conn, b), -ENOENT);
	assert_int_equal(catalog_mount_get(conn, b, &got), -ENOENT);
	assert_int_equal(catalog_mount_add(conn, &m, &c), 0);
	assert_true(c > b);
	direct_end(e, conn);
}

static void test_totals_count_contents_once_and_versions_by_state(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	struct catalog_totals t;
	assert_int_equal(catalog_totals_get(conn, &t), 0);
	assert_int_equal(t.models + t.drafts + t.committed + t.retired + t.discarded + t.files + t.blobs, 0);
	int64_t model = env_add_model(conn, "P001_all", "mlstm"), v[6];
	for (uint32_t n = 1; n <= 5; n++)
		v[n] = env_mint(conn, model, n);
	assert_int_equal(env_commit(conn, v[1], 1, 1), 0);
	assert_int_equal(env_commit(conn, v[2], 1, 1), 0); /* the same content */
	assert_int_equal(env_commit(conn, v[3], 2, 1), 0);
	assert_int_equal(catalog_version_set_state(conn, v[3], CATALOG_RETIRED), 0);
	assert_int_equal(catalog_version_set_state(conn, v[4], CATALOG_DISCARDED), 0);
	assert_int_equal(catalog_totals_get(conn, &t), 0);
	assert_int_equal(t.models, 1);
	assert_int_equal(t.drafts, 1);
	assert_int_equal(t.committed, 2);
	assert_int_equal(t.retired, 1);
	assert_int_equal(t.discarded, 1);
	assert_int_equal(t.files, 2);
	assert_int_equal(t.blobs, 2);
	assert_int_equal(t.logical_bytes, 200);
	assert_int_equal(t.stored_bytes, 200);
	direct_end(e, conn);
}

/* ---- the views ---- */

static void test_model_versions_has_exactly_the_promised_columns(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = direct_begin(e);
	assert_sql(conn, "SELECT group_concat(name, ' ') FROM pragma_table_info('model_versions')",
		"id model_identifier model_type version model_path created_at metrics_summary");
	int64_t model = env_add_model(conn, "P001_all", "mlstm"), v2;
	env_mint(conn, model, 1); /* a draft is not there */
	v2 = env_mint(conn, model, 2);
	assert_int_equal(env_commit(conn, v2, 1, 10.5), 0);
	assert_sql(conn, "SELECT count(*) FROM model_versions", "1");
	char expected[16];
	snprintf(expected, sizeof expected, "%lld", (long long)v2);
	assert_sql(conn, "SELECT id FROM model_versions", expected);
	assert_sql(conn, "SELECT typeof(id) FROM model_versions", "integer");
	assert_sql(conn, "SELECT model_identifier FROM model_versions", "product_P001_all");
	assert_sql(conn, "SELECT model_type FROM model_versions", "mlstm");
	assert_sql(conn, "SELECT version FROM model_versions", "v2");
	assert_sql(conn, "SELECT model_path FROM model_versions", "saved_models/product/P001_all/mlstm/v2/");
	assert_sql(conn, "SELECT created_at FROM model_versions", "2025-07-15 18:40:00");
	assert_sql(conn, "SELECT metrics_summary FROM model_versions", "{\"rmse\":10.5}");
	assert_int_equal(catalog_version_set_state(conn, v2, CATALOG_RETIRED), 0);
	assert_sql(conn, "SELECT version FROM model_versions", "v2");
	direct_end(e, conn);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, env_setup, env_teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_new_catalog_has_the_root_and_the_five_modes),
		T(test_directories_are_listed_by_id_without_the_hidden_and_can_be_stopped),
		T(test_a_name_is_used_once_in_a_directory_and_its_id_never_again),
		T(test_a_directory_with_children_or_used_numbers_is_not_removed),
		T(test_models_are_found_by_id_path_and_key),
		T(test_a_second_model_of_the_same_key_is_refused),
		T(test_a_model_keeps_what_is_updated_but_its_last_number_never_sinks),
		T(test_models_are_listed_by_path_and_numbers_by_key),
		T(test_the_stamp_rises_with_commits_retirements_and_hidings_only),
		T(test_a_minted_version_is_a_draft_with_what_it_was_given),
		T(test_texts_are_null_until_they_are_set),
		T(test_states_change_only_along_the_life_of_a_version),
		T(test_retiring_the_newest_makes_the_next_lower_one_the_newest),
		T(test_versions_are_listed_by_number_in_both_directions_and_by_state),
		T(test_a_listing_within_the_same_listing_sees_all_rows),
		T(test_aliases_move_under_one_id_and_every_change_is_kept),
		T(test_a_run_is_kept_whole_and_updated_whole),
		T(test_mounts_come_and_go_and_no_id_returns),
		T(test_totals_count_contents_once_and_versions_by_state),
		T(test_model_versions_has_exactly_the_promised_columns),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
