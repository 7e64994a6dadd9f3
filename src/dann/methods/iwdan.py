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

DECAY = 0.99  # of the running means: about the last hundred batches
ROUNDS = 5  # of projected gradient a step; the solution of the step before is where they start


def onto_simplex(v: Tensor) -> Tensor:
    """Return the nearest point with entries ≥ 0 that sum to 1, (k,) → (k,)."""
    ordered = v.sort(descending=True).values
    excess = (ordered.cumsum(0) - 1) / torch.arange(1, len(v) + 1, device=v.device, dtype=v.dtype)
    kept = (ordered > excess).sum() - 1  # entries stay above 0 up to here
    return (v - excess.gather(0, kept[None])).clamp_min(0)


class LabelShift(nn.Module):
    """Running estimate of how much more often each class occurs in the target: buffers that the method updates.

    The weights w solve min ‖μ - C w‖² with w ≥ 0 and Σ_y p_y w_y = 1, where C[i, y] is the share of source rows of
    class y that are predicted as i, μ the mean prediction on the target and p the class shares of the source.
    """

    confusion: Tensor
    predicted: Tensor
    shares: Tensor
    weights: Tensor

    def __init__(self, n_classes: int):
        super().__init__()
        uniform = torch.full((n_classes,), 1 / n_classes)
        self.register_buffer("confusion", uniform[:, None] * uniform)  # of a model that knows nothing: no evidence
        self.register_buffer("predicted", uniform.clone())
        self.register_buffer("shares", uniform.clone())
        self.register_buffer("weights", torch.ones(n_classes))

    @torch.no_grad()
    def update(self, source: View, target: View) -> None:
        """Take a batch in, and improve the weights by a few rounds of projected gradient, all on the device."""
        numbers = torch.arange(len(self.shares), device=source.y.device)
        labels = (source.y[:, None] == numbers).to(self.shares)  # one_hot would wait for a GPU
        now = {
            "confusion": source.logits.softmax(1).T.to(labels) @ labels / len(labels),
            "predicted": target.logits.softmax(1).mean(0),
            "shares": labels.mean(0),
        }
        for name, value in now.items():
            getattr(self, name).lerp_(value.to(self.shares), 1 - DECAY)
        shares = self.shares.clamp_min(1e-6)
        matrix = self.confusion / shares  # columns: predictions given the class, so that μ = matrix @ (w ∘ p)
        v = self.weights * shares
        step = 1 / (matrix.square().sum() + 1e-12)  # below 1 / the largest curvature
        for _ in range(ROUNDS):
            v = onto_simplex(v - step * (matrix.T @ (matrix @ v - self.predicted)))
        self.weights.copy_(v / shares)


def estimated(net: Network, source: View, target: View) -> Tensor:
    """Take a batch into the estimate of the label shift; return the weights of the classes."""
    shift = net.parts["shift"]
    assert isinstance(shift, LabelShift)
    shift.update(source, target)
    return shift.weights


def weighed(
    method: Method,
    net: Network,
    source: View,
    target: View,
    weights: Tensor,
    strength: Tensor,
    certain: bool = False,
) -> Terms:
    """Return the label and domain losses with source rows weighed by their class, weights (classes,)."""
    features = torch.cat([source.features, target.features])
    logits = torch.cat([source.logits, target.logits])
    of_source = weights.to(features)[source.y]
    weight = torch.cat([of_source, torch.ones_like(target.features[:, 0])])
    label = (of_source * F.cross_entropy(source.logits, source.y, reduction="none")).mean()
    if target.labelled:
        label = label + cross_entropy(target.logits, target.y)
    if certain:
        weight = weight * (1 + torch.exp(-entropy(logits.detach())))
    seen = reverse_gradient(method.domain_input(net, features, logits), strength)
    domain = torch.cat([source.domain, target.domain])
    return {"label": label, "domain": domain_loss(logits_of_domains(net, seen), domain, weight=weight)}


@dataclass
class IWDAN(Method):
    """DANN for a target whose classes are not as frequent as the source's.

    Aligning the features of domains with different class shares forces errors. Here a source row counts, in the label
    and in the domain loss, by how much more frequent its class is in the target, as the predictions tell. Better
    than DANN where the shares differ and the source's model is mostly right; noisier where they do not.

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
    authors solve it once an epoch and smooth the weights.
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
        return weighed(self, net, source, target, estimated(net, source, target), self.weight * warmup(progress))


@dataclass
class IWCDAN(Method):
    """CDAN for a target whose classes are not as frequent as the source's: see IWDAN.

    Parameters
    ----------
    weight, hidden, width
        As for CDAN.
    entropy : bool
        Weigh rows by their certainty too, as CDAN+E does; not in the paper.

    References
    ----------
    As for IWDAN.
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
            self, net, source, target, estimated(net, source, target), self.weight * warmup(progress), self.entropy
        )
