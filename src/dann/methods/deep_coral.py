"""Deep CORAL: correlation alignment."""

from dataclasses import dataclass

from torch import Tensor

from ..domains import Domains
from ..functional import covariance
from ..network import Network, View
from .base import Method, Terms, not_negative


@dataclass
class DeepCORAL(Method):
    """Match the covariances of source and target features.

    The label loss plus ``weight · ‖C_S - C_T‖²_F / (4 d²)``, C being the unbiased covariances (d, d) of the features
    (n, d) of a batch.

    Good for a cheap and steady first try; not where means or classes lie apart: it sees second moments only.

    Parameters
    ----------
    weight : float
        ≥ 0. The paper sets it so that both terms are about equal at the end.

    References
    ----------
    Sun & Saenko, Deep CORAL: Correlation Alignment for Deep Domain Adaptation, ECCV workshops 2016, equation 1
    (https://arxiv.org/abs/1607.01719). Differs in the layer: the features, where the paper takes the logits.
    """

    needs_classes = False
    rows_needed = 2
    weight: float = 1.0

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        not_negative(self, "weight")

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label loss and the distance of the covariances."""
        gap = (covariance(source.features) - covariance(target.features)).square().sum() / (4 * net.dim**2)
        return {"label": self.label_loss(source, target), "coral": self.weight * gap}
