"""The loops' end of turns.Worker, and the data that all of them train on. Needs NumPy alone."""

import json
import os
import resource
import sys
import time
from importlib.metadata import distributions

import numpy as np

ROWS, TOTAL, HALF = 20_000, 8_600, 64  # rows a domain, steps of the training, rows of a domain in a batch
EPOCHS = -(-TOTAL * HALF // ROWS)
LR, MOMENTUM, WEIGHT_DECAY, STRENGTH = 0.01, 0.9, 1e-3, 0.5
SHOWN = ("dann", "pytorch-adapt", "skada", "adapt", "kornia", "torch", "tensorflow-cpu", "keras", "numpy")


def images(seed):
    """Return random images, uint8 (n, 3, 28, 28), and labels: the cost of a step does not depend on what they show."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (ROWS, 3, 28, 28), dtype=np.uint8), rng.integers(0, 10, ROWS)


def floats(seed):
    """Return the images as most loops keep them: float32, mean subtracted."""
    x, y = images(seed)
    return (x.astype(np.float32) - x.mean((0, 2, 3), keepdims=True, dtype=np.float32)) / 255, y


def wait_for_gpu():
    """Wait until the work of this process on a GPU is done, if PyTorch has given it any."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


class Gate:
    """Called after every step: lets as many through as the other end asked for, reports their cost, and waits."""

    def __init__(self):
        self.pipe = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what a library prints is no report
        self.left = 0

    def __call__(self, *_, **__):
        """Count a step."""
        self.left -= 1
        if self.left > 0:
            return
        if self.left < 0:
            self._send(_versions())
        else:
            wait_for_gpu()
            self._send({"cpu": time.process_time() - self.cpu, "wall": time.perf_counter() - self.wall})
        self.left = int(sys.stdin.readline() or 0)
        if not self.left:
            self._send({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})
            os._exit(0)
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def _send(self, values):
        self.pipe.write(json.dumps(values) + "\n")
        self.pipe.flush()


def _versions():
    found = {distribution.metadata["Name"].lower(): distribution.version for distribution in distributions()}
    return {name: found[name] for name in SHOWN if name in found}
