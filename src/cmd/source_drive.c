/* Reading through the drive alone: names, links and user.mintfs.* attributes, as anybody may. */
#include "source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>

static int on_drive(const struct source *s, const char *model, const char *child, char out[PATH_MAX])
{
	int rc = text_copy(out, PATH_MAX, s->mount);
	if (rc == 0)
		rc = path_append(out, PATH_MAX, model);
	return rc < 0 ? rc : path_append(out, PATH_MAX, child);
}

/* ---- references ---- */

static int read_state(const char *path, enum catalog_state *ret)
{
	char text[64];
	int rc = drive_attr(path, "state", text, sizeof text);
	for (int i = CATALOG_DRAFT; rc == 0 && i <= CATALOG_DISCARDED; i++)
		if (!strcmp(text, catalog_state_name((enum catalog_state)i))) {
			*ret = (enum catalog_state)i;
			return 0;
		}
	return rc < 0 ? rc : -EIO;
}

static int read_link(const char *path, uint32_t *ret_number)
{
	char target[NAME_MAX + 1];
	ssize_t n = readlink(path, target, sizeof target - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	return layout_classify_child(target, ret_number) == LAYOUT_CHILD_VERSION ? 0 : -EINVAL;
}

struct newest { uint32_t number; };

static int take_newest(const struct version_info *v, void *arg)
{
	((struct newest *)arg)->number = v->v.number;
	return 0;
}

static int find_child(struct source *s, struct source_ref *ref, const char *child, struct fault *f)
{
	const struct source_query newest = {.states = 1u << CATALOG_COMMITTED, .limit = 1, .brief = true};
	struct newest found = {0};
	char path[PATH_MAX], version[16];
	int rc = on_drive(s, ref->model, child, path);
	if (rc < 0)
		return rc;
	switch (layout_classify_child(child, &ref->number)) {
	case LAYOUT_CHILD_VERSION:
		break;
	case LAYOUT_CHILD_LATEST: /* the newest committed, not the draft of whoever asks */
		rc = drive_versions(s, ref, &newest, take_newest, &found);
		ref->number = found.number;
		if (rc == 0 && !found.number)
			return fault_set(f, ENOENT, "%s has no committed version yet", ref->model);
		break;
	case LAYOUT_CHILD_BEST:
	case LAYOUT_CHILD_ALIAS:
		rc = read_link(path, &ref->number);
		break;
	case LAYOUT_CHILD_NEXT:
	case LAYOUT_CHILD_INVALID:
		rc = -ENOENT;
		break;
	}
	if (rc == 0) {
		snprintf(version, sizeof version, "v%u", ref->number);
		on_drive(s, ref->model, version, path);
		rc = read_state(path, &ref->state);
	}
	ref->has_version = rc == 0;
	return rc == -ENOENT ? fault_set(f, ENOENT, "%s has no version or alias '%s'", ref->model, child) : rc;
}

struct by_key { const char *key; char *model; };

static int match_key(const struct layout_model *m, void *arg)
{
	struct by_key *k = arg;
	if (strcmp(m->key, k->key) != 0)
		return 0;
	memcpy(k->model, m->path, sizeof m->path);
	return 1;
}

typedef int model_name_fn(const struct layout_model *m, void *arg);
static int walk_models(struct source *s, const char *dir, model_name_fn *fn, void *arg);

int drive_resolve(struct source *s, const char *text, struct source_ref *ret, struct fault *f)
{
	auto_free struct layout_ref *l = calloc(1, sizeof *l);
	auto_free struct source_ref *ref = calloc(1, sizeof *ref);
	struct fault why = FAULT_INIT;
	char path[PATH_MAX];
	struct stat st;
	if (!l || !ref)
		return -ENOMEM;
	int rc = layout_parse(text, l, &why);
	if (rc == 0) {
		text_copy(ref->model, sizeof ref->model, l->model.path);
	} else { /* a key, perhaps with a child behind */
		char key[CATALOG_PATH_MAX];
		size_t len = strcspn(text, "/");
		if (len >= sizeof key)
			return fault_set(f, ENAMETOOLONG, "the name is too long");
		memcpy(key, text, len);
		key[len] = '\0';
		struct by_key k = {key, ref->model};
		if (walk_models(s, "", match_key, &k) != 1)
			return strchr(text, '/') ? fault_set(f, EINVAL, "%s", why.text) : fault_set(f, ENOENT, "there is no model %s on the drive", key);
		text += len + strspn(text + len, "/");
		len = strcspn(text, "/");
		if (len > LAYOUT_NAME_MAX)
			return fault_set(f, ENAMETOOLONG, "the name is too long");
		memcpy(l->child, text, len);
		l->child[len] = '\0';
		text_copy(l->rest, sizeof l->rest, text + len + strspn(text + len, "/"));
	}
	rc = on_drive(s, ref->model, "", path);
	if (rc == 0 && stat(path, &st) < 0)
		rc = errno == ENOENT ? fault_set(f, ENOENT, "there is no model %s on the drive", ref->model) : -errno;
	text_copy(ref->rest, sizeof ref->rest, l->rest);
	if (rc == 0 && l->child[0])
		rc = find_child(s, ref, l->child, f);
	if (rc == 0)
		*ret = *ref;
	return rc;
}

int drive_links(struct source *s, const struct source_ref *model, struct links *ret)
{
	char path[PATH_MAX];
	const struct source_query newest = {.states = 1u << CATALOG_COMMITTED, .limit = 1, .brief = true};
	struct newest found = {0};
	int rc = on_drive(s, model->model, "", path);
	auto_dir DIR *dir = rc < 0 ? NULL : opendir(path);
	if (!dir)
		return rc < 0 ? rc : -errno;
	rc = drive_versions(s, model, &newest, take_newest, &found);
	for (struct dirent *e; rc == 0 && (e = readdir(dir));) {
		struct link link = {0};
		enum layout_child kind = layout_classify_child(e->d_name, NULL);
		if ((kind != LAYOUT_CHILD_LATEST && kind != LAYOUT_CHILD_BEST && kind != LAYOUT_CHILD_ALIAS) || on_drive(s, model->model, e->d_name, path) < 0)
			continue;
		if (kind == LAYOUT_CHILD_LATEST) /* of all, not of whoever asks */
			link.number = found.number;
		if ((kind == LAYOUT_CHILD_LATEST && !found.number) || (kind != LAYOUT_CHILD_LATEST && read_link(path, &link.number) < 0))
			continue;
		text_copy(link.name, sizeof link.name, e->d_name);
		rc = links_add(ret, &link);
	}
	return rc;
}

/* ---- versions ---- */

static int64_t parse_created(const char *text)
{
	struct tm tm = {0};
	const char *end = strptime(text, "%Y-%m-%d %H:%M:%S", &tm);
	return end && !*end ? timespec_ns((struct timespec){.tv_sec = timegm(&tm)}) : 0;
}

static char *attr_or_null(const char *path, const char *name)
{
	char text[65536];
	return drive_attr(path, name, text, sizeof text) == 0 && text[0] ? strdup(text) : NULL;
}

static void fill_version(const char *path, bool brief, struct version_info *info)
{
	char text[64];
	uint64_t size;
	struct stat st;
	int64_t created = drive_attr(path, "created", text, sizeof text) == 0 ? parse_created(text) : 0;
	*(info->v.state == CATALOG_DRAFT ? &info->v.minted_ns : &info->v.committed_ns) = created;
	if (drive_attr(path, "size", text, sizeof text) == 0 && parse_u64(text, INT64_MAX, &size) == 0) {
		info->v.size = size;
		info->sized = true;
	}
	if (stat(path, &st) == 0) {
		info->v.uid = st.st_uid;
		info->v.gid = st.st_gid;
	}
	if (brief)
		return;
	caller_user_name(info->v.uid, text, sizeof text);
	info->text.author = strdup(text);
	info->text.message = attr_or_null(path, "message");
	info->text.reason = info->v.state == CATALOG_DRAFT ? attr_or_null(path, "error") : NULL;
	info->text.metrics_summary = metrics_of_tree(path);
	info->run = attr_or_null(path, "run");
}

static int give(struct source *s, const char *model, uint32_t number, const struct source_query *q, source_version_fn *fn, void *arg)
{
	struct version_info info = {.v.number = number};
	char path[PATH_MAX], name[16];
	snprintf(name, sizeof name, "v%u", number);
	int rc = on_drive(s, model, name, path);
	if (rc == 0)
		rc = read_state(path, &info.v.state);
	if (rc < 0 || !(q->states & 1u << info.v.state))
		return rc == -ENOENT ? -ESTALE : rc < 0 ? rc : -ESTALE; /* gone, or not wanted: not counted */
	fill_version(path, q->brief, &info);
	rc = fn(&info, arg);
	catalog_version_text_release(&info.text);
	free(info.run);
	return rc;
}

static int falling(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x < y) - (x > y);
}

static int list_numbers(const char *path, uint32_t **ret, size_t *ret_n)
{
	auto_dir DIR *dir = opendir(path);
	auto_free uint32_t *numbers = NULL;
	size_t n = 0, cap = 0;
	if (!dir)
		return -errno;
	for (struct dirent *e; (e = readdir(dir));) {
		uint32_t number;
		if (layout_classify_child(e->d_name, &number) != LAYOUT_CHILD_VERSION)
			continue;
		if (n == cap) {
			cap = cap ? 2 * cap : 256;
			uint32_t *more = realloc(numbers, cap * sizeof *more);
			if (!more)
				return -ENOMEM;
			numbers = more;
		}
		numbers[n++] = number;
	}
	if (n)
		qsort(numbers, n, sizeof *numbers, falling);
	*ret = take_ptr(numbers);
	*ret_n = n;
	return 0;
}

int drive_versions(struct source *s, const struct source_ref *model, const struct source_query *q, source_version_fn *fn, void *arg)
{
	auto_free uint32_t *numbers = NULL;
	size_t n = 0;
	uint32_t given = 0;
	char path[PATH_MAX];
	int rc = on_drive(s, model->model, "", path);
	if (rc == 0)
		rc = list_numbers(path, &numbers, &n);
	for (size_t i = 0; rc == 0 && i < n && (!q->limit || given < q->limit); i++) {
		rc = give(s, model->model, numbers[i], q, fn, arg);
		given += rc == 0;
		if (rc == -ESTALE)
			rc = 0;
	}
	return rc < 0 ? rc : 0;
}

int drive_version(struct source *s, const struct source_ref *version, source_version_fn *fn, void *arg)
{
	const struct source_query q = {.states = ~0u};
	int rc = give(s, version->model, version->number, &q, fn, arg);
	return rc < 0 ? rc : 0;
}

/* ---- models ---- */

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static int walk_models(struct source *s, const char *dir, model_name_fn *fn, void *arg) /* NOLINT(misc-no-recursion): to the depth of the layout */
{
	char path[PATH_MAX];
	struct dirent **names = NULL;
	int rc = on_drive(s, dir, "", path);
	int n = rc < 0 ? -1 : scandir(path, &names, NULL, by_name);
	if (n < 0)
		return rc < 0 ? rc : errno == EACCES ? 0 : -errno; /* somebody's private corner */
	for (int i = 0; i < n; i++) {
		auto_free struct layout_model *m = rc == 0 && names[i]->d_type == DT_DIR && names[i]->d_name[0] != '.' ? malloc(sizeof *m) : NULL;
		char child[LAYOUT_PATH_MAX];
		enum layout_kind kind;
		int len = snprintf(child, sizeof child, "%s%s%s", dir, *dir ? "/" : "", names[i]->d_name);
		if (m && len > 0 && (size_t)len < sizeof child && layout_classify(child, &kind, m, NULL) == 0)
			rc = kind == LAYOUT_MODEL ? fn(m, arg) : walk_models(s, child, fn, arg);
		free(names[i]);
	}
	free(names);
	return rc;
}

static int count_version(const struct version_info *v, void *arg)
{
	struct model_info *m = arg;
	int64_t at = v->v.committed_ns > v->v.minted_ns ? v->v.committed_ns : v->v.minted_ns;
	if (v->v.state == CATALOG_DRAFT) {
		m->n_drafts++;
	} else {
		m->n_versions++;
		m->size += v->v.size;
		m->newest = v->v.number > m->newest ? v->v.number : m->newest;
	}
	m->changed_ns = at > m->changed_ns ? at : m->changed_ns;
	return 0;
}

static int fill_model(struct source *s, const struct layout_model *from, struct model_info *m)
{
	const struct source_query all = {.states = ~0u, .brief = true};
	char path[PATH_MAX];
	auto_free struct source_ref *ref = calloc(1, sizeof *ref);
	if (!ref)
		return -ENOMEM;
	*m = (struct model_info){0};
	text_copy(m->path, sizeof m->path, from->path);
	text_copy(m->key, sizeof m->key, from->key);
	text_copy(ref->model, sizeof ref->model, from->path);
	if (on_drive(s, from->path, "best", path) < 0 || read_link(path, &m->best) < 0)
		m->best = 0;
	return drive_versions(s, ref, &all, count_version, m);
}

struct models { struct source *s; const char *prefix; source_model_fn *fn; void *arg; struct model_info *m; };

static int give_model(const struct layout_model *from, void *arg)
{
	struct models *all = arg;
	if (strncmp(from->path, all->prefix, strlen(all->prefix)) != 0)
		return 0;
	int rc = fill_model(all->s, from, all->m);
	return rc < 0 ? rc : all->fn(all->m, all->arg);
}

int drive_models(struct source *s, const char *prefix, source_model_fn *fn, void *arg)
{
	auto_free struct model_info *m = calloc(1, sizeof *m);
	struct models all = {s, prefix, fn, arg, m};
	int rc = m ? walk_models(s, "", give_model, &all) : -ENOMEM;
	return rc < 0 ? rc : 0;
}

int drive_model(struct source *s, const struct source_ref *model, struct model_info *ret)
{
	auto_free struct layout_model *m = calloc(1, sizeof *m);
	enum layout_kind kind;
	int rc = m ? layout_classify(model->model, &kind, m, NULL) : -ENOMEM;
	return rc < 0 ? rc : fill_model(s, m, ret);
}

/* ---- files of a tree ---- */

static int add_entry(const FTSENT *e, size_t skip, bool hashes, struct files *ret)
{
	char path[PATH_MAX], target[PATH_MAX], hex[BLOB_HEX_SIZE];
	struct file_info info = {.path = path, .size = (uint64_t)e->fts_statp->st_size, .mode = e->fts_statp->st_mode & 07777};
	if (text_copy(path, sizeof path, e->fts_path + skip) < 0)
		return -ENAMETOOLONG;
	switch (e->fts_info) {
	case FTS_D:
		info.type = CATALOG_DIRECTORY;
		info.size = 0;
		break;
	case FTS_F:
		info.type = CATALOG_FILE;
		if (hashes && drive_attr(e->fts_path, "sha256", hex, sizeof hex) == 0)
			memcpy(info.sha256, hex, sizeof hex);
		break;
	case FTS_SL:
	case FTS_SLNONE: {
		info.type = CATALOG_SYMLINK;
		ssize_t n = readlink(e->fts_path, target, sizeof target - 1);
		if (n >= 0) {
			target[n] = '\0';
			info.target = target;
		}
		break;
	}
	case FTS_DNR:
	case FTS_ERR:
		return -e->fts_errno;
	default: /* the way back up; what is gone again */
		return 0;
	}
	return files_add(ret, &info);
}

static int names_in_order(const FTSENT **a, const FTSENT **b) { return strcmp((*a)->fts_name, (*b)->fts_name); }

int tree_files(const char *dir, bool hashes, struct files *ret)
{
	char top[PATH_MAX];
	char *roots[] = {top, NULL};
	int rc = text_copy(top, sizeof top, dir);
	if (rc < 0)
		return rc;
	FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR | FTS_XDEV, names_in_order);
	if (!walk)
		return -errno;
	size_t skip = strlen(dir) + 1;
	errno = 0;
	for (FTSENT *e; rc == 0 && (e = fts_read(walk)); errno = 0)
		if (e->fts_level > 0)
			rc = add_entry(e, skip, hashes, ret);
		else if (e->fts_info == FTS_DNR || e->fts_info == FTS_ERR || e->fts_info == FTS_NS)
			rc = -e->fts_errno;
	if (rc == 0 && errno)
		rc = -errno;
	fts_close(walk);
	return rc;
}
