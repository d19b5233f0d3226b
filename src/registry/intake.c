/* The way of contents into the store: intake.h. */
#include "intake.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define INCOMING "incoming"
#define NAME_SIZE 17   /* 16 hex digits */
#define NEW_NAME "new" /* the file that is being filled */
#define LIST_NAME "sealing" /* of struct sealing, one after the other */
#define BATCH_FILES 2048
#define BATCH_BYTES (UINT64_C(1) << 30)
#define TRIES 8

/* A content whose name here goes and that is sealed then, in this order, since an immutable file keeps its names. Who dies in between leaves the list to the sweep. */
struct sealing {
	struct blob_id id;
	uint64_t inode;
};

struct intake {
	int store, dir;
	char name[NAME_SIZE];
	struct blob_store *blobs;
	struct catalog *catalog; /* while it is swept; NULL: of a copy */
	bool swept;              /* its maker is dead */
	struct log *log;
	struct blob_item items[BATCH_FILES]; /* added, not put yet */
	char names[BATCH_FILES][BLOB_HEX_SIZE];
	size_t n;
	uint64_t bytes;
	bool unsettled; /* what is recorded could not be settled: the next sweep does it */
	int list;       /* while it is settled */
	off_t list_end;
};

/* ---- the directory ---- */

/* Between making and locking it a sweep may remove it: then another. */
static int make_directory(struct intake *in, int incoming)
{
	uint8_t random[(NAME_SIZE - 1) / 2];
	struct stat st;
	if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
		return -EIO;
	hex_encode(random, sizeof random, in->name);
	int rc = sys_mkdirat(incoming, in->name, 0700);
	if (rc < 0)
		return rc == -EEXIST ? -EAGAIN : rc;
	auto_close int fd = sys_openat(incoming, in->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd == -ENOENT ? -EAGAIN : fd;
	rc = sys_lock(fd, true, true);
	if (rc == 0)
		rc = sys_fstat(fd, &st);
	if (rc == 0 && st.st_nlink == 0)
		rc = -EAGAIN;
	if (rc == 0)
		rc = sys_give_to_owner(fd, incoming);
	if (rc == 0)
		in->dir = take_fd(&fd);
	return rc;
}

static int open_incoming(int store_dirfd)
{
	int rc = sys_mkdirat(store_dirfd, INCOMING, 0700);
	if (rc < 0 && rc != -EEXIST)
		return rc;
	auto_close int fd = sys_openat(store_dirfd, INCOMING, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	rc = fd < 0 ? fd : sys_give_to_owner(fd, store_dirfd);
	return rc < 0 ? rc : take_fd(&fd);
}

int intake_open(int store_dirfd, struct blob_store *blobs, struct catalog *catalog, struct log *log, struct intake **ret, struct fault *f)
{
	auto_free struct intake *in = calloc(1, sizeof *in);
	if (!in)
		return fault_set(f, ENOMEM, "not enough memory");
	*in = (struct intake){.store = store_dirfd, .dir = -1, .blobs = blobs, .log = log};
	intake_sweep(store_dirfd, blobs, catalog, log);
	int rc = -EAGAIN;
	for (int i = 0; rc == -EAGAIN && i < TRIES; i++) {
		auto_close int incoming = open_incoming(store_dirfd);
		rc = incoming < 0 ? incoming : make_directory(in, incoming);
		if (rc == -ENOENT) /* incoming/ itself was removed meanwhile */
			rc = -EAGAIN;
	}
	if (rc < 0)
		return fault_set(f, -rc, "the store's directory " INCOMING " cannot be used: %s", strerror(-rc));
	*ret = take_ptr(in);
	return 0;
}

int intake_dirfd(const struct intake *in) { return in->dir; }

/* ---- contents ---- */

bool intake_has(struct intake *in, const struct blob_id *id, uint64_t size)
{
	char hex[BLOB_HEX_SIZE];
	struct stat st;
	blob_id_hex(id, hex);
	if (sys_fstatat(in->dir, hex, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return (uint64_t)st.st_size == size;
	return blob_is_sealed(in->blobs, id, size);
}

int intake_begin(struct intake *in, int *ret_fd, struct fault *f)
{
	int fd = sys_openat(in->dir, NEW_NAME, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (fd < 0)
		return fault_set(f, -fd, "a file cannot be made in the store: %s", strerror(-fd));
	*ret_fd = fd;
	return 0;
}

void intake_cancel(struct intake *in, int fd)
{
	close(fd);
	sys_unlinkat(in->dir, NEW_NAME, 0);
}

int intake_flush(struct intake *in, struct fault *f)
{
	size_t n = in->n;
	in->n = 0;
	in->bytes = 0;
	return blob_put_batch(in->blobs, in->items, n, f);
}

static int queue(struct intake *in, const char *hex, const struct blob_id *id, uint64_t size, struct fault *f)
{
	memcpy(in->names[in->n], hex, BLOB_HEX_SIZE);
	in->items[in->n] = (struct blob_item){.dirfd = in->dir, .path = in->names[in->n], .id = *id, .size = size};
	in->n++;
	in->bytes += size;
	return in->n == BATCH_FILES || in->bytes >= BATCH_BYTES ? intake_flush(in, f) : 0;
}

int intake_add(struct intake *in, int fd, const struct blob_id *id, uint64_t size, struct fault *f)
{
	char hex[BLOB_HEX_SIZE];
	struct stat st;
	blob_id_hex(id, hex);
	int rc = sys_close(fd);
	if (rc == 0 && sys_fstatat(in->dir, hex, &st, AT_SYMLINK_NOFOLLOW) == 0) { /* the same content was added already */
		sys_unlinkat(in->dir, NEW_NAME, 0);
		return 0;
	}
	if (rc == 0)
		rc = sys_renameat2(in->dir, NEW_NAME, in->dir, hex, 0);
	if (rc < 0)
		return fault_set(f, -rc, "a content cannot be written to the store: %s", strerror(-rc));
	return queue(in, hex, id, size, f);
}

/* ---- all of them, by their names ---- */

typedef int name_fn(struct intake *in, const char *name, const struct blob_id *id /* NULL: no content */, struct fault *f);

static int each_name(struct intake *in, name_fn *fn, struct fault *f)
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	struct blob_id id;
	int rc = sys_fdopendir(sys_reopen(in->dir, O_RDONLY | O_DIRECTORY), &dir); /* a position of its own */
	while (rc >= 0 && (rc = sys_readdir(dir, &e)) > 0)
		rc = fn(in, e->d_name, blob_id_parse(e->d_name, &id) == 0 ? &id : NULL, f);
	return rc;
}

static int put_name(struct intake *in, const char *name, const struct blob_id *id, struct fault *f)
{
	struct stat st;
	if (!id)
		return 0;
	int rc = sys_fstatat(in->dir, name, &st, AT_SYMLINK_NOFOLLOW);
	return rc < 0 ? rc : queue(in, name, id, (uint64_t)st.st_size, f);
}

int intake_put_again(struct intake *in, struct fault *f)
{
	in->n = 0;
	in->bytes = 0;
	int rc = each_name(in, put_name, f);
	return rc < 0 ? fault_default(f, -rc, "the contents cannot be put into the store: %s", strerror(-rc)) : intake_flush(in, f);
}

int intake_still_put(struct intake *in, const struct blob_id *id, uint64_t size)
{
	char hex[BLOB_HEX_SIZE];
	struct stat st = {0};
	blob_id_hex(id, hex);
	int rc = sys_fstatat(in->dir, hex, &st, AT_SYMLINK_NOFOLLOW);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	return blob_still_put(in->blobs, &(struct blob_item){.id = *id, .size = size, .ret_inode = st.st_ino});
}

/* Is the blob our very file? Its inode; 0: it is a private copy, sealed already, or that of somebody who is still at work with it. */
static int our_inode(struct intake *in, const char *name, const struct blob_id *id, uint64_t *ret)
{
	auto_close int fd = blob_open(in->blobs, id);
	struct stat blob = {0}, ours = {0};
	int rc = fd < 0 ? fd : sys_fstat(fd, &blob);
	if (rc == 0)
		rc = sys_fstatat(in->dir, name, &ours, AT_SYMLINK_NOFOLLOW);
	if (rc == 0 || rc == -ENOENT)
		*ret = rc == 0 && blob.st_dev == ours.st_dev && blob.st_ino == ours.st_ino ? ours.st_ino : 0;
	return rc == -ENOENT ? 0 : rc;
}

/* What the maker asks to settle is durable; of what the dead left that alone is which the catalog records. 1, 0, or -errno: it cannot be told. */
static int may_settle(struct intake *in, const struct blob_id *id)
{
	struct catalog_blob row = {0};
	auto_read struct catalog_conn *conn = NULL;
	if (!in->swept || !in->catalog)
		return !in->swept;
	int rc = catalog_read_begin(in->catalog, &conn);
	if (rc == 0)
		rc = catalog_blob_find(conn, id, &row);
	return rc == 0 ? !row.absence : rc == -ENOENT ? 0 : rc;
}

static int list_name(struct intake *in, const char *name, const struct blob_id *id, struct fault *f)
{
	int rc = id ? may_settle(in, id) : 0;
	if (rc <= 0)
		return rc;
	struct sealing s = {.id = *id};
	rc = our_inode(in, name, id, &s.inode);
	if (rc < 0 || s.inode == 0)
		return rc;
	rc = sys_pwrite_full(in->list, &s, sizeof s, in->list_end);
	if (rc == 0)
		in->list_end += (off_t)sizeof s;
	return rc;
}

static int drop_name(struct intake *in, const char *name, const struct blob_id *id, struct fault *f)
{
	int rc = id ? may_settle(in, id) : 0;
	if (rc > 0)
		rc = sys_unlinkat(in->dir, name, 0);
	return rc == -ENOENT ? 0 : rc;
}

static int clear_name(struct intake *in, const char *name, const struct blob_id *id, struct fault *f)
{
	int rc = sys_unlinkat(in->dir, name, 0);
	if (rc == -EISDIR)
		rc = sys_remove_tree(in->dir, name);
	return rc == -ENOENT ? 0 : rc;
}

static int open_list(struct intake *in)
{
	struct stat st;
	auto_close int fd = sys_openat(in->dir, LIST_NAME, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
	int rc = fd < 0 ? fd : sys_fstat(fd, &st);
	if (rc < 0)
		return rc;
	in->list_end = st.st_size - st.st_size % (off_t)sizeof(struct sealing); /* one that is torn was never acted on */
	return take_fd(&fd);
}

static int seal_listed(struct intake *in)
{
	struct sealing s;
	char hex[BLOB_HEX_SIZE];
	ssize_t n;
	int sealed = 0;
	for (off_t at = 0; (n = sys_pread_full(in->list, &s, sizeof s, at)) == (ssize_t)sizeof s; at += (off_t)sizeof s) {
		blob_id_hex(&s.id, hex);
		int rc = sys_unlinkat(in->dir, hex, 0);
		if (rc < 0 && rc != -ENOENT)
			return rc;
		sys_crash_point("import.name-gone");
		rc = blob_seal(in->blobs, &s.id, s.inode);
		sealed = sealed == 0 ? rc : sealed;
	}
	return n < 0 ? (int)n : sealed;
}

static int settle(struct intake *in)
{
	auto_close int list = in->list = open_list(in);
	int rc = list < 0 ? list : each_name(in, list_name, NULL);
	if (rc == 0 && in->list_end > 0)
		rc = sys_fsync(list);
	if (rc == 0 && in->list_end > 0)
		rc = sys_fsync(in->dir);
	if (rc == 0)
		rc = seal_listed(in);
	if (rc == 0)
		rc = each_name(in, drop_name, NULL);
	return rc == 0 ? sys_unlinkat(in->dir, LIST_NAME, 0) : rc;
}

int intake_settle(struct intake *in)
{
	in->n = 0;
	in->bytes = 0;
	int rc = settle(in);
	in->unsettled = rc < 0;
	return rc;
}

static void remove_directory(struct intake *in)
{
	char path[sizeof INCOMING + NAME_SIZE];
	snprintf(path, sizeof path, INCOMING "/%s", in->name);
	sys_unlinkat(in->store, path, AT_REMOVEDIR);
	sys_unlinkat(in->store, INCOMING, AT_REMOVEDIR); /* stays where others are at work in it */
}

/* What was not settled is not sealed: nobody refers to it, and its bytes may not have reached the disk. */
void intake_close(struct intake *in)
{
	if (!in)
		return;
	int rc = in->unsettled ? -EAGAIN : each_name(in, clear_name, NULL);
	if (rc < 0)
		log_warning(in->log, INCOMING "/%s cannot be cleared (the next mount tries again): %s", in->name, strerror(-rc));
	else
		remove_directory(in);
	close(in->dir);
	free(in);
}

/* ---- what the dead left ---- */

struct sweep { int store, incoming; struct blob_store *blobs; struct catalog *catalog; struct log *log; };

static void sweep_one(const struct sweep *s, const char *name)
{
	auto_close int fd = sys_openat(s->incoming, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0 || strlen(name) != NAME_SIZE - 1 || sys_lock(fd, true, false) < 0)
		return; /* somebody is at work in it */
	struct intake *in = calloc(1, sizeof *in);
	if (!in)
		return;
	*in = (struct intake){.store = s->store, .dir = take_fd(&fd), .blobs = s->blobs, .catalog = s->catalog, .swept = true, .log = s->log};
	text_copy(in->name, sizeof in->name, name);
	log_info(s->log, INCOMING "/%s: left by a process that died, cleared", name);
	if (intake_settle(in) < 0)
		log_warning(s->log, INCOMING "/%s: contents that were recorded are not sealed yet", name);
	intake_close(in);
}

void intake_sweep(int store_dirfd, struct blob_store *blobs, struct catalog *catalog, struct log *log)
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	if (sys_fdopendir(sys_openat(store_dirfd, INCOMING, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0), &dir) < 0)
		return;
	struct sweep s = {store_dirfd, dirfd(dir), blobs, catalog, log};
	while (sys_readdir(dir, &e) > 0)
		if (e->d_name[0] != '.')
			sweep_one(&s, e->d_name);
	sys_unlinkat(store_dirfd, INCOMING, AT_REMOVEDIR); /* if nobody is at work in it */
}
