"""How good predictions are, and how far apart two domains are: numpy in, numbers out."""

from typing import Any

import numpy as np


def classification_metrics(probabilities: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Score predicted probabilities against class codes.

    Parameters
    ----------
    probabilities : ndarray (n, K)
        Rows sum to 1.
    y : ndarray (n,) int
        Codes 0 … K-1.

    Returns
    -------
    dict
        "accuracy" (0 … 1), "balanced_accuracy" (the mean of the accuracies on every class that has rows), "loss" (mean
        cross entropy in nats), "ari" (adjusted Rand index between true and predicted classes, at most 1, 0 by chance),
        "confusion" (K × K list, rows true, columns predicted), "largest_share" (the part of the rows that went to the
        most predicted class; near 1 tells of a collapsed model), "majority" (the part of the rows that are of the most
        frequent true class: the accuracy of a model that knows no other), "n" (rows).
    """
    from sklearn.metrics import accuracy_score, adjusted_rand_score, confusion_matrix

    predicted = probabilities.argmax(1)
    confusion = confusion_matrix(y, predicted, labels=np.arange(probabilities.shape[1]))
    rows = confusion.sum(1)
    likelihood = probabilities[np.arange(len(y)), y].clip(1e-12)
    return {
        "accuracy": float(accuracy_score(y, predicted)),
        "balanced_accuracy": float(np.mean(confusion.diagonal()[rows > 0] / rows[rows > 0])),
        "loss": float(-np.log(likelihood).mean()),
        "ari": float(adjusted_rand_score(y, predicted)),
        "confusion": confusion.tolist(),
        "largest_share": float(np.bincount(predicted).max() / len(predicted)),
        "majority": float(rows.max() / len(y)),
        "n": len(y),
    }


def regression_metrics(predicted: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Score predicted numbers against labels.

    Parameters
    ----------
    predicted, y : ndarray (n,)

    Returns
    -------
    dict
        "mae" and "rmse" (mean absolute and root mean square error, in the labels' units), "r2" (coefficient of
        determination, at most 1; 0 is the mean's, NaN for one row), "n" (rows).
    """
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return {
        "mae": float(mean_absolute_error(y, predicted)),
        "rmse": float(root_mean_squared_error(y, predicted)),
        "r2": float(r2_score(y, predicted)) if len(y) > 1 else float("nan"),
        "n": len(y),
    }


def domain_accuracy(predicted: np.ndarray, domain: np.ndarray) -> float:
    """Accuracy of domain predictions, the mean over the domains, so that unequal sizes count the same.

    Parameters
    ----------
    predicted, domain : ndarray (n,) int

    Returns
    -------
    float
        0 … 1; with two domains, .5 is chance.
    """
    from sklearn.metrics import balanced_accuracy_score

    return float(balanced_accuracy_score(domain, predicted))


def proxy_a_distance(
    source: np.ndarray,
    target: np.ndarray,
    *,
    C: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    optimistic: bool = False,
    max_rows: int = 1000,
    seed: int = 0,
    n_jobs: int = 1,
) -> float:
    """Proxy A-distance of two samples: how well a linear classifier tells them apart.

    The rows are standardised, split at random into two halves, and linear SVMs are trained on one half. With ε the
    error on the other half, PAD = 2 (1 - 2 ε).

    Parameters
    ----------
    source, target : ndarray (n, d)
        Inputs or features, at least 4 rows each. The larger sample is cut to the size of the smaller one, so that the
        classifier cannot win by counting.
    C : tuple of float
        Candidates for the SVM's penalty. The best is chosen by cross-validation inside the training half.
    optimistic : bool
        Take the lowest test error over all ``C`` instead, as the paper does: never lower than the honest value for the
        same split.
    max_rows : int
        At most so many rows a side are used; the cost grows with them.
    seed : int
        Of the split.
    n_jobs : int
        How many threads choose among ``C``; they change nothing else.

    Returns
    -------
    float
        0 (indistinguishable) … 2 (separable). Errors above one half, which are chance, are cut to 0.

    References
    ----------
    Ganin et al., JMLR 17(59), 2016, section 5.1.4; Ben-David et al., NeurIPS 2006.
    """
    import warnings

    import joblib
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    n = min(len(source), len(target), max_rows)
    if n < 4:
        raise ValueError(f"the proxy A-distance needs at least 4 rows a domain; got {len(source)} and {len(target)}")
    rng = np.random.default_rng(seed)
    sides = [rng.permutation(len(a))[:n] for a in (source, target)]
    x = np.concatenate([np.asarray(a)[i].reshape(n, -1) for a, i in zip((source, target), sides, strict=True)])
    x = x.astype(np.float32)
    y = np.repeat([0, 1], n)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.5, stratify=y, random_state=seed)
    dual = len(x_train) <= x.shape[1]
    model = make_pipeline(StandardScaler(), LinearSVC(dual=dual, random_state=seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an unfinished SVM is still a classifier to be scored
        if optimistic:
            scores = [model.set_params(linearsvc__C=c).fit(x_train, y_train).score(x_test, y_test) for c in C]
            error = 1 - max(scores)
        else:
            folds = StratifiedKFold(n_splits=min(3, n // 2), shuffle=True, random_state=seed)
            search = GridSearchCV(model, {"linearsvc__C": list(C)}, cv=folds, n_jobs=n_jobs)
            with joblib.parallel_config("threading"):  # while an SVM is fitted, Python is free
                error = 1 - search.fit(x_train, y_train).score(x_test, y_test)
    return float(max(0.0, 2 * (1 - 2 * error)))
