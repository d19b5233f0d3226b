/* Export: a bundle out of a store.
 *
 * The manifest is written first, from one snapshot of the catalog, to a nameless file; then the archive follows it entry by entry, by the same reader that an import uses. So no
 * snapshot is held while gigabytes flow, and what the archive holds is what its manifest tells. */
#include "layout.h"
#include "spool.h"

#include <mintfs/bundle.h>

#include <errno.h>
#include <limits.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUT_BUFFER (1u << 16)

/* ---- the manifest ---- */

struct listing {
	struct registry *r;
	struct catalog_conn *conn;
	struct manifest_writer *w;
	const struct catalog_model *model;
	struct bundle_totals *totals;
	int64_t version_id; /* at hand */
	int64_t first_id;   /* of its entries */
	bool keep_numbers;
	uint32_t only; /* aliases of this version only; 0: all */
};

static int add_entry(const char *path, const struct catalog_file *file, void *arg)
{
	struct listing *l = arg;
	char hex[BLOB_HEX_SIZE], target[PATH_MAX];
	struct manifest_entry e = {.path = (char *)(uintptr_t)path, .size = (int64_t)file->size, .same_as = -1, .mode = file->mode, .uid = file->uid, .gid = file->gid,
		.mtime_ns = file->mtime_ns};
	if ((file->type != CATALOG_FILE && file->type != CATALOG_DIRECTORY && file->type != CATALOG_SYMLINK) || file->inode < l->first_id || file->inode > file->id)
		return -EUCLEAN; /* written by nobody of us */
	if (file->inode != file->id)
		e.same_as = file->inode - l->first_id;
	e.type = file->type == CATALOG_FILE ? MANIFEST_FILE : file->type == CATALOG_DIRECTORY ? MANIFEST_DIRECTORY : MANIFEST_SYMLINK;
	if (file->type == CATALOG_FILE) {
		blob_id_hex(&file->blob, hex);
		e.sha256 = hex;
		l->totals->files++;
	}
	if (file->type == CATALOG_SYMLINK) {
		int rc = catalog_file_target(l->conn, file->id, target, sizeof target);
		if (rc < 0)
			return rc;
		e.target = target;
	}
	return manifest_add_entry(l->w, &e);
}

static int add_version_record(struct listing *l, const struct catalog_version *v, const struct catalog_version_text *text, const struct catalog_run *run)
{
	char process[64] = "";
	struct manifest_version mv = {.number = v->number, .minted_ns = v->minted_ns, .committed_ns = v->committed_ns, .mtime_ns = v->mtime_ns, .mode = v->mode,
		.uid = v->uid, .gid = v->gid, .author = text->author, .message = text->message, .metrics = text->metrics_summary, .has_run = run != NULL};
	if (run) {
		snprintf(process, sizeof process, "%.*s", run->chain ? (int)strcspn(run->chain, " ") : 0, run->chain ? run->chain : "");
		mv.run = (struct manifest_run){run->key, *process ? process : NULL, run->user, run->host, run->command, run->cwd, run->git_commit, run->git_dirty,
			run->exit_status, run->started_ns, run->ended_ns};
	}
	return manifest_add_version(l->w, &mv);
}

/* ---- what a version was made from, and what it was evaluated on: by the name and the digest of the other version, wherever that is ---- */

static char *unconst(const char *text) { return (char *)(uintptr_t)text; }

/* hex stays empty where there is no digest: of what was never committed. */
static int digest_of(const struct listing *l, int64_t version_id, struct catalog_version *ret, char hex[BLOB_HEX_SIZE])
{
	struct blob_id digest;
	hex[0] = '\0';
	int rc = catalog_version_get(l->conn, version_id, ret);
	if (rc < 0)
		return rc;
	rc = registry_version_digest(l->r, l->conn, ret, &digest);
	if (rc == 0)
		blob_id_hex(&digest, hex);
	return rc == -ENOENT ? 0 : rc;
}

static int add_input(const struct catalog_edge *e, void *arg)
{
	struct listing *l = arg;
	struct catalog_version v;
	char hex[BLOB_HEX_SIZE];
	int rc = digest_of(l, e->version_id, &v, hex);
	return rc < 0 ? rc : manifest_add_input(l->w, &(struct manifest_input){unconst(e->model), e->number, hex[0] ? hex : NULL, (enum manifest_how)e->how});
}

static int add_input_elsewhere(const struct catalog_elsewhere *e, enum catalog_how how, void *arg)
{
	struct listing *l = arg;
	char hex[BLOB_HEX_SIZE];
	blob_id_hex(&e->digest, hex);
	return manifest_add_input(l->w, &(struct manifest_input){unconst(e->model), e->number, e->has_digest ? hex : NULL, (enum manifest_how)how});
}

static int add_unknown(const char *text, const char *reason, void *arg)
{
	struct listing *l = arg;
	return manifest_add_unknown(l->w, &(struct manifest_unknown){unconst(text), unconst(reason)});
}

static int put_evaluation(struct listing *l, const char *model, uint32_t number, const char *hex, const struct catalog_evaluation *e)
{
	return manifest_add_evaluation(l->w, &(struct manifest_evaluation){unconst(model), number, hex[0] ? unconst(hex) : NULL, e->at_ns, unconst(e->author), unconst(e->metrics)});
}

static int add_evaluation(const struct catalog_evaluation *e, void *arg)
{
	struct listing *l = arg;
	auto_free struct catalog_model *m = NULL;
	struct catalog_version v;
	char hex[BLOB_HEX_SIZE];
	if (e->version_id != l->version_id) /* one of another version on this one: it goes with that */
		return 0;
	int rc = digest_of(l, e->dataset_id, &v, hex);
	m = malloc(sizeof *m);
	if (rc == 0)
		rc = m ? catalog_model_get(l->conn, v.model_id, m) : -ENOMEM;
	return rc < 0 ? rc : put_evaluation(l, m->path, v.number, hex, e);
}

static int add_evaluation_elsewhere(const struct catalog_elsewhere *e, const struct catalog_evaluation *x, void *arg)
{
	char hex[BLOB_HEX_SIZE] = "";
	if (e->has_digest)
		blob_id_hex(&e->digest, hex);
	return put_evaluation(arg, e->model, e->number, hex, x);
}

static int add_lineage(struct listing *l, int64_t version_id)
{
	l->version_id = version_id;
	int rc = catalog_lineage_list(l->conn, version_id, false, add_input, l);
	if (rc == 0)
		rc = catalog_elsewhere_input_list(l->conn, version_id, add_input_elsewhere, l);
	if (rc == 0)
		rc = catalog_input_unknown_list(l->conn, version_id, add_unknown, l);
	if (rc == 0)
		rc = catalog_evaluation_list(l->conn, version_id, add_evaluation, l);
	return rc == 0 ? catalog_elsewhere_evaluation_list(l->conn, version_id, add_evaluation_elsewhere, l) : rc;
}

static int add_version(struct listing *l, const struct catalog_version *v, const struct catalog_version_text *text)
{
	struct catalog_run run;
	int rc = catalog_run_get(l->conn, v->run_id, &run);
	bool has_run = rc == 0;
	if (rc < 0 && rc != -ENOENT)
		return rc;
	rc = add_version_record(l, v, text, has_run ? &run : NULL);
	if (has_run)
		catalog_run_release(&run);
	l->first_id = v->first_child;
	l->totals->versions++;
	if (rc == 0)
		rc = add_lineage(l, v->id);
	return rc < 0 ? rc : catalog_file_list(l->conn, v->id, add_entry, l);
}

static int add_listed(const struct catalog_version *v, const struct catalog_version_text *text, void *arg) { return add_version(arg, v, text); }

static int add_alias(const struct catalog_alias *a, void *arg)
{
	struct listing *l = arg;
	if (l->only && a->number != l->only)
		return 0;
	return manifest_add_alias(l->w, &(struct manifest_alias){(char *)(uintptr_t)a->name, a->number, a->set_ns});
}

static int add_model_record(struct listing *l, const struct catalog_model *m)
{
	struct catalog_dir dir;
	int rc = catalog_dir_get(l->conn, m->id, &dir);
	if (rc < 0)
		return rc;
	struct manifest_model mm = {.path = (char *)(uintptr_t)m->path, .mode = dir.mode, .uid = dir.uid, .gid = dir.gid, .last_number = l->keep_numbers ? m->last_number : 0,
		.best_metric = m->best_metric[0] ? (char *)(uintptr_t)m->best_metric : NULL, .best_mode = m->best_mode, .best_named = m->best_named};
	l->totals->models++;
	return manifest_add_model(l->w, &mm);
}

/* A model with all that is committed in it. */
static int add_model(const struct catalog_model *m, void *arg)
{
	struct listing *l = arg;
	struct catalog_version_list q = {.model_id = m->id, .states = 1u << CATALOG_COMMITTED, .with_text = true};
	if (!m->newest_committed)
		return 0; /* nothing that could go out */
	l->keep_numbers = true;
	l->only = 0;
	int rc = add_model_record(l, m);
	if (rc == 0)
		rc = catalog_alias_list(l->conn, m->id, 0, add_alias, l);
	return rc < 0 ? rc : catalog_version_list(l->conn, &q, add_listed, l);
}

static int compare_refs(const void *a, const void *b)
{
	const struct registry_ref *x = *(const struct registry_ref *const *)a, *y = *(const struct registry_ref *const *)b;
	int order = strcmp(x->model.path, y->model.path);
	if (order)
		return order;
	if (x->has_version != y->has_version)
		return x->has_version ? 1 : -1; /* the model before its versions */
	return (x->version.number > y->version.number) - (x->version.number < y->version.number);
}

/* The versions named of one model: refs[0..n), sorted, the same one perhaps twice. */
static int add_versions_of(struct listing *l, const struct registry_ref *const *refs, size_t n)
{
	l->keep_numbers = false;
	int rc = add_model_record(l, &refs[0]->model);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		if (i > 0 && refs[i]->version.id == refs[i - 1]->version.id)
			continue;
		l->only = refs[i]->version.number;
		rc = catalog_alias_list(l->conn, refs[i]->model.id, 0, add_alias, l);
	}
	for (size_t i = 0; rc == 0 && i < n; i++) {
		__attribute__((cleanup(catalog_version_text_release))) struct catalog_version_text text = {0};
		struct catalog_version v;
		if (i > 0 && refs[i]->version.id == refs[i - 1]->version.id)
			continue;
		rc = catalog_version_get(l->conn, refs[i]->version.id, &v);
		if (rc == 0 && v.state != CATALOG_COMMITTED)
			rc = -ESTALE;
		if (rc == 0)
			rc = catalog_version_text(l->conn, v.id, &text);
		if (rc == 0)
			rc = add_version(l, &v, &text);
	}
	return rc;
}

static int add_refs(struct listing *l, const struct bundle_export *what)
{
	auto_free const struct registry_ref **refs = calloc(what->n_refs + 1, sizeof(struct registry_ref *));
	int rc = refs ? 0 : -ENOMEM;
	for (size_t i = 0; rc == 0 && i < what->n_refs; i++)
		refs[i] = &what->refs[i];
	if (rc == 0)
		qsort(refs, what->n_refs, sizeof(struct registry_ref *), compare_refs);
	for (size_t i = 0, end; rc == 0 && i < what->n_refs; i = end) {
		for (end = i + 1; end < what->n_refs && refs[end]->model.id == refs[i]->model.id;)
			end++;
		rc = refs[i]->has_version ? add_versions_of(l, refs + i, end - i) : add_model(&refs[i]->model, l);
	}
	return rc;
}

static int write_manifest(struct registry *r, const struct bundle_export *what, struct spool *out, struct bundle_totals *totals, struct fault *f)
{
	auto_read struct catalog_conn *conn = NULL;
	struct manifest_writer *w = NULL;
	int rc = manifest_writer_new(spool_out, out, &w);
	if (rc == 0)
		rc = registry_read_begin(r, &conn);
	struct listing l = {.r = r, .conn = conn, .w = w, .totals = totals};
	if (rc == 0)
		rc = manifest_begin(w, what->program, registry_path(r), time_now_ns());
	if (rc == 0)
		rc = what->all ? catalog_model_list(conn, add_model, &l) : add_refs(&l, what);
	if (rc == 0)
		rc = manifest_finish(w);
	manifest_writer_free(w);
	if (rc == -ESTALE)
		return fault_set(f, ESTALE, "a version was retired while it was to be exported");
	return rc < 0 ? fault_default(f, -rc, "the manifest cannot be written: %s", strerror(-rc)) : 0;
}

/* ---- the archive ---- */

struct archive {
	struct registry *r;
	int fd;
	size_t n; /* in the buffer */
	uint64_t written;
	struct contents *contents;
	struct bundle_totals *totals;
	struct bundle_watcher watcher;
	uint64_t total;
	struct blob_hasher *hasher;
	struct fault *f;
	uint8_t *piece; /* BUNDLE_PIECE */
	uint8_t buffer[OUT_BUFFER];
};

static int write_all(struct archive *a, const void *data, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = write(a->fd, (const uint8_t *)data + at, len - at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fault_set(a->f, errno, "the bundle cannot be written: %s", strerror(errno));
		at += (size_t)n;
	}
	a->written += len;
	return 0;
}

static int flush(struct archive *a)
{
	size_t n = a->n;
	a->n = 0;
	return write_all(a, a->buffer, n);
}

static int put(struct archive *a, const void *data, size_t len)
{
	int rc = a->n + len > OUT_BUFFER ? flush(a) : 0;
	if (rc < 0 || len >= OUT_BUFFER)
		return rc < 0 ? rc : write_all(a, data, len);
	memcpy(a->buffer + a->n, data, len);
	a->n += len;
	return 0;
}

static int put_header(struct archive *a, const struct tar_header *h)
{
	uint8_t blocks[TAR_HEADER_MAX];
	size_t len;
	int rc = tar_header_make(h, blocks, &len);
	return rc < 0 ? fault_set(a->f, -rc, "%s: cannot be put into an archive: %s", h->path, strerror(-rc)) : put(a, blocks, len);
}

static int put_padding(struct archive *a, uint64_t size)
{
	static const uint8_t zeros[TAR_BLOCK];
	return put(a, zeros, tar_padding(size));
}

static int put_text(struct archive *a, const char *path, const char *text, size_t len)
{
	int rc = put_header(a, &(struct tar_header){.type = TAR_FILE, .path = path, .size = len, .mode = 0644, .uid = geteuid(), .gid = getegid(), .mtime_ns = time_now_ns()});
	if (rc == 0)
		rc = put(a, text, len);
	return rc < 0 ? rc : put_padding(a, len);
}

static void watch(const struct archive *a)
{
	if (a->watcher.progress)
		a->watcher.progress(a->totals->bytes, a->total, a->watcher.arg);
}

/* The bytes of a content, which are hashed as they go: what is damaged must not leave as if it were sound. */
static int put_bytes(struct archive *a, int fd, const char *path, const struct manifest_entry *e)
{
	struct blob_id id, found;
	uint64_t size = (uint64_t)e->size, at = 0;
	int rc = 0;
	while (rc == 0 && at < size) {
		size_t want = size - at < BUNDLE_PIECE ? (size_t)(size - at) : BUNDLE_PIECE;
		ssize_t n = sys_pread_full(fd, a->piece, want, (off_t)at);
		if (n < 0 || (size_t)n < want)
			return fault_set(a->f, n < 0 ? (int)-n : EIO, "%s cannot be read to its end: %s", path, n < 0 ? strerror((int)-n) : "it is shorter than it was");
		rc = blob_hasher_add(a->hasher, a->piece, want);
		if (rc == 0)
			rc = put(a, a->piece, want);
		at += want;
		a->totals->bytes += want;
		watch(a);
	}
	if (rc == 0)
		rc = blob_hasher_finish(a->hasher, &found);
	if (rc < 0)
		return rc;
	if (blob_id_parse(e->sha256, &id) < 0 || !blob_id_equal(&id, &found))
		return fault_set(a->f, EIO, "%s is damaged in the store: its content is not that of its SHA-256 %s", path, e->sha256);
	return put_padding(a, size);
}

static int put_content(struct archive *a, struct tar_header *h, const struct manifest_entry *e)
{
	struct catalog_file file = {.type = CATALOG_FILE, .size = (uint64_t)e->size};
	int fd = -1;
	snprintf(file.name, sizeof file.name, "%.*s", (int)sizeof file.name - 1, strrchr(e->path, '/') ? strrchr(e->path, '/') + 1 : e->path);
	int rc = blob_id_parse(e->sha256, &file.blob);
	if (rc == 0)
		rc = registry_file_open(a->r, &file, &fd, a->f);
	if (rc < 0)
		return rc;
	auto_close int content = fd;
	rc = put_header(a, h);
	return rc < 0 ? rc : put_bytes(a, content, h->path, e);
}

static int put_file(struct archive *a, struct tar_header *h, const struct manifest_entry *e)
{
	char first[TAR_NAME_MAX];
	struct blob_id id;
	int rc = blob_id_parse(e->sha256, &id);
	if (rc == 0)
		rc = contents_find(a->contents, &id, first, sizeof first);
	if (rc == 0) {
		h->type = TAR_HARDLINK;
		h->target = first;
		return put_header(a, h);
	}
	if (rc == -ENOENT)
		rc = put_content(a, h, e);
	return rc < 0 ? rc : contents_add(a->contents, &id, h->path);
}

static int put_entry(struct archive *a, const char *model, uint32_t number, const struct manifest_entry *e)
{
	char path[TAR_NAME_MAX];
	struct tar_header h = {.path = path, .mode = e->mode, .uid = e->uid, .gid = e->gid, .mtime_ns = e->mtime_ns, .size = (uint64_t)e->size, .target = e->target};
	int rc = bundle_version_path(path, model, number, e->path);
	if (rc < 0)
		return fault_set(a->f, -rc, "%s: its path is too long for an archive", e->path);
	switch (e->type) {
	case MANIFEST_FILE: h.type = TAR_FILE; return put_file(a, &h, e);
	case MANIFEST_DIRECTORY:
		h.type = TAR_DIRECTORY;
		h.mode |= 0200; /* who unpacks it can remove it again */
		break;
	case MANIFEST_SYMLINK: h.type = TAR_SYMLINK; break;
	}
	return put_header(a, &h);
}

static int put_item(struct archive *a, struct manifest_reader *m, enum manifest_item item)
{
	const struct manifest_version *v = manifest_version(m);
	const char *model = manifest_model(m)->path;
	char path[TAR_NAME_MAX], target[16];
	struct tar_header h = {.path = path};
	switch (item) {
	case MANIFEST_ALIAS:
		snprintf(target, sizeof target, "v%u", (unsigned)manifest_alias(m)->number);
		h = (struct tar_header){.type = TAR_SYMLINK, .path = path, .target = target, .mode = 0777, .mtime_ns = manifest_alias(m)->set_ns};
		return bundle_model_path(path, model, manifest_alias(m)->name) < 0 ? -ENAMETOOLONG : put_header(a, &h);
	case MANIFEST_VERSION:
		h = (struct tar_header){.type = TAR_DIRECTORY, .path = path, .mode = v->mode | 0200, .uid = v->uid, .gid = v->gid, .mtime_ns = v->mtime_ns};
		return bundle_version_path(path, model, (uint32_t)v->number, NULL) < 0 ? -ENAMETOOLONG : put_header(a, &h);
	case MANIFEST_ENTRY: return put_entry(a, model, (uint32_t)v->number, manifest_entry(m));
	case MANIFEST_MODEL:
	case MANIFEST_INPUT:
	case MANIFEST_UNKNOWN:
	case MANIFEST_EVALUATION:
	case MANIFEST_VERSION_END:
	case MANIFEST_MODEL_END:
	case MANIFEST_END: break;
	}
	return 0;
}

/* How many bytes of contents there are, at most. */
static uint64_t sum_up(struct manifest_reader *m)
{
	uint64_t sum = 0;
	enum manifest_item item;
	while (manifest_next(m, &item, NULL) == 0 && item != MANIFEST_END)
		if (item == MANIFEST_ENTRY && manifest_entry(m)->type == MANIFEST_FILE && manifest_entry(m)->same_as < 0)
			sum += (uint64_t)manifest_entry(m)->size;
	return sum;
}

static const char readme[] =
	"This is a bundle of trained models, made by MintFS.\n\n"
	"saved_models/   the versions, as people know them: MODEL/vN/model.pth …, and the aliases of a model as links\n"
	"manifest.json   what they are: for each file its SHA-256, for each version its author, message, times, metrics, run,\n"
	"                what it was made from and how it was evaluated\n\n"
	"It is a plain tar archive: `tar -xf BUNDLE` unpacks it. A content that occurs several times is stored once; the other\n"
	"places are hard links to the first one.\n\n"
	"To take it into a store of MintFS:  mintfs import BUNDLE --store STORE\n"
	"That checks every byte against the manifest and takes in all versions or none. Without MintFS, the manifest checks itself by\n"
	"`sha256sum -c manifest.json.sha256`, and the files by the hashes in it:\n\n"
	"python3 -c '\n"
	"import hashlib, json, os\n"
	"for m in json.load(open(\"manifest.json\"))[\"models\"]:\n"
	"    for v in m[\"versions\"]:\n"
	"        for e in v[\"entries\"]:\n"
	"            if e[\"type\"] == \"file\" and \"path\" in e:\n"
	"                path = os.path.join(\"saved_models\", m[\"model\"], \"v%d\" % v[\"number\"], e[\"path\"])\n"
	"                good = hashlib.sha256(open(path, \"rb\").read()).hexdigest() == e[\"sha256\"]\n"
	"                print(\"ok \" if good else \"BAD\", path)'\n";

static int put_front(struct archive *a, const char *text, size_t len)
{
	char line[BLOB_HEX_SIZE + 32], hex[BLOB_HEX_SIZE];
	struct blob_id id;
	int rc = put_text(a, BUNDLE_README, readme, sizeof readme - 1);
	if (rc == 0)
		rc = put_text(a, BUNDLE_MANIFEST, text, len);
	for (size_t at = 0; rc == 0 && at < len; at += BUNDLE_PIECE)
		rc = blob_hasher_add(a->hasher, text + at, len - at < BUNDLE_PIECE ? len - at : BUNDLE_PIECE);
	if (rc == 0)
		rc = blob_hasher_finish(a->hasher, &id);
	if (rc < 0)
		return rc;
	blob_id_hex(&id, hex);
	snprintf(line, sizeof line, "%s  %s\n", hex, BUNDLE_MANIFEST);
	return put_text(a, BUNDLE_SUM, line, strlen(line));
}

static int put_all(struct archive *a, const char *text, size_t len)
{
	static const uint8_t end[2 * TAR_BLOCK];
	struct manifest_reader *m;
	enum manifest_item item;
	int rc = manifest_reader_new(text, len, &m);
	if (rc < 0)
		return rc;
	a->total = sum_up(m);
	rc = put_front(a, text, len);
	manifest_rewind(m);
	do {
		rc = rc < 0 ? rc : manifest_next(m, &item, a->f);
		if (rc == 0)
			rc = put_item(a, m, item);
	} while (rc == 0 && item != MANIFEST_END);
	manifest_reader_free(m);
	if (rc == 0)
		rc = put(a, end, sizeof end);
	return rc < 0 ? rc : flush(a);
}

static int write_archive(struct registry *r, const struct bundle_export *what, int fd, struct spool *manifest, struct bundle_totals *totals, struct fault *f)
{
	const char *text;
	struct archive *a = calloc(1, sizeof *a);
	if (!a)
		return -ENOMEM;
	*a = (struct archive){.r = r, .fd = fd, .totals = totals, .watcher = what->watcher, .f = f, .piece = malloc(BUNDLE_PIECE)};
	int rc = a->piece ? spool_map(manifest, &text) : -ENOMEM;
	if (rc == 0)
		rc = contents_new(&a->contents);
	if (rc == 0)
		rc = blob_hasher_new(&a->hasher);
	if (rc == 0)
		rc = put_all(a, text, manifest->len);
	totals->archive = a->written;
	contents_free(a->contents);
	blob_hasher_free(a->hasher);
	free(a->piece);
	free(a);
	return rc;
}

int bundle_export(struct registry *r, const struct bundle_export *what, int fd, struct bundle_totals *ret, struct fault *f)
{
	__attribute__((cleanup(spool_release))) struct spool manifest = SPOOL_INIT;
	struct bundle_totals totals = {0};
	struct fault own = FAULT_INIT;
	f = f ? f : &own;
	int rc = spool_open(&manifest);
	if (rc == 0)
		rc = write_manifest(r, what, &manifest, &totals, f);
	if (rc == 0 && totals.versions == 0)
		return fault_set(f, ENOENT, "there is no committed version to export");
	if (rc == 0 && manifest.len > MANIFEST_SIZE_MAX)
		return fault_set(f, EFBIG, "the manifest of so many files is larger than 1 GiB: export fewer models at once, or make a backup");
	if (rc == 0)
		rc = write_archive(r, what, fd, &manifest, &totals, f);
	if (rc < 0)
		return fault_default(f, -rc, "the bundle cannot be made: %s", strerror(-rc));
	*ret = totals;
	return 0;
}
