import numpy as np
import pytest

from dann.datasets import Labelled, moons
from dann.datasets.variations import changed, coarse, drift, noisy, reversed_task, strokes, turned

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8)).astype(np.uint8)


def test_the_way_back_swaps_source_and_target():
    task = moons(n=20, seed=0)
    back = reversed_task(task)
    assert (back.source, back.target) == (task.target, task.source)
    assert (back.source_test, back.target_test) == (task.target_test, task.source_test)


def test_halves_share_no_row_and_only_the_target_is_changed():
    x = np.arange(41, dtype=np.float32)[:, None]
    task = changed(Labelled(x, np.arange(41)), "plus", lambda rows: rows + 100)
    np.testing.assert_array_equal(task.source.x[:, 0], task.source.y)
    np.testing.assert_array_equal(task.target.x[:, 0], task.target.y + 100)
    assert sorted([*task.source.y, *task.target.y]) == list(range(41))
    assert task.target_test is task.target


def test_coarse_images_have_blocks_of_one_value():
    out = coarse(4)(IMAGES)
    assert out.dtype == np.uint8
    assert out[2, 0, 5, 1] == np.round(IMAGES[2, 0, 4:8, 0:4].mean())
    assert (out[:, :, :4, 4:] == out[:, :, :1, 4:5]).all()
    with pytest.raises(ValueError, match="8x8 pixels do not fall into blocks of 3"):
        coarse(3)(IMAGES)


def test_strokes_grow_and_shrink():
    dot = np.zeros((1, 1, 5, 5), np.uint8)
    dot[0, 0, 2, 2] = 200
    assert (strokes(3)(dot) == 200).sum() == 9
    assert (strokes(-2)(dot) == 0).all()


def test_noise_stays_in_range_and_is_repeatable():
    out = noisy(80)(IMAGES)
    np.testing.assert_array_equal(out, noisy(80)(IMAGES))
    assert out.dtype == np.uint8
    assert 20 < np.abs(out.astype(float) - IMAGES).mean() < 70


def test_turned_images_keep_their_shape():
    assert turned(90)(IMAGES).shape == IMAGES.shape
    np.testing.assert_array_equal(turned(90)(IMAGES)[0, 0], np.rot90(IMAGES[0, 0]))


def test_drift_gives_every_column_a_gain_and_an_offset():
    x = np.random.default_rng(1).normal(size=(500, 3)).astype(np.float32)
    out = drift(0.5)(x)
    for k in range(3):
        assert abs(np.corrcoef(x[:, k], out[:, k])[0, 1]) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(drift(0.0)(x), x, atol=1e-6)
