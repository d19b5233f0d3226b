/* Private to process.c and its subcommands. */
#ifndef MINTFS_CMD_PROCESS_H
#define MINTFS_CMD_PROCESS_H

#include "report.h"

#include <mintfs/process.h>

struct process_call {
	const struct command *self;
	const struct cmd_options *o;
	struct source *s;   /* with s->r */
	const char *name;   /* of the process, as the registry takes it */
	const char *second; /* the next argument, or NULL */
	const char *run, *dataset; /* --run, --dataset */
	unsigned jobs;
	bool dry_run, airflow, trust;
	struct json_out *plan; /* of a dry run with --json: an open array, its steps go there */
	unsigned *n_told;      /* steps told so far; NULL: nobody asks */
};

int process_check_command(const struct process_call *c, const char *arg); /* exit codes, all of them */
int process_show_command(const struct process_call *c);
int process_history_command(const struct process_call *c);
int process_report_command(const struct process_call *c); /* second: the number of a run, else the newest */
void process_step_json(struct json_out *j, const struct source *s, const struct catalog_process_step *step);
int process_report_run(const struct process_call *c, int64_t run_id, bool brief);

/* "dataset/mol/v3", "-" for 0 */
void version_name(const struct source *s, int64_t version_id, char out[CATALOG_PATH_MAX + 16]);

#endif
