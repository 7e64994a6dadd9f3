"""ATDOC: pseudo-labels from neighbours in a memory of the target."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..domains import Domains
from ..functional import product
from ..network import Network, View
from .base import Method, Terms, not_negative


class Memory(nn.Module):
    """The features and predictions of the latest target rows, each row once: a ring, filled in place."""

    features: Tensor
    probabilities: Tensor
    index: Tensor
    place: Tensor

    def __init__(self, size: int, n_classes: int, dim: int):
        super().__init__()
        self.register_buffer("features", torch.zeros(size, dim))
        self.register_buffer("probabilities", torch.zeros(size, n_classes))
        self.register_buffer("index", torch.full((size,), -1))  # row numbers; -1 = nothing yet
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def store(self, view: View) -> None:
        """Write the rows of a batch over the oldest ones, and forget what was known of the same rows."""
        if len(view.index) > len(self.index):
            raise ValueError(f"batch_size={len(view.index)} is more than the memory of {len(self.index)} rows holds")
        again = self.index[:, None] == view.index
        self.index.masked_fill_(again.any(1), -1)
        twice = (view.index[:, None] == view.index).triu(1).any(0)  # a batch may hold a row more than once
        rows = (self.place + torch.arange(len(view.index), device=view.index.device)) % len(self.index)
        self.features.index_copy_(0, rows, F.normalize(view.features).to(self.features))
        self.probabilities.index_copy_(0, rows, view.logits.softmax(1).to(self.probabilities))
        self.index.index_copy_(0, rows, view.index.masked_fill(twice, -1))
        self.place.add_(len(rows))

    @torch.no_grad()
    def neighbours(self, view: View, n: int) -> Tensor:
        """Return the mean prediction (rows, classes) of each row's n nearest by angle, other rows than itself.

        Predictions are squared, divided by what each class has of them in the whole memory, and normalised: sharper,
        and no class rules. Zeros stand for neighbours that are not there yet.
        """
        similarity = product(F.normalize(view.features).to(self.features), self.features.T)
        absent = (self.index == -1) | (self.index == view.index[:, None])
        nearest = similarity.masked_fill(absent, -2.0).topk(n, dim=1).indices
        sharp = self.probabilities.square() * (self.index != -1)[:, None]
        sharp = sharp / sharp.sum(0).clamp_min(1e-12)
        sharp = sharp / sharp.sum(1, keepdim=True).clamp_min(1e-12)
        there = ~absent.gather(1, nearest)
        return (sharp[nearest] * there[:, :, None]).mean(1)


@dataclass
class ATDOC(Method):
    """Follow, on the target, what the nearest target rows are predicted to be.

    A row's pseudo-label is the class that its neighbours in feature space agree on, weighed by how far they agree: one
    wrong prediction among right ones is outvoted, as certainty alone would not do. The neighbours of features (n, dim)
    are sought in a memory (memory, dim) with probabilities (memory, classes).

    Good for targets whose classes form clusters, alone or in a sum, such as "cdan+atdoc"; not where the source's model
    is mostly wrong: neighbours agree on wrong classes too.

    Parameters
    ----------
    weight : float
        ≥ 0, reached in a line from 0; .2 in the paper.
    neighbours : int
        ≥ 1; 5 in the paper.
    memory : int
        Target rows that are remembered, more than ``neighbours`` and a batch; the paper keeps all.

    References
    ----------
    Liang et al., Domain Adaptation with Auxiliary Target Domain-Oriented Classifier, CVPR 2021, section 3.3
    (https://arxiv.org/abs/2007.04171): neighbourhood aggregation; the mean is weighed by agreement, as in the authors'
    code. Differs in the memory, which holds the latest rows and not all, and in where classes are balanced: over the
    memory, where the authors balance each batch.
    """

    weight: float = 0.2
    neighbours: int = 5
    memory: int = 2048

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        not_negative(self, "weight")
        if not 1 <= self.neighbours < self.memory:
            raise ValueError(
                f"neighbours={self.neighbours} must be at least 1 and fewer than the memory={self.memory} holds"
            )

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the memory."""
        return {"memory": Memory(self.memory, net.n_classes, net.dim)}

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label loss and that of the neighbours' labels; then remember the batch."""
        memory = net.parts["memory"]
        assert isinstance(memory, Memory)
        agreement, label = memory.neighbours(target, self.neighbours).max(1)
        losses = F.cross_entropy(target.logits, label, reduction="none")
        memory.store(target)
        mean = (agreement * losses).sum() / agreement.sum().clamp_min(torch.finfo(agreement.dtype).tiny)
        return {"label": self.label_loss(source, target), "neighbours": self.weight * progress * mean}
