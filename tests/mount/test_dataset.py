"""Datasets and processes: versioned like models, complete with any file."""
import errno
import hashlib
import json
import os
import sqlite3
from pathlib import Path

import pytest

from drive import MODEL, attrs, commit, kernel_at_least, mintfs, read, refused, run, settled, state, write

DATA = "dataset/mol"
needs_status = pytest.mark.skipif(not kernel_at_least(6, 15), reason="exit statuses of foreign processes are known from Linux 6.15 on")


def test_a_new_drive_has_a_directory_for_each_mode_that_every_user_may_use(drive):
    assert sorted(os.listdir(drive.at)) == ["dataset", "global", "process", "product", "store", "versions.json"]
    for mode in ("dataset", "process"):
        assert os.stat(drive / mode).st_mode & 0o7777 == 0o1777


def test_a_dataset_is_minted_written_committed_and_never_changed(drive):
    v1 = drive.mint(DATA)
    assert v1 == drive / DATA / "v1"
    (v1 / "train").mkdir()
    write(v1 / "train/part-1.csv", b"smiles,y\nCCO,1\n")
    commit(v1)
    assert state(v1) == "committed" and read(drive / DATA / "latest/train/part-1.csv").startswith(b"smiles")
    with refused(errno.EROFS):
        write(v1 / "train/part-1.csv", b"other")
    assert drive.mint(DATA) == drive / DATA / "v2"
    os.symlink("v1", drive / DATA / "golden")
    assert os.readlink(drive / DATA / "golden") == "v1"


@pytest.mark.parametrize("path", ["dataset/a/b", "dataset/v1", "process/.x", "dataset/latest"])
def test_what_does_not_fit_the_grammar_is_refused(drive, path):
    parent = (drive / path).parent
    os.makedirs(parent, exist_ok=True)
    with refused(errno.EINVAL):
        os.mkdir(drive / path)


@needs_status
@pytest.mark.parametrize("model", [DATA, "process/screening"])
def test_a_run_that_ends_well_commits_a_dataset_of_any_file(drive, house, model):
    w = house.worker()
    w.do("os.makedirs(p)", p=drive / model / "latest")
    w.write(drive / model / "latest/table.csv", b"1,2\n")
    w.exit(0)
    settled(drive / model / "v1")


def test_versions_json_has_datasets_and_model_versions_has_models_only(drive):
    drive.committed(DATA, {"a.csv": b"1"})
    drive.committed("process/screening", {"run.sh": b"true"})
    drive.committed(MODEL)
    assert drive.versions_json() == {"dataset_mol": 1, "process_screening": 1, "product_P001_all_mlstm": 1}
    assert [r["model_identifier"] for r in drive.rows()] == ["product_P001_all"]


def test_the_commands_know_datasets_by_path_and_by_key(drive):
    v = drive.committed(DATA, {"a.csv": b"1"})
    shown = json.loads(mintfs("show", "dataset_mol/v1", "--store", drive.store, "--json").stdout)
    assert shown["model"] == DATA and shown["version"] == "v1"
    assert mintfs("path", "dataset/mol/latest", "--store", drive.store).stdout.strip() == str(v)
    assert mintfs("list", "dataset", "--names", "--store", drive.store).stdout.split() == [DATA]


# ---- a store of format 1 ----

ASSETS = Path(__file__).resolve().parent.parent / "assets/format1"


@pytest.fixture
def old_store(house):
    """As a MintFS of format 1 left it: two models, committed versions, open drafts, an alias."""
    store = house.folder / "old"
    for folder in ("blobs", "drafts/3", "drafts/6", "run"):
        (store / folder).mkdir(parents=True)
    store.chmod(0o700)
    write(store / "drafts/6/model.bin", b"half")
    write(store / "config.json", b'{"format": 1}\n')
    for content in (b"weights one", b"weights two", b"third", b"a log", read(ASSETS / "metadata.json"), b'{"metrics": {"rmse": 10.5, "r2": 0.89}}',
                    b'{"metrics": {"rmse": 12.5, "r2": 0.81, "note": "x", "nan": NaN}, "parameters": {"lr": 0.001}}'):
        name = hashlib.sha256(content).hexdigest()
        (store / "blobs" / name[:2]).mkdir(exist_ok=True)
        write(store / "blobs" / name[:2] / name[2:], content).chmod(0o444)
    db = sqlite3.connect(store / "catalog.db")
    db.executescript((ASSETS / "catalog.sql").read_text())
    db.close()
    return store


def test_a_store_of_format_1_is_upgraded_and_everything_in_it_is_read(house, old_store):
    d = house.mount(old_store, "old-mnt")
    m = d / MODEL
    assert read(m / "v1/model.bin") == b"weights one" and read(m / "production/model.bin") == b"weights two"
    assert read(m / "v1/logs/one.txt") == b"a log" and os.readlink(m / "v1/logs/link") == "../model.bin"
    assert os.readlink(m / "best") == "v2" and os.stat(m / "v1/model.bin").st_mode & 0o777 == 0o555
    assert attrs(m / "v1")["message"] == "the first" and json.loads(read(d / "global/all/sum/kan/v1/metadata.json"))["generated_by"] == "mintfs"
    assert read(d / "global/all/sum/kan/v3/model.bin") == b"half" and state(d / "global/all/sum/kan/v3") == "draft"
    assert {r["model_path"] for r in d.rows()} == {"saved_models/product/P001_all/mlstm/v1/", "saved_models/product/P001_all/mlstm/v2/",
                                                   "saved_models/global/all/sum/kan/v1/"}
    assert "production" in mintfs("alias", "--history", MODEL, "--store", old_store).stdout
    d.committed(DATA, {"a.csv": b"1"})
    assert read(d / DATA / "v1/a.csv") == b"1"
    run("mkdir", m / "next")
    assert state(m / "v4") == "draft"  # no number comes twice
