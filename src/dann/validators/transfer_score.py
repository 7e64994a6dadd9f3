"""Clusterability of the target's features and information in its predictions, after TransferScore."""

import numpy as np

from ..evidence import Evidence
from .information_maximization import information_maximization

SHARE = 0.1  # of the rows whose neighbours are looked at


def hopkins(x: np.ndarray, seed: int = 0) -> float:
    """Hopkins statistic of rows x (m, dim): .5 for uniform rows, towards 1 for clusters.

    Compares distances from random points in the rows' box to the nearest row with those between rows.
    """
    from sklearn.neighbors import NearestNeighbors

    random = np.random.default_rng([seed, 1])
    n = max(1, round(SHARE * len(x)))
    points = random.uniform(x.min(0), x.max(0), (n, x.shape[1]))
    rows = x[random.choice(len(x), n, replace=False)]
    near = NearestNeighbors().fit(x)
    of_points = near.kneighbors(points, 1)[0][:, 0].sum()
    of_rows = near.kneighbors(rows, 2)[0][:, 1].sum()
    return float(of_points / (of_points + of_rows)) if of_points + of_rows > 0 else 1.0


def transfer_score(evidence: Evidence) -> float:
    """Hopkins statistic of the target's features plus mutual information of the predictions over log(classes).

    Rewards features in clusters and predictions that are certain and diverse: 0 … 2. Fails on collapsed features, which
    are clusters too.

    References
    ----------
    Yang et al., Can We Evaluate Domain Adaptation Models Without Target-Domain Labels?, ICLR 2024
    (https://arxiv.org/abs/2305.18712). Differs: the third part of that score, how evenly the directions of the label
    head's weights are spread, needs weights and not evidence, and is left out.
    """
    if len(evidence.target_features) < 2:
        raise ValueError("the Hopkins statistic needs two target rows; there is one")
    information = information_maximization(evidence) / np.log(max(evidence.n_classes, 2))
    return hopkins(evidence.target_features.astype(np.float64)) + float(information)
