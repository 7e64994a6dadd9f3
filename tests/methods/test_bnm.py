import numpy as np
import pytest
import torch

from dann import BNM


def test_the_term_is_the_sum_of_singular_values_a_row(sides, terms):
    s = sides(BNM(weight=2.0))
    p = np.exp(s.g[1]) / np.exp(s.g[1]).sum(1, keepdims=True)
    assert terms(BNM(weight=2.0), s)["rank"] == pytest.approx(-2 * np.sqrt(np.linalg.eigvalsh(p.T @ p)).sum() / 6)


def test_certain_and_diverse_predictions_are_the_best(sides):
    s, found = sides(BNM()), {}
    logits = {
        "diverse": torch.eye(3).repeat(2, 1),
        "one class": torch.eye(3)[:1].repeat(6, 1),
        "uncertain": torch.zeros(6, 3),
    }
    for name, values in logits.items():
        s.target._logits = values.double() * 50
        found[name] = BNM().loss(s.net, s.source, s.target, torch.tensor(1.0))["rank"].item()
    assert found["diverse"] == pytest.approx(-np.sqrt(6 * 3) / 6)  # 3 singular values of √2 each, over 6 rows
    assert found["diverse"] < found["one class"] < found["uncertain"]
