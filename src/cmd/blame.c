/* mintfs blame: which version, run, command and commit made a file.
 *
 * A version often takes files over from the one before. So the file's content is followed down the versions of its model: the lowest version, without a gap, that has the same content under
 * the same path is where it was made. */
#include "report.h"

#include <errno.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

struct blame {
	struct source *s;
	const struct source_ref *ref;
	struct catalog_file file; /* as it stands in the version asked for */
	struct catalog_version made; /* where it was made */
	struct catalog_version_text text;
	struct catalog_run run;
	bool has_run;
	struct catalog_conn *conn;
};

static int look_down(const struct catalog_version *v, const struct catalog_version_text *text, void *arg)
{
	struct blame *b = arg;
	struct catalog_file file;
	int rc = store_file(b->conn, v->id, b->ref->rest, &file);
	if (rc == -ENOENT || (rc == 0 && (file.type != CATALOG_FILE || !blob_id_equal(&file.blob, &b->file.blob))))
		return 1; /* another content: it was made above */
	if (rc == 0)
		b->made = *v;
	return rc;
}

static int trace(struct blame *b, struct fault *f)
{
	const struct source_ref *ref = b->ref;
	struct catalog_version_list below = {.model_id = ref->model_id, .after = ref->number, .descending = true,
		.states = 1u << CATALOG_COMMITTED | 1u << CATALOG_RETIRED};
	if (ref->state == CATALOG_DRAFT || ref->state == CATALOG_DISCARDED)
		return fault_set(f, EINVAL, "%s/v%u is %s: only the files of a committed version tell who made them", ref->model, ref->number, catalog_state_name(ref->state));
	int rc = store_file(b->conn, ref->version_id, ref->rest, &b->file);
	if (rc == -ENOENT)
		return fault_set(f, ENOENT, "%s/v%u has no file %s", ref->model, ref->number, ref->rest);
	if (rc == 0 && b->file.type != CATALOG_FILE)
		return fault_set(f, EINVAL, "%s in %s/v%u is no regular file", ref->rest, ref->model, ref->number);
	if (rc == 0)
		rc = catalog_version_get(b->conn, ref->version_id, &b->made);
	if (rc == 0)
		rc = catalog_version_list(b->conn, &below, look_down, b);
	if (rc >= 0)
		rc = catalog_version_text(b->conn, b->made.id, &b->text);
	if (rc == 0)
		b->has_run = catalog_run_get(b->conn, b->made.run_id, &b->run) == 0;
	return rc < 0 ? fault_set(f, -rc, "%s cannot be traced: %s", ref->rest, strerror(-rc)) : 0;
}

static void put_json(const struct blame *b, struct json_out *j)
{
	const struct catalog_run *run = &b->run;
	char hex[BLOB_HEX_SIZE];
	blob_id_hex(&b->file.blob, hex);
	json_object_begin(j);
	json_field_string(j, "model", b->ref->model);
	json_field_string(j, "path", b->ref->rest);
	json_field_number(j, "asked", b->ref->number);
	json_field_number(j, "version", b->made.number);
	json_field_string(j, "sha256", hex);
	json_field_int(j, "size", (int64_t)b->file.size);
	json_field_time(j, "created", version_time(&b->made));
	json_field_string(j, "author", b->text.author);
	json_field_string(j, "message", b->text.message);
	json_field_string(j, "run", b->has_run ? run->key : NULL);
	json_key(j, "command");
	json_recorded(j, b->has_run ? run->command : NULL, "null");
	json_field_string(j, "directory", b->has_run ? run->cwd : NULL);
	json_field_string(j, "host", b->has_run ? run->host : NULL);
	json_field_string(j, "git_commit", b->has_run ? run->git_commit : NULL);
	json_key(j, "git_dirty");
	b->has_run && run->git_dirty >= 0 ? json_bool(j, run->git_dirty) : json_null(j);
	json_object_end(j);
}

static int print(const struct blame *b, bool color)
{
	auto_table struct table t = TABLE_INIT;
	char text[CATALOG_PATH_MAX + 64];
	const struct catalog_run *run = &b->run;
	table_facts(&t);
	snprintf(text, sizeof text, "%s/v%u%s", b->ref->model, b->made.number, b->made.number != b->ref->number ? ", and taken over since" : "");
	table_fact(&t, "made in", text);
	table_fact_time(&t, "committed", version_time(&b->made));
	table_fact(&t, "author", b->text.author);
	table_fact_lines(&t, "message", b->text.message);
	if (b->has_run) {
		table_fact(&t, "run", run->key);
		fact_command(&t, run->command);
		table_fact(&t, "directory", run->cwd);
		snprintf(text, sizeof text, "%s%s", run->git_commit ? run->git_commit : "", run->git_commit && run->git_dirty == 1 ? ", with uncommitted changes" : "");
		table_fact(&t, "git", text);
		table_fact(&t, "host", run->host);
	}
	text_print(b->ref->rest);
	putchar('\n');
	return table_print(&t, 2, color);
}

static int run(const struct command *self, int argc, char **argv)
{
	struct cmd_args a;
	struct source_ref ref;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, NULL, 0, 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	auto_buf struct buf b = BUF_INIT(1u << 20);
	struct json_out j;
	if (source_find_ref(a.v[0], &a.o, false, "who made a file", &s, &ref, &f) < 0)
		return cmd_fail(self, &f);
	if (!ref.has_version || !ref.rest[0])
		return cmd_usage(self, "name a file of a version, such as product/P001_all/mlstm/production/model.pth");
	struct blame w = {.s = s, .ref = &ref};
	int rc = registry_read_begin(s->r, &w.conn);
	rc = rc < 0 ? fault_set(&f, -rc, "the catalog cannot be read: %s", strerror(-rc)) : trace(&w, &f);
	catalog_read_end(w.conn);
	json_init(&j, &b, 2);
	if (rc == 0 && a.o.json)
		put_json(&w, &j);
	else if (rc == 0 && (rc = print(&w, a.o.color)) < 0)
		fault_set(&f, -rc, "it cannot be shown: %s", strerror(-rc));
	catalog_version_text_release(&w.text);
	if (w.has_run)
		catalog_run_release(&w.run);
	if (rc < 0)
		return cmd_fail(self, &f);
	return a.o.json ? cmd_put_json(self, &b) : cmd_done(self);
}

const struct command cmd_blame = {
	.name = "blame",
	.args = "FILE",
	.summary = "tell which version, run and command made a file",
	.help = "FILE is a file of a committed version. Where a version took the file over unchanged from the one before, the version is told that first had it.\n"
		"\n" HELP_TARGET
		"\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs blame /mnt/models/product/P001_all/mlstm/production/model.pth\n",
	.run = run,
};
