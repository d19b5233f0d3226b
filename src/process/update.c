/* mintfs process update: from a new version of a dataset to the models trained on it and the nodes that depend on either.
 *
 *   what changed → train → adopt or not → run what depends on a change → the condition of the whole → associations and aliases, in one transaction
 *
 * Each step is on record before the next begins, so an update that was interrupted goes on from there: a version that a training committed is not trained again. */
#include "plan.h"

#include <errno.h>
#include <math.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>

struct update {
	struct plan pl;
	const struct process_update *u;
	char dataset[CATALOG_PATH_MAX]; /* that may change; "": all */
	uint32_t number;                /* to which; 0: the newest */
	struct catalog_process_binding *bound; /* by node; texts owned */
	double sum_before;
};

/* ---- what the process is bound to ---- */

static int keep_binding(const struct catalog_process_binding *b, void *arg)
{
	struct update *up = arg;
	for (unsigned i = 0; i < up->pl.n_nodes; i++) {
		struct catalog_process_binding *to = &up->bound[i];
		if (strcmp(up->pl.nodes[i].c.name, b->node) != 0)
			continue;
		to->dataset_id = b->dataset_id;
		to->model_id = b->model_id;
		to->score = b->score;
		to->weight = b->weight;
		to->run_id = b->run_id;
		up->sum_before += b->score * b->weight;
		return plan_set_text(&to->result, b->result);
	}
	return 0;
}

/* By force only. A dataset that was retired gives way to the newest that its selector means; a model does so in a run. */
static int check_model(const struct plan *pl, struct catalog_conn *conn, const struct step *s)
{
	struct catalog_model m;
	if (s->model.state == CATALOG_COMMITTED)
		return 0;
	int rc = catalog_model_get(conn, s->model.model_id, &m);
	return rc < 0 ? rc : fault_set(pl->f, EINVAL, "the node '%s' of %s is bound to v%u of %s, which is %s: 'mintfs process run %s' binds it anew", s->c.name, pl->p.model.path,
		s->model.number, m.path, catalog_state_name(s->model.state), pl->p.model.path);
}

static int read_bindings(struct update *up)
{
	struct plan *pl = &up->pl;
	auto_read struct catalog_conn *conn = NULL;
	up->bound = calloc(pl->n_nodes, sizeof *up->bound);
	int rc = up->bound ? registry_read_begin(pl->o->r, &conn) : -ENOMEM;
	if (rc == 0)
		rc = catalog_process_binding_list(conn, pl->p.model.id, keep_binding, up);
	for (unsigned i = 0; i < pl->n_nodes && rc == 0; i++) {
		struct step *s = &pl->nodes[i];
		if (up->bound[i].run_id == 0)
			return fault_set(pl->f, ENOENT, "the node '%s' of %s is bound to nothing yet: run 'mintfs process run %s' first", s->c.name, pl->p.model.path, pl->p.model.path);
		rc = catalog_version_get(conn, up->bound[i].dataset_id, &s->dataset);
		if (rc == 0)
			rc = catalog_version_get(conn, up->bound[i].model_id, &s->model);
		if (rc == 0)
			rc = check_model(pl, conn, s);
	}
	return rc;
}

/* "mol", "dataset/mol", "dataset/mol/v3" */
static int read_filter(struct update *up)
{
	const char *text = up->u->dataset;
	struct fault *f = up->pl.f;
	auto_free struct registry_ref *ref = calloc(1, sizeof *ref);
	char name[CATALOG_PATH_MAX];
	if (!text)
		return 0;
	int n = snprintf(name, sizeof name, "%s%s", strncmp(text, "dataset/", 8) ? "dataset/" : "", text);
	if (!ref || n < 0 || (size_t)n >= sizeof name)
		return ref ? -ENAMETOOLONG : -ENOMEM;
	int rc = registry_resolve(up->pl.o->r, name, ref, f);
	if (rc < 0)
		return rc;
	if (ref->model.mode != LAYOUT_DATASET || ref->rest[0])
		return fault_set(f, EINVAL, "'%s' is no dataset", text);
	if (ref->has_version && ref->version.state != CATALOG_COMMITTED)
		return fault_set(f, EINVAL, "v%u of %s is %s: an update takes a committed version", ref->version.number, ref->model.path, catalog_state_name(ref->version.state));
	up->number = ref->has_version ? ref->version.number : 0;
	bool used = false;
	for (unsigned i = 0; i < up->pl.n_nodes; i++)
		used |= !strcmp(up->pl.p.spec.nodes[i].dataset.name, ref->model.path);
	text_copy(up->dataset, sizeof up->dataset, ref->model.path);
	return used ? 0 : fault_set(f, EINVAL, "no node of %s uses %s", up->pl.p.model.path, ref->model.path);
}

/* ---- what changed ---- */

static int find_version(const struct plan *pl, int64_t model_id, uint32_t number, struct catalog_version *ret)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(pl->o->r, &conn);
	return rc < 0 ? rc : catalog_version_find(conn, model_id, number, ret);
}

static int look_for_change(struct update *up, struct step *s)
{
	const struct process_selector *sel = &up->pl.p.spec.nodes[s->c.place].dataset;
	struct catalog_version now = s->dataset;
	int rc = 0;
	if (up->dataset[0] && strcmp(up->dataset, sel->name) != 0)
		return 0;
	if (up->number)
		rc = find_version(&up->pl, s->dataset.model_id, up->number, &now);
	else
		rc = registry_process_select(up->pl.o->r, sel, &now, up->pl.f);
	s->changed = rc == 0 && now.id != s->dataset.id;
	if (s->changed)
		s->dataset = now;
	return rc;
}

static int add_training(struct plan *pl, const struct process_training *t, const struct step *node)
{
	if (!pl->trainings && !(pl->trainings = calloc(pl->p.spec.n_models, sizeof *pl->trainings)))
		return -ENOMEM;
	struct step *s = &pl->trainings[pl->n_trainings];
	*s = (struct step){.dataset = node->dataset, .model = node->model, .planned = true};
	s->c = (struct catalog_process_step){.kind = CATALOG_STEP_TRAIN, .place = pl->n_trainings, .dataset_id = node->dataset.id, .before_id = node->model.id, .score = NAN,
		.exit_status = -1};
	pl->n_trainings++;
	return plan_set_text(&s->c.name, t->model);
}

/* A model is trained anew if the data of a node that uses it changed, on the newest of them. */
static int plan_trainings(struct plan *pl)
{
	int rc = 0;
	for (unsigned m = 0; m < pl->p.spec.n_models && rc == 0; m++) {
		const struct process_training *t = &pl->p.spec.models[m];
		const struct step *from = NULL;
		for (unsigned i = 0; i < pl->n_nodes && t->train.n; i++) {
			const struct process_node *n = &pl->p.spec.nodes[i];
			if (pl->nodes[i].changed && !strcmp(n->model.name, t->model) && !strcmp(n->dataset.name, t->dataset) &&
			    (!from || pl->nodes[i].dataset.number > from->dataset.number))
				from = &pl->nodes[i];
		}
		if (from)
			rc = add_training(pl, t, from);
	}
	return rc;
}

static const struct step *training_for(const struct plan *pl, const struct step *node)
{
	for (unsigned i = 0; i < pl->n_trainings; i++)
		if (!strcmp(pl->trainings[i].c.name, pl->p.spec.nodes[node->c.place].model.name))
			return &pl->trainings[i];
	return NULL;
}

/* Which nodes run: before the trainings have ended it is taken that all models will be adopted but those that were judged, so that a plan tells the most that will be done. */
static void plan_nodes(struct update *up, bool trained)
{
	struct plan *pl = &up->pl;
	for (unsigned k = 0; k < pl->n_nodes; k++) {
		unsigned i = pl->p.spec.order[k];
		struct step *s = &pl->nodes[i];
		const struct process_node *n = &pl->p.spec.nodes[i];
		const struct step *t = training_for(pl, s);
		bool adopted = t && (trained ? training_adopted(t) : t->c.state != CATALOG_STEP_NOT_ADOPTED);
		if (s->c.state != CATALOG_STEP_WAITING)
			continue; /* done by an earlier try */
		s->planned = s->changed || adopted;
		for (unsigned a = 0; a < n->n_after; a++)
			s->planned |= pl->nodes[n->after[a]].planned;
		s->c.dataset_id = s->dataset.id;
		s->c.model_id = trained && adopted ? t->c.model_id : up->bound[i].model_id;
	}
}

static bool anything_changed(const struct plan *pl)
{
	for (unsigned i = 0; i < pl->n_nodes; i++)
		if (pl->nodes[i].changed)
			return true;
	return false;
}

/* What the execution would make of a training that an earlier try began: a version that it committed is taken over, and judged where it was not yet; else it is trained. */
static int foretell(const struct plan *pl, struct catalog_conn *conn, struct step *t)
{
	struct catalog_version v = {.state = CATALOG_DISCARDED};
	char why[64];
	int rc = t->c.model_id ? catalog_version_get(conn, t->c.model_id, &v) : 0;
	if (rc < 0 || (v.state == CATALOG_COMMITTED && (t->c.state == CATALOG_STEP_DONE || t->c.state == CATALOG_STEP_NOT_ADOPTED)))
		return rc;
	t->c.state = CATALOG_STEP_WAITING;
	if (v.state != CATALOG_COMMITTED)
		t->c.model_id = 0;
	snprintf(why, sizeof why, "v%u was trained by an update that did not end", v.number);
	return plan_set_text(&t->c.reason, t->c.model_id ? why : NULL);
}

/* Nothing is done, and nothing is recorded. */
static int show(struct update *up)
{
	struct plan *pl = &up->pl;
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(pl->o->r, &conn);
	for (unsigned i = 0; i < pl->n_trainings && rc == 0; i++)
		rc = foretell(pl, conn, &pl->trainings[i]);
	if (rc < 0)
		return rc;
	plan_nodes(up, false);
	for (unsigned i = 0; i < pl->n_trainings; i++)
		plan_tell(pl, &pl->trainings[i]);
	for (unsigned k = 0; k < pl->n_nodes; k++) {
		struct step *s = &pl->nodes[pl->p.spec.order[k]];
		if (!s->planned)
			s->c.state = CATALOG_STEP_KEPT;
		plan_tell(pl, s);
	}
	return 0;
}

/* ---- carrying it out ---- */

/* What does not depend on a change keeps its result of before. */
static int keep_others(struct update *up)
{
	struct plan *pl = &up->pl;
	int rc = 0;
	for (unsigned i = 0; i < pl->n_nodes && rc == 0; i++) {
		struct step *s = &pl->nodes[i];
		if (s->planned && s->c.state == CATALOG_STEP_WAITING)
			continue;
		if (!s->planned) {
			s->c.state = CATALOG_STEP_KEPT;
			s->c.score = up->bound[i].score;
			rc = plan_set_text(&s->c.result, up->bound[i].result);
		}
		if (rc == 0)
			rc = plan_put_result(pl, s);
		if (rc == 0 && !s->planned)
			rc = plan_record(pl, s);
	}
	return rc;
}

static int load_models(struct plan *pl)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(pl->o->r, &conn);
	for (unsigned i = 0; i < pl->n_nodes && rc == 0; i++)
		rc = catalog_version_get(conn, pl->nodes[i].c.model_id, &pl->nodes[i].model);
	return rc;
}

/* NULL: it is met. */
static const char *whole_refuses(const struct update *up, char why[FAULT_TEXT_MAX])
{
	const struct process_spec *s = &up->pl.p.spec;
	double sum = plan_sum(&up->pl);
	if (s->accept.has_min && sum < s->accept.min)
		snprintf(why, FAULT_TEXT_MAX, "the weighted sum is %.6g, and at least %.6g is asked for", sum, s->accept.min);
	else if (s->accept.has_max && sum > s->accept.max)
		snprintf(why, FAULT_TEXT_MAX, "the weighted sum is %.6g, and at most %.6g is asked for", sum, s->accept.max);
	else if (s->not_worse != PROCESS_ANY && (s->not_worse == PROCESS_HIGHER ? sum < up->sum_before : sum > up->sum_before))
		snprintf(why, FAULT_TEXT_MAX, "the weighted sum is %.6g, which is worse than %.6g of before", sum, up->sum_before);
	else
		return NULL;
	return why;
}

static int decide(struct update *up)
{
	struct plan *pl = &up->pl;
	char why[FAULT_TEXT_MAX];
	const char *refused = whole_refuses(up, why);
	auto_free struct catalog_version *adopted = calloc(pl->n_trainings ? pl->n_trainings : 1, sizeof *adopted);
	size_t n = 0;
	auto_read struct catalog_conn *conn = NULL;
	int rc = adopted ? registry_read_begin(pl->o->r, &conn) : -ENOMEM;
	for (unsigned i = 0; i < pl->n_trainings && rc == 0; i++)
		if (training_adopted(&pl->trainings[i]))
			rc = catalog_version_get(conn, pl->trainings[i].c.model_id, &adopted[n++]);
	catalog_read_end(take_ptr(conn));
	if (rc < 0)
		return rc;
	return plan_finish(pl, refused ? CATALOG_PROCESS_REFUSED : CATALOG_PROCESS_DONE, refused, adopted, n);
}

static int execute(struct update *up)
{
	struct plan *pl = &up->pl;
	int rc = plan_take_up(pl);
	if (rc == 0)
		rc = trainings_execute(pl);
	if (rc == 0) {
		plan_nodes(up, true);
		rc = load_models(pl);
	}
	if (rc == 0)
		rc = keep_others(up);
	if (rc == 0)
		rc = nodes_execute(pl);
	if (rc == 0)
		rc = decide(up);
	if (rc == 0)
		return 0;
	struct fault *f = pl->f;
	if (rc == -EINTR)
		fault_set(f, EINTR, "interrupted: the associations of %s stay as they were; the same command goes on with the update", pl->p.model.path);
	plan_finish(pl, rc == -EINTR ? CATALOG_PROCESS_ENDED : CATALOG_PROCESS_FAILED, f->error ? f->text : strerror(-rc), NULL, 0);
	return rc;
}

/* ---- going on with an interrupted one ---- */

struct unfinished { int64_t id, version_id; };

/* What is newer than the associations of now: an older one would lead back. */
static int newest_update(const struct catalog_process_run *r, void *arg)
{
	struct unfinished *u = arg;
	if (r->state == CATALOG_PROCESS_DONE)
		return 1;
	if (r->kind != CATALOG_PROCESS_UPDATE)
		return 0;
	if (r->state == CATALOG_PROCESS_RUNNING || r->state == CATALOG_PROCESS_ENDED)
		*u = (struct unfinished){r->id, r->version_id};
	return 1;
}

static int find_unfinished(const struct process_options *o, int64_t process_id, struct unfinished *ret)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(o->r, &conn);
	*ret = (struct unfinished){0};
	if (rc == 0)
		rc = catalog_process_run_list(conn, process_id, 64, newest_update, ret);
	return rc < 0 ? rc : 0;
}

static int recall_step(const struct catalog_process_step *c, void *arg)
{
	struct update *up = arg;
	struct plan *pl = &up->pl;
	struct step *to = NULL;
	int rc = 0;
	if (c->kind == CATALOG_STEP_NODE) {
		to = c->place < pl->n_nodes ? &pl->nodes[c->place] : NULL;
	} else {
		const struct process_training *t = process_spec_training(&pl->p.spec, c->name);
		rc = t && pl->n_trainings < pl->p.spec.n_models ? add_training(pl, t, &(struct step){0}) : -EUCLEAN;
		to = rc == 0 ? &pl->trainings[pl->n_trainings - 1] : NULL;
	}
	if (rc < 0 || !to)
		return rc < 0 ? rc : -EUCLEAN;
	rc = plan_recall(to, c);
	if (c->kind == CATALOG_STEP_NODE && (c->state == CATALOG_STEP_RUNNING || c->state == CATALOG_STEP_FAILED || c->state == CATALOG_STEP_SKIPPED || c->state == CATALOG_STEP_KEPT))
		to->c.state = CATALOG_STEP_WAITING;
	return rc;
}

/* The versions of the steps on record; a node is changed if its data on record are others than those it is bound to. */
static int recall_versions(struct update *up, struct catalog_conn *conn)
{
	struct plan *pl = &up->pl;
	int rc = 0;
	for (unsigned i = 0; i < pl->n_trainings && rc == 0; i++) {
		struct step *t = &pl->trainings[i];
		t->planned = true;
		rc = catalog_version_get(conn, t->c.dataset_id, &t->dataset);
		if (rc == 0)
			rc = catalog_version_get(conn, t->c.before_id, &t->model);
	}
	for (unsigned i = 0; i < pl->n_nodes && rc == 0; i++) {
		struct step *s = &pl->nodes[i];
		s->changed = s->c.dataset_id != up->bound[i].dataset_id;
		s->planned = s->c.state == CATALOG_STEP_DONE;
		rc = catalog_version_get(conn, s->c.dataset_id, &s->dataset);
	}
	return rc;
}

static int go_on(struct update *up, int64_t run_id)
{
	struct plan *pl = &up->pl;
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(pl->o->r, &conn);
	if (rc == 0)
		rc = catalog_process_run_get(conn, run_id, &pl->run);
	if (rc == 0)
		rc = catalog_process_step_list(conn, run_id, recall_step, up);
	if (rc == 0)
		rc = recall_versions(up, conn);
	catalog_read_end(take_ptr(conn));
	if (rc < 0 || up->u->dry_run)
		return rc < 0 ? rc : show(up);
	pl->recorded = true;
	return execute(up);
}

/* ---- the whole ---- */

static int begin(struct update *up, int64_t *ret_run_id)
{
	struct plan *pl = &up->pl;
	int rc = read_filter(up);
	for (unsigned i = 0; i < pl->n_nodes && rc == 0; i++)
		rc = look_for_change(up, &pl->nodes[i]);
	bool changed = rc == 0 && anything_changed(pl);
	if (changed)
		rc = plan_trainings(pl);
	if (rc == 0)
		rc = superseded_take_over(pl, up->u->dry_run);
	if (rc < 0 || !changed)
		return rc;
	if (up->u->dry_run)
		return show(up);
	plan_nodes(up, false);
	rc = plan_begin(pl, CATALOG_PROCESS_UPDATE, CATALOG_PROCESS_RUNNING, up->sum_before);
	if (rc < 0)
		return rc;
	*ret_run_id = pl->run.id;
	return execute(up);
}

static void update_close(struct update *up)
{
	for (unsigned i = 0; up->bound && i < up->pl.n_nodes; i++)
		free(up->bound[i].result);
	free(up->bound);
	plan_close(&up->pl);
}

/* The process that it began with is gone, so nobody can go on with it: the next one begins anew. */
static int give_up(struct plan *pl, const struct unfinished *u, const struct catalog_version *v)
{
	char why[CATALOG_PATH_MAX + 64];
	snprintf(why, sizeof why, "v%u of %s, with which it began, is %s", v->number, pl->p.model.path, catalog_state_name(v->state));
	const struct catalog_process_run run = {.id = u->id, .process_id = pl->p.model.id, .state = CATALOG_PROCESS_FAILED, .ended_ns = time_now_ns(), .sum = NAN, .reason = why};
	return registry_process_finish(pl->o->r, &pl->o->me, &(struct registry_process_end){.run = &run}, pl->f);
}

/* An interrupted update goes on with the version of the process that it began with. */
static int open_for(struct update *up, const struct process_options *o, const char *name, struct unfinished *unfinished, struct fault *f)
{
	int rc = plan_open(&up->pl, o, name, true, f);
	if (rc == 0)
		rc = find_unfinished(o, up->pl.p.model.id, unfinished);
	if (rc < 0 || !unfinished->id || unfinished->version_id == up->pl.p.version.id)
		return rc;
	char then[CATALOG_PATH_MAX + 16];
	struct catalog_version v;
	struct catalog_conn *conn = NULL;
	rc = registry_read_begin(o->r, &conn);
	if (rc == 0)
		rc = catalog_version_get(conn, unfinished->version_id, &v);
	catalog_read_end(conn);
	if (rc != 0)
		return rc;
	if (v.state != CATALOG_COMMITTED) {
		rc = up->u->dry_run ? 0 : give_up(&up->pl, unfinished, &v);
		unfinished->id = 0;
		return rc;
	}
	snprintf(then, sizeof then, "%s/v%u", up->pl.p.model.path, v.number);
	plan_close(&up->pl);
	return plan_open(&up->pl, o, then, true, f);
}

int process_update(const struct process_options *o, const char *name, const struct process_update *u, int64_t *ret_run_id, struct fault *f)
{
	struct fault own = FAULT_INIT;
	struct update up = {.u = u};
	struct unfinished unfinished = {0};
	f = f ? f : &own;
	*ret_run_id = 0;
	int rc = open_for(&up, o, name, &unfinished, f);
	if (rc == 0)
		rc = read_bindings(&up);
	if (rc == 0 && unfinished.id) {
		*ret_run_id = u->dry_run ? 0 : unfinished.id;
		rc = go_on(&up, unfinished.id);
	} else if (rc == 0) {
		rc = begin(&up, ret_run_id);
	}
	update_close(&up);
	return rc < 0 ? fault_default(f, -rc, "the process %s cannot be updated: %s", name, strerror(-rc)) : 0;
}
