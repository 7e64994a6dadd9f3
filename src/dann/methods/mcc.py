"""Minimum class confusion."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..domains import Domains
from ..functional import entropy, product, single
from ..network import Network, View
from .base import Method, Terms, not_negative


def confusion(logits: Tensor, temperature: float) -> Tensor:
    """Return the mean confusion of each class with the others, over a batch.

    Probabilities are softened by the temperature, rows weighted by their certainty, and the matrix of class
    correlations is normalised by its rows.

    Parameters
    ----------
    logits : Tensor (n, classes)
    temperature : float
        > 0.
    """
    logits = single(logits) / temperature
    probabilities = logits.softmax(1)
    certainty = 1 + torch.exp(-entropy(logits.detach()))
    weight = certainty * (len(certainty) / certainty.sum())
    matrix = product((probabilities * weight[:, None]).T, probabilities)
    matrix = matrix / matrix.sum(1, keepdim=True).clamp_min(torch.finfo(matrix.dtype).tiny)
    return (matrix.sum() - matrix.trace()) / len(matrix)


@dataclass
class MCC(Method):
    """Make the predictions on the target confuse no pair of classes.

    The loss is the mean confusion between classes, a matrix (classes, classes), of probabilities (n_target, classes).

    Good for any kind of shift that leaves the source's model above chance, one of the strongest single terms; not for
    batches that lack several rows of each class, nor where a few classes make up the target: it spreads the predictions
    over the classes of a batch.

    Parameters
    ----------
    weight : float
        ≥ 0; 1 in the paper.
    temperature : float
        > 0; 2.5 in the paper.

    References
    ----------
    Jin et al., Minimum Class Confusion for Versatile Domain Adaptation, ECCV 2020, equations 1-6
    (https://arxiv.org/abs/1912.03699). Differs in nothing but batch norm, which sees both domains at once: with
    ``encoding="separate"`` one after the other, as in the authors' code.
    """

    weight: float = 1.0
    temperature: float = 2.5

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        not_negative(self, "weight")
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature} must be above 0")

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label loss and the confusion."""
        term = self.weight * confusion(target.logits, self.temperature)
        return {"label": self.label_loss(source, target), "confusion": term}
