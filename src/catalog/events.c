/* Events. They are written by triggers (steps.c). */
#include "internal.h"

int catalog_event_list(struct catalog_conn *conn, int64_t after, unsigned limit, catalog_event_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT id, at_ns, kind, model_id, number, text FROM events WHERE id > ? ORDER BY id LIMIT ?", &st);
	if (r)
		return r;
	sql_bind_int(st, after);
	sql_bind_int(st, limit);
	while ((r = sql_step(st)) > 0) {
		const struct catalog_event e = {sql_int(st, 0), sql_int(st, 1), sql_text(st, 2), sql_int(st, 3), (uint32_t)sql_int(st, 4), sql_text(st, 5)};
		r = sql_error(st);
		if (!r)
			r = fn(&e, arg);
		if (r)
			return r;
	}
	return r;
}

int catalog_event_last(struct catalog_conn *conn, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "SELECT coalesce(max(id), 0) FROM events", &st);
	if (!error)
		error = sql_first(st);
	if (!error)
		*ret_id = sql_int(st, 0);
	return error;
}
