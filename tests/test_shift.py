import numpy as np
import pytest

from dann.evidence import Evidence
from dann.shift import estimate_label_shift, two_sample_test

CONFUSION = np.array([[0.8, 0.1, 0.2], [0.1, 0.7, 0.1], [0.1, 0.2, 0.7]])  # column: what a class is predicted as


def confused(shares, n, rng):
    """Labels by their shares, and logits of a model that confuses classes as above."""
    y = rng.choice(3, size=n, p=shares)
    predicted = np.array([rng.choice(3, p=CONFUSION[:, label]) for label in y])
    return y, np.eye(3)[predicted]


def shifted(source, target, n=1000, m=1000, seed=0):
    rng = np.random.default_rng(seed)
    (y, logits), (_, of_target) = confused(source, n, rng), confused(target, m, rng)
    return Evidence(np.zeros((n, 1)), logits, y, np.zeros((m, 1)), of_target)


def test_shares_are_found_through_the_confusion():
    found = estimate_label_shift(shifted([0.2, 0.3, 0.5], [0.6, 0.3, 0.1], 6000, 6000))
    np.testing.assert_allclose(found.priors, [0.6, 0.3, 0.1], atol=0.03)
    np.testing.assert_allclose(found.weights, [3, 1, 0.2], atol=0.2)
    assert found.priors.sum() == pytest.approx(1)


def test_weights_solve_the_equation_where_they_can():
    made = shifted([0.2, 0.3, 0.5], [0.5, 0.3, 0.2])
    joint = np.zeros((3, 3))
    np.add.at(joint, (made.source_logits.argmax(1), made.source_y), 1 / 1000)
    mu = np.bincount(made.target_logits.argmax(1), minlength=3) / 1000
    expected = np.linalg.solve(joint, mu)
    assert expected.min() > 0
    expected /= expected @ joint.sum(0)
    np.testing.assert_allclose(estimate_label_shift(made).weights, expected, rtol=1e-6)


def test_intervals_cover_the_truth_as_often_as_they_say():
    target = np.array([0.6, 0.3, 0.1])
    inside = []
    for seed in range(40):
        found = estimate_label_shift(shifted([0.3, 0.3, 0.4], target, 400, 400, seed), rounds=100)
        inside += ((found.low <= target) & (target <= found.high)).tolist()
    assert 0.8 <= np.mean(inside) <= 0.98


def test_a_class_that_is_missing_in_the_target_has_no_share():
    assert estimate_label_shift(shifted([0.3, 0.3, 0.4], [0.5, 0.5, 0.0], 4000, 4000)).priors[2] < 0.02


def test_a_class_without_source_rows_is_named():
    with pytest.raises(ValueError, match="no held-out source row has class 2"):
        estimate_label_shift(shifted([0.5, 0.5, 0.0], [0.3, 0.3, 0.4]))


def test_a_model_of_one_prediction_says_nothing():
    logits = np.tile([1.0, 0, 0], (30, 1))
    found = estimate_label_shift(Evidence(np.zeros((30, 1)), logits, np.arange(30) % 3, np.zeros((30, 1)), logits))
    assert np.isfinite(found.priors).all()
    assert found.priors.sum() == pytest.approx(1)


def test_without_a_shift_the_test_is_wrong_as_often_as_it_says():
    rng = np.random.default_rng(0)
    p = np.array([two_sample_test(*rng.normal(size=(2, 60, 3)), seed=seed).p_value for seed in range(200)])
    assert np.mean(p < 0.1) <= 0.16
    assert np.median(p) > 0.35


def test_a_shift_is_found_in_tables_and_images():
    rng = np.random.default_rng(0)
    found = two_sample_test(rng.normal(0, 1, (300, 4)), rng.normal(0.7, 1, (200, 4)))
    assert found.accuracy > 0.7
    assert found.p_value < 1e-4
    images = rng.integers(0, 200, (2, 40, 3, 8, 8)).astype(np.uint8)
    assert two_sample_test(images[0], images[1] + np.uint8(50)).p_value < 0.01


def test_the_p_value_is_that_of_a_fair_coin():
    from scipy.stats import binomtest

    rng = np.random.default_rng(1)
    found = two_sample_test(rng.normal(0, 1, (50, 2)), rng.normal(0.3, 1, (50, 2)))
    expected = binomtest(round(found.accuracy * 50), 50, 0.5, alternative="greater").pvalue
    assert found.p_value == pytest.approx(expected)


def test_samples_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="needs ten rows of each domain; there are 9 and 50"):
        two_sample_test(np.zeros((9, 2)), np.zeros((50, 2)))
    with pytest.raises(ValueError, match=r"rows of shape \(2,\) and \(3,\) cannot be compared"):
        two_sample_test(np.zeros((20, 2)), np.zeros((20, 3)))
