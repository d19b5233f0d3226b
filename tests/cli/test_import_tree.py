"""An existing folder of models, with the versions.json and the database that its programs keep, into a store."""
import json
import os
import shutil
import socket
import sqlite3
import subprocess

import pytest

from cli_env import Drive, call, one_sentence
from test_bundle import M, NOBODY, as_root, state_of, tree_of

G = "global/all/sum/kan"
OLD = 1_600_000_000  # seconds


def write(path, data, at=OLD):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    os.utime(path, (at, at))


@pytest.fixture
def folder(place):
    """Two models, three versions, an alias, versions.json and a database."""
    top = place / "saved_models"
    write(top / M / "v1/model.bin", "weights")
    write(top / M / "v1/metadata.json", json.dumps({"metrics": {"rmse": 9}}))
    write(top / M / "v2/model.bin", "weights")
    write(top / M / "v2/plots/loss.txt", "a plot")
    os.symlink("model.bin", top / M / "v2/link")
    os.link(top / M / "v2/model.bin", top / M / "v2/hard.bin")
    write(top / G / "v5/model.bin", "sums")
    os.symlink("v2", top / M / "latest")
    os.symlink(top / M / "v1", top / M / "production")
    (top / "versions.json").write_text(json.dumps({"product_P001_all_mlstm": 4, "global_all_sum_kan": 5}))
    db = sqlite3.connect(top / "registry.db")
    db.execute("CREATE TABLE model_versions (id INTEGER PRIMARY KEY, model_identifier TEXT, model_type TEXT, version TEXT, model_path TEXT,"
               " created_at TEXT, metrics_summary TEXT)")
    rows = [("product_P001_all", "mlstm", "v1", "2025-07-15 18:40:00", '{"rmse": 10.5, "r2": 0.89}'),
            ("product_P001_all", "mlstm", "v2", "2025-07-16T08:00:00.250000Z", '{"rmse": 8.25, "mae": NaN}'),
            ("global_all_sum", "kan", "v5", None, "no json")]
    db.executemany("INSERT INTO model_versions (model_identifier, model_type, version, model_path, created_at, metrics_summary)"
                   " VALUES (?1, ?2, ?3, 'saved_models/', ?4, ?5)", rows)
    db.commit()
    db.close()
    return top


def take(folder, store, *options, **more):
    return call("import", "--tree", folder, "--store", store, *options, **more)


def lines(done):
    assert done.code == 0, done.err
    return {r["path"]: (r["result"], r["reason"]) for r in done.json}


def test_a_folder_comes_in_with_its_numbers_times_metrics_and_aliases(folder, store):
    assert lines(take(folder, store, "--json")) == {f"{M}/v1": ("imported", None), f"{M}/v2": ("imported", None), f"{G}/v5": ("imported", None)}
    one, two = (call("show", f"{M}/{v}", "--json", "--store", store).json for v in ("v1", "v2"))
    assert (one["created"], one["metrics"]) == ("2025-07-15 18:40:00", {"rmse": 10.5, "r2": 0.89})
    assert (two["created"], two["metrics"]) == ("2025-07-16 08:00:00", {"rmse": 8.25, "mae": None})
    assert call("show", f"{G}/v5", "--json", "--store", store).json["metrics"] == {}
    assert [f["path"] for f in two["files"]] == ["hard.bin", "link", "model.bin", "plots", "plots/loss.txt"]
    assert [(a["name"], a["version"]) for a in call("alias", M, "--json", "--store", store).json] == [("production", "v1")]
    assert call("show", M, "--json", "--store", store).json["best"] == "v2"


def test_a_time_of_the_database_that_no_catalog_holds_is_the_last_that_it_does(folder, store):
    db = sqlite3.connect(folder / "registry.db")
    db.execute("UPDATE model_versions SET created_at = '9999-12-31 23:59:59.999' WHERE version = 'v1'")
    db.commit()
    db.close()
    assert take(folder, store).code == 0
    assert call("show", f"{M}/v1", "--json", "--store", store).json["created"] == "2262-04-11 23:47:16"


@as_root
def test_a_full_store_ends_the_import_with_the_version_and_the_file_that_had_no_room(place):
    for n in (1, 2):
        write(place / "saved_models" / M / f"v{n}/model.bin", bytes([n]) * (3 << 20))
    (place / "small").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "none", place / "small"], check=True)
    try:
        assert call("init", place / "small/store").code == 0
        done = take(place / "saved_models", place / "small/store")
        assert done.code == 1 and done.out == f"{M}/v1 imported\n"
        assert done.err == f"mintfs import: {M}/v2: model.bin cannot be written to the store: No space left on device\n"
        assert call("fsck", place / "small/store", "--verify").code == 0
    finally:
        subprocess.run(["umount", place / "small"], check=True)


def test_the_table_for_other_programs_has_what_theirs_had(folder, store):
    assert take(folder, store).code == 0
    db = sqlite3.connect(f"file:{store}/catalog.db?mode=ro", uri=True)
    rows = db.execute("SELECT model_identifier, model_type, version, model_path, created_at FROM model_versions ORDER BY model_path").fetchall()
    assert rows == [("global_all_sum", "kan", "v5", f"saved_models/{G}/v5/", rows[0][4]),
                    ("product_P001_all", "mlstm", "v1", f"saved_models/{M}/v1/", "2025-07-15 18:40:00"),
                    ("product_P001_all", "mlstm", "v2", f"saved_models/{M}/v2/", "2025-07-16 08:00:00")]


def test_numbers_that_versions_json_tells_are_not_used_again(folder, store, place):
    assert take(folder, store).code == 0
    (place / "mnt").mkdir()
    drive = Drive(store, place / "mnt").mount()
    assert drive.mint(model=M).name == "v5" and drive.mint(model=G).name == "v6"
    assert (drive.path(M, "v2/hard.bin")).read_text() == "weights" and os.stat(drive.path(M, "v1/model.bin")).st_mtime == OLD
    drive.umount()


def test_the_folder_stays_as_it_is_and_can_go_on_being_written(folder, store):
    before = subprocess.run(["find", folder, "-printf", "%P %s %m %T@ %n\n"], capture_output=True, text=True, check=True).stdout
    assert take(folder, store).code == 0
    assert subprocess.run(["find", folder, "-printf", "%P %s %m %T@ %n\n"], capture_output=True, text=True, check=True).stdout == before
    (folder / M / "v1/model.bin").write_text("WEIGHTS")
    assert raw_content(store, b"weights") and not raw_content(store, b"WEIGHTS")
    shutil.rmtree(folder)


def raw_content(store, content):
    return [p for p in (store / "blobs").rglob("*") if p.is_file() and p.read_bytes() == content]


def test_it_can_be_repeated_and_only_what_is_new_comes_in(folder, store):
    assert take(folder, store).code == 0
    before = state_of(store)
    assert {r for r, _ in lines(take(folder, store, "--json")).values()} == {"already"}
    assert {r for r, _ in lines(take(folder, store, "--json", "--check-contents")).values()} == {"already"}
    assert state_of(store) == before
    write(folder / M / "v3/model.bin", "third")
    assert [p for p, (r, _) in lines(take(folder, store, "--json")).items() if r == "imported"] == [f"{M}/v3"]


def test_other_contents_under_a_number_that_is_here_are_skipped_with_the_reason(folder, store):
    assert take(folder, store).code == 0
    write(folder / M / "v2/model.bin", "changed", OLD + 5)
    result, reason = lines(take(folder, store, "--json"))[f"{M}/v2"]
    assert result == "skipped" and "another version" in reason
    os.utime(folder / M / "v2/model.bin", (OLD, OLD))
    assert lines(take(folder, store, "--json"))[f"{M}/v2"][0] == "already"  # names, sizes and times say so
    assert lines(take(folder, store, "--json", "--check-contents"))[f"{M}/v2"][0] == "skipped"
    assert tree_of(store, f"{M}/v2")[2][2:4] == tree_of(store, f"{M}/v1")[1][2:4]


def test_what_cannot_be_taken_in_is_told_and_the_rest_comes(folder, store):
    write(folder / "notes.txt", "x")
    write(folder / "product/P001_all/readme", "x")
    write(folder / M / "stray.pth", "x")
    write(folder / M / "final/model.bin", "x")
    write(folder / "nosuchmode/a/b/v1/model.bin", "x")
    write(folder / "product/NoScope/t/v1/model.bin", "x")
    write(folder / M / "v7/model.pth", b"")
    write(folder / M / "v8/metadata.json", "{ no json")
    (folder / M / "v9").mkdir()
    (folder / M / "v10").mkdir()
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(folder / M / "v10/s"))
    os.symlink("/etc/passwd", folder / M / "elsewhere")
    got = lines(take(folder, store, "--json"))
    expected = {"notes.txt": "outside", "product/P001_all/readme": "outside", f"{M}/stray.pth": "outside", f"{M}/final": "v1, v2",
                "nosuchmode": "", "product/NoScope": "", f"{M}/v7": "model.pth", f"{M}/v8": "metadata.json", f"{M}/v9": "no file",
                f"{M}/v10": "socket", f"{M}/elsewhere": "no version"}
    for path, words in expected.items():
        result, reason = got.pop(path)
        assert result == "skipped" and reason and words in reason, (path, reason)
    assert {r for r, _ in got.values()} == {"imported"} and len(got) == 3
    assert state_of(store)[2:] == ([], False)


def test_a_file_that_is_open_for_writing_is_not_taken(folder, store):
    with open(folder / M / "v2/model.bin", "r+"):
        result, reason = lines(take(folder, store, "--json"))[f"{M}/v2"]
    assert result == "skipped" and "open for writing" in reason
    assert lines(take(folder, store, "--json"))[f"{M}/v2"][0] == "imported"


def test_links_never_lead_the_import_out_of_the_folder(folder, store, place):
    write(place / "secret/model.bin", "secret")
    os.symlink(place / "secret", folder / M / "v6")
    os.symlink(place / "secret/model.bin", folder / M / "v1/outside.bin")
    os.rename(folder / G, place / "moved")
    os.symlink(place / "moved", folder / G)
    got = lines(take(folder, store, "--json"))
    assert got[f"{M}/v6"][0] == "skipped" and got[G][0] == "skipped" and got[f"{M}/v1"][0] == "imported"
    assert [f for f in tree_of(store, f"{M}/v1") if f[0] == "outside.bin"][0][1] == "symlink"
    assert not raw_content(store, b"secret")


def test_a_dry_run_tells_and_changes_nothing(folder, store):
    done = take(folder, store, "--dry-run")
    assert done.code == 0 and done.out.count("would be imported") == 3 and "3 to import" in done.out
    assert state_of(store)[0] == []


def test_a_database_by_name_and_one_that_is_none(folder, store, place):
    shutil.move(folder / "registry.db", place / "other.name")
    assert take(folder, store, "--database", place / "other.name").code == 0
    assert call("show", f"{M}/v1", "--json", "--store", store).json["created"] == "2025-07-15 18:40:00"
    one_sentence(take(folder, store, "--database", folder / "versions.json"), 1, "versions.json", "database")
    one_sentence(take(folder, store, "--database", place / "nosuch"), 3, "nosuch")


@pytest.mark.parametrize("end", ["", "-journal", "-wal", "-shm"])
def test_a_pipe_in_the_place_of_a_database_or_its_log_holds_up_no_import(folder, store, end):
    pipe = folder / f"registry.db{end}"
    pipe.unlink(missing_ok=True)
    os.mkfifo(pipe)
    assert take(folder, store).code == 0
    one_sentence(take(folder, store, "--database", folder / "registry.db"), 1, "registry.db", "no SQLite database")


def test_a_database_whose_rows_have_no_end_is_refused(folder, store):
    (folder / "registry.db").unlink()
    with sqlite3.connect(folder / "registry.db") as db:
        db.execute("CREATE VIEW model_versions AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id, 'a' AS model_identifier, 'b' AS model_type,"
                   " 'v1' AS version, 'p' AS model_path, 't' AS created_at, '{}' AS metrics_summary FROM n")
    db.close()
    one_sentence(take(folder, store, "--database", folder / "registry.db"), 1, "registry.db", "rows")


def test_without_a_database_times_and_metrics_come_from_the_files(folder, store):
    os.remove(folder / "registry.db")
    os.remove(folder / "versions.json")
    for v in ("v1", "v2"):
        os.utime(folder / M / v, (OLD, OLD))
    assert take(folder, store).code == 0
    shown = call("show", f"{M}/v1", "--json", "--store", store).json
    assert shown["metrics"] == {"rmse": 9} and shown["created"] == "2020-09-13 12:26:40"


def inputs(store, version):
    shown = call("show", version, "--json", "--store", store).json
    return {i["version"]: i["how"] for i in shown["inputs"]}, {i["version"]: i["reason"] for i in shown["unknown_inputs"]}


def test_declared_inputs_are_lineage_wherever_in_the_folder_they_stand(folder, store):
    declared = [f"{G}/v5", f"saved_models/{M}/v2", str(folder / "store/S001_P002/transformer/v1"), "dataset/none/v1", f"{M}/latest", f"{M}/production", M, f"{M}/v1"]
    write(folder / M / "v1/metadata.json", json.dumps({"inputs": declared}))
    write(folder / G / "v5/metadata.json", json.dumps({"inputs": [f"{M}/v2"]}))
    write(folder / "store/S001_P002/transformer/v1/model.bin", "third")
    assert {r for r, _ in lines(take(folder, store, "--json")).values()} == {"imported"}
    known, unknown = inputs(store, f"{M}/v1")
    assert known == {f"{G}/v5": "declared", f"{M}/v2": "declared", "store/S001_P002/transformer/v1": "declared"}
    assert set(unknown) == {"dataset/none/v1", f"{M}/latest", f"{M}/production", M, f"{M}/v1"}
    assert "dataset/none" in unknown["dataset/none/v1"] and "itself" in unknown[f"{M}/v1"] and "not a version" in unknown[M]
    assert "may have led to another one then" in unknown[f"{M}/latest"] and "may have led" in unknown[f"{M}/production"]
    assert inputs(store, f"{G}/v5") == ({f"{M}/v2": "declared"}, {})
    before = state_of(store)
    assert {r for r, _ in lines(take(folder, store, "--json")).values()} == {"already"}
    assert state_of(store) == before and inputs(store, f"{M}/v1") == (known, unknown)
    # what was missing has come: the next time it is found, and the rest stays as it is
    write(folder / "dataset/none/v1/data.csv", "1")
    assert lines(take(folder, store, "--json"))["dataset/none/v1"][0] == "imported"
    assert inputs(store, f"{M}/v1") == ({**known, "dataset/none/v1": "declared"}, {k: r for k, r in unknown.items() if k != "dataset/none/v1"})


def test_a_dry_run_takes_no_lineage_and_what_came_without_learns_it_by_a_second_import(folder, store):
    write(folder / G / "v5/metadata.json", json.dumps({"inputs": [f"{M}/v2"]}))
    assert take(folder, store, "--dry-run").code == 0
    assert take(folder, store).code == 0
    db = sqlite3.connect(store / "catalog.db")
    db.execute("DELETE FROM inputs")  # as an earlier release left it, or a death
    db.commit()
    db.close()
    assert take(folder, store, "--dry-run").code == 0 and inputs(store, f"{G}/v5") == ({}, {})
    assert {r for r, _ in lines(take(folder, store, "--json")).values()} == {"already"}
    assert inputs(store, f"{G}/v5") == ({f"{M}/v2": "declared"}, {})


def test_a_database_of_another_shape_is_passed_over(folder, store):
    os.remove(folder / "registry.db")
    db = sqlite3.connect(folder / "registry.db")
    db.execute("CREATE TABLE model_versions (id INTEGER)")
    db.commit()
    db.close()
    got = lines(take(folder, store, "--json"))
    assert got["registry.db"][0] == "skipped" and got[f"{M}/v1"][0] == "imported"


def test_wrong_usage(folder, store, place):
    assert take(folder, store, "b.tar").code == 2 and take(folder, store, "--renumber").code == 2
    assert call("import", "b.tar", "--dry-run", "--store", store).code == 2
    one_sentence(take(place / "nosuch", store), 3, "nosuch")


def test_a_folder_unpacked_from_a_bundle_comes_in(folder, store, place):
    assert take(folder, store).code == 0
    assert call("export", "--all", "--store", store, "-o", place / "b.tar").code == 0
    (place / "out").mkdir()
    subprocess.run(["tar", "-xf", place / "b.tar", "-C", place / "out"], check=True)
    other = place / "other"
    assert call("init", other).code == 0
    assert {r for r, _ in lines(take(place / "out/saved_models", other, "--json")).values()} == {"imported"}
    assert [tree_of(other, f"{M}/{v}") for v in ("v1", "v2")] == [tree_of(store, f"{M}/{v}") for v in ("v1", "v2")]


@as_root
def test_unreadable_files_are_skipped_and_owners_are_the_callers(folder, place):
    subprocess.run(["chown", "-R", "4711:4711", folder], check=True)
    os.chmod(folder / M / "v1/model.bin", 0o600)
    home = place / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    assert call("init", home / "s", user=NOBODY).code == 0
    got = lines(take(folder, home / "s", "--json", user=NOBODY))
    assert got[f"{M}/v1"][0] == "skipped" and "model.bin" in got[f"{M}/v1"][1] and got[f"{M}/v2"][0] == "imported"
    root = place / "rootstore"
    assert call("init", root).code == 0 and take(folder, root).code == 0
    (place / "mnt").mkdir()
    drive = Drive(root, place / "mnt").mount()
    assert os.stat(drive.path(M, "v2/model.bin")).st_uid == 4711 and os.stat(drive.path(M)).st_uid == 4711
    drive.umount()
