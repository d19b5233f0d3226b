/* Who may do what with models and versions: the rules that the kernel cannot know, for the drive and for the command line alike.
 *
 *   mint, set or drop an alias, remove an empty draft    who may write the model's directory; where it is sticky, aliases are moved and dropped by its owner
 *   commit, discard, retire                              who made the version (or to whom it was given by chown), and who may write the model's directory as
 *                                                        its owner or by its group: others may not, however open a directory is
 *
 * root and the owner of the store may do everything. On the drive the kernel has asked for the mode of the directory before it asks us, and files and directories
 * within a draft are its business alone. The groups of a caller that cannot be seen are not known: then the kernel's answer stands where it has asked for the same,
 * and else he is in none. */
#include "registry.h"

#include <errno.h>

#define OWNER_WRITES 0200
#define GROUP_WRITES 0020
#define OTHERS_WRITE 0002

static bool is_master(const struct registry *r, const struct registry_actor *who) { return who->uid == 0 || who->uid == r->owner; }

static int in_group(const struct registry_actor *who, gid_t group)
{
	return who->gid == group ? 1 : caller_in_group(who->tid, who->uid, who->gid, group);
}

static int get_dir(struct registry *r, int64_t id, struct catalog_dir *ret)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	return rc < 0 ? rc : catalog_dir_get(conn, id, ret);
}

/* As the kernel: only the first class that fits counts. *ret_class: the bit that was asked, 0 if the groups are not known. */
static bool may_write(const struct registry_actor *who, const struct catalog_dir *d, mode_t *ret_class)
{
	int member = 0;
	*ret_class = OTHERS_WRITE;
	if (who->uid == d->uid) {
		*ret_class = OWNER_WRITES;
	} else if ((member = in_group(who, d->gid)) > 0) {
		*ret_class = GROUP_WRITES;
	} else if (member < 0) {
		*ret_class = 0;
		return (d->mode & GROUP_WRITES) && (d->mode & OTHERS_WRITE);
	}
	return (d->mode & *ret_class) != 0;
}

static int deny(struct registry *r, const struct registry_actor *who, const struct catalog_dir *d, const char *what, struct fault *f)
{
	char owner[64], path[CATALOG_PATH_MAX] = "the model";
	registry_dir_path(r, d->id, path, sizeof path);
	caller_user_name(d->uid, owner, sizeof owner);
	return refuse(f, VERDICT_DENIED, "%s: %s belongs to %s (mode %04o), and user %u may not change what stands in it", what, path, owner, (unsigned)d->mode,
		(unsigned)who->uid);
}

int allow_in_model(struct registry *r, const struct registry_actor *who, int64_t model_id, const char *what, struct fault *f)
{
	struct catalog_dir d;
	mode_t asked;
	if (is_master(r, who))
		return 0;
	int rc = get_dir(r, model_id, &d);
	if (rc < 0)
		return refuse_system(f, rc, "%s", what);
	return may_write(who, &d, &asked) || !asked ? 0 : deny(r, who, &d, what, f);
}

/* A link of a sticky directory belongs to the directory's owner. */
int allow_alias_change(struct registry *r, const struct registry_actor *who, int64_t model_id, const char *what, struct fault *f)
{
	struct catalog_dir d;
	int rc = allow_in_model(r, who, model_id, what, f);
	if (rc < 0 || is_master(r, who))
		return rc;
	rc = get_dir(r, model_id, &d);
	if (rc < 0)
		return refuse_system(f, rc, "%s", what);
	return (d.mode & S_ISVTX) && d.uid != who->uid ? deny(r, who, &d, what, f) : 0;
}

static bool owns_draft(struct registry *r, const struct registry_actor *who, const struct catalog_version *v)
{
	auto_draft struct draft *d = NULL;
	struct stat st;
	return v->state == CATALOG_DRAFT && draft_get(r->drafts, v->id, &d) == 0 && sys_fstat(draft_root(d), &st) == 0 && st.st_uid == who->uid;
}

int allow_version(struct registry *r, const struct registry_actor *who, const struct catalog_version *v, const char *what, struct fault *f)
{
	struct catalog_dir d;
	mode_t asked;
	if (is_master(r, who) || who->uid == v->uid || owns_draft(r, who, v))
		return 0;
	int rc = get_dir(r, v->model_id, &d);
	if (rc < 0)
		return refuse_system(f, rc, "%s", what);
	if (may_write(who, &d, &asked) && (asked & (OWNER_WRITES | GROUP_WRITES)))
		return 0;
	char maker[64], owner[64];
	caller_user_name(v->uid, maker, sizeof maker);
	caller_user_name(d.uid, owner, sizeof owner);
	return refuse(f, VERDICT_DENIED, "%s: that is for %s, who made it, for %s, whose model it is, and for a group that may write the model; user %u is none of them",
		what, maker, owner, (unsigned)who->uid);
}
