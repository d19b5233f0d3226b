/* mintfs discard: a draft is given up. Like commit, through the drive that serves it. */
#include "keep.h"
#include "report.h"

static int run(const struct command *self, int argc, char **argv)
{
	bool force = false;
	const struct cmd_flag flags[] = {{"force", 'f', &force, NULL}};
	struct cmd_args a;
	struct cmd_target t;
	struct source_ref ref;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, flags, 1, 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	if (source_find(a.v[0], &a.o, true, NULL, &s, &t, &f) < 0 || pick_draft(s, a.v[0], t.name, false, &ref, &f) < 0 ||
	    source_discard(s, &ref, force, &f) < 0)
		return cmd_fail(self, &f);
	return cmd_tell_end(self, &a.o, &ref, CATALOG_DISCARDED, "discarded; the number is not used again");
}

const struct command cmd_discard = {
	.name = "discard",
	.args = "VERSION [--force]",
	.summary = "give up a draft",
	.help = "Removes a draft and all its files. Its number is never used again. Refused while files of it are open. A committed version cannot be discarded.\n"
		"\n" HELP_TARGET
		"A draft is given up by who made it, by the owner of the model, and by its group if that may write there.\n"
		"\n"
		"  -f, --force        also while files are open; whoever has them open goes on, into nothing\n" HELP_STORE HELP_JSON HELP_HELP "\n"
		"Example:  mintfs discard /mnt/models/product/P001_all/mlstm/v3\n",
	.run = run,
};
