/* Reading /proc: what the kernel tells of a process.
 *
 * Invariants
 * - No path here holds a name that somebody else chose: only numbers and the fixed names of /proc. No symbolic link of
 *   /proc is followed (cwd, exe and fd may lead into our own mount, where we would wait for ourselves); their text is
 *   read at most.
 * - Text that does not look as expected is -EINVAL, never a guess: who holds a draft is decided by it. */
#include "proc.h"

#include <mintfs/caller.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STAT_PARENT = 4, STAT_PGRP = 5, STAT_SESSION = 6, STAT_TTY = 7, STAT_THREADS = 20, STAT_START = 22, STAT_CODE = 26, STAT_STACK = 28, STAT_ENV_START = 50, STAT_ENV_END = 51, STAT_EXIT_CODE = 52, STAT_FIELDS };

ssize_t proc_read_at(int dir, const char *path, char *buf, size_t size)
{
	auto_close int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	ssize_t n;
	do
		n = read(fd, buf, size - 1);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return n;
}

ssize_t proc_read(pid_t pid, const char *name, char *buf, size_t size)
{
	char path[64];
	int n = snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	if (pid <= 0 || n < 0 || (size_t)n >= sizeof path)
		return -ESRCH;
	return proc_read_at(AT_FDCWD, path, buf, size);
}

/* Fields 4 and on, by their number in proc_pid_stat(5); returns the number of the last one found. A field below zero is
 * stored as the unsigned number it wraps to. */
static int parse_stat_fields(const char *p, uint64_t field[STAT_FIELDS])
{
	int n = STAT_PARENT;
	for (; n < STAT_FIELDS && *p == ' '; n++) {
		const char *digits = p + 1 + (p[1] == '-');
		if (!isdigit((unsigned char)*digits))
			break;
		char *end;
		errno = 0;
		field[n] = strtoull(p + 1, &end, 10);
		if (errno)
			break;
		p = end;
	}
	return n - 1;
}

int proc_parse_stat(const char *text, struct proc_stat *ret)
{
	/* "12 (a) b (c) S 1 …": the name may hold anything, and nothing behind it holds a parenthesis */
	const char *p = strrchr(text, ')');
	if (!p || p[1] != ' ' || !isalpha((unsigned char)p[2]))
		return -EINVAL;
	uint64_t field[STAT_FIELDS];
	int last = parse_stat_fields(p + 3, field);
	const char *name = strchr(text, '(');
	if (last < STAT_START || field[STAT_PARENT] > INT_MAX || !name || name > p)
		return -EINVAL;
	*ret = (struct proc_stat){
		.state = p[2],
		.parent = (pid_t)field[STAT_PARENT],
		.pgrp = (pid_t)field[STAT_PGRP],
		.session = (pid_t)field[STAT_SESSION],
		.tty = (int)field[STAT_TTY],
		.threads = field[STAT_THREADS],
		.start = field[STAT_START],
		.code = last >= STAT_CODE ? field[STAT_CODE] : 0,
		.stack = last >= STAT_STACK ? field[STAT_STACK] : 0,
		.environ_start = last >= STAT_ENV_END ? field[STAT_ENV_START] : 0,
		.environ_end = last >= STAT_ENV_END ? field[STAT_ENV_END] : 0,
		.status = last >= STAT_EXIT_CODE ? (int)field[STAT_EXIT_CODE] : 0,
	};
	size_t len = (size_t)(p - name - 1);
	memcpy(ret->program, name + 1, len < sizeof ret->program ? len : sizeof ret->program - 1); /* the rest is zero */
	return 0;
}

int caller_parse_stat(const char *text, pid_t *ret_ppid, uint64_t *ret_start)
{
	struct proc_stat st;
	int r = proc_parse_stat(text, &st);
	if (r < 0)
		return r;
	*ret_ppid = st.parent;
	*ret_start = st.start;
	return 0;
}

int proc_parse_tgid(const char *status_text, pid_t *ret_tgid)
{
	/* The name of the process comes first, but the kernel writes its newlines as "\n": the line cannot be forged. */
	const char *line = strstr(status_text, "\nTgid:\t");
	if (!line || !isdigit((unsigned char)line[7]))
		return -EINVAL;
	char *end;
	errno = 0;
	unsigned long tgid = strtoul(line + 7, &end, 10);
	if (errno || *end != '\n' || tgid == 0 || tgid > INT_MAX)
		return -EINVAL;
	*ret_tgid = (pid_t)tgid;
	return 0;
}

/* The last of the four numbers behind a name: real, effective, saved, of the file system. */
static int parse_fs_id(const char *status_text, const char *name, unsigned long *ret)
{
	const char *p = strstr(status_text, name);
	if (!p)
		return -EINVAL;
	p += strlen(name);
	for (int i = 0; i < 4; i++) {
		char *end;
		if (*p != '\t' || !isdigit((unsigned char)p[1]))
			return -EINVAL;
		errno = 0;
		*ret = strtoul(p + 1, &end, 10);
		if (errno || *ret > UINT32_MAX)
			return -EINVAL;
		p = end;
	}
	return *p == '\n' ? 0 : -EINVAL;
}

int proc_parse_ids(const char *status_text, uid_t *ret_fsuid, gid_t *ret_fsgid, const char **ret_groups)
{
	unsigned long uid, gid;
	const char *groups = strstr(status_text, "\nGroups:\t");
	if (!groups || parse_fs_id(status_text, "\nUid:", &uid) < 0 || parse_fs_id(status_text, "\nGid:", &gid) < 0)
		return -EINVAL;
	*ret_fsuid = (uid_t)uid;
	*ret_fsgid = (gid_t)gid;
	*ret_groups = groups + strlen("\nGroups:\t");
	return 0;
}

/* A line of signals: 16 digits in hex, the lowest bit is signal 1. What is not there says that there are none. */
static uint64_t parse_signals(const char *status_text, const char *line)
{
	const char *p = strstr(status_text, line);
	return p ? strtoull(p + strlen(line), NULL, 16) : 0;
}

#define SIGNAL_BIT(n) (1ULL << ((n) - 1))
#define DUMPS_CORE (SIGNAL_BIT(SIGQUIT) | SIGNAL_BIT(SIGABRT) | SIGNAL_BIT(SIGILL) | SIGNAL_BIT(SIGTRAP) | SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGFPE) | SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGSYS) | SIGNAL_BIT(SIGXCPU) | SIGNAL_BIT(SIGXFSZ))

/* A signal that will end the process without a core becomes a SIGKILL of each thread when it is sent, and so does an exit of the process (kernel/signal.c, complete_signal,
 * zap_other_threads). One with a core waits as it is. */
bool proc_status_dying(const char *status_text)
{
	uint64_t own = parse_signals(status_text, "\nSigPnd:"), all = own | parse_signals(status_text, "\nShdPnd:");
	uint64_t harmless = parse_signals(status_text, "\nSigBlk:") | parse_signals(status_text, "\nSigIgn:") | parse_signals(status_text, "\nSigCgt:");
	return (own & SIGNAL_BIT(SIGKILL)) || (all & DUMPS_CORE & ~harmless);
}

/* Each number is followed by a blank; one that the end of the buffer has cut is not. */
bool proc_groups_have(const char *groups, gid_t group)
{
	while (isdigit((unsigned char)*groups)) {
		char *end;
		errno = 0;
		unsigned long n = strtoul(groups, &end, 10);
		if (*end != ' ' && *end != '\n')
			return false;
		if (!errno && n == group)
			return true;
		groups = end + (*end == ' ');
	}
	return false;
}

/* Which argument of call `number` is the path of a directory to make; -1: it is no such call. */
static int mkdir_path_argument(long number)
{
#ifdef SYS_mkdir
	if (number == SYS_mkdir)
		return 0;
#endif
	return number == SYS_mkdirat ? 1 : -1;
}

/* "83 0x7ffe… 0x1ff … SP PC", numbers of the call, six arguments, stack pointer and program counter; "-1 SP PC" outside
 * of a call; or "running". The file does not say by which table the number counts, and a 32-bit program's symlink has
 * the number of our mkdir: such a program is known by its stack, which lies below 4 GiB. */
enum proc_call proc_parse_syscall(const char *text, uint64_t *ret_path)
{
	if (strncmp(text, "running", 7) == 0)
		return PROC_CALL_RUNNING;
	if (!isdigit((unsigned char)text[0]))
		return PROC_CALL_OTHER;
	char *p;
	errno = 0;
	long number = strtol(text, &p, 10);
	unsigned long long word[7]; /* arguments, stack pointer */
	for (size_t i = 0; i < ARRAY_SIZE(word); i++) {
		if (strncmp(p, " 0x", 3) != 0 || !isxdigit((unsigned char)p[3]))
			return PROC_CALL_OTHER;
		word[i] = strtoull(p + 1, &p, 16);
	}
	int path = mkdir_path_argument(number);
	bool foreign = sizeof(long) == 8 && word[6] <= UINT32_MAX;
	if (errno || path < 0 || foreign)
		return PROC_CALL_OTHER;
	*ret_path = word[path];
	return PROC_CALL_MKDIR;
}

int proc_stat(pid_t pid, struct proc_stat *ret)
{
	/* Not /proc/<pid>/stat: it sums up the times of all threads, and a trainer has hundreds. The fields used here
	 * are the same. */
	char name[32], text[1024];
	snprintf(name, sizeof name, "task/%d/stat", (int)pid);
	if (proc_read(pid, name, text, sizeof text) < 0)
		return -ESRCH;
	return proc_parse_stat(text, ret) < 0 ? -ESRCH : 0;
}

bool proc_ended(const struct proc_stat *st)
{
	return (st->state == 'Z' || st->state == 'X' || st->state == 'x') && st->threads <= 1;
}

bool proc_is_gone(pid_t pid, uint64_t start)
{
	char name[32], text[1024];
	struct proc_stat st;
	snprintf(name, sizeof name, "task/%d/stat", (int)pid);
	ssize_t r = proc_read(pid, name, text, sizeof text);
	if (r < 0)
		return r == -ENOENT || r == -ESRCH;
	return proc_parse_stat(text, &st) == 0 && (st.start != start || proc_ended(&st));
}

int proc_zombie_status(pid_t pid, uint64_t start, int *ret_status)
{
	/* To a reader without ptrace rights the kernel shows 0, which would read as success. The link exe asks for the
	 * same rights and says so; a zombie has none, hence ENOENT. It is asked first: should the process be reaped
	 * meanwhile, the stat is gone. */
	char path[32], target[8];
	snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
	if (readlink(path, target, sizeof target) < 0 && errno != ENOENT)
		return -EACCES;
	struct proc_stat st;
	int r = proc_stat(pid, &st);
	if (r < 0)
		return r;
	if (st.start != start || !proc_ended(&st))
		return -ESRCH;
	*ret_status = st.status;
	return 0;
}
