/* Runs: the trainings that write drafts. */
#include "internal.h"

#include <string.h>

/* In the order of the columns; add and update bind the same ones. */
static void bind_run(struct sql_stmt *st, const struct catalog_run *r)
{
	sql_bind_text(st, r->key);
	sql_bind_text(st, r->boot_id);
	sql_bind_text(st, r->chain);
	sql_bind_int(st, r->uid);
	sql_bind_text(st, r->user);
	sql_bind_text(st, r->host);
	sql_bind_text(st, r->command);
	sql_bind_text(st, r->cwd);
	sql_bind_text(st, r->git_commit);
	sql_bind_int(st, r->git_dirty);
	sql_bind_int(st, r->started_ns);
	sql_bind_int(st, r->ended_ns);
	sql_bind_int(st, r->exit_status);
}

int catalog_run_add(struct catalog_conn *conn, const struct catalog_run *r, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT INTO runs (key, boot_id, chain, uid, user, host, command, cwd, git_commit, git_dirty,"
		" started_ns, ended_ns, exit_status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id", &st);
	if (error)
		return error;
	bind_run(st, r);
	return sql_finish_id(st, ret_id);
}

int catalog_run_update(struct catalog_conn *conn, const struct catalog_run *r)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "UPDATE runs SET key = ?, boot_id = ?, chain = ?, uid = ?, user = ?, host = ?, command = ?, cwd = ?,"
		" git_commit = ?, git_dirty = ?, started_ns = ?, ended_ns = ?, exit_status = ? WHERE id = ?", &st);
	if (error)
		return error;
	bind_run(st, r);
	sql_bind_int(st, r->id);
	error = sql_finish(st);
	return error || sql_changes(conn->db) ? error : -ENOENT;
}

int catalog_run_get(struct catalog_conn *conn, int64_t id, struct catalog_run *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, "SELECT id, key, boot_id, chain, uid, user, host, command, cwd, git_commit, git_dirty,"
		" started_ns, ended_ns, exit_status FROM runs WHERE id = ?", id, &st);
	if (error)
		return error;
	struct catalog_run r = {
		.id = sql_int(st, 0),
		.key = sql_dup(st, 1),
		.boot_id = sql_dup(st, 2),
		.chain = sql_dup(st, 3),
		.uid = (uid_t)sql_int(st, 4),
		.user = sql_dup(st, 5),
		.host = sql_dup(st, 6),
		.command = sql_dup(st, 7),
		.cwd = sql_dup(st, 8),
		.git_commit = sql_dup(st, 9),
		.git_dirty = (int)sql_int(st, 10),
		.started_ns = sql_int(st, 11),
		.ended_ns = sql_int(st, 12),
		.exit_status = (int)sql_int(st, 13),
	};
	error = sql_error(st);
	if (error)
		catalog_run_release(&r);
	else
		*ret = r;
	return error;
}

void catalog_run_release(struct catalog_run *r)
{
	free(r->key);
	free(r->boot_id);
	free(r->chain);
	free(r->user);
	free(r->host);
	free(r->command);
	free(r->cwd);
	free(r->git_commit);
	memset(r, 0, sizeof *r);
}
