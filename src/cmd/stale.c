/* mintfs stale: versions in use whose inputs have newer versions. */
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct stale { struct json_out *j; struct table t; size_t n; };

static int give(const struct catalog_stale *x, void *arg)
{
	struct stale *s = arg;
	s->n++;
	if (s->j) {
		json_object_begin(s->j);
		json_field_version(s->j, x->model, x->number);
		json_field_string(s->j, "alias", x->alias);
		json_field_string(s->j, "input", x->input_model);
		json_field_number(s->j, "used", x->used);
		json_field_number(s->j, "newest", x->newest);
		json_object_end(s->j);
		return 0;
	}
	table_cellf(&s->t, STYLE_BOLD, "%s/v%u", x->model, x->number);
	table_cell(&s->t, STYLE_CYAN, x->alias);
	table_cellf(&s->t, STYLE_PLAIN, "%s/v%u", x->input_model, x->used);
	table_cellf(&s->t, STYLE_YELLOW, "v%u", x->newest);
	return 0;
}

static int count(const struct model_info *m, void *arg)
{
	++*(size_t *)arg;
	return 0;
}

/* A name that is mistyped has nothing stale either, which must not read as good news. */
static int need_model(struct source *src, const char *prefix, struct fault *f)
{
	size_t n = 0;
	int rc = source_models(src, prefix, count, &n, f);
	return rc == 0 && n == 0 ? fault_set(f, ENOENT, "no model's path begins with %s", prefix) : rc;
}

static int list(struct source *src, const char *prefix, bool all, struct stale *s, struct fault *f)
{
	struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(src->r, &conn);
	if (rc == 0)
		rc = catalog_stale_list(conn, prefix, all, give, s);
	catalog_read_end(conn);
	if (rc < 0)
		return fault_set(f, -rc, "what is stale cannot be told: %s", strerror(-rc));
	return s->n == 0 && *prefix ? need_model(src, prefix, f) : 0;
}

static int run(const struct command *self, int argc, char **argv)
{
	static const char *const titles[] = {"VERSION", "ALIAS", "MADE FROM", "NEWEST"};
	bool all = false;
	const struct cmd_flag flags[] = {{"all", 'a', &all, NULL}};
	struct cmd_args a;
	struct cmd_target t;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, flags, 1, 0, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *src = NULL;
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j;
	json_init(&j, &b, 2);
	struct stale s = {.j = a.o.json ? &j : NULL, .t = TABLE_INIT};
	if (source_find(a.v[0], &a.o, false, "lineage", &src, &t, &f) < 0)
		return cmd_fail(self, &f);
	for (size_t i = 0; i < sizeof titles / sizeof titles[0]; i++)
		table_column(&s.t, titles[i], false);
	if (s.j)
		json_array_begin(s.j);
	int rc = list(src, t.name, all, &s, &f);
	if (s.j)
		json_array_end(s.j);
	else if (rc == 0 && s.n && (rc = table_print(&s.t, 0, a.o.color)) < 0)
		fault_set(&f, -rc, "the table cannot be made: %s", strerror(-rc));
	table_release(&s.t);
	if (rc < 0)
		return cmd_fail(self, &f);
	return s.j ? cmd_put_json(self, &b) : cmd_done(self);
}

const struct command cmd_stale = {
	.name = "stale",
	.args = "[MODEL or BEGINNING] [--all]",
	.summary = "list versions whose inputs have newer versions",
	.help = "Lists the versions in use that were made from a version of a dataset, process or other model of which there is a newer one by now: those with an alias first,\n"
		"then the newest committed version of each model. With an argument, only of models whose path begins so.\n"
		"\n"
		"  -a, --all          every committed version, not only those in use\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs stale product/\n",
	.run = run,
};
