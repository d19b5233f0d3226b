/* mintfs log: the history of a model, newest first. */
#include "report.h"

#include <errno.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METRICS_SHOWN 3

/* The rows are kept until all are known: which metrics have a column is decided by the first version that has any. */
struct row { struct catalog_version v; char *author, *message, *metrics; bool sized; };
struct history {
	struct json_out *j; /* NULL: a table */
	const char *model;
	const struct links *links;
	struct row *rows;
	size_t n, cap;
};

static char *copy(const char *text) { return text ? strdup(text) : NULL; }

static int add_row(const struct version_info *v, void *arg)
{
	struct history *h = arg;
	if (h->j) {
		json_object_begin(h->j);
		json_version_fields(h->j, h->model, v, h->links);
		json_object_end(h->j);
		return 0;
	}
	if (h->n == h->cap) {
		size_t cap = h->cap ? 2 * h->cap : 256;
		struct row *rows = realloc(h->rows, cap * sizeof *rows);
		if (!rows)
			return -ENOMEM;
		h->rows = rows;
		h->cap = cap;
	}
	h->rows[h->n++] = (struct row){v->v, copy(v->text.author), copy(v->text.message), copy(v->text.metrics_summary), v->sized};
	return 0;
}

static void release(struct history *h)
{
	for (size_t i = 0; i < h->n; i++) {
		free(h->rows[i].author);
		free(h->rows[i].message);
		free(h->rows[i].metrics);
	}
	free(h->rows);
}

/* The metric that decides `best` comes first, then those of the newest version that has any, in their order. */
static unsigned choose_metrics(const struct history *h, const char *best, char *names[METRICS_SHOWN])
{
	unsigned n = 0;
	if (*best && (names[n] = strdup(best)))
		n++;
	for (size_t row = 0; row < h->n; row++) {
		auto_metrics struct metrics m = {0};
		if (metrics_parse(h->rows[row].metrics, &m) < 0 || m.n == 0)
			continue;
		for (size_t i = 0; i < m.n && n < METRICS_SHOWN; i++)
			if (strcmp(m.v[i].name, best) != 0 && (names[n] = strdup(m.v[i].name)))
				n++;
		break;
	}
	return n;
}

static void add_cells(struct table *t, const struct history *h, const struct row *row, char *const *metrics, unsigned n_metrics)
{
	char text[HUMAN_MAX];
	auto_buf struct buf links = BUF_INIT(1 << 20);
	auto_metrics struct metrics m = {0};
	links_of(h->links, row->v.number, &links);
	table_cellf(t, STYLE_BOLD, "v%u", row->v.number);
	table_cell(t, state_style(row->v.state), catalog_state_name(row->v.state));
	table_cell(t, STYLE_PLAIN, human_age(version_time(&row->v), text));
	table_cell(t, STYLE_PLAIN, row->author);
	table_cell(t, STYLE_PLAIN, row->sized ? human_size(row->v.size, text) : "-");
	if (n_metrics)
		metrics_parse(row->metrics, &m);
	for (unsigned i = 0; i < n_metrics; i++) {
		const struct metric *value = metrics_find(&m, metrics[i]);
		table_cell(t, STYLE_PLAIN, value ? human_number(value->value, text) : NULL);
	}
	table_cell(t, STYLE_CYAN, buf_text(&links));
	if (row->message)
		row->message[strcspn(row->message, "\r\n")] = '\0';
	table_cell(t, STYLE_PLAIN, row->message);
}

static int print(const struct history *h, const char *best_metric, bool color)
{
	char *metrics[METRICS_SHOWN];
	unsigned n_metrics = choose_metrics(h, best_metric, metrics);
	auto_table struct table t = TABLE_INIT;
	table_column(&t, "VERSION", false);
	table_column(&t, "STATE", false);
	table_column(&t, "AGE", true);
	table_column(&t, "AUTHOR", false);
	table_column(&t, "SIZE", true);
	for (unsigned i = 0; i < n_metrics; i++)
		table_column(&t, metrics[i], true);
	table_column(&t, "ALIASES", false);
	table_column(&t, "MESSAGE", false);
	for (size_t i = 0; i < h->n; i++)
		add_cells(&t, h, &h->rows[i], metrics, n_metrics);
	int rc = table_print(&t, 0, color);
	for (unsigned i = 0; i < n_metrics; i++)
		free(metrics[i]);
	return rc;
}

static int best_metric_of(struct source *s, const struct source_ref *model, char out[CATALOG_NAME_MAX])
{
	out[0] = '\0';
	if (!s->r)
		return 0;
	auto_free struct catalog_model *m = calloc(1, sizeof *m);
	auto_read struct catalog_conn *conn = NULL;
	int rc = m ? registry_read_begin(s->r, &conn) : -ENOMEM;
	if (rc == 0)
		rc = catalog_model_get(conn, model->model_id, m);
	return rc < 0 ? rc : text_copy(out, CATALOG_NAME_MAX, m->best_metric);
}

static int show_history(struct source *s, const char *name, const struct source_query *q, const struct cmd_options *o, struct json_out *j, struct fault *f)
{
	struct source_ref ref;
	auto_links struct links links = {0};
	char best_metric[CATALOG_NAME_MAX];
	int rc = source_resolve(s, name, &ref, f);
	if (rc == 0 && ref.has_version)
		rc = fault_set(f, EINVAL, "%s is a version: log takes a model; 'mintfs show' tells of a version", name);
	if (rc == 0)
		rc = source_links(s, &ref, &links, f);
	if (rc < 0)
		return rc;
	struct history h = {.j = j, .model = ref.model, .links = &links};
	if (j)
		json_array_begin(j);
	rc = source_versions(s, &ref, q, add_row, &h, f);
	if (j)
		json_array_end(j);
	if (rc == 0 && !j && h.n == 0) {
		text_print(ref.model);
		printf(" has no versions yet\n");
	} else if (rc == 0 && !j) {
		rc = best_metric_of(s, &ref, best_metric);
		if (rc == 0)
			rc = print(&h, best_metric, o->color);
	}
	release(&h);
	return rc < 0 ? fault_default(f, -rc, "the history of %s cannot be shown: %s", ref.model, strerror(-rc)) : 0;
}

static int run(const struct command *self, int argc, char **argv)
{
	const char *limit = NULL;
	bool all = false;
	const struct cmd_flag flags[] = {{"number", 'n', NULL, &limit}, {"all", 'a', &all, NULL}};
	struct source_query q = {.states = 1u << CATALOG_DRAFT | 1u << CATALOG_COMMITTED | 1u << CATALOG_RETIRED};
	struct cmd_args a;
	struct cmd_target t;
	struct fault f = FAULT_INIT;
	uint64_t n = 0;
	int code = cmd_parse(self, argc, argv, flags, 2, 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	if (limit && (parse_u64(limit, UINT32_MAX, &n) < 0 || n == 0))
		return cmd_usage(self, "-n takes a number from 1 on, not '%s'", limit);
	q.limit = (uint32_t)n;
	q.runs = a.o.json;
	q.states |= all ? 1u << CATALOG_DISCARDED : 0;
	auto_source struct source *s = NULL;
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j;
	json_init(&j, &b, 2);
	if (source_find(a.v[0], &a.o, false, NULL, &s, &t, &f) < 0 || show_history(s, t.name, &q, &a.o, a.o.json ? &j : NULL, &f) < 0)
		return cmd_fail(self, &f);
	return a.o.json ? cmd_put_json(self, &b) : cmd_done(self);
}

const struct command cmd_log = {
	.name = "log",
	.args = "MODEL [-n N] [--all]",
	.summary = "show the history of a model, newest first",
	.help = "One line a version: number, state, age since the commit (of a draft: since it was minted), author, size, metrics, the links that lead to it, message.\n"
		"The metric that decides best comes first, then the first ones of the newest version; 'mintfs show' has all.\n"
		"On a drive of somebody else's store, the owner stands for the author, and retired versions are not seen.\n"
		"\n" HELP_TARGET
		"\n"
		"  -n, --number N     only the newest N\n"
		"  -a, --all          discarded ones too\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs log /mnt/models/product/P001_all/mlstm -n 10\n",
	.run = run,
};
