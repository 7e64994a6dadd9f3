"""DIRT-T: refining a fitted model on the target alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..domains import Batch, Domains
from ..functional import entropy
from ..network import Network
from .base import Method, Move, not_negative
from .self_ensembling import Teacher
from .vada import smoothness_loss


@dataclass
class DIRTT(Method):
    """Move the decision boundaries of a fitted model out of the target's clusters, in small steps.

    Predictions, logits (n, classes), are made certain and smooth on the target as in VADA, and stay near those of a
    moving average of the model, so that no step goes far. Use `DomainAdapter.adapt_to`; no source is needed.

    Good for a model of VADA, or of any other method that is right on most of the target; not where it is wrong on much
    of it: what is predicted wrong is refined as well.

    Parameters
    ----------
    target_weight : float
        Of entropy and smoothness, ≥ 0; .01 in the paper.
    teacher_weight : float
        Of the divergence from the teacher, β ≥ 0; .01 in the paper.
    radius : float
        Length of the change that predictions should stand, > 0, as for VADA.
    decay : float
        Of the moving average that teaches, 0 … 1; .998 in the paper.

    References
    ----------
    Shu et al., A DIRT-T Approach to Unsupervised Domain Adaptation, ICLR 2018, section 5 and equation 10
    (https://arxiv.org/abs/1802.08735). Differs in the teacher, which follows in every step; the authors' code replaces
    it every 5,000 steps by the moving average.
    """

    source_free = True
    target_weight: float = 0.01
    teacher_weight: float = 0.01
    radius: float = 3.5
    decay: float = 0.998

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        not_negative(self, "target_weight", "teacher_weight")
        if self.radius <= 0:
            raise ValueError(f"radius={self.radius} compares a row with itself; give more than 0")
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay={self.decay} must lie in [0, 1)")

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the teacher, at first the fitted model."""
        return {"teacher": Teacher(net, fitted=True)}

    def moves(self, net: Network, batch: Batch, progress: Tensor) -> Iterator[Move]:
        """Yield one move of encoder and label head on the target's rows; then the teacher follows."""
        target = net.encode(batch, slice(batch.n_source, None))
        teacher, x = net.parts["teacher"], net.normalize(target.x)
        assert isinstance(teacher, Teacher)
        smooth = smoothness_loss(net.logits_unseen, x, target.logits, self.radius)
        taught = teacher(x).softmax(1)
        yield (
            ("encoder", "head"),
            {
                "entropy": self.target_weight * entropy(target.logits).mean(),
                "smoothness": self.target_weight * smooth,
                "teacher": self.teacher_weight * F.kl_div(target.logits.log_softmax(1), taught, reduction="batchmean"),
            },
        )
        teacher.follow(net, self.decay)
