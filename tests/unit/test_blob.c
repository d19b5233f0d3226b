/* The contract of the content-addressed store, run over every implementation of it, and the hashing that all of them
 * share. Only what the door promises is used here; what is special to the local store stands in test_blob_local.c. */
#include "blob_env.h"
#include "local.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>

static int open_local(int dirfd, struct blob_store **ret)
{
	return blob_store_open_local(dirfd, true, NULL, ret, NULL);
}

/* As where it would sync otherwise. */
static int open_way(int dirfd, enum local_way way, struct blob_store **ret)
{
	int r = open_local(dirfd, ret);

	if (r == 0)
		local_store(*ret)->way = way;
	return r;
}

static int open_each(int dirfd, struct blob_store **ret) { return open_way(dirfd, LOCAL_EACH, ret); }
static int open_all(int dirfd, struct blob_store **ret) { return open_way(dirfd, LOCAL_ALL, ret); }
static int open_journal(int dirfd, struct blob_store **ret) { return open_way(dirfd, LOCAL_JOURNAL, ret); }

static const struct implementation implementations[] = {
	{"local", open_local},
	{"local, file by file", open_each},
	{"local, by syncfs", open_all},
	{"local, by the journal", open_journal},
};

/* ---- names and hashing ---- */

static void test_hasher_gives_the_published_digests(void **state)
{
	static const struct { const char *text, *hex; size_t repeat; } table[] = { /* FIPS 180-4 examples */
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 1},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 1},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", 1},
		{"aaaaaaaaaa", "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", 100000},
	};
	struct blob_hasher *h;

	(void)state;
	assert_int_equal(blob_hasher_new(&h), 0);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) { /* one hasher, used again and again */
		char hex[BLOB_HEX_SIZE];
		struct blob_id id;

		for (size_t n = 0; n < table[i].repeat; n++)
			assert_int_equal(blob_hasher_add(h, table[i].text, strlen(table[i].text)), 0);
		assert_int_equal(blob_hasher_finish(h, &id), 0);
		blob_id_hex(&id, hex);
		assert_string_equal(hex, table[i].hex);
	}
	blob_hasher_free(h);
	blob_hasher_free(NULL);
}

static void test_only_64_small_hex_digits_are_an_id(void **state)
{
	static const char *const wrong[] = {
		"", "ab", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85",
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8555",
		"E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
		"g3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	};
	static const char right[] = "00b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8ff";
	struct blob_id id = {{9}}, untouched = id;
	char hex[BLOB_HEX_SIZE];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_int_equal(blob_id_parse(wrong[i], &id), -EINVAL);
	assert_true(blob_id_equal(&id, &untouched));
	assert_int_equal(blob_id_parse(right, &id), 0);
	assert_int_equal(id.sha256[0], 0);
	assert_int_equal(id.sha256[31], 0xff);
	blob_id_hex(&id, hex);
	assert_string_equal(hex, right);
}

static void test_hash_of_a_file_is_that_of_its_bytes_at_every_length(void **state)
{
	static const size_t lengths[] = {0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20};
	struct env *e = *state;

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		auto_free char *bytes = make_bytes((unsigned)i, lengths[i]);
		struct blob_item item = put_file(e->src, "file", bytes, lengths[i]);
		struct blob_hasher *h;
		struct blob_id id;

		assert_int_equal(item.size, lengths[i]);
		assert_int_equal(blob_hasher_new(&h), 0);
		for (size_t done = 0; done < lengths[i]; done += lengths[i] - done < 777 ? lengths[i] - done : 777)
			assert_int_equal(blob_hasher_add(h, bytes + done, lengths[i] - done < 777 ? lengths[i] - done : 777), 0);
		assert_int_equal(blob_hasher_finish(h, &id), 0);
		blob_hasher_free(h);
		assert_true(blob_id_equal(&id, &item.id));
	}
}

static void test_hash_keeps_the_offset_and_stops_when_told(void **state)
{
	struct env *e = *state;
	struct blob_item item = put_seeded(e->src, "file", 1, 5000);
	auto_close int fd = openat(e->src, "file", O_RDONLY | O_CLOEXEC);
	_Atomic bool go_on = true;
	struct blob_id id, untouched;
	uint64_t size = 42;

	assert_int_equal(lseek(fd, 123, SEEK_SET), 123);
	assert_int_equal(blob_hash_fd(fd, &go_on, &id, &size), 0);
	assert_true(blob_id_equal(&id, &item.id));
	assert_int_equal(size, 5000);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 123);

	go_on = false;
	memset(&id, 7, sizeof id);
	untouched = id;
	size = 42;
	assert_int_equal(blob_hash_fd(fd, &go_on, &id, &size), -ECANCELED);
	assert_true(blob_id_equal(&id, &untouched));
	assert_int_equal(size, 42);
	assert_int_equal(blob_hash_fd(-1, NULL, &id, &size), -EBADF);
}

/* ---- the contract ---- */

static void test_what_was_put_can_be_read(void **state)
{
	struct env *e = *state;
	auto_free char *bytes = make_bytes(1, 100000), *read_back = malloc(100001);
	struct blob_item item = put_file(e->src, "model.pth", bytes, 100000);
	auto_close int fd = -1;
	uint64_t size = 0;

	assert_put(e->store, &item, 1);
	assert_true(item.ret_new);
	assert_int_equal(blob_size(e->store, &item.id, &size), 0);
	assert_int_equal(size, 100000);
	assert_sound(e->store, &item);
	fd = blob_open(e->store, &item.id);
	assert_true(fd >= 0);
	assert_int_equal(sys_pread_full(fd, read_back, 100001, 0), 100000);
	assert_memory_equal(bytes, read_back, 100000);
	assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
}

static void test_what_is_not_there_is_not_found(void **state)
{
	struct env *e = *state;
	struct blob_id id = {{1, 2, 3}};
	struct fault f = FAULT_INIT;
	uint64_t size = 42;

	assert_int_equal(blob_open(e->store, &id), -ENOENT);
	assert_int_equal(blob_size(e->store, &id, &size), -ENOENT);
	assert_int_equal(size, 42);
	assert_int_equal(blob_verify(e->store, &id, 0, &f), -ENOENT);
	assert_non_null(strstr(f.text, "010203"));
	assert_int_equal(blob_remove(e->store, &id), 0);
	blob_seal(e->store, &id, 0);
	assert_int_equal(count_blobs(e->store), 0);
}

static void test_an_empty_file_and_an_empty_batch_are_fine(void **state)
{
	struct env *e = *state;
	struct blob_item item = put_file(e->src, "empty", "", 0);

	assert_int_equal(blob_put_batch(e->store, NULL, 0, NULL), 0);
	assert_put(e->store, &item, 1);
	assert_sound(e->store, &item);
	assert_int_equal(count_blobs(e->store), 1);
}

static void test_same_content_is_new_only_once(void **state)
{
	struct env *e = *state;
	struct blob_item first = put_seeded(e->src, "a", 1, 1000), second = put_seeded(e->src, "b", 1, 1000);

	assert_put(e->store, &first, 1);
	assert_int_equal(unlinkat(e->src, "a", 0), 0);
	blob_seal(e->store, &first.id, first.ret_inode);
	second.ret_new = true;
	assert_put(e->store, &second, 1);
	assert_false(second.ret_new);
	assert_int_equal(count_blobs(e->store), 1);
	assert_sound(e->store, &second);
}

static void test_equal_items_of_a_batch_become_one_blob(void **state)
{
	struct env *e = *state;
	struct blob_item items[] = {
		put_seeded(e->src, "a", 1, 1000), put_seeded(e->src, "b", 2, 1000), put_seeded(e->src, "c", 1, 1000),
		put_seeded(e->src, "d", 1, 1000), put_seeded(e->src, "e", 2, 1000),
	};

	for (size_t i = 0; i < ARRAY_SIZE(items); i++)
		items[i].ret_new = true;
	assert_put(e->store, items, ARRAY_SIZE(items));
	assert_true(items[0].ret_new && items[1].ret_new);
	assert_false(items[2].ret_new || items[3].ret_new || items[4].ret_new);
	assert_int_equal(count_blobs(e->store), 2);
	assert_sound(e->store, &items[0]);
	assert_sound(e->store, &items[1]);
}

static void test_files_in_subdirectories_are_found(void **state)
{
	struct env *e = *state;
	struct blob_item item;

	assert_int_equal(mkdirat(e->src, "deep", 0700), 0);
	assert_int_equal(mkdirat(e->src, "deep/deeper", 0700), 0);
	item = put_seeded(e->src, "deep/deeper/x.bin", 3, 10);
	assert_put(e->store, &item, 1);
	assert_sound(e->store, &item);
}

static void test_a_large_batch_needs_few_descriptors(void **state)
{
	enum { N = 1000 };
	struct env *e = *state;
	auto_free struct blob_item *items = calloc(N, sizeof *items);
	static char names[N][16];
	struct rlimit old, low;
	int next = dup(0), r;

	for (unsigned i = 0; i < N; i++) {
		snprintf(names[i], sizeof names[i], "f%u", i);
		items[i] = put_seeded(e->src, names[i], i, 100 + i);
	}
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)next + 12;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	r = blob_put_batch(e->store, items, N, NULL);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(r, 0);
	for (size_t i = 0; i < N; i++) {
		assert_true(items[i].ret_new);
		assert_sound(e->store, &items[i]);
	}
	assert_int_equal(count_blobs(e->store), N);
}

static void test_refusals_name_the_file_and_leave_results_alone(void **state)
{
	struct env *e = *state;
	struct blob_item good = put_seeded(e->src, "good", 1, 100), grown = put_seeded(e->src, "grown", 2, 100);
	struct blob_item gone = put_seeded(e->src, "gone", 3, 100), link = put_seeded(e->src, "target", 4, 100);
	struct blob_item below = put_seeded(e->src, "below", 5, 100), outside = below, dir = below, twin = good;
	struct { struct blob_item *item; int error; const char *name; } table[] = {
		{&grown, -EBUSY, "grown"}, {&gone, -ENOENT, "gone"}, {&link, -ELOOP, "link"}, {&below, -ELOOP, "linkdir/below"},
		{&outside, -EXDEV, "../src/below"}, {&dir, -EINVAL, "dir"}, {&twin, -EINVAL, "twin"},
	};

	grown.size = 99;
	assert_int_equal(unlinkat(e->src, "gone", 0), 0);
	assert_int_equal(symlinkat("target", e->src, "link"), 0);
	assert_int_equal(symlinkat(".", e->src, "linkdir"), 0);
	assert_int_equal(mkdirat(e->src, "dir", 0700), 0);
	link.path = "link";
	below.path = "linkdir/below";
	outside.path = "../src/below";
	dir.path = "dir";
	twin.path = "twin";
	twin.size = 99; /* the id of "good", another size */
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct blob_item items[] = {good, *table[i].item};
		struct fault f = FAULT_INIT;

		items[0].ret_new = false;
		items[1].ret_new = true;
		assert_int_equal(blob_put_batch(e->store, items, 2, &f), table[i].error);
		assert_int_equal(f.error, -table[i].error);
		assert_non_null(strstr(f.text, table[i].name));
		assert_false(items[0].ret_new);
		assert_true(items[1].ret_new);
		assert_int_equal(count_blobs(e->store), 0); /* all are looked at before the first is taken in */
	}
	assert_put(e->store, &good, 1);
	assert_sound(e->store, &good);
}

static void test_verify_tells_a_wrong_size(void **state)
{
	struct env *e = *state;
	struct blob_item item = put_seeded(e->src, "a", 1, 1000);
	struct fault f = FAULT_INIT;

	assert_put(e->store, &item, 1);
	assert_int_equal(blob_verify(e->store, &item.id, 1001, &f), -EIO);
	assert_non_null(strstr(f.text, "1000"));
	assert_non_null(strstr(f.text, "1001"));
	assert_int_equal(blob_verify(e->store, &item.id, 1000, NULL), 0);
}

static void test_each_goes_in_order_and_stops_when_told(void **state)
{
	struct env *e = *state;
	struct blob_item items[40];
	struct blob_list all = {.n = 0}, some = {.stop_at = 5};
	char names[40][8];

	for (unsigned i = 0; i < 40; i++) {
		snprintf(names[i], sizeof names[i], "f%u", i);
		items[i] = put_seeded(e->src, names[i], i, 50);
	}
	assert_put(e->store, items, 40);
	assert_int_equal(blob_each(e->store, list_blob, &all), 0);
	assert_int_equal(all.n, 40);
	for (size_t i = 1; i < 40; i++)
		assert_true(memcmp(&all.ids[i - 1], &all.ids[i], sizeof all.ids[i]) < 0);
	for (size_t i = 0; i < 40; i++) {
		size_t k = 0;

		while (k < 40 && !blob_id_equal(&items[i].id, &all.ids[k]))
			k++;
		assert_true(k < 40);
	}
	assert_int_equal(blob_each(e->store, list_blob, &some), 77);
	assert_int_equal(some.n, 5);
}

static int check_time(const struct blob_id *id, uint64_t size, int64_t ctime_ns, void *arg)
{
	(void)id;
	assert_int_equal(size, 500);
	assert_true(ctime_ns >= *(int64_t *)arg - NS_PER_SEC); /* the clock of the file system ticks slower than ours */
	assert_true(ctime_ns <= time_now_ns());
	return 0;
}

static void test_each_tells_size_and_time_of_the_last_change(void **state)
{
	struct env *e = *state;
	int64_t begin = time_now_ns();
	struct blob_item item = put_seeded(e->src, "a", 1, 500);

	assert_put(e->store, &item, 1);
	assert_int_equal(blob_each(e->store, check_time, &begin), 0);
}

static void test_removed_blobs_are_gone_and_others_stay_also_when_sealed(void **state)
{
	struct env *e = *state;
	struct blob_item items[] = {put_seeded(e->src, "a", 1, 10), put_seeded(e->src, "b", 2, 10),
				    put_seeded(e->src, "c", 3, 10)};

	assert_put(e->store, items, 3);
	assert_int_equal(sys_remove_tree(e->dir, "src"), 0);
	blob_seal(e->store, &items[0].id, items[0].ret_inode);
	blob_seal(e->store, &items[0].id, items[0].ret_inode);
	blob_seal(e->store, &items[1].id, items[1].ret_inode);
	assert_int_equal(blob_remove(e->store, &items[0].id), 0);
	assert_int_equal(blob_remove(e->store, &items[2].id), 0);
	assert_int_equal(blob_remove(e->store, &items[2].id), 0);
	assert_absent(e->store, &items[0].id);
	assert_absent(e->store, &items[2].id);
	assert_sound(e->store, &items[1]);
	assert_int_equal(blob_each(e->store, env_drop_blob, e->store), 0); /* a sweep removes while it walks */
	assert_int_equal(count_blobs(e->store), 0);
}

static void test_contents_outlive_the_draft_and_the_store_that_took_them(void **state)
{
	struct env *e = *state;
	struct blob_item item = put_seeded(e->src, "a", 1, 3000);

	assert_put(e->store, &item, 1);
	assert_int_equal(sys_remove_tree(e->dir, "src"), 0);
	blob_seal(e->store, &item.id, item.ret_inode);
	blob_store_close(e->store);
	blob_store_close(NULL);
	assert_int_equal(e->impl->open(e->dir, &e->store), 0);
	assert_sound(e->store, &item);
}

/* ---- many at once ---- */

enum { CROWD = 4, ROUNDS = 12, CONTENTS = 6 };

struct member {
	struct blob_store *store;
	int src; /* its own files */
	pthread_barrier_t *barrier; /* NULL in processes */
	int result;
};

/* Puts the same contents as the others do, each from files of its own; then drops its files and seals. */
static int member_round(struct member *m, unsigned round)
{
	struct blob_item items[CONTENTS];
	char names[CONTENTS][16];
	int r;

	for (unsigned i = 0; i < CONTENTS; i++) {
		snprintf(names[i], sizeof names[i], "c%u", i);
		items[i] = put_seeded(m->src, names[i], 100 * round + i, 2000);
	}
	if (m->barrier)
		pthread_barrier_wait(m->barrier);
	r = blob_put_batch(m->store, items, CONTENTS, NULL);
	for (unsigned i = 0; i < CONTENTS; i++) {
		unlinkat(m->src, names[i], 0);
		blob_seal(m->store, &items[i].id, items[i].ret_inode);
	}
	for (unsigned i = 0; r == 0 && i < CONTENTS; i++)
		r = blob_verify(m->store, &items[i].id, 2000, NULL);
	return r;
}

static void *member_run(void *arg)
{
	struct member *m = arg;

	for (unsigned round = 0; round < ROUNDS; round++) {
		int r = member_round(m, round);

		if (r < 0)
			m->result = r; /* goes on: the others wait at the barrier */
	}
	return NULL;
}

static int member_dir(struct env *e, unsigned i)
{
	char name[16];

	snprintf(name, sizeof name, "m%u", i);
	assert_int_equal(mkdirat(e->dir, name, 0700), 0);
	return openat(e->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void test_threads_may_put_the_same_contents_at_once(void **state)
{
	struct env *e = *state;
	struct member members[CROWD];
	pthread_t threads[CROWD];
	pthread_barrier_t barrier;
	struct blob_store *second;

	assert_int_equal(e->impl->open(e->dir, &second), 0); /* as another daemon would have it */
	pthread_barrier_init(&barrier, NULL, CROWD);
	for (unsigned i = 0; i < CROWD; i++) {
		members[i] = (struct member){i % 2 ? second : e->store, member_dir(e, i), &barrier, 0};
		assert_int_equal(pthread_create(&threads[i], NULL, member_run, &members[i]), 0);
	}
	for (unsigned i = 0; i < CROWD; i++) {
		pthread_join(threads[i], NULL);
		close(members[i].src);
	}
	pthread_barrier_destroy(&barrier);
	blob_store_close(second);
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(members[i].result, 0);
	assert_int_equal(count_blobs(e->store), ROUNDS * CONTENTS);
}

static void test_processes_may_put_the_same_contents_at_once(void **state)
{
	struct env *e = *state;
	pid_t pids[CROWD];
	int src[CROWD];

	for (unsigned i = 0; i < CROWD; i++)
		src[i] = member_dir(e, i);
	for (unsigned i = 0; i < CROWD; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			struct member m = {.src = src[i]};

			if (e->impl->open(e->dir, &m.store) < 0)
				_exit(1);
			member_run(&m);
			_exit(m.result ? 2 : 0);
		}
		assert_true(pids[i] > 0);
	}
	for (unsigned i = 0; i < CROWD; i++) {
		int status = -1;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
		close(src[i]);
	}
	assert_int_equal(count_blobs(e->store), ROUNDS * CONTENTS);
}

#define CONTRACT(test) {#test, test, env_setup, env_teardown, NULL}

static const struct CMUnitTest contract[] = {
	CONTRACT(test_hash_of_a_file_is_that_of_its_bytes_at_every_length),
	CONTRACT(test_hash_keeps_the_offset_and_stops_when_told),
	CONTRACT(test_what_was_put_can_be_read),
	CONTRACT(test_what_is_not_there_is_not_found),
	CONTRACT(test_an_empty_file_and_an_empty_batch_are_fine),
	CONTRACT(test_same_content_is_new_only_once),
	CONTRACT(test_equal_items_of_a_batch_become_one_blob),
	CONTRACT(test_files_in_subdirectories_are_found),
	CONTRACT(test_a_large_batch_needs_few_descriptors),
	CONTRACT(test_refusals_name_the_file_and_leave_results_alone),
	CONTRACT(test_verify_tells_a_wrong_size),
	CONTRACT(test_each_goes_in_order_and_stops_when_told),
	CONTRACT(test_each_tells_size_and_time_of_the_last_change),
	CONTRACT(test_removed_blobs_are_gone_and_others_stay_also_when_sealed),
	CONTRACT(test_contents_outlive_the_draft_and_the_store_that_took_them),
	CONTRACT(test_threads_may_put_the_same_contents_at_once),
	CONTRACT(test_processes_may_put_the_same_contents_at_once),
};

int main(void)
{
	const struct CMUnitTest hashing[] = {
		cmocka_unit_test(test_hasher_gives_the_published_digests),
		cmocka_unit_test(test_only_64_small_hex_digits_are_an_id),
	};
	int failed = cmocka_run_group_tests_name("hashing", hashing, NULL, NULL);

	for (size_t i = 0; i < ARRAY_SIZE(implementations); i++) {
		struct CMUnitTest tests[ARRAY_SIZE(contract)];
		struct implementation impl = implementations[i];

		memcpy(tests, contract, sizeof contract);
		for (size_t k = 0; k < ARRAY_SIZE(tests); k++)
			tests[k].initial_state = &impl;
		failed += cmocka_run_group_tests_name(impl.name, tests, NULL, NULL);
	}
	return failed;
}
