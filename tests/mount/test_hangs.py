"""A process that serves a drive and hangs is replaced; one that has much to do, or waits for a slow disk, is not."""
import contextlib
import errno
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from drive import Lateness, attr, binary, commit, kernel_at_least, mintfs, read, reason, settled, sh, state, wait_until, why, write
from recording_disk import Disk, done

LIMIT = 1  # second; 30 without MINTFS_HANG_SECONDS
PATIENCE = 10  # times the limit, for a disk that does not answer
STALL = 2.0  # that others may notice of it


def restarts(drive):
    return int(attr(drive.at, "restarts").split(",")[0])


@pytest.fixture
def watched(house, monkeypatch):
    """Mounts a drive that looks for hangs after a second; at: a place in it where a thread stays for ever."""
    def mount(at=None, store=None):
        monkeypatch.setenv("MINTFS_HANG_SECONDS", str(LIMIT))
        if at:
            monkeypatch.setenv("MINTFS_HANG", at)
        return house.mount(store or house.init(), options=("deaths=0",))
    return mount


def test_a_worker_that_hangs_is_replaced(watched):
    drive = watched()
    v = drive.mint()
    os.kill(wait_until(drive.worker), signal.SIGSTOP)
    write(v / "model.pth", b"waited for the next worker")
    assert read(v / "model.pth") == b"waited for the next worker"
    assert "no sign of life" in attr(drive.at, "restarts")


class Longest(threading.Thread):
    """Somebody else at work on the drive: how long did he wait for anything at most? Less what the machine itself let wait."""

    def __init__(self, drive):
        super().__init__(daemon=True)
        self.drive, self.go_on, self.seconds, self.error, self.machine = drive, True, 0.0, None, Lateness(drive.house.folder)
        self.version = drive.committed("product/P002_all/mlstm", {"model.pth": b"another's"})
        self.draft = drive.mint("product/P003_all/mlstm")

    def run(self):
        try:
            while self.go_on:
                began = time.monotonic()
                assert read(self.version / "model.pth") == b"another's"
                write(self.draft / "x", b"x")
                os.stat(self.draft / "x")
                self.seconds = max(self.seconds, time.monotonic() - began)
        except BaseException as e:  # noqa: B902 - told by the test
            self.error = e

    def __enter__(self):
        self.machine.start()
        self.start()
        return self

    def __exit__(self, *_):
        self.go_on = self.machine.go_on = False
        self.join(30)
        self.machine.join(30)
        self.seconds -= self.machine.seconds


def set_alias(where):
    commit(where / "v1")
    os.symlink("v1", where / "production")
    return lambda: os.readlink(where / "production") == "v1"


def mint_second(where):
    os.mkdir(where / "next")
    return lambda: sorted(n for n in os.listdir(where) if n[0] == "v") == ["v1", "v2"]


def commit_first(where):
    commit(where / "v1")
    return lambda: state(where / "v1") == "committed" and read(where / "v1/model.pth") == b"version"


def discard_first(where):
    sh(f"rm -r {where}/v1")
    return lambda: not (where / "v1").exists()


# Where a thread stays for ever, once (the first commit and three mints are those of the preparations), and what it is at then: that is done once all the same.
HANGS = [
    ("alias.begin", set_alias),  # a thread that reads requests
    ("alias.recorded", set_alias),
    ("mint.recorded:4", mint_second),
    ("commit.hashed:2", commit_first),  # the pool for what takes long
    ("commit.recorded:2", commit_first),
    ("discard.recorded", discard_first),
    ("commit.in-transaction:2", commit_first),  # the catalog's writer: who writes to the catalog waits, everybody else goes on
]


@pytest.mark.parametrize("place, gesture", HANGS, ids=[place for place, _ in HANGS])
def test_a_request_that_hangs_is_done_by_the_next_worker_and_holds_up_nobody_else(watched, place, gesture):
    drive = watched(place)
    with Longest(drive) as other:
        where = drive.model()
        write(drive.mint(where) / "model.pth", b"version")
        done_once = gesture(where)
        wait_until(lambda: restarts(drive) == 1, what="another worker")
        assert done_once()
    assert other.error is None and other.seconds < STALL
    assert "makes no progress" in attr(drive.at, "restarts")


def run_that_ends_well(house, where, size=0):
    """A shell that mints and writes a model; its draft."""
    shell = house.start(f"mkdir {where}/latest && cd {where}/latest && echo version > model.pth && truncate -s +{size} model.pth")
    assert shell.wait(30) == 0
    return where / "v1"


ends_are_known = pytest.mark.skipif(not kernel_at_least(6, 15), reason="exit statuses of foreign processes are known from Linux 6.15 on: " + os.uname().release)


@ends_are_known
@pytest.mark.parametrize("place", ["commit.hashed:2", "commit.recorded:2"])
def test_a_commit_at_the_end_of_a_run_that_hangs_is_done_by_the_next_worker(house, watched, place):
    drive = watched(place)
    with Longest(drive) as other:
        v = run_that_ends_well(house, drive.model())
        wait_until(lambda: restarts(drive) == 1, what="another worker")
        settled(v)
        assert read(v / "model.pth") == b"version\n"
    assert other.error is None and other.seconds < STALL
    assert "an automatic commit" in attr(drive.at, "restarts")


@ends_are_known
@pytest.mark.seconds(120)
def test_a_commit_at_the_end_of_a_run_that_has_much_to_do_is_no_hang(house, watched):
    drive = watched()
    settled(run_that_ends_well(house, drive.model(), 2 << 30), limit=100)
    assert restarts(drive) == 0


def settler(drive, v):
    """The worker, once it hashes for the commit of v, or has given it up."""
    pid = drive.worker()
    with contextlib.suppress(OSError):
        if "did not survive" in reason(v) or any((t / "comm").read_text() == "mintfs-commit\n" for t in Path(f"/proc/{pid}/task").iterdir()):
            return pid
    return None


@ends_are_known
@pytest.mark.seconds(120)
def test_a_commit_at_the_end_of_a_run_outlives_any_number_of_upgrades(house):
    drive = house.mount(house.init(), options=("deaths=0",))
    v = run_that_ends_well(house, drive.model(), 1 << 40)  # a hole that takes minutes to hash
    for _ in range(4):
        wait_until(lambda: settler(drive, v), what="a worker that settles the run")
        mintfs("upgrade", drive.at)
    wait_until(lambda: settler(drive, v), what="the newest worker settles the run")
    assert reason(v) == ""


@ends_are_known
@pytest.mark.seconds(120)
def test_a_commit_at_the_end_of_a_run_that_no_worker_survives_is_left_to_a_person(house):
    drive = house.mount(house.init(), options=("deaths=0",))
    v = run_that_ends_well(house, drive.model(), 1 << 40)  # a hole that takes minutes to hash
    for _ in range(4):
        died = wait_until(lambda: settler(drive, v), what="a worker that settles the run")
        if "did not survive" in reason(v):
            break
        os.kill(died, signal.SIGKILL)
        drive.wait_worker(died)
    assert "commit it by hand" in why(v, "did not survive") and state(v) == "draft"
    os.truncate(v / "model.pth", 8)
    commit(v)
    assert state(v) == "committed" and read(v / "model.pth") == b"version\n"


def is_frozen(v):
    try:
        os.utime(v / "model.pth", ns=(1, 1))
    except OSError as e:
        return e.errno == errno.EBUSY
    return False


@ends_are_known
@pytest.mark.seconds(120)
def test_of_two_commits_that_no_worker_survived_one_is_tried_once_more_alone(house):
    drive = house.mount(house.init(), options=("deaths=0",))
    both = [run_that_ends_well(house, drive.model(m), 1 << 40) for m in ("product/P001_all/mlstm", "product/P002_all/mlstm")]
    for n in range(3):
        wait_until(lambda n=n: sum(map(is_frozen, both)) == (2 if n < 2 else 1), what="what is under way")
        died = drive.worker()
        os.kill(died, signal.SIGKILL)
        drive.wait_worker(died)
    left = wait_until(lambda: next((v for v in both if reason(v)), None), what="the draft that killed the last one is left to a person")
    assert "did not survive" in reason(left)
    both.remove(left)
    wait_until(lambda: is_frozen(both[0]), what="the other one is tried again")
    assert not is_frozen(left) and reason(both[0]) == ""


def settler_at_rest(pid):
    """The worker, if MINTFS_DELAY holds it."""
    with contextlib.suppress(OSError):
        if any((t / "comm").read_text() == "mintfs-jobs\n" and "nanosleep" in (t / "wchan").read_text() for t in Path(f"/proc/{pid}/task").iterdir()):
            return pid
    return None


@ends_are_known
@pytest.mark.seconds(120)
@pytest.mark.parametrize("script, then", [
    ("mkdir latest && echo notes > latest/notes && rm latest/notes; exit 0", "empty, but "),
    ("mkdir latest && echo version > latest/model.pth; exit 3", "failed: exit 3"),
    ("mkdir latest && echo notes > latest/notes", "incomplete: "),
])
def test_what_no_worker_survived_is_told_as_it_is(house, monkeypatch, script, then):
    monkeypatch.setenv("MINTFS_DELAY", "settle.judged:3000")
    drive = house.mount(house.init(), options=("deaths=0",))
    model = drive.model()
    house.start(script, cwd=model).wait(30)
    v = model / "v1"
    for _ in range(3):
        died = wait_until(lambda: settler_at_rest(drive.worker()), what="a worker that settles the run")
        os.kill(died, signal.SIGKILL)
        drive.wait_worker(died)
    assert wait_until(lambda: reason(v), 30, "it is left to a person").startswith(then) and state(v) == "draft"


@pytest.mark.seconds(120)
def test_a_commit_that_has_much_to_do_is_no_hang(watched):
    drive = watched()
    v = drive.mint()
    with open(v / "model.pth", "wb") as f:
        f.truncate(2 << 30)  # some seconds of hashing, first in the background, which the commit waits for
    began = time.monotonic()
    commit(v)
    took = time.monotonic() - began
    assert state(v) == "committed" and restarts(drive) == 0
    if took < 2 * LIMIT:
        pytest.skip(f"this machine hashes too fast for this test: {took:.1f} s")


MIB = 1 << 20
REQUESTS = 17  # more than there are threads that read requests
RANGES = {
    "fallocate": lambda fd, source: os.posix_fallocate(fd, 0, 8 * MIB),
    "copy": lambda fd, source: os.copy_file_range(source, fd, 8 * MIB, 0, 0),
}


@pytest.mark.parametrize("what", RANGES)
def test_what_takes_as_long_as_its_range_holds_up_nobody_else(house, monkeypatch, what):
    monkeypatch.setenv("MINTFS_DELAY", f"{what}:{int(STALL * 1000) + 500}")  # as on a disk that is nearly full
    drive = house.mount(house.init())
    v = drive.mint()
    source = os.open(write(v / "source", b"x" * 8 * MIB), os.O_RDONLY)
    fds = [os.open(v / f"f{i}", os.O_RDWR | os.O_CREAT) for i in range(REQUESTS)]
    threads = [threading.Thread(target=RANGES[what], args=(fd, source)) for fd in fds]
    with Longest(drive) as other:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert other.error is None and other.seconds < STALL
    assert all(os.fstat(fd).st_size == 8 * MIB for fd in fds)
    for fd in [source, *fds]:
        os.close(fd)


@pytest.fixture
def slow(house, watched):
    """A drive whose store lies on a disk that can be made to wait, and that disk's process."""
    disk = Disk(house.folder / "slow", 48 << 20)
    house.undo.append(disk.stop)
    disk.start()
    house.undo.append(lambda: disk.server.send_signal(signal.SIGCONT))
    done(binary(), "init", disk.top / "store")
    drive = watched(store=disk.top / "store")
    house.undo.append(drive.unmount)  # before its disk is taken away
    return drive, disk.server


@contextlib.contextmanager
def stopped(house, drive, server):
    """While the disk stands still one of each waits for it: a thread that reads requests, and the pools. When it goes on, all get what they asked for."""
    v, w = drive.mint(), drive.mint("product/P002_all/mlstm")
    t = house.worker()
    t.do("f = open(p, 'wb')\nf.write(b'weights')\nf.flush()", p=v / "model.pth")
    write(w / "model.pth", b"w")
    server.send_signal(signal.SIGSTOP)
    try:
        t.begin("os.fsync(f.fileno())")
        shells = [house.start(script) for script in (f"chmod a-w {w}", f"mkdir -p {drive.at}/product/P003_all/mlstm/latest")]
        yield v, t
    finally:
        server.send_signal(signal.SIGCONT)
    assert t.end() is None
    for s in shells:
        assert s.wait(30) == 0
    assert state(w) == "committed"


def test_a_disk_that_does_not_answer_for_a_while_is_no_hang(house, slow):
    drive, server = slow
    with stopped(house, drive, server):
        time.sleep(4 * LIMIT)  # no condition: nothing shall happen
    assert restarts(drive) == 0


def test_a_worker_that_waits_for_a_dead_disk_is_no_reason_to_cut_the_drive_off(house, slow):
    drive, server = slow
    with stopped(house, drive, server) as (v, t):
        wait_until(lambda: "the disk of the store does not answer" in drive.log_text(), limit=3 * PATIENCE * LIMIT, what="a word in the log")
        time.sleep(LIMIT)  # no condition: nothing shall happen
    assert restarts(drive) >= 1 and "cut off" not in drive.log_text()
    t.do("f.close()")
    commit(v)
    assert read(v / "model.pth") == b"weights"
