"""MNIST: handwritten digits, read from their IDX files."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from .fetch import fetch, open_packed
from .task import Labelled

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
SHA256 = {
    "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
MAX_BYTES = 2**30  # MNIST's largest file declares 47 MB, EMNIST's 548 MB


def load_mnist() -> tuple[Labelled, Labelled]:
    """Return the training and the test digits, downloading them (11 MB) where they are missing.

    Returns
    -------
    train, test : Labelled
        Images uint8 (60000, 28, 28) and (10000, 28, 28) from 0 (paper) to 255 (ink), labels 0 … 9.

    Raises
    ------
    DatasetNotFound
        When a file is missing and cannot be downloaded.
    ValueError
        When a file is damaged, or images and labels do not fit together.
    """
    return load_part("train"), load_part("t10k")


def load_part(part: str) -> Labelled:
    """Return one part of MNIST, ``"train"`` or ``"t10k"``."""
    x, y = (read_idx(locate(f"{part}-{kind}-ubyte")) for kind in ("images-idx3", "labels-idx1"))
    if x.shape[1:] != (28, 28) or y.shape != x.shape[:1] or y.max(initial=0) > 9:
        raise ValueError(
            f"the {part} files of MNIST do not fit together: images {x.shape}, labels {y.shape} up to "
            f"{y.max(initial=0)}, expected (n, 28, 28) and (n,) up to 9; remove them and get them again"
        )
    return Labelled(x, y.astype(np.int64))


def locate(name: str) -> Path:
    """Return the place of one of the four files, compressed or not."""
    return fetch(
        f"mnist/{name}.gz",
        [f"{mirror}{name}.gz" for mirror in MIRRORS],
        SHA256[name],
        others=[f"mnist/{name}", f"MNIST/raw/{name}.gz", f"MNIST/raw/{name}", f"{name}.gz", name],
    )


def read_idx(path: str | Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes, gzip-compressed or not.

    The size that the header declares is checked before anything is read, and no more than that is unpacked.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    ndarray of uint8
        In the shape that the header declares.

    Raises
    ------
    ValueError
        When the file is not of this kind, declares more than 1 GiB, or is shorter or longer than it declares.
    """
    with open_packed(path) as file:
        try:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
                raise ValueError(
                    f"{path} is not an IDX file of unsigned bytes: it starts with {magic.hex(' ')}, "
                    f"expected 00 00 08 and the number of dimensions"
                )
            sizes = file.read(4 * magic[3])
            if len(sizes) < 4 * magic[3]:
                raise ValueError(f"{path} is cut off inside its header; get it again")
            shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
            declared = math.prod(shape)
            if declared > MAX_BYTES:
                raise ValueError(f"{path} declares {shape} = {declared} bytes, more than the {MAX_BYTES} that are read")
            content = file.read(declared + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is damaged ({error}); get it again") from error
    if len(content) != declared:
        length = "more than that" if len(content) > declared else f"only {len(content)}"
        raise ValueError(f"{path} declares {declared} bytes but holds {length}; get it again")
    return np.frombuffer(bytearray(content), np.uint8).reshape(shape)
