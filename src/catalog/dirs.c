/* Directories above the versions. */
#include "internal.h"

#include <string.h>

/* In the column `mode` above the permission bits: an older MintFS, which reads nothing there, works with such a catalog. */
#define LIVES_SHIFT 12
#define PERMISSIONS 07777

#define DIR_COLUMNS "SELECT id, coalesce(parent, 0), name, is_model, hidden, uid, gid, mode, mtime_ns FROM dirs "

static int dir_row(struct sql_stmt *st, struct catalog_dir *ret)
{
	struct catalog_dir d = {
		.id = sql_int(st, 0),
		.parent = sql_int(st, 1),
		.is_model = sql_int(st, 3),
		.hidden = sql_int(st, 4),
		.uid = (uid_t)sql_int(st, 5),
		.gid = (gid_t)sql_int(st, 6),
		.mode = (mode_t)(sql_int(st, 7) & PERMISSIONS),
		.lives = (uint32_t)(sql_int(st, 7) >> LIVES_SHIFT) & CATALOG_LIVES_MAX,
		.mtime_ns = sql_int(st, 8),
	};
	sql_copy(st, 2, d.name, sizeof d.name);
	int error = sql_error(st);
	if (!error)
		*ret = d;
	return error;
}

static int64_t mode_column(const struct catalog_dir *d)
{
	return (int64_t)(d->lives & CATALOG_LIVES_MAX) << LIVES_SHIFT | (d->mode & PERMISSIONS);
}

int catalog_dir_get(struct catalog_conn *conn, int64_t id, struct catalog_dir *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, DIR_COLUMNS "WHERE id = ?", id, &st);
	return error ? error : dir_row(st, ret);
}

int catalog_dir_find(struct catalog_conn *conn, int64_t parent, const char *name, struct catalog_dir *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, DIR_COLUMNS "WHERE parent = ? AND name = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, parent);
	sql_bind_text(st, name);
	error = sql_first(st);
	return error ? error : dir_row(st, ret);
}

int catalog_dir_list(struct catalog_conn *conn, int64_t parent, int64_t after, catalog_dir_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	struct catalog_dir d;
	int r = sql_prepare(conn->db, DIR_COLUMNS "WHERE parent = ? AND id > ? AND hidden = 0 ORDER BY id", &st);
	if (r)
		return r;
	sql_bind_int(st, parent);
	sql_bind_int(st, after);
	while ((r = sql_step(st)) > 0) {
		r = dir_row(st, &d);
		if (!r)
			r = fn(&d, arg);
		if (r)
			return r;
	}
	return r;
}

int catalog_dir_add(struct catalog_conn *conn, const struct catalog_dir *d, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	struct catalog_dir parent;
	if (strlen(d->name) == 0)
		return -EINVAL;
	int error = catalog_dir_get(conn, d->parent, &parent);
	if (!error)
		error = sql_prepare(conn->db, "INSERT INTO dirs (parent, name, is_model, hidden, uid, gid, mode, mtime_ns)"
			" VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id", &st);
	if (error)
		return error;
	sql_bind_int(st, d->parent);
	sql_bind_text(st, d->name);
	sql_bind_int(st, d->is_model);
	sql_bind_int(st, d->hidden);
	sql_bind_int(st, d->uid);
	sql_bind_int(st, d->gid);
	sql_bind_int(st, mode_column(d));
	sql_bind_int(st, d->mtime_ns);
	return sql_finish_id(st, ret_id);
}

int catalog_dir_update(struct catalog_conn *conn, const struct catalog_dir *d)
{
	auto_stmt struct sql_stmt *st = NULL;
	struct catalog_dir old;
	int error = catalog_dir_get(conn, d->id, &old);
	if (!error && old.hidden != d->hidden)
		error = numbers_changed(conn->db);
	if (!error)
		error = sql_prepare(conn->db, "UPDATE dirs SET uid = ?, gid = ?, mode = ?, mtime_ns = ?, hidden = ? WHERE id = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, d->uid);
	sql_bind_int(st, d->gid);
	sql_bind_int(st, mode_column(d));
	sql_bind_int(st, d->mtime_ns);
	sql_bind_int(st, d->hidden);
	sql_bind_int(st, d->id);
	return sql_finish(st);
}

/* Does anything stand in the way: a child (a hidden one too), or a version ever minted? */
static int dir_check_empty(struct catalog_conn *conn, int64_t id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, "SELECT EXISTS (SELECT 1 FROM dirs WHERE parent = ?1)"
		" OR EXISTS (SELECT 1 FROM models WHERE id = ?1 AND last_number > 0) FROM dirs WHERE id = ?1", id, &st);
	if (!error && sql_int(st, 0))
		error = -ENOTEMPTY;
	return error;
}

static int delete_by_id(struct catalog_conn *conn, const char *text, int64_t id)
{
	return sql_run_for(conn->db, text, id);
}

int catalog_dir_remove(struct catalog_conn *conn, int64_t id)
{
	int error = dir_check_empty(conn, id);
	if (!error)
		error = delete_by_id(conn, "DELETE FROM models WHERE id = ?", id);
	if (!error)
		error = delete_by_id(conn, "DELETE FROM dirs WHERE id = ?", id);
	return error;
}
