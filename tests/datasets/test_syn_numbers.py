import importlib

import numpy as np
import pytest

from dann.datasets import DatasetNotFound, find_fonts, render_numbers, syn_numbers
from dann.datasets.syn_numbers import DIGITS, enlarge, load_fonts, mask, neighbours

module = importlib.import_module("dann.datasets.syn_numbers")  # the package's name is the function


@pytest.fixture
def font():
    return next(path for path in find_fonts() if path.name == "DejaVuSans.ttf")


@pytest.fixture
def upright(monkeypatch):
    """Large numbers without rotation, shift, blur and outline."""
    for name, value in {"HEIGHT": (24, 24), "SHIFT": 0, "ROTATION": 0, "BLUR": 0, "STROKED": 0, "CONTRAST": 90}.items():
        monkeypatch.setattr(module, name, value)


def test_the_label_is_the_digit_at_the_centre(font, upright):
    (loaded,) = load_fonts([font])
    templates = np.stack([mask(loaded, "", digit, "", 0, 0.0, 24.0, np.array([16, 16])) for digit in DIGITS])
    middle = slice(9, 23), slice(9, 23)  # neighbours do not reach it
    templates = np.stack([standardised(t[middle]) for t in templates])
    images, labels = render_numbers(200, fonts=[font])
    read = []
    for image in images:
        channels = np.stack([standardised(channel[middle]) for channel in image.astype(float)])
        read.append(np.abs(channels @ templates.T).max(axis=0).argmax())
    assert (np.array(read) == labels).mean() > 0.9


def standardised(patch):
    flat = patch.ravel() - patch.mean()
    return flat / max(np.linalg.norm(flat), 1e-6)


def test_numbers_have_one_to_three_digits_in_equal_shares():
    lengths = [len("".join(neighbours(np.random.default_rng(seed)))) + 1 for seed in range(3000)]
    shares = np.bincount(lengths, minlength=4)[1:] / 3000
    np.testing.assert_allclose(shares, 1 / 3, atol=0.04)


def test_neighbours_stand_on_either_side(font):
    (loaded,) = load_fonts([font])
    centre = np.array([16, 16])
    alone, left, right = (mask(loaded, b, "1", a, 0, 0.0, 14.0, centre) for b, a in (("", ""), ("8", ""), ("", "8")))
    assert left[:, :10].sum() > alone[:, :10].sum() + 5
    assert right[:, 22:].sum() > alone[:, 22:].sum() + 5
    np.testing.assert_allclose(left[:, 13:19], alone[:, 13:19], atol=0.1)  # the labelled digit has not moved


@pytest.mark.parametrize("angle", [0.0, 0.35])
def test_the_digit_is_centred_where_it_should_be_however_it_is_turned(font, angle):
    (loaded,) = load_fonts([font])
    cover = mask(loaded, "", "8", "", 0, angle, 20.0, np.array([14.0, 19.0]))
    down, along = np.mgrid[:32, :32] + 0.5
    assert (cover * along).sum() / cover.sum() == pytest.approx(14.0, abs=0.7)
    assert (cover * down).sum() / cover.sum() == pytest.approx(19.0, abs=0.7)


def test_height_is_that_of_the_digit(font):
    (loaded,) = load_fonts([font])
    cover = mask(loaded, "", "8", "", 0, 0.0, 20.0, np.array([16.0, 16.0]))
    assert (cover.max(axis=1) > 0.5).sum() == pytest.approx(20, abs=1)


def test_rows_depend_on_the_seed_and_their_number_only(font):
    few, many, other = render_numbers(5, 1, [font]), render_numbers(20, 1, [font]), render_numbers(5, 2, [font])
    np.testing.assert_array_equal(few.x, many.x[:5])
    np.testing.assert_array_equal(few.y, many.y[:5])
    assert all((a != b).any() for a, b in zip(few.x, other.x, strict=True))
    assert len({image.tobytes() for image in many.x}) == 20


def test_images_are_coloured_and_every_label_occurs(font):
    images, labels = render_numbers(200, fonts=[font])
    assert images.shape == (200, 3, 32, 32)
    assert images.dtype == np.uint8
    assert set(labels.tolist()) == set(range(10))
    assert (images[:, 0] != images[:, 1]).any(axis=(1, 2)).all()
    assert images.std(axis=(1, 2, 3)).min() > 3  # none is blank


def test_fonts_without_digits_are_skipped(font, tmp_path):
    symbols = next(path for path in find_fonts() if path.name == "cmsy10.ttf")
    boxes = [path for path in find_fonts() if path.name.startswith("LastResort")]  # none with matplotlib before 3.10
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(font.read_bytes()[:500])
    assert len(load_fonts([symbols, *boxes, broken, tmp_path / "missing.ttf", font])) == 1
    with pytest.raises(DatasetNotFound, match=r"none of 2 font files holds readable digits \(tried .*cmsy10\.ttf"):
        render_numbers(3, fonts=[symbols, broken])


def test_every_usual_kind_of_font_can_be_used():
    names = {path.name: path for path in find_fonts()}
    usual = ["DejaVuSans.ttf", "DejaVuSerif-BoldItalic.ttf", "DejaVuSansMono.ttf", "STIXGeneral.ttf", "cmr10.ttf"]
    assert len(load_fonts([names[name] for name in usual])) == 5


def test_too_few_numbers_are_refused(font):
    with pytest.raises(ValueError, match="n=0 is too small"):
        render_numbers(0, fonts=[font])


def test_enlarging_agrees_with_pillow_and_keeps_flat_images_flat():
    from PIL import Image

    images = np.random.default_rng(0).integers(256, size=(3, 28, 28), dtype=np.uint8)
    for image, large in zip(images, enlarge(images, 32), strict=True):
        expected = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR), int)
        assert np.abs(large - expected).max() <= 1
    assert (enlarge(np.full((1, 28, 28), 200, np.uint8), 32) == 200).all()


def test_the_task_holds_numbers_and_mnist_digits_of_one_shape(small_mnist, font):
    task = syn_numbers(50, n_test=20, fonts=[font])
    for part, n in ((task.source, 50), (task.target, 50), (task.source_test, 20), (task.target_test, 20)):
        assert part.x.shape == (n, 3, 32, 32)
        assert part.x.dtype == np.uint8
        assert part.y.shape == (n,)
    drawn = {image.tobytes() for image in task.source.x}
    assert not any(image.tobytes() in drawn for image in task.source_test.x)
    with pytest.raises(ValueError, match="41 rows asked for: this part has 1 to 40"):
        syn_numbers(50, n_test=41, fonts=[font])
