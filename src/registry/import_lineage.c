/* What versions from elsewhere were made from, and what they were evaluated on.
 *
 * A manifest names another version by the path of its model, its number there, and the digest of its tree. Numbers may be other ones here, and the name may belong to something
 * else; so the digest decides, and the name only chooses among equals:
 *
 *   1. the version of that name in the bundle itself, under whatever number it came in, if it has that digest (or none was told)
 *   2. a version of this store with that digest: that of the same name first
 *   3. none: it is kept as a version elsewhere (catalog: elsewhere.c), and found as soon as one with the digest comes
 *
 * All that is in the transaction of the import, behind its versions, since one may be made from another that comes later in the manifest.
 *
 * A version that was here already keeps what is known of it; where nothing is known, the bundle's word is taken. Evaluations are added unless they are here, so that an
 * import can be repeated, and brings those that came since. That two versions are made from each other only a forged manifest tells; nothing that walks the graph is hurt
 * by it, since each visits a version once. */
#include "import.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- what became of the versions of the manifest ---- */

void import_map_reset(struct import_map *m)
{
	for (size_t i = 0; i < m->n_models; i++)
		free(m->models[i].path);
	m->n = m->n_models = 0;
}

void import_map_release(struct import_map *m)
{
	import_map_reset(m);
	free(m->models);
	free(m->v);
	*m = (struct import_map){0};
}

int import_map_add_model(struct import_map *m, const char *path)
{
	if (m->n_models == m->cap_models) {
		size_t cap = m->cap_models ? 2 * m->cap_models : 16;
		struct import_model *models = reallocarray(m->models, cap, sizeof *models);
		if (!models)
			return -ENOMEM;
		m->models = models;
		m->cap_models = cap;
	}
	char *own = strdup(path);
	if (!own)
		return -ENOMEM;
	m->models[m->n_models++] = (struct import_model){own, m->n};
	return 0;
}

int import_map_add(struct import_map *m, const struct import_version *v)
{
	if (m->n == m->cap) {
		size_t cap = m->cap ? 2 * m->cap : 64;
		struct import_version *grown = reallocarray(m->v, cap, sizeof *grown);
		if (!grown)
			return -ENOMEM;
		m->v = grown;
		m->cap = cap;
	}
	m->v[m->n++] = *v;
	return 0;
}

static int compare_models(const void *path, const void *model) { return strcmp(path, ((const struct import_model *)model)->path); }

static int compare_numbers(const void *number, const void *version)
{
	uint32_t a = *(const uint32_t *)number, b = ((const struct import_version *)version)->wanted;
	return (a > b) - (a < b);
}

static const struct import_version *map_find(const struct import_map *m, const char *path, uint32_t number)
{
	const struct import_model *model = m->n_models ? bsearch(path, m->models, m->n_models, sizeof *m->models, compare_models) : NULL;
	if (!model)
		return NULL;
	size_t end = model + 1 < m->models + m->n_models ? model[1].first : m->n;
	return end > model->first ? bsearch(&number, m->v + model->first, end - model->first, sizeof *m->v, compare_numbers) : NULL;
}

/* ---- rules ---- */

/* A version as the manifest names it. */
struct named { const char *model; int64_t number; const char *digest; };

static struct named named_of(const struct manifest_reader *m, enum manifest_item item)
{
	const struct manifest_input *i = manifest_input(m);
	const struct manifest_evaluation *e = manifest_evaluation(m);
	return item == MANIFEST_INPUT ? (struct named){i->model, i->number, i->digest} : (struct named){e->model, e->number, e->digest};
}

static int check_named(const struct named *n, struct layout_model *ret, const char *label, struct fault *f)
{
	struct fault why = FAULT_INIT;
	enum layout_kind kind;
	struct blob_id id;
	if (layout_classify(n->model, &kind, ret, &why) < 0 || kind != LAYOUT_MODEL)
		return refuse(f, VERDICT_NAME, "%s: '%.200s' in its lineage is no model%s%s", label, n->model, why.error ? ": " : "", why.error ? why.text : "");
	if (n->number < 1 || n->number > LAYOUT_NUMBER_MAX)
		return refuse(f, VERDICT_NUMBERS_OUT, "%s: there is no version number %" PRId64 " of %s, which is in its lineage", label, n->number, ret->path);
	if (n->digest && blob_id_parse(n->digest, &id) < 0)
		return refuse(f, VERDICT_NAME, "%s: '%.80s' in its lineage is no digest of v%" PRId64 " of %s", label, n->digest, n->number, ret->path);
	return 0;
}

static int check_evaluation(const struct manifest_evaluation *e, const struct layout_model *model, const struct layout_model *dataset, const char *label, struct fault *f)
{
	struct fault why = FAULT_INIT;
	auto_free char *compact = NULL;
	if (!layout_mode_typed(model->mode))
		return refuse(f, VERDICT_BAD_EVALUATION, "%s: it has evaluations, but is no version of a model", label);
	if (dataset->mode != LAYOUT_DATASET)
		return refuse(f, VERDICT_BAD_EVALUATION, "%s: it has an evaluation on %s, which is no dataset", label, dataset->path);
	if (e->at_ns < 0)
		return refuse(f, VERDICT_BAD_EVALUATION, "%s: an evaluation of it was made before 1970", label);
	int rc = evaluation_metrics_read(e->metrics, strlen(e->metrics), &compact, &why);
	return rc == -ENOMEM ? rc : rc < 0 ? refuse(f, VERDICT_BAD_METADATA, "%s: an evaluation of it on %s: %.300s", label, dataset->path, why.text) : 0;
}

int import_lineage_check(const struct manifest_reader *m, enum manifest_item item, const struct layout_model *model, const char *label, struct fault *f)
{
	if (item == MANIFEST_UNKNOWN) /* any text */
		return 0;
	auto_free struct layout_model *other = malloc(sizeof *other);
	struct named n = named_of(m, item);
	int rc = other ? check_named(&n, other, label, f) : -ENOMEM;
	if (rc == 0 && item == MANIFEST_EVALUATION)
		return check_evaluation(manifest_evaluation(m), model, other, label, f);
	if (rc == 0 && n.number == manifest_version(m)->number && !strcmp(other->path, model->path))
		return refuse(f, VERDICT_NAME, "%s: the manifest tells that it was made from itself", label);
	return rc;
}

/* ---- which version is it here? ---- */

struct recording {
	struct catalog_conn *conn;
	struct manifest_reader *m;
	const struct import_map *map;
	uid_t uid;
	struct import_version at; /* the version at hand */
	bool keep;                /* what it was made from is known already */
};

static int has_digest(struct catalog_conn *conn, int64_t version_id, const struct blob_id *digest, bool *ret)
{
	struct catalog_about a;
	int rc = catalog_about_get(conn, version_id, &a);
	*ret = rc == 0 && a.has_digest && blob_id_equal(&a.digest, digest);
	if (rc == 0)
		catalog_about_release(&a);
	return rc == -ENOENT ? 0 : rc;
}

/* *ret_id: of a version, or if *ret_elsewhere of a row of those elsewhere. */
static int bind_version(const struct recording *k, const struct named *n, bool dataset, int64_t *ret_id, bool *ret_elsewhere)
{
	struct catalog_elsewhere e = {.model = n->model, .number = (uint32_t)n->number, .has_digest = n->digest != NULL};
	const struct import_version *there = map_find(k->map, n->model, e.number);
	bool same = there && !n->digest;
	int rc = 0;
	if (n->digest && blob_id_parse(n->digest, &e.digest) < 0)
		return -EINVAL; /* the check has seen to it */
	if (there && n->digest)
		rc = has_digest(k->conn, there->id, &e.digest, &same);
	if (rc < 0)
		return rc;
	*ret_elsewhere = false;
	if (same && there->id != k->at.id) {
		*ret_id = there->id;
		return 0;
	}
	rc = n->digest ? catalog_version_find_digest(k->conn, &e, dataset, k->at.id, ret_id) : -ENOENT;
	if (rc != -ENOENT)
		return rc;
	*ret_elsewhere = true;
	return catalog_elsewhere_note(k->conn, &e, ret_id);
}

/* ---- record ---- */

static int begin_version(struct recording *k, const struct import_version *v)
{
	k->at = *v;
	k->keep = false;
	return v->already ? catalog_lineage_known(k->conn, v->id, &k->keep) : 0;
}

static int record_input(struct recording *k)
{
	const struct manifest_input *i = manifest_input(k->m);
	struct named n = named_of(k->m, MANIFEST_INPUT);
	bool elsewhere = false;
	int64_t id = 0;
	int rc = bind_version(k, &n, false, &id, &elsewhere);
	if (rc < 0)
		return rc;
	return elsewhere ? catalog_elsewhere_input_add(k->conn, k->at.id, id, (enum catalog_how)i->how) : catalog_input_add(k->conn, k->at.id, id, (enum catalog_how)i->how);
}

static int record_evaluation(struct recording *k)
{
	const struct manifest_evaluation *x = manifest_evaluation(k->m);
	struct named n = named_of(k->m, MANIFEST_EVALUATION);
	auto_free char *metrics = NULL;
	bool elsewhere = false;
	int64_t id = 0;
	int rc = evaluation_metrics_read(x->metrics, strlen(x->metrics), &metrics, NULL);
	if (rc == 0)
		rc = bind_version(k, &n, true, &id, &elsewhere);
	if (rc < 0)
		return rc;
	const struct catalog_evaluation e = {.version_id = k->at.id, .dataset_id = id, .at_ns = x->at_ns, .uid = k->uid, .author = x->author, .metrics = metrics};
	return elsewhere ? catalog_elsewhere_evaluation_add(k->conn, &e) : catalog_evaluation_add_once(k->conn, &e);
}

int import_lineage_record(struct catalog_conn *conn, struct manifest_reader *m, const struct import_map *map, uid_t uid, struct fault *f)
{
	struct recording k = {.conn = conn, .m = m, .map = map, .uid = uid};
	enum manifest_item item = MANIFEST_END;
	size_t i = 0;
	int rc;
	manifest_rewind(m);
	do {
		rc = manifest_next(m, &item, f);
		if (rc < 0)
			return rc;
		if (item == MANIFEST_VERSION)
			rc = i < map->n ? begin_version(&k, &map->v[i++]) : -EINVAL;
		else if (item == MANIFEST_INPUT && !k.keep)
			rc = record_input(&k);
		else if (item == MANIFEST_UNKNOWN && !k.keep)
			rc = catalog_input_unknown_add(conn, k.at.id, manifest_unknown(m)->text, manifest_unknown(m)->reason ? manifest_unknown(m)->reason : "");
		else if (item == MANIFEST_EVALUATION)
			rc = record_evaluation(&k);
	} while (rc == 0 && item != MANIFEST_END);
	return rc;
}

int import_lineage_join(struct catalog_conn *conn, const struct import_map *map)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < map->n; i++) {
		struct catalog_about a;
		if (map->v[i].already)
			continue;
		rc = catalog_about_get(conn, map->v[i].id, &a);
		if (rc < 0)
			return rc;
		if (a.has_digest)
			rc = catalog_elsewhere_join(conn, &a.digest);
		catalog_about_release(&a);
	}
	return rc;
}
