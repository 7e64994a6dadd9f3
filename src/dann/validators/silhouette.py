"""How far apart the predicted classes of the target lie."""

import numpy as np

from ..evidence import Evidence

ROWS = 2000  # distances of all pairs: more would take longer than many a training


def silhouette(evidence: Evidence) -> float:
    """Silhouette of the target's features by predicted class, -1 … 1; -1 where all rows are of one class.

    Rewards predicted classes that are dense and far apart. Fails on features that collapse, and where large distances
    inside a class are what the task has. At most 2,000 rows, drawn at random, are looked at.
    """
    from sklearn.metrics import silhouette_score

    x, predicted = evidence.target_features, evidence.target_predicted
    if len(x) > ROWS:
        rows = np.random.default_rng(0).choice(len(x), ROWS, replace=False)
        x, predicted = x[rows], predicted[rows]
    if not 1 < len(np.unique(predicted)) < len(x):
        return -1.0
    return float(silhouette_score(x, predicted))
