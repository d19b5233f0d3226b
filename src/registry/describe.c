/* What users and programs read of versions: extended attributes, versions.json, contents, and references as people write them. */
#include "registry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- user.mintfs.* ---- */

static int emit(registry_attr_fn *fn, void *arg, const char *name, const char *value) { return value && value[0] ? fn(name, value, arg) : 0; }

static int emit_number(registry_attr_fn *fn, void *arg, const char *name, uint64_t value)
{
	char text[24];
	snprintf(text, sizeof text, "%" PRIu64, value);
	return fn(name, text, arg);
}

static int emit_run(struct catalog_conn *conn, int64_t run_id, registry_attr_fn *fn, void *arg)
{
	struct catalog_run run;
	char text[CATALOG_NAME_MAX + 32];
	if (catalog_run_get(conn, run_id, &run) < 0)
		return 0;
	if (run.key)
		text_copy(text, sizeof text, run.key);
	else
		snprintf(text, sizeof text, "%s:%s", run.host ? run.host : "", run.chain && run.chain[0] ? run.chain : "unseen");
	char *chain_end = run.key ? NULL : strchr(text, ' ');
	if (chain_end) /* the minting process is name enough */
		*chain_end = '\0';
	catalog_run_release(&run);
	return emit(fn, arg, "run", text);
}

#define DIGEST_FILES_MAX 256 /* of an old version: its digest is computed at each question */

static int emit_digest(struct registry *r, struct catalog_conn *conn, const struct catalog_version *v, registry_attr_fn *fn, void *arg)
{
	struct catalog_about a = {0};
	struct blob_id digest;
	char hex[BLOB_HEX_SIZE];
	bool recorded = catalog_about_get(conn, v->id, &a) == 0 && a.has_digest;
	catalog_about_release(&a);
	if ((!recorded && v->n_files > DIGEST_FILES_MAX) || registry_version_digest(r, conn, v, &digest) < 0)
		return 0;
	blob_id_hex(&digest, hex);
	return fn("digest", hex, arg);
}

static int emit_version(struct registry *r, struct catalog_conn *conn, const struct catalog_version *v, const struct catalog_version_text *text, const struct catalog_file *file,
	registry_attr_fn *fn, void *arg)
{
	char number[16], created[TIME_TEXT_MAX], hex[BLOB_HEX_SIZE];
	snprintf(number, sizeof number, "v%u", v->number);
	time_utc_text(v->state == CATALOG_DRAFT ? v->minted_ns : v->committed_ns, created);
	int rc = fn("version", number, arg);
	if (rc == 0)
		rc = fn("state", catalog_state_name(v->state), arg);
	if (rc == 0 && file && file->type == CATALOG_FILE) {
		blob_id_hex(&file->blob, hex);
		rc = fn("sha256", hex, arg);
	}
	if (rc == 0 && v->state != CATALOG_DRAFT)
		rc = emit_number(fn, arg, "size", file ? file->size : v->size);
	if (rc == 0 && !file)
		rc = emit_digest(r, conn, v, fn, arg);
	if (rc == 0)
		rc = emit_run(conn, v->run_id, fn, arg);
	if (rc == 0)
		rc = fn("created", created, arg);
	if (rc == 0)
		rc = emit(fn, arg, "message", text->message);
	if (rc == 0 && v->state == CATALOG_DRAFT)
		rc = emit(fn, arg, "error", text->reason);
	return rc;
}

int registry_version_attrs(struct registry *r, int64_t version_id, const struct catalog_file *file, registry_attr_fn *fn, void *arg)
{
	struct catalog_version v;
	struct catalog_version_text text = {0};
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_version_get(conn, version_id, &v);
	if (rc == 0)
		rc = catalog_version_text(conn, version_id, &text);
	if (rc != 0)
		return rc;
	rc = emit_version(r, conn, &v, &text, file, fn, arg);
	catalog_version_text_release(&text);
	return rc;
}

/* ---- contents ---- */

/* For who is still in it, by a working directory say. */
static bool is_retired(struct registry *r, int64_t version_id)
{
	struct catalog_version v;
	auto_read struct catalog_conn *conn = NULL;
	return catalog_read_begin(r->catalog, &conn) == 0 && catalog_version_get(conn, version_id, &v) == 0 && v.state == CATALOG_RETIRED;
}

int registry_file_open(struct registry *r, const struct catalog_file *file, int *ret_fd, struct fault *f)
{
	char hex[BLOB_HEX_SIZE];
	auto_close int fd = blob_open(r->blobs, &file->blob);
	struct stat st;
	struct fault own = FAULT_INIT;
	f = f ? f : &own;
	blob_id_hex(&file->blob, hex);
	int rc = fd < 0 ? fd : sys_fstat(fd, &st);
	if (rc == -ENOENT && is_retired(r, file->version_id))
		return refuse(f, VERDICT_RETIRED, "%s: its version was retired, and what it held (blob %s) is freed", file->name, hex);
	if (rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP) /* the latter: something else stands at its place */
		rc = refuse(f, VERDICT_DAMAGED, "%s: its content (blob %s) is missing from the store", file->name, hex);
	else if (rc >= 0 && (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != file->size))
		rc = refuse(f, VERDICT_DAMAGED, "%s: its content (blob %s) is damaged: %lld bytes instead of %" PRIu64, file->name, hex, (long long)st.st_size, file->size);
	if (rc < 0) {
		refuse_system(f, rc, "%s: its content (blob %s) cannot be opened", file->name, hex);
		log_error(r->log, "version %lld: %s", (long long)file->version_id, f->text);
		return rc;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

/* ---- versions.json ---- */

struct json_job { struct buf *out; bool first; };

static int add_number(const char *key, uint32_t number, void *arg)
{
	struct json_job *j = arg;
	int rc = metadata_versions_add(j->out, key, number, j->first);
	j->first = false;
	return rc;
}

int registry_versions_json(struct registry *r, struct buf *out, int64_t *ret_stamp)
{
	struct buf text = BUF_INIT(out->max);
	struct json_job j = {&text, true};
	int64_t stamp = 0;
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_numbers_stamp(conn, &stamp);
	if (rc == 0)
		rc = metadata_versions_begin(&text);
	if (rc == 0)
		rc = catalog_model_numbers(conn, add_number, &j);
	if (rc == 0)
		rc = metadata_versions_end(&text);
	if (rc < 0) {
		buf_release(&text);
		return rc;
	}
	buf_release(out);
	*out = text;
	*ret_stamp = stamp;
	return 0;
}

int registry_versions_stamp(struct registry *r, int64_t *ret_stamp)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	return rc < 0 ? rc : catalog_numbers_stamp(conn, ret_stamp);
}

/* ---- references ---- */

static int find_model(struct catalog_conn *conn, const char *text, struct registry_ref *ref, char *child, struct fault *f)
{
	struct layout_ref l;
	struct fault why = FAULT_INIT;
	int rc = layout_parse(text, &l, &why);
	if (rc == 0) {
		text_copy(child, LAYOUT_NAME_MAX + 1, l.child);
		text_copy(ref->rest, sizeof ref->rest, l.rest);
		rc = catalog_model_find(conn, l.model.path, &ref->model);
		return rc == -ENOENT ? refuse(f, VERDICT_NOT_FOUND, "there is no model %s in this store", l.model.path) : rc;
	}
	/* a key, perhaps with a child and a path behind: product_P001_all_mlstm/v2/model.pth */
	char key[CATALOG_PATH_MAX];
	size_t len = strcspn(text, "/");
	if (len == 0 || len >= sizeof key)
		return refuse(f, VERDICT_NAME, "%s", why.error ? why.text : "a model is named by its path or its key");
	memcpy(key, text, len);
	key[len] = '\0';
	rc = catalog_model_find_key(conn, key, &ref->model);
	if (rc == -ENOENT && strchr(text, '/') && why.error)
		return refuse(f, VERDICT_NAME, "%s", why.text);
	if (rc == -ENOENT)
		return refuse(f, VERDICT_NOT_FOUND, "there is no model %s in this store", key);
	if (rc < 0)
		return rc;
	const char *rest = text + len + strspn(text + len, "/");
	size_t clen = strcspn(rest, "/");
	if (clen > LAYOUT_NAME_MAX)
		return refuse(f, VERDICT_NAME, "the name of the version is too long");
	memcpy(child, rest, clen);
	child[clen] = '\0';
	rest += clen;
	return text_copy(ref->rest, sizeof ref->rest, rest + strspn(rest, "/"));
}

static int find_number(struct catalog_conn *conn, const struct catalog_model *m, const char *child, uint32_t *ret, struct fault *f)
{
	struct catalog_alias a;
	int rc = -ENOENT;
	switch (layout_classify_child(child, ret)) {
	case LAYOUT_CHILD_VERSION:
		return 0;
	case LAYOUT_CHILD_LATEST:
		*ret = m->newest_committed;
		return *ret ? 0 : refuse(f, VERDICT_NOT_FOUND, "%s has no committed version yet", m->path);
	case LAYOUT_CHILD_BEST:
		rc = catalog_best(conn, m->id, ret);
		return rc == -ENOENT ? refuse(f, VERDICT_NOT_FOUND, "%s has no best version: none of its versions carries the metric that decides", m->path) : rc;
	case LAYOUT_CHILD_ALIAS:
		rc = catalog_alias_find(conn, m->id, child, &a);
		if (rc == 0)
			*ret = a.number;
		break;
	case LAYOUT_CHILD_NEXT:
	case LAYOUT_CHILD_INVALID:
		break;
	}
	return rc == -ENOENT ? refuse(f, VERDICT_NOT_FOUND, "%s has no version or alias '%s'", m->path, child) : rc;
}

int registry_resolve(struct registry *r, const char *text, struct registry_ref *ret, struct fault *f)
{
	struct registry_ref ref = {0};
	char child[LAYOUT_NAME_MAX + 1] = "";
	uint32_t number;
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = find_model(conn, text, &ref, child, f);
	if (rc == 0 && child[0]) {
		rc = find_number(conn, &ref.model, child, &number, f);
		if (rc == 0 && (rc = catalog_version_find(conn, ref.model.id, number, &ref.version)) == -ENOENT)
			refuse(f, VERDICT_NOT_FOUND, "%s has no version v%u", ref.model.path, number);
		ref.has_version = rc == 0;
	}
	if (rc < 0)
		return refuse_system(f, rc, "cannot find %s", text);
	*ret = ref;
	return 0;
}

/* ---- drafts, for status ---- */

static bool recorded_run_alive(struct registry *r, int64_t run_id)
{
	struct caller_process chain[1 + CALLER_ANCESTORS_MAX];
	struct catalog_run run;
	bool alive = false;
	auto_read struct catalog_conn *conn = NULL;
	if (catalog_read_begin(r->catalog, &conn) < 0 || catalog_run_get(conn, run_id, &run) < 0)
		return false;
	if (run.ended_ns == 0 && run.boot_id && !strcmp(run.boot_id, r->boot_id)) { /* an end on record stands until somebody of the run comes back */
		unsigned n = run_chain_parse(run.chain ? run.chain : "", chain, ARRAY_SIZE(chain));
		for (unsigned i = 0; i < n && !alive; i++)
			alive = caller_alive(chain[i]);
	}
	catalog_run_release(&run);
	return alive;
}

int registry_draft_info(struct registry *r, const struct catalog_version *v, struct registry_draft_info *ret)
{
	struct registry_draft_info info = {0};
	bool has_model;
	auto_live struct live *l = live_find(r->live, v->id);
	auto_draft struct draft *d = NULL;
	int rc = draft_get(r->drafts, v->id, &d);
	if (rc == 0)
		rc = draft_usage(d, &info.files, &info.bytes, &has_model);
	if (rc < 0)
		return rc;
	info.run_alive = l && r->serve ? live_run_alive(l) : recorded_run_alive(r, v->run_id);
	info.open_files = l ? draft_open_files(d) : 0;
	*ret = info;
	return 0;
}
