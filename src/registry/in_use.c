/* Who needs a committed version although no file of it is open: a run or update of a process that is under way, or a process of the machine that has read it and lives.
 *
 * A run names its versions on record before it begins, the models that it trains among them. It is under way as long as somebody holds its process's lock, so one that died
 * needs nothing. One whose nodes a scheduler starts (OPEN) holds no lock in between: it counts for a day after its last step.
 *
 * A file of at most 128 KiB is opened without a trace, a training opens its data anew at each epoch, and a server has closed the file of the model that it serves. So what the drive saw
 * them read (readers.c) counts:
 *   - what a process read itself, as long as it lives; but not if it has read another version of the same model a day later, as a server does that takes each new one;
 *   - what a child of it read that has ended (the loaders of one epoch, the `cp` of a script), for a day: a notebook server does not hold for ever what a notebook once read.
 * Not the shell of a terminal, which reads a line for a person and lives for weeks; nor who asks and the processes above him, who know what they do. */
#include "keeping.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DAY_NS (86400 * NS_PER_SEC)

void asker_init(struct asker *a, const struct registry_actor *who)
{
	caller_identify(who->tid, who->uid, who->gid, &a->caller);
	a->now_ns = time_now_ns();
}

static bool is_asker(const struct asker *a, struct caller_process p)
{
	bool found = caller_same(a->caller.self, p);
	for (unsigned i = 0; i < a->caller.n_ancestors && !found; i++)
		found = caller_same(a->caller.ancestors[i], p);
	return found;
}

/* ---- runs ---- */

struct needing { struct registry *r; struct catalog_conn *conn; char *why; };

static int look_at_run(const struct catalog_process_run *run, void *arg)
{
	const struct needing *n = arg;
	bool under_way = run->state == CATALOG_PROCESS_OPEN;
	auto_free struct catalog_model *process = malloc(sizeof *process);
	int rc = process ? catalog_model_get(n->conn, run->process_id, process) : -ENOMEM;
	if (rc == 0 && !under_way)
		rc = process_is_locked(n->r, run->process_id, &under_way);
	if (rc < 0 || !under_way)
		return rc;
	snprintf(n->why, IN_USE_MAX, "%s %lld of %.128s, which is under way, needs it", run->kind == CATALOG_PROCESS_RUN ? "run" : "update", (long long)run->id, process->path);
	return 1;
}

int in_use_by_run(struct registry *r, struct catalog_conn *conn, int64_t version_id, char why[IN_USE_MAX])
{
	struct needing n = {r, conn, why};
	why[0] = '\0';
	int rc = catalog_process_need_list(conn, version_id, time_now_ns() - DAY_NS, look_at_run, &n);
	return rc < 0 ? rc : 0;
}

/* ---- readers ---- */

struct looking { const struct registry *r; const struct asker *asker; char *why; };

/* The reader, or the nearest that lives of those above one that has ended. pid 0: nobody. */
static struct caller_process living_reader(const struct catalog_reader *x)
{
	struct caller_process self = {x->pid, x->start}, chain[CALLER_ANCESTORS_MAX];
	if (caller_alive(self))
		return self;
	unsigned n = run_chain_parse(x->chain, chain, ARRAY_SIZE(chain));
	for (unsigned i = 0; i < n; i++)
		if (caller_alive(chain[i]))
			return chain[i];
	return (struct caller_process){0};
}

static int look_at_reader(const struct catalog_reader *x, void *arg)
{
	const struct looking *l = arg;
	char command[80];
	if (strcmp(x->boot_id, l->r->boot_id) != 0) /* it ended with that boot */
		return 0;
	struct caller_process p = living_reader(x);
	bool itself = p.pid == x->pid && !x->inherited;
	int64_t later_ns = itself ? x->others_ns : l->asker->now_ns;
	if (p.pid == 0 || later_ns - x->at_ns > DAY_NS || is_asker(l->asker, p) || caller_is_terminal_shell(p))
		return 0;
	caller_command_words(p, command, sizeof command);
	snprintf(l->why, IN_USE_MAX, itself ? "process %d (%s) has read it and lives" : "a child of process %d (%s), which lives, has read it", (int)p.pid, command);
	return 1;
}

int in_use_by(struct registry *r, struct catalog_conn *conn, const struct asker *a, int64_t version_id, char why[IN_USE_MAX])
{
	struct looking l = {r, a, why};
	int rc = in_use_by_run(r, conn, version_id, why);
	if (rc == 0 && !why[0])
		rc = catalog_seen_reader_list(conn, version_id, look_at_reader, &l);
	return rc < 0 ? rc : 0;
}
