"""Importance-weighted domain-adversarial networks: adversaries that allow for label shift."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..domains import Domains
from ..functional import cross_entropy, domain_loss, entropy, reverse_gradient, warmup
from ..network import Network, View
from .base import Method, Terms
from .cdan import CDAN, joint, joint_head
from .dann import domain_head, logits_of_domains
from .label_shift import FEWEST, LabelShift


def estimated(net: Network, source: View, target: View) -> tuple[Tensor, Tensor]:
    """Take a batch into the estimate of the label shift; return weights of the classes, and those of the label loss."""
    shift = net.parts["shift"]
    assert isinstance(shift, LabelShift)
    shift.update(source, target)
    return shift.weights, shift.weights / (net.n_classes * shift.shares.clamp_min(FEWEST))


def weighed(
    method: Method,
    net: Network,
    source: View,
    target: View,
    weights: Tensor,
    of_labels: Tensor,
    strength: Tensor,
    certain: bool = False,
    normalized: bool = True,
) -> Terms:
    """Return the label and domain losses with source rows weighed by their class.

    Parameters
    ----------
    weights, of_labels : Tensor (classes,)
        In the domain loss and in the label loss.
    strength : 0-d Tensor
        Of the reversed gradient.
    certain : bool
        Weigh rows by their certainty too.
    normalized : bool
        See `domain_loss`.
    """
    features = torch.cat([source.features, target.features])
    logits = torch.cat([source.logits, target.logits])
    weight = torch.cat([weights.to(features)[source.y], torch.ones_like(target.features[:, 0])])
    label = (of_labels.to(features)[source.y] * F.cross_entropy(source.logits, source.y, reduction="none")).mean()
    if target.labelled:
        label = label + cross_entropy(target.logits, target.y)
    if certain:
        weight = weight * (1 + torch.exp(-entropy(logits.detach())))
    seen = reverse_gradient(method.domain_input(net, features, logits), strength)
    domain = torch.cat([source.domain, target.domain])
    return {
        "label": label,
        "domain": domain_loss(logits_of_domains(net, seen), domain, weight=weight, normalized=normalized),
    }


@dataclass
class IWDAN(Method):
    """DANN for a target whose classes are not as frequent as the source's.

    Aligning the features of domains with different class shares forces errors. Here a source row counts, in the domain
    loss, by how much more frequent its class is in the target, as the predictions tell, w_y; in the label loss by w_y /
    (K p_y), p_y being the share of its class in the source, so that each of K classes counts by w_y. The domain head
    sees features (n, dim); w has shape (classes,).

    Good where the shares differ and the source's model is mostly right, better than DANN there; not where they do not,
    where it is noisier, nor where predictions are mostly wrong and the weights with them.

    Parameters
    ----------
    weight : float
        Final λ of the reversed gradient, ≥ 0.
    hidden : tuple of int or None
        Hidden widths of the domain head; None takes those of the backbone's paper.

    References
    ----------
    Tachet des Combes et al., Domain Adaptation with Conditional Distribution Matching and Generalized Label Shift,
    NeurIPS 2020, section 4 and algorithm 1 (https://arxiv.org/abs/2003.04475). Differs in when the quadratic programme
    is solved: a few rounds of projected gradient in every step, on running means of about a hundred batches, where the
    authors solve it once an epoch and smooth the weights; and in the domain loss, where a batch's sum is divided by
    that of its weights, in their code by the number of rows.
    """

    own_label = True
    weight: float = 1.0
    hidden: tuple[int, ...] | None = None

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        if self.weight < 0:
            raise ValueError(f"weight={self.weight} is negative: it would pull the domains apart; give 0 or more")

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the domain head and the estimate of the label shift."""
        return {"domain": domain_head(net, self.hidden), "shift": LabelShift(net.n_classes)}

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the weighed label and domain losses."""
        return weighed(self, net, source, target, *estimated(net, source, target), self.weight * warmup(progress))


@dataclass
class IWCDAN(Method):
    """CDAN for a target whose classes are not as frequent as the source's: see IWDAN.

    The domain head sees outer products (n, dim · classes), as in CDAN; weights of the classes (classes,) are those of
    IWDAN.

    Good where class shares differ and CDAN would be better than DANN; not where the shares are alike, nor where
    predictions are mostly wrong: the weights and the outer products both come from them.

    Parameters
    ----------
    weight, hidden, width
        As for CDAN.
    entropy : bool
        Weigh rows by their certainty too, as CDAN+E does; not in the paper, in the authors' code.

    References
    ----------
    Tachet des Combes et al., Domain Adaptation with Conditional Distribution Matching and Generalized Label Shift,
    NeurIPS 2020, section 4 and algorithm 1 (https://arxiv.org/abs/2003.04475). Differs in the same as IWDAN.
    """

    own_label = True
    weight: float = 1.0
    entropy: bool = False
    hidden: tuple[int, ...] | None = None
    width: int = 1024

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        CDAN(self.weight, self.entropy, self.hidden, self.width).check(domains)

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the domain head, the random maps if there are some, and the estimate of the label shift."""
        return {**joint_head(net, self.hidden, self.width), "shift": LabelShift(net.n_classes)}

    def domain_input(self, net: Network, features: Tensor, logits: Tensor) -> Tensor:
        """Return the outer product, flat, or its random projection."""
        return joint(net, features, logits)

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the weighed label and domain losses."""
        return weighed(
            self, net, source, target, *estimated(net, source, target), self.weight * warmup(progress), self.entropy
        )
