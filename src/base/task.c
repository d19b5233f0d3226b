/* Threads of another process, by /proc. A name may hold blanks and brackets: the last bracket of the line ends it. */
#include <mintfs/task.h>

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STAT_MAX 1024
#define FIELDS_BEFORE_TICKS 10 /* from ppid to cmajflt; then come utime and stime */

static int read_file(pid_t pid, pid_t tid, const char *name, char *out, size_t size)
{
	char path[64];
	auto_close int fd = -1;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%d/task/%d/%s", (int)pid, (int)tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, out, size - 1);
	if (n < 0)
		return -errno;
	out[n] = '\0';
	return 0;
}

int task_parse(const char *line, struct task *t)
{
	const char *open_at = strchr(line, '('), *end = strrchr(line, ')');
	unsigned long long user, system;
	struct task r = {0};
	int skipped = 0;

	r.tid = (pid_t)strtol(line, NULL, 10);
	if (r.tid <= 0 || !open_at || !end || end < open_at || end[1] != ' ' || end[2] == '\0' || end[3] != ' ')
		return -EPROTO;
	size_t len = (size_t)(end - open_at - 1);
	memcpy(r.name, open_at + 1, len < sizeof r.name ? len : sizeof r.name - 1);
	r.state = end[2];
	const char *p = end + 3;
	for (; skipped < FIELDS_BEFORE_TICKS && p; skipped++)
		p = strchr(p + 1, ' ');
	if (!p || sscanf(p, " %llu %llu", &user, &system) != 2)
		return -EPROTO;
	r.ticks = user + system;
	*t = r;
	return 0;
}

int task_look(pid_t pid, pid_t tid, struct task *ret)
{
	char line[STAT_MAX];
	int r = read_file(pid, tid, "stat", line, sizeof line);

	return r < 0 ? r : task_parse(line, ret);
}

int task_each(pid_t pid, bool (*fn)(const struct task *t, void *arg), void *arg)
{
	char path[64];
	const struct dirent *e;
	uint64_t tid;

	snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	auto_dir DIR *d = opendir(path);
	if (!d)
		return -errno;
	while ((e = readdir(d))) {
		struct task t;
		if (parse_u64(e->d_name, INT32_MAX, &tid) == 0 && task_look(pid, (pid_t)tid, &t) == 0 && !fn(&t, arg))
			break;
	}
	return 0;
}

int task_waits_in(pid_t pid, pid_t tid, char *out, size_t size)
{
	return read_file(pid, tid, "wchan", out, size);
}
