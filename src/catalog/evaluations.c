/* Evaluations: results of versions on datasets. */
#include "internal.h"

void evaluation_bind(struct sql_stmt *st, const struct catalog_evaluation *e)
{
	sql_bind_int(st, e->version_id);
	sql_bind_int(st, e->dataset_id);
	sql_bind_int(st, e->at_ns);
	sql_bind_int(st, e->uid);
	sql_bind_text(st, e->author);
	sql_bind_text(st, e->metrics);
}

int catalog_evaluation_add(struct catalog_conn *conn, const struct catalog_evaluation *e, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT INTO evaluations (version_id, dataset_id, at_ns, uid, author, metrics) VALUES (?, ?, ?, ?, ?, ?) RETURNING id", &st);
	if (error)
		return error;
	evaluation_bind(st, e);
	return sql_finish_id(st, ret_id);
}

int catalog_evaluation_add_once(struct catalog_conn *conn, const struct catalog_evaluation *e)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT INTO evaluations (version_id, dataset_id, at_ns, uid, author, metrics) SELECT ?1, ?2, ?3, ?4, ?5, ?6"
		" WHERE NOT EXISTS (SELECT 1 FROM evaluations WHERE version_id = ?1 AND dataset_id = ?2 AND at_ns = ?3 AND metrics = ?6)", &st);
	if (error)
		return error;
	evaluation_bind(st, e);
	return sql_finish(st);
}

int catalog_evaluation_list(struct catalog_conn *conn, int64_t version_id, catalog_evaluation_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT id, version_id, dataset_id, at_ns, uid, author, metrics FROM evaluations WHERE version_id = ?1"
		" UNION ALL SELECT id, version_id, dataset_id, at_ns, uid, author, metrics FROM evaluations WHERE dataset_id = ?1 ORDER BY id", &st);
	if (r)
		return r;
	sql_bind_int(st, version_id);
	while ((r = sql_step(st)) > 0) {
		const struct catalog_evaluation e = {sql_int(st, 0), sql_int(st, 1), sql_int(st, 2), sql_int(st, 3), (uid_t)sql_int(st, 4), sql_text(st, 5), sql_text(st, 6)};
		r = sql_error(st);
		if (!r)
			r = fn(&e, arg);
		if (r)
			return r;
	}
	return r;
}
