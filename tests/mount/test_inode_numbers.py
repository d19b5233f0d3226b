"""Inode numbers that come back: ext4 with a journal gives the number of a file that is gone to the next one that is made."""
import contextlib
import mmap
import os
import signal
import subprocess

import pytest

from drive import commit, read, run, wait_until, write

COPIES = [f"copy{i}.pth" for i in range(4)]


@pytest.fixture(params=[(), ("nopassthrough",)], ids=["fast", "by_the_daemon"])
def drive(request, house):
    """A drive whose store lies on a small ext4 of its own, of one block group: there is one place for new inodes."""
    top = house.folder / "small"
    top.mkdir()
    with open(house.folder / "disk", "wb") as f:
        f.truncate(64 << 20)
    run("mkfs.ext4", "-q", "-b", "4096", "-J", "size=4", house.folder / "disk")
    if run("mount", "-o", "loop", house.folder / "disk", top, check=False).returncode:
        pytest.skip("there are no loop devices here")
    house.init("small/store")
    d = house.mount(top / "store", "drive", options=request.param)
    yield d
    with contextlib.suppress(AssertionError, OSError):
        d.unmount()
    subprocess.run(["chattr", "-R", "-i", str(top / "store")], stderr=subprocess.DEVNULL)
    run("umount", "-l", top)


def numbers_below(drive, pattern):
    """Of files of drafts: the inode numbers that the file system below gave them."""
    return {p.stat().st_ino for p in (drive.store / "drafts").glob("*/" + pattern)}


@pytest.mark.parametrize("dies", [False, True], ids=["", "the_worker_dies"])
def test_a_new_file_with_the_number_of_one_that_is_still_read_is_another(drive, dies):
    """Bytes that are stored already are kept once: at the commit the inode of a copy goes, while whoever knew the file of the draft reads on. Its number
    is given to a file of somebody's next draft: neither may meet the other's bytes."""
    data, model = os.urandom(300000), drive.model()
    drive.committed(files={"model.pth": data})
    draft = drive.mint(model)
    for name in COPIES:
        write(draft / name, data)
    numbers = numbers_below(drive, "copy*")
    with contextlib.ExitStack() as stack:
        known = [stack.enter_context(contextlib.closing(os.fdopen(os.open(draft / name, os.O_PATH)))) for name in COPIES]
        write(draft / "model.pth", b"other")
        commit(draft)
        wait_until(lambda: not any((drive.store / "drafts").iterdir()), what="the staging tree is gone")
        readers = [stack.enter_context(open(f"/proc/self/fd/{f.fileno()}", "rb")) for f in known]
        mappings = [stack.enter_context(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)) for f in readers]
        following = drive.mint(model)
        written = {following / f"part{i}": os.urandom(1000) for i in range(20)}
        for path, bytes_ in written.items():
            write(path, bytes_)
        assert numbers & numbers_below(drive, "part*"), "no number came back"
        if dies:
            os.kill(drive.worker(), signal.SIGKILL)
        assert all(f.read() == data for f in readers) and all(m[:] == data for m in mappings)
        assert {path: read(path) for path in written} == written
        assert all(read(draft / name) == data for name in COPIES)
        if not dies:  # a worker does not know the names of what was a draft before it: reads go on, attributes are ESTALE
            assert len({os.stat(path).st_ino for path in written} | {os.fstat(f.fileno()).st_ino for f in readers}) == len(written) + len(readers)
        for path in written:
            written[path] += b"more"
            with open(path, "ab") as f:
                f.write(b"more")
        commit(following)
        assert all(f.seek(0) == 0 and f.read() == data for f in readers) and all(m[:] == data for m in mappings)
        assert {path: read(path) for path in written} == written
