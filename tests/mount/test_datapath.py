"""File data through the kernel alone and through the daemon: the same bytes, whatever is mixed."""
import contextlib
import errno
import fcntl
import mmap
import os
import signal
import stat
import subprocess
import threading
import time

import pytest

from drive import apart, attr, binary, commit, kernel_at_least, libc, mintfs, read, reason, refused, run, sha256, wait_until, write

PATHS = [(), ("nopassthrough",)]
MIB = 1 << 20
PAGE = mmap.PAGESIZE
USER = 65534  # nobody: fusermount3 wants one who has a name
AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400
SCENARIOS = []


@pytest.fixture(params=PATHS, ids=["fast", "by_the_daemon"])
def path(request, house, store):
    return house.mount(store, options=request.param)


def scenario(function):
    SCENARIOS.append(function)
    return function


def seen_by_another(name):
    st = apart(os.stat, name)
    return st.st_size, sha256(apart(read, name))


def mapped(name, write_too=False):
    with open(name, "r+b" if write_too else "rb") as f:
        return mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ | (mmap.PROT_WRITE if write_too else 0))


# ---- scenarios: played on the file system below and in a draft, they must tell the same ----


@scenario
def a_reader_by_mmap_while_a_writer_appends():
    write("f", b"a" * PAGE)
    m = mapped("f")
    with open("f", "ab", buffering=0) as f:
        for i in range(64):
            f.write(bytes([i]) * 1000)
            yield os.stat("f").st_size, seen_by_another("f")
        f.flush()
    yield bytes(m)
    m.close()
    yield sha256(mapped("f")[:])


@scenario
def opened_to_read_first_and_then_to_write():
    write("f", b"old" * 5000)
    with open("f", "rb", buffering=0) as reader:
        yield reader.read(6)
        with open("f", "r+b", buffering=0) as writer:
            writer.seek(3)
            writer.write(b"new")
            yield os.pread(reader.fileno(), 9, 0), seen_by_another("f")
            writer.truncate(7)
            yield os.pread(reader.fileno(), 99, 0), os.fstat(reader.fileno()).st_size
        yield os.pread(reader.fileno(), 99, 0)
        fd = os.open("f", os.O_WRONLY | os.O_TRUNC)
        yield os.pread(reader.fileno(), 99, 0), os.fstat(reader.fileno()).st_size
        os.write(fd, b"again")
        yield os.pread(reader.fileno(), 99, 0)
        os.close(fd)
    yield seen_by_another("f")


@scenario
def a_mapping_that_outlives_its_descriptor():
    write("f", bytes(3 * PAGE))
    m = mapped("f", write_too=True)
    m[0:5] = b"first"
    yield read("f")[:5]
    with open("f", "r+b") as f:
        f.seek(PAGE)
        f.write(b"second")
    yield m[PAGE:PAGE + 6]
    m[2 * PAGE:2 * PAGE + 5] = b"third"
    m.flush()
    m.close()
    yield seen_by_another("f")


@scenario
def two_processes_that_append():
    write("log")

    def appends(letter):
        with open("log", "ab", buffering=0) as f:
            for i in range(300):
                f.write(b"%s%03d\n" % (letter, i))

    children = []
    for letter in b"a", b"b":
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                appends(letter)
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    lines = read("log").split()
    yield len(lines), sorted(lines) == sorted(b"%s%03d" % (x, i) for x in (b"a", b"b") for i in range(300)), os.stat("log").st_size


@scenario
def a_seek_to_data_from_before_the_beginning():
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"data")
    for at in (-1, -(1 << 62), 4, 1 << 40):
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            try:
                yield os.lseek(fd, at, whence)
            except OSError as e:
                yield e.errno
    os.close(fd)


@scenario
def a_sparse_copy_of_what_was_just_written():
    """What SEEK_DATA says is left out must be zeros."""
    fd = os.open("s", os.O_RDWR | os.O_CREAT)
    for at in (5 * MIB, MIB, 9 * MIB + 123):
        os.pwrite(fd, b"data" * 1000, at)
    m = mmap.mmap(fd, 10 * MIB) if os.ftruncate(fd, 10 * MIB) is None else None
    m[3 * MIB:3 * MIB + 3] = b"map"
    copy, at = bytearray(10 * MIB), 0
    while True:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            yield e.errno == errno.ENXIO
            break
        end = os.lseek(fd, at, os.SEEK_HOLE)
        copy[at:end] = os.pread(fd, end - at, at)
        at = end
    m.close()
    os.close(fd)
    yield sha256(copy) == sha256(read("s")), sha256(copy)
    run("cp", "--sparse=always", "s", "t")
    yield seen_by_another("t")


@scenario
def copies_within_the_kernel():
    write("a", os.urandom(1) * (3 * MIB))
    write("b", b"b" * MIB)
    mapping = mapped("b")
    with open("a", "rb", buffering=0) as a, open("b", "r+b", buffering=0) as b:
        yield os.copy_file_range(a.fileno(), b.fileno(), 2 * MIB, 0, MIB // 2) > 0, os.fstat(b.fileno()).st_size >= MIB
        yield sha256(read("b")[:MIB]) == sha256(mapping[:])
        left = os.fstat(a.fileno()).st_size
        os.lseek(b.fileno(), 0, os.SEEK_SET)
        while left:
            left -= os.sendfile(b.fileno(), a.fileno(), None, left)
    yield read("a") == read("b")


@scenario
def hints_and_holes():
    data = bytes(range(256)) * 4096 * 4
    write("f", data)
    with open("f", "r+b", buffering=0) as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        os.pwrite(f.fileno(), b"changed", 100)
        yield sha256(read("f"))
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
        run("fallocate", "-p", "-o", MIB, "-l", MIB, "f")
        yield sha256(read("f"))
        os.posix_fallocate(f.fileno(), 0, 5 * MIB)
        yield os.fstat(f.fileno()).st_size, seen_by_another("f")
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    yield seen_by_another("f")
    os.truncate("f", 12345)
    yield seen_by_another("f")


@scenario
def a_file_without_a_name():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o644)
    os.write(fd, b"unnamed" * 1000)
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_APPEND)
    os.write(again, b"end")
    yield os.pread(fd, 10, 6998), os.fstat(fd).st_size
    assert libc.linkat(AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, b"named", AT_SYMLINK_FOLLOW) == 0
    os.close(again)
    os.close(fd)
    yield seen_by_another("named")


@scenario
def size_and_time_as_another_process_sees_them():
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    times = []
    for i in range(20):
        os.pwrite(fd, b"x" * 100, i * 5000)
        st = apart(os.stat, "f")
        times.append(st.st_mtime_ns)
        yield st.st_size
        time.sleep(0.005)  # the clock of a file system goes by the kernel's tick
    yield times == sorted(times), len(set(times)) > 10
    before = os.stat("f").st_mtime_ns
    os.utime("f", ns=(10**18, 10**18))
    os.fsync(fd)
    os.close(fd)
    yield before != os.stat("f").st_mtime_ns == 10**18 == apart(os.stat, "f").st_mtime_ns


@scenario
def files_that_only_may_be_written():
    write("f", b"1234567890")
    fd = os.open("f", os.O_WRONLY)
    os.pwrite(fd, b"x", 5)  # a part of a page: who caches it must read the rest
    with refused(errno.EBADF):
        os.read(fd, 1)
    os.close(fd)
    os.chmod("f", 0o200)
    fd = os.open("f", os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"end")
    os.close(fd)
    yield read("f")


def play(function, where):
    where.mkdir()
    os.chdir(where)
    try:
        return list(function())
    finally:
        os.chdir("/")


@pytest.mark.parametrize("function", SCENARIOS, ids=lambda f: f.__name__)
def test_both_paths_give_the_bytes_of_the_file_system_below(house, path, function, monkeypatch):
    monkeypatch.setattr(os, "urandom", lambda n: b"\x5a" * n)
    draft = path.mint()
    expected = play(function, house.folder / "plain")
    got = play(function, draft / "played")
    for step, (e, g) in enumerate(zip(expected, got)):
        assert g == e, f"step {step}"
    assert len(got) == len(expected)
    write(draft / "model.pth", b"m")
    seen = {f.name: read(f) for f in (draft / "played").iterdir()}
    commit(draft)
    assert {f.name: read(f) for f in (draft / "played").iterdir()} == seen


# ---- commit ----


def test_a_commit_while_readers_hold_files_of_the_draft(path):
    draft = path.mint()
    data = os.urandom(3 * MIB + 7)
    (draft / "sub").mkdir()
    write(draft / "sub" / "model.pth", data)
    held = open(draft / "sub" / "model.pth", "rb", buffering=0)
    m = mapped(draft / "sub" / "model.pth")
    old = os.open(draft / "sub", os.O_RDONLY | os.O_DIRECTORY)
    commit(draft)
    assert sha256(held.read()) == sha256(m[:]) == sha256(data)
    again = os.open("model.pth", os.O_RDONLY, dir_fd=old)
    assert os.pread(again, 100, 5) == data[5:105]
    with refused(errno.EROFS):
        os.open("model.pth", os.O_RDWR, dir_fd=old)
    with refused(errno.EROFS):
        os.open(f"/proc/self/fd/{held.fileno()}", os.O_RDWR)
    held.close()
    os.close(again)
    assert read(draft / "sub" / "model.pth") == data
    again = os.open("model.pth", os.O_RDONLY, dir_fd=old)
    assert os.pread(again, 100, 3 * MIB - 50) == data[3 * MIB - 50:][:100]
    os.close(again)
    os.close(old)
    m.close()


def test_a_commit_right_after_the_last_close(path):
    for size in (0, 1, PAGE + 1, 5 * MIB):
        draft = path.mint()
        write(draft / "weights", bytes(size))
        if size > 1:
            os.utime(draft / "weights", ns=(5, 10**15))
        commit(draft)
        assert size <= 1 or os.stat(draft / "weights").st_mtime_ns == 10**15
        assert attr(draft / "weights", "sha256") == sha256(bytes(size))


def test_what_a_mapping_stores_is_committed_with_the_file(path):
    draft = path.mint()
    write(draft / "model.pth", bytes(4 * PAGE))
    m = mapped(draft / "model.pth", write_too=True)
    m[PAGE:PAGE + 4] = b"late"
    with refused(errno.EBUSY):
        commit(draft)
    m[2 * PAGE:2 * PAGE + 5] = b"later"
    m.close()
    commit(draft)
    expected = bytearray(4 * PAGE)
    expected[PAGE:PAGE + 4], expected[2 * PAGE:2 * PAGE + 5] = b"late", b"later"
    assert read(draft / "model.pth") == expected
    assert attr(draft / "model.pth", "sha256") == sha256(expected)


def test_a_hash_made_in_the_background_is_kept_through_names_and_modes_and_dropped_with_content(path):
    draft = path.mint()
    for name in "abcdef":
        write(draft / name, name.encode() * MIB)
    os.rename(draft / "a", draft / "model.pth")
    os.link(draft / "b", draft / "b2")
    os.unlink(draft / "b")
    os.chmod(draft / "c", 0o640)
    os.rename(draft / "d", draft / "e")
    os.truncate(draft / "f", 10)
    write(draft / "a", b"new a")
    commit(draft)
    wanted = {"model.pth": b"a" * MIB, "b2": b"b" * MIB, "c": b"c" * MIB, "e": b"d" * MIB, "f": b"f" * 10, "a": b"new a"}
    assert {name: (read(draft / name), attr(draft / name, "sha256")) for name in wanted} == {n: (d, sha256(d)) for n, d in wanted.items()}


def test_committed_files_refuse_every_way_to_write_by_root_too(path):
    v = path.committed(files={"model.pth": b"weights" * 1000})
    name = v / "model.pth"
    holder = os.open(name, os.O_RDONLY)
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_CREAT):
        with refused(errno.EROFS):
            os.open(name, flags)
        with refused(errno.EROFS):
            os.open(f"/proc/self/fd/{holder}", flags & ~os.O_CREAT)
    for size in (0, 7000, 8000):
        with refused(errno.EROFS):
            os.truncate(name, size)
    with refused(errno.EBADF, errno.EINVAL):
        os.ftruncate(holder, 0)
    with refused(errno.EBADF):
        os.posix_fallocate(holder, 0, 100)
    with refused(errno.EBADF):
        os.write(holder, b"x")
    with refused(errno.EACCES):
        mmap.mmap(holder, 100, prot=mmap.PROT_WRITE | mmap.PROT_READ, flags=mmap.MAP_SHARED)
    private = mmap.mmap(holder, 100, prot=mmap.PROT_WRITE | mmap.PROT_READ, flags=mmap.MAP_PRIVATE)
    private[0:3] = b"mine"[:3]
    private.close()
    flags = fcntl.fcntl(holder, fcntl.F_GETFL)
    fcntl.fcntl(holder, fcntl.F_SETFL, flags | os.O_RDWR | os.O_APPEND)
    with refused(errno.EBADF):
        os.pwrite(holder, b"x", 0)
    out = os.open("/proc/self/exe", os.O_RDONLY)
    with refused(errno.EBADF):
        os.copy_file_range(out, holder, 10)
    os.close(out)
    os.close(holder)
    for mode in (0o644, 0o4444):
        with refused(errno.EROFS):
            os.chmod(name, mode)
    assert read(name) == b"weights" * 1000


def test_the_same_blob_in_many_versions_is_read_through_each(path):
    versions = [path.committed(files={"model.pth": b"same" * 100000, "other": b"%d" % i}) for i in range(4)]
    opened = [open(v / "model.pth", "rb") for v in versions for _ in range(3)]
    maps = [mapped(v / "model.pth") for v in versions]
    assert len({sha256(f.read()) for f in opened} | {sha256(m[:]) for m in maps}) == 1
    for x in opened + maps:
        x.close()


SMALL = 128 * 1024  # src/fs/session.h: up to it a committed file is opened without an open file


@pytest.mark.parametrize("size", [0, 1, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL])
def test_committed_files_around_the_small_size_are_read_by_every_way(path, size):
    data = os.urandom(size)
    v = path.committed(files={"model.pth": b"m", "sample": data})
    name = v / "sample"
    for _ in range(3):
        assert read(name) == data and apart(read, name) == data
    fd = os.open(name, os.O_RDONLY)
    try:
        assert os.pread(fd, 100, max(0, size - 50)) == data[max(0, size - 50):] and os.pread(fd, 10, size) == b"" and os.pread(fd, 10, size + 10**6) == b""
        assert os.fstat(fd).st_size == size and os.lseek(fd, 0, os.SEEK_HOLE if size else os.SEEK_END) == size
        os.fsync(fd)
        if size:
            assert os.lseek(fd, 0, os.SEEK_DATA) == 0
            assert mapped(name)[:] == data
        for _ in range(2):
            with refused(errno.EROFS):
                os.open(name, os.O_RDWR)
            with refused(errno.EROFS):
                os.open(name, os.O_RDONLY | os.O_TRUNC)
        draft = path.mint()
        out = os.open(draft / "copy", os.O_WRONLY | os.O_CREAT)
        done = 0
        while done < size:
            n = os.copy_file_range(fd, out, size - done, done, done)
            assert n > 0
            done += n
        os.close(out)
        assert read(draft / "copy") == data
        run("cp", name, draft / "copied")
        assert read(draft / "copied") == data
    finally:
        os.close(fd)


def test_holes_of_a_small_committed_file_are_those_of_its_blob(path):
    v = path.mint()
    write(v / "model.pth", b"m")
    with open(v / "sparse", "wb") as f:
        f.truncate(16 * PAGE)
        os.pwrite(f.fileno(), b"x" * PAGE, 8 * PAGE)
    commit(v)
    with open(v / "sparse", "rb") as f:
        at = os.lseek(f.fileno(), 0, os.SEEK_DATA)
        assert at in (0, 8 * PAGE) and os.lseek(f.fileno(), 8 * PAGE, os.SEEK_DATA) == 8 * PAGE
        with refused(errno.ENXIO):
            os.lseek(f.fileno(), 16 * PAGE, os.SEEK_DATA)


def test_a_small_file_that_was_opened_and_then_loses_its_blob_says_so_when_it_is_read(path):
    v = path.committed(files={"model.pth": b"m", "sample": b"bytes of a sample"})
    os.close(os.open(v / "sample", os.O_RDONLY))
    digest = sha256(b"bytes of a sample")
    blob = path.store / "blobs" / digest[:2] / digest[2:]
    run("chattr", "-i", blob, check=False)
    os.unlink(blob)
    with refused(errno.EIO):
        read(v / "sample")
    assert digest in reason(v / "sample") and "sample" in reason(v / "sample")
    path.committed(files={"model.pth": b"m", "again": b"bytes of a sample"})
    assert read(v / "sample") == b"bytes of a sample", "the same content heals it"


def test_a_daemon_killed_just_when_a_commit_is_done_ends_and_frees_who_waited(house, drive):
    for _ in range(15):
        v = drive.mint()
        for k in range(30):
            write(v / f"part_{k}", b"%d" % k)
        told = len(drive.log_text())
        committer = house.start(f"chmod a-w {v}")
        wait_until(lambda: "committed" in drive.log_text()[told:], what="the commit")
        drive.kill()
        committer.wait(20)
        drive.mount()
        assert attr(v, "state") == "committed"


# ---- modes ----


def test_set_id_bits_of_files_are_refused_with_a_reason(path):
    draft = path.mint()
    write(draft / "f")
    for bits in (stat.S_ISUID, stat.S_ISGID):
        with refused(errno.EPERM):
            os.chmod(draft / "f", 0o755 | bits)
        assert "set-user-id" in reason(draft / "f")
        with refused(errno.EPERM):
            os.open(draft / "g", os.O_CREAT | os.O_WRONLY, 0o755 | bits)
        with refused(errno.EPERM):
            os.mknod(draft / "g", stat.S_IFREG | 0o755 | bits)
    assert "set-user-id" in reason(draft)
    assert stat.S_IMODE(os.stat(draft / "f").st_mode) == 0o644 and not (draft / "g").exists()
    (draft / "d").mkdir()
    os.chmod(draft / "d", 0o2775)
    assert stat.S_IMODE(os.stat(draft / "d").st_mode) == 0o2775
    os.chown(draft / "d", -1, USER)
    write(draft / "d" / "f")
    assert os.stat(draft / "d" / "f").st_gid == USER


# ---- two mounts ----


@pytest.mark.parametrize("reader_options", PATHS, ids=["reader_fast", "reader_by_the_daemon"])
def test_another_mount_reads_a_draft_as_it_grows_and_goes_on_with_it(house, path, reader_options):
    other = house.mount(path.store, at="other", options=reader_options)
    draft = path.mint()
    there = other.at / draft.relative_to(path.at)
    write(draft / "model.pth", b"1" * 1000)
    assert read(there / "model.pth") == b"1" * 1000 and os.stat(there / "model.pth").st_size == 1000
    held = open(there / "model.pth", "rb", buffering=0)
    for size in (5000, 2 * MIB, 300):
        write(draft / "model.pth", bytes([size % 256]) * size)
        wait_until(lambda: os.stat(there / "model.pth").st_size == size, what=f"the other mount sees {size} bytes")
        assert read(there / "model.pth") == bytes([size % 256]) * size
        assert os.pread(held.fileno(), 4 * MIB, 0) == bytes([size % 256]) * size
        assert [os.stat(e.path).st_size for e in os.scandir(there)] == [size]
        with refused(errno.EROFS):
            open(there / "model.pth", "ab")
    held.close()
    with open(draft / "model.pth", "ab") as f:
        f.write(b"the last of the first")
    path.kill()
    wait_until(lambda: os.stat(there / "model.pth").st_size == 321, what="the other mount sees the last write")
    with open(there / "model.pth", "ab") as f:
        f.write(b", and of the second")
    assert read(there / "model.pth") == bytes([300 % 256]) * 300 + b"the last of the first, and of the second"
    assert os.stat(there / "model.pth").st_size == 340
    subprocess.run(["umount", "-l", str(path.at)])
    commit(there)
    assert os.stat(there / "model.pth").st_size == 340


# ---- which path, and why ----


def test_the_path_is_said_with_its_reason(path):
    said = attr(path.at, "datapath")
    if path.options:
        assert said.startswith("daemon: ") and "nopassthrough" in said
    elif kernel_at_least(6, 9):
        assert said == "passthrough"
    assert f"data path: {'by the ' if said.startswith('daemon') else ''}{said}" in path.log_text()


def test_an_ordinary_user_gets_the_daemon_and_the_reason(house):
    helper = os.stat(run("sh", "-c", "command -v fusermount3").stdout.strip())
    if not helper.st_mode & stat.S_ISUID or not apart(os.access, binary(), os.X_OK, uid=USER):
        pytest.skip("an ordinary user cannot mount here")
    top = house.folder / "user"
    top.mkdir()
    os.chown(top, USER, USER)

    old = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    if old & 0o006 != 0o006:
        os.chmod("/dev/fuse", 0o666)
        house.undo.append(lambda: os.chmod("/dev/fuse", old))
    apart(lambda: run(binary(), "init", top / "store").returncode, uid=USER)
    drive = house.mount(top / "store", at="user/mnt", uid=USER)
    assert apart(attr, drive.at, "datapath", uid=USER) == "daemon: the daemon lacks CAP_SYS_ADMIN"

    def work():
        model = drive.model()
        os.mkdir(model / "next")
        v = model / "v1"
        write(v / "f", b"x" * MIB)
        fd = os.open(v / "f", os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"y")
        os.close(fd)
        commit(v)
        return read(v / "f")

    assert apart(work, uid=USER) == b"x" * MIB + b"y"


def test_a_store_on_overlayfs_falls_back_with_the_reason(house):
    base = house.folder / "overlay"
    base.mkdir()
    run("mount", "-t", "tmpfs", "none", base)
    house.undo.append(lambda: subprocess.run(["umount", "-l", base]))
    for name in "lower", "upper", "work", "at":
        (base / name).mkdir()
    made = run("mount", "-t", "overlay", "none", "-o", f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work", base / "at", check=False)
    if made.returncode != 0:
        pytest.skip(f"no overlayfs: {made.stderr.strip()}")
    mintfs("init", base / "at" / "store")
    drive = house.mount(base / "at" / "store")
    assert attr(drive.at, "datapath") == "daemon: the store lies on a stacked file system"
    v = drive.committed(files={"model.pth": b"o" * MIB})
    assert read(v / "model.pth") == b"o" * MIB
    drive.unmount()
    run("umount", "-l", base / "at")


def test_a_read_only_mount_reads_by_both_paths(house, store, path):
    v = path.committed(files={"model.pth": b"w" * MIB})
    draft = path.mint()
    write(draft / "f", b"draft")
    other = house.mount(store, at="ro", options=("ro",) + path.options)
    assert read(other.at / v.relative_to(path.at) / "model.pth") == b"w" * MIB
    assert read(other.at / draft.relative_to(path.at) / "f") == b"draft"
    with refused(errno.EROFS):
        open(other.at / draft.relative_to(path.at) / "f", "r+b")


# ---- interrupted opens ----


def descriptors(drive):
    """Of files in drafts, with or without a name."""
    seen = []
    for fd in os.listdir(f"/proc/{drive.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            seen.append(os.readlink(f"/proc/{drive.pid}/fd/{fd}"))
    return len([s for s in seen if s.startswith(f"{drive.store}/drafts/")])


def open_for_ever(folder, k):
    i = 0
    while True:
        i += 1
        name = f"{folder}/{(i + k) % 7}"
        with contextlib.suppress(OSError):
            fd = os.open(name, os.O_RDWR | os.O_CREAT if i % 3 else os.O_RDONLY)
            os.pread(fd, 10, 0)
            os.close(fd)
            if i % 5 == 0:
                os.unlink(name)
            if i % 11 == 0:
                os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR))


def test_processes_killed_while_they_open_leave_nothing_behind(path):
    draft = path.mint()
    before = descriptors(path)
    for turn in range(60):
        children = []
        for k in range(4):
            pid = os.fork()
            if pid == 0:
                open_for_ever(str(draft), k)
            children.append(pid)
        time.sleep(0.002 * (turn % 8))
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)
    wait_until(lambda: descriptors(path) <= before, 10, "the daemon has closed all")
    for name in os.listdir(draft):
        os.unlink(draft / name)
    write(draft / "model.pth", b"after")
    with open(draft / "model.pth", "rb") as reader, open(draft / "model.pth", "ab") as writer:
        writer.write(b"wards")
        writer.flush()
        assert reader.read() == b"afterwards"
    commit(draft)


def test_many_threads_open_and_close_the_same_files(path):
    draft = path.mint()
    names = [draft / str(i) for i in range(3)]
    for n in names:
        write(n, b"0" * 100)
    wrong = []

    def work(k):
        try:
            for i in range(400):
                n = names[(i * 7 + k) % 3]
                fd = os.open(n, os.O_RDWR if (i + k) % 2 else os.O_RDONLY)
                if len(os.pread(fd, 200, 0)) != 100:
                    wrong.append("short")
                if (i + k) % 2:
                    os.pwrite(fd, b"%d" % k, k)
                os.close(fd)
        except OSError as e:
            wrong.append(repr(e))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
