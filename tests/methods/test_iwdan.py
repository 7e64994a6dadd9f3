import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.nn.functional import softplus

from dann import CDAN, DANN, IWCDAN, IWDAN, PADA
from dann.methods.label_shift import LabelShift, onto_simplex


def batch(generator, shares, n, accuracy):
    """Labels drawn by their shares, and logits of a model that is right so often."""
    y = torch.multinomial(shares, n, replacement=True, generator=generator)
    told = torch.where(
        torch.rand(n, generator=generator) < accuracy, y, torch.randint(len(shares), (n,), generator=generator)
    )
    return y, torch.nn.functional.one_hot(told, len(shares)) * 20.0


class Side:
    def __init__(self, y, logits):
        self.y, self.logits = y, logits


def estimated(source_shares, target_shares, accuracy=0.8, steps=1500):
    generator = torch.Generator().manual_seed(0)
    shift = LabelShift(len(source_shares))
    for _ in range(steps):
        source = Side(*batch(generator, torch.tensor(source_shares), 64, accuracy))
        target = Side(*batch(generator, torch.tensor(target_shares), 64, accuracy))
        shift.update(source, target)
    return shift


def test_the_weights_are_the_ratios_of_the_class_shares():
    shift = estimated([0.2, 0.3, 0.5], [0.6, 0.3, 0.1])
    np.testing.assert_allclose(shift.weights, [3.0, 1.0, 0.2], atol=0.35)
    assert (shift.weights * shift.shares).sum().item() == pytest.approx(1, abs=1e-5)


def test_equal_shares_give_weights_of_one():
    np.testing.assert_allclose(estimated([0.2, 0.3, 0.5], [0.2, 0.3, 0.5]).weights, [1, 1, 1], atol=0.25)


def test_a_class_that_is_missing_in_the_target_gets_no_weight():
    assert estimated([0.25, 0.25, 0.5], [0.5, 0.5, 0.0]).weights[2] < 0.1


def test_a_model_that_knows_nothing_leaves_the_weights_alone():
    np.testing.assert_allclose(estimated([0.2, 0.8], [0.8, 0.2], accuracy=0.0).weights, [1, 1], atol=0.5)


def test_a_batch_counts_by_a_hundredth_and_by_how_sure_its_predictions_are():
    generator, shift = torch.Generator().manual_seed(0), LabelShift(3)
    (g, gt), y = torch.randn(2, 5, 3, generator=generator), torch.tensor([0, 1, 1, 0, 1])
    shift.update(Side(y, g), Side(None, gt))
    p, pt = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True) for logits in (g.numpy(), gt.numpy()))
    confusion = [[np.mean(p[:, i] * (y.numpy() == k)) for k in range(3)] for i in range(3)]
    np.testing.assert_allclose(shift.confusion, 0.99 / 9 + 0.01 * np.array(confusion), rtol=1e-5)
    np.testing.assert_allclose(shift.predicted, 0.99 / 3 + 0.01 * pt.mean(0), rtol=1e-5)
    np.testing.assert_allclose(shift.shares, 0.99 / 3 + 0.01 * np.array([0.4, 0.6, 0.0]), rtol=1e-5)


def test_the_steps_end_at_the_solution_of_the_quadratic_programme():
    shift = estimated([0.2, 0.3, 0.5], [0.6, 0.3, 0.1], steps=300)
    c, mu, p = (t.double().numpy() for t in (shift.confusion, shift.predicted, shift.shares))
    solved = minimize(
        lambda w: ((mu - c @ w) ** 2).sum(),
        np.ones(3),
        bounds=[(0, None)] * 3,
        constraints={"type": "eq", "fun": lambda w: w @ p - 1},
        options={"ftol": 1e-12},
    )
    np.testing.assert_allclose(shift.weights, solved.x, atol=0.05)


@pytest.mark.parametrize("v", [[0.2, 0.3, 0.5], [2.0, -1.0, 0.3], [-5.0, -5.0, -4.9], [0.0, 0.0, 0.0]])
def test_the_projection_is_the_nearest_point_of_the_simplex(v):
    found = onto_simplex(torch.tensor(v, dtype=torch.float64)).numpy()
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    others = np.random.default_rng(0).dirichlet([0.5, 0.5, 0.5], 2000)
    assert np.square(found - v).sum() <= np.square(others - v).sum(1).min() + 1e-9


@pytest.mark.parametrize(
    ("method", "plain"), [(IWDAN(), DANN()), (IWCDAN(), CDAN(entropy=False)), (IWCDAN(entropy=True), CDAN())]
)
def test_weights_of_one_give_the_plain_methods_losses(method, plain, sides, terms, monkeypatch):
    monkeypatch.setattr(LabelShift, "update", lambda *_: None)
    s = sides(method)
    assert terms(method, s) == pytest.approx(terms(plain, s))


def test_source_rows_count_by_their_class_in_both_losses(sides, terms, monkeypatch):
    monkeypatch.setattr(LabelShift, "update", lambda *_: None)
    s = sides(IWDAN())
    weights, shares = np.array([2.0, 0.5, 0.5]), np.array([0.2, 0.3, 0.5])
    s.net.parts["shift"].weights.copy_(torch.tensor(weights))
    s.net.parts["shift"].shares.copy_(torch.tensor(shares))
    y = np.arange(6) % 3
    ce = np.log(np.exp(s.g[0]).sum(1)) - s.g[0][np.arange(6), y]
    z_s, z_t = (s.net.parts["domain"](torch.from_numpy(f)).detach().numpy().ravel() for f in s.f)
    found = terms(IWDAN(), s)
    assert found["label"] == pytest.approx((weights[y] / (3 * shares[y]) * ce).mean())  # a balanced error, weighed
    assert found["domain"] == pytest.approx(
        np.average(np.logaddexp(0, z_s), weights=weights[y]) + np.logaddexp(0, -z_t).mean()
    )


@pytest.mark.parametrize(
    "method", [IWDAN(weight=0.7), IWCDAN(weight=0.7), PADA(weight=0.7)], ids=["iwdan", "iwcdan", "pada"]
)
def test_the_features_get_the_reversed_gradient_of_weighed_rows(method, warmed, sides, leaves, gradient):
    progress, grown = warmed
    s = sides(method)
    parts, views = s.net.parts, leaves(s)
    found = method.loss(s.net, *views, torch.tensor(progress))["domain"]
    weights = 3 * parts["shares"].shares if "shares" in parts else parts["shift"].weights  # with this batch
    weight = weights[s.source.y]
    z_s, z_t = (parts["domain"](method.domain_input(s.net, v.features, v.logits)).squeeze(1) for v in views)
    mass = len(weight) if "shares" in parts else weight.sum()
    plain = (weight * softplus(z_s)).sum() / mass + softplus(-z_t).mean()
    torch.testing.assert_close(gradient(found, views), -0.7 * grown * gradient(plain, views), rtol=1e-5, atol=0)


@pytest.mark.parametrize("method", [IWDAN(), IWCDAN(), PADA()], ids=["iwdan", "iwcdan", "pada"])
def test_known_target_labels_count_in_full_and_alike(method, sides, terms):
    without, s = terms(method, sides(method)), sides(method)
    s.target.y, s.target.labelled = torch.tensor([2, 0, -1, -1, -1, 1]), True
    known = [0, 1, 5]
    logs = s.g[1] - np.log(np.exp(s.g[1]).sum(1, keepdims=True))
    expected = -logs[known, s.target.y[known]].mean()
    assert terms(method, s)["label"] - without["label"] == pytest.approx(expected)


@pytest.mark.parametrize("method", [IWDAN(), IWCDAN()], ids=["iwdan", "iwcdan"])
def test_every_batch_goes_into_the_estimate_once(method, sides, terms):
    s, expected = sides(method), LabelShift(3).double()
    for _ in range(3):
        terms(method, s)
        expected.update(s.source, s.target)
    found = s.net.parts["shift"].state_dict()
    torch.testing.assert_close(found, expected.state_dict(), rtol=0, atol=0)
    assert not torch.equal(found["weights"], torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("method", [IWDAN(weight=-1.0), IWCDAN(weight=-1.0), IWCDAN(width=0)])
def test_settings_that_cannot_train_are_refused(method):
    with pytest.raises(ValueError, match=r"weight=-1.0|width=0"):
        method.check(None)
