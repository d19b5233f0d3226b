"""retire, prune, gc: what goes, what stays, and what is said of it."""
import os
import re
import sqlite3
import subprocess
import time

import pytest

from cli_env import call, one_sentence, wait_for

MODEL = "product/P001_all/mlstm"
BIG = 256 << 10  # smaller files are opened without a trace (docs/design/fs.md)


def blobs(store):
    return sorted(p.parent.name + p.name for p in (store / "blobs").glob("??/*"))


def rows(store, sql):
    db = sqlite3.connect(f"file:{store}/catalog.db?mode=ro", uri=True)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def stored_bytes(drive):
    return call("status", drive.store, "--json").json["totals"]["stored_bytes"]


# ---- retire ----


def test_retire_takes_a_version_out_of_the_drive_and_keeps_its_row(drive):
    v1 = drive.version(metrics={"rmse": 1.0}, message="first")
    drive.version(metrics={"rmse": 2.0})
    assert os.readlink(drive.path(MODEL, "best")) == "v1"
    done = call("retire", v1, "-m", "wrong prices")
    assert done.code == 0 and "v1 of product/P001_all/mlstm retired" in done.out
    assert sorted(n for n in os.listdir(drive.path(MODEL)) if n[0] == "v") == ["v2"]
    assert not os.path.lexists(v1) and os.readlink(drive.path(MODEL, "best")) == "v2"
    shown = call("show", MODEL + "/v1", "--store", drive.store, "--json").json
    assert shown["state"] == "retired" and [f["path"] for f in shown["files"]] == ["metadata.json", "model.bin"]
    assert rows(drive.store, "SELECT version FROM model_versions ORDER BY id") == [("v1",), ("v2",)]
    assert shown["retired"]["message"] == "wrong prices" and shown["retired"]["at"] and shown["retired"]["author"]
    assert "wrong prices" in call("show", MODEL + "/v1", "--store", drive.store).out
    assert call("show", MODEL + "/v2", "--store", drive.store, "--json").json["retired"] is None
    assert os.path.basename(drive.version()) == "v3"


def test_the_number_of_a_retired_version_is_never_used_again_though_it_was_the_newest(drive):
    call("retire", drive.version())
    assert not os.path.lexists(drive.path(MODEL, "latest"))
    assert os.path.basename(drive.version()) == "v2"


def test_retire_is_refused_while_an_alias_leads_there_and_force_drops_it(drive):
    v1 = drive.version()
    assert call("alias", drive.path(MODEL), "production", "v1").code == 0
    done = call("retire", v1)
    assert done.code == 1 and "production" in done.err and os.path.isdir(v1)
    assert call("retire", v1, "--force").code == 0
    assert not os.path.lexists(drive.path(MODEL, "production"))
    history = call("alias", "--history", drive.path(MODEL), "--json").json
    assert [(e["name"], e["from"], e["to"]) for e in history] == [("production", None, "v1"), ("production", "v1", None)]


def test_retire_is_refused_while_a_file_is_open(drive):
    v1 = drive.version({"model.bin": b"weights".ljust(BIG)})
    with open(v1 / "model.bin", "rb") as f:
        done = call("retire", v1)
        assert done.code == 1 and "in use" in done.err and os.path.isdir(v1)
        assert f.read(7) == b"weights"
    deadline = time.monotonic() + 30
    while (done := call("retire", v1)).code and time.monotonic() < deadline:  # RELEASE comes after close
        assert "in use" in done.err
    assert done.code == 0


def test_retire_works_on_a_store_that_is_not_mounted_and_twice_is_once(drive):
    drive.version()
    drive.umount()
    name = (MODEL + "/v1", "--store", drive.store)
    assert call("retire", *name).code == 0
    again = call("retire", *name)
    assert again.code == 0 and "already" in again.out
    assert call("retire", *name, "--json").json == {"model": MODEL, "version": "v1", "number": 1, "state": "retired"}


@pytest.mark.parametrize("name, code", [(MODEL, 2), (MODEL + "/v9", 3), (MODEL + "/v1/model.bin", 2), (MODEL + "/v2", 1)])
def test_retire_of_what_is_no_committed_version_says_so(drive, name, code):
    drive.version()
    drive.mint({"model.bin": "x"})
    done = call("retire", drive.path(name))
    assert done.code == code and len(done.err.splitlines()) == (2 if code == 2 else 1), done.err
    assert drive.path(MODEL, "v1").is_dir() and drive.path(MODEL, "v2").is_dir()


# ---- gc ----


def test_gc_frees_what_only_retired_versions_held(drive):
    v1 = drive.version({"model.bin": "one", "same.txt": "shared"})
    v2 = drive.version({"model.bin": "two", "same.txt": "shared"})
    before = blobs(drive.store)
    assert call("retire", v1).code == 0
    dry = call("gc", drive.store, "--dry-run", "--grace", "0", "--json").json
    assert dry["dry_run"] and dry["freed"] == 2 and blobs(drive.store) == before
    done = call("gc", drive.dir, "--grace", "0", "--json").json
    assert not done["dry_run"] and (done["freed"], done["freed_bytes"]) == (dry["freed"], dry["freed_bytes"])
    assert len(blobs(drive.store)) == len(before) - 2 and done["kept"] == len(before) - 2
    assert (v2 / "same.txt").read_text() == "shared" and (v2 / "model.bin").read_text() == "two"
    assert call("gc", drive.store, "--grace", "0", "--json").json["freed"] == 0


def test_gc_leaves_what_was_retired_within_the_grace_period(drive):
    call("retire", drive.version())
    before = blobs(drive.store)
    done = call("gc", drive.store)
    assert done.code == 0 and done.out.startswith("freed 0 contents") and blobs(drive.store) == before
    assert "retired not longer than 1h ago" in done.out


def test_what_gc_freed_comes_back_with_the_next_commit_of_the_same_content(drive):
    v1 = drive.version({"model.bin": "again"})
    call("retire", v1)
    assert call("gc", drive.store, "--grace", "0").code == 0
    stored = stored_bytes(drive)
    v2 = drive.version({"model.bin": "again"})
    assert (v2 / "model.bin").read_text() == "again"
    assert rows(drive.store, "SELECT count(*) FROM absent a JOIN blobs b ON b.id = a.blob WHERE b.size = 5") == [(0,)]
    assert stored_bytes(drive) > stored


def test_gc_names_what_it_frees_when_asked_to(drive):
    call("retire", drive.version({"model.bin": "weights"}))
    text = call("gc", drive.store, "--grace", "0", "-v").out
    assert len(re.findall(r"^[0-9a-f]{64}  ", text, re.M)) == 2 and "freed 2 contents" in text


def test_gc_beside_commits_never_takes_what_they_need(drive):
    """The same contents are retired, freed and committed over and over."""
    drive.model()
    gc = subprocess.Popen(["sh", "-c", 'while :; do "$0" gc "$1" --grace 0 >/dev/null || exit 1; done', os.environ.get("MINTFS_BIN", "mintfs"), str(drive.store)])
    try:
        for n in range(25):
            v = drive.version({"model.bin": "always the same", "other.bin": f"turn {n % 3}"})
            assert (v / "model.bin").read_text() == "always the same" and (v / "other.bin").read_text() == f"turn {n % 3}"
            done = call("retire", v, "--force")
            assert done.code == 0, done.err
        assert gc.poll() is None
    finally:
        gc.kill()
        gc.wait()


def test_gc_takes_a_time_with_its_unit_only(drive):
    for text in ("", "5", "1x", "-1d", "99999999999999999999d"):
        assert call("gc", drive.store, "--grace", text).code == 2


# ---- prune ----


@pytest.fixture
def history(drive):
    """v1 to v6 with rmse 3, 1, 5, 2, 6, 4; production leads to v1."""
    for rmse in (3, 1, 5, 2, 6, 4):
        drive.version({"model.bin": f"weights {rmse}".ljust(BIG)}, metrics={"rmse": rmse})
    assert call("alias", drive.path(MODEL), "production", "v1").code == 0
    return drive


def actions(done):
    return {i["version"]: i["action"] for i in done.json}


@pytest.mark.parametrize("rule, stay", [
    (["--keep-last", "2"], {1, 5, 6}),
    (["--keep-best", "2"], {1, 2, 4, 6}),
    (["--keep-last", "1", "--keep-best", "1"], {1, 2, 6}),
    (["--older-than", "1s"], {1, 6}),
    (["--older-than", "30d"], {1, 2, 3, 4, 5, 6}),
    (["--keep-last", "3", "--keep-aliased"], {1, 4, 5, 6}),
])
def test_prune_shows_what_its_rules_would_retire_and_does_it_only_with_yes(history, rule, stay):
    if "1s" in rule:
        time.sleep(max(0, 1.1 - (time.time() - os.stat(history.path(MODEL, "v6")).st_ctime)))
    shown = call("prune", history.path(MODEL), *rule, "--json")
    assert shown.code == 0, shown.err
    assert {int(v[1:]) for v, a in actions(shown).items() if a == "keep"} == stay and len(shown.json) == 6
    assert sorted(n for n in os.listdir(history.path(MODEL)) if n[0] == "v") == [f"v{n}" for n in range(1, 7)]
    done = call("prune", history.path(MODEL), *rule, "--yes", "--json")
    assert done.code == 0 and actions(done) == actions(shown) and all(i["done"] == (i["action"] == "retire") for i in done.json)
    assert {int(n[1:]) for n in os.listdir(history.path(MODEL)) if n[0] == "v"} == stay


def test_prune_says_that_nothing_was_done_and_why_versions_stay(history):
    text = call("prune", history.path(MODEL), "--keep-last", "2", "-v").out
    assert "--yes" in text and "production leads to it" in text and "the newest" in text


def test_prune_leaves_a_version_that_is_in_use(history):
    with open(history.path(MODEL, "v3", "model.bin"), "rb"):
        done = call("prune", history.path(MODEL), "--keep-last", "1", "--yes", "--json")
    assert done.code == 0 and actions(done)["v3"] == "keep" and actions(done)["v2"] == "retire"
    assert history.path(MODEL, "v3").is_dir()


def test_prune_by_a_metric_that_no_version_has_is_refused(drive):
    drive.version()
    drive.version()
    done = call("prune", drive.path(MODEL), "--keep-best", "1", "--yes")
    assert done.code == 1 and "metric" in done.err and drive.path(MODEL, "v1").is_dir()


def test_prune_of_all_models(drive):
    for model in (MODEL, "store/S1_all/kan"):
        drive.version(model=model)
        drive.version(model=model)
    done = call("prune", "--all", "--keep-last", "1", "--yes", "--json", "--store", drive.store)
    assert [(i["model"], i["version"]) for i in done.json if i["done"]] == [(MODEL, "v1"), ("store/S1_all/kan", "v1")]


@pytest.mark.parametrize("args", [[MODEL], ["--all"], [MODEL, "--keep-last", "0"], [MODEL, "--keep-last", "x"], [MODEL, "--older-than", "5"], ["--drafts"],
                                  [MODEL, "--all", "--keep-last", "1"], ["--drafts", "--older-than", "1d", "--keep-last", "1"], ["--keep-last", "1"]])
def test_prune_without_a_clear_rule_is_a_usage_error(drive, args):
    drive.version()
    assert call("prune", *args, "--store", drive.store, "--yes").code == 2


@pytest.mark.skipif(tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) < (6, 15), reason="how a run ends is told by Linux 6.15")
def test_prune_discards_drafts_that_nobody_works_on(drive):
    """The run of each draft was one process that failed."""
    drive.version()
    drafts = []
    for n in range(2):
        script = 'mkdir "$0/next" && v=$(ls -d "$0"/v* | sort -V | tail -1) && echo x >"$v/note.txt" && exit 3'
        subprocess.run(["setsid", "sh", "-c", script, str(drive.path(MODEL))])
        drafts.append(drive.path(MODEL, f"v{n + 2}"))
    assert wait_for(lambda: actions(call("prune", "--drafts", "--older-than", "1s", drive.path(MODEL), "--json")) == {"v2": "discard", "v3": "discard"})
    assert all(d.is_dir() for d in drafts)
    assert actions(call("prune", "--drafts", "--older-than", "1d", drive.path(MODEL), "--json")) == {"v2": "keep", "v3": "keep"}
    done = call("prune", "--drafts", "--older-than", "1s", "--yes", "--store", drive.store)
    assert done.code == 0 and "discarded 2 drafts" in done.out and not any(d.exists() for d in drafts)
    assert drive.path(MODEL, "v1").is_dir()


# ---- a store of an ordinary user, on a drive that root mounted ----

OWNER = 1234


@pytest.fixture
def owned(drive):
    """root's drive of a store that belongs to OWNER."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    assert drive.umount().code == 0
    subprocess.run(["chown", "-R", str(OWNER), str(drive.store)], check=True)
    return drive.mount()


def test_the_owner_of_the_store_retires_and_prunes_what_root_made(owned):
    for _ in range(4):
        owned.version()
    assert owned.path(MODEL).stat().st_uid == 0 and not owned.path(MODEL).stat().st_mode & 0o022
    done = call("retire", owned.path(MODEL, "v1"), "-m", "mine", user=OWNER)
    assert done.code == 0, done.err
    assert call("prune", MODEL, "--keep-last", "1", "--yes", "--store", owned.store, user=OWNER).code == 0
    assert wait_for(lambda: sorted(n for n in os.listdir(owned.path(MODEL)) if n[0] == "v") == ["v4"])
    one_sentence(call("retire", owned.path(MODEL, "v4"), user=OWNER + 1), 1, "v4 belongs to somebody else")
    assert owned.path(MODEL, "v4/model.bin").exists()


def sealed(path):
    return "i" in subprocess.run(["lsattr", str(path)], capture_output=True, text=True).stdout.split(" ")[0]


def test_what_root_sealed_stays_at_a_gc_of_the_owner_and_the_rest_goes(owned):
    for n in range(3):
        owned.version({"model.bin": f"weights {n}"})
    assert call("retire", owned.path(MODEL, "v1"), user=OWNER).code == 0
    assert call("retire", owned.path(MODEL, "v2"), user=OWNER).code == 0
    assert owned.umount().code == 0
    all_of_it = blobs(owned.store)
    paths = {b: owned.store / "blobs" / b[:2] / b[2:] for b in all_of_it}
    if not all(sealed(p) for p in paths.values()):
        pytest.skip("no immutable flag here")
    free = call("gc", owned.store, "--grace", "0", "-n", "-v", "--json").json
    victims = [c["sha256"] for c in free["contents"]]
    assert free["sealed"] == 0 and len(victims) == 4  # model.bin and metadata.json, twice
    for b in victims[:2]:
        subprocess.run(["chattr", "-i", str(paths[b])], check=True)
    for args in (["-n"], []):
        done = call("gc", owned.store, "--grace", "0", *args, "--json", "-v", user=OWNER)
        got = done.json
        assert done.code == 1 and (got["freed"], got["sealed"]) == (2, 2), done.out
        assert {c["sha256"] for c in got["contents"] if c["sealed"]} == set(victims[2:])
        assert "2 contents" in done.err and f"mintfs gc {owned.store}" in done.err and done.err.count("\n") == 1
    assert set(blobs(owned.store)) == set(all_of_it) - set(victims[:2])
    assert "root" in call("gc", owned.store, "--grace", "0", user=OWNER).err, "each time"
    done = call("gc", owned.store, "--grace", "0", "--json")
    assert done.code == 0 and (done.json["freed"], done.json["sealed"]) == (2, 0)
    assert call("gc", owned.store, "--grace", "0", user=OWNER).code == 0
    assert call("fsck", owned.store, "--json", user=OWNER).json["findings"] == []
