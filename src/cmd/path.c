/* mintfs path: where a model or a version is found on the drive, and which version a path means. */
#include "report.h"

#include <errno.h>
#include <limits.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Of MODEL/vN/FILE/X there is no X. */
static bool is_absent(int error) { return error == ENOENT || error == ENOTDIR; }

static int find_on_drive(struct source *s, const struct source_ref *ref, char out[PATH_MAX], struct fault *f)
{
	char label[CATALOG_PATH_MAX + 16];
	struct stat st;
	source_label(ref, label);
	if (!s->mount[0])
		return fault_set(f, ENOTCONN, "the store %s is not mounted here: --relative prints the path on any drive of it", s->store);
	int n = snprintf(out, PATH_MAX, "%s/%s%s%s", s->mount, label, ref->rest[0] ? "/" : "", ref->rest);
	if (n < 0 || n >= PATH_MAX)
		return fault_set(f, ENAMETOOLONG, "the path of %s is too long", label);
	int error = lstat(out, &st) < 0 ? errno : 0;
	if (is_absent(error))
		return fault_set(f, ENOENT, "%s does not exist", out);
	if (error)
		return fault_set(f, error, "cannot look at %s (%s)", out, strerror(error));
	return 0;
}

/* ---- which version a path means ---- */

struct resolved { char path[PATH_MAX], digest[BLOB_HEX_SIZE], sha256[BLOB_HEX_SIZE]; }; /* digest, sha256: "" where there is none */

static int no_file(const struct source_ref *ref, const char *label, int error, struct fault *f)
{
	return is_absent(error) ? fault_set(f, ENOENT, "%s has no file %s", label, ref->rest) : fault_set(f, error, "%s in %s cannot be looked at: %s", ref->rest, label, strerror(error));
}

static int ask_store(struct source *s, const struct source_ref *ref, const char *label, struct resolved *ret, struct fault *f)
{
	struct catalog_version v;
	struct catalog_file file = {.type = CATALOG_DIRECTORY};
	struct blob_id digest;
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(s->r, &conn);
	if (rc == 0)
		rc = catalog_version_get(conn, ref->version_id, &v);
	if (rc < 0)
		return fault_set(f, -rc, "the catalog cannot be read: %s", strerror(-rc));
	if (ref->rest[0] && (rc = store_file(conn, ref->version_id, ref->rest, &file)) < 0)
		return no_file(ref, label, -rc, f);
	if (file.type == CATALOG_FILE)
		blob_id_hex(&file.blob, ret->sha256);
	if (registry_version_digest(s->r, conn, &v, &digest) == 0)
		blob_id_hex(&digest, ret->digest);
	return 0;
}

/* A draft's tree, or the drive where the store is not open to us. */
static int ask_tree(struct source *s, const struct source_ref *ref, const char *label, struct resolved *ret, struct fault *f)
{
	char path[PATH_MAX];
	auto_close int fd = -1;
	struct stat st;
	int rc = source_tree(s, ref, path, sizeof path, &fd, f);
	if (rc < 0)
		return f->error ? rc : fault_set(f, -rc, "the files of %s cannot be looked at: %s", label, strerror(-rc));
	if (drive_attr(path, "digest", ret->digest, sizeof ret->digest) < 0)
		ret->digest[0] = '\0';
	if (!ref->rest[0])
		return 0;
	if (path_append(path, sizeof path, ref->rest) < 0)
		return no_file(ref, label, ENAMETOOLONG, f);
	if (lstat(path, &st) < 0)
		return no_file(ref, label, errno, f);
	if (!S_ISREG(st.st_mode) || drive_attr(path, "sha256", ret->sha256, sizeof ret->sha256) < 0)
		ret->sha256[0] = '\0';
	return 0;
}

static int resolve(struct source *s, const struct source_ref *ref, struct resolved *ret, struct fault *f)
{
	char label[CATALOG_PATH_MAX + 16];
	*ret = (struct resolved){0};
	source_label(ref, label);
	int n = snprintf(ret->path, sizeof ret->path, "%s%s%s", label, ref->rest[0] ? "/" : "", ref->rest);
	if (n < 0 || (size_t)n >= sizeof ret->path)
		return fault_set(f, ENAMETOOLONG, "the path in %s is too long", label);
	return s->r && ref->state != CATALOG_DRAFT ? ask_store(s, ref, label, ret, f) : ask_tree(s, ref, label, ret, f);
}

static int find_in_store(struct source *s, const struct source_ref *ref, char out[PATH_MAX], struct fault *f)
{
	struct resolved x = {0};
	char label[CATALOG_PATH_MAX + 16];
	source_label(ref, label);
	if (ref->has_version && ref->state == CATALOG_RETIRED)
		return fault_set(f, ENOENT, "%s was retired: it is on no drive", label);
	if (!ref->rest[0])
		return text_copy(out, PATH_MAX, label);
	int rc = resolve(s, ref, &x, f);
	return rc < 0 ? rc : text_copy(out, PATH_MAX, x.path);
}

static void json_hash(struct json_out *j, const char *key, const char *hex) { json_field_string(j, key, hex[0] ? hex : NULL); }

/* x: NULL where only the path was asked for. */
static int put_json(const struct command *self, const struct source_ref *ref, const char *path, const struct resolved *x)
{
	auto_buf struct buf b = BUF_INIT(1 << 20);
	struct json_out j;
	json_init(&j, &b, 2);
	json_object_begin(&j);
	json_field_version(&j, ref->model, ref->number);
	if (x)
		json_field_string(&j, "state", catalog_state_name(ref->state));
	json_field_string(&j, "path", path);
	if (x) {
		json_hash(&j, "digest", x->digest);
		json_hash(&j, "sha256", x->sha256);
	}
	json_object_end(&j);
	return cmd_put_json(self, &b);
}

static int run_resolve(const struct command *self, struct source *s, const struct source_ref *ref, bool json)
{
	struct resolved x;
	struct fault f = FAULT_INIT;
	if (!ref->has_version)
		return cmd_usage(self, "%s is a model: --resolve takes a version or a file of one", ref->model);
	if (resolve(s, ref, &x, &f) < 0)
		return cmd_fail(self, &f);
	if (json)
		return put_json(self, ref, x.path, &x);
	puts(x.path);
	return cmd_done(self);
}

static int run(const struct command *self, int argc, char **argv)
{
	bool relative = false, resolve_it = false;
	const struct cmd_flag flags[] = {{"relative", 0, &relative, NULL}, {"resolve", 0, &resolve_it, NULL}};
	struct cmd_args a;
	struct source_ref ref;
	struct fault f = FAULT_INIT;
	char path[PATH_MAX];
	int code = cmd_parse(self, argc, argv, flags, ARRAY_SIZE(flags), 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	if (relative && resolve_it)
		return cmd_usage(self, "--relative and --resolve exclude each other");
	auto_source struct source *s = NULL;
	if (source_find_ref(a.v[0], &a.o, false, NULL, &s, &ref, &f) < 0)
		return cmd_fail(self, &f);
	if (resolve_it)
		return run_resolve(self, s, &ref, a.o.json);
	if ((relative ? find_in_store(s, &ref, path, &f) : find_on_drive(s, &ref, path, &f)) < 0)
		return cmd_fail(self, &f);
	if (a.o.json)
		return put_json(self, &ref, path, NULL);
	puts(path); /* for $(…): the bytes as they are */
	return cmd_done(self);
}

const struct command cmd_path = {
	.name = "path",
	.args = "NAME [--relative|--resolve]",
	.summary = "print the path of a model or version on the drive",
	.help = "Prints an absolute path on the drive. Links are resolved: what is loaded from the path belongs to one version, whatever happens to the link meanwhile.\n"
		"\n" HELP_TARGET
		"\n"
		"      --relative     from the root of the drive; the drive need not be mounted\n"
		"      --resolve      MODEL/vN[/FILE] of a version or a file of one, whatever link leads there, so that a prediction can be traced back; with --json also\n"
		"                     the digest of the version and the SHA-256 of the file. The drive need not be mounted\n" HELP_STORE HELP_JSON HELP_HELP "\n"
		"Example:  python predict.py \"$(mintfs path product/P001_all/mlstm/production)/model.pth\"\n",
	.run = run,
};
