/* The drafts this process serves: who minted them, who writes them, and when their run has ended.
 *
 * A draft is held by the first living process of its chain: the minting process, then its ancestors. When the holder ends, the hold
 * passes up as long as nobody wrote the draft under it (that is `mkdir` ending in a shell); once somebody did, the run is over with it
 * (that is a trainer, or the script around it). Every process that writes takes part; the run is over when the holder and all who took part are gone and
 * no file is open. Then the draft settles (settle.c): it is discarded, committed, or given its reason.
 *
 * The exit status that counts is that of a process with no living tracked ancestor: what a script's commands return is the script's business. A
 * failure stands until a later process of the run takes up the work (an elastic launcher's next try).
 *
 * Locks: one mutex over the table and its entries. Under it only short calls: pidfd_open, /proc/<pid>/stat, queueing. Before it `adopting`: one draft is
 * taken over at a time, so that two threads that want the same one do not meet at its flock. */
#include "live.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>

int live_lock_draft(struct registry *r, int64_t version_id)
{
	char name[64];
	snprintf(name, sizeof name, "drafts/%lld", (long long)version_id);
	auto_close int fd = sys_openat_beneath(r->dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	int rc = sys_lock(fd, true, false);
	return rc < 0 ? rc : take_fd(&fd);
}

/* ---- table ---- */

/* A draft costs two descriptors and most often that of a process that is watched. Half of what a process may open is kept for readers and writers: who mints without
 * end must not shut the drive for all others. */
#define DESCRIPTORS_A_DRAFT 3

static size_t drafts_max(void)
{
	struct rlimit l;
	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return 1024 / 2 / DESCRIPTORS_A_DRAFT;
	return l.rlim_cur == RLIM_INFINITY ? SIZE_MAX : (size_t)l.rlim_cur / 2 / DESCRIPTORS_A_DRAFT;
}

/* Under the mutex; drafts that are being minted count. */
static bool is_full(const struct live_table *t)
{
	size_t n = map64_count(t->by_version);
	for (const struct live_mint *m = t->mints; m && n < t->max; m = m->next)
		n++;
	return n >= t->max;
}

struct share { uid_t uid; size_t n; };

static bool count_own(uint64_t key, void *value, void *arg)
{
	const struct live *l = value;
	struct share *s = arg;
	s->n += l->uid == s->uid;
	return true;
}

/* Under the mutex. A quarter of the drafts is out of reach of each single user, but root and the owner of the store: nobody shuts the others out. */
static bool has_share(const struct live_table *t, uid_t uid)
{
	struct share s = {.uid = uid};
	size_t may = t->max - t->max / 4;
	if (uid == 0 || uid == t->r->owner || map64_count(t->by_version) < may)
		return false;
	map64_each(t->by_version, count_own, &s);
	for (const struct live_mint *m = t->mints; m; m = m->next)
		s.n += m->caller.uid == uid;
	return s.n >= may;
}

int live_table_new(struct registry *r, struct live_table **ret)
{
	struct live_table *t = calloc(1, sizeof *t);
	if (!t)
		return -ENOMEM;
	pthread_mutex_init(&t->adopting, NULL);
	pthread_mutex_init(&t->mutex, NULL);
	pthread_cond_init(&t->minted, NULL);
	t->r = r;
	t->after_tail = &t->after;
	t->max = drafts_max();
	t->by_version = map64_new();
	t->by_model = map64_new();
	int rc = t->by_version && t->by_model ? 0 : -ENOMEM;
	if (rc == 0 && r->serve && !r->read_only)
		rc = caller_watch_new(live_process_ended, t, r->log, &t->watch);
	if (rc == 0 && t->watch)
		rc = caller_watch_keep(t->watch, r->keep);
	if (rc == 0)
		rc = live_kept_read(t);
	if (rc < 0) {
		live_table_free(t);
		return rc;
	}
	*ret = t;
	return 0;
}

void live_table_stop(struct live_table *t)
{
	pthread_mutex_lock(&t->mutex);
	t->stopped = true;
	struct caller_watch *w = t->watch;
	t->watch = NULL;
	pthread_mutex_unlock(&t->mutex);
	caller_watch_free(w);
}

static bool collect_live(uint64_t key, void *value, void *arg)
{
	struct live **head = arg;
	((struct live *)value)->next_free = *head;
	*head = value;
	return true;
}

void live_table_free(struct live_table *t)
{
	struct live *head = NULL;
	live_table_stop(t);
	if (t->by_version)
		map64_each(t->by_version, collect_live, &head);
	for (struct live *l = head, *next; l; l = next) {
		next = l->next_free;
		live_put(l);
	}
	live_after_free(t);
	map64_free(t->by_version);
	map64_free(t->by_model);
	map64_free(t->before);
	pthread_cond_destroy(&t->minted);
	pthread_mutex_destroy(&t->mutex);
	pthread_mutex_destroy(&t->adopting);
	free(t);
}

static int table_add(struct live_table *t, struct live *l)
{
	struct live *head = map64_get(t->by_model, (uint64_t)l->model_id);
	int rc = map64_put(t->by_version, (uint64_t)l->version_id, l);
	if (rc == 0 && (rc = map64_put(t->by_model, (uint64_t)l->model_id, l)) < 0)
		map64_remove(t->by_version, (uint64_t)l->version_id);
	if (rc == 0)
		l->next_of_model = head;
	return rc;
}

static void table_remove(struct live_table *t, struct live *l)
{
	map64_remove(t->by_version, (uint64_t)l->version_id);
	struct live *head = map64_get(t->by_model, (uint64_t)l->model_id);
	if (head == l) {
		if (l->next_of_model)
			map64_put(t->by_model, (uint64_t)l->model_id, l->next_of_model); /* replaces: needs no memory */
		else
			map64_remove(t->by_model, (uint64_t)l->model_id);
		return;
	}
	while (head && head->next_of_model != l)
		head = head->next_of_model;
	if (head)
		head->next_of_model = l->next_of_model;
}

struct live *live_ref(struct live *l)
{
	atomic_fetch_add(&l->refs, 1);
	return l;
}

void live_put(struct live *l)
{
	if (!l || atomic_fetch_sub(&l->refs, 1) != 1)
		return;
	draft_put(l->draft);
	live_keep_end(l);
	if (l->lock_fd >= 0)
		close(l->lock_fd);
	free(l->parts);
	free(l);
}

struct live *live_find(struct live_table *t, int64_t version_id)
{
	SCOPED_LOCK(&t->mutex);
	struct live *l = map64_get(t->by_version, (uint64_t)version_id);
	return l ? live_ref(l) : NULL;
}

bool live_any(struct live_table *t, int64_t model_id)
{
	SCOPED_LOCK(&t->mutex);
	return map64_get(t->by_model, (uint64_t)model_id) != NULL;
}

void live_remove(struct live_table *t, int64_t version_id)
{
	pthread_mutex_lock(&t->mutex);
	struct live *l = map64_get(t->by_version, (uint64_t)version_id);
	if (l) {
		table_remove(t, l);
		l->removed = true;
		live_keep_end(l);
		live_after_begin(t, l);
	}
	pthread_mutex_unlock(&t->mutex);
	live_put(l);
}

struct draft *live_draft(struct live *l) { return l->draft; }

bool live_anchored(struct live *l) { return atomic_load(&l->anchored); }
void live_set_anchored(struct live *l)
{
	atomic_store(&l->anchored, true);
	SCOPED_LOCK(&l->table->mutex);
	live_keep(l);
}

static int live_new(struct live_table *t, const struct catalog_version *v, int lock_fd, struct live **ret)
{
	struct live *l = calloc(1, sizeof *l);
	if (!l)
		return -ENOMEM;
	*l = (struct live){.refs = 1, .table = t, .version_id = v->id, .model_id = v->model_id, .number = v->number, .run_id = v->run_id, .uid = v->uid,
		.gid = v->gid, .lock_fd = -1};
	int rc = draft_get(t->r->drafts, v->id, &l->draft);
	if (rc < 0) {
		live_put(l);
		return rc;
	}
	l->lock_fd = lock_fd;
	*ret = l;
	return 0;
}

/* ---- mint ---- */

/* A run id is a word that anybody can say, and 127.0.0.1:29500 one that many do: it counts between processes of one user only. */
bool live_same_id(const char *key, uid_t uid, const struct caller *c) { return key[0] && uid == c->uid && !strcmp(key, c->run_id); }

static bool same_run(const char *key, uid_t uid, const struct caller_process *minter, const struct caller *c)
{
	return live_same_id(key, uid, c) || caller_same(*minter, c->self);
}

static bool held_locked(struct live_table *t, int64_t model_id, const struct caller *c)
{
	for (struct live *l = map64_get(t->by_model, (uint64_t)model_id); l; l = l->next_of_model)
		if (same_run(l->run_key, l->uid, &l->chain[0], c))
			return true;
	return false;
}

static bool being_minted(struct live_table *t, int64_t model_id, const struct caller *c)
{
	for (struct live_mint *m = t->mints; m; m = m->next)
		if (m->model_id == model_id && same_run(m->caller.run_id, m->caller.uid, &m->caller.self, c))
			return true;
	return false;
}

static bool is_minting(const struct live_table *t, int64_t model_id)
{
	for (const struct live_mint *m = t->mints; m; m = m->next)
		if (m->model_id == model_id)
			return true;
	return false;
}

bool live_held(struct live_table *t, int64_t model_id, const struct caller *c)
{
	SCOPED_LOCK(&t->mutex);
	return held_locked(t, model_id, c);
}

int live_mint_begin(struct live_table *t, int64_t model_id, const struct caller *c, bool exclusive, struct live_mint **ret)
{
	struct live_mint *m = calloc(1, sizeof *m);
	if (!m)
		return -ENOMEM;
	m->model_id = model_id;
	m->caller = *c;
	pthread_mutex_lock(&t->mutex);
	while (exclusive && being_minted(t, model_id, c))
		pthread_cond_wait(&t->minted, &t->mutex);
	bool held = exclusive && held_locked(t, model_id, c), full = !held && is_full(t), share = !held && !full && has_share(t, c->uid);
	if (!held && !full && !share) {
		m->next = t->mints;
		t->mints = m;
	}
	pthread_mutex_unlock(&t->mutex);
	if (held || full || share) {
		free(m);
		return held ? -EEXIST : full ? -EMFILE : -EDQUOT;
	}
	*ret = m;
	return 0;
}

static void mint_end_locked(struct live_table *t, struct live_mint *m)
{
	struct live_mint **p = &t->mints;
	while (*p != m)
		p = &(*p)->next;
	*p = m->next;
	free(m);
	pthread_cond_broadcast(&t->minted);
}

void live_mint_failed(struct live_table *t, struct live_mint *m)
{
	SCOPED_LOCK(&t->mutex);
	mint_end_locked(t, m);
}

int live_mint_done(struct live_table *t, struct live_mint *m, const struct catalog_version *v, int lock_fd)
{
	struct live *l = NULL;
	int rc = live_new(t, v, lock_fd, &l);
	SCOPED_LOCK(&t->mutex);
	if (rc == 0) {
		text_copy(l->run_key, sizeof l->run_key, m->caller.run_id);
		if (m->caller.self.pid != 0) {
			l->chain[0] = m->caller.self;
			memcpy(l->chain + 1, m->caller.ancestors, m->caller.n_ancestors * sizeof l->chain[0]);
			l->n_chain = 1 + m->caller.n_ancestors;
		}
		rc = table_add(t, l);
		if (rc == 0) {
			live_keep_begin(l);
			live_hold_first(t, l);
		} else {
			live_put(l);
		}
	} else {
		close(lock_fd);
	}
	mint_end_locked(t, m);
	return rc;
}

/* ---- adoption: a draft whose daemon is gone ---- */

static int still_draft(struct registry *r, struct catalog_version *v)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_version_get(conn, v->id, v);
	return rc < 0 ? rc : v->state == CATALOG_DRAFT ? 0 : -ESTALE;
}

struct owner_job { int64_t version_id, owner; };

static int owner_write(struct catalog_conn *conn, void *arg)
{
	struct owner_job *j = arg;
	return catalog_version_set_owner(conn, j->version_id, j->owner);
}

/* It was seen how its run ended, and what follows from that is not on record: the end of the drive, or a death, came before its commit, or cut it off. */
static bool is_undecided(struct catalog_conn *conn, const struct live *l, const struct catalog_run *run)
{
	struct catalog_version_text text = {0};
	if (run->ended_ns == 0 || run->exit_status < 0 || catalog_version_text(conn, l->version_id, &text) < 0)
		return false;
	bool undecided = text.reason == NULL;
	catalog_version_text_release(&text);
	return undecided;
}

/* Who of the run that is on record lives still? Of a run before a reboot nobody does, and its numbers may be others' by now; of one that has ended, nobody who counts. */
static void recall_run(struct registry *r, struct live *l)
{
	struct catalog_run run;
	auto_read struct catalog_conn *conn = NULL;
	if (catalog_read_begin(r->catalog, &conn) < 0 || catalog_run_get(conn, l->run_id, &run) < 0)
		return;
	if (run.key)
		text_copy(l->run_key, sizeof l->run_key, run.key);
	bool rebooted = !run.boot_id || strcmp(run.boot_id, r->boot_id) != 0, undecided = is_undecided(conn, l, &run);
	l->n_chain = rebooted ? 0 : run_chain_parse(run.chain ? run.chain : "", l->chain, LIVE_CHAIN_MAX);
	l->holder_gone = rebooted || undecided;
	l->recalled = !undecided;
	l->status = -1;
	if (undecided) {
		l->holder = l->n_chain; /* nobody, until it is taken up again */
		l->status = run.exit_status;
		l->ended_ns = run.ended_ns;
	}
	catalog_run_release(&run);
}

/* Locked by somebody: it may be ourselves, in a mint that is not in the table yet. */
static struct live *find_minted(struct live_table *t, const struct catalog_version *v)
{
	struct live *l;
	SCOPED_LOCK(&t->mutex);
	while (!(l = map64_get(t->by_version, (uint64_t)v->id)) && v->owner == t->r->mount_id && is_minting(t, v->model_id))
		pthread_cond_wait(&t->minted, &t->mutex);
	return l ? live_ref(l) : NULL;
}

/* kept: from the process before this one; NULL: taken up from the catalog alone. */
static int adopt(struct live_table *t, struct catalog_version *v, int lock_fd, struct kept_live *kept, struct live **ret)
{
	struct registry *r = t->r;
	struct live *l;
	int rc = live_new(t, v, lock_fd, &l);
	if (rc < 0) {
		close(lock_fd);
		return rc;
	}
	bool again = kept && live_kept_restore(l, kept) == 0;
	if (kept && !again)
		keep_drop(r->keep, KEEP_DRAFTS, kept);
	if (r->serve && !again)
		recall_run(r, l);
	if (r->serve && !again && t->paused && v->owner == r->mount_id) { /* minted in the last moment of the process before this one */
		l->recalled = false;
		l->status = 0;
	}
	if (r->serve && v->owner != r->mount_id) {
		struct owner_job j = {v->id, r->mount_id};
		rc = catalog_write(r->catalog, false, owner_write, &j);
		if (rc < 0) /* it only tells others where to go */
			log_warning(r->log, "draft %lld is served here, which cannot be recorded: %s", (long long)v->id, strerror(-rc));
	}
	SCOPED_LOCK(&t->mutex);
	rc = table_add(t, l);
	if (rc < 0) {
		live_put(l);
		return rc;
	}
	live_keep_begin(l);
	if (r->serve && again)
		live_follow_again(t, l);
	else if (r->serve)
		live_hold_first(t, l);
	*ret = live_ref(l);
	return 0;
}

int live_adopt(struct live_table *t, const struct catalog_version *version, struct live **ret)
{
	struct catalog_version v = *version;
	SCOPED_LOCK(&t->adopting);
	int lock_fd = -1;
	struct kept_live *kept = live_kept_take(t, v.id, &lock_fd);
	pthread_mutex_lock(&t->mutex);
	bool full = !kept && is_full(t);
	pthread_mutex_unlock(&t->mutex);
	if (full)
		return -EWOULDBLOCK; /* it can be read still, and is taken up when there is room */
	if (!kept)
		lock_fd = live_lock_draft(t->r, v.id);
	if (lock_fd == -EWOULDBLOCK) {
		struct live *l = find_minted(t, &v);
		if (l)
			*ret = l;
		return l ? 0 : -EWOULDBLOCK;
	}
	if (lock_fd < 0 && lock_fd != -ENOENT)
		return lock_fd;
	int rc = still_draft(t->r, &v); /* asked after the directory: a state changes before its tree goes */
	if (rc == 0 && lock_fd >= 0)
		return adopt(t, &v, lock_fd, kept, ret);
	if (kept)
		live_kept_drop(t, kept);
	else if (lock_fd >= 0)
		close(lock_fd);
	return rc < 0 ? rc : -ENOENT;
}
