"""Soft neighbourhood density of the target."""

import numpy as np
from scipy.special import entr, softmax

from ..evidence import Evidence

ROWS = 3000
TEMPERATURE = 0.05


def snd(evidence: Evidence) -> float:
    """Mean entropy of the soft neighbourhoods of target predictions, in nats, 0 … log(rows - 1).

    The similarity of two rows is the cosine of their class probabilities; softmax(similarity / .05) over all other rows
    is a row's neighbourhood. Rewards dense clusters of predictions. Fails badly on collapse, which is the densest
    cluster of all: do not choose by it alone. At most 3,000 rows, drawn at random, are looked at.

    References
    ----------
    Saito et al., Tune it the Right Way, ICCV 2021, equations 1-3 (https://arxiv.org/abs/2108.10860).
    """
    p = evidence.target_probabilities
    if len(p) < 2:
        raise ValueError("neighbourhoods need two target rows; there is one")
    if len(p) > ROWS:
        p = p[np.random.default_rng(0).choice(len(p), ROWS, replace=False)]
    unit = p / np.linalg.norm(p, axis=1, keepdims=True)
    similarity = unit @ unit.T / TEMPERATURE
    np.fill_diagonal(similarity, -np.inf)
    return float(entr(softmax(similarity, axis=1)).sum(1).mean())
