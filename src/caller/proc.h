/* Reading /proc: what the kernel tells of a process. Private to the room.
 *
 * A file of /proc is read by one open and one read, without stdio or heap: most of this stands in the way of a FUSE
 * request. */
#ifndef MINTFS_CALLER_PROC_H
#define MINTFS_CALLER_PROC_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The fields of /proc/<pid>/stat that are of use here (proc_pid_stat(5)). */
struct proc_stat {
	char program[16]; /* field 2, without its parentheses */
	char state;     /* field 3: R, S, D, Z, X … */
	pid_t parent;   /* field 4; 0: in another pid namespace, or none */
	pid_t pgrp, session; /* fields 5, 6 */
	int tty;        /* field 7; 0: no controlling terminal */
	uint64_t threads; /* field 20 */
	uint64_t start; /* field 22, clock ticks since boot */
	/* Where the program and its environment lie, fields 26, 28, 50, 51: other with each exec, since the kernel draws them. Zero where the reader
	 * may not know. */
	uint64_t code, stack, environ_start, environ_end;
	int status;     /* field 52, as wait(2) gives it; 0 too where the reader may not know: see proc_zombie_status */
};

/* Which system call a thread waits in, as far as it matters. */
enum proc_call {
	PROC_CALL_RUNNING, /* not asleep yet: ask again */
	PROC_CALL_MKDIR,   /* mkdir or mkdirat */
	PROC_CALL_OTHER,   /* another one, none, or one that cannot be told */
};

/* The start of a file below `dir`, at most size - 1 bytes and a NUL. Returns the bytes without the NUL, or -errno. */
ssize_t proc_read_at(int dir, const char *path, char *buf, size_t size);
/* The same of /proc/<pid>/<name>. */
ssize_t proc_read(pid_t pid, const char *name, char *buf, size_t size);

/* Parsers of NUL-terminated text; -EINVAL. */
int proc_parse_stat(const char *text, struct proc_stat *ret);
int proc_parse_tgid(const char *status_text, pid_t *ret_tgid); /* the line "Tgid:" of /proc/<tid>/status */
/* The lines "Uid:", "Gid:" and "Groups:" of it: what a file system sees. *ret_groups: the numbers behind "Groups:", up to the end of the line. */
int proc_parse_ids(const char *status_text, uid_t *ret_fsuid, gid_t *ret_fsgid, const char **ret_groups);
/* Do the signals of it, pending, blocked, ignored and caught, say that its thread will not come back to what it does? */
bool proc_status_dying(const char *status_text);
bool proc_groups_have(const char *groups, gid_t group); /* groups: as of proc_parse_ids */
enum proc_call proc_parse_syscall(const char *text, uint64_t *ret_path /* of MKDIR: where the caller keeps it */);

/* The stat of a process (pid: of a thread group). -ESRCH if it cannot be seen. */
int proc_stat(pid_t pid, struct proc_stat *ret);
/* Has the whole process ended? A leader that has left its other threads behind is a zombie too, and goes on. */
bool proc_ended(const struct proc_stat *st);

/* peek.c: the path that a caller keeps at this address of his memory. Returns its length (out is not NUL-terminated), or -errno; -ETIMEDOUT where his memory does not
 * answer, -EAGAIN where too many of such still wait. */
struct peek_limit;
struct peek_limit *peek_limit_new(void); /* NULL: no memory */
void peek_limit_put(struct peek_limit *l); /* it lives on while a look is under way. NULL is fine */
ssize_t peek_path(struct peek_limit *limit, pid_t tid, uint64_t address, char out[PATH_MAX]);
bool proc_in_mkdir(struct peek_limit *limit, pid_t tid, const char *name); /* identify.c: as caller_in_mkdir */

/* watch.c: how long a process that has ended is asked for its status, instead of a second. For tests. */
struct caller_watch;
void watch_set_patience(struct caller_watch *w, int64_t ns);

/* git.c: caller_git_state with another limit than its own. For tests. */
int git_state_within(const char *cwd, uid_t uid, gid_t gid, int64_t limit_ns, char commit[65], bool *ret_dirty);

/* Has it ended? False too where nothing can be read, for want of descriptors say: caller_alive is false then. */
bool proc_is_gone(pid_t pid, uint64_t start);
/* The wait status of a process that has ended and waits to be reaped. -ESRCH: it is no zombie, or is gone; -EACCES: the
 * kernel does not tell us. */
int proc_zombie_status(pid_t pid, uint64_t start, int *ret_status);

#endif
