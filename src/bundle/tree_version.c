/* One version of an existing folder, into a store: its contents, then a manifest of it alone, which goes the way of every import.
 *
 * Files are shared with the folder by reflink where its file system is the store's and can, else copied. Rejected: hard links. A committed content would have a second name
 * outside the store, by which its owner could change it or take its seal away; and a sealed file could not be removed from the folder any more. */
#include "folder.h"
#include "layout.h"
#include "spool.h"
#include "tree.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

struct version {
	struct tree *k;
	const struct layout_model *model;
	uint32_t number;
	char path[CATALOG_PATH_MAX + 16];
	int dir;
	struct stat st, model_st;
	struct folder folder;
	bool lacking; /* it is in the store, which is recorded to have lost a content of it */
	struct fault why;
};

static int hash_bytes(struct version *v, int from, int to, const struct folder_entry *e, struct blob_id *ret)
{
	struct tree *k = v->k;
	int rc = 0;
	for (off_t at = 0; rc == 0 && at < e->st.st_size;) {
		ssize_t n = sys_pread_full(from, k->piece, BUNDLE_PIECE, at);
		if (n <= 0)
			return n < 0 ? (int)n : -EBUSY;
		rc = blob_hasher_add(k->hasher, k->piece, (size_t)n);
		if (rc == 0 && to >= 0 && (rc = sys_pwrite_full(to, k->piece, (size_t)n, at)) < 0)
			fault_set(&v->why, -rc, "%s cannot be written to the store: %s", e->path, strerror(-rc));
		at += n;
		tree_advance(k, (uint64_t)n);
	}
	struct blob_id id;
	int finished = blob_hasher_finish(k->hasher, &id);
	if (rc == 0 && finished == 0)
		*ret = id;
	return rc < 0 ? rc : finished;
}

/* Into the store's intake what was copied to a file of it; of a version that is there only what the store lacks. */
static int give_content(struct version *v, int to, const struct folder_entry *e, bool shared)
{
	struct tree *k = v->k;
	uint64_t size = (uint64_t)e->st.st_size;
	if (v->lacking && registry_import_has(k->im, &e->id, size)) {
		registry_import_file_cancel(k->im, to);
		return 0;
	}
	k->totals.bytes += size;
	k->totals.shared += shared ? size : 0;
	return registry_import_file_done(k->im, to, &e->id, size, &v->why);
}

/* The content of one file, into the store's intake; or only hashed. */
static int take_content(struct version *v, struct folder_entry *e, bool copy)
{
	struct tree *k = v->k;
	uint64_t size = (uint64_t)e->st.st_size;
	int from = -1, to = -1;
	int rc = folder_open(&v->folder, e, &from, &v->why);
	if (rc < 0)
		return rc;
	auto_close int source = from;
	if (copy)
		rc = registry_import_file(k->im, size, &to, &v->why);
	if (rc < 0)
		return rc;
	bool shared = copy && size > 0 && ioctl(to, FICLONE, source) == 0;
	rc = shared ? hash_bytes(v, to, -1, e, &e->id) : hash_bytes(v, source, to, e, &e->id);
	if (rc == 0)
		rc = folder_unchanged(e, source, &v->why);
	e->hashed = rc == 0;
	if (rc == 0 && copy)
		rc = give_content(v, to, e, shared);
	else if (copy)
		registry_import_file_cancel(k->im, to);
	return rc < 0 ? fault_default(&v->why, -rc, "%s cannot be read: %s", e->path, strerror(-rc)) : 0;
}

static int take_contents(struct version *v, bool copy)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < v->folder.n; i++) {
		struct folder_entry *e = &v->folder.entries[i];
		if (S_ISREG(e->st.st_mode) && e->same_as < 0)
			rc = take_content(v, e, copy);
	}
	return rc;
}

/* "2025-07-15 18:40:00", also with T, fractions and Z. 0: it is none. */
static int64_t parse_time(const char *text)
{
	struct tm t = {0};
	const char *end = strptime(text, "%Y-%m-%d", &t);
	if (end && (*end == ' ' || *end == 'T'))
		end = strptime(end + 1, "%H:%M:%S", &t);
	if (!end)
		return 0;
	struct timespec at = {.tv_sec = timegm(&t)};
	long unit = NS_PER_SEC;
	if (*end == '.')
		for (end++; isdigit((unsigned char)*end) && unit > 1; end++)
			at.tv_nsec += (*end - '0') * (unit /= 10);
	return timespec_ns(at);
}

/* What is known of it: from the database, else from its metadata.json. metrics and author are owned by the caller. */
struct known { int64_t created_ns; struct metadata metadata; };

static void know(struct version *v, struct known *ret)
{
	struct catalog_legacy_row row = {0};
	char name[16];
	auto_close int fd = sys_openat_beneath(v->dir, "metadata.json", O_RDONLY | O_NONBLOCK, 0);
	snprintf(name, sizeof name, "v%u", v->number);
	if (fd < 0 || metadata_read(fd, &ret->metadata, NULL) < 0)
		ret->metadata = (struct metadata){0};
	ret->created_ns = timespec_ns(v->st.st_mtim);
	if (!v->k->legacy || catalog_legacy_find(v->k->legacy, v->model->identifier, v->model->type, name, &row) < 0)
		return;
	int64_t created = row.created_at ? parse_time(row.created_at) : 0;
	if (created > 0)
		ret->created_ns = created;
	auto_buf struct buf text = BUF_INIT(METADATA_SIZE_MAX);
	struct metadata from_row = {0};
	if (row.metrics_summary && buf_printf(&text, "{\"metrics\":%s}", row.metrics_summary) == 0 && metadata_parse(buf_text(&text), text.len, &from_row, NULL) == 0) {
		bool keep_best = ret->metadata.best_named; /* only metadata.json can name it */
		if (keep_best) {
			free(from_row.best_name);
			from_row.best_name = take_ptr(ret->metadata.best_name);
			from_row.best_mode = ret->metadata.best_mode;
			from_row.best_named = true;
		}
		metadata_release(&ret->metadata);
		ret->metadata = from_row;
	}
	free(row.created_at);
	free(row.metrics_summary);
}

static int write_manifest(struct version *v, struct manifest_writer *w)
{
	struct known known = {0};
	char author[64];
	know(v, &known);
	caller_user_name(v->st.st_uid, author, sizeof author);
	struct manifest_model m = {.path = (char *)(uintptr_t)v->model->path, .mode = v->model_st.st_mode & 07777, .uid = v->model_st.st_uid, .gid = v->model_st.st_gid,
		.last_number = tree_number_of(v->k, v->model->key), .best_metric = known.metadata.best_name, .best_mode = known.metadata.best_mode,
		.best_named = known.metadata.best_named};
	struct manifest_version mv = {.number = v->number, .minted_ns = known.created_ns, .committed_ns = known.created_ns, .mtime_ns = timespec_ns(v->st.st_mtim),
		.mode = v->st.st_mode & 07777, .uid = v->st.st_uid, .gid = v->st.st_gid, .author = author, .metrics = known.metadata.metrics_summary};
	int rc = manifest_begin(w, "mintfs import --tree", NULL, time_now_ns());
	if (rc == 0)
		rc = manifest_add_model(w, &m);
	if (rc == 0)
		rc = manifest_add_version(w, &mv);
	if (rc == 0)
		rc = folder_write(&v->folder, w);
	metadata_release(&known.metadata);
	return rc < 0 ? rc : manifest_finish(w);
}

static int make_reader(struct version *v, struct spool *spool, struct manifest_reader **ret)
{
	struct manifest_writer *w = NULL;
	const char *text = NULL;
	int rc = spool_open(spool);
	if (rc == 0)
		rc = manifest_writer_new(spool_out, spool, &w);
	if (rc == 0)
		rc = write_manifest(v, w);
	manifest_writer_free(w);
	if (rc == 0)
		rc = spool_map(spool, &text);
	return rc < 0 ? rc : manifest_reader_new(text, spool->len, ret);
}

/* By the manifest of this one version: checked only, or recorded. */
static int give(struct version *v, bool record, bool *ret_already)
{
	__attribute__((cleanup(spool_release))) struct spool spool = SPOOL_INIT;
	struct registry_import_totals totals = {0};
	struct manifest_reader *m = NULL;
	int rc = make_reader(v, &spool, &m);
	if (rc == 0)
		rc = registry_import_check(v->k->im, m, false, &totals, &v->why);
	if (rc == 0 && record)
		rc = registry_import_record(v->k->im, m, false, NULL, NULL, &v->why);
	manifest_reader_free(m);
	*ret_already = totals.already > 0;
	return rc;
}

/* ---- is it here? ---- */

struct comparing { const struct folder *d; size_t at; bool same; };

static int compare_entry(const char *path, const struct catalog_file *file, void *arg)
{
	struct comparing *c = arg;
	const struct folder_entry *e = c->at < c->d->n ? &c->d->entries[c->at++] : NULL;
	mode_t type = file->type == CATALOG_FILE ? S_IFREG : file->type == CATALOG_DIRECTORY ? S_IFDIR : S_IFLNK;
	c->same = e && !strcmp(e->path, path) && (e->st.st_mode & S_IFMT) == type &&
		(type != S_IFREG || ((uint64_t)e->st.st_size == file->size && timespec_ns(e->st.st_mtim) == file->mtime_ns));
	return !c->same;
}

static int find_row(const struct version *v, struct catalog_conn *conn, struct catalog_version *ret)
{
	auto_free struct catalog_model *m = calloc(1, sizeof *m);
	int rc = m ? catalog_model_find(conn, v->model->path, m) : -ENOMEM;
	return rc < 0 ? rc : catalog_version_find(conn, m->id, v->number, ret);
}

/* The state of this version in the store: -ENOENT; *ret_same: names, types, sizes and times are the same. Notes whether contents of it are lacking. */
static int look_up(struct version *v, bool *ret_same)
{
	struct catalog_version row = {0};
	struct comparing c = {&v->folder, 0, false};
	bool whole = true;
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(v->k->r, &conn);
	if (rc == 0)
		rc = find_row(v, conn, &row);
	if (rc == 0 && row.state == CATALOG_COMMITTED)
		rc = catalog_file_list(conn, row.id, compare_entry, &c);
	if (rc >= 0 && row.state == CATALOG_COMMITTED)
		rc = catalog_version_whole(conn, row.id, &whole);
	if (rc < 0)
		return rc;
	v->lacking = !whole;
	*ret_same = row.state == CATALOG_COMMITTED && c.same && c.at == v->folder.n;
	return 0;
}

static bool has_metadata(const struct version *v)
{
	for (size_t i = 0; i < v->folder.n; i++)
		if (!strcmp(v->folder.entries[i].path, "metadata.json"))
			return true;
	return false;
}

/* What it declares as its inputs is looked for when all is in. */
static int remember(const struct version *v)
{
	struct tree *k = v->k;
	struct catalog_version row = {0};
	auto_read struct catalog_conn *conn = NULL;
	if (k->how->dry_run || !has_metadata(v))
		return 0;
	if (k->n_made == k->cap_made) {
		size_t cap = k->cap_made ? 2 * k->cap_made : 64;
		int64_t *grown = reallocarray(k->made, cap, sizeof *grown);
		if (!grown)
			return -ENOMEM;
		k->made = grown;
		k->cap_made = cap;
	}
	int rc = registry_read_begin(k->r, &conn);
	if (rc == 0)
		rc = find_row(v, conn, &row);
	if (rc == 0)
		k->made[k->n_made++] = row.id;
	return rc;
}

static int import_version(struct version *v)
{
	struct tree *k = v->k;
	bool same = false, already = false;
	int there = look_up(v, &same);
	if (there < 0 && there != -ENOENT)
		return there;
	bool bring = there == -ENOENT || (v->lacking && !k->how->dry_run);
	if (there == 0 && same && !bring && !k->how->check_contents) {
		tree_advance(k, v->folder.bytes);
		tree_note(k, v->path, NULL, false, true);
		return remember(v);
	}
	if (k->how->dry_run && there == -ENOENT) {
		tree_note(k, v->path, NULL, true, false);
		return 0;
	}
	int rc = take_contents(v, bring);
	if (rc == 0)
		rc = give(v, bring, &already);
	if (rc < 0)
		return rc;
	tree_note(k, v->path, NULL, !already, already);
	return remember(v);
}

/* Trouble of this version alone is told, and the next one comes; trouble of the store or of memory ends it all. */
static bool ends_all(int rc) { return rc == -ENOSPC || rc == -EDQUOT || rc == -ENOMEM || rc == -EROFS || rc == -EMFILE || rc == -ENFILE; }

int tree_version(struct tree *k, const struct layout_model *model, int model_dir, uint32_t number)
{
	struct version v = {.k = k, .model = model, .number = number};
	char name[16];
	snprintf(name, sizeof name, "v%u", number);
	snprintf(v.path, sizeof v.path, "%s/%s", model->path, name);
	auto_close int dir = sys_openat_beneath(model_dir, name, O_RDONLY | O_DIRECTORY, 0);
	v.dir = dir;
	int rc = dir < 0 ? dir : sys_fstat(dir, &v.st);
	if (rc == 0)
		rc = sys_fstat(model_dir, &v.model_st);
	if (rc == 0)
		rc = folder_scan(dir, &v.folder, &v.why);
	if (rc == 0 && k->measuring) {
		k->total += v.folder.bytes;
	} else if (rc == 0) {
		rc = import_version(&v);
	}
	folder_release(&v.folder);
	if (rc == 0 || k->measuring)
		return 0;
	if (!v.why.error)
		fault_set(&v.why, -rc, "it cannot be read: %s", strerror(-rc));
	if (ends_all(rc)) {
		fault_set(k->f, v.why.error, "%s: %s", v.path, v.why.text);
		k->f->verdict = v.why.verdict;
		return rc;
	}
	tree_note(k, v.path, v.why.text, false, false);
	return 0;
}
