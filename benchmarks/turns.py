"""Loops that take turns in one process: the speed of a machine drifts, so only ratios within one run mean anything."""

import statistics
import time
from collections.abc import Iterator


def take_turns(loops: dict[str, Iterator[None]], turns: int, steps: int) -> dict[str, list[float]]:
    """Return the CPU milliseconds a step of every loop in every turn; a first turn only warms up.

    Parameters
    ----------
    loops : dict
        Names and iterators that take a step whenever they are asked for the next item.
    turns, steps : int
        Turns of each loop, and steps in one turn.
    """
    times: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(turns + 1):
        for name, loop in loops.items():
            start = time.process_time()
            for _ in range(steps):
                next(loop)
            if turn:
                times[name].append((time.process_time() - start) / steps * 1e3)
    return times


def summary(times: dict[str, list[float]], against: str) -> dict[str, dict[str, float] | list[float]]:
    """Return the median of every loop, and median and quartiles of its ratio to one of them, turn by turn."""
    result: dict[str, dict[str, float] | list[float]] = {
        "ms CPU a step, median": {name: round(statistics.median(t), 3) for name, t in times.items()}
    }
    for name, own in times.items():
        if name != against:
            ratios = [a / b for a, b in zip(own, times[against], strict=True)]
            result[f"{name} / {against}, quartiles"] = [round(q, 3) for q in statistics.quantiles(ratios, n=4)]
    return result
