/* Nodes of the drive: what an inode number stands for, and the operations each class of node answers.
 *
 * An inode number is a tag (upper 4 bits) and a value (lower 60). For all but drafts the value is a catalog id: computed, never remembered,
 * never reused. A draft's entries carry the inode number of the backing file and are remembered (draft_table.c) while the kernel does.
 *
 *   SPECIAL  1 the root, 2 versions.json       DIR      dirs.id (not the root), and above it which of its lives: of one that was removed the
 *                                                      kernel keeps a dead inode while somebody is in it, so it comes back as another
 *   VERSION  versions.id, draft or committed   FILE     files.id of an entry in a committed version (its `inode`)
 *   LATEST   model id     BEST  model id       ALIAS    aliases.id
 *   DRAFT    st_ino of the backing file; a directory that the kernel knows at the commit goes on under this number (draft_twins.c)
 *
 * A handler in ops.c makes a `struct call`, asks the class, replies once, and turns the sign of errors there and nowhere else. */
#ifndef MINTFS_FS_NODE_H
#define MINTFS_FS_NODE_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <mintfs/registry.h>

enum node_tag { NODE_SPECIAL, NODE_DIR, NODE_VERSION, NODE_FILE, NODE_LATEST, NODE_BEST, NODE_ALIAS, NODE_DRAFT };
#define NODE_VALUE_BITS 60
#define NODE_DIR_ID_BITS 40 /* above them the 20 of CATALOG_LIVES_MAX */
#define NODE_ROOT FUSE_ROOT_ID
#define NODE_VERSIONS_JSON 2
static inline fuse_ino_t node_make(enum node_tag tag, uint64_t value) { return ((uint64_t)tag << NODE_VALUE_BITS) | value; }
static inline enum node_tag node_tag(fuse_ino_t ino) { return (enum node_tag)(ino >> NODE_VALUE_BITS); }
static inline uint64_t node_value(fuse_ino_t ino) { return ino & ((1ULL << NODE_VALUE_BITS) - 1); }

/* Seconds the kernel may believe us. */
#define TIMEOUT_COMMITTED 86400.0 /* inside a committed version nothing changes */
#define TIMEOUT_DRAFT 1.0         /* another mount may commit or discard it */
#define TIMEOUT_LAYOUT 1.0
#define TIMEOUT_LINK 0.0          /* latest, best, aliases: entries are never cached */

struct fs;

/* One request under way: on the handler's stack, or in the pool's job. */
struct call {
	struct fs *fs;
	fuse_req_t req;
	struct registry_actor who;
	struct fault fault; /* a refusal's sentence: goes to the log and to user.mintfs.error of `subject` */
	fuse_ino_t subject; /* node that the sentence is kept with; 0: the node the request named */
	uint64_t unique;    /* of the request; 0: of none */
	bool again;         /* it is sent again: an earlier worker may have carried it out (resent.c) */
	struct kept_hand *hand; /* of the thread that read it; NULL in the pool's jobs */
};

/* An open file; fi->fh is a handle of it. One owner of every open: open.c. */
struct open_file;
struct kept_open;
struct kept_hand;

/* Writes directory entries into a reply; stops (returns false) when it is full. In plus mode the entry counts as a lookup, as FUSE demands. */
struct dir_sink;
bool dir_sink_add(struct dir_sink *s, const char *name, const struct fuse_entry_param *e /* attr.st_ino and mode always set */, off_t next_offset);
/* Names that skip says yes to are passed over, as if they had been delivered. NULL: none. */
void dir_sink_skip(struct dir_sink *s, bool (*skip)(const char *name, void *arg), void *arg);
bool dir_sink_skips(const struct dir_sink *s, const char *name); /* for who counts a lookup before he adds */
bool dir_sink_plus(const struct dir_sink *s); /* false: only name, st_ino and type are needed */

/* What a class of node answers. All return 0 or -errno (fault optionally set) and fill results only on success. NULL: call_refuse for changes of
 * the tree, the error a wrong type of file gives else (see ops.c). Entry results carry timeouts. Names are single components of at most 255 bytes, never
 * "." or "..". No class gives a regular file set-user-id or set-group-id: channel.c relies on it.
 *
 * On the pool's threads run: setattr that takes the write bits off a draft's VERSION, rmdir of a version, setxattr, fsyncdir; all else on the threads that read
 * requests. A listing keeps the class that opened it: readdir and releasedir of a draft may come after its commit. */
struct node_ops {
	int (*lookup)(struct call *c, fuse_ino_t parent, const char *name, struct fuse_entry_param *e);
	int (*getattr)(struct call *c, fuse_ino_t ino, struct stat *st, double *timeout);
	int (*setattr)(struct call *c, fuse_ino_t ino, const struct stat *to, int to_set, struct open_file *of /* or NULL */, struct stat *st, double *timeout);
	int (*readlink)(struct call *c, fuse_ino_t ino, char *out, size_t size); /* NUL-terminated */
	int (*mkdir)(struct call *c, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_entry_param *e);
	int (*mknod)(struct call *c, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_entry_param *e);
	int (*symlink)(struct call *c, fuse_ino_t parent, const char *name, const char *target, struct fuse_entry_param *e);
	int (*unlink)(struct call *c, fuse_ino_t parent, const char *name);
	int (*rmdir)(struct call *c, fuse_ino_t parent, const char *name);
	/* both parents are nodes for which node_ops_of gives the same ops; the class checks the rest (-EXDEV) */
	int (*rename)(struct call *c, fuse_ino_t parent, const char *name, fuse_ino_t newparent, const char *newname, unsigned flags);
	/* of draft_ops: ino is of any class */
	int (*link)(struct call *c, fuse_ino_t ino, fuse_ino_t newparent, const char *newname, struct fuse_entry_param *e);
	int (*open)(struct call *c, fuse_ino_t ino, struct fuse_file_info *fi); /* fi->fh becomes a struct open_file * */
	/* name "/": an unnamed file, O_TMPFILE (channel.c turns FUSE_TMPFILE into this) */
	int (*create)(struct call *c, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi, struct fuse_entry_param *e);
	/* a listing: calls dir_sink_add for entries after offset; "." and ".." are the class's work, offsets are its own (0 is the start, > 0 elsewhere) */
	int (*opendir)(struct call *c, fuse_ino_t ino, struct fuse_file_info *fi);
	int (*readdir)(struct call *c, fuse_ino_t ino, off_t offset, struct dir_sink *sink, struct fuse_file_info *fi);
	int (*releasedir)(struct call *c, fuse_ino_t ino, struct fuse_file_info *fi);
	int (*fsyncdir)(struct call *c, fuse_ino_t ino, int datasync);
	/* user.mintfs.* of a node: fn for each (name without the prefix) */
	int (*xattrs)(struct call *c, fuse_ino_t ino, registry_attr_fn *fn, void *arg);
	int (*setxattr)(struct call *c, fuse_ino_t ino, const char *name /* whole */, const char *value, size_t size);
	/* of draft_ops only: DRAFT nodes, and VERSION nodes with all lookups the kernel counted, those of committed_version_entry too */
	void (*forget)(struct fs *fs, fuse_ino_t ino, uint64_t nlookup);
};

extern const struct node_ops layout_ops;    /* layout_nodes.c: root, DIR (a model's children too) */
extern const struct node_ops committed_ops; /* committed_nodes.c: VERSION that is committed, FILE */
extern const struct node_ops link_ops;      /* link_nodes.c: LATEST, BEST, ALIAS */
extern const struct node_ops versions_ops;  /* versions_node.c: versions.json */
extern const struct node_ops draft_ops;     /* draft_nodes.c: VERSION that is a draft, DRAFT */

/* The class of a node; a VERSION's depends on its state. -ENOENT/-ESTALE where it is no more. */
int node_ops_of(struct fs *fs, fuse_ino_t ino, const struct node_ops **ret);

/* attributes of a version directory (draft or committed) as an entry of its model: used by layout_nodes.c for lookup, mkdir and listing. */
int committed_version_entry(struct fs *fs, const struct catalog_version *v, struct fuse_entry_param *e);
/* Opens a committed file for who knows it by another node, of its draft. */
int committed_open_as(struct call *c, fuse_ino_t ino, struct fuse_file_info *fi);
int draft_version_entry(struct fs *fs, const struct catalog_version *v, struct fuse_entry_param *e);

/* ---- open.c: every open of an inode's data goes through here (so that passthrough has one owner later) ---- */
struct open_file {
	int fd;               /* backing descriptor, owned, never with O_APPEND (the kernel gives each write its offset) */
	fuse_ino_t ino;
	bool writable;
	bool is_draft;
	bool is_text;         /* generated content (versions.json), in a memfd */
	int64_t version_id;   /* that it is a file of; 0: of none (versions.json) */
	ino_t backing_ino;
	int path_fd;          /* O_PATH of the same file for draft_file_closed, owned; -1: none (not writable) */
	struct draft *draft;  /* referenced; NULL unless is_draft */
	fuse_ino_t node;      /* the kernel's inode, by whose route the data go; 0: not routed yet (open_file_route) */
	int backing_id;       /* 0: the daemon serves reads and writes */
	struct kept_open *kept; /* for the next worker */
};
/* Takes proto->fd and the rest over into a new open file and sets fi (fh, keep_cache, direct_io…). On failure nothing is taken. */
int open_file_begin(struct call *c, const struct open_file *proto, struct fuse_file_info *fi);
/* NULL: it was released already (a RELEASE that comes again after a death). */
struct open_file *open_file_of(struct fs *fs, const struct fuse_file_info *fi);
void open_file_end(struct fs *fs, struct open_file *of); /* release: closes, tells the draft */

/* ---- draft_nodes.c, draft_table.c, draft_gone.c ---- */
struct draft_nodes;
int draft_nodes_new(struct fs *fs, struct draft_nodes **ret);
void draft_nodes_free(struct draft_nodes *n); /* puts the drafts it holds: call it before registry_close. NULL is fine */
/* open_file_end calls it for each open file with is_draft, last of all: the node's pin may go. */
void draft_nodes_closed(struct draft_nodes *n, fuse_ino_t ino);
/* After a draft was committed or discarded: nodes of it that the kernel still knows answer attributes with write bits off, and every name below the version's
 * directory that the kernel may have cached is handed to fn (to be invalidated), without locks. */
void draft_nodes_gone(struct draft_nodes *n, int64_t version_id, void (*fn)(fuse_ino_t parent, const char *name, void *arg), void *arg);

/* ---- what classes may use of the session (session.c) ---- */
struct registry *fs_registry(struct fs *fs);
bool fs_is_read_only(const struct fs *fs);
struct draft_nodes *fs_draft_nodes(struct fs *fs);

#endif
