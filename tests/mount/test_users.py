"""Ordinary users: whose files are whose, what permissions allow, and a drive of one's own."""
import contextlib
import errno
import itertools
import os
import pwd
import stat
import subprocess

import pytest

from drive import MODEL, apart, binary, commit, kernel_at_least, read, refused, run, settled, state, wait_until, write

ANNA, BEN, TEAM = 4001, 4002, 4010


def mint_as(uid, drive, model=MODEL, umask=0o022):
    """A draft of this user. Its one file is not called model.*, so that it stays a draft when the process that made it ends."""
    def make():
        os.makedirs(drive / model, exist_ok=True)
        before = set(os.listdir(drive / model))
        os.mkdir(drive / model / "next")
        name = (set(os.listdir(drive / model)) - before - {"latest"}).pop()
        write(drive / model / name / "weights.pth", b"of %d" % uid)
        return name

    return drive / model / apart(make, uid=uid, umask=umask)


def test_a_draft_and_its_files_belong_to_who_made_them(drive):
    v = mint_as(ANNA, drive)
    for path in (drive / MODEL, v, v / "weights.pth"):
        assert (os.stat(path).st_uid, os.stat(path).st_gid) == (ANNA, ANNA), path
    assert stat.S_IMODE(os.stat(v).st_mode) == 0o755 and stat.S_IMODE(os.stat(v / "weights.pth").st_mode) == 0o644
    apart(os.makedirs, v / "sub/deep", uid=ANNA)
    apart(os.symlink, "x", v / "link", uid=ANNA)
    apart(os.link, v / "weights.pth", v / "hard", uid=ANNA)
    for path in ("sub", "sub/deep", "link", "hard"):
        assert os.lstat(v / path).st_uid == ANNA
    apart(commit, v, uid=ANNA)
    assert (os.stat(v).st_uid, os.stat(v / "weights.pth").st_uid, os.stat(v / "metadata.json").st_uid) == (ANNA, ANNA, ANNA)


def test_another_user_reads_a_draft_and_cannot_change_it(drive):
    v = mint_as(ANNA, drive)
    assert apart(read, v / "weights.pth", uid=BEN) == b"of 4001"
    for change in (lambda: open(v / "weights.pth", "wb"), lambda: open(v / "new", "w"), lambda: os.mkdir(v / "d"), lambda: os.unlink(v / "weights.pth"),
                   lambda: os.rename(v / "weights.pth", v / "x"), lambda: os.symlink("a", v / "l"), lambda: os.truncate(v / "weights.pth", 0)):
        with refused(errno.EACCES):
            apart(lambda: change() and None, uid=BEN)
    for change in (lambda: os.chmod(v / "weights.pth", 0o666), lambda: commit(v), lambda: os.chown(v / "weights.pth", BEN, BEN), lambda: os.utime(v / "weights.pth", (1, 1))):
        with refused(errno.EPERM):
            apart(lambda: change() and None, uid=BEN)
    with refused(errno.EACCES, errno.EPERM):
        apart(os.rmdir, v, uid=BEN)
    assert read(v / "weights.pth") == b"of 4001" and state(v) == "draft" and os.listdir(v) == ["weights.pth"]


def test_a_private_draft_is_private_before_and_after_its_commit(drive):
    v = mint_as(ANNA, drive, umask=0o077)
    for step in ("draft", "committed"):
        assert state(v) == step
        with refused(errno.EACCES):
            apart(os.listdir, v, uid=BEN)
        with refused(errno.EACCES):
            apart(read, v / "weights.pth", uid=BEN)
        assert apart(read, v / "weights.pth", uid=ANNA) == b"of 4001"
        apart(commit, v, uid=ANNA)


def test_who_may_not_write_the_model_cannot_mint_there(drive):
    mint_as(ANNA, drive)
    for name in ("latest", "next", "v9"):
        with refused(errno.EACCES):
            apart(os.mkdir, drive / MODEL / name, uid=BEN)
    apart(os.chmod, drive / MODEL, 0o777, uid=ANNA)
    apart(os.mkdir, drive / MODEL / "v9", uid=BEN)
    assert os.stat(drive / MODEL / "v9").st_uid == BEN


def test_everybody_may_found_models_and_only_their_owner_removes_them(drive):
    for mode in ("product", "store", "global"):
        assert stat.S_IMODE(os.stat(drive / mode).st_mode) == 0o1777
    apart(os.makedirs, drive / "store/S1_all/kan", uid=ANNA)
    with refused(errno.EPERM, errno.EACCES):
        apart(os.rmdir, drive / "store/S1_all/kan", uid=BEN)
    apart(os.rmdir, drive / "store/S1_all/kan", uid=ANNA)
    apart(os.rmdir, drive / "store/S1_all", uid=ANNA)


def test_a_team_shares_a_model_by_a_setgid_directory(drive):
    model = drive.model()
    os.chown(model, ANNA, TEAM)
    os.chmod(model, 0o2775)

    def of_ben():
        os.mkdir(model / "v5")
        write(model / "v5/weights.pth", b"of ben")
        os.mkdir(model / "v5/sub")

    apart(of_ben, uid=BEN, gid=TEAM, umask=0o002)
    for path in ("v5", "v5/weights.pth", "v5/sub"):
        assert os.stat(model / path).st_gid == TEAM
    apart(lambda: write(model / "v5/weights.pth", b"of anna"), uid=ANNA, gid=TEAM)
    assert read(model / "v5/weights.pth") == b"of anna"


def test_root_s_daemon_gives_an_ordinary_user_no_more_than_he_has(drive):
    v = mint_as(ANNA, drive)
    for change in (lambda: os.chown(v / "weights.pth", BEN, -1), lambda: os.chown(v / "weights.pth", -1, BEN), lambda: os.chown(v, 0, 0)):
        with refused(errno.EPERM):
            apart(lambda: change() and None, uid=ANNA)
    write(v / "secret", b"root's")
    os.chmod(v / "secret", 0o600)
    with refused(errno.EACCES):
        apart(read, v / "secret", uid=ANNA)
    os.symlink("/etc/shadow", v / "shadow")
    with refused(errno.EACCES):
        apart(read, v / "shadow", uid=ANNA)


def test_the_store_itself_is_closed_to_ordinary_users(drive):
    mint_as(ANNA, drive)
    assert stat.S_IMODE(os.stat(drive.store).st_mode) == 0o700
    for path in (drive.store, drive.store / "blobs", drive.store / "drafts"):
        with refused(errno.EACCES):
            apart(os.listdir, path, uid=ANNA)


def test_a_stranger_who_upgrades_a_drive_is_told_the_rule_and_not_an_older_refusal(drive):
    with refused(errno.EINVAL):
        os.mkdir(drive / "nonsense")
    done = apart(lambda: (lambda p: (p.returncode, p.stderr))(subprocess.run([binary(), "upgrade", drive.at], capture_output=True, text=True)), uid=ANNA)
    assert done == (1, f"mintfs upgrade: {drive.at} is not upgraded: only who mounted it, and root, may do that\n")


def test_alias_changes_follow_the_permissions_of_the_model(drive):
    v = mint_as(ANNA, drive)
    commit(v)
    apart(os.symlink, "v1", drive / MODEL / "production", uid=ANNA)
    with refused(errno.EACCES):
        apart(os.unlink, drive / MODEL / "production", uid=BEN)
    with refused(errno.EACCES):
        apart(os.symlink, "v1", drive / MODEL / "mine", uid=BEN)
    apart(os.unlink, drive / MODEL / "production", uid=ANNA)


@pytest.mark.skipif(not kernel_at_least(6, 15), reason="exit statuses are known from Linux 6.15 on")
def test_a_training_of_an_ordinary_user_commits_itself(house, drive):
    t = house.worker(uid=ANNA)
    path = drive / MODEL / "latest"
    t.do("os.makedirs(p)", p=path)
    t.write(path / "model.pth", b"of anna")
    t.exit(0)
    settled(drive / MODEL / "v1")
    assert os.stat(drive / MODEL / "v1/metadata.json").st_uid == ANNA
    assert b'"user": "4001"' in read(drive / MODEL / "v1/metadata.json")


KEPT = ("dac_override", "dac_read_search", "fowner", "chown", "fsetid", "kill", "setgid", "setuid", "linux_immutable", "sys_ptrace", "sys_admin", "lease")
NUMBERS = {"chown": 0, "dac_override": 1, "dac_read_search": 2, "fowner": 3, "fsetid": 4, "kill": 5, "setgid": 6, "setuid": 7, "linux_immutable": 9, "sys_ptrace": 19,
           "sys_admin": 21, "lease": 28}


def statuses(pid):
    """/proc/PID/status of each thread, as a dict. ThreadSanitizer has a thread of its own from before main, which keeps all capabilities: with it, of the first thread."""
    tasks = []
    with contextlib.suppress(FileNotFoundError):  # the child that looks at git is gone in a moment
        tasks = [str(pid)] if b"__tsan_init" in read(binary()) else os.listdir(f"/proc/{pid}/task")
    for task in tasks:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/task/{task}/status") as f:
            yield dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def test_the_daemon_of_root_holds_only_the_capabilities_it_uses(drive):
    mint_as(ANNA, drive)
    allowed = sum(1 << NUMBERS[name] for name in KEPT)
    seen = list(itertools.chain(*(statuses(pid) for pid in drive.processes())))
    assert len(seen) > 2  # the keeper, and the worker's threads
    for s in seen:
        for which in ("CapPrm", "CapEff", "CapBnd"):
            assert int(s[which], 16) & ~allowed == 0, (which, s[which])
        assert int(s["CapInh"], 16) == int(s["CapAmb"], 16) == 0 and s["NoNewPrivs"] == "1"


# ---- a drive of one's own ----


@pytest.fixture
def nobody(house):
    """An ordinary user of the password file, who may use /dev/fuse."""
    try:
        uid = pwd.getpwnam("nobody").pw_uid
    except KeyError:
        pytest.skip("there is no user nobody")
    helper = os.stat(run("sh", "-c", "command -v fusermount3").stdout.strip())
    if not helper.st_mode & stat.S_ISUID:
        pytest.skip("fusermount3 is not setuid")
    old = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    if old & 0o006 != 0o006:
        os.chmod("/dev/fuse", 0o666)
        house.undo.append(lambda: os.chmod("/dev/fuse", old))
    if not os.access(binary(), os.X_OK) or apart(os.access, binary(), os.X_OK, uid=uid) is False:
        pytest.skip("the binary lies where nobody else may run it")
    return uid


def test_an_ordinary_user_makes_a_store_mounts_it_and_trains(house, nobody):
    home = house.folder / "home"
    home.mkdir()
    os.chown(home, nobody, nobody)
    house.run(binary(), "init", home / "store", uid=nobody, env=house.sanitizer_env())
    d = house.mount(home / "store", "own", uid=nobody, options=("noallow_other",))
    path = d / MODEL / "latest"
    t = house.worker(uid=nobody)
    t.do("os.makedirs(p)", p=path)
    t.write(path / "model.pth", b"mine")
    t.do("os.chmod(p, 0o555)", p=path)
    assert t.do("os.readlink(p)", p=path) == "v1" and t.do("open(p).read()", p=path / "model.pth") == "mine"
    with refused(errno.EROFS, errno.EACCES):  # the kernel looks at the mode first
        t.do("open(p, 'wb')", p=path / "model.pth")
    t.do("os.makedirs(p)", p=path)
    t.write(path / "model.pth", b"more")
    assert t.do("open(p).read()", p=path / "model.pth") == "more"
    with refused(errno.EACCES):
        apart(os.listdir, d.at, uid=ANNA)
    seen = list(statuses(d.pid))
    assert seen and all(int(s["CapPrm"], 16) == 0 and s["NoNewPrivs"] == "0" for s in seen)  # fusermount3 unmounts it
    t.close()
    wait_until(lambda: apart(os.access, d / MODEL, os.R_OK, uid=nobody))


def test_a_store_of_somebody_else_is_refused_and_its_owner_named(house, store, nobody):
    (house.folder / "mnt").mkdir()
    os.chown(house.folder / "mnt", nobody, nobody)

    def drop():
        os.setgroups([])
        os.setgid(nobody)
        os.setuid(nobody)

    r = run(binary(), "mount", store, house.folder / "mnt", check=False, preexec_fn=drop)
    assert r.returncode == 1 and str(store) in r.stderr and "root" in r.stderr and len(r.stderr.splitlines()) == 1
