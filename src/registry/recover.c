/* What a mount puts right that an earlier death left: dead mounts, what came in and was not taken, drafts and their directories. */
#include "registry.h"

#include "intake.h"

#include <errno.h>
#include <string.h>

struct id_list { int64_t *ids; size_t n, cap; int error; };

static int id_list_add(struct id_list *l, int64_t id)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		int64_t *ids = realloc(l->ids, cap * sizeof *ids);
		if (!ids)
			return l->error = -ENOMEM;
		l->ids = ids;
		l->cap = cap;
	}
	l->ids[l->n++] = id;
	return 0;
}

static int collect_draft_row(const struct catalog_version *v, const struct catalog_version_text *text, void *arg) { return id_list_add(arg, v->id); }
static int collect_draft_dir(int64_t id, void *arg) { return id_list_add(arg, id); }

static int discard_write(struct catalog_conn *conn, void *arg)
{
	return catalog_version_set_state(conn, *(int64_t *)arg, CATALOG_DISCARDED);
}

struct draft_row { struct registry *r; int64_t id, ahead_end; bool lost; /* the row is there, the tree is not */ };

/* The rows ahead of a commit that did not come to its end; then the draft itself, if it is lost: there is no directory to find them by, once it is discarded. */
static void settle_row(const struct draft_row *x)
{
	int64_t id = x->id;
	if (ahead_drop(x->r, id, x->ahead_end) < 0 || !x->lost)
		return;
	log_warning(x->r->log, "draft %lld has lost its directory: discarded", (long long)id);
	catalog_write(x->r->catalog, false, discard_write, &id);
}

static void settle_row_job(void *arg)
{
	settle_row(arg);
	free(arg);
}

/* Nobody waits for very many rows: a new commit of the draft takes them out itself, and has others by the time that this comes to its turn. */
static void settle_row_later(const struct draft_row *x)
{
	struct draft_row *job = x->ahead_end != 0 ? malloc(sizeof *job) : NULL;
	if (job)
		*job = *x;
	if (job && workq_submit_for(x->r->jobs, 0, settle_row_job, job) == 0)
		return;
	free(job);
	settle_row(x);
}

static void recover_row(struct registry *r, int64_t id)
{
	auto_draft struct draft *d = NULL;
	bool writable = false;
	struct draft_row x = {.r = r, .id = id};
	int rc = registry_draft_get(r, id, &d, &writable);
	x.lost = rc == -ENXIO;
	if (rc < 0 && rc != -ENOENT && !x.lost)
		log_warning(r->log, "draft %lld cannot be taken up: %s", (long long)id, strerror(-rc));
	if ((x.lost || (rc == 0 && writable)) && ahead_end(r, id, &x.ahead_end) == 0)
		settle_row_later(&x);
}

/* Drafts in the catalog: served from now on by us, unless somebody else does; without a directory they are gone. */
static void recover_rows(struct registry *r)
{
	struct id_list rows = {0};
	struct catalog_conn *conn = NULL;
	if (catalog_read_begin(r->catalog, &conn) == 0)
		catalog_draft_list(conn, collect_draft_row, &rows);
	catalog_read_end(conn);
	for (size_t i = 0; i < rows.n; i++)
		recover_row(r, rows.ids[i]);
	free(rows.ids);
}

struct directory_scan { struct registry *r; struct id_list finish; };

static void look_at_directory(struct directory_scan *s, struct catalog_conn *conn, int64_t id)
{
	struct catalog_version v;
	int rc = catalog_version_get(conn, id, &v);
	if (rc == -ENOENT) {
		staging_put_away(s->r, id);
	} else if (rc == 0 && v.state != CATALOG_DRAFT) {
		id_list_add(&s->finish, id);
	}
}

/* Directories without an open draft: what a death between two steps left. Under the write lock, so that no mint is half way. */
static int scan_directories(void *arg)
{
	struct directory_scan *s = arg;
	struct id_list dirs = {0};
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(s->r->catalog, &conn);
	if (rc == 0)
		rc = drafts_each(s->r->drafts, collect_draft_dir, &dirs);
	for (size_t i = 0; rc == 0 && i < dirs.n; i++)
		look_at_directory(s, conn, dirs.ids[i]);
	free(dirs.ids);
	return rc;
}

struct finish_job { struct registry *r; int64_t id; };

static void finish_job(void *arg)
{
	struct finish_job *j = arg;
	commit_clear_staging(j->r, j->id);
	free(j);
}

/* What takes long is done later; while a mount is taken over, its users waiting, all that can be. */
static void finish_later(struct registry *r, int64_t id)
{
	int64_t ahead = 0;
	bool later = r->resumed || ahead_end(r, id, &ahead) < 0 || ahead != 0;
	struct finish_job *j = later ? malloc(sizeof *j) : NULL;
	if (j)
		*j = (struct finish_job){r, id};
	if (j && workq_submit_for(r->jobs, 0, finish_job, j) == 0)
		return;
	free(j);
	commit_clear_staging(r, id);
}

void recover(struct registry *r)
{
	mounts_forget_dead(r);
	intake_sweep(r->dirfd, r->blobs, r->catalog, r->log);
	struct directory_scan scan = {.r = r};
	int rc = catalog_locked(r->catalog, scan_directories, &scan);
	if (rc < 0)
		log_warning(r->log, "cannot look through the drafts: %s", strerror(-rc));
	for (size_t i = 0; i < scan.finish.n; i++)
		finish_later(r, scan.finish.ids[i]);
	free(scan.finish.ids);
	recover_rows(r);
}
