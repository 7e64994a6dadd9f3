"""No adaptation: the floor that every method has to beat."""

from dataclasses import dataclass

from torch import Tensor

from ..network import Network, View
from .base import Method, Terms


@dataclass
class SourceOnly(Method):
    """Train on the labels alone; the target's rows are ignored."""

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label loss."""
        return {"label": self.label_loss(source, target)}
