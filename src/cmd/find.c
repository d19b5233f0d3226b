/* mintfs find: versions by what is known of them. Rows are printed as they come, a page at a time, so that a million matches cost no memory. */
#include "report.h"

#include <errno.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_ROWS 1000  /* of a table, aligned among themselves */
#define COLUMNS_MAX 6   /* facts that conditions name */

struct finding {
	struct source *s;
	const struct cmd_options *o;
	char names[COLUMNS_MAX][CATALOG_NAME_MAX]; /* columns: the facts that conditions are about */
	unsigned n_names;
	struct table t;
	uint64_t n;
	int code; /* of the output */
	const struct command *self;
};

/* ---- links of a version ---- */

struct aliases { uint32_t number; struct buf *out; struct json_out *j; };

static int add_alias(const struct catalog_alias *a, void *arg)
{
	struct aliases *all = arg;
	if (a->number != all->number)
		return 0;
	if (all->j) {
		json_string(all->j, a->name);
		return 0;
	}
	buf_puts(all->out, all->out->len ? ", " : "");
	return buf_puts(all->out, a->name);
}

/* ---- JSON ---- */

static void json_about(struct json_out *j, struct source *s, struct catalog_conn *conn, const struct catalog_version *v)
{
	struct catalog_about a = {0};
	struct blob_id digest;
	char hex[BLOB_HEX_SIZE];
	catalog_about_get(conn, v->id, &a); /* there may be none */
	bool known = registry_version_digest(s->r, conn, v, &digest) == 0;
	if (known)
		blob_id_hex(&digest, hex);
	json_field_string(j, "digest", known ? hex : NULL);
	json_field_string(j, "description", a.description);
	json_field_string(j, "maintainer", a.maintainer);
	json_field_string(j, "source", a.source);
	json_key(j, "labels");
	json_recorded(j, a.labels, "{}");
	json_key(j, "parameters");
	json_recorded(j, a.params, "{}");
	catalog_about_release(&a);
}

static int give_json(struct finding *w, struct catalog_conn *conn, const struct catalog_version *v, const struct catalog_model *model)
{
	auto_buf struct buf b = BUF_INIT(16u << 20);
	struct version_info info = {.v = *v, .sized = v->state != CATALOG_DRAFT};
	struct json_out j;
	int rc = catalog_version_text(conn, v->id, &info.text);
	if (rc < 0)
		return rc;
	json_init(&j, &b, 0);
	json_object_begin(&j);
	json_version_fields(&j, model->path, &info, NULL);
	json_about(&j, w->s, conn, v);
	json_key(&j, "aliases");
	json_array_begin(&j);
	rc = catalog_alias_list(conn, v->model_id, 0, add_alias, &(struct aliases){.number = v->number, .j = &j});
	json_array_end(&j);
	json_object_end(&j);
	catalog_version_text_release(&info.text);
	if (rc < 0 || b.error)
		return rc < 0 ? rc : b.error;
	fputs(w->n ? ",\n  " : "\n  ", stdout);
	fwrite(buf_text(&b), 1, b.len, stdout);
	return ferror(stdout) ? -EIO : 0;
}

/* ---- table ---- */

static void begin_table(struct finding *w)
{
	table_column(&w->t, "VERSION", false);
	table_column(&w->t, "STATE", false);
	table_column(&w->t, "AGE", true);
	table_column(&w->t, "AUTHOR", false);
	table_column(&w->t, "SIZE", true);
	for (unsigned i = 0; i < w->n_names; i++)
		table_column(&w->t, w->names[i], true);
	table_column(&w->t, "ALIASES", false);
	table_column(&w->t, "MESSAGE", false);
}

static int end_table(struct finding *w)
{
	int rc = w->t.n_cells ? table_print(&w->t, 0, w->o->color) : 0;
	table_release(&w->t);
	w->t = (struct table)TABLE_INIT;
	return rc;
}

static void cell_fact(struct finding *w, struct catalog_conn *conn, int64_t version_id, const char *name)
{
	char short_text[HUMAN_MAX];
	auto_free char *value = NULL;
	if (catalog_fact_text(conn, version_id, name, &value) < 0)
		table_cell(&w->t, STYLE_PLAIN, NULL);
	else
		table_cell(&w->t, STYLE_BOLD, strncmp(name, "metrics.", 8) == 0 ? human_number(value, short_text) : value);
}

static int give_row(struct finding *w, struct catalog_conn *conn, const struct catalog_version *v, const struct catalog_model *model)
{
	struct catalog_version_text text = {0};
	auto_buf struct buf aliases = BUF_INIT(1u << 20);
	char word[HUMAN_MAX];
	int rc = catalog_version_text(conn, v->id, &text);
	if (rc == 0)
		rc = catalog_alias_list(conn, v->model_id, 0, add_alias, &(struct aliases){.number = v->number, .out = &aliases});
	if (rc < 0)
		return rc;
	if (w->t.n_columns == 0)
		begin_table(w);
	table_cellf(&w->t, STYLE_BOLD, "%s/v%u", model->path, v->number);
	table_cell(&w->t, state_style(v->state), v->state == CATALOG_COMMITTED ? NULL : catalog_state_name(v->state));
	table_cell(&w->t, STYLE_PLAIN, human_age(version_time(v), word));
	table_cell(&w->t, STYLE_PLAIN, text.author);
	table_cell(&w->t, STYLE_PLAIN, v->state == CATALOG_DRAFT ? NULL : human_size(v->size, word));
	for (unsigned i = 0; i < w->n_names; i++)
		cell_fact(w, conn, v->id, w->names[i]);
	table_cell(&w->t, STYLE_CYAN, buf_text(&aliases));
	if (text.message)
		text.message[strcspn(text.message, "\r\n")] = '\0';
	table_cell(&w->t, STYLE_PLAIN, text.message);
	catalog_version_text_release(&text);
	return (w->n + 1) % PAGE_ROWS == 0 ? end_table(w) : w->t.error;
}

static int give(struct catalog_conn *conn, const struct catalog_version *v, const struct catalog_model *model, void *arg)
{
	struct finding *w = arg;
	int rc = w->o->json ? give_json(w, conn, v, model) : give_row(w, conn, v, model);
	w->n++;
	return rc;
}

/* ---- arguments ---- */

/* A condition has an operator, or a quote; a place (a path, a mode, a pattern) has none, or a '/' before it. */
static bool is_place(const char *arg)
{
	size_t at = strcspn(arg, "=<>~!\"'");
	return arg[at] == '\0' || memchr(arg, '/', at) != NULL;
}

static int note_columns(struct finding *w, const char *const *conditions, unsigned n, struct fault *f)
{
	for (unsigned i = 0; i < n; i++) {
		auto_free struct catalog_condition *c = calloc(1, sizeof *c);
		unsigned states = 0;
		bool is_state, there = false;
		int rc = c ? registry_condition_parse(conditions[i], c, &states, &is_state, f) : -ENOMEM;
		if (rc < 0)
			return rc;
		for (unsigned k = 0; k < w->n_names; k++)
			there |= !strcmp(w->names[k], c->name);
		if (!is_state && !there && c->field == CATALOG_FIELD_FACT && w->n_names < COLUMNS_MAX)
			text_copy(w->names[w->n_names++], CATALOG_NAME_MAX, c->name);
	}
	return 0;
}

static int search(struct finding *w, const struct registry_find *q, struct fault *f)
{
	if (w->o->json)
		putchar('[');
	int rc = registry_find(w->s->r, q, give, w, f);
	if (rc == 0 && w->o->json)
		puts(w->n ? "\n]" : "]");
	else if (rc == 0)
		rc = end_table(w);
	table_release(&w->t);
	return rc < 0 ? fault_default(f, -rc, "what was found cannot be shown: %s", strerror(-rc)) : 0;
}

static int run(const struct command *self, int argc, char **argv)
{
	const char *limit = NULL;
	const struct cmd_flag flags[] = {{"number", 'n', NULL, &limit}};
	struct cmd_args a;
	struct cmd_target t;
	struct fault f = FAULT_INIT;
	uint64_t n = 0;
	int code = cmd_parse(self, argc, argv, flags, 1, 0, CATALOG_CONDITIONS_MAX + 1, &a);
	if (code != CMD_GO_ON)
		return code;
	if (limit && (parse_u64(limit, UINT32_MAX, &n) < 0 || n == 0))
		return cmd_usage(self, "-n takes a number from 1 on, not '%s'", limit);
	auto_source struct source *s = NULL;
	struct finding w = {.o = &a.o, .t = TABLE_INIT, .self = self};
	bool place = a.n > 0 && is_place(a.v[0]);
	struct registry_find q = {.conditions = a.v + place, .n_conditions = (unsigned)(a.n - place), .limit = (uint32_t)n};
	if (note_columns(&w, q.conditions, q.n_conditions, &f) < 0 || source_find(place ? a.v[0] : NULL, &a.o, false, "what is known of versions", &s, &t, &f) < 0)
		return cmd_fail(self, &f);
	w.s = s;
	q.scope = t.name;
	return search(&w, &q, &f) < 0 ? cmd_fail(self, &f) : cmd_done(self);
}

const struct command cmd_find = {
	.name = "find",
	.args = "[MODE|MODEL|PATTERN] [CONDITION ...] [-n N]",
	.summary = "find versions by labels, metrics, alias, time",
	.help = "Lists the committed versions that satisfy all conditions, newest first. The first argument may say where to look: a mode (dataset), a model, the\n"
		"beginning of a path, or a pattern for paths of models ('product/P0*/kan'; * goes over / too). Without it, what the working directory names, or all.\n"
		"\n"
		"A condition is FIELD OPERATOR VALUE, one argument each, so quote it. Operators: = != < <= > >=, and ~ for patterns with * ? [.\n"
		"\n"
		"  labels.NAME, metrics.NAME, params.NAME   what metadata.json says; what looks like a number is compared as one, unless it is quoted\n"
		"  description, maintainer, source          of metadata.json, too\n"
		"  author, message, created                 of the commit; times are UTC: 2026-01-31, or with 18:40 or 18:40:00 behind. A day is meant as a whole:\n"
		"                                           > is after its end, >= from its beginning on\n"
		"  alias                                    the name of an alias, or latest, or best\n"
		"  state                                    draft, committed, retired or discarded; without it: committed\n"
		"  model, type, version, size, files        'size > 20 MiB'\n"
		"  run, git                                 the run id; the first digits of the git commit the run was at\n"
		"  digest                                   the first digits of the digest of the whole tree\n"
		"  input                                    a version it was made from, or a model: any version of that\n"
		"\n"
		"  -n, --number N     only the newest N\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs find dataset 'labels.rows >= 1000' 'labels.kind = assay'\n",
	.run = run,
};
