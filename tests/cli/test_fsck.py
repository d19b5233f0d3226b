"""fsck: each kind of damage is named by its word, mended by --repair where it can be, and nothing else is said."""
import errno
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest

from cli_env import BIN, Drive, call, can_mount, wait_for

MODEL = "product/P001_all/mlstm"


def blob(store, digest):
    return store / "blobs" / digest[:2] / digest[2:]


def soften(path):
    subprocess.run(["chattr", "-i", str(path)], stderr=subprocess.DEVNULL)
    path.chmod(0o644)


def sql(store, text, *args):
    db = sqlite3.connect(store / "catalog.db")
    try:
        rows = db.execute(text, args).fetchall()
        db.commit()
        return rows
    finally:
        db.close()


def kinds(done):
    return sorted({f["kind"] for f in done.json["findings"] if f["problem"]})


def digest_of(store, name="model.bin", version="v1"):
    files = call("show", f"{MODEL}/{version}", "--store", store, "--json").json["files"]
    return next(f["sha256"] for f in files if f["path"] == name)


@pytest.fixture
def old(drive):
    """v1 and v2 share a content, v3 is a draft; production leads to v1. Not mounted."""
    drive.version({"model.bin": "weights", "sub/a.txt": "one"}, metrics={"rmse": 1.5})
    drive.version({"model.bin": "weights"}, metrics={"rmse": 2.5})
    drive.mint({"note.txt": "draft"})
    assert call("alias", drive.path(MODEL), "production", "v1").code == 0
    drive.umount()
    return drive.store


def test_a_sound_store_is_clean_mounted_or_not(drive):
    drive.version({"model.bin": "weights", "sub/deep/a.txt": "x"}, metrics={"rmse": 1, "r2": 0.5})
    drive.mint({"note.txt": "draft"})
    for args in ([], ["--verify"], ["--repair"]):
        done = call("fsck", drive.store, "--json", *args)
        assert done.code == 0 and done.json["findings"] == [] and done.json["versions"] == 1 and done.json["drafts"] == 1, done.out
    drive.umount()
    done = call("fsck", drive.store)
    assert done.code == 0 and "clean" in done.out


def test_one_of_a_thing_is_told_in_the_singular_and_more_in_the_plural(drive, tmp_path):
    drive.version({"model.bin": "{}", "metadata.json": "{}"})  # one content
    drive.mint({"note.txt": "draft"})
    assert call("fsck", drive.store).out == "looked at 1 version of 1 model, 2 entries, 1 content, 1 open draft: clean\n"
    assert "1 content," in call("status", drive.store).out
    assert ": 1 content, 1 of them copied, " in call("backup", tmp_path / "backup", "--store", drive.store).out
    drive.version({"one.bin": "x"}, "dataset/one")
    drive.mint({}, "dataset/one")
    assert "(1 byte)" in call("show", drive.path("dataset/one/v1/one.bin")).out and "(2 bytes)" in call("show", drive.path(MODEL, "v1/model.bin")).out
    assert call("fsck", drive.store).out.startswith("looked at 2 versions of 2 models, 4 entries, 3 contents, 2 open drafts: ")


CATALOG = {
    "model-numbers": "UPDATE models SET newest_committed = 1",
    "model-names": "UPDATE models SET identifier = 'wrong'",
    "alias-astray": "UPDATE aliases SET number = 3",
    "metrics-idle": "INSERT INTO metrics SELECT id, 3, 'rmse', 0.1 FROM models WHERE type = 'mlstm'",
    "metrics-differ": "DELETE FROM metrics WHERE number = 1",
    "sums-wrong": "UPDATE versions SET size = size + 1, n_files = 9 WHERE number = 1",
}


@pytest.mark.parametrize("kind", CATALOG)
def test_what_is_derived_is_found_wrong_and_made_anew(old, kind):
    sql(old, CATALOG[kind])
    found = call("fsck", old, "--json")
    assert found.code == 1 and kinds(found) == [kind], found.out
    mended = call("fsck", old, "--repair", "--json")
    assert mended.code == 0 and all(f["repaired"] and f["action"] for f in mended.json["findings"]), mended.out
    assert call("fsck", old, "--json").json["findings"] == []


BROKEN = {
    "entries-broken": "DELETE FROM files WHERE name = 'a.txt'",
    "entries-astray": "UPDATE versions SET n_entries = n_entries - 1 WHERE number = 1",
    "catalog-link": "UPDATE versions SET model_id = 99999 WHERE number = 3",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_made_anew_is_named_and_left(old, kind):
    sql(old, BROKEN[kind])
    for args in ([], ["--repair"]):
        found = call("fsck", old, "--json", *args)
        assert found.code == 1 and kind in kinds(found), found.out
        assert not any(f["repaired"] for f in found.json["findings"] if f["kind"] == kind)


def test_a_content_that_was_freed_though_a_committed_version_holds_it_is_missing(drive):
    """A sweep beside fsck frees what was retired meanwhile; that alone makes it no loss."""
    drive.version({"model.bin": "weights"})
    assert drive.umount().code == 0
    path = blob(drive.store, digest_of(drive.store))
    soften(path)
    path.unlink()
    sql(drive.store, "INSERT INTO absent (blob, kind, at_ns) SELECT id, 1, 0 FROM blobs WHERE lower(hex(sha256)) = ?", path.parent.name + path.name)
    found = call("fsck", drive.store, "--json")
    assert found.code == 1 and kinds(found) == ["blob-missing", "version-damaged"], found.out
    assert "blob-missing" in kinds(call("fsck", drive.store, "--repair", "--json"))
    assert sql(drive.store, "SELECT kind FROM absent") == [(2,)], "damaged, so that reads say so and the next commit heals it"


def test_a_highest_number_that_is_too_low_is_raised(old):
    sql(old, "UPDATE models SET last_number = 1")
    assert kinds(call("fsck", old, "--json")) == ["model-numbers"]
    assert call("fsck", old, "--repair").code == 0
    assert sql(old, "SELECT max(last_number) FROM models") == [(3,)]


@pytest.mark.parametrize("how, kind, verify", [("gone", "blob-missing", False), ("cut", "blob-size", False), ("rotten", "blob-damaged", True)])
def test_a_damaged_content_is_named_with_every_version_that_holds_it_and_healed_by_its_next_commit(drive, how, kind, verify):
    for _ in range(2):
        drive.version({"model.bin": "weights", "other.txt": "fine"})
    path = blob(drive.store, digest_of(drive.store))
    soften(path)
    if how == "gone":
        path.unlink()
    else:
        path.write_text("WEIGHTS" if how == "rotten" else "we")
        path.chmod(0o444)
    args = ["--verify"] if verify else []
    found = call("fsck", drive.store, "--json", *args)
    assert found.code == 1 and kinds(found) == sorted([kind, "version-damaged"]), found.out
    assert [f["version"] for f in found.json["findings"] if f["kind"] == "version-damaged"] == ["v1", "v2"]
    assert all("model.bin" in f["text"] for f in found.json["findings"] if f["kind"] == "version-damaged")
    assert call("fsck", drive.store, "--repair", *args).code == 1, "the content is lost all the same"
    for v in ("v1", "v2"):
        with pytest.raises(OSError):
            drive.path(MODEL, v, "model.bin").read_bytes()
        assert drive.path(MODEL, v, "other.txt").read_text() == "fine"
    if how != "gone":
        assert len(list((drive.store / "lost+found").iterdir())) == 1
    v3 = drive.version({"model.bin": "weights"})
    assert (v3 / "model.bin").read_text() == "weights" and drive.path(MODEL, "v1/model.bin").read_text() == "weights"
    assert call("fsck", drive.store, "--verify", "--json").json["findings"] == []


def test_a_bundle_of_a_version_that_is_here_brings_back_what_was_lost_of_it(drive, place):
    drive.version({"model.bin": "weights"})
    assert call("export", MODEL, "--store", drive.store, "-o", place / "b.tar").code == 0
    path = blob(drive.store, digest_of(drive.store))
    soften(path)
    path.write_text("WEIGHTS")
    assert call("fsck", drive.store, "--verify", "--repair").code == 1
    done = call("import", place / "b.tar", "--store", drive.store)
    assert done.code == 0 and "is here already" in done.out
    assert drive.path(MODEL, "v1/model.bin").read_text() == "weights"
    assert call("fsck", drive.store, "--verify", "--json").json["findings"] == []


def test_an_existing_folder_of_a_version_that_is_here_brings_back_what_was_lost_of_it(drive, place):
    drive.version({"model.bin": "weights", "other.txt": "fine"})
    folder = place / "folder"
    shutil.copytree(drive.path(MODEL, "v1"), folder / MODEL / "v1")
    path = blob(drive.store, digest_of(drive.store))
    soften(path)
    path.write_text("WEIGHTS")
    assert call("fsck", drive.store, "--verify", "--repair").code == 1
    done = call("import", "--tree", folder, "-n", "--store", drive.store)
    assert done.code == 0 and "is here already" in done.out, done.out + done.err
    assert call("fsck", drive.store, "--json").code == 1, "a dry run brings nothing"
    done = call("import", "--tree", folder, "--store", drive.store)
    assert done.code == 0 and "is here already" in done.out, done.out + done.err
    assert drive.path(MODEL, "v1/model.bin").read_text() == "weights"
    assert call("fsck", drive.store, "--verify", "--json").json["findings"] == []


def test_an_existing_folder_that_has_other_bytes_now_brings_back_nothing(drive, place):
    drive.version({"model.bin": "weights"})
    folder = place / "folder"
    shutil.copytree(drive.path(MODEL, "v1"), folder / MODEL / "v1")
    model = folder / MODEL / "v1/model.bin"
    times = model.stat()
    soften(model)
    model.write_text("WEIGHTS")
    os.utime(model, ns=(times.st_atime_ns, times.st_mtime_ns))
    path = blob(drive.store, digest_of(drive.store))
    soften(path)
    path.unlink()
    assert call("fsck", drive.store, "--repair").code == 1
    done = call("import", "--tree", folder, "--store", drive.store)
    assert "is another version here" in done.out + done.err
    assert kinds(call("fsck", drive.store, "--json")) == ["blob-missing", "version-damaged"]


def test_a_version_that_fsck_marked_as_damaged_says_so_until_it_is_healed(drive):
    drive.version({"model.bin": "weights", "other.txt": "fine"})
    path = blob(drive.store, digest_of(drive.store))
    soften(path)
    path.unlink()
    assert call("fsck", drive.store, "--repair").code == 1

    def damaged():
        version = call("show", drive.path(MODEL, "v1"), "--json").json
        return version["damaged_files"], [f["path"] for f in version["files"] if f.get("damaged")]

    assert damaged() == (1, ["model.bin"])
    words = call("show", drive.path(MODEL, "v1")).out
    assert "1 file has lost its content" in words and words.count("  damaged") == 2, words
    assert "damaged" in call("show", drive.path(MODEL, "v1/model.bin")).out and call("show", drive.path(MODEL, "v1/model.bin"), "--json").json["damaged"]
    assert "damaged" not in call("show", drive.path(MODEL, "v1/other.txt")).out
    drive.version({"model.bin": "weights"})
    assert damaged() == (0, []) and "damaged" not in call("show", drive.path(MODEL, "v1")).out


@pytest.mark.parametrize("put", [lambda path: path.mkdir(), lambda path: path.symlink_to("/etc/hostname"), lambda path: os.mkfifo(path)], ids=["directory", "link", "pipe"])
def test_a_content_whose_name_something_else_has_is_lost_and_no_run_calls_it_repaired(drive, put):
    for _ in range(2):
        drive.version({"model.bin": "weights", "other.txt": "fine"})
    path = blob(drive.store, digest_of(drive.store))
    soften(path)
    path.unlink()
    put(path)
    found = call("fsck", drive.store, "--json")
    assert found.code == 1 and kinds(found) == ["blob-missing", "stray", "version-damaged"], found.out
    assert [f["version"] for f in found.json["findings"] if f["kind"] == "version-damaged"] == ["v1", "v2"]
    assert call("fsck", drive.store, "--repair").code == 1, "the content is lost all the same"
    assert not os.path.lexists(path) and len(list((drive.store / "lost+found").iterdir())) == 1
    with pytest.raises(OSError):
        drive.path(MODEL, "v1/model.bin").read_bytes()
    drive.version({"model.bin": "weights"})
    assert drive.path(MODEL, "v1/model.bin").read_text() == "weights"
    assert call("fsck", drive.store, "--verify", "--json").json["findings"] == []


def test_what_belongs_nowhere_goes_to_lost_and_found(old):
    (old / "thesis.tex").write_text("mine")
    (old / "blobs/ab").mkdir(exist_ok=True)
    (old / "blobs/ab/not-a-blob").write_text("x")
    (old / "drafts/4711").mkdir()
    (old / "drafts/4711/precious").write_text("bytes")
    (old / "drafts/4712").mkdir()
    found = call("fsck", old, "--json")
    assert found.code == 1 and kinds(found) == ["draft-astray", "stray"] and len(found.json["findings"]) == 4
    assert (old / "thesis.tex").exists()
    done = call("fsck", old, "--repair")
    assert done.code == 0, done.out + done.err
    kept = sorted(p.name for p in (old / "lost+found").rglob("*"))
    assert kept == ["draft-4711", "precious", "stray-not-a-blob", "stray-thesis.tex"]
    assert call("fsck", old).code == 0


def test_a_draft_that_lost_its_tree_is_recorded_as_discarded(old):
    (row,) = sql(old, "SELECT id FROM versions WHERE state = 0")
    shutil.rmtree(old / "drafts" / str(row[0]))
    assert kinds(call("fsck", old, "--json")) == ["draft-lost"]
    assert call("fsck", old, "--repair").code == 0
    assert sql(old, "SELECT state FROM versions WHERE id = ?", row[0]) == [(3,)]


def test_a_tree_that_a_commit_left_behind_is_cleared_away(old):
    (row,) = sql(old, "SELECT id FROM versions WHERE number = 1")
    (old / "drafts" / str(row[0])).mkdir()
    assert kinds(call("fsck", old, "--json")) == ["draft-leftover"]
    assert call("fsck", old, "--repair").code == 0 and not (old / "drafts" / str(row[0])).exists()


def test_a_damaged_database_is_told_and_nothing_crashes(old):
    with open(old / "catalog.db", "r+b") as f:
        f.seek(0, os.SEEK_END)
        for page in range(6, f.tell() // 4096, 2):
            f.seek(page * 4096)
            f.write(b"\xff" * 4096)
    done = call("fsck", old)
    assert done.code == 1 and ("catalog-page" in done.out or "damaged" in done.err)


def test_gc_frees_nothing_by_a_damaged_index_of_contents(drive):
    """One byte of it, and a content that a version holds is found by its digest no more."""
    drive.version({"model.bin": "weights", "other.txt": "fine"})
    drive.umount()
    digest = bytes.fromhex(digest_of(drive.store))
    sql(drive.store, "PRAGMA wal_checkpoint(TRUNCATE)")
    ((size,),) = sql(drive.store, "PRAGMA page_size")
    ((page,),) = sql(drive.store, "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_blobs_1'")
    with open(drive.store / "catalog.db", "r+b") as f:
        f.seek((page - 1) * size)
        at = f.read(size).index(digest)
        f.seek((page - 1) * size + at)
        f.write(bytes([digest[0] ^ 1]))
    found = call("fsck", drive.store)
    assert found.code == 1 and "catalog-page" in found.out, found.out
    for args in (["--dry-run"], []):
        swept = call("gc", drive.store, "--grace", "0", *args)
        assert swept.code == 1 and "fsck" in swept.err and "freed" not in swept.out, swept.out + swept.err
    mended = call("fsck", drive.store, "--repair", "--json")
    assert mended.code == 0 and kinds(mended) == ["catalog-page"], mended.out
    assert call("fsck", drive.store, "--verify", "--json").json["findings"] == []
    drive.mount()
    assert drive.path(MODEL, "v1/model.bin").read_text() == "weights"


def test_an_index_that_knows_of_rows_which_its_table_lost_is_left_for_evidence(old):
    """`blobs` gets the pages of a table with a row less: as whole as any, but for what its index knows."""
    db = sqlite3.connect(old / "catalog.db", isolation_level=None)
    db.execute("CREATE TABLE other (id INTEGER PRIMARY KEY, sha256 BLOB, size INTEGER)")
    db.execute("INSERT INTO other SELECT * FROM blobs WHERE id > (SELECT min(id) FROM blobs)")
    roots = dict(db.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'"))
    db.execute("PRAGMA writable_schema = ON")
    for table, page in (("blobs", roots["other"]), ("other", roots["blobs"])):
        db.execute("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", (page, table))
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    for args in (["--repair"], []):
        done = call("fsck", old, *args)
        assert done.code == 1 and "wrong # of entries in index" in done.out, done.out + done.err
    assert "mintfs restore" in call("fsck", old, "--repair").out
    assert call("gc", old, "--grace", "0").code == 1


def test_who_cannot_read_all_entries_advises_nobody_to_sweep_what_they_hold(old):
    """The entries of the versions cannot be read: which contents are needed is not known."""
    (size,), (page,) = sql(old, "PRAGMA page_size") + sql(old, "SELECT rootpage FROM sqlite_master WHERE name = 'files'")
    sql(old, "PRAGMA wal_checkpoint(TRUNCATE)")
    before = sorted((old / "blobs").rglob("*"))
    with open(old / "catalog.db", "r+b") as f:
        f.seek((page - 1) * size)
        f.write(b"\xff" * size)
    done = call("fsck", old)
    assert done.code == 1 and "catalog-page" in done.out and "mintfs restore" in done.out
    assert "blob-unneeded" not in done.out and "mintfs gc" not in done.out, done.out
    swept = call("gc", old, "--grace", "0")
    assert swept.code == 1 and sorted((old / "blobs").rglob("*")) == before
    assert "backup" in swept.err, swept.err


@pytest.mark.parametrize("table, column, value, command", [
    ("versions", "metrics_summary", 5, ("show", f"{MODEL}/v1")),
    ("versions", "metrics_summary", 5, ("log", MODEL)),
    ("about", "labels", "7", ("show", f"{MODEL}/v1")),
    ("files", "type", -1, ("export", "-o", "all.tar", MODEL)),
    ("seen_commands", "id", 0, ("uses", f"{MODEL}/v1")),
    ("versions", "n_entries", 2**63 - 1, ("show", f"{MODEL}/v1")),
    ("versions", "n_entries", 2**63 - 1, ("fsck",)),
    ("versions", "first_child", -2**63, ("fsck",)),
    ("versions", "first_child", 2**63 - 1, ("export", "-o", "all.tar", MODEL)),
    ("files", "first_child", 2**63 - 1, ("fsck",)),
    ("files", "inode", -2**63, ("export", "-o", "all.tar", MODEL)),
])
def test_values_that_none_of_us_writes_into_the_catalog_crash_no_command(drive, tmp_path, table, column, value, command):
    """The owner of a store may write what he likes into it, and root looks at it."""
    drive.version({"model.bin": "weights", "metadata.json": '{"labels": {"a": "b"}, "metrics": {"rmse": 1}}'})
    with open(drive.path(MODEL) / "v1" / "model.bin") as f:
        f.read()
        assert wait_for(lambda: sql(drive.store, "SELECT 1 FROM seen_commands"))
    drive.umount()
    db = sqlite3.connect(drive.store / "catalog.db")
    db.execute("PRAGMA ignore_check_constraints = ON")
    assert db.execute(f"UPDATE {table} SET {column} = ?", (value,)).rowcount > 0
    db.commit()
    db.close()
    done = call(command[0], "--store", drive.store, *command[1:], cwd=tmp_path)
    assert done.code in (0, 1) and "Sanitizer" not in done.err and "runtime error" not in done.err, done.err


@pytest.mark.parametrize("table, column, value, shown", [
    ("versions", "metrics_summary", "no JSON", "metrics"),
    ("versions", "metrics_summary", '{"rmse": 1', "metrics"),
    ("about", "labels", "\x1b[2Jno JSON", "labels"),
    ("about", "params", "/etc/passwd", "parameters"),
])
@pytest.mark.parametrize("command", [("show", f"{MODEL}/v1"), ("find",)])
def test_what_a_catalog_holds_in_the_place_of_json_is_null_in_json(drive, table, column, value, shown, command):
    drive.version({"model.bin": "weights", "metadata.json": '{"labels": {"a": "b"}, "parameters": {"lr": 1}, "metrics": {"rmse": 1}}'})
    drive.umount()
    with sqlite3.connect(drive.store / "catalog.db") as db:
        assert db.execute(f"UPDATE {table} SET {column} = ?", (value,)).rowcount > 0
    db.close()
    done = call(command[0], "--json", "--store", drive.store, *command[1:])
    assert done.code == 0, done.err
    found = done.json[0] if command[0] == "find" else done.json
    assert found[shown] is None


def test_watch_prints_no_command_of_a_terminal_that_a_catalog_has_for_an_event(drive):
    drive.version()
    drive.umount()
    with sqlite3.connect(drive.store / "catalog.db") as db:
        assert db.execute("UPDATE events SET kind = ?", ("\x1b[2J\n",)).rowcount > 0
    db.close()
    done = call("watch", "--once", "--from", "0", "--store", drive.store)
    assert done.code == 0 and "?[2J" in done.out and "\x1b" not in done.out


def read_by(pid):
    """Bytes that a process has read by system calls."""
    with open(f"/proc/{pid}/io") as f:
        return int(next(line.split()[1] for line in f if line.startswith("rchar:")))


def test_verify_keeps_to_its_rate_and_goes_on_where_it_was_interrupted(drive):
    for n in range(8):
        drive.version({"model.bin": os.urandom(3 << 20)})
    drive.umount()
    begun = time.monotonic()
    p = subprocess.Popen([BIN, "fsck", str(drive.store), "--verify", "--rate", "2M"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert wait_for(lambda: read_by(p.pid) > 4 << 20)  # it is at its second content
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=20)
    assert p.returncode == 1 and "goes on from here\n" in err and time.monotonic() - begun < 10
    assert (drive.store / "run/verify").exists()
    done = call("fsck", drive.store, "--verify", "--json").json
    assert done["complete"] and done["resumed"] and 0 < done["verified_bytes"] < 24 << 20
    assert not (drive.store / "run/verify").exists()
    again = call("fsck", drive.store, "--verify", "--json").json
    assert not again["resumed"] and again["verified_bytes"] > 24 << 20


@pytest.mark.parametrize("args", [["--rate", "5x", "--verify"], ["--rate", "0", "--verify"], ["--rate", "1M"], ["--restart"]])
def test_fsck_with_options_that_do_not_fit_is_a_usage_error(store, args):
    assert call("fsck", store, *args).code == 2


class Image:
    """A file system of its own, whose inodes can be changed from below: a chattr is a change of the inode, and what changed less than a minute ago may be a commit under way."""

    def __init__(self, place):
        self.file, self.dir = place / "disk", place / "disk.mnt"
        self.dir.mkdir()
        with open(self.file, "wb") as f:
            f.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", str(self.file)], check=True)

    def mount(self):
        if subprocess.run(["mount", "-o", "loop", str(self.file), str(self.dir)]).returncode:
            pytest.skip("there are no loop devices here")

    def umount(self):
        subprocess.run(["umount", str(self.dir)], check=True)

    def unmounted(self, *requests):
        self.umount()
        subprocess.run(["debugfs", "-w", "-f", "-", str(self.file)], input="".join(r + "\n" for r in requests), text=True, check=True, capture_output=True)
        self.mount()

    def aged(self, path, immutable):
        inner = path.relative_to(self.dir)
        return [f"set_inode_field /{inner} ctime 20200101", f"set_inode_field /{inner} flags {0x80010 if immutable else 0x80000}"]


@pytest.fixture
def image(place):
    if os.geteuid() != 0 or not (shutil.which("debugfs") and shutil.which("mkfs.ext4")) or not can_mount():
        pytest.skip("needs root, mkfs.ext4 and debugfs")
    disk = Image(place)
    disk.mount()
    yield disk
    subprocess.run(["umount", "-l", str(disk.dir)])


def flagged(path):
    return "i" in subprocess.run(["lsattr", str(path)], capture_output=True, text=True, check=True).stdout.split()[0]


def store_on(image, owner=0):
    store = image.dir / "store"
    assert call("init", store).code == 0
    (image.dir / "mnt").mkdir()
    drive = Drive(store, image.dir / "mnt").mount()
    for n in range(5):
        drive.version({"model.bin": f"weights {n}"})
    assert drive.umount().code == 0
    subprocess.run(["chattr", "-R", "-i", str(store)], check=True)
    subprocess.run(["chown", "-R", str(owner), str(store)], check=True)
    return store, sorted(p for p in (store / "blobs").rglob("*") if p.is_file())


def notes(done):
    return [f["text"] for f in done.json["findings"] if f["kind"] == "blob-unprotected"]


def test_contents_that_lost_the_immutable_flag_are_told_and_it_is_set_again(image):
    store, blobs = store_on(image)
    lost = blobs[0]
    image.unmounted(*(r for p in blobs for r in image.aged(p, p != lost)))
    done = call("fsck", store, "--json")
    assert done.code == 0 and done.json["problems"] == 0 and done.json["notes"] == 1
    (note,) = done.json["findings"]
    assert note["kind"] == "blob-unprotected" and not note["problem"] and note["sha256"] == lost.parent.name + lost.name and "--repair" in note["text"]
    assert not flagged(lost), "told, not mended"
    mended = call("fsck", store, "--repair")
    assert mended.code == 0 and "blob-unprotected" in mended.out and "clean" in mended.out
    assert all(flagged(p) for p in blobs)
    assert call("fsck", store, "--json").json["findings"] == []


def test_a_store_that_lost_all_flags_is_one_note(image):
    store, blobs = store_on(image)
    image.unmounted(*(r for p in blobs for r in image.aged(p, False)))
    (note,) = notes(call("fsck", store, "--json"))
    assert note.startswith(f"{len(blobs)} contents")
    assert call("fsck", store, "--repair").code == 0 and all(flagged(p) for p in blobs)


def test_one_content_that_the_disk_refuses_does_not_keep_the_flag_from_the_others(image):
    store, blobs = store_on(image)
    image.unmounted(*(r for p in blobs for r in image.aged(p, False)))
    for nth in range(1, 10):  # the first calls only ask whether it can be set
        done = call("fsck", store, "--repair", env={"MINTFS_FAULT": f"set_immutable:{nth}:{errno.EIO}"})
        if "repair failed" in done.out:
            break
    assert "repair failed" in done.out and sum(flagged(p) for p in blobs) == len(blobs) - 1, done.out
    assert call("fsck", store, "--repair").code == 0


def test_nothing_is_said_of_the_immutable_flag_where_it_cannot_be_set_or_never_was(image):
    store, blobs = store_on(image, owner=1234)
    image.unmounted(*(r for p in blobs for r in image.aged(p, False)))
    assert notes(call("fsck", store, "--json", user=1234)) == []
    assert notes(call("fsck", store, "--json")) == [], "its owner could not take them off again"
    assert call("fsck", store, "--repair").code == 0 and not any(flagged(p) for p in blobs)
    image.unmounted(*image.aged(blobs[0], True))  # a drive that root mounted made one
    assert notes(call("fsck", store, "--json", user=1234)) == []
    assert len(notes(call("fsck", store, "--json"))) == 1


# ---- beside others ----


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_root_had_begun_to_verify_the_owner_of_the_store_finishes(drive):
    for n in range(3):
        drive.version({"model.bin": os.urandom(3 << 20)})
    drive.umount()
    subprocess.run(["chattr", "-R", "-i", str(drive.store)], stderr=subprocess.DEVNULL)
    subprocess.run(["chown", "-R", "1234:1234", str(drive.store)], check=True)
    p = subprocess.Popen([BIN, "fsck", str(drive.store), "--verify", "--rate", "2M"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert wait_for(lambda: read_by(p.pid) > 4 << 20)
    p.send_signal(signal.SIGINT)
    p.wait(20)
    assert (drive.store / "run/verify").exists()
    done = call("fsck", drive.store, "--verify", "--json", user=1234)
    assert done.code == 0 and done.json["complete"] and done.json["resumed"], done.err


def waits_for_a_lock(pid):
    with open("/proc/locks") as f:
        return any(line.split()[1] == "->" and line.split()[5] == str(pid) for line in f)


def is_open(pid, path):
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.path.samefile(f"/proc/{pid}/fd/{fd}", path):
                return True
        except OSError:
            pass
    return False


def test_what_a_sweep_is_just_taking_away_is_not_missing(drive, place):
    """A sweep unlinks contents and then commits what it did; fsck may look in between."""
    lower, higher = sorted((hashlib.sha256(bytes([n]) * size).hexdigest(), n, size) for n, size in ((1, 3 << 20), (2, 3 << 20)))
    drive.version({"model.bin": bytes([lower[1]]) * lower[2], "metadata.json": "{}"})
    drive.version({"model.bin": bytes([higher[1]]) * higher[2], "metadata.json": "{}"})
    drive.umount()
    os.mkfifo(place / "marks")
    fsck = subprocess.Popen([BIN, "fsck", drive.store, "--verify", "--rate", "2M", "--json"], stdout=subprocess.PIPE, text=True)
    wait_for(lambda: is_open(fsck.pid, blob(drive.store, lower[0])))
    assert call("retire", f"{MODEL}/v2", "--force", "--store", drive.store).code == 0
    gc = subprocess.Popen([BIN, "gc", drive.store, "--grace", "0"], env={**os.environ, "MINTFS_MARKS": str(place / "marks")}, stdout=subprocess.DEVNULL)  # held at its first mark
    try:
        wait_for(lambda: not blob(drive.store, higher[0]).exists() or gc.poll() is not None)
        if gc.poll() is not None:
            pytest.skip("a build without crash points")
        wait_for(lambda: waits_for_a_lock(fsck.pid) or fsck.poll() is not None)
    finally:
        marks = os.open(place / "marks", os.O_RDONLY | os.O_NONBLOCK)
        assert gc.wait(20) == 0
        os.close(marks)
    out = fsck.communicate(timeout=20)[0]
    assert fsck.returncode == 0, out
