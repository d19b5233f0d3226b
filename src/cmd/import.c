/* mintfs import: a bundle, or an existing folder of models, into a store. */
#include "progress.h"
#include "report.h"

#include <mintfs/bundle.h>

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct telling {
	const struct command *self;
	struct progress progress;
	struct json_out *j; /* NULL: words */
	bool renumber;
};

/* ---- a bundle ---- */

static void json_version(struct json_out *j, const struct registry_imported *i)
{
	json_object_begin(j);
	json_field_string(j, "model", i->model);
	if (i->alias)
		json_field_string(j, "alias", i->alias);
	json_field_number(j, "version", i->number);
	json_field_number(j, "was", i->wanted);
	json_field_bool(j, "already", i->already);
	json_object_end(j);
}

static void tell_imported(const struct registry_imported *i, void *arg)
{
	struct telling *t = arg;
	if (t->j) {
		json_version(t->j, i);
		return;
	}
	if (i->kind == REGISTRY_IMPORTED_ALIAS) {
		if (i->already && i->number == i->wanted)
			return;
		text_print(i->model);
		printf(": %s ", i->alias);
		if (i->already && !t->renumber)
			printf("stays at v%u, though it leads to v%u in the bundle\n", i->number, i->wanted);
		else
			printf("%s v%u\n", i->already ? "stays at" : "leads to", i->number);
		return;
	}
	text_print(i->model);
	printf("/v%u", i->number);
	if (i->already)
		printf(" is here already\n");
	else if (i->number != i->wanted)
		printf(" imported, was v%u\n", i->wanted);
	else
		printf(" imported\n");
}

static int open_input(const char *path, struct fault *f)
{
	if (!path || !strcmp(path, "-")) {
		if (isatty(STDIN_FILENO))
			return fault_set(f, EINVAL, "there is no bundle on standard input, which is a terminal: name a file");
		return fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	}
	int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_NOCTTY, 0);
	struct stat st;
	if (fd < 0)
		return fault_set(f, -fd, "%s cannot be opened: %s", path, strerror(-fd));
	if (sys_fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		close(fd);
		return fault_set(f, EISDIR, "%s is a directory, and a bundle is a file", path);
	}
	return fd;
}

static int import_bundle(struct source *s, const char *path, bool renumber, struct telling *t, struct fault *f)
{
	auto_close int fd = open_input(path, f);
	if (fd < 0)
		return fd;
	struct bundle_import how = {.renumber = renumber, .imported = tell_imported, .arg = t, .watcher = {progress_tell, &t->progress}};
	struct registry_import_totals totals;
	progress_begin(&t->progress, "import");
	int rc = bundle_import(s->r, &s->me, &how, fd, &totals, f);
	progress_end(&t->progress);
	return rc;
}

/* ---- all of it ---- */

static int run(const struct command *self, int argc, char **argv)
{
	bool renumber = false;
	const struct cmd_flag flags[] = {{"renumber", 0, &renumber, NULL}};
	struct cmd_args a;
	struct cmd_target t;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, flags, 1, 0, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j;
	struct telling telling = {.self = self, .j = a.o.json ? &j : NULL, .renumber = renumber};
	json_init(&j, &b, 2);
	json_array_begin(&j);
	if (cmd_find_target(NULL, &a.o, &t, &f) < 0 || source_open(&t, true, &s, &f) < 0 || source_need_store(s, "what an import changes", &f) < 0 ||
	    import_bundle(s, a.v[0], renumber, &telling, &f) < 0)
		return cmd_fail(self, &f);
	json_array_end(&j);
	return a.o.json ? cmd_put_json(self, &b) : cmd_done(self);
}

const struct command cmd_import = {
	.name = "import",
	.args = "[FILE|-] [--renumber]",
	.summary = "take in versions from a bundle",
	.help = "Reads a bundle that 'mintfs export' made, from FILE or standard input, checks every byte against its manifest, and takes in its versions: all of\n"
		"them or none. They keep their numbers. A version that is here already with the same content stays as it is, so an import can be repeated; a number\n"
		"that is taken by something else is a refusal. An alias that leads elsewhere here stays. Owners are kept where root imports; else all is yours.\n"
		"\n"
		"      --renumber     give each version the next number of its model\n" HELP_STORE HELP_JSON HELP_HELP "\n"
		"Example:  mintfs import mlstm.tar --store /srv/models.store\n",
	.run = run,
};
