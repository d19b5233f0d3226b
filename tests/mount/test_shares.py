"""What all users of a drive share: none of them can take so much of it that others are refused, or wait."""
import contextlib
import errno
import os
import time

import pytest

from drive import Lateness, apart, commit, state, wait_until, write

BEN, CARL = 4002, 4003


def model_of(drive, who):
    model = drive.model(f"product/{who}_all/mlstm")
    os.chown(model, who, who)
    return model


def minted(model, who):
    """A draft that stays one when its maker ends: it has no file model.*"""
    def make():
        before = set(os.listdir(model))
        os.mkdir(model / "next")
        name = (set(os.listdir(model)) - before - {"latest"}).pop()
        write(model / name / "weights.pth", b"w")
        return name
    return model / apart(make, uid=who)


REFUSED_COMMITS = """
import threading
files = []
def commit_again_and_again(path):
    while True:
        try:
            os.chmod(path, 0o555)
        except OSError:
            pass
for n in range(80):
    os.mkdir(model + "/next")
for name in os.listdir(model):
    if name != "latest":
        files.append(open(model + "/" + name + "/weights.pth", "wb"))
        threading.Thread(target=commit_again_and_again, args=(model + "/" + name,), daemon=True).start()
"""


def test_commits_that_wait_for_one_user_s_open_files_hold_up_no_other_user(house, drive):
    """Each of them takes a second until it is refused; there are eighty at any moment."""
    carl = house.worker(uid=CARL)
    v = minted(model_of(drive, BEN), BEN)
    carl.do(REFUSED_COMMITS, model=model_of(drive, CARL))
    wait_until(lambda: "weights.pth is open for writing" in drive.log_text(), what="a refused commit")
    with Lateness(house.folder) as machine:
        began = time.monotonic()
        apart(commit, v, uid=BEN)
        took = time.monotonic() - began
    assert state(v) == "committed" and took < 3 + machine.seconds, took
    carl.kill()


def ben_works(drive):
    v = minted(drive.at / f"product/{BEN}_all/mlstm", BEN)
    open_files = [open(v / f"{n}.bin", "wb") for n in range(10)]
    os.listdir(v)
    for f in open_files:
        f.close()
    apart(commit, v, uid=BEN)
    assert state(v) == "committed"


OPENS = {
    "writers": "files.append(os.open(draft + '/f%d' % n, os.O_RDWR | os.O_CREAT))",
    "readers": "files.append(os.open(draft + '/weights.pth', os.O_RDONLY))",
    "directories": "files.append(os.open(draft, os.O_RDONLY | os.O_DIRECTORY))",
    "generated": "files.append(os.open(draft + '/../../../../versions.json', os.O_RDONLY))",
    "committed": "files.append(os.open(version + '/large.bin', os.O_RDONLY))",
}
UNTIL_REFUSED = """
import errno
files, error = [], 0
try:
    for n in range(3000):
        {}
except OSError as e:
    error = e.errno
"""


@pytest.mark.parametrize("what", OPENS)
def test_files_that_one_user_has_open_leave_descriptors_for_others(house, store, what):
    drive = house.mount(store, descriptors=512)
    for who in (BEN, CARL):
        model_of(drive, who)
    model = drive.at / f"product/{CARL}_all/mlstm"
    draft, version = minted(model, CARL), minted(model, CARL)
    write(version / "large.bin", bytes(200000))
    apart(commit, version, uid=CARL)
    carl = house.worker(uid=CARL)
    names = {"draft": draft, "version": version}
    carl.do(UNTIL_REFUSED.format(OPENS[what]), **names)
    assert carl.do("error") == errno.EMFILE and carl.do("len(files)") >= 40
    assert "as many files open as one user may have" in drive.log_text()

    ben_works(drive)
    drive.wait_worker(drive.kill_worker())  # the next one counts what is open
    carl.do(UNTIL_REFUSED.replace("files, error = [], 0", "error = 0").format(OPENS[what]), **names)
    assert carl.do("error") == errno.EMFILE
    ben_works(drive)
    carl.do("for f in files: os.close(f)")

    def opens_again():
        carl.do(UNTIL_REFUSED.format(OPENS[what]) + "count = len(files)\nfor f in files: os.close(f)\n", **names)
        return carl.do("count") >= 40

    wait_until(opens_again, what="what was closed counts no more")


MANY_WRITERS = """
import signal
pids, refused = [], 0
for n in range(600):
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(os.open(draft + "/p%d" % n, os.O_WRONLY | os.O_CREAT))
            os.write(w, b"k")
        except OSError:
            os.write(w, b"r")
        signal.pause()
    os.close(w)
    refused += os.read(r, 1) != b"k"
    os.close(r)
    pids.append(pid)
"""


def test_processes_of_one_user_that_write_leave_descriptors_for_others(house, store):
    """The drive watches each of them, to know when the run has ended."""
    drive = house.mount(store, descriptors=512)
    for who in (BEN, CARL):
        model_of(drive, who)
    draft = minted(drive.at / f"product/{CARL}_all/mlstm", CARL)
    carl = house.worker(uid=CARL)

    def watched():
        fds, n = f"/proc/{drive.worker()}/fd", 0
        for fd in os.listdir(fds):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                n += "pidfd" in os.readlink(f"{fds}/{fd}")
        return n

    carl.do(MANY_WRITERS, draft=draft)
    assert carl.do("refused") == 0
    assert watched() < 512 / 8 + 10
    ben_works(drive)
    drive.wait_worker(drive.kill_worker())
    ben_works(drive)
    assert watched() < 512 / 8 + 10
    carl.do("for pid in pids: os.kill(pid, signal.SIGKILL)\nfor pid in pids: os.waitpid(pid, 0)")
    carl.kill()
    wait_until(lambda: watched() < 10, what="that the end of all is known")


@pytest.mark.parametrize("closed", ["before", "after"])
def test_removed_files_that_one_user_holds_without_having_them_open_leave_descriptors_for_others(house, store, closed):
    drive = house.mount(store, descriptors=512)
    draft = minted(model_of(drive, CARL), CARL)
    other = minted(model_of(drive, BEN), BEN)
    carl = house.worker(uid=CARL)
    carl.do("""
held = []
for n in range(600):
    os.mkdir(draft + "/d")
    f = os.open(draft + "/f", os.O_CREAT | os.O_WRONLY)
    if closed == "before":
        os.close(f)
    held += [os.open(draft + "/d", os.O_PATH), os.open(draft + "/f", os.O_PATH)]
    os.rmdir(draft + "/d")
    os.unlink(draft + "/f")
    if closed == "after":
        os.close(f)
""", draft=draft, closed=closed)
    files = [open(other / f"{n}.bin", "wb") for n in range(10)]
    for f in files:
        f.close()
    apart(commit, other, uid=BEN)
    assert state(other) == "committed"
