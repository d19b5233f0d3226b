/* Before another program takes over it is asked by which protocol it would: `PROGRAM mount --protocol` prints the number. */
#include "shared.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ANSWER_MS 10000

/* The first line that it prints, at most within the time. */
static int read_answer(int fd, char *out, size_t size)
{
	int64_t end = time_monotonic_ns() + ANSWER_MS * 1000000LL;
	size_t len = 0;

	while (len < size - 1) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = (end - time_monotonic_ns()) / 1000000;
		if (left <= 0 || poll(&p, 1, (int)left) <= 0)
			return -ETIMEDOUT;
		ssize_t n = read(fd, out + len, size - 1 - len);
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	out[len] = '\0';
	out[strcspn(out, "\n")] = '\0';
	return 0;
}

static pid_t ask(const char *program, int out)
{
	pid_t pid = fork();
	sigset_t none;

	if (pid != 0)
		return pid;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(out, STDOUT_FILENO);
	execl(program, "mintfs", "mount", "--protocol", (char *)NULL);
	_exit(127);
}

int upgrade_check(const char *program, struct fault *f)
{
	char answer[64] = "";
	uint64_t protocol = 0;
	int pipefd[2], status = 0, r;

	if (access(program, X_OK) < 0)
		return fault_set(f, errno, "%s cannot be run: %s", program, strerror(errno));
	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return fault_set(f, errno, "%s cannot be asked: %s", program, strerror(errno));
	pid_t pid = ask(program, pipefd[1]);
	close(pipefd[1]);
	r = pid < 0 ? -errno : read_answer(pipefd[0], answer, sizeof answer);
	close(pipefd[0]);
	if (pid > 0) {
		if (r < 0)
			kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	if (r < 0 || status != 0 || parse_u64(answer, UINT32_MAX, &protocol) < 0)
		return fault_set(f, EPROTO, "%s is no mintfs that can take over a drive in use: it does not say by which protocol", program);
	if (protocol != KEEP_PROTOCOL)
		return fault_set(f, EPROTO, "%s takes over by protocol %llu, this drive hands over by %d: unmount it and mount it with the new program", program,
			(unsigned long long)protocol, KEEP_PROTOCOL);
	return 0;
}
