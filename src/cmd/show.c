/* mintfs show: all that is known of a version, or of a model. */
#include "report.h"

#include <errno.h>
#include <limits.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

struct showing {
	const struct command *self;
	const struct cmd_options *o;
	struct source *s;
	const struct source_ref *ref;
	struct json_out *j; /* NULL: words */
	struct links links;
	struct files files;
	struct catalog_run run;
	bool has_run;
	struct catalog_about about; /* what is known of it */
	char digest[BLOB_HEX_SIZE]; /* "": none, or not known */
	struct input { char *name, *how; bool unknown, elsewhere; } *inputs; /* how: observed, declared, both; or the reason why it is unknown. Owned */
	size_t n_inputs;
	struct evaluation { char *dataset, *metrics, *author; int64_t at_ns; bool elsewhere; } *evaluations; /* the oldest first. Owned */
	size_t n_evaluations;
	struct catalog_retirement retirement;
	bool has_retirement;
	int64_t version_id;
	struct catalog_conn *conn;  /* while inputs and evaluations are read */
};

/* ---- JSON ---- */

static void json_run(struct json_out *j, const struct catalog_run *run)
{
	json_object_begin(j);
	json_field_string(j, "id", run->key);
	json_key(j, "command");
	run->command ? json_raw(j, run->command) : json_null(j);
	json_field_string(j, "directory", run->cwd);
	json_field_string(j, "user", run->user);
	json_field_string(j, "host", run->host);
	json_field_string(j, "git_commit", run->git_commit);
	json_key(j, "git_dirty");
	run->git_dirty < 0 ? json_null(j) : json_bool(j, run->git_dirty);
	json_field_time(j, "started", run->started_ns);
	json_field_time(j, "ended", run->ended_ns);
	json_field_exit(j, "exit", run->ended_ns ? run->exit_status : -1);
	json_object_end(j);
}

static const char *type_name(enum catalog_type type)
{
	return type == CATALOG_DIRECTORY ? "directory" : type == CATALOG_SYMLINK ? "symlink" : "file";
}

static void json_files(struct json_out *j, const struct files *files)
{
	json_array_begin(j);
	for (size_t i = 0; i < files->n; i++) {
		const struct file_info *file = &files->v[i];
		json_object_begin(j);
		json_field_string(j, "path", file->path);
		json_field_string(j, "type", type_name(file->type));
		json_field_int(j, "size", (int64_t)file->size);
		json_field_string(j, "sha256", file->sha256[0] ? file->sha256 : NULL);
		if (file->target)
			json_field_string(j, "target", file->target);
		json_object_end(j);
	}
	json_array_end(j);
}

static void json_object_or_empty(struct json_out *j, const char *key, const char *json)
{
	json_key(j, key);
	json_raw(j, json ? json : "{}");
}

static void json_about(const struct showing *w)
{
	struct json_out *j = w->j;
	json_field_string(j, "digest", w->digest[0] ? w->digest : NULL);
	json_field_string(j, "description", w->about.description);
	json_field_string(j, "maintainer", w->about.maintainer);
	json_field_string(j, "source", w->about.source);
	json_object_or_empty(j, "labels", w->about.labels);
	json_object_or_empty(j, "parameters", w->about.params);
}

/* Those that are known, or those that are not. */
static void json_inputs(const struct showing *w, const char *key, const char *what, bool unknown)
{
	struct json_out *j = w->j;
	json_key(j, key);
	json_array_begin(j);
	for (size_t i = 0; i < w->n_inputs; i++) {
		if (w->inputs[i].unknown != unknown)
			continue;
		json_object_begin(j);
		json_field_string(j, "version", w->inputs[i].name);
		json_field_string(j, what, w->inputs[i].how);
		if (w->inputs[i].elsewhere)
			json_field_bool(j, "elsewhere", true);
		json_object_end(j);
	}
	json_array_end(j);
}

static void json_evaluations(const struct showing *w)
{
	struct json_out *j = w->j;
	json_key(j, "evaluations");
	json_array_begin(j);
	for (size_t i = 0; i < w->n_evaluations; i++) {
		const struct evaluation *e = &w->evaluations[i];
		json_object_begin(j);
		json_field_string(j, "dataset", e->dataset);
		json_object_or_empty(j, "metrics", e->metrics);
		json_field_time(j, "at", e->at_ns);
		json_field_string(j, "author", e->author);
		if (e->elsewhere)
			json_field_bool(j, "elsewhere", true);
		json_object_end(j);
	}
	json_array_end(j);
}

static void json_retirement(const struct showing *w)
{
	struct json_out *j = w->j;
	json_key(j, "retired");
	if (!w->has_retirement) {
		json_null(j);
		return;
	}
	json_object_begin(j);
	json_field_time(j, "at", w->retirement.at_ns);
	json_field_string(j, "author", w->retirement.author);
	json_field_string(j, "message", w->retirement.message);
	json_object_end(j);
}

static void json_show(const struct showing *w, const struct version_info *v)
{
	struct json_out *j = w->j;
	json_object_begin(j);
	json_version_fields(j, w->ref->model, v, &w->links);
	json_about(w);
	json_inputs(w, "inputs", "how", false);
	json_inputs(w, "unknown_inputs", "reason", true);
	json_evaluations(w);
	json_retirement(w);
	json_key(j, "run");
	w->has_run ? json_run(j, &w->run) : json_null(j);
	json_key(j, "files");
	json_files(j, &w->files);
	json_object_end(j);
}

/* ---- words ---- */

static void fact(struct table *t, const char *name, const char *value)
{
	if (!value || !*value)
		return;
	table_cell(t, STYLE_DIM, name);
	table_cell(t, STYLE_PLAIN, value);
}

static void fact_time(struct table *t, const char *name, int64_t at_ns)
{
	char at[HUMAN_MAX], age[HUMAN_MAX], text[3 * HUMAN_MAX];
	if (!at_ns)
		return;
	snprintf(text, sizeof text, "%s UTC, %s ago", human_time(at_ns, at), human_age(at_ns, age));
	fact(t, name, text);
}

/* Each line of a message is a row. */
static void fact_lines(struct table *t, const char *name, const char *text)
{
	auto_free char *copy = text ? strdup(text) : NULL;
	char *rest = copy;
	for (char *line; copy && (line = strsep(&rest, "\n")); name = "") {
		table_cell(t, STYLE_DIM, name);
		table_cell(t, STYLE_PLAIN, line);
	}
}

static void fact_command(struct table *t, const char *command)
{
	auto_buf struct buf line = BUF_INIT(1 << 20);
	if (command && command_words(command, &line) == 0)
		fact(t, "command", buf_text(&line));
}

static void add_run(struct table *t, const struct catalog_run *run)
{
	char text[128];
	fact(t, "run", run->key);
	fact_command(t, run->command);
	fact(t, "directory", run->cwd);
	if (run->git_commit) {
		snprintf(text, sizeof text, "%.12s%s", run->git_commit, run->git_dirty == 1 ? ", with uncommitted changes" : "");
		fact(t, "git", text);
	}
	fact(t, "user", run->user);
	fact(t, "host", run->host);
	fact_time(t, "started", run->started_ns);
	fact_time(t, "ended", run->ended_ns);
	if (run->ended_ns && run->exit_status >= 0) {
		snprintf(text, sizeof text, WIFSIGNALED(run->exit_status) ? "killed by signal %d" : "%d",
			WIFSIGNALED(run->exit_status) ? WTERMSIG(run->exit_status) : WEXITSTATUS(run->exit_status));
		fact(t, "exit", text);
	}
}

static int print_facts(const struct showing *w, const struct version_info *v)
{
	char size[HUMAN_MAX], text[4 * HUMAN_MAX];
	auto_table struct table t = TABLE_INIT;
	auto_buf struct buf links = BUF_INIT(1 << 20);
	table_column(&t, NULL, false);
	table_column(&t, NULL, false);
	links_of(&w->links, v->v.number, &links);
	fact(&t, "links", buf_text(&links));
	fact_time(&t, "minted", v->v.minted_ns);
	if (v->v.committed_ns)
		fact_time(&t, "committed", v->v.committed_ns);
	fact(&t, "author", v->text.author);
	fact_lines(&t, "message", v->text.message);
	if (w->has_retirement) {
		fact_time(&t, "retired", w->retirement.at_ns);
		fact(&t, "retired by", w->retirement.author);
		fact_lines(&t, "reason", w->retirement.message);
	}
	fact_lines(&t, "not committed", v->v.state == CATALOG_DRAFT ? v->text.reason : NULL);
	if (v->sized && v->v.id) {
		snprintf(text, sizeof text, "%s in %u %s", human_size(v->v.size, size), v->v.n_files, v->v.n_files == 1 ? "file" : "files");
		fact(&t, "size", text);
	} else if (v->sized) {
		fact(&t, "size", human_size(v->v.size, size));
	}
	fact(&t, "digest", w->digest);
	fact_lines(&t, "description", w->about.description);
	fact(&t, "maintainer", w->about.maintainer);
	fact(&t, "source", w->about.source);
	if (w->has_run)
		add_run(&t, &w->run);
	else
		fact(&t, "run", v->run);
	return table_print(&t, 2, w->o->color);
}

/* The members of a JSON object, under a title. */
static int print_object(const struct showing *w, const char *title, const char *json)
{
	auto_metrics struct metrics m = {0};
	auto_table struct table t = TABLE_INIT;
	if (metrics_parse(json, &m) < 0 || m.n == 0)
		return 0;
	table_column(&t, title, false);
	table_column(&t, "VALUE", true);
	for (size_t i = 0; i < m.n; i++) {
		table_cell(&t, STYLE_PLAIN, m.v[i].name);
		table_cell(&t, STYLE_BOLD, m.v[i].value);
	}
	putchar('\n');
	return table_print(&t, 2, w->o->color);
}

static int print_inputs(const struct showing *w)
{
	auto_table struct table t = TABLE_INIT;
	if (w->n_inputs == 0)
		return 0;
	table_column(&t, "MADE FROM", false);
	table_column(&t, "HOW IT IS KNOWN", false);
	for (size_t i = 0; i < w->n_inputs; i++) {
		table_cell(&t, w->inputs[i].unknown ? STYLE_YELLOW : STYLE_PLAIN, w->inputs[i].name);
		table_cellf(&t, STYLE_DIM, w->inputs[i].unknown ? "declared, but: %s" : w->inputs[i].elsewhere ? "%s; not in this store" : "%s", w->inputs[i].how);
	}
	putchar('\n');
	return table_print(&t, 2, w->o->color);
}

/* A row a number, the newest last. */
static int print_evaluations(const struct showing *w)
{
	auto_table struct table t = TABLE_INIT;
	char at[HUMAN_MAX];
	if (w->n_evaluations == 0)
		return 0;
	table_column(&t, "EVALUATED ON", false);
	table_column(&t, "METRIC", false);
	table_column(&t, "VALUE", true);
	table_column(&t, "AT (UTC)", false);
	table_column(&t, "BY", false);
	for (size_t i = 0; i < w->n_evaluations; i++) {
		const struct evaluation *e = &w->evaluations[i];
		auto_metrics struct metrics m = {0};
		int rc = metrics_parse(e->metrics, &m);
		if (rc < 0)
			return rc;
		for (size_t k = 0; k < m.n; k++) {
			table_cellf(&t, STYLE_PLAIN, e->elsewhere ? "%s (not in this store)" : "%s", e->dataset);
			table_cell(&t, STYLE_PLAIN, m.v[k].name);
			table_cell(&t, STYLE_BOLD, m.v[k].value);
			table_cell(&t, STYLE_DIM, human_time(e->at_ns, at));
			table_cell(&t, STYLE_DIM, e->author);
		}
	}
	putchar('\n');
	return table_print(&t, 2, w->o->color);
}

static int print_files(const struct showing *w)
{
	char size[HUMAN_MAX];
	auto_table struct table t = TABLE_INIT;
	if (w->files.n == 0)
		return 0;
	table_column(&t, "FILE", false);
	table_column(&t, "SIZE", true);
	table_column(&t, "SHA-256", false);
	for (size_t i = 0; i < w->files.n; i++) {
		const struct file_info *file = &w->files.v[i];
		if (file->type == CATALOG_SYMLINK)
			table_cellf(&t, STYLE_CYAN, "%s -> %s", file->path, file->target ? file->target : "?");
		else
			table_cellf(&t, STYLE_PLAIN, "%s%s", file->path, file->type == CATALOG_DIRECTORY ? "/" : "");
		table_cell(&t, STYLE_PLAIN, file->type == CATALOG_FILE ? human_size(file->size, size) : NULL);
		table_cellf(&t, STYLE_DIM, "%.12s", file->sha256);
	}
	putchar('\n');
	return table_print(&t, 2, w->o->color);
}

/* ---- a version ---- */

static int show_known(const struct version_info *v, void *arg)
{
	struct showing *w = arg;
	if (w->j) {
		json_show(w, v);
		return 0;
	}
	printf("%s", style_on(STYLE_BOLD, w->o->color));
	text_print(w->ref->model);
	printf("/v%u%s  %s%s%s\n", v->v.number, style_off(STYLE_BOLD, w->o->color), style_on(state_style(v->v.state), w->o->color),
		catalog_state_name(v->v.state), style_off(state_style(v->v.state), w->o->color));
	int rc = print_facts(w, v);
	if (rc == 0)
		rc = print_object(w, "METRIC", v->text.metrics_summary);
	if (rc == 0)
		rc = print_object(w, "LABEL", w->about.labels);
	if (rc == 0)
		rc = print_object(w, "PARAMETER", w->about.params);
	if (rc == 0)
		rc = print_inputs(w);
	if (rc == 0)
		rc = print_evaluations(w);
	return rc < 0 ? rc : print_files(w);
}

static void read_digest(struct showing *w, struct catalog_conn *conn, const struct catalog_version *v)
{
	struct blob_id digest;
	if (registry_version_digest(w->s->r, conn, v, &digest) == 0)
		blob_id_hex(&digest, w->digest);
}

static void read_drive_digest(struct showing *w)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/%s/v%u", w->s->mount, w->ref->model, w->ref->number);
	if (n < 0 || (size_t)n >= sizeof path || drive_attr(path, "digest", w->digest, sizeof w->digest) < 0)
		w->digest[0] = '\0';
}

static int add_input(struct showing *w, char *name, const char *how, bool unknown)
{
	struct input *grown = realloc(w->inputs, (w->n_inputs + 1) * sizeof *grown);
	if (grown)
		w->inputs = grown;
	char *own_how = strdup(how);
	if (!grown || !name || !own_how) {
		free(name);
		free(own_how);
		return -ENOMEM;
	}
	w->inputs[w->n_inputs++] = (struct input){name, own_how, unknown, false};
	return 0;
}

/* MODEL/vN; to be freed. */
static int version_name(const struct showing *w, int64_t version_id, char **ret)
{
	struct catalog_version v;
	auto_free struct catalog_model *m = calloc(1, sizeof *m);
	int rc = m ? catalog_version_get(w->conn, version_id, &v) : -ENOMEM;
	if (rc == 0)
		rc = catalog_model_get(w->conn, v.model_id, m);
	if (rc < 0)
		return rc;
	return asprintf(ret, "%s/v%u", m->path, v.number) < 0 ? -ENOMEM : 0;
}

static int add_edge(const struct catalog_edge *e, void *arg)
{
	struct showing *w = arg;
	char *name = NULL;
	int rc = version_name(w, e->version_id, &name);
	return rc < 0 ? rc : add_input(w, name, catalog_how_name(e->how), false);
}

/* Without its dataset. */
static int new_evaluation(struct showing *w, const struct catalog_evaluation *e, struct evaluation **ret)
{
	struct evaluation *grown = reallocarray(w->evaluations, w->n_evaluations + 1, sizeof *grown);
	if (!grown)
		return -ENOMEM;
	w->evaluations = grown;
	struct evaluation *x = &grown[w->n_evaluations++];
	*x = (struct evaluation){.metrics = strdup(e->metrics), .author = e->author ? strdup(e->author) : NULL, .at_ns = e->at_ns};
	*ret = x;
	return !x->metrics || (e->author && !x->author) ? -ENOMEM : 0;
}

static int add_evaluation(const struct catalog_evaluation *e, void *arg)
{
	struct showing *w = arg;
	struct evaluation *x;
	if (e->version_id != w->version_id)
		return 0; /* of another version, on this dataset */
	int rc = new_evaluation(w, e, &x);
	return rc < 0 ? rc : version_name(w, e->dataset_id, &x->dataset);
}

static int add_evaluation_elsewhere(const struct catalog_elsewhere *dataset, const struct catalog_evaluation *e, void *arg)
{
	struct evaluation *x;
	int rc = new_evaluation(arg, e, &x);
	if (rc < 0)
		return rc;
	x->elsewhere = true;
	return asprintf(&x->dataset, "%s/v%u", dataset->model, dataset->number) < 0 ? -ENOMEM : 0;
}

static int read_evaluations(struct showing *w, struct catalog_conn *conn, int64_t version_id)
{
	w->conn = conn;
	w->version_id = version_id;
	int rc = catalog_evaluation_list(conn, version_id, add_evaluation, w);
	return rc < 0 ? rc : catalog_elsewhere_evaluation_list(conn, version_id, add_evaluation_elsewhere, w);
}

static int add_elsewhere(const struct catalog_elsewhere *e, enum catalog_how how, void *arg)
{
	char *name = NULL;
	if (asprintf(&name, "%s/v%u", e->model, e->number) < 0)
		return -ENOMEM;
	int rc = add_input(arg, name, catalog_how_name(how), false);
	struct showing *w = arg;
	if (rc == 0)
		w->inputs[w->n_inputs - 1].elsewhere = true;
	return rc;
}

static int add_unknown(const char *text, const char *reason, void *arg) { return add_input(arg, strdup(text), reason, true); }

static int read_inputs(struct showing *w, struct catalog_conn *conn, int64_t version_id)
{
	w->conn = conn;
	int rc = catalog_lineage_list(conn, version_id, false, add_edge, w);
	if (rc == 0)
		rc = catalog_elsewhere_input_list(conn, version_id, add_elsewhere, w);
	return rc < 0 ? rc : catalog_input_unknown_list(conn, version_id, add_unknown, w);
}

static int show_read(const struct version_info *v, void *arg)
{
	struct showing *w = arg;
	struct catalog_conn *conn = NULL;
	int rc = 0;
	if (w->s->r && registry_read_begin(w->s->r, &conn) == 0) {
		w->has_run = catalog_run_get(conn, v->v.run_id, &w->run) == 0;
		catalog_about_get(conn, v->v.id, &w->about); /* there may be none */
		read_digest(w, conn, &v->v);
		w->has_retirement = catalog_retirement_get(conn, v->v.id, &w->retirement) == 0;
		rc = read_inputs(w, conn, v->v.id);
		if (rc == 0)
			rc = read_evaluations(w, conn, v->v.id);
	} else if (!w->s->r) {
		read_drive_digest(w);
	}
	catalog_read_end(conn);
	return rc < 0 ? rc : show_known(v, w);
}

static int show_version(struct showing *w, struct fault *f)
{
	int rc = source_links(w->s, w->ref, &w->links, f);
	if (rc == 0 && w->ref->state != CATALOG_DISCARDED)
		rc = source_files(w->s, w->ref, &w->files, f);
	if (rc == 0)
		rc = source_version(w->s, w->ref, show_read, w, f);
	links_release(&w->links);
	files_release(&w->files);
	if (w->has_run)
		catalog_run_release(&w->run);
	catalog_about_release(&w->about);
	for (size_t i = 0; i < w->n_inputs; i++) {
		free(w->inputs[i].name);
		free(w->inputs[i].how);
	}
	free(w->inputs);
	for (size_t i = 0; i < w->n_evaluations; i++) {
		free(w->evaluations[i].dataset);
		free(w->evaluations[i].metrics);
		free(w->evaluations[i].author);
	}
	free(w->evaluations);
	if (w->has_retirement)
		catalog_retirement_release(&w->retirement);
	return rc;
}

/* ---- a model ---- */

static void json_model(struct json_out *j, const struct model_info *m, const struct links *links)
{
	static const char *const modes[] = {[METADATA_BEST_UNKNOWN] = NULL, [METADATA_BEST_MIN] = "min", [METADATA_BEST_MAX] = "max"};
	json_object_begin(j);
	json_field_string(j, "model", m->path);
	json_field_string(j, "key", m->key);
	json_field_number(j, "newest", m->newest);
	json_field_number(j, "best", m->best);
	json_field_string(j, "best_metric", m->best_metric[0] ? m->best_metric : NULL);
	json_field_string(j, "best_mode", m->best_metric[0] ? modes[m->best_mode] : NULL);
	json_field_int(j, "versions", m->n_versions);
	json_field_int(j, "drafts", m->n_drafts);
	json_field_int(j, "size", (int64_t)m->size);
	json_field_time(j, "changed", m->changed_ns);
	json_field_links(j, links);
	json_object_end(j);
}

static int print_model(const struct showing *w, const struct model_info *m)
{
	char text[CATALOG_NAME_MAX + 64], size[HUMAN_MAX];
	auto_table struct table t = TABLE_INIT;
	table_column(&t, NULL, false);
	table_column(&t, NULL, false);
	fact(&t, "key", m->key);
	snprintf(text, sizeof text, "%u, %s", m->n_versions, human_size(m->size, size));
	fact(&t, "versions", text);
	snprintf(text, sizeof text, "%u", m->n_drafts);
	fact(&t, "open drafts", text);
	if (m->best_metric[0]) {
		snprintf(text, sizeof text, "by %s, %s", m->best_metric, m->best_mode == METADATA_BEST_MAX ? "the highest" : "the lowest");
		fact(&t, "best is", text);
	}
	for (size_t i = 0; i < w->links.n; i++) {
		snprintf(text, sizeof text, "%s -> v%u", w->links.v[i].name, w->links.v[i].number);
		table_cell(&t, STYLE_DIM, i ? "" : "links");
		table_cell(&t, STYLE_CYAN, text);
	}
	fact_time(&t, "last change", m->changed_ns);
	printf("%s", style_on(STYLE_BOLD, w->o->color));
	text_print(m->path);
	printf("%s\n", style_off(STYLE_BOLD, w->o->color));
	return table_print(&t, 2, w->o->color);
}

static int show_model(struct showing *w, struct fault *f)
{
	auto_free struct model_info *m = calloc(1, sizeof *m);
	int rc = m ? source_model(w->s, w->ref, m, f) : -ENOMEM;
	if (rc == 0)
		rc = source_links(w->s, w->ref, &w->links, f);
	if (rc == 0 && w->j)
		json_model(w->j, m, &w->links);
	else if (rc == 0)
		rc = print_model(w, m);
	links_release(&w->links);
	return rc < 0 ? fault_default(f, -rc, "%s cannot be shown: %s", w->ref->model, strerror(-rc)) : 0;
}

static int run(const struct command *self, int argc, char **argv)
{
	struct cmd_args a;
	struct source_ref ref;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, NULL, 0, 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j;
	json_init(&j, &b, 2);
	if (source_find_ref(a.v[0], &a.o, false, NULL, &s, &ref, &f) < 0)
		return cmd_fail(self, &f);
	struct showing w = {.self = self, .o = &a.o, .s = s, .ref = &ref, .j = a.o.json ? &j : NULL};
	if (ref.has_version ? show_version(&w, &f) < 0 : show_model(&w, &f) < 0)
		return cmd_fail(self, &f);
	return a.o.json ? cmd_put_json(self, &b) : cmd_done(self);
}

const struct command cmd_show = {
	.name = "show",
	.args = "VERSION|MODEL",
	.summary = "tell all that is known of a version or a model",
	.help = "Of a version: state, times, author, message, the digest of its tree, what its metadata.json says (description, maintainer, source, labels,\n"
		"parameters, metrics), the versions it was made from, its evaluations, the run that made it (command, directory, git commit, host, times,\n"
		"exit), links, and its files with size and SHA-256. Of a retired one also when, by whom and why it was retired; of a draft why it did not commit.\n"
		"Of a model: its numbers, links and what decides best.\n"
		"On a drive of somebody else's store, the owner stands for the author, and of the run only its name is known.\n"
		"\n" HELP_TARGET
		"\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs show product/P001_all/mlstm/best --store /srv/models.store\n",
	.run = run,
};
