"""Several methods on the same data, judged side by side by what may be known without target labels."""

import json
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from . import runs
from .adapter import DomainAdapter, chosen
from .assessment import Assessment, assess
from .assessment import suggest_labels as suggest
from .domains import (
    Domains,
    UnitWarning,
    arrange,
    as_inputs,
    as_labels,
    encode,
    is_missing,
    names_of,
    target_labels,
)
from .engine import Step
from .estimator import TrainingDiverged, TrainingFailed, TrainingWarning, taken
from .evidence import CROWD, Evidence, NotFinite, Structure, crowd_of, structure_of
from .guards import harmful
from .methods import Method, SourceOnly, method_of, name_of
from .settings import OBJECTS, check_whole
from .shift import carriers
from .validators import VALIDATORS
from .validators.input_ami import input_ami

BASELINE = "source-only"
METHODS = ("dann", "cdan", "deep-coral", "mcc")
Methods = Sequence[str] | Mapping[str, Method | DomainAdapter]
NAME = re.compile(r"[\w+-][\w+. -]*")  # of a candidate: it names a folder
HELD_OUT = 0.2  # of each domain, for the evidence
SOME_COLUMNS, FEW_VALUES = 64, 20  # of rows that may be copies: columns looked at, and values of which chance is enough
MANY_COPIES = 0.05  # of the rows: a row that is as frequent is no test, nor is it held out with all its copies
BY_CHANCE = 0.01  # of the rows that are alike: more than may be alike by chance, for the others to be copies
UNLIKE = 0.5  # of how often labels of any two rows differ: rows that are alike are no copies where theirs do as often


@dataclass
class Candidate:
    """One training of a comparison, at one of its checkpoints.

    Parameters
    ----------
    name : str
        Of the method or setting.
    seed, step : int
    last : bool
        Whether this is the end of the training.
    scores : dict
        Name of a validator → score, higher is better; those that the rows are too few for are left out.
    events : list of str
        What guards saw up to here.
    alarms : list of str
        What of that rules the method out; of a training that failed, why.
    seconds : float
        Of the training up to here, without the judging; NaN where a comparison that goes on finds no note of it.
    evidence_seconds, validators_seconds : float
        Of the evidence, and of all validators on it.
    oracle_accuracy : float or None
        On labelled target rows, where there are some; it chooses nothing.
    model : DomainAdapter or None
        None where the training failed.
    evidence : Evidence or None
    """

    name: str
    seed: int
    step: int
    last: bool
    scores: dict[str, float] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    seconds: float = 0.0
    evidence_seconds: float = 0.0
    validators_seconds: float = 0.0
    oracle_accuracy: float | None = None
    model: DomainAdapter | None = field(default=None, repr=False)
    evidence: Evidence | None = field(default=None, repr=False)

    def report(self) -> dict[str, Any]:
        """Return what ``--json`` writes of it."""
        return {key: value for key, value in vars(self).items() if key not in ("model", "evidence")}


@dataclass
class Comparison:
    """What `compare` found.

    Parameters
    ----------
    candidates : list of Candidate
        Method by method, seed by seed, in the order of their steps; source-only first.
    assessment : Assessment
    target_rows : ndarray of int
        Numbers of the rows of ``X_target`` that were held out: the evidence's target rows.
    seconds : float
        Of the assessment, from the evidence.
    classes : list
        As in ``y``, in the order of the evidence's logits.
    carriers : list of dict or None
        Of tables: the columns that differ between the domains, the most different first; see `shift.carriers`.
    """

    candidates: list[Candidate]
    assessment: Assessment
    target_rows: np.ndarray
    seconds: float = 0.0
    classes: list[Any] = field(default_factory=list)
    carriers: list[dict[str, Any]] | None = None

    @property
    def model(self) -> DomainAdapter:
        """The model that the verdict takes: the training of its method that follows the target's clusters most."""
        trainings = [c for c in self.of(self.assessment.choice) if c.model is not None]
        model = trainings[most_following([c.scores for c in trainings])].model
        assert model is not None
        return model

    def of(self, name: str) -> list[Candidate]:
        """Return the ends of the trainings of a method, by seed."""
        return [c for c in self.candidates if c.name == name and c.last]

    @property
    def names(self) -> list[str]:
        """Names of the methods, source-only first."""
        return list(dict.fromkeys(c.name for c in self.candidates))

    def mean(self, name: str, validator: str, step: int | None = None) -> float:
        """Return the mean score of a method's trainings at a step, or at their ends; NaN where one has none."""
        these = self.of(name) if step is None else [c for c in self.candidates if c.name == name and c.step == step]
        return float(np.mean([c.scores.get(validator, np.nan) for c in these]))

    def selected(self, name: str) -> int:
        """Return the step that the validator "input-ami" selects, by the mean over seeds; the later one of equals."""
        steps = {c.step for c in self.candidates if c.name == name}
        return max(steps, key=lambda step: (np.nan_to_num(self.mean(name, "input-ami", step), nan=-1), step))

    def oracle(self, name: str, which: str = "last") -> float | None:
        """Return the mean accuracy on labelled target rows, None without such: an oracle's view.

        Parameters
        ----------
        which : {"last", "selected", "best"}
            The end of the trainings, the checkpoint that the validator "input-ami" selects, or the best of them by the
            labels themselves.
        """
        if which not in ("last", "selected", "best"):
            raise ValueError(f"unknown checkpoint {which!r}; choose one of: last, selected, best")
        by_step: dict[int, list[Candidate]] = {}
        for c in self.candidates:
            if c.name == name and c.oracle_accuracy is not None:
                by_step.setdefault(c.step, []).append(c)
        if not by_step:
            return None
        means = {step: float(np.mean([c.oracle_accuracy for c in group])) for step, group in by_step.items()}
        if which == "best":
            return max(means.values())
        if which == "selected":
            return means[self.selected(name)]
        return means[max(means)]

    def disagreement(self) -> dict[str, str]:
        """Return which method each validator would choose, by the mean over seeds at the end."""
        found = {}
        for validator in VALIDATORS:
            means = {name: self.mean(name, validator) for name in self.names}
            known = {name: value for name, value in means.items() if np.isfinite(value)}
            if known:
                found[validator] = max(known, key=known.__getitem__)
        return found

    def suggest_labels(self, n: int) -> np.ndarray:
        """Suggest n rows of ``X_target`` to label, among those that were held out; see `assessment.suggest_labels`.

        That takes evidence of any rows: of all of the target too.

        Raises
        ------
        ValueError
            n is not 1 … the number of held-out rows.
        """
        if not 1 <= n <= len(self.target_rows):
            raise ValueError(f"n={n} must lie in 1 … {len(self.target_rows)}, the number of target rows held out")
        evidence = [c.evidence for name in self.names for c in self.of(name) if c.evidence is not None]
        return self.target_rows[suggest(evidence, n)]

    def save(self, folder: str | Path) -> Path:
        """Write the chosen model, and all that `reassess` needs, into a folder.

        ``model.safetensors`` is the chosen model, ``comparison.json`` the report; ``judges/`` has the ends of all
        trainings, with their evidence, but for methods one of whose trainings failed: they are no candidates.

        Returns
        -------
        Path
            Of the model.
        """
        failed = {c.name for c in self.candidates if c.last and c.model is None}
        ends = [c for c in self.candidates if c.last and c.name not in failed]
        return save_judges(folder, ends, self.report(), self.model)

    def report(self) -> dict[str, Any]:
        """Return candidates, validators' choices, estimates, verdict, classes and columns that shift as JSON values."""
        return {
            "classes": self.classes,
            "carriers": self.carriers,
            "candidates": [c.report() for c in self.candidates],
            "choices": self.disagreement(),
            "assessment": self.assessment.report(),
        }


def save_judges(folder: str | Path, ends: Sequence[Candidate], report: Mapping[str, Any], model: DomainAdapter) -> Path:
    """Write a model and what `reassess` needs into a folder: trainings, at their ends, their evidence, and a report.

    The report goes first and comes last: without it nothing there is taken for a comparison.
    """
    folder, judges = Path(folder), []
    (folder / "comparison.json").unlink(missing_ok=True)
    for old in (*(folder / "judges").glob("[0-9]*.safetensors"), *(folder / "judges").glob("[0-9]*.evidence")):
        old.unlink()  # there may have been more of them
    for number, c in enumerate(ends):
        assert c.model is not None
        assert c.evidence is not None
        c.model.save(folder / "judges" / f"{number}.safetensors")
        bare = replace(c.evidence, other_target_logits=None, mixed_logits=None)
        runs.save_evidence(folder / "judges" / f"{number}.evidence", bare)
        judges.append({"name": c.name, "alarms": c.alarms})
    path = model.save(folder / "model.safetensors")
    runs.write_report(folder / "comparison.json", {**report, "judges": judges})
    return path


def compare(
    X: Any,
    y: Any,
    X_target: Any,
    methods: Methods = METHODS,
    *,
    sample_domain: Any = None,
    sample_weight: Any = None,
    groups: Any = None,
    y_oracle: Any = None,
    adapter: DomainAdapter | None = None,
    seeds: int = 2,
    checkpoints: int = 2,
    run: str | Path | None = None,
    on_step: Callable[[str, int, Step], None] | None = None,
) -> Comparison:
    """Train several methods, source-only always among them, and say which to take, if any.

    A fifth of the rows of both domains is held out; all trainings have the same rows. Scores of all validators stand
    side by side because none is right always; the verdict is that of `assess`.

    Parameters
    ----------
    X, y, X_target
        As for `DomainAdapter.fit`: the source, its labels, the target.
    methods : sequence of str, or mapping of str to Method or DomainAdapter
        Names from ``dann list``, or methods by names of your own, such as ``{"weak": DANN(weight=0.1)}``; estimators
        where other settings differ too. All are trained with ``on_collapse="warn"``, whatever theirs is: alarms rule a
        method out in the verdict.
    sample_domain, sample_weight : array (n,), optional
        As for `DomainAdapter.fit`, without target rows in ``X``. Held-out rows are drawn from all sources together, so
        that a small one may have none, and each counts once.
    groups : array (n,), optional
        What rows of ``X`` belong together, such as those of one patient or device: a group is held out as a whole, or
        not at all. Rows that know each other make a model look right on the source that is not.
    y_oracle : array, optional
        Target labels, with -1 (unless it is a class), None or NaN for unknown ones. They reach no training, no score
        and no verdict: `Candidate.oracle_accuracy` alone.
    adapter : DomainAdapter, optional
        The settings of source-only and of all that are given as names or methods. Default: those of the first
        estimator in ``methods``, or an estimator's own.
    seeds : int
        Trainings of each method, with seeds 0, 1, …; one alone makes poor estimates.
    checkpoints : int
        How often each training is scored, at even distances, the last time at its end.
    run : path, optional
        A folder for what the trainings leave: a comparison that was interrupted goes on there.
    on_step : callable, optional
        Called with name, seed and `Step`.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        Data or settings that cannot be trained on, a method that needs target labels, counts below 1.
    TrainingFailed
        A training of the baseline failed.
    """
    check_whole("seeds", seeds, 1)
    check_whole("checkpoints", checkpoints, 1)
    estimators = estimators_of(methods, adapter)
    of_rows = {"sample_domain": sample_domain, "sample_weight": sample_weight}
    classes, fitted_on, held_out = divided(X, y, X_target, groups, estimators.values(), **of_rows)
    oracle = None
    if y_oracle is not None:
        known = target_labels(y_oracle, as_inputs(X_target, "the target").shape[0], classes, what="y_oracle")
        rows = np.flatnonzero(known >= 0)
        oracle = (taken(X_target, rows), classes[known[rows]]) if len(rows) else None
    for estimator in estimators.values():
        rehearse(estimator, fitted_on)
    candidates: list[Candidate] = []
    for name, estimator in estimators.items():
        made = [
            one
            for seed in range(seeds)
            for one in trained(name, seed, estimator, fitted_on, held_out, checkpoints, run, on_step)
        ]
        score(made, oracle)
        candidates += made
    start = time.perf_counter()
    judged, seconds = verdict(candidates), time.perf_counter() - start
    if held_out.copied:
        judged = replace(judged, reasons=[*judged.reasons, held_out.copied])
    return Comparison(candidates, judged, held_out.target_rows, seconds, classes.tolist(), shifting(X, X_target))


def most_following(scores: Sequence[Mapping[str, float]]) -> int:
    """Return which of several trainings has classes that follow the target's clusters most, the first where all do."""
    return int(np.argmax([np.nan_to_num(one.get("input-ami", np.nan), nan=-1) for one in scores]))


Rows = tuple[Any, Any, Any]  # of the source, their labels, of the target


class Training(NamedTuple):
    """What all models of a comparison are trained on."""

    rows: Rows
    of_rows: Mapping[str, np.ndarray] = MappingProxyType({})  # what `fit` takes of every source row, by name


class HeldOut(NamedTuple):
    """What all models of a comparison are judged by."""

    rows: Rows
    structure: Structure
    target_rows: np.ndarray  # their numbers
    copied: str = ""  # what to tell of source rows that are copies of others


def divided(
    X: Any, y: Any, X_target: Any, groups: Any = None, estimators: Iterable[DomainAdapter] = (), **of_rows: Any
) -> tuple[np.ndarray, Training, HeldOut]:
    """Return the classes, the rows to train on, and those that are held out.

    Parameters
    ----------
    groups : array (n,), optional
        Of rows of ``X`` that are held out together.
    estimators : iterable of DomainAdapter
        One of which may know whether rows are series.
    **of_rows
        What `DomainAdapter.fit` takes of every row of ``X``: sample_domain, sample_weight, or None.

    Raises
    ------
    ValueError
        Data that cannot be trained on, or too few rows to hold some out.
    """
    given = {name: np.asarray(values) for name, values in of_rows.items() if values is not None}
    of_domain = given.get("sample_domain")
    if of_domain is not None and of_domain.dtype.kind in "iu" and (of_domain < 0).any():
        raise ValueError("sample_domain marks target rows in X: give them as X_target")
    domains = Domains.from_arrays(X, y, X_target, **given)  # type: ignore[arg-type]
    labels = as_labels(y, sum(len(d.y) for d in domains.sources), "y")
    source = domains.sources[0].x if len(domains.sources) == 1 else as_inputs(X, "the source")  # in the order of X
    codes = encode(labels, domains.classes, "y")
    train, test = split(codes, 0, groups, first := copies(source, codes))
    copied = "" if first is None else about_copies(first, train, test)
    check_sources(train, of_domain)
    order = np.random.default_rng(0).permutation(len(domains.target.x))
    n_test = round(HELD_OUT * len(order))
    if not n_test:
        raise ValueError(f"the target has {len(order)} rows: too few to hold some out")
    test, target_test = test[chosen(len(test), 0)], np.sort(order[:n_test])[chosen(n_test, 0)]
    sides = (train, np.sort(order[n_test:])), (test, target_test)
    fitted_on, rows = ((taken(X, rows), labels[rows], taken(X_target, others)) for rows, others in sides)
    training = Training(fitted_on, {name: values[train] for name, values in given.items()})
    crowd = np.concatenate([target_test, order[~np.isin(order, target_test)]])[:CROWD]
    x, x_target = as_inputs(rows[0], "the source"), domains.target.x
    series = any(one._takes_series(domains.shape) for one in estimators)
    sides_of = x, x_target[target_test], x_target[crowd]
    some = crowd_of(len(labels))
    more = as_inputs(taken(X, some), "the source"), encode(labels[some], domains.classes, "y")
    structure = structure_of(*sides_of, taken(X_target, crowd), len(domains.classes), series, more)
    return domains.classes, training, HeldOut(rows, structure, target_test, copied)


def shifting(X: Any, X_target: Any) -> list[dict[str, Any]] | None:
    """Return the columns of a table that differ between the domains, as JSON values; None of what is no table."""
    names = names_of(X)
    x, x_target = as_inputs(X, "the source"), as_inputs(arrange(X_target, names, "the target"), "the target")
    if x.ndim != 2:
        return None
    keys = ("column", "distance", "p_value")
    return [dict(zip(keys, one, strict=True)) for one in carriers(x, x_target, names) if one[2] < 0.05]


def first_of(methods: Methods) -> DomainAdapter | None:
    """Return the first estimator of a mapping, whose settings the others have where none are given."""
    given = methods.values() if isinstance(methods, Mapping) else ()
    return next((each for each in given if isinstance(each, DomainAdapter)), None)


def estimators_of(methods: Methods, base: DomainAdapter | None) -> dict[str, DomainAdapter]:
    """Return the estimators of a comparison by name, the baseline first; what is no estimator takes as many steps."""
    if base is None:
        base = first_of(methods) or DomainAdapter()
    if isinstance(methods, str):
        raise ValueError(f"methods={methods!r} is one name: give a sequence of names, such as [{methods!r}]")
    if not isinstance(methods, Mapping):
        methods = list(methods)
        for name in methods:
            if not isinstance(name, str):
                raise ValueError(f"methods holds {name!r}: give names, or a mapping of names to methods")
        own = base._method()  # with settings of the user's
        methods = {
            name: clone(base).set_params(method=own if name == name_of(own) else method_of(name)) for name in methods
        }
    base._check_settings()
    steps = base.steps + base.pretrain_steps
    made = {BASELINE: clone(base).set_params(method=BASELINE, pretrain_steps=0, steps=steps)}
    for name, given in methods.items():
        estimator = clone(base).set_params(method=given) if isinstance(given, Method) else given
        if not isinstance(estimator, DomainAdapter):
            kind = type(estimator).__name__
            raise ValueError(f"{name!r} is a {kind}: comparisons are of DomainAdapters, which classify")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(f"the name {name!r} cannot name a folder: take letters, digits, spaces and - + . _")
        method = estimator._method()
        if name == BASELINE and not isinstance(method, SourceOnly):
            raise ValueError(f"{name!r} names the baseline, which is no {type(method).__name__}: take another name")
        if method.uses_target_labels:
            raise ValueError(f"{name} trains on target labels, which no comparison does; leave it out")
        if not method.classifies:
            raise ValueError(f"{name} trains no classifier: there is nothing to compare; leave it out")
        if method.needs_pretraining and not estimator.pretrain_steps:
            half = estimator.steps // 2
            estimator = clone(estimator).set_params(steps=estimator.steps - half, pretrain_steps=half)
        made[name] = estimator
    if len(made) == 1:
        raise ValueError("there is nothing to compare source-only with: name a method")
    return {name: clone(estimator).set_params(on_collapse="warn") for name, estimator in made.items()}


def rehearse(estimator: DomainAdapter, data: Training) -> DomainAdapter | None:
    """Take one step on a few rows of every class: settings that cannot train show before hours of training do.

    Returns
    -------
    DomainAdapter or None
        None where the step failed for a reason that the training itself shall tell.

    Raises
    ------
    ValueError
        What `DomainAdapter.fit` would say of the settings and the rows.
    """
    x, y, x_target = data.rows
    sample_domain = data.of_rows.get("sample_domain")
    try:
        estimator._check_settings()
        needed = max(2, estimator._method().rows_needed, estimator.batch_size)
        firsts = [np.unique(kinds, return_index=True)[1] for kinds in (y, sample_domain) if kinds is not None]
        rows = np.unique(np.concatenate([*firsts, np.arange(min(needed, len(y)))]))
        few = np.arange(min(needed, as_inputs(x_target, "the target").shape[0]))
        one = clone(estimator).set_params(steps=1, pretrain_steps=min(1, estimator.pretrain_steps))
        columns = names_of(x)  # as the training has them: a few rows say nothing of how much a column varies
        source = as_inputs(taken(x, rows), "the source")
        target = as_inputs(arrange(taken(x_target, few), columns, "the target"), "the target")
        domain = {} if sample_domain is None else {"sample_domain": sample_domain[rows]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnitWarning)
            return one.fit(source, y[rows], target, **domain)
    except TypeError as error:
        raise ValueError(f"a setting has a value of the wrong kind: {error}") from error
    except TrainingFailed:
        return None


def trained(
    name: str,
    seed: int,
    estimator: DomainAdapter,
    data: Training,
    held_out: HeldOut,
    checkpoints: int,
    run: str | Path | None,
    on_step: Callable[[str, int, Step], None] | None,
) -> list[Candidate]:
    """Train one estimator and return its checkpoints; one alone, without a model, where the training failed."""
    model = clone(estimator).set_params(random_state=seed)
    folder = None if run is None else Path(run) / f"{name}-{seed}"
    steps = sorted({max(1, round(model.steps * k / checkpoints)) for k in range(1, checkpoints + 1)})
    found: dict[int, Candidate] = {}
    earlier = [] if folder is None else [seconds_in(path) for path in folder.glob("seconds-*.json")]
    spent, start = -max(earlier, default=0.0), time.perf_counter()  # a training that goes on has taken that long

    def keep(step: int, at: DomainAdapter) -> None:
        nonlocal spent
        before = time.perf_counter()
        made = found[step] = candidate(name, seed, step, at, evidence_of(at, held_out), last=step == model.steps)
        made.seconds = before - start - spent
        if folder is not None:
            place = folder / f"seconds-{step}.json"
            made.seconds = seconds_in(place) or made.seconds  # of the training itself, not of finding it done
            at.save(folder / f"model-{step}.safetensors")
            runs.write_json(place, made.seconds)
        made.evidence_seconds = time.perf_counter() - before
        spent += made.evidence_seconds

    def watch(step: Step) -> None:
        if on_step is not None:
            on_step(name, seed, step)
        done = step.number + 1
        if done in steps and done < model.steps:
            keep(done, model.snapshot())

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrainingWarning)  # they are kept as events
            warnings.simplefilter("ignore", UnitWarning)
            model.fit(*data.rows, **data.of_rows, run=folder, on_step=watch)
        keep(model.steps, model)
    except TrainingFailed as failure:
        seconds = time.perf_counter() - start - spent
        events = list(map(str, model.events_))
        return [Candidate(name, seed, model.steps, True, events=events, alarms=[str(failure)], seconds=seconds)]
    for step in set(steps) - set(found):  # those from before an interruption
        assert folder is not None
        path = folder / f"model-{step}.safetensors"
        if not path.exists():
            raise ValueError(f"{run} holds a comparison with other checkpoints; give another folder, or delete it")
        at = DomainAdapter.load(path, device=model.device, **objects_of(model, "method"))
        found[step] = candidate(name, seed, step, at, evidence_of(at, held_out), last=False)
        found[step].seconds = seconds_in(folder / f"seconds-{step}.json") or np.nan
    return [found[step] for step in steps]


def seconds_in(path: Path) -> float:
    """Return how long a training took, as a comparison kept it, 0 where it did not."""
    kept = runs.read_json(path)
    if kept is None:
        return 0.0
    if not isinstance(kept, (int, float)) or not 0 <= kept < np.inf:
        raise ValueError(f"{path} holds {str(kept)[:40]!r} where seconds belong; delete it")
    return kept


def evidence_of(model: DomainAdapter, held_out: HeldOut) -> Evidence:
    """Return the evidence of a model for all validators.

    Raises
    ------
    TrainingDiverged
        Its outputs are not finite.
    """
    try:
        return model.evidence(*held_out.rows, mixed=True, structure=held_out.structure)
    except NotFinite as error:
        raise TrainingDiverged(str(error)) from error


def candidate(name: str, seed: int, step: int, model: DomainAdapter, evidence: Evidence, *, last: bool) -> Candidate:
    """Return a candidate with what guards saw."""
    events = list(map(str, model.events_))
    return Candidate(
        name, seed, step, last, events=events, alarms=harmful(model.events_), model=model, evidence=evidence
    )


def score(candidates: Sequence[Candidate], oracle: tuple[Any, Any] | None) -> None:
    """Fill in the scores of one method's trainings."""
    for step in {c.step for c in candidates}:
        group = [c for c in candidates if c.step == step and c.evidence is not None]
        logits = [c.evidence.target_logits for c in group]  # type: ignore[union-attr]
        for k, c in enumerate(group):
            before = time.perf_counter()
            others = [other for i, other in enumerate(logits) if i != k]
            c.evidence = replace(c.evidence, other_target_logits=np.stack(others) if others else None)  # type: ignore[type-var]
            for name, validator in VALIDATORS.items():
                try:
                    c.scores[name] = validator(c.evidence)  # type: ignore[arg-type]
                except ValueError:
                    continue  # too few rows, or one training alone
            c.validators_seconds = time.perf_counter() - before
            if oracle is not None and c.model is not None:
                c.oracle_accuracy = float(c.model.score(*oracle))


def verdict(candidates: Sequence[Candidate]) -> Assessment:
    """Assess the ends of the trainings; a method one of whose trainings failed is no candidate."""
    ends: dict[str, list[Candidate]] = {}
    for c in candidates:
        if c.last:
            ends.setdefault(c.name, []).append(c)
    failed = {
        name: [a for c in group for a in c.alarms] for name, group in ends.items() if any(not c.model for c in group)
    }
    if BASELINE in failed:
        raise TrainingFailed(f"source-only itself cannot be trained: {failed[BASELINE][0]}")
    evidence = {name: [c.evidence for c in group] for name, group in ends.items() if name not in failed}
    alarms = {name: sorted({a for c in group for a in c.alarms}) for name, group in ends.items()}
    made = assess(evidence, baseline=BASELINE, alarms=alarms)  # type: ignore[arg-type]
    reasons = [f"{name} is ruled out: {why[0]}" for name, why in failed.items()]
    return replace(made, reasons=[*reasons, *made.reasons])


def reassess(
    folder: str | Path,
    X_target: Any,
    y_target: Any = None,
    *,
    methods: Methods = (),
    adapter: DomainAdapter | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Assessment:
    """Judge what a comparison trained on other target rows, such as those of the next month; no source is needed.

    What ``dann adapt`` trained can be judged so too.

    All its models are judged anew, and where another one is taken than the comparison saved, a reason says where it is.
    Of fewer than 20 rows nothing can be told, and what it chose stays.

    Parameters
    ----------
    folder : path
        Where `Comparison.save` wrote, or ``dann adapt``.
    X_target
        20 rows or more, of which a thousand are looked at.
    y_target : array, optional
        A few labels, as for `DomainAdapter.assess`.
    methods : mapping of str to Method or DomainAdapter, optional
    adapter : DomainAdapter, optional
        What `compare` was given, where that has objects of your own: files hold no code.
    device : str
    seed : int
        Of the choice of rows.

    Raises
    ------
    FileNotFoundError
        No comparison was written there.
    ValueError
        Rows or labels that do not fit, files that were altered.
    """
    folder = Path(folder)
    path = folder / "comparison.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no comparison: dann compare and dann adapt write one there")
    try:
        report = json.loads(path.read_text())
        judges = [(str(judge["name"]), judge["alarms"]) for judge in report["judges"]]
        if odd := [name for name, _ in judges if not NAME.fullmatch(name)]:
            raise ValueError(f"{odd[0]!r} is no name")
        if strange := [alarms for _, alarms in judges if not isinstance(alarms, list)]:
            raise TypeError(f"alarms are {strange[0]!r}, which is no list")
        saved, judged = str(report["assessment"]["choice"]), "decision" in report["assessment"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no readable comparison ({error!r}); run dann compare again") from error
    models, before = [], []
    for number, (name, _) in enumerate(judges):
        given = methods.get(name) if isinstance(methods, Mapping) else None
        if isinstance(given, Method):
            own = {**objects_of(adapter or first_of(methods)), "method": given}
        else:
            own = objects_of(adapter) if given is None else objects_of(given, "method")
        file = folder / "judges" / f"{number}.safetensors"
        try:
            models.append(DomainAdapter.load(file, device=device, **own))
        except runs.ModelFileError:
            if given is not None or not (settings := objects_of(first_of(methods))) or own:
                raise
            models.append(DomainAdapter.load(file, device=device, **settings))  # those that `compare` took
        before.append(runs.load_evidence(folder / "judges" / f"{number}.evidence"))
    if BASELINE not in {name for name, _ in judges}:
        raise ValueError(f"{path} names no model of {BASELINE}; run dann compare again")
    first = models[0]
    m = as_inputs(arrange(X_target, first.columns_, "the target"), "the target").shape[0]
    codes = target_labels(y_target, m, first.classes_, others=True)
    rows = chosen(m, seed, np.flatnonzero(codes >= 0))
    x, codes = taken(X_target, rows), codes[rows]
    structure = first.structure(None, x, X_target)
    evidence: dict[str, list[Evidence]] = {}
    alarms: dict[str, set[str]] = {}
    for (name, seen), model, old in zip(judges, models, before, strict=True):
        features, logits = model.outputs(x)
        own = {"target_neighbors": None, **model.structured(structure)}
        made = replace(old, target_features=features, target_logits=logits, **own)
        evidence.setdefault(name, []).append(made)
        alarms.setdefault(name, set()).update(map(str, seen))
    known = np.flatnonzero(codes >= 0), codes[codes >= 0]
    told = {name: sorted(messages) for name, messages in alarms.items()}
    found = assess(evidence, baseline=BASELINE, alarms=told, labelled=known)
    if judged and not found.estimates:  # too few rows: nothing speaks against what the comparison found
        return replace(found, choice=saved, sentence=found.sentence.replace(f"Keep {BASELINE}", f"Keep {saved}"))
    if found.choice != saved:
        theirs = [number for number, (name, _) in enumerate(judges) if name == found.choice]
        best = theirs[most_following([{"input-ami": input_ami(e)} for e in evidence[found.choice]])]
        place = folder / "judges" / f"{best}.safetensors"
        found.reasons.append(
            f"{folder / 'model.safetensors'} is the model of {saved}; that of {found.choice} is {place}"
        )
    return found


def objects_of(adapter: DomainAdapter | None, *more: str) -> dict[str, Any]:
    """Return the settings of an estimator that are objects, by the names that `DomainAdapter.load` has for them."""
    values = {} if adapter is None else {name: getattr(adapter, name) for name in (*OBJECTS, *more)}
    return {name: value for name, value in values.items() if value is not None and not isinstance(value, str)}


def reverse_risk(
    make: Callable[[], DomainAdapter],
    source: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    target: np.ndarray,
    seed: int,
) -> float:
    """Judge settings without target labels by training there and back: reverse validation, at twice a training's cost.

    A model trained from the source to the target labels the target; a second one, trained with the same settings from
    these labels back to the source, is judged on held-out source rows. It fails where classes that were swapped on the
    way there are swapped again on the way back.

    Parameters
    ----------
    make : callable
        () → a fresh `DomainAdapter`.
    source, validation : tuple of ndarray
        Rows and labels for training, and held-out ones.
    target : ndarray
        Unlabelled rows.
    seed : int
        Of both trainings.

    Returns
    -------
    float
        Error rate of the reverse model on the held-out source rows, 0 … 1; 1 where the target got one label only.

    References
    ----------
    Ganin et al., JMLR 17(59), 2016, section 5.1.2. The reverse model starts from new weights, where the paper starts it
    from those of the first.
    """
    forward = make().set_params(random_state=seed).fit(*source, target)
    pseudo = forward.predict(target)
    if len(np.unique(pseudo)) < 2:
        return 1.0
    backward = make().set_params(random_state=seed).fit(target, pseudo, source[0])
    return 1 - float(backward.score(*validation))


def copies(x: np.ndarray, codes: np.ndarray) -> np.ndarray | None:
    """Return the number of the first row that each row is a copy of, (n,) int; None where no rows are copies.

    Rows of few-valued columns may be alike by chance, as answers to a few questions are: these are no copies. Columns
    that depend on each other make that more likely than their values alone tell; where no column has half as many
    values as there are rows, labels (n,) have to speak for copies too.
    """
    rows, seen = x.reshape(len(x), -1), dict[bytes, int]()
    first = np.array([seen.setdefault(blake2b(row.tobytes()).digest(), i) for i, row in enumerate(rows)])
    more = len(rows) - len(seen)
    if not more:
        return None
    some = np.unique(np.linspace(0, rows.shape[1] - 1, SOME_COLUMNS).astype(int))
    different = rows[np.ix_(np.unique(first), some)]
    counts = [np.unique(column, return_counts=True)[1] for column in different.T]
    alike = np.prod([np.square(count / len(different)).sum() for count in counts])  # two rows, by independent columns
    by_chance = len(different) ** 2 / 2 * alike
    most = max(map(len, counts))
    if most <= FEW_VALUES or by_chance >= BY_CHANCE * more:
        return None
    unlike = (codes != codes[first]).sum() / more
    usual = 1 - np.square(np.bincount(codes) / len(codes)).sum()
    return None if most < len(rows) / 2 and unlike > UNLIKE * usual else first


def about_copies(first: np.ndarray, train: np.ndarray, test: np.ndarray) -> str:
    """Return how many rows are copies of others, and whether some were trained on while others were held out."""
    both = np.isin(first[test], first[train]).sum()
    apart = "no row is trained on and held out at once"
    leak = f"{both} held-out ones were trained on too, as groups share them: figures on held-out rows are too high"
    return f"{len(first) - len(np.unique(first))} rows of the source are copies of others; {leak if both else apart}"


def split(
    codes: np.ndarray, seed: int, groups: Any = None, first: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split row numbers into training and test rows, every class in its share; training has a row of every class.

    Parameters
    ----------
    codes : ndarray (n,)
        Of classes.
    seed : int
    groups : array (n,), optional
        No group has rows in both; shares are as near as groups allow.
    first : ndarray (n,) int, optional
        What `copies` returns: copies are no test of what was learned from the other ones, so they stay together.

    Raises
    ------
    ValueError
        There is nothing to test on, or no way to leave a row of every class to train on.
    """
    from sklearn.model_selection import train_test_split

    if groups is not None and (none := [i for i, group in enumerate(np.asarray(groups).tolist()) if is_missing(group)]):
        raise ValueError(
            f"groups are missing in {len(none)} rows, the first row {none[0]}: name each, if alone by itself"
        )
    if first is not None and groups is not None:
        groups = joined(np.asarray(groups), first)
    elif first is not None:
        own, count = np.unique(first, return_counts=True)
        rare = count <= max(1, MANY_COPIES * len(first))  # others, such as blank rows, are trained on
        own = own[rare] if 2 * rare.sum() > len(own) else own
        train, test = split(codes[own], seed)
        trained = ~np.isin(first, own[test])
        trained |= np.isin(first, first[~np.isin(codes, codes[trained])])  # copies may have different labels
        return np.flatnonzero(trained), np.flatnonzero(~trained)
    if groups is not None:
        return split_groups(codes, seed, np.asarray(groups))
    rows, one_each = np.arange(len(codes)), np.unique(codes, return_index=True)[1]
    if len(rows) == len(one_each):
        raise ValueError(f"the source has {len(rows)} rows of as many classes: none is left to test on")
    n_test = round(HELD_OUT * len(rows))
    if np.bincount(codes).min() < 2 or min(n_test, len(rows) - n_test) < len(one_each):  # too few to share out
        test = np.random.default_rng(seed).permutation(np.setdiff1d(rows, one_each))[: max(n_test, 1)]
        return np.setdiff1d(rows, test), test
    train, test = train_test_split(rows, test_size=HELD_OUT, random_state=seed, stratify=codes)
    return train, test


def joined(groups: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return groups, those joined that have copies of the same rows; as they are where few would be left."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if groups.shape != first.shape:
        return groups  # which is complained of later
    number = np.unique(groups.astype(str), return_inverse=True)[1]
    edges = coo_array((np.ones(len(first)), (number, len(number) + first)), shape=(2 * len(number),) * 2)
    made = connected_components(edges, directed=False)[1][number]
    return made if 2 * len(np.unique(made)) > number.max() else groups


def check_sources(train: np.ndarray, sample_domain: np.ndarray | None) -> None:
    """Raise ValueError where none of the rows to train on is of some source."""
    sources = 0 if sample_domain is None else len(np.unique(sample_domain))
    if sample_domain is not None and len(np.unique(sample_domain[train])) < sources:
        raise ValueError(f"all rows of one of the {sources} sources would be held out: leave it out, or join it")


def split_groups(codes: np.ndarray, seed: int, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split row numbers so that no group has rows on both sides; see `split`."""
    from sklearn.model_selection import StratifiedGroupKFold

    if groups.shape != codes.shape:
        raise ValueError(f"groups have shape {groups.shape}; expected one for each of the {len(codes)} rows")
    number = np.unique(groups.astype(str), return_inverse=True)[1]
    parts = min(round(1 / HELD_OUT), number.max() + 1, np.bincount(codes).max())
    if parts < 2:
        raise ValueError(
            "all rows of the source are of one group, or classes have one row each: none is left to test on"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes of fewer rows than parts
        folds = list(StratifiedGroupKFold(parts, shuffle=True, random_state=seed).split(codes, codes, number))
    whole = [fold for fold in folds if len(np.unique(codes[fold[0]])) == len(np.unique(codes)) and len(fold[1])]
    if whole:
        return min(whole, key=lambda fold: abs(len(fold[1]) / len(codes) - HELD_OUT))
    raise ValueError(f"the {number.max() + 1} groups leave no way to train on every class and test on other groups")
