/* mintfs init: makes a store. */
#include "cmd.h"
#include "table.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

static int run(const struct command *self, int argc, char **argv)
{
	struct cmd_args a;
	struct fault f = FAULT_INIT;
	char whole[PATH_MAX];
	int code = cmd_parse(self, argc, argv, NULL, 0, 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	if (registry_init(a.v[0], &f) < 0)
		return cmd_fail(self, &f);
	cmd_warn_of_owner(self, a.v[0]);
	const char *path = realpath(a.v[0], whole) ? whole : a.v[0];
	if (a.o.json) {
		auto_buf struct buf b = BUF_INIT(1 << 20);
		struct json_out j;
		json_init(&j, &b, 2);
		json_object_begin(&j);
		json_field_string(&j, "store", path);
		json_object_end(&j);
		return cmd_put_json(self, &b);
	}
	printf("made a store in ");
	text_print(path);
	printf("\nmount it: mintfs mount ");
	text_print(a.v[0]);
	printf(" DIR\n");
	return cmd_done(self);
}

const struct command cmd_init = {
	.name = "init",
	.args = "STORE",
	.summary = "make a store",
	.help = "Makes a store in the directory STORE: a catalog, a place for contents and one for drafts. The directory is made if it is missing, and must be\n"
		"empty otherwise; it becomes private (mode 0700). It should lie on a local file system; contents are linked into place, not copied.\n"
		"\n" HELP_JSON HELP_HELP "\n"
		"Example:  mintfs init /srv/models.store\n",
	.run = run,
};
