"""Stores that are not what they should be: each gets a sentence that names the thing and the reason, and nothing half-made stays."""
import contextlib
import errno
import json
import os
import shutil
import socket
import stat
import subprocess

import pytest

from drive import MODEL, binary, commit, mintfs, mount_lines, read, reason, refused, run, sha256, snapshot, state, wait_until, write


def says(*argv, code=1, words=()):
    r = run(binary(), *argv, check=False)
    assert r.returncode in ((code,) if isinstance(code, int) else code), f"exit {r.returncode}: {r.stderr}"
    assert len(r.stderr.splitlines()) == 1 and r.stderr.startswith(f"mintfs {argv[0]}: "), r.stderr
    for w in words:
        assert str(w) in r.stderr, r.stderr
    return r.stderr


@pytest.fixture
def at(house):
    (house.folder / "mnt").mkdir()
    return house.folder / "mnt"


def mounted(path):
    return any(line[1] == str(path) for line in mount_lines())


# ---- init ----


def test_a_second_init_is_refused_and_changes_nothing(store):
    before = snapshot(store)
    says("init", store, words=[store, "already"])
    assert snapshot(store) == before


def test_init_in_a_directory_with_files_is_refused_and_leaves_them(house):
    top = house.folder / "mine"
    top.mkdir()
    write(top / "thesis.tex", b"x")
    says("init", top, words=[top, "not empty"])
    assert os.listdir(top) == ["thesis.tex"]


def test_init_on_a_file_or_below_nothing_is_refused(house):
    write(house.folder / "file")
    says("init", house.folder / "file", words=[house.folder / "file", "not a directory"], code=(1, 3))
    r = run(binary(), "init", house.folder / "none/store", check=False)
    assert r.returncode in (1, 3) and str(house.folder / "none/store") in r.stderr


def test_init_in_an_empty_directory_works(house):
    (house.folder / "empty").mkdir()
    house.init("empty")
    assert {"blobs", "catalog.db", "config.json", "drafts"} <= set(os.listdir(house.folder / "empty"))


# ---- mount ----


def test_a_store_that_is_a_file_is_refused(house, at):
    write(house.folder / "file", b"x")
    says("mount", house.folder / "file", at, words=[house.folder / "file", "is not a directory"], code=(1, 3))
    assert not mounted(at)


def test_a_directory_that_is_no_store_is_refused(house, at):
    (house.folder / "plain").mkdir()
    r = run(binary(), "mount", house.folder / "plain", at, check=False)
    assert r.returncode in (1, 3) and str(house.folder / "plain") in r.stderr and "store" in r.stderr
    assert os.listdir(house.folder / "plain") == [] and not mounted(at)


def test_a_store_of_a_newer_version_is_refused_and_not_touched(store, at):
    config = json.loads(read(store / "config.json"))
    config["format"] = 99
    write(store / "config.json", json.dumps(config))
    before = read(store / "catalog.db")
    says("mount", store, at, words=[store, "newer", "99"])
    assert read(store / "catalog.db") == before and not mounted(at)


def test_a_catalog_of_a_newer_version_is_refused(store, at):
    import sqlite3
    with contextlib.closing(sqlite3.connect(store / "catalog.db")) as db:
        db.execute("PRAGMA user_version=77")
    says("mount", store, at, words=["catalog.db", "newer"])
    assert not mounted(at)


@pytest.mark.parametrize("change, undo, words", [
    ("CREATE TRIGGER t AFTER INSERT ON versions BEGIN SELECT 1; END", "DROP TRIGGER t", 'has the trigger "t"'),
    ("PRAGMA user_version=77", None, "was upgraded to format 77"),
])
def test_a_catalog_that_somebody_changes_below_a_drive_is_named_with_each_refusal(drive, change, undo, words):
    import sqlite3

    def alter(sql):
        with contextlib.closing(sqlite3.connect(drive.store / "catalog.db", timeout=30)) as db:
            before = db.execute("PRAGMA user_version").fetchone()[0]
            db.execute(sql)
        return before

    drive.committed()
    model = drive / MODEL
    (model / "next").mkdir()
    write(model / "v2/model.pth", b"x")
    before = alter(change)
    for refusal, place in ((lambda: (model / "next").mkdir(), model), (lambda: os.symlink("v1", model / "production"), model), (lambda: (drive / "dataset/d").mkdir(), drive / "dataset"),
                           (lambda: os.chmod(model / "v2", 0o555), model / "v2")):
        with refused(errno.EUCLEAN, errno.EPROTONOSUPPORT):
            refusal()
        assert "catalog.db" in reason(place) and words in reason(place), reason(place)
    alter(undo or f"PRAGMA user_version={before}")
    commit(model / "v2")
    assert state(model / "v2") == "committed"
    with refused(errno.EINVAL):
        (drive / "dataset/a\nb").mkdir()
    assert "catalog.db" not in reason(drive / "dataset")


@pytest.mark.parametrize("text", [b"", b"no json", b"[]", b'{"format": "one"}'])
def test_a_config_that_cannot_be_read_is_refused(store, at, text):
    write(store / "config.json", text)
    r = run(binary(), "mount", store, at, check=False)
    assert r.returncode in (1, 3) and "config.json" in r.stderr and not mounted(at)


def a_socket_at(path):
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
        s.bind(str(path))


THINGS = {
    "FIFO": (os.mkfifo, "is a FIFO"),
    "socket": (a_socket_at, "is a socket"),
    "directory": (os.mkdir, "is a directory"),
    "device": (lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5)), "is a device"),  # /dev/zero
    "loop": (lambda path: os.symlink(path.name, path), "symbolic links"),
    "link to a FIFO": (lambda path: (os.mkfifo(path.parent.parent / "there"), os.symlink("../there", path)), "is a FIFO"),
    "sparse": (lambda path: (path.touch(), os.truncate(path, 1 << 40)), "is larger than 1048576 bytes"),
}


@pytest.mark.parametrize("what", THINGS)
def test_a_config_that_is_no_file_is_named_for_what_it_is(store, at, what):
    make, words = THINGS[what]
    config = store / "config.json"
    config.unlink()
    make(config)
    for command in (["mount", store, at], ["fsck", store], ["status", store]):
        said = says(*command, words=["config.json", words])
        assert "seek" not in said and "No such device" not in said
    assert not mounted(at)


@pytest.mark.parametrize("what", ["FIFO", "socket", "device"])
def test_a_special_file_that_got_into_a_draft_is_named_by_the_command_too(drive, draft, what):
    make, words = THINGS[what]
    write(draft / "model.pth", b"x")
    make(next((drive.store / "drafts").iterdir()) / "metadata.json")
    r = run(binary(), "commit", draft, check=False)
    assert r.returncode == 1 and f"metadata.json {words}" in r.stderr, r.stderr
    assert words in reason(draft)


@pytest.mark.parametrize("what", ["directory", "loop"])
def test_a_process_that_is_no_file_is_named_for_what_it_is(drive, what):
    (drive / "process/p").mkdir()
    (drive / "process/p/next").mkdir()
    THINGS[what][0](drive / "process/p/v1/process.json")
    write(drive / "process/p/v1/notes.txt", b"x")
    r = run(binary(), "commit", drive / "process/p/v1", check=False)
    assert r.returncode == 1 and f"process.json is a {'directory' if what == 'directory' else 'symbolic link'}" in r.stderr, r.stderr


@pytest.mark.parametrize("how", ["lost", "empty", "garbage"])
def test_a_store_that_lost_its_catalog_is_refused_and_no_new_one_is_made(drive, how):
    drive.committed()
    drive.unmount()
    for name in ("catalog.db", "catalog.db-wal", "catalog.db-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(drive.store / name)
    if how != "lost":
        write(drive.store / "catalog.db", b"" if how == "empty" else b"garbage" * 1000)
    r = run(binary(), "mount", drive.store, drive.at, check=False)
    assert r.returncode in (1, 3) and "catalog" in r.stderr and len(r.stderr.splitlines()) == 1
    assert not mounted(drive.at) and len(drive.blobs()) == 2
    assert how != "lost" or not (drive.store / "catalog.db").exists()


def test_a_lost_blob_is_eio_for_its_file_and_nothing_else_suffers(drive):
    v = drive.committed(files={"model.pth": b"weights", "loss.txt": b"fine"})
    digest = sha256(b"weights")
    blob = drive.store / "blobs" / digest[:2] / digest[2:]
    run("chattr", "-i", blob, check=False)
    os.unlink(blob)
    drive.remount()
    with refused(errno.EIO):
        read(v / "model.pth")
    assert digest in reason(v / "model.pth") and digest in drive.log_text()
    assert read(v / "loss.txt") == b"fine" and sorted(os.listdir(v)) == ["loss.txt", "metadata.json", "model.pth"]
    assert os.stat(v / "model.pth").st_size == 7
    again = drive.committed(files={"model.pth": b"weights"})
    assert read(again / "model.pth") == b"weights" and read(v / "model.pth") == b"weights", "the same content heals it"


def test_a_blob_that_was_cut_is_eio(drive):
    v = drive.committed(files={"model.pth": b"weights" * 100})
    digest = sha256(b"weights" * 100)
    blob = drive.store / "blobs" / digest[:2] / digest[2:]
    run("chattr", "-i", blob, check=False)
    os.truncate(blob, 10)
    drive.remount()
    with refused(errno.EIO):
        read(v / "model.pth")


def bind_read_only(house, store):
    run("mount", "--bind", store, store)
    house.undo.append(lambda: [subprocess.run(["umount", "-l", str(store)], stderr=subprocess.DEVNULL)])
    run("mount", "-o", "remount,ro,bind", store)


def test_a_read_only_store_is_refused_for_writing_and_read_by_o_ro(house, drive):
    drive.committed(files={"model.pth": b"weights"})
    drive.unmount()
    bind_read_only(house, drive.store)
    err = says("mount", drive.store, drive.at, words=[drive.store])
    assert "read-only" in err.lower() and not mounted(drive.at)
    ro = house.mount(drive.store, "ro", options=("ro",))
    assert read(ro / MODEL / "latest/model.pth") == b"weights" and ro.versions_json() == {"product_P001_all_mlstm": 1}
    with refused(errno.EROFS):
        os.mkdir(ro / MODEL / "next")
    ro.unmount()


def test_a_draft_tree_that_was_removed_behind_the_drive_is_an_error_and_no_hang(drive, draft):
    write(draft / "model.pth", b"x")
    drive.unmount()
    shutil.rmtree(drive.store / "drafts" / os.listdir(drive.store / "drafts")[0])
    drive.mount()
    assert drive.committed("store/S1_all/kan")
    with contextlib.suppress(OSError):
        os.listdir(draft)
    assert drive.mint().name == "v2"


def test_a_directory_of_no_version_in_drafts_is_set_aside_not_removed(drive):
    drive.unmount()
    (drive.store / "drafts/4711").mkdir()
    write(drive.store / "drafts/4711/precious", b"bytes")
    drive.mount()
    found = subprocess.run(["find", str(drive.store), "-name", "precious"], stdout=subprocess.PIPE, text=True).stdout.split()
    assert len(found) == 1 and read(found[0]) == b"bytes"


# ---- a full store ----

FULL = 12 << 20


@pytest.fixture(params=["tmpfs", "ext4", "ext4 of 1 KiB blocks"])
def small(request, house):
    """A drive whose store lies on a small file system of its own; `ballast` fills the rest of it."""
    top = house.folder / "small"
    top.mkdir()
    if request.param == "tmpfs":
        run("mount", "-t", "tmpfs", "-o", f"size={FULL}", "tmpfs", top)
    else:
        with open(house.folder / "disk", "wb") as f:
            f.truncate(FULL + (12 << 20))
        run("mkfs.ext4", "-q", "-m", "0", "-b", "1024" if "1 KiB" in request.param else "4096", house.folder / "disk")
        if run("mount", "-o", "loop", house.folder / "disk", top, check=False).returncode:
            pytest.skip("there are no loop devices here")
    house.init("small/store")
    d = house.mount(top / "store", "drive")
    d.top = top
    yield d
    with contextlib.suppress(AssertionError, OSError):
        d.unmount()
    subprocess.run(["chattr", "-R", "-i", str(top / "store")], stderr=subprocess.DEVNULL)
    run("umount", "-l", top)


def fill(small, leave=0):
    with open(small.top / "ballast", "ab", buffering=0) as f:
        with contextlib.suppress(OSError):
            while True:
                f.write(b"\0" * (1 << 20))
        with contextlib.suppress(OSError):
            while True:
                f.write(b"\0" * 4096)
        f.truncate(max(0, f.tell() - leave))
        os.fsync(f.fileno())


def look(v):
    """A tree, but for link counts: contents that were linked into the store already stay there for the next try."""
    return {name: was[:6] + was[7:] if len(was) == 8 else was for name, was in snapshot(v).items()}


def relieve(small):
    os.unlink(small.top / "ballast")


def test_a_trainer_on_a_full_store_gets_enospc_and_goes_on_when_there_is_room(small):
    v = small.mint()
    write(v / "model.pth", b"good")
    with refused(errno.ENOSPC):
        with open(v / "big.pth", "wb", buffering=0) as f:
            for _ in range(64):
                f.write(b"x" * (1 << 20))
    os.unlink(v / "big.pth")
    wait_until(lambda: os.statvfs(v).f_bavail * os.statvfs(v).f_frsize > 2 << 20, what="the space of the removed file")
    write(v / "big.pth", b"x" * (1 << 20))
    commit(v)
    assert read(v / "model.pth") == b"good" and len(read(v / "big.pth")) == 1 << 20


TORCH_SAVES = """
import sys, torch
how = sys.argv[1]
torch.save({"w": torch.ones(1000)}, "checkpoint_best.pth")
torch.save({"w": torch.ones(8 << 20)}, "model.pth", _use_new_zipfile_serialization=how != "old format")
"""


@pytest.mark.seconds(120)
@pytest.mark.parametrize("small", ["ext4"], indirect=True)
def test_torch_save_on_a_store_that_fills_up_fails_and_what_was_saved_before_is_there(small):
    pytest.importorskip("torch")
    v1 = small.committed(files={"model.pth": b"first"})
    v = small.mint()
    for how in ("by name", "old format"):  # 32 MiB: more than there is
        r = run("/usr/bin/python3", "-c", TORCH_SAVES, how, cwd=v, check=False)
        assert r.returncode != 0, f"{how}: nothing said that the store is full"
        assert "No space left" in r.stderr or "writ" in r.stderr, r.stderr  # torch's writer of archives keeps no errno
    os.unlink(v / "model.pth")
    wait_until(lambda: os.statvfs(v).f_bavail * os.statvfs(v).f_frsize > 2 << 20, what="the space of the removed file")
    run("/usr/bin/python3", "-c", "import torch; assert torch.load('checkpoint_best.pth')['w'].sum() == 1000; torch.save({'w': torch.zeros(10)}, 'model.pth')", cwd=v)
    best = read(v / "checkpoint_best.pth")
    commit(v)
    assert read(v / "checkpoint_best.pth") == best and read(v1 / "model.pth") == b"first"


def test_a_commit_on_a_full_store_is_enospc_and_leaves_the_draft_as_it_was(small):
    small.committed(files={"model.pth": b"first"})
    v = small.mint()
    for n in range(20):
        write(v / f"part_{n}", b"%d" % n * 3000)
    before, committed = look(v), 0
    for leave in (0, 4096, 16384, 65536, 262144):
        fill(small, leave)
        try:
            commit(v)
            committed = 1
        except OSError as e:
            assert e.errno == errno.ENOSPC, e
            assert state(v) == "draft" and look(v) == before
        finally:
            relieve(small)
        assert [r["version"] for r in small.rows("ORDER BY id")] == ["v1", "v2"][:1 + committed]
        if committed:
            break
    commit(v)
    assert state(v) == "committed"
    for n in range(20):
        assert read(v / f"part_{n}") == b"%d" % n * 3000
    small.remount()
    assert read(v / "part_7") == b"7" * 3000 and read(small / MODEL / "v1/model.pth") == b"first"


def test_a_mint_on_a_full_store_works_or_is_enospc_with_nothing_half_made(small):
    v1 = small.mint()
    write(v1 / "model.pth", b"one")
    fill(small)
    try:
        refusals = 0
        for n in range(2, 200):
            before = sorted(os.listdir(small / MODEL))
            try:
                os.mkdir(small / MODEL / "next")
            except OSError as e:
                assert e.errno == errno.ENOSPC, e
                assert sorted(os.listdir(small / MODEL)) == before
                refusals += 1
            if refusals == 3:
                break
    finally:
        relieve(small)
    names = [n for n in os.listdir(small / MODEL) if n[0] == "v"]
    for n in names[1:]:
        assert os.listdir(small / MODEL / n) == []
        write(small / MODEL / n / "model.pth", b"x")
    commit(v1)
    small.remount()
    assert sorted(n for n in os.listdir(small / MODEL) if n[0] == "v") == sorted(names) and read(v1 / "model.pth") == b"one"


def test_mount_on_a_full_store_works_or_says_why(small):
    v = small.committed(files={"model.pth": b"first"})
    small.unmount()
    fill(small)
    r = run(binary(), "mount", small.store, small.at, "-o", f"log={small.log}", check=False)
    if r.returncode:
        assert r.returncode == 1 and "space" in r.stderr.lower() and len(r.stderr.splitlines()) == 1
        relieve(small)
        small.mount()
    else:
        small.pid = small.find_daemon()
        relieve(small)
    assert read(v / "model.pth") == b"first"
    mintfs("list", "--store", small.store)
    wait_until(lambda: os.path.isdir(small.mint()))
