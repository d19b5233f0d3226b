/* The keeper: a small process that holds what a drive cannot lose, and a worker that serves it and may die.
 *
 *     keeper ──clone, one table of descriptors, one shared mapping (mintfs/keep.h)──▶ worker
 *        │  waits; sees by its heartbeat that the worker is at work; when it dies, another takes over
 *        └──────────────────────────────────────────────────────────────────────▶ helper: writes notices to the kernel
 *
 * The keeper has one thread, opens nothing that lasts, and knows nothing of drives: what to do is given by functions. */
#ifndef MINTFS_KEEPER_H
#define MINTFS_KEEPER_H

#include <mintfs/error.h>
#include <mintfs/keep.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define KEEPER_DEATHS 5 /* in a minute, by default, end the drive */
#define KEEPER_REFUSED 41 /* exit status of a worker that said why it cannot serve; 0: it ended well; anything else is a death */

struct keeper_options {
	struct keep *keep;
	unsigned deaths;          /* in a minute that end it; 0: never */
	int (*work)(void *arg);   /* in a process of its own, on a thread of its own: serves, and returns the exit status */
	void (*help)(struct keep *keep); /* in another: until it is killed */
	/* May another worker take over? false: *why is a sentence. Asked in the keeper, when a worker is dead. */
	bool (*can_go_on)(struct keep *keep, const char **why);
	/* Does the worker hang, all the same that its heart beats? Asked twice a second. limit_ns: what a request may take that makes no progress; why: in words. */
	bool (*stuck)(struct keep *keep, pid_t worker, int64_t limit_ns, char *why, size_t size);
	void (*give_up)(void *arg); /* the drive is taken away by force; no worker lives */
	void (*say)(void *arg, bool bad, const char *text); /* a line for the log */
	/* Makes this process the program: returns -errno where it cannot. old: the one that ran before the last upgrade. */
	int (*become)(void *arg, const char *program, bool old);
	void *arg;
};

/* Runs workers until one ends well (0), or until they cannot stay up or the drive never was ready (-EIO, with a sentence). SIGTERM, SIGINT and SIGHUP are passed on.
 * Before: no other threads. Tells systemd ($NOTIFY_SOCKET) when the drive is ready. */
int keeper_run(const struct keeper_options *o, struct fault *f);

/* ---- in the worker ---- */
int keeper_pid(struct keep *keep);      /* of the keeper: the drive's process for everybody else */
void keeper_ready(struct keep *keep);   /* this worker serves */
bool keeper_was_ready(struct keep *keep); /* a worker before it did */
bool keeper_has_helper(struct keep *keep); /* false: it has died, and so has the keeper, who would make another */
int keeper_beat(struct keep *keep);     /* starts the heartbeat. -errno */
/* "0", or "3, last 2026-01-31 12:00:00 (killed by signal 9)". */
void keeper_restarts(struct keep *keep, char *out, size_t size);
/* Another program is to take over: waits for the answer, at most until this process is ended for it. again: it was asked for before this worker began.
 * 0, or a refusal with its sentence. */
int keeper_upgrade(struct keep *keep, const char *program, bool again, struct fault *f);

#endif
