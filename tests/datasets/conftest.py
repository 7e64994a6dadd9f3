"""Folders of their own, no network, and small stand-ins for the real files."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

import dann.datasets.fetch as fetch_module

REAL = os.environ.get("DANN_DATA")
MNIST = [f"mnist/{part}-ubyte.gz" for part in ("train-images-idx3", "train-labels-idx1")] + [
    f"mnist/{part}-ubyte.gz" for part in ("t10k-images-idx3", "t10k-labels-idx1")
]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty data folder; the user's cache is another, and nothing can be downloaded."""
    import pooch

    def offline(self, url, output_file, pooch, check_only=False):
        raise ConnectionError("no network in tests")

    monkeypatch.setenv("DANN_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(fetch_module, "user_cache", lambda: tmp_path / "user-cache")
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", offline)
    return tmp_path / "data"


@pytest.fixture
def real(home):
    """Return a function that links files of the real data into the data folder, or skips where they are missing."""

    def need(*names: str) -> Path:
        missing = [name for name in names if REAL is None or not (Path(REAL) / name).is_file()]
        if missing:
            pytest.skip(f"{', '.join(missing)} not found: set DANN_DATA to the folder of the datasets")
        for name in names:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).symlink_to(Path(str(REAL), name).resolve())
        return home

    return need


@pytest.fixture
def real_mnist(real):
    """The data folder with the real MNIST in it."""
    return real(*MNIST)


@pytest.fixture
def write_idx():
    """Return a function that writes unsigned bytes as an IDX file."""

    def write(path: Path, array: np.ndarray, compress: bool = True) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
        path.write_bytes(gzip.compress(content) if compress else content)
        return path

    return write


@pytest.fixture
def small_mnist(home, write_idx):
    """240 training and 40 test digits in MNIST's four files: a bright square at a place of the label's."""
    for part, n in (("train", 240), ("t10k", 40)):
        y = np.random.default_rng(n).permutation(np.arange(n) % 10).astype(np.uint8)
        x = np.zeros((n, 28, 28), np.uint8)
        for row, label in enumerate(y):
            x[row, 2 * label : 2 * label + 6, 4:24] = 100 + label
        write_idx(home / "mnist" / f"{part}-images-idx3-ubyte.gz", x)
        write_idx(home / "mnist" / f"{part}-labels-idx1-ubyte.gz", y)
    return home


@pytest.fixture
def save_photo():
    """Return a function that writes a photo without loss."""
    from PIL import Image

    def save(path: Path, photo: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo).save(path)
        return path

    return save


@pytest.fixture
def photo_folder(tmp_path, save_photo):
    """Ten photos, each of one colour: (10 k, 20 k, 255 - k)."""
    for k in range(10):
        photo = np.broadcast_to(np.array([10 * k, 20 * k, 255 - k], np.uint8), (40, 50, 3))
        save_photo(tmp_path / "photos" / f"{k}.png", np.ascontiguousarray(photo))
    return tmp_path / "photos"
