/* Every fault (every_fault.h) during what tools do: retention, evaluations, runs of processes, backups, existing folders. */
#ifndef MINTFS_FAULTS
int main(void) { return 77; /* needs injected faults */ }
#else
#include "every_fault.h"

#include <mintfs/bundle.h>

#include <math.h>

#define DATASET "dataset/mol"
#define PROCESS "process/screening"
#define PROCESS_JSON \
	"{\"nodes\": [{\"name\": \"a\", \"dataset\": \"dataset/mol\", \"model\": {\"name\": \"product/P001_all/mlstm\"}, \"run\": [\"true\", \"{result}\"], \"score\": \"r2\", \"weight\": 1}]," \
	" \"aliases\": [\"production\"]}"

/* What stands beside the walk's model: made when the first operation needs it. */
static struct {
	int64_t dataset_id, process_model, process_id;
} made;

static void nothing(struct walk *w) { (void)w; }

static int64_t commit_file(struct walk *w, const char *model, const char *name, const char *text)
{
	struct catalog_version v = mint(w->x, make_path(w->x, model), "next");
	put(w->x, v.id, name, text);
	commit_ok(w->x, v.id);
	return v.id;
}

/* The first operation of the table: everything of before was another test's store. */
static void make_all(struct walk *w)
{
	if (w->turn > 3)
		return;
	made.dataset_id = commit_file(w, DATASET, "data.csv", "a,b\n");
	made.process_model = make_path(w->x, PROCESS);
	made.process_id = commit_file(w, PROCESS, "process.json", PROCESS_JSON);
}

/* ---- retention ---- */

static int count_version(const struct catalog_version *v, const char *kept_by, bool passed_over, void *arg)
{
	*(int *)arg += v->id > 0 && kept_by == NULL;
	return 0;
}

static int plan_act(struct walk *w)
{
	struct registry_retention rule = {.keep_last = 1};
	int n = 0;
	int rc = registry_retention_plan(w->x->r, &w->x->me, w->model, &rule, count_version, &n, &w->f);
	if (rc == 0)
		assert_true(n >= 1);
	return rc;
}

static int count_draft(const struct catalog_version *v, int64_t changed_ns, const char *kept_by, void *arg)
{
	*(int *)arg += v->id > 0 && changed_ns > 0 && kept_by != NULL;
	return 0;
}

/* Its run is this program, which lives. */
static int draft_plan_act(struct walk *w)
{
	int n = 0;
	int rc = registry_draft_retention_plan(w->x->r, w->model, 1, count_draft, &n, &w->f);
	if (rc == 0)
		assert_int_equal(n, 1);
	return rc;
}

static void discard_it(struct walk *w)
{
	assert_int_equal(registry_discard(w->x->r, &w->x->me, w->id, 0, NULL), 0);
	registry_settle(w->x->r);
}

/* ---- evaluations ---- */

static int count_evaluation(const struct catalog_evaluation *e, void *arg)
{
	assert_true(e->dataset_id == made.dataset_id && strstr(e->metrics, "r2"));
	++*(int *)arg;
	return 0;
}

static int evaluations(struct walk *w)
{
	struct catalog_conn *conn;
	int n = 0;
	assert_int_equal(registry_read_begin(w->x->r, &conn), 0);
	assert_int_equal(catalog_evaluation_list(conn, w->id, count_evaluation, &n), 0);
	catalog_read_end(conn);
	return n;
}

static int evaluate_act(struct walk *w)
{
	static const char metrics[] = "{\"r2\": 0.9, \"loss\": NaN}";
	int64_t id;
	return registry_evaluate(w->x->r, &w->x->me, w->id, made.dataset_id, metrics, strlen(metrics), &id, &w->f);
}

static void not_evaluated(struct walk *w) { assert_int_equal(evaluations(w), 0); }
static void evaluated(struct walk *w) { assert_int_equal(evaluations(w), 1); }

/* ---- runs of processes: w->id is the model's version that is to be bound ---- */

static int64_t run_id;
static struct catalog_version adopted;

static int load_act(struct walk *w)
{
	struct registry_process *p = calloc(1, sizeof *p);
	if (!p)
		return fault_set(&w->f, ENOMEM, "the test's own");
	struct catalog_version v;
	int rc = registry_process_load(w->x->r, "screening", p, &w->f);
	if (rc == 0)
		rc = registry_process_select(w->x->r, &p->spec.nodes[0].model, &v, &w->f);
	if (rc == 0)
		assert_int_equal(v.number, w->number);
	registry_process_release(p);
	free(p);
	return rc;
}

static struct catalog_process_run a_run(void)
{
	return (struct catalog_process_run){.process_id = made.process_model, .version_id = made.process_id, .kind = CATALOG_PROCESS_RUN, .state = CATALOG_PROCESS_RUNNING,
		.started_ns = time_now_ns(), .sum = NAN, .sum_before = NAN, .author = (char *)(uintptr_t)"anna", .host = (char *)(uintptr_t)"here"};
}

static struct catalog_process_step a_step(struct walk *w, enum catalog_step_state state)
{
	return (struct catalog_process_step){.kind = CATALOG_STEP_NODE, .name = (char *)(uintptr_t)"a", .dataset_id = made.dataset_id, .model_id = w->id, .state = state,
		.exit_status = -1, .weight = 1, .score = NAN};
}

static int first_run(const struct catalog_process_run *r, void *arg)
{
	struct catalog_process_run *to = arg;
	*to = *r;
	to->author = to->host = to->reason = NULL; /* borrowed */
	return 1;
}

static struct catalog_process_run newest_run(struct walk *w)
{
	struct catalog_process_run r = {0};
	struct catalog_conn *conn;
	assert_int_equal(registry_read_begin(w->x->r, &conn), 0);
	assert_true(catalog_process_run_list(conn, made.process_model, 1, first_run, &r) >= 0);
	catalog_read_end(conn);
	return r;
}

static int first_step(const struct catalog_process_step *s, void *arg)
{
	*(enum catalog_step_state *)arg = s->state;
	return 0;
}

static enum catalog_step_state step_state(struct walk *w)
{
	enum catalog_step_state state = CATALOG_STEP_SKIPPED;
	struct catalog_conn *conn;
	assert_int_equal(registry_read_begin(w->x->r, &conn), 0);
	assert_int_equal(catalog_process_step_list(conn, run_id, first_step, &state), 0);
	catalog_read_end(conn);
	return state;
}

static int process_begin_act(struct walk *w)
{
	struct catalog_process_run run = a_run();
	struct catalog_process_step step = a_step(w, CATALOG_STEP_WAITING);
	int rc = registry_process_begin(w->x->r, &run, &step, 1, &w->f);
	if (rc == 0)
		run_id = run.id;
	return rc;
}

static void begun_not(struct walk *w) { assert_int_equal(newest_run(w).id, run_id); }
static void begun(struct walk *w)
{
	assert_int_equal(newest_run(w).id, run_id);
	assert_int_equal(step_state(w), CATALOG_STEP_WAITING);
}

static void process_prepare(struct walk *w)
{
	commit_prepare(w);
	assert_int_equal(process_begin_act(w), 0);
	adopted = get(w->x, w->id);
}

static int step_act(struct walk *w)
{
	struct catalog_process_step step = a_step(w, CATALOG_STEP_RUNNING);
	return registry_process_step(w->x->r, run_id, &step, &w->f);
}

static void step_as_before(struct walk *w) { assert_int_equal(step_state(w), CATALOG_STEP_WAITING); }
static void step_recorded(struct walk *w) { assert_int_equal(step_state(w), CATALOG_STEP_RUNNING); }

static int finish_act(struct walk *w)
{
	struct catalog_process_run run = a_run();
	struct catalog_process_binding b = {.node = (char *)(uintptr_t)"a", .dataset_id = made.dataset_id, .model_id = w->id, .score = 0.9, .weight = 1,
		.result = (char *)(uintptr_t)"{\"r2\":0.9}", .run_id = run_id};
	char *name = (char *)(uintptr_t)"production";
	struct process_list aliases = {&name, 1};
	run.id = run_id;
	run.state = CATALOG_PROCESS_DONE;
	run.ended_ns = time_now_ns();
	run.sum = 0.9;
	return registry_process_finish(w->x->r, &w->x->me,
		&(struct registry_process_end){.run = &run, .bindings = &b, .n_bindings = 1, .aliases = &aliases, .adopted = &adopted, .n_adopted = 1}, &w->f);
}

static int bound_model(const struct catalog_process_binding *b, void *arg)
{
	*(int64_t *)arg = b->model_id;
	return 0;
}

static int64_t bound(struct walk *w)
{
	struct catalog_conn *conn;
	int64_t id = 0;
	assert_int_equal(registry_read_begin(w->x->r, &conn), 0);
	assert_int_equal(catalog_process_binding_list(conn, made.process_model, bound_model, &id), 0);
	catalog_read_end(conn);
	return id;
}

static uint32_t production(struct walk *w)
{
	struct catalog_alias a = {0};
	struct catalog_conn *conn;
	assert_int_equal(registry_read_begin(w->x->r, &conn), 0);
	catalog_alias_find(conn, w->model, "production", &a);
	catalog_read_end(conn);
	return a.number;
}

/* Associations and aliases move together, or neither does. */
static void not_finished(struct walk *w)
{
	assert_int_equal(newest_run(w).state, CATALOG_PROCESS_RUNNING);
	assert_int_not_equal(bound(w), w->id);
	assert_int_not_equal(production(w), w->number);
}

static void finished(struct walk *w)
{
	assert_int_equal(newest_run(w).state, CATALOG_PROCESS_DONE);
	assert_int_equal(bound(w), w->id);
	assert_int_equal(production(w), w->number);
}

/* ---- copies ---- */

static void path_of(struct walk *w, const char *name, char out[96]) { snprintf(out, 96, "%s/%s", w->x->path, name); }

/* Of what was committed last: -ENOENT where the copy has it not; another copy than a whole one fails. */
static int look_into_copy(struct walk *w, const char *dest)
{
	struct registry_options o = {.path = dest, .read_only = true};
	struct fixture copy = {0};
	struct fault f = FAULT_INIT;
	struct registry_ref *ref = calloc(1, sizeof *ref);
	char path[96];
	assert_non_null(ref);
	int rc = registry_open(&o, &copy.r, &f);
	if (rc == -ENOENT) {
		free(ref);
		return rc;
	}
	if (rc != 0)
		fail_msg("%s", f.text);
	assert_int_equal(registry_resolve(copy.r, "product/P001_all/mlstm/v1", ref, &f), 0);
	assert_content(&copy, ref->version.id, "model.pth", w->kept[0].text);
	snprintf(path, sizeof path, "product/P001_all/mlstm/v%u", w->number);
	rc = registry_resolve(copy.r, path, ref, NULL);
	if (rc == 0)
		assert_content(&copy, ref->version.id, "model.pth", w->text);
	free(ref);
	registry_close(copy.r);
	return rc;
}

static int copy_act(struct walk *w, const char *name, bool restore)
{
	char dest[96];
	struct registry_copy how = {.dest = dest};
	struct registry_copy_totals totals;
	path_of(w, name, dest);
	return restore ? registry_restore(w->x->r, &how, &totals, &w->f) : registry_backup(w->x->r, &how, &totals, &w->f);
}

static int backup_act(struct walk *w) { return copy_act(w, "backup", false); }
static int restore_act(struct walk *w) { return copy_act(w, w->name, true); }
static void restore_prepare(struct walk *w) { snprintf(w->name, sizeof w->name, "restored-%d", w->turn); }

static void backup_is_old(struct walk *w)
{
	char dest[96];
	path_of(w, "backup", dest);
	look_into_copy(w, dest); /* the old one, the new one, or none yet: but a whole one */
}

static void backup_is_new(struct walk *w)
{
	char dest[96];
	path_of(w, "backup", dest);
	assert_int_equal(look_into_copy(w, dest), 0);
}

static void not_restored(struct walk *w)
{
	char dest[96];
	path_of(w, w->name, dest);
	int rc = look_into_copy(w, dest);
	assert_true(rc == -ENOENT || rc == 0);
}

static void restored(struct walk *w)
{
	char dest[96], command[160];
	path_of(w, w->name, dest);
	assert_int_equal(look_into_copy(w, dest), 0);
	snprintf(command, sizeof command, "chattr -R -i %s 2>/dev/null; rm -rf %s", dest, dest);
	assert_int_equal(system(command), 0);
}

/* ---- existing folders ---- */

static void tree_prepare(struct walk *w)
{
	char command[400], dir[96];
	path_of(w, "tree", dir);
	snprintf(w->name, sizeof w->name, "T%d_all", w->turn);
	snprintf(w->text, sizeof w->text, "weights of a folder %d", w->turn);
	snprintf(command, sizeof command, "rm -rf %s && mkdir -p %s/product/%s/kan/v3 && cd %s/product/%s/kan && printf '%%s' '%s' > v3/model.pth && ln -s v3 champion", dir, dir,
		w->name, dir, w->name, w->text);
	assert_int_equal(system(command), 0);
}

/* A version or an alias that is passed over is told with its reason; that must be the failure, not a guess. */
static void passed_over(const struct bundle_tree_note *n, void *arg)
{
	static const int errors[] = {EIO, ENOSPC, EDQUOT, EMFILE, ENOMEM, EINTR, EBUSY, EUCLEAN};
	struct walk *w = arg;
	if (n->taken || n->already || (w->f.error && strstr(n->reason, "its model was not taken in")))
		return; /* the alias of a version that was passed over for the failure */
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		if (strstr(n->reason, strerror(errors[i]))) {
			(fault_set)(&w->f, errors[i], "%s: %s", n->path, n->reason);
			return;
		}
	fail_msg("%s is passed over since %s", n->path, n->reason);
}

static int tree_act(struct walk *w)
{
	char dir[96];
	struct bundle_tree how = {.dir = dir, .note = passed_over, .arg = w};
	struct bundle_tree_totals totals = {0};
	path_of(w, "tree", dir);
	int rc = bundle_import_tree(w->x->r, &w->x->me, &how, &totals, &w->f);
	return rc == 0 && totals.skipped > 0 ? -w->f.error : rc;
}

static int find_taken(struct walk *w, uint32_t *ret_champion, struct catalog_version *ret)
{
	char path[96];
	struct catalog_model *m = calloc(1, sizeof *m);
	struct catalog_alias a = {0};
	struct catalog_conn *conn;
	assert_non_null(m);
	snprintf(path, sizeof path, "product/%s/kan", w->name);
	assert_int_equal(registry_read_begin(w->x->r, &conn), 0);
	int rc = catalog_model_find(conn, path, m);
	if (rc == 0)
		rc = catalog_version_find(conn, m->id, 3, ret);
	if (rc == 0 && catalog_alias_find(conn, m->id, "champion", &a) == 0)
		*ret_champion = a.number;
	catalog_read_end(conn);
	free(m);
	return rc;
}

/* Nothing, or the version whole. */
static void tree_is_old(struct walk *w)
{
	struct catalog_version v;
	uint32_t champion = 0;
	int rc = find_taken(w, &champion, &v);
	assert_true(rc == 0 || rc == -ENOENT);
	if (rc == 0) {
		assert_int_equal(v.state, CATALOG_COMMITTED);
		assert_content(w->x, v.id, "model.pth", w->text);
	}
}

static void tree_is_taken(struct walk *w)
{
	struct catalog_version v = {0};
	uint32_t champion = 0;
	assert_int_equal(find_taken(w, &champion, &v), 0);
	assert_int_equal(champion, 3);
	w->id = v.id;
	assert_content(w->x, v.id, "model.pth", w->text);
	keep(w);
}

static const struct operation operations[] = {
	{"plan a retention", make_all, plan_act, NULL, nothing, false, 0},
	{"restore", restore_prepare, restore_act, not_restored, restored, false, 0}, /* while there is little to copy */
	{"back up", commit_prepare, backup_act, backup_is_old, backup_is_new, false, 60}, /* each has one content more to compare */
	{"plan the end of drafts", fresh_draft, draft_plan_act, NULL, discard_it, false, 0},
	{"evaluate", commit_prepare, evaluate_act, not_evaluated, evaluated, false, 0},
	{"load a process", nothing, load_act, NULL, nothing, false, 0},
	{"begin a run of a process", commit_prepare, process_begin_act, begun_not, begun, false, 0},
	{"record a step of it", process_prepare, step_act, step_as_before, step_recorded, false, 0},
	{"finish a run of a process", process_prepare, finish_act, not_finished, finished, false, 0},
	{"import a folder", tree_prepare, tree_act, tree_is_old, tree_is_taken, false, 0},
};

EVERY_FAULT_TESTS(operations)
EVERY_FAULT_MAIN("tools, every fault")
#endif
