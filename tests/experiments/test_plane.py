import numpy as np
import pytest
from PIL import Image

import dann.experiments.double_moon
import dann.experiments.moons
from dann import MLP, DomainAdapter, plots
from dann.datasets import moons
from dann.experiments import EXPERIMENTS, Study
from dann.experiments.moons import hidden_units, marked
from dann.experiments.plane import class_probability, domain_probability

METHODS = {
    "double-moon": ["source-only", "dann"],
    "moons": ["source-only", "dann"],
    "blobs": ["domain-only", "source-only", "dann", "dann-deep"],
}
FIGURES = {"double-moon": ["data", "boundary", "features"], "moons": ["moons"], "blobs": ["blobs"]}
WATCHED = {"double-moon": ["dann"], "moons": ["source-only", "dann"], "blobs": METHODS["blobs"]}


def run(name, folder, seeds=(0,), **options):
    return Study(EXPERIMENTS[name], folder, list(seeds), options, device="cpu").run()


def mean(study, method, domain="target"):
    values = study.values(study.experiment.name, method, domain)
    assert len(values) == 5
    return np.mean(values)


@pytest.mark.parametrize("name", METHODS)
def test_an_experiment_leaves_rows_of_every_method_and_its_figures(name, tmp_path):
    study = run(name, tmp_path, steps=2)
    assert [(r["dataset"], r["method"], r["seed"], r["domain"]) for r in study.rows] == [
        (name, method, 0, domain) for method in METHODS[name] for domain in ("source", "target")
    ]
    for row in study.rows:
        assert {"accuracy", "loss", "ari", "seconds"} <= set(row)
        assert row["n"] == 1000
        assert ("domain_accuracy" in row) == (row["method"] in WATCHED[name])
    assert [path.stem for path in study.figures] == FIGURES[name]
    for path in study.figures:
        with Image.open(path) as image:
            assert image.width > 200
            assert len(image.getcolors(1_000_000)) > 20


def test_one_step_is_enough_for_the_double_moon(tmp_path, monkeypatch):
    monkeypatch.setattr(dann.experiments.double_moon, "draw", lambda study, task, models, moments: moments)
    assert len(run("double-moon", tmp_path, steps=1).rows) == 4


def test_every_seed_has_other_points(tmp_path, monkeypatch):
    monkeypatch.setattr(dann.experiments.moons, "draw", lambda *_: None)
    study = run("moons", tmp_path, seeds=(0, 1), steps=2)
    losses = [r["loss"] for r in study.rows]
    assert len(set(losses)) == len(losses)
    assert {r["seed"] for r in study.rows} == {0, 1}


@pytest.mark.parametrize("name", METHODS)
def test_methods_share_network_optimiser_and_budget(name, tmp_path, monkeypatch):
    asked = []

    def fit(self, task, adapter, seed, **_):
        asked.append(adapter.config())

    monkeypatch.setattr(Study, "fit", fit)
    monkeypatch.setattr(getattr(dann.experiments, name.replace("-", "_")), "draw", lambda *_: None)
    run(name, tmp_path)
    assert len(asked) == len(METHODS[name])
    settings = [{k: v for k, v in config.items() if k != "method"} for config in asked]
    assert all(each == settings[0] for each in settings)


def test_the_marked_points_are_target_points_at_the_tips_of_the_moons():
    task = moons(seed=0)
    four = marked(task)
    rows = [np.flatnonzero((task.target.x == point).all(1)) for point in four]
    assert [task.target.y[row].tolist() for row in rows] == [[0], [0], [1], [1]]
    for a, b in (four[:2], four[2:]):
        assert np.linalg.norm(a - b) > 1.7  # a moon of radius 1 is 2 wide


@pytest.fixture
def model():
    task = moons(seed=0)
    net = MLP(hidden=(15,), activation="sigmoid", domain_hidden=())
    return DomainAdapter("dann", net, steps=2).fit(task.source.x, task.source.y, task.target.x), task


def test_the_probabilities_that_are_drawn_agree_with_the_predictions(model):
    adapter, task = model
    x = task.target.x
    np.testing.assert_array_equal(class_probability(adapter, x) > 0.5, adapter.predict(x) == 1)
    np.testing.assert_array_equal(domain_probability(adapter, x) > 0.5, adapter.predict_domain(x) == 1)


def test_a_hidden_unit_is_one_half_on_its_line(model):
    adapter, task = model
    _, axes = plots.figure(1, 1)
    hidden_units(axes[0, 0], adapter, task.source.x)
    lines = axes[0, 0].lines
    assert len(lines) == 15
    for unit, line in enumerate(lines):
        ends = np.array([line.get_xy1(), line.get_xy2()], dtype=np.float32)
        np.testing.assert_allclose(adapter.transform(ends)[:, unit], 0.5, atol=1e-4)


@pytest.mark.slow
def test_double_moon_dann_is_right_on_the_target(tmp_path):
    study = run("double-moon", tmp_path, seeds=range(5))
    assert mean(study, "dann") >= 0.95
    assert mean(study, "dann") > mean(study, "source-only")


@pytest.mark.slow
def test_moons_dann_is_right_on_both_domains(tmp_path):
    study = run("moons", tmp_path, seeds=range(5))
    assert mean(study, "dann", "source") >= 0.97
    assert mean(study, "dann", "target") >= 0.97


@pytest.mark.slow
def test_blobs_dann_is_right_where_source_only_guesses(tmp_path):
    study = run("blobs", tmp_path, seeds=range(5))
    assert mean(study, "dann") >= 0.97
    assert mean(study, "source-only") < 0.9
    told = study.values("blobs", "domain-only", metric="domain_accuracy")
    assert np.mean(told) >= 0.97
