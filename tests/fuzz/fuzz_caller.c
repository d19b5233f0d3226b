/* Fuzzing of room caller: what is read of /proc. The first byte chooses: the rule of run ids over an environment block, /proc/<pid>/stat, syscall,
 * status.
 *
 * The rest is the text, in memory of exactly its size, so that a sanitizer sees each byte that is read beyond. */
#include "proc.h"

#include <mintfs/caller.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

/* The id is NUL-terminated, and nothing but a value of the block: without "=" before it there is none. */
static void fuzz_environ(const char *block, size_t len)
{
	char out[CALLER_RUN_ID_MAX];
	memset(out, '#', sizeof out);
	caller_run_id_from_environ(block, len, out);
	const char *end = memchr(out, '\0', sizeof out);
	MUST(end);
	MUST(!out[0] || (memchr(block, '=', len) && memchr(block, '\0', len)));
	/* a byte more at the end, which ends no string, changes nothing */
	char again[CALLER_RUN_ID_MAX], *longer = malloc(len + 1);
	if (!longer)
		return;
	if (len)
		memcpy(longer, block, len);
	longer[len] = 'M';
	caller_run_id_from_environ(longer, len + 1, again);
	MUST(strcmp(out, again) == 0);
	free(longer);
}

/* What stands before the last parenthesis is the program's own name for itself: it decides nothing. */
static void check_name_is_nothing(const char *text, const struct proc_stat *st)
{
	const char *rest = strrchr(text, ')');
	struct proc_stat again;
	char *other = malloc(strlen(rest) + 8);
	if (!other)
		return;
	strcpy(other, "1 (a) Z");
	strcat(other, rest);
	MUST(proc_parse_stat(other, &again) == 0);
	MUST(again.state == st->state && again.parent == st->parent && again.start == st->start && again.status == st->status && again.threads == st->threads);
	free(other);
}

static void fuzz_stat(const char *text)
{
	struct proc_stat st;
	memset(&st, 0x5a, sizeof st);
	struct proc_stat untouched = st;
	pid_t parent = -7;
	uint64_t start = 7;
	int r = proc_parse_stat(text, &st);
	MUST(caller_parse_stat(text, &parent, &start) == r);
	if (r < 0) {
		MUST(memcmp(&st, &untouched, sizeof st) == 0 && parent == -7 && start == 7);
		return;
	}
	MUST(st.parent >= 0 && isalpha((unsigned char)st.state) && parent == st.parent && start == st.start);
	check_name_is_nothing(text, &st);
}

static void fuzz_syscall(const char *text)
{
	uint64_t path = 7;
	enum proc_call call = proc_parse_syscall(text, &path);
	MUST(call == PROC_CALL_MKDIR ? isdigit((unsigned char)text[0]) : path == 7);
	MUST(call != PROC_CALL_RUNNING || text[0] == 'r');
}

/* A group that was found stands in the text by its digits. */
static void check_group(const char *groups, gid_t group)
{
	char digits[16];
	snprintf(digits, sizeof digits, "%u", (unsigned)group);
	if (proc_groups_have(groups, group))
		MUST(strstr(groups, digits));
}

static void fuzz_status(const char *text)
{
	pid_t tgid = -7;
	uid_t uid = 7;
	gid_t gid = 7;
	const char *groups = NULL;
	MUST(proc_parse_tgid(text, &tgid) == 0 ? tgid > 0 : tgid == -7);
	MUST(!proc_status_dying(text) || strstr(text, "Pnd:"));
	if (proc_parse_ids(text, &uid, &gid, &groups) < 0) {
		MUST(uid == 7 && gid == 7 && !groups);
		return;
	}
	MUST(groups > text && groups <= text + strlen(text) && groups[-1] == '\t');
	check_group(groups, gid);
	check_group(groups, 0);
	check_group(groups, 4010);
	check_group(groups, UINT32_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const targets[])(const char *) = {fuzz_stat, fuzz_syscall, fuzz_status};
	if (size == 0)
		return 0;
	unsigned choice = data[0] & 3;
	size_t len = size - 1;
	char *copy = malloc(len + 1);
	if (!copy)
		return 0;
	if (len)
		memcpy(copy, data + 1, len);
	copy[len] = '\0';
	if (choice > 0) {
		targets[choice - 1](copy);
	} else {
		char *exact = realloc(copy, len ? len : 1); /* no NUL behind it */
		fuzz_environ(exact ? exact : copy, len);
		copy = exact ? exact : copy;
	}
	free(copy);
	return 0;
}
