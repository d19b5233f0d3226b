"""What a commit promised is on the disk when it returns, also on file systems without a journal (test_power_cut.py cuts one with a journal at each of its
writes): the disk, a file behind a loop device, is copied at that very moment, and whoever mounts the copy finds what a machine finds after a power cut. What
lies in the disk's own cache is in the copy too: that flushes are asked for is not seen here."""
import subprocess

import pytest

from drive import MODEL, read, run, write

DISK = 64 << 20
KINDS = {"ext4": ["mkfs.ext4", "-q", "-J", "size=4"], "ext4 without a journal": ["mkfs.ext4", "-q", "-O", "^has_journal"], "ext2": ["mkfs.ext2", "-q"]}


@pytest.fixture(params=KINDS)
def disk(request, house):
    """The top of a file system of its own; `cut` mounts its disk as it is now, at another place."""
    file, tops = house.folder / "disk", []

    def mount(file, name):
        top = house.folder / name
        top.mkdir()
        if run("mount", "-o", "loop", file, top, check=False).returncode:
            pytest.skip(f"there are no loop devices here, or no {request.param}")
        tops.append(top)
        return top

    def cut():
        run("cp", "--sparse=always", file, house.folder / "copy")
        return mount(house.folder / "copy", "after")

    with open(file, "wb") as f:
        f.truncate(DISK)
    run(*KINDS[request.param], file)
    house.cut = cut
    yield mount(file, "before")
    for d in house.drives:
        d.close()
    for top in tops:
        subprocess.run(["chattr", "-R", "-f", "-i", str(top / "store")], stderr=subprocess.DEVNULL)
        run("umount", "-l", top)


def fill(v, n, seed):
    contents = {f"part{i % 3}/file{i}.bin": bytes([seed, i % 256]) * (100 + 37 * i) for i in range(n)}
    contents["model.pth"] = bytes([seed]) * 300000
    for name, content in contents.items():
        (v / name).parent.mkdir(exist_ok=True)
        write(v / name, content)
    return contents


@pytest.mark.parametrize("n", [2, 60])
def test_a_committed_version_is_whole_after_a_power_cut(house, disk, n):
    house.init("before/store")
    d = house.mount(disk / "store", "drive")
    run("sync", "-f", disk)
    first, second = d.mint(), None
    contents = fill(first, n, 1)
    first.chmod(0o555)
    after = house.cut()
    copy = house.mount(after / "store", "drive-after")
    for name, content in contents.items():
        assert read(copy.at / MODEL / "v1" / name) == content, name
    second = copy.mint()
    again = fill(second, n, 1)  # the same contents: are they there, and taken for what they are?
    second.chmod(0o555)
    for name, content in again.items():
        assert read(copy.at / MODEL / "v2" / name) == content, name
