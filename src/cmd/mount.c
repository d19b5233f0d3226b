/* mintfs mount: puts a store on a directory. Also runs as mount.mintfs, for mount(8) and /etc/fstab, and as mount.fuse.mintfs, which mount(8) looks for where it takes the type from
 * /proc/self/mountinfo: for a remount.
 *
 * The daemon is a child that tells its parent by a pipe: one byte 'R' when the drive is ready, else the sentence why not. */
#include "daemon.h"

#include <mintfs/cleanup.h>
#include <mintfs/keeper.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- options ---- */

struct asked {
	bool fake;           /* mount(8) asks its helpers by -f to do all but the mount */
	const char *remount; /* "ro" or "rw": of what is mounted already; NULL */
};

static bool is_ignored(const char *option)
{
	static const char *const ignored[] = {"defaults", "rw", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "nodev", "nosuid",
		"exec", "noexec", "atime", "noatime", "relatime", "norelatime", "strictatime", "diratime", "nodiratime", "lazytime", "nolazytime", "async", "silent",
		"default_permissions", "dev", "suid"};
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		if (!strcmp(option, ignored[i]))
			return true;
	return !strncmp(option, "x-", 2) || !strncmp(option, "X-", 2) || !strncmp(option, "comment=", 8) || !strncmp(option, "user=", 5);
}

/* Absolute: the daemon leaves this directory. */
static int take_log(const struct command *self, const char *path, struct mount_options *m)
{
	auto_free char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);
	int n = snprintf(m->log_path, sizeof m->log_path, "%s%s%s", here ? here : "", here ? "/" : "", path);
	return n > 0 && (size_t)n < sizeof m->log_path ? 0 : cmd_usage(self, "the name of the log is too long");
}

static int take_deaths(const struct command *self, const char *text, struct mount_options *m)
{
	uint64_t n;
	if (parse_u64(text, 64, &n) < 0)
		return cmd_usage(self, "deaths= needs a number up to 64; 0 is never");
	m->deaths = (unsigned)n;
	return 0;
}

static int take_option(const struct command *self, char *option, struct mount_options *m)
{
	if (!strcmp(option, "ro"))
		m->read_only = true;
	else if (!strcmp(option, "allow_other"))
		m->allow_other = 1;
	else if (!strcmp(option, "noallow_other"))
		m->allow_other = 0;
	else if (!strcmp(option, "nopassthrough"))
		m->no_passthrough = true;
	else if (!strcmp(option, "debug"))
		m->debug = true;
	else if (!strncmp(option, "log=", 4))
		return take_log(self, option + 4, m);
	else if (!strncmp(option, "deaths=", 7))
		return take_deaths(self, option + 7, m);
	else if (*option && !is_ignored(option))
		return cmd_usage(self, "unknown mount option '%s'", option);
	return 0;
}

static bool has_option(const char *list, const char *option)
{
	size_t len = strlen(option);
	for (const char *at = list; (at = strstr(at, option)) != NULL; at += len)
		if ((at == list || at[-1] == ',') && (at[len] == ',' || at[len] == '\0'))
			return true;
	return false;
}

static int take_options(const struct command *self, char *list, struct mount_options *m, struct asked *asked)
{
	char *save = NULL;
	if (has_option(list, "remount")) { /* mount(8) adds what the kernel shows of the mount: none of it is ours */
		asked->remount = has_option(list, "ro") ? "ro" : "rw";
		return 0;
	}
	for (char *option = strtok_r(list, ",", &save); option; option = strtok_r(NULL, ",", &save)) {
		int rc = take_option(self, option, m);
		if (rc)
			return rc;
	}
	return 0;
}

static int take_arguments(const struct command *self, int argc, char **argv, struct mount_options *m, const char *where[2], struct asked *asked)
{
	bool is_helper = strcmp(argv[0], self->name) != 0;
	int n = 0;
	for (int i = 1; i < argc; i++) {
		int rc = 0;
		if (is_helper && !strcmp(argv[i], "-f"))
			asked->fake = true;
		else if (!strcmp(argv[i], "-f") || !strcmp(argv[i], "--foreground"))
			m->foreground = true;
		else if (!strcmp(argv[i], "-d"))
			m->debug = m->foreground = true;
		else if (!strcmp(argv[i], "-r"))
			m->read_only = true;
		else if (!strcmp(argv[i], "-s") || !strcmp(argv[i], "-n") || !strcmp(argv[i], "-v") || !strcmp(argv[i], "-w"))
			continue; /* of mount(8) */
		else if ((!strcmp(argv[i], "-t") || !strcmp(argv[i], "-N")) && i + 1 < argc)
			i++;
		else if (!strcmp(argv[i], "-o") && i + 1 < argc)
			rc = take_options(self, argv[++i], m, asked);
		else if (!strncmp(argv[i], "-o", 2) && argv[i][2])
			rc = take_options(self, argv[i] + 2, m, asked);
		else if (argv[i][0] == '-' && argv[i][1])
			return cmd_usage(self, "unknown option '%s'", argv[i]);
		else if (n == 2)
			return cmd_usage(self, "one store and one directory are needed; '%s' is too much", argv[i]);
		else
			where[n++] = argv[i];
		if (rc)
			return rc;
	}
	return n == 2 ? 0 : cmd_usage(self, "a store and a directory are needed");
}

/* ---- the mount point ---- */

static int mounted_on(const char *dir, char *type, size_t size)
{
	auto_file FILE *f = fopen("/proc/self/mounts", "re");
	char line[3 * PATH_MAX], target[PATH_MAX], kind[128];
	int found = 0;
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%*s %4095s %127s", target, kind) == 2 && !strcmp(target, dir)) {
			text_copy(type, size, kind);
			found = 1;
		}
	return found;
}

/* Only by force is a connection cut on which somebody still waits. */
static int unmount_stale(const char *dir)
{
	if (umount2(dir, MNT_FORCE | MNT_DETACH) == 0)
		return 0;
	pid_t pid = fork();
	if (pid == 0) {
		execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", dir, (char *)NULL);
		_exit(127);
	}
	int status;
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 ? 0 : -EBUSY;
}

static int check_mountpoint(struct mount_options *m, const char *dir, struct fault *f)
{
	struct stat st;
	char type[128], store[PATH_MAX];
	int rc = stat(dir, &st) < 0 ? -errno : 0;
	if (rc == 0) { /* attributes of a drive whose daemon has died may still be in the kernel: something uncached tells */
		int probe = drive_attr(dir, "store", store, sizeof store);
		rc = probe == -ENOTCONN || probe == -ECONNABORTED ? probe : 0;
	}
	if (rc == -ENOTCONN || rc == -ECONNABORTED) { /* a daemon died here: clear up after it */
		if (unmount_stale(dir) < 0)
			return fault_set(f, EBUSY, "%s is the mount point of a daemon that died, and cannot be unmounted: try 'fusermount3 -u %s'", dir, dir);
		rc = stat(dir, &st) < 0 ? -errno : 0;
	}
	if (rc == -ENOENT)
		return fault_set(f, ENOENT, "the mount point %s does not exist: make it with 'mkdir %s'", dir, dir);
	if (rc < 0)
		return fault_set(f, -rc, "cannot look at the mount point %s: %s", dir, strerror(-rc));
	if (!S_ISDIR(st.st_mode))
		return fault_set(f, ENOTDIR, "the mount point %s is not a directory", dir);
	if (!realpath(dir, m->dir))
		return fault_set(f, errno, "cannot resolve the mount point %s: %s", dir, strerror(errno));
	if (mounted_on(m->dir, type, sizeof type) && !strncmp(type, "fuse", 4))
		return fault_set(f, EBUSY, "%s is busy: a file system of type %s is mounted there already", m->dir, type);
	size_t len = strlen(m->store);
	if (!strncmp(m->dir, m->store, len) && (m->dir[len] == '/' || m->dir[len] == '\0'))
		return fault_set(f, EINVAL, "%s lies in the store itself: mount the drive somewhere else", m->dir);
	return 0;
}

/* As systemd.mount(5) does. What is stale or not to be listed is nobody's files to miss. */
static void warn_of_hidden(const struct command *self, const char *dir)
{
	enum { MANY = 1000 };
	auto_dir DIR *d = opendir(dir);
	unsigned n = 0;
	for (struct dirent *e; d && n <= MANY && (e = readdir(d)) != NULL;)
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	if (n == 0)
		return;
	auto_buf struct buf b = BUF_INIT(PATH_MAX + 256);
	if (n > MANY)
		buf_printf(&b, "more than %d entries are", MANY);
	else
		buf_printf(&b, "its %u %s", n, plural(n, "entry is", "entries are"));
	cmd_warn(self, "%s is not empty: %s hidden until the drive is unmounted", dir, buf_text(&b));
}

/* ---- the daemon ---- */

static int wait_for_daemon(const struct command *self, int fd)
{
	char text[FAULT_TEXT_MAX + 2];
	size_t len = 0;
	for (ssize_t n; len < sizeof text - 1 && ((n = read(fd, text + len, sizeof text - 1 - len)) > 0 || (n < 0 && errno == EINTR));)
		len += n > 0 ? (size_t)n : 0;
	text[len] = '\0';
	if (text[0] == 'R')
		return EXIT_DONE;
	struct fault f = FAULT_INIT;
	fault_set(&f, text[0] == 'N' ? ENOENT : EIO, "%s", len > 1 ? text + 1 : "the daemon died before the drive was ready: see mintfs.log in the store");
	return cmd_fail(self, &f);
}

static int start_daemon(const struct command *self, const struct mount_options *m)
{
	int pipefd[2];
	struct fault f = FAULT_INIT;
	if (pipe2(pipefd, O_CLOEXEC) < 0) {
		fault_set(&f, errno, "cannot make a pipe: %s", strerror(errno));
		return cmd_fail(self, &f);
	}
	pid_t pid = fork();
	if (pid < 0) {
		fault_set(&f, errno, "cannot start the daemon: %s", strerror(errno));
		return cmd_fail(self, &f);
	}
	if (pid > 0) {
		close(pipefd[1]);
		int code = wait_for_daemon(self, pipefd[0]);
		close(pipefd[0]);
		return code;
	}
	close(pipefd[0]);
	setsid();
	if (chdir("/") < 0)
		_exit(EXIT_REFUSED);
	return daemon_run(self, m, pipefd[1]);
}

static int may_allow_other(void)
{
	if (geteuid() == 0)
		return 1;
	auto_file FILE *f = fopen("/etc/fuse.conf", "re");
	char line[256];
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, "user_allow_other", 16))
			return 1;
	return 0;
}

/* The worker knows its options from its start, and drafts are open in it: nothing of that can be changed below the feet of trainings. */
static int refuse_remount(const struct command *self, const char *const where[2], const char *wanted)
{
	struct fault f = FAULT_INIT;
	fault_set(&f, EOPNOTSUPP, "the drive %s cannot be remounted, it keeps the options that it was mounted with: unmount it by 'mintfs umount %s', then 'mintfs mount %s %s -o %s'", where[1], where[1],
		where[0], where[1], wanted);
	return cmd_fail(self, &f);
}

static int run(const struct command *self, int argc, char **argv)
{
	auto_free struct mount_options *m = calloc(1, sizeof *m);
	const char *where[2] = {"", ""};
	struct fault f = FAULT_INIT;
	if (!m)
		return EXIT_REFUSED;
	m->allow_other = -1;
	m->deaths = KEEPER_DEATHS;
	if (argc == 2 && !strcmp(argv[1], "--protocol")) { /* asked by a drive that this program is to take over */
		printf("%d\n", KEEP_PROTOCOL);
		return EXIT_DONE;
	}
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			cmd_print_help(self);
			return EXIT_DONE;
		}
	struct asked asked = {0};
	int code = take_arguments(self, argc, argv, m, where, &asked);
	if (code)
		return code;
	if (asked.remount)
		return refuse_remount(self, where, asked.remount);
	if (registry_check(where[0], m->store, &f) < 0)
		return cmd_fail(self, &f);
	bool handed_over = daemon_handed_over() >= 0;
	if (handed_over)
		text_copy(m->dir, sizeof m->dir, where[1]);
	else if (!asked.fake && check_mountpoint(m, where[1], &f) < 0)
		return cmd_fail(self, &f);
	if (asked.fake)
		return EXIT_DONE;
	if (!handed_over)
		warn_of_hidden(self, m->dir);
	if (m->allow_other < 0)
		m->allow_other = may_allow_other();
	return m->foreground || handed_over ? daemon_run(self, m, -1) : start_daemon(self, m);
}

const struct command cmd_mount = {
	.name = "mount",
	.args = "STORE DIR [-f] [-o OPTION,…]",
	.summary = "put a store on a directory, as a drive",
	.help = "Mounts the store on DIR and returns when the drive is ready, or says why it cannot be.\n"
		"\n"
		"  -f, --foreground   stay in the foreground; the log goes to standard error\n"
		"  -o ro              read-only: nothing can be minted, written or committed\n"
		"  -o allow_other     let other users in (root: the default; others: needs user_allow_other in /etc/fuse.conf)\n"
		"  -o noallow_other   only the user who mounts\n"
		"  -o log=FILE        write the log there (default: mintfs.log in the store)\n"
		"  -o nopassthrough   file data through the daemon, although the kernel could do without it\n"
		"  -o deaths=N        give up when the worker dies N times within a minute (default 5; 0: never)\n"
		"  -o debug           log more, and libfuse's requests\n"
		"\n"
		"In /etc/fstab:  STORE DIR mintfs defaults,nofail 0 0\n",
	.run = run,
};
