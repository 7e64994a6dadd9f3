"""The only training loop."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from .domains import Batch
from .network import Network
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
    optimizer: torch.optim.Optimizer,
    steps: int,
    start: int = 0,
    schedule: Callable[[float], float] | None = None,
    record: bool = False,
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
    record : bool
        Repeat the operations of an early step instead of finding them anew; see `recorded` for where that is right.
    """
    device = stream.device
    play = eager(net, method, optimizer)
    for group in optimizer.param_groups if record else ():
        group["lr"] = torch.tensor(float(group["lr"]), dtype=torch.float64)  # a number would be recorded as it is
    for number in range(start, steps):
        if schedule is not None:
            for group in optimizer.param_groups:
                lr = group["base_lr"] * schedule(number / steps)
                group["lr"] = group["lr"].fill_(lr) if record else lr
        if not net.training:  # the caller may have evaluated in between
            net.train()
        batch, progress = stream.at(number), torch.tensor(number / steps, device=device)
        if record and number == start + 2:  # the optimiser has its state by now
            terms, play = recorded(play, batch, progress)
        else:
            terms = play(batch, progress)
        yield Step(number, terms)


def eager(net: Network, method: Game, optimizer: torch.optim.Optimizer) -> Play:
    """Return the function that takes all steps of the optimiser on one batch."""
    group = {player: net.group(player) for player in net.players}  # once: walking through modules is slow

    def play(batch: Batch, progress: Tensor) -> Terms:
        seen: Terms = {}
        for players, terms in method.moves(net, batch, progress):
            update(optimizer, [p for player in players for p in group[player]], terms)
            seen.update({name: term.detach() for name, term in terms.items()})
        return seen

    return play


def update(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], terms: Terms) -> None:
    """Take one optimiser step of some parameters on the sum of the terms; the others get no gradient."""
    optimizer.zero_grad()
    losses = [term for term in terms.values() if term.requires_grad]  # one that no weight changes is there to be seen
    gradients = torch.autograd.grad(losses, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()


def recorded(play: Play, batch: Batch, progress: Tensor) -> tuple[Terms, Play]:
    """Play a batch; return its terms, and a function that repeats on others the operations that this took.

    The operations of small networks take less time than what finds them: Python, and the graph of gradients. The
    recording has the backward pass and the optimiser written out, and gives the same bits (benchmarks/toy.py has the
    gain). It is right where every step does the same: for methods that hold no state of their own and do not look at
    the values of tensors. The batches must be blocks of the same sizes.
    """
    seen: list[Terms] = []

    def step(x: Tensor, y: Tensor, index: Tensor, progress: Tensor) -> tuple[Tensor, ...]:
        seen.append(play(batch._replace(x=x, y=y, index=index), progress))
        return tuple(seen[0].values())

    run = simplified(make_fx(step)(batch.x, batch.y, batch.index, progress))
    (terms,) = seen

    def repeat(batch: Batch, progress: Tensor) -> Terms:
        with torch.no_grad():
            return dict(zip(terms, run(batch.x, batch.y, batch.index, progress), strict=True))

    return terms, repeat


def simplified(recording: torch.fx.GraphModule) -> Callable[..., tuple[Tensor, ...]]:
    """Return the recording as a function, without what only profilers and the graph of gradients needed."""
    aten, graph = torch.ops.aten, recording.graph
    for node in reversed(graph.nodes):
        if getattr(node.target, "namespace", "") == "profiler":
            graph.erase_node(node)
    held: dict[str, torch.fx.Node] = {}  # weights and other tensors: as arguments they need no look-up in the module
    first = next(node for node in graph.nodes if node.op != "placeholder")
    for node in graph.nodes:
        if node.op == "get_attr":
            if node.target not in held:
                with graph.inserting_before(first):
                    held[node.target] = graph.placeholder(f"held_{len(held)}")
            node.replace_all_uses_with(held[node.target])
        elif node.target is aten.detach.default:
            node.replace_all_uses_with(node.args[0])
        elif node.target is aten.t.default and node.args[0].target is aten.t.default:
            node.replace_all_uses_with(node.args[0].args[0])
    tensors = [getattr(recording, name) for name in held]
    graph.eliminate_dead_code()
    recording.recompile()
    return lambda *arguments: recording.forward(*arguments, *tensors)


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
