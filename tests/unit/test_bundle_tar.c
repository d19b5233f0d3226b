/* The tar format: what is written is read back, byte for byte, and what is no proper archive is refused in words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tar.h"

struct archive { uint8_t *data; size_t len, at, piece; };

static ssize_t read_archive(void *arg, void *out, size_t len)
{
	struct archive *a = arg;
	size_t n = a->len - a->at < len ? a->len - a->at : len;
	if (a->piece && n > a->piece)
		n = a->piece;
	memcpy(out, a->data + a->at, n);
	a->at += n;
	return (ssize_t)n;
}

static void append(struct archive *a, const void *data, size_t len)
{
	a->data = realloc(a->data, a->len + len + 1);
	assert_non_null(a->data);
	memcpy(a->data + a->len, data, len);
	a->len += len;
}

static void append_zeros(struct archive *a, size_t len)
{
	uint8_t *zeros = calloc(1, len + 1);
	append(a, zeros, len);
	free(zeros);
}

static void add(struct archive *a, const struct tar_header *h, const char *content)
{
	uint8_t blocks[TAR_HEADER_MAX];
	size_t len;
	assert_int_equal(tar_header_make(h, blocks, &len), 0);
	assert_int_equal(len % TAR_BLOCK, 0);
	append(a, blocks, len);
	if (h->type != TAR_FILE)
		return;
	append(a, content, (size_t)h->size);
	append_zeros(a, tar_padding(h->size));
}

static struct tar_reader *reader(struct archive *a)
{
	struct tar_reader *t;
	a->at = 0;
	assert_int_equal(tar_reader_new(read_archive, a, &t), 0);
	return t;
}

static struct tar_entry e;

static void assert_refused(struct archive *a, const char *words)
{
	struct fault f = FAULT_INIT;
	struct tar_reader *t = reader(a);
	int got;
	while ((got = tar_next(t, &e, &f)) > 0)
		;
	assert_int_equal(got, -EINVAL);
	if (!strstr(f.text, words))
		fail_msg("'%s' does not say '%s'", f.text, words);
	tar_reader_free(t);
	free(a->data);
}

static void test_every_kind_of_member_is_read_as_it_was_written(void **state)
{
	char longest[TAR_NAME_MAX - 8];
	memset(longest, 'n', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	const struct tar_header members[] = {
		{TAR_FILE, "plain", NULL, 5, 0644, 1, 2, 1000000000LL * 77},
		{TAR_DIRECTORY, "dir", NULL, 0, 0755, 0, 0, 0},
		{TAR_SYMLINK, "dir/link", "../plain", 0, 0777, 0, 0, 0},
		{TAR_HARDLINK, "dir/hard", "plain", 0, 0644, 0, 0, 0},
		{TAR_FILE, "ü/中文", NULL, 0, 0644, 4000000000U, 3000000000U, -5},
		{TAR_FILE, "raw\xff\xfe", NULL, 512, 0444, 0, 0, 0},
		{TAR_SYMLINK, "rawlink", "to\xff", 0, 0777, 0, 0, 0},
		{TAR_FILE, longest, NULL, 513, 0444, 0, 0, INT64_MAX},
		{TAR_HARDLINK, "last", longest, 0, 0444, 0, 0, 0},
	};
	char content[1024];
	for (size_t piece = 0; piece < 3; piece++) {
		struct archive a = {.piece = piece * 97};
		memset(content, 'c', sizeof content);
		for (size_t i = 0; i < ARRAY_SIZE(members); i++)
			add(&a, &members[i], content);
		append_zeros(&a, 1024);
		struct tar_reader *t = reader(&a);
		for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
			struct fault f = FAULT_INIT;
			if (tar_next(t, &e, &f) != 1)
				fail_msg("member %zu: %s", i, f.text);
			assert_int_equal(e.type, members[i].type);
			assert_string_equal(e.path, members[i].path);
			if (members[i].target)
				assert_string_equal(e.target, members[i].target);
			assert_int_equal(e.size, members[i].type == TAR_FILE ? members[i].size : 0);
			char out[1024];
			size_t got = 0;
			for (ssize_t n; i % 2 == 0 && (n = tar_read(t, out + got, sizeof out - got, &f)) > 0;)
				got += (size_t)n;
			if (i % 2 == 0) { /* the others are passed over */
				assert_int_equal(got, e.size);
				assert_memory_equal(out, content, got);
			}
		}
		assert_int_equal(tar_next(t, &e, NULL), 0);
		assert_int_equal(tar_next(t, &e, NULL), 0);
		assert_int_equal(tar_position(t), a.len);
		tar_reader_free(t);
		free(a.data);
	}
}

static void test_a_size_beyond_octal_digits_is_told_by_an_extended_header(void **state)
{
	uint8_t blocks[TAR_HEADER_MAX];
	size_t len;
	struct tar_header h = {TAR_FILE, "large", NULL, UINT64_C(10) << 40, 0644, 0, 0, 0};
	struct archive a = {0};
	assert_int_equal(tar_header_make(&h, blocks, &len), 0);
	append(&a, blocks, len);
	struct tar_reader *t = reader(&a);
	assert_int_equal(tar_next(t, &e, NULL), 1);
	assert_int_equal(e.size, UINT64_C(10) << 40);
	tar_reader_free(t);
	free(a.data);
}

static void test_a_name_that_no_archive_takes_is_an_error(void **state)
{
	static char name[TAR_NAME_MAX + 1];
	uint8_t blocks[TAR_HEADER_MAX];
	size_t len;
	memset(name, 'x', TAR_NAME_MAX);
	assert_int_equal(tar_header_make(&(struct tar_header){.type = TAR_FILE, .path = name}, blocks, &len), -ENAMETOOLONG);
	assert_int_equal(tar_header_make(&(struct tar_header){.type = TAR_SYMLINK, .path = "a", .target = name}, blocks, &len), -ENAMETOOLONG);
}

static const struct tar_header one = {TAR_FILE, "one", NULL, 3, 0644, 0, 0, 0};

static struct archive sample(void)
{
	struct archive a = {0};
	add(&a, &one, "abc");
	append_zeros(&a, 1024);
	return a;
}

static void test_an_archive_cut_at_any_byte_is_torn(void **state)
{
	struct archive whole_one = sample();
	size_t whole = whole_one.len;
	free(whole_one.data);
	for (size_t cut = 1; cut < whole; cut++) {
		struct archive a = sample();
		a.len = cut;
		assert_refused(&a, "torn");
	}
}

static void test_damage_and_things_behind_the_end_are_refused(void **state)
{
	struct archive a = sample();
	a.data[3] ^= 1;
	assert_refused(&a, "no tar archive");
	a = sample();
	add(&a, &one, "abc");
	assert_refused(&a, "behind its end");
	a = (struct archive){0};
	add(&a, &one, "abc");
	append_zeros(&a, 512);
	add(&a, &one, "abc");
	assert_refused(&a, "empty block");
	a = sample();
	append_zeros(&a, (size_t)65 << 20);
	assert_refused(&a, "no end");
}

/* A header with its sum mended after a change. */
static void mend(uint8_t *block)
{
	unsigned sum = 0;
	memset(block + 148, ' ', 8);
	for (int i = 0; i < TAR_BLOCK; i++)
		sum += block[i];
	snprintf((char *)block + 148, 8, "%06o", sum & 0777777);
}

static void test_headers_that_lie_are_refused(void **state)
{
	static const struct { int at; const char *bytes; size_t len; const char *words; } cases[] = {
		{124, "-0000000001", 11, "size"}, {124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, "size"},
		{124, "\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", 12, "torn"}, {124, "77777777777", 11, "torn"}, {156, "3", 1, "device"}, {156, "6", 1, "FIFO"},
		{156, "S", 1, "sparse"}, {156, "M", 1, "volumes"}, {156, "x", 1, "extended"}, {156, "D", 1, "no file"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct archive a = sample();
		memcpy(a.data + cases[i].at, cases[i].bytes, cases[i].len);
		mend(a.data);
		assert_refused(&a, cases[i].words);
	}
}

static void test_extended_headers_that_lie_are_refused(void **state)
{
	static const char *const records[] = {"", "5", "5 a\n", "99 path=x\n", "9 path=x", "10 path=xy\n", "0 path=x\n", "-1 path=x\n", "99999999999999999999 path=x\n",
		"13 size=1e3\n\n", "11 size=-1\n", "30 size=99999999999999999999\n", "24 GNU.sparse.size=1000\n", "9 path\0x\n"};
	for (size_t i = 1; i < ARRAY_SIZE(records); i++) {
		struct archive a = {0};
		struct tar_header x = {TAR_FILE, "x", NULL, strlen(records[i]), 0644, 0, 0, 0};
		add(&a, &x, records[i]);
		a.data[156] = 'x';
		mend(a.data);
		add(&a, &one, "abc");
		append_zeros(&a, 1024);
		assert_refused(&a, i == 12 ? "sparse" : "extended header");
	}
	struct archive a = {0};
	struct tar_header x = {TAR_FILE, "x", NULL, UINT64_C(1) << 30, 0644, 0, 0, 0};
	uint8_t blocks[TAR_HEADER_MAX];
	size_t len;
	assert_int_equal(tar_header_make(&x, blocks, &len), 0);
	append(&a, blocks, len);
	a.data[156] = 'x';
	mend(a.data);
	assert_refused(&a, "extended header of 1073741824 bytes");
}

static void test_long_names_as_gnu_tar_writes_them_are_read(void **state)
{
	char name[300];
	memset(name, 'g', sizeof name);
	name[299] = '\0';
	struct archive a = {0};
	add(&a, &(struct tar_header){TAR_FILE, "././@LongLink", NULL, sizeof name, 0644, 0, 0, 0}, name);
	a.data[156] = 'L';
	mend(a.data);
	add(&a, &one, "abc");
	append_zeros(&a, 1024);
	struct tar_reader *t = reader(&a);
	assert_int_equal(tar_next(t, &e, NULL), 1);
	assert_string_equal(e.path, name);
	assert_int_equal(e.size, 3);
	tar_reader_free(t);
	free(a.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_kind_of_member_is_read_as_it_was_written),
		cmocka_unit_test(test_a_size_beyond_octal_digits_is_told_by_an_extended_header),
		cmocka_unit_test(test_a_name_that_no_archive_takes_is_an_error),
		cmocka_unit_test(test_an_archive_cut_at_any_byte_is_torn),
		cmocka_unit_test(test_damage_and_things_behind_the_end_are_refused),
		cmocka_unit_test(test_headers_that_lie_are_refused),
		cmocka_unit_test(test_extended_headers_that_lie_are_refused),
		cmocka_unit_test(test_long_names_as_gnu_tar_writes_them_are_read),
	};
	return cmocka_run_group_tests_name("bundle, tar", tests, NULL, NULL);
}
