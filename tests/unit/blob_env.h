/* What the tests of the blob store share: a fresh store in a directory of its own, with a directory of files to put in. */
#ifndef TEST_BLOB_ENV_H
#define TEST_BLOB_ENV_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <mintfs/blob.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>

/* An implementation of the interface under test: how a store below dirfd is opened. Several may be open at once. */
struct implementation {
	const char *name;
	int (*open)(int dirfd, struct blob_store **ret);
};

struct env {
	const struct implementation *impl;
	char path[128];
	int dir; /* of everything */
	int src; /* dir/src: files to put in */
	struct blob_store *store;
};

static inline int env_setup(void **state)
{
	const char *tmp = getenv("TMPDIR");
	struct env *e = calloc(1, sizeof *e);

	e->impl = *state;
	snprintf(e->path, sizeof e->path, "%s/mintfs-blob-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(e->path));
	e->dir = open(e->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(e->dir >= 0);
	assert_int_equal(mkdirat(e->dir, "src", 0700), 0);
	e->src = openat(e->dir, "src", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(e->impl->open(e->dir, &e->store), 0);
	*state = e;
	return 0;
}

static inline int env_drop_blob(const struct blob_id *id, uint64_t size, int64_t ctime_ns, void *arg)
{
	(void)size;
	(void)ctime_ns;
	return blob_remove(arg, id);
}

static inline int env_teardown(void **state)
{
	struct env *e = *state;
	int r;

#ifdef MINTFS_FAULTS
	sys_fault_arm(NULL, 0, 0, false);
#endif
	r = blob_each(e->store, env_drop_blob, e->store); /* sealed ones would stay */
	blob_store_close(e->store);
	close(e->src);
	close(e->dir);
	if (r == 0)
		r = sys_remove_tree(AT_FDCWD, e->path);
	free(e);
	return r;
}

/* Bytes that depend on seed and place: no piece of them equals another one. */
static inline char *make_bytes(unsigned seed, size_t len)
{
	char *bytes = malloc(len + 1);
	uint32_t x = seed * 2654435761U + 1;

	for (size_t i = 0; i < len; i++) {
		x = x * 1664525U + 1013904223U;
		bytes[i] = (char)(x >> 24);
	}
	return bytes;
}

/* Writes a file below dirfd (in place if it is there) and describes it as an item, which borrows name. */
static inline struct blob_item put_file(int dirfd, const char *name, const void *data, size_t len)
{
	struct blob_item item = {.dirfd = dirfd, .path = name};
	int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	assert_int_equal(pwrite(fd, data, len, 0), (ssize_t)len);
	assert_int_equal(blob_hash_fd(fd, NULL, &item.id, &item.size), 0);
	close(fd);
	return item;
}

static inline struct blob_item put_seeded(int dirfd, const char *name, unsigned seed, size_t len)
{
	auto_free char *bytes = make_bytes(seed, len);

	return put_file(dirfd, name, bytes, len);
}

static inline void assert_put(struct blob_store *s, struct blob_item *items, size_t n)
{
	struct fault f = FAULT_INIT;

	if (blob_put_batch(s, items, n, &f) != 0)
		fail_msg("put refused: %s", f.text);
}

static inline void assert_sound(struct blob_store *s, const struct blob_item *item)
{
	struct fault f = FAULT_INIT;

	if (blob_verify(s, &item->id, item->size, &f) != 0)
		fail_msg("not sound: %s", f.text);
}

static inline void assert_absent(struct blob_store *s, const struct blob_id *id)
{
	uint64_t size;

	assert_int_equal(blob_size(s, id, &size), -ENOENT);
}

struct blob_list {
	struct blob_id ids[64];
	size_t n;
	size_t stop_at; /* 0: never */
};

static inline int list_blob(const struct blob_id *id, uint64_t size, int64_t ctime_ns, void *arg)
{
	struct blob_list *l = arg;

	(void)size;
	(void)ctime_ns;
	if (l->n < ARRAY_SIZE(l->ids))
		l->ids[l->n] = *id;
	l->n++;
	return l->n == l->stop_at ? 77 : 0;
}

static inline size_t count_blobs(struct blob_store *s)
{
	struct blob_list l = {.n = 0};

	assert_int_equal(blob_each(s, list_blob, &l), 0);
	return l.n;
}

#endif
