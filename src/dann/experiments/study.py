"""Study: the trainings of one experiment, with their rows, figures and files, resumed where they stopped."""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from .. import plots, runs
from ..adapter import DomainAdapter
from ..datasets import Task
from ..engine import Step
from ..metrics import domain_accuracy, proxy_a_distance

Row = dict[str, Any]
PARTS = ("models", "figures", "trainings", "snapshots")  # folders of a study, replaced if it starts anew
RESULTS = ("comparison.json", "judges", "model.safetensors", "target_predictions.csv")  # what some write at their end
PROGRESS_EVERY = 20  # steps between two moves of the progress bar


@dataclass(frozen=True)
class Experiment:
    """One experiment by name.

    Parameters
    ----------
    name, summary : str
        As ``dann list`` shows them.
    run : callable
        Study → None: trains, and draws the figures.
    seeds : int
        How many seeds it runs unless told otherwise.
    options : mapping
        What the user may set, with the defaults.
    published : sequence of dict
        Published figures: "dataset", "method", "domain", "source" (who reports it), and metrics.
    table : callable, optional
        What `Study.report` returns → the rich table to print, instead of means over seeds.
    """

    name: str
    summary: str
    run: Callable[["Study"], None]
    seeds: int = 5
    options: Mapping[str, Any] = field(default_factory=dict)
    published: Sequence[dict[str, Any]] = ()
    table: Callable[[dict[str, Any]], Any] | None = None


class Study:
    """Trainings, rows, figures and files of one run of an experiment.

    An interrupted study goes on where it stopped when it is opened again with the same settings; a complete one, or
    one with other settings, is started anew.

    Parameters
    ----------
    experiment : Experiment
    folder : Path
        Holds ``study.json`` (settings and rows), ``models/``, ``figures/``.
    seeds : sequence of int
    options : mapping
        The experiment's options; the defaults of those that are left out are filled in.
    device : str
    on_progress : callable, optional
        (description, steps done, steps in all), of the training that is under way.
    precision : str, optional
        Of all trainings, instead of the experiment's own.
    """

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        seeds: Sequence[int],
        options: Mapping[str, Any] | None = None,
        device: str = "auto",
        on_progress: Callable[[str, int, int], None] | None = None,
        precision: str | None = None,
    ):
        options = dict(options or {})
        unknown = [name for name in options if name not in experiment.options]
        if unknown:
            known = ", ".join(experiment.options) or "none"
            raise ValueError(f"the experiment {experiment.name} has no option {unknown[0]!r}; its options: {known}")
        self.experiment, self.folder, self.seeds, self.device = experiment, Path(folder), list(seeds), device
        self.options = {**experiment.options, **options}
        self.override = {"device": device} | ({"precision": precision} if precision else {})
        settings = {"seeds": self.seeds, **self.options, **self.override, "version": runs.version()}
        self.settings = json.loads(json.dumps(settings, default=runs.plain))  # as they come back from the file
        self.on_progress = on_progress
        self.rows: list[Row] = []
        self.figures: list[Path] = []
        before = self._before()
        wanted = {"name": experiment.name, "settings": self.settings, "complete": False}
        self._outdated = before is not None and any(before[key] != value for key, value in wanted.items())
        self._again = before is not None and before["name"] == experiment.name
        if before is not None and not self._outdated:
            self.rows = before["rows"]

    def run(self) -> "Study":
        """Run the experiment to its end."""
        self.experiment.run(self)
        self._store(complete=True)
        shutil.rmtree(self.folder / "trainings", ignore_errors=True)
        return self

    def report(self) -> dict[str, Any]:
        """Return what ``--json`` writes."""
        name, published = self.experiment.name, list(self.experiment.published)
        return {"name": name, "settings": self.settings, "rows": self.rows, "published": published}

    def _before(self) -> dict[str, Any] | None:
        """Return what an earlier study left in the folder, None where there was none."""
        path = self.folder / "study.json"
        if not path.exists():
            for part in (*PARTS, *RESULTS):
                if (self.folder / part).exists():
                    raise ValueError(f"{self.folder / part} is of no study and would be replaced; give another folder")
            return None
        before = runs.read_json(path)
        try:
            if any(not {"dataset", "method", "seed"} <= row.keys() for row in before["rows"]):
                raise ValueError("a row lacks dataset, method or seed")
            return {key: before[key] for key in ("name", "settings", "rows", "complete")}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{path} is no readable study ({error}); give another folder") from error

    def _store(self, complete: bool) -> None:
        if self._outdated:  # not before there is something to keep: a mistyped command costs no results
            for part in PARTS if self._again else (*RESULTS, *PARTS):  # its own results stay until there are new ones
                shutil.rmtree(self.folder / part, ignore_errors=True)
                if part in RESULTS:
                    (self.folder / part).unlink(missing_ok=True)
            self._outdated = False
        runs.write_json(self.folder / "study.json", {**self.report(), "complete": complete})

    def fit(
        self,
        task: Task,
        adapter: DomainAdapter,
        seed: int,
        *,
        dataset: str = "",
        method: str = "",
        pad: bool = False,
        snapshots: Iterable[int] = (),
        of_rows: Mapping[str, np.ndarray] = MappingProxyType({}),
        before: DomainAdapter | None = None,
    ) -> DomainAdapter:
        """Train one adapter on a task with one seed and keep two rows: on source and on target test rows.

        Methods that train on target labels get them; nothing else does. Test rows without labels get no scores.

        Parameters
        ----------
        dataset, method : str
            Names in the rows; default to the task's and the method's.
        pad : bool
            Also measure the proxy A-distance of the features of the test rows.
        snapshots : iterable of int
            Steps after which the features of the target test rows are kept; see `snapshot`.
        of_rows : mapping of str to array
            What `DomainAdapter.fit` takes of every source row, by name.
        before : DomainAdapter, optional
            A fitted model to go on from without the source, see `DomainAdapter.adapt_to`, with the method, the steps
            and the learning rate of ``adapter``; no snapshots then.
        """
        dataset, method = dataset or task.name, method or str(adapter.method)
        key = f"{dataset}-{method}-{seed}"
        adapter.set_params(**self.override)
        model = self.folder / "models" / f"{key}.safetensors"
        others = [r for r in self.rows if (r["dataset"], r["method"], r["seed"]) != (dataset, method, seed)]
        if len(others) < len(self.rows) and model.exists():
            return DomainAdapter.load(model, device=self.device)
        self.rows = others
        self._store(complete=False)
        start = time.perf_counter()
        adapter = clone(adapter).set_params(random_state=seed)
        adapter = self._train(task, adapter, dataset, method, set(snapshots), of_rows, before)
        seconds = time.perf_counter() - start
        adapter.save(model)
        both = {"source": task.source_test, "target": task.target_test}
        more = self.domain_rows(adapter, task, pad)
        for domain, test in both.items():
            scores = adapter.evaluate(test.x, test.y) if len(test.y) else {}
            scores.pop("confusion", None)
            names = {"dataset": dataset, "method": method, "seed": seed, "domain": domain}
            self.rows.append({**names, **scores, "seconds": round(seconds, 3), **more})
        self._store(complete=False)
        return adapter

    def _train(
        self,
        task: Task,
        adapter: DomainAdapter,
        dataset: str,
        method: str,
        wanted: set[int],
        of_rows: Mapping[str, np.ndarray],
        before: DomainAdapter | None,
    ) -> DomainAdapter:
        """Train the adapter, or go on from a model, and keep the snapshots that are wanted."""
        key = f"{dataset}-{method}-{adapter.random_state}"

        def progress(done: int) -> None:
            if self.on_progress is not None:
                self.on_progress(f"{dataset} · {method} · seed {adapter.random_state}", done, adapter.steps)

        def on_step(step: Step) -> None:
            done = step.number + 1
            if done % PROGRESS_EVERY == 0 or done == adapter.steps:
                progress(done)
            if done in wanted:
                x, x_target = task.source_test.x, task.target_test.x
                arrays = {"source": adapter.transform(x), "target": adapter.transform(x_target)}
                arrays["predicted"] = adapter.predict(x_target)
                self._keep(self._snapshots(key) / f"{done:07d}.npz", arrays)

        run = self.folder / "trainings" / key
        progress(0)  # a pretraining may come first
        if before is not None:
            later = {name: getattr(adapter, name) for name in ("steps", "lr", "random_state")} | self.override
            return before.adapt_to(task.target.x, adapter.method, run=run, on_step=on_step, **later)
        labels = task.target.y if adapter._method().uses_target_labels else None
        return adapter.fit(task.source.x, task.source.y, task.target.x, labels, **of_rows, run=run, on_step=on_step)

    def domain_rows(self, adapter: DomainAdapter, task: Task, pad: bool) -> dict[str, float]:
        """Measure how far the domains can be told apart, where the model or the caller has means to."""
        more = {}
        if "domain" in adapter.network_.parts:
            target = adapter.n_domains_ - 1  # the others are sources
            predicted = [adapter.predict_domain(t.x) == target for t in (task.source_test, task.target_test)]
            truth = np.repeat([0, 1], [len(p) for p in predicted])
            more["domain_accuracy"] = domain_accuracy(np.concatenate(predicted), truth)
        if pad:
            sides = adapter.transform(task.source_test.x[:2000]), adapter.transform(task.target_test.x[:2000])
            more["pad"] = proxy_a_distance(*sides, n_jobs=torch.get_num_threads())
        return more

    def add(self, **row: Any) -> None:
        """Keep a row that no adapter made."""
        self.rows.append(row)
        self._store(complete=False)

    def has(self, **names: Any) -> bool:
        """Whether a row with these entries is there already."""
        return any(all(row.get(k) == v for k, v in names.items()) for row in self.rows)

    def _snapshots(self, key: str) -> Path:
        """Return the folder of one training's snapshots."""
        return self.folder / "snapshots" / key

    def _keep(self, path: Path, arrays: dict[str, np.ndarray]) -> None:
        import io

        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        runs.write(path, buffer.getvalue())

    def snapshot(self, dataset: str, method: str, seed: int, step: int) -> dict[str, np.ndarray]:
        """Return the features of source and target test rows after a step, and the predicted target classes."""
        path = self._snapshots(f"{dataset}-{method}-{seed}") / f"{step:07d}.npz"
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)

    @contextmanager
    def figure(self, name: str, rows: int, columns: int, size: tuple[float, float] = (3.2, 3.0), **options: Any) -> Any:
        """Give ``(figure, axes)`` to draw on, and write them to ``figures/NAME.png`` afterwards."""
        fig, axes = plots.figure(rows, columns, size, **options)
        yield fig, axes
        self.figures.append(plots.save(fig, self.folder / "figures" / f"{name}.png"))

    def values(self, dataset: str, method: str, domain: str = "target", metric: str = "accuracy") -> list[float]:
        """Return one metric of all seeds of a method."""
        wanted = {"dataset": dataset, "method": method, "domain": domain}
        return [r[metric] for r in self.rows if all(r[k] == v for k, v in wanted.items())]
