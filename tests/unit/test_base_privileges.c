/* Room base: what a daemon and its children give up. Each test works in a child, as nothing comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <mintfs/privileges.h>

#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct sets {
	unsigned long long inheritable, permitted, effective, bounding, ambient;
	int no_new_privs;
};

static int read_sets(const char *path, struct sets *s)
{
	char line[256];
	int found = 0;
	FILE *f = fopen(path, "r");
	if (!f)
		return 0;
	while (fgets(line, sizeof line, f))
		found += sscanf(line, "CapInh: %llx", &s->inheritable) == 1 || sscanf(line, "CapPrm: %llx", &s->permitted) == 1 ||
			 sscanf(line, "CapEff: %llx", &s->effective) == 1 || sscanf(line, "CapBnd: %llx", &s->bounding) == 1 ||
			 sscanf(line, "CapAmb: %llx", &s->ambient) == 1 || sscanf(line, "NoNewPrivs: %d", &s->no_new_privs) == 1;
	fclose(f);
	return found == 6;
}

#define MUST(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			_exit(1); \
		} \
	} while (0)

static void in_child(void (*fn)(void))
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		fn();
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void must_be_root(void)
{
	struct sets s;
	if (geteuid() != 0 || !read_sets("/proc/self/status", &s) || !(s.permitted >> CAP_SETPCAP & 1))
		skip();
}

#define HAS(set, cap) ((set) >> (cap) & 1)

static void daemon_of_root(void)
{
	struct sets before, s;
	MUST(read_sets("/proc/self/status", &before));
	MUST(privileges_drop() == 0);
	MUST(read_sets("/proc/self/status", &s));
	MUST(s.permitted == s.effective && s.bounding == s.permitted && s.inheritable == 0 && s.ambient == 0 && s.no_new_privs == 1);
	MUST((s.permitted & ~before.permitted) == 0);
	MUST(HAS(s.permitted, CAP_SYS_ADMIN) == HAS(before.permitted, CAP_SYS_ADMIN));
	MUST(HAS(s.permitted, CAP_CHOWN) && HAS(s.permitted, CAP_LEASE) && HAS(s.permitted, CAP_SYS_PTRACE));
	static const int gone[] = {CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_BOOT, CAP_MKNOD, CAP_SETPCAP, CAP_SYS_RESOURCE, CAP_SYS_CHROOT,
		CAP_SETFCAP, CAP_SYS_TIME, CAP_BPF, CAP_AUDIT_CONTROL};
	for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
		MUST(!HAS(s.permitted, gone[i]));
	MUST(privileges_drop() == 0); /* what a successor does once more */
}

static void test_a_daemon_of_root_keeps_what_it_uses_and_nothing_else(void **state)
{
	must_be_root();
	in_child(daemon_of_root);
}

static void ordinary_user(void)
{
	struct sets s;
	MUST(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
	MUST(privileges_drop() == 0);
	MUST(read_sets("/proc/self/status", &s));
	MUST(s.permitted == 0 && s.effective == 0 && s.inheritable == 0 && s.ambient == 0);
	MUST(s.no_new_privs == 0); /* fusermount3 must be able to unmount */
}

static void test_an_ordinary_user_s_daemon_has_none_and_may_still_unmount(void **state)
{
	must_be_root();
	in_child(ordinary_user);
}

/* The program prints its own sets into a pipe. */
static void exec_after_dropping_all(void)
{
	int ends[2];
	char text[4096] = "";
	size_t len = 0;
	MUST(privileges_drop() == 0); /* as in the daemon */
	MUST(pipe(ends) == 0);
	pid_t pid = fork();
	MUST(pid >= 0);
	if (pid == 0) {
		MUST(dup2(ends[1], 1) == 1 && privileges_drop_all() == 0);
		execl("/bin/cat", "cat", "/proc/self/status", (char *)NULL);
		_exit(1);
	}
	close(ends[1]);
	for (ssize_t n; len < sizeof text - 1 && (n = read(ends[0], text + len, sizeof text - 1 - len)) > 0;)
		len += (size_t)n;
	int status;
	MUST(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	MUST(strstr(text, "Uid:\t0\t0\t0\t0") != NULL); /* still root by its number */
	MUST(strstr(text, "CapPrm:\t0000000000000000") && strstr(text, "CapEff:\t0000000000000000"));
	MUST(strstr(text, "CapInh:\t0000000000000000") && strstr(text, "CapAmb:\t0000000000000000"));
}

static void test_a_child_of_root_gets_no_capability_back_by_exec(void **state)
{
	must_be_root();
	in_child(exec_after_dropping_all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_daemon_of_root_keeps_what_it_uses_and_nothing_else),
		cmocka_unit_test(test_an_ordinary_user_s_daemon_has_none_and_may_still_unmount),
		cmocka_unit_test(test_a_child_of_root_gets_no_capability_back_by_exec),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
