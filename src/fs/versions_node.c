/* versions.json: generated from the catalog, and kept until the catalog's counter says that it would read differently.
 *
 * Who opens it reads the text of that moment to the end, past the page cache (direct_io), which could mix two states. All opens of one state share one file
 * without a name, which goes with the last of them once there is a newer state: readers cost a descriptor each, not a text. Its attributes are never cached, so a stat always tells the size of what the next open reads. */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/buf.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <string.h>
#include <sys/mman.h>

#define TEXT_MAX (256UL << 20) /* some million models */

void versions_cache_init(struct versions_cache *v)
{
	pthread_mutex_init(&v->lock, NULL);
	v->text = NULL;
	v->fd = -1;
	v->len = 0;
	v->stamp = v->changed_ns = 0;
}

/* Under the lock, but at the end. */
static void drop(struct versions_cache *v)
{
	free(v->text);
	v->text = NULL;
	if (v->fd >= 0)
		close(v->fd); /* who has it open has a descriptor of his own */
	v->fd = -1;
}

void versions_cache_release(struct versions_cache *v)
{
	drop(v);
	pthread_mutex_destroy(&v->lock);
}

struct snapshot {
	size_t len;
	int64_t changed_ns;
	int fd; /* the caller's; -1 if it was not asked for */
};

/* A file without a name: it outlives this worker as every other open file does. */
static int text_file(const char *text, size_t len)
{
	auto_close int fd = memfd_create("versions.json", MFD_CLOEXEC);
	int r = fd < 0 ? -errno : sys_pwrite_full(fd, text, len, 0);

	return r < 0 ? r : take_fd(&fd);
}

/* Under the lock: another descriptor of the file, which is made when the first asks for it, so that looking costs none. */
static int share(struct versions_cache *v)
{
	if (v->fd < 0) {
		int fd = text_file(v->text, v->len);
		if (fd < 0)
			return fd;
		drop(v);
		v->fd = fd;
	}
	int fd = fcntl(v->fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

/* What is kept, if it is of this stamp. -EAGAIN if it is not. */
static int from_cache(struct versions_cache *v, int64_t stamp, bool with_file, struct snapshot *ret)
{
	SCOPED_LOCK(&v->lock);
	struct snapshot s = {.len = v->len, .changed_ns = v->changed_ns, .fd = -1};

	if (v->stamp != stamp || (!v->text && v->fd < 0))
		return -EAGAIN;
	if (with_file && (s.fd = share(v)) < 0)
		return s.fd;
	*ret = s;
	return 0;
}

/* Takes text. A slower thread must not put an older state over a newer one. */
static void to_cache(struct versions_cache *v, char *text, size_t len, int64_t stamp)
{
	SCOPED_LOCK(&v->lock);

	if ((v->text || v->fd >= 0) && v->stamp >= stamp) {
		free(text);
		return;
	}
	drop(v);
	v->text = text;
	v->len = len;
	v->stamp = stamp;
	v->changed_ns = time_now_ns();
}

static int generate(struct fs *fs, int64_t *ret_stamp)
{
	auto_buf struct buf out = BUF_INIT(TEXT_MAX);
	int64_t stamp;
	int r = registry_versions_json(fs->registry, &out, &stamp);

	if (r == 0)
		r = out.error;
	if (r < 0)
		return r;
	size_t len = out.len;
	char *text = len ? buf_take(&out) : strdup("");
	if (!text)
		return -ENOMEM;
	to_cache(&fs->versions, text, len, stamp);
	*ret_stamp = stamp;
	return 0;
}

/* Between making a state and looking for it a newer one may have come: then that one is as good. */
static int current(struct fs *fs, bool with_file, struct snapshot *ret)
{
	int64_t stamp;
	int r = registry_versions_stamp(fs->registry, &stamp);

	if (r == 0)
		r = from_cache(&fs->versions, stamp, with_file, ret);
	while (r == -EAGAIN) {
		r = generate(fs, &stamp);
		if (r == 0)
			r = from_cache(&fs->versions, stamp, with_file, ret);
	}
	return r;
}

static int versions_getattr(struct call *c, fuse_ino_t ino, struct stat *st, double *timeout)
{
	struct snapshot s;
	int r = current(c->fs, false, &s);

	if (r != 0)
		return r;
	node_stat(ino, S_IFREG | 0444, c->fs->uid, c->fs->gid, s.changed_ns, st);
	st->st_size = (off_t)s.len;
	st->st_blocks = (blkcnt_t)((s.len + 511) / 512);
	*timeout = 0;
	return 0;
}

int versions_entry(struct fs *fs, struct fuse_entry_param *e)
{
	struct call c = {.fs = fs};
	struct stat st;
	double timeout;
	int r = versions_getattr(&c, NODE_VERSIONS_JSON, &st, &timeout);

	if (r == 0)
		node_entry(&st, TIMEOUT_LAYOUT, timeout, e);
	return r;
}

static int versions_setattr(struct call *c, fuse_ino_t ino, const struct stat *to, int to_set, struct open_file *of, struct stat *st, double *timeout)
{
	struct stat now;
	double valid;
	int r = versions_getattr(c, ino, &now, &valid);

	if (r != 0)
		return r;
	if (!node_setattr_is_nothing(&now, to, to_set))
		return call_refuse(c, &versions_ops, ino);
	*st = now;
	*timeout = valid;
	return 0;
}

static int versions_open(struct call *c, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct snapshot s;
	int r;

	if ((fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC))
		return call_refuse(c, &versions_ops, ino);
	r = current(c->fs, true, &s);
	if (r != 0)
		return r;
	struct open_file proto = {.fd = s.fd, .path_fd = -1, .ino = ino, .is_text = true};
	r = open_file_begin(c, &proto, fi);
	if (r < 0)
		close(s.fd);
	return r;
}

const struct node_ops versions_ops = {
	.getattr = versions_getattr,
	.setattr = versions_setattr,
	.open = versions_open,
};
