"""The commit: what is refused and why, what it writes down, and that a refusal changes nothing."""
import errno
import json
import mmap
import os
import re
import stat
import struct
import time
import zipfile
import zlib

import pytest

from drive import MODEL, attrs, commit, mintfs, read, reason, refused, run, sh, sha256, snapshot, state, wait_until, write


def refuses(draft, number, *words):
    """The commit is refused, says why, and leaves everything as it was."""
    before = snapshot(draft)
    with refused(number):
        commit(draft)
    for word in words:
        assert word in reason(draft), f"'{word}' is not said: {reason(draft)}"
    assert state(draft) == "draft"
    assert snapshot(draft) == before


# ---- how ----


def test_chmod_a_w_commits(drive, draft):
    write(draft / "model.pth", b"x")
    run("chmod", "a-w", draft)
    assert state(draft) == "committed" and [r["version"] for r in drive.rows()] == ["v1"]


def test_chmod_a_w_of_latest_commits_the_draft_of_the_run(model):
    sh("mkdir latest; echo x > latest/model.pth; chmod a-w latest; readlink latest", cwd=model)
    assert state(model / "v1") == "committed"


def test_chmod_R_a_w_goes_through_with_exit_0(draft):
    for name in ("model.pth", "a/b/c.txt", "a/loss.png.txt"):
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        write(draft / name, b"x")
    os.symlink("model.pth", draft / "link")
    r = run("chmod", "-R", "a-w", draft)
    assert r.stderr == "" and state(draft) == "committed"
    for here, dirs, files in os.walk(draft):
        for name in files + dirs:
            assert os.path.islink(os.path.join(here, name)) or not os.stat(os.path.join(here, name)).st_mode & 0o222


def test_a_second_chmod_changes_nothing_and_succeeds(drive):
    v = drive.committed()
    before = snapshot(v)
    run("chmod", "-R", "a-w", v)
    commit(v)
    assert snapshot(v) == before and len(drive.rows()) == 1


def test_mintfs_commit_keeps_its_message(drive, draft):
    write(draft / "model.pth", b"x")
    mintfs("commit", draft, "-m", "the one with 更多 data")
    assert attrs(draft)["message"] == "the one with 更多 data"
    assert state(draft) == "committed"


def test_a_chmod_that_leaves_write_bits_commits_nothing(draft):
    write(draft / "model.pth", b"x")
    for mode in (0o700, 0o775, 0o755, 0o711):
        os.chmod(draft, mode)
        assert state(draft) == "draft" and stat.S_IMODE(os.stat(draft).st_mode) == mode


def test_the_tree_is_the_same_after_the_commit_but_for_the_write_bits(draft):
    os.makedirs(draft / "a/b")
    for name, data in (("model.pth", b"w" * 70000), ("a/one", b""), ("a/b/two", b"2"), ("metadata.json", b"{}")):
        write(draft / name, data)
    os.link(draft / "a/b/two", draft / "hard")
    os.symlink("../model.pth", draft / "a/soft")
    os.chmod(draft / "a/one", 0o750)
    os.chown(draft / "a/b/two", 4001, 4002)
    os.utime(draft / "model.pth", ns=(10**18, 10**18 + 5))
    before = snapshot(draft)
    commit(draft)
    after = snapshot(draft)
    assert set(after) == set(before)
    for name, was in before.items():
        expected = list(was)
        if was[0] != stat.S_IFLNK:
            expected[1] &= ~0o222
        assert list(after[name]) == expected, name
    assert os.stat(draft / "hard").st_ino == os.stat(draft / "a/b/two").st_ino


# ---- refusals ----


def test_an_empty_draft_is_einval(draft):
    refuses(draft, errno.EINVAL, "v1")
    os.makedirs(draft / "only/directories")
    refuses(draft, errno.EINVAL)
    write(draft / "model.pth", b"x")
    commit(draft)


def test_a_file_open_for_writing_is_ebusy_and_named(draft):
    write(draft / "model.pth", b"x")
    with open(draft / "sub.log", "ab") as f:
        f.write(b"1")
        f.flush()
        refuses(draft, errno.EBUSY, "sub.log")
        f.write(b"2")
    commit(draft)
    assert read(draft / "sub.log") == b"12"


def test_a_file_open_for_reading_is_no_obstacle(draft):
    write(draft / "model.pth", b"x")
    with open(draft / "model.pth", "rb") as f:
        commit(draft)
        assert f.read() == b"x"


def test_a_mapping_that_can_write_is_ebusy_until_it_is_gone(draft):
    write(draft / "model.pth", b"x" * 8192)
    with open(draft / "model.pth", "r+b") as f:
        m = mmap.mmap(f.fileno(), 8192)
    refuses(draft, errno.EBUSY, "model.pth")
    m[:3] = b"abc"
    m.close()
    commit(draft)
    assert read(draft / "model.pth") == b"abc" + b"x" * 8189


def test_a_mapping_that_only_reads_is_no_obstacle(draft):
    write(draft / "model.pth", b"x" * 8192)
    with open(draft / "model.pth", "rb") as f:
        m = mmap.mmap(f.fileno(), 8192, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
    private = None
    with open(draft / "model.pth", "rb") as f:
        private = mmap.mmap(f.fileno(), 8192, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    private[:1] = b"z"
    commit(draft)
    assert m[:4] == b"xxxx" and read(draft / "model.pth") == b"x" * 8192
    private.close()
    m.close()


def test_a_file_without_a_name_open_for_writing_is_ebusy_in_words(draft):
    """Its bytes are not part of the version, but who writes is not done."""
    write(draft / "model.pth", b"x")
    with open(draft / "scratch", "wb") as f:
        f.write(b"secret")
        os.unlink(draft / "scratch")
        with refused(errno.EBUSY):
            commit(draft)
        assert re.search(r"\w[^:]* is open for writing", reason(draft)), reason(draft)
    commit(draft)
    assert sorted(os.listdir(draft)) == ["metadata.json", "model.pth"]


BAD_METADATA = {
    "a list": b"[1, 2]", "empty": b"", "a number": b"7", "cut off": b'{"metrics": {"rmse": 1', "two objects": b"{} {}", "a comment": b"{} // hm",
    "not UTF-8": b'{"a": "\xff\xfe"}', "nested 100,000 deep": b'{"a": ' + b"[" * 100000 + b"]" * 100000 + b"}", "metrics no object": b'{"metrics": [1]}',
    "best without a metric": b'{"metrics": {"a": 1}, "best": {"mode": "min"}}', "single quotes": b"{'a': 1}",
}


@pytest.mark.parametrize("what", BAD_METADATA)
def test_metadata_that_is_no_json_object_is_einval(draft, what):
    write(draft / "model.pth", b"x")
    write(draft / "metadata.json", BAD_METADATA[what])
    refuses(draft, errno.EINVAL, "metadata.json")
    write(draft / "metadata.json", b"{}")
    commit(draft)


def test_metadata_of_200_mb_is_einval(draft):
    write(draft / "model.pth", b"x")
    with open(draft / "metadata.json", "wb") as f:
        f.write(b'{"a": "')
        f.truncate(200 << 20)
        f.seek(0, 2)
        f.write(b'"}')
    with refused(errno.EINVAL):
        commit(draft)
    assert "metadata.json" in reason(draft) and state(draft) == "draft"


def test_metadata_that_is_a_directory_or_a_link_is_einval(draft):
    write(draft / "model.pth", b"x")
    os.mkdir(draft / "metadata.json")
    refuses(draft, errno.EINVAL, "metadata.json", "directory")
    os.rmdir(draft / "metadata.json")
    os.symlink("/etc/passwd", draft / "metadata.json")
    refuses(draft, errno.EINVAL, "metadata.json")


def test_metadata_of_a_subdirectory_is_nobody_s_business(draft):
    write(draft / "model.pth", b"x")
    os.mkdir(draft / "sub")
    write(draft / "sub/metadata.json", b"no json")
    commit(draft)


def test_nan_and_infinity_are_read_as_null(drive, draft):
    write(draft / "model.pth", b"x")
    text = json.dumps({"metrics": {"rmse": float("nan"), "mae": float("inf"), "r2": 0.5, "nested": {"x": float("-inf")}}})
    assert "NaN" in text
    write(draft / "metadata.json", text)
    commit(draft)
    assert json.loads(drive.rows()[0]["metrics_summary"]) == {"rmse": None, "mae": None, "r2": 0.5, "nested": {"x": None}}
    assert read(draft / "metadata.json") == text.encode()


def png():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\0\1\2\3")) + chunk(b"IEND", b"")


def safetensors():
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\1" * 16


def npy():
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (8,), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + b"\0" * 32


def zipped(folder):
    with zipfile.ZipFile(folder / "z", "w") as z:
        z.writestr("archive/data.pkl", b"p" * 500)
        z.writestr("archive/data/0", b"\0" * 5000)
    return read(folder / "z")


def hdf5(folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "z.h5", "w") as f:
        f["x"] = list(range(2000))
    return read(folder / "z.h5")


@pytest.mark.parametrize("name", ["model.pth", "checkpoint_best.pth", "model.pt", "data.npz", "array.npy", "loss_curve.png", "model.safetensors", "model.h5",
                                  "sub/weights.pth"])
def test_a_torn_file_is_einval_and_named(house, draft, name):
    kind = os.path.splitext(name)[1]
    whole = {".png": png, ".npy": npy, ".safetensors": safetensors}.get(kind, lambda: hdf5(house.folder) if kind == ".h5" else zipped(house.folder))()
    (draft / name).parent.mkdir(exist_ok=True)
    for length in (0, len(whole) // 2, len(whole) - 1):
        write(draft / name, whole[:length])
        refuses(draft, errno.EINVAL, name)
    write(draft / name, whole)
    commit(draft)
    assert read(draft / name) == whole


def test_the_reason_is_in_the_log_and_in_what_mintfs_commit_prints(drive, draft):
    write(draft / "model.pth", b"PK\3\4 cut")
    r = mintfs("commit", draft, "-m", "x", check=False)
    assert r.returncode == 1 and "model.pth" in r.stderr and len(r.stderr.splitlines()) == 1
    assert "model.pth" in drive.log_text() and "model.pth" in reason(draft)
    assert "model.pth" in mintfs("status", "--store", drive.store).stdout


def test_the_reason_is_gone_after_the_commit(draft):
    write(draft / "model.pth", b"")
    refuses(draft, errno.EINVAL, "model.pth")
    write(draft / "model.pth", b"x")
    commit(draft)
    assert "error" not in attrs(draft)


# ---- what is written down ----


def test_the_attributes_tell_version_state_sha256_size_created_and_message(drive, draft):
    write(draft / "model.pth", b"weights")
    write(draft / "metadata.json", b"{}")
    mintfs("commit", draft, "-m", "first")
    text = run("getfattr", "-d", "-m", "-", draft).stdout
    for line in ('user.mintfs.version="v1"', 'user.mintfs.state="committed"', 'user.mintfs.size="9"', 'user.mintfs.message="first"'):
        assert line in text
    assert re.search(r'user\.mintfs\.created="\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"', text) and "user.mintfs.run=" in text
    text = run("getfattr", "-d", "-m", "-", draft / "model.pth").stdout
    for line in (f'user.mintfs.sha256="{sha256(b"weights")}"', 'user.mintfs.size="7"', 'user.mintfs.version="v1"', 'user.mintfs.state="committed"'):
        assert line in text


def test_getfattr_works_on_everything_of_the_drive(drive):
    v = drive.committed(files={"model.pth": b"x", "sub/a": b"y"})
    d = drive.mint()
    write(d / "model.pth", b"z")
    for path in (drive.at, drive / "versions.json", v.parent, v, v / "sub", v / "sub/a", v.parent / "latest", d, d / "model.pth"):
        run("getfattr", "-d", "-m", "-", path)
        run("getfattr", "-h", "-d", "-m", "-", path)


def test_model_versions_has_exactly_these_columns_and_rows(drive):
    drive.committed(files={"model.pth": b"1", "metadata.json": b'{"metrics": {"rmse": 10.5, "r2": 0.89}}'})
    drive.committed("global/all/sum/kan")
    drive.mint()
    rows = drive.rows("ORDER BY id")
    assert list(rows[0]) == ["id", "model_identifier", "model_type", "version", "model_path", "created_at", "metrics_summary"]
    first, second = rows
    assert (first["model_identifier"], first["model_type"], first["version"]) == ("product_P001_all", "mlstm", "v1")
    assert first["model_path"] == "saved_models/product/P001_all/mlstm/v1/" and first["metrics_summary"] == '{"rmse":10.5,"r2":0.89}'
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", first["created_at"])
    assert (second["model_identifier"], second["model_type"], second["model_path"]) == ("global_all_sum", "kan", "saved_models/global/all/sum/kan/v1/")
    assert isinstance(first["id"], int) and first["id"] != second["id"]


def test_one_content_is_stored_once(drive):
    drive.committed(files={"model.pth": b"same" * 1000, "copy.pth": b"same" * 1000, "metadata.json": b"{}"})
    assert len(drive.blobs()) == 2
    drive.committed("store/S001_all/kan", files={"model.pth": b"same" * 1000, "metadata.json": b"{}"})
    assert drive.blobs() == sorted([sha256(b"same" * 1000), sha256(b"{}")])


def test_a_blob_is_named_by_its_sha256_and_can_be_changed_by_nobody(drive):
    drive.committed(files={"model.pth": b"weights"})
    digest = sha256(b"weights")
    blob = drive.store / "blobs" / digest[:2] / digest[2:]
    assert read(blob) == b"weights" and stat.S_IMODE(os.stat(blob).st_mode) == 0o444
    flags = run("lsattr", blob, check=False)
    if flags.returncode == 0:
        assert "i" in flags.stdout.split()[0]
        with refused(errno.EPERM):
            open(blob, "r+b")


def test_nothing_is_left_of_the_staging_tree(drive):
    drive.committed()
    wait_until(lambda: not os.listdir(drive.store / "drafts"), what="the staging tree is gone")


def test_files_behind_a_refused_commit_stay_the_trainer_s(drive, draft):
    """A refused commit may have linked contents into the store: the trainer goes on and another version commits the old bytes."""
    write(draft / "model.pth", b"old" * 3000)
    write(draft / "z.npy", b"\x93NUMPY\1\0 torn")
    refuses(draft, errno.EINVAL, "z.npy")
    with open(draft / "model.pth", "r+b") as f:
        f.write(b"new" * 3000)
    drive.committed("store/S001_all/kan", files={"model.pth": b"old" * 3000})
    os.unlink(draft / "z.npy")
    commit(draft)
    assert read(draft / "model.pth") == b"new" * 3000
    assert read(drive / "store/S001_all/kan/v1/model.pth") == b"old" * 3000


def test_a_commit_seen_by_another_process_is_whole(house, drive, draft):
    for n in range(40):
        write(draft / f"part_{n:02}.bin", b"%d" % n * 1000)
    before = sorted(os.listdir(draft))
    looker = house.start(f"while :; do s=$(getfattr --only-values -n user.mintfs.state {draft}) || exit 1; n=$(ls {draft} | wc -l); echo $s $n; "
                         "test $s = committed && exit 0; done")
    looker.stdout.readline()
    commit(draft)
    out = looker.communicate(timeout=30)[0]
    assert looker.returncode == 0
    for line in out.splitlines():
        assert line in ("draft 40", "draft 41", "committed 41"), line
    assert sorted(os.listdir(draft)) == sorted(before + ["metadata.json"])


def test_versions_of_one_model_commit_at_once(house, drive):
    workers = [house.worker() for _ in range(8)]
    path = drive.model() / "latest"
    for n, t in enumerate(workers):
        t.do("os.makedirs(p)", p=path)
        t.write(path / "model.pth", b"%d" % n * 5000)
        t.write(path / "shared.bin", b"the same in all" * 999)
    for t in workers:
        t.begin("os.chmod(p, 0o555)", p=path)
    for t in workers:
        t.end()
    assert len(drive.rows()) == 8 and drive.versions_json()["product_P001_all_mlstm"] == 8
    contents = {read(drive / MODEL / f"v{n}/model.pth") for n in range(1, 9)}
    assert contents == {b"%d" % n * 5000 for n in range(8)}
    for n in range(1, 9):
        assert read(drive / MODEL / f"v{n}/shared.bin") == b"the same in all" * 999


# ---- closed just before ----


@pytest.mark.parametrize("gesture", ["rmdir", "discard", "commit"])
def test_a_file_whose_release_is_on_its_way_stands_in_nobody_s_way(house, store, monkeypatch, gesture):
    monkeypatch.setenv("MINTFS_DELAY", "release:400")  # close(2) does not wait for it
    v = house.mount(store).mint()
    began = time.monotonic()
    write(v / "model.pth", b"weights")
    with open(v / "model.pth", "rb") as f:
        f.read()
    if gesture == "rmdir":
        sh(f"rm -r {v}")
    elif gesture == "discard":
        mintfs("discard", v)
    else:
        commit(v)
    assert state(v) == ("committed" if gesture == "commit" else None)
    if time.monotonic() - began < 0.4:
        pytest.skip("this mintfs was built without crash points")
