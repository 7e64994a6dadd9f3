import importlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dann.datasets import digits
from dann.datasets.digits import enlarged, patches, sample_photos, shifted

module = importlib.import_module("dann.datasets.digits")
PARTS = ("source", "target", "source_test", "target_test")
WIDTH = 200  # of the stand-in photos


def numbered(images):
    """Stand-ins for the digits that carry their number in their two middle pixels."""
    out = np.zeros((len(images), 16, 16), np.uint8)
    out[:, 8, 8], out[:, 8, 9] = np.divmod(np.arange(len(images)), 256)
    return out


def striped():
    """Stand-ins for the photos: the value of a pixel is its column."""
    photo = np.repeat(np.broadcast_to(np.arange(WIDTH, dtype=np.uint8), (40, WIDTH))[..., None], 3, axis=2)
    return [photo, photo[:30], photo[:20]]


@pytest.fixture
def small():
    return digits(n=300, n_test_patches=1)


@pytest.fixture
def numbers(monkeypatch):
    """The number of the digit in every image of every part."""
    monkeypatch.setattr(module, "enlarged", numbered)
    monkeypatch.setattr(module, "shifted", lambda images, rng: images.copy())
    monkeypatch.setattr(module, "sample_photos", lambda: [np.zeros((40, 100, 3), np.uint8)])
    task = digits(n=1800, n_test_patches=2)
    found = {}
    for name in PARTS:
        x = getattr(task, name).x[:, 0].astype(int)
        found[name] = 256 * x[:, 8, 8] + x[:, 8, 9]
    return task, found


def test_no_digit_is_in_two_of_source_target_and_test(numbers):
    _, found = numbers
    source, target, test = (set(found[name].tolist()) for name in ("source", "target", "source_test"))
    assert (len(source), len(target), len(test)) == (700, 700, 397)
    assert source | target | test == set(range(1797))


def test_both_domains_are_tested_on_the_same_digits_with_several_patches_each(numbers):
    _, found = numbers
    assert found["source_test"].tolist() == found["target_test"].tolist()
    assert np.unique(np.bincount(found["target_test"])).tolist() == [0, 2]


def test_labels_are_those_of_the_digits(numbers):
    task, found = numbers
    labels = load_digits().target
    for name in PARTS:
        np.testing.assert_array_equal(getattr(task, name).y, labels[found[name]])


def test_every_digit_comes_once_before_any_comes_twice(numbers):
    _, found = numbers
    assert len(set(found["source"][:700].tolist())) == 700
    assert len(set(found["target"][:700].tolist())) == 700
    assert len(set(found["target"][700:1400].tolist())) == 700


def test_training_and_test_patches_come_from_different_columns_of_the_photos(monkeypatch):
    monkeypatch.setattr(module, "enlarged", lambda images: np.zeros((len(images), 16, 16), np.uint8))
    monkeypatch.setattr(module, "sample_photos", striped)
    task = digits(n=600, n_test_patches=3)
    boundary = int(module.TRAINING_WIDTH * WIDTH)
    assert (task.target.x.min(), task.target.x.max()) == (0, boundary - 1)
    assert (task.target_test.x.min(), task.target_test.x.max()) == (boundary, WIDTH - 1)


def test_target_images_are_digit_minus_patch_without_sign(monkeypatch):
    monkeypatch.setattr(module, "sample_photos", lambda: [np.full((30, 100, 3), (0, 100, 255), np.uint8)])
    x = digits(n=50, n_test_patches=1).target.x.astype(int)
    ink = x[:, 0]  # on black, the digit itself
    assert ink.max() == 255
    np.testing.assert_array_equal(x[:, 1], np.abs(ink - 100))
    np.testing.assert_array_equal(x[:, 2], 255 - ink)


@pytest.mark.parametrize("part", ["source", "source_test"])
def test_the_source_is_light_on_black_and_grey(part):
    x = getattr(digits(n=2000), part).x
    corners = x[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (np.median(corners, axis=1) == 0).mean() > 0.9
    np.testing.assert_array_equal(x[:, 0], x[:, 1])
    np.testing.assert_array_equal(x[:, 0], x[:, 2])


def test_sizes_types_and_classes(small):
    for name, n in zip(PARTS, (300, 300, 397, 397), strict=True):
        part = getattr(small, name)
        assert part.x.shape == (n, 3, 16, 16)
        assert part.x.dtype == np.uint8
        assert part.y.dtype == np.int64
        assert set(part.y.tolist()) == set(range(10))
    assert small.name == "digits"
    assert len(digits(n=1).source.x) == 1
    assert len(digits(n=1, n_test_patches=2).target_test.x) == 2 * 397


def test_the_seed_decides_everything(small):
    same, other = digits(n=300, n_test_patches=1), digits(n=300, n_test_patches=1, seed=1)
    for name in PARTS:
        np.testing.assert_array_equal(getattr(same, name).x, getattr(small, name).x)
        np.testing.assert_array_equal(getattr(same, name).y, getattr(small, name).y)
        assert not np.array_equal(getattr(other, name).x, getattr(small, name).x)


def test_the_global_random_state_is_not_used():
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    digits(n=10)
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize("sizes", [{"n": 0}, {"n": -5}, {"n_test_patches": 0}])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(ValueError, match="must be at least 1"):
        digits(**sizes)


# the parts


def test_enlarging_keeps_the_range_and_constant_images_constant():
    images = np.stack([np.zeros((8, 8)), np.full((8, 8), 16.0), np.full((8, 8), 4.0)])
    out = enlarged(images)
    assert out.dtype == np.uint8
    assert [np.unique(image).tolist() for image in out] == [[0], [255], [64]]


def test_enlarging_is_bilinear():
    from PIL import Image

    rng = np.random.default_rng(0)
    small = rng.integers(17, size=(3, 8, 8)).astype(float)
    for image, out in zip(small, enlarged(small), strict=True):
        expected = Image.fromarray((image * 255 / 16).astype(np.float32)).resize((16, 16), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(out, np.asarray(expected), atol=0.51)


def test_shifts_are_of_one_pixel_at_most_in_all_directions_and_fill_with_nothing():
    images = np.zeros((2000, 16, 16), np.uint8)
    images[:, 0, 15] = 1
    images[:, 8, 8] = 2
    out = shifted(images, np.random.default_rng(0))
    places = {tuple(place) for place in np.argwhere(out == 2)[:, 1:].tolist()}
    assert places == {(8 + i, 8 + j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    assert set(np.unique(out)) == {0, 1, 2}
    assert (out == 1).sum() == pytest.approx(2000 * 4 / 9, rel=0.1)  # the corner leaves unless it moves inwards


def test_photos_are_cut_in_turn_between_two_fractions_of_their_widths():
    photos = [np.full((20, 100, 3), k, np.uint8) for k in range(3)]
    cut = patches(photos, 7, 0.0, 1.0, np.random.default_rng(0))
    assert cut[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]
    rows = np.repeat(np.arange(20, dtype=np.uint8)[:, None, None], 3, axis=2)
    photo = np.concatenate([np.broadcast_to(rows, (20, 50, 3)), np.full((20, 50, 3), 99, np.uint8)], axis=1)
    cut = patches([photo], 200, 0.0, 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(cut[:, 0, :, 0], cut[:, :1, :1, 0][:, 0] + np.arange(16))
    assert sorted(set(cut[:, 0, 0, 0].tolist())) == [0, 1, 2, 3, 4]


def test_the_photos_need_no_download():
    photos = sample_photos()
    assert len(photos) == 3
    for photo in photos:
        assert photo.dtype == np.uint8
        assert photo.shape[2] == 3
        assert min(photo.shape[:2]) > 16 / (1 - module.TRAINING_WIDTH)
        assert photo.std() > 20
