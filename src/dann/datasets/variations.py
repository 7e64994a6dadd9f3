"""Tasks made of others: the way back, no shift at all, images and tables that were changed."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .task import Labelled, Task

Change = Callable[[np.ndarray], np.ndarray]


def reversed_task(task: Task) -> Task:
    """Return the task from the target back to the source."""
    return replace(
        task,
        name=f"{task.name}-back",
        source=task.target,
        target=task.source,
        source_test=task.target_test,
        target_test=task.source_test,
        description=f"the way back of: {task.description}",
    )


def changed(data: Labelled, name: str, change: Change, seed: int = 0) -> Task:
    """Return a task from one half of some rows to the other half, changed; its test rows are those of the training.

    Parameters
    ----------
    data : Labelled
    name : str
    change : callable
        Rows → rows, of the target.
    seed : int, not negative
        Of the halves.
    """
    source, target = np.array_split(np.random.default_rng([seed, 2]).permutation(len(data.y)), 2)
    before, after = Labelled(data.x[source], data.y[source]), Labelled(change(data.x[target]), data.y[target])
    return Task(name, before, after, before, after, "other rows, changed")


def coarse(block: int) -> Change:
    """Return a change of images that gives every block of pixels its mean: a lower resolution."""

    def change(x: np.ndarray) -> np.ndarray:
        *rest, height, width = x.shape
        if height % block or width % block:
            raise ValueError(f"images of {height}x{width} pixels do not fall into blocks of {block}")
        blocks = x.reshape(*rest, height // block, block, width // block, block).mean((-3, -1))
        return blocks.round().astype(x.dtype).repeat(block, -2).repeat(block, -1)

    return change


def strokes(size: int) -> Change:
    """Return a change of bright strokes on dark images: thicker for sizes above 1, thinner below -1."""
    from scipy.ndimage import maximum_filter, minimum_filter

    def change(x: np.ndarray) -> np.ndarray:
        window = (*(1,) * (x.ndim - 2), abs(size), abs(size))
        return (maximum_filter if size > 0 else minimum_filter)(x, size=window)

    return change


def noisy(deviation: float, seed: int = 0) -> Change:
    """Return a change of images that adds Gaussian noise of a standard deviation in grey levels, 0 … 255."""

    def change(x: np.ndarray) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(0, deviation, x.shape)
        return (x + noise).round().clip(0, 255).astype(x.dtype)

    return change


def turned(degrees: float) -> Change:
    """Return a change of images that turns them counter-clockwise, filling with 0."""
    from scipy.ndimage import rotate

    return lambda x: rotate(x, degrees, axes=(-1, -2), reshape=False, order=1)


def drift(strength: float, seed: int = 0) -> Change:
    """Return a change of tables as of worn sensors: every column gets a gain and an offset of its own.

    Parameters
    ----------
    strength : float, not negative
        Standard deviation of the offsets, in standard deviations of the column, and of the gains' logarithms.
    """

    def change(x: np.ndarray) -> np.ndarray:
        random = np.random.default_rng(seed)
        gain, offset = np.exp(strength * random.normal(size=x.shape[1])), strength * random.normal(size=x.shape[1])
        mean, deviation = x.mean(0), x.std(0)
        return (mean + (x - mean) * gain + offset * deviation).astype(x.dtype)

    return change
