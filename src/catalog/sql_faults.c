/* SQLite's own reads, writes and syncs made to fail (sys_fault_arm "sql_io"): a VFS that asks the injector and hands everything on
 * to the usual one. Only in builds for tests; sql_sqlite.c puts it in place with the first connection. */
#include "sql_faults.h"

#ifdef MINTFS_FAULTS
#include <errno.h>
#include <mintfs/sys.h>
#include <pthread.h>
#include <sqlite3.h>
#include <string.h>

struct file {
	sqlite3_file base;
	sqlite3_file *real; /* in the memory behind this struct */
};

static sqlite3_vfs vfs;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static sqlite3_vfs *usual(void) { return vfs.pAppData; }
static sqlite3_file *real(sqlite3_file *f) { return ((struct file *)f)->real; }

static int fault(int code)
{
	int error = sys_fault_point("sql_io");
	if (error)
		errno = -error; /* which SQLite asks for: xGetLastError */
	return error == 0 ? SQLITE_OK : error == -ENOSPC || error == -EDQUOT ? SQLITE_FULL : error == -ENOMEM ? SQLITE_IOERR_NOMEM : code;
}

#define OR_FAULT(code, call) \
	do { \
		int fault_ = fault(code); \
		return fault_ ? fault_ : (call); \
	} while (0)

static int f_close(sqlite3_file *f) { return real(f)->pMethods->xClose(real(f)); }
static int f_read(sqlite3_file *f, void *to, int n, sqlite3_int64 at) { OR_FAULT(SQLITE_IOERR_READ, real(f)->pMethods->xRead(real(f), to, n, at)); }
static int f_write(sqlite3_file *f, const void *from, int n, sqlite3_int64 at) { OR_FAULT(SQLITE_IOERR_WRITE, real(f)->pMethods->xWrite(real(f), from, n, at)); }
static int f_truncate(sqlite3_file *f, sqlite3_int64 size) { OR_FAULT(SQLITE_IOERR_TRUNCATE, real(f)->pMethods->xTruncate(real(f), size)); }
static int f_sync(sqlite3_file *f, int flags) { OR_FAULT(SQLITE_IOERR_FSYNC, real(f)->pMethods->xSync(real(f), flags)); }
static int f_size(sqlite3_file *f, sqlite3_int64 *ret) { OR_FAULT(SQLITE_IOERR_FSTAT, real(f)->pMethods->xFileSize(real(f), ret)); }
static int f_lock(sqlite3_file *f, int level) { return real(f)->pMethods->xLock(real(f), level); }
static int f_unlock(sqlite3_file *f, int level) { return real(f)->pMethods->xUnlock(real(f), level); }
static int f_reserved(sqlite3_file *f, int *ret) { return real(f)->pMethods->xCheckReservedLock(real(f), ret); }
static int f_control(sqlite3_file *f, int op, void *arg) { return real(f)->pMethods->xFileControl(real(f), op, arg); }
static int f_sector(sqlite3_file *f) { return real(f)->pMethods->xSectorSize(real(f)); }
static int f_traits(sqlite3_file *f) { return real(f)->pMethods->xDeviceCharacteristics(real(f)); }
static int f_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **ret) { OR_FAULT(SQLITE_IOERR_SHMMAP, real(f)->pMethods->xShmMap(real(f), page, size, extend, ret)); }
static int f_shm_lock(sqlite3_file *f, int at, int n, int flags) { return real(f)->pMethods->xShmLock(real(f), at, n, flags); }
static void f_shm_barrier(sqlite3_file *f) { real(f)->pMethods->xShmBarrier(real(f)); }
static int f_shm_unmap(sqlite3_file *f, int remove) { return real(f)->pMethods->xShmUnmap(real(f), remove); }

/* Version 2: without mappings of the database, which the catalog does not use. */
static const sqlite3_io_methods methods = {2, f_close, f_read, f_write, f_truncate, f_sync, f_size, f_lock, f_unlock, f_reserved, f_control, f_sector, f_traits,
	f_shm_map, f_shm_lock, f_shm_barrier, f_shm_unmap, NULL, NULL};

static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *ret_flags)
{
	struct file *file = (struct file *)f;
	(void)v;
	memset(file, 0, sizeof *file);
	file->real = (sqlite3_file *)(file + 1);
	int code = fault(SQLITE_CANTOPEN);
	if (!code)
		code = usual()->xOpen(usual(), name, file->real, flags, ret_flags);
	if (!code)
		file->base.pMethods = &methods;
	return code;
}

static void put_in_place(void)
{
	sqlite3_vfs *u = sqlite3_vfs_find(NULL);
	if (!u)
		return;
	vfs = *u; /* all but open goes to the usual one by its own functions */
	vfs.zName = "mintfs-faults";
	vfs.pAppData = u;
	vfs.szOsFile = (int)sizeof(struct file) + u->szOsFile;
	vfs.xOpen = v_open;
	vfs.pNext = NULL;
	sqlite3_vfs_register(&vfs, 1);
}

void sql_faults_install(void)
{
	pthread_once(&once, put_in_place);
}
#endif
