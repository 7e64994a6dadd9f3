"""Diversity of the predictions on the target."""

from ..evidence import Evidence
from .entropy import mean_entropy


def diversity(evidence: Evidence) -> float:
    """Entropy of the mean prediction on the target, in nats: 0 … log(classes).

    Rewards predictions of all classes alike, and so notices collapse. Fails where the target's classes are not equally
    frequent, and knows nothing of single rows: a model that guesses is perfect.
    """
    return mean_entropy(evidence.target_probabilities)
