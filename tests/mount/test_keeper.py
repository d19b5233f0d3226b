"""The process that serves a drive may die at any instant: another takes over, and whoever uses the drive goes on."""
import errno
import itertools
import json
import mmap
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest

from drive import MODEL, apart, attr, binary, clean_env, commit, libc, mintfs, read, refused, run, sha256, state, wait_until, write

AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400
BOTH = pytest.mark.parametrize("options", [(), ("nopassthrough",)], ids=["passthrough", "daemon"])


@pytest.fixture
def lasting(house, store):
    """A drive that may die as often as a test wants."""
    def mount(options=()):
        return house.mount(store, options=("deaths=0",) + tuple(options))
    return mount


def restarts(drive):
    return int(attr(drive.at, "restarts").split(",")[0])


def die(drive, times=1):
    """Kills the worker, and waits for the next."""
    for _ in range(times):
        before = restarts(drive)
        drive.kill_worker()
        wait_until(lambda: restarts(drive) > before, what="another worker")


def harass(drive, n, pause=0.03):
    """The nth kill of many: no condition, it shall hit any moment. But twelve that hit a worker before it is ready, one after the other, end a drive, so now and then one gets ready."""
    drive.kill_worker()
    if n % 8 == 7:
        os.statvfs(drive.at)
    time.sleep(pause)


# ---- what goes on across a death ----


@BOTH
def test_an_open_file_is_written_and_read_on(lasting, options):
    drive = lasting(options)
    v = drive.mint()
    with open(v / "model.pth", "w+b", buffering=0) as f:
        for n in range(5):
            f.write(b"%d" % n * 1000)
            die(drive)
            os.fsync(f.fileno())
            assert os.fstat(f.fileno()).st_size == 1000 * (n + 1)
        f.truncate(4500)
        f.seek(0)
        assert f.read() == b"".join(b"%d" % n * 1000 for n in range(5))[:4500]
    commit(v)
    assert os.stat(v / "model.pth").st_size == 4500


@BOTH
def test_a_mapping_of_a_version_is_read_on(lasting, options):
    drive = lasting(options)
    data = os.urandom(3 << 20)
    v = drive.committed(files={"model.pth": data})
    with open(v / "model.pth", "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
        first = m[:4096]
        die(drive, 2)
        assert first + m[4096:] == data
    with open(v / "model.pth", "rb") as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert f.read() == data


@BOTH
def test_a_writer_and_a_mapping_writer_lose_no_byte_in_many_deaths(house, lasting, options):
    drive = lasting(options)
    v = drive.mint()
    t = house.worker()
    t.begin("""
import hashlib, mmap
want = hashlib.sha256()
f = open(p + '/stream', 'wb', buffering=0)
g = open(p + '/mapped', 'w+b'); g.truncate(1 << 20)
m = mmap.mmap(g.fileno(), 1 << 20)
for n in range(400):
    data = b'%08d' % n * 512
    f.write(data); want.update(data)
    m[n * 8:n * 8 + 8] = data[:8]
    os.mkdir(p + '/d%d' % n); open(p + '/d%d/x' % n, 'x').close(); os.rename(p + '/d%d' % n, p + '/e%d' % n)
    assert os.listdir(p + '/e%d' % n) == ['x']
    if n % 20 == 0: os.fsync(f.fileno())
m.flush(); m.close(); g.close(); f.close()
digest = want.hexdigest()
""", p=v)
    for n in range(12):
        harass(drive, n, 0.05)
    t.end()
    assert sha256(read(v / "stream")) == t.do("digest")
    assert read(v / "mapped")[:3200] == b"".join(b"%08d" % n for n in range(400))
    assert sorted(n for n in os.listdir(v) if n[0] in "de") == sorted(f"e{n}" for n in range(400))
    write(v / "model.pth", b"m")
    t.close()
    commit(v)


@BOTH
def test_a_file_without_a_name_is_still_that_file(lasting, options):
    drive = lasting(options)
    v = drive.mint()
    gone = open(v / "gone", "w+b", buffering=0)
    gone.write(b"before")
    os.unlink(v / "gone")
    never = os.open(v, os.O_TMPFILE | os.O_RDWR, 0o644)
    os.write(never, b"never had one")
    die(drive, 2)
    write(v / "gone", b"another")
    gone.write(b" and after")
    assert os.pread(gone.fileno(), 100, 0) == b"before and after" and os.fstat(gone.fileno()).st_nlink == 0
    assert os.pread(never, 100, 0) == b"never had one"
    assert libc.linkat(AT_FDCWD, f"/proc/self/fd/{never}".encode(), AT_FDCWD, os.fsencode(v / "named"), AT_SYMLINK_FOLLOW) == 0
    assert read(v / "named") == b"never had one" and read(v / "gone") == b"another"
    gone.close()
    os.close(never)


@BOTH
def test_working_directories_and_directory_descriptors_lead_where_they_led(house, lasting, options):
    drive = lasting(options)
    v = drive.mint()
    os.makedirs(v / "a/b/c")
    write(v / "a/b/c/x", b"x")
    t = house.worker(cwd=v / "a/b/c")
    fd = os.open(v / "a/b", os.O_RDONLY | os.O_DIRECTORY)
    die(drive)
    os.rename(v / "a", v / "moved")
    die(drive)
    assert t.do("os.listdir('.')") == ["x"] and t.do("os.getcwd()").endswith("moved/b/c")
    t.write("y", b"y")
    assert sorted(os.listdir(v / "moved/b/c")) == ["x", "y"] and os.listdir(fd) == ["c"]
    os.close(fd)


@BOTH
def test_a_listing_under_way_tells_every_name_once(lasting, options):
    drive = lasting(options)
    v = drive.mint()
    names = {f"file_{n:05}" for n in range(3000)}
    for n in names:
        os.close(os.open(v / n, os.O_CREAT | os.O_WRONLY))
    with os.scandir(v) as it:
        seen = [next(it).name for _ in range(10)]
        die(drive)
        seen += [e.name for e in it]
    assert len(seen) == 3000 and set(seen) == names
    c = drive.committed(files={n: b"" for n in sorted(names)[:200]} | {"model.pth": b"m"})
    with os.scandir(c) as it:
        seen = [next(it).name for _ in range(10)]
        die(drive)
        seen += [e.name for e in it]
    assert len(seen) == len(set(seen)) == 202


def test_versions_json_reads_on_as_it_was_opened(lasting):
    drive = lasting()
    drive.committed()
    with open(drive / "versions.json") as f:
        first = f.read(3)
        drive.committed()
        die(drive)
        assert json.loads(first + f.read()) == {"product_P001_all_mlstm": 1}
    assert drive.versions_json() == {"product_P001_all_mlstm": 2}


def test_a_run_keeps_its_draft_and_commits_it_when_it_ends(house, lasting):
    drive = lasting()
    drive.committed()
    where = drive.model()
    t = house.worker()
    t.do("os.mkdir(p)", p=where / "latest")
    t.write(where / "latest/model.pth", b"half")
    die(drive, 2)
    assert t.do("os.readlink(p)", p=where / "latest") == "v2" and os.readlink(where / "latest") == "v1"
    with refused(errno.EEXIST):
        t.do("os.mkdir(p)", p=where / "latest")
    t.write(where / "latest/model.pth", b"whole")
    die(drive)
    assert state(where / "v2") == "draft"
    assert t.exit() == 0
    wait_until(lambda: state(where / "v2") == "committed", what="the commit at the end of the run")
    assert read(where / "v2/model.pth") == b"whole"


def test_the_end_of_a_run_in_the_gap_between_two_workers_is_heard_of(house, lasting):
    drive = lasting()
    where = drive.model()
    t = house.worker()
    t.do("os.mkdir(p)", p=where / "latest")
    t.write(where / "latest/model.pth", b"whole")
    worker = wait_until(drive.worker)
    os.kill(worker, signal.SIGSTOP)
    assert t.exit() == 0
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: state(where / "v1") == "committed", what="the commit")


def test_a_draft_is_no_other_mount_s_while_its_worker_is_replaced(house, lasting, store):
    drive = lasting()
    v = drive.mint()
    other = house.mount(store, "other")
    there = other / MODEL / "v1"
    for _ in range(10):
        drive.kill_worker()
        with refused(errno.EROFS):
            open(there / "x", "w")
    write(v / "model.pth", b"m")
    commit(v)


# ---- what was under way is done, once ----


def test_commits_under_way_are_done(house, lasting):
    drive = lasting()
    for n in range(6):
        v = drive.mint()
        for k in range(40):
            write(v / f"part_{k:02}", b"%d" % k * 5000)
        committer = house.start(f"chmod a-w {v}")
        time.sleep(0.004 * n)  # no condition: the kill shall hit any moment of it
        drive.kill_worker()
        committer.wait(30)
        assert committer.returncode == 0 and state(v) == "committed"
        assert read(v / "part_07") == b"7" * 5000
    assert [r["version"] for r in drive.rows("ORDER BY id")] == [f"v{n + 1}" for n in range(6)]


def test_concurrent_mints_give_each_its_own_number_and_leave_none_behind(house, lasting):
    drive = lasting()
    where = drive.model()
    runs = 8
    shells = [house.start(f"i=0; while [ $i -lt 15 ]; do mkdir {where}/latest || exit 1; i=$((i+1)); done") for _ in range(runs)]
    for n in range(15):
        harass(drive, n, 0.02)
    for s in shells:
        s.wait(60)
        assert s.returncode == 0
    versions = sorted(int(n[1:]) for n in os.listdir(where) if n[0] == "v")
    assert versions == list(range(1, runs * 15 + 1))


@BOTH
def test_names_are_made_moved_and_removed_once(house, lasting, options):
    drive = lasting(options)
    v = drive.mint()
    t = house.worker()
    t.begin("""
for n in range(250):
    a, b, c = p + '/a%d' % n, p + '/b%d' % n, p + '/c%d' % n
    os.mkdir(a); os.rmdir(a)
    with open(a, 'x') as f: f.write('a')
    with open(b, 'x') as f: f.write('b')
    os.link(a, c); os.rename(a, b); os.unlink(c)
    os.symlink('x%d' % n, a); assert os.readlink(a) == 'x%d' % n; os.unlink(a)
    os.mknod(c); os.chmod(c, 0o600); os.truncate(c, n); assert os.stat(c).st_size == n
    assert open(b).read() == 'a'
    os.unlink(b); os.unlink(c)
""", p=v)
    deadline = time.monotonic() + 20
    for n in itertools.count():
        if time.monotonic() > deadline or t.process.poll() is not None or select_ready(t.process.stdout):
            break
        harass(drive, n, 0.04)
    t.end()
    assert os.listdir(v) == []


def select_ready(stream):
    import select
    return bool(select.select([stream], [], [], 0)[0])


def test_two_names_are_exchanged_once(house, lasting):
    drive = lasting()
    v = drive.mint()
    write(v / "a", b"A")
    write(v / "b", b"B")
    t = house.worker()
    t.begin("""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for n in range(400):
    assert libc.renameat2(-100, (p + '/a').encode(), -100, (p + '/b').encode(), 2) == 0, ctypes.get_errno()
    assert open(p + '/a').read() == 'BA'[n % 2], n
""", p=v)
    for n in itertools.count():
        if select_ready(t.process.stdout):
            break
        harass(drive, n)
    t.end()


def test_aliases_move_once_and_their_history_has_no_doubles(house, lasting):
    drive = lasting()
    for _ in range(2):
        drive.committed()
    where = drive.model()
    s = house.start(f"cd {where}; i=0; while [ $i -lt 40 ]; do ln -sfn v$((i % 2 + 1)) production || exit 1; i=$((i+1)); done; rm production && ln -s v1 production")
    for n in itertools.count():
        if s.poll() is not None:
            break
        harass(drive, n)
    assert s.returncode == 0 and os.readlink(where / "production") == "v1"


# ---- deaths without end, ends (hangs: test_hangs.py) ----


def test_five_deaths_in_a_minute_end_the_drive_with_the_reason_in_the_log(drive):
    drive.committed()
    for n in range(5):
        pid = wait_until(lambda: drive.worker(), what="a worker")
        if n < 4:
            before = restarts(drive)
            os.kill(pid, signal.SIGSYS)
            wait_until(lambda: restarts(drive) > before)
        else:
            os.kill(pid, signal.SIGSYS)
    pid, drive.pid = drive.pid, None
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert not os.path.ismount(drive.at)
    assert "5 times within a minute" in drive.log_text() and "signal 31" in drive.log_text()
    drive.mount()
    assert drive.versions_json() == {"product_P001_all_mlstm": 1}


def test_a_store_that_cannot_be_opened_for_a_moment_does_not_end_the_drive(drive):
    v = drive.committed(files={"model.pth": b"w" * 300_000})
    away = drive.store.with_name("away")
    with open(v / "model.pth", "rb") as f:
        os.rename(drive.store, away)
        try:
            drive.kill_worker()
            wait_until(lambda: drive.log_text().count(" died ") >= 4)  # the first one, and three that could not begin
        finally:
            os.rename(away, drive.store)
        assert f.read() == b"w" * 300_000
    assert read(v / "model.pth") == b"w" * 300_000
    assert "within a minute" not in drive.log_text()
    drive.committed(model=drive.model(), files={"model.pth": b"next"})


def test_when_the_keeper_itself_dies_the_drive_ends_and_the_next_mount_finds_everything(house, drive):
    v = drive.committed(files={"model.pth": b"committed"})
    t = house.worker()
    path = drive.model() / "latest"
    t.do("os.mkdir(p)", p=path)
    t.write(path / "model.pth", b"draft")
    os.kill(drive.pid, signal.SIGKILL)
    os.waitpid(drive.pid, 0)
    wait_until(lambda: not os.path.ismount(drive.at), what="the end of the mount")
    wait_until(lambda: not drive.processes(), what="the end of all processes")
    drive.mount()
    assert read(v / "model.pth") == b"committed" and read(drive / MODEL / "v2/model.pth") == b"draft"
    assert t.do("os.readlink(p)", p=path) == "v2"


def test_a_worker_that_has_just_begun_ends_with_its_keeper(house, store, monkeypatch):
    monkeypatch.setenv("MINTFS_DELAY", "session.begin:1500")
    drive = house.mount(store)
    monkeypatch.delenv("MINTFS_DELAY")
    killed = drive.kill_worker()
    wait_until(lambda: drive.worker() not in (None, killed), what="another worker")
    pid, drive.pid = drive.pid, None
    rest = [p for p, parent in drive.processes().items() if p != pid]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_until(lambda: not drive.processes(), what=f"the end of {rest}")
    drive.mount()
    drive.committed()


@pytest.mark.parametrize("place", ["keeper.death", "keeper.closed", "keeper.upgrade"])
def test_a_keeper_that_dies_while_a_worker_is_replaced_leaves_a_whole_store(house, store, monkeypatch, place):
    monkeypatch.setenv("MINTFS_CRASH", place)
    drive = house.mount(store)
    monkeypatch.delenv("MINTFS_CRASH")
    v, draft = drive.committed(), drive.mint()
    with open(draft / "model.pth", "wb") as f:
        f.write(b"synced")
        f.flush()
        os.fsync(f.fileno())
    if place == "keeper.upgrade":
        mintfs("upgrade", drive.at, check=False)
    else:
        drive.kill_worker()
    pid, drive.pid = drive.pid, None
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 137
    wait_until(lambda: not drive.processes(), what="the end of all processes")
    drive.mount()
    assert state(v) == "committed" and state(draft) == "draft" and read(draft / "model.pth") == b"synced"
    commit(draft)
    drive.unmount()
    assert mintfs("fsck", "--verify", store).returncode == 0


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_keeper_ends_all(drive, sig):
    die(drive)
    os.kill(drive.pid, sig)
    drive.wait_end()
    assert not os.path.ismount(drive.at) and not drive.processes()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_worker_alone_does_not_end_the_drive(drive, sig):
    """A program that looks for memory tells the largest process to end before it kills it."""
    v = drive.mint()
    worker = wait_until(drive.worker)
    with open(v / "model.pth", "wb") as f:
        os.kill(worker, sig)
        wait_until(lambda: not pending(worker, sig), what="the signal is taken")
        f.write(b"weights")
    commit(v)
    assert os.path.ismount(drive.at) and drive.versions_json() == {"product_P001_all_mlstm": 1}
    os.kill(drive.pid, sig)
    drive.wait_end()
    assert not os.path.ismount(drive.at) and not drive.processes()


def pending(pid, sig):
    status = open(f"/proc/{pid}/status").read()
    return int(status.split("ShdPnd:")[1].split()[0], 16) >> (sig - 1) & 1


def test_a_helper_that_was_stopped_holds_up_no_unmount(drive):
    drive.committed()
    (helper,) = [p for p in drive.processes() if open(f"/proc/{p}/comm").read() == "mintfs-notices\n"]
    os.kill(helper, signal.SIGSTOP)
    drive.committed()
    drive.unmount()
    assert not drive.processes()


def test_a_keeper_that_dies_with_notices_untold_keeps_no_worker_from_ending(drive):
    draft = drive.mint()
    (helper,) = [p for p in drive.processes() if open(f"/proc/{p}/comm").read() == "mintfs-notices\n"]
    os.kill(drive.pid, signal.SIGSTOP)
    os.kill(helper, signal.SIGSTOP)
    drive.committed()
    os.kill(drive.pid, signal.SIGKILL)
    os.waitpid(drive.pid, 0)
    drive.pid = None
    wait_until(lambda: not drive.processes() and not os.path.ismount(drive.at), what="the end of the worker")
    drive.mount()
    write(draft / "model.pth", b"m")
    commit(draft)
    assert drive.versions_json() == {"product_P001_all_mlstm": 2}


@pytest.mark.parametrize("how", ["a signal", "a signal after a death", "five deaths"])
def test_a_drive_that_was_taken_away_lazily_leaves_the_next_one_in_its_place(house, drive, how):
    v = drive.mint()
    with open(v / "model.pth", "wb"):
        if how == "a signal after a death":
            die(drive)
        assert mintfs("umount", "-l", drive.at).returncode == 0
        other = house.mount(house.init("other"), at=drive.at.name)
        if how == "five deaths":
            for _ in range(5):
                died = drive.kill_worker()
                wait_until(lambda: drive.worker() != died and (drive.worker() or not drive.processes()), what="the next worker, or the end")
        else:
            os.kill(drive.pid, signal.SIGTERM)
        pid, drive.pid = drive.pid, None
        os.waitpid(pid, 0)
        assert os.path.ismount(other.at)
        other.committed()
        assert other.versions_json() == {"product_P001_all_mlstm": 1}


def test_unmounting_after_a_death_ends_all(drive):
    die(drive)
    drive.unmount()
    assert not drive.processes()


def test_status_tells_restarts_and_when(drive):
    (mount,) = json.loads(mintfs("status", drive.store, "--json").stdout)["mounts"]
    assert (mount["restarts"], mount["last_restart"], mount["last_restart_reason"]) == (0, None, None)
    assert mount["pid"] == drive.pid
    die(drive)
    (mount,) = json.loads(mintfs("status", drive.store, "--json").stdout)["mounts"]
    assert mount["restarts"] == 1 and mount["last_restart_reason"] == "killed by signal 9" and mount["last_restart"].startswith("20")
    assert "1 of its worker" in mintfs("status", drive.store).stdout


def test_the_log_says_who_died_and_what_was_taken_over(drive):
    v = drive.mint()
    with open(v / "model.pth", "wb"):
        worker = drive.worker()
        die(drive)
    text = drive.log_text()
    assert f"worker {worker} died (killed by signal 9)" in text
    assert "1 open files" in text and "took over" in text


def test_descriptors_and_memory_do_not_grow_with_deaths(drive, house, lasting, store):
    other = house.mount(house.init("second"), "mnt2", options=("deaths=0",))
    v = other.mint()
    f = open(v / "model.pth", "wb", buffering=0)

    def open_now():
        return len(os.listdir(f"/proc/{other.pid}/fd"))
    die(other, 3)
    read(other / "versions.json")
    before = open_now()  # some more or less: what the newest worker has opened and handed over by now
    die(other, 20)
    read(other / "versions.json")
    assert open_now() < before + 15, "one a death"
    f.close()


# ---- ordinary users ----


def test_an_ordinary_user_s_drive_survives_too(house):
    user = 65534  # fusermount3 wants to know the name
    helper = os.stat(run("sh", "-c", "command -v fusermount3").stdout.strip())
    if not helper.st_mode & stat.S_ISUID or not apart(os.access, binary(), os.X_OK, uid=user):
        pytest.skip("an ordinary user cannot mount here")
    old = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    if old & 0o006 != 0o006:
        os.chmod("/dev/fuse", 0o666)
        house.undo.append(lambda: os.chmod("/dev/fuse", old))
    home = house.folder / "home"
    home.mkdir()
    os.chown(home, user, user)
    drive = house.mount(house.init("home/own", uid=user), "home/mnt", options=("deaths=0", "noallow_other"), uid=user)
    t = house.worker(uid=user)
    t.do("os.makedirs(p)", p=drive / MODEL)
    t.do("os.mkdir(p)", p=drive / MODEL / "v1")
    t.do("f = open(p, 'w+b', buffering=0)", p=drive / MODEL / "v1/model.pth")
    for n in range(3):
        t.do("f.write(b'x' * 10)")
        drive.kill_worker()
        assert t.do("os.fstat(f.fileno()).st_size") == 10 * (n + 1)
    t.do("f.close()")
    t.do("os.chmod(p, 0o555)", p=drive / MODEL / "v1")
    assert t.do("open(p, 'rb').read()", p=drive / MODEL / "v1/model.pth") == b"x" * 30


# ---- upgrade ----


@BOTH
def test_another_program_takes_over_a_drive_in_use(house, lasting, options):
    drive = lasting(options)
    new = house.folder / "new-mintfs"
    shutil.copy2(binary(), new)
    v = drive.mint()
    f = open(v / "model.pth", "w+b", buffering=0)
    f.write(b"by the old")
    keeper = drive.pid
    run(new, "upgrade", drive.at)
    assert os.readlink(f"/proc/{keeper}/exe") == str(new) and os.readlink(f"/proc/{drive.worker()}/exe") == str(new)
    f.write(b", by the new")
    assert os.pread(f.fileno(), 100, 0) == b"by the old, by the new"
    f.close()
    run(binary(), "upgrade", drive.at)  # and back
    die(drive)
    commit(v)
    assert read(v / "model.pth") == b"by the old, by the new"
    assert "has taken over" in drive.log_text()


@pytest.mark.parametrize("script, words", [("#!/bin/sh\necho 999\n", "protocol 999"), ("#!/bin/sh\nexit 3\n", "no mintfs that can take over"), (None, "cannot be run")])
def test_a_program_that_cannot_take_over_is_refused_in_a_sentence_and_the_old_goes_on(house, drive, script, words):
    v = drive.mint()
    other = house.folder / "other"
    if script:
        write(other, script)
        other.chmod(0o755)
    with open(v / "model.pth", "wb") as f:
        with refused(errno.EPROTO, errno.ENOENT):
            os.setxattr(drive.at, "user.mintfs.upgrade", os.fsencode(other))
        assert words in attr(drive.at, "error")
        f.write(b"goes on")
    assert restarts(drive) == 0
    commit(v)


def test_a_program_that_takes_over_and_does_not_get_ready_gives_way_to_the_old(house, lasting):
    drive = lasting()
    v = drive.mint()
    bad = house.folder / "bad"
    write(bad, f'#!/bin/sh\n[ "$2" = --protocol ] && exec {binary()} mount --protocol\nexec {binary()} mount "$2" "$3" -o "$5,log=/no/such/directory/log"\n')
    bad.chmod(0o755)
    with open(v / "model.pth", "wb", buffering=0) as f:
        f.write(b"before")
        with refused(errno.EPROTO):
            os.setxattr(drive.at, "user.mintfs.upgrade", os.fsencode(bad))
        f.write(b", after")
    assert "the old one goes on" in attr(drive.at, "error")
    assert read(v / "model.pth") == b"before, after"
    commit(v)


def test_only_who_mounted_may_have_it_upgraded(house, drive):
    os.chmod(drive.at, 0o777)
    t = house.worker(uid=1234)
    with refused(errno.EPERM, errno.EACCES):
        t.do("os.setxattr(p, 'user.mintfs.upgrade', b'/bin/true')", p=drive.at)


# ---- in the foreground, for a service manager ----


def told(socket_):
    """A message of sd_notify(3), and the process that sent it: systemd believes the main process of a service only (NotifyAccess=main)."""
    text, more, _, _ = socket_.recvmsg(1000, socket.CMSG_SPACE(struct.calcsize("3i")))
    return text.decode().split("\n"), struct.unpack("3i", more[0][2])[0]


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_in_the_foreground_systemd_is_told_and_a_stale_mount_is_cleared_first(house, store, abstract):
    at = house.folder / "mnt"
    at.mkdir()
    name = ("@" if abstract else "") + str(house.folder / "notify")
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    heard.bind(name.replace("@", "\0", 1))
    heard.settimeout(10)
    p = subprocess.Popen([binary(), "mount", "-f", store, at], env=clean_env({"NOTIFY_SOCKET": name}), stderr=subprocess.PIPE)
    try:
        words, sender = told(heard)
        assert "READY=1" in words and f"MAINPID={p.pid}" in words and sender == p.pid
        assert os.path.ismount(at)
        children = [int(c) for c in Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text().split()]
        for c in children:
            os.kill(c, signal.SIGSTOP)
        for c in [p.pid] + children:
            os.kill(c, signal.SIGKILL)
        p.wait()
        p = subprocess.Popen([binary(), "mount", "-f", store, at], env=clean_env({"NOTIFY_SOCKET": name}), stderr=subprocess.PIPE)
        words, sender = told(heard)
        assert "READY=1" in words and sender == p.pid
        os.makedirs(at / MODEL)
        p.send_signal(signal.SIGTERM)
        words, sender = told(heard)
        assert "STOPPING=1" in words and sender == p.pid
        assert p.wait(20) == 0 and not os.path.ismount(at)
    finally:
        if p.poll() is None:
            p.kill()
        subprocess.run(["umount", "-l", str(at)], stderr=subprocess.DEVNULL)
        heard.close()


def test_a_refusal_in_the_foreground_is_one_sentence(house, store):
    at = house.folder / "mnt"
    at.mkdir()
    shutil.rmtree(store / "drafts")
    write(store / "drafts", b"no directory")
    r = mintfs("mount", "-f", store, at, check=False)
    assert r.returncode == 1 and "drafts" in r.stderr.splitlines()[-1] and not os.path.ismount(at)
