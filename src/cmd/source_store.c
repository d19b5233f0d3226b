/* Reading from the store: the registry and its catalog. Drafts are looked at before a snapshot is taken, since that walks their trees. */
#include "source.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int store_resolve(struct source *s, const char *text, struct source_ref *ret, struct fault *f)
{
	auto_free struct registry_ref *ref = calloc(1, sizeof *ref);
	int rc = ref ? registry_resolve(s->r, text, ref, f) : -ENOMEM;
	if (rc < 0)
		return rc;
	*ret = (struct source_ref){.has_version = ref->has_version, .model_id = ref->model.id};
	text_copy(ret->model, sizeof ret->model, ref->model.path);
	text_copy(ret->rest, sizeof ret->rest, ref->rest);
	if (ref->has_version) {
		ret->number = ref->version.number;
		ret->state = ref->version.state;
		ret->version_id = ref->version.id;
	}
	return 0;
}

/* ---- links ---- */

static int add_alias(const struct catalog_alias *a, void *arg)
{
	struct link link = {.number = a->number, .set_ns = a->set_ns, .uid = a->uid};
	text_copy(link.name, sizeof link.name, a->name);
	return links_add(arg, &link);
}

int store_links(struct source *s, const struct source_ref *model, struct links *ret)
{
	struct link latest = {.name = "latest"}, best = {.name = "best"};
	auto_free struct catalog_model *m = calloc(1, sizeof *m);
	auto_read struct catalog_conn *conn = NULL;
	int rc = m ? registry_read_begin(s->r, &conn) : -ENOMEM;
	if (rc == 0)
		rc = catalog_model_get(conn, model->model_id, m);
	if (rc == 0 && (latest.number = m->newest_committed))
		rc = links_add(ret, &latest);
	if (rc == 0 && catalog_best(conn, model->model_id, &best.number) == 0)
		rc = links_add(ret, &best);
	return rc < 0 ? rc : catalog_alias_list(conn, model->model_id, 0, add_alias, ret);
}

/* ---- versions ---- */

struct usage { int64_t id; uint64_t bytes, files; };
struct listing {
	struct source *s;
	struct catalog_conn *conn; /* while it lists */
	const struct source_query *q;
	source_version_fn *fn;
	void *arg;
	struct usage *drafts; /* in falling order of number, as they are listed */
	size_t n_drafts, next;
	uint32_t given;
};

static int note_draft(const struct catalog_version *v, const struct catalog_version_text *text, void *arg)
{
	struct listing *l = arg;
	struct usage *drafts = realloc(l->drafts, (l->n_drafts + 1) * sizeof *drafts);
	if (!drafts)
		return -ENOMEM;
	l->drafts = drafts;
	l->drafts[l->n_drafts++] = (struct usage){.id = v->id};
	return l->q->limit && l->n_drafts >= l->q->limit;
}

char *run_name(const struct catalog_run *run)
{
	char text[CATALOG_NAME_MAX + 32];
	if (run->key)
		return strdup(run->key);
	snprintf(text, sizeof text, "%s:%.*s", run->host ? run->host : "", run->chain && *run->chain ? (int)strcspn(run->chain, " ") : 6,
		run->chain && *run->chain ? run->chain : "unseen");
	return strdup(text);
}

static char *name_run(struct catalog_conn *conn, int64_t run_id)
{
	struct catalog_run run;
	if (catalog_run_get(conn, run_id, &run) < 0)
		return NULL;
	char *name = run_name(&run);
	catalog_run_release(&run);
	return name;
}

static int give(const struct catalog_version *v, const struct catalog_version_text *text, void *arg)
{
	struct listing *l = arg;
	struct version_info info = {.v = *v, .sized = v->state != CATALOG_DRAFT};
	if (text)
		info.text = *text;
	while (l->next < l->n_drafts && l->drafts[l->next].id != v->id && v->state == CATALOG_DRAFT)
		l->next++;
	if (v->state == CATALOG_DRAFT && l->next < l->n_drafts && l->drafts[l->next].files != UINT64_MAX) {
		info.v.size = l->drafts[l->next].bytes;
		info.v.n_files = (uint32_t)l->drafts[l->next].files;
		info.sized = true;
	}
	info.run = l->q->runs ? name_run(l->conn, v->run_id) : NULL;
	int rc = l->fn(&info, l->arg);
	free(info.run);
	return rc ? rc : ++l->given == l->q->limit;
}

static void measure_drafts(struct listing *l)
{
	for (size_t i = 0; i < l->n_drafts; i++) {
		struct registry_draft_info info;
		struct catalog_version v = {.id = l->drafts[i].id};
		if (registry_draft_info(l->s->r, &v, &info) == 0)
			l->drafts[i] = (struct usage){v.id, info.bytes, info.files};
		else
			l->drafts[i].files = UINT64_MAX;
	}
}

int store_versions(struct source *s, const struct source_ref *model, const struct source_query *q, source_version_fn *fn, void *arg)
{
	struct listing l = {.s = s, .q = q, .fn = fn, .arg = arg};
	struct catalog_conn *conn = NULL;
	int rc = 0;
	if (q->states & 1u << CATALOG_DRAFT && !q->brief) {
		struct catalog_version_list drafts = {.model_id = model->model_id, .states = 1u << CATALOG_DRAFT, .descending = true};
		rc = registry_read_begin(s->r, &conn);
		if (rc == 0)
			rc = catalog_version_list(conn, &drafts, note_draft, &l);
		catalog_read_end(conn);
		conn = NULL;
		measure_drafts(&l);
	}
	if (rc >= 0)
		rc = registry_read_begin(s->r, &conn);
	if (rc >= 0) {
		struct catalog_version_list all = {.model_id = model->model_id, .states = q->states, .descending = true, .with_text = !q->brief};
		l.conn = conn;
		rc = catalog_version_list(conn, &all, give, &l);
	}
	catalog_read_end(conn);
	free(l.drafts);
	return rc < 0 ? rc : 0;
}

static void look_into_draft(struct source *s, const struct source_ref *version, struct version_info *info)
{
	struct registry_draft_info usage;
	char dir[64];
	auto_close int fd = -1;
	if (registry_draft_info(s->r, &info->v, &usage) == 0) {
		info->v.size = usage.bytes;
		info->v.n_files = (uint32_t)usage.files;
		info->sized = true;
	}
	if (!info->text.metrics_summary && source_tree(s, version, dir, sizeof dir, &fd, NULL) == 0)
		info->text.metrics_summary = metrics_of_tree(dir);
}

int store_version(struct source *s, const struct source_ref *version, source_version_fn *fn, void *arg)
{
	struct version_info info = {.sized = true};
	struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(s->r, &conn);
	if (rc == 0)
		rc = catalog_version_get(conn, version->version_id, &info.v);
	if (rc == 0)
		rc = catalog_version_text(conn, version->version_id, &info.text);
	if (rc == 0)
		info.run = name_run(conn, info.v.run_id);
	catalog_read_end(conn);
	if (rc == 0 && info.v.state == CATALOG_DRAFT) {
		info.sized = false;
		look_into_draft(s, version, &info);
	}
	if (rc == 0)
		rc = fn(&info, arg);
	catalog_version_text_release(&info.text);
	free(info.run);
	return rc < 0 ? rc : 0;
}

/* ---- models ---- */

static int count_version(const struct catalog_version *v, const struct catalog_version_text *text, void *arg)
{
	struct model_info *m = arg;
	int64_t at = v->committed_ns > v->minted_ns ? v->committed_ns : v->minted_ns;
	if (v->state == CATALOG_DRAFT)
		m->n_drafts++;
	else
		m->n_versions++;
	if (v->state == CATALOG_COMMITTED)
		m->size += v->size;
	if (at > m->changed_ns)
		m->changed_ns = at;
	return 0;
}

static int fill_model(struct catalog_conn *conn, const struct catalog_model *from, struct model_info *m)
{
	*m = (struct model_info){.newest = from->newest_committed, .best_mode = from->best_mode};
	text_copy(m->path, sizeof m->path, from->path);
	text_copy(m->key, sizeof m->key, from->key);
	text_copy(m->best_metric, sizeof m->best_metric, from->best_metric);
	if (catalog_best(conn, from->id, &m->best) < 0)
		m->best = 0;
	struct catalog_version_list q = {.model_id = from->id, .states = 1u << CATALOG_DRAFT | 1u << CATALOG_COMMITTED | 1u << CATALOG_RETIRED};
	return catalog_version_list(conn, &q, count_version, m);
}

struct models { struct catalog_conn *conn; const char *prefix; source_model_fn *fn; void *arg; struct model_info *m; };

static int give_model(const struct catalog_model *from, void *arg)
{
	struct models *all = arg;
	if (strncmp(from->path, all->prefix, strlen(all->prefix)) != 0)
		return 0;
	int rc = fill_model(all->conn, from, all->m);
	return rc < 0 ? rc : all->fn(all->m, all->arg);
}

int store_models(struct source *s, const char *prefix, source_model_fn *fn, void *arg)
{
	auto_free struct model_info *m = calloc(1, sizeof *m);
	auto_read struct catalog_conn *conn = NULL;
	int rc = m ? registry_read_begin(s->r, &conn) : -ENOMEM;
	struct models all = {conn, prefix, fn, arg, m};
	if (rc == 0)
		rc = catalog_model_list(conn, give_model, &all);
	return rc < 0 ? rc : 0;
}

int store_model(struct source *s, const struct source_ref *model, struct model_info *ret)
{
	auto_free struct catalog_model *m = calloc(1, sizeof *m);
	auto_read struct catalog_conn *conn = NULL;
	int rc = m ? registry_read_begin(s->r, &conn) : -ENOMEM;
	if (rc == 0)
		rc = catalog_model_get(conn, model->model_id, m);
	return rc < 0 ? rc : fill_model(conn, m, ret);
}

/* ---- files ---- */

struct file_job { struct catalog_conn *conn; struct files *files; };

static int add_file(const char *path, const struct catalog_file *file, void *arg)
{
	struct file_job *j = arg;
	char *own_path = strdup(path);
	char target[4096];
	struct file_info info = {.path = own_path, .type = file->type, .size = file->type == CATALOG_DIRECTORY ? 0 : file->size, .mode = file->mode};
	if (!own_path)
		return -ENOMEM;
	if (file->type == CATALOG_FILE) {
		struct catalog_blob blob = {0};
		blob_id_hex(&file->blob, info.sha256);
		info.damaged = catalog_blob_find(j->conn, &file->blob, &blob) == 0 && blob.absence == CATALOG_DAMAGED;
	}
	if (file->type == CATALOG_SYMLINK && catalog_file_target(j->conn, file->id, target, sizeof target) == 0)
		info.target = target;
	int rc = files_add(j->files, &info);
	free(own_path);
	return rc;
}

int store_files(struct source *s, const struct source_ref *version, struct files *ret)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(s->r, &conn);
	struct file_job j = {conn, ret};
	return rc < 0 ? rc : catalog_file_list(conn, version->version_id, add_file, &j);
}

int store_file(struct catalog_conn *conn, int64_t version_id, const char *path, struct catalog_file *ret)
{
	struct catalog_file file = {.id = -version_id};
	char name[CATALOG_NAME_MAX];
	int rc = 0;
	while (rc == 0 && *path) {
		size_t len = strcspn(path, "/");
		if (len >= sizeof name)
			return -ENOENT;
		memcpy(name, path, len);
		name[len] = '\0';
		rc = catalog_file_find(conn, file.id, name, &file);
		path += len + (path[len] == '/');
	}
	if (rc == 0)
		*ret = file;
	return rc;
}
