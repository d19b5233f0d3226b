/* Small committed files, opened without an open file.
 *
 * A tree of samples is opened, read and closed file by file; the bytes are few, and what an open costs decides. To have a backing id
 * registered for it, the blob opened and closed and a handle kept takes longer than the round trip itself. So the OPEN of a committed file of
 * at most SMALL_FILE_MAX bytes is answered with the handle 0 and leave to keep its pages: nothing is remembered of it, RELEASE has nothing to do, and a
 * READ, which comes only for what the kernel's page cache does not hold, opens the blob for the time it takes. Such a node is never passthrough, so modes do not mix.
 *
 * What a committed node is never changes, so what OPEN and READ need of it stands in a table of a fixed size, by its number: the numbers of a version's files follow
 * one another and do not push each other out. What stands there was looked at when it came in: a blob that is missing or was cut is told at the
 * open. Should it go later, READ asks the catalog anew and says so.
 *
 * Lock: one over the table, held to copy an entry. */
#include "session.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <string.h>

#define SMALL_ENTRIES 32768 /* 1.8 MiB, when all are used */

struct small_file {
	fuse_ino_t ino; /* 0: none */
	int64_t version_id;
	uint32_t size;
	struct blob_id blob;
};

int small_files_init(struct small_files *s)
{
	pthread_mutex_init(&s->lock, NULL);
	s->all = calloc(SMALL_ENTRIES, sizeof *s->all); /* pages come as they are used */
	return s->all ? 0 : -ENOMEM;
}

void small_files_release(struct small_files *s)
{
	free(s->all);
	pthread_mutex_destroy(&s->lock);
}

static bool find(struct small_files *s, fuse_ino_t ino, struct small_file *ret)
{
	SCOPED_LOCK(&s->lock);

	*ret = s->all[node_value(ino) % SMALL_ENTRIES];
	return ret->ino == ino;
}

static void keep(struct small_files *s, const struct small_file *f)
{
	SCOPED_LOCK(&s->lock);

	s->all[node_value(f->ino) % SMALL_ENTRIES] = *f;
}

bool small_file_known(struct fs *fs, fuse_ino_t ino, int64_t *ret_version_id)
{
	struct small_file f;
	bool known = find(&fs->small, ino, &f);

	if (known)
		*ret_version_id = f.version_id;
	return known;
}

bool small_file_remember(struct fs *fs, fuse_ino_t ino, const struct catalog_file *file)
{
	struct small_file f = {.ino = ino, .version_id = file->version_id, .size = (uint32_t)file->size, .blob = file->blob};

	if (file->size > SMALL_FILE_MAX)
		return false;
	keep(&fs->small, &f);
	return true;
}

void small_file_opened(struct fuse_file_info *fi)
{
	fi->fh = SMALL_FILE_HANDLE;
	fi->keep_cache = 1;
}

/* The sentence of a refusal names the file as the catalog does, so it is asked once more. */
static int open_anew(struct call *c, fuse_ino_t ino, int *ret_fd)
{
	struct catalog_file file;
	auto_read struct catalog_conn *conn = NULL;
	int r = registry_read_begin(c->fs->registry, &conn);

	if (r == 0)
		r = catalog_file_get(conn, (int64_t)node_value(ino), &file);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	return registry_file_open(c->fs->registry, &file, ret_fd, &c->fault);
}

int small_file_content(struct call *c, fuse_ino_t ino, int *ret_fd)
{
	struct small_file f;
	struct catalog_file file = {0};

	if (node_tag(ino) != NODE_FILE)
		return -EBADF;
	if (!find(&c->fs->small, ino, &f))
		return open_anew(c, ino, ret_fd);
	file.version_id = f.version_id;
	file.size = f.size;
	file.blob = f.blob;
	if (registry_file_open(c->fs->registry, &file, ret_fd, NULL) == 0)
		return 0;
	return open_anew(c, ino, ret_fd);
}

void small_file_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off)
{
	struct call c;
	char data[SMALL_FILE_MAX];
	auto_close int fd = -1;
	ssize_t n;

	call_begin(&c, req);
	n = small_file_content(&c, ino, &fd);
	if (n == 0)
		n = sys_pread_full(fd, data, size < sizeof data ? size : sizeof data, off);
	if (n < 0)
		call_fail(&c, ino, (int)n);
	else
		fuse_reply_buf(req, data, (size_t)n);
}

void small_file_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence)
{
	struct call c;
	auto_close int fd = -1;
	off_t at = 0;
	int r;

	call_begin(&c, req);
	r = small_file_content(&c, ino, &fd);
	if (r == 0 && (at = lseek(fd, off, whence)) < 0)
		r = -errno;
	if (r < 0)
		call_fail(&c, ino, r);
	else
		fuse_reply_lseek(req, at);
}
