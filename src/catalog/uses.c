/* Who reads which version, for good: one row for each version and reader (user, host, command), as many as the registry keeps apart;
 * the others are summed up in a row without a command.
 * What a process reads is in seen.c as long as it is remembered, and tells whether it still lives. */
#include "internal.h"

/* Openings of one process within that time are one use. */
#define AT_ONCE_NS "500000000"

static int find_command(struct catalog_conn *conn, const struct catalog_use *u, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT id FROM seen_commands WHERE uid = ? AND host = ? AND command = ? AND whole = ?", &st);
	if (r)
		return r;
	sql_bind_int(st, u->uid);
	sql_bind_text(st, u->host);
	sql_bind_text(st, u->command);
	sql_bind_int(st, u->whole);
	r = sql_first(st);
	if (r == 0)
		*ret_id = sql_int(st, 0);
	return r;
}

static int put_command(struct catalog_conn *conn, const struct catalog_use *u, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = find_command(conn, u, ret_id);
	if (error != -ENOENT)
		return error;
	error = sql_prepare(conn->db, "INSERT INTO seen_commands (uid, host, command, whole) VALUES (?, ?, ?, ?) RETURNING id", &st);
	if (error)
		return error;
	sql_bind_int(st, u->uid);
	sql_bind_text(st, u->host);
	sql_bind_text(st, u->command);
	sql_bind_int(st, u->whole);
	return sql_finish_id(st, ret_id);
}

static int run_pair(struct catalog_conn *conn, const char *text, int64_t a, int64_t b)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, text, &st);
	if (error)
		return error;
	sql_bind_int(st, a);
	sql_bind_int(st, b);
	return sql_finish(st);
}

int command_drop(struct sql *db, int64_t command_id)
{
	return sql_run_for(db, "DELETE FROM seen_commands WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM seen_uses WHERE command_id = ?1)"
		" AND NOT EXISTS (SELECT 1 FROM seen_processes WHERE command_id = ?1)", command_id);
}

int catalog_use_count(struct catalog_conn *conn, int64_t version_id, int64_t *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_find(conn->db, "SELECT count(*) FROM seen_uses WHERE version_id = ? AND command_id > 0", version_id, &st);
	if (r == 0)
		*ret = sql_int(st, 0);
	return r;
}

int catalog_use_sum_up(struct catalog_conn *conn, int64_t version_id, int64_t command_id)
{
	int error = run_pair(conn, "INSERT INTO seen_uses (version_id, command_id, first_ns, last_ns, times, readers)"
		" SELECT version_id, 0, first_ns, last_ns, times, readers FROM seen_uses WHERE version_id = ? AND command_id = ?"
		" ON CONFLICT (version_id, command_id) DO UPDATE SET first_ns = min(first_ns, excluded.first_ns), last_ns = max(last_ns, excluded.last_ns),"
		" times = times + excluded.times, readers = readers + excluded.readers", version_id, command_id);
	if (!error)
		error = run_pair(conn, "DELETE FROM seen_uses WHERE version_id = ? AND command_id = ?", version_id, command_id);
	return error ? error : command_drop(conn->db, command_id);
}

static int put_use(struct catalog_conn *conn, const struct catalog_use *u, int64_t seen_id, int64_t command_id, int64_t *ret_times)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT INTO seen_uses (version_id, command_id, first_ns, last_ns, times, readers) VALUES (?1, ?2, ?3, ?3, 1, 1)"
		" ON CONFLICT (version_id, command_id) DO UPDATE SET first_ns = min(first_ns, excluded.first_ns), last_ns = max(last_ns, excluded.last_ns), times = times +"
		" NOT EXISTS (SELECT 1 FROM seen_reads WHERE process_id = ?4 AND version_id = ?1 AND inherited = 0 AND at_ns > ?3 - " AT_ONCE_NS ") RETURNING times", &st);
	if (error)
		return error;
	sql_bind_int(st, u->version_id);
	sql_bind_int(st, command_id);
	sql_bind_int(st, u->last_ns);
	sql_bind_int(st, seen_id);
	return sql_finish_id(st, ret_times);
}

int catalog_use_put(struct catalog_conn *conn, const struct catalog_use *u, int64_t seen_id, int64_t *ret_times)
{
	int64_t command_id;
	int error = put_command(conn, u, &command_id);
	if (!error)
		error = put_use(conn, u, seen_id, command_id, ret_times);
	return error ? error : run_pair(conn, "UPDATE seen_processes SET command_id = ?1 WHERE id = ?2 AND command_id IS NOT ?1", command_id, seen_id);
}

int catalog_use_list(struct catalog_conn *conn, int64_t version_id, catalog_use_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT u.command_id, c.uid, c.host, c.command, c.whole, u.first_ns, u.last_ns, u.times, u.readers"
		" FROM seen_uses u LEFT JOIN seen_commands c ON c.id = u.command_id WHERE u.version_id = ? ORDER BY u.command_id = 0, u.last_ns DESC, u.command_id", &st);
	if (r)
		return r;
	sql_bind_int(st, version_id);
	while ((r = sql_step(st)) > 0) {
		const struct catalog_use u = {.version_id = version_id, .command_id = sql_int(st, 0), .uid = (uid_t)sql_int(st, 1), .host = sql_text(st, 2),
			.command = sql_text(st, 3), .whole = sql_int(st, 4), .first_ns = sql_int(st, 5), .last_ns = sql_int(st, 6), .times = sql_int(st, 7),
			.readers = sql_int(st, 8)};
		r = sql_error(st);
		if (!r)
			r = fn(&u, arg);
		if (r)
			return r;
	}
	return r;
}

int catalog_use_process_list(struct catalog_conn *conn, int64_t version_id, int64_t command_id, catalog_use_process_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT p.boot_id, p.pid, p.start FROM seen_processes p JOIN seen_reads r ON r.process_id = p.id AND r.version_id = ? AND r.inherited = 0"
		" WHERE p.command_id = ? ORDER BY p.id DESC", &st);
	if (r)
		return r;
	sql_bind_int(st, version_id);
	sql_bind_int(st, command_id);
	while ((r = sql_step(st)) > 0) {
		const char *boot_id = sql_text(st, 0);
		r = boot_id ? fn(boot_id, (pid_t)sql_int(st, 1), (uint64_t)sql_int(st, 2), arg) : -ENOMEM;
		if (r)
			return r;
	}
	return r;
}
