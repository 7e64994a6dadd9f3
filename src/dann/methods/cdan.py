"""Conditional domain-adversarial network, with or without entropy conditioning."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..domains import Domains
from ..functional import domain_loss, entropy, reverse_gradient, single, warmup
from ..network import Network, View, mlp
from .base import Method, Terms
from .dann import logits_of_domains

LARGEST = 4096  # entries of the outer product; above, random maps (section 3.3 of the paper)


class RandomMaps(nn.Module):
    """Fixed random matrices that turn features and probabilities into vectors of one width, kept with the model."""

    features: Tensor
    classes: Tensor

    def __init__(self, dim: int, n_classes: int, width: int):
        super().__init__()
        self.register_buffer("features", torch.randn(dim, width))
        self.register_buffer("classes", torch.randn(n_classes, width))

    def forward(self, features: Tensor, probabilities: Tensor) -> Tensor:
        """Return the product of both, (n, width)."""
        width = self.features.shape[1]
        return (features @ self.features) * (probabilities @ self.classes) / width**0.5


def joint_head(net: Network, hidden: tuple[int, ...] | None, width: int) -> dict[str, nn.Module]:
    """Build the domain head on the outer product of features and probabilities, and random maps where it is large."""
    entries, hidden = net.dim * net.n_classes, net.domain_hidden if hidden is None else hidden
    if entries <= LARGEST:
        return {"domain": mlp(entries, *hidden, net.n_domains - 1)}
    return {"domain": mlp(width, *hidden, net.n_domains - 1), "maps": RandomMaps(net.dim, net.n_classes, width)}


def joint(net: Network, features: Tensor, logits: Tensor) -> Tensor:
    """Return the outer product of features and detached probabilities, (n, dim · classes), or its random projection."""
    probabilities = logits.softmax(1).detach()
    if "maps" in net.parts:
        return single(net.parts["maps"](features, probabilities))
    return (probabilities[:, :, None] * features[:, None, :]).flatten(1)


@dataclass
class CDAN(Method):
    """Train features from which the domain cannot be told, even knowing the predicted class.

    As DANN, but the domain head sees the outer product (n, dim · classes) of features (n, dim) and detached class
    probabilities (n, classes), so that classes are aligned one by one. Where a row of it has more than 4096 entries,
    random maps of both are multiplied instead.

    Good where classes are many or clusters could be swapped, better than DANN there; not where the source's model is
    mostly wrong.

    Parameters
    ----------
    weight : float
        Final λ of the reversed gradient, ≥ 0.
    entropy : bool
        CDAN+E: weigh every row by 1 + exp(-H(p)) in the mean of its domain, so that certain rows count twice.
    hidden : tuple of int or None
        Hidden widths of the domain head; None takes those of the backbone's paper.
    width : int
        Of the random maps, ≥ 1.

    References
    ----------
    Long et al., Conditional Adversarial Domain Adaptation, NeurIPS 2018, equations 2-9
    (https://arxiv.org/abs/1705.10667). Differs in the entropy's weights, constants here, where the authors' code sends
    a gradient through them; the domains weigh as for DANN.
    """

    weight: float = 1.0
    entropy: bool = True
    hidden: tuple[int, ...] | None = None
    width: int = 1024

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        if self.weight < 0:
            raise ValueError(f"weight={self.weight} is negative: it would pull the domains apart; give 0 or more")
        if self.width < 1:
            raise ValueError(f"width={self.width} leaves the random maps empty; give 1 or more")

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the domain head, and the random maps where they are needed."""
        return joint_head(net, self.hidden, self.width)

    def domain_input(self, net: Network, features: Tensor, logits: Tensor) -> Tensor:
        """Return the outer product, flat, or its random projection."""
        return joint(net, features, logits)

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label and domain losses."""
        features = torch.cat([source.features, target.features])
        logits = torch.cat([source.logits, target.logits])
        seen = reverse_gradient(joint(net, features, logits), self.weight * warmup(progress))
        certainty = 1 + torch.exp(-entropy(logits.detach())) if self.entropy else None
        domain = torch.cat([source.domain, target.domain])
        return {
            "label": self.label_loss(source, target),
            "domain": domain_loss(logits_of_domains(net, seen), domain, weight=certainty),
        }
