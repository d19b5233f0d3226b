"""The operations of a random work, on a draft or on any other directory: what each does, and what it is given.

OPERATIONS names for each operation its weight and the kinds of its arguments; a kind is a function that is given `pick`, a way to
choose one of several things: random.choice for long seeded works, draws of Hypothesis for works that shrink to the shortest one
that still shows the difference."""
import ctypes
import errno
import fcntl
import mmap
import os
import random
import stat
import struct

from drive import libc, read, sha256

AT_SYMLINK_FOLLOW, AT_FDCWD = 0x400, -100
F_OFD_SETLK = 37
PAGE = 4096
UNCERTAIN = "the time of a store through a mapping"  # it may be told late: docs/reliability.md
LONG_AGO = 2**60  # ns; what is set by hand lies before, what the clock says after it
ROOT, ANN, BEN = (0, 0), (4001, 4001), (4002, 4001)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def call(name, *args):
    if getattr(libc, name)(*args) != 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


def looks(st):
    return (st.st_mode, st.st_nlink, st.st_uid, st.st_gid, 0 if stat.S_ISDIR(st.st_mode) else st.st_size)


def alike(a, b):
    return a == b or UNCERTAIN in (a, b)


class World:
    """One of the two directories, with the files and mappings that the work keeps open, and as whom it goes on."""

    def __init__(self, top):
        self.top, self.open, self.maps, self.who = os.fsencode(top), {}, {}, ROOT
        self.stored = set()  # inode numbers of files that were stored to by a mapping

    def at(self, path):
        return os.path.join(self.top, os.fsencode(path))

    def do(self, step):
        """Does one step; returns what a program would see of it."""
        uid, gid = self.who
        if uid:
            os.setegid(gid)
            os.seteuid(uid)
        try:
            return getattr(self, step[0])(*step[1:])
        except OSError as e:
            return ("error", errno.errorcode.get(e.errno, e.errno))
        except ValueError as e:  # mmap's own look at the file
            return ("error", str(e))
        finally:
            if uid:
                os.seteuid(0)
                os.setegid(0)

    def close_all(self):
        for fd in self.open.values():
            os.close(fd)
        for m in self.maps.values():
            m.close()
        self.open.clear()
        self.maps.clear()

    def become(self, who):
        self.who = who

    def umask(self, mask):
        os.umask(mask)

    # names

    def mkdir(self, p, mode):
        os.mkdir(self.at(p), mode)

    def rmdir(self, p):
        os.rmdir(self.at(p))

    def unlink(self, p):
        os.unlink(self.at(p))

    def remove_tree(self, p):
        """As rm -r does it, in one order on both sides."""
        gone = 0
        if p in ODD_NAMES:
            return "perhaps the whole work"
        for here, dirs, files in os.walk(self.at(p), topdown=False):
            for name in sorted(files) + sorted(dirs):
                what = os.path.join(here, name)
                (os.rmdir if stat.S_ISDIR(os.lstat(what).st_mode) else os.unlink)(what)
                gone += 1
        (os.rmdir if stat.S_ISDIR(os.lstat(self.at(p)).st_mode) else os.unlink)(self.at(p))
        return gone

    def rename(self, p, q, flags):
        call("renameat2", AT_FDCWD, self.at(p), AT_FDCWD, self.at(q), flags)

    def link(self, p, q):
        os.link(self.at(p), self.at(q), follow_symlinks=False)

    def symlink(self, target, p):
        os.symlink(target, self.at(p))

    def readlink(self, p):
        return os.readlink(self.at(p))

    def listdir(self, p):
        """The names with their types; and each inode number of the listing is the one that stat tells."""
        there = sorted((e.name, e.is_dir(follow_symlinks=False), e.is_symlink(), e.inode()) for e in os.scandir(self.at(p)))
        told = []
        for name, is_dir, is_link, inode in there:
            try:
                same = os.lstat(os.path.join(self.at(p), name)).st_ino == inode
            except OSError as e:
                same = errno.errorcode[e.errno]
            told.append((name, is_dir, is_link, same))
        return told

    def mknod(self, p, mode):
        os.mknod(self.at(p), stat.S_IFREG | mode)

    def same(self, p, q):
        a, b = os.stat(self.at(p)), os.stat(self.at(q))
        return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)

    # attributes

    def chmod(self, p, mode):
        os.chmod(self.at(p), mode)

    def group_sticks(self, p):
        """The set-gid bit of a directory, which a version may have; that of a file it may not."""
        if stat.S_ISDIR(os.stat(self.at(p)).st_mode):
            os.chmod(self.at(p), 0o2775)

    def chown(self, p, uid, gid):
        os.chown(self.at(p), uid, gid, follow_symlinks=False)

    def utime(self, p, ns):
        os.utime(self.at(p), ns=ns, follow_symlinks=False)
        return os.lstat(self.at(p)).st_mtime_ns

    def touch(self, p):
        os.utime(self.at(p))

    def times(self, p):
        """The time of the last change: as it was set, or, where the clock set it, only that it did."""
        st = os.lstat(self.at(p))
        return UNCERTAIN if st.st_ino in self.stored else (st.st_mtime_ns if st.st_mtime_ns < LONG_AGO else "now", st.st_ctime_ns > LONG_AGO)

    def lstat(self, p):
        return looks(os.lstat(self.at(p)))

    def stat(self, p):
        return looks(os.stat(self.at(p)))

    def access(self, p, mode):
        return os.access(self.at(p), mode, effective_ids=True)

    # files by name

    def keep(self, slot, fd):
        if slot in self.open:
            os.close(self.open[slot])
        self.open[slot] = fd

    def open_as(self, slot, p, flags, mode):
        self.keep(slot, os.open(self.at(p), flags, mode))

    def tmpfile(self, slot, p):
        self.keep(slot, os.open(self.at(p), os.O_TMPFILE | os.O_RDWR, 0o600))

    def link_open(self, slot, p):
        call("linkat", AT_FDCWD, b"/proc/self/fd/%d" % self.fd(slot), AT_FDCWD, self.at(p), AT_SYMLINK_FOLLOW)

    def reopen(self, slot, other, flags):
        self.keep(slot, os.open(b"/proc/self/fd/%d" % self.fd(other), flags))

    def truncate(self, p, size):
        os.truncate(self.at(p), size)

    def read_all(self, p):
        data = read(self.at(p))
        return (len(data), sha256(data))

    # from an open directory

    def open_dir(self, top, p):
        self.keep(top, os.open(self.at(p), os.O_RDONLY | os.O_DIRECTORY))

    def sync_dir(self, top):
        os.fsync(self.fd(top))

    def open_in(self, slot, top, p, flags, mode):
        self.keep(slot, os.open(os.fsencode(p), flags, mode, dir_fd=self.fd(top)))

    def mkdir_in(self, top, p, mode):
        os.mkdir(os.fsencode(p), mode, dir_fd=self.fd(top))

    def unlink_in(self, top, p):
        os.unlink(os.fsencode(p), dir_fd=self.fd(top))

    def stat_in(self, top, p):
        return looks(os.stat(os.fsencode(p), dir_fd=self.fd(top), follow_symlinks=False))

    def rename_between(self, top, p, other, q):
        os.rename(os.fsencode(p), os.fsencode(q), src_dir_fd=self.fd(top), dst_dir_fd=self.fd(other))

    def where(self, slot):
        """The path of an open directory, by the kernel's own walk."""
        here = os.open(".", os.O_PATH)
        try:
            os.fchdir(self.fd(slot))
            return os.path.relpath(os.getcwdb(), self.top)
        finally:
            os.fchdir(here)
            os.close(here)

    # open files

    def fd(self, slot):
        if slot not in self.open:
            raise OSError(errno.EBADF, "no such slot")
        return self.open[slot]

    def close(self, slot):
        os.close(self.fd(slot))
        del self.open[slot]

    def dup(self, slot, other):
        self.keep(slot, os.dup(self.fd(other)))

    def write(self, slot, data):
        return os.write(self.fd(slot), data)

    def writev(self, slot, a, b, offset):
        return os.pwritev(self.fd(slot), [a, b], offset)

    def pwrite(self, slot, data, offset):
        return os.pwrite(self.fd(slot), data, offset)

    def read(self, slot, n):
        return os.read(self.fd(slot), n)

    def pread(self, slot, n, offset):
        return os.pread(self.fd(slot), n, offset)

    def seek(self, slot, offset, whence):
        if stat.S_ISDIR(os.fstat(self.fd(slot)).st_mode):
            return "where a directory ends is ext4's own business"
        return os.lseek(self.fd(slot), offset, whence)

    def ftruncate(self, slot, size):
        os.ftruncate(self.fd(slot), size)

    def fsync(self, slot):
        os.fsync(self.fd(slot))

    def fdatasync(self, slot):
        os.fdatasync(self.fd(slot))

    def fchmod(self, slot, mode):
        os.fchmod(self.fd(slot), mode)

    def fchown(self, slot, uid, gid):
        os.fchown(self.fd(slot), uid, gid)

    def fstat(self, slot):
        return looks(os.fstat(self.fd(slot)))

    def fd_times(self, slot):
        st = os.fstat(self.fd(slot))
        return UNCERTAIN if st.st_ino in self.stored else st.st_mtime_ns if st.st_mtime_ns < LONG_AGO else "now"

    def fallocate(self, slot, mode, offset, length):
        call("fallocate", self.fd(slot), mode, offset, length)

    def copy_range(self, a, b, n, i, j):
        return os.copy_file_range(self.fd(a), self.fd(b), n, i, j)

    def sendfile(self, a, b, offset, n):
        if os.path.sameopenfile(self.fd(a), self.fd(b)):
            n = min(n, 10)  # from just before its own end a file grows byte by byte, with O_SYNC a sync for each: minutes on ext4, too
        return os.sendfile(self.fd(a), self.fd(b), offset, n)

    def flock(self, slot, how):
        fcntl.flock(self.fd(slot), how | fcntl.LOCK_NB)

    def lock_range(self, slot, how, offset, length):
        fcntl.fcntl(self.fd(slot), F_OFD_SETLK, struct.pack("hhqqi4x", how, os.SEEK_SET, offset, length, 0))

    def flags(self, slot):
        return fcntl.fcntl(self.fd(slot), fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND | os.O_SYNC)

    # mappings

    def map_write(self, slot, data, offset):
        fd = self.fd(slot)
        size = os.fstat(fd).st_size
        if size < offset + len(data):
            return "too small"
        with mmap.mmap(fd, size) as m:
            self.stored.add(os.fstat(fd).st_ino)
            m[offset:offset + len(data)] = data
            return sha256(m[:])

    def map_keep(self, name, slot, shared, n):
        """A mapping that stays, whatever becomes of the file, its name and its descriptor."""
        m = mmap.mmap(self.fd(slot), n * PAGE, mmap.MAP_SHARED if shared == "write" else mmap.MAP_PRIVATE,
                      mmap.PROT_READ | mmap.PROT_WRITE) if shared != "read" else mmap.mmap(self.fd(slot), n * PAGE, mmap.MAP_SHARED, mmap.PROT_READ)
        if name in self.maps:
            self.maps[name].close()
        self.maps[name] = m
        self.stored.add(os.fstat(self.fd(slot)).st_ino)

    def mapped(self, name):
        """The mapping, and how much of it can be touched without SIGBUS."""
        if name not in self.maps:
            raise OSError(errno.EBADF, "no such mapping")
        m = self.maps[name]
        return m, min(len(m), m.size())  # size(): of the file, by the descriptor that mmap keeps

    def map_put(self, name, data, offset):
        m, end = self.mapped(name)
        if offset + len(data) > end:
            return "beyond the end"
        try:
            m[offset:offset + len(data)] = data
        except TypeError:
            return "for reading only"

    def map_get(self, name):
        m, end = self.mapped(name)
        return sha256(m[:end])

    def map_sync(self, name):
        m, end = self.mapped(name)
        m.flush()

    def map_drop(self, name):
        self.mapped(name)
        self.maps.pop(name).close()


# ---- what an operation is given ----

NAMES = ["a", "a", "a", "b", "b", "c", "c", "model.bin", "名", "x" * 255]
ODD_NAMES = ["", ".", "x" * 256, "a/", "b/.", "c/..", "a/../b", "\udcff\udc80", "new\nline", "a//b"]
TARGETS = ["a", "b", "c/b", "nowhere", "c/a", "model.bin", ".", "c/", "x" * 4095, "a/b/c"]
MODES = [0o644, 0o600, 0o755, 0o444, 0o000, 0o1777, 0o700, 0o666, 0o777, 0o511]
O = os


def path(pick):
    if pick(range(25)) == 24:
        return pick(ODD_NAMES)
    return "/".join(pick(NAMES) for _ in range(pick([1, 1, 1, 1, 1, 2, 2, 2, 3])))


def data(pick):
    return bytes([pick(range(256))]) * pick([0, 1, 7, 100, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 5, 140000])


def offset(pick):
    return pick([0, 1, PAGE - 1, PAGE, 2 * PAGE + 3, 100000, pick(range(200000))])


def open_flags(pick):
    return pick([O.O_RDONLY, O.O_WRONLY, O.O_RDWR, O.O_RDWR]) | pick(
        [0, O.O_CREAT, O.O_CREAT, O.O_CREAT, O.O_CREAT, O.O_CREAT, O.O_CREAT, O.O_CREAT | O.O_EXCL, O.O_CREAT | O.O_TRUNC, O.O_APPEND | O.O_CREAT, O.O_TRUNC, O.O_NOFOLLOW, O.O_DIRECTORY,
         O.O_PATH, O.O_CREAT | O.O_SYNC, O.O_CREAT | O.O_NOFOLLOW, O.O_APPEND])


def one_of(*options):
    return lambda pick: pick(options)


slot, top, mapping, mode = one_of(*range(4)), one_of("d", "e"), one_of(*range(2)), one_of(*MODES)
size = one_of(0, 1, 10, PAGE, 100000, 200000)
uid, gid = one_of(-1, -1, 0, 4001), one_of(-1, -1, 0, 4001, 4002)


def set_times(pick):
    return (pick(range(0, LONG_AGO, 10**15 + 1)), pick(range(0, LONG_AGO, 10**15 + 7)))


def place(pick):
    return pick([".", path(pick)])


OPERATIONS = {
    "become": (1, [one_of(ROOT, ROOT, ROOT, ROOT, ROOT, ROOT, ROOT, ROOT, ROOT, ANN, ANN, BEN)]), "umask": (1, [one_of(0o022, 0o022, 0, 0o077, 0o027)]),
    "mkdir": (5, [path, mode]), "rmdir": (2, [path]), "unlink": (5, [path]), "remove_tree": (2, [path]), "rename": (9, [path, path, one_of(0, 0, 0, 1, 2)]), "link": (5, [path, path]),
    "symlink": (3, [one_of(*TARGETS), path]), "readlink": (2, [path]), "listdir": (4, [place]), "mknod": (2, [path, mode]), "same": (2, [path, path]),
    "chmod": (3, [path, mode]), "group_sticks": (1, [path]), "chown": (2, [path, uid, gid]), "utime": (3, [path, set_times]), "touch": (1, [path]),
    "times": (4, [path]), "lstat": (5, [path]), "stat": (3, [path]), "access": (2, [path, one_of(O.R_OK, O.W_OK, O.X_OK, O.F_OK, O.R_OK | O.W_OK)]),
    "open_as": (18, [slot, path, open_flags, mode]), "tmpfile": (2, [slot, place]), "link_open": (3, [slot, path]),
    "reopen": (1, [slot, slot, one_of(O.O_RDONLY, O.O_RDWR, O.O_WRONLY | O.O_TRUNC)]), "truncate": (5, [path, offset]), "read_all": (6, [path]),
    "open_dir": (4, [top, path]), "open_in": (4, [slot, top, path, open_flags, mode]), "mkdir_in": (2, [top, path, mode]), "unlink_in": (2, [top, path]),
    "stat_in": (2, [top, path]), "rename_between": (2, [top, path, top, path]), "where": (2, [top]), "sync_dir": (1, [top]),
    "close": (6, [slot]), "dup": (1, [slot, slot]), "write": (10, [slot, data]), "writev": (2, [slot, data, data, offset]), "pwrite": (9, [slot, data, offset]),
    "read": (5, [slot, size]), "pread": (5, [slot, size, offset]),
    "seek": (4, [slot, one_of(0, 5, PAGE, 70000, -1), one_of(O.SEEK_SET, O.SEEK_CUR, O.SEEK_END)]), "ftruncate": (4, [slot, one_of(0, 1, PAGE, 70000, -1)]),
    "fsync": (1, [slot]), "fdatasync": (1, [slot]), "fchmod": (1, [slot, mode]), "fchown": (1, [slot, uid, gid]), "fstat": (5, [slot]), "fd_times": (2, [slot]),
    "fallocate": (3, [slot, one_of(0, 1, 3, 16), offset, one_of(0, 1, PAGE, 50000)]), "copy_range": (2, [slot, slot, one_of(1, PAGE, 30000), offset, offset]),
    "sendfile": (2, [slot, slot, offset, size]), "flock": (2, [slot, one_of(fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN)]),
    "lock_range": (2, [slot, one_of(fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK), one_of(0, 1, PAGE), one_of(0, 1, 100)]), "flags": (1, [slot]),
    "map_write": (3, [slot, data, offset]), "map_keep": (3, [mapping, slot, one_of("write", "write", "private", "read"), one_of(1, 2, 5)]),
    "map_put": (4, [mapping, data, offset]), "map_get": (4, [mapping]), "map_sync": (1, [mapping]), "map_drop": (1, [mapping]),
}


class Work:
    """An endless work from a seed. Most of its paths are of things that are there and fit, so that most of what it does succeeds."""

    FITTING = {  # by the place of the path among the arguments: f files, d directories, n free names
        "mkdir": "n", "rmdir": "d", "unlink": "f", "rename": "an", "link": "fn", "symlink": "-n", "listdir": "d", "mknod": "n", "group_sticks": "d",
        "open_as": "-f", "tmpfile": "-d", "link_open": "-n", "truncate": "f", "read_all": "f", "open_dir": "-d", "open_in": "--f", "mkdir_in": "-n",
        "unlink_in": "-f", "rename_between": "-f-n"}

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.kinds = [k for k, (weight, _) in OPERATIONS.items() for _ in range(weight)]
        self.there = dict.fromkeys("afdn", ())

    def look(self, top):
        """What is there now, and a free name in each directory."""
        top = os.fsdecode(top)
        files, dirs, free = [], [], []
        for here, subdirs, names in os.walk(top):
            rest = os.path.relpath(here, top)
            subdirs.sort()
            dirs += [os.path.normpath(os.path.join(rest, n)) for n in subdirs]
            files += [os.path.normpath(os.path.join(rest, n)) for n in sorted(names)]
            free += [os.path.normpath(os.path.join(rest, n)) for n in dict.fromkeys(NAMES) if n not in subdirs and n not in names][:3]
        self.there = {"a": files + dirs, "f": files + free[:1], "d": dirs, "n": free}

    def argument(self, kind, i, make):
        if make in (path, place) and self.random.random() < 0.7:
            fitting = self.there[(self.FITTING.get(kind, "") + "aaaa")[i].replace("-", "a")]
            if fitting:
                return self.random.choice(fitting)
        return make(self.random.choice)

    def step(self):
        kind = self.random.choice(self.kinds)
        return (kind,) + tuple(self.argument(kind, i, make) for i, make in enumerate(OPERATIONS[kind][1]))


def told(steps, last=25):
    """The last steps, for people."""
    short = [[x if not isinstance(x, bytes) else f"{len(x)} bytes" for x in s] for s in steps[-last:]]
    return "\n".join(str(s).replace("x" * 255, "x…") for s in short)
