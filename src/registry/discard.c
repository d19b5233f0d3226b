/* Discard: a draft is given up; its number is spent.
 *
 * The state first, and durably where there is something to lose, then the tree: after a death in between the next mount removes the tree; never does a draft
 * come back with half of its files. */
#include "lineage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define ONLY_IF_EMPTY (REGISTRY_DISCARD_EMPTY_ONLY | DISCARD_NO_FILES)

static int discard_write(struct catalog_conn *conn, void *arg) { return catalog_version_set_state(conn, *(int64_t *)arg, CATALOG_DISCARDED); }

static int has_names(struct draft *d, bool *ret)
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	int rc = sys_fdopendir(sys_reopen(draft_root(d), O_RDONLY | O_DIRECTORY), &dir);
	if (rc == 0)
		rc = sys_readdir(dir, &e);
	if (rc < 0)
		return rc;
	*ret = rc > 0;
	return 0;
}

struct remove_job { struct registry *r; int64_t id; };

static void remove_job(void *arg)
{
	struct remove_job *j = arg;
	if (ahead_clear(j->r, j->id) == 0)
		staging_remove(j->r, j->id);
	free(j);
}

static void remove_tree_later(struct registry *r, int64_t id, uid_t uid)
{
	struct remove_job *j = malloc(sizeof *j);
	if (!j)
		return; /* the next mount does it */
	*j = (struct remove_job){r, id};
	if (workq_submit_for(r->jobs, uid, remove_job, j) < 0)
		free(j);
}

static int find_draft(struct registry *r, int64_t version_id, struct catalog_version *v, char *label, struct fault *f)
{
	struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_version_get(conn, version_id, v);
	catalog_read_end(conn);
	if (rc != 0)
		return refuse_system(f, rc, "cannot find the version");
	version_label(r, v->model_id, v->number, label);
	if (v->state == CATALOG_COMMITTED)
		return refuse(f, VERDICT_IMMUTABLE, "%s is committed: it cannot be discarded", label);
	if (v->state != CATALOG_DRAFT)
		return refuse(f, VERDICT_NOT_DRAFT, "%s is %s already", label, catalog_state_name(v->state));
	return r->read_only ? refuse(f, VERDICT_READ_ONLY, "the drive is mounted read-only: %s stays", label) : 0;
}

/* Somebody else was quicker: the answer is the one that is given from now on. */
static int gone_meanwhile(struct registry *r, int64_t version_id, struct fault *f)
{
	struct catalog_version v;
	char label[VERSION_LABEL_MAX];
	if (f)
		*f = (struct fault)FAULT_INIT;
	int rc = find_draft(r, version_id, &v, label, f);
	return rc < 0 ? rc : refuse(f, VERDICT_NOT_DRAFT, "%s is no draft any more", label);
}

static int discard_frozen(struct registry *r, const struct catalog_version *v, struct draft *d, unsigned flags, const char *label, struct fault *f)
{
	bool empty = true, names = false;
	int64_t id = v->id;
	int rc = 0;
	if (flags & REGISTRY_DISCARD_EMPTY_ONLY)
		rc = has_names(d, &names);
	else if (flags & DISCARD_NO_FILES)
		rc = draft_is_empty(d, &empty);
	if (rc == 0 && (names || !empty))
		return refuse(f, VERDICT_NOT_EMPTY, "%s is not empty", label);
	if (rc == 0 && !(flags & ONLY_IF_EMPTY))
		lineage_keep(r, v, d); /* an experiment is never forgotten */
	if (rc == 0)
		rc = catalog_write(r->catalog, !(flags & ONLY_IF_EMPTY), discard_write, &id);
	if (rc == -ESTALE)
		return gone_meanwhile(r, id, f);
	return rc < 0 ? refuse_system(f, rc, "cannot discard %s", label) : 0;
}

/* rmdir is asked by the model's directory, as on any file system; a draft with all its files goes by the rules for versions. who NULL: MintFS itself. */
static int check_right(struct registry *r, const struct registry_actor *who, const struct catalog_version *v, unsigned flags, const char *label, struct fault *f)
{
	char what[VERSION_LABEL_MAX + 32];
	snprintf(what, sizeof what, "%s is not discarded", label);
	if (!who)
		return 0;
	return flags & REGISTRY_DISCARD_EMPTY_ONLY ? allow_in_model(r, who, v->model_id, what, f) : allow_version(r, who, v, what, f);
}

int registry_discard(struct registry *r, const struct registry_actor *who, int64_t version_id, unsigned flags, struct fault *f)
{
	struct catalog_version v;
	char label[VERSION_LABEL_MAX];
	bool writable;
	auto_draft struct draft *d = NULL;
	int rc = find_draft(r, version_id, &v, label, f);
	if (rc == 0)
		rc = check_right(r, who, &v, flags, label, f);
	if (rc < 0)
		return rc;
	rc = registry_draft_get(r, version_id, &d, &writable);
	if (rc == -ENOENT)
		return gone_meanwhile(r, version_id, f);
	if (rc < 0)
		return refuse_system(f, rc, "cannot open %s", label);
	if (!writable)
		return refuse(f, VERDICT_ELSEWHERE, "%s is served by another mount of the store: discard it there", label);
	if (!(flags & (REGISTRY_DISCARD_FORCE | ONLY_IF_EMPTY)) && draft_open_files(d) > 0)
		return refuse(f, VERDICT_BUSY, "%s has open files: a training may be writing it", label);
	struct fault why = FAULT_INIT;
	rc = draft_freeze(d, &why);
	if (rc == -EROFS)
		return gone_meanwhile(r, version_id, f);
	if (rc < 0 && !(flags & REGISTRY_DISCARD_FORCE))
		return refuse(f, VERDICT_BUSY, "%s is not discarded: %s", label, why.error ? why.text : strerror(-rc));
	bool frozen = rc == 0;
	rc = discard_frozen(r, &v, d, flags, label, f);
	if (rc < 0) {
		if (frozen)
			draft_thaw(d);
		return rc;
	}
	sys_crash_point("discard.recorded");
	draft_finish(d);
	live_remove(r->live, version_id);
	log_info(r->log, "%s discarded", label);
	registry_emit(r, REGISTRY_DISCARDED, v.model_id, version_id, v.number);
	remove_tree_later(r, version_id, v.uid);
	return 0;
}
