/* What several commands say of a version. */
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* ---- JSON ---- */

void json_field_time(struct json_out *j, const char *key, int64_t at_ns)
{
	char text[HUMAN_MAX];
	json_field_string(j, key, at_ns ? human_time(at_ns, text) : NULL);
}

void json_field_number(struct json_out *j, const char *key, uint32_t number)
{
	char text[16];
	snprintf(text, sizeof text, "v%u", number);
	json_field_string(j, key, number ? text : NULL);
}

void json_field_version(struct json_out *j, const char *model, uint32_t number)
{
	json_field_string(j, "model", model);
	json_field_number(j, "version", number);
}

void json_field_exit(struct json_out *j, const char *key, int status)
{
	json_key(j, key);
	if (status < 0)
		json_null(j);
	else
		json_int(j, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

void json_recorded(struct json_out *j, const char *json, const char *none)
{
	auto_buf struct buf text = BUF_INIT(1u << 30);
	if (!json)
		json_raw(j, none);
	else if (metadata_compact(json, strlen(json), &text) == 0)
		json_raw(j, buf_text(&text));
	else
		json_null(j);
}

static void put_links(struct json_out *j, const struct links *links, uint32_t number)
{
	json_key(j, "links");
	json_array_begin(j);
	for (size_t i = 0; i < links->n; i++)
		if (links->v[i].number == number)
			json_string(j, links->v[i].name);
	json_array_end(j);
}

void json_field_links(struct json_out *j, const struct links *links)
{
	json_key(j, "links");
	json_array_begin(j);
	for (size_t i = 0; i < links->n; i++) {
		json_object_begin(j);
		json_field_string(j, "name", links->v[i].name);
		json_field_number(j, "version", links->v[i].number);
		json_object_end(j);
	}
	json_array_end(j);
}

void json_version_fields(struct json_out *j, const char *model, const struct version_info *v, const struct links *links)
{
	json_field_version(j, model, v->v.number);
	json_field_int(j, "number", v->v.number);
	json_field_string(j, "state", catalog_state_name(v->v.state));
	json_field_time(j, "minted", v->v.minted_ns);
	json_field_time(j, "created", version_time(&v->v));
	json_field_string(j, "author", v->text.author);
	json_field_string(j, "message", v->text.message);
	json_field_string(j, "reason", v->text.reason);
	json_field_string(j, "run_id", v->run);
	json_key(j, "size");
	v->sized ? json_int(j, (int64_t)v->v.size) : json_null(j);
	json_key(j, "file_count");
	v->sized && v->v.id ? json_int(j, v->v.n_files) : json_null(j);
	json_key(j, "metrics");
	json_recorded(j, v->text.metrics_summary, "{}");
	if (links)
		put_links(j, links, v->v.number);
}

/* ---- words ---- */

enum style state_style(enum catalog_state state)
{
	switch (state) {
	case CATALOG_DRAFT:
		return STYLE_YELLOW;
	case CATALOG_COMMITTED:
		return STYLE_GREEN;
	case CATALOG_RETIRED:
	case CATALOG_DISCARDED:
		break;
	}
	return STYLE_DIM;
}

int64_t version_time(const struct catalog_version *v)
{
	return v->state == CATALOG_DRAFT || v->committed_ns == 0 ? v->minted_ns : v->committed_ns;
}

static int add_word(const char *name, const char *value, void *arg)
{
	struct buf *out = arg;
	bool plain = *value && !value[strcspn(value, " \t\n'\"\\$&;|<>()*?#~`!{}[]")];
	buf_puts(out, out->len ? " " : "");
	if (plain)
		return buf_puts(out, value);
	buf_putc(out, '\'');
	for (const char *c = value; *c; c++)
		*c == '\'' ? buf_puts(out, "'\\''") : buf_putc(out, *c);
	return buf_putc(out, '\'');
}

/* metadata_each_field shows the members of objects: ["a","b"] becomes {"0":"a","1":"b"} */
int command_words(const char *json, struct buf *out)
{
	auto_buf struct buf object = BUF_INIT(1 << 20);
	unsigned n = 0;
	bool quoted = false;
	if (!json || json[0] != '[')
		return -EINVAL;
	for (const char *c = json + 1; *c; c++) {
		if (!quoted && *c == '"')
			buf_printf(&object, "%s\"%u\":", n ? "," : "{", n), n++;
		if (*c == '"')
			quoted = !quoted;
		if (quoted || *c == '"')
			buf_putc(&object, *c);
		if (quoted && *c == '\\' && c[1])
			buf_putc(&object, *++c);
	}
	buf_putc(&object, '}');
	return n ? metadata_each_field(buf_text(&object), object.len, add_word, out, NULL) : -EINVAL;
}

void fact_command(struct table *t, const char *command)
{
	auto_buf struct buf line = BUF_INIT(1 << 20);
	if (command && command_words(command, &line) == 0)
		table_fact(t, "command", buf_text(&line));
}

/* ---- metrics ---- */

static void metric_release(struct metric *m)
{
	free(m->name);
	free(m->value);
	free(m->json);
}

int metrics_add(struct metrics *m, const char *name, const char *value, const char *json)
{
	struct metric add = {strdup(name), strdup(value), strdup(json)};
	bool full = (m->n & (m->n - 1)) == 0;
	struct metric *v = full ? realloc(m->v, (m->n ? 2 * m->n : 1) * sizeof *v) : m->v;
	if (v)
		m->v = v;
	if (!v || !add.name || !add.value || !add.json) {
		metric_release(&add);
		return -ENOMEM;
	}
	m->v[m->n++] = add;
	return 0;
}

static int add_metric(const char *name, const char *value, const char *json, void *arg)
{
	if (strncmp(name, "m.", 2) != 0) /* a catalog with something else than an object in its place */
		return -EINVAL;
	return metrics_add(arg, name + 2, value, json);
}

int metrics_parse(const char *json, struct metrics *ret)
{
	struct metrics m = {0};
	auto_buf struct buf text = BUF_INIT(1u << 30);
	int rc = 0;
	if (json && strcmp(json, "{}") != 0) { /* one level deeper, where a metric may be called "best" or "metrics" */
		buf_printf(&text, "{\"m\":%s}", json);
		rc = text.error ? text.error : metadata_each_value(buf_text(&text), text.len, add_metric, &m, NULL);
	}
	if (rc < 0) {
		metrics_release(&m);
		return rc;
	}
	*ret = m;
	return 0;
}

const struct metric *metrics_find(const struct metrics *m, const char *name)
{
	for (size_t i = 0; i < m->n; i++)
		if (!strcmp(m->v[i].name, name))
			return &m->v[i];
	return NULL;
}

void metrics_release(struct metrics *m)
{
	for (size_t i = 0; i < m->n; i++)
		metric_release(&m->v[i]);
	free(m->v);
	*m = (struct metrics){0};
}

/* ---- which draft? ---- */

static bool ends_in_latest(const char *arg)
{
	size_t len = strlen(arg);
	while (len > 0 && arg[len - 1] == '/')
		len--;
	return len >= 6 && !strncmp(arg + len - 6, "latest", 6) && (len == 6 || arg[len - 7] == '/');
}

struct drafts { uint32_t newest, n; char list[256]; };

static int note_draft(const struct version_info *v, void *arg)
{
	struct drafts *d = arg;
	size_t len = strlen(d->list);
	if (d->n++ == 0)
		d->newest = v->v.number;
	if (len + 24 < sizeof d->list)
		snprintf(d->list + len, sizeof d->list - len, "%sv%u", len ? ", " : "", v->v.number);
	else if (d->list[len - 1] != '.')
		strcat(d->list, " ...");
	return 0;
}

static int only_draft(struct source *s, struct source_ref *model, struct fault *f)
{
	const struct source_query q = {.states = 1u << CATALOG_DRAFT, .brief = true};
	struct drafts d = {0};
	char name[CATALOG_PATH_MAX + 16];
	int rc = source_versions(s, model, &q, note_draft, &d, f);
	if (rc < 0)
		return rc;
	if (d.n == 0)
		return fault_set(f, ENOENT, "%s has no open draft", model->model);
	if (d.n > 1)
		return fault_set(f, EINVAL, "%s has %u open drafts: %s; say which one", model->model, d.n, d.list);
	snprintf(name, sizeof name, "%s/v%u", model->model, d.newest);
	return source_resolve(s, name, model, f);
}

int pick_draft(struct source *s, const char *arg, const char *name, bool model_alone, struct source_ref *ret, struct fault *f)
{
	bool latest = ends_in_latest(arg);
	struct fault unused = FAULT_INIT;
	int rc = source_resolve(s, name, ret, f);
	if (rc < 0 && latest) { /* no committed version: it can only mean a draft */
		auto_free char *model = strndup(name, strlen(name) - (ends_in_latest(name) ? strlen("/latest") : 0));
		if (!model)
			return fault_set(f, ENOMEM, "not enough memory");
		*f = (struct fault)FAULT_INIT;
		rc = source_resolve(s, model, ret, f);
	}
	if (rc < 0)
		return rc;
	if (ret->rest[0])
		return fault_set(f, EINVAL, "%s names a file in v%u of %s: name the version itself", arg, ret->number, ret->model);
	if (ret->has_version && (!latest || ret->state == CATALOG_DRAFT))
		return 0;
	if (!ret->has_version && !latest && !model_alone)
		return fault_set(f, EINVAL, "%s is a model: name the version, such as %s/v3", arg, ret->model);
	struct source_ref version = *ret;
	rc = only_draft(s, ret, f);
	if (rc == -ENOENT && version.has_version && strstr(f->text, "no open draft")) { /* latest is committed, and nothing is open */
		*f = unused;
		*ret = version;
		return 0;
	}
	return rc;
}
