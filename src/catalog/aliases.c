/* Aliases and their history. */
#include "internal.h"

#define ALIAS_COLUMNS "SELECT id, model_id, name, number, uid, gid, set_ns FROM aliases "

static int alias_row(struct sql_stmt *st, struct catalog_alias *ret)
{
	struct catalog_alias a = {
		.id = sql_int(st, 0),
		.model_id = sql_int(st, 1),
		.number = (uint32_t)sql_int(st, 3),
		.uid = (uid_t)sql_int(st, 4),
		.gid = (gid_t)sql_int(st, 5),
		.set_ns = sql_int(st, 6),
	};
	sql_copy(st, 2, a.name, sizeof a.name);
	int error = sql_error(st);
	if (!error)
		*ret = a;
	return error;
}

int catalog_alias_get(struct catalog_conn *conn, int64_t id, struct catalog_alias *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, ALIAS_COLUMNS "WHERE id = ?", id, &st);
	return error ? error : alias_row(st, ret);
}

int catalog_alias_find(struct catalog_conn *conn, int64_t model_id, const char *name, struct catalog_alias *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, ALIAS_COLUMNS "WHERE model_id = ? AND name = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, model_id);
	sql_bind_text(st, name);
	error = sql_first(st);
	return error ? error : alias_row(st, ret);
}

struct event {
	int64_t model_id;
	const char *name;
	uint32_t from, to;
	int64_t at_ns;
	uid_t uid;
	const char *author;
};

static int add_event(struct sql *db, const struct event *e)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "INSERT INTO alias_events (model_id, name, from_number, to_number, at_ns, uid, author)"
		" VALUES (?, ?, ?, ?, ?, ?, ?)", &st);
	if (error)
		return error;
	sql_bind_int(st, e->model_id);
	sql_bind_text(st, e->name);
	sql_bind_int(st, e->from);
	sql_bind_int(st, e->to);
	sql_bind_int(st, e->at_ns);
	sql_bind_int(st, e->uid);
	sql_bind_text(st, e->author);
	return sql_finish(st);
}

/* Inserts, or moves the one of that name, which keeps its id. */
static int put_alias(struct sql *db, const struct catalog_alias *a, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "INSERT INTO aliases (model_id, name, number, uid, gid, set_ns) VALUES (?, ?, ?, ?, ?, ?)"
		" ON CONFLICT (model_id, name) DO UPDATE SET number = excluded.number, uid = excluded.uid, gid = excluded.gid,"
		" set_ns = excluded.set_ns RETURNING id", &st);
	if (error)
		return error;
	sql_bind_int(st, a->model_id);
	sql_bind_text(st, a->name);
	sql_bind_int(st, a->number);
	sql_bind_int(st, a->uid);
	sql_bind_int(st, a->gid);
	sql_bind_int(st, a->set_ns);
	return sql_finish_id(st, ret_id);
}

int catalog_alias_set(struct catalog_conn *conn, const struct catalog_alias *a, const char *author, int64_t *ret_id)
{
	struct catalog_alias old = {0};
	int64_t id;
	int error = catalog_alias_find(conn, a->model_id, a->name, &old);
	if (error && error != -ENOENT)
		return error;
	if (!error && old.number == a->number) {
		*ret_id = old.id;
		return 0;
	}
	error = put_alias(conn->db, a, &id);
	if (!error)
		error = add_event(conn->db, &(struct event){a->model_id, a->name, old.number, a->number, a->set_ns, a->uid, author});
	if (!error)
		*ret_id = id;
	return error;
}

static int remove_alias(struct sql *db, int64_t id)
{
	return sql_run_for(db, "DELETE FROM aliases WHERE id = ?", id);
}

int catalog_alias_drop(struct catalog_conn *conn, int64_t model_id, const char *name, int64_t at_ns, uid_t uid, const char *author)
{
	struct catalog_alias old;
	int error = catalog_alias_find(conn, model_id, name, &old);
	if (!error)
		error = remove_alias(conn->db, old.id);
	return error ? error : add_event(conn->db, &(struct event){model_id, name, old.number, 0, at_ns, uid, author});
}

/* The only event of a name, if it is not older than since_ns. */
static int find_only_event(struct sql *db, int64_t model_id, const char *name, int64_t since_ns, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "SELECT min(id) FROM alias_events WHERE model_id = ? AND name = ? GROUP BY name HAVING count(*) = 1 AND min(at_ns) >= ?", &st);
	if (error)
		return error;
	sql_bind_int(st, model_id);
	sql_bind_text(st, name);
	sql_bind_int(st, since_ns);
	error = sql_first(st);
	if (!error)
		*ret_id = sql_int(st, 0);
	return error;
}

/* From the history, and from what watchers are told: the newest event of that name, found from the end. */
static int remove_event(struct sql *db, int64_t id)
{
	int error = sql_run_for(db, "DELETE FROM events WHERE id = (SELECT e.id FROM events e, alias_events a WHERE a.id = ?"
		" AND e.kind = 'alias' AND e.model_id = a.model_id AND e.number = a.to_number AND e.text = a.name ORDER BY e.id DESC LIMIT 1)", id);
	return error ? error : sql_run_for(db, "DELETE FROM alias_events WHERE id = ?", id);
}

int catalog_alias_take_back(struct catalog_conn *conn, int64_t model_id, const char *name, int64_t since_ns, int64_t at_ns, uid_t uid, const char *author)
{
	struct catalog_alias old;
	int64_t event;
	int error = find_only_event(conn->db, model_id, name, since_ns, &event);
	if (error == -ENOENT)
		return catalog_alias_drop(conn, model_id, name, at_ns, uid, author);
	if (!error)
		error = catalog_alias_find(conn, model_id, name, &old);
	if (error)
		return error;
	error = remove_alias(conn->db, old.id);
	return error ? error : remove_event(conn->db, event);
}

/* A model has few aliases: they are found by the index on (model_id, name) and sorted, rather than to keep another index. */
int catalog_alias_list(struct catalog_conn *conn, int64_t model_id, int64_t after_id, catalog_alias_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	struct catalog_alias a;
	int r = sql_prepare(conn->db, ALIAS_COLUMNS "INDEXED BY aliases_name WHERE model_id = ? AND id > ? ORDER BY id", &st);
	if (r)
		return r;
	sql_bind_int(st, model_id);
	sql_bind_int(st, after_id);
	while ((r = sql_step(st)) > 0) {
		r = alias_row(st, &a);
		if (!r)
			r = fn(&a, arg);
		if (r)
			return r;
	}
	return r;
}

int catalog_alias_history(struct catalog_conn *conn, int64_t model_id, const char *name_or_null, catalog_alias_event_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare(conn->db, "SELECT name, from_number, to_number, at_ns, uid, author FROM alias_events"
		" WHERE model_id = ?1 AND (?2 IS NULL OR name = ?2) ORDER BY id", &st);
	if (r)
		return r;
	sql_bind_int(st, model_id);
	sql_bind_text(st, name_or_null);
	while ((r = sql_step(st)) > 0) {
		struct catalog_alias_event e = {
			.from = (uint32_t)sql_int(st, 1),
			.to = (uint32_t)sql_int(st, 2),
			.at_ns = sql_int(st, 3),
			.uid = (uid_t)sql_int(st, 4),
			.author = sql_text(st, 5),
		};
		sql_copy(st, 0, e.name, sizeof e.name);
		r = sql_error(st);
		if (!r)
			r = fn(&e, arg);
		if (r)
			return r;
	}
	return r;
}
