/* mintfs prune: retires versions, or discards drafts, by a rule. Shows what it would do; does it with --yes. */
#include "keep.h"
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct item { struct source_ref ref; struct catalog_version v; int64_t at_ns; char *kept_by; bool passed_over, done; }; /* passed_over: no rule keeps it */
struct pruning {
	const struct cmd_options *o;
	struct source *s;
	struct registry_retention rule;
	bool drafts, all, yes;
	char model[CATALOG_PATH_MAX]; /* of the versions just listed */
	struct item *items;
	size_t n;
	uint64_t gone, gone_bytes, passed_over;
};

static void release(struct pruning *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->items[i].kept_by);
	free(p->items);
}

/* ---- the plan ---- */

static int add_item(struct pruning *p, const struct catalog_version *v, int64_t at_ns, const char *kept_by)
{
	if ((p->n & (p->n - 1)) == 0) { /* full at each power of two */
		struct item *items = reallocarray(p->items, p->n ? 2 * p->n : 1, sizeof *items);
		if (!items)
			return -ENOMEM;
		p->items = items;
	}
	struct item *it = &p->items[p->n];
	*it = (struct item){.ref = {.has_version = true, .number = v->number, .state = v->state, .model_id = v->model_id, .version_id = v->id}, .v = *v, .at_ns = at_ns,
		.kept_by = kept_by ? strdup(kept_by) : NULL};
	memcpy(it->ref.model, p->model, sizeof it->ref.model);
	p->n++;
	return kept_by && !it->kept_by ? -ENOMEM : 0;
}

static void pass_over(struct pruning *p, struct item *it)
{
	it->passed_over = true;
	p->passed_over++;
}

static int take_version(const struct catalog_version *v, const char *kept_by, bool passed_over, void *arg)
{
	struct pruning *p = arg;
	int rc = add_item(p, v, v->committed_ns, kept_by);
	if (rc == 0 && passed_over)
		pass_over(p, &p->items[p->n - 1]);
	return rc;
}

static int take_draft(const struct catalog_version *v, int64_t changed_ns, const char *kept_by, void *arg)
{
	struct pruning *p = arg;
	auto_free struct catalog_model *m = malloc(sizeof *m);
	struct catalog_conn *conn = NULL;
	int rc = m ? registry_read_begin(p->s->r, &conn) : -ENOMEM;
	if (rc == 0)
		rc = catalog_model_get(conn, v->model_id, m);
	catalog_read_end(conn);
	if (rc < 0)
		return rc;
	memcpy(p->model, m->path, sizeof p->model);
	return add_item(p, v, changed_ns, kept_by);
}

struct ids { int64_t *v; size_t n; };

static int take_id(const struct catalog_model *m, void *arg)
{
	struct ids *l = arg;
	int64_t *v = reallocarray(l->v, l->n + 1, sizeof *v);
	if (!v)
		return -ENOMEM;
	l->v = v;
	v[l->n++] = m->id;
	return 0;
}

static int plan_model(struct pruning *p, int64_t id, struct fault *f)
{
	auto_free struct catalog_model *m = malloc(sizeof *m);
	struct catalog_conn *conn = NULL;
	int rc = m ? registry_read_begin(p->s->r, &conn) : -ENOMEM;
	if (rc == 0)
		rc = catalog_model_get(conn, id, m);
	catalog_read_end(conn);
	if (rc < 0)
		return rc;
	memcpy(p->model, m->path, sizeof p->model);
	rc = registry_retention_plan(p->s->r, &p->s->me, id, &p->rule, take_version, p, f);
	if (rc == -EINVAL && p->all && f->verdict == VERDICT_BAD_METADATA) { /* a model without a metric: nothing of it is pruned */
		*f = (struct fault)FAULT_INIT;
		rc = 0;
	}
	return rc;
}

static int plan_all(struct pruning *p, struct fault *f)
{
	struct ids l = {0};
	struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(p->s->r, &conn);
	if (rc == 0)
		rc = catalog_model_list(conn, take_id, &l);
	catalog_read_end(conn);
	for (size_t i = 0; rc == 0 && i < l.n; i++)
		rc = plan_model(p, l.v[i], f);
	free(l.v);
	return rc;
}

static int plan(struct pruning *p, const char *arg, const char *name, struct fault *f)
{
	struct source_ref model = {0};
	int rc = source_need_store(p->s, "what is to be kept", f);
	if (rc == 0 && arg)
		rc = source_resolve(p->s, name, &model, f);
	if (rc == 0 && model.has_version)
		rc = fault_set(f, EINVAL, "'%s' is one version: prune takes a model, 'mintfs %s' a version", arg, p->drafts ? "discard" : "retire");
	if (rc < 0)
		return rc;
	if (p->drafts)
		rc = registry_draft_retention_plan(p->s->r, model.model_id, p->rule.older_than_ns, take_draft, p, f);
	else
		rc = arg ? plan_model(p, model.model_id, f) : plan_all(p, f);
	return rc < 0 ? fault_default(f, -rc, "the versions cannot be read: %s", strerror(-rc)) : 0;
}

/* ---- doing it ---- */

/* What came into use meanwhile stays, and says so; anything else that goes wrong ends it. */
static int carry_out(struct pruning *p, struct fault *f)
{
	for (size_t i = 0; i < p->n; i++) {
		struct item *it = &p->items[i];
		if (it->kept_by)
			continue;
		struct fault why = FAULT_INIT;
		int rc = 0;
		if (p->yes)
			rc = p->drafts ? source_discard(p->s, &it->ref, false, &why) : source_retire(p->s, &it->ref, false, "pruned", &why);
		if (rc < 0 && why.error != EBUSY) {
			*f = why;
			return fault_default(f, -rc, "v%u of %s cannot be pruned: %s", it->ref.number, it->ref.model, strerror(-rc));
		}
		if (rc < 0 && !(it->kept_by = strdup(why.text)))
			return fault_set(f, ENOMEM, "not enough memory");
		if (rc < 0)
			pass_over(p, it);
		it->done = rc == 0 && p->yes;
		p->gone += rc == 0;
		p->gone_bytes += rc == 0 ? it->v.size : 0;
	}
	return 0;
}

/* ---- telling ---- */

static const char *action_of(const struct pruning *p, const struct item *it) { return it->kept_by ? "keep" : p->drafts ? "discard" : "retire"; }

static int tell_json(const struct command *self, const struct pruning *p)
{
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j;
	json_init(&j, &b, 2);
	json_array_begin(&j);
	for (size_t i = 0; i < p->n; i++) {
		const struct item *it = &p->items[i];
		json_object_begin(&j);
		json_field_version(&j, it->ref.model, it->ref.number);
		json_field_string(&j, "action", action_of(p, it));
		json_field_string(&j, "reason", it->kept_by);
		json_field_bool(&j, "passed_over", it->passed_over);
		json_field_bool(&j, "done", it->done);
		json_field_time(&j, p->drafts ? "changed" : "created", it->at_ns);
		json_field_int(&j, "size", (int64_t)it->v.size);
		json_object_end(&j);
		json_stream(&b);
	}
	json_array_end(&j);
	return cmd_put_json(self, &b);
}

static int tell_table(const struct pruning *p, bool kept_too)
{
	auto_table struct table t = TABLE_INIT;
	char text[HUMAN_MAX];
	size_t rows = 0;
	table_column(&t, "VERSION", false);
	table_column(&t, p->drafts ? "CHANGED" : "AGE", true);
	table_column(&t, "SIZE", true);
	table_column(&t, "", false);
	for (size_t i = 0; i < p->n; i++) {
		const struct item *it = &p->items[i];
		if (it->kept_by && !it->passed_over && !kept_too)
			continue;
		table_cellf(&t, STYLE_BOLD, "%s/v%u", it->ref.model, it->ref.number);
		table_cell(&t, STYLE_PLAIN, human_age(it->at_ns, text));
		table_cell(&t, STYLE_PLAIN, p->drafts ? NULL : human_size(it->v.size, text));
		if (it->kept_by)
			table_cellf(&t, STYLE_DIM, "keep: %s", it->kept_by);
		else
			table_cell(&t, STYLE_RED, p->drafts ? it->done ? "discarded" : "discard" : it->done ? "retired" : "retire");
		rows++;
	}
	return rows ? table_print(&t, 0, p->o->color) : t.error;
}

static void tell_sum(const struct pruning *p)
{
	char text[HUMAN_MAX];
	const char *what = p->drafts ? plural(p->gone, "draft", "drafts") : plural(p->gone, "version", "versions");
	printf("%s%llu %s of %zu", p->yes ? p->drafts ? "discarded " : "retired " : p->drafts ? "would discard " : "would retire ", (unsigned long long)p->gone, what, p->n);
	if (!p->drafts)
		printf(", %s", human_size(p->gone_bytes, text));
	if (p->passed_over > 0)
		printf("; passed over %llu that cannot go", (unsigned long long)p->passed_over);
	if (!p->yes && p->gone > 0)
		printf("; nothing is done without --yes");
	else if (p->yes && !p->drafts && p->gone > 0)
		printf("; from an hour on 'mintfs gc' frees what only they held");
	putchar('\n');
}

/* ---- arguments ---- */

static int take_count(const struct command *self, const char *name, const char *text, unsigned *ret)
{
	uint64_t n;
	if (!text)
		return CMD_GO_ON;
	if (parse_u64(text, LAYOUT_NUMBER_MAX, &n) < 0 || n == 0)
		return cmd_usage(self, "--%s takes a number from 1 on, not '%s'", name, text);
	*ret = (unsigned)n;
	return CMD_GO_ON;
}

struct words { const char *last, *best, *older; bool aliased; };

static int take_rule(const struct command *self, const struct words *w, const struct cmd_args *a, struct pruning *p)
{
	int code = take_count(self, "keep-last", w->last, &p->rule.keep_last);
	if (code == CMD_GO_ON)
		code = take_count(self, "keep-best", w->best, &p->rule.keep_best);
	if (code != CMD_GO_ON)
		return code;
	if (w->older && (parse_duration(w->older, &p->rule.older_than_ns) < 0 || p->rule.older_than_ns == 0))
		return cmd_usage(self, "--older-than takes a time, such as 12h, 30d or 8w, not '%s'", w->older);
	if (p->drafts && (!w->older || w->last || w->best || w->aliased))
		return cmd_usage(self, "--drafts goes with --older-than alone");
	if (!p->drafts && !w->last && !w->best && !w->older)
		return cmd_usage(self, "which versions are to be kept? Say --keep-last, --keep-best or --older-than");
	if (!p->drafts && (a->n == 0) != p->all)
		return cmd_usage(self, p->all ? "--all stands for every model: name none" : "name a model, or say --all");
	return CMD_GO_ON;
}

static int run(const struct command *self, int argc, char **argv)
{
	struct words w = {0};
	struct pruning p = {0};
	bool kept_too = false;
	const struct cmd_flag flags[] = {{"keep-last", 0, NULL, &w.last}, {"keep-best", 0, NULL, &w.best}, {"keep-aliased", 0, &w.aliased, NULL},
		{"older-than", 0, NULL, &w.older}, {"drafts", 0, &p.drafts, NULL}, {"all", 0, &p.all, NULL}, {"yes", 'y', &p.yes, NULL}, {"verbose", 'v', &kept_too, NULL}};
	struct cmd_args a;
	struct cmd_target t;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, flags, sizeof flags / sizeof flags[0], 0, 1, &a);
	if (code == CMD_GO_ON)
		code = take_rule(self, &w, &a, &p);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	p.o = &a.o;
	int rc = source_find(a.v[0], &a.o, p.yes, NULL, &s, &t, &f);
	p.s = s;
	if (rc == 0)
		rc = plan(&p, a.v[0], t.name, &f);
	if (rc == 0)
		rc = carry_out(&p, &f);
	if (rc == 0 && a.o.json) {
		code = tell_json(self, &p);
	} else if (rc == 0 && (rc = tell_table(&p, kept_too)) == 0) {
		tell_sum(&p);
		code = cmd_done(self);
	}
	release(&p);
	if (rc < 0) {
		fault_default(&f, -rc, "it cannot be shown: %s", strerror(-rc));
		return cmd_fail(self, &f);
	}
	return code;
}

const struct command cmd_prune = {
	.name = "prune",
	.args = "MODEL|--all RULE... [--yes] | --drafts --older-than TIME [MODEL] [--yes]",
	.summary = "retire old versions, or discard old drafts, by a rule",
	.help = "Shows which committed versions of a model the rules would retire, and with --yes retires them. A version stays if any rule keeps it. The newest, and those\n"
		"that an alias leads to, a process is bound to, others were made from, or a living program reads, always stay; what is passed over for\n"
		"such a need is shown. With --drafts, discards drafts that nobody works on any more: their run is over, no file of them is open, and nothing in them was changed\n"
		"for that long.\n"
		"\n" HELP_TARGET
		"Only for the owner of the store, and root.\n"
		"\n"
		"      --keep-last N  keep the N newest\n"
		"      --keep-best N  keep the N best by the model's metric\n"
		"      --keep-aliased keep those that an alias leads to (always so)\n"
		"      --older-than TIME  retire only what is older: 12h, 30d, 8w\n"
		"      --drafts       drafts instead of versions; without MODEL, of all models\n"
		"      --all          every model of the store\n"
		"  -y, --yes          do it\n"
		"  -v, --verbose      show what stays, too, and why\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs prune product/P001_all/mlstm --keep-last 5 --keep-best 3 --older-than 30d --store /srv/models.store\n",
	.run = run,
};
