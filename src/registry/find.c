/* Find: what people ask for, turned into a query of the catalog, page by page. */
#include "registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 5000 /* versions found within one snapshot */

struct search {
	const struct registry_find *q;
	struct catalog_find find;
	struct catalog_condition *conditions;
	char prefix[CATALOG_PATH_MAX + 2], glob[CATALOG_PATH_MAX + 2];
	int64_t ids[PAGE];
	uint32_t n_ids, given;
};

static void search_free(struct search **s)
{
	if (*s)
		free((*s)->conditions);
	free(*s);
}

/* ---- where ---- */

static int set_pattern(struct search *s, const char *scope, size_t fixed, struct fault *f)
{
	if (text_copy(s->glob, sizeof s->glob, scope) < 0)
		return refuse(f, VERDICT_NAME, "the pattern for models is longer than %zu bytes", sizeof s->glob - 1);
	memcpy(s->prefix, scope, fixed);
	s->prefix[fixed] = '\0';
	s->find.prefix = s->prefix;
	s->find.glob = s->glob;
	return 0;
}

static int set_beginning(struct search *s, const char *scope)
{
	size_t len = strlen(scope);
	while (len && scope[len - 1] == '/')
		len--;
	if (len + 2 > sizeof s->prefix)
		return -ENAMETOOLONG;
	memcpy(s->prefix, scope, len);
	memcpy(s->prefix + len, "/", 2);
	text_copy(s->glob, sizeof s->glob, "*");
	s->find.prefix = s->prefix;
	s->find.glob = s->glob;
	return 0;
}

static int find_scope(struct registry *r, struct search *s, const char *scope, struct fault *f)
{
	struct registry_ref *ref;
	enum layout_kind kind;
	size_t fixed = scope ? strcspn(scope, "*?[") : 0;
	s->find.mode = -1;
	if (!scope || !*scope)
		return 0;
	for (int m = 0; m < LAYOUT_MODES; m++)
		if (!strcmp(scope, layout_mode_name((enum layout_mode)m))) {
			s->find.mode = m;
			return 0;
		}
	if (scope[fixed])
		return set_pattern(s, scope, fixed, f);
	if (layout_classify(scope, &kind, NULL, NULL) == 0 && kind == LAYOUT_SCOPE)
		return set_beginning(s, scope);
	ref = malloc(sizeof *ref);
	int rc = ref ? registry_resolve(r, scope, ref, f) : -ENOMEM;
	if (rc == 0 && ref->has_version)
		rc = refuse(f, VERDICT_NAME, "%s is a version: find looks in a mode, a model or a pattern of models", scope);
	if (rc == 0)
		s->find.model_id = ref->model.id;
	free(ref);
	return rc;
}

/* ---- conditions ---- */

/* What is not here may be an input all the same, of a version that came from another store. */
static int find_input_elsewhere(struct registry *r, struct catalog_condition *c)
{
	auto_free struct layout_ref *ref = malloc(sizeof *ref);
	auto_read struct catalog_conn *conn = NULL;
	uint32_t first = 1, last = LAYOUT_NUMBER_MAX;
	bool known = false;
	if (!ref)
		return -ENOMEM;
	if (layout_parse(c->text, ref, NULL) < 0 || strlen(ref->model.path) >= sizeof c->text)
		return -ENOENT;
	if (ref->child[0] && layout_classify_child(ref->child, &first) != LAYOUT_CHILD_VERSION)
		return -ENOENT;
	if (ref->child[0])
		last = first;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_elsewhere_known(conn, ref->model.path, first, last, &known);
	if (rc < 0 || !known)
		return rc < 0 ? rc : -ENOENT;
	text_copy(c->text, sizeof c->text, ref->model.path);
	c->field = CATALOG_FIELD_INPUT_ELSEWHERE;
	c->lo_ns = first;
	c->hi_ns = last;
	return 0;
}

static int find_input(struct registry *r, struct catalog_condition *c, struct fault *f)
{
	struct fault why = FAULT_INIT;
	auto_free struct registry_ref *ref = malloc(sizeof *ref);
	int rc = ref ? registry_resolve(r, c->text, ref, &why) : -ENOMEM;
	if (rc == 0) {
		c->id = ref->has_version ? ref->version.id : ref->model.id;
		c->field = ref->has_version ? CATALOG_FIELD_INPUT : CATALOG_FIELD_INPUT_MODEL;
		return 0;
	}
	if (rc == -ENOENT)
		rc = find_input_elsewhere(r, c);
	if (rc < 0 && f)
		*f = why;
	return rc;
}

static int read_conditions(struct registry *r, struct search *s, struct fault *f)
{
	unsigned states = ~0u;
	bool any_state = false;
	if (s->q->n_conditions > CATALOG_CONDITIONS_MAX)
		return refuse(f, VERDICT_NAME, "more than %d conditions", CATALOG_CONDITIONS_MAX);
	s->conditions = calloc(CATALOG_CONDITIONS_MAX, sizeof *s->conditions);
	if (!s->conditions)
		return -ENOMEM;
	for (unsigned i = 0; i < s->q->n_conditions; i++) {
		struct catalog_condition *c = &s->conditions[s->find.n_conditions];
		unsigned mask = 0;
		bool is_state;
		int rc = registry_condition_parse(s->q->conditions[i], c, &mask, &is_state, f);
		if (rc == 0 && !is_state && c->field == CATALOG_FIELD_INPUT)
			rc = find_input(r, c, f);
		if (rc < 0)
			return rc;
		any_state |= is_state;
		if (is_state)
			states &= mask;
		else
			s->find.n_conditions++;
	}
	s->find.conditions = s->conditions;
	s->find.states = any_state ? states : 1u << CATALOG_COMMITTED;
	return 0;
}

/* ---- pages ---- */

static int note_id(int64_t id, void *arg)
{
	struct search *s = arg;
	s->ids[s->n_ids++] = id;
	return 0;
}

static int give_page(struct catalog_conn *conn, struct search *s, struct catalog_model *m, registry_found_fn *fn, void *arg)
{
	for (uint32_t i = 0; i < s->n_ids; i++) {
		struct catalog_version v;
		int rc = catalog_version_get(conn, s->ids[i], &v);
		if (rc == 0 && m->id != v.model_id)
			rc = catalog_model_get(conn, v.model_id, m);
		if (rc == 0)
			rc = fn(conn, &v, m, arg);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int next_page(struct registry *r, struct search *s, struct catalog_model *m, registry_found_fn *fn, void *arg, bool *ret_more)
{
	auto_read struct catalog_conn *conn = NULL;
	uint32_t left = s->q->limit ? s->q->limit - s->given : PAGE;
	int rc = catalog_read_begin(r->catalog, &conn);
	s->n_ids = 0;
	s->find.limit = left < PAGE ? left : PAGE;
	if (rc == 0)
		rc = catalog_find_versions(conn, &s->find, note_id, s);
	if (rc == 0)
		rc = give_page(conn, s, m, fn, arg);
	s->given += s->n_ids;
	*ret_more = s->n_ids == s->find.limit && (!s->q->limit || s->given < s->q->limit);
	if (s->n_ids)
		s->find.before_id = s->ids[s->n_ids - 1];
	return rc;
}

int registry_find(struct registry *r, const struct registry_find *q, registry_found_fn *fn, void *arg, struct fault *f)
{
	__attribute__((cleanup(search_free))) struct search *s = calloc(1, sizeof *s);
	auto_free struct catalog_model *m = calloc(1, sizeof *m);
	if (!s || !m)
		return refuse_system(f, -ENOMEM, "cannot search");
	s->q = q;
	int rc = find_scope(r, s, q->scope, f);
	if (rc == 0)
		rc = read_conditions(r, s, f);
	for (bool more = true; rc == 0 && more;)
		rc = next_page(r, s, m, fn, arg, &more);
	return rc < 0 ? refuse_system(f, rc, "cannot search") : rc;
}
