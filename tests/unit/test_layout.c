/* The path grammar, by tables: every rule and every refusal. What is expected is written from the grammar in layout.h. */
#include <errno.h>
#include <mintfs/layout.h>
#include <mintfs/util.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* A name of n bytes, in one of a few buffers. */
static const char *long_name(size_t n)
{
	static char names[4][600];
	static unsigned next;
	char *name = names[next++ % ARRAY_SIZE(names)];

	memset(name, 'a', n);
	name[n] = '\0';
	return name;
}

static void test_every_model_path_gives_its_identifier_type_and_key(void **state)
{
	static const struct {
		const char *path, *identifier, *type;
		enum layout_mode mode;
	} rows[] = {
		{"product/P001_all/mlstm", "product_P001_all", "mlstm", LAYOUT_PRODUCT},
		{"product/P001_S001/mlstm", "product_P001_S001", "mlstm", LAYOUT_PRODUCT},
		{"product/P_0_1_all/transformer", "product_P_0_1_all", "transformer", LAYOUT_PRODUCT},
		{"product/阿莫西林_胶囊_all/模型-一", "product_阿莫西林_胶囊_all", "模型-一", LAYOUT_PRODUCT},
		{"product/P-001 x_all/ml.stm", "product_P-001 x_all", "ml.stm", LAYOUT_PRODUCT},
		{"product/all_all/all", "product_all_all", "all", LAYOUT_PRODUCT},
		{"product/P001_all/v", "product_P001_all", "v", LAYOUT_PRODUCT},
		{"product/P001_all/v2b", "product_P001_all", "v2b", LAYOUT_PRODUCT},
		{"product/P001_all/Latest", "product_P001_all", "Latest", LAYOUT_PRODUCT},
		{"product/P001_all/product", "product_P001_all", "product", LAYOUT_PRODUCT},
		{"store/S001_P002/transformer", "store_S001_P002", "transformer", LAYOUT_STORE},
		{"store/S001_all/a_b", "store_S001_all", "a_b", LAYOUT_STORE},
		{"global/all/sum/kan", "global_all_sum", "kan", LAYOUT_GLOBAL},
		{"global/stores/S_1/mean/kan", "global_stores_S_1_mean", "kan", LAYOUT_GLOBAL},
		{"global/products/P-1/sum/kan", "global_products_P-1_sum", "kan", LAYOUT_GLOBAL},
		{"global/custom/S001/P001/sum/kan", "global_custom_S001_P001_sum", "kan", LAYOUT_GLOBAL},
		{"global/stores/all/all/all", "global_stores_all_all", "all", LAYOUT_GLOBAL},
		{"dataset/mol", "dataset_mol", "", LAYOUT_DATASET},
		{"dataset/分子 一", "dataset_分子 一", "", LAYOUT_DATASET},
		{"process/property-screening", "process_property-screening", "", LAYOUT_PROCESS},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct layout_model m;
		enum layout_kind kind;
		struct fault f = FAULT_INIT;
		char key[2 * LAYOUT_PATH_MAX];

		if (layout_classify(rows[i].path, &kind, &m, &f) != 0)
			fail_msg("%s: %s", rows[i].path, f.text);
		assert_int_equal(kind, LAYOUT_MODEL);
		assert_int_equal(m.mode, rows[i].mode);
		assert_string_equal(m.path, rows[i].path);
		assert_string_equal(m.identifier, rows[i].identifier);
		assert_string_equal(m.type, rows[i].type);
		snprintf(key, sizeof(key), "%s%s%s", rows[i].identifier, *rows[i].type ? "_" : "", rows[i].type);
		assert_string_equal(m.key, key);
		assert_int_equal(f.error, 0);
	}
}

static void test_directories_on_the_way_are_scopes_and_the_empty_path_is_the_root(void **state)
{
	static const char *const scopes[] = {
		"product", "product/P001_all", "store", "store/S001_P001", "global", "global/all", "global/all/sum", "global/stores",
		"global/stores/S001", "global/stores/S001/sum", "global/products", "global/products/P001", "global/products/P001/sum",
		"global/custom", "global/custom/S001", "global/custom/S001/P001", "global/custom/S001/P001/sum", "dataset", "process",
	};
	enum layout_kind kind = LAYOUT_MODEL;

	assert_int_equal(layout_classify("", &kind, NULL, NULL), 0);
	assert_int_equal(kind, LAYOUT_ROOT);
	for (size_t i = 0; i < ARRAY_SIZE(scopes); i++) {
		kind = LAYOUT_ROOT;
		assert_int_equal(layout_classify(scopes[i], &kind, NULL, NULL), 0);
		assert_int_equal(kind, LAYOUT_SCOPE);
	}
}

static void test_what_does_not_fit_is_refused_with_a_sentence_that_names_it(void **state)
{
	static const struct {
		const char *path;
		const char *says[3]; /* what the sentence must hold */
	} rows[] = {
		{"models", {"'models'", "product, store or global", "product/P001_all/mlstm"}},
		{"Product/P001_all/mlstm", {"'Product'", "product, store or global"}},
		{"saved_models/product/P001_all/mlstm", {"'saved_models'"}},
		{"dataset/mol/x/y/z/1/2/3/4", {"'x' lies below a model", "ends with its name", "dataset/mol"}},
		{"dataset/.mol", {"name '.mol'", "dot"}},
		{"process/v2", {"name 'v2'", "reserved"}},
		{"product/P001", {"'P001'", "no scope", "product/P001_all"}},
		{"product/P001/mlstm", {"'P001'", "'_'", "{product_id}_{scope}"}},
		{"product/_all", {"'_all'", "no product id", "product/P001_all"}},
		{"product/P001_", {"'P001_'", "no scope after the last '_'", "product/P001_all"}},
		{"product/_", {"'_'", "no product id"}},
		{"product/latest_all", {"product id 'latest'", "reserved"}},
		{"product/P001_v2", {"scope 'v2'", "reserved"}},
		{"product/P001 _all", {"product id 'P001 '", "blank"}},
		{"product/P001_ all", {"scope ' all'", "blank"}},
		{"product/.P001_all", {"product id '.P001'", "dot"}},
		{"product/P001_.all", {"scope '.all'", "dot"}},
		{"product/P001_all/latest", {"model type 'latest'", "reserved"}},
		{"product/P001_all/next", {"model type 'next'", "reserved"}},
		{"product/P001_all/best", {"model type 'best'", "reserved"}},
		{"product/P001_all/v1", {"model type 'v1'", "reserved", "product/P001_all/mlstm/v2"}},
		{"product/P001_all/v007", {"model type 'v007'", "reserved"}},
		{"product/P001_all/.", {"model type '.'", "dot"}},
		{"product/P001_all/..", {"model type '..'", "dot"}},
		{"product/P001_all/.hidden", {"'.hidden'", "dot"}},
		{"product/P001_all/a\nb", {"model type 'a?b'", "control character"}},
		{"product/P001_all/a\x7f", {"control character"}},
		{"product/P001_all/a\xc2\x85z", {"model type 'a?z'", "control character"}},
		{"product/P001_all/a\xff", {"model type 'a?'", "not valid UTF-8"}},
		{"product/P001_all/\xc0\xaf", {"not valid UTF-8"}},
		{"product/P001_all/\xed\xa0\x80", {"not valid UTF-8"}},
		{"product/P001_all/\xe9\x98", {"not valid UTF-8"}},
		{"product/P001_all/ mlstm", {"' mlstm'", "blank"}},
		{"product/P001_all/mlstm\xe3\x80\x80", {"model type", "blank"}},
		{"product/P001_all/mlstm/v1", {"'v1'", "below a model", "product/P001_all/mlstm"}},
		{"product/P001_all/mlstm/x/y/z/1/2/3", {"'x'", "below a model"}},
		{"store/S001", {"'S001'", "no scope", "store/S001_all"}},
		{"store/S001_P001/kan/extra", {"'extra'", "below a model", "store/S001_P002/transformer"}},
		{"global/S001", {"'S001'", "global/stores/{store_id}", "global/all/sum/kan"}},
		{"global/ALL/sum/kan", {"'ALL'", "not a scope of global"}},
		{"global/stores/v1/sum", {"store id 'v1'", "reserved"}},
		{"global/products/best", {"product id 'best'", "reserved"}},
		{"global/custom/S001/v3", {"product id 'v3'", "reserved"}},
		{"global/all/latest", {"aggregation 'latest'", "reserved"}},
		{"global/all/sum/kan/more", {"'more'", "below a model", "global/all/sum/kan"}},
		{"global/custom/S/P/sum/kan/more", {"'more'", "below a model"}},
		{"/product", {"''"}},
		{"product/", {"product id with its scope is empty"}},
		{"product//mlstm", {"product id with its scope is empty"}},
		{"product/P001_all/", {"model type is empty"}},
		{"global/stores//sum", {"store id is empty"}},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		enum layout_kind kind = (enum layout_kind)77;
		struct layout_model m = {.path = "untouched"};
		struct fault f = FAULT_INIT;

		if (layout_classify(rows[i].path, &kind, &m, &f) != -EINVAL)
			fail_msg("'%s' was not refused", rows[i].path);
		assert_int_equal(f.error, EINVAL);
		assert_int_equal((int)kind, 77);
		assert_string_equal(m.path, "untouched");
		for (size_t k = 0; k < ARRAY_SIZE(rows[i].says) && rows[i].says[k]; k++) {
			if (!strstr(f.text, rows[i].says[k]))
				fail_msg("'%s': the sentence \"%s\" does not hold \"%s\"", rows[i].path, f.text, rows[i].says[k]);
		}
	}
}

static void test_an_id_may_have_255_bytes_and_not_one_more(void **state)
{
	char path[2000];
	struct layout_model m;
	enum layout_kind kind;
	struct fault f = FAULT_INIT;
	const char *longest = long_name(255);

	assert_int_equal(layout_check_id(longest, NULL), 0);
	assert_int_equal(layout_check_id(long_name(256), &f), -EINVAL);
	assert_non_null(strstr(f.text, "256 bytes"));
	assert_non_null(strstr(f.text, "255 bytes"));

	snprintf(path, sizeof(path), "global/custom/%s/%s/%s/%s", longest, longest, longest, longest);
	assert_int_equal(layout_classify(path, &kind, &m, NULL), 0);
	assert_string_equal(m.path, path);
	assert_string_equal(m.type, longest);
	snprintf(path, sizeof(path), "global/custom/%s/%s/%s/%s", longest, longest, longest, long_name(256));
	assert_int_equal(layout_classify(path, &kind, &m, NULL), -EINVAL);

	/* the id with its scope is one name of the file system, so both together share the 255 bytes */
	snprintf(path, sizeof(path), "product/%s_all/mlstm", long_name(251));
	assert_int_equal(layout_classify(path, &kind, &m, NULL), 0);
	snprintf(path, sizeof(path), "product/%s_all/mlstm", long_name(252));
	assert_int_equal(layout_classify(path, &kind, &m, &f), -EINVAL);
	assert_non_null(strstr(f.text, "product id with its scope"));
}

static void test_a_long_name_does_not_push_the_rule_out_of_the_sentence(void **state)
{
	char path[700];
	struct fault f = FAULT_INIT;
	enum layout_kind kind;

	snprintf(path, sizeof(path), "product/%s", long_name(250));
	assert_int_equal(layout_classify(path, &kind, NULL, &f), -EINVAL);
	assert_non_null(strstr(f.text, "product/P001_all"));
}

static void test_an_id_is_judged_alone(void **state)
{
	static const char *const good[] = {"P001", "a", "_", "-", "a_b-c", "三七", "v", "vv1", "v1a", "V1", "LATEST", "a b", "a.", "é"};
	static const char *const bad[] = {"", ".", "..", ".a", "a/b", "/", "latest", "next", "best", "v0", "v1", "v01", "v99999999999",
		" ", " a", "a ", "\t", "a\tb", "a\x01", "\xc2\x80", "\xc2\xa0x", "\xff", "\xf4\x90\x80\x80", "\xe0\x80\x80"};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct fault f = FAULT_INIT;
		if (layout_check_id(good[i], &f) != 0)
			fail_msg("'%s': %s", good[i], f.text);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct fault f = FAULT_INIT;
		if (layout_check_id(bad[i], &f) != -EINVAL || f.text[0] == '\0')
			fail_msg("'%s' was not refused with a reason", bad[i]);
	}
}

static void test_two_different_paths_may_give_one_key(void **state)
{
	struct layout_model a, b;
	enum layout_kind kind;

	assert_int_equal(layout_classify("global/custom/A_B/C/sum/kan", &kind, &a, NULL), 0);
	assert_int_equal(layout_classify("global/custom/A/B_C/sum/kan", &kind, &b, NULL), 0);
	assert_string_equal(a.key, "global_custom_A_B_C_sum_kan");
	assert_string_equal(a.key, b.key);
	assert_string_not_equal(a.path, b.path);
}

static void test_children_of_a_model(void **state)
{
	static const struct {
		const char *name;
		enum layout_child child;
		uint32_t number;
	} rows[] = {
		{"v1", LAYOUT_CHILD_VERSION, 1},
		{"v10", LAYOUT_CHILD_VERSION, 10},
		{"v999999999", LAYOUT_CHILD_VERSION, LAYOUT_NUMBER_MAX},
		{"v1000000000", LAYOUT_CHILD_INVALID, 0},
		{"v99999999999", LAYOUT_CHILD_INVALID, 0},
		{"v99999999999999999999999999", LAYOUT_CHILD_INVALID, 0},
		{"v0", LAYOUT_CHILD_INVALID, 0},
		{"v01", LAYOUT_CHILD_INVALID, 0},
		{"v", LAYOUT_CHILD_ALIAS, 0},
		{"v1.5", LAYOUT_CHILD_ALIAS, 0},
		{"v-1", LAYOUT_CHILD_ALIAS, 0},
		{"v1\xef\xbc\x91", LAYOUT_CHILD_ALIAS, 0}, /* a full-width digit is no digit */
		{"V1", LAYOUT_CHILD_ALIAS, 0},
		{"latest", LAYOUT_CHILD_LATEST, 0},
		{"next", LAYOUT_CHILD_NEXT, 0},
		{"best", LAYOUT_CHILD_BEST, 0},
		{"production", LAYOUT_CHILD_ALIAS, 0},
		{"生产", LAYOUT_CHILD_ALIAS, 0},
		{"latest2", LAYOUT_CHILD_ALIAS, 0},
		{"", LAYOUT_CHILD_INVALID, 0},
		{".", LAYOUT_CHILD_INVALID, 0},
		{"..", LAYOUT_CHILD_INVALID, 0},
		{".git", LAYOUT_CHILD_INVALID, 0},
		{"a/b", LAYOUT_CHILD_INVALID, 0},
		{"a\n", LAYOUT_CHILD_INVALID, 0},
		{"\xff", LAYOUT_CHILD_INVALID, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint32_t number = 4711;

		if (layout_classify_child(rows[i].name, &number) != rows[i].child)
			fail_msg("'%s'", rows[i].name);
		assert_int_equal(number, rows[i].child == LAYOUT_CHILD_VERSION ? rows[i].number : 4711);
		assert_int_equal(layout_classify_child(rows[i].name, NULL), rows[i].child);
	}
	assert_int_equal(layout_classify_child(long_name(255), NULL), LAYOUT_CHILD_ALIAS);
	assert_int_equal(layout_classify_child(long_name(256), NULL), LAYOUT_CHILD_INVALID);
}

static void test_references_are_read_as_people_write_them(void **state)
{
	static const struct {
		const char *text, *path, *child, *rest;
	} rows[] = {
		{"product/P001_all/mlstm", "product/P001_all/mlstm", "", ""},
		{"product/P001_all/mlstm/", "product/P001_all/mlstm", "", ""},
		{"product//P001_all///mlstm//", "product/P001_all/mlstm", "", ""},
		{"product/P001_all/mlstm/v2", "product/P001_all/mlstm", "v2", ""},
		{"product/P001_all/mlstm/latest", "product/P001_all/mlstm", "latest", ""},
		{"product/P001_all/mlstm/production/", "product/P001_all/mlstm", "production", ""},
		{"product/P001_all/mlstm/v2/model.pth", "product/P001_all/mlstm", "v2", "model.pth"},
		{"product/P001_all/mlstm/v2//logs//a b/.x/", "product/P001_all/mlstm", "v2", "logs/a b/.x"},
		{"saved_models/product/P001_all/mlstm/v2/", "product/P001_all/mlstm", "v2", ""},
		{"saved_models//global/custom/S/P/sum/kan/v3/a/b/c/d", "global/custom/S/P/sum/kan", "v3", "a/b/c/d"},
		{"store/门店一_药品/模型/生产", "store/门店一_药品/模型", "生产", ""},
		{"product/P001_all/mlstm/v2/a\xff", "product/P001_all/mlstm", "v2", "a\xff"},
		{"dataset/mol/v3/train/part-1.csv", "dataset/mol", "v3", "train/part-1.csv"},
		{"saved_models/process/property-screening/v2/", "process/property-screening", "v2", ""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct layout_ref ref;
		struct fault f = FAULT_INIT;

		if (layout_parse(rows[i].text, &ref, &f) != 0)
			fail_msg("%s: %s", rows[i].text, f.text);
		assert_string_equal(ref.model.path, rows[i].path);
		assert_string_equal(ref.child, rows[i].child);
		assert_string_equal(ref.rest, rows[i].rest);
	}
}

static void test_references_that_lead_nowhere_are_refused(void **state)
{
	static const struct {
		const char *text;
		int error;
		const char *says[2];
	} rows[] = {
		{"product_P001_all_mlstm", -ENOENT, {"'product_P001_all_mlstm'"}},
		{"product", -ENOENT, {"'product'"}},
		{"product/", -ENOENT, {"'product/'"}},
		{"", -ENOENT, {"''"}},
		{"saved_models", -ENOENT, {"'saved_models'"}},
		{"/product/P001_all/mlstm", -EINVAL, {"begins with '/'", "mount point"}},
		{"/saved_models/product/P001_all/mlstm", -EINVAL, {"begins with '/'"}},
		{"./product/P001_all/mlstm", -EINVAL, {"'.'"}},
		{"product/P001_all", -EINVAL, {"model type is missing", "product/P001_all/mlstm"}},
		{"global/all", -EINVAL, {"aggregation is missing", "global/all/sum/kan"}},
		{"global/custom/S001", -EINVAL, {"product id is missing", "global/custom/S001/P001/sum/kan"}},
		{"saved_models/global", -EINVAL, {"mode, not a model", "global/all/sum/kan"}},
		{"saved_models/store", -EINVAL, {"mode, not a model", "store/S001_P002/transformer"}},
		{"saved_models/saved_models/product/P001_all/mlstm", -EINVAL, {"'saved_models'"}},
		{"dataset/mol/v03", -EINVAL, {"'v03'", "without leading zeros"}},
		{"saved_models/process", -EINVAL, {"mode, not a model", "process/property-screening"}},
		{"product/P001_all/mlstm/v0", -EINVAL, {"'v0'", "without leading zeros"}},
		{"product/P001_all/mlstm/v01", -EINVAL, {"'v01'", "versions are v1 to v999999999"}},
		{"product/P001_all/mlstm/.git", -EINVAL, {"'.git'", "dot"}},
		{"product/P001_all/mlstm/v2/../v3", -EINVAL, {"'..'"}},
		{"product/P001_all/mlstm/v2/./a", -EINVAL, {"'.'"}},
		{"product/P001_all/mlstm/..", -EINVAL, {"'..'"}},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct layout_ref ref = {.child = "untouched"};
		struct fault f = FAULT_INIT;

		if (layout_parse(rows[i].text, &ref, &f) != rows[i].error)
			fail_msg("'%s' was not refused as it should be", rows[i].text);
		assert_string_equal(ref.child, "untouched");
		assert_int_equal(f.error, -rows[i].error);
		for (size_t k = 0; k < ARRAY_SIZE(rows[i].says) && rows[i].says[k]; k++) {
			if (!strstr(f.text, rows[i].says[k]))
				fail_msg("'%s': the sentence \"%s\" does not hold \"%s\"", rows[i].text, f.text, rows[i].says[k]);
		}
	}
}

static void test_a_path_within_a_version_that_does_not_fit_is_refused(void **state)
{
	char text[8000] = "product/P001_all/mlstm/v2";
	struct layout_ref ref;
	struct fault f = FAULT_INIT;

	snprintf(text, sizeof(text), "product/P001_all/mlstm/v2/%s", long_name(256));
	assert_int_equal(layout_parse(text, &ref, &f), -EINVAL);
	assert_non_null(strstr(f.text, "256 bytes"));

	/* 16 names of 255 bytes and 15 slashes are 4095 bytes: the most that fits */
	strcpy(text, "product/P001_all/mlstm/v2");
	for (int i = 0; i < 16; i++) {
		strcat(text, "/");
		strcat(text, long_name(255));
	}
	assert_int_equal(layout_parse(text, &ref, &f), 0);
	assert_int_equal(strlen(ref.rest), sizeof(ref.rest) - 1);
	strcat(text, "/a");
	assert_int_equal(layout_parse(text, &ref, &f), -EINVAL);
	assert_non_null(strstr(f.text, "4095"));
}

static void test_record_paths_are_written_and_read_back(void **state)
{
	char out[100] = "untouched";
	struct layout_ref ref;
	const char *expected = "saved_models/product/P001_all/mlstm/v2/";
	size_t size = strlen(expected) + 1;

	assert_int_equal(layout_record_path("product/P001_all/mlstm", 2, out, size - 1), -ENAMETOOLONG);
	assert_string_equal(out, "untouched");
	assert_int_equal(layout_record_path("product/P001_all/mlstm", 2, out, size), 0);
	assert_string_equal(out, expected);
	assert_int_equal(layout_parse(out, &ref, NULL), 0);
	assert_string_equal(ref.model.path, "product/P001_all/mlstm");
	assert_string_equal(ref.child, "v2");
}

static void test_modes_have_names_and_the_first_three_hold_models_of_a_type(void **state)
{
	static const char *const names[] = {"product", "store", "global", "dataset", "process"};

	for (int m = 0; m < LAYOUT_MODES; m++) {
		assert_string_equal(layout_mode_name((enum layout_mode)m), names[m]);
		assert_int_equal(layout_mode_typed((enum layout_mode)m), m <= LAYOUT_GLOBAL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_model_path_gives_its_identifier_type_and_key),
		cmocka_unit_test(test_directories_on_the_way_are_scopes_and_the_empty_path_is_the_root),
		cmocka_unit_test(test_what_does_not_fit_is_refused_with_a_sentence_that_names_it),
		cmocka_unit_test(test_an_id_may_have_255_bytes_and_not_one_more),
		cmocka_unit_test(test_a_long_name_does_not_push_the_rule_out_of_the_sentence),
		cmocka_unit_test(test_an_id_is_judged_alone),
		cmocka_unit_test(test_two_different_paths_may_give_one_key),
		cmocka_unit_test(test_children_of_a_model),
		cmocka_unit_test(test_references_are_read_as_people_write_them),
		cmocka_unit_test(test_references_that_lead_nowhere_are_refused),
		cmocka_unit_test(test_a_path_within_a_version_that_does_not_fit_is_refused),
		cmocka_unit_test(test_record_paths_are_written_and_read_back),
		cmocka_unit_test(test_modes_have_names_and_the_first_three_hold_models_of_a_type),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
