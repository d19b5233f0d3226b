"""The end of a run: what commits itself, what stays and why, what is discarded; and what is recorded of the run."""
import json
import os
import re
import signal
import socket
import sys

import pytest

from drive import MODEL, Worker, attrs, clean_env, commit, kernel_at_least, mintfs, read, reason, run, settled, sh, sha256, state, wait_until, why, write

pytestmark = pytest.mark.skipif(not kernel_at_least(6, 15), reason="exit statuses of foreign processes are known from Linux 6.15 on: " + os.uname().release)


@pytest.fixture
def path(drive):
    return drive.model() / "latest"


@pytest.fixture
def trainer(house, path):
    t = house.worker()
    t.do("os.makedirs(p, exist_ok=True)", p=path)
    return t


def test_a_trainer_that_exits_0_commits_its_version(drive, path, trainer):
    trainer.write(path / "model.pth", b"weights")
    trainer.write(path / "loss.txt", b"1 2 3")
    assert trainer.exit(0) == 0
    settled(drive / MODEL / "v1")
    assert read(path / "model.pth") == b"weights"
    assert [r["version"] for r in drive.rows()] == ["v1"]


def test_a_trainer_killed_by_kill_9_leaves_a_draft_that_says_exit_137(drive, path, trainer):
    trainer.write(path / "model.pth", b"half")
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.process.wait()
    assert "failed: exit 137" in why(drive / MODEL / "v1", "failed")
    assert state(drive / MODEL / "v1") == "draft" and read(drive / MODEL / "v1/model.pth") == b"half"
    assert "failed: exit 137" in mintfs("status", "--store", drive.store).stdout


def test_a_trainer_that_exits_3_leaves_a_draft_that_says_so_and_can_be_committed_by_hand(drive, path, trainer):
    trainer.write(path / "model.pth", b"good enough")
    trainer.exit(3)
    why(drive / MODEL / "v1", "failed: exit 3")
    commit(drive / MODEL / "v1")
    assert state(drive / MODEL / "v1") == "committed" and "error" not in attrs(drive / MODEL / "v1")


def test_a_draft_without_a_model_file_stays_as_incomplete(drive, path, trainer):
    trainer.write(path / "checkpoint_best.pth", b"x")
    trainer.exit(0)
    why(drive / MODEL / "v1", "incomplete: no model file")
    assert state(drive / MODEL / "v1") == "draft"


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors", "model.pt", "model.h5"])
def test_any_model_file_makes_a_version_complete(drive, path, trainer, name):
    if name != "model.safetensors":
        trainer.write(path / name, b"a model of no known format")
    else:
        trainer.write(path / name, b"\x02\0\0\0\0\0\0\0{}")
    trainer.exit(0)
    settled(drive / MODEL / "v1")


def test_a_torn_model_file_is_not_committed_by_the_end_of_its_run(drive, path, trainer):
    trainer.write(path / "model.pth", b"PK\x03\x04 the rest never came")
    trainer.exit(0)
    assert "model.pth" in why(drive / MODEL / "v1", "model.pth")
    assert state(drive / MODEL / "v1") == "draft"


def test_a_draft_that_is_empty_when_its_run_fails_is_discarded(drive, path, trainer):
    trainer.exit(1)
    wait_until(lambda: not os.path.exists(drive / MODEL / "v1"), what="the empty draft is gone")
    assert drive.mint().name == "v2"


def test_an_empty_draft_of_a_process_that_ended_well_stays_with_the_shell_above(house, drive, path, trainer):
    trainer.exit(0)
    sentinel(house, drive)
    assert state(drive / MODEL / "v1") == "draft" and os.readlink(path) == "v1"


def test_directories_alone_are_no_work_and_the_draft_stays_with_the_shell_above(house, drive, path, trainer):
    trainer.do("os.makedirs(p)", p=path / "train/images")
    trainer.exit(0)
    sentinel(house, drive)
    assert state(drive / MODEL / "v1") == "draft" and os.listdir(path) == ["train"]


def test_nothing_ends_while_a_file_is_open(house, drive, path, trainer):
    trainer.write(path / "model.pth", b"x")
    other = house.worker()
    other.do("f = open(p, 'ab')", p=drive / MODEL / "v1/model.pth")
    trainer.exit(0)
    sentinel(house, drive)
    assert state(drive / MODEL / "v1") == "draft"
    other.do("f.close()")
    other.exit(0)
    settled(drive / MODEL / "v1")


def sentinel(house, drive, model="store/S001_all/kan"):
    """A run that begins and ends now: when its version is committed, the ends before it were seen."""
    t = house.worker()
    t.do("os.makedirs(p)", p=drive / model / "latest")
    t.write(drive / model / "latest/model.pth", b"sentinel")
    name = t.do("os.readlink(p)", p=drive / model / "latest")
    t.exit(0)
    settled(drive / model / name)


def test_a_child_that_writes_on_keeps_the_run_going(house, drive, path):
    t = house.worker()
    t.do("os.makedirs(p)", p=path)
    t.do("import subprocess")
    script = "import os, sys; f = open(sys.argv[1] + '/model.pth', 'w'); f.write('late'); f.close(); print(1, flush=True); sys.stdin.read()"
    t.do("c = subprocess.Popen([sys.executable, '-I', '-S', '-c', s, p], stdin=subprocess.PIPE, stdout=subprocess.PIPE)", s=script, p=path)
    assert t.do("c.stdout.readline()") == b"1\n"
    keep = t.do("c.stdin.fileno()")
    assert keep > 0
    # the trainer ends, its child lives on: its stdin must stay open, so the child gets a descriptor of ours
    t.do("import signal")
    child = t.do("c.pid")
    t.do("os.kill(c.pid, signal.SIGSTOP)")
    t.exit(0)
    sentinel(house, drive)
    assert state(drive / MODEL / "v1") == "draft"
    os.kill(child, signal.SIGCONT)
    settled(drive / MODEL / "v1")


def test_a_shell_that_lives_holds_its_draft(house, drive, path):
    shell = house.start("while read line; do eval \"$line\"; echo done; done", cwd=drive.model())

    def say(line):
        shell.stdin.write(line + "\n")
        shell.stdin.flush()
        out = ""
        while not out.endswith("done\n"):
            out += shell.stdout.readline()
        return out

    say("mkdir latest")
    say("echo weights > latest/model.pth")
    say(f"{sys.executable} -I -S -c 'open(\"latest/checkpoint_best.pth\", \"w\").write(\"x\")'")
    sentinel(house, drive)
    assert state(drive / MODEL / "v1") == "draft"
    say("chmod a-w latest")
    assert state(drive / MODEL / "v1") == "committed"
    say("mkdir latest; echo more > latest/model.pth")
    shell.stdin.close()
    shell.wait()
    settled(drive / MODEL / "v2")


def test_chmod_right_after_the_trainer_ended_never_fails(house, drive, path):
    """The commit of the run's end and that of the user meet: both want the same."""
    write(house.folder / "t.py", "import os, sys\nos.mkdir(sys.argv[1])\nfor n in range(30): open(f'{sys.argv[1]}/f{n}', 'w').write(str(n))\n"
          "open(sys.argv[1] + '/model.pth', 'w').write('x')\nprint(os.readlink(sys.argv[1]))\n")
    for _ in range(15):
        out = sh(f"v=$({sys.executable} -I -S {house.folder}/t.py {path}) && chmod a-w {path.parent}/$v && echo $v").stdout
        assert state(path.parent / out.strip()) == "committed"


def test_a_script_ends_as_a_whole_whatever_its_commands_returned(drive, path):
    sh(f"mkdir {path}; {sys.executable} -c 'raise SystemExit(3)'; echo x > {path}/model.pth; false; true")
    settled(drive / MODEL / "v1")


def test_a_script_that_fails_leaves_its_draft(drive, path):
    sh(f"mkdir {path}; echo x > {path}/model.pth; exit 4", check=False)
    why(drive / MODEL / "v1", "failed: exit 4")


def test_two_ranks_of_one_run_end_it_together(house, drive, path):
    a, b = house.worker(env={"MINTFS_RUN": "r"}), house.worker(env={"MINTFS_RUN": "r"})
    a.do("os.makedirs(p, exist_ok=True)", p=path)
    b.do("os.makedirs(p, exist_ok=True)", p=path)
    a.write(path / "model.pth", b"a")
    b.write(path / "rank_1.txt", b"b")
    a.exit(0)
    sentinel(house, drive)
    assert state(drive / MODEL / "v1") == "draft"
    b.exit(0)
    settled(drive / MODEL / "v1")


def test_the_next_try_of_an_elastic_run_takes_the_draft_up_again(house, drive, path):
    a = house.worker(env={"TORCHELASTIC_RUN_ID": "r"})
    a.do("os.makedirs(p, exist_ok=True)", p=path)
    a.write(path / "model.pth", b"first try")
    a.exit(1)
    why(drive / MODEL / "v1", "failed: exit 1")
    b = house.worker(env={"TORCHELASTIC_RUN_ID": "r"})
    b.do("os.makedirs(p, exist_ok=True)", p=path)
    assert b.do("open(p).read()", p=path / "model.pth") == "first try"
    b.write(path / "model.pth", b"second try")
    b.exit(0)
    settled(drive / MODEL / "v1")
    assert read(drive / MODEL / "v1/model.pth") == b"second try"


def test_rm_r_of_a_draft_discards_it(house, drive, path, trainer):
    trainer.write(path / "model.pth", b"x")
    trainer.do("os.makedirs(p)", p=path / "logs/deep")
    trainer.write(path / "logs/deep/a", b"y")
    run("rm", "-r", drive / MODEL / "v1")
    assert not os.path.exists(drive / MODEL / "v1")
    trainer.exit(0)
    assert drive.mint().name == "v2" and drive.rows() == []


def test_mintfs_discard_gives_a_draft_up(drive, path):
    v = drive.mint()
    write(v / "model.pth", b"x")
    mintfs("discard", v)
    assert not os.path.exists(v)
    wait_until(lambda: not os.listdir(drive.store / "drafts"), what="its tree is gone")


# ---- metadata.json of MintFS ----


def test_commit_writes_what_is_known_where_the_trainer_left_no_metadata(house, drive, path):
    work = house.folder / "work"
    work.mkdir()
    sh("git init -q . && git config user.email a@b && git config user.name n && echo 1 > a && git add a && git commit -qm one", cwd=work)
    head = sh("git rev-parse HEAD", cwd=work).stdout.strip()
    t = house.worker(cwd=work, env={"MINTFS_RUN": "night-7"})
    t.do("os.makedirs(p)", p=path)
    t.write(path / "model.pth", b"weights")
    t.do("os.makedirs(p)", p=path / "sub")
    t.write(path / "sub/extra.bin", b"more")
    t.exit(0)
    settled(drive / MODEL / "v1")
    m = json.loads(read(drive / MODEL / "v1/metadata.json"))
    assert (m["model"], m["version"]) == (MODEL, "v1")
    assert m["run"]["command"][:2] == [sys.executable, "-I"] and m["run"]["cwd"] == str(work)
    assert m["run"]["user"] == "root" and m["run"]["host"] == socket.gethostname() and m["run"]["id"] == "night-7"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", m["run"]["started_at"]) and m["run"]["started_at"] <= m["run"]["ended_at"]
    assert m["run"]["git_commit"] == head and m["run"]["git_dirty"] is False
    files = {f["path"]: f for f in m["files"]}
    assert set(files) == {"model.pth", "sub/extra.bin"}
    assert (files["model.pth"]["size"], files["model.pth"]["sha256"]) == (7, sha256(b"weights"))
    assert (files["sub/extra.bin"]["size"], files["sub/extra.bin"]["sha256"]) == (4, sha256(b"more"))


def test_a_dirty_work_tree_is_recorded_as_such(house, drive, path):
    work = house.folder / "work"
    work.mkdir()
    sh("git init -q . && git config user.email a@b && git config user.name n && echo 1 > a && git add a && git commit -qm one && echo 2 > a", cwd=work)
    t = house.worker(cwd=work)
    t.do("os.makedirs(p)", p=path)
    t.write(path / "model.pth", b"weights")
    t.do("os.chmod(p, 0o555)", p=path)
    assert json.loads(read(drive / MODEL / "v1/metadata.json"))["run"]["git_dirty"] is True


def test_mintfs_never_alters_what_the_trainer_wrote(drive, path, trainer):
    text = b'{ "metrics": {"rmse": 10.50, "r2": NaN},\n\t"note": "\\u00e9" }\n\n'
    trainer.write(path / "model.pth", b"x")
    trainer.write(path / "metadata.json", text)
    trainer.exit(0)
    settled(drive / MODEL / "v1")
    assert read(drive / MODEL / "v1/metadata.json") == text
    row = drive.rows()[0]
    assert json.loads(row["metrics_summary"]) == {"rmse": 10.5, "r2": None}
    assert " " not in row["metrics_summary"] and "10.50" in row["metrics_summary"]


def test_what_a_run_was_stands_in_the_attributes(drive, path, house):
    t = house.worker(env={"MINTFS_RUN": "night-8"})
    t.do("os.makedirs(p)", p=path)
    t.write(path / "model.pth", b"weights")
    a = attrs(drive / MODEL / "v1")
    assert (a["version"], a["state"], a["run"]) == ("v1", "draft", "night-8")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", a["created"]) and not reason(drive / MODEL / "v1")


def test_a_run_that_ends_while_the_drive_is_not_mounted_leaves_its_draft(house, drive, path, trainer):
    trainer.write(path / "model.pth", b"x")
    drive.unmount()
    trainer.exit(0)
    drive.mount()
    assert read(drive / MODEL / "v1/model.pth") == b"x"
    sentinel(house, drive)
    assert state(drive / MODEL / "v1") == "draft"
    commit(drive / MODEL / "v1")
    assert read(path / "model.pth") == b"x"


def test_a_run_that_goes_on_over_a_remount_still_commits_at_its_end(drive, path, trainer):
    trainer.write(path / "model.pth", b"before")
    drive.remount()
    assert trainer.do("os.readlink(p)", p=path) == "v1"
    trainer.write(path / "model.pth", b"after")
    trainer.exit(0)
    settled(drive / MODEL / "v1")
    assert read(drive / MODEL / "v1/model.pth") == b"after"


def test_many_runs_end_at_once_and_each_is_judged_by_itself(house, drive):
    model = drive.model()
    workers = [Worker(env=clean_env()) for _ in range(12)]
    house.workers += workers
    names = []
    for n, t in enumerate(workers):
        t.do("os.makedirs(p)", p=model / "latest")
        names.append(t.do("os.readlink(p)", p=model / "latest"))
        t.write(model / "latest/model.pth", b"%d" % n)
    for n, t in enumerate(workers):
        t.begin("os._exit(n % 3)", n=n)
    for n, name in enumerate(names):
        if n % 3:
            why(model / name, f"failed: exit {n % 3}")
        else:
            settled(model / name)
        assert read(model / name / "model.pth") == b"%d" % n
