/* mintfs uses: who reads a version, and who of them lives now. */
#include "report.h"

#include <errno.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>

struct listing { struct json_out *j; struct table t; size_t n; }; /* j NULL: a table */

static void put_pids(struct json_out *j, const struct registry_use *u)
{
	json_key(j, "pids");
	json_array_begin(j);
	for (unsigned i = 0; i < u->n_living && i < REGISTRY_USE_PIDS; i++)
		json_int(j, u->pids[i]);
	json_array_end(j);
}

static void put_json(struct json_out *j, const struct registry_use *u)
{
	const struct catalog_use *x = u->use;
	char user[64];
	caller_user_name(x->uid, user, sizeof user);
	json_object_begin(j);
	json_field_string(j, "user", x->command_id ? user : NULL);
	json_field_string(j, "host", x->host);
	json_key(j, "command");
	json_recorded(j, x->command, "null");
	json_field_bool(j, "command_complete", x->command_id && x->whole);
	json_field_int(j, "readers", x->readers);
	json_field_time(j, "first", x->first_ns);
	json_field_time(j, "last", x->last_ns);
	json_field_int(j, "times", x->times);
	json_field_bool(j, "now", u->n_living > 0);
	json_field_int(j, "processes", u->n_living);
	put_pids(j, u);
	json_object_end(j);
}

static void put_command(struct table *t, const struct catalog_use *x)
{
	auto_buf struct buf words = BUF_INIT(1u << 20);
	if (!x->command_id)
		table_cellf(t, STYLE_DIM, "%lld %s", (long long)x->readers, plural((uint64_t)x->readers, "other", "others"));
	else if (command_words(x->command, &words) < 0)
		table_cell(t, STYLE_DIM, "not known");
	else
		table_cellf(t, STYLE_PLAIN, "%s%s", buf_text(&words), x->whole ? "" : " ...");
}

static void put_row(struct table *t, const struct registry_use *u)
{
	const struct catalog_use *x = u->use;
	char user[64] = "", at[HUMAN_MAX];
	if (x->command_id)
		caller_user_name(x->uid, user, sizeof user);
	table_cell(t, STYLE_BOLD, user);
	table_cell(t, STYLE_PLAIN, x->host);
	table_cell(t, STYLE_DIM, human_time(x->first_ns, at));
	table_cell(t, STYLE_PLAIN, human_time(x->last_ns, at));
	table_cellf(t, STYLE_PLAIN, "%lld", (long long)x->times);
	if (u->n_living == 1)
		table_cellf(t, STYLE_GREEN, "pid %d", (int)u->pids[0]);
	else if (u->n_living)
		table_cellf(t, STYLE_GREEN, "%u processes", u->n_living);
	else
		table_cell(t, STYLE_PLAIN, "-");
	put_command(t, x);
}

static int give(const struct registry_use *u, void *arg)
{
	struct listing *l = arg;
	l->n++;
	if (l->j)
		put_json(l->j, u);
	else
		put_row(&l->t, u);
	return 0;
}

static int list(struct source *s, const struct source_ref *ref, struct listing *l, struct fault *f)
{
	struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(s->r, &conn);
	if (rc == 0)
		rc = registry_use_list(s->r, conn, ref->version_id, give, l);
	catalog_read_end(conn);
	return rc < 0 ? fault_set(f, -rc, "who uses %s/v%u cannot be told: %s", ref->model, ref->number, strerror(-rc)) : 0;
}

static int print(const struct source_ref *ref, struct listing *l, bool color, struct fault *f)
{
	int rc;
	if (l->n == 0) {
		fputs("nobody was seen to read ", stdout);
		text_print(ref->model);
		printf("/v%u\n", ref->number);
		return 0;
	}
	rc = table_print(&l->t, 0, color);
	return rc < 0 ? fault_set(f, -rc, "the table cannot be made: %s", strerror(-rc)) : 0;
}

static int run(const struct command *self, int argc, char **argv)
{
	static const struct { const char *title; bool right; } columns[] = {{"USER", false}, {"HOST", false}, {"FIRST", false}, {"LAST", false}, {"TIMES", true},
		{"NOW", false}, {"COMMAND", false}};
	struct cmd_args a;
	struct source_ref ref;
	struct fault f = FAULT_INIT;
	auto_buf struct buf b = BUF_INIT(1u << 20);
	struct json_out j;
	int code = cmd_parse(self, argc, argv, NULL, 0, 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	if (source_find_ref(a.v[0], &a.o, false, "who uses a version", &s, &ref, &f) < 0)
		return cmd_fail(self, &f);
	if (!ref.has_version)
		return cmd_usage(self, "%s is a model: name a version, such as %s/latest", ref.model, ref.model);
	json_init(&j, &b, 2);
	struct listing l = {.j = a.o.json ? &j : NULL, .t = TABLE_INIT};
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
		table_column(&l.t, columns[i].title, columns[i].right);
	if (l.j)
		json_array_begin(l.j);
	int rc = list(s, &ref, &l, &f);
	if (l.j)
		json_array_end(l.j);
	else if (rc == 0)
		rc = print(&ref, &l, a.o.color, &f);
	table_release(&l.t);
	if (rc < 0)
		return cmd_fail(self, &f);
	return l.j ? cmd_put_json(self, &b) : cmd_done(self);
}

const struct command cmd_uses = {
	.name = "uses",
	.args = "VERSION",
	.summary = "tell who reads a version, and who does now",
	.help = "Lists the programs that opened files of a committed version on a drive, as the drive saw them: user, host, first and last time, how many times, whether a process of\n"
		"it lives now, and the command; the last first. Openings of one process within half a second are one time. A process counts as long as it lives, though\n"
		"it may have closed the file or loaded another version since. Of a process that ended within a moment only the program's name may be known: it ends in ' ...'.\n"
		"The newest 64 readers of a version are kept apart, the others summed up. Who only lists directories does not read.\n"
		"\n" HELP_TARGET
		"\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs uses product/P001_all/mlstm/production\n",
	.run = run,
};
