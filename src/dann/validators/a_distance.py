"""Proxy A-distance of the domains' features."""

from ..evidence import Evidence
from ..metrics import proxy_a_distance

ROWS = 300


def a_distance(evidence: Evidence) -> float:
    """Minus the proxy A-distance of source and target features, -2 … 0.

    Rewards features in which no linear classifier can tell the domains apart. Knows nothing of classes, as `mmd`. At
    most 300 rows of each domain, drawn at random, are looked at.
    """
    return -proxy_a_distance(evidence.source_features, evidence.target_features, max_rows=ROWS)
