/* The writer: one connection, one transaction for all the jobs that wait, run by one of those who wait.
 *
 *   catalog_write            queues a job on its own stack; if nobody has the connection it takes it, else it sleeps until it is answered, or
 *                            until the connection is free and its turn has come
 *   who has the connection   takes the whole queue as a group:
 *     store lock → BEGIN IMMEDIATE → each job in a savepoint → COMMIT → answer all → unlock → wake the next of those who wait
 *   the resting thread       syncs and checkpoints when nobody writes; runs the groups of callers of low priority, for whom others would have to wait
 *
 * A thread of its own for all groups would cost two wake-ups a write, each some 40 µs where a processor has to leave its idle state.
 *
 * Invariants:
 *  - `busy` says that somebody has the connection: `owner`. Only the owner touches conn, log_pages and checkpoint_pages.
 *  - Whoever gives the connection back wakes the first of the queue: so either somebody has it, or is about to take it, or nobody waits.
 *  - No job is answered before the fate of its transaction is known, a refusal neither: it may rest on what a neighbour wrote.
 *  - A job that loses the whole transaction (SQLite rolls back by itself on a full disk, for one) is answered with its error; the
 *    others are run again, from the first. Each new run has one job less, so this ends.
 *  - A durable group commits with synchronous=FULL: if the sync fails, nothing was committed. Nothing written, no sync by COMMIT:
 *    then the log is synced by itself, since what was written before must be durable too.
 *  - `unsynced` is true from the moment of opening: a process that died may have left something in the log that never was synced.
 *  - Write transactions and checkpoints happen under the store's lock only. A sync of the log needs no lock. */
#include "internal.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#define WRITER_NAME "mintfs-catalog"
#define IDLE_SYNC_NS (100 * 1000000LL)
#define CHECKPOINT_PAGES 4000      /* since the last one, some 16 MB of log: a checkpoint in the midst of work */
#define CHECKPOINT_REST_PAGES 500  /* enough for one where nobody waits for it */

struct writer_job {
	catalog_write_fn *fn; /* NULL: only a sync is wanted */
	void *arg;
	bool durable;
	bool lost; /* took its whole transaction down: not run again */
	bool low;  /* its thread has a low priority: it leads no group */
	bool done;
	int result;
	pthread_cond_t turn; /* answered, or the first of the queue while the connection is free */
	struct writer_job *next;
};

void writer_init(struct writer *w)
{
	pthread_condattr_t attr;
	pthread_mutex_init(&w->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->wake, &attr);
	pthread_condattr_destroy(&attr);
	w->tail = &w->head;
	w->unsynced = true;
	w->may_sync = true;
	w->schema = -1;
	w->rest_ns = IDLE_SYNC_NS;
	w->nice = getpriority(PRIO_PROCESS, 0);
}

/* ---- who has the connection ---- */

/* w->mutex is held, and nobody has it. */
static void take_connection(struct writer *w)
{
	w->busy = true;
	w->owner = pthread_self();
}

/* w->mutex is held. The resting thread is woken only where it would not look by itself soon enough. */
static void give_connection_back(struct writer *w)
{
	struct writer_job *next = w->head;
	w->busy = false;
	w->waiting_pages = w->log_pages - w->checkpoint_pages;
	w->wants_sync = w->unsynced && w->may_sync && w->conn;
	w->free_since_ns = time_monotonic_ns();
	bool overdue = w->waiting_pages >= CHECKPOINT_PAGES;
	if (overdue || w->closing || (next && next->low) || (w->sleeping && (w->wants_sync || w->waiting_pages >= CHECKPOINT_REST_PAGES)))
		pthread_cond_signal(&w->wake);
	if (next && !next->low && !overdue)
		pthread_cond_signal(&next->turn);
}

/* w->mutex is held. The queue, in its order. */
static struct writer_job *take_group(struct writer *w)
{
	struct writer_job *group = w->head;
	w->head = NULL;
	w->tail = &w->head;
	w->n_queued = 0;
	return group;
}

/* ---- one transaction ---- */

/* In the transaction: nobody can change it any more. */
static int verify_schema(struct catalog *c, struct fault *f)
{
	struct writer *w = &c->writer;
	int64_t cookie = 0;
	int format;
	int error = schema_format(w->conn->db, &format);
	if (!error && format != c->plan->format)
		return fault_set(f, EPROTONOSUPPORT, "%s/" CATALOG_FILE_NAME " was upgraded to format %d while it was open here", c->where, format);
	if (!error)
		error = schema_cookie(w->conn->db, &cookie);
	if (error || cookie == w->schema)
		return error;
	error = schema_verify(w->conn->db, c->plan, c->plan->format, c->where, f);
	if (!error)
		w->schema = cookie;
	return error;
}

/* For who is refused what he writes: catalog_write has no words. */
static void note_refusal(struct catalog *c, const struct fault *f)
{
	struct writer *w = &c->writer;
	if (f->error)
		log_error(c->log, "catalog: %s", f->text);
	SCOPED_LOCK(&w->mutex);
	w->refusal = *f;
}

int catalog_write_refusal(struct catalog *c, struct fault *f)
{
	struct writer *w = &c->writer;
	SCOPED_LOCK(&w->mutex);
	if (w->refusal.error)
		*f = w->refusal;
	return -w->refusal.error;
}

static int begin(struct catalog *c, bool durable)
{
	struct sql *db = c->writer.conn->db;
	struct fault f = FAULT_INIT;
	int error = sql_set_sync(db, durable);
	if (!error)
		error = sql_run(db, "BEGIN IMMEDIATE");
	if (!error)
		error = verify_schema(c, &f);
	note_refusal(c, &f);
	return error;
}

static void roll_back(struct sql *db)
{
	if (sql_in_transaction(db))
		sql_run(db, "ROLLBACK");
}

/* Runs one job in its savepoint. False: the transaction is gone, with it what the jobs before did. */
static bool run_job(struct catalog_conn *conn, struct writer_job *job)
{
	struct sql *db = conn->db;
	int error = sql_run(db, "SAVEPOINT job");
	if (!error) {
		job->result = job->fn(conn, job->arg);
		if (!sql_in_transaction(db))
			error = -EIO;
		else if (job->result < 0)
			error = sql_run(db, "ROLLBACK TO job");
		if (!error)
			error = sql_run(db, "RELEASE job");
	}
	if (!error)
		return true;
	if (job->result >= 0)
		job->result = error;
	job->lost = true;
	roll_back(db);
	return false;
}

/* Runs the jobs of a group that are not lost. The results of all of them are set; an error here is the answer to each. */
static int transact(struct catalog *c, struct writer_job *group, bool durable)
{
	struct sql *db = c->writer.conn->db;
	struct writer_job *job;
	int error;
	do {
		error = begin(c, durable);
		for (job = error ? NULL : group; job; job = job->next) {
			job->result = job->lost ? job->result : 0;
			if (job->fn && !job->lost && !run_job(c->writer.conn, job))
				break;
		}
	} while (job);
	if (!error)
		error = sql_run(db, "COMMIT");
	if (error)
		roll_back(db);
	return error;
}

/* ---- one group ---- */

static void answer(struct writer *w, struct writer_job *group, int error, bool unsynced)
{
	SCOPED_LOCK(&w->mutex);
	w->unsynced = unsynced;
	for (struct writer_job *next, *job = group; job; job = next) {
		next = job->next; /* the job lives on the stack of who waits for it */
		if (error && !job->lost)
			job->result = error;
		job->done = true;
		pthread_cond_signal(&job->turn);
	}
}

static bool is_unsynced(struct writer *w)
{
	SCOPED_LOCK(&w->mutex);
	return w->unsynced;
}

static int sync_log(struct writer *w)
{
	int error = sql_sync_log(w->conn->db);
	SCOPED_LOCK(&w->mutex);
	w->n_syncs++;
	return error;
}

/* The store's lock is held. What readers hold back will be done by a later one. */
static void checkpoint(struct writer *w)
{
	sql_checkpoint(w->conn->db, false);
	w->checkpoint_pages = w->log_pages;
}

static void note_log(struct writer *w, int log_pages)
{
	if (log_pages < w->checkpoint_pages) /* the log began anew */
		w->checkpoint_pages = 0;
	w->log_pages = log_pages;
}

/* The store's lock is held. */
static void run_transaction(struct catalog *c, struct writer_job *group, bool durable)
{
	struct writer *w = &c->writer;
	int log_pages = 0;
	bool unsynced = is_unsynced(w);
	int error = transact(c, group, durable);
	bool wrote = sql_take_wrote(w->conn->db, &log_pages);
	if (!error && durable && !wrote && unsynced)
		error = sync_log(w);
	if (!error)
		unsynced = durable ? false : unsynced || wrote;
	if (wrote) {
		SCOPED_LOCK(&w->mutex);
		w->n_commits++;
	}
	answer(w, group, error, unsynced);
	if (wrote)
		note_log(w, log_pages);
}

static int connect_writer(struct catalog *c)
{
	return c->writer.conn ? 0 : catalog_connect(c, SQL_WRITER, &c->writer.conn);
}

static void run_group(struct catalog *c, struct writer_job *group)
{
	struct writer *w = &c->writer;
	bool durable = false, any = false;
	for (const struct writer_job *job = group; job; job = job->next) {
		durable |= job->durable;
		any |= job->fn != NULL;
	}
	int error = connect_writer(c);
	if (!error && !any) {
		error = sync_log(w);
		answer(w, group, error, error != 0);
		return;
	}
	if (!error)
		error = store_lock(c, true);
	if (error) {
		answer(w, group, error, is_unsynced(w));
		return;
	}
	run_transaction(c, group, durable);
	store_unlock(c);
}

/* ---- the resting thread ---- */

/* What nobody waits for; the thread has the connection. */
static void rest(struct catalog *c)
{
	struct writer *w = &c->writer;
	int pages = w->log_pages - w->checkpoint_pages;
	if (is_unsynced(w) && w->may_sync) {
		w->may_sync = !sync_log(w);
		answer(w, NULL, 0, !w->may_sync);
	}
	if (pages < CHECKPOINT_REST_PAGES)
		return;
	w->checkpoint_pages = w->log_pages; /* also if another process is at work just now: then later */
	if (store_lock(c, pages >= CHECKPOINT_PAGES) == 0) {
		checkpoint(w);
		store_unlock(c);
	}
}

/* By its name the keeper tells the thread for which everybody waits (src/fs/hangs.c), whichever it is at the moment. */
static void run_group_named(struct catalog *c, struct writer_job *group)
{
	char name[16];
	bool renamed = pthread_getname_np(pthread_self(), name, sizeof name) == 0 && pthread_setname_np(pthread_self(), WRITER_NAME) == 0;
	run_group(c, group);
	if (renamed)
		pthread_setname_np(pthread_self(), name);
}

/* w->mutex is held; let go meanwhile. A group, or NULL: a rest. */
static void work(struct catalog *c, struct writer_job *group)
{
	struct writer *w = &c->writer;
	take_connection(w);
	pthread_mutex_unlock(&w->mutex);
	if (group) {
		run_group_named(c, group);
		w->may_sync = w->conn != NULL;
	} else {
		rest(c);
	}
	pthread_mutex_lock(&w->mutex);
	give_connection_back(w);
}

/* w->mutex is held. When the resting thread has something to do, by CLOCK_MONOTONIC in ns; INT64_MAX: not before somebody writes. */
static int64_t rest_due(const struct writer *w)
{
	if (w->waiting_pages >= CHECKPOINT_PAGES)
		return 0;
	if (w->wants_sync || w->waiting_pages >= CHECKPOINT_REST_PAGES)
		return w->free_since_ns + w->rest_ns;
	return INT64_MAX;
}

/* w->mutex is held. */
static void sleep_until(struct writer *w, int64_t due)
{
	w->sleeping = due == INT64_MAX;
	if (w->sleeping) {
		pthread_cond_wait(&w->wake, &w->mutex);
	} else {
		struct timespec until = ns_timespec(due);
		pthread_cond_timedwait(&w->wake, &w->mutex, &until);
	}
	w->sleeping = false;
}

static void *rest_main(void *arg)
{
	struct catalog *c = arg;
	struct writer *w = &c->writer;
	pthread_mutex_lock(&w->mutex);
	while (!w->closing || w->busy || w->head) {
		int64_t now = time_monotonic_ns(), due = rest_due(w);
		if (w->busy)
			sleep_until(w, due == INT64_MAX ? due : now + w->rest_ns);
		else if (due == 0 || (due <= now && !w->head))
			work(c, NULL);
		else if (w->head && w->head->low)
			work(c, take_group(w));
		else
			sleep_until(w, due <= now ? now + w->rest_ns : due);
	}
	pthread_mutex_unlock(&w->mutex);
	return NULL;
}

/* Signals are for the threads of the program, not for this one. */
static int start_thread(struct catalog *c)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int error = pthread_create(&c->writer.thread, NULL, rest_main, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	c->writer.started = !error;
	if (!error)
		pthread_setname_np(c->writer.thread, WRITER_NAME);
	return -error;
}

/* ---- the door ---- */

/* w->mutex is held. Is it this thread that everybody would wait for? */
static bool is_own(const struct writer *w)
{
	pthread_t self = pthread_self();
	return (w->busy && pthread_equal(self, w->owner)) || (w->store_locked && pthread_equal(self, w->store_locker));
}

/* w->mutex is held. */
static int enqueue(struct catalog *c, struct writer_job *job)
{
	struct writer *w = &c->writer;
	if (w->closing)
		return -ESHUTDOWN;
	if (is_own(w))
		return -EDEADLK;
	int error = w->started ? 0 : start_thread(c);
	if (error)
		return error;
	*w->tail = job;
	w->tail = &job->next;
	w->n_queued++;
	if (job->low && !w->busy)
		pthread_cond_signal(&w->wake);
	return 0;
}

/* w->mutex is held. A checkpoint that is due goes first, else it might never be made. */
static bool may_lead(const struct writer *w, const struct writer_job *job)
{
	return !w->busy && !job->low && w->waiting_pages < CHECKPOINT_PAGES;
}

static int submit(struct catalog *c, struct writer_job *job)
{
	struct writer *w = &c->writer;
	job->low = getpriority(PRIO_PROCESS, 0) > w->nice;
	pthread_cond_init(&job->turn, NULL);
	pthread_mutex_lock(&w->mutex);
	int result = enqueue(c, job);
	while (!result && !job->done) {
		if (may_lead(w, job))
			work(c, take_group(w));
		else
			pthread_cond_wait(&job->turn, &w->mutex);
	}
	pthread_mutex_unlock(&w->mutex);
	pthread_cond_destroy(&job->turn);
	return result ? result : job->result;
}

int catalog_write(struct catalog *c, bool durable, catalog_write_fn *fn, void *arg)
{
	struct writer_job job = {.fn = fn, .arg = arg, .durable = durable};
	return c->read_only ? -EROFS : submit(c, &job);
}

int catalog_sync(struct catalog *c)
{
	struct writer_job job = {.durable = true};
	if (c->read_only || !is_unsynced(&c->writer))
		return 0;
	return submit(c, &job);
}

int catalog_locked(struct catalog *c, int (*fn)(void *arg), void *arg)
{
	struct writer *w = &c->writer;
	if (c->read_only)
		return -EROFS;
	pthread_mutex_lock(&w->mutex);
	bool own = is_own(w);
	pthread_mutex_unlock(&w->mutex);
	int error = own ? -EDEADLK : store_lock(c, true);
	if (error)
		return error;
	pthread_mutex_lock(&w->mutex);
	w->store_locked = true;
	w->store_locker = pthread_self();
	pthread_mutex_unlock(&w->mutex);
	int result = fn(arg);
	pthread_mutex_lock(&w->mutex);
	w->store_locked = false;
	pthread_mutex_unlock(&w->mutex);
	store_unlock(c);
	return result;
}

/* ---- the end ---- */

/* What is committed goes into the database file and the log is emptied, unless somebody else is at work. */
static void tidy(struct catalog *c)
{
	if (c->writer.unsynced)
		sql_sync_log(c->writer.conn->db);
	if (store_lock(c, false))
		return;
	sql_checkpoint(c->writer.conn->db, true);
	store_unlock(c);
}

void writer_finish(struct catalog *c)
{
	struct writer *w = &c->writer;
	pthread_mutex_lock(&w->mutex);
	w->closing = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->mutex);
	if (w->started)
		pthread_join(w->thread, NULL);
	if (w->conn)
		tidy(c);
	catalog_disconnect(w->conn);
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->mutex);
}
