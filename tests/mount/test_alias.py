"""Aliases and best: links of a model that people and metrics set."""
import errno
import json
import os

import pytest

from drive import apart, commit, mintfs, read, refused, run, sh, wait_until, write


@pytest.fixture
def three(drive):
    """A model with three committed versions and a draft."""
    for n in range(1, 4):
        drive.committed(files={"model.pth": b"%d" % n})
    drive.mint()
    return drive.model()


def test_ln_s_sets_an_alias_that_can_be_read_through(three):
    sh("ln -s v2 production", cwd=three)
    assert os.readlink(three / "production") == "v2"
    assert read(three / "production/model.pth") == b"2"
    assert "production" in os.listdir(three)


def test_ln_sfn_moves_an_alias_and_rm_drops_it(three):
    sh("ln -s v2 production; ln -sfn v3 production", cwd=three)
    assert read(three / "production/model.pth") == b"3"
    sh("rm production", cwd=three)
    assert not os.path.lexists(three / "production")
    assert sorted(os.listdir(three)) == ["latest", "v1", "v2", "v3", "v4"]


def test_the_history_knows_every_change(three):
    sh("ln -s v2 production && ln -sfn v3 production && ln -sfn v1 production && rm production", cwd=three)
    text = mintfs("alias", "--history", three).stdout
    changes = [line for line in text.splitlines() if "production" in line]
    assert len(changes) == 4
    told = mintfs("alias", "--history", "--json", three).stdout
    assert told.count('"production"') == 4
    json.loads(told)


def test_watchers_are_told_the_name_that_was_meant_and_no_passing_one(drive, three):
    sh("ln -s v2 production && ln -sfn v3 production && ln -sfn v3 production && ln -sfn v1 production", cwd=three)
    told = [json.loads(line) for line in mintfs("watch", "--once", "--from", "1", "--json", "--store", drive.store).stdout.splitlines()]
    assert [(e["text"], e["version"]) for e in told if e["event"] == "alias"] == [("production", v) for v in ("v2", "v3", "v1")]


def test_an_alias_survives_a_remount(drive, three):
    os.symlink("v1", three / "production")
    drive.remount()
    assert os.readlink(three / "production") == "v1"


def test_an_alias_of_another_alias_leads_to_its_version_and_stays_there(three):
    os.symlink("v1", three / "staging")
    os.symlink("staging", three / "production")
    sh("ln -sfn v2 staging", cwd=three)
    assert read(three / "production/model.pth") == b"1"


@pytest.mark.parametrize("target", ["v4", "v99", "nothing", "../mlstm/v1", "/etc", "v1/model.pth", ".", ""])
def test_an_alias_leads_to_committed_versions_of_its_model_only(three, target):
    with refused(errno.EINVAL, *([errno.ENOENT] if target == "" else [])):
        os.symlink(target, three / "production")
    assert not os.path.lexists(three / "production")


@pytest.mark.parametrize("name", ["latest", "best", "next", "v9", "v1"])
def test_reserved_names_cannot_be_aliases(three, name):
    with refused(errno.EPERM, errno.EEXIST):
        os.symlink("v1", three / name)


def test_latest_and_best_cannot_be_removed_or_replaced(drive):
    v1 = drive.committed(files={"model.pth": b"1", "metadata.json": b'{"metrics": {"rmse": 1}}'})
    m = v1.parent
    for name in ("latest", "best"):
        with refused(errno.EPERM):
            os.unlink(m / name)
        os.symlink("v1", m / "mine")
        with refused(errno.EPERM):
            os.rename(m / "mine", m / name)
        os.unlink(m / "mine")
        assert os.readlink(m / name) == "v1"


@pytest.mark.parametrize("mint", ["mkdir latest", "mkdir v4", "mkdir latest; echo x > latest/model.pth; mkdir latest/sub", "mkdir latest; mkdir next"])
@pytest.mark.parametrize("remove", ["rm -rf {}", "rm -r {}", "find {} -delete", "python3 -c 'import shutil; shutil.rmtree(\"{}\")'"])
def test_a_model_of_drafts_goes_at_the_first_try(drive, mint, remove):
    """Its `latest` leads this shell to a draft, and cannot be removed as long as it does."""
    m = drive.model()
    sh(f"{mint}; test -L latest || exit 1; cd ..; {remove.format(m.name)}", cwd=m)
    assert not m.exists()


def test_the_draft_of_a_removed_latest_stays(drive):
    m = drive.model()
    sh("mkdir latest; rm latest; readlink latest | grep -qx v1 && echo x > latest/model.pth", cwd=m)
    assert read(m / "v1/model.pth") == b"x\n"


def test_a_second_ln_s_of_one_name_is_eexist(three):
    os.symlink("v1", three / "production")
    with refused(errno.EEXIST):
        os.symlink("v2", three / "production")
    with refused(errno.EEXIST):
        os.mkdir(three / "production")
    assert os.readlink(three / "production") == "v1"


def test_an_alias_can_be_renamed_in_its_model_and_not_out_of_it(drive, three):
    os.symlink("v1", three / "staging")
    os.rename(three / "staging", three / "production")
    assert os.readlink(three / "production") == "v1" and not os.path.lexists(three / "staging")
    other = drive.model("store/S001_all/kan")
    with refused(errno.EPERM, errno.EXDEV):
        os.rename(three / "production", other / "production")


def test_aliases_by_chinese_names_work(three):
    os.symlink("v1", three / "生产")
    assert read(three / "生产/model.pth") == b"1"


def test_one_of_many_at_once_sets_an_alias_and_it_is_never_missing(house, three):
    os.symlink("v1", three / "production")
    movers = [house.start(f"cd '{three}'; read go; for i in 1 2 3 4 5 6; do ln -sfn v{n} production || exit 1; done") for n in (1, 2, 3)]
    for p in movers:
        p.stdin.write("go\n")
        p.stdin.flush()
    while any(p.poll() is None for p in movers):
        assert read(three / "production/model.pth") in (b"1", b"2", b"3")
    assert [p.returncode for p in movers] == [0, 0, 0]
    assert [n for n in os.listdir(three) if n not in ("latest", "production", "v1", "v2", "v3", "v4")] == []


def test_who_may_not_write_the_model_may_not_set_aliases(drive, three):
    os.chmod(three, 0o755)
    with refused(errno.EACCES):
        apart(os.symlink, "v1", str(three / "production"), uid=4001)
    os.chmod(three, 0o777)
    apart(os.symlink, "v1", str(three / "production"), uid=4001)
    assert os.lstat(three / "production").st_uid in (0, 4001)


def test_the_command_line_and_ln_see_the_same_aliases(drive, three):
    mintfs("alias", three, "production", "v2")
    assert os.readlink(three / "production") == "v2"
    assert "production" in mintfs("alias", "product/P001_all/mlstm", "--store", drive.store).stdout


# ---- best ----


def with_metrics(drive, metadata, model="product/P001_all/mlstm"):
    return drive.committed(model, files={"model.pth": b"%d" % len(os.listdir(drive.model(model))), "metadata.json": metadata.encode()})


def best(drive, model="product/P001_all/mlstm"):
    try:
        return os.readlink(drive / model / "best")
    except FileNotFoundError:
        return None


def test_best_leads_to_the_smallest_error(drive):
    for rmse in (10, 8, 9):
        with_metrics(drive, '{"metrics": {"rmse": %s, "r2": 0.5}}' % rmse)
    assert best(drive) == "v2" and "best" in os.listdir(drive.model())


def test_best_leads_to_the_greatest_accuracy(drive):
    for accuracy in (0.5, 0.7, 0.6):
        with_metrics(drive, '{"metrics": {"accuracy": %s}}' % accuracy)
    assert best(drive) == "v2"


def test_a_named_metric_decides_before_the_first(drive):
    for rmse, cost in ((1, 9), (2, 3), (3, 5)):
        with_metrics(drive, '{"metrics": {"rmse": %s, "cost": %s}, "best": {"metric": "cost", "mode": "min"}}' % (rmse, cost))
    assert best(drive) == "v2"


def test_a_metric_nobody_knows_has_no_best_unless_its_mode_is_named(drive):
    with_metrics(drive, '{"metrics": {"fluffiness": 3}}')
    assert best(drive) is None and "best" not in os.listdir(drive.model())
    with_metrics(drive, '{"metrics": {"fluffiness": 5}, "best": {"metric": "fluffiness", "mode": "max"}}')
    with_metrics(drive, '{"metrics": {"fluffiness": 4}, "best": {"metric": "fluffiness", "mode": "max"}}')
    assert best(drive) == "v2"


def test_a_version_that_names_a_metric_which_it_has_not_takes_no_best_from_the_model(drive):
    with_metrics(drive, '{"metrics": {"rmse": 1}}')
    with_metrics(drive, '{"metrics": {"rmse": 2}, "best": {"metric": "rsme", "mode": "min"}}')
    assert best(drive) == "v1"
    with_metrics(drive, '{"metrics": {"rmse": 3, "cost": 1}, "best": {"metric": "cost", "mode": "min"}}')
    assert best(drive) == "v3"


def test_nan_never_is_the_best(drive):
    for value in ("NaN", "-Infinity", "7.5", "8.5"):
        with_metrics(drive, '{"metrics": {"loss": %s}}' % value)
    assert best(drive) == "v3"


def test_drafts_and_versions_without_metrics_are_not_the_best(drive):
    assert best(drive) is None
    drive.committed()
    with_metrics(drive, '{"metrics": {"mae": 3}}')
    d = drive.mint()
    write(d / "model.pth", b"draft")
    write(d / "metadata.json", b'{"metrics": {"mae": 1}}')
    assert best(drive) == "v2"
    commit(d)
    assert best(drive) == "v3"


def test_best_changes_at_once_for_everybody(house, drive):
    with_metrics(drive, '{"metrics": {"rmse": 5}}')
    reader = house.worker()
    link = drive.model() / "best"
    assert reader.do("os.readlink(p)", p=link) == "v1"
    with_metrics(drive, '{"metrics": {"rmse": 4}}')
    assert reader.do("os.readlink(p)", p=link) == "v2"
    run("ls", "-l", drive.model())
    wait_until(lambda: best(drive) == "v2")
