/* The directory drafts/ and the drafts in memory.
 *
 * Invariant, under drafts.lock: `open` holds exactly the drafts with a reference, so a draft found there may be given one more.
 * Opening a directory may wait for a disk: it is done without the lock, and who comes second drops his own. */
#include "inner.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <mintfs/cleanup.h>
#include <string.h>

#define ID_TEXT_MAX 24

static void id_text(int64_t id, char out[ID_TEXT_MAX])
{
	snprintf(out, ID_TEXT_MAX, "%" PRId64, id);
}

static int open_directory(int store_dirfd, bool create)
{
	int fd = sys_openat_beneath(store_dirfd, "drafts", O_RDONLY | O_DIRECTORY, 0);

	if (fd != -ENOENT || !create)
		return fd;
	int r = sys_mkdirat(store_dirfd, "drafts", 0700);
	if (r < 0 && r != -EEXIST)
		return r;
	return sys_openat_beneath(store_dirfd, "drafts", O_RDONLY | O_DIRECTORY, 0);
}

int drafts_open(int store_dirfd, bool create, struct log *log, draft_quiet_fn *quiet_fn, void *arg, struct drafts **ret,
	struct fault *f)
{
	auto_close int dir = open_directory(store_dirfd, create);
	auto_free struct drafts *ds = calloc(1, sizeof(*ds));
	int r;

	if (dir < 0)
		return fault_set(f, -dir, "drafts/ of the store cannot be opened: %s", strerror(-dir));
	if (!ds)
		return -ENOMEM;
	ds->open = map64_new();
	if (!ds->open)
		return -ENOMEM;
	r = hash_queue_init(&ds->hashing);
	if (r < 0) {
		map64_free(ds->open);
		return r;
	}
	pthread_mutex_init(&ds->lock, NULL);
	ds->dir = take_fd(&dir);
	ds->log = log;
	ds->quiet_fn = quiet_fn;
	ds->quiet_arg = arg;
	*ret = take_ptr(ds);
	return 0;
}

static bool drop_jobs_of(uint64_t id, void *draft, void *jobs)
{
	(void)id;
	draft_drop_jobs(draft, jobs);
	return true;
}

void drafts_close(struct drafts *ds)
{
	struct hash_job *jobs = NULL;

	if (!ds)
		return;
	pthread_mutex_lock(&ds->lock);
	map64_each(ds->open, drop_jobs_of, &jobs); /* those that run end by themselves, soon */
	pthread_mutex_unlock(&ds->lock);
	hash_job_free_list(jobs);
	hash_queue_release(&ds->hashing);
	if (map64_count(ds->open) > 0)
		log_error(ds->log, "drafts: %zu of them were never put", map64_count(ds->open));
	map64_free(ds->open);
	pthread_mutex_destroy(&ds->lock);
	close(ds->dir);
	free(ds);
}

/* ---- on disk ---- */

static int give_to(int dir, const char *name, uid_t uid, gid_t gid, mode_t mode)
{
	auto_close int fd = sys_openat_beneath(dir, name, O_RDONLY | O_DIRECTORY, 0); /* fchmod takes no O_PATH */
	int r;

	if (fd < 0)
		return fd;
	r = sys_fchownat(fd, "", uid, gid, AT_EMPTY_PATH);
	return r < 0 ? r : sys_fchmod(fd, mode & 07777); /* after the owner: a change of owner drops setgid */
}

int drafts_make(struct drafts *ds, int64_t id, uid_t uid, gid_t gid, mode_t mode)
{
	char name[ID_TEXT_MAX];
	int r;

	id_text(id, name);
	r = sys_mkdirat(ds->dir, name, 0700); /* nobody else's before it is whole */
	if (r < 0)
		return r;
	r = give_to(ds->dir, name, uid, gid, mode);
	if (r < 0)
		sys_unlinkat(ds->dir, name, AT_REMOVEDIR);
	return r;
}

int drafts_sync(struct drafts *ds)
{
	return sys_fsync(ds->dir);
}

/* Is this draft in memory, and could it still be worked in? */
static bool is_alive(struct drafts *ds, int64_t id)
{
	struct draft *d;
	SCOPED_LOCK(&ds->lock);

	d = map64_get(ds->open, (uint64_t)id);
	return d && !draft_is_gone(d);
}

int drafts_remove(struct drafts *ds, int64_t id)
{
	char name[ID_TEXT_MAX];

	if (is_alive(ds, id))
		return -EBUSY;
	id_text(id, name);
	return sys_remove_tree(ds->dir, name);
}

struct id_list {
	int64_t *ids;
	size_t n, cap;
};

static int id_list_add(struct id_list *l, int64_t id)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		int64_t *bigger = reallocarray(l->ids, cap, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		l->ids = bigger;
		l->cap = cap;
	}
	l->ids[l->n++] = id;
	return 0;
}

/* The id that a name stands for: the name that id_text would give, nothing else. */
static bool parse_id(const char *name, int64_t *ret)
{
	uint64_t id;

	if (name[0] == '0' || parse_u64(name, INT64_MAX, &id) < 0)
		return false;
	*ret = (int64_t)id;
	return true;
}

static int compare_ids(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* fn may remove the draft it is given: so all names are read first. */
int drafts_each(struct drafts *ds, drafts_each_fn *fn, void *arg)
{
	auto_listing struct listing l = {0};
	struct id_list list = {0};
	int r = listing_read(ds->dir, ".", &l);

	for (size_t i = 0; r == 0 && i < l.n; i++) {
		struct stat st;
		int64_t id;
		if (!parse_id(l.names[i], &id) || sys_fstatat(ds->dir, l.names[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			r = id_list_add(&list, id);
	}
	if (list.n > 1)
		qsort(list.ids, list.n, sizeof(*list.ids), compare_ids);
	for (size_t i = 0; r == 0 && i < list.n; i++)
		r = fn(list.ids[i], arg);
	free(list.ids);
	return r;
}

/* ---- in memory ---- */

static struct draft *find_open(struct drafts *ds, int64_t id)
{
	struct draft *d = map64_get(ds->open, (uint64_t)id);

	if (d)
		d->refs++;
	return d;
}

static int publish(struct drafts *ds, struct draft *d, struct draft **ret)
{
	int r = 0;
	SCOPED_LOCK(&ds->lock);
	struct draft *other = find_open(ds, d->id);

	if (!other)
		r = map64_put(ds->open, (uint64_t)d->id, d);
	if (r == 0)
		*ret = other ? other : d;
	return r;
}

int draft_get(struct drafts *ds, int64_t id, struct draft **ret)
{
	char name[ID_TEXT_MAX];
	struct draft *found, *d = NULL;
	int root, r;

	pthread_mutex_lock(&ds->lock);
	found = find_open(ds, id);
	pthread_mutex_unlock(&ds->lock);
	if (found) {
		*ret = found;
		return 0;
	}
	id_text(id, name);
	root = sys_openat_beneath(ds->dir, name, O_PATH | O_DIRECTORY, 0);
	if (root < 0)
		return root;
	r = draft_new(ds, id, root, &d);
	if (r < 0) {
		close(root);
		return r;
	}
	r = publish(ds, d, ret);
	if (r < 0 || *ret != d)
		draft_free(d);
	return r;
}

struct draft *draft_ref(struct draft *d)
{
	SCOPED_LOCK(&d->set->lock);

	d->refs++;
	return d;
}

void draft_put(struct draft *d)
{
	bool last;

	if (!d)
		return;
	pthread_mutex_lock(&d->set->lock);
	last = --d->refs == 0;
	if (last)
		map64_remove(d->set->open, (uint64_t)d->id);
	pthread_mutex_unlock(&d->set->lock);
	if (last)
		draft_free(d);
}

int64_t draft_id(const struct draft *d)
{
	return d->id;
}

int draft_root(const struct draft *d)
{
	return d->root;
}

void drafts_drain(struct drafts *ds)
{
	workq_drain(ds->hashing.q);
}
