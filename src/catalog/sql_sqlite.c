/* The driver on SQLite: sql.h. Purpose: open connections with the settings the catalog relies on, keep prepared statements,
 * and turn SQLite's codes into errno - here and nowhere else.
 *
 * Invariants:
 *  - No connection ever checkpoints by itself: not after a commit (the automatic checkpoint is off), not at close
 *    (SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE). Checkpoints and write transactions run under the store's lock, which the callers of this
 *    file take: SQLite up to 3.51.2 can lose pages when a checkpoint races with a write that begins the log anew.
 *  - A connection is used by one thread at a time, so SQLite needs no mutex of its own (SQLITE_OPEN_NOMUTEX).
 *  - A statement given back is reset: no read transaction stays open by accident. */
#include "sql.h"
#include "sql_faults.h"
#include "sql_files.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#define KEPT_MAX 128 /* slots for kept statements; a power of two, well above the number of texts in this room */
#define BUSY_TIMEOUT_MS 10000
#define READER_CACHE_KIB 512
#define WRITER_CACHE_KIB 2048
#define LENGTH_MAX (128 << 20) /* of a value or a row: beyond what is ever written, below what a foreign expression could take of the memory */

struct sql_stmt {
	struct sql *db;
	sqlite3_stmt *handle;
	const char *key; /* address of the text; NULL: not kept */
	bool used;
	int n_bound;
	int error; /* sticky until the release */
};

struct sql {
	sqlite3 *handle;
	struct log *log;
	bool sync;
	bool wrote;
	int log_pages;
	struct sql_stmt *kept[KEPT_MAX]; /* open hash by key */
	unsigned n_kept;
};

static int constraint_errno(int code)
{
	switch (code) {
	case SQLITE_CONSTRAINT_UNIQUE:
	case SQLITE_CONSTRAINT_PRIMARYKEY:
	case SQLITE_CONSTRAINT_ROWID:
		return -EEXIST;
	default:
		return -EINVAL;
	}
}

static int code_errno(sqlite3 *handle, int code)
{
	if (code == SQLITE_OK)
		return 0;
	switch (code & 0xff) {
	case SQLITE_CONSTRAINT: return constraint_errno(code);
	case SQLITE_FULL: return -ENOSPC;
	case SQLITE_NOMEM: return -ENOMEM;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_ERROR: return -EUCLEAN; /* no such table or column: not the schema we know */
	case SQLITE_READONLY: return -EROFS;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL: return -EBUSY;
	case SQLITE_PERM:
	case SQLITE_AUTH: return -EACCES;
	case SQLITE_TOOBIG: return -EFBIG;
	case SQLITE_INTERRUPT: return -EINTR;
	case SQLITE_MISUSE:
	case SQLITE_MISMATCH:
	case SQLITE_RANGE: return -EINVAL;
	case SQLITE_CANTOPEN: {
		int error = handle ? sqlite3_system_errno(handle) : 0;
		return error > 0 ? -error : -EIO;
	}
	default: return -EIO;
	}
}

static int fail(struct sql *db, int code, const char *text)
{
	int error = code_errno(db->handle, code);
	if ((code & 0xff) != SQLITE_CONSTRAINT)
		log_error(db->log, "catalog: %s (SQLite code %d) in: %.80s", sqlite3_errmsg(db->handle), code, text);
	return error;
}

/* ---- connections ---- */

static int on_commit(void *arg, sqlite3 *handle, const char *name, int pages)
{
	struct sql *db = arg;
	(void)handle;
	(void)name;
	db->wrote = true;
	db->log_pages = pages;
	return SQLITE_OK;
}

static int open_flags(enum sql_access access)
{
	int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
	switch (access) {
	case SQL_CREATE: return flags | SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
	case SQL_WRITER:
	case SQL_READER: return flags | SQLITE_OPEN_READWRITE;
	case SQL_READ_ONLY: return flags | SQLITE_OPEN_READONLY;
	case SQL_IMMUTABLE: return flags | SQLITE_OPEN_READONLY | SQLITE_OPEN_URI;
	}
	return flags;
}

/* SQLite opens its file with the first statement, so this is where a file that is no database is found out. */
static int configure(struct sql *db, enum sql_access access)
{
	char text[256];
	bool write = access == SQL_WRITER || access == SQL_CREATE;
	sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, access != SQL_CREATE, NULL);
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL); /* before the schema is read: somebody may have put one in a table's place */
	sqlite3_limit(db->handle, SQLITE_LIMIT_LENGTH, LENGTH_MAX);
	sqlite3_wal_autocheckpoint(db->handle, 0);
	sqlite3_wal_hook(db->handle, on_commit, db);
	snprintf(text, sizeof text,
		"PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY; PRAGMA cell_size_check=ON; PRAGMA cache_size=-%d;"
		"PRAGMA foreign_keys=%d; PRAGMA query_only=%d; PRAGMA synchronous=NORMAL; %s",
		write ? WRITER_CACHE_KIB : READER_CACHE_KIB, write, !write,
		access == SQL_CREATE ? "PRAGMA page_size=4096; PRAGMA journal_mode=MEMORY;" : "");
	return sql_script(db, text);
}

int sql_open(const char *path, enum sql_access access, struct log *log, struct sql **ret)
{
	char uri[512];
	if (access == SQL_IMMUTABLE) {
		if (strpbrk(path, "?#%")) /* would need escapes; the catalog's own paths hold none */
			return -EINVAL;
		if (snprintf(uri, sizeof uri, "file:%s?immutable=1", path) >= (int)sizeof uri)
			return -ENAMETOOLONG;
		path = uri;
	}
	struct sql *db = calloc(1, sizeof *db);
	if (!db)
		return -ENOMEM;
	db->log = log;
	sql_files_install();
	sql_faults_install(); /* over those */
	int code = sqlite3_open_v2(path, &db->handle, open_flags(access), NULL);
	int error = code ? code_errno(db->handle, code) : configure(db, access);
	if (error) {
		sql_close(db);
		return error;
	}
	*ret = db;
	return 0;
}

void sql_close(struct sql *db)
{
	if (!db)
		return;
	for (unsigned i = 0; i < KEPT_MAX; i++) {
		if (db->kept[i]) {
			sqlite3_finalize(db->kept[i]->handle);
			free(db->kept[i]);
		}
	}
	sqlite3_close_v2(db->handle);
	free(db);
}

void sql_admit_views(struct sql *db)
{
	sqlite3_db_config(db->handle, SQLITE_DBCONFIG_ENABLE_VIEW, 1, NULL);
}

/* ---- statements ---- */

static unsigned kept_slot(const struct sql *db, const char *key)
{
	unsigned i = (unsigned)(((uintptr_t)key * UINT64_C(0x9e3779b97f4a7c15)) >> 57) & (KEPT_MAX - 1);
	while (db->kept[i] && db->kept[i]->key != key)
		i = (i + 1) & (KEPT_MAX - 1);
	return i;
}

static int prepare(struct sql *db, const char *text, unsigned flags, struct sql_stmt **ret)
{
	auto_free struct sql_stmt *st = calloc(1, sizeof *st);
	if (!st)
		return -ENOMEM;
	int code = sqlite3_prepare_v3(db->handle, text, -1, flags, &st->handle, NULL);
	if (code)
		return fail(db, code, text);
	st->db = db;
	st->used = true;
	*ret = take_ptr(st);
	return 0;
}

int sql_prepare_once(struct sql *db, const char *text, struct sql_stmt **ret)
{
	return prepare(db, text, 0, ret);
}

int sql_prepare(struct sql *db, const char *text, struct sql_stmt **ret)
{
	unsigned slot = kept_slot(db, text);
	struct sql_stmt *st = db->kept[slot];
	if (st && !st->used) {
		st->used = true;
		*ret = st;
		return 0;
	}
	int error = prepare(db, text, SQLITE_PREPARE_PERSISTENT, &st);
	if (error)
		return error;
	if (!db->kept[slot] && db->n_kept < KEPT_MAX / 2) {
		st->key = text; /* NOLINT(clang-analyzer-core.NullDereference): an error of prepare() is never 0 */
		db->kept[slot] = st;
		db->n_kept++;
	}
	*ret = st;
	return 0;
}

void sql_rewind(struct sql_stmt *st)
{
	sqlite3_reset(st->handle);
	st->n_bound = 0;
	st->error = 0;
}

void sql_release(struct sql_stmt *st)
{
	if (!st)
		return;
	if (!st->key) {
		sqlite3_finalize(st->handle);
		free(st);
		return;
	}
	sql_rewind(st);
	sqlite3_clear_bindings(st->handle); /* they point into the memory of callers */
	st->used = false;
}

static void bound(struct sql_stmt *st, int code)
{
	if (code && !st->error)
		st->error = fail(st->db, code, sqlite3_sql(st->handle));
}

void sql_bind_int(struct sql_stmt *st, int64_t value)
{
	bound(st, sqlite3_bind_int64(st->handle, ++st->n_bound, value));
}

void sql_bind_real(struct sql_stmt *st, double value)
{
	bound(st, sqlite3_bind_double(st->handle, ++st->n_bound, value));
}

void sql_bind_text(struct sql_stmt *st, const char *value)
{
	bound(st, sqlite3_bind_text(st->handle, ++st->n_bound, value, -1, SQLITE_STATIC));
}

void sql_bind_blob(struct sql_stmt *st, const void *data, size_t len)
{
	bound(st, sqlite3_bind_blob64(st->handle, ++st->n_bound, data, len, SQLITE_STATIC));
}

int sql_step(struct sql_stmt *st)
{
	if (st->error)
		return st->error;
	int fault = sys_fault_point("sql_step");
	if (fault < 0)
		return st->error = fault;
	int code = sqlite3_step(st->handle);
	if (code == SQLITE_ROW)
		return 1;
	if (code == SQLITE_DONE)
		return 0;
	return st->error = fail(st->db, code, sqlite3_sql(st->handle));
}

int sql_first(struct sql_stmt *st)
{
	int r = sql_step(st);
	return r > 0 ? 0 : r < 0 ? r : -ENOENT;
}

int sql_finish(struct sql_stmt *st)
{
	int r;
	do
		r = sql_step(st);
	while (r > 0);
	return r;
}

int sql_finish_id(struct sql_stmt *st, int64_t *ret_id)
{
	int error = sql_first(st);
	if (error)
		return error;
	int64_t id = sql_int(st, 0);
	error = sql_finish(st);
	if (!error)
		*ret_id = id;
	return error;
}

int sql_run(struct sql *db, const char *text)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, text, &st);
	return error ? error : sql_finish(st);
}

int sql_find(struct sql *db, const char *text, int64_t id, struct sql_stmt **ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, text, &st);
	if (error)
		return error;
	sql_bind_int(st, id);
	error = sql_first(st);
	if (error)
		return error;
	*ret = take_ptr(st);
	return 0;
}

int sql_run_for(struct sql *db, const char *text, int64_t id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, text, &st);
	if (error)
		return error;
	sql_bind_int(st, id);
	return sql_finish(st);
}

int sql_script(struct sql *db, const char *text)
{
	int code = sqlite3_exec(db->handle, text, NULL, NULL, NULL);
	return code ? fail(db, code, text) : 0;
}

/* ---- columns ---- */

int64_t sql_int(struct sql_stmt *st, int col)
{
	return sqlite3_column_int64(st->handle, col);
}

double sql_real(struct sql_stmt *st, int col)
{
	return sqlite3_column_double(st->handle, col);
}

const char *sql_text(struct sql_stmt *st, int col)
{
	return (const char *)sqlite3_column_text(st->handle, col);
}

const void *sql_blob(struct sql_stmt *st, int col, size_t len)
{
	const void *data = sqlite3_column_blob(st->handle, col);
	return (size_t)sqlite3_column_bytes(st->handle, col) == len ? data : NULL;
}

void sql_copy(struct sql_stmt *st, int col, char *dst, size_t size)
{
	const char *text = sql_text(st, col);
	if (text_copy(dst, size, text ? text : "") && !st->error)
		st->error = -EUCLEAN;
}

char *sql_dup(struct sql_stmt *st, int col)
{
	const char *text = sql_text(st, col);
	char *copy = text ? strdup(text) : NULL;
	if (!copy && sqlite3_column_type(st->handle, col) != SQLITE_NULL && !st->error)
		st->error = -ENOMEM;
	return copy;
}

int sql_error(const struct sql_stmt *st)
{
	return st->error;
}

/* ---- transactions, durability ---- */

int64_t sql_changes(struct sql *db)
{
	return sqlite3_changes64(db->handle);
}

bool sql_in_transaction(struct sql *db)
{
	return !sqlite3_get_autocommit(db->handle);
}

int sql_set_sync(struct sql *db, bool sync)
{
	if (db->sync == sync)
		return 0;
	int error = sql_script(db, sync ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
	if (!error)
		db->sync = sync;
	return error;
}

/* The log's own file object, asked for with SQLITE_FCNTL_JOURNAL_POINTER, is synced by SQLite's own method: this costs no frame and
 * no transaction, and its first call syncs the directory entry as well (os_unix.c: UNIXFILE_DIRSYNC). The connection opens the log
 * with its first read. */
int sql_sync_log(struct sql *db)
{
	int error = sql_run(db, "PRAGMA user_version");
	if (error)
		return error;
	sqlite3_file *file = NULL;
	int code = sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file);
	if (!code && file && file->pMethods)
		code = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
	if (code)
		log_error(db->log, "catalog: the write-ahead log cannot be synced (SQLite code %d)", code);
	return code ? code_errno(db->handle, code) : 0;
}

bool sql_take_wrote(struct sql *db, int *ret_log_pages)
{
	bool wrote = db->wrote;
	db->wrote = false;
	if (ret_log_pages)
		*ret_log_pages = db->log_pages;
	return wrote;
}

int sql_checkpoint(struct sql *db, bool truncate)
{
	sqlite3_busy_timeout(db->handle, 0);
	int code = sqlite3_wal_checkpoint_v2(db->handle, "main",
		truncate ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MS);
	if ((code & 0xff) == SQLITE_BUSY)
		return -EBUSY; /* readers are in the way: an answer, not an event */
	return code ? fail(db, code, "checkpoint") : 0;
}

void sql_each_kept(struct sql *db, void (*fn)(const char *text, void *arg), void *arg)
{
	for (unsigned i = 0; i < KEPT_MAX; i++) {
		if (db->kept[i])
			fn(db->kept[i]->key, arg);
	}
}

int sql_copy_database(struct sql *db, const char *path)
{
	sqlite3 *to = NULL;
	int code = sqlite3_open_v2(path, &to, open_flags(SQL_CREATE), NULL);
	if (!code)
		code = sqlite3_exec(to, "PRAGMA synchronous=OFF", NULL, NULL, NULL);
	sqlite3_backup *copy = code ? NULL : sqlite3_backup_init(to, "main", db->handle, "main");
	if (copy) {
		sqlite3_backup_step(copy, -1); /* in one step: between two it would have to begin anew after each commit */
		code = sqlite3_backup_finish(copy);
	} else if (!code) {
		code = sqlite3_extended_errcode(to);
	}
	if (!code) /* the header says that there is a log, as in the original */
		code = sqlite3_exec(to, "PRAGMA journal_mode=MEMORY", NULL, NULL, NULL);
	int error = code ? code_errno(to, code) : 0;
	if (code)
		log_error(db->log, "catalog: %s (SQLite code %d) in a copy", to ? sqlite3_errmsg(to) : "no memory", code);
	sqlite3_close_v2(to);
	return error;
}
