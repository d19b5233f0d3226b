/* The writer: one thread, one connection, one transaction for all the jobs that wait.
 *
 *   catalog_write            queues a job on its own stack and sleeps until it is answered
 *   writer thread            takes the whole queue as a group:
 *     store lock → BEGIN IMMEDIATE → each job in a savepoint → COMMIT → answer all → perhaps a checkpoint → unlock
 *
 * Invariants:
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

#define IDLE_SYNC_NS (100 * 1000000LL)
#define CHECKPOINT_PAGES 4000      /* since the last one, some 16 MB of log: a checkpoint in the midst of work */
#define CHECKPOINT_REST_PAGES 500  /* enough for one where nobody waits for it */

struct writer_job {
	catalog_write_fn *fn; /* NULL: only a sync is wanted */
	void *arg;
	bool durable;
	bool lost; /* took its whole transaction down: not run again */
	bool done;
	int result;
	pthread_cond_t answered;
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
}

/* ---- one transaction ---- */

static int begin(struct catalog *c, bool durable)
{
	struct sql *db = c->writer.conn->db;
	int format;
	int error = sql_set_sync(db, durable);
	if (!error)
		error = sql_run(db, "BEGIN IMMEDIATE");
	if (!error)
		error = schema_format(db, &format);
	if (!error && format != c->format) {
		log_error(c->log, "catalog: %s/" CATALOG_FILE_NAME " was upgraded to format %d while it was open here", c->where, format);
		error = -EPROTONOSUPPORT;
	}
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
		pthread_cond_signal(&job->answered);
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

static bool checkpoint_due(const struct writer *w, int pages) { return w->log_pages - w->checkpoint_pages >= pages; }

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
	if (wrote) {
		note_log(w, log_pages);
		if (checkpoint_due(w, CHECKPOINT_PAGES))
			checkpoint(w);
	}
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

/* ---- the thread ---- */

/* Waits for jobs. True: a group, or NULL after a rest with something to do in it. False: closing, and nothing is left. */
static bool next_group(struct writer *w, bool may_sync, bool may_checkpoint, struct writer_job **ret)
{
	struct timespec until = ns_timespec(time_monotonic_ns() + IDLE_SYNC_NS);
	SCOPED_LOCK(&w->mutex);
	while (!w->head) {
		if (w->closing)
			return false;
		if ((!w->unsynced || !may_sync) && !may_checkpoint)
			pthread_cond_wait(&w->wake, &w->mutex);
		else if (pthread_cond_timedwait(&w->wake, &w->mutex, &until) == ETIMEDOUT)
			break;
	}
	*ret = w->head;
	w->head = NULL;
	w->tail = &w->head;
	w->n_queued = 0;
	return true;
}

/* A rest: what nobody waits for. *may_sync: false after a failure, until something is written again; catalog_sync reports it. */
static void rest(struct catalog *c, bool *may_sync)
{
	struct writer *w = &c->writer;
	if (is_unsynced(w) && *may_sync) {
		*may_sync = !sync_log(w);
		answer(w, NULL, 0, !*may_sync);
	}
	if (!checkpoint_due(w, CHECKPOINT_REST_PAGES))
		return;
	w->checkpoint_pages = w->log_pages; /* also if another process is at work just now: then later */
	if (store_lock(c, false) == 0) {
		checkpoint(w);
		store_unlock(c);
	}
}

static void *writer_main(void *arg)
{
	struct catalog *c = arg;
	struct writer *w = &c->writer;
	struct writer_job *group;
	bool may_sync = true;
	while (next_group(w, may_sync, w->conn && checkpoint_due(w, CHECKPOINT_REST_PAGES), &group)) {
		if (group) {
			run_group(c, group);
			may_sync = w->conn != NULL;
		} else {
			rest(c, &may_sync);
		}
	}
	return NULL;
}

/* Signals are for the threads of the program, not for this one. */
static int start_thread(struct catalog *c)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int error = pthread_create(&c->writer.thread, NULL, writer_main, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	c->writer.started = !error;
	if (!error)
		pthread_setname_np(c->writer.thread, "mintfs-catalog"); /* src/fs/hangs.c knows it by that */
	return -error;
}

/* w->mutex is held. */
static int enqueue(struct catalog *c, struct writer_job *job)
{
	struct writer *w = &c->writer;
	pthread_t self = pthread_self();
	if (w->closing)
		return -ESHUTDOWN;
	if ((w->started && pthread_equal(self, w->thread)) || (w->store_locked && pthread_equal(self, w->store_locker)))
		return -EDEADLK;
	int error = w->started ? 0 : start_thread(c);
	if (error)
		return error;
	*w->tail = job;
	w->tail = &job->next;
	w->n_queued++;
	pthread_cond_signal(&w->wake);
	return 0;
}

static int submit(struct catalog *c, struct writer_job *job)
{
	pthread_cond_init(&job->answered, NULL);
	pthread_mutex_lock(&c->writer.mutex);
	int result = enqueue(c, job);
	while (!result && !job->done)
		pthread_cond_wait(&job->answered, &c->writer.mutex);
	pthread_mutex_unlock(&c->writer.mutex);
	pthread_cond_destroy(&job->answered);
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
	bool own = (w->started && pthread_equal(pthread_self(), w->thread))
		|| (w->store_locked && pthread_equal(pthread_self(), w->store_locker));
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
