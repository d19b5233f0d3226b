/* Versions: minting, states, listings. The commit is in commit.c. */
#include "internal.h"

#include <string.h>

#define VERSION_COLUMNS \
	"SELECT id, model_id, number, state, minted_ns, committed_ns, mtime_ns, uid, gid, mode, size, n_files, n_dirs," \
	" first_child, n_children, run_id, owner FROM versions "

const char *catalog_state_name(enum catalog_state s)
{
	switch (s) {
	case CATALOG_DRAFT: return "draft";
	case CATALOG_COMMITTED: return "committed";
	case CATALOG_RETIRED: return "retired";
	case CATALOG_DISCARDED: return "discarded";
	}
	return "unknown";
}

void catalog_version_text_release(struct catalog_version_text *t)
{
	free(t->author);
	free(t->message);
	free(t->reason);
	free(t->metrics_summary);
	memset(t, 0, sizeof *t);
}

static void version_row(struct sql_stmt *st, struct catalog_version *ret)
{
	*ret = (struct catalog_version){
		.id = sql_int(st, 0),
		.model_id = sql_int(st, 1),
		.number = (uint32_t)sql_int(st, 2),
		.state = (enum catalog_state)sql_int(st, 3),
		.minted_ns = sql_int(st, 4),
		.committed_ns = sql_int(st, 5),
		.mtime_ns = sql_int(st, 6),
		.uid = (uid_t)sql_int(st, 7),
		.gid = (gid_t)sql_int(st, 8),
		.mode = (mode_t)sql_int(st, 9),
		.size = (uint64_t)sql_int(st, 10),
		.n_files = (uint32_t)sql_int(st, 11),
		.n_dirs = (uint32_t)sql_int(st, 12),
		.first_child = sql_int(st, 13),
		.n_children = (uint32_t)sql_int(st, 14),
		.run_id = sql_int(st, 15),
		.owner = sql_int(st, 16),
	};
}

int catalog_version_get(struct catalog_conn *conn, int64_t id, struct catalog_version *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, VERSION_COLUMNS "WHERE id = ?", id, &st);
	if (!error)
		version_row(st, ret);
	return error;
}

int catalog_version_find(struct catalog_conn *conn, int64_t model_id, uint32_t number, struct catalog_version *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, VERSION_COLUMNS "WHERE model_id = ? AND number = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, model_id);
	sql_bind_int(st, number);
	error = sql_first(st);
	if (!error)
		version_row(st, ret);
	return error;
}

int catalog_version_text(struct catalog_conn *conn, int64_t id, struct catalog_version_text *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, "SELECT author, message, reason, metrics_summary FROM versions WHERE id = ?", id, &st);
	if (error)
		return error;
	struct catalog_version_text t = {sql_dup(st, 0), sql_dup(st, 1), sql_dup(st, 2), sql_dup(st, 3)};
	error = sql_error(st);
	if (error)
		catalog_version_text_release(&t);
	else
		*ret = t;
	return error;
}

/* ---- listings ---- */

/* Calls fn for each row of st. The texts are read by a second statement: most listings do without them, and their rows stay short. */
static int version_each(struct catalog_conn *conn, struct sql_stmt *st, bool with_text, catalog_version_fn *fn, void *arg)
{
	int r;
	while ((r = sql_step(st)) > 0) {
		__attribute__((cleanup(catalog_version_text_release))) struct catalog_version_text text = {0};
		struct catalog_version v;
		version_row(st, &v);
		r = with_text ? catalog_version_text(conn, v.id, &text) : 0;
		if (!r)
			r = fn(&v, with_text ? &text : NULL, arg);
		if (r)
			return r;
	}
	return r;
}

/* Drafts are few among many: they have an index of their own, which is only used where the text says so. */
static int prepare_list(struct sql *db, const struct catalog_version_list *q, struct sql_stmt **ret)
{
	bool drafts = q->states == 1u << CATALOG_DRAFT;
	if (drafts && q->descending)
		return sql_prepare(db, VERSION_COLUMNS "INDEXED BY versions_drafts"
			" WHERE state = 0 AND model_id = ? AND number < ? AND (1 << state) & ? ORDER BY number DESC", ret);
	if (drafts)
		return sql_prepare(db, VERSION_COLUMNS "INDEXED BY versions_drafts"
			" WHERE state = 0 AND model_id = ? AND number > ? AND (1 << state) & ? ORDER BY number", ret);
	if (q->descending)
		return sql_prepare(db, VERSION_COLUMNS "INDEXED BY versions_number"
			" WHERE model_id = ? AND number < ? AND (1 << state) & ? ORDER BY number DESC", ret);
	return sql_prepare(db, VERSION_COLUMNS "INDEXED BY versions_number"
		" WHERE model_id = ? AND number > ? AND (1 << state) & ? ORDER BY number", ret);
}

int catalog_version_list(struct catalog_conn *conn, const struct catalog_version_list *q, catalog_version_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = prepare_list(conn->db, q, &st);
	if (error)
		return error;
	sql_bind_int(st, q->model_id);
	sql_bind_int(st, q->descending && q->after == 0 ? INT64_MAX : q->after);
	sql_bind_int(st, q->states);
	return version_each(conn, st, q->with_text, fn, arg);
}

int catalog_draft_list(struct catalog_conn *conn, catalog_version_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, VERSION_COLUMNS "INDEXED BY versions_drafts WHERE state = 0 ORDER BY id", &st);
	return error ? error : version_each(conn, st, true, fn, arg);
}

/* ---- changes ---- */

static int model_raise_number(struct sql *db, int64_t model_id, uint32_t number)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "UPDATE models SET last_number = ?1 WHERE id = ?2 AND last_number < ?1", &st);
	if (error)
		return error;
	sql_bind_int(st, number);
	sql_bind_int(st, model_id);
	return sql_finish(st);
}

int catalog_version_add(struct catalog_conn *conn, const struct catalog_version *v, const char *author, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT INTO versions (model_id, number, state, minted_ns, committed_ns, mtime_ns, uid, gid, mode,"
		" size, n_files, n_dirs, first_child, n_children, n_entries, run_id, owner, author)"
		" VALUES (?, ?, 0, ?, 0, 0, ?, ?, ?, 0, 0, 0, 0, 0, 0, ?, ?, ?) RETURNING id", &st);
	if (error)
		return error;
	sql_bind_int(st, v->model_id);
	sql_bind_int(st, v->number);
	sql_bind_int(st, v->minted_ns);
	sql_bind_int(st, v->uid);
	sql_bind_int(st, v->gid);
	sql_bind_int(st, v->mode & 07777);
	sql_bind_int(st, v->run_id);
	sql_bind_int(st, v->owner);
	sql_bind_text(st, author);
	int64_t id;
	error = sql_finish_id(st, &id);
	if (!error)
		error = model_raise_number(conn->db, v->model_id, v->number);
	if (!error)
		*ret_id = id;
	return error;
}

static int set_state(struct sql *db, int64_t id, enum catalog_state s)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "UPDATE versions SET state = ?, owner = 0 WHERE id = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, s);
	sql_bind_int(st, id);
	return sql_finish(st);
}

/* The version v has just been retired: if it was the newest, the next lower committed one takes its place. */
static int model_lower_newest(struct sql *db, const struct catalog_version *v)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "UPDATE models SET newest_committed = coalesce((SELECT number FROM versions"
		" WHERE model_id = ?1 AND number < ?2 AND state = 1 ORDER BY number DESC LIMIT 1), 0)"
		" WHERE id = ?1 AND newest_committed = ?2", &st);
	if (error)
		return error;
	sql_bind_int(st, v->model_id);
	sql_bind_int(st, v->number);
	return sql_finish(st);
}

/* A retired version is no candidate for `best`; its metrics stay in its summary. */
static int drop_metrics(struct sql *db, const struct catalog_version *v)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "DELETE FROM metrics WHERE model_id = ? AND number = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, v->model_id);
	sql_bind_int(st, v->number);
	return sql_finish(st);
}

int catalog_version_set_state(struct catalog_conn *conn, int64_t id, enum catalog_state s)
{
	struct catalog_version v;
	if (s != CATALOG_DISCARDED && s != CATALOG_RETIRED)
		return -EINVAL;
	int error = catalog_version_get(conn, id, &v);
	if (error)
		return error;
	if (v.state != (s == CATALOG_DISCARDED ? CATALOG_DRAFT : CATALOG_COMMITTED))
		return -ESTALE;
	error = set_state(conn->db, id, s);
	if (error || s == CATALOG_DISCARDED)
		return error;
	error = model_lower_newest(conn->db, &v);
	if (!error)
		error = drop_metrics(conn->db, &v);
	return error ? error : numbers_changed(conn->db);
}

int catalog_version_set_reason(struct catalog_conn *conn, int64_t id, const char *reason)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "UPDATE versions SET reason = ? WHERE id = ?", &st);
	if (error)
		return error;
	sql_bind_text(st, reason);
	sql_bind_int(st, id);
	error = sql_finish(st);
	return error || sql_changes(conn->db) ? error : -ENOENT;
}

int catalog_version_set_owner(struct catalog_conn *conn, int64_t id, int64_t owner)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "UPDATE versions SET owner = ? WHERE id = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, owner);
	sql_bind_int(st, id);
	error = sql_finish(st);
	return error || sql_changes(conn->db) ? error : -ENOENT;
}
