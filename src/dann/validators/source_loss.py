"""Cross entropy on held-out source rows."""

import numpy as np

from ..evidence import Evidence


def source_loss(evidence: Evidence) -> float:
    """Minus the mean cross entropy of held-out source rows, in nats.

    As the source's accuracy, and it also rewards calibration: an adapted model loses by being less sure of the source.
    """
    likelihood = evidence.source_probabilities[np.arange(len(evidence.source_y)), evidence.source_y]
    return float(np.log(likelihood.clip(1e-12)).mean())
