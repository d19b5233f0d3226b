"""Real software on the drive: what people do there is what is tested here. (torch and arrays: test_training.py)"""
import contextlib
import os
import shutil
import sqlite3
import stat

import pytest

from drive import commit, read, run, sh, snapshot, state, write


def needs(*programs):
    for p in programs:
        if not shutil.which(p):
            pytest.skip(f"{p} is not installed")


@pytest.fixture
def tree(house):
    """A tree on ext4 with a little of everything that a version may hold."""
    top = house.folder / "tree"
    (top / "a/b").mkdir(parents=True)
    for n in range(30):
        write(top / f"a/file_{n}", os.urandom(n * 777))
    write(top / "a/b/empty")
    write(top / "run.sh", b"#!/bin/sh\necho hello\n")
    os.chmod(top / "run.sh", 0o755)
    os.chmod(top / "a/file_3", 0o600)
    os.link(top / "a/file_5", top / "a/b/hard")
    os.symlink("../file_7", top / "a/b/soft")
    os.symlink("nowhere", top / "dangling")
    with open(top / "sparse", "wb") as f:
        f.truncate(5 << 20)
        f.seek(4 << 20)
        f.write(b"data")
    for here, dirs, files in os.walk(top, topdown=False):
        for name in files + dirs:  # rsync takes times of one second as equal
            os.utime(os.path.join(here, name), (1.7e9, 1.7e9), follow_symlinks=False)
    os.utime(top / "a/file_9", ns=(1_234_567_890_123_456_789, 1_234_567_890_987_654_321))
    os.utime(top / "a", ns=(5 * 10**17, 5 * 10**17))
    return top


def same(a, b):
    """The trees agree, but for their tops' own times."""
    x, y = snapshot(a), snapshot(b)
    x.pop(b"."), y.pop(b".")
    assert x == y


def test_cp_a_keeps_everything(tree, draft):
    r = run("cp", "-a", f"{tree}/.", draft)
    assert r.stderr == ""
    same(tree, draft)
    assert os.stat(draft / "sparse").st_blocks * 512 < 1 << 20


def test_cp_a_from_a_committed_version_to_ext4_and_diff_r(house, tree, draft):
    run("cp", "-a", f"{tree}/.", draft)
    commit(draft)
    run("cp", "-a", draft, house.folder / "copy")
    run("diff", "-r", "--no-dereference", "-x", "metadata.json", tree, draft)
    run("diff", "-r", "--no-dereference", house.folder / "copy", draft)
    r = run("diff", "-r", "--no-dereference", tree, draft, check=False)
    assert r.returncode == 1 and "metadata.json" in r.stdout


def test_rsync_a_keeps_everything_and_has_nothing_to_do_the_second_time(tree, draft):
    needs("rsync")
    run("rsync", "-aH", f"{tree}/", f"{draft}/")
    same(tree, draft)
    r = run("rsync", "-aHi", f"{tree}/", f"{draft}/")
    assert r.stdout == ""
    write(tree / "a/file_1", b"changed")
    r = run("rsync", "-aHi", "--inplace", f"{tree}/", f"{draft}/")
    assert [line.split()[-1] for line in r.stdout.splitlines() if line.startswith(">f")] == ["a/file_1"]
    assert read(draft / "a/file_1") == b"changed"


def test_tar_x_keeps_everything(house, tree, draft):
    run("tar", "-C", tree, "-cf", house.folder / "t.tar", ".")
    run("tar", "-C", draft, "-xpf", house.folder / "t.tar")
    x, y = snapshot(tree, times=False), snapshot(draft, times=False)
    assert x == y
    assert int(os.stat(draft / "a/file_9").st_mtime) == int(os.stat(tree / "a/file_9").st_mtime)
    r = run("tar", "-C", draft, "--compare", "-f", house.folder / "t.tar", check=False)
    assert r.returncode == 0, r.stdout + r.stderr


def test_tar_c_of_a_committed_version_can_be_unpacked_again(house, tree, draft):
    run("cp", "-a", f"{tree}/.", draft)
    commit(draft)
    (house.folder / "out").mkdir()
    sh(f"tar -C {draft} -cf - . | tar -C {house.folder}/out -xpf -")
    x, y = snapshot(draft, times=False), snapshot(house.folder / "out", times=False)
    assert x == y


def test_shutil_copytree_copies_into_a_draft_and_out_of_a_version(house, tree, draft):
    shutil.copytree(tree, draft / "tree", symlinks=True)
    x, y = snapshot(tree), snapshot(draft / "tree")
    assert {k: v for k, v in x.items() if k != b"a/file_5" and not k.endswith(b"hard")} == {k: v for k, v in y.items() if k != b"a/file_5" and not k.endswith(b"hard")}
    commit(draft)
    shutil.copytree(draft, house.folder / "out", symlinks=True)
    assert read(house.folder / "out/tree/a/file_9") == read(tree / "a/file_9")


def test_git_clones_into_a_draft_and_works_there(house, draft):
    needs("git")
    origin = house.folder / "origin"
    me = {"GIT_AUTHOR_NAME": "n", "GIT_AUTHOR_EMAIL": "e", "GIT_COMMITTER_NAME": "n", "GIT_COMMITTER_EMAIL": "e", "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(house.folder)}
    sh(f"git init -q {origin} && cd {origin} && mkdir d && for i in $(seq 50); do echo $i > d/f$i; done && git add . && git commit -qm one && echo 2 > d/f1 && git commit -qam two",
       env=me)
    run("git", "clone", "-q", origin, draft / "repo", env=me)
    work = draft / "repo"
    assert run("git", "-C", work, "status", "--porcelain", env=me).stdout == ""
    sh("echo 3 > d/f2 && git commit -qam three && git gc -q && git fsck --full && git checkout -q HEAD~2 && git checkout -q - && git branch x && git branch -d x",
       cwd=work, env=me)
    assert run("git", "-C", work, "log", "--format=%s", env=me).stdout.split() == ["three", "two", "one"]
    write(draft / "model.pth", b"x")
    commit(draft)
    assert run("git", "-C", work, "--no-optional-locks", "status", "--porcelain", env=me).stdout == ""
    assert run("git", "-C", work, "log", "--format=%s", env=me).stdout.split() == ["three", "two", "one"]
    run("git", "clone", "-q", work, house.folder / "again", env=me)
    assert (house.folder / "again/d/f2").read_text() == "3\n"


@pytest.mark.parametrize("mode", ["DELETE", "TRUNCATE", "PERSIST", "WAL"])
def test_sqlite_works_in_a_draft_from_two_processes(house, draft, mode):
    db = sqlite3.connect(draft / "study.db", timeout=20)
    assert db.execute(f"PRAGMA journal_mode={mode}").fetchone()[0].upper() == mode
    db.execute("CREATE TABLE t (who TEXT, n INTEGER)")
    db.commit()
    other = house.worker()
    other.do("import sqlite3")
    other.do("db = sqlite3.connect(p, timeout=20)", p=draft / "study.db")
    for n in range(20):
        db.execute("INSERT INTO t VALUES ('a', ?)", (n,))
        db.commit()
        other.do("db.execute('INSERT INTO t VALUES (?, ?)', ('b', n)) and db.commit()", n=n)
    assert db.execute("SELECT count(*), count(DISTINCT who) FROM t").fetchone() == (40, 2)
    with pytest.raises(sqlite3.IntegrityError):
        db.execute("CREATE UNIQUE INDEX u ON t (n)")
    db.execute("BEGIN IMMEDIATE")
    with pytest.raises(AssertionError, match="locked"):
        other.do("db.execute('PRAGMA busy_timeout=0') and db.execute('BEGIN IMMEDIATE')")
    db.rollback()
    other.do("db.close()")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    write(draft / "model.pth", b"x")
    commit(draft)
    with contextlib.closing(sqlite3.connect(f"file:{draft}/study.db?mode=ro&immutable=1", uri=True)) as reading:
        assert reading.execute("SELECT count(*) FROM t").fetchone() == (40,)


def test_sqlite3_the_program_reads_a_committed_database(draft):
    needs("sqlite3")
    run("sqlite3", draft / "a.db", "CREATE TABLE t (x); INSERT INTO t VALUES (1), (2);")
    commit(draft)
    assert run("sqlite3", f"file:{draft}/a.db?mode=ro&immutable=1", "SELECT sum(x) FROM t").stdout.strip() == "3"


def test_find_du_and_ls_lR_agree_with_ext4(house, tree, draft):
    run("cp", "-a", f"{tree}/.", draft)

    def seen(top):
        return (sh("find . -mindepth 1 -printf '%P %y %m %s %n %l\\n' | grep -v ' d ' | sort", cwd=top).stdout, sh("du -s --apparent-size -B1 a/file_29 sparse", cwd=top).stdout,
                sh("du -a -B1 --exclude=a . | sort -k2 | grep -v '\\.$'", cwd=top).stdout, sh("find . -type d | sort", cwd=top).stdout)

    assert seen(draft) == seen(tree)
    run("ls", "-lR", draft)
    commit(draft)
    run("ls", "-lR", draft)
    # du counts the directories too, and the file systems differ there
    assert sh("find . -type f ! -name metadata.json -printf '%P %b\\n' | sort", cwd=draft).stdout == sh("find . -type f -printf '%P %b\\n' | sort", cwd=tree).stdout


def test_editors_that_save_by_renaming_work(draft):
    write(draft / "notes.txt", b"one\n")
    sh("sed -i s/one/two/ notes.txt && sed -i.bak s/two/three/ notes.txt", cwd=draft)
    assert read(draft / "notes.txt") == b"three\n" and read(draft / "notes.txt.bak") == b"two\n"
    sh("install -m 640 notes.txt copy.txt && mv copy.txt moved.txt && dd if=/dev/zero of=moved.txt bs=1 seek=2 count=2 conv=notrunc && truncate -s 3 moved.txt && sort -o notes.txt notes.txt",
       cwd=draft)
    assert read(draft / "moved.txt") == b"th\0" and stat.S_IMODE(os.stat(draft / "moved.txt").st_mode) == 0o640


def test_a_shell_script_of_everyday_commands_goes_through(model):
    out = sh("""set -e
        mkdir latest
        cd latest
        echo weights > model.pth
        mkdir -p logs/tb && for i in 1 2 3; do echo "epoch $i" >> logs/train.log; done
        tail -n 1 logs/train.log; wc -l < logs/train.log
        gzip -k logs/train.log && zcat logs/train.log.gz | cmp - logs/train.log
        cp model.pth checkpoint_best.pth; ln -s checkpoint_best.pth best.pth; cat best.pth
        split -b 3 model.pth part_ && cat part_* | cmp - model.pth; rm part_*
        touch -d 2020-01-01 model.pth; test checkpoint_best.pth -nt model.pth
        find . -newer model.pth -name '*.log'
        cd ..; chmod -R a-w latest; readlink latest""", cwd=model).stdout.split()
    assert out == ["epoch", "3", "3", "weights", "./logs/train.log", "v1"]
    assert state(model / "v1") == "committed"


def test_a_move_from_another_file_system_into_a_draft_copies(house, draft):
    write(house.folder / "big.pth", os.urandom(300000))
    data = read(house.folder / "big.pth")
    run("mv", house.folder / "big.pth", draft / "model.pth")
    assert read(draft / "model.pth") == data and not (house.folder / "big.pth").exists()


def test_python_zipfile_json_pickle_and_logging_write_what_they_read(draft):
    import json
    import logging
    import pickle
    import zipfile
    with zipfile.ZipFile(draft / "code.zip", "w") as z:
        for n in range(20):
            z.writestr(f"m{n}.py", "x = 1\n" * n)
    with zipfile.ZipFile(draft / "code.zip", "a") as z:
        z.writestr("late.py", "y")
    with open(draft / "metadata.json", "w") as f:
        json.dump({"metrics": {"rmse": 1.5}}, f)
    with open(draft / "model.pkl", "wb") as f:
        pickle.dump({"w": list(range(1000))}, f)
    handler = logging.FileHandler(draft / "train.log")
    logger = logging.Logger("t")
    logger.addHandler(handler)
    for n in range(100):
        logger.warning("epoch %d", n)
    handler.close()
    commit(draft)
    assert zipfile.ZipFile(draft / "code.zip").testzip() is None and len(zipfile.ZipFile(draft / "code.zip").namelist()) == 21
    with open(draft / "model.pkl", "rb") as f:
        assert pickle.load(f) == {"w": list(range(1000))}
    assert read(draft / "train.log").count(b"\n") == 100
