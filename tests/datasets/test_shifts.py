import numpy as np
import pytest

from dann.datasets import Labelled, Task, label_shift, moons, shifted_table


def test_only_the_targets_classes_become_rarer():
    task = moons(n=2000, seed=0)
    shifted = label_shift(task, [1], 0.3)
    for part, before in ((shifted.target, task.target), (shifted.target_test, task.target_test)):
        counts, whole = np.bincount(part.y), np.bincount(before.y)
        assert counts[0] == whole[0]
        assert counts[1] / whole[1] == pytest.approx(0.3, abs=0.05)
        assert {tuple(row) for row in part.x} <= {tuple(row) for row in before.x}
    assert shifted.source is task.source
    assert shifted.source_test is task.source_test
    assert shifted.name == "moons-shifted"


def test_rows_keep_their_labels():
    x = np.arange(100.0, dtype=np.float32)[:, None]
    part = Labelled(x, (x[:, 0] % 3).astype(np.int64))
    shifted = label_shift(Task("t", part, part, part, part), [0, 2], 0.5).target
    np.testing.assert_array_equal(shifted.y, shifted.x[:, 0] % 3)


def test_the_same_seed_keeps_the_same_rows_and_another_others():
    task = moons(n=200, seed=0)
    first, again, other = (label_shift(task, [0], 0.5, seed).target.x for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(other) or not np.array_equal(first, other)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_a_share(share):
    with pytest.raises(ValueError, match=f"share={share}"):
        label_shift(moons(), [0], share)


def test_the_tables_domains_differ_in_the_column_and_share_no_row():
    task = shifted_table(seed=0)
    column = 1  # mean texture
    assert np.median(task.target.x[:, column]) > 1.2 * np.median(task.source.x[:, column])
    parts = [task.source, task.target, task.source_test, task.target_test]
    rows = [tuple(row) for part in parts for row in part.x]
    assert len(rows) == len(set(rows)) == 569
    assert all(set(part.y) == {0, 1} for part in parts)


def test_without_sharpness_the_split_is_random():
    task = shifted_table(sharpness=0.0)
    assert np.median(task.target.x[:, 1]) == pytest.approx(np.median(task.source.x[:, 1]), rel=0.1)


def test_an_unknown_column_is_told_the_known_ones():
    with pytest.raises(ValueError, match="unknown column 'texture'; choose one of: mean radius, mean texture"):
        shifted_table("texture")
