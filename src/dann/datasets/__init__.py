"""Datasets: tasks by name, made on the spot or read from files."""

from collections.abc import Callable

from .amazon import amazon_domains, amazon_reviews
from .digits import digits
from .fetch import DatasetNotFound, data_home
from .mnist import load_mnist, read_idx
from .mnist_m import load_mnist_m, mnist_m
from .photos import read_photos
from .shifts import label_shift, shifted_table
from .syn_numbers import find_fonts, render_numbers, syn_numbers
from .task import Labelled, Task
from .toys import blobs, double_moon, moons

DATASETS: dict[str, Callable[..., Task]] = {
    "moons": moons,
    "double-moon": double_moon,
    "blobs": blobs,
    "digits": digits,
    "table": shifted_table,
    "mnist-m": mnist_m,
    "amazon-reviews": amazon_reviews,
    "syn-numbers": syn_numbers,
}

__all__ = [
    "DATASETS",
    "DatasetNotFound",
    "Labelled",
    "Task",
    "amazon_domains",
    "amazon_reviews",
    "blobs",
    "data_home",
    "digits",
    "double_moon",
    "find_fonts",
    "label_shift",
    "load_mnist",
    "load_mnist_m",
    "mnist_m",
    "moons",
    "read_idx",
    "read_photos",
    "render_numbers",
    "shifted_table",
    "syn_numbers",
]
