"""What a model does on held-out rows, as arrays: all that a judgement without target labels may look at."""

import warnings
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from .domains import untensored

NEAR, MOST = 5, 20  # rows that a row is joined to: in general, and where clusters would fall into pieces
SIDE = 32  # pixels of an image, at most, by which its neighbours are found
COLOURS = 4  # channels of an image, at most, that are of one unit
SMALL = 0.1  # of the mean size of a cluster: parts that are smaller are none
CROWD = 2000  # rows of the target whose clusters are looked for, at most


class NotFinite(ValueError):
    """Evidence of a model that has diverged."""


def array_of(values: Any, name: str) -> np.ndarray:
    """Return arrays as they are, and tensors and sequences of numbers as arrays."""
    values = untensored(values)
    if isinstance(values, (list, tuple)) and any(hasattr(part, "detach") for part in values):
        values = [array_of(part, name) for part in values]
    try:
        made = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} is no array: {error}") from error
    if made.dtype.kind not in "biuf":
        raise ValueError(f"{name} is an array of {made.dtype}; expected numbers")
    return made


@dataclass(frozen=True)
class Evidence:
    """Features and logits of held-out rows of both domains, and the source's labels. It has no place for target labels.

    Tensors are welcome.

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
    target_neighbors : ndarray (m, k) int, optional
        Of every target row, the target rows that lie nearest in the space of the inputs; see `nearest`.
    source_clusters : ndarray (n,) int, optional
        Of every source row, the cluster of the source's inputs that it is in; see `clusters`.
    crowd_clusters : ndarray (c,) int, optional
        The same of target rows, those of the training among them: more rows, and no labels to have learned by heart.
    crowd_classes : ndarray (c,) int, optional
        Most probable classes of the crowd's rows.
    source_crowd_clusters, source_crowd_y : ndarray (k,) int, optional
        Clusters of more source rows, those of the training among them, and their class codes.

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
    target_neighbors: np.ndarray | None = None
    source_clusters: np.ndarray | None = None
    crowd_clusters: np.ndarray | None = None
    crowd_classes: np.ndarray | None = None
    source_crowd_clusters: np.ndarray | None = None
    source_crowd_y: np.ndarray | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if (given := getattr(self, field.name)) is not None:
                object.__setattr__(self, field.name, array_of(given, field.name))
        if self.source_logits.ndim != 2 or self.source_features.ndim != 2:
            shapes = self.source_features.shape, self.source_logits.shape
            raise ValueError(f"source_features and source_logits have shapes {shapes}; expected (n, dim), (n, classes)")
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
        if (near := self.target_neighbors) is not None:
            expected["target_neighbors"] = (m, near.shape[-1])
            whole_numbers("target_neighbors", near, m, "row numbers")
        if self.source_clusters is not None:
            expected["source_clusters"] = (n,)
        if (self.crowd_clusters is None) != (self.crowd_classes is None):
            raise ValueError("crowd_clusters and crowd_classes are of the same rows: give both, or none")
        if self.crowd_clusters is not None and self.crowd_classes is not None:
            expected["crowd_classes"] = self.crowd_clusters.shape
            whole_numbers("crowd_classes", self.crowd_classes, classes, "class codes")
        if (self.source_crowd_clusters is None) != (self.source_crowd_y is None):
            raise ValueError("source_crowd_clusters and source_crowd_y are of the same rows: give both, or none")
        if self.source_crowd_clusters is not None and self.source_crowd_y is not None:
            expected["source_crowd_y"] = self.source_crowd_clusters.shape
            whole_numbers("source_crowd_y", self.source_crowd_y, classes, "class codes")
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}; expected {shape}")
        if not n or not m:
            raise ValueError(f"there are {n} source rows and {m} target rows: both need at least one")
        for field in fields(self):
            values = getattr(self, field.name)
            if values is not None and not np.isfinite(values).all():
                raise NotFinite(f"{field.name} holds NaN or infinite values: the model has diverged")
        if self.source_y.dtype.kind not in "iu":
            raise ValueError(
                f"source_y is {self.source_y.dtype}; expected class codes 0 … {classes - 1} as whole numbers"
            )
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


class Structure(NamedTuple):
    """What the inputs alone say of the rows to look at: the same for every model."""

    target_neighbors: np.ndarray | None  # (m, k); None for one row alone
    source_clusters: np.ndarray | None  # (n,); None without source rows
    crowd: Any  # target rows, as models take them
    crowd_clusters: np.ndarray  # (c,)
    source_crowd_clusters: np.ndarray | None = None  # (k,)
    source_crowd_y: np.ndarray | None = None  # (k,) class codes


def whole_numbers(name: str, values: np.ndarray, count: int, what: str) -> None:
    """Raise ValueError unless the values are integers from 0 to count - 1."""
    if values.dtype.kind not in "iu" or (values.size and not 0 <= values.min() <= values.max() < count):
        raise ValueError(f"{name} are no {what} from 0 to {count - 1}")


def mixtures(n: int, seed: int = 0) -> np.ndarray:
    """Return, for every one of n rows, the row that it is mixed with: a permutation, int (n,)."""
    return np.random.default_rng(seed).permutation(n)


def flattened(x: np.ndarray) -> np.ndarray:
    """Return inputs as rows of numbers whose distances mean something, float64 (n, d).

    Columns of tables, channels of series (n, channels, length) and bands of images that have more than four are scaled
    to a standard deviation of 1: they may be of different units. Images of more than 32 pixels a side are averaged over
    patches, series of more than 32 steps over windows.
    """
    if x.ndim == 3 or (x.ndim == 4 and x.shape[1] > COLOURS):
        axes = (0, *range(2, x.ndim))
        deviation = x.std(axes, dtype=np.float64, keepdims=True)
        x = (x - x.mean(axes, dtype=np.float64, keepdims=True)) / np.where(deviation > 0, deviation, 1.0)
    if x.ndim == 3 and x.shape[2] > SIDE:
        wide = -(-x.shape[2] // SIDE)  # of a window
        length = x.shape[2] // wide
        x = x[..., : length * wide].reshape(*x.shape[:2], length, wide).mean(3)
    if x.ndim == 4 and max(x.shape[2:]) > SIDE:
        high, wide = (-(-side // SIDE) for side in x.shape[2:])  # of a patch
        height, width = x.shape[2] // high, x.shape[3] // wide
        inner = x[:, :, : height * high, : width * wide]
        x = inner.reshape(*x.shape[:2], height, high, width, wide).mean((3, 5), dtype=np.float32)
    rows = x.reshape(len(x), -1).astype(np.float64)
    if x.ndim == 2:
        deviation = rows.std(0)
        rows = (rows - rows.mean(0)) / np.where(deviation > 0, deviation, 1.0)
    return rows


def nearest(x: np.ndarray, k: int = NEAR) -> np.ndarray:
    """Return for every row the numbers of the k rows that lie nearest to it, int (n, k): Euclidean, without itself.

    Parameters
    ----------
    x : ndarray (n, ...)
        Inputs; see `flattened`.

    Raises
    ------
    ValueError
        Fewer than two rows.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(x) < 2:
        raise ValueError(f"neighbours need two rows; there are {len(x)}")
    rows = flattened(x)
    return NearestNeighbors(n_neighbors=min(k, len(x) - 1)).fit(rows).kneighbors(return_distance=False)


def clusters(x: np.ndarray, count: int) -> np.ndarray:
    """Return the cluster of every row, int (n,): spectral clustering of the graph that joins rows that lie near.

    Clusters follow chains of near rows, of whatever shape, where k-means cuts them. Rows, equal ones taken as one, are
    joined to their five nearest, or to more where the graph would fall into more large parts than there are clusters.
    Small parts, such as outliers, get no cluster of their own: they go with the large part that lies nearest.

    Parameters
    ----------
    x : ndarray (n, ...)
        Inputs; see `nearest`.
    count : int
        Of clusters; with too few rows for that many, every row is one of its own.

    References
    ----------
    von Luxburg, A Tutorial on Spectral Clustering, Statistics and Computing 17, 2007.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from sklearn.cluster import SpectralClustering

    _, first, same = np.unique(x.reshape(len(x), -1), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # as they come, not as they sort
    x, same = x[first[order]], np.argsort(order)[same.ravel()]
    n = len(x)
    if n <= count + 1:
        return same
    near = nearest(x, MOST)
    for k in range(min(NEAR, n - 1), near.shape[1] + 1):
        rows = np.repeat(np.arange(n, dtype=np.int32), k)  # scikit-learn takes no longer indices
        joined = coo_array((np.ones(n * k), (rows, near[:, :k].ravel().astype(np.int32))), (n, n)).tocsr()
        part = connected_components(joined, directed=False)[1]
        large = (np.bincount(part) >= SMALL * n / count)[part]
        if len(np.unique(part[large])) <= count:
            break
    if large.sum() <= count + 1:
        large[:] = True
    graph = (joined + joined.T)[large][:, large]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Graph is not fully connected")  # nor are clusters that lie apart
        found = SpectralClustering(count, affinity="precomputed", random_state=0).fit(graph)
    return found.labels_.astype(np.int64)[to_large(x, large)][same]


def to_large(x: np.ndarray, large: np.ndarray) -> np.ndarray:
    """Return for every row its number among those that are large, or that of the nearest of them, int (n,)."""
    from sklearn.neighbors import NearestNeighbors

    numbers = np.cumsum(large) - 1
    if not large.all():
        rows = flattened(x)
        nearest_large = NearestNeighbors(n_neighbors=1).fit(rows[large])
        numbers[~large] = nearest_large.kneighbors(rows[~large], return_distance=False)[:, 0]
    return numbers


def structure_of(
    x: np.ndarray | None,
    x_target: np.ndarray,
    x_crowd: np.ndarray,
    crowd: Any,
    classes: int,
    series: bool = False,
    source_crowd: tuple[np.ndarray, np.ndarray] | None = None,
) -> Structure:
    """Return neighbours and clusters of held-out rows of both domains and of a crowd of target rows.

    Parameters
    ----------
    x, x_target, x_crowd : ndarray (rows, ...)
        Inputs as numbers, of the source None where there are none. Some thousand rows are enough: time grows with their
        square.
    crowd : array or data frame
        The rows of ``x_crowd`` as models take them.
    classes : int
    series : bool
        Rows (1, channels, length) are series.
    source_crowd : (ndarray (rows, ...), ndarray (rows,)), optional
        More source rows, those of the training among them, and their class codes.
    """
    if series:
        x, x_target, x_crowd = None if x is None else x[:, 0], x_target[:, 0], x_crowd[:, 0]
    of_source = None if x is None else clusters(x, classes)
    near = nearest(x_target) if len(x_target) > 1 else None
    more: tuple[np.ndarray, ...] = ()
    if source_crowd is not None:
        rows = source_crowd[0][:, 0] if series else source_crowd[0]
        more = clusters(rows, classes), source_crowd[1]
    return Structure(near, of_source, crowd, clusters(x_crowd, classes), *more)


def crowd_of(n: int) -> np.ndarray:
    """Return the numbers of the rows of n, 2,000 at most, whose clusters are looked for."""
    return np.sort(np.random.default_rng(0).permutation(n)[:CROWD])
