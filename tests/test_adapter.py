import copy
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, PredefinedSplit, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import dann.estimator
from dann import (
    CDAN,
    DAN,
    DANN,
    MCC,
    MLP,
    DomainAdapter,
    Method,
    MNISTNet,
    ModelFileError,
    Sum,
    TrainingDiverged,
    TrainingWarning,
)
from dann.evidence import clusters, mixtures
from dann.functional import domain_loss
from dann.runs import load_checkpoint, load_model, save_checkpoint, save_model
from dann.validators import VALIDATORS


def adapter(method="dann", **settings):
    return DomainAdapter(method, **{"backbone": MLP(hidden=(8,)), "steps": 4, "batch_size": 8, **settings})


@pytest.fixture
def fitted(arrays):
    return adapter().fit(arrays.x, arrays.y, arrays.xt)


@pytest.fixture
def pooled(arrays):
    """Rows of both domains in one table, with hidden target labels: (x, y, sample_domain)."""
    n, m = len(arrays.x), len(arrays.xt)
    x = np.concatenate([arrays.x, arrays.xt])
    return x, np.concatenate([arrays.y, np.full(m, -1)]), np.repeat([0, -1], [n, m])


@pytest.fixture
def folds(pooled):
    """Two folds of source rows; the target's rows are always trained on."""
    marks = pooled[2]
    return PredefinedSplit(np.where(marks < 0, -1, np.arange(len(marks)) // 20))


# predictions


def test_probabilities_predictions_and_score_agree(fitted, arrays):
    p = fitted.predict_proba(arrays.xt)
    assert p.shape == (len(arrays.xt), 2)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(fitted.predict(arrays.xt), fitted.classes_[p.argmax(1)])
    accuracy = (fitted.predict(arrays.xt) == arrays.yt).mean()
    assert fitted.score(arrays.xt, arrays.yt) == fitted.evaluate(arrays.xt, arrays.yt)["accuracy"] == accuracy


def test_the_head_on_the_transformed_features_gives_the_probabilities(fitted, arrays):
    features = torch.from_numpy(fitted.transform(arrays.xt))
    with torch.no_grad():
        p = fitted.network_.head(features).softmax(1).numpy()
    np.testing.assert_allclose(p, fitted.predict_proba(arrays.xt), rtol=1e-5)


def test_predictions_do_not_depend_on_how_many_rows_are_asked_at_once(fitted, arrays, monkeypatch):
    whole = fitted.predict_proba(arrays.xt)
    monkeypatch.setattr(dann.estimator, "rows_at_once", lambda *_: 7)
    np.testing.assert_allclose(fitted.predict_proba(arrays.xt), whole, rtol=1e-5)
    np.testing.assert_allclose(fitted.predict_proba(arrays.xt[:1]), whole[:1], rtol=1e-5)


def test_arrays_that_cannot_be_written_are_welcome_and_stay_as_they_are(arrays):
    x, xt = arrays.x.copy(), arrays.xt.copy()
    for array in (x, xt):
        array.flags.writeable = False  # as memory-mapped files are
    model = adapter().fit(x, arrays.y, xt)
    model.predict(xt)
    np.testing.assert_array_equal(x, arrays.x)
    np.testing.assert_array_equal(xt, arrays.xt)


def test_domains_are_told_by_number_sources_first(arrays):
    marks = np.arange(len(arrays.x)) % 2
    model = adapter().fit(arrays.x, arrays.y, arrays.xt, sample_domain=marks)
    assert set(model.predict_domain(arrays.xt)) <= {0, 1, 2}


def test_names_of_classes_come_back(arrays):
    names = np.array(["cat", "dog"])
    model = adapter(steps=60, lr=0.02).fit(arrays.x, names[arrays.y], arrays.xt)
    assert model.classes_.tolist() == ["cat", "dog"]
    assert model.score(arrays.x, names[arrays.y]) == 1


def test_images_take_the_papers_mnist_network(images):
    model = DomainAdapter(steps=2, batch_size=4).fit(images.x, images.y, images.xt)
    assert [m.out_channels for m in model.network_.encoder if isinstance(m, nn.Conv2d)] == [32, 48]
    channels_last = images.xt.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(model.predict_proba(channels_last), model.predict_proba(images.xt), rtol=1e-4)


def test_a_frame_is_predicted_in_the_order_of_its_names(arrays):
    names = ["a", "b", "c"]
    model = adapter().fit(pd.DataFrame(arrays.x, columns=names), arrays.y, pd.DataFrame(arrays.xt, columns=names))
    mixed = pd.DataFrame(arrays.xt, columns=names)[["c", "a", "b"]]
    np.testing.assert_array_equal(model.predict_proba(mixed), model.predict_proba(arrays.xt))


# what is refused


@pytest.mark.parametrize("call", ["predict", "predict_proba", "transform", "predict_domain"])
def test_asking_before_fit_is_not_fitted(call, arrays):
    with pytest.raises(NotFittedError):
        getattr(adapter(), call)(arrays.xt)


def test_saving_before_fit_is_not_fitted(tmp_path):
    with pytest.raises(NotFittedError):
        adapter().save(tmp_path / "m.safetensors")


def test_predicting_with_other_columns_is_refused(fitted, arrays):
    with pytest.raises(ValueError, match=r"the data has rows of shape \(2,\), the source has rows of shape \(3,\)"):
        fitted.predict(arrays.xt[:, :2])


def test_predicting_with_other_column_names_names_them(arrays):
    frames = [pd.DataFrame(x, columns=["a", "b", "c"]) for x in (arrays.x, arrays.xt)]
    model = adapter().fit(frames[0], arrays.y, frames[1])
    with pytest.raises(ValueError, match="it lacks c; only it has z"):
        model.predict(frames[1].rename(columns={"c": "z"}))


def test_a_method_without_domain_head_predicts_no_domain(arrays):
    model = adapter("source-only").fit(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(ValueError, match="'source-only' trains no domain head; DANN does, and others"):
        model.predict_domain(arrays.xt)


def test_evaluating_on_labels_that_the_source_lacks_names_them(fitted, arrays):
    with pytest.raises(ValueError, match=r"labels that the source does not have: \[5, 9\]; known are \[0, 1\]"):
        fitted.evaluate(arrays.xt[:3], [0, 5, 9])


@pytest.mark.parametrize("log_every", [1, 50])
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_training_that_diverges_says_where_and_what_to_lower(log_every, arrays):
    model = adapter(optimizer="sgd", lr=1e30, steps=6, log_every=log_every)
    with pytest.raises(TrainingDiverged, match=r"the loss '\w+' is (nan|inf) at step \d+: lower lr .now 1e\+30"):
        model.fit(arrays.x, arrays.y, arrays.xt)
    assert model.history_[0]["step"] == 0
    with pytest.raises(NotFittedError):
        model.predict(arrays.xt)


def test_clipped_gradients_train_what_else_diverges(arrays):
    settings = {"optimizer": "sgd", "lr": 0.01, "steps": 60, "scaling": "none", "weight_decay": 0.0}
    large = arrays.x * 1e6, arrays.y, arrays.xt * 1e6
    with pytest.raises(TrainingDiverged, match="give a clip_norm"):
        adapter("source-only", backbone=MLP((8,), "relu"), **settings).fit(*large)
    adapter("source-only", backbone=MLP((8,), "relu"), clip_norm=1e-3, **settings).fit(*large)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": 0}, "steps=0 must be a whole number of at least 1"),
        ({"steps": 10.0}, "steps=10.0 must be a whole number"),
        ({"batch_size": -1}, "batch_size=-1 must be"),
        ({"log_every": 0}, "log_every=0 must be"),
        ({"random_state": 1.5}, "random_state=1.5 must be a whole number, or None"),
        ({"lr": 0.0}, "lr=0.0 must be a number above 0"),
        ({"lr": float("nan")}, "lr=nan must be"),
        ({"clip_norm": 0}, "clip_norm=0 must be a number above 0, or None"),
        ({"clip_norm": "1"}, "clip_norm='1' must be a number above 0"),
        ({"clip_norm": True}, "clip_norm=True must be a number above 0"),
        ({"averaging": 1.0}, r"averaging=1.0 must lie in \[0, 1\)"),
        ({"averaging": float("nan")}, "averaging=nan must lie"),
        ({"optimizer": "lbfgs"}, "unknown optimizer 'lbfgs'; choose one of: adam, adamw, sgd"),
        ({"lr_schedule": "triangle"}, "unknown lr_schedule 'triangle'; choose one of: constant, annealing"),
        ({"scaling": "max"}, "unknown scaling 'max'; choose one of: standard"),
        ({"encoding": "both"}, "unknown encoding 'both'; choose one of: joint, separate, per-domain"),
        ({"initialization": "zeros"}, "unknown initialization 'zeros'; choose one of: torch"),
        ({"method": "dann2"}, "unknown method 'dann2'; did you mean dann.*; . joins several"),
        ({"backbone": "resnet"}, "unknown backbone 'resnet'; choose one of: auto, mlp, .*or give a module"),
        ({"backbone": "mnist"}, "MNISTNet takes images"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"random_state": np.random.RandomState(0)}, "random_state=RandomState.* must be a whole number, or None"),
    ],
)
def test_settings_that_cannot_train_are_refused_with_the_choices(settings, says, arrays):
    with pytest.raises(ValueError, match=says):
        adapter(**settings).fit(arrays.x, arrays.y, arrays.xt)


def test_settings_are_checked_before_the_data_are(arrays):
    with pytest.raises(ValueError, match="steps=0"):
        adapter(steps=0).fit(arrays.x * np.nan, arrays.y, arrays.xt)


def test_a_typo_in_a_parameter_names_the_valid_ones():
    with pytest.raises(ValueError, match=r"Invalid parameter 'stepz'.*'steps'"):
        adapter().set_params(stepz=3)
    with pytest.raises(ValueError, match=r"(?s)Invalid parameter 'wieght'.*'weight'"):
        adapter(DANN()).set_params(method__wieght=3)
    with pytest.raises(TypeError, match="wieght"):
        DANN(wieght=3)


# scikit-learn


def test_parameters_of_method_and_backbone_are_parameters_of_the_estimator(arrays):
    model = adapter(DANN(weight=0.5)).set_params(method__weight=0.25, backbone__hidden=(5,), lr=0.1)
    assert model.get_params()["method__weight"] == 0.25
    assert model.fit(arrays.x, arrays.y, arrays.xt).transform(arrays.xt).shape[1] == 5


def test_fitting_leaves_the_given_objects_alone(arrays):
    method, backbone = DANN(), MLP(hidden=(4,))
    before = dict(vars(method)), dict(vars(backbone))
    adapter(method, backbone=backbone).fit(arrays.x, arrays.y, arrays.xt)
    assert (vars(method), vars(backbone)) == before


@pytest.mark.parametrize("seed", [np.int64(7), np.uint32(4_000_000_000), 7])
def test_a_seed_may_be_any_integer(seed, arrays):
    models = [adapter(random_state=s).fit(arrays.x, arrays.y, arrays.xt) for s in (seed, int(seed))]
    np.testing.assert_array_equal(*(m.predict_proba(arrays.xt) for m in models))


def test_without_a_seed_every_fit_draws_one_and_keeps_it(arrays):
    models = [adapter(random_state=None).fit(arrays.x, arrays.y, arrays.xt) for _ in range(2)]
    assert models[0].seed_ != models[1].seed_
    again = adapter(random_state=models[0].seed_).fit(arrays.x, arrays.y, arrays.xt)
    np.testing.assert_array_equal(again.predict_proba(arrays.xt), models[0].predict_proba(arrays.xt))


def test_cross_validation_passes_the_domains_of_the_rows(pooled, folds):
    x, y, marks = pooled
    scores = cross_validate(adapter(steps=60, lr=0.02), x, y, cv=folds, params={"sample_domain": marks})
    assert (scores["test_score"] >= 0.9).all()


def test_a_grid_search_runs_over_the_methods_parameters(pooled, folds):
    x, y, marks = pooled
    search = GridSearchCV(adapter(DANN()), {"method__weight": [0.0, 1.0], "steps": [2, 30]}, cv=folds)
    search.fit(x, y, sample_domain=marks)
    assert search.best_params_.keys() == {"method__weight", "steps"}
    assert search.predict(x).shape == y.shape


def test_metadata_routing_reaches_fit_through_a_pipeline_and_a_search(pooled, folds):
    x, y, marks = pooled
    with config_context(enable_metadata_routing=True):
        model = adapter(DANN()).set_fit_request(sample_domain=True)
        search = GridSearchCV(make_pipeline(StandardScaler(), model), {"domainadapter__steps": [1, 2]}, cv=folds)
        search.fit(x, y, sample_domain=marks)
    assert search.best_estimator_[-1].n_domains_ == 2


# averaged weights


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.network_.parameters()]).double().numpy()


def test_weights_that_are_replaced_are_averaged_too(arrays):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, x):
            return self.layer(x)

    def fit(averaging):
        seen = []

        def on_step(step):
            layer = model.network_.encoder.layer
            layer.weight.data = nn.functional.normalize(layer.weight.data)
            seen.append(layer.weight.detach().clone())

        model = adapter(backbone=Scaled(), steps=4, averaging=averaging, compile=False)
        model.fit(arrays.x, arrays.y, arrays.xt, on_step=on_step)
        return model.network_.encoder.layer.weight.detach(), seen

    averaged, seen = fit(0.9)
    assert not torch.equal(averaged, seen[-1])
    last, seen = fit(0.0)
    assert torch.equal(last, seen[-1])


def test_the_trained_model_is_the_average_of_the_weights_on_the_way(arrays):
    def fit(**settings):
        kept = []
        model = adapter(**{"steps": 12, "lr": 0.05, "lr_schedule": "constant", **settings})
        model.fit(arrays.x, arrays.y, arrays.xt, on_step=lambda _: kept.append(weights(model)))
        return model, kept

    averaged, kept = fit(averaging=0.5)
    last, _ = fit()
    np.testing.assert_array_equal(kept[-1], weights(last))  # averaging leaves the training alone
    expected = weights(fit(lr=1e-30, weight_decay=0.0)[0])  # the initial weights
    for n, current in enumerate(kept, 1):
        decay = min(0.5, n / (n + 9))
        expected = decay * expected + (1 - decay) * current
    np.testing.assert_allclose(weights(averaged), expected, atol=1e-6)
    assert np.abs(weights(averaged) - kept[-1]).max() > 0.01


# runs


@pytest.mark.parametrize(
    ("settings", "data"),
    [
        ({"lr": 0.5}, {}),
        ({"steps": 9}, {}),
        ({"random_state": 1}, {}),
        ({"method": DANN(weight=0.5)}, {}),
        ({"method": "source-only"}, {}),
        ({"backbone": MLP(hidden=(9,))}, {}),
        ({}, {"x": lambda a: a.x + 1}),
        ({}, {"y": lambda a: 1 - a.y}),
        ({}, {"y": lambda a: a.y + 1}),
        ({}, {"xt": lambda a: a.xt[:-1]}),
        ({}, {"yt": lambda a: a.yt}),
    ],
)
def test_going_on_with_other_settings_or_data_is_refused(settings, data, arrays, tmp_path):
    adapter(DANN()).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    given = {"x": arrays.x, "y": arrays.y, "xt": arrays.xt, "yt": None, **{k: f(arrays) for k, f in data.items()}}
    with pytest.raises(ValueError, match="holds a training with other data or settings; give another folder"):
        adapter(**{"method": DANN(), **settings}).fit(*given.values(), run=tmp_path)


@dataclass
class Pull(Method):
    """A user's own method: one class, no registration."""

    weight: float = 1.0

    def build(self, net):
        return {"aim": nn.Linear(net.dim, 1)}

    def loss(self, net, source, target, progress):
        gap = net.parts["aim"](target.features).mean() - net.parts["aim"](source.features).mean()
        return {"label": self.label_loss(source, target), "gap": self.weight * progress * gap.square()}


class OtherPull(Pull):
    pass


def test_going_on_with_another_method_of_ones_own_is_refused(arrays, tmp_path):
    adapter(Pull()).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    for other in (Pull(weight=2.0), OtherPull(), DANN()):
        with pytest.raises(ValueError, match="other data or settings"):
            adapter(other).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)


def test_going_on_with_another_module_of_ones_own_is_refused(arrays, tmp_path):
    def module(seed, activation):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), activation)

    adapter(backbone=module(0, nn.ReLU())).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    adapter(backbone=module(0, nn.ReLU())).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    for other in (module(1, nn.ReLU()), module(0, nn.Tanh())):
        with pytest.raises(ValueError, match="other data or settings"):
            adapter(backbone=other).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)


def test_a_finished_run_is_read_and_not_trained_again(arrays, tmp_path):
    first = adapter().fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    taken = []
    again = adapter().fit(arrays.x, arrays.y, arrays.xt, run=tmp_path, on_step=taken.append)
    assert taken == []
    assert again.history_ == first.history_
    np.testing.assert_array_equal(again.predict_proba(arrays.xt), first.predict_proba(arrays.xt))


def test_a_run_without_a_seed_goes_on_with_the_one_it_drew(arrays, tmp_path):
    first = adapter(random_state=None).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    assert adapter(random_state=None).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path).seed_ == first.seed_


def test_every_step_is_shown_and_every_few_are_kept(arrays):
    shown = []
    model = adapter(steps=6, log_every=4).fit(arrays.x, arrays.y, arrays.xt, on_step=shown.append)
    assert [step.number for step in shown] == list(range(6))
    assert [entry["step"] for entry in model.history_] == [0, 4, 5]
    assert model.history_[1] == {"step": 4, **{name: float(term) for name, term in shown[4].terms.items()}}


def test_logging_more_often_does_not_change_the_training(arrays):
    often, seldom = (adapter(log_every=n).fit(arrays.x, arrays.y, arrays.xt) for n in (1, 100))
    np.testing.assert_array_equal(often.predict_proba(arrays.xt), seldom.predict_proba(arrays.xt))


# model files


@pytest.mark.parametrize("initialization", ["torch", "truncated-normal", "xavier", "he"])
def test_a_saved_image_model_predicts_the_same_bits(initialization, images, tmp_path):
    settings = {"steps": 1, "batch_size": 4, "scaling": "image", "initialization": initialization}
    model = DomainAdapter(DANN(hidden=(4,)), MNISTNet(head_hidden=(4,)), **settings)
    model.fit(images.x, images.y, images.xt)
    loaded = DomainAdapter.load(model.save(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(loaded.predict_proba(images.xt), model.predict_proba(images.xt))


def test_a_loaded_models_weights_lie_in_memory_as_those_of_a_fitted_one(arrays, tmp_path):
    # where they do not, products take other instructions there, and round otherwise
    for columns in range(1, 6):
        model = adapter(steps=1).fit(arrays.x[:, :1].repeat(columns, 1), arrays.y, arrays.xt[:, :1].repeat(columns, 1))
        loaded = DomainAdapter.load(model.save(tmp_path / "model.safetensors"), device="cpu")
        assert {weights.data_ptr() % 64 for weights in loaded.network_.state_dict().values()} == {0}


@pytest.mark.parametrize("labels", [["cat", "dog"], [False, True], [-1, 1], [0.0, 1.0]])
def test_a_loaded_model_knows_the_users_labels_and_columns(labels, arrays, tmp_path):
    frames = [pd.DataFrame(x, columns=["a", "b", "c"]) for x in (arrays.x, arrays.xt)]
    model = adapter().fit(frames[0], np.array(labels)[arrays.y], frames[1])
    loaded = DomainAdapter.load(model.save(tmp_path / "m.safetensors"))
    assert loaded.classes_.dtype == model.classes_.dtype
    assert loaded.predict(frames[1][["b", "c", "a"]]).tolist() == model.predict(frames[1]).tolist()
    np.testing.assert_array_equal(loaded.predict_domain(frames[1]), model.predict_domain(frames[1]))


def test_weights_decide_what_the_training_sees(arrays):
    halves = np.arange(40) < 20
    settings = {"method": "source-only", "steps": 30, "batch_size": 8, "scaling": "none"}
    wrong = np.where(halves, arrays.y, 1 - arrays.y)  # half of the labels are lies, of no weight
    weighed = DomainAdapter(**settings).fit(arrays.x, wrong, arrays.xt, sample_weight=halves.astype(float))
    assert weighed.score(arrays.xt, arrays.yt) > 0.9
    assert DomainAdapter(**settings).fit(arrays.x, wrong, arrays.xt).score(arrays.xt, arrays.yt) < 0.9
    equal = DomainAdapter(**settings).fit(arrays.x, wrong, arrays.xt, sample_weight=np.full(40, 3.0))
    plain = DomainAdapter(**settings).fit(arrays.x, wrong, arrays.xt)
    assert np.array_equal(equal.predict_proba(arrays.xt), plain.predict_proba(arrays.xt))


def test_a_rare_class_counts_when_classes_are_balanced():
    rng = np.random.default_rng(0)
    y = np.arange(400) % 20 == 0
    x = rng.normal(1.5 * y[:, None], 1.0, (400, 2))
    settings = {"method": "source-only", "backbone": MLP((4,)), "steps": 300}
    recalls = [
        DomainAdapter(class_weight=weight, **settings).fit(x, y, x).predict(x)[y].mean()
        for weight in (None, {True: 19.0}, "balanced")
    ]
    assert recalls[0] < 0.7 < 0.8 < recalls[1] == recalls[2]


def test_weights_and_class_weights_are_part_of_a_run_and_of_a_model(arrays, tmp_path):
    adapter = DomainAdapter(class_weight={1: 2.0, 0: 1.0}, steps=2, batch_size=8)
    adapter.fit(arrays.x, arrays.y, arrays.xt, run=tmp_path / "run")
    loaded = DomainAdapter.load(adapter.save(tmp_path / "model.safetensors"))
    assert loaded.class_weight == {1: 2.0, 0: 1.0}
    again = loaded.fit(arrays.x, arrays.y, arrays.xt)
    assert np.array_equal(again.predict_proba(arrays.xt), adapter.predict_proba(arrays.xt))
    with pytest.raises(ValueError, match="holds a training with other data or settings"):
        adapter.fit(arrays.x, arrays.y, arrays.xt, sample_weight=np.arange(40), run=tmp_path / "run")


def test_a_loaded_model_can_be_trained_anew_to_the_same_bits(fitted, arrays, tmp_path):
    loaded = DomainAdapter.load(fitted.save(tmp_path / "m.safetensors"))
    before = fitted.predict_proba(arrays.xt)
    np.testing.assert_array_equal(loaded.fit(arrays.x, arrays.y, arrays.xt).predict_proba(arrays.xt), before)


# modules and methods of one's own


class OwnNet(nn.Module):
    """Batch norm, a layer that nobody uses, and a frozen one."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.unused = nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Linear(2, 2)
        self.frozen = nn.Linear(6, 5).requires_grad_(False)

    def forward(self, x):
        return self.frozen(self.norm(self.first(x)).relu())


def test_a_module_of_ones_own_is_trained_as_a_copy_and_its_frozen_part_is_kept(arrays):
    module = OwnNet()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model = adapter(backbone=module, initialization="he", lr=0.1).fit(arrays.x, arrays.y, arrays.xt)
    after = model.network_.encoder.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert torch.equal(after["frozen.weight"], before["frozen.weight"])
    assert torch.equal(after["unused.weight"], before["unused.weight"])
    assert not torch.equal(after["first.weight"], before["first.weight"])
    assert model.transform(arrays.xt).shape == (len(arrays.xt), 5)


def test_a_model_with_a_module_of_ones_own_is_loaded_with_it(arrays, tmp_path):
    model = adapter(backbone=OwnNet()).fit(arrays.x, arrays.y, arrays.xt)
    path = model.save(tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=r"trained with backbone=… of your own, .* load.path, backbone=..."):
        DomainAdapter.load(path)
    loaded = DomainAdapter.load(path, backbone=OwnNet())
    np.testing.assert_array_equal(loaded.predict_proba(arrays.xt), model.predict_proba(arrays.xt))
    with pytest.raises(ModelFileError, match="does not describe a model"):
        DomainAdapter.load(path, backbone=nn.Linear(3, 5))


def test_a_module_that_does_not_fit_the_rows_is_refused(arrays):
    with pytest.raises(ValueError, match=r"the encoder cannot take rows of shape \(3,\)"):
        adapter(backbone=nn.Linear(4, 2)).fit(arrays.x, arrays.y, arrays.xt)


def test_a_method_of_ones_own_is_one_class(arrays, tmp_path):
    model = adapter(Pull(weight=0.5)).fit(arrays.x, arrays.y, arrays.xt)
    assert model.history_[0].keys() == {"step", "label", "gap"}
    assert model.history_[0]["gap"] == 0  # its own schedule over the progress
    path = model.save(tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=r"trained with method=… of your own, .* load.path, method=..."):
        DomainAdapter.load(path)
    loaded = DomainAdapter.load(path, method=Pull())
    np.testing.assert_array_equal(loaded.predict_proba(arrays.xt), model.predict_proba(arrays.xt))


def test_a_method_without_an_objective_says_what_to_define(arrays):
    class Empty(Method):
        pass

    with pytest.raises(TypeError, match="Empty defines neither loss nor moves"):
        adapter(Empty()).fit(arrays.x, arrays.y, arrays.xt)


@pytest.mark.parametrize("method", ["source-only", "dann", "vada", "mcd"])
def test_batch_norm_per_domain_keeps_what_is_moved_and_scaled_as_a_whole(method):
    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    x = rng.normal(4.0 * y[:, None] - 2, 0.7, (300, 2))
    xt = 3 * rng.normal(4.0 * y[:, None] - 2, 0.7, (300, 2)) + 20
    settings = {"backbone": MLP((8,), batch_norm=True), "steps": 200, "scaling": "none", "lr": 1e-2}
    apart = DomainAdapter(method, encoding="per-domain", **settings).fit(x, y, xt)
    assert apart.score(xt, y) > 0.97


def test_adda_is_refused_with_batch_norm_per_domain(arrays):
    with pytest.raises(ValueError, match="ADDA's source encoder keeps the source's statistics"):
        DomainAdapter("adda", pretrain_steps=1, steps=1, encoding="per-domain").fit(arrays.x, arrays.y, arrays.xt)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "adda", "encoding": "per-domain"}, "ADDA's source encoder"),
        ({"method": "fixmatch", "strong_augmentation": "none"}, "FixMatch compares rows"),
        ({"method": "dann+pada"}, "both train a part 'domain'"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_pretraining(settings, message, arrays, monkeypatch):
    monkeypatch.setattr(dann.estimator, "train", lambda *_: pytest.fail("has begun to train"))
    with pytest.raises(ValueError, match=message):
        DomainAdapter(pretrain_steps=5, **settings).fit(arrays.x, arrays.y, arrays.xt)


@pytest.mark.parametrize(("encoding", "batch_size", "sources"), [("separate", 1, 1), ("per-domain", 3, 2)])
def test_batch_norm_gets_more_than_one_row_of_a_domain(encoding, batch_size, sources, arrays):
    domain = np.arange(len(arrays.x)) % sources
    model = DomainAdapter("dann", MLP((4,), batch_norm=True), steps=1, batch_size=batch_size, encoding=encoding)
    with pytest.raises(ValueError, match=f"batch_size={batch_size} leaves batch norm 1 row of a domain"):
        model.fit(arrays.x, arrays.y, arrays.xt, sample_domain=domain)
    model.set_params(encoding="joint").fit(arrays.x, arrays.y, arrays.xt, sample_domain=domain)


@pytest.mark.parametrize("method", ["adabn", "tent"])
def test_a_target_of_one_row_has_no_statistics_to_adapt_to(method, arrays):
    model = DomainAdapter("source-only", MLP((4,), batch_norm=True), steps=1, batch_size=4)
    fitted = model.fit(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(ValueError, match=r"the target has 1 rows, and .* compares at least 2"):
        fitted.adapt_to(arrays.xt[:1], method)
    with pytest.raises(ValueError, match="batch_size=1 is too small"):
        fitted.adapt_to(arrays.xt, method, batch_size=1)


def test_separate_encoding_changes_the_training_of_a_network_with_batch_norm(arrays):
    torch.manual_seed(0)
    with_norm, without = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    for module, differs in ((with_norm, True), (without, False)):
        joint, separate = (
            adapter(backbone=module, encoding=encoding).fit(arrays.x, arrays.y, arrays.xt)
            for encoding in ("joint", "separate")
        )
        gap = np.abs(joint.predict_proba(arrays.xt) - separate.predict_proba(arrays.xt)).max()
        assert (gap > 1e-3) == differs


@pytest.mark.filterwarnings("ignore:no weight of the encoder")
@pytest.mark.parametrize("method", ["mcd", "shot"])
def test_an_encoder_that_cannot_train_is_refused_where_a_method_trains_it_alone(method, arrays):
    frozen = nn.Linear(3, 3).requires_grad_(False)

    def train():
        if method == "mcd":
            return adapter("mcd", backbone=frozen).fit(arrays.x, arrays.y, arrays.xt)
        return adapter("dann", backbone=frozen).fit(arrays.x, arrays.y, arrays.xt).adapt_to(arrays.xt, method)

    with pytest.raises(ValueError, match="there is nothing to train in encoder"):
        train()


def test_a_loaded_model_knows_the_precision_of_its_training(arrays, tmp_path):
    model = adapter(precision="bf16").fit(arrays.x, arrays.y, arrays.xt)
    assert DomainAdapter.load(model.save(tmp_path / "m.safetensors")).precision_ == torch.bfloat16


# evidence


@pytest.mark.parametrize("kind", ["table", "images"])
def test_evidence_holds_what_the_model_says(kind, arrays, images):
    data = arrays if kind == "table" else images
    model, other = (
        DomainAdapter(steps=3, batch_size=8, random_state=seed).fit(data.x, data.y, data.xt) for seed in (0, 1)
    )
    made = model.evidence(data.x, data.y, data.xt, mixed=True, structure=True, others=[other])
    assert np.array_equal(made.source_features, model.transform(data.x))
    assert np.array_equal(made.target_features, model.transform(data.xt))
    np.testing.assert_allclose(made.target_probabilities, model.predict_proba(data.xt), atol=1e-6)
    np.testing.assert_allclose(made.source_probabilities, model.predict_proba(data.x), atol=1e-6)
    assert np.array_equal(made.source_y, data.y)
    mixed = 0.55 * data.xt + 0.45 * data.xt[mixtures(len(data.xt))]
    by_hand = model.predict(mixed.round().astype(np.uint8) if kind == "images" else mixed)
    assert np.array_equal(model.classes_[made.mixed_logits.argmax(1)], by_hand)
    assert np.array_equal(other.classes_[made.other_target_logits[0].argmax(1)], other.predict(data.xt))
    assert all(np.isfinite(validator(made)) for validator in VALIDATORS.values())


def test_models_share_the_structure_of_the_inputs(arrays):
    model, other = (
        DomainAdapter(steps=3, batch_size=8, random_state=s).fit(arrays.x, arrays.y, arrays.xt) for s in (0, 1)
    )
    rows, crowd = (arrays.x[:30], arrays.y[:30], arrays.xt[:20]), np.concatenate([arrays.xt, arrays.xt + 9])
    seen = model.structure(rows[0], rows[2], crowd)
    assert np.array_equal(seen.source_clusters, clusters(rows[0], len(model.classes_)))
    assert np.array_equal(seen.crowd_clusters, clusters(crowd, len(model.classes_)))
    for one in (model, other):
        made = one.evidence(*rows, structure=seen)
        assert np.array_equal(one.classes_[made.crowd_classes], one.predict(crowd))
        assert made.crowd_clusters is seen.crowd_clusters


def test_a_structure_asks_for_a_fitted_model(arrays):
    with pytest.raises(NotFittedError):
        DomainAdapter().structure(arrays.x, arrays.xt)


@pytest.mark.parametrize("kind", ["float64", "int64", "channels last", "frame", "sparse"])
def test_predicting_copies_no_more_than_a_block_of_the_rows(kind, arrays):
    import tracemalloc

    random = np.random.default_rng(0)
    if kind == "channels last":
        x = random.integers(0, 256, (3000, 16, 16, 3), dtype=np.uint8)
        fitted = DomainAdapter("source-only", "small", steps=1, batch_size=4).fit(x[:20], np.arange(20) % 2, x[:20])
    else:
        x = random.normal(size=(300_000, 3)).astype("float64" if kind in ("frame", "sparse") else kind)
        fitted = DomainAdapter("source-only", MLP((2,)), steps=1, batch_size=4).fit(arrays.x, arrays.y, arrays.xt)
    size = x.nbytes
    x = pd.DataFrame(x) if kind == "frame" else csr_array(x) if kind == "sparse" else x
    fitted.predict(x[:10])
    tracemalloc.start()
    try:
        features = fitted.transform(x)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most - features.nbytes < size / 2
    assert np.array_equal(features[-10:], fitted.transform(x[-10:]))


def test_what_is_wrong_far_down_is_named_by_its_row(arrays):
    fitted = DomainAdapter("source-only", MLP((2,)), steps=1, batch_size=4).fit(arrays.x, arrays.y, arrays.xt)
    x = np.zeros((9000, 3))
    x[8000, 1] = np.nan
    with pytest.raises(ValueError, match=r"the data has 1 values .* the first in row 8000"):
        fitted.predict(x)


def test_no_more_than_two_thousand_target_rows_are_clustered(make_arrays):
    data = make_arrays(60, 2100)
    model = DomainAdapter(steps=1, batch_size=8).fit(data.x, data.y, data.xt)
    seen = model.structure(None, data.xt[:10], data.xt)
    assert seen.source_clusters is None
    assert seen.crowd_clusters.shape == (2000,) == seen.crowd.shape[:1]
    assert (data.xt[:, None, 0] == seen.crowd[:, 0]).any(0).all()


def test_evidence_of_labels_that_the_source_did_not_have_is_refused(arrays):
    model = DomainAdapter(steps=1, batch_size=8).fit(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(ValueError, match="labels that the source does not have"):
        model.evidence(arrays.x, arrays.y + 5, arrays.xt)


def test_a_snapshot_is_the_training_as_it_stands(arrays):
    taken = {}
    adapter = DomainAdapter(backbone=MLP((8,)), steps=20, batch_size=8, averaging=0.9, device="cpu")

    def keep(step):
        if step.number in (9, 19):
            taken[step.number] = adapter.snapshot()

    adapter.fit(arrays.x, arrays.y, arrays.xt, on_step=keep)
    last, middle = (taken[n].predict_proba(arrays.xt) for n in (19, 9))
    np.testing.assert_array_equal(last, adapter.predict_proba(arrays.xt))  # averaged, as the trained model is
    assert not np.array_equal(middle, last)
    later = adapter.snapshot()
    for parameter in adapter.network_.parameters():
        parameter.data.zero_()
    np.testing.assert_array_equal(later.predict_proba(arrays.xt), last)


def test_snapshots_leave_the_training_alone(arrays):
    make = lambda: DomainAdapter(backbone=MLP((8,)), steps=20, batch_size=8, averaging=0.9, device="cpu")  # noqa: E731
    watched, alone = make(), make()
    watched.fit(arrays.x, arrays.y, arrays.xt, on_step=lambda step: watched.snapshot())
    alone.fit(arrays.x, arrays.y, arrays.xt)
    np.testing.assert_array_equal(watched.predict_proba(arrays.xt), alone.predict_proba(arrays.xt))


@pytest.fixture
def judged(make_arrays):
    """A model of the source alone and a DANN, with two seeds each, and rows that are new to them."""
    data, new = make_arrays(80, 80), make_arrays(60, 64, seed=4)
    make = lambda method, seed: DomainAdapter(  # noqa: E731
        method, MLP((8,)), steps=40, batch_size=8, lr=0.01, random_state=seed, device="cpu"
    ).fit(data.x, data.y, data.xt)
    return {name: [make(name, seed) for seed in (0, 1)] for name in ("source-only", "dann")}, new


def test_assess_compares_with_a_baseline(judged):
    models, new = judged
    first, second = models["dann"]
    made = first.assess(new.x, new.y, new.xt, baseline=models["source-only"], others=[second])
    assert set(made.estimates) == {"source-only", "this model"}
    assert made.decision in ("adapt", "keep", "cannot tell")
    assert made == first.assess(new.x, new.y, new.xt, baseline=models["source-only"], others=[second])


def test_assess_without_a_baseline_gives_an_estimate_alone(judged):
    models, new = judged
    made = models["dann"][0].assess(new.x, new.y, new.xt)
    assert made.sentence.startswith("this model: estimated target accuracy ")


def test_a_few_target_labels_tighten_the_assessment(judged):
    models, new = judged
    few = np.where(np.arange(64) < 20, new.yt, -1)
    blind, told = (models["dann"][0].assess(new.x, new.y, new.xt, labels) for labels in (None, few))
    widths = [e.high - e.low for e in (blind.estimates["this model"], told.estimates["this model"])]
    assert widths[1] < widths[0]
    with pytest.raises(ValueError, match="7"):
        models["dann"][0].assess(new.x, new.y, new.xt, np.full(64, 7))


def test_assess_takes_data_frames_and_looks_at_a_thousand_rows(judged, make_arrays, monkeypatch):
    models, _ = judged
    many = make_arrays(1100, 1200, seed=2)
    seen = []
    real = DomainAdapter.outputs
    monkeypatch.setattr(DomainAdapter, "outputs", lambda self, X: (seen.append(len(X)), real(self, X))[1])
    models["dann"][0].assess(pd.DataFrame(many.x), pd.Series(many.y), pd.DataFrame(many.xt))
    assert set(seen) == {1000}


def test_weights_that_the_last_step_breaks_are_told(arrays):
    with pytest.raises(TrainingDiverged, match=r"outputs are infinite or NaN after the last step: lower lr \(now 1e"):
        adapter("source-only", backbone=MLP((8,), "relu"), steps=1, lr=1e38, optimizer="sgd").fit(
            arrays.x, arrays.y, arrays.xt
        )


@dataclass
class OwnHead(Method):
    """An own domain head, of as many outputs as the user likes."""

    outputs: int = 2

    def build(self, net):
        return {"domain": nn.Linear(net.dim, self.outputs)}

    def loss(self, net, source, target, progress):
        features = torch.cat([source.features, target.features]).detach()
        domain = torch.cat([source.domain, target.domain])
        logits = net.parts["domain"](features)
        return {"label": self.label_loss(source, target), "domain": domain_loss(logits, domain)}


def test_an_own_domain_head_with_an_output_a_domain_is_understood(make_arrays):
    made = make_arrays(300, 300)
    model = adapter(OwnHead(), steps=300, batch_size=64).fit(made.x, made.y, made.xt)
    assert (model.predict_domain(made.xt) == 1).mean() > 0.9
    assert (model.predict_domain(made.x) == 0).mean() > 0.9
    one = adapter(OwnHead(outputs=4), steps=4).fit(made.x, made.y, made.xt)
    with pytest.raises(ValueError, match=r'the part "domain" gives outputs of shape \(600, 4\); a domain head of 2'):
        one.predict_domain(np.concatenate([made.x, made.xt]))


def moved(n, by):
    """Two classes along the first feature, which the target has ``by`` more of: statistics of batch norm undo it."""
    y = np.arange(n) % 2
    x = np.random.default_rng([n, by]).normal(size=(n, 4)).astype(np.float32)
    x[:, 0] += 4 * y + by
    return x, y


@pytest.mark.parametrize("way", ["adabn", "per-domain"])
def test_models_with_the_targets_statistics_read_the_source_by_its_own(way, tmp_path):
    (x, y), (xt, _), held, (xn, yn) = moved(400, 0), moved(410, 5), moved(200, 0), moved(210, 5)
    settings = {"backbone": MLP((16,), batch_norm=True), "steps": 200, "batch_size": 32}
    own = adapter("source-only", **settings).fit(x, y, xt)
    if way == "adabn":
        model = own.adapt_to(xt, "adabn", steps=20)
    else:
        model = adapter("dann", encoding="per-domain", **settings).fit(x, y, xt)
        assert model.events_ == []
    assert model.score(xn, yn) > 0.9 > 0.7 > model.score(*held)
    model = DomainAdapter.load(model.save(tmp_path / "m.safetensors"))
    before = {name: value.clone() for name, value in model.network_.state_dict().items()}
    assert model.evidence(*held, xn).source_right.mean() > 0.9
    assert all(torch.equal(value, before[name]) for name, value in model.network_.state_dict().items())
    assert model.evidence(held[0][:1], held[1][:1], xn).source_logits.shape == (1, 2)
    made = model.assess(*held, xn, baseline=own)
    assert made.decision == "adapt"
    assert abs(made.estimates["this model"].accuracy - model.score(xn, yn)) < 0.1


class Tied(nn.Module):
    """Two layers with the same weights."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x).relu()).relu()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(1, 4, batch_first=True)

    def forward(self, x):
        return self.lstm(x[:, :, None])[0][:, -1]


def test_weights_that_two_layers_share_can_be_saved(arrays, tmp_path):
    model = adapter(backbone=Tied()).fit(arrays.x, arrays.y, arrays.xt)
    loaded = DomainAdapter.load(model.save(tmp_path / "tied.safetensors"), backbone=Tied())
    np.testing.assert_array_equal(loaded.predict_proba(arrays.xt), model.predict_proba(arrays.xt))


def test_an_lstm_trains_step_by_step_where_it_cannot_be_recorded(arrays):
    torch.manual_seed(0)
    backbone = Recurrent()
    settings = {"backbone": backbone, "device": "cpu"}
    with pytest.warns(UserWarning, match="not compiled: PyTorch's LSTM"):
        model = adapter(compile=True, **settings).fit(arrays.x, arrays.y, arrays.xt)
    other = adapter(compile=False, **settings).fit(arrays.x, arrays.y, arrays.xt)
    np.testing.assert_array_equal(model.predict_proba(arrays.xt), other.predict_proba(arrays.xt))


def test_parameters_of_a_method_given_by_name_can_be_set():
    assert DomainAdapter().set_params(method__weight=0.3, lr=0.1).get_params()["method__weight"] == 0.3
    assert DomainAdapter("mcc").set_params(method="dann", lr=0.1).method == "dann"


def test_rows_without_a_known_label_are_not_scored(pooled, arrays):
    x, y, marks = pooled
    fitted = adapter(steps=30).fit(x, y, sample_domain=marks)
    assert fitted.score(x, y) == fitted.score(arrays.x, arrays.y)
    named = adapter(steps=30).fit(arrays.x, np.array(["no", "yes"])[arrays.y], arrays.xt)
    known = [None, "no", "yes", np.nan]
    assert named.score(arrays.x[:4], known) == (named.predict(arrays.x[1:3]) == known[1:3]).mean()
    with pytest.raises(ValueError, match="none of the 24 labels is known"):
        fitted.score(arrays.xt, np.full(24, -1))
    for labels in (y[10:], arrays.y[:30]):  # some unknown, and none
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            fitted.score(x, labels)


def test_names_of_columns_are_kept_as_scikit_learn_keeps_them(fitted, arrays, tmp_path):
    table = pd.DataFrame(arrays.x, columns=[f"f{k}" for k in range(arrays.x.shape[1])])
    named = adapter().fit(table, arrays.y, table + 1)
    for model in (named, DomainAdapter.load(named.save(tmp_path / "named"))):
        assert model.feature_names_in_.tolist() == list(table.columns)
        assert model.feature_names_in_.dtype == object
    assert not hasattr(fitted, "feature_names_in_")
    assert not hasattr(adapter(), "feature_names_in_")


def test_columns_of_one_name_are_refused(arrays):
    frame = pd.DataFrame(arrays.x, columns=["u", "v", "u"])
    with pytest.raises(ValueError, match="several columns named 'u'"):
        adapter().fit(frame, arrays.y, frame)


@pytest.mark.parametrize("kind", ["datetime64[D]", "S3", "complex64"])
def test_labels_that_a_model_file_cannot_hold_are_refused(kind, arrays):
    labels = np.array(["2020-01-01", "2020-01-02"] if kind[0] == "d" else [1, 2]).astype(kind)[arrays.y]
    with pytest.raises(ValueError, match=r"y holds labels of type .*: make text or numbers of them"):
        adapter().fit(arrays.x, labels, arrays.xt)


def test_judging_asks_for_a_model_and_a_baseline(fitted, arrays):
    with pytest.raises(NotFittedError):
        adapter().assess(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(ValueError, match="baseline is empty"):
        fitted.assess(arrays.x, arrays.y, arrays.xt, baseline=[])


@pytest.mark.parametrize(
    "mode",
    [lambda: torch.autocast("cpu", torch.bfloat16), torch.no_grad, torch.inference_mode],
    ids=["autocast", "no_grad", "inference_mode"],
)
def test_modes_of_the_users_own_change_nothing(mode, arrays):
    plain = adapter().fit(arrays.x, arrays.y, arrays.xt)
    with mode():
        inside = adapter().fit(arrays.x, arrays.y, arrays.xt)
        predicted = plain.predict_proba(arrays.xt)
    for mine, its in zip(inside.network_.parameters(), plain.network_.parameters(), strict=True):
        assert torch.equal(mine, its)
    np.testing.assert_array_equal(predicted, plain.predict_proba(arrays.xt))


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("method", ["source-only", "mcd"])
def test_autocast_of_the_users_own_keeps_no_stale_weights(kind, enabled, method, arrays):
    """PyTorch keeps its copies of weights in bfloat16 until the outermost block ends."""
    settings = {"method": method, "precision": "bf16", "steps": 6}
    plain = adapter(compile=False, **settings).fit(arrays.x, arrays.y, arrays.xt)
    for compile in (False, "auto"):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*CUDA is not available")
            users = torch.autocast(kind, torch.bfloat16, enabled=enabled)
        with users:
            inside = adapter(compile=compile, **settings).fit(arrays.x, arrays.y, arrays.xt)
        assert inside.history_ == plain.history_
        for mine, its in zip(inside.network_.parameters(), plain.network_.parameters(), strict=True):
            assert torch.equal(mine, its)


def test_trainings_in_threads_are_those_of_one_thread(arrays):
    def trained(seed):
        network = MLP((16,), dropout=0.5)
        fitted = adapter(backbone=network, random_state=seed, steps=60).fit(arrays.x, arrays.y, arrays.xt)
        return fitted.predict_proba(arrays.xt)

    alone = [trained(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(list(pool.map(trained, range(4))), alone)


def test_a_training_on_the_processor_seeds_no_gpu(arrays, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    monkeypatch.setattr(torch.cuda, "manual_seed", seeded.append)
    adapter().fit(arrays.x, arrays.y, arrays.xt)
    assert not seeded


def test_a_method_and_its_parameters_are_set_together_by_name():
    named = DomainAdapter().set_params(method="cdan", method__weight=0.5)
    assert named.method == CDAN(weight=0.5)
    assert named.set_params(method="mcc", method__temperature=1.5).method == MCC(temperature=1.5)


def test_a_fit_that_fails_leaves_no_model_of_other_labels(arrays):
    fitted = adapter().fit(arrays.x, np.array(["a", "b"])[arrays.y], arrays.xt)
    with pytest.raises(ValueError, match="batch_size"):
        fitted.set_params(method="dan", batch_size=2).fit(arrays.x, np.array(["x", "y"])[arrays.y], arrays.xt)
    with pytest.raises(NotFittedError):
        fitted.predict(arrays.xt)


def test_rows_without_a_label_are_not_evaluated(arrays):
    fitted = adapter().fit(arrays.x, arrays.y, arrays.xt)
    some = np.where(np.arange(len(arrays.yt)) < 10, arrays.yt, -1)
    known = fitted.evaluate(arrays.xt[:10], arrays.yt[:10])
    assert fitted.evaluate(arrays.xt, some) == known
    with pytest.raises(ValueError, match="none of the 24 labels is known"):
        fitted.evaluate(arrays.xt, np.full(24, -1))


def test_images_too_small_for_the_papers_network_get_a_smaller_one(images):
    shrunk = adapter(backbone="auto", steps=1).fit(images.x[..., :8, :8], images.y, images.xt[..., :8, :8])
    assert shrunk.network_.dim == 32 * 2 * 2


def test_a_folder_of_something_else_is_not_written_to(arrays, tmp_path):
    (tmp_path / "config.json").write_text('{"mine": 1}')
    for seed in (0, None):
        with pytest.raises(ValueError, match="is of no training and would be replaced"):
            adapter(random_state=seed).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    assert (tmp_path / "config.json").read_text() == '{"mine": 1}'


def test_a_checkpoint_without_all_of_its_state_is_told(arrays, tmp_path):
    adapter().fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    path = tmp_path / "checkpoint.pt"
    state = load_checkpoint(path)
    save_checkpoint(path, {**state, "optimizer": state["optimizer"][:-1]})
    with pytest.raises(ModelFileError, match="was written by another version of dann"):
        adapter().fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)


def test_a_file_that_asks_for_more_layers_than_it_holds_is_refused(images, tmp_path):
    path = adapter(backbone="conv", steps=1).fit(images.x, images.y, images.xt).save(tmp_path / "m")
    tensors, config = load_model(path)
    for key, value in (("depth", 10**9), ("domain_hidden", [2] * 10_000)):
        altered = copy.deepcopy(config)
        altered["adapter"]["backbone"] = {"name": "conv", "params": {key: value}}
        save_model(path, tensors, altered)
        with pytest.raises(ModelFileError, match="layers or more, and holds"):
            DomainAdapter.load(path)


def test_weights_of_another_type_are_refused(arrays, tmp_path):
    path = adapter().fit(arrays.x, arrays.y, arrays.xt).save(tmp_path / "m")
    tensors, config = load_model(path)
    save_model(path, {name: tensor.half() for name, tensor in tensors.items()}, config)
    with pytest.raises(ModelFileError, match=r"is torch\.float16, and torch\.float32 in such a network"):
        DomainAdapter.load(path)


def test_a_warning_names_the_line_that_called(arrays):
    vanishing = adapter("dann", steps=200, optimizer="sgd", lr=0.1, weight_decay=5.0)
    with pytest.warns(TrainingWarning) as caught:
        vanishing.fit(arrays.x, arrays.y, arrays.xt)
    assert {warning.filename for warning in caught} == {__file__}


def test_pretraining_draws_rows_by_their_weight(arrays):
    weight = (np.arange(40) < 20).astype(float)
    other = arrays.x.copy()
    other[20:] = other[20:][:, ::-1]  # rows that are never drawn; the same values in all, for the normalisation
    settings = {"scaling": "none", "pretrain_steps": 5, "steps": 1}
    same = [adapter(**settings).fit(x, arrays.y, arrays.xt, sample_weight=weight) for x in (arrays.x, other)]
    np.testing.assert_array_equal(*(model.predict_proba(arrays.xt) for model in same))


def test_a_model_file_does_not_depend_on_the_defaults_of_what_it_names(arrays, tmp_path):
    path = DomainAdapter("dann", steps=1).fit(arrays.x, arrays.y, arrays.xt).save(tmp_path / "m")
    kept = load_model(path)[1]["adapter"]
    assert kept["backbone"] == {"name": "mlp", "params": lists(MLP())}
    assert kept["method"] == {"name": "dann", "params": DANN().get_params()}
    assert DomainAdapter.load(path).backbone == MLP()


def lists(backbone):
    """Return the settings of a backbone as JSON has them."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in backbone.get_params().items()}


def test_lists_of_numbers_that_are_no_layers_are_no_reason_to_refuse_a_file(arrays, tmp_path):
    method = DAN(scales=tuple(2.0**k for k in range(-6, 7)))
    path = DomainAdapter(method, steps=1).fit(arrays.x, arrays.y, arrays.xt).save(tmp_path / "m")
    assert DomainAdapter.load(path).method == method


def test_loading_in_one_thread_leaves_a_training_in_another_alone(arrays, tmp_path):
    own = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.ReLU())
    path = adapter(backbone=own).fit(arrays.x, arrays.y, arrays.xt).save(tmp_path / "m")
    alone = adapter(backbone=own, steps=40).fit(arrays.x, arrays.y, arrays.xt)
    threads = []

    def load(_):
        threads.append(threading.Thread(target=DomainAdapter.load, args=(path,), kwargs={"backbone": own}))
        threads[-1].start()

    beside = adapter(backbone=own, steps=40).fit(arrays.x, arrays.y, arrays.xt, on_step=load)
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(beside.predict_proba(arrays.xt), alone.predict_proba(arrays.xt))


def test_threads_give_the_users_default_precision_back(arrays):
    torch.set_default_dtype(torch.float64)
    try:
        with ThreadPoolExecutor(3) as pool:
            found = list(
                pool.map(lambda seed: adapter(random_state=seed, steps=30).fit(arrays.x, arrays.y, arrays.xt), range(4))
            )
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for model in found for p in model.network_.parameters()} == {torch.float32}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_forked_in_the_midst_of_a_training_can_train():
    code = """if True:
        import os, threading, numpy as np
        from dann import DomainAdapter
        x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
        started, done = threading.Event(), threading.Event()
        def hold(step):
            started.set()
            done.wait(60)
        thread = threading.Thread(target=lambda: DomainAdapter(steps=1).fit(x, y, x, on_step=hold))
        thread.start()
        started.wait(60)
        child = os.fork()
        if not child:
            DomainAdapter(steps=1).fit(x, y, x)
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        done.set()
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.strip() == "7"


def test_masked_labels_are_not_known(arrays):
    hidden = np.ma.array(arrays.yt, mask=np.arange(24) >= 6)
    some = [label if k < 6 else None for k, label in enumerate(arrays.yt)]
    fits = [adapter().fit(arrays.x, arrays.y, arrays.xt, labels) for labels in (hidden, some)]
    np.testing.assert_array_equal(*(model.predict_proba(arrays.xt) for model in fits))
    assert fits[0].evaluate(arrays.xt, hidden)["n"] == 6
    with pytest.raises(ValueError, match="y has 1 missing labels"):
        adapter().fit(arrays.x, np.ma.array(arrays.y, mask=np.arange(40) == 3), arrays.xt)


def test_what_goes_on_without_the_source_goes_slower_once(arrays):
    model = adapter(lr=0.01).fit(arrays.x, arrays.y, arrays.xt)
    later = model.adapt_to(arrays.xt, "shot", steps=1)
    assert later.lr == pytest.approx(0.001)
    assert later.adapt_to(arrays.xt, "shot", steps=1).lr == pytest.approx(0.001)
    assert model.adapt_to(arrays.xt, "shot", steps=1, lr=0.5).lr == 0.5


def test_a_model_of_known_parts_can_be_loaded_while_another_trains(arrays, tmp_path):
    path = adapter().fit(arrays.x, arrays.y, arrays.xt).save(tmp_path / "m")
    loaded = []

    def load(step):
        thread = threading.Thread(target=lambda: loaded.append(DomainAdapter.load(path)), daemon=True)
        thread.start()
        thread.join(20)

    adapter(steps=1).fit(arrays.x, arrays.y, arrays.xt, on_step=load)
    assert len(loaded) == 1


def test_a_model_is_that_of_the_fit_whatever_is_set_later(arrays, tmp_path):
    backbone = MLP((8,), activation="tanh")
    model = adapter(backbone=backbone, scaling="mean").fit(arrays.x, arrays.y, arrays.xt)
    expected, domains = model.predict_proba(arrays.xt), model.predict_domain(arrays.xt)
    backbone.activation = "relu"  # of the user's object, such as one that several models share
    model.set_params(method="cdan", scaling="standard", encoding="separate")
    model.save(tmp_path / "model.safetensors")
    loaded = DomainAdapter.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(arrays.xt), expected)
    np.testing.assert_array_equal(model.predict_domain(arrays.xt), domains)
    later = model.adapt_to(arrays.xt, "shot", steps=1, lr=1e-9)
    np.testing.assert_allclose(later.predict_proba(arrays.xt), expected, atol=1e-3)
    assert (loaded.backbone.activation, loaded.scaling, loaded.encoding) == ("tanh", "mean", "joint")


class Broken(Method):
    def loss(self, net, source, target, progress):
        if float(progress) > 0.5:
            raise RuntimeError("broken")
        return {"label": self.label_loss(source, target)}


def test_a_fit_that_breaks_off_leaves_no_model(arrays):
    model = adapter(Broken(), averaging=0.9)
    with pytest.raises(RuntimeError, match="broken"):
        model.fit(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(NotFittedError):
        model.predict(arrays.xt)


def test_an_interrupted_fit_leaves_the_model_as_it_stands(arrays):
    copies = []

    def interrupt(step):
        if step.number == 2:
            copies.append(model.snapshot())  # has the averaged weights
            raise KeyboardInterrupt

    model = adapter(averaging=0.9, steps=10)
    with pytest.raises(KeyboardInterrupt):
        model.fit(arrays.x, arrays.y, arrays.xt, on_step=interrupt)
    np.testing.assert_array_equal(model.predict_proba(arrays.xt), copies[0].predict_proba(arrays.xt))


@pytest.mark.parametrize("compile", [False, True])
def test_layers_that_are_frozen_between_steps_stay_so(compile, arrays):
    encoder = nn.Sequential(nn.Linear(arrays.x.shape[1], 8), nn.BatchNorm1d(8), nn.ReLU())
    model, seen = adapter(backbone=encoder, steps=200, compile=compile), []

    def freeze(step):
        norm = model.network_.encoder[1]
        if step.number == 0:
            norm.eval()
        if step.number == 100:
            model.predict(arrays.xt)
        seen.append(int(norm.num_batches_tracked))

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "not compiled any more")
        model.fit(arrays.x, arrays.y, arrays.xt, on_step=freeze)
    assert seen[0] == seen[-1] > 0


def test_an_encoder_in_evaluation_mode_is_trained_as_any(arrays):
    encoder = nn.Sequential(nn.Linear(arrays.x.shape[1], 8), nn.BatchNorm1d(8), nn.ReLU()).eval()
    model = adapter(backbone=encoder).fit(arrays.x, arrays.y, arrays.xt)
    assert int(model.network_.encoder[1].num_batches_tracked) == 4


@pytest.mark.parametrize("number", [float, np.float64])
def test_a_recorded_training_notices_new_settings_of_any_kind(number, arrays):
    def fit(compile):
        model = adapter(MCC(weight=number(1)), steps=30, compile=compile)
        decay = lambda step: setattr(model.method_, "weight", model.method_.weight * number(0.9))  # noqa: E731
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "not compiled any more")
            return model.fit(arrays.x, arrays.y, arrays.xt, on_step=decay).predict_proba(arrays.xt)

    np.testing.assert_array_equal(fit(True), fit(False))


@pytest.mark.parametrize("change", ["scales", "part", "layer"])
def test_a_recorded_training_notices_new_lists_parts_and_layers(change, arrays):
    def fit(compile):
        model = adapter(DAN() if change == "scales" else Sum(DANN(), MCC()), steps=30, compile=compile)

        def on_step(step):
            if step.number == 5 and change == "scales":
                model.method_.scales = (8.0,)
            if step.number == 5 and change == "part":
                model.method_.set_params(mcc=MCC(weight=0.0))
            if step.number == 5 and change == "layer":
                model.network_.encoder[-1] = nn.Sigmoid()

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "not compiled any more")
            return model.fit(arrays.x, arrays.y, arrays.xt, on_step=on_step).predict_proba(arrays.xt)

    np.testing.assert_array_equal(fit(True), fit(False))


def test_labels_of_objects_are_scored_as_they_are_trained_on(arrays):
    y = arrays.y.astype(object)
    model = adapter().fit(arrays.x, y, arrays.xt)
    assert model.score(arrays.xt, arrays.yt.astype(object)) == model.score(arrays.xt, arrays.yt)


def test_pipelines_can_name_the_features(fitted, arrays):
    names = fitted.get_feature_names_out()
    assert names.tolist() == [f"domainadapter{k}" for k in range(fitted.transform(arrays.xt).shape[1])]
    steps = make_pipeline(StandardScaler(), adapter()).set_output(transform="pandas")
    steps.fit(arrays.x, arrays.y, domainadapter__X_target=arrays.xt)
    assert steps.transform(arrays.xt).columns.tolist() == names.tolist()
    assert isinstance(fitted.transform(arrays.xt), np.ndarray)


class Keeping(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.utils.spectral_norm(nn.Linear(width, 8))

    def forward(self, x):
        self.last = self.layer(x)  # such as for a penalty
        return self.last.relu()


def test_networks_that_keep_activations_can_be_copied(arrays):
    model, copies = adapter(backbone=Keeping(arrays.x.shape[1])), []
    model.fit(arrays.x, arrays.y, arrays.xt, on_step=lambda step: copies.append(model.snapshot()))
    np.testing.assert_array_equal(copies[-1].predict_proba(arrays.xt), model.predict_proba(arrays.xt))


def test_a_device_may_be_an_object(arrays, tmp_path):
    model = adapter(device=torch.device("cpu")).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path / "run")
    loaded = DomainAdapter.load(model.save(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(loaded.predict(arrays.xt), model.predict(arrays.xt))


def test_flipped_rows_are_rows(fitted, arrays):
    x = arrays.xt.astype(np.float32)
    np.testing.assert_array_equal(fitted.predict(x[::-1][:1]), fitted.predict(x[-1:]))


@pytest.mark.filterwarnings("ignore:no weight of the encoder")
def test_the_random_state_stays_where_an_encoder_draws_when_it_is_tried():
    class Drawing(nn.Module):
        def forward(self, x):
            return x.flatten(1) + torch.randn(())

    x = np.random.default_rng(0).normal(size=(20, 2, 6)).astype(np.float32)
    before = torch.get_rng_state()
    adapter(backbone=Drawing()).fit(x, np.arange(20) % 2, x)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_default_device_of_the_users_changes_nothing(arrays):
    torch.set_default_device("meta")
    try:
        found = adapter(device="cpu").fit(arrays.x, arrays.y, arrays.xt).predict_proba(arrays.xt)
    finally:
        torch.set_default_device("cpu")
    np.testing.assert_array_equal(found, adapter().fit(arrays.x, arrays.y, arrays.xt).predict_proba(arrays.xt))


def test_rows_may_be_tensors_of_any_kind(arrays):
    plain = adapter().fit(arrays.x, arrays.y, arrays.xt)
    x, xt = (torch.from_numpy(rows).requires_grad_() for rows in (arrays.x, arrays.xt))
    given = adapter().fit(x * 1, torch.from_numpy(np.asarray(arrays.y)), xt * 1)
    np.testing.assert_array_equal(given.predict_proba(xt), plain.predict_proba(arrays.xt))
    half = torch.from_numpy(arrays.xt).bfloat16()
    np.testing.assert_array_equal(plain.predict_proba(half), plain.predict_proba(half.float().numpy()))


def test_the_first_predictions_of_a_loaded_model_may_come_from_several_threads(arrays, tmp_path):
    path = adapter().fit(arrays.x, arrays.y, arrays.xt).save(tmp_path / "m.safetensors")
    works = set()
    for _ in range(20):
        model = DomainAdapter.load(path)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _, model=model: model.predict(arrays.xt), range(8)))
        works.add(model.network_.work(model.shape_))
    assert len(works) == 1
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"device": "cdua"}, "the device 'cdua' cannot be used: "),
        ({"method": None}, "method=None is neither a name nor a Method"),
        ({"method": 0.5}, "method=0.5 is neither a name nor a Method"),
    ],
)
def test_a_device_or_method_that_is_none_is_named(setting, message, arrays):
    with pytest.raises(ValueError, match=message):
        DomainAdapter(steps=1).set_params(**setting).fit(arrays.x, arrays.y, arrays.xt)


def test_a_source_of_a_stray_row_is_told(arrays):
    domain = np.zeros(len(arrays.x), int)
    domain[3] = 7
    with pytest.warns(UserWarning, match="source 7 has 1 rows, and every batch takes 5 of it"):
        adapter("dann", batch_size=10).fit(arrays.x, arrays.y, arrays.xt, sample_domain=domain)
