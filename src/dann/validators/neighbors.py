"""Whether neighbours in the space of the inputs get the same class."""

import numpy as np

from ..evidence import Evidence


def neighbors(evidence: Evidence) -> float:
    """Agreement of target rows with their nearest ones in the space of the inputs, beyond chance: at most 1.

    The mean share of a row's five nearest target rows that get its class, as Cohen's kappa corrects it for the shares
    of the classes; 0 where all rows are of one class. No training shapes the space of the inputs, so no model can
    flatter itself there. Rewards classes that follow the target's own structure. Fails where near inputs tell nothing
    of classes, as of word counts or digits on photographs, and where classes are swapped whole.
    """
    if evidence.target_neighbors is None:
        raise ValueError("neighbors needs to know which target rows lie near: collect evidence with structure=True")
    return kappa(evidence.target_predicted, evidence.target_neighbors)


def kappa(labels: np.ndarray, near: np.ndarray) -> float:
    """Return the agreement, beyond chance, of labels (n,) with those of the rows near (n, k)."""
    chance = np.square(np.unique(labels, return_counts=True)[1] / len(labels)).sum()
    agreement = (labels[near] == labels[:, None]).mean()
    return float((agreement - chance) / (1 - chance)) if chance < 1 else 0.0
