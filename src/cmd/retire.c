/* mintfs retire: a committed version goes out of use. */
#include "keep.h"
#include "report.h"

static int run(const struct command *self, int argc, char **argv)
{
	bool force = false;
	const char *message = NULL;
	const struct cmd_flag flags[] = {{"force", 'f', &force, NULL}, {"message", 'm', NULL, &message}};
	struct cmd_args a;
	struct source_ref ref;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, flags, 2, 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	if (source_find_ref(a.v[0], &a.o, true, NULL, &s, &ref, &f) < 0)
		return cmd_fail(self, &f);
	if (!ref.has_version || ref.rest[0])
		return cmd_usage(self, "a version is retired, such as %s/v3, not %s", ref.model, ref.rest[0] ? "a file of it" : "a whole model");
	bool was = ref.state == CATALOG_RETIRED;
	if (!was && source_retire(s, &ref, force, message, &f) < 0)
		return cmd_fail(self, &f);
	return cmd_tell_end(self, &a.o, &ref, CATALOG_RETIRED,
		was ? "is retired already" : "retired; the number is not used again, from an hour on 'mintfs gc' frees what only it held");
}

const struct command cmd_retire = {
	.name = "retire",
	.args = "VERSION [--force] [-m MESSAGE]",
	.summary = "take a committed version out of use",
	.help = "The version is not to be found on the drive any more, and latest and best lead elsewhere. Its row, its metrics and the list of its files stay in\n"
		"the catalog; its number is never used again. What it alone held is freed by 'mintfs gc'. There is no way back.\n"
		"Refused while an alias leads to it or a process (mintfs process show) is bound to it, or runs with it, when other versions were made from it (mintfs lineage --down), or\n"
		"while a program has a file of it open or mapped, or has read it and lives (mintfs uses): a training opens its data anew at each epoch. Who asks does not count, nor do the\n"
		"shells of terminals; reads of programs that have ended count a day long for those that started them and live.\n"
		"\n" HELP_TARGET
		"For who made the version, and for the owner and the group of the model's directory, if they may write there.\n"
		"\n"
		"  -f, --force        also if others were made from it, a process is bound to it or runs with it, or a program has read it; drop the aliases that lead to\n"
		"                     it; who has files open goes on reading them\n"
		"  -m, --message TEXT why, to be remembered\n" HELP_STORE HELP_JSON HELP_HELP "\n"
		"Example:  mintfs retire /mnt/models/product/P001_all/mlstm/v1 -m 'trained on wrong prices'\n",
	.run = run,
};
