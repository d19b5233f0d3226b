/* The handlers for the content of files. They work on the open file alone: its class is not asked again. */
#include "session.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <stdio.h>
#include <string.h>

#define COPY_MAX (64UL << 20) /* of one copy_file_range: the caller goes on from there, and can be interrupted */

static int route(struct call *c, fuse_ino_t ino, const struct fuse_file_info *fi)
{
	struct open_file *of = open_file_of(c->fs, fi);
	int r = open_file_route(c->fs, c->req, ino, of);

	if (r < 0)
		open_file_end(c->fs, of);
	return r;
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct call c;
	const struct node_ops *ops;
	int r = call_begin_at(&c, req, ino, NULL, &ops);

	if (r == 0)
		r = ops->open ? ops->open(&c, ino, fi) : -EISDIR;
	if (r == 0 && fi->fh == SMALL_FILE_HANDLE) {
		fuse_reply_open(req, fi);
		return;
	}
	if (r == 0)
		r = route(&c, ino, fi);
	if (r < 0)
		call_fail(&c, ino, r);
	else if (open_reply(req, fi, open_file_of(c.fs, fi)->backing_id) != 0) /* interrupted: no RELEASE will come */
		open_file_end(c.fs, open_file_of(c.fs, fi));
}

/* name "/": an unnamed file (channel.c). ENOSYS would tell the kernel never to ask again. */
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct call c;
	const struct node_ops *ops;
	struct fuse_entry_param e = {0};
	int r = call_begin_at(&c, req, parent, name, &ops);

	if (r == 0)
		r = ops->create ? ops->create(&c, parent, name, mode, fi, &e) : call_refuse(&c, ops, parent);
	if (r == -ENOSYS || (r == -EISDIR && strcmp(name, "/") == 0))
		r = -EOPNOTSUPP;
	if (r == 0) {
		r = route(&c, e.ino, fi);
		if (r < 0)
			node_forget(c.fs, e.ino, 1);
	}
	if (r < 0) {
		call_fail(&c, parent, r);
		return;
	}
	call_counted(&c, e.ino);
	if (open_reply_create(req, &e, fi, open_file_of(c.fs, fi)->backing_id) != 0) {
		open_file_end(c.fs, open_file_of(c.fs, fi));
		node_forget(c.fs, e.ino, 1);
	}
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	const struct open_file *of = open_file_of(fuse_req_userdata(req), fi);
	auto_free char *data = NULL;
	ssize_t n = -EBADF;

	if (fi->fh == SMALL_FILE_HANDLE) {
		small_file_read(req, ino, size, off);
		return;
	}
	if (of)
		n = (data = malloc(size)) ? sys_pread_full(of->fd, data, size, off) : -ENOMEM;
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_buf(req, data, (size_t)n);
}

/* What was written before an error counts; the error comes with the next write. */
void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
	const struct open_file *of = open_file_of(fuse_req_userdata(req), fi);
	size_t done = 0;
	ssize_t n = 0;

	while (done < size) {
		n = of && of->writable ? sys_pwrite(of->fd, data + done, size - done, off + (off_t)done) : -EBADF;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (n < 0 && done == 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_write(req, done);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fuse_req_userdata(req);
	struct open_file *of = open_file_of(fs, fi);

	sys_crash_point("release");
	if (of)
		open_file_end(fs, of);
	fuse_reply_err(req, 0);
}

struct fsync_job {
	struct call c;
	const struct open_file *of; /* its RELEASE comes after our reply */
	bool datasync;
};

static int sync_file(struct fs *fs, const struct open_file *of, bool datasync)
{
	int r = registry_draft_anchor(fs->registry, of->version_id);

	if (r < 0)
		return r;
	return datasync ? sys_fdatasync(of->fd) : sys_fsync(of->fd);
}

static void fsync_run(void *arg)
{
	auto_free struct fsync_job *j = arg;
	int r = sync_file(j->c.fs, j->of, j->datasync);

	if (r < 0)
		call_fail(&j->c, j->of->ino, r);
	else
		fuse_reply_err(j->c.req, 0);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fsync_job *j;
	const struct open_file *of = open_file_of(fuse_req_userdata(req), fi);

	if (!of || !of->is_draft) { /* durable since its commit */
		fuse_reply_err(req, 0);
		return;
	}
	j = calloc(1, sizeof *j);
	if (!j) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	call_begin(&j->c, req);
	call_move(&j->c, &j->c);
	j->of = of;
	j->datasync = datasync != 0;
	int r = fs_pool_run(j->c.fs, FS_POOL_SYNC, j->c.who.uid, fsync_run, j);
	if (r < 0) {
		free(j);
		fuse_reply_err(req, -r);
	}
}

/* What grows with a range and not with a request: up to this it takes as long as a write of that size, beyond it may take minutes (a fallocate where the disk is nearly full, by
 * a file system without unwritten extents). The threads that read requests have nothing of that kind to do. */
#define RANGE_AT_ONCE (1L << 20)

struct fallocate_job {
	fuse_req_t req;
	int fd; /* of an open file: its RELEASE comes after our reply */
	int mode;
	off_t off, len;
};

/* ENOSYS would switch it off for good, and a file system below that lacks one mode may have another. */
static void reply_fallocate(const struct fallocate_job *j)
{
	sys_crash_point("fallocate");
	int r = sys_fallocate(j->fd, j->mode, j->off, j->len);

	fuse_reply_err(j->req, r == -ENOSYS ? EOPNOTSUPP : -r);
}

static void fallocate_run(void *arg)
{
	auto_free struct fallocate_job *j = arg;

	reply_fallocate(j);
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
	const struct open_file *of = open_file_of(fuse_req_userdata(req), fi);
	struct fallocate_job now = {.req = req, .fd = of ? of->fd : -1, .mode = mode, .off = off, .len = len}, *later;

	if (!of || !of->writable) {
		fuse_reply_err(req, EBADF);
		return;
	}
	later = len > RANGE_AT_ONCE ? malloc(sizeof *later) : NULL;
	if (later) {
		*later = now;
		if (fs_pool_run(fuse_req_userdata(req), FS_POOL_RANGE, fuse_req_ctx(req)->uid, fallocate_run, later) == 0)
			return;
		free(later);
	}
	reply_fallocate(&now);
}

/* As if there were no holes. */
static off_t seek_in_data(off_t size, off_t off, int whence)
{
	if (off < 0 || off >= size) {
		errno = ENXIO;
		return -1;
	}
	return whence == SEEK_DATA ? off : size;
}

static off_t seek_in_cached(int fd, off_t off, int whence)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? -1 : seek_in_data(st.st_size, off, whence);
}

/* The kernel asks for SEEK_DATA and SEEK_HOLE only. What a mapping has stored in a hole of a file that the kernel caches reaches us when it pleases: who
 * copied by the holes of the file below would lose it. So there are none as long as there may be such a mapping. */
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	const struct open_file *of = open_file_of(fuse_req_userdata(req), fi);
	off_t r;

	if (fi->fh == SMALL_FILE_HANDLE) {
		small_file_lseek(req, ino, off, whence);
		return;
	}
	if (!of) {
		fuse_reply_err(req, EBADF);
		return;
	}
	if (of->backing_id == 0 && open_has_writer(fuse_req_userdata(req), ino))
		r = seek_in_cached(of->fd, off, whence);
	else
		r = lseek(of->fd, off, whence);
	if (r < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_lseek(req, r);
}

struct copy_job {
	fuse_req_t req;
	int from, to; /* of open files: their RELEASE comes after our reply */
	off_t off_from, off_to;
	size_t len;
};

static void reply_copy(struct copy_job *j)
{
	sys_crash_point("copy");
	ssize_t n = copy_file_range(j->from, &j->off_from, j->to, &j->off_to, j->len < COPY_MAX ? j->len : COPY_MAX, 0);

	if (n < 0)
		fuse_reply_err(j->req, errno == ENOSYS || errno == EINVAL ? EOPNOTSUPP : errno);
	else
		fuse_reply_write(j->req, (size_t)n);
}

static void copy_run(void *arg)
{
	auto_free struct copy_job *j = arg;

	reply_copy(j);
}

static void copy_range(struct copy_job *now)
{
	struct copy_job *later = now->len > RANGE_AT_ONCE ? malloc(sizeof *later) : NULL;

	if (later) {
		*later = *now;
		if (fs_pool_run(fuse_req_userdata(now->req), FS_POOL_RANGE, fuse_req_ctx(now->req)->uid, copy_run, later) == 0)
			return;
		free(later);
	}
	reply_copy(now);
}

/* Both are plain files of the store's file system, so that it may share the blocks. Where it cannot the kernel copies by reading and writing. */
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
	struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct fs *fs = fuse_req_userdata(req);
	const struct open_file *in = open_file_of(fs, fi_in), *out = open_file_of(fs, fi_out);
	struct copy_job j = {.req = req, .from = in && !in->is_text ? in->fd : -1, .to = out && out->writable ? out->fd : -1, .off_from = off_in, .off_to = off_out, .len = len};
	auto_close int small = -1;
	struct call c;

	if (fi_in->fh == SMALL_FILE_HANDLE) {
		call_begin(&c, req);
		small_file_content(&c, ino_in, &small);
		j.from = small;
	}
	if (j.from < 0 || j.to < 0)
		fuse_reply_err(req, EOPNOTSUPP);
	else if (small >= 0)
		reply_copy(&j); /* no more than such a file holds */
	else
		copy_range(&j);
}

void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fuse_req_userdata(req);
	struct statvfs st;
	int r = sys_statvfs(registry_store_dirfd(fs->registry), &st);

	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_statfs(req, &st);
}
