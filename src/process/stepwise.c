/* A run whose nodes are started one by one, by a scheduler such as Airflow. Each call finds in the record what the others have done. */
#include "plan.h"

#include <errno.h>
#include <math.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <string.h>

int process_begin(const struct process_options *o, const char *name, int64_t *ret_run_id, struct fault *f)
{
	struct fault own = FAULT_INIT;
	struct plan pl;
	*ret_run_id = 0;
	int rc = plan_open(&pl, o, name, true, f ? f : &own);
	if (rc == 0)
		rc = plan_bind_nodes(&pl);
	if (rc == 0)
		rc = plan_begin(&pl, CATALOG_PROCESS_RUN, CATALOG_PROCESS_OPEN, NAN);
	if (rc == 0)
		*ret_run_id = pl.run.id;
	plan_close(&pl);
	return rc < 0 ? fault_default(f, -rc, "a run of %s cannot begin: %s", name, strerror(-rc)) : 0;
}

static int recall(const struct catalog_process_step *c, void *arg)
{
	struct plan *pl = arg;
	if (c->kind != CATALOG_STEP_NODE || c->place >= pl->n_nodes || strcmp(c->name, pl->nodes[c->place].c.name) != 0)
		return -ESTALE;
	return plan_recall(&pl->nodes[c->place], c);
}

static int read_run(struct plan *pl, int64_t run_id)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(pl->o->r, &conn);
	if (rc == 0)
		rc = catalog_process_run_get(conn, run_id, &pl->run);
	if (rc == -ENOENT || (rc == 0 && pl->run.process_id != pl->p.model.id))
		return fault_set(pl->f, ENOENT, "%s has no run %lld", pl->p.model.path, (long long)run_id);
	if (rc == 0 && pl->run.state != CATALOG_PROCESS_OPEN)
		return fault_set(pl->f, EINVAL, "run %lld of %s is not one whose nodes are run one by one, or it has ended", (long long)run_id, pl->p.model.path);
	if (rc == 0)
		rc = pl->run.version_id == pl->p.version.id ? catalog_process_step_list(conn, run_id, recall, pl) : -ESTALE;
	if (rc == -ESTALE)
		return fault_set(pl->f, EINVAL, "run %lld is one of another version of %s", (long long)run_id, pl->p.model.path);
	for (unsigned i = 0; i < pl->n_nodes && rc == 0; i++) {
		rc = catalog_version_get(conn, pl->nodes[i].c.dataset_id, &pl->nodes[i].dataset);
		if (rc == 0)
			rc = catalog_version_get(conn, pl->nodes[i].c.model_id, &pl->nodes[i].model);
	}
	pl->recorded = rc == 0;
	return rc;
}

static int open_run(struct plan *pl, const struct process_options *o, const char *name, int64_t run_id, bool lock, struct fault *f)
{
	int rc = plan_open(pl, o, name, lock, f);
	return rc < 0 ? rc : read_run(pl, run_id);
}

static int run_one(struct plan *pl, const char *node)
{
	struct step *s = NULL;
	for (unsigned i = 0; i < pl->n_nodes; i++)
		if (!strcmp(pl->nodes[i].c.name, node))
			s = &pl->nodes[i];
	if (!s)
		return fault_set(pl->f, ENOENT, "%s has no node '%s'", pl->p.model.path, node);
	const struct process_node *n = &pl->p.spec.nodes[s->c.place];
	for (unsigned i = 0; i < n->n_after; i++)
		if (pl->nodes[n->after[i]].c.state != CATALOG_STEP_DONE)
			return fault_set(pl->f, EINVAL, "the node '%s' is after '%s', which has not ended well", node, pl->nodes[n->after[i]].c.name);
	int rc = plan_take_up(pl);
	for (unsigned i = 0; i < n->n_after && rc == 0; i++)
		rc = plan_put_result(pl, &pl->nodes[n->after[i]]);
	s->planned = true;
	s->c.state = CATALOG_STEP_WAITING; /* a scheduler may try a node again */
	return rc < 0 ? rc : nodes_execute(pl);
}

int process_node(const struct process_options *o, const char *name, int64_t run_id, const char *node, struct fault *f)
{
	struct fault own = FAULT_INIT;
	struct plan pl;
	int rc = open_run(&pl, o, name, run_id, false, f ? f : &own); /* others run theirs meanwhile: a node writes its own step only */
	if (rc == 0)
		rc = run_one(&pl, node);
	plan_close(&pl);
	return rc < 0 ? fault_default(f, -rc, "the node '%s' cannot be run: %s", node, strerror(-rc)) : 0;
}

int process_end(const struct process_options *o, const char *name, int64_t run_id, struct fault *f)
{
	struct fault own = FAULT_INIT;
	struct plan pl;
	f = f ? f : &own;
	int rc = open_run(&pl, o, name, run_id, true, f);
	for (unsigned i = 0; i < pl.n_nodes && rc == 0; i++)
		if (pl.nodes[i].c.state != CATALOG_STEP_DONE)
			rc = fault_set(f, EINVAL, "the node '%s' has not ended well: the associations of %s stay as they were", pl.nodes[i].c.name, pl.p.model.path);
	if (rc == 0)
		rc = plan_finish(&pl, CATALOG_PROCESS_DONE, NULL, NULL, 0);
	else if (pl.recorded)
		plan_finish(&pl, CATALOG_PROCESS_FAILED, f->text, NULL, 0);
	plan_close(&pl);
	return rc < 0 ? fault_default(f, -rc, "the run cannot be ended: %s", strerror(-rc)) : 0;
}
