/* A bar for what takes long, on standard error where that is a terminal. */
#ifndef MINTFS_CMD_PROGRESS_H
#define MINTFS_CMD_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *what; /* "export" */
	bool shown;       /* standard error is a terminal */
	bool drawn;
	int64_t begun_ns, next_ns;
};
void progress_begin(struct progress *p, const char *what);
void progress_tell(uint64_t done, uint64_t total, void *progress); /* as bundle_progress_fn */
void progress_end(struct progress *p);                             /* takes the bar away */

#endif
