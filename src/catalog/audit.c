/* Facts for fsck, side by side: what a row says and what others say of the same thing. Nothing is judged here. And the parts of the catalog that are
 * derived from others, made anew within the caller's transaction, from what stands there then. */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- the database itself ---- */

int catalog_audit_pages(struct catalog_conn *conn, catalog_text_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "PRAGMA integrity_check(100)", &st);
	if (r)
		return r;
	while ((r = sql_step(st)) > 0) {
		const char *text = sql_text(st, 0);
		if (text && strcmp(text, "ok") == 0)
			continue;
		r = fn(text ? text : "damaged", arg);
		if (r)
			return r;
	}
	return r;
}

int catalog_audit_blobs(struct catalog_conn *conn)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "PRAGMA integrity_check(blobs)", &st);
	if (r)
		return r;
	r = sql_step(st);
	if (r <= 0)
		return r < 0 ? r : -EUCLEAN;
	const char *text = sql_text(st, 0);
	return text && strcmp(text, "ok") == 0 ? 0 : -EUCLEAN;
}

int catalog_audit_links(struct catalog_conn *conn, catalog_text_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "PRAGMA foreign_key_check", &st);
	if (r)
		return r;
	while ((r = sql_step(st)) > 0) {
		char text[256];
		const char *table = sql_text(st, 0), *parent = sql_text(st, 2);
		snprintf(text, sizeof text, "row %lld of %s refers to a row of %s that is not there", (long long)sql_int(st, 1), table ? table : "?",
			parent ? parent : "?");
		r = fn(text, arg);
		if (r)
			return r;
	}
	return r;
}

/* ---- models and aliases ---- */

static int model_facts_row(struct sql_stmt *st, struct catalog_model_facts *ret)
{
	struct catalog_model_facts x = {.m = {.id = sql_int(st, 0), .mode = (int)sql_int(st, 1), .last_number = (uint32_t)sql_int(st, 6),
		.newest_committed = (uint32_t)sql_int(st, 7), .best_mode = (int)sql_int(st, 9), .best_named = sql_int(st, 10)},
		.max_number = (uint32_t)sql_int(st, 11), .max_committed = (uint32_t)sql_int(st, 12)};
	sql_copy(st, 2, x.m.path, sizeof x.m.path);
	sql_copy(st, 3, x.m.key, sizeof x.m.key);
	sql_copy(st, 4, x.m.identifier, sizeof x.m.identifier);
	sql_copy(st, 5, x.m.type, sizeof x.m.type);
	sql_copy(st, 8, x.m.best_metric, sizeof x.m.best_metric);
	int error = sql_error(st);
	if (!error)
		*ret = x;
	return error;
}

int catalog_audit_models(struct catalog_conn *conn, int64_t after, unsigned limit, catalog_model_facts_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT m.id, m.mode, m.path, m.key, m.identifier, m.type, m.last_number, m.newest_committed,"
		" m.best_metric, m.best_mode, m.best_named,"
		" coalesce((SELECT max(number) FROM versions WHERE model_id = m.id), 0),"
		" coalesce((SELECT number FROM versions INDEXED BY versions_number WHERE model_id = m.id AND state = 1 ORDER BY number DESC LIMIT 1), 0)"
		" FROM models m WHERE m.id > ? ORDER BY m.id LIMIT ?", &st);
	if (r)
		return r;
	sql_bind_int(st, after);
	sql_bind_int(st, limit);
	while ((r = sql_step(st)) > 0) {
		struct catalog_model_facts x;
		r = model_facts_row(st, &x);
		if (!r)
			r = fn(&x, arg);
		if (r)
			return r;
	}
	return r;
}

int catalog_audit_aliases(struct catalog_conn *conn, catalog_alias_facts_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT a.id, a.model_id, a.name, a.number, a.uid, a.gid, a.set_ns, v.state FROM aliases a"
		" LEFT JOIN versions v ON v.model_id = a.model_id AND v.number = a.number WHERE v.state IS NOT 1 ORDER BY a.id", &st);
	if (r)
		return r;
	while ((r = sql_step(st)) > 0) {
		struct catalog_alias_facts x = {.a = {.id = sql_int(st, 0), .model_id = sql_int(st, 1), .number = (uint32_t)sql_int(st, 3),
			.uid = (uid_t)sql_int(st, 4), .gid = (gid_t)sql_int(st, 5), .set_ns = sql_int(st, 6)},
			.has_version = sql_text(st, 7) != NULL, .state = (enum catalog_state)sql_int(st, 7)};
		sql_copy(st, 2, x.a.name, sizeof x.a.name);
		r = sql_error(st);
		if (!r)
			r = fn(&x, arg);
		if (r)
			return r;
	}
	return r;
}

/* ---- versions and entries ---- */

int catalog_audit_versions(struct catalog_conn *conn, int64_t after, unsigned limit, catalog_version_facts_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT id, model_id, number, state, minted_ns, committed_ns, size, n_files, n_dirs, first_child, n_children,"
		" n_entries, metrics_summary FROM versions WHERE id > ? ORDER BY id LIMIT ?", &st);
	if (r)
		return r;
	sql_bind_int(st, after);
	sql_bind_int(st, limit);
	while ((r = sql_step(st)) > 0) {
		const struct catalog_version_facts x = {.v = {.id = sql_int(st, 0), .model_id = sql_int(st, 1), .number = (uint32_t)sql_int(st, 2),
			.state = (enum catalog_state)sql_int(st, 3), .minted_ns = sql_int(st, 4), .committed_ns = sql_int(st, 5),
			.size = (uint64_t)sql_int(st, 6), .n_files = (uint32_t)sql_int(st, 7), .n_dirs = (uint32_t)sql_int(st, 8),
			.first_child = sql_int(st, 9), .n_children = (uint32_t)sql_int(st, 10)},
			.n_entries = sql_int(st, 11), .metrics_summary = sql_text(st, 12)};
		r = fn(&x, arg);
		if (r)
			return r;
	}
	return r;
}

int catalog_audit_entries(struct catalog_conn *conn, int64_t from, int64_t end, catalog_entry_facts_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT f.id, f.version_id, f.parent, f.size, coalesce(f.inode, f.id), f.first_child, f.n_children,"
		" coalesce(f.blob, 0), coalesce(b.size, -1), f.type, f.name FROM files f LEFT JOIN blobs b ON b.id = f.blob"
		" WHERE f.id >= ? AND f.id < ? ORDER BY f.id", &st);
	if (r)
		return r;
	sql_bind_int(st, from);
	sql_bind_int(st, end);
	while ((r = sql_step(st)) > 0) {
		const char *name = sql_text(st, 10);
		const struct catalog_entry_facts x = {sql_int(st, 0), sql_int(st, 1), sql_int(st, 2), sql_int(st, 3), sql_int(st, 4), sql_int(st, 5),
			sql_int(st, 6), sql_int(st, 7), sql_int(st, 8), (int)sql_int(st, 9), name ? name : ""};
		r = fn(&x, arg);
		if (r)
			return r;
	}
	return r;
}

static int each_pair(struct sql_stmt *st, catalog_pair_fn *fn, void *arg)
{
	int r;
	while ((r = sql_step(st)) > 0) {
		r = fn(sql_int(st, 0), sql_int(st, 1), arg);
		if (r)
			return r;
	}
	return r;
}

int catalog_audit_orphans(struct catalog_conn *conn, catalog_pair_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT f.version_id, count(*) FROM files f NOT INDEXED LEFT JOIN versions v ON v.id = f.version_id"
		" WHERE NOT coalesce(f.id >= v.first_child AND f.id < v.first_child + v.n_entries, 0) GROUP BY f.version_id", &st);
	return r ? r : each_pair(st, fn, arg);
}

/* ---- metrics ---- */

int catalog_audit_idle_metrics(struct catalog_conn *conn, catalog_pair_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT DISTINCT m.model_id, m.number FROM metrics m"
		" LEFT JOIN versions v ON v.model_id = m.model_id AND v.number = m.number WHERE v.state IS NOT 1", &st);
	return r ? r : each_pair(st, fn, arg);
}

int catalog_metric_list(struct catalog_conn *conn, int64_t model_id, uint32_t number, catalog_metric_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT name, value FROM metrics WHERE model_id = ? AND number = ? ORDER BY name", &st);
	if (r)
		return r;
	sql_bind_int(st, model_id);
	sql_bind_int(st, number);
	while ((r = sql_step(st)) > 0) {
		const char *name = sql_text(st, 0);
		const struct catalog_metric m = {name ? name : "", sql_real(st, 1)};
		r = fn(&m, arg);
		if (r)
			return r;
	}
	return r;
}

/* ---- made anew ---- */

/* An index that names more rows than its table has is the last to tell of rows that the table lost. One that cannot be read tells nothing. */
static int index_knows_more(struct catalog_conn *conn, const char *question)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare_once(conn->db, question, &st);
	if (r == 0)
		r = sql_step(st);
	if (r > 0)
		return sql_int(st, 0) ? -EUCLEAN : 0;
	return r == -EUCLEAN || r == 0 ? 0 : r;
}

static int find_knowing_index(struct catalog_conn *conn)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT printf('SELECT (SELECT count(*) FROM \"%w\" INDEXED BY \"%w\") > (SELECT count(*) FROM \"%w\" NOT INDEXED)', tbl_name, name, tbl_name)"
		" FROM sqlite_master WHERE type = 'index' AND coalesce(sql, '') NOT LIKE '% WHERE %'", &st);
	while (r == 0 && (r = sql_step(st)) > 0)
		r = sql_text(st, 0) ? index_knows_more(conn, sql_text(st, 0)) : 0;
	return r;
}

static int one_is_enough(const char *text, void *arg)
{
	(void)text;
	(void)arg;
	return -EUCLEAN;
}

int catalog_rebuild_indexes(struct catalog_conn *conn)
{
	int r = find_knowing_index(conn);
	if (r == 0)
		r = sql_run(conn->db, "REINDEX");
	return r ? r : catalog_audit_pages(conn, one_is_enough, NULL);
}

int catalog_rebuild_numbers(struct catalog_conn *conn, int64_t model_id)
{
	int error = sql_run_for(conn->db, "UPDATE models SET"
		" last_number = max(last_number, coalesce((SELECT max(number) FROM versions WHERE model_id = ?1), 0)),"
		" newest_committed = coalesce((SELECT max(number) FROM versions WHERE model_id = ?1 AND state = 1), 0) WHERE id = ?1", model_id);
	return error ? error : numbers_changed(conn->db);
}

int catalog_rebuild_names(struct catalog_conn *conn, const struct catalog_model *m)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "UPDATE models SET mode = ?, key = ?, identifier = ?, type = ? WHERE id = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, m->mode);
	sql_bind_text(st, m->key);
	sql_bind_text(st, m->identifier);
	sql_bind_text(st, m->type);
	sql_bind_int(st, m->id);
	error = sql_finish(st);
	return error ? error : numbers_changed(conn->db);
}

int catalog_rebuild_sums(struct catalog_conn *conn, int64_t version_id, uint64_t size, uint32_t n_files, uint32_t n_dirs)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "UPDATE versions SET size = ?, n_files = ?, n_dirs = ? WHERE id = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, (int64_t)size);
	sql_bind_int(st, n_files);
	sql_bind_int(st, n_dirs);
	sql_bind_int(st, version_id);
	return sql_finish(st);
}

static int drop_metrics(struct sql *db, int64_t model_id, uint32_t number)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "DELETE FROM metrics WHERE model_id = ? AND number = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, model_id);
	sql_bind_int(st, number);
	return sql_finish(st);
}

int catalog_rebuild_metrics(struct catalog_conn *conn, int64_t model_id, uint32_t number, const struct catalog_metric *metrics, size_t n)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = drop_metrics(conn->db, model_id, number);
	if (!error && n > 0)
		error = sql_prepare(conn->db, "INSERT OR REPLACE INTO metrics (model_id, number, name, value) VALUES (?, ?, ?, ?)", &st);
	for (size_t i = 0; !error && i < n; i++) {
		if (strlen(metrics[i].name) >= CATALOG_NAME_MAX)
			continue;
		sql_rewind(st);
		sql_bind_int(st, model_id);
		sql_bind_int(st, number);
		sql_bind_text(st, metrics[i].name);
		sql_bind_real(st, metrics[i].value);
		error = sql_finish(st);
	}
	return error;
}
