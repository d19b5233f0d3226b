/* mintfs list: the models, or the versions and links of one. */
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct listing {
	struct json_out *j; /* NULL: a table */
	struct table t;
	struct links links; /* of the model */
	const char *model;
	bool names;
	size_t n;
};

/* ---- models ---- */

static void json_model(struct json_out *j, const struct model_info *m)
{
	json_object_begin(j);
	json_field_string(j, "model", m->path);
	json_field_string(j, "key", m->key);
	json_field_number(j, "newest", m->newest);
	json_field_number(j, "best", m->best);
	json_field_int(j, "versions", m->n_versions);
	json_field_int(j, "drafts", m->n_drafts);
	json_field_int(j, "size", (int64_t)m->size);
	json_field_time(j, "changed", m->changed_ns);
	json_object_end(j);
}

static void cell_number(struct table *t, enum style style, uint32_t number)
{
	if (number)
		table_cellf(t, style, "v%u", number);
	else
		table_cell(t, STYLE_DIM, "-");
}

static int add_model(const struct model_info *m, void *arg)
{
	struct listing *l = arg;
	char text[HUMAN_MAX];
	l->n++;
	if (l->j) {
		json_model(l->j, m);
		return 0;
	}
	if (l->names) {
		puts(m->path);
		return 0;
	}
	table_cell(&l->t, STYLE_BOLD, m->path);
	cell_number(&l->t, STYLE_GREEN, m->newest);
	cell_number(&l->t, STYLE_CYAN, m->best);
	table_cellf(&l->t, STYLE_PLAIN, "%u", m->n_versions);
	table_cellf(&l->t, m->n_drafts ? STYLE_YELLOW : STYLE_DIM, m->n_drafts ? "%u" : "-", m->n_drafts);
	table_cell(&l->t, STYLE_PLAIN, human_size(m->size, text));
	table_cell(&l->t, STYLE_PLAIN, human_age(m->changed_ns, text));
	return 0;
}

static int list_models(struct source *s, const char *prefix, struct listing *l, struct fault *f)
{
	static const struct { const char *title; bool right; } columns[] = {{"MODEL", false}, {"NEWEST", true}, {"BEST", true}, {"VERSIONS", true}, {"DRAFTS", true},
		{"SIZE", true}, {"AGE", true}};
	for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
		table_column(&l->t, columns[i].title, columns[i].right);
	if (l->j)
		json_array_begin(l->j);
	int rc = source_models(s, prefix, add_model, l, f);
	if (l->j)
		json_array_end(l->j);
	if (rc == 0 && l->n == 0 && *prefix)
		return fault_set(f, ENOENT, "no model's path begins with %s", prefix);
	if (rc == 0 && l->n == 0 && !l->j && !l->names)
		printf("no models yet; on the drive: mkdir -p product/P001_all/mlstm/latest\n");
	return rc;
}

/* ---- one model ---- */

static int add_version(const struct version_info *v, void *arg)
{
	struct listing *l = arg;
	char text[HUMAN_MAX];
	auto_buf struct buf links = BUF_INIT(1 << 20);
	l->n++;
	if (l->j) {
		json_object_begin(l->j);
		json_version_fields(l->j, l->model, v, &l->links);
		json_object_end(l->j);
		return 0;
	}
	links_of(&l->links, v->v.number, &links);
	table_cellf(&l->t, STYLE_BOLD, "v%u", v->v.number);
	table_cell(&l->t, state_style(v->v.state), catalog_state_name(v->v.state));
	table_cell(&l->t, STYLE_PLAIN, human_age(version_time(&v->v), text));
	table_cell(&l->t, STYLE_PLAIN, v->sized ? human_size(v->v.size, text) : "-");
	if (v->sized && v->v.id)
		table_cellf(&l->t, STYLE_PLAIN, "%u", v->v.n_files);
	else
		table_cell(&l->t, STYLE_PLAIN, NULL);
	table_cell(&l->t, STYLE_CYAN, buf_text(&links));
	return 0;
}

static int list_model(struct source *s, const struct source_ref *model, struct listing *l, struct fault *f)
{
	static const struct { const char *title; bool right; } columns[] = {{"VERSION", false}, {"STATE", false}, {"AGE", true}, {"SIZE", true}, {"FILES", true},
		{"LINKS", false}};
	const struct source_query q = {.states = 1u << CATALOG_DRAFT | 1u << CATALOG_COMMITTED | 1u << CATALOG_RETIRED, .runs = l->j != NULL};
	int rc = source_links(s, model, &l->links, f);
	if (rc < 0)
		return rc;
	l->model = model->model;
	for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
		table_column(&l->t, columns[i].title, columns[i].right);
	if (l->j) {
		json_object_begin(l->j);
		json_field_string(l->j, "model", model->model);
		json_key(l->j, "versions");
		json_array_begin(l->j);
	}
	rc = source_versions(s, model, &q, add_version, l, f);
	if (l->j) {
		json_array_end(l->j);
		json_field_links(l->j, &l->links);
		json_object_end(l->j);
	} else if (rc == 0 && l->n == 0) {
		text_print(model->model);
		printf(" has no versions yet; on the drive: mkdir latest\n");
	}
	return rc;
}

static int list(struct source *s, const char *name, struct listing *l, struct fault *f)
{
	struct source_ref ref;
	struct fault unused = FAULT_INIT;
	if (!*name || source_resolve(s, name, &ref, &unused) < 0)
		return list_models(s, name, l, f);
	if (ref.has_version)
		return fault_set(f, EINVAL, "%s is a version: 'mintfs show' tells of it", name);
	if (!l->names)
		return list_model(s, &ref, l, f);
	puts(ref.model);
	return 0;
}

static int run(const struct command *self, int argc, char **argv)
{
	bool names = false;
	const struct cmd_flag flags[] = {{"names", 0, &names, NULL}};
	struct cmd_args a;
	struct cmd_target t;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, flags, 1, 0, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j;
	json_init(&j, &b, 2);
	struct listing l = {.j = a.o.json ? &j : NULL, .t = TABLE_INIT, .names = names};
	int rc = source_find(a.v[0], &a.o, false, NULL, &s, &t, &f);
	if (rc == 0)
		rc = list(s, t.name, &l, &f);
	if (rc == 0 && !l.j && (rc = table_print(&l.t, 0, a.o.color)) < 0)
		fault_set(&f, -rc, "the table cannot be made: %s", strerror(-rc));
	table_release(&l.t);
	links_release(&l.links);
	if (rc < 0)
		return cmd_fail(self, &f);
	return l.j ? cmd_put_json(self, &b) : cmd_done(self);
}

const struct command cmd_list = {
	.name = "list",
	.args = "[MODEL or BEGINNING]",
	.summary = "list the models, or the versions of one",
	.help = "Without an argument, lists the models of the store: newest and best version, how many versions and open drafts, their size, and how long ago the\n"
		"last was minted or committed. With the beginning of a path, those models. With a model, its versions and the links that lead to them.\n"
		"Without --store, the working directory tells the store if it lies on a drive. On a drive of somebody else's store, what the drive shows is listed:\n"
		"no retired versions, no numbers of files.\n"
		"\n"
		"      --names        only the names of models, one a line\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs list product/ --store /srv/models.store\n",
	.run = run,
};
