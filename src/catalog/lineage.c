/* Lineage: the edges between versions. An edge stays whatever becomes of its ends; only what was discarded does not count as made. */
#include "internal.h"


const char *catalog_how_name(enum catalog_how how)
{
	switch (how) {
	case CATALOG_OBSERVED: return "observed";
	case CATALOG_DECLARED: return "declared";
	case CATALOG_BOTH: return "both";
	}
	return "unknown";
}

int catalog_input_add(struct catalog_conn *conn, int64_t version_id, int64_t input_id, enum catalog_how how)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT INTO inputs (version_id, input_id, how) VALUES (?, ?, ?)"
		" ON CONFLICT (version_id, input_id) DO UPDATE SET how = how | excluded.how", &st);
	if (error)
		return error;
	sql_bind_int(st, version_id);
	sql_bind_int(st, input_id);
	sql_bind_int(st, how);
	return sql_finish(st);
}

int catalog_input_unknown_add(struct catalog_conn *conn, int64_t version_id, const char *text, const char *reason)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT OR REPLACE INTO inputs_unknown (version_id, text, reason) VALUES (?, ?, ?)", &st);
	if (error)
		return error;
	sql_bind_int(st, version_id);
	sql_bind_text(st, text);
	sql_bind_text(st, reason);
	return sql_finish(st);
}

int catalog_input_unknown_drop(struct catalog_conn *conn, int64_t version_id, const char *text)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "DELETE FROM inputs_unknown WHERE version_id = ? AND text = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, version_id);
	sql_bind_text(st, text);
	return sql_finish(st);
}

static int count_by(struct sql *db, const char *text, int64_t version_id, int64_t *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = ret ? sql_find(db, text, version_id, &st) : 0;
	if (!error && ret)
		*ret = sql_int(st, 0);
	return error;
}

int catalog_lineage_count(struct catalog_conn *conn, int64_t version_id, int64_t *ret_inputs, int64_t *ret_outputs)
{
	int error = count_by(conn->db, "SELECT count(*) FROM inputs WHERE version_id = ?", version_id, ret_inputs);
	return error ? error : count_by(conn->db, "SELECT count(*) FROM inputs i JOIN versions v ON v.id = i.version_id"
		" WHERE i.input_id = ? AND v.state <> 3", version_id, ret_outputs);
}

int catalog_lineage_list(struct catalog_conn *conn, int64_t version_id, bool down, catalog_edge_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = down ? sql_prepare(conn->db, "SELECT v.id, i.how, v.number, v.state, m.path FROM inputs i CROSS JOIN versions v ON v.id = i.version_id"
			" CROSS JOIN models m ON m.id = v.model_id WHERE i.input_id = ? AND v.state <> 3 ORDER BY i.version_id", &st)
		: sql_prepare(conn->db, "SELECT v.id, i.how, v.number, v.state, m.path FROM inputs i CROSS JOIN versions v ON v.id = i.input_id"
			" CROSS JOIN models m ON m.id = v.model_id WHERE i.version_id = ? ORDER BY i.input_id", &st);
	if (r)
		return r;
	sql_bind_int(st, version_id);
	while ((r = sql_step(st)) > 0) {
		struct catalog_edge e = {sql_int(st, 0), (enum catalog_how)sql_int(st, 1), (uint32_t)sql_int(st, 2), (enum catalog_state)sql_int(st, 3), sql_text(st, 4)};
		r = e.model ? fn(&e, arg) : -ENOMEM;
		if (r)
			return r;
	}
	return r;
}

int catalog_input_unknown_list(struct catalog_conn *conn, int64_t version_id, catalog_unknown_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT text, reason FROM inputs_unknown WHERE version_id = ? ORDER BY text", &st);
	if (r)
		return r;
	sql_bind_int(st, version_id);
	while ((r = sql_step(st)) > 0) {
		const char *text = sql_text(st, 0), *reason = sql_text(st, 1);
		r = text && reason ? fn(text, reason, arg) : -ENOMEM;
		if (r)
			return r;
	}
	return r;
}

int catalog_lineage_known(struct catalog_conn *conn, int64_t version_id, bool *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, "SELECT EXISTS (SELECT 1 FROM inputs WHERE version_id = ?1) OR EXISTS (SELECT 1 FROM inputs_unknown WHERE version_id = ?1)"
		" OR EXISTS (SELECT 1 FROM elsewhere_inputs WHERE version_id = ?1)", version_id, &st);
	if (!error)
		*ret = sql_int(st, 0);
	return error;
}

/* ---- stale ---- */

#define STALE_INPUTS \
	" CROSS JOIN models m ON m.id = v.model_id CROSS JOIN inputs i ON i.version_id = v.id CROSS JOIN versions iv ON iv.id = i.input_id" \
	" CROSS JOIN models im ON im.id = iv.model_id" \
	" WHERE v.state = 1 AND im.newest_committed > iv.number AND im.id <> m.id AND substr(m.path, 1, length(?)) = ?"

static int stale_rows(struct sql_stmt *st, const char *prefix, catalog_stale_fn *fn, void *arg)
{
	int r;
	sql_bind_text(st, prefix);
	sql_bind_text(st, prefix);
	while ((r = sql_step(st)) > 0) {
		struct catalog_stale s = {sql_text(st, 0), (uint32_t)sql_int(st, 1), sql_text(st, 2), sql_text(st, 3), (uint32_t)sql_int(st, 4), (uint32_t)sql_int(st, 5)};
		r = s.model && s.input_model ? fn(&s, arg) : -ENOMEM;
		if (r)
			return r;
	}
	return r;
}

int catalog_stale_list(struct catalog_conn *conn, const char *prefix, bool all, catalog_stale_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *aliased = NULL, *others = NULL;
	int r = sql_prepare_once(conn->db, "SELECT m.path, v.number, a.name, im.path, iv.number, im.newest_committed FROM aliases a"
		" CROSS JOIN versions v ON v.model_id = a.model_id AND v.number = a.number" STALE_INPUTS " ORDER BY m.path, a.name, im.path", &aliased);
	if (!r)
		r = stale_rows(aliased, prefix, fn, arg);
	if (r)
		return r;
	r = all ? sql_prepare_once(conn->db, "SELECT m.path, v.number, NULL, im.path, iv.number, im.newest_committed FROM versions v" STALE_INPUTS
			" AND NOT EXISTS (SELECT 1 FROM aliases a WHERE a.model_id = v.model_id AND a.number = v.number) ORDER BY m.path, v.number DESC, im.path", &others)
		: sql_prepare_once(conn->db, "SELECT m.path, v.number, NULL, im.path, iv.number, im.newest_committed FROM models nm"
			" CROSS JOIN versions v ON v.model_id = nm.id AND v.number = nm.newest_committed" STALE_INPUTS
			" AND NOT EXISTS (SELECT 1 FROM aliases a WHERE a.model_id = v.model_id AND a.number = v.number) ORDER BY m.path, im.path", &others);
	return r ? r : stale_rows(others, prefix, fn, arg);
}
