"""Tables of a comparison and of a search, for the command line."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import plots
from ..assessment import Assessment
from ..selection import Comparison

if TYPE_CHECKING:
    from rich.table import Table

RULED_OUT = "†: ruled out, whatever its estimate; the reasons say why."
SHOWN = 3  # columns of a table, or classes, that shift the most


def side_by_side(found: Comparison) -> "list[Table]":
    """Return two tables: methods with their estimates, and what each validator would choose."""
    from rich.markup import escape
    from rich.table import Table

    oracle = any(c.oracle_accuracy is not None for c in found.candidates)
    columns = ["method", "estimate", "source", "input-ami"]
    columns += ["last*", "selected*", "best*"] if oracle else ["last", "selected"]
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold", caption_justify="left")
    for column in (*columns, "s"):
        table.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    for name in found.names:
        cells = [name, estimated(found.assessment, name)]
        cells += [_number(found.mean(name, v)) for v in ("source-accuracy", "input-ami")]
        if oracle:
            cells += [_number(found.oracle(name, which)) for which in ("last", "selected", "best")]
        elif any(c.model is not None for c in found.of(name)):
            cells += [str(found.of(name)[0].step), str(found.selected(name))]
        else:
            cells += ["", ""]
        table.add_row(*map(escape, cells), f"{np.mean([c.seconds for c in found.of(name)]):.1f}")
    notes = ["Means over seeds, on held-out rows; docs/judgement.md says what the estimates are worth."]
    if oracle:
        notes.append(
            "*: oracle, by the target's labels, which nothing else uses: at the end, at the checkpoint that input-ami "
            "selects, at the best one."
        )
    else:
        notes.append(
            "last: the step at the end, which all figures are of; selected: the one that input-ami would select."
        )
    if found.assessment.ruled_out:
        notes.append(RULED_OUT)
    table.caption = "\n".join(notes)
    choices: dict[str, list[str]] = {}
    for validator, name in found.disagreement().items():
        choices.setdefault(name, []).append(validator)
    other = Table(box=None, padding=(0, 1), header_style="bold", title="What each validator would take")
    other.add_column("method")
    other.add_column("validators")
    for name in sorted(choices, key=lambda name: -len(choices[name])):
        other.add_row(name, ", ".join(choices[name]))
    return [table, other]


def estimates_of(found: Assessment) -> "Table":
    """Return a table of the estimates of several models."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold", caption_justify="left")
    table.add_column("method")
    table.add_column("estimate", justify="right", no_wrap=True)
    for name in found.estimates:
        table.add_row(escape(name), estimated(found, name))
    table.caption = RULED_OUT if found.ruled_out else None
    return table


def estimated(found: Assessment, name: str) -> str:
    """Return an estimate with its interval, marked if the model is ruled out; nothing where there is none."""
    e = found.estimates.get(name)
    mark = " †" if name in found.ruled_out else ""
    return "" if e is None else f"{e.accuracy:.2f} [{e.low:.2f}, {e.high:.2f}]{mark}"


def draw(found: Comparison, path: Path) -> Path | None:
    """Write what the verdict rests on: every method's estimate with its interval, and how it follows the clusters.

    Returns
    -------
    Path or None
        None, and no figure, where the rows are too few for estimates.
    """
    estimates = found.assessment.estimates
    if not estimates:
        return None
    oracle = {name: found.oracle(name) for name in estimates}
    fig, axes = plots.figure(1, 2, (3.9, 1.5 + 0.3 * len(estimates)), sharey=True)
    left, right = axes[0]
    plots.intervals(left, {name: e[:3] for name, e in estimates.items()}, oracle, found.assessment.choice)
    left.set_xlabel("target accuracy\nestimate, 90 % interval" + (", × oracle" if any(oracle.values()) else ""))
    followed = [e.parts["input-ami"] for e in estimates.values()]
    colours = [plots.TARGET if name == found.assessment.choice else plots.SOURCE for name in estimates]
    right.barh(range(len(followed)), followed, height=0.5, color=colours)
    right.set_xlim(min(0.0, *followed), 1)
    right.set_xlabel("agreement with clusters of the target\n(input-ami)")
    decision, choice = found.assessment.decision, found.assessment.choice
    said = {"adapt": f"adapt with {choice}", "keep": f"keep {choice}"}.get(decision, f"{decision}: {choice} is kept")
    fig.suptitle(f"{said} (orange)", fontsize=11)
    return plots.save(fig, path)


def _number(value: float | None) -> str:
    return "" if value is None or not np.isfinite(value) else f"{value:.3f}"


def columns_that_shift(found: Comparison) -> list[str]:
    """Return one sentence on the columns of a table that carry the shift, or none."""
    if found.carriers is None or not found.assessment.estimates:  # no table, or next to no rows
        return []
    if not found.carriers:
        return ["no single column differs between the domains"]
    shown = ", ".join(f"{one['column']} ({one['distance']:.2f})" for one in found.carriers[:SHOWN])
    return [f"columns that differ the most, by their Kolmogorov-Smirnov distance: {shown}"]


def classes_that_shift(found: Comparison) -> list[str]:
    """Return one sentence on the classes whose shares differ between the domains, or none where that is not seen."""
    shift = found.assessment.shift
    if shift is None or shift.kind in ("none", "inputs") or min(shift.source_shares) == 0:
        return []
    rows = list(zip(found.classes, shift.source_shares, shift.priors, shift.priors_low, shift.priors_high, strict=True))
    apart = [row for row in rows if not row[3] <= row[1] <= row[4]]
    if not apart:
        return []
    apart.sort(key=lambda row: -abs(row[2] - row[1]))
    shown = ", ".join(
        f"{c} ({now:.2f} [{low:.2f}, {high:.2f}] for {was:.2f})" for c, was, now, low, high in apart[:SHOWN]
    )
    doubt = "" if shift.kind == "labels" else ", if its inputs do not make the model err"
    return [f"classes whose share of the target differs the most from that of the source{doubt}: {shown}"]


def trials_of(study: Any) -> "Table":
    """Return the trials of a search, the best first."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), header_style="bold")
    for column in ("trial", "score", "state", "settings"):
        table.add_column(column)
    for trial in sorted(study.trials, key=lambda t: -np.inf if t.value is None else t.value, reverse=True):
        settings = " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.params.items())
        state = trial.user_attrs.get("alarm", trial.state.name.lower())
        table.add_row(str(trial.number), _number(trial.value), state, settings)
    return table
