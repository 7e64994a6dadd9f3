"""Accuracy on held-out source rows."""

from ..evidence import Evidence


def source_accuracy(evidence: Evidence) -> float:
    """Share of held-out source rows that are right, 0 … 1.

    Rewards a good classifier of the source, which an adapted model should still be. Fails where source and target part:
    it does not look at the target at all, and source-only is hard to beat in it.
    """
    return float(evidence.source_right.mean())
