"""The family: every method on every task, with one network, one optimiser and one budget a task.

Methods that need no source go on from another line's model, for a tenth of its steps at a tenth of its rate.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from ..adapter import DomainAdapter
from ..backbones import MLP, ConvNet, MNISTNet
from ..datasets import DatasetNotFound, Labelled, Task, blobs, digits, double_moon, label_shift, mnist_m, shifted_table
from ..estimator import TrainingDiverged
from ..methods import CDAN, MCC, METHODS, Sum
from . import demo
from .study import Experiment, Study

GOES_ON = {"dirt-t": "vada", "adabn": "source-only-norm", "tent": "source-only-norm"}  # from other than source-only
FEW = 10_000  # images a domain of MNIST → MNIST-M
FAR: dict[str, Any] = {"source_centres": [(0, 0), (0, 10)], "target_centres": [(50, -20), (50, -10)], "std": 1.0}


class Setting(NamedTuple):
    """A task by seed, and the estimator that every method gets on it."""

    name: str
    task: Callable[[int], Task]
    adapter: Callable[[Any], DomainAdapter]


def table_adapter(method: Any) -> DomainAdapter:
    """Return the estimator for points and tables."""
    network = MLP((64, 64), activation="tanh", domain_hidden=(16,))
    return DomainAdapter(method, network, steps=1500, batch_size=64, lr=3e-3, weight_decay=1e-3, lr_schedule="cosine")


def far_adapter(method: Any) -> DomainAdapter:
    """Return the estimator for the far blobs: coordinates as they are, or the distance would be scaled away."""
    return table_adapter(method).set_params(
        backbone=MLP((20,), "relu", domain_hidden=(20,)), scaling="none", weight_decay=0.0
    )


def digits_adapter(method: Any) -> DomainAdapter:
    """Return the demo's estimator for the digits, trained a quarter longer."""
    return demo.digits_adapter(method).set_params(steps=1500)


def mnist_m_adapter(method: Any) -> DomainAdapter:
    """Return the estimator for MNIST → MNIST-M: the paper's network and rates, half its batch, a tenth of its steps."""
    return demo.digits_adapter(method).set_params(backbone=MNISTNet(same_padding=False), steps=2000, lr=0.01)


def few_mnist_m(seed: int) -> Task:
    """Return MNIST → MNIST-M with the first images of each training set; the data do not depend on the seed."""
    task = mnist_m(seed=0, binarise=False)
    source, target = (Labelled(part.x[:FEW], part.y[:FEW]) for part in (task.source, task.target))
    return replace(task, source=source, target=target)


def table_shares(seed: int) -> Task:
    """Return the table split at random, with 30 % of the target's class 1: class shares alone differ."""
    return replace(label_shift(shifted_table(sharpness=0, seed=seed), [1], 0.3, seed), name="table-shares")


SETTINGS = (
    Setting("double-moon", lambda seed: double_moon(seed=seed), table_adapter),
    Setting("far-blobs", lambda seed: replace(blobs(seed=seed, **FAR), name="far-blobs"), far_adapter),
    Setting("table", lambda seed: shifted_table(seed=seed), table_adapter),
    Setting("table-shares", table_shares, table_adapter),
    Setting("digits", lambda seed: digits(seed=seed), digits_adapter),
    Setting("digits-shifted", lambda seed: label_shift(digits(seed=seed), range(5), 0.3, seed), digits_adapter),
    Setting("mnist-m", few_mnist_m, mnist_m_adapter),
)


class Entry(NamedTuple):
    """A line of the table: what is set, and the line whose model it goes on from, without the source."""

    name: str
    settings: dict[str, Any]
    before: str = ""


def methods(base: DomainAdapter, steps: int) -> Iterator[Entry]:
    """Yield all that classify, with what is set on a task's estimator; those that go on from a model come after it."""
    for name, kind in METHODS.items():
        if name != "domain-only" and not kind.source_free:
            before = steps // 2 if kind.needs_pretraining else 0
            yield Entry(name, {"method": kind(), "steps": steps - before, "pretrain_steps": before})
    yield Entry("cdan+mcc", {"method": Sum(CDAN(), MCC()), "steps": steps})
    # methods of two views see strong variations of the target's rows: how far these alone get
    yield Entry("source-only-varied", {"method": "source-only", "steps": steps, "augmentation": "strong"})
    # some methods adapt batch norm, which the networks have not: how far that alone gets
    with_norm = replace(base.backbone, batch_norm=True) if isinstance(base.backbone, MLP) else ConvNet()
    yield Entry("source-only-norm", {"method": "source-only", "steps": steps, "backbone": with_norm})
    later = {"steps": max(2, steps // 10), "lr": base.lr / 10}  # what `adapt_to` takes by default
    for name, kind in METHODS.items():
        if kind.source_free:
            yield Entry(name, {"method": kind(), **later}, GOES_ON.get(name, "source-only"))


def run(study: Study) -> None:
    """Train every method on every task with every seed, tasks in turn, and draw the table."""
    done = []
    for setting in SETTINGS:
        for seed in study.seeds:
            try:
                task = setting.task(seed)
            except DatasetNotFound:
                break  # the others need no download
            base = setting.adapter("dann")
            models: dict[str, DomainAdapter | None] = {}
            for entry in methods(base, study.options["steps"] or base.steps):
                adapter, before = clone(base).set_params(**entry.settings), models.get(entry.before)
                if before is not None or not entry.before:
                    models[entry.name] = train(study, task, adapter, seed, setting.name, entry.name, before)
        else:
            done.append(setting.name)
    draw(study, done)


def train(
    study: Study,
    task: Task,
    adapter: DomainAdapter,
    seed: int,
    dataset: str,
    method: str,
    before: DomainAdapter | None = None,
) -> DomainAdapter | None:
    """Train one method; one that diverges, or whose library is missing, gives None and does not stop the others."""
    names = {"dataset": dataset, "method": method, "seed": seed, "domain": "target", "diverged": True}
    if study.has(**names):
        return None
    try:
        return study.fit(task, adapter, seed, dataset=dataset, method=method, before=before)
    except TrainingDiverged:
        study.add(**names)
    except ImportError as error:
        warnings.warn(f"{method} is left out: {error}", stacklevel=2)
    return None


def draw(study: Study, tasks: list[str]) -> None:
    """Write the mean accuracies as a coloured table: purple gains on source-only, orange loses."""
    names = [entry.name for entry in methods(table_adapter("dann"), 2) if study.has(method=entry.name)]
    failed = {(r["dataset"], r["method"]) for r in study.rows if r.get("diverged")}
    mean = np.array(
        [[np.nan if (t, name) in failed else np.mean(study.values(t, name)) for t in tasks] for name in names]
    )
    gain = mean - mean[names.index("source-only")]
    with study.figure("family", 1, 1, (2.2 + 1.3 * len(tasks), 0.8 + 0.36 * len(names))) as (_, axes):
        ax = axes[0, 0]
        ax.imshow(gain, cmap="PuOr", vmin=-0.3, vmax=0.3, aspect="auto")
        for (i, k), value in np.ndenumerate(mean):
            text = "diverged" if np.isnan(value) else f"{value:.3f}"
            dark = abs(gain[i, k]) > 0.22
            ax.text(k, i, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")
        ax.set_xticks(range(len(tasks)), tasks)
        ax.set_yticks(range(len(names)), names)
        ax.set_title("target accuracy (oracle), mean over seeds; colour: gain on source-only", fontsize=10)


EXPERIMENT = Experiment(
    name="family",
    summary="every method on toys, a table and digits, with the same network and budget",
    run=run,
    seeds=3,
    options={"steps": None},
)
