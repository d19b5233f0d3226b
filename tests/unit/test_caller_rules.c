/* Room caller: what is read from the texts of /proc. Tables, without any process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <mintfs/caller.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../src/caller/proc.h"

#define BLOCK(text) text, sizeof(text) /* with the last NUL */

static const struct {
	const char *block;
	size_t len;
	const char *run;
} run_ids[] = {
	{"", 0, ""},
	{BLOCK("HOME=/root\0MINTFS_RUN=a"), "a"},
	{BLOCK("MINTFS_RUN=r1\0TORCHELASTIC_RUN_ID=t1\0RANK=0\0MASTER_ADDR=h\0MASTER_PORT=1\0SLURM_JOB_ID=5\0SLURM_STEP_ID=6"), "r1"},
	{BLOCK("SLURM_JOB_ID=5\0SLURM_STEP_ID=6\0RANK=0\0MASTER_ADDR=h\0MASTER_PORT=1\0TORCHELASTIC_RUN_ID=t1"), "t1"},
	{BLOCK("TORCHELASTIC_RUN_ID=none\0RANK=0\0MASTER_ADDR=h\0MASTER_PORT=1\0SLURM_JOB_ID=5\0SLURM_STEP_ID=6"), "h:1"},
	{BLOCK("TORCHELASTIC_RUN_ID=nonesuch"), "nonesuch"},
	{BLOCK("TORCHELASTIC_RUN_ID=non"), "non"},
	{BLOCK("MASTER_ADDR=h\0MASTER_PORT=1"), ""},
	{BLOCK("RANK=0\0MASTER_ADDR=h"), ""},
	{BLOCK("RANK=0\0MASTER_PORT=1"), ""},
	{BLOCK("RANK=\0MASTER_ADDR=h\0MASTER_PORT=1"), ""},
	{BLOCK("RANK=3\0MASTER_ADDR=10.0.0.1\0MASTER_PORT=29500"), "10.0.0.1:29500"},
	{BLOCK("MASTER_ADDR=h\0MASTER_PORT=1\0SLURM_JOB_ID=5\0SLURM_STEP_ID=0"), "5.0"},
	{BLOCK("SLURM_JOB_ID=5"), ""},
	{BLOCK("SLURM_STEP_ID=5"), ""},
	{BLOCK("MINTFS_RUN=\0SLURM_JOB_ID=5\0SLURM_STEP_ID=6"), "5.6"},
	{BLOCK("MINTFS_RUN=\0TORCHELASTIC_RUN_ID="), ""},
	{BLOCK("MINTFS_RUN=first\0MINTFS_RUN=second"), "first"},
	{BLOCK("XMINTFS_RUN=x\0MINTFS_RUNX=x\0mintfs_run=x\0MINTFS_RUN"), ""},
	{BLOCK("MINTFS_RUN=a=b"), "a=b"},
	{BLOCK("\0\0MINTFS_RUN=after empty strings"), "after empty strings"},
	{BLOCK("MINTFS_RUN=\xe8\xae\xad\xe7\xbb\x83"), "\xe8\xae\xad\xe7\xbb\x83"},
};

static void test_run_id_follows_the_order_of_launchers(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(run_ids); i++) {
		char out[CALLER_RUN_ID_MAX];
		memset(out, '#', sizeof out);
		caller_run_id_from_environ(run_ids[i].block, run_ids[i].len, out);
		if (strcmp(out, run_ids[i].run) != 0)
			fail_msg("row %zu: \"%s\" instead of \"%s\"", i, out, run_ids[i].run);
	}
}

static void test_run_id_that_the_bound_has_cut_counts_as_not_set(void **state)
{
	const char block[] = "A=1\0MINTFS_RUN=abcdef";
	char out[CALLER_RUN_ID_MAX];
	for (size_t len = 0; len < sizeof block; len++) {
		caller_run_id_from_environ(block, len, out);
		assert_string_equal(out, "");
	}
	caller_run_id_from_environ(block, sizeof block, out);
	assert_string_equal(out, "abcdef");
}

/* The block "<name><n times unit>\0", and the id read from it. */
static void long_run_id(const char *name, const char *unit, size_t n, char out[CALLER_RUN_ID_MAX])
{
	char *block = malloc(strlen(name) + n * strlen(unit) + 1);
	assert_non_null(block);
	strcpy(block, name);
	for (size_t i = 0; i < n; i++)
		strcpy(block + strlen(name) + i * strlen(unit), unit);
	caller_run_id_from_environ(block, strlen(block) + 1, out);
	free(block);
}

static void test_run_id_longer_than_the_maximum_is_cut(void **state)
{
	char out[CALLER_RUN_ID_MAX];
	long_run_id("MINTFS_RUN=", "x", CALLER_RUN_ID_MAX - 1, out);
	assert_int_equal(strlen(out), CALLER_RUN_ID_MAX - 1);
	long_run_id("MINTFS_RUN=", "x", CALLER_RUN_ID_MAX, out);
	assert_int_equal(strlen(out), CALLER_RUN_ID_MAX - 1);
	long_run_id("MINTFS_RUN=", "x", 100000, out);
	assert_int_equal(strlen(out), CALLER_RUN_ID_MAX - 1);
}

static void test_run_id_is_cut_between_characters(void **state)
{
	char out[CALLER_RUN_ID_MAX];
	long_run_id("MINTFS_RUN=ab", "\xe8\xae\xad", 100, out); /* 2 + 84 * 3 = 254, the next would be torn */
	assert_int_equal(strlen(out), 254);
	assert_true(utf8_valid(out, strlen(out)));
	long_run_id("MINTFS_RUN=", "\x80", 300, out); /* no UTF-8 at all: by bytes */
	assert_int_equal(strlen(out), CALLER_RUN_ID_MAX - 1);
}

static void test_composed_run_id_is_cut_within_its_maximum(void **state)
{
	char block[2000] = "RANK=0", out[CALLER_RUN_ID_MAX];
	for (size_t addr = 250; addr <= 260; addr++) {
		char *p = block + 7;
		p += sprintf(p, "MASTER_ADDR=%0*d", (int)addr, 0) + 1;
		p += sprintf(p, "MASTER_PORT=%s", "29500") + 1;
		caller_run_id_from_environ(block, (size_t)(p - block), out);
		size_t whole = addr + 6;
		assert_int_equal(strlen(out), whole < CALLER_RUN_ID_MAX ? whole : CALLER_RUN_ID_MAX - 1);
	}
}

#define TO_20 " 1 1 0 -1 4194560 100 0 0 0 1 2 0 0 20 0"
#define TO_51 " 25 1000 200 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0"

static void test_stat_is_parsed_behind_any_name(void **state)
{
	static const char *const names[] = {"sh", "a b", "a) S 9 9", "(", ")", "((a)", "", "a\tb) Z 3 3 3 ("};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char text[512];
		struct proc_stat st;
		pid_t parent = 0;
		uint64_t start = 0;
		snprintf(text, sizeof text, "42 (%s) S 7" TO_20 " 3 0 12345" TO_51 " 768\n", names[i]);
		assert_int_equal(caller_parse_stat(text, &parent, &start), 0);
		assert_int_equal(parent, 7);
		assert_int_equal(start, 12345);
		assert_int_equal(proc_parse_stat(text, &st), 0);
		assert_int_equal(st.state, 'S');
		assert_int_equal(st.threads, 3);
		assert_int_equal(st.status, 768);
	}
}

static void test_stat_without_an_exit_code_has_none(void **state)
{
	struct proc_stat st;
	assert_int_equal(proc_parse_stat("42 (sh) Z 7" TO_20 " 1 0 12345", &st), 0);
	assert_int_equal(st.start, 12345);
	assert_int_equal(st.status, 0);
}

static void test_stat_that_is_torn_is_refused_and_leaves_the_results(void **state)
{
	static const char *const texts[] = {
		"", "42", "42 (sh", "42 (sh)", "42 (sh) ", "42 (sh) S", "42 (sh) S ", "42 (sh) S 7", "42 (sh)S 7" TO_20 " 3 0 12345",
		"42 (sh) 1 7" TO_20 " 3 0 12345", "42 (sh) S -7" TO_20 " 3 0 12345", "42 (sh) S 7" TO_20 " 3 0",
		"42 (sh) S 7" TO_20 " 3 0 ", "42 (sh) S 7" TO_20 " 3 0 x", "42 (sh) S 7" TO_20 " 3 0 99999999999999999999",
		"42 (sh) S 99999999999" TO_20 " 3 0 12345", "42 sh S 7" TO_20 " 3 0 12345",
	};
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		pid_t parent = -5;
		uint64_t start = 5;
		if (caller_parse_stat(texts[i], &parent, &start) != -EINVAL)
			fail_msg("\"%s\" was taken", texts[i]);
		assert_int_equal(parent, -5);
		assert_int_equal(start, 5);
	}
}

static void test_thread_group_is_read_from_status(void **state)
{
	pid_t tgid = 0;
	assert_int_equal(proc_parse_tgid("Name:\tpython\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4711\nNgid:\t0\n", &tgid), 0);
	assert_int_equal(tgid, 4711);
	static const char *const bad[] = {"", "Tgid:\t1\n", "Name:\tx\nTgid:\t\n", "Name:\tx\nTgid:\t0\n", "Name:\tx\nTgid:\t-1\n",
		"Name:\tx\nTgid:\t12", "Name:\tx\nTgid:\t99999999999\n", "Name:\tx\\nTgid:\t7\n"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (proc_parse_tgid(bad[i], &tgid) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
	assert_int_equal(tgid, 4711);
}

static void test_who_is_about_to_die_is_told_by_his_signals(void **state)
{
	static const struct { const char *own, *shared, *blocked, *ignored, *caught; bool dying; } cases[] = {
		{"0000000000000000", "0000000000000000", "0000000000000000", "0000000000000000", "0000000000000000", false},
		{"0000000000000100", "0000000000000000", "0000000000000000", "0000000000000000", "0000000000000000", true}, /* SIGKILL */
		{"0000000000000100", "0000000000000002", "ffffffffffffffff", "0000000000000000", "0000000000000002", true},
		{"0000000000000000", "0000000000000100", "0000000000000000", "0000000000000000", "0000000000000000", false}, /* it is passed on to each thread */
		{"0000000000000000", "0000000000000004", "0000000000000000", "0000000000000000", "0000000000000000", true}, /* SIGQUIT */
		{"0000000000000000", "0000000000000004", "0000000000000004", "0000000000000000", "0000000000000000", false},
		{"0000000000000000", "0000000000000004", "0000000000000000", "0000000000000004", "0000000000000000", false},
		{"0000000000000004", "0000000000000000", "0000000000000000", "0000000000000000", "0000000000000004", false},
		{"0000000000000000", "0000000000002002", "0000000000000000", "0000000000000000", "0000000000000000", false}, /* SIGINT, SIGALRM: to be handled */
		{"0000000000000000", "0000000008010000", "0000000000000000", "0000000000000000", "0000000000000000", false}, /* SIGCHLD, SIGWINCH */
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[512];
		snprintf(text, sizeof text, "Name:\tx\nGroups:\t0 \nSigPnd:\t%s\nShdPnd:\t%s\nSigBlk:\t%s\nSigIgn:\t%s\nSigCgt:\t%s\nCapInh:\t0\n", cases[i].own, cases[i].shared,
			cases[i].blocked, cases[i].ignored, cases[i].caught);
		if (proc_status_dying(text) != cases[i].dying)
			fail_msg("case %zu", i);
	}
	assert_false(proc_status_dying(""));
	assert_false(proc_status_dying("Name:\tSigPnd:\t0000000000000100\n"));
	assert_false(caller_is_dying(gettid()));
	assert_false(caller_is_dying(0));
}

#define ARGS " 0x7ffd1 0x1ff 0x0 0x0 0x0 0x0"
#define HIGH " 0x7ffd12345678 0x7f0012345678\n"

static enum proc_call call_with(long number, const char *rest)
{
	char text[256];
	snprintf(text, sizeof text, "%ld%s", number, rest);
	uint64_t address;
	return proc_parse_syscall(text, &address);
}

static void test_system_call_is_told_from_the_text(void **state)
{
	uint64_t address;
	assert_int_equal(call_with(SYS_mkdirat, ARGS HIGH), PROC_CALL_MKDIR);
#ifdef SYS_mkdir
	assert_int_equal(call_with(SYS_mkdir, ARGS HIGH), PROC_CALL_MKDIR);
#endif
	assert_int_equal(call_with(SYS_openat, ARGS HIGH), PROC_CALL_OTHER);
	assert_int_equal(call_with(426, ARGS HIGH), PROC_CALL_OTHER); /* io_uring_enter */
	assert_int_equal(proc_parse_syscall("running\n", &address), PROC_CALL_RUNNING);
	assert_int_equal(proc_parse_syscall("-1 0x7ffd12345678 0x7f0012345678\n", &address), PROC_CALL_OTHER);
	assert_int_equal(proc_parse_syscall("", &address), PROC_CALL_OTHER);
}

static void test_system_call_text_that_is_torn_is_no_mkdir(void **state)
{
	uint64_t address;
	static const char *const rests[] = {"", "\n", " ", ARGS, ARGS "\n", ARGS " 0x", ARGS " 7ffd12345678",
		" 0x1 0x2 0x7ffd12345678 0x7f0012345678\n"};
	for (size_t i = 0; i < ARRAY_SIZE(rests); i++)
		if (call_with(SYS_mkdirat, rests[i]) != PROC_CALL_OTHER)
			fail_msg("\"%s\" was taken", rests[i]);
	assert_int_equal(proc_parse_syscall("99999999999999999999" ARGS HIGH, &address), PROC_CALL_OTHER);
}

/* i386 numbers symlink as x86_64 numbers mkdir: 83 */
static void test_system_call_of_a_32_bit_program_is_no_mkdir(void **state)
{
	if (sizeof(long) < 8)
		skip();
	assert_int_equal(call_with(SYS_mkdirat, ARGS " 0xffd12340 0xf7fc1549\n"), PROC_CALL_OTHER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_run_id_follows_the_order_of_launchers),
		cmocka_unit_test(test_run_id_that_the_bound_has_cut_counts_as_not_set),
		cmocka_unit_test(test_run_id_longer_than_the_maximum_is_cut),
		cmocka_unit_test(test_run_id_is_cut_between_characters),
		cmocka_unit_test(test_composed_run_id_is_cut_within_its_maximum),
		cmocka_unit_test(test_stat_is_parsed_behind_any_name),
		cmocka_unit_test(test_stat_without_an_exit_code_has_none),
		cmocka_unit_test(test_stat_that_is_torn_is_refused_and_leaves_the_results),
		cmocka_unit_test(test_thread_group_is_read_from_status),
		cmocka_unit_test(test_who_is_about_to_die_is_told_by_his_signals),
		cmocka_unit_test(test_system_call_is_told_from_the_text),
		cmocka_unit_test(test_system_call_text_that_is_torn_is_no_mkdir),
		cmocka_unit_test(test_system_call_of_a_32_bit_program_is_no_mkdir),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
