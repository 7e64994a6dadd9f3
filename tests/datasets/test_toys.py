import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from dann.datasets import blobs, double_moon, moons
from dann.datasets.toys import rotate

PARTS = ("source", "target", "source_test", "target_test")


@pytest.mark.parametrize("make", [moons, double_moon])
@pytest.mark.parametrize("part", ["target", "target_test"])
def test_rotating_the_target_back_about_the_source_mean_undoes_the_rotation(make, part):
    turned, upright = make(rotation=50.0), make(rotation=0.0)
    centre = turned.source.x.mean(axis=0, dtype=np.float64)
    back = rotate(getattr(turned, part).x, -50.0, centre)
    np.testing.assert_allclose(back, getattr(upright, part).x, atol=1e-4)


def test_rotated_back_every_target_moon_lies_on_the_source_moon_of_its_class():
    task = moons()
    back = rotate(task.target.x, -35.0, task.source.x.mean(axis=0))
    for label in (0, 1):
        source = NearestNeighbors(n_neighbors=1).fit(task.source.x[task.source.y == label])
        distance, _ = source.kneighbors(back[task.target.y == label])
        assert distance.max() < 0.25


def test_rotation_is_counter_clockwise():
    np.testing.assert_allclose(rotate(np.array([[1.0, 0.0]]), 90.0, np.zeros(2)), [[0.0, 1.0]], atol=1e-12)


def test_the_paper_has_150_examples_a_moon():
    task = moons()
    for part in (task.source, task.target):
        assert np.bincount(part.y).tolist() == [150, 150]


def test_the_authors_variant_with_seed_0_is_the_authors_code():
    x, y = make_moons(150, noise=0.05, random_state=1)
    xt, yt = make_moons(150, noise=0.05, random_state=2)
    shift = -np.mean(x, axis=0)
    theta = -35 * np.pi / 180
    rotation = np.array([[np.cos(theta), np.sin(theta)], [-np.sin(theta), np.cos(theta)]])
    task = moons(variant="authors")
    np.testing.assert_allclose(task.source.x, 2 * (x + shift), atol=1e-6)
    np.testing.assert_allclose(task.target.x, np.dot(2 * (xt + shift), rotation.T), atol=1e-6)
    assert (task.source.y == y).all()
    assert (task.target.y == yt).all()


@pytest.mark.parametrize("make", [moons, double_moon, blobs])
def test_classes_are_balanced_and_sizes_are_kept(make):
    task = make(301, n_test=101)
    for part, n in zip(PARTS, (301, 301, 101, 101), strict=True):
        x, y = getattr(task, part)
        assert x.shape == (n, 2)
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert abs(np.bincount(y, minlength=2)[0] - n / 2) < 1


@pytest.mark.parametrize("make", [moons, double_moon, blobs])
def test_the_seed_decides_every_part_and_no_two_parts_are_the_same_draw(make):
    first, again, other = make(100, n_test=100, seed=3), make(100, n_test=100, seed=3), make(100, n_test=100, seed=4)
    for part in PARTS:
        assert (getattr(first, part).x == getattr(again, part).x).all()
        assert not np.allclose(np.sort(getattr(first, part).x, axis=0), np.sort(getattr(other, part).x, axis=0))
    upright = make(100, n_test=100, seed=3) if make is blobs else make(100, n_test=100, seed=3, rotation=0.0)
    draws = [np.sort(getattr(upright, part).x, axis=0) for part in PARTS]
    assert not any(np.allclose(draws[i], draws[j]) for i in range(4) for j in range(i))


def test_double_moon_fills_two_half_rings_evenly():
    x, y = double_moon(20_000, radius=10, width=6, distance=2).source
    upper, lower = x[y == 0], (x[y == 1] - (10, -2)) * (1, -1)
    for half in (upper, lower):
        squared = (half**2).sum(axis=1)
        assert half[:, 1].min() >= -1e-5
        assert squared.min() >= 49 - 1e-3
        assert squared.max() <= 169 + 1e-3
        assert abs(squared.mean() - (49 + 169) / 2) < 1.5  # uniform area means uniform squared radius
    assert x[y == 0][:, 1].min() - x[y == 1][:, 1].max() >= 2 - 1e-5


def test_double_moon_by_default_needs_more_than_a_line():
    x, y = double_moon().source
    test = double_moon().source_test
    assert LogisticRegression().fit(x, y).score(*test) < 0.95
    assert KNeighborsClassifier(1).fit(x, y).score(*test) == 1


def test_blobs_lie_around_their_centres():
    task = blobs(20_000)
    for part, centres in ((task.source, [(0, 0), (0, 1)]), (task.target, [(1, -1), (1, 0)])):
        for label, centre in enumerate(centres):
            np.testing.assert_allclose(part.x[part.y == label].mean(axis=0), centre, atol=0.01)
            np.testing.assert_allclose(part.x[part.y == label].std(axis=0), 0.2, atol=0.01)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: moons(variant="papre"), "variant='papre' is unknown: use 'paper' or 'authors'"),
        (lambda: moons(1), "n=1 is too small"),
        (lambda: blobs(n_test=0), "n_test=0 is too small"),
        (lambda: double_moon(width=25), "width=25 with radius=10"),
        (lambda: blobs(source_centres=[(0, 0)]), "1 source_centres but 2 target_centres"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(call, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        call()
