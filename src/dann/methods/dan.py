"""Deep adaptation network: multi-kernel maximum mean discrepancy."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..domains import Domains
from ..functional import MMD_ESTIMATORS, mmd, rbf_kernels, squared_distances
from ..network import Network, View
from .base import Method, Terms, not_negative


@dataclass
class DAN(Method):
    """Match the distributions of source and target features in a reproducing kernel Hilbert space.

    The label loss plus ``weight · MMD²`` with the sum of the kernels ``exp(-‖a - b‖² / (2 α σ²))`` of the features
    (n, dim) of both sides, σ² being the mean squared distance of all pairs of a batch.

    Good where an adversary swings, or is always sure since the domains lie far apart; not for batches too small to show
    the distribution, so 64 rows a side or more, nor where class shares differ, as it is blind to classes.

    Parameters
    ----------
    weight : float
        ≥ 0.
    scales : tuple of float
        α of the kernels, > 0.
    estimator : {"biased", "unbiased", "linear"}
        Over all pairs with or without those of a row with itself, or over n / 2 disjoint quadruples in linear time, as
        in the paper: noisier, and negative now and then, as "unbiased" is.

    References
    ----------
    Long et al., Learning Transferable Features with Deep Adaptation Networks, ICML 2015, equations 2-6
    (https://arxiv.org/abs/1502.02791). Differs in three ways: the kernels have equal weights, which the paper
    optimises, one layer is compared, the features, and the estimator is over all pairs unless told otherwise.
    """

    needs_classes = False
    rows_needed = 4
    weight: float = 1.0
    scales: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0)
    estimator: str = "biased"

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        check_kernels(self)

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label loss and the discrepancy."""
        kernels = rbf_kernels(squared_distances(source.features, target.features), self.scales)
        gap = mmd(kernels, len(source.x), self.estimator)
        return {"label": self.label_loss(source, target), "mmd": self.weight * gap}


def check_kernels(method: Any) -> None:
    """Raise ValueError where the kernels or the estimator of a method make no sense."""
    not_negative(method, "weight")
    if method.estimator not in MMD_ESTIMATORS:
        raise ValueError(f"unknown estimator {method.estimator!r}; choose one of: {', '.join(MMD_ESTIMATORS)}")
    if not method.scales or min(method.scales) <= 0:
        raise ValueError(f"scales={method.scales} must be one or more numbers above 0")
