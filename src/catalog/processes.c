/* Processes: runs and updates with their steps, and what the nodes are bound to. */
#include "internal.h"

#include <math.h>
#include <string.h>

static void bind_real(struct sql_stmt *st, double value)
{
	if (isnan(value))
		sql_bind_text(st, NULL);
	else
		sql_bind_real(st, value);
}

static double real_or_nan(struct sql_stmt *st, int col) { return sql_text(st, col) ? sql_real(st, col) : NAN; }

/* ---- runs ---- */

#define RUN_COLUMNS "SELECT id, process_id, version_id, kind, state, started_ns, ended_ns, sum, sum_before, author, host, reason FROM process_runs "

int catalog_process_run_add(struct catalog_conn *conn, const struct catalog_process_run *r, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT INTO process_runs (process_id, version_id, kind, state, started_ns, ended_ns, author, host, sum_before)"
		" VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?) RETURNING id", &st);
	if (error)
		return error;
	sql_bind_int(st, r->process_id);
	sql_bind_int(st, r->version_id);
	sql_bind_int(st, r->kind);
	sql_bind_int(st, r->state);
	sql_bind_int(st, r->started_ns);
	sql_bind_text(st, r->author);
	sql_bind_text(st, r->host);
	bind_real(st, r->sum_before);
	return sql_finish_id(st, ret_id);
}

int catalog_process_run_end(struct catalog_conn *conn, const struct catalog_process_run *r)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "UPDATE process_runs SET state = ?, ended_ns = ?, sum = ?, reason = ? WHERE id = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, r->state);
	sql_bind_int(st, r->ended_ns);
	bind_real(st, r->sum);
	sql_bind_text(st, r->reason);
	sql_bind_int(st, r->id);
	error = sql_finish(st);
	return error || sql_changes(conn->db) ? error : -ENOENT;
}

static int run_row(struct sql_stmt *st, struct catalog_process_run *ret)
{
	struct catalog_process_run r = {
		.id = sql_int(st, 0),
		.process_id = sql_int(st, 1),
		.version_id = sql_int(st, 2),
		.kind = (enum catalog_process_kind)sql_int(st, 3),
		.state = (enum catalog_process_state)sql_int(st, 4),
		.started_ns = sql_int(st, 5),
		.ended_ns = sql_int(st, 6),
		.sum = real_or_nan(st, 7),
		.sum_before = real_or_nan(st, 8),
		.author = sql_dup(st, 9),
		.host = sql_dup(st, 10),
		.reason = sql_dup(st, 11),
	};
	int error = sql_error(st);
	if (error)
		catalog_process_run_release(&r);
	else
		*ret = r;
	return error;
}

int catalog_process_run_get(struct catalog_conn *conn, int64_t id, struct catalog_process_run *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, RUN_COLUMNS "WHERE id = ?", id, &st);
	return error ? error : run_row(st, ret);
}

int catalog_process_run_list(struct catalog_conn *conn, int64_t process_id, unsigned limit, catalog_process_run_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, RUN_COLUMNS "WHERE process_id = ? ORDER BY id DESC LIMIT ?", &st);
	if (r)
		return r;
	sql_bind_int(st, process_id);
	sql_bind_int(st, limit);
	while ((r = sql_step(st)) > 0) {
		struct catalog_process_run run;
		r = run_row(st, &run);
		if (r)
			return r;
		r = fn(&run, arg);
		catalog_process_run_release(&run);
		if (r)
			return r;
	}
	return r;
}

void catalog_process_run_release(struct catalog_process_run *r)
{
	free(r->author);
	free(r->host);
	free(r->reason);
	memset(r, 0, sizeof *r);
}

/* ---- steps ---- */

int catalog_process_step_put(struct catalog_conn *conn, int64_t run_id, const struct catalog_process_step *s)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT OR REPLACE INTO process_steps (run_id, kind, place, name, dataset_id, model_id, before_id, state, started_ns, ended_ns,"
		" exit_status, weight, score, result, output, reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", &st);
	if (error)
		return error;
	sql_bind_int(st, run_id);
	sql_bind_int(st, s->kind);
	sql_bind_int(st, s->place);
	sql_bind_text(st, s->name);
	sql_bind_int(st, s->dataset_id);
	sql_bind_int(st, s->model_id);
	sql_bind_int(st, s->before_id);
	sql_bind_int(st, s->state);
	sql_bind_int(st, s->started_ns);
	sql_bind_int(st, s->ended_ns);
	sql_bind_int(st, s->exit_status);
	sql_bind_real(st, s->weight);
	bind_real(st, s->score);
	sql_bind_text(st, s->result);
	sql_bind_text(st, s->output);
	sql_bind_text(st, s->reason);
	return sql_finish(st);
}

static int step_row(struct sql_stmt *st, struct catalog_process_step *ret)
{
	struct catalog_process_step s = {
		.kind = (enum catalog_step_kind)sql_int(st, 0),
		.place = (unsigned)sql_int(st, 1),
		.name = sql_dup(st, 2),
		.dataset_id = sql_int(st, 3),
		.model_id = sql_int(st, 4),
		.before_id = sql_int(st, 5),
		.state = (enum catalog_step_state)sql_int(st, 6),
		.started_ns = sql_int(st, 7),
		.ended_ns = sql_int(st, 8),
		.exit_status = (int)sql_int(st, 9),
		.weight = sql_real(st, 10),
		.score = real_or_nan(st, 11),
		.result = sql_dup(st, 12),
		.output = sql_dup(st, 13),
		.reason = sql_dup(st, 14),
	};
	int error = sql_error(st);
	if (error)
		catalog_process_step_release(&s);
	else
		*ret = s;
	return error;
}

int catalog_process_step_list(struct catalog_conn *conn, int64_t run_id, catalog_process_step_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT kind, place, name, dataset_id, model_id, before_id, state, started_ns, ended_ns, exit_status, weight, score, result,"
		" output, reason FROM process_steps WHERE run_id = ? ORDER BY kind, place", &st);
	if (r)
		return r;
	sql_bind_int(st, run_id);
	while ((r = sql_step(st)) > 0) {
		struct catalog_process_step s;
		r = step_row(st, &s);
		if (r)
			return r;
		r = fn(&s, arg);
		catalog_process_step_release(&s);
		if (r)
			return r;
	}
	return r;
}

void catalog_process_step_release(struct catalog_process_step *s)
{
	free(s->name);
	free(s->result);
	free(s->output);
	free(s->reason);
	memset(s, 0, sizeof *s);
}

/* Few runs are in these states. 0: CATALOG_PROCESS_RUNNING, 5: _OPEN. */
int catalog_process_need_list(struct catalog_conn *conn, int64_t version_id, int64_t open_since_ns, catalog_process_need_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT r.id, r.process_id, r.kind, r.state FROM process_runs r WHERE r.state IN (0, 5)"
		" AND (r.version_id = ?1 OR EXISTS (SELECT 1 FROM process_steps s WHERE s.run_id = r.id AND ?1 IN (s.dataset_id, s.model_id, s.before_id)))"
		" AND (r.state = 0 OR r.started_ns > ?2 OR EXISTS (SELECT 1 FROM process_steps s WHERE s.run_id = r.id AND max(s.started_ns, s.ended_ns) > ?2)) ORDER BY r.id DESC", &st);
	if (r)
		return r;
	sql_bind_int(st, version_id);
	sql_bind_int(st, open_since_ns);
	while ((r = sql_step(st)) > 0) {
		const struct catalog_process_run run = {.id = sql_int(st, 0), .process_id = sql_int(st, 1), .kind = (enum catalog_process_kind)sql_int(st, 2),
			.state = (enum catalog_process_state)sql_int(st, 3)};
		r = fn(&run, arg);
		if (r)
			return r;
	}
	return r;
}

/* kind 1: CATALOG_PROCESS_UPDATE; states 0, 4 and 6: _RUNNING, _ENDED, _SUPERSEDED. The caller holds the process's lock, so what is on record as running is not. */
int catalog_process_supersede(struct catalog_conn *conn, int64_t process_id, int64_t run_id, int64_t at_ns, const char *reason)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "UPDATE process_runs SET state = 6, reason = ?, ended_ns = CASE WHEN ended_ns = 0 THEN ? ELSE ended_ns END"
		" WHERE process_id = ? AND id < ? AND kind = 1 AND state IN (0, 4)", &st);
	if (error)
		return error;
	sql_bind_text(st, reason);
	sql_bind_int(st, at_ns);
	sql_bind_int(st, process_id);
	sql_bind_int(st, run_id);
	return sql_finish(st);
}

/* ---- bindings ---- */

int catalog_process_bound_by(struct catalog_conn *conn, int64_t process_id, int64_t *ret_run_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, "SELECT coalesce(max(run_id), 0) FROM process_bindings WHERE process_id = ?", process_id, &st);
	if (!error)
		*ret_run_id = sql_int(st, 0);
	return error;
}

int catalog_process_bindings_clear(struct catalog_conn *conn, int64_t process_id)
{
	return sql_run_for(conn->db, "DELETE FROM process_bindings WHERE process_id = ?", process_id);
}

int catalog_process_binding_put(struct catalog_conn *conn, int64_t process_id, const struct catalog_process_binding *b)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT OR REPLACE INTO process_bindings (process_id, node, dataset_id, model_id, score, weight, result, run_id)"
		" VALUES (?, ?, ?, ?, ?, ?, ?, ?)", &st);
	if (error)
		return error;
	sql_bind_int(st, process_id);
	sql_bind_text(st, b->node);
	sql_bind_int(st, b->dataset_id);
	sql_bind_int(st, b->model_id);
	sql_bind_real(st, b->score);
	sql_bind_real(st, b->weight);
	sql_bind_text(st, b->result);
	sql_bind_int(st, b->run_id);
	return sql_finish(st);
}

int catalog_process_binding_list(struct catalog_conn *conn, int64_t process_id, catalog_process_binding_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT node, dataset_id, model_id, score, weight, result, run_id FROM process_bindings WHERE process_id = ? ORDER BY node", &st);
	if (r)
		return r;
	sql_bind_int(st, process_id);
	while ((r = sql_step(st)) > 0) {
		const struct catalog_process_binding b = {(char *)(uintptr_t)sql_text(st, 0), sql_int(st, 1), sql_int(st, 2), sql_real(st, 3), sql_real(st, 4),
			(char *)(uintptr_t)sql_text(st, 5), sql_int(st, 6)};
		r = sql_error(st);
		if (!r)
			r = fn(&b, arg);
		if (r)
			return r;
	}
	return r;
}

/* A row for each node of each process: few enough to be read through. */
int catalog_process_binding_find(struct catalog_conn *conn, int64_t version_id, int64_t *ret_process_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, "SELECT process_id FROM process_bindings WHERE ?1 IN (dataset_id, model_id) LIMIT 1", version_id, &st);
	if (error)
		return error;
	*ret_process_id = sql_int(st, 0);
	return sql_error(st);
}
