"""Lineage, observed: which versions a commit was made from, seen by the drive itself; real processes, as trainers are written."""
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys

import pytest

from drive import MODEL, clean_env, commit, mintfs, read, run, settled, state, wait_until, write

A, B = "dataset/mol", "dataset/toy"
OTHER = "product/P002_all/mlstm"


@pytest.fixture
def data(drive):
    """Two versions of one dataset, one of another, on a drive."""
    for name, content in ((A, b"a1"), (A, b"a2"), (B, b"b1")):
        drive.committed(name, {"x.csv": content, "sub/y.csv": content * 2})
    return drive


def shown(drive, version):
    return json.loads(mintfs("show", version, "--store", drive.store, "--json").stdout)


def inputs(drive, version):
    """Names and how they are known."""
    return {i["version"]: i["how"] for i in shown(drive, version)["inputs"]}


def trainer(house, drive, model=MODEL, **kw):
    w = house.worker(**kw)
    w.do("os.makedirs(p, exist_ok=True)", p=drive.model(model) / "latest")
    return w


READ = "open(path, 'rb').read()"


# ---- trainers ----


def test_what_the_trainer_read_is_its_input_whether_before_or_after_the_mint(house, data):
    w = house.worker()
    w.do(READ, path=data / A / "v2/x.csv")
    w.do("os.makedirs(p)", p=data.model() / "latest")
    w.do(READ, path=data / B / "v1/sub/y.csv")
    w.write(data / MODEL / "latest/model.bin", b"m")
    commit(data / MODEL / "v1")
    assert inputs(data, f"{MODEL}/v1") == {f"{A}/v2": "observed", f"{B}/v1": "observed"}
    written = json.loads(read(data / MODEL / "v1/metadata.json"))
    assert written["inputs"] == [f"{A}/v2", f"{B}/v1"]
    assert f"{A}/v2" in mintfs("show", data / MODEL / "v1").stdout


def test_links_lead_to_the_version_that_was_read_and_models_are_inputs_too(house, data):
    data.committed(OTHER, {"model.bin": b"base"})
    os.symlink("v1", data / A / "golden")
    w = trainer(house, data)
    w.do(READ, path=data / A / "golden/x.csv")
    w.do(READ, path=data / OTHER / "latest/model.bin")
    w.write(data / MODEL / "latest/model.bin", b"m")
    w.do("os.chmod(p, 0o555)", p=data / MODEL / "v1")
    assert inputs(data, f"{MODEL}/v1") == {f"{A}/v1": "observed", f"{OTHER}/v1": "observed"}


def test_what_was_only_listed_is_no_input(house, data):
    w = trainer(house, data)
    script = f"ls -lR {data / A}; find {data / B} -type f -newer /etc/passwd; stat {data / A}/v1/x.csv; getfattr -d -m - {data / A}/v2; du -s {data / B}; test -r {data / A}/v1/x.csv"
    w.do("import subprocess; subprocess.run(['sh', '-c', s], stdout=subprocess.DEVNULL)", s=script)
    w.do("[os.stat(os.path.join(d, f)) for d, _, fs in os.walk(p) for f in fs]", p=data / A)
    w.write(data / MODEL / "latest/model.bin", b"m")
    commit(data / MODEL / "v1")
    assert inputs(data, f"{MODEL}/v1") == {}


def test_two_trainers_at_once_with_different_data_are_never_confused(house, data):
    one, two = trainer(house, data), trainer(house, data, OTHER)
    for path in ("x.csv", "sub/y.csv", "x.csv"):
        one.do(READ, path=data / A / "v1" / path)
        two.do(READ, path=data / B / "v1" / path)
    two.write(data / OTHER / "latest/model.bin", b"2")
    commit(data / OTHER / "v1")
    one.write(data / MODEL / "latest/model.bin", b"1")
    commit(data / MODEL / "v1")
    assert inputs(data, f"{MODEL}/v1") == {f"{A}/v1": "observed"}
    assert inputs(data, f"{OTHER}/v1") == {f"{B}/v1": "observed"}


def test_two_trainers_of_one_model_are_not_confused_either(house, data):
    one, two = trainer(house, data), trainer(house, data)
    one.do(READ, path=data / A / "v1/x.csv")
    two.do(READ, path=data / A / "v2/x.csv")
    for w, n in ((one, 1), (two, 2)):
        w.write(data / MODEL / "latest/model.bin", b"%d" % n)
    for w, n in ((two, 2), (one, 1)):
        w.do("os.chmod(p, 0o555)", p=data / MODEL / f"v{n}")
    assert inputs(data, f"{MODEL}/v1") == {f"{A}/v1": "observed"} and inputs(data, f"{MODEL}/v2") == {f"{A}/v2": "observed"}


LOADERS = r"""
import multiprocessing, os, sys
def load(path):
    with open(path, "rb") as f:
        return len(f.read())
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    model, files = sys.argv[2], sys.argv[3:]
    os.makedirs(model + "/latest", exist_ok=True)
    with multiprocessing.Pool(2) as pool:
        total = sum(pool.map(load, files))
    with open(model + "/latest/model.bin", "w") as f:
        f.write(str(total))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_data_loader_processes_read_for_their_trainer(house, data, method):
    script = write(house.folder / "train.py", LOADERS)
    run(sys.executable, script, method, data.model(), data / A / "v1/x.csv", data / A / "v1/sub/y.csv", data / B / "v1/x.csv")
    settled(data / MODEL / "v1")  # by the end of its run, when all of them are gone
    assert inputs(data, f"{MODEL}/v1") == {f"{A}/v1": "observed", f"{B}/v1": "observed"}


def test_a_torch_data_loader_reads_for_its_trainer(house, data):
    pytest.importorskip("torch")
    script = write(house.folder / "train.py", '''
import os, sys, torch
class Files(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, i): return float(len(open(sys.argv[2], "rb").read()) + i)
latest = os.path.join(sys.argv[1], "latest")
os.makedirs(latest, exist_ok=True)
total = sum(float(b.sum()) for b in torch.utils.data.DataLoader(Files(), batch_size=2, num_workers=2))
torch.save({"total": total}, os.path.join(latest, "model.pth"))
''')
    run(sys.executable, script, data.model(), data / A / "v2/x.csv")
    settled(data / MODEL / "v1", limit=30)
    assert inputs(data, f"{MODEL}/v1") == {f"{A}/v2": "observed"}


# ---- shells ----


@pytest.mark.parametrize("script", [
    "mkdir latest && cp {a}/v1/x.csv latest/ && cp {b}/v1/x.csv latest/model.bin && chmod a-w latest",
    "mkdir latest; cp {a}/v1/x.csv {tmp}/data; cat {b}/v1/x.csv > {tmp}/more; cat {tmp}/data {tmp}/more > latest/model.bin; chmod a-w latest",
    "cp {a}/v1/x.csv {tmp}/data; cat {b}/v1/x.csv > {tmp}/more; mkdir latest; cat {tmp}/data {tmp}/more > latest/model.bin; chmod a-w latest",
    "mkdir latest; tar cf latest/model.bin -C {a}/v1 x.csv; (cd {b}/v1 && sha256sum x.csv) > latest/sums; chmod a-w latest",
    "cp {a}/v1/x.csv {tmp}/data; cp {b}/v1/x.csv {tmp}/more; mkdir latest; cat {tmp}/data {tmp}/more > latest/model.bin",
])
def test_a_shell_script_made_its_version_from_what_its_commands_read(house, data, script):
    p = house.start(script.format(a=data / A, b=data / B, tmp=house.folder), cwd=data.model())
    assert p.wait(20) == 0, p.stderr.read()
    settled(data / MODEL / "v1")
    assert inputs(data, f"{MODEL}/v1") == {f"{A}/v1": "observed", f"{B}/v1": "observed"}


def test_two_scripts_one_after_the_other_have_their_own_inputs(house, data):
    for n, source in ((1, data / A / "v1"), (2, data / B / "v1")):
        p = house.start(f"mkdir latest; cp {source}/x.csv {house.folder}/d; cp {house.folder}/d latest/model.bin", cwd=data.model())
        assert p.wait(20) == 0
        settled(data / MODEL / f"v{n}")
    assert inputs(data, f"{MODEL}/v1") == {f"{A}/v1": "observed"} and inputs(data, f"{MODEL}/v2") == {f"{B}/v1": "observed"}


def test_two_jobs_of_one_terminal_are_not_confused_though_the_shell_wrote_a_note(house, data):
    """An interactive shell is an ancestor of all that a person does, and may itself write into a draft."""
    child = "import os, sys, time\nopen(sys.argv[1], 'rb').read()\nos.makedirs(sys.argv[2] + '/latest', exist_ok=True)\n" \
            "open(sys.argv[2] + '/latest/model.bin', 'w').write('m')\nwhile not os.path.exists(sys.argv[3]): time.sleep(.01)\n"
    script, go = write(house.folder / "train.py", child), house.folder / "go"
    data.model(), data.model(OTHER)
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], clean_env({"PS1": "$ ", "HISTFILE": "/dev/null"}))
    try:
        def say(line):
            os.write(fd, line.encode() + b"\n")
        say(f"{sys.executable} {script} {data / B}/v1/x.csv {data / OTHER} {go} &")
        say(f"{sys.executable} {script} {data / A}/v1/x.csv {data / MODEL} {go} &")
        for m in (MODEL, OTHER):
            wait_until(lambda m=m: os.path.exists(data / m / "v1/model.bin"), what=m)
        say(f"echo note > {data / MODEL}/v1/note.txt; cat {data / A}/v2/x.csv")
        wait_until(lambda: os.path.exists(data / MODEL / "v1/note.txt"))
        write(go)
        for m in (MODEL, OTHER):
            wait_until(lambda m=m: len(subprocess.run(["pgrep", "-f", f"train.py .*{m}"], stdout=subprocess.PIPE).stdout) == 0, what="the trainers' end")
        for m in (MODEL, OTHER):
            if state(data / m / "v1") == "draft":
                commit(data / m / "v1")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(fd)
    assert inputs(data, f"{OTHER}/v1") == {f"{B}/v1": "observed"}
    assert inputs(data, f"{MODEL}/v1") == {f"{A}/v1": "observed"}


# ---- launchers with a run id ----


@pytest.mark.parametrize("env", [{"MINTFS_RUN": "sweep-7"}, {"TORCHELASTIC_RUN_ID": "job-1"}, {"MASTER_ADDR": "n1", "MASTER_PORT": "29500", "RANK": "0"}])
def test_processes_of_one_run_id_read_for_one_version(house, data, env):
    """Rank 1 reads and never writes; another run, started by the same parent, reads something else."""
    rank0, rank1 = house.worker(env=env), house.worker(env=env)
    stranger = house.worker(env={"MINTFS_RUN": "another"})
    rank0.do("os.makedirs(p, exist_ok=True)", p=data.model() / "latest")
    rank1.do(READ, path=data / A / "v1/x.csv")
    rank0.do(READ, path=data / A / "v2/x.csv")
    stranger.do(READ, path=data / B / "v1/x.csv")
    rank0.write(data / MODEL / "latest/model.bin", b"m")
    commit(data / MODEL / "v1")
    assert inputs(data, f"{MODEL}/v1") == {f"{A}/v1": "observed", f"{A}/v2": "observed"}


def test_a_process_that_read_without_writing_is_no_part_of_another_run(house, data):
    reader, w = house.worker(), trainer(house, data)
    reader.do(READ, path=data / B / "v1/x.csv")
    w.do(READ, path=data / A / "v1/x.csv")
    w.write(data / MODEL / "latest/model.bin", b"m")
    reader.kill()
    commit(data / MODEL / "v1")
    assert inputs(data, f"{MODEL}/v1") == {f"{A}/v1": "observed"}


# ---- declared ----


def test_declared_inputs_are_checked_and_told_from_observed_ones(house, data):
    w = trainer(house, data)
    w.do(READ, path=data / A / "v1/x.csv")
    w.do(READ, path=data / A / "v2/x.csv")
    draft = data.mint(OTHER)
    declared = [f"{A}/v2", str(data / B / "v1"), f"{A}/v9", "dataset/none/v1", A, f"{OTHER}/v1", f"{MODEL}/v1", "", "../x", 7]
    w.write(data / MODEL / "latest/metadata.json", json.dumps({"inputs": declared}).encode())
    w.write(data / MODEL / "latest/model.bin", b"m")
    commit(data / MODEL / "v1")
    assert inputs(data, f"{MODEL}/v1") == {f"{A}/v1": "observed", f"{A}/v2": "both", f"{B}/v1": "declared"}
    unknown = {u["version"]: u["reason"] for u in shown(data, f"{MODEL}/v1")["unknown_inputs"]}
    assert set(unknown) == {f"{A}/v9", "dataset/none/v1", A, f"{OTHER}/v1", f"{MODEL}/v1", "", "../x"}
    assert "v9" in unknown[f"{A}/v9"] and "draft" in unknown[f"{OTHER}/v1"] and "itself" in unknown[f"{MODEL}/v1"] and "not a version" in unknown[A]
    assert "declared, but: " in mintfs("show", data / MODEL / "v1").stdout
    assert state(draft) == "draft"


# ---- what is remembered ----


def test_what_was_read_is_remembered_over_a_restart_of_the_daemon(house, data):
    w = trainer(house, data)
    w.do(READ, path=data / A / "v1/x.csv")
    w.write(data / MODEL / "latest/part.bin", b"1")
    data.remount()
    w.do(READ, path=data / B / "v1/x.csv")
    w.write(data / MODEL / "latest/model.bin", b"m")
    commit(data / MODEL / "v1")
    assert inputs(data, f"{MODEL}/v1") == {f"{A}/v1": "observed", f"{B}/v1": "observed"}


def test_what_was_read_is_remembered_when_the_daemon_is_killed(house, data):
    w = trainer(house, data)
    w.do(READ, path=data / A / "v1/x.csv")
    w.write(data / MODEL / "latest/part.bin", b"1")
    wait_until(lambda: sql(data, "SELECT count(*) FROM seen_reads") == [(1,)] and sql(data, "SELECT count(*) FROM seen_writes") != [(0,)])
    data.kill()
    subprocess.run(["umount", "-l", str(data.at)])
    data.mount()
    w.write(data / MODEL / "latest/model.bin", b"m")
    commit(data / MODEL / "v1")
    assert inputs(data, f"{MODEL}/v1") == {f"{A}/v1": "observed"}


def sql(drive, query):
    db = sqlite3.connect(f"file:{drive.store}/catalog.db?mode=ro", uri=True)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


def test_processes_that_have_ended_are_forgotten(house, data):
    for n in range(20):
        run("cat", data / A / "v1/x.csv")
    w = house.worker()
    w.do(READ, path=data / A / "v1/x.csv")
    w.kill()
    wait_until(lambda: sql(data, "SELECT count(*) FROM seen_processes")[0][0] >= 21)
    data.remount()  # a daemon that begins looks for those that are gone
    here = os.getpid()
    wait_until(lambda: {p for p, in sql(data, "SELECT pid FROM seen_processes")} <= {here} | ancestors(here))


def ancestors(pid):
    found = set()
    while pid > 1:
        with open(f"/proc/{pid}/stat") as f:
            pid = int(f.read().rsplit(")", 1)[1].split()[1])
        found.add(pid)
    return found


def test_a_failed_run_and_a_discarded_one_keep_their_record(house, data):
    w = trainer(house, data)
    w.do(READ, path=data / A / "v1/x.csv")
    w.write(data / MODEL / "latest/metadata.json", b'{"params": {"lr": 0.5}, "metrics": {"rmse": 99}}')
    w.exit(3)
    wait_until(lambda: sql(data, "SELECT data FROM experiments WHERE model_path LIKE '%mlstm/v1/'") == [(f'["{A}/v1"]',)])
    run("rm", "-r", data / MODEL / "v1")
    wanted = [(MODEL, '{"lr":0.5}', f'["{A}/v1"]', '{"rmse":99}', "discarded", 3)]
    wait_until(lambda: sql(data, "SELECT model, parameters, data, scores, state, exit_status FROM experiments") == wanted, what="the record of the run")


def test_the_view_of_experiments_has_a_row_for_each_training(house, data):
    w = trainer(house, data, env={"MINTFS_RUN": "sweep-1"})
    w.do(READ, path=data / B / "v1/x.csv")
    w.write(data / MODEL / "latest/metadata.json", b'{"parameters": {"lr": 0.1}, "metrics": {"rmse": 3.5}}')
    w.write(data / MODEL / "latest/model.bin", b"m")
    commit(data / MODEL / "v1")
    (row,) = sql(data, "SELECT model, run, parameters, data, scores, model_path, state FROM experiments")
    assert row == (MODEL, "sweep-1", '{"lr":0.1}', f'["{B}/v1"]', '{"rmse":3.5}', f"saved_models/{MODEL}/v1/", "committed")


def test_reading_through_another_mount_of_the_store_counts_too(house, data):
    other = house.mount(data.store, "second")
    w = trainer(house, data)
    w.do(READ, path=other / A / "v1/x.csv")
    w.write(data / MODEL / "latest/model.bin", b"m")
    wait_until(lambda: sql(data, "SELECT count(*) FROM seen_reads") == [(1,)])
    commit(data / MODEL / "v1")
    assert inputs(data, f"{MODEL}/v1") == {f"{A}/v1": "observed"}
