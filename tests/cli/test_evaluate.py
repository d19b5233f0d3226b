"""mintfs evaluate and compare: results found after a commit, and versions side by side."""
import json
import math
import os
import sqlite3
import tarfile

import pytest

from cli_env import call, one_sentence

M = "product/P001_all/mlstm"


@pytest.fixture
def versions(drive):
    for rmse, lr in ((12, 0.1), (10, 0.01), (11, 0.001)):
        drive.version({"model.bin": str(rmse), "metadata.json": json.dumps({"metrics": {"rmse": rmse, "odd": rmse}, "params": {"lr": lr}})})
    drive.version({"data.csv": "1"}, model="dataset/holdout")
    drive.version({"data.csv": "2"}, model="dataset/holdout")
    return drive


def evaluate(drive, version, dataset, metrics, **more):
    return call("evaluate", f"{M}/{version}", "--dataset", dataset, "--metrics", metrics, "--store", drive.store, **more)


def compared(drive, *names):
    done = call("compare", *names, "--json", "--store", drive.store)
    assert done.code == 0, done.err
    return {v["version"]: v for v in done.json}


def test_evaluations_stand_beside_the_metrics_and_the_newest_counts(versions):
    assert evaluate(versions, "v1", "holdout/v1", '{"rmse": 20}').code == 0
    assert evaluate(versions, "v1", "dataset/holdout/v1", '{"rmse": 9.8, "r2": NaN}').code == 0
    assert evaluate(versions, "v2", "holdout/v1", '{"rmse": 9.9}').code == 0
    assert evaluate(versions, "v2", "holdout/v2", '{"rmse": 30}').code == 0
    seen = compared(versions, M)
    assert list(seen) == [f"{M}/v{n}" for n in (1, 2, 3)]
    assert seen[f"{M}/v1"]["evaluations"]["rmse on dataset/holdout/v1"] == 9.8
    assert seen[f"{M}/v2"]["evaluations"] == {"rmse on dataset/holdout/v1": 9.9, "rmse on dataset/holdout/v2": 30}
    assert seen[f"{M}/v3"]["parameters"] == {"lr": 0.001}


def test_the_best_of_a_known_metric_is_marked_and_of_an_unknown_one_none(versions):
    seen = compared(versions, f"{M}/v1", f"{M}/v2", f"{M}/v3")
    assert [seen[f"{M}/v{n}"]["best"] for n in (1, 2, 3)] == [[], ["rmse"], []]
    table = call("compare", M, "--store", versions.store).out
    (row,) = [line for line in table.splitlines() if line.startswith("rmse")]
    assert row.split() == ["rmse", "12", "10", "*", "11"]


@pytest.mark.parametrize("never", ["1e999", "-1e999", "Infinity", "NaN", "null", "9" * 400], ids=lambda text: text[:9])
def test_what_is_no_finite_number_never_wins_and_is_null_everywhere(drive, never):
    def refuse(word):
        raise AssertionError(f"{word} in JSON")

    finite = {"parse_constant": refuse, "parse_int": lambda text: int(text) if len(text) < 300 else refuse(text),
              "parse_float": lambda text: float(text) if math.isfinite(float(text)) else refuse(text)}
    for acc in ("0.5", never, "0.7", "0.6"):
        drive.version({"model.bin": acc, "metadata.json": f'{{"metrics": {{"acc": {acc}, "r2": 0.1}}, "params": {{"lr": {never}}}}}'})
    drive.version({"data.csv": "1"}, model="dataset/holdout")
    assert evaluate(drive, "v2", "holdout/v1", f'{{"acc": {never}, "r2": 1}}').code == 0
    assert os.readlink(drive.path(M, "best")) == "v3"
    kept = call("prune", M, "--keep-best", "2", "--json", "--store", drive.store)
    assert {v["version"] for v in kept.json if v["action"] == "retire"} == {"v1", "v2"}, kept.out
    for args in (["show", f"{M}/v2"], ["log", M], ["compare", M], ["find", "metrics.r2 > 0"], ["diff", f"{M}/v1", f"{M}/v2"]):
        done = call(*args, "--json", "--store", drive.store)
        assert done.code in (0, 1)
        json.loads(done.out, **finite)
    seen = compared(drive, M)[f"{M}/v2"]
    assert seen["metrics"]["acc"] is None and seen["evaluations"]["acc on dataset/holdout/v1"] is None and seen["parameters"] == {"lr": None} and "acc" not in seen["best"]
    words = call("show", f"{M}/v2", "--store", drive.store).out
    assert words.count("no finite number") == 2
    db = sqlite3.connect(drive.store / "catalog.db")
    assert db.execute("SELECT json_extract(metrics_summary, '$.acc') FROM model_versions WHERE version = 'v2' AND model_type = 'mlstm'").fetchall() == [(None,)]
    db.close()


def finite(text):
    """JSON without a number that is read as infinite."""
    def refuse(word):
        raise AssertionError(f"{word} in JSON")
    return json.loads(text, parse_constant=refuse, parse_float=lambda word: float(word) if math.isfinite(float(word)) else refuse(word))


def test_what_older_builds_recorded_of_infinite_numbers_is_null_wherever_it_is_told(drive, place):
    for n in (1, 2):
        drive.version({"model.bin": f"{n}", "metadata.json": '{"metrics": {"acc": 0.5, "deep": {"x": [1]}}, "labels": {"a": 1}, "params": {"lr": 1}}'})
    drive.version({"data.csv": "1"}, model="dataset/holdout")
    assert evaluate(drive, "v2", "holdout/v1", '{"acc": 0.5}').code == 0
    db = sqlite3.connect(drive.store / "catalog.db")
    db.execute("UPDATE versions SET metrics_summary = '{\"acc\":1e999,\"deep\":{\"x\":[-1E999]}}' WHERE number = 2")
    db.execute("UPDATE evaluations SET metrics = '{\"acc\":1e999}'")
    db.execute("UPDATE about SET labels = '{\"a\":1e999}', params = '{\"lr\":1e999}'")
    db.commit()
    db.close()
    seen = {}
    for args in (["show", f"{M}/v2"], ["log", M], ["compare", M], ["find", "created>2000-01-01"], ["diff", f"{M}/v1", f"{M}/v2"], ["status"]):
        seen[args[0]] = finite(call(*args, "--json", "--store", drive.store).out)
    assert seen["show"]["metrics"] == {"acc": None, "deep": {"x": [None]}} and seen["log"][0]["metrics"]["acc"] is None
    assert seen["show"]["labels"] == {"a": None} and seen["show"]["parameters"] == {"lr": None}
    assert call("export", "--all", "-o", place / "b.tar", "--store", drive.store).code == 0
    with tarfile.open(place / "b.tar") as bundle:
        finite(bundle.extractfile("manifest.json").read())


def test_a_version_without_metrics_keeps_its_column_and_nan_is_null(versions):
    versions.version({"model.bin": "4"})
    versions.version({"model.bin": "5", "metadata.json": '{"metrics": {"rmse": NaN}}'})
    seen = compared(versions, M)
    assert seen[f"{M}/v4"]["metrics"] == {} and seen[f"{M}/v5"]["metrics"] == {"rmse": None}
    lines = call("compare", M, "--store", versions.store).out.splitlines()
    assert next(line.split() for line in lines if line.split() and line.split()[0] == "v1") == ["v1", "v2", "v3", "v4", "v5"]
    assert next(line.split() for line in lines if line.startswith("rmse")) == ["rmse", "12", "10", "*", "11", "-", "-"]
    alone = call("compare", f"{M}/v4", "--store", versions.store)
    assert alone.code == 0 and "no metrics" in alone.out


def test_compare_as_json_gives_every_value_in_its_own_type(versions):
    text = '{"metrics": {"rmse": NaN, "r2": 1e2}, "params": {"lr": 1e-3, "name": "0.5", "null": "null", "fast": true, "none": null, "layers": [1, 2], "seed": 12345678901234567890}}'
    versions.version({"model.bin": "x", "metadata.json": text})
    assert evaluate(versions, "v4", "holdout/v1", '{"rmse": 1, "r2": NaN}').code == 0
    seen = compared(versions, f"{M}/v4")[f"{M}/v4"]
    assert seen["metrics"] == {"rmse": None, "r2": 100}
    assert seen["parameters"] == {"lr": 0.001, "name": "0.5", "null": "null", "fast": True, "none": None, "layers": [1, 2], "seed": 12345678901234567890}
    assert seen["evaluations"] == {"rmse on dataset/holdout/v1": 1, "r2 on dataset/holdout/v1": None}


def test_metrics_come_from_a_file_or_standard_input_too(versions, place):
    file = place / "metrics.json"
    file.write_text('{"rmse": 1}')
    assert evaluate(versions, "v1", "holdout/v1", str(file)).code == 0
    with open(file) as stdin:
        assert evaluate(versions, "v2", "holdout/v1", "-", stdin=stdin).code == 0
    assert {v["evaluations"]["rmse on dataset/holdout/v1"] for v in compared(versions, f"{M}/v1", f"{M}/v2").values()} == {1}


@pytest.mark.parametrize("version, dataset, metrics, code, words", [
    ("v1", "holdout/v1", "{}", 1, "hold no number"),
    ("v1", "holdout/v1", '{"rmse": "good"}', 1, "hold no number"),
    ("v1", "holdout/v1", '{"rmse": 1} {"more": 2}', 1, "no JSON object"),
    ("v1", "holdout/v1", '{"rmse": 1}, "best": {}', 1, "no JSON object"),
    ("v1", "holdout/v1", '{"rmse": 1, "": 2.5}', 1, "the metric with the value 2.5 has no name"),
    ("v1", "holdout/v1", '{"  ": 2.5}', 1, "the metric with the value 2.5 has a name of blanks only"),
    ("v1", "holdout/v1", '{"a\\nb": 1}', 1, "'a?b' holds a control character"),
    ("v1", "holdout/v1", '{"\\u001b[31mred": 1}', 1, "'?[31mred' holds a control character"),
    ("v1", "holdout/v1", '{"a\u202eb": 1}', 1, "'a???b' holds a control character"),
    pytest.param("v1", "holdout/v1", '{"%s": 1}' % ("x" * 256), 1, "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...' is longer than 255 bytes", id="256 bytes"),
    pytest.param("v1", "holdout/v1", '{"ok": 1, "%s": 1}' % ("x" * 5000), 1, "longer than 255 bytes", id="5000 bytes"),
    ("v1", "holdout/v1", "/no/such/file", 3, "/no/such/file"),
    ("v1", "holdout/v9", '{"rmse": 1}', 3, "no version v9"),
    ("v1", "nothing/v1", '{"rmse": 1}', 3, "nothing"),
    ("v1", "holdout", '{"rmse": 1}', 1, "which version"),
    ("v1", f"{M}/v2", '{"rmse": 1}', 1, f"{M} is no dataset"),
    ("v9", "holdout/v1", '{"rmse": 1}', 3, "no version v9"),
])
def test_what_is_wrong_is_refused_with_a_sentence(versions, version, dataset, metrics, code, words):
    one_sentence(evaluate(versions, version, dataset, metrics), code, words)
    assert compared(versions, M)[f"{M}/v1"]["evaluations"] == {}


def test_a_metric_may_have_a_long_name_in_any_script(versions):
    metrics = {"x" * 255: 1, "均方根 误差": 2, "val/loss.best": 3}
    assert evaluate(versions, "v1", "holdout/v1", json.dumps(metrics)).code == 0
    assert compared(versions, f"{M}/v1")[f"{M}/v1"]["evaluations"] == {f"{name} on dataset/holdout/v1": value for name, value in metrics.items()}


def test_show_tells_the_evaluations_of_a_version(versions):
    assert evaluate(versions, "v2", "holdout/v1", '{"rmse": 9.5, "r2": NaN}').code == 0
    assert evaluate(versions, "v2", "holdout/v2", '{"rmse": 30}').code == 0
    told = call("show", f"{M}/v2", "--json", "--store", versions.store).json["evaluations"]
    assert [(e["dataset"], e["metrics"]) for e in told] == [("dataset/holdout/v1", {"rmse": 9.5, "r2": None}), ("dataset/holdout/v2", {"rmse": 30})]
    assert all(e["at"] and e["author"] for e in told)
    words = [line.split()[:3] for line in call("show", f"{M}/v2", "--store", versions.store).out.splitlines()]
    assert ["dataset/holdout/v1", "rmse", "9.5"] in words and ["dataset/holdout/v2", "rmse", "30"] in words
    assert call("show", f"{M}/v1", "--json", "--store", versions.store).json["evaluations"] == []


def test_only_committed_models_are_evaluated_on_committed_datasets(versions):
    versions.mint({"model.bin": "x"})
    one_sentence(evaluate(versions, "v4", "holdout/v1", '{"rmse": 1}'), 1, "is draft")
    done = call("evaluate", "dataset/holdout/v1", "--dataset", "dataset/holdout/v2", "--metrics", '{"a": 1}', "--store", versions.store)
    one_sentence(done, 1, "is no model")
    one_sentence(call("compare", f"{M}/v4", "--store", versions.store), 1, "is a draft")


def test_an_evaluation_is_an_event(versions):
    assert evaluate(versions, "v2", "holdout/v1", '{"rmse":9}').code == 0
    last = json.loads(call("watch", "--store", versions.store, "--once", "--json", "--from", "1").out.splitlines()[-1])
    assert (last["event"], last["version"], last["text"]) == ("evaluated", "v2", '{"rmse":9}')
