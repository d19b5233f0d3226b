/* What must outlive a worker: records in memory that it shares with its supervisor, and the descriptors that stand in them.
 *
 * A worker may be killed between any two instructions. Supervisor and workers have one table of descriptors (clone(2) with CLONE_FILES), so what a
 * dead worker had open stays open under the same numbers; and one mapping, in which each record is
 *
 *     FREE ── filled, then keep_publish ──▶ USED ── keep_ending ──▶ ENDING ── undone, then keep_drop ──▶ FREE
 *
 * Only what is USED or ENDING counts when the next worker begins: a record that was being filled is as if it had never been taken, and one that is ENDING
 * is ended by the next worker. A descriptor is entered after it was opened and taken out before it is closed; what stands in no record is closed
 * before a worker begins (keep_close_others). That also drops the locks a dead worker held on other files.
 *
 * Single fields of a USED record may change where each value is whole by itself (one store). All functions are thread-safe, within one
 * worker; there is one worker at a time. */
#ifndef MINTFS_KEEP_H
#define MINTFS_KEEP_H

#include <mintfs/error.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Changes with every change of what is shared: only a program of the same number can take over from another (mintfs upgrade). A field where there was
 * padding is none, if 0 means what was before: records are zero at first. */
#define KEEP_PROTOCOL 4

struct keep;

enum keep_state { KEEP_FREE, KEEP_USED, KEEP_ENDING };
enum keep_kind { KEEP_OPENS, KEEP_LISTINGS, KEEP_NODES, KEEP_DRAFTS, KEEP_PROCESSES, KEEP_KINDS };
/* The sizes of the records; who defines one asserts that it fits. */
#define KEEP_OPEN_SIZE 96
#define KEEP_LISTING_SIZE 48
#define KEEP_NODE_SIZE 64
#define KEEP_DRAFT_SIZE 8192
#define KEEP_PROCESS_SIZE 48

/* Each record begins with it. */
struct keep_slot {
	_Atomic uint32_t state;
	uint32_t generation;     /* how often the slot was taken: a handle of an earlier use is told from this one's */
	_Atomic int32_t held[2]; /* descriptors, plus 1; 0: none. By keep_hold and keep_held */
};
static inline void keep_hold(struct keep_slot *s, unsigned which, int fd) { atomic_store(&s->held[which], fd + 1); } /* -1: none */
static inline int keep_held(const struct keep_slot *s, unsigned which) { return atomic_load(&s->held[which]) - 1; }

/* Single descriptors that outlive a worker. */
enum keep_fd { KEEP_FD_KEEP, KEEP_FD_FUSE, KEEP_FD_MOUNT_LOCK, KEEP_FD_NOTICES_IN, KEEP_FD_NOTICES_OUT, KEEP_FD_OLD_PROGRAM, KEEP_FDS };
/* Memory of a room, zero at first. */
enum keep_area { KEEP_AREA_KEEPER, KEEP_AREA_COMMAND, KEEP_AREA_FS, KEEP_AREA_REGISTRY, KEEP_AREAS };
#define KEEP_AREA_SIZE ((size_t)256 << 10)

int keep_new(struct keep **ret); /* supervisor; tests */
/* After an exec: what fd (not CLOEXEC then) stands for. -EPROTO with a sentence where it is of another protocol. */
int keep_attach(int fd, struct keep **ret, struct fault *f);
void keep_free(struct keep *k); /* the process's view of it. NULL is fine */
/* A worker begins: what is not USED or ENDING is free again. Before any other use in that process. */
int keep_begin(struct keep *k);
/* Closes all descriptors above 2 that stand in no record. Only while no worker lives. */
void keep_close_others(struct keep *k);

void *keep_area(struct keep *k, enum keep_area which);
int keep_fd(struct keep *k, enum keep_fd which);              /* -1: none */
void keep_fd_set(struct keep *k, enum keep_fd which, int fd); /* -1: none */

/* A free record, zero but for its slot; still FREE. NULL: all are used. k may be NULL: then NULL. */
void *keep_take(struct keep *k, enum keep_kind kind);
void keep_publish(void *record);
void keep_ending(void *record);
/* FREE from now on. Of a record that was never published too. NULL is fine. */
void keep_drop(struct keep *k, enum keep_kind kind, void *record);
enum keep_state keep_state_of(const void *record);
/* A record by its number; for i < keep_count it can be looked at, whatever its state. */
void *keep_at(struct keep *k, enum keep_kind kind, uint32_t i);
uint32_t keep_count(struct keep *k, enum keep_kind kind);
/* Number and generation in one: never the same twice in the life of a mount, never 0. */
uint64_t keep_handle(struct keep *k, enum keep_kind kind, const void *record);
static inline uint32_t keep_handle_index(uint64_t handle) { return (uint32_t)handle; }

#endif
