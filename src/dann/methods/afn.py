"""Adaptive feature norm."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..domains import Domains
from ..network import Network, View
from .base import Method, Terms, not_negative

VARIANTS = ("stepwise", "hard")


@dataclass
class AFN(Method):
    """Make the features of both domains larger: target features of small norm are the ones that transfer badly.

    "stepwise" adds ``weight · mean (‖f‖ - sg(‖f‖) - Δ)²`` of every domain, sg(‖f‖) being the norm as it is now; "hard"
    ``weight · (mean ‖f‖ - R)²``. No adversary and no kernel; it does not align anything by itself.

    Parameters
    ----------
    weight : float
        ≥ 0; .05 in the paper.
    variant : {"stepwise", "hard"}
    step : float
        Δ of "stepwise", > 0; 1 in the paper.
    radius : float
        R of "hard", > 0; 25 in the paper.

    References
    ----------
    Xu et al., Larger Norm More Transferable, ICCV 2019, equations 4 and 6 (https://arxiv.org/abs/1811.07456).
    """

    needs_classes = False
    weight: float = 0.05
    variant: str = "stepwise"
    step: float = 1.0
    radius: float = 25.0

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        not_negative(self, "weight", "step", "radius")
        if self.variant not in VARIANTS:
            raise ValueError(f"unknown variant {self.variant!r}; choose one of: {', '.join(VARIANTS)}")

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label loss and the norms' distance from where they shall be."""
        gaps = []
        for side in (source, target):
            norms = torch.linalg.vector_norm(side.features, dim=1)
            grown = norms - norms.detach() - self.step
            gaps.append(grown.square().mean() if self.variant == "stepwise" else (norms.mean() - self.radius).square())
        return {"label": self.label_loss(source, target), "norm": self.weight * (gaps[0] + gaps[1])}
