/* The drive: a FUSE session over a registry. */
#ifndef MINTFS_FS_H
#define MINTFS_FS_H

#include <mintfs/error.h>
#include <mintfs/keep.h>
#include <mintfs/log.h>
#include <mintfs/registry.h>
#include <stdbool.h>

struct fs;

struct fs_options {
	const char *mountpoint; /* absolute, an existing directory */
	bool read_only;
	bool allow_other;
	bool no_passthrough;   /* file data through the daemon, although the kernel could do without */
	bool debug;            /* libfuse's debug output */
	const char *fsname;    /* the store's path */
	struct log *log;       /* borrowed */
	struct keep *keep;     /* borrowed: what the next worker is to find */
	void (*ready)(void *arg); /* called once when the kernel's INIT was answered, or another worker's mount was taken over: the drive can be used */
	void *ready_arg;
	/* user.mintfs.NAME of the root that whoever runs the drive knows: 0, or -ENODATA. May be NULL. */
	int (*ask)(void *arg, const char *name, char *out, size_t size);
	/* Another program is to take over (user.mintfs.upgrade of the root, set by who mounted). again: asked for before this process. May be NULL. */
	int (*upgrade)(void *arg, const char *program, bool again, struct fault *f);
	pid_t keeper;             /* whose signals end the drive; another's only when it is dead */
	bool (*has_helper)(void *arg); /* false: nobody will ever run fs_help again. May be NULL. */
	void *keeper_arg;         /* of ask, upgrade and has_helper */
};

/* Prepares a drive; nothing is mounted yet. Strings of o are copied. Order of life: fs_new, registry_open (with the fs as its event_arg), fs_serve,
 * registry_close, fs_free. */
int fs_new(const struct fs_options *o, struct fs **ret, struct fault *f);
/* Tells the drive that a version changed: for registry_options.on_event; arg is the fs. Never blocks; before and after fs_serve it does nothing. */
void fs_registry_event(const struct registry_event *e, void *arg);
/* Mounts, and serves until unmounted or SIGTERM, SIGINT, SIGHUP from its parent, the keeper; unmounts. 0, or -errno with a sentence where it cannot mount. r is used until it returns. */
int fs_serve(struct fs *fs, struct registry *r, struct fault *f);
void fs_free(struct fs *fs); /* NULL is fine */

/* ---- for the keeper of the drive (mintfs/keeper.h) ---- */
int fs_prepare_keep(struct keep *keep); /* before the first process serves */
/* What the drive tells the kernel unasked, from a process that outlives the one that serves. Until it is killed. */
void fs_help(struct keep *keep);
/* Nobody serves any more: may another process take over what `keep` says? false: *ret_why is the end of a sentence. */
bool fs_can_go_on(struct keep *keep, const char **ret_why);
/* Is a request under way for longer than the limit, and makes no progress (src/fs/hangs.c)? worker: the process. */
bool fs_stuck(struct keep *keep, pid_t worker, int64_t limit_ns, char *why, size_t size);
/* Takes the mount away, by whatever process; by_force: whoever waits for an answer gets an error. */
void fs_unmount(const char *dir, struct keep *keep, bool by_force);

#endif
