/* Making and opening a catalog: what is refused, with which words; upgrades; opening without the right to write. */
#include "catalog_env.h"

#include <sys/wait.h>

static void refused(struct env *e, bool read_only, int error, const char *words)
{
	struct fault f = FAULT_INIT;
	struct catalog *c = NULL;
	assert_int_equal(catalog_open(e->dirfd, read_only, NULL, &c, &f), -error);
	assert_null(c);
	assert_int_equal(f.error, error);
	if (!strstr(f.text, words) || !strstr(f.text, e->dir))
		fail_msg("'%s' does not say '%s' about %s", f.text, words, e->dir);
}

static bool there(struct env *e, const char *name)
{
	return faccessat(e->dirfd, name, F_OK, 0) == 0;
}

static void put(struct env *e, const char *name, const char *data)
{
	assert_int_equal(sys_write_file_durably(e->dirfd, name, data, strlen(data), 0644), 0);
}

static void test_a_catalog_is_made_once(void **state)
{
	struct env *e = *state;
	struct fault f = FAULT_INIT;
	assert_int_equal(catalog_create(e->dirfd, &f), 0);
	assert_true(there(e, "catalog.db"));
	assert_true(there(e, "lock"));
	assert_false(there(e, "catalog.db.new"));
	assert_false(there(e, "catalog.db.new-wal"));
	assert_false(there(e, "catalog.db.new-shm"));
	assert_int_equal(catalog_create(e->dirfd, &f), -EEXIST);
	assert_non_null(strstr(f.text, "exists already"));
	env_open(e);
	assert_int_equal(env_sql_int(e, "PRAGMA user_version"), CATALOG_FORMAT);
	assert_int_equal(env_sql_int(e, "PRAGMA application_id"), CATALOG_APPLICATION_ID);
	auto_read struct catalog_conn *conn = NULL;
	assert_int_equal(catalog_read_begin(e->c, &conn), 0);
	assert_sql(conn, "PRAGMA journal_mode", "wal");
	catalog_read_end(conn);
	conn = NULL;
	env_check_sound(e);
}

static void test_leftovers_of_a_killed_creation_do_not_matter(void **state)
{
	struct env *e = *state;
	put(e, "catalog.db.new", "half made");
	put(e, "catalog.db.new-wal", "x");
	put(e, "catalog.db-wal", "the log of a database somebody deleted");
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
	assert_false(there(e, "catalog.db.new"));
	assert_false(there(e, "catalog.db-wal"));
	env_open(e);
	env_check_sound(e);
}

#ifdef MINTFS_FAULTS
static void test_a_creation_that_fails_leaves_no_catalog(void **state)
{
	static const char *const calls[] = {"fsync", "renameat2", "unlinkat"};
	struct env *e = *state;
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		struct fault f = FAULT_INIT;
		sys_fault_arm(calls[i], 1, EIO, false);
		int r = catalog_create(e->dirfd, &f);
		sys_fault_arm(NULL, 0, 0, false);
		assert_int_equal(r, -EIO);
		assert_non_null(strstr(f.text, "cannot be made"));
		assert_false(there(e, "catalog.db"));
		assert_false(there(e, "catalog.db.new"));
	}
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
}
#endif

static void test_a_store_without_a_catalog_is_refused_in_words(void **state)
{
	struct env *e = *state;
	refused(e, false, ENOENT, "catalog.db is missing");
	refused(e, true, ENOENT, "catalog.db is missing");
	assert_false(there(e, "catalog.db"));
	assert_false(there(e, "lock"));
}

static void test_a_file_that_is_no_catalog_is_refused_in_words(void **state)
{
	struct env *e = *state;
	char text[200];
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	put(e, "catalog.db", text);
	refused(e, false, EUCLEAN, "no database");
	refused(e, true, EUCLEAN, "no database");
	put(e, "catalog.db", "");
	refused(e, false, EUCLEAN, "not a catalog of MintFS");
	assert_int_equal(unlinkat(e->dirfd, "catalog.db", 0), 0);
	assert_int_equal(mkdirat(e->dirfd, "catalog.db", 0755), 0);
	refused(e, false, EUCLEAN, "is a directory, not a regular file");
}

static void write_sql(struct env *e, const char *text)
{
	struct catalog_conn *conn = direct_begin(e);
	assert_int_equal(sql_script(conn->db, text), 0);
	direct_end(e, conn);
}

static void test_a_catalog_of_another_program_is_refused_in_words(void **state)
{
	struct env *e = *state;
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
	env_open(e);
	write_sql(e, "PRAGMA application_id=1");
	env_close(e);
	refused(e, false, EUCLEAN, "not a catalog of MintFS");
}

static void test_a_newer_format_is_refused_in_words(void **state)
{
	struct env *e = *state;
	struct fault f = FAULT_INIT;
	char expected[300];
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
	env_open(e);
	write_sql(e, "PRAGMA user_version=7");
	env_close(e);
	struct catalog *c = NULL;
	snprintf(expected, sizeof expected, "%s/catalog.db was made by a newer MintFS (format 7; this program knows up to 2): upgrade MintFS", e->dir);
	assert_int_equal(catalog_open(e->dirfd, false, NULL, &c, &f), -EPROTONOSUPPORT);
	assert_string_equal(f.text, expected);
	refused(e, true, EPROTONOSUPPORT, "newer MintFS");
}

static int nothing(struct catalog_conn *conn, void *arg)
{
	(void)conn;
	(void)arg;
	return 0;
}

static void test_a_catalog_upgraded_under_an_open_one_is_not_written_any_more(void **state)
{
	struct env *e = *state;
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
	env_open(e);
	assert_int_equal(catalog_write(e->c, false, nothing, NULL), 0);
	write_sql(e, "PRAGMA user_version=7");
	assert_int_equal(catalog_write(e->c, false, nothing, NULL), -EPROTONOSUPPORT);
}

/* ---- upgrades ---- */

static const struct schema_step STEPS[] = {
	{1, "CREATE TABLE never (id INTEGER)"}, /* of a format that the catalog is past */
	{CATALOG_FORMAT + 1, "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;"},
	{CATALOG_FORMAT + 1, "INSERT INTO notes VALUES (1, 'two');"},
	{CATALOG_FORMAT + 2, "ALTER TABLE notes ADD COLUMN more TEXT; UPDATE notes SET more = text || ' three';"},
};
static const struct schema_step ALTERED[] = {{CATALOG_FORMAT + 2, "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL, more TEXT) STRICT"}};

/* The present plan with n steps more. */
static struct schema_plan longer(const struct schema_step *more, size_t n)
{
	static struct schema_step all[64];
	size_t n_all = schema_current.n_steps;
	assert_true(n_all + n <= ARRAY_SIZE(all));
	memcpy(all, schema_current.steps, n_all * sizeof all[0]);
	memcpy(all + n_all, more, n * sizeof all[0]);
	return (struct schema_plan){CATALOG_FORMAT + 2, all, n_all + n, ALTERED, ARRAY_SIZE(ALTERED)};
}

static void test_an_older_format_is_upgraded_step_by_step(void **state)
{
	struct env *e = *state;
	struct fault f = FAULT_INIT;
	const struct schema_plan later = longer(STEPS, ARRAY_SIZE(STEPS));
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
	assert_int_equal(catalog_open_with(e->dirfd, true, NULL, &later, &e->c, &f), -EROFS);
	assert_non_null(strstr(f.text, "older MintFS"));
	for (int round = 0; round < 2; round++) { /* the second time there is nothing left to do */
		assert_int_equal(catalog_open_with(e->dirfd, false, NULL, &later, &e->c, &f), 0);
		assert_int_equal(env_sql_int(e, "PRAGMA user_version"), CATALOG_FORMAT + 2);
		assert_int_equal(env_sql_int(e, "SELECT count(*) FROM notes WHERE more = 'two three'"), 1);
		assert_int_equal(catalog_write(e->c, true, nothing, NULL), 0);
		env_close(e);
	}
	char words[32];
	snprintf(words, sizeof words, "format %d", CATALOG_FORMAT + 2);
	refused(e, false, EPROTONOSUPPORT, words);
}

static void test_an_upgrade_that_fails_changes_nothing(void **state)
{
	struct env *e = *state;
	static const struct schema_step broken[] = {{CATALOG_FORMAT + 1, "CREATE TABLE notes (id INTEGER)"}, {CATALOG_FORMAT + 2, "INSERT INTO nowhere VALUES (1)"}};
	char sentence[64];
	snprintf(sentence, sizeof sentence, "cannot be upgraded from format %d to %d", CATALOG_FORMAT, CATALOG_FORMAT + 2);
	struct fault f = FAULT_INIT;
	struct schema_plan plan = longer(broken, 2);
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
	assert_int_equal(catalog_open_with(e->dirfd, false, NULL, &plan, &e->c, &f), -EUCLEAN);
	assert_non_null(strstr(f.text, sentence));
	plan.n_steps--;
	assert_int_equal(catalog_open_with(e->dirfd, false, NULL, &plan, &e->c, &f), -EPROTONOSUPPORT); /* no step to 3 */
	env_open(e);
	assert_int_equal(env_sql_int(e, "PRAGMA user_version"), CATALOG_FORMAT);
	assert_int_equal(env_sql_int(e, "SELECT count(*) FROM sqlite_schema WHERE name = 'notes'"), 0);
}

/* ---- what somebody else wrote into the schema ---- */

#define WITHOUT_END "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"

static const struct { const char *sql, *words; } FOREIGN[] = {
	{"CREATE TRIGGER t AFTER INSERT ON versions BEGIN INSERT INTO meta " WITHOUT_END " SELECT x, x FROM n WHERE x < 0; END", "has the trigger \"t\""},
	{"CREATE TRIGGER t BEFORE INSERT ON versions BEGIN SELECT RAISE(IGNORE); END", "has the trigger \"t\""},
	{"CREATE TABLE mine (v INTEGER REFERENCES versions (id) ON DELETE CASCADE); CREATE TRIGGER t AFTER DELETE ON mine BEGIN DELETE FROM models; END",
		"has the trigger \"t\""},
	{"DROP TRIGGER event_minted; CREATE TRIGGER event_minted AFTER INSERT ON versions BEGIN DELETE FROM events; END", "trigger \"event_minted\""},
	{"CREATE INDEX i ON versions (length(hex(zeroblob(400000000 + number))))", "has the index \"i\""},
	{"CREATE INDEX i ON versions (number) WHERE length(hex(zeroblob(400000000 + number))) > 0", "has the index \"i\""},
	{"CREATE UNIQUE INDEX i ON versions (state)", "has the index \"i\""},
	{"DROP INDEX versions_number", "lacks \"versions_number\""},
	{"DROP INDEX versions_number; CREATE INDEX versions_number ON versions (model_id, number)", "index \"versions_number\""},
	{"ALTER TABLE versions ADD COLUMN g TEXT GENERATED ALWAYS AS (hex(zeroblob(400000000 + number)))", "table \"versions\""},
	{"ALTER TABLE aliases RENAME TO others; CREATE VIEW aliases AS " WITHOUT_END " SELECT x AS id, 1 AS model_id FROM n", "\"aliases_name\" in"},
	{"DROP TABLE facts", "lacks \"facts\""},
};

static void test_what_would_run_in_the_schema_is_refused_in_words(void **state)
{
	struct env *e = *state;
	for (size_t i = 0; i < ARRAY_SIZE(FOREIGN); i++) {
		assert_int_equal(catalog_create(e->dirfd, NULL), 0);
		env_open(e);
		assert_int_equal(catalog_write(e->c, false, nothing, NULL), 0);
		write_sql(e, FOREIGN[i].sql);
		assert_int_equal(catalog_write(e->c, false, nothing, NULL), -EUCLEAN); /* also under one that is open */
		assert_int_equal(catalog_copy(e->c, e->dirfd, "copy", NULL), -EUCLEAN);
		assert_false(there(e, "copy"));
		env_close(e);
		refused(e, false, EUCLEAN, FOREIGN[i].words);
		refused(e, true, EUCLEAN, FOREIGN[i].words);
		assert_int_equal(unlinkat(e->dirfd, "catalog.db", 0), 0);
	}
}

static void test_an_upgrade_runs_nothing_that_somebody_else_wrote(void **state)
{
	struct env *e = *state;
	struct fault f = FAULT_INIT;
	const struct schema_plan later = longer(STEPS, ARRAY_SIZE(STEPS));
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
	env_open(e);
	write_sql(e, "CREATE TRIGGER t AFTER INSERT ON versions BEGIN SELECT 1; END");
	env_close(e);
	assert_int_equal(catalog_open_with(e->dirfd, false, NULL, &later, &e->c, &f), -EUCLEAN);
	assert_non_null(strstr(f.text, "has the trigger \"t\""));
}

static void test_a_view_without_end_that_takes_a_table_s_place_is_not_read(void **state)
{
	struct env *e = *state;
	struct catalog_alias a;
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
	env_open(e);
	write_sql(e, "ALTER TABLE aliases RENAME TO others; CREATE VIEW aliases AS " WITHOUT_END
		" SELECT x AS id, 1 AS model_id, 'a' AS name, 1 AS number, 1 AS uid, 1 AS gid, 1 AS set_ns FROM n WHERE x < 0");
	auto_read struct catalog_conn *conn = NULL;
	assert_int_equal(catalog_read_begin(e->c, &conn), 0);
	assert_int_equal(catalog_alias_find(conn, 1, "a", &a), -EUCLEAN);
}

static void test_tables_views_and_plain_indexes_of_other_programs_are_welcome(void **state)
{
	struct env *e = *state;
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
	env_open(e);
	write_sql(e, "CREATE TABLE notes (version INTEGER PRIMARY KEY REFERENCES versions (id), text TEXT UNIQUE); CREATE INDEX notes_text ON notes (upper(text));"
		"CREATE VIEW newest AS SELECT max(number) FROM versions; CREATE INDEX versions_by_size ON versions (size DESC, mode); ANALYZE;"
		"DROP VIEW model_versions; CREATE VIEW model_versions AS SELECT 1");
	assert_int_equal(catalog_write(e->c, false, nothing, NULL), 0);
	env_close(e);
	env_open(e);
	assert_int_equal(catalog_write(e->c, true, nothing, NULL), 0);
}

static void test_a_restored_copy_without_a_log_gets_one_again(void **state)
{
	struct env *e = *state;
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
	env_open(e);
	char text[200];
	struct catalog_conn *conn = NULL;
	assert_int_equal(catalog_connect(e->c, SQL_WRITER, &conn), 0);
	snprintf(text, sizeof text, "VACUUM INTO '%s/copy'", e->dir);
	assert_int_equal(sql_script(conn->db, text), 0);
	catalog_disconnect(conn);
	env_close(e);
	assert_int_equal(unlinkat(e->dirfd, "catalog.db-wal", 0), 0);
	assert_int_equal(unlinkat(e->dirfd, "catalog.db-shm", 0), 0);
	assert_int_equal(renameat(e->dirfd, "copy", e->dirfd, "catalog.db"), 0);
	env_open(e);
	assert_int_equal(catalog_write(e->c, true, nothing, NULL), 0);
	assert_int_equal(catalog_read_begin(e->c, &conn), 0);
	assert_sql(conn, "SELECT count(*) FROM dirs", "6"); /* the connection learns of it with its first read */
	assert_sql(conn, "PRAGMA journal_mode", "wal");
	catalog_read_end(conn);
	env_check_sound(e);
}

static void test_a_store_with_a_path_too_long_for_the_database_is_refused_in_words(void **state)
{
	struct env *e = *state;
	char name[201];
	int dirfd = dup(e->dirfd);
	struct catalog *c = NULL;
	struct fault f = FAULT_INIT;
	memset(name, 'd', 200);
	name[200] = '\0';
	for (int i = 0; i < 3; i++) {
		assert_int_equal(mkdirat(dirfd, name, 0755), 0);
		int next = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(dirfd);
		dirfd = next;
	}
	assert_int_equal(catalog_create(dirfd, &f), -ENAMETOOLONG);
	assert_non_null(strstr(f.text, "path of the store"));
	assert_int_equal(catalog_open(dirfd, false, NULL, &c, &f), -ENAMETOOLONG);
	close(dirfd);
}

/* ---- what somebody puts in the place of a file that was looked at ---- */

static int second_reader(struct env *e)
{
	struct catalog_conn *first = NULL, *second = NULL;
	struct catalog_dir d;
	assert_int_equal(catalog_read_begin(e->c, &first), 0);
	alarm(10); /* SQLite waited for ever */
	int r = catalog_read_begin(e->c, &second); /* a connection of its own, opened only now */
	if (!r)
		r = catalog_dir_find(second, CATALOG_DIR_ROOT, "product", &d);
	alarm(0);
	catalog_read_end(second);
	catalog_read_end(first);
	return r;
}

static void test_a_pipe_that_is_put_in_the_place_of_a_file_of_an_open_catalog_is_not_waited_for(void **state)
{
	struct env *e = *state;
	static const char *const names[] = {"catalog.db", "catalog.db-journal", "catalog.db-wal"};
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(names); i++) {
		const char *name = names[i / 2];
		bool read_only = i % 2;
		assert_int_equal(catalog_open(e->dirfd, read_only, NULL, &e->c, NULL), 0);
		struct catalog_conn *conn = NULL;
		assert_int_equal(catalog_read_begin(e->c, &conn), 0);
		catalog_read_end(conn);
		bool moved = renameat(e->dirfd, name, e->dirfd, "away") == 0;
		assert_int_equal(mkfifoat(e->dirfd, name, 0600), 0);
		int r = second_reader(e);
		if (i < 2)
			assert_true(r < 0);
		assert_int_equal(unlinkat(e->dirfd, name, 0), 0);
		if (moved)
			assert_int_equal(renameat(e->dirfd, "away", e->dirfd, name), 0);
		assert_int_equal(second_reader(e), 0);
		env_close(e);
	}
}

static void test_a_link_that_is_put_in_the_place_of_an_open_catalog_is_not_followed(void **state)
{
	struct env *e = *state;
	char target[300];
	assert_int_equal(mkdirat(e->dirfd, "other", 0700), 0);
	auto_close int other = openat(e->dirfd, "other", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(catalog_create(other, NULL), 0);
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
	snprintf(target, sizeof target, "%s/other/catalog.db", e->dir);
	for (int read_only = 0; read_only < 2; read_only++) {
		assert_int_equal(catalog_open(e->dirfd, read_only, NULL, &e->c, NULL), 0);
		assert_int_equal(renameat(e->dirfd, "catalog.db", e->dirfd, "away"), 0);
		assert_int_equal(symlinkat(target, e->dirfd, "catalog.db"), 0);
		assert_true(second_reader(e) < 0);
		if (!read_only)
			assert_true(catalog_write(e->c, false, nothing, NULL) < 0);
		assert_int_equal(unlinkat(e->dirfd, "catalog.db", 0), 0);
		assert_int_equal(renameat(e->dirfd, "away", e->dirfd, "catalog.db"), 0);
		assert_int_equal(second_reader(e), 0);
		env_close(e);
	}
}

static void test_a_lock_that_is_no_file_is_refused_in_words(void **state)
{
	struct env *e = *state;
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
	assert_int_equal(unlinkat(e->dirfd, "lock", 0), 0);
	assert_int_equal(mkfifoat(e->dirfd, "lock", 0600), 0);
	refused(e, false, EUCLEAN, "lock is a FIFO, not a regular file");
}

/* ---- reading only ---- */

static void test_a_read_only_catalog_reads_and_refuses_to_write(void **state)
{
	struct env *e = *state;
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
	assert_int_equal(catalog_open(e->dirfd, true, NULL, &e->c, NULL), 0);
	assert_int_equal(catalog_write(e->c, false, nothing, NULL), -EROFS);
	assert_int_equal(catalog_locked(e->c, NULL, NULL), -EROFS);
	assert_int_equal(catalog_sync(e->c), 0);
	assert_int_equal(env_sql_int(e, "SELECT count(*) FROM dirs"), 6);
}

static int add_named(struct catalog_conn *conn, void *arg)
{
	struct catalog_dir d = {.parent = 2, .mode = 0755};
	int64_t id;
	text_copy(d.name, sizeof d.name, arg);
	return catalog_dir_add(conn, &d, &id);
}

/* Opens the store as somebody who may not write there; exits with 0, or with the errno of the refusal. */
static int open_as_nobody(struct env *e)
{
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		struct catalog *c = NULL;
		struct catalog_conn *conn = NULL;
		struct catalog_dir d;
		if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
			_exit(200);
		int r = catalog_open(e->dirfd, true, NULL, &c, NULL);
		if (!r)
			r = catalog_read_begin(c, &conn);
		if (!r)
			r = catalog_dir_find(conn, 2, "P001_all", &d);
		_exit(-r);
	}
	int status = -1;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_a_store_without_write_permission_can_be_read_also_while_a_daemon_writes(void **state)
{
	struct env *e = *state;
	char name[] = "P001_all";
	assert_int_equal(catalog_create(e->dirfd, NULL), 0);
	env_open(e);
	assert_int_equal(catalog_write(e->c, true, add_named, name), 0);
	env_close(e);
	assert_int_equal(fchmod(e->dirfd, 0555), 0);
	assert_int_equal(open_as_nobody(e), 0); /* after an orderly end */
	assert_int_equal(fchmod(e->dirfd, 0755), 0);

	int ready[2], done[2];
	char byte = 'x';
	assert_int_equal(pipe(ready) | pipe(done), 0);
	pid_t daemon = fork();
	if (daemon == 0) {
		char other[] = "P002_all";
		struct catalog *c = NULL;
		int r = catalog_open(e->dirfd, false, NULL, &c, NULL);
		if (!r)
			r = catalog_write(c, true, add_named, other);
		if (write(ready[1], &byte, 1) != 1 || read(done[0], &byte, 1) != 1)
			r = -EIO;
		_exit(-r); /* a crash, as far as the catalog can tell */
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(fchmod(e->dirfd, 0555), 0);
	assert_int_equal(open_as_nobody(e), 0);
	assert_int_equal(write(done[1], &byte, 1), 1);
	int status = -1;
	assert_int_equal(waitpid(daemon, &status, 0), daemon);
	assert_int_equal(status, 0);
	assert_int_equal(open_as_nobody(e), 0); /* after the crash */
	assert_int_equal(fchmod(e->dirfd, 0755), 0);
	for (int i = 0; i < 2; i++) {
		close(ready[i]);
		close(done[i]);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, env_setup_closed, env_teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_catalog_is_made_once),
		T(test_leftovers_of_a_killed_creation_do_not_matter),
#ifdef MINTFS_FAULTS
		T(test_a_creation_that_fails_leaves_no_catalog),
#endif
		T(test_a_store_without_a_catalog_is_refused_in_words),
		T(test_a_file_that_is_no_catalog_is_refused_in_words),
		T(test_a_catalog_of_another_program_is_refused_in_words),
		T(test_a_newer_format_is_refused_in_words),
		T(test_a_catalog_upgraded_under_an_open_one_is_not_written_any_more),
		T(test_an_older_format_is_upgraded_step_by_step),
		T(test_an_upgrade_that_fails_changes_nothing),
		T(test_what_would_run_in_the_schema_is_refused_in_words),
		T(test_an_upgrade_runs_nothing_that_somebody_else_wrote),
		T(test_a_view_without_end_that_takes_a_table_s_place_is_not_read),
		T(test_tables_views_and_plain_indexes_of_other_programs_are_welcome),
		T(test_a_restored_copy_without_a_log_gets_one_again),
		T(test_a_store_with_a_path_too_long_for_the_database_is_refused_in_words),
		T(test_a_pipe_that_is_put_in_the_place_of_a_file_of_an_open_catalog_is_not_waited_for),
		T(test_a_link_that_is_put_in_the_place_of_an_open_catalog_is_not_followed),
		T(test_a_lock_that_is_no_file_is_refused_in_words),
		T(test_a_read_only_catalog_reads_and_refuses_to_write),
		T(test_a_store_without_write_permission_can_be_read_also_while_a_daemon_writes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
