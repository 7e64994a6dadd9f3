import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from dann import classification_metrics, domain_accuracy, proxy_a_distance

P = np.array([[0.5, 0.25, 0.25], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])
Y = np.array([0, 1, 1, 2])


def two_samples(distance, n=60, d=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(n, d)) + distance


# predictions


def test_accuracy_loss_and_confusion_worked_out_by_hand():
    scores = classification_metrics(P, Y)
    assert scores["accuracy"] == 0.75
    assert scores["loss"] == pytest.approx(-np.log([0.5, 0.7, 0.3, 0.8]).mean())
    assert scores["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert scores["n"] == 4


def test_rare_classes_count_as_much_in_the_balanced_accuracy():
    assert classification_metrics(P, Y)["balanced_accuracy"] == pytest.approx((1 + 0.5 + 1) / 3)
    rare = np.array([1] + [0] * 9)
    assert classification_metrics(np.tile([0.9, 0.1, 0.0], (10, 1)), rare)["balanced_accuracy"] == 0.5


def test_adjusted_rand_index_worked_out_by_hand():
    # 1 of the 6 pairs share a true class, 1 a predicted one, none both: (0 - 1/6) / (1 - 1/6)
    assert classification_metrics(P, Y)["ari"] == pytest.approx(-0.2)
    assert classification_metrics(P[:, [1, 0, 2]], np.array([1, 0, 1, 2]))["ari"] == pytest.approx(1.0)


def test_a_class_that_is_absent_keeps_its_row_in_the_confusion():
    assert classification_metrics(P[:1], Y[:1])["confusion"] == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_the_majority_is_the_share_of_the_most_frequent_true_class():
    assert classification_metrics(np.eye(3)[[0, 1, 2, 0]], np.array([2, 2, 2, 0]))["majority"] == 0.75


def test_a_collapsed_model_shows_in_the_largest_share():
    collapsed = np.tile([0.1, 0.9], (10, 1))
    assert classification_metrics(collapsed, np.arange(10) % 2)["largest_share"] == 1
    assert classification_metrics(P, Y)["largest_share"] == 0.5


def test_a_confident_mistake_costs_a_finite_loss():
    assert classification_metrics(np.array([[1.0, 0.0]]), np.array([1]))["loss"] == pytest.approx(-np.log(1e-12))


def test_always_saying_the_larger_domain_is_chance():
    assert domain_accuracy(np.ones(100, int), np.repeat([0, 1], [10, 90])) == 0.5
    assert domain_accuracy(np.repeat([0, 1, 1], [5, 5, 90]), np.repeat([0, 1], [10, 90])) == 0.75


# proxy A-distance


def test_equal_distributions_are_close_to_0():
    values = [proxy_a_distance(*two_samples(0.0, n=200, seed=seed), seed=seed) for seed in range(5)]
    assert np.mean(values) < 0.2


def test_separated_distributions_are_at_2():
    assert proxy_a_distance(*two_samples(8.0)) == 2


def test_the_distance_grows_with_the_shift():
    values = [proxy_a_distance(*two_samples(shift, n=200)) for shift in (0.2, 0.7, 1.5, 4.0)]
    assert values == sorted(values)


@pytest.mark.parametrize("seed", range(6))
def test_choosing_c_on_the_test_half_is_never_lower(seed):
    samples = two_samples(0.3, n=40, seed=seed)
    assert proxy_a_distance(*samples, optimistic=True, seed=seed) >= proxy_a_distance(*samples, seed=seed)


def test_threads_change_nothing_in_the_proxy_a_distance():
    samples = two_samples(0.7, n=200)
    assert proxy_a_distance(*samples, n_jobs=2) == proxy_a_distance(*samples)


def test_choosing_c_on_the_test_half_finds_distance_where_there_is_none():
    """The paper's way, on many small samples of one distribution, is biased upwards."""
    samples = [two_samples(0.0, n=20, d=10, seed=seed) for seed in range(12)]
    honest, optimistic = (
        np.mean([proxy_a_distance(*s, optimistic=o, seed=i) for i, s in enumerate(samples)]) for o in (False, True)
    )
    assert optimistic > honest


def test_the_test_half_never_reaches_the_search_for_c(monkeypatch):
    seen, original = [], GridSearchCV.fit

    def spy(self, x, y, **kwargs):
        seen.append(len(x))
        original(self, x, y, **kwargs)
        scored = self.score

        def score(x_test, y_test):
            known = {row.tobytes() for row in x}
            assert not any(row.tobytes() in known for row in x_test)
            assert len(x_test) == len(x)
            return scored(x_test, y_test)

        self.score = score
        return self

    monkeypatch.setattr(GridSearchCV, "fit", spy)
    proxy_a_distance(*two_samples(1.0, n=30))
    assert seen == [30]


def test_a_large_sample_cannot_win_by_counting():
    source, _ = two_samples(0.0, n=20)
    _, target = two_samples(0.0, n=2000, seed=1)
    assert proxy_a_distance(source, target) < 0.9  # always saying "target" would give 1.96


def test_the_unit_of_a_feature_does_not_matter():
    source, target = two_samples(1.0)
    scale = np.array([1e-6, 1.0, 1e6])
    assert proxy_a_distance(source * scale, target * scale) == proxy_a_distance(source, target)


def test_images_are_compared_as_rows_of_pixels():
    rng = np.random.default_rng(0)
    dark, bright = (rng.integers(low, low + 100, (12, 3, 5, 5)).astype(np.uint8) for low in (0, 150))
    assert proxy_a_distance(dark, bright) == 2


def test_the_least_number_of_rows_is_4():
    assert proxy_a_distance(*two_samples(20.0, n=4)) == 2
    with pytest.raises(ValueError, match="at least 4 rows a domain; got 3 and 60"):
        proxy_a_distance(two_samples(0.0)[0][:3], two_samples(0.0)[1])


def test_the_same_seed_gives_the_same_distance_and_global_randomness_none():
    samples = two_samples(0.5)
    np.random.seed(1)  # noqa: NPY002
    first = proxy_a_distance(*samples, seed=3)
    np.random.seed(2)  # noqa: NPY002
    assert proxy_a_distance(*samples, seed=3) == first
