"""Source errors weighed by how much the target would have of them: IWCV and deep embedded validation."""

import numpy as np

from ..evidence import Evidence
from .density import importance_weights


def iwcv(evidence: Evidence) -> float:
    """Minus the mean of weighed source errors: importance-weighted cross-validation.

    Rewards models that are right on the source rows that look like target rows. Fails where the domains do not overlap
    in the features: all weights then go to 0, and with them the risk of any model, however wrong. After alignment the
    weights tell little.

    References
    ----------
    Sugiyama et al., Covariate Shift Adaptation by Importance Weighted Cross Validation, JMLR 8, 2007, section 3.
    """
    return float(-(importance_weights(evidence) * ~evidence.source_right).mean())


def control_variate(weights: np.ndarray, losses: np.ndarray) -> float:
    """Return the mean weighed loss, its variance reduced by what is known: that weights are 1 on average."""
    weighed, spread = weights * losses, weights.var()
    slope = -np.cov(weighed, weights, bias=True)[0, 1] / spread if spread > 0 else 0.0
    return float(weighed.mean() + slope * weights.mean() - slope)


def dev(evidence: Evidence) -> float:
    """Minus the deep embedded validation risk: weighed source errors with a control variate.

    As `iwcv`, with less variance. The estimate may leave 0 … 1.

    References
    ----------
    You et al., Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation, ICML 2019, algorithm 1.
    """
    return -control_variate(importance_weights(evidence), (~evidence.source_right).astype(float))


def devn(evidence: Evidence) -> float:
    """Minus the deep embedded validation risk with weights divided by their largest.

    As `dev`, on a scale that large weights do not stretch. Where one weight is far above the others that row alone
    decides.

    References
    ----------
    Musgrave et al., Unsupervised Domain Adaptation: A Reality Check, 2021 (https://arxiv.org/abs/2111.15672).
    """
    weights = importance_weights(evidence)
    return -control_variate(weights / weights.max(), (~evidence.source_right).astype(float))
