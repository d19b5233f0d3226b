/* Who serves a store: each daemon has a row in the catalog and holds the lock on run/<mount id>. It is alive as long as that lock is held, whatever its row says. */
#include "registry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define MOUNT_LOCK_MAX 32
static void mount_lock_name(int64_t id, char out[MOUNT_LOCK_MAX]) { snprintf(out, MOUNT_LOCK_MAX, "run/%lld", (long long)id); }

static int64_t *kept_mount(struct registry *r)
{
	return &((struct registry_kept *)keep_area(r->keep, KEEP_AREA_REGISTRY))->mount_id;
}

bool mount_resume(struct registry *r)
{
	struct catalog_mount m;
	auto_read struct catalog_conn *conn = NULL;
	if (!r->keep || *kept_mount(r) == 0 || keep_fd(r->keep, KEEP_FD_MOUNT_LOCK) < 0)
		return false;
	if (catalog_read_begin(r->catalog, &conn) < 0 || catalog_mount_get(conn, *kept_mount(r), &m) < 0)
		return false;
	r->mount_id = m.id;
	r->mount_fd = keep_fd(r->keep, KEEP_FD_MOUNT_LOCK);
	return true;
}

static void keep_mount(struct registry *r)
{
	if (!r->keep)
		return;
	keep_fd_set(r->keep, KEEP_FD_MOUNT_LOCK, r->mount_fd);
	*kept_mount(r) = r->mount_id;
}

struct mount_job { struct registry *r; struct catalog_mount m; int64_t id; int fd; };

/* The lock is taken before others can see the row: nobody takes the mount for dead in between. */
static int mount_add_write(struct catalog_conn *conn, void *arg)
{
	struct mount_job *j = arg;
	char name[MOUNT_LOCK_MAX];
	if (j->fd >= 0) /* of a first try that was undone */
		close(take_fd(&j->fd));
	int rc = catalog_mount_add(conn, &j->m, &j->id);
	if (rc < 0)
		return rc;
	mount_lock_name(j->id, name);
	j->fd = sys_openat_beneath(j->r->dirfd, name, O_RDWR | O_CREAT | O_NONBLOCK, 0600);
	rc = j->fd < 0 ? j->fd : sys_give_to_owner(j->fd, j->r->dirfd);
	return rc < 0 ? rc : sys_lock(j->fd, true, false);
}

static int mount_remove_write(struct catalog_conn *conn, void *arg)
{
	int rc = catalog_mount_remove(conn, *(int64_t *)arg);
	return rc == -ENOENT ? 0 : rc;
}

int mount_announce(struct registry *r, const char *mountpoint, struct fault *f)
{
	struct mount_job j = {.r = r, .m = {.pid = r->daemon_pid, .read_only = r->read_only, .since_ns = time_now_ns()}, .fd = -1};
	char name[MOUNT_LOCK_MAX];
	text_copy(j.m.host, sizeof j.m.host, r->host);
	text_copy(j.m.boot_id, sizeof j.m.boot_id, r->boot_id);
	text_copy(j.m.mountpoint, sizeof j.m.mountpoint, mountpoint ? mountpoint : "");
	int rc = sys_mkdirat(r->dirfd, "run", 0700);
	if (rc < 0 && rc != -EEXIST)
		return refuse_system(f, rc, "cannot make %s/run", r->path);
	rc = catalog_write(r->catalog, false, mount_add_write, &j);
	if (rc < 0) {
		mount_lock_name(j.id, name);
		if (j.fd >= 0) {
			sys_unlinkat(r->dirfd, name, 0);
			close(j.fd);
		}
		return refuse_system(f, rc, "cannot record the mount in %s", r->path);
	}
	r->mount_id = j.id;
	r->mount_fd = j.fd;
	keep_mount(r);
	return 0;
}

void mount_withdraw(struct registry *r)
{
	char name[MOUNT_LOCK_MAX];
	if (r->keep)
		*kept_mount(r) = 0;
	mount_lock_name(r->mount_id, name);
	catalog_write(r->catalog, false, mount_remove_write, &r->mount_id);
	sys_unlinkat(r->dirfd, name, 0);
}

void mount_unlock(struct registry *r)
{
	if (r->keep)
		keep_fd_set(r->keep, KEEP_FD_MOUNT_LOCK, -1);
	close(r->mount_fd);
}

int registry_mount_alive(struct registry *r, const struct catalog_mount *m, bool *ret_alive)
{
	char name[MOUNT_LOCK_MAX];
	if (m->id == r->mount_id) {
		*ret_alive = true;
		return 0;
	}
	mount_lock_name(m->id, name);
	auto_close int fd = sys_openat_beneath(r->dirfd, name, O_RDONLY | O_NONBLOCK, 0);
	if (fd == -ENOENT) {
		*ret_alive = false;
		return 0;
	}
	if (fd < 0)
		return fd;
	int rc = sys_lock(fd, false, false);
	*ret_alive = rc == -EWOULDBLOCK;
	return rc == -EWOULDBLOCK ? 0 : rc;
}

struct dead_mounts { struct registry *r; int64_t ids[64]; unsigned n; };

static int note_dead_mount(const struct catalog_mount *m, void *arg)
{
	struct dead_mounts *d = arg;
	bool alive = true;
	if (registry_mount_alive(d->r, m, &alive) == 0 && !alive && d->n < ARRAY_SIZE(d->ids))
		d->ids[d->n++] = m->id;
	return 0;
}

/* More than fit are forgotten by a later mount. */
void mounts_forget_dead(struct registry *r)
{
	struct dead_mounts d = {.r = r};
	struct catalog_conn *conn = NULL;
	if (catalog_read_begin(r->catalog, &conn) < 0)
		return;
	catalog_mount_list(conn, note_dead_mount, &d);
	catalog_read_end(conn);
	for (unsigned i = 0; i < d.n; i++) {
		char name[MOUNT_LOCK_MAX];
		mount_lock_name(d.ids[i], name);
		sys_unlinkat(r->dirfd, name, 0);
		catalog_write(r->catalog, false, mount_remove_write, &d.ids[i]);
	}
}
