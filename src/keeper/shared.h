/* What keeper and worker tell each other; in KEEP_AREA_KEEPER. */
#ifndef KEEPER_SHARED_H
#define KEEPER_SHARED_H

#include <limits.h>
#include <mintfs/keeper.h>

enum upgrade_state { UPGRADE_NONE, UPGRADE_ASKED, UPGRADE_REFUSED, UPGRADE_UNDER_WAY, UPGRADE_DONE };

struct keeper_shared {
	_Atomic int32_t keeper, worker, helper; /* processes; 0: none */
	_Atomic uint32_t ready;        /* the drive was ready once */
	_Atomic int32_t ready_worker;  /* the newest worker that is ready */
	_Atomic int64_t beat_ns;       /* monotonic; 0: no beat yet */
	_Atomic uint32_t restarts;
	_Atomic int64_t restarted_ns;  /* since the epoch */
	char reason[160];              /* of the last death; written while no worker lives */
	_Atomic uint32_t upgrade;      /* enum upgrade_state; the texts belong to who is to move next */
	char program[PATH_MAX];
	char refusal[FAULT_TEXT_MAX];
};
_Static_assert(sizeof(struct keeper_shared) <= KEEP_AREA_SIZE, "fits its area");

static inline struct keeper_shared *shared_of(struct keep *k) { return keep_area(k, KEEP_AREA_KEEPER); }

/* stuck.c: why a worker that was killed does not end. place: where it waits for the disk; else "". */
enum keeper_stuck {
	KEEPER_STUCK_NOT,     /* it has ended, just now perhaps */
	KEEPER_STUCK_FOR_US,  /* it waits for our connection, which has to be cut */
	KEEPER_STUCK_DISK,    /* for the disk */
	KEEPER_STUCK_AT_WORK, /* for nothing: the kernel does something for it that takes long */
};
#define KEEPER_PLACE_MAX 64
enum keeper_stuck keeper_stuck_in(pid_t worker, char place[KEEPER_PLACE_MAX]);

/* systemd.c: tells the service manager, where there is one: "READY=1" … */
void systemd_tell(const char *text);

/* upgrade.c, in the keeper: is the program one that can take over? */
int upgrade_check(const char *program, struct fault *f);

#endif
