/* A store: making it, opening it, closing it, and putting right what an earlier death left.
 *
 * config.json is written last by init: it marks a store as whole. A daemon is alive as long as it holds the lock on run/<mount id>. */
#include "registry.h"

#include "intake.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

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

/* ---- init ---- */

static const char *const init_dirs[] = {"blobs", "drafts", "run"};

/* Everything that an init may leave behind, or other rooms in its course. */
static bool is_init_name(const char *name)
{
	static const char prefix[] = ".mintfs-tmp-", catalog[] = "catalog.db";
	for (size_t i = 0; i < ARRAY_SIZE(init_dirs); i++)
		if (!strcmp(name, init_dirs[i]))
			return true;
	return !strcmp(name, "config.json") || !strcmp(name, "lock") || !strncmp(name, catalog, sizeof catalog - 1) || !strncmp(name, prefix, sizeof prefix - 1);
}

static int open_place(const char *path, bool *ret_made, struct fault *f)
{
	*ret_made = mkdir(path, 0700) == 0;
	if (!*ret_made && errno != EEXIST)
		return refuse_system(f, -errno, "cannot make the store directory %s", path);
	int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOTDIR) {
		refuse(f, VERDICT_NOT_A_STORE, "%s is not a directory: a store needs one of its own", path);
		return -ENOTDIR;
	}
	return fd < 0 ? refuse_system(f, fd, "cannot open the directory %s", path) : fd;
}

enum { PLACE_CONFIG = 1, PLACE_OURS = 2, PLACE_OTHER = 4 }; /* what stands in a directory */

static int look_around(int dirfd, const char *name, unsigned *ret_found)
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	int rc = sys_fdopendir(sys_openat(dirfd, name, O_RDONLY | O_DIRECTORY, 0), &dir);
	if (rc < 0)
		return rc;
	*ret_found = 0;
	while ((rc = sys_readdir(dir, &e)) > 0)
		if (strcmp(e->d_name, "lost+found") != 0)
			*ret_found |= !strcmp(e->d_name, "config.json") ? PLACE_CONFIG : is_init_name(e->d_name) ? PLACE_OURS : PLACE_OTHER;
	return rc;
}

/* Nothing but what an init makes, and no blob and no draft in it: an init that died. A store that lost its config.json holds more. */
static bool is_half_made(int dirfd)
{
	unsigned blobs = 0, drafts = 0;
	int rc = look_around(dirfd, "blobs", &blobs);
	if (rc == 0)
		rc = look_around(dirfd, "drafts", &drafts);
	return (rc == 0 || rc == -ENOENT) && !blobs && !drafts;
}

/* config.json first: without it, what remains after a death in here is a half-made store again. */
static void init_undo(int dirfd)
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	if (sys_fdopendir(sys_openat(dirfd, ".", O_RDONLY | O_DIRECTORY, 0), &dir) < 0)
		return;
	sys_unlinkat(dirfd, "config.json", 0);
	while (sys_readdir(dir, &e) > 0)
		if (is_init_name(e->d_name) && sys_unlinkat(dirfd, e->d_name, 0) < 0) /* a directory */
			sys_remove_tree(dirfd, e->d_name);
}

/* The directory is locked: who else makes a store of it waits, and finds ours. */
static int check_place(int dirfd, const char *path, struct fault *f)
{
	unsigned found;
	int rc = look_around(dirfd, ".", &found);
	if (rc < 0)
		return refuse_system(f, rc, "cannot read the directory %s", path);
	if (found & PLACE_CONFIG)
		return refuse(f, VERDICT_EXISTS, "%s is a MintFS store already", path);
	if (found & PLACE_OTHER || (found && !is_half_made(dirfd)))
		return refuse(f, VERDICT_NOT_EMPTY, "%s is not empty: a store needs a directory of its own", path);
	if (found)
		init_undo(dirfd);
	return 0;
}

static int init_contents(int dirfd, const char *path, struct fault *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(init_dirs); i++) {
		int rc = sys_mkdirat(dirfd, init_dirs[i], 0700);
		if (rc < 0)
			return refuse_system(f, rc, "cannot make %s/%s", path, init_dirs[i]);
	}
	sys_crash_point("init.directories-made");
	int rc = catalog_create(dirfd, f);
	if (rc < 0)
		return refuse_system(f, rc, "cannot make the catalog of %s", path);
	sys_crash_point("init.catalog-made");
	auto_buf struct buf text = BUF_INIT(4096);
	struct metadata_config config = {.format = CATALOG_FORMAT};
	rc = metadata_config_generate(&config, &text);
	if (rc == 0)
		rc = sys_write_file_durably(dirfd, "config.json", buf_text(&text), text.len, 0600);
	return rc < 0 ? refuse_system(f, rc, "cannot write %s/config.json", path) : 0;
}

static int init_locked(int dirfd, const char *path, struct fault *f)
{
	struct stat st;
	int rc = check_place(dirfd, path, f);
	if (rc < 0)
		return rc;
	rc = sys_fstat(dirfd, &st);
	if (rc < 0)
		return refuse_system(f, rc, "cannot look at %s", path);
	bool narrow = (st.st_mode & 07777) != 0700;
	if (narrow && (rc = sys_fchmod(dirfd, 0700)) < 0)
		return refuse_system(f, rc, "cannot make %s private (mode 0700)", path);
	rc = init_contents(dirfd, path, f);
	if (rc < 0) {
		init_undo(dirfd);
		if (narrow)
			sys_fchmod(dirfd, st.st_mode & 07777);
	}
	return rc;
}

int registry_init(const char *path, struct fault *f)
{
	bool made;
	auto_close int dirfd = open_place(path, &made, f);
	if (dirfd < 0)
		return dirfd;
	int rc = sys_lock(dirfd, true, true);
	if (rc < 0)
		refuse_system(f, rc, "cannot lock the directory %s", path);
	else
		rc = init_locked(dirfd, path, f);
	if (rc < 0 && made)
		rmdir(path); /* stays where somebody else's store is in it by now */
	return rc;
}

/* ---- open ---- */

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

static int read_config(struct registry *r, struct fault *f)
{
	auto_free char *text = NULL;
	size_t len;
	struct metadata_config config;
	int rc = sys_read_file(r->dirfd, "config.json", 1 << 20, &text, &len);
	if (rc == -ENOENT) {
		refuse(f, VERDICT_NOT_A_STORE, "%s is no MintFS store: it has no config.json", r->path);
		return -ENOENT;
	}
	if (rc < 0)
		return refuse_system(f, rc, "cannot read %s/config.json", r->path);
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
	if ((rc = workq_new(&(struct workq_options){.name = "mintfs-jobs", .threads = 3}, &r->jobs)) < 0 ||
	    (rc = workq_new(&(struct workq_options){.name = "mintfs-tidy", .threads = 1}, &r->tidying)) < 0 ||
	    (rc = observer_new(&r->observer)) < 0 || (rc = live_table_new(r, &r->live)) < 0)
		return refuse_system(f, rc, "cannot open the store %s", r->path);
	return 0;
}

/* ---- mounts ---- */

#define MOUNT_LOCK_MAX 32
static void mount_lock_name(int64_t id, char out[MOUNT_LOCK_MAX]) { snprintf(out, MOUNT_LOCK_MAX, "run/%lld", (long long)id); }

struct registry_kept { int64_t mount_id; };

static int64_t *kept_mount(struct registry *r)
{
	return &((struct registry_kept *)keep_area(r->keep, KEEP_AREA_REGISTRY))->mount_id;
}

/* The row and the lock of the process before this one; its descriptor is still open. */
static bool resume_mount(struct registry *r)
{
	struct catalog_mount m;
	auto_read struct catalog_conn *conn = NULL;
	if (!r->keep || *kept_mount(r) == 0 || keep_fd(r->keep, KEEP_FD_MOUNT_LOCK) < 0)
		return false;
	if (catalog_read_begin(r->catalog, &conn) < 0 || catalog_mount_get(conn, *kept_mount(r), &m) < 0)
		return false;
	r->mount_id = m.id;
	r->mount_fd = keep_fd(r->keep, KEEP_FD_MOUNT_LOCK);
	return true;
}

static void keep_mount(struct registry *r)
{
	if (!r->keep)
		return;
	keep_fd_set(r->keep, KEEP_FD_MOUNT_LOCK, r->mount_fd);
	*kept_mount(r) = r->mount_id;
}

struct mount_job { struct registry *r; struct catalog_mount m; int64_t id; int fd; };

/* The lock is taken before others can see the row: nobody takes the mount for dead in between. */
static int mount_add_write(struct catalog_conn *conn, void *arg)
{
	struct mount_job *j = arg;
	char name[MOUNT_LOCK_MAX];
	if (j->fd >= 0) /* of a first try that was undone */
		close(take_fd(&j->fd));
	int rc = catalog_mount_add(conn, &j->m, &j->id);
	if (rc < 0)
		return rc;
	mount_lock_name(j->id, name);
	j->fd = sys_openat_beneath(j->r->dirfd, name, O_RDWR | O_CREAT | O_NONBLOCK, 0600);
	rc = j->fd < 0 ? j->fd : sys_give_to_owner(j->fd, j->r->dirfd);
	return rc < 0 ? rc : sys_lock(j->fd, true, false);
}

static int mount_remove_write(struct catalog_conn *conn, void *arg)
{
	int rc = catalog_mount_remove(conn, *(int64_t *)arg);
	return rc == -ENOENT ? 0 : rc;
}

static int announce_mount(struct registry *r, const char *mountpoint, struct fault *f)
{
	struct mount_job j = {.r = r, .m = {.pid = r->daemon_pid, .read_only = r->read_only, .since_ns = time_now_ns()}, .fd = -1};
	char name[MOUNT_LOCK_MAX];
	text_copy(j.m.host, sizeof j.m.host, r->host);
	text_copy(j.m.boot_id, sizeof j.m.boot_id, r->boot_id);
	text_copy(j.m.mountpoint, sizeof j.m.mountpoint, mountpoint ? mountpoint : "");
	int rc = sys_mkdirat(r->dirfd, "run", 0700);
	if (rc < 0 && rc != -EEXIST)
		return refuse_system(f, rc, "cannot make %s/run", r->path);
	rc = catalog_write(r->catalog, false, mount_add_write, &j);
	if (rc < 0) {
		mount_lock_name(j.id, name);
		if (j.fd >= 0) {
			sys_unlinkat(r->dirfd, name, 0);
			close(j.fd);
		}
		return refuse_system(f, rc, "cannot record the mount in %s", r->path);
	}
	r->mount_id = j.id;
	r->mount_fd = j.fd;
	keep_mount(r);
	return 0;
}

int registry_mount_alive(struct registry *r, const struct catalog_mount *m, bool *ret_alive)
{
	char name[MOUNT_LOCK_MAX];
	if (m->id == r->mount_id) {
		*ret_alive = true;
		return 0;
	}
	mount_lock_name(m->id, name);
	auto_close int fd = sys_openat_beneath(r->dirfd, name, O_RDONLY | O_NONBLOCK, 0);
	if (fd == -ENOENT) {
		*ret_alive = false;
		return 0;
	}
	if (fd < 0)
		return fd;
	int rc = sys_lock(fd, false, false);
	*ret_alive = rc == -EWOULDBLOCK;
	return rc == -EWOULDBLOCK ? 0 : rc;
}

struct dead_mounts { struct registry *r; int64_t ids[64]; unsigned n; };

static int note_dead_mount(const struct catalog_mount *m, void *arg)
{
	struct dead_mounts *d = arg;
	bool alive = true;
	if (registry_mount_alive(d->r, m, &alive) == 0 && !alive && d->n < ARRAY_SIZE(d->ids))
		d->ids[d->n++] = m->id;
	return 0;
}

/* More than fit are forgotten by a later mount. */
static void forget_dead_mounts(struct registry *r)
{
	struct dead_mounts d = {.r = r};
	struct catalog_conn *conn = NULL;
	if (catalog_read_begin(r->catalog, &conn) < 0)
		return;
	catalog_mount_list(conn, note_dead_mount, &d);
	catalog_read_end(conn);
	for (unsigned i = 0; i < d.n; i++) {
		char name[MOUNT_LOCK_MAX];
		mount_lock_name(d.ids[i], name);
		sys_unlinkat(r->dirfd, name, 0);
		catalog_write(r->catalog, false, mount_remove_write, &d.ids[i]);
	}
}

/* ---- recovery ---- */

struct id_list { int64_t *ids; size_t n, cap; int error; };

static int id_list_add(struct id_list *l, int64_t id)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		int64_t *ids = realloc(l->ids, cap * sizeof *ids);
		if (!ids)
			return l->error = -ENOMEM;
		l->ids = ids;
		l->cap = cap;
	}
	l->ids[l->n++] = id;
	return 0;
}

static int collect_draft_row(const struct catalog_version *v, const struct catalog_version_text *text, void *arg) { return id_list_add(arg, v->id); }
static int collect_draft_dir(int64_t id, void *arg) { return id_list_add(arg, id); }

static int discard_write(struct catalog_conn *conn, void *arg)
{
	return catalog_version_set_state(conn, *(int64_t *)arg, CATALOG_DISCARDED);
}

/* Drafts in the catalog: served from now on by us, unless somebody else does; without a directory they are gone. */
static void recover_rows(struct registry *r)
{
	struct id_list rows = {0};
	struct catalog_conn *conn = NULL;
	if (catalog_read_begin(r->catalog, &conn) == 0)
		catalog_draft_list(conn, collect_draft_row, &rows);
	catalog_read_end(conn);
	for (size_t i = 0; i < rows.n; i++) {
		auto_draft struct draft *d = NULL;
		bool writable;
		int rc = registry_draft_get(r, rows.ids[i], &d, &writable);
		if (rc == -ENXIO) { /* the row is there, the tree is not */
			log_warning(r->log, "draft %lld has lost its directory: discarded", (long long)rows.ids[i]);
			catalog_write(r->catalog, false, discard_write, &rows.ids[i]);
		} else if (rc < 0 && rc != -ENOENT) {
			log_warning(r->log, "draft %lld cannot be taken up: %s", (long long)rows.ids[i], strerror(-rc));
		}
	}
	free(rows.ids);
}

struct directory_scan { struct registry *r; struct id_list finish; };

static void look_at_directory(struct directory_scan *s, struct catalog_conn *conn, int64_t id)
{
	struct catalog_version v;
	int rc = catalog_version_get(conn, id, &v);
	if (rc == -ENOENT) {
		staging_put_away(s->r, id);
	} else if (rc == 0 && v.state != CATALOG_DRAFT) {
		id_list_add(&s->finish, id);
	}
}

/* Directories without an open draft: what a death between two steps left. Under the write lock, so that no mint is half way. */
static int scan_directories(void *arg)
{
	struct directory_scan *s = arg;
	struct id_list dirs = {0};
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(s->r->catalog, &conn);
	if (rc == 0)
		rc = drafts_each(s->r->drafts, collect_draft_dir, &dirs);
	for (size_t i = 0; rc == 0 && i < dirs.n; i++)
		look_at_directory(s, conn, dirs.ids[i]);
	free(dirs.ids);
	return rc;
}

struct finish_job { struct registry *r; int64_t id; };

static void finish_job(void *arg)
{
	struct finish_job *j = arg;
	commit_clear_staging(j->r, j->id);
	free(j);
}

/* While a mount is taken over its users wait: what can be done later is. */
static void finish_later(struct registry *r, int64_t id)
{
	struct finish_job *j = r->resumed ? malloc(sizeof *j) : NULL;
	if (j)
		*j = (struct finish_job){r, id};
	if (j && workq_submit(r->jobs, finish_job, j) == 0)
		return;
	free(j);
	commit_clear_staging(r, id);
}

static void recover(struct registry *r)
{
	forget_dead_mounts(r);
	intake_sweep(r->dirfd, r->blobs, r->log);
	struct directory_scan scan = {.r = r};
	int rc = catalog_locked(r->catalog, scan_directories, &scan);
	if (rc < 0)
		log_warning(r->log, "cannot look through the drafts: %s", strerror(-rc));
	for (size_t i = 0; i < scan.finish.n; i++)
		finish_later(r, scan.finish.ids[i]);
	free(scan.finish.ids);
	recover_rows(r);
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
	r->daemon_pid = o->daemon_pid ? o->daemon_pid : getpid();
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
		r->resumed = resume_mount(r);
	if (rc == 0 && r->resumed)
		live_pause(r->live);
	if (rc == 0 && o->serve && !o->read_only && !r->resumed)
		rc = announce_mount(r, o->mountpoint, f);
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

void registry_close(struct registry *r)
{
	if (!r)
		return;
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
	if (r->mount_id && r->catalog) {
		char name[MOUNT_LOCK_MAX];
		if (r->keep)
			*kept_mount(r) = 0;
		mount_lock_name(r->mount_id, name);
		catalog_write(r->catalog, false, mount_remove_write, &r->mount_id);
		sys_unlinkat(r->dirfd, name, 0);
	}
	drafts_close(r->drafts);
	blob_store_close(r->blobs);
	catalog_close(r->catalog);
	if (r->mount_fd >= 0) {
		if (r->keep)
			keep_fd_set(r->keep, KEEP_FD_MOUNT_LOCK, -1);
		close(r->mount_fd);
	}
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
