"""Batch nuclear-norm maximisation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..domains import Domains
from ..network import Network, View
from .base import Method, Terms, not_negative


@dataclass
class BNM(Method):
    """Make the predictions on the target both certain and diverse, by the nuclear norm of a batch's probabilities.

    The label loss minus ``weight · ‖softmax(G_T)‖_* / n``: large where rows are close to one-hot and many classes
    occur. It needs batches larger than the number of classes, and costs a singular value decomposition.

    Parameters
    ----------
    weight : float
        ≥ 0; 1 in the paper.

    References
    ----------
    Cui et al., Towards Discriminability and Diversity: Batch Nuclear-norm Maximization under Label Insufficient
    Situations, CVPR 2020, equation 13 (https://arxiv.org/abs/2003.12237).
    """

    weight: float = 1.0

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        not_negative(self, "weight")

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label loss and the negative nuclear norm a row."""
        probabilities = target.logits.softmax(1)
        norm = torch.linalg.matrix_norm(probabilities, "nuc") / len(probabilities)
        return {"label": self.label_loss(source, target), "rank": -self.weight * norm}
