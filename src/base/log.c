/* The daemon's log.
 *
 * Several processes may append to one file, and any of them may turn it over. What keeps that safe:
 *   - a line is one write() to an O_APPEND descriptor;
 *   - before a line, the writer makes sure that its descriptor is still the file that PATH names, else it opens PATH anew;
 *   - PATH is renamed to PATH.1 only under flock on the very file that is renamed, after looking again that PATH still names
 *     it: the second of two processes that found it too long finds another file there and leaves it alone.
 * A line written at the moment of the turn may land in PATH.1, where it belongs as well as anywhere.
 *
 * The system calls are made directly, not through sys.h: a fault injected into the store must not be spent on the log.
 * Nobody could be told of an error in here, so a line that can't be written is dropped.
 *
 * Locks: log->lock, then flock on the file; nothing else is taken under them. */
#include <mintfs/log.h>

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "text.h"

#define LOG_FILE_MAX (8LL * 1024 * 1024)
#define LOG_TEXT_MAX 3900 /* with the prefix a line stays below PIPE_BUF: whole on a pipe, too */
#define LOG_OPEN_TRIES 8

struct log {
	enum log_level level;
	bool with_date;
	int dir;        /* where `name` lives, so that a daemon may change its directory; -1: standard error */
	char *name;     /* owned; NULL: standard error */
	char *old_name; /* owned; name with ".1" */
	pthread_mutex_t lock;
	bool give;      /* to the owner of dir */
	int fd; /* under lock */
};

static bool is_current(const struct log *log, struct stat *ret_st)
{
	struct stat named;

	return fstat(log->fd, ret_st) == 0 && fstatat(log->dir, log->name, &named, 0) == 0 &&
	       named.st_ino == ret_st->st_ino && named.st_dev == ret_st->st_dev;
}

/* In a directory of somebody else (root may mount a user's store) neither a link nor a pipe that stands there is followed or waited for. */
static int reopen(struct log *log)
{
	struct stat dir;
	bool foreign = fstat(log->dir, &dir) < 0 || dir.st_uid != geteuid();
	int fd = openat(log->dir, log->name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | (foreign ? O_NOFOLLOW | O_NONBLOCK : 0), 0600);

	if (fd < 0)
		return -errno;
	if (log->fd >= 0)
		close(log->fd);
	log->fd = fd;
	if (log->give)
		sys_give_to_owner(fd, log->dir); /* that it stays root's hinders no writing */
	return 0;
}

/* Renames the file if it is too long and nobody else has done so meanwhile. Closing the descriptor unlocks. */
static void turn_over(struct log *log)
{
	struct stat st;

	if (flock(log->fd, LOCK_EX | LOCK_NB) < 0)
		return; /* another process is at it: go on with the old file, the next line finds the new one */
	if (is_current(log, &st) && st.st_size > LOG_FILE_MAX)
		renameat(log->dir, log->name, log->dir, log->old_name);
	flock(log->fd, LOCK_UN);
}

/* Brings log->fd to the file that PATH names and sees to its length. */
static int refresh(struct log *log)
{
	struct stat st;

	for (int i = 0; i < LOG_OPEN_TRIES; i++) {
		if (log->fd < 0 || !is_current(log, &st)) {
			int r = reopen(log);
			if (r < 0)
				return r;
			continue;
		}
		if (!S_ISREG(st.st_mode) || st.st_size <= LOG_FILE_MAX)
			return 0;
		turn_over(log);
		if (is_current(log, &st))
			return 0; /* could not be renamed: better a long file than no log */
	}
	return 0;
}

/* Splits path into the directory's descriptor and the name in it. */
static int open_place(struct log *log, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	auto_free char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");

	if (*name == '\0')
		return -EISDIR;
	if (!dir || !(log->name = strdup(name)))
		return -ENOMEM;
	if (asprintf(&log->old_name, "%s.1", name) < 0) {
		log->old_name = NULL;
		return -ENOMEM;
	}
	log->dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return log->dir < 0 ? -errno : 0;
}

int log_open(const char *path, enum log_level level, struct log **ret_log, struct fault *f)
{
	struct log *log = calloc(1, sizeof(*log));
	int r = 0;

	if (!log)
		return fault_set(f, ENOMEM, "no memory for the log");
	log->level = level;
	log->with_date = path || !getenv("JOURNAL_STREAM"); /* the journal dates lines itself: systemd.exec(5) */
	log->dir = -1;
	log->fd = path ? -1 : STDERR_FILENO;
	pthread_mutex_init(&log->lock, NULL);
	if (path) {
		r = open_place(log, path);
		if (r == 0)
			r = refresh(log);
	}
	if (r < 0) {
		log_close(log);
		return fault_set(f, -r, "cannot open the log file '%s': %s", path, strerror(-r));
	}
	*ret_log = log;
	return 0;
}

void log_give_to_owner(struct log *log)
{
	if (!log || log->dir < 0)
		return;
	pthread_mutex_lock(&log->lock);
	log->give = true;
	sys_give_to_owner(log->fd, log->dir);
	pthread_mutex_unlock(&log->lock);
}

void log_close(struct log *log)
{
	if (!log)
		return;
	if (log->fd >= 0 && log->fd != STDERR_FILENO)
		close(log->fd);
	if (log->dir >= 0)
		close(log->dir);
	pthread_mutex_destroy(&log->lock);
	free(log->name);
	free(log->old_name);
	free(log);
}

static const char *level_name(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return "error";
	case LOG_LEVEL_WARNING:
		return "warning";
	case LOG_LEVEL_INFO:
		return "info";
	case LOG_LEVEL_DEBUG:
		return "debug";
	}
	return "unknown";
}

static size_t format_line(char *line, size_t size, bool with_date, enum log_level level, const char *fmt, va_list ap)
	__attribute__((format(printf, 5, 0)));
static void vwrite(struct log *log, enum log_level level, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));

/* "2026-01-31 12:00:00.123 warning text\n"; the time is UTC, as in the catalog. Returns the length. */
static size_t format_line(char *line, size_t size, bool with_date, enum log_level level, const char *fmt, va_list ap)
{
	char date[TIME_TEXT_MAX], text[LOG_TEXT_MAX];
	int64_t now = time_now_ns();
	int n;

	text_vformat(text, sizeof(text), fmt, ap);
	time_utc_text(now, date);
	if (with_date)
		n = snprintf(line, size, "%s.%03d %s %s\n", date, (int)(now % NS_PER_SEC / 1000000), level_name(level), text);
	else
		n = snprintf(line, size, "%s %s\n", level_name(level), text);
	return n < 0 ? 0 : (size_t)n;
}

static void vwrite(struct log *log, enum log_level level, const char *fmt, va_list ap)
{
	char line[LOG_TEXT_MAX + 64];
	size_t len = format_line(line, sizeof(line), log->with_date, level, fmt, ap);
	SCOPED_LOCK(&log->lock);

	if (log->name)
		refresh(log); /* where that fails, the old descriptor is better than nothing */
	if (log->fd < 0)
		return;
	while (write(log->fd, line, len) < 0 && errno == EINTR)
		;
}

void log_write(struct log *log, enum log_level level, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	if (!log || level > log->level)
		return;
	va_start(ap, fmt);
	vwrite(log, level, fmt, ap);
	va_end(ap);
	errno = saved;
}
