/* What is known of a version, as mintfs show has read it. Private to show.c, which reads, and show_tell.c, which tells. */
#ifndef MINTFS_CMD_SHOW_H
#define MINTFS_CMD_SHOW_H

#include "report.h"

struct showing {
	const struct command *self;
	const struct cmd_options *o;
	struct source *s;
	const struct source_ref *ref;
	struct json_out *j; /* NULL: words */
	struct links links;
	struct files files;
	struct catalog_run run;
	bool has_run;
	struct catalog_about about; /* what is known of it */
	char digest[BLOB_HEX_SIZE]; /* "": none, or not known */
	struct input { char *name, *how; bool unknown, elsewhere; } *inputs; /* how: observed, declared, both; or the reason why it is unknown. Owned */
	size_t n_inputs;
	struct evaluation { char *dataset, *metrics, *author; int64_t at_ns; bool elsewhere; } *evaluations; /* the oldest first. Owned */
	size_t n_evaluations;
	struct catalog_retirement retirement;
	bool has_retirement;
	int64_t version_id;
	struct catalog_conn *conn;  /* while inputs and evaluations are read */
};

int show_tell(const struct showing *w, const struct version_info *v);
int show_tell_file(const struct showing *w, const struct file_info *file); /* w->files: what lies in it, if it is a directory */

#endif
