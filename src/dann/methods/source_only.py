"""No adaptation: the floor that every method has to beat."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..domains import Batch
from ..network import Network
from .base import Method, Move


@dataclass
class SourceOnly(Method):
    """Train on the source alone; the target's rows are not even encoded, so batch norm never sees them."""

    def moves(self, net: Network, batch: Batch, progress: Tensor) -> Iterator[Move]:
        """Yield one move on the source rows."""
        source = net.encode(batch, slice(batch.n_source))
        yield net.players, {"label": F.cross_entropy(source.logits, source.y)}
