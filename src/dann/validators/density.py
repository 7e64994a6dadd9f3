"""How much more likely each source row is in the target: importance weights from a domain classifier."""

import numpy as np

from ..evidence import Evidence

KEPT = "_importance_weights"  # several validators ask for them, and they take longer than all else


def importance_weights(evidence: Evidence) -> np.ndarray:
    """Return the weights p_target(f) / p_source(f) of the source rows' features, float64 (n,).

    A logistic regression tells the domains apart; every row is judged by one of five that did not see it. Over the
    whole source they are 1 on average where the domains overlap; over few rows not quite, which deep embedded
    validation corrects for, and near 0 where the domains are apart.

    Raises
    ------
    ValueError
        Fewer than five rows on a side.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if KEPT in vars(evidence):
        return vars(evidence)[KEPT]
    n, m = len(evidence.source_y), len(evidence.target_logits)
    if min(n, m) < 5:
        raise ValueError(f"importance weights need five rows of each domain; there are {n} and {m}")
    features = np.concatenate([evidence.source_features, evidence.target_features])
    domain = np.repeat([0, 1], [n, m])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    p = cross_val_predict(model, features, domain, cv=folds, method="predict_proba")[:n, 1].clip(1e-6, 1 - 1e-6)
    p = p.astype(np.float64)  # that of single-precision features is single too
    weights = vars(evidence)[KEPT] = p / (1 - p) * (n / m)
    return weights
