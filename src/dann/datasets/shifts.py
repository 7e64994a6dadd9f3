"""Shifts made on purpose: other class shares in a target, a table split by one of its columns."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .task import Labelled, Task


def label_shift(task: Task, classes: Sequence[int], share: float, seed: int = 0) -> Task:
    """Return a task whose target, test rows too, has only a share of the rows of some classes.

    Parameters
    ----------
    task : Task
    classes : sequence of int
        Class codes that become rarer.
    share : float
        Of their rows that stay, 0 … 1.
    seed : int, not negative
        Decides which.

    Returns
    -------
    Task
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share} must lie in [0, 1]")

    def thinned(part: Labelled, number: int) -> Labelled:
        random = np.random.default_rng([seed, number])
        kept = ~np.isin(part.y, list(classes)) | (random.random(len(part.y)) < share)
        return Labelled(part.x[kept], part.y[kept])

    few = f"{share:.0%} of the target's classes {', '.join(map(str, classes))}"
    return replace(
        task,
        name=f"{task.name}-shifted",
        target=thinned(task.target, 0),
        target_test=thinned(task.target_test, 1),
        description=f"{task.description}; {few}",
    )


def shifted_table(column: str = "mean texture", *, sharpness: float = 3.0, seed: int = 0) -> Task:
    """Breast cancer, a real table: source rows have small values of one column, target rows large ones.

    The chance of a row to belong to the target is a logistic function of the column's rank, and half of each domain
    is for testing: covariate shift, whose label shares differ as far as the column tells the class.

    Parameters
    ----------
    column : str
        One of the table's 30 columns.
    sharpness : float
        ≥ 0: 0 splits at random.
    seed : int, not negative

    Returns
    -------
    Task
        Rows float32 (n, 30), 569 in all; class 1 is benign.

    Raises
    ------
    ValueError
        There is no such column.
    """
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer()
    names = table.feature_names.tolist()
    if column not in names:
        raise ValueError(f"unknown column {column!r}; choose one of: {', '.join(names)}")
    random = np.random.default_rng([seed, 30])
    rank = np.argsort(np.argsort(table.data[:, names.index(column)])) / len(table.data)
    in_target = random.random(len(rank)) < 1 / (1 + np.exp(-2 * sharpness * (2 * rank - 1)))
    test = random.random(len(rank)) < 0.5

    def rows(target: bool, testing: bool) -> Labelled:
        chosen = (in_target == target) & (test == testing)
        return Labelled(table.data[chosen].astype(np.float32), table.target[chosen].astype(np.int64))

    return Task(
        name="table",
        source=rows(False, False),
        target=rows(True, False),
        source_test=rows(False, True),
        target_test=rows(True, True),
        description=f"breast cancer: small → large {column}",
    )
