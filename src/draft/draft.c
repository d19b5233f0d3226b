/* One draft: its state, the changes and writers that a freeze has to mind, and what is known of its files.
 *
 *                           changes fell to 0, no writer
 *     OPEN ──draft_freeze──▶ FREEZING ────────────▶ FROZEN ──draft_finish──▶ GONE
 *       ◀─────────────── a writer is there              │
 *       ◀──────────────────draft_thaw───────────────────┘
 *
 * Invariants, under draft.lock:
 * 1. In FREEZING no change begins; those under way end by themselves. A writer still may come (a create is a change that ends as
 *    an open file), and the freeze then gives up. In FROZEN there are neither changes nor writers.
 * 2. A file with writers is neither hashed nor has it a job. Opening it for writing drops the hash and detaches the job, so a job
 *    that is attached when it ends has seen no writer since it was queued.
 * 3. An entry of `files` has a writer, a job or a hash: the table is bounded by what is open or hashed, not by what was visited.
 * 4. GONE is the end: no table, no jobs.
 *
 * An inode number may go to another file as soon as the old one is unlinked and closed. A job is safe from that since its
 * descriptor holds the inode; a hash is, since the new file gets its content from a writer, which drops the hash; and the size and
 * times, compared before a hash is used, are a second wall, also against changes behind the back of the drive. */
#include "inner.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <string.h>

int draft_new(struct drafts *set, int64_t id, int root, struct draft **ret)
{
	struct draft *d = calloc(1, sizeof(*d));
	pthread_condattr_t monotonic;

	if (!d)
		return -ENOMEM;
	d->files = map64_new();
	if (!d->files) {
		free(d);
		return -ENOMEM;
	}
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&d->moved, &monotonic);
	pthread_condattr_destroy(&monotonic);
	d->set = set;
	d->id = id;
	d->root = root;
	d->refs = 1;
	*ret = d;
	return 0;
}

static bool free_file(uint64_t ino, void *value, void *arg)
{
	struct known_file *file = value;

	(void)ino;
	(void)arg;
	free(file->name);
	free(file);
	return true;
}

static void free_files(struct draft *d)
{
	if (d->files)
		map64_each(d->files, free_file, NULL);
	map64_free(d->files);
	d->files = NULL;
}

/* Jobs hold references: there are none left. */
void draft_free(struct draft *d)
{
	free_files(d);
	pthread_cond_destroy(&d->moved);
	pthread_mutex_destroy(&d->lock);
	close(d->root);
	free(d);
}

/* ---- the table of files; all of it under the lock ---- */

static struct known_file *file_find(const struct draft *d, ino_t ino)
{
	return d->files ? map64_get(d->files, ino) : NULL;
}

static struct known_file *file_make(struct draft *d, ino_t ino)
{
	struct known_file *file = file_find(d, ino);

	if (file || !d->files)
		return file;
	file = calloc(1, sizeof(*file));
	if (file && map64_put(d->files, ino, file) < 0) {
		free(file);
		file = NULL;
	}
	return file;
}

/* Invariant 3. */
static void file_tidy(struct draft *d, ino_t ino, struct known_file *file)
{
	if (file->writers > 0 || file->job || file->hashed)
		return;
	map64_remove(d->files, ino);
	free_file(ino, file, NULL);
}

/* Detaches the file's job: it will have no result. One that still waits leaves the queue and joins *jobs; one that runs is
 * freed by its thread, which takes the lock for it first. */
static void file_drop_job(struct draft *d, struct known_file *file, struct hash_job **jobs)
{
	struct hash_job *job = file->job;

	if (!job)
		return;
	file->job = NULL;
	atomic_store(&job->go_on, false);
	pthread_cond_broadcast(&d->moved);
	if (hash_queue_remove(&d->set->hashing, job)) {
		job->next = *jobs;
		*jobs = job;
	}
}

struct drop {
	struct draft *d;
	struct hash_job **jobs;
};

static bool drop_job(uint64_t ino, void *file, void *arg)
{
	struct drop *drop = arg;

	(void)ino;
	file_drop_job(drop->d, file, drop->jobs);
	return true;
}

static void drop_jobs(struct draft *d, struct hash_job **jobs)
{
	struct drop drop = {d, jobs};

	if (d->files)
		map64_each(d->files, drop_job, &drop);
}

static void file_drop_hash(struct draft *d, struct known_file *file, struct hash_job **jobs)
{
	file_drop_job(d, file, jobs);
	file->hashed = false;
}

static void file_keep_hash(struct known_file *file, const struct stat *st, const struct blob_id *blob)
{
	file->hashed = true;
	file->size = (uint64_t)st->st_size;
	file->mtime_ns = timespec_ns(st->st_mtim);
	file->ctime_ns = timespec_ns(st->st_ctim);
	file->blob = *blob;
}

static bool same_content(const struct known_file *file, const struct stat *st)
{
	return file->hashed && file->size == (uint64_t)st->st_size && file->mtime_ns == timespec_ns(st->st_mtim);
}

/* ---- changes and open files ---- */

static int refusal(const struct draft *d)
{
	switch (d->state) {
	case STATE_OPEN:
		return 0;
	case STATE_GONE:
		return -EROFS;
	case STATE_FREEZING:
	case STATE_FROZEN:
		break;
	}
	return -EBUSY;
}

int draft_change_begin(struct draft *d)
{
	int r;
	SCOPED_LOCK(&d->lock);

	r = refusal(d);
	if (r == 0)
		d->changes++;
	return r;
}

void draft_change_end(struct draft *d)
{
	SCOPED_LOCK(&d->lock);

	if (--d->changes == 0)
		pthread_cond_broadcast(&d->moved);
}

void draft_file_touched(struct draft *d, ino_t ino)
{
	struct hash_job *jobs = NULL;
	struct known_file *file;

	pthread_mutex_lock(&d->lock);
	file = file_find(d, ino);
	if (file) {
		file_drop_hash(d, file, &jobs);
		file_tidy(d, ino, file);
	}
	pthread_mutex_unlock(&d->lock);
	hash_job_free_list(jobs);
}

void draft_file_restamped(struct draft *d, ino_t ino, const struct stat *now)
{
	struct known_file *file;
	SCOPED_LOCK(&d->lock);

	file = file_find(d, ino);
	if (file && same_content(file, now))
		file->ctime_ns = timespec_ns(now->st_ctim);
}

static int add_writer(struct draft *d, ino_t ino, const char *name, struct hash_job **jobs)
{
	int r = d->state == STATE_FREEZING ? 0 : refusal(d);
	struct known_file *file;

	if (r < 0)
		return r;
	file = file_make(d, ino);
	if (!file)
		return -ENOMEM;
	file_drop_hash(d, file, jobs);
	if (!file->name && name)
		file->name = strdup(name);
	file->writers++;
	d->writers++;
	return 0;
}

int draft_file_opened(struct draft *d, ino_t ino, bool writable, const char *name)
{
	struct hash_job *jobs = NULL;
	int r = 0;

	pthread_mutex_lock(&d->lock);
	if (writable)
		r = add_writer(d, ino, name, &jobs);
	if (r == 0)
		d->open_files++;
	pthread_mutex_unlock(&d->lock);
	hash_job_free_list(jobs);
	return r;
}

/* True if the file has lost its last writer. */
static bool remove_writer(struct draft *d, ino_t ino)
{
	struct known_file *file = file_find(d, ino);

	if (d->writers > 0)
		d->writers--;
	if (!file || file->writers == 0 || --file->writers > 0)
		return false;
	free(file->name);
	file->name = NULL;
	file_tidy(d, ino, file);
	return true;
}

void draft_file_closed(struct draft *d, ino_t ino, bool writable, int fd)
{
	bool last = false, quiet;

	pthread_mutex_lock(&d->lock);
	if (writable)
		last = remove_writer(d, ino);
	quiet = d->open_files > 0 && --d->open_files == 0;
	pthread_mutex_unlock(&d->lock);
	if (last && fd >= 0)
		hash_offer(d, ino, fd);
	if (quiet && d->set->quiet_fn)
		d->set->quiet_fn(d->id, d->set->quiet_arg);
}

unsigned draft_open_files(struct draft *d)
{
	SCOPED_LOCK(&d->lock);

	return d->open_files;
}

/* ---- the state ---- */

struct writer_search {
	unsigned files;
	const char *name;
};

static bool look_for_writer(uint64_t ino, void *value, void *arg)
{
	const struct known_file *file = value;
	struct writer_search *s = arg;

	(void)ino;
	if (file->writers > 0) {
		s->files++;
		if (!s->name)
			s->name = file->name;
	}
	return true;
}

static int writer_is_there(const struct draft *d, struct fault *f)
{
	struct writer_search s = {0};

	map64_each(d->files, look_for_writer, &s);
	const char *name = s.name && s.name[0] ? s.name : "a file whose name is not known";
	if (s.files > 1)
		return fault_set(f, EBUSY, "%s and %u more are open for writing", name, s.files - 1);
	return fault_set(f, EBUSY, "%s is open for writing", name);
}

static int gone(struct fault *f)
{
	return fault_set(f, EROFS, "it is no draft any more: it was committed or discarded");
}

int draft_freeze(struct draft *d, struct fault *f)
{
	SCOPED_LOCK(&d->lock);

	while (d->state == STATE_FREEZING || d->state == STATE_FROZEN) /* another commit or discard: what it makes of the draft decides */
		pthread_cond_wait(&d->moved, &d->lock);
	if (d->state == STATE_GONE)
		return gone(f);
	if (d->writers > 0)
		return writer_is_there(d, f);
	d->state = STATE_FREEZING;
	while (d->state == STATE_FREEZING && d->changes > 0)
		pthread_cond_wait(&d->moved, &d->lock);
	if (d->state == STATE_GONE)
		return gone(f);
	if (d->writers == 0) {
		d->state = STATE_FROZEN;
		return 0;
	}
	d->state = STATE_OPEN;
	pthread_cond_broadcast(&d->moved);
	return writer_is_there(d, f);
}

void draft_thaw(struct draft *d)
{
	SCOPED_LOCK(&d->lock);

	if (d->state == STATE_FROZEN)
		d->state = STATE_OPEN;
	pthread_cond_broadcast(&d->moved);
}

/* A discard by force comes here without a freeze, with files open: so changes are waited for here, too. */
void draft_finish(struct draft *d)
{
	struct hash_job *jobs = NULL;

	pthread_mutex_lock(&d->lock);
	if (d->state == STATE_OPEN)
		d->state = STATE_FREEZING;
	while (d->changes > 0)
		pthread_cond_wait(&d->moved, &d->lock);
	d->state = STATE_GONE;
	drop_jobs(d, &jobs);
	free_files(d);
	pthread_cond_broadcast(&d->moved);
	pthread_mutex_unlock(&d->lock);
	hash_job_free_list(jobs);
}

bool draft_is_gone(struct draft *d)
{
	SCOPED_LOCK(&d->lock);

	return d->state == STATE_GONE;
}

bool draft_is_frozen(struct draft *d)
{
	SCOPED_LOCK(&d->lock);

	return d->state == STATE_FROZEN;
}

/* ---- jobs and hashes ---- */

void draft_drop_jobs(struct draft *d, struct hash_job **jobs)
{
	SCOPED_LOCK(&d->lock);

	drop_jobs(d, jobs);
}

bool draft_job_attach(struct draft *d, struct hash_job *job)
{
	struct known_file *file;
	SCOPED_LOCK(&d->lock);

	if (d->state == STATE_FROZEN || d->state == STATE_GONE)
		return false; /* a commit hashes by itself what it does not find hashed */
	file = file_make(d, job->ino);
	if (!file || file->writers > 0 || file->job || file->hashed)
		return false;
	file->job = job;
	return true;
}

void draft_job_end(struct hash_job *job, const struct stat *st, const struct blob_id *blob)
{
	struct draft *d = job->draft;
	struct known_file *file;
	SCOPED_LOCK(&d->lock);

	if (!atomic_load(&job->go_on))
		return;
	file = file_find(d, job->ino); /* is there: go_on says that the job is attached */
	file->job = NULL;
	if (st && blob)
		file_keep_hash(file, st, blob);
	file_tidy(d, job->ino, file);
	pthread_cond_broadcast(&d->moved);
}

bool draft_job_claim(struct draft *d, ino_t ino)
{
	struct hash_job *jobs = NULL;
	struct known_file *file;
	bool runs = false;

	pthread_mutex_lock(&d->lock);
	file = file_find(d, ino);
	if (file && file->job) {
		if (hash_queue_remove(&d->set->hashing, file->job)) {
			jobs = file->job;
			file->job = NULL;
			atomic_store(&jobs->go_on, false);
			file_tidy(d, ino, file);
		} else {
			runs = true;
		}
	}
	pthread_mutex_unlock(&d->lock);
	hash_job_free_list(jobs);
	return runs;
}

void draft_job_await(struct draft *d, ino_t ino, int64_t deadline_ns, const _Atomic bool *go_on)
{
	struct hash_job *jobs = NULL;
	struct known_file *file;
	int64_t now;

	pthread_mutex_lock(&d->lock);
	while ((file = file_find(d, ino)) && file->job && atomic_load(go_on) && (now = time_monotonic_ns()) < deadline_ns) {
		struct timespec next = ns_timespec(now + STOP_LOOK_NS < deadline_ns ? now + STOP_LOOK_NS : deadline_ns);
		pthread_cond_timedwait(&d->moved, &d->lock, &next);
	}
	if (file) {
		file_drop_job(d, file, &jobs);
		file_tidy(d, ino, file);
	}
	pthread_mutex_unlock(&d->lock);
	hash_job_free_list(jobs);
}

bool draft_hash_find(struct draft *d, ino_t ino, const struct stat *st, struct blob_id *ret)
{
	const struct known_file *file;
	SCOPED_LOCK(&d->lock);

	file = file_find(d, ino);
	if (!file || !same_content(file, st) || file->ctime_ns != timespec_ns(st->st_ctim))
		return false;
	*ret = file->blob;
	return true;
}

void draft_hash_keep(struct draft *d, ino_t ino, const struct stat *st, const struct blob_id *blob)
{
	struct known_file *file;
	SCOPED_LOCK(&d->lock);

	if (d->state != STATE_FROZEN)
		return;
	file = file_make(d, ino);
	if (file && !file->job) /* without memory it is only hashed again */
		file_keep_hash(file, st, blob);
}
