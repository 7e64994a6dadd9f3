"""Recordings: the tensor operations of one call of a function, to be repeated on other tensors."""

import operator
import pickle
import random
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from .seeds import random_state, restore_random_state

aten = torch.ops.aten
PURE = (aten.t.default, aten.slice.Tensor, operator.getitem)  # others may keep statistics that no schema tells
PACKAGES = tuple(str(Path(package).parent) for package in (torch.__file__, __file__))
SMALL = 2**20  # numbers of a tensor
Function = Callable[..., tuple[Tensor, ...]]


class Recording(NamedTuple):
    """Operations to be repeated."""

    run: Function
    changed: tuple[Tensor, ...]  # what they may write into, beside what they make

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Repeat them on other inputs."""
        return self.run(*inputs)


def record(
    function: Function, inputs: Sequence[Tensor], constants: Sequence[Tensor] = ()
) -> tuple[tuple[Tensor, ...], Recording | None]:
    """Call a function; return what it returned, and a function that repeats its operations on other inputs.

    The operations of small networks take less time than what finds them: Python, and the graph of gradients. A
    recording holds them alone, with those of the backward pass and the optimiser written out, and gives the same bits:
    benchmarks/toy.py measures the gain. Tensors that are no inputs are those of the recorded call, so weights and the
    optimiser's state change in place. Right where every call does the same operations: random numbers are drawn anew,
    but Python's own variables stay as they were; `agrees` says of one call whether it is.

    Parameters
    ----------
    function : callable
        Tensors → tuple of tensors.
    inputs : sequence of Tensor
        Of the recorded call; later ones have the same shapes and types.
    constants : sequence of Tensor
        Tensors whose values never change: what follows from them alone is not computed again.

    Returns
    -------
    outputs : tuple of Tensor
    recording : Recording or None
        None, with a warning, where the operations depend on the values of tensors, or on a generator.
    """
    drawn = _others_random_state()
    with _Reads() as reads, _Tape() as tape:
        outputs = function(*inputs)
    obstacle = reads.obstacle or tape.obstacle
    if obstacle is not None:
        obstacle = f"the operations depend on the values of a tensor or on a generator: {obstacle}"
    elif drawn != _others_random_state():
        obstacle = "random numbers of Python or NumPy would stay as they were"
    if obstacle is not None:
        warnings.warn(f"not compiled: {obstacle}", stacklevel=2)
        return outputs, None
    run, changed = tape.function(inputs, outputs, constants)
    return outputs, Recording(captured(run, inputs) if inputs[0].is_cuda else run, changed)


def agrees(recording: Recording, function: Function, inputs: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], bool]:
    """Call a function; return what it returned, and whether its recording does the same to the last bit.

    The recording goes first, and what it changed is taken back. On a GPU, where sums have no fixed order, results
    may differ by a thousandth.
    """
    device = inputs[0].device
    before, numbers = [t.clone() for t in recording.changed], random_state(device)
    theirs = [*recording.run(*inputs), *(t.clone() for t in recording.changed)]
    with torch.no_grad():
        for tensor, value in zip(recording.changed, before, strict=True):
            if not alike(tensor, value):  # expanded ones, which cannot be written to, are never changed
                tensor.copy_(value)
    del before
    restore_random_state(device, numbers)
    outputs = function(*inputs)
    tolerance = 1e-3 if device.type == "cuda" else 0.0
    return outputs, all(alike(a, b, tolerance) for a, b in zip((*outputs, *recording.changed), theirs, strict=True))


def alike(a: Tensor, b: Tensor, tolerance: float = 0.0) -> bool:
    """Whether two tensors are of the same shape and type and hold the same values, NaN where the other has NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if torch.equal(a, b):
        return True
    return a.is_floating_point() and torch.allclose(a, b, rtol=tolerance, atol=tolerance**2, equal_nan=True)


def _others_random_state() -> tuple[Any, bytes]:
    """Return the state of the generators that are not PyTorch's: what they draw is no tensor's operation."""
    return random.getstate(), pickle.dumps(np.random.get_state(legacy=False))  # noqa: NPY002 - the user's, of any kind


def captured(run: Function, inputs: Sequence[Tensor]) -> Function:
    """Return a recording as one CUDA graph, all kernels in one launch; as it was, with a warning, if that fails.

    Parameters
    ----------
    run : callable
        A recording.
    inputs : sequence of Tensor
        Examples; the graph keeps copies, into which later inputs are written.
    """
    static, graph, device = [tensor.clone() for tensor in inputs], torch.cuda.CUDAGraph(), inputs[0].device
    before = torch.cuda.current_stream(device)
    try:  # the default stream would be that of the current device, and other threads may allocate meanwhile
        with (
            torch.cuda.device(device),
            torch.cuda.graph(graph, stream=torch.cuda.Stream(device), capture_error_mode="thread_local"),
        ):
            outputs = run(*static)
    except RuntimeError as error:
        torch.cuda.set_stream(before)  # where a capture fails, PyTorch stays on its stream
        warnings.warn(f"not captured as a CUDA graph: {str(error).splitlines()[0]}", stacklevel=3)
        return run

    def replay(*inputs: Tensor) -> tuple[Tensor, ...]:
        for mine, new in zip(static, inputs, strict=True):
            mine.copy_(new)
        graph.replay()
        return tuple(tensor.clone() for tensor in outputs)  # the next replay writes over them

    replay.recording = run  # type: ignore[attr-defined]  # alive: the graph reads the memory that this one holds

    return replay


class _Reads(TorchFunctionMode):
    """Notices what leaves PyTorch: NumPy's operations on an array of a tensor would not be on the tape."""

    obstacle: str | None = None

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__dlpack__):
            self.obstacle = self.obstacle or f"Tensor.{function.__name__}{_called_at()}"
        return function(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    """Sees every operation."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else PyTorch imports its compiler, only to keep it out of `__torch_dispatch__`


class _Tape(_Operations):
    """Keeps every operation with its arguments and results, all alive, so that no two tensors share an identity."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.obstacle: str | None = None
        self.drawn = torch.get_rng_state()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation.namespace == "profiler":
            return operation(*args, **(kwargs or {}))
        masks = any(t.dtype in (torch.bool, torch.uint8) for t in _tensors(args[1:]))
        whole = operation is aten.index.Tensor and not masks  # it has the tag for the sake of masks
        if {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(operation.tags) and not whole:
            self.obstacle = self.obstacle or f"{operation}{_called_at()}"
        if any(isinstance(value, (torch.Generator, torch.UntypedStorage)) for value in tree_leaves((args, kwargs))):
            self.obstacle = self.obstacle or f"{operation}{_called_at()}"
        new = args[0].clone() if operation is aten.lift_fresh.default else None  # a tensor made from Python's numbers
        draws = torch.Tag.nondeterministic_seeded in operation.tags
        if draws and not torch.equal(torch.get_rng_state(), self.drawn):
            self.obstacle = self.obstacle or f"the state of random numbers is set{_called_at()}"
        result = operation(*args, **(kwargs or {}))
        if draws:
            self.drawn = torch.get_rng_state()
        if new is None:
            self.calls.append((operation, args, kwargs or {}, result))
        else:
            self.calls.append((aten.clone.default, (new,), {}, result))
        return result

    def function(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], constants: Sequence[Tensor]
    ) -> tuple[Function, tuple[Tensor, ...]]:
        """Return the operations as a function of the inputs, and the tensors beside these that they may write into."""
        graph = torch.fx.Graph()
        nodes: dict[int, Any] = {id(tensor): graph.placeholder(f"input_{i}") for i, tensor in enumerate(inputs)}
        last_input = next(iter(reversed(graph.nodes)))
        held: list[Tensor] = []  # the others become arguments too: no look-ups
        constant, written = {id(tensor) for tensor in constants}, self._written()
        quicker: dict[torch.fx.Node, Any] = {}

        def node(tensor: Tensor) -> torch.fx.Node:
            if id(tensor) not in nodes:
                with graph.inserting_after(last_input):
                    nodes[id(tensor)] = graph.placeholder(f"held_{len(held)}")
                held.append(tensor)
            return nodes[id(tensor)]

        for operation, args, kwargs, result in self.calls:
            tensors, results = _tensors((args, kwargs)), _tensors(result)
            if self._follows(operation, tensors, results, constant, written):
                constant.update(id(t) for t in results)
            elif operation is aten.detach.default:  # was for the graph of gradients
                nodes[id(result)] = node(tensors[0])
            elif operation is aten.t.default and node(tensors[0]).target is aten.t.default:
                nodes[id(result)] = node(tensors[0]).args[0]
            else:
                call = graph.call_function(operation, *tree_map_only(Tensor, node, (args, kwargs)))
                quicker[call] = _own_function(operation, args, kwargs)
                parts = enumerate(result if isinstance(result, (list, tuple)) else ())
                nodes[id(result)] = call
                nodes |= {id(part): graph.call_function(operator.getitem, (call, i)) for i, part in parts}
        graph.output(tuple(node(tensor) for tensor in outputs))
        for unused in reversed(graph.nodes):
            if not unused.users and unused.target in PURE:
                graph.erase_node(unused)
        for call, function in quicker.items():
            call.target = function
        run = torch.inference_mode()(torch.fx.GraphModule(torch.nn.Module(), graph).forward)
        kept = tuple(reversed(held))
        # not all that is written to is told by schemas: statistics of batch norm are not, which are small
        changed = tuple(tensor for tensor in held if _storage(tensor) in written or tensor.numel() <= SMALL)
        return lambda *arguments: tuple(out.clone() for out in run(*arguments, *kept)), changed  # clones: to write into

    @staticmethod
    def _follows(operation: Any, tensors: Any, results: Any, constant: set[int], written: set[int]) -> bool:
        """Whether the results are the same in every call."""
        if torch.Tag.nondeterministic_seeded in operation.tags or any(_storage(t) in written for t in results):
            return False
        looks = () if operation is aten.ones_like.default else tensors  # that one looks at shapes alone
        return all(id(t) in constant for t in looks)

    def _written(self) -> set[int]:
        """Return the memory that some operation changes in place."""
        written = set()
        for operation, args, kwargs, _ in self.calls:
            named = {a.name: value for a, value in zip(operation._schema.arguments, args, strict=False)} | kwargs
            for argument in operation._schema.arguments:
                if argument.alias_info is not None and argument.alias_info.is_write:
                    written |= {_storage(t) for t in _tensors(named.get(argument.name))}
        return written


class _First(_Operations):
    """Keeps the first operation and does not do it: nothing is written, nothing drawn."""

    seen: tuple[Any, list[Any]] | None = None

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen = (operation, tree_leaves((args, kwargs or {})))
        raise _Stopped


class _Stopped(Exception):
    """The first operation has been seen."""


def _own_function(operation: Any, args: Any, kwargs: Any) -> Any:
    """Return PyTorch's own function that does an operation on these arguments, or the operation if there is none.

    That saves a fifth of a small network's step: benchmarks/toy.py.
    """
    name = operation._schema.name.removeprefix("aten::")
    function = getattr(torch, name, getattr(Tensor, name, None))
    if not isinstance(function, (BuiltinFunctionType, MethodDescriptorType)):  # functions in Python are slow
        return operation
    first = _First()
    with suppress(_Stopped, TypeError, RuntimeError), torch.no_grad(), first:  # it may not take these arguments
        function(*args, **kwargs)
    if first.seen is None or first.seen[0] is not operation:
        return operation
    pairs = zip_longest(first.seen[1], tree_leaves((args, kwargs)))
    alike = all(a is b or (type(a) is type(b) is not Tensor and a == b) for a, b in pairs)
    return function if alike else operation


def _called_at() -> str:
    """Return the innermost place in code that is neither PyTorch's nor this package's, as text, if there is one."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(PACKAGES):
        frame = frame.f_back
    return "" if frame is None else f" in {frame.f_code.co_filename}, line {frame.f_lineno}"


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
