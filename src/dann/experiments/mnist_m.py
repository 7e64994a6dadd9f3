"""MNIST → MNIST-M, the headline experiment of Ganin et al. (JMLR 2016, table 2)."""

from typing import Any

import numpy as np

from .. import plots
from ..adapter import DomainAdapter
from ..datasets import Labelled, Task, mnist_m
from .recipes import recipe_of
from .study import Experiment, Study

PAPER, NOTEBOOK = "Ganin et al. 2016, table 2", "classic notebook"
PUBLISHED: tuple[dict[str, Any], ...] = tuple(
    {"dataset": "mnist-m", "method": method, "domain": "target", "accuracy": accuracy, "source": source}
    for source, figures in (
        (PAPER, {"source-only": 0.5225, "dann": 0.7666, "target-only": 0.9596}),
        (NOTEBOOK, {"source-only": 0.4801, "dann": 0.7189}),
    )
    for method, accuracy in figures.items()
)
SHOWN = 500  # test images a domain in the embedding


def run(study: Study) -> None:
    """Train source-only, DANN and target-only on every seed and draw the first."""
    recipe = recipe_of(study.options["recipe"])
    # one data set, as in the papers; the seeds are those of the training
    task = mnist_m(seed=0, binarise=recipe.binarise)
    changes = {"steps": study.options["steps"]} if study.options["steps"] else {}
    methods: dict[str, Any] = {"source-only": "source-only", "dann": recipe.adversary, "target-only": "target-only"}
    for seed in study.seeds:
        models = {}
        for name, method in methods.items():
            models[name] = study.fit(task, recipe.adapter(method, **changes), seed, method=name, pad=True)
        if seed == study.seeds[0]:
            draw(study, task, models)
    with study.figure("accuracy", 1, 1, (5, 3.6)) as (_, axes):
        published = {p["method"]: p["accuracy"] for p in PUBLISHED if p["source"] == PAPER}
        plots.bars(axes[0, 0], {name: study.values("mnist-m", name) for name in methods}, published)


def draw(study: Study, task: Task, models: dict[str, DomainAdapter]) -> None:
    """Write sample images, and embeddings of features before and after adaptation."""
    with study.figure("samples", 1, 2, (4, 4)) as (_, axes):
        for ax, part, name in zip(axes[0], (task.source, task.target), ("MNIST", "MNIST-M"), strict=True):
            plots.image_grid(ax, part.x[:64])
            ax.set_title(name)
    embeddings(study, task, {name: models[name] for name in ("source-only", "dann")})


def embeddings(study: Study, task: Task, models: dict[str, DomainAdapter]) -> None:
    """Write t-SNE maps of the features of test rows of both domains, every point drawn as its digit."""
    from sklearn.manifold import TSNE

    source, target = (Labelled(t.x[:SHOWN], t.y[:SHOWN]) for t in (task.source_test, task.target_test))
    x, y = np.concatenate([source.x, target.x]), np.concatenate([source.y, target.y])
    domain = np.repeat([0, 1], [len(source.y), len(target.y)])
    with study.figure("tsne", 1, len(models), (5.5, 5.2)) as (fig, axes):
        for ax, (name, model) in zip(axes[0], models.items(), strict=True):
            flat = TSNE(init="pca", perplexity=min(30, len(x) / 4), random_state=0).fit_transform(model.transform(x))
            plots.as_digits(ax, flat, y, domain)
            ax.set_title(name)
            ax.legend(fontsize=8, loc="upper right")
        fig.suptitle("features of test images (t-SNE)")


EXPERIMENT = Experiment(
    name="mnist-m",
    summary="MNIST → MNIST-M by a recipe (tuned, paper, classic, strong): source-only, DANN, target-only",
    run=run,
    seeds=3,
    options={"recipe": "tuned", "steps": None},
    published=PUBLISHED,
)
