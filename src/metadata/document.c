#include "document.h"

#include <errno.h>
#include <math.h>
#include <mintfs/cleanup.h>
#include <stdarg.h>
#include <string.h>

unsigned document_line(const struct document *d, size_t pos)
{
	unsigned line = 1;
	for (size_t i = 0; i < pos; i++)
		line += d->text[i] == '\n';
	return line;
}

int document_refuse(const struct document *d, size_t pos, const char *fmt, ...)
{
	char words[FAULT_TEXT_MAX];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(words, sizeof words, fmt, ap);
	va_end(ap);
	return fault_set(d->f, EINVAL, "%s, line %u: %s", d->name, document_line(d, pos), words);
}

static int refuse_scan(const struct document *d, const struct scan *s)
{
	char words[SCAN_PROBLEM_MAX];
	scan_problem(s, words);
	return document_refuse(d, s->pos, "%s", words);
}

static int plain(const struct document *d, int error)
{
	return fault_set(d->f, -error, "%s: cannot be read: %s", d->name, strerror(-error));
}

int document_open(const struct document *d, size_t len, struct scan_token *ret)
{
	struct scan s;
	struct scan_token t, end;
	scan_init(&s, d->text, len >= 3 && !memcmp(d->text, "\xef\xbb\xbf", 3) ? 3 : 0, len);
	if (scan_next(&s, &t) < 0 || scan_skip(&s, &t) < 0 || scan_next(&s, &end) < 0)
		return refuse_scan(d, &s);
	*ret = t;
	return 0;
}

#define FIELDS_MAX 32

static int take_member(const struct document *d, const char *what, const struct scan_token *key, const struct scan_token *value, const struct field *fields, size_t n,
	bool seen[FIELDS_MAX], void *to)
{
	auto_free char *name = NULL;
	int rc = scan_string(d->text, key, &name);
	if (rc < 0)
		return plain(d, rc);
	for (size_t i = 0; i < n; i++) {
		if (fields[i].name && strcmp(fields[i].name, name) != 0)
			continue;
		if (fields[i].name && seen[i])
			return document_refuse(d, key->start, "\"%s\" stands twice in %s", name, what);
		seen[i] = true;
		return fields[i].read(d, name, value, (char *)to + fields[i].offset);
	}
	return document_refuse(d, key->start, "%s has no field \"%s\"", what, name);
}

int document_object(const struct document *d, const char *what, const struct scan_token *object, const struct field *fields, size_t n, void *to)
{
	struct scan s;
	struct scan_token key, value;
	bool seen[FIELDS_MAX] = {false};
	if (object->kind != SCAN_OBJECT)
		return document_refuse(d, object->start, "%s must be an object: {…}", what);
	scan_init(&s, d->text, object->start, object->end);
	int rc = scan_next(&s, &key);
	while (rc == 0 && (rc = scan_next(&s, &key)) == 0 && key.kind == SCAN_KEY) {
		if (scan_next(&s, &value) < 0 || scan_skip(&s, &value) < 0)
			return refuse_scan(d, &s);
		rc = take_member(d, what, &key, &value, fields, n, seen, to);
		if (rc < 0)
			return rc;
	}
	if (rc < 0)
		return refuse_scan(d, &s);
	for (size_t i = 0; i < n; i++)
		if (fields[i].needed && !seen[i])
			return document_refuse(d, object->start, "%s needs \"%s\"", what, fields[i].name);
	return 0;
}

int document_array(const struct document *d, const char *key, const struct scan_token *array, size_t max, element_fn *fn, void *arg)
{
	struct scan s;
	struct scan_token t;
	size_t n = 0;
	if (array->kind != SCAN_ARRAY)
		return document_refuse(d, array->start, "\"%s\" must be an array: […]", key);
	scan_init(&s, d->text, array->start, array->end);
	int rc = scan_next(&s, &t);
	while (rc == 0 && (rc = scan_next(&s, &t)) == 0 && t.kind != SCAN_ARRAY_END) {
		if (scan_skip(&s, &t) < 0)
			return refuse_scan(d, &s);
		if (n++ == max)
			return document_refuse(d, t.start, "\"%s\" has more than %zu members", key, max);
		rc = fn(d, key, &t, arg);
		if (rc < 0)
			return rc;
	}
	return rc < 0 ? refuse_scan(d, &s) : 0;
}

int document_text(const struct document *d, const char *key, const struct scan_token *value, char **ret)
{
	auto_free char *text = NULL;
	if (value->kind != SCAN_STRING)
		return document_refuse(d, value->start, "\"%s\" must be a text: \"…\"", key);
	int rc = scan_string(d->text, value, &text);
	if (rc < 0)
		return plain(d, rc);
	if (!*text)
		return document_refuse(d, value->start, "\"%s\" is empty", key);
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return document_refuse(d, value->start, "\"%s\" holds a control character", key);
	free(*ret);
	*ret = take_ptr(text);
	return 0;
}

int document_number(const struct document *d, const char *key, const struct scan_token *value, double *ret)
{
	double number = NAN;
	if (value->kind == SCAN_NUMBER && scan_number(d->text, value, &number) < 0)
		return plain(d, -ENOMEM);
	if (!isfinite(number))
		return document_refuse(d, value->start, "\"%s\" must be a finite number", key);
	*ret = number;
	return 0;
}
