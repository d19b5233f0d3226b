/* Hashing what is left at a commit: several threads of usual priority, big files first, so that at the end no thread sits on a
 * big one alone. The thread that commits waits for them, and looks whether it is to stop: a commit of terabytes takes an hour, and who asked for it, or the drive, may
 * not live to see it. Little is hashed by that thread itself.
 *
 * A file that waits for the background is taken from it. One that is just being hashed there comes last, and is waited for
 * no longer than hashing it anew would take on a slow disk: the background has the lowest priority, and on a machine full of
 * trainers it might not end for hours. */
#include "inner.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <string.h>
#include <unistd.h>

#define THREADS_MAX 4
#define WORK_PER_THREAD (4u << 20) /* bytes, some 2 ms of hashing: for less it does not pay to start one */
#define WORK_PER_FILE (32u << 10)  /* what opening a file costs, in bytes of hashing */
#define AWAIT_NS 100000000LL        /* at least */
#define AWAIT_NS_PER_MIB 4000000LL  /* 250 MiB/s */

struct item {
	size_t index;     /* of the entry */
	uint64_t size;
	bool in_progress; /* in the background */
};

struct tree_hash {
	struct draft *d;
	struct draft_tree *t; /* a thread writes to the entry of its own item only */
	struct item *items;   /* fixed while threads run */
	size_t n;
	atomic_size_t next;   /* item to be taken */
	_Atomic bool go_on;   /* false after the first failure, or when it is to stop */
	pthread_mutex_t lock;
	pthread_cond_t ended; /* a thread has; waits by CLOCK_MONOTONIC */
	unsigned running;     /* under lock: threads at work, or about to be */
	int error;            /* under lock: the first failure */
	struct fault *f;      /* under lock */
};

static int compare_items(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	if (x->in_progress != y->in_progress)
		return x->in_progress ? 1 : -1;
	return (x->size < y->size) - (x->size > y->size);
}

static int collect(struct tree_hash *h)
{
	size_t n = 0;

	for (size_t i = 0; i < h->t->n; i++) {
		const struct draft_entry *e = &h->t->entries[i];
		n += e->type == DRAFT_FILE && e->inode == (int64_t)i && !e->hashed;
	}
	if (n == 0)
		return 0;
	h->items = calloc(n, sizeof(*h->items));
	if (!h->items)
		return -ENOMEM;
	for (size_t i = 0; i < h->t->n; i++) {
		const struct draft_entry *e = &h->t->entries[i];
		if (e->type != DRAFT_FILE || e->inode != (int64_t)i || e->hashed)
			continue;
		h->items[h->n++] = (struct item){i, e->size, draft_job_claim(h->d, e->ino)};
	}
	qsort(h->items, h->n, sizeof(*h->items), compare_items);
	return 0;
}

static int hash_open_file(struct tree_hash *h, struct draft_entry *e, int fd)
{
	struct stat before, after;
	struct blob_id blob;
	uint64_t size;
	int r = sys_fstat(fd, &before);

	if (r < 0)
		return r;
	if (before.st_ino != e->ino || (uint64_t)before.st_size != e->size || timespec_ns(before.st_mtim) != e->mtime_ns)
		return -ESTALE;
	if (!draft_hash_find(h->d, e->ino, &before, &blob)) {
		if ((r = blob_hash_fd(fd, &h->go_on, &blob, &size)) < 0 || (r = sys_fstat(fd, &after)) < 0)
			return r;
		if (size != e->size || !hash_stat_same(&before, &after))
			return -ESTALE;
		draft_hash_keep(h->d, e->ino, &before, &blob); /* for another try, should this commit fail */
	}
	e->blob = blob;
	e->hashed = true;
	return 0;
}

static int hash_item(struct tree_hash *h, const struct item *item)
{
	struct draft_entry *e = &h->t->entries[item->index];
	auto_close int fd = -1;

	if (item->in_progress)
		draft_job_await(h->d, e->ino, time_monotonic_ns() + AWAIT_NS + (int64_t)(e->size >> 20) * AWAIT_NS_PER_MIB, &h->go_on);
	if (!atomic_load(&h->go_on))
		return -ECANCELED;
	fd = sys_openat_beneath(h->d->root, e->path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY, 0);
	return fd < 0 ? fd : hash_open_file(h, e, fd);
}

/* Of two failures the first counts: once told to stop, the threads fail by -ECANCELED. */
static void keep_first_failure(struct tree_hash *h, int r, const char *path)
{
	SCOPED_LOCK(&h->lock);

	if (h->error == 0)
		h->error = r == -ECANCELED ? r : scan_trouble(h->f, r, path);
	atomic_store(&h->go_on, false);
}

static void hash_items(struct tree_hash *h)
{
	while (atomic_load(&h->go_on)) {
		size_t i = atomic_fetch_add(&h->next, 1);
		if (i >= h->n)
			return;
		int r = hash_item(h, &h->items[i]);
		if (r < 0)
			keep_first_failure(h, r, h->t->entries[h->items[i].index].path);
	}
}

static void run_thread(void *arg)
{
	struct tree_hash *h = arg;

	hash_items(h);
	SCOPED_LOCK(&h->lock);
	h->running--;
	pthread_cond_signal(&h->ended);
}

/* How many threads are worth their start; 0: there is too little to do. */
static unsigned threads_for(const struct tree_hash *h)
{
	uint64_t work = 0, most = THREADS_MAX;

	for (size_t i = 0; i < h->n; i++)
		work += h->items[i].size + WORK_PER_FILE;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	most = cpus > 0 && (uint64_t)cpus < most ? (uint64_t)cpus : most;
	most = h->n < most ? h->n : most;
	uint64_t wanted = work / WORK_PER_THREAD;
	return (unsigned)(wanted < most ? wanted : most);
}

static void start_threads(struct tree_hash *h, struct workq *q, unsigned n)
{
	SCOPED_LOCK(&h->lock);

	for (unsigned i = 0; i < n; i++)
		h->running += workq_submit(q, run_thread, h) == 0;
}

static void await_threads(struct tree_hash *h, draft_stop_fn *stop, void *arg)
{
	pthread_mutex_lock(&h->lock);
	while (h->running > 0) {
		struct timespec next = ns_timespec(time_monotonic_ns() + STOP_LOOK_NS);
		pthread_cond_timedwait(&h->ended, &h->lock, &next);
		pthread_mutex_unlock(&h->lock);
		if (stop && atomic_load(&h->go_on) && stop(arg))
			keep_first_failure(h, -ECANCELED, NULL);
		pthread_mutex_lock(&h->lock);
	}
	pthread_mutex_unlock(&h->lock);
}

/* What no thread could be had for, this one does: so it cannot fail. */
static void hash_all(struct tree_hash *h, draft_stop_fn *stop, void *arg)
{
	struct workq_options o = {.name = "mintfs-commit", .threads = threads_for(h)};
	struct workq *q = NULL;

	if (o.threads > 0 && workq_new(&o, &q) == 0) {
		start_threads(h, q, o.threads);
		await_threads(h, stop, arg);
	}
	hash_items(h);
	workq_free(q);
}

static void share_hashes(struct draft_tree *t)
{
	for (size_t i = 0; i < t->n; i++) {
		struct draft_entry *e = &t->entries[i];
		if (e->type == DRAFT_FILE && e->inode != (int64_t)i) {
			e->blob = t->entries[e->inode].blob;
			e->hashed = true;
		}
	}
}

static void tree_hash_init(struct tree_hash *h)
{
	pthread_condattr_t monotonic;

	pthread_mutex_init(&h->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&h->ended, &monotonic);
	pthread_condattr_destroy(&monotonic);
	atomic_init(&h->next, 0);
	atomic_init(&h->go_on, true);
}

int draft_hash_until(struct draft *d, struct draft_tree *t, draft_stop_fn *stop, void *arg, struct fault *f)
{
	struct tree_hash h = {.d = d, .t = t, .f = f};
	int r;

	if (!draft_is_frozen(d))
		return fault_set(f, EINVAL, "the draft is not frozen");
	r = collect(&h);
	if (r < 0)
		return r;
	tree_hash_init(&h);
	if (h.n > 0)
		hash_all(&h, stop, arg);
	pthread_cond_destroy(&h.ended);
	pthread_mutex_destroy(&h.lock);
	free(h.items);
	if (h.error == 0)
		share_hashes(t);
	return h.error;
}

int draft_hash(struct draft *d, struct draft_tree *t, struct fault *f)
{
	return draft_hash_until(d, t, NULL, NULL, f);
}
