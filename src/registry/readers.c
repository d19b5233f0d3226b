/* Who read what: lineage without a word from the trainer.
 *
 * At each open of a committed file the drive says which thread opened a file of which version (registry_reading). A thread that did so for the same version a moment ago
 * costs one look at a slot. Else its process is identified while it waits for its open, since it may be gone a moment later, and put into a list; a thread writes
 * the list to the catalog. So a restart forgets at most the last moment, and all mounts of a store see the same. Processes that write a draft are noted in the same way.
 *
 * At a commit a reading process P belongs to draft D if
 *   - P wrote D itself, or P and the run of D have the same run id (with two different ids it does not), or
 *   - the nearest of P's ancestors of the same job that wrote any draft wrote D (data loaders below a trainer), or
 *   - P, or an ancestor before any such, holds D (the process that minted it, up to the one that holds it, a script say). Of what stands below a holder that does not
 *     write, only those count that have ended (the script's `cp`): a living one may be another trainer.
 * What a shell with job control starts is a job of its own: two trainers of one terminal never meet.
 *
 * Locks: `mutex` over the list; `flushing` over writing it, taken first. Slots are single words. */
#include "lineage.h"
#include "uses.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 4096
#define SLOT_NS 250000000LL /* a slot counts for this one and the next: at least a quarter, at most half a second */
#define QUEUE_MAX 65536     /* what waits to be written; beyond it is lost, with a warning */
#define FLUSH_AFTER_MS 200
#define SWEEP_EVERY_NS (30 * NS_PER_SEC)
#define PROCESSES_MAX 16384
#define READS_MAX 4096      /* versions remembered of one process */
#define LOOKS_MAX 1024      /* processes of a batch whose command line is read; others are known by their name */

struct event {
	struct event *next;
	struct caller_process self;
	uid_t uid;
	bool write;
	int64_t version_id, at_ns;
	char *chain, *run_key; /* owned; run_key may be NULL */
	char program[16];
	char *command; /* owned; as it is written */
	bool whole;
};

struct readers {
	struct registry *r;
	_Atomic uint64_t slots[SLOTS];
	pthread_mutex_t flushing;
	pthread_mutex_t mutex; /* below */
	pthread_cond_t wake;
	struct event *head, **tail;
	size_t n;
	bool stopping, lost;
	pthread_t thread;
	bool started;
	int64_t swept_ns; /* flushing */
	struct uses *uses;
};

/* ---- noting ---- */

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= UINT64_C(0xd6e8feb86659fd93);
	x ^= x >> 32;
	x *= UINT64_C(0xd6e8feb86659fd93);
	return x ^ x >> 32;
}

static uint64_t coarse_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (uint64_t)(timespec_ns(t) / SLOT_NS);
}

/* A slot holds 40 bits of who and what, and 24 bits of when. */
#define WHEN_MASK UINT64_C(0xffffff)

static bool noted_lately(struct readers *rs, uint64_t key, uint64_t now)
{
	uint64_t word = atomic_load_explicit(&rs->slots[key % SLOTS], memory_order_relaxed);
	return (word & ~WHEN_MASK) == (key & ~WHEN_MASK) && ((now - word) & WHEN_MASK) <= 1;
}

static void event_free(struct event *e)
{
	free(e->chain);
	free(e->run_key);
	free(e->command);
	free(e);
}

/* Ancestors of the same job, without a service above them. */
static char *job_chain(const struct caller *c)
{
	auto_buf struct buf b = BUF_INIT(4096);
	struct caller own = *c;
	run_leave_out_service(&own);
	for (unsigned i = 0; i < own.n_ancestors && i < c->n_job; i++)
		buf_printf(&b, "%s%d:%" PRIu64, i ? " " : "", (int)c->ancestors[i].pid, c->ancestors[i].start);
	return b.error ? NULL : b.len ? buf_take(&b) : strdup("");
}

static void enqueue(struct readers *rs, const struct caller *c, int64_t version_id, bool write)
{
	struct event *e = calloc(1, sizeof *e);
	if (!e)
		return;
	*e = (struct event){.self = c->self, .uid = c->uid, .write = write, .version_id = version_id, .at_ns = time_now_ns(), .chain = job_chain(c),
		.run_key = c->run_id[0] ? strdup(c->run_id) : NULL};
	memcpy(e->program, c->program, sizeof e->program);
	pthread_mutex_lock(&rs->mutex);
	bool room = e->chain && rs->n < QUEUE_MAX && !rs->stopping, first_loss = !room && !rs->lost;
	if (room) {
		*rs->tail = e;
		rs->tail = &e->next;
		if (rs->n++ == 0)
			pthread_cond_signal(&rs->wake);
	}
	rs->lost |= !room;
	pthread_mutex_unlock(&rs->mutex);
	if (!room)
		event_free(e);
	if (first_loss)
		log_warning(rs->r->log, "lineage: more is read than can be recorded; inputs may be missing");
}

static void note(struct readers *rs, int64_t version_id, const struct registry_actor *who, bool write)
{
	struct caller c;
	uint64_t key = mix((uint64_t)version_id * 2 + write) ^ mix((uint64_t)who->tid << 32 | who->uid), now = coarse_now();
	key = mix(key);
	if (who->tid == 0 || noted_lately(rs, key, now))
		return;
	caller_cache_identify(rs->r->callers, who->tid, who->uid, who->gid, &c);
	if (c.self.pid == 0)
		return;
	enqueue(rs, &c, version_id, write);
	atomic_store_explicit(&rs->slots[key % SLOTS], (key & ~WHEN_MASK) | (now & WHEN_MASK), memory_order_relaxed);
}

void registry_reading(struct registry *r, int64_t version_id, const struct registry_actor *who)
{
	if (r->readers)
		note(r->readers, version_id, who, false);
}

void readers_wrote(struct readers *rs, int64_t version_id, const struct registry_actor *who)
{
	if (rs)
		note(rs, version_id, who, true);
}

/* ---- into the catalog ---- */

struct flush_job { struct registry *r; struct event *events; };

static int flush_write(struct catalog_conn *conn, void *arg)
{
	struct flush_job *j = arg;
	int rc = 0;
	for (const struct event *e = j->events; e && rc == 0; e = e->next) {
		struct catalog_seen p = {.boot_id = j->r->boot_id, .pid = e->self.pid, .start = e->self.start, .chain = e->chain, .run_key = e->run_key, .uid = e->uid,
			.seen_ns = e->at_ns};
		int64_t id;
		const struct catalog_use use = {.version_id = e->version_id, .uid = e->uid, .host = j->r->host, .command = e->command, .whole = e->whole, .last_ns = e->at_ns};
		rc = catalog_seen_put(conn, &p, &id);
		if (rc == 0 && e->command)
			rc = uses_write(j->r, conn, &use, id);
		if (rc == 0)
			rc = e->write ? catalog_seen_write_put(conn, id, e->version_id) : catalog_seen_read_put(conn, id, e->version_id, e->at_ns);
	}
	return rc;
}

/* The oldest of those who wait, at most so many. */
static struct event *take_events(struct readers *rs, size_t most)
{
	SCOPED_LOCK(&rs->mutex);
	struct event *first = NULL, **end = &first;
	for (; rs->head && most > 0; most--, rs->n--) {
		*end = rs->head;
		end = &rs->head->next;
		rs->head = *end;
	}
	*end = NULL;
	if (!rs->head)
		rs->tail = &rs->head;
	return first;
}

static void flush(struct readers *rs, size_t most)
{
	SCOPED_LOCK(&rs->flushing);
	struct flush_job j = {rs->r, take_events(rs, most)};
	for (struct event *e = j.events; e; e = e->next)
		if (!e->write)
			e->command = uses_command(rs->uses, e->self, e->program, &e->whole);
	int rc = j.events ? catalog_write(rs->r->catalog, false, flush_write, &j) : 0;
	if (rc < 0)
		log_warning(rs->r->log, "lineage: what was read cannot be recorded: %s", strerror(-rc));
	for (struct event *e = j.events, *next; e; e = next) {
		next = e->next;
		event_free(e);
	}
}

void readers_flush(struct readers *rs)
{
	if (rs)
		flush(rs, SIZE_MAX);
}

/* ---- all that is remembered, in memory for a moment ---- */

struct proc {
	int64_t id;
	struct caller_process self;
	struct caller_process *chain; /* owned */
	unsigned n_chain;
	char *run_key; /* owned, or NULL */
	bool here;     /* of this boot of this host */
	bool reads, wrote, wrote_open, wrote_this;
};
struct procs { struct registry *r; struct proc *v; size_t n; };

static void procs_release(struct procs *ps)
{
	for (size_t i = 0; i < ps->n; i++) {
		free(ps->v[i].chain);
		free(ps->v[i].run_key);
	}
	free(ps->v);
}

static int add_proc(const struct catalog_seen *p, void *arg)
{
	struct procs *ps = arg;
	struct caller_process chain[CALLER_ANCESTORS_MAX];
	if ((ps->n & (ps->n - 1)) == 0) {
		struct proc *grown = realloc(ps->v, (ps->n ? 2 * ps->n : 1) * sizeof *grown);
		if (!grown)
			return -ENOMEM;
		ps->v = grown;
	}
	struct proc q = {.id = p->id, .self = {p->pid, p->start}, .here = !strcmp(p->boot_id, ps->r->boot_id), .reads = p->reads, .wrote = p->wrote,
		.wrote_open = p->wrote_open, .wrote_this = p->wrote_this};
	q.n_chain = run_chain_parse(p->chain, chain, ARRAY_SIZE(chain));
	q.chain = calloc(q.n_chain ? q.n_chain : 1, sizeof *q.chain);
	if (q.chain)
		memcpy(q.chain, chain, q.n_chain * sizeof *chain);
	q.run_key = p->run_key ? strdup(p->run_key) : NULL;
	ps->v[ps->n++] = q;
	return q.chain && (q.run_key || !p->run_key) ? 0 : -ENOMEM;
}

static int by_process(const void *a, const void *b)
{
	const struct proc *x = a, *y = b;
	if (x->self.pid != y->self.pid)
		return x->self.pid < y->self.pid ? -1 : 1;
	if (x->self.start != y->self.start)
		return x->self.start < y->self.start ? -1 : 1;
	return (y->here > x->here) - (y->here < x->here);
}

static const struct proc *find_proc(const struct procs *ps, struct caller_process self)
{
	struct proc key = {.self = self, .here = true};
	return ps->n ? bsearch(&key, ps->v, ps->n, sizeof key, by_process) : NULL;
}

static int load(struct procs *ps, struct catalog_conn *conn, int64_t draft_id)
{
	int rc = catalog_seen_list(conn, draft_id, add_proc, ps);
	if (rc == 0 && ps->n)
		qsort(ps->v, ps->n, sizeof *ps->v, by_process);
	return rc;
}

/* ---- what a draft was made from ---- */

struct draft_run {
	char *key; /* run id, or NULL */
	struct caller_process holders[1 + CALLER_ANCESTORS_MAX];
	unsigned n_holders;
};

static bool holds(const struct draft_run *d, struct caller_process p)
{
	for (unsigned i = 0; i < d->n_holders; i++)
		if (caller_same(d->holders[i], p))
			return true;
	return false;
}

static bool belongs(const struct procs *ps, const struct proc *p, const struct draft_run *d)
{
	if (p->wrote_this)
		return true;
	if (d->key && p->run_key)
		return !strcmp(d->key, p->run_key);
	if (!p->here)
		return false;
	for (unsigned i = 0; i <= p->n_chain; i++) {
		struct caller_process x = i ? p->chain[i - 1] : p->self;
		const struct proc *known = i ? find_proc(ps, x) : p;
		if (known && known->wrote_this)
			return true;
		if (holds(d, x))
			return i == 0 || !caller_alive(p->self);
		if (known && known->wrote)
			return false;
	}
	return false;
}

static int describe_run(struct registry *r, struct catalog_conn *conn, const struct catalog_version *v, struct draft_run *d)
{
	struct catalog_run run;
	auto_live struct live *l = live_find(r->live, v->id);
	if (l)
		d->n_holders = live_holders(l, d->holders, ARRAY_SIZE(d->holders));
	int rc = catalog_run_get(conn, v->run_id, &run);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	d->key = take_ptr(run.key);
	if (!l && run.boot_id && !strcmp(run.boot_id, r->boot_id)) {
		d->n_holders = run_chain_parse(run.chain ? run.chain : "", d->holders, ARRAY_SIZE(d->holders));
		unsigned n = 0;
		while (n < d->n_holders && !caller_alive(d->holders[n]))
			n++;
		d->n_holders = n < d->n_holders ? n + 1 : n;
	}
	catalog_run_release(&run);
	return 0;
}

struct collecting { struct lineage *to; int64_t self; };

static int collect(int64_t version_id, void *arg)
{
	struct collecting *c = arg;
	return version_id == c->self ? 0 : lineage_add(c->to, version_id, CATALOG_OBSERVED);
}

int readers_collect(struct registry *r, const struct catalog_version *v, struct lineage *to)
{
	__attribute__((cleanup(procs_release))) struct procs ps = {.r = r};
	struct draft_run d = {0};
	struct collecting c = {to, v->id};
	auto_read struct catalog_conn *conn = NULL;
	readers_flush(r->readers);
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = load(&ps, conn, v->id);
	if (rc == 0 && ps.n)
		rc = describe_run(r, conn, v, &d);
	for (size_t i = 0; rc == 0 && i < ps.n; i++)
		if (ps.v[i].reads && belongs(&ps, &ps.v[i], &d))
			rc = catalog_seen_read_list(conn, ps.v[i].id, collect, &c);
	free(d.key);
	return rc;
}

/* ---- forgetting ---- */

/* What a process that has ended leaves behind: nothing, or its reads to the nearest ancestor that may still write. */
struct fate { int64_t id, heir_id; struct caller_process heir; struct buf chain; bool make; };
struct sweep { struct procs ps; struct fate *fates; size_t n; };

static void choose_heir(const struct procs *ps, const struct proc *p, struct fate *f)
{
	for (unsigned i = 0; i < p->n_chain; i++) {
		const struct proc *known = find_proc(ps, p->chain[i]);
		bool alive = caller_alive(p->chain[i]);
		if (!alive && !(known && known->wrote_open))
			continue;
		f->heir = p->chain[i];
		f->heir_id = known ? known->id : 0;
		f->make = !known;
		for (unsigned k = i + 1; f->make && k < p->n_chain; k++)
			buf_printf(&f->chain, "%s%d:%" PRIu64, f->chain.len ? " " : "", (int)p->chain[k].pid, p->chain[k].start);
		return;
	}
}

static void judge(struct sweep *s, const struct proc *p)
{
	if (p->wrote_open || (p->here && caller_alive(p->self)))
		return;
	struct fate *f = &s->fates[s->n++];
	*f = (struct fate){.id = p->id, .chain = BUF_INIT(4096)};
	if (p->here && !p->wrote && p->reads)
		choose_heir(&s->ps, p, f);
}

static int sweep_write(struct catalog_conn *conn, void *arg)
{
	struct sweep *s = arg;
	int rc = 0;
	for (size_t i = 0; i < s->n && rc == 0; i++) {
		struct fate *f = &s->fates[i];
		int64_t heir = f->heir_id;
		if (f->make) {
			struct catalog_seen p = {.boot_id = s->ps.r->boot_id, .pid = f->heir.pid, .start = f->heir.start, .chain = buf_text(&f->chain), .seen_ns = time_now_ns()};
			rc = catalog_seen_put(conn, &p, &heir);
		}
		if (rc == 0 && heir)
			rc = catalog_seen_move(conn, f->id, heir);
		if (rc == 0)
			rc = catalog_seen_drop(conn, f->id);
	}
	return rc == 0 ? catalog_seen_trim(conn, PROCESSES_MAX, READS_MAX) : rc;
}

/* Those that ended, oldest last: a grandchild's reads may go by its parent. What the parent leaves in the same sweep goes with the next one. */
static void sweep(struct readers *rs)
{
	struct sweep s = {.ps = {.r = rs->r}};
	struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(rs->r->catalog, &conn);
	if (rc == 0)
		rc = load(&s.ps, conn, 0);
	catalog_read_end(conn);
	if (rc == 0 && s.ps.n && !(s.fates = calloc(s.ps.n, sizeof *s.fates)))
		rc = -ENOMEM;
	for (size_t i = 0; rc == 0 && i < s.ps.n; i++)
		judge(&s, &s.ps.v[i]);
	if (rc == 0 && s.n)
		rc = catalog_write(rs->r->catalog, false, sweep_write, &s);
	if (rc < 0)
		log_warning(rs->r->log, "lineage: processes that have ended cannot be forgotten: %s", strerror(-rc));
	for (size_t i = 0; i < s.n; i++)
		buf_release(&s.fates[i].chain);
	free(s.fates);
	procs_release(&s.ps);
}

/* ---- the thread ---- */

/* The command lines of those who wait to be written; each process once, most often. Who comes meanwhile is not among them: answers how many there were, SIZE_MAX where they were too many to look at. */
static size_t look_at_commands(struct readers *rs)
{
	struct caller_process found[LOOKS_MAX];
	size_t n = 0;
	pthread_mutex_lock(&rs->mutex);
	size_t waiting = rs->n;
	for (const struct event *e = rs->head; e && n < LOOKS_MAX; e = e->next)
		if (!e->write && !(n && caller_same(found[n - 1], e->self)))
			found[n++] = e->self;
	pthread_mutex_unlock(&rs->mutex);
	for (size_t i = 0; i < n; i++)
		uses_look(rs->uses, found[i]);
	return n < LOOKS_MAX ? waiting : SIZE_MAX;
}

static bool wait_for_first(struct readers *rs)
{
	SCOPED_LOCK(&rs->mutex);
	while (rs->n == 0 && !rs->stopping)
		pthread_cond_wait(&rs->wake, &rs->mutex);
	return !rs->stopping;
}

/* A moment, so that many go together. */
static bool wait_for_more(struct readers *rs)
{
	struct timespec until = ns_timespec(time_monotonic_ns() + FLUSH_AFTER_MS * (NS_PER_SEC / 1000));
	SCOPED_LOCK(&rs->mutex);
	while (!rs->stopping && pthread_cond_timedwait(&rs->wake, &rs->mutex, &until) == 0)
		;
	return !rs->stopping;
}

static void *run_thread(void *arg)
{
	struct readers *rs = arg;
	sweep(rs); /* of what an earlier daemon left */
	rs->swept_ns = time_monotonic_ns();
	while (wait_for_first(rs)) {
		look_at_commands(rs); /* at once: it may be gone in a moment */
		if (!wait_for_more(rs))
			break;
		sys_crash_point("readers.waited");
		size_t looked_at = look_at_commands(rs); /* a shell may be another program by now */
		sys_crash_point("readers.looked");
		flush(rs, looked_at);
		if (time_monotonic_ns() - rs->swept_ns > SWEEP_EVERY_NS) {
			sweep(rs);
			rs->swept_ns = time_monotonic_ns();
		}
	}
	return NULL;
}

int readers_new(struct registry *r, struct readers **ret)
{
	pthread_condattr_t monotonic;
	sigset_t all, old;
	struct readers *rs = calloc(1, sizeof *rs);
	if (!rs)
		return -ENOMEM;
	rs->r = r;
	rs->uses = uses_new();
	if (!rs->uses) {
		free(rs);
		return -ENOMEM;
	}
	rs->tail = &rs->head;
	pthread_mutex_init(&rs->flushing, NULL);
	pthread_mutex_init(&rs->mutex, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&rs->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	sigfillset(&all); /* signals are for the main program */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int rc = pthread_create(&rs->thread, NULL, run_thread, rs);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	rs->started = rc == 0;
	if (rc != 0) {
		readers_free(rs);
		return -rc;
	}
	*ret = rs;
	return 0;
}

void readers_free(struct readers *rs)
{
	if (!rs)
		return;
	pthread_mutex_lock(&rs->mutex);
	rs->stopping = true;
	pthread_cond_signal(&rs->wake);
	pthread_mutex_unlock(&rs->mutex);
	if (rs->started)
		pthread_join(rs->thread, NULL);
	readers_flush(rs);
	pthread_cond_destroy(&rs->wake);
	pthread_mutex_destroy(&rs->mutex);
	pthread_mutex_destroy(&rs->flushing);
	uses_free(rs->uses);
	free(rs);
}
