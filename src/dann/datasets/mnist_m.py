"""MNIST-M: MNIST digits blended with crops of colour photos."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from . import photos as photo_files
from .cache import cached
from .mnist import load_mnist
from .task import Labelled, Task

FORMAT = 1  # part of the cache key: raise it when the same inputs shall give other images
PARTS = ("train", "validation", "test")
PHOTO_SHARES = {"validation": 0.1, "test": 0.2}  # the rest is for train


def blend(digits: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """Return the absolute difference of digit and patch per pixel and channel, in unsigned bytes."""
    return np.maximum(digits, patches) - np.minimum(digits, patches)


def build(
    digits: np.ndarray, photos: Sequence[np.ndarray], seed: int | Sequence[int] = 0, *, binarise: bool = True
) -> np.ndarray:
    """Blend every digit with its own random crop of a random photo.

    Parameters
    ----------
    digits : ndarray of uint8 (n, h, w)
    photos : sequence of ndarray of uint8 (H, W, 3)
        Each at least as large as a digit.
    seed : int or sequence of int, not negative
        Decides the photo and the crop of every digit: same seed and inputs, same bytes.
    binarise : bool
        Take every pixel with any ink as 255, as the usual generators do. Otherwise the grey values are used.

    Returns
    -------
    ndarray of uint8 (n, 3, h, w)

    Raises
    ------
    ValueError
        When there are no photos, or one is smaller than a digit or of another kind.

    References
    ----------
    Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 17(59), 2016, Section 5.2.4.
    """
    n, height, width = digits.shape
    if not photos:
        raise ValueError("photos is empty: MNIST-M needs at least one photo to cut backgrounds from")
    for number, photo in enumerate(photos):
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
            raise ValueError(f"photo {number} is {photo.dtype} {photo.shape}, expected uint8 (height, width, 3)")
        if photo.shape[0] < height or photo.shape[1] < width:
            raise ValueError(
                f"photo {number} has {photo.shape[0]}×{photo.shape[1]} pixels, smaller than the {height}×{width} "
                f"digits: leave it out"
            )
    random = np.random.default_rng(seed)
    chosen = random.integers(len(photos), size=n)
    sizes = np.array([photo.shape[:2] for photo in photos])[chosen]
    top = random.integers(sizes[:, 0] - height + 1)
    left = random.integers(sizes[:, 1] - width + 1)

    ink = np.where(digits > 0, np.uint8(255), np.uint8(0)) if binarise else digits
    images = np.empty((n, 3, height, width), np.uint8)
    for number, photo in enumerate(photos):
        rows = np.flatnonzero(chosen == number)
        planes = np.ascontiguousarray(photo.transpose(2, 0, 1))  # crops are copied in half the time from planes
        windows = np.lib.stride_tricks.sliding_window_view(planes, (height, width), axis=(1, 2))
        crops = windows.transpose(1, 2, 0, 3, 4)[top[rows], left[rows]]
        images[rows] = blend(ink[rows, None], crops)
    return images


def divide_photos(n: int, seed: int, split: Literal["photos", "shared"]) -> dict[str, np.ndarray]:
    """Say which photos each part takes its backgrounds from.

    Parameters
    ----------
    n : int
        Number of photos.
    seed : int, not negative
    split : {"photos", "shared"}
        ``"photos"``: 70 % of the photos for train, 10 % for validation and 20 % for test, at random, none in common.
        ``"shared"``: all photos for every part, as the usual generators do.

    Returns
    -------
    dict of ndarray of int
        Photo numbers of ``"train"``, ``"validation"`` and ``"test"``.

    Raises
    ------
    ValueError
        On an unknown split, or when there are too few photos to divide.
    """
    if split == "shared":
        return dict.fromkeys(PARTS, np.arange(n))
    if split != "photos":
        raise ValueError(f"split={split!r} is unknown: use 'photos' or 'shared'")
    if n < 3:
        raise ValueError(f"{n} photos cannot be divided into train, validation and test: give more or split='shared'")
    counts = {part: max(1, round(share * n)) for part, share in PHOTO_SHARES.items()}
    order = np.random.default_rng([seed, 0]).permutation(n)
    validation, test, train = np.split(order, np.cumsum(list(counts.values())))
    return {"train": np.sort(train), "validation": np.sort(validation), "test": np.sort(test)}


def load_mnist_m(
    seed: int = 0,
    *,
    split: Literal["photos", "shared"] = "photos",
    photos: str | Path | None = None,
    binarise: bool = True,
    n_validation: int = 5000,
) -> dict[str, Labelled]:
    """Return the three parts of MNIST-M, building them at the first call.

    The images are kept in the data folder, or in the user's cache where that cannot be written; the key is a digest of
    digits, photos and options. Rows stand in the order of MNIST.

    Parameters
    ----------
    seed : int, not negative
        Decides the photos of each part, and the photo and crop of each digit.
    split : {"photos", "shared"}
        Whether the parts have photos of their own, or share all of them; see `divide_photos`.
    photos : str or Path, optional
        An archive or folder of photos; see `read_photos`. Default: the training photos of BSDS500.
    binarise : bool
        Take every pixel with any ink as 255.
    n_validation : int
        The validation part is this many of MNIST's last training digits.

    Returns
    -------
    dict of Labelled
        ``"train"`` (55,000 rows), ``"validation"`` (5,000) and ``"test"`` (10,000): images uint8 (n, 3, 28, 28). The
        validation part and its labels are for oracle scores: they tell nothing that a method may use.

    Raises
    ------
    DatasetNotFound
        When MNIST or the photos are missing and cannot be downloaded.
    ValueError
        When a file is damaged, photos are too few or too small, or an option is out of range.
    """
    digits = divide_digits(n_validation)
    place = photo_files.locate_photos() if photos is None else Path(photos)
    files = photo_files.read_files(place)

    def build_parts() -> dict[str, np.ndarray]:
        images = [photo for _, photo in photo_files.decode(place, files)]
        chosen = divide_photos(len(images), seed, split)
        return {
            part: build(digits[part].x, [images[k] for k in chosen[part]], [seed, 1 + number], binarise=binarise)
            for number, part in enumerate(PARTS)
        }

    digest = hashlib.sha256(repr((FORMAT, seed, split, binarise, n_validation)).encode())
    for part in PARTS:
        digest.update(repr(digits[part].x.shape).encode() + digits[part].x.tobytes())
    for name, content in files:
        digest.update(f"{name}:{len(content)}:".encode() + content)
    stored = cached("mnist-m", digest.hexdigest(), build_parts)
    return {part: Labelled(stored[part], digits[part].y) for part in PARTS}


def divide_digits(n_validation: int) -> dict[str, Labelled]:
    """Return MNIST as train, validation (the last training digits) and test."""
    train, test = load_mnist()
    n = len(train.y) - n_validation
    if n_validation < 0 or n < 1:
        raise ValueError(f"n_validation={n_validation} leaves no digits of {len(train.y)} to train on")
    return {
        "train": Labelled(train.x[:n], train.y[:n]),
        "validation": Labelled(train.x[n:], train.y[n:]),
        "test": test,
    }


def mnist_m(
    seed: int = 0,
    *,
    split: Literal["photos", "shared"] = "photos",
    photos: str | Path | None = None,
    binarise: bool = True,
    n: int | None = None,
    n_test: int | None = None,
) -> Task:
    """MNIST to MNIST-M: digits on paper to digits on crops of colour photos.

    Both domains hold the same digits, as in the paper, and unless ``n`` is given in the same order: shuffle the domains
    apart, as training streams do, so that nothing can learn from the pairs.

    Parameters
    ----------
    seed : int, not negative
        Decides photos, crops and, with ``n`` or ``n_test``, which digits are taken.
    split : {"photos", "shared"}
        Whether train and test backgrounds come from different photos.
    photos : str or Path, optional
        An archive or folder of photos. Default: the training photos of BSDS500.
    binarise : bool
        Take every pixel with any ink as 255.
    n, n_test : int, optional
        Take so many random rows a domain, drawn apart for source and target. Default: all, in MNIST's order.

    Returns
    -------
    Task
        Images uint8 (55000, 3, 28, 28), test images (10000, 3, 28, 28). The source is MNIST's grey values in three
        equal channels. The validation part is in `load_mnist_m`.

    Raises
    ------
    DatasetNotFound
        When MNIST or the photos are missing and cannot be downloaded.
    ValueError
        When a file is damaged, photos are too few or too small, or an option is out of range.
    """
    grey = divide_digits(5000)
    colour = load_mnist_m(seed, split=split, photos=photos, binarise=binarise)
    return Task(
        "mnist-m",
        source=coloured(take(grey["train"], n, [seed, 4])),
        target=take(colour["train"], n, [seed, 5]),
        source_test=coloured(take(grey["test"], n_test, [seed, 6])),
        target_test=take(colour["test"], n_test, [seed, 7]),
        description=f"backgrounds: {'separate' if split == 'photos' else 'shared'} photos for train and test",
    )


def take(data: Labelled, n: int | None, seed: Sequence[int]) -> Labelled:
    """Return ``n`` random rows, or all in their order."""
    if n is None:
        return data
    if not 1 <= n <= len(data.y):
        raise ValueError(f"{n} rows asked for: this part has 1 to {len(data.y)}")
    rows = np.random.default_rng(seed).permutation(len(data.y))[:n]
    return Labelled(data.x[rows], data.y[rows])


def coloured(data: Labelled) -> Labelled:
    """Repeat grey images (n, H, W) as three channels (n, 3, H, W)."""
    return Labelled(np.repeat(data.x[:, None], 3, axis=1), data.y)
