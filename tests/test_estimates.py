import math

import numpy as np
import pytest
from scipy.stats import norm

from dann.estimates import atc, calibrated, disagreement, doc, importance_weighted, interval, on_the_line, temperature
from dann.evidence import Evidence


def softmax(rows):
    e = np.exp(rows - rows.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def calibrated_model(n, hardness, rng):
    """Logits of three classes whose probabilities are true, and labels drawn from them."""
    logits = rng.normal(0, hardness, (n, 3))
    y = np.array([rng.choice(3, p=p) for p in softmax(logits)])
    return logits, y


TRUTH = 0.682  # accuracy of `calibrated_model` at hardness 1.5: the mean largest probability over a million rows


def evidence(source, y, target, features=None, others=None):
    sides = (np.zeros((len(source), 2)), np.zeros((len(target), 2))) if features is None else features
    return Evidence(sides[0], source, y, sides[1], target, other_target_logits=others)


def test_the_temperature_undoes_a_factor_on_calibrated_logits():
    logits, y = calibrated_model(4000, 2.0, np.random.default_rng(0))
    assert temperature(logits, y) == pytest.approx(1, abs=0.08)
    assert temperature(7 * logits, y) == pytest.approx(7 * temperature(logits, y), rel=1e-3)


def test_the_temperature_is_the_likeliest():
    logits, y = calibrated_model(300, 2.0, np.random.default_rng(1))
    loss = lambda t: -np.log(softmax(logits / t)[np.arange(300), y]).mean()  # noqa: E731
    t = temperature(logits, y)
    assert loss(t) <= min(loss(0.97 * t), loss(1.03 * t))


def test_atc_counts_target_rows_above_the_threshold_that_fits_the_source():
    rng = np.random.default_rng(0)
    made = evidence(*calibrated_model(50, 2.0, rng), calibrated_model(40, 1.5, rng)[0])
    scaled = calibrated(made)
    score = lambda logits: [sum(p * math.log(p) for p in row) for row in softmax(logits)]  # noqa: E731
    errors = sum(made.source_logits.argmax(1) != made.source_y)
    threshold = sorted(score(scaled.source_logits))[errors]
    expected = np.mean([s >= threshold for s in score(scaled.target_logits)])
    assert atc(made) == pytest.approx(expected)


def test_doc_lowers_the_accuracy_by_the_fall_of_confidence():
    rng = np.random.default_rng(0)
    made = evidence(*calibrated_model(50, 2.0, rng), calibrated_model(40, 1.0, rng)[0])
    scaled = calibrated(made, 0.5 / 51)
    fall = softmax(scaled.source_logits).max(1).mean() - softmax(scaled.target_logits).max(1).mean()
    right = np.mean(made.source_logits.argmax(1) == made.source_y)
    assert doc(made) == pytest.approx(right - fall)


def test_the_difference_of_confidences_is_right_for_a_model_that_stays_calibrated():
    rng = np.random.default_rng(0)
    source, y = calibrated_model(3000, 3.0, rng)
    target, hidden = calibrated_model(3000, 1.5, rng)
    truth = (target.argmax(1) == hidden).mean()
    assert (source.argmax(1) == y).mean() > truth + 0.1
    assert doc(evidence(5 * source, y, 5 * target)) == pytest.approx(truth, abs=0.03)


def test_a_source_without_mistakes_does_not_make_the_difference_of_confidences_sure():
    logits = lambda *margins: np.array([[margin, 0.0] for margin in margins])  # noqa: E731
    made = evidence(logits(*[6.0] * 100), np.zeros(100, int), logits(*[6.0] * 50, *[1.0] * 50))
    believed = made.target_probabilities.max(1).mean()
    assert calibrated(made).target_probabilities.max(1).mean() > 0.99
    assert doc(made) == pytest.approx(believed, abs=0.03)
    assert believed < 0.87


def test_weighed_accuracy_is_right_under_covariate_shift():
    rng = np.random.default_rng(0)
    source, target = rng.normal(0, 1, (4000, 1)), rng.normal(1, 1, (4000, 1))
    chance = lambda x: 1 / (1 + np.exp(3 * x[:, 0]))  # right on small values, wrong on large ones  # noqa: E731
    right, hidden = rng.random(4000) < chance(source), rng.random(4000) < chance(target)
    logits = np.tile([1.0, 0.0], (4000, 1))
    made = evidence(logits, np.where(right, 0, 1), logits, (source, target))
    assert right.mean() > hidden.mean() + 0.2
    assert importance_weighted(made) == pytest.approx(hidden.mean(), abs=0.04)


def test_a_model_that_is_wrong_everywhere_passes_nowhere():
    made = evidence(np.eye(3), np.array([1, 2, 0]), 9 * np.eye(3))
    assert atc(made) == 0


def test_the_difference_of_confidences_is_an_accuracy():
    unsure, sure = np.tile([0.1, 0.0], (50, 1)), np.tile([9.0, 0.0], (50, 1))
    assert doc(evidence(unsure, np.repeat([0, 1], [45, 5]), sure)) == 1
    assert doc(evidence(sure, np.repeat([0, 1], [5, 45]), unsure)) >= 0


def test_weights_of_any_sum_weigh_accuracies(monkeypatch):
    weights = np.array([3.0, 1.0, 4.0])
    monkeypatch.setattr("dann.estimates.importance_weights", lambda evidence: weights)
    made = evidence(np.eye(3), np.array([0, 1, 0]), np.eye(3))  # right, right, wrong
    assert importance_weighted(made) == pytest.approx(4 / 8)


def test_disagreement_is_the_agreement_of_others():
    target = np.eye(3)[[0, 1, 2, 0]]
    others = np.stack([np.eye(3)[[0, 1, 2, 1]], np.eye(3)[[1, 1, 0, 0]]])
    made = evidence(np.eye(3), np.arange(3), target, others=others)
    assert disagreement(made) == pytest.approx((3 / 4 + 2 / 4) / 2)
    with pytest.raises(ValueError, match=r"others=\[...\]"):
        disagreement(evidence(np.eye(3), np.arange(3), target))


def test_on_the_line_finds_accuracies_of_independent_models():
    rng = np.random.default_rng(0)
    n, y, hidden = 6000, rng.integers(2, size=6000), rng.integers(2, size=6000)
    source = rng.normal(size=(9, 2))
    candidates, truth = [], []
    for k in range(6):  # models right by chance alone, the better on the source the better on the target
        z = 0.6 + 0.3 * k
        right = [rng.random(n) < p for p in (0.5 + 0.45 * math.tanh(z), 0.5 + 0.45 * math.tanh(0.5 * z))]
        sides = [np.eye(2)[np.where(r, labels, 1 - labels)] for r, labels in zip(right, (y, hidden), strict=True)]
        candidates.append(evidence(sides[0], y, sides[1]))
        truth.append(right[1].mean())
    error = np.abs(np.array(on_the_line(candidates)) - truth)
    assert error.mean() < 0.06
    with pytest.raises(ValueError, match="needs three models or more; there are 2"):
        on_the_line(candidates[:2])
    with pytest.raises(ValueError, match="the models have other rows than each other"):
        on_the_line([*candidates[:2], evidence(source[:9], y[:9], source[:9])])


def test_the_interval_covers_what_chance_does_to_the_rows():
    covered = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        source, y = calibrated_model(400, 3.0, rng)
        target, _ = calibrated_model(150, 1.5, rng)
        low, high = interval(doc, evidence(source, y, target), rounds=40)
        covered.append(low <= TRUTH <= high)
        assert 0.03 < high - low < 0.2
    assert sum(covered) >= 15


def answers(disagreements, n):
    """Answers of three models, int (3, n), of which the pairs 0-1, 0-2 and 1-2 differ on shares of the rows."""
    of = np.array(disagreements)
    alone = (of.sum() - 2 * of[::-1]) / 2  # shares of the rows on which one model is against the other two
    ends = np.round(n * np.cumsum([0, *alone])).astype(int)
    return np.stack([(np.arange(n) >= ends[k]) & (np.arange(n) < ends[k + 1]) for k in range(3)]).astype(int)


@pytest.mark.parametrize("slope", [0.5, 1.0, 2.0])
def test_on_the_line_accuracies_fall_along_the_line_that_agreements_lie_on(slope):
    on_source, offset, n = np.array([0.6, 0.8, 1.0]), 1 - slope, 20000  # probits of how often pairs agree
    on_target = slope * on_source + offset
    source, target = (answers(1 - norm.cdf(probits), n) for probits in (on_source, on_target))
    y = np.where(np.arange(n) % 10 < 8, 0, 1)
    candidates = [evidence(np.eye(2)[a], y, np.eye(2)[b]) for a, b in zip(source, target, strict=True)]
    expected = [norm.cdf(slope * norm.ppf(np.mean(a == y)) + offset) for a in source]
    assert on_the_line(candidates) == pytest.approx(expected, abs=2e-3)


def test_models_that_agree_alike_on_the_source_are_moved_by_the_mean_fall():
    n, fall = 20000, np.array([0.2, 0.5, 0.8])
    source, target = answers(np.full(3, 0.2), n), answers(1 - norm.cdf(norm.ppf(0.8) - fall), n)
    y = np.where(np.arange(n) % 10 < 8, 0, 1)
    candidates = [evidence(np.eye(2)[a], y, np.eye(2)[b]) for a, b in zip(source, target, strict=True)]
    expected = [norm.cdf(norm.ppf(np.mean(a == y)) - fall.mean()) for a in source]
    assert on_the_line(candidates) == pytest.approx(expected, abs=2e-3)


def test_rounds_take_half_of_the_rows_of_each_domain_once_with_all_that_belongs_to_them():
    numbers = np.arange(9, dtype=float), np.arange(7, dtype=float)
    sides = [np.stack([k, k], 1) for k in numbers]
    made = evidence(sides[0], np.arange(9) % 2, sides[1], sides, others=sides[1][None])
    drawn = []

    def look(half):
        rows = [half.source_features[:, 0], half.target_features[:, 0]]
        drawn.append([row.tolist() for row in rows])
        for found, row in zip(
            (half.source_logits, half.target_logits, half.other_target_logits[0]), (*rows, rows[1]), strict=True
        ):
            np.testing.assert_array_equal(found[:, 0], row)
        np.testing.assert_array_equal(half.source_y, rows[0] % 2)
        return rows[1].mean()

    low, high = interval(look, made, rounds=30)
    assert low < 3 < high
    assert all((len(set(s)), len(set(t))) == (len(s), len(t)) == (5, 4) for s, t in drawn)
    assert len({tuple(sorted(t)) for _, t in drawn}) > 15


def test_atc_lets_pass_what_is_as_certain_as_the_threshold():
    """Of four source rows one is wrong, the least certain; the threshold is the second least certainty, and counts."""
    margins = np.array([1.0, 2.0, 3.0, 4.0])
    logits = np.c_[margins, np.zeros(4)]
    made = evidence(logits, np.array([1, 0, 0, 0]), np.c_[[0.5, 1.0, 2.0, 9.0], np.zeros(4)])
    assert atc(made) == pytest.approx(2 / 4)


@pytest.mark.parametrize("factor", [20.0, 0.03])
def test_temperatures_far_from_one_are_found(factor):
    logits, y = calibrated_model(2000, 2.0, np.random.default_rng(0))
    assert temperature(factor * logits, y) == pytest.approx(factor * temperature(logits, y), rel=1e-2)


@pytest.mark.parametrize("m", [200, 800])
def test_the_interval_of_a_share_is_that_of_so_many_rows(m):
    target = np.eye(2)[(np.arange(m) % 10 < 3).astype(int)]
    made = evidence(np.eye(2), np.arange(2), target)
    low, high = interval(lambda e: e.target_predicted.mean(), made, rounds=2000)
    assert (high - low) / 2 == pytest.approx(norm.ppf(0.95) * np.sqrt(0.3 * 0.7 / m), rel=0.08)
