"""Pure tensor mathematics that several methods share. Nothing here holds state."""

import math
from collections.abc import Sequence
from typing import overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NONE = -(2**62)  # no class: PyTorch would pass over rows of -100 without a word


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


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix product in the precision of its factors, inside autocast too: sums in a loss need it."""
    kind = a.device.type
    if a.is_meta or not torch.is_autocast_enabled(kind):  # tensors without values know no autocast
        return a @ b
    with torch.autocast(kind, enabled=False):
        return a @ b


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


def label_loss(outputs: Tensor, labels: Tensor, complete: bool = False) -> Tensor:
    """Mean loss over the rows whose label is known: cross entropy of classes, squared error of continuous labels.

    Parameters
    ----------
    outputs : Tensor (n, classes) or (n, 1)
        Logits, or predictions of continuous labels.
    labels : Tensor (n,)
        int64 classes, -1 = unknown, or floating point numbers, NaN = unknown.
    complete : bool
        No label is unknown, which saves looking.

    Raises
    ------
    ValueError
        Continuous labels or predictions of another shape.
    """
    if labels.is_floating_point() and (labels.dim() != 1 or outputs.shape != (len(labels), 1)):
        shapes = f"{tuple(labels.shape)}, and predictions {tuple(outputs.shape)}"
        raise ValueError(f"continuous labels have shape {shapes}; expected (n,) and (n, 1)")
    if not labels.is_floating_point():
        return F.cross_entropy(outputs, labels) if complete else cross_entropy(outputs, labels)
    if complete:
        return F.mse_loss(outputs[:, 0], labels)
    known = ~labels.isnan()
    return (torch.where(known, outputs[:, 0] - labels, 0.0).square()).sum() / known.sum().clamp(min=1)


def entropy(logits: Tensor) -> Tensor:
    """Shannon entropy in nats of every row's class probabilities, (n, classes) → (n,)."""
    logs = single(logits).log_softmax(1)
    return -(logs.exp() * logs).sum(1)


def mean_entropy(logits: Tensor) -> Tensor:
    """Shannon entropy in nats of the mean of all rows' class probabilities, (n, classes) → ()."""
    mean = single(logits).softmax(1).mean(0)
    return -torch.special.xlogy(mean, mean.clamp_min(torch.finfo(mean.dtype).tiny)).sum()


def covariance(x: Tensor) -> Tensor:
    """Unbiased covariance of rows, (n, d) → (d, d).

    Raises
    ------
    ValueError
        There are fewer than two rows, which have no covariance: a loss of NaN would spoil every weight.
    """
    if len(x) < 2:
        raise ValueError(f"a covariance needs two rows or more; got shape {tuple(x.shape)}: drop the last, small batch")
    x = single(x)
    x = x - x.mean(0)
    return product(x.T, x) / (len(x) - 1)


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances of all pairs among two sets of rows, (n, d) and (m, d) → (n + m, n + m).

    By differences, not by products: those cancel where rows lie close to each other. Differentiable once: PyTorch's
    ``cdist`` has no second derivative, nor one in forward mode.
    """
    both = single(torch.cat([a, b]))
    return torch.cdist(both, both, compute_mode="donot_use_mm_for_euclid_dist").square()


def rbf_kernels(squared: Tensor, scales: Sequence[float]) -> Tensor:
    """Sum of the kernels exp(-d² / (2 α σ²)) over the scales α; σ² is the mean of d² over all pairs of different rows.

    σ² is a constant of the batch: no gradient goes through it.

    Parameters
    ----------
    squared : Tensor (n, n)
        Squared distances; see `squared_distances`.
    scales : sequence of float
        > 0.
    """
    n = len(squared)
    width = (squared.detach().sum() / (n * (n - 1))).clamp_min(1e-30)  # not tiny: halved, it would be flushed
    return torch.stack([torch.exp(-squared / (2 * scale * width)) for scale in scales]).sum(0)


MMD_ESTIMATORS = ("biased", "unbiased", "linear")


def mmd(kernel: Tensor, n: int, estimator: str = "biased") -> Tensor:
    """Squared maximum mean discrepancy of the first n rows and the others, from the kernel of all pairs.

    Parameters
    ----------
    kernel : Tensor (n + m, n + m)
    n : int
        ≥ 1, as is m; but for "biased" ≥ 2.
    estimator : {"biased", "unbiased", "linear"}
        Means over all pairs (≥ 0); without pairs of a row with itself; or over disjoint quadruples of two rows of each
        side, as many as there are, the first side's drawn at random.

    Raises
    ------
    ValueError
        There is no such estimator, or it needs more rows on a side.

    References
    ----------
    Gretton et al., A Kernel Two-Sample Test, JMLR 13, 2012, equations 5 and 3 and lemma 14.
    """
    if estimator not in MMD_ESTIMATORS:
        raise ValueError(f"unknown estimator {estimator!r}; choose one of: {', '.join(MMD_ESTIMATORS)}")
    m, least = len(kernel) - n, 1 if estimator == "biased" else 2
    if n < least or m < least:
        raise ValueError(f"the estimator {estimator!r} needs {least} or more rows on each side; got {n} and {m}")
    if estimator == "linear":
        pairs = min(n, m) // 2
        order = torch.randperm(n, device=kernel.device)[: 2 * pairs]  # the first rows may lie in blocks, one a source
        i, j = order[::2], order[1::2]
        k = n + 2 * torch.arange(pairs, device=kernel.device)
        l = k + 1  # noqa: E741
        return (kernel[i, j] + kernel[k, l] - kernel[i, l] - kernel[j, k]).mean()
    between = kernel[:n, n:].mean()
    if estimator == "biased":
        return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * between
    diagonal = kernel.diagonal()
    first = (kernel[:n, :n].sum() - diagonal[:n].sum()) / (n * (n - 1))
    second = (kernel[n:, n:].sum() - diagonal[n:].sum()) / (m * (m - 1))
    return first + second - 2 * between


def domain_loss(
    logits: Tensor, domain: Tensor, smoothing: float = 0.0, weight: Tensor | None = None, normalized: bool = True
) -> Tensor:
    """Cross entropy of the domain classifier: the mean over the rows of each domain, then twice that over the domains.

    With one source this is mean_S CE + mean_T CE, the weight of Ganin et al. (JMLR 2016, equation 9); one mean over
    both halves of the batch would be half of it. Several sources weigh as much as one: a sum over the domains would
    grow with their number, and leave the labels behind.

    Parameters
    ----------
    logits : Tensor (n, domains)
        Or (n, 1), of two domains: those of the second.
    domain : Tensor (n,) int64
        Sources 0 … S-1, target S.
    smoothing : float
        Label smoothing, 0 … 1.
    weight : Tensor (n,), optional
        Weights ≥ 0 of the rows inside the mean of their domain.
    normalized : bool
        Divide a domain's sum by the sum of its weights, or by its number of rows: light rows then make a light domain.
    """
    if logits.dim() != 2:
        raise ValueError(f"logits have shape {tuple(logits.shape)}; expected (rows, domains), or (rows, 1)")
    logits = single(logits)
    if logits.shape[1] == 1:
        logits = F.pad(logits, (1, 0))
    numbers = torch.arange(logits.shape[1], device=domain.device)
    part = 2 / len(numbers)  # of each domain
    if weight is not None:
        if weight.shape != domain.shape:
            raise ValueError(f"weight has shape {tuple(weight.shape)}; expected one a row, {tuple(domain.shape)}")
        weight = weight.to(logits.dtype)
        per_row = F.cross_entropy(logits, domain, reduction="none", label_smoothing=smoothing, ignore_index=NONE)
        share = weight if normalized else torch.ones_like(weight)
        mass = ((domain[:, None] == numbers) * share[:, None]).sum(0).clamp(min=torch.finfo(weight.dtype).tiny)
        return (per_row * weight / mass[domain]).sum() * part
    of = domain[:, None] == numbers  # one_hot would wait for a GPU
    share = part / of.sum(0, dtype=logits.dtype).clamp(min=1)  # of a row
    if not smoothing:
        return F.cross_entropy(logits, domain, weight=share, reduction="sum", ignore_index=NONE)
    per_row = F.cross_entropy(logits, domain, reduction="none", label_smoothing=smoothing, ignore_index=NONE)
    return (per_row * share[domain]).sum()
