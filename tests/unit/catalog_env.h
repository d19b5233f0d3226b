/* What the tests of the catalog share: a store in a fresh directory, and short ways to fill it. */
#ifndef MINTFS_TESTS_CATALOG_ENV_H
#define MINTFS_TESTS_CATALOG_ENV_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <mintfs/catalog.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>

#include "../../src/catalog/internal.h"

struct env {
	char dir[64];
	int dirfd;
	struct catalog *c;
};

static inline void env_open(struct env *e)
{
	struct fault f = FAULT_INIT;
	int r = catalog_open(e->dirfd, false, NULL, &e->c, &f);
	if (r)
		fail_msg("catalog_open: %d %s", r, f.text);
}

static inline void env_close(struct env *e)
{
	catalog_close(e->c);
	e->c = NULL;
}

static inline int env_setup_closed(void **state)
{
	struct env *e = calloc(1, sizeof *e);
	snprintf(e->dir, sizeof e->dir, "/tmp/mintfs-catalog.XXXXXX");
	if (!mkdtemp(e->dir))
		return -1;
	e->dirfd = open(e->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = e;
	return e->dirfd < 0 ? -1 : 0;
}

static inline int env_setup(void **state)
{
	if (env_setup_closed(state) || catalog_create(((struct env *)*state)->dirfd, NULL))
		return -1;
	env_open(*state);
	return 0;
}

static inline int env_teardown(void **state)
{
	struct env *e = *state;
	env_close(e);
	close(e->dirfd);
	sys_remove_tree(AT_FDCWD, e->dir);
	free(e);
	return 0;
}

/* A write on the test's own thread: cmocka's assertions may not jump out of the writer's. */
static inline struct catalog_conn *direct_begin(struct env *e)
{
	struct catalog_conn *conn = NULL;
	assert_int_equal(store_lock(e->c, true), 0);
	assert_int_equal(catalog_connect(e->c, SQL_WRITER, &conn), 0);
	assert_int_equal(sql_run(conn->db, "BEGIN IMMEDIATE"), 0);
	return conn;
}

static inline void direct_end(struct env *e, struct catalog_conn *conn)
{
	assert_int_equal(sql_run(conn->db, "COMMIT"), 0);
	catalog_disconnect(conn);
	store_unlock(e->c);
}

/* ---- filling ---- */

static inline int64_t env_add_dir(struct catalog_conn *conn, int64_t parent, const char *name, bool is_model)
{
	struct catalog_dir d = {.parent = parent, .is_model = is_model, .uid = 1000, .gid = 1001, .mode = 0755, .mtime_ns = 5};
	int64_t id = 0;
	text_copy(d.name, sizeof d.name, name);
	assert_int_equal(catalog_dir_add(conn, &d, &id), 0);
	return id;
}

/* product/<scope>/<type> */
static inline int64_t env_add_model(struct catalog_conn *conn, const char *scope, const char *type)
{
	struct catalog_dir product, d;
	struct catalog_model m = {.mode = 0};
	assert_int_equal(catalog_dir_find(conn, CATALOG_DIR_ROOT, "product", &product), 0);
	if (catalog_dir_find(conn, product.id, scope, &d))
		d.id = env_add_dir(conn, product.id, scope, false);
	m.id = env_add_dir(conn, d.id, type, true);
	snprintf(m.path, sizeof m.path, "product/%s/%s", scope, type);
	snprintf(m.key, sizeof m.key, "product_%s_%s", scope, type);
	snprintf(m.identifier, sizeof m.identifier, "product_%s", scope);
	text_copy(m.type, sizeof m.type, type);
	assert_int_equal(catalog_model_add(conn, &m), 0);
	return m.id;
}

static inline int64_t env_mint(struct catalog_conn *conn, int64_t model_id, uint32_t number)
{
	struct catalog_version v = {.model_id = model_id, .number = number, .minted_ns = 1000 + number, .uid = 1000, .gid = 1001,
		.mode = 0755, .run_id = 7, .owner = 3};
	int64_t id = 0;
	assert_int_equal(catalog_version_add(conn, &v, "ada", &id), 0);
	return id;
}

static inline struct blob_id env_blob(uint64_t content)
{
	struct blob_id id = {{0}};
	uint64_t x = content * UINT64_C(0x9e3779b97f4a7c15) + 1;
	for (size_t i = 0; i < sizeof id.sha256; i++) { /* spread like a hash */
		x ^= x >> 29;
		x *= UINT64_C(0xbf58476d1ce4e5b9);
		id.sha256[i] = (uint8_t)(x >> 56);
	}
	memcpy(id.sha256 + 24, &content, 8);
	return id;
}

/* Commits a version of one file, model.pth with the given content, and the metric rmse. */
static inline int env_commit(struct catalog_conn *conn, int64_t version_id, uint64_t content, double rmse)
{
	char summary[64];
	snprintf(summary, sizeof summary, "{\"rmse\":%.17g}", rmse);
	struct catalog_entry file = {.name = "model.pth", .type = CATALOG_FILE, .mode = 0444, .uid = 1000, .gid = 1001, .size = 100,
		.blocks = 8, .mtime_ns = 77, .nlink = 1, .parent = -1, .inode = 0, .blob = env_blob(content)};
	struct catalog_metric metric = {"rmse", rmse};
	struct catalog_commit c = {.version_id = version_id, .committed_ns = 1752604800 * NS_PER_SEC, .mtime_ns = 9, .uid = 1000, .gid = 1001,
		.mode = 0555, .size = 100, .n_files = 1, .n_top = 1, .metrics_summary = summary, .entries = &file, .n_entries = 1,
		.metrics = &metric, .n_metrics = 1};
	return catalog_version_commit(conn, &c);
}

/* ---- looking at the database by plain SQL ---- */

/* The first column of the first row; "" for null or none. Runs in the connection's transaction. */
static inline void env_sql(struct catalog_conn *conn, const char *text, char *out, size_t size)
{
	auto_stmt struct sql_stmt *st = NULL;
	sql_admit_views(conn->db); /* as other programs have them */
	assert_int_equal(sql_prepare_once(conn->db, text, &st), 0);
	int r = sql_step(st);
	assert_true(r >= 0);
	const char *value = r ? sql_text(st, 0) : NULL;
	snprintf(out, size, "%s", value ? value : "");
}

static inline int64_t env_sql_int(struct env *e, const char *text)
{
	char out[64];
	auto_read struct catalog_conn *conn = NULL;
	assert_int_equal(catalog_read_begin(e->c, &conn), 0);
	env_sql(conn, text, out, sizeof out);
	return strtoll(out, NULL, 10);
}

#define assert_sql(conn, text, expected) do { \
		char out_[4096]; \
		env_sql((conn), (text), out_, sizeof out_); \
		assert_string_equal(out_, (expected)); \
	} while (0)

static inline void env_check_sound(struct env *e)
{
	auto_read struct catalog_conn *conn = NULL;
	assert_int_equal(catalog_read_begin(e->c, &conn), 0);
	assert_sql(conn, "PRAGMA integrity_check", "ok");
	assert_sql(conn, "PRAGMA foreign_key_check", "");
}

#endif
