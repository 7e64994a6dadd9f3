"""Consistency of predictions on mixtures of target rows."""

from ..evidence import Evidence, mixtures


def mixval(evidence: Evidence) -> float:
    """Share of mixed target rows that get the class of the larger part, pairs of one and of two classes in equal parts.

    Rewards classes with space between them: a mixture of two rows of one class should be of that class, one of two
    classes of the class that it has more of. Fails where mixtures of rows mean nothing, as of text counts, and on
    collapse, where every pair is of one class; such pairs are then all that counts.

    References
    ----------
    Hu et al., Mixed Samples as Probes for Unsupervised Model Selection in Domain Adaptation, NeurIPS 2023, section 3.
    Differs in the score, which is the mean of both kinds of pairs and no mean of ranks among models.
    """
    if evidence.mixed_logits is None:
        raise ValueError("mixval needs predictions on mixed target rows: collect evidence with mixed=True")
    predicted = evidence.target_predicted
    partner = predicted[mixtures(len(predicted))]
    kept = evidence.mixed_logits.argmax(1) == predicted
    kinds = [kept[which] for which in (predicted == partner, predicted != partner) if which.any()]
    return float(sum(kind.mean() for kind in kinds) / len(kinds))
