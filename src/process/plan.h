/* A run or update under way: its steps, the places it works in, and the record of both. */
#ifndef PROCESS_PLAN_H
#define PROCESS_PLAN_H

#include "task.h"

#include <limits.h>
#include <mintfs/process.h>

/* A node or a training. */
struct step {
	struct catalog_process_step c; /* as recorded; name, result, output, reason are owned */
	struct catalog_version dataset, model; /* of a training: model is the one it shall replace */
	bool changed;                  /* node: its dataset is another than the one it is bound to */
	bool planned;                  /* it is to be carried out */
};

struct plan {
	const struct process_options *o;
	struct registry_process p;
	int lock_fd;
	struct catalog_process_run run;
	struct step *trainings, *nodes; /* nodes in the order of the spec; trainings one a model that is trained */
	unsigned n_trainings, n_nodes;
	char scratch[PATH_MAX];        /* "" until it is made */
	bool recorded;                 /* run.id is in the catalog */
	struct fault *f;
};

int plan_open(struct plan *pl, const struct process_options *o, const char *name, bool lock, struct fault *f); /* loads, locks, makes a step a node */
void plan_close(struct plan *pl);
/* The record, with all steps; state: RUNNING or OPEN. */
int plan_begin(struct plan *pl, enum catalog_process_kind kind, enum catalog_process_state state, double sum_before);
int plan_take_up(struct plan *pl);                        /* makes the scratch directory */
int plan_record(struct plan *pl, struct step *s);         /* a step changed: catalog, and who listens */
void plan_tell(struct plan *pl, const struct step *s);    /* who listens, only */
/* The end: state, the sum, why; on DONE with the bindings of all nodes, and the adopted models. */
int plan_finish(struct plan *pl, enum catalog_process_state state, const char *reason, const struct catalog_version *adopted, size_t n_adopted);

double plan_sum(const struct plan *pl); /* of weight × score over all nodes; NaN if one has none */
int plan_set_text(char **to, const char *text); /* a copy; -ENOMEM */

int plan_bind_nodes(struct plan *pl);            /* to the newest that the selectors mean; all are planned */
/* A step on record becomes the one of the plan at its place; the plan's keeps its name. */
int plan_recall(struct step *to, const struct catalog_process_step *c);
/* The directory of a version on the drive. */
int plan_version_path(const struct plan *pl, const struct catalog_version *v, char *out, size_t size);
/* A result on record, where the nodes behind it look for it. */
int plan_put_result(const struct plan *pl, const struct step *node);

/* Runs all planned nodes in the order of the DAG. What is behind a node that failed is skipped. -EINVAL: one failed (f names the first). */
int nodes_execute(struct plan *pl);
/* Carries out all planned trainings: mint, train, commit, conditions. -EINVAL: a command failed. A model that does not meet its conditions is no failure. */
int trainings_execute(struct plan *pl);
/* Of updates that were superseded: drafts of dead trainings are given up; a planned training takes over the version that one of them committed, if it was made by the same version of
 * the process, from the same data, to replace the same model. Before plan_begin. look_only: nothing is given up. */
int superseded_take_over(struct plan *pl, bool look_only);
int training_give_up(const struct plan *pl, const struct catalog_version *draft);
bool training_adopted(const struct step *t);

/* Steps that are carried out as tasks. */
struct execution {
	struct plan *pl;
	unsigned failed;
	int error; /* of ours, no step's: stops everything */
};
int execution_fail(struct execution *x, struct step *s, const char *why); /* the step failed: on record; plan's fault names the first */
/* Its task has ended: takes what is recorded of it over into s and frees it. *ret_failed: the command did not end well, why in words. -errno: of ours. */
int execution_ended(struct step *s, struct task *t, bool *ret_failed, char why[FAULT_TEXT_MAX]);
int execution_run(struct execution *x, const struct task_source *source); /* -EINVAL: a step failed */

/* Makes a task of a command, in a scratch directory of its own. values: by placeholder, NULL where it has none. */
int plan_task(const struct plan *pl, const char *name, const struct process_list *words, unsigned timeout_s, const char *const values[PLACES], void *owner, struct task **ret);

#endif
