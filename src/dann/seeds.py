"""Random numbers of a training: seeded apart from the user's, kept with its checkpoints."""

import os
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

SEEDED = threading.RLock()  # threads train one after the other: random numbers are the whole process's


def renew_lock() -> None:
    """Forget, in a process that was forked, that a thread of the other one is training."""
    global SEEDED
    SEEDED = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=renew_lock)


def random_state(device: torch.device) -> list[Any]:
    """Return the states of the generators that a training draws from: PyTorch's on the processor, Python's, NumPy's.

    That of the device comes last, where it has its own.
    """
    numpy = listed(np.random.get_state(legacy=False))  # noqa: NPY002 - what methods of the user's own may draw from
    own = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), random.getstate(), numpy, *own]


def listed(state: Any) -> Any:
    """Return the state of a generator of NumPy's with lists in place of arrays, which PyTorch's files do not take."""
    if isinstance(state, dict):
        return {name: listed(part) for name, part in state.items()}
    return state.tolist() if isinstance(state, (np.ndarray, np.generic)) else state


def restore_random_state(device: torch.device, states: Sequence[Any]) -> None:
    """Set the generators that a training on a device draws from."""
    own, python, numpy, *of_device = states
    torch.set_rng_state(own)
    random.setstate((python[0], tuple(python[1]), python[2]))
    np.random.set_state(numpy)  # noqa: NPY002
    for state in of_device:
        torch.cuda.set_rng_state(state, device)


@contextmanager
def others_given_back() -> Iterator[None]:
    """Give the states of Python's and NumPy's generators back behind the block."""
    python, numpy = random.getstate(), np.random.get_state(legacy=False)  # noqa: NPY002
    kind = np.random.mtrand.get_bit_generator()
    np.random.mtrand.set_bit_generator(np.random.MT19937())  # the user's may be of a kind that takes no seed
    try:
        yield
    finally:
        random.setstate(python)
        np.random.mtrand.set_bit_generator(kind)
        np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def isolated_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch on the processor and on a device, Python and NumPy inside the block, and give their states back.

    One thread at a time: the others wait.
    """
    with SEEDED, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), others_given_back():
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
