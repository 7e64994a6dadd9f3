"""The demo: two moons and handwritten digits, source-only, DANN and target-only side by side."""

from functools import partial
from typing import Any

import numpy as np
from rich.markup import escape

from .. import plots
from ..adapter import DomainAdapter
from ..assessment import assess
from ..backbones import SmallNet
from ..datasets import Task, digits, moons
from ..guards import harmful
from ..methods import DANN
from . import plane
from .study import Experiment, Study
from .tables import summary

DIGITS_STEPS = 1200


def digits_adapter(method: Any) -> DomainAdapter:
    """Return the estimator for the digits, the same for every method: the recipe of mnist-m with a smaller network.

    docs/demo.md lists what was tried.
    """
    return DomainAdapter(
        method,
        SmallNet(),
        steps=DIGITS_STEPS,
        batch_size=32,
        optimizer="sgd",
        lr=0.02,
        momentum=0.9,
        weight_decay=1e-3,
        lr_schedule="annealing",
        averaging=0.998,
        scaling="mean",
        initialization="he",
    )


def run(study: Study) -> None:
    """Train the three methods on both tasks."""
    for seed in study.seeds:
        for task, estimator, adversary in (
            (moons(seed=seed), partial(plane.adapter, steps=plane.STEPS), plane.ADVERSARY),
            (digits(seed=seed), digits_adapter, DANN()),
        ):
            methods = {"source-only": "source-only", "dann": adversary, "target-only": "target-only"}
            models = {
                name: study.fit(task, estimator(method), seed, method=name, pad=True)
                for name, method in methods.items()
            }
            judge(study, task, models, seed)
            if seed == study.seeds[0]:
                (draw_moons if task.name == "moons" else draw_digits)(study, task, models)
    with study.figure("accuracy", 1, 2, (4, 3.4)) as (_, axes):
        for ax, name in zip(axes[0], ("moons", "digits"), strict=True):
            plots.bars(ax, {method: study.values(name, method) for method in models})
            ax.set_title(name)


def judge(study: Study, task: Task, models: dict[str, DomainAdapter], seed: int) -> None:
    """Keep what can be told of source-only and DANN without target labels."""
    if study.has(dataset=task.name, method="verdict", seed=seed):
        return
    rows = task.source_test.x, task.source_test.y, task.target_test.x
    seen = models["dann"].structure(task.source_test.x, task.target_test.x)
    evidence = {name: [models[name].evidence(*rows, structure=seen)] for name in ("source-only", "dann")}
    alarms = {name: harmful(models[name].events_) for name in evidence}
    study.add(dataset=task.name, method="verdict", seed=seed, **assess(evidence, alarms=alarms).report())


def tabulated(report: dict[str, Any]) -> Any:
    """Return the table of all scores, with the verdicts and their reasons below."""
    table = summary(report)
    lines = []
    for row in verdicts_of(report):
        lines += [f"Without a target label, {row['dataset']}: {row['sentence']}."]
        lines += [f"- {reason}" for reason in row["reasons"]]
    table.caption = "\n".join([str(table.caption), *map(escape, lines)])
    return table


def verdicts_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the verdicts of the first seed."""
    found = [row for row in report["rows"] if row["method"] == "verdict"]
    return [row for row in found if row["seed"] == min(r["seed"] for r in found)]


def draw_moons(study: Study, task: Task, models: dict[str, DomainAdapter]) -> None:
    """Write the decision boundaries before and after."""
    both = np.concatenate([task.source.x, task.target.x])
    with study.figure("moons", 1, 2, (4.2, 3.8), sharex=True, sharey=True) as (fig, axes):
        for ax, name in zip(axes[0], ("source-only", "dann"), strict=True):
            plots.regions(ax, partial(plane.class_probability, models[name]), both, label="decision boundary")
            plots.points(ax, task.source.x, task.source.y, label="source", size=10)
            wrong = models[name].predict(task.target.x) != task.target.y
            for rows, colour, what in ((~wrong, "black", "right"), (wrong, plots.TARGET, "wrong")):
                label = f"target, {what} (oracle)"
                ax.scatter(*task.target.x[rows].T, s=8, c=colour, marker="o" if what == "right" else "x", label=label)
            ax.set_title(f"{name}: {100 * study.values('moons', name)[0]:.1f} % right on the target")
        plots.shared_legend(fig, axes[0, 0])


def draw_digits(study: Study, task: Task, models: dict[str, DomainAdapter]) -> None:
    """Write sample images and the features before and after."""
    with study.figure("digits", 1, 4, (3.2, 3.5)) as (_, axes):
        for ax, part, name in zip(axes[0], (task.source, task.target), ("source", "target"), strict=False):
            plots.image_grid(ax, part.x[:64])
            ax.set_title(f"{name} digits")
        for ax, name in zip(axes[0, 2:], ("source-only", "dann"), strict=True):
            sides = [models[name].transform(t.x[:400]) for t in (task.source_test, task.target_test)]
            flat = plots.projection(np.concatenate(sides))
            plots.domains(ax, flat[: len(sides[0])], flat[len(sides[0]) :])
            right = 100 * study.values("digits", name)[0]
            ax.set_title(f"features of {name} (PCA)\n{right:.1f} % right on the target", fontsize=10)
            ax.legend(fontsize=7)


EXPERIMENT = Experiment(
    name="demo",
    summary="two moons and handwritten digits on photographs, without a download",
    run=run,
    seeds=1,
    table=tabulated,
)
