"""A committed version never changes: every way to try it, as root too; and reading it, by those who were there before."""
import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import stat

import pytest

from drive import apart, attrs, commit, libc, mintfs, read, refused, run, sh, sha256, snapshot, state, wait_until, write

RENAME_EXCHANGE = 2
FILES = {"model.pth": b"weights" * 1000, "sub/deep/notes.txt": b"notes", "run.sh": b"#!/bin/sh\necho it runs\n"}


@pytest.fixture
def version(drive):
    v = drive.mint()
    for name, data in FILES.items():
        (v / name).parent.mkdir(parents=True, exist_ok=True)
        write(v / name, data)
    os.chmod(v / "run.sh", 0o755)
    os.symlink("model.pth", v / "link")
    commit(v)
    return v


LAST_NS, FIRST_NS = (1 << 63) - 1, -(1 << 63)  # 2262 and 1677


def test_a_time_beyond_those_that_a_catalog_holds_is_kept_as_the_last_of_them(drive, house):
    v = drive.mint()
    write(v / "model.pth", b"x")
    (v / "sub").mkdir()
    for path in (v / "model.pth", v / "sub", v):
        os.utime(path, (13_000_000_000, 13_000_000_000))
    assert os.stat(v / "model.pth").st_mtime_ns == 13_000_000_000 * 10**9, "as the file system below has it"
    commit(v)

    place = v.relative_to(drive.at)

    def shown(drive):
        return [os.stat(drive / place / name).st_mtime_ns for name in ("model.pth", "sub", "")]

    wait_until(lambda: shown(drive) == [LAST_NS] * 3, what="the kernel has forgotten the draft's times")
    os.utime(v / "model.pth", (13_000_000_000, 13_000_000_000))  # cp -a and tar set it again: it changes nothing
    for seconds, ns in ((13_000_000_000, LAST_NS), (-13_000_000_000, FIRST_NS), (1, 10**9)):
        os.utime(v.parent, (seconds, seconds))
        assert os.stat(v.parent).st_mtime_ns == ns
    mintfs("export", v, "-o", house.folder / "b.tar")
    other = house.init("other")
    mintfs("import", house.folder / "b.tar", "--store", other)
    assert shown(house.mount(other, at="other_mnt")) == [LAST_NS] * 3
    drive.remount()
    assert shown(drive) == [LAST_NS] * 3


def renameat2(a, b, flags):
    if libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


CHANGES = {
    "open for writing": lambda v: open(v / "model.pth", "r+b"),
    "open with O_TRUNC": lambda v: open(v / "model.pth", "wb"),
    "open with O_TRUNC for reading": lambda v: os.open(v / "model.pth", os.O_RDONLY | os.O_TRUNC),
    "open to append": lambda v: open(v / "model.pth", "ab"),
    "create a file": lambda v: open(v / "new.pth", "xb"),
    "create a file in a subdirectory": lambda v: open(v / "sub/new", "w"),
    "O_TMPFILE": lambda v: os.open(v, os.O_TMPFILE | os.O_RDWR),
    "truncate": lambda v: os.truncate(v / "model.pth", 3),
    "truncate to its own size": lambda v: os.truncate(v / "model.pth", len(FILES["model.pth"])),
    "unlink": lambda v: os.unlink(v / "model.pth"),
    "unlink a link": lambda v: os.unlink(v / "link"),
    "rename": lambda v: os.rename(v / "model.pth", v / "other.pth"),
    "rename over": lambda v: os.rename(v / "model.pth", v / "run.sh"),
    "rename a directory": lambda v: os.rename(v / "sub", v / "other"),
    "exchange": lambda v: renameat2(v / "model.pth", v / "run.sh", RENAME_EXCHANGE),
    "hard link": lambda v: os.link(v / "model.pth", v / "hard.pth"),
    "symbolic link": lambda v: os.symlink("model.pth", v / "soft.pth"),
    "mkdir": lambda v: os.mkdir(v / "dir"),
    "rmdir": lambda v: os.rmdir(v / "sub/deep"),
    "mknod": lambda v: os.mknod(v / "node", stat.S_IFREG | 0o644),
    "mkfifo": lambda v: os.mkfifo(v / "fifo"),
    "chmod u+w": lambda v: os.chmod(v / "model.pth", 0o644),
    "chmod a-x": lambda v: os.chmod(v / "run.sh", 0o444),
    "chmod of a directory": lambda v: os.chmod(v / "sub", 0o755),
    "chmod of the version": lambda v: os.chmod(v, 0o755),
    "chown": lambda v: os.chown(v / "model.pth", 4001, -1),
    "chown of the version": lambda v: os.chown(v, -1, 4001),
    "utimes": lambda v: os.utime(v / "model.pth", (1, 1)),
    "touch": lambda v: os.utime(v / "model.pth"),
    "touch the version": lambda v: os.utime(v),
    "remove the version": lambda v: os.rmdir(v),
}


@pytest.mark.parametrize("how", CHANGES)
def test_no_change_of_a_committed_version_is_possible(version, how):
    before = snapshot(version)
    with refused(errno.EROFS):
        CHANGES[how](version)
    assert snapshot(version) == before


def test_attributes_cannot_be_set_or_removed(version):
    """Those of MintFS itself may be written back by programs that copy attributes: without effect."""
    for path in (version, version / "model.pth", version / "sub"):
        before = attrs(path)
        with refused(errno.EOPNOTSUPP, errno.EROFS):
            os.setxattr(path, "user.note", b"x")
        for change in (lambda: os.setxattr(path, "user.mintfs.state", b"draft"), lambda: os.removexattr(path, "user.mintfs.state")):
            try:
                change()
            except OSError as e:
                assert e.errno in (errno.EOPNOTSUPP, errno.EROFS)
        assert {k: x for k, x in attrs(path).items() if k != "error"} == before


def test_fallocate_and_dd_meet_a_read_only_file(version):
    for script in ("fallocate -l 100000 model.pth", "dd if=/dev/zero of=model.pth bs=1 count=1 conv=notrunc", "truncate -s 0 model.pth", "echo x >> model.pth",
                   "sed -i s/a/b/ sub/deep/notes.txt", "rm -rf ."):
        r = sh(script, cwd=version, check=False)
        if script != "rm -rf .":
            assert r.returncode != 0 and "Read-only file system" in r.stderr, script
    assert read(version / "model.pth") == FILES["model.pth"]


def test_rm_rf_of_a_committed_version_removes_nothing(drive, version):
    before = snapshot(version)
    r = run("rm", "-rf", version, check=False)
    assert r.returncode != 0
    assert snapshot(version) == before and state(version) == "committed"


def test_a_change_that_changes_nothing_succeeds(version):
    st = os.stat(version / "model.pth")
    os.chmod(version / "model.pth", stat.S_IMODE(st.st_mode))
    os.chown(version / "model.pth", st.st_uid, st.st_gid)
    os.chown(version / "model.pth", -1, -1)
    os.utime(version / "model.pth", ns=(st.st_atime_ns, st.st_mtime_ns))
    os.chmod(version, stat.S_IMODE(os.stat(version).st_mode))
    run("chmod", "-R", "a-w", version)
    run("chmod", "-R", "a+r", version)
    run("chown", "-R", "root:root", version)


def test_the_refusal_says_why(drive, version):
    def ask():
        with refused(errno.EROFS):
            open(version / "model.pth", "wb")
        with contextlib.suppress(OSError):  # the kernel may forget the draft's file in between: it was told of the commit just now
            return os.getxattr(version / "model.pth", "user.mintfs.error").decode()

    said = wait_until(ask, what="the reason")
    assert "v1" in said and "committed" in said and "mkdir" in said
    assert said in drive.log_text()


def test_an_ordinary_user_changes_nothing_either(version):
    before = snapshot(version)
    for how, change in CHANGES.items():
        with refused(errno.EROFS, errno.EACCES, errno.EPERM):
            apart(lambda: change(version) and None, uid=4001)
    assert snapshot(version) == before


def test_files_cannot_be_moved_or_linked_between_versions(drive, version):
    d = drive.mint()
    write(d / "mine", b"x")
    for a, b in ((version / "model.pth", d / "model.pth"), (d / "mine", version / "mine")):
        with refused(errno.EROFS, errno.EXDEV):
            os.rename(a, b)
        with refused(errno.EROFS, errno.EXDEV):
            os.link(a, b)
    sh(f"cp {version}/model.pth {d}/model.pth")
    assert read(d / "model.pth") == FILES["model.pth"]


def test_copy_on_the_drive_is_a_new_file_that_can_be_changed(drive, version):
    d = drive.mint()
    run("cp", "-r", f"{version}/.", d)
    run("chmod", "-R", "u+w", d)
    write(d / "model.pth", b"changed")
    assert read(version / "model.pth") == FILES["model.pth"]
    commit(d)
    assert read(d / "model.pth") == b"changed" and read(version / "model.pth") == FILES["model.pth"]


# ---- who was there before ----


def test_a_reader_that_came_while_the_writer_was_there_is_no_obstacle(draft):
    with open(draft / "model.pth", "wb") as w:
        w.write(b"weights")
        w.flush()
        f = open(draft / "model.pth", "rb", buffering=0)
    commit(draft)
    assert f.read() == b"weights"
    f.close()


def test_descriptors_and_mappings_read_on_after_the_commit(draft):
    write(draft / "model.pth", bytes(range(256)) * 64)
    f = open(draft / "model.pth", "rb", buffering=0)
    assert f.read(4) == b"\0\1\2\3"
    m = mmap.mmap(f.fileno(), 16384, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
    commit(draft)
    assert f.read(4) == b"\4\5\6\7" and os.fstat(f.fileno()).st_size == 16384
    assert sha256(m[:]) == sha256(bytes(range(256)) * 64)
    with refused(errno.EBADF):
        os.write(f.fileno(), b"x")
    m.close()
    f.close()


def test_a_working_directory_in_a_draft_survives_the_commit(house, draft):
    os.mkdir(draft / "sub")
    write(draft / "sub/model.bin", b"x")
    write(draft / "model.pth", b"y")
    top, sub = house.worker(cwd=draft), house.worker(cwd=draft / "sub")
    assert sub.do("os.listdir('.')") == ["model.bin"]
    commit(draft)
    assert sorted(top.do("os.listdir('.')")) == ["metadata.json", "model.pth", "sub"]
    assert top.do("open('model.pth').read()") == "y"
    assert top.do("open('sub/model.bin').read()") == "x"
    assert sub.do("open(p).read()", p=draft / "sub/model.bin") == "x"
    for worker in (top, sub):
        with refused(errno.EROFS, errno.ESTALE, errno.ENOENT):
            worker.do("open('new', 'w')")
    assert os.listdir(draft / "sub") == ["model.bin"]


def test_a_descriptor_of_the_directory_lists_the_committed_version(draft):
    write(draft / "model.pth", b"y")
    fd = os.open(draft, os.O_RDONLY | os.O_DIRECTORY)
    assert os.listdir(fd) == ["model.pth"]
    commit(draft)
    assert sorted(os.listdir(fd)) == ["metadata.json", "model.pth"]
    with refused(errno.EROFS):
        os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    f = os.open("model.pth", os.O_RDONLY, dir_fd=fd)
    assert os.read(f, 9) == b"y"
    os.close(f)
    os.close(fd)


def test_a_reader_that_asks_all_the_time_never_sees_an_error_at_the_commit(house, draft):
    for n in range(20):
        write(draft / f"f{n}", b"%d" % n)
    reader = house.start(f"while :; do cat {draft}/f7 {draft}/f13 || exit 1; ls -l {draft} > /dev/null || exit 2; test -e {house.folder}/stop && exit 0; done")
    for _ in range(5):
        assert reader.stdout.read(3) in ("713", "137", "371")
    commit(draft)
    write(house.folder / "stop")
    out, err = reader.communicate(timeout=20)
    assert (reader.returncode, err) == (0, "") and set(out) <= set("713")


def test_what_is_executable_runs_from_the_drive(version):
    assert run(version / "run.sh").stdout == "it runs\n"


def test_committed_files_are_locked_read_and_seeked_as_on_any_drive(version):
    with open(version / "model.pth", "rb") as f:
        fcntl.flock(f, fcntl.LOCK_SH)
        fcntl.lockf(f, fcntl.LOCK_SH)
        assert os.pread(f.fileno(), 7, 700) == b"weights"
        assert os.lseek(f.fileno(), 0, os.SEEK_DATA) == 0
        assert os.lseek(f.fileno(), 0, os.SEEK_HOLE) == len(FILES["model.pth"])
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        os.fsync(f.fileno())


def test_an_equal_blob_under_two_versions_stays_what_it_is(drive):
    v1 = drive.committed(files={"model.pth": b"same"})
    v2 = drive.mint()
    write(v2 / "model.pth", b"same")
    with open(v2 / "model.pth", "r+b") as f:
        f.write(b"else")
    commit(v2)
    assert (read(v1 / "model.pth"), read(v2 / "model.pth")) == (b"same", b"else")


def test_a_retry_by_the_same_process_never_writes_into_the_committed_version(house, drive):
    t = house.worker()
    path = drive.model() / "latest"
    t.do("os.makedirs(p, exist_ok=True)", p=path)
    t.write(path / "model.pth", b"one")
    t.do("os.chmod(p, 0o555)", p=path)
    with refused(errno.EROFS):
        t.do("open(p, 'wb')", p=path / "model.pth")
    t.do("os.makedirs(p, exist_ok=True)", p=path)
    t.write(path / "model.pth", b"two")
    t.exit(0)
    assert read(path.parent / "v1/model.pth") == b"one" and read(path.parent / "v2/model.pth") == b"two"
