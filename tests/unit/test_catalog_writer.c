/* The writer: numbers under many threads, group commit, durability, failures of a job and of a whole transaction, several processes, and
 * a process that is killed. The system calls SQLite makes are met by functions of this program, which count them and can make them fail. */
#include "catalog_env.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static atomic_int n_syncs;
static atomic_int sync_error;  /* errno of the next syncs; 0: none */
static atomic_int write_error; /* errno of the next writes to a log; 0: none */

int fdatasync(int fd)
{
	atomic_fetch_add(&n_syncs, 1);
	int error = atomic_load(&sync_error);
	if (error) {
		errno = error;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t off)
{
	int error = atomic_load(&write_error);
	if (error) {
		errno = error;
		return -1;
	}
	return syscall(SYS_pwrite64, fd, data, len, off);
}

static int add_named(struct catalog_conn *conn, void *arg)
{
	struct catalog_dir d = {.parent = 2, .mode = 0755};
	int64_t id;
	text_copy(d.name, sizeof d.name, arg);
	return catalog_dir_add(conn, &d, &id);
}

static int write_named(struct env *e, bool durable, const char *name)
{
	char text[CATALOG_NAME_MAX];
	text_copy(text, sizeof text, name);
	return catalog_write(e->c, durable, add_named, text);
}

static int64_t count_dirs(struct env *e)
{
	return env_sql_int(e, "SELECT count(*) FROM dirs WHERE parent = 2");
}

static int nothing(struct catalog_conn *conn, void *arg)
{
	(void)conn;
	(void)arg;
	return 0;
}

/* Else the log may be synced by itself between any two lines of a test that counts syncs. */
static void let_it_never_rest(struct env *e)
{
	SCOPED_LOCK(&e->c->writer.mutex);
	e->c->writer.rest_ns = 3600 * NS_PER_SEC;
}

/* ---- minting ---- */

struct mint { struct env *e; int64_t model; uint32_t number; int result; };

static int mint_next(struct catalog_conn *conn, void *arg)
{
	struct mint *m = arg;
	struct catalog_model model;
	int64_t id;
	int error = catalog_model_get(conn, m->model, &model);
	if (error)
		return error;
	model.last_number++;
	error = catalog_model_update(conn, &model);
	struct catalog_version v = {.model_id = m->model, .number = model.last_number, .mode = 0755};
	m->number = model.last_number;
	return error ? error : catalog_version_add(conn, &v, NULL, &id);
}

static void *mint_thread(void *arg)
{
	struct mint *m = arg;
	m->result = catalog_write(m->e->c, false, mint_next, m);
	return NULL;
}

static void test_64_threads_mint_64_numbers(void **state)
{
	struct env *e = *state;
	pthread_t threads[64];
	struct mint mints[64];
	bool seen[65] = {false};
	struct catalog_conn *conn = direct_begin(e);
	int64_t model = env_add_model(conn, "P001_all", "mlstm");
	direct_end(e, conn);
	for (int i = 0; i < 64; i++) {
		mints[i] = (struct mint){.e = e, .model = model};
		assert_int_equal(pthread_create(&threads[i], NULL, mint_thread, &mints[i]), 0);
	}
	for (int i = 0; i < 64; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 64; i++) {
		assert_int_equal(mints[i].result, 0);
		assert_in_range(mints[i].number, 1, 64);
		assert_false(seen[mints[i].number]);
		seen[mints[i].number] = true;
	}
	assert_int_equal(env_sql_int(e, "SELECT count(*) FROM versions"), 64);
}

/* ---- whose thread runs a job ---- */

struct where { struct env *e; bool low; pthread_t ran_on; int priority; int result; };

static int note_where(struct catalog_conn *conn, void *arg)
{
	struct where *w = arg;
	(void)conn;
	w->ran_on = pthread_self();
	w->priority = getpriority(PRIO_PROCESS, 0);
	return 0;
}

static void *where_thread(void *arg)
{
	struct where *w = arg;
	if (w->low)
		setpriority(PRIO_PROCESS, 0, 19); /* of this thread */
	w->result = catalog_write(w->e->c, false, note_where, w);
	return NULL;
}

static void run_where(struct where *w)
{
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, where_thread, w), 0);
	pthread_join(thread, NULL);
	assert_int_equal(w->result, 0);
}

static void test_a_write_alone_runs_where_it_was_asked_for(void **state)
{
	struct where w = {.e = *state};
	assert_int_equal(catalog_write(w.e->c, false, note_where, &w), 0);
	assert_true(pthread_equal(w.ran_on, pthread_self()));
}

/* Others would have to wait for a thread that gets no processor. */
static void test_a_thread_of_low_priority_writes_at_the_usual_one(void **state)
{
	struct where first = {.e = *state}, low = {.e = *state, .low = true};
	if (getpriority(PRIO_PROCESS, 0) >= 19)
		skip(); /* the whole program has it */
	run_where(&first);
	run_where(&low);
	assert_int_equal(low.priority, getpriority(PRIO_PROCESS, 0));
}

/* ---- groups: a first job holds the writer until all the others wait ---- */

struct member { struct env *e; char name[32]; bool durable; catalog_write_fn *fn; int runs; int result; pthread_t thread; };

static unsigned queued(struct env *e)
{
	SCOPED_LOCK(&e->c->writer.mutex);
	return e->c->writer.n_queued;
}

struct holder { struct env *e; unsigned wanted; atomic_bool inside; int result; pthread_t thread; };

static int hold_until_queued(struct catalog_conn *conn, void *arg)
{
	struct holder *h = arg;
	(void)conn;
	atomic_store(&h->inside, true);
	while (queued(h->e) < h->wanted)
		nanosleep(&(struct timespec){0, 100000}, NULL);
	return 0;
}

static void *hold_thread(void *arg)
{
	struct holder *h = arg;
	h->result = catalog_write(h->e->c, false, hold_until_queued, h);
	return NULL;
}

static void *member_thread(void *arg)
{
	struct member *m = arg;
	m->result = catalog_write(m->e->c, m->durable, m->fn, m);
	return NULL;
}

static int add_member(struct catalog_conn *conn, void *arg)
{
	struct member *m = arg;
	m->runs++;
	return add_named(conn, m->name);
}

/* Adds its row, then thinks better of it. */
static int add_and_refuse(struct catalog_conn *conn, void *arg)
{
	int error = add_member(conn, arg);
	return error ? error : -EPERM;
}

/* What SQLite does by itself on a full disk, for one: the transaction is gone. */
static int lose_the_transaction(struct catalog_conn *conn, void *arg)
{
	int error = add_member(conn, arg);
	return error ? error : sql_script(conn->db, "ROLLBACK") ? -EBADF : -ENOSPC;
}

static uint64_t commits(struct env *e)
{
	SCOPED_LOCK(&e->c->writer.mutex);
	return e->c->writer.n_commits;
}

/* Runs the members as one group, in their order. */
static void run_as_group(struct env *e, struct member *members, unsigned n)
{
	struct holder holder = {.e = e, .wanted = n};
	assert_int_equal(pthread_create(&holder.thread, NULL, hold_thread, &holder), 0);
	while (!atomic_load(&holder.inside)) /* else it would be in the group itself */
		nanosleep(&(struct timespec){0, 100000}, NULL);
	for (unsigned i = 0; i < n; i++) {
		members[i].e = e;
		snprintf(members[i].name, sizeof members[i].name, "member%u", i);
		assert_int_equal(pthread_create(&members[i].thread, NULL, member_thread, &members[i]), 0);
		while (queued(e) < i + 1 && i + 1 < n)
			nanosleep(&(struct timespec){0, 100000}, NULL);
	}
	for (unsigned i = 0; i < n; i++)
		pthread_join(members[i].thread, NULL);
	pthread_join(holder.thread, NULL);
	assert_int_equal(holder.result, 0);
}

static void test_writes_that_wait_go_in_one_transaction_with_one_sync(void **state)
{
	struct env *e = *state;
	struct member m[20] = {{0}};
	for (int i = 0; i < 20; i++)
		m[i] = (struct member){.fn = add_member, .durable = true};
	let_it_never_rest(e);
	uint64_t before = commits(e);
	int syncs = atomic_load(&n_syncs);
	run_as_group(e, m, 20);
	assert_int_equal(commits(e) - before, 1); /* the holder writes nothing */
	assert_in_range(atomic_load(&n_syncs) - syncs, 1, 3); /* the log; its header and directory when it is new */
	for (int i = 0; i < 20; i++) {
		assert_int_equal(m[i].result, 0);
		assert_int_equal(m[i].runs, 1);
	}
	assert_int_equal(count_dirs(e), 20);
}

static void test_a_failed_job_is_undone_and_its_neighbours_are_not(void **state)
{
	struct env *e = *state;
	struct member m[5] = {{0}};
	for (int i = 0; i < 5; i++)
		m[i] = (struct member){.fn = i == 2 ? add_and_refuse : add_member};
	run_as_group(e, m, 5);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(m[i].result, i == 2 ? -EPERM : 0);
		assert_int_equal(m[i].runs, 1);
	}
	assert_int_equal(count_dirs(e), 4);
	assert_int_equal(env_sql_int(e, "SELECT count(*) FROM dirs WHERE name = 'member2'"), 0);
}

static void test_a_job_that_loses_the_transaction_fails_alone_and_the_others_run_again(void **state)
{
	struct env *e = *state;
	struct member m[5] = {{0}};
	for (int i = 0; i < 5; i++)
		m[i] = (struct member){.fn = i == 2 || i == 4 ? lose_the_transaction : add_member};
	run_as_group(e, m, 5);
	for (int i = 0; i < 5; i++)
		assert_int_equal(m[i].result, i == 2 || i == 4 ? -ENOSPC : 0);
	assert_int_equal(m[0].runs, 3);
	assert_int_equal(m[2].runs, 1);
	assert_int_equal(m[3].runs, 2);
	assert_int_equal(count_dirs(e), 3);
}

static void test_a_commit_that_fails_is_answered_to_all_and_nothing_stays(void **state)
{
	static const struct { atomic_int *what; int error, expected; } table[] = {{&write_error, ENOSPC, -ENOSPC}, {&write_error, EIO, -EIO}, {&sync_error, EIO, -EIO}};
	struct env *e = *state;
	assert_int_equal(write_named(e, true, "before"), 0);
	for (size_t t = 0; t < ARRAY_SIZE(table); t++) {
		struct member m[4] = {{0}};
		for (int i = 0; i < 4; i++)
			m[i] = (struct member){.fn = add_member, .durable = i == 3};
		atomic_store(table[t].what, table[t].error);
		run_as_group(e, m, 4);
		atomic_store(table[t].what, 0);
		for (int i = 0; i < 4; i++)
			assert_int_equal(m[i].result, table[t].expected);
		assert_int_equal(count_dirs(e), 1);
	}
	assert_int_equal(write_named(e, true, "after"), 0);
	assert_int_equal(count_dirs(e), 2);
	env_check_sound(e);
}

/* Fills the database up to a limit of its own pages: SQLite itself says FULL, in the midst of a job. */
static int fill_up(struct catalog_conn *conn, void *arg)
{
	char name[CATALOG_NAME_MAX];
	int error = sql_script(conn->db, "PRAGMA max_page_count=60");
	(void)arg;
	memset(name, 'x', sizeof name);
	for (int i = 0; !error && i < 10000; i++) {
		snprintf(name + 240, sizeof name - 240, "%d", i);
		error = add_named(conn, name);
	}
	sql_script(conn->db, "PRAGMA max_page_count=1000000");
	return error;
}

static int fill_member(struct catalog_conn *conn, void *arg)
{
	((struct member *)arg)->runs++;
	return fill_up(conn, NULL);
}

static void test_a_job_on_a_full_disk_fails_alone(void **state)
{
	struct env *e = *state;
	struct member m[3] = {{.fn = add_member}, {.fn = fill_member}, {.fn = add_member}};
	run_as_group(e, m, 3);
	assert_int_equal(m[0].result, 0);
	assert_int_equal(m[1].result, -ENOSPC);
	assert_int_equal(m[2].result, 0);
	assert_int_equal(count_dirs(e), 2);
	env_check_sound(e);
}

/* ---- durability ---- */

static void test_only_durable_writes_wait_for_the_disk_and_a_sync_is_free_after_them(void **state)
{
	struct env *e = *state;
	let_it_never_rest(e);
	assert_int_equal(write_named(e, true, "first"), 0);
	int n = atomic_load(&n_syncs);
	assert_int_equal(catalog_sync(e->c), 0);
	assert_int_equal(atomic_load(&n_syncs), n);
	assert_int_equal(write_named(e, false, "second"), 0);
	assert_int_equal(atomic_load(&n_syncs), n);
	assert_int_equal(catalog_sync(e->c), 0);
	assert_int_equal(atomic_load(&n_syncs), n + 1);
	assert_int_equal(catalog_sync(e->c), 0);
	assert_int_equal(atomic_load(&n_syncs), n + 1);
	assert_int_equal(write_named(e, false, "third"), 0);
	assert_int_equal(write_named(e, true, "fourth"), 0); /* takes the third along */
	assert_int_equal(atomic_load(&n_syncs), n + 2);
	assert_int_equal(catalog_sync(e->c), 0);
	assert_int_equal(atomic_load(&n_syncs), n + 2);
}

static void test_a_durable_write_that_changes_nothing_still_makes_the_earlier_ones_durable(void **state)
{
	struct env *e = *state;
	let_it_never_rest(e);
	assert_int_equal(write_named(e, true, "first"), 0);
	assert_int_equal(write_named(e, false, "second"), 0);
	int n = atomic_load(&n_syncs);
	assert_int_equal(catalog_write(e->c, true, nothing, NULL), 0);
	assert_int_equal(atomic_load(&n_syncs), n + 1);
}

static void test_the_first_sync_of_a_catalog_covers_what_another_process_left_unsynced(void **state)
{
	struct env *e = *state;
	int n = atomic_load(&n_syncs);
	assert_int_equal(catalog_sync(e->c), 0); /* nothing to sync: there is no log yet */
	assert_int_equal(write_named(e, false, "first"), 0);
	env_close(e);
	env_open(e);
	struct env other = *e;
	env_open(&other);
	assert_int_equal(write_named(&other, false, "second"), 0);
	n = atomic_load(&n_syncs);
	assert_int_equal(catalog_sync(e->c), 0);
	assert_true(atomic_load(&n_syncs) > n);
	env_close(&other);
}

static void test_a_failed_sync_is_reported_and_tried_again(void **state)
{
	struct env *e = *state;
	let_it_never_rest(e);
	assert_int_equal(write_named(e, true, "first"), 0);
	assert_int_equal(write_named(e, false, "second"), 0);
	atomic_store(&sync_error, EIO);
	assert_int_equal(catalog_sync(e->c), -EIO);
	atomic_store(&sync_error, 0);
	int n = atomic_load(&n_syncs);
	assert_int_equal(catalog_sync(e->c), 0);
	assert_int_equal(atomic_load(&n_syncs), n + 1);
}

static void test_a_write_is_synced_by_itself_after_a_rest(void **state)
{
	struct env *e = *state;
	assert_int_equal(write_named(e, true, "first"), 0);
	int n = atomic_load(&n_syncs);
	int64_t start = time_monotonic_ns();
	assert_int_equal(write_named(e, false, "second"), 0);
	while (atomic_load(&n_syncs) == n && time_monotonic_ns() - start < 10 * NS_PER_SEC)
		nanosleep(&(struct timespec){0, 1000000}, NULL);
	int64_t took = time_monotonic_ns() - start;
	assert_int_equal(atomic_load(&n_syncs), n + 1);
	assert_true(took >= 90 * 1000000LL); /* it rested first */
}

/* ---- log and lock ---- */

static off_t log_size(struct env *e)
{
	struct stat st;
	return fstatat(e->dirfd, "catalog.db-wal", &st, 0) ? -1 : st.st_size;
}

static int add_many(struct catalog_conn *conn, void *arg)
{
	const int *first = arg;
	char name[32];
	int error = 0;
	for (int i = *first; !error && i < *first + 500; i++) {
		snprintf(name, sizeof name, "dir%d", i);
		error = add_named(conn, name);
	}
	return error;
}

static void test_the_log_is_checkpointed_as_it_grows_and_emptied_at_the_end(void **state)
{
	struct env *e = *state;
	for (int first = 0; first < 180000; first += 500)
		assert_int_equal(catalog_write(e->c, false, add_many, &first), 0);
	struct stat st;
	assert_int_equal(fstatat(e->dirfd, "catalog.db", &st, 0), 0);
	assert_true(st.st_size > 1 << 20); /* without a checkpoint everything would still be in the log */
	assert_in_range(log_size(e), 1, 20 << 20);
	env_close(e);
	assert_int_equal(log_size(e), 0);
	env_open(e);
	assert_int_equal(count_dirs(e), 180000);
	env_check_sound(e);
}

static void test_closing_waits_for_nobody_and_loses_nothing_while_another_reads(void **state)
{
	struct env *e = *state;
	struct env other = *e;
	struct catalog_conn *conn = NULL;
	struct catalog_dir d;
	env_open(&other);
	assert_int_equal(catalog_read_begin(other.c, &conn), 0);
	assert_int_equal(catalog_dir_get(conn, 1, &d), 0); /* the snapshot begins */
	assert_int_equal(write_named(e, false, "new"), 0);
	env_close(e);
	assert_true(log_size(e) > 0);
	assert_int_equal(catalog_dir_find(conn, 2, "new", &d), -ENOENT);
	catalog_read_end(conn);
	assert_int_equal(count_dirs(&other), 1);
	env_close(&other);
}

struct lock_test { struct env *e; bool inside; int write_result; };

static int in_lock(void *arg)
{
	struct lock_test *t = arg;
	int fd = openat(t->e->dirfd, "lock", O_RDWR | O_CLOEXEC);
	assert_int_equal(sys_lock(fd, true, false), -EWOULDBLOCK);
	close(fd);
	t->inside = true;
	t->write_result = write_named(t->e, false, "inside");
	assert_int_equal(catalog_locked(t->e->c, in_lock, t), -EDEADLK);
	return 42;
}

static int in_writer(struct catalog_conn *conn, void *arg)
{
	struct lock_test *t = arg;
	(void)conn;
	t->write_result = write_named(t->e, false, "inside");
	return catalog_locked(t->e->c, in_lock, t);
}

static void test_locked_holds_the_lock_of_the_store_and_misuse_is_refused_not_hung(void **state)
{
	struct lock_test t = {.e = *state};
	assert_int_equal(catalog_locked(t.e->c, in_lock, &t), 42);
	assert_true(t.inside);
	assert_int_equal(t.write_result, -EDEADLK);
	t.write_result = 0;
	assert_int_equal(catalog_write(t.e->c, false, in_writer, &t), -EDEADLK);
	assert_int_equal(t.write_result, -EDEADLK);
	assert_int_equal(write_named(t.e, false, "outside"), 0);
}

/* ---- readers ---- */

struct reader { struct env *e; atomic_int arrived, inside; atomic_bool leave; };

static void *read_thread(void *arg)
{
	struct reader *r = arg;
	struct catalog_conn *conn = NULL;
	struct catalog_dir d;
	atomic_fetch_add(&r->arrived, 1);
	if (catalog_read_begin(r->e->c, &conn))
		return r;
	atomic_fetch_add(&r->inside, 1);
	while (!atomic_load(&r->leave))
		nanosleep(&(struct timespec){0, 100000}, NULL);
	int error = catalog_dir_find(conn, 1, "product", &d);
	catalog_read_end(conn);
	return error ? r : NULL;
}

static void test_no_more_than_8_read_at_once_and_the_others_wait_their_turn(void **state)
{
	pthread_t threads[24];
	struct reader r = {.e = *state};
	for (int i = 0; i < 24; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_thread, &r), 0);
	while (atomic_load(&r.arrived) < 24 || atomic_load(&r.inside) < 8)
		nanosleep(&(struct timespec){0, 100000}, NULL);
	nanosleep(&(struct timespec){0, 20000000}, NULL); /* time for a ninth to do what it must not */
	int inside = atomic_load(&r.inside);
	atomic_store(&r.leave, true);
	for (int i = 0; i < 24; i++) {
		void *failed = &r;
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(inside, 8);
	assert_int_equal(atomic_load(&r.inside), 24);
}

static void test_a_reader_sees_one_state_and_its_own_writes_next_time(void **state)
{
	struct env *e = *state;
	struct catalog_conn *conn = NULL;
	struct catalog_dir d;
	assert_int_equal(catalog_read_begin(e->c, &conn), 0);
	assert_int_equal(catalog_dir_find(conn, 2, "new", &d), -ENOENT);
	assert_int_equal(write_named(e, false, "new"), 0);
	assert_int_equal(catalog_dir_find(conn, 2, "new", &d), -ENOENT);
	assert_int_equal(catalog_dir_add(conn, &(struct catalog_dir){.parent = 2, .name = "x"}, &d.id), -EROFS); /* a reader cannot write */
	catalog_read_end(conn);
	assert_int_equal(catalog_read_begin(e->c, &conn), 0);
	assert_int_equal(catalog_dir_find(conn, 2, "new", &d), 0);
	catalog_read_end(conn);
}

/* ---- processes: children open the catalog themselves; nothing of SQLite is open when they are forked ---- */

static pid_t fork_writer(struct env *e, int who, int rows, bool durable, int acknowledge)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid != 0)
		return pid;
	struct catalog *c = NULL;
	int r = catalog_open(e->dirfd, false, NULL, &c, NULL);
	for (int i = 0; !r && i < rows; i++) {
		char name[32];
		snprintf(name, sizeof name, "p%d-%d", who, i);
		r = catalog_write(c, durable, add_named, name);
		if (!r && acknowledge >= 0 && write(acknowledge, &i, sizeof i) != sizeof i)
			r = -EIO;
	}
	catalog_close(c);
	_exit(r ? 1 : 0);
}

static void test_two_processes_that_write_at_once_lose_nothing(void **state)
{
	struct env *e = *state;
	env_close(e);
	pid_t a = fork_writer(e, 1, 1000, false, -1), b = fork_writer(e, 2, 1000, false, -1);
	int sa = -1, sb = -1;
	assert_int_equal(waitpid(a, &sa, 0), a);
	assert_int_equal(waitpid(b, &sb, 0), b);
	assert_int_equal(sa, 0);
	assert_int_equal(sb, 0);
	env_open(e);
	assert_int_equal(env_sql_int(e, "SELECT count(*) FROM dirs WHERE name GLOB 'p1-*'"), 1000);
	assert_int_equal(env_sql_int(e, "SELECT count(*) FROM dirs WHERE name GLOB 'p2-*'"), 1000);
	env_check_sound(e);
}

static void test_a_killed_process_leaves_a_sound_catalog_with_all_it_acknowledged(void **state)
{
	struct env *e = *state;
	env_close(e);
	for (int round = 0; round < 8; round++) {
		int fds[2], last = -1, i, status;
		assert_int_equal(pipe(fds), 0);
		pid_t pid = fork_writer(e, round, 1000000, round % 2 == 0, fds[1]);
		close(fds[1]);
		while (last < 7 * round + 3 && read(fds[0], &i, sizeof i) == sizeof i)
			last = i;
		kill(pid, SIGKILL);
		while (read(fds[0], &i, sizeof i) == sizeof i)
			last = i;
		close(fds[0]);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		env_open(e);
		char text[100];
		snprintf(text, sizeof text, "SELECT count(*) FROM dirs WHERE name GLOB 'p%d-*'", round);
		assert_in_range(env_sql_int(e, text), last + 1, last + 2); /* one may have been written and not been told of */
		env_check_sound(e);
		assert_int_equal(write_named(e, true, (char[]){'r', (char)('0' + round), '\0'}), 0);
		env_close(e);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, env_setup, env_teardown)
	const struct CMUnitTest tests[] = {
		T(test_64_threads_mint_64_numbers),
		T(test_a_write_alone_runs_where_it_was_asked_for),
		T(test_a_thread_of_low_priority_writes_at_the_usual_one),
		T(test_writes_that_wait_go_in_one_transaction_with_one_sync),
		T(test_a_failed_job_is_undone_and_its_neighbours_are_not),
		T(test_a_job_that_loses_the_transaction_fails_alone_and_the_others_run_again),
		T(test_a_commit_that_fails_is_answered_to_all_and_nothing_stays),
		T(test_a_job_on_a_full_disk_fails_alone),
		T(test_only_durable_writes_wait_for_the_disk_and_a_sync_is_free_after_them),
		T(test_a_durable_write_that_changes_nothing_still_makes_the_earlier_ones_durable),
		T(test_the_first_sync_of_a_catalog_covers_what_another_process_left_unsynced),
		T(test_a_failed_sync_is_reported_and_tried_again),
		T(test_a_write_is_synced_by_itself_after_a_rest),
		T(test_the_log_is_checkpointed_as_it_grows_and_emptied_at_the_end),
		T(test_closing_waits_for_nobody_and_loses_nothing_while_another_reads),
		T(test_locked_holds_the_lock_of_the_store_and_misuse_is_refused_not_hung),
		T(test_no_more_than_8_read_at_once_and_the_others_wait_their_turn),
		T(test_a_reader_sees_one_state_and_its_own_writes_next_time),
		T(test_two_processes_that_write_at_once_lose_nothing),
		T(test_a_killed_process_leaves_a_sound_catalog_with_all_it_acknowledged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
