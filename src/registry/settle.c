/* The end of a run: an empty draft is discarded, a complete one of a run that ended well is committed, any other gets its reason.
 *
 * No request waits for it, so it notes by itself since when it is at work, where the keeper sees it: one that hangs is found as a commit that somebody asked for is. What then kills one process after the other
 * must not go on for ever, at the cost of everybody on the drive: after BEGUN_MAX of them the draft is left to a person. Which of several that were under way it was nobody knows, so the last try
 * is made of one draft at a time: only the one that kills is left. */
#include "live.h"
#include "lineage.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BEGUN_MAX 3 /* fewer than the deaths in a minute that end a drive */

/* How a run ended. recalled: an earlier daemon saw its beginning. */
struct run_end { int status; int64_t at_ns; bool recalled, in_vain; };
struct settle { enum { SETTLE_DISCARD, SETTLE_COMMIT, SETTLE_KEEP } what; char reason[160]; };

static bool not_seen(const struct run_end *end) { return end->recalled && end->status < 0; }

static void judge_status(const struct run_end *end, struct settle *s)
{
	int status = end->status;
	if (not_seen(end))
		snprintf(s->reason, sizeof s->reason, "ended: whether its run ended well is not known, the drive was not mounted all the time");
	else if (status < 0)
		snprintf(s->reason, sizeof s->reason, "ended: the exit status of its run is not known (Linux 6.15 tells it)");
	else if (WIFSIGNALED(status))
		snprintf(s->reason, sizeof s->reason, "failed: exit %d", 128 + WTERMSIG(status));
	else
		snprintf(s->reason, sizeof s->reason, "failed: exit %d", WEXITSTATUS(status));
}

static bool needs_model_file(struct registry *r, int64_t model_id)
{
	struct catalog_model m;
	auto_read struct catalog_conn *conn = NULL;
	if (catalog_read_begin(r->catalog, &conn) < 0 || catalog_model_get(conn, model_id, &m) < 0)
		return true;
	return m.mode != LAYOUT_DATASET && m.mode != LAYOUT_PROCESS;
}

/* What was decided killed one process after the other; what stays as it is did not. */
static void leave_to_person(struct settle *s)
{
	if (s->what == SETTLE_COMMIT)
		snprintf(s->reason, sizeof s->reason, "complete, but the process that serves the drive did not survive %d tries to commit it: commit it by hand", BEGUN_MAX);
	else if (s->what == SETTLE_DISCARD)
		snprintf(s->reason, sizeof s->reason, "empty, but the process that serves the drive did not survive %d tries to discard it: discard it by hand", BEGUN_MAX);
	s->what = SETTLE_KEEP;
}

static int judge(struct registry *r, struct live *l, const struct run_end *end, struct settle *s)
{
	bool empty, has_model;
	uint64_t files, bytes;
	int rc = draft_is_empty(l->draft, &empty);
	if (rc == 0 && !empty)
		rc = draft_usage(l->draft, &files, &bytes, &has_model);
	if (rc != 0)
		return rc;
	s->what = SETTLE_KEEP;
	if (empty)
		s->what = SETTLE_DISCARD;
	else if (end->status != 0)
		judge_status(end, s);
	else if (!has_model && needs_model_file(r, l->model_id))
		snprintf(s->reason, sizeof s->reason, "incomplete: no model file");
	else
		s->what = SETTLE_COMMIT;
	if (end->in_vain)
		leave_to_person(s);
	return 0;
}

static void record_end(struct registry *r, struct live *l, int status, int64_t ended_ns);

static int act(struct registry *r, struct live *l, const struct run_end *end, const struct settle *s, struct fault *f)
{
	struct registry_actor system = {0, l->uid, l->gid};
	switch (s->what) {
	case SETTLE_DISCARD:
		return registry_discard(r, NULL, l->version_id, DISCARD_NO_FILES, f);
	case SETTLE_COMMIT:
		return registry_commit(r, &system, l->version_id, NULL, f); /* keeps the reason itself */
	case SETTLE_KEEP:
		break;
	}
	lineage_keep(r, &(struct catalog_version){.id = l->version_id, .model_id = l->model_id, .number = l->number, .run_id = l->run_id}, l->draft);
	version_reason(r, l->version_id, s->reason, not_seen(end)); /* what an earlier daemon found out stands */
	log_info(r->log, "draft %lld stays: %s", (long long)l->version_id, s->reason);
	return 0;
}

static int settle_run(struct registry *r, struct live *l, const struct run_end *end)
{
	struct settle s = {0};
	struct fault f = FAULT_INIT;
	if (!not_seen(end))
		record_end(r, l, end->status, end->at_ns);
	int rc = judge(r, l, end, &s);
	sys_crash_point("settle.judged");
	if (rc < 0) {
		fault_set(&f, -rc, "its files cannot be looked at: %s", strerror(-rc));
		version_reason(r, l->version_id, f.text, false);
	} else {
		rc = act(r, l, end, &s, &f);
	}
	if (rc < 0)
		log_warning(r->log, "draft %lld stays: %s", (long long)l->version_id, f.error ? f.text : strerror(-rc));
	return rc;
}

/* ---- seen from outside ---- */

static struct registry_kept *kept_of(struct keep *keep) { return keep ? keep_area(keep, KEEP_AREA_REGISTRY) : NULL; }

static struct own_work *own_begin(struct registry *r)
{
	struct registry_kept *k = kept_of(r->keep);
	for (unsigned i = 0; k && i < REGISTRY_OWN_THREADS; i++) {
		int32_t nobody = 0;
		if (!atomic_compare_exchange_strong(&k->own[i].tid, &nobody, gettid()))
			continue;
		atomic_store(&k->own[i].since_ns, time_monotonic_ns());
		return &k->own[i];
	}
	return NULL;
}

static void own_end(struct own_work *w)
{
	if (!w)
		return;
	atomic_store(&w->since_ns, 0);
	atomic_store(&w->tid, 0);
}

void settle_own_forget(struct registry *r)
{
	struct registry_kept *k = kept_of(r->keep);
	for (unsigned i = 0; k && i < REGISTRY_OWN_THREADS; i++)
		own_end(&k->own[i]);
	r->excused = k && atomic_exchange(&k->excused, false);
}

void registry_own_excuse(struct keep *keep) { atomic_store(&kept_of(keep)->excused, true); }

void registry_own_look(struct keep *keep, unsigned i, struct registry_own *ret)
{
	struct registry_kept *k = kept_of(keep);
	*ret = (struct registry_own){.since_ns = atomic_load(&k->own[i].since_ns), .tid = atomic_load(&k->own[i].tid)};
}

/* ---- when ---- */

#define TRIES_MAX 3

/* Somebody opened a file, or a mapping is still there: tried again when the last file is closed, and a few times at once in case that is over already. */
static void settle_again(struct live_table *t, struct live *l)
{
	SCOPED_LOCK(&t->mutex);
	l->settled = false;
	live_keep(l);
	if (++l->tries < TRIES_MAX || draft_open_files(l->draft) > 0)
		live_settle_soon(t, l);
}

/* This process lived to see the end of it. */
static void settled(struct live *l, bool last)
{
	struct live_table *t = l->table;
	SCOPED_LOCK(&t->mutex);
	l->acting = false;
	l->begun = 0;
	live_keep(l);
	if (last) {
		t->last_try = false;
		live_settle_all(t); /* those that waited for it */
	}
}

static void settle_job(void *arg)
{
	struct live *l = arg;
	struct live_table *t = l->table;
	pthread_mutex_lock(&t->mutex);
	bool ended = !l->removed && !l->settled && live_run_over(l) && draft_open_files(l->draft) == 0, last = l->begun == BEGUN_MAX - 1;
	bool over = ended && !t->stopped && !(last && t->last_try);
	struct run_end end = {l->status, l->ended_ns ? l->ended_ns : time_now_ns(), l->recalled, l->begun >= BEGUN_MAX};
	l->settling = false;
	l->settled = over || l->settled;
	l->acting = over;
	if (over && !end.in_vain)
		l->begun++;
	t->last_try = t->last_try || (over && last);
	live_keep(l); /* should this process die at it */
	pthread_mutex_unlock(&t->mutex);
	if (ended && !over && !not_seen(&end))
		record_end(t->r, l, end.status, end.at_ns); /* the drive may end before its turn comes: what we saw and the next mount cannot see. live.c, recall_run */
	struct own_work *at = over ? own_begin(t->r) : NULL;
	bool busy = over && settle_run(t->r, l, &end) == -EBUSY;
	own_end(at);
	if (over)
		settled(l, last);
	if (busy)
		settle_again(t, l);
	live_put(l);
}

/* Of a draft that is none any more there is nothing to decide. */
static void after_job(void *arg)
{
	struct live *l = arg;
	struct live_table *t = l->table;
	pthread_mutex_lock(&t->mutex);
	const struct run_end end = {l->status, l->ended_ns, l->recalled, false};
	live_after_end(t, l);
	pthread_mutex_unlock(&t->mutex);
	if (!not_seen(&end))
		record_end(t->r, l, end.status, end.at_ns);
	live_put(l);
}

static void after_soon(struct live_table *t, struct live *l)
{
	if (t->stopped || l->settled || !live_run_over(l))
		return;
	l->settled = true;
	if (workq_submit_for(t->r->jobs, l->uid, after_job, live_ref(l)) < 0)
		live_put(l);
}

void live_settle_soon(struct live_table *t, struct live *l)
{
	if (l->after) {
		after_soon(t, l);
		return;
	}
	if (t->stopped || t->paused || l->settling || l->settled || l->removed || !live_run_over(l))
		return;
	if (draft_open_files(l->draft) != 0)
		return; /* live_quiet comes when the last is closed */
	if (workq_submit_for(t->r->jobs, l->uid, settle_job, live_ref(l)) < 0)
		live_put(l);
	else
		l->settling = true;
}

static bool settle_each(uint64_t key, void *value, void *arg)
{
	live_settle_soon(arg, value);
	return true;
}

void live_settle_all(struct live_table *t) { map64_each(t->by_version, settle_each, t); }

void live_quiet(struct live_table *t, int64_t version_id)
{
	SCOPED_LOCK(&t->mutex);
	struct live *l = map64_get(t->by_version, (uint64_t)version_id);
	if (l)
		live_settle_soon(t, l);
}

void live_settle_wait(struct live_table *t) { workq_drain(t->r->jobs); }

/* ---- what is recorded ---- */

struct reason_job { int64_t id; const char *reason; bool fallback; };

static int reason_write(struct catalog_conn *conn, void *arg)
{
	struct reason_job *j = arg;
	struct catalog_version v;
	struct catalog_version_text text = {0};
	int rc = catalog_version_get(conn, j->id, &v);
	if (rc < 0 || v.state != CATALOG_DRAFT)
		return rc == -ENOENT ? 0 : rc;
	if (j->fallback && (rc = catalog_version_text(conn, j->id, &text)) < 0)
		return rc;
	bool stands = text.reason != NULL;
	catalog_version_text_release(&text);
	return stands ? 0 : catalog_version_set_reason(conn, j->id, j->reason);
}

void version_reason(struct registry *r, int64_t version_id, const char *reason, bool fallback)
{
	struct reason_job j = {version_id, reason, fallback};
	if (r->read_only)
		return;
	int rc = catalog_write(r->catalog, false, reason_write, &j);
	if (rc < 0)
		log_warning(r->log, "the reason of draft %lld cannot be kept: %s", (long long)version_id, strerror(-rc));
}

struct end_job { int64_t run_id, ended_ns; int status; };

static int end_write(struct catalog_conn *conn, void *arg)
{
	struct end_job *j = arg;
	struct catalog_run run;
	int rc = catalog_run_get(conn, j->run_id, &run);
	if (rc < 0)
		return rc;
	run.ended_ns = j->ended_ns;
	run.exit_status = j->status;
	rc = catalog_run_update(conn, &run);
	catalog_run_release(&run);
	return rc;
}

static void record_end(struct registry *r, struct live *l, int status, int64_t ended_ns)
{
	struct end_job j = {l->run_id, ended_ns, status};
	int rc = catalog_write(r->catalog, false, end_write, &j);
	if (rc < 0)
		log_warning(r->log, "the end of run %lld cannot be recorded: %s", (long long)l->run_id, strerror(-rc));
}

void live_record_reopened(struct live *l)
{
	version_reason(l->table->r, l->version_id, NULL, false);
	record_end(l->table->r, l, -1, 0);
}
