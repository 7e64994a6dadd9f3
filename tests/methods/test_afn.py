import numpy as np
import pytest
import torch

from dann import AFN


def test_stepwise_pushes_every_norm_outwards_by_the_same_amount(sides):
    s = sides(AFN())
    s.source.features, s.target.features = (side.features.detach().requires_grad_() for side in (s.source, s.target))
    loss = AFN(weight=0.5, step=2.0).loss(s.net, s.source, s.target, torch.tensor(1.0))["norm"]
    assert loss.item() == pytest.approx(0.5 * 2 * 2.0**2)  # (‖f‖ - ‖f‖ - Δ)² = Δ² in both domains
    for side, f in zip((s.source, s.target), s.f, strict=True):
        (gradient,) = torch.autograd.grad(loss, side.features, retain_graph=True)
        outwards = f / np.linalg.norm(f, axis=1, keepdims=True)
        np.testing.assert_allclose(gradient, -0.5 * 2 * 2.0 * outwards / len(f))


def test_hard_compares_the_mean_norm_with_the_radius(sides, terms):
    method = AFN(weight=0.5, variant="hard", radius=7.0)
    s = sides(method)
    expected = 0.5 * sum((np.linalg.norm(f, axis=1).mean() - 7) ** 2 for f in s.f)
    assert terms(method, s)["norm"] == pytest.approx(expected)


def test_hard_moves_the_norms_of_both_sides(sides, leaves, gradient):
    method = AFN(weight=0.5, variant="hard", radius=7.0)
    s = sides(method)
    views = leaves(s)
    found = method.loss(s.net, *views, torch.tensor(0.5))["norm"]
    expected = 0.5 * sum((view.features.norm(dim=1).mean() - 7) ** 2 for view in views)
    torch.testing.assert_close(gradient(found, views), gradient(expected, views))


def test_an_unknown_variant_is_told_the_known_ones():
    with pytest.raises(ValueError, match="unknown variant 'soft'; choose one of: stepwise, hard"):
        AFN(variant="soft").check(None)


@pytest.mark.parametrize("settings", [{"step": 0.0}, {"radius": 0.0}, {"step": float("nan")}])
def test_settings_that_move_no_norm_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        AFN(**settings).check(None)


def test_features_of_zero_leave_the_gradient_finite(sides):
    s = sides(AFN())
    s.target.features = torch.zeros(6, 4, dtype=torch.float64, requires_grad=True)
    loss = AFN().loss(s.net, s.source, s.target, torch.tensor(1.0))["norm"]
    assert torch.autograd.grad(loss, s.target.features)[0].isfinite().all()
