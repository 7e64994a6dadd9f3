"""Adapting to the user's own data: source-only and one method, side by side."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import plots, runs
from ..adapter import DomainAdapter, chosen
from ..datasets import Labelled, Task
from ..domains import Domains, UnitWarning, as_inputs, as_labels, encode, first_text, is_unknown
from ..readers import Table
from ..readers.table import MISSING
from ..selection import Training, candidate, check_sources, copies, rehearse, save_judges, split
from .study import Experiment, Study

NO_LABELS = np.empty(0, dtype=np.int64)


class Roles(NamedTuple):
    """Columns of the source beside its features, and what they say of its rows."""

    group: str | None = None  # whose rows are held out together
    domain: str | None = None  # which of several sources
    weight: str | None = None  # how often training draws the row

    def groups(self, rows: Table) -> np.ndarray | None:
        """Return the group of every row, None where there are none.

        Raises
        ------
        ValueError
            A row without a group.
        """
        return None if self.group is None else self._named(rows, self.group, "group")

    @staticmethod
    def _named(rows: Table, column: str, what: str) -> np.ndarray:
        names = rows.beside[column].astype(str)
        if (empty := np.isin(names, ["", *MISSING])).any():
            row = int(empty.argmax())
            place = f"line {rows.lines[row]}" if rows.lines else f"row {row}"
            raise ValueError(f"{column!r} names no {what} in {place}, and {empty.sum()} in all: fill it in")
        return names

    def of_rows(self, rows: Table) -> dict[str, Any]:
        """Return what `DomainAdapter.fit` takes of every row, by name.

        Raises
        ------
        ValueError
            A row without a source, or with a weight that is no number.
        """
        found: dict[str, Any] = {}
        if self.domain is not None:
            found["sample_domain"] = np.unique(self._named(rows, self.domain, "source"), return_inverse=True)[1]
        if self.weight is not None:
            values = rows.beside[self.weight]
            try:
                found["sample_weight"] = values.astype(np.float64)
            except ValueError:
                bad = first_text(values)
                raise ValueError(f"the column {self.weight!r} has {bad!r} where a weight belongs: a number") from None
        return found


NONE = Roles()


def user_task(source: Table, target: Table, seed: int, roles: Roles = NONE) -> Task:
    """Split the source into training and test rows; the target's labels, where there are some, only judge the result.

    Rows of a group stay together.

    Raises
    ------
    ValueError
        Data that cannot be adapted on; see `Domains.from_arrays`. Target labels that the source does not have.
    """
    of_rows = roles.of_rows(source)
    domains = Domains.from_arrays(source, source.y, target, **of_rows)  # complaints about data come before any work
    labels = encode(as_labels(source.y, len(source), "y"), domains.classes, "the source")
    rows = domains.sources[0].x if len(domains.sources) == 1 else as_inputs(source, "the source")
    train, test = split(labels, seed, roles.groups(source), copies(rows, labels))
    check_sources(train, of_rows.get("sample_domain"))
    known = target.labelled
    if target.y is not None:
        known &= [not is_unknown(label, domains.classes) for label in target.y.tolist()]
    judged = Labelled(target, NO_LABELS)  # type: ignore[arg-type]
    if known.any():
        judged = Labelled(target[known], target[known].y)  # type: ignore[arg-type]
        encode(as_labels(judged.y, len(judged.y), "the label column of the target"), domains.classes, "the target")
    return Task(
        name="yours",
        source=Labelled(source[train], source.y[train]),  # type: ignore[arg-type,index]
        target=Labelled(target, NO_LABELS),  # type: ignore[arg-type]
        source_test=Labelled(source[test], source.y[test]),  # type: ignore[arg-type,index]
        target_test=judged,
    )


def adapt(
    study: Study, source: Table, target: Table, adapter: DomainAdapter, method: str, roles: Roles = NONE
) -> dict[str, DomainAdapter]:
    """Train source-only and the method, and leave models, target predictions and figures in the study's folder.

    Returns
    -------
    dict
        Name of the method → fitted `DomainAdapter`.
    """
    (seed,) = study.seeds
    task = user_task(source, target, seed, roles)
    of_rows = roles.of_rows(task.source.x)  # type: ignore[arg-type]
    names = ("source-only", method)
    estimators = {name: clone_with(adapter, name).set_params(**study.override) for name in names}
    for estimator in estimators.values():
        rehearse(estimator, Training((task.source.x, task.source.y, task.target.x), of_rows))
    enough = min(len(task.source_test.x), len(task.target_test.x)) >= 8  # rows a domain, for the proxy A-distance
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnitWarning)  # asked of all rows already
        models = {
            name: study.fit(task, estimator, seed, method=name, pad=enough, of_rows=of_rows)
            for name, estimator in estimators.items()
        }
    (study.folder / "target_predictions.csv").unlink(missing_ok=True)  # of an earlier model
    keep_judges(study.folder, task, models, method)
    write_predictions(study.folder / "target_predictions.csv", models[method], target)
    draw(study, task, models)
    return models


def keep_judges(folder: Path, task: Task, models: dict[str, DomainAdapter], method: str) -> None:
    """Keep the method's model, and what `reassess` needs to judge both on later target rows without the source."""
    tests, y, target = task.source_test.x, task.source_test.y, task.target.x
    some, others = (chosen(len(part), 0) for part in (tests, target))
    rows = tests[some], y[some], target[others]
    structure = models[method].structure(rows[0], rows[2], source_crowd=(task.source.x, task.source.y))
    ends = [
        candidate(name, model.seed_, model.steps, model, model.evidence(*rows, structure=structure), last=True)
        for name, model in models.items()
    ]
    save_judges(folder, ends, {"assessment": {"choice": method}}, models[method])


def clone_with(adapter: DomainAdapter, method: str) -> DomainAdapter:
    """Return an unfitted copy with another method; the settings of its own method stay with that."""
    from sklearn.base import clone

    copy = clone(adapter)
    return copy if method == method_name(adapter) else copy.set_params(method=method)


def method_name(adapter: DomainAdapter) -> str:
    """Return the name that the command line knows a method by."""
    config = adapter.config()["method"]
    return config if isinstance(config, str) else config["name"]


def write_predictions(path: str | Path, model: DomainAdapter, rows: Any) -> Path:
    """Write one line a row: its number, columns beside the features, the class, and the probability of every class."""
    import csv
    import io

    probabilities = model.predict_proba(rows)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    beside = getattr(rows, "beside", {})
    ours = ["prediction", *(f"probability of {c}" for c in model.classes_.tolist())]
    names = [f"{name} (given)" if name in ("row", *ours) else name for name in beside]
    writer.writerow(["row", *names, *ours])
    predicted = model.classes_[probabilities.argmax(1)].tolist()
    for i, (label, p) in enumerate(zip(predicted, probabilities, strict=True)):
        writer.writerow([i, *(values[i] for values in beside.values()), label, *(f"{v:.6g}" for v in p)])
    return runs.write(path, text.getvalue())


def draw(study: Study, task: Task, models: dict[str, DomainAdapter]) -> None:
    """Write losses over training and the features of both domains; with labels, the confusion on the target too."""
    with study.figure("training", 1, len(models), (4.4, 3.2)) as (_, axes):
        for ax, (name, model) in zip(axes[0], models.items(), strict=True):
            plots.history(ax, model.history_)
            ax.set_title(name)
    source, target = task.source_test.x[:1000], task.target.x[:1000]
    with study.figure("features", 1, len(models), (4, 3.6)) as (_, axes):
        for ax, (name, model) in zip(axes[0], models.items(), strict=True):
            features = [model.transform(source), model.transform(target)]
            flat = plots.projection(np.concatenate(features))
            plots.domains(ax, flat[: len(source)], flat[len(source) :])
            ax.set_title(f"{name}: features (PCA)")
            ax.legend(fontsize=8)
    if len(task.target_test.y):
        with study.figure("confusion", 1, len(models), (4, 3.8)) as (fig, axes):
            for ax, (name, model) in zip(axes[0], models.items(), strict=True):
                scores = model.evaluate(*task.target_test)
                plots.confusion(ax, np.array(scores["confusion"]), model.classes_.tolist())
                ax.set_title(f"{name}: {scores['accuracy']:.3f}")
            fig.suptitle("target rows with labels (oracle), in % of the true class")


def experiment(options: dict[str, Any]) -> Experiment:
    """Describe one adaptation to the `Study` that keeps it."""
    return Experiment("adapt", "your own data", run=lambda study: None, seeds=1, options=options)
