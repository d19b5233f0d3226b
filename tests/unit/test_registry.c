/* The registry without a mount: every rule of a version's life. */
#include "registry_env.h"

#include "../../src/registry/registry.h"

/* ---- names ---- */

static void test_a_second_path_with_the_same_key_is_refused_with_the_first_named(void **state)
{
	struct fixture *x = *state;
	make_path(x, "global/custom/A_B/C/sum/kan");
	int64_t parent = make_path(x, "global/custom/A/B_C/sum");
	struct catalog_dir d;
	struct fault f = FAULT_INIT;
	assert_int_equal(registry_dir_make(x->r, &x->me, parent, "kan", 0755, &d, &f), -EEXIST);
	assert_int_equal(f.verdict, VERDICT_KEY_TAKEN);
	assert_non_null(strstr(f.text, "global/custom/A_B/C/sum/kan"));
}

static void test_names_outside_the_grammar_are_einval(void **state)
{
	struct fixture *x = *state;
	int64_t product = make_path(x, "product");
	struct catalog_dir d;
	struct fault f = FAULT_INIT;
	assert_int_equal(registry_dir_make(x->r, &x->me, product, "noscope", 0755, &d, &f), -EINVAL);
	assert_int_equal(f.verdict, VERDICT_NAME);
	assert_non_null(strstr(f.text, "noscope"));
	assert_int_equal(registry_dir_make(x->r, &x->me, CATALOG_DIR_ROOT, "models", 0755, &d, &f), -EINVAL);
}

static void test_a_removed_model_goes_on_counting(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm"), parent = make_path(x, "product/P001_all");
	struct catalog_version v = mint(x, model, "next");
	struct fault f = FAULT_INIT;
	assert_int_equal(registry_dir_remove(x->r, parent, "mlstm", &f), -ENOTEMPTY);
	assert_int_equal(registry_discard(x->r, NULL, v.id, 0, &f), 0);
	assert_int_equal(registry_dir_remove(x->r, parent, "mlstm", &f), 0);
	assert_int_equal(make_path(x, "product/P001_all/mlstm"), model);
	assert_int_equal(mint(x, model, "next").number, 2);
}

/* ---- mint ---- */

static void test_numbers_rise_by_one_and_an_exact_number_must_be_new(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v;
	struct fault f = FAULT_INIT;
	assert_int_equal(mint(x, model, "next").number, 1);
	assert_int_equal(mint(x, model, "v7").number, 7);
	assert_int_equal(registry_mint(x->r, &x->me, model, "v7", 0755, &v, &f), -EEXIST);
	assert_int_equal(f.verdict, VERDICT_NUMBER_USED);
	assert_int_equal(registry_mint(x->r, &x->me, model, "v3", 0755, &v, &f), -EEXIST);
	assert_int_equal(mint(x, model, "next").number, 8);
	assert_int_equal(registry_mint(x->r, &x->me, model, "best", 0755, &v, &f), -EPERM);
	assert_int_equal(registry_mint(x->r, &x->me, model, "final", 0755, &v, &f), -EINVAL);
}

static void test_one_process_holds_one_draft_by_latest(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version first = mint(x, model, "latest"), v;
	struct fault f = FAULT_INIT;
	assert_int_equal(registry_mint(x->r, &x->me, model, "latest", 0755, &v, &f), -EEXIST);
	put(x, first.id, "model.pth", "w");
	commit_ok(x, first.id);
	assert_int_equal(mint(x, model, "latest").number, 2);
}

static void test_mint_after_discard_never_reuses_the_number(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = mint(x, model, "next");
	assert_int_equal(registry_discard(x->r, NULL, v.id, 0, NULL), 0);
	registry_close(x->r);
	open_store(x);
	assert_int_equal(mint(x, model, "next").number, 2);
}

/* ---- latest ---- */

static void test_latest_is_my_draft_for_me_and_the_newest_committed_for_others(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct registry_actor unseen = {0, 0, 0};
	uint32_t n;
	assert_int_equal(registry_latest(x->r, model, &x->me, &n), -ENOENT);
	committed(x, model, NULL);
	mint(x, model, "next");
	assert_int_equal(registry_latest(x->r, model, &x->me, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(registry_latest(x->r, model, &unseen, &n), 0);
	assert_int_equal(n, 1);
}

static void test_of_two_runs_each_is_led_to_its_own_draft(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	int hold[2];
	pid_t pid[2] = {child_that_waits(&hold[0]), child_that_waits(&hold[1])};
	struct catalog_version v[2];
	for (int i = 0; i < 2; i++) {
		struct registry_actor a = {pid[i], getuid(), getgid()};
		assert_int_equal(registry_mint(x->r, &a, model, "latest", 0755, &v[i], NULL), 0);
	}
	for (int i = 0; i < 2; i++) {
		struct registry_actor a = {pid[i], getuid(), getgid()};
		uint32_t n;
		assert_int_equal(registry_latest(x->r, model, &a, &n), 0);
		assert_int_equal(n, v[i].number);
	}
	for (int i = 0; i < 2; i++)
		let_end(pid[i], hold[i], 0);
}

static void test_a_failed_siblings_draft_never_takes_over_a_runs_own(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	int hold[2];
	pid_t pid[2] = {child_that_waits(&hold[0]), child_that_waits(&hold[1])};
	struct catalog_version v[2];
	for (int i = 0; i < 2; i++) {
		struct registry_actor a = {pid[i], getuid(), getgid()};
		assert_int_equal(registry_mint(x->r, &a, model, "latest", 0755, &v[i], NULL), 0);
		registry_draft_joined(x->r, v[i].id, &a);
		put(x, v[i].id, "model.pth", "w");
	}
	let_end(pid[1], hold[1], 3);
	struct registry_actor a = {pid[0], getuid(), getgid()};
	uint32_t n;
	assert_int_equal(registry_latest(x->r, model, &a, &n), 0);
	assert_int_equal(n, v[0].number); /* although v2 is newer and held by our common parent now */
	let_end(pid[0], hold[0], 0);
}

/* ---- the end of a run ---- */

static struct catalog_version run_child(struct fixture *x, int64_t model, const char *file, char exit_byte)
{
	int hold;
	pid_t pid = child_that_waits(&hold);
	struct registry_actor a = {pid, getuid(), getgid()};
	struct catalog_version v;
	assert_int_equal(registry_mint(x->r, &a, model, "latest", 0755, &v, NULL), 0);
	if (file) {
		registry_draft_joined(x->r, v.id, &a);
		put(x, v.id, file, "weights");
	}
	let_end(pid, hold, exit_byte);
	return v;
}

static void test_a_run_that_ends_well_commits_its_complete_draft(void **state)
{
	struct fixture *x = *state;
	if (!kernel_tells_exit()) {
		print_message("skipped: exit status by pidfd (Linux 6.15)\n");
		skip();
	}
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = run_child(x, model, "model.pth", 0);
	WAIT_FOR(get(x, v.id).state == CATALOG_COMMITTED);
}

static void test_a_run_that_fails_leaves_its_draft_with_the_reason(void **state)
{
	struct fixture *x = *state;
	if (!kernel_tells_exit())
		skip();
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = run_child(x, model, "model.pth", 3);
	char *reason = NULL;
	WAIT_FOR((reason = reason_of(x, v.id)) != NULL);
	assert_string_equal(reason, "failed: exit 3");
	assert_int_equal(get(x, v.id).state, CATALOG_DRAFT);
	free(reason);
}

static void test_a_draft_without_a_model_file_stays_and_says_so(void **state)
{
	struct fixture *x = *state;
	if (!kernel_tells_exit())
		skip();
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = run_child(x, model, "notes.txt", 0);
	char *reason = NULL;
	WAIT_FOR((reason = reason_of(x, v.id)) != NULL);
	assert_string_equal(reason, "incomplete: no model file");
	free(reason);
}

static void test_an_empty_draft_of_a_failed_run_is_discarded(void **state)
{
	struct fixture *x = *state;
	if (!kernel_tells_exit())
		skip();
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = run_child(x, model, NULL, 1);
	WAIT_FOR(get(x, v.id).state == CATALOG_DISCARDED);
}

/* ---- commit ---- */

static void test_commit_writes_metadata_json_where_the_trainer_left_none(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm"), id = committed(x, model, NULL);
	struct catalog_conn *conn;
	struct catalog_file file;
	int fd;
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_file_find(conn, -id, "metadata.json", &file), 0);
	catalog_read_end(conn);
	assert_int_equal(registry_file_open(x->r, &file, &fd, NULL), 0);
	struct metadata md;
	assert_int_equal(metadata_read(fd, &md, NULL), 0);
	metadata_release(&md);
	close(fd);
	assert_int_equal(file.mode & 0222, 0);
	assert_int_equal(get(x, id).n_files, 2);
}

static void test_equal_contents_are_stored_once(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = mint(x, model, "next");
	put(x, v.id, "model.pth", "the same bytes");
	put(x, v.id, "checkpoint_best.pth", "the same bytes");
	put(x, v.id, "metadata.json", "{}");
	commit_ok(x, v.id);
	struct catalog_totals t;
	struct catalog_conn *conn;
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_totals_get(conn, &t), 0);
	catalog_read_end(conn);
	assert_int_equal(t.files, 3);
	assert_int_equal(t.blobs, 2);
}

static void refused(struct fixture *x, int64_t version, int error, enum registry_verdict verdict, const char *word)
{
	struct fault f = FAULT_INIT;
	assert_int_equal(registry_commit(x->r, &x->me, version, NULL, &f), -error);
	assert_int_equal(f.verdict, verdict);
	if (!strstr(f.text, word))
		fail_msg("'%s' does not say '%s'", f.text, word);
	assert_int_equal(get(x, version).state, CATALOG_DRAFT);
	char *reason = reason_of(x, version);
	assert_non_null(reason);
	assert_string_equal(reason, f.text);
	free(reason);
}

static void test_commit_refuses_what_is_not_whole_and_leaves_the_draft(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = mint(x, model, "next");
	refused(x, v.id, EINVAL, VERDICT_EMPTY_DRAFT, "nothing");
	put(x, v.id, "metadata.json", "{\"metrics\": ");
	refused(x, v.id, EINVAL, VERDICT_BAD_METADATA, "metadata.json");
	put(x, v.id, "metadata.json", "{}");
	put(x, v.id, "model.pth", "PK\x03\x04 torn");
	refused(x, v.id, EINVAL, VERDICT_TORN, "model.pth");
	put(x, v.id, "model.pth", "weights");
	commit_ok(x, v.id);
	assert_null(reason_of(x, v.id));
}

static void test_commit_refuses_a_file_that_is_open_for_writing(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = mint(x, model, "next");
	struct draft *d;
	bool writable;
	struct stat st;
	put(x, v.id, "model.pth", "weights");
	assert_int_equal(registry_draft_get(x->r, v.id, &d, &writable), 0);
	assert_int_equal(fstatat(draft_root(d), "model.pth", &st, 0), 0);
	assert_int_equal(draft_file_opened(d, st.st_ino, true, "model.pth"), 0);
	refused(x, v.id, EBUSY, VERDICT_BUSY, "model.pth");
	draft_file_closed(d, st.st_ino, true, -1);
	draft_put(d);
	commit_ok(x, v.id);
}

static void test_hard_links_and_directories_are_recorded_as_they_are(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_version v = mint(x, model, "next");
	struct draft *d;
	bool writable;
	put(x, v.id, "z.bin", "linked");
	put(x, v.id, "metadata.json", "{}");
	assert_int_equal(registry_draft_get(x->r, v.id, &d, &writable), 0);
	assert_int_equal(mkdirat(draft_root(d), "dir", 0755), 0);
	assert_int_equal(linkat(draft_root(d), "z.bin", draft_root(d), "dir/a.bin", 0), 0);
	assert_int_equal(symlinkat("../z.bin", draft_root(d), "dir/link"), 0);
	draft_put(d);
	commit_ok(x, v.id);
	struct catalog_conn *conn;
	struct catalog_file dir, z, a, link;
	char target[64];
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_file_find(conn, -v.id, "dir", &dir), 0);
	assert_int_equal(catalog_file_find(conn, -v.id, "z.bin", &z), 0);
	assert_int_equal(catalog_file_find(conn, dir.id, "a.bin", &a), 0);
	assert_int_equal(catalog_file_find(conn, dir.id, "link", &link), 0);
	assert_int_equal(catalog_file_target(conn, link.id, target, sizeof target), 0);
	catalog_read_end(conn);
	assert_string_equal(target, "../z.bin");
	assert_int_equal(a.inode, z.inode);
	assert_int_equal(a.nlink, 2);
	assert_int_equal(dir.n_children, 2);
}

static void test_a_path_of_any_length_leaves_room_for_the_reason(void **state)
{
	struct fixture *x = *state;
	char id[200], path[1024];
	memset(id, 'x', sizeof id - 1);
	id[sizeof id - 1] = '\0';
	snprintf(path, sizeof path, "global/custom/%s/%s/%s/%s", id, id, id, id);
	struct catalog_version v = mint(x, make_path(x, path), "next");
	put(x, v.id, "model.pth", "PK\x03\x04 torn");
	refused(x, v.id, EINVAL, VERDICT_TORN, "model.pth");
}

static void test_a_draft_with_nothing_but_links_and_directories_is_empty_and_a_fifo_is_refused(void **state)
{
	struct fixture *x = *state;
	struct catalog_version v = mint(x, make_path(x, "product/P001_all/mlstm"), "next");
	struct draft *d;
	bool writable;
	assert_int_equal(registry_draft_get(x->r, v.id, &d, &writable), 0);
	assert_int_equal(mkdirat(draft_root(d), "dir", 0755), 0);
	assert_int_equal(symlinkat("dir", draft_root(d), "link"), 0);
	refused(x, v.id, EINVAL, VERDICT_EMPTY_DRAFT, "nothing");
	put(x, v.id, "model.pth", "weights");
	assert_int_equal(mkfifoat(draft_root(d), "dir/pipe", 0644), 0);
	refused(x, v.id, EPERM, VERDICT_SPECIAL_FILE, "dir/pipe");
	assert_int_equal(unlinkat(draft_root(d), "dir/pipe", 0), 0);
	assert_int_equal(mkdirat(draft_root(d), "metadata.json", 0755), 0);
	refused(x, v.id, EINVAL, VERDICT_BAD_METADATA, "directory");
	assert_int_equal(unlinkat(draft_root(d), "metadata.json", AT_REMOVEDIR), 0);
	draft_put(d);
	commit_ok(x, v.id);
}

static void test_what_the_trainer_wrote_as_metadata_is_never_altered(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	int64_t id = committed(x, model, "{ \"metrics\": {\"rmse\": NaN,  \"r2\": 0.5} }\n");
	assert_content(x, id, "metadata.json", "{ \"metrics\": {\"rmse\": NaN,  \"r2\": 0.5} }\n");
	struct catalog_version_text t = {0};
	struct catalog_conn *conn;
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_version_text(conn, id, &t), 0);
	catalog_read_end(conn);
	assert_string_equal(t.metrics_summary, "{\"rmse\":null,\"r2\":0.5}");
	assert_string_equal(t.message, "a message");
	catalog_version_text_release(&t);
}

static void test_the_written_metadata_says_where_a_version_comes_from(void **state)
{
	struct fixture *x = *state;
	int64_t id = committed(x, make_path(x, "product/P001_all/mlstm"), NULL);
	char *text = content_of(x, id, "metadata.json"), cwd[512];
	assert_non_null(getcwd(cwd, sizeof cwd));
	const char *const words[] = {"product/P001_all/mlstm", "\"v1\"", "command", cwd, "model.pth", 
		"9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c" /* printf weights | sha256sum */};
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (!strstr(text, words[i]))
			fail_msg("no %s in %s", words[i], text);
	free(text);
}

/* ---- aliases, best, versions.json ---- */

static void test_aliases_lead_to_committed_versions_only_and_keep_their_history(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_alias a;
	struct fault f = FAULT_INIT;
	committed(x, model, NULL);
	committed(x, model, NULL);
	mint(x, model, "next");
	assert_int_equal(registry_alias_set(x->r, &x->me, model, "production", "v1", &a, &f), 0);
	assert_int_equal(registry_alias_set(x->r, &x->me, model, "production", "./v2/", &a, &f), 0);
	assert_int_equal(a.number, 2);
	assert_int_equal(registry_alias_set(x->r, &x->me, model, "production", "v3", &a, &f), -EINVAL);
	assert_int_equal(f.verdict, VERDICT_BAD_ALIAS);
	assert_int_equal(registry_alias_set(x->r, &x->me, model, "production", "v9", &a, &f), -EINVAL);
	assert_int_equal(registry_alias_set(x->r, &x->me, model, "production", "../other/v1", &a, &f), -EINVAL);
	assert_int_equal(registry_alias_set(x->r, &x->me, model, "best", "v1", &a, &f), -EPERM);
	assert_int_equal(registry_alias_set(x->r, &x->me, model, "v5", "v1", &a, &f), -EPERM);
	assert_int_equal(registry_alias_drop(x->r, &x->me, model, "production", &f), 0);
	assert_int_equal(registry_alias_drop(x->r, &x->me, model, "production", &f), -ENOENT);
}

static int note_event(const struct catalog_alias_event *e, void *arg)
{
	struct buf *out = arg;
	return buf_printf(out, "%s %u-%u;", e->name, e->from, e->to), 0;
}

static void assert_history(struct fixture *x, int64_t model, const char *expected)
{
	auto_buf struct buf out = BUF_INIT(4096);
	struct catalog_conn *conn;
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_alias_history(conn, model, NULL, note_event, &out), 0);
	catalog_read_end(conn);
	assert_string_equal(buf_text(&out), expected);
}

static void test_ln_sfn_shows_in_the_history_as_one_move(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_alias a, b;
	committed(x, model, NULL);
	committed(x, model, NULL);
	assert_int_equal(registry_alias_set(x->r, &x->me, model, "production", "v1", &a, NULL), 0);
	assert_int_equal(registry_alias_set(x->r, &x->me, model, "CuAb12Cd", "v2", &b, NULL), 0);
	assert_int_equal(registry_alias_rename(x->r, &x->me, model, "CuAb12Cd", "production", false, NULL), 0);
	assert_history(x, model, "production 0-1;production 1-2;");
	struct registry_child c;
	assert_int_equal(registry_child_find(x->r, model, "production", &x->me, &c), 0);
	assert_int_equal(c.number, 2);
	assert_int_equal(c.alias.id, a.id);
	assert_int_equal(registry_child_find(x->r, model, "CuAb12Cd", &x->me, &c), -ENOENT);
}

static int set_long_ago(struct catalog_conn *conn, void *arg)
{
	struct catalog_alias a = {.model_id = *(int64_t *)arg, .name = "staging", .number = 1, .set_ns = time_now_ns() - 3600 * NS_PER_SEC};
	return catalog_alias_set(conn, &a, "ann", &a.id);
}

static void test_an_alias_that_stood_keeps_its_history_when_it_is_renamed(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_alias a;
	struct fault f = FAULT_INIT;
	committed(x, model, NULL);
	assert_int_equal(catalog_write(x->r->catalog, false, set_long_ago, &model), 0);
	assert_int_equal(registry_alias_set(x->r, &x->me, model, "other", "v1", &a, NULL), 0);
	assert_int_equal(registry_alias_rename(x->r, &x->me, model, "staging", "other", true, &f), -EEXIST);
	assert_int_equal(f.verdict, VERDICT_EXISTS);
	assert_int_equal(registry_alias_rename(x->r, &x->me, model, "staging", "latest", false, &f), -EPERM);
	assert_int_equal(registry_alias_rename(x->r, &x->me, model, "missing", "production", false, &f), -ENOENT);
	assert_int_equal(registry_alias_rename(x->r, &x->me, model, "staging", "production", false, &f), 0);
	assert_history(x, model, "staging 0-1;other 0-1;production 0-1;staging 1-0;");
}

static void test_best_follows_the_first_metric_by_its_known_direction(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	uint32_t n;
	assert_int_equal(registry_best(x->r, model, &n), -ENOENT);
	committed(x, model, "{\"metrics\": {\"rmse\": 10.5, \"r2\": 0.1}}");
	committed(x, model, "{\"metrics\": {\"rmse\": 9.5, \"r2\": 0.0}}");
	committed(x, model, "{\"metrics\": {\"r2\": 0.9, \"rmse\": NaN}}");
	assert_int_equal(registry_best(x->r, model, &n), 0);
	assert_int_equal(n, 2);
	committed(x, model, "{\"metrics\": {\"rmse\": 9.9, \"r2\": 0.8}, \"best\": {\"metric\": \"r2\", \"mode\": \"max\"}}");
	assert_int_equal(registry_best(x->r, model, &n), 0);
	assert_int_equal(n, 3);
}

static void test_versions_json_holds_the_newest_committed_numbers(void **state)
{
	struct fixture *x = *state;
	struct buf out = BUF_INIT(1 << 20);
	int64_t before, after;
	int64_t kan = make_path(x, "global/all/sum/kan"), mlstm = make_path(x, "product/P001_all/mlstm");
	assert_int_equal(registry_versions_stamp(x->r, &before), 0);
	committed(x, kan, NULL);
	committed(x, mlstm, NULL);
	committed(x, mlstm, NULL);
	mint(x, mlstm, "next");
	assert_int_equal(registry_versions_json(x->r, &out, &after), 0);
	assert_true(after != before);
	char flat[256];
	size_t n = 0;
	for (const char *p = buf_text(&out); *p; p++)
		if (*p != ' ' && *p != '\n')
			flat[n++] = *p;
	flat[n] = '\0';
	assert_string_equal(flat, "{\"global_all_sum_kan\":1,\"product_P001_all_mlstm\":2}");
	buf_release(&out);
}

static void test_references_are_found_by_path_key_alias_and_link(void **state)
{
	struct fixture *x = *state;
	int64_t model = make_path(x, "product/P001_all/mlstm");
	struct catalog_alias a;
	struct registry_ref ref;
	struct fault f = FAULT_INIT;
	committed(x, model, NULL);
	committed(x, model, NULL);
	assert_int_equal(registry_alias_set(x->r, &x->me, model, "production", "v1", &a, NULL), 0);
	static const struct { const char *text; uint32_t number; } good[] = {
		{"product/P001_all/mlstm", 0}, {"product/P001_all/mlstm/v2", 2}, {"product_P001_all_mlstm/v1", 1}, {"product_P001_all_mlstm", 0},
		{"product/P001_all/mlstm/latest", 2}, {"product_P001_all_mlstm/production", 1}, {"saved_models/product/P001_all/mlstm/v2/", 2},
	};
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		if (registry_resolve(x->r, good[i].text, &ref, &f) != 0)
			fail_msg("%s: %s", good[i].text, f.text);
		assert_int_equal(ref.model.id, model);
		assert_int_equal(ref.has_version ? ref.version.number : 0, good[i].number);
	}
	assert_int_equal(registry_resolve(x->r, "product/P001_all/mlstm/v9", &ref, &f), -ENOENT);
	assert_int_equal(registry_verdict_exit((enum registry_verdict)f.verdict), 3);
	assert_int_equal(registry_resolve(x->r, "product/P002_all/mlstm", &ref, &f), -ENOENT);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_second_path_with_the_same_key_is_refused_with_the_first_named),
		T(test_names_outside_the_grammar_are_einval),
		T(test_a_removed_model_goes_on_counting),
		T(test_numbers_rise_by_one_and_an_exact_number_must_be_new),
		T(test_one_process_holds_one_draft_by_latest),
		T(test_mint_after_discard_never_reuses_the_number),
		T(test_latest_is_my_draft_for_me_and_the_newest_committed_for_others),
		T(test_of_two_runs_each_is_led_to_its_own_draft),
		T(test_a_failed_siblings_draft_never_takes_over_a_runs_own),
		T(test_a_run_that_ends_well_commits_its_complete_draft),
		T(test_a_run_that_fails_leaves_its_draft_with_the_reason),
		T(test_a_draft_without_a_model_file_stays_and_says_so),
		T(test_an_empty_draft_of_a_failed_run_is_discarded),
		T(test_commit_writes_metadata_json_where_the_trainer_left_none),
		T(test_equal_contents_are_stored_once),
		T(test_commit_refuses_what_is_not_whole_and_leaves_the_draft),
		T(test_commit_refuses_a_file_that_is_open_for_writing),
		T(test_hard_links_and_directories_are_recorded_as_they_are),
		T(test_a_path_of_any_length_leaves_room_for_the_reason),
		T(test_a_draft_with_nothing_but_links_and_directories_is_empty_and_a_fifo_is_refused),
		T(test_what_the_trainer_wrote_as_metadata_is_never_altered),
		T(test_the_written_metadata_says_where_a_version_comes_from),
		T(test_aliases_lead_to_committed_versions_only_and_keep_their_history),
		T(test_ln_sfn_shows_in_the_history_as_one_move),
		T(test_an_alias_that_stood_keeps_its_history_when_it_is_renamed),
		T(test_best_follows_the_first_metric_by_its_known_direction),
		T(test_versions_json_holds_the_newest_committed_numbers),
		T(test_references_are_found_by_path_key_alias_and_link),
	};
	return cmocka_run_group_tests_name("registry", tests, NULL, NULL);
}
