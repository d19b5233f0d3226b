/* bench_null MOUNTPOINT: a FUSE file system that does nothing: what a round trip to any daemon costs on this machine, beside which the
 * drive's own time can be judged. Its tree is computed, nothing is remembered, every answer is made at once:
 *
 *   tree/product/BENCH_all/mlstm/v1       a committed version (W4) as deep as the drive's, which the kernel may cache for ever
 *   …/v1/part00 … part19                  its directories
 *   …/v1/part00/sample00000.bin …         file i of the directory i % 20; zeros, SIZE bytes; kept in the page cache
 *   any other name                        is not there, until it is made: then a file that takes what is written, or a directory
 *   latest                                as on the drive: not there, until it is made; then a link that may never be cached, to a directory
 *                                         "draft"; gone with the next change of a mode. One at a time.
 *
 * It is mounted as a drive of several users must be (allow_other, default_permissions) and asked for attributes as whoever has some is: the kernel does more
 * for each name and each first write then.
 *
 * It serves in the foreground until it is unmounted (fusermount3 -u). */
#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIRECTORIES 20
#define FOR_EVER 86400.0
#define SIZE (22 * 1024) /* the mean of W4's files */
/* Inode numbers: 2 to 21 part00 to part19, from FIRST_ABOVE the directories above them, from FIRST_FILE files, then what was made. */
#define FIRST_ABOVE 100
#define FIRST_FILE 1000
#define CREATED (1ULL << 40)
#define MADE (1ULL << 41) /* directories */
#define LATEST (1ULL << 42)

static const char *const above[] = {"tree", "product", "BENCH_all", "mlstm", "v1"};
#define ABOVE (sizeof above / sizeof above[0])
#define VERSION (FIRST_ABOVE + ABOVE - 1)
static unsigned long files = 20000;
static _Atomic fuse_ino_t next_created = CREATED, next_made = MADE, draft;

static int is_dir(fuse_ino_t ino)
{
	return ino < FIRST_FILE || (ino >= MADE && ino < LATEST);
}

static void fill(fuse_ino_t ino, struct fuse_entry_param *e)
{
	double valid = ino < CREATED ? FOR_EVER : ino == LATEST ? 0 : 1.0;

	*e = (struct fuse_entry_param){.ino = ino, .attr_timeout = valid, .entry_timeout = valid};
	e->attr.st_ino = ino;
	e->attr.st_mode = is_dir(ino) ? S_IFDIR | 0755 : ino == LATEST ? S_IFLNK | 0777 : S_IFREG | 0644;
	e->attr.st_nlink = is_dir(ino) ? 2 : 1;
	e->attr.st_size = ino >= FIRST_FILE && ino < CREATED ? SIZE : 0;
	e->attr.st_blksize = 4096;
}

static fuse_ino_t find(fuse_ino_t parent, const char *name)
{
	unsigned long i;

	if (atomic_load(&draft) != 0 && strcmp(name, "latest") == 0)
		return LATEST;
	if (strcmp(name, "draft") == 0)
		return atomic_load(&draft);
	i = parent == FUSE_ROOT_ID ? 0 : parent - FIRST_ABOVE + 1;
	if ((parent == FUSE_ROOT_ID || parent >= FIRST_ABOVE) && i < ABOVE && strcmp(name, above[i]) == 0)
		return FIRST_ABOVE + i;
	if (parent == VERSION && sscanf(name, "part%2lu", &i) == 1 && i < DIRECTORIES)
		return 2 + i;
	if (parent < 2 + DIRECTORIES && sscanf(name, "sample%5lu.bin", &i) == 1 && i < files && 2 + i % DIRECTORIES == parent)
		return FIRST_FILE + i;
	return 0;
}

static void null_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->want |= conn->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_PARALLEL_DIROPS);
	conn->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_READ);
}

static void null_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e;
	fuse_ino_t ino = find(parent, name);

	if (!ino) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	fill(ino, &e);
	fuse_reply_entry(req, &e);
}

static void null_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fuse_entry_param e;

	(void)fi;
	fill(ino, &e);
	fuse_reply_attr(req, &e.attr, e.attr_timeout);
}

static void null_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

static void null_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fuse_entry_param e;

	(void)parent, (void)name, (void)mode;
	fill(atomic_fetch_add(&next_created, 1), &e);
	fuse_reply_create(req, &e, fi);
}

static void null_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fuse_entry_param e;

	(void)parent, (void)mode;
	fill(atomic_fetch_add(&next_made, 1), &e);
	if (strcmp(name, "latest") == 0) {
		atomic_store(&draft, e.ino);
		e.entry_timeout = 0;
	}
	fuse_reply_entry(req, &e);
}

static void null_readlink(fuse_req_t req, fuse_ino_t ino)
{
	(void)ino;
	fuse_reply_readlink(req, "draft");
}

/* Whatever is changed stays as it is. */
static void null_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	(void)attr;
	if (to_set & FUSE_SET_ATTR_MODE)
		atomic_store(&draft, 0);
	null_getattr(req, ino, fi);
}

static void null_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	static const char zeros[SIZE];

	(void)ino, (void)fi;
	size_t left = off < SIZE ? SIZE - (size_t)off : 0;
	fuse_reply_buf(req, zeros, left < size ? left : size);
}

static void null_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)ino, (void)data, (void)off, (void)fi;
	fuse_reply_write(req, size);
}

static void null_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino, (void)fi;
	fuse_reply_err(req, 0);
}

static void null_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	fi->cache_readdir = fi->keep_cache = 1;
	fuse_reply_open(req, fi);
}

/* The entry at an offset; false: there is none. */
static int entry_at(fuse_ino_t dir, unsigned long at, char name[32], fuse_ino_t *ret)
{
	unsigned long i = dir == VERSION ? at : at * DIRECTORIES + (dir - 2);

	if (dir == VERSION ? at >= DIRECTORIES : dir < 2 || dir >= 2 + DIRECTORIES || i >= files)
		return 0;
	snprintf(name, 32, dir == VERSION ? "part%02lu" : "sample%05lu.bin", i);
	*ret = dir == VERSION ? 2 + i : FIRST_FILE + i;
	return 1;
}

static void list(fuse_req_t req, fuse_ino_t dir, size_t size, off_t off, int plus)
{
	char *buf = malloc(size), name[32];
	size_t used = 0;
	fuse_ino_t ino;

	for (unsigned long at = (unsigned long)off; buf && entry_at(dir, at, name, &ino); at++) {
		struct fuse_entry_param e;
		fill(ino, &e);
		size_t need = plus ? fuse_add_direntry_plus(req, buf + used, size - used, name, &e, (off_t)at + 1)
				   : fuse_add_direntry(req, buf + used, size - used, name, &e.attr, (off_t)at + 1);
		if (need > size - used)
			break;
		used += need;
	}
	fuse_reply_buf(req, buf, used);
	free(buf);
}

static void null_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, 0);
}

static void null_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, 1);
}

static void null_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	(void)ino, (void)name, (void)size;
	fuse_reply_err(req, ENODATA);
}

static const struct fuse_lowlevel_ops ops = {
	.init = null_init, .lookup = null_lookup, .getattr = null_getattr, .open = null_open, .create = null_create, .mkdir = null_mkdir, .readlink = null_readlink, .setattr = null_setattr, .read = null_read,
	.write = null_write, .release = null_release, .opendir = null_opendir, .readdir = null_readdir, .readdirplus = null_readdirplus,
	.getxattr = null_getxattr,
};

int main(int argc, char **argv)
{
	char o[] = "-o", name[] = "fsname=bench_null,allow_other,default_permissions", *words[] = {argv[0], o, name, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, words);

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: bench_null MOUNTPOINT [FILES]\n");
		return 2;
	}
	if (argc == 3)
		files = strtoul(argv[2], NULL, 10);
	struct fuse_session *se = fuse_session_new(&args, &ops, sizeof ops, NULL);
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	if (!se || !config || fuse_session_mount(se, argv[1]) != 0)
		return 1;
	int r = fuse_session_loop_mt(se, config);
	fuse_session_unmount(se);
	fuse_session_destroy(se);
	fuse_loop_cfg_destroy(config);
	return r < 0;
}
