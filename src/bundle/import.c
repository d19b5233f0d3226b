/* Import: a bundle into a store.
 *
 * The archive is read once, front to back, in step with its manifest: each member must be the very thing that the manifest names next, with its type, size and hash. So nothing
 * can be left out, put in twice, or smuggled in beside it, no path of the archive is ever opened, and memory does not grow with what comes. Contents go to the store's intake
 * as they come; the versions are recorded when the archive has come to its proper end. */
#include "layout.h"
#include "spool.h"

#include <mintfs/bundle.h>

#include <errno.h>
#include <inttypes.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUM_MAX 4096

#define READINGS 5 /* of a bundle whose contents are swept away meanwhile */

struct taking {
	struct registry_import *im;
	struct tar_reader *tar;
	struct tar_entry entry; /* the member at hand */
	struct contents *contents;
	struct blob_hasher *hasher;
	struct bundle_watcher watcher;
	uint64_t total;
	struct fault *f;
	uint8_t *piece; /* BUNDLE_PIECE */
};

static ssize_t read_source(void *arg, void *data, size_t len)
{
	for (;;) {
		ssize_t n = read(*(int *)arg, data, len);
		if (n >= 0 || errno != EINTR)
			return n < 0 ? -errno : n;
	}
}

static void watch(const struct taking *k)
{
	if (k->watcher.progress)
		k->watcher.progress(tar_position(k->tar), k->total, k->watcher.arg);
}

/* ---- the front ---- */

static int next_member(struct taking *k, const char *expected)
{
	int got = tar_next(k->tar, &k->entry, k->f);
	if (got == 0)
		return fault_set(k->f, EINVAL, "the bundle ends before %.200s", expected);
	return got < 0 ? got : 0;
}

static int differs(struct taking *k, const char *expected, const char *how)
{
	return fault_set(k->f, EINVAL, "the bundle is not what its manifest tells: %.180s %s", expected, how);
}

static int expect(struct taking *k, enum tar_type type, const char *path)
{
	static const char *const what[] = {[TAR_FILE] = "a file", [TAR_HARDLINK] = "a hard link", [TAR_SYMLINK] = "a symbolic link", [TAR_DIRECTORY] = "a directory"};
	int rc = next_member(k, path);
	if (rc < 0)
		return rc;
	if (strcmp(k->entry.path, path) != 0)
		return fault_set(k->f, EINVAL, "the bundle is not what its manifest tells: %.180s should come, but %.180s does", path, k->entry.path);
	if (k->entry.type == type || (type == TAR_FILE && k->entry.type == TAR_HARDLINK))
		return 0;
	return fault_set(k->f, EINVAL, "the bundle is not what its manifest tells: %.180s should be %s, but is %s", path, what[type], what[k->entry.type]);
}

static int spool_member(struct taking *k, struct spool *out, struct blob_id *ret_id)
{
	int rc = 0;
	while (rc == 0) {
		ssize_t n = tar_read(k->tar, k->piece, BUNDLE_PIECE, k->f);
		if (n <= 0) {
			rc = (int)n;
			break;
		}
		rc = blob_hasher_add(k->hasher, k->piece, (size_t)n);
		if (rc == 0)
			rc = spool_add(out, k->piece, (size_t)n);
	}
	return rc < 0 ? rc : blob_hasher_finish(k->hasher, ret_id);
}

static int check_sum(struct taking *k, const struct blob_id *found)
{
	char hex[BLOB_HEX_SIZE], line[BLOB_HEX_SIZE] = "";
	int rc = next_member(k, BUNDLE_SUM);
	if (rc == 0 && (strcmp(k->entry.path, BUNDLE_SUM) != 0 || k->entry.type != TAR_FILE || k->entry.size > SUM_MAX))
		return fault_set(k->f, EINVAL, BUNDLE_SUM " must follow " BUNDLE_MANIFEST);
	for (size_t at = 0; rc == 0 && at < sizeof line - 1;) {
		ssize_t n = tar_read(k->tar, line + at, sizeof line - 1 - at, k->f);
		if (n <= 0) {
			rc = (int)n;
			break;
		}
		at += (size_t)n;
	}
	if (rc < 0)
		return rc;
	blob_id_hex(found, hex);
	return strcmp(line, hex) == 0 ? 0 : fault_set(k->f, EINVAL, BUNDLE_MANIFEST " is damaged: its SHA-256 is %s, not the one that " BUNDLE_SUM " tells", hex);
}

static int take_front(struct taking *k, struct spool *manifest)
{
	struct blob_id id;
	int rc = next_member(k, BUNDLE_MANIFEST);
	if (rc == 0 && !strcmp(k->entry.path, BUNDLE_README))
		rc = next_member(k, BUNDLE_MANIFEST);
	if (rc < 0)
		return rc;
	if (strcmp(k->entry.path, BUNDLE_MANIFEST) != 0 || k->entry.type != TAR_FILE)
		return fault_set(k->f, EINVAL, "this is no bundle: it begins with %.200s, not with " BUNDLE_MANIFEST, k->entry.path);
	if (k->entry.size > MANIFEST_SIZE_MAX)
		return fault_set(k->f, EFBIG, BUNDLE_MANIFEST " has %" PRIu64 " bytes: more than 1 GiB is not read", k->entry.size);
	rc = spool_member(k, manifest, &id);
	return rc < 0 ? rc : check_sum(k, &id);
}

/* ---- contents ---- */

/* Reads the member to its end, into fd if that is not -1. */
static int take_bytes(struct taking *k, int fd, const char *path, const struct blob_id *id)
{
	struct blob_id found;
	uint64_t at = 0;
	int rc = 0;
	while (rc == 0) {
		ssize_t n = tar_read(k->tar, k->piece, BUNDLE_PIECE, k->f);
		if (n <= 0) {
			rc = (int)n;
			break;
		}
		rc = blob_hasher_add(k->hasher, k->piece, (size_t)n);
		if (rc == 0 && fd >= 0 && (rc = sys_pwrite_full(fd, k->piece, (size_t)n, (off_t)at)) < 0)
			fault_set(k->f, -rc, "%.200s cannot be written to the store: %s", path, strerror(-rc));
		at += (uint64_t)n;
		watch(k);
	}
	int finished = blob_hasher_finish(k->hasher, &found);
	if (rc < 0 || finished < 0)
		return rc < 0 ? rc : finished;
	return blob_id_equal(id, &found) ? 0 : differs(k, path, "has another SHA-256: its bytes were changed");
}

static int take_content(struct taking *k, const char *path, const struct blob_id *id, uint64_t size)
{
	int fd;
	if (registry_import_has(k->im, id, size)) /* read all the same: every byte is verified */
		return take_bytes(k, -1, path, id);
	int rc = registry_import_file(k->im, size, &fd, k->f);
	if (rc < 0)
		return rc;
	rc = take_bytes(k, fd, path, id);
	if (rc == 0)
		return registry_import_file_done(k->im, fd, id, size, k->f);
	registry_import_file_cancel(k->im, fd);
	return rc;
}

static int take_file(struct taking *k, const char *path, const struct manifest_entry *e)
{
	char first[TAR_NAME_MAX];
	struct blob_id id;
	if (blob_id_parse(e->sha256, &id) < 0)
		return -EINVAL; /* the check of the manifest has seen to it */
	int known = contents_find(k->contents, &id, first, sizeof first);
	if (known < 0 && known != -ENOENT)
		return known;
	int rc = expect(k, TAR_FILE, path);
	if (rc < 0)
		return rc;
	if (k->entry.type == TAR_HARDLINK)
		return known == 0 && !strcmp(first, k->entry.target) ? 0 : differs(k, path, "is a link to another content");
	if (k->entry.size != (uint64_t)e->size)
		return differs(k, path, "has another size");
	rc = take_content(k, path, &id, k->entry.size);
	return rc < 0 || known == 0 ? rc : contents_add(k->contents, &id, path);
}

static int take_link(struct taking *k, const char *path, const char *target)
{
	int rc = expect(k, TAR_SYMLINK, path);
	return rc < 0 || !strcmp(k->entry.target, target) ? rc : differs(k, path, "leads elsewhere");
}

static int take_item(struct taking *k, const struct manifest_reader *m, enum manifest_item item)
{
	const struct manifest_entry *e = manifest_entry(m);
	const char *model = manifest_model(m)->path;
	char path[TAR_NAME_MAX], target[16];
	int rc;
	switch (item) {
	case MANIFEST_ALIAS:
		snprintf(target, sizeof target, "v%u", (unsigned)manifest_alias(m)->number);
		rc = bundle_model_path(path, model, manifest_alias(m)->name);
		return rc < 0 ? rc : take_link(k, path, target);
	case MANIFEST_VERSION:
		rc = bundle_version_path(path, model, (uint32_t)manifest_version(m)->number, NULL);
		return rc < 0 ? rc : expect(k, TAR_DIRECTORY, path);
	case MANIFEST_ENTRY:
		rc = bundle_version_path(path, model, (uint32_t)manifest_version(m)->number, e->path);
		if (rc < 0)
			return rc;
		return e->type == MANIFEST_FILE ? take_file(k, path, e) : e->type == MANIFEST_SYMLINK ? take_link(k, path, e->target) : expect(k, TAR_DIRECTORY, path);
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

static int take_all(struct taking *k, struct manifest_reader *m)
{
	enum manifest_item item;
	int rc;
	manifest_rewind(m);
	do {
		rc = manifest_next(m, &item, k->f);
		if (rc == 0)
			rc = take_item(k, m, item);
	} while (rc == 0 && item != MANIFEST_END);
	if (rc < 0)
		return rc;
	rc = tar_next(k->tar, &k->entry, k->f);
	return rc > 0 ? fault_set(k->f, EINVAL, "the bundle holds more than its manifest tells: %.200s", k->entry.path) : rc;
}

/* ---- all of it ---- */

static int import_with(struct taking *k, const struct bundle_import *how, struct spool *manifest, struct registry_import_totals *totals)
{
	struct manifest_reader *m = NULL;
	const char *text;
	int rc = take_front(k, manifest);
	if (rc == 0)
		rc = spool_map(manifest, &text);
	if (rc == 0)
		rc = manifest_reader_new(text, manifest->len, &m);
	if (rc == 0)
		rc = registry_import_check(k->im, m, how->renumber, totals, k->f);
	if (rc == 0) {
		if (!k->total)
			k->total = totals->bytes; /* of a pipe nobody knows the length */
		rc = take_all(k, m);
	}
	if (rc == 0)
		rc = registry_import_record(k->im, m, how->renumber, how->imported, how->arg, k->f);
	manifest_reader_free(m);
	return rc;
}

static int import_once(struct registry *r, const struct registry_actor *who, const struct bundle_import *how, int fd, struct registry_import_totals *totals, struct fault *f)
{
	__attribute__((cleanup(spool_release))) struct spool manifest = SPOOL_INIT;
	struct stat st;
	struct taking *k = calloc(1, sizeof *k);
	if (!k)
		return fault_set(f, ENOMEM, "not enough memory");
	k->watcher = how->watcher;
	k->f = f;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		k->total = (uint64_t)st.st_size;
	k->piece = malloc(BUNDLE_PIECE);
	int rc = k->piece ? registry_import_begin(r, who, &k->im, k->f) : -ENOMEM;
	if (rc == 0)
		rc = spool_open(&manifest);
	if (rc == 0)
		rc = contents_new(&k->contents);
	if (rc == 0)
		rc = blob_hasher_new(&k->hasher);
	if (rc == 0)
		rc = tar_reader_new(read_source, &fd, &k->tar);
	if (rc == 0)
		rc = import_with(k, how, &manifest, totals);
	registry_import_end(k->im);
	tar_reader_free(k->tar);
	blob_hasher_free(k->hasher);
	contents_free(k->contents);
	free(k->piece);
	free(k);
	return rc;
}

/* Contents that the store had were swept meanwhile: now it has them no more, so that they are taken from the bundle. */
static bool can_begin_again(int rc, int fd, off_t start, struct fault *f)
{
	if (rc != -EAGAIN || start < 0 || lseek(fd, start, SEEK_SET) < 0)
		return false;
	*f = (struct fault)FAULT_INIT;
	return true;
}

int bundle_import(struct registry *r, const struct registry_actor *who, const struct bundle_import *how, int fd, struct registry_import_totals *ret, struct fault *f)
{
	struct registry_import_totals totals = {0};
	struct fault own = FAULT_INIT;
	off_t start = lseek(fd, 0, SEEK_CUR); /* of a pipe there is none */
	int rc = -EAGAIN;
	f = f ? f : &own;
	for (int i = 0; i == 0 || (i < READINGS && can_begin_again(rc, fd, start, f)); i++)
		rc = import_once(r, who, how, fd, &totals, f);
	if (rc < 0)
		return fault_default(f, -rc, "the bundle cannot be taken in: %s", strerror(-rc));
	*ret = totals;
	return 0;
}
