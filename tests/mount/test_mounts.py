"""Mounts: two at a time, again and again, read-only, left dead by kill -9; and what a mount that cannot be says."""
import errno
import os
import subprocess
import time

import pytest

from drive import MODEL, Lateness, attrs, binary, commit, mintfs, mount_lines, read, reason, refused, run, settled, sh, state, wait_until, write

SOON = 1.5  # two mounts see the same registry within a second; half a second for the machine, and what it takes more


@pytest.fixture
def soon(house):
    def wait(condition, what):
        with Lateness(house.folder) as machine:
            began = time.monotonic()
            wait_until(condition, what=what)
            took = time.monotonic() - began
        assert took <= SOON + machine.seconds, f"{what}: after {took:.2f} s"
    return wait


@pytest.fixture
def pair(house, drive):
    """Two drives of one store."""
    return drive, house.mount(drive.store, "second")


# ---- again and again ----


def test_a_remount_in_the_middle_of_a_draft(house, drive):
    path = drive.model() / "latest"
    t = house.worker()
    t.do("os.makedirs(p)", p=path)
    t.write(path / "model.pth", b"first half ")
    drive.remount()
    assert t.do("os.readlink(p)", p=path) == "v1"
    with refused(errno.EEXIST):
        t.do("os.mkdir(p)", p=path)
    t.do("with open(p, 'ab') as f:\n f.write(b'second half')", p=path / "model.pth")
    t.do("os.chmod(p, 0o555)", p=path)
    assert read(drive / MODEL / "v1/model.pth") == b"first half second half"
    assert state(drive / MODEL / "v1") == "committed"


def test_many_mounts_one_after_the_other_lose_nothing(drive):
    for n in range(1, 9):
        drive.committed(files={"model.pth": b"%d" % n})
        drive.remount()
        assert [read(drive / MODEL / f"v{i}/model.pth") for i in range(1, n + 1)] == [b"%d" % i for i in range(1, n + 1)]


def test_mount_returns_when_the_drive_is_ready(house, store):
    for n in range(5):
        d = house.mount(store, f"mnt{n}")
        assert "product" in os.listdir(d.at)


def test_umount_says_who_uses_the_drive(house, drive, draft):
    w = house.worker(cwd=draft)
    r = mintfs("umount", drive.at, check=False)
    assert r.returncode == 1 and str(drive.at) in r.stderr
    assert os.path.isdir(draft)
    w.close()


def test_sigterm_ends_the_daemon_well(drive, draft):
    write(draft / "model.pth", b"x")
    os.kill(drive.pid, 15)
    drive.wait_end()
    assert os.listdir(drive.at) == []
    drive.mount()
    assert read(draft / "model.pth") == b"x"


def test_the_foreground_mount_logs_to_standard_error(house, store):
    (house.folder / "fg").mkdir()
    p = subprocess.Popen([binary(), "mount", "-f", str(store), str(house.folder / "fg")], stderr=subprocess.PIPE, text=True, env={**os.environ, **house.sanitizer_env()})
    try:
        wait_until(lambda: os.path.isdir(house.folder / "fg/product"))
        with refused(errno.EINVAL):
            os.mkdir(house.folder / "fg/product/wrong")
        run("umount", house.folder / "fg")
        assert p.wait(20) == 0
        assert "wrong" in p.stderr.read()
    finally:
        subprocess.run(["umount", "-l", str(house.folder / "fg")], stderr=subprocess.DEVNULL)
        p.kill()
        p.wait()
        p.stderr.close()


# ---- two at a time ----


def test_two_mounts_see_what_the_other_does_within_a_second(pair, soon):
    a, b = pair
    os.listdir(b.at / "product")
    a.model()
    soon(lambda: os.path.isdir(b / MODEL), "the model")
    v = a.mint()
    soon(lambda: os.path.isdir(b / MODEL / "v1"), "the draft")
    write(v / "model.pth", b"of a")
    soon(lambda: os.path.exists(b / MODEL / "v1/model.pth") and read(b / MODEL / "v1/model.pth") == b"of a", "its file")
    commit(v)
    soon(lambda: state(b / MODEL / "v1") == "committed", "the commit")
    soon(lambda: os.path.exists(b / MODEL / "v1/metadata.json"), "a name that the commit made")
    assert os.readlink(b / MODEL / "latest") == "v1" and b.versions_json() == a.versions_json() == {"product_P001_all_mlstm": 1}
    os.symlink("v1", b / MODEL / "production")
    soon(lambda: os.path.lexists(a / MODEL / "production"), "the alias")
    os.unlink(a / MODEL / "production")
    soon(lambda: not os.path.lexists(b / MODEL / "production"), "the end of the alias")


def test_a_draft_is_written_only_through_the_mount_that_serves_it(pair):
    a, b = pair
    v = a.mint()
    write(v / "model.pth", b"of a")
    there = b / MODEL / "v1"
    wait_until(lambda: os.path.exists(there / "model.pth"))
    with refused(errno.EROFS):
        open(there / "model.pth", "r+b")
    assert str(a.at) in reason(there / "model.pth"), "it says where the draft can be written"
    for change in (lambda: open(there / "model.pth", "wb"), lambda: open(there / "new", "w"), lambda: os.unlink(there / "model.pth"), lambda: os.mkdir(there / "d"),
                   lambda: os.truncate(there / "model.pth", 0), lambda: os.chmod(there / "model.pth", 0o600), lambda: commit(there), lambda: os.rmdir(there)):
        with refused(errno.EROFS, errno.ENOTEMPTY):
            change()
    assert read(v / "model.pth") == b"of a" and os.listdir(v) == ["model.pth"]
    assert b.mint().name == "v2"


def test_latest_is_a_draft_only_on_the_mount_that_serves_it(house, pair):
    a, b = pair
    a.committed(files={"model.pth": b"one"})
    t = house.worker()
    t.do("os.mkdir(p)", p=a / MODEL / "latest")
    assert t.do("os.readlink(p)", p=a / MODEL / "latest") == "v2"
    wait_until(lambda: os.path.isdir(b / MODEL / "v2"))
    assert t.do("os.readlink(p)", p=b / MODEL / "latest") == "v1"


def test_the_other_mount_takes_a_draft_up_when_its_daemon_is_gone(pair):
    a, b = pair
    v = a.mint()
    write(v / "model.pth", b"of a")
    a.kill()
    there = b / MODEL / "v1"

    def writable():
        try:
            write(there / "more", b"of b")
            return True
        except OSError as e:
            assert e.errno == errno.EROFS
            return False

    wait_until(writable, 10, "the draft can be written through the second mount")
    mintfs("umount", a.at)  # a dead connection may still hold files open
    commit(there)
    assert read(there / "model.pth") == b"of a" and read(there / "more") == b"of b"


def test_two_mounts_mint_at_once_and_never_get_one_number(house, pair, soon):
    script = "read go; for i in $(seq 20); do mkdir {}/next || exit 1; done"
    pair[0].model()
    wait_until(lambda: os.path.isdir(pair[1] / MODEL))
    shells = [house.start(script.format(d / MODEL)) for d in pair for _ in range(2)]
    for p in shells:
        p.stdin.write("go\n")
        p.stdin.flush()
    for p in shells:
        assert p.wait(50) == 0, p.stderr.read()
    for d in pair:
        soon(lambda: sorted(int(n[1:]) for n in os.listdir(d / MODEL) if n[0] == "v") == list(range(1, 81)), "80 versions")


def test_a_read_only_mount_reads_everything_and_changes_nothing(house, drive, soon):
    v = drive.committed(files={"model.pth": b"one"})
    d = drive.mint()
    write(d / "model.pth", b"draft")
    ro = house.mount(drive.store, "ro", options=("ro",))
    assert read(ro / MODEL / "v1/model.pth") == b"one" and read(ro / MODEL / "v2/model.pth") == b"draft"
    assert os.readlink(ro / MODEL / "latest") == "v1" and ro.versions_json() == drive.versions_json()
    for change in (lambda: os.mkdir(ro / MODEL / "latest"), lambda: os.makedirs(ro / "store/S_all/k"), lambda: open(ro / MODEL / "v2/x", "w"), lambda: commit(ro / MODEL / "v2"),
                   lambda: os.symlink("v1", ro / MODEL / "production"), lambda: os.chmod(ro / MODEL, 0o700), lambda: os.rmdir(ro / MODEL / "v2")):
        with refused(errno.EROFS):
            change()
    commit(d)
    soon(lambda: state(ro / MODEL / "v2") == "committed" and os.readlink(ro / MODEL / "latest") == "v2", "the commit")
    soon(lambda: read(ro / MODEL / "latest/model.pth") == b"draft", "its content")
    drive.mint()
    soon(lambda: os.path.isdir(ro / MODEL / "v3"), "the next draft")
    drive.committed("store/S1_all/kan")
    soon(lambda: os.path.exists(ro / "store/S1_all/kan/v1/model.pth"), "another model")
    assert os.stat(v / "model.pth").st_size == 3


def test_a_read_only_mount_alone_serves_a_store(house, drive):
    drive.committed(files={"model.pth": b"one"})
    drive.unmount()
    ro = house.mount(drive.store, "ro", options=("ro",))
    assert read(ro / MODEL / "latest/model.pth") == b"one"


# ---- dead daemons ----


def test_after_kill_9_the_next_mount_clears_up_and_nothing_is_lost(house, drive):
    v = drive.committed(files={"model.pth": b"committed"})
    t = house.worker()
    path = drive.model() / "latest"
    t.do("os.mkdir(p)", p=path)
    t.write(path / "model.pth", b"draft")
    t.do("f = open(p, 'wb', buffering=0)", p=path / "log")
    t.do("f.write(b'line 1')")
    drive.kill()
    with refused(errno.ENOTCONN, errno.ECONNABORTED):
        os.listdir(drive.at)
    drive.mount()
    assert read(v / "model.pth") == b"committed" and read(drive / MODEL / "v2/model.pth") == b"draft" and read(drive / MODEL / "v2/log") == b"line 1"
    assert t.do("os.readlink(p)", p=path) == "v2"
    t.do("try:\n f.close()\nexcept OSError: pass")
    t.write(path / "log", b"line 2")
    t.do("os.chmod(p, 0o555)", p=path)
    assert state(drive / MODEL / "v2") == "committed" and read(drive / MODEL / "v2/log") == b"line 2"


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.005, 0.01, 0.02, 0.05])
def test_a_daemon_killed_in_a_commit_leaves_a_draft_or_a_version_and_no_mixture(house, drive, draft, delay):
    for n in range(60):
        write(draft / f"part_{n:02}", b"%d" % n * 2000)
    committer = house.start(f"read go; chmod a-w {draft}")
    committer.stdin.write("go\n")
    committer.stdin.flush()
    time.sleep(delay)  # no condition: the kill shall hit any moment of it
    drive.kill()
    committer.wait(20)
    drive.mount()
    names = {f"part_{n:02}" for n in range(60)}
    now = state(draft)
    assert now in ("draft", "committed")
    assert set(os.listdir(draft)) - {"metadata.json"} == names
    assert ("metadata.json" in os.listdir(draft)) == (now == "committed")
    assert [r["version"] for r in drive.rows()] == (["v1"] if now == "committed" else [])
    for n in range(60):
        assert read(draft / f"part_{n:02}") == b"%d" % n * 2000
    if now == "draft":
        write(draft / "part_00", b"changed")
        commit(draft)
        assert read(draft / "part_00") == b"changed"
    wait_until(lambda: not os.listdir(drive.store / "drafts"), what="no staging tree is left")


def test_mintfs_umount_clears_a_dead_mount_away(drive):
    drive.kill()
    mintfs("umount", drive.at)
    assert os.listdir(drive.at) == []


def test_the_command_line_works_with_the_drive_unmounted(drive):
    drive.committed()
    d = drive.mint()
    write(d / "model.pth", b"x")
    drive.unmount()
    mintfs("commit", f"{MODEL}/v2", "-m", "offline", "--store", drive.store)
    assert [r["version"] for r in drive.rows("ORDER BY id")] == ["v1", "v2"]
    drive.mount()
    assert attrs(drive / MODEL / "v2")["message"] == "offline" and read(drive / MODEL / "v2/model.pth") == b"x"


def test_the_command_line_commits_while_the_drive_serves_the_draft(drive, draft):
    write(draft / "model.pth", b"x")
    mintfs("commit", f"{MODEL}/v1", "--store", drive.store)
    settled(draft)
    assert "metadata.json" in os.listdir(draft)


# ---- mounts that cannot be ----


def fails(*argv, code=1, words=()):
    r = run(binary(), "mount", *argv, check=False)
    assert r.returncode == code, r.stderr
    assert r.stdout == "" and len(r.stderr.splitlines()) == 1 and r.stderr.startswith("mintfs mount: ")
    for w in words:
        assert str(w) in r.stderr
    assert all(str(argv[1]) not in line for line in mount_lines()) or code == 1
    return r.stderr


def test_a_missing_mount_point_is_named(house, store):
    fails(store, house.folder / "nowhere", code=3, words=[house.folder / "nowhere", "does not exist"])


def test_a_mount_point_that_is_a_file_is_named(house, store):
    write(house.folder / "file")
    fails(store, house.folder / "file", words=[house.folder / "file", "not a directory"])


def test_a_busy_mount_point_is_named(house, drive):
    other = house.init("other")
    fails(other, drive.at, words=[drive.at, "busy"])
    assert "product" in os.listdir(drive.at)


def test_a_missing_store_is_named_with_what_to_do(house):
    (house.folder / "mnt").mkdir()
    fails(house.folder / "none", house.folder / "mnt", code=3, words=[house.folder / "none", "mintfs init"])


def test_usage_errors_are_2(house, store):
    for argv in ((), (store,), (store, "a", "b"), (store, house.folder, "--nonsense"), (store, house.folder, "-o", "nonsense")):
        assert run(binary(), "mount", *argv, check=False).returncode == 2


def test_a_drive_cannot_be_mounted_inside_its_store(house, store):
    fails(store, store / "run", words=[store])


def test_mount_t_mintfs_works_through_the_helper(house, store):
    """mount(8) runs /sbin/mount.mintfs, which is the same program by another name."""
    helper = house.folder / "mount.mintfs"
    os.symlink(binary(), helper)
    (house.folder / "mnt").mkdir()
    run(helper, store, house.folder / "mnt", "-o", f"rw,nofail,log={house.folder}/helper.log", env=house.sanitizer_env())
    try:
        assert "product" in os.listdir(house.folder / "mnt")
    finally:
        sh(f"{binary()} umount {house.folder}/mnt")


def test_what_the_end_of_a_thread_needs_is_loaded_while_there_are_descriptors(drive):
    """glibc opens it at the first pthread_cancel, which libfuse calls at the unmount, and aborts where it has no descriptor left."""
    with open(f"/proc/{drive.worker()}/maps") as f:
        assert "libgcc_s.so" in f.read()
