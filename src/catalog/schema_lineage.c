/* Schema of format 2: datasets and processes, what a version tells of itself, and where it comes from.
 *
 *  - `about` and `facts` are beside `versions`, whose rows are read at each lookup and stay short. A fact is one value that `mintfs find` may ask
 *    for: "labels.rows", "metrics.rmse", "params.lr". Names are kept once. A value is found by (name, number) or (name, text); the primary key answers
 *    whether one version has it.
 *  - Unlike `metrics`, facts outlive a retirement.
 *  - `inputs` is the graph: version_id was made from input_id. Its index goes the other way. Inputs that are not in this store stand in `elsewhere`.
 *  - `seen_processes`, `seen_reads` and `seen_writes` are what was seen of living runs, until it is known what it means (registry: readers.c). */
#include "internal.h"

#define METRICS_OF_V1 " FROM versions v, json_each(CASE WHEN json_valid(v.metrics_summary) THEN v.metrics_summary ELSE '{}' END) j" \
	" WHERE v.state IN (1, 2) AND j.type IN ('integer', 'real') AND abs(j.value) < 9e999 AND length(CAST(j.key AS BLOB)) BETWEEN 1 AND 246"

const char schema_modes[] =
	"INSERT INTO dirs (parent, name, is_model, hidden, uid, gid, mode, mtime_ns)"
	" SELECT 1, mode.name, 0, 0, root.uid, root.gid, 1023, root.mtime_ns" /* 01777 */
	" FROM dirs root, (SELECT 'dataset' AS name UNION ALL SELECT 'process') mode WHERE root.id = 1;";

const char schema_about[] =
	"CREATE TABLE about ("
	" version_id INTEGER PRIMARY KEY,"
	" digest BLOB CHECK (length(digest) = 32)," /* of the whole tree: docs/SPEC.md */
	" description TEXT, maintainer TEXT, source TEXT,"
	" labels TEXT, params TEXT," /* JSON objects as written, compact */
	" scores TEXT) STRICT;"      /* metrics of what was never committed */
	"CREATE INDEX about_digest ON about (digest) WHERE digest IS NOT NULL;"
	"CREATE TABLE fact_names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;"
	"CREATE TABLE facts ("
	" version_id INTEGER NOT NULL, name_id INTEGER NOT NULL, number REAL, text TEXT,"
	" PRIMARY KEY (version_id, name_id)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX facts_number ON facts (name_id, number, version_id) WHERE number IS NOT NULL;"
	"CREATE INDEX facts_text ON facts (name_id, text, version_id) WHERE text IS NOT NULL;"
	"INSERT OR IGNORE INTO fact_names (name) SELECT DISTINCT 'metrics.' || j.key" METRICS_OF_V1 ";"
	"INSERT OR REPLACE INTO facts (version_id, name_id, number) SELECT v.id,"
	" (SELECT n.id FROM fact_names n WHERE n.name = 'metrics.' || j.key), CAST(j.value AS REAL)" METRICS_OF_V1 ";"
	/* what find asks of versions, models, aliases and runs themselves */
	"CREATE INDEX versions_author ON versions (author);"
	"CREATE INDEX versions_committed ON versions (committed_ns) WHERE committed_ns > 0;"
	"CREATE INDEX versions_run ON versions (run_id);"
	"CREATE INDEX aliases_by_name ON aliases (name);"
	"CREATE INDEX runs_key ON runs (key) WHERE key IS NOT NULL;"
	"CREATE INDEX models_mode ON models (mode, last_number);";

const char schema_lineage[] =
	"CREATE TABLE inputs ("
	" version_id INTEGER NOT NULL, input_id INTEGER NOT NULL,"
	" how INTEGER NOT NULL CHECK (how BETWEEN 1 AND 3)," /* enum catalog_how */
	" PRIMARY KEY (version_id, input_id)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX inputs_of ON inputs (input_id, version_id);"
	"CREATE TABLE inputs_unknown (" /* declared, but nothing of that name is there */
	" version_id INTEGER NOT NULL, text TEXT NOT NULL, reason TEXT NOT NULL,"
	" PRIMARY KEY (version_id, text)) STRICT, WITHOUT ROWID;"

	"CREATE TABLE seen_processes ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" boot_id TEXT NOT NULL, pid INTEGER NOT NULL, start INTEGER NOT NULL,"
	" chain TEXT NOT NULL," /* \"pid:start pid:start\": its ancestors of the same job, nearest first */
	" run_key TEXT, uid INTEGER NOT NULL, seen_ns INTEGER NOT NULL, command_id INTEGER) STRICT;"
	"CREATE UNIQUE INDEX seen_processes_key ON seen_processes (boot_id, pid, start);"
	"CREATE TABLE seen_reads ("
	" process_id INTEGER NOT NULL, version_id INTEGER NOT NULL, at_ns INTEGER NOT NULL, inherited INTEGER NOT NULL DEFAULT 0,"
	" PRIMARY KEY (process_id, version_id)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE seen_writes (" /* drafts, also after their end, as long as the process is remembered */
	" process_id INTEGER NOT NULL, version_id INTEGER NOT NULL,"
	" PRIMARY KEY (process_id, version_id)) STRICT, WITHOUT ROWID;";

/* Versions that are not here, as their own store names them, and what refers to them: elsewhere.c. */
const char schema_elsewhere[] =
	"CREATE TABLE elsewhere ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" model TEXT NOT NULL, number INTEGER NOT NULL, digest BLOB CHECK (length(digest) = 32)) STRICT;"
	"CREATE INDEX elsewhere_name ON elsewhere (model, number);"
	"CREATE INDEX elsewhere_digest ON elsewhere (digest) WHERE digest IS NOT NULL;"
	"CREATE TABLE elsewhere_inputs ("
	" version_id INTEGER NOT NULL REFERENCES versions (id), elsewhere_id INTEGER NOT NULL REFERENCES elsewhere (id),"
	" how INTEGER NOT NULL CHECK (how BETWEEN 1 AND 3),"
	" PRIMARY KEY (version_id, elsewhere_id)) STRICT, WITHOUT ROWID;"
	"CREATE INDEX elsewhere_inputs_of ON elsewhere_inputs (elsewhere_id, version_id);"
	"CREATE TABLE elsewhere_evaluations ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" version_id INTEGER NOT NULL REFERENCES versions (id), elsewhere_id INTEGER NOT NULL REFERENCES elsewhere (id),"
	" at_ns INTEGER NOT NULL, uid INTEGER NOT NULL, author TEXT, metrics TEXT NOT NULL) STRICT;"
	"CREATE INDEX elsewhere_evaluations_version ON elsewhere_evaluations (version_id);"
	"CREATE INDEX elsewhere_evaluations_of ON elsewhere_evaluations (elsewhere_id);";

const char schema_experiments[] =
	/* Without JSON functions: SQLite refuses them in views where the schema is not trusted, as on our own connections. Ids hold no control characters. */
	"CREATE VIEW experiments AS SELECT"
	" m.path AS model, v.run_id AS experiment_id,"
	" coalesce(a.params, '{\"command\":' || r.command || '}', '{}') AS parameters,"
	" (SELECT '[' || coalesce(group_concat('\"' || replace(replace(x.name, '\\', '\\\\'), '\"', '\\\"') || '\"'), '') || ']'"
	"  FROM (SELECT im.path AS path, iv.number AS number, im.path || '/v' || iv.number AS name FROM inputs i JOIN versions iv ON iv.id = i.input_id"
	"  JOIN models im ON im.id = iv.model_id WHERE i.version_id = v.id"
	"  UNION ALL SELECT e.model, e.number, e.model || '/v' || e.number FROM elsewhere_inputs ei JOIN elsewhere e ON e.id = ei.elsewhere_id WHERE ei.version_id = v.id"
	"  ORDER BY 1, 2) x) AS data,"
	" coalesce(v.metrics_summary, a.scores, '{}') AS scores,"
	" 'saved_models/' || m.path || '/v' || v.number || '/' AS model_path,"
	" CASE v.state WHEN 0 THEN 'draft' WHEN 1 THEN 'committed' WHEN 2 THEN 'retired' ELSE 'discarded' END AS state,"
	" v.reason AS reason, r.key AS run, r.command AS command, r.cwd AS directory, r.user AS user, r.host AS host,"
	" r.git_commit AS git_commit, CASE WHEN r.git_dirty >= 0 THEN r.git_dirty END AS git_dirty,"
	" CASE WHEN r.started_ns > 0 THEN datetime(r.started_ns / 1000000000, 'unixepoch') END AS started_at,"
	" CASE WHEN r.ended_ns > 0 THEN datetime(r.ended_ns / 1000000000, 'unixepoch') END AS ended_at,"
	" CASE WHEN r.exit_status < 0 THEN NULL WHEN r.exit_status & 127 THEN 128 + (r.exit_status & 127) ELSE r.exit_status >> 8 END AS exit_status"
	" FROM versions v JOIN models m ON m.id = v.model_id LEFT JOIN runs r ON r.id = v.run_id LEFT JOIN about a ON a.version_id = v.id"
	" WHERE m.mode IN (0, 1, 2);";
