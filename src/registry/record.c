/* What a commit leaves for good: its bytes and names in blobs/, then its record. One transaction makes a draft a version; the entries of a very large one go in ahead of it. */
#include "commit.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* ---- bytes and names ---- */

/* The first entry of a regular file's inode. */
static bool is_item(const struct draft_tree *t, size_t i) { return t->entries[i].type == DRAFT_FILE && t->entries[i].inode == (int64_t)i; }

static int put_blobs(struct commit_work *w)
{
	struct draft_tree *t = &w->tree;
	if (!w->items && !(w->items = calloc(t->n ? t->n : 1, sizeof *w->items)))
		return -ENOMEM;
	w->n_items = 0;
	for (size_t i = 0; i < t->n; i++) {
		const struct draft_entry *e = &t->entries[i];
		bool ours = w->generated == (int64_t)i;
		if (is_item(t, i))
			w->items[w->n_items++] = (struct blob_item){.dirfd = ours ? w->r->dirfd : draft_root(w->d), .path = ours ? w->generated_path : e->path,
				.id = e->blob, .size = e->size};
	}
	return blob_put_batch(w->r->blobs, w->items, w->n_items, w->f);
}

/* ---- the transaction ---- */

static int build_entries(struct commit_work *w)
{
	struct draft_tree *t = &w->tree;
	w->entries = calloc(t->n ? t->n : 1, sizeof *w->entries);
	if (!w->entries)
		return -ENOMEM;
	for (size_t i = 0; i < t->n; i++) {
		const struct draft_entry *e = &t->entries[i];
		struct catalog_entry *to = &w->entries[i];
		*to = (struct catalog_entry){.name = e->name, .target = e->target, .uid = e->uid, .gid = e->gid, .size = e->size, .blocks = e->blocks,
			.mtime_ns = e->mtime_ns, .nlink = e->nlink, .parent = e->parent, .first_child = e->first_child, .n_children = e->n_children, .inode = e->inode,
			.blob = e->blob};
		to->type = e->type == DRAFT_FILE ? CATALOG_FILE : e->type == DRAFT_DIRECTORY ? CATALOG_DIRECTORY : CATALOG_SYMLINK;
		to->mode = e->type == DRAFT_SYMLINK ? 0777 : e->mode & (e->type == DRAFT_DIRECTORY ? 03555 : 0555);
	}
	return 0;
}

static int build_metrics(struct commit_work *w)
{
	w->metrics = calloc(w->metadata.n_metrics ? w->metadata.n_metrics : 1, sizeof *w->metrics);
	if (!w->metrics)
		return -ENOMEM;
	for (unsigned i = 0; i < w->metadata.n_metrics; i++)
		if (strlen(w->metadata.metrics[i].name) < CATALOG_NAME_MAX)
			w->metrics[w->n_metrics++] = (struct catalog_metric){w->metadata.metrics[i].name, w->metadata.metrics[i].value};
	return 0;
}

static bool has_metric(const struct commit_work *w, const char *name)
{
	for (size_t i = 0; i < w->n_metrics; i++)
		if (!strcmp(w->metrics[i].name, name))
			return true;
	return false;
}

/* The model's metric: the one that the newest commit to name one names; else the first metric of the first commit that has any. Who names one that the version
 * itself does not have (a slip of the pen) takes no `best` from a model. */
static int choose_best(struct catalog_conn *conn, const struct commit_work *w)
{
	const struct metadata *md = &w->metadata;
	struct catalog_model m;
	if (!md->best_name || md->best_mode == METADATA_BEST_UNKNOWN || strlen(md->best_name) >= CATALOG_NAME_MAX)
		return 0;
	int rc = catalog_model_get(conn, w->v.model_id, &m);
	if (rc < 0 || (!md->best_named && m.best_metric[0]))
		return rc;
	if (md->best_named && m.best_metric[0] && !has_metric(w, md->best_name)) {
		if (strcmp(m.best_metric, md->best_name) != 0)
			log_warning(w->r->log, "v%u of model %lld names \"%s\" as the metric of best, and has none: best goes by \"%s\" as before", w->v.number,
				(long long)m.id, md->best_name, m.best_metric);
		return 0;
	}
	text_copy(m.best_metric, sizeof m.best_metric, md->best_name);
	m.best_mode = (int)md->best_mode;
	m.best_named = md->best_named;
	return catalog_model_update(conn, &m);
}

/* A sweep may have run since the blobs were put: within the transaction, hence under the store's lock, they must be there, and be what was put. Another draft's file under the
 * name of a swept content has the same bytes only until its trainer goes on. */
static int blobs_still_there(const struct commit_work *w, size_t from, size_t n)
{
	int rc = 0;
	for (size_t i = from; rc == 0 && i < from + n; i++)
		rc = blob_still_put(w->r->blobs, &w->items[i]);
	return rc;
}

static struct catalog_commit describe(const struct commit_work *w)
{
	const struct draft_tree *t = &w->tree;
	return (struct catalog_commit){.version_id = w->v.id, .committed_ns = time_now_ns(), .mtime_ns = timespec_ns(t->root.st_mtim), .uid = t->root.st_uid,
		.gid = t->root.st_gid, .mode = t->root.st_mode & 03555, .size = t->size, .n_files = t->n_files, .n_dirs = t->n_top_dirs, .n_top = (uint32_t)t->n_top,
		.message = w->message, .metrics_summary = w->metadata.metrics_summary ? w->metadata.metrics_summary : "{}", .entries = w->entries, .n_entries = t->n,
		.metrics = w->metrics, .n_metrics = w->n_metrics, .ahead = w->ahead, .ahead_ns = w->ahead_ns};
}

static int commit_write(struct catalog_conn *conn, void *arg)
{
	struct commit_work *w = arg;
	const struct catalog_commit c = describe(w);
	int rc = w->ahead ? 0 : blobs_still_there(w, 0, w->n_items);
	if (rc == 0)
		rc = catalog_version_commit(conn, &c);
	if (rc == 0)
		rc = catalog_version_set_reason(conn, w->v.id, NULL);
	if (rc == 0)
		rc = choose_best(conn, w);
	if (rc == 0)
		rc = about_write(conn, w);
	if (rc == 0)
		rc = lineage_write(conn, w->v.id, &w->lineage);
	if (rc == 0)
		rc = catalog_elsewhere_join(conn, &w->digest);
	sys_crash_point("commit.in-transaction");
	return rc;
}

/* ---- rows ahead ----
 * While a transaction goes on nobody else's mint or commit is recorded, so the entries of a very large version go in before it, in slices. What the catalog refers to is
 * safe from sweeps from then on. */

/* The lock between processes has no order: so another's write gets a chance. */
static void let_others(void) { nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL); }

struct slice { const struct commit_work *w; size_t from, n, item, n_items; int64_t ahead; };

static int slice_write(struct catalog_conn *conn, void *arg)
{
	struct slice *s = arg;
	const struct catalog_commit c = describe(s->w);
	int rc = blobs_still_there(s->w, s->item, s->n_items);
	if (rc == 0)
		rc = s->from == 0 ? catalog_ahead_begin(conn, &c, s->n, &s->ahead) : catalog_ahead_add(conn, &c, s->from, s->n);
	sys_crash_point("commit.in-slice");
	return rc;
}

/* Entries w->n_ahead and on, as many as a transaction takes; those of them that are a content's first have their items in the same order. */
static int add_slice(struct commit_work *w, size_t max)
{
	const struct draft_tree *t = &w->tree;
	struct slice s = {.w = w, .from = w->n_ahead, .item = w->items_ahead, .ahead = w->ahead};
	if (s.from == 0)
		w->ahead_ns = time_now_ns();
	for (; s.n < max && s.from + s.n < t->n; s.n++)
		s.n_items += is_item(t, s.from + s.n);
	int rc = catalog_write(w->r->catalog, false, slice_write, &s);
	if (rc < 0)
		return rc;
	w->ahead = s.ahead;
	w->n_ahead += s.n;
	w->items_ahead += s.n_items;
	return 0;
}

static int add_ahead(struct commit_work *w)
{
	size_t max = w->r->slice;
	int rc = 0;
	while (rc == 0 && w->tree.n > max && w->n_ahead < w->tree.n) {
		rc = commit_is_to_stop(w) ? commit_refuse_stopped(w) : add_slice(w, max);
		let_others();
	}
	return rc;
}

struct drop { struct registry *r; int64_t version_id, end; bool more; };

static int drop_write(struct catalog_conn *conn, void *arg)
{
	struct drop *d = arg;
	int rc = catalog_ahead_drop(conn, d->version_id, d->end, (unsigned)d->r->slice, &d->more);
	sys_crash_point("commit.in-drop");
	return rc;
}

int ahead_end(struct registry *r, int64_t version_id, int64_t *ret)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	return rc < 0 ? rc : catalog_ahead_end(conn, version_id, ret);
}

int ahead_drop(struct registry *r, int64_t version_id, int64_t end)
{
	struct drop d = {r, version_id, end, end != 0};
	int rc = 0;
	while (rc == 0 && d.more) {
		rc = atomic_load(&r->ending_ns) != 0 ? -EINTR : catalog_write(r->catalog, false, drop_write, &d);
		let_others();
	}
	if (rc < 0 && rc != -EINTR)
		log_warning(r->log, "what was recorded ahead of the commit of version %lld cannot be taken out (the next mount tries again): %s", (long long)version_id, strerror(-rc));
	return rc;
}

int ahead_clear(struct registry *r, int64_t version_id)
{
	int64_t end = 0;
	int rc = ahead_end(r, version_id, &end);
	return rc < 0 ? rc : ahead_drop(r, version_id, end);
}

/* ---- all of it ---- */

#define PUT_TRIES 10 /* each failure is a sweep between two steps that lie milliseconds apart */

static int record_version(struct commit_work *w)
{
	int rc = catalog_write(w->r->catalog, true, commit_write, w);
	if (rc != -EAGAIN || w->ahead == 0)
		return rc;
	rc = ahead_clear(w->r, w->v.id); /* a content was lost behind its slice */
	w->ahead = 0;
	w->n_ahead = w->items_ahead = 0;
	return rc == 0 ? -EAGAIN : rc;
}

static int put_and_record(struct commit_work *w)
{
	int rc = -EAGAIN;
	for (int attempt = 0; rc == -EAGAIN && attempt < PUT_TRIES; attempt++) { /* again: swept meanwhile */
		rc = put_blobs(w);
		sys_crash_point("commit.blobs-put");
		if (rc == 0)
			rc = add_ahead(w);
		if (rc == 0)
			rc = record_version(w);
	}
	return rc;
}

int commit_record(struct commit_work *w)
{
	int rc = build_entries(w);
	if (rc == 0)
		rc = build_metrics(w);
	if (rc == 0)
		rc = ahead_clear(w->r, w->v.id); /* of an attempt before */
	if (rc < 0)
		return rc;
	/* What the versions before left is tidied first: until then their blobs are not sealed, and a content that they share with this one would be copied. */
	workq_drain(w->r->tidying);
	rc = put_and_record(w);
	if (rc < 0 && w->ahead)
		ahead_clear(w->r, w->v.id);
	return rc;
}
