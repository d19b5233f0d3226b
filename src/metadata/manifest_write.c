/* Writing the manifest of a bundle: JSON, one entry a line, so that people can read it and diff it.
 *
 * What is not UTF-8 among paths and targets is written in hex under a name of its own ("path_hex"): nothing is lost, and what stands there is JSON all the same. */
#include <mintfs/manifest.h>

#include <errno.h>
#include <mintfs/buf.h>
#include <mintfs/cleanup.h>
#include <mintfs/metadata.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>

#define PENDING_MAX ((size_t)64 << 20) /* one item: a message, a command line */
#define PENDING_ENOUGH 65536

enum place { IN_TOP, IN_MODELS, IN_ALIASES, IN_VERSIONS, IN_VERSION /* its members, before any array */, IN_INPUTS, IN_UNKNOWN, IN_EVALUATIONS, IN_ENTRIES };

struct manifest_writer {
	manifest_out_fn *fn;
	void *arg;
	struct buf pending;
	enum place place;
	bool filled[IN_ENTRIES + 1]; /* the array of that place has an item */
	int error;
};

int manifest_writer_new(manifest_out_fn *fn, void *arg, struct manifest_writer **ret)
{
	struct manifest_writer *w = calloc(1, sizeof *w);

	if (!w)
		return -ENOMEM;
	w->fn = fn;
	w->arg = arg;
	buf_init(&w->pending, PENDING_MAX);
	*ret = w;
	return 0;
}

void manifest_writer_free(struct manifest_writer *w)
{
	if (w)
		buf_release(&w->pending);
	free(w);
}

static int flush(struct manifest_writer *w, size_t enough)
{
	if (!w->error)
		w->error = w->pending.error;
	if (!w->error && w->pending.len > enough) {
		w->error = w->fn(w->pending.data, w->pending.len, w->arg);
		buf_truncate(&w->pending, 0);
	}
	return w->error;
}

static int64_t mode_number(mode_t mode) { return (int64_t)(mode & 07777); }

/* Octal, as people know modes. */
static void field_mode(struct json_out *j, mode_t mode)
{
	char text[8];

	snprintf(text, sizeof text, "%04o", (unsigned)mode_number(mode));
	json_field_string(j, "mode", text);
}

static void field_owner(struct json_out *j, mode_t mode, uid_t uid, gid_t gid)
{
	field_mode(j, mode);
	json_field_int(j, "uid", uid);
	json_field_int(j, "gid", gid);
}

static void field_known(struct json_out *j, const char *key, const char *value)
{
	if (value)
		json_field_string(j, key, value);
}

static void field_raw(struct json_out *j, const char *key, const char *json)
{
	auto_buf struct buf compact = BUF_INIT((size_t)METADATA_SIZE_MAX * 2);

	if (!json)
		return;
	json_key(j, key);
	json_raw(j, metadata_compact(json, strlen(json), &compact) == 0 ? buf_text(&compact) : json); /* what is none is refused by who takes it in */
}

static void field_bytes(struct json_out *j, struct manifest_writer *w, const char *key, const char *key_hex, const char *value)
{
	size_t len = strlen(value);

	if (utf8_valid(value, len)) {
		json_field_string(j, key, value);
		return;
	}
	auto_free char *hex = malloc(2 * len + 1);
	if (!hex) {
		w->error = -ENOMEM;
		return;
	}
	hex_encode((const uint8_t *)value, len, hex);
	json_field_string(j, key_hex, hex);
}

/* Ends the innermost array, and the object that it is the last member of; behind "aliases" comes "versions", behind what a version was made from "entries". */
static void leave(struct manifest_writer *w)
{
	if (w->place >= IN_VERSION && w->place < IN_ENTRIES) {
		buf_puts(&w->pending, w->place == IN_VERSION ? ",\"entries\":[" : "]},\"entries\":[");
		w->filled[IN_ENTRIES] = false;
		w->place = IN_ENTRIES;
	} else if (w->place == IN_ALIASES) {
		buf_puts(&w->pending, "],\"versions\":[");
		w->filled[IN_VERSIONS] = false;
		w->place = IN_VERSIONS;
	} else {
		buf_puts(&w->pending, "]}");
		w->place = w->place == IN_ENTRIES ? IN_VERSIONS : IN_MODELS;
	}
}

/* Begins an object in the array of that place. */
static void open_item(struct manifest_writer *w, enum place place, struct json_out *j)
{
	while (w->place != place && w->place > IN_MODELS)
		leave(w);
	if (w->place != place && !w->error)
		w->error = -EINVAL; /* out of order */
	buf_puts(&w->pending, w->filled[place] ? ",\n" : "\n");
	w->filled[place] = true;
	json_init(j, &w->pending, 0);
	json_object_begin(j);
}

/* The object that was begun goes on with an array, which is filled by what comes next. */
static void enter(struct manifest_writer *w, const char *key, enum place place)
{
	buf_printf(&w->pending, ",\"%s\":[", key);
	w->place = place;
	w->filled[place] = false;
}

int manifest_begin(struct manifest_writer *w, const char *program, const char *store, int64_t at_ns)
{
	char at[TIME_TEXT_MAX];
	struct json_out j;

	time_utc_text(at_ns, at);
	json_init(&j, &w->pending, 0);
	json_object_begin(&j);
	json_field_string(&j, "format", "mintfs-bundle");
	json_field_int(&j, "format_version", MANIFEST_FORMAT);
	json_field_string(&j, "made_by", program);
	field_known(&j, "store", store);
	json_field_string(&j, "made_at", at);
	enter(w, "models", IN_MODELS);
	return flush(w, PENDING_ENOUGH);
}

int manifest_add_model(struct manifest_writer *w, const struct manifest_model *m)
{
	struct json_out j;

	open_item(w, IN_MODELS, &j);
	json_field_string(&j, "model", m->path);
	field_owner(&j, m->mode, m->uid, m->gid);
	if (m->last_number)
		json_field_int(&j, "last_number", m->last_number);
	if (m->best_metric && *m->best_metric && m->best_mode != METADATA_BEST_UNKNOWN) {
		json_key(&j, "best");
		json_object_begin(&j);
		json_field_string(&j, "metric", m->best_metric);
		json_field_string(&j, "mode", m->best_mode == METADATA_BEST_MAX ? "max" : "min");
		json_field_bool(&j, "named", m->best_named);
		json_object_end(&j);
	}
	enter(w, "aliases", IN_ALIASES);
	return flush(w, PENDING_ENOUGH);
}

int manifest_add_alias(struct manifest_writer *w, const struct manifest_alias *a)
{
	char at[TIME_TEXT_MAX];
	struct json_out j;

	if (w->place != IN_ALIASES)
		return w->error = -EINVAL;
	time_utc_text(a->set_ns, at);
	open_item(w, IN_ALIASES, &j);
	json_field_string(&j, "alias", a->name);
	json_field_int(&j, "number", a->number);
	json_field_string(&j, "set_at", at);
	json_field_int(&j, "set_ns", a->set_ns);
	json_object_end(&j);
	return flush(w, PENDING_ENOUGH);
}

static void add_run(struct json_out *j, const struct manifest_run *run)
{
	json_key(j, "run");
	json_object_begin(j);
	field_known(j, "id", run->key);
	field_known(j, "process", run->process);
	field_known(j, "user", run->user);
	field_known(j, "host", run->host);
	field_raw(j, "command", run->command);
	field_known(j, "cwd", run->cwd);
	field_known(j, "git_commit", run->git_commit);
	json_field_int(j, "git_dirty", run->git_dirty);
	json_field_int(j, "started_ns", run->started_ns);
	json_field_int(j, "ended_ns", run->ended_ns);
	json_field_int(j, "exit_status", run->exit_status);
	json_object_end(j);
}

int manifest_add_version(struct manifest_writer *w, const struct manifest_version *v)
{
	char at[TIME_TEXT_MAX];
	struct json_out j;

	open_item(w, IN_VERSIONS, &j);
	json_field_int(&j, "number", v->number);
	time_utc_text(v->committed_ns, at);
	json_field_string(&j, "created_at", at);
	json_field_int(&j, "minted_ns", v->minted_ns);
	json_field_int(&j, "committed_ns", v->committed_ns);
	json_field_int(&j, "mtime_ns", v->mtime_ns);
	field_owner(&j, v->mode, v->uid, v->gid);
	field_known(&j, "author", v->author);
	field_known(&j, "message", v->message);
	field_raw(&j, "metrics", v->metrics);
	if (v->has_run)
		add_run(&j, &v->run);
	w->place = IN_VERSION;
	return flush(w, PENDING_ENOUGH);
}

/* Begins an object in an array of "lineage", which is made with the first. */
static void open_lineage(struct manifest_writer *w, const char *key, enum place place, struct json_out *j)
{
	if (w->place < IN_VERSION || w->place > place) {
		w->error = -EINVAL; /* out of order */
	} else if (w->place < place) {
		buf_puts(&w->pending, w->place == IN_VERSION ? ",\"lineage\":{" : "],");
		buf_printf(&w->pending, "\"%s\":[", key);
		w->place = place;
		w->filled[place] = false;
	}
	open_item(w, place, j);
}

static void field_version(struct json_out *j, const char *model, int64_t number, const char *digest)
{
	json_field_string(j, "model", model);
	json_field_int(j, "number", number);
	field_known(j, "digest", digest);
}

int manifest_add_input(struct manifest_writer *w, const struct manifest_input *i)
{
	struct json_out j;

	open_lineage(w, "inputs", IN_INPUTS, &j);
	field_version(&j, i->model, i->number, i->digest);
	json_field_string(&j, "how", i->how == MANIFEST_BOTH ? "both" : i->how == MANIFEST_DECLARED ? "declared" : "observed");
	json_object_end(&j);
	return flush(w, PENDING_ENOUGH);
}

int manifest_add_unknown(struct manifest_writer *w, const struct manifest_unknown *u)
{
	struct json_out j;

	open_lineage(w, "unknown", IN_UNKNOWN, &j);
	json_field_string(&j, "text", u->text);
	field_known(&j, "reason", u->reason);
	json_object_end(&j);
	return flush(w, PENDING_ENOUGH);
}

int manifest_add_evaluation(struct manifest_writer *w, const struct manifest_evaluation *e)
{
	char at[TIME_TEXT_MAX];
	struct json_out j;

	time_utc_text(e->at_ns, at);
	open_lineage(w, "evaluations", IN_EVALUATIONS, &j);
	field_version(&j, e->model, e->number, e->digest);
	json_field_string(&j, "at", at);
	json_field_int(&j, "at_ns", e->at_ns);
	field_known(&j, "author", e->author);
	field_raw(&j, "metrics", e->metrics);
	json_object_end(&j);
	return flush(w, PENDING_ENOUGH);
}

int manifest_add_entry(struct manifest_writer *w, const struct manifest_entry *e)
{
	struct json_out j;

	open_item(w, IN_ENTRIES, &j);
	field_bytes(&j, w, "path", "path_hex", e->path);
	json_field_string(&j, "type", e->type == MANIFEST_FILE ? "file" : e->type == MANIFEST_DIRECTORY ? "directory" : "symlink");
	if (e->type == MANIFEST_FILE) {
		json_field_int(&j, "size", e->size);
		json_field_string(&j, "sha256", e->sha256);
		if (e->same_as >= 0)
			json_field_int(&j, "same_as", e->same_as);
	}
	if (e->type == MANIFEST_SYMLINK)
		field_bytes(&j, w, "target", "target_hex", e->target);
	field_owner(&j, e->mode, e->uid, e->gid);
	json_field_int(&j, "mtime_ns", e->mtime_ns);
	json_object_end(&j);
	return flush(w, PENDING_ENOUGH);
}

int manifest_finish(struct manifest_writer *w)
{
	while (w->place > IN_MODELS)
		leave(w);
	buf_puts(&w->pending, "\n]}\n");
	w->place = IN_TOP;
	return flush(w, 0);
}
