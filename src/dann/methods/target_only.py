"""Training on the target's labels: an oracle, the upper bound of adaptation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..domains import Batch, Domains
from ..functional import label_loss
from ..network import Network
from .base import Method, Move


@dataclass
class TargetOnly(Method):
    """Train on target labels alone, to learn what the network could do with them. An oracle, not a method to use.

    The loss compares outputs (n_target, classes) with labels (n_target,). Good for the upper bound of a comparison; not
    for a target without labels, nor for any claim that something was adapted.

    References
    ----------
    Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 17(59), 2016, table 2, "train on target"
    (https://arxiv.org/abs/1505.07818). Differs in nothing.
    """

    needs_classes = False
    uses_target_labels: ClassVar[bool] = True

    def check(self, domains: Domains) -> None:
        """Refuse to train without target labels."""
        if not domains.target.labelled:
            raise ValueError("TargetOnly trains on target labels, and none are known: give y_target")

    def moves(self, net: Network, batch: Batch, progress: Tensor) -> Iterator[Move]:
        """Yield one move on the target rows."""
        target = net.encode(batch, slice(batch.n_source, None))
        yield net.players, {"label": label_loss(target.logits, target.y)}
