import numpy as np
import pytest
import torch

from dann import DeepCORAL
from dann.functional import covariance


def test_the_term_is_the_papers(sides, terms):
    s = sides(DeepCORAL(weight=3.0))
    gap = np.cov(s.f[0].T) - np.cov(s.f[1].T)
    assert terms(DeepCORAL(weight=3.0), s)["coral"] == pytest.approx(3 * (gap**2).sum() / (4 * 4**2))


def test_it_is_zero_for_equal_covariances_however_far_apart(sides):
    s = sides(DeepCORAL())
    moved = s.source.features + 100
    torch.testing.assert_close(covariance(moved), covariance(s.source.features))


def test_both_sides_get_the_gradient(sides, leaves, gradient):
    method = DeepCORAL(weight=3.0)
    s = sides(method)
    views = leaves(s)
    found = method.loss(s.net, *views, torch.tensor(0.5))["coral"]
    source, target = (torch.cov(view.features.T) for view in views)
    expected = 3 * (source - target).square().sum() / (4 * 4**2)
    torch.testing.assert_close(gradient(found, views), gradient(expected, views))
