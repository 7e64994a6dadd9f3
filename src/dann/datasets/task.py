"""Task: the four labelled arrays of one adaptation experiment."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Labelled(NamedTuple):
    """Rows and their labels."""

    x: np.ndarray  # images uint8 (n, C, H, W) or (n, H, W), vectors float32 (n, d)
    y: np.ndarray  # (n,) int64 class codes, 0 … K-1


@dataclass(frozen=True, eq=False)
class Task:
    """A labelled source, a target, and test rows of both.

    Parameters
    ----------
    name : str
        The dataset's name in ``DATASETS``.
    source : Labelled
        What a method trains on.
    target : Labelled
        Its rows are what a method adapts to. **Its labels are hidden labels**: they serve oracle scores and the
        train-on-target upper bound only, and must not reach ``fit``.
    source_test, target_test : Labelled
        Rows that no training sees. The target's labels are hidden labels here too.
    description : str
        One line on how these arrays were made.
    """

    name: str
    source: Labelled
    target: Labelled
    source_test: Labelled
    target_test: Labelled
    description: str = ""
