/* What a version tells of itself: its digest, texts, labels and parameters, and the facts that it is found by. */
#include "internal.h"

#include <math.h>
#include <string.h>

int catalog_about_set(struct catalog_conn *conn, int64_t version_id, const struct catalog_about *a)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, "INSERT OR REPLACE INTO about (version_id, digest, description, maintainer, source, labels, params, scores)"
		" VALUES (?, ?, ?, ?, ?, ?, ?, ?)", &st);
	if (error)
		return error;
	sql_bind_int(st, version_id);
	if (a->has_digest)
		sql_bind_blob(st, a->digest.sha256, sizeof a->digest.sha256);
	else
		sql_bind_text(st, NULL);
	sql_bind_text(st, a->description);
	sql_bind_text(st, a->maintainer);
	sql_bind_text(st, a->source);
	sql_bind_text(st, a->labels);
	sql_bind_text(st, a->params);
	sql_bind_text(st, a->scores);
	return sql_finish(st);
}

int catalog_about_get(struct catalog_conn *conn, int64_t version_id, struct catalog_about *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, "SELECT digest, description, maintainer, source, labels, params, scores FROM about WHERE version_id = ?", version_id, &st);
	if (error)
		return error;
	struct catalog_about a = {.description = sql_dup(st, 1), .maintainer = sql_dup(st, 2), .source = sql_dup(st, 3), .labels = sql_dup(st, 4),
		.params = sql_dup(st, 5), .scores = sql_dup(st, 6)};
	const void *digest = sql_blob(st, 0, BLOB_ID_SIZE);
	a.has_digest = digest != NULL;
	if (digest)
		memcpy(a.digest.sha256, digest, BLOB_ID_SIZE);
	error = sql_error(st);
	if (error)
		catalog_about_release(&a);
	else
		*ret = a;
	return error;
}

void catalog_about_release(struct catalog_about *a)
{
	free(a->description);
	free(a->maintainer);
	free(a->source);
	free(a->labels);
	free(a->params);
	free(a->scores);
	memset(a, 0, sizeof *a);
}

/* ---- facts ---- */

static int name_find(struct sql *db, const char *name, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(db, "SELECT id FROM fact_names WHERE name = ?", &st);
	if (error)
		return error;
	sql_bind_text(st, name);
	error = sql_first(st);
	if (!error)
		*ret_id = sql_int(st, 0);
	return error;
}

static int name_note(struct sql *db, const char *name, int64_t *ret_id)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = name_find(db, name, ret_id);
	if (error != -ENOENT)
		return error;
	error = sql_prepare(db, "INSERT INTO fact_names (name) VALUES (?) RETURNING id", &st);
	if (error)
		return error;
	sql_bind_text(st, name);
	return sql_finish_id(st, ret_id);
}

static int add_fact(struct sql_stmt *st, int64_t version_id, int64_t name_id, const struct catalog_fact *f)
{
	sql_rewind(st);
	sql_bind_int(st, version_id);
	sql_bind_int(st, name_id);
	if (f->is_number)
		sql_bind_real(st, f->number);
	else
		sql_bind_text(st, NULL);
	sql_bind_text(st, f->text);
	return sql_finish(st);
}

int catalog_facts_add(struct catalog_conn *conn, int64_t version_id, const struct catalog_fact *facts, size_t n)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = n == 0 ? 0 : sql_prepare(conn->db, "INSERT OR REPLACE INTO facts (version_id, name_id, number, text) VALUES (?, ?, ?, ?)", &st);
	for (size_t i = 0; !error && i < n; i++) {
		const struct catalog_fact *f = &facts[i];
		int64_t name_id = 0;
		if (strlen(f->name) >= CATALOG_NAME_MAX || (f->text && strlen(f->text) > CATALOG_FACT_TEXT_MAX) || (f->is_number && !isfinite(f->number)))
			continue;
		error = name_note(conn->db, f->name, &name_id);
		if (!error)
			error = add_fact(st, version_id, name_id, f);
	}
	return error;
}
