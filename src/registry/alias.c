/* Aliases: named, movable links to committed versions of a model; every change is kept. */
#include "registry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A link that is renamed so soon after it was made is the temporary name of `ln -sfn` or of a program that replaces atomically. */
#define PASSING_NAME_NS (10 * NS_PER_SEC)

struct alias_job {
	int64_t model_id;
	const char *name, *target, *from;
	bool no_replace;
	struct catalog_alias a;
	const char *author;
	struct fault fault;
};

static int check_name(const char *name, struct fault *f)
{
	struct fault why = FAULT_INIT;
	switch (layout_classify_child(name, NULL)) {
	case LAYOUT_CHILD_ALIAS:
		return 0;
	case LAYOUT_CHILD_LATEST:
	case LAYOUT_CHILD_NEXT:
	case LAYOUT_CHILD_BEST:
		return refuse(f, VERDICT_RESERVED, "'%s' is made by MintFS itself and cannot be set by hand: choose another name, such as production", name);
	case LAYOUT_CHILD_VERSION:
		return refuse(f, VERDICT_RESERVED, "'%s' is the name of a version: an alias needs a name of its own, such as production", name);
	case LAYOUT_CHILD_INVALID:
		break;
	}
	layout_check_id(name, &why);
	return refuse(f, VERDICT_NAME, "'%s' cannot be an alias: %s", name, why.error ? why.text : "v with digits is kept for versions");
}

/* "v3", "./v3", "v3/", or the name of another alias of the model */
static int find_target(struct catalog_conn *conn, struct alias_job *j, uint32_t *ret_number)
{
	char name[CATALOG_NAME_MAX];
	const char *t = j->target;
	struct catalog_alias other;
	struct catalog_version v;
	while (!strncmp(t, "./", 2))
		t += 2;
	size_t len = strlen(t);
	while (len > 0 && t[len - 1] == '/')
		len--;
	if (len == 0 || len >= sizeof name || memchr(t, '/', len))
		return refuse(&j->fault, VERDICT_BAD_ALIAS, "an alias leads to a version of the same model, such as v3; '%s' is none", j->target);
	memcpy(name, t, len);
	name[len] = '\0';
	uint32_t number;
	enum layout_child kind = layout_classify_child(name, &number);
	if (kind == LAYOUT_CHILD_ALIAS && catalog_alias_find(conn, j->model_id, name, &other) == 0) {
		*ret_number = other.number;
		return 0;
	}
	int rc = kind == LAYOUT_CHILD_VERSION ? catalog_version_find(conn, j->model_id, number, &v) : -ENOENT;
	if (rc == -ENOENT)
		return refuse(&j->fault, VERDICT_BAD_ALIAS, "the alias %s cannot lead to '%s': the model has no such version", j->name, name);
	if (rc == 0 && v.state != CATALOG_COMMITTED)
		return refuse(&j->fault, VERDICT_BAD_ALIAS, "the alias %s cannot lead to %s: it is %s, and aliases lead to committed versions only", j->name, name,
			v.state == CATALOG_DRAFT ? "a draft" : catalog_state_name(v.state));
	if (rc == 0)
		*ret_number = number;
	return rc;
}

/* May who do this to a name? One that is there already is moved or dropped. */
static int check_right(struct registry *r, const struct registry_actor *who, const struct alias_job *j, bool exists, const char *verb, struct fault *f)
{
	char what[CATALOG_NAME_MAX + 64];
	snprintf(what, sizeof what, "the alias %s cannot be %s", j->name, verb);
	return exists ? allow_alias_change(r, who, j->model_id, what, f) : allow_in_model(r, who, j->model_id, what, f);
}

static bool alias_exists(struct registry *r, int64_t model_id, const char *name)
{
	struct catalog_alias a;
	auto_read struct catalog_conn *conn = NULL;
	return catalog_read_begin(r->catalog, &conn) == 0 && catalog_alias_find(conn, model_id, name, &a) == 0;
}

static int set_write(struct catalog_conn *conn, void *arg)
{
	struct alias_job *j = arg;
	j->fault = (struct fault)FAULT_INIT;
	int rc = find_target(conn, j, &j->a.number);
	return rc < 0 ? rc : catalog_alias_set(conn, &j->a, j->author, &j->a.id);
}

static int alias_write(struct registry *r, const struct registry_actor *who, struct alias_job *j, catalog_write_fn *fn, struct fault *f)
{
	char author[64];
	if (r->read_only)
		return refuse(f, VERDICT_READ_ONLY, "the drive is mounted read-only: aliases stay as they are");
	caller_user_name(who->uid, author, sizeof author);
	j->author = author;
	j->a = (struct catalog_alias){.model_id = j->model_id, .uid = who->uid, .gid = who->gid, .set_ns = time_now_ns()};
	text_copy(j->a.name, sizeof j->a.name, j->name);
	sys_crash_point("alias.begin");
	int rc = catalog_write(r->catalog, true, fn, j);
	sys_crash_point("alias.recorded");
	if (rc < 0 && f && j->fault.error)
		*f = j->fault;
	return rc;
}

int registry_alias_set(struct registry *r, const struct registry_actor *who, int64_t model_id, const char *name, const char *target, struct catalog_alias *ret,
	struct fault *f)
{
	struct alias_job j = {.model_id = model_id, .name = name, .target = target};
	int rc = check_name(name, f);
	if (rc == 0)
		rc = check_right(r, who, &j, alias_exists(r, model_id, name), "set", f);
	if (rc < 0)
		return rc;
	rc = alias_write(r, who, &j, set_write, f);
	if (rc < 0)
		return refuse_system(f, rc, "the alias %s cannot be set", name);
	*ret = j.a;
	log_info(r->log, "alias %s leads to v%u (model %lld)", name, j.a.number, (long long)model_id);
	return 0;
}

static int drop_write(struct catalog_conn *conn, void *arg)
{
	struct alias_job *j = arg;
	return catalog_alias_drop(conn, j->model_id, j->name, j->a.set_ns, j->a.uid, j->author);
}

int registry_alias_drop(struct registry *r, const struct registry_actor *who, int64_t model_id, const char *name, struct fault *f)
{
	struct alias_job j = {.model_id = model_id, .name = name};
	int rc = check_name(name, f);
	if (rc == 0)
		rc = check_right(r, who, &j, true, "dropped", f);
	if (rc < 0)
		return rc;
	rc = alias_write(r, who, &j, drop_write, f);
	if (rc == -ENOENT)
		return refuse(f, VERDICT_NOT_FOUND, "the model has no alias %s", name);
	if (rc == 0)
		log_info(r->log, "alias %s dropped (model %lld)", name, (long long)model_id);
	return rc < 0 ? refuse_system(f, rc, "the alias %s cannot be dropped", name) : 0;
}

static int rename_write(struct catalog_conn *conn, void *arg)
{
	struct alias_job *j = arg;
	struct catalog_alias from, to;
	j->fault = (struct fault)FAULT_INIT;
	int rc = catalog_alias_find(conn, j->model_id, j->from, &from);
	if (rc < 0)
		return rc;
	if (j->no_replace && catalog_alias_find(conn, j->model_id, j->name, &to) == 0)
		return refuse(&j->fault, VERDICT_EXISTS, "the model has an alias %s already", j->name);
	j->a.number = from.number;
	rc = catalog_alias_set(conn, &j->a, j->author, &j->a.id);
	return rc < 0 ? rc : catalog_alias_take_back(conn, j->model_id, j->from, j->a.set_ns - PASSING_NAME_NS, j->a.set_ns, j->a.uid, j->author);
}

int registry_alias_rename(struct registry *r, const struct registry_actor *who, int64_t model_id, const char *from, const char *to, bool no_replace, struct fault *f)
{
	struct alias_job j = {.model_id = model_id, .name = to, .from = from, .no_replace = no_replace};
	int rc = check_name(from, f);
	if (rc == 0)
		rc = check_name(to, f);
	if (rc == 0)
		rc = check_right(r, who, &j, true, "set", f);
	if (rc < 0 || !strcmp(from, to))
		return rc;
	rc = alias_write(r, who, &j, rename_write, f);
	if (rc == -ENOENT)
		return refuse(f, VERDICT_NOT_FOUND, "the model has no alias %s", from);
	if (rc == 0)
		log_info(r->log, "alias %s leads to v%u (model %lld)", to, j.a.number, (long long)model_id);
	return rc < 0 ? refuse_system(f, rc, "the alias %s cannot be renamed to %s", from, to) : 0;
}
