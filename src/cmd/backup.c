/* mintfs backup and mintfs restore: a store copied as a whole. */
#include "progress.h"
#include "report.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <stdio.h>
#include <stdlib.h>

static int tell(const struct command *self, const struct cmd_options *o, const struct registry_copy_totals *t, const char *dest, const char *what)
{
	char size[HUMAN_MAX];
	if (o->json) {
		auto_buf struct buf b = BUF_INIT(1 << 20);
		struct json_out j;
		json_init(&j, &b, 2);
		json_object_begin(&j);
		json_field_string(&j, "store", dest);
		json_field_int(&j, "contents", (int64_t)t->contents);
		json_field_int(&j, "copied", (int64_t)t->copied);
		json_field_int(&j, "size", (int64_t)t->bytes);
		json_field_int(&j, "removed", (int64_t)t->removed);
		json_object_end(&j);
		return cmd_put_json(self, &b);
	}
	printf("%s ", what);
	text_print(dest);
	printf(": %llu %s, %llu of them copied, %s", (unsigned long long)t->contents, plural(t->contents, "content", "contents"), (unsigned long long)t->copied,
		human_size(t->bytes, size));
	if (t->removed)
		printf("; %llu no longer needed, removed", (unsigned long long)t->removed);
	putchar('\n');
	return cmd_done(self);
}

/* ---- backup ---- */

static int run_backup(const struct command *self, int argc, char **argv)
{
	struct cmd_args a;
	struct cmd_target t;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, NULL, 0, 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	if (source_find(NULL, &a.o, false, "what a backup holds", &s, &t, &f) < 0)
		return cmd_fail(self, &f);
	struct progress p;
	progress_begin(&p, "backup");
	struct registry_copy how = {a.v[0], p.shown ? progress_tell : NULL, &p};
	struct registry_copy_totals totals;
	int rc = registry_backup(s->r, &how, &totals, &f);
	progress_end(&p);
	if (rc < 0)
		return cmd_fail(self, &f);
	cmd_warn_of_owner(self, a.v[0]);
	return tell(self, &a.o, &totals, a.v[0], "backup in");
}

const struct command cmd_backup = {
	.name = "backup",
	.args = "DEST",
	.summary = "copy a store in use, whole and consistent; again, only what is new",
	.help = "Makes a backup of the store in the directory DEST, or brings one that is there up to date: only contents that it does not have are copied. It is as the\n"
		"store was at one moment, whatever goes on meanwhile, and can be repeated after an interruption. Every content is compared with its SHA-256 as it is\n"
		"copied; by reflink where both lie on a file system that can. DEST is a store itself: look into it, or mount it read-only (-o ro). Once it was opened for\n"
		"writing it is no backup any more, and a later one is refused. Open drafts are not copied; their numbers are spent in the backup.\n"
		"\n" HELP_STORE HELP_JSON HELP_HELP "\n"
		"Example:  mintfs backup /backup/models.store --store /srv/models.store\n",
	.run = run_backup,
};

/* ---- restore ---- */

static int run_restore(const struct command *self, int argc, char **argv)
{
	struct cmd_args a;
	struct fault f = FAULT_INIT;
	struct registry *r = NULL;
	int code = cmd_parse(self, argc, argv, NULL, 0, 2, 2, &a);
	if (code != CMD_GO_ON)
		return code;
	struct registry_options o = {.path = a.v[0], .read_only = true};
	if (registry_open(&o, &r, &f) < 0)
		return cmd_fail(self, &f);
	struct progress p;
	progress_begin(&p, "restore");
	struct registry_copy how = {a.v[1], p.shown ? progress_tell : NULL, &p};
	struct registry_copy_totals totals;
	int rc = registry_restore(r, &how, &totals, &f);
	progress_end(&p);
	registry_close(r);
	if (rc < 0)
		return cmd_fail(self, &f);
	cmd_warn_of_owner(self, a.v[1]);
	return tell(self, &a.o, &totals, a.v[1], "restored");
}

const struct command cmd_restore = {
	.name = "restore",
	.args = "BACKUP DEST",
	.summary = "make a store from a backup",
	.help = "Makes a store in the directory DEST, which must be missing or empty, from a backup. Every content is compared with its SHA-256; where one is missing or\n"
		"damaged nothing is restored. A restore that was interrupted is gone on with by the same command; until it is done, DEST is no store.\n"
		"\n" HELP_JSON HELP_HELP "\n"
		"Example:  mintfs restore /backup/models.store /srv/models.store\n",
	.run = run_restore,
};
