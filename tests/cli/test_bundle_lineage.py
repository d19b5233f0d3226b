"""What a version was made from and how it was evaluated goes with it in a bundle, and is found again in the store it comes to: by digest, whatever the numbers there."""
import json
import os
import sqlite3
import subprocess

import pytest

from bundles import Bundle
from cli_env import Drive, call, one_sentence

M, N = "product/P001_all/mlstm", "product/P000_all/kan"
MOL, HOLDOUT = "dataset/mol", "dataset/holdout"


def ok(*args):
    done = call(*args)
    assert done.code == 0, done.err
    return done


@pytest.fixture
def origin(drive):
    """mol/v1 → M/v1 → M/v2 ← mol/v2; M/v2 → N/v1, which stands before it in a bundle; M/v1 evaluated on holdout/v1, which nothing was made from."""
    def version(model, files, inputs=(), **more):
        metadata = {"inputs": list(inputs), **more}
        return drive.version({**files, "metadata.json": json.dumps(metadata)}, model)
    for n in (1, 2):
        drive.version({"a.csv": f"rows {n}"}, MOL)
    drive.version({"a.csv": "held out"}, HOLDOUT)
    drive.model(M)
    (drive.dir.parent / "work").mkdir()
    script = f"cd {drive.dir}/{M} && mkdir latest && cat ../../../{MOL}/v1/a.csv > latest/model.bin && echo '{{\"metrics\": {{\"rmse\": 3}}}}' > latest/metadata.json && chmod a-w latest"
    subprocess.run(["sh", "-c", script], check=True, env={**os.environ, "MINTFS_RUN": "nightly-7"}, cwd=drive.dir.parent / "work")
    version(M, {"model.bin": "two", "shared.txt": "same"}, [f"{M}/v1", f"{MOL}/v2", "dataset/nowhere/v1"], params={"lr": 0.1}, metrics={"rmse": 2})
    version(N, {"model.bin": "three", "shared.txt": "same"}, [f"{M}/v2"])
    ok("evaluate", f"{M}/v1", "--dataset", f"{HOLDOUT}/v1", "--metrics", '{"rmse": 3.25, "r2": NaN}', "--store", drive.store)
    assert drive.umount().code == 0
    return drive.store


@pytest.fixture
def other(place):
    ok("init", place / "other")
    return place / "other"


@pytest.fixture
def bundle(place, origin):
    def make(*names, store=origin):
        ok("export", *(names or ("--all",)), "--store", store, "-o", place / "b.tar")
        return place / "b.tar"
    return make


def edges(store, version):
    return {(e["from"], e["to"], e["how"]) for e in ok("lineage", version, "--depth", "9", "--json", "--store", store).json["edges"]}


def states(store, version):
    return {n["version"]: n["state"] for n in ok("lineage", version, "--up", "--json", "--store", store).json["nodes"]}


def answers(store, version, inputs=(f"{MOL}/v1", f"{MOL}/v2", f"{M}/v1")):
    """What the commands and the view tell of where a version comes from, and of what comes from it."""
    show = ok("show", version, "--json", "--store", store).json
    blame = ok("blame", version + "/model.bin", "--json", "--store", store).json
    compare = ok("compare", version, "--json", "--store", store).json
    found = {i: [(v["model"], v["version"]) for v in ok("find", f"input={i}", "--json", "--store", store).json] for i in inputs}
    with sqlite3.connect(store / "catalog.db") as db:
        rows = db.execute("SELECT model, data, parameters, scores, state, run, command, directory, user, host, git_commit, git_dirty, started_at, ended_at, exit_status"
                          " FROM experiments WHERE model_path = ?", (f"saved_models/{version}/",)).fetchall()
    return {"edges": edges(store, version), "inputs": show["inputs"], "unknown": show["unknown_inputs"], "run": show["run"], "digest": show["digest"], "blame": blame,
            "evaluations": compare[0]["evaluations"], "metrics": compare[0]["metrics"], "found": found, "experiments": rows}


def counts(store):
    with sqlite3.connect(store / "catalog.db") as db:
        return {t: db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in
                ("inputs", "inputs_unknown", "evaluations", "elsewhere", "elsewhere_inputs", "elsewhere_evaluations", "versions")}


def clean(store):
    done = call("fsck", "--verify", "--store", store)
    assert done.code == 0, done.out + done.err


# ---- what goes out ----

def test_the_manifest_names_inputs_and_datasets_by_model_number_and_digest(bundle, origin):
    b = Bundle(bundle(M).read_bytes())
    digest = {v: ok("show", v, "--json", "--store", origin).json["digest"] for v in (f"{MOL}/v1", f"{MOL}/v2", f"{M}/v1", f"{HOLDOUT}/v1")}
    assert b.version(1)["lineage"]["inputs"] == [{"model": MOL, "number": 1, "digest": digest[f"{MOL}/v1"], "how": "observed"}]
    (evaluation,) = b.version(1)["lineage"]["evaluations"]
    assert (evaluation["model"], evaluation["number"], evaluation["digest"]) == (HOLDOUT, 1, digest[f"{HOLDOUT}/v1"])
    assert evaluation["metrics"] == {"rmse": 3.25, "r2": None} and evaluation["author"] and evaluation["at_ns"] > 0
    second = b.version(2)["lineage"]
    assert sorted((i["model"], i["number"], i["digest"], i["how"]) for i in second["inputs"]) == sorted(
        [(MOL, 2, digest[f"{MOL}/v2"], "declared"), (M, 1, digest[f"{M}/v1"], "declared")])
    assert [u["text"] for u in second["unknown"]] == ["dataset/nowhere/v1"] and second["unknown"][0]["reason"]
    assert b.version(1)["run"]["id"] == "nightly-7" and b.version(1)["run"]["cwd"]
    assert "lineage" not in Bundle(bundle(MOL).read_bytes()).version(1)


# ---- with the dataset ----

def test_a_model_and_its_dataset_tell_the_same_in_the_store_they_come_to(bundle, origin, other):
    ok("import", bundle(), "--store", other)
    for version in (f"{M}/v1", f"{M}/v2", f"{N}/v1"):
        assert answers(other, version) == answers(origin, version)
    assert edges(other, f"{MOL}/v1") == edges(origin, f"{MOL}/v1")
    assert counts(other)["elsewhere"] == 0
    clean(other)


def test_lineage_within_a_bundle_follows_new_numbers(bundle, origin, other, place):
    """All numbers of the bundle are taken there by something else."""
    (place / "second").mkdir()
    drive = Drive(other, place / "second").mount()
    for model in (MOL, HOLDOUT, M, N):
        drive.version({"model.bin": "another", "x": model}, model)
    assert drive.umount().code == 0
    b = bundle()
    assert call("import", b, "--store", other).code != 0
    ok("import", b, "--store", other, "--renumber")
    plus = lambda version: version[:version.rindex("v") + 1] + str(int(version[version.rindex("v") + 1:]) + 1)
    for version in (f"{M}/v1", f"{M}/v2", f"{N}/v1"):
        assert edges(other, plus(version)) == {(plus(a), plus(b), how) for a, b, how in edges(origin, version)}
    assert edges(other, f"{M}/v1") == set() and edges(other, f"{MOL}/v1") == set()
    here, there = answers(origin, f"{M}/v1"), answers(other, f"{M}/v2")
    assert there["evaluations"] == {f"{name[:-len('/v1')]}/v2": value for name, value in here["evaluations"].items()} != {}
    assert there["run"] == here["run"] and there["digest"] == here["digest"]
    clean(other)


def test_an_input_that_is_here_under_another_number_is_found_by_its_digest(bundle, origin, other):
    ok("import", bundle(f"{MOL}/v1"), "--store", other)
    ok("import", bundle(f"{MOL}/v1"), "--store", other, "--renumber")       # v2 here is v1 there
    ok("import", bundle(f"{MOL}/v2"), "--store", other, "--renumber")       # v3 here is v2 there
    ok("import", bundle(M), "--store", other)
    assert edges(other, f"{M}/v2") == {(f"{MOL}/v1", f"{M}/v1", "observed"), (f"{M}/v1", f"{M}/v2", "declared"), (f"{MOL}/v3", f"{M}/v2", "declared")}
    assert counts(other)["elsewhere_inputs"] == 0 and counts(other)["elsewhere_evaluations"] == 1


def test_what_has_the_name_here_but_other_contents_is_not_taken_for_the_input(bundle, origin, other, place):
    (place / "second").mkdir()
    drive = Drive(other, place / "second").mount()
    drive.version({"a.csv": "other rows"}, MOL)
    drive.version({"a.csv": "other rows held out"}, HOLDOUT)
    assert drive.umount().code == 0
    ok("import", bundle(M), "--store", other)
    assert edges(other, f"{MOL}/v1") == set()
    assert ok("find", f"input={MOL}/v1", "--json", "--store", other).json == []
    evaluations = ok("compare", f"{M}/v1", "--json", "--store", other).json[0]["evaluations"]
    assert evaluations[f"rmse on {HOLDOUT}/v1 (not in this store)"] == 3.25 and len(evaluations) == 2
    assert [(v["model"], v["version"]) for v in ok("find", f"input={MOL}", "--json", "--store", other).json] == [(M, "v2"), (M, "v1")]


# ---- without it ----

def test_without_the_dataset_the_same_is_told_and_that_it_is_not_here(bundle, origin, other):
    ok("import", bundle(M), "--store", other)
    here, there = answers(origin, f"{M}/v1", [f"{MOL}/v1", MOL, f"{MOL}/v2"]), answers(other, f"{M}/v1", [f"{MOL}/v1", MOL, f"{MOL}/v2"])
    assert {e for e in here["edges"] if e[1] != f"{N}/v1"} == there["edges"]
    assert there["inputs"] == [{**i, "elsewhere": True} for i in here["inputs"]]
    for same in ("unknown", "run", "digest", "blame", "metrics", "found", "experiments"):
        assert there[same] == here[same]
    assert states(other, f"{M}/v2") == {f"{M}/v2": "committed", f"{M}/v1": "committed", f"{MOL}/v1": "elsewhere", f"{MOL}/v2": "elsewhere"}
    digest = ok("show", f"{MOL}/v1", "--json", "--store", origin).json["digest"]
    (node,) = [n for n in ok("lineage", f"{M}/v1", "--json", "--store", other).json["nodes"] if n["version"] == f"{MOL}/v1"]
    assert node["digest"] == digest
    assert f"└─ {MOL}/v1  not in this store, digest {digest[:12]}\n" in ok("lineage", f"{M}/v1", "--up", "--store", other).out
    assert f"{MOL}/v1" in ok("show", f"{M}/v1", "--store", other).out and "not in this store" in ok("show", f"{M}/v1", "--store", other).out
    assert " -> n" in ok("lineage", f"{M}/v1", "--dot", "--store", other).out and "-->" in ok("lineage", f"{M}/v1", "--mermaid", "--store", other).out
    assert call("find", f"input={HOLDOUT}/v1", "--store", other).code == 3  # evaluated on it, not made from it
    assert call("find", f"input={MOL}/v9", "--store", other).code == 3
    assert ok("stale", "--store", other).out == ""
    clean(other)


@pytest.mark.parametrize("how", ["import", "renumber", "commit", "tree"])
def test_a_dataset_that_comes_later_joins_what_was_made_from_it(bundle, origin, other, place, how):
    ok("import", bundle(M), "--store", other)
    assert counts(other)["elsewhere"] == 3
    if how == "commit":
        (place / "second").mkdir()
        drive = Drive(other, place / "second").mount()
        for file, model in (("rows 1", MOL), ("rows 2", MOL), ("held out", HOLDOUT)):
            drive.version({"a.csv": file}, model)
        assert drive.umount().code == 0
    elif how == "tree":
        for model, n, text in ((MOL, 1, "rows 1"), (MOL, 2, "rows 2"), (HOLDOUT, 1, "held out")):
            (place / f"tree/{model}/v{n}").mkdir(parents=True)
            (place / f"tree/{model}/v{n}/a.csv").write_text(text)
        ok("import", "--tree", place / "tree", "--store", other)
    else:
        ok("import", bundle(MOL, HOLDOUT), "--store", other, *(["--renumber"] if how == "renumber" else []))
    for version in (f"{M}/v1", f"{M}/v2"):
        here, there = answers(origin, version), answers(other, version)
        assert there["edges"] == {e for e in here["edges"] if e[1] != f"{N}/v1"}
        if how not in ("commit", "tree"):
            assert there["evaluations"] == here["evaluations"]
        assert sorted(map(str, there["inputs"])) == sorted(map(str, here["inputs"])) and there["experiments"] == here["experiments"]
    assert {k: v for k, v in counts(other).items() if k.startswith("elsewhere")} == {"elsewhere": 0, "elsewhere_inputs": 0, "elsewhere_evaluations": 0}
    assert counts(other)["evaluations"] == 1
    clean(other)


def test_what_is_not_here_goes_on_to_a_third_store(bundle, origin, other, place):
    ok("import", bundle(M), "--store", other)
    ok("init", place / "third")
    ok("import", bundle(M, store=other), "--store", place / "third")
    ok("import", bundle(MOL, HOLDOUT), "--store", place / "third")
    for version in (f"{M}/v1", f"{M}/v2"):
        here, there = answers(origin, version), answers(place / "third", version)
        assert there["edges"] == {e for e in here["edges"] if e[1] != f"{N}/v1"} and there["evaluations"] == here["evaluations"]


# ---- again, older, newer ----

@pytest.mark.parametrize("names", [(), (M,)])
def test_an_import_that_is_repeated_changes_nothing(bundle, origin, other, names):
    b = bundle(*names)
    ok("import", b, "--store", other)
    before = counts(other), answers(other, f"{M}/v2")
    ok("import", b, "--store", other)
    assert (counts(other), answers(other, f"{M}/v2")) == before
    at_home = counts(origin)
    ok("import", b, "--store", origin)
    assert counts(origin) == at_home


def test_a_bundle_without_lineage_comes_in_and_one_with_it_tells_the_rest_later(bundle, origin, other, place):
    b = Bundle(bundle().read_bytes())
    for model in b.manifest["models"]:
        for version in model["versions"]:
            version.pop("lineage", None)
    (place / "old.tar").write_bytes(b.pack())
    ok("import", place / "old.tar", "--store", other)
    assert edges(other, f"{M}/v2") == set()
    ok("import", bundle(), "--store", other)
    for version in (f"{M}/v1", f"{M}/v2", f"{N}/v1"):
        assert answers(other, version) == answers(origin, version)
    assert counts(other)["versions"] == counts(origin)["versions"]


def test_what_is_known_here_already_is_not_for_a_bundle_to_change_but_new_evaluations_come(bundle, origin, other, place):
    ok("import", bundle(), "--store", other)
    before = edges(other, f"{M}/v2")
    ok("evaluate", f"{M}/v2", "--dataset", f"{HOLDOUT}/v1", "--metrics", '{"rmse": 7}', "--store", origin)
    b = Bundle(bundle().read_bytes())
    (model,) = [m for m in b.manifest["models"] if m["model"] == M]
    model["versions"][1]["lineage"]["inputs"] = [{"model": HOLDOUT, "number": 1, "how": "observed"}]
    (place / "forged.tar").write_bytes(b.pack())
    ok("import", place / "forged.tar", "--store", other)
    assert edges(other, f"{M}/v2") == before
    assert ok("compare", f"{M}/v2", "--json", "--store", other).json[0]["evaluations"] == {f"rmse on {HOLDOUT}/v1": 7}


def test_a_backup_keeps_what_is_not_here(bundle, origin, other, place):
    ok("import", bundle(M), "--store", other)
    ok("backup", place / "copy", "--store", other)
    ok("restore", place / "copy", place / "back")
    assert answers(place / "back", f"{M}/v1") == answers(other, f"{M}/v1")
    ok("import", bundle(MOL), "--store", place / "back")
    assert states(place / "back", f"{M}/v1") == {f"{M}/v1": "committed", f"{MOL}/v1": "committed"}


# ---- nobody is trusted ----

def lineage(bundle, number=1):
    (model,) = [m for m in bundle.manifest["models"] if m["model"] == M]
    return next(v for v in model["versions"] if v["number"] == number)["lineage"]


HOSTILE = {
    "no object": (lambda v: v.update(lineage=[]), "'lineage' is not what it should be"),
    "no array": (lambda v: v["lineage"].update(inputs={}), "'inputs' is not what it should be"),
    "no objects in it": (lambda v: v["lineage"].update(inputs=[1]), "'inputs' holds something else than objects"),
    "no model": (lambda v: v["lineage"]["inputs"][0].pop("model"), "'model' is missing"),
    "no how": (lambda v: v["lineage"]["inputs"][0].pop("how"), "'how' is missing"),
    "another how": (lambda v: v["lineage"]["inputs"][0].update(how="guessed"), "'how' is not what it should be"),
    "a path": (lambda v: v["lineage"]["inputs"][0].update(model="../../etc"), "is no model"),
    "a scope": (lambda v: v["lineage"]["inputs"][0].update(model="dataset"), "is no model"),
    "number 0": (lambda v: v["lineage"]["inputs"][0].update(number=0), "no version number 0"),
    "a large number": (lambda v: v["lineage"]["inputs"][0].update(number=2**40), "no version number"),
    "half a number": (lambda v: v["lineage"]["inputs"][0].update(number=1.5), "'number' is not what it should be"),
    "no digest": (lambda v: v["lineage"]["inputs"][0].update(digest="abc"), "is no digest"),
    "itself": (lambda v: v["lineage"]["inputs"][0].update(model=M, number=1), "made from itself"),
    "no text": (lambda v: v["lineage"].update(unknown=[{"reason": "x"}]), "'text' is missing"),
    "no metrics": (lambda v: v["lineage"]["evaluations"][0].pop("metrics"), "'metrics' is missing"),
    "no numbers in them": (lambda v: v["lineage"]["evaluations"][0].update(metrics={"a": "b"}), "hold no number"),
    "metrics that are none": (lambda v: v["lineage"]["evaluations"][0].update(metrics=[1]), "'metrics' is not what it should be"),
    "large metrics": (lambda v: v["lineage"]["evaluations"][0].update(metrics={f"m{i}": 1.5 for i in range(100000)}), "larger than"),
    "on a model": (lambda v: v["lineage"]["evaluations"][0].update(model=M), "no dataset"),
    "before 1970": (lambda v: v["lineage"]["evaluations"][0].update(at_ns=-1), "before 1970"),
}


@pytest.mark.parametrize("what", HOSTILE, ids=[w.replace(" ", "-") for w in HOSTILE])
def test_lineage_that_breaks_a_rule_is_refused_with_a_sentence_and_nothing_comes_in(bundle, other, place, what):
    edit, words = HOSTILE[what]
    b = Bundle(bundle(M).read_bytes())
    edit(b.version(1))
    (place / "bad.tar").write_bytes(b.pack())
    one_sentence(call("import", place / "bad.tar", "--store", other), 1, words)
    assert ok("list", "--json", "--store", other).json == [] and set(counts(other).values()) == {0}


def test_a_dataset_with_evaluations_is_refused(bundle, other, place):
    b = Bundle(bundle(M, MOL).read_bytes())
    version = b.version(1)
    version.update(lineage={"evaluations": lineage(b)["evaluations"]}, entries=version.pop("entries"))
    (place / "bad.tar").write_bytes(b.pack())
    one_sentence(call("import", place / "bad.tar", "--store", other), 1, "is no version of a model")


def test_members_that_are_not_known_are_passed_over(bundle, origin, other, place):
    b = Bundle(bundle().read_bytes())
    lineage(b)["later"] = [1, {"a": []}]
    lineage(b)["inputs"][0]["later"] = {"b": [[]]}
    lineage(b)["evaluations"][0]["later"] = None
    (place / "new.tar").write_bytes(b.pack())
    ok("import", place / "new.tar", "--store", other)
    assert answers(other, f"{M}/v1") == answers(origin, f"{M}/v1")


def test_a_circle_that_a_manifest_tells_hurts_nobody(bundle, other, place):
    b = Bundle(bundle(M).read_bytes())
    digest = [i for i in lineage(b, 2)["inputs"] if i["model"] == M][0]["digest"]
    lineage(b, 1)["inputs"] = [{"model": M, "number": 2, "how": "declared"}]
    assert digest
    (place / "ring.tar").write_bytes(b.pack())
    ok("import", place / "ring.tar", "--store", other)
    out = ok("lineage", f"{M}/v1", "--depth", "1000", "--store", other).out
    assert "(see above)" in out and out.count("\n") < 20
    assert (f"{M}/v1", f"{M}/v2", "declared") in edges(other, f"{M}/v1") and (f"{M}/v2", f"{M}/v1", "declared") in edges(other, f"{M}/v1")
    ok("stale", "--all", "--store", other)
    ok("find", f"input={M}/v1", "--store", other)
    clean(other)


def test_a_wrong_digest_only_means_another_version(bundle, other, place):
    b = Bundle(bundle(M, MOL).read_bytes())
    lineage(b)["inputs"][0]["digest"] = "0" * 64
    (place / "lie.tar").write_bytes(b.pack())
    ok("import", place / "lie.tar", "--store", other)
    assert edges(other, f"{MOL}/v1") == set() and states(other, f"{M}/v1")[f"{MOL}/v1"] == "elsewhere"


def test_thousands_of_inputs_come_in(bundle, other, place):
    b = Bundle(bundle(M).read_bytes())
    lineage(b)["inputs"] = [{"model": f"dataset/d{i}", "number": 1, "digest": f"{i:064x}", "how": "observed"} for i in range(20000)]
    (place / "many.tar").write_bytes(b.pack())
    ok("import", place / "many.tar", "--store", other)
    assert counts(other)["elsewhere_inputs"] == 20001
    assert len(ok("lineage", f"{M}/v1", "--up", "--json", "--store", other).json["nodes"]) == 20001
