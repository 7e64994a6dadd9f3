"""Hyper-parameter search on small made-up data."""

import itertools
import json
import sys
import warnings

import numpy as np
import pytest

from dann import DANN, MLP, VALIDATORS, DomainAdapter, DomainRegressor, TrainingFailed, tune
from dann.estimator import TrainingWarning
from dann.experiments.planted import Planted
from dann.selection import divided
from dann.tuning import tried

pytest.importorskip("optuna", reason="the extra tune is not installed")


def base(**settings):
    network = MLP((16,), domain_hidden=(8,))
    return DomainAdapter(
        settings.pop("method", DANN()), network, **{"steps": 40, "batch_size": 16, "device": "cpu", **settings}
    )


@pytest.fixture
def data(make_arrays):
    made = make_arrays(120, 110)
    return made.x, made.y, made.xt


SPACE = {"lr": (1e-3, 1e-1, "log"), "batch_size": [8, 16], "method__weight": (0.1, 1.0), "log_every": (10, 20)}


def test_settings_are_drawn_from_the_space_and_the_best_can_be_set(data):
    study = tune(base(), SPACE, *data, trials=3)
    assert len(study.trials) == 3
    for trial in study.trials:
        p = trial.params
        assert 1e-3 <= p["lr"] <= 1e-1
        assert p["batch_size"] in (8, 16)
        assert 0.1 <= p["method__weight"] <= 1
        assert isinstance(p["log_every"], int)
        assert len(trial.intermediate_values) == 3
    best = max((t for t in study.trials if t.value is not None), key=lambda t: t.value)
    assert study.best_params == best.params
    assert base().set_params(**study.best_params).lr == best.params["lr"]


def test_a_range_is_of_whole_numbers_where_both_ends_are(data):
    study = tune(base(steps=2), {"method__weight": (0, 1.0), "log_every": (1, 9)}, *data, trials=1)
    assert isinstance(study.best_params["method__weight"], float)
    assert isinstance(study.best_params["log_every"], int)


def test_the_end_of_a_trial_is_no_checkpoint_too(data):
    (trial,) = tune(base(steps=2), {"lr": [0.01]}, *data, trials=1, checkpoints=4).trials
    assert len(trial.intermediate_values) == 1


def test_the_same_seed_draws_the_same_settings(data):
    one, two = (tune(base(), SPACE, *data, trials=2, seed=3) for _ in range(2))
    assert [t.params for t in one.trials] == [t.params for t in two.trials]
    assert [t.value for t in one.trials] == [t.value for t in two.trials]


def test_a_search_goes_on_in_its_file(data, tmp_path):
    tune(base(), SPACE, *data, trials=2, storage=tmp_path / "new" / "trials.log")
    assert len(tune(base(), SPACE, *data, trials=3, storage=tmp_path / "new" / "trials.log").trials) == 3
    assert len(tune(base(), SPACE, *data, trials=2, storage=tmp_path / "new" / "trials.log").trials) == 3


def test_a_database_can_keep_it(data, tmp_path):
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    tune(base(steps=4), SPACE, *data, trials=1, storage=url)
    assert len(tune(base(steps=4), SPACE, *data, trials=2, storage=url).trials) == 2


def test_trainings_that_fail_or_alarm_are_pruned(data):
    study = tune(base(optimizer="sgd"), {"lr": [1e-2, 1e30]}, *data, trials=6)
    states = {trial.params["lr"]: trial.state.name for trial in study.trials}
    assert states == {1e-2: "COMPLETE", 1e30: "PRUNED"}
    assert study.best_params == {"lr": 1e-2}


@pytest.mark.parametrize("on_collapse", ["warn", "source-only"])
def test_a_search_that_prunes_all_says_why(on_collapse, data):
    harmful = base(steps=200, weight_decay=5.0, optimizer="sgd", on_collapse=on_collapse)
    with pytest.raises(TrainingFailed, match=r"every trial was pruned, the last one because: .*step "):
        tune(harmful, {"lr": [0.1]}, *data, trials=1)


def test_another_search_in_the_same_file_is_refused_and_the_same_goes_on_with_other_settings(data, tmp_path):
    place = tmp_path / "trials.log"
    drawn = lambda study: [tuple(sorted(t.params.items())) for t in study.trials]  # noqa: E731
    search = {"adapter": base(steps=4), "space": SPACE, "storage": place, "trials": 2}
    search |= dict(zip(("X", "y", "X_target"), data, strict=True))
    first = drawn(tune(**search))
    more = drawn(tune(**{**search, "trials": 4}))
    assert more[:2] == first
    assert len(set(more)) == 4
    others = {"validator": "entropy"}, {"adapter": base(steps=5)}, {"space": {"lr": (0.1, 0.2)}}, {"y": 1 - data[1]}
    for other in others:
        with pytest.raises(ValueError, match="holds a search with other data, settings, space, method, seed or"):
            tune(**{**search, **other})


def test_a_regressor_is_refused(data):
    with pytest.raises(ValueError, match="a DomainRegressor cannot be tuned"):
        tune(DomainRegressor(), SPACE, *data)


@pytest.mark.parametrize("validator", ["mixval", "information-maximization"])
def test_other_validators_can_be_asked_for(validator, data):
    study = tune(base(steps=4), {"lr": (1e-3, 1e-2)}, *data, trials=1, validator=validator)
    assert np.isfinite(study.best_value)


@pytest.mark.parametrize(
    ("space", "settings", "message"),
    [
        ({}, {}, "the space is empty"),
        ({"rate": (0.1, 0.2)}, {}, "there is no parameter 'rate' to search; there are: "),
        ({"lr": (0.2, 0.1)}, {}, r"lr=\(0.2, 0.1\) is no range"),
        ({"lr": (0.1, float("inf"))}, {}, r"lr=\(0.1, inf\) is no range"),
        ({"lr": (0.1, 0.1)}, {}, r"lr=\(0.1, 0.1\) is no range"),
        ({"lr": (0.0, 0.1, "log")}, {}, "with 'log' behind it above 0"),
        ({"lr": []}, {}, r"lr=\[\] is no range"),
        ({"lr": (0.1, 0.2, "lin")}, {}, "is no range"),
        ({"lr": "fast"}, {}, "lr='fast' is no range"),
        ({"lr": (0.1, 0.2)}, {"validator": "agreement"}, "validator='agreement' cannot score a single training"),
        ({"lr": (0.1, 0.2)}, {"validator": "accuracy"}, "choose one of: source-accuracy"),
        ({"lr": (0.1, 0.2)}, {"trials": 0}, "trials=0 must be a whole number of at least 1"),
        ({"lr": (0.1, 0.2)}, {"seed": -1}, "seed=-1 must be a whole number of at least 0"),
        ({"lr": (0.1, 0.2)}, {"trials": 1.5}, "trials=1.5 must be a whole number"),
        ({"lr": (0.1, 0.2)}, {"checkpoints": 0}, "checkpoints=0 must be a whole number of at least 1"),
    ],
)
def test_what_cannot_be_searched_is_refused(space, settings, message, data):
    with pytest.raises(ValueError, match=message):
        tune(base(), space, *data, **settings)


def test_sources_and_weights_reach_the_trainings_and_tell_searches_apart(data, tmp_path):
    domain, seen = np.arange(len(data[1])) % 2, []

    class Seeing(DomainAdapter):
        def fit(self, X, y, X_target, **given):
            seen.append(given.get("sample_domain"))
            return super().fit(X, y, X_target, **given)

    settings = base(steps=4).get_params(deep=False)
    space = {"lr": (1e-3, 1e-2)}
    tune(Seeing(**settings), space, *data, sample_domain=domain, trials=1, storage=tmp_path / "t.log")
    assert set(seen[-1]) == {0, 1}
    for other in ({}, {"sample_weight": domain}):
        with pytest.raises(ValueError, match="holds a search with other data"):
            tune(Seeing(**settings), space, *data, **other, trials=1, storage=tmp_path / "t.log")


def test_rows_too_few_for_a_validator_show_before_the_first_trial(make_arrays):
    few, trials = make_arrays(120, 5), []
    with pytest.raises(ValueError, match="1 target rows cannot make"):
        tune(
            base(steps=4, batch_size=4),
            {"lr": (1e-3, 1e-2)},
            few.x,
            few.y,
            few.xt,
            validator="class-ami",
            on_step=lambda trial, step: trials.append(trial),
        )
    assert not trials


def test_the_extra_is_named_where_optuna_is_missing(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"tuning needs Optuna: pip install 'dann\[tune\]'"):
        tune(base(), SPACE, *data)


def test_clusters_that_tell_nothing_are_warned_of(data):
    x, y, xt = data
    y = np.random.default_rng(0).permutation(y)
    with pytest.warns(UserWarning, match="say next to nothing about its classes"):
        tune(base(), SPACE, x, y, xt, trials=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tune(base(), SPACE, x, y, xt, trials=1, validator="entropy")


@pytest.mark.parametrize("space", [{"batch_size": [8, "many"]}, {"lr": (-0.1, 0.1)}, {"batch_size": (0, 8)}])
def test_settings_that_cannot_train_are_refused_before_anything_is_kept(space, data, tmp_path, capsys):
    place = tmp_path / "trials.log"
    with pytest.raises(ValueError, match="must be a"):
        tune(base(), space, *data, trials=1, storage=place)
    assert "Traceback" not in capsys.readouterr().err
    assert tune(base(), {"batch_size": [8, 16]}, *data, trials=1, storage=place).best_params["batch_size"] in (8, 16)


def test_choices_that_go_together_only_are_taken(data):
    space = {"method": ["dann", "adda"], "pretrain_steps": [10, 20]}  # ADDA alone lacks its pretraining
    assert tune(DomainAdapter(steps=20, batch_size=16), space, *data, trials=2).best_params["pretrain_steps"] >= 10
    space["pretrain_steps"] = [0, 20]  # it goes with the last choice alone
    with pytest.raises(ValueError, match="give pretrain_steps"):
        tune(DomainAdapter(steps=20, batch_size=16), {**space, "pretrain_steps": [0]}, *data, trials=1)
    tried(DomainAdapter(steps=20, batch_size=16), space, "method", "adda", divided(*data)[1])
    with pytest.raises(ValueError, match="give pretrain_steps"):
        tune(DomainAdapter(steps=20, batch_size=16), {"method": ["dann", "adda"]}, *data, trials=2)


def test_searches_of_other_methods_of_ones_own_are_kept_apart(data, tmp_path):
    class Mine(DANN):
        pass

    storage = tmp_path / "search.log"
    tune(base(method=Mine(0.1)), {"lr": [0.01]}, *data, trials=1, storage=storage)
    for other in (Mine(0.2), type("Mine", (DANN,), {"check": lambda self, domains: None})(0.1)):
        with pytest.raises(ValueError, match="holds a search with other data, settings"):
            tune(base(method=other), {"lr": [0.01]}, *data, trials=1, storage=storage)


def test_parameters_of_a_method_given_by_name_are_searched(data):
    study = tune(base(method="dann", steps=4), {"method__weight": (0.1, 1.0)}, *data, trials=1)
    assert 0.1 <= study.best_params["method__weight"] <= 1


def test_a_search_with_other_checkpoints_or_groups_is_another(data, tmp_path):
    place = tmp_path / "trials.log"
    tune(base(steps=4), SPACE, *data, trials=1, storage=place)
    tune(base(steps=4), SPACE, *data, trials=1, storage=tmp_path / "grouped.log", groups=np.arange(120) // 6)
    for kept, other in (
        (place, {"checkpoints": 2}),
        (place, {"groups": np.arange(120) // 6}),
        (tmp_path / "grouped.log", {"groups": np.arange(120) // 4}),
    ):
        with pytest.raises(ValueError, match="holds a search with other data, settings"):
            tune(base(steps=4), SPACE, *data, trials=1, storage=kept, **other)


def test_a_trial_is_never_scored_by_the_source_only_that_it_fell_back_on(data):
    one_class = Planted(trouble="one class", onset=0.0)  # source-only itself is sound here
    adapter = base(method=one_class, steps=300, lr=0.01, on_collapse="source-only")
    with pytest.raises(TrainingFailed, match=r"pruned, the last one because: the target's rows get 1\.0 classes"):
        tune(adapter, {"batch_size": [16]}, *data, trials=1)


@pytest.mark.parametrize(("trend", "last"), [(-1.0, "PRUNED"), (1.0, "COMPLETE")])
def test_a_trial_below_the_median_of_those_before_it_stops_at_its_checkpoint(trend, last, data, monkeypatch):
    scores, trained = itertools.count(), []
    monkeypatch.setitem(VALIDATORS, "entropy", lambda evidence: trend * next(scores))
    watch = lambda trial, step: trained.append(trial)  # noqa: E731
    search = {"validator": "entropy", "trials": 6, "checkpoints": 2, "on_step": watch}
    study = tune(base(steps=8), {"lr": (1e-3, 1e-2)}, *data, **search)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5 + [last]
    assert [trained.count(k) for k in range(6)] == [8] * 5 + [4 if last == "PRUNED" else 8]


def test_trials_of_other_lengths_are_compared_at_the_same_checkpoint(data, monkeypatch):
    scores = itertools.count()
    monkeypatch.setitem(VALIDATORS, "entropy", lambda evidence: -1.0 * next(scores))
    search = {"validator": "entropy", "trials": 6, "checkpoints": 2}
    study = tune(base(), {"steps": (8, 40)}, *data, **search)
    assert len({trial.params["steps"] for trial in study.trials}) > 1
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 5 + ["PRUNED"]


# Storages that cannot be opened, and what prunes a trial.


@pytest.mark.parametrize("storage", ["nosuch://x", "mysql://h/x", "sqlite:////no/such/folder/trials.db", "://"])
def test_a_storage_that_cannot_be_opened_is_named_in_one_line(storage, data):
    with pytest.raises(ValueError, match=f"^the storage {storage} cannot be opened .*; give a file") as error:
        tune(base(steps=4), {"lr": [0.01]}, *data, trials=1, storage=storage)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["{\n", "garbage\n", '"x"\n', "{}\n", '{"op_code": 99, "worker_id": "a"}\n'])
def test_a_file_that_holds_no_search_is_named_and_left_alone(content, data, tmp_path):
    place = tmp_path / "trials.log"
    place.write_text(content)
    with pytest.raises(
        ValueError, match=r"trials\.log is no readable search .*; give another file, or delete one that broke"
    ):
        tune(base(steps=4), {"lr": [0.01]}, *data, trials=1, storage=place)
    assert place.read_text() == content


def test_a_dead_adversary_prunes_no_trial(data):
    adapter = base(method=Planted(trouble="no gradient", onset=0.0), steps=300, lr=0.01)
    with pytest.warns(TrainingWarning, match="dead-adversary"):
        adapter.fit(*data)
    study = tune(adapter, {"batch_size": [16]}, *data, trials=1)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"]


def test_a_search_leaves_the_users_objects_as_they_are(data):
    given = DANN(weight=1.0)
    study = tune(base(), {"method": [given], "method__weight": (0.1, 0.9)}, *data, trials=2)
    assert given.weight == 1.0
    assert DomainAdapter().set_params(**study.best_params).method.weight == study.best_params["method__weight"]


def test_objects_that_no_storage_keeps_are_refused_before_anything_is_kept(data, tmp_path):
    with pytest.raises(ValueError, match="backbone is searched among objects, which no storage keeps"):
        tune(base(), {"backbone": [MLP((4,)), MLP((8,))]}, *data, trials=1, storage=tmp_path / "trials.log")
    assert not (tmp_path / "trials.log").exists()


def test_a_search_that_was_cut_off_in_writing_is_told(data, tmp_path):
    place = tmp_path / "trials.log"
    tune(base(), {"lr": (1e-3, 1e-1)}, *data, trials=1, storage=place)
    cut = place.read_bytes()[:-40]
    place.write_bytes(cut)
    with pytest.raises(ValueError, match="its last line is half-written: delete that line to go on"):
        tune(base(), {"lr": (1e-3, 1e-1)}, *data, trials=1, storage=place)
    assert place.read_bytes() == cut


def test_a_search_that_was_interrupted_draws_the_same_settings_again(data, tmp_path):
    def drawn(study):
        return [t.params for t in study.trials if t.state.name in ("COMPLETE", "PRUNED")]

    def interrupt(trial, step):
        if trial == 2:
            raise KeyboardInterrupt

    place = tmp_path / "trials.log"
    with pytest.raises(KeyboardInterrupt):
        tune(base(), SPACE, *data, trials=4, storage=place, on_step=interrupt)
    resumed = tune(base(), SPACE, *data, trials=4, storage=place)
    assert drawn(resumed) == drawn(tune(base(), SPACE, *data, trials=4))
    assert len({repr(params) for params in drawn(resumed)}) == 4


def test_a_search_that_was_killed_ends_with_the_trials_that_were_asked_for(data, tmp_path):
    place = tmp_path / "trials.log"
    whole = [t.params for t in tune(base(), SPACE, *data, trials=3, storage=place).trials]
    lines = place.read_text().splitlines(keepends=True)
    begun = [k for k, line in enumerate(lines) if json.loads(line)["op_code"] == 4]  # of a trial
    place.write_text("".join(lines[: begun[1] + 1]))  # killed in the second one
    resumed = tune(base(), SPACE, *data, trials=3, storage=place)
    assert [t.state.name for t in resumed.trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert [t.params for t in resumed.trials if t.value is not None] == whole
