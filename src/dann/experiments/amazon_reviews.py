"""Amazon reviews: table 1 of Ganin et al. (JMLR 2016), hyper-parameters by reverse validation."""

import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from .. import plots, selection
from ..adapter import DomainAdapter
from ..backbones import MLP
from ..datasets import Labelled, Task, amazon_domains, amazon_reviews
from ..methods import DANN
from ..metrics import proxy_a_distance
from .study import Experiment, Study

LETTERS = {"books": "B", "dvd": "D", "electronics": "E", "kitchen": "K"}
PAIRS = ("BD", "BE", "BK", "DB", "DE", "DK", "EB", "ED", "EK", "KB", "KD", "KE")
TABLE = {
    "dann": (0.784, 0.733, 0.779, 0.723, 0.754, 0.783, 0.713, 0.738, 0.854, 0.709, 0.740, 0.843),
    "source-only": (0.790, 0.747, 0.778, 0.720, 0.732, 0.778, 0.709, 0.733, 0.854, 0.708, 0.739, 0.841),
    "svm": (0.799, 0.748, 0.769, 0.743, 0.748, 0.746, 0.705, 0.726, 0.847, 0.707, 0.736, 0.842),
}
NAMES = {letter: name for name, letter in LETTERS.items()}
PUBLISHED: tuple[dict[str, Any], ...] = tuple(
    {
        "dataset": f"{NAMES[pair[0]]}→{NAMES[pair[1]]}",
        "method": method,
        "domain": "target",
        "accuracy": accuracy,
        "source": "Ganin et al. 2016, table 1",
    }
    for method, figures in TABLE.items()
    for pair, accuracy in zip(PAIRS, figures, strict=True)
)
WEIGHTS = tuple(float(w) for w in np.logspace(-2, 0, 9))  # the paper's nine values of λ
WIDTHS = (50, 100)
PENALTIES = tuple(float(c) for c in np.logspace(-5, 0, 10))  # the paper's ten values of C
FAST = {"dann": (WEIGHTS[4], 50), "source-only": (0.0, 50)}  # the middle λ and the narrower layer


def adapter(weight: float, width: int, steps: int) -> DomainAdapter:
    """Return the paper's shallow network: one sigmoid layer, linear heads; weight 0 is its plain net (NN)."""
    method = DANN(weight=weight, schedule="constant") if weight else "source-only"
    backbone = MLP(hidden=(width,), activation="sigmoid", domain_hidden=())
    return DomainAdapter(
        method, backbone, steps=steps, lr=1e-3, weight_decay=0.0, lr_schedule="constant", scaling="none"
    )


def held_out(data: Labelled, seed: int) -> tuple[Labelled, Labelled]:
    """Split rows 90 to 10 at random."""
    order = np.random.default_rng(seed).permutation(len(data.y))
    cut = len(order) - len(order) // 10
    return Labelled(data.x[order[:cut]], data.y[order[:cut]]), Labelled(data.x[order[cut:]], data.y[order[cut:]])


def reverse_risk(source: Labelled, target: np.ndarray, make: Callable[[], DomainAdapter], seed: int) -> float:
    """Judge settings by reverse validation, 10 % of the source's and of the target's rows held out."""
    train, validation = held_out(source, seed)
    unlabelled, _ = held_out(Labelled(target, np.zeros(len(target))), seed)
    return selection.reverse_risk(make, train, validation, unlabelled.x, seed)


def choose(study: Study, task: Task, dataset: str, method: str, seed: int) -> tuple[float, int]:
    """Return λ and the width of the hidden layer with the least reverse risk; every candidate is kept as a row."""
    if study.options["fast"]:
        return FAST[method]
    candidates = list(itertools.product(WEIGHTS if method == "dann" else (0.0,), WIDTHS))
    names = {"dataset": dataset, "method": f"{method} candidate", "seed": seed, "domain": "source"}
    risks = []
    for number, (weight, width) in enumerate(candidates):
        chosen = {**names, "weight": weight, "hidden": width}
        if not study.has(**chosen):
            start = time.perf_counter()
            make = partial(adapter, weight, width, study.options["steps"])
            risk = reverse_risk(task.source, task.target.x, make, seed)
            study.add(**chosen, reverse_risk=risk, seconds=round(time.perf_counter() - start, 3))
        if study.on_progress is not None:
            study.on_progress(f"{dataset} · reverse validation of {method}", number + 1, len(candidates))
        risks += [r["reverse_risk"] for r in study.rows if all(r.get(k) == v for k, v in chosen.items())]
    return candidates[int(np.argmin(risks))]


def svm(study: Study, task: Task, dataset: str, seed: int) -> None:
    """Train the linear SVM of the table, C chosen by cross-validation on the source."""
    if study.has(dataset=dataset, method="svm", seed=seed):
        return
    from scipy.sparse import csr_matrix
    from sklearn.metrics import adjusted_rand_score
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import LinearSVC

    start = time.perf_counter()
    model = GridSearchCV(LinearSVC(random_state=seed, max_iter=5000), {"C": list(PENALTIES)}, cv=3)
    model.fit(csr_matrix(task.source.x), task.source.y)
    seconds = round(time.perf_counter() - start, 3)
    for domain, test in (("source", task.source_test), ("target", task.target_test)):
        score = model.decision_function(csr_matrix(test.x))
        margin = score * np.where(test.y == 1, 1, -1)
        study.add(
            dataset=dataset,
            method="svm",
            seed=seed,
            domain=domain,
            accuracy=float((margin > 0).mean()),
            loss=float(np.maximum(0, 1 - margin).mean()),
            loss_kind="hinge",
            ari=float(adjusted_rand_score(test.y, score > 0)),
            seconds=seconds,
            C=float(model.best_params_["C"]),
        )


def pairs(present: Sequence[str], wanted: Sequence[str]) -> list[tuple[str, str]]:
    """Return the (source, target) tasks to run: the one that was asked for, or all that the data allow."""
    if wanted:
        if len(wanted) != 2:
            raise ValueError(f"amazon-reviews takes a source and a target, got {list(wanted)}")
        return [(wanted[0], wanted[1])]
    found = list(itertools.permutations(present, 2))
    if not found:
        raise ValueError(f"amazon-reviews needs two domains, found {list(present)}; name them to see what is missing")
    return found


def run(study: Study) -> None:
    """Train SVM, plain net and DANN on every task and measure PAD on inputs and on features."""
    for source, target in pairs(amazon_domains(), study.options["domains"]):
        task, dataset = amazon_reviews(source, target), f"{source}→{target}"
        for seed in study.seeds:
            svm(study, task, dataset, seed)
            for method in ("source-only", "dann"):
                weight, width = choose(study, task, dataset, method, seed)
                estimator = adapter(weight, width, study.options["steps"])
                study.fit(task, estimator, seed, dataset=dataset, method=method, pad=True)
                for row in study.rows:
                    if (row["dataset"], row["method"], row["seed"]) == (dataset, method, seed):
                        row.update(weight=weight, hidden=width)
        if not study.has(dataset=dataset, method="inputs"):
            pad = proxy_a_distance(task.source_test.x, task.target_test.x)
            study.add(dataset=dataset, method="inputs", seed=0, domain="target", pad=pad)
        draw(study, dataset)


def draw(study: Study, dataset: str) -> None:
    """Write accuracies beside the table's, and PAD of inputs and features."""
    names = ("svm", "source-only", "dann")
    published = {p["method"]: p["accuracy"] for p in PUBLISHED if p["dataset"] == dataset}
    with study.figure(dataset.replace("→", "-"), 1, 2, (4.4, 3.4)) as (fig, axes):
        plots.bars(axes[0, 0], {name: study.values(dataset, name) for name in names}, published)
        distances = {name: study.values(dataset, name, metric="pad") for name in ("inputs", "source-only", "dann")}
        for i, (_, values) in enumerate(distances.items()):
            axes[0, 1].bar(i, np.mean(values), width=0.6, color=plots.CLASSES[4], edgecolor="black", lw=0.5)
            axes[0, 1].plot([i] * len(values), values, "k.", ms=5)
        axes[0, 1].set_xticks(range(len(distances)), ["inputs", "features of\nsource-only", "features of\nDANN"])
        axes[0, 1].set_ylabel("proxy A-distance (0 … 2)")
        axes[0, 1].set_ylim(0, 2.1)
        fig.suptitle(dataset)


EXPERIMENT = Experiment(
    name="amazon-reviews",
    summary="Amazon reviews, shallow DANN, plain net and SVM against table 1; [SOURCE TARGET] or all that is there",
    run=run,
    seeds=1,
    options={"domains": (), "fast": False, "steps": 1000},
    published=PUBLISHED,
)
