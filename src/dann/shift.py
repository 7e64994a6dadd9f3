"""What kind of shift lies between two domains: whether there is one at all, and how far class shares differ."""

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import nnls
from scipy.stats import binom, chi2_contingency

from .evidence import Evidence

FEWEST = 10  # rows of each domain, for the test
WORTH_TELLING = 0.02  # of the sum of both error rates


class TwoSampleTest(NamedTuple):
    """Result of `two_sample_test`."""

    accuracy: float  # of a classifier of domains on rows that it did not see; .5 is chance
    p_value: float  # chance of such an accuracy, or a higher one, without a shift


def two_sample_test(x: np.ndarray, x_target: np.ndarray, *, max_rows: int = 2000, seed: int = 0) -> TwoSampleTest:
    """Test whether two samples come from one distribution: can a classifier tell them apart?

    As many rows of each, at most ``max_rows``. A logistic regression, which sees different means, and nearest
    neighbours, as many as the root of the rows, which see different shapes, learn on half of them and are scored on the
    rest. The better one counts, with twice its p-value, since there are two (Bonferroni).

    Parameters
    ----------
    x, x_target : ndarray (n, ...) and (m, ...)
        Rows, or features of rows.
    max_rows, seed : int

    Returns
    -------
    TwoSampleTest

    Raises
    ------
    ValueError
        Fewer than ten rows on a side, or rows of different shapes.

    References
    ----------
    Lopez-Paz & Oquab, Revisiting Classifier Two-Sample Tests, ICLR 2017, section 3 (https://arxiv.org/abs/1610.06545);
    the exact binomial distribution in place of its normal limit, and two classifiers in place of one.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if x.shape[1:] != x_target.shape[1:]:
        raise ValueError(f"rows of shape {x.shape[1:]} and {x_target.shape[1:]} cannot be compared")
    n = min(len(x), len(x_target), max_rows)
    if n < FEWEST:
        raise ValueError(f"the test needs ten rows of each domain; there are {len(x)} and {len(x_target)}")
    random = np.random.default_rng(seed)
    rows = np.concatenate([part[random.choice(len(part), n, replace=False)] for part in (x, x_target)])
    rows, domain = rows.reshape(2 * n, -1).astype(np.float64), np.repeat([0, 1], n)
    learn, test = train_test_split(np.arange(2 * n), test_size=0.5, stratify=domain, random_state=seed)
    models = LogisticRegression(max_iter=1000), KNeighborsClassifier(int(np.sqrt(len(learn))) | 1)  # odd: no ties
    right = 0
    for model in models:
        fitted = make_pipeline(StandardScaler(), model).fit(rows[learn], domain[learn])
        right = max(right, int((fitted.predict(rows[test]) == domain[test]).sum()))
    return TwoSampleTest(right / len(test), min(1.0, len(models) * float(binom.sf(right - 1, len(test), 0.5))))


class LabelShift(NamedTuple):
    """Result of `estimate_label_shift`: arrays (classes,)."""

    weights: np.ndarray  # how many times as frequent each class is in the target as in the source: prior / source share
    weights_low: np.ndarray
    weights_high: np.ndarray
    priors: np.ndarray  # estimated class shares of the target; they sum to 1
    priors_low: np.ndarray
    priors_high: np.ndarray


def estimate_label_shift(evidence: Evidence, *, rounds: int = 200, level: float = 0.9, seed: int = 0) -> LabelShift:
    """Estimate the class shares of the target from how a model's predictions are distributed there.

    Black box shift estimation: the weights w solve C w = μ, C[i, j] being the share of source rows of class j that are
    predicted as i and μ the shares of predictions on the target, as far as weights ≥ 0 can. Right under label
    shift, where a class looks the same in both domains; under covariate shift it reads mistakes as shares. The
    intervals are those of shares and confusions drawn from Dirichlet distributions: the counts, and a row of each class
    spread over all predictions. They are wide where predictions do not tell classes apart, so that C has no inverse.
    Those of the weights take the source's shares as they are among the rows.

    Parameters
    ----------
    evidence : Evidence
        Of rows that the model was not trained on.
    rounds : int
        Draws for the intervals.
    level : float
        0 … 1, of the draws that lie inside an interval.
    seed : int

    Raises
    ------
    ValueError
        A class without held-out source rows.

    References
    ----------
    Lipton et al., Detecting and Correcting for Label Shift with Black Box Predictors, ICML 2018, section 4
    (https://arxiv.org/abs/1802.03916), with weights kept at 0 or above.
    """
    classes = evidence.n_classes
    of_source = np.bincount(evidence.source_y, minlength=classes)
    if missing := np.flatnonzero(of_source == 0).tolist():
        raise ValueError(f"no held-out source row has class {missing[0]}: its share in the target cannot be told")
    pairs = evidence.source_logits.argmax(1) * classes + evidence.source_y
    joint = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    predicted = np.bincount(evidence.target_predicted, minlength=classes)
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(rounds):
        columns = [random.dirichlet(joint[:, k] + 1 / classes) * of_source[k] for k in range(classes)]
        drawn.append(shares(np.stack(columns, 1), random.dirichlet(predicted + 1 / classes))[1])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    weights, priors = shares(joint, predicted)
    share = of_source / of_source.sum()
    return LabelShift(weights, low / share, high / share, priors, low, high)


def same_predictions(evidence: Evidence) -> float:
    """Return the p-value of the source's and the target's rows being predicted as each class equally often.

    Under label shift predictions are as frequent as before if, and only if, classes are. It is the chi-squared test on
    counts of predictions; classes too rare for it (fewer than five rows expected) count as one.

    References
    ----------
    Rabanser et al., Failing Loudly: An Empirical Study of Methods for Detecting Dataset Shift, NeurIPS 2019, section 3:
    BBSDh (https://arxiv.org/abs/1810.11953).
    """
    sides = evidence.source_logits.argmax(1), evidence.target_predicted
    counts = np.stack([np.bincount(side, minlength=evidence.n_classes) for side in sides])
    expected = counts.sum(0) * (counts.sum(1).min() / counts.sum())
    counts = np.column_stack([counts[:, expected >= 5], counts[:, expected < 5].sum(1)])
    return float(chi2_contingency(counts[:, counts.any(0)]).pvalue)


def shares(joint: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and target priors (classes,) from counts of (prediction, label) and of target predictions."""
    of_source = joint.sum(0) / joint.sum()
    weights, _ = nnls(joint / joint.sum(), predicted / predicted.sum())
    mass = weights @ of_source
    if mass <= 0:
        return np.ones_like(weights), of_source
    return weights / mass, weights * of_source / mass


class Diagnosis(NamedTuple):
    """Result of `diagnose`."""

    kind: str  # "none", "labels", "inputs", "both" or "unclear": some shift
    accuracy: float  # of a classifier of the domains; .5 is chance
    p_value: float
    p_value_weighted: float  # the same where source rows come as often as the target's class shares ask for
    p_value_predictions: float  # that classes are predicted equally often; see `same_predictions`
    weights: list[float]  # how many times as frequent each class is in the target as in the source
    weights_low: list[float]  # 90 % intervals
    weights_high: list[float]
    priors: list[float]  # estimated class shares of the target
    priors_low: list[float]
    priors_high: list[float]
    source_shares: list[float]
    bound: float  # on the sum of both error rates, below which no features come that are alike in both domains

    def sentences(self) -> list[str]:
        """Return what to tell the user."""
        kinds = {
            "none": f"no shift is seen in the features that the model makes (p = {self.p_value:.2g}) or in how often "
            f"classes are predicted (p = {self.p_value_predictions:.2g})",
            "labels": "the shift is mostly one of class shares, as far as the model's predictions tell",
            "unclear": "the domains differ; the rows are too few to tell whether in their inputs or in class shares",
            "inputs": f"the inputs shift: {self.accuracy:.0%} of the rows can be told to be source or target",
            "both": "inputs and class shares shift, as far as the model's predictions tell",
        }
        if self.bound <= WORTH_TELLING:
            return [kinds[self.kind]]
        hurts = (
            "if class shares are as predicted, features that are alike in both domains cost accuracy: both errors sum "
            f"to {self.bound:.2f} or more"
        )
        return [kinds[self.kind], hurts]


def diagnose(evidence: Evidence, *, level: float = 0.05, seed: int = 0) -> Diagnosis:
    """Say what kind of shift lies between the domains, from the features and predictions of a model.

    Take one that was trained on the source alone, as alignment hides shifts. There is a shift if a classifier tells the
    domains apart (`two_sample_test`), or if classes are predicted more or less often (`same_predictions`). Class shares
    differ if predictions do, and they alone if the domains cannot be told apart once source rows come in the class
    shares that `estimate_label_shift` finds, and still could with as few rows in the source's own shares. Under a shift
    of inputs these shares are as wrong as the model's predictions are. It stays unclear what shifts where no classifier
    could ever tell the domains apart, and where a class has no source row among these.

    Parameters
    ----------
    evidence : Evidence
    level : float
        0 … 1, how often a shift may be seen where there is none: the first two tests have half of it each.
    seed : int

    References
    ----------
    Zhao et al., On Learning Invariant Representations for Domain Adaptation, ICML 2019, theorem 4.3
    (https://arxiv.org/abs/1901.09453), for the bound: with d the root of the Jensen-Shannon divergence,
    ½ (d(labels) - d(features))², where alignment makes d(features) 0. It is as right as the estimated shares are.
    """
    test = two_sample_test(evidence.source_features, evidence.target_features, seed=seed)
    predictions = same_predictions(evidence)
    differ, apart = predictions <= level / 2, test.p_value <= level / 2
    of_source = np.bincount(evidence.source_y, minlength=evidence.n_classes) / len(evidence.source_y)
    seen = of_source > 0
    if not seen.all():  # no share of such a class can be told
        nothing: dict[str, Any] = dict.fromkeys(LabelShift._fields, [np.nan] * len(seen))
        nothing["weights"] = np.where(seen, 1.0, np.nan).tolist()
        kind, p_values = "unclear" if differ or apart else "none", (test.p_value, predictions)
        return Diagnosis(kind, *test, *p_values, **nothing, source_shares=of_source.tolist(), bound=0.0)
    labels = estimate_label_shift(evidence, seed=seed)
    random = np.random.default_rng(seed)
    p = labels.weights[evidence.source_y]
    kept = np.flatnonzero(random.random(len(p)) < p / max(p.max(), 1e-12))  # thinned: copies would be in both halves
    weighted = again = test
    if len(kept) >= FEWEST:
        few = random.permutation(len(p))[: len(kept)]  # as few, and the source's class shares
        weighted, again = (
            two_sample_test(evidence.source_features[rows], evidence.target_features, seed=seed) for rows in (kept, few)
        )
    if not (differ or apart):
        kind = "none"
    elif differ:
        told = apart and len(kept) >= FEWEST and min(weighted.p_value, again.p_value) <= level
        kind = "unclear" if not told else "both" if weighted.p_value <= level else "labels"
    else:
        kind = "inputs"
    read = kind == "labels" or (differ and not apart)  # where inputs shift as well, mistakes pass for shares
    bound = 0.5 * divergence(of_source, labels.priors) ** 2 if read else 0.0
    found = {name: values.tolist() for name, values in labels._asdict().items()}
    p_values = weighted.p_value, predictions
    return Diagnosis(kind, *test, *p_values, **found, source_shares=of_source.tolist(), bound=bound)


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """Return the root of the Jensen-Shannon divergence of two distributions, in bits: 0 … 1."""
    middle = (p + q) / 2
    terms = [np.sum(a[a > 0] * np.log2(a[a > 0] / middle[a > 0])) for a in (p, q)]
    return float(np.sqrt(max(sum(terms) / 2, 0.0)))


def carriers(x: np.ndarray, x_target: np.ndarray, columns: list[str] | None = None) -> list[tuple[str, float, float]]:
    """Return the columns of a table in the order in which they differ between the domains: name, distance, p-value.

    The distance is that of Kolmogorov and Smirnov, 0 … 1, of each column by itself; p-values are those of its limit
    distribution, at most 1, multiplied by the number of columns (Bonferroni).

    Parameters
    ----------
    x, x_target : ndarray (n, features) and (m, features)
    columns : list of str, optional
        Names; the numbers of the columns otherwise.

    Raises
    ------
    ValueError
        A value that is not finite.
    """
    from scipy.special import kolmogorov

    names = columns or [str(k) for k in range(x.shape[1])]
    whole = np.isfinite(x).all(0) & np.isfinite(x_target).all(0)
    if not whole.all():
        name = names[int(whole.argmin())]
        raise ValueError(f"column {name} has NaN or infinity: fill the gaps in, or leave such rows out")
    n, m = len(x), len(x_target)
    distances = np.array([kolmogorov_distance(x[:, k], x_target[:, k]) for k in range(x.shape[1])])
    chances = np.minimum(1.0, kolmogorov(distances * np.sqrt(n * m / (n + m))) * x.shape[1])
    found = list(zip(names, distances.tolist(), chances.tolist(), strict=True))
    return sorted(found, key=lambda entry: -entry[1])


def kolmogorov_distance(x: np.ndarray, x_target: np.ndarray) -> float:
    """Return the distance of two samples (n,) and (m,); most of the time of SciPy's goes into its p-value."""
    sides = np.sort(x), np.sort(x_target)
    both = np.concatenate(sides)
    below = [np.searchsorted(side, both, side="right") / len(side) for side in sides]
    return float(np.abs(below[0] - below[1]).max())
