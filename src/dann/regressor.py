"""The estimator for continuous labels."""

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from .domains import Domain, Domains, as_numbers, is_missing
from .estimator import Adapter, scored
from .metrics import regression_metrics


class DomainRegressor(RegressorMixin, Adapter):
    """Regressor for a target domain, trained on labelled source rows and unlabelled target rows.

    As `DomainAdapter`, with a squared error for the labels, in units of their standard deviation on the source, in
    place of the cross entropy. Methods whose formula compares class probabilities are refused.

    Compare with "source-only" on a few labelled target rows before you use one: aligned features cannot tell that the
    target's labels are larger because its inputs are, and nothing here judges regressors without labels.

    Parameters
    ----------
    method, ... : see `DomainAdapter`
        ``class_weight`` must stay None.

    Attributes
    ----------
    center_, spread_ : float
        Mean and standard deviation of the source's labels.
    """

    task = "regression"
    learned = ("center_", "spread_")

    def _domains(self, X: Any, y: Any, X_target: Any, y_target: Any, sample_domain: Any, sample_weight: Any) -> Domains:
        if self.class_weight is not None:
            raise ValueError(f"class_weight={self.class_weight!r}: continuous labels have no classes")
        domains = Domains.from_arrays(X, y, X_target, y_target, sample_domain, sample_weight, continuous=True)
        labels = np.concatenate([d.y for d in domains.sources])
        with np.errstate(over="ignore", under="ignore"):
            self.center_, self.spread_ = float(labels.mean()), float(labels.std())
        if not 0 < self.spread_ < np.inf:
            size = np.abs(labels).max()
            raise ValueError(f"y has labels of up to {size:.3g}, whose squares are no numbers: take another unit")
        scaled = [replace(d, y=((d.y - self.center_) / self.spread_).astype(np.float32)) for d in domains.all]
        return replace(domains, sources=tuple(scaled[:-1]), target=scaled[-1])

    def _target_alone(self, x: np.ndarray) -> Domains:
        target = Domain("target", x, np.full(len(x), np.nan, dtype=np.float32))
        return Domains((), target, np.empty(0), self.columns_)

    @property
    def _outputs(self) -> int:
        return 1

    def _label_config(self) -> Any:
        return {"center": self.center_, "spread": self.spread_}

    def _restore_labels(self, config: Any) -> None:
        self.center_, self.spread_ = float(config["center"]), float(config["spread"])

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted label of every row, float64 (n,)."""
        outputs = self._map(X, lambda _, outputs: outputs[:, 0].float())
        return outputs.astype(np.float64) * self.spread_ + self.center_

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R² on the rows whose label is known: None and NaN mark unknown ones.

        Raises
        ------
        ValueError
            No label is known; labels or weights that are not one a row.
        """
        return super().score(*scored(X, y, sample_weight, is_missing))

    def evaluate(self, X: Any, y: Any) -> dict[str, Any]:
        """Score predictions against labels; on target rows this is an oracle's view, which training never has.

        Rows whose label is not known are left out, as in `score`.

        Returns
        -------
        dict
            See `regression_metrics`.
        """
        check_is_fitted(self, "network_")
        rows, known, _ = scored(X, y, None, is_missing)
        predicted = self.predict(rows)
        return regression_metrics(predicted, as_numbers(known, len(predicted), "y"))
