/* Room caller: the state of a git work tree, asked of a real git. */
#include "test_caller_child.h"

#include <ftw.h>
#include <grp.h>
#include <mintfs/util.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

#include "../../src/caller/proc.h"

#define NOBODY 65534

static void run(const char *dir, const char *script)
{
	char command[2048];
	snprintf(command, sizeof command,
		 "cd '%s' && export HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b "
		 "GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b && { %s\n} >/dev/null 2>&1", dir, script);
	if (system(command) != 0)
		fail_msg("failed: %s", script);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void remove_tree(const char *dir)
{
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A directory of its own for each test, in which `w` is a work tree with one commit. */
struct place {
	char top[64], tree[80], commit[65];
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof *p);
	assert_non_null(p);
	strcpy(p->top, "/tmp/mintfs-git-XXXXXX");
	assert_non_null(mkdtemp(p->top));
	assert_int_equal(chmod(p->top, 0755), 0);
	snprintf(p->tree, sizeof p->tree, "%s/w", p->top);
	run(p->top, "git init w && cd w && mkdir sub && echo 1 >train.py && echo 1 >sub/data && git add . && git commit -m first");
	run(p->top, "git -C w log -1 --format=%H >commit");
	char path[96];
	snprintf(path, sizeof path, "%s/commit", p->top);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%64[0-9a-f]", p->commit), 1);
	fclose(f);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	remove_tree(p->top);
	free(p);
	return 0;
}

/* git has the lowest priority and, of the daemon, five seconds. What it answers is asked here, however busy the machine. */
static int ask_as(uid_t uid, gid_t gid, const char *dir, char commit[65], bool *ret_dirty)
{
	return git_state_within(dir, uid, gid, 100 * NS_PER_SEC, commit, ret_dirty);
}

/* By the user who runs the test. */
static int ask(const char *dir, char commit[65], bool *ret_dirty)
{
	return ask_as(geteuid(), getegid(), dir, commit, ret_dirty);
}

static void expect(const struct place *p, const char *dir, bool dirty)
{
	char commit[65] = "";
	bool is_dirty = !dirty;
	assert_int_equal(ask(dir, commit, &is_dirty), 0);
	assert_string_equal(commit, p->commit);
	assert_int_equal(is_dirty, dirty);
}

static void expect_none(const char *dir)
{
	char commit[65] = "untouched";
	bool dirty = true;
	assert_int_equal(ask(dir, commit, &dirty), -ENOENT);
	assert_string_equal(commit, "untouched");
	assert_true(dirty);
}

static void test_clean_work_tree_has_its_commit(void **state)
{
	struct place *p = *state;
	char sub[96];
	snprintf(sub, sizeof sub, "%s/sub", p->tree);
	assert_int_equal(strlen(p->commit), 40);
	expect(p, p->tree, false);
	expect(p, sub, false);
	run(p->tree, "touch -d '2001-01-01' train.py"); /* other times, same bytes */
	expect(p, p->tree, false);
}

static void test_work_tree_is_dirty_by_tracked_files_only(void **state)
{
	struct place *p = *state;
	char sub[96];
	snprintf(sub, sizeof sub, "%s/sub", p->tree);
	run(p->tree, "echo x >untracked");
	expect(p, p->tree, false);
	run(p->tree, "echo 2 >train.py");
	expect(p, p->tree, true);
	expect(p, sub, true);
	run(p->tree, "git add train.py");
	expect(p, p->tree, true);
	run(p->tree, "git reset --hard && rm sub/data");
	expect(p, p->tree, true);
}

static void test_many_changes_are_as_dirty_as_one(void **state)
{
	struct place *p = *state;
	run(p->tree, "i=0; while [ $i -lt 2000 ]; do echo >a_file_with_quite_a_long_name_$i; i=$((i+1)); done; git add .");
	expect(p, p->tree, true);
}

static void test_directory_without_a_commit_has_none(void **state)
{
	struct place *p = *state;
	char dir[128];
	expect_none(p->top);
	expect_none("/nonexistent");
	expect_none("relative");
	expect_none(NULL);
	run(p->top, "git init unborn && git clone --bare w bare.git");
	snprintf(dir, sizeof dir, "%s/unborn", p->top);
	expect_none(dir);
	snprintf(dir, sizeof dir, "%s/bare.git", p->top);
	expect_none(dir);
	snprintf(dir, sizeof dir, "%s/.git", p->tree);
	expect_none(dir);
}

/* A repository that came along in a directory brings its own commands with it. */
static void test_bare_repository_that_hides_in_a_directory_is_not_taken(void **state)
{
	struct place *p = *state;
	char dir[128];
	run(p->top, "git clone --bare w hidden && cd hidden && git config core.bare false && "
		    "git config core.worktree \"$PWD/../w\" && git rev-parse --verify HEAD && git status"); /* else this would prove nothing */
	snprintf(dir, sizeof dir, "%s/hidden", p->top);
	expect_none(dir);
}

static void test_sha256_commits_are_read_whole(void **state)
{
	struct place *p = *state;
	char dir[128], commit[65] = "";
	bool dirty = true;
	run(p->top, "git init --object-format=sha256 s && cd s && echo 1 >a && git add a && git commit -m a");
	snprintf(dir, sizeof dir, "%s/s", p->top);
	assert_int_equal(ask(dir, commit, &dirty), 0);
	assert_int_equal(strlen(commit), 64);
	assert_false(dirty);
}

static void test_index_is_not_written(void **state)
{
	struct place *p = *state;
	char path[128];
	struct stat before, after;
	run(p->tree, "touch -d '2001-01-01' train.py .git/index");
	snprintf(path, sizeof path, "%s/.git/index", p->tree);
	assert_int_equal(stat(path, &before), 0);
	expect(p, p->tree, false);
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_mtim.tv_sec, after.st_mtim.tv_sec);
	assert_int_equal(before.st_ino, after.st_ino);
}

static void test_hooks_and_fsmonitor_are_not_run(void **state)
{
	struct place *p = *state;
	char mark[128];
	snprintf(mark, sizeof mark, "%s/ran", p->top);
	run(p->tree, "printf '#!/bin/sh\\ntouch ../ran\\n' >.git/hooks/post-index-change && chmod +x .git/hooks/post-index-change && "
		     "cp .git/hooks/post-index-change ../monitor && git config core.fsmonitor \"$PWD/../monitor\"");
	run(p->tree, "git status && test -e ../ran && rm ../ran"); /* else this would prove nothing */
	expect(p, p->tree, false);
	assert_int_equal(access(mark, F_OK), -1);
}

static void test_work_tree_of_somebody_else_is_not_looked_at(void **state)
{
	struct place *p = *state;
	char commit[65];
	bool dirty;
	if (geteuid() != 0) {
		assert_int_equal(ask_as(geteuid() + 1, getegid(), p->tree, commit, &dirty), -ENOENT);
		return;
	}
	assert_int_equal(ask_as(NOBODY, NOBODY, p->tree, commit, &dirty), -ENOENT);
	run(p->top, "chown -R 65534:65534 w");
	assert_int_equal(ask_as(NOBODY, NOBODY, p->tree, commit, &dirty), 0);
	assert_int_equal(ask_as(0, 0, p->tree, commit, &dirty), -ENOENT);
	run(p->top, "chmod 700 .");
	assert_int_equal(ask_as(NOBODY, NOBODY, p->tree, commit, &dirty), -ENOENT);
}

/* A clean filter of the repository, which `git status` runs, looks around from inside the child. */
static void test_git_runs_as_the_user_with_nothing_of_the_daemon(void **state)
{
	struct place *p = *state;
	char command[256], commit[65];
	bool dirty;
	if (geteuid() != 0)
		skip();
	run(p->tree, "echo '*.py filter=spy' >.gitattributes && git config filter.spy.clean '"
		     "{ grep -E \"^(Uid|Gid|Groups|SigIgn|NoNewPrivs)\" /proc/self/status; env; "
		     "test -e /proc/self/fd/77 && echo leaked; test -t 0 && echo tty; i=0; "
		     /* git itself blocks signals for a moment around its fork */
		     "until grep -q \"^SigBlk:.0000000000000000$\" /proc/$PPID/status; do test $((i+=1)) -lt 200 || break; done; "
		     "test $i -lt 200 && echo unblocked; } >seen; cat'");
	run(p->tree, "touch -d '2001-01-01' train.py && chown -R 65534:65533 .");
	int leak = dup2(0, 77); /* a descriptor without close-on-exec */
	gid_t groups[] = {4, 5}, old_groups[64];
	int n_old = getgroups(64, old_groups);
	assert_true(n_old >= 0);
	assert_int_equal(setgroups(2, groups), 0);
	void (*old)(int) = signal(SIGHUP, SIG_IGN);
	setenv("MINTFS_SECRET", "1", 1);
	int r = ask_as(NOBODY, 65533, p->tree, commit, &dirty);
	unsetenv("MINTFS_SECRET");
	signal(SIGHUP, old);
	assert_int_equal(setgroups((size_t)n_old, old_groups), 0);
	close(leak);
	assert_int_equal(r, 0);
	snprintf(command, sizeof command, "cp '%s'/seen '%s'/spied", p->tree, p->top);
	assert_int_equal(system(command), 0);
	run(p->top, "! grep -q SECRET spied && ! grep -q leaked spied && ! grep -q tty spied");
	run(p->top, "grep -q '^Uid:\t65534\t65534\t65534\t65534$' spied && grep -q '^Gid:\t65533\t65533\t65533\t65533$' spied");
	run(p->top, "grep -Eq '^Groups:\t *$' spied && grep -q '^NoNewPrivs:\t1$' spied");
	run(p->top, "grep -q '^SigIgn:\t0000000000000000$' spied && grep -qx unblocked spied");
	run(p->top, "grep -qx HOME=/nonexistent spied && grep -qx GIT_OPTIONAL_LOCKS=0 spied && "
		    "grep -qx GIT_TERMINAL_PROMPT=0 spied");
}

static void test_git_of_root_has_no_capability(void **state)
{
	struct place *p = *state;
	char commit[65];
	bool dirty;
	if (geteuid() != 0)
		skip();
	run(p->tree, "echo '*.py filter=spy' >.gitattributes && git config filter.spy.clean 'grep ^Cap /proc/self/status >../spied; cat' && "
		     "touch -d '2001-01-01' train.py");
	assert_int_equal(ask_as(0, 0, p->tree, commit, &dirty), 0);
	run(p->top, "for set in CapInh CapPrm CapEff CapAmb; do grep -q \"^$set:.0000000000000000$\" spied || exit 1; done");
}

static void test_git_that_hangs_is_ended_with_all_its_children(void **state)
{
	struct place *p = *state;
	char path[128], commit[65] = "untouched";
	bool dirty;
	run(p->tree, "echo '*.py filter=slow' >.gitattributes && git config filter.slow.clean 'echo $$ >pid; exec sleep 600' && "
		     "touch -d '2001-01-01' train.py");
	int64_t begin = clock_ms();
	assert_int_equal(caller_git_state(p->tree, geteuid(), getegid(), commit, &dirty), -ETIMEDOUT);
	assert_in_range(clock_ms() - begin, 4900, 60000); /* not ten minutes */
	assert_string_equal(commit, "untouched");
	snprintf(path, sizeof path, "%s/pid", p->tree);
	FILE *f = fopen(path, "r");
	int pid = 0;
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%d", &pid), 1);
	fclose(f);
	struct caller_process hung;
	WAIT_FOR(caller_process_of(pid, &hung) < 0 || !caller_alive(hung));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void *ask_ten_times(void *arg)
{
	struct place *p = arg;
	char commit[65];
	bool dirty;
	intptr_t wrong = 0;
	for (int i = 0; i < 10; i++)
		if (ask(p->tree, commit, &dirty) < 0 || strcmp(commit, p->commit) != 0 || dirty)
			wrong++;
	return (void *)wrong;
}

static void test_threads_ask_at_once_and_leave_no_child_and_no_descriptor(void **state)
{
	struct place *p = *state;
	pthread_t thread[4];
	void *wrong;
	int before = dup(0);
	close(before);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, ask_ten_times, p), 0);
	for (int i = 0; i < 4; i++) {
		pthread_join(thread[i], &wrong);
		assert_null(wrong);
	}
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	int after = dup(0);
	close(after);
	assert_int_equal(before, after);
}

int main(void)
{
	if (system("git --version >/dev/null 2>&1") != 0)
		return 77;
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_clean_work_tree_has_its_commit),
		TEST(test_work_tree_is_dirty_by_tracked_files_only),
		TEST(test_many_changes_are_as_dirty_as_one),
		TEST(test_directory_without_a_commit_has_none),
		TEST(test_bare_repository_that_hides_in_a_directory_is_not_taken),
		TEST(test_sha256_commits_are_read_whole),
		TEST(test_index_is_not_written),
		TEST(test_hooks_and_fsmonitor_are_not_run),
		TEST(test_work_tree_of_somebody_else_is_not_looked_at),
		TEST(test_git_runs_as_the_user_with_nothing_of_the_daemon),
		TEST(test_git_of_root_has_no_capability),
		TEST(test_threads_ask_at_once_and_leave_no_child_and_no_descriptor),
		TEST(test_git_that_hangs_is_ended_with_all_its_children),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
