"""Endless batches in fixed blocks, sources first, target last."""

import warnings

import numpy as np
import torch

from .augmentation import Augmentation
from .domains import Batch, Domain, Domains

RARE = 1 / 32  # of the target's rows: fewer of known label are drawn more often (docs/experiments.md)
LABELLED = 1 / 16  # of the target's rows in training are of known label then


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """Return a tensor on an array's memory, to be read only: arrays that cannot be written are welcome."""
    if array.flags.writeable:
        return torch.from_numpy(array)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def drawn(mass: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """Draw n of n rows in proportion to weights, systematically: each count is the expected one, rounded up or down.

    Parameters
    ----------
    mass : Tensor (n,) float64
        Sums of the weights up to each row, the last one > 0.
    start : 0-d Tensor
        Uniform in [0, 1).

    Returns
    -------
    Tensor (n,) int64
        Row numbers in ascending order.
    """
    n = len(mass)
    points = (torch.arange(n, dtype=mass.dtype) + start) * (mass[-1] / n)
    below = torch.nextafter(mass[-1], torch.zeros_like(start))  # rounding may reach the end
    return torch.searchsorted(mass, points.clamp(max=below), right=True)


def weights_of(target: Domain) -> np.ndarray | None:
    """Return the weights of target rows: where labels are rare, their rows make up a sixteenth of what is drawn."""
    known = ~np.isnan(target.y) if target.y.dtype.kind == "f" else target.y >= 0
    share = float(np.average(known, weights=target.weight))
    if not 0 < share < RARE:
        return target.weight
    weight = np.ones(len(known)) if target.weight is None else target.weight
    return weight * np.where(known, LABELLED * (1 - share) / ((1 - LABELLED) * share), 1.0)


class ArrayStream:
    """Batches from rows that already lie on the device.

    The batch of a step depends on ``(seed, step)`` alone, so resuming at a step is asking for it. Every domain is
    walked through in its own permutations, one after the other: domains of unequal size each count their own epochs,
    and a block larger than its domain spans several. Rows with weights come as often as these say: an epoch of n rows
    has row i n·w_i / Σw times, rounded up or down by chance. Target rows of known label make up a sixteenth of what is
    drawn where they are fewer than one in 32: of a large target hardly any batch would have one.

    Parameters
    ----------
    domains : Domains
    batch_size : int
        Rows of the target block. The sources share another ``batch_size`` rows, as evenly as it goes.
    seed : int
    device : torch.device or str
    augmentation : Augmentation, optional
        Varies the rows of all batches.
    strong_augmentation : Augmentation, optional
        Makes a second variation of the target's rows, `Batch.variant`.
    """

    def __init__(
        self,
        domains: Domains,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        augmentation: Augmentation | None = None,
        strong_augmentation: Augmentation | None = None,
    ):
        n = len(domains.sources)
        if batch_size < n:
            raise ValueError(f"batch_size={batch_size} is too small for {n} sources: each needs at least one row")
        self.sizes = [batch_size // n + (k < batch_size % n) for k in range(n)] + [batch_size]
        self.seed, self.device = int(seed), torch.device(device)  # NumPy's integers overflow
        self.x = [tensor_of(d.x).to(self.device) for d in domains.all]
        self.y = [tensor_of(d.y).to(self.device) for d in domains.all]
        weights = [*(d.weight for d in domains.sources), weights_of(domains.target)]
        self.mass = [None if w is None else torch.from_numpy(w).cumsum(0) for w in weights]
        numbers = [torch.full((size,), k, device=self.device) for k, size in enumerate(self.sizes)]
        self.domain = torch.cat(numbers)
        self.augmentation, self.strong_augmentation = augmentation, strong_augmentation
        self.labelled = domains.target.labelled
        self._epochs: dict[int, tuple[int, torch.Tensor]] = {}  # last permutation of each domain: a memo, not a state

    def at(self, step: int) -> Batch:
        """Return the batch of one step."""
        index = [self._rows(k, step) for k in range(len(self.sizes))]
        x = torch.cat([x.index_select(0, i) for x, i in zip(self.x, index, strict=True)])  # x[i] is slower
        y = torch.cat([y.index_select(0, i) for y, i in zip(self.y, index, strict=True)])
        varied, variant = self._varied(x, step)
        n_source = len(x) - self.sizes[-1]
        return Batch(varied, y, self.domain, torch.cat(index), n_source, self.labelled, variant, tuple(self.sizes))

    def _varied(self, x: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the variations of a batch's rows, and the strong ones of its target rows, if there are such."""
        if self.augmentation is None and self.strong_augmentation is None:
            return x, None
        seed = np.random.SeedSequence((self.seed % 2**63, step)).generate_state(1, np.uint64)
        generator = torch.Generator(self.device).manual_seed(int(seed[0] // 2))
        weak, strong = self.augmentation, self.strong_augmentation
        variant = None if strong is None else strong(x[-self.sizes[-1] :], generator)
        if weak is None:
            return x, variant
        blocks = [x] if weak.by_row else x.split(self.sizes)
        return torch.cat([weak(block, generator) for block in blocks]), variant

    def _rows(self, k: int, step: int) -> torch.Tensor:
        n, size = len(self.x[k]), self.sizes[k]
        first = step * size
        pieces = []
        for epoch in range(first // n, (first + size - 1) // n + 1):
            low, high = max(first - epoch * n, 0), min(first + size - epoch * n, n)
            pieces.append(self._permutation(k, epoch)[low:high])
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _permutation(self, k: int, epoch: int) -> torch.Tensor:
        if k not in self._epochs or self._epochs[k][0] != epoch:
            generator = torch.Generator().manual_seed(((self.seed * 1009 + k) * 1_000_003 + epoch) % 2**63)
            order = torch.randperm(len(self.x[k]), generator=generator)
            if (mass := self.mass[k]) is not None:
                order = drawn(mass, torch.rand((), generator=generator, dtype=mass.dtype))[order]
            pinned = order.pin_memory() if self.device.type == "cuda" else order  # else the copy waits for the GPU
            self._epochs[k] = (epoch, pinned.to(self.device, non_blocking=True))
        return self._epochs[k][1]
