/* Copies of the whole catalog, for backups; and what a backup asks of it. */
#include "internal.h"

#include <mintfs/sys.h>
#include <stdio.h>
#include <string.h>

/* Whoever opens the copy finds nothing that only lived in the original: no draft, whose tree is not there, no rows ahead of its commit, and no mount. */
static int settle_copy(const char *path, struct log *log)
{
	struct sql *db;
	int error = sql_open(path, SQL_CREATE, log, &db);
	if (error)
		return error;
	error = sql_script(db, "BEGIN;"
		"DELETE FROM files WHERE id IN (SELECT f.id FROM versions v CROSS JOIN files f"
		" ON f.id >= v.first_child AND f.id < v.first_child + v.n_entries AND f.version_id = v.id WHERE v.state IN (0, 3) AND v.n_entries > 0);"
		"UPDATE versions SET first_child = 0, n_entries = 0 WHERE state IN (0, 3) AND n_entries <> 0;"
		"UPDATE versions SET state = 3, owner = 0, reason = 'it was an open draft when this copy of the store was made' WHERE state = 0;"
		"DELETE FROM mounts;"
		"COMMIT");
	sql_close(db);
	return error;
}

int catalog_copy(struct catalog *c, int dirfd, const char *name, struct fault *f)
{
	char path[300];
	auto_read struct catalog_conn *conn = NULL;
	if (snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dirfd, name) >= (int)sizeof path)
		return -ENAMETOOLONG;
	int error = catalog_read_begin(c, &conn);
	if (!error) /* what stands in the copy runs when it is settled */
		error = schema_verify(conn->db, c->plan, c->plan->format, c->where, f);
	if (!error)
		error = sql_copy_database(conn->db, path);
	if (!error)
		error = settle_copy(path, c->log);
	return error ? fault_default(f, -error, "the catalog of %s cannot be copied: %s", c->where, strerror(-error)) : 0;
}

int catalog_store_id(struct catalog_conn *conn, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "SELECT value FROM meta WHERE name = 'store_id'", &st);
	if (!error)
		error = sql_first(st);
	if (!error)
		*ret_id = sql_int(st, 0);
	return error;
}

int catalog_blob_list(struct catalog_conn *conn, catalog_blob_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT b.sha256, b.size FROM blobs b LEFT JOIN absent a ON a.blob = b.id WHERE coalesce(a.kind, 0) <> 1 ORDER BY b.sha256", &st);
	if (r)
		return r;
	while ((r = sql_step(st)) > 0) {
		struct blob_id id;
		const void *sha256 = sql_blob(st, 0, BLOB_ID_SIZE);
		if (!sha256)
			return -EUCLEAN;
		memcpy(id.sha256, sha256, BLOB_ID_SIZE);
		r = fn(&id, (uint64_t)sql_int(st, 1), arg);
		if (r)
			return r;
	}
	return r;
}

int catalog_blob_committed(struct catalog_conn *conn, const struct blob_id *id, bool *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "SELECT EXISTS (SELECT 1 FROM files f JOIN versions v ON v.id = f.version_id"
		" WHERE f.blob = (SELECT id FROM blobs WHERE sha256 = ?) AND v.state = 1)", &st);
	if (error)
		return error;
	sql_bind_blob(st, id->sha256, sizeof id->sha256);
	error = sql_first(st);
	if (!error)
		*ret = sql_int(st, 0);
	return error;
}
