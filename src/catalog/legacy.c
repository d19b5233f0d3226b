/* The table model_versions of a database that another program wrote, as it is documented for readers of ours: what an existing folder of models is taken in with.
 *
 * Nothing is known of its indexes, so its rows are copied to a temporary table of our own first: a look-up for each of many versions must not read all of them. */
#include "internal.h"

#include <string.h>

struct catalog_legacy { struct sql *db; };

static int fill(struct sql *db)
{
	/* query_only would forbid the temporary table, too; the file itself is open for reading only */
	return sql_script(db, "PRAGMA query_only=0; PRAGMA temp_store=FILE;"
		"CREATE TEMP TABLE rows_there AS SELECT model_identifier AS identifier, model_type AS type, version, created_at, metrics_summary FROM main.model_versions;"
		"CREATE INDEX temp.rows_there_name ON rows_there (identifier, type, version)");
}

int catalog_legacy_open(const char *path, struct log *log, struct catalog_legacy **ret, struct fault *f)
{
	auto_free struct catalog_legacy *l = calloc(1, sizeof *l);
	if (!l)
		return fault_set(f, ENOMEM, "no memory for %s", path);
	int error = sql_open(path, SQL_READ_ONLY, log, &l->db);
	if (!error)
		error = fill(l->db);
	if (error && error != -ENOENT) { /* its log cannot be read where nothing may be written */
		sql_close(l->db);
		l->db = NULL;
		error = sql_open(path, SQL_IMMUTABLE, log, &l->db);
		if (!error)
			error = fill(l->db);
	}
	if (error) {
		sql_close(l->db);
		return fault_set(f, -error, "%s cannot be read: %s", path,
			error == -EUCLEAN ? "it is no SQLite database, or has no table model_versions with the documented columns" : strerror(-error));
	}
	*ret = take_ptr(l);
	return 0;
}

void catalog_legacy_close(struct catalog_legacy *l)
{
	if (l)
		sql_close(l->db);
	free(l);
}

int catalog_legacy_find(struct catalog_legacy *l, const char *identifier, const char *type, const char *version, struct catalog_legacy_row *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(l->db, "SELECT CAST(created_at AS TEXT), CAST(metrics_summary AS TEXT) FROM temp.rows_there"
		" WHERE identifier = ? AND type = ? AND version = ? ORDER BY rowid DESC LIMIT 1", &st);
	if (error)
		return error;
	sql_bind_text(st, identifier);
	sql_bind_text(st, type);
	sql_bind_text(st, version);
	error = sql_first(st);
	if (error)
		return error;
	struct catalog_legacy_row row = {sql_dup(st, 0), sql_dup(st, 1)};
	error = sql_error(st);
	if (error) {
		free(row.created_at);
		free(row.metrics_summary);
		return error;
	}
	*ret = row;
	return 0;
}
