"""File work in a draft: plain POSIX, one call at a time, beside what ext4 does."""
import ctypes
import errno
import fcntl
import mmap
import os
import socket
import stat
import threading

import pytest

from drive import apart, commit, libc, read, reason, refused, run, sh, snapshot, state, try_lock, wait_until, write

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW = -100, 0x1000, 0x400
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


def renameat2(a, b, flags):
    if libc.renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), flags) != 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


def fallocate(fd, mode, offset, length):
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if libc.fallocate(fd, mode, offset, length) != 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


# ---- bytes ----


def test_random_writes_land_where_they_should(draft):
    with open(draft / "f", "w+b", buffering=0) as f:
        os.pwrite(f.fileno(), b"end", 100000)
        os.pwrite(f.fileno(), b"start", 0)
        os.pwritev(f.fileno(), [b"mid", b"dle"], 50000)
        assert os.pread(f.fileno(), 6, 50000) == b"middle" and os.pread(f.fileno(), 3, 70000) == b"\0\0\0"
    data = read(draft / "f")
    assert len(data) == 100003 and data[:5] == b"start" and data[-3:] == b"end" and data.count(0) == 100003 - 14


def test_truncate_cuts_and_extends_with_zeros(draft):
    write(draft / "f", b"abcdef")
    os.truncate(draft / "f", 3)
    os.truncate(draft / "f", 5)
    assert read(draft / "f") == b"abc\0\0"
    with open(draft / "f", "r+b") as f:
        f.truncate(0)
        assert os.fstat(f.fileno()).st_size == 0
    fd = os.open(draft / "f", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"new")
    os.close(fd)
    assert read(draft / "f") == b"new"


APPENDER = """
import os, sys
path, mark, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
sys.stdin.readline()
fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
for i in range(n):
    os.write(fd, ("%s %d %s\\n" % (mark, i, mark * (i % 97))).encode())
"""


def test_two_processes_append_and_no_line_is_lost_or_torn(house, draft):
    import sys
    write(house.folder / "append.py", APPENDER)
    together = [house.start(f"exec {sys.executable} -I -S {house.folder}/append.py {draft}/log {mark} 1500") for mark in "AB"]
    for p in together:
        p.stdin.write("go\n")
        p.stdin.flush()
    for p in together:
        assert p.wait(40) == 0, p.stderr.read()
    lines = read(draft / "log").decode().splitlines()
    assert len(lines) == 3000
    for mark in "AB":
        assert [x for x in lines if x[0] == mark] == [f"{mark} {i} {mark * (i % 97)}" for i in range(1500)]


def test_append_goes_to_the_end_whatever_the_offset_says(draft):
    write(draft / "f", b"12345")
    with open(draft / "f", "ab", buffering=0) as f, open(draft / "f", "r+b", buffering=0) as g:
        g.seek(0, 2)
        g.write(b"678")
        f.seek(0)
        f.write(b"9")
    assert read(draft / "f") == b"123456789"
    with open(draft / "f", "r+b", buffering=0) as f:
        fcntl.fcntl(f, fcntl.F_SETFL, os.O_APPEND)
        f.write(b"0")
        fcntl.fcntl(f, fcntl.F_SETFL, 0)
        os.pwrite(f.fileno(), b"X", 0)
    assert read(draft / "f") == b"X234567890"


def test_a_shared_mapping_reads_what_is_written_and_writes_what_is_read(house, draft):
    write(draft / "f", b"." * 20000)
    other = house.worker()
    other.do("f = open(p, 'r+b')", p=draft / "f")
    other.do("m = mmap.mmap(f.fileno(), 20000)")
    with open(draft / "f", "r+b") as f, mmap.mmap(f.fileno(), 20000) as m:
        os.pwrite(f.fileno(), b"written", 10)
        assert m[10:17] == b"written" and other.do("m[10:17]") == b"written"
        m[9000:9004] = b"mmap"
        assert os.pread(f.fileno(), 4, 9000) == b"mmap" and other.do("m[9000:9004]") == b"mmap"
        m.flush()
        other.do("m[19999:] = b'!'")
        assert m[19999:] == b"!"
    other.do("m.flush()")
    other.do("m.close()")
    other.do("f.close()")
    data = read(draft / "f")
    assert data[10:17] == b"written" and data[9000:9004] == b"mmap" and data[-1:] == b"!"
    commit(draft)
    assert read(draft / "f") == data


def test_sparse_files_stay_sparse_also_after_the_commit(draft):
    with open(draft / "model.pth", "wb") as f:
        f.truncate(64 << 20)
        os.pwrite(f.fileno(), b"x" * 4096, 32 << 20)
    st = os.stat(draft / "model.pth")
    assert st.st_size == 64 << 20 and st.st_blocks * 512 <= 1 << 20
    with open(draft / "model.pth", "rb") as f:
        assert os.lseek(f.fileno(), 0, os.SEEK_DATA) == 32 << 20
        assert os.lseek(f.fileno(), 32 << 20, os.SEEK_HOLE) == (32 << 20) + 4096
    commit(draft)
    st = os.stat(draft / "model.pth")
    assert st.st_size == 64 << 20 and 8 <= st.st_blocks and st.st_blocks * 512 <= 1 << 20


def test_fallocate_reserves_punches_and_zeroes(draft):
    with open(draft / "f", "w+b", buffering=0) as f:
        fallocate(f.fileno(), 0, 0, 100000)
        st = os.fstat(f.fileno())
        assert st.st_size == 100000 and st.st_blocks * 512 >= 100000
        f.write(b"y" * 100000)
        fallocate(f.fileno(), KEEP_SIZE, 100000, 50000)
        assert os.fstat(f.fileno()).st_size == 100000
        fallocate(f.fileno(), PUNCH_HOLE | KEEP_SIZE, 8192, 8192)
        fallocate(f.fileno(), ZERO_RANGE, 40960, 4096)
    data = read(draft / "f")
    assert data[8192:16384] == b"\0" * 8192 and data[40960:45056] == b"\0" * 4096 and data.count(b"y") == 100000 - 8192 - 4096


def test_copy_file_range_and_sendfile_copy(draft):
    data = os.urandom(300000)
    write(draft / "a", data)
    with open(draft / "a", "rb") as a, open(draft / "b", "wb") as b, open(draft / "c", "wb") as c:
        done = 0
        while done < len(data):
            done += os.copy_file_range(a.fileno(), b.fileno(), len(data) - done, done, done)
        done = 0
        while done < len(data):
            done += os.sendfile(c.fileno(), a.fileno(), done, len(data) - done)
    assert read(draft / "b") == data and read(draft / "c") == data


def test_o_direct_and_o_sync_files_hold_what_was_written(draft):
    buf = mmap.mmap(-1, 8192)
    buf[:] = b"d" * 8192
    fd = os.open(draft / "direct", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    os.write(fd, buf)
    os.close(fd)
    fd = os.open(draft / "sync", os.O_CREAT | os.O_WRONLY | os.O_SYNC)
    os.write(fd, b"s" * 100)
    os.close(fd)
    assert read(draft / "direct") == b"d" * 8192 and read(draft / "sync") == b"s" * 100


def test_fsync_of_files_and_directories_succeeds(draft):
    with open(draft / "f", "wb") as f:
        f.write(b"x")
        f.flush()
        os.fsync(f.fileno())
        os.fdatasync(f.fileno())
    fd = os.open(draft, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    sh("sync -f .", cwd=draft)


# ---- names ----


def test_o_tmpfile_gets_its_name_by_linkat(draft):
    fd = os.open(draft, os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b"no name yet")
    assert os.listdir(draft) == [] and os.fstat(fd).st_nlink == 0
    assert libc.linkat(AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, os.fsencode(draft / "named"), AT_SYMLINK_FOLLOW) == 0
    os.write(fd, b", but now")
    os.close(fd)
    assert read(draft / "named") == b"no name yet, but now" and stat.S_IMODE(os.stat(draft / "named").st_mode) == 0o640
    commit(draft)
    assert read(draft / "named") == b"no name yet, but now"


def test_an_unlinked_file_lives_on_for_who_has_it_open(draft):
    f = open(draft / "f", "w+b", buffering=0)
    f.write(b"abc")
    os.unlink(draft / "f")
    f.write(b"def")
    f.seek(0)
    assert f.read() == b"abcdef" and os.fstat(f.fileno()).st_nlink == 0 and os.listdir(draft) == []
    os.fchmod(f.fileno(), 0o600)
    os.ftruncate(f.fileno(), 2)
    assert os.fstat(f.fileno()).st_size == 2 and stat.S_IMODE(os.fstat(f.fileno()).st_mode) == 0o600
    write(draft / "f", b"another")
    f.close()
    assert read(draft / "f") == b"another"


def test_save_by_temporary_file_and_rename_replaces_the_old_one(draft):
    write(draft / "model.safetensors", b"old")
    reader = open(draft / "model.safetensors", "rb")
    for n in range(20):
        write(draft / "model.safetensors.tmp", b"new %d" % n)
        os.replace(draft / "model.safetensors.tmp", draft / "model.safetensors")
        os.chmod(draft / "model.safetensors", 0o644)
        assert read(draft / "model.safetensors") == b"new %d" % n
    assert reader.read() == b"old" and os.listdir(draft) == ["model.safetensors"]
    reader.close()


def test_rename_noreplace_and_exchange(draft):
    write(draft / "a", b"a")
    write(draft / "b", b"b")
    os.makedirs(draft / "dir/sub")
    with refused(errno.EEXIST):
        renameat2(draft / "a", draft / "b", RENAME_NOREPLACE)
    renameat2(draft / "a", draft / "c", RENAME_NOREPLACE)
    renameat2(draft / "b", draft / "c", RENAME_EXCHANGE)
    assert (read(draft / "b"), read(draft / "c")) == (b"a", b"b")
    renameat2(draft / "b", draft / "dir", RENAME_EXCHANGE)
    assert read(draft / "dir") == b"a" and os.listdir(draft / "b") == ["sub"]
    with refused(errno.ENOENT):
        renameat2(draft / "none", draft / "b", RENAME_EXCHANGE)
    with refused(errno.EINVAL):
        renameat2(draft / "b", draft / "c", RENAME_EXCHANGE | RENAME_NOREPLACE)


def test_rename_refuses_as_ext4_does(draft):
    os.makedirs(draft / "dir/sub")
    os.makedirs(draft / "full/x")
    os.mkdir(draft / "empty")
    write(draft / "file", b"")
    for a, b, number in (("dir", "dir/sub/below", errno.EINVAL), ("dir", "full", errno.ENOTEMPTY), ("file", "dir", errno.EISDIR), ("dir", "file", errno.ENOTDIR),
                         ("none", "x", errno.ENOENT)):
        with refused(number):
            os.rename(draft / a, draft / b)
    os.rename(draft / "dir", draft / "empty")
    assert os.listdir(draft / "empty") == ["sub"]


def test_moving_a_directory_moves_what_is_in_it_also_for_open_files(draft):
    os.makedirs(draft / "a/b/c")
    f = open(draft / "a/b/c/f", "w", buffering=1)
    f.write("one\n")
    os.rename(draft / "a/b", draft / "moved")
    f.write("two\n")
    assert os.stat(draft / "moved/c/f").st_ino == os.fstat(f.fileno()).st_ino
    f.close()
    assert read(draft / "moved/c/f") == b"one\ntwo\n" and os.listdir(draft / "a") == []


def test_hard_links_are_one_file(draft):
    write(draft / "a", b"x")
    os.mkdir(draft / "d")
    os.link(draft / "a", draft / "d/b")
    assert os.stat(draft / "a").st_ino == os.stat(draft / "d/b").st_ino and os.stat(draft / "a").st_nlink == 2
    with open(draft / "d/b", "ab") as f:
        f.write(b"y")
    assert read(draft / "a") == b"xy"
    os.unlink(draft / "a")
    assert os.stat(draft / "d/b").st_nlink == 1 and read(draft / "d/b") == b"xy"
    with refused(errno.EPERM):
        os.link(draft / "d", draft / "e")


def test_symbolic_links_say_what_they_were_told(draft):
    for n, target in enumerate(["f", "../../../../etc/passwd", "/nowhere", "x" * 3000, "名字", b"\xff\xfe", "."]):
        os.symlink(target, os.fsencode(draft) + b"/l%d" % n if isinstance(target, bytes) else draft / f"l{n}")
        assert os.readlink(os.fsencode(draft) + b"/l%d" % n) == os.fsencode(target)
    assert os.lstat(draft / "l3").st_size == 3000
    write(draft / "f", b"through")
    assert read(draft / "l0") == b"through"
    commit(draft)
    assert read(draft / "l0") == b"through" and os.readlink(draft / "l3") == "x" * 3000 and os.readlink(os.fsencode(draft) + b"/l5") == b"\xff\xfe"


def test_names_of_255_bytes_and_of_any_bytes_are_kept(draft):
    names = [b"n" * 255, b"\xff\xfe\x80", "模型".encode(), b"new\nline", b" blank ", b"-rf", b"latest", b"v1", b"quote'\"", b".hidden", b"\x01"]
    top = os.fsencode(draft)
    for n in names:
        with open(top + b"/" + n, "wb") as f:
            f.write(n)
        os.mkdir(top + b"/d" + n[:254])
    with refused(errno.ENAMETOOLONG):
        open(top + b"/" + b"n" * 256, "wb")
    listed = os.listdir(top)
    assert sorted(listed) == sorted(names + [b"d" + n[:254] for n in names])
    commit(draft)
    for n in names:
        with open(top + b"/" + n, "rb") as f:
            assert f.read() == n
    assert sorted(os.listdir(top)) == sorted(listed + [b"metadata.json"])


def make_deep(top, depth):
    os.chdir(top)
    for _ in range(depth):
        os.mkdir("d" * 20)
        os.chdir("d" * 20)
    write("leaf", b"deep down")
    os.chdir("/")


def test_deep_directories_are_committed_and_read(draft):
    make_deep(draft, 150)
    commit(draft)
    assert len(sh("find . -type d", cwd=draft).stdout.split()) == 151
    assert sh("find . -name leaf -exec cat {} +", cwd=draft).stdout == "deep down"


def test_a_path_that_no_program_could_name_is_refused_with_a_reason(draft):
    make_deep(draft, 200)
    with refused(errno.ENAMETOOLONG):
        commit(draft)
    assert state(draft) == "draft" and "4095" in reason(draft)


def test_rm_r_of_a_deep_draft_removes_all_of_it(drive, draft):
    make_deep(draft, 200)
    run("rm", "-r", draft)
    assert not os.path.exists(draft)
    wait_until(lambda: not os.listdir(drive.store / "drafts"), what="the tree is gone from the store")


@pytest.mark.seconds(120)
def test_10000_small_files_are_listed_whole_and_committed(drive, draft):
    for d in range(10):
        os.mkdir(draft / f"d{d}")
        here = os.open(draft / f"d{d}", os.O_RDONLY)
        for n in range(1000):
            fd = os.open(f"f{n}", os.O_CREAT | os.O_WRONLY, dir_fd=here)
            os.write(fd, b"%d" % (n % 100))
            os.close(fd)
        os.close(here)
    for d in range(10):
        assert len(set(os.listdir(draft / f"d{d}"))) == 1000
    commit(draft)
    assert len(drive.blobs()) == 100 + 1
    for d in range(10):
        assert sorted(os.listdir(draft / f"d{d}")) == sorted(f"f{n}" for n in range(1000))
    assert all(read(draft / f"d7/f{n}") == b"%d" % (n % 100) for n in range(0, 1000, 37))


def test_a_listing_goes_on_while_names_are_removed(draft):
    for n in range(3000):
        os.close(os.open(draft / f"f{n}", os.O_CREAT | os.O_WRONLY))
    seen = []
    with os.scandir(draft) as it:
        for e in it:
            seen.append(e.name)
            os.unlink(e.path)
    assert sorted(seen) == sorted(f"f{n}" for n in range(3000)) and os.listdir(draft) == []


def test_rmdir_of_a_full_directory_is_enotempty_and_of_a_draft_too(draft):
    os.makedirs(draft / "d/e")
    for d in (draft / "d", draft):
        with refused(errno.ENOTEMPTY):
            os.rmdir(d)
    os.rmdir(draft / "d/e")
    os.rmdir(draft / "d")
    os.rmdir(draft)
    assert not os.path.exists(draft)


# ---- attributes ----


def test_modes_and_umask(draft):
    def make():
        os.close(os.open(draft / "f", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(draft / "d", 0o777)

    apart(make, umask=0o027)
    assert stat.S_IMODE(os.stat(draft / "f").st_mode) == 0o640 and stat.S_IMODE(os.stat(draft / "d").st_mode) == 0o750
    for mode in (0o000, 0o777, 0o444, 0o1777):
        os.chmod(draft / "d", mode)
        assert stat.S_IMODE(os.stat(draft / "d").st_mode) == mode


def test_times_are_kept_to_the_nanosecond(draft):
    write(draft / "f", b"x")
    os.utime(draft / "f", ns=(1_000_000_000_123_456_789, 1_500_000_000_987_654_321))
    assert os.stat(draft / "f").st_mtime_ns == 1_500_000_000_987_654_321 and os.stat(draft / "f").st_atime_ns == 1_000_000_000_123_456_789
    os.symlink("f", draft / "l")
    os.utime(draft / "l", ns=(5, 7), follow_symlinks=False)
    assert os.lstat(draft / "l").st_mtime_ns == 7 and os.stat(draft / "f").st_mtime_ns == 1_500_000_000_987_654_321
    before = os.stat(draft / "f").st_ctime_ns
    os.chmod(draft / "f", 0o600)
    assert os.stat(draft / "f").st_ctime_ns > before
    with open(draft / "f", "ab") as f:
        f.write(b"y")
    assert os.stat(draft / "f").st_mtime_ns > 1_600_000_000_000_000_000
    commit(draft)
    assert os.lstat(draft / "l").st_mtime_ns == 7


def test_chown_and_setgid_directories(draft):
    os.mkdir(draft / "d")
    os.chown(draft / "d", 4001, 4002)
    os.chmod(draft / "d", 0o2775)
    write(draft / "d/f", b"x")
    os.mkdir(draft / "d/sub")
    assert (os.stat(draft / "d/f").st_uid, os.stat(draft / "d/f").st_gid) == (0, 4002)
    assert os.stat(draft / "d/sub").st_gid == 4002 and os.stat(draft / "d/sub").st_mode & stat.S_ISGID
    os.chown(draft / "d/f", 4003, -1)
    assert (os.stat(draft / "d/f").st_uid, os.stat(draft / "d/f").st_gid) == (4003, 4002)


def test_set_user_id_bits_are_never_kept(draft):
    """The drive is nosuid: the bits are refused (EPERM) or dropped."""
    def tried(change):
        try:
            change()
        except OSError as e:
            assert e.errno == errno.EPERM

    write(draft / "f", b"x")
    for mode in (0o4755, 0o6755, 0o2755):
        tried(lambda: os.chmod(draft / "f", mode))
        assert not os.stat(draft / "f").st_mode & (stat.S_ISUID | stat.S_ISGID)
    tried(lambda: os.close(os.open(draft / "g", os.O_CREAT | os.O_WRONLY, 0o4755)))
    tried(lambda: os.mknod(draft / "h", stat.S_IFREG | 0o4755))
    for name in os.listdir(draft):
        assert not os.stat(draft / name).st_mode & (stat.S_ISUID | stat.S_ISGID)


def test_special_files_are_refused(draft):
    for make in (lambda: os.mkfifo(draft / "s"), lambda: os.mknod(draft / "s", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
                 lambda: os.mknod(draft / "s", stat.S_IFBLK | 0o600, os.makedev(7, 0)), lambda: os.mknod(draft / "s", stat.S_IFSOCK | 0o600)):
        with refused(errno.EPERM):
            make()
    os.chdir(draft)
    with socket.socket(socket.AF_UNIX) as s, refused(errno.EPERM):
        s.bind("s")
    os.chdir("/")
    assert os.listdir(draft) == []
    os.mknod(draft / "plain", stat.S_IFREG | 0o640)
    assert os.stat(draft / "plain").st_size == 0


def test_attributes_of_users_are_refused_and_cp_goes_on_without(house, draft):
    write(draft / "f", b"x")
    for name in ("user.note", "security.note", "trusted.note"):
        with refused(errno.EOPNOTSUPP):
            os.setxattr(draft / "f", name, b"v")
    write(house.folder / "with", b"data")
    os.setxattr(house.folder / "with", "user.note", b"v")
    run("cp", "-a", house.folder / "with", draft / "with")
    assert read(draft / "with") == b"data" and os.getxattr(draft / "f", "user.mintfs.state") == b"draft"


# ---- locks ----


def test_fcntl_locks_hold_between_processes(house, draft):
    write(draft / "db", b"x" * 100)
    holder = house.worker()
    holder.do("f = open(p, 'r+b')", p=draft / "db")
    holder.do("fcntl.lockf(f, fcntl.LOCK_EX)")
    assert not try_lock(draft / "db")
    holder.do("fcntl.lockf(f, fcntl.LOCK_UN)")
    assert try_lock(draft / "db")
    holder.do("fcntl.lockf(f, fcntl.LOCK_EX, 10, 50)")
    assert not try_lock(draft / "db")
    with open(draft / "db", "r+b") as f:
        fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)
    holder.kill()
    wait_until(lambda: try_lock(draft / "db"))


def test_flock_holds_between_processes_and_waits(house, draft):
    write(draft / "lock", b"")
    holder = house.worker()
    holder.do("f = open(p, 'r+b')", p=draft / "lock")
    holder.do("fcntl.flock(f, fcntl.LOCK_EX)")
    with open(draft / "lock", "r+b") as f:
        with refused(errno.EWOULDBLOCK):
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        got = threading.Event()
        waiter = threading.Thread(target=lambda: (fcntl.flock(f, fcntl.LOCK_EX), got.set()))
        waiter.start()
        assert not got.is_set()
        holder.do("fcntl.flock(f, fcntl.LOCK_UN)")
        assert got.wait(10)
        waiter.join()
    holder.do("f.close()")


# ---- through all of it ----


def test_a_tree_is_what_it_is_after_a_remount(drive, draft):
    os.makedirs(draft / "a/b")
    write(draft / "a/b/f", b"x" * 5000)
    os.link(draft / "a/b/f", draft / "hard")
    os.symlink("hard", draft / "soft")
    os.chmod(draft / "a", 0o700)
    os.utime(draft / "a/b/f", ns=(1, 2))
    before = snapshot(draft)
    drive.remount()
    assert snapshot(draft) == before
    write(draft / "a/b/g", b"more")
    commit(draft)
    assert read(draft / "hard") == b"x" * 5000 and read(draft / "a/b/g") == b"more"


def test_threads_of_one_process_write_and_list_at_once(draft):
    errors = []

    def work(n):
        try:
            for i in range(60):
                write(draft / f"t{n}.{i}", b"%d" % i * 100)
                os.rename(draft / f"t{n}.{i}", draft / f"r{n}.{i}")
                os.listdir(draft)
                if i % 3 == 0:
                    os.unlink(draft / f"r{n}.{i}")
        except OSError as e:
            errors.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == [] and len(os.listdir(draft)) == 6 * 40
