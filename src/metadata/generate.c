/* JSON that MintFS writes itself: the metadata.json of a version whose trainer left none, a store's config.json,
 * versions.json. */
#include "scan.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <mintfs/cleanup.h>
#include <mintfs/metadata.h>
#include <mintfs/util.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_SIZE_MAX 65536

static void field_if_known(struct json_out *j, const char *key, const char *value)
{
	if (value)
		json_field_string(j, key, value);
}

/* ISO 8601 in UTC, so that a reader need not guess the zone. */
static void field_time(struct json_out *j, const char *key, int64_t ns)
{
	char text[TIME_TEXT_MAX + 2];

	if (!ns)
		return;
	time_utc_text(ns, text);
	char *blank = strchr(text, ' ');
	if (blank)
		*blank = 'T';
	strcat(text, "Z"); /* two bytes longer than what time_utc_text fills */
	json_field_string(j, key, text);
}

static bool is_json_array(const char *text)
{
	struct scan s;
	struct scan_token first, end;

	scan_init(&s, text, 0, strlen(text));
	if (scan_next(&s, &first) < 0 || first.kind != SCAN_ARRAY)
		return false;
	return scan_skip(&s, &first) == 0 && scan_next(&s, &end) == 0;
}

static void field_run(struct json_out *j, const struct metadata_record *r)
{
	bool git = r->git_commit || r->git_dirty >= 0;

	if (!r->run_id && !r->command && !r->cwd && !r->user && !r->host && !r->started_ns && !r->ended_ns && !git)
		return;
	json_key(j, "run");
	json_object_begin(j);
	field_if_known(j, "id", r->run_id);
	if (r->command && is_json_array(r->command)) {
		json_key(j, "command");
		json_raw(j, r->command);
	} else {
		field_if_known(j, "command", r->command);
	}
	field_if_known(j, "cwd", r->cwd);
	field_if_known(j, "user", r->user);
	field_if_known(j, "host", r->host);
	field_time(j, "started_at", r->started_ns);
	field_time(j, "ended_at", r->ended_ns);
	field_if_known(j, "git_commit", r->git_commit);
	if (r->git_dirty >= 0)
		json_field_bool(j, "git_dirty", r->git_dirty > 0);
	json_object_end(j);
}

static void field_files(struct json_out *j, const struct metadata_record *r)
{
	json_key(j, "files");
	json_array_begin(j);
	for (size_t i = 0; i < r->n_files; i++) {
		const struct metadata_file *file = &r->files[i];
		json_object_begin(j);
		json_field_string(j, "path", file->path);
		field_if_known(j, "type", file->type);
		json_key(j, "size"); /* of a file, so never past INT64_MAX */
		json_int(j, (int64_t)file->size);
		field_if_known(j, "sha256", file->sha256);
		json_object_end(j);
	}
	json_array_end(j);
}

bool metadata_is_generated(const char *text, size_t len)
{
	return len >= METADATA_GENERATED_SIZE && !memcmp(text, METADATA_GENERATED, METADATA_GENERATED_SIZE);
}

int metadata_generate(const struct metadata_record *r, struct buf *out)
{
	struct json_out j;

	json_init(&j, out, 2);
	json_object_begin(&j);
	json_field_string(&j, "generated_by", "mintfs");
	field_if_known(&j, "model", r->model);
	field_if_known(&j, "version", r->version);
	field_run(&j, r);
	if (r->n_inputs) {
		json_key(&j, "inputs");
		json_array_begin(&j);
		for (unsigned i = 0; i < r->n_inputs; i++)
			json_string(&j, r->inputs[i]);
		json_array_end(&j);
	}
	field_files(&j, r);
	json_object_end(&j);
	buf_putc(out, '\n');
	return out->error;
}

/* The number of the format, or -EINVAL: a whole number from 1 on. */
static int take_format(const cJSON *tree)
{
	const cJSON *format = cJSON_GetObjectItemCaseSensitive(tree, "format");

	if (!cJSON_IsNumber(format) || !(format->valuedouble >= 1 && format->valuedouble <= INT_MAX))
		return -EINVAL;
	return format->valuedouble == format->valueint ? format->valueint : -EINVAL;
}

int metadata_config_parse(const char *text, size_t len, struct metadata_config *ret, struct fault *f)
{
	auto_buf struct buf compact = BUF_INIT((size_t)CONFIG_SIZE_MAX * 2);
	char words[SCAN_PROBLEM_MAX];
	struct scan s;
	struct scan_token t;

	if (len > CONFIG_SIZE_MAX)
		return fault_set(f, EFBIG, "config.json: larger than %d bytes", CONFIG_SIZE_MAX);
	scan_init(&s, text, 0, len);
	if (scan_next(&s, &t) < 0 || scan_skip(&s, &t) < 0 || scan_next(&s, &t) < 0) {
		scan_problem(&s, words);
		return fault_set(f, EINVAL, "config.json: %s at byte %zu", words, s.pos);
	}
	int r = scan_compact(text, 0, len, SIZE_MAX, &compact);
	if (r < 0)
		return fault_set(f, -r, "config.json: cannot be read: %s", strerror(-r));
	cJSON *tree = cJSON_ParseWithLength(buf_text(&compact), compact.len);
	r = take_format(tree);
	cJSON_Delete(tree);
	if (r < 0)
		return fault_set(f, EINVAL, "config.json: not an object with a number \"format\"");
	*ret = (struct metadata_config){.format = r};
	return 0;
}

int metadata_config_generate(const struct metadata_config *c, struct buf *out)
{
	struct json_out j;

	json_init(&j, out, 2);
	json_object_begin(&j);
	json_field_int(&j, "format", c->format);
	json_object_end(&j);
	buf_putc(out, '\n');
	return out->error;
}

int metadata_versions_begin(struct buf *out)
{
	return buf_putc(out, '{');
}

int metadata_versions_add(struct buf *out, const char *key, uint32_t number, bool first)
{
	struct json_out j;

	buf_puts(out, first ? "\n  " : ",\n  ");
	json_init(&j, out, 0);
	json_string(&j, key);
	return buf_printf(out, ": %u", number);
}

int metadata_versions_end(struct buf *out)
{
	bool empty = out->len && out->data[out->len - 1] == '{';

	return buf_puts(out, empty ? "}\n" : "\n}\n");
}
