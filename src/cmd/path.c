/* mintfs path: where a model or a version is found on the drive. */
#include "report.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int find_path(struct source *s, const struct source_ref *ref, bool relative, char out[PATH_MAX], struct fault *f)
{
	char label[CATALOG_PATH_MAX + 16];
	struct stat st;
	source_label(ref, label);
	if (!relative && !s->mount[0])
		return fault_set(f, ENOTCONN, "the store %s is not mounted here: --relative prints the path on any drive of it", s->store);
	int n = snprintf(out, PATH_MAX, "%s%s%s%s%s", relative ? "" : s->mount, relative ? "" : "/", label, ref->rest[0] ? "/" : "", ref->rest);
	if (n < 0 || n >= PATH_MAX)
		return fault_set(f, ENAMETOOLONG, "the path of %s is too long", label);
	if (!relative && lstat(out, &st) < 0)
		return fault_set(f, errno, errno == ENOENT ? "%s does not exist" : "cannot look at %s (%s)", out, strerror(errno));
	return 0;
}

static int run(const struct command *self, int argc, char **argv)
{
	bool relative = false;
	const struct cmd_flag flags[] = {{"relative", 0, &relative, NULL}};
	struct cmd_args a;
	struct cmd_target t;
	struct source_ref ref;
	struct fault f = FAULT_INIT;
	char path[PATH_MAX];
	int code = cmd_parse(self, argc, argv, flags, 1, 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	if (cmd_find_target(a.v[0], &a.o, &t, &f) < 0 || source_open(&t, false, &s, &f) < 0 || source_resolve(s, t.name, &ref, &f) < 0 ||
	    find_path(s, &ref, relative, path, &f) < 0)
		return cmd_fail(self, &f);
	if (a.o.json) {
		auto_buf struct buf b = BUF_INIT(1 << 20);
		struct json_out j;
		json_init(&j, &b, 2);
		json_object_begin(&j);
		json_field_string(&j, "model", ref.model);
		json_field_number(&j, "version", ref.number);
		json_field_string(&j, "path", path);
		json_object_end(&j);
		return cmd_put_json(self, &b);
	}
	puts(path); /* for $(…): the bytes as they are */
	return cmd_done(self);
}

const struct command cmd_path = {
	.name = "path",
	.args = "NAME [--relative]",
	.summary = "print the path of a model or version on the drive",
	.help = "Prints an absolute path on the drive. Links are resolved: what is loaded from the path belongs to one version, whatever happens to the link meanwhile.\n"
		"\n" HELP_TARGET
		"\n"
		"      --relative     from the root of the drive; the drive need not be mounted\n" HELP_STORE HELP_JSON HELP_HELP "\n"
		"Example:  python predict.py \"$(mintfs path product/P001_all/mlstm/production)/model.pth\"\n",
	.run = run,
};
