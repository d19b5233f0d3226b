/* The handlers for listings, and the buffer they fill.
 *
 * A listing keeps the class it was opened with: a draft that is committed in the midst of it goes on being listed by the class that holds its handle. */
#include "session.h"

#include <errno.h>
#include <linux/fuse.h>
#include <mintfs/cleanup.h>
#include <stdio.h>
#include <string.h>

struct dir_sink {
	fuse_req_t req;
	char *buf;
	size_t size, used;
	bool plus;
	bool (*skip)(const char *name, void *arg);
	void *skip_arg;
};

void dir_sink_skip(struct dir_sink *s, bool (*skip)(const char *name, void *arg), void *arg)
{
	s->skip = skip;
	s->skip_arg = arg;
}

/* "." and ".." carry no node in plus mode: the kernel counts no lookup for them (fs/fuse/readdir.c, fuse_direntplus_link). */
bool dir_sink_add(struct dir_sink *s, const char *name, const struct fuse_entry_param *e, off_t next_offset)
{
	size_t left = s->size - s->used, need;

	if (s->skip && s->skip(name, s->skip_arg))
		return true;
	if (!s->plus) {
		need = fuse_add_direntry(s->req, s->buf + s->used, left, name, &e->attr, next_offset);
	} else if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		struct fuse_entry_param bare = {.attr = {.st_ino = e->attr.st_ino, .st_mode = e->attr.st_mode}};
		need = fuse_add_direntry_plus(s->req, s->buf + s->used, left, name, &bare, next_offset);
	} else {
		need = fuse_add_direntry_plus(s->req, s->buf + s->used, left, name, e, next_offset);
	}
	if (need > left)
		return false;
	s->used += need;
	return true;
}

bool dir_sink_plus(const struct dir_sink *s)
{
	return s->plus;
}

/* The kernel did not take the reply: what it would have counted as lookups is given back. */
static void forget_all(struct fs *fs, const struct dir_sink *s)
{
	for (size_t at = 0; s->plus && at < s->used;) {
		struct fuse_direntplus d;
		memcpy(&d, s->buf + at, sizeof d);
		if (d.entry_out.nodeid != 0)
			node_forget(fs, d.entry_out.nodeid, 1);
		at += FUSE_DIRENTPLUS_SIZE(&d);
	}
}

struct listing {
	const struct node_ops *ops;
	uint64_t fh; /* the class's own */
	fuse_ino_t ino;
	struct listing *prev, *next; /* of those open, under fs->listings_lock: a cut connection releases nothing */
};

static struct listing *listing_of(const struct fuse_file_info *fi)
{
	return (struct listing *)(uintptr_t)fi->fh;
}

static void begin_listing(struct fs *fs, struct listing *l)
{
	SCOPED_LOCK(&fs->listings_lock);

	l->prev = NULL;
	l->next = fs->listings;
	if (l->next)
		l->next->prev = l;
	fs->listings = l;
}

static void unlink_listing(struct fs *fs, struct listing *l)
{
	SCOPED_LOCK(&fs->listings_lock);

	if (l->prev)
		l->prev->next = l->next;
	else
		fs->listings = l->next;
	if (l->next)
		l->next->prev = l->prev;
}

static void end_listing(struct call *c, struct fuse_file_info *fi)
{
	auto_free struct listing *l = listing_of(fi);

	unlink_listing(c->fs, l);
	fi->fh = l->fh;
	if (l->ops->releasedir)
		l->ops->releasedir(c, l->ino, fi);
}

void listings_release(struct fs *fs)
{
	while (fs->listings) {
		struct call c = {.fs = fs};
		struct fuse_file_info fi = {.fh = (uint64_t)(uintptr_t)fs->listings};
		end_listing(&c, &fi);
	}
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct call c;
	struct listing *l = NULL;
	const struct node_ops *ops;
	int r = call_begin_at(&c, req, ino, NULL, &ops);

	fi->fh = 0;
	if (r == 0 && !ops->readdir)
		r = -ENOTDIR;
	if (r == 0)
		r = (l = malloc(sizeof *l)) ? 0 : -ENOMEM;
	if (r == 0 && ops->opendir)
		r = ops->opendir(&c, ino, fi);
	if (r != 0) {
		free(l);
		call_fail(&c, ino, r);
		return;
	}
	*l = (struct listing){.ops = ops, .fh = fi->fh, .ino = ino};
	begin_listing(c.fs, l);
	fi->fh = (uint64_t)(uintptr_t)l;
	if (fuse_reply_open(req, fi) != 0)
		end_listing(&c, fi);
}

static void read_listing(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
	struct call c;
	const struct listing *l = listing_of(fi);
	auto_free char *buf = malloc(size);
	struct dir_sink s = {.req = req, .buf = buf, .size = size, .plus = plus};
	int r = buf ? 0 : -ENOMEM;

	call_begin(&c, req);
	if (r == 0) {
		fi->fh = l->fh;
		r = l->ops->readdir(&c, ino, off, &s, fi);
	}
	if (r < 0 && s.used == 0)
		call_fail(&c, ino, r);
	else if (fuse_reply_buf(req, s.buf, s.used) != 0) /* an error after some entries comes again with the next request */
		forget_all(c.fs, &s);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	read_listing(req, ino, size, off, fi, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	read_listing(req, ino, size, off, fi, true);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct call c;

	call_begin(&c, req);
	end_listing(&c, fi);
	fuse_reply_err(req, 0);
}

struct fsyncdir_job {
	struct call c;
	fuse_ino_t ino;
	bool datasync;
};

static void fsyncdir_run(void *arg)
{
	auto_free struct fsyncdir_job *j = arg;
	const struct node_ops *ops;
	int r = node_ops_of(j->c.fs, j->ino, &ops);

	if (r == 0 && ops->fsyncdir)
		r = ops->fsyncdir(&j->c, j->ino, j->datasync);
	if (r < 0)
		call_fail(&j->c, j->ino, r);
	else
		fuse_reply_err(j->c.req, 0);
}

/* Of drafts only: everything else in a directory is the catalog's, and durable as it promises. */
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	const struct listing *l = listing_of(fi);
	struct fsyncdir_job *j;
	int r = -ENOMEM;

	if (!l->ops->fsyncdir) {
		fuse_reply_err(req, 0);
		return;
	}
	j = calloc(1, sizeof *j);
	if (j) {
		call_begin(&j->c, req);
		j->ino = ino;
		j->datasync = datasync != 0;
		r = fs_pool_run(j->c.fs, FS_POOL_SYNC, fsyncdir_run, j);
	}
	if (r < 0) {
		free(j);
		fuse_reply_err(req, -r);
	}
}
