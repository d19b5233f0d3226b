/* Daemons that serve this store, and what `mintfs status` counts. */
#include "internal.h"

#define MOUNT_COLUMNS "SELECT id, pid, read_only, since_ns, host, boot_id, mountpoint FROM mounts "

static int mount_row(struct sql_stmt *st, struct catalog_mount *ret)
{
	struct catalog_mount m = {
		.id = sql_int(st, 0),
		.pid = (pid_t)sql_int(st, 1),
		.read_only = sql_int(st, 2),
		.since_ns = sql_int(st, 3),
	};
	sql_copy(st, 4, m.host, sizeof m.host);
	sql_copy(st, 5, m.boot_id, sizeof m.boot_id);
	sql_copy(st, 6, m.mountpoint, sizeof m.mountpoint);
	int error = sql_error(st);
	if (!error)
		*ret = m;
	return error;
}

int catalog_mount_add(struct catalog_conn *conn, const struct catalog_mount *m, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT INTO mounts (pid, read_only, since_ns, host, boot_id, mountpoint)"
		" VALUES (?, ?, ?, ?, ?, ?) RETURNING id", &st);
	if (error)
		return error;
	sql_bind_int(st, m->pid);
	sql_bind_int(st, m->read_only);
	sql_bind_int(st, m->since_ns);
	sql_bind_text(st, m->host);
	sql_bind_text(st, m->boot_id);
	sql_bind_text(st, m->mountpoint);
	return sql_finish_id(st, ret_id);
}

int catalog_mount_get(struct catalog_conn *conn, int64_t id, struct catalog_mount *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, MOUNT_COLUMNS "WHERE id = ?", id, &st);
	return error ? error : mount_row(st, ret);
}

int catalog_mount_remove(struct catalog_conn *conn, int64_t id)
{
	int error = sql_run_for(conn->db, "DELETE FROM mounts WHERE id = ?", id);
	return error || sql_changes(conn->db) ? error : -ENOENT;
}

int catalog_mount_list(struct catalog_conn *conn, catalog_mount_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	struct catalog_mount m;
	int r = sql_prepare(conn->db, MOUNT_COLUMNS "ORDER BY id", &st);
	if (r)
		return r;
	while ((r = sql_step(st)) > 0) {
		r = mount_row(st, &m);
		if (!r)
			r = fn(&m, arg);
		if (r)
			return r;
	}
	return r;
}

static int count_versions(struct sql *db, struct catalog_totals *t)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "SELECT count(*) FILTER (WHERE state = 0), count(*) FILTER (WHERE state = 1),"
		" count(*) FILTER (WHERE state = 2), count(*) FILTER (WHERE state = 3),"
		" coalesce(sum(n_files) FILTER (WHERE state = 1), 0), coalesce(sum(size) FILTER (WHERE state = 1), 0) FROM versions", &st);
	if (!error)
		error = sql_first(st);
	if (error)
		return error;
	t->drafts = sql_int(st, 0);
	t->committed = sql_int(st, 1);
	t->retired = sql_int(st, 2);
	t->discarded = sql_int(st, 3);
	t->files = sql_int(st, 4);
	t->logical_bytes = (uint64_t)sql_int(st, 5);
	return 0;
}

int catalog_totals_get(struct catalog_conn *conn, struct catalog_totals *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	struct catalog_totals t;
	int error = count_versions(conn->db, &t);
	if (!error)
		error = sql_prepare(conn->db, "SELECT (SELECT count(*) FROM models m JOIN dirs d ON d.id = m.id WHERE d.hidden = 0),"
			" count(*), coalesce(sum(size), 0) FROM blobs WHERE id NOT IN (SELECT blob FROM absent)", &st);
	if (!error)
		error = sql_first(st);
	if (error)
		return error;
	t.models = sql_int(st, 0);
	t.blobs = sql_int(st, 1);
	t.stored_bytes = (uint64_t)sql_int(st, 2);
	error = absent_count(conn->db, CATALOG_DAMAGED, &t.damaged);
	if (!error)
		*ret = t;
	return error;
}
