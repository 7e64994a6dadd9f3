"""Maximum classifier discrepancy."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from ..domains import Batch, Domains
from ..functional import cross_entropy, single
from ..network import Network, fresh_copy
from .base import Method, Move


def discrepancy(logits: Tensor, others: Tensor) -> Tensor:
    """Mean absolute difference of two heads' probabilities, over rows and classes, of logits (n, classes) each."""
    return (logits.softmax(1) - others.softmax(1)).abs().mean()


@dataclass
class MCD(Method):
    """Let two label heads disagree on the target as much as the source allows, and the encoder make them agree.

    Three kinds of moves a batch: everybody learns the labels; the heads learn the labels and to disagree on the target;
    the encoder, ``encoder_steps`` times, to make them agree. What is compared are both heads' probabilities
    (n_target, classes), by their mean absolute difference. No domain is told, so class regions matter, not the overlap
    of domains. The first head predicts.

    Good where the heads can disagree: on target rows near the boundary of classes. Not where the target lies so far off
    that both are wrong together, nor where time is short: six optimiser steps a batch, so six times the cost of DANN.

    Parameters
    ----------
    encoder_steps : int
        ≥ 1; 4 in most of the paper's experiments.

    References
    ----------
    Saito et al., Maximum Classifier Discrepancy for Unsupervised Domain Adaptation, CVPR 2018, equations 2-5
    (https://arxiv.org/abs/1712.02560). Differs in nothing but batch norm, which sees both domains at once: with
    ``encoding="separate"`` one after the other, as in the authors' code, which also scores the sum of both heads.
    """

    encoder_steps: int = 4

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        if self.encoder_steps < 1:
            raise ValueError(f"encoder_steps={self.encoder_steps} never makes the heads agree; give 1 or more")

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the second head, which starts from other weights."""
        return {"head2": fresh_copy(net.head)}

    def losses(self, net: Network, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the label loss of both heads, and their discrepancy on the target."""
        source, target = net.views(batch)
        head2 = net.parts["head2"]
        label = self.label_loss(source, target) + F.cross_entropy(single(head2(source.features)), source.y)
        other = single(head2(target.features))
        if target.labelled:
            label = label + cross_entropy(other, target.y)
        return label, discrepancy(target.logits, other)

    def moves(self, net: Network, batch: Batch, progress: Tensor) -> Iterator[Move]:
        """Yield the paper's steps A, B and C."""
        label, _ = self.losses(net, batch)
        yield net.players, {"label": label}
        label, gap = self.losses(net, batch)
        yield ("head", "head2"), {"label": label, "discrepancy": -gap}
        for _ in range(self.encoder_steps):
            _, gap = self.losses(net, batch)
            yield ("encoder",), {"discrepancy": gap}
