"""Certainty and diversity of the predictions on the target."""

from ..evidence import Evidence
from .diversity import diversity
from .entropy import entropy


def information_maximization(evidence: Evidence) -> float:
    """Mutual information of target rows and predictions, in nats: entropy of the mean less mean entropy.

    Rewards predictions that are certain one by one and diverse together. Fails where classes are swapped or clusters
    split wrongly, with great certainty; favours methods that train on just this.
    """
    return diversity(evidence) + entropy(evidence)
