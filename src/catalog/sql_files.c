/* How SQLite opens its files. A store may be served for somebody else, who can put anything in the place of a file between our look at it and SQLite's open, or while it is served;
 * each connection opens the files anew. So
 *  - what is no file is not opened: SQLite would wait for a pipe for ever;
 *  - the store's directory is the one that was opened, and the last name in it no link. By itself SQLite resolves /proc/self/fd/N and links beforehand and opens what then has that path.
 *
 * For that a VFS of ours takes the place of the usual one; it is that one, but for the full path of a name and the question whether a file is there. */
#include "sql_files.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BY_DESCRIPTOR "/proc/self/fd/"

static sqlite3_vfs vfs; /* as SQLite wants it: one for the process, not changed once it is registered */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static sqlite3_vfs *usual(void) { return sqlite3_vfs_find("unix"); }
static bool is_ours(const char *path) { return !strncmp(path, BY_DESCRIPTOR, sizeof BY_DESCRIPTOR - 1); }

/* SQLite asks for random bytes, and fills the place of a standard stream that is closed. */
static bool is_wanted(const char *path, mode_t mode) { return S_ISREG(mode) || S_ISDIR(mode) || !strcmp(path, "/dev/urandom") || !strcmp(path, "/dev/null"); }

/* Instead of open(2). O_NONBLOCK means nothing to a file. */
static int open_file(const char *path, int flags, int mode)
{
	struct stat st;
	int fd = open(path, flags | O_NONBLOCK | O_NOCTTY, mode);
	if (fd < 0 || (fstat(fd, &st) == 0 && is_wanted(path, st.st_mode)))
		return fd;
	close(fd);
	errno = EUCLEAN;
	return -1;
}

/* SQLite adds O_NOFOLLOW when it opens. */
static int full_path(sqlite3_vfs *v, const char *name, int size, char *out)
{
	(void)v;
	if (!is_ours(name))
		return usual()->xFullPathname(usual(), name, size, out);
	if (strlen(name) >= (size_t)size)
		return SQLITE_CANTOPEN;
	strcpy(out, name);
	return SQLITE_OK;
}

/* Is there a journal, a log? One that cannot be opened would be taken for somebody's at work, and waited for until the busy timeout. */
static int is_there(sqlite3_vfs *v, const char *path, int what, int *ret)
{
	struct stat st;
	(void)v;
	if (what == SQLITE_ACCESS_EXISTS && fstatat(AT_FDCWD, path, &st, is_ours(path) ? AT_SYMLINK_NOFOLLOW : 0) == 0 && !S_ISREG(st.st_mode)) {
		errno = EUCLEAN;
		return SQLITE_IOERR_ACCESS;
	}
	return usual()->xAccess(usual(), path, what, ret);
}

static void put_in_place(void)
{
	sqlite3_vfs *u = usual();
	if (!u || u->iVersion < 3)
		return;
	u->xSetSystemCall(u, "open", (sqlite3_syscall_ptr)open_file);
	vfs = *u;
	vfs.zName = "mintfs";
	vfs.pNext = NULL;
	vfs.xFullPathname = full_path;
	vfs.xAccess = is_there;
	sqlite3_vfs_register(&vfs, 1);
}

void sql_files_install(void)
{
	pthread_once(&once, put_in_place);
}
