import math
from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score, silhouette_samples
from torch import nn

import dann.validators.importance as importance
from dann import DomainAdapter
from dann.evidence import Evidence, mixtures
from dann.metrics import proxy_a_distance
from dann.validators import VALIDATORS
from dann.validators.density import importance_weights
from dann.validators.transfer_score import hopkins


def softmax(rows):
    return np.array([[math.exp(v) / sum(map(math.exp, row)) for v in row] for row in rows.tolist()])


@pytest.mark.parametrize("name", VALIDATORS)
@pytest.mark.parametrize("kind", ["random", "right", "guessing", "collapsed"])
def test_every_validator_gives_the_same_finite_number_twice(name, kind, make_evidence):
    made = make_evidence(kind)
    value = VALIDATORS[name](made)
    assert isinstance(value, float)
    assert math.isfinite(value)
    assert VALIDATORS[name](make_evidence(kind)) == value


@pytest.mark.parametrize("name", VALIDATORS)
def test_every_validator_takes_single_precision(name, make_evidence):
    made = make_evidence()
    given = {name: values for name, values in vars(made).items() if values is not None}
    single = Evidence(**{k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in given.items()})
    assert VALIDATORS[name](single) == pytest.approx(VALIDATORS[name](made), abs=1e-3)


@pytest.mark.parametrize(
    "name", ["source-accuracy", "source-loss", "information-maximization", "bnm", "iwcv", "dev", "devn"]
)
def test_a_right_model_beats_one_that_guesses(name, make_evidence):
    assert VALIDATORS[name](make_evidence("right")) > VALIDATORS[name](make_evidence("guessing"))


@pytest.mark.parametrize(
    "name",
    [
        "source-accuracy",
        "diversity",
        "information-maximization",
        "bnm",
        "class-ami",
        "v-measure",
        "silhouette",
        "neighbors",
        "input-ami",
    ],
)
def test_collapse_costs(name, make_evidence):
    assert VALIDATORS[name](make_evidence("right")) > VALIDATORS[name](make_evidence("collapsed"))


def test_the_faults_that_the_docstrings_admit_are_there(make_evidence):
    collapsed, right = make_evidence("collapsed", m=200), make_evidence("right", m=200)
    for name in ("snd", "entropy", "mmd", "a-distance"):
        assert VALIDATORS[name](collapsed) >= VALIDATORS[name](right)


# definitions, written out


def test_source_scores(make_evidence):
    made = make_evidence()
    p = softmax(made.source_logits)
    right = [row.argmax() == y for row, y in zip(p, made.source_y, strict=True)]
    assert VALIDATORS["source-accuracy"](made) == pytest.approx(np.mean(right))
    logs = [math.log(row[y]) for row, y in zip(p, made.source_y, strict=True)]
    assert VALIDATORS["source-loss"](made) == pytest.approx(np.mean(logs))
    sure = replace(made, source_logits=20 * np.eye(3)[(made.source_y + 1) % 3])  # and wrong everywhere
    assert VALIDATORS["source-loss"](sure) == pytest.approx(-20, abs=1e-6)


def test_entropy_diversity_and_their_sum(make_evidence):
    made = make_evidence()
    p = softmax(made.target_logits)
    entropy = np.mean([sum(v * math.log(v) for v in row) for row in p])
    diversity = -sum(v * math.log(v) for v in p.mean(0))
    assert VALIDATORS["entropy"](made) == pytest.approx(entropy)
    assert VALIDATORS["diversity"](made) == pytest.approx(diversity)
    assert VALIDATORS["information-maximization"](made) == pytest.approx(entropy + diversity)


def test_nuclear_norm(make_evidence):
    made = make_evidence()
    p = softmax(made.target_logits)
    singular = np.sqrt(np.linalg.eigvalsh(p.T @ p))
    assert VALIDATORS["bnm"](made) == pytest.approx(singular.sum() / math.sqrt(30 * 3))
    even = np.eye(3)[np.arange(30) % 3] * 50
    perfect = Evidence(made.source_features, made.source_logits, made.source_y, made.target_features, even)
    assert VALIDATORS["bnm"](perfect) == pytest.approx(1)
    few = Evidence(made.source_features, made.source_logits, made.source_y, made.target_features[:2], even[:2])
    assert VALIDATORS["bnm"](few) == pytest.approx(1)  # fewer rows than classes


def test_agreement_with_clusters(make_evidence):
    made = make_evidence("right")
    cluster = KMeans(3, n_init=3, random_state=0).fit_predict(made.target_features)
    predicted = made.target_logits.argmax(1)
    assert VALIDATORS["class-ami"](made) == pytest.approx(adjusted_mutual_info_score(predicted, cluster))
    assert VALIDATORS["class-ami"](made) > 0.9
    joint = np.histogram2d(predicted, cluster, bins=3)[0] / 30
    of_classes, of_clusters = joint.sum(1), joint.sum(0)
    h = lambda p: -sum(v * math.log(v) for v in np.ravel(p) if v > 0)  # noqa: E731
    homogeneity = 1 - (h(joint) - h(of_clusters)) / h(of_classes)
    completeness = 1 - (h(joint) - h(of_classes)) / h(of_clusters)
    expected = 2 * homogeneity * completeness / (homogeneity + completeness)
    assert VALIDATORS["v-measure"](made) == pytest.approx(expected)


def test_clusters_are_those_of_the_features_whatever_the_logits_say(make_evidence):
    made = make_evidence("right")
    shifted = replace(made, target_logits=made.target_logits[::-1])
    cluster = KMeans(3, n_init=3, random_state=0).fit_predict(made.target_features)
    expected = adjusted_mutual_info_score(shifted.target_logits.argmax(1), cluster)
    assert VALIDATORS["class-ami"](shifted) == pytest.approx(expected)
    assert expected < 0.5


def test_silhouette(make_evidence):
    made = make_evidence("right")
    expected = silhouette_samples(made.target_features, made.target_predicted).mean()
    assert VALIDATORS["silhouette"](made) == pytest.approx(expected)
    assert VALIDATORS["silhouette"](make_evidence("collapsed")) == -1


@pytest.mark.parametrize("m", [6, 150])
def test_soft_neighbourhood_density(m, make_evidence):
    made = make_evidence(m=m)
    p = softmax(made.target_logits)
    entropies = []
    for i in range(m):
        others = [j for j in range(m) if j != i]
        cosines = [p[i] @ p[j] / np.linalg.norm(p[i]) / np.linalg.norm(p[j]) for j in others]
        weights = np.exp(np.array(cosines) / 0.05)
        weights /= weights.sum()
        entropies.append(-(weights * np.log(weights)).sum())
    assert VALIDATORS["snd"](made) == pytest.approx(np.mean(entropies))


def test_importance_weighted_scores(make_evidence, monkeypatch):
    made = make_evidence()
    w = np.linspace(0.2, 1.8, 40)
    monkeypatch.setattr(importance, "importance_weights", lambda evidence: w)
    loss = (made.source_logits.argmax(1) != made.source_y).astype(float)
    assert VALIDATORS["iwcv"](made) == pytest.approx(-np.mean(w * loss))
    for name, v in (("dev", w), ("devn", w / w.max())):
        weighed = v * loss
        eta = -np.mean((weighed - weighed.mean()) * (v - v.mean())) / np.mean((v - v.mean()) ** 2)
        assert VALIDATORS[name](made) == pytest.approx(-(weighed.mean() + eta * v.mean() - eta))


def test_importance_weights_are_the_ratio_of_densities():
    rng = np.random.default_rng(0)
    source, target = (rng.normal(k, 1, (n, 1)).astype(np.float32) for k, n in ((0, 4000), (1, 2000)))
    weights = importance_weights(
        Evidence(source, np.zeros((4000, 2)), np.zeros(4000, int), target, np.zeros((2000, 2)))
    )
    truth = np.exp(source[:, 0] - 0.5)
    assert weights.dtype == np.float64
    assert weights.mean() == pytest.approx(1, abs=0.1)
    assert np.corrcoef(np.log(weights), np.log(truth))[0, 1] > 0.999
    inside = np.abs(source[:, 0]) < 1.5
    np.testing.assert_allclose(weights[inside], truth[inside], rtol=0.2)


def test_importance_weights_are_the_same_in_other_units(make_evidence):
    made, units = make_evidence("right", n=200, m=150), np.array([1e-3, 1e3, 1.0, 50.0])
    other = replace(made, source_features=made.source_features * units, target_features=made.target_features * units)
    np.testing.assert_allclose(importance_weights(other), importance_weights(made), rtol=1e-2)


def test_equal_weights_have_no_variance_to_take_away(make_evidence, monkeypatch):
    made = make_evidence()
    monkeypatch.setattr(importance, "importance_weights", lambda evidence: np.full(40, 0.5))
    assert VALIDATORS["dev"](made) == pytest.approx(-0.5 * np.mean(~made.source_right))


def test_deep_embedded_validation_is_not_importance_weighting_once_more():
    risks = []
    for seed in range(60):  # rows on which the classifier is the more wrong, the more they look like target rows
        rng = np.random.default_rng(seed)
        source, target = rng.normal(0, 1, (80, 1)), rng.normal(0.8, 1, (80, 1))
        wrong = rng.random(80) < 1 / (1 + np.exp(-source[:, 0]))
        logits = np.tile([1.0, 0.0], (80, 1))
        made = Evidence(source, logits, wrong.astype(int), target, logits)
        risks.append([-VALIDATORS[name](made) for name in ("iwcv", "dev")])
    spread = np.std(risks, axis=0)
    assert spread[1] < 0.9 * spread[0]


def test_mixtures_keep_the_class_of_the_larger_part(make_evidence):
    made = make_evidence()
    predicted = made.target_logits.argmax(1)
    partner = [predicted[j] for j in mixtures(30)]
    kept = [made.mixed_logits[i].argmax() == predicted[i] for i in range(30)]
    same = [k for k, a, b in zip(kept, predicted, partner, strict=True) if a == b]
    different = [k for k, a, b in zip(kept, predicted, partner, strict=True) if a != b]
    assert VALIDATORS["mixval"](made) == pytest.approx((np.mean(same) + np.mean(different)) / 2)


def test_hopkins_tells_clusters_from_uniform_rows():
    rng = np.random.default_rng(0)
    uniform = rng.uniform(size=(1000, 2))
    clustered = rng.integers(3, size=(1000, 1)) * 5 + rng.normal(0, 0.1, (1000, 2))
    assert np.mean([hopkins(uniform, seed) for seed in range(5)]) == pytest.approx(0.5, abs=0.06)
    assert min(hopkins(clustered, seed) for seed in range(5)) > 0.9
    assert hopkins(clustered * 9 + 100) == pytest.approx(hopkins(clustered))


def test_hopkins_compares_a_tenth_of_the_rows_with_points_of_their_box():
    x = np.random.default_rng(1).normal(size=(60, 2)) * [3, 0.1] + [40, -7]
    random = np.random.default_rng([5, 1])
    points = random.uniform(x.min(0), x.max(0), (6, 2))
    rows = random.choice(60, 6, replace=False)
    of_points = sum(min(math.dist(p, row) for row in x) for p in points)
    of_rows = sum(min(math.dist(x[i], x[j]) for j in range(60) if j != i) for i in rows)
    assert hopkins(x, 5) == pytest.approx(of_points / (of_points + of_rows))


def test_transfer_score_adds_hopkins_and_information(make_evidence):
    made = make_evidence()
    information = VALIDATORS["information-maximization"](made) / math.log(3)
    assert VALIDATORS["transfer-score"](made) == pytest.approx(hopkins(made.target_features) + information)


def test_effective_rank(make_evidence):
    made = make_evidence()
    singular = np.sqrt(np.linalg.eigvalsh(made.target_features.T @ made.target_features))
    share = singular / singular.sum()
    assert VALIDATORS["rank-me"](made) == pytest.approx(math.exp(-(share * np.log(share)).sum()))
    assert VALIDATORS["rank-me"](make_evidence("collapsed")) == pytest.approx(1)


def test_maximum_mean_discrepancy(make_evidence):
    made = make_evidence(n=5, m=4)
    rows = [*made.source_features, *made.target_features]
    distance = lambda a, b: float(((a - b) ** 2).sum())  # noqa: E731
    width = np.mean([distance(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j])
    kernel = lambda a, b: sum(math.exp(-distance(a, b) / (2 * s * width)) for s in (0.125, 0.25, 0.5, 1, 2))  # noqa: E731
    mean = lambda xs, ys: np.mean([kernel(a, b) for a in xs for b in ys])  # noqa: E731
    s, t = made.source_features, made.target_features
    assert VALIDATORS["mmd"](made) == pytest.approx(-(mean(s, s) + mean(t, t) - 2 * mean(s, t)))


def test_domains_that_are_farther_apart_score_lower():
    rng = np.random.default_rng(0)
    x, logits, y = rng.normal(size=(200, 3)), np.zeros((200, 2)), np.zeros(200, int)
    for name in ("mmd", "a-distance"):
        scores = [VALIDATORS[name](Evidence(x, logits, y, rng.normal(gap, 1, (200, 3)), logits)) for gap in (0, 1, 4)]
        assert all(a > b for a, b in pairwise(scores))


def test_the_a_distance_is_that_of_metrics(make_evidence):
    made = make_evidence(n=400, m=400)  # of which 300 are looked at
    expected = proxy_a_distance(made.source_features, made.target_features, max_rows=300)
    assert VALIDATORS["a-distance"](made) == -expected
    assert expected > 0


def test_agreement_of_trainings(make_evidence):
    made = make_evidence()
    shares = []
    for other in made.other_target_logits:
        pairs = zip(other, made.target_logits, strict=True)
        shares.append(np.mean([a.argmax() == b.argmax() for a, b in pairs]))
    assert VALIDATORS["agreement"](made) == pytest.approx(np.mean(shares))


def test_neighbors_is_cohens_kappa_of_rows_and_their_neighbours(make_evidence):
    made = make_evidence()
    predicted, pairs = made.target_logits.argmax(1), []
    for row, near in enumerate(made.target_neighbors):
        pairs += [(predicted[row], predicted[other]) for other in near]
    share = np.bincount(predicted, minlength=3) / len(predicted)
    agreement, chance = np.mean([a == b for a, b in pairs]), (share**2).sum()
    assert VALIDATORS["neighbors"](made) == pytest.approx((agreement - chance) / (1 - chance))


def test_neighbors_finds_the_classes_that_follow_the_inputs(make_evidence):
    scores = [VALIDATORS["neighbors"](make_evidence(kind, m=200)) for kind in ("right", "random", "collapsed")]
    assert scores[0] > 0.9
    assert abs(scores[1]) < 0.1
    assert scores[2] == 0


def entropy_of(*labels):
    shares = np.unique(np.stack(labels), axis=1, return_counts=True)[1] / len(labels[0])
    return -sum(p * math.log(p) for p in shares)


def test_input_ami_is_mutual_information_less_what_all_permutations_have(make_evidence):
    clusters, predicted = np.array([0, 0, 1, 1, 2, 2, 2]), np.array([0, 0, 1, 1, 1, 2, 0])
    made = replace(make_evidence(m=7), crowd_clusters=clusters, crowd_classes=predicted)
    information = lambda a, b: entropy_of(a) + entropy_of(b) - entropy_of(a, b)  # noqa: E731
    expected = np.mean([information(np.array(p), clusters) for p in permutations(predicted)])
    most = (entropy_of(predicted) + entropy_of(clusters)) / 2
    value = (information(predicted, clusters) - expected) / (most - expected)
    assert VALIDATORS["input-ami"](made) == pytest.approx(value)


def test_input_ami_finds_the_classes_that_follow_the_inputs(make_evidence):
    scores = [VALIDATORS["input-ami"](make_evidence(kind, m=200)) for kind in ("right", "random", "collapsed")]
    assert scores[0] > 0.9
    assert abs(scores[1]) < 0.1
    assert scores[2] == 0


# evidence that is missing or too little


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mixval", "mixed=True"),
        ("agreement", r"others=\[...\]"),
        ("neighbors", "structure=True"),
        ("input-ami", "structure=True"),
    ],
)
def test_evidence_that_was_not_collected_is_asked_for(name, message, make_evidence):
    made = make_evidence()
    bare = Evidence(made.source_features, made.source_logits, made.source_y, made.target_features, made.target_logits)
    with pytest.raises(ValueError, match=message):
        VALIDATORS[name](bare)


@pytest.mark.parametrize(
    ("name", "n", "m", "message"),
    [
        ("iwcv", 4, 30, "importance weights need five rows of each domain; there are 4 and 30"),
        ("class-ami", 40, 2, "2 target rows cannot make 3 clusters"),
        ("snd", 40, 1, "need two target rows"),
        ("transfer-score", 40, 1, "needs two target rows"),
    ],
)
def test_too_few_rows_are_refused(name, n, m, message, make_evidence):
    with pytest.raises(ValueError, match=message):
        VALIDATORS[name](make_evidence(n=n, m=m))


def test_evidence_of_mixtures_has_more_of_the_row_itself_than_of_its_partner(make_arrays):
    """A linear model's logits of a mixture are the mixture of the logits."""
    data = make_arrays(40, 30)
    linear = DomainAdapter("source-only", nn.Linear(3, 4), steps=20, batch_size=16, lr=0.01)
    model = linear.fit(data.x, data.y, data.xt)
    made = model.evidence(data.x, data.y, data.xt, mixed=True)
    expected = 0.55 * made.target_logits + 0.45 * made.target_logits[mixtures(30)]
    np.testing.assert_allclose(made.mixed_logits, expected, atol=1e-5)
    assert not np.allclose(expected, expected[mixtures(30)], atol=1e-2)  # the rows differ enough to tell
