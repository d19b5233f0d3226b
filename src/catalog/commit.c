/* The moment of commit: a draft becomes a committed version, in the caller's transaction.
 *
 * The entries come in breadth-first order and get consecutive ids, so an index into the caller's array is an id less a base. Nothing else
 * writes in between: there is one transaction at a time in a store. */
#include "internal.h"

#include <math.h>
#include <string.h>

static int check_entry(const struct catalog_commit *c, size_t i)
{
	const struct catalog_entry *e = &c->entries[i];
	size_t len = strlen(e->name);
	if (len == 0 || len >= CATALOG_NAME_MAX || strchr(e->name, '/'))
		return -EINVAL;
	if (e->type != CATALOG_FILE && e->type != CATALOG_DIRECTORY && e->type != CATALOG_SYMLINK)
		return -EINVAL;
	if ((e->parent < 0) != (i < c->n_top) || e->parent >= (int64_t)i)
		return -EINVAL;
	if (e->parent >= 0) {
		const struct catalog_entry *up = &c->entries[e->parent];
		if (up->type != CATALOG_DIRECTORY || (int64_t)i < up->first_child || (int64_t)i - up->first_child >= up->n_children)
			return -EINVAL;
	}
	if (e->inode < 0 || e->inode > (int64_t)i || (e->type == CATALOG_SYMLINK && !e->target))
		return -EINVAL;
	if (e->type == CATALOG_DIRECTORY && e->n_children > 0
		&& (e->first_child <= (int64_t)i || e->first_child + e->n_children > (int64_t)c->n_entries))
		return -EINVAL;
	return 0;
}

static int check_entries(const struct catalog_commit *c)
{
	if (c->n_top > c->n_entries)
		return -EINVAL;
	for (size_t i = 0; i < c->n_entries; i++) {
		int error = check_entry(c, i);
		if (error)
			return error;
	}
	return 0;
}

static int blob_find(struct sql *db, const struct blob_id *id, int64_t *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "SELECT id FROM blobs WHERE sha256 = ?", &st);
	if (error)
		return error;
	sql_bind_blob(st, id->sha256, sizeof id->sha256);
	error = sql_first(st);
	if (!error)
		*ret = sql_int(st, 0);
	return error;
}

static int blob_note(struct sql *db, const struct catalog_entry *e, int64_t *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = blob_find(db, &e->blob, ret);
	if (error != -ENOENT)
		return error;
	error = sql_prepare(db, "INSERT INTO blobs (sha256, size) VALUES (?, ?) RETURNING id", &st);
	if (error)
		return error;
	sql_bind_blob(st, e->blob.sha256, sizeof e->blob.sha256);
	sql_bind_int(st, (int64_t)e->size);
	return sql_finish_id(st, ret);
}

/* The statement makes nulls of an inode that is the entry's own and of blob 0: they cost a byte less in each of many rows. */
static int add_entry(struct sql_stmt *st, const struct catalog_commit *c, int64_t base, size_t i, int64_t blob)
{
	const struct catalog_entry *e = &c->entries[i];
	sql_rewind(st);
	sql_bind_int(st, base + (int64_t)i);
	sql_bind_int(st, c->version_id);
	sql_bind_int(st, e->parent < 0 ? -c->version_id : base + e->parent);
	sql_bind_text(st, e->name);
	sql_bind_int(st, e->type);
	sql_bind_int(st, e->mode & 07777);
	sql_bind_int(st, e->uid);
	sql_bind_int(st, e->gid);
	sql_bind_int(st, (int64_t)e->size);
	sql_bind_int(st, (int64_t)e->blocks);
	sql_bind_int(st, e->mtime_ns);
	sql_bind_int(st, e->nlink);
	sql_bind_int(st, base + e->inode);
	sql_bind_int(st, e->n_children ? base + e->first_child : 0);
	sql_bind_int(st, e->n_children);
	sql_bind_int(st, blob);
	sql_bind_text(st, e->type == CATALOG_SYMLINK ? e->target : NULL);
	return sql_finish(st);
}

/* files.id counts on by itself (sqlite_sequence remembers ids of rows long gone); *ret_base is the next one. */
static int next_file_id(struct sql *db, int64_t *ret_base)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "SELECT seq FROM sqlite_sequence WHERE name = 'files'", &st);
	if (!error)
		error = sql_first(st);
	if (error && error != -ENOENT)
		return error;
	*ret_base = error ? 1 : sql_int(st, 0) + 1;
	return 0;
}

static int add_entries(struct sql *db, const struct catalog_commit *c, int64_t base)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "INSERT INTO files (id, version_id, parent, name, type, mode, uid, gid, size, blocks, mtime_ns, nlink,"
		" inode, first_child, n_children, blob, target)"
		" VALUES (?1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, ?1), ?, ?, nullif(?, 0), ?)", &st);
	for (size_t i = 0; !error && i < c->n_entries; i++) {
		int64_t blob = 0;
		if (c->entries[i].type == CATALOG_FILE)
			error = blob_note(db, &c->entries[i], &blob);
		if (!error)
			error = add_entry(st, c, base, i, blob);
	}
	return error;
}

static int add_metrics(struct sql *db, const struct catalog_commit *c, const struct catalog_version *v)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = c->n_metrics == 0 ? 0
		: sql_prepare(db, "INSERT OR REPLACE INTO metrics (model_id, number, name, value) VALUES (?, ?, ?, ?)", &st);
	for (size_t i = 0; !error && i < c->n_metrics; i++) {
		const struct catalog_metric *m = &c->metrics[i];
		if (strlen(m->name) >= CATALOG_NAME_MAX || !isfinite(m->value))
			continue;
		sql_rewind(st);
		sql_bind_int(st, v->model_id);
		sql_bind_int(st, v->number);
		sql_bind_text(st, m->name);
		sql_bind_real(st, m->value);
		error = sql_finish(st);
	}
	return error;
}

static int update_version(struct sql *db, const struct catalog_commit *c, int64_t base)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "UPDATE versions SET state = 1, owner = 0, reason = NULL, committed_ns = ?, mtime_ns = ?,"
		" uid = ?, gid = ?, mode = ?, size = ?, n_files = ?, n_dirs = ?, first_child = ?, n_children = ?, n_entries = ?,"
		" message = ?, metrics_summary = ? WHERE id = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, c->committed_ns);
	sql_bind_int(st, c->mtime_ns);
	sql_bind_int(st, c->uid);
	sql_bind_int(st, c->gid);
	sql_bind_int(st, c->mode & 07777);
	sql_bind_int(st, (int64_t)c->size);
	sql_bind_int(st, c->n_files);
	sql_bind_int(st, c->n_dirs);
	sql_bind_int(st, c->n_entries ? base : 0);
	sql_bind_int(st, c->n_top);
	sql_bind_int(st, (int64_t)c->n_entries);
	sql_bind_text(st, c->message);
	sql_bind_text(st, c->metrics_summary);
	sql_bind_int(st, c->version_id);
	return sql_finish(st);
}

static int update_model(struct sql *db, const struct catalog_version *v)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "UPDATE models SET newest_committed = max(newest_committed, ?) WHERE id = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, v->number);
	sql_bind_int(st, v->model_id);
	error = sql_finish(st);
	return error ? error : numbers_changed(db);
}

int catalog_version_commit(struct catalog_conn *conn, const struct catalog_commit *c)
{
	struct catalog_version v;
	int64_t base = 0;
	int error = check_entries(c);
	if (!error)
		error = catalog_version_get(conn, c->version_id, &v);
	if (!error && v.state != CATALOG_DRAFT)
		error = -ESTALE;
	if (!error)
		error = next_file_id(conn->db, &base);
	if (!error)
		error = add_entries(conn->db, c, base);
	if (!error)
		error = absent_returned(conn->db, base, c->n_entries);
	if (!error)
		error = add_metrics(conn->db, c, &v);
	if (!error)
		error = update_version(conn->db, c, base);
	return error ? error : update_model(conn->db, &v);
}

/* The metric's extreme value is the first or last entry of metrics_best; the lowest number stands first among equal values. */
int catalog_best(struct catalog_conn *conn, int64_t model_id, uint32_t *ret_number)
{
	auto_stmt struct sql_stmt *model = NULL, *st = NULL;
	int error = sql_find(conn->db, "SELECT best_metric, best_mode FROM models WHERE id = ?", model_id, &model);
	if (error)
		return error;
	switch (sql_int(model, 1)) {
	case 1: /* METADATA_BEST_MIN */
		error = sql_prepare(conn->db, "SELECT number FROM metrics WHERE model_id = ?1 AND name = ?2 ORDER BY value, number LIMIT 1", &st);
		break;
	case 2: /* METADATA_BEST_MAX */
		error = sql_prepare(conn->db, "SELECT number FROM metrics WHERE model_id = ?1 AND name = ?2 AND value ="
			" (SELECT max(value) FROM metrics WHERE model_id = ?1 AND name = ?2) ORDER BY number LIMIT 1", &st);
		break;
	default:
		error = -ENOENT;
	}
	if (error)
		return error;
	sql_bind_int(st, model_id);
	sql_bind_text(st, sql_text(model, 0));
	error = sql_first(st);
	if (!error)
		*ret_number = (uint32_t)sql_int(st, 0);
	return error;
}
