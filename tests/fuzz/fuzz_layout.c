/* Any text as a path, a child's name and a reference. Besides not crashing: what is accepted can be written down and read
 * again as the same, and what is refused says why and changes nothing. */
#include <mintfs/layout.h>
#include <mintfs/util.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

static void check_fault(const struct fault *f, int error)
{
	MUST(f->error == error && f->text[0] != '\0');
	MUST(utf8_valid(f->text, strlen(f->text)));
}

/* Are a and b the same but for '/' in the place of '_'? */
static void check_joined(const char *path, const char *joined, size_t len)
{
	MUST(strlen(joined) == len);
	for (size_t i = 0; i < len; i++)
		MUST(joined[i] == (path[i] == '/' ? '_' : path[i]));
}

static void check_model(const struct layout_model *m)
{
	struct layout_model again;
	enum layout_kind kind;
	size_t len = strlen(m->path), type_len = strlen(m->type);

	MUST(layout_mode_typed(m->mode) == (m->type[0] != 0));
	MUST(strncmp(m->path, layout_mode_name(m->mode), strlen(layout_mode_name(m->mode))) == 0);
	MUST(!layout_mode_typed(m->mode) || layout_check_id(m->type, NULL) == 0);
	MUST(strcmp(m->path + len - type_len, m->type) == 0);
	check_joined(m->path, m->key, len);
	check_joined(m->path, m->identifier, type_len ? len - type_len - 1 : len);
	MUST(layout_classify(m->path, &kind, &again, NULL) == 0 && kind == LAYOUT_MODEL);
	MUST(again.mode == m->mode && strcmp(again.path, m->path) == 0 && strcmp(again.type, m->type) == 0);
	MUST(strcmp(again.key, m->key) == 0 && strcmp(again.identifier, m->identifier) == 0);
}

static void fuzz_classify(const char *text)
{
	struct fault f = FAULT_INIT;
	enum layout_kind kind = (enum layout_kind)77;
	struct layout_model m;
	struct layout_ref ref;
	int r = layout_classify(text, &kind, &m, &f);

	if (r < 0) {
		MUST(r == -EINVAL && (int)kind == 77);
		check_fault(&f, EINVAL);
		return;
	}
	MUST(f.error == 0);
	if (kind != LAYOUT_MODEL)
		return;
	MUST(strcmp(m.path, text) == 0);
	check_model(&m);
	MUST(layout_parse(text, &ref, NULL) == 0);
	MUST(strcmp(ref.model.path, text) == 0 && !ref.child[0] && !ref.rest[0]);
}

static void fuzz_child(const char *text)
{
	uint32_t number = 0;
	enum layout_child child = layout_classify_child(text, &number);

	MUST((child == LAYOUT_CHILD_VERSION) == (number != 0) && number <= LAYOUT_NUMBER_MAX);
	MUST((child == LAYOUT_CHILD_ALIAS) == (layout_check_id(text, NULL) == 0));
}

static void fuzz_parse(const char *text)
{
	struct fault f = FAULT_INIT;
	struct layout_ref ref, again;
	char written[LAYOUT_PATH_MAX + LAYOUT_NAME_MAX + sizeof(ref.rest) + 3], record[LAYOUT_PATH_MAX + 32];
	int r = layout_parse(text, &ref, &f);
	uint32_t number;

	if (r < 0) {
		MUST(r == -EINVAL || r == -ENOENT);
		check_fault(&f, -r);
		return;
	}
	check_model(&ref.model);
	MUST(ref.child[0] || !ref.rest[0]);
	strcpy(written, ref.model.path);
	strcat(strcat(written, "/"), ref.child);
	strcat(strcat(written, "/"), ref.rest);
	MUST(layout_parse(written, &again, NULL) == 0);
	MUST(strcmp(again.model.path, ref.model.path) == 0);
	MUST(strcmp(again.child, ref.child) == 0 && strcmp(again.rest, ref.rest) == 0);
	if (layout_classify_child(ref.child, &number) != LAYOUT_CHILD_VERSION)
		return;
	MUST(layout_record_path(ref.model.path, number, record, sizeof(record)) == 0);
	MUST(layout_parse(record, &again, NULL) == 0);
	MUST(strcmp(again.model.path, ref.model.path) == 0 && strcmp(again.child, ref.child) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* memory of exactly the text's size, so that a sanitizer sees each byte read beyond it */
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	fuzz_classify(text);
	fuzz_child(text);
	fuzz_parse(text);
	free(text);
	return 0;
}
