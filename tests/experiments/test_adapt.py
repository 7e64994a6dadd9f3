import csv

import numpy as np
import pytest
import torch

from dann import DANN, METHODS, MLP, DomainAdapter
from dann.experiments import Study
from dann.experiments.adapt import adapt, clone_with, experiment, user_task, write_predictions
from dann.readers import Table
from dann.selection import Training, rehearse, split


@pytest.fixture
def tables(arrays):
    names = ["a", "b", "c"]
    labels = np.array(["cat", "dog"])
    return Table(arrays.x, labels[arrays.y], names), Table(arrays.xt, labels[arrays.yt], names)


def rows(task):
    return Training((task.source.x, task.source.y, task.target.x))


def small(method="dann", **settings):
    return DomainAdapter(method, MLP(hidden=(8,)), **{"steps": 2, "batch_size": 8, **settings})


# the task


def test_source_rows_are_trained_on_or_tested_on_and_the_targets_labels_only_judge(tables):
    source, target = tables
    task = user_task(source, target, seed=0)
    assert len(task.source.x) == 32
    assert len(task.source_test.x) == 8
    rows = np.concatenate([task.source.x.x, task.source_test.x.x])
    assert {row.tobytes() for row in rows} == {row.tobytes() for row in source.x}
    assert len(task.target.x) == 24
    assert len(task.target.y) == 0
    np.testing.assert_array_equal(task.target_test.x.x, target.x)
    np.testing.assert_array_equal(task.target_test.y, target.y)


@pytest.mark.parametrize("unknown", [None, float("nan"), "", -1])
def test_only_target_rows_with_labels_judge(unknown, arrays):
    y = arrays.yt.astype(object)
    y[::3] = unknown
    task = user_task(Table(arrays.x, arrays.y), Table(arrays.xt, y), seed=0)
    assert len(task.target.x) == 24
    np.testing.assert_array_equal(task.target_test.x.x, np.delete(arrays.xt, np.s_[::3], axis=0))
    assert len(task.target_test.y) == 16


def test_minus_one_is_a_label_where_it_is_a_class_of_the_source(arrays):
    y, yt = 2 * arrays.y - 1, 2 * arrays.yt - 1
    assert len(user_task(Table(arrays.x, y), Table(arrays.xt, yt), seed=0).target_test.y) == 24


def test_a_target_without_labels_judges_nothing(tables):
    source, target = tables
    task = user_task(source, Table(target.x, None, target.columns), seed=0)
    assert len(task.target_test.y) == 0
    assert len(task.target_test.x) == 24


def test_labels_that_the_source_does_not_have_are_named(tables):
    source, target = tables
    y = np.where(np.arange(24) == 5, "wolf", target.y)
    with pytest.raises(ValueError, match=r"the target has labels that the source does not have: \['wolf'\]"):
        user_task(source, Table(target.x, y, target.columns), seed=0)


# the split


def test_every_class_has_its_share_of_training_and_test_rows():
    codes = np.repeat([0, 1, 2], [50, 30, 20])
    train, test = split(codes, seed=0)
    assert sorted([*train, *test]) == list(range(100))
    assert np.bincount(codes[test]).tolist() == [10, 6, 4]


def test_another_seed_tests_on_other_rows():
    codes = np.arange(100) % 2
    tests = [set(split(codes, seed)[1].tolist()) for seed in (0, 0, 1)]
    assert tests[0] == tests[1] != tests[2]


@pytest.mark.parametrize("codes", [[0, 1, 1], [0, 0, 0, 1], [0, 1, 2, 3, 3], [0] * 30 + [1], [*range(8), *range(8)]])
def test_few_rows_leave_every_class_in_training_and_something_to_test_on(codes):
    for seed in range(10):
        train, test = split(np.array(codes), seed)
        assert sorted([*train, *test]) == list(range(len(codes)))
        assert set(np.array(codes)[train]) == set(codes)
        assert len(test) >= 1


def test_one_row_a_class_is_too_few():
    with pytest.raises(ValueError, match="the source has 3 rows of as many classes: none is left to test on"):
        split(np.arange(3), seed=0)


# settings


@pytest.mark.parametrize(
    ("settings", "because"),
    [
        ({"lr": "fast"}, "must be a number above 0"),
        ({"steps": 0}, "steps=0"),
        ({"backbone": "resnet"}, "unknown backbone"),
        ({"method": DANN(hidden="wide")}, r"DANN\(hidden='wide'\) must be whole numbers above 0"),
    ],
)
def test_a_rehearsal_finds_settings_that_cannot_train(settings, because, tables):
    task = user_task(*tables, seed=0)
    with pytest.raises(ValueError, match=because):
        rehearse(small().set_params(**settings), rows(task))


@pytest.mark.parametrize("method", [name for name, kind in METHODS.items() if not kind.source_free])
def test_a_rehearsal_has_enough_rows_for_every_method(method, tables):
    if METHODS[method].uses_target_labels:
        pytest.skip("adapt never trains on target labels")
    settings = {"pretrain_steps": 1} if METHODS[method].needs_pretraining else {}
    rehearse(DomainAdapter(method, **settings), rows(user_task(*tables, seed=0)))


def test_a_rehearsal_leaves_the_adapter_and_the_random_state_alone(tables):
    adapter, before = small(steps=1000), torch.get_rng_state()
    rehearse(adapter, rows(user_task(*tables, seed=0)))
    assert adapter.steps == 1000
    assert not hasattr(adapter, "network_")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_other_method_gets_the_settings_of_the_estimator_and_not_of_the_method():
    adapter = small(DANN(weight=0.3), lr=0.5)
    assert clone_with(adapter, "dann").method.weight == 0.3
    assert clone_with(adapter, "dann") is not adapter
    plain = clone_with(adapter, "source-only")
    assert (plain.method, plain.lr) == ("source-only", 0.5)


# the whole


def test_both_models_are_trained_and_the_methods_is_the_one_that_is_kept(tables, tmp_path):
    study = Study(experiment({}), tmp_path, [5], device="cpu")
    models = adapt(study, *tables, small(), "dann")
    assert list(models) == ["source-only", "dann"]
    assert [(r["method"], r["domain"]) for r in study.rows] == [
        (method, domain) for method in models for domain in ("source", "target")
    ]
    assert all(r["seed"] == 5 for r in study.rows)
    kept = DomainAdapter.load(tmp_path)
    np.testing.assert_array_equal(kept.predict_proba(tables[1]), models["dann"].predict_proba(tables[1]))
    assert [path.stem for path in study.figures] == ["training", "features", "confusion"]


def test_settings_are_tried_on_the_device_that_they_are_trained_on(tables, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("dann.experiments.adapt.rehearse", lambda estimator, _: seen.append(estimator.device))
    adapt(Study(experiment({}), tmp_path, [0], device="cpu"), *tables, small(device="auto"), "dann")
    assert seen == ["cpu", "cpu"]


def test_source_only_is_trained_once_where_it_is_the_method(tables, tmp_path):
    study = Study(experiment({}), tmp_path, [0], device="cpu")
    target = Table(tables[1].x, None, tables[1].columns)
    assert list(adapt(study, tables[0], target, small("source-only"), "source-only")) == ["source-only"]
    assert len(study.rows) == 2
    assert [path.stem for path in study.figures] == ["training", "features"]


def test_predictions_are_one_line_a_row(arrays, tmp_path):
    names = np.array(['a "b", c', "ä"])
    model = small().fit(arrays.x, names[arrays.y], arrays.xt)
    path = write_predictions(tmp_path / "deep" / "out.csv", model, arrays.xt)
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["row", "prediction", *(f"probability of {name}" for name in names)]
    assert [row[0] for row in rows] == [str(i) for i in range(24)]
    assert [row[1] for row in rows] == model.predict(arrays.xt).tolist()
    np.testing.assert_allclose(np.array([row[2:] for row in rows], float), model.predict_proba(arrays.xt), atol=1e-6)
