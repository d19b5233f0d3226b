/* Open files: the one owner of every open of an inode's data.
 *
 * fi->fh is a struct open_file. All of them stand in a list, so that a commit can wait for a RELEASE that is on its way, and so that a connection that
 * was cut leaves nothing behind. The list's lock is held for links only, never over a system call or a call of another room. */
#include "session.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <string.h>

struct open_entry {
	struct open_file file; /* first: fi->fh points to it */
	struct open_entry *prev, *next;
};

void open_table_init(struct open_table *t)
{
	pthread_condattr_t a;

	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&t->released, &a);
	pthread_condattr_destroy(&a);
	t->first = NULL;
}

void open_table_release(struct fs *fs, struct open_table *t)
{
	while (t->first)
		open_file_end(fs, &t->first->file);
}

int open_file_begin(struct fs *fs, const struct open_file *proto, struct fuse_file_info *fi)
{
	struct open_entry *e = malloc(sizeof *e);

	if (!e)
		return -ENOMEM;
	*e = (struct open_entry){.file = *proto};
	{
		SCOPED_LOCK(&fs->opens.lock);
		e->next = fs->opens.first;
		if (e->next)
			e->next->prev = e;
		fs->opens.first = e;
	}
	fi->fh = (uint64_t)(uintptr_t)&e->file;
	fi->direct_io = proto->text != NULL;                      /* each open reads the text as it was then */
	fi->keep_cache = proto->text == NULL && !proto->is_draft; /* what is committed never changes */
	return 0;
}

int open_file_route(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct open_file *of)
{
	if (of->text) /* never the same twice, and read past the page cache */
		return 0;
	int r = passthrough_begin(fs, req, ino, of->fd, &of->backing_id);
	if (r == 0)
		of->node = ino;
	return r;
}

struct open_file *open_file_of(const struct fuse_file_info *fi)
{
	return (struct open_file *)(uintptr_t)fi->fh;
}

/* Leaves the list last: who waits for writers then finds the draft informed. */
static void unlink_entry(struct open_table *t, struct open_entry *e)
{
	SCOPED_LOCK(&t->lock);

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
	if (of->node)
		passthrough_end(fs, of->node);
	int r = of->fd >= 0 ? sys_close(of->fd) : 0;

	if (r < 0)
		log_error(fs->log, "closing a file of node %#llx: %s", (unsigned long long)of->ino, strerror(-r));
	if (of->is_draft) {
		draft_file_closed(of->draft, of->backing_ino, of->writable, of->path_fd);
		if (of->path_fd >= 0)
			close(of->path_fd);
	}
	unlink_entry(&fs->opens, (struct open_entry *)of);
	if (of->is_draft) {
		draft_put(of->draft);
		draft_nodes_closed(fs->draft_nodes, of->ino);
	}
	free(of->text);
	free(of);
}

/* Under the lock. */
static bool has_writer(const struct open_table *t, int64_t version_id)
{
	for (const struct open_entry *e = t->first; e; e = e->next) {
		if (e->file.is_draft && e->file.writable && e->file.version_id == version_id)
			return true;
	}
	return false;
}

void open_wait_writers(struct fs *fs, int64_t version_id, int ms)
{
	struct open_table *t = &fs->opens;
	struct timespec until = ns_timespec(time_monotonic_ns() + ms * (NS_PER_SEC / 1000));
	SCOPED_LOCK(&t->lock);

	while (has_writer(t, version_id)) {
		if (pthread_cond_timedwait(&t->released, &t->lock, &until) != 0)
			break; /* a real writer: the registry will say so */
	}
}

bool open_has_writer(struct fs *fs, fuse_ino_t ino)
{
	SCOPED_LOCK(&fs->opens.lock);

	for (const struct open_entry *e = fs->opens.first; e; e = e->next) {
		if (e->file.node == ino && e->file.writable)
			return true;
	}
	return false;
}
