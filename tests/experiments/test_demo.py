import dataclasses

import numpy as np
import pytest
from PIL import Image

import dann.experiments.demo as demo
from dann import DomainAdapter
from dann.datasets import digits, moons
from dann.experiments import EXPERIMENTS, Study
from dann.guards import Event


@pytest.fixture
def short(monkeypatch):
    """Two steps a training, and few digits."""
    fit = Study.fit

    def two_steps(self, task, adapter, *args, **kwargs):
        return fit(self, task, adapter.set_params(steps=2), *args, **kwargs)

    monkeypatch.setattr(Study, "fit", two_steps)
    monkeypatch.setattr(demo, "digits", lambda seed: digits(n=100, n_test_patches=1, seed=seed))


def test_both_tasks_are_trained_with_three_methods_and_drawn(short, tmp_path):
    study = Study(EXPERIMENTS["demo"], tmp_path, [0], device="cpu").run()
    scores = [row for row in study.rows if row["method"] != "verdict"]
    assert [(r["dataset"], r["method"], r["domain"]) for r in scores] == [
        (task, method, domain)
        for task in ("moons", "digits")
        for method in ("source-only", "dann", "target-only")
        for domain in ("source", "target")
    ]
    assert all({"accuracy", "loss", "ari", "pad", "seconds"} <= set(r) for r in scores)
    verdicts = [row for row in study.rows if row["method"] == "verdict"]
    assert [row["dataset"] for row in verdicts] == ["moons", "digits"]
    caption = str(demo.tabulated(study.report()).caption)
    assert all(row["sentence"].replace("[", "\\[") in caption or row["sentence"] in caption for row in verdicts)
    plain = caption.replace("\\[", "[")
    assert all(row["reasons"] and all(f"\n- {reason}" in plain for reason in row["reasons"]) for row in verdicts)
    assert [path.stem for path in study.figures] == ["moons", "digits", "accuracy"]
    for path in study.figures:
        with Image.open(path) as image:
            assert image.width > 200


def test_alarms_speak_in_the_verdict(tmp_path):
    study, task = Study(EXPERIMENTS["demo"], tmp_path, [0], device="cpu"), moons(n=200)
    models = {
        name: DomainAdapter(name, steps=2).fit(task.source.x, task.source.y, task.target.x)
        for name in ("source-only", "dann")
    }
    models["dann"].events_ = [Event("collapse", 1, "it fell")]
    demo.judge(study, task, models, 0)
    assert any(reason.startswith("dann is ruled out: it fell") for reason in study.rows[0]["reasons"])


def test_the_digits_methods_differ_in_nothing_but_the_method():
    one, other = (demo.digits_adapter(method).get_params(deep=False) for method in ("source-only", "dann"))
    differing = {name for name in one if name != "backbone" and one[name] != other[name]}
    assert differing == {"method"}
    assert dataclasses.asdict(one["backbone"]) == dataclasses.asdict(other["backbone"])


@pytest.mark.slow
def test_dann_gains_on_both_tasks(tmp_path):
    study = Study(EXPERIMENTS["demo"], tmp_path, range(5), device="cpu").run()
    for task, gain in (("moons", 0.10), ("digits", 0.05)):
        plain, adapted = (study.values(task, method) for method in ("source-only", "dann"))
        assert len(plain) == len(adapted) == 5
        assert np.mean(adapted) - np.mean(plain) >= gain
