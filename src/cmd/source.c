/* Choosing where to read from, and what both ways have in common. */
#include "source.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#define METADATA_NAME "metadata.json"

static int explain(int rc, struct fault *f, const char *what, const char *name)
{
	return rc < 0 ? fault_default(f, -rc, "cannot %s%s: %s", what, name, strerror(-rc)) : 0;
}

int source_open(const struct cmd_target *t, bool write, struct source **ret, struct fault *f)
{
	struct source *s = calloc(1, sizeof *s);
	if (!s)
		return fault_set(f, ENOMEM, "not enough memory");
	s->me = (struct registry_actor){getpid(), geteuid(), getegid()};
	text_copy(s->store, sizeof s->store, t->store);
	if (!t->mount[0] || text_copy(s->mount, sizeof s->mount, t->mount) < 0)
		if (drive_find(t->store, s->mount, sizeof s->mount) < 0)
			s->mount[0] = '\0';
	struct registry_options o = {.path = t->store, .read_only = !write};
	int rc = registry_open(&o, &s->r, f);
	if (rc == -EACCES && s->mount[0]) {
		*f = (struct fault)FAULT_INIT;
		rc = 0;
	}
	if (rc < 0) {
		explain(rc, f, "open the store ", t->store);
		free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

void source_close(struct source *s)
{
	if (s)
		registry_close(s->r);
	free(s);
}

int source_need_store(const struct source *s, const char *what, struct fault *f)
{
	return s->r ? 0 : fault_set(f, EACCES, "%s cannot be read on the drive: it takes the store %s, which only its owner and root may open", what, s->store);
}

int source_find(const char *arg, const struct cmd_options *o, bool write, const char *store_for, struct source **ret, struct cmd_target *ret_target, struct fault *f)
{
	int rc = cmd_find_target(arg, o, ret_target, f);
	if (rc == 0)
		rc = source_open(ret_target, write, ret, f);
	return rc == 0 && store_for ? source_need_store(*ret, store_for, f) : rc;
}

int source_find_ref(const char *arg, const struct cmd_options *o, bool write, const char *store_for, struct source **ret, struct source_ref *ret_ref, struct fault *f)
{
	struct cmd_target t;
	int rc = source_find(arg, o, write, store_for, ret, &t, f);
	return rc < 0 ? rc : source_resolve(*ret, t.name, ret_ref, f);
}

int source_resolve(struct source *s, const char *text, struct source_ref *ret, struct fault *f)
{
	if (!*text)
		return fault_set(f, EINVAL, "that is the whole drive: name a model, such as product/P001_all/mlstm");
	int rc = s->r ? store_resolve(s, text, ret, f) : drive_resolve(s, text, ret, f);
	return explain(rc, f, "find ", text);
}

void source_label(const struct source_ref *ref, char out[CATALOG_PATH_MAX + 16])
{
	if (ref->has_version)
		snprintf(out, CATALOG_PATH_MAX + 16, "%s/v%u", ref->model, ref->number);
	else
		snprintf(out, CATALOG_PATH_MAX + 16, "%s", ref->model);
}

/* ---- links ---- */

int links_add(struct links *l, const struct link *link)
{
	if ((l->n & (l->n - 1)) == 0) { /* full at each power of two */
		struct link *v = realloc(l->v, (l->n ? 2 * l->n : 1) * sizeof *v);
		if (!v)
			return -ENOMEM;
		l->v = v;
	}
	l->v[l->n++] = *link;
	return 0;
}

void links_release(struct links *l)
{
	free(l->v);
	*l = (struct links){0};
}

static int link_rank(const struct link *l) { return !strcmp(l->name, "latest") ? 0 : !strcmp(l->name, "best") ? 1 : 2; }

static int compare_links(const void *a, const void *b)
{
	int by_rank = link_rank(a) - link_rank(b);
	return by_rank ? by_rank : strcmp(((const struct link *)a)->name, ((const struct link *)b)->name);
}

int source_links(struct source *s, const struct source_ref *model, struct links *ret, struct fault *f)
{
	struct links l = {0};
	int rc = s->r ? store_links(s, model, &l) : drive_links(s, model, &l);
	if (rc < 0) {
		links_release(&l);
		return explain(rc, f, "read the links of ", model->model);
	}
	if (l.n)
		qsort(l.v, l.n, sizeof *l.v, compare_links);
	*ret = l;
	return 0;
}

void links_of(const struct links *l, uint32_t number, struct buf *out)
{
	size_t before = out->len;
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].number == number) {
			buf_puts(out, out->len > before ? ", " : "");
			buf_puts(out, l->v[i].name);
		}
}

/* ---- versions, models, files ---- */

int source_versions(struct source *s, const struct source_ref *model, const struct source_query *q, source_version_fn *fn, void *arg, struct fault *f)
{
	int rc = s->r ? store_versions(s, model, q, fn, arg) : drive_versions(s, model, q, fn, arg);
	return explain(rc, f, "list the versions of ", model->model);
}

int source_version(struct source *s, const struct source_ref *version, source_version_fn *fn, void *arg, struct fault *f)
{
	int rc = s->r ? store_version(s, version, fn, arg) : drive_version(s, version, fn, arg);
	return explain(rc, f, "read that version of ", version->model);
}

int source_models(struct source *s, const char *prefix, source_model_fn *fn, void *arg, struct fault *f)
{
	int rc = s->r ? store_models(s, prefix, fn, arg) : drive_models(s, prefix, fn, arg);
	return explain(rc, f, "list the models of ", s->store);
}

int source_model(struct source *s, const struct source_ref *model, struct model_info *ret, struct fault *f)
{
	int rc = s->r ? store_model(s, model, ret) : drive_model(s, model, ret);
	return explain(rc, f, "read the model ", model->model);
}

int files_add(struct files *l, const struct file_info *file)
{
	if ((l->n & (l->n - 1)) == 0) {
		struct file_info *v = realloc(l->v, (l->n ? 2 * l->n : 1) * sizeof *v);
		if (!v)
			return -ENOMEM;
		l->v = v;
	}
	struct file_info copy = *file;
	copy.path = strdup(file->path);
	copy.target = file->target ? strdup(file->target) : NULL;
	l->v[l->n++] = copy;
	return copy.path && (copy.target || !file->target) ? 0 : -ENOMEM;
}

void files_release(struct files *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].path);
		free(l->v[i].target);
	}
	free(l->v);
	*l = (struct files){0};
}

static int compare_files(const void *a, const void *b) { return strcmp(((const struct file_info *)a)->path, ((const struct file_info *)b)->path); }

int source_files(struct source *s, const struct source_ref *version, struct files *ret, struct fault *f)
{
	auto_files struct files l = {0};
	int rc;
	if (s->r && version->state != CATALOG_DRAFT) {
		rc = store_files(s, version, &l);
	} else {
		char dir[PATH_MAX];
		auto_close int fd = -1;
		rc = source_tree(s, version, dir, sizeof dir, &fd, f);
		if (rc == 0)
			rc = tree_files(dir, version->state != CATALOG_DRAFT, &l);
	}
	if (rc < 0)
		return explain(rc, f, "read the files of ", version->model);
	if (l.n)
		qsort(l.v, l.n, sizeof *l.v, compare_files);
	*ret = l;
	l = (struct files){0};
	return 0;
}

static int committed_content(struct source *s, const struct source_ref *version, const char *path, int *ret_fd, struct fault *f)
{
	struct catalog_file file;
	struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(s->r, &conn);
	if (rc == 0)
		rc = store_file(conn, version->version_id, path, &file);
	catalog_read_end(conn);
	if (rc == 0 && file.type != CATALOG_FILE)
		rc = -EISDIR;
	return rc < 0 ? rc : registry_file_open(s->r, &file, ret_fd, f);
}

int source_content(struct source *s, const struct source_ref *version, const char *path, int *ret_fd, struct fault *f)
{
	if (s->r && version->state != CATALOG_DRAFT)
		return committed_content(s, version, path, ret_fd, f);
	char dir[PATH_MAX];
	auto_close int held = -1;
	int rc = source_tree(s, version, dir, sizeof dir, &held, f);
	if (rc < 0)
		return rc;
	auto_close int root = sys_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);
	if (root < 0)
		return root;
	int fd = sys_openat_beneath(root, path, O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

int source_tree(struct source *s, const struct source_ref *version, char *out, size_t size, int *ret_fd, struct fault *f)
{
	if (!s->r) {
		int n = snprintf(out, size, "%s/%s/v%u", s->mount, version->model, version->number);
		return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
	}
	struct draft *d;
	bool writable;
	int rc = registry_draft_get(s->r, version->version_id, &d, &writable);
	if (rc < 0)
		return fault_set(f, -rc, "the draft v%u of %s cannot be opened: %s", version->number, version->model, strerror(-rc));
	int fd = sys_reopen(draft_root(d), O_RDONLY | O_DIRECTORY);
	draft_put(d);
	if (fd < 0)
		return fd;
	snprintf(out, size, "/proc/self/fd/%d", fd);
	*ret_fd = fd;
	return 0;
}

char *metrics_of_tree(const char *dir)
{
	struct metadata m;
	auto_close int root = sys_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);
	auto_close int fd = root < 0 ? root : sys_openat_beneath(root, METADATA_NAME, O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0 || metadata_read(fd, &m, NULL) < 0)
		return NULL;
	char *metrics = take_ptr(m.metrics_summary);
	metadata_release(&m);
	return metrics;
}

/* ---- acting ---- */

static int reach(const char *mount, const struct catalog_mount *m, const struct source_ref *ref, char *out, size_t size, struct fault *f)
{
	char state[64];
	int n = snprintf(out, size, "%s/%s/v%u", mount, ref->model, ref->number);
	if (n < 0 || (size_t)n >= size)
		return fault_set(f, ENAMETOOLONG, "the path of v%u on the drive is too long", ref->number);
	int rc = drive_attr(out, "state", state, sizeof state);
	if (rc < 0 && m)
		return fault_set(f, -rc, "v%u of %s is served by the drive on %s (process %d on %s), which cannot be reached from here: %s", ref->number, ref->model,
			mount, (int)m->pid, m->host, strerror(-rc));
	return rc < 0 ? fault_set(f, -rc, "%s cannot be reached: %s", out, strerror(-rc)) : 0;
}

int source_serving(struct source *s, const struct source_ref *draft, char *out, size_t size, struct fault *f)
{
	struct catalog_version v;
	struct catalog_conn *conn = NULL;
	if (!s->r)
		return reach(s->mount, NULL, draft, out, size, f) < 0 ? -f->error : 0;
	auto_free struct catalog_mount *m = calloc(1, sizeof *m);
	int rc = m ? registry_read_begin(s->r, &conn) : -ENOMEM;
	if (rc == 0)
		rc = catalog_version_get(conn, draft->version_id, &v);
	catalog_read_end(conn);
	if (rc == 0)
		rc = registry_draft_mount(s->r, &v, m);
	if (rc == -ENOENT)
		return -ENOENT;
	if (rc < 0)
		return explain(rc, f, "find who serves the draft of ", draft->model);
	rc = reach(m->mountpoint, m, draft, out, size, f);
	return rc == -ENOENT ? -EXDEV : rc;
}

/* Of the model, for who may not write to the version: its owner and its group. *ret_dir becomes the model. */
static int ask_model(const char *whole, char *dir, const char *value)
{
	auto_free char *text = NULL;
	char *slash = strrchr(dir, '/');
	if (!slash || asprintf(&text, "%s %s", slash + 1, value) < 0) {
		text = NULL;
		return -ENOMEM;
	}
	*slash = '\0';
	return setxattr(dir, whole, text, strlen(text), 0) == 0 ? 0 : -errno;
}

int source_ask(const char *version, const char *name, const char *value, const char *label, struct fault *f)
{
	char whole[64], why[FAULT_TEXT_MAX], dir[PATH_MAX];
	snprintf(whole, sizeof whole, "user.mintfs.%s", name);
	if (setxattr(version, whole, value, strlen(value), 0) == 0)
		return 0;
	int error = errno;
	text_copy(dir, sizeof dir, version);
	if (error == EACCES || error == EPERM) {
		error = -ask_model(whole, dir, value);
		if (error == 0)
			return 0;
	}
	if (error == E2BIG) /* of the kernel; what the drive refuses has other reasons */
		return fault_set(f, error, "the message is too long: a drive takes up to 64 KiB");
	if (error != EACCES && drive_attr(dir, "error", why, sizeof why) == 0 && why[0]) /* EPERM: of the kernel, or what stands in the draft cannot be committed */
		return fault_set(f, error, "%s", why);
	if (error == EACCES || error == EPERM)
		return fault_set(f, error, "%s belongs to somebody else: you may not %s it", label, name);
	return fault_set(f, error, "the drive refuses to %s %s: %s", name, label, strerror(error));
}
