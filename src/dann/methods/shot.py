"""Source hypothesis transfer: adapting a fitted model without its source."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..domains import Batch, Domains
from ..functional import entropy, mean_entropy, product
from ..network import Network
from .base import Method, Move, not_negative

SEEN = 0.5  # rows, as the sums count them: fewer are none
DECAY = 0.98  # of the sums behind the centres: about the last fifty batches


class Centres(nn.Module):
    """Running centres of the classes in feature space, from features weighed by class probabilities."""

    sums: Tensor
    mass: Tensor
    counts: Tensor

    def __init__(self, n_classes: int, dim: int):
        super().__init__()
        self.register_buffer("sums", torch.zeros(n_classes, dim))
        self.register_buffer("mass", torch.zeros(n_classes))
        self.register_buffer("counts", torch.zeros(n_classes))  # of rows that are predicted as each class

    @torch.no_grad()
    def nearest(self, features: Tensor, probabilities: Tensor) -> Tensor:
        """Take in rows (n, dim) with probabilities (n, classes); return the class of the centre nearest by angle.

        Only classes that some row was predicted as have centres: those of others would lie amidst the doubtful rows.
        """
        self.sums.mul_(DECAY).add_(product(probabilities.T.to(features), features).to(self.sums))
        self.mass.mul_(DECAY).add_(probabilities.sum(0).to(self.mass))
        classes = torch.arange(len(self.counts), device=features.device)
        self.counts.mul_(DECAY).add_((probabilities.argmax(1)[:, None] == classes).sum(0))
        centres = F.normalize(self.sums / self.mass[:, None].clamp_min(torch.finfo(self.mass.dtype).tiny))
        similarity = product(F.normalize(features).to(centres), centres.T)
        return similarity.masked_fill(self.counts < SEEN, -2.0).argmax(1)


@dataclass
class SHOT(Method):
    """Adapt the encoder of a fitted model to target rows alone, with its label head as it is.

    Predictions (n, classes) are made certain, each for itself, and diverse, all together, and follow pseudo-labels: the
    class whose centre in feature space, (classes, dim), is nearest. Use `DomainAdapter.adapt_to`; the source is not
    needed.

    Good where the source may not leave its owner, and classes are about as frequent in the target as in a uniform
    choice; not for many steps or a model that is right already: it trusts its own predictions, and can undo what was
    right.

    Parameters
    ----------
    weight : float
        Of the pseudo-labels, ≥ 0; .3 in the paper.
    diversity : float
        Of the entropy of the mean prediction, ≥ 0; 1 in the paper.

    References
    ----------
    Liang et al., Do We Really Need to Access the Source Data?, ICML 2020, equations 3-7
    (https://arxiv.org/abs/2002.08546). Differs in the centres, which are running means over about fifty batches of rows
    weighed by their probabilities, where the paper goes through the whole target once an epoch and refines them once;
    and in the source's model, which is any fitted one: the paper trains it with label smoothing, and gives it a
    bottleneck with batch norm and a head with weight normalisation.
    """

    source_free = True
    weight: float = 0.3
    diversity: float = 1.0

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        not_negative(self, "weight", "diversity")

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the centres."""
        return {"centres": Centres(net.n_classes, net.dim)}

    def moves(self, net: Network, batch: Batch, progress: Tensor) -> Iterator[Move]:
        """Yield one move of the encoder on the target's rows."""
        target = net.encode(batch, slice(batch.n_source, None))
        centres = net.parts["centres"]
        assert isinstance(centres, Centres)
        pseudo = centres.nearest(target.features.detach(), target.logits.detach().softmax(1))
        terms = {
            "entropy": entropy(target.logits).mean(),
            "diversity": -self.diversity * mean_entropy(target.logits),
            "pseudo": self.weight * F.cross_entropy(target.logits, pseudo),
        }
        yield ("encoder",), terms
