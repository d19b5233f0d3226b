/* Notices to the kernel (of what to forget after a commit) are written by a process of their own.
 *
 * The kernel takes a directory's lock to forget a name, and whoever holds that lock may wait for an answer of ours. A thread of the worker that waits there cannot be
 * killed: the worker would never be dead, and no other could take over to give that answer. The helper waits instead, and its notice goes through when the
 * next worker has answered.
 *
 * Worker and helper are joined by a pipe; a notice is written whole (it is shorter than PIPE_BUF), and `telling` says that one is under way. */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <mintfs/fs.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define NOTICE_MAX 1024

static struct kept_session *session_of(struct keep *keep)
{
	return keep_area(keep, KEEP_AREA_FS);
}

int fs_prepare_keep(struct keep *keep)
{
	int pipefd[2];

	if (keep_fd(keep, KEEP_FD_NOTICES_IN) >= 0)
		return 0;
	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return -errno;
	keep_fd_set(keep, KEEP_FD_NOTICES_OUT, pipefd[0]);
	keep_fd_set(keep, KEEP_FD_NOTICES_IN, pipefd[1]);
	return 0;
}

ssize_t notices_send(struct keep *keep, const struct iovec *iov, int count)
{
	char notice[NOTICE_MAX];
	size_t len = 0;

	for (int i = 0; i < count; i++) {
		if (iov[i].iov_len > sizeof notice - len) {
			errno = EMSGSIZE;
			return -1;
		}
		memcpy(notice + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	return write(keep_fd(keep, KEEP_FD_NOTICES_IN), notice, len);
}

void notices_drop(struct keep *keep)
{
	int from = keep_fd(keep, KEEP_FD_NOTICES_OUT), waiting;
	char notice[NOTICE_MAX];

	while (ioctl(from, FIONREAD, &waiting) == 0 && waiting > 0 && read(from, notice, sizeof notice) > 0)
		;
}

/* The order matters: the helper says that it is telling before it takes a notice out of the pipe. */
bool notices_are_out(struct keep *keep)
{
	int waiting = 0;

	if (ioctl(keep_fd(keep, KEEP_FD_NOTICES_OUT), FIONREAD, &waiting) < 0 || waiting > 0)
		return waiting == 0;
	return !atomic_load(&session_of(keep)->telling);
}

static bool read_whole(int fd, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(fd, (char *)buf + done, len - done);
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

void fs_help(struct keep *keep)
{
	int from = keep_fd(keep, KEEP_FD_NOTICES_OUT);
	union { struct fuse_out_header head; char all[NOTICE_MAX]; } notice;
	struct pollfd p = {.fd = from, .events = POLLIN};

	for (;;) {
		atomic_store(&session_of(keep)->telling, 0);
		if (poll(&p, 1, -1) < 0)
			continue;
		atomic_store(&session_of(keep)->telling, 1);
		if (!read_whole(from, &notice.head, sizeof notice.head) || notice.head.len < sizeof notice.head || notice.head.len > sizeof notice)
			return;
		if (!read_whole(from, notice.all + sizeof notice.head, notice.head.len - sizeof notice.head))
			return;
		ssize_t n = write(keep_fd(keep, KEEP_FD_FUSE), notice.all, notice.head.len);
		(void)n; /* ENOENT: the kernel does not know the name, which is as good */
	}
}
