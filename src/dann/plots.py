"""Figures: each function draws on axes that it is given, from plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SOURCE, TARGET = "#0072B2", "#D55E00"  # blue and vermillion of the Okabe-Ito palette: told apart by everybody
CLASSES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000", "#999999", "#7F3C8D")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*", "<", ">")


def figure(
    rows: int, columns: int, size: tuple[float, float] = (3.2, 3.0), **options: Any
) -> tuple[Figure, np.ndarray]:
    """Make a figure with a grid of axes; ``size`` is the width and height of one of them in inches.

    No window and no global state: it is drawn only when it is saved.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fig = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
    FigureCanvasAgg(fig)
    return fig, fig.subplots(rows, columns, squeeze=False, **options)


def save(fig: Figure, path: Path) -> Path:
    """Write a figure as PNG, atomically."""
    import io

    from .runs import write

    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=120)
    return write(path, buffer.getvalue())


def points(ax: Axes, x: np.ndarray, y: np.ndarray, *, filled: bool = True, label: str = "", size: float = 12) -> None:
    """Draw 2-d points, a colour and a marker for each class; hollow markers tell a second domain."""
    for k in np.unique(y):
        colour, marker = CLASSES[k % len(CLASSES)], MARKERS[k % len(MARKERS)]
        face = colour if filled else "none"
        rows = x[y == k]
        name = f"{label} class {k}".strip()
        ax.scatter(
            rows[:, 0], rows[:, 1], s=size, marker=marker, facecolors=face, edgecolors=colour, lw=0.7, label=name
        )


def domains(ax: Axes, source: np.ndarray, target: np.ndarray, *, size: float = 8) -> None:
    """Draw 2-d points coloured by domain."""
    ax.scatter(source[:, 0], source[:, 1], s=size, c=SOURCE, marker="o", lw=0, alpha=0.6, label="source")
    ax.scatter(target[:, 0], target[:, 1], s=size, c=TARGET, marker="^", lw=0, alpha=0.6, label="target")


def regions(
    ax: Axes, predict: Callable[[np.ndarray], np.ndarray], around: np.ndarray, *, line: str = "black", label: str = ""
) -> None:
    """Shade the plane by a score in 0 … 1 and draw the line where it is one half.

    Parameters
    ----------
    predict : callable
        (n, 2) → (n,) probabilities.
    around : ndarray (n, 2)
        The points that should be in the picture.
    """
    low, high = around.min(0), around.max(0)
    margin = 0.12 * (high - low)
    grid_x, grid_y = np.meshgrid(*(np.linspace(a, b, 160) for a, b in zip(low - margin, high + margin, strict=True)))
    flat = np.stack([grid_x.ravel(), grid_y.ravel()], axis=1).astype(np.float32)
    score = predict(flat).reshape(grid_x.shape)
    ax.contourf(grid_x, grid_y, score, levels=np.linspace(0, 1, 11), cmap="cividis", alpha=0.25, antialiased=True)
    if score.min() < 0.5 < score.max():
        ax.contour(grid_x, grid_y, score, levels=[0.5], colors=line, linewidths=1.6)
        if label:
            ax.plot([], [], color=line, lw=1.6, label=label)


def shared_legend(fig: Figure, ax: Axes) -> None:
    """Put the legend of one of several axes below all of them, where it hides nothing."""
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)


def letter(ax: Axes, place: np.ndarray, text: str) -> None:
    """Write a letter at a point (2,), to be read in front of other points too."""
    from matplotlib.patheffects import withStroke

    ax.annotate(text, (place[0], place[1]), weight="bold", path_effects=[withStroke(linewidth=2.5, foreground="white")])


def projection(x: np.ndarray) -> np.ndarray:
    """Return the first two principal components (n, 2) of rows (n, d); a single column is shown against zero."""
    from sklearn.decomposition import PCA

    if x.shape[1] < 2:
        return np.column_stack([x[:, 0], np.zeros(len(x))])
    if not np.ptp(x, axis=0).any():  # features that have collapsed
        return np.zeros((len(x), 2))
    return PCA(n_components=2, random_state=0).fit_transform(x)


def image_grid(ax: Axes, images: np.ndarray, columns: int = 8) -> None:
    """Draw images (n, C, H, W), uint8 or floats in 0 … 1, as one mosaic."""
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), 255, dtype=np.uint8)
    pixels = images if images.dtype == np.uint8 else (images * 255).clip(0, 255).astype(np.uint8)
    for i, image in enumerate(pixels):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    ax.imshow(canvas.squeeze(), cmap="gray" if channels == 1 else None, vmin=0, vmax=255, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])


def as_digits(ax: Axes, x: np.ndarray, labels: np.ndarray, domain: np.ndarray) -> None:
    """Draw every point as its digit, coloured by domain (0 = source, 1 = target)."""
    low, high = x.min(0), x.max(0)
    margin = 0.04 * (high - low)
    ax.set_xlim(low[0] - margin[0], high[0] + margin[0])
    ax.set_ylim(low[1] - margin[1], high[1] + margin[1])
    for k in range(10):
        for d, colour in enumerate((SOURCE, TARGET)):
            rows = x[(labels == k) & (domain == d)]
            ax.scatter(rows[:, 0], rows[:, 1], s=26, c=colour, marker=f"${k}$", lw=0.2, alpha=0.75)
    for name, colour in (("source", SOURCE), ("target", TARGET)):
        ax.scatter([], [], s=26, c=colour, label=name)
    ax.set_xticks([])
    ax.set_yticks([])


def bars(ax: Axes, groups: Mapping[str, Sequence[float]], published: Mapping[str, float] | None = None) -> None:
    """Draw the mean accuracy of every method as a bar, its seeds as dots, and published figures as lines.

    Parameters
    ----------
    groups : mapping
        Method → accuracies of its seeds, 0 … 1.
    published : mapping, optional
        Method → published accuracy.
    """
    names = list(groups)
    for i, name in enumerate(names):
        values = np.asarray(groups[name])
        ax.bar(i, values.mean(), width=0.6, color=CLASSES[(4, 1, 2, 3, 8)[i % 5]], edgecolor="black", lw=0.5)
        if len(values) > 1:
            ax.plot([i] * len(values), values, "k.", ms=5)
        ax.text(i, values.max() + 0.02, f"{values.mean():.3f}", ha="center", fontsize=9)
        if published and name in published:
            ax.hlines(published[name], i - 0.38, i + 0.38, colors="black", linestyles="--")
    if published:
        ax.plot([], [], "k--", label="published")
    if max(map(len, groups.values())) > 1:
        ax.plot([], [], "k.", label="one seed")
    ax.set_xticks(range(len(names)), names, fontsize=9)
    ax.set_ylim(0, 1.18)  # room for the legend
    ax.set_yticks(np.linspace(0, 1, 6))
    ax.set_ylabel("accuracy on target test rows")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left", fontsize=8, ncols=2)


def confusion(ax: Axes, matrix: np.ndarray, labels: Sequence[Any]) -> None:
    """Draw a confusion matrix as row-wise percentages: true classes down, predictions across."""
    share = matrix / matrix.sum(1, keepdims=True).clip(1)
    ax.imshow(share, cmap="cividis", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(share):
        if len(labels) <= 12 and matrix[i, j]:
            ax.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color="w" if value < 0.6 else "k", fontsize=7)
    if len(labels) <= 30:
        ax.set_xticks(range(len(labels)), [str(v) for v in labels], fontsize=7, rotation=90 if len(labels) > 12 else 0)
        ax.set_yticks(range(len(labels)), [str(v) for v in labels], fontsize=7)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")


def intervals(ax: Axes, rows: Mapping[str, Sequence[float]], truth: Mapping[str, float | None], bold: str = "") -> None:
    """Draw estimates as dots with their intervals, one line each, the first on top, and what is true as crosses.

    Parameters
    ----------
    rows : mapping
        Name → (estimate, low, high), 0 … 1.
    truth : mapping
        Name → the value that is estimated, None where nobody knows it.
    bold : str
        Name to stand out.
    """
    for place, (name, (value, low, high)) in enumerate(rows.items()):
        colour = TARGET if name == bold else SOURCE
        ax.plot([low, high], [place, place], color=colour, lw=3, alpha=0.35, solid_capstyle="round")
        ax.plot(value, place, "o", color=colour, ms=7)
        if (real := truth.get(name)) is not None:
            ax.plot(real, place, "kx", ms=7, mew=1.6)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(-0.02, 1.02)


def history(ax: Axes, entries: Sequence[Mapping[str, float]]) -> None:
    """Draw the loss terms of a training over its steps."""
    steps = [e["step"] for e in entries]
    names = [name for name in entries[0] if name != "step"]
    for i, name in enumerate(names):
        ax.plot(steps, [e[name] for e in entries], color=CLASSES[i % len(CLASSES)], lw=1, label=f"{name} loss")
    if "domain" in names:
        ax.axhline(2 * np.log(2), color="grey", lw=0.8, ls=":", label="2 ln 2: domains cannot be told apart")
    ax.set_xlabel("step")
    ax.set_ylabel("loss (nats)")
    ax.legend(fontsize=7)
