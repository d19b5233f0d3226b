/* Making, opening and closing a catalog; the store's lock.
 *
 * The database is never opened by a descriptor of our own once SQLite may have it open: closing that would drop SQLite's
 * POSIX locks on the same file. So what is to be known about it is asked through SQLite. */
#include "internal.h"

#include <fcntl.h>
#include <mintfs/sys.h>
#include <stdio.h>
#include <string.h>

#define NEW_NAME CATALOG_FILE_NAME ".new"
#define INDEX_ROOM (UINT64_C(256) * 1024) /* what the index of the log needs, with room to grow */

/* The store's path, for messages. SQLite finds it the same way: it follows the link. */
static int where_is(int dirfd, char out[CATALOG_WHERE_MAX], struct fault *f)
{
	char link[64];
	snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
	ssize_t len = sys_readlinkat(AT_FDCWD, link, out, CATALOG_WHERE_MAX);
	if (len == -ENAMETOOLONG)
		return fault_set(f, ENAMETOOLONG, "the path of the store is longer than %d bytes", CATALOG_WHERE_MAX - 1);
	if (len < 0)
		return fault_set(f, (int)-len, "%s cannot be read: %s", link, strerror((int)-len));
	return 0;
}

static void database_path(int dirfd, const char *name, char out[64])
{
	snprintf(out, 64, "/proc/self/fd/%d/%s", dirfd, name);
}

/* ---- the store's lock ---- */

static int open_lock(int dirfd, const char *where, int *ret_fd, struct fault *f)
{
	struct stat st;
	auto_close int fd = sys_openat(dirfd, CATALOG_LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
	int error = fd < 0 ? fd : sys_fstat(fd, &st);
	if (error)
		return fault_set(f, -error, "%s/" CATALOG_LOCK_NAME " cannot be opened for writing: %s", where, strerror(-error));
	if (!S_ISREG(st.st_mode))
		return fault_set(f, EUCLEAN, "%s/" CATALOG_LOCK_NAME " is %s, not a regular file", where, sys_kind_of(st.st_mode));
	*ret_fd = take_fd(&fd);
	return 0;
}

int store_lock(struct catalog *c, bool wait)
{
	if (wait)
		pthread_mutex_lock(&c->store_mutex);
	else if (pthread_mutex_trylock(&c->store_mutex))
		return -EWOULDBLOCK;
	int error = sys_lock(c->lock_fd, true, wait);
	if (error)
		pthread_mutex_unlock(&c->store_mutex);
	return error;
}

void store_unlock(struct catalog *c)
{
	int error = sys_unlock(c->lock_fd);
	if (error)
		log_error(c->log, "catalog: the store's lock cannot be released: %s", strerror(-error));
	pthread_mutex_unlock(&c->store_mutex);
}

/* ---- create ---- */

/* Left behind by a creation that was killed, or beside a catalog.db that somebody deleted: SQLite would take an old log for the new
 * database's own. */
static int remove_leftovers(int dirfd)
{
	static const char *const names[] = {NEW_NAME, NEW_NAME "-journal", NEW_NAME "-wal", NEW_NAME "-shm",
		CATALOG_FILE_NAME "-journal", CATALOG_FILE_NAME "-wal", CATALOG_FILE_NAME "-shm"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		int error = sys_unlinkat(dirfd, names[i], 0);
		if (error && error != -ENOENT)
			return error;
	}
	return 0;
}

static int fill_new(int dirfd)
{
	char path[64];
	database_path(dirfd, NEW_NAME, path);
	struct sql *db;
	int error = sql_open(path, SQL_CREATE, NULL, &db);
	if (error)
		return error;
	error = schema_create(db);
	sql_close(db);
	return error;
}

static int publish_new(int dirfd)
{
	auto_close int fd = sys_openat(dirfd, NEW_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	int error = fd < 0 ? fd : sys_fsync(fd);
	if (error)
		return error;
	error = sys_renameat2(dirfd, NEW_NAME, dirfd, CATALOG_FILE_NAME, RENAME_NOREPLACE);
	if (error == -EINVAL) /* the file system cannot; under the lock nobody else makes one */
		error = sys_renameat2(dirfd, NEW_NAME, dirfd, CATALOG_FILE_NAME, 0);
	return error ? error : sys_fsync(dirfd);
}

int catalog_create(int dirfd, struct fault *f)
{
	char where[CATALOG_WHERE_MAX];
	struct stat st;
	auto_close int lock = -1; /* closing unlocks */
	int error = where_is(dirfd, where, f);
	if (!error)
		error = open_lock(dirfd, where, &lock, f);
	if (error)
		return error;
	error = sys_lock(lock, true, true);
	if (error)
		return fault_set(f, -error, "%s/" CATALOG_LOCK_NAME " cannot be locked: %s", where, strerror(-error));
	error = sys_fstatat(dirfd, CATALOG_FILE_NAME, &st, AT_SYMLINK_NOFOLLOW);
	if (!error)
		return fault_set(f, EEXIST, "%s/" CATALOG_FILE_NAME " exists already", where);
	error = error == -ENOENT ? remove_leftovers(dirfd) : error;
	if (!error)
		error = fill_new(dirfd);
	if (!error)
		error = publish_new(dirfd);
	if (error) {
		remove_leftovers(dirfd);
		return fault_set(f, -error, "%s/" CATALOG_FILE_NAME " cannot be made: %s", where, strerror(-error));
	}
	return 0;
}

/* ---- open and close ---- */

int catalog_connect(struct catalog *c, enum sql_access access, struct catalog_conn **ret)
{
	char path[64];
	database_path(c->dirfd, CATALOG_FILE_NAME, path);
	auto_free struct catalog_conn *conn = calloc(1, sizeof *conn);
	if (!conn)
		return -ENOMEM;
	int error = sql_open(path, access, c->log, &conn->db);
	if (error)
		return error;
	conn->catalog = c;
	*ret = take_ptr(conn);
	return 0;
}

void catalog_disconnect(struct catalog_conn *conn)
{
	if (!conn)
		return;
	sql_close(conn->db);
	free(conn);
}

/* Nothing can change on a read-only file system. Where nothing waits in the log either, the file alone is the database. */
static bool is_immutable(int dirfd)
{
	struct statvfs fs;
	struct stat st;
	if (sys_statvfs(dirfd, &fs) || !(fs.f_flag & ST_RDONLY))
		return false;
	int error = sys_fstatat(dirfd, CATALOG_FILE_NAME "-wal", &st, AT_SYMLINK_NOFOLLOW);
	return error == -ENOENT || (!error && st.st_size == 0);
}

static int check_file(const struct catalog *c, struct fault *f)
{
	struct stat st;
	int error = sys_fstatat(c->dirfd, CATALOG_FILE_NAME, &st, AT_SYMLINK_NOFOLLOW);
	if (error == -ENOENT)
		return fault_set(f, ENOENT, "%s/" CATALOG_FILE_NAME " is missing: this is no store of MintFS, or its catalog was lost",
			c->where);
	if (error)
		return fault_set(f, -error, "%s/" CATALOG_FILE_NAME ": %s", c->where, strerror(-error));
	if (!S_ISREG(st.st_mode))
		return fault_set(f, EUCLEAN, "%s/" CATALOG_FILE_NAME " is %s, not a regular file", c->where, sys_kind_of(st.st_mode));
	static const char *const beside[] = {CATALOG_FILE_NAME "-wal", CATALOG_FILE_NAME "-shm", CATALOG_FILE_NAME "-journal"};
	for (size_t i = 0; i < ARRAY_SIZE(beside); i++) /* SQLite opens them too, and would wait for a pipe for ever */
		if (sys_fstatat(c->dirfd, beside[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
			return fault_set(f, EUCLEAN, "%s/%s is %s, not a regular file", c->where, beside[i], sys_kind_of(st.st_mode));
	return 0;
}

static int upgrade(struct catalog *c, const struct schema_plan *plan, struct fault *f)
{
	struct catalog_conn *conn;
	if (c->read_only)
		return fault_set(f, EROFS, "%s/" CATALOG_FILE_NAME " was made by an older MintFS and must be upgraded: open it once for writing", c->where);
	int error = store_lock(c, true);
	if (error)
		return fault_set(f, -error, "%s/" CATALOG_LOCK_NAME " cannot be locked: %s", c->where, strerror(-error));
	error = catalog_connect(c, SQL_WRITER, &conn);
	if (!error) {
		error = schema_upgrade(conn->db, plan, c->where, c->log, f);
		catalog_disconnect(conn);
	}
	store_unlock(c);
	return error ? fault_default(f, -error, "%s/" CATALOG_FILE_NAME " cannot be upgraded: %s", c->where, strerror(-error)) : 0;
}

/* Looks at the database with a reader. */
static int look(struct catalog *c, const struct schema_plan *plan, int *ret_format, bool *ret_logged, struct fault *f)
{
	auto_read struct catalog_conn *conn = NULL;
	int error = catalog_read_begin(c, &conn);
	if (error && error != -EUCLEAN && c->read_only)
		return fault_set(f, -error, "%s/" CATALOG_FILE_NAME " cannot be read without write permission in %s (its write-ahead log "
			"is shared by files there): %s", c->where, c->where, strerror(-error));
	if (error)
		return fault_set(f, -error, "%s/" CATALOG_FILE_NAME " cannot be opened: %s", c->where,
			error == -EUCLEAN ? "it is damaged, or no database" : strerror(-error));
	error = schema_check(conn->db, plan->format, c->where, ret_format, f);
	if (!error)
		error = schema_verify(conn->db, plan, *ret_format, c->where, f);
	return error ? error : schema_is_logged(conn->db, ret_logged);
}

/* SQLite maps its index of the log, and makes room for it by one byte in each 4 KiB. With smaller blocks that leaves holes, and a store into a hole
 * of a full file system ends the process by SIGBUS. */
static int check_room(const struct catalog *c, struct fault *f)
{
	struct statvfs fs;
	if (sys_statvfs(c->dirfd, &fs) || fs.f_frsize >= 4096 || (uint64_t)fs.f_bavail * fs.f_frsize >= INDEX_ROOM)
		return 0;
	return fault_set(f, ENOSPC, "the file system of %s is full, and its blocks of %lu bytes leave the catalog no way to work on it: free some space first",
		c->where, (unsigned long)fs.f_frsize);
}

static int start(struct catalog *c, const struct schema_plan *plan, struct fault *f)
{
	int format;
	bool logged;
	int error = where_is(c->dirfd, c->where, f);
	if (!error && !c->read_only)
		error = check_room(c, f);
	if (!error)
		error = check_file(c, f);
	if (!error && !c->read_only)
		error = open_lock(c->dirfd, c->where, &c->lock_fd, f);
	if (error)
		return error;
	c->reader_access = !c->read_only ? SQL_READER : is_immutable(c->dirfd) ? SQL_IMMUTABLE : SQL_READ_ONLY;
	error = look(c, plan, &format, &logged, f);
	if (!error && (format < plan->format || !(logged || c->read_only)))
		error = upgrade(c, plan, f);
	return error;
}

int catalog_open_with(int dirfd, bool read_only, struct log *log, const struct schema_plan *plan, struct catalog **ret, struct fault *f)
{
	auto_free struct catalog *c = calloc(1, sizeof *c);
	if (!c)
		return fault_set(f, ENOMEM, "no memory for the catalog");
	c->lock_fd = -1;
	c->read_only = read_only;
	c->plan = plan;
	c->log = log;
	c->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 3);
	if (c->dirfd < 0)
		return fault_set(f, errno, "no descriptor for the catalog: %s", strerror(errno));
	pthread_mutex_init(&c->store_mutex, NULL);
	pool_init(&c->pool);
	writer_init(&c->writer);
	int error = start(c, plan, f);
	struct catalog *opened = take_ptr(c);
	if (error)
		catalog_close(opened);
	else
		*ret = opened;
	return error;
}

int catalog_open(int dirfd, bool read_only, struct log *log, struct catalog **ret, struct fault *f)
{
	return catalog_open_with(dirfd, read_only, log, &schema_current, ret, f);
}

void catalog_close(struct catalog *c)
{
	if (!c)
		return;
	writer_finish(c);
	if (!pool_release(&c->pool)) {
		log_error(c->log, "catalog: closed while a reader is in use; its memory is given up");
		return;
	}
	pthread_mutex_destroy(&c->store_mutex);
	if (c->lock_fd >= 0)
		close(c->lock_fd);
	close(c->dirfd);
	free(c);
}
