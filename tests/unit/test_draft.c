/* The directory drafts/, the states of a draft, its changes and writers. */
#include "draft_env.h"

#include <pthread.h>

static void assert_says(const struct fault *f, const char *word)
{
	if (!strstr(f->text, word))
		fail_msg("\"%s\" does not name %s", f->text, word);
}

/* ---- drafts/ ---- */

static void test_a_draft_is_made_with_the_owner_and_mode_that_were_asked_for(void **state)
{
	struct env *e = *state;
	bool root = geteuid() == 0;
	struct stat st;
	mode_t old = umask(077);

	assert_int_equal(drafts_make(e->ds, 7, root ? 1234 : geteuid(), root ? 4321 : getegid(), 02775), 0);
	umask(old);
	assert_int_equal(fstatat(e->store, "drafts/7", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 02775);
	assert_int_equal(st.st_uid, root ? 1234 : geteuid());
	assert_int_equal(st.st_gid, root ? 4321 : getegid());
	assert_int_equal(drafts_make(e->ds, 7, geteuid(), getegid(), 0755), -EEXIST);
	assert_int_equal(drafts_sync(e->ds), 0);
}

static void test_a_draft_in_memory_is_one_object_for_all_and_unknown_ids_are_not_found(void **state)
{
	struct env *e = *state;
	struct draft *again = NULL, *none = NULL;

	assert_int_equal(draft_get(e->ds, ENV_ID, &again), 0);
	assert_ptr_equal(again, e->d);
	assert_int_equal(draft_id(again), ENV_ID);
	draft_put(again);
	assert_int_equal(draft_get(e->ds, 99, &none), -ENOENT);
	assert_null(none);
}

static void test_a_symbolic_link_in_place_of_a_draft_is_not_followed(void **state)
{
	struct env *e = *state;
	struct draft *d = NULL;

	assert_int_equal(symlinkat("42", e->store, "drafts/43"), 0);
	assert_true(draft_get(e->ds, 43, &d) < 0);
	assert_null(d);
}

static int collect_id(int64_t id, void *arg)
{
	int64_t *ids = arg;

	ids[++ids[0]] = id;
	return 0;
}

static int stop_at_second(int64_t id, void *arg)
{
	(void)id;
	return ++*(int *)arg == 2 ? 17 : 0;
}

static void test_the_ids_on_disk_are_listed_in_order_and_other_names_are_passed_over(void **state)
{
	static const char *const strangers[] = {"lost-5-1", "007", "0", "-3", "5x", " 6", "9223372036854775808", "x"};
	struct env *e = *state;
	int64_t ids[16] = {0};
	int calls = 0;
	char path[64];

	for (size_t i = 0; i < ARRAY_SIZE(strangers); i++) {
		snprintf(path, sizeof(path), "drafts/%s", strangers[i]);
		assert_int_equal(mkdirat(e->store, path, 0700), 0);
	}
	assert_int_equal(close(openat(e->store, "drafts/8", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
	assert_int_equal(drafts_make(e->ds, INT64_MAX, geteuid(), getegid(), 0700), 0);
	assert_int_equal(drafts_make(e->ds, 9, geteuid(), getegid(), 0700), 0);
	assert_int_equal(drafts_each(e->ds, collect_id, ids), 0);
	assert_int_equal(ids[0], 3);
	assert_int_equal(ids[1], 9);
	assert_int_equal(ids[2], ENV_ID);
	assert_true(ids[3] == INT64_MAX);
	assert_int_equal(drafts_each(e->ds, stop_at_second, &calls), 17);
	assert_int_equal(calls, 2);
}

static void test_a_draft_that_lives_is_not_removed_and_one_that_is_gone_is_whole(void **state)
{
	struct env *e = *state;

	env_write(e, "model.pth", "x");
	assert_int_equal(mkdirat(e->root, "sub", 0), 0);
	assert_int_equal(drafts_remove(e->ds, ENV_ID), -EBUSY);
	assert_int_equal(draft_freeze(e->d, NULL), 0);
	draft_finish(e->d);
	assert_int_equal(drafts_remove(e->ds, ENV_ID), 0);
	assert_int_equal(faccessat(e->store, "drafts/42", F_OK, 0), -1);
	assert_int_equal(drafts_remove(e->ds, ENV_ID), 0); /* it is not there: fine */
}

static void test_drafts_are_not_made_where_that_was_not_asked_for(void **state)
{
	struct env *e = *state;
	struct drafts *ds = NULL;

	assert_int_equal(mkdirat(e->store, "other", 0700), 0);
	auto_close int other = openat(e->store, "other", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(drafts_open(other, false, NULL, NULL, NULL, &ds, &e->f), -ENOENT);
	assert_null(ds);
	assert_int_equal(e->f.error, ENOENT);
	assert_says(&e->f, "drafts/");
	drafts_close(NULL);
	draft_put(NULL);
}

/* ---- states ---- */

static void test_a_frozen_draft_refuses_changes_until_it_thaws(void **state)
{
	struct env *e = *state;

	assert_int_equal(draft_change_begin(e->d), 0);
	draft_change_end(e->d);
	assert_int_equal(draft_freeze(e->d, &e->f), 0);
	assert_int_equal(draft_change_begin(e->d), -EBUSY);
	assert_int_equal(draft_file_opened(e->d, 1, true, "model.pth"), -EBUSY);
	assert_int_equal(draft_file_opened(e->d, 1, false, "model.pth"), 0);
	draft_file_closed(e->d, 1, false, -1);
	draft_thaw(e->d);
	assert_int_equal(draft_change_begin(e->d), 0);
	draft_change_end(e->d);
	assert_int_equal(draft_freeze(e->d, &e->f), 0);
}

static void test_a_draft_that_is_gone_stays_gone(void **state)
{
	struct env *e = *state;
	struct draft_tree t = {0};

	assert_false(draft_is_gone(e->d));
	assert_int_equal(draft_freeze(e->d, NULL), 0);
	draft_finish(e->d);
	assert_true(draft_is_gone(e->d));
	draft_thaw(e->d);
	assert_true(draft_is_gone(e->d));
	assert_int_equal(draft_change_begin(e->d), -EROFS);
	assert_int_equal(draft_file_opened(e->d, 1, true, NULL), -EROFS);
	assert_int_equal(draft_freeze(e->d, &e->f), -EROFS);
	assert_int_equal(e->f.error, EROFS);
	assert_int_equal(draft_file_opened(e->d, 1, false, NULL), 0);
	draft_file_closed(e->d, 1, false, -1);
	draft_file_touched(e->d, 1);
	assert_int_equal(draft_scan(e->d, &t, NULL), -EINVAL);
}

static void test_a_freeze_is_refused_while_a_file_is_open_for_writing_and_names_it(void **state)
{
	struct env *e = *state;

	assert_int_equal(draft_file_opened(e->d, 11, true, "model.pth"), 0);
	assert_int_equal(draft_file_opened(e->d, 11, true, "model.pth"), 0);
	assert_int_equal(draft_freeze(e->d, &e->f), -EBUSY);
	assert_string_equal(e->f.text, "model.pth is open for writing");
	draft_file_closed(e->d, 11, true, -1);
	assert_int_equal(draft_freeze(e->d, &e->f), -EBUSY);
	assert_int_equal(draft_file_opened(e->d, 12, true, "log.txt"), 0);
	assert_int_equal(draft_freeze(e->d, &e->f), -EBUSY);
	assert_says(&e->f, "1 more");
	draft_file_closed(e->d, 11, true, -1);
	assert_int_equal(draft_freeze(e->d, &e->f), -EBUSY);
	assert_string_equal(e->f.text, "log.txt is open for writing");
	assert_int_equal(draft_change_begin(e->d), 0); /* a refused freeze leaves it open */
	draft_change_end(e->d);
	draft_file_closed(e->d, 12, true, -1);
	assert_int_equal(draft_freeze(e->d, &e->f), 0);
}

static void test_readers_do_not_stand_in_the_way_of_a_freeze(void **state)
{
	struct env *e = *state;

	assert_int_equal(draft_file_opened(e->d, 11, false, "model.pth"), 0);
	assert_int_equal(draft_freeze(e->d, &e->f), 0);
	assert_int_equal(draft_open_files(e->d), 1);
	draft_file_closed(e->d, 11, false, -1);
	assert_int_equal(draft_open_files(e->d), 0);
}

static void test_quiet_is_told_each_time_the_last_open_file_is_closed(void **state)
{
	struct env *e = *state;

	assert_int_equal(draft_file_opened(e->d, 11, true, "a"), 0);
	assert_int_equal(draft_file_opened(e->d, 11, false, "a"), 0);
	assert_int_equal(draft_file_opened(e->d, 12, false, "b"), 0);
	assert_int_equal(draft_open_files(e->d), 3);
	draft_file_closed(e->d, 11, true, -1);
	draft_file_closed(e->d, 12, false, -1);
	assert_int_equal(atomic_load(&e->quiet), 0);
	draft_file_closed(e->d, 11, false, -1);
	assert_int_equal(atomic_load(&e->quiet), 1);
	assert_int_equal(atomic_load(&e->quiet_id), ENV_ID);
	assert_int_equal(draft_file_opened(e->d, 12, false, "b"), 0);
	draft_file_closed(e->d, 12, false, -1);
	assert_int_equal(atomic_load(&e->quiet), 2);
}

struct freezer {
	struct env *e;
	pthread_t thread;
	atomic_bool ended;
	int result;
	struct fault f;
};

static void *freeze_main(void *arg)
{
	struct freezer *z = arg;

	z->result = draft_freeze(z->e->d, &z->f);
	atomic_store(&z->ended, true);
	return NULL;
}

static bool change_is_refused(struct draft *d)
{
	int r = draft_change_begin(d);

	if (r == 0)
		draft_change_end(d);
	return r == -EBUSY;
}

static void test_a_freeze_waits_for_changes_under_way_and_lets_no_new_one_in(void **state)
{
	struct freezer z = {.e = *state};

	assert_int_equal(draft_change_begin(z.e->d), 0);
	assert_int_equal(draft_change_begin(z.e->d), 0);
	assert_int_equal(pthread_create(&z.thread, NULL, freeze_main, &z), 0);
	env_wait_until(change_is_refused(z.e->d));
	draft_change_end(z.e->d);
	assert_true(change_is_refused(z.e->d));
	assert_false(atomic_load(&z.ended));
	draft_change_end(z.e->d);
	pthread_join(z.thread, NULL);
	assert_int_equal(z.result, 0);
	assert_int_equal(draft_change_begin(z.e->d), -EBUSY);
}

static void test_a_second_freeze_waits_and_follows_what_becomes_of_the_first(void **state)
{
	struct freezer z = {.e = *state};

	assert_int_equal(draft_freeze(z.e->d, NULL), 0);
	assert_int_equal(pthread_create(&z.thread, NULL, freeze_main, &z), 0);
	draft_thaw(z.e->d);
	pthread_join(z.thread, NULL);
	assert_int_equal(z.result, 0); /* the first gave up: it is the second's */

	z.ended = false;
	assert_int_equal(pthread_create(&z.thread, NULL, freeze_main, &z), 0);
	draft_finish(z.e->d);
	pthread_join(z.thread, NULL);
	assert_int_equal(z.result, -EROFS); /* the first did it */
	assert_int_equal(z.f.error, EROFS);
}

static void test_a_create_under_way_that_ends_as_a_writer_makes_the_freeze_give_up(void **state)
{
	struct freezer z = {.e = *state};

	assert_int_equal(draft_change_begin(z.e->d), 0);
	assert_int_equal(pthread_create(&z.thread, NULL, freeze_main, &z), 0);
	env_wait_until(change_is_refused(z.e->d));
	assert_int_equal(draft_file_opened(z.e->d, 11, true, "new.pth"), 0);
	draft_change_end(z.e->d);
	pthread_join(z.thread, NULL);
	assert_int_equal(z.result, -EBUSY);
	assert_string_equal(z.f.text, "new.pth is open for writing");
	assert_int_equal(draft_change_begin(z.e->d), 0);
	draft_change_end(z.e->d);
	draft_file_closed(z.e->d, 11, true, -1);
}

static void *finish_main(void *arg)
{
	struct freezer *z = arg;

	draft_finish(z->e->d);
	atomic_store(&z->ended, true);
	return NULL;
}

static void test_a_discard_by_force_waits_for_changes_but_not_for_open_files(void **state)
{
	struct freezer z = {.e = *state};

	env_write(z.e, "model.pth", "abc");
	assert_int_equal(draft_file_opened(z.e->d, env_ino(z.e, "model.pth"), true, "model.pth"), 0);
	assert_int_equal(draft_change_begin(z.e->d), 0);
	assert_int_equal(pthread_create(&z.thread, NULL, finish_main, &z), 0);
	env_wait_until(change_is_refused(z.e->d));
	assert_false(atomic_load(&z.ended));
	draft_change_end(z.e->d);
	pthread_join(z.thread, NULL);
	assert_true(draft_is_gone(z.e->d));
	assert_int_equal(draft_open_files(z.e->d), 1);
	env_close_written(z.e, "model.pth");
	assert_int_equal(draft_open_files(z.e->d), 0);
	assert_int_equal(atomic_load(&z.e->quiet), 1);
	drafts_drain(z.e->ds);
}

/* ---- many threads ---- */

#define ROUNDS 300

struct crowd {
	struct env *e;
	atomic_int working; /* changes and writers that are let in just now */
	atomic_int frozen;  /* how often a freeze succeeded */
	atomic_int refused; /* how often somebody was refused for it */
	atomic_int still;   /* workers that have not ended */
	atomic_int wrong;   /* what must not be, counted: only the main thread may assert */
};

static void *crowd_change(void *arg)
{
	struct crowd *c = arg;

	for (int i = 0; i < ROUNDS; i++) {
		if (draft_change_begin(c->e->d) < 0) {
			atomic_fetch_add(&c->refused, 1);
			sched_yield();
			continue;
		}
		atomic_fetch_add(&c->working, 1);
		draft_file_touched(c->e->d, 100);
		atomic_fetch_sub(&c->working, 1);
		draft_change_end(c->e->d);
	}
	atomic_fetch_sub(&c->still, 1);
	return NULL;
}

static void *crowd_write(void *arg)
{
	struct crowd *c = arg;
	auto_close int fd = openat(c->e->root, "shared", O_PATH | O_CLOEXEC);
	ino_t ino = env_ino(c->e, "shared");

	for (int i = 0; i < ROUNDS; i++) {
		auto_draft struct draft *d = NULL;
		if (draft_get(c->e->ds, ENV_ID, &d) < 0 || draft_file_opened(d, ino, true, "shared") < 0) {
			atomic_fetch_add(&c->refused, 1);
			sched_yield();
			continue;
		}
		atomic_fetch_add(&c->working, 1);
		atomic_fetch_sub(&c->working, 1);
		draft_file_closed(d, ino, true, fd);
	}
	atomic_fetch_sub(&c->still, 1);
	return NULL;
}

static void *crowd_freeze(void *arg)
{
	struct crowd *c = arg;

	while (atomic_load(&c->still) > 0 || atomic_load(&c->frozen) == 0) {
		struct draft_tree t = {0};
		if (draft_freeze(c->e->d, NULL) < 0)
			continue;
		atomic_fetch_add(&c->wrong, atomic_load(&c->working) != 0);
		atomic_fetch_add(&c->wrong, draft_scan(c->e->d, &t, NULL) != 0 || draft_hash(c->e->d, &t, NULL) != 0 || !t.entries[0].hashed);
		draft_tree_release(&t);
		atomic_fetch_add(&c->wrong, atomic_load(&c->working) != 0);
		atomic_fetch_add(&c->frozen, 1);
		draft_thaw(c->e->d);
		sched_yield();
	}
	return NULL;
}

static void test_while_a_draft_is_frozen_nobody_of_a_crowd_is_at_work_in_it(void **state)
{
	struct crowd c = {.e = *state};
	pthread_t threads[5];

	env_write(c.e, "shared", "some content that is hashed again and again");
	atomic_store(&c.still, 4);
	for (int i = 0; i < 5; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, i == 0 ? crowd_freeze : i % 2 ? crowd_change : crowd_write, &c), 0);
	for (int i = 0; i < 5; i++)
		pthread_join(threads[i], NULL);
	drafts_drain(c.e->ds);
	assert_int_equal(atomic_load(&c.wrong), 0);
	assert_true(atomic_load(&c.frozen) > 0);
	assert_int_equal(draft_open_files(c.e->d), 0);
	assert_int_equal(draft_freeze(c.e->d, NULL), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, env_setup, env_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_a_draft_is_made_with_the_owner_and_mode_that_were_asked_for),
		T(test_a_draft_in_memory_is_one_object_for_all_and_unknown_ids_are_not_found),
		T(test_a_symbolic_link_in_place_of_a_draft_is_not_followed),
		T(test_the_ids_on_disk_are_listed_in_order_and_other_names_are_passed_over),
		T(test_a_draft_that_lives_is_not_removed_and_one_that_is_gone_is_whole),
		T(test_drafts_are_not_made_where_that_was_not_asked_for),
		T(test_a_frozen_draft_refuses_changes_until_it_thaws),
		T(test_a_draft_that_is_gone_stays_gone),
		T(test_a_freeze_is_refused_while_a_file_is_open_for_writing_and_names_it),
		T(test_readers_do_not_stand_in_the_way_of_a_freeze),
		T(test_quiet_is_told_each_time_the_last_open_file_is_closed),
		T(test_a_freeze_waits_for_changes_under_way_and_lets_no_new_one_in),
		T(test_a_second_freeze_waits_and_follows_what_becomes_of_the_first),
		T(test_a_create_under_way_that_ends_as_a_writer_makes_the_freeze_give_up),
		T(test_a_discard_by_force_waits_for_changes_but_not_for_open_files),
		T(test_while_a_draft_is_frozen_nobody_of_a_crowd_is_at_work_in_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
