from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dann import Domains, TableAugmentation
from dann.streams import ArrayStream, drawn


def domains(*sizes):
    """Domains of the given sizes, target last; the feature is the row number, the class alternates."""
    rows = [np.arange(n, dtype=np.float32)[:, None] for n in sizes]
    marks = np.repeat([*range(len(sizes) - 1), -1], sizes)
    x = np.concatenate(rows)
    return Domains.from_arrays(x, (x[:, 0] % 2).astype(int), sample_domain=marks)


def block(stream, k, steps):
    """Row numbers of domain k over the first steps, in order."""
    return torch.cat([(b := stream.at(s)).index[b.domain == k] for s in range(steps)]).tolist()


def test_a_batch_depends_on_its_step_alone_whatever_was_asked_before():
    noise = TableAugmentation(noise=1.0)
    forward, mixed = (ArrayStream(domains(7, 11), 4, 3, "cpu", noise, noise) for _ in range(2))
    expected = {step: forward.at(step) for step in range(8)}
    for step in (5, 0, 7, 5, 2, 1, 6, 3, 4):
        for a, b in zip(expected[step], mixed.at(step), strict=True):
            assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


def test_variations_are_of_the_rows_of_the_batch_and_drawn_anew_in_every_step():
    plain = ArrayStream(domains(7, 11), 4, seed=3)
    varied = ArrayStream(domains(7, 11), 4, 3, "cpu", TableAugmentation(1e-3), TableAugmentation(1e-3))
    noise = []
    for step in range(20):
        batch, expected = varied.at(step), plain.at(step)
        assert torch.equal(batch.index, expected.index)
        assert expected.variant is None
        noise += [batch.x - expected.x, batch.variant - expected.x[4:]]
    assert torch.cat(noise).abs().amax() < 0.05
    assert len(torch.unique(torch.cat(noise))) >= 12 * 20 - 3  # rounding may make two alike


def test_other_seeds_draw_other_variations():
    noise = TableAugmentation(noise=1.0)
    streams = [[ArrayStream(domains(7, 11), 4, seed, "cpu", each) for each in (noise, None)] for seed in (3, 4)]
    first, second = ((varied.at(0).x - plain.at(0).x).sign() for varied, plain in streams)
    assert not torch.equal(first, second)


def test_noise_is_measured_inside_the_domains():
    data = domains(400, 400)
    far = replace(data, target=replace(data.target, x=data.target.x + 1e4))
    change = []
    for each in (data, far):
        stream = ArrayStream(each, 200, 3, "cpu", TableAugmentation(noise=0.1))
        plain = ArrayStream(each, 200, 3)
        change.append((stream.at(0).x - plain.at(0).x).abs().mean().item())
    assert change[1] == pytest.approx(change[0], rel=0.1)


@settings(max_examples=40)
@given(st.integers(2, 9), st.integers(1, 9), st.integers(1, 12), st.integers(0, 2**40))
def test_every_epoch_of_every_domain_is_a_permutation(n_source, n_target, batch_size, seed):
    stream = ArrayStream(domains(n_source, n_target), batch_size, seed)
    for k, n in ((0, n_source), (1, n_target)):
        rows = block(stream, k, steps=-(-3 * n // batch_size))
        for epoch in range(3):
            assert sorted(rows[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_epochs_and_domains_are_shuffled_apart():
    stream = ArrayStream(domains(40, 40), 40, seed=0)
    orders = [block(stream, k, 2)[i : i + 40] for k in (0, 1) for i in (0, 40)]
    assert len({tuple(order) for order in orders}) == 4


def test_seeds_shuffle_apart():
    orders = {tuple(block(ArrayStream(domains(40, 40), 40, seed), 0, 1)) for seed in range(5)}
    assert len(orders) == 5


def test_the_smaller_domain_is_repeated_as_often_as_the_larger_needs():
    stream = ArrayStream(domains(30, 5), 10, seed=0)
    assert np.bincount(block(stream, 0, 3)).tolist() == [1] * 30
    assert np.bincount(block(stream, 1, 3)).tolist() == [6] * 5


def test_a_batch_larger_than_a_domain_holds_each_row_equally_often():
    batch = ArrayStream(domains(4, 6), 12, seed=0).at(0)
    assert np.bincount(batch.index[batch.domain == 0]).tolist() == [3] * 4
    assert np.bincount(batch.index[batch.domain == 1]).tolist() == [2] * 6


def test_rows_keep_their_labels_and_unknown_target_labels_stay_unknown():
    batch = ArrayStream(domains(9, 7), 5, seed=0).at(4)
    assert torch.equal(batch.x[:, 0].long(), batch.index)
    assert torch.equal(batch.y[:5], batch.index[:5] % 2)
    assert (batch.y[5:] == -1).all()


def test_sources_share_one_batch_and_the_target_has_one_of_its_own():
    batch = ArrayStream(domains(6, 7, 8, 9), 8, seed=0).at(0)
    assert batch.domain.tolist() == [0] * 3 + [1] * 3 + [2] * 2 + [3] * 8
    assert batch.n_source == 8


def test_a_batch_too_small_for_its_sources_is_refused():
    with pytest.raises(ValueError, match="batch_size=2 is too small for 3 sources"):
        ArrayStream(domains(4, 4, 4, 4), 2, seed=0)


@pytest.mark.parametrize("seed", [np.uint32(4_000_000_000), np.int64(2**60), 2**70, -1])
def test_any_whole_number_is_a_seed(seed):
    assert len(ArrayStream(domains(4, 4), 2, seed).at(0).x) == 4


@settings(max_examples=60)
@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=20), st.floats(0, 1, exclude_max=True))
def test_rows_are_drawn_as_often_as_their_weights_say(weights, start):
    weights = np.array(weights) + np.eye(1, len(weights))[0]  # not all 0
    rows = drawn(torch.tensor(weights).cumsum(0), torch.tensor(start, dtype=torch.float64))
    counts = np.bincount(rows, minlength=len(weights))
    assert counts.sum() == len(weights)
    assert (np.abs(counts - len(weights) * weights / weights.sum()) < 1 + 1e-9).all()
    assert (counts[weights == 0] == 0).all()


def test_equal_weights_draw_every_row_once_an_epoch():
    for start in (0.0, 0.5, 0.999):
        rows = drawn(torch.full((7,), 0.125, dtype=torch.float64).cumsum(0), torch.tensor(start, dtype=torch.float64))
        assert rows.tolist() == list(range(7))


def test_a_start_that_rounding_takes_to_the_end_draws_no_row_behind_the_last_that_has_a_weight():
    weights, start = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64), torch.tensor(1 - 2**-53, dtype=torch.float64)
    assert 2 + start == 3
    assert drawn(weights.cumsum(0), start).tolist() == [0, 1, 1]


def test_weights_hold_over_epochs_in_every_domain():
    data = domains(6, 5)
    (source,), target = data.sources, data.target
    weights = np.array([0, 1, 1, 2, 4.5, 0.5]), np.array([1.0, 0, 0, 0, 1.0])
    data = replace(data, sources=(replace(source, weight=weights[0]),), target=replace(target, weight=weights[1]))
    stream = ArrayStream(data, 4, seed=1)
    for k, weight in enumerate(weights):
        rows = block(stream, k, steps=600)
        np.testing.assert_allclose(np.bincount(rows, minlength=len(weight)) / 2400, weight / weight.sum(), atol=0.01)
        assert rows != block(ArrayStream(data, 4, seed=2), k, steps=600)


def test_a_gpu_is_not_waited_for_where_an_epoch_begins(monkeypatch):
    stream, calls = ArrayStream(domains(7, 5), 4, seed=0), []
    stream.device = torch.device("cuda")
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda rows: calls.append("pinned") or rows)
    monkeypatch.setattr(torch.Tensor, "to", lambda rows, device, **how: calls.append((device.type, how)) or rows)
    assert len(stream.at(0).x) == 8
    assert calls == ["pinned", ("cuda", {"non_blocking": True})] * 2


@pytest.mark.parametrize("labels", [np.array([-1] * 398 + [0, 1]), np.array([np.nan] * 398 + [0.5, -1])])
@pytest.mark.parametrize("weight", [None, np.linspace(1, 2, 400)])
def test_rows_of_known_label_make_up_a_sixteenth_of_a_large_target(weight, labels):
    data = domains(6, 400)
    stream = ArrayStream(replace(data, target=replace(data.target, y=labels, weight=weight)), 32, seed=0)
    counts = np.bincount(block(stream, 1, steps=400), minlength=400)
    assert counts[398:].sum() / counts.sum() == pytest.approx(1 / 16, rel=0.02)
    among = np.ones(400) if weight is None else weight
    np.testing.assert_allclose(counts[398:] / counts[398:].sum(), among[398:] / among[398:].sum(), rtol=0.02)
    np.testing.assert_allclose(
        counts[:398].reshape(2, -1).sum(1), 12000 * among[:398].reshape(2, -1).sum(1) / among[:398].sum(), rtol=0.02
    )


@pytest.mark.parametrize("known", [0, 13, 400])
def test_other_targets_are_drawn_as_their_weights_say(known):
    data = domains(6, 400)
    labels = np.where(np.arange(400) < known, 1, -1)
    stream = ArrayStream(replace(data, target=replace(data.target, y=labels)), 32, seed=0)
    assert sorted(block(stream, 1, steps=25)) == sorted([*range(400)] * 2)
