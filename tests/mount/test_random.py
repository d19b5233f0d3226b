"""The same random work in a draft and in a directory of ext4: results, errors, contents and attributes must agree.

The work is made from a seed (MINTFS_SEED, else fixed); MINTFS_OPS says how much. On a difference the last steps are shown."""
import ctypes
import errno
import os
import random
import stat

import pytest

from drive import commit, libc, read, sha256, snapshot

SEED = int(os.environ.get("MINTFS_SEED", "20250715"))
STEPS = int(os.environ.get("MINTFS_OPS", "3000"))  # for each of two seeds
NAMES = ["a", "b", "c", "model.bin", "名", "x" * 255]
AT_SYMLINK_FOLLOW, AT_FDCWD = 0x400, -100
PAGE = 4096


def call(name, *args):
    if getattr(libc, name)(*args) != 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


class World:
    """One of the two directories, with the files the work keeps open."""

    def __init__(self, top):
        self.top, self.open = os.fsencode(top), {}

    def at(self, path):
        return os.path.join(self.top, os.fsencode(path))

    def do(self, step):
        """Does one step; returns what a program would see of it."""
        try:
            return getattr(self, step[0])(*step[1:])
        except OSError as e:
            return ("error", errno.errorcode.get(e.errno, e.errno))

    def close_all(self):
        for fd in self.open.values():
            os.close(fd)
        self.open.clear()

    # names

    def mkdir(self, p, mode):
        os.mkdir(self.at(p), mode)

    def rmdir(self, p):
        os.rmdir(self.at(p))

    def unlink(self, p):
        os.unlink(self.at(p))

    def rename(self, p, q, flags):
        call("renameat2", AT_FDCWD, self.at(p), AT_FDCWD, self.at(q), flags)

    def link(self, p, q):
        os.link(self.at(p), self.at(q), follow_symlinks=False)

    def symlink(self, target, p):
        os.symlink(target, self.at(p))

    def readlink(self, p):
        return os.readlink(self.at(p))

    def listdir(self, p):
        return sorted((e.name, e.is_dir(follow_symlinks=False), e.is_symlink()) for e in os.scandir(self.at(p)))

    def mknod(self, p):
        os.mknod(self.at(p), stat.S_IFREG | 0o640)

    # attributes

    def chmod(self, p, mode):
        os.chmod(self.at(p), mode)

    def chown(self, p, uid, gid):
        os.chown(self.at(p), uid, gid, follow_symlinks=False)

    def utime(self, p, ns):
        os.utime(self.at(p), ns=ns, follow_symlinks=False)
        return os.lstat(self.at(p)).st_mtime_ns

    def lstat(self, p):
        st = os.lstat(self.at(p))
        return (st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size if not stat.S_ISDIR(st.st_mode) else 0)

    def access(self, p, mode):
        return os.access(self.at(p), mode)

    # files by name

    def open_as(self, slot, p, flags, mode):
        if slot in self.open:
            os.close(self.open.pop(slot))
        self.open[slot] = os.open(self.at(p), flags, mode)

    def tmpfile(self, slot, p):
        if slot in self.open:
            os.close(self.open.pop(slot))
        self.open[slot] = os.open(self.at(p), os.O_TMPFILE | os.O_RDWR, 0o600)

    def link_open(self, slot, p):
        call("linkat", AT_FDCWD, b"/proc/self/fd/%d" % self.fd(slot), AT_FDCWD, self.at(p), AT_SYMLINK_FOLLOW)

    def truncate(self, p, size):
        os.truncate(self.at(p), size)

    def read_all(self, p):
        data = read(self.at(p))
        return (len(data), sha256(data))

    # open files

    def fd(self, slot):
        if slot not in self.open:
            raise OSError(errno.EBADF, "no such slot")
        return self.open[slot]

    def close(self, slot):
        os.close(self.fd(slot))
        del self.open[slot]

    def write(self, slot, data):
        return os.write(self.fd(slot), data)

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

    def fchmod(self, slot, mode):
        os.fchmod(self.fd(slot), mode)

    def fstat(self, slot):
        st = os.fstat(self.fd(slot))
        return (st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size)

    def fallocate(self, slot, mode, offset, length):
        libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        call("fallocate", self.fd(slot), mode, offset, length)

    def copy_range(self, a, b, n, i, j):
        return os.copy_file_range(self.fd(a), self.fd(b), n, i, j)

    def map_write(self, slot, data, offset):
        import mmap
        fd = self.fd(slot)
        size = os.fstat(fd).st_size
        if size < offset + len(data):
            return "too small"
        with mmap.mmap(fd, size) as m:
            m[offset:offset + len(data)] = data
            return sha256(m[:])


class Worker:
    """Makes the steps."""

    def __init__(self, seed):
        self.r = random.Random(seed)
        self.kinds = [k for k, weight in self.WEIGHTS.items() for _ in range(weight)]

    WEIGHTS = {"open_as": 14, "write": 10, "pwrite": 9, "read": 5, "pread": 5, "seek": 4, "mkdir": 6, "rename": 9, "unlink": 6, "rmdir": 4, "link": 5,
               "symlink": 3, "readlink": 2, "listdir": 4, "mknod": 2, "chmod": 3, "chown": 2, "utime": 3, "lstat": 6, "access": 2, "tmpfile": 2, "link_open": 3,
               "truncate": 5, "read_all": 6, "close": 6, "ftruncate": 4, "fsync": 1, "fchmod": 1, "fstat": 5, "fallocate": 3, "copy_range": 2, "map_write": 3}

    def path(self):
        return "/".join(self.r.choice(NAMES) for _ in range(self.r.choice([1, 1, 1, 1, 2, 2, 3])))

    def data(self):
        return bytes([self.r.randrange(256)]) * self.r.choice([0, 1, 7, 100, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 5, 140000])

    def offset(self):
        return self.r.choice([0, 1, PAGE - 1, PAGE, 2 * PAGE + 3, 100000, self.r.randrange(200000)])

    def slot(self):
        return self.r.randrange(6)

    def mode(self):
        return self.r.choice([0o644, 0o600, 0o755, 0o444, 0o000, 0o1777, 0o700])

    def step(self):
        r, kind = self.r, self.r.choice(self.kinds)
        made = {
            "mkdir": lambda: (self.path(), self.mode()), "rmdir": lambda: (self.path(),), "unlink": lambda: (self.path(),),
            "rename": lambda: (self.path(), self.path(), r.choice([0, 0, 0, 1, 2])), "link": lambda: (self.path(), self.path()),
            "symlink": lambda: (r.choice(["a", "b", "c/b", "nowhere", "c/a", "model.bin"]), self.path()), "readlink": lambda: (self.path(),),
            "listdir": lambda: (r.choice([".", self.path()]),), "mknod": lambda: (self.path(),), "chmod": lambda: (self.path(), self.mode()),
            "chown": lambda: (self.path(), r.choice([-1, 0, 4001]), r.choice([-1, 0, 4002])), "lstat": lambda: (self.path(),),
            "utime": lambda: (self.path(), (r.randrange(2**60), r.randrange(2**60))), "access": lambda: (self.path(), r.choice([os.R_OK, os.W_OK, os.X_OK])),
            "open_as": lambda: (self.slot(), self.path(), r.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR]) | r.choice(
                [0, os.O_CREAT, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_CREAT | os.O_TRUNC, os.O_APPEND | os.O_CREAT, os.O_TRUNC, os.O_NOFOLLOW,
                 os.O_DIRECTORY]), self.mode()),
            "tmpfile": lambda: (self.slot(), r.choice([".", self.path()])), "link_open": lambda: (self.slot(), self.path()),
            "truncate": lambda: (self.path(), self.offset()), "read_all": lambda: (self.path(),), "close": lambda: (self.slot(),),
            "write": lambda: (self.slot(), self.data()), "pwrite": lambda: (self.slot(), self.data(), self.offset()),
            "read": lambda: (self.slot(), r.choice([0, 10, PAGE, 200000])), "pread": lambda: (self.slot(), r.choice([1, PAGE, 100000]), self.offset()),
            "seek": lambda: (self.slot(), r.choice([0, 5, PAGE, 70000]), r.choice([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])),
            "ftruncate": lambda: (self.slot(), self.offset()), "fsync": lambda: (self.slot(),), "fchmod": lambda: (self.slot(), self.mode()),
            "fstat": lambda: (self.slot(),), "fallocate": lambda: (self.slot(), r.choice([0, 1, 3, 16]), self.offset(), r.choice([1, PAGE, 50000])),
            "copy_range": lambda: (self.slot(), self.slot(), r.choice([1, PAGE, 30000]), self.offset(), self.offset()),
            "map_write": lambda: (self.slot(), self.data()[:5000] or b"m", self.offset()),
        }[kind]()
        return (kind,) + made


def told(steps):
    return "\n".join(str([x if not isinstance(x, bytes) else f"{len(x)} bytes" for x in s]).replace(NAMES[-1], "x…") for s in steps[-25:])


@pytest.mark.seconds(150)
@pytest.mark.parametrize("seed", [SEED, SEED + 1])
def test_a_draft_behaves_as_ext4_whatever_is_done_to_it(house, draft, seed):
    plain = house.folder / "plain"
    plain.mkdir(mode=0o755)
    os.umask(0o022)
    ours, theirs, worker, done = World(draft), World(plain), Worker(seed), []
    try:
        for n in range(STEPS):
            step = worker.step()
            done.append(step)
            a, b = ours.do(step), theirs.do(step)
            assert a == b, f"seed {seed}, step {n}: the draft says {a!r}, ext4 says {b!r}\n{told(done)}"
            if n % 100 == 99:
                assert snapshot(draft, times=False) == snapshot(plain, times=False), f"seed {seed}, step {n}\n{told(done)}"
    finally:
        ours.close_all()
        theirs.close_all()
    assert len({s[0] for s in done}) == len(Worker.WEIGHTS) or STEPS < 1000, "every kind of step was done"
    with open(draft / "last", "wb") as f, open(plain / "last", "wb") as g:
        f.write(b"at least one file")
        g.write(b"at least one file")
    before = snapshot(plain, times=False)
    commit(draft)
    after = snapshot(draft, times=False)
    for name, was in before.items():
        expected = list(was)
        if was[0] != stat.S_IFLNK:
            expected[1] &= 0o3555 if was[0] == stat.S_IFDIR else 0o555
        assert list(after[name]) == expected, f"seed {seed}: {name!r} after the commit"
    assert set(after) - set(before) == {b"metadata.json"}
