/* Find: versions by what is known of them, newest first.
 *
 * The text of the query is put together from the fragments in this file; what a person wrote is only ever bound as a parameter. Each condition has two forms: a
 * probe, true or not of the version v at hand, and, where an index can answer it, a set of version ids. The smallest set leads the query, so that what is rare is
 * found at once, and the others are probes. Where every set is larger than LEAD_MAX, versions are walked from the newest on: what is that common fills a
 * page soon. So neither memory nor time grow with the number of versions that nobody asked for. */
#include "internal.h"

#include <mintfs/buf.h>
#include <string.h>

#define LEAD_MAX 20000 /* ids that a leading set may hold, some 1 MiB; what is more common is met soon enough by walking */
#define TEXT_MAX (64u << 10)

enum bind_kind { BIND_END, BIND_NAME, BIND_NUMBER, BIND_TEXT, BIND_LO, BIND_HI, BIND_ID, BIND_DIGEST_LO, BIND_DIGEST_HI };

/* A piece of SQL and what is bound to its parameters, in their order. */
struct fragment { const char *sql; enum bind_kind binds[4]; };

static const char *op_text(enum catalog_op op)
{
	switch (op) {
	case CATALOG_EQ: return "=";
	case CATALOG_NE: return "<>";
	case CATALOG_LT: return "<";
	case CATALOG_LE: return "<=";
	case CATALOG_GT: return ">";
	case CATALOG_GE: return ">=";
	case CATALOG_MATCH: return "GLOB";
	}
	return "=";
}

/* A fact is compared as a number, as text, or for (in)equality of what looks like a number as both. */
static void fact_test(const struct catalog_condition *c, struct fragment *ret)
{
	bool both = c->is_number && (c->op == CATALOG_EQ || c->op == CATALOG_NE);
	if (both && c->op == CATALOG_NE)
		*ret = (struct fragment){"name_id = ? AND number IS NOT ? AND text IS NOT ?", {BIND_NAME, BIND_NUMBER, BIND_TEXT}};
	else if (c->is_number)
		*ret = (struct fragment){"name_id = ? AND number %s ?", {BIND_NAME, BIND_NUMBER}};
	else
		*ret = (struct fragment){"name_id = ? AND text %s ?", {BIND_NAME, BIND_TEXT}};
}

#define BEST_OF(m) \
	"CASE " m ".best_mode WHEN 1 THEN (SELECT number FROM metrics WHERE model_id = " m ".id AND name = " m ".best_metric ORDER BY value, number LIMIT 1)" \
	" WHEN 2 THEN (SELECT number FROM metrics WHERE model_id = " m ".id AND name = " m ".best_metric ORDER BY value DESC, number LIMIT 1) END"
#define CREATED "CASE WHEN v.committed_ns > 0 THEN v.committed_ns ELSE v.minted_ns END"

static struct fragment created_probe(enum catalog_op op)
{
	switch (op) {
	case CATALOG_LT: return (struct fragment){CREATED " < ?", {BIND_LO}};
	case CATALOG_LE: return (struct fragment){CREATED " < ?", {BIND_HI}};
	case CATALOG_GT: return (struct fragment){CREATED " >= ?", {BIND_HI}};
	case CATALOG_GE: return (struct fragment){CREATED " >= ?", {BIND_LO}};
	case CATALOG_NE: return (struct fragment){"NOT (" CREATED " >= ? AND " CREATED " < ?)", {BIND_LO, BIND_HI}};
	case CATALOG_EQ:
	case CATALOG_MATCH: break;
	}
	return (struct fragment){CREATED " >= ? AND " CREATED " < ?", {BIND_LO, BIND_HI}};
}

static struct fragment alias_probe(const struct catalog_condition *c)
{
	if (!strcmp(c->text, "latest") && c->op != CATALOG_MATCH)
		return (struct fragment){"v.number = m.newest_committed", {BIND_END}};
	if (!strcmp(c->text, "best") && c->op != CATALOG_MATCH)
		return (struct fragment){"v.number = " BEST_OF("m"), {BIND_END}};
	return c->op == CATALOG_MATCH ? (struct fragment){"EXISTS (SELECT 1 FROM aliases WHERE model_id = v.model_id AND number = v.number AND name GLOB ?)", {BIND_TEXT}}
		: (struct fragment){"EXISTS (SELECT 1 FROM aliases WHERE model_id = v.model_id AND number = v.number AND name = ?)", {BIND_TEXT}};
}

/* %s stands for the operator. */
static struct fragment probe_of(const struct catalog_condition *c)
{
	struct fragment f = {"1", {BIND_END}};
	switch (c->field) {
	case CATALOG_FIELD_FACT: fact_test(c, &f); break;
	case CATALOG_FIELD_AUTHOR: f = (struct fragment){"v.author %s ?", {BIND_TEXT}}; break;
	case CATALOG_FIELD_CREATED: f = created_probe(c->op); break;
	case CATALOG_FIELD_SIZE: f = (struct fragment){"v.size %s ?", {BIND_NUMBER}}; break;
	case CATALOG_FIELD_FILES: f = (struct fragment){"v.n_files %s ?", {BIND_NUMBER}}; break;
	case CATALOG_FIELD_VERSION: f = (struct fragment){"v.number %s ?", {BIND_NUMBER}}; break;
	case CATALOG_FIELD_MODEL: f = (struct fragment){"m.path %s ?", {BIND_TEXT}}; break;
	case CATALOG_FIELD_TYPE: f = (struct fragment){"m.type %s ?", {BIND_TEXT}}; break;
	case CATALOG_FIELD_MESSAGE: f = (struct fragment){"v.message %s ?", {BIND_TEXT}}; break;
	case CATALOG_FIELD_DESCRIPTION:
		f = (struct fragment){"EXISTS (SELECT 1 FROM about WHERE version_id = v.id AND description %s ?)", {BIND_TEXT}};
		break;
	case CATALOG_FIELD_RUN: f = (struct fragment){"EXISTS (SELECT 1 FROM runs WHERE id = v.run_id AND key %s ?)", {BIND_TEXT}}; break;
	case CATALOG_FIELD_GIT: f = (struct fragment){"EXISTS (SELECT 1 FROM runs WHERE id = v.run_id AND git_commit GLOB ? || '*')", {BIND_TEXT}}; break;
	case CATALOG_FIELD_ALIAS: f = alias_probe(c); break;
	case CATALOG_FIELD_DIGEST:
		f = (struct fragment){"EXISTS (SELECT 1 FROM about WHERE version_id = v.id AND digest BETWEEN ? AND ?)", {BIND_DIGEST_LO, BIND_DIGEST_HI}};
		break;
	case CATALOG_FIELD_INPUT: f = (struct fragment){"EXISTS (SELECT 1 FROM inputs WHERE version_id = v.id AND input_id = ?)", {BIND_ID}}; break;
	case CATALOG_FIELD_INPUT_MODEL:
		f = (struct fragment){"(EXISTS (SELECT 1 FROM inputs i JOIN versions iv ON iv.id = i.input_id WHERE i.version_id = v.id AND iv.model_id = ?)"
			" OR EXISTS (SELECT 1 FROM elsewhere_inputs ei JOIN elsewhere e ON e.id = ei.elsewhere_id WHERE ei.version_id = v.id"
			" AND e.model = (SELECT path FROM models WHERE id = ?)))", {BIND_ID, BIND_ID}};
		break;
	case CATALOG_FIELD_INPUT_ELSEWHERE:
		f = (struct fragment){"EXISTS (SELECT 1 FROM elsewhere_inputs ei JOIN elsewhere e ON e.id = ei.elsewhere_id"
			" WHERE ei.version_id = v.id AND e.model = ? AND e.number >= ? AND e.number <= ?)", {BIND_TEXT, BIND_LO, BIND_HI}};
		break;
	}
	return f;
}

/* Is != of this field the opposite of the probe for =? Of the others the operator says it. */
static bool is_negated(const struct catalog_condition *c)
{
	bool plain = c->field == CATALOG_FIELD_GIT || c->field == CATALOG_FIELD_ALIAS || c->field == CATALOG_FIELD_DIGEST || c->field == CATALOG_FIELD_INPUT
		|| c->field == CATALOG_FIELD_INPUT_MODEL || c->field == CATALOG_FIELD_INPUT_ELSEWHERE;
	return plain && c->op == CATALOG_NE;
}

static bool is_range(enum catalog_op op) { return op != CATALOG_NE && op != CATALOG_MATCH; }

/* The condition as a set of version ids; false: there is no index for it. */
static bool set_of(const struct catalog_condition *c, unsigned states, struct fragment *ret)
{
	bool ended = !(states & 1u << CATALOG_DRAFT);
	switch (c->field) {
	case CATALOG_FIELD_FACT:
		if (!is_range(c->op))
			return false;
		if (c->is_number && c->op == CATALOG_EQ)
			*ret = (struct fragment){"SELECT version_id FROM facts WHERE name_id = ? AND number = ?"
				" UNION SELECT version_id FROM facts WHERE name_id = ? AND text = ?", {BIND_NAME, BIND_NUMBER, BIND_NAME, BIND_TEXT}};
		else if (c->is_number)
			*ret = (struct fragment){"SELECT version_id FROM facts WHERE name_id = ? AND number %s ?", {BIND_NAME, BIND_NUMBER}};
		else
			*ret = (struct fragment){"SELECT version_id FROM facts WHERE name_id = ? AND text %s ?", {BIND_NAME, BIND_TEXT}};
		return true;
	case CATALOG_FIELD_AUTHOR:
		*ret = (struct fragment){"SELECT id FROM versions WHERE author %s ?", {BIND_TEXT}};
		return is_range(c->op);
	case CATALOG_FIELD_CREATED:
		if (c->op == CATALOG_GT || c->op == CATALOG_GE)
			*ret = (struct fragment){"SELECT id FROM versions WHERE committed_ns > 0 AND committed_ns >= ?", {c->op == CATALOG_GT ? BIND_HI : BIND_LO}};
		else if (c->op == CATALOG_EQ)
			*ret = (struct fragment){"SELECT id FROM versions WHERE committed_ns > 0 AND committed_ns >= ? AND committed_ns < ?", {BIND_LO, BIND_HI}};
		else
			*ret = (struct fragment){"SELECT id FROM versions WHERE committed_ns > 0 AND committed_ns < ?", {c->op == CATALOG_LT ? BIND_LO : BIND_HI}};
		return ended && is_range(c->op);
	case CATALOG_FIELD_RUN:
		*ret = (struct fragment){"SELECT rv.id FROM runs r JOIN versions rv ON rv.run_id = r.id WHERE r.key = ?", {BIND_TEXT}};
		return c->op == CATALOG_EQ;
	case CATALOG_FIELD_ALIAS:
		if (!strcmp(c->text, "latest"))
			*ret = (struct fragment){"SELECT bv.id FROM models bm JOIN versions bv ON bv.model_id = bm.id AND bv.number = bm.newest_committed", {BIND_END}};
		else if (!strcmp(c->text, "best"))
			*ret = (struct fragment){"SELECT bv.id FROM models bm JOIN versions bv ON bv.model_id = bm.id AND bv.number = " BEST_OF("bm"), {BIND_END}};
		else
			*ret = (struct fragment){"SELECT av.id FROM aliases a JOIN versions av ON av.model_id = a.model_id AND av.number = a.number WHERE a.name = ?", {BIND_TEXT}};
		return c->op == CATALOG_EQ;
	case CATALOG_FIELD_DIGEST:
		*ret = (struct fragment){"SELECT version_id FROM about WHERE digest IS NOT NULL AND digest BETWEEN ? AND ?", {BIND_DIGEST_LO, BIND_DIGEST_HI}};
		return c->op == CATALOG_EQ;
	case CATALOG_FIELD_INPUT:
		*ret = (struct fragment){"SELECT version_id FROM inputs WHERE input_id = ?", {BIND_ID}};
		return c->op == CATALOG_EQ;
	case CATALOG_FIELD_INPUT_MODEL:
		*ret = (struct fragment){"SELECT i.version_id FROM versions iv JOIN inputs i ON i.input_id = iv.id WHERE iv.model_id = ?"
			" UNION SELECT ei.version_id FROM elsewhere e JOIN elsewhere_inputs ei ON ei.elsewhere_id = e.id"
			" WHERE e.model = (SELECT path FROM models WHERE id = ?)", {BIND_ID, BIND_ID}};
		return c->op == CATALOG_EQ;
	case CATALOG_FIELD_INPUT_ELSEWHERE:
		*ret = (struct fragment){"SELECT ei.version_id FROM elsewhere e JOIN elsewhere_inputs ei ON ei.elsewhere_id = e.id"
			" WHERE e.model = ? AND e.number >= ? AND e.number <= ?", {BIND_TEXT, BIND_LO, BIND_HI}};
		return c->op == CATALOG_EQ;
	case CATALOG_FIELD_SIZE:
	case CATALOG_FIELD_FILES:
	case CATALOG_FIELD_VERSION:
	case CATALOG_FIELD_MODEL:
	case CATALOG_FIELD_TYPE:
	case CATALOG_FIELD_MESSAGE:
	case CATALOG_FIELD_DESCRIPTION:
	case CATALOG_FIELD_GIT: break;
	}
	return false;
}

/* ---- putting it together ---- */

struct finding {
	struct sql *db;
	const struct catalog_find *q;
	int64_t name_ids[CATALOG_CONDITIONS_MAX]; /* of facts */
	size_t lead;                              /* the condition whose set leads; SIZE_MAX: none */
	bool scope_leads;
};

static void bind_fragment(struct sql_stmt *st, const struct fragment *f, const struct catalog_condition *c, int64_t name_id)
{
	for (size_t i = 0; i < ARRAY_SIZE(f->binds) && f->binds[i] != BIND_END; i++)
		switch (f->binds[i]) {
		case BIND_END: break;
		case BIND_NAME: sql_bind_int(st, name_id); break;
		case BIND_NUMBER: sql_bind_real(st, c->number); break;
		case BIND_TEXT: sql_bind_text(st, c->text); break;
		case BIND_LO: sql_bind_int(st, c->lo_ns); break;
		case BIND_HI: sql_bind_int(st, c->hi_ns); break;
		case BIND_ID: sql_bind_int(st, c->id); break;
		case BIND_DIGEST_LO: sql_bind_blob(st, c->digest_lo.sha256, BLOB_ID_SIZE); break;
		case BIND_DIGEST_HI: sql_bind_blob(st, c->digest_hi.sha256, BLOB_ID_SIZE); break;
		}
}

/* The fragment with its operator in place. */
static void put_fragment(struct buf *b, const struct fragment *f, enum catalog_op op)
{
	const char *at = strstr(f->sql, "%s");
	if (!at) {
		buf_puts(b, f->sql);
		return;
	}
	buf_add(b, f->sql, (size_t)(at - f->sql));
	buf_puts(b, op_text(op));
	buf_puts(b, at + 2);
}

static const char *scope_text(const struct catalog_find *q)
{
	return q->model_id ? "id = ?" : q->mode >= 0 ? "mode = ?" : q->prefix ? "path >= ? AND path < ? || x'ff' AND path GLOB ?" : NULL;
}

static void bind_scope(struct sql_stmt *st, const struct catalog_find *q)
{
	if (q->model_id) {
		sql_bind_int(st, q->model_id);
	} else if (q->mode >= 0) {
		sql_bind_int(st, q->mode);
	} else if (q->prefix) {
		sql_bind_text(st, q->prefix);
		sql_bind_text(st, q->prefix);
		sql_bind_text(st, q->glob);
	}
}

static int one_number(struct finding *w, struct buf *text, const struct fragment *f, const struct catalog_condition *c, int64_t name_id, int64_t *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = text->error ? text->error : sql_prepare_once(w->db, buf_text(text), &st);
	if (error)
		return error;
	if (f)
		bind_fragment(st, f, c, name_id);
	else
		bind_scope(st, w->q);
	error = sql_first(st);
	if (!error)
		*ret = sql_int(st, 0);
	return error;
}

static int find_names(struct finding *w, bool *ret_none)
{
	for (size_t i = 0; i < w->q->n_conditions; i++) {
		auto_stmt struct sql_stmt *st = NULL;
		if (w->q->conditions[i].field != CATALOG_FIELD_FACT)
			continue;
		int error = sql_prepare(w->db, "SELECT id FROM fact_names WHERE name = ?", &st);
		if (error)
			return error;
		sql_bind_text(st, w->q->conditions[i].name);
		error = sql_first(st);
		if (error && error != -ENOENT)
			return error;
		*ret_none |= error == -ENOENT; /* no version has such a fact */
		w->name_ids[i] = error ? 0 : sql_int(st, 0);
	}
	return 0;
}

static int choose_lead(struct finding *w)
{
	int64_t least = LEAD_MAX + 1, n;
	for (size_t i = 0; i < w->q->n_conditions; i++) {
		auto_buf struct buf text = BUF_INIT(TEXT_MAX);
		const struct catalog_condition *c = &w->q->conditions[i];
		struct fragment f;
		if (!set_of(c, w->q->states, &f))
			continue;
		buf_puts(&text, "SELECT count(*) FROM (SELECT 1 FROM (");
		put_fragment(&text, &f, c->op);
		buf_printf(&text, ") LIMIT %d)", LEAD_MAX + 1);
		int error = one_number(w, &text, &f, c, w->name_ids[i], &n);
		if (error)
			return error;
		if (n < least) {
			least = n;
			w->lead = i;
		}
	}
	if (!scope_text(w->q))
		return 0;
	auto_buf struct buf text = BUF_INIT(TEXT_MAX);
	buf_printf(&text, "SELECT coalesce(sum(last_number), 0) FROM models WHERE %s", scope_text(w->q));
	int error = one_number(w, &text, NULL, NULL, 0, &n);
	w->scope_leads = !error && n < least;
	return error;
}

static void put_query(const struct finding *w, struct buf *b)
{
	const struct catalog_find *q = w->q;
	buf_printf(b, "SELECT v.id FROM versions v %s CROSS JOIN models m ON m.id = v.model_id WHERE v.id < ? AND (1 << v.state) & ?",
		w->scope_leads ? "INDEXED BY versions_number" : "NOT INDEXED");
	if (scope_text(q))
		buf_printf(b, w->scope_leads ? " AND v.model_id IN (SELECT id FROM models WHERE %s)" : " AND EXISTS (SELECT 1 FROM models WHERE id = v.model_id AND %s)",
			scope_text(q));
	for (size_t i = 0; i < q->n_conditions; i++) {
		const struct catalog_condition *c = &q->conditions[i];
		struct fragment f;
		bool leads = i == w->lead && !w->scope_leads && set_of(c, q->states, &f);
		if (!leads)
			f = probe_of(c);
		buf_puts(b, leads ? " AND v.id IN (" : is_negated(c) ? " AND NOT (" : c->field == CATALOG_FIELD_FACT
			? " AND EXISTS (SELECT 1 FROM facts WHERE version_id = v.id AND " : " AND (");
		put_fragment(b, &f, c->op);
		buf_putc(b, ')');
	}
	buf_puts(b, " ORDER BY v.id DESC LIMIT ?");
}

static void bind_query(const struct finding *w, struct sql_stmt *st)
{
	const struct catalog_find *q = w->q;
	sql_bind_int(st, q->before_id ? q->before_id : INT64_MAX);
	sql_bind_int(st, q->states);
	bind_scope(st, q);
	for (size_t i = 0; i < q->n_conditions; i++) {
		const struct catalog_condition *c = &q->conditions[i];
		struct fragment f;
		if (!(i == w->lead && !w->scope_leads && set_of(c, q->states, &f)))
			f = probe_of(c);
		bind_fragment(st, &f, c, w->name_ids[i]);
	}
	sql_bind_int(st, q->limit ? q->limit : INT64_MAX);
}

int catalog_find_versions(struct catalog_conn *conn, const struct catalog_find *q, catalog_found_fn *fn, void *arg)
{
	struct finding w = {.db = conn->db, .q = q, .lead = SIZE_MAX};
	auto_stmt struct sql_stmt *st = NULL;
	auto_buf struct buf text = BUF_INIT(TEXT_MAX);
	bool none = false;
	if (q->n_conditions > CATALOG_CONDITIONS_MAX)
		return -EINVAL;
	int r = find_names(&w, &none);
	if (r || none)
		return r;
	r = choose_lead(&w);
	if (r)
		return r;
	put_query(&w, &text);
	r = text.error ? text.error : sql_prepare_once(w.db, buf_text(&text), &st);
	if (r)
		return r;
	bind_query(&w, st);
	while ((r = sql_step(st)) > 0) {
		r = fn(sql_int(st, 0), arg);
		if (r)
			return r;
	}
	return r;
}

int catalog_fact_text(struct catalog_conn *conn, int64_t version_id, const char *name, char **ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "SELECT coalesce(f.text, f.number) FROM fact_names n JOIN facts f ON f.name_id = n.id AND f.version_id = ?"
		" WHERE n.name = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, version_id);
	sql_bind_text(st, name);
	error = sql_first(st);
	if (error)
		return error;
	char *text = sql_dup(st, 0);
	if (!text)
		return -ENOMEM;
	*ret = text;
	return 0;
}
