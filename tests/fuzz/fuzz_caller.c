/* Fuzzing of room caller: the rule of run ids over an environment block, and the parser of /proc/<pid>/stat.
 *
 * The first byte chooses; the rest is the text, in memory of exactly its size, so that a sanitizer sees each byte that is
 * read beyond. */
#include <mintfs/caller.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The id is NUL-terminated, and nothing but a value of the block: without "=" before it there is none. */
static void fuzz_environ(const char *block, size_t len)
{
	char out[CALLER_RUN_ID_MAX];
	memset(out, '#', sizeof out);
	caller_run_id_from_environ(block, len, out);
	const char *end = memchr(out, '\0', sizeof out);
	if (!end)
		abort();
	if (out[0] && (!memchr(block, '=', len) || !memchr(block, '\0', len)))
		abort();
	/* a byte more at the end, which ends no string, changes nothing */
	char again[CALLER_RUN_ID_MAX], *longer = malloc(len + 1);
	if (!longer)
		return;
	if (len)
		memcpy(longer, block, len);
	longer[len] = 'M';
	caller_run_id_from_environ(longer, len + 1, again);
	if (strcmp(out, again) != 0)
		abort();
	free(longer);
}

static void fuzz_stat(const char *text)
{
	pid_t parent = -7;
	uint64_t start = 7;
	int r = caller_parse_stat(text, &parent, &start);
	if (r == 0 ? parent < 0 : parent != -7 || start != 7)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	bool stat_text = data[0] & 1;
	size_t len = size - 1;
	char *copy = malloc(len + (stat_text ? 1 : 0) + (len == 0));
	if (!copy)
		return 0;
	if (len)
		memcpy(copy, data + 1, len);
	if (stat_text) {
		copy[len] = '\0';
		fuzz_stat(copy);
	} else {
		fuzz_environ(copy, len);
	}
	free(copy);
	return 0;
}
