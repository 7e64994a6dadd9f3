import builtins
from itertools import permutations

import numpy as np
import pytest
import torch

from dann import DeepJDOT, DomainAdapter


def test_the_terms_are_the_cost_of_the_best_of_all_matchings(sides, terms):
    method = DeepJDOT(distance=0.3, agreement=0.7)
    s = sides(method)
    y = np.arange(6) % 3
    logs = s.g[1] - np.log(np.exp(s.g[1]).sum(1, keepdims=True))
    apart = np.square(s.f[0][:, None] - s.f[1][None]).sum(2)
    unlike = -logs[:, y].T
    cost = 0.3 * apart + 0.7 * unlike
    best = min(permutations(range(6)), key=lambda order: cost[range(6), order].sum())
    found = terms(method, s)
    assert found["distance"] == pytest.approx(0.3 * apart[range(6), best].mean())
    assert found["agreement"] == pytest.approx(0.7 * unlike[range(6), best].mean())


def test_the_plan_itself_gets_no_gradient(sides):
    s = sides(DeepJDOT())
    s.target.features = s.target.features.detach().requires_grad_()
    s.target._logits = s.target.logits.detach()
    loss = DeepJDOT(distance=1.0, agreement=0.0).loss(s.net, s.source, s.target, torch.tensor(1.0))["distance"]
    (gradient,) = torch.autograd.grad(loss, s.target.features)
    pairs = np.square(s.f[0][:, None] - s.f[1][None]).sum(2)
    best = min(permutations(range(6)), key=lambda order: pairs[range(6), order].sum())
    expected = np.empty((6, 4))
    expected[list(best)] = 2 * (s.f[1][list(best)] - s.f[0]) / 6
    np.testing.assert_allclose(gradient, expected)


def test_both_sides_of_a_pair_move_towards_each_other(sides, leaves, gradient):
    method = DeepJDOT(distance=0.3, agreement=0.7)
    s = sides(method)
    views = leaves(s)
    found = method.loss(s.net, *views, torch.tensor(0.5))
    (f, ft), logs = (view.features for view in views), views[1].logits.log_softmax(1)
    cost = 0.3 * (f[:, None] - ft).square().sum(2) - 0.7 * logs[:, s.source.y].T
    best = list(min(permutations(range(6)), key=lambda order: cost.detach().numpy()[range(6), order].sum()))
    distance = 0.3 * (f - ft[best]).square().sum(1).mean()
    agreement = -0.7 * logs[best, s.source.y].mean()
    torch.testing.assert_close(gradient(found["distance"], views), gradient(distance, views))
    of_target = [torch.autograd.grad(value, ft, retain_graph=True)[0] for value in (found["agreement"], agreement)]
    torch.testing.assert_close(*of_target)


def test_without_the_library_the_extra_is_named_before_any_work(arrays, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "ot":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"pip install 'dann\[ot\]'"):
        DomainAdapter("deep-jdot", steps=1).fit(arrays.x, arrays.y, arrays.xt)


@pytest.mark.parametrize("name", ["distance", "agreement"])
def test_settings_that_cannot_train_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}=-1"):
        DeepJDOT(**{name: -1}).check(None)
