"""The door: arrays of labelled sources and a target come in, are checked once, and leave as `Domains`."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

UNKNOWN = -1
MOST_CHANNELS = 16  # of images whose last axis may be theirs
LARGEST = 1e18  # of a feature: squares of more, summed over rows, leave single precision
SPOILED = 0.01  # of a column's deviation, that rounding to single precision may take
UNIT = 50  # times as large and as varied: seconds in one domain and minutes in the other
LOOKED_AT = 1_000_000  # numbers, for that
FILLED = 20  # cells of a column that are not 0, for that: a rare word's few tell nothing
NOTHING = 1e-12  # of a column's size: deviations of constants that were computed


class Batch(NamedTuple):
    """One training batch: blocks of rows, the sources' first and the target's last."""

    x: Tensor  # (n, *input), as stored: uint8 images are not yet floats
    y: Tensor  # (n,) int64 class codes, -1 = unknown, or float32 continuous labels, NaN = unknown
    domain: Tensor  # (n,) int64, 0 … S-1 = sources, S = target
    index: Tensor  # type: ignore[assignment]  # (n,) int64 row number inside its own domain
    n_source: int  # rows [:n_source] are source
    target_labelled: bool = True  # False: no target label is known in the whole training
    variant: Tensor | None = None  # (n - n_source, *input) strongly varied target rows, for methods that compare views
    sizes: tuple[int, ...] = ()  # rows of each domain; empty where all source rows are of one


class UnitWarning(UserWarning):
    """A column looks as if one domain had it in another unit; what trains on the same rows again does not repeat it."""


@dataclass(frozen=True)
class Domain:
    """Rows of one domain.

    Parameters
    ----------
    name : str
    x : ndarray (n, *input), float32 or uint8
    y : ndarray (n,)
        int64 class codes 0 … K-1, -1 = unknown, or continuous labels, NaN = unknown.
    weight : ndarray (n,) float64, optional
        ≥ 0, in proportion to which training draws the rows; None draws all alike.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None = None

    @property
    def labelled(self) -> bool:
        """Whether some label is known."""
        return bool((~np.isnan(self.y) if self.y.dtype.kind == "f" else self.y >= 0).any())


@dataclass(frozen=True)
class Domains:
    """Labelled sources and a target, checked and coded.

    Parameters
    ----------
    sources : tuple of Domain
    target : Domain
    classes : ndarray (K,)
        The users' labels; code k stands for ``classes[k]``. Empty where labels are continuous.
    columns : list of str or None
        Names of the features, where the users' data had them.
    """

    sources: tuple[Domain, ...]
    target: Domain
    classes: np.ndarray
    columns: list[str] | None = None

    @property
    def all(self) -> tuple[Domain, ...]:
        """Every domain in the order of its number, target last."""
        return (*self.sources, self.target)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input row."""
        return self.target.x.shape[1:]

    @classmethod
    def from_arrays(
        cls,
        X: Any,
        y: Any,
        X_target: Any = None,
        y_target: Any = None,
        sample_domain: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        continuous: bool = False,
    ) -> "Domains":
        """Check arrays or data frames and code their labels.

        Parameters
        ----------
        X : array-like or data frame (n, features), or images (n, H, W), (n, C, H, W) or (n, H, W, C)
        y : array-like (n,)
            Labels of any kind; those of target rows in ``X`` are ignored.
        X_target : like ``X``, optional
        y_target : array-like, optional
            Target labels that training may use; -1 (unless it is a class of the source), None or NaN mark unknown ones.
        sample_domain : array-like of int (n,), optional
            The domain of every row of ``X``: different numbers ≥ 0 are different sources, negative ones are the target.
        sample_weight : array-like (n,), optional
            How often training draws each row of ``X`` in proportion to the others of its domain, ≥ 0.
        class_weight : "balanced" or dict, optional
            Factors on the weights of source rows by label; "balanced" gives all classes of a source the same mass.
        continuous : bool
            Labels are numbers and not classes.

        Raises
        ------
        ValueError
            NaN or infinite features, text, other columns in the target, an empty domain, fewer than two classes, labels
            unseen in the source, negative weights, weights for classes that are not there.
        """
        columns = names_of(X)
        rounding: list[np.ndarray] = []
        x = as_inputs(X, "the source" if sample_domain is None else "X", rounding=rounding)
        if sample_domain is None:
            parts, rest = {"source": np.arange(len(x))}, None
        else:
            parts, rest = split_by_domain(sample_domain, len(x))
        labels = as_numbers(y, len(x), "y", ignore=rest) if continuous else as_labels(y, len(x), "y", ignore=rest)
        weight, weight_target = as_weights(sample_weight, len(x)), None
        if X_target is None:
            if rest is None or not len(rest):
                raise ValueError(
                    "there are no target rows: give X_target, or mark rows of X as target by a negative sample_domain"
                )
            if y_target is not None:
                raise ValueError("y_target belongs to X_target, and X_target is missing")
            x_target = x[rest]
            weight_target = None if weight is None else check_mass(weight[rest], "the target")
        elif rest is not None and len(rest):
            raise ValueError(f"target rows come from two places: X_target and {len(rest)} rows with sample_domain < 0")
        else:
            x_target = as_inputs(arrange(X_target, columns, "the target"), "the target", rounding=rounding)
        match_inputs(x_target, x.shape[1:], x.dtype, "the target")
        if x.ndim == 4 and x.shape[3] <= MOST_CHANNELS and x.shape[3] < min(x.shape[1:3]):
            channels, height, width = x.shape[1:]
            warnings.warn(
                f"rows of shape {x.shape[1:]} are taken for {channels} channels of {height}x{width} pixels; where "
                "channels come last, move them: np.moveaxis(X, -1, 1)",
                stacklevel=5,
            )
        if rounding:
            check_precision(list(zip(("the source", "the target"), (x, x_target), rounding, strict=False)), columns)
            if X_target is not None and (told := other_units(x, x_target, columns)):
                warnings.warn(told, UnitWarning, stacklevel=5)

        in_source = np.concatenate(list(parts.values()))
        classes = np.unique(labels[in_source])
        if len(classes) < 2:
            what = "label" if continuous else "class"
            raise ValueError(f"the source has one {what}, {classes.tolist()[0]!r}: a model needs at least two")
        if continuous:
            classes = classes[:0]
        factors = class_factors(class_weight, classes)
        sources = tuple(
            Domain(
                name,
                x if len(rows) == len(x) else x[rows],  # no needless copy
                labels[rows] if continuous else encode(labels[rows], classes, name),
                source_weights(labels[rows], None if weight is None else weight[rows], factors, name),
            )
            for name, rows in parts.items()
        )
        coded = target_labels(y_target, len(x_target), None if continuous else classes)
        return cls(sources, Domain("target", x_target, coded, weight_target), classes, columns)


def names_of(x: Any) -> list[str] | None:
    """Column names of a data frame; None for arrays.

    Raises
    ------
    ValueError
        Two columns have one name.
    """
    columns = getattr(x, "columns", None)
    if columns is None:
        return None
    names = [str(c) for c in columns]
    if len(set(names)) < len(names):
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise ValueError(f"a data frame has several columns named {twice!r}: rename them, or leave some out")
    return names


def arrange(x: Any, columns: Sequence[str] | None, what: str) -> Any:
    """Put a frame's columns into the order of ``columns``; arrays pass unchanged.

    Raises
    ------
    ValueError
        Columns are missing or unknown.
    """
    names = names_of(x)
    if columns is None or names is None or names == list(columns):
        return x
    missing, extra = [c for c in columns if c not in names], [c for c in names if c not in columns]
    if missing or extra:
        hint = "" if missing else ": name the label column, and drop what is no feature"
        lacks = [f"it lacks {', '.join(missing)}"] * bool(missing) + [f"only it has {', '.join(extra)}"] * bool(extra)
        raise ValueError(f"{what} has other columns than the source: {'; '.join(lacks)}{hint}")
    if hasattr(x, "iloc"):  # pandas: by place, whatever the type of its column names
        return x.iloc[:, [names.index(c) for c in columns]]
    return x[list(columns)]


def as_inputs(x: Any, what: str, *, rounding: list[np.ndarray] | None = None) -> np.ndarray:
    """Turn features into float32 (n, d), or images into float32 or uint8 (n, C, H, W).

    Parameters
    ----------
    rounding : list of ndarray, optional
        Gets what single precision takes off columns or channels (d,), if rows are no bytes; see `check_precision`.

    Raises
    ------
    ValueError
        No rows, text, NaN or infinite values, a shape that is neither a table nor images.
    """
    if hasattr(x, "toarray"):  # a scipy sparse matrix
        x = x.toarray()
    a = np.asarray(unmasked(x))
    if a.ndim == 0:
        raise ValueError(f"{what} is one {type(x).__name__}; expected a table (rows, features) or images")
    if a.dtype.kind in "OUS":
        a = numbers_from(a, names_of(x), what)
    if a.dtype.kind not in "buif":
        raise ValueError(f"{what} holds values of type {a.dtype}; features must be numbers")
    if a.ndim not in (2, 3, 4):
        raise ValueError(
            f"{what} has shape {a.shape}; expected a table (rows, features) or images (rows, [channels,] height, width)"
        )
    if len(a) == 0:
        raise ValueError(f"{what} has no rows")
    if 0 in a.shape:
        raise ValueError(f"{what} has shape {a.shape}: rows without features")
    if a.ndim == 3:
        a = a[:, None]
    elif a.ndim == 4 and a.shape[1] not in (1, 3, 4) and a.shape[3] in (1, 3, 4):
        a = np.moveaxis(a, 3, 1)
    if a.dtype == np.uint8 and a.ndim == 4:
        return contiguous(a, np.uint8)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and that is reported below
        given, a = a, contiguous(a, np.float32)
    if not np.isfinite(a.sum(dtype=np.float64)):
        bad = np.argwhere(~np.isfinite(a))
        row, place = int(bad[0][0]), tuple(int(i) for i in bad[0][1:])
        names = names_of(x)
        where = f"column {names[place[0]]!r}" if names else f"position {place[0] if len(place) == 1 else place}"
        raise ValueError(
            f"{what} has {len(bad)} values that are NaN or infinite (as float32), the first in row {row}, {where}; "
            "impute or drop them"
        )
    if rounding is not None:
        rounding.append(rounded_off(given, a))
    return a


def contiguous(a: np.ndarray, dtype: Any) -> np.ndarray:
    """Return an array as PyTorch takes it: NumPy calls flipped ones of length 1 contiguous, with a negative stride."""
    made = np.ascontiguousarray(a, dtype=dtype)
    return made.copy() if min(made.strides, default=0) < 0 else made


def rounded_off(given: np.ndarray, single: np.ndarray) -> np.ndarray:
    """Return the deviation of what single precision takes off each column or channel (d,), from some of the rows."""
    if given.dtype.itemsize < 4 or given.dtype == np.float32:
        return np.zeros(given.shape[1])
    return (some_rows(single) - some_rows(given)).std(0)


def some_rows(x: np.ndarray) -> np.ndarray:
    """Return some rows of a table (n, d), or of the pixels of some images (n · pixels, channels), as float64."""
    some = x[:: -(-x.size // LOOKED_AT)].astype(np.float64)
    return some if x.ndim == 2 else np.moveaxis(some, 1, -1).reshape(-1, x.shape[1])


def check_precision(sides: Sequence[tuple[str, np.ndarray, np.ndarray]], names: list[str] | None) -> None:
    """Raise ValueError where a column, or a channel of images, is too large, or varies too little for its size.

    Parameters
    ----------
    sides : sequence of (name, rows float32 (n, d, …), what rounding took off (d,))
    """
    kind = "column" if sides[0][1].ndim == 2 else "channel"
    call = lambda k: f"{kind} {repr(names[k]) if names else k}"  # noqa: E731
    for what, x, _ in sides:
        axes = (0, *range(2, x.ndim))
        most = np.maximum(x.max(axes), -x.min(axes))
        if most.max() > LARGEST:
            k = int(most.argmax())
            raise ValueError(
                f"{what} has {most[k]:.6g} in {call(k)}: too large to be squared in single precision; if it "
                "stands for a missing value, impute or drop it, else take another unit"
            )
    lost = np.max([off for _, _, off in sides], axis=0)
    if not lost.any():
        return
    some = [some_rows(x) for _, x, _ in sides]
    centre = np.mean([x.mean(0) for x in some], axis=0)
    spread = np.sqrt(np.mean([np.square(x - centre).mean(0) for x in some], axis=0))  # as inputs are standardised
    if (bad := (lost > SPOILED * spread) & (lost > NOTHING * np.abs(centre))).any():
        k = int(bad.argmax())
        raise ValueError(
            f"{call(k)} has values around {centre[k]:.6g}, whose differences single precision loses: subtract a "
            f"constant, or leave the {kind} out"
        )


def other_units(x: np.ndarray, x_target: np.ndarray, names: list[str] | None) -> str:
    """Return a question about columns or channels that look as if one domain had them in another unit, or ""."""
    with np.errstate(divide="ignore", invalid="ignore"):
        some = [some_rows(x), some_rows(x_target)]
        spread = some[1].std(0) / some[0].std(0)
        size = np.abs(some[1]).mean(0) / np.abs(some[0]).mean(0)
    larger, smaller = (spread > UNIT) & (size > UNIT), (spread > 0) & (spread < 1 / UNIT) & (size < 1 / UNIT)
    filled = np.all([np.count_nonzero(rows, axis=0) >= min(FILLED, len(rows) / 2) for rows in some], axis=0)
    odd = np.isfinite(spread) & (larger | smaller) & filled
    if not odd.any():
        return ""
    shown = [repr(names[k]) if names else str(k) for k in np.flatnonzero(odd)[:3]]
    more = f" and {odd.sum() - 3} more" if odd.sum() > 3 else ""
    times = f"about 1e{np.log10(spread[odd][0]):+.0f} times"
    kind = "column" if x.ndim == 2 else "channel"
    return (
        f"{kind} {', '.join(shown)}{more}: values vary {times} as much in the target as in the source, and are as much "
        "larger or smaller: is that another unit?"
    )


def numbers_from(a: np.ndarray, names: list[str] | None, what: str) -> np.ndarray:
    """Turn an array of objects or text into float64, or name the first value that is no number."""
    try:
        if not any(isinstance(value, str) and "_" in value for value in a.flat):
            return a.astype(np.float64)
    except (TypeError, ValueError):
        pass
    for place, value in np.ndenumerate(a.astype(object)):
        try:
            if isinstance(value, str) and "_" in value:  # 10_2 is a name, which Python takes for 102
                raise ValueError
            float(value)
        except (TypeError, ValueError):
            column = repr(names[place[1]]) if names and len(place) > 1 else place[1:]
            if is_missing(value):
                raise ValueError(
                    f"{what} has a missing value in row {place[0]}, column {column}; impute or drop it"
                ) from None
            raise ValueError(
                f"{what} has {value!r} where a number belongs (row {place[0]}, column {column}); "
                "encode text as numbers or drop the column"
            ) from None
    raise ValueError(f"{what} holds values of type {a.dtype}; features must be numbers")


def match_inputs(x: np.ndarray, shape: tuple[int, ...], dtype: Any, what: str) -> None:
    """Raise ValueError unless rows have the shape, and images the kind of pixel, that the source has."""
    if x.shape[1:] != tuple(shape):
        raise ValueError(
            f"{what} has rows of shape {x.shape[1:]}, the source has rows of shape {tuple(shape)}: "
            "both need the same columns (or the same image size and channels)"
        )
    if x.dtype != dtype and x.ndim > 2:
        kinds = ["bytes (uint8)" if kind == np.uint8 else "numbers of another kind" for kind in (x.dtype, dtype)]
        raise ValueError(f"{what} has {kinds[0]} for pixels, the source has {kinds[1]}: give both as uint8, or neither")


def untensored(values: Any) -> Any:
    """Return a tensor as an array, whatever its type, place and graph; other things as they are."""
    if not hasattr(values, "detach"):
        return values
    values = values.detach().cpu()
    return (values.float() if values.is_floating_point() and values.itemsize == 2 else values).numpy()  # no bfloat16


def unmasked(values: Any) -> Any:
    """Return a masked array with None for what is masked, and others as they are: NumPy drops masks without a word.

    Tensors become arrays.
    """
    values = untensored(values)
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        plain = np.array(values.data, dtype=object)
        plain[np.ma.getmaskarray(values)] = None
        return plain
    return values


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT or pandas' NA."""
    same = value == value  # NaN and NaT are not; NA does not say
    return value is None or not isinstance(same, (bool, np.bool_)) or not same


def as_labels(y: Any, n: int, what: str, ignore: np.ndarray | None = None) -> np.ndarray:
    """Turn labels into a 1-d array without missing values.

    Parameters
    ----------
    ignore : ndarray of int, optional
        Rows whose labels do not count: each gets the label of some other row.

    Raises
    ------
    ValueError
        Not one label a row, or missing labels.
    """
    a = np.asarray(unmasked(y))
    if a.ndim == 2 and a.shape[1] == 1:
        a = a[:, 0]
    if a.shape != (n,):
        raise ValueError(f"{what} has shape {a.shape}; expected one label for each of the {n} rows")
    if ignore is not None and len(ignore):
        a = a.copy()
        a[ignore] = a[np.setdiff1d(np.arange(n), ignore)[0]]
    if a.dtype.kind in "OT":  # T: NumPy's text of any length
        missing = np.array([is_missing(v) for v in a], dtype=bool)
        text = np.array([isinstance(v, str) for v in a], dtype=bool)
        if text.any() and not (text | missing).all():
            some = a[text.argmax()], a[(text | missing).argmin()]
            raise ValueError(f"{what} mixes text and other labels, such as {some[0]!r} and {some[1]!r}: make all text")
        if not missing.any():
            a = np.array(a.tolist())
    else:
        missing = np.isnan(a) if a.dtype.kind == "f" else np.zeros(n, dtype=bool)
    if missing.any():
        raise ValueError(f"{what} has {int(missing.sum())} missing labels, the first in row {int(missing.argmax())}")
    if a.dtype.kind not in "biufU":
        kind = type(a.tolist()[0]).__name__
        raise ValueError(f"{what} holds labels of type {kind}, such as {a.tolist()[0]!r}: make text or numbers of them")
    if a.dtype.kind == "f" and not np.all(a == np.round(a)):
        example = a[a != np.round(a)][0]
        raise ValueError(f"{what} is continuous (for example {example}); labels must be classes; see DomainRegressor")
    return a


def as_numbers(y: Any, n: int, what: str, ignore: np.ndarray | None = None) -> np.ndarray:
    """Turn continuous labels into float64 (n,).

    Parameters
    ----------
    ignore : ndarray of int, optional
        Rows whose labels do not count.

    Raises
    ------
    ValueError
        Not one finite number a row.
    """
    a = np.asarray(unmasked(y))
    if a.ndim == 2 and a.shape[1] == 1:
        a = a[:, 0]
    if a.shape != (n,):
        raise ValueError(f"{what} has shape {a.shape}; expected one label for each of the {n} rows")
    kept = np.setdiff1d(np.arange(n), [] if ignore is None else ignore)
    values = np.zeros(n)
    try:
        values[kept] = a[kept].astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{what} holds labels that are no numbers, such as {first_text(a[kept])!r}") from None
    if bad := kept[~np.isfinite(values[kept])].tolist():
        raise ValueError(f"{what} has {len(bad)} labels that are missing or infinite, the first in row {bad[0]}")
    return values


def first_text(values: np.ndarray) -> Any:
    """Return the first value that is no number."""
    for value in values.tolist():
        try:
            float(value)
        except (TypeError, ValueError):
            return value
    return values[0]


def target_labels(
    y: Any, n: int, classes: np.ndarray | None, others: bool = False, what: str = "y_target"
) -> np.ndarray:
    """Code the labels of n target rows, most of them unknown: as numbers where ``classes`` is None.

    Parameters
    ----------
    others : bool
        Whether labels may be of classes that the source lacks, where some are not: their code is the number of classes,
        which no model predicts, and a warning names them.
    what : str
        What the caller knows them by.

    Raises
    ------
    ValueError
        Another number of labels than rows; labels that the source does not have.
    """
    coded = np.full(n, np.nan) if classes is None else np.full(n, UNKNOWN, dtype=np.int64)
    if y is None:
        return coded
    given = np.asarray(unmasked(y), dtype=object)
    if given.shape not in ((n,), (n, 1)):
        raise ValueError(f"{what} has shape {given.shape}; expected one label for each of the {n} target rows")
    given = given.ravel()
    known = np.array([not (is_missing(v) if classes is None else is_unknown(v, classes)) for v in given], dtype=bool)
    if known.any():
        values = np.array(given[known].tolist())
        if classes is None:
            coded = np.where(known, as_numbers(y, n, what, ignore=np.flatnonzero(~known)), np.nan)
        else:
            new = ~np.isin(values, classes) if others else np.zeros(len(values), dtype=bool)
            if new.any() and not new.all():
                names = ", ".join(map(repr, np.unique(values[new])[:5].tolist()))
                warnings.warn(
                    f"{new.sum()} of {len(new)} labelled target rows are of classes that the source lacks ({names}): "
                    "no model is right about them, and they count as wrong",
                    stacklevel=3,
                )
                coded[known] = len(classes)
                known[known] = ~new
                values = values[~new]
            coded[known] = encode(values, classes, "the target")
    return coded


def as_weights(weights: Any, n: int, what: str = "sample_weight") -> np.ndarray | None:
    """Turn weights into float64 (n,); None stays None.

    Raises
    ------
    ValueError
        Not n finite numbers ≥ 0.
    """
    if weights is None:
        return None
    a = np.asarray(weights)
    if a.shape != (n,) or a.dtype.kind not in "buif":
        raise ValueError(f"{what} must be {n} numbers; got shape {a.shape}, type {a.dtype}")
    bad = ~(np.isfinite(a) & (a >= 0))
    if bad.any():
        raise ValueError(f"{what} must be finite and 0 or more; number {int(bad.argmax())} is {a[bad.argmax()]}")
    return a.astype(np.float64)


def check_mass(weight: np.ndarray, what: str) -> np.ndarray:
    """Return weights, or raise ValueError where they leave nothing of a domain."""
    if not weight.sum() > 0:
        raise ValueError(f"all {len(weight)} rows of {what} have the weight 0: there is nothing to train on")
    return weight


def class_factors(by_class: Any, classes: np.ndarray) -> dict[Any, float] | str | None:
    """Check the weights of classes: None, "balanced", or a dict from label to weight.

    Raises
    ------
    ValueError
        Anything else; a label that no source has; a weight that is negative or no number.
    """
    if by_class is None or (isinstance(by_class, str) and by_class == "balanced"):
        return by_class
    if not isinstance(by_class, dict):
        raise ValueError(f"class_weight={by_class!r} must be 'balanced' or a dict from class label to weight")
    if unseen := [label for label in by_class if label not in classes.tolist()]:
        raise ValueError(f"class_weight names {unseen[0]!r}, and the classes are {classes[:10].tolist()}")
    as_weights(list(by_class.values()), len(by_class), "class_weight")
    return by_class


def source_weights(
    labels: np.ndarray, weight: np.ndarray | None, by_class: dict[Any, float] | str | None, what: str
) -> np.ndarray | None:
    """Return the weights of a source's rows, None where all are drawn alike.

    Raises
    ------
    ValueError
        The weights leave nothing of the source.
    """
    if by_class is None:
        return None if weight is None else check_mass(weight, what)
    weight = np.ones(len(labels)) if weight is None else weight
    present, code = np.unique(labels, return_inverse=True)
    if isinstance(by_class, dict):
        factors = np.array([by_class.get(label, 1.0) for label in present.tolist()], dtype=np.float64)
    else:
        mass = np.bincount(code, weights=weight)
        factors = np.divide(1.0, mass, out=np.zeros_like(mass), where=mass > 0)
    return check_mass(weight * factors[code], what)


def encode(labels: np.ndarray, classes: np.ndarray, what: str) -> np.ndarray:
    """Turn labels into codes 0 … K-1.

    Raises
    ------
    ValueError
        A label is none of ``classes``.
    """
    unseen = sorted(set(np.unique(labels).tolist()) - set(classes.tolist()), key=str)
    if unseen:
        raise ValueError(
            f"{what} has labels that the source does not have: {unseen[:5]}; known are {classes[:10].tolist()}; mark "
            "rows of other classes as not known, by an empty cell, None or NaN: figures are of the known classes then"
        )
    return np.searchsorted(classes, labels).astype(np.int64)


def is_unknown(value: Any, classes: np.ndarray) -> bool:
    """Whether a target label marks 'not known': None, NaN, or -1 where -1 is no class; as text "-1" or "" too."""
    if is_missing(value):
        return True
    if isinstance(value, str):
        return value in ("", str(UNKNOWN)) and value not in classes.tolist()
    return isinstance(value, (int, float, np.number)) and value == UNKNOWN and UNKNOWN not in classes.tolist()


def split_by_domain(sample_domain: Any, n: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Split row numbers by domain: ``({"source 0": rows, …}, rows of the target)``."""
    ids = np.asarray(sample_domain)
    if ids.shape != (n,) or ids.dtype.kind not in "iu":
        raise ValueError(f"sample_domain must be {n} whole numbers, one a row; got shape {ids.shape}, type {ids.dtype}")
    parts = {f"source {k}": np.flatnonzero(ids == k) for k in np.unique(ids[ids >= 0])}
    if not parts:
        raise ValueError("there are no source rows: sample_domain is negative in every row")
    return parts, np.flatnonzero(ids < 0)
