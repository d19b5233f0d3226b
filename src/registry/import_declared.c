/* What versions of an existing folder declare that they were made from.
 *
 * It is asked after all of the folder is in, since what a version was made from may come behind it. The metadata.json that is read is the one in the store, so that nothing which
 * changes in the folder meanwhile counts. Only a number names a version here: `latest` or an alias is not what it was when the training declared it.
 *
 * What is known of a version stands, so all this can be repeated; only what was declared and could not be found is looked for again. */
#include "import.h"
#include "lineage.h"

#include "commit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 256 /* versions of one transaction */

struct declaring {
	int64_t version_id;
	struct lineage lineage;
	char **found; /* texts that were unknown before; owned, as are they */
	size_t n_found;
};

struct batch {
	struct registry *r;
	const char *root;
	struct registry_ref ref;
	struct declaring v[BATCH];
	size_t n;
};

static void batch_reset(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++) {
		for (size_t k = 0; k < b->v[i].n_found; k++)
			free(b->v[i].found[k]);
		free(b->v[i].found);
		lineage_release(&b->v[i].lineage);
	}
	b->n = 0;
}

/* ---- reading ---- */

static int read_metadata(struct registry *r, int64_t version_id, struct catalog_version *ret_version, bool *ret_known, struct metadata *ret)
{
	struct catalog_file file;
	int fd = -1;
	struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_version_get(conn, version_id, ret_version);
	if (rc == 0)
		rc = catalog_lineage_known(conn, version_id, ret_known);
	if (rc == 0)
		rc = catalog_file_find(conn, -version_id, METADATA_NAME, &file);
	catalog_read_end(conn);
	if (rc == 0)
		rc = file.type == CATALOG_FILE ? registry_file_open(r, &file, &fd, NULL) : -ENOENT;
	if (rc < 0)
		return rc;
	rc = metadata_read(fd, ret, NULL);
	close(fd);
	return rc;
}

struct wanted { const struct metadata *md; struct declaring *to; };

/* Declared, and not found when it was looked for. */
static int take_unknown(const char *text, const char *reason, void *arg)
{
	struct wanted *w = arg;
	for (unsigned i = 0; i < w->md->n_inputs; i++) {
		if (strcmp(w->md->inputs[i], text) != 0)
			continue;
		char **grown = reallocarray(w->to->found, w->to->n_found + 1, sizeof *grown);
		char *copy = strdup(text);
		if (grown)
			w->to->found = grown;
		if (!grown || !copy) {
			free(copy);
			return -ENOMEM;
		}
		w->to->found[w->to->n_found++] = copy;
		return 0;
	}
	return 0;
}

/* Only what was unknown is looked for; what still is stays as it stands. */
static int look_again(struct batch *b, const struct catalog_version *v, const struct metadata *md, struct declaring *d)
{
	struct wanted w = {md, d};
	struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(b->r->catalog, &conn);
	if (rc == 0)
		rc = catalog_input_unknown_list(conn, v->id, take_unknown, &w);
	catalog_read_end(conn);
	for (size_t i = 0; rc == 0 && i < d->n_found;) {
		size_t before = d->lineage.n_unknown;
		rc = lineage_declared(b->r, v, d->found[i], b->root, &b->ref, &d->lineage);
		if (rc < 0 || d->lineage.n_unknown == before) {
			i++;
			continue;
		}
		free(d->found[i]);
		d->found[i] = d->found[--d->n_found];
	}
	return rc;
}

static int prepare(struct batch *b, int64_t version_id)
{
	struct declaring *d = &b->v[b->n];
	struct metadata md = {0};
	struct catalog_version v;
	bool known = false;
	int rc = read_metadata(b->r, version_id, &v, &known, &md);
	if (rc < 0)
		return rc == -ENOMEM ? rc : 0; /* it has none, or it is damaged, which is for fsck to say */
	*d = (struct declaring){.version_id = version_id};
	b->n++;
	if (known)
		rc = look_again(b, &v, &md, d);
	for (unsigned i = 0; rc == 0 && !known && i < md.n_inputs && i < LINEAGE_DECLARED_MAX; i++)
		rc = lineage_declared(b->r, &v, md.inputs[i], b->root, &b->ref, &d->lineage);
	if (known)
		lineage_forget_unknown(&d->lineage);
	metadata_release(&md);
	return rc;
}

/* ---- recording ---- */

static int batch_write(struct catalog_conn *conn, void *arg)
{
	const struct batch *b = arg;
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < b->n; i++) {
		for (size_t k = 0; rc == 0 && k < b->v[i].n_found; k++)
			rc = catalog_input_unknown_drop(conn, b->v[i].version_id, b->v[i].found[k]);
		if (rc == 0)
			rc = lineage_write(conn, b->v[i].version_id, &b->v[i].lineage);
	}
	return rc;
}

int registry_import_declared(struct registry_import *im, const int64_t *version_ids, size_t n, const char *root, struct fault *f)
{
	struct batch *b = calloc(1, sizeof *b);
	int rc = b ? 0 : -ENOMEM;
	if (b)
		*b = (struct batch){.r = registry_import_store(im), .root = root};
	for (size_t i = 0; rc == 0 && i < n; i++) {
		rc = prepare(b, version_ids[i]);
		if (rc == 0 && (b->n == BATCH || i == n - 1) && b->n > 0)
			rc = catalog_write(b->r->catalog, true, batch_write, b);
		if (b->n == BATCH || rc < 0)
			batch_reset(b);
	}
	if (b)
		batch_reset(b);
	free(b);
	return rc < 0 ? refuse_system(f, rc, "what the versions of the folder were made from cannot be recorded") : 0;
}
