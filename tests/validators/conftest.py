"""Evidence of made-up models: right ones, guessing ones, collapsed ones."""

import numpy as np
import pytest

from dann.evidence import Evidence, clusters, mixtures, nearest


def evidence(kind="random", n=40, m=30, classes=3, dim=4, seed=0):
    rng = np.random.default_rng(seed)
    y, target = rng.integers(classes, size=n), rng.integers(classes, size=m)
    centres = 6 * rng.normal(size=(classes, dim))
    features, of_target = (centres[labels] + rng.normal(size=(len(labels), dim)) for labels in (y, target))
    if kind == "random":
        features, of_target = rng.normal(size=(n, dim)), rng.normal(size=(m, dim)) + 0.5
        logits, of_target_logits = rng.normal(size=(n, classes)), rng.normal(size=(m, classes))
    elif kind == "right":
        logits, of_target_logits = 8 * np.eye(classes)[y], 8 * np.eye(classes)[target]
    elif kind == "guessing":
        logits, of_target_logits = np.zeros((n, classes)), np.zeros((m, classes))
    else:  # collapsed
        logits, of_target_logits = np.tile([9.0, 0, 0], (n, 1)), np.tile([9.0, 0, 0], (m, 1))
        features, of_target = np.ones((n, dim)), np.ones((m, dim))
    others = np.stack([of_target_logits, rng.normal(size=(m, classes))])
    mixed = 0.55 * of_target_logits + 0.45 * of_target_logits[mixtures(m)]
    inputs = [rng.normal(size=(len(c), 2)) + 5 * c[:, None] if len(c) > 1 else None for c in (y, target)]
    groups = [None if x is None else clusters(x, classes) for x in inputs]
    return Evidence(
        features,
        logits,
        y,
        of_target,
        of_target_logits,
        mixed,
        others,
        None if inputs[1] is None else nearest(inputs[1]),
        groups[0],
        groups[1],
        None if groups[1] is None else of_target_logits.argmax(1),
    )


@pytest.fixture
def make_evidence():
    return evidence
