"""The only training loop."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .domains import Batch
from .network import Network
from .optimizers import Optimizer
from .recording import record
from .streams import ArrayStream

RECORDING_PAYS = 500  # steps in which a recording, about 0.1 s, earns back what it cost: benchmarks/toy.py
WORK_OF_A_THREAD = 1e8  # multiply-adds between two waits; below, threads gain little and collapse on a busy machine


class Step(NamedTuple):
    """What one step of the training leaves: its number, from 0, and its loss terms, still on the device."""

    number: int
    terms: dict[str, Tensor]  # 0-d; reading one waits for the device


Terms = dict[str, Tensor]
Play = Callable[[Batch, Tensor], Terms]


class Game(Protocol):
    """What the loop needs of a method."""

    def moves(self, net: Network, batch: Batch, progress: Tensor) -> Iterator[tuple[tuple[str, ...], Terms]]:
        """Yield ``(players, terms)`` in the order of play."""


def train(
    net: Network,
    method: Game,
    stream: ArrayStream,
    optimizer: Optimizer,
    steps: int,
    start: int = 0,
    schedule: Callable[[float], float] | None = None,
    repeat: bool = False,
) -> Iterator[Step]:
    """Play ``method`` on ``net`` and yield a `Step` after every batch; the caller decides what to do in between.

    Parameters
    ----------
    optimizer : Optimizer
    steps, start : int
        The whole length of the training, and the first step to take: ``start > 0`` resumes.
    schedule : callable, optional
        progress (0 … 1) → factor on the learning rates.
    repeat : bool
        Repeat the operations of the first step instead of finding them anew; see `recorded` for where that is right.
    """
    device = stream.device
    play = eager(net, method, optimizer)
    for number in range(start, steps):
        if schedule is not None:
            optimizer.scale(schedule(number / steps))
        if not net.training:  # the caller may have evaluated in between
            net.train()
        batch, progress = stream.at(number), torch.tensor(number / steps, device=device)
        if repeat and number == start:
            terms, play = recorded(play, batch, progress)
        else:
            terms = play(batch, progress)
        yield Step(number, terms)


def eager(net: Network, method: Game, optimizer: Optimizer) -> Play:
    """Return the function that takes all steps of the optimiser on one batch."""
    group = {player: net.group(player) for player in net.players}  # once: walking through modules is slow

    def play(batch: Batch, progress: Tensor) -> Terms:
        seen: Terms = {}
        for players, terms in method.moves(net, batch, progress):
            update(optimizer, [p for player in players for p in group[player]], terms)
            seen.update({name: term.detach() for name, term in terms.items()})
        return seen

    return play


def update(optimizer: Optimizer, parameters: Sequence[nn.Parameter], terms: Terms) -> None:
    """Take one optimiser step of some parameters on the sum of the terms; the others stay as they are."""
    losses = [term for term in terms.values() if term.requires_grad]  # one that no weight changes is there to be seen
    optimizer.step(parameters, torch.autograd.grad(losses, parameters, allow_unused=True))


def recorded(play: Play, batch: Batch, progress: Tensor) -> tuple[Terms, Play]:
    """Play a batch; return its terms, and a function that repeats on others the operations that this took.

    Right for methods that hold no state of their own; see `record`. The batches are blocks of the same sizes.
    """
    terms: Terms = {}

    def step(x: Tensor, y: Tensor, index: Tensor, progress: Tensor) -> tuple[Tensor, ...]:
        terms.update(play(batch._replace(x=x, y=y, index=index), progress))
        return tuple(terms.values())

    _, run = record(step, (batch.x, batch.y, batch.index, progress), constants=(batch.domain,))
    return terms, lambda batch, progress: dict(zip(terms, run(batch.x, batch.y, batch.index, progress), strict=True))


@contextmanager
def threads_for(work: float) -> Iterator[None]:
    """Let PyTorch use as many of its threads inside the block as ``work`` multiply-adds keep busy, at least one.

    The number depends on nothing but ``work`` and the threads that PyTorch had, so that results repeat.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(before, round(work / WORK_OF_A_THREAD))))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Take numbers below 1e-38 for 0 inside the block, where one thread computes.

    Units that weight decay has switched off leave such numbers everywhere, and a processor is many times slower
    on them. Several threads would not agree on them, and results would not repeat.
    """
    before = bool(torch.tensor(1e-40) * 1 == 0)
    torch.set_flush_denormal(before or torch.get_num_threads() == 1)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


class WeightAverage:
    """Exponential moving average of a network's parameters.

    The decay of step n is ``min(decay, n / (n + 9))``: otherwise 1,000 steps with a decay of .998 would still hold 13 %
    of the initial weights. (PyTorch's ``AveragedModel`` hands its counter to the update as a tensor on the device;
    reading that would make every step wait for a GPU.) Buffers, such as the statistics of batch norm, are not averaged.

    Parameters
    ----------
    net : nn.Module
    decay : float
        0 … 1.
    """

    def __init__(self, net: nn.Module, decay: float):
        self.decay = decay
        self.current = [p.detach() for p in net.parameters()]
        self.values = [p.clone() for p in self.current]

    def update(self, done: int) -> None:
        """Take the weights in after ``done`` steps."""
        torch._foreach_lerp_(self.values, self.current, 1 - min(self.decay, done / (done + 9)))

    def restore(self, values: list[Tensor]) -> None:
        """Go on from the values of an earlier average."""
        for mine, value in zip(self.values, values, strict=True):
            mine.copy_(value)

    def copy_to_network(self) -> None:
        """Give the network the averaged weights."""
        for current, value in zip(self.current, self.values, strict=True):
            current.copy_(value)
