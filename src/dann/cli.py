"""The command line: a thin skin over estimator, readers and experiments. Heavy imports wait for the command."""

import ast
import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

if TYPE_CHECKING:
    from .experiments import Study

app = App(
    name="dann",
    help="Unsupervised domain adaptation: train on labelled source data, be right on unlabelled target data.",
    help_format="markdown",
    version=lambda: __import__("dann").__version__,
    suppress_keyboard_interrupt=False,  # main says what it means
)
console = Console()
errors = Console(stderr=True)

Seeds = Annotated[int | None, Parameter(help="How many seeds to run.")]
FirstSeed = Annotated[int, Parameter(help="The first of them.")]
Json = Annotated[Path | None, Parameter(help="Also write settings and rows into this file.")]
Out = Annotated[Path | None, Parameter(help="The run folder. Default: runs/NAME.")]
RESERVED = {"method": "--method", "random_state": "--seed", "device": "--device"}
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
    recipe: Annotated[str | None, Parameter(help="Of mnist-m: paper, classic or strong.")] = None,
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
    source: Annotated[Path, Parameter(help="Labelled rows: .csv, .npz or .npy.")],
    target: Annotated[
        Path, Parameter(help="Rows of the domain you care about. Labels, if any, only judge the result.")
    ],
    label: Annotated[str | None, Parameter(help="Name of the label column. Default: label or y.")] = None,
    method: Annotated[str, Parameter(help="See `dann list`; several joined by +.")] = "dann",
    set: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set", help="Settings of the estimator as KEY=VALUE, such as steps=500 or method__weight=0.5."
        ),
    ] = (),
    seed: Annotated[int, Parameter(help="Of everything random.")] = 0,
    json: Json = None,
    out: Out = None,
    device: Device = "auto",
) -> None:
    """Adapt a model from your labelled source to your unlabelled target, and save it."""
    from .adapter import DomainAdapter
    from .experiments.adapt import adapt as train
    from .experiments.adapt import experiment
    from .experiments.study import Study
    from .methods import method_of
    from .readers import read_table

    _check(device, json)
    made = method_of(method)
    if made.uses_target_labels:
        raise ValueError(f"{method} trains on target labels, which adapt never does; choose another method")
    if seed < 0:
        raise ValueError(f"--seed {seed} must be 0 or more")
    settings = dict(map(_setting, set))
    for key in settings:
        if key in RESERVED:
            raise ValueError(f"--set {key}=… is not taken: give {RESERVED[key]}")
        if key.startswith("backbone__"):
            raise ValueError(f"--set {key}=… is not taken: a backbone is chosen by name; Python sets its parameters")
    adapter = DomainAdapter(made).set_params(**settings)
    source_rows = read_table(source, label, needs_label=True)
    target_rows = read_table(target, label)
    options = {"source": str(source), "target": str(target), "label": label, "adapter": adapter.config()}
    options["data"] = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (source, target)]
    with _progress() as on_progress:
        folder = out or Path("runs") / "adapt"
        study = Study(experiment(options), folder, [seed], device=device, on_progress=on_progress)
        train(study, source_rows, target_rows, adapter, method)
        study.run()
    _print(study, json)
    if not any("accuracy" in row and row["domain"] == "target" for row in study.rows):
        _say("The target has no labels, so nothing here tells how right the models are on it.")
    _say(f"Model: {study.folder / 'model.safetensors'}\nPredictions: {study.folder / 'target_predictions.csv'}")


@app.command
def predict(
    model: Annotated[Path, Parameter(help="A model file, or the run folder that holds it.")],
    data: Annotated[Path, Parameter(help="Rows: .csv, .npz or .npy; a label column is left out.")],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="The CSV file to write.")],
    label: Annotated[str | None, Parameter(help="Name of a label column to leave out.")] = None,
    device: Device = "auto",
) -> None:
    """Apply a saved model to new rows."""
    from .adapter import DomainAdapter
    from .experiments.adapt import write_predictions
    from .readers import read_table

    _check(device)
    adapter = DomainAdapter.load(model, device=device)
    rows = read_table(data, label)
    write_predictions(out, adapter, rows)
    _say(f"{len(rows)} predictions: {out}")


@app.command(name="list")
def list_() -> None:
    """Show methods, backbones, augmentations, validators, datasets, experiments and recipes."""
    from rich.table import Table

    from .augmentation import AUGMENTATIONS
    from .backbones import BACKBONES
    from .datasets import DATASETS
    from .experiments import EXPERIMENTS
    from .experiments.recipes import RECIPES
    from .methods import METHODS
    from .validators import VALIDATORS

    first_line = lambda thing: (thing.__doc__ or "").strip().splitlines()[0]  # noqa: E731
    for title, entries in (
        ("Methods", {name: first_line(m) for name, m in METHODS.items()}),
        ("Backbones", {name: first_line(b) for name, b in BACKBONES.items()}),
        ("Augmentations", {name: first_line(a) for name, a in AUGMENTATIONS.items()}),
        ("Validators", {name: first_line(v) for name, v in VALIDATORS.items()}),
        ("Datasets", {name: first_line(d) for name, d in DATASETS.items()}),
        ("Experiments", {name: e.summary for name, e in EXPERIMENTS.items()}),
        ("Recipes", {name: r.summary for name, r in RECIPES.items()}),
    ):
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, line in entries.items():
            table.add_row(f"[bold]{name}[/bold]", line)
        console.print(table)


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

    if name not in EXPERIMENTS:
        raise ValueError(f"unknown experiment {name!r}; choose one of: {', '.join(EXPERIMENTS)}")
    experiment = EXPERIMENTS[name]
    n = experiment.seeds if seeds is None else seeds
    if n < 1 or first < 0:
        raise ValueError(f"seeds={n} from seed={first}: give at least one seed, and none below 0")
    _check(device, json)
    if precision not in (None, *PRECISIONS):
        raise ValueError(f"unknown precision {precision!r}; choose one of: {', '.join(PRECISIONS)}")
    with _progress() as on_progress:
        folder = out or Path("runs") / name
        study = Study(experiment, folder, list(range(first, first + n)), options, device, on_progress, precision)
        study.run()
    _print(study, json)


def _check(device: str, json: Path | None = None) -> None:
    """Try what would otherwise fail behind the training: the device, and the place of the ``--json`` file."""
    import tempfile

    import torch

    try:
        torch.empty(1, device=None if device == "auto" else device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"the device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
    if json is not None:
        if json.is_dir():
            raise IsADirectoryError(f"{json} is a folder; --json takes a file")
        json.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=json.parent).close()


def _setting(text: str) -> tuple[str, Any]:
    """'steps=200' → ("steps", 200); a value that is no Python literal stays a string."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set takes KEY=VALUE, got {text!r}")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show one bar for the training that is under way."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        bar = progress.add_task("reading data", total=None)

        def on_progress(description: str, done: int, total: int) -> None:
            progress.update(bar, description=description, completed=done, total=total)

        yield on_progress


def _print(study: "Study", json: Path | None) -> None:
    """Print the table of a study and say what it left where."""
    from .experiments.tables import summary
    from .runs import write_json

    if json is not None:
        write_json(json, study.report())
    console.print(summary(study.report()))
    seeds = ", ".join(map(str, study.seeds))
    _say(f"Seed{'s' if len(study.seeds) > 1 else ''}: {seeds}   Run folder: {study.folder}")
    for path in study.figures:
        _say(f"  {path}")
    if json is not None:
        _say(f"Rows: {json}")


def _say(text: str) -> None:
    """Print a line as it is: brackets in the names of files are no markup, and long paths stay whole."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for bad input, 1 for a failed training, 130 for Ctrl-C."""
    try:
        app(argv, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted; what was finished is kept, and the same command goes on from there", 130)
    except (ValueError, OSError) as error:
        return _fail(str(error), 2)
    except ImportError as error:
        if "pip install 'dann[" not in str(error):  # an extra of ours
            raise
        return _fail(str(error), 2)
    except RuntimeError as error:
        if type(error).__name__ != "TrainingDiverged":
            raise
        return _fail(str(error), 1)
    return 0


def _fail(message: str, code: int) -> int:
    errors.print("[bold red]error:[/bold red]", end=" ")
    errors.print(message, markup=False, highlight=False, soft_wrap=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
