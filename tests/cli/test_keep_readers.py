"""retire and prune beside processes that read small files, which are opened without a trace, and close them again."""
import os
import pty
import signal
import sqlite3
import subprocess
import sys

import pytest

from cli_env import BIN, call, one_sentence, wait_for

MODEL, DATA = "product/P001_all/mlstm", "dataset/mol"
EPOCHS = """
import sys
for line in sys.stdin:
    for path in sys.argv[2:]:
        open(path).read()
    print("epoch", flush=True)
"""


class Training:
    """A program that reads small files at each epoch and has none of them open in between."""

    def __init__(self, *paths, name="between-epochs", code=EPOCHS):
        self.process = subprocess.Popen([sys.executable, "-c", code, name, *map(str, paths)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/")
        self.pid = self.process.pid
        self.epoch()

    def epoch(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "epoch\n"

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def data(drive):
    for n in range(1, 4):
        drive.version({"rows.csv": f"row {n}", "more/rows.csv": f"more {n}"}, DATA)
    return drive


@pytest.fixture
def train(data):
    begun = []

    def begin(version="v1", **more):
        begun.append(Training(data.path(DATA, version, "rows.csv"), data.path(DATA, version, "more/rows.csv"), **more))
        return begun[-1]
    yield begin
    for t in begun:
        t.end()


def tamper(store, sql):
    """Changes what is on record of processes, while nothing has the store open."""
    db = sqlite3.connect(f"{store}/catalog.db")
    with db:
        db.execute(sql)
    db.close()


def passed_over(done):
    assert done.code == 0, done.err
    return {i["version"]: i["reason"] for i in done.json if i["passed_over"]}


def test_a_dataset_of_small_files_is_not_retired_between_two_epochs(data, train):
    training = train()
    done = call("retire", data.path(DATA, "v1"))
    one_sentence(done, 1, "v1 of dataset/mol is in use", f"process {training.pid} (", "has read it and lives", "--force")
    training.epoch()
    assert call("retire", data.path(DATA, "v2")).code == 0
    training.end()
    assert call("retire", data.path(DATA, "v1")).code == 0


def test_force_retires_it_all_the_same(data, train):
    train()
    assert call("retire", data.path(DATA, "v1"), "--force").code == 0


def test_prune_passes_it_over_and_says_so_and_why(data, train):
    training = train()
    wait_for(lambda: call("uses", data.path(DATA, "v1"), "--json").json)  # on record: a plan asks the catalog
    for words in ([], ["--yes"]):
        reason = passed_over(call("prune", DATA, "--keep-last", "1", "--store", data.store, "--json", *words))
        assert list(reason) == ["v1"] and f"process {training.pid} (" in reason["v1"]
    text = call("prune", data.path(DATA), "--keep-last", "1").out
    assert f"keep: process {training.pid}" in text and "passed over 1" in text and "the newest" not in text
    assert data.path(DATA, "v1").is_dir() and not data.path(DATA, "v2").exists()
    training.end()
    done = call("prune", DATA, "--keep-last", "1", "--yes", "--store", data.store, "--json")
    assert passed_over(done) == {} and not data.path(DATA, "v1").exists()


def test_without_a_drive_the_record_tells_and_a_pid_that_was_given_out_again_does_not_count(data, train):
    training = train()
    name = (f"{DATA}/v1", "--store", data.store)
    assert data.umount().code == 0
    one_sentence(call("retire", *name), 1, f"process {training.pid} (", "lives")
    tamper(data.store, f"UPDATE seen_processes SET start = start + 1 WHERE pid = {training.pid}")
    assert call("retire", *name).code == 0


def test_a_process_of_an_earlier_boot_does_not_count(data, train):
    train()
    assert data.umount().code == 0
    tamper(data.store, "UPDATE seen_processes SET boot_id = 'earlier'")
    assert call("retire", f"{DATA}/v1", "--store", data.store).code == 0


LOADERS = """
import subprocess, sys
for line in sys.stdin:
    for path in sys.argv[2:]:
        subprocess.run([sys.executable, "-c", "import sys; open(sys.argv[1]).read()", path])
    print("epoch", flush=True)
"""


def test_what_data_loaders_read_that_have_ended_counts_for_their_trainer_a_day_long(data, train):
    trainer = train(code=LOADERS)
    name = (f"{DATA}/v1", "--store", data.store)
    one_sentence(call("retire", data.path(DATA, "v1")), 1, f"a child of process {trainer.pid} (", "which lives, has read it")
    assert data.umount().code == 0
    one_sentence(call("retire", *name), 1, f"a child of process {trainer.pid} (")
    tamper(data.store, "UPDATE seen_reads SET at_ns = at_ns - 25 * 3600 * 1000000000")
    assert call("retire", *name).code == 0


def test_a_server_that_went_on_to_another_version_a_day_ago_lets_go_of_the_older(data, train):
    both = Training(data.path(DATA, "v1/rows.csv"), data.path(DATA, "v2/rows.csv"))
    try:
        assert data.umount().code == 0
        name = ("--store", data.store)
        one_sentence(call("retire", f"{DATA}/v1", *name), 1, f"process {both.pid} (")
        tamper(data.store, "UPDATE seen_reads SET at_ns = at_ns - 25 * 3600 * 1000000000 WHERE version_id = (SELECT min(version_id) FROM seen_reads)")
        assert call("retire", f"{DATA}/v1", *name).code == 0
        tamper(data.store, "UPDATE seen_reads SET at_ns = at_ns - 900 * 3600 * 1000000000")
        one_sentence(call("retire", f"{DATA}/v2", *name), 1, f"process {both.pid} (")  # the last that it read, however long ago
    finally:
        both.end()


def test_who_asks_and_what_he_stands_below_do_not_count(data):
    code = "import subprocess, sys; open(sys.argv[2]).read(); sys.exit(subprocess.run(['sh', '-c', '\"$0\" retire \"$1\"; exit $?', sys.argv[1], sys.argv[3]]).returncode)"
    done = subprocess.run([sys.executable, "-c", code, BIN, data.path(DATA, "v1/rows.csv"), data.path(DATA, "v1")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = "import os, sys; open(sys.argv[1]).read(); os.setxattr(sys.argv[2], 'user.mintfs.retire', b'v2')"
    subprocess.run([sys.executable, "-c", code, data.path(DATA, "v2/rows.csv"), data.path(DATA)], check=True)


def test_the_shell_of_a_terminal_that_read_a_line_does_not_count_but_what_it_started_does(data):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
    try:
        mark = data.dir.parent / "mark"
        for words, mode in ((f"read x <{data.path(DATA, 'v1/rows.csv')}", "one"), (f"(read x <{data.path(DATA, 'v2/rows.csv')}; echo done >{mark}; read y) ", "two")):
            os.write(terminal, f"{words}{f'; echo done >{mark}' if mode == 'one' else ''}\n".encode())
            assert wait_for(mark.exists), mode
            mark.unlink()
        assert call("retire", data.path(DATA, "v1")).code == 0
        one_sentence(call("retire", data.path(DATA, "v2")), 1, "is in use: process", "(bash --norc")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    assert wait_for(lambda: call("retire", data.path(DATA, "v2")).code == 0)


def test_who_only_lists_does_not_hold_it(data):
    code = "import os, sys\nfor line in sys.stdin:\n    [list(os.scandir(os.path.dirname(p))) for p in sys.argv[2:]]\n    print('epoch', flush=True)"
    lists = Training(data.path(DATA, "v1/rows.csv"), code=code)
    try:
        assert call("retire", data.path(DATA, "v1")).code == 0
    finally:
        lists.end()
