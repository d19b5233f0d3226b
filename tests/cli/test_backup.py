"""Backup and restore: a store copied as a whole, in use, again and again."""
import contextlib
import json
import os
import shutil
import stat
import subprocess
import threading

import pytest

from cli_env import BIN, Drive, call, one_sentence, wait_for
from test_bundle import M, NOBODY, as_root, tree_of


def blobs_of(store):
    return sorted(str(p.relative_to(store)) for p in (store / "blobs").rglob("*") if p.is_file())


def versions_of(store, model=M):
    return [(v["version"], v["state"]) for v in call("log", model, "--all", "--json", "--store", store).json]


def backup(store, dest, *options):
    done = call("backup", dest, "--store", store, "--json", *options)
    assert done.code == 0, done.err
    return done.json


@pytest.fixture
def dest(place):
    return place / "backup"


def test_a_backup_of_a_store_in_use_is_a_store_that_can_be_read(drive, dest):
    drive.version({"model.bin": "one"}, metrics={"rmse": 2})
    drive.version({"model.bin": "two", "sub/a": "deep"}, message="second")
    os.symlink("v1", drive.path(M, "production"))
    first = backup(drive.store, dest)
    assert first["copied"] == first["contents"] == len(blobs_of(dest)) > 0
    for v in ("v1", "v2"):
        a, b = (call("show", f"{M}/{v}", "--json", "--store", s).json for s in (drive.store, dest))
        assert a == b
    assert call("alias", M, "--history", "--json", "--store", dest).json == call("alias", M, "--history", "--json", "--store", drive.store).json
    assert oct(dest.stat().st_mode & 0o777) == "0o700"


def test_a_backup_can_be_mounted_read_only(drive, dest, place):
    drive.version({"model.bin": "one"})
    backup(drive.store, dest)
    (place / "ro").mkdir()
    copy = Drive(dest, place / "ro").mount("-o", "ro")
    assert copy.path(M, "v1/model.bin").read_text() == "one"
    copy.umount()
    backup(drive.store, dest)  # reading has not made a store of its own of it


def test_the_second_backup_copies_only_what_is_new_and_drops_what_is_gone(drive, dest):
    drive.version({"model.bin": "one"})
    backup(drive.store, dest)
    again = backup(drive.store, dest)
    assert (again["copied"], again["removed"]) == (0, 0)
    drive.version({"model.bin": "two", "same.bin": "one"})
    third = backup(drive.store, dest)
    assert third["copied"] == 2  # "two" and its metadata.json
    assert versions_of(dest) == versions_of(drive.store)
    stray = dest / "blobs/00" / ("1" * 62)
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("of a version that was swept")
    assert backup(drive.store, dest)["removed"] == 1 and blobs_of(dest) == blobs_of(drive.store)


def test_a_backup_that_was_only_checked_takes_the_next_one(drive, dest):
    drive.version({"model.bin": "one"})
    backup(drive.store, dest)
    assert call("fsck", dest).code == 0
    assert call("fsck", dest, "--verify").code == 0
    drive.version({"model.bin": "two"})
    backup(drive.store, dest)
    assert call("fsck", dest, "--verify").code == 0


@pytest.mark.parametrize("name", ["catalog.db", "catalog.db-journal", "catalog.db-wal", "catalog.db-shm"])
def test_a_pipe_in_the_place_of_its_catalog_holds_up_nothing(drive, dest, place, name):
    drive.version({"model.bin": "one"})
    backup(drive.store, dest)
    (dest / name).unlink(missing_ok=True)
    os.mkfifo(dest / name)
    one_sentence(call("restore", dest, place / "restored"), 1, name, "regular")
    one_sentence(call("list", "--store", dest), 1, name, "regular")
    if name != "catalog.db-shm":
        one_sentence(call("backup", dest, "--store", drive.store), 1, dest)


@as_root
def test_a_device_in_the_place_of_its_catalog_is_not_read_for_ever(drive, dest):
    drive.version({"model.bin": "one"})
    backup(drive.store, dest)
    (dest / "catalog.db").unlink()
    os.mknod(dest / "catalog.db", 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero
    one_sentence(call("backup", dest, "--store", drive.store), 1, "catalog.db", "regular")


@pytest.mark.parametrize("name, text, code, words", [
    ("config.json", '{"format": 99}', 1, ["newer MintFS"]), ("config.json", '{"format"', 3, ["config.json", "understood"]), ("config.json", "", 3, ["config.json"]),
    ("backup.json", "", 1, ["backup.json", "understood"]), ("backup.json", "[1]", 1, ["backup.json", "understood"]), ("backup.json", "{}", 1, ["another store"]),
    ("catalog.db-journal", "x", 1, ["opened for writing"]),
])
def test_a_backup_that_nobody_could_restore_afterwards_is_refused(drive, dest, name, text, code, words):
    drive.version({"model.bin": "one"})
    backup(drive.store, dest)
    (dest / name).write_text(text)
    before = (dest / "catalog.db").read_bytes()
    drive.version({"model.bin": "two"})
    one_sentence(call("backup", dest, "--store", drive.store), code, dest, *words)
    assert (dest / "catalog.db").read_bytes() == before


def test_files_that_a_backup_or_restore_left_when_it_died_go_with_the_next(drive, dest, place):
    drive.version({"model.bin": "one"})
    for at in (dest, place / "restored"):
        at.mkdir()
        (at / ".mintfs-tmp-0123456789abcdef").write_text("half of a mark")
    backup(drive.store, dest)
    assert call("restore", dest, place / "restored").code == 0
    assert [n for at in (dest, place / "restored") for n in os.listdir(at) if n.startswith(".mintfs-tmp-")] == []


def test_what_was_retired_and_freed_in_the_store_goes_from_its_backup_too(drive, dest):
    for i in range(30):
        drive.version({"model.bin": f"weights {i}"})
    backup(drive.store, dest)
    for i in range(1, 29):
        assert call("retire", drive.path(M, f"v{i}")).code == 0
    assert call("gc", "--grace", "0s", "--store", drive.store).code == 0
    assert len(blobs_of(drive.store)) < 10
    again = backup(drive.store, dest)
    assert again["removed"] >= 28 and blobs_of(dest) == blobs_of(drive.store)
    assert [v for v, s in versions_of(dest) if s == "committed"] == ["v30", "v29"]


def test_drafts_stay_behind_and_their_numbers_are_spent(drive, dest, place):
    drive.version()
    draft = drive.mint({"model.bin": "in work"})
    backup(drive.store, dest)
    assert versions_of(dest) == [("v2", "discarded"), ("v1", "committed")] and versions_of(drive.store)[0] == ("v2", "draft")
    assert call("restore", dest, place / "new").code == 0
    assert call("commit", draft).code == 0
    (place / "newmnt").mkdir()
    there = Drive(place / "new", place / "newmnt").mount()
    assert there.mint().name == "v3"
    there.umount()


def test_a_restored_store_is_what_was_backed_up_and_goes_on(drive, dest, place):
    drive.version({"model.bin": "one", "sub/b": "two"}, message="m")
    os.symlink("v1", drive.path(M, "production"))
    backup(drive.store, dest)
    done = call("restore", dest, place / "new", "--json")
    assert done.code == 0 and done.json["copied"] == len(blobs_of(dest))
    assert tree_of(place / "new", f"{M}/v1") == tree_of(drive.store, f"{M}/v1") and not (place / "new/backup.json").exists()
    (place / "newmnt").mkdir()
    there = Drive(place / "new", place / "newmnt").mount()
    assert (there.path(M, "production/sub/b")).read_text() == "two"
    there.version({"model.bin": "new here"})
    there.umount()
    assert versions_of(place / "new")[0] == ("v2", "committed")


def test_restore_refuses_a_directory_with_something_in_it(drive, dest, place):
    drive.version()
    backup(drive.store, dest)
    (place / "full").mkdir()
    (place / "full/x").touch()
    one_sentence(call("restore", dest, place / "full"), 1, "not empty")
    one_sentence(call("restore", dest, drive.store), 1, "not empty")
    one_sentence(call("restore", dest, dest), 1, "itself")
    one_sentence(call("restore", place / "nosuch", place / "n"), 3, "nosuch")
    (place / "none").mkdir()
    one_sentence(call("restore", place / "none", place / "n"), 3, "no MintFS store")
    assert os.listdir(place / "full") == ["x"] and not (place / "n").exists()


@pytest.mark.parametrize("name", ["dataset/backup", "dataset/backup/", "product/P001_all/kan", M, f"{M}/v2", f"{M}/v2/backup", "."])
def test_neither_backup_nor_store_is_made_on_a_drive(drive, dest, name):
    drive.version()
    draft = drive.mint({"a": "x"})
    backup(drive.store, dest)
    before = [sorted(os.listdir(d)) for d in (drive.dir, drive.path("dataset"), drive.path("product/P001_all"), drive.path(M), draft)]
    for args in (["backup", f"{drive.dir}/{name}", "--store", drive.store], ["restore", dest, f"{drive.dir}/{name}"], ["init", f"{drive.dir}/{name}"]):
        one_sentence(call(*args), 1, "lies on a MintFS drive", name)
    assert [sorted(os.listdir(d)) for d in (drive.dir, drive.path("dataset"), drive.path("product/P001_all"), drive.path(M), draft)] == before


def test_a_backup_is_made_in_the_working_directory_by_a_bare_name(drive, place):
    drive.version()
    assert call("backup", "here", "--store", drive.store, cwd=place).code == 0 and (place / "here/catalog.db").exists()


def test_a_backup_refuses_a_place_that_is_something_else(drive, dest, place):
    drive.version()
    (place / "full").mkdir()
    (place / "full/x").touch()
    one_sentence(call("backup", place / "full", "--store", drive.store), 1, "no backup")
    one_sentence(call("backup", drive.store / "sub", "--store", drive.store), 1, "store itself")
    one_sentence(call("backup", drive.store, "--store", drive.store), 1, "store itself")
    assert "sub" not in os.listdir(drive.store)
    other = place / "other"
    assert call("init", other).code == 0
    one_sentence(call("backup", other, "--store", drive.store), 1, "no backup")
    backup(drive.store, dest)
    one_sentence(call("backup", dest, "--store", other), 1, "another store")
    assert versions_of(dest) == [("v1", "committed")]


def test_a_backup_that_was_written_to_is_never_overwritten(drive, dest, place):
    drive.version()
    backup(drive.store, dest)
    (place / "rw").mkdir()
    copy = Drive(dest, place / "rw").mount()
    copy.version({"model.bin": "only here"})
    copy.umount()
    one_sentence(call("backup", dest, "--store", drive.store), 1, "opened for writing")
    assert versions_of(dest)[0] == ("v2", "committed")


def blob_with(store, content):
    return next(p for p in (store / "blobs").rglob("*") if p.is_file() and p.read_bytes() == content)


def damage(path, content):
    for _ in range(1000):  # it is sealed a moment after the answer to its commit
        subprocess.run(["chattr", "-i", path], stderr=subprocess.DEVNULL)
        with contextlib.suppress(PermissionError):
            os.chmod(path, 0o644)
            break
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


@pytest.mark.parametrize("content", [b"ONE", b"short", None])
def test_a_damaged_store_is_backed_up_as_far_as_it_is_sound_and_says_so(drive, dest, content):
    drive.version({"model.bin": "one", "other.bin": "sound"})
    damage(blob_with(drive.store, b"one"), content)
    one_sentence(call("backup", dest, "--store", drive.store), 1, "backup is made", "damaged", "mintfs fsck")
    assert versions_of(dest) == [("v1", "committed")] and blob_with(dest, b"sound")


def test_a_damaged_backup_is_not_restored(drive, dest, place):
    drive.version({"model.bin": "one"})
    backup(drive.store, dest)
    sound = blob_with(dest, b"one").name
    damage(blob_with(dest, b"one"), b"ONE")
    one_sentence(call("restore", dest, place / "new"), 1, "cannot be restored", sound)
    one_sentence(call("list", "--store", place / "new"), 3, "no MintFS store")
    damage(dest / "blobs" / blob_with(drive.store, b"one").relative_to(drive.store / "blobs"), b"one")
    assert call("restore", dest, place / "new").code == 0  # the same command goes on


def test_two_backups_to_one_place_do_not_meet(drive, dest):
    for i in range(5):
        drive.version({"model.bin": f"weights {i}"})
    results = []
    threads = [threading.Thread(target=lambda: results.append(call("backup", dest, "--store", drive.store))) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert 0 in [r.code for r in results] and all(r.code == 0 or "somebody else" in r.err for r in results), [r.err for r in results]
    assert len(versions_of(dest)) == 5


def test_a_backup_beside_commits_is_consistent(drive, dest):
    stop, done = threading.Event(), []

    def train():
        while not stop.is_set():
            done.append(drive.version({"model.bin": os.urandom(2000), "same.bin": "the same"}))
    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        assert wait_for(lambda: done)
        for _ in range(4):
            seen = len(done)
            backup(drive.store, dest)
            versions = versions_of(dest)
            committed = [v for v, s in versions if s == "committed"]
            assert len(committed) >= seen
            for v in committed[:2] + committed[-1:]:
                for path, type, size, sha, _ in tree_of(dest, f"{M}/{v}"):
                    assert (dest / "blobs" / sha[:2] / sha[2:]).stat().st_size == size
            assert wait_for(lambda: len(done) > seen)
    finally:
        stop.set()
        trainer.join()


def test_a_full_disk_leaves_the_old_backup_whole(drive, place):
    """DEST on a file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a file system")
    small = place / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs")
    try:
        drive.version({"model.bin": os.urandom(200_000)})
        backup(drive.store, small / "b")
        before = versions_of(small / "b")
        drive.version({"model.bin": os.urandom(6_000_000)})
        one_sentence(call("backup", small / "b", "--store", drive.store), 1, "No space left")
        assert versions_of(small / "b") == before and not (small / "b/incoming").exists()
        assert call("show", f"{M}/v1", "--store", small / "b").code == 0
    finally:
        subprocess.run(["umount", small], check=True)


@as_root
def test_an_ordinary_users_store_is_backed_up_by_that_user_alone(place):
    home = place / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    assert call("init", home / "s", user=NOBODY).code == 0
    assert call("backup", home / "b", "--store", home / "s", user=NOBODY).code == 0
    one_sentence(call("backup", home / "c", "--store", home / "s", user=NOBODY - 1), 1, "belongs to")
    assert call("restore", home / "b", home / "r", user=NOBODY).code == 0


@as_root
def test_root_is_told_whose_directory_takes_the_copy_of_a_store(place):
    assert call("init", place / "s").err == ""
    for name in ("i", "b", "r"):
        (place / name).mkdir()
        os.chown(place / name, NOBODY, NOBODY)
    for argv in (["init", place / "i"], ["backup", place / "b", "--store", place / "s"], ["restore", place / "b", place / "r"]):
        done = call(*argv)
        assert done.code == 0 and f"warning: {argv[1] if argv[0] != 'restore' else argv[2]} belongs to nobody, who can read all" in done.err, done.err
