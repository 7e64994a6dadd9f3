"""Joint adaptation network: maximum mean discrepancy of features and predictions together."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..domains import Domains
from ..functional import mmd, rbf_kernels, squared_distances
from ..network import Network, View
from .base import Method, Terms
from .dan import check_kernels


@dataclass
class JAN(Method):
    """Match the joint distributions of features and predicted class probabilities.

    As DAN with the product of two kernels: the sum of Gaussians on the features (n, dim), and
    ``exp(-‖p - q‖² / width)`` on the probabilities (n, classes).

    Good where the predictions are mostly right: classes are matched with classes; not where they are mostly wrong, nor
    for small batches.

    Parameters
    ----------
    weight : float
        ≥ 0.
    scales : tuple of float
        α of the kernels on the features, > 0; see DAN.
    width : float
        Of the kernel on the probabilities, > 0; 1.68 in the authors' code.
    estimator : {"biased", "unbiased", "linear"}
        See DAN.

    References
    ----------
    Long et al., Deep Transfer Learning with Joint Adaptation Networks, ICML 2017, equations 8-10
    (https://arxiv.org/abs/1605.06636). Differs in the estimator, over all pairs unless told otherwise, where the
    paper's is linear in time; layers and kernels are those of the authors' code. The adversarial variant, JAN-A, is
    left out.
    """

    rows_needed = 4
    weight: float = 1.0
    scales: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0)
    width: float = 1.68
    estimator: str = "biased"

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        check_kernels(self)
        if self.width <= 0:
            raise ValueError(f"width={self.width} must be above 0")

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label loss and the joint discrepancy."""
        kernels = rbf_kernels(squared_distances(source.features, target.features), self.scales)
        apart = squared_distances(source.logits.softmax(1), target.logits.softmax(1))
        gap = mmd(kernels * torch.exp(-apart / self.width), len(source.x), self.estimator)
        return {"label": self.label_loss(source, target), "mmd": self.weight * gap}
