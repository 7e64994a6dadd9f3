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
    ``weight · (mean ‖f‖ - R)²``. Norms (n,) are of features (n, dim). No adversary and no kernel; it does not align
    anything by itself.

    Good where features are bounded or have batch norm before them, as the paper's; not for plain convolutions with SGD
    and momentum, where "stepwise" pushes norms up without end: with the default weight a loss became NaN on every image
    task of the family in docs/experiments.md. There give a much smaller weight or "hard", and a lower rate. On digits,
    one training each: at a rate of .02 weight .005 diverged and .0005 did not; at .001 the default ended at chance.

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
    Xu et al., Larger Norm More Transferable, ICCV 2019, equations 4 and 6 (https://arxiv.org/abs/1811.07456). Differs
    in the features, which are any network's: those of the authors' code come from a linear layer, batch norm and a
    dropout that keeps norms.
    """

    needs_classes = False
    weight: float = 0.05
    variant: str = "stepwise"
    step: float = 1.0
    radius: float = 25.0

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        not_negative(self, "weight")
        for name in ("step", "radius"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} moves no norm outwards; give more than 0")
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
