/* Updates that were interrupted, and that a newer association superseded: nobody goes on with them. What they trained is as good as before where a training would do the
 * very same again; what they began to train is given up. */
#include "plan.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <string.h>

#define RUNS_MAX 64
#define DRAFTS_MAX 64 /* the others are given up by the next update */

struct superseded {
	struct plan *pl;
	struct catalog_conn *conn;
	struct { int64_t id; bool same; } runs[RUNS_MAX]; /* same: of the version of the process that is carried out */
	struct catalog_version drafts[DRAFTS_MAX];
	size_t n_runs, n_drafts;
	bool same; /* of the run whose steps are looked at */
};

static int take_run(const struct catalog_process_run *r, void *arg)
{
	struct superseded *x = arg;
	if (r->state == CATALOG_PROCESS_SUPERSEDED && r->kind == CATALOG_PROCESS_UPDATE && x->n_runs < RUNS_MAX) {
		x->runs[x->n_runs].id = r->id;
		x->runs[x->n_runs++].same = r->version_id == x->pl->p.version.id;
	}
	return 0;
}

/* The version of the process holds the command and its scripts; the data and the model to be replaced are what else the command is given. It is judged anew. */
static int reuse(struct plan *pl, const struct catalog_process_step *c)
{
	for (unsigned i = 0; i < pl->n_trainings; i++) {
		struct catalog_process_step *t = &pl->trainings[i].c;
		if (t->model_id || strcmp(t->name, c->name) != 0 || t->dataset_id != c->dataset_id || t->before_id != c->before_id)
			continue;
		t->model_id = c->model_id;
		t->state = CATALOG_STEP_RUNNING; /* as if this update had been interrupted after it */
		t->started_ns = time_now_ns();
		t->exit_status = c->exit_status;
		return plan_set_text(&t->output, c->output);
	}
	return 0;
}

static int take_step(const struct catalog_process_step *c, void *arg)
{
	struct superseded *x = arg;
	struct catalog_version v;
	if (c->kind != CATALOG_STEP_TRAIN || !c->model_id)
		return 0;
	int rc = catalog_version_get(x->conn, c->model_id, &v);
	if (rc == 0 && v.state == CATALOG_DRAFT && x->n_drafts < DRAFTS_MAX)
		x->drafts[x->n_drafts++] = v;
	return rc == 0 && v.state == CATALOG_COMMITTED && x->same ? reuse(x->pl, c) : rc;
}

int superseded_take_over(struct plan *pl, bool look_only)
{
	auto_free struct superseded *x = calloc(1, sizeof *x);
	if (!x)
		return -ENOMEM;
	x->pl = pl;
	int rc = registry_read_begin(pl->o->r, &x->conn);
	if (rc == 0)
		rc = catalog_process_run_list(x->conn, pl->p.model.id, RUNS_MAX, take_run, x);
	for (size_t i = 0; i < x->n_runs && rc == 0; i++) {
		x->same = x->runs[i].same;
		rc = catalog_process_step_list(x->conn, x->runs[i].id, take_step, x);
	}
	catalog_read_end(x->conn);
	for (size_t i = 0; i < x->n_drafts && rc == 0 && !look_only; i++)
		training_give_up(pl, &x->drafts[i]);
	return rc;
}
