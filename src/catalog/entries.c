/* The entries of a version, as they come into being: with its commit, or ahead of it.
 *
 * They come in breadth-first order and get consecutive ids, so an index into the caller's array is an id less a base. With the commit nothing else writes in between: there is one
 * transaction at a time in a store. Ahead of it others do, so all the ids are set apart with the first rows, and the draft's own row says which they are: first_child and n_entries, which are 0
 * of any other draft. Whoever finds them at a draft that nobody commits takes the rows out. There is a first row as long as there is a range: gc knows the range by it (registry/references.c). */
#include "internal.h"

#include <string.h>

static int blob_find(struct sql *db, const struct blob_id *id, int64_t *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "SELECT id FROM blobs WHERE sha256 = ?", &st);
	if (error)
		return error;
	sql_bind_blob(st, id->sha256, sizeof id->sha256);
	error = sql_first(st);
	if (!error)
		*ret = sql_int(st, 0);
	return error;
}

static int blob_note(struct sql *db, const struct catalog_entry *e, int64_t *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = blob_find(db, &e->blob, ret);
	if (error != -ENOENT)
		return error;
	error = sql_prepare(db, "INSERT INTO blobs (sha256, size) VALUES (?, ?) RETURNING id", &st);
	if (error)
		return error;
	sql_bind_blob(st, e->blob.sha256, sizeof e->blob.sha256);
	sql_bind_int(st, (int64_t)e->size);
	return sql_finish_id(st, ret);
}

/* The statement makes nulls of an inode that is the entry's own and of blob 0: they cost a byte less in each of many rows. */
static int add_entry(struct sql_stmt *st, const struct catalog_commit *c, int64_t base, size_t i, int64_t blob)
{
	const struct catalog_entry *e = &c->entries[i];
	sql_rewind(st);
	sql_bind_int(st, base + (int64_t)i);
	sql_bind_int(st, c->version_id);
	sql_bind_int(st, e->parent < 0 ? -c->version_id : base + e->parent);
	sql_bind_text(st, e->name);
	sql_bind_int(st, e->type);
	sql_bind_int(st, e->mode & 07777);
	sql_bind_int(st, e->uid);
	sql_bind_int(st, e->gid);
	sql_bind_int(st, (int64_t)e->size);
	sql_bind_int(st, (int64_t)e->blocks);
	sql_bind_int(st, e->mtime_ns);
	sql_bind_int(st, e->nlink);
	sql_bind_int(st, base + e->inode);
	sql_bind_int(st, e->n_children ? base + e->first_child : 0);
	sql_bind_int(st, e->n_children);
	sql_bind_int(st, blob);
	sql_bind_text(st, e->type == CATALOG_SYMLINK ? e->target : NULL);
	return sql_finish(st);
}

/* files.id counts on by itself (sqlite_sequence remembers ids of rows long gone); *ret_base is the next one. A hostile catalog may leave no room for n. */
int entries_next_id(struct sql *db, size_t n, int64_t *ret_base)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "SELECT seq FROM sqlite_sequence WHERE name = 'files'", &st);
	if (!error)
		error = sql_first(st);
	if (error && error != -ENOENT)
		return error;
	int64_t last = error ? 0 : sql_int(st, 0);
	if (last < 0 || (uint64_t)last + n >= INT64_MAX)
		return -EUCLEAN;
	*ret_base = last + 1;
	return 0;
}

int entries_add(struct sql *db, const struct catalog_commit *c, int64_t base, size_t from, size_t n)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "INSERT INTO files (id, version_id, parent, name, type, mode, uid, gid, size, blocks, mtime_ns, nlink,"
		" inode, first_child, n_children, blob, target)"
		" VALUES (?1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, ?1), ?, ?, nullif(?, 0), ?)", &st);
	for (size_t i = from; !error && i < from + n; i++) {
		int64_t blob = 0;
		if (c->entries[i].type == CATALOG_FILE)
			error = blob_note(db, &c->entries[i], &blob);
		if (!error)
			error = add_entry(st, c, base, i, blob);
	}
	return error ? error : absent_returned(db, base + (int64_t)from, n);
}

/* ---- ahead ---- */

/* The range of a draft, or of what was discarded before its range was empty; {0, 0}: it has none. What cannot be one is none. */
static int ahead_range(struct sql *db, int64_t version_id, int64_t *ret_first, int64_t *ret_n)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(db, "SELECT first_child, n_entries FROM versions WHERE id = ? AND state IN (0, 3)", version_id, &st);
	if (error)
		return error == -ENOENT ? -ESTALE : error;
	int64_t first = sql_int(st, 0), n = sql_int(st, 1);
	bool any = first > 0 && n > 0;
	*ret_first = any ? first : 0;
	*ret_n = any ? n : 0;
	return 0;
}

static int set_range(struct sql *db, int64_t version_id, int64_t first, int64_t n)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "UPDATE versions SET first_child = ?, n_entries = ? WHERE id = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, n > 0 ? first : 0);
	sql_bind_int(st, n > 0 ? n : 0);
	sql_bind_int(st, version_id);
	return sql_finish(st);
}

int catalog_ahead_begin(struct catalog_conn *conn, const struct catalog_commit *c, size_t n, int64_t *ret_ahead)
{
	int64_t first, n_there, base;
	if (n == 0 || n > c->n_entries)
		return -EINVAL;
	int error = commit_check_entries(c);
	if (!error)
		error = ahead_range(conn->db, c->version_id, &first, &n_there);
	if (!error && first != 0)
		error = -ESTALE;
	if (!error)
		error = entries_next_id(conn->db, c->n_entries, &base);
	if (!error)
		error = entries_add(conn->db, c, base, 0, n);
	if (!error) /* what the rows themselves raise no further than to the last of them */
		error = sql_run_for(conn->db, "UPDATE sqlite_sequence SET seq = ? WHERE name = 'files'", base + (int64_t)c->n_entries - 1);
	if (!error)
		error = set_range(conn->db, c->version_id, base, (int64_t)c->n_entries);
	if (!error)
		*ret_ahead = base;
	return error;
}

/* Nobody has taken them out meanwhile, and they are this commit's. */
static int check_range(struct sql *db, const struct catalog_commit *c, int64_t base)
{
	int64_t first, n;
	int error = ahead_range(db, c->version_id, &first, &n);
	return error ? error : first == base && n == (int64_t)c->n_entries ? 0 : -ESTALE;
}

int catalog_ahead_add(struct catalog_conn *conn, const struct catalog_commit *c, size_t from, size_t n)
{
	if (from > c->n_entries || n > c->n_entries - from)
		return -EINVAL;
	int error = check_range(conn->db, c, c->ahead);
	return error ? error : entries_add(conn->db, c, c->ahead, from, n);
}

/* The last row is the last that was added. Sweeps spare what the rows refer to; but it may have been found damaged. */
int entries_ahead_whole(struct sql *db, const struct catalog_commit *c, int64_t base)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = check_range(db, c, base);
	if (!error)
		error = sql_find(db, "SELECT 1 FROM files WHERE id = ?", base + (int64_t)c->n_entries - 1, &st);
	if (error)
		return error == -ENOENT ? -ESTALE : error;
	return absent_since(db, c->ahead_ns, base, c->n_entries);
}

int catalog_ahead_end(struct catalog_conn *conn, int64_t version_id, int64_t *ret_end)
{
	int64_t first, n;
	int error = ahead_range(conn->db, version_id, &first, &n);
	*ret_end = !error && first != 0 ? range_end(first, n) : 0;
	return error == -ESTALE ? 0 : error;
}

/* The row behind the first `limit` of a range; its end, if there is none. */
static int range_rest(struct sql *db, int64_t first, int64_t end, unsigned limit, int64_t *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "SELECT id FROM files WHERE id >= ? AND id < ? ORDER BY id LIMIT 1 OFFSET ?", &st);
	if (error)
		return error;
	sql_bind_int(st, first);
	sql_bind_int(st, end);
	sql_bind_int(st, limit);
	error = sql_first(st);
	if (error && error != -ENOENT)
		return error;
	*ret = error ? end : sql_int(st, 0);
	return 0;
}

/* From the first on, with what the version says of them: what is left of a range is always the rest of it, and begins with a row. */
int catalog_ahead_drop(struct catalog_conn *conn, int64_t version_id, int64_t end, unsigned limit, bool *ret_more)
{
	auto_stmt struct sql_stmt *st = NULL;
	int64_t first, n, upto;
	*ret_more = false;
	int error = ahead_range(conn->db, version_id, &first, &n);
	if (error || first == 0 || range_end(first, n) != end)
		return error == -ESTALE ? 0 : error;
	error = range_rest(conn->db, first, end, limit, &upto);
	if (!error)
		error = sql_prepare(conn->db, "DELETE FROM files WHERE id >= ? AND id < ? AND version_id = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, first);
	sql_bind_int(st, upto);
	sql_bind_int(st, version_id);
	error = sql_finish(st);
	if (!error)
		error = set_range(conn->db, version_id, upto, end - upto);
	*ret_more = !error && upto < end;
	return error;
}
