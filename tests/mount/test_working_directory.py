"""Who stands in a directory of a draft stands in the version when it is committed: the working directory keeps its name, reads on, and changes nothing."""
import contextlib
import errno
import os
import shutil
import subprocess
import threading

import pytest

from drive import MODEL, attr, commit, kernel_at_least, mintfs, read, refused, run, settled, sh, state, wait_until, write

BOTH = pytest.mark.parametrize("options", [(), ("nopassthrough",)], ids=["passthrough", "daemon"])


def fill(v):
    os.makedirs(v / "run1/logs/deep")
    write(v / "model.pth", b"weights")
    write(v / "run1/x", b"x of run1")
    write(v / "run1/logs/day.txt", b"day")
    write(v / "run1/logs/deep/z", b"z")
    os.symlink("x", v / "run1/link")


def by_chmod(drive, v):
    commit(v)


def by_command(drive, v):
    mintfs("commit", v, "-m", "done")


def by_attribute(drive, v):
    os.setxattr(v, "user.mintfs.commit", b"done")


def stands(t, where):
    """All that a program does with its working directory."""
    assert t.do("os.getcwd()") == os.fspath(where)
    assert t.do("sorted(os.listdir('.'))") == ["day.txt", "deep"]
    assert t.do("open('day.txt').read(), open('deep/z').read(), open('../x').read()") == ("day", "z", "x of run1")
    assert t.do("os.stat('.').st_ino == os.stat(p).st_ino", p=where)
    assert t.do("os.stat('..').st_ino == os.stat(p).st_ino", p=where.parent)
    assert t.do("[e.inode() for e in os.scandir('..') if e.name == name] == [os.stat('.').st_ino]", name=where.name)
    assert t.do("os.stat('.').st_mode & 0o7777") == 0o555


def refuses_changes(t):
    """As root, whom no mode keeps out."""
    for change in ("open('new', 'w')", "open('day.txt', 'a')", "os.mkdir('new')", "os.unlink('day.txt')", "os.rename('day.txt', 'other')", "os.rename('day.txt', '../other')",
                   "os.rename('../x', 'x')", "os.rmdir('deep')", "os.symlink('a', 'b')", "os.link('day.txt', 'other')", "os.link('../../model.pth', 'm')", "os.truncate('day.txt', 0)",
                   "os.chmod('.', 0o755)", "os.utime('.')", "os.chmod('day.txt', 0o644)"):
        with refused(errno.EROFS):
            t.do(change)
    t.do("os.chmod('.', 0o555)")  # changes nothing


@BOTH
@pytest.mark.parametrize("how", [by_chmod, by_command, by_attribute])
def test_a_program_two_levels_deep_stands_there_after_the_commit(house, store, options, how):
    drive = house.mount(store, options=options)
    v = drive.mint()
    fill(v)
    t = house.worker(cwd=v / "run1/logs")
    how(drive, v)
    stands(t, v / "run1/logs")
    refuses_changes(t)
    assert "v1 of product/P001_all/mlstm is committed and does not change" in t.do("os.getxattr('.', 'user.mintfs.error').decode()")
    assert t.do("os.getxattr('.', 'user.mintfs.state'), os.getxattr('day.txt', 'user.mintfs.version')") == (b"committed", b"v1")
    assert t.do("os.getxattr('.', 'user.mintfs.path')") == b"product/P001_all/mlstm/v1/run1/logs"
    t.do("os.chdir('deep')")
    assert t.do("os.getcwd()") == os.fspath(v / "run1/logs/deep")
    t.do("os.chdir('..')")
    stands(t, v / "run1/logs")
    wait_until(lambda: not os.path.exists(drive.store / "drafts/1"), what="the draft's tree to be away")
    stands(t, v / "run1/logs")


@pytest.mark.skipif(not kernel_at_least(6, 15), reason="exit statuses of foreign processes are known from Linux 6.15 on")
def test_a_shell_in_a_directory_of_the_run_that_ends_stands_there_after_its_commit(house, drive):
    p = drive.model() / "latest"
    trainer = house.worker()
    trainer.do("os.makedirs(p, exist_ok=True)", p=p)
    v = drive / MODEL / "v1"
    trainer.do("os.makedirs(p)", p=v / "run1/logs/deep")
    for name, data in [("model.pth", b"w"), ("run1/x", b"x of run1"), ("run1/logs/day.txt", b"day"), ("run1/logs/deep/z", b"z")]:
        trainer.write(v / name, data)
    t = house.worker(cwd=v / "run1/logs")
    assert trainer.exit(0) == 0
    settled(v)
    stands(t, v / "run1/logs")
    refuses_changes(t)


def test_a_shell_goes_on_in_its_directory(house, drive):
    v = drive.mint()
    fill(v)
    out = sh("""
        set -e
        cd run1/logs
        chmod a-w ../..
        pwd -P; cat day.txt; ls; ls -l deep | tail -1 | grep -c ' z$'
        du -a . | wc -l
        cd ..; pwd -P; cat x; cd logs; /bin/pwd; cat ../link
        find . -name z
        (cd deep; /bin/pwd)
        touch new 2>&1 || true
        bash -c 'pwd; cd deep && cd .. && echo here'
        """, cwd=v)
    here = os.fspath(v / "run1/logs")
    assert out.stdout.splitlines()[:4] == [here, "dayday.txt", "deep", "1"]
    assert out.stdout.splitlines()[4:] == ["4", os.path.dirname(here), f"x of run1{here}", "x of run1./deep/z", here + "/deep", "touch: cannot touch 'new': Read-only file system", here, "here"]
    assert out.stderr == ""


def test_git_goes_on_in_a_directory_of_its_repository(house, drive):
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    v = drive.mint()
    me = {"GIT_AUTHOR_NAME": "n", "GIT_AUTHOR_EMAIL": "e", "GIT_COMMITTER_NAME": "n", "GIT_COMMITTER_EMAIL": "e", "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(house.folder)}
    sh("mkdir -p repo/sub && cd repo && git init -q && echo 1 > sub/f && git add . && git commit -qm one", cwd=v, env=me)
    write(v / "model.pth", b"w")
    out = sh("cd repo/sub && git status --porcelain && chmod a-w ../.. && git --no-optional-locks status --porcelain && git log --format=%s && git rev-parse --show-prefix", cwd=v, env=me)
    assert out.stdout.split() == ["one", "sub/"] and out.stderr == ""


def test_a_directory_has_one_number_as_long_as_somebody_is_in_it(house, drive):
    v = drive.mint()
    fill(v)
    t = house.worker(cwd=v / "run1/logs")
    before = {p: os.stat(v / p).st_ino for p in ("run1", "run1/logs")}
    commit(v)
    assert {p: os.stat(v / p).st_ino for p in before} == before
    told = {e.name: e.inode() for e in os.scandir(v)} | {"run1/" + e.name: e.inode() for e in os.scandir(v / "run1")}
    assert {p: told[p] for p in before} == before
    assert t.do("os.stat('.').st_ino, os.stat('..').st_ino") == (before["run1/logs"], before["run1"])
    assert t.do("[os.stat(e.path).st_ino == e.inode() for e in os.scandir('.')]") == [True, True]


def pinned(drive):
    """Names of the removed directories that the daemon holds a descriptor of; a number is a draft's own."""
    folder, names = f"/proc/{drive.worker()}/fd", []
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            link = os.readlink(f"{folder}/{fd}")
            if "/drafts/" in link and link.endswith(" (deleted)"):
                names.append(os.path.basename(link.removesuffix(" (deleted)")))
    return names


def nodes(drive, v):
    """Tag of the number of each directory: a draft's entry is 7, a version's is 3."""
    return {p: os.stat(v / p).st_ino >> 60 for p in ("run1", "run1/logs", "run1/logs/deep")}


@pytest.mark.skipif(not kernel_at_least(6, 18), reason="FUSE_NOTIFY_PRUNE came with Linux 6.18")
def test_directories_that_nobody_is_in_become_the_versions_own_at_once(house, drive):
    v = drive.mint()
    fill(v)
    t = house.worker(cwd=v / "run1/logs")
    commit(v)
    drive.wait_tidied(v)
    # Whoever looks at it in the instant in which the kernel is told is somebody who uses it: so this waits beside the drive.
    wait_until(lambda: "deep" not in pinned(drive), what="a directory that nobody is in to be forgotten")
    assert nodes(drive, v) == {"run1": 7, "run1/logs": 7, "run1/logs/deep": 3}
    stands(t, v / "run1/logs")


@pytest.mark.skipif(not kernel_at_least(6, 18), reason="FUSE_NOTIFY_PRUNE came with Linux 6.18")
def test_what_is_kept_for_who_stands_there_is_let_go_with_him(house, drive):
    v = drive.mint()
    write(v / "model.pth", b"w")
    for n in range(300):
        os.makedirs(v / f"run1/dir{n}")
    with os.scandir(v / "run1") as it:
        first = next(it).name
        t = house.worker(cwd=v / "run1" / first)
        commit(v)
        drive.wait_tidied(v)
        wait_until(lambda: len(pinned(drive)) < 100, what="those that nobody is in to be let go")
        names = [first] + [e.name for e in it]
    assert sorted(names) == sorted(f"dir{n}" for n in range(300))
    assert t.do("os.getcwd()") == os.fspath(v / "run1" / first) and first in pinned(drive)
    drive.committed()
    t.do("os.chdir('/')")
    mintfs("retire", v)  # the kernel is told once more
    wait_until(lambda: not pinned(drive), what="what was left to be let go")


def test_descriptors_of_directories_read_on(house, drive):
    v = drive.mint()
    fill(v)
    fd = os.open(v / "run1/logs", os.O_RDONLY | os.O_DIRECTORY)
    path = os.open(v / "run1", os.O_PATH)
    commit(v)
    assert os.readlink(f"/proc/self/fd/{fd}") == os.fspath(v / "run1/logs")
    with os.fdopen(os.open("day.txt", os.O_RDONLY, dir_fd=fd)) as f:
        assert f.read() == "day"
    assert os.stat("logs", dir_fd=path).st_ino == os.fstat(fd).st_ino == os.stat(v / "run1/logs").st_ino
    with refused(errno.EROFS):
        os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    assert sorted(os.listdir(fd)) == ["day.txt", "deep"]
    os.close(fd)
    os.close(path)


def test_a_directory_renamed_just_before_the_commit_stands_under_its_new_name(house, drive):
    v = drive.mint()
    fill(v)
    t = house.worker(cwd=v / "run1/logs")
    os.rename(v / "run1", v / "final")
    os.rename(v / "final/logs", v / "final/records")
    os.mkdir(v / "run1")
    write(v / "run1/y", b"y")
    commit(v)
    stands(t, v / "final/records")
    assert sorted(os.listdir(v / "run1")) == ["y"] and read(v / "run1/y") == b"y"


def test_a_directory_removed_before_the_commit_is_gone_and_is_not_mixed_with_its_successor(house, drive):
    v = drive.mint()
    fill(v)
    os.mkdir(v / "old")
    t = house.worker(cwd=v / "old")
    os.rmdir(v / "old")
    os.mkdir(v / "old")
    write(v / "old/y", b"y")
    commit(v)
    with refused(errno.ENOENT):
        t.do("os.getcwd()")
    with refused(errno.ESTALE, errno.ENOENT):
        t.do("os.listdir('.')")
    assert os.listdir(v / "old") == ["y"]


def test_names_made_behind_are_seen_by_who_stands_there(house, drive):
    v = drive.mint()
    fill(v)
    t = house.worker(cwd=v / "run1/logs")
    os.mkdir(v / "run1/logs/later")
    write(v / "run1/logs/later/l", b"l")
    commit(v)
    assert t.do("open('later/l').read()") == "l"
    t.do("os.chdir('later')")
    assert t.do("os.getcwd()") == os.fspath(v / "run1/logs/later")


def test_numbers_of_the_disk_that_come_back_are_not_mixed_with_where_somebody_stands(house, drive):
    """ext4 gives the inode number of a removed directory to the next one that is made."""
    v = drive.mint()
    fill(v)
    t = house.worker(cwd=v / "run1/logs")
    commit(v)
    drive.wait_tidied(v)
    for n in range(2, 6):
        w = drive.mint()
        fill(w)
        for k in range(10):
            os.makedirs(w / f"d{k}/e")
        os.stat(w / "run1/logs")
        stands(t, v / "run1/logs")
        assert sorted(os.listdir(w / "run1")) == ["link", "logs", "x"]
        commit(w)
        stands(t, v / "run1/logs")


def test_many_enter_while_it_is_committed(house, drive):
    for _ in range(6):
        v = drive.mint()
        fill(v)
        n = os.path.basename(v)
        stop, failures = threading.Event(), []

        def enter(v=v, stop=stop, failures=failures):
            while not stop.is_set():
                r = subprocess.run(["sh", "-c", "cd run1/logs && read go; /bin/pwd && cat day.txt ../x && cd deep && /bin/pwd"], cwd=v, input="go\n", capture_output=True, text=True)
                here = os.fspath(v / "run1/logs")
                if (r.stdout, r.stderr) != (f"{here}\ndayx of run1{here}/deep\n", ""):
                    failures.append((r.stdout, r.stderr))

        def walk(v=v, stop=stop):
            while not stop.is_set():
                subprocess.run(["ls", "-lR", v], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        threads = [threading.Thread(target=f) for f in (enter, enter, enter, walk, walk)]
        for th in threads:
            th.start()
        t = house.worker(cwd=v / "run1/logs")
        commit(v)
        stands(t, v / "run1/logs")
        t.close()
        stop.set()
        for th in threads:
            th.join()
        assert not failures, (n, failures)


@BOTH
def test_it_outlives_a_worker(house, store, options):
    drive = house.mount(store, options=("deaths=0",) + options)
    v = drive.mint()
    fill(v)
    t = house.worker(cwd=v / "run1/logs")
    commit(v)
    for _ in range(2):
        die(drive)
        stands(t, v / "run1/logs")
    drive.wait_tidied(v)
    w = drive.mint()
    fill(w)
    die(drive)
    stands(t, v / "run1/logs")
    refuses_changes(t)


def test_a_commit_by_a_worker_that_never_saw_the_directory_used(house, store):
    drive = house.mount(store, options=("deaths=0",))
    v = drive.mint()
    fill(v)
    t = house.worker(cwd=v / "run1/logs")
    die(drive)
    by_attribute(drive, v)
    stands(t, v / "run1/logs")


def die(drive):
    before = attr(drive.at, "restarts")
    drive.kill_worker()
    wait_until(lambda: attr(drive.at, "restarts") != before, what="another worker")


def test_with_few_descriptors_what_cannot_go_on_still_reads_on(house, store):
    drive = house.mount(store, descriptors=80)
    v = drive.mint()
    fill(v)
    for n in range(100):
        os.makedirs(v / f"d{n}/e")
        write(v / f"d{n}/e/f", b"%d" % n)
    ts = {n: house.worker(cwd=v / f"d{n}/e") for n in range(0, 100, 20)}
    commit(v)
    for n, t in ts.items():
        assert t.do("open('f').read(), os.listdir('.'), os.listdir('..')") == (str(n), ["f"], ["e"])
    assert [read(v / f"d{n}/e/f") for n in range(100)] == [b"%d" % n for n in range(100)]


def test_few_descriptors_do_for_many_commits(house, store):
    drive = house.mount(store, descriptors=80)
    for _ in range(25):
        v = drive.mint()
        fill(v)
        t = house.worker(cwd=v / "run1/logs")
        commit(v)
        stands(t, v / "run1/logs")
        drive.wait_tidied(v)
        t.close()
        wait_until(lambda: sum(not name.isdigit() for name in pinned(drive)) <= 5, what="the directories that nobody is in to be let go")  # of ten that may go on


def test_two_mounts_each_keep_who_stands_there(house, store, drive):
    other = house.mount(store, at="other")
    v = drive.mint()
    fill(v)
    there = other / os.path.relpath(v, drive.at)
    t, u, w = house.worker(cwd=v / "run1/logs"), house.worker(cwd=there / "run1/logs"), house.worker(cwd=there / "run1/logs")
    commit(v)
    drive.wait_tidied(v)
    stands(t, v / "run1/logs")
    assert u.do("open('day.txt').read(), sorted(os.listdir('.'))") == ("day", ["day.txt", "deep"])  # nothing was asked for by its path since
    stands(u, there / "run1/logs")
    stands(w, there / "run1/logs")
    refuses_changes(u)


def test_who_stands_in_a_draft_that_is_discarded_is_told_so(house, drive):
    v = drive.mint()
    fill(v)
    t = house.worker(cwd=v / "run1/logs")
    run("rm", "-r", v)
    assert state(v) is None
    with refused(errno.ENOENT):
        t.do("os.getcwd()")
    for use in ("os.listdir('.')", "open('day.txt')", "open('new', 'w')"):
        with refused(errno.ENOENT, errno.ESTALE, errno.EROFS):
            t.do(use)
    w = drive.mint()
    fill(w)
    t = house.worker(cwd=w / "run1/logs")
    mintfs("discard", w, "--force")
    with refused(errno.ENOENT, errno.ESTALE):
        t.do("open('day.txt')")
    wait_until(lambda: not os.path.exists(w), what="the draft to be gone")
    with refused(errno.ENOENT):
        t.do("os.getcwd()")


def test_who_stands_in_a_version_that_is_retired_reads_on(house, drive):
    v = drive.mint()
    fill(v)
    t = house.worker(cwd=v / "run1/logs")
    commit(v)
    commit_next = drive.committed(files={"model.pth": b"n"})
    assert state(commit_next) == "committed"
    mintfs("retire", v)
    assert t.do("open('day.txt').read(), sorted(os.listdir('.'))") == ("day", ["day.txt", "deep"])
