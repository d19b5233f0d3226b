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

struct drop_job { struct registry *r; int64_t id, end; };

static void drop_job(void *arg)
{
	struct drop_job *j = arg;
	ahead_drop(j->r, j->id, j->end);
	free(j);
}

/* What a commit recorded ahead that did not come to its end. Nobody waits for it: a new commit of the draft takes it out itself, and has other rows by the time this comes to its turn. */
static void drop_ahead_later(struct registry *r, int64_t id)
{
	int64_t end = 0;
	if (ahead_end(r, id, &end) < 0 || end == 0)
		return;
	struct drop_job *j = malloc(sizeof *j);
	if (!j)
		return; /* the next mount does it, or the next commit */
	*j = (struct drop_job){r, id, end};
	if (workq_submit_for(r->jobs, 0, drop_job, j) < 0)
		drop_job(j);
}

static int collect_draft_row(const struct catalog_version *v, const struct catalog_version_text *text, void *arg) { return id_list_add(arg, v->id); }
static int collect_draft_dir(int64_t id, void *arg) { return id_list_add(arg, id); }

static int discard_write(struct catalog_conn *conn, void *arg)
{
	return catalog_version_set_state(conn, *(int64_t *)arg, CATALOG_DISCARDED);
}

/* Drafts in the catalog: served from now on by us, unless somebody else does; without a directory they are gone. */
static void recover_rows(struct registry *r)
{
	struct id_list rows = {0};
	struct catalog_conn *conn = NULL;
	if (catalog_read_begin(r->catalog, &conn) == 0)
		catalog_draft_list(conn, collect_draft_row, &rows);
	catalog_read_end(conn);
	for (size_t i = 0; i < rows.n; i++) {
		auto_draft struct draft *d = NULL;
		bool writable;
		int rc = registry_draft_get(r, rows.ids[i], &d, &writable);
		if (rc == -ENXIO || (rc == 0 && writable))
			drop_ahead_later(r, rows.ids[i]);
		if (rc == -ENXIO) { /* the row is there, the tree is not */
			log_warning(r->log, "draft %lld has lost its directory: discarded", (long long)rows.ids[i]);
			catalog_write(r->catalog, false, discard_write, &rows.ids[i]);
		} else if (rc < 0 && rc != -ENOENT) {
			log_warning(r->log, "draft %lld cannot be taken up: %s", (long long)rows.ids[i], strerror(-rc));
		}
	}
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

/* While a mount is taken over its users wait: what can be done later is. */
static void finish_later(struct registry *r, int64_t id)
{
	struct finish_job *j = r->resumed ? malloc(sizeof *j) : NULL;
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
