/* Models, their numbers, and the stamp that tells versions.json when to be written anew. */
#include "internal.h"

#define MODEL_COLUMNS \
	"SELECT m.id, m.mode, m.path, m.key, m.identifier, m.type, m.last_number, m.newest_committed," \
	" m.best_metric, m.best_mode, m.best_named FROM models m "

static int model_row(struct sql_stmt *st, struct catalog_model *ret)
{
	struct catalog_model m = {
		.id = sql_int(st, 0),
		.mode = (int)sql_int(st, 1),
		.last_number = (uint32_t)sql_int(st, 6),
		.newest_committed = (uint32_t)sql_int(st, 7),
		.best_mode = (int)sql_int(st, 9),
		.best_named = sql_int(st, 10),
	};
	sql_copy(st, 2, m.path, sizeof m.path);
	sql_copy(st, 3, m.key, sizeof m.key);
	sql_copy(st, 4, m.identifier, sizeof m.identifier);
	sql_copy(st, 5, m.type, sizeof m.type);
	sql_copy(st, 8, m.best_metric, sizeof m.best_metric);
	int error = sql_error(st);
	if (!error)
		*ret = m;
	return error;
}

int catalog_model_get(struct catalog_conn *conn, int64_t id, struct catalog_model *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, MODEL_COLUMNS "WHERE m.id = ?", id, &st);
	return error ? error : model_row(st, ret);
}

int catalog_model_find(struct catalog_conn *conn, const char *path, struct catalog_model *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, MODEL_COLUMNS "WHERE m.path = ?", &st);
	if (error)
		return error;
	sql_bind_text(st, path);
	error = sql_first(st);
	return error ? error : model_row(st, ret);
}

int catalog_model_find_key(struct catalog_conn *conn, const char *key, struct catalog_model *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, MODEL_COLUMNS "WHERE m.key = ?", &st);
	if (error)
		return error;
	sql_bind_text(st, key);
	error = sql_first(st);
	return error ? error : model_row(st, ret);
}

int catalog_model_add(struct catalog_conn *conn, const struct catalog_model *m)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT INTO models (id, mode, path, key, identifier, type, last_number, newest_committed,"
		" best_metric, best_mode, best_named) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", &st);
	if (error)
		return error;
	sql_bind_int(st, m->id);
	sql_bind_int(st, m->mode);
	sql_bind_text(st, m->path);
	sql_bind_text(st, m->key);
	sql_bind_text(st, m->identifier);
	sql_bind_text(st, m->type);
	sql_bind_int(st, m->last_number);
	sql_bind_int(st, m->newest_committed);
	sql_bind_text(st, m->best_metric);
	sql_bind_int(st, m->best_mode);
	sql_bind_int(st, m->best_named);
	return sql_finish(st);
}

/* last_number never sinks, whatever the caller last knew: numbers are never used again. */
int catalog_model_update(struct catalog_conn *conn, const struct catalog_model *m)
{
	auto_stmt struct sql_stmt *st = NULL;
	struct catalog_model old;
	int error = catalog_model_get(conn, m->id, &old);
	if (!error && old.newest_committed != m->newest_committed)
		error = numbers_changed(conn->db);
	if (!error)
		error = sql_prepare(conn->db, "UPDATE models SET last_number = max(last_number, ?), newest_committed = ?,"
			" best_metric = ?, best_mode = ?, best_named = ? WHERE id = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, m->last_number);
	sql_bind_int(st, m->newest_committed);
	sql_bind_text(st, m->best_metric);
	sql_bind_int(st, m->best_mode);
	sql_bind_int(st, m->best_named);
	sql_bind_int(st, m->id);
	return sql_finish(st);
}

int catalog_model_list(struct catalog_conn *conn, catalog_model_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	struct catalog_model m;
	int r = sql_prepare(conn->db, MODEL_COLUMNS "JOIN dirs d ON d.id = m.id WHERE d.hidden = 0 ORDER BY m.path", &st);
	if (r)
		return r;
	while ((r = sql_step(st)) > 0) {
		r = model_row(st, &m);
		if (!r)
			r = fn(&m, arg);
		if (r)
			return r;
	}
	return r;
}

int catalog_model_numbers(struct catalog_conn *conn, catalog_number_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT m.key, m.newest_committed FROM models m JOIN dirs d ON d.id = m.id"
		" WHERE m.newest_committed > 0 AND d.hidden = 0 ORDER BY m.key", &st);
	if (r)
		return r;
	while ((r = sql_step(st)) > 0) {
		const char *key = sql_text(st, 0);
		r = key ? fn(key, (uint32_t)sql_int(st, 1), arg) : -ENOMEM;
		if (r)
			return r;
	}
	return r;
}

int catalog_numbers_stamp(struct catalog_conn *conn, int64_t *ret_stamp)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "SELECT value FROM meta WHERE name = 'numbers_stamp'", &st);
	if (!error)
		error = sql_first(st);
	if (!error)
		*ret_stamp = sql_int(st, 0);
	return error;
}

int numbers_changed(struct sql *db)
{
	return sql_run(db, "UPDATE meta SET value = value + 1 WHERE name = 'numbers_stamp'");
}
