import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from dann import SlicedWasserstein
from dann.methods.sliced_wasserstein import sliced_distance


def test_a_translation_costs_its_squared_length_along_each_direction():
    torch.manual_seed(0)
    x = torch.randn(50, 3, dtype=torch.float64)
    moved = x[torch.randperm(50)] + torch.tensor([3.0, 4.0, 0.0])
    directions = torch.tensor([[1.0, 0.6], [0.0, 0.8], [0.0, 0.0]], dtype=torch.float64)
    assert sliced_distance(x, moved, directions).item() == pytest.approx((3**2 + 5**2) / 2)


def test_it_is_the_best_of_all_matchings_along_a_direction():
    from itertools import permutations

    torch.manual_seed(0)
    a, b, direction = torch.randn(5, 2), torch.randn(5, 2), torch.tensor([[0.6], [0.8]])
    p, q = (a @ direction).ravel().numpy(), (b @ direction).ravel().numpy()
    best = min(np.square(p - q[list(order)]).mean() for order in permutations(range(5)))
    assert sliced_distance(a, b, direction).item() == pytest.approx(best)


def test_samples_of_unequal_size_are_compared_by_their_quantiles():
    torch.manual_seed(0)
    a, b = torch.randn(400, 1), torch.randn(1000, 1) + 2
    found = sliced_distance(a, b, torch.ones(1, 1)).item()
    assert found == pytest.approx(sliced_distance(b, a, torch.ones(1, 1)).item())
    assert found**0.5 == pytest.approx(wasserstein_distance(a.ravel(), b.ravel()), rel=0.05)


def test_quantiles_between_rows_are_interpolated():
    few, many = torch.tensor([[0.0], [10.0], [40.0]]), torch.tensor([[3.0], [0.0], [1.0], [7.0], [9.0], [20.0]])
    quantiles = np.interp([0, 2.5, 5], np.arange(6), [0, 1, 3, 7, 9, 20])
    expected = np.square(quantiles - [0, 10, 40]).mean()
    assert sliced_distance(few, many, torch.ones(1, 1)).item() == pytest.approx(expected)


def test_directions_are_drawn_anew_and_have_length_one(sides, monkeypatch):
    import dann.methods.sliced_wasserstein as module

    seen = []
    monkeypatch.setattr(module, "sliced_distance", lambda a, b, d: seen.append(d) or a.sum())
    s = sides(SlicedWasserstein(directions=7))
    for _ in range(2):
        SlicedWasserstein(directions=7).loss(s.net, s.source, s.target, torch.tensor(1.0))
    assert not torch.equal(*seen)
    torch.testing.assert_close(seen[0].norm(dim=0), torch.ones(7, dtype=torch.float64))


def test_directions_point_everywhere_alike(sides, monkeypatch):
    import dann.methods.sliced_wasserstein as module

    seen = []
    monkeypatch.setattr(module, "sliced_distance", lambda a, b, d: seen.append(d) or a.sum())
    method = SlicedWasserstein(directions=20_000)
    s = sides(method)
    method.loss(s.net, s.source, s.target, torch.tensor(1.0))
    second = seen[0] @ seen[0].T / 20_000
    torch.testing.assert_close(seen[0].mean(1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=0.02)
    torch.testing.assert_close(second, torch.eye(4, dtype=torch.float64) / 4, rtol=0, atol=0.02)


def test_both_sides_get_the_gradient_of_the_sorted_projections_distance(sides, leaves, gradient, monkeypatch):
    import dann.methods.sliced_wasserstein as module

    drawn = []
    monkeypatch.setattr(module, "sliced_distance", lambda a, b, d: drawn.append(d) or sliced_distance(a, b, d))
    method = SlicedWasserstein(weight=3.0, directions=7)
    s = sides(method)
    views = leaves(s)
    found = method.loss(s.net, *views, torch.tensor(0.5))["distance"]
    along = [(view.features @ drawn[0]).sort(dim=0).values for view in views]
    expected = 3 * (along[0] - along[1]).square().mean()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient(found, views), gradient(expected, views))


def test_no_direction_is_refused():
    with pytest.raises(ValueError, match="directions=0"):
        SlicedWasserstein(directions=0).check(None)
