/* Commit: a draft becomes a version.
 *
 *   freeze → scan and check → hash → metadata.json → bytes and names into blobs/ → one catalog transaction (record.c) → staging tree away → seal
 *
 * Each step is durable before the next. Until the transaction nothing in the draft's tree is touched (a metadata.json of ours is prepared beside it), so
 * thawing it is all that a failure needs, and a crash not even that; from the transaction on the version is committed whatever happens:
 * what is left to do is done again by the next mount. Blobs are sealed last, for an immutable file could not lose its name in the tree. */
#include "commit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static void work_release(struct commit_work *w)
{
	draft_tree_release(&w->tree);
	metadata_release(&w->metadata);
	lineage_release(&w->lineage);
	free(w->items);
	free(w->entries);
	free(w->metrics);
}

/* ---- after it ---- */

#define STAGING_SMALL 64 /* entries: a larger tree waits behind other long work */

void staging_metadata_name(int64_t version_id, char out[64]) { snprintf(out, 64, "drafts/%lld.metadata.json", (long long)version_id); }

static int remove_metadata(struct registry *r, int64_t version_id)
{
	char name[64];
	staging_metadata_name(version_id, name);
	int rc = sys_unlinkat(r->dirfd, name, 0);
	return rc == -ENOENT ? 0 : rc;
}

int staging_remove(struct registry *r, int64_t version_id)
{
	int rc = remove_metadata(r, version_id); /* first: whoever finds a tree looks for this too */
	if (rc == 0)
		rc = drafts_remove(r->drafts, version_id);
	if (rc < 0)
		log_warning(r->log, "drafts/%lld cannot be removed (the next mount tries again): %s", (long long)version_id, strerror(-rc));
	return rc;
}

/* Empties a tree but leaves its top, by which the next mount knows that the seals may be missing. */
static int staging_empty(struct registry *r, int64_t version_id)
{
	char name[64];
	snprintf(name, sizeof name, "drafts/%lld", (long long)version_id);
	auto_close int top = sys_openat_beneath(r->dirfd, name, O_PATH | O_DIRECTORY, 0);
	struct stat st;
	if (top < 0)
		return top == -ENOENT ? 0 : top;
	int rc = sys_fstat(top, &st);
	if (rc == 0 && (st.st_mode & 0700) != 0700) /* a trainer may have left it without permissions */
		rc = sys_fchmod(top, 0700);
	if (rc < 0)
		return rc;
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	rc = sys_fdopendir(sys_reopen(top, O_RDONLY | O_DIRECTORY), &dir);
	if (rc < 0)
		return rc;
	for (unsigned removed = 1; removed > 0;) { /* a directory that changes while it is read may be read in part */
		removed = 0;
		rewinddir(dir);
		while ((rc = sys_readdir(dir, &e)) > 0) {
			rc = sys_unlinkat(dirfd(dir), e->d_name, 0);
			if (rc == -EISDIR)
				rc = sys_remove_tree(dirfd(dir), e->d_name);
			if (rc < 0 && rc != -ENOENT)
				return rc;
			removed++;
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

struct to_seal { struct blob_id id; uint64_t inode; /* 0: not known any more */ };

static int seal_all(struct registry *r, const struct to_seal *blobs, size_t n)
{
	int rc = 0;
	for (size_t i = 0; i < n; i++) {
		int sealed = blob_seal(r->blobs, &blobs[i].id, blobs[i].inode);
		rc = rc == 0 ? sealed : rc;
	}
	return rc;
}

/* Blobs are sealed when their names in the tree are gone; the tree's top goes last, so that a death in between, or a disk that refuses, is made good. */
static void clear_and_seal(struct registry *r, int64_t version_id, const struct to_seal *blobs, size_t n)
{
	sys_crash_point("commit.tidying");
	int rc = remove_metadata(r, version_id);
	if (rc == 0)
		rc = staging_empty(r, version_id);
	sys_crash_point("commit.staging-emptied");
	if (rc == 0)
		rc = seal_all(r, blobs, n);
	sys_crash_point("commit.sealed");
	if (rc == 0)
		rc = drafts_remove(r->drafts, version_id);
	if (rc < 0)
		log_warning(r->log, "what the commit of version %lld left cannot be tidied (the next mount tries again): %s", (long long)version_id, strerror(-rc));
}

struct staging { struct registry *r; int64_t version_id; size_t n; struct to_seal blobs[]; };

static void clear_staging_job(void *arg)
{
	struct staging *s = arg;
	clear_and_seal(s->r, s->version_id, s->blobs, s->n);
	free(s);
}

static void clear_staging(struct commit_work *w)
{
	struct staging *s = malloc(sizeof *s + w->n_items * sizeof s->blobs[0]);
	if (!s)
		return; /* the next mount does it */
	*s = (struct staging){.r = w->r, .version_id = w->v.id, .n = w->n_items};
	for (size_t i = 0; i < w->n_items; i++)
		s->blobs[i] = (struct to_seal){w->items[i].id, w->items[i].ret_inode}; /* also those that were there: an earlier try may have left our own file unsealed */
	if (workq_submit_for(w->tree.n <= STAGING_SMALL ? w->r->tidying : w->r->jobs, w->v.uid, clear_staging_job, s) < 0)
		clear_staging_job(s);
}

struct seal_list { struct to_seal *blobs; size_t n, cap; };

static int collect_blob(const char *path, const struct catalog_file *file, void *arg)
{
	struct seal_list *l = arg;
	if (file->type != CATALOG_FILE)
		return 0;
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct to_seal *blobs = reallocarray(l->blobs, cap, sizeof *blobs);
		if (!blobs)
			return -ENOMEM;
		l->blobs = blobs;
		l->cap = cap;
	}
	l->blobs[l->n++] = (struct to_seal){.id = file->blob};
	return 0;
}

void commit_clear_staging(struct registry *r, int64_t version_id)
{
	struct seal_list l = {0};
	struct catalog_conn *conn = NULL;
	int rc = ahead_clear(r, version_id); /* of a draft that was discarded */
	if (rc == 0)
		rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_file_list(conn, version_id, collect_blob, &l);
	catalog_read_end(conn);
	if (rc < 0)
		log_warning(r->log, "cannot clear what version %lld left behind: %s", (long long)version_id, strerror(-rc));
	else
		clear_and_seal(r, version_id, l.blobs, l.n);
	free(l.blobs);
}

/* ---- all of it ---- */

#define STOP_LOOK_NS 100000000LL

/* Is the commit to stop? Up to its transaction it may, at any point; where it reads and hashes, which alone may take hours, it asks. */
bool commit_is_to_stop(void *arg)
{
	struct commit_work *w = arg;
	int64_t ending = atomic_load(&w->r->ending_ns), now = time_monotonic_ns();
	if (now - w->looked_ns < STOP_LOOK_NS)
		return false;
	w->looked_ns = now;
	if (ending != 0 && (now - ending) / 1000000 >= REGISTRY_GRACE_MS)
		w->stopped = "the drive is about to end";
	else if (w->tid > 0 && caller_is_dying(w->tid))
		w->stopped = "who asked for it was killed";
	return w->stopped != NULL;
}

int commit_refuse_stopped(struct commit_work *w) { return fault_set(w->f, EINTR, "%s", w->stopped); }

struct look { struct commit_work *w; int rc; };

static int look_at_file(const struct draft_entry *e, int fd, void *arg)
{
	struct look *l = arg;
	return l->rc = commit_is_to_stop(l->w) ? commit_refuse_stopped(l->w) : commit_check_file(l->w, e, fd);
}

static int hash(struct commit_work *w)
{
	int rc = draft_hash_until(w->d, &w->tree, commit_is_to_stop, w, w->f);
	return rc == -ECANCELED && w->stopped ? commit_refuse_stopped(w) : rc;
}

static int scan(struct commit_work *w)
{
	struct fault why = FAULT_INIT;
	struct look l = {.w = w};
	int rc = draft_scan_visit(w->d, look_at_file, &l, &w->tree, &why);
	if (l.rc < 0)
		return l.rc;
	if (rc == -EINVAL)
		return refuse(w->f, VERDICT_SPECIAL_FILE, "%s", why.text);
	if (rc < 0) {
		*w->f = why;
		return refuse_system(w->f, rc, "%s cannot be read", w->label);
	}
	return 0;
}

static int prepare(struct commit_work *w)
{
	int rc = scan(w);
	if (rc < 0)
		return rc;
	if (w->tree.n_files == 0)
		return refuse(w->f, VERDICT_EMPTY_DRAFT, "%s holds no file: there is nothing to commit", w->label);
	rc = commit_check_rest(w);
	if (rc == 0)
		rc = hash(w);
	sys_crash_point("commit.hashed");
	if (rc == 0)
		rc = lineage_prepare(w->r, &w->v, &w->metadata, &w->lineage);
	if (rc == 0 && !w->has_metadata)
		rc = commit_write_metadata(w);
	sys_crash_point("commit.metadata-written");
	return rc == 0 ? about_prepare(w) : rc;
}

static void label_fault(const struct commit_work *w, int rc)
{
	struct fault *f = w->f;
	if (f->error && !strstr(f->text, w->label)) {
		struct fault inner = *f;
		fault_set(f, inner.error, "%s is not committed: %s", w->label, inner.text);
		f->verdict = inner.verdict;
	}
	refuse_system(f, rc, "%s is not committed", w->label);
}

static void finish(struct commit_work *w)
{
	struct registry *r = w->r;
	sys_crash_point("commit.recorded");
	draft_finish(w->d);
	live_remove(r->live, w->v.id);
	log_info(r->log, "%s committed: %u %s, %llu bytes", w->label, w->tree.n_files, plural(w->tree.n_files, "file", "files"), (unsigned long long)w->tree.size);
	registry_emit(r, REGISTRY_COMMITTED, w->v.model_id, w->v.id, w->v.number);
	clear_staging(w);
}

/* f is not NULL. */
static int commit_draft(struct registry *r, const struct registry_actor *who, const struct catalog_version *v, struct draft *d, const char *message, struct fault *f)
{
	struct commit_work w = {.r = r, .v = *v, .d = d, .message = message, .f = f, .generated = -1, .tid = who->tid, .looked_ns = time_monotonic_ns()};
	version_label(r, v->model_id, v->number, w.label);
	int rc = draft_freeze(d, f);
	if (rc == -EROFS)
		return refuse(f, VERDICT_NOT_DRAFT, "%s is no draft any more", w.label);
	bool frozen = rc == 0;
	if (rc == 0)
		rc = prepare(&w);
	if (rc == 0)
		rc = commit_record(&w);
	if (rc == 0) {
		finish(&w);
	} else {
		label_fault(&w, rc);
		if (w.generated >= 0)
			sys_unlinkat(r->dirfd, w.generated_path, 0);
		if (frozen)
			draft_thaw(d);
	}
	work_release(&w);
	return rc;
}

static int find_committable(struct registry *r, int64_t version_id, struct catalog_version *v, struct fault *f)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_version_get(conn, version_id, v);
	return rc ? refuse_system(f, rc, "cannot find the version") : 0;
}

int registry_commit(struct registry *r, const struct registry_actor *who, int64_t version_id, const char *message, struct fault *f)
{
	struct fault own = FAULT_INIT;
	struct catalog_version v;
	char label[VERSION_LABEL_MAX];
	bool writable;
	auto_draft struct draft *d = NULL;
	f = f ? f : &own;
	int rc = find_committable(r, version_id, &v, f);
	if (rc < 0 || v.state == CATALOG_COMMITTED)
		return rc;
	version_label(r, v.model_id, v.number, label);
	if (v.state != CATALOG_DRAFT)
		return refuse(f, VERDICT_NOT_DRAFT, "%s is %s: only a draft can be committed", label, catalog_state_name(v.state));
	if (r->read_only)
		return refuse(f, VERDICT_READ_ONLY, "the drive is mounted read-only: %s stays a draft", label);
	char what[VERSION_LABEL_MAX + 32];
	snprintf(what, sizeof what, "%s is not committed", label);
	rc = allow_version(r, who, &v, what, f);
	if (rc < 0)
		return rc; /* no reason that the draft's own people should find at it */
	rc = registry_draft_get(r, version_id, &d, &writable);
	if (rc == 0 && !writable)
		return refuse(f, VERDICT_ELSEWHERE, "%s is served by another mount of the store: commit it there", label);
	if (rc == 0)
		rc = commit_draft(r, who, &v, d, message, f);
	else if (rc == -ENOENT)
		rc = refuse(f, VERDICT_NOT_DRAFT, "%s is no draft any more", label);
	else
		refuse_system(f, rc, "%s cannot be opened", label);
	if (rc < 0 && find_committable(r, version_id, &v, NULL) == 0 && v.state == CATALOG_COMMITTED) {
		*f = (struct fault)FAULT_INIT;
		return 0; /* somebody else was quicker: it is what was asked for */
	}
	if (rc < 0 && !(rc == -EINTR && atomic_load(&r->ending_ns))) /* what the end of a drive cut off is still to be decided: live.c, recall_run */
		version_reason(r, version_id, f->text, false);
	return rc;
}
