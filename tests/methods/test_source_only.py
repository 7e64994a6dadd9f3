import numpy as np
import pytest
import torch
from torch import nn

from dann import MLP, DomainAdapter, SourceOnly


def test_the_target_rows_reach_nothing_but_the_scaling(make_arrays):
    """Not even batch norm: with scaling "none" another target gives the same model, bit for bit."""
    data, other = make_arrays(40, 24), make_arrays(40, 24, seed=5)
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    settings = {"backbone": encoder, "steps": 10, "batch_size": 8, "scaling": "none"}
    a, b = (DomainAdapter(SourceOnly(), **settings).fit(data.x, data.y, xt) for xt in (data.xt, other.xt * 10))
    np.testing.assert_array_equal(a.predict_proba(data.x), b.predict_proba(data.x))


def test_it_learns_the_source(arrays):
    model = DomainAdapter("source-only", MLP(hidden=(8,)), steps=60, lr=0.02, batch_size=16)
    assert model.fit(arrays.x, arrays.y, arrays.xt).score(arrays.x, arrays.y) == 1


def test_labels_of_the_target_are_refused_and_not_ignored(arrays):
    labels = np.full(len(arrays.xt), -1)
    DomainAdapter("source-only", steps=2, batch_size=8).fit(arrays.x, arrays.y, arrays.xt, labels)
    labels[0] = 1
    with pytest.raises(ValueError, match="SourceOnly learns labels from the source alone"):
        DomainAdapter("source-only", steps=2, batch_size=8).fit(arrays.x, arrays.y, arrays.xt, labels)
