"""Judgement: how far verdicts, estimates and validators can be trusted, on many tasks with hidden labels."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from scipy.special import entr

from .. import plots
from ..adapter import DomainAdapter
from ..assessment import LEVEL, left_open
from ..datasets import (
    DatasetNotFound,
    Labelled,
    Task,
    amazon_reviews,
    blobs,
    digits,
    double_moon,
    label_shift,
    load_mnist,
    mnist_m,
    moons,
    shifted_table,
)
from ..datasets import variations as vary
from ..datasets.digits import enlarged
from ..estimates import atc, doc, on_the_line
from ..estimator import TrainingWarning
from ..guards import effective
from ..selection import METHODS, Comparison, compare, most_following
from ..validators import VALIDATORS
from . import family
from .demo import digits_adapter
from .planted import DEAD, TROUBLES, Planted
from .study import Experiment, Row, Study


class Case(NamedTuple):
    """One task of the matrix, the settings of all methods on it, and the methods."""

    name: str
    task: Callable[[int], Task]
    adapter: Callable[[Any], DomainAdapter] = family.table_adapter
    methods: Sequence[str] = METHODS


def turned_moons(degrees: float, seed: int) -> Task:
    """Return moons turned by an angle."""
    return moons(n=1000, rotation=degrees, seed=seed)


def ring(degrees: float, seed: int) -> Task:
    """Return five blobs on a circle, and the target's turned."""
    angles = 2 * np.pi * np.arange(5) / 5
    places = [[(np.cos(a + turn), np.sin(a + turn)) for a in angles] for turn in (0.0, np.radians(degrees))]
    task = blobs(n=1000, source_centres=places[0], target_centres=places[1], std=0.2, seed=seed)
    return replace(task, name="ring")


def opposed(seed: int) -> Task:
    """Return the counterexample of Zhao et al. (ICML 2019, section 4): to align the domains is to swap the classes."""

    def draw(count: int, low: float, number: int) -> Labelled:
        x = np.random.default_rng([seed, number]).uniform(low, low + 1, (count, 1)).astype(np.float32)
        return Labelled(x, ((x[:, 0] > -0.5) & (x[:, 0] < 1.5)).astype(np.int64))

    return Task(
        "opposed", draw(1000, -1, 0), draw(1000, 1, 1), draw(1000, -1, 2), draw(1000, 1, 3), "U(-1, 0), U(1, 2)"
    )


def small_digits() -> Labelled:
    """Return scikit-learn's digits at 16×16 pixels."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return Labelled(enlarged(x.reshape(-1, 8, 8))[:, None], y.astype(np.int64))


def digits_to(name: str, change: vary.Change, seed: int) -> Task:
    """Return scikit-learn's digits to other ones, changed."""
    return vary.changed(small_digits(), name, change, seed)


@cache
def some_mnist() -> Labelled:
    """Return the first 8,000 digits of MNIST."""
    train, _ = load_mnist()
    return Labelled(train.x[:8000, None], train.y[:8000])


def mnist_to(name: str, change: vary.Change, seed: int) -> Task:
    """Return 4,000 digits of MNIST to 4,000 other ones, changed."""
    return vary.changed(some_mnist(), name, change, seed)


def other_digits(seed: int) -> Task:
    """Return MNIST to scikit-learn's digits, both at 16×16 pixels."""
    from PIL import Image

    def shrunk(part: Labelled) -> Labelled:
        images = [np.asarray(Image.fromarray(x[0]).resize((16, 16), Image.Resampling.BOX)) for x in part.x]
        return Labelled(np.stack(images)[:, None], part.y)

    task = mnist_to("mnist", lambda x: x, seed)
    source, target = shrunk(task.source), small_digits()
    return Task("mnist-digits", source, target, source, target, "MNIST → scikit-learn's digits, 16×16 pixels")


def some_mnist_m(seed: int) -> Task:
    """Return MNIST → MNIST-M on 4,000 images a domain."""
    return mnist_m(seed=0, binarise=False, n=4000, n_test=4000)


def whole(task: Task) -> Task:
    """Return a task with all rows for training, and all rows of the target to judge by: small tables have few."""
    both = [
        Labelled(np.concatenate([a.x, b.x]), np.concatenate([a.y, b.y]))
        for a, b in ((task.source, task.source_test), (task.target, task.target_test))
    ]
    return replace(task, source=both[0], source_test=both[0], target=both[1], target_test=both[1])


def table(name: str, change: vary.Change, seed: int) -> Task:
    """Return one of scikit-learn's tables to other rows of it, changed."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    rows = Labelled(x.astype(np.float32), y.astype(np.int64))
    return vary.changed(rows, name, change, seed)


def split_by(name: str, column: int, seed: int, sharpness: float = 3.0) -> Task:
    """Return small to large values of one column of one of scikit-learn's tables."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    if name == "diabetes":
        y = y > np.median(y)
    random = np.random.default_rng([seed, 30])
    rank = np.argsort(np.argsort(x[:, column])) / len(x)
    upper = random.random(len(rank)) < 1 / (1 + np.exp(-2 * sharpness * (2 * rank - 1)))
    low, high = (Labelled(x[rows].astype(np.float32), y[rows].astype(np.int64)) for rows in (~upper, upper))
    return Task(name, low, high, low, high, f"small → large values of column {column}")


def mnist_adapter(method: Any) -> DomainAdapter:
    """Return the estimator for MNIST: the family's, for fewer steps."""
    return family.mnist_m_adapter(method).set_params(steps=1000)


def small_adapter(method: Any) -> DomainAdapter:
    """Return the estimator for small images."""
    return digits_adapter(method).set_params(steps=1000)


def reviews_adapter(method: Any) -> DomainAdapter:
    """Return the estimator for reviews."""
    return family.table_adapter(method).set_params(steps=1000, scaling="none")


def same(x: np.ndarray) -> np.ndarray:
    """Leave the target as it is."""
    return x


NEAR: dict[str, Any] = {"target_centres": [(0.3, -0.2), (0.3, 0.8)]}

CASES = (
    *(Case(f"moons-{d}", partial(turned_moons, d)) for d in (0, 15, 30, 45, 60, 90)),
    Case("double-moon-15", lambda seed: double_moon(rotation=15, seed=seed)),
    Case("double-moon-30", lambda seed: double_moon(seed=seed)),
    Case("blobs", lambda seed: blobs(n=1000, seed=seed)),
    Case("blobs-near", lambda seed: blobs(n=1000, seed=seed, **NEAR)),
    Case("far-blobs", lambda seed: blobs(n=1000, seed=seed, **family.FAR), family.far_adapter),
    Case("moons-30-label-shift", lambda seed: label_shift(moons(n=1000, rotation=30, seed=seed), [0], 0.2, seed)),
    Case("blobs-near-label-shift", lambda seed: label_shift(blobs(n=1000, seed=seed, **NEAR), [1], 0.2, seed)),
    Case("opposed", opposed),
    Case("ring-20", partial(ring, 20)),
    Case("ring-36", partial(ring, 36)),
    Case("digits", lambda seed: digits(n=4000, seed=seed), small_adapter),
    Case("digits-label-shift", lambda seed: label_shift(digits(n=4000, seed=seed), range(5), 0.3, seed), small_adapter),
    Case("digits-back", lambda seed: vary.reversed_task(digits(n=4000, seed=seed)), small_adapter),
    Case("digits-same", partial(digits_to, "digits-same", same), small_adapter),
    Case("digits-inverted", partial(digits_to, "digits-inverted", lambda x: 255 - x), small_adapter),
    Case("digits-coarse", partial(digits_to, "digits-coarse", vary.coarse(4)), small_adapter),
    Case("digits-thick", partial(digits_to, "digits-thick", vary.strokes(3)), small_adapter),
    Case("digits-noisy", partial(digits_to, "digits-noisy", vary.noisy(80)), small_adapter),
    Case("digits-turned", partial(digits_to, "digits-turned", vary.turned(30)), small_adapter),
    Case(
        "digits-same-label-shift",
        lambda seed: label_shift(digits_to("digits-same", same, seed), range(5), 0.1, seed),
        small_adapter,
    ),
    Case("mnist-m", some_mnist_m, mnist_adapter),
    Case("mnist-m-back", lambda seed: vary.reversed_task(some_mnist_m(seed)), mnist_adapter),
    Case("mnist-coarse", partial(mnist_to, "mnist-coarse", vary.coarse(4)), mnist_adapter),
    Case("mnist-thick", partial(mnist_to, "mnist-thick", vary.strokes(5)), mnist_adapter),
    Case("mnist-thin", partial(mnist_to, "mnist-thin", vary.strokes(-2)), mnist_adapter),
    Case("mnist-digits", other_digits, small_adapter),
    Case("digits-mnist", lambda seed: vary.reversed_task(other_digits(seed)), small_adapter),
    Case(
        "mnist-thick-label-shift",
        lambda seed: label_shift(mnist_to("mnist-thick", vary.strokes(5), seed), range(5), 0.2, seed),
        mnist_adapter,
    ),
    Case("books-dvd", lambda seed: amazon_reviews("books", "dvd"), reviews_adapter),
    Case("dvd-books", lambda seed: amazon_reviews("dvd", "books"), reviews_adapter),
    Case("cancer-texture", lambda seed: whole(shifted_table(seed=seed))),
    Case("cancer-smoothness", lambda seed: whole(shifted_table("mean smoothness", seed=seed))),
    Case("cancer-same", lambda seed: whole(shifted_table(sharpness=0, seed=seed))),
    Case("cancer-drift-0.5", partial(table, "breast_cancer", vary.drift(0.5))),
    Case("cancer-drift-1", partial(table, "breast_cancer", vary.drift(1.0))),
    Case("cancer-label-shift", lambda seed: label_shift(whole(shifted_table(sharpness=0, seed=seed)), [1], 0.2, seed)),
    Case("pixels-drift-0.5", partial(table, "digits", vary.drift(0.5))),
    Case("pixels-drift-1", partial(table, "digits", vary.drift(1.0))),
    Case("pixels-split", partial(split_by, "digits", 36)),
    Case("pixels-same", partial(table, "digits", same)),
    Case("wine-drift", partial(table, "wine", vary.drift(0.5))),
    Case("diabetes-split", partial(split_by, "diabetes", 2)),
)

CHOSEN_ON = tuple(case.name for case in CASES[::2])  # what this package's rules and numbers were chosen on
REPORTED_ON = tuple(case.name for case in CASES[1::2])  # what they are judged by
PLANTED_IN = ("moons-30", "digits")
LATER = ("forgetting", "explosion")  # troubles that need something to spoil
SAID = {"adapt": ("o", plots.SOURCE), "keep": ("s", plots.TARGET), "cannot tell": ("X", "#000000")}
TIE = 0.02  # of accuracy: less is neither won nor lost


def run(study: Study) -> None:
    """Compare the methods on every case, look at hidden labels at its end, and plant troubles for the guards."""
    for seed in study.seeds:
        for case in CASES:
            if study.has(dataset=case.name, method="verdict", seed=seed):
                continue
            try:
                task = case.task(seed)
            except DatasetNotFound:
                continue  # the others need no download
            judge(study, case, task, seed)
        plant(study, seed)
    draw(study)


def judge(study: Study, case: Case, task: Task, seed: int) -> None:
    """Compare the methods on one case, and keep what was said and what is true."""

    def on_step(name: str, training: int, step: Any) -> None:
        if study.on_progress is not None and step.number % 20 == 0:
            study.on_progress(f"{case.name} · {name} · seed {training}", step.number, adapter.steps)

    adapter = case.adapter("dann").set_params(**study.override)
    folder = study.folder / "trainings" / f"{case.name}-{seed}"
    data = task.source.x, task.source.y, task.target.x
    found = compare(*data, case.methods, adapter=adapter, seeds=2, run=folder, on_step=on_step)
    study.rows = [row for row in study.rows if (row["dataset"], row["seed"]) != (case.name, seed)]
    for c in found.candidates:
        row: Row = {**c.report(), "dataset": case.name, "method": c.name, "seed": seed, "training": c.seed}
        row["oracle_accuracy"] = None if c.model is None else float(c.model.score(*task.target_test))
        predicted = None if c.evidence is None else c.evidence.target_predicted
        row["classes"] = None if predicted is None else effective(np.bincount(predicted) / len(predicted))
        study.rows.append({key: value for key, value in row.items() if key != "name"})
    row = {"seconds": found.seconds, "published": published(found), **found.assessment.report()}
    study.add(dataset=case.name, method="verdict", seed=seed, **row)


def published(found: Comparison) -> dict[str, dict[str, float]]:
    """Return what published estimates of the target accuracy say by themselves, by method and estimate."""
    trainings = {name: [c.evidence for c in found.of(name) if c.evidence] for name in found.assessment.estimates}
    every = [evidence for group in trainings.values() for evidence in group]
    lines = iter(on_the_line(every) if len(every) > 2 else [])
    made = {}
    for name, group in trainings.items():
        of = {"ATC": [atc(e) for e in group], "difference of confidences": [doc(e) for e in group]}
        of["agreement"] = [found.assessment.estimates[name].parts["agreement"]]
        of["agreement on the line"] = [next(lines, math.nan) for _ in group]
        made[name] = {estimate: float(np.mean(values)) for estimate, values in of.items()}
    return made


def plant(study: Study, seed: int) -> None:
    """Train with every trouble on two tasks, and keep when it was named."""
    for name in PLANTED_IN:
        case = next(case for case in CASES if case.name == name)
        task: Task | None = None
        for trouble in TROUBLES:
            for onset in (0.0, 0.4):
                key = {"dataset": name, "method": f"planted: {trouble}", "seed": seed, "onset": onset}
                if study.has(**key) or (onset and trouble == "constant output") or (not onset and trouble in LATER):
                    continue
                task = task or case.task(seed)
                adapter = case.adapter(Planted(trouble=trouble, onset=onset))
                adapter.set_params(random_state=seed, compile=True, **study.override)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", TrainingWarning)
                    adapter.fit(task.source.x, task.source.y, task.target.x)
                named = [e for e in adapter.events_ if (e.kind == "dead-adversary") == (trouble in DEAD)]
                steps = [e.step / adapter.steps for e in named]
                study.add(**key, named_at=min(steps, default=None))


def groups(report: dict[str, Any], names: Sequence[str]) -> dict[tuple[str, int], dict[str, list[Row]]]:
    """Return the ends of the trainings by case and method, for cases in which all of source-only's came to an end."""
    found: dict[tuple[str, int], dict[str, list[Row]]] = {}
    for row in report["rows"]:
        if row["dataset"] in names and row.get("last"):
            found.setdefault((row["dataset"], row["seed"]), {}).setdefault(row["method"], []).append(row)
    whole = lambda rows: all(row["oracle_accuracy"] is not None for row in rows)  # noqa: E731
    return {case: {m: rows for m, rows in methods.items() if whole(rows)} for case, methods in found.items()}


def accuracy(rows: Sequence[Row]) -> float:
    """Return the mean hidden accuracy of trainings."""
    return float(np.mean([row["oracle_accuracy"] for row in rows]))


def of_model(rows: Sequence[Row]) -> float:
    """Return the hidden accuracy of the one of several trainings that a comparison leaves to the user."""
    return float(rows[most_following([row["scores"] for row in rows])]["oracle_accuracy"])


def of_choices(
    chosen: dict[tuple[str, int], str],
    cases: dict[tuple[str, int], dict[str, list[Row]]],
    of: Callable[[Sequence[Row]], float] = accuracy,
) -> Row:
    """Return what choosing some method in every case comes to, against the means of source-only and the best method."""
    got = {case: of(cases[case][name]) for case, name in chosen.items()}
    own = {case: accuracy(cases[case]["source-only"]) for case in chosen}
    best = {case: max(map(accuracy, cases[case].values())) for case in chosen}
    gains = {case: got[case] - own[case] for case in chosen}
    worst = min(gains, key=gains.__getitem__)
    return {
        "accuracy": float(np.mean(list(got.values()))),
        "regret": float(np.mean([best[case] - got[case] for case in chosen])),
        "median_regret": float(np.median([best[case] - got[case] for case in chosen])),
        "wins": sum(gain > TIE for gain in gains.values()),
        "losses": sum(gain < -TIE for gain in gains.values()),
        "worst": gains[worst],
        "worst_case": worst[0],
        "cases": len(chosen),
    }


def of_validator(name: str, cases: dict[tuple[str, int], dict[str, list[Row]]]) -> Row:
    """Return what choosing the method with the best mean score comes to."""
    chosen = {}
    for case, methods in cases.items():
        means = {m: np.mean([row["scores"].get(name, np.nan) for row in rows]) for m, rows in methods.items()}
        known = {m: mean for m, mean in means.items() if np.isfinite(mean)}
        chosen[case] = max(known, key=known.__getitem__) if known else "source-only"
    return of_choices(chosen, cases)


def of_estimates(report: dict[str, Any], cases: dict[tuple[str, int], dict[str, list[Row]]]) -> Row:
    """Return how far the estimates are from hidden accuracies, and how often the intervals hold these.

    ``decided`` is the mean error in cases whose verdict is not "cannot tell", ``published`` that of other estimates.
    """
    errors, decided, held, widths = [], [], [], []
    others: dict[str, list[float]] = {}
    for row in report["rows"]:
        case = row["dataset"], row["seed"]
        if row["method"] != "verdict" or case not in cases:
            continue
        for name, e in row["estimates"].items():
            truth = accuracy(cases[case][name])
            errors.append(abs(e["accuracy"] - truth))
            decided += errors[-1:] if row["decision"] != "cannot tell" else []
            for other, value in row.get("published", {}).get(name, {}).items():
                others.setdefault(other, []).append(abs(value - truth))
            held.append(e["low"] <= truth <= e["high"])
            widths.append(e["high"] - e["low"])
    return {
        "error": float(np.mean(errors)),
        "median_error": float(np.median(errors)),
        "decided": float(np.mean(decided)) if decided else math.nan,
        "published": {other: float(np.mean(values)) for other, values in others.items()},
        "coverage": float(np.mean(held)),
        "width": float(np.median(widths)),
        "estimates": len(errors),
    }


def fit(report: dict[str, Any], alone: bool = False) -> tuple[list[float], float]:
    """Return the weights of an estimate and the width of its interval, from the cases to choose on.

    The weights have the least mean absolute error in accuracy, with a little shrinkage; the width is the quantile of
    the errors, each of a case that the weights were fitted without, in units of what the signs leave open. Its level is
    .9 with the correction for few cases that conformal prediction makes.

    Parameters
    ----------
    alone : bool
        Without the agreement of several trainings.
    """
    from scipy.optimize import minimize

    cases = groups(report, CHOSEN_ON)
    names, signs, left, most, truth = [], [], [], [], []
    for row in (r for r in report["rows"] if r["method"] == "verdict" and (r["dataset"], r["seed"]) in cases):
        for name, e in row["estimates"].items():
            p = e["parts"]
            agreement = [] if alone else [p["agreement"]]
            names.append((row["dataset"], row["seed"]))
            signs.append([1.0, p["atc"], *agreement, p["relative"]])
            left.append(left_open({**p, "agreement": 1.0} if alone else p))
            most.append(p["source"])
            truth.append(accuracy(cases[names[-1]][name]))
    x, y, case = np.array(signs), np.array(truth), np.array([f"{name} {seed}" for name, seed in names])

    def errors_of(w: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.abs(np.clip(x[rows] @ w, 0, np.array(most)[rows]) - y[rows])

    def fitted(rows: np.ndarray) -> np.ndarray:
        loss = lambda w: errors_of(w, rows).mean() + 0.002 * (w @ w)  # noqa: E731
        found = minimize(loss, np.linalg.lstsq(x[rows], y[rows], rcond=None)[0], method="Powell")
        return minimize(loss, found.x, method="Nelder-Mead", options={"maxiter": 4000, "adaptive": True}).x

    errors = np.empty(len(y))
    for name in np.unique(case):
        mine = case == name
        errors[mine] = errors_of(fitted(~mine), mine)
    n = len(np.unique(case))
    width = np.quantile(errors / np.array(left), min(1.0, LEVEL * (n + 1) / n))
    return fitted(np.ones(len(y), bool)).tolist(), float(width)


def of_guards(report: dict[str, Any], cases: dict[tuple[str, int], dict[str, list[Row]]]) -> Row:
    """Return how many planted troubles were named in time, and of how many trainings of the matrix an alarm stands.

    An alarm is false if its training ends healthy: it predicts classes on the target with half of the entropy of the
    source's or more, and its source accuracy is within a tenth of source-only's.
    """
    planted = [row for row in report["rows"] if row["method"].startswith("planted")]
    in_time = [
        r for r in planted if r["named_at"] is not None and r["onset"] < r["named_at"] <= r["onset"] + 0.1 + 1e-9
    ]
    trainings = [(case, row) for case, methods in cases.items() for rows in methods.values() for row in rows]
    alarmed = [(case, row) for case, row in trainings if row["alarms"]]
    shares = {(r["dataset"], r["seed"]): r["shift"]["source_shares"] for r in report["rows"] if r.get("shift")}

    def healthy(case: tuple[str, int], row: Row) -> bool:
        own = np.mean([r["scores"]["source-accuracy"] for r in cases[case]["source-only"]])
        diverse = np.log(row["classes"]) >= 0.5 * entr(np.array(shares[case])).sum()
        return bool(diverse and row["scores"]["source-accuracy"] >= own - 0.1)

    false = [f"{case[0]}, {row['method']} {row['training']}" for case, row in alarmed if healthy(case, row)]
    missed = [f"{r['dataset']}, {r['method']} from {r['onset']}" for r in planted if r not in in_time]
    return {
        "planted": len(planted),
        "in_time": len(in_time),
        "missed": missed,
        "trainings": len(trainings),
        "alarms": len(alarmed),
        "false_alarms": false,
    }


def tabulated(report: dict[str, Any]) -> Any:
    """Return the table to print: choosers by what they come to, on both halves, and notes on estimates and guards."""
    from rich.table import Table

    notes, made = [], Table(box=None, padding=(0, 1), header_style="bold", caption_justify="left")
    for title in (
        "cases",
        "chosen by",
        "accuracy",
        "regret",
        "median regret",
        "won",
        "lost",
        "worst against source-only",
    ):
        made.add_column(title, justify="left" if title in ("cases", "chosen by") else "right")
    for half, names in (("chosen on", CHOSEN_ON), ("reported on", REPORTED_ON)):
        cases = groups(report, names)
        if not cases:
            continue
        verdicts = {(r["dataset"], r["seed"]): r["choice"] for r in report["rows"] if r["method"] == "verdict"}
        chosen = {case: verdicts[case] for case in cases if case in verdicts}
        lines = {"the verdict": of_choices(chosen, cases), "the verdict's model": of_choices(chosen, cases, of_model)}
        lines["source-only"] = of_choices(dict.fromkeys(cases, "source-only"), cases)
        lines |= {name: of_validator(name, cases) for name in VALIDATORS}
        for name, line in lines.items():
            cells = [f"{line[key]:.3f}" for key in ("accuracy", "regret", "median_regret")]
            worst = f"{line['worst']:+.3f} ({line['worst_case']})"
            made.add_row(half, name, *cells, str(line["wins"]), str(line["losses"]), worst)
            half = ""
        made.add_section()
        e = of_estimates(report, cases)
        notes.append(
            f"Estimates, {len(cases)} cases {'chosen' if names is CHOSEN_ON else 'reported'} on: mean error "
            f"{e['error']:.3f}, median {e['median_error']:.3f}, {e['decided']:.3f} where the verdict decides, coverage "
            f"{e['coverage']:.1%} of {e['estimates']}, median width {e['width']:.2f}."
        )
        notes += [f"  By {other} alone: mean error {error:.3f}." for other, error in e["published"].items()]
    cases = groups(report, CHOSEN_ON + REPORTED_ON)
    g, cost = of_guards(report, cases), of_cost(report)
    notes.append(f"Guards: {g['in_time']} of {g['planted']} planted troubles named within a tenth of the training.")
    notes += [f"  Not so: {name}." for name in g["missed"]]
    notes.append(f"  Alarms in {g['alarms']} of {g['trainings']} trainings, {len(g['false_alarms'])} false.")
    notes += [f"  False: {name}." for name in g["false_alarms"]]
    notes.append(
        f"Cost: evidence and assessment {cost['assessment']:.1%} of the trainings' time, all validators at two "
        f"checkpoints another {cost['validators']:.1%}; in the median case {cost['median']:.1%} and "
        f"{cost['median_validators']:.1%}."
    )
    made.caption = "\n".join([*notes, "Accuracies and regrets are an oracle's: they use the target's hidden labels."])
    return made


def of_cost(report: dict[str, Any]) -> Row:
    """Return the time of judging as a share of that of the trainings."""
    by_case: dict[str, list[float]] = {}
    for row in report["rows"]:
        if row["dataset"] and "step" in row:
            one = by_case.setdefault(row["dataset"], [0.0, 0.0, 0.0])
            one[0] += row["seconds"] if row["last"] else 0.0
            one[1] += row["evidence_seconds"] if row["last"] else 0.0
            one[2] += row["validators_seconds"] + (0.0 if row["last"] else row["evidence_seconds"])
        elif row["method"] == "verdict":
            by_case.setdefault(row["dataset"], [0.0, 0.0, 0.0])[1] += row["seconds"]
    times = np.array([one for one in by_case.values() if one[0]]).reshape(-1, 3)
    if not len(times):
        return dict.fromkeys(("assessment", "validators", "median", "median_validators"), math.nan)
    total, shares = times.sum(0), times[:, 1:] / times[:, :1]
    median = np.median(shares, axis=0)
    return {
        "assessment": total[1] / total[0],
        "validators": total[2] / total[0],
        "median": median[0],
        "median_validators": median[1],
    }


def draw(study: Study) -> None:
    """Write estimates against hidden accuracies, and every case's gain by the verdict beside the best one."""
    report = study.report()
    cases = groups(report, CHOSEN_ON + REPORTED_ON)
    verdicts = {(r["dataset"], r["seed"]): r for r in report["rows"] if r["method"] == "verdict"}
    with study.figure("estimates", 1, 2, (5.2, 5.0)) as (_, axes):
        for ax, (half, names) in zip(axes[0], (("chosen on", CHOSEN_ON), ("reported on", REPORTED_ON)), strict=True):
            for case in (case for case in cases if case[0] in names and case in verdicts):
                for name, e in verdicts[case]["estimates"].items():
                    truth, color = accuracy(cases[case][name]), "#d95f02" if name == "source-only" else "#7570b3"
                    ax.plot([truth, truth], [e["low"], e["high"]], color=color, alpha=0.25, lw=1)
                    ax.plot(truth, e["accuracy"], ".", color=color, ms=6)
            ax.plot([0, 1], [0, 1], color="black", lw=0.8)
            ax.plot([], [], ".", color="#d95f02", label="source-only")
            ax.plot([], [], ".", color="#7570b3", label="adapted")
            ax.set_xlabel("target accuracy (oracle)")
            ax.set_ylabel("estimate and its 90 % interval")
            ax.set_title(f"cases {half}")
            ax.legend(fontsize=8, loc="lower right")
    shown = [case for case in cases if case in verdicts]
    with study.figure("verdicts", 1, 1, (8.5, 0.22 * len(shown) + 1)) as (_, axes):
        ax = axes[0, 0]
        for place, case in enumerate(reversed(shown)):
            own = accuracy(cases[case]["source-only"])
            best = max(map(accuracy, cases[case].values())) - own
            got = of_model(cases[case][verdicts[case]["choice"]]) - own
            ax.plot([0, best], [place, place], color="#cccccc", lw=5, solid_capstyle="butt")
            marker, colour = SAID[verdicts[case]["decision"]]
            ax.plot(got, place, marker, color=colour, ms=6)
        for decision, (marker, colour) in SAID.items():
            ax.plot([], [], marker, color=colour, label=decision)
        ax.plot([], [], color="#cccccc", lw=5, label="best method, mean")
        ax.legend(loc="lower right", fontsize=8, title="verdict")
        ax.axvline(0, color="black", lw=0.8)
        labels = [f"{case[0]} *" if case[0] in REPORTED_ON else case[0] for case in reversed(shown)]
        ax.set_yticks(range(len(shown)), labels, fontsize=7)
        ax.set_ylim(-1, len(shown))
        ax.set_xlabel("gain of the chosen model on source-only's mean (oracle); * the 24 reported cases")


EXPERIMENT = Experiment(
    name="judgement",
    summary="verdicts, estimates, validators and guards on 48 tasks with hidden labels",
    run=run,
    seeds=1,
    table=tabulated,
)
