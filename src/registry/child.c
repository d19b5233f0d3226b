/* What stands in a model: versions, the generated links, aliases; and `latest`, which depends on who asks.
 *
 * Who is calling is read from /proc only where it can matter: when a draft of the model is open here, or the caller may be in mkdir. */
#include "registry.h"

#include <errno.h>
#include <string.h>

static int newest_committed(struct registry *r, int64_t model_id, uint32_t *ret_number)
{
	struct catalog_model m;
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_model_get(conn, model_id, &m);
	if (rc == 0 && m.newest_committed == 0)
		rc = -ENOENT;
	if (rc == 0)
		*ret_number = m.newest_committed;
	return rc;
}

int registry_latest(struct registry *r, int64_t model_id, const struct registry_actor *who, uint32_t *ret_number)
{
	if (who->tid != 0 && live_any(r->live, model_id)) {
		struct caller c;
		caller_cache_identify(r->callers, who->tid, who->uid, who->gid, &c);
		if (live_latest(r->live, model_id, &c, ret_number) == 0)
			return 0;
	}
	return newest_committed(r, model_id, ret_number);
}

int registry_best(struct registry *r, int64_t model_id, uint32_t *ret_number)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	return rc < 0 ? rc : catalog_best(conn, model_id, ret_number);
}

/* The kernel answers mkdir with EEXIST by itself once a lookup has found the name: so who is in mkdir does not find it, unless refused for good reason. */
static int find_latest(struct registry *r, int64_t model_id, const struct registry_actor *who, uint32_t *ret_number)
{
	if (who->tid == 0 || !caller_in_mkdir(r->callers, who->tid, "latest"))
		return registry_latest(r, model_id, who, ret_number);
	struct caller c;
	if (!live_any(r->live, model_id))
		return -ENOENT;
	caller_cache_identify(r->callers, who->tid, who->uid, who->gid, &c);
	return live_held(r->live, model_id, &c) ? live_latest(r->live, model_id, &c, ret_number) : -ENOENT;
}

static int find_version(struct registry *r, int64_t model_id, uint32_t number, struct catalog_version *ret)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_version_find(conn, model_id, number, ret);
	if (rc == 0 && ret->state != CATALOG_DRAFT && ret->state != CATALOG_COMMITTED)
		rc = -ENOENT;
	return rc;
}

static int find_alias(struct registry *r, int64_t model_id, const char *name, struct catalog_alias *ret)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	return rc < 0 ? rc : catalog_alias_find(conn, model_id, name, ret);
}

int registry_child_find(struct registry *r, int64_t model_id, const char *name, const struct registry_actor *who, struct registry_child *ret)
{
	struct registry_child c = {0};
	uint32_t number;
	int rc = -ENOENT;
	switch (layout_classify_child(name, &number)) {
	case LAYOUT_CHILD_VERSION:
		c.kind = REGISTRY_VERSION;
		c.number = number;
		rc = find_version(r, model_id, number, &c.version);
		break;
	case LAYOUT_CHILD_LATEST:
		c.kind = REGISTRY_LATEST;
		rc = find_latest(r, model_id, who, &c.number);
		break;
	case LAYOUT_CHILD_BEST:
		c.kind = REGISTRY_BEST;
		rc = registry_best(r, model_id, &c.number);
		break;
	case LAYOUT_CHILD_ALIAS:
		c.kind = REGISTRY_ALIAS;
		rc = find_alias(r, model_id, name, &c.alias);
		c.number = c.alias.number;
		break;
	case LAYOUT_CHILD_NEXT:
	case LAYOUT_CHILD_INVALID:
		break;
	}
	if (rc == 0)
		*ret = c;
	return rc;
}
