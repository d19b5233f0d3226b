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
	bool renumber, dry_run;
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
		return fault_set(f, EISDIR, "%s is a directory: --tree takes in a folder of models", path);
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

/* ---- a folder ---- */

static void tell_note(const struct bundle_tree_note *n, void *arg)
{
	struct telling *t = arg;
	if (t->j) {
		json_object_begin(t->j);
		json_field_string(t->j, "path", n->path);
		json_field_string(t->j, "result", n->taken ? "imported" : n->already ? "already" : "skipped");
		json_field_string(t->j, "reason", n->reason);
		json_object_end(t->j);
		return;
	}
	progress_end(&t->progress); /* the bar comes again below the line */
	text_print(n->path);
	if (n->taken) {
		printf(t->dry_run ? " would be imported\n" : " imported\n");
	} else if (n->already) {
		printf(" is here already\n");
	} else {
		printf(" skipped: ");
		text_print(n->reason);
		putchar('\n');
	}
	if (t->progress.shown)
		fflush(stdout);
}

static int import_tree(struct source *s, struct bundle_tree *how, struct telling *t, struct fault *f)
{
	char size[HUMAN_MAX], shared[HUMAN_MAX];
	struct bundle_tree_totals totals;
	how->note = tell_note;
	how->arg = t;
	how->watcher = (struct bundle_watcher){isatty(STDERR_FILENO) ? progress_tell : NULL, &t->progress};
	t->dry_run = how->dry_run;
	progress_begin(&t->progress, "import");
	int rc = bundle_import_tree(s->r, &s->me, how, &totals, f);
	progress_end(&t->progress);
	if (rc < 0 || t->j)
		return rc;
	printf("%llu %s, %llu here already, %llu skipped; %s read", (unsigned long long)totals.taken, how->dry_run ? "to import" : "imported",
		(unsigned long long)totals.already, (unsigned long long)totals.skipped, human_size(totals.bytes, size));
	if (totals.shared)
		printf(", %s of it shared with the folder", human_size(totals.shared, shared));
	putchar('\n');
	return 0;
}

/* ---- all of it ---- */

static int run(const struct command *self, int argc, char **argv)
{
	bool renumber = false;
	struct bundle_tree tree = {0};
	const struct cmd_flag flags[] = {{"renumber", 0, &renumber, NULL}, {"tree", 0, NULL, &tree.dir}, {"database", 0, NULL, &tree.database},
		{"check-contents", 0, &tree.check_contents, NULL}, {"dry-run", 'n', &tree.dry_run, NULL}};
	struct cmd_args a;
	struct cmd_target t;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, flags, sizeof flags / sizeof flags[0], 0, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	if (tree.dir && (a.n || renumber))
		return cmd_usage(self, "a folder (--tree) is imported by itself, and with its numbers");
	if (!tree.dir && (tree.database || tree.check_contents || tree.dry_run))
		return cmd_usage(self, "--database, --check-contents and --dry-run belong to --tree");
	auto_source struct source *s = NULL;
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j = {0};
	struct telling telling = {.self = self, .j = a.o.json ? &j : NULL, .renumber = renumber};
	json_init(&j, &b, 2);
	json_array_begin(&j);
	if (source_find(NULL, &a.o, true, "what an import changes", &s, &t, &f) < 0)
		return cmd_fail(self, &f);
	int rc = tree.dir ? import_tree(s, &tree, &telling, &f) : import_bundle(s, a.v[0], renumber, &telling, &f);
	if (rc < 0)
		return fflush(stdout), cmd_fail(self, &f);
	json_array_end(&j);
	return a.o.json ? cmd_put_json(self, &b) : cmd_done(self);
}

const struct command cmd_import = {
	.name = "import",
	.args = "[FILE|-] [--renumber] | --tree DIR",
	.summary = "take in versions from a bundle or an existing folder",
	.help = "Reads a bundle that 'mintfs export' made, from FILE or standard input, checks every byte against its manifest, and takes in its versions: all of\n"
		"them or none. They keep their numbers. A version that is here already with the same content stays as it is, so an import can be repeated; a number\n"
		"that is taken by something else is a refusal. An alias that leads elsewhere here stays. Owners are kept where root imports; else all is yours.\n"
		"What a version was made from is found by its digest, whatever its number here; what is not here joins it when it comes.\n"
		"\n"
		"With --tree, takes in an existing folder of models: each version of DIR/product/P001_all/mlstm/v3/... with its number and its times, and from its database\n"
		"(a table model_versions) created_at and the metrics. Numbers in its versions.json are not used again. Links to versions become aliases where the name is\n"
		"free. What cannot be taken in is told and passed over. The folder is left as it is: its files are shared by reflink where its file system can, else\n"
		"copied. It can be repeated; a version that is here already is known by names, sizes and times.\n"
		"\n"
		"      --renumber     give each version the next number of its model\n"
		"      --tree DIR     an existing folder\n"
		"      --database FILE   its database, SQLite; default: one in DIR\n"
		"      --check-contents  compare what is here already by its contents, too\n"
		"  -n, --dry-run      tell what --tree would do\n" HELP_STORE HELP_JSON HELP_HELP "\n"
		"Example:  mintfs import mlstm.tar --store /srv/models.store\n"
		"          mintfs import --tree /data/saved_models --store /srv/models.store\n",
	.run = run,
};
