"""Nuclear norm of the predictions on the target."""

import numpy as np

from ..evidence import Evidence


def bnm(evidence: Evidence) -> float:
    """Nuclear norm of the matrix of target predictions, over its largest possible value: 0 … 1.

    Rewards certainty and diversity, as information maximisation does, and fails with it; milder on rare classes.

    References
    ----------
    Cui et al., Towards Discriminability and Diversity: Batch Nuclear-norm Maximization, CVPR 2020, as a validator in
    Musgrave et al., Three New Validators, 2022 (https://arxiv.org/abs/2208.07360).
    """
    p = evidence.target_probabilities
    return float(np.linalg.norm(p, "nuc") / np.sqrt(len(p) * min(p.shape)))
