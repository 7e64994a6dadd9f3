"""Agreement of several trainings on the target."""

import numpy as np

from ..evidence import Evidence


def agreement(evidence: Evidence) -> float:
    """Mean share of target rows on which other trainings with the same settings predict the same class, 0 … 1.

    Rewards models whose predictions do not hang on chance. Fails where all trainings make the same mistake, as
    collapsed ones do.
    """
    if evidence.other_target_logits is None:
        raise ValueError("agreement needs predictions of other trainings: collect evidence with others=[...]")
    return float(np.mean(evidence.other_target_logits.argmax(2) == evidence.target_predicted))
