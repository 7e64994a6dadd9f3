"""A diagnostic: learn to tell the domains apart."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..domains import Batch, Domains
from ..functional import domain_loss
from ..network import Network
from .base import Method, Move
from .dann import domain_head, logits_of_domains


@dataclass
class DomainOnly(Method):
    """Train encoder and domain head to tell the domains apart: no reversal, no label loss, an untrained label head.

    The domain head turns features (n, dim) into logits (n, domains). Good for seeing how far apart the domains can be
    told with this network; not for predictions, which mean nothing.

    Parameters
    ----------
    hidden : tuple of int or None
        Hidden widths of the domain head; None takes those of the backbone's paper, () is a linear head.

    References
    ----------
    Ben-David et al., Analysis of Representations for Domain Adaptation, NIPS 2006, whose proxy A-distance asks the same
    of a linear classifier. Differs in the encoder, which learns features for the question.
    """

    needs_classes = False
    classifies = False
    hidden: tuple[int, ...] | None = None

    def check(self, domains: Domains) -> None:
        """Refuse labels that it would not look at."""
        if domains.target.labelled:
            raise ValueError("DomainOnly learns no labels: leave y_target out")

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the domain head."""
        return {"domain": domain_head(net, self.hidden)}

    def moves(self, net: Network, batch: Batch, progress: Tensor) -> Iterator[Move]:
        """Yield one move of encoder and domain head."""
        source, target = net.views(batch)
        logits = logits_of_domains(net, torch.cat([source.features, target.features]))
        yield ("encoder", "domain"), {"domain": domain_loss(logits, batch.domain)}
