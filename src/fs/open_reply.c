/* Replies to OPEN and CREATE that name a backing id: libfuse has words for that from 3.17, before the reply is written here as the kernel reads it
 * (struct fuse_open_out, fuse_entry_out of linux/fuse.h). */
#include "session.h"

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)

int open_reply(fuse_req_t req, const struct fuse_file_info *fi, int backing_id)
{
	struct fuse_file_info with = *fi;
	with.backing_id = backing_id;
	if (backing_id)
		with.keep_cache = 0;
	return fuse_reply_open(req, &with);
}

int open_reply_create(fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi, int backing_id)
{
	struct fuse_file_info with = *fi;
	with.backing_id = backing_id;
	if (backing_id)
		with.keep_cache = 0;
	return fuse_reply_create(req, e, &with);
}

#else

#include <linux/fuse.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#define OPEN_PASSTHROUGH (1U << 7) /* FOPEN_PASSTHROUGH */

/* KEEP_CACHE beside PASSTHROUGH is EIO: the page cache is the backing file's own. */
static struct fuse_open_out open_out(const struct fuse_file_info *fi, int backing_id)
{
	struct fuse_open_out out = {.fh = fi->fh, .open_flags = OPEN_PASSTHROUGH, .padding = (uint32_t)backing_id};
	return out;
}

static void fill_time(double timeout, uint64_t *sec, uint32_t *nsec)
{
	*sec = (uint64_t)timeout;
	*nsec = (uint32_t)((timeout - (double)*sec) * 1e9);
}

/* The kernel's device numbers of 32 bits: major in bits 8 to 19, minor around it. */
static uint32_t encode_device(dev_t dev)
{
	return (minor(dev) & 0xff) | ((uint32_t)major(dev) << 8) | ((minor(dev) & ~0xffU) << 12);
}

static struct fuse_entry_out entry_out(const struct fuse_entry_param *e)
{
	const struct stat *st = &e->attr;
	struct fuse_entry_out out = {.nodeid = e->ino, .generation = e->generation};

	fill_time(e->entry_timeout, &out.entry_valid, &out.entry_valid_nsec);
	fill_time(e->attr_timeout, &out.attr_valid, &out.attr_valid_nsec);
	out.attr = (struct fuse_attr){
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec,
		.mtime = (uint64_t)st->st_mtim.tv_sec,
		.ctime = (uint64_t)st->st_ctim.tv_sec,
		.atimensec = (uint32_t)st->st_atim.tv_nsec,
		.mtimensec = (uint32_t)st->st_mtim.tv_nsec,
		.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.rdev = encode_device(st->st_rdev),
		.blksize = (uint32_t)st->st_blksize,
	};
	return out;
}

int open_reply(fuse_req_t req, const struct fuse_file_info *fi, int backing_id)
{
	if (!backing_id)
		return fuse_reply_open(req, fi);
	struct fuse_open_out out = open_out(fi, backing_id);
	struct iovec iov = {&out, sizeof out};
	return fuse_reply_iov(req, &iov, 1);
}

int open_reply_create(fuse_req_t req, const struct fuse_entry_param *e, const struct fuse_file_info *fi, int backing_id)
{
	if (!backing_id)
		return fuse_reply_create(req, e, fi);
	struct fuse_entry_out entry = entry_out(e);
	struct fuse_open_out out = open_out(fi, backing_id);
	struct iovec iov[2] = {{&entry, sizeof entry}, {&out, sizeof out}};
	return fuse_reply_iov(req, iov, 2);
}

#endif
