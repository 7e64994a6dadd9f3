"""Hyper-parameter search without target labels, through Optuna."""

import json
import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from torch import nn

from .adapter import DomainAdapter
from .assessment import ROWS, UNTOLD
from .domains import UnitWarning, as_inputs, as_labels
from .engine import Step
from .estimator import TrainingFailed, TrainingWarning
from .guards import harmful
from .identity import identity, is_plain
from .runs import fingerprint
from .selection import Training, divided, evidence_of, rehearse
from .settings import check_whole
from .validators import VALIDATORS
from .validators.input_ami import ami

if TYPE_CHECKING:
    import optuna

Space = Mapping[str, "tuple[float, float] | tuple[float, float, str] | list[Any]"]


def tune(
    adapter: DomainAdapter,
    space: Space,
    X: Any,
    y: Any,
    X_target: Any,
    *,
    sample_domain: Any = None,
    sample_weight: Any = None,
    groups: Any = None,
    validator: str = "input-ami",
    trials: int = 20,
    checkpoints: int = 4,
    storage: str | Path | None = None,
    seed: int = 0,
    on_step: Callable[[int, Step], None] | None = None,
) -> "optuna.Study":
    """Search settings by a validator's score on held-out rows; no target label is needed, or taken.

    Each trial trains once, with the estimator's seed. It is pruned where a guard sees a collapse, a divergence or that
    the source is lost (not where the adversary is dead, which harms no model), where the training fails, and where its
    score at a checkpoint is below the median of the trials before it, five of which came to their end. The best
    settings are ``study.best_params``, for ``adapter.set_params``. The same call with the same storage goes on where it
    stopped: a trial that was cut off is drawn again. Whether the best of them is better than source-only is for
    `compare` to say: a search never compares with that.

    Parameters
    ----------
    adapter : DomainAdapter
        With all settings that are not searched; its ``on_collapse`` is not looked at: trials are pruned instead.
    space : mapping of str
        Parameter → ``(low, high)``, whole numbers where both are; ``(low, high, "log")``; or a list of choices.
        Parameters of the method are ``method__weight`` and so on.
    X, y, X_target
        As for `DomainAdapter.fit`. A fifth of both domains is held out.
    sample_domain, sample_weight, groups : array (n,), optional
        As for `compare`.
    validator : str
        Name from ``dann list``. Not "agreement", which needs several trainings. A warning says where "input-ami" has
        nothing to go by: clusters of the source's inputs that have next to nothing to do with its classes.
    trials : int
        How many in all, ≥ 1; those that the storage has, finished or pruned, are not made again.
    checkpoints : int
        How often a trial is scored, ≥ 1.
    storage : str or path, optional
        A file (kept by Optuna as a journal), or the URL of a database that Optuna knows; None keeps nothing. Of one
        process at a time: trials that are under way there are taken for those of one that was killed.
    seed : int
        Of the search.
    on_step : callable, optional
        Called with the trial's number and `Step`.

    Returns
    -------
    optuna.Study

    Raises
    ------
    ImportError
        Optuna is not installed.
    ValueError
        An unknown parameter or validator, too few rows for it, a range that is none, counts below 1, a storage of
        another search, or one that cannot be opened.
    TrainingFailed
        Every trial was pruned.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError("tuning needs Optuna: pip install 'dann[tune]'") from error
    if not isinstance(adapter, DomainAdapter):
        raise ValueError(f"a {type(adapter).__name__} cannot be tuned: validators judge a DomainAdapter's classes")
    adapter = clone(adapter).set_params(method=adapter._method())  # with the parameters of one given by name
    known = adapter.get_params()
    for name, choices in space.items():
        check(name, choices, known)
    kept = lambda choices: not isinstance(choices, list) or all(map(is_plain, choices))  # noqa: E731
    if storage is not None and (odd := [name for name, choices in space.items() if not kept(choices)]):
        raise ValueError(
            f"{odd[0]} is searched among objects, which no storage keeps: search their parameters, such as "
            "backbone__hidden, or leave the storage out"
        )
    if not space:
        raise ValueError("the space is empty: name a parameter to search, such as lr with (1e-4, 1e-2, 'log')")
    if validator not in VALIDATORS or validator == "agreement":
        names = ", ".join(name for name in VALIDATORS if name != "agreement")
        why = "cannot score a single training" if validator in VALIDATORS else "is unknown"
        raise ValueError(f"validator={validator!r} {why}; choose one of: {names}")
    for what, value, least in (("trials", trials, 1), ("checkpoints", checkpoints, 1), ("seed", seed, 0)):
        check_whole(what, value, least)
    of_source = {"sample_domain": sample_domain, "sample_weight": sample_weight}
    _, data, held_out = divided(X, y, X_target, groups, [adapter], **of_source)
    labels, found = held_out.rows[1], held_out.structure.source_clusters
    judged = validator == "input-ami" and len(labels) >= ROWS
    if judged and found is not None and (told := ami(labels, found)) < UNTOLD:
        warnings.warn(
            f"clusters of the source's inputs say next to nothing about its classes (adjusted mutual information "
            f"{told:.2f}), nor may those of the target's: give another validator than 'input-ami'",
            stacklevel=2,
        )
    base = clone(adapter).set_params(on_collapse="warn")
    if (model := rehearse(base, data)) is not None:
        with suppress(TrainingFailed):
            VALIDATORS[validator](evidence_of(model, held_out))  # says now where the rows are too few for it
    for name, choices in space.items():  # each by itself, before anything is kept
        for choice in choices if isinstance(choices, list) else choices[:2]:
            tried(base, space, name, choice, data)

    def objective(trial: "optuna.Trial") -> float:
        model = clone(base).set_params(**{name: suggest(trial, name, choices) for name, choices in space.items()})
        at = {max(1, round(model.steps * k / checkpoints)): k for k in range(1, checkpoints)}  # step → checkpoint

        def score(judged: DomainAdapter) -> float:
            return VALIDATORS[validator](evidence_of(judged, held_out))

        def watch(step: Step) -> None:
            if on_step is not None:
                on_step(trial.number, step)
            if alarms := harmful(model.events_):
                trial.set_user_attr("alarm", alarms[0])
                raise optuna.TrialPruned(alarms[0])
            done = step.number + 1
            if done in at and done < model.steps:
                trial.report(score(model.snapshot()), at[done])  # not the step: trials may differ in length
                if trial.should_prune():
                    raise optuna.TrialPruned(f"below the median at step {done}")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrainingWarning)
            warnings.simplefilter("ignore", UnitWarning)
            try:
                model.fit(*data.rows, **data.of_rows, on_step=watch)
                return score(model)
            except TrainingFailed as failure:
                trial.set_user_attr("alarm", str(failure))
                raise optuna.TrialPruned(str(failure)) from failure

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # its warnings are the tracebacks of what is raised anyway
    study = opened(storage)
    arrays = [as_inputs(side, "the data") for side in (X, X_target)]
    of_groups = None if groups is None else np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]
    given = {"sample_domain": sample_domain, "sample_weight": sample_weight, "groups": of_groups}
    of_rows = {name: np.asarray(values) for name, values in given.items() if values is not None}
    classes, codes = np.unique(as_labels(y, len(arrays[0]), "y"), return_inverse=True)
    searched = {"space": repr(dict(space)), "validator": validator, "classes": classes.tolist()}
    searched["checkpoints"] = str(checkpoints)
    layers = base.backbone.modules() if isinstance(base.backbone, nn.Module) else ()
    searched["objects"] = identity(base.method, base.backbone, base.augmentation, base.strong_augmentation, *layers)
    mark = fingerprint(
        [*arrays, codes, *of_rows.values()], {"adapter": base.config(), "of_rows": [*of_rows], **searched}
    )
    if study.user_attrs.get("fingerprint", mark) != mark:
        raise ValueError(
            f"{storage} holds a search with other data, settings, space, method, seed or validator; delete it, or give "
            "another folder or storage"
        )
    study.set_user_attr("fingerprint", mark)
    state = optuna.trial.TrialState
    for trial in study.get_trials(deepcopy=False, states=(state.RUNNING,)):  # of a process that was killed
        study.tell(trial.number, state=state.FAIL)
    made = len(study.get_trials(deepcopy=False, states=(state.COMPLETE, state.PRUNED)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Choices for a categorical")  # that tuples become lists in a storage
        for done in range(made, trials):
            study.sampler = optuna.samplers.TPESampler(seed=seed + 1000 * done)
            study.optimize(objective, n_trials=1)
    if not any(trial.state == state.COMPLETE for trial in study.trials):
        raise TrainingFailed(
            f"every trial was pruned, the last one because: {study.trials[-1].user_attrs.get('alarm')}"
        )
    return study


def tried(base: DomainAdapter, space: Space, name: str, choice: Any, data: Training) -> None:
    """Rehearse one choice, by itself or with the first or the last choices of the other parameters.

    Raises
    ------
    ValueError
        It cannot be trained with in any of these ways.
    """
    last = {key: choices[-1] if isinstance(choices, list) else choices[1] for key, choices in space.items()}
    others: list[dict[str, Any]] = [{}, {key: choices[0] for key, choices in space.items()}, last]
    errors = []
    for other in others:
        try:
            given = {key: clone(value, safe=False) for key, value in {**other, name: choice}.items()}
            rehearse(clone(base).set_params(**given), data)
            return
        except ValueError as error:
            errors.append(error)
    raise errors[0]


def opened(storage: str | Path | None) -> "optuna.Study":
    """Return the search that a storage holds, a new one where it holds none.

    Raises
    ------
    ValueError
        The storage is a URL that Optuna cannot open, or a file of something else.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    url = "://" in str(storage)
    try:
        place: Any = storage
        if url:
            place = str(storage)
        elif storage is not None:
            Path(storage).parent.mkdir(parents=True, exist_ok=True)
            if Path(storage).exists():  # Optuna takes one broken line for an unfinished one, and writes behind it
                lines = Path(storage).read_text().splitlines(keepends=True)
                if lines and "op_code" not in json.loads(lines[0]):
                    raise ValueError(f"it starts with {lines[0][:40].strip()!r}")
                if lines and not lines[-1].endswith("\n"):
                    raise ValueError("its last line is half-written: delete that line to go on")
            place = JournalStorage(JournalFileBackend(str(storage)))
        pruner = optuna.pruners.MedianPruner()
        return optuna.create_study(
            direction="maximize", pruner=pruner, study_name="dann", storage=place, load_if_exists=True
        )
    except OSError:  # names the file
        raise
    except Exception as error:  # whatever Optuna, SQLAlchemy or a driver has
        why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
        if not url:
            raise ValueError(
                f"{storage} is no readable search ({why}); give another file, or delete one that broke"
            ) from error
        raise ValueError(
            f"the storage {storage} cannot be opened ({why}); give a file, such as trials.log, or the URL of a "
            "database that is there and whose driver is installed, such as sqlite:///trials.db"
        ) from error


def check(name: str, choices: Any, known: Mapping[str, Any]) -> None:
    """Raise where a parameter cannot be searched so."""
    if name not in known:
        raise ValueError(f"there is no parameter {name!r} to search; there are: {', '.join(known)}")
    if not is_range(choices):
        raise ValueError(
            f"{name}={choices!r} is no range: the lower end comes first, (low, high), with 'log' behind it above 0; "
            "or give a list of choices"
        )


def is_range(choices: Any) -> bool:
    """Whether a search can draw from it: (low, high), (low, high, "log") with low > 0, or a list of choices."""
    if isinstance(choices, list):
        return bool(choices)
    if not isinstance(choices, tuple) or len(choices) not in (2, 3) or choices[2:] not in ((), ("log",)):
        return False
    low, high = choices[:2]
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (low, high))
    return numbers and -math.inf < low < high < math.inf and (len(choices) == 2 or low > 0)


def suggest(trial: "optuna.Trial", name: str, choices: Any) -> Any:
    """Draw one parameter."""
    if isinstance(choices, list):
        return clone(trial.suggest_categorical(name, choices), safe=False)  # the trial sets parameters of it
    low, high, log = choices[0], choices[1], len(choices) == 3
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return trial.suggest_float(name, low, high, log=log)
