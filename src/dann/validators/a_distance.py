"""Proxy A-distance of the domains' features."""

from ..evidence import Evidence
from ..metrics import proxy_a_distance


def a_distance(evidence: Evidence) -> float:
    """Minus the proxy A-distance of source and target features, -2 … 0.

    Rewards features in which no linear classifier can tell the domains apart. Knows nothing of classes, as `mmd`.
    """
    return -proxy_a_distance(evidence.source_features, evidence.target_features)
