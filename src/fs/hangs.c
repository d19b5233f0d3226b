/* Which requests hang, or commits at the end of a run? Judged by the keeper, from outside: the worker may be at fault in whatever way.
 *
 * A request hangs where it is under way longer than the limit and makes no progress. What may take long is of two kinds, told apart by what the kernel says of the
 * worker's threads (/proc), since a thread that is at fault cannot be asked to say so itself:
 *
 *   much to do       a commit hashes, a discard removes a tree. It runs on the pools (pool.c, or the registry's own), and its thread, or those that hash for it, use processor time or wait for the
 *                    disk at one look or the next. So it may take as long as it likes. A thread that reads requests has no such right: nothing that is done there is long.
 *   a slow disk      some thread of the worker waits in the kernel, or the one that writes to the catalog, for all, is at it. Where that is seen at most looks the request
 *                    is given PATIENCE times the limit. Most, not one: on a busy drive somebody always waits for a moment, and a lock that nobody releases must be
 *                    found there too.
 *
 * Threads that look into the memory of callers do not count: they wait for as long as the caller likes (caller/peek.c).
 *
 * A wrong guess costs a restart; it does no harm, and does not help either where the disk is slow: a thread in the kernel can be killed only when the disk has answered. */
#include "session.h"

#include <mintfs/task.h>
#include <stdio.h>
#include <string.h>

#define PATIENCE 10
#define FIRST_LOOK 4 /* at this part of the limit */

/* What is seen of the worker's threads at one look. */
struct threads {
	bool waits;        /* one waits for the disk, or the catalog is written to */
	bool hashing;      /* those who hash for commits are at work */
	uint64_t hashed;   /* processor time of these */
};

static bool at_work(const struct task *t)
{
	return t->state == TASK_DISK || t->state == TASK_RUNS;
}

static bool see_thread(const struct task *t, void *arg)
{
	struct threads *s = arg;

	if (strcmp(t->name, "mintfs-peek") == 0)
		return true;
	if (t->state == TASK_DISK || (strcmp(t->name, "mintfs-catalog") == 0 && at_work(t)))
		s->waits = true;
	if (strcmp(t->name, "mintfs-commit") == 0 || strcmp(t->name, "mintfs-hash") == 0) { /* draft/tree_hash.c waits for both */
		s->hashing = s->hashing || at_work(t);
		s->hashed += t->ticks;
	}
	return true;
}

/* Of a job: its own thread, or one of those that hash. */
static bool job_moves(struct kept_watch *w, pid_t worker, pid_t tid, const struct threads *s)
{
	struct task t;

	if (task_look(worker, tid, &t) < 0)
		return true; /* nothing is known against it */
	uint64_t ticks = t.ticks + s->hashed;
	bool moves = at_work(&t) || s->hashing || ticks != w->ticks;
	w->ticks = ticks;
	return moves;
}

/* One look at a request that is under way. now, since: monotonic. */
static bool hangs(struct kept_watch *w, int64_t since, int64_t now, int64_t limit, bool moves, bool waits)
{
	if (w->since_ns != since) {
		w->since_ns = w->moved_ns = since;
		w->looks = w->waits = 0;
	} else if (moves) {
		w->moved_ns = now;
		w->looks = w->waits = 0;
	}
	w->looks++;
	w->waits += waits;
	if (now - w->moved_ns <= limit)
		return false;
	return w->waits * 2 < w->looks || (now - w->moved_ns) / PATIENCE > limit;
}

/* What a thread is at. */
struct work {
	struct kept_watch *watch;
	int64_t since;    /* 0: nothing */
	pid_t tid;        /* of who may take long; 0: of who reads requests */
	uint32_t opcode;
	bool own;         /* a commit at the end of a run */
};

#define WORKS (KEPT_HANDS + KEPT_JOBS + REGISTRY_OWN_THREADS)

static struct work work_at(struct keep *keep, unsigned i)
{
	struct kept_session *k = keep_area(keep, KEEP_AREA_FS);
	struct registry_own own;

	if (i < KEPT_HANDS) {
		const struct kept_hand *h = &k->hands[i];
		return (struct work){.watch = &k->watches[i], .since = atomic_load(&h->since_ns), .opcode = atomic_load(&h->opcode)};
	}
	if (i < KEPT_HANDS + KEPT_JOBS) {
		const struct kept_job *j = &k->jobs[i - KEPT_HANDS];
		return (struct work){.watch = &k->watches[i], .since = atomic_load(&j->since_ns), .tid = atomic_load(&j->tid), .opcode = atomic_load(&j->opcode)};
	}
	i -= KEPT_HANDS + KEPT_JOBS;
	registry_own_look(keep, i, &own);
	return (struct work){.watch = &k->own_watches[i], .since = own.since_ns, .tid = own.tid, .own = true};
}

static void describe(const struct work *w, int64_t now, char *why, size_t size)
{
	long long seconds = (now - w->since) / NS_PER_SEC;

	if (w->own)
		snprintf(why, size, "an automatic commit is under way for %lld s and makes no progress", seconds);
	else
		snprintf(why, size, "a request (code %u) is under way for %lld s and makes no progress", w->opcode, seconds);
}

bool fs_stuck(struct keep *keep, pid_t worker, int64_t limit_ns, char *why, size_t size)
{
	struct threads seen = {0};
	bool looked = false;
	int64_t now = time_monotonic_ns();

	for (unsigned i = 0; i < WORKS; i++) {
		struct work w = work_at(keep, i);

		if (w.since == 0 || now - w.since < limit_ns / FIRST_LOOK)
			continue;
		if (!looked)
			task_each(worker, see_thread, &seen);
		looked = true;
		bool moves = w.tid && job_moves(w.watch, worker, w.tid, &seen);
		if (!hangs(w.watch, w.since, now, limit_ns, moves, seen.waits))
			continue;
		describe(&w, now, why, size);
		return true;
	}
	return false;
}
