/* Processes: what they name, and the record of what was done with them.
 *
 * The associations of a process (which versions its nodes are bound to) change in one place, registry_process_finish, in the transaction that records the end of a run or
 * update. Until then whatever happens is only a row of that run. */
#include "registry.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define PROCESS_JSON "process.json"

/* ---- what it names ---- */

static int find_named(struct catalog_conn *conn, const struct process_selector *s, bool dataset, struct catalog_model *ret, struct fault *f)
{
	const char *what = dataset ? "dataset" : "model";
	int rc = catalog_model_find(conn, s->name, ret);
	if (rc == -ENOENT)
		return refuse(f, VERDICT_BAD_PROCESS, PROCESS_JSON ", line %u: there is no %s %s", s->line, what, s->name);
	if (rc == 0 && (ret->mode == LAYOUT_DATASET) != dataset)
		return refuse(f, VERDICT_BAD_PROCESS, PROCESS_JSON ", line %u: %s is no %s", s->line, s->name, what);
	if (rc == 0 && ret->mode == LAYOUT_PROCESS)
		return refuse(f, VERDICT_BAD_PROCESS, PROCESS_JSON ", line %u: %s is a process, no model", s->line, s->name);
	return rc;
}

static int check_where(const struct process_selector *s, struct fault *f)
{
	for (unsigned i = 0; i < s->where.n; i++) {
		struct fault why = FAULT_INIT;
		auto_free struct catalog_condition *c = calloc(1, sizeof *c);
		unsigned states = 0;
		bool is_state = false;
		if (!c)
			return -ENOMEM;
		if (registry_condition_parse(s->where.v[i], c, &states, &is_state, &why) < 0)
			return refuse(f, VERDICT_BAD_PROCESS, PROCESS_JSON ", line %u: %s", s->line, why.text);
		if (is_state)
			return refuse(f, VERDICT_BAD_PROCESS, PROCESS_JSON ", line %u: '%s' asks for a state: only committed versions are used", s->line, s->where.v[i]);
	}
	return s->where.n <= CATALOG_CONDITIONS_MAX ? 0
		: refuse(f, VERDICT_BAD_PROCESS, PROCESS_JSON ", line %u: more than %d conditions", s->line, CATALOG_CONDITIONS_MAX);
}

static int check_selector(struct catalog_conn *conn, const struct process_selector *s, bool dataset, struct fault *f)
{
	struct catalog_model m;
	int rc = find_named(conn, s, dataset, &m, f);
	return rc == 0 ? check_where(s, f) : rc;
}

static int check_aliases(const struct process_spec *s, struct fault *f)
{
	for (unsigned i = 0; i < s->aliases.n; i++)
		if (layout_classify_child(s->aliases.v[i], NULL) != LAYOUT_CHILD_ALIAS)
			return refuse(f, VERDICT_BAD_PROCESS, PROCESS_JSON ": '%s' in \"aliases\" cannot be an alias", s->aliases.v[i]);
	return 0;
}

int registry_process_check(struct registry *r, const struct process_spec *s, struct fault *f)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	for (unsigned i = 0; i < s->n_nodes && rc == 0; i++) {
		rc = check_selector(conn, &s->nodes[i].dataset, true, f);
		if (rc == 0)
			rc = check_selector(conn, &s->nodes[i].model, false, f);
	}
	for (unsigned i = 0; i < s->n_models && rc == 0; i++) {
		struct catalog_model m;
		const struct process_selector trained_on = {.name = s->models[i].dataset, .line = s->models[i].line};
		rc = find_named(conn, &trained_on, true, &m, f);
	}
	if (rc == 0)
		rc = check_aliases(s, f);
	return rc < 0 ? refuse_system(f, rc, PROCESS_JSON " cannot be checked") : 0;
}

struct chosen { const char *name; struct catalog_version version; };

static int choose(struct catalog_conn *conn, const struct catalog_version *v, const struct catalog_model *model, void *arg)
{
	struct chosen *c = arg;
	if (strcmp(model->path, c->name) != 0)
		return 0; /* a path that only begins so */
	c->version = *v;
	return 1;
}

int registry_process_select(struct registry *r, const struct process_selector *s, struct catalog_version *ret, struct fault *f)
{
	const struct registry_find q = {.scope = s->name, .conditions = (const char *const *)s->where.v, .n_conditions = s->where.n};
	struct chosen c = {.name = s->name};
	int rc = registry_find(r, &q, choose, &c, f);
	if (rc > 0)
		*ret = c.version;
	if (rc == 0)
		return refuse(f, VERDICT_NOT_FOUND, s->where.n ? "%s has no committed version that satisfies the conditions of line %u" : "%s has no committed version", s->name, s->line);
	return rc < 0 ? refuse_system(f, rc, "cannot find a version of %s", s->name) : 0;
}

/* ---- loading ---- */

static int resolve(struct registry *r, const char *text, struct registry_ref *ref, struct fault *f)
{
	char name[CATALOG_PATH_MAX];
	bool bare = strncmp(text, "process/", 8) != 0 && strncmp(text, "process_", 8) != 0;
	int n = snprintf(name, sizeof name, "%s%s", bare ? "process/" : "", text);
	if (n < 0 || (size_t)n >= sizeof name)
		return refuse(f, VERDICT_NAME, "the name of the process is too long");
	struct fault why = FAULT_INIT;
	int rc = registry_resolve(r, name, ref, &why);
	if (rc < 0 || ref->model.mode != LAYOUT_PROCESS) {
		if (rc == 0 || rc == -EINVAL)
			return refuse(f, VERDICT_NOT_FOUND, "there is no process '%s'", text);
		if (f)
			*f = why;
		return rc;
	}
	return 0;
}

static int newest_version(struct catalog_conn *conn, struct registry_ref *ref, struct fault *f)
{
	if (ref->model.newest_committed == 0)
		return refuse(f, VERDICT_NOT_FOUND, "the process %s has no committed version", ref->model.path);
	return catalog_version_find(conn, ref->model.id, ref->model.newest_committed, &ref->version);
}

static int read_spec(struct registry *r, const struct catalog_file *file, struct process_spec *ret, struct fault *f)
{
	int fd;
	int rc = registry_file_open(r, file, &fd, f);
	if (rc < 0)
		return rc;
	rc = process_spec_read(fd, ret, f);
	close(fd);
	if ((rc == -EINVAL || rc == -EFBIG) && f)
		f->verdict = VERDICT_BAD_PROCESS;
	return rc;
}

static int find_file(struct registry *r, struct registry_ref *ref, struct catalog_file *ret, struct fault *f)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0 && !ref->has_version)
		rc = newest_version(conn, ref, f);
	if (rc < 0)
		return rc;
	if (ref->version.state != CATALOG_COMMITTED)
		return refuse(f, VERDICT_BAD_PROCESS, "v%u of %s is %s: only what is committed can be run", ref->version.number, ref->model.path, catalog_state_name(ref->version.state));
	rc = catalog_file_find(conn, -ref->version.id, PROCESS_JSON, ret);
	if (rc == -ENOENT || (rc == 0 && ret->type != CATALOG_FILE))
		return refuse(f, VERDICT_BAD_PROCESS, "v%u of %s has no file " PROCESS_JSON, ref->version.number, ref->model.path);
	return rc;
}

int registry_process_load(struct registry *r, const char *text, struct registry_process *ret, struct fault *f)
{
	auto_free struct registry_ref *ref = calloc(1, sizeof *ref);
	struct registry_process p = {0};
	struct catalog_file file;
	int rc = ref ? resolve(r, text, ref, f) : -ENOMEM;
	if (rc == 0)
		rc = find_file(r, ref, &file, f);
	if (rc == 0)
		rc = read_spec(r, &file, &p.spec, f);
	if (rc == 0)
		rc = registry_process_check(r, &p.spec, f);
	if (rc < 0) {
		process_spec_release(&p.spec);
		return refuse_system(f, rc, "the process %s cannot be read", text);
	}
	p.model = ref->model;
	p.version = ref->version;
	*ret = p;
	return 0;
}

void registry_process_release(struct registry_process *p) { process_spec_release(&p->spec); }

/* ---- the record ---- */

#define LOCK_TRIES 5
#define LOCK_PAUSE_NS (20 * 1000000L)

static void lock_name(int64_t process_id, char out[64]) { snprintf(out, 64, "run/process-%lld", (long long)process_id); }

/* Who asks holds it shared for a moment. */
int process_is_locked(struct registry *r, int64_t process_id, bool *ret)
{
	char name[64];
	lock_name(process_id, name);
	auto_close int fd = sys_openat_beneath(r->dirfd, name, O_RDONLY | O_NONBLOCK, 0);
	int rc = fd < 0 ? fd : sys_lock(fd, false, false);
	if (rc < 0 && rc != -ENOENT && rc != -EWOULDBLOCK)
		return rc;
	*ret = rc == -EWOULDBLOCK;
	return 0;
}

/* It stays there after the run: who waits for it would else hold one without a name. So it must be one that the owner of the store can open, also where root runs a process first. */
static int open_lock(const struct registry *r, const char *name)
{
	struct stat st;
	auto_close int fd = sys_openat_beneath(r->dirfd, name, O_RDWR | O_CREAT | O_NONBLOCK, 0600);
	int rc = fd < 0 ? fd : sys_fstat(fd, &st);
	if (rc == 0 && !S_ISREG(st.st_mode))
		rc = -EUCLEAN;
	if (rc == 0)
		rc = sys_give_to_owner(fd, r->dirfd);
	return rc < 0 ? rc : take_fd(&fd);
}

int registry_process_lock(struct registry *r, const struct catalog_model *process, int *ret_fd, struct fault *f)
{
	char name[64];
	if (r->read_only)
		return refuse(f, VERDICT_READ_ONLY, "the store is opened read-only: %s cannot be run", process->path);
	lock_name(process->id, name);
	auto_close int fd = open_lock(r, name);
	int rc = fd < 0 ? fd : sys_lock(fd, true, false);
	for (int i = 0; rc == -EWOULDBLOCK && i < LOCK_TRIES; i++) { /* perhaps somebody only asks: process_is_locked */
		nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
		rc = sys_lock(fd, true, false);
	}
	if (rc == -EWOULDBLOCK)
		return refuse(f, VERDICT_BUSY, "%s is being run or updated already: wait for that to end", process->path);
	if (rc < 0)
		return refuse_system(f, rc, "%s cannot be locked", process->path);
	*ret_fd = take_fd(&fd);
	return 0;
}

struct begin_job { struct catalog_process_run *run; const struct catalog_process_step *steps; size_t n; int64_t id; struct catalog_version gone; };

/* ret: the version, if it was retired; id 0: it is committed, or there is none. */
static int find_gone(struct catalog_conn *conn, int64_t version_id, struct catalog_version *ret)
{
	struct catalog_version v;
	int rc = version_id ? catalog_version_get(conn, version_id, &v) : 0;
	if (rc < 0 || !version_id || v.state == CATALOG_COMMITTED)
		return rc;
	*ret = v;
	return -ESTALE;
}

/* From here on a retirement finds the run on record; what went before it, since it was chosen, is found here. */
static int begin_write(struct catalog_conn *conn, void *arg)
{
	struct begin_job *j = arg;
	int rc = catalog_process_run_add(conn, j->run, &j->id);
	for (size_t i = 0; i < j->n && rc == 0; i++) {
		rc = find_gone(conn, j->steps[i].dataset_id, &j->gone);
		if (rc == 0)
			rc = find_gone(conn, j->steps[i].model_id, &j->gone);
		if (rc == 0)
			rc = catalog_process_step_put(conn, j->id, &j->steps[i]);
	}
	return rc;
}

int registry_process_begin(struct registry *r, struct catalog_process_run *run, const struct catalog_process_step *steps, size_t n, struct fault *f)
{
	struct begin_job j = {.run = run, .steps = steps, .n = n};
	sys_crash_point("process.begin");
	int rc = catalog_write(r->catalog, true, begin_write, &j);
	sys_crash_point("process.begun");
	if (rc == -ESTALE && j.gone.id) {
		char label[VERSION_LABEL_MAX];
		version_label(r, j.gone.model_id, j.gone.number, label);
		return refuse(f, VERDICT_BAD_PROCESS, "%s, which would be used, is %s meanwhile", label, catalog_state_name(j.gone.state));
	}
	if (rc < 0)
		return refuse_system(f, rc, "the run cannot be recorded");
	run->id = j.id;
	return 0;
}

struct step_job { int64_t run_id; const struct catalog_process_step *s; };

static int step_write(struct catalog_conn *conn, void *arg)
{
	struct step_job *j = arg;
	return catalog_process_step_put(conn, j->run_id, j->s);
}

int registry_process_step(struct registry *r, int64_t run_id, const struct catalog_process_step *s, struct fault *f)
{
	struct step_job j = {run_id, s};
	int rc = catalog_write(r->catalog, false, step_write, &j);
	sys_crash_point("process.step-recorded");
	return rc < 0 ? refuse_system(f, rc, "the step %s cannot be recorded", s->name) : 0;
}

struct finish_job {
	struct registry *r;
	const struct registry_actor *who;
	const struct registry_process_end *e;
	char author[64];
	int64_t process_id;
	struct catalog_version gone; /* what was retired meanwhile; id 0: nothing */
	int64_t newer;               /* the run that was associated meanwhile; 0: none */
};

static int move_aliases(struct catalog_conn *conn, const struct finish_job *j)
{
	const struct registry_process_end *e = j->e;
	int64_t now = time_now_ns(), id;
	for (size_t i = 0; i < e->n_adopted; i++)
		for (unsigned k = 0; e->aliases && k < e->aliases->n; k++) {
			struct catalog_alias a = {.model_id = e->adopted[i].model_id, .number = e->adopted[i].number, .uid = j->who->uid, .gid = j->who->gid, .set_ns = now};
			int rc = text_copy(a.name, sizeof a.name, e->aliases->v[k]);
			if (rc == 0)
				rc = catalog_alias_set(conn, &a, j->author, &id);
			if (rc < 0)
				return rc;
		}
	return 0;
}

/* What is bound must still be committed: a version may have been retired while the nodes ran. */
static int check_bound(struct catalog_conn *conn, struct finish_job *j, const struct catalog_process_binding *b)
{
	int rc = find_gone(conn, b->dataset_id, &j->gone);
	return rc < 0 ? rc : find_gone(conn, b->model_id, &j->gone);
}

static int associate(struct catalog_conn *conn, struct finish_job *j)
{
	const struct registry_process_end *e = j->e;
	char reason[96];
	int rc = catalog_process_bindings_clear(conn, j->process_id);
	for (size_t i = 0; i < e->n_bindings && rc == 0; i++)
		if ((rc = check_bound(conn, j, &e->bindings[i])) == 0)
			rc = catalog_process_binding_put(conn, j->process_id, &e->bindings[i]);
	if (rc == 0)
		rc = move_aliases(conn, j);
	snprintf(reason, sizeof reason, "it was interrupted, and %s %lld was associated after it", e->run->kind == CATALOG_PROCESS_RUN ? "run" : "update", (long long)e->run->id);
	return rc < 0 ? rc : catalog_process_supersede(conn, j->process_id, e->run->id, time_now_ns(), reason);
}

/* What began before the run that is associated now was chosen before it: it would lead back. */
static int end_superseded(struct catalog_conn *conn, const struct finish_job *j)
{
	char reason[96];
	struct catalog_process_run run = *j->e->run;
	snprintf(reason, sizeof reason, "run or update %lld, which is newer, was associated before its end", (long long)j->newer);
	run.state = CATALOG_PROCESS_SUPERSEDED;
	run.reason = reason;
	return catalog_process_run_end(conn, &run);
}

static int finish_write(struct catalog_conn *conn, void *arg)
{
	struct finish_job *j = arg;
	const struct catalog_process_run *run = j->e->run;
	bool done = run->state == CATALOG_PROCESS_DONE;
	int rc = done ? catalog_process_bound_by(conn, j->process_id, &j->newer) : 0;
	if (j->newer <= run->id)
		j->newer = 0;
	if (rc == 0 && j->newer)
		return end_superseded(conn, j);
	if (rc == 0 && done)
		rc = associate(conn, j);
	if (rc == 0)
		rc = catalog_process_run_end(conn, run);
	sys_crash_point("process.in-transaction");
	return rc;
}

int registry_process_finish(struct registry *r, const struct registry_actor *who, const struct registry_process_end *e, struct fault *f)
{
	struct finish_job j = {.r = r, .who = who, .e = e, .process_id = e->run->process_id};
	caller_user_name(who->uid, j.author, sizeof j.author);
	sys_crash_point("process.finish");
	int rc = catalog_write(r->catalog, true, finish_write, &j);
	sys_crash_point("process.finished");
	if (rc == -ESTALE && j.gone.id) {
		char label[VERSION_LABEL_MAX];
		version_label(r, j.gone.model_id, j.gone.number, label);
		return refuse(f, VERDICT_BAD_PROCESS, "%s, which was used, is %s meanwhile: the associations stay as they were", label, catalog_state_name(j.gone.state));
	}
	if (rc == 0 && j.newer)
		return refuse(f, VERDICT_BAD_PROCESS, "run or update %lld, which is newer, was associated meanwhile: this one is superseded", (long long)j.newer);
	return rc < 0 ? refuse_system(f, rc, "the end of the run cannot be recorded: the associations stay as they were") : 0;
}
