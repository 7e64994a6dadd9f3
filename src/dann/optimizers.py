"""SGD, Adam and AdamW on PyTorch's fused kernels."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

OPTIMIZERS = ("adam", "adamw", "sgd")
Group = tuple[list[nn.Parameter], float]


class Optimizer:
    """Adam, AdamW or SGD with momentum: one learning rate a group, and one factor on all of them.

    It gives the bits of PyTorch's optimiser classes. Those import PyTorch's compiler, which takes as long as importing
    PyTorch itself, and keep the learning rate in a number, which a recorded step could not change.

    Parameters
    ----------
    groups : iterable of (parameters, learning rate at factor 1)
    kind : {"adam", "adamw", "sgd"}
    momentum : float
        0 … 1. With "adam" and "adamw" their β1; β2 is .999 and ε 1e-8.
    weight_decay : float
        ≥ 0, added to the gradient as that factor times the weights; with "adamw" the weights shrink by that factor
        times the learning rate instead.
    clip_norm : float, optional
        > 0: gradients that are longer, all of one step together, are scaled to this length.
    """

    def __init__(
        self,
        groups: Iterable[Group],
        kind: str = "sgd",
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ):
        if kind not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {kind!r}; choose one of: {', '.join(OPTIMIZERS)}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum!r} must lie in [0, 1)")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay={weight_decay!r} must be a number of at least 0")
        self.groups = [(list(parameters), lr) for parameters, lr in groups]
        for p in (p for parameters, _ in self.groups for p in parameters):
            if torch.empty_like(p, device="meta").stride() != p.stride():
                raise ValueError(
                    f"weights of shape {tuple(p.shape)} have gaps or repeats in memory: give their clone()"
                )
        self.kind, self.momentum, self.weight_decay, self.clip_norm = kind, momentum, weight_decay, clip_norm
        self.rates = [_rate(parameters[0].device, lr) for parameters, lr in self.groups]
        self._one = torch.ones((), device=self.rates[0].device if self.rates else None)
        self._group: dict[Tensor, int] = {p: k for k, (parameters, _) in enumerate(self.groups) for p in parameters}
        self._state: dict[Tensor, list[Tensor]] = {p: self._fresh(p) for p in self._group if p.requires_grad}

    def _fresh(self, p: Tensor) -> list[Tensor]:
        """Return what is known of a parameter before the first step: averages, and the number of steps."""
        zeros = torch.zeros_like(p, requires_grad=False)
        if self.kind == "sgd":
            return [zeros] if self.momentum else []
        return [zeros, zeros.clone(), torch.zeros((), device=p.device)]

    def _known(self, p: Tensor) -> list[Tensor]:
        """Return what is known of a parameter, which may have been frozen before, or got another layout."""
        known = self._state.get(p)
        if known is None or (known and known[0].stride() != p.stride()):
            self._state[p] = [laid_out_as(p, t) if t.dim() else t for t in known or self._fresh(p)]
        return self._state[p]

    def scale(self, factor: float) -> None:
        """Set the factor on the learning rates, without waiting for the device."""
        for (_, lr), rate in zip(self.groups, self.rates, strict=True):
            rate.fill_(lr * factor)

    @torch.no_grad()
    def step(self, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
        """Update some parameters, in place; those without a gradient stay as they are, without weight decay too."""
        chosen: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for p, gradient in zip(parameters, self._clipped(gradients), strict=True):
            if gradient is not None:
                chosen.setdefault(self._group[p], []).append((p, laid_out_as(p, gradient)))
        for k, pairs in chosen.items():
            weights, slopes = [p for p, _ in pairs], [gradient for _, gradient in pairs]
            state = [list(column) for column in zip(*map(self._known, weights), strict=True)]
            if self.kind == "sgd":
                torch._fused_sgd_(
                    weights,
                    slopes,
                    state[0] if state else [],
                    lr=self.rates[k],
                    momentum=self.momentum,
                    weight_decay=self.weight_decay,
                    dampening=0.0,
                    nesterov=False,
                    maximize=False,
                    is_first_step=False,
                )
            else:
                mean, square, counts = state
                torch._foreach_add_(counts, [self._one] * len(counts))
                (torch._fused_adam_ if self.kind == "adam" else torch._fused_adamw_)(
                    weights,
                    slopes,
                    mean,
                    square,
                    [],
                    counts,
                    lr=self.rates[k],
                    beta1=self.momentum,
                    beta2=0.999,
                    eps=1e-8,
                    weight_decay=self.weight_decay,
                    amsgrad=False,
                    maximize=False,
                )
            torch.autograd.graph.increment_version(weights)  # what holds them for a backward pass to come shall fail

    def _clipped(self, gradients: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """Return the gradients, none of which changes, as long as they may be."""
        given = [gradient for gradient in gradients if gradient is not None]
        if self.clip_norm is None or not given:
            return gradients
        lengths = torch._foreach_norm(given, 2, dtype=torch.float64)  # squares of large numbers are infinite in float32
        factor = (self.clip_norm / (torch.linalg.vector_norm(torch.stack(lengths)) + 1e-6)).clamp(max=1.0).float()
        return [None if gradient is None else gradient * factor for gradient in gradients]

    def state(self) -> list[list[Tensor]]:
        """Return what is known of every parameter, in the order of the groups; nothing of frozen ones."""
        return [self._state.get(p, []) for p in self._group]

    def restore(self, state: list[list[Tensor]]) -> None:
        """Go on from an earlier state."""
        for p, values in zip(self._group, state, strict=True):
            for tensor, value in zip(self._known(p) if values else [], values, strict=True):
                tensor.copy_(value)


def laid_out_as(p: Tensor, values: Tensor) -> Tensor:
    """Return values with the strides of a parameter: the kernels go through memory, whatever lies where.

    Raises
    ------
    ValueError
        The values are sparse.
    """
    if values.layout != torch.strided:
        raise ValueError(
            f"the gradient of weights of shape {tuple(p.shape)} is sparse, and no optimiser here takes such: give "
            "nn.Embedding sparse=False"
        )
    return values if values.stride() == p.stride() else torch.empty_like(p, requires_grad=False).copy_(values)


def _rate(device: torch.device, lr: float) -> Tensor:
    """Return a learning rate as the fused kernels take it: they round it on the CPU, and read it on a GPU."""
    return torch.tensor(lr, dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device)
