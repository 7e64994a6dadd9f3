"""How a training uses the processor: its threads, its memory, and the precision of its arithmetic."""

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache, partial

import torch

WORK_OF_A_THREAD = 1e8  # multiply-adds between two waits; below, threads gain little and collapse on a busy machine
PRECISIONS = ("auto", "fp32", "bf16")
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's names for mallopt
LARGEST, USUAL = 2**31 - 1, 32 * 2**20
_keepers = 0
_counting, _inside, _before = threading.Lock(), 0, torch.float32
_users, _threads, _own = 0, 1, threading.local()


def forget_others() -> None:
    """Give back, in a process that was forked, what other threads of the first one had set: they are not here."""
    global _counting, _inside, _keepers, _users
    if _inside:
        torch.set_default_dtype(_before)
    if _users:
        torch.set_num_threads(_threads)
    if _keepers:
        _keep(USUAL, 2 * USUAL)
    _counting, _inside, _keepers, _users = threading.Lock(), 0, 0, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_others)


def device_of(name: str) -> torch.device:
    """Return a device by its name; "auto" takes a GPU where there is one.

    Raises
    ------
    ValueError
        There is no such device, or PyTorch cannot use it here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"the device {name!r} cannot be used: {str(error).splitlines()[0]}") from error


@contextmanager
def usual_modes() -> Iterator[None]:
    """Compute inside the block as PyTorch does by itself: single precision, gradients, no autocast of the user's."""
    global _inside, _before
    with _counting:
        if not _inside:  # the default is the whole process's: the first thread sets it, the last one gives it back
            _before = torch.get_default_dtype()
            torch.set_default_dtype(torch.float32)
        _inside += 1
    try:
        with ExitStack() as stack:
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            yield
    finally:
        with _counting:
            _inside = max(_inside - 1, 0)  # a process that was forked in between counts anew
            if not _inside:
                torch.set_default_dtype(_before)


@contextmanager
def tuned(work: float) -> Iterator[None]:
    """Compute inside the block as suits calls of ``work`` multiply-adds each."""
    with ExitStack() as stack:
        for context in (threads_for(work), flushed_denormals(), kept_memory()):
            stack.enter_context(context)
        yield


@cache
def cpu_count() -> int:
    """Return how many processors this process may use: its share of a container too, in whole numbers."""
    import joblib

    return joblib.cpu_count()


@contextmanager
def threads_for(work: float) -> Iterator[None]:
    """Let PyTorch use as many of its threads inside the block as ``work`` multiply-adds keep busy, at least one.

    No more than the processors that this process may use, which PyTorch does not know of a container with a quota. The
    number depends on nothing else but ``work`` and the threads that PyTorch had, so that results repeat. Blocks in
    several threads of the program may overlap: a thread starts with the number that another one has set, so the first
    of them keeps the number for all.
    """
    global _users, _threads
    inside = getattr(_own, "inside", False)
    with _counting:
        if not _users:
            _threads = torch.get_num_threads()
        _users += 1
        before = torch.get_num_threads() if inside else _threads
    _own.inside = True
    torch.set_num_threads(max(1, min(before, cpu_count(), round(work / WORK_OF_A_THREAD))))
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _own.inside = inside
        with _counting:
            _users = max(_users - 1, 0)


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


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep memory that is freed inside the block for what is allocated next, where the C library is glibc.

    It would give large tensors back to the system as they are freed, and a step would fetch them anew, page by page:
    a fifth of the time of the paper's network (benchmarks/step.py). Behind the block the memory goes back, and glibc
    keeps as much as it does by itself once a program has freed something large.
    """
    global _keepers
    with _counting:
        _keepers += 1  # a training between the steps of another one leaves the memory to it
        _keep(LARGEST, LARGEST)
    try:
        yield
    finally:
        with _counting:
            _keepers = max(_keepers - 1, 0)
            if not _keepers:
                _keep(USUAL, 2 * USUAL)


def _keep(mapped: int, trimmed: int) -> None:
    """Set the sizes from which glibc maps memory of its own, and returns what is free at the end of its heap."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is not None and hasattr(library, "malloc_trim"):
        library.mallopt(MMAP_THRESHOLD, mapped)
        library.mallopt(TRIM_THRESHOLD, trimmed)
        if trimmed < LARGEST:
            library.malloc_trim(0)


def rows_at_once(work: float, device: torch.device) -> int:
    """Return how many rows, of ``work`` multiply-adds each, to predict in one pass.

    Few enough for the caches, which is faster by a third than 512 images at once for the paper's network
    (benchmarks/predict.py), and for the memory; enough to keep the threads busy, or the GPU.
    """
    at_once = 1e11 if device.type == "cuda" else 2.5 * WORK_OF_A_THREAD * torch.get_num_threads()
    return int(min(max(at_once / max(work, 1), 1), 4096))


def precision_for(wanted: str, device: torch.device, work: float) -> torch.dtype:
    """Return the type that convolutions and matrix products compute in.

    Parameters
    ----------
    wanted : {"auto", "fp32", "bf16"}
        "auto" is bfloat16 where the device is fast in it, see `has_bf16_units`, and a step has the work of a thread;
        single precision elsewhere.
    device : torch.device
    work : float
        Multiply-adds of a step.
    """
    if wanted not in PRECISIONS:
        raise ValueError(f"unknown precision {wanted!r}; choose one of: {', '.join(PRECISIONS)}")
    gains = wanted == "auto" and work >= WORK_OF_A_THREAD and has_bf16_units(device)
    return torch.bfloat16 if wanted == "bf16" or gains else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> Callable[[], AbstractContextManager[None]]:
    """Return what makes the contexts that compute in a precision; nothing for single precision, which costs a call."""
    return nullcontext if precision == torch.float32 else partial(cast, device.type, precision)


@contextmanager
def cast(device: str, precision: torch.dtype) -> Iterator[None]:
    """Compute inside the block in a precision, and forget the copies of weights behind it.

    PyTorch forgets them where its outermost block ends, which may be the user's around a whole training.
    """
    with torch.autocast(device, precision):
        try:
            yield
        finally:
            torch.clear_autocast_cache()


def has_bf16_units(device: torch.device) -> bool:
    """Whether a device multiplies matrices in bfloat16 faster than in single precision.

    Processors with AMX do, and AMD's with AVX-512's bfloat16 instructions, in half of the time; Intel's without AMX
    take longer for it, the same instructions or not (benchmarks/ceiling.py on both).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    has: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older PyTorch cannot tell
    return bool(has.get("amx_bf16") or (has.get("avx512_bf16") and "AMD" in str(has.get("cpu_name"))))
