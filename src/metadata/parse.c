/* Reading metadata.json: metrics, best, inputs, description; and its fields one by one.
 *
 * The text is walked once from end to end, which proves it well-formed and finds the members of interest; these are
 * then read again by themselves. Time and memory grow with the length of the text only: every list has a maximum,
 * and keys are compared after sorting. */
#include "facts.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <mintfs/cleanup.h>
#include <mintfs/metadata.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MEMBERS_MAX 65536    /* of the metrics object */
#define BEST_SIZE_MAX 65536  /* cJSON builds a tree of it */
#define FIELD_NAME_MAX 4096
#define FIELD_VALUE_MAX 200  /* of an array */

/* "metadata.json: WORDS at byte N (line L, column C)". Lines and columns count from 1, columns in characters. */
static int fault_place(struct fault *f, const char *text, size_t pos, const char *words)
{
	size_t line = 1, column = 1;

	for (size_t i = 0; i < pos; i++) {
		if (text[i] == '\n') {
			line++;
			column = 1;
		} else if (((unsigned char)text[i] & 0xc0) != 0x80) {
			column++;
		}
	}
	return fault_set(f, EINVAL, "metadata.json: %s at byte %zu (line %zu, column %zu)", words, pos, line, column);
}

static int fault_scan(struct fault *f, const struct scan *s)
{
	char words[SCAN_PROBLEM_MAX];

	scan_problem(s, words);
	return fault_place(f, s->text, s->pos, words);
}

/* For what failed without words: memory, or a list of names that grew past its maximum when it was written anew. */
static int fault_plain(struct fault *f, int error)
{
	return fault_set(f, error, "metadata.json: cannot be read: %s", strerror(error));
}

/* Begins to read a metadata.json; its opening brace is eaten. */
static int open_document(struct scan *s, const char *text, size_t len, struct fault *f)
{
	struct scan_token t;
	size_t start = len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0;

	if (len > METADATA_SIZE_MAX)
		return fault_set(f, EFBIG, "metadata.json: larger than %u bytes", METADATA_SIZE_MAX);
	scan_init(s, text, start, len);
	if (scan_next(s, &t) < 0)
		return fault_scan(f, s);
	if (t.kind != SCAN_OBJECT)
		return fault_place(f, text, t.start, "not a JSON object");
	return 0;
}

/* The next member of the object that s is in: 1, 0 at its end, or -errno. */
static int next_member(struct scan *s, struct scan_token *key, struct scan_token *value, struct fault *f)
{
	if (scan_next(s, key) < 0)
		return fault_scan(f, s);
	if (key->kind == SCAN_OBJECT_END)
		return 0;
	if (scan_next(s, value) < 0 || scan_skip(s, value) < 0)
		return fault_scan(f, s);
	return 1;
}

/* The members of the document that MintFS reads. A key that comes again replaces what was there. */
struct parts {
	struct scan_token metrics, best, inputs, description, maintainer, source, labels, params; /* kind SCAN_END: absent */
};

static int find_parts(const char *text, size_t len, struct parts *ret, struct fault *f)
{
	struct scan s;
	struct scan_token key, value;
	const struct scan_token absent = {SCAN_END, 0, 0};
	struct parts p = {absent, absent, absent, absent, absent, absent, absent, absent};
	struct { const char *name; struct scan_token *place; } wanted[] = {
		{"metrics", &p.metrics}, {"best", &p.best}, {"inputs", &p.inputs}, {"description", &p.description}, {"maintainer", &p.maintainer},
		{"source", &p.source}, {"labels", &p.labels}, {"parameters", &p.params}, {"params", &p.params},
	};
	int r = open_document(&s, text, len, f);

	if (r < 0)
		return r;
	while ((r = next_member(&s, &key, &value, f)) > 0)
		for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
			if (scan_is(text, &key, wanted[i].name))
				*wanted[i].place = value;
	if (r < 0)
		return r;
	if (scan_next(&s, &key) < 0)
		return fault_scan(f, &s);
	*ret = p;
	return 0;
}

/* ---- metrics ---- */

struct member {
	char *name;
	struct scan_token value;
	size_t order; /* place in the text */
	bool dropped; /* the same key stands earlier */
};

struct members {
	struct member *at; /* owned, with the names */
	size_t n, cap;
};

static void members_release(struct members *m)
{
	for (size_t i = 0; i < m->n; i++)
		free(m->at[i].name);
	free(m->at);
}

static int members_add(struct members *m, const char *text, const struct scan_token *key, const struct scan_token *value)
{
	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 16;
		struct member *grown = realloc(m->at, cap * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		m->at = grown;
		m->cap = cap;
	}
	struct member added = {NULL, *value, m->n, false};
	int r = scan_string(text, key, &added.name);
	if (r < 0)
		return r;
	m->at[m->n++] = added;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct member *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : (x->order > y->order) - (x->order < y->order);
}

static int by_order(const void *a, const void *b)
{
	const struct member *x = a, *y = b;

	return (x->order > y->order) - (x->order < y->order);
}

/* As Python reads it: a key keeps its first place and has its last value. */
static void members_unify(struct members *m)
{
	size_t first = 0;

	if (!m->n)
		return;
	qsort(m->at, m->n, sizeof(*m->at), by_name);
	for (size_t i = 1; i < m->n; i++) {
		if (strcmp(m->at[first].name, m->at[i].name) != 0) {
			first = i;
			continue;
		}
		m->at[first].value = m->at[i].value;
		m->at[i].dropped = true;
	}
	qsort(m->at, m->n, sizeof(*m->at), by_order);
}

static int members_read(const char *text, const struct scan_token *object, struct members *m, struct fault *f)
{
	struct scan s;
	struct scan_token key, value;
	int r;

	scan_init(&s, text, object->start, object->end);
	if (scan_next(&s, &key) < 0)
		return fault_scan(f, &s);
	while ((r = next_member(&s, &key, &value, f)) > 0) {
		if (m->n == MEMBERS_MAX)
			return fault_set(f, EFBIG, "metadata.json: more than %d metrics", MEMBERS_MAX);
		r = members_add(m, text, &key, &value);
		if (r < 0)
			return fault_plain(f, -r);
	}
	if (r < 0)
		return r;
	members_unify(m);
	return 0;
}

static int write_summary(const char *text, const struct members *m, struct metadata *md)
{
	auto_buf struct buf out = BUF_INIT((size_t)METADATA_SIZE_MAX * 2);
	struct json_out key;
	bool first = true;

	buf_putc(&out, '{');
	for (size_t i = 0; i < m->n; i++) {
		if (m->at[i].dropped)
			continue;
		if (!first)
			buf_putc(&out, ',');
		first = false;
		json_init(&key, &out, 0);
		json_string(&key, m->at[i].name);
		buf_putc(&out, ':');
		int r = scan_compact(text, m->at[i].value.start, m->at[i].value.end, SIZE_MAX, &out);
		if (r < 0)
			return r;
	}
	buf_putc(&out, '}');
	if (out.error)
		return out.error;
	md->metrics_summary = buf_take(&out);
	return md->metrics_summary ? 0 : -ENOMEM;
}

/* The numbers among the metrics. A first metric that is NaN still is the one that `best` goes by: this version has
 * no value. */
static int index_metrics(const char *text, struct members *m, struct metadata *md)
{
	if (!m->n)
		return 0;
	md->metrics = calloc(m->n < METADATA_METRICS_MAX ? m->n : METADATA_METRICS_MAX, sizeof(*md->metrics));
	if (!md->metrics)
		return -ENOMEM;
	for (size_t i = 0; i < m->n && md->n_metrics < METADATA_METRICS_MAX; i++) {
		struct member *metric = &m->at[i];
		double value = NAN;
		if (metric->dropped || (metric->value.kind != SCAN_NUMBER && metric->value.kind != SCAN_NAN))
			continue;
		if (!md->best_name && !(md->best_name = strdup(metric->name)))
			return -ENOMEM;
		if (metric->value.kind == SCAN_NUMBER && scan_number(text, &metric->value, &value) < 0)
			return -ENOMEM;
		if (isfinite(value))
			md->metrics[md->n_metrics++] = (struct metadata_metric){take_ptr(metric->name), value};
	}
	return 0;
}

static int read_metrics(const char *text, const struct scan_token *object, struct metadata *md, struct fault *f)
{
	__attribute__((cleanup(members_release))) struct members m = {NULL, 0, 0};
	int r = 0;

	if (object->kind == SCAN_OBJECT)
		r = members_read(text, object, &m, f);
	else if (object->kind != SCAN_END)
		return fault_place(f, text, object->start, "\"metrics\" is not an object");
	if (r < 0)
		return r;
	if ((r = write_summary(text, &m, md)) < 0 || (r = index_metrics(text, &m, md)) < 0)
		return fault_plain(f, -r);
	return 0;
}

/* ---- best ---- */

/* Names whose better direction everybody knows. */
static const struct { const char *name; enum metadata_best_mode mode; } known_metrics[] = {
	{"loss", METADATA_BEST_MIN}, {"rmse", METADATA_BEST_MIN}, {"mse", METADATA_BEST_MIN},
	{"mae", METADATA_BEST_MIN}, {"mape", METADATA_BEST_MIN},
	{"accuracy", METADATA_BEST_MAX}, {"acc", METADATA_BEST_MAX}, {"r2", METADATA_BEST_MAX}, {"f1", METADATA_BEST_MAX},
	{"auc", METADATA_BEST_MAX}, {"precision", METADATA_BEST_MAX}, {"recall", METADATA_BEST_MAX},
};

enum metadata_best_mode metadata_mode_of(const char *metric_name)
{
	const char *last = metric_name;

	for (const char *p = metric_name; *p; p++)
		if (strchr("_-./", *p))
			last = p + 1;
	for (size_t i = 0; i < ARRAY_SIZE(known_metrics); i++)
		if (!strcasecmp(last, known_metrics[i].name))
			return known_metrics[i].mode;
	return METADATA_BEST_UNKNOWN;
}

/* The value of the last member of that name, or NULL: cJSON itself finds the first. */
static const cJSON *last_member(const cJSON *object, const char *name)
{
	const cJSON *item, *found = NULL;

	cJSON_ArrayForEach(item, object)
		if (item->string && !strcmp(item->string, name))
			found = item;
	return found;
}

/* Takes the two members out of the tree. -EINVAL without words if they are not what they should be. */
static int take_best(const cJSON *tree, struct metadata *md)
{
	const cJSON *metric = last_member(tree, "metric"), *mode = last_member(tree, "mode");
	enum metadata_best_mode named = METADATA_BEST_UNKNOWN;

	if (!cJSON_IsString(metric))
		return -EINVAL;
	if (mode && cJSON_IsString(mode))
		named = !strcmp(mode->valuestring, "min") ? METADATA_BEST_MIN :
			!strcmp(mode->valuestring, "max") ? METADATA_BEST_MAX : METADATA_BEST_UNKNOWN;
	if (mode && named == METADATA_BEST_UNKNOWN)
		return -EINVAL;
	char *name = strdup(metric->valuestring);
	if (!name)
		return -ENOMEM;
	free(md->best_name);
	md->best_name = name;
	md->best_mode = named;
	md->best_named = true;
	return 0;
}

static int read_best(const char *text, const struct scan_token *best, struct metadata *md, struct fault *f)
{
	auto_buf struct buf compact = BUF_INIT(BEST_SIZE_MAX);
	int r = -EINVAL;

	if (best->kind == SCAN_OBJECT) {
		r = scan_compact(text, best->start, best->end, SIZE_MAX, &compact);
		if (r == -EFBIG)
			return fault_set(f, EFBIG, "metadata.json: \"best\" is larger than %d bytes", BEST_SIZE_MAX);
		if (r < 0)
			return fault_plain(f, -r);
		cJSON *tree = cJSON_ParseWithLength(buf_text(&compact), compact.len);
		r = take_best(tree, md);
		cJSON_Delete(tree);
	}
	if (r == -EINVAL && best->kind != SCAN_END)
		return fault_place(f, text, best->start, "\"best\" is not {\"metric\": NAME, \"mode\": \"min\" or \"max\"}");
	if (r == -ENOMEM)
		return fault_plain(f, ENOMEM);
	if (md->best_name && md->best_mode == METADATA_BEST_UNKNOWN)
		md->best_mode = metadata_mode_of(md->best_name);
	return 0;
}

/* ---- inputs and the whole ---- */

/* The array grows to the next power of two. */
static int add_input(const char *text, const struct scan_token *t, struct metadata *md, struct fault *f)
{
	if ((md->n_inputs & (md->n_inputs - 1)) == 0) {
		char **grown = realloc(md->inputs, (md->n_inputs ? 2 * (size_t)md->n_inputs : 1) * sizeof(*grown));
		if (!grown)
			return fault_plain(f, ENOMEM);
		md->inputs = grown;
	}
	int r = scan_string(text, t, &md->inputs[md->n_inputs]);
	if (r < 0)
		return fault_plain(f, -r);
	md->n_inputs++;
	return 0;
}

/* An array of names, or one name alone. */
static int read_inputs(const char *text, const struct scan_token *array, struct metadata *md, struct fault *f)
{
	struct scan s;
	struct scan_token t;

	if (array->kind == SCAN_STRING)
		return add_input(text, array, md, f);
	if (array->kind != SCAN_ARRAY)
		return 0;
	scan_init(&s, text, array->start, array->end);
	scan_next(&s, &t);
	while (md->n_inputs < METADATA_INPUTS_MAX && scan_next(&s, &t) == 0 && t.kind != SCAN_ARRAY_END) {
		if (scan_skip(&s, &t) < 0 || t.kind != SCAN_STRING)
			continue;
		int r = add_input(text, &t, md, f);
		if (r < 0)
			return r;
	}
	return 0;
}

void metadata_release(struct metadata *m)
{
	free(m->metrics_summary);
	for (unsigned i = 0; i < m->n_metrics; i++)
		free(m->metrics[i].name);
	free(m->metrics);
	free(m->best_name);
	for (unsigned i = 0; i < m->n_inputs; i++)
		free(m->inputs[i]);
	free(m->inputs);
	free(m->description);
	free(m->maintainer);
	free(m->source);
	free(m->labels);
	free(m->params);
	facts_release(m);
	memset(m, 0, sizeof(*m));
}

/* ---- what it says of itself ---- */

/* A text member; a long one is cut at a boundary between characters. */
static int read_text(const char *text, const struct scan_token *t, char **ret)
{
	int r = t->kind == SCAN_STRING ? scan_string(text, t, ret) : 0;
	if (r == 0 && *ret && strlen(*ret) > METADATA_TEXT_MAX) {
		size_t at = METADATA_TEXT_MAX;
		while (at && ((unsigned char)(*ret)[at] & 0xc0) == 0x80)
			at--;
		(*ret)[at] = '\0';
	}
	return r;
}

static int read_object(const char *text, const struct scan_token *t, const char *prefix, char **ret, struct metadata *md)
{
	int r = t->kind == SCAN_OBJECT ? facts_compact(text, t, ret) : 0;
	return r < 0 || t->kind != SCAN_OBJECT ? r : facts_flatten(text, t, prefix, md);
}

static int read_about(const char *text, size_t len, const struct parts *p, struct metadata *md, struct fault *f)
{
	int r = read_text(text, &p->description, &md->description);
	if (r == 0)
		r = read_text(text, &p->maintainer, &md->maintainer);
	if (r == 0)
		r = read_text(text, &p->source, &md->source);
	if (r == 0)
		r = read_object(text, &p->labels, "labels", &md->labels, md);
	if (r == 0)
		r = read_object(text, &p->params, "params", &md->params, md);
	md->generated = metadata_is_generated(text, len);
	return r < 0 ? fault_plain(f, -r) : 0;
}

int metadata_parse(const char *text, size_t len, struct metadata *ret, struct fault *f)
{
	struct parts p;
	struct metadata md = {0};
	int r = find_parts(text, len, &p, f);

	if (r == 0)
		r = read_metrics(text, &p.metrics, &md, f);
	if (r == 0)
		r = read_best(text, &p.best, &md, f);
	if (r == 0)
		r = read_inputs(text, &p.inputs, &md, f);
	if (r == 0)
		r = read_about(text, len, &p, &md, f);
	if (r < 0) {
		metadata_release(&md);
		return r;
	}
	*ret = md;
	return 0;
}

int metadata_read(int fd, struct metadata *ret, struct fault *f)
{
	struct stat st;
	int r = sys_fstat(fd, &st);

	if (r < 0)
		return fault_set(f, -r, "metadata.json: cannot be read: %s", strerror(-r));
	if (!S_ISREG(st.st_mode))
		return fault_set(f, EINVAL, "metadata.json: is %s", sys_kind_of(st.st_mode));
	if (st.st_size > METADATA_SIZE_MAX)
		return fault_set(f, EFBIG, "metadata.json: larger than %u bytes", METADATA_SIZE_MAX);
	auto_free char *text = malloc((size_t)st.st_size + 1);
	if (!text)
		return fault_plain(f, ENOMEM);
	ssize_t n = sys_pread_full(fd, text, (size_t)st.st_size, 0);
	if (n < 0)
		return fault_set(f, (int)-n, "metadata.json: cannot be read: %s", strerror((int)-n));
	return metadata_parse(text, (size_t)n, ret, f);
}

/* ---- fields ---- */

struct walk {
	struct scan s;
	const char *text;
	struct buf name;                      /* "a.b.c" */
	size_t stems[METADATA_DEPTH_MAX + 1]; /* length of name at each depth */
	metadata_field_fn *fn;
	metadata_value_fn *value_fn; /* instead of fn */
	void *arg;
	struct fault *f;
};

/* Appends the key to the stem of its level. */
static int enter_key(struct walk *w, const struct scan_token *key)
{
	auto_free char *decoded = NULL;
	int r = scan_string(w->text, key, &decoded);

	if (r < 0)
		return r;
	buf_truncate(&w->name, w->stems[w->s.depth]);
	if (w->name.len)
		buf_putc(&w->name, '.');
	r = buf_puts(&w->name, decoded);
	if (r == -EFBIG)
		return fault_set(w->f, EFBIG, "metadata.json: a field's name is longer than %d bytes", FIELD_NAME_MAX);
	return r;
}

/* Cuts at a boundary between characters. */
static void cut(struct buf *b, size_t max)
{
	if (b->len <= max)
		return;
	while (max && ((unsigned char)b->data[max] & 0xc0) == 0x80)
		max--;
	buf_truncate(b, max);
}

static int give(const struct walk *w, const char *value, const char *json)
{
	return w->value_fn ? w->value_fn(buf_text(&w->name), value, json, w->arg) : w->fn(buf_text(&w->name), value, w->arg);
}

int metadata_compact(const char *text, size_t len, struct buf *out)
{
	return scan_compact(text, 0, len, SIZE_MAX, out);
}

/* Hands a scalar or an array to fn. */
static int give_field(struct walk *w, const struct scan_token *value)
{
	auto_buf struct buf compact = BUF_INIT((size_t)METADATA_SIZE_MAX * 2);
	auto_buf struct buf shown = BUF_INIT(FIELD_VALUE_MAX + 1);
	auto_free char *decoded = NULL;
	bool array = value->kind == SCAN_ARRAY;
	int r = 0;

	if (value->kind == SCAN_STRING)
		r = scan_string(w->text, value, &decoded);
	if (r == 0 && (!decoded || w->value_fn))
		r = scan_compact(w->text, value->start, value->end, array && !w->value_fn ? FIELD_VALUE_MAX : SIZE_MAX, &compact);
	if (r < 0)
		return r;
	if (!array)
		return give(w, decoded ? decoded : buf_text(&compact), buf_text(&compact));
	r = buf_add(&shown, compact.data, compact.len < FIELD_VALUE_MAX ? compact.len : FIELD_VALUE_MAX + 1);
	cut(&shown, FIELD_VALUE_MAX);
	return r < 0 ? r : give(w, buf_text(&shown), buf_text(&compact));
}

static int walk_fields(struct walk *w)
{
	struct scan_token t;
	int r = 0;

	while (r == 0) {
		if (scan_next(&w->s, &t) < 0)
			return fault_scan(w->f, &w->s);
		if (t.kind == SCAN_END)
			return 0;
		if (t.kind == SCAN_KEY) {
			r = enter_key(w, &t);
		} else if (t.kind == SCAN_OBJECT) {
			w->stems[w->s.depth] = w->name.len;
		} else if (t.kind != SCAN_OBJECT_END) {
			if (scan_skip(&w->s, &t) < 0)
				return fault_scan(w->f, &w->s);
			r = give_field(w, &t);
		}
	}
	return r;
}

static int walk_document(struct walk *w, size_t len)
{
	struct parts checked; /* so that fn is not called for a text that turns out to be broken */
	int r = find_parts(w->text, len, &checked, w->f);

	if (r == 0)
		r = open_document(&w->s, w->text, len, w->f);
	if (r == 0) {
		w->stems[w->s.depth] = 0;
		r = walk_fields(w);
	}
	buf_release(&w->name);
	return r == -ENOMEM ? fault_default(w->f, ENOMEM, "metadata.json: not enough memory") : r;
}

int metadata_each_field(const char *text, size_t len, metadata_field_fn *fn, void *arg, struct fault *f)
{
	struct walk w = {.text = text, .name = BUF_INIT(FIELD_NAME_MAX), .fn = fn, .arg = arg, .f = f};
	return walk_document(&w, len);
}

int metadata_each_value(const char *text, size_t len, metadata_value_fn *fn, void *arg, struct fault *f)
{
	struct walk w = {.text = text, .name = BUF_INIT(FIELD_NAME_MAX), .value_fn = fn, .arg = arg, .f = f};
	return walk_document(&w, len);
}
