import json

import numpy as np
import pytest
import torch

from dann import MLP, DomainAdapter, runs
from dann.datasets import Labelled, Task, blobs
from dann.experiments import EXPERIMENTS, Experiment, Study

KEYS = {"dataset", "method", "seed", "domain", "accuracy", "loss", "ari", "seconds"}


def adapter(method="dann", **settings):
    return DomainAdapter(method, MLP(hidden=(4,), domain_hidden=()), **{"steps": 3, "batch_size": 8, **settings})


@pytest.fixture
def task():
    return blobs(20, n_test=10)


@pytest.fixture
def fits(monkeypatch):
    """Every call of `DomainAdapter.fit`: (method, target labels)."""
    calls = []
    fit = DomainAdapter.fit

    def spied(self, X, y, X_target=None, y_target=None, **kwargs):
        calls.append((self.method, y_target))
        return fit(self, X, y, X_target, y_target, **kwargs)

    monkeypatch.setattr(DomainAdapter, "fit", spied)
    return calls


@pytest.fixture
def study(task, tmp_path):
    """Return a function that makes a study of two methods on every seed, or of what is given."""

    def make(seeds=(0,), options=None, run=None, folder=tmp_path / "run", name="toy", **kwargs):
        def both(study):
            for seed in study.seeds:
                for method in ("source-only", "dann"):
                    study.fit(task, adapter(method, steps=study.options["steps"]), seed)

        published = ({"dataset": "blobs", "method": "dann", "domain": "target", "accuracy": 0.9, "source": "a paper"},)
        toy = Experiment(name, "a toy", run or both, options={"steps": 3, "sizes": (1, 2)}, published=published)
        return Study(toy, folder, seeds, options, **kwargs)

    return make


def content(study):
    return json.loads((study.folder / "study.json").read_text())


def interrupted(study, after):
    """A run that stops behind a number of trainings."""
    fit = study.fit

    def counted(*args, **kwargs):
        if len(study.rows) // 2 == after:
            raise KeyboardInterrupt
        return fit(*args, **kwargs)

    study.fit = counted
    with pytest.raises(KeyboardInterrupt):
        study.run()


def test_every_training_leaves_two_rows_a_model_and_no_checkpoint(study, task):
    done = study(seeds=(3, 4)).run()
    assert [(r["dataset"], r["method"], r["seed"], r["domain"]) for r in done.rows] == [
        ("blobs", method, seed, domain)
        for seed in (3, 4)
        for method in ("source-only", "dann")
        for domain in ("source", "target")
    ]
    assert all(set(r) >= KEYS for r in done.rows)
    assert content(done) == {**json.loads(json.dumps(done.report())), "complete": True}
    model = DomainAdapter.load(done.folder / "models" / "blobs-dann-4.safetensors")
    row = done.rows[-1]
    assert model.seed_ == 4
    assert model.score(*task.target_test) == row["accuracy"]
    assert not (done.folder / "trainings").exists()


def test_published_figures_are_in_the_report(study):
    report = study().run().report()
    assert report["published"] == [
        {"dataset": "blobs", "method": "dann", "domain": "target", "accuracy": 0.9, "source": "a paper"}
    ]
    assert report["name"] == "toy"
    assert report["settings"] == {
        "seeds": [0],
        "steps": 3,
        "sizes": [1, 2],
        "device": "auto",
        "version": runs.version(),
    }


def test_a_precision_is_that_of_all_trainings_and_part_of_the_settings(study):
    done = study(precision="bf16").run()
    assert done.report()["settings"]["precision"] == "bf16"
    models = [DomainAdapter.load(path) for path in sorted((done.folder / "models").iterdir())]
    assert [model.precision for model in models] == ["bf16", "bf16"]


def test_an_unknown_option_is_told_the_known_ones_before_there_is_a_folder(study, tmp_path):
    with pytest.raises(ValueError, match="the experiment toy has no option 'step'; its options: steps, sizes"):
        study(options={"step": 3})
    with pytest.raises(ValueError, match="the experiment demo has no option 'steps'; its options: none"):
        Study(EXPERIMENTS["demo"], tmp_path / "run", [0], {"steps": 3})
    assert not (tmp_path / "run").exists()


def test_opening_a_study_changes_nothing_on_disk(study):
    folder = study().run().folder
    before = (folder / "study.json").read_bytes()
    study(options={"steps": 5})
    study()
    assert (folder / "study.json").read_bytes() == before
    assert len(list((folder / "models").iterdir())) == 2


def test_an_interrupted_study_keeps_its_rows_and_goes_on(study, fits):
    first = study(seeds=(0, 1))
    interrupted(first, after=3)
    kept = content(first)
    assert not kept["complete"]
    assert len(kept["rows"]) == 6
    fits.clear()
    second = study(seeds=(0, 1)).run()
    assert [method for method, _ in fits] == ["dann"]
    assert second.rows[:6] == kept["rows"]
    assert len(second.rows) == 8


def test_a_resumed_model_is_the_one_that_was_trained(study, task):
    interrupted(study(), after=1)
    models = {}
    again = study()
    models["loaded"] = again.fit(task, adapter("source-only"), 0)
    models["trained"] = adapter("source-only", random_state=0).fit(task.source.x, task.source.y, task.target.x)
    weights = [m.network_.state_dict() for m in models.values()]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


@pytest.mark.parametrize(
    "other", [{"seeds": (0, 2)}, {"options": {"steps": 4}}, {"options": {"sizes": (1,)}}, {"device": "cpu"}]
)
def test_other_settings_start_anew(other, study, fits):
    interrupted(study(), after=1)
    fits.clear()
    done = study(**other).run()
    assert len(fits) == 2 * len(done.seeds)
    assert len(done.rows) == 4 * len(done.seeds)


def test_another_experiment_in_the_same_folder_starts_anew(study, fits):
    interrupted(study(), after=1)
    fits.clear()
    assert len(study(name="other").run().rows) == 4
    assert len(fits) == 2


def test_a_complete_study_starts_anew_and_leaves_nothing_of_the_old_one(study, fits):
    study(seeds=(0, 1)).run()
    fits.clear()
    done = study(seeds=(0,)).run()
    assert len(fits) == 2
    assert sorted(p.name for p in (done.folder / "models").iterdir()) == [
        "blobs-dann-0.safetensors",
        "blobs-source-only-0.safetensors",
    ]


@pytest.mark.parametrize(("name", "stay"), [("toy", True), ("other", False)])
def test_results_stay_until_the_same_experiment_has_new_ones(name, stay, study):
    first = study().run()
    results = [first.folder / result for result in ("model.safetensors", "judges/0.evidence", "comparison.json")]
    for path in results:
        runs.write(path, "of the first")
    interrupted(study(name=name, seeds=(1,)), after=1)
    assert [path.exists() for path in results] == [stay] * 3
    assert len(list((first.folder / "models").iterdir())) == 1


def test_a_model_that_is_gone_is_trained_again(study, fits):
    first = study()
    interrupted(first, after=1)
    (first.folder / "models" / "blobs-source-only-0.safetensors").unlink()
    fits.clear()
    done = study().run()
    assert [method for method, _ in fits] == ["source-only", "dann"]
    assert len(done.rows) == 4


def test_a_failure_in_the_middle_leaves_the_rows_so_far(study, task):
    def run(study):
        study.fit(task, adapter("source-only"), 0)
        study.add(dataset="blobs", method="by hand", seed=0, domain="target", accuracy=0.5)
        study.fit(task, adapter(lr=-1.0), 0)

    failing = study(run=run)
    with pytest.raises(ValueError, match="lr=-1"):
        failing.run()
    kept = content(failing)
    assert [r["method"] for r in kept["rows"]] == ["source-only", "source-only", "by hand"]
    assert not kept["complete"]


def test_target_labels_reach_target_only_and_nothing_else(study, task, fits):
    def run(study):
        for method in ("source-only", "dann", "domain-only", "target-only"):
            study.fit(task, adapter(method), 0)

    study(run=run).run()
    assert [(method, labels is None) for method, labels in fits] == [
        ("source-only", True),
        ("dann", True),
        ("domain-only", True),
        ("target-only", False),
    ]
    np.testing.assert_array_equal(fits[-1][1], task.target.y)


def test_hidden_target_labels_cannot_change_a_training(study, task, tmp_path):
    hidden = Labelled(task.target.x, 1 - task.target.y)
    swapped = Task("blobs", task.source, hidden, task.source_test, task.target_test)
    networks = []
    for number, data in enumerate((task, swapped)):
        networks.append(study(folder=tmp_path / str(number)).fit(data, adapter(), 0).network_.state_dict())
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


def test_test_rows_without_labels_get_no_scores(study, task):
    unlabelled = Labelled(task.target_test.x, np.empty(0, np.int64))
    judged = Task("blobs", task.source, task.target, task.source_test, unlabelled)
    source, target = study(run=lambda study: study.fit(judged, adapter(), 0)).run().rows
    assert "accuracy" in source
    assert not {"accuracy", "loss", "ari"} & set(target)
    assert 0 <= target["domain_accuracy"] <= 1


def test_distances_between_the_domains_are_measured_where_there_are_means(study, task):
    def run(study):
        study.fit(task, adapter("source-only"), 0)
        study.fit(task, adapter("dann"), 0, pad=True)

    rows = study(run=run).run().rows
    assert all("pad" not in r and "domain_accuracy" not in r for r in rows[:2])
    assert all(0 <= r["pad"] <= 2 and 0 <= r["domain_accuracy"] <= 1 for r in rows[2:])


def test_snapshots_are_the_features_of_that_step(study, task):
    def run(study):
        study.model = study.fit(task, adapter(steps=4), 0, snapshots=(1, 4))

    done = study(run=run).run()
    last = done.snapshot("blobs", "dann", 0, 4)
    np.testing.assert_allclose(last["source"], done.model.transform(task.source_test.x), rtol=1e-5)
    np.testing.assert_allclose(last["target"], done.model.transform(task.target_test.x), rtol=1e-5)
    np.testing.assert_array_equal(last["predicted"], done.model.predict(task.target_test.x))
    assert not np.allclose(done.snapshot("blobs", "dann", 0, 1)["source"], last["source"])


def test_evaluating_in_between_does_not_change_the_training(study, task, tmp_path):
    with_snapshots = study().fit(task, adapter(steps=4), 0, snapshots=(1, 2)).network_.state_dict()
    without = study(folder=tmp_path / "other").fit(task, adapter(steps=4), 0).network_.state_dict()
    assert all(torch.equal(with_snapshots[name], without[name]) for name in without)


def test_progress_is_reported_to_the_end(study):
    seen = []
    study(options={"steps": 50}, on_progress=lambda *report: seen.append(report)).run()
    assert seen[:4] == [("blobs · source-only · seed 0", done, 50) for done in (0, 20, 40, 50)]
    assert len(seen) == 8


def test_values_are_those_of_all_seeds_in_their_order(study):
    done = study()
    for seed, accuracy in ((0, 0.5), (1, 0.75)):
        done.add(dataset="d", method="m", seed=seed, domain="target", accuracy=accuracy, pad=1.0)
    done.add(dataset="d", method="m", seed=0, domain="source", accuracy=0.9)
    assert done.values("d", "m") == [0.5, 0.75]
    assert done.values("d", "m", "source") == [0.9]
    assert done.values("d", "m", metric="pad") == [1.0, 1.0]
    assert done.has(dataset="d", seed=1)
    assert not done.has(dataset="d", seed=2)


def test_a_figure_is_written_when_it_is_drawn_and_not_when_drawing_fails(study):
    done = study()
    with done.figure("line", 1, 2) as (_, axes):
        axes[0, 0].plot([0, 1], [0, 1])
    assert done.figures == [done.folder / "figures" / "line.png"]
    assert done.figures[0].read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(ZeroDivisionError), done.figure("broken", 1, 1):
        _ = 1 / 0
    assert [p.name for p in (done.folder / "figures").iterdir()] == ["line.png"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_is_listed_under_its_name_with_one_line(name):
    experiment = EXPERIMENTS[name]
    assert experiment.name == name
    assert len(experiment.summary) < 120
    assert "\n" not in experiment.summary
    for published in experiment.published:
        assert {"dataset", "method", "domain", "accuracy", "source"} <= set(published)
        assert 0 <= published["accuracy"] <= 1
        assert published["domain"] in ("source", "target")
