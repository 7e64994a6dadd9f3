"""Partial adversarial domain adaptation: a target that lacks some of the source's classes."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..domains import Domains
from ..functional import warmup
from ..network import Network, View
from .base import Method, Terms
from .dann import domain_head
from .iwdan import weighed
from .label_shift import DECAY


class TargetShares(nn.Module):
    """Running mean of the predictions on the target."""

    shares: Tensor

    def __init__(self, n_classes: int):
        super().__init__()
        self.register_buffer("shares", torch.full((n_classes,), 1 / n_classes))

    def weights(self, target: View) -> Tensor:
        """Take a batch in; return weights (classes,) in proportion to the shares, 1 on average."""
        self.shares.lerp_(target.logits.detach().softmax(1).mean(0).to(self.shares), 1 - DECAY)
        return self.shares * len(self.shares)


@dataclass
class PADA(Method):
    """DANN for a target that has only some of the source's classes.

    Source rows of classes that the target is hardly ever predicted to have count for little, in the label and in the
    domain loss, so that the target is not pulled to classes that it lacks. The domain head sees features (n, dim); the
    weights have shape (classes,).

    Good where classes are missing from the target; not where all are present but not equally frequent: IWDAN corrects
    for what predictions confuse as well.

    Parameters
    ----------
    weight : float
        Final λ of the reversed gradient, ≥ 0.
    hidden : tuple of int or None
        Hidden widths of the domain head; None takes those of the backbone's paper.

    References
    ----------
    Cao et al., Partial Adversarial Domain Adaptation, ECCV 2018, equations 2-4 (https://arxiv.org/abs/1808.04205).
    Differs in the weights, whose mean is 1 and not their largest, and which follow running means of about a hundred
    batches where the authors predict the whole target now and then.
    """

    own_label = True
    weight: float = 1.0
    hidden: tuple[int, ...] | None = None

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        if self.weight < 0:
            raise ValueError(f"weight={self.weight} is negative: it would pull the domains apart; give 0 or more")

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the domain head and the estimate of the target's shares."""
        return {"domain": domain_head(net, self.hidden), "shares": TargetShares(net.n_classes)}

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the weighed label and domain losses."""
        shares = net.parts["shares"]
        assert isinstance(shares, TargetShares)
        weights = shares.weights(target)
        return weighed(self, net, source, target, weights, weights, self.weight * warmup(progress), normalized=False)
