import numpy as np
import pytest
import sklearn
import torch
from sklearn.model_selection import cross_val_score

from dann import METHODS, MLP, DomainAdapter, DomainRegressor, Sum, regression_metrics
from dann.functional import label_loss

FREE = [name for name, method in METHODS.items() if not method.needs_classes]


@pytest.fixture
def lines():
    """Labels 1000 + 50 times the first feature; the second tells the domain, the third nothing."""
    rng = np.random.default_rng(0)
    x, xt = rng.normal(size=(200, 3)), rng.normal(size=(120, 3))
    xt[:, 1] += 4
    return x, 1000 + 50 * x[:, 0], xt, 1000 + 50 * xt[:, 0]


def regressor(method="dann", **settings):
    network = MLP((16,), "relu", domain_hidden=(32,))
    settings = {
        "backbone": network,
        "steps": 300,
        "batch_size": 32,
        "lr": 1e-2,
        "weight_decay": 0.0,
        "lr_schedule": "constant",
    } | settings
    if METHODS[method].needs_pretraining:
        settings["pretrain_steps"] = 100
    return DomainRegressor(method, **settings)


def fit(model, x, y, xt, yt, **options):
    return model.fit(x, y, xt, yt if model._method().uses_target_labels else None, **options)


def test_methods_without_classes_are_known_by_name():
    assert set(FREE) == {
        *("source-only", "dann", "adda", "wdgrl", "deep-coral", "dan", "sliced-wasserstein", "afn"),
        *("target-only", "domain-only", "adabn"),
    }


@pytest.mark.parametrize("name", [name for name in FREE if not METHODS[name].source_free])
def test_methods_learn_numbers_in_their_units(name, lines):
    x, y, xt, yt = lines
    model = fit(regressor(name), *lines)
    assert np.isfinite(model.predict(xt)).all()
    if name not in ("domain-only", "target-only", "adda", "wdgrl"):
        assert model.score(x, y) > 0.95
    if name in ("source-only", "dann", "target-only", "deep-coral"):
        assert model.score(xt, yt) > 0.8


@pytest.mark.parametrize("name", [name for name in METHODS if name not in FREE])
def test_methods_that_compare_classes_are_refused(name, lines):
    x, y, xt, _ = lines
    fitted = regressor("source-only", steps=1).fit(x, y, xt)
    train = fitted.adapt_to if METHODS[name].source_free else lambda xt, name: regressor(name).fit(x, y, xt)
    with pytest.raises(ValueError, match=f"{METHODS[name].__name__} compares classes, and these labels are continuous"):
        train(xt, name)


def test_sums_need_classes_as_their_parts_do(lines):
    x, y, xt, _ = lines
    from dann import AFN, DANN, MCC

    assert DomainRegressor(Sum(DANN(), AFN()), steps=2).fit(x, y, xt).network_.n_classes == 1
    with pytest.raises(ValueError, match="Sum compares classes"):
        DomainRegressor(Sum(DANN(), MCC()), steps=2).fit(x, y, xt)


def test_predictions_move_and_scale_with_the_labels(lines):
    x, y, xt, _ = lines
    plain, scaled = (regressor(steps=20).fit(x, labels, xt).predict(xt) for labels in (y, 8 * y - 512))
    np.testing.assert_allclose(scaled, 8 * plain - 512, rtol=1e-4)


def test_large_labels_keep_their_differences(lines):
    x, y, xt, yt = lines
    model = regressor("source-only").fit(x, 1e9 + y, xt)
    assert model.score(xt, 1e9 + yt) > 0.8


def test_a_recorded_training_has_the_same_bits(lines):
    x, y, xt, yt = lines
    known = np.where(np.arange(120) % 3 == 0, yt, np.nan)
    one, other = (regressor(steps=10, compile=way).fit(x, y, xt, known).predict(xt) for way in (True, False))
    assert np.array_equal(one, other)


def test_some_known_target_labels_help_and_unknown_ones_are_none(lines):
    x, y, xt, yt = lines
    unknown = regressor().fit(x, y, xt, np.full(120, np.nan)).predict(xt)
    assert np.array_equal(unknown, regressor().fit(x, y, xt).predict(xt))
    wrong = 2 * yt.mean() - yt  # where the target has another law
    known = np.where(np.arange(120) < 60, wrong, np.nan)
    taught = regressor().fit(x, y, xt, known)
    assert taught.score(xt[60:], wrong[60:]) > regressor().fit(x, y, xt).score(xt[60:], wrong[60:]) + 0.5


def test_batch_norm_per_domain_regresses_on_a_target_that_is_moved_and_scaled(lines):
    x, y, xt, yt = lines
    network = MLP((16,), batch_norm=True)
    model = regressor(backbone=network, encoding="per-domain", scaling="none").fit(x, y, 5 * xt - 30)
    assert model.score(5 * xt - 30, yt) > 0.8


def test_it_is_saved_loaded_and_adapted_on(lines, tmp_path):
    x, y, xt, _ = lines
    model = regressor("source-only", backbone=MLP((16,), batch_norm=True), steps=20).fit(x, y, xt)
    loaded = DomainRegressor.load(model.save(tmp_path / "m.safetensors"))
    assert np.array_equal(loaded.predict(xt), model.predict(xt))
    adapted = loaded.adapt_to(xt, "adabn", steps=5)
    assert not np.array_equal(adapted.predict(xt), model.predict(xt))
    with pytest.raises(
        ValueError, match="for regression, and DomainAdapter for classification: in Python, DomainRegressor"
    ):
        DomainAdapter.load(tmp_path / "m.safetensors")


def test_it_goes_on_after_an_interruption(lines, tmp_path):
    x, y, xt, _ = lines
    whole = regressor(steps=8).fit(x, y, xt)

    def stop(step):
        if step.number == 4:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dann.estimator.CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            regressor(steps=8).fit(x, y, xt, run=tmp_path, on_step=stop)
    resumed = regressor(steps=8).fit(x, y, xt, run=tmp_path)
    assert np.array_equal(resumed.predict(xt), whole.predict(xt))


def test_it_works_in_cross_validation(lines):
    x, y, xt, _ = lines
    both, labels = np.concatenate([x, xt]), np.concatenate([y, np.zeros(120)])
    domain = np.repeat([0, -1], [200, 120])
    with sklearn.config_context(enable_metadata_routing=True):
        model = regressor(steps=20).set_fit_request(sample_domain=True)
        folds = [(np.r_[:100, 200:320], np.r_[100:200]), (np.r_[100:320], np.r_[:100])]
        scores = cross_val_score(model, both, labels, cv=folds, params={"sample_domain": domain})
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["a"] * 200, "y holds labels that are no numbers, such as 'a'"),
        (["1.5"] * 199 + ["many"], "y holds labels that are no numbers, such as 'many'"),
        (np.full(200, 3.0), "the source has one label, 3.0: a model needs at least two"),
        (np.where(np.arange(200) == 7, np.nan, 1.5), "y has 1 labels that are missing or infinite, the first in row 7"),
        (np.arange(199.0), r"y has shape \(199,\); expected one label for each of the 200 rows"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(y, message, lines):
    with pytest.raises(ValueError, match=message):
        regressor().fit(lines[0], y, lines[2])


@pytest.mark.parametrize("unit", [1e200, 1e-200])
def test_labels_whose_squares_are_no_numbers_are_refused(unit, lines):
    x, y, xt, _ = lines
    with pytest.raises(ValueError, match=r"y has labels of up to 1\.\d+e[+-]\d+, whose squares are no numbers"):
        regressor().fit(x, y * unit, xt)


def test_class_weights_are_refused(lines):
    with pytest.raises(ValueError, match="class_weight='balanced': continuous labels have no classes"):
        regressor(class_weight="balanced").fit(*lines[:3])


def test_weights_of_rows_count(lines):
    x, y, xt, yt = lines
    lies = np.where(np.arange(200) < 100, y, 2 * y.mean() - y)
    model = regressor("source-only").fit(x, lies, xt, sample_weight=np.arange(200) < 100)
    assert model.score(xt, yt) > 0.8


def test_the_loss_is_the_mean_square_over_known_labels():
    outputs, labels = torch.tensor([[1.0], [2.0], [5.0]]), torch.tensor([0.0, float("nan"), 2.0])
    assert label_loss(outputs, labels) == pytest.approx((1 + 9) / 2)
    assert label_loss(outputs, torch.full((3,), float("nan"))) == 0
    assert label_loss(outputs, torch.zeros(3), complete=True) == pytest.approx(30 / 3)
    outputs.requires_grad_()
    label_loss(outputs, labels).backward()
    assert outputs.grad[:, 0].tolist() == [1.0, 0.0, 3.0]


def test_metrics_are_in_the_labels_units():
    found = regression_metrics(np.array([1.0, 2, 3]), np.array([1.0, 4, 3]))
    expected = {"mae": 2 / 3, "rmse": (4 / 3) ** 0.5, "r2": 1 - 4 / (14 / 3), "n": 3}
    assert found == pytest.approx(expected)
    assert np.isnan(regression_metrics(np.array([1.0]), np.array([1.0]))["r2"])


def test_labels_of_target_rows_do_not_count(lines):
    x, y, xt, _ = lines
    both, domain = np.concatenate([x, xt]), np.repeat([0, -1], [200, 120])
    labels = [*map(str, y.tolist()), *["?"] * 120]
    told = regressor(steps=5).fit(both, labels, sample_domain=domain).predict(xt)
    assert np.array_equal(told, regressor(steps=5).fit(x, y, xt).predict(xt))


def test_infinite_target_labels_are_named_by_their_row(lines):
    x, y, xt, _ = lines
    known = np.where(np.arange(120) == 7, np.inf, np.nan)
    with pytest.raises(ValueError, match="y_target has 1 labels that are missing or infinite, the first in row 7"):
        regressor().fit(x, y, xt, known)


def test_refusals_name_what_fits(lines):
    x, y, xt, _ = lines
    fitted = regressor("source-only", steps=1).fit(x, y, xt)
    with pytest.raises(ValueError, match=r"SHOT compares classes.*that takes one of: adabn$"):
        fitted.adapt_to(xt)
    with pytest.raises(ValueError, match=r"DANN needs source rows: use fit; without them there is: adabn$"):
        fitted.adapt_to(xt, "dann")


def test_scores_look_at_known_labels_alone(lines):
    x, y, xt, yt = lines
    model = regressor("source-only", steps=20).fit(x, y, xt)
    some = np.where(np.arange(120) % 3 == 0, np.nan, yt)
    known = ~np.isnan(some)
    assert model.score(xt, some) == model.score(xt[known], yt[known])
    assert model.score(xt, [None if np.isnan(v) else v for v in some]) == model.score(xt[known], yt[known])
    with pytest.raises(ValueError, match="none of the 120 labels is known"):
        model.score(xt, np.full(120, np.nan))
    for labels, weight in ((yt[:9], None), (yt, np.ones(9))):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            model.score(xt, labels, weight)
