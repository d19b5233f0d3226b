/* What is known of a process for the record of a run, and the names of users.
 *
 * The directory /proc/<pid> is opened once: its descriptor stands for this very process, so that nothing of a later one
 * with the same pid can get into the record. */
#include "proc.h"

#include <mintfs/buf.h>
#include <mintfs/caller.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#define COMMAND_MAX ((size_t)64 * 1024)
/* the worst a byte of it can become in JSON: "\u001f" */
#define COMMAND_JSON_MAX (COMMAND_MAX * 6 + 16)

static char *read_command(int dir)
{
	auto_free char *raw = malloc(COMMAND_MAX + 1);
	if (!raw)
		return NULL;
	ssize_t n = proc_read_at(dir, "cmdline", raw, COMMAND_MAX + 1);
	if (n <= 0)
		return NULL;
	struct buf out = BUF_INIT(COMMAND_JSON_MAX);
	struct json_out json;
	json_init(&json, &out, 0);
	json_array_begin(&json);
	for (const char *arg = raw; arg < raw + n; arg += strlen(arg) + 1) /* ends at the NUL that proc_read_at adds */
		json_string(&json, arg);
	json_array_end(&json);
	return buf_take(&out);
}

static char *read_cwd(int dir)
{
	char text[PATH_MAX];
	ssize_t n = readlinkat(dir, "cwd", text, sizeof text);
	if (n <= 0 || (size_t)n == sizeof text)
		return NULL;
	return strndup(text, (size_t)n);
}

static char *read_program(int dir)
{
	char text[128];
	ssize_t n = proc_read_at(dir, "comm", text, sizeof text);
	if (n <= 0)
		return NULL;
	if (text[n - 1] == '\n')
		n--;
	return strndup(text, (size_t)n);
}

/* Clock ticks since boot as wall-clock time, right to a tick; a clock that was set since then is taken as it stands now. */
static int64_t wall_clock_of(uint64_t start)
{
	struct timespec boot;
	long hz = sysconf(_SC_CLK_TCK);
	if (hz <= 0 || clock_gettime(CLOCK_BOOTTIME, &boot) < 0 || start / (uint64_t)hz > INT32_MAX)
		return 0;
	uint64_t whole = start / (uint64_t)hz, rest = start % (uint64_t)hz;
	int64_t since_boot = (int64_t)whole * NS_PER_SEC + (int64_t)rest * NS_PER_SEC / hz;
	return time_now_ns() - timespec_ns(boot) + since_boot;
}

void caller_command_words(struct caller_process p, char *out, size_t size)
{
	char path[32], text[1024];
	struct proc_stat st;
	out[0] = '\0';
	if (p.pid <= 0)
		return;
	snprintf(path, sizeof path, "/proc/%d", (int)p.pid);
	auto_close int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || proc_read_at(dir, "stat", text, sizeof text) < 0 || proc_parse_stat(text, &st) < 0 || st.start != p.start)
		return;
	ssize_t n = proc_read_at(dir, "cmdline", text, sizeof text);
	if (n <= 0) {
		snprintf(out, size, "%s", st.program);
		return;
	}
	bool whole = (size_t)n < size && (size_t)n < sizeof text - 1;
	for (ssize_t i = 0; i < n - 1; i++)
		if (text[i] == '\0')
			text[i] = ' ';
	snprintf(out, size, "%s", text);
	if (!whole)
		memcpy(out + size - 4, "...", 4);
}

void caller_details_read(struct caller_process p, struct caller_details *d)
{
	*d = (struct caller_details){0};
	char path[32], text[1024];
	struct proc_stat st;
	if (p.pid <= 0)
		return;
	snprintf(path, sizeof path, "/proc/%d", (int)p.pid);
	auto_close int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || proc_read_at(dir, "stat", text, sizeof text) < 0)
		return;
	if (proc_parse_stat(text, &st) < 0 || st.start != p.start)
		return;
	d->command = read_command(dir);
	d->cwd = read_cwd(dir);
	d->program = read_program(dir);
	d->started_ns = wall_clock_of(p.start);
}

void caller_details_release(struct caller_details *d)
{
	free(d->command);
	free(d->cwd);
	free(d->program);
	*d = (struct caller_details){0};
}

/* 65,536 groups of ten digits, and the lines before them */
#define STATUS_MAX ((size_t)768 * 1024)
#define STATUS_USUAL ((size_t)8 * 1024)

static int groups_have(const char *text, uid_t uid, gid_t gid, gid_t group)
{
	uid_t fsuid;
	gid_t fsgid;
	const char *groups;
	if (proc_parse_ids(text, &fsuid, &fsgid, &groups) < 0 || fsuid != uid || fsgid != gid)
		return -ESRCH;
	return proc_groups_have(groups, group);
}

/* The whole of /proc/<tid>/status: in usual if it fits, else in *ret_more. NULL with *ret_error where it cannot be had. */
static const char *read_status(pid_t tid, char usual[STATUS_USUAL], char **ret_more, int *ret_error)
{
	ssize_t n = proc_read(tid, "status", usual, STATUS_USUAL);
	*ret_error = -ESRCH;
	if (n < 0 || (size_t)n < STATUS_USUAL - 1)
		return n < 0 ? NULL : usual;
	*ret_more = malloc(STATUS_MAX);
	if (!*ret_more)
		*ret_error = -ENOMEM;
	return *ret_more && proc_read(tid, "status", *ret_more, STATUS_MAX) >= 0 ? *ret_more : NULL;
}

int caller_in_group(pid_t tid, uid_t uid, gid_t gid, gid_t group)
{
	char usual[STATUS_USUAL];
	auto_free char *more = NULL;
	int error;
	const char *text = read_status(tid, usual, &more, &error);
	return text ? groups_have(text, uid, gid, group) : error;
}

bool caller_is_dying(pid_t tid)
{
	char usual[STATUS_USUAL];
	auto_free char *more = NULL;
	int error;
	const char *text = read_status(tid, usual, &more, &error);
	return text && proc_status_dying(text);
}

void caller_user_name(uid_t uid, char *out, size_t size)
{
	char space[4096];
	struct passwd entry, *found = NULL;
	if (getpwuid_r(uid, &entry, space, sizeof space, &found) == 0 && found && found->pw_name[0])
		snprintf(out, size, "%s", found->pw_name);
	else
		snprintf(out, size, "%u", (unsigned)uid);
}
