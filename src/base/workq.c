/* A queue of work with its own threads.
 *
 * Who has work queued or running has a struct owner with a queue of its own. A thread that is free takes the oldest job of the owner with the fewest jobs
 * running, as long as these are fewer than `each`; of several such owners, of the one whose job is the oldest. So one owner with a thousand jobs that
 * take hours holds up his own, and nobody else.
 *
 * Invariants, all under `lock`: the jobs of an owner are queued in order of their tickets; running[i] is the ticket of the job that thread
 * i is in, 0 if none; threads 0 to started - 1 exist; an owner exists while a job of his is queued or running. A job runs without the lock. After `stopping` nothing
 * is queued any more, and a thread ends when it finds nothing to take: what is left then is taken by those threads whose jobs keep it waiting. */
#include <mintfs/util.h>

#include <errno.h>
#include <linux/ioprio.h>
#include <mintfs/cleanup.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WORKQ_THREADS_MAX 64
#define THREAD_NAME_MAX 16

struct job {
	struct job *next;
	uint64_t ticket;
	workq_fn *fn;
	void *arg;
};

struct owner {
	struct owner *next;
	uint32_t who;
	unsigned running;
	struct job *head, *tail;
};

struct worker {
	struct workq *q;
	unsigned index;
	pthread_t thread;
};

struct workq {
	char name[THREAD_NAME_MAX]; /* this and the next three: fixed at birth */
	bool low_priority;
	unsigned threads, each;

	pthread_mutex_t lock;
	pthread_cond_t work;  /* a job was queued, or stopping */
	pthread_cond_t ended; /* a job ended, and somebody drains */
	struct owner *owners;
	uint64_t last_ticket;
	unsigned started, idle, drainers;
	size_t queued;
	bool stopping;
	uint64_t running[WORKQ_THREADS_MAX];
	struct worker workers[WORKQ_THREADS_MAX];
};

/* Best effort: a kernel that refuses leaves the thread at the usual priority. Both calls mean the calling thread. */
static void lower_priority(void)
{
	setpriority(PRIO_PROCESS, (id_t)gettid(), 19);
	syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0));
}

/* ---- owners; under the lock ---- */

static struct owner *owner_of(struct workq *q, uint32_t who)
{
	struct owner *o = q->owners;

	while (o && o->who != who)
		o = o->next;
	return o;
}

static void drop_owner(struct workq *q, struct owner *gone)
{
	struct owner **link = &q->owners;

	while (*link != gone)
		link = &(*link)->next;
	*link = gone->next;
	free(gone);
}

static bool may_run(const struct workq *q, const struct owner *o)
{
	return o->who == WORKQ_NOBODY || o->running < q->each;
}

static bool goes_before(const struct owner *a, const struct owner *b)
{
	return a->running != b->running ? a->running < b->running : a->head->ticket < b->head->ticket;
}

/* The job whose turn it is, and its owner; NULL: none may run now. */
static struct job *take_job(struct workq *q, struct owner **ret_owner)
{
	struct owner *best = NULL;
	struct job *job;

	for (struct owner *o = q->owners; o; o = o->next) {
		if (o->head && may_run(q, o) && (!best || goes_before(o, best)))
			best = o;
	}
	if (!best)
		return NULL;
	job = best->head;
	best->head = job->next;
	best->running++;
	q->queued--;
	*ret_owner = best;
	return job;
}

static void job_ended(struct workq *q, struct owner *o)
{
	if (--o->running == 0 && !o->head)
		drop_owner(q, o);
	if (q->drainers > 0)
		pthread_cond_broadcast(&q->ended);
}

/* ---- threads ---- */

static void *worker_main(void *arg)
{
	struct worker *w = arg;
	struct workq *q = w->q;
	struct owner *owner = NULL;

	pthread_setname_np(pthread_self(), q->name);
	if (q->low_priority)
		lower_priority();
	pthread_mutex_lock(&q->lock);
	for (;;) {
		struct job *job;
		while (!(job = take_job(q, &owner)) && !q->stopping) {
			q->idle++;
			pthread_cond_wait(&q->work, &q->lock);
			q->idle--;
		}
		if (!job)
			break;
		q->running[w->index] = job->ticket;
		pthread_mutex_unlock(&q->lock);

		job->fn(job->arg);
		free(job);

		pthread_mutex_lock(&q->lock);
		q->running[w->index] = 0;
		job_ended(q, owner);
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

/* Workers take no signals: those are for the threads of the program. */
static int start_worker(struct workq *q)
{
	struct worker *w = &q->workers[q->started];
	sigset_t all, old;
	int r;

	*w = (struct worker){.q = q, .index = q->started};
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&w->thread, NULL, worker_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r == 0)
		q->started++;
	return -r;
}

int workq_new(const struct workq_options *o, struct workq **ret)
{
	struct workq *q;

	if (o->threads < 1 || o->threads > WORKQ_THREADS_MAX)
		return -EINVAL;
	q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	strncpy(q->name, o->name ? o->name : "work", sizeof(q->name) - 1);
	q->threads = o->threads;
	q->each = o->each > 0 ? o->each : o->threads;
	q->low_priority = o->low_priority;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->work, NULL);
	pthread_cond_init(&q->ended, NULL);
	*ret = q;
	return 0;
}

static int add_job(struct workq *q, uint32_t who, struct job *job)
{
	struct owner *o = owner_of(q, who);

	if (!o) {
		o = calloc(1, sizeof(*o));
		if (!o)
			return -ENOMEM;
		o->who = who;
		o->next = q->owners;
		q->owners = o;
	}
	if (o->head)
		o->tail->next = job;
	else
		o->head = job;
	o->tail = job;
	q->queued++;
	return 0;
}

int workq_submit_for(struct workq *q, uint32_t who, workq_fn *fn, void *arg)
{
	auto_free struct job *job = malloc(sizeof(*job));
	int r;

	if (!job)
		return -ENOMEM;
	SCOPED_LOCK(&q->lock);
	if (q->stopping)
		return -ESHUTDOWN;
	/* a thread more where all have their hands full; the threads that exist will do where that fails */
	if (q->queued >= q->idle && q->started < q->threads && start_worker(q) < 0 && q->started == 0)
		return -ENOMEM;
	*job = (struct job){.ticket = ++q->last_ticket, .fn = fn, .arg = arg};
	r = add_job(q, who, job);
	if (r < 0)
		return r;
	job = NULL;
	pthread_cond_signal(&q->work);
	return 0;
}

int workq_submit(struct workq *q, workq_fn *fn, void *arg)
{
	return workq_submit_for(q, WORKQ_NOBODY, fn, arg);
}

/* Is a job with this ticket or an older one still queued or running? Under the lock. */
static bool is_pending(const struct workq *q, uint64_t ticket)
{
	for (const struct owner *o = q->owners; o; o = o->next) {
		if (o->head && o->head->ticket <= ticket)
			return true;
	}
	for (unsigned i = 0; i < q->started; i++) {
		if (q->running[i] != 0 && q->running[i] <= ticket)
			return true;
	}
	return false;
}

void workq_drain(struct workq *q)
{
	uint64_t ticket;
	SCOPED_LOCK(&q->lock);

	ticket = q->last_ticket;
	q->drainers++;
	while (is_pending(q, ticket))
		pthread_cond_wait(&q->ended, &q->lock);
	q->drainers--;
}

void workq_free(struct workq *q)
{
	if (!q)
		return;
	pthread_mutex_lock(&q->lock);
	q->stopping = true;
	pthread_cond_broadcast(&q->work);
	pthread_mutex_unlock(&q->lock);
	for (unsigned i = 0; i < q->started; i++) /* no thread starts after `stopping` */
		pthread_join(q->workers[i].thread, NULL);
	pthread_cond_destroy(&q->ended);
	pthread_cond_destroy(&q->work);
	pthread_mutex_destroy(&q->lock);
	free(q);
}
