"""Keep built arrays in one file, so that they are built once."""

import uuid
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from . import fetch

Arrays = dict[str, np.ndarray]


def cached(name: str, key: str, build: Callable[[], Arrays]) -> Arrays:
    """Return the arrays stored under a key, building and storing them where they are missing or damaged.

    Parameters
    ----------
    name : str
        What is stored: the start of the file's name.
    key : str
        A digest of everything that the arrays depend on.
    build : callable
        Makes the arrays.

    Returns
    -------
    dict of ndarray
        As ``build()`` returns them; object arrays are neither stored nor read.

    Warns
    -----
    UserWarning
        When they cannot be stored: no folder can be written, or the disk is full.
    """
    places = [home / "cache" / f"{name}-{key[:32]}.npz" for home in fetch.homes()]
    for place in places:
        try:
            with open(place, "rb") as file, NpzFile(file, allow_pickle=False) as stored:
                return {field: stored[field] for field in stored.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
            continue  # a damaged file is as good as none: it is replaced below
    arrays = build()
    folder = next((place.parent for place in places if fetch.can_write(place.parent)), None)
    try:
        if folder is None:
            raise PermissionError(f"none of {', '.join(str(place.parent) for place in places)} can be written")
        store(folder / places[0].name, arrays)
    except OSError as error:
        warnings.warn(f"{name} could not be stored and will be built again next time: {error}", stacklevel=2)
    return arrays


def store(place: Path, arrays: Arrays) -> None:
    """Write arrays under a temporary name, then give the file its name, so that no reader sees half of it."""
    temporary = place.with_name(f"{place.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True)
