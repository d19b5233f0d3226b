/* The nodes of a process: started when all that they are after has ended well, several at once. */
#include "plan.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>

#define RESULT_MAX (1u << 20)

static const struct process_node *node_of(const struct plan *pl, const struct step *s) { return &pl->p.spec.nodes[s->c.place]; }

/* ---- starting ---- */

static bool waits_for(const struct plan *pl, const struct process_node *n, bool *ret_in_vain)
{
	bool waits = false;
	for (unsigned i = 0; i < n->n_after; i++) {
		enum catalog_step_state s = pl->nodes[n->after[i]].c.state;
		waits |= s == CATALOG_STEP_WAITING || s == CATALOG_STEP_RUNNING;
		*ret_in_vain |= s == CATALOG_STEP_FAILED || s == CATALOG_STEP_SKIPPED;
	}
	return waits;
}

static int make_task(struct plan *pl, struct step *s, struct task **ret)
{
	char dataset[PATH_MAX], model[PATH_MAX], process[PATH_MAX], result[PATH_MAX + PROCESS_NAME_MAX + 32], results[PATH_MAX + 16], name[PROCESS_NAME_MAX + 16];
	const char *const values[PLACES] = {[PLACE_DATASET] = dataset, [PLACE_MODEL] = model, [PLACE_PROCESS] = process, [PLACE_RESULT] = result, [PLACE_RESULTS] = results};
	int rc = plan_version_path(pl, &s->dataset, dataset, sizeof dataset);
	if (rc == 0)
		rc = plan_version_path(pl, &s->model, model, sizeof model);
	if (rc == 0)
		rc = plan_version_path(pl, &pl->p.version, process, sizeof process);
	if (rc < 0)
		return rc;
	snprintf(results, sizeof results, "%s/results", pl->scratch);
	snprintf(result, sizeof result, "%s/%s.json", results, s->c.name);
	snprintf(name, sizeof name, "node-%s", s->c.name);
	return plan_task(pl, name, &node_of(pl, s)->run, node_of(pl, s)->timeout_s, values, s, ret);
}

static int skip_node(struct execution *x, struct step *s)
{
	s->c.state = CATALOG_STEP_SKIPPED;
	int rc = plan_set_text(&s->c.reason, "a node that it is after failed");
	return rc == 0 ? plan_record(x->pl, s) : rc;
}

static struct task *start_node(struct execution *x, struct step *s)
{
	struct task *t = NULL;
	x->error = make_task(x->pl, s, &t);
	if (x->error < 0)
		return NULL;
	s->c.state = CATALOG_STEP_RUNNING;
	s->c.started_ns = time_now_ns();
	x->error = plan_record(x->pl, s);
	return t;
}

static struct task *next_node(void *arg)
{
	struct execution *x = arg;
	struct plan *pl = x->pl;
	for (unsigned i = 0; i < pl->n_nodes && x->error == 0; i++) {
		struct step *s = &pl->nodes[pl->p.spec.order[i]];
		bool in_vain = false;
		if (!s->planned || s->c.state != CATALOG_STEP_WAITING || waits_for(pl, node_of(pl, s), &in_vain))
			continue;
		if (!in_vain)
			return start_node(x, s);
		x->error = skip_node(x, s);
	}
	return NULL;
}

/* ---- ending ---- */

/* A command may have left anything there: a link, a pipe, a directory. */
static int read_result(struct plan *pl, const struct step *s, char **ret, char why[FAULT_TEXT_MAX])
{
	char path[PATH_MAX + PROCESS_NAME_MAX + 32];
	struct stat st;
	snprintf(path, sizeof path, "%s/results/%s.json", pl->scratch, s->c.name);
	auto_close int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	int rc = fd < 0 ? fd : sys_fstat(fd, &st);
	if (rc == -ENOENT)
		snprintf(why, FAULT_TEXT_MAX, "it wrote no result");
	else if (rc < 0)
		snprintf(why, FAULT_TEXT_MAX, "its result cannot be read: %s", strerror(-rc));
	else if (!S_ISREG(st.st_mode))
		snprintf(why, FAULT_TEXT_MAX, "its result is no regular file");
	else if (st.st_size > (off_t)RESULT_MAX)
		snprintf(why, FAULT_TEXT_MAX, "its result is larger than %u bytes", RESULT_MAX);
	else {
		auto_free char *text = calloc(1, (size_t)st.st_size + 1);
		ssize_t n = text ? sys_pread_full(fd, text, (size_t)st.st_size, 0) : -ENOMEM;
		if (n < 0)
			return (int)n;
		if (strlen(text) == (size_t)n) {
			free(*ret); /* of before an interruption */
			*ret = take_ptr(text);
			return 0;
		}
		snprintf(why, FAULT_TEXT_MAX, "its result holds a NUL byte");
	}
	return -EINVAL;
}

static int take_result(struct execution *x, struct step *s)
{
	char why[FAULT_TEXT_MAX];
	struct fault f = FAULT_INIT;
	int rc = read_result(x->pl, s, &s->c.result, why);
	if (rc == -EINVAL)
		return execution_fail(x, s, why);
	if (rc < 0)
		return rc;
	if (process_score(s->c.result, strlen(s->c.result), node_of(x->pl, s)->score, &s->c.score, &f) < 0)
		return execution_fail(x, s, f.text);
	s->c.state = CATALOG_STEP_DONE;
	s->c.ended_ns = time_now_ns();
	return plan_record(x->pl, s);
}

static int node_ended(struct task *t, void *arg)
{
	struct execution *x = arg;
	struct step *s = t->owner;
	char why[FAULT_TEXT_MAX];
	bool failed;
	int rc = execution_ended(s, t, &failed, why);
	if (rc < 0)
		return rc;
	return failed ? execution_fail(x, s, why) : take_result(x, s);
}

int nodes_execute(struct plan *pl)
{
	struct execution x = {.pl = pl};
	const struct task_source source = {next_node, node_ended, &x};
	return execution_run(&x, &source);
}
