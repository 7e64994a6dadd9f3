"""Certainty of the predictions on the target."""

import numpy as np
from scipy.special import entr

from ..evidence import Evidence


def entropy(evidence: Evidence) -> float:
    """Minus the mean entropy of the target rows' predictions, in nats: at most 0.

    Rewards certainty, which grows when classes are matched. Fails on collapsed and on confidently wrong models: one
    class for all rows is the best that it knows.
    """
    return float(-entr(evidence.target_probabilities).sum(1).mean())


def mean_entropy(probabilities: np.ndarray) -> float:
    """Entropy in nats of the mean of the rows of probabilities (m, classes)."""
    return float(entr(probabilities.mean(0)).sum())
