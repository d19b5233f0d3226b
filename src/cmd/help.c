/* mintfs help: all commands in one page, or the help of one. */
#include "cmd.h"

#include <stdio.h>
#include <string.h>

static void print_all(void)
{
	printf("usage: mintfs COMMAND [ARGUMENT ...]\n\nA drive for trained models: every version is numbered once, immutable once committed, and stored once.\n\n");
	for (const struct command *const *c = commands; *c; c++)
		printf("  %-9s %s\n", (*c)->name, (*c)->summary);
	printf("\n'mintfs help COMMAND' or 'mintfs COMMAND --help' tells more; so do mintfs(1) and mintfs-layout(7).\n");
}

static int run(const struct command *self, int argc, char **argv)
{
	struct cmd_args a;
	int code = cmd_parse(self, argc, argv, NULL, 0, 0, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	if (a.n == 0) {
		print_all();
		return cmd_done(self);
	}
	for (const struct command *const *c = commands; *c; c++)
		if (!strcmp((*c)->name, a.v[0])) {
			cmd_print_help(*c);
			return cmd_done(self);
		}
	return cmd_usage(self, "there is no command '%s'", a.v[0]);
}

const struct command cmd_help = {
	.name = "help",
	.args = "[COMMAND]",
	.summary = "this list, or the help of one command",
	.help = "Without COMMAND, lists the commands.\n"
		"\n"
		"Example:  mintfs help log\n",
	.run = run,
};
