from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp

from dann.evidence import Evidence
from dann.shift import carriers, diagnose, divergence, estimate_label_shift, same_predictions, two_sample_test

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
        inside += ((found.priors_low <= target) & (target <= found.priors_high)).tolist()
    assert 0.8 <= np.mean(inside) <= 0.98


def test_a_class_that_is_missing_in_the_target_has_no_share():
    assert estimate_label_shift(shifted([0.3, 0.3, 0.4], [0.5, 0.5, 0.0], 4000, 4000)).priors[2] < 0.02


def test_a_class_without_source_rows_is_named():
    with pytest.raises(ValueError, match="no held-out source row has class 2"):
        estimate_label_shift(shifted([0.5, 0.5, 0.0], [0.3, 0.3, 0.4]))


def test_a_model_of_one_prediction_says_nothing():
    logits, y = np.tile([1.0, 0, 0], (30, 1)), np.repeat([0, 1, 2], [15, 9, 6])
    found = estimate_label_shift(Evidence(np.zeros((30, 1)), logits, y, np.zeros((30, 1)), logits))
    assert np.isfinite(found.priors).all()
    assert found.priors.sum() == pytest.approx(1)
    assert (found.priors_low < 0.1).all()
    assert (found.priors_high > 0.9).all()


def test_predictions_that_no_source_row_has_leave_the_shares_as_they_are():
    logits, y = np.eye(3)[np.arange(30) % 2], np.repeat([0, 1, 2], [15, 9, 6])
    found = estimate_label_shift(Evidence(np.zeros((30, 1)), logits, y, np.zeros((8, 1)), np.eye(3)[[2] * 8]))
    np.testing.assert_allclose(found.weights, 1)
    np.testing.assert_allclose(found.priors, [0.5, 0.3, 0.2])


def test_classes_that_are_predicted_alike_have_wide_intervals():
    made = shifted([0.3, 0.3, 0.4], [0.2, 0.2, 0.6])
    merged = [np.eye(3)[np.minimum(logits.argmax(1), 1)] for logits in (made.source_logits, made.target_logits)]
    found = estimate_label_shift(replace(made, source_logits=merged[0], target_logits=merged[1]))
    assert found.priors_low[2] < 0.6 < found.priors_high[2]
    assert found.priors_high[2] - found.priors_low[2] > 0.4


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


def test_a_shift_that_leaves_all_means_alone_is_found():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 400, 2))
    assert two_sample_test(x[0] * [3, 0.3], x[1] * [0.3, 3]).p_value < 1e-6


def test_the_p_value_is_twice_that_of_a_fair_coin():
    from scipy.stats import binomtest

    rng = np.random.default_rng(1)
    found = two_sample_test(rng.normal(0, 1, (50, 2)), rng.normal(0.3, 1, (50, 2)))
    expected = binomtest(round(found.accuracy * 50), 50, 0.5, alternative="greater").pvalue
    assert found.p_value == pytest.approx(min(1.0, 2 * expected))


def test_samples_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="needs ten rows of each domain; there are 9 and 50"):
        two_sample_test(np.zeros((9, 2)), np.zeros((50, 2)))
    with pytest.raises(ValueError, match=r"rows of shape \(2,\) and \(3,\) cannot be compared"):
        two_sample_test(np.zeros((20, 2)), np.zeros((20, 3)))


def evidence(features, of_target, y, predicted, classes=2):
    logits = lambda codes: 4.0 * np.eye(classes)[codes]  # noqa: E731
    return Evidence(features, logits(y), y, of_target, logits(predicted))


def test_no_shift_is_called_none():
    random = np.random.default_rng(0)
    y, predicted = random.integers(2, size=300), random.integers(2, size=300)
    features = [random.normal(size=(300, 3)) + 4 * codes[:, None] for codes in (y, predicted)]
    found = diagnose(evidence(*features, y, predicted))
    assert found.kind == "none"
    assert found.sentences()[0].startswith("no shift is seen in the features that the model makes (p = ")


def test_class_shares_alone_are_called_labels():
    random = np.random.default_rng(0)
    y, predicted = random.integers(2, size=600), (random.random(600) < 0.95).astype(int)
    features = [random.normal(size=(600, 3)) + 4 * codes[:, None] for codes in (y, predicted)]
    found = diagnose(evidence(*features, y, predicted))
    assert found.kind == "labels"
    assert found.weights[0] == pytest.approx(0.1, abs=0.06)
    assert found.p_value < 1e-6 < 0.05 < found.p_value_weighted
    assert found.sentences()[0].startswith("the shift is mostly one of class shares")


def test_what_only_more_rows_would_show_is_not_called_labels():
    """Inputs shift, predictions tell of other class shares, and too few source rows are left in these to see it."""
    kinds = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        y, truth = np.arange(80) % 2, np.arange(120) % 2
        predicted = np.where(random.random(120) < 0.8, 1, truth)
        features = [random.normal(size=(len(k), 3)) + k[:, None] + move for k, move in ((y, 0), (truth, [0, 0.7, 0]))]
        kinds.append(diagnose(evidence(*features, y, predicted)).kind)
    assert kinds.count("unclear") >= 2
    assert kinds.count("labels") <= 2


def test_moved_inputs_are_called_so():
    random = np.random.default_rng(0)
    y, predicted = np.arange(300) % 2, np.arange(300) % 2
    features = [random.normal(size=(300, 3)) + 4 * y[:, None] + shift for shift in (0, [0, 3, -3])]
    assert diagnose(evidence(*features, y, predicted)).kind == "inputs"


def test_with_many_classes_inputs_that_move_are_not_called_both():
    """Each class by itself may seem to differ; ten of them would, by chance, in most draws."""
    kinds = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        y, truth = random.integers(10, size=(2, 400))
        features = [random.normal(size=(400, 3)) + k[:, None] + move for k, move in ((y, 0), (truth, [0, 3, 0]))]
        kinds.append(diagnose(evidence(*features, y, truth, classes=10)).kind)
    assert kinds.count("inputs") >= 17


def test_predictions_as_frequent_as_before_are_told_from_others():
    equal = [same_predictions(shifted([0.5, 0.3, 0.2], [0.5, 0.3, 0.2], seed=k)) for k in range(100)]
    assert np.mean(np.array(equal) <= 0.05) <= 0.12
    assert same_predictions(shifted([0.5, 0.3, 0.2], [0.2, 0.3, 0.5])) < 1e-6
    one = Evidence(np.zeros((5, 1)), np.eye(2)[[0] * 5], np.arange(5) % 2, np.zeros((4, 1)), np.eye(2)[[0] * 4])
    assert same_predictions(one) == 1


def test_classes_too_rare_for_the_test_do_not_spoil_it():
    random, rare = np.random.default_rng(0), 1 / np.arange(1, 101)
    found = []
    for _ in range(400):
        codes = [random.choice(100, n, p=rare / rare.sum()) for n in (2000, 40)]
        of_source, of_target = (np.eye(100)[code] for code in codes)
        made = Evidence(np.zeros((2000, 1)), of_source, codes[0], np.zeros((40, 1)), of_target)
        found.append(same_predictions(made))
    assert np.mean(np.array(found) <= 0.05) <= 0.08


def test_class_shares_that_differ_set_a_bound_on_what_alignment_can_do():
    random = np.random.default_rng(0)
    y, predicted = np.arange(800) % 2, (random.random(800) < 0.98).astype(int)
    features = [np.c_[4.0 * classes, random.normal(size=(800, 2))] for classes in (y, predicted)]
    found = diagnose(evidence(*features, y, predicted))
    assert found.kind == "labels"
    p, q = np.array(found.source_shares), np.array(found.priors)
    middle = (p + q) / 2
    by_hand = (np.sum(p * np.log2(p / middle)) + np.sum(q * np.log2(q / middle))) / 2
    assert found.bound == pytest.approx(by_hand / 2)
    assert found.bound > 0.1
    assert f"both errors sum to {found.bound:.2f} or more" in found.sentences()[1]


@pytest.mark.parametrize(("wrong", "kind"), [(0.0, "inputs"), (0.4, "both")])
def test_inputs_that_shift_set_no_bound(wrong, kind):
    """Mistakes pass for class shares there."""
    random = np.random.default_rng(0)
    y = np.arange(800) % 2
    predicted = np.where(random.random(800) < wrong, 0, y)
    features = [np.c_[4.0 * y + shift, random.normal(size=(800, 2))] for shift in (0, 1)]
    found = diagnose(evidence(*features, y, predicted))
    assert (found.kind, found.bound, len(found.sentences())) == (kind, 0.0, 1)


def test_the_divergence_is_that_of_jensen_and_shannon():
    from scipy.spatial.distance import jensenshannon

    p, q = np.array([0.2, 0.8, 0.0]), np.array([0.5, 0.25, 0.25])
    assert divergence(p, q) == pytest.approx(jensenshannon(p, q, base=2))
    assert divergence(p, p) == 0
    assert divergence(np.array([1.0, 0]), np.array([0, 1.0])) == pytest.approx(1)


def test_the_columns_that_carry_a_shift_come_first():
    random = np.random.default_rng(0)
    x, x_target = random.normal(size=(200, 3)), random.normal([0, 2, 0], size=(150, 3))
    found = carriers(x, x_target, ["a", "b", "c"])
    assert found[0][0] == "b"
    assert found[0][2] < 1e-6 < 0.05 < found[1][2]
    assert carriers(x, x_target)[0][0] == "1"


def test_p_values_of_columns_count_how_many_there_are():
    random = np.random.default_rng(1)
    x, x_target = random.integers(0, 6, (130, 4)) * 1.0, random.integers(0, 8, (90, 4)) * 1.0  # with ties
    x[:, 3], x_target[:, 3] = random.normal(size=130), random.normal(0.5, 2, 90)
    for name, distance, p in carriers(x, x_target):
        wanted = ks_2samp(x[:, int(name)], x_target[:, int(name)])
        assert distance == pytest.approx(wanted.statistic)
        assert 0.3 * p < min(1, 4 * wanted.pvalue) <= p  # the limit distribution is careful


def test_a_column_with_gaps_is_named():
    x = np.ones((20, 2))
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="column b has NaN or infinity"):
        carriers(x, np.ones((20, 2)), ["a", "b"])


# Weights, priors and their intervals; shifts that predictions alone tell.


def test_weights_and_their_intervals_are_priors_by_the_shares_of_the_source():
    made = shifted([0.2, 0.3, 0.5], [0.6, 0.3, 0.1])
    found, share = estimate_label_shift(made), np.bincount(made.source_y) / len(made.source_y)
    for of_weights, of_priors in (
        (found.weights, found.priors),
        (found.weights_low, found.priors_low),
        (found.weights_high, found.priors_high),
    ):
        np.testing.assert_allclose(of_weights * share, of_priors)
    assert (found.weights_low <= found.weights).all()
    assert (found.weights <= found.weights_high).all()


def test_a_diagnosis_has_weights_and_priors_each_beside_its_own_interval():
    made = shifted([0.2, 0.3, 0.5], [0.6, 0.3, 0.1])
    found, expected = diagnose(made), estimate_label_shift(made)
    for name in expected._fields:
        assert getattr(found, name) == getattr(expected, name).tolist()
    assert sum(found.priors) == pytest.approx(1)
    np.testing.assert_allclose(np.array(found.weights) * found.source_shares, found.priors)


def test_class_shares_that_the_features_of_a_few_rows_do_not_show_are_no_absence_of_a_shift():
    random = np.random.default_rng(0)
    y, predicted = np.arange(30) % 2, np.repeat([0, 1], [1, 29])
    features = [random.normal(size=(30, 3)) + 0.5 * codes[:, None] for codes in (y, predicted)]
    found = diagnose(evidence(*features, y, predicted))
    assert found.p_value_predictions < 1e-3 < 0.05 < found.p_value
    assert found.kind == "unclear"  # a shift of inputs could not be told from it
    assert diagnose(evidence(*features, y, predicted, classes=3)).kind == "unclear"


def test_without_a_shift_one_is_seen_in_no_more_than_the_levels_share():
    seen = []
    for n, m, classes in ((20, 20, 2), (30, 50, 3), (60, 25, 5)):
        for seed in range(40):
            random = np.random.default_rng(seed)
            y, predicted = random.integers(classes, size=n), random.integers(classes, size=m)
            features = [random.normal(size=(len(codes), 3)) + 2 * codes[:, None] for codes in (y, predicted)]
            seen.append(diagnose(evidence(*features, y, predicted, classes)).kind != "none")
    assert 0 < np.mean(seen) <= 0.05
