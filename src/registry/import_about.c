/* What a version from elsewhere tells of itself: the same as if it had been committed here (about.c), from the metadata.json that came with it. */
#include "import.h"

#include "commit.h"
#include "digest.h"

#include <errno.h>
#include <string.h>

static const struct catalog_entry *find_metadata(const struct import_tree *t, size_t *ret_index)
{
	for (size_t i = 0; i < t->n_top; i++)
		if (t->entries[i].type == CATALOG_FILE && !strcmp(t->paths[i], METADATA_NAME)) {
			*ret_index = i;
			return &t->entries[i];
		}
	return NULL;
}

static int digest_tree(const struct import_tree *t, int64_t skip, struct blob_id *ret)
{
	static const char types[] = {[CATALOG_FILE] = 'f', [CATALOG_DIRECTORY] = 'd', [CATALOG_SYMLINK] = 'l'};
	auto_free struct digest_entry *entries = calloc(t->n ? t->n : 1, sizeof *entries);
	size_t n = 0;
	if (!entries)
		return -ENOMEM;
	for (size_t i = 0; i < t->n; i++) {
		const struct catalog_entry *e = &t->entries[i];
		if ((int64_t)i != skip)
			entries[n++] = (struct digest_entry){.path = t->paths[i], .target = e->target, .type = types[e->type], .mode = e->mode, .size = e->size, .blob = e->blob};
	}
	return digest_of(entries, n, ret);
}

int import_about(struct catalog_conn *conn, struct registry *r, const struct import_tree *t, int64_t version_id, const struct metadata *metrics)
{
	struct commit_work w = {.r = r, .v = {.id = version_id}};
	struct metadata md = {0};
	size_t at = 0;
	const struct catalog_entry *e = find_metadata(t, &at);
	auto_close int fd = e ? blob_open(r->blobs, &e->blob) : -ENOENT;
	int rc = fd >= 0 ? metadata_read(fd, &md, NULL) : e ? fd : 0;
	if (rc < 0) /* that it is none was refused before; unread it must not pass, or the version would get the digest of another */
		return rc;
	rc = digest_tree(t, e && md.generated ? (int64_t)at : -1, &w.digest);
	w.metadata = md; /* with the metrics that were recorded, which need not be those of the file */
	w.metadata.metrics = metrics->metrics;
	w.metadata.n_metrics = metrics->n_metrics;
	if (rc == 0)
		rc = about_write(conn, &w);
	metadata_release(&md);
	return rc;
}
