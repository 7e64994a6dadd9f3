import numpy as np
import pytest
import torch

from dann import MCC
from dann.methods.mcc import confusion


def test_the_term_is_the_papers_written_out(sides, terms):
    method = MCC(weight=2.0, temperature=2.5)
    s = sides(method)
    g = s.g[1] / 2.5
    p = np.exp(g) / np.exp(g).sum(1, keepdims=True)
    n, k = p.shape
    weight = [1 + np.exp((row * np.log(row)).sum()) for row in p]
    weight = [n * w / sum(weight) for w in weight]
    c = np.array([[sum(weight[i] * p[i, a] * p[i, b] for i in range(n)) for b in range(k)] for a in range(k)])
    c = c / c.sum(1, keepdims=True)
    expected = sum(c[a, b] for a in range(k) for b in range(k) if a != b) / k
    assert terms(method, s)["confusion"] == pytest.approx(2 * expected)


def test_a_class_of_probability_zero_leaves_the_confusion_finite():
    assert confusion(torch.tensor([[300.0, 0.0]] * 4), 2.5).isfinite()


def test_certain_and_diverse_predictions_confuse_nothing_and_uniform_ones_all():
    assert confusion(torch.eye(3) * 1000, 2.5).item() == pytest.approx(0, abs=1e-6)
    assert confusion(torch.zeros(6, 3), 2.5).item() == pytest.approx(2 / 3)


def test_certainty_is_a_constant_weight():
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(confusion(logits, 2.0), logits)
    p = (logits / 2).softmax(1)
    weight = 1 + torch.exp((p * p.log()).sum(1)).detach()
    weight = 6 * weight / weight.sum()
    joint = p.T @ (weight[:, None] * p)
    joint = joint / joint.sum(1, keepdim=True)
    (expected,) = torch.autograd.grad((joint.sum() - joint.trace()) / 3, logits)
    torch.testing.assert_close(slope, expected)
