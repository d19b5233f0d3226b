/* Retention: which versions and drafts may go. The rules stand here; who asks retires or discards one by one, and each of these is decided once more by its own rules
 * (an alias may have come, a file may have been opened). */
#include "keeping.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- versions ---- */

struct pointed { uint32_t number; char name[CATALOG_NAME_MAX]; };
struct plan {
	const struct registry_retention *rule;
	registry_retention_fn *fn;
	void *arg;
	struct catalog_model model;
	uint32_t *best; /* sorted */
	size_t n_best;
	struct registry *r;
	struct catalog_conn *conn;
	struct asker asker;
	struct pointed *aliases; /* by number */
	size_t n_aliases;
	int64_t young_ns; /* committed after that: young */
	uint32_t seen;    /* committed versions so far, newest first */
};

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* Both arrays have their number in front, so one comparison serves both. */
static const void *find_number(const void *array, size_t n, size_t size, uint32_t number) { return n ? bsearch(&number, array, n, size, by_number) : NULL; }

static int take_best(uint32_t number, void *arg)
{
	struct plan *p = arg;
	uint32_t *best = reallocarray(p->best, p->n_best + 1, sizeof *best);
	if (!best)
		return -ENOMEM;
	p->best = best;
	best[p->n_best++] = number;
	return 0;
}

static int take_alias(const struct catalog_alias *a, void *arg)
{
	struct plan *p = arg;
	struct pointed *aliases = reallocarray(p->aliases, p->n_aliases + 1, sizeof *aliases);
	if (!aliases)
		return -ENOMEM;
	p->aliases = aliases;
	aliases[p->n_aliases].number = a->number;
	memcpy(aliases[p->n_aliases++].name, a->name, sizeof aliases->name);
	return 0;
}

static void plan_release(struct plan *p)
{
	free(p->best);
	free(p->aliases);
}

/* Sets why it stays, or "" if it may go. */
static void judge(const struct plan *p, const struct catalog_version *v, char *why, size_t size)
{
	const struct registry_retention *rule = p->rule;
	const struct pointed *alias = find_number(p->aliases, p->n_aliases, sizeof *p->aliases, v->number);
	why[0] = '\0';
	if (alias)
		snprintf(why, size, "%s leads to it", alias->name);
	else if (v->number == p->model.newest_committed)
		snprintf(why, size, "the newest");
	else if (rule->keep_last > 0 && p->seen <= rule->keep_last)
		snprintf(why, size, "one of the %u newest", rule->keep_last);
	else if (find_number(p->best, p->n_best, sizeof *p->best, v->number))
		snprintf(why, size, "one of the %u best by %s", rule->keep_best, p->model.best_metric);
	else if (rule->older_than_ns > 0 && v->committed_ns > p->young_ns)
		snprintf(why, size, "young");
}

/* What the rules let go stays all the same where a retirement would be refused: set why, or "". */
static int find_need(const struct plan *p, const struct catalog_version *v, char *why, size_t size)
{
	int64_t heirs = 0, process_id;
	int rc = catalog_process_binding_find(p->conn, v->id, &process_id);
	if (rc == 0)
		snprintf(why, size, "a process is bound to it");
	if (rc != -ENOENT)
		return rc;
	rc = catalog_lineage_count(p->conn, v->id, NULL, &heirs);
	if (rc == 0 && heirs > 0)
		snprintf(why, size, "others were made from it");
	return rc == 0 && heirs == 0 ? in_use_by(p->r, p->conn, &p->asker, v->id, why) : rc;
}

static int look_at_version(const struct catalog_version *v, const struct catalog_version_text *text, void *arg)
{
	struct plan *p = arg;
	char why[CATALOG_NAME_MAX + 64], need[IN_USE_MAX] = "";
	p->seen++;
	judge(p, v, why, sizeof why);
	int rc = why[0] ? 0 : find_need(p, v, need, sizeof need);
	return rc < 0 ? rc : p->fn(v, why[0] ? why : need[0] ? need : NULL, need[0] != '\0', p->arg);
}

static int read_plan(struct plan *p, struct catalog_conn *conn, int64_t model_id, struct fault *f)
{
	int rc = catalog_model_get(conn, model_id, &p->model);
	if (rc == 0)
		rc = catalog_alias_list(conn, model_id, 0, take_alias, p);
	if (rc == 0 && p->rule->keep_best > 0)
		rc = catalog_best_list(conn, model_id, p->rule->keep_best, take_best, p);
	if (rc < 0)
		return rc;
	if (p->rule->keep_best > 0 && p->n_best == 0)
		return refuse(f, VERDICT_BAD_METADATA, "none of the versions of %s carries a metric that decides which is best: they cannot be kept by it", p->model.path);
	if (p->n_best)
		qsort(p->best, p->n_best, sizeof *p->best, by_number);
	if (p->n_aliases)
		qsort(p->aliases, p->n_aliases, sizeof *p->aliases, by_number);
	return 0;
}

int registry_retention_plan(struct registry *r, const struct registry_actor *who, int64_t model_id, const struct registry_retention *rule, registry_retention_fn *fn, void *arg,
	struct fault *f)
{
	__attribute__((cleanup(plan_release))) struct plan p = {.r = r, .rule = rule, .fn = fn, .arg = arg, .young_ns = time_now_ns() - rule->older_than_ns};
	const struct catalog_version_list q = {.model_id = model_id, .states = 1u << CATALOG_COMMITTED, .descending = true};
	if (rule->keep_last == 0 && rule->keep_best == 0 && rule->older_than_ns <= 0)
		return refuse_system(f, -EINVAL, "no rule says which versions are to be kept");
	asker_init(&p.asker, who);
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	p.conn = conn;
	if (rc == 0)
		rc = read_plan(&p, conn, model_id, f);
	if (rc == 0)
		rc = catalog_version_list(conn, &q, look_at_version, &p);
	return rc < 0 ? refuse_system(f, rc, "the versions of the model cannot be read") : rc;
}

/* ---- drafts ---- */

struct draft_list { struct catalog_version *v; size_t n; int64_t model_id; };

static int take_draft(const struct catalog_version *v, const struct catalog_version_text *text, void *arg)
{
	struct draft_list *l = arg;
	if (l->model_id && v->model_id != l->model_id)
		return 0;
	struct catalog_version *list = reallocarray(l->v, l->n + 1, sizeof *list);
	if (!list)
		return -ENOMEM;
	l->v = list;
	list[l->n++] = *v;
	return 0;
}

static int last_change(struct registry *r, const struct catalog_version *v, int64_t *ret_ns)
{
	auto_draft struct draft *d = NULL;
	int rc = draft_get(r->drafts, v->id, &d);
	if (rc == 0)
		rc = draft_last_change(d, ret_ns);
	return rc;
}

/* -ENOENT: it was committed or discarded meanwhile. */
static int judge_draft(struct registry *r, const struct catalog_version *v, int64_t young_ns, int64_t *ret_changed_ns, const char **ret_why)
{
	struct registry_draft_info info;
	int rc = registry_draft_info(r, v, &info);
	if (rc == 0)
		rc = last_change(r, v, ret_changed_ns);
	if (rc == 0)
		*ret_why = info.run_alive ? "its run, or the shell that holds it, is alive" : info.open_files ? "files of it are open"
			: *ret_changed_ns > young_ns ? "changed not so long ago" : NULL;
	return rc;
}

int registry_draft_retention_plan(struct registry *r, int64_t model_id, int64_t older_than_ns, registry_draft_retention_fn *fn, void *arg, struct fault *f)
{
	struct draft_list l = {.model_id = model_id};
	struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_draft_list(conn, take_draft, &l);
	catalog_read_end(conn);
	for (size_t i = 0; rc == 0 && i < l.n; i++) {
		const char *why = NULL;
		int64_t changed_ns = 0;
		rc = judge_draft(r, &l.v[i], time_now_ns() - older_than_ns, &changed_ns, &why);
		if (rc == 0)
			rc = fn(&l.v[i], changed_ns, why, arg);
		else if (rc == -ENOENT)
			rc = 0;
	}
	free(l.v);
	return rc < 0 ? refuse_system(f, rc, "the drafts cannot be looked at") : rc;
}
