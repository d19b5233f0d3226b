"""mintfs watch: events in their order, once each, from wherever one left off."""
import json
import os
import signal
import subprocess

from cli_env import BIN, call, wait_for

M = "product/P001_all/mlstm"


def events(store, *args):
    done = call("watch", "--store", store, "--once", "--json", *args)
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_the_life_of_versions_is_told_in_its_order(drive, store):
    drive.version({"model.bin": "a"}, message="first")
    draft = drive.mint({"model.bin": "b"})
    assert call("discard", draft).code == 0
    os.symlink("v1", drive.path(M, "production"))
    told = events(store, "--from", "1")
    assert [(e["event"], e["model"], e["version"]) for e in told] == [
        ("minted", M, "v1"), ("committed", M, "v1"), ("minted", M, "v2"), ("discarded", M, "v2"), ("alias", M, "v1")]
    assert [e["id"] for e in told] == sorted({e["id"] for e in told})
    assert told[1]["text"] == "first" and told[4]["text"] == "production"


def test_it_goes_on_where_one_left_off_and_within_the_named_model_only(drive, store):
    drive.version({"model.bin": "a"})
    last = events(store, "--from", "1")[-1]["id"]
    drive.version({"model.bin": "b"}, model="store/S1_P1/x")
    assert events(store) == []  # from now on
    assert [e["model"] for e in events(store, "--from", last + 1)] == ["store/S1_P1/x"] * 2
    assert events(store, M, "--from", last + 1) == []
    assert len(events(store, "store", "--from", "1")) == 2
    assert events(store, "stor", "--from", "1") == []  # no half of a name


def test_a_failed_run_is_an_event_with_its_reason(drive, store):
    latest = drive.model() / "latest"
    subprocess.run(["sh", "-c", f"mkdir {latest}; echo x > {latest}/model.bin; exit 3"])
    assert wait_for(lambda: any(e["event"] == "failed" and "exit 3" in e["text"] for e in events(store, "--from", "1")))


def test_what_happens_while_it_watches_is_told_and_the_command_gets_names_by_its_environment(drive, store, place):
    out = place / "seen"
    model = "product/P '$(x)_all/mlstm"
    line = f'printf "%s %s v%s\\n" "$MINTFS_EVENT" "$MINTFS_EVENT_MODEL" "$MINTFS_EVENT_NUMBER" >>{out}'
    watch = subprocess.Popen([BIN, "watch", "--store", store, "--exec", line, "--from", "1"], stdout=subprocess.PIPE, text=True)
    try:
        drive.version({"model.bin": "a"}, model=model)
        assert wait_for(lambda: out.exists() and out.read_text().count("\n") == 2)
        assert out.read_text() == f"minted {model} v1\ncommitted {model} v1\n"
    finally:
        watch.send_signal(signal.SIGINT)
        shown, _ = watch.communicate(timeout=10)
    assert watch.returncode == 0
    assert shown.count("\n") == 2 and "committed" in shown


def test_a_command_that_fails_is_said_and_does_not_end_the_watch(drive, store):
    drive.version({"model.bin": "a"})
    done = call("watch", "--store", store, "--once", "--from", "1", "--exec", "exit 7")
    assert done.code == 0
    assert done.err.count("ended with status 7") == 2


def test_a_number_that_is_none_is_a_usage_error(store):
    done = call("watch", "--store", store, "--from", "x")
    assert done.code == 2 and "'x' is none" in done.err
