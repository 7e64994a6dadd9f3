"""The default of every hyper-parameter, and where it comes from."""

import pytest

from dann import METHODS

SCALES = (0.125, 0.25, 0.5, 1.0, 2.0)
PAPERS = {
    "dann": {"weight": 1.0, "schedule": "warmup"},
    "cdan": {"weight": 1.0, "entropy": True, "width": 1024},
    "iwdan": {"weight": 1.0},
    "iwcdan": {"weight": 1.0, "entropy": False, "width": 1024},
    "pada": {"weight": 1.0},
    "mcd": {"encoder_steps": 4},
    "mdd": {"weight": 0.1, "margin": 4.0},
    "wdgrl": {"weight": 1.0, "critic_steps": 5, "penalty": 10.0},
    "vada": {"weight": 0.01, "radius": 3.5, "source_weight": 1.0, "target_weight": 0.01},
    "dirt-t": {"radius": 3.5, "target_weight": 0.01, "teacher_weight": 0.01, "decay": 0.998},
    "dan": {"weight": 1.0, "scales": SCALES},
    "jan": {"weight": 1.0, "scales": SCALES, "width": 1.68},
    "deep-jdot": {"distance": 0.001},
    "mcc": {"weight": 1.0, "temperature": 2.5},
    "bnm": {"weight": 1.0},
    "afn": {"weight": 0.05, "step": 1.0, "radius": 25.0, "variant": "stepwise"},
    "atdoc": {"weight": 0.2, "neighbours": 5},
    "self-ensembling": {"weight": 3.0, "threshold": 0.968, "decay": 0.99, "balance": 0.005},
    "fixmatch": {"weight": 1.0, "threshold": 0.95},
    "shot": {"weight": 0.3, "diversity": 1.0},
}
OURS = {
    "dann": {"hidden": None, "lr_multiplier": 1.0, "label_smoothing": 0.0},
    **{name: {"hidden": None} for name in ("cdan", "iwdan", "iwcdan", "pada", "adda", "wdgrl", "vada", "domain-only")},
    "deep-coral": {"weight": 1.0},
    "dan": {"estimator": "biased"},
    "jan": {"estimator": "biased"},
    "deep-jdot": {"agreement": 1.0},
    "sliced-wasserstein": {"weight": 1.0, "directions": 64},
    "entropy": {"weight": 0.1},
    "information-maximization": {"weight": 0.1, "diversity": 1.0},
    "atdoc": {"memory": 2048},
}


@pytest.mark.parametrize("name", METHODS)
def test_every_default_is_one_that_somebody_chose(name):
    assert METHODS[name]().get_params() == PAPERS.get(name, {}) | OURS.get(name, {})
