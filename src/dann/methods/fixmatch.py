"""FixMatch: pseudo-labels from weak variations for strong ones."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..domains import Domains
from ..network import Network, View
from .base import Method, Terms, not_negative


def confident_cross_entropy(logits: Tensor, taught: Tensor, threshold: float) -> Tensor:
    """Mean over all rows of the cross entropy with the teacher's class, where the teacher is confident, else 0.

    Parameters
    ----------
    logits, taught : Tensor (n, classes)
        Of the learner and of the teacher; the teacher's get no gradient.
    threshold : float
        Probability, 0 … 1, from which the teacher's best class counts.
    """
    confidence, label = taught.detach().softmax(1).max(1)
    return (F.cross_entropy(logits, label, reduction="none") * (confidence >= threshold)).mean()


@dataclass
class FixMatch(Method):
    """Learn, of strong variations of target rows, the classes that are certain for weak ones.

    Logits (n_target, classes) of strong variations are compared with the classes (n_target,) that are certain for weak
    ones.

    Good for images, where variations are known that keep the class, once the source's model is right on a good part of
    the target; together with a method that aligns or balances, such as "dann+fixmatch" or "mcc+fixmatch", it needs less
    of a start. Not where that start is poor, nor for rows without such variations: by itself it strengthens what is
    predicted, right or wrong.

    Parameters
    ----------
    weight : float
        ≥ 0; 1 in the paper.
    threshold : float
        Probability, 0 … 1, from which a prediction becomes a pseudo-label; .95 in the paper.

    References
    ----------
    Sohn et al., FixMatch, NeurIPS 2020, equations 3-4 (https://arxiv.org/abs/2001.07685), with the target's rows as the
    unlabelled ones. Differs in the batch: as many target rows as source rows, where the paper has seven times as many.
    """

    two_views = True
    weight: float = 1.0
    threshold: float = 0.95

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        not_negative(self, "weight")
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold={self.threshold} must lie in [0, 1): no probability is above it")

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label and consistency losses."""
        assert target.variant is not None
        logits = net.logits_unseen(net.normalize(target.variant))
        with torch.no_grad():
            taught = net.logits_alone(target)
        consistency = confident_cross_entropy(logits, taught, self.threshold)
        return {"label": self.label_loss(source, target), "consistency": self.weight * consistency}
