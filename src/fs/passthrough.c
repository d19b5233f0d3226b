/* Passthrough: the kernel reads, writes and maps the backing file itself, without the daemon (Linux 6.9, CAP_SYS_ADMIN).
 *
 * Invariants, from the kernel's fs/fuse/iomode.c and backing.c:
 *   - While a node is open, it is either passthrough or cached: the first open decides, later ones follow. Mixed opens fail with EIO.
 *   - A passthrough node has one backing id from its first open to its last release; a second id is EIO, even for the same file.
 *   - RELEASE is sent after the kernel let go of the file; an OPEN that overtakes it finds the id still in use here, which is right.
 * A node whose file cannot be registered (limits, a stacked file system) is served by the daemon: slower, with the same results.
 *
 * Lock: one over the table and the two ioctls, which do not block (they look up a descriptor and take an id).
 *
 * libfuse has calls for this from 3.17. Before, the ioctl is made here, the replies in open_reply.c, and the words in FUSE_INIT in channel.c. */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>

#define CAP_SYS_ADMIN_BIT 21
#define OVERLAYFS_MAGIC 0x794c7630
#define FUSE_MAGIC 0x65735546

struct route {
	unsigned opens;
	int backing_id; /* 0: cached */
};

void passthrough_init(struct passthrough *p)
{
	pthread_mutex_init(&p->lock, NULL);
	p->routes = map64_new();
	snprintf(p->reason, sizeof p->reason, "not negotiated yet");
}

static bool free_route(uint64_t key, void *value, void *arg)
{
	free(value);
	return true;
}

void passthrough_release(struct passthrough *p)
{
	if (p->routes)
		map64_each(p->routes, free_route, NULL);
	map64_free(p->routes);
	pthread_mutex_destroy(&p->lock);
}

/* ---- may it be used? ---- */

static bool has_cap_sys_admin(void)
{
	auto_file FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	unsigned long long caps = 0;

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "CapEff: %llx", &caps) == 1)
			break;
	return (caps >> CAP_SYS_ADMIN_BIT) & 1;
}

/* The kernel asks for the capability in its own namespace, and at the first file only. */
static bool in_user_namespace(void)
{
	auto_file FILE *f = fopen("/proc/self/uid_map", "re");
	unsigned long long first, outside, count;

	return f && fscanf(f, "%llu %llu %llu", &first, &outside, &count) == 3 && count != UINT32_MAX;
}

static const char *why_not(int store_fd, bool offered)
{
	struct statfs st;

	if (!offered)
		return "the kernel does not offer it (Linux 6.9 does, with CONFIG_FUSE_PASSTHROUGH)";
	if (!has_cap_sys_admin())
		return "the daemon lacks CAP_SYS_ADMIN";
	if (in_user_namespace())
		return "the daemon runs in a user namespace";
	if (fstatfs(store_fd, &st) == 0 && ((unsigned long)st.f_type == OVERLAYFS_MAGIC || (unsigned long)st.f_type == FUSE_MAGIC))
		return "the store lies on a stacked file system";
	return NULL;
}

bool passthrough_decide(struct passthrough *p, int store_fd, bool offered, bool agreed)
{
	const char *why = p->switched_off ? "switched off by the mount option nopassthrough" : why_not(store_fd, offered);

	if (!why && !agreed)
		why = "it was not agreed on when the drive was mounted";

	SCOPED_LOCK(&p->lock);
	p->enabled = why == NULL;
	snprintf(p->reason, sizeof p->reason, "%s", why ? why : "");
	return p->enabled;
}

bool passthrough_enabled(struct passthrough *p, char *reason, size_t size)
{
	SCOPED_LOCK(&p->lock);
	if (reason)
		snprintf(reason, size, "%s", p->reason);
	return p->enabled;
}

/* ---- backing ids ---- */

struct backing_map { int32_t fd; uint32_t flags; uint64_t padding; }; /* struct fuse_backing_map of Linux 6.9 */
#define DEV_IOC_BACKING_OPEN _IOW(229, 1, struct backing_map)
#define DEV_IOC_BACKING_CLOSE _IOW(229, 2, uint32_t)

static int backing_open(struct fs *fs, fuse_req_t req, int fd)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	errno = 0;
	int id = fuse_passthrough_open(req, fd);
#else
	struct backing_map map = {.fd = fd};
	int id = ioctl(fuse_session_fd(fs->session), DEV_IOC_BACKING_OPEN, &map);
#endif
	return id > 0 ? id : errno ? -errno : -EIO;
}

/* libfuse's own call wants a request, and there is none left after a reply that the kernel did not take. */
static void backing_close(struct fs *fs, int id)
{
	uint32_t what = (uint32_t)id;
	if (fs->session && ioctl(fuse_session_fd(fs->session), DEV_IOC_BACKING_CLOSE, &what) < 0 && errno != ENOTCONN && errno != ENOENT)
		log_warning(fs->log, "backing id %d cannot be closed: %s", id, strerror(errno));
}

/* What is registered stays open until the node's last release. A reader who comes before the writer's release is carried out goes on with the writer's id: were that one open for
 * writing, a commit would take the reader for a writer (sys_probe_writers). So a file is registered read-only; the kernel opens it anew for each open, with that one's flags. */
static int register_file(struct fs *fs, fuse_req_t req, int fd)
{
	auto_close int readable = sys_reopen(fd, O_RDONLY | O_NONBLOCK | O_NOCTTY);

	return backing_open(fs, req, readable >= 0 ? readable : fd);
}

/* Under the lock. Errors that will not pass switch it off for the session. */
static int open_route(struct fs *fs, fuse_req_t req, int fd)
{
	struct passthrough *p = &fs->passthrough;
	int id = p->enabled && fd >= 0 ? register_file(fs, req, fd) : 0;

	if (id > 0)
		atomic_store(&fs->channel.kept->newest_backing_id, id);
	if (id >= 0)
		return id;
	if (id == -EPERM || id == -ELOOP || id == -EOPNOTSUPP || id == -ENOTTY) {
		p->enabled = false;
		snprintf(p->reason, sizeof p->reason, "the kernel refused a file: %s", strerror(-id));
		log_warning(fs->log, "data path: by the daemon from now on; %s", p->reason);
	} else {
		log_debug(fs->log, "a file is served by the daemon: %s", strerror(-id));
	}
	return 0;
}

/* The route of an inode; one just made has no opens yet. NULL: no memory. Under the lock. */
static struct route *route_of(struct passthrough *p, fuse_ino_t ino)
{
	struct route *route = map64_get(p->routes, ino);

	if (route)
		return route;
	route = calloc(1, sizeof *route);
	if (route && map64_put(p->routes, ino, route) < 0) {
		free(route);
		return NULL;
	}
	return route;
}

int passthrough_begin(struct fs *fs, fuse_req_t req, fuse_ino_t ino, int fd, int *ret_backing_id)
{
	struct passthrough *p = &fs->passthrough;
	SCOPED_LOCK(&p->lock);
	struct route *route = route_of(p, ino);

	if (!route)
		return -ENOMEM;
	if (route->opens++ == 0)
		route->backing_id = open_route(fs, req, fd);
	*ret_backing_id = route->backing_id;
	return 0;
}

void passthrough_end(struct fs *fs, fuse_ino_t ino)
{
	struct passthrough *p = &fs->passthrough;
	SCOPED_LOCK(&p->lock);
	struct route *route = map64_get(p->routes, ino);

	if (!route || --route->opens > 0)
		return;
	if (route->backing_id)
		backing_close(fs, route->backing_id);
	map64_remove(p->routes, ino);
	free(route);
}

/* ---- after the death of a worker: ids live in the connection ---- */

int passthrough_again(struct fs *fs, fuse_ino_t ino, int backing_id)
{
	struct passthrough *p = &fs->passthrough;
	SCOPED_LOCK(&p->lock);
	struct route *route = route_of(p, ino);

	if (!route)
		return -ENOMEM;
	if (route->opens++ == 0)
		route->backing_id = backing_id;
	return 0;
}

#define STRAYS 4 /* one registration is made at a time: one id at most was got and not noted */

void passthrough_forget_strays(struct fs *fs, int id)
{
	int newest = atomic_load(&fs->channel.kept->newest_backing_id);

	if (id)
		backing_close(fs, id);
	for (int i = 1; !id && newest && i <= STRAYS; i++)
		backing_close(fs, newest + i);
}
