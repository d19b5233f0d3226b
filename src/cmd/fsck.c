/* mintfs fsck: is the store what it should be? */
#include "keep.h"
#include "progress.h"
#include "report.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static _Atomic bool go_on = true; /* cleared by a signal: what else could a handler reach? */

static void stop(int sig) { go_on = false; }

static void catch_signals(void)
{
	struct sigaction sa = {.sa_handler = stop, .sa_flags = SA_RESETHAND}; /* a second one ends it at once */
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

struct telling { struct json_out *j; struct buf *b; struct progress progress; bool color; };

static void json_finding(const struct telling *t, const struct registry_finding *x)
{
	char hex[BLOB_HEX_SIZE];
	if (x->blob)
		blob_id_hex(x->blob, hex);
	json_object_begin(t->j);
	json_field_string(t->j, "kind", x->kind);
	json_field_bool(t->j, "problem", x->problem);
	json_field_bool(t->j, "repaired", x->repaired);
	json_field_string(t->j, "text", x->text);
	json_field_string(t->j, "action", x->action);
	json_field_version(t->j, x->model[0] ? x->model : NULL, x->number);
	json_field_string(t->j, "name", x->name);
	json_field_string(t->j, "sha256", x->blob ? hex : NULL);
	json_object_end(t->j);
	json_stream(t->b);
}

static void tell_finding(const struct registry_finding *x, void *arg)
{
	struct telling *t = arg;
	if (t->j) {
		json_finding(t, x);
		return;
	}
	progress_end(&t->progress); /* the bar comes again below the line */
	enum style style = x->repaired ? STYLE_GREEN : x->problem ? STYLE_RED : STYLE_DIM;
	printf("%s%s%s: ", style_on(style, t->color), x->kind, style_off(style, t->color));
	if (x->model[0]) {
		text_print(x->model);
		printf(": ");
	}
	text_print(x->text);
	if (x->action) {
		printf("; ");
		text_print(x->action);
	}
	putchar('\n');
	fflush(stdout);
}

static void tell_progress(uint64_t done, uint64_t all, void *arg) { progress_tell(done, all, &((struct telling *)arg)->progress); }

static void json_sum(struct json_out *j, const struct registry_fsck_result *sum, bool complete)
{
	const struct { const char *name; uint64_t value; } counts[] = {{"problems", sum->problems}, {"repaired", sum->repaired}, {"notes", sum->notes}, {"models", sum->models},
		{"versions", sum->versions}, {"entries", sum->entries}, {"contents", sum->contents}, {"drafts", sum->drafts}, {"verified_bytes", sum->verified_bytes}};
	json_field_bool(j, "complete", complete);
	json_field_bool(j, "resumed", sum->resumed);
	for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
		json_field_int(j, counts[i].name, (int64_t)counts[i].value);
}

static void print_sum(const struct registry_fsck_result *sum, bool verify)
{
	char size[HUMAN_MAX];
	unsigned long long left = sum->problems - sum->repaired;
	printf("looked at %llu %s of %llu %s, ", (unsigned long long)sum->versions, plural(sum->versions, "version", "versions"), (unsigned long long)sum->models,
		plural(sum->models, "model", "models"));
	printf("%llu %s, %llu %s, %llu open %s", (unsigned long long)sum->entries, plural(sum->entries, "entry", "entries"), (unsigned long long)sum->contents,
		plural(sum->contents, "content", "contents"), (unsigned long long)sum->drafts, plural(sum->drafts, "draft", "drafts"));
	if (verify)
		printf("; hashed %s%s", human_size(sum->verified_bytes, size), sum->resumed ? ", from where the last run was interrupted" : "");
	if (sum->problems == 0)
		printf(": clean\n");
	else
		printf(": %llu %s, %llu repaired, %llu left\n", (unsigned long long)sum->problems, plural(sum->problems, "problem", "problems"), (unsigned long long)sum->repaired, left);
}

static int open_store(const struct cmd_target *t, bool repair, struct source **ret, struct fault *f)
{
	bool backup = registry_is_backup(t->store); /* opened for writing it would be a store of its own, and take no further backup */
	int rc = source_open(t, repair || !backup, ret, f);
	if (rc == -EROFS && !repair) { /* a read-only file system: there is less to lock, too */
		*f = (struct fault)FAULT_INIT;
		rc = source_open(t, false, ret, f);
	}
	return rc == 0 ? source_need_store(*ret, "what the store holds", f) : rc;
}

static int check(const struct command *self, const struct cmd_options *o, struct source *s, const struct registry_fsck *asked)
{
	struct registry_fsck_result sum = {0};
	struct fault f = FAULT_INIT;
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j;
	json_init(&j, &b, 2);
	struct telling t = {.j = o->json ? &j : NULL, .b = &b, .color = o->color};
	struct registry_fsck how = *asked;
	json_object_begin(&j);
	json_key(&j, "findings");
	json_array_begin(&j);
	progress_begin(&t.progress, "verify");
	how.finding = tell_finding;
	how.progress = tell_progress;
	how.arg = &t;
	int rc = registry_fsck(s->r, &how, &sum, &f);
	progress_end(&t.progress);
	json_array_end(&j);
	json_sum(&j, &sum, rc == 0);
	json_object_end(&j);
	if (!o->json)
		print_sum(&sum, how.verify);
	int code = o->json ? cmd_put_json(self, &b) : cmd_done(self);
	if (rc < 0)
		return cmd_fail(self, &f);
	return code == EXIT_DONE && sum.problems > sum.repaired ? EXIT_REFUSED : code;
}

static int run(const struct command *self, int argc, char **argv)
{
	struct registry_fsck how = {.go_on = &go_on};
	const char *rate = NULL;
	const struct cmd_flag flags[] = {{"verify", 0, &how.verify, NULL}, {"repair", 0, &how.repair, NULL}, {"rate", 0, NULL, &rate}, {"restart", 0, &how.restart, NULL}};
	struct cmd_args a;
	struct cmd_target t;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, flags, sizeof flags / sizeof flags[0], 0, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	if (rate && (parse_bytes(rate, &how.rate) < 0 || how.rate == 0))
		return cmd_usage(self, "--rate takes bytes a second, such as 50M or 1G, not '%s'", rate);
	if ((rate || how.restart) && !how.verify)
		return cmd_usage(self, "--rate and --restart go with --verify");
	auto_source struct source *s = NULL;
	catch_signals();
	if (cmd_find_store(a.v[0], &a.o, &t, &f) < 0 || open_store(&t, how.repair, &s, &f) < 0)
		return cmd_fail(self, &f);
	return check(self, &a.o, s, &how);
}

const struct command cmd_fsck = {
	.name = "fsck",
	.args = "[STORE|DIR] [--verify [--rate BYTES] [--restart]] [--repair]",
	.summary = "check the store, and mend what can be mended",
	.help = "Checks the catalog in itself, the rules that hold between its rows, the drafts, and whether every content that a committed version holds is there. It may run\n"
		"beside a mounted drive in use. Each finding is a line that begins with a word that stays the same (see mintfs(1)); damaged contents are named with every\n"
		"version that holds them. Exit status 0: clean, or all repaired; 1: problems are left.\n"
		"The argument is a store or a directory on a drive; default: the working directory, if it lies on a drive, else --store or MINTFS_STORE.\n"
		"Only for the owner of the store, and root.\n"
		"\n"
		"      --verify       hash every content; goes on where an interrupted run ended\n"
		"      --rate BYTES   read at most so many bytes a second: 50M, 1G\n"
		"      --restart      hash from the beginning\n"
		"      --repair       make anew what is derived, move what belongs nowhere to lost+found/ in the store, record what is lost: reads of it say EIO,\n"
		"                     and the next commit of the same content heals it; set the immutable flag of contents that lost it\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs fsck /srv/models.store --verify --rate 200M\n",
	.run = run,
};
