/* fsck: drafts against the catalog, and what belongs nowhere.
 *
 * Names in drafts/ are looked at under the store's lock, so that no mint is half way (it makes its directory within its transaction). After a commit or a discard the daemon that
 * did it is still clearing the tree away: as long as a drive is mounted, only what has stood still for a minute is told. */
#include "fsck.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WORK_NS (60 * NS_PER_SEC)

static int64_t age_of(const struct fsck *k, const char *path)
{
	struct stat st;
	if (sys_fstatat(k->r->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return time_now_ns() - timespec_ns(st.st_ctim);
}

/* Calls fn for each name of a directory of the store. */
typedef int name_fn(struct fsck *k, const char *name);
static int each_name(struct fsck *k, const char *dir, name_fn *fn)
{
	auto_dir DIR *d = NULL;
	struct dirent *e;
	int rc = sys_fdopendir(sys_openat(k->r->dirfd, dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0), &d);
	if (rc == -ENOENT)
		return 0;
	while (rc == 0 && (rc = sys_readdir(d, &e)) > 0)
		rc = fn(k, e->d_name);
	return rc;
}

static struct problem *note(struct fsck *k, enum finding kind, const char *name, int64_t id, const struct catalog_version *v, const char *what)
{
	struct problem *p = fsck_note(k, kind, "%s %s", name, what);
	if (!p || !(p->name = strdup(name)))
		return NULL;
	p->id = id;
	p->model_id = v ? v->model_id : 0;
	p->number = v ? v->number : 0;
	return p;
}

/* ---- names in drafts/ ---- */

static int note_living(const struct catalog_mount *m, void *arg)
{
	bool alive = false;
	return registry_mount_alive(((struct fsck *)arg)->r, m, &alive) == 0 && alive;
}

static bool is_mounted(struct fsck *k)
{
	auto_read struct catalog_conn *conn = NULL;
	return catalog_read_begin(k->r->catalog, &conn) == 0 && catalog_mount_list(conn, note_living, k) > 0;
}

static int find_version(struct fsck *k, int64_t id, struct catalog_version *v)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(k->r->catalog, &conn);
	return rc < 0 ? rc : catalog_version_get(conn, id, v);
}

static bool is_directory(struct fsck *k, const char *path)
{
	struct stat st;
	return sys_fstatat(k->r->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int look_at_tree(struct fsck *k, const char *path, int64_t id, bool alone)
{
	struct catalog_version v;
	int rc = find_version(k, id, &v);
	if (rc == -ENOENT)
		return note(k, alone ? FOUND_STRAY : FOUND_DRAFT_ASTRAY, path, id, NULL, "belongs to no version") ? 0 : -ENOMEM;
	if (rc < 0 || v.state == CATALOG_DRAFT || (age_of(k, path) < WORK_NS && is_mounted(k)))
		return rc;
	return note(k, FOUND_DRAFT_LEFTOVER, path, id, &v, "was left behind by a version that is no draft any more") ? 0 : -ENOMEM;
}

static int look_at_name(struct fsck *k, const char *name)
{
	char path[NAME_MAX + 16], digits[24];
	struct stat st;
	uint64_t id;
	size_t n = strspn(name, "0123456789");
	snprintf(path, sizeof path, "drafts/%s", name);
	int rc = sys_fstatat(k->r->dirfd, path, &st, AT_SYMLINK_NOFOLLOW);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc; /* trees are cleared away without the lock */
	bool whole = name[n] == '\0', metadata = !strcmp(name + n, ".metadata.json");
	if (n == 0 || n >= sizeof digits || name[0] == '0' || !(whole || metadata) || whole != S_ISDIR(st.st_mode))
		return note(k, FOUND_STRAY, path, 0, NULL, "belongs to nothing") ? 0 : -ENOMEM;
	memcpy(digits, name, n);
	digits[n] = '\0';
	if (parse_u64(digits, INT64_MAX, &id) < 0)
		return note(k, FOUND_STRAY, path, 0, NULL, "belongs to nothing") ? 0 : -ENOMEM;
	return look_at_tree(k, path, (int64_t)id, !whole);
}

static int look_at_names(void *arg) { return each_name(arg, "drafts", look_at_name); }

/* ---- drafts of the catalog ---- */

static int look_at_draft(const struct catalog_version *v, const struct catalog_version_text *text, void *arg)
{
	struct fsck *k = arg;
	char path[64];
	k->sum.drafts++;
	snprintf(path, sizeof path, "drafts/%" PRId64, v->id);
	if (is_directory(k, path))
		return 0;
	return note(k, FOUND_DRAFT_LOST, path, v->id, v, "is not there, though its version is a draft") ? 0 : -ENOMEM;
}

static int look_at_drafts(void *arg)
{
	struct fsck *k = arg;
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(k->r->catalog, &conn);
	if (rc == 0)
		rc = catalog_draft_list(conn, look_at_draft, k);
	return rc;
}

int fsck_drafts(struct fsck *k)
{
	int (*looks[])(void *) = {look_at_drafts, look_at_names};
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(looks); i++)
		rc = k->r->read_only ? looks[i](k) : catalog_locked(k->r->catalog, looks[i], k);
	return rc;
}

/* ---- strays ---- */

/* Every name that a store may hold: docs/spec/store.md. */
static bool belongs(const char *name)
{
	static const char *const names[] = {"config.json", "lock", "blobs", "drafts", "run", "incoming", "lost+found", "backup.json"};
	static const char *const prefixes[] = {"catalog.db", "mintfs.log"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return true;
	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			return true;
	return sys_is_temporary(name);
}

static int look_at_top(struct fsck *k, const char *name)
{
	return belongs(name) || note(k, FOUND_STRAY, name, 0, NULL, "belongs to nothing in a store") ? 0 : -ENOMEM;
}

int fsck_strays(struct fsck *k) { return each_name(k, ".", look_at_top); }

/* ---- repairs ---- */

static int lost_write(struct catalog_conn *conn, void *arg)
{
	const struct problem *p = arg;
	struct catalog_version v;
	int rc = catalog_version_get(conn, p->id, &v);
	return rc < 0 || v.state != CATALOG_DRAFT ? rc : catalog_version_set_state(conn, p->id, CATALOG_DISCARDED);
}

int repair_draft_lost(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	struct problem copy = *p;
	if (is_directory(k, p->name)) {
		snprintf(words, size, "it has come back meanwhile");
		return 1;
	}
	int rc = ahead_clear(k->r, p->id);
	if (rc == 0)
		rc = catalog_write(k->r->catalog, true, lost_write, &copy);
	snprintf(words, size, "recorded as discarded");
	return rc < 0 ? rc : 1;
}

int repair_draft_leftover(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	char path[64];
	struct stat st;
	commit_clear_staging(k->r, p->id);
	snprintf(path, sizeof path, "drafts/%" PRId64, p->id);
	bool gone = sys_fstatat(k->r->dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == -ENOENT;
	snprintf(words, size, gone ? "cleared away" : "it cannot be cleared away; the log says why");
	return gone;
}

struct aside { struct fsck *k; const struct problem *p; char name[ASIDE_NAME_MAX]; bool removed; };

static int astray_locked(void *arg)
{
	struct aside *a = arg;
	struct catalog_version v;
	int rc = find_version(a->k, a->p->id, &v);
	if (rc != -ENOENT)
		return rc < 0 ? rc : -EAGAIN;
	rc = sys_unlinkat(a->k->r->dirfd, a->p->name, AT_REMOVEDIR);
	a->removed = rc == 0;
	return rc == -ENOTEMPTY || rc == -EEXIST ? aside_put(a->k->r, false, a->p->name, "draft", a->name) : rc;
}

int repair_draft_astray(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	struct aside a = {.k = k, .p = p};
	int rc = catalog_locked(k->r->catalog, astray_locked, &a);
	if (a.removed)
		snprintf(words, size, "it was empty: removed");
	else
		snprintf(words, size, "moved to %s", a.name);
	return rc < 0 ? rc : 1;
}

int repair_stray(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	static const char blobs[] = "blobs/";
	char name[ASIDE_NAME_MAX];
	bool from_blobs = !strncmp(p->name, blobs, sizeof blobs - 1);
	int rc = aside_put(k->r, from_blobs, from_blobs ? p->name + sizeof blobs - 1 : p->name, "stray", name);
	if (rc == -ENOENT) {
		snprintf(words, size, "it is gone meanwhile");
		return 1;
	}
	snprintf(words, size, "moved to %s", name);
	return rc < 0 ? rc : 1;
}
