/* Carrying out processes: their nodes as commands in the order of the DAG, and updates that flow from a new dataset to the models and nodes that depend on it.
 *
 * What is decided and recorded is registry's; here commands are run. A command is started without a shell, in a process group of its own, in an empty scratch directory,
 * with nothing on standard input; what it prints is kept (the last 64 KiB). It sees datasets and models as paths on the drive, so that the drive knows what it read.
 *
 * Signals: while a call runs, SIGINT and SIGTERM of the whole program are taken here: commands are ended, the record says so, -EINTR. One call at a time in a program. */
#ifndef MINTFS_PROCESS_H
#define MINTFS_PROCESS_H

#include <mintfs/buf.h>
#include <mintfs/registry.h>

/* Told of each step when its state changes; for a plan that is only shown, once each with state WAITING or KEPT. Borrowed. */
typedef void process_step_fn(const struct catalog_process_step *s, const struct registry_process *p, void *arg);

struct process_options {
	struct registry *r;        /* opened for changes */
	struct registry_actor me;
	const char *mount;         /* a drive of the store that is not read-only; absolute */
	unsigned jobs;             /* commands at once, from 1 */
	bool trust;                /* commands of a process that neither root nor we committed may be run as us */
	process_step_fn *on_step;  /* or NULL */
	void *arg;
};

/* Binds every node to the newest versions that its selectors mean, and runs all. If all end well the process is associated with these versions and their scores.
 * *ret_run_id is set as soon as there is a record (0: none), also on failure. -EINVAL with a sentence: a node failed. */
int process_run(const struct process_options *o, const char *name, int64_t *ret_run_id, struct fault *f);

struct process_update {
	const char *dataset; /* only changes of this dataset count ("dataset/mol", "mol"), or "…/vN": it changes to that version. NULL: all, to the newest */
	bool dry_run;        /* what would be done is told to on_step, and nothing is done */
};
/* Trains the models associated with a changed dataset, adopts those that meet their conditions, runs what depends on either, and moves associations and aliases if the whole
 * meets its condition. An update that was interrupted is taken up again, without training twice,
 * unless a newer run or update was associated since: then a new one begins, which takes over what that one trained in just the same way. *ret_run_id 0: there is nothing to do.
 * 0 also where it was refused by its conditions: the record tells (state REFUSED). -EINVAL with a sentence: a command failed. */
int process_update(const struct process_options *o, const char *name, const struct process_update *u, int64_t *ret_run_id, struct fault *f);

/* A run whose nodes are started one by one, by a scheduler: begin binds them, each node is run when what it is after has ended well, end associates the process with it.
 * Nodes may run at the same time. run_id: of process_begin. */
int process_begin(const struct process_options *o, const char *name, int64_t *ret_run_id, struct fault *f);
int process_node(const struct process_options *o, const char *name, int64_t run_id, const char *node, struct fault *f);
int process_end(const struct process_options *o, const char *name, int64_t run_id, struct fault *f);

/* The process as an Airflow DAG (Python text): one operator a node. It runs `mintfs process begin`, `node` and `end`. */
int process_airflow(const struct registry_process *p, const char *store, struct buf *out);

#endif
