import numpy as np
import pytest
import torch

from dann import EntropyMinimization, InformationMaximization
from dann.functional import entropy, mean_entropy


def shannon(p):
    return -sum(v * np.log(v) for v in p if v > 0)


def test_the_terms_are_shannons_entropies(sides, terms):
    method = InformationMaximization(weight=0.3, diversity=2.0)
    s = sides(method)
    p = np.exp(s.g[1]) / np.exp(s.g[1]).sum(1, keepdims=True)
    mean = np.mean([shannon(row) for row in p])
    found = terms(method, s)
    assert found["entropy"] == pytest.approx(0.3 * mean)
    assert found["diversity"] == pytest.approx(-0.3 * 2 * shannon(p.mean(0)))
    assert terms(EntropyMinimization(weight=0.3), s)["entropy"] == pytest.approx(0.3 * mean)


def test_extreme_logits_have_finite_entropies_and_gradients():
    logits = torch.tensor([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0]], requires_grad=True)
    assert entropy(logits).tolist() == pytest.approx([0, np.log(3)])
    for value in (entropy(logits).sum(), mean_entropy(logits * torch.tensor([[1.0], [0.0]]) + logits)):
        assert torch.autograd.grad(value, logits)[0].isfinite().all()


def test_one_class_for_all_rows_has_no_entropy_of_the_mean():
    assert mean_entropy(torch.tensor([[500.0, 0, 0]]).repeat(4, 1)).item() == pytest.approx(0, abs=1e-6)
    assert mean_entropy(torch.eye(3) * 500).item() == pytest.approx(np.log(3))
