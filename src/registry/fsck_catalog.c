/* fsck: the database itself, and the rules that hold between models, aliases, metrics and entries. */
#include "fsck.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PIECE 500 /* models of one snapshot */

static int note_page(const char *text, void *arg) { return fsck_note(arg, FOUND_CATALOG_PAGE, "catalog.db: %s", text) ? 0 : -ENOMEM; }
static int note_link(const char *text, void *arg) { return fsck_note(arg, FOUND_CATALOG_LINK, "catalog.db: %s", text) ? 0 : -ENOMEM; }

/* ---- models ---- */

struct models { struct fsck *k; int64_t last; unsigned n; };

/* Key, identifier, type and mode follow from the path. */
static int names_by_path(const struct catalog_model *m, struct catalog_model *ret)
{
	struct layout_model l;
	enum layout_kind kind;
	int rc = layout_classify(m->path, &kind, &l, NULL);
	if (rc < 0 || kind != LAYOUT_MODEL)
		return -EINVAL;
	*ret = *m;
	ret->mode = (int)l.mode;
	memcpy(ret->key, l.key, sizeof l.key);
	memcpy(ret->identifier, l.identifier, sizeof l.identifier);
	memcpy(ret->type, l.type, sizeof l.type);
	return 0;
}

static int check_names(struct fsck *k, const struct catalog_model *m)
{
	struct catalog_model should;
	struct problem *p = NULL;
	int rc = names_by_path(m, &should);
	if (rc == 0 && should.mode == m->mode && !strcmp(should.key, m->key) && !strcmp(should.identifier, m->identifier) && !strcmp(should.type, m->type))
		return 0;
	if (rc < 0)
		p = fsck_note(k, FOUND_MODEL_NAMES, "the path of the model, '%s', does not fit the grammar", m->path);
	else
		p = fsck_note(k, FOUND_MODEL_NAMES, "%s: key '%s', identifier '%s' and type '%s' do not follow from its path", m->path, m->key, m->identifier, m->type);
	if (!p)
		return -ENOMEM;
	p->model_id = p->id = m->id;
	return 0;
}

static int check_model(const struct catalog_model_facts *x, void *arg)
{
	struct models *l = arg;
	struct problem *p = NULL;
	l->last = x->m.id;
	l->n++;
	l->k->sum.models++;
	int rc = check_names(l->k, &x->m);
	if (rc < 0 || (x->max_number <= x->m.last_number && x->max_committed == x->m.newest_committed))
		return rc;
	if (x->max_number > x->m.last_number)
		p = fsck_note(l->k, FOUND_MODEL_NUMBERS, "%s: the highest number is said to be %u, but there is a v%u: a mint would give it again", x->m.path, x->m.last_number,
			x->max_number);
	else
		p = fsck_note(l->k, FOUND_MODEL_NUMBERS, "%s: the newest committed version is said to be v%u, but it is v%u", x->m.path, x->m.newest_committed, x->max_committed);
	if (!p)
		return -ENOMEM;
	p->model_id = p->id = x->m.id;
	return 0;
}

static int check_models(struct fsck *k)
{
	struct models l = {.k = k, .n = PIECE};
	int rc = 0;
	while (rc == 0 && l.n == PIECE) {
		struct catalog_conn *conn = NULL;
		l.n = 0;
		rc = catalog_read_begin(k->r->catalog, &conn);
		if (rc == 0)
			rc = catalog_audit_models(conn, l.last, PIECE, check_model, &l);
		catalog_read_end(conn);
		if (rc == 0)
			rc = fsck_settle(k);
	}
	return rc;
}

/* ---- the others ---- */

static int note_alias(const struct catalog_alias_facts *x, void *arg)
{
	struct problem *p = fsck_note(arg, FOUND_ALIAS_ASTRAY, "the alias %s leads to v%u, which is %s", x->a.name, x->a.number,
		x->has_version ? catalog_state_name(x->state) : "not there");
	if (!p)
		return -ENOMEM;
	p->model_id = x->a.model_id;
	p->number = x->a.number;
	p->id = x->a.id;
	p->name = strdup(x->a.name);
	return p->name ? 0 : -ENOMEM;
}

static int note_idle_metrics(int64_t model_id, int64_t number, void *arg)
{
	struct problem *p = fsck_note(arg, FOUND_METRICS_IDLE, "v%lld counts for `best`, but is not committed", (long long)number);
	if (!p)
		return -ENOMEM;
	p->model_id = model_id;
	p->number = (uint32_t)number;
	return 0;
}

static int note_orphans(int64_t version_id, int64_t n, void *arg)
{
	struct problem *p = fsck_note(arg, FOUND_ENTRIES_ASTRAY, "%lld %s to version %lld, which does not know of %s", (long long)n,
		plural((uint64_t)n, "entry says that it belongs", "entries say that they belong"), (long long)version_id, plural((uint64_t)n, "it", "them"));
	if (!p)
		return -ENOMEM;
	p->id = version_id;
	return 0;
}

typedef int query_fn(struct fsck *k, struct catalog_conn *conn);
static int ask_pages(struct fsck *k, struct catalog_conn *conn) { return catalog_audit_pages(conn, note_page, k); }
static int ask_links(struct fsck *k, struct catalog_conn *conn) { return catalog_audit_links(conn, note_link, k); }
static int ask_aliases(struct fsck *k, struct catalog_conn *conn) { return catalog_audit_aliases(conn, note_alias, k); }
static int ask_metrics(struct fsck *k, struct catalog_conn *conn) { return catalog_audit_idle_metrics(conn, note_idle_metrics, k); }
static int ask_orphans(struct fsck *k, struct catalog_conn *conn) { return catalog_audit_orphans(conn, note_orphans, k); }

static int ask(struct fsck *k, query_fn *query)
{
	struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(k->r->catalog, &conn);
	if (rc == 0)
		rc = query(k, conn);
	catalog_read_end(conn);
	return rc < 0 ? rc : fsck_settle(k);
}

int fsck_catalog(struct fsck *k)
{
	static query_fn *const queries[] = {ask_pages, ask_links, ask_aliases, ask_metrics, ask_orphans};
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(queries); i++)
		rc = ask(k, queries[i]);
	return rc < 0 ? rc : check_models(k);
}

/* ---- repairs ---- */

static int indexes_write(struct catalog_conn *conn, void *arg)
{
	(void)arg;
	return catalog_rebuild_indexes(conn);
}

/* Indexes say what their tables say. Made anew once for all findings, and kept if SQLite finds nothing more then. */
int repair_pages(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	int rc = 0;
	(void)p;
	if (k->indexes == INDEXES_AS_FOUND) {
		rc = catalog_write(k->r->catalog, true, indexes_write, NULL);
		k->indexes = rc == 0 ? INDEXES_MADE_ANEW : INDEXES_NO_HELP;
	}
	if (rc < 0 && rc != -EUCLEAN)
		return rc;
	snprintf(words, size, k->indexes == INDEXES_MADE_ANEW ? "the indexes are made anew from their tables, which are whole"
		: "more than an index is damaged: 'mintfs restore' makes a store from a backup");
	return k->indexes == INDEXES_MADE_ANEW;
}

static int names_write(struct catalog_conn *conn, void *arg)
{
	struct catalog_model m, should;
	int rc = catalog_model_get(conn, *(int64_t *)arg, &m);
	if (rc == 0)
		rc = names_by_path(&m, &should);
	return rc < 0 ? rc : catalog_rebuild_names(conn, &should);
}

int repair_names(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	int64_t id = p->id;
	int rc = catalog_write(k->r->catalog, true, names_write, &id);
	if (rc == -EINVAL || rc == -EEXIST) {
		snprintf(words, size, rc == -EINVAL ? "there is no telling what it should be" : "another model has that key");
		return 0;
	}
	snprintf(words, size, "made anew from the path");
	return rc < 0 ? rc : 1;
}

static int numbers_write(struct catalog_conn *conn, void *arg) { return catalog_rebuild_numbers(conn, *(int64_t *)arg); }

int repair_numbers(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	int64_t id = p->id;
	int rc = catalog_write(k->r->catalog, true, numbers_write, &id);
	snprintf(words, size, "counted anew");
	return rc < 0 ? rc : 1;
}

/* Within the transaction: the alias may have been moved meanwhile. */
static int alias_write(struct catalog_conn *conn, void *arg)
{
	const struct problem *p = arg;
	struct catalog_alias a;
	struct catalog_version v;
	int rc = catalog_alias_find(conn, p->model_id, p->name, &a);
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	if (catalog_version_find(conn, a.model_id, a.number, &v) == 0 && v.state == CATALOG_COMMITTED)
		return 0;
	return catalog_alias_drop(conn, a.model_id, a.name, time_now_ns(), 0, "mintfs fsck");
}

int repair_alias(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	struct problem copy = *p;
	int rc = catalog_write(k->r->catalog, true, alias_write, &copy);
	snprintf(words, size, "dropped; the history of aliases has it");
	return rc < 0 ? rc : 1;
}

static int idle_write(struct catalog_conn *conn, void *arg)
{
	const struct problem *p = arg;
	struct catalog_version v;
	if (catalog_version_find(conn, p->model_id, p->number, &v) == 0 && v.state == CATALOG_COMMITTED)
		return 0;
	return catalog_rebuild_metrics(conn, p->model_id, p->number, NULL, 0);
}

int repair_idle_metrics(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	struct problem copy = *p;
	int rc = catalog_write(k->r->catalog, true, idle_write, &copy);
	snprintf(words, size, "taken out of the comparison");
	return rc < 0 ? rc : 1;
}
