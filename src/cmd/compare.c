/* mintfs compare: versions side by side, a column each: metrics, parameters, evaluations; the best of each metric is marked. */
#include "report.h"

#include <errno.h>
#include <math.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERSIONS_MAX 12 /* columns that a table has room for */

struct column {
	char label[CATALOG_PATH_MAX + 16];
	int64_t version_id;
	uint32_t number;
	char *metrics_json, *params_json; /* owned; NULL */
	struct metrics values;            /* "metric", "parameter", "evaluation" fields, flattened under names of their own */
};

struct comparison {
	const struct command *self;
	const struct cmd_options *o;
	struct source *s;
	struct column v[VERSIONS_MAX];
	unsigned n;
	struct { char *name; char kind; } *rows; /* owned: 'm' metric, 'p' parameter, 'e' evaluation */
	size_t n_rows;
	struct fault *f;
};

static void release(struct comparison *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		free(c->v[i].metrics_json);
		free(c->v[i].params_json);
		metrics_release(&c->v[i].values);
	}
	for (size_t i = 0; i < c->n_rows; i++)
		free(c->rows[i].name);
	free(c->rows);
}

/* ---- reading ---- */

static int add_row(struct comparison *c, char kind, const char *name)
{
	for (size_t i = 0; i < c->n_rows; i++)
		if (c->rows[i].kind == kind && !strcmp(c->rows[i].name, name))
			return 0;
	void *rows = reallocarray(c->rows, c->n_rows + 1, sizeof *c->rows);
	char *copy = strdup(name);
	if (rows)
		c->rows = rows;
	if (!rows || !copy) {
		free(copy);
		return -ENOMEM;
	}
	c->rows[c->n_rows].name = copy;
	c->rows[c->n_rows++].kind = kind;
	return 0;
}

static const struct metric *metric_at(const struct column *col, char kind, const char *name)
{
	for (size_t i = col->values.n; i-- > 0;)
		if (col->values.v[i].name[0] == kind && !strcmp(col->values.v[i].name + 2, name))
			return &col->values.v[i];
	return NULL;
}

static const char *value_at(const struct column *col, char kind, const char *name)
{
	const struct metric *m = metric_at(col, kind, name);
	return m ? m->value : NULL;
}

/* The value of a column at a row is kept under KIND:NAME. The last one counts: of evaluations the newest. */
static int set_value(struct comparison *c, struct column *col, char kind, const char *name, const struct metric *m)
{
	char *key;
	int rc = add_row(c, kind, name);
	if (rc < 0 || asprintf(&key, "%c:%s", kind, name) < 0)
		return -ENOMEM;
	rc = metrics_add(&col->values, key, m->value, m->json);
	free(key);
	return rc;
}

static int take_object(struct comparison *c, struct column *col, char kind, const char *json, const char *suffix)
{
	struct metrics m = {0};
	int rc = metrics_parse(json, &m);
	for (size_t i = 0; i < m.n && rc == 0; i++) {
		auto_free char *name = NULL;
		rc = asprintf(&name, "%s%s", m.v[i].name, suffix) < 0 ? -ENOMEM : set_value(c, col, kind, name, &m.v[i]);
	}
	metrics_release(&m);
	return rc;
}

static int dataset_name(struct catalog_conn *conn, int64_t id, char out[CATALOG_PATH_MAX + 16])
{
	struct catalog_version v;
	struct catalog_model m;
	int rc = catalog_version_get(conn, id, &v);
	if (rc == 0)
		rc = catalog_model_get(conn, v.model_id, &m);
	if (rc == 0)
		snprintf(out, CATALOG_PATH_MAX + 16, "%s/v%u", m.path, v.number);
	return rc;
}

struct evaluations { struct comparison *c; struct column *col; struct catalog_conn *conn; };

static int add_evaluation(const struct catalog_evaluation *e, void *arg)
{
	struct evaluations *x = arg;
	char dataset[CATALOG_PATH_MAX + 16], suffix[CATALOG_PATH_MAX + 24];
	if (e->version_id != x->col->version_id)
		return 0;
	int rc = dataset_name(x->conn, e->dataset_id, dataset);
	snprintf(suffix, sizeof suffix, " on %s", dataset);
	return rc < 0 ? rc : take_object(x->c, x->col, 'e', e->metrics, suffix);
}

/* What has this name here may be something else: so it is told that the dataset is not here. */
static int add_evaluation_elsewhere(const struct catalog_elsewhere *e, const struct catalog_evaluation *x, void *arg)
{
	struct evaluations *to = arg;
	char suffix[CATALOG_PATH_MAX + 64];
	snprintf(suffix, sizeof suffix, " on %s/v%u (not in this store)", e->model, e->number);
	return take_object(to->c, to->col, 'e', x->metrics, suffix);
}

static int read_column(struct comparison *c, struct column *col)
{
	struct catalog_version_text text = {0};
	struct catalog_about about = {0};
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(c->s->r, &conn);
	if (rc == 0)
		rc = catalog_version_text(conn, col->version_id, &text);
	if (rc == 0 && (rc = catalog_about_get(conn, col->version_id, &about)) == -ENOENT)
		rc = 0;
	if (rc == 0) {
		col->metrics_json = take_ptr(text.metrics_summary);
		col->params_json = take_ptr(about.params);
		rc = take_object(c, col, 'm', col->metrics_json, "");
	}
	if (rc == 0)
		rc = take_object(c, col, 'p', col->params_json, "");
	struct evaluations x = {c, col, conn};
	if (rc == 0)
		rc = catalog_evaluation_list(conn, col->version_id, add_evaluation, &x);
	if (rc == 0)
		rc = catalog_elsewhere_evaluation_list(conn, col->version_id, add_evaluation_elsewhere, &x);
	catalog_version_text_release(&text);
	catalog_about_release(&about);
	return rc;
}

static int add_version(struct comparison *c, const char *model, const struct catalog_version *v)
{
	if (c->n == VERSIONS_MAX)
		return fault_set(c->f, EINVAL, "more than %d versions do not stand side by side: name fewer", VERSIONS_MAX);
	struct column *col = &c->v[c->n++];
	col->version_id = v->id;
	col->number = v->number;
	snprintf(col->label, sizeof col->label, "%s/v%u", model, v->number);
	return read_column(c, col);
}

struct newest { struct catalog_version v[VERSIONS_MAX]; unsigned n; };

static int keep_newest(const struct catalog_version *v, const struct catalog_version_text *text, void *arg)
{
	struct newest *x = arg;
	x->v[x->n++] = *v;
	return x->n == VERSIONS_MAX;
}

/* A model stands for its newest committed versions, oldest first. */
static int add_model(struct comparison *c, const struct source_ref *ref)
{
	auto_free struct newest *x = calloc(1, sizeof *x);
	struct catalog_conn *conn = NULL;
	const struct catalog_version_list q = {.model_id = ref->model_id, .states = 1u << CATALOG_COMMITTED, .descending = true};
	int rc = x ? registry_read_begin(c->s->r, &conn) : -ENOMEM;
	if (rc == 0)
		rc = catalog_version_list(conn, &q, keep_newest, x);
	catalog_read_end(conn);
	if (rc < 0)
		return rc;
	if (x->n == 0)
		return fault_set(c->f, ENOENT, "%s has no committed version", ref->model);
	rc = 0;
	for (unsigned i = x->n; i > 0 && rc == 0; i--)
		rc = add_version(c, ref->model, &x->v[i - 1]);
	return rc;
}

static int add_named(struct comparison *c, const char *name)
{
	struct source_ref ref;
	struct catalog_version v;
	struct catalog_conn *conn = NULL;
	int rc = source_resolve(c->s, name, &ref, c->f);
	if (rc < 0)
		return rc;
	if (!ref.has_version)
		return add_model(c, &ref);
	if (ref.state == CATALOG_DRAFT)
		return fault_set(c->f, EINVAL, "v%u of %s is a draft: committed versions are compared", ref.number, ref.model);
	rc = registry_read_begin(c->s->r, &conn);
	if (rc == 0)
		rc = catalog_version_get(conn, ref.version_id, &v);
	catalog_read_end(conn);
	return rc != 0 ? rc : add_version(c, ref.model, &v);
}

/* ---- which is best ---- */

static enum metadata_best_mode mode_of(char kind, const char *name)
{
	char metric[CATALOG_NAME_MAX];
	size_t n = kind == 'e' ? (size_t)(strstr(name, " on ") - name) : strlen(name);
	if (kind == 'p' || n >= sizeof metric)
		return METADATA_BEST_UNKNOWN;
	memcpy(metric, name, n);
	metric[n] = '\0';
	return metadata_mode_of(metric);
}

/* Marks the columns that share the best value; none where it is not known what is better, or all are alone or equal. */
static void find_best(const struct comparison *c, size_t row, bool best[VERSIONS_MAX])
{
	enum metadata_best_mode mode = mode_of(c->rows[row].kind, c->rows[row].name);
	double value[VERSIONS_MAX], top = NAN, bottom = NAN;
	for (unsigned i = 0; i < c->n; i++) {
		const char *text = value_at(&c->v[i], c->rows[row].kind, c->rows[row].name);
		char *end = NULL;
		value[i] = text ? strtod(text, &end) : NAN;
		if (text && (end == text || *end))
			value[i] = NAN;
		if (isnan(top) || value[i] > top)
			top = value[i];
		if (isnan(bottom) || value[i] < bottom)
			bottom = value[i];
	}
	for (unsigned i = 0; i < c->n; i++)
		best[i] = mode != METADATA_BEST_UNKNOWN && top > bottom && value[i] == (mode == METADATA_BEST_MAX ? top : bottom);
}

/* ---- showing ---- */

static const char *row_group(char kind) { return kind == 'm' ? "" : kind == 'p' ? "params." : ""; }

static int show_table(const struct comparison *c)
{
	auto_table struct table t = TABLE_INIT;
	bool one_model = true;
	for (unsigned i = 1; i < c->n; i++)
		one_model &= !strncmp(c->v[i].label, c->v[0].label, (size_t)(strrchr(c->v[0].label, '/') + 1 - c->v[0].label)) &&
			!strchr(c->v[i].label + (strrchr(c->v[0].label, '/') + 1 - c->v[0].label), '/');
	table_column(&t, one_model ? NULL : "", false);
	for (unsigned i = 0; i < c->n; i++)
		table_column(&t, one_model ? strrchr(c->v[i].label, '/') + 1 : c->v[i].label, true);
	t.columns[0].title = "";
	for (size_t row = 0; row < c->n_rows; row++) {
		bool best[VERSIONS_MAX];
		find_best(c, row, best);
		table_cellf(&t, STYLE_PLAIN, "%s%s", row_group(c->rows[row].kind), c->rows[row].name);
		for (unsigned i = 0; i < c->n; i++) {
			const char *text = value_at(&c->v[i], c->rows[row].kind, c->rows[row].name);
			char number[HUMAN_MAX];
			table_cellf(&t, best[i] ? STYLE_GREEN : STYLE_PLAIN, "%s%s", text ? human_number(text, number) : "-", best[i] ? " *" : "  ");
		}
	}
	if (one_model) {
		text_print(c->v[0].label);
		for (unsigned i = 1; i < c->n; i++)
			printf(", v%u", c->v[i].number);
		fputs("\n\n", stdout);
	}
	if (c->n_rows == 0)
		puts("no metrics, parameters or evaluations are recorded");
	else
		table_print(&t, 0, c->o->color);
	return cmd_done(c->self);
}

static void json_group(struct json_out *j, const struct comparison *c, const struct column *col, const char *key, char kind)
{
	json_key(j, key);
	json_object_begin(j);
	for (size_t row = 0; row < c->n_rows; row++) {
		const struct metric *m = c->rows[row].kind == kind ? metric_at(col, kind, c->rows[row].name) : NULL;
		if (m) {
			json_key(j, c->rows[row].name);
			json_raw(j, m->json);
		}
	}
	json_object_end(j);
}

static int show_json(const struct comparison *c)
{
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j;
	json_init(&j, &b, 2);
	json_array_begin(&j);
	for (unsigned i = 0; i < c->n; i++) {
		json_object_begin(&j);
		json_field_string(&j, "version", c->v[i].label);
		json_group(&j, c, &c->v[i], "metrics", 'm');
		json_group(&j, c, &c->v[i], "parameters", 'p');
		json_group(&j, c, &c->v[i], "evaluations", 'e');
		json_key(&j, "best");
		json_array_begin(&j);
		for (size_t row = 0; row < c->n_rows; row++) {
			bool best[VERSIONS_MAX];
			find_best(c, row, best);
			if (best[i])
				json_string(&j, c->rows[row].name);
		}
		json_array_end(&j);
		json_object_end(&j);
	}
	json_array_end(&j);
	return cmd_put_json(c->self, &b);
}

static int run(const struct command *self, int argc, char **argv)
{
	struct cmd_args a;
	struct cmd_target t;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, NULL, 0, 1, CMD_ARGS_MAX, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	auto_free struct comparison *c = calloc(1, sizeof *c);
	if (!c || source_find(a.v[0], &a.o, false, "evaluations", &s, &t, &f) < 0)
		return cmd_fail(self, &f);
	c->self = self;
	c->o = &a.o;
	c->s = s;
	c->f = &f;
	int rc = 0;
	for (int i = 0; i < a.n && rc == 0; i++) {
		struct cmd_target each;
		rc = cmd_find_target(a.v[i], &a.o, &each, &f);
		if (rc == 0)
			rc = add_named(c, each.name);
	}
	if (rc == 0)
		code = a.o.json ? show_json(c) : show_table(c);
	release(c);
	if (rc < 0) {
		fault_default(&f, -rc, "the versions cannot be compared: %s", strerror(-rc));
		return cmd_fail(self, &f);
	}
	return code;
}

const struct command cmd_compare = {
	.name = "compare",
	.args = "MODEL|VERSION...",
	.summary = "versions side by side: metrics, parameters, evaluations",
	.help = "A column a version, a row a metric, parameter (params. before it) or evaluation (its dataset behind it; the newest counts). The best of a metric\n"
		"is marked with *, where it is known which is better. A model stands for its newest committed versions. At most 12 versions.\n"
		"\n" HELP_TARGET "\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs compare product/P001_all/mlstm/v3 product/P001_all/mlstm/production\n",
	.run = run,
};
