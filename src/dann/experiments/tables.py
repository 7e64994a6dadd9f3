"""The table that a study prints: means over seeds, with published figures beside them."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from rich.table import Table

Row = dict[str, Any]
COLUMNS = {"accuracy": "accuracy", "loss": "loss", "ari": "ARI", "pad": "PAD", "domain_accuracy": "domain acc."}
COLLAPSED = 0.9  # of the rows in one predicted class
BEYOND, WHOLE = 0.05, 0.999  # more than are of one class, or all of them
FEW = 100  # labels, below which a score is rough
BOTH = ("pad", "domain_accuracy")  # measured on source and target together: shown once


def summary(report: dict[str, Any]) -> "Table":
    """Return a rich table with two lines for each dataset and method: source and target test rows.

    Parameters
    ----------
    report : dict
        What `Study.report` returns.
    """
    from rich.table import Table

    rows = [r for r in report["rows"] if any(metric in r for metric in COLUMNS)]
    published = report["published"]
    notes = []
    if len({r["seed"] for r in rows}) > 1:
        notes.append("Means over seeds; accuracy with its standard deviation.")
    if any("accuracy" in r and r["domain"] == "target" for r in rows):
        trains = " Only target-only trains on them." if any(r["method"] == "target-only" for r in rows) else ""
        few = {r["n"] for r in rows if "accuracy" in r and r["domain"] == "target" and r.get("n", FEW) < FEW}
        rest = f" There are {min(few)} of them." if few else ""
        notes.append(f"Scores on the target are oracle: they use its labels.{trains}{rest}")
    collapsed: dict[str, list[str]] = {}
    for r in rows:
        much = max(COLLAPSED, min(r.get("majority", 0) + BEYOND, WHOLE))
        if r.get("largest_share", 0) > much and r["method"] != "domain-only":  # its label head is untrained
            collapsed.setdefault(f"{r['dataset']}, {r['method']}, {r['domain']} rows", []).append(str(r["seed"]))
    for which, seeds in collapsed.items():
        notes.append(f"Collapsed: {which}: more than {COLLAPSED:.0%} taken for one class with seed {', '.join(seeds)}.")
    diverged: dict[str, list[str]] = {}
    for r in report["rows"]:
        if r.get("diverged"):
            diverged.setdefault(f"{r['dataset']}, {r['method']}", []).append(str(r["seed"]))
    for which, seeds in diverged.items():
        notes.append(f"Diverged, and not in the means: {which} with seed {', '.join(seeds)}.")
    sources = dict.fromkeys(p["source"] for p in published)
    if sources:
        notes.append("Published: " + "; ".join(f"\\[{i}] {name}" for i, name in enumerate(sources, 1)) + ".")
    table = Table(caption="\n".join(notes), caption_justify="left", box=None, pad_edge=False, header_style="bold")
    table.collapse_padding = True
    metrics = [m for m in COLUMNS if any(m in r for r in rows)]
    for title in ("data", "method", "rows"):
        table.add_column(title, no_wrap=True)
    for metric in metrics:
        table.add_column(COLUMNS[metric], justify="right", no_wrap=True)
    if published:
        table.add_column("published", justify="right")
    last = None
    for dataset, method in dict.fromkeys((r["dataset"], r["method"]) for r in rows):
        if last not in (None, dataset):
            table.add_section()
        for domain in ("source", "target"):
            mine = [r for r in rows if (r["dataset"], r["method"], r["domain"]) == (dataset, method, domain)]
            if not mine:
                continue
            cells = ["" if metric in BOTH and domain == "source" else mean_of(mine, metric) for metric in metrics]
            if published:
                cells.append(beside(published, list(sources), dataset, method, domain))
            first = domain == "source"
            names = (dataset if dataset != last else "", method if first or method == "inputs" else "", domain)
            table.add_row(*names, *cells, style="bold" if domain == "target" else "")
            last = dataset
    return table


def mean_of(rows: list[Row], metric: str) -> str:
    """Return the mean of one metric over the seeds, or nothing where it was not measured."""
    values = [r[metric] for r in rows if metric in r]
    if not values:
        return ""
    spread = f" ± {np.std(values, ddof=1):.3f}" if metric == "accuracy" and len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def beside(published: list[Row], sources: list[str], dataset: str, method: str, domain: str) -> str:
    """Return the published accuracies of a method, with the number of who reports them."""
    key = (dataset, method, domain)
    found = [p for p in published if (p["dataset"], p["method"], p["domain"]) == key]
    return ", ".join(f"{p['accuracy']:.4g} \\[{sources.index(p['source']) + 1}]" for p in found)
