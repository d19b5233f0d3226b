/* Backup and restore: a store copied as a whole.
 *
 *   mark (backup.json) → catalog as of one moment, beside the old one → contents that are missing → catalog over the old one → what the new one does not need away
 *
 * Until the rename the old catalog is in place with all it needs; from it on the new one. So dest is a whole backup at any moment, but for the first, which is no store before
 * its config.json is written. The store itself goes on meanwhile: what a sweep takes away between the copy of the catalog and that of a content was retired in between, so another
 * copy of the catalog does not need it. */
#include "registry.h"

#include "intake.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define MARK "backup.json"
#define MARK_MAX 65536
#define CATALOG "catalog.db"
#define ROUNDS 3
#define MISSING_KEPT 16
#define SETTLE_FILES 2048
#define SETTLE_BYTES (UINT64_C(1) << 30)
#define PIECE (1u << 20)

/* What backup.json tells: whose backup this is, and by which sums its catalog is known. */
struct mark {
	bool there, restore;
	int64_t store_id;
	char catalog[BLOB_HEX_SIZE], before[BLOB_HEX_SIZE]; /* "": none */
};

bool registry_is_backup(const char *path)
{
	auto_close int dir = sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY, 0);
	struct stat st;
	return dir >= 0 && sys_fstatat(dir, MARK, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

struct copy {
	struct registry *r;
	const struct registry_copy *how;
	bool restore;
	const char *path;
	int dir;
	int64_t store_id;
	struct mark mark;
	struct blob_store *blobs;
	struct intake *in;
	struct blob_hasher *hasher;
	char *piece;
	bool measuring;
	uint64_t total, done;
	size_t n_unsettled;
	uint64_t unsettled;
	struct blob_id missing[MISSING_KEPT];
	struct fault missing_why; /* of the first */
	struct registry_copy_totals totals;
	struct fault *f;
};

/* ---- the mark ---- */

static int take_field(const char *name, const char *value, void *arg)
{
	struct mark *m = arg;
	uint64_t id;
	if (!strcmp(name, "kind"))
		m->restore = !strcmp(value, "restore");
	else if (!strcmp(name, "store_id") && parse_u64(value, INT64_MAX, &id) == 0)
		m->store_id = (int64_t)id;
	else if (!strcmp(name, "catalog"))
		text_copy(m->catalog, sizeof m->catalog, value);
	else if (!strcmp(name, "catalog_before"))
		text_copy(m->before, sizeof m->before, value);
	return 0;
}

static int read_mark(int dir, struct mark *ret)
{
	auto_free char *text = NULL;
	struct mark m = {.there = true};
	size_t len;
	int rc = sys_read_file(dir, MARK, MARK_MAX, &text, &len);
	if (rc == -ENOENT) {
		*ret = (struct mark){0};
		return 0;
	}
	if (rc == 0)
		rc = metadata_each_field(text, len, take_field, &m, NULL);
	if (rc == 0)
		*ret = m;
	return rc;
}

static int write_mark(struct copy *c)
{
	auto_buf struct buf text = BUF_INIT(MARK_MAX);
	char at[TIME_TEXT_MAX], id[24];
	struct json_out j;
	snprintf(id, sizeof id, "%" PRId64, c->store_id);
	time_utc_text(time_now_ns(), at);
	json_init(&j, &text, 2);
	json_object_begin(&j);
	json_field_string(&j, "kind", c->restore ? "restore" : "backup");
	json_field_string(&j, "store", c->r->path);
	json_field_string(&j, "store_id", id);
	json_field_string(&j, "at", at);
	if (c->mark.catalog[0])
		json_field_string(&j, "catalog", c->mark.catalog);
	if (c->mark.before[0])
		json_field_string(&j, "catalog_before", c->mark.before);
	json_object_end(&j);
	buf_putc(&text, '\n');
	int rc = text.error ? text.error : sys_write_file_durably(c->dir, MARK, buf_text(&text), text.len, 0600);
	return rc < 0 ? refuse_system(c->f, rc, "cannot write %s/" MARK, c->path) : 0;
}

/* ---- the place ---- */

static bool is_there(int dir, const char *name)
{
	struct stat st;
	return sys_fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Who died while it wrote the mark or config.json left a file by another name; nobody else is writing here. */
static void remove_temporaries(int dirfd)
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	if (sys_fdopendir(sys_reopen(dirfd, O_RDONLY | O_DIRECTORY), &dir) < 0)
		return;
	while (sys_readdir(dir, &e) > 0)
		if (sys_is_temporary(e->d_name))
			sys_unlinkat(dirfd, e->d_name, 0);
}

static int is_empty(int dirfd, bool *ret)
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	int rc = sys_fdopendir(sys_reopen(dirfd, O_RDONLY | O_DIRECTORY), &dir);
	*ret = true;
	while (rc >= 0 && (rc = sys_readdir(dir, &e)) > 0)
		if (strcmp(e->d_name, "lost+found") != 0 && !sys_is_temporary(e->d_name))
			*ret = false;
	return rc;
}

static int hash_file(int dir, const char *name, char hex[BLOB_HEX_SIZE])
{
	struct blob_id id;
	uint64_t size;
	auto_close int fd = sys_openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0); /* a pipe there is not waited for */
	int rc = fd < 0 ? fd : blob_hash_fd(fd, NULL, &id, &size);
	if (rc == 0)
		blob_id_hex(&id, hex);
	return rc;
}

static bool holds_something(int dir, const char *name)
{
	struct stat st;
	return sys_fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_size > 0 || !S_ISREG(st.st_mode));
}

/* A copy that was opened for writing has a life of its own: its versions must not be written over. Of a restore the last step may have failed, when it was a store already. */
static int check_unchanged(struct copy *c)
{
	char hex[BLOB_HEX_SIZE];
	struct stat st;
	int rc = sys_fstatat(c->dir, CATALOG, &st, AT_SYMLINK_NOFOLLOW);
	if (rc == -ENOENT)
		return 0; /* died before its first */
	if (rc == 0 && !S_ISREG(st.st_mode))
		return refuse(c->f, VERDICT_DAMAGED, "%s/" CATALOG " is %s, not a regular file", c->path, sys_kind_of(st.st_mode));
	if (rc == 0)
		rc = hash_file(c->dir, CATALOG, hex);
	if (rc < 0)
		return refuse_system(c->f, rc, "cannot read the catalog of %s", c->path);
	bool logged = holds_something(c->dir, CATALOG "-wal") || holds_something(c->dir, CATALOG "-journal");
	if (logged || (strcmp(hex, c->mark.catalog) != 0 && strcmp(hex, c->mark.before) != 0))
		return refuse(c->f, VERDICT_EXISTS, "%s was opened for writing since its last %s, and is a store of its own now: choose another directory", c->path,
			c->restore ? "restore" : "backup");
	text_copy(c->mark.before, sizeof c->mark.before, hex);
	return 0;
}

static int check_place(struct copy *c)
{
	bool empty;
	int rc = is_empty(c->dir, &empty);
	if (rc < 0)
		return refuse_system(c->f, rc, "cannot look into %s", c->path);
	rc = read_mark(c->dir, &c->mark);
	if (rc < 0)
		return rc == -EINVAL ? refuse(c->f, VERDICT_DAMAGED, "%s/" MARK " cannot be understood: choose another directory", c->path)
			: refuse_system(c->f, rc, "cannot read %s/" MARK, c->path);
	if (empty)
		return 0;
	if (!c->mark.there || c->mark.restore != c->restore)
		return refuse(c->f, VERDICT_NOT_EMPTY, c->restore ? "%s is not empty: a store is restored into a directory of its own"
			: "%s is not empty, and no backup: a backup needs a directory of its own", c->path);
	if (c->mark.store_id != c->store_id)
		return refuse(c->f, VERDICT_EXISTS, "%s is the %s of another store: choose another directory", c->path, c->restore ? "unfinished restore" : "backup");
	char found[PATH_MAX];
	rc = is_there(c->dir, "config.json") ? registry_check(c->path, found, c->f) : 0; /* what no MintFS can read afterwards, or not this one, is no backup */
	return rc < 0 ? rc : check_unchanged(c);
}

/* Before anything is made. */
static int check_apart(struct copy *c)
{
	char place[PATH_MAX];
	struct stat ours, theirs;
	size_t len = strlen(c->r->path);
	int rc = place_find(c->path, place, c->f);
	if (rc == 0)
		rc = place_check(c->path, place, c->f);
	if (rc < 0)
		return rc;
	rc = sys_fstat(c->r->dirfd, &ours);
	if (rc == 0)
		rc = sys_fstatat(AT_FDCWD, place, &theirs, 0);
	if (rc != 0)
		return refuse_system(c->f, rc, "cannot look at %s", c->path);
	bool inside = !strncmp(place, c->r->path, len) && (place[len] == '/' || !place[len]);
	return inside || (ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino)
		? refuse(c->f, VERDICT_PLACE, "%s lies in the store itself", c->path) : 0;
}

static int open_place(struct copy *c)
{
	int rc = check_apart(c);
	if (rc < 0)
		return rc;
	if (mkdir(c->path, 0700) < 0 && errno != EEXIST)
		return refuse_system(c->f, -errno, "cannot make the directory %s", c->path);
	c->dir = sys_openat(AT_FDCWD, c->path, O_RDONLY | O_DIRECTORY, 0);
	if (c->dir < 0)
		return refuse_system(c->f, c->dir, "cannot open the directory %s", c->path);
	rc = sys_lock(c->dir, true, false);
	if (rc == -EWOULDBLOCK)
		return refuse(c->f, VERDICT_BUSY, "somebody else is just writing to %s", c->path);
	if (rc < 0)
		return refuse_system(c->f, rc, "cannot lock the directory %s", c->path);
	return check_place(c);
}

static int make_place(struct copy *c)
{
	static const char *const dirs[] = {"blobs", "drafts", "run"};
	struct stat st;
	int rc = sys_fstat(c->dir, &st);
	if (rc == 0 && (st.st_mode & 07777) != 0700)
		rc = sys_fchmod(c->dir, 0700); /* contents of all users lie in it */
	if (rc == 0)
		rc = write_mark(c);
	if (rc == 0)
		remove_temporaries(c->dir);
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(dirs); i++)
		if ((rc = sys_mkdirat(c->dir, dirs[i], 0700)) == -EEXIST)
			rc = 0;
	sys_crash_point("backup.marked");
	if (rc == 0)
		rc = blob_store_open_local(c->dir, true, c->r->log, &c->blobs, c->f);
	if (rc == 0)
		rc = intake_open(c->dir, c->blobs, NULL, c->r->log, &c->in, c->f);
	return rc < 0 ? refuse_system(c->f, rc, "cannot write to %s", c->path) : 0;
}

/* ---- contents ---- */

static void advance(struct copy *c, uint64_t bytes)
{
	c->done += bytes;
	if (c->how->progress)
		c->how->progress(c->done, c->total, c->how->arg);
}

static int fill(struct copy *c, int from, int to, uint64_t size, struct blob_id *ret_id)
{
	uint64_t at = 0, hashed;
	if (size > 0 && ioctl(to, FICLONE, from) == 0) { /* shared extents: what is there now is what is hashed */
		advance(c, size);
		return blob_hash_fd(to, NULL, ret_id, &hashed);
	}
	while (at < size) {
		ssize_t n = sys_pread_full(from, c->piece, size - at < PIECE ? (size_t)(size - at) : PIECE, (off_t)at);
		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		int rc = blob_hasher_add(c->hasher, c->piece, (size_t)n);
		if (rc == 0 && (rc = sys_pwrite_full(to, c->piece, (size_t)n, (off_t)at)) < 0)
			return refuse_system(c->f, rc, "cannot write to %s", c->path);
		if (rc < 0)
			return rc;
		at += (uint64_t)n;
		advance(c, (uint64_t)n);
	}
	return blob_hasher_finish(c->hasher, ret_id);
}

static int note_missing(struct copy *c, const struct blob_id *id, const char *what)
{
	char hex[BLOB_HEX_SIZE];
	blob_id_hex(id, hex);
	if (c->totals.missing < MISSING_KEPT)
		c->missing[c->totals.missing] = *id;
	if (c->totals.missing++ == 0)
		fault_set(&c->missing_why, EIO, "the content %s %s", hex, what);
	log_error(c->r->log, "backup: the content %s %s", hex, what);
	return 0;
}

static int settle(struct copy *c)
{
	c->n_unsettled = 0;
	c->unsettled = 0;
	int rc = intake_flush(c->in, c->f);
	if (rc == 0)
		rc = intake_settle(c->in);
	return rc < 0 ? refuse_system(c->f, rc, "cannot write to %s", c->path) : 0;
}

/* The hasher must not keep what a failed reading left in it. */
static void clear_hasher(struct copy *c)
{
	struct blob_id id;
	blob_hasher_finish(c->hasher, &id);
}

static int copy_content(struct copy *c, const struct blob_id *id, uint64_t size)
{
	struct blob_id found;
	struct stat st;
	int to;
	auto_close int from = blob_open(c->r->blobs, id);
	int rc = from < 0 ? from : sys_fstat(from, &st);
	if (rc == -ENOENT || (rc >= 0 && (uint64_t)st.st_size != size))
		return note_missing(c, id, rc < 0 ? "is missing" : "has another size");
	if (rc >= 0)
		rc = intake_begin(c->in, &to, c->f);
	if (rc < 0)
		return refuse_system(c->f, rc, "cannot copy the contents of %s", c->r->path);
	rc = fill(c, from, to, size, &found);
	if (rc < 0 || !blob_id_equal(id, &found)) {
		bool ours = rc < 0 && c->f->error; /* the trouble is that of dest */
		clear_hasher(c);
		intake_cancel(c->in, to);
		if (rc == -ENOMEM || ours)
			return rc;
		return note_missing(c, id, rc < 0 ? "cannot be read" : "is damaged: its bytes are not those of its SHA-256");
	}
	rc = intake_add(c->in, to, id, size, c->f);
	if (rc < 0)
		return refuse_system(c->f, rc, "cannot write to %s", c->path);
	c->totals.copied++;
	c->totals.bytes += size;
	c->unsettled += size;
	sys_crash_point("backup.content");
	return ++c->n_unsettled >= SETTLE_FILES || c->unsettled >= SETTLE_BYTES ? settle(c) : 0;
}

static int do_content(const struct blob_id *id, uint64_t size, void *arg)
{
	struct copy *c = arg;
	bool needed = !blob_is_sealed(c->blobs, id, size);
	if (c->measuring) {
		c->total += needed ? size : 0;
		return 0;
	}
	c->totals.contents++;
	return needed ? copy_content(c, id, size) : 0;
}

/* Is what is missing in use by a version that is committed in this copy of the catalog? Else it was swept with a retired one. */
static int judge_missing(struct copy *c, struct catalog_conn *conn)
{
	bool needed = c->totals.missing > MISSING_KEPT; /* so many are no sweep's */
	int rc = 0;
	for (uint64_t i = 0; rc == 0 && !needed && i < c->totals.missing; i++)
		rc = catalog_blob_committed(conn, &c->missing[i], &needed);
	if (rc == 0 && !needed)
		c->totals.missing = 0;
	return rc;
}

static int copy_contents(struct copy *c)
{
	struct catalog *catalog = NULL;
	struct catalog_conn *conn = NULL;
	int rc = catalog_open(intake_dirfd(c->in), true, c->r->log, &catalog, c->f);
	if (rc == 0)
		rc = catalog_read_begin(catalog, &conn);
	if (rc == 0 && c->how->progress) {
		c->measuring = true;
		rc = catalog_blob_list(conn, do_content, c);
		c->measuring = false;
	}
	if (rc == 0)
		rc = catalog_blob_list(conn, do_content, c);
	if (rc == 0)
		rc = settle(c);
	if (rc == 0)
		rc = judge_missing(c, conn);
	catalog_read_end(conn);
	catalog_close(catalog);
	return rc < 0 ? refuse_system(c->f, rc, "cannot copy the contents of %s", c->r->path) : 0;
}

/* One catalog and its contents, beside what is there. */
static int one_round(struct copy *c)
{
	c->totals = (struct registry_copy_totals){.copied = c->totals.copied, .bytes = c->totals.bytes};
	c->missing_why = (struct fault)FAULT_INIT;
	c->total = c->done = 0;
	int rc = sys_unlinkat(intake_dirfd(c->in), CATALOG, 0);
	rc = rc == -ENOENT ? 0 : rc;
	if (rc == 0)
		rc = catalog_copy(c->r->catalog, intake_dirfd(c->in), CATALOG, c->f);
	sys_crash_point("backup.catalog-copied");
	return rc < 0 ? refuse_system(c->f, rc, "cannot copy the catalog of %s", c->r->path) : copy_contents(c);
}

/* ---- the new catalog takes its place ---- */

static int sync_catalog(struct copy *c)
{
	auto_close int fd = sys_openat(intake_dirfd(c->in), CATALOG, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	int rc = fd < 0 ? fd : sys_fsync(fd);
	return rc < 0 ? rc : hash_file(intake_dirfd(c->in), CATALOG, c->mark.catalog);
}

static int write_config(struct copy *c)
{
	auto_buf struct buf text = BUF_INIT(4096);
	struct metadata_config config = {.format = CATALOG_FORMAT};
	if (is_there(c->dir, "config.json"))
		return 0;
	int rc = metadata_config_generate(&config, &text);
	return rc < 0 ? rc : sys_write_file_durably(c->dir, "config.json", buf_text(&text), text.len, 0600);
}

/* A restore is whole without it. If that cannot be made to last it stands there again, by which the next try knows whose directory it is. */
static int remove_mark(struct copy *c)
{
	int rc = sys_unlinkat(c->dir, MARK, 0);
	if (rc == 0 && (rc = sys_fsync(c->dir)) < 0)
		write_mark(c);
	return rc;
}

/* Both sums are in the mark before the rename: whichever catalog is found later is known. */
static int publish(struct copy *c)
{
	int rc = sync_catalog(c);
	if (rc == 0)
		rc = write_mark(c);
	sys_crash_point("backup.contents-copied");
	if (rc == 0)
		rc = sys_renameat2(intake_dirfd(c->in), CATALOG, c->dir, CATALOG, 0);
	if (rc == 0)
		rc = sys_fsync(c->dir);
	sys_crash_point("backup.published");
	if (rc == 0)
		rc = write_config(c);
	if (rc == 0 && c->restore)
		rc = remove_mark(c);
	return rc < 0 ? refuse_system(c->f, rc, "cannot put the catalog of %s in place", c->path) : 0;
}

struct sweep { struct copy *c; struct catalog_conn *conn; };

static int sweep_one(const struct blob_id *id, uint64_t size, int64_t ctime_ns, void *arg)
{
	struct sweep *s = arg;
	struct catalog_blob row;
	int rc = catalog_blob_find(s->conn, id, &row);
	if ((rc < 0 && rc != -ENOENT) || (rc == 0 && row.absence != CATALOG_FREED))
		return rc;
	s->c->totals.removed++;
	return blob_remove(s->c->blobs, id);
}

/* What the store has swept, its backup need not keep. */
static int sweep_old(struct copy *c)
{
	struct catalog *catalog = NULL;
	struct sweep s = {c, NULL};
	int rc = catalog_open(c->dir, true, c->r->log, &catalog, c->f);
	if (rc == 0)
		rc = catalog_read_begin(catalog, &s.conn);
	if (rc == 0)
		rc = blob_each(c->blobs, sweep_one, &s);
	catalog_read_end(s.conn);
	catalog_close(catalog);
	return rc < 0 ? refuse_system(c->f, rc, "the backup is made, but what it no longer needs cannot be removed from %s", c->path) : 0;
}

/* ---- all of it ---- */

static int copy_all(struct copy *c)
{
	int rc = open_place(c);
	if (rc == 0)
		rc = make_place(c);
	for (int i = 0; rc == 0 && i < ROUNDS; i++) {
		rc = one_round(c);
		if (rc < 0 || c->totals.missing == 0)
			break;
	}
	if (rc == 0 && c->restore && c->totals.missing)
		return refuse(c->f, VERDICT_DAMAGED, "%s cannot be restored whole: %s (%" PRIu64 " in all)", c->r->path, c->missing_why.text, c->totals.missing);
	if (rc == 0)
		rc = publish(c);
	if (rc == 0 && !c->restore)
		rc = sweep_old(c);
	return rc;
}

static int store_id(struct registry *r, int64_t *ret)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	return rc < 0 ? rc : catalog_store_id(conn, ret);
}

static int copy_store(struct registry *r, const struct registry_copy *how, bool restore, struct registry_copy_totals *ret, struct fault *f)
{
	struct fault own = FAULT_INIT;
	struct copy c = {.r = r, .how = how, .restore = restore, .path = how->dest, .dir = -1, .f = f ? f : &own, .piece = malloc(PIECE)};
	int rc = c.piece ? store_id(r, &c.store_id) : -ENOMEM;
	if (rc == 0)
		rc = blob_hasher_new(&c.hasher);
	if (rc == 0)
		rc = copy_all(&c);
	intake_close(c.in);
	blob_store_close(c.blobs);
	blob_hasher_free(c.hasher);
	free(c.piece);
	if (c.dir >= 0)
		close(c.dir);
	if (rc < 0)
		return refuse_system(c.f, rc, "%s cannot be copied", r->path);
	*ret = c.totals;
	if (c.totals.missing)
		return refuse(c.f, VERDICT_DAMAGED, "the backup is made, but the store itself is damaged: %s (%" PRIu64 " in all): see mintfs fsck", c.missing_why.text,
			c.totals.missing);
	return 0;
}

int registry_backup(struct registry *r, const struct registry_copy *how, struct registry_copy_totals *ret, struct fault *f)
{
	return copy_store(r, how, false, ret, f);
}

int registry_restore(struct registry *r, const struct registry_copy *how, struct registry_copy_totals *ret, struct fault *f)
{
	return copy_store(r, how, true, ret, f);
}
