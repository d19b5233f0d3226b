/* Reading the manifest of a bundle, an item at a time, out of a text that somebody else may have written.
 *
 * In an object that holds the next array ("models", "aliases" and "versions", "entries") the array is the last member: so all that is known of a model or a version
 * is known before its parts come, and nothing of them needs to be remembered. Members that are not known are passed over.
 *
 * The arrays of "lineage" stand anywhere before; of each only its place in the text is remembered, and it is read from there when the version has begun. */
#include <mintfs/manifest.h>

#include <errno.h>
#include <inttypes.h>
#include <mintfs/buf.h>
#include <mintfs/cleanup.h>
#include <mintfs/metadata.h>
#include <mintfs/util.h>
#include <string.h>

#include "scan.h"

#define RAW_MAX ((size_t)64 << 20)

enum kind { F_STRING, F_HEX, F_INT, F_ID /* uid_t, gid_t */, F_MODE, F_BOOL, F_TYPE, F_MINMAX, F_HOW, F_OBJECT, F_ARRAY /* a struct span */, F_RAW_OBJECT, F_RAW_ARRAY, F_RAW };
struct field { const char *name; enum kind kind; size_t at; };
struct span { size_t start, end; }; /* of a value in the text; 0, 0: there is none */

enum { LINEAGE_INPUTS, LINEAGE_UNKNOWN, LINEAGE_EVALUATIONS, LINEAGE_ARRAYS };
struct version { struct manifest_version v; struct span lineage, arrays[LINEAGE_ARRAYS]; };

struct head { char *format; int64_t version; };

#define AT(type, member) offsetof(struct type, member)
static const struct field head_fields[] = {{"format", F_STRING, AT(head, format)}, {"format_version", F_INT, AT(head, version)}, {NULL, F_RAW, 0}};
static const struct field model_fields[] = {{"model", F_STRING, AT(manifest_model, path)}, {"mode", F_MODE, AT(manifest_model, mode)},
	{"uid", F_ID, AT(manifest_model, uid)}, {"gid", F_ID, AT(manifest_model, gid)}, {"last_number", F_INT, AT(manifest_model, last_number)}, {NULL, F_RAW, 0}};
static const struct field best_fields[] = {{"metric", F_STRING, AT(manifest_model, best_metric)}, {"mode", F_MINMAX, AT(manifest_model, best_mode)},
	{"named", F_BOOL, AT(manifest_model, best_named)}, {NULL, F_RAW, 0}};
static const struct field alias_fields[] = {{"alias", F_STRING, AT(manifest_alias, name)}, {"number", F_INT, AT(manifest_alias, number)},
	{"set_ns", F_INT, AT(manifest_alias, set_ns)}, {NULL, F_RAW, 0}};
static const struct field lineage_fields[] = {{"inputs", F_ARRAY, offsetof(struct version, arrays[LINEAGE_INPUTS])},
	{"unknown", F_ARRAY, offsetof(struct version, arrays[LINEAGE_UNKNOWN])}, {"evaluations", F_ARRAY, offsetof(struct version, arrays[LINEAGE_EVALUATIONS])}, {NULL, F_RAW, 0}};
static const struct field input_fields[] = {{"model", F_STRING, AT(manifest_input, model)}, {"number", F_INT, AT(manifest_input, number)},
	{"digest", F_STRING, AT(manifest_input, digest)}, {"how", F_HOW, AT(manifest_input, how)}, {NULL, F_RAW, 0}};
static const struct field unknown_fields[] = {{"text", F_STRING, AT(manifest_unknown, text)}, {"reason", F_STRING, AT(manifest_unknown, reason)}, {NULL, F_RAW, 0}};
static const struct field evaluation_fields[] = {{"model", F_STRING, AT(manifest_evaluation, model)}, {"number", F_INT, AT(manifest_evaluation, number)},
	{"digest", F_STRING, AT(manifest_evaluation, digest)}, {"at_ns", F_INT, AT(manifest_evaluation, at_ns)}, {"author", F_STRING, AT(manifest_evaluation, author)},
	{"metrics", F_RAW_OBJECT, AT(manifest_evaluation, metrics)}, {NULL, F_RAW, 0}};
static const struct field version_fields[] = {{"number", F_INT, AT(manifest_version, number)}, {"minted_ns", F_INT, AT(manifest_version, minted_ns)},
	{"committed_ns", F_INT, AT(manifest_version, committed_ns)}, {"mtime_ns", F_INT, AT(manifest_version, mtime_ns)},
	{"mode", F_MODE, AT(manifest_version, mode)}, {"uid", F_ID, AT(manifest_version, uid)}, {"gid", F_ID, AT(manifest_version, gid)},
	{"author", F_STRING, AT(manifest_version, author)}, {"message", F_STRING, AT(manifest_version, message)},
	{"metrics", F_RAW_OBJECT, AT(manifest_version, metrics)}, {"lineage", F_OBJECT, AT(version, lineage)}, {NULL, F_RAW, 0}};
static const struct field run_fields[] = {{"id", F_STRING, AT(manifest_run, key)}, {"process", F_STRING, AT(manifest_run, process)},
	{"user", F_STRING, AT(manifest_run, user)}, {"host", F_STRING, AT(manifest_run, host)}, {"command", F_RAW_ARRAY, AT(manifest_run, command)},
	{"cwd", F_STRING, AT(manifest_run, cwd)}, {"git_commit", F_STRING, AT(manifest_run, git_commit)}, {"git_dirty", F_INT, AT(manifest_run, git_dirty)},
	{"started_ns", F_INT, AT(manifest_run, started_ns)}, {"ended_ns", F_INT, AT(manifest_run, ended_ns)},
	{"exit_status", F_INT, AT(manifest_run, exit_status)}, {NULL, F_RAW, 0}};
static const struct field entry_fields[] = {{"path", F_STRING, AT(manifest_entry, path)}, {"path_hex", F_HEX, AT(manifest_entry, path)},
	{"type", F_TYPE, AT(manifest_entry, type)}, {"size", F_INT, AT(manifest_entry, size)}, {"sha256", F_STRING, AT(manifest_entry, sha256)},
	{"target", F_STRING, AT(manifest_entry, target)}, {"target_hex", F_HEX, AT(manifest_entry, target)}, {"same_as", F_INT, AT(manifest_entry, same_as)},
	{"mode", F_MODE, AT(manifest_entry, mode)}, {"uid", F_ID, AT(manifest_entry, uid)}, {"gid", F_ID, AT(manifest_entry, gid)},
	{"mtime_ns", F_INT, AT(manifest_entry, mtime_ns)}, {NULL, F_RAW, 0}};

enum state { AT_START, AT_MODELS, AT_ALIASES, AT_VERSIONS, AT_LINEAGE, AT_ENTRIES, AT_END };

struct manifest_reader {
	const char *text;
	size_t len;
	struct scan s;
	enum state state;
	struct manifest_model model;
	struct manifest_alias alias;
	struct version version;
	struct scan lineage; /* in one of its arrays … */
	int array;           /* … this one; -1: in none yet */
	struct manifest_input input;
	struct manifest_unknown unknown;
	struct manifest_evaluation evaluation;
	struct manifest_entry entry;
};

/* ---- memory ---- */

static void release(const struct field *fields, void *values)
{
	for (const struct field *f = fields; f->name; f++)
		if (f->kind == F_STRING || f->kind == F_HEX || f->kind >= F_RAW_OBJECT) {
			char **p = (char **)((char *)values + f->at);
			free(*p);
			*p = NULL;
		}
}

static void reset_model(struct manifest_model *m)
{
	release(model_fields, m);
	release(best_fields, m);
	*m = (struct manifest_model){.mode = 0755};
}

static void reset_alias(struct manifest_alias *a)
{
	release(alias_fields, a);
	*a = (struct manifest_alias){0};
}

static void reset_version(struct version *v)
{
	release(version_fields, v);
	release(run_fields, &v->v.run);
	*v = (struct version){.v = {.mode = 0555, .run = {.git_dirty = -1, .exit_status = -1}}};
}

static void reset_lineage(struct manifest_reader *r)
{
	release(input_fields, &r->input);
	release(unknown_fields, &r->unknown);
	release(evaluation_fields, &r->evaluation);
	r->input = (struct manifest_input){0};
	r->unknown = (struct manifest_unknown){0};
	r->evaluation = (struct manifest_evaluation){0};
}

static void reset_entry(struct manifest_entry *e)
{
	release(entry_fields, e);
	*e = (struct manifest_entry){.same_as = -1};
}

int manifest_reader_new(const char *text, size_t len, struct manifest_reader **ret)
{
	struct manifest_reader *r = calloc(1, sizeof *r);

	if (!r)
		return -ENOMEM;
	r->text = text;
	r->len = len;
	manifest_rewind(r);
	*ret = r;
	return 0;
}

void manifest_rewind(struct manifest_reader *r)
{
	reset_model(&r->model);
	reset_alias(&r->alias);
	reset_version(&r->version);
	reset_lineage(r);
	reset_entry(&r->entry);
	scan_init(&r->s, r->text, 0, r->len);
	r->state = AT_START;
}

void manifest_reader_free(struct manifest_reader *r)
{
	if (!r)
		return;
	manifest_rewind(r);
	free(r);
}

const struct manifest_model *manifest_model(const struct manifest_reader *r) { return &r->model; }
const struct manifest_alias *manifest_alias(const struct manifest_reader *r) { return &r->alias; }
const struct manifest_version *manifest_version(const struct manifest_reader *r) { return &r->version.v; }
const struct manifest_input *manifest_input(const struct manifest_reader *r) { return &r->input; }
const struct manifest_unknown *manifest_unknown(const struct manifest_reader *r) { return &r->unknown; }
const struct manifest_evaluation *manifest_evaluation(const struct manifest_reader *r) { return &r->evaluation; }
const struct manifest_entry *manifest_entry(const struct manifest_reader *r) { return &r->entry; }

/* ---- values ---- */

static int fault_scan(struct fault *f, const struct scan *s)
{
	char words[SCAN_PROBLEM_MAX];

	scan_problem(s, words);
	return fault_set(f, EINVAL, "manifest.json: %s at byte %zu", words, s->pos);
}

static int fault_value(struct fault *f, const struct field *field, const struct scan_token *t)
{
	return fault_set(f, EINVAL, "manifest.json: '%s' is not what it should be at byte %zu", field->name, t->start);
}

static int next(struct manifest_reader *r, struct scan_token *t, struct fault *f)
{
	return scan_next(&r->s, t) < 0 ? fault_scan(f, &r->s) : 0;
}

/* Whole numbers of 64 bits: a double would lose the nanoseconds. */
static int take_int(const char *text, const struct scan_token *t, int64_t *ret)
{
	size_t at = t->start;
	bool minus = t->kind == SCAN_NUMBER && text[at] == '-';
	uint64_t value = 0;

	if (t->kind != SCAN_NUMBER)
		return -EINVAL;
	for (at += minus; at < t->end; at++) {
		if (text[at] < '0' || text[at] > '9' || value > (uint64_t)INT64_MAX / 10)
			return -EINVAL;
		value = value * 10 + (uint64_t)(text[at] - '0');
		if (value > (uint64_t)INT64_MAX)
			return -EINVAL;
	}
	*ret = minus ? -(int64_t)value : (int64_t)value;
	return 0;
}

/* Takes the place of what was there; the last of several members with one name counts. */
static void put_string(char **p, char *value)
{
	free(*p);
	*p = value;
}

static int take_string(const char *text, const struct scan_token *t, bool hex, char **ret)
{
	auto_free char *value = NULL;
	int error = t->kind == SCAN_STRING ? scan_string(text, t, &value) : -EINVAL;

	if (error)
		return error;
	if (hex) {
		size_t n = strlen(value) / 2;
		auto_free char *bytes = malloc(n + 1);
		if (!bytes)
			return -ENOMEM;
		bytes[n] = '\0';
		if (hex_decode(value, n, (uint8_t *)bytes) < 0 || strlen(bytes) < n)
			return -EINVAL;
		put_string(ret, take_ptr(bytes));
	} else {
		put_string(ret, take_ptr(value));
	}
	return 0;
}

static int take_mode(const char *text, const struct scan_token *t, mode_t *ret)
{
	mode_t mode = 0;

	if (t->kind != SCAN_STRING || t->end - t->start < 3 || t->end - t->start > 7)
		return -EINVAL;
	for (size_t i = t->start + 1; i + 1 < t->end; i++) {
		if (text[i] < '0' || text[i] > '7')
			return -EINVAL;
		mode = mode * 8 + (mode_t)(text[i] - '0');
	}
	*ret = mode & 07777;
	return 0;
}

static int take_type(const char *text, const struct scan_token *t, enum manifest_type *ret)
{
	if (t->kind != SCAN_STRING)
		return -EINVAL;
	*ret = scan_is(text, t, "file") ? MANIFEST_FILE : scan_is(text, t, "directory") ? MANIFEST_DIRECTORY : scan_is(text, t, "symlink") ? MANIFEST_SYMLINK : 0;
	return *ret ? 0 : -EINVAL;
}

static int take_how(const char *text, const struct scan_token *t, enum manifest_how *ret)
{
	if (t->kind != SCAN_STRING)
		return -EINVAL;
	*ret = scan_is(text, t, "observed") ? MANIFEST_OBSERVED : scan_is(text, t, "declared") ? MANIFEST_DECLARED : scan_is(text, t, "both") ? MANIFEST_BOTH : 0;
	return *ret ? 0 : -EINVAL;
}

static int take_span(const struct scan_token *t, enum scan_kind kind, struct span *ret)
{
	*ret = (struct span){t->start, t->end};
	return t->kind == kind ? 0 : -EINVAL;
}

static int take_raw(const char *text, const struct scan_token *t, char **ret)
{
	auto_buf struct buf out = BUF_INIT(RAW_MAX);
	int error = scan_compact(text, t->start, t->end, SIZE_MAX, &out);

	if (error)
		return error;
	char *value = buf_take(&out);
	if (!value)
		return -ENOMEM;
	put_string(ret, value);
	return 0;
}

static int take_value(const char *text, const struct field *field, const struct scan_token *t, void *to)
{
	int64_t n;

	if (t->kind == SCAN_NULL)
		return 0; /* not known */
	switch (field->kind) {
	case F_STRING:
	case F_HEX: return take_string(text, t, field->kind == F_HEX, to);
	case F_INT: return take_int(text, t, to);
	case F_ID:
		if (take_int(text, t, &n) < 0 || n < 0 || n >= UINT32_MAX)
			return -EINVAL;
		*(uid_t *)to = (uid_t)n;
		return 0;
	case F_MODE: return take_mode(text, t, to);
	case F_BOOL:
		*(bool *)to = t->kind == SCAN_TRUE;
		return t->kind == SCAN_TRUE || t->kind == SCAN_FALSE ? 0 : -EINVAL;
	case F_TYPE: return take_type(text, t, to);
	case F_MINMAX:
		*(int64_t *)to = t->kind != SCAN_STRING ? METADATA_BEST_UNKNOWN : scan_is(text, t, "max") ? METADATA_BEST_MAX :
			scan_is(text, t, "min") ? METADATA_BEST_MIN : METADATA_BEST_UNKNOWN;
		return *(int64_t *)to == METADATA_BEST_UNKNOWN ? -EINVAL : 0;
	case F_HOW: return take_how(text, t, to);
	case F_OBJECT: return take_span(t, SCAN_OBJECT, to);
	case F_ARRAY: return take_span(t, SCAN_ARRAY, to);
	case F_RAW_OBJECT: return t->kind == SCAN_OBJECT ? take_raw(text, t, to) : -EINVAL;
	case F_RAW_ARRAY: return t->kind == SCAN_ARRAY ? take_raw(text, t, to) : -EINVAL;
	case F_RAW: return take_raw(text, t, to);
	}
	return -EINVAL;
}

static int take_member(const char *text, const struct field *fields, void *values, const struct scan_token *key, const struct scan_token *value, struct fault *f)
{
	for (const struct field *field = fields; field->name; field++) {
		if (!scan_is(text, key, field->name))
			continue;
		int error = take_value(text, field, value, (char *)values + field->at);
		return error == -EINVAL ? fault_value(f, field, value) : error ? fault_set(f, -error, "manifest.json: %s", strerror(-error)) : 0;
	}
	return 0;
}

/* ---- objects ---- */

/* An object within one, whose text is known to be JSON: its members by themselves. */
static int read_inner(const char *text, const struct scan_token *object, const struct field *fields, void *values, struct fault *f)
{
	struct scan s;
	struct scan_token key, value;

	scan_init(&s, text, object->start, object->end);
	if (scan_next(&s, &key) < 0 || key.kind != SCAN_OBJECT)
		return fault_scan(f, &s);
	for (;;) {
		if (scan_next(&s, &key) < 0)
			return fault_scan(f, &s);
		if (key.kind == SCAN_OBJECT_END)
			return 0;
		if (scan_next(&s, &value) < 0 || scan_skip(&s, &value) < 0)
			return fault_scan(f, &s);
		int error = take_member(text, fields, values, &key, &value, f);
		if (error)
			return error;
	}
}

struct inner { const char *name; const struct field *fields; void *values; bool *seen; };

/* The members of the object that was just begun, up to its array `last` (which is entered), or where last is NULL up to its end. */
static int read_members(struct manifest_reader *r, const struct field *fields, void *values, const struct inner *inner, const char *last, struct fault *f)
{
	struct scan_token key, value;

	for (;;) {
		int error = next(r, &key, f);
		if (error)
			return error;
		if (key.kind == SCAN_OBJECT_END)
			return last ? fault_set(f, EINVAL, "manifest.json: '%s' is missing before byte %zu", last, key.end) : 0;
		if ((error = next(r, &value, f)))
			return error;
		if (last && value.kind == SCAN_ARRAY && scan_is(r->text, &key, last))
			return 0;
		if (scan_skip(&r->s, &value) < 0)
			return fault_scan(f, &r->s);
		if (inner && value.kind == SCAN_OBJECT && scan_is(r->text, &key, inner->name)) {
			if (inner->seen)
				*inner->seen = true;
			error = read_inner(r->text, &value, inner->fields, inner->values, f);
		} else {
			error = take_member(r->text, fields, values, &key, &value, f);
		}
		if (error)
			return error;
	}
}

static int fault_missing(size_t before, const char *what, struct fault *f)
{
	return fault_set(f, EINVAL, "manifest.json: '%s' is missing before byte %zu", what, before);
}

/* After an array: the object around it must end there. */
static int leave_object(struct manifest_reader *r, const char *last, struct fault *f)
{
	struct scan_token t;
	int error = next(r, &t, f);

	if (error)
		return error;
	return t.kind == SCAN_OBJECT_END ? 0 : fault_set(f, EINVAL, "manifest.json: '%s' is not the last member at byte %zu", last, t.start);
}

/* The next element of an array of objects: 1 it was begun, 0 the array is over. */
static int next_object(struct manifest_reader *r, const char *array, struct fault *f)
{
	struct scan_token t;
	int error = next(r, &t, f);

	if (error)
		return error;
	if (t.kind == SCAN_ARRAY_END)
		return 0;
	return t.kind == SCAN_OBJECT ? 1 : fault_set(f, EINVAL, "manifest.json: '%s' holds something else than objects at byte %zu", array, t.start);
}

static int read_head(struct manifest_reader *r, struct fault *f)
{
	struct head head = {0};
	struct scan_token t;
	int error = next(r, &t, f);

	if (!error && t.kind != SCAN_OBJECT)
		error = fault_set(f, EINVAL, "manifest.json: is no JSON object");
	if (!error)
		error = read_members(r, head_fields, &head, NULL, "models", f);
	if (!error && (!head.format || strcmp(head.format, "mintfs-bundle") != 0))
		error = fault_set(f, EINVAL, "manifest.json: is not that of a bundle of MintFS");
	else if (!error && head.version > MANIFEST_FORMAT)
		error = fault_set(f, EPROTONOSUPPORT, "manifest.json: has format %" PRId64 ", made by a newer MintFS; this one knows up to %d: upgrade MintFS",
			head.version, MANIFEST_FORMAT);
	else if (!error && head.version < 1)
		error = fault_set(f, EINVAL, "manifest.json: tells no format_version");
	release(head_fields, &head);
	return error;
}

static int read_model(struct manifest_reader *r, struct fault *f)
{
	struct inner best = {"best", best_fields, &r->model, NULL};

	reset_model(&r->model);
	int error = read_members(r, model_fields, &r->model, &best, "aliases", f);
	return !error && !r->model.path ? fault_missing(r->s.pos, "model", f) : error;
}

static int read_alias(struct manifest_reader *r, struct fault *f)
{
	reset_alias(&r->alias);
	int error = read_members(r, alias_fields, &r->alias, NULL, NULL, f);
	return !error && !r->alias.name ? fault_missing(r->s.pos, "alias", f) : error;
}

static int read_version(struct manifest_reader *r, struct fault *f)
{
	struct version *v = &r->version;
	struct inner run = {"run", run_fields, &v->v.run, &v->v.has_run};

	reset_version(v);
	r->array = -1;
	int error = read_members(r, version_fields, v, &run, "entries", f);
	if (error || !v->lineage.end)
		return error;
	const struct scan_token lineage = {SCAN_OBJECT, v->lineage.start, v->lineage.end};
	return read_inner(r->text, &lineage, lineage_fields, v, f);
}

static int read_input(struct manifest_reader *r, const struct scan_token *object, struct fault *f)
{
	struct manifest_input *i = &r->input;
	int error = read_inner(r->text, object, input_fields, i, f);

	return error || (i->model && i->how) ? error : fault_missing(object->end, i->model ? "how" : "model", f);
}

static int read_unknown(struct manifest_reader *r, const struct scan_token *object, struct fault *f)
{
	int error = read_inner(r->text, object, unknown_fields, &r->unknown, f);

	return error || r->unknown.text ? error : fault_missing(object->end, "text", f);
}

static int read_evaluation(struct manifest_reader *r, const struct scan_token *object, struct fault *f)
{
	struct manifest_evaluation *e = &r->evaluation;
	int error = read_inner(r->text, object, evaluation_fields, e, f);

	return error || (e->model && e->metrics) ? error : fault_missing(object->end, e->model ? "metrics" : "model", f);
}

/* The next element of the arrays of "lineage", one array after the other: 1 it was read, 0 there is no more. */
static int next_lineage(struct manifest_reader *r, enum manifest_item *ret, struct fault *f)
{
	static const struct {
		const char *name;
		int (*read)(struct manifest_reader *r, const struct scan_token *object, struct fault *f);
		enum manifest_item item;
	} arrays[LINEAGE_ARRAYS] = {{"inputs", read_input, MANIFEST_INPUT}, {"unknown", read_unknown, MANIFEST_UNKNOWN}, {"evaluations", read_evaluation, MANIFEST_EVALUATION}};
	struct scan_token t = {.kind = SCAN_ARRAY_END};

	reset_lineage(r);
	for (;;) {
		if (r->array >= 0 && (scan_next(&r->lineage, &t) < 0 || scan_skip(&r->lineage, &t) < 0))
			return fault_scan(f, &r->lineage);
		if (t.kind != SCAN_ARRAY_END)
			break;
		do
			r->array++;
		while (r->array < LINEAGE_ARRAYS && !r->version.arrays[r->array].end);
		if (r->array == LINEAGE_ARRAYS)
			return 0;
		scan_init(&r->lineage, r->text, r->version.arrays[r->array].start, r->version.arrays[r->array].end);
		if (scan_next(&r->lineage, &t) < 0) /* its bracket */
			return fault_scan(f, &r->lineage);
	}
	if (t.kind != SCAN_OBJECT)
		return fault_set(f, EINVAL, "manifest.json: '%s' holds something else than objects at byte %zu", arrays[r->array].name, t.start);
	*ret = arrays[r->array].item;
	int error = arrays[r->array].read(r, &t, f);
	return error ? error : 1;
}

static int read_entry(struct manifest_reader *r, struct fault *f)
{
	struct manifest_entry *e = &r->entry;

	reset_entry(e);
	int error = read_members(r, entry_fields, e, NULL, NULL, f);
	if (!error && (!e->path || !e->type))
		error = fault_missing(r->s.pos, e->path ? "type" : "path", f);
	if (!error && e->type == MANIFEST_FILE && !e->sha256)
		error = fault_missing(r->s.pos, "sha256", f);
	if (!error && e->type == MANIFEST_SYMLINK && !e->target)
		error = fault_missing(r->s.pos, "target", f);
	return error;
}

/* The arrays of a model: "aliases" is followed by "versions", with nothing in between. */
static int enter_versions(struct manifest_reader *r, struct fault *f)
{
	struct scan_token key, value;
	int error = next(r, &key, f);

	if (!error && (key.kind != SCAN_KEY || !scan_is(r->text, &key, "versions")))
		error = fault_set(f, EINVAL, "manifest.json: 'versions' does not follow 'aliases' at byte %zu", key.start);
	if (!error)
		error = next(r, &value, f);
	if (!error && value.kind != SCAN_ARRAY)
		error = fault_set(f, EINVAL, "manifest.json: 'versions' is no array at byte %zu", value.start);
	return error;
}

static int read_end(struct manifest_reader *r, struct fault *f)
{
	struct scan_token t;
	int error = leave_object(r, "models", f);

	return error ? error : next(r, &t, f);
}

/* 1: *ret is set; 0: the state has changed, look again. */
static int step(struct manifest_reader *r, enum manifest_item *ret, struct fault *f)
{
	static const struct array {
		const char *array;
		int (*read)(struct manifest_reader *r, struct fault *f);
		int (*leave)(struct manifest_reader *r, struct fault *f);
		enum manifest_item item;
		enum state within; /* after an item */
		enum state after;  /* after the array */
		enum manifest_item end; /* what its end is told as; MANIFEST_END: not at all */
	} arrays[] = {
		[AT_MODELS] = {"models", read_model, read_end, MANIFEST_MODEL, AT_ALIASES, AT_END, MANIFEST_END},
		[AT_ALIASES] = {"aliases", read_alias, enter_versions, MANIFEST_ALIAS, AT_ALIASES, AT_VERSIONS, MANIFEST_END},
		[AT_VERSIONS] = {"versions", read_version, NULL, MANIFEST_VERSION, AT_LINEAGE, AT_MODELS, MANIFEST_MODEL_END},
		[AT_ENTRIES] = {"entries", read_entry, NULL, MANIFEST_ENTRY, AT_ENTRIES, AT_VERSIONS, MANIFEST_VERSION_END},
	};
	if (r->state == AT_LINEAGE) {
		int got = next_lineage(r, ret, f);
		r->state = got == 0 ? AT_ENTRIES : AT_LINEAGE;
		return got;
	}
	const struct array *a = &arrays[r->state];
	int error = next_object(r, a->array, f);

	if (error < 0)
		return error;
	if (error > 0) {
		*ret = a->item;
		r->state = a->within;
		error = a->read(r, f); /* NOLINT(clang-analyzer-core.CallAndMessage): manifest_next calls with none but these four states */
		return error ? error : 1;
	}
	error = a->leave ? a->leave(r, f) : leave_object(r, a->array, f);
	*ret = a->end;
	r->state = a->after;
	return error ? error : *ret != MANIFEST_END;
}

int manifest_next(struct manifest_reader *r, enum manifest_item *ret, struct fault *f)
{
	if (r->state == AT_START) {
		int error = read_head(r, f);
		if (error)
			return error;
		r->state = AT_MODELS;
	}
	while (r->state != AT_END) {
		int got = step(r, ret, f);
		if (got)
			return got < 0 ? got : 0;
	}
	*ret = MANIFEST_END;
	return 0;
}
