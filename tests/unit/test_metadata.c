/* metadata.json as trainers write it, and as nobody should. */
#include <mintfs/cleanup.h>
#include <mintfs/metadata.h>
#include <mintfs/util.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define auto_metadata __attribute__((cleanup(metadata_release)))

static int parse(const char *text, struct metadata *md, struct fault *f)
{
	return metadata_parse(text, strlen(text), md, f);
}

static void test_metrics_become_a_compact_summary_and_a_list_of_numbers(void **state)
{
	auto_metadata struct metadata md = {0};

	assert_int_equal(parse("{\"epochs\": 3, \"metrics\": { \"rmse\" : 10.5,\n\t\"r2\": 0.89, \"name\": \"a b\", \"ok\": true,"
			       " \"none\": null, \"per_shop\": { \"S 1\": [1, 2] } }, \"description\": \"first try\"}", &md, NULL), 0);
	assert_string_equal(md.metrics_summary,
			    "{\"rmse\":10.5,\"r2\":0.89,\"name\":\"a b\",\"ok\":true,\"none\":null,\"per_shop\":{\"S 1\":[1,2]}}");
	assert_int_equal(md.n_metrics, 2);
	assert_string_equal(md.metrics[0].name, "rmse");
	assert_true(md.metrics[0].value == 10.5);
	assert_string_equal(md.metrics[1].name, "r2");
	assert_true(md.metrics[1].value == 0.89);
	assert_string_equal(md.best_name, "rmse");
	assert_int_equal(md.best_mode, METADATA_BEST_MIN);
	assert_false(md.best_named);
	assert_string_equal(md.description, "first try");
	assert_int_equal(md.n_inputs, 0);
}

static void test_an_object_without_metrics_has_an_empty_summary_and_no_best(void **state)
{
	auto_metadata struct metadata md = {0};

	assert_int_equal(parse("\xef\xbb\xbf {} \r\n\t", &md, NULL), 0);
	assert_string_equal(md.metrics_summary, "{}");
	assert_int_equal(md.n_metrics, 0);
	assert_null(md.best_name);
	assert_int_equal(md.best_mode, METADATA_BEST_UNKNOWN);
	assert_null(md.description);
}

static void test_numbers_stay_as_the_trainer_wrote_them(void **state)
{
	auto_metadata struct metadata md = {0};
	static const char digits[] = "0.1234567890123456789012345678901234567890123456789012345678901234567890";
	char text[400], expected[400];

	snprintf(text, sizeof(text), "{\"metrics\": {\"n\": 12345678901234567890, \"e\": 1E-3, \"z\": -0.0, \"t\": 1.50, \"long\": %s,"
		 " \"huge\": 1e999}}", digits);
	snprintf(expected, sizeof(expected), "{\"n\":12345678901234567890,\"e\":1E-3,\"z\":-0.0,\"t\":1.50,\"long\":%s,\"huge\":null}",
		 digits);
	assert_int_equal(parse(text, &md, NULL), 0);
	assert_string_equal(md.metrics_summary, expected);
	assert_int_equal(md.n_metrics, 5); /* 1e999 is no finite number */
	assert_true(md.metrics[1].value == 0.001);
	assert_true(md.metrics[4].value == 0.12345678901234568);
}

static void test_a_number_that_no_double_holds_is_null(void **state)
{
	char digits[400], text[2048], expected[2048];
	struct metadata md;

	(void)state;
	memset(digits, '9', sizeof digits - 1);
	digits[sizeof digits - 1] = '\0';
	snprintf(text, sizeof text, "{\"metrics\": {\"acc\": 1e999, \"a\": [-1E+400, 1e308, 1e-999], \"b\": %s, \"c\": %.309s, \"d\": 0.%s, \"r2\": 0.5}, \"params\": {\"lr\": 1e999}}", digits, digits, digits);
	assert_int_equal(parse(text, &md, NULL), 0);
	snprintf(expected, sizeof expected, "{\"acc\":null,\"a\":[null,1e308,1e-999],\"b\":null,\"c\":null,\"d\":0.%s,\"r2\":0.5}", digits);
	assert_string_equal(md.metrics_summary, expected);
	assert_string_equal(md.params, "{\"lr\":null}");
	assert_string_equal(md.best_name, "acc");
	assert_int_equal(md.n_metrics, 2);
	assert_string_equal(md.metrics[0].name, "d");
	assert_string_equal(md.metrics[1].name, "r2");
	metadata_release(&md);
}

static void test_what_python_writes_for_nan_and_infinity_is_read_as_null(void **state)
{
	auto_metadata struct metadata md = {0};

	assert_int_equal(parse("{\"x\": NaN, \"metrics\": {\"loss\": NaN, \"a\": [Infinity, -Infinity, -1], \"acc\": 0.5, \"NaN\": \"NaN\"}}",
			       &md, NULL), 0);
	assert_string_equal(md.metrics_summary, "{\"loss\":null,\"a\":[null,null,-1],\"acc\":0.5,\"NaN\":\"NaN\"}");
	assert_int_equal(md.n_metrics, 1);
	assert_string_equal(md.metrics[0].name, "acc");
	assert_string_equal(md.best_name, "loss"); /* a run that diverged is not judged by another metric */
}

static void test_the_last_of_equal_keys_wins(void **state)
{
	auto_metadata struct metadata md = {0};

	assert_int_equal(parse("{\"metrics\": {\"old\": 1}, \"description\": \"a\", \"metrics\": {\"rmse\": 1, \"r2\": 2, \"\\u0072mse\": 3},"
			       "\"desc\\u0072iption\": \"b\"}", &md, NULL), 0);
	assert_string_equal(md.metrics_summary, "{\"rmse\":3,\"r2\":2}");
	assert_int_equal(md.n_metrics, 2);
	assert_true(md.metrics[0].value == 3);
	assert_string_equal(md.description, "b");
}

static void test_names_in_any_script_and_escape_are_understood(void **state)
{
	auto_metadata struct metadata md = {0};

	assert_int_equal(parse("{\"metrics\": {\"准确率\": 1, \"\\u51c6\\u786e\": 2, \"q\\\"\\n\": 3}, \"description\": \"\\ud83d\\ude00\"}",
			       &md, NULL), 0);
	assert_string_equal(md.metrics_summary, "{\"准确率\":1,\"准确\":2,\"q\\\"\\n\":3}");
	assert_string_equal(md.metrics[1].name, "准确");
	assert_string_equal(md.metrics[2].name, "q\"\n");
	assert_string_equal(md.description, "😀");
}

static void test_what_no_c_string_can_hold_is_replaced(void **state)
{
	auto_metadata struct metadata md = {0};

	/* A zero byte would cut the name, a lone surrogate is what Python writes for an undecodable file name. */
	assert_int_equal(parse("{\"metrics\\u0000\": 1, \"metrics\": {\"a\\u0000b\": 1, \"c\": [\"\\udcff\", \"\\ud83dx\", \"\\\\u0000\"]},"
			       " \"inputs\": [\"\\ud83d\\ud83d\\ude00\"]}", &md, NULL), 0);
	assert_string_equal(md.metrics_summary, "{\"a\xef\xbf\xbd" "b\":1,\"c\":[\"\\ufffd\",\"\\ufffdx\",\"\\\\u0000\"]}");
	assert_string_equal(md.metrics[0].name, "a\xef\xbf\xbd" "b");
	assert_string_equal(md.inputs[0], "\xef\xbf\xbd😀");
}

static void test_best_follows_what_the_trainer_named(void **state)
{
	static const struct { const char *text; const char *name; enum metadata_best_mode mode; } cases[] = {
		{"{\"best\": {\"metric\": \"rmse\", \"mode\": \"min\"}}", "rmse", METADATA_BEST_MIN},
		{"{\"best\": {\"mode\": \"max\", \"metric\": \"loss\"}, \"metrics\": {\"r2\": 1}}", "loss", METADATA_BEST_MAX},
		{"{\"best\": {\"metric\": \"val_auc\"}}", "val_auc", METADATA_BEST_MAX},
		{"{\"best\": {\"metric\": \"tastiness\"}}", "tastiness", METADATA_BEST_UNKNOWN},
		{"{\"best\": {\"metric\": \"a\", \"metric\": \"mae\", \"value\": NaN}}", "mae", METADATA_BEST_MIN},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		auto_metadata struct metadata md = {0};
		assert_int_equal(parse(cases[i].text, &md, NULL), 0);
		assert_string_equal(md.best_name, cases[i].name);
		assert_int_equal(md.best_mode, cases[i].mode);
		assert_true(md.best_named);
	}
}

static void test_without_a_name_the_first_number_decides_best(void **state)
{
	auto_metadata struct metadata md = {0};

	assert_int_equal(parse("{\"metrics\": {\"note\": \"x\", \"final\": true, \"by\": {\"loss\": 1}, \"seconds\": 7, \"rmse\": 1}}",
			       &md, NULL), 0);
	assert_string_equal(md.best_name, "seconds");
	assert_int_equal(md.best_mode, METADATA_BEST_UNKNOWN); /* so there is no best */
}

static void test_well_known_names_have_a_direction(void **state)
{
	static const char *const min[] = {"loss", "rmse", "mse", "mae", "mape", "LOSS", "val_loss", "test-rmse", "val.mse", "eval/mae", "a_b/MAPE"};
	static const char *const max[] = {"accuracy", "acc", "r2", "f1", "auc", "precision", "recall", "R2", "val_Acc", "test/f1"};
	static const char *const unknown[] = {"", "_", "lossy", "loss_", "loss_val", "valloss", "r2x", "time", "val loss"};

	for (size_t i = 0; i < sizeof(min) / sizeof(min[0]); i++)
		assert_int_equal(metadata_mode_of(min[i]), METADATA_BEST_MIN);
	for (size_t i = 0; i < sizeof(max) / sizeof(max[0]); i++)
		assert_int_equal(metadata_mode_of(max[i]), METADATA_BEST_MAX);
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
		assert_int_equal(metadata_mode_of(unknown[i]), METADATA_BEST_UNKNOWN);
}

static void test_inputs_are_the_strings_of_their_array(void **state)
{
	auto_metadata struct metadata md = {0}, other = {0}, one = {0};

	assert_int_equal(parse("{\"inputs\": [\"dataset/mol/v3\", 7, [\"no\"], {\"no\": \"no\"}, null, \"product/P_all/kan/v1\"]}", &md, NULL), 0);
	assert_int_equal(md.n_inputs, 2);
	assert_string_equal(md.inputs[0], "dataset/mol/v3");
	assert_string_equal(md.inputs[1], "product/P_all/kan/v1");
	assert_int_equal(parse("{\"inputs\": {\"x\": \"y\"}, \"description\": 5}", &other, NULL), 0);
	assert_int_equal(other.n_inputs, 0);
	assert_int_equal(parse("{\"inputs\": \"dataset/mol/v3\"}", &one, NULL), 0);
	assert_int_equal(one.n_inputs, 1);
	assert_string_equal(one.inputs[0], "dataset/mol/v3");
	assert_null(other.description);
}

static void test_what_is_not_json_is_refused_with_its_place(void **state)
{
	static const struct { const char *text; const char *place; } cases[] = {
		{"", "at byte 0 (line 1, column 1)"},
		{"   ", "at byte 3 "},
		{"[]", "not a JSON object at byte 0 "},
		{"7", "not a JSON object at byte 0 "},
		{"{", "at byte 1 "},
		{"{\"a\"", "at byte 4 "},
		{"{\"a\":", "at byte 5 "},
		{"{\"a\": 1", "at byte 7 "},
		{"{\"a\": 1,}", "expected a key in double quotes, found '}' at byte 8 "},
		{"{\"a\": [1,]}", "expected a value, found ']' at byte 9 "},
		{"{\"a\": 1 \"b\": 2}", "expected ',' or '}', found '\"' at byte 8 "},
		{"{\"a\": 1} x", "at byte 9 "},
		{"{\"a\": 1}{}", "at byte 8 "},
		{"{'a': 1}", "at byte 1 "},
		{"{\"a\": 'x'}", "at byte 6 "},
		{"{\"a\": True}", "at byte 6 "},
		{"{\"a\": nan}", "at byte 6 "},
		{"{\"a\": 01}", "at byte 7 "},
		{"{\"a\": +1}", "at byte 6 "},
		{"{\"a\": .5}", "at byte 6 "},
		{"{\"a\": 5.}", "at byte 8 "},
		{"{\"a\": -}", "at byte 7 "},
		{"{\"a\": 1e}", "at byte 8 "},
		{"{\"a\": 0x1}", "at byte 7 "},
		{"{\"a\": tru}", "at byte 6 "},
		{"{\"a\": \"x}", "at byte 6 "},
		{"{\"a\": \"\\x\"}", "an unknown escape in a string at byte 7 "},
		{"{\"a\": \"\\u12g4\"}", "at byte 7 "},
		{"{\"a\": \"\t\"}", "a control character in a string at byte 7 "},
		{"{\"a\": \"\xff\"}", "a string that is not UTF-8 at byte 6 "},
		{"{\"a\": \"\xed\xa0\x80\"}", "not UTF-8 at byte 6 "},
		{"{\"a\": [}", "at byte 7 "},
		{"{\"a\": {]}", "at byte 7 "},
		{"{\"a\": 1]", "at byte 7 "},
		{"{\"a\":\v1}", "at byte 5 "},
		{"{\"ä\": 1,\n \"ü\": \"é\" x}", "at byte 22 (line 2, column 11)"},
		{"{\"metrics\": [1]}", "\"metrics\" is not an object at byte 12 "},
		{"{\"metrics\": null}", "\"metrics\" is not an object at byte 12 "},
		{"{\"best\": \"rmse\"}", "at byte 9 "},
		{"{\"best\": {}}", "at byte 9 "},
		{"{\"best\": {\"metric\": 1}}", "at byte 9 "},
		{"{\"best\": {\"metric\": \"rmse\", \"mode\": \"MIN\"}}", "at byte 9 "},
		{"{\"best\": {\"metric\": \"rmse\", \"mode\": null}}", "at byte 9 "},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct metadata md = {.n_inputs = 77};
		struct fault f = FAULT_INIT;
		assert_int_equal(parse(cases[i].text, &md, &f), -EINVAL);
		assert_int_equal(md.n_inputs, 77);
		assert_int_equal(f.error, EINVAL);
		assert_int_equal(strncmp(f.text, "metadata.json: ", 15), 0);
		if (!strstr(f.text, cases[i].place))
			fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].text, f.text, cases[i].place);
	}
}

static void test_a_zero_byte_does_not_end_the_text(void **state)
{
	struct metadata md;

	assert_int_equal(metadata_parse("{}\0", 3, &md, NULL), -EINVAL);
	assert_int_equal(metadata_parse("{\"a\0\": 1}", 9, &md, NULL), -EINVAL);
}

static void test_every_beginning_of_a_document_is_refused(void **state)
{
	static const char text[] = "{\"metrics\": {\"a\": [1.5e3, true, \"\\u00e9é\"]}, \"best\": {\"metric\": \"a\"}, \"x\": null}";

	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		struct metadata md;
		char *copy = malloc(len + 1); /* so that a sanitizer sees a step too far */
		memcpy(copy, text, len);
		assert_int_equal(metadata_parse(copy, len, &md, NULL), -EINVAL);
		free(copy);
	}
}

static void test_nesting_is_bounded(void **state)
{
	auto_buf struct buf text = BUF_INIT(1 << 20);
	struct fault f = FAULT_INIT;

	for (int levels = METADATA_DEPTH_MAX; levels <= METADATA_DEPTH_MAX + 1; levels++) {
		auto_metadata struct metadata md = {0};
		buf_truncate(&text, 0);
		buf_puts(&text, "{\"metrics\": {\"a\": ");
		for (int i = 2; i < levels; i++)
			buf_putc(&text, '[');
		for (int i = 2; i < levels; i++)
			buf_putc(&text, ']');
		buf_puts(&text, "}}");
		assert_int_equal(parse(text.data, &md, &f), levels <= METADATA_DEPTH_MAX ? 0 : -EINVAL);
	}
	assert_non_null(strstr(f.text, "200 levels deep at byte 216 "));

	buf_truncate(&text, 0);
	for (int i = 0; i < 500000; i++)
		buf_puts(&text, "[");
	struct metadata md;
	assert_int_equal(parse(text.data, &md, NULL), -EINVAL);
}

static void test_size_and_counts_are_bounded(void **state)
{
	auto_buf struct buf text = BUF_INIT(16u << 20);
	auto_metadata struct metadata md = {0};
	struct metadata untouched;

	buf_puts(&text, "{\"metrics\": {\"m0\": 0");
	for (int i = 1; i < METADATA_METRICS_MAX + 5; i++)
		buf_printf(&text, ",\"m%d\":%d", i, i);
	buf_puts(&text, "}, \"inputs\": [\"i\"");
	for (int i = 1; i < METADATA_INPUTS_MAX + 5; i++)
		buf_puts(&text, ",\"i\"");
	buf_puts(&text, "]}");
	assert_int_equal(parse(text.data, &md, NULL), 0);
	assert_int_equal(md.n_metrics, METADATA_METRICS_MAX);
	assert_int_equal(md.n_inputs, METADATA_INPUTS_MAX);
	assert_non_null(strstr(md.metrics_summary, ",\"m1028\":1028}"));

	while (text.len <= METADATA_SIZE_MAX)
		buf_puts(&text, "                                                                ");
	assert_int_equal(parse(text.data, &untouched, NULL), -EFBIG);
	buf_truncate(&text, METADATA_SIZE_MAX);
	metadata_release(&md);
	assert_int_equal(parse(text.data, &md, NULL), 0);
}

static int memory_file(const char *text)
{
	int fd = memfd_create("metadata.json", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	return fd;
}

static void test_a_file_is_read_whatever_its_offset(void **state)
{
	auto_close int fd = memory_file("{\"metrics\": {\"rmse\": 1}}");
	auto_metadata struct metadata md = {0};

	assert_int_equal(metadata_read(fd, &md, NULL), 0);
	assert_string_equal(md.metrics_summary, "{\"rmse\":1}");
}

static void test_what_is_no_file_or_too_large_is_not_read(void **state)
{
	auto_close int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_close int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	auto_close int large = memory_file("{}");
	struct metadata md;
	struct fault f = FAULT_INIT;

	assert_int_equal(metadata_read(dir, &md, &f), -EINVAL);
	assert_string_equal(f.text, "metadata.json: is a directory");
	assert_int_equal(metadata_read(null, &md, &f), -EINVAL);
	assert_int_equal(ftruncate(large, METADATA_SIZE_MAX + 1), 0);
	assert_int_equal(metadata_read(large, &md, &f), -EFBIG);
	assert_int_equal(metadata_read(-1, &md, &f), -EBADF);
}

static int note_field(const char *name, const char *value, void *arg)
{
	return buf_printf(arg, "%s=%s;", name, value);
}

static int stop_at_b(const char *name, const char *value, void *arg)
{
	++*(int *)arg;
	return strcmp(name, "b") ? 0 : 42;
}

static void test_fields_come_flattened_in_order(void **state)
{
	static const char text[] = "{\"model\": \"k a\\\"n\", \"optimizer\": {\"lr\": 0.001, \"sched\": {\"name\": null, \"e\": {}}, \"n\": 1E3},"
				   " \"layers\": [64, {\"a\": NaN}], \"ok\": true, \"seed\": 12345678901234567890}";
	auto_buf struct buf out = BUF_INIT(4096);

	assert_int_equal(metadata_each_field(text, sizeof(text) - 1, note_field, &out, NULL), 0);
	assert_string_equal(buf_text(&out), "model=k a\"n;optimizer.lr=0.001;optimizer.sched.name=null;optimizer.n=1E3;"
			    "layers=[64,{\"a\":null}];ok=true;seed=12345678901234567890;");
}

static int note_value(const char *name, const char *value, const char *json, void *arg)
{
	return buf_printf(arg, "%s=%s=%s;", name, value, json);
}

static void test_values_come_as_json_of_their_own_type(void **state)
{
	static const char text[] = "{\"s\": \"1\", \"n\": 1E3, \"x\": NaN, \"y\": -Infinity, \"z\": null, \"q\": \"null\", \"t\": true, \"a\": [1, {\"b\": NaN}],"
				   " \"c\": \"\xc2\x9b\x7f\xe2\x80\xae\"}";
	auto_buf struct buf out = BUF_INIT(4096);

	assert_int_equal(metadata_each_value(text, sizeof(text) - 1, note_value, &out, NULL), 0);
	assert_string_equal(buf_text(&out), "s=1=\"1\";n=1E3=1E3;x=null=null;y=null=null;z=null=null;q=null=\"null\";t=true=true;"
			    "a=[1,{\"b\":null}]=[1,{\"b\":null}];c=\xc2\x9b\x7f\xe2\x80\xae=\"\\u009b\\u007f\\u202e\";");
}

static void test_long_arrays_are_cut_between_characters(void **state)
{
	auto_buf struct buf text = BUF_INIT(65536), out = BUF_INIT(65536);

	buf_puts(&text, "{\"a\": [\"");
	for (int i = 0; i < 1000; i++)
		buf_puts(&text, "é");
	buf_puts(&text, "\"]}");
	assert_int_equal(metadata_each_field(text.data, text.len, note_field, &out, NULL), 0);
	assert_int_equal(out.len, strlen("a=;") + 200); /* [" and 99 characters */
	buf_truncate(&text, 0);
	buf_truncate(&out, 0);
	buf_puts(&text, "{\"a\": [1,\"");
	for (int i = 0; i < 1000; i++)
		buf_puts(&text, "汉");
	buf_puts(&text, "\"]}");
	assert_int_equal(metadata_each_field(text.data, text.len, note_field, &out, NULL), 0);
	assert_int_equal(out.len, strlen("a=;") + 4 + 65 * 3); /* the 66th character ends at byte 202 */
}

static void test_a_broken_text_gives_no_field_at_all(void **state)
{
	auto_buf struct buf out = BUF_INIT(4096);
	struct fault f = FAULT_INIT;

	assert_int_equal(metadata_each_field("{\"a\": 1, \"b\": }", 15, note_field, &out, &f), -EINVAL);
	assert_int_equal(out.len, 0);
	assert_non_null(strstr(f.text, "at byte 14 "));
}

static void test_the_reader_of_fields_may_stop(void **state)
{
	int seen = 0;

	assert_int_equal(metadata_each_field("{\"a\": 1, \"b\": 2, \"c\": 3}", 24, stop_at_b, &seen, NULL), 42);
	assert_int_equal(seen, 2);
}

static const struct metadata_file files[] = {
	{"model.pth", "file", 10, "ab12"}, {"日本/\xff.bin", NULL, 5000000000, NULL},
};

static void test_a_generated_document_says_what_is_known(void **state)
{
	static const char *const inputs[] = {"dataset/mol/v3"};
	struct metadata_record r = {
		.model = "product/P001_all/mlstm", .version = "v2", .run_id = "job-1", .command = "[\"python\",\"train.py\"]",
		.user = "ann", .git_commit = "abc", .git_dirty = 1, .started_ns = 1752604800000000000, .inputs = inputs, .n_inputs = 1,
		.files = files, .n_files = 2,
	};
	auto_buf struct buf out = BUF_INIT(65536), fields = BUF_INIT(65536);
	auto_metadata struct metadata md = {0};

	assert_int_equal(metadata_generate(&r, &out), 0);
	assert_int_equal(metadata_each_field(out.data, out.len, note_field, &fields, NULL), 0);
	assert_string_equal(fields.data, "generated_by=mintfs;model=product/P001_all/mlstm;version=v2;run.id=job-1;"
			    "run.command=[\"python\",\"train.py\"];run.user=ann;run.started_at=2025-07-15T18:40:00Z;run.git_commit=abc;"
			    "run.git_dirty=true;inputs=[\"dataset/mol/v3\"];files=[{\"path\":\"model.pth\",\"type\":\"file\",\"size\":10,"
			    "\"sha256\":\"ab12\"},{\"path\":\"日本/\xef\xbf\xbd.bin\",\"size\":5000000000}];");
	assert_int_equal(out.data[out.len - 1], '\n');
	assert_int_equal(metadata_parse(out.data, out.len, &md, NULL), 0);
	assert_string_equal(md.inputs[0], inputs[0]);
	assert_string_equal(md.metrics_summary, "{}");
}

static void test_a_generated_document_is_silent_about_the_rest(void **state)
{
	struct metadata_record r = {.model = "dataset/mol", .version = "v1", .git_dirty = -1};
	struct metadata_record odd = {.version = "v1", .git_dirty = -1, .command = "[1] }"};
	auto_buf struct buf out = BUF_INIT(65536), fields = BUF_INIT(65536), small = BUF_INIT(20);

	assert_int_equal(metadata_generate(&r, &out), 0);
	assert_int_equal(metadata_each_field(out.data, out.len, note_field, &fields, NULL), 0);
	assert_string_equal(fields.data, "generated_by=mintfs;model=dataset/mol;version=v1;files=[];");
	assert_int_equal(metadata_generate(&r, &small), -EFBIG);

	buf_truncate(&out, 0);
	buf_truncate(&fields, 0);
	assert_int_equal(metadata_generate(&odd, &out), 0); /* a command that is no JSON cannot break out of its string */
	assert_int_equal(metadata_each_field(out.data, out.len, note_field, &fields, NULL), 0);
	assert_string_equal(fields.data, "generated_by=mintfs;version=v1;run.command=[1] };files=[];");
}

static void test_config_goes_out_and_in_again(void **state)
{
	static const char later[] = "{\"later\": {\"x\": [1]}, \"format\": 12}";
	struct metadata_config c = {.format = 1}, back = {0};
	auto_buf struct buf out = BUF_INIT(4096);

	assert_int_equal(metadata_config_generate(&c, &out), 0);
	assert_int_equal(metadata_config_parse(out.data, out.len, &back, NULL), 0);
	assert_int_equal(back.format, 1);
	assert_int_equal(metadata_config_parse(later, sizeof(later) - 1, &back, NULL), 0);
	assert_int_equal(back.format, 12);
}

static void test_a_config_without_a_usable_format_is_refused(void **state)
{
	static const char *const bad[] = {"", "{}", "[1]", "{\"format\": \"1\"}", "{\"format\": 0}", "{\"format\": 1.5}", "{\"format\": NaN}",
					  "{\"format\": 3000000000}", "{\"format\": -1}", "{\"format\": 1} x", "{\"format\": 1,}"};
	struct metadata_config c = {.format = 5};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct fault f = FAULT_INIT;
		assert_int_equal(metadata_config_parse(bad[i], strlen(bad[i]), &c, &f), -EINVAL);
		assert_int_equal(strncmp(f.text, "config.json: ", 13), 0);
		assert_int_equal(c.format, 5);
	}
}

static void test_versions_json_has_one_entry_a_line(void **state)
{
	auto_buf struct buf out = BUF_INIT(4096), empty = BUF_INIT(4096);

	metadata_versions_begin(&out);
	metadata_versions_add(&out, "product_P001_all_mlstm", 2, true);
	metadata_versions_add(&out, "global_\"q\"_药_kan", 4294967295u, false);
	assert_int_equal(metadata_versions_end(&out), 0);
	assert_string_equal(out.data, "{\n  \"product_P001_all_mlstm\": 2,\n  \"global_\\\"q\\\"_药_kan\": 4294967295\n}\n");
	metadata_versions_begin(&empty);
	assert_int_equal(metadata_versions_end(&empty), 0);
	assert_string_equal(empty.data, "{}\n");
}

/* ---- labels and parameters ---- */

static const struct metadata_fact *fact_of(const struct metadata *md, const char *name)
{
	const struct metadata_fact *found = NULL;
	for (unsigned i = 0; i < md->n_facts; i++)
		if (!strcmp(md->facts[i].name, name))
			found = &md->facts[i];
	return found;
}

static void test_labels_and_parameters_are_flattened_to_facts(void **state)
{
	struct metadata md;
	assert_int_equal(parse("{\"labels\": {\"rows\": 4400, \"kind\": \"assay\", \"deep\": {\"er\": true}, \"none\": null, \"list\": [1], \"\": 1, \"rows\": 4.5e3},"
			" \"params\": {\"lr\": 1e-3}, \"maintainer\": \"ann\", \"source\": 7}", &md, NULL), 0);
	assert_int_equal(md.n_facts, 5);
	assert_true(fact_of(&md, "labels.rows")->is_number && fact_of(&md, "labels.rows")->number == 4500);
	assert_string_equal(fact_of(&md, "labels.kind")->text, "assay");
	assert_false(fact_of(&md, "labels.kind")->is_number);
	assert_string_equal(fact_of(&md, "labels.deep.er")->text, "true");
	assert_string_equal(fact_of(&md, "params.lr")->text, "1e-3");
	assert_string_equal(md.maintainer, "ann");
	assert_null(md.source);
	assert_string_equal(md.params, "{\"lr\":1e-3}");
	assert_false(md.generated);
	metadata_release(&md);
}

static void test_facts_are_bounded_and_what_is_beyond_is_left_out(void **state)
{
	struct buf text = BUF_INIT(METADATA_SIZE_MAX);
	struct metadata md;
	char key[300];
	memset(key, 'k', sizeof key - 1);
	key[sizeof key - 1] = '\0';
	buf_printf(&text, "{\"labels\": {\"%s\": 1, \"%.200s\": {\"%.60s\": 2}", key, key, key);
	for (int i = 0; i < 20000; i++)
		buf_printf(&text, ", \"a%d\": \"some value\"", i);
	buf_puts(&text, "}, \"description\": \"");
	for (int i = 0; i < 10000; i++)
		buf_puts(&text, "\xc3\xa4");
	buf_puts(&text, "\"}");
	assert_int_equal(parse(buf_text(&text), &md, NULL), 0);
	assert_int_equal(md.n_facts, METADATA_FACTS_MAX);
	assert_string_equal(md.facts[0].name, "labels.a0"); /* longer names are no facts */
	assert_null(md.labels); /* too large to be kept as a whole */
	assert_int_equal(strlen(md.description), METADATA_TEXT_MAX);
	assert_true(utf8_valid(md.description, strlen(md.description)));
	metadata_release(&md);
	buf_release(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_metrics_become_a_compact_summary_and_a_list_of_numbers),
		cmocka_unit_test(test_an_object_without_metrics_has_an_empty_summary_and_no_best),
		cmocka_unit_test(test_numbers_stay_as_the_trainer_wrote_them),
		cmocka_unit_test(test_a_number_that_no_double_holds_is_null),
		cmocka_unit_test(test_what_python_writes_for_nan_and_infinity_is_read_as_null),
		cmocka_unit_test(test_the_last_of_equal_keys_wins),
		cmocka_unit_test(test_names_in_any_script_and_escape_are_understood),
		cmocka_unit_test(test_what_no_c_string_can_hold_is_replaced),
		cmocka_unit_test(test_best_follows_what_the_trainer_named),
		cmocka_unit_test(test_without_a_name_the_first_number_decides_best),
		cmocka_unit_test(test_well_known_names_have_a_direction),
		cmocka_unit_test(test_inputs_are_the_strings_of_their_array),
		cmocka_unit_test(test_what_is_not_json_is_refused_with_its_place),
		cmocka_unit_test(test_a_zero_byte_does_not_end_the_text),
		cmocka_unit_test(test_every_beginning_of_a_document_is_refused),
		cmocka_unit_test(test_nesting_is_bounded),
		cmocka_unit_test(test_size_and_counts_are_bounded),
		cmocka_unit_test(test_a_file_is_read_whatever_its_offset),
		cmocka_unit_test(test_what_is_no_file_or_too_large_is_not_read),
		cmocka_unit_test(test_fields_come_flattened_in_order),
		cmocka_unit_test(test_values_come_as_json_of_their_own_type),
		cmocka_unit_test(test_long_arrays_are_cut_between_characters),
		cmocka_unit_test(test_a_broken_text_gives_no_field_at_all),
		cmocka_unit_test(test_the_reader_of_fields_may_stop),
		cmocka_unit_test(test_a_generated_document_says_what_is_known),
		cmocka_unit_test(test_a_generated_document_is_silent_about_the_rest),
		cmocka_unit_test(test_config_goes_out_and_in_again),
		cmocka_unit_test(test_a_config_without_a_usable_format_is_refused),
		cmocka_unit_test(test_versions_json_has_one_entry_a_line),
		cmocka_unit_test(test_labels_and_parameters_are_flattened_to_facts),
		cmocka_unit_test(test_facts_are_bounded_and_what_is_beyond_is_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
