"""Small tasks that many tests share, on one thread: the networks here are too small for more."""

import os
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


class Arrays(NamedTuple):
    """A source and a target of two classes, as a user would hold them."""

    x: np.ndarray  # (n_source, d)
    y: np.ndarray
    xt: np.ndarray  # (n_target, d)
    yt: np.ndarray


def shifted(n_source: int, n_target: int, seed: int = 0) -> Arrays:
    """Three features: the first tells the class, the second the domain, the third nothing."""
    rng = np.random.default_rng(seed)
    y, yt = np.arange(n_source) % 2, np.arange(n_target) % 2
    x, xt = (rng.normal(size=(n, 3)).astype(np.float32) for n in (n_source, n_target))
    x[:, 0] += 6 * y - 3
    xt[:, 0] += 6 * yt - 3
    xt[:, 1] += 8
    return Arrays(x, y, xt, yt)


@pytest.fixture
def arrays() -> Arrays:
    """40 source and 24 target rows; classes and domains are separable."""
    return shifted(40, 24)


@pytest.fixture
def make_arrays():
    """Return `shifted`, for other sizes and seeds."""
    return shifted


@pytest.fixture
def images() -> Arrays:
    """12 + 12 colour images (3, 16, 16) of unsigned bytes; bright ones are of class 1."""
    rng = np.random.default_rng(0)
    y = np.arange(12) % 2
    x, xt = (
        rng.integers(0, 100, (12, 3, 16, 16)).astype(np.uint8) + (120 * y[:, None, None, None]).astype(np.uint8)
        for _ in range(2)
    )
    return Arrays(x, y, xt, y)


@pytest.fixture
def three_threads(monkeypatch):
    monkeypatch.setattr("dann.machine.cpu_count", lambda: 3)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)
