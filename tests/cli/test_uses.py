"""mintfs uses: who reads a version in production, by real processes."""
import json
import os
import signal
import subprocess
import sys

import pytest

from cli_env import call, one_sentence, wait_for

M = "product/P001_all/mlstm"
NOBODY = 65534
SERVER = """
import mmap, sys
f = open(sys.argv[1], "rb")
m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
print(m[:7], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def model(drive):
    drive.version({"model.bin": "weights"}, M)
    drive.version({"model.bin": "others"}, M)
    return drive


def uses(store, version=f"{M}/v1"):
    done = call("uses", version, "--store", store, "--json")
    assert done.code == 0, done.err
    return done.json


def one(store, wanted):
    """The row of a command that has `wanted` among its arguments, as soon as it is known."""
    def find():
        return [u for u in uses(store) if u["command"] and wanted in u["command"]]
    rows = wait_for(find)
    assert len(rows) == 1, uses(store)
    return rows[0]


class Server:
    """A program that keeps a file open and mapped."""

    def __init__(self, path, name, **more):
        self.process = subprocess.Popen([sys.executable, "-c", SERVER, str(path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", **more)
        assert self.process.stdout.readline() == b"b'weights'\n"

    def end(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def serve(model):
    running = []

    def begin(name, **more):
        running.append(Server(model.path(M, "v1/model.bin"), name, **more))
        return running[-1]
    yield begin
    for s in running:
        if s.process.poll() is None:
            s.end()


def test_a_program_that_keeps_a_file_open_and_mapped_uses_it_now_until_it_ends(model, store, serve):
    server = serve("serve-it")
    row = one(store, "serve-it")
    assert row["command"] == [sys.executable, "-c", SERVER, str(model.path(M, "v1/model.bin")), "serve-it"] and row["command_complete"] is True
    assert (row["now"], row["pids"], row["processes"], row["times"]) == (True, [server.process.pid], 1, 1)
    assert row["host"] == os.uname().nodename and row["first"] == row["last"]
    table = call("uses", model.path(M, "v1")).out
    assert "serve-it" in table and f"pid {server.process.pid}" in table and table.startswith("USER")
    server.end()
    row = one(store, "serve-it")
    assert (row["now"], row["pids"], row["times"]) == (False, [], 1)
    assert uses(store, f"{M}/v2") == [] and "nobody was seen to read" in call("uses", f"{M}/v2", "--store", store).out


def test_the_same_command_run_again_is_one_row_that_counts(store, serve):
    for times in 1, 2, 3:
        server = serve("again")
        assert wait_for(lambda: one(store, "again")["times"] == times), uses(store)
        assert one(store, "again")["now"] is True
        server.end()
    row = one(store, "again")
    assert row["first"] <= row["last"] and row["now"] is False


def test_two_processes_of_one_command_are_counted_and_one_that_lives_is_enough(store, serve):
    first, second = serve("pair"), serve("pair")
    assert wait_for(lambda: one(store, "pair")["processes"] == 2), uses(store)
    assert sorted(one(store, "pair")["pids"]) == sorted([first.process.pid, second.process.pid])
    second.end()
    assert one(store, "pair")["pids"] == [first.process.pid]


def test_a_stopped_or_killed_program_is_told_apart(store, serve):
    server = serve("killed")
    os.kill(server.process.pid, signal.SIGSTOP)
    assert one(store, "killed")["now"] is True
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    assert one(store, "killed")["now"] is False


def test_who_lists_does_not_use(model, store, serve):
    subprocess.run(["ls", "-lR", str(model.path(M))], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["find", str(model.path(M)), "-type", "f"], check=True, stdout=subprocess.DEVNULL)
    serve("after-them")
    one(store, "after-them")  # what was seen before is recorded by now
    assert len(uses(store)) == 1


def test_a_program_that_is_gone_in_a_moment_is_known_at_least_by_its_name(model, store):
    subprocess.run(["cat", str(model.path(M, "v1/model.bin"))], check=True, stdout=subprocess.DEVNULL)
    row = one(store, "cat")
    whole = ["cat", str(model.path(M, "v1/model.bin"))]
    assert row["command"] == (whole if row["command_complete"] else ["cat"]) and row["now"] is False


@pytest.fixture
def late_record(monkeypatch):
    """What is read is recorded some seconds later, instead of a fifth of one: time for a shell to go on on a busy machine."""
    monkeypatch.setenv("MINTFS_DELAY", "readers.waited:3000")


def test_a_shell_that_becomes_another_program_is_known_as_that(late_record, model, store):
    path = model.path(M, "v1/model.bin")
    p = subprocess.Popen(["sh", "-c", f'read x < "{path}"; exec sleep 1000'], cwd="/")
    try:
        assert one(store, "sleep")["command"] == ["sleep", "1000"] and one(store, "sleep")["pids"] == [p.pid]
    finally:
        p.kill()
        p.wait()


@pytest.fixture
def slow_record(monkeypatch):
    """Command lines have been read, and are recorded a second later."""
    monkeypatch.setenv("MINTFS_DELAY", "readers.looked:1000")


def test_who_comes_while_others_are_recorded_is_known_by_the_whole_command(slow_record, model, store, serve):
    names = [f"reader-{i}" for i in range(12)]
    for name in names:
        serve(name)
    assert wait_for(lambda: len(uses(store)) >= len(names)), uses(store)
    assert sorted(u["command"][-1] for u in uses(store)) == sorted(names) and all(u["command_complete"] for u in uses(store))


@pytest.fixture
def late_tidying(monkeypatch):
    """The files of a draft are there for some time after its commit, as they are for a moment."""
    monkeypatch.setenv("MINTFS_DELAY", "commit.tidying:3000")


def test_who_reads_right_after_the_commit_is_known(late_tidying, drive, store):
    """The kernel may still know the file by its number in the draft: it has not been told yet, or somebody holds it."""
    v1 = drive.mint({"model.bin": "weights"}, M)
    known = os.open(v1 / "model.bin", os.O_PATH)
    os.chmod(v1, 0o555)
    with open(f"/proc/self/fd/{known}") as f:
        assert f.read() == "weights"
        assert wait_for(lambda: uses(store)), "the reader is not known"
    os.close(known)
    assert [u["pids"] for u in uses(store)] in ([[os.getpid()]], [[]])


@pytest.mark.skipif(os.geteuid() != 0, reason="takes two users")
def test_two_users_are_told_apart(store, serve):
    serve("same"), serve("same", user=NOBODY, group=NOBODY, extra_groups=[])
    assert wait_for(lambda: len(uses(store)) == 2), uses(store)
    rows = uses(store)
    assert sorted(r["user"] for r in rows) == sorted({"root", "nobody"}) and all(r["now"] and r["processes"] == 1 for r in rows)
    assert rows[0]["command"] == rows[1]["command"]


def test_a_command_without_end_is_cut_behind_an_argument(store, serve, model):
    path = str(model.path(M, "v1/model.bin"))
    p = subprocess.Popen([sys.executable, "-c", SERVER, path, "long", *['quoted " \\ and ü'] * 2000], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")
    try:
        p.stdout.readline()
        row = one(store, "long")
        assert row["command_complete"] is False and row["now"] is True
        assert 10 < len(row["command"]) < 2000 and set(row["command"][5:]) == {'quoted " \\ and ü'} and len(json.dumps(row["command"], ensure_ascii=False)) < 5000
    finally:
        p.kill()
        p.wait()
        p.stdin.close()
        p.stdout.close()


def test_the_newest_readers_are_kept_apart_and_the_others_summed_up_but_one_that_lives_stays(model, store, serve):
    server = serve("old-server")
    one(store, "old-server")
    for at in range(0, 70, 10):
        shells = [subprocess.Popen(["sh", "-c", 'exec 3<"$1"; read x', "sh", str(model.path(M, "v1/model.bin")), f"reader-{i}"], stdin=subprocess.PIPE)
                  for i in range(at, at + 10)]
        assert wait_for(lambda: sum(u["times"] for u in uses(store)) == 1 + at + 10), uses(store)
        for p in shells:
            p.communicate()
    rows = uses(store)
    assert all(u["command_complete"] for u in rows[:-1])
    assert len(rows) == 65 and rows[-1]["command"] is None and rows[-1]["readers"] == 7 and rows[-1]["user"] is None
    assert one(store, "old-server")["pids"] == [server.process.pid]
    assert "7 others" in call("uses", f"{M}/v1", "--store", store).out


def test_what_was_seen_outlives_the_drive(model, store, serve):
    server = serve("before")
    one(store, "before")
    server.end()
    assert model.umount().code == 0
    assert one(store, "before")["times"] == 1
    model.mount()
    serve("before")
    assert wait_for(lambda: one(store, "before")["times"] == 2), uses(store)


def test_uses_wants_a_version(model, store):
    assert call("uses", M, "--store", store).code == 2
    assert call("uses", "--store", store).code == 2
    one_sentence(call("uses", f"{M}/v9", "--store", store), 3, "v9")
