"""How right a model is on the target, estimated without target labels: numpy in, accuracies out."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import entr, log_softmax, softmax
from scipy.stats import norm

from .evidence import Evidence
from .validators.density import importance_weights

Estimator = Callable[[Evidence], float]


def temperature(logits: np.ndarray, y: np.ndarray, smoothing: float = 0.0) -> float:
    """Return the temperature by which logits are divided to make their probabilities most likely for labels.

    Parameters
    ----------
    logits : ndarray (n, classes)
    y : ndarray (n,) int
    smoothing : float
        0 … 1, of each label that is spread over all classes.

    Returns
    -------
    float
        .01 … 100; above 1 where the model is too sure of itself, the least where it is always right and labels are not
        smoothed.

    References
    ----------
    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    logits = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        likely = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float((1 - smoothing) * likely[np.arange(len(y)), y].mean() + smoothing * likely.mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.01), np.log(100)), method="bounded").x))


def calibrated(evidence: Evidence, smoothing: float = 0.0) -> Evidence:
    """Return the evidence with logits divided by the temperature that fits the held-out source rows."""
    t = temperature(evidence.source_logits, evidence.source_y, smoothing)
    return replace(evidence, source_logits=evidence.source_logits / t, target_logits=evidence.target_logits / t)


def negative_entropy(logits: np.ndarray) -> np.ndarray:
    """Return minus the entropy of every row's probabilities, in nats."""
    return -entr(softmax(logits.astype(np.float64), axis=1)).sum(1)


def passes(evidence: Evidence) -> np.ndarray:
    """Return which target rows are as certain as the source rows that are right, bool (m,); their share is ATC."""
    scaled = calibrated(evidence)
    scores = np.sort(negative_entropy(scaled.source_logits))
    errors = int((~evidence.source_right).sum())
    threshold = scores[errors] if errors < len(scores) else np.inf
    return negative_entropy(scaled.target_logits) >= threshold


def atc(evidence: Evidence) -> float:
    """Average thresholded confidence: the share of target rows as certain as the source rows that are right.

    The threshold lets as many source rows pass as are right, more where rows are equally certain; certainty is minus
    the entropy, after temperature scaling.
    Good under moderate covariate shift. Optimistic after adaptation, which makes target rows certain, right or wrong.

    References
    ----------
    Garg et al., Leveraging Unlabeled Data to Predict Out-of-Distribution Performance, ICLR 2022, equations 2-3
    (https://arxiv.org/abs/2201.04234).
    """
    return float(passes(evidence).mean())


def doc(evidence: Evidence) -> float:
    """Difference of confidences: the source's accuracy less the fall of the mean confidence, kept in 0 … 1.

    Confidence is the largest probability, after temperature scaling. Its labels are smoothed by half a row: where all
    source rows are right, the likeliest temperature would make the model sure of everything. It grows and falls more
    gently than `atc`.

    References
    ----------
    Guillory et al., Predicting with Confidence on Unseen Distributions, ICCV 2021, section 3.
    """
    scaled = calibrated(evidence, 0.5 / (len(evidence.source_y) + 1))
    fall = scaled.source_probabilities.max(1).mean() - scaled.target_probabilities.max(1).mean()
    return float(np.clip(evidence.source_right.mean() - fall, 0, 1))


def importance_weighted(evidence: Evidence) -> float:
    """Accuracy on source rows weighed by how much more likely they are in the target.

    Right under covariate shift of domains that overlap in the features; says nothing about target rows that are like no
    source row.
    """
    weights = importance_weights(evidence)
    return float((weights * evidence.source_right).sum() / weights.sum())


def disagreement(evidence: Evidence) -> float:
    """Agreement of other trainings on the target, as an estimate of accuracy (generalisation disagreement equality).

    Right where an ensemble of trainings is calibrated on the target; optimistic where all make the same mistakes.

    References
    ----------
    Jiang et al., Assessing Generalization of SGD via Disagreement, ICLR 2022 (https://arxiv.org/abs/2106.13799).
    """
    if evidence.other_target_logits is None:
        raise ValueError("disagreement needs predictions of other trainings: collect evidence with others=[...]")
    return float((evidence.other_target_logits.argmax(2) == evidence.target_predicted).mean())


def on_the_line(candidates: Sequence[Evidence]) -> list[float]:
    """Agreement on the line: estimates for several models of the same rows, from how they agree in pairs.

    Over pairs of models, agreement on the target is a linear function of agreement on the source, on the probit scale;
    accuracy follows the same line. Needs models that differ; the line is poor where all agree.

    Parameters
    ----------
    candidates : sequence of Evidence
        Three or more, of the same rows.

    Raises
    ------
    ValueError
        Fewer models, or other rows.

    References
    ----------
    Baek et al., Agreement-on-the-Line, NeurIPS 2022, section 4, ALine-S (https://arxiv.org/abs/2206.13089).
    """
    if len(candidates) < 3:
        raise ValueError(f"agreement on the line needs three models or more; there are {len(candidates)}")
    sizes = {(len(evidence.source_y), len(evidence.target_logits)) for evidence in candidates}
    if len(sizes) > 1:
        raise ValueError(f"the models have other rows than each other, source and target: {sorted(sizes)}")
    probit = lambda p: norm.ppf(np.clip(p, 1e-3, 1 - 1e-3))  # noqa: E731
    source = [evidence.source_logits.argmax(1) for evidence in candidates]
    target = [evidence.target_predicted for evidence in candidates]
    pairs = list(combinations(range(len(candidates)), 2))
    x = probit([np.mean(source[i] == source[j]) for i, j in pairs])
    y = probit([np.mean(target[i] == target[j]) for i, j in pairs])
    slope, offset = np.polyfit(x, y, 1) if np.ptp(x) > 1e-9 else (1.0, float(np.mean(y - x)))
    accuracy = probit([evidence.source_right.mean() for evidence in candidates])
    return norm.cdf(slope * accuracy + offset).tolist()


def interval(
    estimator: Estimator, evidence: Evidence, rounds: int = 200, level: float = 0.9, seed: int = 0
) -> tuple[float, float]:
    """Return the interval of an estimate over random halves of the rows of both domains.

    Means over halves drawn without replacement scatter as means over as many rows drawn with replacement do, and no row
    comes twice, which would fool estimators that hold rows out. It tells the chance of which rows were held out, and
    nothing of the estimator's own error.

    Parameters
    ----------
    rounds : int
    level : float
        0 … 1, of the rounds that lie inside.

    References
    ----------
    Politis, Romano & Wolf, Subsampling, 1999, section 2.3.
    """
    random = np.random.default_rng(seed)
    n, m = len(evidence.source_y), len(evidence.target_logits)
    values = []
    for _ in range(rounds):
        s, t = (random.choice(size, (size + 1) // 2, replace=False) for size in (n, m))
        others = evidence.other_target_logits
        half = Evidence(
            evidence.source_features[s],
            evidence.source_logits[s],
            evidence.source_y[s],
            evidence.target_features[t],
            evidence.target_logits[t],
            other_target_logits=None if others is None else others[:, t],
        )
        values.append(estimator(half))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
