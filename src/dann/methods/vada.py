"""Virtual adversarial domain adaptation."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..domains import Domains
from ..functional import domain_loss, entropy, reverse_gradient
from ..network import Network, View
from .base import Method, Terms, not_negative
from .dann import domain_head, logits_of_domains

PROBE = 0.1  # length of the step along which the direction is sought: small, and large enough for bfloat16


def of_length(x: Tensor, length: float) -> Tensor:
    """Scale every row of x (n, *input) to a length."""
    rows = x.flatten(1)
    rows = rows / rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)  # squares would underflow
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(1e-12)
    return (rows * (length / norms)).reshape(x.shape)


def smoothness_loss(predict: Callable[[Tensor], Tensor], x: Tensor, logits: Tensor, radius: float) -> Tensor:
    """Mean divergence of the predictions at x from those at the worst point of a given distance.

    KL(p(x) ‖ p(x + r)) with p(x) held fixed, r being of length ``radius`` in the direction in which a small step
    changes the predictions most, found by one power iteration from a random start.

    Parameters
    ----------
    predict : callable
        Rows → logits (n, classes).
    x : Tensor (n, *input)
    logits : Tensor (n, classes)
        Of x.
    radius : float
        ≥ 0, in units of x.

    References
    ----------
    Miyato et al., Virtual Adversarial Training, TPAMI 2018, equations 4-11 (https://arxiv.org/abs/1704.03976).
    """
    fixed = logits.detach().softmax(1)

    def divergence(step: Tensor) -> Tensor:
        return F.kl_div(predict(x.detach() + step).log_softmax(1), fixed, reduction="batchmean")

    start = of_length(torch.randn_like(x), PROBE).requires_grad_()
    (direction,) = torch.autograd.grad(divergence(start), start)
    return divergence(of_length(direction, radius))


@dataclass
class VADA(Method):
    """DANN with predictions that are certain on the target and smooth on both domains.

    The label loss, the domain loss through the gradient reversal, the entropy of the target's predictions, and on both
    domains the divergence of predictions, logits (n, classes), under the worst small change of a row (n, *input).

    Good where classes form clusters. Not where a change of length ``radius`` may change the class: set it for your
    data, as its default is for images; nor where time is short: three passes through the network for every row.

    Parameters
    ----------
    weight : float
        λ of the reversed gradient, ≥ 0, from the start; .01 in the paper.
    target_weight : float
        Of entropy and smoothness on the target, ≥ 0; .01 in most of the paper's experiments.
    source_weight : float
        Of smoothness on the source, ≥ 0; 1 in the paper (0 for MNIST → SVHN and alike).
    radius : float
        Length of the change, > 0, in units of the preprocessed rows; 3.5 in the paper, for images of 32×32×3.
    hidden : tuple of int or None
        Hidden widths of the domain head; None takes those of the backbone's paper.

    References
    ----------
    Shu et al., A DIRT-T Approach to Unsupervised Domain Adaptation, ICLR 2018, equations 2-8
    (https://arxiv.org/abs/1802.08735). Differs in the game: all take one step with a reversed gradient, where the
    authors' code has domain head and encoder take turns, with opposite labels and half of the domain loss. The
    refinement DIRT-T is not part of it: see DIRTT.
    """

    weight: float = 0.01
    target_weight: float = 0.01
    source_weight: float = 1.0
    radius: float = 3.5
    hidden: tuple[int, ...] | None = None

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        not_negative(self, "weight", "target_weight", "source_weight")
        if self.radius <= 0:
            raise ValueError(f"radius={self.radius} compares a row with itself; give more than 0")

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the domain head."""
        return {"domain": domain_head(net, self.hidden)}

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label, domain, entropy and smoothness losses."""

        def smooth(side: View) -> Tensor:
            return smoothness_loss(net.logits_unseen, net.normalize(side.x), net.logits_alone(side), self.radius)

        features = reverse_gradient(torch.cat([source.features, target.features]), self.weight)
        domain = torch.cat([source.domain, target.domain])
        return {
            "label": self.label_loss(source, target),
            "domain": domain_loss(logits_of_domains(net, features), domain),
            "entropy": self.target_weight * entropy(target.logits).mean(),
            "source smoothness": self.source_weight * smooth(source),
            "target smoothness": self.target_weight * smooth(target),
        }
