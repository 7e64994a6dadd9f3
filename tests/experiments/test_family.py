import pytest

import dann.experiments.family as family
import dann.methods.deep_jdot
from dann import METHODS
from dann.datasets import DatasetNotFound
from dann.experiments import EXPERIMENTS, Study
from dann.experiments.tables import summary

TOYS = family.SETTINGS[:2]
EXPECTED = {name for name in METHODS if name != "domain-only"}
EXPECTED |= {"source-only-varied", "source-only-norm", "cdan+mcc"}


def study(folder, seeds=(0,)):
    return Study(EXPERIMENTS["family"], folder, seeds, {"steps": 4}, device="cpu")


def test_every_method_is_trained_on_every_task_and_shown_in_one_table(tmp_path, monkeypatch):
    monkeypatch.setattr(family, "SETTINGS", TOYS)
    done = study(tmp_path).run()
    for setting in TOYS:
        rows = [row for row in done.rows if row["dataset"] == setting.name and row["domain"] == "target"]
        assert {row["method"] for row in rows} == EXPECTED
    assert (tmp_path / "figures" / "family.png").exists()


def test_a_task_whose_data_are_missing_is_left_out(tmp_path, monkeypatch):
    def missing(seed):
        raise DatasetNotFound("no digits here")

    monkeypatch.setattr(family, "SETTINGS", (TOYS[0]._replace(name="gone", task=missing), TOYS[1]))
    done = study(tmp_path).run()
    assert {row["dataset"] for row in done.rows} == {"far-blobs"}
    assert (tmp_path / "figures" / "family.png").exists()


def test_a_method_whose_library_is_missing_is_left_out(tmp_path, monkeypatch):
    def missing():
        raise ImportError("DeepJDOT needs the POT library")

    monkeypatch.setattr(family, "SETTINGS", TOYS[:1])
    monkeypatch.setattr(dann.methods.deep_jdot, "optimal_transport", missing)
    with pytest.warns(UserWarning, match="deep-jdot is left out: DeepJDOT needs the POT library"):
        done = study(tmp_path).run()
    assert {row["method"] for row in done.rows} == EXPECTED - {"deep-jdot"}


def test_a_method_that_diverges_is_said_to_and_stops_nobody(tmp_path, monkeypatch):
    methods = family.methods

    def exploding(base, steps):
        for entry in methods(base, steps):
            bad = {"lr": 1e30, "optimizer": "sgd", "log_every": 1} if entry.name in ("dann", "vada") else {}
            yield entry._replace(settings={**entry.settings, **bad})

    monkeypatch.setattr(family, "SETTINGS", TOYS[:1])
    monkeypatch.setattr(family, "methods", exploding)
    done = study(tmp_path).run()
    for name in ("dann", "vada"):
        (row,) = [row for row in done.rows if row["method"] == name]
        assert row["diverged"]
    assert {row["method"] for row in done.rows} == EXPECTED - {"dirt-t"}  # which goes on from vada
    assert "double-moon, dann with seed 0" in summary(done.report()).caption
    assert (tmp_path / "figures" / "family.png").exists()


def test_pretraining_is_part_of_the_budget(tmp_path, monkeypatch):
    seen = {}

    class Watching(Study):
        def fit(self, task, adapter, seed, **names):
            seen[names["method"]] = (adapter.pretrain_steps, adapter.steps)
            return super().fit(task, adapter, seed, **names)

    monkeypatch.setattr(family, "SETTINGS", TOYS[:1])
    Watching(EXPERIMENTS["family"], tmp_path, [0], {"steps": 4}, device="cpu").run()
    later = {name for name, method in METHODS.items() if method.source_free}
    assert {name for name, budget in seen.items() if budget != (0, 4)} == {"adda", *later}
    assert seen["adda"] == (2, 2)


def test_what_needs_no_source_goes_on_from_the_model_it_is_said_to(tmp_path, monkeypatch):
    came = {}

    class Watching(Study):
        def fit(self, task, adapter, seed, **names):
            before = names["before"]
            fitted = super().fit(task, adapter, seed, **names)
            came[names["method"]] = fitted
            if before is not None:
                came[names["method"]] = next(name for name, model in came.items() if model is before), fitted
            return fitted

    monkeypatch.setattr(family, "SETTINGS", TOYS[:1])
    Watching(EXPERIMENTS["family"], tmp_path, [0], {"steps": 40}, device="cpu").run()
    wanted = {"shot": "source-only", "dirt-t": "vada", "adabn": "source-only-norm", "tent": "source-only-norm"}
    assert {name: both[0] for name, both in came.items() if isinstance(both, tuple)} == wanted
    for name in wanted:
        fitted = came[name][1]
        assert (fitted.steps, fitted.lr) == (4, pytest.approx(3e-4))
        assert METHODS[name] is type(fitted.method_)


@pytest.mark.parametrize("setting", family.SETTINGS[2:6], ids=lambda s: s.name)
def test_the_tasks_can_be_made_for_every_seed(setting):
    first, second = setting.task(0), setting.task(1)
    assert first.source.x.dtype == second.source.x.dtype
    assert len(first.target_test.y) > 50
