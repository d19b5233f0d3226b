/* Private to live.c (the table), follow.c (processes of a run) and settle.c (its end). */
#ifndef REGISTRY_LIVE_H
#define REGISTRY_LIVE_H

#include "registry.h"

#include <pthread.h>
#include <stdatomic.h>

#define LIVE_CHAIN_MAX (1 + CALLER_ANCESTORS_MAX)
#define LIVE_RECENT 8
#define LIVE_AFTER_MAX 1024 /* some 2 MiB */

/* A process that opened a file of the draft for writing. */
struct participant {
	struct caller_process process;
	struct caller_process cover; /* tracked ancestor when it joined: while that lives, the exit status is that one's business */
	bool alive;
	bool of_run; /* else only its presence counts, not how it ends */
	uid_t uid;   /* in what was padding: records of older programs have 0 */
};

struct live {
	atomic_uint refs;
	struct live_table *table;
	int64_t version_id, model_id, run_id;
	uint32_t number;
	uid_t uid;
	gid_t gid;
	struct draft *draft; /* referenced */
	int lock_fd;
	atomic_bool anchored;

	/* all below: table->mutex */
	char run_key[CALLER_RUN_ID_MAX];
	struct caller_process chain[LIVE_CHAIN_MAX]; /* minter, then its ancestors; pid 0 at [0] if it could not be seen */
	unsigned n_chain;
	unsigned holder;      /* index of the holder; n_chain: nobody */
	uint64_t wrote_under; /* bit i: chain[i] or a descendant of it wrote */
	uint64_t chain_ended; /* bit i: chain[i] was seen to end … */
	int chain_status[LIVE_CHAIN_MAX]; /* … so */
	unsigned next_recent;
	struct { pid_t tid; unsigned part; } recent[LIVE_RECENT];
	struct participant *parts;
	unsigned n_parts, cap_parts;
	int status;           /* wait status that counts: 0 good, -1 unknown */
	unsigned tries;       /* to settle, in vain for EBUSY */
	uint8_t begun;        /* how many processes in a row began to settle it, and did not live to end it (an upgrade counts for nothing); this one too, while it is at it */
	int64_t ended_ns;
	struct kept_live *kept; /* NULL: not kept */
	bool holder_gone;
	bool recalled;        /* taken over from an earlier daemon, and nobody of its run wrote since: how it went is not known */
	bool observed;        /* the run's command is known to be a writer's */
	bool settling, settled, removed;
	bool acting;          /* it is being settled: not done yet, should the process die */
	bool after;           /* no draft any more: only the end of its run is waited for; draft is NULL */
	struct live *next_of_model, *next_free; /* after: the next of them */
};

struct live_mint {
	int64_t model_id;
	struct caller caller;
	struct live_mint *next;
};

struct live_table {
	struct registry *r;
	pthread_mutex_t adopting; /* held while one draft is taken over; before mutex */
	pthread_mutex_t mutex;
	pthread_cond_t minted; /* a mint ended */
	struct map64 *by_version, *by_model; /* struct live; of a model a list by next_of_model, newest first */
	struct live_mint *mints;
	struct caller_watch *watch; /* NULL: runs are not followed */
	struct live *after, **after_tail; /* oldest first; at most LIVE_AFTER_MAX */
	size_t n_after;
	size_t max; /* drafts; fixed */
	bool stopped;
	bool last_try;         /* of one draft; others wait for it (settle.c) */
	bool paused;           /* nothing settles yet: open files are not all known again (live_resume) */
	struct map64 *before;  /* records of the process before this one; only while the store is opened. NULL: none */
};

struct live *live_ref(struct live *l);
bool live_same_id(const char *key, uid_t uid, const struct caller *c); /* is the caller in a run of this id, of that user? */

/* follow.c */
void live_hold_first(struct live_table *t, struct live *l); /* mutex held */
caller_ended_fn live_process_ended;
bool live_run_over(const struct live *l); /* mutex held; never for a run that cannot be followed */

void live_follow_again(struct live_table *t, struct live *l); /* mutex held */

/* after.c: the runs of drafts that were committed or discarded before the run was over. Mutex held. */
void live_after_begin(struct live_table *t, struct live *l); /* l leaves the table; its processes are handed on */
void live_after_end(struct live_table *t, struct live *l);   /* forgotten, if it is there still */
void live_after_free(struct live_table *t);

/* kept_live.c */
struct kept_live;
void live_keep_begin(struct live *l); /* mutex held, and for live_keep */
void live_keep(struct live *l);       /* its state has changed */
void live_keep_end(struct live *l);
int live_kept_read(struct live_table *t);
/* The record of a draft, with its lock; NULL: none. */
struct kept_live *live_kept_take(struct live_table *t, int64_t version_id, int *ret_lock_fd);
void live_kept_drop(struct live_table *t, struct kept_live *k);
int live_kept_restore(struct live *l, struct kept_live *k);

/* settle.c */
void live_record_reopened(struct live *l); /* its reason and the end of its run are taken back */
void live_settle_soon(struct live_table *t, struct live *l); /* mutex held; if its run is over */
void live_settle_all(struct live_table *t);                  /* mutex held; each whose run is over */

#endif
