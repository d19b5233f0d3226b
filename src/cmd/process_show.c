/* What mintfs process shows: a process and what it is bound to, its history, a report. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const run_states[] = {"running", "done", "refused", "failed", "interrupted", "open", "superseded"};
static const char *const step_states[] = {"waiting", "running", "done", "failed", "kept", "not adopted", "skipped"};

static const char *run_state(const struct catalog_process_run *r) { return (unsigned)r->state < ARRAY_SIZE(run_states) ? run_states[r->state] : "?"; }
static const char *step_state(const struct catalog_process_step *s)
{
	if (s->kind == CATALOG_STEP_TRAIN && s->state == CATALOG_STEP_DONE)
		return "adopted";
	return (unsigned)s->state < ARRAY_SIZE(step_states) ? step_states[s->state] : "?";
}
static const char *run_kind(const struct catalog_process_run *r) { return r->kind == CATALOG_PROCESS_RUN ? "run" : "update"; }

static enum style run_style(const struct catalog_process_run *r)
{
	return r->state == CATALOG_PROCESS_DONE ? STYLE_GREEN : r->state == CATALOG_PROCESS_RUNNING || r->state == CATALOG_PROCESS_OPEN ? STYLE_PLAIN : STYLE_YELLOW;
}

static void real(struct json_out *j, const char *key, double value)
{
	json_key(j, key);
	if (isnan(value))
		json_null(j);
	else
		json_real(j, value);
}

static void number_cell(struct table *t, double value)
{
	if (isnan(value))
		table_cell(t, STYLE_PLAIN, NULL);
	else
		table_cellf(t, STYLE_PLAIN, "%.6g", value);
}

void version_name(const struct source *s, int64_t version_id, char out[CATALOG_PATH_MAX + 16])
{
	struct catalog_version v;
	struct catalog_model m;
	auto_read struct catalog_conn *conn = NULL;
	snprintf(out, CATALOG_PATH_MAX + 16, "-");
	if (version_id && registry_read_begin(s->r, &conn) == 0 && catalog_version_get(conn, version_id, &v) == 0 && catalog_model_get(conn, v.model_id, &m) == 0)
		snprintf(out, CATALOG_PATH_MAX + 16, "%s/v%u", m.path, v.number);
}

/* ---- check ---- */

/* A process.json that is not on a drive, or the directory that holds one. */
static int check_file(const struct process_call *c, const char *path, struct fault *f)
{
	char inner[PATH_MAX];
	struct stat st;
	struct process_spec spec;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		int n = snprintf(inner, sizeof inner, "%s/process.json", path);
		path = n > 0 && (size_t)n < sizeof inner ? inner : path;
	}
	auto_close int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0)
		return fault_set(f, -fd, "%s cannot be opened: %s", path, strerror(-fd));
	int rc = process_spec_read(fd, &spec, f);
	if (rc < 0)
		return rc;
	rc = registry_process_check(c->s->r, &spec, f);
	process_spec_release(&spec);
	return rc;
}

int process_check_command(const struct process_call *c, const char *arg)
{
	struct fault f = FAULT_INIT;
	struct registry_process p;
	int rc;
	if (access(arg, F_OK) == 0) {
		rc = check_file(c, arg, &f);
	} else {
		rc = registry_process_load(c->s->r, c->name, &p, &f);
		if (rc == 0)
			registry_process_release(&p);
	}
	if (rc < 0)
		return cmd_fail(c->self, &f);
	if (c->o->json)
		puts("{\n  \"ok\": true\n}");
	else
		puts("it is right");
	return cmd_done(c->self);
}

/* ---- show ---- */

struct bound { const struct process_call *c; const char *node; bool found; int64_t dataset_id, model_id; double score; };

static int find_binding(const struct catalog_process_binding *b, void *arg)
{
	struct bound *to = arg;
	if (strcmp(b->node, to->node) != 0)
		return 0;
	to->found = true;
	to->dataset_id = b->dataset_id;
	to->model_id = b->model_id;
	to->score = b->score;
	return 1;
}

static void read_binding(const struct process_call *c, int64_t process_id, const char *node, struct bound *ret)
{
	auto_read struct catalog_conn *conn = NULL;
	*ret = (struct bound){.c = c, .node = node, .score = NAN};
	if (registry_read_begin(c->s->r, &conn) == 0)
		catalog_process_binding_list(conn, process_id, find_binding, ret);
}

static void selector_text(const struct process_selector *s, struct buf *out)
{
	buf_puts(out, s->name);
	for (unsigned i = 0; i < s->where.n; i++)
		buf_printf(out, "%s%s", i ? ", " : " where ", s->where.v[i]);
}

static void after_text(const struct process_spec *s, const struct process_node *n, struct buf *out)
{
	for (unsigned i = 0; i < n->n_after; i++)
		buf_printf(out, "%s%s", i ? ", " : "", s->nodes[n->after[i]].name);
}

static void show_node_json(struct json_out *j, const struct process_spec *s, const struct process_node *n, const struct bound *b)
{
	char dataset[CATALOG_PATH_MAX + 16], model[CATALOG_PATH_MAX + 16];
	version_name(b->c->s, b->dataset_id, dataset);
	version_name(b->c->s, b->model_id, model);
	json_object_begin(j);
	json_field_string(j, "name", n->name);
	json_key(j, "after");
	json_array_begin(j);
	for (unsigned i = 0; i < n->n_after; i++)
		json_string(j, s->nodes[n->after[i]].name);
	json_array_end(j);
	json_field_string(j, "dataset", n->dataset.name);
	json_field_string(j, "model", n->model.name);
	real(j, "weight", n->weight);
	json_field_string(j, "bound_dataset", b->found ? dataset : NULL);
	json_field_string(j, "bound_model", b->found ? model : NULL);
	real(j, "score", b->score);
	json_object_end(j);
}

static void show_node_row(struct table *t, const struct process_spec *s, const struct process_node *n, const struct bound *b)
{
	auto_buf struct buf after = BUF_INIT(1u << 20);
	auto_buf struct buf dataset = BUF_INIT(1u << 20);
	auto_buf struct buf model = BUF_INIT(1u << 20);
	char name[CATALOG_PATH_MAX + 16];
	if (b->found) {
		version_name(b->c->s, b->dataset_id, name);
		buf_puts(&dataset, name);
		version_name(b->c->s, b->model_id, name);
		buf_puts(&model, name);
	} else {
		selector_text(&n->dataset, &dataset);
		selector_text(&n->model, &model);
	}
	after_text(s, n, &after);
	table_cell(t, STYLE_BOLD, n->name);
	table_cell(t, STYLE_PLAIN, buf_text(&after));
	table_cell(t, b->found ? STYLE_PLAIN : STYLE_DIM, buf_text(&dataset));
	table_cell(t, b->found ? STYLE_PLAIN : STYLE_DIM, buf_text(&model));
	table_cellf(t, STYLE_PLAIN, "%.4g", n->weight);
	number_cell(t, b->score);
}

static int show_json(const struct process_call *c, const struct registry_process *p)
{
	auto_buf struct buf b = BUF_INIT(64u << 20);
	struct json_out j;
	json_init(&j, &b, 2);
	json_object_begin(&j);
	json_field_string(&j, "process", p->model.path);
	json_field_number(&j, "version", p->version.number);
	json_field_string(&j, "description", p->spec.description);
	json_key(&j, "nodes");
	json_array_begin(&j);
	for (unsigned i = 0; i < p->spec.n_nodes; i++) {
		struct bound bound;
		read_binding(c, p->model.id, p->spec.nodes[i].name, &bound);
		show_node_json(&j, &p->spec, &p->spec.nodes[i], &bound);
	}
	json_array_end(&j);
	json_object_end(&j);
	return cmd_put_json(c->self, &b);
}

static int show_words(const struct process_call *c, const struct registry_process *p)
{
	auto_table struct table t = TABLE_INIT;
	double sum = 0;
	bool all = true;
	text_print(p->model.path);
	printf(" v%u", p->version.number);
	if (p->spec.description) {
		fputs(": ", stdout);
		text_print(p->spec.description);
	}
	fputs("\n\n", stdout);
	table_column(&t, "NODE", false);
	table_column(&t, "AFTER", false);
	table_column(&t, "DATASET", false);
	table_column(&t, "MODEL", false);
	table_column(&t, "WEIGHT", true);
	table_column(&t, "SCORE", true);
	for (unsigned k = 0; k < p->spec.n_nodes; k++) {
		const struct process_node *n = &p->spec.nodes[p->spec.order[k]];
		struct bound bound;
		read_binding(c, p->model.id, n->name, &bound);
		show_node_row(&t, &p->spec, n, &bound);
		all &= bound.found;
		sum += n->weight * bound.score;
	}
	table_print(&t, 0, c->o->color);
	if (all)
		printf("\nweighted sum %.6g\n", sum);
	else
		printf("\nnot bound to versions yet: 'mintfs process run' does it\n");
	return cmd_done(c->self);
}

int process_show_command(const struct process_call *c)
{
	struct fault f = FAULT_INIT;
	struct registry_process p;
	if (registry_process_load(c->s->r, c->name, &p, &f) < 0)
		return cmd_fail(c->self, &f);
	int code = c->o->json ? show_json(c, &p) : show_words(c, &p);
	registry_process_release(&p);
	return code;
}

/* ---- history ---- */

struct history { const struct process_call *c; struct table *t; struct json_out *j; };

static void run_json(struct json_out *j, const struct catalog_process_run *r)
{
	json_field_int(j, "id", r->id);
	json_field_string(j, "kind", run_kind(r));
	json_field_string(j, "state", run_state(r));
	json_field_time(j, "started", r->started_ns);
	json_field_time(j, "ended", r->ended_ns);
	json_field_string(j, "author", r->author);
	json_field_string(j, "host", r->host);
	real(j, "sum", r->sum);
	real(j, "sum_before", r->sum_before);
	json_field_string(j, "reason", r->reason);
}

static int add_run(const struct catalog_process_run *r, void *arg)
{
	struct history *h = arg;
	char age[HUMAN_MAX];
	if (h->j) {
		json_object_begin(h->j);
		run_json(h->j, r);
		json_object_end(h->j);
		return 0;
	}
	table_cellf(h->t, STYLE_BOLD, "%lld", (long long)r->id);
	table_cell(h->t, STYLE_PLAIN, run_kind(r));
	table_cell(h->t, run_style(r), run_state(r));
	table_cell(h->t, STYLE_PLAIN, human_age(r->started_ns, age));
	table_cell(h->t, STYLE_PLAIN, r->author);
	number_cell(h->t, r->sum);
	number_cell(h->t, r->sum_before);
	table_cell(h->t, STYLE_PLAIN, r->reason);
	return 0;
}

static int list_runs(const struct process_call *c, int64_t process_id, unsigned limit, catalog_process_run_fn *fn, void *arg)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(c->s->r, &conn);
	return rc < 0 ? rc : catalog_process_run_list(conn, process_id, limit, fn, arg);
}

int process_history_command(const struct process_call *c)
{
	static const struct { const char *title; bool right; } columns[] = {{"ID", true}, {"KIND", false}, {"STATE", false}, {"AGE", true}, {"BY", false}, {"SUM", true},
		{"BEFORE", true}, {"REASON", false}};
	struct fault f = FAULT_INIT;
	struct registry_process p;
	auto_table struct table t = TABLE_INIT;
	auto_buf struct buf b = BUF_INIT(64u << 20);
	struct json_out j;
	struct history h = {c, &t, c->o->json ? &j : NULL};
	if (registry_process_load(c->s->r, c->name, &p, &f) < 0)
		return cmd_fail(c->self, &f);
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
		table_column(&t, columns[i].title, columns[i].right);
	json_init(&j, &b, 2);
	json_array_begin(&j);
	int rc = list_runs(c, p.model.id, 1000, add_run, &h);
	json_array_end(&j);
	registry_process_release(&p);
	if (rc < 0) {
		fault_set(&f, -rc, "the history cannot be read: %s", strerror(-rc));
		return cmd_fail(c->self, &f);
	}
	if (c->o->json)
		return cmd_put_json(c->self, &b);
	table_print(&t, 0, c->o->color);
	return cmd_done(c->self);
}

/* ---- report ---- */

struct report { const struct process_call *c; struct table *trainings, *nodes; unsigned n_trainings; struct json_out *j; };

void process_step_json(struct json_out *j, const struct source *s, const struct catalog_process_step *step)
{
	char dataset[CATALOG_PATH_MAX + 16], model[CATALOG_PATH_MAX + 16], before[CATALOG_PATH_MAX + 16];
	version_name(s, step->dataset_id, dataset);
	version_name(s, step->model_id, model);
	version_name(s, step->before_id, before);
	json_object_begin(j);
	json_field_string(j, "kind", step->kind == CATALOG_STEP_TRAIN ? "training" : "node");
	json_field_string(j, "name", step->name);
	json_field_string(j, "state", step_state(step));
	json_field_string(j, "dataset", dataset);
	json_field_string(j, "model", step->model_id ? model : NULL);
	json_field_string(j, "before", step->before_id ? before : NULL);
	json_field_time(j, "started", step->started_ns);
	json_field_time(j, "ended", step->ended_ns);
	json_field_exit(j, "exit_status", step->exit_status);
	real(j, "weight", step->weight);
	real(j, "score", step->score);
	json_field_string(j, "result", step->result);
	json_field_string(j, "output", step->output);
	json_field_string(j, "reason", step->reason);
	json_object_end(j);
}

static const char *number_of(const char *version_path) { const char *slash = strrchr(version_path, '/'); return slash ? slash + 1 : version_path; }

static void training_row(struct report *r, const struct catalog_process_step *s)
{
	char dataset[CATALOG_PATH_MAX + 16], model[CATALOG_PATH_MAX + 16], before[CATALOG_PATH_MAX + 16];
	version_name(r->c->s, s->dataset_id, dataset);
	version_name(r->c->s, s->model_id, model);
	version_name(r->c->s, s->before_id, before);
	table_cell(r->trainings, STYLE_BOLD, s->name);
	table_cell(r->trainings, STYLE_PLAIN, dataset);
	table_cell(r->trainings, STYLE_PLAIN, number_of(before));
	table_cell(r->trainings, STYLE_PLAIN, number_of(model));
	number_cell(r->trainings, s->score);
	table_cell(r->trainings, s->state == CATALOG_STEP_DONE ? STYLE_GREEN : STYLE_YELLOW, step_state(s));
	table_cell(r->trainings, STYLE_PLAIN, s->reason);
	r->n_trainings++;
}

static void node_row(struct report *r, const struct catalog_process_step *s)
{
	char dataset[CATALOG_PATH_MAX + 16], model[CATALOG_PATH_MAX + 16];
	version_name(r->c->s, s->dataset_id, dataset);
	version_name(r->c->s, s->model_id, model);
	table_cell(r->nodes, STYLE_BOLD, s->name);
	table_cell(r->nodes, STYLE_PLAIN, dataset);
	table_cell(r->nodes, STYLE_PLAIN, model);
	table_cellf(r->nodes, STYLE_PLAIN, "%.4g", s->weight);
	number_cell(r->nodes, s->score);
	table_cell(r->nodes, s->state == CATALOG_STEP_FAILED ? STYLE_RED : STYLE_PLAIN, step_state(s));
	table_cell(r->nodes, STYLE_PLAIN, s->reason);
}

static int add_step(const struct catalog_process_step *s, void *arg)
{
	struct report *r = arg;
	if (r->j)
		process_step_json(r->j, r->c->s, s);
	else if (s->kind == CATALOG_STEP_TRAIN)
		training_row(r, s);
	else
		node_row(r, s);
	return 0;
}

static void print_output(const struct catalog_process_step *s)
{
	printf("\nwhat ");
	text_print(s->name);
	printf(" printed:\n");
	for (const char *line = s->output; *line;) {
		size_t n = strcspn(line, "\n");
		auto_free char *copy = strndup(line, n);
		fputs("  ", stdout);
		text_print(copy ? copy : "");
		putchar('\n');
		line += n + (line[n] == '\n');
	}
}

static int add_output(const struct catalog_process_step *s, void *arg)
{
	if (s->state == CATALOG_STEP_FAILED && s->output)
		print_output(s);
	return 0;
}

static int each_step(const struct process_call *c, int64_t run_id, catalog_process_step_fn *fn, void *arg)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(c->s->r, &conn);
	return rc < 0 ? rc : catalog_process_step_list(conn, run_id, fn, arg);
}

static void report_heads(struct report *r)
{
	table_column(r->trainings, "MODEL", false);
	table_column(r->trainings, "TRAINED ON", false);
	table_column(r->trainings, "BEFORE", false);
	table_column(r->trainings, "NEW", false);
	table_column(r->trainings, "METRIC", true);
	table_column(r->trainings, "STATE", false);
	table_column(r->trainings, "WHY", false);
	table_column(r->nodes, "NODE", false);
	table_column(r->nodes, "DATASET", false);
	table_column(r->nodes, "MODEL", false);
	table_column(r->nodes, "WEIGHT", true);
	table_column(r->nodes, "SCORE", true);
	table_column(r->nodes, "STATE", false);
	table_column(r->nodes, "WHY", false);
}

static void print_verdict(const struct process_call *c, const struct catalog_process_run *run)
{
	printf("%s %lld: %s%s%s", run_kind(run), (long long)run->id, style_on(run_style(run), c->o->color), run_state(run), style_off(run_style(run), c->o->color));
	if (run->reason) {
		fputs(": ", stdout);
		text_print(run->reason);
	}
	putchar('\n');
	if (isnan(run->sum))
		return;
	printf("weighted sum %.6g", run->sum);
	if (!isnan(run->sum_before))
		printf(", before %.6g", run->sum_before);
	printf("%s\n", run->state == CATALOG_PROCESS_DONE ? "" : "; the associations stay as they were");
}

static int report_json(const struct process_call *c, const struct catalog_process_run *run)
{
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j;
	char process[CATALOG_PATH_MAX + 16];
	struct report r = {.c = c, .j = &j};
	version_name(c->s, run->version_id, process);
	json_init(&j, &b, 2);
	json_object_begin(&j);
	json_field_string(&j, "process", process);
	run_json(&j, run);
	json_key(&j, "steps");
	json_array_begin(&j);
	int rc = each_step(c, run->id, add_step, &r);
	json_array_end(&j);
	json_object_end(&j);
	return rc < 0 ? rc : cmd_put_json(c->self, &b);
}

static int report_words(const struct process_call *c, const struct catalog_process_run *run, bool brief)
{
	auto_table struct table trainings = TABLE_INIT;
	auto_table struct table nodes = TABLE_INIT;
	struct report r = {.c = c, .trainings = &trainings, .nodes = &nodes};
	report_heads(&r);
	int rc = each_step(c, run->id, add_step, &r);
	if (rc < 0)
		return rc;
	if (r.n_trainings)
		table_print(&trainings, 0, c->o->color);
	if (r.n_trainings)
		putchar('\n');
	table_print(&nodes, 0, c->o->color);
	putchar('\n');
	print_verdict(c, run);
	if (!brief)
		each_step(c, run->id, add_output, NULL);
	return cmd_done(c->self);
}

int process_report_run(const struct process_call *c, int64_t run_id, bool brief)
{
	struct fault f = FAULT_INIT;
	struct catalog_process_run run;
	struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(c->s->r, &conn);
	if (rc == 0)
		rc = catalog_process_run_get(conn, run_id, &run);
	catalog_read_end(conn);
	if (rc == 0) {
		rc = c->o->json ? report_json(c, &run) : report_words(c, &run, brief);
		if (rc == EXIT_DONE && brief && run.state == CATALOG_PROCESS_REFUSED)
			rc = EXIT_REFUSED; /* whoever started it asks for more than the report */
		catalog_process_run_release(&run);
	}
	if (rc >= 0)
		return rc;
	fault_set(&f, -rc, "run %lld cannot be read: %s", (long long)run_id, rc == -ENOENT ? "there is none of that number" : strerror(-rc));
	return cmd_fail(c->self, &f);
}

static int take_id(const struct catalog_process_run *r, void *arg)
{
	*(int64_t *)arg = r->id;
	return 1;
}

int process_report_command(const struct process_call *c)
{
	struct fault f = FAULT_INIT;
	struct registry_process p;
	int64_t id = 0;
	uint64_t named = 0;
	if (c->second && parse_u64(c->second, INT64_MAX, &named) < 0)
		return cmd_usage(c->self, "'%s' is no number of a run: 'mintfs process history' lists them", c->second);
	if (registry_process_load(c->s->r, c->name, &p, &f) < 0)
		return cmd_fail(c->self, &f);
	int rc = named ? 1 : list_runs(c, p.model.id, 1, take_id, &id);
	registry_process_release(&p);
	if (named)
		id = (int64_t)named;
	if (rc < 0 || id == 0) {
		fault_set(&f, rc < 0 ? -rc : ENOENT, "%s", rc < 0 ? strerror(-rc) : "it has never been run");
		return cmd_fail(c->self, &f);
	}
	return process_report_run(c, id, false);
}
