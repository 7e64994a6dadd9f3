"""Features and logits as plain arrays, so that a method's terms can be worked out beside it in NumPy."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from dann import Network
from dann.domains import Batch
from dann.network import View


class Sides(NamedTuple):
    """A network whose features are its inputs, both views of a batch, and the same as arrays in double precision."""

    net: Network
    batch: Batch
    source: View
    target: View
    f: tuple[np.ndarray, np.ndarray]  # features of source and target
    g: tuple[np.ndarray, np.ndarray]  # logits


@pytest.fixture
def sides():
    """Make `Sides` for a method: 6 + 6 rows of 4 features, 3 classes; the domain head's hidden width is 5."""

    def make(method, rows=6, dim=4, n_classes=3, seed=0):
        torch.manual_seed(seed)
        head = nn.Linear(dim, n_classes)
        net = Network(nn.Identity(), nn.Identity(), head, dim=dim, n_classes=n_classes, n_domains=2, domain_hidden=(5,))
        net.double()
        net.parts.update({name: part.double() for name, part in method.build(net).items()})
        x = torch.randn(2 * rows, dim, dtype=torch.float64)
        x[rows:] += 0.7
        y = torch.cat([torch.arange(rows) % n_classes, torch.full((rows,), -1)])
        domain = torch.arange(2).repeat_interleave(rows)
        variant = x[rows:] + 0.3 * torch.randn(rows, dim, dtype=torch.float64)
        batch = Batch(x, y, domain, torch.arange(rows).repeat(2), rows, target_labelled=False, variant=variant)
        source, target = net.views(batch)
        f = tuple(side.features.detach().numpy() for side in (source, target))
        g = tuple(side.logits.detach().numpy() for side in (source, target))
        return Sides(net, batch, source, target, f, g)

    return make


@pytest.fixture
def terms():
    """Return the terms of a method on `Sides`, as numbers."""

    def compute(method, s, progress=1.0):
        found = method.loss(s.net, s.source, s.target, torch.tensor(progress))
        return {name: float(value.detach()) for name, value in found.items()}

    return compute


@pytest.fixture
def leaves():
    """Return both views of `Sides` with features of their own to differentiate by; their logits follow from these."""

    def make(s):
        return [replace(v, features=v.features.detach().requires_grad_(), _logits=None) for v in (s.source, s.target)]

    return make


@pytest.fixture
def gradient():
    """Return the gradient (rows, dim) of a number with respect to the features of `leaves`, the source's first."""

    def compute(value, views):
        return torch.cat(torch.autograd.grad(value, [view.features for view in views], retain_graph=True))

    return compute


@pytest.fixture(params=[(0.1, 0.46211716), (1.0, 0.99990920)], ids=["early", "end"])
def warmed(request):
    """A progress p, and what the reversal has grown to by then: 2 / (1 + exp(-10 p)) - 1."""
    return request.param
