/* The daemon's log: one line an event, "2026-01-31 12:00:00.123 warning text" (UTC). Lines are written whole (one write each), so
 * several processes may share a file. Control bytes in the text become '?'. All functions may be called by any thread; a NULL
 * log drops what it is given, so rooms need no check. */
#ifndef MINTFS_LOG_H
#define MINTFS_LOG_H

#include <mintfs/error.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log;

/* Opens a log that appends to PATH (mode 0600), or to standard error where path is NULL (then without the date where
 * JOURNAL_STREAM is set). A file over 8 MiB is renamed to PATH.1 first, also while it grows. */
int log_open(const char *path, enum log_level level, struct log **ret_log, struct fault *f);
/* A file that root makes for the log in a directory of somebody else belongs to him, now and when it is turned over: for the log in a user's store. NULL is fine. */
void log_give_to_owner(struct log *log);
void log_close(struct log *log); /* NULL is fine */

void log_write(struct log *log, enum log_level level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#define log_error(log, ...) log_write((log), LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(log, ...) log_write((log), LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(log, ...) log_write((log), LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(log, ...) log_write((log), LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
