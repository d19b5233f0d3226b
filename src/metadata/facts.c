/* Labels and parameters of a metadata.json, flattened to facts that a version can be found by: {"labels": {"a": {"b": 3}}} gives "labels.a.b".
 *
 * The object was read once to its end, so it is well-formed. Scalars only: null, NaN and arrays are not facts. Everything has a maximum; what is beyond it
 * is left out, for a trainer's metadata.json is never refused for what it says about itself. */
#include "facts.h"

#include <errno.h>
#include <math.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <stdlib.h>
#include <string.h>

#define FACT_NAME_MAX 255

static int add(struct metadata *md, const struct metadata_fact *f)
{
	if ((md->n_facts & (md->n_facts - 1)) == 0) { /* full at each power of two */
		struct metadata_fact *grown = realloc(md->facts, (md->n_facts ? 2 * md->n_facts : 1) * sizeof *grown);
		if (!grown)
			return -ENOMEM;
		md->facts = grown;
	}
	md->facts[md->n_facts++] = *f;
	return 0;
}

static int text_of(const char *text, const struct scan_token *value, char **ret)
{
	if (value->kind == SCAN_STRING)
		return scan_string(text, value, ret);
	*ret = strndup(text + value->start, value->end - value->start);
	return *ret ? 0 : -ENOMEM;
}

/* A value under the name in `name`. */
static int give(const char *text, const struct scan_token *value, const struct buf *name, struct metadata *md)
{
	struct metadata_fact f = {0};
	auto_free char *words = NULL;
	if (value->kind != SCAN_STRING && value->kind != SCAN_NUMBER && value->kind != SCAN_TRUE && value->kind != SCAN_FALSE)
		return 0;
	int r = text_of(text, value, &words);
	if (r == 0 && value->kind == SCAN_NUMBER) {
		r = scan_number(text, value, &f.number);
		f.is_number = r == 0 && isfinite(f.number);
	}
	if (r < 0 || strlen(words) > METADATA_FACT_TEXT_MAX)
		return r;
	f.name = strdup(buf_text(name));
	f.text = take_ptr(words);
	r = f.name ? add(md, &f) : -ENOMEM;
	if (r < 0) {
		free(f.name);
		free(f.text);
	}
	return r;
}

/* Puts the key behind the first `stem` bytes. *ret_fits is false where the name gets too long: then what is below is passed over. */
static int enter(const char *text, const struct scan_token *key, struct buf *name, size_t stem, bool *ret_fits)
{
	auto_free char *decoded = NULL;
	int r = scan_string(text, key, &decoded);
	if (r < 0)
		return r;
	buf_truncate(name, stem);
	*ret_fits = *decoded && stem + 1 + strlen(decoded) <= FACT_NAME_MAX;
	return *ret_fits ? buf_printf(name, ".%s", decoded) : 0;
}

int facts_flatten(const char *text, const struct scan_token *object, const char *prefix, struct metadata *md)
{
	struct scan s;
	struct scan_token t;
	size_t stems[METADATA_DEPTH_MAX + 1];
	unsigned limit = md->n_facts + METADATA_FACTS_MAX;
	auto_buf struct buf name = BUF_INIT((size_t)2 * FACT_NAME_MAX);
	bool fits = true;
	int r = buf_puts(&name, prefix);
	scan_init(&s, text, object->start, object->end);
	while (r == 0 && md->n_facts < limit && (r = scan_next(&s, &t)) == 0 && t.kind != SCAN_END) {
		if (t.kind == SCAN_KEY)
			r = enter(text, &t, &name, stems[s.depth], &fits);
		else if (t.kind == SCAN_OBJECT && fits)
			stems[s.depth] = name.len;
		else if (t.kind != SCAN_OBJECT_END && (r = scan_skip(&s, &t)) == 0 && fits)
			r = give(text, &t, &name, md);
	}
	return r;
}

int facts_compact(const char *text, const struct scan_token *object, char **ret)
{
	auto_buf struct buf out = BUF_INIT(METADATA_OBJECT_MAX);
	int r = scan_compact(text, object->start, object->end, SIZE_MAX, &out);
	if (r == -EFBIG)
		return 0;
	if (r == 0 && !(*ret = buf_take(&out)))
		r = -ENOMEM;
	return r;
}

void facts_release(struct metadata *md)
{
	for (unsigned i = 0; i < md->n_facts; i++) {
		free(md->facts[i].name);
		free(md->facts[i].text);
	}
	free(md->facts);
}
