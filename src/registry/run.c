/* The record of a run: who minted, what command, where, from which state of the code.
 *
 * The command on record is that of the first process that writes the draft; until one does, of the minting one. What takes time (git) is
 * looked up by threads of their own; a commit that writes the record waits for what was asked about its own run, and not for others.
 *
 * Lock: the observer's mutex over the list of what is under way; nothing is called under it. */
#include "registry.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OBSERVE_WAIT_NS (6 * NS_PER_SEC) /* git is given 5 */

/* A service (sshd, tmux, cron, a notebook server) is an ancestor of sessions that have nothing to do with each other. If it held a draft, the failed draft of
 * one would be `latest` for all. It is told by being a child of init (hence the last known ancestor), leading a session, and having given its
 * child a session of its own; a script left behind by nohup or setsid is in one session with what it starts. */
void run_leave_out_service(struct caller *c)
{
	if (c->n_ancestors == 0 || c->n_ancestors == CALLER_ANCESTORS_MAX)
		return;
	pid_t last = c->ancestors[c->n_ancestors - 1].pid, child = c->n_ancestors > 1 ? c->ancestors[c->n_ancestors - 2].pid : c->self.pid;
	if (getsid(last) == last && getsid(child) != last)
		c->n_ancestors--;
}

static int chain_text(const struct caller *c, struct buf *out)
{
	if (c->self.pid == 0)
		return 0;
	buf_printf(out, "%d:%" PRIu64, (int)c->self.pid, c->self.start);
	for (unsigned i = 0; i < c->n_ancestors; i++)
		buf_printf(out, " %d:%" PRIu64, (int)c->ancestors[i].pid, c->ancestors[i].start);
	return out->error;
}

unsigned run_chain_parse(const char *text, struct caller_process *out, unsigned max)
{
	unsigned n = 0;
	while (n < max && *text) {
		char *end;
		long pid = strtol(text, &end, 10);
		if (end == text || *end != ':' || pid <= 0)
			break;
		text = end + 1;
		uint64_t start = strtoull(text, &end, 10);
		if (end == text)
			break;
		out[n++] = (struct caller_process){(pid_t)pid, start};
		text = end + strspn(end, " ");
	}
	return n;
}

/* ---- observed later ---- */

struct observation {
	struct registry *r;
	int64_t run_id;
	uid_t uid;
	gid_t gid;
	struct caller_details details; /* of a writer; of the minter, whose record is there, only the directory */
	char commit[65];
	int dirty;
	struct observation *next;
};

/* What git said of a directory a moment ago: a sweep of a hundred trainings starts in one place. */
struct git_answer {
	char *cwd; /* owned; NULL: none yet */
	uid_t uid;
	int64_t asked_ns;
	int rc, dirty;
	char commit[65];
};
#define GIT_FRESH_NS NS_PER_SEC

struct observer {
	struct workq *q;
	atomic_bool stopped;
	pthread_mutex_t mutex;
	pthread_cond_t ended;           /* one ended, or stopped */
	struct observation *under_way;  /* mutex */
	struct git_answer last;         /* mutex */
};

int observer_new(struct observer **ret)
{
	struct observer *o = calloc(1, sizeof *o);
	pthread_condattr_t monotonic;
	if (!o)
		return -ENOMEM;
	int rc = workq_new(&(struct workq_options){.name = "mintfs-git", .threads = 2}, &o->q);
	if (rc < 0) {
		free(o);
		return rc;
	}
	pthread_mutex_init(&o->mutex, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&o->ended, &monotonic);
	pthread_condattr_destroy(&monotonic);
	*ret = o;
	return 0;
}

void observer_stop(struct observer *o)
{
	if (!o)
		return;
	SCOPED_LOCK(&o->mutex);
	atomic_store(&o->stopped, true);
	pthread_cond_broadcast(&o->ended);
}

void observer_free(struct observer *o)
{
	if (!o)
		return;
	observer_stop(o);
	workq_free(o->q);
	pthread_cond_destroy(&o->ended);
	pthread_mutex_destroy(&o->mutex);
	free(o->last.cwd);
	free(o);
}

static void replace(char **to, char **from)
{
	if (*from) {
		free(*to);
		*to = take_ptr(*from);
	}
}

static int details_write(struct catalog_conn *conn, void *arg)
{
	struct observation *o = arg;
	struct catalog_run run;
	int rc = catalog_run_get(conn, o->run_id, &run);
	if (rc < 0)
		return rc;
	auto_free char *command = o->details.command ? strdup(o->details.command) : NULL;
	auto_free char *cwd = o->details.cwd ? strdup(o->details.cwd) : NULL;
	auto_free char *commit = o->commit[0] ? strdup(o->commit) : NULL;
	replace(&run.command, &command);
	replace(&run.cwd, &cwd);
	replace(&run.git_commit, &commit);
	if (o->commit[0])
		run.git_dirty = o->dirty;
	if (o->details.started_ns && o->details.started_ns < run.started_ns)
		run.started_ns = o->details.started_ns;
	rc = catalog_run_update(conn, &run);
	catalog_run_release(&run);
	return rc;
}

static void observation_end(struct observer *by, struct observation *o)
{
	pthread_mutex_lock(&by->mutex);
	struct observation **p = &by->under_way;
	while (*p != o)
		p = &(*p)->next;
	*p = o->next;
	pthread_cond_broadcast(&by->ended);
	pthread_mutex_unlock(&by->mutex);
	caller_details_release(&o->details);
	free(o);
}

/* git in a directory of our own drive would ask us while we may be ending, and hold the mount. */
static bool is_on_drive(const struct registry *r, const char *cwd)
{
	size_t len = r->mountpoint ? strlen(r->mountpoint) : 0;
	return len > 0 && !strncmp(cwd, r->mountpoint, len) && (cwd[len] == '/' || cwd[len] == '\0');
}

static bool git_known(struct observer *by, const char *cwd, uid_t uid, struct git_answer *ret)
{
	SCOPED_LOCK(&by->mutex);
	const struct git_answer *a = &by->last;
	if (!a->cwd || strcmp(a->cwd, cwd) != 0 || a->uid != uid || time_monotonic_ns() - a->asked_ns > GIT_FRESH_NS)
		return false;
	*ret = *a;
	return true;
}

static void git_remember(struct observer *by, const struct observation *o, const struct git_answer *a)
{
	char *cwd = strdup(o->details.cwd);
	SCOPED_LOCK(&by->mutex);
	free(by->last.cwd);
	by->last = *a;
	by->last.cwd = cwd;
}

static int look_at_git(struct observer *by, struct observation *o)
{
	struct git_answer a = {.uid = o->uid, .asked_ns = time_monotonic_ns()};
	if (!o->details.cwd || atomic_load(&by->stopped) || is_on_drive(o->r, o->details.cwd))
		return -ENOENT;
	if (!git_known(by, o->details.cwd, o->uid, &a)) {
		bool dirty = false;
		a.rc = caller_git_state(o->details.cwd, o->uid, o->gid, a.commit, &dirty);
		a.dirty = dirty;
		git_remember(by, o, &a);
	}
	if (a.rc < 0)
		return a.rc;
	text_copy(o->commit, sizeof o->commit, a.commit);
	o->dirty = a.dirty;
	return 0;
}

static void observe_job(void *arg)
{
	struct observation *o = arg;
	struct observer *by = o->r->observer;
	int rc = look_at_git(by, o);
	if (rc == 0 || o->details.command) {
		rc = catalog_write(o->r->catalog, false, details_write, o);
		if (rc < 0)
			log_warning(o->r->log, "run %lld: what is known of it cannot be recorded: %s", (long long)o->run_id, strerror(-rc));
	}
	observation_end(by, o);
}

static struct observation *observation_new(struct registry *r, int64_t run_id, uid_t uid, gid_t gid)
{
	struct observation *o = r->serve ? calloc(1, sizeof *o) : NULL;
	if (o)
		*o = (struct observation){.r = r, .run_id = run_id, .uid = uid, .gid = gid};
	return o;
}

static void observation_begin(struct observation *o)
{
	struct observer *by = o->r->observer;
	pthread_mutex_lock(&by->mutex);
	o->next = by->under_way;
	by->under_way = o;
	pthread_mutex_unlock(&by->mutex);
	if (workq_submit(by->q, observe_job, o) < 0)
		observation_end(by, o);
}

void run_observe(struct registry *r, int64_t run_id, struct caller_process p, uid_t uid, gid_t gid)
{
	struct observation *o = p.pid != 0 ? observation_new(r, run_id, uid, gid) : NULL;
	if (!o)
		return;
	caller_details_read(p, &o->details);
	observation_begin(o);
}

void run_observe_minter(struct registry *r, int64_t run_id, const struct catalog_run *run, uid_t uid, gid_t gid)
{
	struct observation *o = run->cwd ? observation_new(r, run_id, uid, gid) : NULL;
	if (!o)
		return;
	o->details.cwd = strdup(run->cwd);
	observation_begin(o);
}

/* ---- the minting caller ---- */

static int copy_text(char **to, const char *from) { return (*to = strdup(from)) ? 0 : -ENOMEM; }

/* A trainer that mints version after version, from one directory: its record is whole at once, and nothing is written twice. */
static int recall_git(struct registry *r, struct catalog_run *run, bool *ret_known)
{
	struct git_answer a;
	*ret_known = run->cwd && r->observer && git_known(r->observer, run->cwd, run->uid, &a);
	if (!*ret_known || a.rc < 0)
		return 0;
	run->git_dirty = a.dirty;
	return copy_text(&run->git_commit, a.commit);
}

int run_describe(struct registry *r, const struct caller *c, const char *user, struct catalog_run *ret, bool *ret_observed)
{
	struct catalog_run run = {.uid = c->uid, .git_dirty = -1, .exit_status = -1, .started_ns = time_now_ns()};
	auto_buf struct buf chain = BUF_INIT(4096);
	struct caller_details d = {0};
	if (c->self.pid != 0)
		caller_details_read(c->self, &d);
	int rc = chain_text(c, &chain);
	if (rc == 0)
		rc = copy_text(&run.user, user);
	if (rc == 0)
		rc = copy_text(&run.host, r->host);
	if (rc == 0)
		rc = copy_text(&run.boot_id, r->boot_id);
	if (rc == 0)
		rc = copy_text(&run.chain, buf_text(&chain));
	if (rc == 0 && c->run_id[0])
		rc = copy_text(&run.key, c->run_id);
	run.command = take_ptr(d.command);
	run.cwd = take_ptr(d.cwd);
	if (d.started_ns)
		run.started_ns = d.started_ns;
	caller_details_release(&d);
	if (rc == 0)
		rc = recall_git(r, &run, ret_observed);
	if (rc < 0) {
		catalog_run_release(&run);
		return rc;
	}
	*ret = run;
	return 0;
}

/* ---- waiting for it ---- */

static bool is_under_way(const struct observer *by, int64_t run_id)
{
	for (const struct observation *o = by->under_way; o; o = o->next)
		if (o->run_id == run_id)
			return true;
	return false;
}

void run_wait_observed(struct registry *r, int64_t run_id)
{
	struct observer *by = r->observer;
	struct timespec until = ns_timespec(time_monotonic_ns() + OBSERVE_WAIT_NS);
	int timed_out = 0;
	SCOPED_LOCK(&by->mutex);
	while (is_under_way(by, run_id) && !atomic_load(&by->stopped) && timed_out == 0)
		timed_out = pthread_cond_timedwait(&by->ended, &by->mutex, &until);
}
