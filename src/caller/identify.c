/* Who is calling: from a thread id to its process, its ancestors and its run id.
 *
 * Invariants
 * - All of this is asked while the caller waits for our answer, so what is read stays true while we read it; only
 *   ancestors may end meanwhile. An ancestor is believed only if it is not younger than its child: a pid that was given
 *   out again is.
 * - What cannot be read is left out, and the caller is then in fewer runs, never in more.
 * - environ and syscall are read under locks of the caller's own memory and exec. A caller that waits in a lookup or
 *   readlink holds neither; one that waits in a page fault may, so nobody asks here on behalf of a READ. */
#include "proc.h"

#include <mintfs/caller.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

/* Jobs of clusters carry some 4 to 30 KiB of environment; a Kubernetes pod 250 bytes more for each service of its
 * namespace, which at a thousand services makes 256 KiB. What stands behind that is not looked at: a reader must not
 * pay for a caller's 2 MiB. */
#define ENVIRON_MAX ((size_t)256 * 1024)
#define ENVIRON_USUAL ((size_t)16 * 1024)

#define RUNNING_WAIT_NS (2LL * 1000 * 1000)
#define RUNNING_NAP_NS (20LL * 1000)
#define RUNNING_SPINS 8

/* A value in the environment block. */
struct value {
	const char *text; /* NULL: not set */
	size_t len;
};

/* The variables of the rule, by their place in one table, so that the block is walked once. */
enum variable { MINTFS_RUN, TORCHELASTIC_RUN_ID, MASTER_ADDR, MASTER_PORT, RANK, SLURM_JOB_ID, SLURM_STEP_ID, N_VARIABLES };
#define NAME(n) {#n "=", sizeof #n}
static const struct {
	const char *prefix;
	size_t len;
} variables[N_VARIABLES] = {
	[MINTFS_RUN] = NAME(MINTFS_RUN),
	[TORCHELASTIC_RUN_ID] = NAME(TORCHELASTIC_RUN_ID),
	[MASTER_ADDR] = NAME(MASTER_ADDR),
	[MASTER_PORT] = NAME(MASTER_PORT),
	[RANK] = NAME(RANK),
	[SLURM_JOB_ID] = NAME(SLURM_JOB_ID),
	[SLURM_STEP_ID] = NAME(SLURM_STEP_ID),
};
#undef NAME

/* The first of several equal names counts, as for getenv(3). */
static void find_variables(const char *block, size_t len, struct value values[N_VARIABLES])
{
	const char *end = block + len;
	while (block < end) {
		const char *nul = memchr(block, '\0', (size_t)(end - block));
		if (!nul)
			return; /* cut by the bound: half a value is no value */
		size_t n = (size_t)(nul - block);
		for (int i = 0; i < N_VARIABLES; i++) {
			size_t skip = variables[i].len;
			if (!values[i].text && n >= skip && memcmp(block, variables[i].prefix, skip) == 0)
				values[i] = (struct value){block + skip, n - skip};
		}
		block = nul + 1;
	}
}

/* Bytes [0, n) of a text that is longer than n: ends before a character that would be torn. */
static size_t cut_utf8(const char *text, size_t n)
{
	size_t cut = n;
	while (cut > 0 && n - cut < 3 && ((unsigned char)text[cut] & 0xc0) == 0x80)
		cut--;
	return ((unsigned char)text[cut] & 0xc0) == 0x80 ? n : cut;
}

/* "a", or "a<glue>b" */
static void compose(struct value a, char glue, struct value b, char out[CALLER_RUN_ID_MAX])
{
	size_t n = 0, room = CALLER_RUN_ID_MAX - 1;
	struct value parts[] = {a, {&glue, b.len ? 1 : 0}, b};
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		size_t len = parts[i].len <= room - n ? parts[i].len : cut_utf8(parts[i].text, room - n);
		if (len)
			memcpy(out + n, parts[i].text, len);
		n += len;
		if (len < parts[i].len)
			break;
	}
	out[n] = '\0';
}

void caller_run_id_from_environ(const char *block, size_t len, char out[CALLER_RUN_ID_MAX])
{
	struct value v[N_VARIABLES] = {{NULL, 0}}, none = {NULL, 0};
	find_variables(block, len, v);
	out[0] = '\0';
	bool is_none = v[TORCHELASTIC_RUN_ID].len == 4 && memcmp(v[TORCHELASTIC_RUN_ID].text, "none", 4) == 0;
	if (v[MINTFS_RUN].len)
		compose(v[MINTFS_RUN], 0, none, out);
	else if (v[TORCHELASTIC_RUN_ID].len && !is_none)
		compose(v[TORCHELASTIC_RUN_ID], 0, none, out);
	else if (v[RANK].len && v[MASTER_ADDR].len && v[MASTER_PORT].len)
		compose(v[MASTER_ADDR], ':', v[MASTER_PORT], out);
	else if (v[SLURM_JOB_ID].len && v[SLURM_STEP_ID].len)
		compose(v[SLURM_JOB_ID], '.', v[SLURM_STEP_ID], out);
}

static void read_run_id(pid_t pid, char out[CALLER_RUN_ID_MAX])
{
	char usual[ENVIRON_USUAL];
	ssize_t n = proc_read(pid, "environ", usual, sizeof usual);
	if (n < 0)
		return;
	if ((size_t)n < sizeof usual - 1) {
		caller_run_id_from_environ(usual, (size_t)n, out);
		return;
	}
	auto_free char *large = malloc(ENVIRON_MAX + 1);
	if (!large)
		return;
	n = proc_read(pid, "environ", large, ENVIRON_MAX + 1);
	if (n > 0)
		caller_run_id_from_environ(large, (size_t)n, out);
}

/* The process of a thread and that process's parent. */
static int read_process(pid_t tid, struct caller_process *ret, struct proc_stat *ret_stat)
{
	char text[512]; /* Tgid is in the first lines */
	pid_t tgid;
	if (tid <= 0 || proc_read(tid, "status", text, sizeof text) < 0 || proc_parse_tgid(text, &tgid) < 0)
		return -ESRCH;
	struct proc_stat st;
	int r = proc_stat(tgid, &st);
	if (r < 0)
		return r;
	*ret = (struct caller_process){tgid, st.start};
	*ret_stat = st;
	return 0;
}

int caller_process_of(pid_t tid, struct caller_process *ret)
{
	struct proc_stat st;
	return read_process(tid, ret, &st);
}

/* Is the child a job of its own, in a process group that its parent, the shell of a terminal, gave it? */
static bool is_job_of(const struct proc_stat *child, pid_t parent_pid, const struct proc_stat *parent)
{
	return parent->session == parent_pid && parent->tty != 0 && child->pgrp != parent->pgrp;
}

static void read_ancestors(const struct proc_stat *self, struct caller *c)
{
	uint64_t youngest = c->self.start;
	struct proc_stat child = *self;
	pid_t parent = self->parent;
	bool same_job = true;
	while (parent > 0 && c->n_ancestors < CALLER_ANCESTORS_MAX) {
		struct proc_stat st;
		if (parent == 1 && c->n_ancestors > 0)
			return; /* the ancestor of everybody tells nothing */
		if (proc_stat(parent, &st) < 0 || st.start > youngest)
			return;
		c->ancestors[c->n_ancestors++] = (struct caller_process){parent, st.start};
		same_job = same_job && !is_job_of(&child, parent, &st);
		c->n_job += same_job;
		child = st;
		youngest = st.start;
		parent = st.parent;
	}
}

void caller_identify(pid_t tid, uid_t uid, gid_t gid, struct caller *c)
{
	*c = (struct caller){.uid = uid, .gid = gid};
	struct proc_stat st;
	if (read_process(tid, &c->self, &st) < 0)
		return;
	memcpy(c->program, st.program, sizeof c->program);
	read_run_id(c->self.pid, c->run_id);
	read_ancestors(&st, c);
}

bool caller_alive(struct caller_process p)
{
	struct proc_stat st;
	return p.pid > 0 && proc_stat(p.pid, &st) == 0 && st.start == p.start && !proc_ended(&st);
}

bool caller_is_terminal_shell(struct caller_process p)
{
	static const char *const shells[] = {"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "csh", "tcsh"};
	struct proc_stat st;
	if (p.pid <= 0 || proc_stat(p.pid, &st) < 0 || st.start != p.start || st.session != p.pid || st.tty == 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(shells); i++)
		if (!strcmp(st.program, shells[i]))
			return true;
	return false;
}

static bool path_ends_in(struct peek_limit *limit, pid_t tid, uint64_t address, const char *name)
{
	char path[PATH_MAX];
	ssize_t len = peek_path(limit, tid, address, path);
	if (len < 0)
		return true;
	while (len > 0 && path[len - 1] == '/')
		len--;
	size_t n = strlen(name);
	return (size_t)len >= n && memcmp(path + len - n, name, n) == 0 && ((size_t)len == n || path[len - (ssize_t)n - 1] == '/');
}

/* The thread has sent us its request and is about to fall asleep. On a second core that takes microseconds; where it
 * must first be taken off the only core, giving the core away is what helps, hence the nap. */
bool proc_in_mkdir(struct peek_limit *limit, pid_t tid, const char *name)
{
	char path[32], text[256];
	if (tid <= 0)
		return false;
	snprintf(path, sizeof path, "/proc/%d/syscall", (int)tid);
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	int64_t until = 0;
	for (unsigned tries = 0; fd >= 0; tries++) {
		ssize_t n = pread(fd, text, sizeof text - 1, 0); /* at 0 it is made anew each time */
		if (n <= 0)
			return false;
		text[n] = '\0';
		uint64_t address;
		enum proc_call call = proc_parse_syscall(text, &address);
		if (call != PROC_CALL_RUNNING)
			return call == PROC_CALL_MKDIR && path_ends_in(limit, tid, address, name);
		int64_t now = time_monotonic_ns();
		if (!until)
			until = now + RUNNING_WAIT_NS;
		if (now >= until)
			return false;
		if (tries < RUNNING_SPINS) {
			sched_yield();
		} else {
			struct timespec nap = ns_timespec(RUNNING_NAP_NS);
			nanosleep(&nap, NULL);
		}
	}
	return false;
}
