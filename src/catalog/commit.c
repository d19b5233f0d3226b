/* The moment of commit: a draft becomes a committed version, in the caller's transaction. Its entries go in with it, or went in ahead (entries.c). */
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

int commit_check_entries(const struct catalog_commit *c)
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

/* The ids of the entries, which are there when this returns. */
static int settle_entries(struct sql *db, const struct catalog_commit *c, int64_t *ret_base)
{
	if (c->ahead)
		return entries_ahead_whole(db, c, *ret_base = c->ahead);
	int error = entries_next_id(db, c->n_entries, ret_base);
	return error ? error : entries_add(db, c, *ret_base, 0, c->n_entries);
}

int catalog_version_commit(struct catalog_conn *conn, const struct catalog_commit *c)
{
	struct catalog_version v;
	int64_t base = 0;
	int error = c->ahead ? 0 : commit_check_entries(c);
	if (!error)
		error = catalog_version_get(conn, c->version_id, &v);
	if (!error && v.state != CATALOG_DRAFT)
		error = -ESTALE;
	if (!error)
		error = settle_entries(conn->db, c, &base);
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
