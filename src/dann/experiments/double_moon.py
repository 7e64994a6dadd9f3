"""The double moon: two half rings, the target turned by 30°."""

from functools import partial
from typing import Any

import numpy as np

from .. import plots
from ..adapter import DomainAdapter
from ..datasets import double_moon
from .plane import ADVERSARY, STEPS, adapter, class_probability
from .study import Experiment, Study

REPOSITORY = "toy repository"
PUBLISHED: tuple[dict[str, Any], ...] = (
    {"dataset": "double-moon", "method": "source-only", "domain": "source", "accuracy": 0.885, "ari": 0.591},
    {"dataset": "double-moon", "method": "source-only", "domain": "target", "accuracy": 0.810, "ari": 0.382},
    {"dataset": "double-moon", "method": "dann", "domain": "target", "accuracy": 0.880, "ari": 0.575},
)


def run(study: Study) -> None:
    """Train source-only and DANN, and show features over training and decision boundaries."""
    steps = study.options["steps"]
    moments = sorted({max(1, steps // 10), max(1, steps // 2), steps})
    for seed in study.seeds:
        task = double_moon(seed=seed)
        models = {
            name: study.fit(task, adapter(method, steps), seed, method=name, snapshots=moments)
            for name, method in (("source-only", "source-only"), ("dann", ADVERSARY))
        }
        if seed == study.seeds[0]:
            draw(study, task, models, moments)


def draw(study: Study, task: Any, models: dict[str, DomainAdapter], moments: list[int]) -> None:
    """Write the figures of one seed."""
    seed = study.seeds[0]
    both = np.concatenate([task.source_test.x, task.target_test.x])
    with study.figure("data", 1, 2, (4, 3.4), sharex=True, sharey=True) as (_, axes):
        for ax, part, name in zip(axes[0], (task.source, task.target), ("source", "target"), strict=True):
            plots.points(ax, part.x, part.y, filled=name == "source", label=name)
            ax.set_title(f"{name} ({len(part.x)} points)")
            ax.legend(fontsize=8)
    with study.figure("boundary", 1, 2, (4, 3.7), sharex=True, sharey=True) as (fig, axes):
        for ax, (name, model) in zip(axes[0], models.items(), strict=True):
            plots.regions(ax, partial(class_probability, model), both, label="decision boundary")
            plots.points(ax, task.source_test.x[:300], task.source_test.y[:300], label="source", size=8)
            plots.points(ax, task.target_test.x[:300], task.target_test.y[:300], filled=False, label="target", size=14)
            ax.set_title(f"{name}: {100 * study.values(task.name, name)[0]:.1f} % right on the target")
        plots.shared_legend(fig, axes[0, 0])
    with study.figure("features", 2, len(moments)) as (fig, axes):
        for column, step in enumerate(moments):
            kept = study.snapshot(task.name, "dann", seed, step)
            flat = plots.projection(np.concatenate([kept["source"], kept["target"]]))[len(kept["source"]) :]
            plots.points(axes[0, column], flat, task.target_test.y, filled=False, label="")
            plots.points(axes[1, column], flat, kept["predicted"], filled=False, label="")
            axes[0, column].set_title(f"step {step}")
        axes[0, 0].set_ylabel("true classes (oracle)")
        axes[1, 0].set_ylabel("predicted classes")
        fig.suptitle("DANN's features of the target over training (two principal components)")


EXPERIMENT = Experiment(
    name="double-moon",
    summary="two half rings, target turned by 30°: source-only and DANN",
    run=run,
    seeds=5,
    options={"steps": STEPS},
    published=tuple({**row, "source": REPOSITORY} for row in PUBLISHED),
)
