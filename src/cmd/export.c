/* mintfs export: versions as a tar archive that explains itself. */
#include "progress.h"
#include "report.h"

#include <mintfs/bundle.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MINTFS_VERSION
#define MINTFS_VERSION "unknown"
#endif

static int resolve(struct source *s, const struct cmd_args *a, struct registry_ref *refs, struct fault *f)
{
	for (int i = 0; i < a->n; i++) {
		struct cmd_target t;
		int rc = cmd_find_target(a->v[i], &a->o, &t, f);
		if (rc == 0 && strcmp(t.store, s->store) != 0)
			rc = fault_set(f, EXDEV, "%s lies in another store than %s: export each by itself", a->v[i], a->v[0]);
		if (rc == 0)
			rc = registry_resolve(s->r, t.name, &refs[i], f);
		if (rc < 0)
			return rc;
		if (refs[i].rest[0])
			return fault_set(f, EINVAL, "%s is a file of a version: whole versions are exported", a->v[i]);
		if (refs[i].has_version && refs[i].version.state != CATALOG_COMMITTED)
			return fault_set(f, EINVAL, "v%u of %s is %s: only committed versions are exported", refs[i].version.number, refs[i].model.path,
				catalog_state_name(refs[i].version.state));
	}
	return 0;
}

/* A device or a pipe stays what it is and takes the bytes, as from tar and cat: a file in the place of /dev/null would be the end of many things. */
static int export_into(struct source *s, const struct bundle_export *what, const char *path, struct bundle_totals *ret, struct fault *f)
{
	auto_close int fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? fault_set(f, errno, "%s cannot be written: %s", path, strerror(errno)) : bundle_export(s->r, what, fd, ret, f);
}

/* A file beside the one it will be. It has no name while it is written, so nothing is left of an export that is ended, however; `name` is one where the file system
 * has no files without. */
struct beside {
	const char *path, *base; /* base: within path */
	int dirfd, fd;
	char name[NAME_MAX + 1];
};

static int beside_name(struct beside *b)
{
	uint32_t number;
	if (getrandom(&number, sizeof number, 0) != sizeof number)
		return -EIO;
	snprintf(b->name, sizeof b->name, "%.200s.%08x", b->base, number);
	return 0;
}

static int beside_open(struct beside *b)
{
	char dir[PATH_MAX] = ".";
	const char *slash = strrchr(b->path, '/');
	b->base = slash ? slash + 1 : b->path;
	if (slash && snprintf(dir, sizeof dir, "%.*s", slash == b->path ? 1 : (int)(slash - b->path), b->path) >= (int)sizeof dir)
		return -ENAMETOOLONG;
	b->dirfd = sys_openat(AT_FDCWD, dir, O_PATH | O_DIRECTORY, 0);
	if (b->dirfd < 0)
		return b->dirfd;
	b->fd = sys_openat(b->dirfd, ".", O_WRONLY | O_TMPFILE, 0600);
	if (b->fd != -EOPNOTSUPP && b->fd != -EISDIR && b->fd != -ENOENT)
		return b->fd < 0 ? b->fd : 0;
	int error = beside_name(b);
	if (error)
		return error;
	b->fd = sys_openat(b->dirfd, b->name, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (b->fd < 0)
		b->name[0] = '\0'; /* not ours */
	return b->fd < 0 ? b->fd : 0;
}

static int beside_give_name(struct beside *b)
{
	if (b->name[0])
		return 0;
	int error = beside_name(b);
	if (!error)
		error = sys_linkat_fd(b->fd, b->dirfd, b->name);
	if (error)
		b->name[0] = '\0';
	return error;
}

/* Whole and on the disk: it takes its place. */
static int beside_place(struct beside *b)
{
	mode_t mask = umask(0);
	umask(mask);
	int error = sys_fchmod(b->fd, 0666 & ~mask);
	if (!error)
		error = sys_fsync(b->fd);
	if (!error)
		error = beside_give_name(b);
	if (!error)
		error = sys_close(take_fd(&b->fd));
	if (!error)
		error = sys_renameat2(b->dirfd, b->name, b->dirfd, b->base, 0);
	if (error)
		return error;
	b->name[0] = '\0';
	auto_close int dir = sys_openat(b->dirfd, ".", O_RDONLY | O_DIRECTORY, 0);
	return dir < 0 ? 0 : sys_fsync(dir); /* who may write there may perhaps not read */
}

static void beside_release(struct beside *b)
{
	if (b->name[0])
		unlinkat(b->dirfd, b->name, 0);
	if (b->fd >= 0)
		close(b->fd);
	if (b->dirfd >= 0)
		close(b->dirfd);
}

static int export_to_file(struct source *s, const struct bundle_export *what, const char *path, struct bundle_totals *ret, struct fault *f)
{
	struct beside b = {.path = path, .dirfd = -1, .fd = -1};
	struct stat st;
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return export_into(s, what, path, ret, f);
	int rc = beside_open(&b);
	if (rc < 0) {
		fault_set(f, -rc, "%s cannot be made: %s", path, strerror(-rc));
	} else {
		rc = bundle_export(s->r, what, b.fd, ret, f);
		if (rc == 0 && (rc = beside_place(&b)) < 0)
			fault_set(f, -rc, "%s cannot be put in place: %s", path, strerror(-rc));
	}
	beside_release(&b);
	return rc;
}

static int tell(const struct command *self, const struct cmd_options *o, const struct bundle_totals *t, const char *path)
{
	char size[HUMAN_MAX];
	if (!path)
		return EXIT_DONE; /* standard output is the bundle */
	if (o->json) {
		auto_buf struct buf b = BUF_INIT(1 << 20);
		struct json_out j;
		json_init(&j, &b, 2);
		json_object_begin(&j);
		json_field_string(&j, "bundle", path);
		json_field_int(&j, "models", (int64_t)t->models);
		json_field_int(&j, "versions", (int64_t)t->versions);
		json_field_int(&j, "files", (int64_t)t->files);
		json_field_int(&j, "size", (int64_t)t->archive);
		json_object_end(&j);
		return cmd_put_json(self, &b);
	}
	printf("%llu %s with %llu %s, %s, in ", (unsigned long long)t->versions, plural(t->versions, "version", "versions"), (unsigned long long)t->files,
		plural(t->files, "file", "files"), human_size(t->archive, size));
	text_print(path);
	putchar('\n');
	return cmd_done(self);
}

static int run(const struct command *self, int argc, char **argv)
{
	bool all = false;
	const char *path = NULL;
	const struct cmd_flag flags[] = {{"all", 'a', &all, NULL}, {"output", 'o', NULL, &path}};
	struct cmd_args a;
	struct cmd_target t;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, flags, 2, 0, CMD_ARGS_MAX, &a);
	if (code != CMD_GO_ON)
		return code;
	if (all == (a.n > 0))
		return cmd_usage(self, all ? "--all takes no names" : "name a version or a model, or say --all");
	if (!path && a.o.json)
		return cmd_usage(self, "--json needs --output: standard output is the bundle");
	if (!path && isatty(STDOUT_FILENO))
		return cmd_usage(self, "a bundle is no text for a terminal: send it to a file (> bundle.tar), or say --output FILE");
	auto_source struct source *s = NULL;
	auto_free struct registry_ref *refs = calloc((size_t)a.n + 1, sizeof *refs);
	if (!refs)
		return fault_set(&f, ENOMEM, "not enough memory"), cmd_fail(self, &f);
	if (source_find(a.v[0], &a.o, false, "a bundle", &s, &t, &f) < 0 ||
	    resolve(s, &a, refs, &f) < 0)
		return cmd_fail(self, &f);
	struct progress p;
	progress_begin(&p, "export");
	struct bundle_export what = {.refs = refs, .n_refs = (size_t)a.n, .all = all, .program = "mintfs " MINTFS_VERSION, .watcher = {progress_tell, &p}};
	struct bundle_totals totals;
	int rc = path ? export_to_file(s, &what, path, &totals, &f) : bundle_export(s->r, &what, STDOUT_FILENO, &totals, &f);
	progress_end(&p);
	return rc < 0 ? cmd_fail(self, &f) : tell(self, &a.o, &totals, path);
}

const struct command cmd_export = {
	.name = "export",
	.args = "VERSION|MODEL ... [--all] [-o FILE]",
	.summary = "write versions as a tar archive that explains itself",
	.help = "Writes a bundle to standard output: a plain tar archive with the versions as people know them (saved_models/MODEL/vN/...), a README, and\n"
		"manifest.json with a SHA-256 for each file and what is known of each version: author, message, times, metrics, run; and the aliases. Of a MODEL\n"
		"all committed versions. Each content is stored once; further places of it are hard links in the archive.\n"
		"Every content is compared with its SHA-256 as it is read. If the command fails, what it wrote so far is torn, and no import takes it.\n"
		"\n" HELP_TARGET
		"\n"
		"  -a, --all          every model of the store\n"
		"  -o, --output FILE  to this file, which appears when it is whole; a device or a pipe is written to\n" HELP_STORE HELP_JSON HELP_HELP "\n"
		"Example:  mintfs export product/P001_all/mlstm --store /srv/models.store > mlstm.tar\n",
	.run = run,
};
