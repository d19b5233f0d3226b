"""Fixtures: a place, a store in it, a drive of that."""
import os
import pathlib
import tempfile

import pytest

from cli_env import Drive, call, can_mount, remove_store


@pytest.fixture
def place():
    """A directory that others may look into, as far as what lies there lets them."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="mintfs-cli-"))
    path.chmod(0o755)
    yield path
    remove_store(path)


@pytest.fixture
def store(place):
    path = place / "store"
    assert call("init", path).code == 0
    return path


@pytest.fixture
def drive(store, place):
    if not can_mount():
        pytest.skip("no /dev/fuse for this user")
    (place / "mnt").mkdir()
    d = Drive(store, place / "mnt").mount()
    yield d
    if os.path.ismount(d.dir):
        done = d.umount()
        if done.code:
            call("umount", "-l", d.dir)
        assert done.code == 0, done.err
