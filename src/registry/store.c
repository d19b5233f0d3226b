/* A store that is open: how its rooms begin and end, and what all rules ask of it. */
#include "registry.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CONFIG_MAX (1u << 20)

static int read_line(const char *path, char *out, size_t size)
{
	auto_free char *text = NULL;
	size_t len;
	int rc = sys_read_file(AT_FDCWD, path, 4096, &text, &len);
	if (rc < 0)
		return rc;
	text[strcspn(text, "\n")] = '\0';
	return text_copy(out, size, text);
}

static int open_directory(struct registry *r, const char *path, struct fault *f)
{
	r->dirfd = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	struct stat st;
	if (r->dirfd == -ENOENT)
		return refuse(f, VERDICT_NOT_FOUND, "there is no store at %s: make one with 'mintfs init %s'", path, path);
	if (r->dirfd == -ENOTDIR) {
		refuse(f, VERDICT_NOT_A_STORE, "%s is not a directory, so it is no MintFS store", path);
		return -ENOTDIR;
	}
	if (r->dirfd == -EACCES && stat(path, &st) == 0) {
		char owner[64];
		caller_user_name(st.st_uid, owner, sizeof owner);
		return refuse(f, VERDICT_DENIED, "the store %s belongs to %s: only its owner and root may open it", path, owner);
	}
	if (r->dirfd < 0)
		return refuse_system(f, r->dirfd, "cannot open the store %s", path);
	int rc = sys_fstat(r->dirfd, &st);
	if (rc < 0)
		return refuse_system(f, rc, "cannot look at the store %s", path);
	r->owner = st.st_uid;
	r->path = realpath(path, NULL);
	return r->path ? 0 : refuse_system(f, -errno, "cannot resolve %s", path);
}

static int refuse_config(const struct registry *r, int error, struct fault *f)
{
	struct stat st;
	if (error == -EFBIG)
		return refuse(f, VERDICT_DAMAGED, "%s/config.json is larger than %u bytes", r->path, CONFIG_MAX);
	if (sys_fstatat(r->dirfd, "config.json", &st, 0) == 0 && !S_ISREG(st.st_mode))
		return refuse(f, VERDICT_DAMAGED, "%s/config.json is %s: it must be a file", r->path, sys_kind_of(st.st_mode));
	return refuse_system(f, error, "cannot read %s/config.json", r->path);
}

static int read_config(struct registry *r, struct fault *f)
{
	auto_free char *text = NULL;
	size_t len;
	struct metadata_config config;
	int rc = sys_read_file(r->dirfd, "config.json", CONFIG_MAX, &text, &len);
	if (rc == -ENOENT) {
		refuse(f, VERDICT_NOT_A_STORE, "%s is no MintFS store: it has no config.json", r->path);
		return -ENOENT;
	}
	if (rc < 0)
		return refuse_config(r, rc, f);
	struct fault why = FAULT_INIT;
	rc = metadata_config_parse(text, len, &config, &why);
	if (rc == -ENOMEM)
		return refuse_system(f, rc, "cannot read %s/config.json", r->path);
	if (rc < 0)
		return refuse(f, VERDICT_NOT_A_STORE, "%s/config.json cannot be understood: %s", r->path, why.text);
	if (config.format > CATALOG_FORMAT)
		return refuse(f, VERDICT_NEWER_STORE, "the store %s has format %d, made by a newer MintFS; this one knows up to %d: upgrade MintFS",
			r->path, config.format, CATALOG_FORMAT);
	return 0;
}

static void quiet(int64_t id, void *arg)
{
	struct registry *r = arg;
	if (r->live)
		live_quiet(r->live, id);
}

static int open_rooms(struct registry *r, struct fault *f)
{
	int rc = catalog_open(r->dirfd, r->read_only, r->log, &r->catalog, f);
	if (rc == -EPROTONOSUPPORT && f)
		f->verdict = VERDICT_NEWER_STORE;
	if (rc < 0)
		return refuse_system(f, rc, "cannot open the catalog of %s", r->path);
	if ((rc = blob_store_open_local(r->dirfd, !r->read_only, r->log, &r->blobs, f)) < 0)
		return refuse_system(f, rc, "cannot open the blobs of %s", r->path);
	if ((rc = drafts_open(r->dirfd, !r->read_only, r->log, quiet, r, &r->drafts, f)) < 0)
		return refuse_system(f, rc, "cannot open the drafts of %s", r->path);
	if ((rc = workq_new(&(struct workq_options){.name = "mintfs-jobs", .threads = JOBS_THREADS, .each = JOBS_EACH}, &r->jobs)) < 0 ||
	    (rc = workq_new(&(struct workq_options){.name = "mintfs-tidy", .threads = 1}, &r->tidying)) < 0 ||
	    (rc = observer_new(&r->observer)) < 0 || (rc = live_table_new(r, &r->live)) < 0)
		return refuse_system(f, rc, "cannot open the store %s", r->path);
	return 0;
}

int registry_check(const char *path, char *ret_path, struct fault *f)
{
	struct registry r = {.dirfd = -1};
	int rc = open_directory(&r, path, f);
	if (rc == 0)
		rc = read_config(&r, f);
	if (rc == 0)
		rc = text_copy(ret_path, PATH_MAX, r.path);
	if (r.dirfd >= 0)
		close(r.dirfd);
	free(r.path);
	return rc;
}

int registry_open(const struct registry_options *o, struct registry **ret, struct fault *f)
{
	struct registry *r = calloc(1, sizeof *r);
	if (!r)
		return refuse_system(f, -ENOMEM, "cannot open the store %s", o->path);
	r->dirfd = r->mount_fd = -1;
	r->read_only = o->read_only;
	r->serve = o->serve;
	r->log = o->log;
	r->keep = o->keep;
	settle_own_forget(r);
	r->daemon_pid = o->daemon_pid ? o->daemon_pid : getpid();
	r->slice = SLICE;
	r->on_event = o->on_event;
	r->event_arg = o->event_arg;
	if (gethostname(r->host, sizeof r->host - 1) < 0)
		text_copy(r->host, sizeof r->host, "localhost");
	if (read_line("/proc/sys/kernel/random/boot_id", r->boot_id, sizeof r->boot_id) < 0)
		text_copy(r->boot_id, sizeof r->boot_id, "unknown");
	r->callers = caller_cache_new();
	r->mountpoint = o->mountpoint ? strdup(o->mountpoint) : NULL;
	int rc = r->callers && (r->mountpoint || !o->mountpoint) ? open_directory(r, o->path, f) : -ENOMEM;
	if (rc == 0)
		rc = read_config(r, f);
	if (rc == 0)
		rc = open_rooms(r, f);
	if (rc == 0 && o->serve && !o->read_only)
		r->resumed = mount_resume(r);
	if (rc == 0 && r->resumed)
		live_pause(r->live);
	if (rc == 0 && o->serve && !o->read_only && !r->resumed)
		rc = mount_announce(r, o->mountpoint, f);
	if (rc == 0 && o->serve && !o->read_only && (rc = readers_new(r, &r->readers)) < 0)
		refuse_system(f, rc, "cannot open the store %s", o->path);
	if (rc < 0) {
		if (f && !f->error)
			refuse_system(f, rc, "cannot open the store %s", o->path);
		registry_close(r);
		return rc;
	}
	if (o->serve && !o->read_only)
		recover(r);
	*ret = r;
	return 0;
}

void registry_begin(struct registry *r)
{
	live_resume(r->live);
}

void registry_close_soon(struct registry *r)
{
	int64_t never = 0;
	atomic_compare_exchange_strong(&r->ending_ns, &never, time_monotonic_ns());
}

void registry_close(struct registry *r)
{
	if (!r)
		return;
	registry_close_soon(r);
	if (r->live)
		live_table_stop(r->live);
	observer_stop(r->observer);
	workq_free(r->jobs);
	workq_free(r->tidying); /* after them: they give it work */
	observer_free(r->observer);
	readers_free(r->readers);
	r->readers = NULL;
	if (r->live)
		live_table_free(r->live);
	r->live = NULL;
	if (r->mount_id && r->catalog)
		mount_withdraw(r);
	drafts_close(r->drafts);
	blob_store_close(r->blobs);
	catalog_close(r->catalog);
	if (r->mount_fd >= 0)
		mount_unlock(r);
	if (r->dirfd >= 0)
		close(r->dirfd);
	caller_cache_free(r->callers);
	free(r->mountpoint);
	free(r->path);
	free(r);
}

const char *registry_path(const struct registry *r) { return r->path; }
bool registry_read_only(const struct registry *r) { return r->read_only; }
int registry_store_dirfd(const struct registry *r) { return r->dirfd; }
int registry_read_begin(struct registry *r, struct catalog_conn **ret) { return catalog_read_begin(r->catalog, ret); }

void registry_explain(struct registry *r, int error, struct fault *f)
{
	struct fault why = FAULT_INIT;
	if (catalog_write_refusal(r->catalog, &why) < 0 && why.error == -error)
		*f = why;
}

void registry_settle(struct registry *r)
{
	live_settle_wait(r->live);
	workq_drain(r->tidying);
}

void registry_emit(struct registry *r, int kind, int64_t model_id, int64_t version_id, uint32_t number)
{
	struct registry_event e = {.model_id = model_id, .version_id = version_id, .number = number};
	e.kind = kind == REGISTRY_COMMITTED ? REGISTRY_COMMITTED : kind == REGISTRY_RETIRED ? REGISTRY_RETIRED : REGISTRY_DISCARDED;
	if (r->on_event)
		r->on_event(&e, r->event_arg);
}

#define PATH_SHOWN_MAX (VERSION_LABEL_MAX - 32)

/* The end of a path that is too long to show, from a whole character on. */
static const char *shown_path(const char *path)
{
	size_t len = strlen(path);
	if (len <= PATH_SHOWN_MAX)
		return path;
	path += len - PATH_SHOWN_MAX;
	while ((*path & 0xc0) == 0x80)
		path++;
	return path;
}

void version_label(struct registry *r, int64_t model_id, uint32_t number, char out[VERSION_LABEL_MAX])
{
	struct catalog_model m;
	auto_read struct catalog_conn *conn = NULL;
	if (catalog_read_begin(r->catalog, &conn) < 0 || catalog_model_get(conn, model_id, &m) < 0) {
		snprintf(out, VERSION_LABEL_MAX, "v%u", number);
		return;
	}
	const char *path = shown_path(m.path);
	snprintf(out, VERSION_LABEL_MAX, "v%u of %s%.*s", number, path == m.path ? "" : "...", PATH_SHOWN_MAX, path);
}
