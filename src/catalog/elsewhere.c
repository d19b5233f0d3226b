/* Versions elsewhere: what a version that came in was made from or evaluated on, where this store does not have it.
 *
 * `elsewhere` names such a version once: model, number and digest as its own store tells them. What refers to it stands in tables of the same form as those for
 * versions that are here, and moves over to them as soon as a version with that digest is committed or taken in. A row that nothing refers to any more goes. */
#include "internal.h"

#include <string.h>

static void bind_digest(struct sql_stmt *st, const struct catalog_elsewhere *e)
{
	if (e->has_digest)
		sql_bind_blob(st, e->digest.sha256, sizeof e->digest.sha256);
	else
		sql_bind_text(st, NULL);
}

static int find_row(struct sql *db, const struct catalog_elsewhere *e, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "SELECT id FROM elsewhere WHERE model = ? AND number = ? AND digest IS ?", &st);
	if (error)
		return error;
	sql_bind_text(st, e->model);
	sql_bind_int(st, e->number);
	bind_digest(st, e);
	error = sql_first(st);
	if (!error)
		*ret_id = sql_int(st, 0);
	return error;
}

int catalog_elsewhere_note(struct catalog_conn *conn, const struct catalog_elsewhere *e, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = find_row(conn->db, e, ret_id);
	if (error != -ENOENT)
		return error;
	error = sql_prepare(conn->db, "INSERT INTO elsewhere (model, number, digest) VALUES (?, ?, ?) RETURNING id", &st);
	if (error)
		return error;
	sql_bind_text(st, e->model);
	sql_bind_int(st, e->number);
	bind_digest(st, e);
	return sql_finish_id(st, ret_id);
}

int catalog_elsewhere_input_add(struct catalog_conn *conn, int64_t version_id, int64_t elsewhere_id, enum catalog_how how)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT INTO elsewhere_inputs (version_id, elsewhere_id, how) VALUES (?, ?, ?)"
		" ON CONFLICT (version_id, elsewhere_id) DO UPDATE SET how = how | excluded.how", &st);
	if (error)
		return error;
	sql_bind_int(st, version_id);
	sql_bind_int(st, elsewhere_id);
	sql_bind_int(st, how);
	return sql_finish(st);
}

int catalog_elsewhere_evaluation_add(struct catalog_conn *conn, const struct catalog_evaluation *e)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT INTO elsewhere_evaluations (version_id, elsewhere_id, at_ns, uid, author, metrics) SELECT ?1, ?2, ?3, ?4, ?5, ?6"
		" WHERE NOT EXISTS (SELECT 1 FROM elsewhere_evaluations WHERE version_id = ?1 AND elsewhere_id = ?2 AND at_ns = ?3 AND metrics = ?6)", &st);
	if (error)
		return error;
	evaluation_bind(st, e);
	return sql_finish(st);
}

/* ---- lists ---- */

static int read_row(struct sql_stmt *st, struct catalog_elsewhere *ret)
{
	const void *digest = sql_blob(st, 3, BLOB_ID_SIZE);
	*ret = (struct catalog_elsewhere){.id = sql_int(st, 0), .model = sql_text(st, 1), .number = (uint32_t)sql_int(st, 2), .has_digest = digest != NULL};
	if (digest)
		memcpy(ret->digest.sha256, digest, BLOB_ID_SIZE);
	return ret->model ? sql_error(st) : -ENOMEM;
}

/* As sql_step. */
static int next(struct sql_stmt *st, struct catalog_elsewhere *ret)
{
	int r = sql_step(st);
	int error = r > 0 ? read_row(st, ret) : 0;
	return error ? error : r;
}

int catalog_elsewhere_input_list(struct catalog_conn *conn, int64_t version_id, catalog_elsewhere_input_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	struct catalog_elsewhere e;
	int r = sql_prepare(conn->db, "SELECT e.id, e.model, e.number, e.digest, i.how FROM elsewhere_inputs i CROSS JOIN elsewhere e ON e.id = i.elsewhere_id"
		" WHERE i.version_id = ? ORDER BY i.elsewhere_id", &st);
	if (r)
		return r;
	sql_bind_int(st, version_id);
	while ((r = next(st, &e)) > 0) {
		r = fn(&e, (enum catalog_how)sql_int(st, 4), arg);
		if (r)
			return r;
	}
	return r;
}

int catalog_elsewhere_evaluation_list(struct catalog_conn *conn, int64_t version_id, catalog_elsewhere_evaluation_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	struct catalog_elsewhere e;
	int r = sql_prepare(conn->db, "SELECT e.id, e.model, e.number, e.digest, x.id, x.at_ns, x.uid, x.author, x.metrics FROM elsewhere_evaluations x"
		" CROSS JOIN elsewhere e ON e.id = x.elsewhere_id WHERE x.version_id = ? ORDER BY x.id", &st);
	if (r)
		return r;
	sql_bind_int(st, version_id);
	while ((r = next(st, &e)) > 0) {
		const struct catalog_evaluation x = {sql_int(st, 4), version_id, e.id, sql_int(st, 5), (uid_t)sql_int(st, 6), sql_text(st, 7), sql_text(st, 8)};
		r = x.metrics ? fn(&e, &x, arg) : -ENOMEM;
		if (r)
			return r;
	}
	return r;
}

int catalog_elsewhere_known(struct catalog_conn *conn, const char *model, uint32_t first, uint32_t last, bool *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "SELECT EXISTS (SELECT 1 FROM elsewhere e JOIN elsewhere_inputs i ON i.elsewhere_id = e.id"
		" WHERE e.model = ? AND e.number >= ? AND e.number <= ?)", &st);
	if (error)
		return error;
	sql_bind_text(st, model);
	sql_bind_int(st, first);
	sql_bind_int(st, last);
	error = sql_first(st);
	if (!error)
		*ret = sql_int(st, 0);
	return error;
}

/* ---- found again ---- */

int catalog_version_find_digest(struct catalog_conn *conn, const struct catalog_elsewhere *e, bool dataset, int64_t except, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "SELECT v.id FROM about a CROSS JOIN versions v ON v.id = a.version_id CROSS JOIN models m ON m.id = v.model_id"
		" WHERE a.digest IS NOT NULL AND a.digest = ?1 AND v.state IN (1, 2) AND v.id <> ?2 AND (?3 = 0 OR m.mode = 3)"
		" ORDER BY m.path = ?4 AND v.number = ?5 DESC, m.path = ?4 DESC, v.state, v.id LIMIT 1", &st);
	if (error)
		return error;
	sql_bind_blob(st, e->digest.sha256, sizeof e->digest.sha256);
	sql_bind_int(st, except);
	sql_bind_int(st, dataset);
	sql_bind_text(st, e->model);
	sql_bind_int(st, e->number);
	error = sql_first(st);
	if (!error)
		*ret_id = sql_int(st, 0);
	return error;
}

static int run_both(struct sql *db, const char *text, int64_t elsewhere_id, int64_t version_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, text, &st);
	if (error)
		return error;
	sql_bind_int(st, elsewhere_id);
	sql_bind_int(st, version_id);
	return sql_finish(st);
}

/* Nothing is made from itself: a version that was made from an equal one elsewhere stays so. */
static int move_inputs(struct sql *db, int64_t from, int64_t to)
{
	int error = run_both(db, "INSERT INTO inputs (version_id, input_id, how) SELECT version_id, ?2, how FROM elsewhere_inputs WHERE elsewhere_id = ?1 AND version_id <> ?2"
		" ON CONFLICT (version_id, input_id) DO UPDATE SET how = how | excluded.how", from, to);
	return error ? error : run_both(db, "DELETE FROM elsewhere_inputs WHERE elsewhere_id = ?1 AND version_id <> ?2", from, to);
}

static int move_evaluations(struct sql *db, int64_t from, int64_t to)
{
	int error = run_both(db, "INSERT INTO evaluations (version_id, dataset_id, at_ns, uid, author, metrics)"
		" SELECT x.version_id, ?2, x.at_ns, x.uid, x.author, x.metrics FROM elsewhere_evaluations x WHERE x.elsewhere_id = ?1 AND NOT EXISTS (SELECT 1 FROM evaluations e"
		" WHERE e.version_id = x.version_id AND e.dataset_id = ?2 AND e.at_ns = x.at_ns AND e.metrics = x.metrics) ORDER BY x.id", from, to);
	return error ? error : sql_run_for(db, "DELETE FROM elsewhere_evaluations WHERE elsewhere_id = ?", from);
}

/* The row goes with the last that refers to it. */
static int join_one(struct catalog_conn *conn, const struct catalog_elsewhere *e)
{
	int64_t to = 0;
	int error = catalog_version_find_digest(conn, e, false, 0, &to);
	if (!error)
		error = move_inputs(conn->db, e->id, to);
	if (error && error != -ENOENT)
		return error;
	error = catalog_version_find_digest(conn, e, true, 0, &to);
	if (!error)
		error = move_evaluations(conn->db, e->id, to);
	if (error && error != -ENOENT)
		return error;
	return sql_run_for(conn->db, "DELETE FROM elsewhere WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM elsewhere_inputs WHERE elsewhere_id = ?1)"
		" AND NOT EXISTS (SELECT 1 FROM elsewhere_evaluations WHERE elsewhere_id = ?1)", e->id);
}

/* The first row with that digest behind `after`; its model belongs to the caller. */
static int next_row(struct sql *db, const struct blob_id *digest, int64_t after, struct catalog_elsewhere *ret, char **ret_model)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "SELECT id, model, number, digest FROM elsewhere WHERE digest IS NOT NULL AND digest = ? AND id > ? ORDER BY id LIMIT 1", &st);
	if (error)
		return error;
	sql_bind_blob(st, digest->sha256, sizeof digest->sha256);
	sql_bind_int(st, after);
	error = sql_first(st);
	if (!error)
		error = read_row(st, ret);
	if (!error)
		ret->model = *ret_model = strdup(ret->model);
	return error ? error : *ret_model ? 0 : -ENOMEM;
}

int catalog_elsewhere_join(struct catalog_conn *conn, const struct blob_id *digest)
{
	struct catalog_elsewhere e = {0};
	int error = 0;
	while (!error) {
		auto_free char *model = NULL;
		error = next_row(conn->db, digest, e.id, &e, &model);
		if (!error)
			error = join_one(conn, &e);
	}
	return error == -ENOENT ? 0 : error;
}
