/* The processes of a run: who holds a draft, who takes part, who may read it as `latest`. See live.c for the rules. */
#include "live.h"

#include <errno.h>
#include <string.h>

/* ---- the holder ---- */

/* False: it has ended. One that cannot be watched, for want of memory say, counts as alive for ever: its draft waits for a person. uid: whose share of descriptors it takes. */
static bool watch(struct live_table *t, struct caller_process p, uid_t uid)
{
	uid_t who = uid == 0 || uid == t->r->owner ? CALLER_NO_SHARE : uid;
	return t->watch && caller_watch_add(t->watch, p, who) != -ESRCH;
}

/* The run ended with chain[i]. */
static void run_ended_with(struct live *l, unsigned i, int status)
{
	l->holder = i;
	l->holder_gone = true;
	if (status != 0)
		l->status = status;
}

/* The hold goes to the first living process from chain[from] on. The ends of processes are not told in their order: a shell may be gone when its mkdir's end is
 * heard of. It is passed over only if the run could have gone on without it. */
static void hold_from(struct live_table *t, struct live *l, unsigned from)
{
	unsigned i = from;
	for (; i < l->n_chain && !watch(t, l->chain[i], l->uid); i++) {
		bool seen = l->chain_ended & (1ULL << i), wrote = l->wrote_under & (1ULL << i);
		int status = seen ? l->chain_status[i] : wrote ? -1 : 0;
		if (wrote || status > 0) {
			run_ended_with(l, i, status);
			return;
		}
	}
	l->holder = i;
	l->holder_gone = i >= l->n_chain;
}

void live_hold_first(struct live_table *t, struct live *l)
{
	if (!t->watch || (l->n_chain == 0 && !l->holder_gone))
		return; /* minted by somebody who cannot be seen: never ends by itself */
	hold_from(t, l, l->holder);
	if (l->holder_gone) {
		if (l->ended_ns == 0) { /* else its end is on record */
			l->status = -1;
			l->ended_ns = time_now_ns();
		}
		live_settle_soon(t, l);
	}
	live_keep(l);
}

static void holder_ended(struct live_table *t, struct live *l, int status)
{
	if (status > 0 || l->wrote_under & (1ULL << l->holder))
		run_ended_with(l, l->holder, status);
	else
		hold_from(t, l, l->holder + 1);
}

/* ---- those who take part ---- */

static bool tracked_alive(const struct live *l, struct caller_process p)
{
	if (!l->holder_gone && l->holder < l->n_chain && caller_same(l->chain[l->holder], p))
		return true;
	for (unsigned i = 0; i < l->n_parts; i++)
		if (l->parts[i].alive && caller_same(l->parts[i].process, p))
			return true;
	return false;
}

static void participant_ended(struct live *l, struct participant *p, int status)
{
	p->alive = false;
	if (status != 0 && p->of_run && !(p->cover.pid && tracked_alive(l, p->cover)))
		l->status = status;
}

bool live_run_over(const struct live *l)
{
	if (!l->holder_gone)
		return false;
	for (unsigned i = 0; i < l->n_parts; i++)
		if (l->parts[i].alive)
			return false;
	return true;
}

struct ended { struct live_table *t; struct caller_process p; int status; };

static void note_chain_end(struct live *l, const struct ended *e)
{
	for (unsigned i = 0; i < l->n_chain; i++)
		if (caller_same(l->chain[i], e->p)) {
			l->chain_ended |= 1ULL << i;
			l->chain_status[i] = e->status;
		}
}

static bool process_ended_in(uint64_t key, void *value, void *arg)
{
	struct live *l = value;
	struct ended *e = arg;
	bool held = !l->holder_gone && l->holder < l->n_chain && caller_same(l->chain[l->holder], e->p), part = false;
	note_chain_end(l, e);
	for (unsigned i = 0; i < l->n_parts; i++)
		if (l->parts[i].alive && caller_same(l->parts[i].process, e->p)) {
			participant_ended(l, &l->parts[i], e->status);
			part = true;
		}
	if (held)
		holder_ended(e->t, l, e->status);
	if ((held || part) && live_run_over(l)) {
		l->ended_ns = time_now_ns();
		live_settle_soon(e->t, l);
	}
	live_keep(l);
	return true;
}

void live_process_ended(struct caller_process p, int status, void *arg)
{
	struct live_table *t = arg;
	struct ended e = {t, p, status};
	SCOPED_LOCK(&t->mutex);
	if (t->stopped)
		return;
	map64_each(t->by_version, process_ended_in, &e);
	for (struct live *l = t->after; l; l = l->next_of_model)
		process_ended_in((uint64_t)l->version_id, l, &e);
}

/* The state of a run from the process before this one: its processes are watched again. The end of one that came meanwhile is heard of by its pidfd; where there
 * is none it is over, nobody knows how. */
void live_follow_again(struct live_table *t, struct live *l)
{
	for (unsigned i = 0; i < l->n_parts; i++)
		if (l->parts[i].alive && !watch(t, l->parts[i].process, l->parts[i].uid))
			participant_ended(l, &l->parts[i], -1);
	if (!l->holder_gone && l->holder < l->n_chain && !watch(t, l->chain[l->holder], l->uid))
		holder_ended(t, l, -1);
	if (live_run_over(l) && !l->ended_ns)
		l->ended_ns = time_now_ns();
	live_keep(l);
}

/* ---- joining ---- */

/* Index in chain of the nearest process that is the caller or its ancestor; n_chain: none. */
static unsigned kin(const struct live *l, const struct caller *c, unsigned *ret_distance)
{
	for (unsigned i = 0; i < l->n_chain; i++) {
		if (caller_same(l->chain[i], c->self)) {
			*ret_distance = 0;
			return i;
		}
		for (unsigned a = 0; a < c->n_ancestors; a++)
			if (caller_same(l->chain[i], c->ancestors[a])) {
				*ret_distance = a + 1;
				return i;
			}
	}
	return l->n_chain;
}

static bool joined_recently(struct live *l, pid_t tid)
{
	for (unsigned i = 0; i < LIVE_RECENT; i++)
		if (l->recent[i].tid == tid && l->recent[i].part < l->n_parts && l->parts[l->recent[i].part].alive)
			return true;
	return false;
}

static void note_recent(struct live *l, pid_t tid, unsigned part)
{
	l->recent[l->next_recent % LIVE_RECENT].tid = tid;
	l->recent[l->next_recent++ % LIVE_RECENT].part = part;
}

static struct caller_process find_cover(const struct live *l, const struct caller *c)
{
	for (unsigned a = 0; a < c->n_ancestors; a++)
		if (tracked_alive(l, c->ancestors[a]))
			return c->ancestors[a];
	return (struct caller_process){0};
}

/* The nearest of them may be the next holder: it is watched from now on, so that its status is known when it ends before that. */
static void mark_written(struct live_table *t, struct live *l, const struct caller *c)
{
	bool nearest = true;
	for (unsigned i = 0; i < l->n_chain; i++) {
		bool under = caller_same(l->chain[i], c->self);
		for (unsigned a = 0; !under && a < c->n_ancestors; a++)
			under = caller_same(l->chain[i], c->ancestors[a]);
		if (!under)
			continue;
		l->wrote_under |= 1ULL << i;
		if (nearest)
			watch(t, l->chain[i], l->uid);
		nearest = false;
	}
}

static bool same_run_id(const struct live *l, const struct caller *c) { return live_same_id(l->run_key, l->uid, c); }

/* A run that has ended is taken up again by the same run id, or by hand under a process that could hold it (the shell): that one holds it from now on. Anybody
 * else who writes into a draft left over only edits it. */
static bool take_up_again(struct live_table *t, struct live *l, const struct caller *c)
{
	unsigned distance, i = kin(l, c, &distance);
	bool same_id = same_run_id(l, c);
	if (!same_id && i == l->n_chain)
		return false;
	if (!same_id)
		hold_from(t, l, i);
	l->status = 0;
	l->ended_ns = 0;
	l->settled = false;
	l->tries = l->begun = 0;
	return true;
}

/* Room for one more. The dead make it first: a shell's thousand cp are not remembered. */
static int make_room(struct live *l)
{
	unsigned kept = 0;
	if (l->n_parts < l->cap_parts)
		return 0;
	for (unsigned i = 0; i < l->n_parts; i++)
		if (l->parts[i].alive)
			l->parts[kept++] = l->parts[i];
	l->n_parts = kept;
	memset(l->recent, 0, sizeof l->recent);
	if (kept < l->cap_parts / 2)
		return 0;
	unsigned cap = l->cap_parts ? 2 * l->cap_parts : 8;
	struct participant *parts = realloc(l->parts, cap * sizeof *parts);
	if (!parts)
		return -ENOMEM;
	l->parts = parts;
	l->cap_parts = cap;
	return 0;
}

static int add_participant(struct live_table *t, struct live *l, const struct caller *c, unsigned *ret_index)
{
	unsigned distance;
	for (unsigned i = 0; i < l->n_parts; i++)
		if (caller_same(l->parts[i].process, c->self)) {
			*ret_index = i;
			return l->parts[i].alive ? 0 : -ESRCH;
		}
	int rc = make_room(l);
	if (rc < 0)
		return rc;
	if (!watch(t, c->self, c->uid))
		return -ESRCH;
	struct participant p = {.process = c->self, .cover = find_cover(l, c), .alive = true, .uid = c->uid};
	p.of_run = p.cover.pid || same_run_id(l, c) || kin(l, c, &distance) < l->n_chain;
	if (p.of_run && (!p.cover.pid || l->recalled)) {
		l->status = 0; /* a failure before it, or what nobody knows, stands no more */
		l->recalled = false;
	}
	*ret_index = l->n_parts;
	l->parts[l->n_parts++] = p;
	return 0;
}

void live_joined(struct live *l, const struct registry_actor *who)
{
	struct live_table *t = l->table;
	struct caller c;
	bool reopened = false, observe = false;
	if (who->tid == 0)
		return;
	pthread_mutex_lock(&t->mutex);
	bool known = !t->watch || joined_recently(l, who->tid);
	pthread_mutex_unlock(&t->mutex);
	if (known)
		return;
	caller_cache_identify(t->r->callers, who->tid, who->uid, who->gid, &c);
	if (c.self.pid == 0)
		return;
	pthread_mutex_lock(&t->mutex);
	unsigned part;
	if (t->watch && !l->removed && (!l->settled || (reopened = take_up_again(t, l, &c))) && add_participant(t, l, &c, &part) == 0) {
		mark_written(t, l, &c);
		note_recent(l, who->tid, part);
		observe = !l->observed;
		l->observed = true;
	}
	live_keep(l);
	bool is_minter = l->n_chain && caller_same(l->chain[0], c.self);
	pthread_mutex_unlock(&t->mutex);
	if (reopened)
		live_record_reopened(l);
	if (observe && !is_minter)
		run_observe(t->r, l->run_id, c.self, who->uid, who->gid);
}

unsigned live_holders(struct live *l, struct caller_process *out, unsigned max)
{
	SCOPED_LOCK(&l->table->mutex);
	unsigned n = 0;
	while (n < l->n_chain && n <= l->holder && n < max) {
		out[n] = l->chain[n];
		n++;
	}
	return n;
}

/* ---- latest ---- */

/* Is the caller in the draft's run? Then *ret_distance tells how near (0: the same run id, or the holder itself). */
static bool in_run(const struct live *l, const struct caller *c, unsigned *ret_distance)
{
	if (same_run_id(l, c)) {
		*ret_distance = 0;
		return true;
	}
	if (l->run_key[0] && c->run_id[0] && strcmp(l->run_key, c->run_id) != 0)
		return false;
	if (c->self.pid == 0)
		return false;
	unsigned i = kin(l, c, ret_distance);
	if (i == l->n_chain)
		return false;
	for (unsigned nearer = 0; nearer < i; nearer++) /* the holder is the first living one: none before i may live */
		if (nearer >= l->holder && caller_alive(l->chain[nearer]))
			return false;
	return true;
}

int live_latest(struct live_table *t, int64_t model_id, const struct caller *c, uint32_t *ret_number)
{
	unsigned best = ~0u;
	uint32_t number = 0;
	SCOPED_LOCK(&t->mutex);
	for (struct live *l = map64_get(t->by_model, (uint64_t)model_id); l; l = l->next_of_model) {
		unsigned distance;
		if (!in_run(l, c, &distance) || distance > best || (distance == best && l->number < number))
			continue;
		best = distance;
		number = l->number;
	}
	if (!number)
		return -ENOENT;
	*ret_number = number;
	return 0;
}

bool live_run_alive(struct live *l)
{
	SCOPED_LOCK(&l->table->mutex);
	if (!l->holder_gone && l->holder < l->n_chain)
		return true;
	for (unsigned i = 0; i < l->n_parts; i++)
		if (l->parts[i].alive)
			return true;
	return false;
}
