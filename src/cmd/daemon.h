/* The processes of a mount: mount.c reads what is wanted, daemon.c runs it. */
#ifndef CMD_DAEMON_H
#define CMD_DAEMON_H

#include "cmd.h"

#include <limits.h>

struct mount_options {
	char store[PATH_MAX], dir[PATH_MAX], log_path[PATH_MAX]; /* log_path "": mintfs.log in the store, or standard error in the foreground */
	bool foreground, read_only, debug, no_passthrough;
	int allow_other; /* -1: as the user may */
	unsigned deaths; /* of the worker within a minute that end the drive; 0: never */
};

/* Descriptor of what a program hands over that this one takes the place of (mintfs upgrade); -1: none. */
int daemon_handed_over(void);
/* Mounts and serves, in this process: the keeper. Returns the exit status of the command when the drive has ended. told: pipe by which whoever waits hears 'R' or the
 * reason why not; -1: nobody waits, this command says it. */
int daemon_run(const struct command *self, const struct mount_options *m, int told);

#endif
