"""mintfs lineage, stale, blame, and what they mean for retire: over a small graph that metadata.json declares."""
import json
import sqlite3
import subprocess

import pytest

from cli_env import call, one_sentence

M, N = "product/P001_all/mlstm", "product/P002_all/mlstm"


@pytest.fixture
def family(drive):
    """dataset/mol v1, v2; v1 → M/v1 → M/v2 → N/v1; v1 → N/v1."""
    def version(model, files, inputs=()):
        return drive.version({**files, "metadata.json": json.dumps({"inputs": list(inputs)})}, model)
    version("dataset/mol", {"a.csv": "1"})
    version(M, {"model.bin": "1", "shared.txt": "same"}, ["dataset/mol/v1"])
    version(M, {"model.bin": "2", "shared.txt": "same"}, [f"{M}/v1"])
    version(N, {"model.bin": "3"}, [f"{M}/v2", "dataset/mol/v1"])
    (drive.path(N) / "production").symlink_to("v1")
    version("dataset/mol", {"a.csv": "2"})
    return drive


def graph(store, *args):
    done = call("lineage", "--store", store, "--json", *args)
    assert done.code == 0, done.err
    return {(e["from"], e["to"]) for e in done.json["edges"]}, {n["version"]: n["distance"] for n in done.json["nodes"]}


def test_the_graph_is_walked_up_and_down_as_far_as_asked(family, store):
    edges, nodes = graph(store, f"{N}/v1", "--up")
    assert edges == {(f"{M}/v2", f"{N}/v1"), ("dataset/mol/v1", f"{N}/v1"), (f"{M}/v1", f"{M}/v2"), ("dataset/mol/v1", f"{M}/v1")}
    assert nodes == {f"{N}/v1": 0, f"{M}/v2": -1, "dataset/mol/v1": -1, f"{M}/v1": -2}
    assert graph(store, f"{N}/production", "--up", "--depth", "1")[1] == {f"{N}/v1": 0, f"{M}/v2": -1, "dataset/mol/v1": -1}
    assert graph(store, "dataset/mol/v1", "--down")[1] == {"dataset/mol/v1": 0, f"{M}/v1": 1, f"{N}/v1": 1, f"{M}/v2": 2}
    assert graph(store, f"{M}/v2")[1] == {f"{M}/v2": 0, f"{M}/v1": -1, "dataset/mol/v1": -2, f"{N}/v1": 1}
    done = call("lineage", "dataset/mol/v2", "--store", store, "--json")
    assert done.json["edges"] == [] and done.json["complete"] is True


def test_the_tree_shows_each_version_once_with_what_is_below_it(family, store):
    out = call("lineage", f"{N}/v1", "--up", "--store", store).out
    assert out == (f"{N}/v1\n├─ dataset/mol/v1  declared\n└─ {M}/v2  declared\n   └─ {M}/v1  declared\n      └─ dataset/mol/v1  declared\n")
    both = call("lineage", f"{M}/v2", "--store", store).out
    assert "made from" in both and "made into" in both
    assert "nothing was made from it" in call("lineage", "dataset/mol/v2", "--down", "--store", store).out


def test_dot_and_mermaid_are_graphs_of_the_same_edges(family, store):
    dot = call("lineage", f"{N}/v1", "--dot", "--store", store).out
    assert dot.startswith("digraph lineage {") and dot.rstrip().endswith("}") and dot.count("->") == 4 and f'label="{M}/v2"' in dot
    mermaid = call("lineage", f"{N}/v1", "--mermaid", "--store", store).out
    assert mermaid.startswith("graph LR\n") and mermaid.count("-.->") == 4 and f'["{M}/v2"]' in mermaid


def test_names_with_quotes_and_brackets_do_not_end_a_label(drive, store):
    name = 'dataset/a "b" [c] \\ #;'
    drive.version({"x": "1"}, name)
    drive.version({"model.bin": "1", "metadata.json": json.dumps({"inputs": [name + "/v1"]})}, M)
    assert 'label="dataset/a \\"b\\" [c] \\\\ #;/v1"' in call("lineage", f"{M}/v1", "--dot", "--store", store).out
    line = [x for x in call("lineage", f"{M}/v1", "--mermaid", "--store", store).out.splitlines() if "dataset" in x]
    assert line and line[0].count('"') == 2
    assert graph(store, f"{M}/v1")[0] == {(name + "/v1", f"{M}/v1")}


@pytest.mark.parametrize("args, code", [([M], 2), ([f"{M}/v1", "--up", "--down"], 2), ([f"{M}/v1", "--dot", "--json"], 2), ([f"{M}/v1", "--depth", "0"], 2),
                                        ([f"{M}/v9"], 3)])
def test_lineage_refuses_what_it_cannot_show(family, store, args, code):
    assert call("lineage", *args, "--store", store).code == code


def test_stale_lists_what_is_in_use_and_was_made_from_an_older_version(family, store):
    rows = call("stale", "--store", store, "--json").json
    assert [(r["model"], r["version"], r["alias"], r["input"], r["used"], r["newest"]) for r in rows] == [(N, "v1", "production", "dataset/mol", "v1", "v2")]
    assert [(r["model"], r["version"]) for r in call("stale", "--all", "--store", store, "--json").json] == [(N, "v1"), (M, "v1")]
    out = call("stale", "--store", store).out
    assert "production" in out and "dataset/mol/v1" in out and "v2" in out
    assert call("stale", "product/P001", "--store", store, "--json").json == [] and call("stale", "product/P001", "--store", store).out == ""
    for words in (["product/nothing"], ["product/nothing", "--json"]):
        one_sentence(call("stale", *words, "--store", store), 3, "no model's path begins with product/nothing")


def test_a_version_that_others_were_made_from_is_retired_by_force_only_and_the_lineage_stays(family, store):
    done = call("retire", "dataset/mol/v1", "--store", store)
    assert done.code == 1 and "2 versions were made from it" in done.err and "--force" in done.err
    assert call("retire", "dataset/mol/v2", "--store", store).code == 0
    assert call("retire", "dataset/mol/v1", "--force", "--store", store).code == 0
    assert ("dataset/mol/v1", f"{M}/v1") in graph(store, f"{N}/v1")[0]
    assert "retired" in call("lineage", f"{M}/v1", "--up", "--store", store).out


def test_blame_tells_the_version_that_first_had_the_file(family, store):
    told = call("blame", f"{M}/v2/shared.txt", "--store", store, "--json").json
    assert (told["version"], told["asked"], told["path"]) == ("v1", "v2", "shared.txt")
    assert call("blame", f"{M}/v2/model.bin", "--store", store, "--json").json["version"] == "v2"
    out = call("blame", family.path(M) / "v2/shared.txt").out
    assert f"{M}/v1, and taken over since" in out and "command" in out
    for name, code in ((f"{M}/v2/nothing", 3), (f"{M}/v2", 2), (M, 2)):
        assert call("blame", name, "--store", store).code == code


def test_the_run_is_told_by_blame(drive, store, place):
    subprocess.run(["sh", "-c", "mkdir latest && echo m > latest/model.bin && chmod a-w latest"], cwd=drive.model(), check=True,
                   env={"PATH": "/usr/bin:/bin", "MINTFS_RUN": "sweep-3"})
    told = call("blame", f"{M}/v1/model.bin", "--store", store, "--json").json
    assert told["run"] == "sweep-3" and told["command"][0] == "sh" and told["directory"] == str(drive.path(M))


def test_a_tree_may_be_deeper_than_what_was_asked_for(drive, store):
    """Each of many versions was made from the one before it, and all of them from one dataset: each is one step away from that, but stands below the one before."""
    n = 1200
    drive.version({"a.csv": "1"}, "dataset/mol")
    drive.version({"model.bin": "1", "metadata.json": json.dumps({"inputs": ["dataset/mol/v1"]})}, M)
    assert drive.umount().code == 0
    with sqlite3.connect(store / "catalog.db") as db:
        model, first = db.execute("SELECT model_id, id FROM versions ORDER BY id DESC LIMIT 1").fetchone()
        columns = [r[1] for r in db.execute("PRAGMA table_info(versions)") if r[1] not in ("id", "number")]
        db.executemany(f"INSERT INTO versions (id, number, {', '.join(columns)}) SELECT ?1, ?2, {', '.join(columns)} FROM versions WHERE id = {first}",
                       [(first + i, 1 + i) for i in range(1, n)])
        db.executemany("INSERT INTO inputs VALUES (?, ?, 1)", [(first + i, first + i - 1) for i in range(1, n)] + [(first + i, first - 1) for i in range(1, n)])
        db.execute("UPDATE models SET last_number = ?, newest_committed = ? WHERE id = ?", (n, n, model))
    done = call("lineage", "dataset/mol/v1", "--down", "--store", store)
    assert done.code == 0, done.err
    assert done.out.count(f"{M}/v") >= n and f"{M}/v{n}" in done.out
