"""Three users on one drive: Anna, whose model it is, Ben of her team, and Carl, a stranger, who tries to cross each line."""
import contextlib
import ctypes
import errno
import os
import shutil
import socket
import stat
import threading
from pathlib import Path

import pytest

from drive import MODEL, apart, binary, commit, libc, mount_lines, read, reason, refused, run, snapshot, state, wait_until, write

ANNA, BEN, CARL, TEAM = 4001, 4002, 4003, 4010
AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW = -100, 0x1000, 0x400


def as_anna(function, *args, **kw):
    return apart(function, *args, uid=ANNA, **kw)


def as_ben(function, *args, **kw):
    """His team is none of the ids that a request carries."""
    return apart(function, *args, uid=BEN, groups=(4, TEAM), **kw)


def as_carl(function, *args, **kw):
    return apart(function, *args, uid=CARL, groups=(4,), **kw)


def minted(model, as_whom, files={"weights.pth": b"w"}, umask=0o022):
    """A draft that stays one when its maker ends: it has no file model.*"""
    def make():
        before = set(os.listdir(model))
        os.mkdir(model / "next")
        name = (set(os.listdir(model)) - before - {"latest"}).pop()
        for path, data in files.items():
            write(model / name / path, data)
        return name
    return model / as_whom(make, umask=umask)


@pytest.fixture
def shared(drive):
    """A model of Anna that her team may write."""
    model = drive.model()
    os.chown(model, ANNA, TEAM)
    os.chmod(model, 0o2775)
    return model


@pytest.fixture
def tool(house):
    """The command where everybody may run it."""
    shutil.copy(binary(), house.folder / "mintfs")
    (house.folder / "mintfs").chmod(0o755)

    def call(as_whom, *argv):
        r = as_whom(lambda: (lambda r: (r.returncode, r.stdout + r.stderr))(run(house.folder / "mintfs", *argv, check=False, env=house.sanitizer_env())))
        assert "Sanitizer" not in r[1], r[1]
        return r
    return call


# ---- the model, by its mode ----


def test_a_supplementary_group_mints_and_sets_aliases_and_a_stranger_does_not(shared):
    v = minted(shared, as_ben, umask=0o002)
    assert (os.stat(v).st_uid, os.stat(v).st_gid, stat.S_IMODE(os.stat(v).st_mode)) == (BEN, TEAM, 0o2775)
    as_ben(commit, v)
    as_ben(os.symlink, v.name, shared / "production")
    for change in (lambda: os.mkdir(shared / "next"), lambda: os.mkdir(shared / "latest"), lambda: os.mkdir(shared / "v9"), lambda: os.symlink("v1", shared / "mine"),
                   lambda: os.unlink(shared / "production"), lambda: os.rename(shared / "production", shared / "mine")):
        with refused(errno.EACCES):
            as_carl(change)
    os.chmod(shared, 0o2755)
    with refused(errno.EACCES):
        as_ben(os.unlink, shared / "production")


def test_umask_decides_who_reads_a_version_before_and_after_its_commit(shared):
    for umask, ben_reads, carl_reads in ((0o077, False, False), (0o027, True, False), (0o022, True, True)):
        v = minted(shared, as_anna, umask=umask)
        for step in ("draft", "committed"):
            for as_whom, reads in ((as_ben, ben_reads), (as_carl, carl_reads)):
                with contextlib.nullcontext() if reads else refused(errno.EACCES):
                    assert as_whom(read, v / "weights.pth") == b"w"
            as_anna(commit, v)
            assert state(v) == "committed"
        assert stat.S_IMODE(os.stat(v / "weights.pth").st_mode) == 0o444 & ~umask


def test_the_command_line_obeys_the_same_rules(shared, drive, tool):
    v = minted(shared, as_anna)
    for argv in (("commit", v), ("discard", v), ("discard", "--force", v)):
        code, text = tool(as_carl, *argv)
        assert code == 1 and "you may not" in text and state(v) == "draft", text
    code, text = tool(as_ben, "commit", v, "-m", "by ben")  # of the team, though the draft is Anna's alone
    assert code == 0, text
    assert state(v) == "committed" and os.getxattr(v, "user.mintfs.message") == b"by ben"
    for argv in (("alias", shared, "production", "v1"),):
        code, text = tool(as_carl, *argv)
        assert code == 1 and "you may not" in text, text
        assert tool(as_ben, *argv)[0] == 0
    assert tool(as_carl, "alias", "-d", shared, "production")[0] == 1 and os.readlink(shared / "production") == "v1"
    w = minted(shared, as_anna)
    assert tool(as_ben, "discard", w)[0] == 0
    wait_until(lambda: not os.path.lexists(w))
    drive.unmount()  # until here the drive answered for the store
    for argv in (("list",), ("log", MODEL), ("status",), ("commit", MODEL + "/v1"), ("alias", MODEL, "mine", "v1")):
        code, text = tool(as_carl, *argv, "--store", drive.store)
        assert code == 1 and "root" in text and len(text.splitlines()) == 1, text


def test_the_owner_of_a_store_is_its_master_and_no_one_else_is(house, tool):
    """By the command line on an unmounted store: the modes in the catalog count, not who may open the files."""
    d = house.mount(house.init())
    model = d.model()
    os.chown(model, ANNA, TEAM)
    v = minted(model, as_anna)
    d.unmount()
    run("chown", "-R", f"{BEN}:{BEN}", d.store)
    assert tool(as_carl, "commit", MODEL + "/" + v.name, "--store", d.store)[0] == 1
    code, text = tool(as_ben, "commit", MODEL + "/" + v.name, "--store", d.store)
    assert code == 0, text


def test_an_owner_and_a_group_commit_and_discard_what_others_made_in_their_model(shared):
    os.chmod(shared, 0o2777)
    v, w = minted(shared, as_carl), minted(shared, as_carl)
    with refused(errno.ENOENT):
        as_ben(os.setxattr, shared, "user.mintfs.commit", b"v77")
    as_ben(os.setxattr, shared, "user.mintfs.commit", v.name.encode() + b" of the team")
    assert state(v) == "committed" and os.getxattr(v, "user.mintfs.message") == b"of the team"
    as_anna(os.setxattr, shared, "user.mintfs.discard", w.name.encode())
    wait_until(lambda: not os.path.lexists(w))


def test_open_modes_do_not_let_a_stranger_commit_or_discard(shared):
    """Carl may write to everything here, as the modes say; but a version is frozen or given up by its own people."""
    os.chmod(shared, 0o2777)
    v = minted(shared, as_anna)
    os.chmod(v, 0o777)
    os.chmod(v / "weights.pth", 0o666)
    as_carl(write, v / "weights.pth", b"by carl")
    for name, value in (("commit", b""), ("commit", b"mine"), ("discard", b"1"), ("discard", b"force")):
        with refused(errno.EACCES):
            as_carl(os.setxattr, v, "user.mintfs." + name, value)
        with refused(errno.EACCES):
            as_carl(os.setxattr, shared, "user.mintfs." + name, v.name.encode() + b" " + value)
        assert "carl" not in reason(v) and "4003" in reason(shared)
    with refused(errno.EPERM):
        as_carl(os.chmod, v, 0o555)
    assert state(v) == "draft" and read(v / "weights.pth") == b"by carl"
    as_ben(os.setxattr, v, "user.mintfs.commit", b"")
    assert state(v) == "committed"


def test_aliases_of_a_sticky_model_are_its_owner_s(shared):
    v = minted(shared, as_anna)
    as_anna(commit, v)
    as_anna(os.symlink, "v1", shared / "production")
    os.chmod(shared, 0o3775)
    with refused(errno.EPERM):
        as_ben(os.unlink, shared / "production")
    as_ben(os.symlink, "v1", shared / "candidate")
    as_anna(os.unlink, shared / "production")


def test_a_draft_given_away_is_committed_by_its_new_owner(shared):
    os.chmod(shared, 0o755)
    v = minted(shared, as_anna)
    os.chown(v, CARL, CARL)
    with refused(errno.EPERM):
        as_ben(commit, v)
    as_carl(commit, v)
    assert state(v) == "committed"


# ---- runs ----


MINTS = """
import os, sys
n = 0
while n < 400:
    try:
        os.mkdir(sys.argv[1] + "/next")
    except OSError as e:
        print(n, e.errno, flush=True)
        break
    n += 1
sys.stdin.read()
"""


def test_one_user_s_drafts_do_not_shut_the_drive_for_another(house, store):
    drive = house.mount(store, descriptors=256)
    models = {}
    for who in (ANNA, BEN):
        models[who] = drive.model(f"product/{who}_all/mlstm")
        os.chown(models[who], who, who)
    anna = house.start(f"exec setpriv --reuid {ANNA} --regid {ANNA} --clear-groups /usr/bin/python3 -I -S -c \"$CODE\" {models[ANNA]}", env={"CODE": MINTS}, cwd="/")
    n, error = map(int, anna.stdout.readline().split())
    try:
        assert n > 20 and error == errno.EDQUOT and "as many drafts as one user may have" in reason(models[ANNA]), (n, errno.errorcode[error])
        v = minted(models[BEN], as_ben)
        as_ben(commit, v)
        assert state(v) == "committed"
        minted(models[ANNA], lambda f, **kw: f())  # root
    finally:
        anna.stdin.close()
        anna.wait(20)


def test_a_run_id_joins_no_two_users(house, shared):
    """127.0.0.1:29500 is everybody's, and any word can be said by a stranger who has made a draft ready for others to write into."""
    os.chmod(shared, 0o777)
    env = {"RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    carl, anna = house.worker(uid=CARL, env=env), house.worker(uid=ANNA, env=env)
    carl.do("os.umask(0)")
    carl.do("os.makedirs(p)", p=shared / "latest")
    trap = shared / carl.do("os.readlink(p)", p=shared / "latest")
    with refused(errno.ENOENT):
        anna.do("os.readlink(p)", p=shared / "latest")
    anna.do("os.makedirs(p, exist_ok=True)", p=shared / "latest")
    anna.write(shared / "latest/weights.pth", b"of anna")
    own = shared / anna.do("os.readlink(p)", p=shared / "latest")
    assert own != trap and os.listdir(trap) == [] and read(own / "weights.pth") == b"of anna"
    second = house.worker(uid=ANNA, env=env)  # the next rank
    with refused(errno.EEXIST):
        second.do("os.mkdir(p)", p=shared / "latest")
    assert second.do("os.readlink(p)", p=shared / "latest") == own.name


# ---- what is private stays so ----


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]


def open_by_handle(where, path):
    """Names the file by a handle (as root), and opens it by that."""
    h, mount_id = Handle(bytes=128), ctypes.c_int()
    if libc.name_to_handle_at(AT_FDCWD, os.fsencode(path), ctypes.byref(h), ctypes.byref(mount_id), 0) < 0:
        return lambda: os.strerror(ctypes.get_errno())

    def again():
        fd = os.open(where, os.O_RDONLY)
        got = libc.open_by_handle_at(fd, ctypes.byref(h), os.O_RDONLY)
        if got < 0:
            raise OSError(ctypes.get_errno(), "open_by_handle_at")
        return os.read(got, 100)
    return again


def test_a_private_draft_is_reached_neither_by_name_nor_by_handle(house, shared):
    v = minted(shared, as_anna, {"weights.pth": b"secret"}, umask=0o077)
    os.mkdir(v / "sub")
    write(v / "sub/deep", b"secret")
    os.chmod(v / "sub/deep", 0o666)
    os.chmod(v / "weights.pth", 0o666)
    own = minted(shared, as_anna)  # readable, and of the same model
    holder = house.worker(uid=ANNA)
    holder.do("f = open(p)", p=v / "weights.pth")
    holder.do("os.chdir(p)", p=v)
    for path in (v / "weights.pth", v / "sub/deep", own / "../v1/weights.pth", own / f"../{v.name}/sub/deep", Path(f"/proc/{holder.pid}/cwd/weights.pth"),
                 Path(f"/proc/{holder.pid}/fd/3")):
        with refused(errno.EACCES):
            as_ben(read, path)
        with refused(errno.EACCES):
            as_ben(os.stat, path)
    for name in ("user.mintfs.error", "user.mintfs.run", "user.mintfs.state"):
        with refused(errno.EACCES):
            as_ben(os.getxattr, v, name)
    with refused(errno.EACCES):
        as_ben(os.listdir, v)
    with refused(errno.EACCES):
        as_ben(os.chdir, v)
    with refused(errno.EPERM, errno.ESTALE, errno.EOPNOTSUPP):
        as_ben(open_by_handle(shared, v / "weights.pth"))


# ---- the store's own files ----


def test_links_that_leave_a_draft_are_just_links_to_the_reader(house, shared, drive):
    v = minted(shared, as_anna)
    inside = drive.store / "drafts"
    targets = {"store": drive.store, "catalog": drive.store / "catalog.db", "drafts": inside, "up": "../" * 30 + "etc/shadow", "proc": f"/proc/{drive.pid}/fd",
               "root": f"/proc/{drive.pid}/root/etc/shadow", "self": "/proc/self/fd"}
    for name, target in targets.items():
        as_anna(os.symlink, str(target), v / name)
        assert as_anna(os.readlink, v / name) == str(target)
    for name in ("catalog", "up", "root"):
        with refused(errno.EACCES):
            as_anna(read, v / name)
        with refused(errno.EACCES):
            as_anna(lambda n=name: open(v / n, "r+b"))
    for name in ("store", "drafts", "proc"):
        with refused(errno.EACCES):
            as_anna(os.listdir, v / name)
    for name in ("store", "drafts"):
        with refused(errno.EACCES):
            as_anna(write, v / name / "x", b"")
    assert as_anna(lambda: sorted(os.listdir(v / "self")))  # the reader's own, not the daemon's
    before = snapshot(v, times=False)
    as_anna(commit, v)
    assert {k: w for k, w in snapshot(v, times=False).items() if os.path.basename(k) in map(os.fsencode, targets)} == \
        {k: w for k, w in before.items() if os.path.basename(k) in map(os.fsencode, targets)}
    with refused(errno.EACCES):
        as_anna(read, v / "up")


def test_documents_that_are_links_are_not_followed_by_the_daemon(shared):
    """A commit by root's daemon must not read for somebody what he may not read himself."""
    v = minted(shared, as_anna)
    for target in ("/etc/shadow", "weights.pth", str(v / "weights.pth")):
        as_anna(os.symlink, target, v / "metadata.json")
        with refused(errno.EINVAL):
            as_anna(commit, v)
        assert "symbolic link" in reason(v) and "root:" not in reason(v)
        as_anna(os.unlink, v / "metadata.json")
    as_anna(os.symlink, "/etc/shadow", v / "model.npz")  # no torn archive: it is a link
    as_anna(commit, v)
    assert state(v) == "committed" and os.path.islink(v / "model.npz")


def test_names_and_descriptors_do_not_carry_a_file_from_one_version_to_another(house, shared):
    v, w = minted(shared, as_anna), minted(shared, as_anna)
    done = minted(shared, as_anna)
    as_anna(commit, done)
    outside = house.folder / "outside"
    write(outside, b"outside")
    os.chown(outside, ANNA, ANNA)
    for source in (v / "weights.pth", done / "weights.pth", outside):
        with refused(errno.EXDEV):
            as_anna(os.link, source, w / "stolen")
    with refused(errno.EXDEV):
        as_anna(os.link, v / "weights.pth", house.folder / "stolen")
    with refused(errno.EXDEV, errno.EPERM, errno.EROFS):
        as_anna(os.rename, v / "weights.pth", w / "stolen")

    def by_descriptor(path, flags):
        fd = os.open(path, flags, 0o600)
        try:
            if libc.linkat(AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, os.fsencode(w / "stolen"), AT_SYMLINK_FOLLOW) < 0:
                raise OSError(ctypes.get_errno(), "linkat")
        finally:
            os.close(fd)
    with refused(errno.EXDEV):
        as_anna(by_descriptor, v / "weights.pth", os.O_RDONLY)
    with refused(errno.EXDEV):
        as_anna(by_descriptor, done / "weights.pth", os.O_RDONLY)
    with refused(errno.EXDEV):
        as_anna(by_descriptor, v, os.O_TMPFILE | os.O_RDWR)
    as_anna(by_descriptor, w, os.O_TMPFILE | os.O_RDWR)  # its own
    assert os.listdir(v) == ["weights.pth"] and sorted(os.listdir(w)) == ["stolen", "weights.pth"]


def test_a_descriptor_for_reading_is_not_opened_again_for_writing(shared):
    v = minted(shared, as_anna)
    done = minted(shared, as_anna)
    os.chmod(done / "weights.pth", 0o666)

    def again(path):
        fd = os.open(path, os.O_RDONLY)
        return os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    with refused(errno.EACCES):
        as_carl(again, v / "weights.pth")
    kept = os.open(done / "weights.pth", os.O_RDONLY)
    as_anna(commit, done)
    for path in (f"/proc/self/fd/{kept}", f"/dev/fd/{kept}"):
        with refused(errno.EROFS):
            os.open(path, os.O_RDWR)  # by root, whom no mode stops
        with refused(errno.EROFS):
            os.truncate(path, 0)
    os.close(kept)
    assert read(done / "weights.pth") == b"w"


def test_a_foreign_file_within_a_draft_gets_no_second_name_from_a_stranger(shared):
    with open("/proc/sys/fs/protected_hardlinks") as f:
        if f.read().strip() != "1":
            pytest.skip("fs.protected_hardlinks is off: the kernel allows it everywhere")
    v = minted(shared, as_anna)
    os.chmod(v, 0o777)
    with refused(errno.EPERM):
        as_carl(os.link, v / "weights.pth", v / "mine")


def test_no_set_id_bit_no_device_and_no_socket_gets_in(house, shared):
    """Root tries it, whom no permission stops."""
    v = minted(shared, as_anna)
    for mode in (0o4755, 0o2755, 0o6755):
        for change in (lambda m=mode: os.chmod(v / "weights.pth", m), lambda m=mode: os.close(os.open(v / "new", os.O_CREAT | os.O_RDWR, m)),
                       lambda m=mode: os.mknod(v / "node", stat.S_IFREG | m)):
            with refused(errno.EPERM):
                change()
    with refused(errno.EPERM):
        os.chmod(v, 0o4755)
    for kind in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
        with refused(errno.EPERM):
            os.mknod(v / "special", kind | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as s, refused(errno.EPERM):
        os.chdir(v)
        s.bind("sock")
    os.chdir("/")
    assert os.listdir(v) == ["weights.pth"]
    program = house.folder / "program"
    write(program, b"#!/bin/sh\n")
    os.chmod(program, 0o4755)
    run("cp", "-a", program, v / "program", check=False)
    if (v / "program").exists():
        assert os.stat(v / "program").st_mode & 0o6000 == 0
    flags = next(line for line in mount_lines() if line[1] == os.fspath(v.parents[3]))[3].split(",")
    assert "nosuid" in flags and "nodev" in flags


SWAPS = r"""
import os, sys
top, victim, end = sys.argv[1], sys.argv[2], sys.argv[3]
os.chdir(top)
while not os.path.exists(end):
    for name in ("a", "a/b", "a/b/c"):
        try:
            os.rename(name, "aside")
            os.symlink(victim, name)
            os.unlink(name)
        except OSError:
            pass
        try:
            os.rename("aside", name)
        except OSError:
            pass
"""

WORK = r"""
import os, sys
top, end = sys.argv[1], sys.argv[2]
n = 0
while not os.path.exists(end):
    n += 1
    for step in (lambda: open(f"{top}/a/b/c/f{n}", "w").close(), lambda: os.mkdir(f"{top}/a/b/c/d{n}"), lambda: os.rename(f"{top}/a/b/c/f{n}", f"{top}/a/b/g{n}"),
                 lambda: os.unlink(f"{top}/a/b/g{n}"), lambda: os.rmdir(f"{top}/a/b/c/d{n}"), lambda: os.chmod(f"{top}/a/b/c", 0o755), lambda: os.listdir(f"{top}/a/b/c"),
                 lambda: os.link(f"{top}/weights.pth", f"{top}/a/b/c/l{n}"), lambda: os.unlink(f"{top}/a/b/c/l{n}")):
        try:
            step()
        except OSError:
            pass
"""


@pytest.mark.parametrize("descriptors", [1024, 160])
def test_directories_that_are_swapped_for_links_lead_the_daemon_nowhere(house, store, descriptors):
    """With few descriptors the daemon opens directories anew by their names, again and again: what stands there then must not be followed."""
    drive = house.mount(store, descriptors=descriptors)
    model = drive.model()
    os.chown(model, ANNA, TEAM)
    v = minted(model, as_anna)
    as_anna(os.makedirs, v / "a/b/c")
    for i in range(100):  # directories that the kernel holds, so that the daemon's share of descriptors is used up
        as_anna(os.makedirs, v / f"many/{i}")
    victim, end = house.folder / "victim", house.folder / "end"
    victim.mkdir()
    for name in ("b", "b/c"):
        (victim / name).mkdir()
    write(victim / "f1", b"root's")
    before = snapshot(victim)
    users = [house.start(f"exec setpriv --reuid {ANNA} --regid {ANNA} --clear-groups /usr/bin/python3 -I -S -c \"$CODE\" {args}", env={"CODE": code}, cwd="/")
             for code, args in ((SWAPS, f"{v} {victim} {end}"), (WORK, f"{v} {end}"), (WORK, f"{v} {end}"))]
    threading.Event().wait(2.0)  # a race is given time, not a condition
    write(end)
    for p in users:
        p.wait(20)
        assert p.returncode == 0, p.stderr.read()
    assert snapshot(victim) == before
    state_of_store = sorted(p.name for p in store.iterdir())
    assert state_of_store == sorted(["blobs", "catalog.db", "catalog.db-shm", "catalog.db-wal", "config.json", "drafts", "lock", "run"]), state_of_store
    assert [p.name for p in (store / "drafts").iterdir()] == ["1"]


@pytest.mark.parametrize("what", ["config.json", "mintfs.log", "run", "run/1", "blobs", "blobs/SHARD", "blobs/BLOB", "drafts", "drafts/DRAFT", "lock", "catalog.db", "catalog.db-wal"])
@pytest.mark.parametrize("how", ["link", "pipe"])
def test_a_user_s_store_leads_root_s_daemon_nowhere(house, what, how):
    """Root mounts a store in which its owner has put a link, or a pipe, where MintFS looks for something of its own."""
    store = house.init()
    drive = house.mount(store)
    done, v = drive.committed(files={"weights.pth": b"w"}), drive.mint()
    write(v / "weights.pth", b"of the draft")
    drive.unmount()
    run("chattr", "-R", "-i", store, check=False)
    blob = next(p for p in (store / "blobs").glob("??/*") if p.read_bytes() == b"w")
    place = store / what.replace("SHARD", blob.parent.name).replace("BLOB", f"{blob.parent.name}/{blob.name}").replace("DRAFT", "2")
    victim = house.folder / "victim"
    if place.is_dir() and not place.name == "1":
        victim.mkdir()
        shutil.copytree(place, victim, dirs_exist_ok=True)
    else:
        write(victim, place.read_bytes() if place.exists() else b"")
    if place.exists():
        run("rm", "-r", place)
    os.symlink(victim, place) if how == "link" else os.mkfifo(place)
    run("chown", "-hR", f"{CARL}:{CARL}", store)
    before = snapshot(victim)
    drive.at.mkdir(exist_ok=True)
    log = [] if what == "mintfs.log" else ["-o", f"log={house.folder}/log"]
    r = run("timeout", "40", binary(), "mount", store, drive.at, *log, check=False, env=house.sanitizer_env())
    assert r.returncode in (0, 1) and len(r.stderr.splitlines()) <= 1, (r.returncode, r.stderr)
    if r.returncode == 0:
        drive.pid = drive.find_daemon()
        for step in (lambda: read(done / "weights.pth"), lambda: write(v / "weights.pth", b"again"), lambda: write(v / "new", b"again"), lambda: commit(v),
                     lambda: drive.committed()):
            with contextlib.suppress(OSError, AssertionError):
                step()
        if what.startswith("blobs/"):
            with refused(errno.EIO):
                read(done / "weights.pth")
    assert snapshot(victim) == before
