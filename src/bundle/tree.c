/* An existing folder of models, into a store: DIR/product/P001_all/mlstm/v3/…, with the versions.json and the database that its programs keep.
 *
 * Each version is an import of its own, by a manifest of one version: what was taken in stays, what cannot be is told and passed over, and the whole can be repeated.
 * Files are shared with the folder by reflink where its file system is the store's and can, else copied. Rejected: hard links. A committed content would have a second name
 * outside the store, by which its owner could change it or take its seal away; and a sealed file could not be removed from the folder any more. */
#include "folder.h"
#include "layout.h"
#include "spool.h"

#include <mintfs/bundle.h>

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define VERSIONS_JSON "versions.json"
#define VERSIONS_JSON_MAX (64u << 20)

struct number { char *key; uint32_t number; };
struct numbers { struct number *v; size_t n, cap; };

struct version_place { uint32_t number; };
struct alias_place { char *name; uint32_t number; };

/* What stands in a model's directory. */
struct model_listing {
	struct version_place *versions;
	size_t n_versions, cap_versions;
	struct alias_place *aliases;
	size_t n_aliases;
};

struct import {
	struct registry *r;
	struct registry_actor who;
	const struct bundle_tree *how;
	int dir;
	const char *database_name; /* its name in dir, or NULL */
	char database_found[NAME_MAX + 1];
	struct catalog_legacy *legacy;
	struct numbers numbers; /* versions.json, sorted by key */
	struct registry_import *im;
	struct blob_hasher *hasher;
	uint8_t *piece;
	int64_t *made;    /* versions of the folder with a metadata.json, by their ids in the store */
	size_t n_made, cap_made;
	char root[PATH_MAX]; /* the folder as paths in it name it; "" */
	bool measuring;   /* the first walk */
	uint64_t total, done;
	struct bundle_tree_totals totals;
	struct fault *f;
};

/* ---- telling ---- */

static void note(struct import *k, const char *path, const char *reason, bool taken, bool already)
{
	if (k->measuring)
		return;
	k->totals.taken += taken;
	k->totals.already += already;
	k->totals.skipped += !taken && !already;
	if (k->how->note)
		k->how->note(&(struct bundle_tree_note){path, reason, taken, already}, k->how->arg);
}

static void advance(struct import *k, uint64_t bytes)
{
	k->done += bytes;
	if (k->how->watcher.progress)
		k->how->watcher.progress(k->done, k->total, k->how->watcher.arg);
}

/* ---- what the folder's programs knew ---- */

static int add_number(const char *name, const char *value, void *arg)
{
	struct numbers *l = arg;
	uint64_t number;
	if (parse_u64(value + (value[0] == 'v'), LAYOUT_NUMBER_MAX, &number) < 0)
		return 0; /* not a number of a version */
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct number *v = reallocarray(l->v, cap, sizeof *v);
		if (!v)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	if (!(l->v[l->n].key = strdup(name)))
		return -ENOMEM;
	l->v[l->n++].number = (uint32_t)number;
	return 0;
}

static int compare_numbers(const void *a, const void *b) { return strcmp(((const struct number *)a)->key, ((const struct number *)b)->key); }

static int read_numbers(struct import *k)
{
	auto_free char *text = NULL;
	size_t len;
	struct fault why = FAULT_INIT;
	int rc = sys_read_file(k->dir, VERSIONS_JSON, VERSIONS_JSON_MAX, &text, &len);
	if (rc == -ENOENT)
		return 0;
	if (rc == 0)
		rc = metadata_each_field(text, len, add_number, &k->numbers, &why);
	if (rc == -EINVAL) {
		note(k, VERSIONS_JSON, "it is no JSON object: numbers are taken from the directories", false, false);
		return 0;
	}
	if (rc < 0)
		return fault_set(k->f, -rc, "%s/" VERSIONS_JSON " cannot be read: %s", k->how->dir, strerror(-rc));
	if (k->numbers.n)
		qsort(k->numbers.v, k->numbers.n, sizeof *k->numbers.v, compare_numbers);
	return 0;
}

static uint32_t number_of(const struct import *k, const char *key)
{
	struct number wanted = {.key = (char *)(uintptr_t)key};
	const struct number *found = k->numbers.n ? bsearch(&wanted, k->numbers.v, k->numbers.n, sizeof wanted, compare_numbers) : NULL;
	return found ? found->number : 0;
}

static bool looks_like_database(const char *name)
{
	static const char *const ends[] = {".db", ".sqlite", ".sqlite3"};
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		size_t len = strlen(name), end = strlen(ends[i]);
		if (len > end && !strcmp(name + len - end, ends[i]))
			return true;
	}
	return false;
}

/* The one named, or the first in the folder that has the table. */
static int open_database(struct import *k)
{
	char path[PATH_MAX];
	if (k->how->database)
		return catalog_legacy_open(k->how->database, NULL, &k->legacy, k->f);
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	int rc = sys_fdopendir(sys_reopen(k->dir, O_RDONLY | O_DIRECTORY), &dir);
	if (rc < 0)
		return rc;
	while (!k->legacy && (rc = sys_readdir(dir, &e)) > 0)
		if (looks_like_database(e->d_name) && snprintf(path, sizeof path, "%s/%s", k->how->dir, e->d_name) < (int)sizeof path &&
		    catalog_legacy_open(path, NULL, &k->legacy, NULL) == 0)
			k->database_name = strcpy(k->database_found, e->d_name);
	return rc < 0 ? rc : 0;
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
	int64_t ns = (int64_t)timegm(&t) * NS_PER_SEC, unit = NS_PER_SEC;
	if (*end == '.')
		for (end++; isdigit((unsigned char)*end) && unit > 1; end++)
			ns += (*end - '0') * (unit /= 10);
	return ns;
}

/* ---- one version ---- */

struct version {
	struct import *k;
	const struct layout_model *model;
	uint32_t number;
	char path[CATALOG_PATH_MAX + 16];
	int dir;
	struct stat st, model_st;
	struct folder folder;
	struct fault why;
};

static int hash_bytes(struct version *v, int from, int to, const struct folder_entry *e, struct blob_id *ret)
{
	struct import *k = v->k;
	int rc = 0;
	for (off_t at = 0; rc == 0 && at < e->st.st_size;) {
		ssize_t n = sys_pread_full(from, k->piece, BUNDLE_PIECE, at);
		if (n <= 0)
			return n < 0 ? (int)n : -EBUSY;
		rc = blob_hasher_add(k->hasher, k->piece, (size_t)n);
		if (rc == 0 && to >= 0)
			rc = sys_pwrite_full(to, k->piece, (size_t)n, at);
		at += n;
		advance(k, (uint64_t)n);
	}
	struct blob_id id;
	int finished = blob_hasher_finish(k->hasher, &id);
	if (rc == 0 && finished == 0)
		*ret = id;
	return rc < 0 ? rc : finished;
}

/* The content of one file, into the store's intake; or only hashed. */
static int take_content(struct version *v, struct folder_entry *e, bool copy)
{
	struct import *k = v->k;
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
	if (rc == 0 && copy) {
		rc = registry_import_file_done(k->im, to, &e->id, size, &v->why);
		k->totals.bytes += size;
		k->totals.shared += shared ? size : 0;
	} else if (copy) {
		registry_import_file_cancel(k->im, to);
	}
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
		.last_number = number_of(v->k, v->model->key), .best_metric = known.metadata.best_name, .best_mode = known.metadata.best_mode,
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

/* The state of this version in the store: -ENOENT; *ret_same: names, types, sizes and times are the same. */
static int look_up(struct version *v, bool *ret_same)
{
	struct catalog_version row = {0};
	struct comparing c = {&v->folder, 0, false};
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(v->k->r, &conn);
	if (rc == 0)
		rc = find_row(v, conn, &row);
	if (rc == 0 && row.state == CATALOG_COMMITTED)
		rc = catalog_file_list(conn, row.id, compare_entry, &c);
	if (rc < 0)
		return rc;
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
	struct import *k = v->k;
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
	struct import *k = v->k;
	bool same = false, already = false;
	int there = look_up(v, &same);
	if (there < 0 && there != -ENOENT)
		return there;
	if (there == 0 && same && !k->how->check_contents) {
		advance(k, v->folder.bytes);
		note(k, v->path, NULL, false, true);
		return remember(v);
	}
	if (k->how->dry_run && there == -ENOENT) {
		note(k, v->path, NULL, true, false);
		return 0;
	}
	int rc = take_contents(v, there == -ENOENT);
	if (rc == 0)
		rc = give(v, there == -ENOENT, &already);
	if (rc < 0)
		return rc;
	note(k, v->path, NULL, !already, already);
	return remember(v);
}

/* Trouble of this version alone is told, and the next one comes; trouble of the store or of memory ends it all. */
static bool ends_all(int rc) { return rc == -ENOSPC || rc == -EDQUOT || rc == -ENOMEM || rc == -EROFS || rc == -EMFILE || rc == -ENFILE; }

static int do_version(struct import *k, const struct layout_model *model, int model_dir, uint32_t number)
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
		*k->f = v.why;
		return rc;
	}
	note(k, v.path, v.why.text, false, false);
	return 0;
}

/* ---- a model ---- */

static void listing_release(struct model_listing *l)
{
	for (size_t i = 0; i < l->n_aliases; i++)
		free(l->aliases[i].name);
	free(l->aliases);
	free(l->versions);
}

static int add_version(struct model_listing *l, uint32_t number)
{
	if (l->n_versions == l->cap_versions) {
		size_t cap = l->cap_versions ? 2 * l->cap_versions : 16;
		struct version_place *v = reallocarray(l->versions, cap, sizeof *v);
		if (!v)
			return -ENOMEM;
		l->versions = v;
		l->cap_versions = cap;
	}
	l->versions[l->n_versions++].number = number;
	return 0;
}

static int add_alias(struct model_listing *l, const char *name, uint32_t number)
{
	struct alias_place *v = reallocarray(l->aliases, l->n_aliases + 1, sizeof *v);
	if (!v)
		return -ENOMEM;
	l->aliases = v;
	l->aliases[l->n_aliases] = (struct alias_place){strdup(name), number};
	return l->aliases[l->n_aliases].name ? (l->n_aliases++, 0) : -ENOMEM;
}

/* "v2", "./v2/", or an absolute path that ends so: programs write all of these. *ret 0: it leads to no version. */
static int number_in_target(int dirfd, const char *name, uint32_t *ret)
{
	char target[PATH_MAX];
	ssize_t r = sys_readlinkat(dirfd, name, target, sizeof target);
	*ret = 0;
	if (r < 0)
		return r == -ENAMETOOLONG || r == -ENOENT ? 0 : (int)r;
	size_t len = strlen(target);
	while (len > 1 && target[len - 1] == '/')
		target[--len] = '\0';
	char *slash = strrchr(target, '/');
	if (layout_classify_child(slash ? slash + 1 : target, ret) != LAYOUT_CHILD_VERSION)
		*ret = 0;
	return 0;
}

static int list_one(struct import *k, const struct layout_model *model, int dirfd, const char *name, struct model_listing *l)
{
	char path[CATALOG_PATH_MAX + NAME_MAX + 2];
	struct stat st;
	uint32_t number = 0;
	snprintf(path, sizeof path, "%s/%s", model->path, name);
	int rc = sys_fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	enum layout_child kind = layout_classify_child(name, &number);
	if (kind == LAYOUT_CHILD_VERSION && S_ISDIR(st.st_mode))
		return add_version(l, number);
	if ((kind == LAYOUT_CHILD_LATEST || kind == LAYOUT_CHILD_BEST) && S_ISLNK(st.st_mode))
		return 0; /* MintFS makes its own */
	if (kind == LAYOUT_CHILD_ALIAS && S_ISLNK(st.st_mode)) {
		rc = number_in_target(dirfd, name, &number);
		if (rc < 0 || number)
			return rc < 0 ? rc : add_alias(l, name, number);
	}
	note(k, path, S_ISDIR(st.st_mode) ? "it is not named like a version (v1, v2, ...)" : S_ISLNK(st.st_mode) ? "it leads to no version" : "it stands outside a version",
		false, false);
	return 0;
}

static int compare_versions(const void *a, const void *b)
{
	const struct version_place *x = a, *y = b;
	return (x->number > y->number) - (x->number < y->number);
}

static void set_alias(struct import *k, const struct layout_model *model, const struct alias_place *a)
{
	char path[CATALOG_PATH_MAX + CATALOG_NAME_MAX], target[16];
	struct catalog_model *m = calloc(1, sizeof *m);
	struct catalog_alias there = {0};
	struct catalog_conn *conn = NULL;
	struct fault why = FAULT_INIT;
	snprintf(path, sizeof path, "%s/%s", model->path, a->name);
	snprintf(target, sizeof target, "v%u", a->number);
	int rc = m ? registry_read_begin(k->r, &conn) : -ENOMEM;
	if (rc == 0)
		rc = catalog_model_find(conn, model->path, m);
	int found = rc == 0 ? catalog_alias_find(conn, m->id, a->name, &there) : rc;
	catalog_read_end(conn);
	if (found == 0 && there.number != a->number) {
		snprintf(why.text, sizeof why.text, "the alias leads to v%u in the store and stays there", there.number);
		note(k, path, why.text, false, false);
	} else if (found < 0 && found != -ENOENT) {
		fault_set(&why, -found, "it cannot be set: %s", strerror(-found));
		note(k, path, why.text, false, false);
	} else if (rc < 0 || (found == -ENOENT && registry_alias_set(k->r, &k->who, m->id, a->name, target, &there, &why) < 0)) {
		note(k, path, why.error ? why.text : "its model was not taken in", false, false);
	}
	free(m);
}

static int do_model(struct import *k, const struct layout_model *model, int dirfd)
{
	__attribute__((cleanup(listing_release))) struct model_listing l = {0};
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	int rc = sys_fdopendir(sys_reopen(dirfd, O_RDONLY | O_DIRECTORY), &dir);
	while (rc == 0 && (rc = sys_readdir(dir, &e)) > 0)
		rc = list_one(k, model, dirfd, e->d_name, &l);
	if (rc == 0 && l.n_versions)
		qsort(l.versions, l.n_versions, sizeof *l.versions, compare_versions);
	for (size_t i = 0; rc == 0 && i < l.n_versions; i++)
		rc = do_version(k, model, dirfd, l.versions[i].number);
	for (size_t i = 0; rc == 0 && !k->measuring && !k->how->dry_run && i < l.n_aliases; i++)
		set_alias(k, model, &l.aliases[i]);
	return rc;
}

/* ---- the layout ---- */

static bool is_known_file(const struct import *k, const char *path)
{
	size_t len = k->database_name ? strlen(k->database_name) : 0;
	return !strcmp(path, VERSIONS_JSON) || (len && !strncmp(path, k->database_name, len) && (!path[len] || !strcmp(path + len, "-wal") || !strcmp(path + len, "-shm")));
}

static int do_scope(struct import *k, int dirfd, const char *path);

static int do_place(struct import *k, int dirfd, const char *path, const char *name) /* NOLINT(misc-no-recursion): as deep as the grammar */
{
	char whole[CATALOG_PATH_MAX + NAME_MAX + 2];
	struct layout_model model;
	enum layout_kind kind;
	struct fault why = FAULT_INIT;
	struct stat st;
	snprintf(whole, sizeof whole, "%s%s%s", path, *path ? "/" : "", name);
	int rc = sys_fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	if (!S_ISDIR(st.st_mode)) {
		if (!is_known_file(k, whole))
			note(k, whole, "it stands outside a version", false, false);
		return 0;
	}
	if (layout_classify(whole, &kind, &model, &why) < 0) {
		note(k, whole, why.text, false, false);
		return 0;
	}
	auto_close int fd = sys_openat_beneath(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0) {
		snprintf(why.text, sizeof why.text, "it cannot be opened: %s", strerror(-fd));
		note(k, whole, why.text, false, false);
		return 0;
	}
	return kind == LAYOUT_MODEL ? do_model(k, &model, fd) : do_scope(k, fd, whole);
}

static int do_scope(struct import *k, int dirfd, const char *path) /* NOLINT(misc-no-recursion): as above */
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	int rc = sys_fdopendir(sys_reopen(dirfd, O_RDONLY | O_DIRECTORY), &dir);
	while (rc == 0 && (rc = sys_readdir(dir, &e)) > 0)
		rc = do_place(k, dirfd, path, e->d_name);
	return rc;
}

/* ---- all of it ---- */

static void import_release(struct import *k)
{
	for (size_t i = 0; i < k->numbers.n; i++)
		free(k->numbers.v[i].key);
	free(k->numbers.v);
	catalog_legacy_close(k->legacy);
	registry_import_end(k->im);
	blob_hasher_free(k->hasher);
	free(k->piece);
	free(k->made);
	if (k->dir >= 0)
		close(k->dir);
}

static int run_import(struct import *k)
{
	k->piece = malloc(BUNDLE_PIECE);
	int rc = k->piece ? blob_hasher_new(&k->hasher) : -ENOMEM;
	if (rc == 0)
		rc = registry_import_begin(k->r, &k->who, &k->im, k->f);
	if (rc == 0)
		rc = read_numbers(k);
	if (rc == 0)
		rc = open_database(k);
	if (rc == 0 && k->how->watcher.progress) {
		k->measuring = true;
		rc = do_scope(k, k->dir, "");
		k->measuring = false;
	}
	if (rc == 0)
		rc = do_scope(k, k->dir, "");
	if (rc < 0 || k->n_made == 0)
		return rc;
	if (!realpath(k->how->dir, k->root))
		k->root[0] = '\0';
	return registry_import_declared(k->im, k->made, k->n_made, k->root, k->f);
}

int bundle_import_tree(struct registry *r, const struct registry_actor *who, const struct bundle_tree *how, struct bundle_tree_totals *ret, struct fault *f)
{
	struct fault own = FAULT_INIT;
	struct import k = {.r = r, .who = *who, .how = how, .f = f ? f : &own};
	k.dir = sys_openat(AT_FDCWD, how->dir, O_RDONLY | O_DIRECTORY, 0);
	if (k.dir < 0)
		return fault_set(f, -k.dir, "the folder %s cannot be opened: %s", how->dir, strerror(-k.dir));
	int rc = run_import(&k);
	import_release(&k);
	*ret = k.totals;
	return rc < 0 ? fault_default(f, -rc, "%s cannot be taken in: %s", how->dir, strerror(-rc)) : 0;
}
