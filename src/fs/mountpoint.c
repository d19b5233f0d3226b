/* Taking a mount away: by the worker that ends, or by its keeper where no worker can. */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/fs.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void by_fusermount(const char *dir)
{
	pid_t pid = fork();

	if (pid == 0) {
		execlp("fusermount3", "fusermount3", "-u", "-q", "-z", "--", dir, (char *)NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

/* What is mounted at dir, as a device. A statx that wants nothing asks no daemon, and nobody is refused it. */
static int device_at(const char *dir, uint64_t *ret)
{
	struct statx st;

	if (statx(AT_FDCWD, dir, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, 0, &st) < 0)
		return -errno;
	*ret = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
	return 0;
}

void mountpoint_note(struct keep *keep, const char *dir)
{
	struct kept_session *k = keep_area(keep, KEEP_AREA_FS);

	if (device_at(dir, &k->device) < 0)
		k->device = 0;
}

/* A drive that was taken away lazily lives on while files of it are open, and another one may be mounted in its place by then. */
bool mountpoint_is_ours(struct keep *keep, const char *dir)
{
	const struct kept_session *k = keep_area(keep, KEEP_AREA_FS);
	uint64_t there = 0;

	return k->device == 0 || device_at(dir, &there) < 0 || there == k->device;
}

/* The last descriptor is closed first: an unmount that finds the connection alive would ask us. A connection that has ended says POLLERR: then somebody else may be mounted
 * there by now. */
void fs_unmount(const char *dir, struct keep *keep, bool by_force)
{
	int fd = keep_fd(keep, KEEP_FD_FUSE);
	struct pollfd p = {.fd = fd};
	bool over = fd < 0 || (poll(&p, 1, 0) == 1 && (p.revents & POLLERR)) || !mountpoint_is_ours(keep, dir);

	if (!over && by_force && umount2(dir, MNT_FORCE | MNT_DETACH) == 0)
		over = true;
	keep_fd_set(keep, KEEP_FD_FUSE, -1);
	if (fd >= 0)
		close(fd);
	if (!over && umount2(dir, MNT_DETACH) < 0 && geteuid() != 0)
		by_fusermount(dir);
}

bool fs_can_go_on(struct keep *keep, const char **ret_why)
{
	const struct kept_session *k = keep_area(keep, KEEP_AREA_FS);

	if (keep_fd(keep, KEEP_FD_FUSE) < 0) {
		*ret_why = "the mount is gone";
		return false;
	}
	if (k->init_len > 0 && !channel_can_resend(k)) {
		*ret_why = "the kernel cannot send again what the worker had read (Linux 6.9 can)";
		return false;
	}
	return true;
}
