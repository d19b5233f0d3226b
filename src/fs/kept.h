/* What the drive keeps for the worker after this one: see mintfs/keep.h. Everything here lies in memory that outlives a worker. */
#ifndef MINTFS_FS_KEPT_H
#define MINTFS_FS_KEPT_H

#include <mintfs/keep.h>
#include <mintfs/registry.h>

/* An open file. held[0]: of its content; held[1]: O_PATH of the same file, of a writer in a draft. */
struct kept_open {
	struct keep_slot slot;
	uint64_t unique;     /* of the request that opened it */
	uint64_t ino, node;  /* its own; the kernel's by whose route the data go: 0, not routed */
	int64_t version_id;
	uint64_t backing_ino;
	int32_t backing_id;
	uint32_t flags;
	uint32_t uid;        /* who opened it */
};
enum { KEPT_WRITABLE = 1, KEPT_DRAFT = 2, KEPT_TEXT = 4 };
_Static_assert(sizeof(struct kept_open) <= KEEP_OPEN_SIZE, "an open file fits its record");

/* An open directory. Where it stands is told by the kernel with each request. */
struct kept_listing {
	struct keep_slot slot;
	uint64_t unique, ino;
	uint32_t class; /* of ops_dir.c */
	uint32_t uid;   /* who opened it */
};
_Static_assert(sizeof(struct kept_listing) <= KEEP_LISTING_SIZE, "a listing fits its record");

/* A node below a draft that the kernel knows. held[0]: its pin. Name and parent are found again by a walk through the draft. */
struct kept_node {
	struct keep_slot slot;
	uint64_t ino, file; /* the file's st_ino */
	int64_t version_id;
	_Atomic uint64_t nlookup;
	uint32_t type; /* S_IFMT bits */
	_Atomic int64_t twin; /* files.id of the committed directory that it goes on as; 0: none */
};
_Static_assert(sizeof(struct kept_node) <= KEEP_NODE_SIZE, "a node fits its record");

/* What a thread that reads requests is at, and what it has done of it: so that a request that is sent again is done once. */
struct kept_hand {
	_Atomic uint64_t unique;   /* without BIT_RESENT; 0: waits for a request */
	_Atomic int64_t since_ns;  /* monotonic: since when it works on it */
	_Atomic uint32_t opcode;
	_Atomic uint32_t resent;
	_Atomic int32_t tid;
	_Atomic uint64_t counted;  /* node that one lookup was counted of for the reply; 0 */
	_Atomic uint64_t moving;   /* rename with exchange: inode number of what is to stand at the new name */
	struct registry_once once; /* a mint */
};
#define KEPT_HANDS 64

/* What a thread of the pools is at. */
struct kept_job {
	_Atomic int32_t tid;      /* 0: free */
	_Atomic uint32_t opcode;
	_Atomic int64_t since_ns; /* monotonic; 0: at nothing yet */
};
#define KEPT_JOBS 64

/* What the keeper has seen of a hand or a job, look by look (hangs.c); nobody else's. */
struct kept_watch {
	int64_t since_ns;      /* whose request it is about */
	int64_t moved_ns;      /* when it was last seen to make progress */
	uint64_t ticks;        /* of processor time, at the last look */
	uint32_t looks, waits; /* since then, and how many of them found the worker waiting for the disk */
};
#define KEPT_UNFINISHED 1024
#define KEPT_INIT_MAX 256

struct kept_session {
	struct kept_hand hands[KEPT_HANDS];
	struct kept_hand unfinished[KEPT_UNFINISHED]; /* what hands of dead workers held; the oldest gives way */
	struct kept_job jobs[KEPT_JOBS];
	struct kept_watch watches[KEPT_HANDS + KEPT_JOBS]; /* of the hands, then of the jobs */
	uint32_t next_unfinished;
	uint32_t init_len;                /* the kernel's INIT: 0, not read yet */
	uint8_t init[KEPT_INIT_MAX];
	_Atomic uint32_t init_answered;
	_Atomic uint32_t passthrough;     /* as it was agreed in the answer */
	_Atomic int32_t newest_backing_id; /* the kernel counts them up */
	_Atomic uint32_t telling;         /* a notice is being written to the kernel (notices.c) */
	uint64_t device;                  /* of the mount (mountpoint.c); 0: not known */
	struct kept_watch own_watches[REGISTRY_OWN_THREADS]; /* of the registry's automatic commits */
};
_Static_assert(sizeof(struct kept_session) <= KEEP_AREA_SIZE, "the session fits its area");

#define BIT_RESENT (1ULL << 63) /* FUSE_UNIQUE_RESEND of linux/fuse.h, Linux 6.9 */

#endif
