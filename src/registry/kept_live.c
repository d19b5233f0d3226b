/* What the next process is to know of the drafts that this one serves: the lock on each (its descriptor stays open across a death, so no other mount can take the draft
 * in between) and the state of its run.
 *
 * A state has many parts that belong together, so a record holds two of them and the number of the one that counts: the other one is written, then the number. A death
 * at any instruction leaves a whole state, at worst one step old; then the end of a process is told once more, by its pidfd (caller_watch_keep). */
#include "live.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define PARTS_KEPT 64 /* living processes that take part; what is beyond joins again with its next file */

struct run_state {
	char run_key[CALLER_RUN_ID_MAX];
	struct caller_process chain[LIVE_CHAIN_MAX];
	int chain_status[LIVE_CHAIN_MAX];
	uint64_t chain_ended, wrote_under;
	int64_t ended_ns;
	unsigned n_chain, holder, tries, n_parts;
	int status;
	bool holder_gone, recalled, observed, settled, anchored;
	uint8_t begun; /* in what was padding: 0 in records of older programs */
	struct participant parts[PARTS_KEPT];
};

struct kept_live {
	struct keep_slot slot; /* held[0]: the lock */
	int64_t version_id;
	_Atomic uint32_t current;
	struct run_state states[2];
};
_Static_assert(sizeof(struct kept_live) <= KEEP_DRAFT_SIZE, "a draft fits its record");

static void fill_state(const struct live *l, struct run_state *s)
{
	memset(s, 0, sizeof *s);
	memcpy(s->run_key, l->run_key, sizeof s->run_key);
	memcpy(s->chain, l->chain, sizeof s->chain);
	memcpy(s->chain_status, l->chain_status, sizeof s->chain_status);
	s->chain_ended = l->chain_ended;
	s->wrote_under = l->wrote_under;
	s->ended_ns = l->ended_ns;
	s->n_chain = l->n_chain;
	s->holder = l->holder;
	s->tries = l->tries;
	s->begun = l->begun;
	s->status = l->status;
	s->holder_gone = l->holder_gone;
	s->recalled = l->recalled;
	s->observed = l->observed;
	s->settled = l->settled && !l->acting;
	s->anchored = atomic_load(&l->anchored);
	for (unsigned i = 0; i < l->n_parts && s->n_parts < PARTS_KEPT; i++)
		if (l->parts[i].alive)
			s->parts[s->n_parts++] = l->parts[i];
}

void live_keep(struct live *l)
{
	struct kept_live *k = l->kept;
	if (!k)
		return;
	uint32_t next = 1 - atomic_load(&k->current);
	fill_state(l, &k->states[next]);
	atomic_store(&k->current, next);
}

void live_keep_begin(struct live *l)
{
	if (!l->kept) {
		l->kept = keep_take(l->table->r->keep, KEEP_DRAFTS);
		if (!l->kept)
			return;
		l->kept->version_id = l->version_id;
		keep_hold(&l->kept->slot, 0, l->lock_fd);
		fill_state(l, &l->kept->states[0]);
		keep_publish(l->kept);
	}
	live_keep(l);
}

void live_keep_end(struct live *l)
{
	keep_drop(l->table->r->keep, KEEP_DRAFTS, l->kept);
	l->kept = NULL;
}

/* ---- in the process after ---- */

int live_kept_read(struct live_table *t)
{
	struct keep *keep = t->r->keep;
	if (!keep)
		return 0;
	t->before = map64_new();
	int rc = t->before ? 0 : -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < keep_count(keep, KEEP_DRAFTS); i++) {
		struct kept_live *k = keep_at(keep, KEEP_DRAFTS, i);
		if (keep_state_of(k) == KEEP_USED)
			rc = map64_put(t->before, (uint64_t)k->version_id, k);
	}
	return rc;
}

struct kept_live *live_kept_take(struct live_table *t, int64_t version_id, int *ret_lock_fd)
{
	struct kept_live *k = t->before ? map64_remove(t->before, (uint64_t)version_id) : NULL;
	struct stat held, there;
	char name[64];
	if (!k)
		return NULL;
	int fd = keep_held(&k->slot, 0);
	snprintf(name, sizeof name, "drafts/%lld", (long long)version_id);
	if (fd >= 0 && fstat(fd, &held) == 0 && sys_fstatat(t->r->dirfd, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && held.st_ino == there.st_ino && held.st_dev == there.st_dev) {
		*ret_lock_fd = fd;
		return k;
	}
	live_kept_drop(t, k); /* its tree is gone: committed or discarded */
	return NULL;
}

void live_kept_drop(struct live_table *t, struct kept_live *k)
{
	int fd = keep_held(&k->slot, 0);
	keep_drop(t->r->keep, KEEP_DRAFTS, k);
	if (fd >= 0)
		close(fd);
}

int live_kept_restore(struct live *l, struct kept_live *k)
{
	const struct run_state *s = &k->states[atomic_load(&k->current) & 1];
	struct participant *parts = calloc(PARTS_KEPT, sizeof *parts);
	if (!parts)
		return -ENOMEM;
	memcpy(l->run_key, s->run_key, sizeof l->run_key);
	memcpy(l->chain, s->chain, sizeof l->chain);
	memcpy(l->chain_status, s->chain_status, sizeof l->chain_status);
	memcpy(parts, s->parts, s->n_parts * sizeof *parts);
	free(l->parts);
	l->parts = parts;
	l->n_parts = s->n_parts;
	l->cap_parts = PARTS_KEPT;
	l->chain_ended = s->chain_ended;
	l->wrote_under = s->wrote_under;
	l->ended_ns = s->ended_ns;
	l->n_chain = s->n_chain;
	l->holder = s->holder;
	l->tries = s->tries;
	l->begun = s->begun - (s->begun > 0 && l->table->r->excused);
	l->status = s->status;
	l->holder_gone = s->holder_gone;
	l->recalled = s->recalled;
	l->observed = s->observed;
	l->settled = s->settled;
	atomic_store(&l->anchored, s->anchored);
	l->kept = k;
	return 0;
}

static bool drop_before(uint64_t key, void *value, void *arg)
{
	live_kept_drop(arg, value);
	return true;
}

void live_pause(struct live_table *t)
{
	SCOPED_LOCK(&t->mutex);
	t->paused = true;
}

void live_resume(struct live_table *t)
{
	if (t->before) {
		map64_each(t->before, drop_before, t);
		map64_free(t->before);
		t->before = NULL;
	}
	if (t->watch)
		caller_watch_kept_done(t->watch);
	SCOPED_LOCK(&t->mutex);
	t->paused = false;
	live_settle_all(t);
}
