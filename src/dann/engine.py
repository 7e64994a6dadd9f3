"""The only training loop."""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from operator import is_
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .domains import Batch
from .identity import OF_MODULES, is_plain
from .machine import autocast
from .network import Network
from .optimizers import Optimizer
from .recording import agrees, record
from .streams import ArrayStream

RECORDING_PAYS = 100  # steps in which a recording earns back its hundredths of a second: docs/performance.md
WORTH_RECORDING = 1e10  # multiply-adds of a step, for each thread, from which on nothing is gained: docs/performance.md


class Step(NamedTuple):
    """What one step of the training leaves: its number, from 0, and its loss terms, still on the device."""

    number: int
    terms: dict[str, Tensor]  # 0-d; reading one waits for the device


CONTAINERS = (list, dict, deque, set)
Terms = dict[str, Tensor]
Play = Callable[[Batch, Tensor], Terms]
Check = Callable[[Batch, Tensor], tuple[Terms, bool]]
Moves = Iterator[tuple[tuple[str, ...], Terms]]


class Game(Protocol):
    """What the loop needs of a method."""

    def moves(self, net: Network, batch: Batch, progress: Tensor) -> Moves:
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
    precision: torch.dtype = torch.float32,
    watched: bool = False,
) -> Iterator[Step]:
    """Play ``method`` on ``net`` and yield a `Step` after every batch; the caller decides what to do in between.

    Parameters
    ----------
    net : Network
    method : Game
        Its parts are built, and in the network.
    stream : ArrayStream
        ``at(step)`` gives the batches.
    optimizer : Optimizer
        With a group for each player.
    steps, start : int
        The whole length of the training, and the first step to take: ``start > 0`` resumes.
    schedule : callable, optional
        progress (0 … 1) → factor on the learning rates.
    repeat : bool
        Repeat the operations of the first step instead of finding them anew; see `recorded` for where that is right.
    precision : torch.dtype
        What convolutions and matrix products compute in; weights and losses keep single precision.
    watched : bool
        Whether the caller may change the method or the network between the steps: nothing is repeated from then on.
    """
    device, context = stream.device, autocast(stream.device, precision)
    step_by_step = play = eager(net, method, optimizer, context, first=start == 0)
    check, unchanged = None, None
    net.train()
    for number in range(start, steps):
        if schedule is not None:
            optimizer.scale(schedule(number / steps))
        batch, progress = stream.at(number), torch.full((), number / steps, device=device)  # filled there, not copied
        if repeat and number == start:
            terms, play, check = recorded(play, batch, progress, lambda: snapshot(net, method))
            unchanged = watch(net, method) if watched else None
        elif check is not None:  # the second step, both ways
            terms, right = check(batch, progress)
            if not right:
                warnings.warn(
                    "not compiled: a recorded step does something else, as values are kept outside of PyTorch's "
                    "operations; the steps are computed one by one",
                    stacklevel=2,
                )
                play, unchanged = step_by_step, None
            check = None
        else:
            terms = play(batch, progress)
        yield Step(number, terms)
        if not net.training:  # the caller has evaluated in between; layers alone may stay in that mode
            net.train()
        if unchanged is not None and not unchanged():
            warnings.warn("not compiled any more: method or network were changed between two steps", stacklevel=2)
            play, unchanged, check = step_by_step, None, None


def eager(
    net: Network,
    method: Game,
    optimizer: Optimizer,
    context: Callable[[], AbstractContextManager[None]],
    first: bool = True,
) -> Play:
    """Return the function that takes all steps of the optimiser on one batch; its losses are computed in a context.

    The first step of a training has to train something; later ones may pause.
    """
    modules = {"encoder": net.encoder, "head": net.head, **net.parts}
    group = {name: list(module.parameters()) for name, module in modules.items()}  # once: walking there is slow
    learns = not first

    def play(batch: Batch, progress: Tensor) -> Terms:
        nonlocal learns, first
        seen: Terms = {}
        moved = False
        moves = method.moves(net, batch, progress)
        if not isinstance(moves, Iterator):
            raise TypeError(f"{type(method).__name__}.moves returns a {type(moves).__name__}: yield its moves")
        for players, terms in inside(context, moves):
            if not isinstance(terms, Mapping):
                name = type(method).__name__
                raise TypeError(f"{name} returns a {type(terms).__name__}; expected its terms by name: {{'label': …}}")
            if isinstance(players, str):
                raise TypeError(f"a move is of {players!r}, one name: give a tuple of names, ({players!r},)")
            if unknown := [player for player in players if player not in group]:
                raise ValueError(f"a move is of {unknown[0]!r}; the players are: {', '.join(group)}")
            parameters = list(dict.fromkeys(p for player in players for p in group[player]))  # parts may share some
            if first and not any(p.requires_grad for p in parameters):
                raise ValueError(f"there is nothing to train in {', '.join(players)}: all weights are frozen, or none")
            update(optimizer, parameters, terms)
            moved, learns = True, learns or any(term.requires_grad for term in terms.values())
            seen.update({name: term.detach() for name, term in terms.items()})
        if moved and not learns:  # in the first step: later ones may pause
            raise ValueError(f"no term has a gradient, of {list(seen)}: nothing would be trained")
        first = False
        return seen

    return play


def inside(context: Callable[[], AbstractContextManager[None]], moves: Moves) -> Moves:
    """Compute each move in a context of its own: autocast keeps its copies of weights until it is left."""
    while True:
        with context():
            move = next(moves, None)
        if move is None:
            return
        yield move


def update(optimizer: Optimizer, parameters: Sequence[nn.Parameter], terms: Terms) -> None:
    """Take one optimiser step of some parameters on the sum of the terms; the others stay as they are."""
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.numel() != 1:
            seen = f"shape {tuple(term.shape)}" if isinstance(term, Tensor) else type(term).__name__
            raise ValueError(f"the term {name!r} is no single number of a tensor, but {seen}: take its mean or sum")
    losses = [term for term in terms.values() if term.requires_grad]  # one that no weight changes is there to be seen
    parameters = [p for p in parameters if p.requires_grad]  # the caller may freeze some between the steps
    if parameters:
        optimizer.step(parameters, torch.autograd.grad(losses, parameters, allow_unused=True))


def recorded(
    play: Play, batch: Batch, progress: Tensor, state: Callable[[], list[Any]]
) -> tuple[Terms, Play, Check | None]:
    """Play a batch; return its terms, a function that repeats on others the operations that this took, and a check.

    Right for methods and networks that change tensors in place and hold no other state of their own, which ``state``
    would show; see `record`. The batches are blocks of the same sizes. The check plays the next batch, and says whether
    the repeated operations come to the same.
    """
    terms: Terms = {}
    before = state()

    def inputs(batch: Batch) -> tuple[Tensor, ...]:
        return (batch.x, batch.y, batch.index, *(() if batch.variant is None else (batch.variant,)))

    def step(
        progress: Tensor, x: Tensor, y: Tensor, index: Tensor, variant: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        terms.update(play(batch._replace(x=x, y=y, index=index, variant=variant), progress))
        return tuple(terms.values())

    _, recording = record(step, (progress, *inputs(batch)), constants=(batch.domain,))
    if recording is not None and not same(before, state()):
        warnings.warn("not compiled: a step changes attributes of method or network, not their values", stacklevel=3)
        recording = None
    if recording is None:
        return terms, play, None
    names = tuple(terms)

    def repeat(batch: Batch, progress: Tensor) -> Terms:
        return dict(zip(names, recording(progress, *inputs(batch)), strict=True))

    def check(batch: Batch, progress: Tensor) -> tuple[Terms, bool]:
        terms.clear()
        _, right = agrees(recording, step, (progress, *inputs(batch)))
        return terms, right and tuple(terms) == names

    return terms.copy(), repeat, check


def state_of(net: Network, method: Game) -> list[tuple[dict[str, Any], str]]:
    """Return where method and layers keep what a recording holds as it is, dictionaries with their keys."""
    parts = [v for value in vars(method).values() for v in (value.values() if isinstance(value, dict) else (value,))]
    groups = [value for value in vars(method).values() if isinstance(value, dict)]  # such as the methods of a sum
    kept = [(d, k) for d in (vars(method), *groups, *(vars(p) for p in parts if hasattr(p, "moves"))) for k in d]
    for layer in net.modules():
        kept += [(vars(layer), k) for k in vars(layer) if k not in OF_MODULES]
        kept += [(d, k) for d in (layer._parameters, layer._buffers, layer._modules) for k in d]
    return kept


def values_of(state: Sequence[tuple[dict[str, Any], str]], parameters: Iterable[Tensor]) -> list[Any]:
    """Return what is kept there now, and which weights are trained."""
    return [*(d.get(k) for d, k in state), *(p.requires_grad for p in parameters)]


def parts_of(containers: Iterable[Any]) -> list[Any]:
    """Return the parts of lists and the like, which may be changed in place."""
    return [tuple(each.items()) if isinstance(each, dict) else tuple(each) for each in containers]


def snapshot(net: Network, method: Game) -> list[Any]:
    """Return all that method and layers keep now, with the parts of containers."""
    values = values_of(state_of(net, method), net.parameters())
    return [*values, *parts_of(value for value in values if isinstance(value, CONTAINERS))]


def watch(net: Network, method: Game) -> Callable[[], bool]:
    """Return a function that says whether method and network hold the same tensors and values as now."""
    modes = [(vars(layer), "training") for layer in net.modules()]
    state, parameters = state_of(net, method) + modes, list(net.parameters())  # once: walking through modules is slow
    before = values_of(state, parameters)
    held = [value for value in before if isinstance(value, CONTAINERS)]
    parts = parts_of(held)

    def unchanged() -> bool:
        now = values_of(state, parameters)
        return (all(map(is_, now, before)) or same(before, now)) and (not held or same(parts, parts_of(held)))

    return unchanged


def same(before: Sequence[Any], after: Sequence[Any]) -> bool:
    """Whether two lists hold the same objects, or equal numbers and names."""

    def equal(a: Any, b: Any) -> bool:
        if a is b or type(a) is not type(b):
            return a is b
        return same(a, b) if isinstance(a, tuple) else is_plain(a) and bool(a == b)

    return len(before) == len(after) and all(map(equal, before, after))


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
        self.current: list[Tensor] = list(net.parameters())
        self.values = [p.detach().clone() for p in self.current]

    @torch.no_grad()
    def update(self, done: int) -> None:
        """Take the weights in after ``done`` steps."""
        torch._foreach_lerp_(self.values, self.current, 1 - min(self.decay, done / (done + 9)))

    def restore(self, values: list[Tensor]) -> None:
        """Go on from the values of an earlier average."""
        for mine, value in zip(self.values, values, strict=True):
            mine.copy_(value)

    @torch.no_grad()
    def copy_to_network(self) -> None:
        """Give the network the averaged weights."""
        for current, value in zip(self.current, self.values, strict=True):
            current.copy_(value)
