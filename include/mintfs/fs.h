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
	void (*ready)(void *arg); /* called once when the kernel's INIT was answered: the drive can be used */
	void *ready_arg;
};

/* Prepares a drive; nothing is mounted yet. Strings of o are copied. Order of life: fs_new, registry_open (with the fs as its event_arg), fs_serve,
 * registry_close, fs_free. */
int fs_new(const struct fs_options *o, struct fs **ret, struct fault *f);
/* Tells the drive that a version changed: for registry_options.on_event; arg is the fs. Never blocks; before and after fs_serve it does nothing. */
void fs_registry_event(const struct registry_event *e, void *arg);
/* Mounts, and serves until unmounted or SIGTERM, SIGINT, SIGHUP; unmounts. 0, or -errno with a sentence where it cannot mount. r is used until it returns. */
int fs_serve(struct fs *fs, struct registry *r, struct fault *f);
void fs_free(struct fs *fs); /* NULL is fine */

#endif
