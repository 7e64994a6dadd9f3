"""Self-ensembling: a moving average of the network teaches it on the target."""

import copy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from ..domains import Domains
from ..functional import single
from ..network import Network, View
from .base import Method, Terms, not_negative

TINY = 1e-6  # in the logarithm, as the authors have it: a bound would leave classes near 0 without a gradient


class Teacher(nn.Module):
    """A moving average of encoder and label head, which no optimiser trains.

    Parameters
    ----------
    net : Network
    fitted : bool
        Whether the network's weights are worth remembering, and its predictions are wanted without dropout; if not,
        the first steps average over few, and the teacher is as noisy as its pupil.
    """

    updates: Tensor

    def __init__(self, net: Network, fitted: bool = False):
        super().__init__()
        self.encoder, self.head = copy.deepcopy(net.encoder), copy.deepcopy(net.head)
        self.requires_grad_(False)
        self.fitted = fitted
        self.register_buffer("updates", torch.tensor(torch.inf if fitted else 0.0))

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers; a fitted teacher's dropout stays off."""
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, _DropoutNd):
                layer.train(mode and not self.fitted)
        return self

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, classes) of normalised rows."""
        return single(self.head(self.encoder(x)))

    @torch.no_grad()
    def follow(self, net: Network, decay: float) -> None:
        """Move towards the network."""
        share = (9 / (self.updates + 9)).clamp(min=1 - decay)  # 1 at first: nothing is left of the first weights
        self.updates.add_(1)
        for mine, its in ((self.encoder, net.encoder), (self.head, net.head)):
            for average, current in zip(mine.parameters(), its.parameters(), strict=True):
                average.lerp_(current, share)


@dataclass
class SelfEnsembling(Method):
    """Follow, on the target, a moving average of the network, which sees the rows in another variation.

    The squared difference of both predictions (n_target, classes) where the teacher is confident, and a term that keeps
    any class from being forgotten. The paper has batch norm see source and target batches apart:
    ``encoding="separate"``.

    Good for rows with variations that keep the class, as FixMatch: slower to start and steadier; not for short
    trainings, nor where classes are far from equally frequent.

    Parameters
    ----------
    weight : float
        Of the difference, ≥ 0; 3 in the authors' code.
    threshold : float
        Probability, 0 … 1, from which the teacher counts; .968 in the paper.
    balance : float
        Of the cross entropy between the mean prediction and equal shares, ≥ 0; .005 in the paper.
    decay : float
        Of the moving average, 0 … 1; .99 in the paper.

    References
    ----------
    French et al., Self-ensembling for Visual Domain Adaptation, ICLR 2018, sections 3.1-3.4
    (https://arxiv.org/abs/1706.05208), with the authors' code for what they leave open: the balance counts by the share
    of confident rows, and ``weight`` multiplies it too. Differs in the variations, weak for the teacher and strong for
    the learner where the paper has two of the same kind, and in predictions, which are the learner's: the estimator's
    ``averaging`` gives the teacher's weights.
    """

    two_views = True
    weight: float = 3.0
    threshold: float = 0.968
    balance: float = 0.005
    decay: float = 0.99

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        not_negative(self, "weight", "balance")
        for name in ("threshold", "decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1)")

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the teacher."""
        return {"teacher": Teacher(net)}

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Let the teacher follow; return the label, consistency and balance losses."""
        teacher = net.parts["teacher"]
        assert isinstance(teacher, Teacher)
        assert target.variant is not None
        teacher.follow(net, self.decay)
        taught = teacher(net.normalize(target.x)).softmax(1)
        learned = net.logits_unseen(net.normalize(target.variant)).softmax(1)
        confident = (taught.amax(1) > self.threshold).to(taught.dtype)
        mean, equal = learned.mean(0), 1 / net.n_classes
        balance = -(equal * (mean + TINY).log() + (1 - equal) * (1 - mean + TINY).log()).sum() * confident.mean()
        return {
            "label": self.label_loss(source, target),
            "consistency": self.weight * ((learned - taught).square().mean(1) * confident).mean(),
            "balance": self.weight * self.balance * balance,
        }
