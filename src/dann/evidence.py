"""What a model does on held-out rows, as arrays: all that a judgement without target labels may look at."""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from scipy.special import softmax


class NotFinite(ValueError):
    """Evidence of a model that has diverged."""


@dataclass(frozen=True)
class Evidence:
    """Features and logits of held-out rows of both domains, and the source's labels. It has no place for target labels.

    Parameters
    ----------
    source_features : ndarray (n, dim)
    source_logits : ndarray (n, classes)
    source_y : ndarray (n,) int
        Class codes 0 … classes - 1.
    target_features : ndarray (m, dim)
    target_logits : ndarray (m, classes)
    mixed_logits : ndarray (m, classes), optional
        Of every target row mixed with another one; see `mixtures`.
    other_target_logits : ndarray (models, m, classes), optional
        Of the same target rows, by other trainings with the same settings.
    source_neighbors : ndarray (n, k) int, optional
        Of every source row, the source rows that lie nearest in the space of the inputs; see `nearest`.
    target_neighbors : ndarray (m, k) int, optional
        The same among the target's rows.

    Raises
    ------
    ValueError
        Shapes that do not fit, no rows, numbers that are NaN or infinite, labels out of range.
    """

    source_features: np.ndarray
    source_logits: np.ndarray
    source_y: np.ndarray
    target_features: np.ndarray
    target_logits: np.ndarray
    mixed_logits: np.ndarray | None = None
    other_target_logits: np.ndarray | None = None
    source_neighbors: np.ndarray | None = None
    target_neighbors: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, classes = self.source_logits.shape
        m, dim = len(self.target_logits), self.source_features.shape[1]
        expected: dict[str, tuple[int, ...]] = {
            "source_features": (n, dim),
            "source_y": (n,),
            "target_features": (m, dim),
            "target_logits": (m, classes),
        }
        if self.mixed_logits is not None:
            expected["mixed_logits"] = (m, classes)
        if self.other_target_logits is not None:
            expected["other_target_logits"] = (len(self.other_target_logits), m, classes)
        for name, rows in (("source_neighbors", n), ("target_neighbors", m)):
            if (neighbors := getattr(self, name)) is not None:
                expected[name] = (rows, neighbors.shape[-1])
                if neighbors.dtype.kind not in "iu" or neighbors.min() < 0 or neighbors.max() >= rows:
                    raise ValueError(f"{name} are no row numbers from 0 to {rows - 1}")
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}; expected {shape}")
        if not n or not m:
            raise ValueError(f"there are {n} source rows and {m} target rows: both need at least one")
        for field in fields(self):
            values = getattr(self, field.name)
            if values is not None and not np.isfinite(values).all():
                raise NotFinite(f"{field.name} holds NaN or infinite values: the model has diverged")
        if self.source_y.min() < 0 or self.source_y.max() >= classes:
            low, high = self.source_y.min(), self.source_y.max()
            raise ValueError(f"source_y has labels from {low} to {high}: not 0 … {classes - 1}")

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self.source_logits.shape[1]

    @cached_property
    def source_probabilities(self) -> np.ndarray:
        """Class probabilities of the source rows, float64 (n, classes)."""
        return softmax(self.source_logits.astype(np.float64), axis=1)

    @cached_property
    def target_probabilities(self) -> np.ndarray:
        """Class probabilities of the target rows, float64 (m, classes)."""
        return softmax(self.target_logits.astype(np.float64), axis=1)

    @property
    def target_predicted(self) -> np.ndarray:
        """Most probable class of every target row, int (m,)."""
        return self.target_logits.argmax(1)

    @property
    def source_right(self) -> np.ndarray:
        """Whether the prediction of every source row is its label, bool (n,)."""
        return self.source_logits.argmax(1) == self.source_y


def mixtures(n: int, seed: int = 0) -> np.ndarray:
    """Return, for every one of n rows, the row that it is mixed with: a permutation, int (n,)."""
    return np.random.default_rng(seed).permutation(n)


def nearest(x: np.ndarray, k: int = 5) -> np.ndarray:
    """Return for every row the numbers of the k rows that lie nearest to it, int (n, k): Euclidean, without itself.

    Parameters
    ----------
    x : ndarray (n, ...)
        Inputs. The columns of tables are scaled to a standard deviation of 1; images stay as they are.

    Raises
    ------
    ValueError
        Fewer than two rows.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(x) < 2:
        raise ValueError(f"neighbours need two rows; there are {len(x)}")
    table, x = x.ndim == 2, x.reshape(len(x), -1).astype(np.float64)
    if table:
        deviation = x.std(0)
        x = (x - x.mean(0)) / np.where(deviation > 0, deviation, 1.0)
    return NearestNeighbors(n_neighbors=min(k, len(x) - 1)).fit(x).kneighbors(return_distance=False)
