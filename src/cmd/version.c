/* mintfs version. */
#include "cmd.h"

#include <stdio.h>

static int run(const struct command *self, int argc, char **argv)
{
	struct cmd_args a;
	int code = cmd_parse(self, argc, argv, NULL, 0, 0, 0, &a);
	if (code != CMD_GO_ON)
		return code;
	if (a.o.json)
		printf("{\n  \"version\": \"%s\",\n  \"store_format\": %d\n}\n", MINTFS_VERSION, CATALOG_FORMAT);
	else
		printf("mintfs %s\n", MINTFS_VERSION);
	return cmd_done(self);
}

const struct command cmd_version = {
	.name = "version",
	.args = "",
	.summary = "say which version of MintFS this is",
	.help = "Prints the version of this program.\n"
		"\n" HELP_JSON HELP_HELP "\n"
		"Example:  mintfs version\n",
	.run = run,
};
