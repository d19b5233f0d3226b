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

bool dir_sink_skips(const struct dir_sink *s, const char *name)
{
	return s->skip && s->skip(name, s->skip_arg);
}

/* "." and ".." carry no node in plus mode: the kernel counts no lookup for them (fs/fuse/readdir.c, fuse_direntplus_link). */
bool dir_sink_add(struct dir_sink *s, const char *name, const struct fuse_entry_param *e, off_t next_offset)
{
	size_t left = s->size - s->used, need;

	if (dir_sink_skips(s, name))
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

enum { CLASS_LAYOUT, CLASS_COMMITTED, CLASS_DRAFT, CLASSES };
static const struct node_ops *const classes[CLASSES] = {&layout_ops, &committed_ops, &draft_ops};

struct listing {
	const struct node_ops *ops;
	uint64_t fh; /* the class's own */
	fuse_ino_t ino;
	struct kept_listing *kept; /* fi->fh is its handle */
};

/* NULL: it was released already (a RELEASEDIR that comes again after a death). */
static struct listing *listing_of(struct fs *fs, const struct fuse_file_info *fi)
{
	SCOPED_LOCK(&fs->listings_lock);

	return map64_get(fs->listings, fi->fh);
}

static int add_listing(struct fs *fs, struct listing *l, uint64_t *ret_handle)
{
	uint64_t handle = keep_handle(fs->keep, KEEP_LISTINGS, l->kept);
	SCOPED_LOCK(&fs->listings_lock);
	int r = map64_put(fs->listings, handle, l);

	if (r == 0)
		*ret_handle = handle;
	return r;
}

static int begin_listing(struct call *c, const struct node_ops *ops, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = c->fs;
	int r = share_take(c, 1);
	if (r < 0)
		return r;
	struct listing *l = malloc(sizeof *l);
	struct kept_listing *kept = l ? keep_take(fs->keep, KEEP_LISTINGS) : NULL;
	r = !l ? -ENOMEM : kept ? 0 : -ENFILE;

	if (r == 0) {
		*l = (struct listing){.ops = ops, .fh = fi->fh, .ino = ino, .kept = kept};
		r = add_listing(fs, l, &fi->fh);
	}
	if (r < 0) {
		share_give(fs, c->who.uid, 1);
		keep_drop(fs->keep, KEEP_LISTINGS, kept);
		free(l);
		return r;
	}
	kept->uid = c->who.uid;
	kept->unique = c->unique;
	kept->ino = ino;
	while (classes[kept->class] != ops)
		kept->class++;
	keep_publish(kept);
	return 0;
}

int listing_again(struct fs *fs, struct kept_listing *kept)
{
	struct listing *l = malloc(sizeof *l);
	uint64_t handle;
	int r = l ? 0 : -ENOMEM;

	if (r == 0) {
		*l = (struct listing){.ops = classes[kept->class % CLASSES], .ino = kept->ino, .kept = kept};
		r = add_listing(fs, l, &handle);
	}
	if (r < 0) {
		free(l);
		keep_drop(fs->keep, KEEP_LISTINGS, kept);
	} else {
		share_again(fs, kept->uid, 1);
	}
	return r;
}

/* Takes l. */
static void end_listing(struct call *c, struct listing *l, struct fuse_file_info *fi)
{
	struct kept_listing *kept = l->kept;
	{
		SCOPED_LOCK(&c->fs->listings_lock);
		map64_remove(c->fs->listings, keep_handle(c->fs->keep, KEEP_LISTINGS, kept));
	}
	fi->fh = l->fh;
	if (l->ops->releasedir && l->fh)
		l->ops->releasedir(c, l->ino, fi);
	share_give(c->fs, kept->uid, 1);
	keep_drop(c->fs->keep, KEEP_LISTINGS, kept);
	free(l);
}

struct find_ghost { uint64_t unique; struct listing *found; };

static bool is_ghost(uint64_t handle, void *value, void *arg)
{
	struct listing *l = value;
	struct find_ghost *f = arg;

	if (f->unique == 0 || l->kept->unique == f->unique)
		f->found = l;
	return f->found == NULL;
}

/* unique 0: any. */
static bool end_one(struct fs *fs, uint64_t unique)
{
	struct find_ghost f = {.unique = unique};
	struct call c = {.fs = fs};
	struct fuse_file_info fi = {0};

	{
		SCOPED_LOCK(&fs->listings_lock);
		map64_each(fs->listings, is_ghost, &f);
	}
	if (f.found)
		end_listing(&c, f.found, &fi);
	return f.found != NULL;
}

void listings_drop_ghost(struct fs *fs, uint64_t unique)
{
	end_one(fs, unique);
}

void listings_release(struct fs *fs)
{
	while (end_one(fs, 0))
		;
}

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct call c;
	const struct node_ops *ops;
	struct fuse_file_info bare = {0};
	int r = call_begin_at(&c, req, ino, NULL, &ops);

	fi->fh = 0;
	if (r == 0 && !ops->readdir)
		r = -ENOTDIR;
	if (r == 0 && ops->opendir)
		r = ops->opendir(&c, ino, fi);
	bare.fh = fi->fh;
	if (r == 0) {
		r = begin_listing(&c, ops, ino, fi);
		if (r < 0 && bare.fh)
			ops->releasedir(&c, ino, &bare);
	}
	if (r != 0) {
		call_fail(&c, ino, r);
		return;
	}
	struct listing *l = listing_of(c.fs, fi);
	if (fuse_reply_open(req, fi) != 0)
		end_listing(&c, l, fi);
}

/* What a draft's listing needs beyond what is kept of it: made anew after a death. */
static int revive(struct call *c, struct listing *l)
{
	struct fuse_file_info fi = {0};
	int r = 0;

	if (l->ops != &draft_ops)
		return 0;
	{
		SCOPED_LOCK(&c->fs->listings_lock);
		fi.fh = l->fh;
	}
	if (fi.fh)
		return 0;
	r = l->ops->opendir(c, l->ino, &fi);
	if (r < 0)
		return r;
	{
		SCOPED_LOCK(&c->fs->listings_lock);
		if (!l->fh)
			l->fh = fi.fh, fi.fh = 0;
	}
	if (fi.fh) /* another thread was quicker */
		l->ops->releasedir(c, l->ino, &fi);
	return 0;
}

static void read_listing(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
	struct call c;
	auto_free char *buf = malloc(size);
	struct dir_sink s = {.req = req, .buf = buf, .size = size, .plus = plus};

	call_begin(&c, req);
	struct listing *l = listing_of(c.fs, fi);
	int r = !l ? -EBADF : buf ? revive(&c, l) : -ENOMEM;
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
	struct listing *l = listing_of(c.fs, fi);
	if (l)
		end_listing(&c, l, fi);
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
	const struct listing *l = listing_of(fuse_req_userdata(req), fi);
	struct fsyncdir_job *j;
	int r = -ENOMEM;

	if (!l || !l->ops->fsyncdir) {
		fuse_reply_err(req, 0);
		return;
	}
	j = calloc(1, sizeof *j);
	if (j) {
		call_begin(&j->c, req);
		call_move(&j->c, &j->c);
		j->ino = ino;
		j->datasync = datasync != 0;
		r = fs_pool_run(j->c.fs, FS_POOL_SYNC, j->c.who.uid, fsyncdir_run, j);
	}
	if (r < 0) {
		free(j);
		fuse_reply_err(req, -r);
	}
}
