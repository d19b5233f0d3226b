/* The steps from format to format. What a released MintFS has written stays as it is here; what comes new is a new step. */
#include "internal.h"

/* What happened, in the order it happened, told by the tables themselves so that no writer can forget it. */
#define NOW_NS "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000000"
#define EVENT "INSERT INTO events (at_ns, kind, model_id, number, text) VALUES "
static const char EVENTS[] =
	"CREATE TABLE events ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" at_ns INTEGER NOT NULL, kind TEXT NOT NULL,"
	" model_id INTEGER NOT NULL, number INTEGER NOT NULL, text TEXT) STRICT;"
	"CREATE TRIGGER event_minted AFTER INSERT ON versions WHEN NEW.state = 0 BEGIN "
	EVENT "(NEW.minted_ns, 'minted', NEW.model_id, NEW.number, NEW.author); END;"
	"CREATE TRIGGER event_taken_in AFTER INSERT ON versions WHEN NEW.state = 1 BEGIN "
	EVENT "(" NOW_NS ", 'committed', NEW.model_id, NEW.number, NEW.message); END;"
	"CREATE TRIGGER event_state AFTER UPDATE OF state ON versions WHEN NEW.state IS NOT OLD.state BEGIN "
	EVENT "(" NOW_NS ", CASE NEW.state WHEN 1 THEN 'committed' WHEN 2 THEN 'retired' WHEN 3 THEN 'discarded' ELSE 'reopened' END,"
	" NEW.model_id, NEW.number, NEW.message); END;"
	"CREATE TRIGGER event_failed AFTER UPDATE OF reason ON versions WHEN NEW.state = 0 AND NEW.reason IS NOT NULL AND NEW.reason IS NOT OLD.reason BEGIN "
	EVENT "(" NOW_NS ", 'failed', NEW.model_id, NEW.number, NEW.reason); END;"
	"CREATE TRIGGER event_alias AFTER INSERT ON alias_events BEGIN "
	EVENT "(NEW.at_ns, 'alias', NEW.model_id, NEW.to_number, NEW.name); END;";

/* Processes: what they are bound to, and each run and update of one with its steps. */
static const char PROCESSES[] =
	"CREATE TABLE process_runs ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" process_id INTEGER NOT NULL REFERENCES models (id), version_id INTEGER NOT NULL,"
	" kind INTEGER NOT NULL, state INTEGER NOT NULL," /* enum catalog_process_kind, _state */
	" started_ns INTEGER NOT NULL, ended_ns INTEGER NOT NULL,"
	" author TEXT, host TEXT, sum REAL, sum_before REAL, reason TEXT) STRICT;"
	"CREATE INDEX process_runs_process ON process_runs (process_id, id);"
	"CREATE TABLE process_steps ("
	" run_id INTEGER NOT NULL REFERENCES process_runs (id), kind INTEGER NOT NULL, place INTEGER NOT NULL, name TEXT NOT NULL,"
	" dataset_id INTEGER NOT NULL, model_id INTEGER NOT NULL, before_id INTEGER NOT NULL," /* versions.id; 0 */
	" state INTEGER NOT NULL, started_ns INTEGER NOT NULL, ended_ns INTEGER NOT NULL, exit_status INTEGER NOT NULL,"
	" weight REAL NOT NULL, score REAL, result TEXT, output TEXT, reason TEXT,"
	" PRIMARY KEY (run_id, kind, place)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE process_bindings ("
	" process_id INTEGER NOT NULL REFERENCES models (id), node TEXT NOT NULL,"
	" dataset_id INTEGER NOT NULL, model_id INTEGER NOT NULL, score REAL NOT NULL, weight REAL NOT NULL, result TEXT, run_id INTEGER NOT NULL,"
	" PRIMARY KEY (process_id, node)) STRICT, WITHOUT ROWID;"
	"CREATE TRIGGER event_process AFTER UPDATE OF state ON process_runs WHEN NEW.state IS NOT OLD.state AND NEW.state <> 0 BEGIN "
	EVENT "(" NOW_NS ", CASE WHEN NEW.kind = 0 THEN 'ran' WHEN NEW.state = 1 THEN 'updated' ELSE 'not updated' END, NEW.process_id,"
	" coalesce((SELECT number FROM versions WHERE id = NEW.version_id), 0), NEW.reason); END;";

/* Results of versions on datasets, found after their commit; many for each. */
static const char EVALUATIONS[] =
	"CREATE TABLE evaluations ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" version_id INTEGER NOT NULL REFERENCES versions (id), dataset_id INTEGER NOT NULL REFERENCES versions (id),"
	" at_ns INTEGER NOT NULL, uid INTEGER NOT NULL, author TEXT, metrics TEXT NOT NULL) STRICT;"
	"CREATE INDEX evaluations_version ON evaluations (version_id);"
	"CREATE INDEX evaluations_dataset ON evaluations (dataset_id);"
	"CREATE TRIGGER event_evaluated AFTER INSERT ON evaluations BEGIN "
	"INSERT INTO events (at_ns, kind, model_id, number, text) SELECT NEW.at_ns, 'evaluated', model_id, number, NEW.metrics FROM versions WHERE id = NEW.version_id; END;";

/* Who uses which version: uses.c. command_id 0 is the sum of those who are not kept apart. What a process has from a child that ended it did not read itself. */
static const char USES[] =
	"CREATE TABLE seen_commands ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" uid INTEGER NOT NULL, host TEXT NOT NULL, command TEXT NOT NULL, whole INTEGER NOT NULL) STRICT;"
	"CREATE UNIQUE INDEX seen_commands_key ON seen_commands (uid, host, command, whole);"
	"CREATE TABLE seen_uses ("
	" version_id INTEGER NOT NULL, command_id INTEGER NOT NULL,"
	" first_ns INTEGER NOT NULL, last_ns INTEGER NOT NULL, times INTEGER NOT NULL, readers INTEGER NOT NULL,"
	" PRIMARY KEY (version_id, command_id)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX seen_uses_command ON seen_uses (command_id);"
	"CREATE INDEX seen_processes_command ON seen_processes (command_id) WHERE command_id IS NOT NULL;";

static const struct schema_step STEPS[] = {
	{2, EVENTS},
	{2, PROCESSES},
	{2, EVALUATIONS},
	{2, schema_modes},
	{2, schema_about},
	{2, schema_lineage},
	{2, schema_elsewhere},
	{2, schema_experiments},
	{2, "INSERT INTO meta (name, value) VALUES ('store_id', random() & 9223372036854775807)"}, /* by which a backup knows its store */
	/* Who took a version out of use, when and why; and the contents that the store does not have: freed (1) or damaged (2). */
	{2, "CREATE TABLE retirements (version_id INTEGER PRIMARY KEY REFERENCES versions (id), at_ns INTEGER NOT NULL,"
		" uid INTEGER NOT NULL, author TEXT, message TEXT) STRICT;"
		"CREATE TABLE absent (blob INTEGER PRIMARY KEY REFERENCES blobs (id), kind INTEGER NOT NULL CHECK (kind IN (1, 2)),"
		" at_ns INTEGER NOT NULL, why TEXT) STRICT;"},
	{2, USES},
};

const struct schema_plan schema_current = {CATALOG_FORMAT, STEPS, ARRAY_SIZE(STEPS), NULL, 0};
