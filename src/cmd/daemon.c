/* A drive's processes: the keeper, which is the daemon that others know, and the worker, which serves (mintfs/keeper.h).
 *
 * What goes wrong before the drive is ready is told by the pipe `told`, in the table of descriptors that both share: 'R' when it is ready, else 'E' or 'N' (not found) and
 * the sentence. Later there is only the log. The keeper opens its log for each line anew: a descriptor of its own would be closed after a death with all others
 * that nobody needs (keep_close_others). */
#include "daemon.h"

#include <mintfs/cleanup.h>
#include <mintfs/fs.h>
#include <mintfs/keeper.h>
#include <mintfs/privileges.h>
#include <mintfs/util.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HANDED_OVER "MINTFS_HANDED_OVER"
#define ARGUMENTS_MAX 16
#define OPTIONS_MAX (PATH_MAX + 256)

struct daemon {
	const struct mount_options *m;
	struct keep *keep;
	int told, heard; /* both ends where nobody else waits; -1: not ours */
};

/* ---- the log ---- */

static int open_log(const struct mount_options *m, struct log **ret, struct fault *f)
{
	char path[PATH_MAX + 16];
	snprintf(path, sizeof path, "%s/mintfs.log", m->store);
	const char *to = m->log_path[0] ? m->log_path : m->foreground ? NULL : path;
	int rc = log_open(to, m->debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, ret, f);
	if (rc == 0 && to == path)
		log_give_to_owner(*ret);
	if (rc < 0 && m->read_only && !m->log_path[0]) /* a store that cannot be written is mounted without a log */
		rc = 0;
	if (rc == -EROFS && to == path) /* the log is only the first that cannot be written */
		rc = fault_set(f, EROFS, "the store %s lies on a file system that is mounted read-only: '-o ro' mounts it to be read", m->store);
	return rc;
}

static void say(void *arg, bool bad, const char *text)
{
	struct daemon *d = arg;
	struct log *log = NULL;
	if (open_log(d->m, &log, NULL) < 0)
		return;
	if (bad)
		log_error(log, "%s", text);
	else
		log_info(log, "%s", text);
	log_close(log);
}

/* ---- the worker ---- */

static void close_standard(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

static void tell_ready(void *arg)
{
	struct daemon *d = arg;
	if (!keeper_was_ready(d->keep)) {
		ssize_t n = write(d->told, "R", 1);
		(void)n; /* who is gone needs no answer */
		close(d->told);
		if (!d->m->foreground)
			close_standard();
	}
	keeper_ready(d->keep);
}

static void report(int fd, const struct fault *f, int rc)
{
	char text[FAULT_TEXT_MAX + 2];
	int n = snprintf(text, sizeof text, "%c%s", f->verdict == VERDICT_NOT_FOUND || f->error == ENOENT ? 'N' : 'E', f->error ? f->text : strerror(-rc));
	ssize_t written = write(fd, text, (size_t)n);
	(void)written;
}

static int ask(void *arg, const char *name, char *out, size_t size)
{
	struct daemon *d = arg;
	if (strcmp(name, "restarts") != 0)
		return -ENODATA;
	keeper_restarts(d->keep, out, size);
	return 0;
}

static int upgrade(void *arg, const char *program, bool again, struct fault *f)
{
	struct daemon *d = arg;
	return keeper_upgrade(d->keep, program, again, f);
}

static bool has_helper(void *arg)
{
	struct daemon *d = arg;
	return keeper_has_helper(d->keep);
}

static int serve(struct daemon *d, struct log *log, struct fault *f)
{
	const struct mount_options *m = d->m;
	struct fs *fs = NULL;
	struct registry *r = NULL;
	struct fs_options fo = {.mountpoint = m->dir, .read_only = m->read_only, .allow_other = m->allow_other == 1, .debug = m->debug, .no_passthrough = m->no_passthrough,
		.fsname = m->store, .log = log, .keep = d->keep, .ready = tell_ready, .ready_arg = d, .ask = ask, .upgrade = upgrade, .keeper = keeper_pid(d->keep), .has_helper = has_helper, .keeper_arg = d};
	int rc = fs_new(&fo, &fs, f);
	if (rc == 0) {
		struct registry_options ro = {.path = m->store, .read_only = m->read_only, .serve = true, .mountpoint = m->dir, .log = log, .keep = d->keep,
			.daemon_pid = keeper_pid(d->keep), .on_event = fs_registry_event, .event_arg = fs};
		rc = registry_open(&ro, &r, f);
	}
	if (rc == 0)
		rc = fs_serve(fs, r, f);
	registry_close(r);
	fs_free(fs);
	return rc;
}

static int work(void *arg)
{
	struct daemon *d = arg;
	struct fault f = FAULT_INIT;
	struct log *log = NULL;
	int rc = keep_begin(d->keep);
	if (rc == 0)
		rc = keeper_beat(d->keep);
	if (rc == 0)
		rc = open_log(d->m, &log, &f);
	if (rc == 0)
		rc = serve(d, log, &f);
	if (rc < 0)
		log_error(log, "%s", f.error ? f.text : strerror(-rc));
	log_close(log);
	if (rc < 0 && !keeper_was_ready(d->keep))
		report(d->told, &f, rc);
	return rc < 0 ? KEEPER_REFUSED : 0;
}

/* ---- the keeper ---- */

static void give_up(void *arg)
{
	struct daemon *d = arg;
	fs_unmount(d->m->dir, d->keep, true);
}

/* What is open stays open in the next program, or (on) is closed there. */
static void close_on_exec(bool on)
{
	auto_dir DIR *dir = opendir("/proc/self/fd");
	for (struct dirent *e; dir && (e = readdir(dir));) {
		int fd = atoi(e->d_name);
		if (fd > 2 && fd != dirfd(dir))
			fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0);
	}
}

static void option_list(const struct mount_options *m, char out[OPTIONS_MAX])
{
	snprintf(out, OPTIONS_MAX, "%s,%s,deaths=%u%s%s%s%s", m->read_only ? "ro" : "rw", m->allow_other == 1 ? "allow_other" : "noallow_other", m->deaths,
		m->no_passthrough ? ",nopassthrough" : "", m->debug ? ",debug" : "", m->log_path[0] ? ",log=" : "", m->log_path);
}

/* The same command line, as it was understood. */
static int become(void *arg, const char *program, bool old)
{
	struct daemon *d = arg;
	char options[OPTIONS_MAX], dir[PATH_MAX], store[PATH_MAX], number[16];
	char name[] = "mintfs", command[] = "mount", foreground[] = "-f", with[] = "-o";
	char *argv[ARGUMENTS_MAX] = {name, command, store, dir, with, options, d->m->foreground ? foreground : NULL, NULL};
	int before = keep_fd(d->keep, KEEP_FD_OLD_PROGRAM);
	text_copy(store, sizeof store, d->m->store);
	text_copy(dir, sizeof dir, d->m->dir);
	option_list(d->m, options);
	char *first = keep_area(d->keep, KEEP_AREA_COMMAND); /* as the program understood them that goes */
	if (old)
		text_copy(options, sizeof options, first);
	else
		text_copy(first, OPTIONS_MAX, options);
	snprintf(number, sizeof number, "%d", keep_fd(d->keep, KEEP_FD_KEEP));
	if (setenv(HANDED_OVER, number, 1) < 0)
		return -errno;
	if (!old) {
		registry_own_excuse(d->keep);
		int self = open("/proc/self/exe", O_PATH | O_CLOEXEC);
		keep_fd_set(d->keep, KEEP_FD_OLD_PROGRAM, self);
		if (before >= 0)
			close(before);
		before = self;
	}
	close_on_exec(false);
	if (old)
		fexecve(before, argv, environ);
	else
		execv(program, argv);
	int rc = -errno;
	close_on_exec(true);
	unsetenv(HANDED_OVER);
	return rc;
}

int daemon_handed_over(void)
{
	const char *text = getenv(HANDED_OVER);
	uint64_t fd;
	return text && parse_u64(text, INT_MAX, &fd) == 0 ? (int)fd : -1;
}

static int prepare(struct daemon *d, struct fault *f)
{
	int handed = daemon_handed_over();
	unsetenv(HANDED_OVER);
	int rc = privileges_drop();
	if (rc < 0)
		return fault_set(f, -rc, "cannot give up the privileges that a drive does not need: %s", strerror(-rc));
	if (handed >= 0) {
		rc = keep_attach(handed, &d->keep, f);
		if (rc == 0)
			close_on_exec(true);
		return rc;
	}
	rc = keep_new(&d->keep);
	if (rc == 0)
		rc = fs_prepare_keep(d->keep);
	return rc < 0 ? fault_set(f, -rc, "cannot prepare the drive: %s", strerror(-rc)) : 0;
}

/* Where nobody else waits: what the worker has told. */
static void hear(const struct daemon *d, struct fault *f)
{
	char text[FAULT_TEXT_MAX + 2] = "";
	struct pollfd p = {.fd = d->heard, .events = POLLIN};
	ssize_t n = poll(&p, 1, 0) > 0 ? read(d->heard, text, sizeof text - 1) : 0;
	if (n > 1)
		fault_set(f, text[0] == 'N' ? ENOENT : EIO, "%s", text + 1);
}

int daemon_run(const struct command *self, const struct mount_options *m, int told)
{
	struct daemon d = {.m = m, .told = told, .heard = -1};
	struct fault f = FAULT_INIT;
	int pipefd[2] = {-1, -1};
	if (told < 0) {
		if (pipe2(pipefd, O_CLOEXEC) < 0) {
			fault_set(&f, errno, "cannot make a pipe: %s", strerror(errno));
			return cmd_fail(self, &f);
		}
		d.heard = pipefd[0];
		d.told = pipefd[1];
	}
	int rc = prepare(&d, &f);
	if (rc == 0) {
		const struct keeper_options ko = {.keep = d.keep, .deaths = m->deaths, .work = work, .help = fs_help, .can_go_on = fs_can_go_on, .stuck = fs_stuck,
			.give_up = give_up, .say = say, .become = become, .arg = &d};
		rc = keeper_run(&ko, &f);
	}
	bool was_ready = d.keep && keeper_was_ready(d.keep);
	if (rc < 0 && !was_ready && d.heard >= 0)
		hear(&d, &f);
	else if (rc < 0 && !was_ready && f.text[0])
		report(d.told, &f, rc);
	keep_free(d.keep);
	if (rc < 0 && m->foreground)
		return cmd_fail(self, &f);
	return rc < 0 ? EXIT_REFUSED : EXIT_DONE;
}
