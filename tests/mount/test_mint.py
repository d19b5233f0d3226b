"""Minting: which number, for whom it is `latest`, and who may mint again."""
import errno
import os
import subprocess
import sys

import pytest

from drive import MODEL, apart, clean_env, commit, kernel_at_least, read, reason, refused, run, settled, sh, state, why, write

MANY = 64


def versions(model):
    return sorted(int(n[1:]) for n in os.listdir(model) if n[0] == "v")


def latest(model):
    try:
        return os.readlink(model / "latest")
    except FileNotFoundError:
        return None


# ---- numbers ----


def test_mkdir_latest_mints_v1_then_v2(drive, model):
    assert drive.mint().name == "v1"
    assert drive.mint().name == "v2"
    assert state(model / "v1") == "draft"


def test_mkdir_next_mints_and_never_resolves(model):
    for n in (1, 2, 3):
        os.mkdir(model / "next")
        assert versions(model) == list(range(1, n + 1))
        assert not os.path.lexists(model / "next")


def test_mkdir_v7_mints_exactly_7_and_only_once(model):
    os.mkdir(model / "v7")
    for name in ("v7", "v3", "v1"):
        with refused(errno.EEXIST):
            os.mkdir(model / name)
    run("mkdir", model / "latest")
    assert versions(model) == [7, 8]
    os.mkdir(model / "v100")
    assert versions(model) == [7, 8, 100]


def test_a_number_is_never_used_again(drive, model):
    v1 = drive.mint()
    os.rmdir(v1)
    assert drive.mint().name == "v2"
    sh("echo x > v2/model.pth; rm -r v2", cwd=model)
    drive.remount()
    assert drive.mint().name == "v3"
    with refused(errno.EEXIST):
        os.mkdir(model / "v2")
    assert versions(model) == [3]


def test_three_mkdir_latest_in_one_shell_give_three_versions(model):
    sh("mkdir latest && mkdir latest && mkdir latest", cwd=model)
    assert versions(model) == [1, 2, 3]


def test_64_processes_mint_at_once_by_makedirs_and_each_finds_its_own(house, drive):
    path = drive / MODEL / "latest"
    r, w = os.pipe()
    children = []
    for n in range(MANY):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(w)
                os.read(r, 1)
                os.makedirs(path, exist_ok=True)
                write(path / "model.pth", b"%d" % n)
                os.makedirs(path, exist_ok=True)
                assert read(path / "model.pth") == b"%d" % n
                with open(house.folder / f"number.{n}", "w") as f:
                    f.write(os.readlink(path))
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    os.close(r)
    os.close(w)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * MANY
    names = [(house.folder / f"number.{n}").read_text() for n in range(MANY)]
    assert sorted(int(v[1:]) for v in names) == list(range(1, MANY + 1))
    for n, v in enumerate(names):
        assert read(drive / MODEL / v / "model.pth") == b"%d" % n
    if kernel_at_least(6, 15):
        for v in names:
            settled(drive / MODEL / v)
        assert len(drive.rows()) == MANY


def test_64_shells_mint_at_once_without_an_error(house, drive, model):
    shells = [house.start("read go; mkdir latest", cwd=model) for _ in range(MANY)]
    for p in shells:
        p.stdin.write("go\n")
        p.stdin.flush()
    for p in shells:
        out, err = p.communicate(timeout=50)
        assert (p.returncode, err) == (0, "")
    assert versions(model) == list(range(1, MANY + 1))


def test_64_mints_by_one_shell_at_once_give_dense_numbers(model):
    sh("for i in $(seq 64); do mkdir latest & done; wait", cwd=model)
    assert versions(model) == list(range(1, MANY + 1))


def test_mkdir_p_of_latest_mints_only_where_nothing_is_held(model):
    sh("mkdir -p latest; echo x > latest/model.pth; test $(readlink latest) = v1", cwd=model)


def test_mkdir_below_latest_works_in_a_shell(model):
    sh("mkdir latest && mkdir latest/logs latest/checkpoints latest/checkpoints/epoch_1 && echo x > latest/checkpoints/epoch_1/model.pth", cwd=model)
    assert os.path.isdir(model / "v1/logs") and read(model / "v1/checkpoints/epoch_1/model.pth") == b"x\n"
    assert versions(model) == [1]


# ---- who may say it again ----


def test_one_process_may_say_makedirs_at_every_epoch(house, drive):
    t = house.worker()
    path = drive / MODEL / "latest"
    for epoch in range(5):
        t.do("os.makedirs(p, exist_ok=True)", p=path)
        t.write(path / f"checkpoint_epoch_{epoch}.pth", b"%d" % epoch)
    with refused(errno.EEXIST):
        t.do("os.mkdir(p)", p=path)
    assert versions(drive / MODEL) == [1]
    assert len(os.listdir(drive / MODEL / "v1")) == 5


def test_a_process_mints_again_after_its_commit_and_after_its_discard(house, drive):
    t = house.worker()
    path = drive / MODEL / "latest"
    t.do("os.makedirs(p, exist_ok=True)", p=path)
    t.write(path / "model.pth", b"1")
    t.do("os.chmod(p, 0o555)", p=path)
    t.do("os.makedirs(p)", p=path)
    assert t.do("os.readlink(p)", p=path) == "v2"
    t.do("os.rmdir(p)", p=drive / MODEL / "v2")
    assert t.do("os.readlink(p)", p=path) == "v1"
    t.do("os.makedirs(p)", p=path)
    assert t.do("os.readlink(p)", p=path) == "v3"


RANK = r"""
import os, sys
path = sys.argv[1]
sys.stdin.readline()
os.makedirs(path, exist_ok=True)
with open(os.path.join(path, "rank_%s.pth" % os.environ["RANK"]), "w") as f:
    f.write(os.readlink(path))
"""


@pytest.mark.parametrize("ids", [{"TORCHELASTIC_RUN_ID": "run-7"}, {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"},
                                 {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0"}, {"MINTFS_RUN": "mine"}], ids=lambda i: next(iter(i)))
def test_eight_ranks_of_one_run_get_one_version(house, drive, ids):
    path = drive / MODEL / "latest"
    ranks = [subprocess.Popen([sys.executable, "-I", "-S", "-B", "-c", RANK, str(path)], stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=clean_env({**ids, "RANK": str(n)})) for n in range(8)]
    for p in ranks:
        p.stdin.write(b"go\n")
        p.stdin.flush()
    for p in ranks:
        assert p.wait(30) == 0, p.stderr.read().decode()
        p.stdin.close()
        p.stderr.close()
    assert versions(drive / MODEL) == [1]
    assert sorted(os.listdir(drive / MODEL / "v1")) == [f"rank_{n}.pth" for n in range(8)]


# ---- one run or two ----

SAME = [
    ({"MINTFS_RUN": "a"}, {"MINTFS_RUN": "a", "TORCHELASTIC_RUN_ID": "other"}),
    ({"TORCHELASTIC_RUN_ID": "e"}, {"TORCHELASTIC_RUN_ID": "e", "MASTER_ADDR": "h", "MASTER_PORT": "1", "RANK": "1"}),
    ({"MASTER_ADDR": "h", "MASTER_PORT": "1", "RANK": "0"}, {"MASTER_ADDR": "h", "MASTER_PORT": "1", "RANK": "3", "TORCHELASTIC_RUN_ID": "none"}),
    ({"SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0"}, {"SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0", "MASTER_ADDR": "h", "MASTER_PORT": "1"}),
]
OTHER = [
    ({}, {}),
    ({"MINTFS_RUN": "a"}, {"MINTFS_RUN": "b"}),
    ({"MINTFS_RUN": "a", "TORCHELASTIC_RUN_ID": "e"}, {"TORCHELASTIC_RUN_ID": "e"}),
    ({"TORCHELASTIC_RUN_ID": "none"}, {"TORCHELASTIC_RUN_ID": "none"}),
    ({"MASTER_ADDR": "h", "MASTER_PORT": "1"}, {"MASTER_ADDR": "h", "MASTER_PORT": "1"}),
    ({"MASTER_ADDR": "h", "MASTER_PORT": "1", "RANK": "0"}, {"MASTER_ADDR": "h", "MASTER_PORT": "2", "RANK": "0"}),
    ({"SLURM_JOB_ID": "9"}, {"SLURM_JOB_ID": "9"}),
    ({"SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0"}, {"SLURM_JOB_ID": "9", "SLURM_STEP_ID": "1"}),
    ({"MINTFS_RUN": ""}, {"MINTFS_RUN": ""}),
]


@pytest.mark.parametrize("first,second", SAME)
def test_processes_with_one_run_id_share_a_draft(house, drive, first, second):
    path = drive.model() / "latest"
    a, b = house.worker(env=first), house.worker(env=second)
    a.do("os.mkdir(p)", p=path)
    assert b.do("os.readlink(p)", p=path) == "v1"
    with refused(errno.EEXIST):
        b.do("os.mkdir(p)", p=path)
    b.write(path / "model.pth", b"of b")
    assert a.do("open(p).read()", p=path / "model.pth") == "of b"


@pytest.mark.parametrize("first,second", OTHER)
def test_processes_without_a_common_run_id_do_not(house, drive, first, second):
    path = drive.model() / "latest"
    a, b = house.worker(env=first), house.worker(env=second)
    a.do("os.mkdir(p)", p=path)
    with refused(errno.ENOENT):
        b.do("os.readlink(p)", p=path)
    b.do("os.mkdir(p)", p=path)
    assert (a.do("os.readlink(p)", p=path), b.do("os.readlink(p)", p=path)) == ("v1", "v2")


READ_LINK = """
import subprocess
script = 'import os, sys; sys.stdout.write(os.readlink(sys.argv[1]))'
found = subprocess.run([sys.executable, '-I', '-S', '-c', script, path], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
"""


@pytest.mark.parametrize("parent,child,shares", [({}, {}, True), ({"MINTFS_RUN": "a"}, {}, True), ({}, {"MINTFS_RUN": "b"}, True),
                                                 ({"MINTFS_RUN": "a"}, {"MINTFS_RUN": "b"}, False)])
def test_children_belong_to_the_run_unless_they_carry_another_id(house, drive, parent, child, shares):
    path = drive.model() / "latest"
    t = house.worker(env=parent)
    t.do("os.mkdir(p)", p=path)
    t.do(READ_LINK, path=path, env=child)
    assert t.do("found") == ("v1" if shares else "")


def test_the_shell_holds_what_its_mkdir_minted(drive, model):
    out = sh("mkdir latest; echo weights > latest/model.pth; cp latest/model.pth latest/checkpoint_best.pth; readlink latest; cat latest/checkpoint_best.pth",
             cwd=model).stdout
    assert out.split() == ["v1", "weights"]


def test_a_subshell_reads_the_draft_of_its_shell_and_not_the_other_way_round(house, drive, model):
    outer = house.worker()
    outer.do("import subprocess")
    outer.do("p = subprocess.Popen(['sh', '-c', 'mkdir latest; echo x > latest/model.pth; readlink latest; read wait'], cwd=m, "
             "stdin=subprocess.PIPE, stdout=subprocess.PIPE)", m=model)
    assert outer.do("p.stdout.readline()") == b"v1\n"
    with refused(errno.ENOENT):
        outer.do("os.readlink(m + '/latest')", m=model)
    outer.do("os.mkdir(m + '/latest')", m=model)
    assert outer.do("os.readlink(m + '/latest')", m=model) == "v2"
    outer.do("p.communicate()")  # it stands on the drive


def test_the_nearest_draft_is_latest_not_the_newest(house, drive, model):
    """A shell holds v1; a trainer below it minted v2; the shell mints v3: the trainer stays with v2."""
    shell = house.worker()
    shell.do("import subprocess")
    shell.do("subprocess.run(['mkdir', m + '/latest'], check=True)", m=model)
    shell.do("p = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import os, sys; os.mkdir(\"latest\")\\nfor line in sys.stdin: print(os.readlink(\"latest\"), "
             "flush=True)'], cwd=m, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)", m=model)
    asked = "p.stdin.write('x\\n') and p.stdin.flush() or p.stdout.readline()"
    assert shell.do(asked) == "v2\n"
    assert shell.do("os.readlink(m + '/latest')", m=model) == "v1"
    shell.do("subprocess.run(['mkdir', m + '/latest'], check=True)", m=model)
    assert shell.do("os.readlink(m + '/latest')", m=model) == "v3"
    assert shell.do(asked) == "v2\n"
    shell.do("p.communicate()")  # it stands on the drive


def test_outsiders_read_the_newest_committed_version(house, drive):
    m = drive.model()
    assert latest(m) is None and "latest" not in os.listdir(m)
    drive.committed(files={"model.pth": b"one"})
    t = house.worker()
    t.do("os.mkdir(p)", p=m / "latest")
    t.write(m / "latest/model.pth", b"two")
    assert latest(m) == "v1" and read(m / "latest/model.pth") == b"one"
    assert t.do("open(p).read()", p=m / "latest/model.pth") == "two"
    t.do("os.chmod(p, 0o555)", p=m / "latest")
    assert latest(m) == "v2" and read(m / "latest/model.pth") == b"two"


def test_a_commit_of_an_older_number_does_not_move_latest_back(house, drive):
    m = drive.model()
    a, b = house.worker(), house.worker()
    for t in (a, b):
        t.do("os.mkdir(p)", p=m / "latest")
        t.write(m / "latest/model.pth", b"x")
    b.do("os.chmod(p, 0o555)", p=m / "latest")
    assert latest(m) == "v2"
    a.do("os.chmod(p, 0o555)", p=m / "latest")
    assert latest(m) == "v2" and drive.versions_json() == {"product_P001_all_mlstm": 2}


def test_a_write_through_latest_by_an_outsider_is_erofs(house, drive):
    v1 = drive.committed(files={"model.pth": b"one"})
    m = v1.parent
    t = house.worker()
    t.do("os.mkdir(p)", p=m / "latest")
    for change in (lambda: open(m / "latest/model.pth", "w"), lambda: open(m / "latest/new.pth", "w"), lambda: os.mkdir(m / "latest/dir"),
                   lambda: os.unlink(m / "latest/model.pth")):
        with refused(errno.EROFS):
            change()
    assert read(v1 / "model.pth") == b"one" and t.do("os.listdir(p)", p=m / "latest") == []


def test_an_outsider_may_write_a_draft_by_number_if_permissions_allow(house, drive):
    t = house.worker()
    t.do("os.makedirs(p)", p=drive / MODEL / "latest")
    write(drive / MODEL / "v1/notes.txt", b"by hand")
    assert t.do("open(p).read()", p=drive / MODEL / "latest/notes.txt") == "by hand"
    with refused(errno.EACCES):
        apart(write, drive / MODEL / "v1/other.txt", b"", uid=4001)


def test_a_caller_in_another_pid_namespace_reads_the_committed_version(drive):
    drive.committed(files={"model.pth": b"one"})
    m = drive.model()
    out = sh(f"unshare --pid --fork sh -c 'readlink {m}/latest; mkdir {m}/next && ls {m}; echo by number > {m}/v2/model.pth'", check=False)
    if "unshare" in out.stderr:
        pytest.skip("unshare(1) makes no pid namespace here")
    assert out.returncode == 0, out.stderr
    assert out.stdout.split()[0] == "v1" and "v2" in out.stdout.split()


def test_eexist_of_a_run_that_holds_a_draft_says_where_it_is(house, drive):
    t = house.worker()
    t.do("os.makedirs(p)", p=drive / MODEL / "latest")
    with refused(errno.EEXIST):
        t.do("os.mkdir(p)", p=drive / MODEL / "latest")
    assert versions(drive / MODEL) == [1]


# ---- two trainers ----

TRAINER = r"""
import os, sys
path, mark, rounds, fail = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "fail"
os.makedirs(path, exist_ok=True)
mine = os.readlink(path)
print(mine, flush=True)
sys.stdin.readline()
for epoch in range(rounds):
    os.makedirs(path, exist_ok=True)
    assert os.readlink(path) == mine
    with open(path + "/model.pth", "wb") as f:
        for _ in range(16):
            f.write(mark.encode() * 4096)
    with open(path + "/log.txt", "a") as f:
        f.write(mark * 64 + "\n")
    with open(path + "/tmp", "w") as f:
        f.write(mark * 999)
    os.replace(path + "/tmp", path + "/checkpoint_epoch_%d.pth" % epoch)
    if fail and epoch == rounds // 2:
        os._exit(3)
"""


def check_trained(version, mark, epochs):
    assert set(read(version / "model.pth")) == {ord(mark)} and os.stat(version / "model.pth").st_size == 65536
    assert read(version / "log.txt") == (mark * 64 + "\n").encode() * epochs
    assert len([n for n in os.listdir(version) if n.startswith("checkpoint_epoch")]) == epochs
    for n in os.listdir(version):
        if n != "metadata.json":
            assert set(read(version / n)) <= {ord(mark), 10}


def train(house, drive, launch, one_fails):
    path = drive / MODEL / "latest"
    write(house.folder / "train.py", TRAINER)
    argv = [sys.executable, "-I", "-S", "-B", str(house.folder / "train.py"), str(path)]
    marks = {}
    for mark, fail in (("A", "no"), ("B", "fail" if one_fails else "no"), ("C", "no")):
        marks[mark] = launch(argv + [mark, "30", fail])
    names = {mark: p.stdout.readline().strip() for mark, p in marks.items()}
    assert sorted(names.values()) == ["v1", "v2", "v3"]
    for p in marks.values():
        p.stdin.write("go\n")
        p.stdin.flush()
    codes = {mark: p.wait(60) for mark, p in marks.items()}
    assert codes == {"A": 0, "B": 3 if one_fails else 0, "C": 0}, [p.stderr.read() for p in marks.values()]
    for mark, name in names.items():
        check_trained(drive / MODEL / name, mark, 16 if mark == "B" and one_fails else 30)
    return names


@pytest.mark.parametrize("one_fails", [False, True], ids=["all_end_well", "one_fails"])
def test_trainers_of_one_model_at_once_never_mix(house, drive, one_fails):
    names = train(house, drive, lambda argv: house.start("exec " + " ".join(argv)), one_fails)
    if kernel_at_least(6, 15):
        for mark, name in names.items():
            if mark == "B" and one_fails:
                why(drive / MODEL / name, "failed: exit 3")
            else:
                settled(drive / MODEL / name)


@pytest.mark.parametrize("one_fails", [False, True], ids=["all_end_well", "one_fails"])
def test_trainers_below_one_shell_never_mix(house, drive, one_fails):
    """The draft of a trainer that failed is held by the shell above, which is above the others too."""
    names = train(house, drive, lambda argv: subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                                              env=clean_env()), one_fails)
    commit(drive / MODEL / names["A"])
    assert state(drive / MODEL / names["A"]) == "committed"


def test_who_mints_without_end_does_not_shut_the_drive_for_others(house, store):
    """A draft costs its daemon descriptors: a share of them is for drafts, the rest for who reads and writes."""
    drive = house.mount(store, descriptors=256)
    done = drive.committed(files={"model.pth": b"w"})
    minted = []
    with refused(errno.EMFILE):
        for n in range(2, 200):
            os.mkdir(done.parent / "next")
            minted.append(done.parent / f"v{n}")
    assert len(minted) > 20 and "commit or discard some" in reason(done.parent)
    assert read(done / "model.pth") == b"w"
    for v in minted[:3]:
        write(v / "model.pth", b"of " + v.name.encode())
    commit(minted[0])
    os.mkdir(done.parent / "next")
    os.rmdir(minted[5])
    os.mkdir(done.parent / "next")
    drive.remount()
    assert len([n for n in os.listdir(done.parent) if n[0] == "v"]) == len(minted) + 2
    for v in minted[1:3]:
        commit(v)
        assert state(v) == "committed"
