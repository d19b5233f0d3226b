/* The hash map and the queue of work. */
#include <errno.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

static void test_a_map_gives_back_what_was_put(void **state)
{
	struct map64 *m = map64_new();
	int a, b;

	assert_non_null(m);
	assert_null(map64_get(m, 0));
	assert_null(map64_remove(m, 0));
	assert_int_equal(map64_put(m, 0, &a), 0);
	assert_int_equal(map64_put(m, UINT64_MAX, &a), 0);
	assert_ptr_equal(map64_get(m, 0), &a);
	assert_int_equal(map64_put(m, 0, &b), 0);
	assert_ptr_equal(map64_get(m, 0), &b);
	assert_int_equal(map64_count(m), 2);
	assert_ptr_equal(map64_remove(m, 0), &b);
	assert_null(map64_get(m, 0));
	assert_ptr_equal(map64_get(m, UINT64_MAX), &a);
	assert_int_equal(map64_count(m), 1);
	map64_free(m);
	map64_free(NULL);
}

#define MODEL_KEYS 512

struct sum {
	uint64_t keys, entries, stop_after;
};

static bool add_up(uint64_t key, void *value, void *arg)
{
	struct sum *sum = arg;

	sum->keys += key;
	return ++sum->entries != sum->stop_after;
}

/* Against a plain array as the model; few keys and many removals, so that chains are mended all the time. */
static void test_a_map_agrees_with_an_array_over_many_changes(void **state)
{
	static char values[16];
	void *model[MODEL_KEYS] = {NULL};
	struct map64 *m = map64_new();
	struct sum sum = {0};
	uint64_t expected_keys = 0;
	size_t expected_count = 0;
	unsigned random = 12345;

	for (int i = 0; i < 200000; i++) {
		random = random * 1664525 + 1013904223;
		uint64_t key = random >> 8 & (MODEL_KEYS - 1);
		if (random >> 30 & 1) {
			void *value = &values[random >> 20 & 15];
			assert_int_equal(map64_put(m, key, value), 0);
			model[key] = value;
		} else {
			assert_ptr_equal(map64_remove(m, key), model[key]);
			model[key] = NULL;
		}
		key = random >> 17 & (MODEL_KEYS - 1);
		assert_ptr_equal(map64_get(m, key), model[key]);
	}
	for (uint64_t k = 0; k < MODEL_KEYS; k++) {
		assert_ptr_equal(map64_get(m, k), model[k]);
		expected_keys += model[k] ? k : 0;
		expected_count += model[k] != NULL;
	}
	map64_each(m, add_up, &sum);
	assert_true(sum.keys == expected_keys);
	assert_int_equal(sum.entries, expected_count);
	assert_int_equal(map64_count(m), expected_count);
	sum = (struct sum){.stop_after = 3};
	map64_each(m, add_up, &sum);
	assert_int_equal(sum.entries, 3);
	map64_free(m);
}

struct record {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int order[1000], n;
	int inside, most_inside; /* jobs that run at the same time */
	int hold_until;          /* a holding job ends when this many are inside */
	bool open;               /* a gated job may go on */
};

#define RECORD_INIT {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER}

struct numbered {
	struct record *r;
	int number;
};

static void note_number(void *arg)
{
	struct numbered *job = arg;
	SCOPED_LOCK(&job->r->lock);

	job->r->order[job->r->n++] = job->number;
}

static void test_one_thread_runs_jobs_in_order(void **state)
{
	static struct numbered jobs[1000];
	struct record r = RECORD_INIT;
	struct workq *q;

	assert_int_equal(workq_new(&(struct workq_options){.name = "order", .threads = 1}, &q), 0);
	for (int i = 0; i < 1000; i++) {
		jobs[i] = (struct numbered){&r, i};
		assert_int_equal(workq_submit(q, note_number, &jobs[i]), 0);
	}
	workq_drain(q);
	assert_int_equal(r.n, 1000);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(r.order[i], i);
	workq_free(q);
}

/* Ends when hold_until jobs are inside at once: with fewer threads it would wait for ever. */
static void meet(void *arg)
{
	struct record *r = arg;
	SCOPED_LOCK(&r->lock);

	if (++r->inside > r->most_inside)
		r->most_inside = r->inside;
	pthread_cond_broadcast(&r->changed);
	while (r->most_inside < r->hold_until)
		pthread_cond_wait(&r->changed, &r->lock);
	r->inside--;
}

static void test_several_threads_run_jobs_at_once_and_never_more_than_asked(void **state)
{
	struct record r = RECORD_INIT;
	struct workq *q;

	r.hold_until = 4;
	assert_int_equal(workq_new(&(struct workq_options){.name = "meet", .threads = 4}, &q), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(workq_submit(q, meet, &r), 0);
	workq_drain(q);
	assert_int_equal(r.most_inside, 4);
	assert_int_equal(r.inside, 0);
	workq_free(q);
}

static void wait_at_gate(void *arg)
{
	struct record *r = arg;
	SCOPED_LOCK(&r->lock);

	r->inside++;
	pthread_cond_broadcast(&r->changed);
	while (!r->open)
		pthread_cond_wait(&r->changed, &r->lock);
	r->inside--;
}

static void open_gate(struct record *r)
{
	SCOPED_LOCK(&r->lock);
	r->open = true;
	pthread_cond_broadcast(&r->changed);
}

/* The other thread of the queue ends later jobs while an older one still runs: drain must not be deceived. */
static void *drain_it(void *arg)
{
	workq_drain(arg);
	return NULL;
}

static void test_drain_waits_for_every_older_job(void **state)
{
	struct record r = RECORD_INIT, notes = RECORD_INIT;
	struct numbered jobs[10];
	struct workq *q;
	pthread_t drainer;

	assert_int_equal(workq_new(&(struct workq_options){.name = "drain", .threads = 2}, &q), 0);
	assert_int_equal(workq_submit(q, wait_at_gate, &r), 0);
	pthread_mutex_lock(&r.lock);
	while (r.inside == 0)
		pthread_cond_wait(&r.changed, &r.lock);
	pthread_mutex_unlock(&r.lock);
	for (int i = 0; i < 10; i++) {
		jobs[i] = (struct numbered){&notes, i};
		assert_int_equal(workq_submit(q, note_number, &jobs[i]), 0);
	}
	assert_int_equal(pthread_create(&drainer, NULL, drain_it, q), 0);
	for (int n = 0; n < 10;) { /* the second thread gets through all of them although the first is held */
		pthread_mutex_lock(&notes.lock);
		n = notes.n;
		pthread_mutex_unlock(&notes.lock);
	}
	assert_int_equal(pthread_tryjoin_np(drainer, NULL), EBUSY);
	open_gate(&r);
	assert_int_equal(pthread_join(drainer, NULL), 0);
	assert_int_equal(r.inside, 0);
	workq_free(q);
}

static void test_an_owner_with_many_jobs_leaves_threads_for_others(void **state)
{
	struct record gate = RECORD_INIT, notes = RECORD_INIT;
	struct numbered jobs[2] = {{&notes, 0}, {&notes, 1}};
	struct workq *q;

	assert_int_equal(workq_new(&(struct workq_options){.name = "shares", .threads = 3, .each = 2}, &q), 0);
	for (int i = 0; i < 100; i++)
		assert_int_equal(workq_submit_for(q, 1001, wait_at_gate, &gate), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(workq_submit_for(q, 1002 + (unsigned)i, note_number, &jobs[i]), 0);
	for (int n = 0; n < 2;) { /* would wait for ever behind the hundred */
		SCOPED_LOCK(&notes.lock);
		n = notes.n;
	}
	pthread_mutex_lock(&gate.lock);
	assert_true(gate.inside <= 2);
	pthread_mutex_unlock(&gate.lock);
	open_gate(&gate);
	workq_drain(q);
	assert_int_equal(gate.inside, 0);
	workq_free(q);
}

/* Two threads, one of which is held by a job of owner 1: his second one comes after everybody's first. */
static void test_who_has_the_fewest_running_comes_first(void **state)
{
	struct record gate = RECORD_INIT, notes = RECORD_INIT;
	struct numbered jobs[4] = {{&notes, 0}, {&notes, 1}, {&notes, 2}, {&notes, 3}};
	struct workq *q;

	assert_int_equal(workq_new(&(struct workq_options){.name = "turns", .threads = 2, .each = 2}, &q), 0);
	assert_int_equal(workq_submit_for(q, 1, wait_at_gate, &gate), 0);
	for (bool held = false; !held;) {
		SCOPED_LOCK(&gate.lock);
		held = gate.inside == 1;
	}
	pthread_mutex_lock(&notes.lock); /* the other thread waits in its first job */
	assert_int_equal(workq_submit_for(q, 2, note_number, &jobs[0]), 0);
	assert_int_equal(workq_submit_for(q, 1, note_number, &jobs[2]), 0);
	assert_int_equal(workq_submit_for(q, 3, note_number, &jobs[1]), 0);
	assert_int_equal(workq_submit(q, note_number, &jobs[3]), 0);
	pthread_mutex_unlock(&notes.lock);
	for (int n = 0; n < 4;) {
		SCOPED_LOCK(&notes.lock);
		n = notes.n;
	}
	open_gate(&gate);
	workq_free(q);
	int of_owner_1 = 0;
	while (notes.order[of_owner_1] != 2)
		of_owner_1++;
	assert_int_equal(of_owner_1, 3); /* whose other job runs all the time */
}

struct late {
	struct workq *q;
	struct record *gate;
	int result;
};

static void submit_late(void *arg)
{
	struct late *late = arg;

	wait_at_gate(late->gate);
	while ((late->result = workq_submit(late->q, wait_at_gate, late->gate)) == 0)
		; /* until workq_free has begun */
}

static void *free_it(void *arg)
{
	workq_free(arg);
	return NULL;
}

static void test_free_runs_what_is_queued_and_takes_no_more(void **state)
{
	struct record gate = RECORD_INIT, notes = RECORD_INIT;
	struct late late = {.gate = &gate};
	struct numbered jobs[50];
	pthread_t freer;

	assert_int_equal(workq_new(&(struct workq_options){.name = "a name longer than a thread may have", .threads = 1}, &late.q), 0);
	assert_int_equal(workq_submit(late.q, submit_late, &late), 0);
	for (int i = 0; i < 50; i++) {
		jobs[i] = (struct numbered){&notes, i};
		assert_int_equal(workq_submit(late.q, note_number, &jobs[i]), 0);
	}
	assert_int_equal(pthread_create(&freer, NULL, free_it, late.q), 0);
	open_gate(&gate);
	assert_int_equal(pthread_join(freer, NULL), 0);
	assert_int_equal(late.result, -ESHUTDOWN);
	assert_int_equal(notes.n, 50);
	workq_free(NULL);
}

struct seen {
	int nice;
	bool usr1_blocked;
	char name[16];
};

static void look_around(void *arg)
{
	struct seen *seen = arg;
	sigset_t set;

	seen->nice = getpriority(PRIO_PROCESS, (id_t)gettid());
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	seen->usr1_blocked = sigismember(&set, SIGUSR1);
	pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
}

static void test_background_threads_are_nice_named_and_deaf_to_signals(void **state)
{
	struct seen low = {0}, usual = {0};
	struct workq *q;
	sigset_t set;

	assert_int_equal(workq_new(&(struct workq_options){.name = "hash", .threads = 1, .low_priority = true}, &q), 0);
	assert_int_equal(workq_submit(q, look_around, &low), 0);
	workq_free(q);
	assert_int_equal(workq_new(&(struct workq_options){.name = "notify", .threads = 1}, &q), 0);
	assert_int_equal(workq_submit(q, look_around, &usual), 0);
	workq_free(q);
	assert_int_equal(low.nice, 19);
	assert_int_equal(usual.nice, getpriority(PRIO_PROCESS, 0));
	assert_string_equal(low.name, "hash");
	assert_true(low.usr1_blocked);
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	assert_false(sigismember(&set, SIGUSR1));
}

static void test_a_queue_without_threads_or_with_too_many_is_refused(void **state)
{
	struct workq *q = NULL;

	assert_int_equal(workq_new(&(struct workq_options){.name = "none", .threads = 0}, &q), -EINVAL);
	assert_int_equal(workq_new(&(struct workq_options){.name = "many", .threads = 65}, &q), -EINVAL);
	assert_null(q);
}

static void test_a_time_beyond_what_64_bits_of_nanoseconds_hold_is_the_last_that_they_do(void **state)
{
	static const struct { struct timespec t; int64_t ns; } cases[] = {
		{{0, 0}, 0}, {{0, 5}, 5}, {{-1, 5}, -999999995}, {{-1, 999999999}, -1}, {{1796049934, 7}, 1796049934000000007},
		{{9223372036, 854775807}, INT64_MAX}, {{9223372036, 854775808}, INT64_MAX}, {{9223372037, 0}, INT64_MAX}, {{INT64_MAX, 999999999}, INT64_MAX},
		{{-9223372037, 145224193}, INT64_MIN + 1}, {{-9223372037, 145224192}, INT64_MIN}, {{-9223372037, 145224191}, INT64_MIN}, {{-9223372038, 0}, INT64_MIN},
		{{INT64_MIN, 0}, INT64_MIN}, {{INT64_MIN, 999999999}, INT64_MIN},
	};
	static const int64_t there_and_back[] = {INT64_MIN, INT64_MIN + 1, -1000000000, -1, 0, 1, INT64_MAX - 1, INT64_MAX};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_true(timespec_ns(cases[i].t) == cases[i].ns);
	for (size_t i = 0; i < ARRAY_SIZE(there_and_back); i++)
		assert_true(timespec_ns(ns_timespec(there_and_back[i])) == there_and_back[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_map_gives_back_what_was_put),
		cmocka_unit_test(test_a_map_agrees_with_an_array_over_many_changes),
		cmocka_unit_test(test_one_thread_runs_jobs_in_order),
		cmocka_unit_test(test_several_threads_run_jobs_at_once_and_never_more_than_asked),
		cmocka_unit_test(test_drain_waits_for_every_older_job),
		cmocka_unit_test(test_an_owner_with_many_jobs_leaves_threads_for_others),
		cmocka_unit_test(test_who_has_the_fewest_running_comes_first),
		cmocka_unit_test(test_free_runs_what_is_queued_and_takes_no_more),
		cmocka_unit_test(test_background_threads_are_nice_named_and_deaf_to_signals),
		cmocka_unit_test(test_a_queue_without_threads_or_with_too_many_is_refused),
		cmocka_unit_test(test_a_time_beyond_what_64_bits_of_nanoseconds_hold_is_the_last_that_they_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
