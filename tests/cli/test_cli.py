"""Every command: what it prints, its JSON, its exit codes, its refusals. With the drive mounted and without."""
import hashlib
import json
import os
import pty
import re
import subprocess

import pytest

from cli_env import BIN, Drive, at_work, call, can_mount, one_sentence, wait_for

COMMANDS = """
init
mount
umount
upgrade
commit
discard
list
log
show
diff
status
find
lineage
stale
blame
uses
alias
path
watch
export
import
backup
restore
retire
prune
gc
fsck
process
evaluate
compare
version
help
""".split()
M = "product/P001_all/mlstm"
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")


# ---- help, usage, version ----

@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_usage_and_an_example(command):
    done = call(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"usage: mintfs {command}")
    assert "Example:" in done.out or command == "mount"
    assert call("help", command).out == done.out


def test_help_lists_every_command_in_one_page():
    out = call("help").out
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == COMMANDS


def test_without_a_command_the_list_is_shown_and_the_code_says_usage():
    assert call().code == 2


@pytest.mark.parametrize("args, words", [
    (["nosuch"], ["nosuch"]),
    (["log"], ["missing"]),
    (["init", "a", "b"], ["too much"]),
    (["list", "--wrong"], ["--wrong"]),
    (["list", "-x"], ["-x"]),
    (["commit", "a", "-m"], ["needs a value"]),
    (["list", "--json=yes"], ["no value"]),
    (["list", "--help=yes"], ["no value"]),
    (["list", "--color", "blue"], ["blue"]),
    (["log", "m", "-n", "0"], ["0"]),
    (["log", "m", "-n", "many"], ["many"]),
    (["alias", "m", "-d"], ["-d"]),
    (["alias", "m", "n", "v1", "--history"], ["--history"]),
])
def test_wrong_usage_is_code_2_and_says_what_is_wrong(args, words):
    done = call(*args)
    assert done.code == 2 and done.out == ""
    assert all(word in done.err for word in words), done.err


def test_version_tells_a_number():
    assert re.fullmatch(r"mintfs \d+\.\d+\.\d+\n", call("version").out)
    assert call("version", "--json").json["version"] == call("--version").out.split()[1]


def test_a_full_disk_under_the_output_is_not_taken_for_success():
    with open("/dev/full", "w") as full:
        done = subprocess.run([BIN, "help"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "No space left" in done.stderr


def without(numbers, *args):
    """Runs mintfs with these of its standard descriptors closed."""
    closing = " ".join(f"{fd}>&-" for fd in numbers)
    return subprocess.run(["sh", "-c", f'exec "$@" {closing}', "sh", BIN, *map(str, args)], capture_output=True, text=True, timeout=60).returncode


@pytest.mark.parametrize("numbers", [(1,), (0, 1), (1, 2), (0, 1, 2)])
def test_what_is_printed_to_a_closed_output_is_an_error_and_goes_into_no_file_of_the_store(store, numbers):
    assert without(numbers, "list", "--store", store) == 1
    assert without(numbers, "import", "/nosuch", "--store", store) in (1, 3)
    assert without(numbers, "alias", "product/P1_all/kan", "a", "v1", "--store", store) in (1, 3)
    assert (store / "lock").read_bytes() == b""
    assert call("fsck", store).code == 0


def test_a_drive_that_was_mounted_without_standard_descriptors_is_handed_over_and_ends_like_any_other(store, place):
    (place / "mnt").mkdir()
    if not can_mount():
        pytest.skip("no /dev/fuse for this user")
    assert without((0, 1, 2), "mount", store, place / "mnt") == 0
    upgraded, ended = call("upgrade", place / "mnt"), call("umount", place / "mnt")
    assert upgraded.code == 0 and ended.code == 0, upgraded.err + ended.err


# ---- init ----

def test_init_makes_a_private_store_once(place):
    done = call("init", place / "s", "--json")
    assert done.code == 0 and done.json == {"store": str(place / "s")}
    assert oct((place / "s").stat().st_mode & 0o7777) == "0o700"
    one_sentence(call("init", place / "s"), 1, "already", place / "s")


def test_init_refuses_a_directory_that_holds_something_and_a_file(place):
    (place / "full").mkdir()
    (place / "full" / "thing").touch()
    one_sentence(call("init", place / "full"), 1, "not empty")
    (place / "file").touch()
    one_sentence(call("init", place / "file"), 3, "not a directory")
    assert (place / "file").read_bytes() == b"" and os.listdir(place / "full") == ["thing"]


# ---- finding the store ----

def test_without_a_store_a_sentence_says_how_to_name_one():
    one_sentence(call("list"), 3, "--store", "MINTFS_STORE")
    one_sentence(call("log", M), 3, "--store")


def test_a_store_that_is_none_is_refused(place):
    one_sentence(call("list", "--store", place / "nothing"), 3, "mintfs init")
    one_sentence(call("list", "--store", place), 3, "config.json")


def test_an_empty_store_lists_nothing_and_says_what_to_do(store):
    assert "mkdir" in call("list", "--store", store).out
    assert call("list", "--json", env={"MINTFS_STORE": str(store)}).json == []
    one_sentence(call("log", M, "--store", store), 3, M)
    one_sentence(call("show", "bad name", "--store", store), 3)
    one_sentence(call("show", "nowhere/a/b", "--store", store), 1)
    one_sentence(call("list", "product/X", "--store", store), 3, "product/X")


@as_root
def test_somebody_elses_store_is_refused_by_name_of_its_owner(store):
    one_sentence(call("list", "--store", store, user=NOBODY), 1, "belongs to root")


# ---- commit and discard ----

def test_commit_through_the_drive_keeps_the_message_and_frees_nothing_else(drive):
    draft = drive.mint({"model.bin": "12345", "sub/x": "67"})
    done = call("commit", draft, "-m", "with holidays")
    assert (done.code, done.err) == (0, "")
    assert done.out == f"v1 of {M} committed: 3 files, " + done.out.split(", ")[1]  # metadata.json was written for us
    assert os.getxattr(draft, "user.mintfs.message") == b"with holidays"
    with pytest.raises(OSError):
        (draft / "more").touch()
    again = call("commit", draft)
    assert again.code == 0 and "already" in again.out


@pytest.mark.parametrize("how", ["path", "file within", "key", "name", "model alone", "latest by name", "latest by path", "relative"])
def test_commit_finds_the_draft_however_it_is_named(drive, how):
    draft = drive.mint({"model.bin": "x"})
    model, by_store = drive.path(M), ["--store", drive.store]
    args = {"path": [draft], "file within": [draft / "model.bin"], "key": ["product_P001_all_mlstm/v1", *by_store], "name": [f"{M}/v1", *by_store],
            "model alone": [model], "latest by name": [f"{M}/latest", *by_store], "latest by path": [model / "latest"], "relative": ["v1"]}[how]
    done = call("commit", *args, "--json", cwd=model if how == "relative" else "/")
    if how == "file within":
        one_sentence(done, 1, "names a file")
        return
    assert done.code == 0, done.err
    assert (done.json["version"], done.json["state"], done.json["model"]) == ("v1", "committed", M)


def test_commit_of_a_model_with_two_drafts_asks_which_one(drive):
    drive.mint({"model.bin": "1"})
    drive.mint({"model.bin": "2"})
    one_sentence(call("commit", drive.path(M)), 1, "2 open drafts", "v2, v1")
    one_sentence(call("discard", drive.path(M)), 1, "name the version")


def test_commit_says_why_it_is_refused_and_the_draft_stays(drive):
    one_sentence(call("commit", drive.mint()), 1, "no file")
    draft = drive.mint({"model.bin": "x", "metadata.json": "[1]"})
    one_sentence(call("commit", draft), 1, "metadata.json", "v2")
    (draft / "metadata.json").write_text("{}")
    with open(draft / "model.bin", "a"):
        one_sentence(call("commit", draft), 1, "open for writing")
    assert call("commit", draft).code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a file system")
def test_a_commit_on_a_full_disk_says_that_it_is_full(place):
    small = place / "small"
    (place / "mnt").mkdir()
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], check=True)
    try:
        assert call("init", small / "store").code == 0
        drive = Drive(small / "store", place / "mnt").mount()
        draft = drive.mint({"model.bin": "weights"})
        with open(small / "filler", "wb", buffering=0) as f, pytest.raises(OSError):
            while True:
                f.write(bytes(4096))
        one_sentence(call("commit", draft, "-m", "a message"), 1, "No space left on device")
        (small / "filler").unlink()
        assert call("commit", draft, "-m", "a message").code == 0
        one_sentence(call("commit", drive.mint({"model.bin": "more"}), "-m", "x" * 70000), 1, "message is too long")
    finally:
        call("umount", place / "mnt")
        subprocess.run(["umount", small], check=True)


def test_commit_without_a_drive_is_done_by_the_command_itself(drive):
    drive.mint({"model.bin": "x"})
    assert drive.umount().code == 0
    done = call("commit", M, "-m", "later", "--store", drive.store, "--json")
    assert done.code == 0 and done.json["message"] == "later" and done.json["state"] == "committed"
    one_sentence(call("commit", M, "--store", drive.store), 3, "no open draft")
    assert call("commit", f"{M}/latest", "--store", drive.store).out.endswith("committed already\n")


def test_discard_removes_a_draft_but_never_a_version(drive):
    version = drive.version()
    draft = drive.mint({"model.bin": "x"})
    one_sentence(call("discard", version), 1, "committed")
    assert call("discard", draft, "--json").json == {"model": M, "version": "v2", "number": 2, "state": "discarded"}
    assert not draft.exists() and version.exists()
    one_sentence(call("discard", draft), 1, "discarded already")
    assert drive.mint().name == "v3"


def test_discard_of_open_files_needs_force(drive):
    draft = drive.mint({"model.bin": "x"})
    with open(draft / "model.bin", "a"):
        one_sentence(call("discard", draft), 1, "open")
        assert call("discard", draft, "--force").code == 0
    assert not draft.exists()


def test_discard_without_a_drive(drive):
    drive.mint({"model.bin": "x"})
    assert drive.umount().code == 0
    assert call("discard", f"{M}/v1", "--store", drive.store).code == 0
    assert [v["state"] for v in call("log", M, "--all", "--json", "--store", drive.store).json] == ["discarded"]


# ---- list, log, show ----

def test_list_shows_models_and_their_counts_with_the_drive_mounted_or_not(drive):
    drive.version(metrics={"rmse": 2.0})
    drive.version(metrics={"rmse": 1.0})
    drive.version(metrics={"rmse": 3.0})
    drive.mint({"model.bin": "draft"})
    drive.version({"m.pt": "z"}, model="global/all/sum/kan")

    def check(*args, **more):
        rows = call("list", "--json", *args, **more).json
        assert [r["model"] for r in rows] == ["global/all/sum/kan", M]
        assert {k: rows[1][k] for k in ("key", "newest", "best", "versions", "drafts")} == {
            "key": "product_P001_all_mlstm", "newest": "v3", "best": "v2", "versions": 3, "drafts": 1}
    check(drive.dir)
    check(cwd=drive.dir, env={"MINTFS_STORE": "/nonexistent"})
    check("--store", drive.store)
    assert call("list", "--names", "--store", drive.store).out.splitlines() == ["global/all/sum/kan", M]
    assert call("list", "--names", "product/P", "--store", drive.store).out.splitlines() == [M]
    assert [r["model"] for r in call("list", drive.path("global"), "--json").json] == ["global/all/sum/kan"]
    assert drive.umount().code == 0
    check("--store", drive.store)


def test_list_of_a_model_shows_versions_and_links(drive):
    drive.version(metrics={"rmse": 1.0})
    drive.version(metrics={"rmse": 2.0})
    call("alias", drive.path(M), "production", "v1")
    got = call("list", drive.path(M), "--json").json
    assert [(v["version"], v["state"], v["links"]) for v in got["versions"]] == [
        ("v2", "committed", ["latest"]), ("v1", "committed", ["best", "production"])]
    assert got["links"] == [{"name": "latest", "version": "v2"}, {"name": "best", "version": "v1"}, {"name": "production", "version": "v1"}]
    table = call("list", drive.path(M)).out.splitlines()
    assert table[0].split() == ["VERSION", "STATE", "AGE", "SIZE", "FILES", "LINKS"]
    assert table[2].endswith("best, production")


def test_log_tells_numbers_metrics_aliases_and_messages_newest_first(drive):
    drive.version(metrics={"rmse": 10.5, "r2": 0.89}, message="first\nsecond line")
    drive.version(metrics={"r2": 0.91, "rmse": 9.25})
    drive.mint({"model.bin": b"x" * 2048})
    out = call("log", drive.path(M)).out.splitlines()
    assert out[0].split() == ["VERSION", "STATE", "AGE", "AUTHOR", "SIZE", "rmse", "r2", "ALIASES", "MESSAGE"]
    assert [line.split()[:2] for line in out[1:]] == [["v3", "draft"], ["v2", "committed"], ["v1", "committed"]]
    assert "2.0 KiB" in out[1] and "9.25" in out[2] and "0.91" in out[2] and "latest, best" in out[2]
    assert out[3].endswith("first") and "second line" not in "".join(out)
    assert [len(line[:out[0].index("ALIASES")].rstrip()) for line in out[2:]] == [len(out[0][:out[0].index("ALIASES")].rstrip())] * 2  # right-aligned
    got = call("log", drive.path(M), "--json", "-n", "2").json
    assert [v["number"] for v in got] == [3, 2]
    assert got[1]["metrics"] == {"r2": 0.91, "rmse": 9.25} and got[1]["links"] == ["latest", "best"]
    assert call("log", drive.path(M, "v1"), "--json").code == 1


def test_show_tells_all_of_a_version(drive):
    content = b"weights" * 1000
    drive.version({"model.bin": content, "sub/notes.txt": "n"}, metrics={"loss": 0.5, "nested": {"a": 1}}, message="hello\nworld")
    got = call("show", drive.path(M, "latest"), "--json").json
    assert (got["version"], got["state"], got["message"], got["metrics"]) == ("v1", "committed", "hello\nworld", {"loss": 0.5, "nested": {"a": 1}})
    files = {f["path"]: f for f in got["files"]}
    assert list(files) == ["metadata.json", "model.bin", "sub", "sub/notes.txt"]
    assert files["model.bin"]["sha256"] == hashlib.sha256(content).hexdigest() and files["model.bin"]["size"] == len(content)
    assert files["sub"] == {"path": "sub", "type": "directory", "size": 0, "sha256": None}
    assert got["size"] == sum(f["size"] for f in files.values()) and got["file_count"] == 3
    assert got["run"]["host"] == os.uname().nodename
    words = call("show", f"{M}/best", "--store", drive.store).out
    for word in ("committed", "hello", "world", "nested.a", hashlib.sha256(content).hexdigest()[:12], "latest, best", "6.8 KiB"):
        assert word in words, words


@pytest.mark.parametrize("way", ["drive", "store", "draft"])
def test_show_of_a_file_tells_of_the_file_and_of_none_that_there_is_none(drive, way):
    files = {"model.bin": "weights", "sub/a.txt": "one", "sub/deep/b": "two", "sub-other": "three"}
    v1 = drive.mint(files)
    os.symlink("model.bin", v1 / "link")
    os.symlink("nowhere", v1 / "broken")
    if way != "draft":
        assert call("commit", v1).code == 0
    at = (lambda name: [f"{M}/v1/{name}", "--store", drive.store]) if way == "store" else (lambda name: [v1 / name])
    got = call("show", *at("model.bin"), "--json").json
    assert (got["model"], got["version"], got["path"], got["type"], got["size"], got["files"]) == (M, "v1", "model.bin", "file", 7, None)
    assert got["state"] == ("draft" if way == "draft" else "committed")
    digest = hashlib.sha256(b"weights").hexdigest()
    words = call("show", *at("model.bin")).out
    assert words.splitlines()[0].startswith(f"{M}/v1/model.bin ") and "7 bytes" in words and "sub-other" not in words
    if way != "draft":
        assert got["sha256"] == digest and digest in words
    for name in ("sub", "sub/"):
        got = call("show", *at(name), "--json").json
        assert got["type"] == "directory" and [f["path"] for f in got["files"]] == ["sub/a.txt", "sub/deep", "sub/deep/b"]
    words = call("show", *at("sub")).out
    assert "sub/deep/b" in words and "sub-other" not in words and "model.bin" not in words
    got = call("show", *at("broken"), "--json").json
    assert (got["type"], got["target"]) == ("symlink", "nowhere")
    for name in ("nofile", "sub/nofile", "nodir/nofile", "model.bi"):
        one_sentence(call("show", *at(name)), 3, f"{M}/v1 has no file {name}")
        one_sentence(call("show", *at(name), "--json"), 3, name)


def test_show_of_a_file_of_a_retired_version(drive):
    v1 = drive.version({"model.bin": "weights"})
    drive.version()
    assert call("retire", v1).code == 0
    assert call("show", f"{M}/v1/model.bin", "--store", drive.store, "--json").json["state"] == "retired"
    one_sentence(call("show", f"{M}/v1/nofile", "--store", drive.store), 3, "nofile")


def test_show_of_a_draft_lists_its_files_and_why_it_is_one(drive):
    draft = drive.mint({"model.bin": "x", "metadata.json": '{"metrics": {"rmse": NaN, "mae": 2}}'})
    os.symlink("model.bin", draft / "link")
    (draft / "bad.npz").write_bytes(b"PK\x03\x04 torn")
    one_sentence(call("commit", draft), 1, "bad.npz")
    got = call("show", draft, "--json").json
    assert got["state"] == "draft" and "bad.npz" in got["reason"]
    assert {f["path"]: f["type"] for f in got["files"]} == {"bad.npz": "file", "link": "symlink", "metadata.json": "file", "model.bin": "file"}
    assert got["metrics"] == {"rmse": None, "mae": 2}
    assert "not committed" in call("show", draft).out


def test_show_of_a_model_tells_what_decides_best(drive):
    drive.version(metrics={"val_loss": 0.25})
    got = call("show", drive.path(M), "--json").json
    assert (got["best"], got["best_metric"], got["best_mode"], got["newest"]) == ("v1", "val_loss", "min", "v1")
    assert "by val_loss, the lowest" in call("show", drive.path(M)).out


def test_what_is_not_there_is_code_3(drive):
    drive.version()
    for args in (["show", drive.path(M, "v9")], ["show", drive.path(M, "production")], ["log", drive.path("product/P002_all/mlstm")],
                 ["show", f"{M}/best", "--store", drive.store], ["path", drive.path(M, "v1", "nothing")], ["diff", drive.path(M, "v1"), "v2"],
                 ["alias", drive.path(M), "production"], ["alias", drive.path(M), "-d", "production"], ["commit", drive.path(M, "v9")]):
        one_sentence(call(*args), 3)


# ---- diff ----

def test_diff_compares_files_metrics_and_fields(drive):
    meta = {"optimizer": {"lr": 0.1, "name": "adam"}, "metrics": {"rmse": 2.0, "gone": 1}}
    drive.version({"same": "s", "changed": "aaaa", "removed": "r", "metadata.json": json.dumps(meta)})
    meta = {"optimizer": {"lr": 0.2, "name": "adam"}, "metrics": {"rmse": 1.5, "new": 7}}
    drive.version({"same": "s", "changed": "bbbb", "added": "r", "metadata.json": json.dumps(meta)})
    got = call("diff", drive.path(M, "v1"), "v2", "--json").json
    assert (got["a"], got["b"]) == (f"{M}/v1", f"{M}/v2")
    assert {f["path"]: f["change"] for f in got["files"]} == {
        "same": "same", "changed": "changed", "removed": "removed", "added": "added", "metadata.json": "changed"}
    assert got["metrics"] == [{"name": "rmse", "a": 2, "b": 1.5, "delta": -0.5}, {"name": "gone", "a": 1, "b": None, "delta": None},
                              {"name": "new", "a": None, "b": 7, "delta": None}]
    assert {f["name"]: (f["a"], f["b"]) for f in got["fields"]} == {"optimizer.lr": (0.1, 0.2), "optimizer.name": ("adam", "adam")}
    words = call("diff", drive.path(M, "v1"), drive.path(M, "latest")).out
    assert re.search(r"^  ~ +changed", words, re.M) and re.search(r"^  - +removed", words, re.M) and re.search(r"^  \+ +added", words, re.M)
    assert "1 same, 2 changed, 1 added, 1 removed" in words and "-0.5" in words and "optimizer.lr" in words and "optimizer.name" not in words
    assert "optimizer.name" in call("diff", drive.path(M, "v1"), "v2", "--all").out


def test_diff_as_json_gives_every_value_in_its_own_type(drive):
    drive.version({"model.bin": "x", "metadata.json": '{"metrics": {"rmse": NaN, "mae": "null"}, "a": null, "b": [1, 2], "c": "1", "d": 1}'})
    drive.version({"model.bin": "x", "metadata.json": '{"metrics": {"rmse": 1, "mae": null}, "a": "null", "b": true, "c": 1, "d": 1.0}'})
    got = call("diff", drive.path(M, "v1"), "v2", "--json").json
    assert got["metrics"] == [{"name": "rmse", "a": None, "b": 1, "delta": None}, {"name": "mae", "a": "null", "b": None, "delta": None}]
    assert {f["name"]: (f["a"], f["b"]) for f in got["fields"]} == {"a": (None, "null"), "b": ([1, 2], True), "c": ("1", 1), "d": (1, 1)}


def test_diff_with_a_draft_hashes_what_it_must(drive):
    drive.version({"same": "s", "changed": "aaaa", "metadata.json": "{}"})
    draft = drive.mint({"same": "s", "changed": "bbbb", "metadata.json": "{}"})
    got = call("diff", "v1", draft, "--json", cwd=drive.path(M)).json
    assert {f["path"]: f["change"] for f in got["files"]} == {"same": "same", "changed": "changed", "metadata.json": "same"}


# ---- status ----

def test_status_shows_mounts_totals_and_why_drafts_are_open(drive):
    drive.version({"a": b"x" * 5000, "b": b"x" * 5000, "metadata.json": "{}"})
    draft = drive.mint({"model.bin": "x", "metadata.json": "5"})
    call("commit", draft)
    got = call("status", drive.dir, "--json").json
    assert got["store"] == str(drive.store)
    (mount,) = got["mounts"]
    assert (mount["mount"], mount["read_only"]) == (str(drive.dir), False) and at_work(mount["pid"])
    t = got["totals"]
    assert (t["models"], t["committed"], t["drafts"], t["files"], t["blobs"]) == (1, 1, 1, 3, 2)
    assert (t["logical_bytes"], t["stored_bytes"]) == (10002, 5002) and abs(t["dedup_ratio"] - 10002 / 5002) < 1e-9
    (d,) = got["open_drafts"]
    assert (d["model"], d["version"], d["file_count"]) == (M, "v2", 2) and "metadata.json" in d["reason"]
    words = call("status", drive.store).out
    assert str(drive.dir) in words and f"{M}/v2" in words and "metadata.json" in words
    assert drive.umount().code == 0
    got = call("status", "--store", drive.store, "--json").json
    assert got["mounts"] == [] and len(got["open_drafts"]) == 1


def test_status_shows_a_read_only_mount_too(drive, place):
    (place / "ro").mkdir()
    Drive(drive.store, place / "ro").mount("-o", "ro")
    try:
        got = call("status", drive.store, "--json").json
        assert {(m["mount"], m["read_only"]) for m in got["mounts"]} == {(str(drive.dir), False), (str(place / "ro"), True)}
        draft = drive.mint({"model.bin": "x"})
        assert call("commit", place / "ro" / M / draft.name).code == 0  # acts where the draft is served
    finally:
        assert call("umount", place / "ro").code == 0


# ---- alias ----

@pytest.mark.parametrize("mounted", [True, False])
def test_alias_sets_moves_drops_and_remembers(drive, mounted):
    drive.version()
    drive.version({"model.bin": "2"})
    if not mounted:
        assert drive.umount().code == 0
    where = [drive.path(M)] if mounted else [M, "--store", drive.store]
    assert call("alias", *where).out == f"{M} has no aliases\n"
    assert call("alias", *where, "production", "v1").out == "production -> v1\n"
    assert call("alias", *where, "production", "latest", "--json").json == {"model": M, "name": "production", "version": "v2"}
    assert call("alias", *where, "stable", "production").out == "stable -> v2\n"
    assert [(a["name"], a["version"]) for a in call("alias", *where, "--json").json] == [("production", "v2"), ("stable", "v2")]
    assert call("alias", *where, "production", "--json").json["version"] == "v2"
    if mounted:
        assert os.readlink(drive.path(M, "production")) == "v2"
    assert call("alias", "-d", *where, "production").out == "production dropped\n"
    history = call("alias", "--history", *where, "production", "--json").json
    assert [(e["from"], e["to"]) for e in history] == [(None, "v1"), ("v1", "v2"), ("v2", None)]
    assert [e["name"] for e in call("alias", "--history", *where, "--json").json] == ["production", "production", "stable", "production"]


def test_alias_refuses_drafts_and_reserved_names(drive):
    drive.version()
    drive.mint({"model.bin": "x"})
    one_sentence(call("alias", drive.path(M), "production", "v2"), 1, "draft")
    one_sentence(call("alias", drive.path(M), "latest", "v1"), 1, "latest")
    one_sentence(call("alias", drive.path(M), "v7", "v1"), 1, "v7")
    one_sentence(call("alias", drive.path(M), "production", "v9"), 3, "v9")


# ---- path ----

def test_path_resolves_links_and_needs_a_drive_unless_relative(drive):
    drive.version()
    call("alias", drive.path(M), "production", "v1")
    for name in ("production", "latest", "v1"):
        assert call("path", f"{M}/{name}", "--store", drive.store).out == f"{drive.path(M)}/v1\n"
    assert call("path", "product_P001_all_mlstm/v1/model.bin", "--store", drive.store).out == f"{drive.path(M)}/v1/model.bin\n"
    assert call("path", M, cwd=drive.dir).out == f"{drive.path(M)}\n"
    assert call("path", M, cwd=drive.path(M, "v1")).out == f"{drive.path(M)}\n"  # counted from the root of the drive
    assert call("path", ".", cwd=drive.path(M, "v1"), ).out == f"{drive.path(M)}/v1\n"
    assert call("path", f"{M}/latest", "--store", drive.store, "--relative", "--json").json == {"model": M, "version": "v1", "path": f"{M}/v1"}
    assert drive.umount().code == 0
    one_sentence(call("path", M, "--store", drive.store), 1, "not mounted")
    assert call("path", f"{M}/latest", "--store", drive.store, "--relative").out == f"{M}/v1\n"


def test_a_file_that_is_not_there_has_no_path_on_the_drive_nor_from_its_root(drive):
    drive.version({"model.bin": "weights", "sub/a.txt": "a"})
    draft = drive.mint({"model.bin": "draft"})
    for how in ([], ["--relative"], ["--resolve"], ["--relative", "--json"]):
        for name in (f"{M}/v1/nofile", f"{M}/latest/sub/nofile", f"{draft.name}/nofile", f"{M}/v1/model.bin/nofile"):
            name = name if name.startswith(M) else f"{M}/{name}"
            one_sentence(call("path", name, "--store", drive.store, *how), 3, "nofile")
    for name in ("v1/model.bin", "v1/sub/a.txt", "v1/sub", f"{draft.name}/model.bin"):
        assert call("path", f"{M}/{name}", "--store", drive.store, "--relative").out == f"{M}/{name}\n"
    assert call("retire", drive.path(M, "v1"), "--force").code == 0
    for how in ([], ["--relative"]):
        one_sentence(call("path", f"{M}/v1", "--store", drive.store, *how), 3, f"{M}/v1")
    drive.umount()
    one_sentence(call("path", f"{M}/{draft.name}/nofile", "--store", drive.store, "--relative"), 3, "nofile")


def test_a_path_through_any_link_is_traced_back_to_its_version_and_file(drive):
    drive.version({"model.bin": "weights", "data/a.csv": "1,2"})
    (drive.path(M) / "production").symlink_to("v1")
    drive.version({"model.bin": "other"})
    digest = os.getxattr(drive.path(M, "v1"), "user.mintfs.digest").decode()
    sha = hashlib.sha256(b"weights").hexdigest()
    told = {"model": M, "version": "v1", "state": "committed", "path": f"{M}/v1/model.bin", "digest": digest, "sha256": sha}
    for name in ("production", "v1"):
        path = drive.path(M, name, "model.bin")
        assert call("path", "--resolve", path).out == f"{M}/v1/model.bin\n"
        assert call("path", "--resolve", path, "--json").json == told
        assert os.getxattr(path, "user.mintfs.version") == b"v1"
    assert call("path", "--resolve", drive.path(M, "latest/model.bin")).out == f"{M}/v2/model.bin\n"
    assert call("path", "--resolve", drive.path(M, "production/data/a.csv")).out == f"{M}/v1/data/a.csv\n"
    whole = call("path", "--resolve", drive.path(M, "production"), "--json").json
    assert (whole["path"], whole["digest"], whole["sha256"]) == (f"{M}/v1", digest, None)
    one_sentence(call("path", "--resolve", f"{M}/v1/nothing", "--store", drive.store), 3, "nothing")
    one_sentence(call("path", "--resolve", f"{M}/v1/model.bin/x", "--store", drive.store), 3, "model.bin/x")
    assert call("path", "--resolve", M, "--store", drive.store).code == 2
    assert call("path", "--resolve", "--relative", f"{M}/v1", "--store", drive.store).code == 2
    draft = drive.mint({"model.bin": "new"})
    assert call("path", "--resolve", draft / "model.bin", "--json").json == {"model": M, "version": "v3", "state": "draft", "path": f"{M}/v3/model.bin", "digest": None, "sha256": None}
    assert call("path", "--resolve", draft / "other").code == 3
    if os.geteuid() == 0:
        assert call("path", "--resolve", drive.path(M, "production/model.bin"), "--json", user=NOBODY).json == told
        assert call("path", "--resolve", drive.path(M, "production/none"), user=NOBODY).code == 3
    assert drive.umount().code == 0
    assert call("path", "--resolve", f"{M}/production/model.bin", "--store", drive.store, "--json").json == told


# ---- other people's drives ----

@pytest.fixture
def shared(drive):
    """A drive of root's store, open to all, with a model of nobody's."""
    subprocess.run(["mkdir", "-p", str(drive.path(M))], user=NOBODY, group=NOBODY, extra_groups=[], check=True)
    return drive


def write_as_nobody(path, text):
    subprocess.run(["sh", "-c", 'printf %s "$2" > "$1"', "sh", str(path), text], user=NOBODY, group=NOBODY, extra_groups=[], check=True)


@as_root
def test_an_ordinary_user_works_through_the_drive_alone(shared):
    model = shared.path(M)
    for number, rmse in ((1, 2.5), (2, 1.5)):
        subprocess.run(["mkdir", str(model / "next")], user=NOBODY, group=NOBODY, extra_groups=[], check=True)
        write_as_nobody(model / f"v{number}/model.bin", str(number))
        write_as_nobody(model / f"v{number}/metadata.json", json.dumps({"metrics": {"rmse": rmse}}))
    one = call("commit", model / "v1", "-m", "mine", "--json", user=NOBODY)
    assert one.code == 0 and one.json["message"] == "mine" and one.json["state"] == "committed", one.err
    assert call("commit", model, user=NOBODY).code == 0  # v2 is the only open draft
    assert call("alias", model, "production", "v1", user=NOBODY).code == 0
    assert call("alias", model, "production", "latest", user=NOBODY).out == "production -> v2\n"
    assert os.readlink(model / "production") == "v2"
    got = call("log", model, "--json", user=NOBODY).json
    assert [(v["version"], v["metrics"]["rmse"], v["author"], v["links"]) for v in got] == [
        ("v2", 1.5, "nobody", ["latest", "best", "production"]), ("v1", 2.5, "nobody", [])]
    assert [r["newest"] for r in call("list", "--json", cwd=shared.dir, user=NOBODY).json] == ["v2"]
    shown = call("show", model / "best", "--json", user=NOBODY).json
    assert {f["path"]: f["sha256"] for f in shown["files"]}["model.bin"] == hashlib.sha256(b"2").hexdigest()
    assert call("diff", model / "v1", "v2", "--json", user=NOBODY).json["metrics"][0]["delta"] == -1
    assert call("path", M, "--store", shared.store, user=NOBODY).out == f"{model}\n"
    assert call("alias", "-d", model, "production", user=NOBODY).code == 0
    one_sentence(call("status", shared.dir, user=NOBODY), 1, "owner and root")
    one_sentence(call("alias", "--history", model, user=NOBODY), 1, "owner and root")
    one_sentence(call("discard", model / "v2", user=NOBODY), 1, "committed")


@as_root
def test_an_ordinary_user_may_not_commit_or_alias_what_is_roots(shared):
    drafts = shared.mint({"model.bin": "x"}, model="product/P009_all/mlstm")
    one_sentence(call("commit", drafts, user=NOBODY), 1, "may not")
    one_sentence(call("discard", drafts, user=NOBODY), 1, "may not")
    assert drafts.exists() and call("show", drafts, "--json").json["state"] == "draft"


# ---- output ----

def test_chinese_names_stay_aligned(drive):
    drive.version(model="product/药品_all/mlstm")
    drive.version(model="product/P1_all/mlstm")
    header, *rows = call("list", drive.dir, env={"LC_ALL": "C"}).out.splitlines()
    width = lambda text: sum(2 if ord(c) > 0x1100 else 1 for c in text)
    assert len({width(row[:row.rindex(" B" if " B" in row else "iB")]) for row in rows}) == 1
    assert len(rows) == 2 and "药品" in rows[1]


def test_control_characters_of_names_and_messages_never_reach_the_terminal(drive):
    draft = drive.mint({"model.bin": "x", "bad\x1b[31m\n\x9bname\u202e": "y"})
    call("commit", draft, "-m", "mess\x1b]0;title\x07age\rover")
    for command in ("show", "log"):
        out = call(command, draft if command == "show" else draft.parent).out
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out), repr(out)
    assert "mess?]0;title?age" in call("show", draft).out
    assert call("show", draft, "--json").json["message"] == "mess\x1b]0;title\x07age\rover"


def on_terminal(*args, columns=200, **env):
    """What mintfs writes to a terminal."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.pop("NO_COLOR", None)
        os.environ.update({"TERM": "xterm", **env})
        os.execvp("sh", ["sh", "-c", f'stty cols {columns}; exec "$@"', "sh", BIN, *map(str, args)])
    out = b""
    try:
        while chunk := os.read(fd, 65536):
            out += chunk
    except OSError:
        pass
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, out
    return out


def test_colour_only_on_a_terminal_that_wants_it(drive):
    drive.version()
    assert b"\x1b[" in on_terminal("log", drive.path(M))
    assert b"\x1b[" not in on_terminal("log", drive.path(M), NO_COLOR="1")
    assert b"\x1b[" not in on_terminal("log", drive.path(M), TERM="dumb")
    assert b"\x1b[" not in on_terminal("log", "--color=never", drive.path(M))
    assert "\x1b[" not in call("log", drive.path(M)).out
    assert "\x1b[32mcommitted\x1b[0m" in call("log", "--color=always", drive.path(M)).out


def test_the_message_is_cut_where_the_terminal_ends_and_nowhere_else(drive):
    drive.version(message="药" * 100 + "end")
    lines = on_terminal("log", "--color=never", drive.path(M), columns=80).decode().splitlines()
    assert lines[1].endswith("药") and 78 <= sum(2 if ord(c) > 0x1100 else 1 for c in lines[1]) <= 80
    assert call("log", drive.path(M)).out.splitlines()[1].endswith("end")


def test_an_empty_column_is_left_out(drive):
    drive.version()
    assert "MESSAGE" not in call("log", drive.path(M)).out
    drive.version({"model.bin": "2"}, message="said")
    assert "MESSAGE" in call("log", drive.path(M)).out
