"""The command line: a thin skin over estimator, readers and experiments. Heavy imports wait for the command."""

import ast
import atexit
import gc
import hashlib
import re
import shutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter
from rich.console import Console

if TYPE_CHECKING:
    from .adapter import DomainAdapter
    from .experiments import Study
    from .experiments.adapt import Roles
    from .methods import Method
    from .readers import Table

app = App(
    name="dann",
    help="Unsupervised domain adaptation: train on labelled source data, be right on unlabelled target data.",
    help_format="markdown",
    version=lambda: __import__("dann").__version__,
    suppress_keyboard_interrupt=False,  # main says what it means
)
console = Console(emoji=False)
errors = Console(stderr=True, emoji=False)

Seeds = Annotated[int | None, Parameter(help="How many seeds to run. Default: the experiment's own.")]
FirstSeed = Annotated[int, Parameter(help="The first of them.")]
Json = Annotated[Path | None, Parameter(help="Also write all results into this file.")]
Out = Annotated[
    Path | None, Parameter(help="The run folder. Default: runs/ and the name of the command or experiment.")
]
REPEATED: dict[str, Any] = {"negative": "", "show_default": False}  # of options that may be given several times
KEPT = (  # parts of a run folder by which it is read
    "model.safetensors",
    "study.json",
    "comparison.json",
    "models",
    "judges",
    "trainings",
    "snapshots",
    "trials.log",
)
RESERVED = {"method": "--method", "random_state": "--seed", "device": "--device"}
Label = Annotated[str | None, Parameter(help="Name of the label column. Default: label or y.")]
Drop = Annotated[
    tuple[str, ...],
    Parameter(
        name="--drop",
        **REPEATED,
        help="A column that is no feature, such as an id; repeat it for others. Predictions keep it beside.",
    ),
]
Group = Annotated[
    str | None,
    Parameter(
        help="A column, such as a patient's id, of whose source rows those that agree are held out together; it is no "
        "feature."
    ),
]
DomainColumn = Annotated[
    str | None,
    Parameter(help="A column that says which of several sources a row is of, such as a site; it is no feature."),
]
Weight = Annotated[
    str | None,
    Parameter(help="A column that says how often training draws a row, in proportion to others; it is no feature."),
]
Set = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        **REPEATED,
        help="A setting of the estimator, KEY=VALUE, such as steps=500 or method__weight=0.5; repeat it for others.",
    ),
]
Device = Annotated[str, Parameter(help="cpu, cuda, …; auto takes a GPU where there is one.")]
Precision = Annotated[str | None, Parameter(help="fp32, bf16 or auto: of convolutions and matrix products.")]


@app.command
def demo(
    *,
    seeds: Seeds = None,
    seed: FirstSeed = 0,
    json: Json = None,
    out: Out = None,
    device: Device = "auto",
    precision: Precision = None,
) -> None:
    """See it happen on two moons and on handwritten digits, without a download, in about a minute."""
    _reproduce("demo", {}, seeds, seed, json, out, device, precision)


@app.command
def reproduce(
    name: str,
    domains: Annotated[tuple[str, ...], Parameter(help="Of amazon-reviews: SOURCE TARGET.")] = (),
    /,
    *,
    seeds: Seeds = None,
    seed: FirstSeed = 0,
    steps: Annotated[int | None, Parameter(help="Training steps, instead of the experiment's own.")] = None,
    recipe: Annotated[str | None, Parameter(help="Of mnist-m: tuned, the default, paper, classic or strong.")] = None,
    fast: Annotated[bool, Parameter(negative="", help="Of amazon-reviews: fixed hyper-parameters.")] = False,
    json: Json = None,
    out: Out = None,
    device: Device = "auto",
    precision: Precision = None,
) -> None:
    """Run an experiment and print its figures beside the published ones. `dann list` shows the names."""
    given = {"domains": list(domains), "steps": steps, "recipe": recipe, "fast": fast}
    if steps is not None and steps < 1:
        raise ValueError(f"--steps {steps} must be at least 1")
    _reproduce(name, {k: v for k, v in given.items() if v}, seeds, seed, json, out, device, precision)


@app.command
def adapt(
    *,
    target: Annotated[
        Path, Parameter(help="Rows of the domain you care about. Labels, if any, only judge the result.")
    ],
    source: Annotated[Path | None, Parameter(help="Labelled rows: .csv, .npz or .npy.")] = None,
    model: Annotated[
        Path | None, Parameter(help="Instead of --source: a model, or its run folder, to go on from without a source.")
    ] = None,
    label: Label = None,
    drop: Drop = (),
    group: Group = None,
    domain: DomainColumn = None,
    weight: Weight = None,
    method: Annotated[
        str | None, Parameter(help="See `dann list`; several joined by +. Default: dann; with --model: shot.")
    ] = None,
    set: Set = (),
    seed: Annotated[int, Parameter(help="Of everything random.")] = 0,
    json: Json = None,
    out: Annotated[
        Path | None, Parameter(help="The run folder. Default: runs/adapt; with --model: runs/METHOD.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Adapt a model from your labelled source to your unlabelled target, and save it.

    With `--model` a method that needs no source goes on from a saved model, for a tenth of its steps and lr unless set.
    """
    from .adapter import DomainAdapter
    from .experiments.adapt import Roles, experiment
    from .experiments.adapt import adapt as train
    from .experiments.study import Study
    from .runs import alone

    if seed < 0:
        raise ValueError(f"--seed {seed} must be 0 or more")
    _check(device, json)
    roles = Roles(group, domain, weight)
    if model is not None:
        if source is not None or any(roles):
            given = ["source"] * (source is not None) + [k for k, name in roles._asdict().items() if name is not None]
            raise ValueError(f"--model goes on without a source: leave out {', '.join(f'--{name}' for name in given)}")
        return _go_on(model, target, label, drop, method or "shot", set, seed, json, out, device)
    if source is None:
        raise ValueError("give --source, labelled rows to train on, or --model, a saved model to go on from")
    method = method or "dann"
    folder = out or Path("runs") / "adapt"
    _check_kept((source, target, folder), (json, folder / "target_predictions.csv"))
    _check_outside(folder, (source, target))
    made = _trainable(method)
    if made.uses_target_labels:
        raise ValueError(f"{method} trains on target labels, which adapt never does; choose another method")
    if not made.classifies:
        raise ValueError(f"{method} trains no classifier, so there is nothing to predict with; choose another method")
    adapter = DomainAdapter(made)
    settings = _settings(set)
    _check_names("--set", settings, adapter.get_params(), method)
    adapter.set_params(**settings)
    source_rows, target_rows = _read(source, target, label, drop, roles)
    options: dict[str, Any] = {"source": str(source), "target": str(target), "label": label, "drop": list(drop)}
    options |= roles._asdict()
    options["adapter"] = adapter.config()
    options["data"] = _digests(source, target)
    with alone(folder), _progress() as on_progress:
        study = Study(experiment(options), folder, [seed], device=device, on_progress=on_progress)
        train(study, source_rows, target_rows, adapter, method, roles)
        study.run()
    _print(study, json)
    if not any("accuracy" in row and row["domain"] == "target" for row in study.rows):
        _say(f"The target has no labels; `dann assess {folder} --target FILE`, with new rows, estimates the accuracy.")
    _say(f"Model: {study.folder / 'model.safetensors'}\nPredictions: {study.folder / 'target_predictions.csv'}")


@app.command
def compare(
    *,
    source: Annotated[Path, Parameter(help="Labelled rows: .csv, .npz or .npy.")],
    target: Annotated[Path, Parameter(help="Rows of the domain you care about. Labels feed the oracle columns alone.")],
    label: Label = None,
    drop: Drop = (),
    group: Group = None,
    domain: DomainColumn = None,
    weight: Weight = None,
    methods: Annotated[
        str | None,
        Parameter(help="Names from `dann list`, with commas between them. Default: dann,cdan,deep-coral,mcc."),
    ] = None,
    set: Set = (),
    seeds: Annotated[int, Parameter(help="Trainings of each method.")] = 2,
    checkpoints: Annotated[int, Parameter(help="How often each training is scored.")] = 2,
    json: Json = None,
    out: Out = None,
    device: Device = "auto",
) -> None:
    """Train several methods on your data, judge them without target labels, and say which to take, if any."""
    from .adapter import DomainAdapter
    from .assessment import ROWS
    from .experiments.adapt import Roles, write_predictions
    from .experiments.comparing import classes_that_shift, columns_that_shift, draw, side_by_side
    from .runs import alone, fingerprint, write_report
    from .selection import HELD_OUT, METHODS
    from .selection import compare as train

    _check(device, json)
    folder = out or Path("runs") / "compare"
    _check_kept((source, target, folder), (json, folder / "target_predictions.csv"))
    _check_outside(folder, (source, target))
    if (folder / "study.json").exists():
        raise ValueError(f"{folder} holds the run of another command (study.json): give another folder with --out")
    names = METHODS if methods is None else tuple(filter(None, map(str.strip, methods.split(","))))
    settings = _settings(set, {"random_state": "--seeds", "method": "--methods", "device": "--device"})
    if twice := [name for k, name in enumerate(names) if name in names[:k]]:
        raise ValueError(f"--methods names {twice[0]} twice: name each once")
    chosen = {name: DomainAdapter(_trainable(name), device=device) for name in names}
    known = {key: value for estimator in chosen.values() for key, value in estimator.get_params().items()}
    _check_names("--set", settings, known or DomainAdapter().get_params(), ", ".join(names))
    for estimator in chosen.values():
        estimator.set_params(**{key: value for key, value in settings.items() if key in estimator.get_params()})
    general = {key: value for key, value in settings.items() if not key.startswith("method__")}
    adapter = DomainAdapter(device=device).set_params(**general)
    roles = Roles(group, domain, weight)
    source_rows, target_rows = _read(source, target, label, drop, roles)
    data = source_rows, source_rows.y, target_rows
    if round(HELD_OUT * min(len(source_rows), len(target_rows))) < ROWS:
        _say(f"Note: a verdict needs {ROWS} held-out rows of both domains, a fifth of {round(ROWS / HELD_OUT)}.")
    asked = [chosen[name].config() for name in chosen], checkpoints, label, names, drop, roles
    mark = fingerprint((), (*asked, _digests(source, target)))  # others start anew
    trainings = folder / "trainings" / f"compare-{mark}"
    with alone(folder), _progress() as on_progress:
        found = train(
            *data,
            chosen,
            groups=roles.groups(source_rows),
            **roles.of_rows(source_rows),
            y_oracle=_known(target_rows),
            adapter=adapter,
            seeds=seeds,
            checkpoints=checkpoints,
            run=trainings,
            on_step=lambda name, seed, step: (
                on_progress(f"{name} · seed {seed}", step.number + 1, adapter.steps) if step.number % 20 == 19 else None
            ),
        )
        for other in trainings.parent.iterdir():
            if other != trainings and re.fullmatch(r"compare-[0-9a-f]{32}", other.name):  # of another command
                shutil.rmtree(other)
        (folder / "target_predictions.csv").unlink(missing_ok=True)  # of another model
        model = found.save(folder)
        write_predictions(folder / "target_predictions.csv", found.model, target_rows)
        figure = draw(found, folder / "figures" / "estimates.png")
    if json is not None:
        write_report(json, found.report())
    for table in side_by_side(found):
        _show(table)
    for line in (*found.assessment.reasons, *classes_that_shift(found), *columns_that_shift(found)):
        _say(f"- {line}")
    console.print("\n[bold]Verdict:[/bold]", end=" ")
    _say(found.assessment.sentence)
    _say(f"Model: {model}\nPredictions: {folder / 'target_predictions.csv'}")
    if figure is not None:
        _say(f"  {figure}")
    if json is not None:
        _say(f"Report: {json}")


@app.command
def assess(
    model: Annotated[
        Path,
        Parameter(
            help="A run folder of `dann compare` or `dann adapt --source`, or a model file together with --source."
        ),
    ],
    /,
    *,
    target: Annotated[Path, Parameter(help="Target rows. A few labels of rows drawn at random make it more precise.")],
    source: Annotated[Path | None, Parameter(help="For a model file: labelled source rows that are new to it.")] = None,
    baseline: Annotated[Path | None, Parameter(help="For a model file: one trained on the source alone.")] = None,
    label: Label = None,
    drop: Drop = (),
    json: Json = None,
    device: Device = "auto",
) -> None:
    """Judge a saved model on target rows: how right is it, and is it better than one of the source alone?"""
    from .adapter import DomainAdapter
    from .experiments.comparing import estimates_of
    from .runs import write_report
    from .selection import reassess

    _check(device, json)
    _check_kept((model, target, source, baseline), (json,))
    adapter = DomainAdapter.load(model, device=device)
    if baseline is not None and source is None:
        raise ValueError("--baseline goes with --source, labelled rows that are new to both models")
    if source is None and not (model / "comparison.json").exists():
        raise ValueError(_unjudged(model))
    files = {"the target": target} if source is None else {"the target": target, "the source": source}
    target_rows, *others = _read_for(adapter, files, label, drop)
    if source is None:
        found = reassess(model, target_rows, _known(target_rows), device=device)
    else:
        (rows,) = others
        below = None if baseline is None else DomainAdapter.load(baseline, device=device)
        found = adapter.assess(rows, rows.y, target_rows, _known(target_rows), baseline=below)
    if json is not None:
        write_report(json, found.report())
    if len(found.estimates) > 1:
        _show(estimates_of(found))
    for line in found.reasons:
        _say(f"- {line}")
    console.print("[bold]Verdict:[/bold]", end=" ")
    _say(found.sentence)


@app.command
def tune(
    *,
    source: Annotated[Path, Parameter(help="Labelled rows: .csv, .npz or .npy.")],
    target: Annotated[Path, Parameter(help="Rows of the domain you care about. Labels are not looked at.")],
    label: Label = None,
    drop: Drop = (),
    group: Group = None,
    domain: DomainColumn = None,
    weight: Weight = None,
    method: Annotated[str, Parameter(help="See `dann list`; several joined by +.")] = "dann",
    search: Annotated[
        tuple[str, ...],
        Parameter(
            **REPEATED,
            help="KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=A,B,C, such as lr=1e-4:1e-2:log; repeat it for others.",
        ),
    ],
    set: Set = (),
    validator: Annotated[str, Parameter(help="What to maximise; see `dann list`.")] = "input-ami",
    trials: Annotated[int, Parameter(help="How many in all; those that are there are not made again.")] = 20,
    storage: Annotated[
        str | None, Parameter(help="A file, or a URL that Optuna knows. Default: trials.log in the run folder.")
    ] = None,
    seed: Annotated[int, Parameter(help="Of the search and the trainings.")] = 0,
    json: Json = None,
    out: Out = None,
    device: Device = "auto",
) -> None:
    """Search hyper-parameters without target labels. The same command goes on where it stopped."""
    from .adapter import DomainAdapter
    from .experiments.adapt import Roles
    from .experiments.comparing import trials_of
    from .runs import alone, write_report
    from .tuning import tune as find

    _check(device, json)
    folder = out or Path("runs") / "tune"
    place: Any = storage or folder / "trials.log"
    _check_kept((source, target), (json, None if "://" in str(place) else Path(place)))
    settings = {"random_state": seed, "device": device, **_settings(set)}
    space = _named("--search", map(_range, search))
    adapter = DomainAdapter(_trainable(method))
    _check_names("--set", settings, adapter.get_params(), method)
    _check_names("--search", space, adapter.get_params(), method)
    adapter.set_params(**settings)
    roles = Roles(group, domain, weight)
    source_rows, target_rows = _read(source, target, label, drop, roles)
    length = None if "steps" in space else adapter.steps
    with nullcontext() if storage else alone(folder), _progress() as on_progress:
        study = find(
            adapter,
            space,
            source_rows,
            source_rows.y,
            target_rows,
            groups=roles.groups(source_rows),
            **roles.of_rows(source_rows),
            validator=validator,
            trials=trials,
            storage=place,
            seed=seed,
            on_step=lambda trial, step: (
                on_progress(f"trial {trial}", step.number + 1, length) if step.number % 20 == 19 else None
            ),
        )
    console.print(trials_of(study))
    best = [f"{key}={value}" for key, value in study.best_params.items()]
    fixed = [setting for setting in set if _setting(setting)[0] not in study.best_params]
    flags = " ".join(f"--set {setting}" for setting in (*best, *fixed))
    _say(f"Best by {validator}: {' '.join(best)}\nTrials: {place}")
    _say(f"Is it better than source-only? dann compare … --methods {method} {flags}")
    if json is not None:
        trials_made = [{"number": t.number, "state": t.state.name, "value": t.value, **t.params} for t in study.trials]
        write_report(json, {"best": study.best_params, "validator": validator, "trials": trials_made})
        _say(f"Report: {json}")


@app.command
def predict(
    model: Annotated[Path, Parameter(help="A model file, or the run folder that holds it.")],
    data: Annotated[Path, Parameter(help="Rows: .csv, .npz or .npy; a label column is left out.")],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="The CSV file to write.")],
    label: Annotated[str | None, Parameter(help="Name of a label column to leave out.")] = None,
    drop: Drop = (),
    device: Device = "auto",
) -> None:
    """Apply a saved model to new rows."""
    from .adapter import DomainAdapter
    from .experiments.adapt import write_predictions

    _check(device)
    _check_kept((model, data), (out,))
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder; -o takes a file")
    if out.suffix.lower() in (".npz", ".npy", ".parquet", ".json", ".xlsx"):
        raise ValueError(f"-o writes CSV, and {out.name} says something else: give a name that ends in .csv")
    adapter = DomainAdapter.load(model, device=device)
    (rows,) = _read_for(adapter, {"the data": data}, label, drop)
    write_predictions(out, adapter, rows)
    _say(f"{len(rows)} predictions: {out}")


@app.command(name="list")
def list_() -> None:
    """Show methods, backbones, augmentations, validators, datasets, experiments and recipes."""
    from rich.table import Table

    from .augmentation import PRESETS
    from .backbones import BACKBONES
    from .datasets import DATASETS
    from .experiments import EXPERIMENTS
    from .experiments.recipes import RECIPES
    from .methods import METHODS
    from .validators import VALIDATORS

    def varies(preset: Any) -> str:  # what it does, by the dimensions of a row
        amounts = {n: ", ".join(f"{k} {v:g}" for k, v in a.get_params().items() if v) for n, a in preset.items()}
        return f"Images: {amounts[3]}. Tables: {amounts[1]}."

    first_line = lambda thing: (thing.__doc__ or "").strip().splitlines()[0]  # noqa: E731
    on = " Goes on from a fitted model: dann adapt --model."
    for title, entries in (
        ("Methods", {name: first_line(m) + on * m.source_free for name, m in METHODS.items()}),
        ("Backbones", {name: first_line(b) for name, b in BACKBONES.items()}),
        ("Augmentations", {"none": "Rows as they are.", **{name: varies(p) for name, p in PRESETS.items()}}),
        ("Validators", {name: first_line(v) for name, v in VALIDATORS.items()}),
        ("Datasets", {name: first_line(d) for name, d in DATASETS.items()}),
        ("Experiments", {name: e.summary for name, e in EXPERIMENTS.items()}),
        ("Recipes", {name: r.summary for name, r in RECIPES.items()}),
    ):
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, line in entries.items():
            table.add_row(f"[bold]{name}[/bold]", line)
        console.print(table)


def _trainable(name: str) -> "Method":
    """Return a method that trains on a source by its name.

    Raises
    ------
    ValueError
        There is no such method, or it goes on from a model.
    """
    from .methods import METHODS, method_of

    method = method_of(name)
    if alone := [part for part in name.split("+") if METHODS[part].source_free]:
        raise ValueError(
            f"{alone[0]} goes on from a fitted model, without a source: "
            f"dann adapt --model MODEL --target FILE --method {alone[0]}"
        )
    return method


def _go_on(
    model: Path,
    target: Path,
    label: str | None,
    drop: tuple[str, ...],
    method: str,
    given: tuple[str, ...],
    seed: int,
    json: Path | None,
    out: Path | None,
    device: str,
) -> None:
    """Adapt a saved model to target rows alone, and leave the new one with its predictions."""
    from .adapter import DomainAdapter
    from .domains import is_unknown
    from .experiments.adapt import write_predictions
    from .methods import METHODS, method_of
    from .runs import alone, write_report

    made = method_of(method)
    if not made.source_free:
        free = ", ".join(name for name, kind in METHODS.items() if kind.source_free)
        raise ValueError(f"{method} needs a source: give --source in place of --model; without one there is: {free}")
    folder = out or Path("runs") / method
    file = model / "model.safetensors" if model.is_dir() else model
    saved, predictions = folder / "model.safetensors", folder / "target_predictions.csv"
    _check_kept((file, target), (json, saved, predictions))
    _check_kept((folder,), (json,))
    before = DomainAdapter.load(model, device=device)
    settings = _settings(given)
    _check_names("--set", settings, DomainAdapter(made).get_params(), method)
    (rows,) = _read_for(before, {"the target": target}, label, drop)
    labels = [] if rows.y is None else _known(rows)
    judged = not all(is_unknown(label, before.classes_) for label in labels)
    scores = [before.evaluate(rows, labels)] if judged else []
    with alone(folder), _progress() as on_progress:
        if other := [name for name in ("study.json", "comparison.json") if (folder / name).exists()]:
            raise ValueError(f"{folder} holds the run of another command ({other[0]}): give another folder with --out")
        later = before.adapt_to(
            rows,
            method,
            on_step=lambda step: on_progress(method, step.number + 1, None) if step.number % 20 == 19 else None,
            random_state=seed,
            run=folder / "training",
            **settings,
        )
        saved.unlink(missing_ok=True)  # predictions beside it are its own, or there are none
        write_predictions(predictions, later, rows)
        later.save(saved)
        shutil.rmtree(folder / "training")
    _say(f"{method} went on from {file} for {later.steps} steps with lr {later.lr:g}.")
    judge = f"dann assess {saved} --source FILE --target FILE"
    if judged:
        scores.append(later.evaluate(rows, labels))
        was, now = (score["accuracy"] for score in scores)
        _say(f"Accuracy on the target's labels (oracle): {now:.3f}, before {was:.3f}")
    else:
        _say(
            "The target has no labels, so nothing here tells how right the model is on it. With labelled source rows "
            f"that are new to it, `{judge}` estimates that."
        )
    _say(f"Model: {saved}\nPredictions: {predictions}")
    if json is not None:
        write_report(json, {"model": str(file), "adapter": later.config(), "oracle": scores})
        _say(f"Report: {json}")


def _reproduce(
    name: str,
    options: dict[str, Any],
    seeds: int | None,
    first: int,
    json: Path | None,
    out: Path | None,
    device: str,
    precision: str | None,
) -> None:
    from .experiments import EXPERIMENTS
    from .experiments.study import Study
    from .machine import PRECISIONS
    from .runs import alone

    if name not in EXPERIMENTS:
        raise ValueError(f"unknown experiment {name!r}; choose one of: {', '.join(EXPERIMENTS)}")
    experiment = EXPERIMENTS[name]
    n = experiment.seeds if seeds is None else seeds
    if n < 1 or first < 0:
        raise ValueError(f"seeds={n} from seed={first}: give at least one seed, and none below 0")
    folder = out or Path("runs") / name
    _check(device, json)
    _check_kept((folder,), (json,))
    if precision not in (None, *PRECISIONS):
        raise ValueError(f"unknown precision {precision!r}; choose one of: {', '.join(PRECISIONS)}")
    with alone(folder), _progress() as on_progress:
        study = Study(experiment, folder, list(range(first, first + n)), options, device, on_progress, precision)
        study.run()
    _print(study, json)


def _check(device: str, json: Path | None = None) -> None:
    """Try what would otherwise fail behind the training: the device, and the place of the ``--json`` file."""
    import tempfile

    from .machine import device_of

    device_of(device)
    if json is not None:
        if json.is_dir():
            raise IsADirectoryError(f"{json} is a folder; --json takes a file")
        tempfile.TemporaryFile(dir=next(place for place in json.absolute().parents if place.exists())).close()


def _check_kept(inputs: Iterable[Path | None], outputs: Iterable[Path | None]) -> None:
    """Raise where a file that is read would be written over, two outputs are one, or one is a run folder's own."""
    given = [path for path in outputs if path is not None]
    if twice := [path for k, path in enumerate(given) if path.resolve() in {p.resolve() for p in given[:k]}]:
        raise ValueError(f"{twice[0]} would be written twice, with other contents: name another file")
    for written in given:
        for read in filter(None, inputs):
            if written.exists() and read.exists() and written.samefile(read):
                raise ValueError(f"{written} is read and would be written over: name another file")
            if _part(written, read) in KEPT:
                raise ValueError(f"{written} is the run folder's own: name another file")


def _check_outside(folder: Path, files: Iterable[Path]) -> None:
    """Raise where a file that is read lies in a part of the run folder that a new run replaces."""
    from .experiments.study import PARTS, RESULTS

    for file in files:
        if _part(file, folder) in (*PARTS, *RESULTS):
            raise ValueError(f"{file} lies in the run folder, among what is replaced: move it, or give another --out")


def _part(path: Path, folder: Path) -> str | None:
    """Return the name of what holds a path, or is it, directly in a folder; None if nothing there does."""
    path, folder = path.resolve(), folder.resolve()
    return path.relative_to(folder).parts[0] if folder in path.parents else None


def _digests(*files: Path) -> list[str]:
    """Return what tells the contents of files apart."""
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def _read(
    source: Path, target: Path, label: str | None, drop: tuple[str, ...], roles: "Roles"
) -> "tuple[Table, Table]":
    """Return the rows of both files, the target's by the columns and labels of the source."""
    from .domains import arrange
    from .readers import check_cells, in_numbers, read_table

    named = {role: column for role, column in roles._asdict().items() if column is not None}
    beside = (*drop, *named.values())
    rows = read_table(source, label, needs_label=True, drop=beside)
    for role, column in named.items():
        if column not in rows.beside:
            hint = "" if rows.columns else "; arrays have none: in Python, compare takes such values beside the rows"
            raise ValueError(f"--{role} {column}: the source has no such column; it has: {_columns(rows)}{hint}")
    kind: dict[str, Any] = {"features": rows.columns, "classes": rows.y, "width": rows.x.shape[-1]}
    target_rows = read_table(target, label, **kind, drop=beside)
    _check_dropped(drop, rows, target_rows)
    arrange(target_rows, rows.columns, "the target")
    check_cells({str(source): rows, str(target): target_rows})
    rows, target_rows = in_numbers(rows), in_numbers(target_rows)
    for column in _names_of_rows(rows, target_rows):
        _say(f"Note: {column} has another whole number in every row; if it only names rows: --drop {column}")
    return rows, target_rows


def _names_of_rows(*tables: "Table") -> list[str]:
    """Return the columns whose values are whole numbers, another one in every row: they may be no features."""
    import numpy as np

    def names(x: Any) -> bool:
        return len(np.unique(x)) == len(x) and bool((x == np.round(x)).all())

    if tables[0].columns is None or min(map(len, tables)) < 20:
        return []
    looks = [some for rows in tables for some in (rows.x[:100], rows.x)]  # few columns are worth a whole look
    return [name for k, name in enumerate(tables[0].columns) if all(names(x[:, k]) for x in looks)]


def _read_for(
    model: "DomainAdapter", files: Mapping[str, Path], label: str | None, drop: tuple[str, ...]
) -> "list[Table]":
    """Return the rows of files for a model, by what they are to it; columns that it does not know are no features."""
    from .domains import arrange
    from .readers import check_cells, in_numbers, read_table

    kind: dict[str, Any] = {"features": model.columns_, "classes": model.classes_, "width": model.shape_[0]}
    tables = {
        what: read_table(path, label, needs_label=what == "the source", **kind, drop=drop, known_alone=True)
        for what, path in files.items()
    }
    _check_dropped(drop, *tables.values())
    for what, rows in tables.items():
        arrange(rows, model.columns_, what)
    check_cells({str(files[what]): rows for what, rows in tables.items()})
    unknown = dict.fromkeys(name for rows in tables.values() for name in rows.beside if name not in drop)
    if unknown:
        hint = "" if label else "; if one of them holds labels, name it with --label"
        _say(f"Note: left out, as the model was not trained on them: {', '.join([*unknown][:20])}{hint}")
    return list(map(in_numbers, tables.values()))


def _columns(rows: "Table") -> str:
    """Return the names of a table's columns, as far as one can take them in."""
    return ", ".join((rows.columns or ["none with a name"])[:20])


def _known(rows: "Table") -> Any:
    """Return the labels of a file, None where there are none and for rows without one."""
    if rows.y is None:
        return None
    return [label if known else None for label, known in zip(rows.y.tolist(), rows.labelled.tolist(), strict=True)]


def _check_dropped(drop: tuple[str, ...], *tables: "Table") -> None:
    """Raise where no table has a column that was to be left out: a misspelt id would be trained on."""
    known = {name for table in tables for name in (*(table.columns or ()), *table.beside)}
    for name in drop:
        if any(name in table.beside for table in tables):
            continue
        parts = [part.strip() for part in name.split(",")]
        if len(parts) > 1 and known.issuperset(parts):
            several = " ".join(f"--drop {part}" for part in parts)
            raise ValueError(f"--drop {name}: there is no such column; repeat the option for each: {several}")
        raise ValueError(f"--drop {name}: there is no such column; there are: {_columns(tables[0])}")


def _settings(given: tuple[str, ...], reserved: Mapping[str, str] = MappingProxyType(RESERVED)) -> dict[str, Any]:
    """Return what ``--set`` was given, by name."""
    return _named("--set", map(_setting, given), reserved)


def _named(
    option: str, pairs: Iterable[tuple[str, Any]], reserved: Mapping[str, str] = MappingProxyType(RESERVED)
) -> dict[str, Any]:
    """Return settings by name, none of them one that has an option of its own."""
    settings: dict[str, Any] = {}
    for key, value in pairs:
        if key in reserved:
            raise ValueError(f"{option} {key}=… is not taken: give {reserved[key]}")
        if key.startswith("backbone__"):
            raise ValueError(f"{option} {key}=… is not taken: a backbone is chosen by name; Python sets its parameters")
        if key in settings and option == "--search":  # a later --set overrules an earlier one
            raise ValueError(f"{option} {key}=… is given twice: give it once")
        settings[key] = value
    return settings


def _check_names(option: str, given: Mapping[str, Any], known: Mapping[str, Any], methods: str) -> None:
    """Raise for a setting that neither the estimator nor one of the methods has, and for text in place of a number."""
    from difflib import get_close_matches

    names = [name for name in known if name not in RESERVED and not name.startswith("backbone__")]
    for name, value in given.items():
        if isinstance(value, str) and isinstance(known.get(name), (int, float)):
            raise ValueError(f"{option} {name}={value} is not taken: it is a number, such as {known[name]}")
        if name in names or name in RESERVED:
            continue
        near = [f"method__{name}"] if f"method__{name}" in names else get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of: {', '.join(names)}"
        raise ValueError(f"{option} {name}=… is not taken: there is no such setting of {methods}; {hint}")


def _setting(text: str) -> tuple[str, Any]:
    """'steps=200' → ("steps", 200); a value that is no Python literal stays a string."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set takes KEY=VALUE, got {text!r}")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def _range(text: str) -> tuple[str, Any]:
    """'lr=1e-4:1e-2:log' → ("lr", (1e-4, 1e-2, "log")), 'batch_size=32,64' → ("batch_size", [32, 64])."""
    key, equals, value = text.partition("=")
    if not equals or not value:
        raise ValueError(f"--search takes KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=A,B,C; got {text!r}")
    if ":" in value:
        return key, tuple(_setting(f"{key}={part}")[1] for part in value.split(":"))
    return key, [_setting(f"{key}={part}")[1] for part in value.split(",")]


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show one bar for the training that is under way; where nobody watches, a line when it starts."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        bar = progress.add_task("reading data", total=None)

        def on_progress(description: str, done: int, total: int | None) -> None:
            if not errors.is_terminal and description != progress.tasks[bar].description and total is not None:
                errors.print(f"{description}: {total} steps", markup=False, highlight=False)
            progress.update(bar, description=description, completed=done, total=total)

        yield on_progress


def _print(study: "Study", json: Path | None) -> None:
    """Print the table of a study and say what it left where."""
    from .experiments.tables import summary
    from .runs import write_report

    if json is not None:
        write_report(json, study.report())
    _show((study.experiment.table or summary)(study.report()))
    seeds = ", ".join(map(str, study.seeds))
    _say(f"Seed{'s' if len(study.seeds) > 1 else ''}: {seeds}   Run folder: {study.folder}")
    for path in study.figures:
        _say(f"  {path}")
    if json is not None:
        _say(f"Rows: {json}")


def _show(table: Any) -> None:
    """Print a table, and its notes below in lines as long as they are."""
    notes, table.caption = table.caption, None
    console.print(table)
    if notes:
        console.print(notes, highlight=False, soft_wrap=True)


def _say(text: str) -> None:
    """Print a line as it is: brackets in the names of files are no markup, and long paths stay whole."""
    console.print(_harmless(text), markup=False, highlight=False, soft_wrap=True)


def _harmless(text: str) -> str:
    """Return text with what steers a terminal, such as names in others' files may hold, made visible."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for bad input, 1 for a failed training, 130 for Ctrl-C."""
    if argv is None:  # a process of its own, a second of which goes to collecting what libraries made, which stays
        gc.set_threshold(10_000)
        atexit.register(gc.freeze)
        warnings.formatwarning = lambda message, *_: f"Warning: {message}\n"  # not where in the code
    words = sys.argv[1:] if argv is None else argv
    try:
        _check_words(words)
        app(argv, exit_on_error=False, print_error=False, result_action="return_value")
    except MissingArgumentError as error:
        return _fail(_missing(error), 2)
    except CycloptsError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        trains = not {"assess", "list", "predict"} & set(words[:1])
        kept = "what was finished is kept, and the same command goes on from there" if trains else "nothing is kept"
        return _fail(f"interrupted; {kept}", 130)
    except (ValueError, OSError) as error:
        return _fail(str(error), 2)
    except ImportError as error:
        if "pip install 'dann[" not in str(error):  # an extra of ours
            raise
        return _fail(str(error), 2)
    except RuntimeError as error:
        if type(error).__name__ not in ("TrainingFailed", "TrainingDiverged", "TrainingCollapsed"):
            raise
        return _fail(str(error), 1)
    return 0


def _check_words(words: Sequence[str]) -> None:
    """Raise where a value is empty, as a shell's variable that is not set leaves it: as a path it is the folder."""
    for before, word in pairwise(["dann", *words]):
        if not word or re.fullmatch(r"--[\w-]+=", word):
            raise ValueError(f"an empty value stands behind {word or before}: give one, or leave the option out")


def _missing(error: MissingArgumentError) -> str:
    """Return what a command lacks, and how files are given where some were given otherwise."""
    command = " ".join(("dann", *(error.command_chain or ())))
    name = error.argument.name if error.argument is not None else "an argument"
    given = [token for token in error.unused_tokens or () if not token.startswith("-")]
    files = f"; {given[0]!r} is of no option: files are given as --source FILE --target FILE" if given else ""
    return f"{command} needs {name}{files}; {command} --help tells more"


def _unjudged(model: Path) -> str:
    """Return what to do with a model that `assess` cannot judge by itself."""
    folder = model.parent if model.is_file() else model
    if model.is_file() and (folder / "comparison.json").exists():
        return f"{model} is a model file alone: give its folder, {folder}, or --source, rows that are new to it"
    if (folder / "model.safetensors").exists():
        file = folder / "model.safetensors"
        return f"nothing is kept with {file} to judge it by: give it with --source, labelled rows that are new to it"
    return f"{model} is no run folder of dann compare or adapt: give --source, rows that are new to it"


def _fail(message: str, code: int) -> int:
    errors.print("[bold red]error:[/bold red]", end=" ")
    errors.print(_harmless(message), markup=False, highlight=False, soft_wrap=True)
    return code
