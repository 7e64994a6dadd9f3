"""What every method owes that goes on from a fitted model without its source."""

import copy

import numpy as np
import pytest
import torch

import dann.estimator
from dann import DANN, METHODS, MLP, AdaBN, DomainAdapter

NAMES = [name for name, method in METHODS.items() if method.source_free]


@pytest.fixture
def source(arrays):
    """A model of the source with batch norm."""
    network = MLP((8,), batch_norm=True)
    adapter = DomainAdapter("source-only", network, steps=60, batch_size=8, lr=0.02, log_every=2, device="cpu")
    return adapter.fit(arrays.x, arrays.y, arrays.xt)


def same_weights(a, b):
    a, b = a.network_.state_dict(), b.network_.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_that_it_starts_from_stays_as_it_is(name, source, arrays):
    before = copy.deepcopy(source.network_.state_dict())
    adapted = source.adapt_to(arrays.xt, name, steps=5)
    assert all(torch.equal(source.network_.state_dict()[key], value) for key, value in before.items())
    assert not all(torch.equal(adapted.network_.state_dict()[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_on_after_an_interruption_to_the_same_bits(name, source, arrays, tmp_path, monkeypatch):
    monkeypatch.setattr(dann.estimator, "CHECKPOINT_SECONDS", 0.0)

    def interrupt(step):
        if step.number == 3:
            raise KeyboardInterrupt

    whole = source.adapt_to(arrays.xt, name, steps=6)
    with pytest.raises(KeyboardInterrupt):
        source.adapt_to(arrays.xt, name, steps=6, run=tmp_path, on_step=interrupt)
    taken = []
    resumed = source.adapt_to(arrays.xt, name, steps=6, run=tmp_path, on_step=lambda step: taken.append(step.number))
    assert taken == [3, 4, 5]
    assert same_weights(whole, resumed)


@pytest.mark.parametrize("name", [name for name in NAMES if not METHODS[name].reads_values])
def test_a_recorded_training_has_the_same_bits(name, source, arrays):
    plain, same = (source.adapt_to(arrays.xt, name, steps=6, compile=compiled) for compiled in (False, True))
    assert same_weights(plain, same)
    assert plain.history_ == same.history_


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_predicts_the_same_bits(name, source, arrays, tmp_path):
    adapted = source.adapt_to(arrays.xt, METHODS[name](), steps=3)
    loaded = DomainAdapter.load(adapted.save(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(loaded.predict_proba(arrays.xt), adapted.predict_proba(arrays.xt))
    assert loaded.method == METHODS[name]()


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_model_can_be_adapted(name, source, arrays, tmp_path):
    loaded = DomainAdapter.load(source.save(tmp_path / "m.safetensors"), device="cpu")
    first, second = (model.adapt_to(arrays.xt, name, steps=4) for model in (loaded, source))
    assert same_weights(first, second)


@pytest.mark.parametrize("name", NAMES)
def test_an_adapted_model_can_be_adapted_again(name, source, arrays):
    again = source.adapt_to(arrays.xt, name, steps=2).adapt_to(arrays.xt, "shot", steps=2)
    assert all(p.requires_grad for p in again.network_.encoder.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_global_random_state_is_left_alone(name, source, arrays):
    before = torch.get_rng_state()
    source.adapt_to(arrays.xt, name, steps=2)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", NAMES)
def test_fitting_it_from_nothing_is_refused_with_the_remedy(name, arrays):
    with pytest.raises(ValueError, match=r"goes on from a fitted model: fit another method, then adapt_to"):
        DomainAdapter(name).fit(arrays.x, arrays.y, arrays.xt)


def test_methods_that_need_a_source_are_refused(source, arrays):
    with pytest.raises(ValueError, match=r"DANN needs source rows: use fit; without .*: shot, dirt-t, tent, adabn"):
        source.adapt_to(arrays.xt, DANN())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backbone", MLP((9,))),
        ("initialization", "he"),
        ("scaling", "none"),
        ("encoding", "separate"),
        ("class_weight", "balanced"),
        ("pretrain_steps", 50),
    ],
)
def test_settings_that_only_a_first_training_follows_are_refused(name, value, source, arrays):
    with pytest.raises(ValueError, match=f"{name}=.* comes too late: adapt_to goes on with the network as it was"):
        source.adapt_to(arrays.xt, steps=2, **{name: value})
    source.adapt_to(arrays.xt, steps=2, **{name: getattr(source, name)})


def test_other_rows_than_the_models_are_refused(source, arrays):
    with pytest.raises(ValueError, match="the target"):
        source.adapt_to(arrays.xt[:, :2])


# normalisation layers


@pytest.mark.parametrize(
    ("name", "what"), [("adabn", "statistics of batch norm"), ("tent", "the scales and shifts of normalisation")]
)
def test_a_network_without_normalisation_is_refused_with_the_remedy(name, what, arrays):
    plain = DomainAdapter("source-only", MLP((8,)), steps=2, device="cpu").fit(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(ValueError, match=f"this adapts {what}.* MLP\\(batch_norm=True\\)"):
        plain.adapt_to(arrays.xt, name, steps=2)


def test_layers_without_scales_and_shifts_leave_tent_nothing_to_adapt(arrays):
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4, affine=False))
    model = DomainAdapter("source-only", network, steps=2, device="cpu").fit(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(ValueError, match="this adapts the scales and shifts"):
        model.adapt_to(arrays.xt, "tent", steps=2)


def test_batch_norm_without_statistics_leaves_adabn_nothing_to_adapt(images):
    norm = torch.nn.BatchNorm2d(4, track_running_stats=False)
    network = torch.nn.Sequential(torch.nn.Conv2d(images.x.shape[1], 4, 3), norm, torch.nn.Flatten())
    model = DomainAdapter("source-only", network, steps=2, device="cpu").fit(images.x, images.y, images.xt)
    with pytest.raises(ValueError, match="this adapts statistics of batch norm"):
        model.adapt_to(images.xt, "adabn", steps=2)
    adapted = model.adapt_to(images.xt, "tent", steps=2, batch_size=4)
    assert not torch.equal(adapted.network_.encoder[1].weight, model.network_.encoder[1].weight)


def test_tent_adapts_instance_norm(images):
    network = torch.nn.Sequential(
        torch.nn.Conv2d(images.x.shape[1], 4, 3), torch.nn.InstanceNorm2d(4, affine=True), torch.nn.Flatten()
    )
    model = DomainAdapter("source-only", network, steps=2, device="cpu").fit(images.x, images.y, images.xt)
    adapted = model.adapt_to(images.xt, "tent", steps=2, batch_size=4)
    assert not torch.equal(adapted.network_.encoder[1].weight, model.network_.encoder[1].weight)
    assert torch.equal(adapted.network_.encoder[0].weight, model.network_.encoder[0].weight)


def test_adabn_takes_mean_and_variance_of_the_target_and_changes_no_weight(source, arrays):
    adapted = source.adapt_to(arrays.xt, AdaBN(), steps=3, batch_size=8)  # 24 rows: each once
    linear, norm = adapted.network_.encoder[:2]
    with torch.no_grad():
        hidden = linear(adapted.network_.normalize(torch.from_numpy(arrays.xt)))
    torch.testing.assert_close(norm.running_mean, hidden.mean(0))
    before, after = source.network_.state_dict(), adapted.network_.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"encoder.1.{kind}" for kind in ("running_mean", "running_var", "num_batches_tracked")}


def test_adabn_undoes_a_shift_of_whole_features(make_arrays):
    data = make_arrays(200, 200)
    network = MLP((16,), batch_norm=True)
    adapter = DomainAdapter("source-only", network, steps=200, batch_size=32, scaling="none", device="cpu")
    source = adapter.fit(data.x, data.y, data.x)
    moved = data.x * np.float32(3) + np.float32(20)  # another unit, another zero
    assert source.score(moved, data.y) < 0.7
    assert source.adapt_to(moved, "adabn", steps=20).score(moved, data.y) > 0.95


def test_tent_moves_scales_and_shifts_alone(source, arrays):
    adapted = source.adapt_to(arrays.xt, "tent", steps=3)
    before, after = source.network_.state_dict(), adapted.network_.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    statistics = {f"encoder.1.{kind}" for kind in ("running_mean", "running_var", "num_batches_tracked")}
    assert changed == {"encoder.1.weight", "encoder.1.bias", *statistics}


def test_tent_predicts_with_the_targets_statistics_after_few_steps(make_arrays):
    data = make_arrays(200, 200)
    network = MLP((16,), batch_norm=True)
    adapter = DomainAdapter("source-only", network, steps=200, batch_size=32, scaling="none", device="cpu")
    source = adapter.fit(data.x, data.y, data.x)
    moved = data.x * np.float32(3) + np.float32(20)
    assert source.score(moved, data.y) < 0.7
    assert source.adapt_to(moved, "tent", steps=5).score(moved, data.y) > 0.95


def test_tent_makes_predictions_more_certain(source, arrays):
    def entropy(model):
        p = model.predict_proba(arrays.xt)
        return -(p * np.log(p)).sum(1).mean()

    adapted = source.adapt_to(arrays.xt, "tent", steps=60, lr=0.01)
    still = source.adapt_to(arrays.xt, "adabn", steps=60)
    assert entropy(adapted) < entropy(still)
