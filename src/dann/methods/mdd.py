"""Margin disparity discrepancy."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..domains import Domains
from ..functional import reverse_gradient, single, warmup
from ..network import Network, View, fresh_copy
from .base import Method, Terms


def log_others(logits: Tensor, labels: Tensor) -> Tensor:
    """Log of the probability of all classes but one, log(1 - softmax(logits)[label]), without cancellation.

    Parameters
    ----------
    logits : Tensor (n, classes)
    labels : Tensor (n,) int64

    Returns
    -------
    Tensor (n,)
    """
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return others.logsumexp(1) - logits.logsumexp(1)


@dataclass
class MDD(Method):
    """Let a second head agree with the label head on the source and contradict it on the target, against the encoder.

    ``CE_S + margin · CE(g'(F_S), y_S) - mean_T log(1 - softmax(g'(F_T))[y_T])``, y being the label head's predictions
    (n,) and g' the second head's logits (n, classes); the last two terms reach the encoder through the gradient
    reversal. The margin makes up for the two terms' different scales.

    Good where classes are many, among the best adversarial methods there; not where the label head is mostly wrong on
    the target: what it predicts stands for the labels.

    Parameters
    ----------
    weight : float
        Final λ of the reversed gradient, ≥ 0; .1 in the authors' code.
    margin : float
        γ, > 0: the exponential of the margin; 4 in most of the paper's experiments.

    References
    ----------
    Zhang et al., Bridging Theory and Algorithm for Domain Adaptation, ICML 2019, equations 27-30
    (https://arxiv.org/abs/1904.05801). Differs in the reversal's strength, which grows by DANN's warm-up over the whole
    training, where the authors' code ties it to a fixed number of steps.
    """

    weight: float = 0.1
    margin: float = 4.0

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        if self.margin <= 0:
            raise ValueError(f"margin={self.margin} must be above 0")
        if self.weight < 0:
            raise ValueError(f"weight={self.weight} is negative: it would pull the domains apart; give 0 or more")

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the second head, which starts from other weights."""
        return {"adversary": fresh_copy(net.head)}

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label loss and both sides of the disparity."""
        features = torch.cat([source.features, target.features])
        reversed_ = reverse_gradient(features, self.weight * warmup(progress))
        logits = single(net.parts["adversary"](reversed_))
        n = len(source.x)
        return {
            "label": self.label_loss(source, target),
            "agreement": self.margin * F.cross_entropy(logits[:n], source.logits.argmax(1)),
            "disparity": -log_others(logits[n:], target.logits.argmax(1)).mean(),
        }
