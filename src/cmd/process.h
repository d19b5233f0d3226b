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
};

int process_check_command(const struct process_call *c, const char *arg); /* exit codes, all of them */
int process_show_command(const struct process_call *c);
int process_history_command(const struct process_call *c);
int process_report_command(const struct process_call *c); /* second: the number of a run, else the newest */
int process_report_run(const struct process_call *c, int64_t run_id, bool brief);

/* "dataset/mol/v3", "-" for 0 */
void version_name(const struct source *s, int64_t version_id, char out[CATALOG_PATH_MAX + 16]);

#endif
