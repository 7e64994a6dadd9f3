"""Pure tensor mathematics that several methods share. Nothing here holds state."""

import math
from typing import overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def reverse_gradient(x: Tensor, strength: float | Tensor = 1.0) -> Tensor:
    """Return ``x`` unchanged; multiply the gradient by ``-strength`` on the way back.

    Written as arithmetic, so it also works under double backward, ``torch.func``, ``torch.compile`` and export, and
    returns a new tensor that later in-place operations may change.

    Parameters
    ----------
    x : Tensor of any shape, floating point, finite
    strength : float or 0-d Tensor
        λ ≥ 0. As a tensor it may change between calls without a new compilation.

    Returns
    -------
    Tensor of the shape and dtype of ``x``

    References
    ----------
    Ganin & Lempitsky, ICML 2015, equations 11-12 (https://arxiv.org/abs/1409.7495).
    """
    weight = -strength.to(x) if isinstance(strength, Tensor) else -strength
    return torch.lerp(x.detach(), x, weight)  # x + weight (x - x), and only the second x has a gradient


class GradientReversal(nn.Module):
    """`reverse_gradient` as a layer, for ``nn.Sequential`` and your own training loop.

    Parameters
    ----------
    strength : float
        λ ≥ 0, kept in the buffer ``strength``: it moves with ``.to()``, is saved in ``state_dict`` and may be changed
        in place, ``layer.strength.fill_(value)``, without a new compilation.
    """

    strength: Tensor

    def __init__(self, strength: float = 1.0):
        super().__init__()
        self.register_buffer("strength", torch.tensor(float(strength)))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``; its gradient comes back multiplied by ``-strength``."""
        return reverse_gradient(x, self.strength)


@overload
def warmup(progress: float, gain: float = ...) -> float: ...
@overload
def warmup(progress: Tensor, gain: float = ...) -> Tensor: ...
def warmup(progress: float | Tensor, gain: float = 10.0) -> float | Tensor:
    """Strength of the reversal over training: 0 at the start, close to 1 at the end.

    λ_p = 2 / (1 + exp(-gain · p)) - 1, computed as tanh(gain · p / 2), which is the same function.

    Parameters
    ----------
    progress : float or 0-d Tensor
        Fraction of the training that is done, 0 … 1.
    gain : float
        Slope; 10 in Ganin et al., JMLR 2016, section 5.2.2.
    """
    if isinstance(progress, Tensor):
        return torch.tanh(progress * (gain / 2))
    return math.tanh(progress * gain / 2)


@overload
def annealing(progress: float, gain: float = ..., power: float = ...) -> float: ...
@overload
def annealing(progress: Tensor, gain: float = ..., power: float = ...) -> Tensor: ...
def annealing(progress: float | Tensor, gain: float = 10.0, power: float = 0.75) -> float | Tensor:
    """Factor on the learning rate over training: μ_p = μ_0 · annealing(p) = μ_0 / (1 + gain · p)^power.

    Parameters
    ----------
    progress : float or 0-d Tensor
        Fraction of the training that is done, 0 … 1.
    gain, power : float
        10 and 0.75 in Ganin et al., JMLR 2016, section 5.2.2, with μ_0 = 0.01.
    """
    return (1 + gain * progress) ** -power


def single(x: Tensor) -> Tensor:
    """Return half-precision numbers in single precision, and others as they are: what sums over a batch needs it."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy in nats over the rows whose label is known (``labels >= 0``); 0 when there is none.

    Parameters
    ----------
    logits : Tensor (n, classes)
    labels : Tensor (n,) int64, -1 = unknown
    smoothing : float
        Label smoothing, 0 … 1.
    """
    total = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum", label_smoothing=smoothing)
    return total / (labels >= 0).sum().clamp(min=1)


def domain_loss(logits: Tensor, domain: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross entropy of the domain classifier: the mean over the rows of each domain, then summed over the domains.

    With one source this is mean_S CE + mean_T CE, the weight of Ganin et al. (JMLR 2016, equation 9); one mean over
    both halves of the batch would be half of it.

    Parameters
    ----------
    logits : Tensor (n, domains)
    domain : Tensor (n,) int64
        Sources 0 … S-1, target S.
    smoothing : float
        Label smoothing, 0 … 1.
    """
    numbers = torch.arange(logits.shape[1], device=domain.device)
    share = 1 / (domain[:, None] == numbers).sum(0).clamp(min=1)  # of a row in its domain; one_hot would wait for a GPU
    if not smoothing:
        return F.cross_entropy(logits, domain, weight=share.to(logits.dtype), reduction="sum")
    per_row = F.cross_entropy(logits, domain, reduction="none", label_smoothing=smoothing)
    return per_row @ share.to(per_row.dtype)[domain]
