"""mintfs find: conditions, where to look, what is shown; refusals name the position."""
import datetime
import json
import subprocess

import pytest

from cli_env import call

M = "product/P001_all/mlstm"


@pytest.fixture
def filled(drive):
    """Two datasets, a model of three versions, another model; a draft."""
    drive.version({"a.csv": "1", "metadata.json": json.dumps({"labels": {"rows": 900, "kind": "assay"}, "maintainer": "ann"})}, "dataset/mol")
    drive.version({"a.csv": "22", "metadata.json": json.dumps({"labels": {"rows": 4400, "kind": "assay", "code": "007", "deep": {"x": True}}})}, "dataset/mol", "more")
    drive.version({"a.csv": "3", "metadata.json": json.dumps({"labels": {"rows": 5000, "kind": "synthetic"}, "description": "made up"})}, "dataset/toy")
    for rmse, name in ((12, "first"), (10.5, "second"), (11.5, None)):
        drive.version({"model.bin": str(rmse), "metadata.json": json.dumps({"metrics": {"rmse": rmse}, "params": {"lr": 0.1 / rmse}})}, M, name)
    drive.version({"model.bin": "k", "metadata.json": json.dumps({"metrics": {"rmse": 9, "val/r2": 0.5}})}, "global/all/sum/kan")
    (drive.path(M) / "production").symlink_to("v2")
    drive.mint({"model.bin": "open"}, M)
    return drive


def found(store, *args):
    done = call("find", "--store", store, "--json", *args)
    assert done.code == 0, done.err
    return [f"{v['model']}/{v['version']}" for v in done.json]


CASES = [
    (["dataset"], ["dataset/toy/v1", "dataset/mol/v2", "dataset/mol/v1"]),
    (["dataset", "labels.rows >= 1000", "labels.kind = assay"], ["dataset/mol/v2"]),
    (["labels.rows>=900", "labels.rows<5000"], ["dataset/mol/v2", "dataset/mol/v1"]),
    (["labels.kind != assay"], ["dataset/toy/v1"]),
    (["labels.kind ~ s*"], ["dataset/toy/v1"]),
    (["labels.code = 007"], ["dataset/mol/v2"]),
    (["labels.code = '007'"], ["dataset/mol/v2"]),
    (["labels.rows = 4.4e3"], ["dataset/mol/v2"]),
    (["labels.rows != 4400"], ["dataset/toy/v1", "dataset/mol/v1"]),
    (["labels.deep.x = true"], ["dataset/mol/v2"]),
    (["labels.nowhere = 1"], []),
    (["maintainer = ann"], ["dataset/mol/v1"]),
    (["description ~ *up"], ["dataset/toy/v1"]),
    (["metrics.rmse < 11"], ["global/all/sum/kan/v1", M + "/v2"]),
    (["product", "metrics.rmse < 11"], [M + "/v2"]),
    (["metrics.rmse<12", "alias = production"], [M + "/v2"]),
    (["metrics.\"val/r2\" = 0.5"], ["global/all/sum/kan/v1"]),
    (["params.lr > 0.009"], [M + "/v2"]),
    (["alias ~ prod*"], [M + "/v2"]),
    (["alias = latest", "metrics.rmse > 0"], ["global/all/sum/kan/v1", M + "/v3"]),
    (["product", "alias = best"], [M + "/v2"]),
    (["product", "alias != best"], [M + "/v3", M + "/v1"]),
    (["message = more"], ["dataset/mol/v2"]),
    (["type = kan"], ["global/all/sum/kan/v1"]),
    (["state = draft"], [M + "/v4"]),
    ([M, "state != draft"], [M + "/v3", M + "/v2", M + "/v1"]),
    (["product_P001_all_mlstm", "version >= v2"], [M + "/v3", M + "/v2"]),
    (["*/mol", "version = 1"], ["dataset/mol/v1"]),
    (["product/P001_all", "-n", "1"], [M + "/v3"]),
    (["size > 1 KiB", "files = 2"], []),
    (["dataset", "files = 2", "created > 2026-01-01"], ["dataset/toy/v1", "dataset/mol/v2", "dataset/mol/v1"]),
    (["created < 2026-01-01"], []),
    (["input = dataset/mol/v2"], []),
]


def test_conditions_find_what_they_say(filled, store):
    for args, expected in CASES:
        assert found(store, *args) == expected, args


def test_a_day_is_meant_as_a_whole(filled, store):
    now = datetime.datetime.now(datetime.timezone.utc)
    yesterday, today, tomorrow = (f"{now + datetime.timedelta(days=d):%Y-%m-%d}" for d in (-1, 0, 1))  # a midnight may lie between
    assert len(found(store, f"created >= {yesterday}")) == sum(len(found(store, f"created = {day}")) for day in (yesterday, today, tomorrow)) == 7
    assert len(found(store, f"created >= {today}")) == sum(len(found(store, f"created = {day}")) for day in (today, tomorrow))
    assert found(store, f"created > {tomorrow}") == [] and len(found(store, f"created <= {tomorrow}")) == 7


def test_author_digest_run_and_git_are_found(filled, store, place):
    author = subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip()
    assert len(found(store, f"author = {author}")) == 7 and found(store, "author = nobody-here") == []
    digest = call("find", "--store", store, "--json", "dataset/toy").json[0]["digest"]
    assert found(store, f"digest = {digest}") == found(store, f"digest = {digest[:12]}") == ["dataset/toy/v1"]
    assert found(store, "run = no-such-run") == [] and found(store, "git = abcdef") == []


def test_the_table_has_a_column_for_each_fact_that_is_asked_for(filled, store):
    out = call("find", "--store", store, "dataset", "labels.rows > 1").out.splitlines()
    assert out[0].split() == ["VERSION", "AGE", "AUTHOR", "SIZE", "labels.rows", "MESSAGE"] or "labels.rows" in out[0]
    assert any("dataset/mol/v2" in line and "4400" in line and "more" in line for line in out)
    assert call("find", "--store", store, "labels.rows > 1e9").out == ""
    assert call("find", "--store", store, "labels.rows > 1e9", "--json").json == []


def test_json_tells_all_that_is_known(filled, store):
    (v,) = call("find", "--store", store, "--json", "alias = production").json
    assert v["metrics"] == {"rmse": 10.5} and v["aliases"] == ["production"] and v["state"] == "committed" and v["message"] == "second"
    assert set(v) >= {"model", "version", "number", "created", "author", "size", "file_count", "digest", "description", "labels", "parameters"}


def test_a_path_on_the_drive_says_where_to_look(filled):
    done = call("find", filled.path(M), "metrics.rmse < 12", "--json")
    assert [v["version"] for v in done.json] == ["v3", "v2"]
    done = call("find", "metrics.rmse < 12", "--json", cwd=filled.path(M))
    assert [v["version"] for v in done.json] == ["v3", "v2"]


@pytest.mark.parametrize("condition, position, expected", [
    ("rows > 3", 1, "a field"),
    ("labels > 3", 7, "'.' and a name"),
    ("labels. > 3", 8, "a name"),
    ("labels.rows 3", 13, "an operator"),
    ("labels.rows >> 3", 14, "a value"),
    ("labels.rows >=", 15, "a value"),
    ("labels.rows = 'a", 17, "a closing '"),
    ("labels.rows = 'a' b", 19, "the end"),
    ("metrics.rmse < low", 16, "a number"),
    ("metrics.rmse < inf", 16, "a number"),
    ("metrics.rmse ~ 1*", 14, "one of = != < <= > >="),
    ("author < b", 8, "one of = != ~"),
    ("state = open", 9, "draft, committed, retired or discarded"),
    ("created > yesterday", 11, "a time in UTC"),
    ("created > 2026-02-30", 11, "a time in UTC"),
    ("size > 3 potatoes", 8, "a number of bytes"),
    ("version = v01", 11, "a version"),
    ("digest = xyz", 10, "hexadecimal"),
    ("git = ab", 7, "hexadecimal"),
])
def test_a_condition_that_is_not_understood_is_refused_with_its_position(store, condition, position, expected):
    done = call("find", "--store", store, "dataset", condition)
    assert done.code == 1 and done.out == "" and done.err.count("\n") == 1
    assert f"position {position}: expected" in done.err and expected in done.err and condition in done.err, done.err


def test_values_are_values_and_nothing_else(filled, store):
    for value in ("'; DROP TABLE facts; --", "x' OR '1'='1", "%_", "\\", "🦀", "a" * 1024):
        assert found(store, "labels.kind = " + (f'"{value}"' if value[0] == "'" else value)) == []
        assert found(store, "author = " + (f'"{value}"' if value[0] == "'" else value)) == []
        assert found(store, "labels.'" + value.replace("'", "").replace("a" * 1024, "a") + "' = 1") == []
        assert len(found(store, "dataset")) == 3


def test_places_that_are_not_there_are_refused_by_name(store):
    for place, code in (("dataset/nowhere", 3), ("nosuchkey", 3), ("nowhere/a/b", 1)):
        done = call("find", "--store", store, place)
        assert done.code == code and place.split("/")[0] in done.err, (place, done.err)
    assert call("find", "--store", store, *["size > 1"] * 18).code == 2


def test_more_than_a_page_is_found_once_each_in_order(store, place):
    """Committed through the store alone: some thousand versions would take long through the drive."""
    import sqlite3
    done = call("list", "--store", store)
    assert done.code == 0
    db = sqlite3.connect(store / "catalog.db")
    dataset = db.execute("SELECT id FROM dirs WHERE name = 'dataset'").fetchone()[0]
    with db:
        d = db.execute("INSERT INTO dirs (parent, name, is_model, hidden, uid, gid, mode, mtime_ns) VALUES (?, 'many', 1, 0, 0, 0, 493, 1)", (dataset,)).lastrowid
        db.execute("INSERT INTO models VALUES (?, 3, 'dataset/many', 'dataset_many', 'dataset_many', '', 5200, 5200, '', 0, 0)", (d,))
        for n in range(1, 5201):
            v = db.execute("INSERT INTO versions (model_id, number, state, minted_ns, committed_ns, mtime_ns, uid, gid, mode, size, n_files, n_dirs, first_child,"
                           " n_children, n_entries, run_id, owner) VALUES (?, ?, 1, 1, 1, 1, 0, 0, 365, 1, 0, 0, 0, 0, 0, 0, 0)", (d, n)).lastrowid
            db.execute("INSERT OR IGNORE INTO fact_names (name) VALUES ('labels.n')")
            db.execute("INSERT INTO facts SELECT ?, id, ?, ? FROM fact_names WHERE name = 'labels.n'", (v, n, str(n)))
    db.close()
    assert found(store, "dataset/many", "labels.n > 100") == [f"dataset/many/v{n}" for n in range(5200, 100, -1)]
    assert found(store, "dataset/many", "-n", "5100") == [f"dataset/many/v{n}" for n in range(5200, 100, -1)]
    assert len(call("find", "--store", store, "labels.n > 0").out.splitlines()) == 5200 + 6  # a heading for each thousand
