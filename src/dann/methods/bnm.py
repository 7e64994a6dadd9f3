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

    The label loss minus ``weight · ‖softmax(G_T)‖_* / n`` for logits G_T (n, classes): large where rows are close to
    one-hot and many classes occur.

    Good where entropy alone would let classes die out; not for batches that are not larger than the number of classes,
    nor where a few classes make up the target. It costs a singular value decomposition a step.

    Parameters
    ----------
    weight : float
        ≥ 0; 1 in the paper.

    References
    ----------
    Cui et al., Towards Discriminability and Diversity: Batch Nuclear-norm Maximization under Label Insufficient
    Situations, CVPR 2020, equation 13 (https://arxiv.org/abs/2003.12237). Differs in nothing from the equation; the
    authors' code has the mean of the singular values, so it divides by n or by the number of classes, whichever is
    less.
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
