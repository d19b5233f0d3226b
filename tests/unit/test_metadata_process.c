/* process.json: what is taken, and what each mistake is told. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <mintfs/process_spec.h>
#include <mintfs/util.h>

#define NODE(name, more) "{\"name\": \"" name "\", \"dataset\": \"dataset/mol\", \"model\": \"product/P001_all/mlstm\", \"run\": [\"x\", \"{result}\"], \"score\": \"r2\", " more "}"

static int parse(const char *text, struct process_spec *s, struct fault *f) { return process_spec_parse(text, strlen(text), s, f); }

static void test_a_whole_process_is_read(void **state)
{
	static const char text[] =
		"{\n"
		"  \"description\": \"screening\",\n"
		"  \"nodes\": [\n"
		"    {\"name\": \"all\", \"after\": [\"b\", \"a\"], \"dataset\": \"dataset/mol\", \"model\": \"global/all/sum/mix\",\n"
		"     \"run\": [\"mix\", \"{results}\", \"{result}\"], \"score\": \"sum.r2\", \"weight\": 0.7},\n"
		"    " NODE("a", "\"weight\": 0.1, \"timeout\": 60") ",\n"
		"    {\"name\": \"b\", \"after\": [\"a\"], \"dataset\": {\"name\": \"dataset/mol\", \"where\": [\"labels.kind = assay\"]},\n"
		"     \"model\": {\"name\": \"product/P001_all/mlstm\", \"where\": [\"alias = production\", \"metrics.r2 > 0\"]},\n"
		"     \"run\": [\"x y\", \"--in={dataset}/m.csv\", \"{{kept}}\", \"{result}\"], \"score\": \"r2\", \"weight\": 0.2}\n"
		"  ],\n"
		"  \"models\": {\"product/P001_all/mlstm\": {\"train\": [\"t\", \"{dataset}\", \"{draft}\"], \"timeout\": 5,\n"
		"     \"accept\": {\"metrics\": {\"r2\": {\"min\": 0.3}, \"n\": {\"max\": 9}}, \"not_worse\": \"rmse\"}}},\n"
		"  \"accept\": {\"min\": 0.5, \"not_worse\": \"max\"}, \"aliases\": [\"production\"]\n"
		"}\n";
	struct process_spec s;
	struct fault f = FAULT_INIT;
	if (parse(text, &s, &f) != 0)
		fail_msg("%s", f.text);
	assert_string_equal(s.description, "screening");
	assert_int_equal(s.n_nodes, 3);
	const struct process_node *all = &s.nodes[0], *b = &s.nodes[2];
	assert_int_equal(all->n_after, 2);
	assert_string_equal(s.nodes[all->after[0]].name, "b");
	assert_int_equal(all->timeout_s, PROCESS_TIMEOUT_DEFAULT);
	assert_int_equal(s.nodes[1].timeout_s, 60);
	assert_int_equal(b->dataset.where.n, 1);
	assert_string_equal(b->model.where.v[1], "metrics.r2 > 0");
	assert_int_equal(b->line, 7);
	assert_int_equal(s.order[0], 1);
	assert_int_equal(s.order[1], 2);
	assert_int_equal(s.order[2], 0);
	const struct process_training *t = process_spec_training(&s, "product/P001_all/mlstm");
	assert_non_null(t);
	assert_string_equal(t->dataset, "dataset/mol"); /* the one of its nodes */
	assert_int_equal(t->n_limits, 2);
	assert_true(t->limits[1].has_max && !t->limits[1].has_min);
	assert_int_equal(t->better, PROCESS_LOWER); /* rmse is well known */
	assert_null(process_spec_training(&s, "global/all/sum/mix"));
	assert_true(s.accept.has_min && s.accept.min == 0.5);
	assert_int_equal(s.not_worse, PROCESS_HIGHER);
	assert_string_equal(s.aliases.v[0], "production");
	process_spec_release(&s);
	process_spec_release(&s);
}

static void test_every_mistake_is_named_with_its_line(void **state)
{
#define ONE(more) "{\"nodes\": [\n" NODE("a", "\"weight\": 1") "]" more "}"
#define TWO(x, y) "{\"nodes\": [\n" NODE("a", x) ",\n" NODE("b", y) "]}"
	static const struct { const char *text, *words; } cases[] = {
		{"", "line 1: "},
		{"[]", "line 1: a process must be an object"},
		{"{\"nodes\": [], }", "line 1"},
		{"{\n\"nodes\": []}", "line 2: a process needs at least one node"},
		{"{}", "line 1: a process needs \"nodes\""},
		{ONE(",\n\"nodez\": 1"), "line 3: a process has no field \"nodez\""},
		{ONE(",\n\"aliases\": [\"a\"],\n\"aliases\": []"), "line 4: \"aliases\" stands twice"},
		{"{\"nodes\": [\n{\"name\": \"a\"}]}", "line 2: a node needs \"dataset\""},
		{TWO("\"weight\": 0.5, \"after\": [\"c\"]", "\"weight\": 0.5"), "line 2: the node 'a' is after 'c', and there is no such node"},
		{TWO("\"weight\": 0.5, \"after\": [\"b\"]", "\"weight\": 0.5, \"after\": [\"a\"]"), "leads in a cycle"},
		{TWO("\"weight\": 0.5, \"after\": [\"a\"]", "\"weight\": 0.5"), "line 2: the node 'a' is after itself"},
		{TWO("\"weight\": 0.5", "\"weight\": 0.5, \"after\": [\"a\", \"a\"]"), "line 3: the node 'b' is after 'a' twice"},
		{TWO("\"weight\": 0.5", "\"weight\": 0.4"), "add up to 0.9: they must add up to 1"},
		{TWO("\"weight\": 1.5", "\"weight\": -0.5"), "line 2: \"weight\" is a share from 0 to 1"},
		{TWO("\"weight\": \"a\"", "\"weight\": 1"), "line 2: \"weight\" must be a finite number"},
		{TWO("\"weight\": NaN", "\"weight\": 1"), "line 2: \"weight\" must be a finite number"},
		{"{\"nodes\": [\n" NODE("a", "\"weight\": 0.5") ",\n" NODE("a", "\"weight\": 0.5") "]}", "line 3: there are two nodes 'a'"},
		{"{\"nodes\": [\n" NODE("../a", "\"weight\": 1") "]}", "line 2: '../a' cannot be the name of a node"},
		{TWO("\"weight\": 0.5, \"timeout\": 0.5", "\"weight\": 0.5"), "line 2: \"timeout\" is a whole number of seconds"},
		{"{\"nodes\": [{\"name\": \"a\", \"dataset\": \"d\", \"model\": \"m\", \"run\": \"python3 x\", \"score\": \"s\", \"weight\": 1}]}", "no shell reads it"},
		{"{\"nodes\": [{\"name\": \"a\", \"dataset\": \"d\", \"model\": \"m\", \"run\": [\"{draft}\", \"{result}\"], \"score\": \"s\", \"weight\": 1}]}",
			"the placeholder at \"{draft}\" is none of those known there"},
		{"{\"nodes\": [{\"name\": \"a\", \"dataset\": \"d\", \"model\": \"m\", \"run\": [\"{result\"], \"score\": \"s\", \"weight\": 1}]}", "the placeholder at \"{result\""},
		{"{\"nodes\": [{\"name\": \"a\", \"dataset\": \"d\", \"model\": \"m\", \"run\": [\"{{result}}\"], \"score\": \"s\", \"weight\": 1}]}", "does not name {result}"},
		{"{\"nodes\": [{\"name\": \"a\", \"dataset\": 1, \"model\": \"m\", \"run\": [\"{result}\"], \"score\": \"s\", \"weight\": 1}]}", "\"dataset\" must be a name"},
		{"{\"nodes\": [{\"name\": \"a\\nb\", \"dataset\": \"d\", \"model\": \"m\", \"run\": [\"{result}\"], \"score\": \"s\", \"weight\": 1}]}", "a control character"},
		{ONE(",\n\"models\": {\"x\": {}}"), "line 3: no node uses the model x"},
		{ONE(",\n\"models\": {\"product/P001_all/mlstm\": {\"train\": [\"t\"]}}"), "line 3: \"train\" does not name {draft}"},
		{ONE(",\n\"models\": {\"product/P001_all/mlstm\": {\"accept\": {\"not_worse\": \"r2\"}}}"), "but no \"train\""},
		{ONE(",\n\"models\": {\"product/P001_all/mlstm\": {\"accept\": {\"not_worse\": \"beauty\"}}}"), "whether a higher \"beauty\" is better is not known"},
		{ONE(",\n\"models\": {\"product/P001_all/mlstm\": {\"accept\": {\"metrics\": {\"r2\": {}}}}}"), "the metric \"r2\" needs \"min\" or \"max\""},
		{ONE(",\n\"accept\": {\"not_worse\": true}"), "line 3: \"not_worse\" is \"min\""},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct process_spec s;
		struct fault f = FAULT_INIT;
		assert_int_equal(parse(cases[i].text, &s, &f), -EINVAL);
		if (!strstr(f.text, cases[i].words) || strncmp(f.text, "process.json, line ", 19) != 0)
			fail_msg("case %zu: '%s' does not say '%s'", i, f.text, cases[i].words);
	}
}

static void test_a_huge_or_deep_text_is_refused(void **state)
{
	struct process_spec s;
	struct fault f = FAULT_INIT;
	char *text = malloc(PROCESS_SIZE_MAX + 2);
	assert_non_null(text);
	memset(text, '[', PROCESS_SIZE_MAX + 1);
	text[PROCESS_SIZE_MAX + 1] = '\0';
	assert_int_equal(process_spec_parse(text, PROCESS_SIZE_MAX + 1, &s, &f), -EFBIG);
	assert_int_equal(process_spec_parse(text, 100000, &s, &f), -EINVAL);
	free(text);
}

static void test_the_nodes_of_a_model_with_two_datasets_must_say_which_trains_it(void **state)
{
#define OTHER "{\"name\": \"b\", \"dataset\": \"dataset/two\", \"model\": \"product/P001_all/mlstm\", \"run\": [\"{result}\"], \"score\": \"s\", \"weight\": 0}"
#define WITH(train) "{\"nodes\": [" NODE("a", "\"weight\": 1") ", " OTHER "], \"models\": {\"product/P001_all/mlstm\": {" train "}}}"
	struct process_spec s;
	struct fault f = FAULT_INIT;
	assert_int_equal(parse(WITH("\"train\": [\"{draft}\"]"), &s, &f), -EINVAL);
	assert_non_null(strstr(f.text, "name the one it is trained on"));
	assert_int_equal(parse(WITH("\"train\": [\"{draft}\"], \"dataset\": \"dataset/two\""), &s, &f), 0);
	assert_string_equal(s.models[0].dataset, "dataset/two");
	process_spec_release(&s);
}

static void test_words_are_filled_and_names_stay_what_they_are(void **state)
{
	const char *values[PLACES] = {[PLACE_DATASET] = "/m/da ta\"'$(x)", [PLACE_RESULT] = "/t/r.json"};
	const char *bad = NULL;
	auto_buf struct buf out = BUF_INIT(1000);
	assert_int_equal(process_word_fill("--in={dataset}/a {{b}} {result}{dataset}", values, &out, &bad), 0);
	assert_string_equal(buf_text(&out), "--in=/m/da ta\"'$(x)/a {b} /t/r.json/m/da ta\"'$(x)");
	const char *word = "x{model}";
	assert_int_equal(process_word_fill(word, values, &out, &bad), -EINVAL); /* it has no value here */
	assert_ptr_equal(bad, word + 1);
	assert_int_equal(process_word_fill("}", values, &out, &bad), -EINVAL);
}

static void test_a_score_is_found_or_its_lack_is_named(void **state)
{
	static const struct { const char *result, *key, *words; double value; } cases[] = {
		{"{\"r2\": 0.5}", "r2", NULL, 0.5},
		{"{\"a\": {\"r2\": -1e3}, \"r2\": 2}", "a.r2", NULL, -1000},
		{"{\"r2\": 1, \"r2\": 3}", "r2", NULL, 3},
		{"{\"r2\": NaN}", "r2", "is no number", 0},
		{"{\"r2\": \"good\"}", "r2", "is no number", 0},
		{"{\"r2\": [1]}", "r2", "is no number", 0},
		{"{\"r2\": \"0.5\"}", "r2", "is no number", 0}, /* of which type it is, JSON says */
		{"{\"r2\": \"0x10\"}", "r2", "is no number", 0},
		{"{\"r2\": 1e999}", "r2", "is no number", 0},
		{"{\"r2\": 500000000000000000000000000000000000000000000000000000000000000000000000000000000e-80}", "r2", NULL, 5},
		{"{\"rmse\": 1}", "r2", "has no \"r2\"", 0},
		{"0.5", "r2", "no JSON object", 0},
		{"", "r2", "no JSON object", 0},
		{"{\"r2\": 0.5", "r2", "no JSON object", 0},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fault f = FAULT_INIT;
		double value = 0;
		int rc = process_score(cases[i].result, strlen(cases[i].result), cases[i].key, &value, &f);
		assert_int_equal(rc, cases[i].words ? -EINVAL : 0);
		if (cases[i].words)
			assert_non_null(strstr(f.text, cases[i].words));
		else
			assert_true(value == cases[i].value);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_whole_process_is_read),
		cmocka_unit_test(test_every_mistake_is_named_with_its_line),
		cmocka_unit_test(test_a_huge_or_deep_text_is_refused),
		cmocka_unit_test(test_the_nodes_of_a_model_with_two_datasets_must_say_which_trains_it),
		cmocka_unit_test(test_words_are_filled_and_names_stay_what_they_are),
		cmocka_unit_test(test_a_score_is_found_or_its_lack_is_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
