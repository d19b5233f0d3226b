/* The schema of format 1, and the way from older formats to the present one: a new catalog takes the same steps (steps.c), so there is one schema, not two.
 *
 * Choices (docs/design/catalog.md has the reasons):
 *  - AUTOINCREMENT where an id may never be used again: node ids and draft directories are computed from them.
 *  - One row of `files` is an entry of a committed version. The entries of one version have consecutive ids, so have the
 *    children of one directory: a listing is a range of rowids. `parent` is -version_id at the top. It is descending in the index since the
 *    newest version has the lowest one, and SQLite fills pages well only at the right end.
 *  - `files.inode` is null for an entry that is its own inode, `files.blob` is the rowid of the content.
 *  - `metrics` holds committed versions only (not retired ones): catalog_best seeks in metrics_best.
 *  - The two views are for other programs and part of what MintFS promises. */
#include "internal.h"

#include <stdio.h>
#include <string.h>

const char schema_tables[] =
	"CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
	"INSERT INTO meta VALUES ('numbers_stamp', 1);"

	"CREATE TABLE dirs ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" parent INTEGER REFERENCES dirs (id)," /* null: the root */
	" name TEXT NOT NULL,"
	" is_model INTEGER NOT NULL,"
	" hidden INTEGER NOT NULL,"
	" uid INTEGER NOT NULL, gid INTEGER NOT NULL, mode INTEGER NOT NULL," /* mode: and the lives of the directory, dirs.c */
	" mtime_ns INTEGER NOT NULL) STRICT;"
	"CREATE UNIQUE INDEX dirs_name ON dirs (parent, name);"
	"CREATE INDEX dirs_parent ON dirs (parent);" /* listings in order of id */

	"CREATE TABLE models ("
	" id INTEGER PRIMARY KEY REFERENCES dirs (id),"
	" mode INTEGER NOT NULL,"
	" path TEXT NOT NULL UNIQUE, key TEXT NOT NULL UNIQUE, identifier TEXT NOT NULL, type TEXT NOT NULL,"
	" last_number INTEGER NOT NULL, newest_committed INTEGER NOT NULL,"
	" best_metric TEXT NOT NULL, best_mode INTEGER NOT NULL, best_named INTEGER NOT NULL) STRICT;"

	"CREATE TABLE versions ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" model_id INTEGER NOT NULL REFERENCES models (id),"
	" number INTEGER NOT NULL CHECK (number > 0),"
	" state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3)," /* enum catalog_state */
	" minted_ns INTEGER NOT NULL, committed_ns INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,"
	" uid INTEGER NOT NULL, gid INTEGER NOT NULL, mode INTEGER NOT NULL,"
	" size INTEGER NOT NULL, n_files INTEGER NOT NULL, n_dirs INTEGER NOT NULL,"
	" first_child INTEGER NOT NULL, n_children INTEGER NOT NULL,"
	" n_entries INTEGER NOT NULL," /* of all levels: files.id from first_child on */
	" run_id INTEGER NOT NULL, owner INTEGER NOT NULL,"
	" author TEXT, message TEXT, reason TEXT, metrics_summary TEXT) STRICT;"
	"CREATE UNIQUE INDEX versions_number ON versions (model_id, number);"
	"CREATE INDEX versions_drafts ON versions (model_id, number) WHERE state = 0;"

	"CREATE TABLE blobs ("
	" id INTEGER PRIMARY KEY,"
	" sha256 BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),"
	" size INTEGER NOT NULL) STRICT;"

	"CREATE TABLE files ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" version_id INTEGER NOT NULL, parent INTEGER NOT NULL, name TEXT NOT NULL,"
	" type INTEGER NOT NULL," /* enum catalog_type */
	" mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL,"
	" size INTEGER NOT NULL, blocks INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, nlink INTEGER NOT NULL,"
	" inode INTEGER, first_child INTEGER NOT NULL, n_children INTEGER NOT NULL,"
	" blob INTEGER, target TEXT) STRICT;"
	"CREATE UNIQUE INDEX files_name ON files (parent DESC, name);"

	"CREATE TABLE metrics ("
	" model_id INTEGER NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, value REAL NOT NULL,"
	" PRIMARY KEY (model_id, number, name)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX metrics_best ON metrics (model_id, name, value, number);"

	"CREATE TABLE aliases ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" model_id INTEGER NOT NULL REFERENCES models (id),"
	" name TEXT NOT NULL, number INTEGER NOT NULL,"
	" uid INTEGER NOT NULL, gid INTEGER NOT NULL, set_ns INTEGER NOT NULL) STRICT;"
	"CREATE UNIQUE INDEX aliases_name ON aliases (model_id, name);"
	"CREATE TABLE alias_events ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" model_id INTEGER NOT NULL REFERENCES models (id),"
	" name TEXT NOT NULL, from_number INTEGER NOT NULL, to_number INTEGER NOT NULL,"
	" at_ns INTEGER NOT NULL, uid INTEGER NOT NULL, author TEXT) STRICT;"
	"CREATE INDEX alias_events_model ON alias_events (model_id);"

	"CREATE TABLE runs ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" key TEXT, boot_id TEXT, chain TEXT, uid INTEGER NOT NULL,"
	" user TEXT, host TEXT, command TEXT, cwd TEXT, git_commit TEXT, git_dirty INTEGER NOT NULL,"
	" started_ns INTEGER NOT NULL, ended_ns INTEGER NOT NULL, exit_status INTEGER NOT NULL) STRICT;"

	"CREATE TABLE mounts ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" pid INTEGER NOT NULL, read_only INTEGER NOT NULL, since_ns INTEGER NOT NULL,"
	" host TEXT NOT NULL, boot_id TEXT NOT NULL, mountpoint TEXT NOT NULL) STRICT;";

const char schema_views[] =
	"CREATE VIEW model_versions AS SELECT"
	" v.id AS id, m.identifier AS model_identifier, m.type AS model_type, 'v' || v.number AS version,"
	" 'saved_models/' || m.path || '/v' || v.number || '/' AS model_path,"
	" datetime(v.committed_ns / 1000000000, 'unixepoch') AS created_at,"
	" coalesce(v.metrics_summary, '{}') AS metrics_summary"
	" FROM versions v JOIN models m ON m.id = v.model_id"
	" WHERE v.state IN (1, 2) AND m.mode IN (0, 1, 2);"

	"CREATE VIEW version_files AS SELECT"
	" v.id AS version_id, 'saved_models/' || m.path || '/v' || v.number || '/' AS model_path, 'v' || v.number AS version,"
	" (WITH RECURSIVE up (parent, path) AS ("
	"   SELECT f.parent, f.name UNION ALL SELECT p.parent, p.name || '/' || up.path FROM up JOIN files p ON p.id = up.parent)"
	"  SELECT path FROM up WHERE parent < 0) AS path,"
	" CASE f.type WHEN 1 THEN 'file' WHEN 2 THEN 'directory' ELSE 'symlink' END AS type,"
	" printf('%04o', f.mode) AS mode, f.size AS size,"
	" datetime(f.mtime_ns / 1000000000, 'unixepoch') AS mtime,"
	" CASE WHEN f.blob IS NOT NULL THEN lower(hex(b.sha256)) END AS sha256"
	" FROM models m JOIN versions v ON v.model_id = m.id"
	" JOIN files f ON f.id >= v.first_child AND f.id < v.first_child + v.n_entries"
	" LEFT JOIN blobs b ON b.id = f.blob"
	" WHERE v.state IN (1, 2);";

static int add_first_dir(struct sql *db, bool root, const char *name, mode_t mode)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "INSERT INTO dirs (id, parent, name, is_model, hidden, uid, gid, mode, mtime_ns)"
		" SELECT CASE WHEN ?1 THEN 1 END, CASE WHEN ?1 THEN NULL ELSE 1 END, ?2, 0, 0, ?3, ?4, ?5, ?6", &st);
	if (error)
		return error;
	sql_bind_int(st, root);
	sql_bind_text(st, name);
	sql_bind_int(st, geteuid());
	sql_bind_int(st, getegid());
	sql_bind_int(st, mode);
	sql_bind_int(st, time_now_ns());
	return sql_finish(st);
}

static int set_format(struct sql *db, int format)
{
	char text[64];
	snprintf(text, sizeof text, "PRAGMA user_version=%d", format);
	return sql_script(db, text);
}

/* Runs the steps that lead from `format` to the plan's, in their order, several of which may belong to one format. */
static int run_steps(struct sql *db, const struct schema_plan *plan, int format)
{
	int reached = format;
	for (size_t i = 0; i < plan->n_steps; i++) {
		const struct schema_step *step = &plan->steps[i];
		if (step->format <= format)
			continue;
		int error = step->format > reached + 1 ? -EPROTONOSUPPORT : sql_script(db, step->text);
		if (error)
			return error;
		reached = step->format;
	}
	return reached == plan->format ? set_format(db, reached) : -EPROTONOSUPPORT;
}

int schema_create(struct sql *db)
{
	static const char *const modes[] = {"product", "store", "global"};
	char text[64];
	snprintf(text, sizeof text, "PRAGMA application_id=%d", CATALOG_APPLICATION_ID);
	int error = sql_run(db, "BEGIN IMMEDIATE");
	if (!error)
		error = sql_script(db, text);
	if (!error)
		error = sql_script(db, schema_tables);
	if (!error)
		error = sql_script(db, schema_views);
	if (!error)
		error = add_first_dir(db, true, "", 0755);
	for (size_t i = 0; !error && i < ARRAY_SIZE(modes); i++)
		error = add_first_dir(db, false, modes[i], 01777);
	if (!error)
		error = run_steps(db, &schema_current, 1);
	if (!error)
		error = sql_run(db, "COMMIT");
	return error ? error : sql_script(db, "PRAGMA journal_mode=WAL");
}

static int pragma_int(struct sql *db, const char *text, int64_t *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, text, &st);
	if (!error)
		error = sql_first(st);
	if (error)
		return error == -ENOENT ? -EUCLEAN : error;
	*ret = sql_int(st, 0);
	return 0;
}

int schema_format(struct sql *db, int *ret_format)
{
	int64_t format;
	int error = pragma_int(db, "PRAGMA user_version", &format);
	if (!error)
		*ret_format = (int)format;
	return error;
}

int schema_cookie(struct sql *db, int64_t *ret)
{
	return pragma_int(db, "PRAGMA schema_version", ret);
}

int schema_check(struct sql *db, int known, const char *where, int *ret_format, struct fault *f)
{
	int64_t application;
	int format;
	int error = pragma_int(db, "PRAGMA application_id", &application);
	if (!error)
		error = schema_format(db, &format);
	if (error)
		return fault_set(f, -error, "%s/" CATALOG_FILE_NAME " cannot be read: %s", where,
			error == -EUCLEAN ? "it is damaged, or no database" : strerror(-error));
	if (application != CATALOG_APPLICATION_ID || format < 1)
		return fault_set(f, EUCLEAN, "%s/" CATALOG_FILE_NAME " is a database, but not a catalog of MintFS", where);
	if (format > known)
		return fault_set(f, EPROTONOSUPPORT, "%s/" CATALOG_FILE_NAME " was made by a newer MintFS (format %d; "
			"this program knows up to %d): upgrade MintFS", where, format, known);
	*ret_format = format;
	return 0;
}

/* A backup made by VACUUM INTO, say, has no write-ahead log. */
int schema_is_logged(struct sql *db, bool *ret_logged)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "PRAGMA journal_mode", &st);
	if (!error)
		error = sql_first(st);
	if (error)
		return error;
	const char *mode = sql_text(st, 0);
	*ret_logged = mode && strcmp(mode, "wal") == 0;
	return 0;
}

/* Also turns the write-ahead log on. The caller holds the store's lock; another process may have upgraded while it waited for that. */
int schema_upgrade(struct sql *db, const struct schema_plan *plan, const char *where, struct log *log, struct fault *f)
{
	int format = 0;
	int error = sql_set_sync(db, true);
	if (!error)
		error = sql_script(db, "PRAGMA journal_mode=WAL");
	if (!error)
		error = sql_run(db, "BEGIN IMMEDIATE");
	if (error)
		return fault_set(f, -error, "%s/" CATALOG_FILE_NAME " cannot be upgraded: %s", where, strerror(-error));
	error = schema_check(db, plan->format, where, &format, f);
	if (!error)
		error = schema_verify(db, plan, format, where, f);
	if (!error && format < plan->format)
		error = run_steps(db, plan, format);
	if (!error)
		error = sql_run(db, "COMMIT");
	if (!error) {
		if (format < plan->format)
			log_info(log, "catalog: %s/" CATALOG_FILE_NAME " upgraded from format %d to %d", where, format, plan->format);
		return 0;
	}
	if (sql_in_transaction(db))
		sql_run(db, "ROLLBACK");
	return fault_default(f, -error, "%s/" CATALOG_FILE_NAME " cannot be upgraded from format %d to %d: %s",
		where, format, plan->format, strerror(-error));
}
