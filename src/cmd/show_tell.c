/* What mintfs show tells of a version, or of a file of one: as JSON, or in words. */
#include "show.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* ---- JSON ---- */

static void json_run(struct json_out *j, const struct catalog_run *run)
{
	json_object_begin(j);
	json_field_string(j, "id", run->key);
	json_key(j, "command");
	json_recorded(j, run->command, "null");
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
		if (file->damaged)
			json_field_bool(j, "damaged", true);
		json_object_end(j);
	}
	json_array_end(j);
}

static unsigned count_damaged(const struct files *files)
{
	unsigned n = 0;
	for (size_t i = 0; i < files->n; i++)
		n += files->v[i].damaged;
	return n;
}

static void json_object_or_empty(struct json_out *j, const char *key, const char *json)
{
	json_key(j, key);
	json_recorded(j, json, "{}");
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
	json_key(j, "damaged_files");
	w->s->r ? json_int(j, count_damaged(&w->files)) : json_null(j);
	json_key(j, "run");
	w->has_run ? json_run(j, &w->run) : json_null(j);
	json_key(j, "files");
	json_files(j, &w->files);
	json_object_end(j);
}

/* ---- words ---- */

static void add_run(struct table *t, const struct catalog_run *run)
{
	char text[128];
	table_fact(t, "run", run->key);
	fact_command(t, run->command);
	table_fact(t, "directory", run->cwd);
	if (run->git_commit) {
		snprintf(text, sizeof text, "%.12s%s", run->git_commit, run->git_dirty == 1 ? ", with uncommitted changes" : "");
		table_fact(t, "git", text);
	}
	table_fact(t, "user", run->user);
	table_fact(t, "host", run->host);
	table_fact_time(t, "started", run->started_ns);
	table_fact_time(t, "ended", run->ended_ns);
	if (run->ended_ns && run->exit_status >= 0) {
		snprintf(text, sizeof text, WIFSIGNALED(run->exit_status) ? "killed by signal %d" : "%d",
			WIFSIGNALED(run->exit_status) ? WTERMSIG(run->exit_status) : WEXITSTATUS(run->exit_status));
		table_fact(t, "exit", text);
	}
}

static int print_facts(const struct showing *w, const struct version_info *v)
{
	char size[HUMAN_MAX], text[4 * HUMAN_MAX];
	auto_table struct table t = TABLE_INIT;
	auto_buf struct buf links = BUF_INIT(1 << 20);
	table_facts(&t);
	links_of(&w->links, v->v.number, &links);
	table_fact(&t, "links", buf_text(&links));
	table_fact_time(&t, "minted", v->v.minted_ns);
	if (v->v.committed_ns)
		table_fact_time(&t, "committed", v->v.committed_ns);
	table_fact(&t, "author", v->text.author);
	table_fact_lines(&t, "message", v->text.message);
	if (w->has_retirement) {
		table_fact_time(&t, "retired", w->retirement.at_ns);
		table_fact(&t, "retired by", w->retirement.author);
		table_fact_lines(&t, "reason", w->retirement.message);
	}
	table_fact_lines(&t, "not committed", v->v.state == CATALOG_DRAFT ? v->text.reason : NULL);
	if (v->sized && v->v.id) {
		snprintf(text, sizeof text, "%s in %u %s", human_size(v->v.size, size), v->v.n_files, plural(v->v.n_files, "file", "files"));
		table_fact(&t, "size", text);
	} else if (v->sized) {
		table_fact(&t, "size", human_size(v->v.size, size));
	}
	unsigned damaged = count_damaged(&w->files);
	if (damaged > 0) {
		table_cell(&t, STYLE_DIM, "damaged");
		table_cellf(&t, STYLE_RED, "%u %s: reads say EIO until the same content is committed again, or imported", damaged,
			plural(damaged, "file has lost its content", "files have lost their contents"));
	}
	table_fact(&t, "digest", w->digest);
	table_fact_lines(&t, "description", w->about.description);
	table_fact(&t, "maintainer", w->about.maintainer);
	table_fact(&t, "source", w->about.source);
	if (w->has_run)
		add_run(&t, &w->run);
	else
		table_fact(&t, "run", v->run);
	return table_print(&t, 2, w->o->color);
}

/* A metric that was NaN, infinite, too large for a double, or null. */
static const char *metric_words(const struct metric *m) { return strcmp(m->json, "null") != 0 ? m->value : "no finite number"; }

/* The members of a JSON object, under a title. */
static int print_object(const struct showing *w, const char *title, const char *json)
{
	bool metrics = !strcmp(title, "METRIC");
	auto_metrics struct metrics m = {0};
	auto_table struct table t = TABLE_INIT;
	if (metrics_parse(json, &m) < 0 || m.n == 0)
		return 0;
	table_column(&t, title, false);
	table_column(&t, "VALUE", true);
	for (size_t i = 0; i < m.n; i++) {
		table_cell(&t, STYLE_PLAIN, m.v[i].name);
		table_cell(&t, STYLE_BOLD, metrics ? metric_words(&m.v[i]) : m.v[i].value);
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
			table_cell(&t, STYLE_BOLD, metric_words(&m.v[k]));
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
		table_cellf(&t, file->damaged ? STYLE_RED : STYLE_DIM, "%.12s%s", file->sha256, file->damaged ? "  damaged" : "");
	}
	putchar('\n');
	return table_print(&t, 2, w->o->color);
}

int show_tell(const struct showing *w, const struct version_info *v)
{
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

/* ---- a file of a version ---- */

static void json_one_file(const struct showing *w, const struct file_info *file)
{
	struct json_out *j = w->j;
	json_object_begin(j);
	json_field_version(j, w->ref->model, w->ref->number);
	json_field_int(j, "number", w->ref->number);
	json_field_string(j, "state", catalog_state_name(w->ref->state));
	json_field_string(j, "path", file->path);
	json_field_string(j, "type", type_name(file->type));
	json_field_int(j, "size", (int64_t)file->size);
	json_field_string(j, "sha256", file->sha256[0] ? file->sha256 : NULL);
	json_field_string(j, "target", file->target);
	if (file->damaged)
		json_field_bool(j, "damaged", true);
	json_key(j, "files");
	file->type == CATALOG_DIRECTORY ? json_files(j, &w->files) : json_null(j);
	json_object_end(j);
}

static int print_one_file(const struct showing *w, const struct file_info *file)
{
	char size[HUMAN_MAX], text[2 * HUMAN_MAX], label[CATALOG_PATH_MAX + 16];
	auto_table struct table t = TABLE_INIT;
	table_facts(&t);
	table_fact(&t, "type", file->type == CATALOG_FILE ? NULL : type_name(file->type));
	snprintf(text, sizeof text, "%s (%llu %s)", human_size(file->size, size), (unsigned long long)file->size, plural(file->size, "byte", "bytes"));
	table_fact(&t, "size", file->type == CATALOG_FILE ? text : NULL);
	table_fact(&t, "SHA-256", file->sha256);
	if (file->damaged) {
		table_cell(&t, STYLE_DIM, "damaged");
		table_cell(&t, STYLE_RED, "its content is lost: reads say EIO until the same content is committed again, or imported");
	}
	table_fact(&t, "leads to", file->target);
	source_label(w->ref, label);
	printf("%s", style_on(STYLE_BOLD, w->o->color));
	text_print(label);
	putchar('/');
	text_print(file->path);
	printf("%s  of a %s%s%s version\n", style_off(STYLE_BOLD, w->o->color), style_on(state_style(w->ref->state), w->o->color), catalog_state_name(w->ref->state),
		style_off(state_style(w->ref->state), w->o->color));
	int rc = table_print(&t, 2, w->o->color);
	return rc < 0 ? rc : print_files(w);
}

int show_tell_file(const struct showing *w, const struct file_info *file)
{
	if (!w->j)
		return print_one_file(w, file);
	json_one_file(w, file);
	return 0;
}
