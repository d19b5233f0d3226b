/* What was just found out about callers, so that the many requests of one save do not walk /proc each time.
 *
 * A remembered caller counts for half a second, and only while one read of its thread's stat shows the same thread (start time), the same parent, and
 * the same program and environment (their addresses, drawn anew by each exec). So a run id is never older than the program that asks. What
 * half a second can hide is the end of an ancestor further up, which only keeps the caller in a run that it was in.
 *
 * Lock: one over the slots, held for copying only. */
#include "proc.h"

#include <mintfs/caller.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>

#define SLOTS 64 /* threads that save at the same time; others push each other out, and are read anew */
#define FRESH_NS (NS_PER_SEC / 2)

struct slot {
	pid_t tid; /* 0: empty */
	int64_t read_ns;
	struct proc_stat stat;
	struct caller caller;
};

struct caller_cache {
	struct peek_limit *peeks; /* fixed */
	pthread_mutex_t lock;
	struct slot slots[SLOTS];
};

struct caller_cache *caller_cache_new(void)
{
	struct caller_cache *cache = calloc(1, sizeof *cache);
	if (!cache)
		return NULL;
	cache->peeks = peek_limit_new();
	if (!cache->peeks) {
		free(cache);
		return NULL;
	}
	pthread_mutex_init(&cache->lock, NULL);
	return cache;
}

void caller_cache_free(struct caller_cache *cache)
{
	if (!cache)
		return;
	peek_limit_put(cache->peeks);
	pthread_mutex_destroy(&cache->lock);
	free(cache);
}

static bool same_program(const struct proc_stat *a, const struct proc_stat *b)
{
	return a->start == b->start && a->parent == b->parent && a->code == b->code && a->stack == b->stack && a->environ_start == b->environ_start &&
		a->environ_end == b->environ_end;
}

static bool recall(struct caller_cache *cache, pid_t tid, const struct proc_stat *st, int64_t now, struct caller *c)
{
	SCOPED_LOCK(&cache->lock);
	const struct slot *s = &cache->slots[(unsigned)tid % SLOTS];
	if (s->tid != tid || now - s->read_ns > FRESH_NS || !same_program(&s->stat, st))
		return false;
	*c = s->caller;
	return true;
}

void caller_cache_identify(struct caller_cache *cache, pid_t tid, uid_t uid, gid_t gid, struct caller *c)
{
	struct proc_stat st;
	int64_t now = time_monotonic_ns();
	bool known = tid > 0 && proc_stat(tid, &st) == 0 && st.environ_start != 0;
	if (known && recall(cache, tid, &st, now, c)) {
		c->uid = uid;
		c->gid = gid;
		return;
	}
	caller_identify(tid, uid, gid, c);
	if (!known || c->self.pid == 0)
		return;
	SCOPED_LOCK(&cache->lock);
	cache->slots[(unsigned)tid % SLOTS] = (struct slot){tid, now, st, *c};
}

bool caller_in_mkdir(struct caller_cache *cache, pid_t tid, const char *name) { return proc_in_mkdir(cache->peeks, tid, name); }
