"""What kind of shift lies between two domains: whether there is one at all, and how far class shares differ."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .evidence import Evidence


class TwoSampleTest(NamedTuple):
    """Result of `two_sample_test`."""

    accuracy: float  # of a classifier of domains on rows that it did not see; .5 is chance
    p_value: float  # chance of such an accuracy, or a higher one, without a shift


def two_sample_test(x: np.ndarray, x_target: np.ndarray, *, max_rows: int = 2000, seed: int = 0) -> TwoSampleTest:
    """Test whether two samples come from one distribution: can a classifier tell them apart?

    As many rows of each, at most ``max_rows``; a logistic regression learns on half of them and is scored on the rest.
    It sees differences of means along some direction; a shift that leaves these alone may escape it.

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
    the exact binomial distribution in place of its normal limit.
    """
    if x.shape[1:] != x_target.shape[1:]:
        raise ValueError(f"rows of shape {x.shape[1:]} and {x_target.shape[1:]} cannot be compared")
    n = min(len(x), len(x_target), max_rows)
    if n < 10:
        raise ValueError(f"the test needs ten rows of each domain; there are {len(x)} and {len(x_target)}")
    random = np.random.default_rng(seed)
    rows = np.concatenate([part[random.choice(len(part), n, replace=False)] for part in (x, x_target)])
    rows, domain = rows.reshape(2 * n, -1).astype(np.float64), np.repeat([0, 1], n)
    learn, test = train_test_split(np.arange(2 * n), test_size=0.5, stratify=domain, random_state=seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(rows[learn], domain[learn])
    right = int((model.predict(rows[test]) == domain[test]).sum())
    return TwoSampleTest(right / len(test), float(binom.sf(right - 1, len(test), 0.5)))


class LabelShift(NamedTuple):
    """Result of `estimate_label_shift`: arrays (classes,)."""

    weights: np.ndarray  # how many times as frequent each class is in the target as in the source
    priors: np.ndarray  # estimated class shares of the target; they sum to 1
    low: np.ndarray  # interval of the priors
    high: np.ndarray


def estimate_label_shift(evidence: Evidence, *, rounds: int = 200, level: float = 0.9, seed: int = 0) -> LabelShift:
    """Estimate the class shares of the target from how a model's predictions are distributed there.

    Black box shift estimation: the weights w solve C w = μ, C[i, j] being the share of source rows of class j that are
    predicted as i and μ the shares of predictions on the target, as far as weights ≥ 0 can. Right under label
    shift, where a class looks the same in both domains; under covariate shift it reads mistakes as shares.

    Parameters
    ----------
    evidence : Evidence
        Of rows that the model was not trained on.
    rounds : int
        Draws of the rows with replacement, for the interval.
    level : float
        0 … 1, of the draws that lie inside the interval.
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
    n, m = joint.sum(), predicted.sum()
    drawn = []
    for _ in range(rounds):
        again = random.multinomial(n, joint.ravel() / n).reshape(classes, classes)
        drawn.append(shares(again, random.multinomial(m, predicted / m))[1])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    weights, priors = shares(joint, predicted)
    return LabelShift(weights, priors, low, high)


def shares(joint: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and target priors (classes,) from counts of (prediction, label) and of target predictions."""
    of_source = joint.sum(0) / joint.sum()
    weights, _ = nnls(joint / joint.sum(), predicted / predicted.sum())
    mass = weights @ of_source
    if mass <= 0:
        return np.ones_like(weights), of_source
    return weights / mass, weights * of_source / mass
