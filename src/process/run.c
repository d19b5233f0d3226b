/* mintfs process run: every node, with the newest that its selectors mean. */
#include "plan.h"

#include <errno.h>
#include <math.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <string.h>

int plan_bind_nodes(struct plan *pl)
{
	int rc = 0;
	for (unsigned i = 0; i < pl->n_nodes && rc == 0; i++) {
		struct step *s = &pl->nodes[i];
		rc = registry_process_select(pl->o->r, &pl->p.spec.nodes[i].dataset, &s->dataset, pl->f);
		if (rc == 0)
			rc = registry_process_select(pl->o->r, &pl->p.spec.nodes[i].model, &s->model, pl->f);
		s->c.dataset_id = s->dataset.id;
		s->c.model_id = s->model.id;
		s->planned = true;
	}
	return rc;
}

/* A record that says it runs although nobody holds the lock is of a program that died. */
static int close_record(const struct catalog_process_run *r, void *arg)
{
	int64_t *ids = arg;
	if (r->state == CATALOG_PROCESS_RUNNING && r->kind == CATALOG_PROCESS_RUN && ids[0] < 8)
		ids[++ids[0]] = r->id;
	return 0;
}

static int close_dead_runs(struct plan *pl)
{
	int64_t ids[9] = {0};
	struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(pl->o->r, &conn);
	if (rc == 0)
		rc = catalog_process_run_list(conn, pl->p.model.id, 64, close_record, ids);
	catalog_read_end(conn);
	for (int64_t i = 1; rc == 0 && i <= ids[0]; i++) {
		const struct catalog_process_run dead = {.id = ids[i], .process_id = pl->p.model.id, .state = CATALOG_PROCESS_ENDED, .ended_ns = time_now_ns(), .sum = NAN,
			.reason = (char *)(uintptr_t)"the program that ran it died"};
		rc = registry_process_finish(pl->o->r, &pl->o->me, &(struct registry_process_end){.run = &dead}, pl->f);
	}
	return rc;
}

static int execute(struct plan *pl)
{
	int rc = plan_take_up(pl);
	if (rc == 0)
		rc = nodes_execute(pl);
	if (rc == 0)
		rc = plan_finish(pl, CATALOG_PROCESS_DONE, NULL, NULL, 0);
	if (rc == 0)
		return 0;
	struct fault *f = pl->f;
	if (rc == -EINTR)
		fault_set(f, EINTR, "interrupted: the associations of %s stay as they were", pl->p.model.path);
	plan_finish(pl, rc == -EINTR ? CATALOG_PROCESS_ENDED : CATALOG_PROCESS_FAILED, f->error ? f->text : strerror(-rc), NULL, 0);
	return rc;
}

int process_run(const struct process_options *o, const char *name, int64_t *ret_run_id, struct fault *f)
{
	struct fault own = FAULT_INIT;
	struct plan pl;
	*ret_run_id = 0;
	int rc = plan_open(&pl, o, name, true, f ? f : &own);
	if (rc == 0)
		rc = close_dead_runs(&pl);
	if (rc == 0)
		rc = plan_bind_nodes(&pl);
	if (rc == 0)
		rc = plan_begin(&pl, CATALOG_PROCESS_RUN, CATALOG_PROCESS_RUNNING, NAN);
	if (rc == 0) {
		*ret_run_id = pl.run.id;
		rc = execute(&pl);
	}
	plan_close(&pl);
	return rc < 0 ? fault_default(f, -rc, "the process %s cannot be run: %s", name, strerror(-rc)) : 0;
}
