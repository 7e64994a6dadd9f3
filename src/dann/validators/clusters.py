"""Agreement of predictions with clusters of the target's features: ClassAMI and V-measure."""

import warnings
from collections.abc import Callable

import numpy as np

from ..evidence import Evidence


def clusters(evidence: Evidence) -> np.ndarray:
    """Return the k-means cluster of every target row's features, int (m,), as many clusters as classes."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    m = len(evidence.target_features)
    if m < evidence.n_classes:
        raise ValueError(f"{m} target rows cannot make {evidence.n_classes} clusters, one a class")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # features that have collapsed make fewer clusters
        return KMeans(evidence.n_classes, n_init=3, random_state=0).fit_predict(evidence.target_features)


def compared(score: Callable[[np.ndarray, np.ndarray], float], evidence: Evidence) -> float:
    """Return a score of predictions and clusters, 0 where either has one value for all rows."""
    predicted, found = evidence.target_predicted, clusters(evidence)
    return float(score(predicted, found)) if min(len(set(predicted)), len(set(found))) > 1 else 0.0


def class_ami(evidence: Evidence) -> float:
    """Adjusted mutual information of target predictions and clusters of the target's features, at most 1, 0 by chance.

    0 where all rows are of one class or of one cluster, which agree perfectly and tell nothing. Rewards boundaries that
    run between the target's clusters. Fails where clusters are not classes, and where features
    have collapsed into as many clumps as there are classes, whatever is in them.

    References
    ----------
    Musgrave et al., Three New Validators and a Large-Scale Benchmark Ranking for Unsupervised Domain Adaptation, 2022
    (https://arxiv.org/abs/2208.07360).
    """
    from sklearn.metrics import adjusted_mutual_info_score

    return compared(adjusted_mutual_info_score, evidence)


def v_measure(evidence: Evidence) -> float:
    """V-measure of target predictions and clusters of the target's features, 0 … 1.

    As `class_ami`, without the correction for chance.
    """
    from sklearn.metrics import v_measure_score

    return compared(v_measure_score, evidence)
