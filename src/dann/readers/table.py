"""Tables and arrays on disk: .csv, .npy and .npz files become rows, column names and labels."""

import csv
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = (".csv", ".npy", ".npz")
MAX_BYTES = 32 * 2**30  # of what a file decodes to: a small one may declare any size
DEFAULT_LABELS = ("label", "y")
DEFAULT_FEATURES = ("X", "x")
WHOLE = re.compile(r"-?(0|[1-9]\d{0,17})")  # 007 is a name, and so is what no 64 bits hold
NUMBER = re.compile(WHOLE.pattern + r"(\.\d+)?")
SHOWN = 10  # columns that an error names
MISSING = ("NA", "N/A", "<NA>", "NaN", "nan", "NULL", "null")  # what R, pandas and databases write for no value


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of one file. Where a data frame is taken, this is too.

    Parameters
    ----------
    x : ndarray (n, features) or images
        As stored; cells of a CSV file are text until they are checked.
    y : ndarray (n,) or None
        Labels, where the file has them; None, NaN or an empty text mark missing ones.
    columns : list of str or None
        Names of the features.
    beside : dict of str to ndarray (n,)
        Columns that are no features, by name.
    lines : list of int or None
        Where the rows end in a .csv file, the header's line being 1.
    """

    x: np.ndarray = field(repr=False)
    y: np.ndarray | None = field(default=None, repr=False)
    columns: list[str] | None = None
    beside: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    lines: list[int] | None = field(default=None, repr=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.x, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, key: Any) -> "Table":
        """Choose rows by an index or mask array, or columns by a list of names."""
        if isinstance(key, list):
            places = [(self.columns or []).index(name) for name in key]
            return Table(self.x[:, places], self.y, key, self.beside)
        beside = {name: values[key] for name, values in self.beside.items()}
        return Table(self.x[key], None if self.y is None else self.y[key], self.columns, beside)

    @property
    def labelled(self) -> np.ndarray:
        """Which rows have a label, bool (n,)."""
        if self.y is None:
            return np.zeros(len(self), dtype=bool)
        return np.array([v is not None and v == v and v != "" for v in self.y.tolist()], dtype=bool)


def read_table(
    path: str | os.PathLike[str],
    label: str | None = None,
    *,
    needs_label: bool = False,
    features: Sequence[str] | None = None,
    classes: np.ndarray | None = None,
    width: int | None = None,
    drop: Sequence[str] = (),
    known_alone: bool = False,
) -> Table:
    """Read features, and labels where there are some.

    Parameters
    ----------
    path : path
        ``.csv`` with a header line, whose first column is left out where it has no name, as pandas writes row numbers;
        ``.npz`` with the features under ``X`` and the labels beside them; ``.npy`` with a structured array, or with a
        plain one, whose label column is given by its number.
    label : str, optional
        Name of the label column or array. Default: "label" or "y", whichever there is. In .csv files an empty label is
        a missing one, and so are NA, N/A, NaN and NULL.
    needs_label : bool
        Whether a file without labels, or with rows that have none, is an error.
    features : sequence of str, optional
        Columns of the source or of a model: "label" and "y" are no labels where they are among them.
    classes : ndarray, optional
        Labels of the source or classes of a model: where they are text, labels stay text, "01" or "1" too.
    width : int, optional
        Number of the source's or the model's features: a plain array of as many columns has no label.
    drop : sequence of str
        Columns that are no features, where the file has them; the table keeps them ``beside``.
    known_alone : bool
        Whether other columns than ``features`` are dropped too, if the file has all of these.

    Raises
    ------
    FileNotFoundError
    ValueError
        Another kind of file, a damaged one, no such label, ragged lines, or pickled objects.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder, and a file is read: {', '.join(SUFFIXES)}; docs/data.md shows how to turn a folder "
            "of images into an .npz file"
        )
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} is none of the kinds that can be read: {', '.join(SUFFIXES)}")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if label in drop:
        raise ValueError(f"{label!r} cannot be the label and be dropped: name it once")
    defaults = [name for name in DEFAULT_LABELS if name not in (*(features or ()), *drop)]
    known = features if known_alone else None
    if path.suffix.lower() == ".npy":
        table = read_npy(path, label, defaults, drop, width, known)
    elif path.suffix.lower() == ".csv":
        table = read_csv(path, label, defaults, drop, known)
    else:
        table = read_npz(path, label, defaults)
    if table.y is not None:
        table = replace(table, y=natural(table.y, classes))
    if needs_label and table.y is None:
        names = "" if table.columns is None else f"; its columns: {', '.join(table.columns[:20])}"
        wanted = repr(label) if label else " or ".join(map(repr, DEFAULT_LABELS))
        raise ValueError(f"{path} has no labels: looked for {wanted}; name the label column{names}")
    if needs_label and not table.labelled.all():
        row = int(table.labelled.argmin())
        place = f"line {table.lines[row]}" if table.lines else f"row {row}"
        raise ValueError(
            f"{path} has no label in {(~table.labelled).sum()} of {len(table)} rows, the first in {place} (empty cells "
            f"and {', '.join(MISSING)} are none): fill them in, give the class another name, or leave the rows out"
        )
    return table


def read_csv(
    path: Path, label: str | None, defaults: Sequence[str], drop: Sequence[str], known: Sequence[str] | None = None
) -> Table:
    """Read a table with a header line."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            reader = csv.reader(file)
            lines = [(reader.line_num, line) for line in reader if line]
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no UTF-8 text ({error}): save it as UTF-8") from error
        except csv.Error as error:
            raise ValueError(f"{path} is no readable CSV file: {error}") from error
    if not lines:
        raise ValueError(f"{path} is empty; expected a header line with the names of the columns")
    header = [name.strip() for name in lines[0][1]]
    if len(header) == 1 and (other := next((mark for mark in (";", "\t") if mark in header[0]), None)):
        name = "tabs" if other == "\t" else f"{other!r}"
        raise ValueError(f"{path} has {name} between its cells; write it with commas, and decimal points")
    if odd := [name for name in header if not name.isprintable()]:
        raise ValueError(f"{path} has a column whose name holds control characters, {odd[0]!r}: rename it")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise ValueError(f"{path} has two columns named {twice!r}")
    for number, line in lines[1:]:
        if len(line) != len(header):
            raise ValueError(f"{path}, line {number}: {len(line)} cells where the header has {len(header)}")
    cells = np.array([line for _, line in lines[1:]], dtype=object).reshape(-1, len(header))
    if not header[0]:
        header, cells = header[1:], cells[:, 1:]
    if "" in header:
        raise ValueError(f"{path} has a column without a name behind {header[header.index('') - 1]!r}; name it")
    table = with_label(path, header, cells, label, defaults, drop, known)
    return replace(table, lines=[number for number, _ in lines[1:]])


def with_label(
    path: Path,
    names: Sequence[str],
    columns: np.ndarray,
    label: str | None,
    defaults: Sequence[str],
    drop: Sequence[str],
    known: Sequence[str] | None = None,
) -> Table:
    """Take the label column, and what is no feature, out of named columns (n, k).

    Where ``known`` are given and all there, others are no features.
    """
    chosen = [label] if label else [name for name in defaults if name in names][:1]
    y = None
    if chosen and chosen[0] in names:
        y = columns[:, names.index(chosen[0])]
    if known is not None and {*known} <= {*names}:
        drop = [*drop, *(name for name in names if name not in (*known, *chosen, *drop))]
    features = [i for i, name in enumerate(names) if name not in (*chosen, *drop)]
    if not features:
        raise ValueError(f"{path} has no feature columns" + (f" beside the label {chosen[0]!r}" if chosen else ""))
    x = columns[:, features]
    if x.dtype == object:
        missing = ["", *MISSING]  # reported as such, with a space in front too
        x = np.where(np.isin(x, [*missing, *(f" {mark}" for mark in missing)]), "nan", x)
    beside = {name: decoded(columns[:, names.index(name)]) for name in drop if name in names}
    return Table(x, y, [names[i] for i in features], beside)


def check_cells(tables: Mapping[str, Table]) -> None:
    """Raise ValueError where features of some files, by name, are text or missing, and name all such columns."""
    found = []
    for name, table in tables.items():
        if table.columns is None or table.x.dtype != object or all_numbers(table.x):
            continue
        places = [f"line {n}" for n in table.lines] if table.lines else [f"row {i}" for i in range(len(table))]
        text, missing = [], []
        for column, cells in zip(table.columns, table.x.T, strict=True):
            values = [number_of(cell) for cell in cells]
            if None in values:
                text.append(f"{column} ({cells[values.index(None)]!r}, {places[values.index(None)]})")
            if empty := [place for place, value in zip(places, values, strict=True) if value != value]:
                missing.append(f"{column} ({len(empty)}, first in {empty[0]})")
        for what, columns in (("text", text), ("missing values", missing)):
            if columns:
                more = f" and {len(columns) - SHOWN} more" if len(columns) > SHOWN else ""
                found.append(f"{name} has {what} in {', '.join(columns[:SHOWN])}{more}")
    if found:
        raise ValueError(
            f"{'; '.join(found)}. Features are numbers: encode text, impute what is missing (docs/data.md shows how), "
            "or drop columns"
        )


def in_numbers(table: Table) -> Table:
    """Return a table whose cells have been checked with numbers in place of text, which every use would parse anew."""
    text = table.columns is not None and table.x.dtype == object
    return replace(table, x=table.x.astype(np.float64)) if text else table


def all_numbers(cells: np.ndarray) -> bool:
    """Whether no cell is text or missing."""
    try:
        return not (any(map(underscored, cells.flat)) or np.isnan(cells.astype(np.float64)).any())
    except (TypeError, ValueError):
        return False


def number_of(cell: Any) -> float | None:
    """Return a cell as a number, None where it is text."""
    try:
        return None if underscored(cell) else float(cell)
    except (TypeError, ValueError):
        return None


def underscored(cell: Any) -> bool:
    """Whether a cell is a name such as 10_2, which Python takes for the number 102."""
    return isinstance(cell, str) and "_" in cell


def natural(values: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """Turn labels from text into numbers, where all of them are; missing ones become None.

    Where the classes that they are of are text, labels stay or become text, and -1, unless a class, is missing too.
    """
    as_text = classes is not None and np.asarray(classes).dtype.kind in "US"
    if values.dtype != object and not as_text:
        return decoded(values) if values.dtype.kind == "S" else values
    none = {"", *MISSING, *(("-1",) if as_text and "-1" not in np.asarray(classes) else ())}
    texts = ["" if v != v else str(v).strip() for v in decoded(values).tolist()]
    known = [text for text in texts if text not in none]
    kind = int if all(map(WHOLE.fullmatch, known)) else float if all(map(NUMBER.fullmatch, known)) else str
    kind = str if as_text else kind
    y = [None if text in none else kind(text) for text in texts]
    return np.array(y, dtype=object if len(known) < len(y) else None)


def decoded(values: np.ndarray) -> np.ndarray:
    """Return values with bytes as text; an array of bytes alone becomes one of text.

    Raises
    ------
    ValueError
        Bytes that are no UTF-8.
    """
    try:
        found = [v.decode() if isinstance(v, bytes) else v for v in values.tolist()]
    except UnicodeDecodeError as error:
        raise ValueError(f"text is no UTF-8: {error}; store it as text") from error
    return np.array(found, dtype=None if values.dtype.kind == "S" else object)


def read_npy(
    path: Path,
    label: str | None,
    defaults: Sequence[str],
    drop: Sequence[str] = (),
    unlabelled: int | None = None,
    known: Sequence[str] | None = None,
) -> Table:
    """Read a structured array, or a plain one: its label column has a number; ``unlabelled`` columns are features."""
    array = load_array(path, path)
    if array.dtype.names:
        names = list(array.dtype.names)
        if any(array.dtype[name].shape or array.dtype[name].kind not in "biufUS" for name in names):
            raise ValueError(f"{path} has fields that are no plain numbers or text: {array.dtype}")
        if array.ndim != 1:
            raise ValueError(f"{path} has shape {array.shape}; expected one record for each row")
        cells = np.array([list(row) for row in array.tolist()], dtype=object).reshape(-1, len(names))
        return with_label(path, names, cells, label, defaults, drop, known)
    if label is None or (array.ndim == 2 and array.shape[1] == unlabelled):
        return Table(array)
    try:
        column = int(label)
        y = array[:, column]
    except (ValueError, IndexError):
        raise ValueError(
            f"{path} holds a plain array of shape {array.shape}: its columns have no names; give the label column "
            f"by its number (got {label!r}), or use .npz or .csv"
        ) from None
    if y.dtype.kind == "f" and np.isfinite(y).all() and np.array_equal(y, np.round(y)):
        y = y.astype(np.int64)
    return Table(np.delete(array, column, axis=1), y)


def read_npz(path: Path, label: str | None, defaults: Sequence[str]) -> Table:
    """Read the arrays ``X`` and, under ``label``, the labels."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            names = [name.removesuffix(".npy") for name in sizes]
            if sum(sizes.values()) > MAX_BYTES:
                raise ValueError(f"{path} would unpack to {sum(sizes.values())} bytes, more than {MAX_BYTES}")
            chosen = [label] if label else [name for name in defaults if name in names][:1]
            y_name = chosen[0] if chosen and chosen[0] in names else None
            features = [name for name in DEFAULT_FEATURES if name in names] or [n for n in names if n != y_name]
            if len(features) != 1:
                raise ValueError(f"{path} needs its features in an array named X; it has: {', '.join(names) or 'none'}")
            arrays = {}
            for name in (features[0], y_name):
                if name is not None:
                    with archive.open(f"{name}.npy") as member:
                        arrays[name] = load_array(member, path, name)
    except ValueError:
        raise
    except Exception as error:  # of zip files, of four ways to pack, of encryption
        raise ValueError(f"{path} is no readable .npz file: {error}") from error
    x, y = arrays[features[0]], None if y_name is None else arrays[y_name]
    if y is not None and x.shape[:1] != y.shape[:1]:
        raise ValueError(f"{path}: {y_name} has shape {y.shape}; expected one label for each row of {x.shape}")
    return Table(x, y)


def load_array(file: Any, path: Path, name: str = "") -> np.ndarray:
    """Read one array without unpickling anything."""
    what = f"{path} ({name})" if name else str(path)
    try:
        array = np.load(file, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive")
        parts = [array.dtype, *(array.dtype[name] for name in array.dtype.names or ())]
        if min(part.itemsize for part in parts) == 0 or 0 in array.shape[1:]:
            raise ValueError(
                f"its values have no size ({array.dtype}, shape {array.shape})"
            )  # any number takes no bytes
    except Exception as error:  # a damaged header is read as code of Python's, which fails in many ways
        pickled = "Object arrays" in str(error)
        hint = "; save text as np.asarray(values, dtype='U'): pickled objects could run code" if pickled else ""
        raise ValueError(f"{what} is no readable array: {error}{hint}") from error
    return array
