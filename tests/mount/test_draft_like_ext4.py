"""A draft is a plain directory tree. Each scenario is played twice, in a directory of the store's file system and in a draft, and must tell the same."""
import ctypes
import errno
import fcntl
import mmap
import os
import random
import stat
import threading

import pytest

from drive import apart, libc, read, run, sh, snapshot, write

AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400
NOREPLACE, EXCHANGE = 1, 2
USER = 1000
SCENARIOS = []


def scenario(function):
    SCENARIOS.append(function)
    return function


def call(function, *args):
    if function(*args) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def renameat2(old, new, flags):
    call(libc.renameat2, AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags)


def link_fd(fd, name):
    call(libc.linkat, AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, os.fsencode(name), AT_SYMLINK_FOLLOW)


def tells(function, *args, **kw):
    """What a call says: its value, or the name of its error."""
    try:
        return function(*args, **kw)
    except OSError as e:
        return errno.errorcode[e.errno]


def looks(what):
    st = os.fstat(what) if isinstance(what, int) else os.lstat(what)
    return stat.filemode(st.st_mode), st.st_nlink, st.st_uid, st.st_gid, 0 if stat.S_ISDIR(st.st_mode) else st.st_size


def create(name, flags=os.O_RDWR, mode=0o666, **kw):
    return os.open(name, os.O_CREAT | flags, mode, **kw)


# ---- scenarios: each runs in an empty directory ----


@scenario
def writing_and_truncating():
    write("a", b"hello")
    yield looks("a"), read("a")
    with open("a", "r+b") as f:
        f.seek(2)
        f.write(b"XX")
        f.seek(100)
        f.write(b"end")
    yield read("a")
    for size in 3, 10:
        os.truncate("a", size)
        yield read("a")
    fd = create("b", os.O_EXCL | os.O_WRONLY, 0o640)
    yield tells(os.read, fd, 1), os.write(fd, b"x" * 5000), looks(fd)
    os.close(fd)
    fd = os.open("b", os.O_RDONLY | os.O_TRUNC)
    yield looks(fd), tells(os.write, fd, b"x")
    os.close(fd)
    fd = create("c", os.O_RDONLY, 0o600)
    yield os.read(fd, 3), looks("c")
    os.close(fd)
    yield tells(os.open, "nothing", os.O_RDONLY), tells(create, "a", os.O_EXCL), tells(os.truncate, "nothing", 0)


@scenario
def modes_under_every_umask():
    for umask in 0, 0o22, 0o77:
        old = os.umask(umask)
        for mode in 0o777, 0o666, 0o444, 0, 0o1777:
            name = f"{umask:o}_{mode:o}"
            os.close(create("f" + name, mode=mode))
            os.mkdir("d" + name, mode)
            os.mknod("n" + name, mode | stat.S_IFREG)
            yield looks("f" + name), looks("d" + name), looks("n" + name)
        os.umask(old)
    for mode in 0o644, 0, 0o1755:
        os.chmod("f0_777", mode)
        os.chmod("d0_777", mode)
        yield looks("f0_777"), looks("d0_777")
    os.chown("f0_666", 5, 6)
    os.chown("f0_666", -1, 7)
    os.symlink("x", "link")
    os.lchown("link", 5, 6)
    yield looks("f0_666"), looks("link")


def make_one_of_each(top):
    write(f"{top}/file", b"x")
    os.mkdir(f"{top}/dir")
    os.symlink("x", f"{top}/link")
    fd = os.open(top, os.O_TMPFILE | os.O_RDWR, 0o660)
    link_fd(fd, f"{top}/tmpfile")
    os.close(fd)


@scenario
def the_group_of_a_setgid_directory_is_passed_on():
    for user in 0, USER:
        top = f"group{user}"
        os.mkdir(top)
        os.chown(top, user, 1234)
        os.chmod(top, 0o2777)
        apart(make_one_of_each, top, uid=user, umask=0o2)
        yield looks(top), snapshot(top, times=False)


def try_everything():
    return [
        tells(create, "open/f", mode=0o600) != "EACCES", tells(create, "closed/g"), tells(os.unlink, "closed/f"), tells(os.unlink, "sticky/theirs"),
        tells(os.rename, "sticky/theirs", "sticky/x"), tells(read, "secret"), tells(os.chmod, "secret", 0o666), tells(os.chown, "open/f", 0, 0),
        tells(os.chmod, "open/f", 0o640), tells(os.mkdir, "open/d"), tells(os.link, "open/f", "open/hard"), tells(os.utime, "secret"),
        tells(os.utime, "open/f", (5, 6)), tells(os.truncate, "secret", 0), tells(os.rename, "open/f", "closed/f2"), tells(os.rmdir, "closed"), os.listdir("closed"),
    ]


@scenario
def another_user_may_do_what_permissions_allow():
    for name, mode in ("open", 0o777), ("closed", 0o755), ("sticky", 0o1777):
        os.mkdir(name)
        os.chmod(name, mode)
    for name, mode in ("closed/f", 0o644), ("sticky/theirs", 0o666), ("secret", 0o600):
        write(name, b"x")
        os.chmod(name, mode)
    yield apart(try_everything, uid=USER)
    yield snapshot(".", times=False)


@scenario
def directories_and_odd_names():
    os.makedirs("a/b/c")
    yield looks("a"), looks("a/b"), tells(os.rmdir, "a"), tells(os.mkdir, "a"), tells(os.unlink, "a")
    write("f")
    yield tells(os.rmdir, "f"), tells(os.mkdir, "f/x"), tells(os.listdir, "f"), tells(os.rmdir, "nothing")
    os.removedirs("a/b/c")
    write("n" * 255, b"1")
    yield read("n" * 255), tells(os.mkdir, "m" * 256), tells(os.open, "m" * 256, os.O_CREAT)
    write("名前 \n\x01", b"u")
    os.close(create(b"\xff\xfe no utf-8"))
    yield sorted(os.listdir(b"."))


@scenario
def a_tree_deeper_than_the_longest_path():
    fd = os.open(".", os.O_RDONLY)
    for _ in range(100):
        os.mkdir("d" * 100, dir_fd=fd)
        below = os.open("d" * 100, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(create("bottom", dir_fd=fd))
    yield os.listdir(fd)
    os.close(fd)
    run("rm", "-rf", "d" * 100)
    yield os.listdir(".")


@scenario
def hard_and_symbolic_links():
    write("a", b"1")
    os.link("a", "b")
    os.link("a", "c")
    yield looks("a"), os.stat("a").st_ino == os.stat("b").st_ino
    os.unlink("a")
    write("b", b"22")
    os.mkdir("d")
    yield looks("b"), read("c"), tells(os.link, "b", "c"), tells(os.link, "nothing", "x"), tells(os.link, "d", "e")
    os.symlink("b", "s")
    os.link("s", "s2", follow_symlinks=False)
    os.symlink("made", "dangling")
    yield looks("s2"), os.readlink("s2"), read("s"), tells(read, "dangling"), tells(os.symlink, "z", "s"), tells(os.open, "s", os.O_NOFOLLOW)
    write("dangling", b"through")
    os.symlink("x" * 4000, "long")
    os.symlink("loop", "loop")
    yield read("made"), len(os.readlink("long")), tells(os.symlink, "x" * 4096, "longer"), tells(read, "loop"), tells(os.readlink, "b")
    os.rename("c", "d/c")
    os.unlink("b")
    os.link("d/c", "again")
    os.unlink("d/c")
    yield looks("again"), read("again")


@scenario
def renames_of_all_kinds():
    write("a", b"a")
    write("b", b"b")
    before = os.stat("a").st_ino
    os.rename("a", "b")
    yield os.stat("b").st_ino == before, read("b"), os.path.lexists("a")
    os.mkdir("d1")
    os.mkdir("d2")
    write("d1/x", b"x")
    yield tells(os.rename, "d2", "d1"), tells(os.rename, "d1", "d2"), os.listdir("d2")
    yield tells(os.rename, "d2", "b"), tells(os.rename, "b", "d2"), tells(os.rename, "d2", "d2/in"), tells(os.rename, "nothing", "q")
    write("c", b"c")
    yield tells(renameat2, "b", "c", NOREPLACE), tells(renameat2, "b", "new", NOREPLACE), tells(renameat2, "new", "c", EXCHANGE), read("new"), read("c")
    yield tells(renameat2, "new", "d2", EXCHANGE), read("d2"), os.listdir("new"), tells(renameat2, "new", "nothing", EXCHANGE)
    os.link("c", "hard")
    yield tells(os.rename, "c", "hard"), looks("c"), looks("hard")
    fd = os.open("new/x", os.O_RDWR)
    os.rename("new", "moved")
    os.write(fd, b"after")
    os.rename("moved/x", "y")
    os.write(fd, b"more")
    os.close(fd)
    yield read("y"), snapshot(".", times=False)


@scenario
def files_without_a_name_live_on():
    write("f", b"data")
    fd = os.open("f", os.O_RDWR)
    os.unlink("f")
    os.write(fd, b"DATA+")
    os.ftruncate(fd, 2)
    os.fchmod(fd, 0o600)
    os.fchown(fd, 3, 4)
    os.utime(fd, (1, 2))
    write("f", b"new")
    yield looks(fd), os.fstat(fd).st_mtime, os.pread(fd, 9, 0), read("f"), tells(link_fd, fd, "back")
    os.close(fd)
    write("g", b"1")
    write("h", b"2")
    fd = os.open("h", os.O_RDONLY)
    os.rename("g", "h")
    yield os.read(fd, 9), looks(fd)
    os.close(fd)
    os.mkdir("d")
    fd = os.open("d", os.O_RDONLY)
    os.rmdir("d")
    yield looks(fd), tells(create, "x", dir_fd=fd), tells(os.mkdir, "y", dir_fd=fd), os.listdir(fd)
    os.close(fd)


@scenario
def unnamed_temporary_files():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b"hidden")
    yield looks(fd), os.listdir(".")
    link_fd(fd, "shown")
    os.write(fd, b"+")
    os.close(fd)
    yield looks("shown"), read("shown")
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o640)
    yield tells(link_fd, fd, "never"), os.listdir(".")
    os.close(fd)


@scenario
def times_to_the_nanosecond():
    write("f", b"x")
    for ns in (1_234_567_890_123_456_789, 987_654_321_000_000_001), (-5_000_000_001, 0):
        os.utime("f", ns=ns)
        yield os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns
    os.symlink("f", "l")
    os.utime("l", (7, 8), follow_symlinks=False)
    os.mkdir("d")
    os.utime("d", (1, 2))
    yield os.lstat("l").st_mtime, os.stat("f").st_mtime, os.stat("d").st_mtime
    write("d/x")
    yield os.stat("d").st_mtime > 1000
    os.utime("f", (1, 2))
    os.chmod("f", 0o600)
    yield os.stat("f").st_mtime
    os.truncate("f", 0)
    yield os.stat("f").st_mtime > 1000


@scenario
def appends_of_many_writers():
    fds = [create("log", os.O_APPEND | os.O_WRONLY) for _ in range(4)]
    threads = [threading.Thread(target=lambda k: [os.write(fds[k], b"%d:%04d\n" % (k, i)) for i in range(200)], args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for fd in fds:
        os.close(fd)
    yield sorted(read("log").split(b"\n"))
    fd = create("log", os.O_APPEND | os.O_RDWR)
    os.truncate("log", 2)
    os.write(fd, b"Z")
    os.close(fd)
    yield read("log")[1:]  # the first byte names the thread that was first


@scenario
def append_flags_that_change():
    fd = create("other", os.O_APPEND | os.O_RDWR)
    os.write(fd, b"abcdef")
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    os.pwrite(fd, b"X", 0)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    os.write(fd, b"Y")
    os.close(fd)
    yield read("other")


@scenario
def mappings():
    for flags in 0, os.O_APPEND:
        name = f"m{flags}"
        fd = create(name, os.O_RDWR | flags)
        os.write(fd, bytes(8192))
        with mmap.mmap(fd, 8192) as m:
            m[0:5] = b"hello"
            os.close(fd)
            m[5000:5005] = b"world"
        yield read(name).replace(b"\0", b""), os.stat(name).st_size
    fd = os.open("m0", os.O_RDONLY)
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as m:
        yield m[5000:5005]
    os.close(fd)


def sparse_copy(fd):
    """What a copy that passes over holes gets. Where they lie may be left open (by the daemon all is data), but no data may lie in one."""
    end, at, out = os.fstat(fd).st_size, 0, bytearray(os.fstat(fd).st_size)
    while at < end:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            assert e.errno == errno.ENXIO
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        out[start:at] = os.pread(fd, at - start, start)
    return bytes(out)


@scenario
def holes_and_copies():
    fd = create("s")
    os.pwrite(fd, b"x", 10 << 20)
    yield os.fstat(fd).st_size, os.fstat(fd).st_blocks < 100, sparse_copy(fd) == os.pread(fd, 11 << 20, 0)
    os.posix_fallocate(fd, 0, 11 << 20)
    os.fsync(fd)
    yield os.fstat(fd).st_size
    out = create("copy")
    yield os.copy_file_range(fd, out, 1 << 20), os.fstat(out).st_size
    top = os.open(".", os.O_RDONLY)
    os.fsync(top)
    for f in fd, out, top:
        os.close(f)


class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_ulong), ("off", ctypes.c_long), ("len", ctypes.c_ushort), ("type", ctypes.c_ubyte), ("name", ctypes.c_char * 256)]


class Listing:
    """readdir(3) and what belongs to it."""

    def __init__(self, path):
        libc.opendir.restype, libc.readdir.restype, libc.telldir.restype = ctypes.c_void_p, ctypes.POINTER(Dirent), ctypes.c_long
        self.dir = ctypes.c_void_p(libc.opendir(os.fsencode(path)))

    def next(self):
        e = libc.readdir(self.dir)
        return e.contents.name if e else None

    def all(self):
        return list(iter(self.next, None))

    def rewind(self):
        libc.rewinddir(self.dir)

    def tell(self):
        return libc.telldir(self.dir)

    def seek(self, offset):
        libc.seekdir(self.dir, ctypes.c_long(offset))

    def close(self):
        libc.closedir(self.dir)


@scenario
def long_listings():
    os.mkdir("big")
    for i in range(2000):
        os.close(create(f"big/f{i:05}"))
    yield sorted(os.listdir("big")), all(e.inode() == os.stat(e.path).st_ino for e in os.scandir("big"))
    listing, places = Listing("big"), []
    while True:
        places.append((listing.tell(), listing.next()))
        if places[-1][1] is None:
            break
    for place, name in random.Random(1).sample(places, 50):
        listing.seek(place)
        yield listing.next() == name
    write("big/added")
    listing.rewind()
    yield b"added" in listing.all()
    listing.rewind()
    while name := listing.next():
        if not name.startswith(b"."):
            os.unlink(b"big/" + name)
    yield os.listdir("big")
    listing.close()


@scenario
def many_threads_that_make_move_link_and_remove():
    wrong = []

    def work(k):
        rnd = random.Random(k)
        try:
            for i in range(150):
                old, new = (f"d{rnd.randrange(4)}/{k}_{i}_{n}" for n in range(2))
                write(old, b"%d" % i)
                os.rename(old, new)
                os.link(new, new + "l")
                os.unlink(new)
                assert read(new + "l") == b"%d" % i
                if i % 3:
                    os.unlink(new + "l")
        except (OSError, AssertionError) as e:
            wrong.append(repr(e))

    for i in range(4):
        os.mkdir(f"d{i}")
    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    yield wrong, snapshot(".", times=False)


@scenario
def flags_of_open():
    data = os.urandom(3_000_001)
    write("big", data)
    buffer = mmap.mmap(-1, 1 << 20)
    fd = os.open("big", os.O_RDONLY | os.O_DIRECT)
    yield os.preadv(fd, [buffer], 4096), buffer[:] == data[4096:4096 + (1 << 20)]
    os.close(fd)
    fd = create("direct", os.O_RDWR | os.O_DIRECT)
    yield os.pwritev(fd, [buffer], 0), read("direct") == buffer[:]
    os.close(fd)
    for flag in os.O_SYNC, os.O_DSYNC, os.O_NOATIME, os.O_NONBLOCK, os.O_NOCTTY:
        fd = create(f"with{flag}", os.O_WRONLY | flag)
        os.write(fd, b"1")
        os.close(fd)
        yield read(f"with{flag}")


@scenario
def what_everyday_tools_do():
    sh("mkdir src && for i in 1 2 3; do mkdir src/d$i; head -c ${i}000 /dev/zero >src/d$i/f; done; ln src/d1/f src/d2/hard; ln -s ../d1/f src/d3/soft;"
       "touch -d 2020-01-01 src/d1/f; chmod 640 src/d2/f")
    sh("cp -a src copy && tar cf x.tar src && mkdir out && tar xf x.tar -C out && diff -r src copy && diff -r src out/src && mv copy moved && rm -rf out x.tar")
    yield os.stat("moved/d1/f").st_mtime_ns, snapshot("moved", times=False)
    sh("sed -i s/^/x/ moved/d1/f && rm -r src moved && test -z \"$(ls -A)\"")


def play(function, where):
    os.mkdir(where)
    os.chmod(where, 0o777)
    os.chdir(where)
    old = os.umask(0o22)
    try:
        return list(function())
    finally:
        os.umask(old)
        os.chdir("/")


@pytest.mark.parametrize("options", [(), ("nopassthrough",)], ids=["fast", "by_the_daemon"])
@pytest.mark.parametrize("function", SCENARIOS, ids=lambda f: f.__name__)
def test_a_draft_is_like_the_file_system_below(house, store, function, options):
    drive = house.mount(store, options=options)
    draft = drive.mint()
    if function is append_flags_that_change and "data path: passthrough" in drive.log_text():
        pytest.skip("the kernel opens a passthrough file with the flags of open(2), and keeps to them")
    expected = play(function, house.folder / "plain")
    got = play(function, draft / "played")
    for step, (e, g) in enumerate(zip(expected, got)):
        assert g == e, f"step {step}"
    assert len(got) == len(expected)
