"""Handwritten digits, and other digits blended on photographs: MNIST → MNIST-M in small, without a download."""

import numpy as np

from .mnist_m import blend
from .task import Labelled, Task

SIZE = 16  # pixels a side; scikit-learn's digits have 8
N_SOURCE, N_TARGET = 700, 700  # different digits in each part; the remaining 397 are for tests
TRAINING_WIDTH = 0.6  # training patches come from this part of every photo, test patches from the rest


def digits(*, n: int = 8000, n_test_patches: int = 3, seed: int = 0) -> Task:
    """Handwritten digits to other digits on photographs: MNIST to MNIST-M in small, without a download.

    Source: 700 of scikit-learn's digits at 16×16 pixels, grey. Target: ``|digit - patch|`` per pixel
    and channel, of other digits and of patches of three colour photos that ship with scikit-learn and matplotlib.
    Training images repeat their digits with shifts of at most one pixel and fresh patches. Test images have digits
    that no training image has, and patches of the right 40 % of the photos, where training takes the left 60 %.

    Parameters
    ----------
    n : int
        Training images a domain.
    n_test_patches : int
        Test images of each of the 397 test digits, ≥ 1.
    seed : int, not negative
        Of every random choice.

    Returns
    -------
    Task
        Images uint8 (n, 3, 16, 16).
    """
    if n < 1 or n_test_patches < 1:
        raise ValueError(f"n={n} and n_test_patches={n_test_patches} must be at least 1")
    from sklearn.datasets import load_digits

    rng = np.random.default_rng([seed, 16])
    small, labels = load_digits(return_X_y=True)
    images, photos = enlarged(small.reshape(-1, 8, 8)), sample_photos()
    order = rng.permutation(len(images))
    parts = np.split(order, [N_SOURCE, N_SOURCE + N_TARGET])
    tests = np.tile(parts[2], n_test_patches)

    def rows(pool: np.ndarray, count: int) -> np.ndarray:
        passes = [rng.permutation(pool) for _ in range(-(-count // len(pool)))]
        return np.concatenate(passes)[:count]

    def on_paper(chosen: np.ndarray) -> Labelled:
        x = shifted(images[chosen], rng)[:, None]
        return Labelled(np.repeat(x, 3, axis=1), labels[chosen].astype(np.int64))

    def on_photos(chosen: np.ndarray, low: float, high: float) -> Labelled:
        x = blend(shifted(images[chosen], rng)[:, None], patches(photos, len(chosen), low, high, rng))
        return Labelled(x, labels[chosen].astype(np.int64))

    return Task(
        name="digits",
        source=on_paper(rows(parts[0], n)),
        target=on_photos(rows(parts[1], n), 0.0, TRAINING_WIDTH),
        source_test=on_paper(tests),
        target_test=on_photos(tests, TRAINING_WIDTH, 1.0),
        description="scikit-learn's digits at 16×16 → other digits on three photos",
    )


def enlarged(images: np.ndarray) -> np.ndarray:
    """Enlarge images (n, 8, 8) of values 0 … 16 to uint8 (n, 16, 16), bilinearly."""
    position = np.clip((np.arange(SIZE) + 0.5) / 2 - 0.5, 0, 7)
    low = np.floor(position).astype(int)
    high, weight = np.minimum(low + 1, 7), position - low
    tall = images[:, low] * (1 - weight)[:, None] + images[:, high] * weight[:, None]
    wide = tall[:, :, low] * (1 - weight) + tall[:, :, high] * weight
    return np.round(wide * (255 / 16)).astype(np.uint8)


def shifted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move every image by -1, 0 or 1 pixels along both axes, filling with 0."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (SIZE, SIZE), axis=(1, 2))
    return windows[np.arange(len(images)), rng.integers(3, size=len(images)), rng.integers(3, size=len(images))]


def sample_photos() -> list[np.ndarray]:
    """Return the three colour photos that ship with scikit-learn and matplotlib, uint8 (H, W, 3)."""
    import matplotlib.cbook
    from PIL import Image
    from sklearn.datasets import load_sample_images

    with Image.open(str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))) as image:
        portrait = np.asarray(image.convert("RGB"))
    return [*load_sample_images().images, portrait]


def patches(photos: list[np.ndarray], n: int, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """Cut ``n`` random patches from the photos in turn, between two fractions of their widths: uint8 (n, 3, 16, 16)."""
    out = np.empty((n, 3, SIZE, SIZE), dtype=np.uint8)
    for k, photo in enumerate(photos):
        mine = np.arange(k, n, len(photos))
        strip = photo[:, int(low * photo.shape[1]) : int(high * photo.shape[1])]
        windows = np.lib.stride_tricks.sliding_window_view(strip, (SIZE, SIZE), axis=(0, 1))
        top, left = (rng.integers(size, size=len(mine)) for size in windows.shape[:2])
        out[mine] = windows[top, left]
    return out
