/* Lineage of a draft: what was observed (readers.c) and what its metadata.json declares, put together and recorded.
 *
 * A declared input that names no version is no reason to refuse a commit: the training is done, and what it read is known anyhow. It is kept with the
 * reason, and shown. */
#include "lineage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void lineage_forget_unknown(struct lineage *l)
{
	for (size_t i = 0; i < l->n_unknown; i++) {
		free(l->unknown[i].text);
		free(l->unknown[i].reason);
	}
	free(l->unknown);
	l->unknown = NULL;
	l->n_unknown = 0;
}

void lineage_release(struct lineage *l)
{
	lineage_forget_unknown(l);
	free(l->inputs);
	*l = (struct lineage){0};
}

int lineage_add(struct lineage *l, int64_t version_id, enum catalog_how how)
{
	for (size_t i = 0; i < l->n_inputs; i++)
		if (l->inputs[i].version_id == version_id) {
			l->inputs[i].how |= how;
			return 0;
		}
	if ((l->n_inputs & (l->n_inputs - 1)) == 0) {
		struct lineage_input *grown = realloc(l->inputs, (l->n_inputs ? 2 * l->n_inputs : 1) * sizeof *grown);
		if (!grown)
			return -ENOMEM;
		l->inputs = grown;
	}
	l->inputs[l->n_inputs++] = (struct lineage_input){version_id, how};
	return 0;
}

static int add_unknown(struct lineage *l, const char *text, const char *reason)
{
	if ((l->n_unknown & (l->n_unknown - 1)) == 0) {
		struct lineage_unknown *grown = realloc(l->unknown, (l->n_unknown ? 2 * l->n_unknown : 1) * sizeof *grown);
		if (!grown)
			return -ENOMEM;
		l->unknown = grown;
	}
	struct lineage_unknown u = {strdup(text), strdup(reason)};
	l->unknown[l->n_unknown++] = u;
	return u.text && u.reason ? 0 : -ENOMEM;
}

/* ---- declared ---- */

/* As people write it: a name, saved_models/…, or a path on this drive. */
static const char *without_root(const char *root, const char *text)
{
	size_t len = root ? strlen(root) : 0;
	return len && !strncmp(text, root, len) && text[len] == '/' ? text + len + 1 : text;
}

/* "v3" is a part of the text: it is not reached by another name. */
static bool names_number(const char *text, uint32_t number)
{
	char name[16];
	size_t len = (size_t)snprintf(name, sizeof name, "v%u", number);
	for (const char *part = text;; part++) {
		size_t n = strcspn(part, "/");
		if (n == len && !memcmp(part, name, n))
			return true;
		part += n;
		if (!*part)
			return false;
	}
}

int lineage_declared(struct registry *r, const struct catalog_version *v, const char *text, const char *root, struct registry_ref *ref, struct lineage *l)
{
	struct fault f = FAULT_INIT;
	int rc = registry_resolve(r, without_root(root ? root : r->mountpoint, text), ref, &f);
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0)
		return add_unknown(l, text, f.error ? f.text : strerror(-rc));
	if (!ref->has_version)
		return add_unknown(l, text, "it names a model, not a version of it");
	if (root && !names_number(text, ref->version.number))
		return add_unknown(l, text, "it names no version by its number, and may have led to another one then");
	if (ref->version.id == v->id)
		return add_unknown(l, text, "that is the version itself");
	if (ref->version.state == CATALOG_DRAFT || ref->version.state == CATALOG_DISCARDED) {
		char reason[64];
		snprintf(reason, sizeof reason, "it was %s when this was declared", ref->version.state == CATALOG_DRAFT ? "a draft" : "discarded");
		return add_unknown(l, text, reason);
	}
	return lineage_add(l, ref->version.id, CATALOG_DECLARED);
}

int lineage_prepare(struct registry *r, const struct catalog_version *v, const struct metadata *md, struct lineage *ret)
{
	struct lineage l = {0};
	auto_free struct registry_ref *ref = malloc(sizeof *ref);
	int rc = ref ? readers_collect(r, v, &l) : -ENOMEM;
	for (unsigned i = 0; rc == 0 && md && i < md->n_inputs && i < LINEAGE_DECLARED_MAX; i++)
		rc = lineage_declared(r, v, md->inputs[i], NULL, ref, &l);
	if (rc < 0) {
		lineage_release(&l);
		return rc;
	}
	*ret = l;
	return 0;
}

int lineage_write(struct catalog_conn *conn, int64_t version_id, const struct lineage *l)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < l->n_inputs; i++)
		rc = catalog_input_add(conn, version_id, l->inputs[i].version_id, l->inputs[i].how);
	for (size_t i = 0; rc == 0 && i < l->n_unknown; i++)
		rc = catalog_input_unknown_add(conn, version_id, l->unknown[i].text, l->unknown[i].reason);
	return rc;
}

/* ---- names ---- */

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static int name_of(struct catalog_conn *conn, int64_t version_id, struct catalog_model *m, char **ret)
{
	struct catalog_version v;
	int rc = catalog_version_get(conn, version_id, &v);
	if (rc == 0)
		rc = catalog_model_get(conn, v.model_id, m);
	return rc == 0 && asprintf(ret, "%s/v%u", m->path, v.number) < 0 ? -ENOMEM : rc;
}

int lineage_names(struct registry *r, const struct lineage *l, char ***ret_names, unsigned *ret_n)
{
	auto_free struct catalog_model *m = malloc(sizeof *m);
	char **names = calloc(l->n_inputs + 1, sizeof *names);
	auto_read struct catalog_conn *conn = NULL;
	int rc = m && names ? catalog_read_begin(r->catalog, &conn) : -ENOMEM;
	unsigned n = 0;
	while (rc == 0 && n < l->n_inputs && (rc = name_of(conn, l->inputs[n].version_id, m, &names[n])) == 0)
		n++;
	if (rc < 0) {
		while (n > 0)
			free(names[--n]);
		free(names);
		return rc;
	}
	qsort(names, n, sizeof *names, compare_names);
	*ret_names = names;
	*ret_n = n;
	return 0;
}

/* ---- what was never committed ---- */

struct keep_job { int64_t version_id; const struct lineage *lineage; const struct metadata *md; };

static int keep_write(struct catalog_conn *conn, void *arg)
{
	struct keep_job *j = arg;
	const struct metadata *md = j->md;
	struct catalog_about a = {.description = md->description, .maintainer = md->maintainer, .source = md->source, .labels = md->labels, .params = md->params,
		.scores = md->metrics_summary};
	int rc = lineage_write(conn, j->version_id, j->lineage);
	return rc < 0 ? rc : catalog_about_set(conn, j->version_id, &a);
}

void lineage_keep(struct registry *r, const struct catalog_version *v, struct draft *d)
{
	struct metadata md = {0};
	struct lineage l = {0};
	struct keep_job j = {v->id, &l, &md};
	auto_close int fd = sys_openat_beneath(draft_root(d), "metadata.json", O_RDONLY | O_NONBLOCK, 0);
	if (fd >= 0)
		metadata_read(fd, &md, NULL); /* whatever is wrong with it: it is not to be committed */
	int rc = lineage_prepare(r, v, &md, &l);
	if (rc == 0)
		rc = catalog_write(r->catalog, false, keep_write, &j);
	if (rc < 0)
		log_warning(r->log, "what draft %lld was made from cannot be recorded: %s", (long long)v->id, strerror(-rc));
	lineage_release(&l);
	metadata_release(&md);
}
