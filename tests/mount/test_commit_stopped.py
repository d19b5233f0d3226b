"""A commit of terabytes takes an hour. It ends when nobody waits for it any more, and its draft is as it was."""
import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drive import commit, read, reason, state, wait_until, write

HUGE = 1 << 40  # bytes, of a hole: minutes of hashing
SOON = 10.0  # seconds, of a busy machine; the grace of a drive that is to end included

CHMOD = "import os, sys; os.chmod(sys.argv[1], 0o555)"
SETFATTR = "import os, sys; os.setxattr(sys.argv[1], 'user.mintfs.commit', b'a message')"


@pytest.fixture(params=[(), ("nopassthrough",)], ids=["passthrough", "by-the-daemon"])
def drive(house, store, request):
    return house.mount(store, options=request.param)


def huge_draft(drive):
    v = drive.mint()
    write(v / "model.bin", b"weights")
    os.truncate(v / "model.bin", HUGE)
    return v


def is_committing(v):
    """A frozen draft takes no change."""
    try:
        os.utime(v / "model.bin", ns=(1, 1))
    except OSError as e:
        assert e.errno == errno.EBUSY
        return True
    return False


def begin_commit(house, v, how=CHMOD):
    p = subprocess.Popen([sys.executable, "-I", "-S", "-c", how, v], stderr=subprocess.PIPE, text=True)
    house.undo.append(p.stderr.close)
    house.undo.append(p.kill)
    wait_until(lambda: is_committing(v), what="the commit is under way")
    return p


def as_it_was(v):
    assert state(v) == "draft"
    assert os.stat(v).st_mode & 0o200
    assert os.stat(v / "model.bin").st_size == HUGE
    os.truncate(v / "model.bin", 7)
    assert read(v / "model.bin") == b"weights"
    commit(v)
    assert state(v) == "committed"


@pytest.mark.parametrize("how", [CHMOD, SETFATTR], ids=["chmod", "setfattr"])
@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGINT, signal.SIGQUIT])
def test_a_commit_ends_when_who_asked_for_it_is_killed(house, drive, how, sig):
    v = huge_draft(drive)
    p = begin_commit(house, v, "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); " + how)
    p.send_signal(sig)
    assert p.wait(SOON) == -sig
    assert "was killed" in reason(v)
    as_it_was(v)


def test_a_commit_goes_on_when_who_asked_for_it_gets_a_signal_that_he_handles(house, drive):
    v = huge_draft(drive)
    p = begin_commit(house, v, "import signal; signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05); " + CHMOD)
    with pytest.raises(subprocess.TimeoutExpired):
        p.wait(1)
    assert is_committing(v)
    p.kill()
    p.wait(SOON)
    as_it_was(v)


def test_a_killed_commit_leaves_another_that_waits_for_the_same_draft_its_turn(house, drive):
    v = huge_draft(drive)
    first = begin_commit(house, v)
    second = house.start(f"exec chmod a-w {v}")
    first.kill()
    assert first.wait(SOON) == -signal.SIGKILL
    wait_until(lambda: is_committing(v), what="the second commit is under way")
    second.kill()
    second.wait(SOON)
    as_it_was(v)


def test_a_commit_ends_after_the_death_of_a_worker_too(house, drive):
    v = huge_draft(drive)
    p = begin_commit(house, v)
    drive.wait_worker(drive.kill_worker())
    wait_until(lambda: is_committing(v), what="the commit is under way again")
    p.kill()
    assert p.wait(SOON) == -signal.SIGKILL
    as_it_was(v)


def test_the_end_of_a_drive_does_not_wait_for_a_commit_of_terabytes(house, drive):
    v = huge_draft(drive)
    p = begin_commit(house, v)
    os.kill(drive.pid, signal.SIGTERM)
    drive.wait_end()
    assert p.wait(SOON) != 0 and "InterruptedError" in p.stderr.read()
    assert "the drive is about to end" in drive.log_text()
    drive.mount()
    as_it_was(v)


def test_the_commit_of_a_run_that_ended_well_is_tried_again_by_the_next_mount(house, drive):
    model = drive.model()
    house.run("sh", "-c", f"mkdir {model}/latest && cd {model}/latest && echo weights > model.bin && truncate -s {HUGE} model.bin", env={"MINTFS_RUN": "one"})
    v = model / "v1"
    wait_until(lambda: is_committing(v), what="the run's commit is under way")
    drive.unmount()
    number = os.listdir(drive.store / "drafts")
    os.truncate(drive.store / "drafts" / number[0] / "model.bin", 7)
    drive.mount()
    wait_until(lambda: state(v) == "committed", SOON, "the next mount commits it")
    assert read(v / "model.bin") == b"weights" and reason(v) == ""


def run_once(house, model, n, size=0, status=0):
    """A run of its own, of a shell that writes a model; its draft."""
    script = f"mkdir {model}/latest && cd {model}/latest && echo weights > model.bin && truncate -s +{size} model.bin; exit {status}"
    p = house.start(script, env={"MINTFS_RUN": f"run {n}"})
    assert p.wait(SOON) == status
    return model / f"v{n}"


def has_heard_of_ends(drive):
    """The drive holds no descriptor of a process that is no more."""
    for info in Path(f"/proc/{drive.worker()}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if "Pid:\t-1\n" in info.read_text():
                return False
    return True


def test_runs_whose_commit_was_not_begun_are_settled_by_the_next_mount_too(house, drive):
    model = drive.model()
    runs = [run_once(house, model, n, HUGE) for n in range(1, 6)]  # more than one user may have committed at once
    failed = run_once(house, model, 6, status=3)
    wait_until(lambda: has_heard_of_ends(drive), what="the drive has heard of the runs' ends")
    drive.unmount()
    for number in os.listdir(drive.store / "drafts"):
        os.truncate(drive.store / "drafts" / number / "model.bin", 7)
    drive.mount()
    for v in runs:
        wait_until(lambda v=v: state(v) == "committed", SOON, "the next mount commits it")
        assert read(v / "model.bin") == b"weights"
    assert wait_until(lambda: reason(failed), SOON, "the next mount judges it") == "failed: exit 3" and state(failed) == "draft"


def test_a_commit_that_is_soon_done_is_waited_for_at_the_end_of_a_drive(house, drive):
    v = drive.mint()
    for i in range(60):
        write(v / f"model-{i:03}.bin", os.urandom(1 << 20))
    p = house.start(f"exec chmod a-w {v}")
    wait_until(lambda: is_busy_or_committed(v), what="the commit is under way")
    os.kill(drive.pid, signal.SIGTERM)
    drive.wait_end()
    assert p.wait(SOON) == 0
    drive.mount()
    assert state(v) == "committed"


def is_busy_or_committed(v):
    try:
        os.utime(v / "model-000.bin", ns=(1, 1))
    except OSError as e:
        assert e.errno in (errno.EBUSY, errno.EROFS)
        return True
    return False
