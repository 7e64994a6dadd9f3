"""Random numbers of a training: seeded apart from the user's, kept with its checkpoints."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

SEEDED = threading.RLock()  # threads train one after the other: random numbers are the whole process's


def renew_lock() -> None:
    """Forget, in a process that was forked, that a thread of the other one is training."""
    global SEEDED
    SEEDED = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=renew_lock)


def random_state(device: torch.device) -> list[Tensor]:
    """Return the states of the generators that a training on a device draws from: the processor's, and its own."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def restore_random_state(device: torch.device, states: Sequence[Tensor]) -> None:
    """Set the generators that a training on a device draws from."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


@contextmanager
def isolated_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed PyTorch on the processor and on a device inside the block, and give the random states back behind it.

    One thread at a time: the others wait.
    """
    with SEEDED, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
