"""Effective rank of the target's features."""

import numpy as np
from scipy.special import entr

from ..evidence import Evidence


def rank_me(evidence: Evidence) -> float:
    """Effective number of dimensions of the target's features, 1 … dim: exp of the entropy of their singular values.

    Notices features that collapse into few dimensions. Knows nothing of classes, and rewards noise.

    References
    ----------
    Garrido et al., RankMe, ICML 2023, equation 1 (https://arxiv.org/abs/2210.02885).
    """
    values = np.linalg.svd(evidence.target_features.astype(np.float64), compute_uv=False)
    total = values.sum()
    return float(np.exp(entr(values / total).sum())) if total > 0 else 1.0
