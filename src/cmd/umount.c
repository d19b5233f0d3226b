/* mintfs umount: takes a drive away, and waits until its daemon has let the store go. */
#include "source.h"
#include "table.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <mintfs/util.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 30000
#define BUSY_MS 2000 /* for a drive that is busy and used by nobody who can be seen */
#define BUSY_STEP_MS 20
#define STEP_MS 20

/* ---- who serves it ---- */

/* The daemon, by its record in the catalog. Without one (a read-only mount, somebody else's store) there is nothing to wait for. */
struct daemon { struct registry *r; char dir[PATH_MAX]; struct catalog_mount m; bool found; int pidfd; };

static int match_mount(const struct catalog_mount *m, void *arg)
{
	struct daemon *d = arg;
	bool alive;
	if (strcmp(m->mountpoint, d->dir) != 0 || registry_mount_alive(d->r, m, &alive) < 0 || !alive)
		return 0;
	d->m = *m;
	d->found = true;
	return 1;
}

static bool same_program(pid_t pid)
{
	char path[64], name[2][32] = {"", ""};
	snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
	const char *paths[] = {path, "/proc/self/comm"};
	for (int i = 0; i < 2; i++) {
		auto_file FILE *f = fopen(paths[i], "re");
		if (!f || !fgets(name[i], sizeof name[i], f))
			return false;
	}
	return !strcmp(name[0], name[1]) || !strncmp(name[0], "mount.mintfs", 12);
}

static void find_daemon(const char *store, struct daemon *d)
{
	struct registry_options o = {.path = store, .read_only = true};
	struct fault unused = FAULT_INIT;
	d->pidfd = -1;
	if (!*store || registry_open(&o, &d->r, &unused) < 0) {
		d->r = NULL;
		return;
	}
	struct catalog_conn *conn = NULL;
	if (registry_read_begin(d->r, &conn) == 0)
		catalog_mount_list(conn, match_mount, d);
	catalog_read_end(conn);
	if (d->found && same_program(d->m.pid)) /* the number may belong to another pid namespace */
		d->pidfd = (int)syscall(SYS_pidfd_open, d->m.pid, 0);
}

/* The store is free when the daemon's lock is gone, and all is written when the process has ended. */
static int wait_for_daemon(const struct daemon *d, struct fault *f)
{
	int64_t end = time_monotonic_ns() + (int64_t)WAIT_MS * 1000000;
	bool alive = d->found;
	while (alive && time_monotonic_ns() < end) {
		struct pollfd p = {.fd = d->pidfd, .events = POLLIN};
		if (poll(&p, 1, STEP_MS) == 1)
			return 0;
		if (registry_mount_alive(d->r, &d->m, &alive) < 0)
			alive = false;
	}
	struct pollfd p = {.fd = d->pidfd, .events = POLLIN};
	int64_t left = (end - time_monotonic_ns()) / 1000000;
	if (!alive && (d->pidfd < 0 || poll(&p, 1, left > 0 ? (int)left : 0) == 1))
		return 0;
	return fault_set(f, ETIMEDOUT, "%s is unmounted, but its daemon (process %d) is still at work: it may be hashing a commit, or a container (another mount namespace) still has the drive",
		d->dir, (int)d->m.pid);
}

/* ---- who holds it ---- */

static bool lies_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);
	return !strncmp(path, dir, len) && (path[len] == '\0' || path[len] == '/');
}

static bool link_below(int proc, const char *name, const char *dir)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(proc, name, target, sizeof target - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	return lies_below(target, dir);
}

static bool process_holds(const char *pid, const char *dir)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%.20s", pid);
	auto_dir DIR *proc = opendir(path);
	if (!proc)
		return false;
	if (link_below(dirfd(proc), "cwd", dir) || link_below(dirfd(proc), "root", dir) || link_below(dirfd(proc), "exe", dir))
		return true;
	snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
	auto_dir DIR *fds = opendir(path);
	for (struct dirent *e; fds && (e = readdir(fds));)
		if (link_below(dirfd(fds), e->d_name, dir))
			return true;
	return false;
}

/* "python3 (1234), bash (1200)": as far as this user may see, and without this program, which may stand there as its shell does; only names of links are read, the drive is not touched. */
static void who_holds(const char *dir, char *out, size_t size)
{
	auto_dir DIR *proc = opendir("/proc");
	unsigned n = 0;
	out[0] = '\0';
	for (struct dirent *e; proc && n < 3 && (e = readdir(proc));) {
		char path[64], name[32] = "?";
		if (!isdigit((unsigned char)e->d_name[0]) || atoi(e->d_name) == getpid() || !process_holds(e->d_name, dir))
			continue;
		snprintf(path, sizeof path, "/proc/%.20s/comm", e->d_name);
		auto_file FILE *f = fopen(path, "re");
		if (f && fgets(name, sizeof name, f))
			name[strcspn(name, "\n")] = '\0';
		size_t len = strlen(out);
		snprintf(out + len, size - len, "%s%s (%.20s)", n++ ? ", " : "", name, e->d_name);
	}
}

/* ---- unmounting ---- */

static int by_fusermount(const char *dir, bool lazy)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		execlp("fusermount3", "fusermount3", lazy ? "-uzq" : "-uq", "--", dir, (char *)NULL);
		_exit(127);
	}
	if (pid < 0)
		return -errno;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return -ENOENT;
	return status == 0 ? 0 : -EBUSY;
}

/* -ENOENT: there is no fusermount3. */
static int try_once(const char *dir, bool lazy)
{
	int rc = umount2(dir, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0 ? 0 : -errno;
	if (rc != -EPERM)
		return rc == -ENOENT ? -EINVAL : rc;
	return by_fusermount(dir, lazy);
}

/* Who just looks at the drive, as each `df` does at all that is mounted, keeps it busy for a moment and holds nothing that could be named: such a moment is waited for. */
static int take_away(const char *dir, const char *store, bool lazy, struct fault *f)
{
	char holders[256] = "";
	struct drive_mount m;
	int64_t end = time_monotonic_ns() + (int64_t)BUSY_MS * 1000000;
	int rc;
	while ((rc = try_once(dir, lazy)) == -EBUSY) {
		who_holds(dir, holders, sizeof holders);
		if (holders[0] || time_monotonic_ns() >= end)
			break;
		const struct timespec pause = {0, BUSY_STEP_MS * 1000000L};
		nanosleep(&pause, NULL);
	}
	if (rc == -ENOENT)
		return fault_set(f, ENOSYS, "%s cannot be unmounted: fusermount3 is not installed", dir);
	if (rc == 0)
		return 0;
	if (drive_mounted_on(dir, &m) < 0 || strcmp(m.store, store) != 0) /* somebody was quicker */
		return 0;
	if (rc == -EBUSY && holders[0])
		return fault_set(f, EBUSY, "%s is in use by %s; -l takes it away now and lets them finish", dir, holders);
	if (rc == -EBUSY)
		return fault_set(f, EBUSY, "%s is in use, or was mounted by somebody else; -l takes it away now and lets whoever uses it finish", dir);
	return fault_set(f, -rc, "%s cannot be unmounted: %s", dir, strerror(-rc));
}

/* The mount point's absolute name, also where its daemon is dead and nothing on it can be looked at. */
static int mount_point(const char *arg, char out[PATH_MAX], struct fault *f)
{
	char parent[PATH_MAX], whole[PATH_MAX];
	if (realpath(arg, out))
		return 0;
	if (errno != ENOTCONN && errno != ECONNABORTED && errno != EACCES) /* EACCES: a drive of somebody else */
		return fault_set(f, errno, errno == ENOENT ? "%s does not exist" : "cannot look at %s (%s)", arg, strerror(errno));
	if (text_copy(parent, sizeof parent, arg) < 0)
		return fault_set(f, ENAMETOOLONG, "the name is too long");
	size_t len = strlen(parent);
	while (len > 1 && parent[len - 1] == '/')
		parent[--len] = '\0';
	char *slash = strrchr(parent, '/');
	const char *last = slash ? slash + 1 : parent;
	if (!realpath(slash == parent ? "/" : slash ? (*slash = '\0', parent) : ".", whole))
		return fault_set(f, errno, "cannot look at %s: %s", arg, strerror(errno));
	int n = snprintf(out, PATH_MAX, "%s/%s", strcmp(whole, "/") ? whole : "", last);
	return n < 0 || n >= PATH_MAX ? fault_set(f, ENAMETOOLONG, "the name is too long") : 0;
}

static int check(const char *arg, char dir[PATH_MAX], struct drive_mount *m, struct fault *f)
{
	struct cmd_target t;
	struct cmd_options none = {0};
	struct fault unused = FAULT_INIT;
	int rc = mount_point(arg, dir, f);
	if (rc < 0)
		return rc;
	if (drive_mounted_on(dir, m) == 0 && !strcmp(m->type, "fuse.mintfs"))
		return 0;
	if (cmd_find_target(dir, &none, &t, &unused) == 0 && t.mount[0])
		return fault_set(f, EINVAL, "%s lies on a drive, which is mounted on %s: unmount that", dir, t.mount);
	return fault_set(f, EINVAL, "no MintFS drive is mounted on %s", dir);
}

static int run(const struct command *self, int argc, char **argv)
{
	bool lazy = false;
	const struct cmd_flag flags[] = {{"lazy", 'l', &lazy, NULL}};
	struct cmd_args a;
	struct drive_mount m;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, flags, 1, 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_free struct daemon *d = calloc(1, sizeof *d);
	int rc = d ? check(a.v[0], d->dir, &m, &f) : fault_set(&f, ENOMEM, "not enough memory");
	if (rc < 0)
		return cmd_fail(self, &f);
	find_daemon(m.store, d);
	rc = take_away(d->dir, m.store, lazy, &f);
	if (rc == 0 && !lazy) /* a lazy one goes when the last user does */
		rc = wait_for_daemon(d, &f);
	registry_close(d->r);
	if (d->pidfd >= 0)
		close(d->pidfd);
	if (rc < 0)
		return cmd_fail(self, &f);
	if (a.o.json) {
		auto_buf struct buf b = BUF_INIT(1 << 20);
		struct json_out j;
		json_init(&j, &b, 2);
		json_object_begin(&j);
		json_field_string(&j, "unmounted", d->dir);
		json_object_end(&j);
		return cmd_put_json(self, &b);
	}
	return cmd_done(self);
}

const struct command cmd_umount = {
	.name = "umount",
	.args = "DIR [-l]",
	.summary = "take a drive away",
	.help = "Unmounts the drive on DIR and returns when its daemon has finished what was under way and let the store go. Refused while somebody uses the drive;\n"
		"who that is, is said as far as it can be seen. A drive whose daemon died is cleared away as well. Drafts stay; the next mount takes them up.\n"
		"\n"
		"  -l, --lazy         take it out of the tree now; who has files open goes on, and the daemon ends after the last\n" HELP_JSON HELP_HELP "\n"
		"Example:  mintfs umount /mnt/models\n",
	.run = run,
};
