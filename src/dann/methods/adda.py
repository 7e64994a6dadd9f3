"""Adversarial discriminative domain adaptation."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..domains import Batch, Domains
from ..functional import domain_loss, single
from ..network import Network
from .base import Method, Move
from .dann import domain_head, logits_of_domains


@dataclass
class ADDA(Method):
    """Leave the source's encoder and label head as they are, and train a copy of the encoder for the target.

    A domain head learns to tell source rows behind the old encoder, features (n_source, dim), from target rows behind
    the new one, (n_target, dim), which learns to pass them off as source. It starts from a model of the source, so give
    ``pretrain_steps``. Nothing keeps classes in place but that start: a low learning rate and few steps.

    Good where the source's model must stay as it is, and is right on much of the target; not for rates at which a
    training from scratch would do, with which it ended anywhere (docs/experiments.md).

    Parameters
    ----------
    hidden : tuple of int or None
        Hidden widths of the domain head; None takes those of the backbone's paper.

    References
    ----------
    Tzeng et al., Adversarial Discriminative Domain Adaptation, CVPR 2017, equations 4-9
    (https://arxiv.org/abs/1702.05464). Differs in the order: the encoder faces the domain head after its step, where
    the authors' code takes both steps at once, and halves both losses. Several sources are one domain each; target rows
    pass for the first.
    """

    needs_pretraining = True
    needs_classes = False
    hidden: tuple[int, ...] | None = None

    def check(self, domains: Domains) -> None:
        """Refuse labels of the target."""
        if domains.target.labelled:
            raise ValueError("ADDA learns labels from the source alone: leave y_target out")

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the source's encoder, frozen, and the domain head."""
        if net.encoding == "per-domain":
            raise ValueError("ADDA's source encoder keeps the source's statistics: take an encoding but 'per-domain'")
        return {"source": copy.deepcopy(net.encoder).requires_grad_(False), "domain": domain_head(net, self.hidden)}

    def of_source(self, net: Network, x: Tensor) -> Network:
        """Return a copy with the source's encoder."""
        copied = copy.deepcopy(net).eval()
        copied.encoder = copied.parts["source"]
        return copied

    def moves(self, net: Network, batch: Batch, progress: Tensor) -> Iterator[Move]:
        """Yield the domain head's move and the encoder's."""
        x = net.normalize(batch.x)
        with torch.no_grad():
            real = single(net.parts["source"].eval()(x[: batch.n_source]))
        fake = net.features(x[batch.n_source :])
        logits = logits_of_domains(net, torch.cat([real, fake.detach()]))
        yield ("domain",), {"domain": domain_loss(logits, batch.domain)}
        logits = logits_of_domains(net, fake)
        yield ("encoder",), {"fooled": F.cross_entropy(logits, torch.zeros_like(batch.domain[batch.n_source :]))}
