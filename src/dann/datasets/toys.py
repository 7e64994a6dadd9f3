"""Two-dimensional tasks: inter-twinning moons, Haykin's double moon, blobs."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from .task import Labelled, Task

Points = Sequence[tuple[float, float]]


def rotate(x: np.ndarray, degrees: float, centre: np.ndarray) -> np.ndarray:
    """Turn points counter-clockwise about a centre.

    Parameters
    ----------
    x : ndarray (n, 2)
    degrees : float
    centre : ndarray (2,)

    Returns
    -------
    ndarray (n, 2)
    """
    angle = math.radians(degrees)
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return (x - centre) @ matrix.T + centre


def moons(
    n: int | None = None,
    *,
    rotation: float = 35.0,
    noise: float = 0.05,
    variant: Literal["paper", "authors"] = "paper",
    n_test: int = 1000,
    seed: int = 0,
) -> Task:
    """Inter-twinning moons; the target is another draw, rotated by 35°.

    Parameters
    ----------
    n : int, at least 2, optional
        Points a domain, half of them on each moon. Default: 300 for ``"paper"``, 150 for ``"authors"``.
    rotation : float
        Degrees counter-clockwise, about the mean of the source points.
    noise : float
        Standard deviation of the Gaussian noise on unit moons.
    variant : {"paper", "authors"}
        ``"paper"``: plain moons. ``"authors"``: as in the code of the paper's authors, both domains are shifted by the
        mean of the source and scaled by 2, so ``seed=0`` gives exactly the arrays of their Figure 2 code.
    n_test : int, at least 2
        Test points a domain: further independent draws.
    seed : int, not negative

    Returns
    -------
    Task
        Points (n, 2), classes 0 (upper moon) and 1.

    Raises
    ------
    ValueError
        On an unknown variant or a count below 2.

    References
    ----------
    Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 17(59), 2016, Section 5.1.1 and Figure 2.
    """
    from sklearn.datasets import make_moons

    defaults = {"paper": 300, "authors": 150}
    if variant not in defaults:
        raise ValueError(f"variant={variant!r} is unknown: use 'paper' or 'authors'")
    n = defaults[variant] if n is None else n
    check_counts(n=n, n_test=n_test)
    # the authors draw with random states 1 and 2: what seed 0 gives here
    states = [2 * seed + 1, 2 * seed + 2, *np.random.SeedSequence(seed).generate_state(2).tolist()]
    draws = [
        make_moons(count, noise=noise, random_state=state)
        for count, state in zip((n, n, n_test, n_test), states, strict=True)
    ]
    mean = draws[0][0].mean(axis=0)
    centre = mean
    if variant == "authors":
        draws = [(2 * (x - mean), y) for x, y in draws]
        centre = np.zeros(2)
    return rotated_task("moons", draws, rotation, centre, f"{variant} variant, noise {noise:g}")


def double_moon(
    n: int = 1000,
    *,
    radius: float = 10.0,
    width: float = 6.0,
    distance: float = -4.0,
    rotation: float = 30.0,
    n_test: int = 1000,
    seed: int = 0,
) -> Task:
    """Haykin's double moon: two half rings; the target is another draw, rotated by 30°.

    Points are uniform over the area of the rings. The upper half ring is centred on (0, 0), the lower one on
    (radius, -distance).

    Parameters
    ----------
    n : int, at least 2
        Points a domain, half of them on each half ring.
    radius : float, more than width / 2
        Of the middle of the rings.
    width : float, positive
        Between the inner and the outer edge.
    distance : float
        Vertical gap between the half rings. With the default radius and width, a straight line separates the classes
        when it is positive; the half rings reach into each other without touching down to -6.3. The default, one of
        Haykin's, is separable but not by a line.
    rotation : float
        Degrees counter-clockwise, about the mean of the source points.
    n_test : int, at least 2
        Test points a domain: further independent draws.
    seed : int, not negative

    Returns
    -------
    Task
        Points (n, 2), classes 0 (upper half ring) and 1.

    Raises
    ------
    ValueError
        When the width is not in (0, 2 radius) or a count is below 2.

    References
    ----------
    Haykin, Neural Networks and Learning Machines, 3rd edition, 2009, Section 1.5.
    """
    check_counts(n=n, n_test=n_test)
    if not 0 < width < 2 * radius:
        raise ValueError(
            f"width={width:g} with radius={radius:g} is no ring: the width must be above 0, below 2 radius"
        )

    def draw(count: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng([seed, number])
        y = random.permutation(np.arange(count) * 2 // count)
        edges = (radius - width / 2) ** 2, (radius + width / 2) ** 2
        along = np.sqrt(random.uniform(*edges, size=count))  # the root makes the area, not the radius, uniform
        angle = random.uniform(0, np.pi, size=count)
        half = along[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        lower = half * (1, -1) + (radius, -distance)
        return np.where(y[:, None] == 1, lower, half), y

    draws = [draw(count, number) for number, count in enumerate((n, n, n_test, n_test))]
    description = f"radius {radius:g}, width {width:g}, distance {distance:g}"
    return rotated_task("double-moon", draws, rotation, draws[0][0].mean(axis=0), description)


def blobs(
    n: int = 300,
    *,
    source_centres: Points = ((0.0, 0.0), (0.0, 1.0)),
    target_centres: Points = ((1.0, -1.0), (1.0, 0.0)),
    std: float = 0.2,
    n_test: int = 1000,
    seed: int = 0,
) -> Task:
    """Gaussian blobs; the target's class centres lie elsewhere.

    Parameters
    ----------
    n : int, at least 2
        Points a domain, shared evenly between the classes.
    source_centres, target_centres : sequence of K points (x, y)
        One centre a class. Far-apart domains, on which a domain classifier has no gradient left, are
        ``source_centres=[(0, 0), (0, 10)], target_centres=[(50, -20), (50, -10)]``.
    std : float
        Standard deviation of every blob, in both directions.
    n_test : int, at least 2
        Test points a domain: further independent draws.
    seed : int, not negative

    Returns
    -------
    Task
        Points (n, 2), class k around centre k.

    Raises
    ------
    ValueError
        When the domains have unequal numbers of centres or a count is below 2.
    """
    check_counts(n=n, n_test=n_test)
    if len(source_centres) != len(target_centres):
        raise ValueError(
            f"{len(source_centres)} source_centres but {len(target_centres)} target_centres: give one a class to each"
        )

    def draw(count: int, centres: Points, number: int) -> Labelled:
        random = np.random.default_rng([seed, number])
        y = random.permutation(np.arange(count) % len(centres))
        return labelled(np.asarray(centres)[y] + std * random.standard_normal((count, 2)), y)

    return Task(
        "blobs",
        source=draw(n, source_centres, 0),
        target=draw(n, target_centres, 1),
        source_test=draw(n_test, source_centres, 2),
        target_test=draw(n_test, target_centres, 3),
        description=f"{len(source_centres)} classes, standard deviation {std:g}",
    )


def rotated_task(
    name: str, draws: Sequence[tuple[np.ndarray, np.ndarray]], rotation: float, centre: np.ndarray, description: str
) -> Task:
    """Make a task of four draws (source, target, source test, target test) by rotating the target's."""
    (xs, ys), (xt, yt), (xs_test, ys_test), (xt_test, yt_test) = draws
    return Task(
        name,
        source=labelled(xs, ys),
        target=labelled(rotate(xt, rotation, centre), yt),
        source_test=labelled(xs_test, ys_test),
        target_test=labelled(rotate(xt_test, rotation, centre), yt_test),
        description=f"{description}, target rotated by {rotation:g}°",
    )


def labelled(x: np.ndarray, y: np.ndarray) -> Labelled:
    """Give points and labels the types of a task."""
    return Labelled(x.astype(np.float32), y.astype(np.int64))


def check_counts(**counts: int) -> None:
    """Raise when a number of points cannot hold two classes."""
    for name, count in counts.items():
        if count < 2:
            raise ValueError(f"{name}={count} is too small: a domain needs at least 2 points, one a class")
