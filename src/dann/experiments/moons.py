"""Inter-twinning moons: figure 2 of Ganin et al. (JMLR 2016), target turned by 35°."""

from functools import partial
from typing import Any

import numpy as np
from torch import nn

from .. import plots
from ..adapter import DomainAdapter
from ..datasets import Task, moons
from ..methods import DANN
from .plane import ADVERSARY, STEPS, adapter, class_probability, domain_probability
from .study import Experiment, Study

PUBLISHED: tuple[dict[str, Any], ...] = (
    {
        "dataset": "moons",
        "method": "dann",
        "domain": "source",
        "accuracy": 1.0,
        "source": "Ganin et al. 2016, figure 2",
    },
    {
        "dataset": "moons",
        "method": "dann",
        "domain": "target",
        "accuracy": 1.0,
        "source": "Ganin et al. 2016, figure 2",
    },
)


def marked(task: Task) -> np.ndarray:
    """Return four points to follow, as the paper does: the tips of both moons, on the target."""
    x, y = task.target.x, task.target.y
    tips = []
    for k in (0, 1):
        rows = x[y == k]
        along = np.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][0]
        order = np.argsort(rows @ along)
        tips += [rows[order[0]], rows[order[-1]]]
    return np.array(tips)


def run(study: Study) -> None:
    """Train source-only and DANN, and draw the paper's four panels of each."""
    steps = study.options["steps"]
    for seed in study.seeds:
        task = moons(seed=seed)
        models = {
            name: study.fit(task, adapter(method, steps), seed, method=name)
            for name, method in (("source-only", DANN(weight=0.0)), ("dann", ADVERSARY))  # 0: it only watches
        }
        if seed == study.seeds[0]:
            draw(study, task, models)


def draw(study: Study, task: Task, models: dict[str, DomainAdapter]) -> None:
    """Write the paper's figure: label boundary, features, domain boundary, units of the first layer as lines."""
    both = np.concatenate([task.source.x, task.target.x])
    four = marked(task)
    with study.figure("moons", 2, 4, (3.4, 3.1)) as (_, axes):
        for row, (name, model) in zip(axes, models.items(), strict=True):
            plots.regions(row[0], partial(class_probability, model), both, label="label boundary")
            plots.points(row[0], task.source.x, task.source.y, label="source")
            row[0].scatter(task.target.x[:, 0], task.target.x[:, 1], s=5, c="black", label="target")
            features = plots.projection(model.transform(np.concatenate([both, four])))
            n = len(task.source.x)
            plots.domains(row[1], features[:n], features[n : len(both)])
            plots.regions(row[2], partial(domain_probability, model), both, label="domain boundary")
            plots.domains(row[2], task.source.x, task.target.x)
            plots.domains(row[3], task.source.x, task.target.x, size=4)
            hidden_units(row[3], model, both)
            for ax, places in ((row[0], four), (row[1], features[len(both) :])):
                for place, letter in zip(places, "ABCD", strict=True):
                    plots.letter(ax, place, letter)
            accuracy = study.values(task.name, name)[0]
            for ax in row[1:]:
                ax.set_xticks([])
                ax.set_yticks([])
            row[0].set_ylabel(f"{name}\ntarget accuracy {accuracy:.3f}", fontsize=11)
            for ax, corner in zip(row, ("lower right", "best", "upper left", "upper left"), strict=True):
                ax.legend(fontsize=6, loc=corner, framealpha=0.6)
        for ax, title in zip(axes[0], ("labels", "features (PCA)", "domains", "units of the first layer"), strict=True):
            ax.set_title(title)


def hidden_units(ax: Any, model: DomainAdapter, around: np.ndarray) -> None:
    """Draw every unit of the first layer as the line on which its input is zero."""
    net = model.network_
    layer = net.get_submodule("encoder.0")
    assert isinstance(layer, nn.Linear)
    weight = layer.weight.detach().cpu().numpy() / net.normalize.scale.cpu().numpy()
    bias = layer.bias.detach().cpu().numpy() - weight @ net.normalize.mean.cpu().numpy()
    low, high = around.min(0) - 0.3, around.max(0) + 0.3
    ax.set_xlim(low[0], high[0])
    ax.set_ylim(low[1], high[1])
    for normal, offset in zip(weight, bias, strict=True):
        length = np.linalg.norm(normal)
        if length < 1e-3:
            continue  # weight decay has switched the unit off
        foot = -offset * normal / length**2  # the point of the line that is nearest to the origin
        ax.axline(foot, foot + np.array([-normal[1], normal[0]]) / length, color="black", lw=0.5, alpha=0.6)


EXPERIMENT = Experiment(
    name="moons",
    summary="inter-twinning moons, target turned by 35° (figure 2 of the paper): source-only and DANN",
    run=run,
    seeds=5,
    options={"steps": STEPS},
    published=PUBLISHED,
)
