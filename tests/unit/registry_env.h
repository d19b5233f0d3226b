/* A store of its own for each test, and what tests of the registry do again and again. */
#ifndef TEST_REGISTRY_ENV_H
#define TEST_REGISTRY_ENV_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mintfs/cleanup.h>
#include <mintfs/registry.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>

/* Not every test uses all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

struct fixture {
	char path[64], store[80];
	struct registry *r;
	struct registry_actor me;
	int events[2];
};

static void on_event(const struct registry_event *e, void *arg)
{
	struct fixture *x = arg;
	__atomic_add_fetch(&x->events[e->kind == REGISTRY_COMMITTED ? 0 : 1], 1, __ATOMIC_SEQ_CST);
}

static void open_store(struct fixture *x)
{
	struct fault f = FAULT_INIT;
	struct registry_options o = {.path = x->store, .serve = true, .mountpoint = "/nowhere", .on_event = on_event, .event_arg = x};
	if (registry_open(&o, &x->r, &f) != 0)
		fail_msg("cannot open: %s", f.text);
}

static int setup_in(void **state, const char *folder)
{
	struct fixture *x = calloc(1, sizeof *x);
	struct fault f = FAULT_INIT;
	snprintf(x->path, sizeof x->path, "%s/mintfs-registry-XXXXXX", folder);
	assert_non_null(mkdtemp(x->path));
	snprintf(x->store, sizeof x->store, "%s/store", x->path);
	if (registry_init(x->store, &f) != 0)
		fail_msg("cannot init: %s", f.text);
	x->me = (struct registry_actor){getpid(), getuid(), getgid()};
	open_store(x);
	*state = x;
	return 0;
}

static int setup(void **state) { return setup_in(state, "/tmp"); }

/* Where a sync costs nothing: for tests of hundreds of operations. A container has 64 MB of it for all, which is too little. */
static int setup_in_memory(void **state)
{
	struct statvfs f;
	bool there = access("/dev/shm", W_OK) == 0 && statvfs("/dev/shm", &f) == 0 && f.f_bavail * f.f_frsize >= UINT64_C(256) << 20;
	return setup_in(state, there ? "/dev/shm" : "/tmp");
}

static int teardown(void **state)
{
	struct fixture *x = *state;
	registry_close(x->r);
	int fd = open(x->path, O_RDONLY | O_DIRECTORY);
	int blobs = open(x->store, O_RDONLY | O_DIRECTORY);
	struct blob_store *s;
	if (blobs >= 0 && blob_store_open_local(blobs, false, NULL, &s, NULL) == 0) /* takes the immutable flags off */
		blob_store_close(s);
	close(blobs);
	close(fd);
	char command[256];
	snprintf(command, sizeof command, "chattr -R -i %s 2>/dev/null; rm -rf %s", x->path, x->path);
	int rc = system(command);
	free(x);
	return rc == 0 ? 0 : -1;
}

/* ---- helpers ---- */

static int64_t make_path(struct fixture *x, const char *path)
{
	char copy[2048], *save = NULL;
	int64_t parent = CATALOG_DIR_ROOT;
	snprintf(copy, sizeof copy, "%s", path);
	for (char *name = strtok_r(copy, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
		struct catalog_dir d;
		struct catalog_conn *conn;
		assert_int_equal(registry_read_begin(x->r, &conn), 0);
		int rc = catalog_dir_find(conn, parent, name, &d);
		catalog_read_end(conn);
		if (rc == -ENOENT || (rc == 0 && d.hidden)) {
			struct fault f = FAULT_INIT;
			rc = registry_dir_make(x->r, &x->me, parent, name, 0755, &d, &f);
			if (rc != 0)
				fail_msg("mkdir %s in %s: %s", name, path, f.text);
		}
		parent = d.id;
	}
	return parent;
}

static struct catalog_version mint(struct fixture *x, int64_t model, const char *name)
{
	struct catalog_version v;
	struct fault f = FAULT_INIT;
	if (registry_mint(x->r, &x->me, model, name, 0755, &v, &f) != 0)
		fail_msg("mint %s: %s", name, f.text);
	return v;
}

static void put(struct fixture *x, int64_t version, const char *name, const char *text)
{
	struct draft *d;
	bool writable;
	assert_int_equal(registry_draft_get(x->r, version, &d, &writable), 0);
	assert_true(writable);
	assert_int_equal(draft_change_begin(d), 0);
	int fd = openat(draft_root(d), name, O_CREAT | O_TRUNC | O_WRONLY, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	draft_change_end(d);
	draft_put(d);
}

static void commit_ok(struct fixture *x, int64_t version)
{
	struct fault f = FAULT_INIT;
	if (registry_commit(x->r, &x->me, version, "a message", &f) != 0)
		fail_msg("commit: %s", f.text);
}

static struct catalog_version get(struct fixture *x, int64_t version)
{
	struct catalog_version v;
	struct catalog_conn *conn;
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_version_get(conn, version, &v), 0);
	catalog_read_end(conn);
	return v;
}

static int64_t committed(struct fixture *x, int64_t model, const char *metadata)
{
	struct catalog_version v = mint(x, model, "next");
	put(x, v.id, "model.pth", "weights");
	if (metadata)
		put(x, v.id, "metadata.json", metadata);
	commit_ok(x, v.id);
	return v.id;
}

static pid_t child_that_waits(int *hold)
{
	int p[2];
	assert_int_equal(pipe(p), 0);
	pid_t pid = fork();
	if (pid == 0) {
		char c;
		close(p[1]);
		_exit(read(p[0], &c, 1) == 1 ? c : 0); /* exits with the byte it is given, or 0 */
	}
	close(p[0]);
	*hold = p[1];
	return pid;
}

/* A byte, not the end of the pipe: a later child may have inherited the writing end. */
static void let_end(pid_t pid, int hold, char exit_byte)
{
	assert_int_equal(write(hold, &exit_byte, 1), 1);
	close(hold);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Waits for a condition; the cap is only there to end a broken test. */
#define WAIT_FOR(condition) \
	for (int64_t end_ = time_monotonic_ns() + 100 * NS_PER_SEC; !(condition);) { \
		if (time_monotonic_ns() > end_) \
			fail_msg("waited in vain for %s", #condition); \
		usleep(2000); \
	}

static bool kernel_tells_exit(void)
{
	/* PIDFD_INFO_EXIT came with Linux 6.15 */
	int major = 0, minor = 0;
	FILE *f = fopen("/proc/sys/kernel/osrelease", "r");
	if (!f || fscanf(f, "%d.%d", &major, &minor) != 2)
		major = 0;
	if (f)
		fclose(f);
	return major > 6 || (major == 6 && minor >= 15);
}

static char *reason_of(struct fixture *x, int64_t version)
{
	struct catalog_version_text t = {0};
	struct catalog_conn *conn;
	char *reason = NULL;
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_version_text(conn, version, &t), 0);
	catalog_read_end(conn);
	if (t.reason)
		reason = strdup(t.reason);
	catalog_version_text_release(&t);
	return reason;
}

static bool exists(struct fixture *x, const char *fmt, int64_t id)
{
	char name[128], path[256];
	struct stat st;
	snprintf(name, sizeof name, fmt, (long long)id);
	snprintf(path, sizeof path, "%s/%s", x->store, name);
	return lstat(path, &st) == 0;
}

/* The content of a committed file. */
static char *content_of(struct fixture *x, int64_t version, const char *name)
{
	struct catalog_conn *conn;
	struct catalog_file file;
	struct fault f = FAULT_INIT;
	int fd;
	assert_int_equal(registry_read_begin(x->r, &conn), 0);
	assert_int_equal(catalog_file_find(conn, -version, name, &file), 0);
	catalog_read_end(conn);
	if (registry_file_open(x->r, &file, &fd, &f) != 0)
		fail_msg("%s", f.text);
	char *text = calloc(1, file.size + 1);
	assert_int_equal(read(fd, text, file.size), (ssize_t)file.size);
	close(fd);
	return text;
}

static void assert_content(struct fixture *x, int64_t version, const char *name, const char *expected)
{
	char *text = content_of(x, version, name);
	assert_string_equal(text, expected);
	free(text);
}

static int count_open(const struct blob_found *b, void *arg)
{
	*(int *)arg += b->is_blob && !b->sealed;
	return 0;
}

/* Contents that somebody could still write to. */
static int count_unsealed(struct fixture *x)
{
	struct blob_store *blobs;
	int n = 0, dir = open(x->store, O_RDONLY | O_DIRECTORY);
	assert_int_equal(blob_store_open_local(dir, false, NULL, &blobs, NULL), 0);
	for (int i = 0; i < 256; i++)
		assert_int_equal(blob_scan(blobs, i, count_open, &n), 0);
	blob_store_close(blobs);
	close(dir);
	return n;
}

/* Closes the store and forks: the child has it open and is to die at `point`; it must not go on behind that (_exit). */
static pid_t fork_to_die(struct fixture *x, const char *point)
{
	registry_close(x->r);
	x->r = NULL;
	pid_t pid = fork();
	if (pid == 0) {
		setenv("MINTFS_CRASH", point, 1);
		x->me.tid = getpid();
		open_store(x);
	}
	return pid;
}

/* It died there; the store is open again. */
static void wait_for_death(struct fixture *x, const char *point, pid_t pid)
{
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 137)
		fail_msg("%s was not reached: status %x", point, (unsigned)status);
	open_store(x);
}

#endif
