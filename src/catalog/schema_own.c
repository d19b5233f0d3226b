/* Is the schema the one that MintFS made?
 *
 * A schema is program text: what stands in it runs with every statement that touches its tables. Who may write catalog.db may put in a trigger without
 * end, an index on an expression that takes all memory, a view in the place of a table; and root may serve the store of somebody else. So what our
 * statements meet is compared, letter by letter, with what schema.c and steps.c say: when a catalog is opened, before it is upgraded or copied, and in each
 * transaction of ours before which the schema has changed. Views are never read here (sql_sqlite.c switches them off), so those stay out of it.
 *
 * What other programs may add: tables, views, and plain indexes. Those can make a write slower, but run nothing. */
#include "internal.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define OBJECTS_MAX 128
#define REMEDY "undo that with sqlite3, or restore a backup"

/* What one CREATE of ours makes, borrowed from the text of the schema. */
struct object {
	const char *text, *name;
	size_t len, name_len;
	bool needed, found; /* needed: not a view */
};

struct own {
	struct object all[OBJECTS_MAX];
	size_t n;
};

static struct object *find_object(struct own *o, const char *name, size_t len)
{
	for (size_t i = 0; i < o->n; i++) {
		if (o->all[i].name_len == len && memcmp(o->all[i].name, name, len) == 0)
			return &o->all[i];
	}
	return NULL;
}

/* The end of a statement, without its semicolon. Of ours, a trigger alone has one within. */
static const char *statement_end(const char *text)
{
	bool trigger = strncmp(text, "CREATE TRIGGER ", 15) == 0;
	const char *end = trigger ? strstr(text, " END;") : strchr(text, ';');
	return !end ? text + strlen(text) : trigger ? end + 4 : end;
}

/* A table that steps have altered comes twice, the second time as it reads now. */
static int add_object(struct own *o, const char *text, size_t len)
{
	const char *kind = text + strlen("CREATE ");
	if (strncmp(kind, "UNIQUE ", 7) == 0)
		kind += 7;
	const char *name = strchr(kind, ' ') + 1;
	struct object x = {text, name, len, strcspn(name, " "), strncmp(kind, "VIEW ", 5) != 0, false};
	struct object *place = find_object(o, x.name, x.name_len);
	if (!place && o->n == OBJECTS_MAX)
		return -E2BIG;
	*(place ? place : &o->all[o->n++]) = x;
	return 0;
}

static int add_text(struct own *o, const char *text)
{
	int error = 0;
	while (!error && *text) {
		const char *end = statement_end(text);
		if (strncmp(text, "CREATE ", 7) == 0)
			error = add_object(o, text, (size_t)(end - text));
		text = *end ? end + 1 : end;
		text += strspn(text, " ");
	}
	return error;
}

static int add_steps(struct own *o, const struct schema_step *steps, size_t n, int format)
{
	int error = 0;
	for (size_t i = 0; !error && i < n; i++) {
		if (steps[i].format > 1 && steps[i].format <= format)
			error = add_text(o, steps[i].text);
	}
	return error;
}

static int learn_own(struct own *o, const struct schema_plan *plan, int format)
{
	o->n = 0;
	int error = add_text(o, schema_tables);
	if (!error)
		error = add_text(o, schema_views);
	if (!error)
		error = add_steps(o, plan->steps, plan->n_steps, format);
	return error ? error : add_steps(o, plan->altered, plan->n_altered, format);
}

/* 1: an index that only slows down what is written; 0: one that refuses rows, or runs an expression for each. */
static int is_plain_index(struct sql *db, const char *name, const char *table)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare_once(db, "SELECT 1 FROM pragma_index_list(?1) l JOIN pragma_index_xinfo(?2) x"
		" WHERE l.name = ?2 AND (l.\"unique\" OR l.partial OR x.cid = -2)", &st);
	if (r)
		return r;
	sql_bind_text(st, table);
	sql_bind_text(st, name);
	r = sql_step(st);
	return r < 0 ? r : !r;
}

struct row {
	const char *type, *name, *table, *sql; /* sql: NULL for an index that a constraint of its table makes */
};

/* 1: what another program may add. */
static int is_harmless(struct sql *db, struct own *o, const struct row *r)
{
	if (strcmp(r->type, "trigger") == 0)
		return 0;
	if (strcmp(r->name, "sqlite_sequence") == 0)
		return r->sql && strcmp(r->sql, "CREATE TABLE sqlite_sequence(name,seq)") == 0;
	if (strcmp(r->type, "index") == 0 && r->sql && find_object(o, r->table, strlen(r->table)))
		return is_plain_index(db, r->name, r->table);
	return 1;
}

static int check_row(struct sql *db, struct own *o, const struct row *r, const char *where, struct fault *f)
{
	struct object *ours = find_object(o, r->name, strlen(r->name));
	if (ours && ours->needed && !(r->sql && strlen(r->sql) == ours->len && memcmp(r->sql, ours->text, ours->len) == 0))
		return fault_set(f, EUCLEAN, "the %.16s \"%.100s\" in %s/" CATALOG_FILE_NAME " is not as MintFS made it: " REMEDY, r->type, r->name, where);
	if (ours) {
		ours->found = true;
		return 0;
	}
	int harmless = is_harmless(db, o, r);
	if (harmless)
		return harmless < 0 ? harmless : 0;
	return fault_set(f, EUCLEAN, "%s/" CATALOG_FILE_NAME " has the %.16s \"%.100s\", which MintFS did not make and which would run with what it writes: " REMEDY,
		where, r->type, r->name);
}

static int check_rows(struct sql *db, struct own *o, const char *where, struct fault *f)
{
	auto_stmt struct sql_stmt *st = NULL;
	int r = sql_prepare_once(db, "SELECT type, name, tbl_name, sql FROM sqlite_schema", &st);
	if (r)
		return r;
	while ((r = sql_step(st)) > 0) {
		const struct row row = {sql_text(st, 0), sql_text(st, 1), sql_text(st, 2), sql_text(st, 3)};
		int error = row.type && row.name && row.table ? check_row(db, o, &row, where, f) : -EUCLEAN;
		if (error)
			return error;
	}
	return r;
}

int schema_verify(struct sql *db, const struct schema_plan *plan, int format, const char *where, struct fault *f)
{
	struct own own;
	int error = learn_own(&own, plan, format);
	if (!error)
		error = check_rows(db, &own, where, f);
	if (error)
		return fault_default(f, -error, "the schema of %s/" CATALOG_FILE_NAME " cannot be read: %s", where,
			error == -EUCLEAN ? "it is damaged" : strerror(-error));
	for (size_t i = 0; i < own.n; i++) {
		const struct object *x = &own.all[i];
		if (x->needed && !x->found)
			return fault_set(f, EUCLEAN, "%s/" CATALOG_FILE_NAME " lacks \"%.*s\", which MintFS made: " REMEDY, where, (int)x->name_len, x->name);
	}
	return 0;
}
