"""Domain-adversarial neural network."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..domains import Domains
from ..functional import domain_loss, reverse_gradient, single, warmup
from ..network import Network, View, mlp
from .base import Method, Terms

SCHEDULES = ("warmup", "constant")


def domain_head(net: Network, hidden: tuple[int, ...] | None) -> nn.Module:
    """Build a domain classifier on the features.

    It has one output fewer than there are domains, the first domain's logit being 0: for one source and a target this
    is the paper's single logistic output.
    """
    widths = net.domain_hidden if hidden is None else hidden
    return mlp(net.dim, *widths, net.n_domains - 1)


def logits_of_domains(net: Network, seen: Tensor) -> Tensor:
    """Return the logits (n, domains) of the part "domain" for what it sees, (n, dim) features as a rule.

    Where it has one output fewer than there are domains, the first domain's logit is 0.
    """
    logits = single(net.parts["domain"](seen))
    if logits.shape[1:] == (net.n_domains,):
        return logits
    if logits.shape[1:] != (net.n_domains - 1,):
        raise ValueError(
            f'the part "domain" gives outputs of shape {tuple(logits.shape)}; a domain head of {net.n_domains} domains '
            f"has {net.n_domains} outputs a row, or {net.n_domains - 1}, the first domain's logit being 0 then"
        )
    return F.pad(logits, (1, 0))


@dataclass
class DANN(Method):
    """Train features from which the label can be told but the domain cannot.

    The sum of the label loss and ``mean_S CE + mean_T CE`` of the domain head (see `domain_loss` for several sources),
    which turns features (n, dim) of both sides into logits (n, domains). The reversed gradient that reaches the
    features is scaled by a strength λ that grows from 0 to ``weight``; the domain head itself always trains at full
    weight.

    Good for a first try, where the domains overlap and classes are about as frequent in both. Not where class shares
    differ: aligned features force errors then (IWDAN, PADA); not where the domains lie so far apart that the domain
    head is sure and its gradient vanishes (WDGRL, DAN). The game swings: judge more than one seed.

    Parameters
    ----------
    weight : float
        Final λ, ≥ 0. The paper's deep networks have 1; 0 is source-only with a domain head that watches.
    hidden : tuple of int or None
        Hidden widths of the domain head; None takes those of the backbone's paper, () is a linear head.
    lr_multiplier : float
        Learning rate of the domain head in units of the network's, > 0. The authors' Caffe release has 10; λ here gives
        the shallow algorithm of the paper (Algorithm 1), whose domain head is updated with λ too.
    schedule : {"warmup", "constant"}
        λ_p = weight · (2 / (1 + exp(-10 p)) - 1), or λ = weight from the start.
    label_smoothing : float
        Smoothing of the domain labels, 0 … 1; 0 in the paper.

    References
    ----------
    Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 17(59), 2016, equation 9 and section 5.2.2
    (https://arxiv.org/abs/1505.07818). Differs in nothing for one source and one target; several sources are one domain
    each.
    """

    needs_classes = False
    weight: float = 1.0
    hidden: tuple[int, ...] | None = None
    lr_multiplier: float = 1.0
    schedule: str = "warmup"
    label_smoothing: float = 0.0

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        if self.schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule {self.schedule!r}; choose one of: {', '.join(SCHEDULES)}")
        if self.weight < 0:
            raise ValueError(f"weight={self.weight} is negative: it would pull the domains apart; give 0 or more")
        if self.lr_multiplier <= 0:
            raise ValueError(f"lr_multiplier={self.lr_multiplier} leaves the domain head untrained; give more than 0")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing={self.label_smoothing} must lie in [0, 1)")

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the domain head."""
        return {"domain": domain_head(net, self.hidden)}

    def learning_rates(self) -> dict[str, float]:
        """Return the domain head's multiplier."""
        return {"domain": self.lr_multiplier}

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label and domain losses."""
        strength = self.weight * (warmup(progress) if self.schedule == "warmup" else 1.0)
        features = reverse_gradient(torch.cat([source.features, target.features]), strength)
        domain = torch.cat([source.domain, target.domain])
        return {
            "label": self.label_loss(source, target),
            "domain": domain_loss(logits_of_domains(net, features), domain, self.label_smoothing),
        }
