"""Four blobs: what a domain classifier, a label classifier and DANN learn of the same points."""

from functools import partial
from typing import Any

import numpy as np

from .. import plots
from ..adapter import DomainAdapter
from ..backbones import MLP
from ..datasets import Task, blobs
from ..methods import DANN
from .plane import class_probability
from .study import Experiment, Study

PUBLISHED: tuple[dict[str, Any], ...] = (
    {"dataset": "blobs", "method": "source-only", "domain": "target", "accuracy": 0.50, "source": "classic notebook"},
    {"dataset": "blobs", "method": "dann", "domain": "target", "accuracy": 0.95, "source": "classic notebook"},
)
METHODS: dict[str, Any] = {
    "domain-only": "domain-only",
    "source-only": DANN(weight=0.0, hidden=(16, 16)),  # the domain head watches, so that domain accuracy can be told
    "dann": DANN(weight=8.0, hidden=(16,)),
    "dann-deep": DANN(weight=8.0, hidden=(16, 16)),
}


def estimator(method: Any, steps: int) -> DomainAdapter:
    """Return the estimator of the blobs, the same for every method.

    Two features leave the domain head little to overfit, and without momentum the game settles: docs/experiments.md
    says what was tried.
    """
    return DomainAdapter(
        method,
        MLP(hidden=(64, 2), activation="tanh", domain_hidden=(16,)),
        steps=steps,
        batch_size=128,
        lr=0.01,
        momentum=0.0,
        weight_decay=2e-3,
        lr_schedule="cosine",
    )


def run(study: Study) -> None:
    """Train the four methods on every seed and draw the first."""
    for seed in study.seeds:
        task = blobs(seed=seed)
        models = {}
        for name, method in METHODS.items():
            models[name] = study.fit(task, estimator(method, study.options["steps"]), seed, method=name)
        if seed == study.seeds[0]:
            draw(study, task, models)


def draw(study: Study, task: Task, models: dict[str, DomainAdapter]) -> None:
    """Write one figure: the plane and the features of every method."""
    both = np.concatenate([task.source_test.x, task.target_test.x])
    n = len(task.source_test.x)
    with study.figure("blobs", 2, len(models), (3.2, 3.2)) as (fig, axes):
        for column, (name, model) in zip(axes.T, models.items(), strict=True):
            if name != "domain-only":
                plots.regions(column[0], partial(class_probability, model), both, label="decision boundary")
            flat = plots.projection(model.transform(both))
            for ax, x in zip(column, (both, flat), strict=True):
                plots.points(ax, x[:n][:300], task.source_test.y[:300], label="source", size=8)
                plots.points(ax, x[n:][:300], task.target_test.y[:300], filled=False, label="target", size=12)
            row = next(r for r in study.rows if r["method"] == name and r["domain"] == "target")
            scores = [f"domain {row['domain_accuracy']:.2f}"]
            if name != "domain-only":
                scores.insert(0, f"target {row['accuracy']:.2f}")
            column[0].set_title(f"{name}\n{', '.join(scores)}", fontsize=10)
        axes[0, 0].set_ylabel("inputs")
        axes[1, 0].set_ylabel("features (PCA)")
        plots.shared_legend(fig, axes[0, -1])


EXPERIMENT = Experiment(
    name="blobs",
    summary="four blobs: domain-only, source-only, DANN with a shallow and a deeper domain head",
    run=run,
    seeds=5,
    options={"steps": 1000},
    published=PUBLISHED,
)
