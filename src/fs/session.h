/* The inside of a drive: what belongs to a session, for the files of this room. Classes of nodes use node.h alone. */
#ifndef MINTFS_FS_SESSION_H
#define MINTFS_FS_SESSION_H

#include "kept.h"
#include "node.h"
#include <mintfs/fs.h>
#include <mintfs/util.h>
#include <pthread.h>
#include <sys/uio.h>
#include <signal.h>
#include <stdatomic.h>

/* ---- errors.c: the newest refusals, for user.mintfs.error ---- */
#define ERRORS_KEPT 64
struct error_ring {
	pthread_mutex_t lock; /* the rest */
	unsigned used, next;
	int64_t newest_ns; /* when `newest` was said first; 0: never */
	char newest[FAULT_TEXT_MAX];
	struct error_kept { fuse_ino_t ino; char text[FAULT_TEXT_MAX]; } kept[ERRORS_KEPT];
};
void errors_init(struct error_ring *e);
void errors_release(struct error_ring *e);
bool errors_keep(struct error_ring *e, fuse_ino_t ino, const char *text); /* false: the same was said a moment ago (rm -r), so the log need not hear it */
void errors_drop(struct error_ring *e, fuse_ino_t ino); /* something was done there: the old refusal is history */
int errors_find(struct error_ring *e, fuse_ino_t ino, char out[FAULT_TEXT_MAX]); /* -ENOENT */

/* ---- channel.c: what goes to and from the kernel, before libfuse sees it ---- */
struct channel {
	void (*ready)(void *arg); /* called once, when the reply to INIT is written */
	void *ready_arg;
	_Atomic uint64_t init_unique; /* of the INIT request until it is answered; 0 */
	_Atomic uint64_t offered;     /* what the kernel offered in it: FUSE_… bits of linux/fuse.h, upper half from flags2 */
	_Atomic bool passthrough;     /* to be told to the kernel in the reply to INIT */
	_Atomic unsigned order;       /* for the thread sanitizer only */
	_Atomic bool feed_init;
	struct present { void *buf; size_t len; char *front; } present[KEPT_HANDS]; /* each of its thread alone */
	struct keep *keep;
	struct kept_session *kept;    /* the same memory */
	pthread_key_t hand;           /* of the thread: its struct kept_hand */
	_Atomic unsigned n_hands;
};
int channel_init(struct channel *ch, struct keep *keep);
void channel_release(struct channel *ch);
/* Of a thread that reads requests; NULL elsewhere, and where there are too many of them. */
struct kept_hand *channel_hand(struct channel *ch);
/* Takes over the reading and writing of a session, from and to fd. The session's userdata must be the fs. */
int channel_attach(struct channel *ch, struct fuse_session *se, int fd);
void channel_feed_init(struct channel *ch); /* the next read is the INIT of the mount's beginning */
int channel_resend(struct channel *ch, int fd); /* before anything is read */
bool channel_can_resend(const struct kept_session *k);
bool channel_can_prune(const struct kept_session *k); /* knows FUSE_NOTIFY_PRUNE */

/* ---- notices.c: what is told to the kernel unasked, by a process that does not die with a worker ---- */
ssize_t notices_send(struct keep *keep, const struct iovec *iov, int count); /* as writev; waits while there is much to tell */
void mountpoint_note(struct keep *keep, const char *dir);    /* what was just mounted there is ours */
bool mountpoint_is_ours(struct keep *keep, const char *dir); /* no other has taken its place */
void notices_drop(struct keep *keep); /* for who knows that nobody takes them any more */
bool notices_are_out(struct keep *keep); /* nothing waits, nothing is being told */

/* ---- again.c: after the death of a worker ---- */
struct again_count { unsigned opens, listings, nodes, requests; };
int again_restore(struct fs *fs, struct again_count *ret);
#define BIT_PASSTHROUGH (1ULL << 37) /* FUSE_PASSTHROUGH of linux/fuse.h, Linux 6.9 */

/* ---- passthrough.c: file data without the daemon ---- */
struct passthrough {
	bool switched_off; /* by mount option */
	pthread_mutex_t lock; /* the rest */
	bool enabled;
	char reason[160];     /* why it is not enabled */
	struct map64 *routes; /* open nodes: how each is served */
};
void passthrough_init(struct passthrough *p);
void passthrough_release(struct passthrough *p);
/* At INIT. agreed: false where an earlier worker has answered it without. */
bool passthrough_decide(struct passthrough *p, int store_fd, bool offered, bool agreed);
bool passthrough_enabled(struct passthrough *p, char *reason, size_t size); /* reason may be NULL; "" where enabled */
/* An open of a node of the kernel, served by descriptor fd (-1: has no file): *ret_backing_id is 0 where the daemon serves it. -ENOMEM. */
int passthrough_begin(struct fs *fs, fuse_req_t req, fuse_ino_t ino, int fd, int *ret_backing_id);
void passthrough_end(struct fs *fs, fuse_ino_t ino); /* for each begin, at its release */
int passthrough_again(struct fs *fs, fuse_ino_t ino, int backing_id); /* a begin by the worker before */
void passthrough_forget_strays(struct fs *fs, int id); /* an id that nobody uses; 0: those that a worker may have got in its last moment */

/* ---- open_reply.c ---- */
/* As fuse_reply_open and fuse_reply_create, with a backing id (0: none). */
int open_reply(fuse_req_t req, const struct fuse_file_info *fi, int backing_id);
int open_reply_create(fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi, int backing_id);

/* ---- notify.c: invalidations, from a thread of their own ---- */
struct notify;
int notify_new(struct fs *fs, struct notify **ret);
int notify_start(struct notify *n);
void notify_version(struct notify *n, const struct registry_event *e); /* never waits for the kernel; does nothing unless started */
/* While a hold of the calling thread lasts, what it causes is not told: from before a request is carried out until it is answered. */
struct notify_hold {
	struct notify_hold *next;
	pthread_t thread;
	struct item *first;
};
void notify_hold_begin(struct notify *n, struct notify_hold *h);
void notify_hold_end(struct notify *n, struct notify_hold *h);
void notify_stop_begin(struct notify *n); /* drops what is queued; the thread may still wait in the kernel */
bool notify_stopped(struct notify *n);
void notify_stop_end(struct notify *n);
void notify_free(struct notify *n);

/* ---- open.c ---- */
int open_again(struct fs *fs, struct kept_open *kept); /* an open file of the worker before */
#define OPEN_PART 1024
#define OPEN_PARTS 1024
struct open_part;
struct open_table {
	pthread_mutex_t lock; /* the list, and in its members the links and the node (the one who opens reads his own without) */
	pthread_cond_t released;
	struct open_entry *first;
	_Atomic(struct open_part *) parts[OPEN_PARTS];
};
void open_table_init(struct open_table *t);
/* Decides how the data of a just opened file go, for node `ino` of the kernel: the one place for that. -ENOMEM. */
int open_file_route(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct open_file *of);
void open_table_release(struct fs *fs, struct open_table *t); /* ends what the kernel never released (a connection that was cut) */
/* close() does not wait for RELEASE: waits for a second at most until no file of the draft is open for writing, so that a commit right after the last close is
 * not refused as busy; or until none is open at all, for a discard. */
void open_wait_writers(struct fs *fs, int64_t version_id);
void open_wait_closed(struct fs *fs, int64_t version_id);
void open_drop_ghost(struct fs *fs, uint64_t unique); /* opened by a request that was never answered, and comes again */
unsigned open_count(struct fs *fs, int64_t version_id); /* open files of a version */
bool open_has_writer(struct fs *fs, fuse_ino_t ino); /* any open or mapping of the kernel's inode that may write */

/* ---- small_files.c: small committed files, opened without an open file ---- */
#define SMALL_FILE_MAX ((size_t)128 * 1024) /* above it what passthrough saves in reading is more than it costs to open */
#define SMALL_FILE_HANDLE 0         /* fi->fh of such an open; of no other */
struct small_files {
	pthread_mutex_t lock; /* the entries */
	struct small_file *all;
};
int small_files_init(struct small_files *s); /* -ENOMEM */
void small_files_release(struct small_files *s);
bool small_file_known(struct fs *fs, fuse_ino_t ino, int64_t *ret_version_id);
/* A committed file whose content was just opened. False: it is not small. */
bool small_file_remember(struct fs *fs, fuse_ino_t ino, const struct catalog_file *file);
void small_file_opened(struct fuse_file_info *fi); /* what an OPEN is answered with */
int small_file_content(struct call *c, fuse_ino_t ino, int *ret_fd); /* a descriptor, the caller's; refuses as registry_file_open does */
void small_file_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off);
void small_file_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence);

/* ---- shares.c: how many descriptors the open files and listings of each user take ---- */
struct shares {
	pthread_mutex_t lock; /* the table */
	struct map64 *taken;  /* numbers, by uid */
	size_t each;          /* that one user may have; fixed */
};
int shares_init(struct shares *s); /* -ENOMEM */
void shares_release(struct shares *s);
int share_take(struct call *c, unsigned n);                 /* for the caller: -EMFILE with the sentence, -ENOMEM */
void share_again(struct fs *fs, uid_t uid, unsigned n);     /* taken in the time of the worker before */
void share_give(struct fs *fs, uid_t uid, unsigned n);

/* ---- ops_dir.c ---- */
int listing_again(struct fs *fs, struct kept_listing *kept); /* of the worker before */
void listings_release(struct fs *fs); /* ends what the kernel never released */
void listings_drop_ghost(struct fs *fs, uint64_t unique); /* opened by a request that was never answered, and comes again */

/* ---- versions_node.c ---- */
struct versions_cache {
	pthread_mutex_t lock; /* the rest; never held over a call of the registry */
	char *text;           /* owned; until somebody opens it */
	int fd;               /* then: a memfd that all opens of this state share. -1 and no text: nothing yet */
	size_t len;
	int64_t stamp, changed_ns;
};
void versions_cache_init(struct versions_cache *v);
void versions_cache_release(struct versions_cache *v);
int versions_entry(struct fs *fs, struct fuse_entry_param *e);

struct fs {
	/* fixed by fs_new */
	char *mountpoint, *fsname;
	bool read_only, allow_other, debug;
	void (*ready)(void *arg);
	void *ready_arg;
	int (*ask)(void *arg, const char *name, char *out, size_t size);
	int (*upgrade)(void *arg, const char *program, bool again, struct fault *f);
	pid_t keeper;
	bool (*has_helper)(void *arg);
	void *keeper_arg;
	struct log *log;
	uid_t uid;
	gid_t gid;
	sigset_t old_signals; /* the mask of the caller of fs_new, for fs_free */
	struct notify *notify;

	/* fixed while it serves */
	struct keep *keep;
	struct registry *registry;
	struct fuse_session *session;
	bool resumed; /* another worker mounted it */
	struct draft_nodes *draft_nodes;
	struct workq *long_pool, *sync_pool, *range_pool;

	/* with locks of their own; of these, none is held while another is taken */
	struct channel channel;
	struct passthrough passthrough;
	struct open_table opens;
	struct error_ring errors;
	struct versions_cache versions;
	struct small_files small;
	struct shares shares;
	pthread_mutex_t listings_lock;
	struct map64 *listings; /* open directories by their handles */
};

/* ---- pool.c: what may take long, off the threads that read requests ---- */
enum fs_pool { FS_POOL_LONG /* commit, discard */, FS_POOL_SYNC /* fsync */, FS_POOL_RANGE /* fallocate, copy_file_range */ };
int pool_start(struct fs *fs);
void pool_stop(struct fs *fs); /* runs what is queued */
int fs_pool_run(struct fs *fs, enum fs_pool which, uid_t uid, void (*fn)(void *), void *arg); /* uid: whose request it is. -ENOMEM, -ESHUTDOWN */

/* ---- call.c: a request from its beginning to its one reply ---- */
void call_begin(struct call *c, fuse_req_t req);
/* For a job of the pool (to may be from): the request goes on there, and what is known of the thread that read it stays behind. */
void call_move(struct call *to, const struct call *from);
/* A lookup of the node was counted for the reply that is about to be written. */
void call_counted(struct call *c, fuse_ino_t ino);
/* As call_begin, and finds the class of the node; a name (NULL: none) must fit. */
int call_begin_at(struct call *c, fuse_req_t req, fuse_ino_t ino, const char *name, const struct node_ops **ret);
/* Replies: each ends the request. r: 0 or -errno; on failure the sentence is logged and kept with c->subject, or else with ino. */
void call_fail(struct call *c, fuse_ino_t ino, int r);
void call_reply_err(struct call *c, fuse_ino_t ino, int r); /* 0 too: the answer of unlink, rename … */
void call_reply_entry(struct call *c, fuse_ino_t ino, int r, const struct fuse_entry_param *e);
void call_reply_attr(struct call *c, fuse_ino_t ino, int r, const struct stat *st, double timeout);
/* A change that the class has no function for. */
int call_refuse(struct call *c, const struct node_ops *ops, fuse_ino_t ino);
void node_forget(struct fs *fs, fuse_ino_t ino, uint64_t nlookup);

/* ---- resent.c: requests that an earlier worker had read and not answered ---- */
unsigned resent_collect(struct kept_session *k); /* before a worker after the first serves; how many requests were in work */
void resent_begin(struct call *c);

/* ---- node.c and classes ---- */
int64_t node_dir_id(fuse_ino_t ino);     /* catalog id of a DIR node or the root */
uint32_t node_dir_life(fuse_ino_t ino);  /* which of its lives */
fuse_ino_t node_of_dir(const struct catalog_dir *d);
int node_path(struct fs *fs, fuse_ino_t ino, char *out, size_t size); /* relative to the root of the drive; -EOPNOTSUPP for entries of a draft */
/* Attributes every class starts from: zeroed, with number, mode, owner, times and no blocks. */
void node_stat(fuse_ino_t ino, mode_t mode, uid_t uid, gid_t gid, int64_t mtime_ns, struct stat *st);
void node_entry(const struct stat *st, double entry_timeout, double attr_timeout, struct fuse_entry_param *e); /* ino is st_ino */
/* Does a setattr leave everything as it is? Times never do. */
bool node_setattr_is_nothing(const struct stat *now, const struct stat *to, int to_set);
#define NODE_SET_TIMES (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW)
int committed_refuse(struct call *c, fuse_ino_t ino); /* -EROFS with the sentence */
int layout_refuse(struct call *c, fuse_ino_t ino);    /* -EPERM: a file outside a version */
int layout_dir_get(struct fs *fs, fuse_ino_t ino, struct catalog_dir *ret); /* -ENOENT where it was removed */
fuse_ino_t layout_dir_node(struct fs *fs, int64_t dir_id); /* 0 where there is none */
void layout_dir_entry(const struct catalog_dir *d, struct fuse_entry_param *e);
int layout_version_entry(struct fs *fs, const struct catalog_version *v, struct fuse_entry_param *e);
int layout_readdir(struct call *c, fuse_ino_t ino, off_t offset, struct dir_sink *sink, struct fuse_file_info *fi); /* layout_list.c */
/* Attributes of the links of a model; dir is the model's. number: of the version it leads to. */
void link_entry(fuse_ino_t ino, const struct catalog_dir *dir, uint32_t number, int64_t mtime_ns, struct fuse_entry_param *e);

void fs_load_unwinder(void); /* unwinder.c: before descriptors can run out */

/* ---- handlers, for the table in ops.c ---- */
extern const struct fuse_lowlevel_ops fs_ops;
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
	struct fuse_file_info *fi_out, size_t len, int flags);
void op_statfs(fuse_req_t req, fuse_ino_t ino);
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);
void op_init(void *userdata, struct fuse_conn_info *conn);

#endif
