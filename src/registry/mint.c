/* Mint: the next number of a model and the draft behind it.
 *
 * One transaction takes the number and makes the directory drafts/<id>, so that a draft that can be seen can be used. The mint is
 * not synced by itself: what a user makes durable in the draft (fsync, commit) makes the mint durable before (registry_draft_anchor). */
#include "registry.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* The highest number that may be jumped to: 20251126 is somebody's way to count, v999999999 a slip that would end the model for ever, since no number comes twice. What is above is reached one
 * by one only. */
#define NUMBER_JUMP_MAX (LAYOUT_NUMBER_MAX - 100000000)

struct mint_job {
	struct registry *r;
	const struct registry_actor *who;
	int64_t model_id;
	uint32_t exact; /* 0: the next */
	mode_t mode;
	struct registry_once *once; /* or NULL */
	const char *author;
	struct catalog_run run;
	struct catalog_version v;
	int lock_fd; /* we serve it from its first moment */
	struct fault fault;
};

static int choose_number(struct mint_job *j, struct catalog_model *m)
{
	uint32_t number = j->exact ? j->exact : m->last_number + 1;
	if (number <= m->last_number)
		return refuse(&j->fault, VERDICT_NUMBER_USED, "v%u of %s cannot be minted: numbers up to v%u were used, and none comes twice", number, m->path,
			m->last_number);
	if (number > LAYOUT_NUMBER_MAX)
		return refuse(&j->fault, VERDICT_NUMBERS_OUT, "%s has used its last number, v%u", m->path, m->last_number);
	if (number > NUMBER_JUMP_MAX && number > m->last_number + 1)
		return refuse(&j->fault, VERDICT_NUMBER_FAR, "v%u of %s cannot be minted: numbers never come again, so that few would be left after it; the next is v%u, and none above v%u can be chosen",
			number, m->path, m->last_number + 1, NUMBER_JUMP_MAX);
	m->last_number = number;
	return 0;
}

static void drop_lock(struct mint_job *j)
{
	if (j->lock_fd >= 0)
		close(take_fd(&j->lock_fd));
}

/* In the transaction, hence under the store's lock: nobody else is minting. */
static int make_directory(struct mint_job *j)
{
	struct registry *r = j->r;
	drop_lock(j); /* of a first try that was undone */
	int rc = drafts_make(r->drafts, j->v.id, j->v.uid, j->v.gid, j->v.mode);
	if (rc == -EEXIST) { /* of a mint that was undone, or taken back by a power cut */
		rc = staging_put_away(r, j->v.id);
		if (rc == 0)
			rc = drafts_make(r->drafts, j->v.id, j->v.uid, j->v.gid, j->v.mode);
	}
	if (rc == 0) {
		sys_crash_point("mint.directory-made");
		rc = j->lock_fd = live_lock_draft(r, j->v.id);
		if (rc < 0)
			staging_put_away(r, j->v.id);
	}
	return rc < 0 ? rc : 0;
}

static int mint_write(struct catalog_conn *conn, void *arg)
{
	struct mint_job *j = arg;
	struct catalog_model m;
	struct catalog_dir dir;
	j->fault = (struct fault)FAULT_INIT;
	int rc = catalog_model_get(conn, j->model_id, &m);
	if (rc == 0)
		rc = catalog_dir_get(conn, j->model_id, &dir);
	if (rc == 0 && dir.hidden)
		rc = -ENOENT; /* removed since it was looked up */
	if (rc == 0)
		rc = choose_number(j, &m);
	if (rc == 0)
		rc = catalog_model_update(conn, &m);
	int64_t run_id = 0;
	if (rc == 0)
		rc = catalog_run_add(conn, &j->run, &run_id);
	if (rc != 0)
		return rc;
	bool inherit = (dir.mode & S_ISGID) != 0;
	j->v = (struct catalog_version){.model_id = j->model_id, .number = m.last_number, .state = CATALOG_DRAFT, .minted_ns = time_now_ns(), .uid = j->who->uid,
		.gid = inherit ? dir.gid : j->who->gid, .mode = j->mode | (inherit ? S_ISGID : 0), .run_id = run_id, .owner = j->r->mount_id};
	rc = catalog_version_add(conn, &j->v, j->author, &j->v.id);
	if (rc == 0 && j->once) /* before anybody can see it. Should the transaction come to nothing, no row has both */
		*j->once = (struct registry_once){j->v.id, j->v.minted_ns};
	return rc < 0 ? rc : make_directory(j);
}

static int mint_and_serve(struct mint_job *j, const struct caller *c, bool exclusive, struct fault *f)
{
	struct registry *r = j->r;
	struct live_mint *place;
	int rc = live_mint_begin(r->live, j->model_id, c, exclusive, &place);
	if (rc == -EEXIST)
		return refuse(f, VERDICT_EXISTS, "this run holds an open draft of the model already: latest leads to it");
	if (rc == -EMFILE || rc == -EDQUOT) {
		fault_set(f, -rc, rc == -EMFILE ? "cannot mint a version: the drive has as many drafts as its limit of open files allows; commit or discard some"
			: "cannot mint a version: you have as many drafts as one user may have on this drive; commit or discard some");
		if (f)
			f->verdict = VERDICT_SYSTEM;
		return rc;
	}
	if (rc < 0)
		return refuse_system(f, rc, "cannot mint");
	rc = catalog_write(r->catalog, false, mint_write, j);
	if (rc < 0) {
		live_mint_failed(r->live, place);
		drop_lock(j);
		if (f && j->fault.error)
			*f = j->fault;
		return refuse_system(f, rc, "cannot mint a version");
	}
	sys_crash_point("mint.recorded");
	rc = live_mint_done(r->live, place, &j->v, take_fd(&j->lock_fd));
	if (rc < 0) /* the draft is whole and stays; it is taken up again at its first use */
		log_warning(r->log, "draft %lld is not served yet: %s", (long long)j->v.id, strerror(-rc));
	return 0;
}

/* -ENOENT: it was not carried out. */
static int recall_mint(struct registry *r, const struct registry_once *once, struct catalog_version *ret)
{
	struct catalog_version v;
	auto_read struct catalog_conn *conn = NULL;
	if (!once || !once->version_id)
		return -ENOENT;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_version_get(conn, once->version_id, &v);
	if (rc == 0 && v.minted_ns != once->minted_ns)
		rc = -ENOENT;
	if (rc == 0)
		*ret = v;
	return rc;
}

int registry_mint(struct registry *r, const struct registry_actor *who, int64_t model_id, const char *name, mode_t mode, struct catalog_version *ret,
	struct fault *f)
{
	return registry_mint_once(r, who, model_id, name, mode, NULL, ret, f);
}

int registry_mint_once(struct registry *r, const struct registry_actor *who, int64_t model_id, const char *name, mode_t mode, struct registry_once *once,
	struct catalog_version *ret, struct fault *f)
{
	struct caller c;
	bool observed;
	char author[64];
	struct mint_job j = {.r = r, .who = who, .model_id = model_id, .mode = mode & 01777, .once = once, .author = author, .lock_fd = -1};
	enum layout_child kind = layout_classify_child(name, &j.exact);
	if (kind != LAYOUT_CHILD_VERSION)
		j.exact = 0;
	if (recall_mint(r, once, ret) == 0)
		return 0;
	if (r->read_only)
		return refuse(f, VERDICT_READ_ONLY, "the drive is mounted read-only: no version can be minted");
	if (kind != LAYOUT_CHILD_VERSION && kind != LAYOUT_CHILD_LATEST && kind != LAYOUT_CHILD_NEXT)
		return kind == LAYOUT_CHILD_BEST
			? refuse(f, VERDICT_RESERVED, "'best' is made by MintFS from the metrics: mkdir latest mints a version")
			: refuse(f, VERDICT_NAME, "'%s' cannot be a version: mkdir latest mints the next, mkdir v7 exactly number 7", name);
	int rc = allow_in_model(r, who, model_id, "no version can be minted", f);
	if (rc < 0)
		return rc;
	caller_cache_identify(r->callers, who->tid, who->uid, who->gid, &c);
	run_leave_out_service(&c);
	caller_user_name(who->uid, author, sizeof author);
	rc = run_describe(r, &c, author, &j.run, &observed);
	if (rc < 0)
		return refuse_system(f, rc, "cannot record the run");
	rc = mint_and_serve(&j, &c, kind == LAYOUT_CHILD_LATEST, f);
	if (rc == 0 && !observed)
		run_observe_minter(r, j.v.run_id, &j.run, who->uid, who->gid);
	catalog_run_release(&j.run);
	if (rc < 0)
		return rc;
	*ret = j.v;
	return 0;
}

int registry_draft_anchor(struct registry *r, int64_t version_id)
{
	auto_live struct live *l = live_find(r->live, version_id);
	if (!l || live_anchored(l))
		return 0;
	auto_close int root = sys_reopen(draft_root(live_draft(l)), O_RDONLY | O_DIRECTORY);
	if (root < 0)
		return root;
	int rc = sys_fsync(root);
	if (rc == 0)
		rc = drafts_sync(r->drafts);
	if (rc == 0)
		rc = catalog_sync(r->catalog);
	if (rc == 0)
		live_set_anchored(l);
	return rc;
}

/* A draft's tree may be gone although its row is there (recovery looks for -ENXIO). */
int registry_draft_get(struct registry *r, int64_t version_id, struct draft **ret, bool *ret_writable)
{
	auto_live struct live *l = live_find(r->live, version_id);
	if (l) {
		*ret = draft_ref(live_draft(l));
		*ret_writable = true;
		return 0;
	}
	struct catalog_version v;
	struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_version_get(conn, version_id, &v);
	catalog_read_end(conn);
	if (rc != 0)
		return rc;
	if (v.state != CATALOG_DRAFT)
		return -ENOENT;
	rc = r->read_only ? -EWOULDBLOCK : live_adopt(r->live, &v, &l);
	if (rc == 0) {
		*ret = draft_ref(live_draft(l));
		*ret_writable = true;
		return 0;
	}
	if (rc == -ESTALE) /* committed or discarded meanwhile */
		return -ENOENT;
	if (rc == -ENOENT)
		return -ENXIO;
	if (rc != -EWOULDBLOCK)
		return rc;
	rc = draft_get(r->drafts, version_id, ret);
	if (rc == 0)
		*ret_writable = false;
	return rc;
}

int registry_draft_mount(struct registry *r, const struct catalog_version *v, struct catalog_mount *ret)
{
	bool alive;
	if (v->owner == 0 || v->owner == r->mount_id)
		return -ENOENT;
	auto_read struct catalog_conn *conn = NULL;
	struct catalog_mount m;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_mount_get(conn, v->owner, &m);
	if (rc == 0)
		rc = registry_mount_alive(r, &m, &alive);
	if (rc != 0)
		return rc;
	if (!alive)
		return -ENOENT;
	*ret = m;
	return 0;
}

void registry_draft_joined(struct registry *r, int64_t version_id, const struct registry_actor *who)
{
	auto_live struct live *l = live_find(r->live, version_id);
	if (l)
		live_joined(l, who);
	readers_wrote(r->readers, version_id, who);
}
