"""Comparisons of several methods on small made-up data."""

import json
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score
from torch import nn

from dann import (
    DANN,
    MLP,
    VALIDATORS,
    DomainAdapter,
    DomainRegressor,
    ModelFileError,
    SourceOnly,
    compare,
    reassess,
    reverse_risk,
)
from dann.assessment import suggest_labels
from dann.estimator import TrainingFailed
from dann.evidence import clusters
from dann.runs import plain
from dann.selection import (
    METHODS,
    Comparison,
    Training,
    about_copies,
    copies,
    divided,
    estimators_of,
    evidence_of,
    rehearse,
    split,
)

NETWORK = MLP((16,), domain_hidden=(8,))


def base(**settings):
    return DomainAdapter(backbone=NETWORK, **{"steps": 60, "batch_size": 16, "lr": 0.01, "device": "cpu", **settings})


@pytest.fixture
def data(make_arrays):
    made = make_arrays(160, 150)
    return made.x, made.y, made.xt


@pytest.fixture
def compared(data):
    return compare(*data, ["dann", "mcc"], adapter=base(), seeds=2)


def test_every_checkpoint_of_every_training_is_scored_by_every_validator(compared):
    assert compared.names == ["source-only", "dann", "mcc"]
    trained = [(c.name, c.seed, c.step) for c in compared.candidates]
    assert trained == [(n, s, t) for n in compared.names for s in (0, 1) for t in (30, 60)]
    for c in compared.candidates:
        assert c.scores.keys() == VALIDATORS.keys()
        assert all(np.isfinite(v) for v in c.scores.values())
        assert c.last == (c.step == 60)
        assert c.oracle_accuracy is None
    assert set(compared.disagreement()) == set(VALIDATORS)
    assert set(compared.disagreement().values()) <= set(compared.names)


def test_the_crowd_is_held_out_rows_and_others_of_the_target(data):
    target = data[2]
    _, fitted_on, held_out = divided(*data)
    rows = held_out.structure.crowd
    assert len(rows) == min(2000, len(target))
    assert np.array_equal(rows[: len(held_out.target_rows)], target[held_out.target_rows])
    assert len(np.unique(np.concatenate([rows, target]), axis=0)) == len(np.unique(target, axis=0))
    assert len(fitted_on.rows[2]) + len(held_out.target_rows) == len(target)


def test_the_same_comparison_gives_the_same_verdict_and_scores(data, compared):
    again = compare(*data, ["dann", "mcc"], adapter=base(), seeds=2)
    assert again.assessment.report() == compared.assessment.report()
    assert [c.scores for c in again.candidates] == [c.scores for c in compared.candidates]


def test_oracle_labels_change_nothing_but_their_columns(data, make_arrays, compared):
    labels = make_arrays(160, 150).yt
    seen = compare(*data, ["dann", "mcc"], adapter=base(), seeds=2, y_oracle=labels)
    wrong = compare(*data, ["dann", "mcc"], adapter=base(), seeds=2, y_oracle=1 - labels)
    for other in (seen, wrong):
        assert other.assessment.report() == compared.assessment.report()
        assert [c.scores for c in other.candidates] == [c.scores for c in compared.candidates]
    for a, b in zip(seen.candidates, wrong.candidates, strict=True):
        assert a.oracle_accuracy + b.oracle_accuracy == pytest.approx(1.0)
    assert seen.oracle("dann", "best") >= max(seen.oracle("dann", "last"), seen.oracle("dann", "selected"))
    assert compared.oracle("dann") is None


def test_unknown_oracle_labels_are_left_out(data):
    few = np.full(150, -1)
    few[:10] = np.arange(10) % 2
    seen = compare(*data, ["dann"], adapter=base(steps=4), seeds=1, y_oracle=few)
    assert all((10 * c.oracle_accuracy) % 1 == pytest.approx(0) for c in seen.candidates)
    none = compare(*data, ["dann"], adapter=base(steps=4), seeds=1, y_oracle=np.full(150, -1))
    assert all(c.oracle_accuracy is None for c in none.candidates)


def test_checkpoints_hold_the_weights_of_their_step(data):
    found = compare(*data, ["dann"], adapter=base(averaging=0.9), seeds=1, checkpoints=3)
    middle = next(c for c in found.candidates if (c.name, c.step) == ("dann", 40))
    assert middle.model is not None
    logits = middle.model.outputs(data[2])[1]
    assert not np.allclose(logits, found.of("dann")[0].model.outputs(data[2])[1])
    assert middle.evidence is not None


def test_an_interrupted_comparison_goes_on_to_the_same_end(data, tmp_path, compared, monkeypatch):
    monkeypatch.setattr("dann.estimator.CHECKPOINT_SECONDS", 0.0)

    def interrupt(name, seed, step):
        if (name, seed, step.number) == ("dann", 1, 40):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(*data, ["dann", "mcc"], adapter=base(), run=tmp_path, on_step=interrupt)
    steps = []
    resumed = compare(
        *data, ["dann", "mcc"], adapter=base(), run=tmp_path, on_step=lambda n, s, step: steps.append((n, s))
    )
    assert steps.count(("source-only", 0)) == 0
    assert 0 < steps.count(("dann", 1)) < 60
    assert steps.count(("mcc", 1)) == 60
    assert resumed.assessment.report() == compared.assessment.report()
    assert [c.scores for c in resumed.candidates] == [c.scores for c in compared.candidates]


def test_the_model_that_is_left_is_the_training_that_follows_clusters_most(data):
    found = compare(*data, ["dann"], adapter=base(steps=4), seeds=3)
    for name in found.names:
        mine = Comparison(found.candidates, replace(found.assessment, choice=name), found.target_rows)
        for scores in ((0.1, 0.3, 0.2), (0.2, float("nan"), 0.2)):
            for one, score in zip(found.of(name), scores, strict=True):
                one.scores["input-ami"] = score
            best = int(np.nanargmax(scores))
            assert mine.model is found.of(name)[best].model


def test_settings_can_be_compared_by_names_of_their_own(data):
    chosen = {"weak": base(method=DANN(weight=0.1)), "strong": base(method=DANN(weight=2.0))}
    assert compare(*data, chosen, adapter=base(steps=4), seeds=1).names == ["source-only", "weak", "strong"]


def test_methods_with_settings_can_be_compared_by_names_of_their_own(data, make_arrays, tmp_path):
    methods = {"weak": DANN(weight=0.1), "strong": DANN(weight=2.0)}
    made = estimators_of(methods, base())
    assert list(made) == ["source-only", "weak", "strong"]
    assert [made[name].method.weight for name in methods] == [0.1, 2.0]
    assert all(estimator.lr == 0.01 and estimator.backbone == NETWORK for estimator in made.values())

    class Own(DANN):  # no file can name it
        pass

    own = {"mine": Own()}
    settings = base(steps=4).set_params(backbone=nn.Sequential(nn.Flatten(), nn.Linear(3, 4)))
    compare(*data, own, adapter=settings, seeds=1, checkpoints=1).save(tmp_path)
    told = reassess(tmp_path, make_arrays(10, 60, seed=5).xt, methods=own, adapter=settings)
    assert set(told.estimates) == {"source-only", "mine"}


def test_the_baseline_can_have_settings_of_its_own():
    made = estimators_of({"source-only": base(method="source-only", steps=7), "dann": base()}, base())
    assert made["source-only"].steps == 7
    assert list(made) == ["source-only", "dann"]


def test_all_have_the_same_budget_of_steps():
    made = estimators_of(["adda"], base())
    assert (made["adda"].pretrain_steps, made["adda"].steps, made["source-only"].steps) == (30, 30, 60)
    made = estimators_of(["dann"], base(pretrain_steps=40))
    assert (made["dann"].pretrain_steps, made["dann"].steps, made["source-only"].steps) == (40, 60, 100)


def test_the_default_methods_are_compared_with_source_only():
    assert list(estimators_of(METHODS, base())) == ["source-only", *METHODS]
    assert isinstance(estimators_of(METHODS, base())["source-only"]._method(), SourceOnly)


def test_a_method_that_diverges_is_no_candidate_and_stops_nobody(data):
    """With the default log_every, NaN shows in the outputs before it shows in a loss that is read."""
    broken = base(method="dann", lr=1e6, optimizer="sgd")
    found = compare(*data, {"dann": broken, "mcc": base(method="mcc")}, adapter=base(), seeds=1, checkpoints=3)
    (failed,) = found.of("dann")
    assert failed.model is None
    assert not failed.scores
    assert "dann" not in found.assessment.estimates
    assert any(reason.startswith("dann is ruled out: ") for reason in found.assessment.reasons)


def test_a_method_of_which_one_training_failed_is_no_candidate_when_a_comparison_judges_again(compared, tmp_path, data):
    """Half of a method's trainings would stand for it, and for nothing that failed."""
    first = next(c for c in compared.candidates if c.name == "dann" and c.last)
    others = [c for c in compared.candidates if (c.name, c.seed) != ("dann", first.seed)]
    failed = replace(first, model=None, evidence=None, scores={}, alarms=["a loss is nan"])
    replace(compared, candidates=[*others, failed]).save(tmp_path)
    assert set(reassess(tmp_path, data[2]).estimates) == {"source-only", "mcc"}


def test_a_baseline_that_diverges_is_an_error(data):
    with pytest.raises(TrainingFailed, match="source-only itself cannot be trained"):
        compare(*data, ["dann"], adapter=base(lr=1e30, optimizer="sgd"), seeds=1)


def test_guards_speak_through_the_verdict_and_not_as_warnings(data):
    vanishing = base(method="dann", steps=200, optimizer="sgd", lr=0.1, weight_decay=5.0, on_collapse="source-only")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = compare(*data, {"dann": vanishing}, adapter=base(), seeds=1)
    (end,) = found.of("dann")
    assert end.alarms
    assert end.model.method_ == DANN()
    assert found.assessment.choice == "source-only"
    assert any(reason.startswith(f"dann is ruled out: {end.alarms[0]}") for reason in found.assessment.reasons)


def test_all_that_guards_saw_is_kept_and_only_harm_rules_out(data):
    """A domain head that does not learn does no harm."""
    asleep = base(method=DANN(lr_multiplier=1e-12), steps=200)
    found = compare(*data, {"dann": asleep}, adapter=base(steps=4), seeds=1)
    (end,) = found.of("dann")
    assert any(event.startswith("dead-adversary: ") for event in end.events)
    assert not any("no weight of domain" in alarm for alarm in end.alarms)
    assert end.report()["events"] == end.events


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "seeds=0 must be a whole number of at least 1"),
        ({"seeds": "2"}, "seeds='2' must be a whole number of at least 1"),
        ({"checkpoints": 0}, "checkpoints=0 must be a whole number of at least 1"),
        ({"methods": "dann"}, r"methods='dann' is one name: give a sequence of names, such as \['dann'\]"),
        ({"methods": ["source-only"]}, "nothing to compare source-only with"),
        ({"methods": ["target-only"]}, "target-only trains on target labels"),
        ({"methods": ["daan"]}, "unknown method 'daan'"),
        ({"y_oracle": np.full(150, 7)}, "7"),
        ({"y_oracle": np.zeros(10)}, r"y_oracle has shape \(10,\); expected one label for each of the 150 target rows"),
        ({"methods": ["dann", "shot"]}, "SHOT goes on from a fitted model"),
        ({"methods": [DANN()]}, "give names, or a mapping of names to methods"),
        ({"methods": {"r": DomainRegressor()}}, "'r' is a DomainRegressor"),
        ({"methods": {1: base()}}, "the name 1 cannot name a folder"),
        ({"methods": {"../up": base()}}, "the name '../up' cannot name a folder"),
        ({"methods": {"source-only": base(method="mcc")}}, "'source-only' names the baseline, which is no MCC"),
        ({"methods": {"slow": base(weight_decay="much")}}, "a setting has a value of the wrong kind"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, message, data):
    with pytest.raises(ValueError, match=message):
        compare(*data, **{"methods": ["dann"], "adapter": base(steps=2), **change})


def test_too_few_rows_end_in_cannot_tell(make_arrays):
    few = make_arrays(30, 12)
    found = compare(few.x, few.y, few.xt, ["dann"], adapter=base(steps=4, batch_size=4), seeds=2)
    assert found.assessment.decision == "cannot tell"
    assert "too few" in found.assessment.sentence


def test_two_target_rows_are_too_few_to_hold_some_out(make_arrays):
    few = make_arrays(30, 2)
    with pytest.raises(ValueError, match="the target has 2 rows: too few to hold some out"):
        compare(few.x, few.y, few.xt, ["dann"], adapter=base(steps=4, batch_size=2))


def test_data_frames_and_names_of_classes(make_arrays):
    made = make_arrays(120, 110)
    x, xt = (pd.DataFrame(part, columns=["a", "b", "c"]) for part in (made.x, made.xt))
    y = np.where(made.y == 1, "yes", "no")
    found = compare(x, pd.Series(y), xt[["c", "a", "b"]], ["dann"], adapter=base(), seeds=1)
    assert set(found.model.predict(xt)) <= {"yes", "no"}


def test_a_comparison_is_kept_and_judges_other_rows_later(data, make_arrays, tmp_path, compared):
    model = compared.save(tmp_path)
    assert np.array_equal(DomainAdapter.load(model).predict(data[2]), compared.model.predict(data[2]))
    kept = json.loads((tmp_path / "comparison.json").read_text())
    judges = kept.pop("judges")
    assert [judge["name"] for judge in judges] == ["source-only"] * 2 + ["dann"] * 2 + ["mcc"] * 2
    assert kept == json.loads(json.dumps(compared.report(), default=plain))
    assert len(kept["candidates"]) == 12
    later = make_arrays(10, 400, seed=5)
    blind = reassess(tmp_path, later.xt)
    assert set(blind.estimates) == {"source-only", "dann", "mcc"}
    few = np.where(np.arange(400) % 10 == 0, later.yt, -1)
    told = reassess(tmp_path, later.xt, few)
    own, before = told.estimates["source-only"], blind.estimates["source-only"]
    assert own.high - own.low < before.high - before.low


def test_another_choice_than_the_saved_one_says_where_its_model_is(data, make_arrays, tmp_path, compared):
    model = compared.save(tmp_path)
    later = make_arrays(10, 400, seed=5).xt
    taken = reassess(tmp_path, later)
    assert any(str(model) in reason for reason in taken.reasons) == (taken.choice != compared.assessment.choice)
    path = tmp_path / "comparison.json"
    kept = json.loads(path.read_text())
    kept["assessment"]["choice"] = "dann" if taken.choice == "mcc" else "mcc"
    path.write_text(json.dumps(kept))
    said = reassess(tmp_path, later).reasons[-1]
    assert f"{model} is the model of {kept['assessment']['choice']}; that of {taken.choice} is " in said
    named = DomainAdapter.load(said.split()[-1]).predict(later)
    of_rows = clusters(later, 2)
    followed = [adjusted_mutual_info_score(of_rows, c.model.predict(later)) for c in compared.of(taken.choice)]
    assert adjusted_mutual_info_score(of_rows, named) == max(followed)


def test_a_comparison_of_own_objects_judges_again_with_them(data, make_arrays, tmp_path):
    own = DomainAdapter(backbone=nn.Sequential(nn.Linear(3, 8), nn.ReLU()), steps=20, batch_size=8)
    later = make_arrays(10, 400, seed=5).xt
    compare(*data, ["dann"], adapter=own, seeds=1).save(tmp_path / "a")
    with pytest.raises(ModelFileError, match="of your own"):
        reassess(tmp_path / "a", later)
    assert set(reassess(tmp_path / "a", later, adapter=own).estimates) == {"source-only", "dann"}
    methods = {"mine": own.set_params(method=DANN(weight=0.5))}
    compare(*data, methods, adapter=base(), seeds=1).save(tmp_path / "b")
    assert set(reassess(tmp_path / "b", later, methods=methods).estimates) == {"source-only", "mine"}
    compare(*data, methods, adapter=own, seeds=1).save(tmp_path / "c")
    both = {"methods": methods, "adapter": own}
    assert set(reassess(tmp_path / "c", later, **both).estimates) == {"source-only", "mine"}
    compare(*data, methods, seeds=1).save(tmp_path / "d")
    assert set(reassess(tmp_path / "d", later, methods=methods).estimates) == {"source-only", "mine"}
    with pytest.raises(ModelFileError, match="of your own"):
        reassess(tmp_path / "d", later)


def test_a_folder_without_a_comparison_is_told(tmp_path, data):
    with pytest.raises(FileNotFoundError, match="holds no comparison: dann compare and dann adapt write one there"):
        reassess(tmp_path, data[2])


def test_models_that_are_gone_and_reports_that_are_none_are_told(tmp_path, data, compared):
    compared.save(tmp_path)
    for path in (tmp_path / "judges").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match="there is no model file"):
        reassess(tmp_path, data[2])
    (tmp_path / "comparison.json").write_text("{}")
    with pytest.raises(ValueError, match=r"comparison\.json is no readable comparison"):
        reassess(tmp_path, data[2])


def test_labels_can_settle_what_the_comparison_could_not(make_arrays, tmp_path, compared):
    """The classes of the later target are swapped whole: no sign sees it, and labels do."""
    compared.save(tmp_path)
    later = make_arrays(10, 1500, seed=5)
    known = np.where(np.arange(1500) >= 1380, 1 - later.yt, -1)
    told = reassess(tmp_path, later.xt, known)
    assert told.decision == "keep"
    assert told.estimates["source-only"].accuracy < 0.3
    assert any("120 labels make the interval" in reason for reason in told.reasons)


def test_rows_to_label_are_rows_of_the_users_target(compared, data):
    rows = compared.suggest_labels(6)
    assert len(set(rows.tolist())) == 6
    assert set(rows.tolist()) <= set(compared.target_rows.tolist())
    assert len(compared.target_rows) == round(0.2 * len(data[2]))
    with pytest.raises(ValueError, match=r"n=31 must lie in 1 … 30, the number of target rows held out"):
        compared.suggest_labels(31)


def test_several_sources_are_held_out_and_trained_on_together(data, tmp_path):
    x, y, x_target = data
    domain = np.where(np.arange(len(y)) % 3 == 0, 7, 2)
    weight = np.where(domain == 7, 0.0, 1.0) + (np.arange(len(y)) % 2)
    _, fitted_on, held_out = divided(x, y, x_target, sample_domain=domain, sample_weight=weight)
    of = {tuple(row): (label, d, w) for row, label, d, w in zip(x.tolist(), y, domain, weight, strict=True)}
    told = zip(fitted_on.rows[1], *fitted_on.of_rows.values(), strict=True)
    for row, seen in zip(fitted_on.rows[0].tolist(), told, strict=True):
        assert seen == of[tuple(row)]
    assert [of[tuple(row)][0] for row in held_out.rows[0].tolist()] == held_out.rows[1].tolist()
    assert {of[tuple(row)][1] for row in held_out.rows[0].tolist()} == {2, 7}
    methods = {"dann": base(steps=8)}
    found = compare(x, y, x_target, methods, sample_domain=domain, sample_weight=weight, seeds=1, run=tmp_path)
    assert found.model.n_domains_ == 3
    alone = base(steps=8, method="dann", random_state=0, on_collapse="warn")
    alone.fit(*fitted_on.rows, **fitted_on.of_rows)
    np.testing.assert_array_equal(found.of("dann")[0].model.predict_proba(x_target), alone.predict_proba(x_target))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample_domain": np.where(np.arange(160) < 9, -1, 0)}, "marks target rows in X: give them as X_target"),
        ({"sample_domain": np.zeros(3, int)}, "sample_domain must be 160 whole numbers"),
        ({"sample_weight": np.full(160, -1.0)}, "sample_weight must be finite and 0 or more"),
    ],
)
def test_sources_and_weights_that_do_not_fit_are_refused(change, message, data):
    with pytest.raises(ValueError, match=message):
        compare(*data, ["dann"], adapter=base(steps=2), **change)


def test_a_source_of_held_out_rows_alone_is_refused(data):
    domain = np.zeros(len(data[1]), int)
    domain[split(data[1], 0)[1][:2]] = 1
    with pytest.raises(ValueError, match="all rows of one of the 2 sources would be held out"):
        compare(*data, ["dann"], adapter=base(steps=2), sample_domain=domain)


def test_sparse_rows_of_any_format_are_compared(data):
    from scipy import sparse

    x, y, x_target = data
    dense = compare(x, y, x_target, ["dann"], adapter=base(steps=4), seeds=1)
    for kind in (sparse.coo_matrix, sparse.csc_array):
        found = compare(kind(x), y, kind(x_target), ["dann"], adapter=base(steps=4), seeds=1)
        assert found.assessment.sentence == dense.assessment.sentence


def test_checkpoints_of_before_are_judged_by_the_rows_that_are_held_out_now(data, tmp_path):
    x, y, xt = data
    settings = {"adapter": base(steps=12), "seeds": 1, "checkpoints": 2}
    compare(*data, ["dann"], run=tmp_path, **settings)
    _, training, held_out = divided(*data)
    corrected = np.where((x[:, None] == held_out.rows[0]).all(2).any(1)[:, None], -x, x)
    assert np.array_equal(divided(corrected, y, xt)[1].rows[0], training.rows[0])  # so the trainings are the same
    again, anew = (compare(corrected, y, xt, ["dann"], run=run, **settings) for run in (tmp_path, None))
    assert [c.scores for c in again.candidates] == [c.scores for c in anew.candidates]


def test_other_checkpoints_in_the_same_folder_are_refused(data, tmp_path):
    compare(*data, ["dann"], adapter=base(steps=12), seeds=1, run=tmp_path)
    with pytest.raises(ValueError, match="holds a comparison with other checkpoints"):
        compare(*data, ["dann"], adapter=base(steps=12), seeds=1, run=tmp_path, checkpoints=3)


def test_methods_of_the_users_own_resume_and_the_time_of_their_training_stays(data, tmp_path):
    class Own(DANN):
        pass

    chosen = {"own": base(method=Own(), steps=30)}
    first, again = (compare(*data, chosen, adapter=base(steps=30), seeds=1, run=tmp_path) for _ in range(2))
    assert [c.seconds for c in again.candidates] == [c.seconds for c in first.candidates]
    assert again.assessment == first.assessment


def test_the_time_of_a_training_is_without_that_of_judging_and_with_that_of_before(data, tmp_path, monkeypatch):
    monkeypatch.setattr("dann.estimator.CHECKPOINT_SECONDS", 0.0)
    clock, stops = [0.0], [4]
    monkeypatch.setattr("dann.selection.time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def judged(*rows):
        clock[0] += 100
        return evidence_of(*rows)

    def one_second(name, seed, step):
        if name == "dann" and step.number in stops:
            stops.clear()
            raise KeyboardInterrupt
        clock[0] += 1

    monkeypatch.setattr("dann.selection.evidence_of", judged)
    settings = {"adapter": base(steps=6), "seeds": 1, "checkpoints": 3, "run": tmp_path, "on_step": one_second}
    with pytest.raises(KeyboardInterrupt):
        compare(*data, ["dann"], **settings)
    assert [c.seconds for c in compare(*data, ["dann"], **settings).candidates] == [2, 4, 6] * 2


def test_of_equal_checkpoints_the_later_one_is_selected(compared):
    ends = [replace(c, scores={"input-ami": 0.5}) for c in compared.candidates]
    assert replace(compared, candidates=ends).selected("dann") == 60


def test_of_many_held_out_rows_a_thousand_are_looked_at(make_arrays, monkeypatch):
    monkeypatch.setattr("dann.selection.structure_of", lambda *_: None)
    made = make_arrays(5500, 5600)
    _, training, held_out = divided(made.x, made.y, made.xt)
    assert [len(part) for part in held_out.rows] == [1000, 1000, 1000]
    assert [len(part) for part in training.rows] == [4400, 4400, 4480]


def test_reverse_validation_trains_there_and_back(make_arrays):
    made, held_out = make_arrays(80, 60), make_arrays(40, 4, seed=3)
    risk = reverse_risk(base, (made.x, made.y), (held_out.x, held_out.y), made.xt, seed=0)
    assert 0 <= risk < 0.2
    one_class = reverse_risk(
        lambda: base(steps=1, lr=1e-9), (made.x, made.y), (held_out.x, held_out.y), made.xt[:1], seed=0
    )
    assert one_class == 1.0


def test_a_split_leaves_a_row_of_every_class_to_train_on():
    codes = np.array([0] * 50 + [1] * 49 + [2])
    train, test = split(codes, 0)
    assert set(codes[train]) == {0, 1, 2}
    assert not set(train) & set(test)
    assert len(test) == 20


def test_a_rehearsal_on_rows_that_vary_little_at_first_is_content(make_arrays):
    """It sees the first rows alone; whether single precision spoils a column is asked of all."""
    made = make_arrays(400, 400)
    days = np.random.default_rng(0).integers(28, size=400)
    dates = np.sort(20_180_101 + 10_000 * (np.arange(400) % 8) + days).astype(np.float64)
    rows = np.c_[made.x, dates], made.y, np.c_[made.xt, dates]
    with pytest.raises(ValueError, match="single precision loses"):
        base().fit(rows[0][:16], rows[1][:16], rows[2][:16])
    rehearse(base(), Training(rows))
    base(steps=2).fit(*rows)


def test_subclasses_are_rehearsed_as_they_are_trained(data):
    class Plain(DomainAdapter):
        def fit(self, X, y, X_target, *, run=None, on_step=None):
            return super().fit(X, y, X_target, run=run, on_step=on_step)

    plain = Plain(**base(steps=2).get_params(deep=False))
    assert compare(*data, ["dann"], adapter=plain, seeds=1).names == ["source-only", "dann"]


def test_source_only_has_the_settings_of_what_it_is_compared_with():
    found = estimators_of({"one": base(steps=7, lr=0.3), "two": base()}, None)
    assert (found["source-only"].steps, found["source-only"].lr) == (7, 0.3)
    assert found["source-only"].backbone == NETWORK
    assert estimators_of({"one": base(steps=7)}, base(steps=9))["source-only"].steps == 9


def test_a_method_that_the_settings_hold_keeps_its_own():
    found = estimators_of(["dann", "mcc"], base(method=DANN(weight=0.123)))
    assert found["dann"].method == DANN(weight=0.123)


def test_agreement_is_that_with_the_other_seeds(data, compared):
    assert {len(c.evidence.other_target_logits) for c in compared.candidates} == {1}
    for one, other in (compared.of("dann"), compared.of("dann")[::-1]):
        np.testing.assert_array_equal(one.evidence.other_target_logits[0], other.evidence.target_logits)
    alone = compare(*data, ["dann"], adapter=base(steps=4), seeds=1)
    assert {c.evidence.other_target_logits for c in alone.candidates} == {None}


def test_alarms_stand_when_a_comparison_judges_again(data, make_arrays, tmp_path, compared):
    compared.save(tmp_path)
    path = tmp_path / "comparison.json"
    kept = json.loads(path.read_text())
    for judge in kept["judges"]:
        judge["alarms"] = ["collapse: it fell"] if judge["name"] != "source-only" else []
    path.write_text(json.dumps(kept))
    told = reassess(tmp_path, make_arrays(10, 400, seed=5).xt)
    assert told.choice == "source-only"
    assert {f"{name} is ruled out: collapse: it fell" for name in ("dann", "mcc")} <= set(told.reasons)


def test_rows_of_a_group_are_held_out_together(data):
    x, y, xt = data
    groups = np.array([f"patient {k // 8}" for k in range(len(x))])
    _, fitted_on, held_out = divided(x, y, xt, groups)
    of = {row.tobytes(): group for row, group in zip(x, groups, strict=True)}
    train, test = ({of[row.tobytes()] for row in part.rows[0]} for part in (fitted_on, held_out))
    assert not train & test
    assert len(train | test) == 20
    assert 2 <= len(test) <= 6
    found = compare(x, y, xt, ["dann"], adapter=base(steps=4), seeds=1, groups=groups)
    np.testing.assert_array_equal(np.sort(found.of("dann")[0].evidence.source_y), np.sort(held_out.rows[1]))


def test_rows_are_series_where_the_encoder_takes_them_so():
    random, y = np.random.default_rng(0), np.arange(200) % 2
    x = random.normal(size=(200, 3, 20)) + 3 * y[:, None, None]
    x[:, 2] = 1000 * random.normal(size=(200, 20))  # another unit, and nothing to know
    encoder = nn.Sequential(nn.Conv1d(3, 4, 5), nn.ReLU(), nn.Flatten())
    base = DomainAdapter(backbone=encoder, steps=3, batch_size=8)
    found = compare(x, y, x + 0.1, ["dann"], adapter=base, seeds=1)
    alone = found.of("dann")[0].model.evidence(x, y, x, structure=True)
    for clusters_of, labels in (
        (found.of("dann")[0].evidence.source_clusters, found.of("dann")[0].evidence.source_y),
        (alone.source_clusters, y),
    ):
        assert adjusted_mutual_info_score(labels, clusters_of) > 0.9


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (lambda y: np.zeros(len(y)), "all rows of the source are of one group"),
        (lambda y: y, "the 2 groups leave no way to train on every class"),
        (lambda y: y[1:], r"groups have shape \(159,\); expected one for each of the 160 rows"),
    ],
)
def test_groups_that_cannot_be_held_out_are_refused(groups, message, data):
    with pytest.raises(ValueError, match=message):
        divided(*data, groups(data[1]))


def test_what_trains_no_classifier_is_not_compared(data):
    with pytest.raises(ValueError, match="domain-only trains no classifier"):
        compare(*data, ["domain-only"], adapter=base())


def test_an_unknown_checkpoint_is_refused(data, make_arrays):
    seen = compare(*data, ["dann"], adapter=base(steps=4), seeds=1, y_oracle=make_arrays(160, 150).yt)
    with pytest.raises(ValueError, match="unknown checkpoint 'end'"):
        seen.oracle("dann", "end")
    with pytest.raises(ValueError, match="unknown checkpoint 'end'"):
        replace(seen, candidates=[replace(c, oracle_accuracy=None) for c in seen.candidates]).oracle("dann", "end")


def test_groups_of_any_size_leave_about_a_fifth():
    random = np.random.default_rng(0)
    shares = []
    for seed in range(20):
        sizes = np.maximum(1, random.lognormal(2, 1, 12)).astype(int)
        groups = np.repeat(np.arange(12), sizes)
        codes = np.arange(len(groups)) % 2
        shares.append(len(split(codes, seed, groups)[1]) / len(codes))
    assert np.abs(np.array(shares) - 0.2).mean() < 0.05
    few = np.array([0, 0, 1, 1, 2, 2])  # fewer rows of each class than folds
    train, test = split(few, 0, np.array([0, 1, 2, 3, 4, 5]))
    assert set(few[train]) == {0, 1, 2}
    assert len(test)


def test_too_few_rows_speak_against_nothing(make_arrays, tmp_path, compared):
    compared.save(tmp_path)
    path = tmp_path / "comparison.json"
    kept = json.loads(path.read_text())
    for saved in ("mcc", "source-only"):
        kept["assessment"]["choice"] = saved
        path.write_text(json.dumps(kept))
        told = reassess(tmp_path, make_arrays(10, 12, seed=5).xt)
        assert (told.decision, told.choice) == ("cannot tell", saved)
        assert told.sentence.endswith(f"Keep {saved}.")


def test_reverse_validation_knows_of_the_source_only_what_the_target_got_from_it():
    """Rows in the corners of a square, opposite ones of one class; the target has two neighbouring corners alone."""
    rng = np.random.default_rng(0)
    corners = rng.integers(2, size=(240, 2))
    x, y = 6 * corners - 3 + rng.normal(0, 0.5, (240, 2)), corners[:, 0] ^ corners[:, 1]
    held_out, target = (x[:80], y[:80]), x[80:160][corners[80:160, 1] == 1]
    make = lambda: base(steps=200).set_params(method=SourceOnly(), scaling="none")  # noqa: E731
    there = make().set_params(random_state=0).fit(x[160:], y[160:], target)
    assert there.score(*held_out) > 0.95
    risk = reverse_risk(make, (x[160:], y[160:]), held_out, target, seed=0)
    assert risk > 0.25


# What is kept on disk and was broken, and what a report holds.


def test_a_broken_note_of_seconds_is_named_and_can_be_deleted(data, tmp_path):
    again = lambda: compare(*data, ["dann"], adapter=base(steps=12), seeds=1, run=tmp_path)  # noqa: E731
    again()
    place = tmp_path / "dann-0" / "seconds-6.json"
    for content, message in (
        ('"x"', r"seconds-6\.json holds 'x' where seconds belong; delete it"),
        ("-1", r"seconds-6\.json holds '-1' where seconds belong; delete it"),
        ("{", r"seconds-6\.json is no readable JSON \(.*\); give another folder, or delete it"),
    ):
        place.write_text(content)
        with pytest.raises(ValueError, match=message):
            again()
    place.unlink()
    found = {c.step: c.seconds for c in again().candidates if c.name == "dann"}
    assert np.isnan(found[6])
    assert found[12] > 0


def test_a_broken_configuration_of_a_training_is_named(data, tmp_path):
    compare(*data, ["dann"], adapter=base(steps=12), seeds=1, run=tmp_path)
    (tmp_path / "dann-0" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"dann-0/config\.json is no readable JSON \(.*\); give another folder"):
        compare(*data, ["dann"], adapter=base(steps=12), seeds=1, run=tmp_path)


def test_alarms_that_are_no_list_and_reports_that_are_no_json_are_told(data, tmp_path, compared):
    compared.save(tmp_path)
    path = tmp_path / "comparison.json"
    kept = json.loads(path.read_text())
    kept["judges"][1]["alarms"] = "it fell"
    for content, message in ((json.dumps(kept), "alarms are 'it fell', which is no list"), ("{", "Expecting")):
        path.write_text(content)
        with pytest.raises(ValueError, match=rf"comparison\.json is no readable comparison \(.*{message}.*; run dann"):
            reassess(tmp_path, data[2])


def test_a_report_names_the_classes_and_the_columns_that_shift(make_arrays, images, tmp_path):
    made = make_arrays(400, 400)
    frame, target = pd.DataFrame(made.x, columns=["size", "light", "noise"]), pd.DataFrame(made.xt)
    target.columns = frame.columns
    words = np.array(["no", "yes"])[made.y]
    found = compare(frame, words, target[["light", "noise", "size"]], ["dann"], adapter=base(steps=4), seeds=1)
    report = found.report()
    assert report["classes"] == ["no", "yes"]
    assert [one["column"] for one in report["carriers"]] == ["light"]
    assert report["carriers"][0]["distance"] > 0.9 > 0.05 > report["carriers"][0]["p_value"]
    found.save(tmp_path)
    kept = json.loads((tmp_path / "comparison.json").read_text())
    assert kept["carriers"] == report["carriers"]
    of_images = compare(images.x, images.y, images.xt, ["dann"], adapter=DomainAdapter(steps=2, batch_size=4), seeds=1)
    assert of_images.report()["carriers"] is None


def test_a_comparison_that_was_saved_without_classes_and_columns_judges_again(make_arrays, tmp_path, compared):
    compared.save(tmp_path)
    path, rows = tmp_path / "comparison.json", make_arrays(10, 400, seed=5).xt
    before, kept = reassess(tmp_path, rows), json.loads(path.read_text())
    del kept["classes"], kept["carriers"]
    path.write_text(json.dumps(kept))
    assert reassess(tmp_path, rows) == before


def test_a_comparison_that_is_cut_off_while_it_is_saved_is_none(data, compared, tmp_path, monkeypatch):
    compared.save(tmp_path)
    assert reassess(tmp_path, data[2]).estimates
    written = []

    def full(path, *_):
        written.append(path)
        if len(written) == 3:
            raise OSError("no space left")

    monkeypatch.setattr("dann.selection.runs.save_evidence", full)
    with pytest.raises(OSError, match="no space"):
        compared.save(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds no comparison"):
        reassess(tmp_path, data[2])


def test_names_that_are_none_are_refused(data, compared, tmp_path):
    compared.save(tmp_path)
    path = tmp_path / "comparison.json"
    path.write_text(path.read_text().replace('"name": "mcc"', '"name": "[/nope]"'))
    with pytest.raises(ValueError, match=r"'\[/nope\]' is no name"):
        reassess(tmp_path, data[2])


def test_the_crowd_of_the_source_is_of_all_its_rows(data):
    x, y, _ = data
    _, _, held_out = divided(*data)
    assert np.array_equal(held_out.structure.source_crowd_clusters, clusters(x, 2))
    assert np.array_equal(held_out.structure.source_crowd_y, y)


# copies


def test_copies_of_a_row_are_trained_on_or_held_out_all_of_them(data):
    x, y, xt = data
    several = np.random.default_rng(0).permutation(np.repeat(np.arange(len(x)), 4))
    _, fitted_on, held_out = divided(x[several], y[several], xt)
    sides = [{row.tobytes() for row in rows} for rows in (fitted_on.rows[0], held_out.rows[0])]
    assert not sides[0] & sides[1]
    assert 0.15 < len(held_out.rows[0]) / len(several) < 0.25
    assert (
        held_out.copied
        == f"{3 * len(x)} rows of the source are copies of others; no row is trained on and held out at once"
    )
    found = compare(x[several], y[several], xt, ["dann"], adapter=base(steps=4), seeds=1)
    assert f"{3 * len(x)} rows of the source are copies of others" in found.assessment.reasons[-1]


def test_copies_join_the_groups_that_have_them(data):
    x, y, xt = data
    x = np.concatenate([x, x[:40]])
    y, groups = np.concatenate([y, y[:40]]), np.concatenate([np.arange(len(y)) // 4, 1000 + np.arange(40) // 4])
    _, fitted_on, held_out = divided(x, y, xt, groups)
    of = {}
    for row, group in zip(x, groups, strict=True):
        of.setdefault(row.tobytes(), set()).add(group)
    sides = [set().union(*(of[row.tobytes()] for row in rows)) for rows in (fitted_on.rows[0], held_out.rows[0])]
    assert not sides[0] & sides[1]
    assert len(held_out.rows[0])


def test_rows_that_chance_makes_alike_are_no_copies():
    """Answers to four questions, or a column of whole numbers."""
    random = np.random.default_rng(0)
    codes = np.zeros(300, int)
    assert copies(random.normal(size=(300, 4)).astype(np.float32), codes) is None
    assert copies(random.integers(3, size=(300, 4)).astype(np.float32), codes) is None
    assert copies(random.integers(100, size=(300, 1)).astype(np.float32), codes) is None
    images = random.integers(256, size=(50, 1, 4, 4), dtype=np.uint8)
    first = copies(np.concatenate([images, images[3:5]]), codes[:52])
    np.testing.assert_array_equal(first, [*range(50), 3, 4])


@pytest.mark.parametrize(("wrong", "found"), [(0.0, True), (0.1, True), (0.3, False), (0.5, False)])
def test_people_who_are_alike_are_no_copies_where_their_labels_differ(wrong, found):
    """Age, and what follows from it: by chance there would be fewer alike, were the columns independent."""
    random = np.random.default_rng(0)
    age = random.integers(60, size=600)
    x = np.stack([age, age // 2, age // 3, age % 2], 1).astype(np.float32)
    codes = (age % 2) ^ (random.random(600) < wrong)
    first = copies(x, codes)
    assert (first is not None) is found
    exact = np.concatenate([x, random.normal(size=(600, 1)).astype(np.float32)], 1)  # one more column, of all values
    assert copies(exact, codes) is None
    assert copies(np.concatenate([exact, exact[:300]]), np.append(codes, 1 - codes[:300])) is not None


def test_copies_with_other_labels_leave_a_row_of_every_class_to_train_on():
    x = np.repeat(np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32), 2, axis=0)
    codes = np.tile([0, 1], 12)
    for seed in range(10):
        train, test = split(codes, seed, None, copies(x, codes))
        assert set(codes[train]) == {0, 1}
        assert sorted([*train, *test]) == list(range(24))


@pytest.mark.parametrize("nothing", [None, np.nan])
def test_groups_that_are_missing_are_told(nothing, data):
    groups = np.array([f"patient {k // 8}" for k in range(len(data[1]))], dtype=object)
    groups[[5, 9]] = nothing
    with pytest.raises(ValueError, match="groups are missing in 2 rows, the first row 5"):
        divided(*data, groups)


def test_a_row_that_fills_the_table_neither_joins_all_groups_nor_is_held_out():
    x = np.random.default_rng(0).normal(size=(600, 5)).astype(np.float32)
    codes, groups = np.arange(600) % 2, np.repeat(np.arange(30), 20)
    x[::20] = 0
    for given in (groups, None):
        train, test = split(codes, 0, given, copies(x, codes))
        assert sorted([*train, *test]) == list(range(600))
        assert 0.1 < len(test) / 600 < 0.3
        told = about_copies(copies(x, codes), train, test)
        assert ("held-out ones were trained on too" in told) == (given is not None)
    x[:500] = 0
    for seed in range(4):
        assert len(split(codes, seed, None, copies(x, codes))[1]) < 200


def test_copies_stay_together_where_only_one_of_them_has_a_class():
    x = np.random.default_rng(0).normal(size=(100, 5)).astype(np.float32)
    x[11], codes = x[10], np.arange(100) % 2
    codes[11] = 2
    for seed in range(30):
        train, _ = split(codes, seed, None, copies(x, codes))
        assert {10, 11} <= set(train)


def test_a_smaller_comparison_leaves_none_of_the_judges_of_a_larger_one(data, compared, tmp_path):
    compared.save(tmp_path)
    compare(*data, ["dann"], adapter=base(steps=4), seeds=1).save(tmp_path)
    assert {path.stem for path in (tmp_path / "judges").iterdir()} == {"0", "1"}


def test_methods_may_come_from_a_generator(data):
    assert compare(*data, (name for name in ["mcc"]), adapter=base(steps=2), seeds=1).names == ["source-only", "mcc"]


def test_what_guards_saw_before_a_training_failed_is_kept(data):
    class Explodes(DANN):
        def loss(self, net, source, target, progress):
            factor = torch.where(progress > 0.3, 1e6, 1.0) * torch.where(progress > 0.8, np.inf, 1.0)
            return {**super().loss(net, source, target, progress), "trouble": factor.detach()}

    found = compare(*data, {"dann": Explodes()}, adapter=base(steps=200), seeds=1, checkpoints=1)
    (failed,) = found.of("dann")
    assert failed.model is None
    assert any(event.startswith("divergence: the loss 'trouble' is 1e+06") for event in failed.report()["events"])


def test_each_validator_would_take_the_method_of_its_highest_mean_score(compared):
    for validator in VALIDATORS:
        for k, c in enumerate(compared.candidates):
            c.scores[validator] = {"source-only": 0.2, "dann": 0.5, "mcc": 0.4}[c.name] + (0.3 if k % 2 else -0.3)
    for c in compared.of("dann")[:1]:
        c.scores.pop("mixval")  # half of the trainings do not stand for a method
    others = dict.fromkeys(VALIDATORS, "dann") | {"mixval": "mcc"}
    assert compared.disagreement() == compared.report()["choices"] == others


def test_suggested_rows_are_numbered_as_the_target_was_given(compared, data):
    rows = compared.suggest_labels(10)
    assert len(set(rows.tolist())) == 10
    assert set(rows.tolist()) <= set(compared.target_rows.tolist())
    assert not set(compared.target_rows.tolist()) <= set(range(len(compared.target_rows)))
    ends = [c.evidence for name in compared.names for c in compared.of(name)]
    of_evidence = suggest_labels(ends, 10)
    logits = compared.of("source-only")[0].model.outputs(data[2][rows])[1]
    np.testing.assert_allclose(logits, ends[0].target_logits[of_evidence], atol=1e-4)
