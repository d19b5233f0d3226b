/* Commands: started without a shell, several at once, with a time limit, their output kept. */
#ifndef PROCESS_TASK_H
#define PROCESS_TASK_H

#include <mintfs/buf.h>
#include <mintfs/error.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct task {
	char **argv;        /* NULL-terminated; owned */
	char *dir;          /* its working directory; owned */
	unsigned timeout_s;
	void *owner;        /* of the caller */

	/* when it has ended */
	int status;         /* wait status */
	bool timed_out;
	int start_error;    /* errno, if it could not be started */
	struct buf output;  /* its last bytes */

	/* of task.c */
	pid_t pid;
	int pidfd, out_fd;
	int64_t deadline_ns;
	struct task *next;
};
struct task *task_new(void); /* NULL: no memory */
void task_free(struct task *t); /* one that does not run; NULL is fine */

struct task_source {
	/* The next task to start, or NULL if none is ready now. */
	struct task *(*next)(void *arg);
	/* One has ended; the caller frees it. -errno stops everything. */
	int (*ended)(struct task *t, void *arg);
	void *arg;
};
/* Runs until there is nothing to start and nothing running. -EINTR: SIGINT or SIGTERM came; all were ended and told by `ended`. */
int tasks_run(const struct task_source *s, unsigned jobs);

/* "exit 3", "killed by signal 9", "no end after 60 s", "cannot be started: …" */
void task_words(const struct task *t, char *out, size_t size);

#endif
