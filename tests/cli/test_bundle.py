"""Export and import: what a bundle holds, that it comes in whole or not at all, and that no bundle gets past the rules."""
import hashlib
import json
import os
import pathlib
import resource
import signal
import stat
import subprocess
import sys
import tarfile
import threading

import pytest

from bundles import Bundle, file_member
from cli_env import BIN, Drive, call, can_mount, one_sentence, wait_for

M = "product/P001_all/mlstm"
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")


def raw(*args, stdin=b"", **more):
    return subprocess.run([BIN, *map(str, args)], input=stdin, capture_output=True, timeout=120, cwd="/", **more)


def export(*args):
    done = raw("export", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def take_in(bundle, store, *options):
    done = raw("import", "-", "--store", store, *options, stdin=bundle)
    done.code, done.out, done.err = done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode(errors="surrogateescape")
    return done


def state_of(store):
    """All that a reader can see of a store, and the names it holds on disk."""
    models = call("list", "--json", "--store", store).json
    versions = {m["model"]: call("log", m["model"], "--all", "--json", "--store", store).json for m in models}
    return models, versions, sorted(os.listdir(store / "drafts")), (store / "incoming").exists()


def tree_of(store, version):
    """Of each entry what an import keeps."""
    done = call("show", version, "--json", "--store", store)
    assert done.code == 0, done.err
    return [(f["path"], f["type"], f["size"], f["sha256"], f.get("target")) for f in done.json["files"]]


@pytest.fixture
def full(drive):
    """A drive with two versions of one model, an alias, and every kind of entry; unmounted."""
    v1 = drive.mint({"model.bin": "weights", "sub/copy.bin": "weights", "sub/other.bin": "others", "empty": "",
                     "metadata.json": json.dumps({"metrics": {"rmse": 1.5, "mae": 2}})})
    os.symlink("model.bin", v1 / "link")
    os.link(v1 / "model.bin", v1 / "hard.bin")
    os.mkdir(v1 / "sub" / "nothing")
    (v1 / "sub" / "run.sh").write_text("#!/bin/sh\n")
    os.chmod(v1 / "sub" / "run.sh", 0o755)
    assert call("commit", v1, "-m", "the first: with «holidays»").code == 0
    drive.version({"model.bin": "weights of two", "again.bin": "weights"}, metrics={"rmse": 1.2})
    os.symlink("v1", drive.path(M, "production"))
    done = drive.umount()
    assert done.code == 0, done.err
    return drive


@pytest.fixture
def other(place):
    path = place / "other"
    assert call("init", path).code == 0
    return path


# ---- what a bundle is ----

def test_a_bundle_is_a_tar_archive_with_the_versions_as_people_know_them(full, place):
    (place / "b.tar").write_bytes(export(M, "--store", full.store))
    (place / "out").mkdir()
    subprocess.run(["tar", "-xf", place / "b.tar", "-C", place / "out"], check=True)
    base = place / "out/saved_models" / M
    assert (base / "v1/model.bin").read_text() == "weights" and (base / "v1/sub/other.bin").read_text() == "others"
    assert os.readlink(base / "v1/link") == "model.bin" and os.readlink(base / "production") == "v1"
    assert (base / "v1/sub/nothing").is_dir() and os.access(base / "v1/sub/run.sh", os.X_OK)
    assert (base / "v2/again.bin").read_text() == "weights"
    assert os.stat(base / "v1/model.bin").st_ino == os.stat(base / "v1/hard.bin").st_ino
    assert "mintfs import" in (place / "out/README").read_text()


def test_a_content_is_in_the_archive_once(full):
    bundle = Bundle(export(M, "--store", full.store))
    bodies = [data for info, data in bundle.members if info.isreg()]
    assert bodies.count(b"weights") == 1
    assert [i.linkname for i, _ in bundle.members if i.islnk() and i.name.endswith("v2/again.bin")] == [f"saved_models/{M}/v1/hard.bin"]


def test_the_manifest_tells_hashes_records_and_aliases(full):
    bundle = Bundle(export(M, "--store", full.store))
    (model,) = bundle.manifest["models"]
    assert bundle.manifest["format"] == "mintfs-bundle" and bundle.manifest["format_version"] == 1
    assert model["model"] == M and model["last_number"] == 2 and model["best"] == {"metric": "rmse", "mode": "min", "named": False}
    assert [(a["alias"], a["number"]) for a in model["aliases"]] == [("production", 1)]
    first = bundle.version(1)
    assert first["message"] == "the first: with «holidays»" and first["metrics"] == {"rmse": 1.5, "mae": 2}
    assert first["run"]["command"] and first["created_at"] == call("show", f"{M}/v1", "--json", "--store", full.store).json["created"]
    assert bundle.entry("sub/other.bin")["sha256"] == hashlib.sha256(b"others").hexdigest()
    assert bundle.entry("sub/run.sh")["mode"] == "0555" and bundle.entry("link")["target"] == "model.bin"


def test_a_bundle_can_be_checked_without_mintfs(full, place):
    (place / "b.tar").write_bytes(export(M, "--store", full.store))
    (place / "out").mkdir()
    with tarfile.open(place / "b.tar") as tar:
        tar.extractall(place / "out")
    readme = (place / "out/README").read_text()
    program = readme[readme.index("python3 -c '") + len("python3 -c '"):readme.rindex("'")]
    done = subprocess.run([sys.executable, "-c", program], cwd=place / "out", capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("ok ") == 10 and "BAD" not in done.stdout, done.stdout + done.stderr
    subprocess.run(["sha256sum", "-c", "--quiet", "manifest.json.sha256"], cwd=place / "out", check=True)


def test_of_a_version_only_that_version_and_its_aliases_go_out(full, other):
    assert take_in(export(f"{M}/best", "--store", full.store), other).code == 0
    assert [v["version"] for v in call("log", M, "--json", "--store", other).json] == ["v2"]
    assert call("alias", M, "--json", "--store", other).json == []


def test_models_and_versions_named_twice_go_out_once(full, drive, other):
    names = Bundle(export(f"{M}/v2", M, f"{M}/v1", "--store", full.store)).names()
    assert len(names) == len(set(names)) and Bundle(export("--all", "--store", full.store)).names() == names


def test_a_damaged_content_is_found_by_the_export_and_leaves_no_whole_bundle(full, other, place):
    blob = next(p for p in (full.store / "blobs").rglob("*") if p.is_file() and p.read_bytes() == b"others")
    subprocess.run(["chattr", "-i", blob], stderr=subprocess.DEVNULL)
    os.chmod(blob, 0o644)
    blob.write_bytes(b"OTHERS")
    (place / "out").mkdir()
    one_sentence(call("export", M, "--store", full.store, "-o", place / "out/b.tar"), 1, "sub/other.bin", "damaged")
    assert os.listdir(place / "out") == []
    torn = raw("export", M, "--store", full.store)
    assert torn.returncode == 1 and take_in(torn.stdout, other).code == 1


def test_export_tells_what_it_wrote(full, place):
    done = call("export", M, "--store", full.store, "-o", place / "b.tar", "--json")
    assert done.code == 0 and done.json["versions"] == 2 and done.json["size"] == (place / "b.tar").stat().st_size
    assert "2 versions" in call("export", M, "--store", full.store, "-o", place / "b.tar").out


def test_an_export_that_is_ended_in_its_midst_leaves_nothing_beside(drive, place):
    drive.version({"model.bin": "0123456789abcdef" * (1 << 18)})
    done = drive.umount()
    assert done.code == 0, done.err
    (place / "out").mkdir()
    (place / "out/b.tar").write_bytes(b"the last one")
    limits = {resource.RLIMIT_FSIZE: 1 << 20, resource.RLIMIT_CORE: 0}  # the kernel ends who writes beyond
    ended = raw("export", M, "--store", drive.store, "-o", place / "out/b.tar", preexec_fn=lambda: [resource.setrlimit(w, (n, n)) for w, n in limits.items()])
    assert ended.returncode == -signal.SIGXFSZ, ended.stderr
    assert os.listdir(place / "out") == ["b.tar"] and (place / "out/b.tar").read_bytes() == b"the last one"
    assert call("export", M, "--store", drive.store, "-o", place / "out/b.tar").code == 0
    assert os.listdir(place / "out") == ["b.tar"] and Bundle((place / "out/b.tar").read_bytes()).version(1)


def test_a_pipe_or_a_device_takes_the_bundle_and_stays_what_it_is(full, place):
    os.mkfifo(place / "pipe")
    with subprocess.Popen(["cat", place / "pipe"], stdout=subprocess.PIPE) as reader:
        assert call("export", M, "--store", full.store, "-o", place / "pipe").code == 0
        if not stat.S_ISFIFO(os.lstat(place / "pipe").st_mode):
            reader.kill()
        assert Bundle(reader.stdout.read()).names() == Bundle(export(M, "--store", full.store)).names()
    if os.geteuid() == 0:
        os.mknod(place / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        assert call("export", M, "--store", full.store, "-o", place / "null").code == 0
        assert stat.S_ISCHR(os.lstat(place / "null").st_mode)
    one_sentence(call("export", M, "--store", full.store, "-o", place), 1, place, "directory")


def test_wrong_usage_of_export(full):
    assert call("export", "--store", full.store).code == 2
    assert call("export", "--all", M, "--store", full.store).code == 2
    one_sentence(call("export", f"{M}/v9", "--store", full.store), 3, "v9")
    one_sentence(call("export", f"{M}/v1/model.bin", "--store", full.store), 1, "whole versions")


def test_a_draft_is_not_exported(drive):
    draft = drive.mint({"model.bin": "x"})
    one_sentence(call("export", draft), 1, "v1", "draft")


# ---- in ----

def test_what_is_imported_is_what_was_exported(full, other):
    done = take_in(export(M, "--store", full.store), other)
    assert done.code == 0, done.err
    for v in ("v1", "v2"):
        assert tree_of(other, f"{M}/{v}") == tree_of(full.store, f"{M}/{v}")
        a, b = (call("show", f"{M}/{v}", "--json", "--store", s).json for s in (full.store, other))
        for key in ("created", "minted", "author", "message", "metrics", "size", "file_count", "state"):
            assert a[key] == b[key], key
        assert {k: a["run"][k] for k in ("command", "user", "host", "started")} == {k: b["run"][k] for k in ("command", "user", "host", "started")}
    assert call("alias", M, "--json", "--store", other).json[0]["version"] == "v1"
    assert call("show", M, "--json", "--store", other).json["best"] == "v2"
    again = Bundle(export(M, "--store", other))
    before = Bundle(export(M, "--store", full.store))
    assert again.names() == before.names() and again.manifest["models"][0]["versions"] == before.manifest["models"][0]["versions"]


def test_an_imported_version_is_found_by_what_it_tells_of_itself_and_has_the_same_digest(drive, other):
    v1 = drive.version({"model.bin": "x", "metadata.json": json.dumps({"labels": {"season": "winter"}, "metrics": {"rmse": 3}, "description": "d"})})
    drive.version({"model.bin": "y"})  # with a metadata.json of MintFS
    digests = [os.getxattr(drive.path(M, v), "user.mintfs.digest") for v in ("v1", "v2")]
    assert v1.name == "v1" and drive.umount().code == 0
    assert take_in(export(M, "--store", drive.store), other).code == 0
    found = call("find", "labels.season = winter", "--json", "--store", other)
    assert [v["version"] for v in found.json] == ["v1"], found.err
    assert [v["version"] for v in call("find", "metrics.rmse < 4", "--json", "--store", other).json] == ["v1"]
    for digest, v in zip(digests, ("v1", "v2")):
        assert [x["version"] for x in call("find", f"digest = {digest.decode()}", "--json", "--store", other).json] == [v]


def test_an_imported_version_is_read_on_the_drive_like_any_other(full, other, place):
    assert take_in(export(M, "--store", full.store), other).code == 0
    drive = Drive(other, place / "mnt").mount()
    v1 = drive.path(M, "v1")
    assert (v1 / "model.bin").read_text() == "weights" and os.readlink(v1 / "link") == "model.bin"
    assert os.stat(v1 / "model.bin").st_nlink == 2 and os.stat(v1 / "sub").st_nlink == 3
    assert json.loads(drive.path("versions.json").read_text()) == {"product_P001_all_mlstm": 2}
    with pytest.raises(OSError):
        (v1 / "model.bin").write_text("x")
    done = drive.umount()
    assert done.code == 0, done.err


def test_an_import_can_be_repeated_and_changes_nothing(full, other):
    bundle = export(M, "--store", full.store)
    assert take_in(bundle, other).code == 0
    before = state_of(other)
    done = take_in(bundle, other)
    assert done.code == 0 and done.out.count("is here already") == 2
    assert state_of(other) == before
    assert [i["already"] for i in json.loads(take_in(bundle, other, "--json").out)] == [True] * 3


def test_a_number_taken_by_something_else_is_refused_and_renumber_gives_the_next(full, other, place):
    bundle = export(M, "--store", full.store)
    drive = Drive(other, place / "mnt").mount()
    drive.version({"model.bin": "something else"})
    drive.umount()
    before = state_of(other)
    one_sentence(take_in(bundle, other), 1, "v1", M, "another version", "--renumber")
    assert state_of(other) == before
    done = take_in(bundle, other, "--renumber")
    assert done.code == 0 and f"{M}/v2 imported, was v1" in done.out and f"{M}/v3 imported, was v2" in done.out
    assert call("alias", M, "--json", "--store", other).json[0]["version"] == "v2"
    assert tree_of(other, f"{M}/v2") == tree_of(full.store, f"{M}/v1")


@pytest.mark.parametrize("end", ["discard", "draft"])
def test_the_number_of_a_draft_or_a_discarded_version_is_taken(full, other, place, end):
    drive = Drive(other, place / "mnt").mount()
    draft = drive.mint({"model.bin": "x"})
    if end == "discard":
        assert call("discard", draft).code == 0
    one_sentence(take_in(export(f"{M}/v1", "--store", full.store), other), 1, "v1", "taken", end)
    drive.umount()


def test_a_number_below_the_highest_that_was_never_used_is_free(full, other):
    assert take_in(export(f"{M}/v2", "--store", full.store), other).code == 0
    assert take_in(export(f"{M}/v1", "--store", full.store), other).code == 0
    assert [v["version"] for v in call("log", M, "--json", "--store", other).json] == ["v2", "v1"]


def test_numbers_used_at_the_origin_are_not_used_again(drive, other, place):
    drive.version()
    assert call("discard", drive.mint({"model.bin": "x"})).code == 0
    drive.umount()
    assert take_in(export(M, "--store", drive.store), other).code == 0
    there = Drive(other, place / "mnt").mount()
    assert there.mint().name == "v3"
    there.umount()


def test_an_alias_that_leads_elsewhere_here_stays(full, other, place):
    assert take_in(export(f"{M}/v2", "--store", full.store), other).code == 0
    assert call("alias", M, "production", "v2", "--store", other).code == 0
    done = take_in(export(M, "--store", full.store), other)
    assert done.code == 0 and "production stays at v2" in done.out
    assert call("alias", M, "--json", "--store", other).json[0]["version"] == "v2"


def test_import_works_beside_a_mounted_drive(full, other, place):
    drive = Drive(other, place / "mnt").mount()
    draft = drive.mint({"model.bin": "mine"}, model="product/P002_all/mlstm")
    assert take_in(export(M, "--store", full.store), other).code == 0
    assert (drive.path(M, "v1/model.bin")).read_text() == "weights"
    assert call("commit", draft).code == 0
    drive.umount()


def test_gc_frees_what_a_killed_import_brought_and_leaves_what_a_living_one_brings(full, other, place):
    """Nobody mounts a drive anew to get that space back."""
    bundle = export(M, "--store", full.store)
    beginning = bundle[:bundle.index(b"weights of two") + 512]
    with subprocess.Popen([BIN, "import", "-", "--store", other], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as stalled:
        stalled.stdin.write(beginning)
        stalled.stdin.flush()
        last = hashlib.sha256(b"weights of two").hexdigest()  # named as soon as it is whole: until then a file is called "new"
        assert wait_for(lambda: list((other / "incoming").glob(f"*/{last}")))
        brought = set((other / "incoming").glob("*/*"))
        assert len(brought) >= 3 and call("gc", other, "--grace", "0").code == 0
        assert set((other / "incoming").glob("*/*")) == brought
        stalled.kill()
        stalled.wait()
    assert call("gc", other, "--grace", "0", "--dry-run").code == 0 and (other / "incoming").exists()
    assert call("gc", other, "--grace", "0").code == 0
    assert not (other / "incoming").exists() and not [p for p in (other / "blobs").rglob("*") if p.is_file()]
    assert take_in(bundle, other).code == 0 and call("fsck", other, "--verify").code == 0


def test_two_imports_of_one_bundle_at_once_end_as_one(full, other):
    bundle, results = export(M, "--store", full.store), []
    threads = [threading.Thread(target=lambda: results.append(take_in(bundle, other))) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert [r.code for r in results] == [0] * 4, [r.err for r in results]
    assert len(call("log", M, "--json", "--store", other).json) == 2 and state_of(other)[2:] == ([], False)


@as_root
def test_owners_and_modes_are_kept_for_root_and_are_the_callers_else(drive, place, other):
    v1 = drive.mint({"model.bin": "x"})
    os.chown(v1 / "model.bin", 4711, 4712)
    os.chmod(v1 / "model.bin", 0o640)
    os.chown(v1, 4711, 4712)
    assert call("commit", v1).code == 0
    drive.umount()
    bundle = export(M, "--store", drive.store)
    assert take_in(bundle, other).code == 0
    theirs = Drive(other, place / "mnt").mount()
    st = os.stat(theirs.path(M, "v1/model.bin"))
    assert (st.st_uid, st.st_gid, st.st_mode & 0o777) == (4711, 4712, 0o440) and os.stat(theirs.path(M, "v1")).st_uid == 4711
    theirs.umount()
    mine = place / "mine"
    mine.mkdir()
    os.chown(mine, NOBODY, NOBODY)
    assert call("init", mine / "s", user=NOBODY).code == 0
    done = raw("import", "--store", mine / "s", stdin=bundle, user=NOBODY, group=NOBODY, extra_groups=[])
    assert done.returncode == 0, done.stderr
    entries = Bundle(raw("export", M, "--store", mine / "s", user=NOBODY, group=NOBODY, extra_groups=[]).stdout).version(1)["entries"]
    assert {(e["uid"], e["gid"]) for e in entries} == {(NOBODY, NOBODY)}


def test_long_and_odd_names_survive(drive, other):
    deep = "/".join(["d" * 200] * 6)
    draft = drive.mint({"model.bin": "x", deep + "/end": "deep", "名前.txt": "unicode", "n" * 255: "long"})
    with open(os.fsencode(draft) + b"/raw\xff\xfe", "wb") as f:
        f.write(b"raw bytes")
    (draft / "new\nline").write_text("n")
    os.symlink(b"to\xff", os.fsencode(draft) + b"/rawlink")
    assert call("commit", draft).code == 0
    drive.umount()
    bundle = export(M, "--store", drive.store)
    names = subprocess.run(["tar", "-tf", "-"], input=bundle, capture_output=True, check=True).stdout
    assert deep.encode() in names
    assert take_in(bundle, other).code == 0
    assert Bundle(export(M, "--store", other)).names() == Bundle(bundle).names()


def test_a_bundle_that_gnu_tar_packed_anew_in_the_same_order_is_taken(full, other, place):
    (place / "b.tar").write_bytes(export(M, "--store", full.store))
    (place / "out").mkdir()
    subprocess.run(["tar", "-xpf", "b.tar", "-C", "out"], cwd=place, check=True)
    names = [n.rstrip("/") for n in subprocess.run(["tar", "-tf", place / "b.tar"], capture_output=True, text=True, check=True).stdout.splitlines()]
    for format in ("gnu", "pax", "ustar"):
        (place / "list").write_text("".join("./" + n + "\n" for n in names))
        packed = subprocess.run(["tar", "-c", "--format", format, "--no-recursion", "-T", place / "list"], cwd=place / "out", capture_output=True, check=True).stdout
        done = take_in(packed, other)
        assert done.code == 0, done.err


# ---- torn, truncated, lying ----

def refused(store, data, code, *words):
    before = state_of(store)
    done = take_in(data, store)
    one_sentence(done, code, *words)
    assert state_of(store) == before


def test_a_bundle_cut_anywhere_leaves_nothing(full, other):
    bundle = export(M, "--store", full.store)
    whole = len(bundle) - 1024
    for cut in [0, 1, 511, 512, 600, 1024, 3000] + list(range(4096, whole, 1536)) + [whole, whole + 511, whole + 512, whole + 1023]:
        done = take_in(bundle[:cut], other)
        assert done.code == 1 and done.err.count("\n") == 1, (cut, done.err)
    assert call("list", "--json", "--store", other).json == [] and state_of(other)[2:] == ([], False)
    assert take_in(bundle, other).code == 0


def test_a_flipped_bit_anywhere_is_found(full, other):
    bundle = export(f"{M}/v2", "--store", full.store)
    b = Bundle(bundle)
    ignored = set()  # where a change means nothing: paddings, and fields of headers that the manifest decides
    place = 0
    for info, data in b.members:
        end = info.offset_data
        ignored.update(range(place, end))
        place = end + len(data or b"")
    ignored.update(range(place, len(bundle)))
    readme = b.members[0][0]
    ignored.update(range(readme.offset_data, readme.offset_data + readme.size))
    (sum_info,) = [info for info, _ in b.members if info.name.endswith(".sha256")]
    ignored.update(range(sum_info.offset_data + 64, sum_info.offset_data + sum_info.size))  # the name behind the sum
    checked = 0
    for at in range(0, len(bundle), 7):
        if at in ignored:
            continue
        bad = bytearray(bundle)
        bad[at] ^= 0x10
        done = take_in(bytes(bad), other)
        info = next(i for i, d in b.members if i.offset_data <= at < i.offset_data + max(1, len(d or b"")))
        checked += 1
        assert done.code == 1, (at, info.name, done.out)
    assert checked > 100 and call("list", "--json", "--store", other).json == []


@pytest.mark.parametrize("what", ["content", "size", "missing", "extra", "order", "kind", "link", "alias"])
def test_what_is_not_as_the_manifest_tells_is_refused(full, other, what):
    b = Bundle(export(M, "--store", full.store))
    i = b.at("v1/sub/other.bin")
    if what == "content":
        b.members[i] = (b.members[i][0], b"OTHERS")
    elif what == "size":
        b.members[i] = (b.members[i][0], b"others and more")
    elif what == "missing":
        del b.members[i]
    elif what == "extra":
        b.members.append(file_member(f"saved_models/{M}/v2/more", b"more"))
    elif what == "order":
        b.members[i], b.members[i + 1] = b.members[i + 1], b.members[i]
    elif what == "kind":
        b.members[i] = file_member(b.members[i][0].name, type=tarfile.SYMTYPE, linkname="/etc/passwd")
    elif what == "link":
        b.members[b.at("v2/again.bin")][0].linkname = b.members[i][0].name
    elif what == "alias":
        b.members[b.at("/production")][0].linkname = "v2"
    refused(other, b.pack(), 1, "manifest tells")


@pytest.mark.parametrize("type, word", [(tarfile.CHRTYPE, "device"), (tarfile.BLKTYPE, "device"), (tarfile.FIFOTYPE, "FIFO"), (b"S", "sparse"), (b"Z", "no file")])
def test_devices_and_the_like_are_refused_by_name(full, other, type, word):
    b = Bundle(export(M, "--store", full.store))
    i = b.at("v1/sub/other.bin")
    b.members[i] = file_member(b.members[i][0].name, type=type)
    refused(other, b.pack(), 1, "other.bin", word)


@pytest.mark.parametrize("path, words", [
    ("../escape", "through"), ("sub/../../escape", "through"), ("/etc/passwd", "absolute"), ("", "empty"), ("a//b", "empty"), (".", "through"),
    ("x" * 256, "255"), ("nodir/file", "out of order"), ("a" * 100 + "/" + "b" * 5000, "longer"),
])
def test_a_path_that_leads_out_of_its_version_or_nowhere_is_refused(full, other, path, words):
    b = Bundle(export(f"{M}/v2", "--store", full.store))
    b.version(2)["entries"][0]["path"] = path
    refused(other, b.pack(), 1, words)
    hostile = [n for n in ("escape", "../escape") if os.path.exists(other / n)]
    assert hostile == []


def test_a_name_told_twice_or_out_of_order_is_refused(full, other):
    b = Bundle(export(f"{M}/v2", "--store", full.store))
    entries = b.version(2)["entries"]
    entries.insert(1, dict(entries[0]))
    refused(other, b.pack(), 1, "twice")
    b = Bundle(export(M, "--store", full.store))
    b.manifest["models"][0]["versions"].reverse()
    refused(other, b.pack(), 1, "out of order")
    b.manifest["models"] *= 2
    refused(other, b.pack(), 1)


@pytest.mark.parametrize("edit, words", [
    (lambda b: b["models"][0].update(model="../../etc"), ["no model"]),
    (lambda b: b["models"][0].update(model="product/P001_all"), ["no model"]),
    (lambda b: b["models"][0].update(model="product/P001_all/mlstm/v1"), ["no model"]),
    (lambda b: b["models"][0].update(model="nosuchmode/a/b"), ["no model"]),
    (lambda b: b["models"][0].update(model=5), ["model"]),
    (lambda b: b["models"][0]["versions"][0].update(number=0), ["number"]),
    (lambda b: b["models"][0]["versions"][0].update(number=-1), ["number"]),
    (lambda b: b["models"][0]["versions"][0].update(number=10**10), ["number"]),
    (lambda b: b["models"][0]["versions"][0].update(number=1.5), ["number"]),
    (lambda b: b["models"][0]["versions"][0].update(committed_ns=-5), ["1970"]),
    (lambda b: b["models"][0]["versions"][0].update(metrics="bad"), ["metrics"]),
    (lambda b: b["models"][0]["versions"][0].update(mode="99"), ["mode"]),
    (lambda b: b["models"][0]["aliases"][0].update(alias="latest"), ["alias"]),
    (lambda b: b["models"][0]["aliases"][0].update(alias="v5"), ["alias"]),
    (lambda b: b["models"][0]["aliases"][0].update(alias="a/b"), ["alias"]),
    (lambda b: b["models"][0]["aliases"][0].update(number=7), ["alias", "v7"]),
    (lambda b: b["models"][0]["versions"][0]["entries"][0].update(size=2**62), []),
    (lambda b: b["models"][0]["versions"][0]["entries"][0].update(size=-1), ["size"]),
    (lambda b: b["models"][0]["versions"][0]["entries"][0].update(sha256="beef"), ["SHA-256"]),
    (lambda b: b["models"][0]["versions"][0]["entries"][0].update(type="device"), ["type"]),
    (lambda b: b["models"][0]["versions"][0]["entries"][0].update(same_as=99), ["same"]),
    (lambda b: b["models"][0]["versions"][0].update(entries=[]), []),
    (lambda b: b.update(format_version=99), ["newer", "upgrade"]),
    (lambda b: b.update(format="other"), ["not that of a bundle"]),
])
def test_a_manifest_that_breaks_a_rule_is_refused_with_a_sentence(full, other, edit, words):
    b = Bundle(export(M, "--store", full.store))
    edit(b.manifest)
    refused(other, b.pack(), 1, *words)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"{}", b'{"format": "mintfs-bundle", "format_version": 1}', b"\xff\xfe", b"[" * 100000,
                                  b'{"format":"mintfs-bundle","format_version":1,"models":[1]}', b'{"format":"mintfs-bundle","format_version":1,"models":{}}'])
def test_a_manifest_that_is_none_is_refused(full, other, text):
    refused(other, Bundle(export(M, "--store", full.store)).pack(manifest_text=text), 1, "manifest.json")


def test_a_manifest_that_is_not_that_of_its_sum_is_refused(full, other):
    b = Bundle(export(M, "--store", full.store))
    refused(other, b.pack(sum_text=b"0" * 64 + b"  manifest.json\n"), 1, "damaged")
    refused(other, b.pack(sum_text=b""), 1, "damaged")


def test_the_rules_of_a_commit_hold_for_a_bundle(full, other):
    b = Bundle(export(f"{M}/v2", "--store", full.store))
    bad = b"{ no json"
    e = b.entry("metadata.json", 2)
    e.update(size=len(bad), sha256=hashlib.sha256(bad).hexdigest())
    b.members[b.at("v2/metadata.json")] = file_member(f"saved_models/{M}/v2/metadata.json", bad)
    refused(other, b.pack(), 1, "metadata.json")


def test_other_files_are_no_bundles(other, place):
    refused(other, b"hello\n" * 1000, 1, "no tar archive")
    subprocess.run(["tar", "-cf", place / "t.tar", "-C", "/etc", "hostname"], check=True)
    refused(other, (place / "t.tar").read_bytes(), 1, "no bundle", "hostname")
    one_sentence(call("import", place, "--store", other), 1, "directory")
    one_sentence(call("import", place / "nosuch", "--store", other), 3, "nosuch")


def test_two_models_with_one_key_cannot_come_in(drive, other):
    drive.version(model="global/custom/A_B/C/sum/kan")
    drive.umount()
    bundle = export("--all", "--store", drive.store)
    b = Bundle(bundle)
    assert take_in(bundle, other).code == 0
    b.manifest["models"][0]["model"] = "global/custom/A/B_C/sum/kan"
    for info, _ in b.members:
        info.name = info.name.replace("A_B/C", "A/B_C")
    refused(other, b.pack(), 1, "key")


def test_millions_of_entries_take_no_memory_to_speak_of(full, other):
    """A bundle with a manifest of 200,000 entries and no contents: refused, with bounded memory."""
    b = Bundle(export(f"{M}/v2", "--store", full.store))
    sha = hashlib.sha256(b"").hexdigest()
    b.version(2)["entries"] = [{"path": "f%07d" % i, "type": "file", "size": 0, "sha256": sha, "mode": "0444", "uid": 0, "gid": 0, "mtime_ns": 0}
                               for i in range(200000)]
    data = b.pack()
    done = subprocess.run(["/usr/bin/python3", "-c", "import resource, subprocess, sys\n"
                           "r = subprocess.run(sys.argv[1:], stdin=sys.stdin)\n"
                           "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\nsys.exit(r.returncode)", BIN, "import", "--store", other],
                          input=data, capture_output=True)
    assert done.returncode == 1 and int(done.stdout.split()[-1]) < 400_000  # KiB, of which the mapped manifest and one version's entries are most
    assert state_of(other)[0] == []
