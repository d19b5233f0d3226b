/* Who is calling: processes, their ancestors, their run id, the system call they wait in; and the end of processes.
 *
 * A thread id as FUSE gives it (in.h.pid) is read here through /proc. Nothing here ever resolves a path that a caller
 * supplied: cwd is only the text of the link (it may lead into our own mount). Thread-safe. */
#ifndef MINTFS_CALLER_H
#define MINTFS_CALLER_H

#include <mintfs/error.h>
#include <mintfs/keep.h>
#include <mintfs/log.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CALLER_ANCESTORS_MAX 32 /* nearest first; what is further up is left out */
#define CALLER_RUN_ID_MAX 256

/* A process, told apart from a later one with the same pid by its start time (field 22 of /proc/pid/stat, clock ticks since boot). */
struct caller_process {
	pid_t pid; /* thread group id; 0: none */
	uint64_t start;
};
static inline bool caller_same(struct caller_process a, struct caller_process b) { return a.pid == b.pid && a.start == b.start && a.pid != 0; }

struct caller {
	struct caller_process self; /* self.pid == 0: cannot be seen (pid 0, gone, hidden) */
	uid_t uid;
	gid_t gid;
	char program[16]; /* the process' name, as the kernel cuts it; "" */
	char run_id[CALLER_RUN_ID_MAX]; /* "" if none or the environment cannot be read */
	unsigned n_ancestors;
	struct caller_process ancestors[CALLER_ANCESTORS_MAX]; /* parent first; pid 1 is included only if it is the direct parent */
	unsigned n_job; /* how many of them, nearest first, are of the caller's job: what a shell with job control (a terminal's session leader) starts is a job of its own */
};

/* Fills *c for thread `tid`. uid and gid are taken as given (FUSE knows them). Always succeeds: what cannot be seen is left empty.
 * The run id is, from the environment at exec: MINTFS_RUN; else TORCHELASTIC_RUN_ID unless "none"; else MASTER_ADDR:MASTER_PORT where
 * RANK is set; else SLURM_JOB_ID.SLURM_STEP_ID where both are set. Empty values count as not set; longer than the maximum: cut. */
void caller_identify(pid_t tid, uid_t uid, gid_t gid, struct caller *c);
/* As caller_identify, but remembers: every request on `latest` asks, and a caller seldom changes between two. What is remembered counts for half a second,
 * and only while the thread is the same (start time), of the same parent, and has not begun another program since (the place of its environment). */
struct caller_cache;
struct caller_cache *caller_cache_new(void); /* NULL: no memory */
void caller_cache_free(struct caller_cache *cache); /* NULL is fine */
void caller_cache_identify(struct caller_cache *cache, pid_t tid, uid_t uid, gid_t gid, struct caller *c);
/* The run id rule alone, over an environment block of NUL-terminated strings (for tests and fuzzing). */
void caller_run_id_from_environ(const char *block, size_t len, char out[CALLER_RUN_ID_MAX]);
/* The parser of /proc/<pid>/stat (comm may hold blanks and parentheses). -EINVAL. */
int caller_parse_stat(const char *text, pid_t *ret_ppid, uint64_t *ret_start);

/* Is the process alive (not a zombie) with this start time? */
bool caller_alive(struct caller_process p);

/* Is it the shell of a terminal, where a person types: a shell by its name that leads the session of a terminal? (A trainer that a terminal was opened for leads one too.) */
bool caller_is_terminal_shell(struct caller_process p);

/* What it is, in words for a sentence: its arguments with blanks between, cut with "..." where out is too small; else the program's name; "" if it has ended. size: from 8 on */
void caller_command_words(struct caller_process p, char *out, size_t size);

/* Is `group` one of the supplementary groups of thread tid, which acts as uid and gid? Asked while the thread waits for us: /proc/<tid>/status must show
 * these ids, else another thread has got its number. 0 or 1; -ESRCH where it cannot be seen. (The group gid itself is not asked here.) */
int caller_in_group(pid_t tid, uid_t uid, gid_t gid, gid_t group);

/* Is thread tid, which waits for us, about to die of a signal as soon as it may? What it asked for is then for nobody. false where it cannot be seen. */
bool caller_is_dying(pid_t tid);

/* The cheapest identity: only the process of a thread. -ESRCH if it cannot be seen. */
int caller_process_of(pid_t tid, struct caller_process *ret);

/* Does thread tid wait in mkdir or mkdirat of a path whose last component is `name`? (In mkdir("latest/sub") the lookup of `latest` is no different
 * from any other.) Reads /proc/<tid>/syscall; while it says "running", tries again for at most about 2 ms. false where it cannot be read (foreign
 * user without CAP_SYS_PTRACE, strict Yama, io_uring, 32-bit callers). A path that cannot be read, or whose memory does not answer within 0.2 s, counts as ending in
 * `name`. */
bool caller_in_mkdir(struct caller_cache *cache, pid_t tid, const char *name);

/* What is known of a process for the record of a run. All owned by the struct. */
struct caller_details {
	char *command; /* JSON array of the arguments, cut at 64 KiB; or NULL */
	char *cwd;     /* text of the link; or NULL */
	char *program; /* comm */
	int64_t started_ns; /* wall clock; 0 unknown */
};
void caller_details_read(struct caller_process p, struct caller_details *d); /* what cannot be read stays NULL */
void caller_details_release(struct caller_details *d);

/* user name of a uid, or its number as text */
void caller_user_name(uid_t uid, char *out, size_t size);

/* The commit of the git work tree that holds directory cwd, and whether tracked files differ from it. Runs `git` as uid/gid (all groups
 * dropped where we are root) with optional locks, hooks and fsmonitor off, at most 5 s. Blocking: never from a handler.
 * -ENOENT: no work tree, no git; -ETIMEDOUT. */
int caller_git_state(const char *cwd, uid_t uid, gid_t gid, char commit[65], bool *ret_dirty);

/* The end of processes, by pidfd. One thread polls all. */
struct caller_watch;
/* status: as wait(2) gives it (WIFEXITED …), or -1 where the kernel does not tell (before Linux 6.15, or not permitted). Called on the
 * watch's thread, without locks; may add watches; must not block long. */
typedef void caller_ended_fn(struct caller_process p, int status, void *arg);
int caller_watch_new(caller_ended_fn *fn, void *arg, struct log *log, struct caller_watch **ret);
/* Watches p; fn is called once when it ends. Watching the same process again is fine and does nothing. -ESRCH: it has ended already
 * (fn will not be called). Each costs a descriptor of this process, which `who` may have an eighth of (CALLER_NO_SHARE: as many as there are). Beyond that, and where none is to be had, p is
 * looked for from time to time: its end is told some seconds late, and its status mostly as -1. */
#define CALLER_NO_SHARE UINT32_MAX
int caller_watch_add(struct caller_watch *w, struct caller_process p, uid_t who);
/* Right after caller_watch_new: the pidfds are kept for the process after this one, and those of the one before are used again. So the end of a process is heard of
 * although it came while nobody watched. */
int caller_watch_keep(struct caller_watch *w, struct keep *keep);
void caller_watch_kept_done(struct caller_watch *w); /* what was kept and not watched again by now is let go */
size_t caller_watch_count(struct caller_watch *w);
void caller_watch_free(struct caller_watch *w); /* no call after it returns. NULL is fine */

#endif
