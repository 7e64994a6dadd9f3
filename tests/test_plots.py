import os

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from PIL import Image

from dann import plots


@pytest.fixture
def ax():
    return plots.figure(1, 1)[1][0, 0]


def drawn(ax):
    """Draw everything, as saving does."""
    ax.figure.canvas.draw()


# the file


def test_a_figure_is_a_png_of_the_size_that_was_asked_for(tmp_path):
    fig, axes = plots.figure(1, 2, (4, 3))
    assert axes.shape == (1, 2)
    with Image.open(plots.save(fig, tmp_path / "deep" / "f.png")) as image:
        assert image.format == "PNG"
        assert image.size == (2 * 4 * 120, 3 * 120)


def test_a_figure_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
    fig, _ = plots.figure(1, 1)
    path = plots.save(fig, tmp_path / "f.png")
    old = path.read_bytes()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        plots.save(plots.figure(1, 1)[0], path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == ["f.png"]


def test_figures_need_no_window_and_leave_no_global_state():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    plots.figure(1, 1)
    assert plt.get_fignums() == before


# points


def test_classes_have_a_colour_and_a_marker_each_and_hollow_ones_tell_the_domain(ax):
    x, y = np.arange(12.0).reshape(6, 2), np.array([0, 1, 2, 0, 1, 2])
    plots.points(ax, x, y, label="source")
    plots.points(ax, x, y, filled=False, label="target")
    filled, hollow = ax.collections[:3], ax.collections[3:]
    assert [c.get_label() for c in ax.collections] == [f"{d} class {k}" for d in ("source", "target") for k in range(3)]
    assert [to_hex(c.get_edgecolor()[0]).upper() for c in filled] == list(plots.CLASSES[:3])
    assert [len(c.get_facecolor()) for c in hollow] == [0, 0, 0]
    assert len({c.get_paths()[0].vertices.tobytes() for c in filled}) == 3
    np.testing.assert_array_equal(filled[1].get_offsets(), x[[1, 4]])


def test_more_classes_than_colours_can_be_drawn(ax):
    plots.points(ax, np.zeros((25, 2)), np.arange(25))
    assert len(ax.collections) == 25


def test_domains_are_blue_and_vermillion(ax):
    plots.domains(ax, np.zeros((2, 2)), np.ones((3, 2)))
    source, target = ax.collections
    assert to_hex(source.get_facecolor()[0]).upper() == plots.SOURCE
    assert to_hex(target.get_facecolor()[0]).upper() == plots.TARGET
    assert (len(source.get_offsets()), len(target.get_offsets())) == (2, 3)


def test_digits_are_drawn_where_they_lie_in_the_colour_of_their_domain(ax):
    x = np.arange(8.0).reshape(4, 2)
    plots.as_digits(ax, x, np.array([3, 3, 7, 7]), np.array([0, 1, 0, 1]))
    drawn(ax)
    points = {tuple(p): to_hex(c.get_facecolor()[0]).upper() for c in ax.collections for p in c.get_offsets().tolist()}
    assert points == {(0, 1): plots.SOURCE, (2, 3): plots.TARGET, (4, 5): plots.SOURCE, (6, 7): plots.TARGET}
    assert [text.get_text() for text in ax.legend().get_texts()] == ["source", "target"]


# regions


def test_the_line_lies_where_the_score_is_one_half(ax):
    around = np.array([[-1.0, -1.0], [1.0, 1.0]])
    plots.regions(ax, lambda x: 1 / (1 + np.exp(-(x[:, 0] - 0.25))), around, label="boundary")
    line = ax.collections[-1].get_paths()[0].vertices
    np.testing.assert_allclose(line[:, 0], 0.25, atol=1e-3)
    assert line[:, 1].min() < -1
    assert line[:, 1].max() > 1
    assert [entry.get_label() for entry in ax.lines] == ["boundary"]
    drawn(ax)


@pytest.mark.parametrize("score", [0.0, 0.3, 0.5, 1.0])
def test_a_constant_score_has_a_colour_and_no_line(score, ax):
    plots.regions(ax, lambda x: np.full(len(x), score), np.array([[0.0, 0.0], [1.0, 2.0]]), label="boundary")
    drawn(ax)
    assert len(ax.collections) == 1
    assert sum(len(path.vertices) for path in ax.collections[0].get_paths()) > 0
    assert not ax.lines


# features


def test_a_projection_keeps_the_distances_of_a_plane():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(20, 2)) @ np.linalg.qr(rng.normal(size=(5, 5)))[0][:2]
    flat = plots.projection(plane)
    assert flat.shape == (20, 2)
    gaps = [np.linalg.norm(a[:, None] - a[None], axis=2) for a in (flat, plane)]
    np.testing.assert_allclose(*gaps, atol=1e-9)


def test_a_single_column_is_shown_against_zero():
    x = np.arange(5.0)[:, None]
    np.testing.assert_array_equal(plots.projection(x), np.column_stack([x[:, 0], np.zeros(5)]))


@pytest.mark.parametrize("x", [np.ones((6, 3)), np.ones((1, 3)), np.ones((1, 1))], ids=["constant", "one row", "one"])
def test_features_that_do_not_vary_lie_in_one_place(x):
    flat = plots.projection(x)
    assert flat.shape == (len(x), 2)
    assert np.isfinite(flat).all()
    assert np.ptp(flat, axis=0).tolist() == [0, 0]


# images


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_images_stand_in_rows_with_white_lines_between(channels, kind, ax):
    pixels = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, channels, 4, 5), np.uint8)
    images = pixels if kind is np.uint8 else (pixels / np.float32(255) + np.float32(1e-4))
    plots.image_grid(ax, images)
    mosaic = np.asarray(ax.images[0].get_array())
    assert mosaic.shape == ((2 * 5 - 1, 8 * 6 - 1) if channels == 1 else (2 * 5 - 1, 8 * 6 - 1, 3))
    mosaic = mosaic if channels == 3 else mosaic[..., None]
    for i in range(10):
        top, left = i // 8 * 5, i % 8 * 6
        assert (mosaic[top : top + 4, left : left + 5] == i).all()
    assert (mosaic[4] == 255).all()
    assert (mosaic[:, 5] == 255).all()
    assert (mosaic[5:, 12:] == 255).all()
    drawn(ax)


def test_grey_images_keep_their_brightness(ax):
    plots.image_grid(ax, np.full((1, 1, 4, 4), 100, np.uint8), columns=1)
    assert ax.images[0].get_clim() == (0, 255)
    assert ax.images[0].to_rgba(np.array([[100.0]]))[0, 0, 0] == pytest.approx(100 / 255, abs=0.01)


# numbers


def test_bars_are_means_with_a_dot_a_seed_and_published_lines(ax):
    plots.bars(ax, {"a": [0.5, 0.7], "b": [0.9]}, {"b": 0.8, "c": 0.1})
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.6, 0.9])
    assert [line.get_ydata().tolist() for line in ax.lines if len(line.get_ydata())] == [[0.5, 0.7]]
    (published,) = (c for c in ax.collections if not isinstance(c, PathCollection))
    assert published.get_segments()[0][:, 1].tolist() == [0.8, 0.8]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["published", "one seed"]
    drawn(ax)


def test_bars_without_published_figures_promise_none(ax):
    plots.bars(ax, {"a": [0.5]})
    assert ax.get_legend() is None
    plots.bars(ax, {"a": [0.5, 0.6]})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one seed"]


def test_a_confusion_is_in_percent_of_the_true_class(ax):
    plots.confusion(ax, np.array([[3, 1, 0], [0, 5, 0], [0, 0, 0]]), ["cat", "dog", 3])
    np.testing.assert_allclose(ax.images[0].get_array(), [[0.75, 0.25, 0], [0, 1, 0], [0, 0, 0]])
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written == {(0, 0): "75", (1, 0): "25", (1, 1): "100"}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog", "3"]
    drawn(ax)


def test_intervals_stand_beside_their_names_and_what_is_true(ax):
    plots.intervals(ax, {"a": (0.5, 0.4, 0.7), "b": (0.8, 0.6, 0.9)}, {"a": 0.45, "b": None}, bold="b")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    spans = [line.get_xdata().tolist() for line in ax.lines]
    assert spans == [[0.4, 0.7], [0.5], [0.45], [0.6, 0.9], [0.8]]
    assert [line.get_color() for line in ax.lines] == [plots.SOURCE] * 2 + ["k"] + [plots.TARGET] * 2
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first on top


def test_a_history_has_a_line_a_term(ax):
    plots.history(ax, [{"step": 0, "label": 0.7}, {"step": 50, "label": 0.2}])
    (line,) = ax.lines
    assert line.get_xydata().tolist() == [[0, 0.7], [50, 0.2]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["label loss"]


def test_a_history_with_domains_shows_where_they_cannot_be_told_apart(ax):
    plots.history(ax, [{"step": 0, "label": 0.7, "domain": 1.4}])
    assert [line.get_label() for line in ax.lines][:2] == ["label loss", "domain loss"]
    assert ax.lines[2].get_ydata()[0] == pytest.approx(2 * np.log(2))
    drawn(ax)
