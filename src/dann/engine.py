"""The only training loop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .domains import Batch
from .network import Network
from .streams import ArrayStream

WORK_OF_A_THREAD = 1e8  # multiply-adds between two waits; below, threads gain little and collapse on a busy machine


class Step(NamedTuple):
    """What one step of the training leaves: its number, from 0, and its loss terms, still on the device."""

    number: int
    terms: dict[str, Tensor]  # 0-d; reading one waits for the device


class Game(Protocol):
    """What the loop needs of a method."""

    def moves(
        self, net: Network, batch: Batch, progress: Tensor
    ) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
        """Yield ``(players, terms)`` in the order of play."""


def train(
    net: Network,
    method: Game,
    stream: ArrayStream,
    optimizer: torch.optim.Optimizer,
    steps: int,
    start: int = 0,
    schedule: Callable[[float], float] | None = None,
) -> Iterator[Step]:
    """Play ``method`` on ``net`` and yield a `Step` after every batch; the caller decides what to do in between.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Its parameter groups carry ``base_lr``, the learning rate at factor 1.
    steps, start : int
        The whole length of the training, and the first step to take: ``start > 0`` resumes.
    schedule : callable, optional
        progress (0 … 1) → factor on the learning rates.
    """
    device = stream.device
    for number in range(start, steps):
        progress = number / steps
        if schedule is not None:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * schedule(progress)
        if not net.training:  # the caller may have evaluated in between
            net.train()
        seen: dict[str, Tensor] = {}
        for players, terms in method.moves(net, stream.at(number), torch.tensor(progress, device=device)):
            update(net, optimizer, players, terms)
            seen.update({name: term.detach() for name, term in terms.items()})
        yield Step(number, seen)


def update(net: Network, optimizer: torch.optim.Optimizer, players: tuple[str, ...], terms: dict[str, Tensor]) -> None:
    """Take one optimiser step of the named players on the sum of the terms; the others get no gradient."""
    optimizer.zero_grad()
    loss = torch.stack(tuple(terms.values())).sum()
    loss.backward(inputs=[p for player in players for p in net.group(player)])
    optimizer.step()


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
