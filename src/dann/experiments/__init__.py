"""Experiments by name: published ones, with their numbers beside ours, and the demo."""

from . import amazon_reviews, blobs, demo, double_moon, family, judgement, mnist_m, moons
from .study import Experiment, Study

EXPERIMENTS: dict[str, Experiment] = {
    e.name: e
    for e in (
        demo.EXPERIMENT,
        double_moon.EXPERIMENT,
        moons.EXPERIMENT,
        blobs.EXPERIMENT,
        mnist_m.EXPERIMENT,
        amazon_reviews.EXPERIMENT,
        family.EXPERIMENT,
        judgement.EXPERIMENT,
    )
}

__all__ = ["EXPERIMENTS", "Experiment", "Study"]
