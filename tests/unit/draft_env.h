/* What the tests of the draft room share: a store of their own with one draft, and small gestures on its files. */
#ifndef TEST_DRAFT_ENV_H
#define TEST_DRAFT_ENV_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/draft.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../../src/draft/inner.h"

#define ENV_ID 42

struct env {
	char path[128];
	int store;
	struct drafts *ds;
	struct draft *d; /* draft ENV_ID */
	int root;        /* its directory, O_RDONLY */
	atomic_int quiet;
	_Atomic int64_t quiet_id;
	struct draft_tree tree; /* of env_scan */
	struct fault f;
};

static inline void env_count_quiet(int64_t id, void *arg)
{
	struct env *e = arg;

	atomic_store(&e->quiet_id, id);
	atomic_fetch_add(&e->quiet, 1);
}

static inline int env_setup(void **state)
{
	const char *tmp = getenv("TMPDIR");
	struct env *e = calloc(1, sizeof(*e));

	assert_non_null(e);
	snprintf(e->path, sizeof(e->path), "%s/mintfs-draft-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(e->path));
	e->store = open(e->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(e->store >= 0);
	assert_int_equal(drafts_open(e->store, true, NULL, env_count_quiet, e, &e->ds, &e->f), 0);
	e->ds->hashing.size_min = 1; /* the tests' files are small */
	assert_int_equal(drafts_make(e->ds, ENV_ID, geteuid(), getegid(), 0755), 0);
	assert_int_equal(draft_get(e->ds, ENV_ID, &e->d), 0);
	e->root = sys_reopen(draft_root(e->d), O_RDONLY | O_DIRECTORY);
	assert_true(e->root >= 0);
	*state = e;
	return 0;
}

static inline int env_teardown(void **state)
{
	struct env *e = *state;

	draft_tree_release(&e->tree);
	draft_put(e->d);
	drafts_close(e->ds);
	close(e->root);
	close(e->store);
	assert_int_equal(sys_remove_tree(AT_FDCWD, e->path), 0);
	free(e);
	return 0;
}

/* Writes a file past the draft's book-keeping. */
static inline void env_write(struct env *e, const char *path, const char *text)
{
	int fd = openat(e->root, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, text, strlen(text), 0), strlen(text));
	assert_int_equal(close(fd), 0);
}

static inline struct stat env_stat(const struct env *e, const char *path)
{
	struct stat st;

	assert_int_equal(fstatat(e->root, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st;
}

static inline ino_t env_ino(const struct env *e, const char *path)
{
	return env_stat(e, path).st_ino;
}

/* What the drive does when a program has written a file and closes it. */
static inline void env_close_written(struct env *e, const char *path)
{
	auto_close int fd = openat(e->root, path, O_PATH | O_CLOEXEC | O_NOFOLLOW);

	assert_true(fd >= 0);
	draft_file_closed(e->d, env_ino(e, path), true, fd);
}

/* A file written through the drive from open to close. size: extended by a hole to that. */
static inline void env_save(struct env *e, const char *path, const char *text, off_t size)
{
	env_write(e, path, text);
	assert_int_equal(draft_file_opened(e->d, env_ino(e, path), true, path), 0);
	if (size > 0) {
		auto_close int fd = openat(e->root, path, O_WRONLY | O_CLOEXEC);
		assert_int_equal(ftruncate(fd, size), 0);
	}
	env_close_written(e, path);
}

static inline const struct draft_entry *env_find(const struct draft_tree *t, const char *path)
{
	for (size_t i = 0; i < t->n; i++) {
		if (strcmp(t->entries[i].path, path) == 0)
			return &t->entries[i];
	}
	fail_msg("%s is not in the tree", path);
	return NULL;
}

/* Freezes and scans into e->tree. */
static inline int env_scan(struct env *e)
{
	draft_tree_release(&e->tree);
	e->f = (struct fault)FAULT_INIT;
	assert_int_equal(draft_freeze(e->d, &e->f), 0);
	return draft_scan(e->d, &e->tree, &e->f);
}

/* Is the file hashed, as a commit would find it now? The draft stays open. */
static inline bool env_is_hashed(struct env *e, const char *path)
{
	bool hashed;

	assert_int_equal(env_scan(e), 0);
	hashed = env_find(&e->tree, path)->hashed;
	draft_thaw(e->d);
	return hashed;
}

static inline struct blob_id env_hash_of(const void *data, size_t len)
{
	struct blob_hasher *h = NULL;
	struct blob_id id;

	assert_int_equal(blob_hasher_new(&h), 0);
	assert_int_equal(blob_hasher_add(h, data, len), 0);
	assert_int_equal(blob_hasher_finish(h, &id), 0);
	blob_hasher_free(h);
	return id;
}

/* Waits for something that another thread is about to bring. */
#define env_wait_until(condition) \
	do { \
		const struct timespec pause_ = {0, 1000000}; \
		while (!(condition)) \
			nanosleep(&pause_, NULL); \
	} while (0)

#endif
