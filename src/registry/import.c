/* Versions from elsewhere: what may come in, and the one transaction that records it.
 *
 *   check (the whole manifest against the rules and the catalog) → contents → inspect (formats, as at a commit) → one transaction: versions and what a model
 *   has besides, then lineage (import_lineage.c) → names of the intake away
 *
 * The manifest is read anew for each of these: nothing of it is kept in memory but the version at hand. A death before the transaction leaves files in incoming/ and blobs that
 * nobody refers to; one after it, the names that the next mount or import clears. */
#include "import.h"

#include "commit.h"
#include "intake.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ALIASES_MAX 10000 /* of one model */
#define RECORD_TRIES 10 /* each failure is a sweep between two steps that lie close together */
#define ROOM_ASKED_FROM (UINT64_C(16) << 20) /* for smaller files the disk itself says when it is full */

struct registry_import {
	struct registry *r;
	struct registry_actor who;
	char author[64];
	struct intake *in;
};

struct outcome { uint32_t number; bool already; };
struct outcomes { struct outcome *v; size_t n, cap; }; /* of aliases */

enum step { STEP_CHECK, STEP_INSPECT, STEP_RECORD };

struct alias_wish { char *name; uint32_t wanted, number; };

/* One reading of the manifest. */
struct reading {
	struct registry_import *im;
	struct manifest_reader *m;
	struct catalog_conn *conn;
	enum step step;
	bool renumber;
	struct fault *f;
	struct registry_import_totals totals;
	/* the model at hand */
	bool has_model, model_known; /* known: it is in the catalog already, or by now */
	struct layout_model layout;
	struct catalog_model model;
	uint32_t last_number;        /* of the manifest's versions */
	struct alias_wish *aliases;
	size_t n_aliases;
	/* the version at hand */
	char label[VERSION_LABEL_MAX];
	struct import_tree tree;
	/* STEP_RECORD */
	struct import_map versions;
	struct outcomes links;
	bool has_lineage; /* the manifest tells some */
};

/* ---- begin and end ---- */

int registry_import_begin(struct registry *r, const struct registry_actor *who, struct registry_import **ret, struct fault *f)
{
	if (r->read_only)
		return refuse(f, VERDICT_READ_ONLY, "the store is open read-only: nothing can be taken in");
	struct registry_import *im = calloc(1, sizeof *im);
	if (!im)
		return refuse_system(f, -ENOMEM, "cannot import");
	im->r = r;
	im->who = *who;
	caller_user_name(who->uid, im->author, sizeof im->author);
	int rc = intake_open(r->dirfd, r->blobs, r->catalog, r->log, &im->in, f);
	if (rc < 0) {
		free(im);
		return refuse_system(f, rc, "cannot import");
	}
	*ret = im;
	return 0;
}

struct registry *registry_import_store(const struct registry_import *im) { return im->r; }

void registry_import_end(struct registry_import *im)
{
	if (!im)
		return;
	intake_close(im->in);
	free(im);
}

/* ---- contents ---- */

bool registry_import_has(struct registry_import *im, const struct blob_id *id, uint64_t size) { return intake_has(im->in, id, size); }

int registry_import_file(struct registry_import *im, uint64_t size, int *ret_fd, struct fault *f)
{
	struct statvfs fs;
	if (size >= ROOM_ASKED_FROM && sys_statvfs(im->r->dirfd, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < size)
		return refuse_system(f, -ENOSPC, "a content of %" PRIu64 " bytes does not fit into the store", size);
	int rc = intake_begin(im->in, ret_fd, f);
	return rc < 0 ? refuse_system(f, rc, "cannot import") : 0;
}

int registry_import_file_done(struct registry_import *im, int fd, const struct blob_id *id, uint64_t size, struct fault *f)
{
	sys_crash_point("import.content");
	int rc = intake_add(im->in, fd, id, size, f);
	return rc < 0 ? refuse_system(f, rc, "cannot import") : 0;
}

void registry_import_file_cancel(struct registry_import *im, int fd) { intake_cancel(im->in, fd); }

/* ---- reading ---- */

static void forget_aliases(struct reading *d)
{
	for (size_t i = 0; i < d->n_aliases; i++)
		free(d->aliases[i].name);
	d->n_aliases = 0;
}

static void reading_release(struct reading *d)
{
	forget_aliases(d);
	free(d->aliases);
	import_tree_release(&d->tree);
	import_map_release(&d->versions);
	free(d->links.v);
}

static int outcome_add(struct outcomes *o, uint32_t number, bool already)
{
	if (o->n == o->cap) {
		size_t cap = o->cap ? 2 * o->cap : 64;
		struct outcome *v = reallocarray(o->v, cap, sizeof *v);
		if (!v)
			return -ENOMEM;
		o->v = v;
		o->cap = cap;
	}
	o->v[o->n++] = (struct outcome){number, already};
	return 0;
}

static struct catalog_dir dir_attrs(const struct reading *d)
{
	const struct manifest_model *m = manifest_model(d->m);
	const struct registry_actor *who = &d->im->who;
	bool root = who->uid == 0;
	return (struct catalog_dir){.uid = root ? m->uid : who->uid, .gid = root ? m->gid : who->gid, .mode = m->mode & 03777, .mtime_ns = time_now_ns()};
}

static int look_up_model(struct reading *d)
{
	int rc = catalog_model_find(d->conn, d->layout.path, &d->model);
	d->model_known = rc == 0;
	if (rc != -ENOENT)
		return rc;
	d->model = (struct catalog_model){0};
	rc = catalog_model_find_key(d->conn, d->layout.key, &d->model);
	if (rc == 0)
		return refuse(d->f, VERDICT_KEY_TAKEN, "%s cannot be taken in: its key would be that of %s, %s", d->layout.path, d->model.path, d->model.key);
	return rc == -ENOENT ? 0 : rc;
}

static int begin_model(struct reading *d)
{
	const struct manifest_model *m = manifest_model(d->m);
	enum layout_kind kind;
	char before[LAYOUT_PATH_MAX];
	text_copy(before, sizeof before, d->has_model ? d->layout.path : "");
	int rc = layout_classify(m->path, &kind, &d->layout, d->f);
	if (rc < 0 || kind != LAYOUT_MODEL)
		return refuse(d->f, VERDICT_NAME, "'%.200s' in the manifest is no model: %s", m->path, rc < 0 && d->f && d->f->error ? d->f->text : "it leads to no model type");
	if (strcmp(before, d->layout.path) >= 0)
		return refuse(d->f, VERDICT_NAME, "%s stands twice in the manifest, or out of order", d->layout.path);
	if (m->last_number < 0 || m->last_number > LAYOUT_NUMBER_MAX)
		return refuse(d->f, VERDICT_NUMBERS_OUT, "%s: there is no number %" PRId64, d->layout.path, m->last_number);
	d->has_model = true;
	d->last_number = 0;
	forget_aliases(d);
	if (d->step == STEP_RECORD) {
		struct catalog_dir attrs = dir_attrs(d);
		int64_t id;
		rc = dirs_ensure_model(d->conn, &attrs, d->layout.path, &id, d->f);
		if (rc == 0)
			rc = import_map_add_model(&d->versions, d->layout.path);
		if (rc < 0)
			return rc;
	}
	return look_up_model(d);
}

static int add_alias(struct reading *d)
{
	const struct manifest_alias *a = manifest_alias(d->m);
	if (layout_classify_child(a->name, NULL) != LAYOUT_CHILD_ALIAS)
		return refuse(d->f, VERDICT_BAD_ALIAS, "%s: '%.200s' cannot be an alias", d->layout.path, a->name);
	if (a->number < 1 || a->number > LAYOUT_NUMBER_MAX)
		return refuse(d->f, VERDICT_BAD_ALIAS, "%s: the alias %s leads to no version", d->layout.path, a->name);
	if (d->n_aliases == ALIASES_MAX)
		return refuse(d->f, VERDICT_BAD_ALIAS, "%s has more than %d aliases", d->layout.path, ALIASES_MAX);
	struct alias_wish *aliases = reallocarray(d->aliases, d->n_aliases + 1, sizeof *aliases);
	char *name = strdup(a->name);
	if (aliases)
		d->aliases = aliases;
	if (!aliases || !name) {
		free(name);
		return -ENOMEM;
	}
	d->aliases[d->n_aliases++] = (struct alias_wish){name, (uint32_t)a->number, 0};
	return 0;
}

static int begin_version(struct reading *d)
{
	const struct manifest_version *v = manifest_version(d->m);
	if (v->number < 1 || v->number > LAYOUT_NUMBER_MAX)
		return refuse(d->f, VERDICT_NUMBERS_OUT, "%s: there is no version number %" PRId64, d->layout.path, v->number);
	snprintf(d->label, sizeof d->label, "v%u of %.*s", (unsigned)v->number, VERSION_LABEL_MAX - 32, d->layout.path);
	if ((uint32_t)v->number <= d->last_number)
		return refuse(d->f, VERDICT_EXISTS, "%s stands twice in the manifest, or out of order", d->label);
	if (v->committed_ns < 0 || v->minted_ns < 0)
		return refuse(d->f, VERDICT_PLACE, "%s: was made before 1970", d->label);
	d->last_number = (uint32_t)v->number;
	import_tree_reset(&d->tree);
	return 0;
}

/* Which number does the version get, and is it here already? */
static int judge_number(struct reading *d, struct import_version *ret)
{
	struct catalog_version there;
	bool same = false;
	*ret = (struct import_version){.wanted = (uint32_t)manifest_version(d->m)->number, .number = (uint32_t)manifest_version(d->m)->number};
	if (d->renumber) {
		ret->number = d->model_known ? d->model.last_number + 1 : 1;
		return ret->number <= LAYOUT_NUMBER_MAX ? 0 : refuse(d->f, VERDICT_NUMBERS_OUT, "%s has used its last number", d->layout.path);
	}
	int rc = d->model_known ? catalog_version_find(d->conn, d->model.id, ret->number, &there) : -ENOENT;
	if (rc == -ENOENT) /* never used here, also below the highest: it is the number that the version has everywhere */
		return 0;
	if (rc == 0 && there.state == CATALOG_COMMITTED)
		rc = import_tree_compare(&d->tree, d->conn, there.id, &same);
	if (rc < 0)
		return rc;
	if (!same && there.state == CATALOG_COMMITTED)
		return refuse(d->f, VERDICT_NUMBER_USED, "%s is another version here: import it with a new number (--renumber)", d->label);
	if (!same)
		return refuse(d->f, VERDICT_NUMBER_USED, "%s is taken: it is a %s version here; import it with a new number (--renumber)", d->label,
			catalog_state_name(there.state));
	ret->already = true;
	ret->id = there.id;
	return 0;
}

/* ---- inspect: what a commit would refuse ---- */

static int inspect_file(struct reading *d, size_t i)
{
	const struct catalog_entry *e = &d->tree.entries[i];
	bool is_metadata = !strcmp(d->tree.paths[i], METADATA_NAME);
	struct fault why = FAULT_INIT;
	if (is_metadata && e->type != CATALOG_FILE)
		return refuse(d->f, VERDICT_BAD_METADATA, "%s: its " METADATA_NAME " is no file", d->label);
	if (e->type != CATALOG_FILE || e->inode != (int64_t)i)
		return 0;
	auto_close int fd = blob_open(d->im->r->blobs, &e->blob);
	if (fd < 0)
		return fd == -ENOENT ? -EAGAIN : fd; /* swept since it was put */
	int rc;
	if (is_metadata) {
		struct metadata md;
		rc = metadata_read(fd, &md, &why);
		if (rc == 0)
			metadata_release(&md);
	} else {
		rc = metadata_check_format(fd, e->name, &why);
	}
	if (rc == -EINVAL || rc == -EFBIG)
		return refuse(d->f, is_metadata ? VERDICT_BAD_METADATA : VERDICT_TORN, "%s: %s", d->label, why.text);
	return rc;
}

static int inspect_version(struct reading *d)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < d->tree.n; i++)
		rc = inspect_file(d, i);
	return rc;
}

/* ---- record ---- */

static int blobs_there(const struct reading *d)
{
	for (size_t i = 0; i < d->tree.n; i++) {
		const struct catalog_entry *e = &d->tree.entries[i];
		if (e->type != CATALOG_FILE || e->inode != (int64_t)i)
			continue;
		int rc = intake_still_put(d->im->in, &e->blob, e->size);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int add_run(struct reading *d, int64_t *ret_id)
{
	const struct manifest_version *v = manifest_version(d->m);
	const struct manifest_run *run = &v->run;
	struct catalog_run row = {.key = run->key, .chain = run->process, .uid = d->im->who.uid, .user = run->user, .host = run->host,
		.command = run->command, .cwd = run->cwd, .git_commit = run->git_commit, .git_dirty = run->git_dirty == 0 || run->git_dirty == 1 ? (int)run->git_dirty : -1,
		.started_ns = run->started_ns, .ended_ns = run->ended_ns, .exit_status = run->exit_status >= 0 && run->exit_status <= 0xffff ? (int)run->exit_status : -1};
	return catalog_run_add(d->conn, &row, ret_id);
}

/* Metrics by themselves are no metadata.json, but are read like one. */
static int read_metrics(const char *metrics, struct metadata *ret)
{
	auto_buf struct buf text = BUF_INIT(METADATA_SIZE_MAX);
	if (buf_printf(&text, "{\"metrics\":%s}", metrics && *metrics ? metrics : "{}") < 0)
		return text.error;
	return metadata_parse(buf_text(&text), text.len, ret, NULL);
}

static void own_entries(struct reading *d)
{
	if (d->im->who.uid == 0)
		return;
	for (size_t i = 0; i < d->tree.n; i++) {
		d->tree.entries[i].uid = d->im->who.uid;
		d->tree.entries[i].gid = d->im->who.gid;
	}
}

static int commit_version(struct reading *d, int64_t id, const struct metadata *md)
{
	const struct manifest_version *v = manifest_version(d->m);
	bool root = d->im->who.uid == 0;
	auto_free struct catalog_metric *metrics = calloc(md->n_metrics ? md->n_metrics : 1, sizeof *metrics);
	if (!metrics)
		return -ENOMEM;
	struct catalog_commit c = {.version_id = id, .committed_ns = v->committed_ns ? v->committed_ns : time_now_ns(), .mtime_ns = v->mtime_ns,
		.uid = root ? v->uid : d->im->who.uid, .gid = root ? v->gid : d->im->who.gid, .mode = v->mode & 03555, .size = d->tree.size, .n_files = d->tree.n_files,
		.n_dirs = d->tree.n_top_dirs, .n_top = (uint32_t)d->tree.n_top, .message = v->message, .metrics_summary = md->metrics_summary ? md->metrics_summary : "{}",
		.entries = d->tree.entries, .n_entries = d->tree.n, .metrics = metrics};
	for (unsigned i = 0; i < md->n_metrics; i++)
		if (strlen(md->metrics[i].name) < CATALOG_NAME_MAX)
			metrics[c.n_metrics++] = (struct catalog_metric){md->metrics[i].name, md->metrics[i].value};
	own_entries(d);
	return catalog_version_commit(d->conn, &c);
}

static int record_version(struct reading *d, uint32_t number, int64_t *ret_id)
{
	const struct manifest_version *mv = manifest_version(d->m);
	struct metadata md;
	int64_t run_id = 0, id = 0;
	int rc = blobs_there(d);
	if (rc == 0)
		rc = add_run(d, &run_id);
	if (rc < 0)
		return rc;
	rc = read_metrics(mv->metrics, &md);
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0)
		return refuse(d->f, VERDICT_BAD_METADATA, "%s: its metrics are not what metrics can be", d->label);
	struct catalog_version v = {.model_id = d->model.id, .number = number, .minted_ns = mv->minted_ns ? mv->minted_ns : mv->committed_ns, .uid = d->im->who.uid,
		.gid = d->im->who.gid, .mode = mv->mode & 03777, .run_id = run_id};
	rc = catalog_version_add(d->conn, &v, mv->author ? mv->author : d->im->author, &id);
	if (rc == 0)
		rc = commit_version(d, id, &md);
	if (rc == 0)
		rc = import_about(d->conn, d->im->r, &d->tree, id, &md);
	metadata_release(&md);
	if (rc == 0 && number > d->model.last_number)
		d->model.last_number = number;
	*ret_id = id;
	return rc;
}

/* It is here already, and the bundle has brought again what the store had lost of it. */
static int record_again(const struct reading *d, int64_t id)
{
	int rc = blobs_there(d);
	return rc == -EAGAIN || rc == -ENOENT ? 0 : rc < 0 ? rc : catalog_version_returned(d->conn, id);
}

static int note_version(struct reading *d, const struct import_version *v)
{
	for (size_t i = 0; i < d->n_aliases; i++)
		if (d->aliases[i].wanted == v->wanted)
			d->aliases[i].number = v->number;
	if (d->step == STEP_RECORD)
		return import_map_add(&d->versions, v);
	d->totals.versions++;
	d->totals.already += v->already;
	d->totals.entries += d->tree.n;
	d->totals.bytes += d->tree.size;
	return 0;
}

static int finish_version(struct reading *d)
{
	struct import_version v;
	import_tree_finish(&d->tree);
	if (d->tree.n_files == 0)
		return refuse(d->f, VERDICT_EMPTY_DRAFT, "%s holds no file: there is nothing to take in", d->label);
	int rc = judge_number(d, &v);
	if (rc == 0 && d->step == STEP_INSPECT && !v.already)
		rc = inspect_version(d);
	if (rc == 0 && d->step == STEP_RECORD)
		rc = v.already ? record_again(d, v.id) : record_version(d, v.number, &v.id);
	return rc < 0 ? rc : note_version(d, &v);
}

/* ---- what a model has besides ---- */

/* An alias that leads elsewhere here stays: what is production in this store is not for a bundle to say. */
static int settle_alias(struct reading *d, struct alias_wish *w)
{
	struct catalog_alias there, a = {.model_id = d->model.id, .uid = d->im->who.uid, .gid = d->im->who.gid, .set_ns = time_now_ns()};
	struct catalog_version v;
	if (!w->number && !d->renumber && d->model_known && catalog_version_find(d->conn, d->model.id, w->wanted, &v) == 0 && v.state == CATALOG_COMMITTED)
		w->number = w->wanted; /* not in the manifest, but here */
	if (!w->number)
		return refuse(d->f, VERDICT_BAD_ALIAS, "%s: the alias %s leads to v%u, which is not there", d->layout.path, w->name, w->wanted);
	if (d->step != STEP_RECORD)
		return 0;
	int rc = catalog_alias_find(d->conn, d->model.id, w->name, &there);
	if (rc == 0)
		return outcome_add(&d->links, there.number, true);
	if (rc != -ENOENT)
		return rc;
	a.number = w->number;
	text_copy(a.name, sizeof a.name, w->name);
	rc = catalog_alias_set(d->conn, &a, d->im->author, &a.id);
	return rc < 0 ? rc : outcome_add(&d->links, w->number, false);
}

/* Numbers that were used where the model comes from are not used again here; and a model without a metric of its own takes over what decides there. */
static int settle_model(struct reading *d)
{
	const struct manifest_model *from = manifest_model(d->m);
	struct catalog_model m;
	int rc = catalog_model_get(d->conn, d->model.id, &m);
	if (rc < 0)
		return rc;
	bool named = from->best_named && !m.best_named, first = !m.best_metric[0];
	if (!d->renumber && (uint32_t)from->last_number > m.last_number)
		m.last_number = (uint32_t)from->last_number;
	if ((named || first) && from->best_metric && from->best_mode != METADATA_BEST_UNKNOWN && strlen(from->best_metric) < sizeof m.best_metric) {
		text_copy(m.best_metric, sizeof m.best_metric, from->best_metric);
		m.best_mode = (int)from->best_mode;
		m.best_named = from->best_named;
	}
	return catalog_model_update(d->conn, &m);
}

static int finish_model(struct reading *d)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < d->n_aliases; i++)
		rc = settle_alias(d, &d->aliases[i]);
	return rc == 0 && d->step == STEP_RECORD ? settle_model(d) : rc;
}

static int read_through(struct reading *d)
{
	enum manifest_item item = MANIFEST_END;
	int rc;
	manifest_rewind(d->m);
	import_tree_reset(&d->tree);
	do {
		rc = manifest_next(d->m, &item, d->f);
		if (rc < 0)
			return rc;
		switch (item) {
		case MANIFEST_MODEL: rc = begin_model(d); break;
		case MANIFEST_ALIAS: rc = add_alias(d); break;
		case MANIFEST_VERSION: rc = begin_version(d); break;
		case MANIFEST_INPUT:
		case MANIFEST_UNKNOWN:
		case MANIFEST_EVALUATION:
			d->has_lineage = true;
			rc = d->step == STEP_CHECK ? import_lineage_check(d->m, item, &d->layout, d->label, d->f) : 0;
			break;
		case MANIFEST_ENTRY: rc = import_tree_add(&d->tree, manifest_entry(d->m), d->label, d->f); break;
		case MANIFEST_VERSION_END: rc = finish_version(d); break;
		case MANIFEST_MODEL_END: rc = finish_model(d); break;
		case MANIFEST_END: break;
		}
	} while (rc == 0 && item != MANIFEST_END);
	return rc;
}

/* ---- the steps ---- */

int registry_import_check(struct registry_import *im, struct manifest_reader *m, bool renumber, struct registry_import_totals *ret, struct fault *f)
{
	struct reading d = {.im = im, .m = m, .step = STEP_CHECK, .renumber = renumber, .f = f, .tree = {.dir = -1}};
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(im->r->catalog, &conn);
	d.conn = conn;
	if (rc == 0)
		rc = read_through(&d);
	if (rc == 0)
		*ret = d.totals;
	reading_release(&d);
	return rc < 0 ? refuse_system(f, rc, "the manifest cannot be taken in") : 0;
}

static int inspect(struct registry_import *im, struct manifest_reader *m, bool renumber, struct fault *f)
{
	struct reading d = {.im = im, .m = m, .step = STEP_INSPECT, .renumber = renumber, .f = f, .tree = {.dir = -1}};
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(im->r->catalog, &conn);
	d.conn = conn;
	if (rc == 0)
		rc = read_through(&d);
	reading_release(&d);
	return rc;
}

struct record_job { struct reading d; struct fault fault; };

static int record_write(struct catalog_conn *conn, void *arg)
{
	struct record_job *j = arg;
	j->d.conn = conn;
	j->fault = (struct fault)FAULT_INIT;
	j->d.links.n = 0;
	import_map_reset(&j->d.versions);
	j->d.has_model = false;
	int rc = read_through(&j->d);
	if (rc == 0 && j->d.has_lineage)
		rc = import_lineage_record(conn, j->d.m, &j->d.versions, j->d.im->who.uid, &j->fault);
	if (rc == 0)
		rc = import_lineage_join(conn, &j->d.versions);
	sys_crash_point("import.in-transaction");
	return rc;
}

static void tell(const struct record_job *j, registry_imported_fn *fn, void *arg)
{
	struct manifest_reader *m = j->d.m;
	enum manifest_item item;
	size_t version = 0, link = 0;
	manifest_rewind(m);
	while (manifest_next(m, &item, NULL) == 0 && item != MANIFEST_END) {
		struct registry_imported i = {.model = manifest_model(m)->path};
		if (item == MANIFEST_VERSION && version < j->d.versions.n) {
			struct import_version o = j->d.versions.v[version++];
			i = (struct registry_imported){REGISTRY_IMPORTED_VERSION, i.model, NULL, (uint32_t)manifest_version(m)->number, o.number, o.already};
		} else if (item == MANIFEST_ALIAS && link < j->d.links.n) {
			struct outcome o = j->d.links.v[link++];
			i = (struct registry_imported){REGISTRY_IMPORTED_ALIAS, i.model, manifest_alias(m)->name, (uint32_t)manifest_alias(m)->number, o.number, o.already};
		} else {
			continue;
		}
		fn(&i, arg);
	}
}

int registry_import_record(struct registry_import *im, struct manifest_reader *m, bool renumber, registry_imported_fn *fn, void *arg, struct fault *f)
{
	struct record_job j = {.d = {.im = im, .m = m, .step = STEP_RECORD, .renumber = renumber, .tree = {.dir = -1}}};
	bool inspected = false;
	j.d.f = &j.fault;
	int rc = intake_flush(im->in, f);
	sys_crash_point("import.blobs-put");
	for (int i = 0; rc == 0 && i < RECORD_TRIES; i++) {
		if (!inspected)
			rc = inspect(im, m, renumber, f);
		inspected = rc == 0;
		if (rc == 0)
			rc = catalog_write(im->r->catalog, true, record_write, &j);
		if (rc != -EAGAIN || i == RECORD_TRIES - 1)
			break;
		rc = intake_put_again(im->in, f);
	}
	if (rc == -EAGAIN)
		refuse(f, VERDICT_BUSY, "contents that the store had were swept meanwhile: import again");
	else if (rc < 0 && f && j.fault.error)
		*f = j.fault;
	sys_crash_point("import.recorded");
	if (rc == 0) {
		int settled = intake_settle(im->in);
		if (settled < 0)
			log_warning(im->r->log, "contents that were taken in are not sealed yet: %s", strerror(-settled));
		log_info(im->r->log, "imported %zu versions", j.d.versions.n);
		if (fn)
			tell(&j, fn, arg);
	}
	sys_crash_point("import.settled");
	reading_release(&j.d);
	return rc < 0 ? refuse_system(f, rc, "cannot record what was imported") : 0;
}
