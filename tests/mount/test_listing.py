"""Listings: whole, without doubles, whatever happens to the directory meanwhile."""
import ctypes
import os
import platform

import pytest

from drive import apart, commit, libc, write

NAMES = [f"shard-{i:05}.bin" for i in range(3000)]
GETDENTS64 = {"x86_64": 217, "aarch64": 61}


@pytest.mark.parametrize("already_read", [0, 1, 700, 2999, 3000])
def test_a_listing_that_a_commit_meets_goes_on_with_what_it_had_not_told(drive, already_read):
    version = drive.mint()
    for name in NAMES:
        write(version / name, b"x")
    with os.scandir(version) as listing:
        told = [next(listing).name for _ in range(already_read)]
        commit(version)
        told += [entry.name for entry in listing]
    assert sorted(n for n in told if n != "metadata.json") == NAMES


def test_a_listing_that_is_begun_anew_after_a_commit_is_that_of_the_version(drive):
    version = drive.mint()
    for name in NAMES[:100]:
        write(version / name, b"x")
    fd = os.open(version, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert sorted(os.listdir(fd)) == NAMES[:100]
        commit(version)
        assert sorted(os.listdir(fd)) == ["metadata.json"] + NAMES[:100]
    finally:
        os.close(fd)


def names_from(path, offset):
    """What getdents64 gives from there on: os.scandir never seeks."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.lseek(fd, offset, os.SEEK_SET)
        buffer = ctypes.create_string_buffer(1 << 16)
        n = libc.syscall(ctypes.c_long(GETDENTS64[platform.machine()]), fd, buffer, ctypes.c_long(len(buffer)))
        assert n >= 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(fd)
    names, at = set(), 0
    while at < n:
        length = int.from_bytes(buffer.raw[at + 16:at + 18], "little")
        names.add(buffer.raw[at + 19:at + length].split(b"\0")[0].decode())
        at += length
    return names


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63 - 2, 2**63 - 4, 2**62, 2**32, 1000])
def test_whoever_seeks_beyond_the_end_of_a_version_finds_no_file_of_another_one(drive, offset):
    """Offsets count within the store's list of all files: one that ran over led to its beginning, to the files of closed models."""
    secret = drive.committed("product/P1_all/kan", {"secret.bin": b"secret"})
    version = drive.committed("product/P2_all/kan", {"model.bin": b"mine"})
    os.chmod(secret.parent, 0o700)

    def look():
        os.listdir(version)
        os.stat(version / "model.bin")  # the kernel takes the attributes with the names from now on
        names = names_from(version, offset)
        return sorted(names), os.path.exists(version / "secret.bin")

    assert apart(look, uid=1001) == ([], False)
