/* Threads of a process, as the kernel sees them (proc_pid_stat(5)). For who watches a process from outside. */
#ifndef MINTFS_TASK_H
#define MINTFS_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TASK_NAME_MAX 16
#define TASK_DISK 'D' /* waits in the kernel, for a disk as a rule; signals do not wake it, though a deadly one may */
#define TASK_RUNS 'R'

struct task {
	pid_t tid;
	char name[TASK_NAME_MAX]; /* as pthread_setname_np(3) set it */
	char state;               /* R, S, D, T, Z … */
	uint64_t ticks;           /* of processor time it has used: hundredths of a second as a rule */
};

/* One thread. -ENOENT, -ESRCH where there is none; -EMFILE …; -EPROTO where the kernel's line is not understood. */
int task_look(pid_t pid, pid_t tid, struct task *ret);
/* Calls fn for each thread until it returns false. Those that end meanwhile are left out. 0, or -errno where the process is gone. */
int task_each(pid_t pid, bool (*fn)(const struct task *t, void *arg), void *arg);
/* The function of the kernel it waits in, "0" where it waits in none. -EACCES, -ENOENT …: it cannot be known. */
int task_waits_in(pid_t pid, pid_t tid, char *out, size_t size);
/* Understands a line of /proc/<pid>/task/<tid>/stat; t->tid included. -EPROTO. */
int task_parse(const char *line, struct task *t);

#endif
