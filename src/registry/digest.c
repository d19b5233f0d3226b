/* The digest of a version: one SHA-256 over its whole tree, the same wherever the same tree is made. docs/SPEC.md defines it, tests/mount/test_digest.py has it in
 * ten lines of Python.
 *
 * A metadata.json that MintFS wrote is left out, since it tells of the run: two runs that write the same files have made the same tree. */
#include "digest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGEST_HEAD "mintfs tree 1\n"

static int by_path(const void *a, const void *b)
{
	const struct digest_entry *x = a, *y = b;
	return strcmp(x->path, y->path); /* as bytes */
}

static int hash_target(struct blob_hasher *h, const char *target, struct blob_id *ret)
{
	int rc = blob_hasher_add(h, target, strlen(target));
	return rc < 0 ? rc : blob_hasher_finish(h, ret);
}

static int add_entry(struct blob_hasher *h, const struct digest_entry *e, const struct blob_id *content)
{
	char head[128], hex[BLOB_HEX_SIZE] = "-";
	if (e->type != 'd')
		blob_id_hex(content, hex);
	int n = snprintf(head, sizeof head, "%c %c %" PRIu64 " %s ", e->type, e->type == 'f' && e->mode & 0100 ? 'x' : '-', e->type == 'd' ? 0 : e->size, hex);
	int rc = blob_hasher_add(h, head, (size_t)n);
	return rc < 0 ? rc : blob_hasher_add(h, e->path, strlen(e->path) + 1);
}

int digest_of(struct digest_entry *entries, size_t n, struct blob_id *ret)
{
	struct blob_hasher *h = NULL, *link = NULL;
	int rc = blob_hasher_new(&h);
	if (rc == 0)
		rc = blob_hasher_new(&link);
	if (rc == 0)
		rc = blob_hasher_add(h, DIGEST_HEAD, sizeof DIGEST_HEAD - 1);
	if (n)
		qsort(entries, n, sizeof *entries, by_path);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		struct digest_entry *e = &entries[i];
		struct blob_id content = e->blob;
		if (e->type == 'l') {
			e->size = strlen(e->target);
			rc = hash_target(link, e->target, &content);
		}
		if (rc == 0)
			rc = add_entry(h, e, &content);
	}
	if (rc == 0)
		rc = blob_hasher_finish(h, ret);
	blob_hasher_free(link);
	blob_hasher_free(h);
	return rc;
}

int digest_of_tree(const struct draft_tree *t, int64_t skip, struct blob_id *ret)
{
	static const char types[] = {[DRAFT_FILE] = 'f', [DRAFT_DIRECTORY] = 'd', [DRAFT_SYMLINK] = 'l'};
	auto_free struct digest_entry *entries = calloc(t->n ? t->n : 1, sizeof *entries);
	size_t n = 0;
	if (!entries)
		return -ENOMEM;
	for (size_t i = 0; i < t->n; i++) {
		const struct draft_entry *e = &t->entries[i];
		if ((int64_t)i != skip)
			entries[n++] = (struct digest_entry){.path = e->path, .target = e->target, .type = types[e->type], .mode = e->mode, .size = e->size, .blob = e->blob};
	}
	return digest_of(entries, n, ret);
}

/* ---- of a committed version, from the catalog ---- */

struct listing { struct registry *r; struct catalog_conn *conn; struct digest_entry *entries; size_t n; };

static bool is_generated(struct registry *r, const struct catalog_file *file)
{
	char head[METADATA_GENERATED_SIZE];
	int fd = -1;
	if (registry_file_open(r, file, &fd, NULL) < 0)
		return false;
	ssize_t len = sys_pread_full(fd, head, sizeof head, 0);
	close(fd);
	return len > 0 && metadata_is_generated(head, (size_t)len);
}

static int add_file(const char *path, const struct catalog_file *file, void *arg)
{
	struct listing *l = arg;
	char target[4096];
	if (file->type == CATALOG_FILE && file->parent < 0 && !strcmp(path, "metadata.json") && is_generated(l->r, file))
		return 0;
	if ((l->n & (l->n - 1)) == 0) {
		struct digest_entry *grown = realloc(l->entries, (l->n ? 2 * l->n : 1) * sizeof *grown);
		if (!grown)
			return -ENOMEM;
		l->entries = grown;
	}
	struct digest_entry e = {.type = file->type == CATALOG_FILE ? 'f' : file->type == CATALOG_DIRECTORY ? 'd' : 'l', .mode = file->mode, .size = file->size,
		.blob = file->blob};
	int rc = e.type == 'l' ? catalog_file_target(l->conn, file->id, target, sizeof target) : 0;
	if (rc < 0)
		return rc;
	char *own_path = strdup(path), *own_target = e.type == 'l' ? strdup(target) : NULL;
	e.path = own_path;
	e.target = own_target;
	l->entries[l->n++] = e;
	return own_path && (own_target || e.type != 'l') ? 0 : -ENOMEM;
}

static int compute(struct registry *r, struct catalog_conn *conn, int64_t version_id, struct blob_id *ret)
{
	struct listing l = {.r = r, .conn = conn};
	int rc = catalog_file_list(conn, version_id, add_file, &l);
	if (rc == 0)
		rc = digest_of(l.entries, l.n, ret);
	for (size_t i = 0; i < l.n; i++) {
		free((char *)(uintptr_t)l.entries[i].path);
		free((char *)(uintptr_t)l.entries[i].target);
	}
	free(l.entries);
	return rc;
}

int registry_version_digest(struct registry *r, struct catalog_conn *conn, const struct catalog_version *v, struct blob_id *ret)
{
	struct catalog_about a;
	if (v->state != CATALOG_COMMITTED && v->state != CATALOG_RETIRED)
		return -ENOENT;
	int rc = catalog_about_get(conn, v->id, &a);
	bool known = rc == 0 && a.has_digest;
	if (known)
		*ret = a.digest;
	if (rc == 0)
		catalog_about_release(&a);
	return known ? 0 : rc == 0 || rc == -ENOENT ? compute(r, conn, v->id, ret) : rc;
}
