/* Open files: the one owner of every open of an inode's data.
 *
 * fi->fh is the handle of a record that outlives this worker (kept.h); the next one makes its open files from these records. By the record's number the open
 * file is found, without a lock: the kernel releases a file after all its other uses. All of them stand in a list too, so that a commit can wait for a RELEASE that is
 * on its way, and so that a connection that was cut leaves nothing behind. The list's lock is held for links only, never over a system call or a
 * call of another room. */
#include "session.h"

#include "draft_table.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <string.h>

#define RELEASE_WAIT_NS NS_PER_SEC /* for RELEASEs on their way */

struct open_entry {
	struct open_file file; /* first: callers hold it */
	uint64_t handle;
	struct open_entry *prev, *next;
};

/* Open files by the numbers of their records, in parts that come as they are needed. */
struct open_part { _Atomic(struct open_entry *) at[OPEN_PART]; };

void open_table_init(struct open_table *t)
{
	pthread_condattr_t a;

	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&t->released, &a);
	pthread_condattr_destroy(&a);
	t->first = NULL;
	for (size_t i = 0; i < OPEN_PARTS; i++)
		atomic_init(&t->parts[i], NULL);
}

void open_table_release(struct fs *fs, struct open_table *t)
{
	while (t->first)
		open_file_end(fs, &t->first->file);
	for (size_t i = 0; i < OPEN_PARTS; i++)
		free(atomic_exchange(&t->parts[i], NULL));
}

/* Under the lock. */
static int place(struct open_table *t, struct open_entry *e)
{
	uint32_t i = keep_handle_index(e->handle);
	struct open_part *part = atomic_load(&t->parts[i / OPEN_PART]);

	if (!part) {
		part = calloc(1, sizeof *part);
		if (!part)
			return -ENOMEM;
		atomic_store(&t->parts[i / OPEN_PART], part);
	}
	atomic_store(&part->at[i % OPEN_PART], e);
	e->next = t->first;
	if (e->next)
		e->next->prev = e;
	t->first = e;
	return 0;
}

static int add_entry(struct fs *fs, const struct open_file *proto, struct kept_open *kept, struct open_entry **ret)
{
	struct open_entry *e = malloc(sizeof *e);
	int r;

	if (!e)
		return -ENOMEM;
	*e = (struct open_entry){.file = *proto, .handle = keep_handle(fs->keep, KEEP_OPENS, kept)};
	e->file.kept = kept;
	{
		SCOPED_LOCK(&fs->opens.lock);
		r = place(&fs->opens, e);
	}
	if (r < 0)
		free(e);
	else
		*ret = e;
	return r;
}

/* Descriptors that it takes: its own, the pin of a draft's node, and a writer's path_fd. */
static unsigned cost_of(bool is_draft, bool writable) { return 1 + is_draft + writable; }

static int begin_entry(struct call *c, const struct open_file *proto, struct fuse_file_info *fi)
{
	struct fs *fs = c->fs;
	struct kept_open *kept = keep_take(fs->keep, KEEP_OPENS);
	struct open_entry *e;
	int r;

	if (!kept)
		return -ENFILE;
	/* Before it stands in the list, where open_drop_ghost reads it. */
	kept->unique = c->unique;
	kept->ino = proto->ino;
	kept->uid = c->who.uid;
	kept->version_id = proto->version_id;
	kept->backing_ino = proto->backing_ino;
	kept->flags = (proto->writable ? KEPT_WRITABLE : 0) | (proto->is_draft ? KEPT_DRAFT : 0) | (proto->is_text ? KEPT_TEXT : 0);
	r = add_entry(fs, proto, kept, &e);
	if (r < 0) {
		keep_drop(fs->keep, KEEP_OPENS, kept);
		return r;
	}
	keep_hold(&kept->slot, 0, proto->fd);
	keep_hold(&kept->slot, 1, proto->path_fd);
	keep_publish(kept);
	fi->fh = e->handle;
	fi->direct_io = proto->is_text;                      /* each open reads the text as it was then */
	fi->keep_cache = !proto->is_text && !proto->is_draft; /* what is committed never changes */
	return 0;
}

int open_file_begin(struct call *c, const struct open_file *proto, struct fuse_file_info *fi)
{
	unsigned cost = cost_of(proto->is_draft, proto->writable);
	int r = share_take(c, cost);

	if (r < 0)
		return r;
	r = begin_entry(c, proto, fi);
	if (r < 0)
		share_give(c->fs, c->who.uid, cost);
	return r;
}

int open_file_route(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct open_file *of)
{
	if (of->is_text) /* never the same twice, and read past the page cache */
		return 0;
	int r = passthrough_begin(fs, req, ino, of->fd, &of->backing_id);
	if (r == 0) {
		of->kept->backing_id = of->backing_id;
		of->kept->node = ino;
		SCOPED_LOCK(&fs->opens.lock); /* it stands in the list already, where open_has_writer reads it */
		of->node = ino;
	}
	return r;
}

struct open_file *open_file_of(struct fs *fs, const struct fuse_file_info *fi)
{
	if (fi->fh == SMALL_FILE_HANDLE) /* not ours: what stands at its index is another's, who may be ending it */
		return NULL;
	uint32_t i = keep_handle_index(fi->fh);
	struct open_part *part = i / OPEN_PART < OPEN_PARTS ? atomic_load(&fs->opens.parts[i / OPEN_PART]) : NULL;
	struct open_entry *e = part ? atomic_load(&part->at[i % OPEN_PART]) : NULL;

	return e && e->handle == fi->fh ? &e->file : NULL;
}

/* Leaves the list last: who waits for writers then finds the draft informed. */
static void unlink_entry(struct open_table *t, struct open_entry *e)
{
	uint32_t i = keep_handle_index(e->handle);
	SCOPED_LOCK(&t->lock);

	atomic_store(&atomic_load(&t->parts[i / OPEN_PART])->at[i % OPEN_PART], NULL);
	if (e->prev)
		e->prev->next = e->next;
	else
		t->first = e->next;
	if (e->next)
		e->next->prev = e->prev;
	pthread_cond_broadcast(&t->released);
}

void open_file_end(struct fs *fs, struct open_file *of)
{
	keep_ending(of->kept);
	if (of->node)
		passthrough_end(fs, of->node);
	int r = of->fd >= 0 ? sys_close(of->fd) : 0;

	if (r < 0)
		log_error(fs->log, "closing a file of node %#llx: %s", (unsigned long long)of->ino, strerror(-r));
	if (of->draft)
		draft_file_closed(of->draft, of->backing_ino, of->writable, of->path_fd);
	if (of->path_fd >= 0)
		close(of->path_fd);
	unlink_entry(&fs->opens, (struct open_entry *)of);
	if (of->is_draft) {
		draft_put(of->draft);
		draft_nodes_closed(fs->draft_nodes, of->ino);
	}
	share_give(fs, of->kept->uid, cost_of(of->is_draft, of->writable));
	keep_drop(fs->keep, KEEP_OPENS, of->kept);
	free(of);
}

/* Under the lock. */
static bool is_open(const struct open_table *t, int64_t version_id, bool readers_too)
{
	for (const struct open_entry *e = t->first; e; e = e->next) {
		if (e->file.is_draft && (readers_too || e->file.writable) && e->file.version_id == version_id)
			return true;
	}
	return false;
}

static void wait_released(struct fs *fs, int64_t version_id, bool readers_too)
{
	struct open_table *t = &fs->opens;
	struct timespec until = ns_timespec(time_monotonic_ns() + RELEASE_WAIT_NS);
	SCOPED_LOCK(&t->lock);

	while (is_open(t, version_id, readers_too)) {
		if (pthread_cond_timedwait(&t->released, &t->lock, &until) != 0)
			break; /* somebody really has it open: the registry will say so */
	}
}

void open_wait_writers(struct fs *fs, int64_t version_id) { wait_released(fs, version_id, false); }
void open_wait_closed(struct fs *fs, int64_t version_id) { wait_released(fs, version_id, true); }

bool open_has_writer(struct fs *fs, fuse_ino_t ino)
{
	SCOPED_LOCK(&fs->opens.lock);

	for (const struct open_entry *e = fs->opens.first; e; e = e->next) {
		if (e->file.node == ino && e->file.writable)
			return true;
	}
	return false;
}

void open_drop_ghost(struct fs *fs, uint64_t unique)
{
	struct open_entry *e;

	{
		SCOPED_LOCK(&fs->opens.lock);
		for (e = fs->opens.first; e && e->file.kept->unique != unique; e = e->next)
			;
	}
	if (e) /* nobody else knows of it */
		open_file_end(fs, &e->file);
}

unsigned open_count(struct fs *fs, int64_t version_id)
{
	unsigned n = 0;
	SCOPED_LOCK(&fs->opens.lock);

	for (const struct open_entry *e = fs->opens.first; e; e = e->next)
		n += e->file.version_id == version_id;
	return n;
}

/* ---- after the death of a worker ---- */

/* Are they what they were? A wrong descriptor would be another file's bytes. */
static bool is_same_file(const struct kept_open *kept)
{
	struct stat st;

	return fstat(keep_held(&kept->slot, 0), &st) == 0 && (!(kept->flags & KEPT_DRAFT) || (uint64_t)st.st_ino == kept->backing_ino);
}

static int tell_draft(struct fs *fs, struct open_file *of)
{
	bool writable;
	int r = registry_draft_get(fs->registry, of->version_id, &of->draft, &writable);

	if (r < 0) /* committed or discarded meanwhile: who has it open reads on */
		return r == -ENOENT || r == -ENXIO ? 0 : r;
	r = draft_file_opened(of->draft, of->backing_ino, of->writable, NULL);
	if (r < 0)
		draft_put(of->draft);
	return r;
}

static int pin_node(struct fs *fs, const struct open_file *of)
{
	struct draft_node *node;
	auto_close int pin = -1;
	int r = draft_node_get(fs->draft_nodes, of->ino, &node);

	if (r < 0)
		return r;
	/* Where none is to be had the file is open all the same, by its own descriptor, and a node has the pin of the worker before mostly. What is lost is little: should its last
	 * name go while there is still none, its attributes are ESTALE. An error here would take the open file itself from its trainer. */
	pin = sys_reopen(of->fd, O_PATH);
	draft_node_opened(fs->draft_nodes, node, &pin);
	draft_node_put(fs->draft_nodes, node);
	return 0;
}

int open_again(struct fs *fs, struct kept_open *kept)
{
	struct open_file of = {.fd = keep_held(&kept->slot, 0), .path_fd = keep_held(&kept->slot, 1), .ino = kept->ino, .writable = kept->flags & KEPT_WRITABLE,
		.is_draft = kept->flags & KEPT_DRAFT, .is_text = kept->flags & KEPT_TEXT, .version_id = kept->version_id, .backing_ino = (ino_t)kept->backing_ino,
		.node = kept->node, .backing_id = kept->node ? kept->backing_id : 0};
	struct open_entry *e;
	int r = is_same_file(kept) ? 0 : -EBADF;

	if (r == 0 && of.is_draft)
		r = pin_node(fs, &of);
	if (r == 0 && of.is_draft)
		r = tell_draft(fs, &of);
	if (r == 0)
		r = add_entry(fs, &of, kept, &e);
	if (r == 0)
		share_again(fs, kept->uid, cost_of(of.is_draft, of.writable));
	if (r == 0 && of.node)
		r = passthrough_again(fs, of.node, of.backing_id);
	return r;
}
