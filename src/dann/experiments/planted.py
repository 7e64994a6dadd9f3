"""Troubles planted into trainings on purpose: whether guards see them in time."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..methods import DANN
from ..methods.base import Terms
from ..network import Network, View

TROUBLES = ("one class", "certainty", "no gradient", "constant output", "forgetting", "explosion")
DEAD = ("no gradient", "constant output")  # of these, which leave the adversary dead and do no other harm


@dataclass
class Planted(DANN):
    """DANN that goes wrong from some progress on.

    "one class" pushes all target rows into the first; "certainty" rewards certain predictions of one class for all;
    "no gradient" cuts the domain head's loss off; "constant output" puts a softmax over the domain head's single
    output, as a published library does, from the start; "forgetting" learns the labels backwards; "explosion" adds a
    million to a loss.
    """

    trouble: str = "one class"
    onset: float = 0.4

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the domain head, spoilt or not."""
        parts: dict[str, Any] = super().build(net)
        if self.trouble == "constant output":
            parts["domain"] = nn.Sequential(parts["domain"], nn.Softmax(1))
        return parts

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return DANN's losses and the trouble's."""
        terms, on = super().loss(net, source, target, progress), (progress >= self.onset).float()
        if self.trouble == "one class":
            first = torch.zeros(len(target.logits), dtype=torch.int64, device=target.logits.device)
            terms["trouble"] = 20 * on * F.cross_entropy(target.logits, first)
        elif self.trouble == "certainty":
            p = target.logits.softmax(1).mean(0)
            terms["trouble"] = -50 * on * (p * p.clamp_min(1e-9).log()).sum()
        elif self.trouble == "no gradient":
            terms["domain"] = terms["domain"] * (1 - on)
        elif self.trouble == "forgetting":
            terms["label"] = terms["label"] * (1 - on) - on * terms["label"].clamp(max=3)
        elif self.trouble == "explosion":
            terms["label"] = terms["label"] + 1e6 * on
        return terms
