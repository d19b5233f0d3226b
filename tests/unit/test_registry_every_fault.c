/* Every fault (every_fault.h) during what a drive does: mint, commit, discard, aliases, directories, retire, gc, bundles, reading, opening a store. */
#ifndef MINTFS_FAULTS
int main(void) { return 77; /* needs injected faults */ }
#else
#include "every_fault.h"

#include "../../src/registry/registry.h"

#include <mintfs/bundle.h>
/* ---- mint ---- */

static void mint_prepare(struct walk *w) { w->id = 0; }

static int mint_act(struct walk *w)
{
	struct catalog_version v = {0};
	int rc = registry_mint(w->x->r, &w->x->me, w->model, "next", 0755, &v, &w->f);
	if (rc == 0) {
		w->id = v.id;
		if (v.number != w->number + 1)
			fail_msg("a mint that failed took a number: v%u after v%u", v.number, w->number);
		w->number = v.number;
	}
	return rc;
}

static void mint_is_new(struct walk *w)
{
	assert_int_equal(get(w->x, w->id).state, CATALOG_DRAFT);
	put_text(w, "model.pth", "weights"); /* served and writable, whatever failed */
	registry_settle(w->x->r);
	assert_int_equal(registry_discard(w->x->r, &w->x->me, w->id, 0, NULL), 0);
}

/* ---- commit ---- */

static void own_metadata_prepare(struct walk *w)
{
	fresh_draft(w);
	put_text(w, "metadata.json", "{\"metrics\": {\"rmse\": 2.5}, \"params\": {\"lr\": 0.1}, \"labels\": [\"x\"]}");
}

static int commit_act(struct walk *w) { return registry_commit(w->x->r, &w->x->me, w->id, "a message", &w->f); }

/* With so few entries as if it had very many. */
static int sliced_act(struct walk *w)
{
	w->x->r->slice = 1;
	int rc = commit_act(w);
	w->x->r->slice = SLICE;
	return rc;
}

static void draft_is_whole(struct walk *w)
{
	assert_int_equal(get(w->x, w->id).state, CATALOG_DRAFT);
	assert_true(has_file(w, "model.pth") && has_file(w, "notes.txt"));
}

static void nothing_is_ahead(struct walk *w)
{
	int64_t end = -1;
	draft_is_whole(w);
	assert_int_equal(ahead_end(w->x->r, w->id, &end), 0);
	assert_int_equal(end, 0);
}

static void commit_is_new(struct walk *w)
{
	assert_int_equal(get(w->x, w->id).state, CATALOG_COMMITTED);
	assert_content(w->x, w->id, "model.pth", w->text);
	keep(w);
}

/* ---- discard ---- */

static int discard_act(struct walk *w)
{
	int rc = registry_discard(w->x->r, &w->x->me, w->id, 0, &w->f);
	registry_settle(w->x->r);
	return rc;
}

static void discard_is_new(struct walk *w) { assert_int_equal(get(w->x, w->id).state, CATALOG_DISCARDED); }

/* ---- aliases: v1 and v2 of the model are committed ---- */

static int find_alias(struct walk *w, const char *name, struct catalog_alias *ret)
{
	struct catalog_conn *conn;
	assert_int_equal(registry_read_begin(w->x->r, &conn), 0);
	int rc = catalog_alias_find(conn, w->model, name, ret);
	catalog_read_end(conn);
	return rc;
}

static void leads(struct walk *w, const char *name, uint32_t number)
{
	struct catalog_alias a;
	int rc = find_alias(w, name, &a);
	assert_int_equal(rc, number ? 0 : -ENOENT);
	if (number)
		assert_int_equal(a.number, number);
}

static void set_alias(struct walk *w, const char *name, const char *target)
{
	struct catalog_alias a;
	struct fault f = FAULT_INIT;
	if (registry_alias_set(w->x->r, &w->x->me, w->model, name, target, &a, &f) != 0)
		fail_msg("%s", f.text);
}

static void drop_alias(struct walk *w, const char *name)
{
	struct catalog_alias a;
	if (find_alias(w, name, &a) == 0)
		assert_int_equal(registry_alias_drop(w->x->r, &w->x->me, w->model, name, NULL), 0);
}

static void alias_none(struct walk *w) { drop_alias(w, "production"); }
static void alias_at_1(struct walk *w) { set_alias(w, "production", "v1"); drop_alias(w, "champion"); }

static int alias_act(struct walk *w)
{
	struct catalog_alias a;
	return registry_alias_set(w->x->r, &w->x->me, w->model, "production", "v2", &a, &w->f);
}

static int drop_act(struct walk *w) { return registry_alias_drop(w->x->r, &w->x->me, w->model, "production", &w->f); }
static int rename_act(struct walk *w) { return registry_alias_rename(w->x->r, &w->x->me, w->model, "production", "champion", false, &w->f); }
static void leads_nowhere(struct walk *w) { leads(w, "production", 0); }
static void leads_to_1(struct walk *w) { leads(w, "production", 1); }
static void leads_to_2(struct walk *w) { leads(w, "production", 2); }
static void renamed(struct walk *w) { leads(w, "production", 0); leads(w, "champion", 1); }
static void not_renamed(struct walk *w) { leads(w, "production", 1); leads(w, "champion", 0); }

/* ---- directories ---- */

static bool has_dir(struct walk *w)
{
	struct catalog_dir d;
	struct catalog_conn *conn;
	assert_int_equal(registry_read_begin(w->x->r, &conn), 0);
	int rc = catalog_dir_find(conn, w->product, w->name, &d);
	catalog_read_end(conn);
	return rc == 0 && !d.hidden;
}

static void dir_name(struct walk *w) { snprintf(w->name, sizeof w->name, "P%d_all", w->turn + 1000); }

static void dir_made(struct walk *w)
{
	char path[96];
	dir_name(w);
	snprintf(path, sizeof path, "product/%s", w->name);
	w->id = make_path(w->x, path);
}

static int dir_act(struct walk *w)
{
	struct catalog_dir d;
	return registry_dir_make(w->x->r, &w->x->me, w->product, w->name, 0755, &d, &w->f);
}

static int dir_remove_act(struct walk *w) { return registry_dir_remove(w->x->r, w->product, w->name, &w->f); }

static int dir_set_act(struct walk *w)
{
	struct catalog_dir values = {.mode = 0700}, d;
	return registry_dir_set(w->x->r, w->id, REGISTRY_SET_MODE, &values, &d);
}

static void dir_is_there(struct walk *w) { assert_true(has_dir(w)); }
static void dir_is_gone(struct walk *w) { assert_false(has_dir(w)); }

/* ---- reading ---- */

static void nothing(struct walk *w) { (void)w; }

static int json_act(struct walk *w)
{
	struct buf out = BUF_INIT(1 << 20);
	int64_t stamp;
	int rc = registry_versions_json(w->x->r, &out, &stamp);
	if (rc == 0)
		assert_non_null(strstr(buf_text(&out), "product_P001_all_mlstm"));
	buf_release(&out);
	return rc;
}

static int resolve_act(struct walk *w)
{
	struct registry_ref *ref = calloc(1, sizeof *ref);
	if (!ref)
		return fault_set(&w->f, ENOMEM, "the test's own");
	int rc = registry_resolve(w->x->r, "product/P001_all/mlstm/v1/model.pth", ref, &w->f);
	if (rc == 0)
		assert_int_equal(ref->version.number, 1);
	free(ref);
	return rc;
}

static int read_act(struct walk *w)
{
	struct catalog_conn *conn;
	struct catalog_file file;
	int fd, rc = registry_read_begin(w->x->r, &conn);
	if (rc == 0) {
		rc = catalog_file_find(conn, -w->kept[0].id, "model.pth", &file);
		catalog_read_end(conn);
	}
	if (rc < 0) {
		(fault_set)(&w->f, -rc, "not looked up: its caller says what");
		return rc;
	}
	rc = registry_file_open(w->x->r, &file, &fd, &w->f);
	if (rc == 0)
		close(fd);
	return rc;
}

static int count_attr(const char *name, const char *value, void *arg)
{
	assert_true(name[0] && value);
	++*(int *)arg;
	return 0;
}

static int attrs_act(struct walk *w)
{
	int n = 0;
	int rc = registry_version_attrs(w->x->r, w->kept[0].id, NULL, count_attr, &n);
	if (rc == 0)
		assert_true(n > 4);
	return rc;
}

/* ---- the store itself ---- */

static void store_shut(struct walk *w)
{
	fresh_draft(w);
	registry_close(w->x->r);
	w->x->r = NULL;
}

static int open_act(struct walk *w)
{
	struct registry_options o = {.path = w->x->store, .serve = true, .mountpoint = "/nowhere", .on_event = on_event, .event_arg = w->x};
	return registry_open(&o, &w->x->r, &w->f);
}

static void still_shut(struct walk *w) { assert_null(w->x->r); }
static void store_is_open(struct walk *w)
{
	draft_is_whole(w);
	assert_int_equal(discard_act(w), 0); /* else each opening would have one more to take over */
}

/* ---- retire, gc ---- */

static int retire_act(struct walk *w)
{
	struct registry_retire how = {.message = "no more"};
	return registry_retire(w->x->r, &w->x->me, w->id, &how, &w->f);
}

static void still_committed(struct walk *w)
{
	assert_int_equal(get(w->x, w->id).state, CATALOG_COMMITTED);
	assert_content(w->x, w->id, "model.pth", w->text);
}

static void is_retired(struct walk *w) { assert_int_equal(get(w->x, w->id).state, CATALOG_RETIRED); }

static void retire_prepare(struct walk *w)
{
	commit_prepare(w);
	assert_int_equal(retire_act(w), 0);
}

static int gc_act(struct walk *w)
{
	struct registry_gc how = {.grace_ns = 0};
	struct registry_gc_result result;
	return registry_gc(w->x->r, &how, &result, &w->f);
}

/* What it freed can be stored again, and everything else is there. */
static void store_again(struct walk *w)
{
	char text[sizeof w->text];
	strcpy(text, w->text);
	struct catalog_version v = mint(w->x, w->model, "next");
	w->id = v.id;
	w->number = v.number;
	put_text(w, "model.pth", text);
	registry_settle(w->x->r);
	commit_ok(w->x, w->id);
	assert_content(w->x, w->id, "model.pth", text);
	assert_content(w->x, w->kept[0].id, "model.pth", w->kept[0].text);
	assert_int_equal(retire_act(w), 0); /* else each sweep would have more to look through */
}

/* ---- bundles ---- */

static int export_to(struct walk *w, const char *path, struct fault *f)
{
	static struct registry_ref ref; /* large */
	memset(&ref, 0, sizeof ref);
	struct bundle_export what = {.refs = &ref, .n_refs = 1, .program = "a test"};
	struct bundle_totals totals;
	int rc = registry_resolve(w->x->r, path, &ref, f);
	if (rc < 0)
		return rc;
	int fd = open("/dev/shm", O_TMPFILE | O_RDWR, 0600);
	if (fd < 0)
		fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	assert_true(fd >= 0);
	rc = bundle_export(w->x->r, &what, fd, &totals, f);
	if (w->bundle > 0)
		close(w->bundle);
	w->bundle = fd;
	return rc;
}

static int export_act(struct walk *w) { return export_to(w, "product/P001_all/mlstm/v1", &w->f); }

/* The version gets lineage of each kind: made from one that is here and one elsewhere, evaluated elsewhere, and waited for by another, as if that had come in before it. */
static int lineage_write(struct catalog_conn *conn, void *arg)
{
	struct walk *w = arg;
	struct catalog_about about;
	struct catalog_elsewhere e = {.model = "dataset/mol", .number = (uint32_t)w->turn, .has_digest = true};
	int64_t there, waited;
	assert_int_equal(catalog_about_get(conn, w->id, &about), 0);
	assert_int_equal(catalog_elsewhere_note(conn, &e, &there), 0);
	e = (struct catalog_elsewhere){.model = "store/S1_P1/kan", .number = 7, .has_digest = about.has_digest, .digest = about.digest};
	assert_int_equal(catalog_elsewhere_note(conn, &e, &waited), 0);
	catalog_about_release(&about);
	const struct catalog_evaluation x = {.version_id = w->id, .dataset_id = there, .at_ns = 5, .author = "ann", .metrics = "{\"rmse\":1}"};
	assert_int_equal(catalog_input_add(conn, w->id, w->kept[0].id, CATALOG_OBSERVED), 0);
	assert_int_equal(catalog_elsewhere_input_add(conn, w->id, there, CATALOG_DECLARED), 0);
	assert_int_equal(catalog_elsewhere_evaluation_add(conn, &x), 0);
	assert_int_equal(catalog_input_unknown_add(conn, w->id, "dataset/none/v1", "there is none"), 0);
	assert_int_equal(catalog_elsewhere_input_add(conn, w->kept[1].id, waited, CATALOG_OBSERVED), 0);
	return 0;
}

static int count_input(const struct catalog_elsewhere *e, enum catalog_how how, void *arg) { return ++*(int *)arg, 0; }
static int count_evaluation(const struct catalog_elsewhere *e, const struct catalog_evaluation *x, void *arg) { return ++*(int *)arg, 0; }
static int count_unknown(const char *text, const char *reason, void *arg) { return ++*(int *)arg, 0; }

static void has_lineage(struct walk *w)
{
	struct catalog_conn *conn;
	int64_t made_from, made_into;
	int elsewhere = 0, evaluations = 0, unknown = 0;
	assert_int_equal(registry_read_begin(w->x->r, &conn), 0);
	assert_int_equal(catalog_lineage_count(conn, w->id, &made_from, &made_into), 0);
	assert_int_equal(catalog_elsewhere_input_list(conn, w->id, count_input, &elsewhere), 0);
	assert_int_equal(catalog_elsewhere_evaluation_list(conn, w->id, count_evaluation, &evaluations), 0);
	assert_int_equal(catalog_input_unknown_list(conn, w->id, count_unknown, &unknown), 0);
	catalog_read_end(conn);
	assert_int_equal(made_from, 1);
	assert_int_equal(made_into, 1);
	assert_int_equal(elsewhere, 1);
	assert_int_equal(evaluations, 1);
	assert_int_equal(unknown, 1);
}

/* A version that has become a bundle, and whose contents are freed: all of it has to come in again. */
static void bundle_prepare(struct walk *w)
{
	char path[96];
	commit_prepare(w);
	assert_int_equal(catalog_write(w->x->r->catalog, false, lineage_write, w), 0);
	snprintf(path, sizeof path, "product/P001_all/mlstm/v%u", w->number);
	assert_int_equal(export_to(w, path, NULL), 0);
	assert_int_equal(retire_act(w), 0);
	assert_int_equal(gc_act(w), 0);
}

static int import_act(struct walk *w)
{
	struct bundle_import how = {.renumber = true};
	struct registry_import_totals totals = {0};
	assert_int_equal(lseek(w->bundle, 0, SEEK_SET), 0);
	int rc = bundle_import(w->x->r, &w->x->me, &how, w->bundle, &totals, &w->f);
	if (rc == 0)
		assert_int_equal(totals.versions, 1);
	return rc;
}

static int find_number(struct walk *w, uint32_t number, struct catalog_version *ret)
{
	struct catalog_conn *conn;
	assert_int_equal(registry_read_begin(w->x->r, &conn), 0);
	int rc = catalog_version_find(conn, w->model, number, ret);
	catalog_read_end(conn);
	return rc;
}

static void not_imported(struct walk *w)
{
	struct catalog_version v;
	struct catalog_conn *conn;
	int64_t made_into = -1;
	assert_int_equal(find_number(w, w->number + 1, &v), -ENOENT);
	assert_int_equal(registry_read_begin(w->x->r, &conn), 0);
	assert_int_equal(catalog_lineage_count(conn, w->id, NULL, &made_into), 0);
	catalog_read_end(conn);
	assert_int_equal(made_into, 0); /* what waits goes on to wait */
}

static void is_imported(struct walk *w)
{
	struct catalog_version v;
	assert_int_equal(find_number(w, w->number + 1, &v), 0);
	assert_int_equal(v.state, CATALOG_COMMITTED);
	w->id = v.id;
	w->number = v.number;
	assert_content(w->x, v.id, "model.pth", w->text);
	has_lineage(w);
	keep(w);
}

static const struct operation operations[] = {
	{"gc", retire_prepare, gc_act, is_retired, store_again, false, 60}, /* first, while there is little to look through */
	{"mint", mint_prepare, mint_act, NULL, mint_is_new, false, 0},
	{"commit", fresh_draft, commit_act, draft_is_whole, commit_is_new, false, 0},
	{"commit with the trainer's metadata.json", own_metadata_prepare, commit_act, draft_is_whole, commit_is_new, false, 0},
	{"commit in slices", fresh_draft, sliced_act, nothing_is_ahead, commit_is_new, false, 0},
	{"discard", fresh_draft, discard_act, draft_is_whole, discard_is_new, false, 0},
	{"set an alias", alias_none, alias_act, leads_nowhere, leads_to_2, false, 0},
	{"move an alias", alias_at_1, alias_act, leads_to_1, leads_to_2, false, 0},
	{"drop an alias", alias_at_1, drop_act, leads_to_1, leads_nowhere, false, 0},
	{"rename an alias", alias_at_1, rename_act, not_renamed, renamed, false, 0},
	{"make a directory", dir_name, dir_act, dir_is_gone, dir_is_there, false, 0},
	{"remove a directory", dir_made, dir_remove_act, dir_is_there, dir_is_gone, false, 0},
	{"change a directory", dir_made, dir_set_act, NULL, dir_is_there, true, 0},
	{"retire", commit_prepare, retire_act, still_committed, is_retired, false, 0},
	{"export", nothing, export_act, NULL, nothing, false, 0},
	{"import", bundle_prepare, import_act, not_imported, is_imported, false, 0},
	{"versions.json", nothing, json_act, NULL, nothing, true, 0},
	{"resolve a path", nothing, resolve_act, NULL, nothing, false, 0},
	{"read a file", nothing, read_act, NULL, nothing, false, 0},
	{"tell the attributes", nothing, attrs_act, NULL, nothing, true, 0},
	{"open the store", store_shut, open_act, still_shut, store_is_open, false, 0},
};

EVERY_FAULT_TESTS(operations)
EVERY_FAULT_MAIN("registry, every fault")
#endif
