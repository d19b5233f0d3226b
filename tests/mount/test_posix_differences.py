"""The differences between a draft and the file system below are those that docs/reliability.md lists, and no wider."""
import ctypes
import errno
import fcntl
import mmap
import os
import time

import pytest

from drive import Lateness, libc, refused, wait_until, write

GETFLAGS, FIEMAP = 0x80086601, 0xC020660B
COLLAPSE, INSERT = 0x08, 0x20
WHITEOUT, AT_FDCWD = 4, -100
DATA_PATHS = pytest.mark.parametrize("options", [(), ("nopassthrough",)], ids=["passthrough", "by_the_daemon"])


@pytest.fixture
def draft(house, store, options):
    return house.mount(store, options=options).mint()


def call(name, *args):
    if getattr(libc, name)(*args) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@DATA_PATHS
def test_what_fuse_cannot_ask_for_is_refused_and_changes_nothing(draft):
    write(draft / "f", b"x" * 16384)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    with open(draft / "f", "r+b") as f:
        for mode in (COLLAPSE, INSERT):
            with refused(errno.EOPNOTSUPP):
                call("fallocate", f.fileno(), mode, 4096, 4096)
        with refused(errno.ENOTTY):
            fcntl.ioctl(f.fileno(), GETFLAGS, b"\0" * 8)
        with refused(errno.EOPNOTSUPP, errno.ENOTTY):
            fcntl.ioctl(f.fileno(), FIEMAP, b"\0" * 8 + b"\xff" * 8 + b"\0" * 16)
    with refused(errno.EINVAL):
        call("renameat2", AT_FDCWD, os.fsencode(draft / "f"), AT_FDCWD, os.fsencode(draft / "g"), WHITEOUT)
    assert os.listdir(draft) == ["f"] and (draft / "f").read_bytes() == b"x" * 16384


@DATA_PATHS
def test_a_synced_store_through_a_mapping_shows_in_the_time_within_two_seconds(house, draft):
    write(draft / "f", b"x" * 4096)
    with open(draft / "f", "r+b") as f, mmap.mmap(f.fileno(), 4096) as m, Lateness(house.folder) as machine:
        os.utime(draft / "f", (1, 1))
        m[0] = 65
        m.flush()
        stored = time.monotonic()
        wait_until(lambda: os.stat(draft / "f").st_mtime != 1, what="the time of the store")
        assert time.monotonic() - stored < 2 + machine.seconds
