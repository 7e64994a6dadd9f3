"""No adaptation: the floor that every method has to beat."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..domains import Batch, Domains
from ..functional import label_loss
from ..network import Network
from .base import Method, Move


@dataclass
class SourceOnly(Method):
    """Train on the source alone; the target's rows are not even encoded, so batch norm never sees them.

    Except with ``encoding="per-domain"``, where predictions need the target's statistics: those alone are taken. The
    loss compares outputs (n_source, classes) with labels (n_source,).

    Good for comparison, and where adapting does harm; not for a target on which the source's model is mostly wrong.

    References
    ----------
    Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 17(59), 2016, table 2, "source only"
    (https://arxiv.org/abs/1505.07818). Differs in nothing.
    """

    needs_classes = False

    def check(self, domains: Domains) -> None:
        """Refuse labels of the target, which a comparison would take for used."""
        if domains.target.labelled:
            raise ValueError(
                "SourceOnly learns labels from the source alone: leave y_target out, or give the labelled target rows "
                "as a second source (sample_domain)"
            )

    def moves(self, net: Network, batch: Batch, progress: Tensor) -> Iterator[Move]:
        """Yield one move on the source rows."""
        source = net.encode(batch, slice(batch.n_source))
        if net.encoding == "per-domain":
            with torch.no_grad():
                net.encode(batch, slice(batch.n_source, None))
        yield net.players, {"label": label_loss(source.logits, source.y, complete=True)}
