/* Who is in a run, and what happens at its end, with real processes. */
#include "registry_env.h"

#include "../../src/registry/live.h"

#include <mintfs/caller.h>

/* ---- a family of processes ---- */

/* Each is a loop that does what it is told: 'f' forks a child, 's' forks one in a session of its own, 'x' and a byte exits. Its commands come by a pipe; by another
 * it tells its pid, once it holds nothing of the test any more. Both are made before the first fork, for all. */
#define FAMILY 6
struct family { int command[FAMILY][2], answer[FAMILY][2]; pid_t pid[FAMILY]; int made; };

/* What the test has open, the locks of drafts among it, is not theirs. */
static void keep_pipes_only(const struct family *f)
{
	for (int fd = 3; fd < 1024; fd++) {
		bool ours = false;
		for (int i = 0; i < FAMILY && !ours; i++)
			ours = fd == f->command[i][0] || fd == f->answer[i][1];
		if (!ours)
			close(fd);
	}
}

static void live_as(struct family *f, int me)
{
	keep_pipes_only(f);
	for (bool born = true;;) {
		unsigned char c[2];
		pid_t pid = getpid();
		if (born && write(f->answer[me][1], &pid, sizeof pid) != sizeof pid)
			_exit(99);
		if (read(f->command[me][0], c, 2) != 2 || c[0] == 'x')
			_exit(c[1]);
		born = fork() == 0;
		if (born && c[0] == 's')
			setsid();
		if (born)
			me = c[1];
	}
}

static void family_begin(struct family *f)
{
	*f = (struct family){0};
	for (int i = 0; i < FAMILY; i++) {
		assert_int_equal(pipe2(f->command[i], O_CLOEXEC), 0);
		assert_int_equal(pipe2(f->answer[i], O_CLOEXEC), 0);
	}
}

static int add(struct family *f, int parent, char how)
{
	int me = f->made++;
	if (parent < 0) {
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			live_as(f, me);
	} else {
		unsigned char c[2] = {(unsigned char)how, (unsigned char)me};
		assert_int_equal(write(f->command[parent][1], c, 2), 2);
	}
	assert_int_equal(read(f->answer[me][0], &f->pid[me], sizeof(pid_t)), sizeof(pid_t));
	return me;
}

static void family_end(struct family *f)
{
	for (int i = 0; i < FAMILY; i++)
		for (int k = 0; k < 2; k++) {
			close(f->command[i][k]); /* the end of the pipe ends who is left */
			close(f->answer[i][k]);
		}
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/* What each test begins with: a store, two models, and a family of nobody yet. */
struct scene { struct fixture *x; struct family f; int64_t model, other; };

static int scene_setup(void **state)
{
	struct scene *s = calloc(1, sizeof *s);
	void *x;
	assert_int_equal(setup(&x), 0);
	s->x = x;
	s->model = make_path(s->x, "product/P001_all/mlstm");
	s->other = make_path(s->x, "product/P002_all/mlstm");
	family_begin(&s->f);
	*state = s;
	return 0;
}

static int scene_teardown(void **state)
{
	struct scene *s = *state;
	void *x = s->x;
	family_end(&s->f);
	free(s);
	return teardown(&x);
}

static int child_of(struct scene *s, int parent) { return add(&s->f, parent, 'f'); }

static void ends(struct scene *s, int who, unsigned char status)
{
	unsigned char c[2] = {'x', status};
	assert_int_equal(write(s->f.command[who][1], c, 2), 2);
}

static struct registry_actor as(const struct scene *s, int who) { return (struct registry_actor){s->f.pid[who], getuid(), getgid()}; }

static struct catalog_version mints(struct scene *s, int who)
{
	struct registry_actor a = as(s, who);
	struct catalog_version v;
	struct fault why = FAULT_INIT;
	if (registry_mint(s->x->r, &a, s->model, "latest", 0755, &v, &why) != 0)
		fail_msg("%s", why.text);
	return v;
}

static void writes(struct scene *s, int who, int64_t version, const char *name)
{
	struct registry_actor a = as(s, who);
	registry_draft_joined(s->x->r, version, &a);
	put(s->x, version, name, "weights");
}

static uint32_t latest_of(struct scene *s, int who)
{
	struct registry_actor a = as(s, who);
	uint32_t n;
	return registry_latest(s->x->r, s->model, &a, &n) == 0 ? n : 0;
}

static bool is_gone(pid_t pid)
{
	struct caller_process p;
	return caller_process_of(pid, &p) < 0 || !caller_alive(p);
}

/* What is known of a process that ended has been dealt with when a later one, watched by the same thread, has been. */
static void wait_until_noticed(struct scene *s)
{
	struct fixture *x = s->x;
	int hold;
	pid_t pid = child_that_waits(&hold);
	struct registry_actor a = {pid, getuid(), getgid()};
	struct catalog_version v;
	assert_int_equal(registry_mint(x->r, &a, s->other, "next", 0755, &v, NULL), 0);
	let_end(pid, hold, 1); /* failed and empty: discarded */
	WAIT_FOR(get(x, v.id).state == CATALOG_DISCARDED);
	registry_settle(x->r);
}

#define NEEDS_EXIT_STATUS \
	if (!kernel_tells_exit()) \
		skip()

/* ---- who holds ---- */

static void test_after_mkdir_the_shell_holds_the_draft_and_its_commands_find_it(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	NEEDS_EXIT_STATUS;
	int shell = child_of(s, -1), mkdir_ = child_of(s, shell), stranger = child_of(s, -1);
	struct catalog_version v = mints(s, mkdir_);
	ends(s, mkdir_, 0);
	WAIT_FOR(is_gone(s->f.pid[mkdir_]));
	wait_until_noticed(s);
	int cp = child_of(s, shell);
	assert_int_equal(latest_of(s, cp), v.number);
	assert_int_equal(latest_of(s, shell), v.number);
	assert_int_equal(latest_of(s, stranger), 0);
	writes(s, cp, v.id, "model.pth");
	ends(s, cp, 0);
	WAIT_FOR(is_gone(s->f.pid[cp]));
	wait_until_noticed(s);
	assert_int_equal(get(x, v.id).state, CATALOG_DRAFT); /* the shell may go on */
	ends(s, shell, 0);
	WAIT_FOR(get(x, v.id).state == CATALOG_COMMITTED);
}

static void test_a_shell_that_mints_three_times_gets_three_versions(void **state)
{
	struct scene *s = *state;
	int shell = child_of(s, -1);
	for (uint32_t i = 1; i <= 3; i++) {
		int mkdir_ = child_of(s, shell);
		assert_int_equal(mints(s, mkdir_).number, i);
		ends(s, mkdir_, 0);
		WAIT_FOR(is_gone(s->f.pid[mkdir_]));
		assert_int_equal(latest_of(s, shell), i);
	}
}

/* Ends are not always told in their order; a minter that outlives its script gives the same. */
static void script_ends_before_its_mkdir(struct scene *s, unsigned char status, struct catalog_version *ret)
{
	int script = child_of(s, -1), mkdir_ = child_of(s, script);
	*ret = mints(s, mkdir_);
	writes(s, script, ret->id, "model.pth");
	ends(s, script, status);
	WAIT_FOR(is_gone(s->f.pid[script]));
	wait_until_noticed(s);
	assert_int_equal(get(s->x, ret->id).state, CATALOG_DRAFT);
	ends(s, mkdir_, 0);
}

static void test_a_script_that_ended_before_its_mkdir_still_ends_the_run(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	NEEDS_EXIT_STATUS;
	struct catalog_version good, bad;
	script_ends_before_its_mkdir(s, 0, &good);
	WAIT_FOR(get(x, good.id).state == CATALOG_COMMITTED);
	script_ends_before_its_mkdir(s, 4, &bad);
	char *reason = NULL;
	WAIT_FOR((reason = reason_of(x, bad.id)) != NULL);
	assert_string_equal(reason, "failed: exit 4");
	free(reason);
	assert_int_equal(get(x, bad.id).state, CATALOG_DRAFT);
}

static void test_what_a_scripts_command_returns_is_the_scripts_business(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	NEEDS_EXIT_STATUS;
	int script = child_of(s, -1), mkdir_ = child_of(s, script), python = child_of(s, script);
	struct catalog_version v = mints(s, mkdir_);
	ends(s, mkdir_, 0);
	WAIT_FOR(is_gone(s->f.pid[mkdir_]));
	wait_until_noticed(s);
	writes(s, python, v.id, "model.pth");
	ends(s, python, 3);
	WAIT_FOR(is_gone(s->f.pid[python]));
	wait_until_noticed(s);
	ends(s, script, 0);
	WAIT_FOR(get(x, v.id).state == CATALOG_COMMITTED);
}

static void test_a_run_is_over_when_the_last_process_that_wrote_has_ended(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	NEEDS_EXIT_STATUS;
	int trainer = child_of(s, -1), worker = child_of(s, trainer);
	struct catalog_version v = mints(s, trainer);
	writes(s, trainer, v.id, "model.pth");
	writes(s, worker, v.id, "log.txt");
	ends(s, trainer, 0);
	WAIT_FOR(is_gone(s->f.pid[trainer]));
	wait_until_noticed(s);
	assert_int_equal(get(x, v.id).state, CATALOG_DRAFT);
	ends(s, worker, 5); /* nobody above it lives: its status counts */
	char *reason = NULL;
	WAIT_FOR((reason = reason_of(x, v.id)) != NULL);
	assert_string_equal(reason, "failed: exit 5");
	free(reason);
}

static void test_a_killed_run_says_so_as_a_shell_would(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	NEEDS_EXIT_STATUS;
	int trainer = child_of(s, -1);
	struct catalog_version v = mints(s, trainer);
	writes(s, trainer, v.id, "model.pth");
	kill(s->f.pid[trainer], SIGKILL);
	char *reason = NULL;
	WAIT_FOR((reason = reason_of(x, v.id)) != NULL);
	assert_string_equal(reason, "failed: exit 137");
	free(reason);
}

static void test_a_failed_draft_is_taken_up_again_by_its_shell(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	NEEDS_EXIT_STATUS;
	int shell = child_of(s, -1), first = child_of(s, shell), second = child_of(s, shell);
	struct catalog_version v = mints(s, first);
	writes(s, first, v.id, "model.pth");
	ends(s, first, 1);
	char *reason = NULL;
	WAIT_FOR((reason = reason_of(x, v.id)) != NULL);
	free(reason);
	assert_int_equal(latest_of(s, second), v.number);
	writes(s, second, v.id, "model.pth");
	assert_null(reason_of(x, v.id));
	ends(s, second, 0);
	WAIT_FOR(is_gone(s->f.pid[second]));
	ends(s, shell, 0);
	WAIT_FOR(get(x, v.id).state == CATALOG_COMMITTED);
}

static void test_an_open_file_holds_the_end_of_a_run_up(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	NEEDS_EXIT_STATUS;
	struct draft *d;
	struct stat st;
	bool writable;
	int trainer = child_of(s, -1);
	struct catalog_version v = mints(s, trainer);
	writes(s, trainer, v.id, "model.pth");
	assert_int_equal(registry_draft_get(x->r, v.id, &d, &writable), 0);
	assert_int_equal(fstatat(draft_root(d), "model.pth", &st, 0), 0);
	assert_int_equal(draft_file_opened(d, st.st_ino, true, "model.pth"), 0);
	ends(s, trainer, 0);
	WAIT_FOR(is_gone(s->f.pid[trainer]));
	wait_until_noticed(s);
	assert_int_equal(get(x, v.id).state, CATALOG_DRAFT);
	draft_file_closed(d, st.st_ino, true, -1);
	draft_put(d);
	WAIT_FOR(get(x, v.id).state == CATALOG_COMMITTED);
}

struct gate { pthread_mutex_t mutex; atomic_uint came; };

static void pass_gate(void *arg)
{
	struct gate *g = arg;
	atomic_fetch_add(&g->came, 1);
	pthread_mutex_lock(&g->mutex);
	pthread_mutex_unlock(&g->mutex);
}

static bool is_settling(struct fixture *x, int64_t version)
{
	auto_live struct live *l = live_find(x->r->live, version);
	SCOPED_LOCK(&x->r->live->mutex);
	return l->settling;
}

static void test_a_file_opened_between_the_end_of_a_run_and_its_judgement_holds_it_up(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	NEEDS_EXIT_STATUS;
	struct gate gate = {.mutex = PTHREAD_MUTEX_INITIALIZER};
	struct draft *d;
	bool writable;
	int trainer = child_of(s, -1);
	struct catalog_version v = mints(s, trainer);
	writes(s, trainer, v.id, "model.pth");
	assert_int_equal(registry_draft_get(x->r, v.id, &d, &writable), 0);
	pthread_mutex_lock(&gate.mutex);
	for (int i = 0; i < JOBS_THREADS; i++)
		assert_int_equal(workq_submit(x->r->jobs, pass_gate, &gate), 0);
	WAIT_FOR(atomic_load(&gate.came) == JOBS_THREADS); /* all are held */
	ends(s, trainer, 0);
	WAIT_FOR(is_settling(x, v.id));
	assert_int_equal(draft_file_opened(d, 1, false, "model.pth"), 0); /* somebody reads */
	pthread_mutex_unlock(&gate.mutex);
	registry_settle(x->r);
	assert_int_equal(get(x, v.id).state, CATALOG_DRAFT);
	draft_file_closed(d, 1, false, -1);
	draft_put(d);
	WAIT_FOR(get(x, v.id).state == CATALOG_COMMITTED);
}

/* The kernel drops a mapping's file with the process; but somebody else's writable descriptor, behind the drive's back, does not go with the run. */
static void test_a_commit_that_met_a_busy_file_is_tried_again_at_the_next_close(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	NEEDS_EXIT_STATUS;
	struct draft *d;
	bool writable;
	char *reason = NULL;
	int trainer = child_of(s, -1);
	struct catalog_version v = mints(s, trainer);
	writes(s, trainer, v.id, "model.pth");
	assert_int_equal(registry_draft_get(x->r, v.id, &d, &writable), 0);
	int fd = openat(draft_root(d), "model.pth", O_WRONLY);
	assert_true(fd >= 0);
	ends(s, trainer, 0);
	WAIT_FOR((reason = reason_of(x, v.id)) != NULL);
	assert_non_null(strstr(reason, "model.pth"));
	free(reason);
	registry_settle(x->r);
	registry_settle(x->r);
	registry_settle(x->r); /* its tries have ended */
	assert_int_equal(get(x, v.id).state, CATALOG_DRAFT);
	close(fd);
	assert_int_equal(draft_file_opened(d, 1, false, NULL), 0); /* any file is opened and closed */
	draft_file_closed(d, 1, false, -1);
	WAIT_FOR(get(x, v.id).state == CATALOG_COMMITTED);
	draft_put(d);
}

static void test_a_draft_of_empty_directories_is_discarded_at_the_end(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	NEEDS_EXIT_STATUS;
	struct draft *d;
	bool writable;
	int trainer = child_of(s, -1);
	struct catalog_version v = mints(s, trainer);
	struct registry_actor a = as(s, trainer);
	registry_draft_joined(x->r, v.id, &a);
	assert_int_equal(registry_draft_get(x->r, v.id, &d, &writable), 0);
	assert_int_equal(mkdirat(draft_root(d), "checkpoints", 0755), 0);
	draft_put(d);
	ends(s, trainer, 0);
	WAIT_FOR(get(x, v.id).state == CATALOG_DISCARDED);
	WAIT_FOR(!exists(x, "drafts/%lld", v.id));
}

/* ---- run ids ---- */

static pid_t sleeper(const char *run)
{
	char variable[64];
	snprintf(variable, sizeof variable, "MINTFS_RUN=%s", run);
	char program[] = "/bin/sleep", time[] = "1000";
	char *argv[] = {program, time, NULL}, *envp[] = {variable, NULL};
	pid_t pid = fork();
	if (pid == 0) {
		execve("/bin/sleep", argv, envp);
		_exit(99);
	}
	struct caller c;
	WAIT_FOR((caller_identify(pid, 0, 0, &c), !strcmp(c.run_id, run)));
	return pid;
}

static void test_processes_with_one_run_id_share_one_draft(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	pid_t pid[3] = {sleeper("alpha"), sleeper("alpha"), sleeper("beta")};
	struct registry_actor a[3];
	struct catalog_version v[3];
	struct fault f = FAULT_INIT;
	uint32_t n;
	for (int i = 0; i < 3; i++)
		a[i] = (struct registry_actor){pid[i], getuid(), getgid()};
	assert_int_equal(registry_mint(x->r, &a[0], s->model, "latest", 0755, &v[0], &f), 0);
	assert_int_equal(registry_mint(x->r, &a[1], s->model, "latest", 0755, &v[1], &f), -EEXIST);
	assert_int_equal(f.verdict, VERDICT_EXISTS);
	assert_int_equal(registry_latest(x->r, s->model, &a[1], &n), 0);
	assert_int_equal(n, 1);
	assert_int_equal(registry_latest(x->r, s->model, &a[2], &n), -ENOENT);
	assert_int_equal(registry_mint(x->r, &a[2], s->model, "latest", 0755, &v[2], &f), 0);
	assert_int_equal(v[2].number, 2);
	for (int i = 0; i < 3; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
}

struct race { struct fixture *x; int64_t model; struct registry_actor who; int results[2]; /* minted, refused with EEXIST */ pthread_barrier_t *start; };

static void *mint_in_a_thread(void *arg)
{
	struct race *r = arg;
	struct catalog_version v;
	pthread_barrier_wait(r->start);
	int rc = registry_mint(r->x->r, &r->who, r->model, "latest", 0755, &v, NULL);
	if (rc == 0 || rc == -EEXIST)
		__atomic_add_fetch(&r->results[rc == 0 ? 0 : 1], 1, __ATOMIC_SEQ_CST);
	return NULL;
}

static void test_all_ranks_of_a_run_that_mint_at_once_get_one_version(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	pid_t pid = sleeper("ranks");
	pthread_barrier_t start;
	pthread_t threads[8];
	struct race r = {.x = x, .model = s->model, .who = {pid, getuid(), getgid()}, .start = &start};
	pthread_barrier_init(&start, NULL, ARRAY_SIZE(threads));
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, mint_in_a_thread, &r), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&start);
	assert_int_equal(r.results[0], 1);
	assert_int_equal(r.results[1], 7);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* ---- services ---- */

static void test_a_service_above_two_sessions_holds_the_drafts_of_neither(void **state)
{
	/* service (leads a session, child of init) → session shell (leads its own) → mkdir */
	struct scene *s = *state;
	struct caller c = {.self = {.pid = getpid()}, .n_ancestors = 2};
	int service = child_of(s, -1), shell;
	pid_t leader = fork();
	if (leader == 0) {
		setsid();
		live_as(&s->f, 5);
	}
	s->f.pid[5] = leader;
	WAIT_FOR(getsid(leader) == leader);
	shell = add(&s->f, 5, 's');
	WAIT_FOR(getsid(s->f.pid[shell]) == s->f.pid[shell]);
	int script = child_of(s, 5);
	c.self.pid = s->f.pid[service];
	c.ancestors[0].pid = s->f.pid[shell];
	c.ancestors[1].pid = leader;
	run_leave_out_service(&c);
	assert_int_equal(c.n_ancestors, 1);
	c = (struct caller){.self = {.pid = s->f.pid[script]}, .n_ancestors = 1, .ancestors = {{.pid = leader}}};
	run_leave_out_service(&c); /* setsid train.sh: one session with what it starts */
	assert_int_equal(c.n_ancestors, 1);
}

/* ---- mounts come and go ---- */

static void remount(struct fixture *x)
{
	registry_close(x->r);
	open_store(x);
}

static void test_a_run_that_writes_after_a_remount_commits_at_its_end(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	NEEDS_EXIT_STATUS;
	int trainer = child_of(s, -1);
	struct catalog_version v = mints(s, trainer);
	writes(s, trainer, v.id, "model.pth");
	remount(x);
	assert_int_equal(latest_of(s, trainer), v.number);
	writes(s, trainer, v.id, "checkpoint_best.pth");
	ends(s, trainer, 0);
	WAIT_FOR(get(x, v.id).state == CATALOG_COMMITTED);
}

/* The record of a run as if nobody stood above the minting process and its parent: those above this test would never end. */
static int without_grandparents(struct catalog_conn *conn, void *arg)
{
	struct catalog_run run;
	int rc = catalog_run_get(conn, *(int64_t *)arg, &run);
	if (rc < 0)
		return rc;
	char *end = strchr(strchr(run.chain, ' ') + 1, ' ');
	if (end)
		*end = '\0';
	rc = catalog_run_update(conn, &run);
	catalog_run_release(&run);
	return rc;
}

static void test_a_run_that_ended_while_nothing_was_mounted_never_commits_by_itself(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	char *reason = NULL;
	int shell = child_of(s, -1), trainer = child_of(s, shell);
	struct catalog_version v = mints(s, trainer);
	writes(s, trainer, v.id, "model.pth");
	assert_int_equal(catalog_write(x->r->catalog, false, without_grandparents, &v.run_id), 0);
	registry_close(x->r);
	ends(s, trainer, 1); /* nobody sees that it failed */
	WAIT_FOR(is_gone(s->f.pid[trainer]));
	open_store(x);
	assert_int_equal(latest_of(s, shell), v.number); /* held by the shell */
	ends(s, shell, 0);
	WAIT_FOR((reason = reason_of(x, v.id)) != NULL);
	assert_non_null(strstr(reason, "not known"));
	assert_int_equal(get(x, v.id).state, CATALOG_DRAFT);
	free(reason);
}

/* The record of a run as if it had been made before the machine was started again. */
static int of_another_boot(struct catalog_conn *conn, void *arg)
{
	struct catalog_run run;
	int rc = catalog_run_get(conn, *(int64_t *)arg, &run);
	if (rc < 0)
		return rc;
	free(run.boot_id);
	run.boot_id = strdup("00000000-0000-0000-0000-000000000000");
	rc = catalog_run_update(conn, &run);
	catalog_run_release(&run);
	return rc;
}

static void test_the_reason_of_a_failed_draft_survives_a_remount(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	NEEDS_EXIT_STATUS;
	char *reason = NULL;
	int trainer = child_of(s, -1);
	struct catalog_version v = mints(s, trainer);
	writes(s, trainer, v.id, "model.pth");
	ends(s, trainer, 3);
	WAIT_FOR((reason = reason_of(x, v.id)) != NULL);
	free(reason);
	assert_int_equal(catalog_write(x->r->catalog, false, of_another_boot, &v.run_id), 0); /* so that nobody holds it */
	remount(x);
	registry_settle(x->r);
	reason = reason_of(x, v.id);
	assert_string_equal(reason, "failed: exit 3");
	free(reason);
}

static void test_after_a_reboot_a_process_with_the_same_numbers_is_not_the_minter(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	char *reason = NULL;
	int trainer = child_of(s, -1);
	struct catalog_version v = mints(s, trainer), empty = mints(s, child_of(s, -1));
	writes(s, trainer, v.id, "model.pth");
	assert_int_equal(catalog_write(x->r->catalog, false, of_another_boot, &v.run_id), 0);
	assert_int_equal(catalog_write(x->r->catalog, false, of_another_boot, &empty.run_id), 0);
	remount(x);
	assert_int_equal(latest_of(s, trainer), 0);
	WAIT_FOR((reason = reason_of(x, v.id)) != NULL);
	assert_non_null(strstr(reason, "not known"));
	free(reason);
	WAIT_FOR(get(x, empty.id).state == CATALOG_DISCARDED);
}

/* ---- the end of a run whose draft is none any more ---- */

struct run_end { int64_t ended_ns; int status; };

static struct run_end end_of(struct fixture *x, int64_t run_id)
{
	struct catalog_run run;
	struct catalog_conn *conn;
	assert_int_equal(catalog_read_begin(x->r->catalog, &conn), 0);
	assert_int_equal(catalog_run_get(conn, run_id, &run), 0);
	struct run_end end = {run.ended_ns, run.exit_status};
	catalog_run_release(&run);
	catalog_read_end(conn);
	return end;
}

static void test_how_a_run_ended_is_recorded_though_its_draft_was_committed_by_hand_before(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	NEEDS_EXIT_STATUS;
	int trainer = child_of(s, -1), worker = child_of(s, trainer);
	struct catalog_version first = mints(s, trainer);
	writes(s, trainer, first.id, "model.pth");
	writes(s, worker, first.id, "log.txt");
	commit_ok(x, first.id);
	struct catalog_version second = mints(s, trainer); /* the next of the same training */
	writes(s, trainer, second.id, "model.pth");
	commit_ok(x, second.id);
	ends(s, trainer, 3);
	WAIT_FOR(end_of(x, second.run_id).ended_ns != 0);
	assert_int_equal(end_of(x, second.run_id).status, 3 << 8);
	wait_until_noticed(s);
	assert_int_equal(end_of(x, first.run_id).ended_ns, 0); /* its worker lives */
	ends(s, worker, 0);
	WAIT_FOR(end_of(x, first.run_id).ended_ns != 0);
	assert_int_equal(end_of(x, first.run_id).status, 3 << 8);
	assert_true(end_of(x, first.run_id).ended_ns >= end_of(x, second.run_id).ended_ns);
	assert_int_equal(get(x, first.id).state, CATALOG_COMMITTED);
	assert_int_equal(get(x, second.id).state, CATALOG_COMMITTED);
	assert_int_equal(x->r->live->n_after, 0);
}

static void test_how_a_run_ended_is_recorded_though_its_draft_was_discarded_before(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	NEEDS_EXIT_STATUS;
	struct fault why = FAULT_INIT;
	int trainer = child_of(s, -1);
	struct catalog_version v = mints(s, trainer);
	writes(s, trainer, v.id, "model.pth");
	assert_int_equal(registry_discard(x->r, &x->me, v.id, REGISTRY_DISCARD_FORCE, &why), 0);
	ends(s, trainer, 0);
	WAIT_FOR(end_of(x, v.run_id).ended_ns != 0);
	assert_int_equal(end_of(x, v.run_id).status, 0);
	assert_int_equal(get(x, v.id).state, CATALOG_DISCARDED);
}

static void test_of_a_process_that_commits_without_end_the_last_runs_are_waited_for(void **state)
{
	struct scene *s = *state;
	struct fixture *x = s->x;
	struct live_table t = {.r = x->r, .watch = x->r->live->watch};
	t.after_tail = &t.after;
	for (int64_t i = 1; i <= 2 * LIVE_AFTER_MAX; i++) {
		struct live l = {.table = &t, .version_id = i, .run_id = i, .n_chain = 1, .chain = {{getpid(), 1}}};
		live_after_begin(&t, &l);
	}
	assert_int_equal(t.n_after, LIVE_AFTER_MAX);
	assert_int_equal(t.after->version_id, LIVE_AFTER_MAX + 1);
	for (int64_t i = 1; i <= LIVE_AFTER_MAX; i++)
		live_after_end(&t, t.after);
	assert_int_equal(t.n_after, 0);
	assert_ptr_equal(t.after_tail, &t.after);
	live_after_free(&t);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, scene_setup, scene_teardown)
	const struct CMUnitTest tests[] = {
		T(test_after_mkdir_the_shell_holds_the_draft_and_its_commands_find_it),
		T(test_a_shell_that_mints_three_times_gets_three_versions),
		T(test_a_script_that_ended_before_its_mkdir_still_ends_the_run),
		T(test_what_a_scripts_command_returns_is_the_scripts_business),
		T(test_a_run_is_over_when_the_last_process_that_wrote_has_ended),
		T(test_a_killed_run_says_so_as_a_shell_would),
		T(test_a_failed_draft_is_taken_up_again_by_its_shell),
		T(test_an_open_file_holds_the_end_of_a_run_up),
		T(test_a_file_opened_between_the_end_of_a_run_and_its_judgement_holds_it_up),
		T(test_a_commit_that_met_a_busy_file_is_tried_again_at_the_next_close),
		T(test_a_draft_of_empty_directories_is_discarded_at_the_end),
		T(test_processes_with_one_run_id_share_one_draft),
		T(test_all_ranks_of_a_run_that_mint_at_once_get_one_version),
		T(test_a_service_above_two_sessions_holds_the_drafts_of_neither),
		T(test_a_run_that_writes_after_a_remount_commits_at_its_end),
		T(test_a_run_that_ended_while_nothing_was_mounted_never_commits_by_itself),
		T(test_the_reason_of_a_failed_draft_survives_a_remount),
		T(test_after_a_reboot_a_process_with_the_same_numbers_is_not_the_minter),
		T(test_how_a_run_ended_is_recorded_though_its_draft_was_committed_by_hand_before),
		T(test_how_a_run_ended_is_recorded_though_its_draft_was_discarded_before),
		T(test_of_a_process_that_commits_without_end_the_last_runs_are_waited_for),
	};
	return cmocka_run_group_tests_name("registry, runs", tests, NULL, NULL);
}
