/* Hashing in the background: a few threads of low priority, and at most HASH_PENDING_MAX files that wait for them.
 *
 * A waiting file needs a descriptor: its name may have changed before its turn comes (to write a temporary file and rename it is the
 * usual way to save a model), and the descriptor holds the inode, so that its number cannot come to mean another file.
 * Descriptors are few, and one program may close twenty thousand files within seconds. So only the largest files wait; the smaller ones
 * are left to the commit, which hashes them with several threads in the time it takes to open them. The largest runs first, for
 * the same reason.
 *
 * Users take turns: a thread takes from who has the fewest files under way, and from one user never more than HASH_EACH, which leaves a thread for others; where no more can wait, he who has
 * the most waiting loses one. So files of terabytes hold up those of their own user only.
 *
 * A result counts if all of this holds: the probe found nobody able to write when hashing began (a mapping may outlive its
 * descriptor); size, mtime and ctime were the same before and after; and the job is still attached to its file, so that
 * nobody has opened it for writing through the drive since. See draft.c for the other half. */
#include "inner.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <time.h>
#include <unistd.h>

#define HASH_TRIES 3
#define PROBE_PAUSE_NS 5000000

int hash_queue_init(struct hash_queue *q)
{
	q->size_min = HASH_SIZE_MIN;
	struct workq_options o = {.name = "mintfs-hash", .threads = HASH_THREADS, .low_priority = true};
	int r = workq_new(&o, &q->q);

	if (r == 0)
		pthread_mutex_init(&q->lock, NULL);
	return r;
}

void hash_queue_release(struct hash_queue *q)
{
	workq_free(q->q);
	pthread_mutex_destroy(&q->lock);
}

/* Under the lock. */
static unsigned waiting_of(const struct hash_queue *q, uid_t who)
{
	unsigned n = 0;

	for (unsigned i = 0; i < q->n; i++)
		n += q->pending[i]->who == who;
	return n;
}

/* Under the lock. */
static unsigned running_of(const struct hash_queue *q, uid_t who)
{
	unsigned n = 0;

	for (unsigned i = 0; i < q->n_running; i++)
		n += q->running[i] == who;
	return n;
}

/* Puts the job in. Where there is no room for all, the smallest of who has the most waiting has to go: it is returned. */
static struct hash_job *queue_put(struct hash_queue *q, struct hash_job *job)
{
	struct hash_job *out = job;
	unsigned at = 0, most;
	SCOPED_LOCK(&q->lock);

	if (q->n < HASH_PENDING_MAX) {
		q->pending[q->n++] = job;
		return NULL;
	}
	most = waiting_of(q, job->who) + 1;
	for (unsigned i = 0; i < q->n; i++) {
		unsigned n = waiting_of(q, q->pending[i]->who) + (q->pending[i]->who == job->who);
		if (n > most || (n == most && q->pending[i]->size < out->size)) {
			most = n;
			at = i;
			out = q->pending[i];
		}
	}
	if (out != job)
		q->pending[at] = job;
	return out;
}

/* The largest of who has the fewest under way. ended: what the thread did before, or NULL. NULL: those who wait have their share of the threads, and of these the first to end takes
 * the next; or nobody waits. */
static struct hash_job *queue_next(struct hash_queue *q, const struct hash_job *ended)
{
	struct hash_job *best = NULL;
	unsigned fewest = HASH_EACH, at = 0;
	SCOPED_LOCK(&q->lock);

	for (unsigned i = 0; ended && i < q->n_running; i++) {
		if (q->running[i] == ended->who) {
			q->running[i] = q->running[--q->n_running];
			break;
		}
	}
	for (unsigned i = 0; i < q->n; i++) {
		unsigned n = running_of(q, q->pending[i]->who);
		if (n < fewest || (best && n == fewest && q->pending[i]->size > best->size)) {
			fewest = n;
			at = i;
			best = q->pending[i];
		}
	}
	if (best) {
		q->pending[at] = q->pending[--q->n];
		q->running[q->n_running++] = best->who;
	}
	return best;
}

bool hash_queue_remove(struct hash_queue *q, const struct hash_job *job)
{
	SCOPED_LOCK(&q->lock);

	for (unsigned i = 0; i < q->n; i++) {
		if (q->pending[i] == job) {
			q->pending[i] = q->pending[--q->n];
			return true;
		}
	}
	return false;
}

void hash_job_free_list(struct hash_job *jobs)
{
	while (jobs) {
		struct hash_job *next = jobs->next;
		close(jobs->fd);
		draft_put(jobs->draft);
		free(jobs);
		jobs = next;
	}
}

bool hash_stat_same(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && timespec_ns(a->st_mtim) == timespec_ns(b->st_mtim) &&
	       timespec_ns(a->st_ctim) == timespec_ns(b->st_ctim);
}

int hash_probe(int fd, unsigned *patience)
{
	const struct timespec pause = {0, PROBE_PAUSE_NS};
	int r;

	/* close(2) of a passthrough file tells the daemon before the kernel drops the backing file: fs/fuse/passthrough.c */
	while ((r = sys_probe_writers(fd)) == -EBUSY && *patience > 0) {
		--*patience;
		nanosleep(&pause, NULL);
	}
	return r;
}

/* Hashes what fd is open for. -EAGAIN: its attributes changed meanwhile; -EBUSY: somebody can write to it. */
static int hash_once(int fd, const _Atomic bool *go_on, struct stat *ret_st, struct blob_id *ret)
{
	unsigned patience = HASH_PATIENCE;
	struct stat before, after;
	struct blob_id blob;
	uint64_t size;
	int r = hash_probe(fd, &patience);

	if (r < 0 && r != -EOPNOTSUPP)
		return r;
	if ((r = sys_fstat(fd, &before)) < 0 || (r = blob_hash_fd(fd, go_on, &blob, &size)) < 0 || (r = sys_fstat(fd, &after)) < 0)
		return r;
	if (!hash_stat_same(&before, &after) || size != (uint64_t)after.st_size)
		return -EAGAIN;
	*ret_st = after;
	*ret = blob;
	return 0;
}

static int run_job(struct hash_job *job, struct stat *ret_st, struct blob_id *ret)
{
	auto_close int fd = -1;
	int r = -EAGAIN;

	if (!atomic_load(&job->go_on))
		return -ECANCELED;
	fd = sys_reopen(job->fd, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return fd;
	/* Again where only the attributes moved, as by the rename that follows a save; a writer would have detached the job. */
	for (int i = 0; i < HASH_TRIES && r == -EAGAIN && atomic_load(&job->go_on); i++)
		r = hash_once(fd, &job->go_on, ret_st, ret);
	return r;
}

static void run_waiting(void *queue)
{
	struct hash_job *job = queue_next(queue, NULL);

	while (job) {
		struct hash_job *next;
		struct blob_id blob;
		struct stat st;
		int r = run_job(job, &st, &blob);
		draft_job_end(job, r == 0 ? &st : NULL, &blob); /* whatever stood in the way: the commit will meet it, and can say so */
		next = queue_next(queue, job);
		hash_job_free_list(job);
		job = next;
	}
}

static struct hash_job *job_new(struct draft *d, ino_t ino, int fd, const struct stat *st)
{
	struct hash_job *job = calloc(1, sizeof(*job));

	if (!job)
		return NULL;
	job->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (job->fd < 0) {
		free(job);
		return NULL;
	}
	job->draft = draft_ref(d);
	job->ino = ino;
	job->who = st->st_uid;
	job->size = (uint64_t)st->st_size;
	atomic_init(&job->go_on, true);
	return job;
}

/* Nothing here can fail in a way that matters: a file that is not hashed now is hashed by the commit. */
void hash_offer(struct draft *d, ino_t ino, int fd)
{
	struct hash_queue *q = &d->set->hashing;
	struct hash_job *job, *out;
	struct stat st;

	if (sys_fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_ino != ino || st.st_nlink == 0 || st.st_size < q->size_min)
		return;
	job = job_new(d, ino, fd, &st);
	if (!job)
		return;
	if (!draft_job_attach(d, job)) {
		hash_job_free_list(job);
		return;
	}
	out = queue_put(q, job);
	if (!out && workq_submit(q->q, run_waiting, q) < 0 && hash_queue_remove(q, job))
		out = job;
	if (out) { /* if it is another one, its call of run_waiting is now this job's */
		draft_job_end(out, NULL, NULL);
		hash_job_free_list(out);
	}
}
