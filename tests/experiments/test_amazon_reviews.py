import numpy as np
import pytest
from PIL import Image

import dann.experiments.amazon_reviews as experiment
from dann import MLP, DomainAdapter
from dann.datasets import Labelled, Task, amazon_reviews
from dann.datasets.fetch import DatasetNotFound
from dann.experiments import EXPERIMENTS, Study
from dann.experiments.amazon_reviews import PUBLISHED, held_out, pairs, reverse_risk


def counts(n, seed, d=12):
    """Word counts: the first words belong to good reviews, the last to bad ones."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    rate = np.where(np.arange(d) < d // 2, y[:, None], 1 - y[:, None]) * 2 + 0.2
    return Labelled(rng.poisson(rate).astype(np.float32), y)


@pytest.fixture(autouse=True)
def data(monkeypatch):
    """Small reviews of two kinds of products in place of the real ones."""
    task = Task("amazon-reviews", counts(40, 0), counts(40, 1), counts(30, 2), counts(30, 3))
    monkeypatch.setattr(experiment, "amazon_reviews", lambda source, target: task)
    monkeypatch.setattr(experiment, "amazon_domains", lambda: ("books", "dvd"))
    monkeypatch.setattr(experiment, "PENALTIES", (0.01, 0.1))
    return task


@pytest.fixture
def few(monkeypatch):
    """Two candidates of DANN and one of the plain net."""
    monkeypatch.setattr(experiment, "WEIGHTS", (0.01, 0.1))
    monkeypatch.setattr(experiment, "WIDTHS", (3,))


def study(folder, **options):
    return Study(EXPERIMENTS["amazon-reviews"], folder, [0], {"steps": 2, **options}, device="cpu")


def row_of(done, method, domain="target"):
    (row,) = (r for r in done.rows if (r["method"], r["domain"]) == (method, domain))
    return row


def test_fast_runs_every_method_with_fixed_settings(tmp_path):
    done = study(tmp_path, fast=True, domains=["books", "dvd"]).run()
    assert [(r["method"], r["domain"]) for r in done.rows] == [
        *((method, domain) for method in ("svm", "source-only", "dann") for domain in ("source", "target")),
        ("inputs", "target"),
    ]
    assert {r["dataset"] for r in done.rows} == {"books→dvd"}
    for method in ("svm", "source-only", "dann"):
        assert {"accuracy", "loss", "ari", "seconds"} <= set(row_of(done, method))
    for method in ("source-only", "dann"):
        assert 0 <= row_of(done, method)["pad"] <= 2
        assert (row_of(done, method)["weight"], row_of(done, method)["hidden"]) == experiment.FAST[method]
    assert 0 <= row_of(done, "inputs")["pad"] <= 2
    assert row_of(done, "svm")["accuracy"] > 0.9
    assert [path.name for path in done.figures] == ["books-dvd.png"]
    with Image.open(done.figures[0]) as image:
        assert image.width > 200


def test_without_fast_the_setting_of_least_reverse_risk_is_taken(few, tmp_path, monkeypatch):
    risks = {0.0: 0.4, 0.01: 0.3, 0.1: 0.2}

    def risk(source, target, make, seed):
        weight = getattr(make().method, "weight", 0.0)
        return risks[weight]

    monkeypatch.setattr(experiment, "reverse_risk", risk)
    done = study(tmp_path, domains=["books", "dvd"]).run()
    candidates = [(r["method"], r["weight"], r["hidden"], r["reverse_risk"]) for r in done.rows if "reverse_risk" in r]
    assert candidates == [
        ("source-only candidate", 0.0, 3, 0.4),
        ("dann candidate", 0.01, 3, 0.3),
        ("dann candidate", 0.1, 3, 0.2),
    ]
    assert row_of(done, "dann")["weight"] == 0.1


def test_reverse_validation_runs_and_is_not_repeated_after_an_interruption(few, tmp_path, monkeypatch):
    seen = []
    real = experiment.reverse_risk

    def counted(*args):
        seen.append(args)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(experiment, "reverse_risk", counted)
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path).run()
    done = study(tmp_path).run()
    assert len(seen) == 2 * 3 + 1  # three candidates for each pair of domains, and the one that was interrupted
    assert len(done.rows) == 2 * (6 + 3 + 1)
    assert all(0 <= r["reverse_risk"] <= 1 for r in done.rows if "reverse_risk" in r)


def test_hidden_target_labels_cannot_change_the_choice(few, data):
    swapped = Labelled(data.target.x, 1 - data.target.y)
    one, other = (
        reverse_risk(data.source, target.x, lambda: experiment.adapter(0.1, 3, 2), 0)
        for target in (data.target, swapped)
    )
    assert one == other


def test_reverse_risk_is_0_where_the_way_there_and_back_is_easy():
    source, target = counts(120, 0), counts(120, 1)
    source, target = (Labelled(5 * part.x, part.y) for part in (source, target))

    def make():
        return DomainAdapter("source-only", MLP(hidden=(8,)), steps=60, lr=0.02)

    assert reverse_risk(source, target.x, make, seed=0) == 0


class Recorder:
    """An estimator that records what it is given and predicts the class by the first feature."""

    def __init__(self, log, constant=False):
        self.log, self.constant = log, constant

    def set_params(self, random_state):
        self.log.append(("seed", random_state))
        return self

    def fit(self, *arrays):
        self.log.append(("fit", *arrays))
        return self

    def predict(self, x):
        return np.zeros(len(x), int) if self.constant else (x[:, 0] > 0).astype(int)

    def score(self, x, y):
        self.log.append(("score", x, y))
        return (self.predict(x) == y).mean()


@pytest.fixture
def signs():
    """Source and target rows of one feature, all different, whose sign is the class."""
    x = np.array([[(-1) ** i * (i + 1.0)] for i in range(40)])
    return Labelled(x[:20], (x[:20, 0] > 0).astype(int)), x[20:]


def test_the_reverse_model_learns_the_first_ones_labels_and_is_judged_on_unseen_source_rows(signs):
    source, target = signs
    log = []
    assert reverse_risk(source, target, lambda: Recorder(log), seed=7) == 0
    (_, forward, _, backward, score) = log
    assert [entry[1] for entry in log if entry[0] == "seed"] == [7, 7]
    assert len(forward[1]) == 18
    assert len(forward[3]) == 18
    np.testing.assert_array_equal(backward[1], forward[3])
    np.testing.assert_array_equal(backward[2], (forward[3][:, 0] > 0).astype(int))
    np.testing.assert_array_equal(backward[3], forward[1])
    assert len(score[1]) == 2
    assert not set(score[1][:, 0]) & set(forward[1][:, 0])
    assert set(score[1][:, 0]) | set(forward[1][:, 0]) == set(source.x[:, 0])
    assert set(forward[3][:, 0]) <= set(target[:, 0])


def test_reverse_risk_is_1_where_the_target_gets_one_label_only(signs):
    log = []
    assert reverse_risk(*signs, lambda: Recorder(log, constant=True), seed=0) == 1
    assert [entry[0] for entry in log] == ["seed", "fit"]


def test_held_out_rows_are_a_tenth_and_keep_their_labels():
    x = np.arange(55)
    train, validation = held_out(Labelled(x[:, None], 2 * x), seed=3)
    assert (len(train.y), len(validation.y)) == (50, 5)
    assert sorted([*train.x[:, 0], *validation.x[:, 0]]) == x.tolist()
    for part in (train, validation):
        np.testing.assert_array_equal(part.y, 2 * part.x[:, 0])


def test_pairs_are_the_one_that_was_asked_for_or_all():
    assert pairs(("books", "dvd", "kitchen"), ["kitchen", "books"]) == [("kitchen", "books")]
    assert len(pairs(("books", "dvd", "electronics", "kitchen"), [])) == 12
    with pytest.raises(ValueError, match=r"takes a source and a target, got \['books'\]"):
        pairs(("books", "dvd"), ["books"])
    with pytest.raises(ValueError, match=r"needs two domains, found \['books'\]"):
        pairs(("books",), [])


@pytest.mark.parametrize(
    ("dataset", "method", "accuracy"),
    [
        ("books→dvd", "dann", 0.784),
        ("dvd→books", "dann", 0.723),
        ("kitchen→electronics", "dann", 0.843),
        ("books→dvd", "source-only", 0.790),
        ("books→dvd", "svm", 0.799),
        ("electronics→kitchen", "svm", 0.847),
    ],
)
def test_published_figures_are_those_of_table_1(dataset, method, accuracy):
    (found,) = (p for p in PUBLISHED if (p["dataset"], p["method"]) == (dataset, method))
    assert (found["accuracy"], found["domain"]) == (accuracy, "target")
    assert len(PUBLISHED) == 3 * 12


def test_the_grid_is_the_papers():
    assert len(experiment.WEIGHTS) == 9
    assert (experiment.WEIGHTS[0], experiment.WEIGHTS[-1]) == (0.01, 1.0)
    np.testing.assert_allclose(np.diff(np.log(experiment.WEIGHTS)), np.log(100) / 8)
    assert experiment.WIDTHS == (50, 100)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "target", "published"), [("books", "dvd", 0.784), ("dvd", "books", 0.723)])
def test_dann_is_no_more_than_a_point_below_the_paper(source, target, published, tmp_path, monkeypatch):
    try:
        task = amazon_reviews(source, target)
    except DatasetNotFound as error:
        pytest.skip(str(error))
    monkeypatch.setattr(experiment, "amazon_reviews", lambda *_: task)
    chosen = Study(EXPERIMENTS["amazon-reviews"], tmp_path, [0, 1, 2], {"domains": [source, target]}, device="cpu")
    accuracy = np.mean(chosen.run().values(f"{source}→{target}", "dann"))
    assert accuracy >= published - 0.01
