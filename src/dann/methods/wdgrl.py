"""Wasserstein distance guided representation learning."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..domains import Batch, Domains
from ..functional import single
from ..network import Network, mlp
from .base import Method, Move, not_negative


def slope_penalty(critic: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """Mean of (‖gradient of the critic‖ - 1)² at rows a (n, d) and b (m, d), and at random points between them."""
    n = min(len(a), len(b))
    share = torch.rand(n, 1, device=a.device, dtype=a.dtype)
    x = torch.cat([a, b, share * a[:n] + (1 - share) * b[:n]]).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(single(critic(x)).sum(), x, create_graph=True)
    return (torch.linalg.vector_norm(gradient, dim=1) - 1).square().mean()


@dataclass
class WDGRL(Method):
    """Shrink the Wasserstein distance of the domains' features, which a critic estimates.

    A critic of slope 1, features (n, dim) to scores (n, 1), has a gradient however far apart the domains lie, where
    DANN's domain head is sure and its gradient vanishes. Several sources count as one.

    Good where the domains lie far apart; not where class shares differ, as it is blind to classes, nor for images with
    the default weight: 1 is too large there. Slower by ``critic_steps``.

    Parameters
    ----------
    weight : float
        Of the distance in the encoder's loss, ≥ 0; 1 in the paper, .01 for digits in the authors' code.
    critic_steps : int
        Steps of the critic a batch, ≥ 1; 5 in the paper.
    penalty : float
        Weight of the gradient penalty, > 0; 10 in the paper.
    hidden : tuple of int or None
        Hidden widths of the critic; None takes those of the backbone's domain head.

    References
    ----------
    Shen et al., Wasserstein Distance Guided Representation Learning for Domain Adaptation, AAAI 2018, equations 3-6 and
    algorithm 1 (https://arxiv.org/abs/1707.01217). Differs in the learning rate, one for critic and encoder, where the
    algorithm has two.
    """

    needs_classes = False
    weight: float = 1.0
    critic_steps: int = 5
    penalty: float = 10.0
    hidden: tuple[int, ...] | None = None

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        not_negative(self, "weight")
        if self.critic_steps < 1 or self.penalty <= 0:
            raise ValueError(
                f"critic_steps={self.critic_steps} and penalty={self.penalty} must be at least 1 and above 0: "
                "without them there is no distance"
            )

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the critic."""
        return {"critic": mlp(net.dim, *(net.domain_hidden if self.hidden is None else self.hidden), 1)}

    def moves(self, net: Network, batch: Batch, progress: Tensor) -> Iterator[Move]:
        """Yield the critic's steps, and one of encoder and label head."""
        critic = net.parts["critic"]
        with torch.no_grad():
            fixed = [side.features for side in net.views(batch)]
        for _ in range(self.critic_steps):
            distance = distance_of(critic, *fixed)
            yield ("critic",), {"distance": -distance, "slope": self.penalty * slope_penalty(critic, *fixed)}
        source, target = net.views(batch)
        distance = distance_of(critic, source.features, target.features)
        yield ("encoder", "head"), {"label": self.label_loss(source, target), "distance": self.weight * distance}


def distance_of(critic: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """Difference of the critic's means over rows a (n, d) and b (m, d)."""
    return single(critic(a)).mean() - single(critic(b)).mean()
