/* An existing folder of models, into a store: DIR/product/P001_all/mlstm/v3/…, with the versions.json and the database that its programs keep.
 *
 * Each version is an import of its own (tree_version.c): what was taken in stays, what cannot be is told and passed over, and the whole can be repeated. */
#include "layout.h"
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERSIONS_JSON "versions.json"
#define VERSIONS_JSON_MAX (64u << 20)

struct version_place { uint32_t number; };
struct alias_place { char *name; uint32_t number; };

/* What stands in a model's directory. */
struct model_listing {
	struct version_place *versions;
	size_t n_versions, cap_versions;
	struct alias_place *aliases;
	size_t n_aliases;
};

/* ---- telling ---- */

void tree_note(struct tree *k, const char *path, const char *reason, bool taken, bool already)
{
	if (k->measuring)
		return;
	k->totals.taken += taken;
	k->totals.already += already;
	k->totals.skipped += !taken && !already;
	if (k->how->note)
		k->how->note(&(struct bundle_tree_note){path, reason, taken, already}, k->how->arg);
}

void tree_advance(struct tree *k, uint64_t bytes)
{
	k->done += bytes;
	if (k->how->watcher.progress)
		k->how->watcher.progress(k->done, k->total, k->how->watcher.arg);
}

/* ---- what the folder's programs knew ---- */

static int add_number(const char *name, const char *value, void *arg)
{
	struct numbers *l = arg;
	uint64_t number;
	if (parse_u64(value + (value[0] == 'v'), LAYOUT_NUMBER_MAX, &number) < 0)
		return 0; /* not a number of a version */
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct number *v = reallocarray(l->v, cap, sizeof *v);
		if (!v)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	if (!(l->v[l->n].key = strdup(name)))
		return -ENOMEM;
	l->v[l->n++].number = (uint32_t)number;
	return 0;
}

static int compare_numbers(const void *a, const void *b) { return strcmp(((const struct number *)a)->key, ((const struct number *)b)->key); }

static int read_numbers(struct tree *k)
{
	auto_free char *text = NULL;
	size_t len;
	struct fault why = FAULT_INIT;
	int rc = sys_read_file(k->dir, VERSIONS_JSON, VERSIONS_JSON_MAX, &text, &len);
	if (rc == -ENOENT)
		return 0;
	if (rc == 0)
		rc = metadata_each_field(text, len, add_number, &k->numbers, &why);
	if (rc == -EINVAL) {
		tree_note(k, VERSIONS_JSON, "it is no JSON object: numbers are taken from the directories", false, false);
		return 0;
	}
	if (rc < 0)
		return fault_set(k->f, -rc, "%s/" VERSIONS_JSON " cannot be read: %s", k->how->dir, strerror(-rc));
	if (k->numbers.n)
		qsort(k->numbers.v, k->numbers.n, sizeof *k->numbers.v, compare_numbers);
	return 0;
}

uint32_t tree_number_of(const struct tree *k, const char *key)
{
	struct number wanted = {.key = (char *)(uintptr_t)key};
	const struct number *found = k->numbers.n ? bsearch(&wanted, k->numbers.v, k->numbers.n, sizeof wanted, compare_numbers) : NULL;
	return found ? found->number : 0;
}

static bool looks_like_database(const char *name)
{
	static const char *const ends[] = {".db", ".sqlite", ".sqlite3"};
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		size_t len = strlen(name), end = strlen(ends[i]);
		if (len > end && !strcmp(name + len - end, ends[i]))
			return true;
	}
	return false;
}

/* The one named, or the first in the folder that has the table. */
static int open_database(struct tree *k)
{
	char path[PATH_MAX];
	if (k->how->database)
		return catalog_legacy_open(k->how->database, NULL, &k->legacy, k->f);
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	int rc = sys_fdopendir(sys_reopen(k->dir, O_RDONLY | O_DIRECTORY), &dir);
	if (rc < 0)
		return rc;
	while (!k->legacy && (rc = sys_readdir(dir, &e)) > 0)
		if (looks_like_database(e->d_name) && snprintf(path, sizeof path, "%s/%s", k->how->dir, e->d_name) < (int)sizeof path &&
		    catalog_legacy_open(path, NULL, &k->legacy, NULL) == 0)
			k->database_name = strcpy(k->database_found, e->d_name);
	return rc < 0 ? rc : 0;
}

/* ---- a model ---- */

static void listing_release(struct model_listing *l)
{
	for (size_t i = 0; i < l->n_aliases; i++)
		free(l->aliases[i].name);
	free(l->aliases);
	free(l->versions);
}

static int add_version(struct model_listing *l, uint32_t number)
{
	if (l->n_versions == l->cap_versions) {
		size_t cap = l->cap_versions ? 2 * l->cap_versions : 16;
		struct version_place *v = reallocarray(l->versions, cap, sizeof *v);
		if (!v)
			return -ENOMEM;
		l->versions = v;
		l->cap_versions = cap;
	}
	l->versions[l->n_versions++].number = number;
	return 0;
}

static int add_alias(struct model_listing *l, const char *name, uint32_t number)
{
	struct alias_place *v = reallocarray(l->aliases, l->n_aliases + 1, sizeof *v);
	if (!v)
		return -ENOMEM;
	l->aliases = v;
	l->aliases[l->n_aliases] = (struct alias_place){strdup(name), number};
	return l->aliases[l->n_aliases].name ? (l->n_aliases++, 0) : -ENOMEM;
}

/* "v2", "./v2/", or an absolute path that ends so: programs write all of these. *ret 0: it leads to no version. */
static int number_in_target(int dirfd, const char *name, uint32_t *ret)
{
	char target[PATH_MAX];
	ssize_t r = sys_readlinkat(dirfd, name, target, sizeof target);
	*ret = 0;
	if (r < 0)
		return r == -ENAMETOOLONG || r == -ENOENT ? 0 : (int)r;
	size_t len = strlen(target);
	while (len > 1 && target[len - 1] == '/')
		target[--len] = '\0';
	char *slash = strrchr(target, '/');
	if (layout_classify_child(slash ? slash + 1 : target, ret) != LAYOUT_CHILD_VERSION)
		*ret = 0;
	return 0;
}

static int list_one(struct tree *k, const struct layout_model *model, int dirfd, const char *name, struct model_listing *l)
{
	char path[CATALOG_PATH_MAX + NAME_MAX + 2];
	struct stat st;
	uint32_t number = 0;
	snprintf(path, sizeof path, "%s/%s", model->path, name);
	int rc = sys_fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	enum layout_child kind = layout_classify_child(name, &number);
	if (kind == LAYOUT_CHILD_VERSION && S_ISDIR(st.st_mode))
		return add_version(l, number);
	if ((kind == LAYOUT_CHILD_LATEST || kind == LAYOUT_CHILD_BEST) && S_ISLNK(st.st_mode))
		return 0; /* MintFS makes its own */
	if (kind == LAYOUT_CHILD_ALIAS && S_ISLNK(st.st_mode)) {
		rc = number_in_target(dirfd, name, &number);
		if (rc < 0 || number)
			return rc < 0 ? rc : add_alias(l, name, number);
	}
	tree_note(k, path, S_ISDIR(st.st_mode) ? "it is not named like a version (v1, v2, ...)" : S_ISLNK(st.st_mode) ? "it leads to no version" : "it stands outside a version",
		false, false);
	return 0;
}

static int compare_versions(const void *a, const void *b)
{
	const struct version_place *x = a, *y = b;
	return (x->number > y->number) - (x->number < y->number);
}

static void set_alias(struct tree *k, const struct layout_model *model, const struct alias_place *a)
{
	char path[CATALOG_PATH_MAX + CATALOG_NAME_MAX], target[16];
	struct catalog_model *m = calloc(1, sizeof *m);
	struct catalog_alias there = {0};
	struct catalog_conn *conn = NULL;
	struct fault why = FAULT_INIT;
	snprintf(path, sizeof path, "%s/%s", model->path, a->name);
	snprintf(target, sizeof target, "v%u", a->number);
	int rc = m ? registry_read_begin(k->r, &conn) : -ENOMEM;
	if (rc == 0)
		rc = catalog_model_find(conn, model->path, m);
	int found = rc == 0 ? catalog_alias_find(conn, m->id, a->name, &there) : rc;
	catalog_read_end(conn);
	if (found == 0 && there.number != a->number) {
		snprintf(why.text, sizeof why.text, "the alias leads to v%u in the store and stays there", there.number);
		tree_note(k, path, why.text, false, false);
	} else if (found < 0 && found != -ENOENT) {
		fault_set(&why, -found, "it cannot be set: %s", strerror(-found));
		tree_note(k, path, why.text, false, false);
	} else if (rc < 0 || (found == -ENOENT && registry_alias_set(k->r, &k->who, m->id, a->name, target, &there, &why) < 0)) {
		tree_note(k, path, why.error ? why.text : "its model was not taken in", false, false);
	}
	free(m);
}

static int do_model(struct tree *k, const struct layout_model *model, int dirfd)
{
	__attribute__((cleanup(listing_release))) struct model_listing l = {0};
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	int rc = sys_fdopendir(sys_reopen(dirfd, O_RDONLY | O_DIRECTORY), &dir);
	while (rc == 0 && (rc = sys_readdir(dir, &e)) > 0)
		rc = list_one(k, model, dirfd, e->d_name, &l);
	if (rc == 0 && l.n_versions)
		qsort(l.versions, l.n_versions, sizeof *l.versions, compare_versions);
	for (size_t i = 0; rc == 0 && i < l.n_versions; i++)
		rc = tree_version(k, model, dirfd, l.versions[i].number);
	for (size_t i = 0; rc == 0 && !k->measuring && !k->how->dry_run && i < l.n_aliases; i++)
		set_alias(k, model, &l.aliases[i]);
	return rc;
}

/* ---- the layout ---- */

static bool is_known_file(const struct tree *k, const char *path)
{
	size_t len = k->database_name ? strlen(k->database_name) : 0;
	return !strcmp(path, VERSIONS_JSON) || (len && !strncmp(path, k->database_name, len) && (!path[len] || !strcmp(path + len, "-wal") || !strcmp(path + len, "-shm")));
}

static int do_scope(struct tree *k, int dirfd, const char *path);

static int do_place(struct tree *k, int dirfd, const char *path, const char *name) /* NOLINT(misc-no-recursion): as deep as the grammar */
{
	char whole[CATALOG_PATH_MAX + NAME_MAX + 2];
	struct layout_model model;
	enum layout_kind kind;
	struct fault why = FAULT_INIT;
	struct stat st;
	snprintf(whole, sizeof whole, "%s%s%s", path, *path ? "/" : "", name);
	int rc = sys_fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	if (!S_ISDIR(st.st_mode)) {
		if (!is_known_file(k, whole))
			tree_note(k, whole, "it stands outside a version", false, false);
		return 0;
	}
	if (layout_classify(whole, &kind, &model, &why) < 0) {
		tree_note(k, whole, why.text, false, false);
		return 0;
	}
	auto_close int fd = sys_openat_beneath(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0) {
		snprintf(why.text, sizeof why.text, "it cannot be opened: %s", strerror(-fd));
		tree_note(k, whole, why.text, false, false);
		return 0;
	}
	return kind == LAYOUT_MODEL ? do_model(k, &model, fd) : do_scope(k, fd, whole);
}

static int do_scope(struct tree *k, int dirfd, const char *path) /* NOLINT(misc-no-recursion): as above */
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	int rc = sys_fdopendir(sys_reopen(dirfd, O_RDONLY | O_DIRECTORY), &dir);
	while (rc == 0 && (rc = sys_readdir(dir, &e)) > 0)
		rc = do_place(k, dirfd, path, e->d_name);
	return rc;
}

/* ---- all of it ---- */

static void import_release(struct tree *k)
{
	for (size_t i = 0; i < k->numbers.n; i++)
		free(k->numbers.v[i].key);
	free(k->numbers.v);
	catalog_legacy_close(k->legacy);
	registry_import_end(k->im);
	blob_hasher_free(k->hasher);
	free(k->piece);
	free(k->made);
	if (k->dir >= 0)
		close(k->dir);
}

static int run_import(struct tree *k)
{
	k->piece = malloc(BUNDLE_PIECE);
	int rc = k->piece ? blob_hasher_new(&k->hasher) : -ENOMEM;
	if (rc == 0)
		rc = registry_import_begin(k->r, &k->who, &k->im, k->f);
	if (rc == 0)
		rc = read_numbers(k);
	if (rc == 0)
		rc = open_database(k);
	if (rc == 0 && k->how->watcher.progress) {
		k->measuring = true;
		rc = do_scope(k, k->dir, "");
		k->measuring = false;
	}
	if (rc == 0)
		rc = do_scope(k, k->dir, "");
	if (rc < 0 || k->n_made == 0)
		return rc;
	if (!realpath(k->how->dir, k->root))
		k->root[0] = '\0';
	return registry_import_declared(k->im, k->made, k->n_made, k->root, k->f);
}

int bundle_import_tree(struct registry *r, const struct registry_actor *who, const struct bundle_tree *how, struct bundle_tree_totals *ret, struct fault *f)
{
	struct fault own = FAULT_INIT;
	struct tree k = {.r = r, .who = *who, .how = how, .f = f ? f : &own};
	k.dir = sys_openat(AT_FDCWD, how->dir, O_RDONLY | O_DIRECTORY, 0);
	if (k.dir < 0)
		return fault_set(f, -k.dir, "the folder %s cannot be opened: %s", how->dir, strerror(-k.dir));
	int rc = run_import(&k);
	import_release(&k);
	*ret = k.totals;
	return rc < 0 ? fault_default(f, -rc, "%s cannot be taken in: %s", how->dir, strerror(-rc)) : 0;
}
