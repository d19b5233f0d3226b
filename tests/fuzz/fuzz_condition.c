/* Any text as a condition of `mintfs find`: understood, with every text within its bounds, or refused with a sentence that names a position within it. */
#include <mintfs/registry.h>

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

static void check_refusal(const struct fault *f, size_t len)
{
	static const char word[] = "at position ";
	const char *at = strstr(f->text, word);
	for (const char *next = at; next && (next = strstr(next + 1, word));) /* the last one: the text may hold the word */
		at = next;
	MUST(f->error == EINVAL && f->verdict == VERDICT_NAME && at);
	unsigned long position = strtoul(at + sizeof word - 1, NULL, 10);
	MUST(position >= 1 && position <= len + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct catalog_condition c;
	struct fault f = FAULT_INIT;
	unsigned states = 0;
	bool is_state = false;
	char *text = malloc(size + 1);
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	memset(&c, 0x5a, sizeof c);
	int r = registry_condition_parse(text, &c, &states, &is_state, &f);
	if (r < 0) {
		MUST(r == -EINVAL);
		check_refusal(&f, strlen(text));
	} else {
		MUST(!f.error && (unsigned)c.op <= CATALOG_MATCH && (unsigned)c.field <= CATALOG_FIELD_INPUT_MODEL);
		MUST(memchr(c.name, '\0', sizeof c.name) && memchr(c.text, '\0', sizeof c.text));
		MUST(!c.is_number || isfinite(c.number));
		MUST(is_state ? states != 0 && states < 16 : states == 0);
		MUST(c.field != CATALOG_FIELD_CREATED || is_state || c.lo_ns < c.hi_ns);
	}
	free(text);
	return 0;
}
