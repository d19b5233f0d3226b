/* What was seen of living processes, as long as it may still matter: registry/readers.c says what it means. */
#include "internal.h"

int catalog_seen_put(struct catalog_conn *conn, const struct catalog_seen *p, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT INTO seen_processes (boot_id, pid, start, chain, run_key, uid, seen_ns) VALUES (?, ?, ?, ?, ?, ?, ?)"
		" ON CONFLICT (boot_id, pid, start) DO UPDATE SET seen_ns = excluded.seen_ns RETURNING id", &st);
	if (error)
		return error;
	sql_bind_text(st, p->boot_id);
	sql_bind_int(st, p->pid);
	sql_bind_int(st, (int64_t)p->start);
	sql_bind_text(st, p->chain);
	sql_bind_text(st, p->run_key);
	sql_bind_int(st, p->uid);
	sql_bind_int(st, p->seen_ns);
	return sql_finish_id(st, ret_id);
}

int catalog_seen_read_put(struct catalog_conn *conn, int64_t seen_id, int64_t version_id, int64_t at_ns)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT INTO seen_reads (process_id, version_id, at_ns) VALUES (?, ?, ?)"
		" ON CONFLICT (process_id, version_id) DO UPDATE SET at_ns = excluded.at_ns, inherited = 0", &st);
	if (error)
		return error;
	sql_bind_int(st, seen_id);
	sql_bind_int(st, version_id);
	sql_bind_int(st, at_ns);
	return sql_finish(st);
}

int catalog_seen_write_put(struct catalog_conn *conn, int64_t seen_id, int64_t version_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT OR IGNORE INTO seen_writes (process_id, version_id) VALUES (?, ?)", &st);
	if (error)
		return error;
	sql_bind_int(st, seen_id);
	sql_bind_int(st, version_id);
	return sql_finish(st);
}

int catalog_seen_list(struct catalog_conn *conn, int64_t draft_id, catalog_seen_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT id, boot_id, pid, start, chain, run_key, uid, seen_ns,"
		" EXISTS (SELECT 1 FROM seen_reads r WHERE r.process_id = p.id),"
		" EXISTS (SELECT 1 FROM seen_writes w WHERE w.process_id = p.id),"
		" EXISTS (SELECT 1 FROM seen_writes w JOIN versions v ON v.id = w.version_id WHERE w.process_id = p.id AND v.state = 0),"
		" EXISTS (SELECT 1 FROM seen_writes w WHERE w.process_id = p.id AND w.version_id = ?)"
		" FROM seen_processes p ORDER BY id", &st);
	if (r)
		return r;
	sql_bind_int(st, draft_id);
	while ((r = sql_step(st)) > 0) {
		struct catalog_seen p = {.id = sql_int(st, 0), .boot_id = sql_text(st, 1), .pid = (pid_t)sql_int(st, 2), .start = (uint64_t)sql_int(st, 3),
			.chain = sql_text(st, 4), .run_key = sql_text(st, 5), .uid = (uid_t)sql_int(st, 6), .seen_ns = sql_int(st, 7), .reads = sql_int(st, 8),
			.wrote = sql_int(st, 9), .wrote_open = sql_int(st, 10), .wrote_this = sql_int(st, 11)};
		r = p.boot_id && p.chain ? fn(&p, arg) : -ENOMEM;
		if (r)
			return r;
	}
	return r;
}

int catalog_seen_read_list(struct catalog_conn *conn, int64_t seen_id, catalog_id_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT version_id FROM seen_reads WHERE process_id = ? ORDER BY version_id", &st);
	if (r)
		return r;
	sql_bind_int(st, seen_id);
	while ((r = sql_step(st)) > 0) {
		r = fn(sql_int(st, 0), arg);
		if (r)
			return r;
	}
	return r;
}

/* A row for each process, of which few are remembered: they are read through. */
int catalog_seen_reader_list(struct catalog_conn *conn, int64_t version_id, catalog_reader_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT p.boot_id, p.chain, p.pid, p.start, r.inherited, r.at_ns,"
		" coalesce((SELECT max(o.at_ns) FROM seen_reads o JOIN versions v ON v.id = o.version_id WHERE o.process_id = p.id AND o.version_id <> ?1"
		" AND v.model_id = (SELECT model_id FROM versions WHERE id = ?1)), 0)"
		" FROM seen_processes p CROSS JOIN seen_reads r ON r.process_id = p.id AND r.version_id = ?1 ORDER BY r.at_ns DESC, p.id DESC", &st);
	if (r)
		return r;
	sql_bind_int(st, version_id);
	while ((r = sql_step(st)) > 0) {
		const struct catalog_reader x = {.boot_id = sql_text(st, 0), .chain = sql_text(st, 1), .pid = (pid_t)sql_int(st, 2), .start = (uint64_t)sql_int(st, 3),
			.inherited = sql_int(st, 4), .at_ns = sql_int(st, 5), .others_ns = sql_int(st, 6)};
		r = x.boot_id && x.chain ? fn(&x, arg) : -ENOMEM;
		if (r)
			return r;
	}
	return r;
}

static int command_of(struct catalog_conn *conn, int64_t seen_id, int64_t *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_find(conn->db, "SELECT coalesce(command_id, 0) FROM seen_processes WHERE id = ?", seen_id, &st);
	if (r == 0)
		*ret = sql_int(st, 0);
	return r == -ENOENT ? 0 : r;
}

int catalog_seen_drop(struct catalog_conn *conn, int64_t seen_id)
{
	int64_t command_id = 0;
	int error = command_of(conn, seen_id, &command_id);
	if (!error)
		error = sql_run_for(conn->db, "DELETE FROM seen_reads WHERE process_id = ?", seen_id);
	if (!error)
		error = sql_run_for(conn->db, "DELETE FROM seen_writes WHERE process_id = ?", seen_id);
	if (!error)
		error = sql_run_for(conn->db, "DELETE FROM seen_processes WHERE id = ?", seen_id);
	return error || !command_id ? error : command_drop(conn->db, command_id);
}

int catalog_seen_move(struct catalog_conn *conn, int64_t from_id, int64_t to_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT OR IGNORE INTO seen_reads (process_id, version_id, at_ns, inherited)"
		" SELECT ?, version_id, at_ns, 1 FROM seen_reads WHERE process_id = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, to_id);
	sql_bind_int(st, from_id);
	return sql_finish(st);
}

static int drop_found(struct catalog_conn *conn, int64_t max)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT id FROM seen_processes ORDER BY seen_ns DESC, id DESC LIMIT -1 OFFSET ?", &st);
	if (r)
		return r;
	sql_bind_int(st, max);
	while ((r = sql_step(st)) > 0) {
		int error = catalog_seen_drop(conn, sql_int(st, 0));
		if (error)
			return error;
	}
	return r;
}

int catalog_seen_trim(struct catalog_conn *conn, int64_t max_processes, int64_t max_reads)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = drop_found(conn, max_processes);
	if (!error)
		error = sql_prepare(conn->db, "DELETE FROM seen_reads WHERE process_id IN (SELECT process_id FROM seen_reads GROUP BY process_id HAVING count(*) > ?1)"
			" AND at_ns < (SELECT at_ns FROM seen_reads o WHERE o.process_id = seen_reads.process_id ORDER BY at_ns DESC LIMIT 1 OFFSET ?1 - 1)", &st);
	if (error)
		return error;
	sql_bind_int(st, max_reads);
	return sql_finish(st);
}
