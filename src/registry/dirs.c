/* Directories above the versions: made, removed, changed; each model has one.
 *
 * A model whose numbers were used is hidden, not deleted, when its directory is removed: made again, it goes on counting. */
#include "registry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int path_of(struct catalog_conn *conn, int64_t id, char *out, size_t size)
{
	char text[CATALOG_PATH_MAX];
	size_t at = sizeof text - 1;
	text[at] = '\0';
	for (int depth = 0; id != CATALOG_DIR_ROOT; depth++) {
		struct catalog_dir d;
		int rc = catalog_dir_get(conn, id, &d);
		if (rc < 0)
			return rc;
		size_t len = strlen(d.name), need = len + (text[at] != '\0');
		if (depth > LAYOUT_DEPTH_MAX || need > at)
			return -ENAMETOOLONG;
		if (text[at] != '\0')
			text[--at] = '/';
		at -= len;
		memcpy(text + at, d.name, len);
		id = d.parent;
	}
	return text_copy(out, size, text + at);
}

int registry_dir_path(struct registry *r, int64_t id, char *out, size_t size)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	return rc < 0 ? rc : path_of(conn, id, out, size);
}

static int touch(struct catalog_conn *conn, int64_t id, int64_t now)
{
	struct catalog_dir d;
	int rc = catalog_dir_get(conn, id, &d);
	if (rc < 0)
		return rc;
	d.mtime_ns = now;
	return catalog_dir_update(conn, &d);
}

struct make_job {
	const struct registry_actor *who;
	struct catalog_dir dir;
	struct layout_model layout;
	enum layout_kind kind;
	struct fault fault;
};

static int check_key(struct catalog_conn *conn, struct make_job *j)
{
	struct catalog_model other;
	int rc = catalog_model_find_key(conn, j->layout.key, &other);
	if (rc == 0 && strcmp(other.path, j->layout.path) != 0)
		return refuse(&j->fault, VERDICT_KEY_TAKEN, "its key would be that of %s, %s: choose ids that do not run together", other.path, other.key);
	return rc == -ENOENT ? 0 : rc;
}

static int add_model(struct catalog_conn *conn, struct make_job *j)
{
	struct catalog_model m = {.id = j->dir.id, .mode = (int)j->layout.mode};
	text_copy(m.path, sizeof m.path, j->layout.path);
	text_copy(m.key, sizeof m.key, j->layout.key);
	text_copy(m.identifier, sizeof m.identifier, j->layout.identifier);
	text_copy(m.type, sizeof m.type, j->layout.type);
	return catalog_model_add(conn, &m);
}

static int make_write(struct catalog_conn *conn, void *arg)
{
	struct make_job *j = arg;
	struct catalog_dir parent, old;
	j->fault = (struct fault)FAULT_INIT;
	int rc = catalog_dir_get(conn, j->dir.parent, &parent);
	if (rc < 0 || parent.hidden)
		return rc < 0 ? rc : -ENOENT; /* removed since it was looked up */
	if (parent.mode & S_ISGID) { /* as on any file system: the group goes down the tree */
		j->dir.gid = parent.gid;
		j->dir.mode |= S_ISGID;
	}
	rc = catalog_dir_find(conn, j->dir.parent, j->dir.name, &old);
	if (rc == 0 && !old.hidden)
		return refuse(&j->fault, VERDICT_EXISTS, "%s exists", j->dir.name);
	if (rc == 0) { /* hidden: comes back and goes on counting */
		j->dir.id = old.id;
		j->dir.lives = (old.lives + 1) & CATALOG_LIVES_MAX;
		rc = catalog_dir_update(conn, &j->dir);
		return rc < 0 ? rc : touch(conn, j->dir.parent, j->dir.mtime_ns);
	}
	if (rc != -ENOENT)
		return rc;
	if (j->kind == LAYOUT_MODEL && (rc = check_key(conn, j)) < 0)
		return rc;
	rc = catalog_dir_add(conn, &j->dir, &j->dir.id);
	if (rc == 0 && j->kind == LAYOUT_MODEL)
		rc = add_model(conn, j);
	return rc < 0 ? rc : touch(conn, j->dir.parent, j->dir.mtime_ns);
}

int registry_dir_make(struct registry *r, const struct registry_actor *who, int64_t parent, const char *name, mode_t mode, struct catalog_dir *ret,
	struct fault *f)
{
	char path[CATALOG_PATH_MAX + CATALOG_NAME_MAX];
	struct make_job j = {.who = who, .dir = {.parent = parent, .uid = who->uid, .gid = who->gid, .mode = mode & 03777, .mtime_ns = time_now_ns()}};
	if (r->read_only)
		return refuse(f, VERDICT_READ_ONLY, "the drive is mounted read-only: %s cannot be made", name);
	int rc = registry_dir_path(r, parent, path, CATALOG_PATH_MAX);
	if (rc < 0)
		return refuse_system(f, rc, "%s cannot be made", name);
	size_t len = strlen(path);
	if (text_copy(j.dir.name, sizeof j.dir.name, name) < 0) {
		refuse(f, VERDICT_NAME, "the name %.40s… is longer than %d bytes", name, CATALOG_NAME_MAX - 1);
		return -ENAMETOOLONG;
	}
	snprintf(path + len, sizeof path - len, "%s%s", len ? "/" : "", name);
	rc = layout_classify(path, &j.kind, &j.layout, f);
	if (rc < 0) {
		if (f)
			f->verdict = VERDICT_NAME;
		return rc;
	}
	j.dir.is_model = j.kind == LAYOUT_MODEL;
	rc = catalog_write(r->catalog, false, make_write, &j);
	if (rc < 0) {
		if (f && j.fault.error)
			*f = j.fault;
		return refuse_system(f, rc, "cannot make %s", path);
	}
	*ret = j.dir;
	return 0;
}

/* ---- a whole path, within a transaction of somebody else's ---- */

static int ensure_one(struct catalog_conn *conn, const struct catalog_dir *attrs, int64_t parent, const char *path, const char *name, int64_t *ret_id, struct fault *f)
{
	struct make_job j = {.dir = *attrs};
	struct catalog_dir old;
	int rc = catalog_dir_find(conn, parent, name, &old);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (rc == 0 && !old.hidden) {
		*ret_id = old.id;
		return 0;
	}
	rc = layout_classify(path, &j.kind, &j.layout, f);
	if (rc < 0) {
		if (f)
			f->verdict = VERDICT_NAME;
		return rc;
	}
	j.dir.parent = parent;
	j.dir.is_model = j.kind == LAYOUT_MODEL;
	text_copy(j.dir.name, sizeof j.dir.name, name); /* the grammar has measured it */
	rc = make_write(conn, &j);
	if (rc < 0 && f && j.fault.error)
		*f = j.fault;
	*ret_id = j.dir.id;
	return rc;
}

int dirs_ensure_model(struct catalog_conn *conn, const struct catalog_dir *attrs, const char *path, int64_t *ret_id, struct fault *f)
{
	char begin[CATALOG_PATH_MAX], name[CATALOG_NAME_MAX];
	int64_t id = CATALOG_DIR_ROOT;
	for (const char *p = path, *slash; *p; p = slash + (*slash == '/')) {
		size_t len = strcspn(p, "/");
		slash = p + len;
		if (len >= sizeof name || (size_t)(slash - path) >= sizeof begin)
			return -ENAMETOOLONG;
		memcpy(name, p, len);
		name[len] = '\0';
		memcpy(begin, path, (size_t)(slash - path));
		begin[slash - path] = '\0';
		int rc = ensure_one(conn, attrs, id, begin, name, &id, f);
		if (rc < 0)
			return rc;
	}
	*ret_id = id;
	return 0;
}

/* ---- remove ---- */

struct remove_job { int64_t parent; const char *name; int64_t now; struct fault fault; };

static int stop_at_first(const struct catalog_dir *d, void *arg) { return 1; }
static int stop_at_version(const struct catalog_version *v, const struct catalog_version_text *text, void *arg)
{
	*(uint32_t *)arg = v->number;
	return 1;
}

static int check_removable(struct catalog_conn *conn, const struct catalog_dir *d, struct fault *f)
{
	uint32_t number = 0;
	if (d->parent == CATALOG_DIR_ROOT)
		return refuse(f, VERDICT_PLACE, "%s belongs to the layout of the drive and stays", d->name);
	struct catalog_version_list q = {.model_id = d->id, .states = 1u << CATALOG_DRAFT | 1u << CATALOG_COMMITTED | 1u << CATALOG_RETIRED};
	int rc = d->is_model ? catalog_version_list(conn, &q, stop_at_version, &number) : catalog_dir_list(conn, d->id, 0, stop_at_first, NULL);
	if (rc > 0 && number)
		return refuse(f, VERDICT_NOT_EMPTY, "the model %s has versions (v%u): it stays", d->name, number);
	return rc > 0 ? refuse(f, VERDICT_NOT_EMPTY, "%s is not empty", d->name) : rc;
}

static int remove_write(struct catalog_conn *conn, void *arg)
{
	struct remove_job *j = arg;
	struct catalog_dir d;
	j->fault = (struct fault)FAULT_INIT;
	int rc = catalog_dir_find(conn, j->parent, j->name, &d);
	if (rc < 0 || d.hidden)
		return rc < 0 ? rc : -ENOENT;
	if ((rc = check_removable(conn, &d, &j->fault)) < 0)
		return rc;
	rc = catalog_dir_remove(conn, d.id);
	if (rc == -ENOTEMPTY) { /* only numbers that must not come again */
		d.hidden = true;
		rc = catalog_dir_update(conn, &d);
	}
	return rc < 0 ? rc : touch(conn, j->parent, j->now);
}

int registry_dir_remove(struct registry *r, int64_t parent, const char *name, struct fault *f)
{
	struct remove_job j = {.parent = parent, .name = name, .now = time_now_ns()};
	if (r->read_only)
		return refuse(f, VERDICT_READ_ONLY, "the drive is mounted read-only: %s cannot be removed", name);
	int rc = catalog_write(r->catalog, false, remove_write, &j);
	if (rc < 0 && f && j.fault.error)
		*f = j.fault;
	return rc < 0 ? refuse_system(f, rc, "cannot remove %s", name) : 0;
}

/* ---- attributes ---- */

struct set_job { int64_t id; unsigned what; const struct catalog_dir *values; struct catalog_dir result; };

static int set_write(struct catalog_conn *conn, void *arg)
{
	struct set_job *j = arg;
	int rc = catalog_dir_get(conn, j->id, &j->result);
	if (rc < 0)
		return rc;
	if (j->what & REGISTRY_SET_MODE)
		j->result.mode = j->values->mode & 03777;
	if (j->what & REGISTRY_SET_UID)
		j->result.uid = j->values->uid;
	if (j->what & REGISTRY_SET_GID)
		j->result.gid = j->values->gid;
	if (j->what & REGISTRY_SET_MTIME)
		j->result.mtime_ns = j->values->mtime_ns;
	return catalog_dir_update(conn, &j->result);
}

int registry_dir_set(struct registry *r, int64_t id, unsigned what, const struct catalog_dir *values, struct catalog_dir *ret)
{
	struct set_job j = {.id = id, .what = what, .values = values};
	if (r->read_only)
		return -EROFS;
	int rc = catalog_write(r->catalog, false, set_write, &j);
	if (rc == 0)
		*ret = j.result;
	return rc;
}
