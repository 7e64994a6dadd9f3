import numpy as np
import pytest
from PIL import Image

import dann.experiments.mnist_m as experiment
from dann.datasets import Labelled, Task
from dann.experiments import EXPERIMENTS, Study
from dann.experiments.recipes import RECIPES


@pytest.fixture(autouse=True)
def binarised(monkeypatch):
    """Forty random images a domain in place of MNIST and MNIST-M; the list says which kind was asked for."""
    rng = np.random.default_rng(0)

    def part(n):
        return Labelled(rng.integers(256, size=(n, 3, 28, 28), dtype=np.uint8), np.arange(n) % 10)

    task = Task("mnist-m", part(40), part(40), part(20), part(20))
    binarised = []

    def load(seed, binarise):
        binarised.append(binarise)
        return task

    monkeypatch.setattr(experiment, "mnist_m", load)
    return binarised


@pytest.fixture
def trained(monkeypatch):
    """The adapters that a study was asked to train; none is."""
    asked = {}

    def fit(self, task, adapter, seed, *, method, pad):
        asked[method] = adapter
        for domain in ("source", "target"):
            self.rows.append({"dataset": task.name, "method": method, "seed": seed, "domain": domain, "accuracy": 0.5})

    monkeypatch.setattr(Study, "fit", fit)
    monkeypatch.setattr(experiment, "draw", lambda *_: None)
    return asked


def study(folder, **options):
    return Study(EXPERIMENTS["mnist-m"], folder, [0], options, device="cpu")


def test_the_three_methods_leave_rows_and_figures(tmp_path):
    done = study(tmp_path, steps=2).run()
    assert [(r["method"], r["domain"]) for r in done.rows] == [
        (method, domain) for method in ("source-only", "dann", "target-only") for domain in ("source", "target")
    ]
    assert all({"accuracy", "loss", "ari", "seconds", "pad"} <= set(r) for r in done.rows)
    assert [path.stem for path in done.figures] == ["samples", "tsne", "accuracy"]
    for path in done.figures:
        with Image.open(path) as image:
            assert image.width > 200


def test_the_papers_recipe_is_that_of_section_5_2_2(trained, binarised, tmp_path):
    study(tmp_path, recipe="paper").run()
    assert binarised == [False]
    adapter = trained["dann"]
    published = {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "lr_schedule": "annealing", "scaling": "mean"}
    published |= {"batch_size": 64, "weight_decay": 0.0, "averaging": 0.0, "augmentation": "none", "encoding": "joint"}
    assert {key: getattr(adapter, key) for key in published} == published
    method = adapter.method  # the sum of two means, behind the reversal alone
    assert (method.weight, method.lr_multiplier, method.schedule) == (1.0, 1.0, "warmup")
    tuned = RECIPES["tuned"].adapter()  # what is not published
    assert all(getattr(adapter, key) == getattr(tuned, key) for key in ("backbone", "initialization", "steps"))


def test_the_tuned_recipe_keeps_the_papers_network_batch_optimiser_and_schedules(trained, binarised, tmp_path):
    study(tmp_path).run()
    assert binarised == [False]
    assert list(trained) == ["source-only", "dann", "target-only"]
    settings = [
        {k: v for k, v in adapter.get_params(deep=False).items() if k not in ("method", "backbone")}
        for adapter in trained.values()
    ]
    assert settings[0] == settings[1] == settings[2]
    assert {k: settings[0][k] for k in ("optimizer", "lr", "momentum", "lr_schedule", "scaling")} == {
        "optimizer": "sgd",
        "lr": 0.01,
        "momentum": 0.9,
        "lr_schedule": "annealing",
        "scaling": "mean",
    }
    assert (settings[0]["batch_size"], settings[0]["steps"], settings[0]["initialization"]) == (64, 20_000, "he")
    assert (settings[0]["weight_decay"], settings[0]["averaging"]) == (1e-3, 0.998)
    method = trained["dann"].method  # one domain mean over both halves: half of the sum, for encoder and head alike
    assert (method.weight, method.lr_multiplier, method.schedule) == (0.5, 0.5, "warmup")
    assert not trained["dann"].backbone.same_padding


def test_the_classic_recipe_is_that_of_the_notebooks(trained, binarised, tmp_path):
    study(tmp_path, recipe="classic").run()
    assert binarised == [True]
    adapter = trained["dann"]
    assert (adapter.batch_size, adapter.steps, adapter.initialization) == (32, 8_600, "truncated-normal")
    assert (adapter.weight_decay, adapter.averaging) == (0, 0)
    assert adapter.backbone.same_padding


def test_steps_replace_those_of_the_recipe(trained, tmp_path):
    study(tmp_path, recipe="classic", steps=7).run()
    assert {adapter.steps for adapter in trained.values()} == {7}


def test_an_unknown_recipe_is_told_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match="unknown recipe 'modern'; choose one of: paper, tuned, classic, strong"):
        study(tmp_path, recipe="modern").run()


def test_published_figures_are_those_of_the_paper():
    paper = {p["method"]: p["accuracy"] for p in experiment.PUBLISHED if p["source"] == experiment.PAPER}
    assert paper == {"source-only": 0.5225, "dann": 0.7666, "target-only": 0.9596}
    assert all(p["domain"] == "target" for p in experiment.PUBLISHED)


@pytest.mark.parametrize("name", RECIPES)
def test_all_methods_of_a_recipe_get_the_same_settings(name, trained, tmp_path):
    study(tmp_path, recipe=name).run()
    assert list(trained) == ["source-only", "dann", "target-only"]
    settings = [
        {k: str(v) for k, v in adapter.get_params(deep=False).items() if k != "method"} for adapter in trained.values()
    ]
    assert settings[0] == settings[1] == settings[2]
    assert trained["dann"].method == RECIPES[name].adversary


def test_the_strong_recipe_differs_from_the_tuned_one_in_few_things():
    tuned, strong = (RECIPES[name].adapter().get_params(deep=False) for name in ("tuned", "strong"))
    changed = {key for key in tuned if str(tuned[key]) != str(strong[key])}
    assert changed == {"method", "backbone", "lr", "steps", "augmentation"}


def test_a_recipe_takes_other_methods_and_changes():
    adapter = RECIPES["paper"].adapter("cdan", steps=3)
    assert (adapter.method, adapter.steps, adapter.lr) == ("cdan", 3, 0.01)
