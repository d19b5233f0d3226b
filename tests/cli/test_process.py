"""mintfs process: a DAG of commands over versions of datasets and models, and the updates that flow from new data."""
import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest

from cli_env import BIN, Drive, at_work, call, one_sentence, wait_for

NOBODY = 65534
ROOT = pathlib.Path(__file__).resolve().parents[2]
PY = "/usr/bin/python3"

# One file of commands stands beside process.json: what a node finds is the value in the data plus that of the model.
TOOLS = r'''
import json, os, sys, time
def value(path, name):
    with open(os.path.join(path, name)) as f:
        return json.load(f)["value"]
def score(data, model, out):
    with open(out, "w") as f:
        json.dump({"score": value(data, "data.json") + value(model, "model.json")}, f)
def train(data, out):
    with open(os.path.join(out, "model.json"), "w") as f:
        json.dump({"value": value(data, "data.json")}, f)
    with open(os.path.join(out, "metadata.json"), "w") as f:
        json.dump({"metrics": {"r2": value(data, "data.json")}}, f)
def both(results, out):
    with open(out, "w") as f:
        json.dump({"score": sum(json.load(open(os.path.join(results, n)))["score"] for n in sorted(os.listdir(results)) if n != "both.json")}, f)
def hang(mark, draft):
    open(mark, "w").close()
    time.sleep(600)
def once(mark, data, draft):
    if not os.path.exists(mark):
        hang(mark, draft)
    train(data, draft)
globals()[sys.argv[1]](*sys.argv[2:])
'''
A, B = "product/a_all/m", "product/b_all/m"


def tool(*words):
    return [PY, "{process}/tools.py", *words]


def node(name, model, weight, dataset="dataset/d", **more):
    return {"name": name, "dataset": dataset, "model": model, "run": tool("score", "{dataset}", "{model}", "{result}"), "score": "score", "weight": weight, **more}


def process(**more):
    spec = {"nodes": [node("one", A, 0.25), node("two", B, 0.25, dataset="dataset/other"),
                      node("both", A, 0.5, after=["one", "two"], run=tool("both", "{results}", "{result}"))],
            "models": {A: {"train": tool("train", "{dataset}", "{draft}"), "accept": {"metrics": {"r2": {"min": 1}}, "not_worse": "r2"}}},
            "accept": {"min": 1}, "aliases": ["production"]}
    spec.update(more)
    return spec


class World:
    def __init__(self, drive, store):
        self.drive, self.store = drive, store
        for name, value in (("dataset/d", 1), ("dataset/other", 2)):
            self.data(value, name)
        for name, value in ((A, 1), (B, 2)):
            drive.version({"model.json": json.dumps({"value": value}), "metadata.json": json.dumps({"metrics": {"r2": value}})}, model=name)

    def data(self, value, name="dataset/d"):
        return self.drive.version({"data.json": json.dumps({"value": value})}, model=name).name

    def define(self, spec, code=0):
        draft = self.drive.mint({"process.json": spec if isinstance(spec, str) else json.dumps(spec, indent=1), "tools.py": TOOLS}, "process/p")
        done = call("commit", draft)
        assert done.code == code, done.err
        return done

    def call(self, *words, **more):
        return call("process", *words, "--store", self.store, **more)

    def bound(self):
        nodes = self.call("show", "p", "--json").json["nodes"]
        return {n["name"]: (n["bound_dataset"], n["bound_model"], n["score"]) for n in nodes}

    def report(self, *words):
        return self.call("report", "p", *words, "--json").json

    def alias(self, model=A):
        path = self.drive.path(model, "production")
        return os.readlink(path) if path.is_symlink() else None


@pytest.fixture
def world(drive, store):
    return World(drive, store)


BOUND = {"one": ("dataset/d/v1", A + "/v1", 2), "two": ("dataset/other/v1", B + "/v1", 4), "both": ("dataset/d/v1", A + "/v1", 6)}


def test_a_run_binds_every_node_and_goes_in_the_order_of_the_dag(world):
    world.define(process())
    assert all(b[2] is None for b in world.bound().values())
    done = world.call("run", "p", "-j", "2")
    assert done.code == 0, done.err
    assert world.bound() == BOUND
    report = world.report()
    assert (report["kind"], report["state"], report["sum"]) == ("run", "done", 0.25 * 2 + 0.25 * 4 + 0.5 * 6)
    assert "weighted sum 4.5" in done.out


def test_an_update_trains_adopts_and_moves_all_at_once(world):
    world.define(process())
    assert world.call("run", "p").code == 0
    world.data(3)
    plan = world.call("update", "p", "--dry-run")
    assert plan.code == 0 and f"model {A}: would be trained" in plan.out and "node  two: keeps its result" in plan.out
    steps = world.call("update", "p", "--dry-run", "--json").json["steps"]
    assert [(s["kind"], s["name"], s["state"], s["dataset"]) for s in steps if s["name"] in (A, "one", "two")] == [
        ("training", A, "waiting", "dataset/d/v2"), ("node", "one", "waiting", "dataset/d/v2"), ("node", "two", "kept", "dataset/other/v1")]
    assert world.bound() == BOUND
    done = world.call("update", "p")
    assert done.code == 0, (done.out, done.err)
    assert world.bound() == {"one": ("dataset/d/v2", A + "/v2", 6), "two": BOUND["two"], "both": ("dataset/d/v2", A + "/v2", 10)}
    assert (world.alias(), world.alias(B)) == ("v2", None)
    report = world.report()
    assert (report["sum_before"], report["sum"]) == (4.5, 0.25 * 6 + 0.25 * 4 + 0.5 * 10)
    assert {s["name"]: s["state"] for s in report["steps"]} == {A: "adopted", "one": "done", "two": "kept", "both": "done"}
    again = world.call("update", "p")
    assert again.code == 0 and "nothing to do" in again.out
    assert "nothing to do" in world.call("update", "p", "--dry-run").out
    assert world.call("update", "p", "--dry-run", "--json").json == {"planned": True, "steps": []}
    log = call("log", A, "--store", world.store, "--json").json
    assert "trained by update" in json.dumps(log)


def test_a_model_that_is_worse_is_not_adopted_and_the_report_says_why_with_numbers(world):
    world.define(process(accept={}))
    assert world.call("run", "p").code == 0
    world.data(3)
    assert world.call("update", "p").code == 0
    world.data(2)
    done = world.call("update", "p")
    assert done.code == 0, done.err
    (training,) = [s for s in world.report()["steps"] if s["kind"] == "training"]
    assert training["state"] == "not adopted" and training["reason"] == "r2 is 2, which is worse than 3 of v2"
    assert world.bound()["one"] == ("dataset/d/v3", A + "/v2", 5)  # the new data, the model of before
    assert world.alias() == "v2"


def test_an_update_whose_whole_is_refused_moves_nothing(world):
    world.define(process(accept={"min": 4}, models={}))
    assert world.call("run", "p").code == 0
    world.data(-9)  # -8, 4, and -4 for both
    done = world.call("update", "p", "--json")
    assert done.code == 1
    assert world.bound() == BOUND and world.alias() is None
    assert world.report()["reason"] == "the weighted sum is -3, and at least 4 is asked for"
    assert [r["state"] for r in world.call("history", "p", "--json").json] == ["refused", "done"]


def test_only_the_named_dataset_counts_and_to_the_named_version(world):
    world.define(process(models={}))
    assert world.call("run", "p").code == 0
    for value in (7, 8):
        world.data(value)
        world.data(value, "dataset/other")
    assert world.call("update", "p", "--dataset", "other/v2").code == 0
    assert [b[0] for b in world.bound().values()] == ["dataset/d/v1", "dataset/other/v2", "dataset/d/v1"]
    assert world.call("update", "p", "--dataset", "dataset/d").code == 0
    assert [b[0] for b in world.bound().values()] == ["dataset/d/v3", "dataset/other/v2", "dataset/d/v3"]
    one_sentence(world.call("update", "p", "--dataset", "nothing"), 3, "nothing")


@pytest.mark.parametrize("words, why", [
    ([PY, "-c", "raise SystemExit(3)", "{result}"], "it ended with exit status 3"),
    ([PY, "-c", "import os; os.kill(os.getpid(), 9)", "{result}"], "ended by signal 9"),
    (["/no/such/program", "{result}"], "'/no/such/program' cannot be started: No such file or directory"),
    ([PY, "-c", "", "{result}"], "it wrote no result"),
    ([PY, "-c", "import sys; open(sys.argv[1], 'w').write('nonsense')", "{result}"], "its result is no JSON object"),
    ([PY, "-c", "import sys; open(sys.argv[1], 'w').write('{{}}')", "{result}"], 'its result has no "score"'),
    ([PY, "-c", "import sys; open(sys.argv[1], 'w').write('{{\"score\": NaN}}')", "{result}"], '"score" in its result is no number'),
    ([PY, "-c", "import os, sys; os.symlink('/etc/passwd', sys.argv[1])", "{result}"], "its result cannot be read"),
    ([PY, "-c", "import os, sys; os.mkfifo(sys.argv[1])", "{result}"], "its result is no regular file"),
    ([PY, "-c", "import sys; open(sys.argv[1], 'w').truncate(2 << 20)", "{result}"], "its result is larger"),
])
def test_a_node_that_fails_says_how_and_leaves_the_associations(world, words, why):
    world.define(process())
    assert world.call("run", "p").code == 0
    bad = node("one", A, 0.25, run=words)
    world.define(process(nodes=[bad] + process()["nodes"][1:]))
    done = world.call("run", "p")
    assert done.code == 1 and f"the node 'one' failed: {why}" in done.err.replace("it was ", ""), done.err
    steps = {s["name"]: s["state"] for s in world.report()["steps"]}
    assert steps == {"one": "failed", "two": "done", "both": "skipped"}
    exits = {s["name"]: s["exit_status"] for s in world.report()["steps"]}
    assert exits == {"one": 3 if "status 3" in why else 128 + 9 if "signal 9" in why else None if "cannot be started" in why else exits["one"], "two": 0, "both": None}
    assert world.bound() == BOUND


def test_a_node_that_hangs_is_ended_with_all_that_it_started(world, place):
    mark = place / "pid"
    spec = process(nodes=[node("one", A, 1, run=["sh", "-c", "sleep 600 & echo $! >$0; wait", str(mark), "{result}"], timeout=4)], models={})
    world.define(spec)
    done = world.call("run", "p")
    assert done.code == 1 and "did not end within 4 s" in done.err
    pid = int(mark.read_text())
    assert wait_for(lambda: not at_work(pid))


def test_names_and_words_are_never_read_by_a_shell(world, place):
    name = "d $(touch evil) '\"; x"
    world.data(5, f"dataset/{name}")
    spec = process(nodes=[node("a b;$(id)", A, 1, dataset=f"dataset/{name}",
                               run=[PY, "-c", "import json, sys; json.dump(dict(score=1, words=sys.argv[2:]), open(sys.argv[1], 'w'))", "{result}", "{dataset}|`id`|{{}}"])], models={})
    world.define(spec)
    assert world.call("run", "p", cwd=str(place)).code == 0
    (step,) = world.report()["steps"]
    assert json.loads(step["result"])["words"] == [f"{world.drive.path('dataset', name, 'v1')}|`id`|{{}}"]
    assert not (place / "evil").exists()


def test_a_process_that_is_wrong_is_refused_at_its_commit_with_the_line(world):
    lines = json.dumps(process(), indent=1).replace('"dataset/other"', '"dataset/none"')
    done = world.define(lines, code=1)
    line = [i for i, text in enumerate(lines.splitlines(), 1) if "dataset/none" in text][0]
    assert f"process.json, line {line}: there is no dataset dataset/none" in done.err
    assert "is no dataset" in world.define(json.dumps(process()).replace('"dataset/other"', f'"{A}"'), code=1).err
    assert "add up to 0.5" in world.define(process(nodes=[node("one", A, 0.5)]), code=1).err


def test_check_takes_a_file_that_is_no_version_yet(world, place):
    file = place / "process.json"
    file.write_text(json.dumps(process()))
    assert world.call("check", file).code == 0
    file.write_text(json.dumps(process(nodes=[node("one", A, 1, after=["one"])])))
    one_sentence(world.call("check", file), 1, "is after itself")
    one_sentence(world.call("check", "nothing"), 3, "nothing")


def passed_over(model, store):
    done = call("prune", model, "--older-than", "1s", "--store", store, "--json")
    assert done.code == 0, done.err
    return {i["version"]: i["reason"] for i in done.json if i["passed_over"]}


def idle(mark):
    """A command that reads nothing of the drive, and waits."""
    return [PY, "-c", f"import time; open({str(mark)!r}, 'w').close(); time.sleep(600)", "{result}"]


def test_what_a_run_uses_is_kept_until_its_end_also_when_it_dies(world, place):
    world.define(process(nodes=[node("one", A, 1, run=idle(place / "runs"))], models={}, accept={}))
    used, names = ("dataset/d/v1", A + "/v1", "process/p/v1"), ("--store", world.store)
    run = subprocess.Popen([BIN, "process", "run", "p", *names], stdout=subprocess.DEVNULL)
    try:
        assert wait_for((place / "runs").exists)
        for version in used:
            one_sentence(call("retire", version, *names), 1, "is in use: run 1 of process/p, which is under way, needs it", "--force")
            one_sentence(call("retire", world.drive.path(version)), 1, "run 1 of process/p")
        world.data(2)  # else it would be kept as the newest
        assert wait_for(lambda: "v1" in passed_over("dataset/d", world.store))
        assert passed_over("dataset/d", world.store)["v1"] == "run 1 of process/p, which is under way, needs it"
        one_sentence(world.call("run", "p"), 1, "is being run or updated already")
        assert call("retire", B + "/v1", *names).code == 0  # another one's
    finally:
        run.kill()
        run.wait()
    assert passed_over("dataset/d", world.store) == {}
    for version in used:
        done = call("retire", version, *names)
        assert done.code == 0, done.err


def test_a_model_that_an_update_trained_is_kept_until_it_is_adopted_or_the_update_dies(world, place):
    mark = place / "hangs"
    wait = {"train": idle(mark)[:-1] + ["{draft}"]}
    world.define(process(nodes=[node("one", A, 0.5), node("two", B, 0.5)], models={A: process()["models"][A], B: wait}, accept={}))
    assert world.call("run", "p").code == 0
    world.data(3)
    update = subprocess.Popen([BIN, "process", "update", "p", "--store", world.store], stdout=subprocess.DEVNULL)
    try:
        assert wait_for(mark.exists)
        one_sentence(call("retire", A + "/v2", "--store", world.store), 1, "update 2 of process/p, which is under way, needs it")
    finally:
        update.kill()
        update.wait()
    done = call("retire", A + "/v2", "--store", world.store)
    assert done.code == 0, done.err
    world.define(process(nodes=[node("one", A, 0.5), node("two", B, 0.5)]))  # the update goes on with the one that it began with
    mark.unlink()
    update = subprocess.Popen([BIN, "process", "update", "p", "--store", world.store], stdout=subprocess.DEVNULL)
    try:  # what was retired is trained anew
        assert wait_for(mark.exists)
        assert [s["state"] for s in world.report()["steps"] if s["name"] == A] == ["adopted"]
        assert sorted(p.name for p in world.drive.path(A).iterdir() if p.name[0] == "v") == ["v1", "v3"]
    finally:
        update.terminate()
        update.wait()


def test_what_a_run_of_a_scheduler_uses_is_kept_for_a_day_after_its_last_step(world):
    world.define(process(models={}))
    run = world.call("begin", "p").out.strip()
    one_sentence(call("retire", "dataset/other/v1", "--store", world.store), 1, f"run {run} of process/p, which is under way, needs it")
    assert world.drive.umount().code == 0
    db = sqlite3.connect(f"{world.store}/catalog.db")
    with db:
        db.execute("UPDATE process_runs SET started_ns = started_ns - 25 * 3600 * 1000000000")
    db.close()
    assert call("retire", "dataset/other/v1", "--store", world.store).code == 0


def test_a_version_that_goes_while_a_run_begins_refuses_the_run(world):
    world.define(process())
    assert world.call("run", "p").code == 0
    world.data(3)
    assert call("retire", "dataset/other/v1", "--force", "--store", world.store).code == 0
    done = world.call("update", "p", "--dataset", "dataset/d")
    assert done.code == 1 and "v1 of dataset/other, which would be used, is retired meanwhile" in done.err
    assert len(world.call("history", "p", "--json").json) == 1


def interrupted(world, place, how):
    """An update that is ended while its second training hangs; the first is committed by then."""
    mark = place / "hangs"
    hang = {"train": tool("hang", str(mark), "{draft}")}
    spec = process(nodes=[node("one", A, 0.5), node("two", B, 0.5)], models={A: process()["models"][A], B: hang}, accept={})
    world.define(spec)
    assert world.call("run", "p").code == 0
    before = world.bound()
    world.data(3)
    update = subprocess.Popen([BIN, "process", "update", "p", "--store", world.store], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert wait_for(mark.exists)
    os.kill(update.pid, how)
    _, err = update.communicate(timeout=20)
    assert world.bound() == before
    return update.returncode, err, mark


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_update_goes_on_without_training_twice(world, place, how):
    code, err, mark = interrupted(world, place, how)
    if how == signal.SIGINT:
        assert code == 1 and "the same command goes on" in err
    assert sorted(p.name for p in world.drive.path(A).iterdir() if p.name[0] == "v") == ["v1", "v2"]
    before = world.call("history", "p", "--json").json
    plan = world.call("update", "p", "--dry-run")
    assert plan.code == 0, plan.err
    assert f"model {B}: would be trained" in plan.out and f"model {A}: adopted" in plan.out and "node  two: would run" in plan.out, plan.out
    steps = world.call("update", "p", "--dry-run", "--json").json
    assert {s["name"]: s["state"] for s in steps["steps"]} == {A: "adopted", B: "waiting", "one": "waiting", "two": "waiting"}
    assert world.call("history", "p", "--json").json == before and mark.exists()
    mark.unlink()
    goes_on = subprocess.Popen([BIN, "process", "update", "p", "--store", world.store], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert wait_for(mark.exists)  # it is at the second training again …
    assert sorted(p.name for p in world.drive.path(A).iterdir() if p.name[0] == "v") == ["v1", "v2"]  # … and made no third of the first
    one_sentence(world.call("run", "p"), 1, "is being run or updated already")
    goes_on.send_signal(signal.SIGTERM)
    goes_on.communicate(timeout=20)
    assert [s["state"] for s in world.report()["steps"] if s["name"] == A] == ["adopted"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_update_whose_process_was_retired_is_given_up_and_the_next_begins_anew(world, place, how):
    interrupted(world, place, how)
    world.define(process(nodes=[node("one", A, 0.5), node("two", B, 0.5)]))
    assert call("retire", "process/p/v1", "--force", "--store", world.store).code == 0
    assert world.call("update", "p", "--dry-run").code == 0
    done = world.call("update", "p")
    assert done.code == 0, done.err
    assert world.bound()["one"][0] == "dataset/d/v2"
    newest, given_up, first = world.call("history", "p", "--json").json
    assert (newest["state"], given_up["state"], first["state"]) == ("done", "failed", "done")
    assert "v1 of process/p, with which it began, is retired" in given_up["reason"]


def versions(world, model=A):
    return sorted(p.name for p in world.drive.path(model).iterdir() if p.name[0] == "v")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_update_that_is_older_than_a_run_is_superseded_and_never_adopted(world, place, how):
    interrupted(world, place, how)
    world.data(7)
    assert world.call("run", "p").code == 0
    bound = world.bound()
    assert bound["one"][:2] == ("dataset/d/v3", A + "/v2")
    run, update, _ = world.call("history", "p", "--json").json
    assert (run["state"], update["state"]) == ("done", "superseded")
    assert update["reason"] == "it was interrupted, and run 3 was associated after it"
    done = world.call("update", "p")
    assert done.code == 0 and "nothing to do" in done.out
    assert world.bound() == bound
    assert not [v for v in call("log", B, "--store", world.store, "--json", "--all").json if v["state"] == "draft"]  # of the training that hung
    assert "superseded" in world.call("report", "p", "2").out


def test_an_interrupted_update_goes_on_though_a_later_run_failed(world, place):
    _, _, mark = interrupted(world, place, signal.SIGKILL)
    world.define(process(nodes=[node("one", A, 1, run=["/no/such/program", "{result}"])]))
    assert world.call("run", "p").code == 1
    mark.unlink()
    update = subprocess.Popen([BIN, "process", "update", "p", "--store", world.store], stdout=subprocess.DEVNULL)
    assert wait_for(mark.exists)
    update.terminate()
    assert update.wait() == 1
    assert versions(world) == ["v1", "v2"]
    assert [r["kind"] for r in world.call("history", "p", "--json").json] == ["run", "update", "run"]


def test_what_a_superseded_update_trained_on_the_same_data_is_taken_over(world, place):
    """Datasets and models are chosen by alias, so that a run can lead back to what was before."""
    mark = place / "hangs"
    data, models = {"name": "dataset/d", "where": ["alias = stable"]}, [{"name": m, "where": ["alias = used"]} for m in (A, B)]
    train = {"train": tool("train", "{dataset}", "{draft}")}
    world.define(process(nodes=[node("one", models[0], 0.5, dataset=data), node("two", models[1], 0.5, dataset=data)],
                         models={A: train, B: {"train": tool("once", str(mark), "{dataset}", "{draft}")}}, accept={}))

    def stable(version):
        assert call("alias", world.drive.path("dataset/d"), "stable", version).code == 0
    stable("v1")
    for m in (A, B):
        assert call("alias", world.drive.path(m), "used", "v1").code == 0
    assert world.call("run", "p").code == 0
    world.data(3)
    stable("v2")
    update = subprocess.Popen([BIN, "process", "update", "p", "--store", world.store], stdout=subprocess.DEVNULL)
    assert wait_for(mark.exists)
    update.kill()
    update.wait()
    stable("v1")
    assert world.call("run", "p").code == 0
    assert world.bound()["one"][:2] == ("dataset/d/v1", A + "/v1")
    stable("v2")
    drafts = [v["version"] for v in call("log", B, "--store", world.store, "--json", "--all").json if v["state"] == "draft"]
    plan = world.call("update", "p", "--dry-run")
    assert f"model {A}: would be taken over: v2 was trained by an update that did not end" in plan.out and f"model {B}: would be trained" in plan.out
    assert {s["name"]: s["model"] for s in world.call("update", "p", "--dry-run", "--json").json["steps"] if s["kind"] == "training"} == {A: A + "/v2", B: None}
    assert versions(world) == ["v1", "v2"]
    assert drafts == [v["version"] for v in call("log", B, "--store", world.store, "--json", "--all").json if v["state"] == "draft"]  # nothing is given up
    done = world.call("update", "p")
    assert done.code == 0, done.err
    assert world.call("update", "p", "--dry-run", "--json").json["steps"] == [] and "nothing to do" in world.call("update", "p", "--dry-run").out
    assert versions(world) == ["v1", "v2"]  # trained once
    assert world.bound()["one"][:2] == ("dataset/d/v2", A + "/v2") and world.bound()["two"][0] == "dataset/d/v2"
    assert [r["state"] for r in world.call("history", "p", "--json").json] == ["done", "done", "superseded", "done"]
    # other data, another training
    world.data(4)
    stable("v3")
    assert world.call("update", "p").code == 0
    assert versions(world) == ["v1", "v2", "v3"]


def test_a_run_of_a_scheduler_that_ends_after_a_newer_one_does_not_lead_back(world):
    world.define(process(models={}, accept={}))
    slow = world.call("begin", "p").out.strip()
    for name in ("one", "two", "both"):
        assert world.call("node", "p", name, "--run", slow).code == 0
    world.data(3)
    assert world.call("run", "p").code == 0
    bound = world.bound()
    one_sentence(world.call("end", "p", "--run", slow), 1, "run or update 2, which is newer, was associated meanwhile")
    assert world.bound() == bound and bound["one"][0] == "dataset/d/v2"
    assert [r["state"] for r in world.call("history", "p", "--json").json] == ["done", "superseded"]
    one_sentence(world.call("end", "p", "--run", slow), 1, "has ended")


POINTS = ["process.begin", "process.begun", *(f"process.step-recorded:{n}" for n in range(1, 8)), "process.finish", "process.in-transaction", "process.finished"]


def test_death_at_any_step_of_an_update_leaves_the_old_associations_or_the_new_and_trains_once(world):
    world.define(process())
    assert world.call("run", "p").code == 0
    for round, point in enumerate(POINTS, 2):
        before = world.bound()
        assert world.data(round) == f"v{round}"
        died = world.call("update", "p", env={"MINTFS_CRASH": point})
        if died.code == 0 and round == 2:
            pytest.skip("this mintfs was built without crash points")
        assert died.code == 137, (point, died.code, died.err)
        died_bound = world.bound()
        if point == "process.finished":
            assert (died_bound["one"][0], died_bound["both"][2]) == (f"dataset/d/v{round}", 2 * round + 4)
        else:
            assert died_bound == before, point
        again = world.call("update", "p")
        assert again.code == 0, (point, again.err)
        committed = [v for v in call("log", A, "--store", world.store, "--json").json if v["state"] == "committed"]
        bound = world.bound()
        assert bound["one"][0] == f"dataset/d/v{round}" and bound["one"][2] == 2 * round, point
        assert len(committed) == round, point  # one training for each dataset, whatever happened in between


def test_a_dataset_that_is_retired_meanwhile_leaves_the_associations(world, place):
    line = f"import subprocess, sys; subprocess.run([{BIN!r}, 'retire', 'dataset/d/v2', '--force', '--store', {str(world.store)!r}], check=True); open(sys.argv[1], 'w').write('{{{{\"score\": 1}}}}')"
    if call("retire", "--help").code != 0:
        pytest.skip("this mintfs has no retire")
    world.define(process(nodes=[node("one", A, 1, run=[PY, "-c", line, "{result}"])], models={}, accept={}))
    world.data(9)
    done = world.call("run", "p")
    assert done.code == 1 and "v2 of dataset/d, which was used, is retired meanwhile" in done.err
    assert world.bound()["one"][0] is None


def test_what_a_process_is_bound_to_is_retired_by_force_only_and_prune_keeps_it(world):
    world.define(process())
    assert world.call("run", "p").code == 0
    for bound in (A + "/v1", B + "/v1", "dataset/other/v1"):
        one_sentence(call("retire", bound, "--store", world.store), 1, "process/p is bound to it")
        one_sentence(call("retire", world.drive.path(bound)), 1, "process/p is bound to it")
    world.drive.version({"model.json": json.dumps({"value": 5})}, model=A)
    pruned = call("prune", A, "--keep-last", "1", "--yes", "--json", "--store", world.store).json
    assert {p["version"]: (p["action"], p["reason"]) for p in pruned}["v1"] == ("keep", "a process is bound to it")
    assert world.bound() == BOUND
    assert call("retire", A + "/v1", "--force", "--store", world.store).code == 0
    one_sentence(world.call("update", "p"), 1, "bound to v1 of product/a_all/m, which is retired", "mintfs process run process/p")
    assert world.call("run", "p").code == 0
    assert world.bound()["one"][1] == A + "/v2" and "nothing to do" in world.call("update", "p").out


def test_a_watch_updates_when_a_dataset_gets_a_version(world):
    world.define(process(models={}, accept={}))
    assert world.call("run", "p").code == 0
    watch = subprocess.Popen([BIN, "process", "watch", "p", "--store", world.store], stdout=subprocess.DEVNULL)
    try:
        world.data(4)
        assert wait_for(lambda: world.bound()["one"][0] == "dataset/d/v2", 20)
    finally:
        watch.send_signal(signal.SIGINT)
        assert watch.wait(timeout=10) == 0


def test_the_airflow_dag_is_python_with_an_operator_a_node_and_its_commands_run_the_process(world):
    world.define(process())
    text = world.call("export", "p", "--airflow").out
    compile(text, "dag.py", "exec")
    assert text.count("PythonOperator(task_id=") == 3 + 2
    assert "node_1 >> node_3" in text and "node_2 >> node_3" in text
    run = world.call("begin", "p").out.strip()
    one_sentence(world.call("node", "p", "both", "--run", run), 1, "which has not ended well")
    for name in ("two", "one", "both"):
        assert world.call("node", "p", name, "--run", run).code == 0
    assert world.call("end", "p", "--run", run).code == 0
    assert world.bound() == BOUND
    one_sentence(world.call("end", "p", "--run", run), 1, "has ended")


def test_names_that_look_like_options_are_names_to_a_scheduler(world, place):
    """What the DAG says to mintfs is said here to a stand-in, and then to mintfs."""
    world.drive.version({"process.json": json.dumps(process(nodes=[node("--trust", A, 1)], models={}, accept={})), "tools.py": TOOLS}, "process/--store")
    done = world.call("export", "process/--store", "--airflow")
    assert done.code == 0, done.err
    dag = done.out[:done.out.index("with DAG(")].replace("import pendulum\nfrom airflow import DAG\nfrom airflow.operators.python import PythonOperator\n", "")
    run = f"import os\nos.environ['PATH'] = {os.path.dirname(BIN)!r}\n{dag}\n" + """
class TI:
    def xcom_push(self, key, value): self.run = value
    def xcom_pull(self, task_ids, key): return self.run
ti = TI()
begin_run(ti)
node("--trust", ti)
end_run(ti)
"""
    done = subprocess.run([PY, "-c", run], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    assert world.call("history", "process/--store", "--json").json[0]["state"] == "done"


def test_a_dry_run_of_what_knows_none_is_refused(world):
    world.define(process())
    done = world.call("run", "p", "--dry-run")
    assert done.code == 2 and "--dry-run is for update" in done.err
    assert world.call("history", "p", "--json").json == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, and another user")
def test_what_root_made_in_a_user_s_store_does_not_lock_its_owner_out(place):
    """Root mounts his store, commits, and runs a process; then he works in it himself."""
    home, root_mnt = place / "home", place / "root-mnt"
    home.mkdir()
    root_mnt.mkdir()
    os.chown(home, NOBODY, NOBODY)
    assert call("init", home / "s", user=NOBODY).code == 0
    drive = Drive(home / "s", root_mnt).mount()
    drive.version({"data.json": '{"value": 1}'}, "dataset/d")
    drive.version({"model.json": '{"value": 1}'}, A)
    spec = process(nodes=[node("one", A, 1)], models={}, accept={})
    drive.version({"process.json": json.dumps(spec), "tools.py": TOOLS}, "process/p")
    names = ("p", "--store", home / "s")
    done = call("process", "run", *names)
    assert done.code == 0, done.err
    assert call("status", "--store", home / "s", user=NOBODY).code == 0
    done = call("process", "run", *names, "--trust", user=NOBODY)
    assert done.code == 0, done.err
    assert drive.umount().code == 0
    root_s = [p for p in (home / "s").rglob("*") if p.lstat().st_uid == 0 and (p.is_dir() or "blobs" not in p.parts)]
    assert root_s == []
    for words in (["fsck", "--verify"], ["retire", A + "/v1", "--force"]):
        done = call(*words, "--store", home / "s", user=NOBODY)
        assert done.code == 0, done.err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, and another user")
@pytest.mark.parametrize("how", ["link", "pipe", "named twice"])
def test_a_lock_that_a_store_s_owner_put_there_leads_root_nowhere(world, place, how):
    world.define(process(models={}, accept={}))
    victim = place / "victim"
    victim.write_text("")
    with sqlite3.connect(f"file:{world.store}/catalog.db?mode=ro", uri=True) as db:
        (process_id,) = db.execute("SELECT id FROM models WHERE path = 'process/p'").fetchone()
    lock = world.store / f"run/process-{process_id}"
    {"link": lambda: os.symlink(victim, lock), "pipe": lambda: os.mkfifo(lock), "named twice": lambda: os.link(victim, lock)}[how]()
    os.chown(world.store, 4321, 4321)
    os.chown(world.store / "run", 4321, 4321)
    done = world.call("run", "p")
    assert (done.code == 0) == (how == "named twice"), done.err
    assert victim.stat().st_uid == 0
    os.chown(world.store, 0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to commit as somebody else")
def test_root_does_not_run_what_somebody_else_committed_unless_told_to(world):
    draft = world.drive.mint({"process.json": json.dumps(process()), "tools.py": TOOLS}, "process/p")
    os.chown(draft, 4321, 4321)
    assert call("commit", draft).code == 0
    one_sentence(world.call("run", "p"), 1, "4321", "--trust")
    assert world.call("run", "p", "--trust").code == 0


def test_what_is_no_subcommand_is_named(world):
    done = world.call("frob")
    assert done.code == 2 and "'frob' is none of check, show" in done.err
    done = world.call("run")
    assert done.code == 2 and "which process?" in done.err


def test_the_drive_must_be_mounted_and_the_sentence_says_so(world):
    world.define(process())
    assert world.drive.umount().code == 0
    one_sentence(world.call("run", "p"), 3, "is not mounted")
    assert world.call("show", "p").code == 0


def test_the_example_of_molecules_is_adopted_and_refused_as_it_says(drive, store):
    if subprocess.run([PY, "-c", "import rdkit, numpy"], capture_output=True).returncode:
        pytest.skip("python3-rdkit is not installed")
    done = subprocess.run([ROOT / "examples/molecules/run", drive.dir], capture_output=True, text=True, env={**os.environ, "MINTFS_BIN": BIN}, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    history = call("process", "history", "screening", "--store", store, "--json").json
    assert [(r["kind"], r["state"]) for r in history] == [("update", "refused"), ("update", "done"), ("run", "done")]
    assert history[1]["sum"] > history[1]["sum_before"] and history[0]["sum"] < 0
    nodes = call("process", "show", "screening", "--store", store, "--json").json["nodes"]
    assert {n["bound_dataset"] for n in nodes} == {"dataset/mol/v2"}
    assert os.readlink(drive.path("product/activity_all/ridge/production")) == "v2"
