/* The driver below the catalog: one database connection and its statements. All the catalog wants of a database is here; the only
 * implementation is sql_sqlite.c, the only place that sees sqlite3.h. Another database needs another file behind this page.
 *
 * A connection is used by one thread at a time. Errors are -errno, logged where they are met (a broken constraint is an
 * answer, not an event: it is not logged). */
#ifndef MINTFS_CATALOG_SQL_H
#define MINTFS_CATALOG_SQL_H

#include <mintfs/log.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sql;
struct sql_stmt;

enum sql_access {
	SQL_CREATE,    /* makes the file; journal in memory: for a database nobody else sees yet */
	SQL_WRITER,
	SQL_READER,    /* takes part in locking like a writer, but can change nothing */
	SQL_READ_ONLY, /* as SQL_READER, where files may not be written */
	SQL_IMMUTABLE, /* no locks, no log: for a file that cannot change, on a read-only file system */
};

int sql_open(const char *path, enum sql_access access, struct log *log, struct sql **ret);
void sql_admit_views(struct sql *db); /* they are refused (-EUCLEAN) until then */
void sql_close(struct sql *db); /* NULL is fine; rolls back what is open; does not checkpoint */

/* Statements. sql_prepare keeps them for the life of the connection under the address of their text, which must be a literal; one that is
 * in use already (a listing within a listing) is prepared anew. sql_prepare_once takes any text. Both must be given back. */
int sql_prepare(struct sql *db, const char *text, struct sql_stmt **ret);
int sql_prepare_once(struct sql *db, const char *text, struct sql_stmt **ret);
void sql_release(struct sql_stmt *st); /* NULL is fine */
static inline void sql_release_(struct sql_stmt **st) { sql_release(*st); }
#define auto_stmt __attribute__((cleanup(sql_release_)))

/* Parameters, from the first to the last. Pointers are borrowed until the release. A failure sticks and comes out of the next step. */
void sql_bind_int(struct sql_stmt *st, int64_t value);
void sql_bind_real(struct sql_stmt *st, double value);
void sql_bind_text(struct sql_stmt *st, const char *value); /* NULL: null */
void sql_bind_blob(struct sql_stmt *st, const void *data, size_t len);
void sql_rewind(struct sql_stmt *st); /* ready for new parameters and another run */

int sql_step(struct sql_stmt *st);   /* 1: a row; 0: no more; -errno */
int sql_first(struct sql_stmt *st);  /* 0: a row; -ENOENT: none */
int sql_finish(struct sql_stmt *st); /* runs to the end */
/* As sql_finish, for INSERT … RETURNING id. To the end, since constraints may be checked only there. */
int sql_finish_id(struct sql_stmt *st, int64_t *ret_id);
int sql_run(struct sql *db, const char *text);    /* prepare, finish; text is a literal */
/* With one parameter, mostly an id: prepare, bind, then first (the row is in *ret, to be released) or finish. */
int sql_find(struct sql *db, const char *text, int64_t id, struct sql_stmt **ret);
int sql_run_for(struct sql *db, const char *text, int64_t id);
int sql_script(struct sql *db, const char *text); /* several statements; any text */

/* Columns of the row, from 0. */
int64_t sql_int(struct sql_stmt *st, int col);
double sql_real(struct sql_stmt *st, int col);
const char *sql_text(struct sql_stmt *st, int col);       /* borrowed until the next step; NULL: null */
const void *sql_blob(struct sql_stmt *st, int col, size_t len); /* NULL unless it has exactly this length */
/* These two note their failures in the statement, for sql_error: a text too long -EUCLEAN, -ENOMEM. */
void sql_copy(struct sql_stmt *st, int col, char *dst, size_t size); /* null: "" */
char *sql_dup(struct sql_stmt *st, int col);              /* null: NULL */
int sql_error(const struct sql_stmt *st);

int64_t sql_changes(struct sql *db); /* rows changed by the last statement that changed any */
bool sql_in_transaction(struct sql *db);

/* Durability. With sync, COMMIT returns when what it wrote is on the disk. To be set outside a transaction. */
int sql_set_sync(struct sql *db, bool sync);
int sql_sync_log(struct sql *db); /* everything committed by anybody so far is on the disk when it returns */
/* Did COMMIT write to the log since the last call? And how many pages does the log hold? */
bool sql_take_wrote(struct sql *db, int *ret_log_pages);
int sql_checkpoint(struct sql *db, bool truncate); /* waits for nobody; truncate: -EBUSY if readers stand in the way */

/* The whole database as the connection sees it (in its transaction, where one is open) into a new file, which has no write-ahead log. */
int sql_copy_database(struct sql *db, const char *path);

/* Calls fn with the text of each statement kept (for tests of query plans). */
void sql_each_kept(struct sql *db, void (*fn)(const char *text, void *arg), void *arg);

#endif
