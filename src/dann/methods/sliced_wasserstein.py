"""Sliced Wasserstein distance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..domains import Domains
from ..functional import product, single
from ..network import Network, View
from .base import Method, Terms, not_negative


def sliced_distance(a: Tensor, b: Tensor, directions: Tensor) -> Tensor:
    """Mean over directions of the squared Wasserstein distance, of order 2, of two samples' projections.

    Parameters
    ----------
    a, b : Tensor (n, d), (m, d)
        Where n and m differ, quantiles of the larger sample are interpolated at those of the smaller.
    directions : Tensor (d, p)
        Columns of length 1.
    """
    along = sorted((product(single(x), single(directions)).sort(0).values for x in (a, b)), key=len)
    shorter, longer = along
    if len(shorter) < len(longer):
        steps = torch.linspace(0, len(longer) - 1, len(shorter), device=a.device, dtype=longer.dtype)
        low = steps.floor().long()
        high, share = (low + 1).clamp(max=len(longer) - 1), (steps - low)[:, None]
        longer = longer[low] * (1 - share) + longer[high] * share
    return (shorter - longer).square().mean()


@dataclass
class SlicedWasserstein(Method):
    """Match the features of source and target along random directions, where the Wasserstein distance is a sort.

    The label loss plus ``weight`` times the mean squared distance of the sorted projections of features (n, dim) on
    directions (dim, directions).

    Good where the domains lie far apart, as there is a gradient at any distance: cheap, without an adversary; not where
    class shares differ, as it is blind to classes.

    Parameters
    ----------
    weight : float
        ≥ 0; our choice.
    directions : int
        Random directions, drawn anew in every step, ≥ 1.

    References
    ----------
    Rabin et al., Wasserstein Barycenter and its Application to Texture Mixing, 2011, equation 3; between features of
    domains in Gabourie et al., 2019 (https://arxiv.org/abs/1911.03532). Differs in the latter's class conditioning,
    which is left out.
    """

    needs_classes = False
    rows_needed = 2
    weight: float = 1.0
    directions: int = 64

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        not_negative(self, "weight")
        if self.directions < 1:
            raise ValueError(f"directions={self.directions} compares nothing; give 1 or more")

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label loss and the distance."""
        features = source.features
        drawn = torch.randn(net.dim, self.directions, device=features.device, dtype=features.dtype)
        directions = drawn / torch.linalg.vector_norm(drawn, dim=0)
        distance = sliced_distance(features, target.features, directions)
        return {"label": self.label_loss(source, target), "distance": self.weight * distance}
