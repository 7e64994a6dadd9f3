import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from dann import VALIDATORS, runs
from dann.evidence import Evidence, clusters, mixtures, nearest, structure_of
from dann.validators.input_ami import ami

ROWS = {
    "source_features": np.zeros((5, 2)),
    "source_logits": np.zeros((5, 3)),
    "source_y": np.array([0, 1, 2, 0, 1]),
    "target_features": np.ones((4, 2)),
    "target_logits": np.ones((4, 3)),
}


def test_there_is_no_place_for_target_labels():
    assert not [name for name in Evidence.__dataclass_fields__ if "target" in name and "y" in name.split("_")]
    with pytest.raises(TypeError):
        Evidence(**ROWS, target_y=np.zeros(4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_y": np.zeros(4, int)}, r"source_y has shape \(4,\); expected \(5,\)"),
        ({"target_features": np.ones((4, 3))}, r"target_features has shape \(4, 3\); expected \(4, 2\)"),
        ({"mixed_logits": np.ones((3, 3))}, "mixed_logits has shape"),
        ({"other_target_logits": np.ones((2, 3, 3))}, "other_target_logits has shape"),
        ({"target_neighbors": np.zeros((3, 2), int)}, r"target_neighbors has shape \(3, 2\); expected \(4, 2\)"),
        ({"target_neighbors": np.full((4, 2), 4)}, "target_neighbors are no row numbers from 0 to 3"),
        ({"target_neighbors": np.zeros((4, 2))}, "target_neighbors are no row numbers from 0 to 3"),
        ({"source_clusters": np.zeros(4, int)}, r"source_clusters has shape \(4,\); expected \(5,\)"),
        ({"crowd_clusters": np.zeros(9, int)}, "give both, or none"),
        ({"crowd_clusters": np.zeros(9, int), "crowd_classes": np.zeros(8, int)}, r"crowd_classes has shape \(8,\)"),
        ({"crowd_clusters": np.zeros(2, int), "crowd_classes": np.array([0, 3])}, "crowd_classes are no class codes"),
        ({"source_y": np.array([0, 1, 2, 0, 3])}, "source_y has labels from 0 to 3: not 0 … 2"),
        ({"source_y": np.array([0, -1, 2, 0, 1])}, "source_y has labels from -1"),
        ({"target_logits": np.full((4, 3), np.nan)}, "target_logits holds NaN or infinite values: the model has div"),
        ({"target_features": np.ones((0, 2)), "target_logits": np.ones((0, 3))}, "5 source rows and 0 target rows"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Evidence(**{**ROWS, **change})


@pytest.mark.parametrize("shape", [(6, 40), (6, 8, 8)])
def test_channels_of_other_units_hide_nothing(shape):
    random, y = np.random.default_rng(0), np.arange(200) % 2
    x = random.normal(size=(200, *shape)) + 3 * y.reshape(-1, *[1] * len(shape))
    x[:, 5] = 101325 + 300 * random.normal(size=x[:, 5].shape)  # a pressure in Pa
    assert ami(y, clusters(x, 2)) > 0.95


def test_rows_that_stand_for_series_are_clustered_as_series():
    random, y = np.random.default_rng(0), np.arange(200) % 2
    x = random.normal(size=(200, 1, 3, 40)) + 3 * y[:, None, None, None]
    x[:, :, 2] = 1000 * random.normal(size=(200, 1, 40))
    as_images, as_series = (structure_of(x, x, x, x, 2, series=s).crowd_clusters for s in (False, True))
    assert np.array_equal(as_series, clusters(x[:, 0], 2))
    assert not np.array_equal(as_images, as_series)


def test_it_is_written_and_read(tmp_path):
    made = Evidence(**ROWS, other_target_logits=np.ones((2, 4, 3)))
    read = runs.load_evidence(runs.save_evidence(tmp_path / "evidence.safetensors", made))
    for name in Evidence.__dataclass_fields__:
        a, b = getattr(made, name), getattr(read, name)
        assert (a is None and b is None) or np.array_equal(a, b)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_evidence_is_refused(content, tmp_path):
    (tmp_path / "e.npz").write_bytes(content)
    with pytest.raises(ValueError, match="is no evidence"):
        runs.load_evidence(tmp_path / "e.npz")


def test_other_arrays_damage_and_pickles_are_refused(tmp_path):
    path = tmp_path / "evidence.safetensors"
    save_file({name: np.ascontiguousarray(a) for name, a in {**ROWS, "target_y": np.zeros(4)}.items()}, path)
    with pytest.raises(ValueError, match="is no evidence"):
        runs.load_evidence(path)
    whole = runs.save_evidence(path, Evidence(**ROWS)).read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="is no evidence"):
            runs.load_evidence(path)
    path.write_bytes(pickle.dumps(ROWS))
    with pytest.raises(ValueError, match="is no evidence"):
        runs.load_evidence(path)
    with pytest.raises(FileNotFoundError):
        runs.load_evidence(tmp_path / "none")


def test_mixtures_are_a_permutation():
    assert sorted(mixtures(7).tolist()) == list(range(7))
    assert np.array_equal(mixtures(7), mixtures(7))


def test_nearest_rows_are_found_without_themselves():
    x = np.array([[0.0, 0], [1, 0], [10, 0], [12, 0]])
    assert nearest(x, 1)[:, 0].tolist() == [1, 0, 3, 2]
    assert nearest(x, 9).shape == (4, 3)


def test_large_images_are_compared_by_means_of_patches():
    x = np.random.default_rng(0).integers(0, 255, (40, 3, 70, 50)).astype(np.uint8)
    small = np.stack([[block.reshape(23, 3, 25, 2).mean((1, 3)) for block in image[:, :69, :50]] for image in x])
    assert np.array_equal(nearest(x), nearest(small))


def test_columns_of_tables_count_alike_and_constant_ones_nothing():
    x = np.array([[0.0, 0, 7], [0.1, 1000, 7], [5, 10, 7], [5.1, 1010, 7]])
    assert nearest(x, 1)[:, 0].tolist() == nearest(x * [1, 1e-3, 1], 1)[:, 0].tolist()


def test_one_row_has_no_neighbours():
    with pytest.raises(ValueError, match="neighbours need two rows; there are 1"):
        nearest(np.zeros((1, 2)))


def rings(n, seed=0):
    random = np.random.default_rng(seed)
    which, angle = random.integers(2, size=n), random.uniform(0, 2 * np.pi, n)
    radius = 1.0 + 2 * which + random.normal(size=n) * 0.05
    return np.c_[radius * np.cos(angle), radius * np.sin(angle)], which


def test_clusters_follow_chains_of_near_rows():
    x, which = rings(600)
    found = clusters(x, 2)
    assert np.array_equal(found == found[0], which == which[0])
    assert np.array_equal(clusters(x, 2), found)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_too_few_rows_for_clusters_are_clusters_each(n):
    assert clusters(np.arange(n)[:, None] * 1.0, 3).tolist() == list(range(n))


def test_rows_that_are_all_equal_are_one_cluster():
    assert not clusters(np.ones((50, 2)), 3).any()


def two_blobs(n, seed=0):
    random = np.random.default_rng(seed)
    which = random.integers(2, size=n)
    return random.normal(size=(n, 2)) + 8 * which[:, None], which


def test_a_few_rows_apart_get_no_cluster_of_their_own():
    x, which = two_blobs(1000)
    apart = np.random.default_rng(1).normal(size=(30, 2)) * 0.1 + [60, 0]
    found = clusters(np.concatenate([x, apart]), 2)
    assert np.array_equal(found[:1000] == found[0], which == which[0])
    assert len(set(found[1000:])) == 1


def test_equal_rows_are_one_row_and_the_order_of_rows_does_not_matter():
    random = np.random.default_rng(0)
    which = random.integers(2, size=1000)
    x = (random.random((1000, 12)) < np.where(which, 0.9, 0.1)[:, None]).astype(np.float32)
    found, order = clusters(x, 2), random.permutation(1000)
    assert ami(found, which) > 0.8
    assert ami(clusters(x[order], 2), found[order]) > 0.9
    assert len(set(clusters(np.repeat([[0.0], [1.0], [5.0]], 400, axis=0), 2))) == 3


def test_tensors_and_sequences_are_welcome():
    features, logits = torch.randn(4, 2, requires_grad=True), torch.randn(4, 2).bfloat16()
    made = Evidence(features, logits, [0, 1, 0, 1], features.tolist(), logits)
    np.testing.assert_array_equal(made.source_features, features.detach().numpy())
    np.testing.assert_array_equal(made.target_logits, logits.float().numpy())
    assert made.target_features.shape == (4, 2)
    assert all(np.isfinite(VALIDATORS[name](made)) for name in ("source-loss", "bnm", "mmd"))
    with pytest.raises(ValueError, match="source_y is float64; expected class codes 0 … 1 as whole numbers"):
        Evidence(features, logits, np.array([0.0, 1, 0, 1]), features, logits)
    with pytest.raises(ValueError, match=r"expected \(n, dim\), \(n, classes\)"):
        Evidence(features[:, 0], logits, [0, 1, 0, 1], features, logits)
    assert Evidence(list(features), list(logits), [0, 1, 0, 1], features, logits).source_features.shape == (4, 2)
    with pytest.raises(ValueError, match="source_features is an array of <U1; expected numbers"):
        Evidence([["a", "b"]] * 4, logits, [0, 1, 0, 1], features, logits)
