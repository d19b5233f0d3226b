/* The table model_versions of a database that another program wrote, as it is documented for readers of ours: what an existing folder of models is taken in with.
 *
 * Nothing is known of its indexes, so its rows are copied to a temporary table of our own first: a look-up for each of many versions must not read all of them. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mintfs/sys.h>
#include <stdio.h>
#include <string.h>

#define ROWS_MAX 2000000 /* a view can have rows without end */
#define TEXT(number) TEXT_OF(number)
#define TEXT_OF(number) #number

struct catalog_legacy { struct sql *db; };

static int fill(struct sql *db)
{
	/* query_only would forbid the temporary table, too; the file itself is open for reading only */
	sql_admit_views(db); /* model_versions may be one */
	int error = sql_script(db, "PRAGMA query_only=0; PRAGMA temp_store=FILE;"
		"CREATE TEMP TABLE rows_there AS SELECT model_identifier AS identifier, model_type AS type, version, created_at, metrics_summary FROM main.model_versions"
		" LIMIT 1 + " TEXT(ROWS_MAX) ";");
	auto_stmt struct sql_stmt *st = NULL;
	if (!error)
		error = sql_prepare(db, "SELECT 1 FROM temp.rows_there WHERE rowid > " TEXT(ROWS_MAX), &st);
	if (!error && (error = sql_step(st)) > 0)
		error = -E2BIG;
	return error ? error : sql_script(db, "CREATE INDEX temp.rows_there_name ON rows_there (identifier, type, version)");
}

/* SQLite waits for a pipe, also in the place of a log. -ENOENT: there is none. */
static int check_files(const char *path)
{
	static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
	char name[PATH_MAX];
	struct stat st;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		if (snprintf(name, sizeof name, "%s%s", path, ends[i]) >= (int)sizeof name)
			return -ENAMETOOLONG;
		int error = sys_fstatat(AT_FDCWD, name, &st, 0);
		if (error && (i == 0 || error != -ENOENT))
			return error;
		if (!error && !S_ISREG(st.st_mode))
			return -EUCLEAN;
	}
	return 0;
}

static const char *what_is_wrong(int error)
{
	return error == -EUCLEAN ? "it is no SQLite database, or has no table model_versions with the documented columns" :
		error == -E2BIG ? "its table model_versions has more than " TEXT(ROWS_MAX) " rows" : strerror(-error);
}

int catalog_legacy_open(const char *path, struct log *log, struct catalog_legacy **ret, struct fault *f)
{
	auto_free struct catalog_legacy *l = calloc(1, sizeof *l);
	if (!l)
		return fault_set(f, ENOMEM, "no memory for %s", path);
	int error = check_files(path);
	if (error)
		return fault_set(f, -error, "%s cannot be read: %s", path, what_is_wrong(error));
	error = sql_open(path, SQL_READ_ONLY, log, &l->db);
	if (!error)
		error = fill(l->db);
	if (error && error != -ENOENT && error != -E2BIG) { /* its log cannot be read where nothing may be written */
		sql_close(l->db);
		l->db = NULL;
		error = sql_open(path, SQL_IMMUTABLE, log, &l->db);
		if (!error)
			error = fill(l->db);
	}
	if (error) {
		sql_close(l->db);
		return fault_set(f, -error, "%s cannot be read: %s", path, what_is_wrong(error));
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
