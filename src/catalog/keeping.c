/* Versions out of use, contents that are not there, and what refers to a content.
 *
 * A retired version keeps its rows: they tell what it held. What it alone held may go from the store; then `absent` says so, as it says
 * of contents that were found damaged. So a row of `blobs` without one of `absent` means: the store has it. A commit that brings a content (commit.c) ends its absence. */
#include "internal.h"

#include <string.h>

/* ---- retirements ---- */

static int add_retirement(struct sql *db, int64_t id, int64_t at_ns, uid_t uid, const char *author, const char *message)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "INSERT OR REPLACE INTO retirements (version_id, at_ns, uid, author, message) VALUES (?, ?, ?, ?, ?)", &st);
	if (error)
		return error;
	sql_bind_int(st, id);
	sql_bind_int(st, at_ns);
	sql_bind_int(st, uid);
	sql_bind_text(st, author);
	sql_bind_text(st, message);
	return sql_finish(st);
}

int catalog_version_retire(struct catalog_conn *conn, int64_t id, int64_t at_ns, uid_t uid, const char *author, const char *message)
{
	int error = catalog_version_set_state(conn, id, CATALOG_RETIRED);
	return error ? error : add_retirement(conn->db, id, at_ns, uid, author, message);
}

int catalog_retirement_get(struct catalog_conn *conn, int64_t version_id, struct catalog_retirement *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, "SELECT at_ns, uid, author, message FROM retirements WHERE version_id = ?", version_id, &st);
	if (error)
		return error;
	struct catalog_retirement t = {sql_int(st, 0), (uid_t)sql_int(st, 1), sql_dup(st, 2), sql_dup(st, 3)};
	error = sql_error(st);
	if (error)
		catalog_retirement_release(&t);
	else
		*ret = t;
	return error;
}

void catalog_retirement_release(struct catalog_retirement *t)
{
	free(t->author);
	free(t->message);
	memset(t, 0, sizeof *t);
}

/* Along metrics_best, as catalog_best. Downwards, equal values would come with the higher number first: so they are sorted. */
int catalog_best_list(struct catalog_conn *conn, int64_t model_id, unsigned limit, catalog_rank_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *model = NULL, *st = NULL;
	int r = sql_find(conn->db, "SELECT best_metric, best_mode FROM models WHERE id = ?", model_id, &model);
	if (r)
		return r;
	int64_t mode = sql_int(model, 1);
	if (mode != 1 && mode != 2) /* METADATA_BEST_MIN, _MAX */
		return 0;
	r = mode == 1 ? sql_prepare(conn->db, "SELECT number FROM metrics WHERE model_id = ? AND name = ? ORDER BY value, number LIMIT ?", &st)
		: sql_prepare(conn->db, "SELECT number FROM metrics WHERE model_id = ? AND name = ? ORDER BY value DESC, number LIMIT ?", &st);
	if (r)
		return r;
	sql_bind_int(st, model_id);
	sql_bind_text(st, sql_text(model, 0));
	sql_bind_int(st, limit);
	while ((r = sql_step(st)) > 0) {
		r = fn((uint32_t)sql_int(st, 0), arg);
		if (r)
			return r;
	}
	return r;
}

/* ---- contents ---- */

#define BLOB_COLUMNS "SELECT b.id, b.sha256, b.size, coalesce(a.kind, 0) FROM blobs b LEFT JOIN absent a ON a.blob = b.id "

static int blob_row(struct sql_stmt *st, struct catalog_blob *ret)
{
	struct catalog_blob b = {.id = sql_int(st, 0), .size = (uint64_t)sql_int(st, 2), .absence = (enum catalog_absence)sql_int(st, 3)};
	const void *sha256 = sql_blob(st, 1, BLOB_ID_SIZE);
	if (!sha256)
		return -EUCLEAN;
	memcpy(b.sha256.sha256, sha256, BLOB_ID_SIZE);
	*ret = b;
	return 0;
}

int catalog_blob_shard(struct catalog_conn *conn, uint8_t first_byte, catalog_blob_row_fn *fn, void *arg)
{
	struct blob_id low = {{first_byte}}, high;
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, BLOB_COLUMNS "WHERE b.sha256 BETWEEN ? AND ? ORDER BY b.sha256", &st);
	if (r)
		return r;
	memset(&high, 0xff, sizeof high);
	high.sha256[0] = first_byte;
	sql_bind_blob(st, low.sha256, sizeof low.sha256);
	sql_bind_blob(st, high.sha256, sizeof high.sha256);
	while ((r = sql_step(st)) > 0) {
		struct catalog_blob b;
		r = blob_row(st, &b);
		if (!r)
			r = fn(&b, arg);
		if (r)
			return r;
	}
	return r;
}

int catalog_blob_find(struct catalog_conn *conn, const struct blob_id *sha256, struct catalog_blob *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, BLOB_COLUMNS "WHERE b.sha256 = ?", &st);
	if (error)
		return error;
	sql_bind_blob(st, sha256->sha256, sizeof sha256->sha256);
	error = sql_first(st);
	return error ? error : blob_row(st, ret);
}

int catalog_absent_set(struct catalog_conn *conn, int64_t blob, enum catalog_absence kind, int64_t at_ns, const char *why)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT INTO absent (blob, kind, at_ns, why) VALUES (?, ?, ?, ?)"
		" ON CONFLICT (blob) DO UPDATE SET kind = excluded.kind, at_ns = excluded.at_ns, why = excluded.why WHERE kind <> excluded.kind", &st);
	if (error)
		return error;
	sql_bind_int(st, blob);
	sql_bind_int(st, kind);
	sql_bind_int(st, at_ns);
	sql_bind_text(st, why);
	return sql_finish(st);
}

int catalog_absent_drop(struct catalog_conn *conn, int64_t blob)
{
	return sql_run_for(conn->db, "DELETE FROM absent WHERE blob = ?", blob);
}

int absent_count(struct sql *db, enum catalog_absence kind, int64_t *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(db, "SELECT count(*) FROM absent WHERE kind = ?", kind, &st);
	if (!error)
		*ret = sql_int(st, 0);
	return error;
}

/* Mostly nothing is absent, and a commit of many files asks once. 1, 0 or -errno. */
static int any_absent(struct sql *db)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "SELECT 1 FROM absent WHERE blob > 0 LIMIT 1", &st);
	return error ? error : sql_step(st);
}

int absent_returned(struct sql *db, int64_t base, size_t n)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = any_absent(db);
	if (error <= 0)
		return error;
	error = sql_prepare(db, "DELETE FROM absent WHERE blob IN (SELECT blob FROM files WHERE id >= ? AND id < ? AND blob IS NOT NULL)", &st);
	if (error)
		return error;
	sql_bind_int(st, base);
	sql_bind_int(st, base + (int64_t)n);
	return sql_finish(st);
}

#define BLOBS_OF_VERSION "SELECT f.blob FROM versions v JOIN files f ON f.id >= v.first_child AND f.id < v.first_child + v.n_entries WHERE v.id = ? AND f.blob IS NOT NULL"

int catalog_version_returned(struct catalog_conn *conn, int64_t version_id)
{
	int error = any_absent(conn->db);
	return error <= 0 ? error : sql_run_for(conn->db, "DELETE FROM absent WHERE blob IN (" BLOBS_OF_VERSION ")", version_id);
}

int catalog_version_whole(struct catalog_conn *conn, int64_t version_id, bool *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int any = any_absent(conn->db);
	int error = any < 0 ? any : any == 0 ? -ENOENT : sql_find(conn->db, "SELECT 1 FROM absent WHERE blob IN (" BLOBS_OF_VERSION ") LIMIT 1", version_id, &st);
	if (error && error != -ENOENT)
		return error;
	*ret = error == -ENOENT;
	return 0;
}

/* To look for each of a million costs half a second, so it is only done if anything at all was lost meanwhile. */
int absent_since(struct sql *db, int64_t since_ns, int64_t base, size_t n)
{
	auto_stmt struct sql_stmt *any = NULL, *st = NULL;
	int error = sql_find(db, "SELECT 1 FROM absent WHERE at_ns >= ? LIMIT 1", since_ns, &any);
	if (error)
		return error == -ENOENT ? 0 : error;
	error = sql_prepare(db, "SELECT 1 FROM files f CROSS JOIN absent a ON a.blob = f.blob WHERE f.id >= ? AND f.id < ? LIMIT 1", &st);
	if (error)
		return error;
	sql_bind_int(st, base);
	sql_bind_int(st, base + (int64_t)n);
	error = sql_first(st);
	return error == -ENOENT ? 0 : error ? error : -EAGAIN;
}

int catalog_reference_list(struct catalog_conn *conn, int64_t after, int64_t end, unsigned limit, catalog_reference_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT f.id, f.version_id, f.blob, v.state, coalesce(t.at_ns, 0),"
		" CASE WHEN v.state = 0 AND v.n_entries > 0 THEN v.first_child + v.n_entries ELSE 0 END"
		" FROM files f CROSS JOIN versions v ON v.id = f.version_id LEFT JOIN retirements t ON v.state = 2 AND t.version_id = v.id"
		" WHERE f.id > ? AND f.id < ? AND (f.blob IS NOT NULL OR (v.state = 0 AND f.id = v.first_child)) ORDER BY f.id LIMIT ?", &st);
	if (r)
		return r;
	sql_bind_int(st, after);
	sql_bind_int(st, end);
	sql_bind_int(st, limit);
	while ((r = sql_step(st)) > 0) {
		const struct catalog_reference x = {sql_int(st, 0), sql_int(st, 1), sql_int(st, 2), (enum catalog_state)sql_int(st, 3), sql_int(st, 4), sql_int(st, 5)};
		r = fn(&x, arg);
		if (r)
			return r;
	}
	return r;
}
