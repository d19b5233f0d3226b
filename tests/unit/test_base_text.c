/* Sentences, UTF-8, hexadecimal, numbers, time, buffers and JSON. */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <mintfs/buf.h>
#include <mintfs/error.h>
#include <mintfs/util.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_a_fault_holds_one_clean_sentence(void **state)
{
	struct fault f = {.verdict = 7};

	assert_int_equal(fault_set(&f, EBUSY, "'%s' is open\nin %d\x7f places", "a\tb", 2), -EBUSY);
	assert_int_equal(f.error, EBUSY);
	assert_int_equal(f.verdict, 0);
	assert_string_equal(f.text, "'a?b' is open?in 2? places");
	assert_int_equal(fault_set(&f, EIO, "again: %s", f.text), -EIO);
	assert_string_equal(f.text, "again: 'a?b' is open?in 2? places");
	/* what a terminal would obey: ESC, CSI as one character and as one byte, a change of direction */
	fault_set(&f, EIO, "%s", "a\x1b[31mb\xc2\x9b" "2Jc\x9bz\xe2\x80\xae" "gpj\xe2\x81\xa9 药\xe2\x80\xa6é");
	assert_string_equal(f.text, "a?[31mb??2Jc?z???gpj??? 药\xe2\x80\xa6é");
	assert_int_equal(fault_set(NULL, EIO, "nobody listens"), -EIO);
	assert_int_equal(fault_default(NULL, EIO, "nobody listens"), -EIO);
}

static void test_the_deepest_sentence_wins(void **state)
{
	struct fault f = FAULT_INIT;

	assert_int_equal(fault_default(&f, ENOSPC, "the disk is full"), -ENOSPC);
	assert_int_equal(fault_default(&f, EIO, "cannot commit"), -EIO);
	assert_string_equal(f.text, "the disk is full");
	assert_int_equal(f.error, ENOSPC);
}

static void test_a_long_sentence_is_cut_between_characters(void **state)
{
	/* 3-byte characters behind 0 to 3 bytes of ASCII: the cut falls on each place within a character */
	for (int shift = 0; shift < 4; shift++) {
		char text[2 * FAULT_TEXT_MAX] = "";
		struct fault f = FAULT_INIT;
		size_t len;

		memset(text, 'x', (size_t)shift);
		for (int i = 0; i < 300; i++)
			strcat(text, "药");
		fault_set(&f, EINVAL, "%s", text);
		len = strlen(f.text);
		assert_in_range(len, FAULT_TEXT_MAX - 4, FAULT_TEXT_MAX - 1);
		assert_true(utf8_valid(f.text, len));
		assert_string_equal(f.text + len - 3, "...");
		assert_memory_equal(f.text, text, len - 3);
	}
}

static void test_a_sentence_that_just_fits_is_whole(void **state)
{
	char text[FAULT_TEXT_MAX + 1];
	struct fault f = FAULT_INIT;

	memset(text, 'x', sizeof(text));
	text[FAULT_TEXT_MAX - 1] = '\0';
	fault_set(&f, EINVAL, "%s", text);
	assert_string_equal(f.text, text);
	text[FAULT_TEXT_MAX - 1] = 'x';
	text[FAULT_TEXT_MAX] = '\0';
	fault_set(&f, EINVAL, "%s", text);
	assert_int_equal(strlen(f.text), FAULT_TEXT_MAX - 1);
	assert_string_equal(f.text + FAULT_TEXT_MAX - 4, "...");
}

static void test_utf8_is_judged_strictly(void **state)
{
	static const struct {
		const char *text;
		bool valid;
	} rows[] = {
		{"", true}, {"abc", true}, {"é", true}, {"药", true}, {"😀", true}, {"a药b", true},
		{"\xc2\x80", true}, {"\xdf\xbf", true}, {"\xe0\xa0\x80", true}, {"\xef\xbf\xbf", true},
		{"\xf0\x90\x80\x80", true}, {"\xf4\x8f\xbf\xbf", true}, {"\xed\x9f\xbf", true}, {"\xee\x80\x80", true},
		{"\x80", false}, {"\xbf", false}, {"\xc0\x80", false}, {"\xc1\xbf", false}, {"\xe0\x9f\xbf", false},
		{"\xf0\x8f\xbf\xbf", false}, {"\xed\xa0\x80", false}, {"\xed\xbf\xbf", false}, {"\xf4\x90\x80\x80", false},
		{"\xf5\x80\x80\x80", false}, {"\xff", false}, {"\xc3", false}, {"\xe8\x8d", false}, {"\xf0\x9f\x98", false},
		{"\xc3(", false}, {"\xe8(\xaf", false}, {"\xe8\x8d(", false}, {"\xf0\x9f\x98(", false}, {"a\xffz", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (utf8_valid(rows[i].text, strlen(rows[i].text)) != rows[i].valid)
			fail_msg("row %zu", i);
	}
	assert_true(utf8_valid("a\0b", 3));
	assert_false(utf8_valid("药", 2));
}

static void test_hex_goes_both_ways_and_only_exact_lower_case_is_read(void **state)
{
	static const char *const bad[] = {"", "00ff", "00ff1", "00ff10a", "00FF10", "00fg10", "00ff1 ", "0x00ff"};
	uint8_t bytes[3] = {0x00, 0xff, 0x10}, back[3] = {1, 2, 3};
	char hex[7];

	hex_encode(bytes, 3, hex);
	assert_string_equal(hex, "00ff10");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(hex_decode(bad[i], 3, back), -EINVAL);
	assert_memory_equal(back, "\1\2\3", 3);
	assert_int_equal(hex_decode(hex, 3, back), 0);
	assert_memory_equal(back, bytes, 3);
}

static void test_numbers_are_whole_and_in_range(void **state)
{
	static const struct {
		const char *text;
		uint64_t max;
		int r;
		uint64_t value;
	} rows[] = {
		{"0", 0, 0, 0}, {"7", 9, 0, 7}, {"007", 9, 0, 7}, {"18446744073709551615", UINT64_MAX, 0, UINT64_MAX},
		{"18446744073709551616", UINT64_MAX, -ERANGE, 0}, {"99999999999999999999999", UINT64_MAX, -ERANGE, 0},
		{"10", 9, -ERANGE, 0}, {"", 9, -EINVAL, 0}, {" 1", 9, -EINVAL, 0}, {"1 ", 9, -EINVAL, 0}, {"+1", 9, -EINVAL, 0},
		{"-1", 9, -EINVAL, 0}, {"0x1", 9, -EINVAL, 0}, {"99999999999999999999999a", 9, -EINVAL, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t value = 4711;
		if (parse_u64(rows[i].text, rows[i].max, &value) != rows[i].r)
			fail_msg("'%s'", rows[i].text);
		assert_true(value == (rows[i].r == 0 ? rows[i].value : 4711));
	}
}

static void test_text_copy_copies_all_or_nothing(void **state)
{
	char dst[4] = "old";

	assert_int_equal(text_copy(dst, sizeof(dst), "1234"), -ENAMETOOLONG);
	assert_string_equal(dst, "old");
	assert_int_equal(text_copy(dst, sizeof(dst), "123"), 0);
	assert_string_equal(dst, "123");
	assert_int_equal(text_copy(dst, 0, ""), -ENAMETOOLONG);
}

static void test_time_is_written_in_utc(void **state)
{
	char text[TIME_TEXT_MAX];
	struct timespec t;

	time_utc_text(0, text);
	assert_string_equal(text, "1970-01-01 00:00:00");
	time_utc_text(1752604800LL * NS_PER_SEC + 999999999, text); /* date -u -d '2025-07-15 18:40:00' +%s */
	assert_string_equal(text, "2025-07-15 18:40:00");
	time_utc_text(-1, text);
	assert_string_equal(text, "1969-12-31 23:59:59");
	t = ns_timespec(-1);
	assert_int_equal(t.tv_sec, -1);
	assert_int_equal(t.tv_nsec, 999999999);
	assert_true(timespec_ns(t) == -1);
}

static void test_a_buffer_grows_to_its_maximum_and_errors_stick(void **state)
{
	auto_buf struct buf b = BUF_INIT(10);

	assert_string_equal(buf_text(&b), "");
	assert_int_equal(buf_puts(&b, "12345"), 0);
	assert_int_equal(buf_printf(&b, "%d", 6789), 0);
	assert_int_equal(buf_putc(&b, '0'), 0);
	assert_string_equal(buf_text(&b), "1234567890");
	assert_int_equal(buf_putc(&b, 'x'), -EFBIG);
	assert_int_equal(buf_puts(&b, ""), -EFBIG);
	buf_truncate(&b, 3);
	assert_int_equal(buf_printf(&b, "x"), -EFBIG);
	assert_string_equal(buf_text(&b), "123");
	assert_null(buf_take(&b));
	assert_int_equal(buf_puts(&b, "new"), 0);
	assert_string_equal(buf_text(&b), "new");
}

static void test_a_buffer_gives_its_text_away(void **state)
{
	struct buf b = BUF_INIT(SIZE_MAX);
	char *text = buf_take(&b);

	assert_string_equal(text, "");
	free(text);
	for (int i = 0; i < 1000; i++)
		buf_add(&b, "ab\0c", 4);
	assert_int_equal(b.len, 4000);
	text = buf_take(&b);
	assert_memory_equal(text + 3996, "ab\0c", 5);
	assert_int_equal(b.len, 0);
	assert_string_equal(buf_text(&b), "");
	free(text);
}

static void test_json_places_commas_and_lines(void **state)
{
	auto_buf struct buf b = BUF_INIT(10000);
	struct json_out j;

	for (int indent = 0; indent <= 2; indent += 2) {
		buf_truncate(&b, 0);
		json_init(&j, &b, indent);
		json_object_begin(&j);
		json_field_string(&j, "a", "x");
		json_field_int(&j, "b", INT64_MIN);
		json_key(&j, "c");
		json_array_begin(&j);
		json_field_bool(&j, "inner", true); /* not JSON in an array, but its commas are the same */
		json_null(&j);
		json_raw(&j, "{\"raw\":1}");
		json_array_end(&j);
		json_key(&j, "d");
		json_object_begin(&j);
		json_object_end(&j);
		json_field_string(&j, "e", NULL);
		json_object_end(&j);
		assert_int_equal(b.error, 0);
		if (indent == 0)
			assert_string_equal(buf_text(&b), "{\"a\":\"x\",\"b\":-9223372036854775808,"
				"\"c\":[\"inner\":true,null,{\"raw\":1}],\"d\":{},\"e\":null}");
		else
			assert_string_equal(buf_text(&b), "{\n  \"a\": \"x\",\n  \"b\": -9223372036854775808,\n  \"c\": [\n"
				"    \"inner\": true,\n    null,\n    {\"raw\":1}\n  ],\n  \"d\": {},\n  \"e\": null\n}");
	}
}

static void test_json_strings_may_hold_any_bytes(void **state)
{
	static const struct {
		const char *text, *json;
	} rows[] = {
		{"", "\"\""},
		{"a\"b\\c/d", "\"a\\\"b\\\\c/d\""},
		{"\n\r\t\b\f\x01\x1f", "\"\\n\\r\\t\\b\\f\\u0001\\u001f\""},
		{"药😀", "\"药😀\""},
		{"a\xffz", "\"a\xef\xbf\xbdz\""},
		{"\x7f\xc2\x9b[\xc2\xa0\xe2\x80\xae\xe2\x80\xaf\xe2\x81\xa6", "\"\\u007f\\u009b[\xc2\xa0\\u202e\xe2\x80\xaf\\u2066\""},
		{"\xe8\x8d", "\"\xef\xbf\xbd\xef\xbf\xbd\""},
		{"\xed\xa0\x80x", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx\""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		auto_buf struct buf b = BUF_INIT(1000);
		struct json_out j;
		json_init(&j, &b, 0);
		json_string(&j, rows[i].text);
		assert_string_equal(buf_text(&b), rows[i].json);
	}
}

static void test_json_numbers_read_back_the_same_in_few_digits(void **state)
{
	static const struct {
		double value;
		const char *json;
	} rows[] = {
		{0, "0"}, {10, "10"}, {-3, "-3"}, {0.1, "0.1"}, {10.5, "10.5"}, {0.89, "0.89"}, {123456789012, "123456789012"},
		{1e-7, "1e-07"}, {1e300, "1e+300"}, {1.0 / 3, "0.3333333333333333"}, {0.1 + 0.2, "0.30000000000000004"},
		{(double)NAN, "null"}, {(double)INFINITY, "null"}, {-(double)INFINITY, "null"},
	};
	static const double hard[] = {DBL_MAX, DBL_MIN, DBL_EPSILON, 4.9406564584124654e-324, 9007199254740993.0, 1e15, 1e22,
		123456.789e-30, -2.2250738585072011e-308, 999999999999999.9};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		auto_buf struct buf b = BUF_INIT(1000);
		struct json_out j;
		json_init(&j, &b, 0);
		json_real(&j, rows[i].value);
		assert_string_equal(buf_text(&b), rows[i].json);
	}
	for (size_t i = 0; i < ARRAY_SIZE(hard); i++) {
		auto_buf struct buf b = BUF_INIT(1000);
		struct json_out j;
		json_init(&j, &b, 0);
		json_real(&j, hard[i]);
		if (strtod(buf_text(&b), NULL) != hard[i])
			fail_msg("%.17g became %s", hard[i], buf_text(&b));
	}
}

static void test_json_that_is_too_deep_or_unbalanced_is_an_error(void **state)
{
	auto_buf struct buf b = BUF_INIT(10000), c = BUF_INIT(100);
	struct json_out j;

	json_init(&j, &b, 0);
	for (int i = 0; i < JSON_DEPTH_MAX; i++)
		json_array_begin(&j);
	assert_int_equal(b.error, 0);
	json_array_begin(&j);
	assert_int_equal(b.error, -EOVERFLOW);
	for (int i = 0; i < JSON_DEPTH_MAX + 2; i++)
		json_array_end(&j);
	assert_int_equal(b.error, -EOVERFLOW);

	json_init(&j, &c, 0);
	json_object_end(&j);
	assert_int_equal(c.error, -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_fault_holds_one_clean_sentence),
		cmocka_unit_test(test_the_deepest_sentence_wins),
		cmocka_unit_test(test_a_long_sentence_is_cut_between_characters),
		cmocka_unit_test(test_a_sentence_that_just_fits_is_whole),
		cmocka_unit_test(test_utf8_is_judged_strictly),
		cmocka_unit_test(test_hex_goes_both_ways_and_only_exact_lower_case_is_read),
		cmocka_unit_test(test_numbers_are_whole_and_in_range),
		cmocka_unit_test(test_text_copy_copies_all_or_nothing),
		cmocka_unit_test(test_time_is_written_in_utc),
		cmocka_unit_test(test_a_buffer_grows_to_its_maximum_and_errors_stick),
		cmocka_unit_test(test_a_buffer_gives_its_text_away),
		cmocka_unit_test(test_json_places_commas_and_lines),
		cmocka_unit_test(test_json_strings_may_hold_any_bytes),
		cmocka_unit_test(test_json_numbers_read_back_the_same_in_few_digits),
		cmocka_unit_test(test_json_that_is_too_deep_or_unbalanced_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
