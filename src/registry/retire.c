/* Retire: a committed version goes out of use.
 *
 * Who has it open is asked of the files themselves: a lease on a content is refused as long as anybody has it open or mapped, through whatever mount, namespace
 * or way (sys_probe_users). What the lease cannot tell is through which version, where several hold one content; so a content that another version holds too does not stand in the
 * way, unless the drive that is asked knows better by its own table of open files.
 *
 * The row, its metrics summary and the list of its files stay. Its aliases are dropped in the same transaction, where force allows it. */
#include "keeping.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- is it open? ---- */

#define HOLDERS_PIECE 50000
#define USE_TRIES 15
#define USE_PAUSE_NS (20 * 1000000L)

struct holders { int64_t version_id, blob, last; unsigned n; bool others; };

static int look_for_others(const struct catalog_reference *x, void *arg)
{
	struct holders *h = arg;
	h->last = x->file_id;
	h->n++;
	h->others = x->blob == h->blob && x->version_id != h->version_id && x->state == CATALOG_COMMITTED;
	return h->others;
}

/* Reads all entries, so it is asked only of a content that is open. */
static int is_shared(struct registry *r, int64_t version_id, const struct blob_id *id, bool *ret)
{
	struct holders h = {.version_id = version_id, .n = HOLDERS_PIECE};
	int rc = 0;
	while (rc == 0 && h.n == HOLDERS_PIECE) {
		struct catalog_blob row;
		auto_read struct catalog_conn *conn = NULL;
		rc = catalog_read_begin(r->catalog, &conn);
		if (rc == 0)
			rc = catalog_blob_find(conn, id, &row);
		if (rc == 0) {
			h.n = 0;
			h.blob = row.id;
			rc = catalog_reference_list(conn, h.last, INT64_MAX, HOLDERS_PIECE, look_for_others, &h);
		}
	}
	*ret = h.others;
	return rc < 0 ? rc : 0;
}

struct contents { struct content { char *path; struct blob_id id; } *v; size_t n; };

static void contents_release(struct contents *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->v[i].path);
	free(c->v);
}

static int take_content(const char *path, const struct catalog_file *file, void *arg)
{
	struct contents *c = arg;
	if (file->type != CATALOG_FILE || file->inode != file->id)
		return 0;
	if ((c->n & (c->n - 1)) == 0) { /* full at each power of two */
		struct content *v = reallocarray(c->v, c->n ? 2 * c->n : 1, sizeof *v);
		if (!v)
			return -ENOMEM;
		c->v = v;
	}
	c->v[c->n] = (struct content){strdup(path), file->blob};
	return c->v[c->n++].path ? 0 : -ENOMEM;
}

static int read_contents(struct registry *r, int64_t version_id, struct contents *ret)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	return rc < 0 ? rc : catalog_file_list(conn, version_id, take_content, ret);
}

/* What cannot be asked (a content that is lost, a file of somebody else's without the right to a lease) does not stand in the way. */
static bool is_used(struct registry *r, const struct blob_id *id)
{
	auto_close int fd = blob_open(r->blobs, id);
	return fd >= 0 && sys_probe_users(fd) == -EBUSY;
}

/* What a commit leaves to tidy is open for a moment, here or in the daemon, and the kernel drops a closed file a little after its close. */
static bool stays_used(struct registry *r, const struct blob_id *id)
{
	for (int i = 0; i < USE_TRIES; i++) {
		nanosleep(&(struct timespec){.tv_nsec = USE_PAUSE_NS}, NULL);
		if (!is_used(r, id))
			return false;
	}
	return true;
}

static int check_unused(struct registry *r, const struct catalog_version *v, const char *label, struct fault *f)
{
	__attribute__((cleanup(contents_release))) struct contents c = {0};
	int rc = read_contents(r, v->id, &c);
	for (size_t i = 0; rc == 0 && i < c.n; i++) {
		bool shared = false;
		if (!is_used(r, &c.v[i].id))
			continue;
		rc = is_shared(r, v->id, &c.v[i].id, &shared);
		if (rc == 0 && !shared && stays_used(r, &c.v[i].id))
			return refuse(f, VERDICT_BUSY, "%s is in use: a program has %s open or mapped (--force retires it all the same)", label, c.v[i].path);
	}
	return rc < 0 ? refuse_system(f, rc, "the files of %s cannot be looked at", label) : 0;
}

/* ---- the transaction ---- */

struct retire_job {
	struct registry *r;
	int64_t version_id;
	const struct registry_retire *how;
	const char *label, *author;
	uid_t uid;
	int64_t at_ns;
	struct catalog_version v;
	struct fault fault;
};

struct leading { uint32_t number; char name[CATALOG_NAME_MAX]; };

static int find_leading(const struct catalog_alias *a, void *arg)
{
	struct leading *l = arg;
	if (a->number != l->number)
		return 0;
	memcpy(l->name, a->name, sizeof l->name);
	return 1;
}

static int settle_aliases(struct catalog_conn *conn, struct retire_job *j)
{
	for (;;) {
		struct leading l = {.number = j->v.number};
		int rc = catalog_alias_list(conn, j->v.model_id, 0, find_leading, &l);
		if (rc <= 0)
			return rc;
		if (!j->how->force)
			return refuse(&j->fault, VERDICT_ALIASED, "%s is in use: the alias %s leads to it; move or drop the alias first (--force drops it)", j->label, l.name);
		rc = catalog_alias_drop(conn, j->v.model_id, l.name, j->at_ns, j->uid, j->author);
		if (rc < 0)
			return rc;
	}
}

static int refuse_needed(struct fault *f, const char *label, const char *why)
{
	return refuse(f, VERDICT_BUSY, "%s is in use: %s (--force retires it all the same)", label, why);
}

/* Associations lead to committed versions, as aliases do. */
static int check_bindings(struct catalog_conn *conn, struct retire_job *j)
{
	auto_free struct catalog_model *process = NULL;
	int64_t id;
	if (j->how->force)
		return 0;
	int rc = catalog_process_binding_find(conn, j->version_id, &id);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	process = malloc(sizeof *process);
	rc = process ? catalog_model_get(conn, id, process) : -ENOMEM;
	return rc < 0 ? rc : refuse(&j->fault, VERDICT_BUSY, "%s is in use: %s is bound to it, see mintfs process show (--force retires it all the same)", j->label, process->path);
}

/* A run may have begun since check_needed: it and this transaction see each other. */
static int check_runs(struct catalog_conn *conn, struct retire_job *j)
{
	char why[IN_USE_MAX] = "";
	int rc = j->how->force ? 0 : in_use_by_run(j->r, conn, j->version_id, why);
	return rc == 0 && why[0] ? refuse_needed(&j->fault, j->label, why) : rc;
}

static int retire_write(struct catalog_conn *conn, void *arg)
{
	struct retire_job *j = arg;
	j->fault = (struct fault)FAULT_INIT;
	int rc = catalog_version_get(conn, j->version_id, &j->v);
	if (rc == 0)
		rc = check_bindings(conn, j);
	if (rc == 0)
		rc = check_runs(conn, j);
	if (rc == 0)
		rc = settle_aliases(conn, j);
	return rc < 0 ? rc : catalog_version_retire(conn, j->version_id, j->at_ns, j->uid, j->author, j->how->message);
}

/* ---- all of it ---- */

static int find_version(struct registry *r, int64_t version_id, struct catalog_version *v)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	return rc < 0 ? rc : catalog_version_get(conn, version_id, v);
}

static bool is_aliased(struct registry *r, const struct catalog_version *v)
{
	struct leading l = {.number = v->number};
	auto_read struct catalog_conn *conn = NULL;
	return catalog_read_begin(r->catalog, &conn) == 0 && catalog_alias_list(conn, v->model_id, 0, find_leading, &l) > 0;
}

/* By force aliases are dropped, which not everybody may who made a version. */
static int check_right(struct registry *r, const struct registry_actor *who, const struct catalog_version *v, bool force, const char *label, struct fault *f)
{
	char what[VERSION_LABEL_MAX + 32];
	snprintf(what, sizeof what, "%s is not retired", label);
	int rc = allow_version(r, who, v, what, f);
	return rc == 0 && force && is_aliased(r, v) ? allow_alias_change(r, who, v->model_id, what, f) : rc;
}

static int check_state(const struct registry *r, const struct catalog_version *v, const char *label, struct fault *f)
{
	if (v->state == CATALOG_DRAFT)
		return refuse(f, VERDICT_NOT_COMMITTED, "%s is a draft: it is discarded, not retired", label);
	if (v->state == CATALOG_DISCARDED)
		return refuse(f, VERDICT_NOT_COMMITTED, "%s was discarded: there is nothing to retire", label);
	return r->read_only ? refuse(f, VERDICT_READ_ONLY, "the drive is mounted read-only: %s stays", label) : 0;
}

/* What others were made from stays, or it is said by force; their lineage tells of it either way. */
static int check_heirs(struct registry *r, const struct catalog_version *v, const char *label, struct fault *f)
{
	int64_t n = 0;
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_lineage_count(conn, v->id, NULL, &n);
	if (rc < 0)
		return refuse_system(f, rc, "%s is not retired", label);
	if (n > 0)
		return refuse(f, VERDICT_BUSY, "%s is not retired: %lld %s made from it, see mintfs lineage --down (--force retires it all the same; the lineage stays)", label, (long long)n,
			plural(n, "version was", "versions were"));
	return 0;
}

static int check_needed(struct registry *r, const struct registry_actor *who, const struct catalog_version *v, const char *label, struct fault *f)
{
	struct asker a;
	char why[IN_USE_MAX] = "";
	readers_flush(r->readers);
	asker_init(&a, who);
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = in_use_by(r, conn, &a, v->id, why);
	if (rc < 0)
		return refuse_system(f, rc, "who uses %s cannot be told", label);
	return why[0] ? refuse_needed(f, label, why) : 0;
}

static int check_use(struct registry *r, const struct registry_actor *who, const struct catalog_version *v, const struct registry_retire *how, const char *label, struct fault *f)
{
	if (how->force)
		return 0;
	if (how->open_files > 0)
		return refuse(f, VERDICT_BUSY, "%s is in use: %u of its files %s open (--force retires it all the same)", label, how->open_files,
			plural(how->open_files, "is", "are"));
	int rc = check_heirs(r, v, label, f);
	if (rc == 0)
		rc = check_needed(r, who, v, label, f);
	return rc < 0 ? rc : check_unused(r, v, label, f);
}

int registry_retire(struct registry *r, const struct registry_actor *who, int64_t version_id, const struct registry_retire *how, struct fault *f)
{
	char label[VERSION_LABEL_MAX], author[64];
	struct catalog_version v;
	int rc = find_version(r, version_id, &v);
	if (rc < 0)
		return refuse_system(f, rc, "cannot find the version");
	if (v.state == CATALOG_RETIRED)
		return 0;
	version_label(r, v.model_id, v.number, label);
	rc = check_state(r, &v, label, f);
	if (rc == 0)
		rc = check_right(r, who, &v, how->force, label, f);
	if (rc == 0)
		rc = check_use(r, who, &v, how, label, f);
	if (rc < 0)
		return rc;
	caller_user_name(who->uid, author, sizeof author);
	struct retire_job j = {.r = r, .version_id = version_id, .how = how, .label = label, .author = author, .uid = who->uid, .at_ns = time_now_ns()};
	sys_crash_point("retire.begin");
	rc = catalog_write(r->catalog, true, retire_write, &j);
	sys_crash_point("retire.recorded");
	if (rc == -ESTALE) /* somebody else was quicker: it is what was asked for */
		return 0;
	if (rc < 0 && f && j.fault.error)
		*f = j.fault;
	if (rc < 0)
		return refuse_system(f, rc, "%s is not retired", label);
	log_info(r->log, "%s retired", label);
	registry_emit(r, REGISTRY_RETIRED, v.model_id, version_id, v.number);
	return 0;
}
