"""What the experiments on points of the plane share: one estimator, and scores to draw."""

from typing import Any

import numpy as np
import torch

from ..adapter import DomainAdapter
from ..backbones import MLP
from ..methods import DANN
from ..methods.dann import logits_of_domains

STEPS = 1000
ADVERSARY = DANN(weight=0.7, schedule="constant")  # constant λ, as in the paper's shallow Algorithm 1


def adapter(method: Any, steps: int) -> DomainAdapter:
    """Return the estimator of both kinds of moons, the same for every method.

    Smooth units, a narrow domain head, weight decay and large batches are what keeps the adversarial game from settling
    on a wrong alignment; docs/experiments.md says what was tried.
    """
    return DomainAdapter(
        method,
        MLP(hidden=(64, 64), activation="tanh", domain_hidden=(16,)),
        steps=steps,
        batch_size=256,
        lr=0.03,
        momentum=0.5,
        weight_decay=5e-3,
        lr_schedule="cosine",
    )


def class_probability(model: DomainAdapter, x: np.ndarray) -> np.ndarray:
    """Return the probability of the second of two classes, (n,)."""
    return model.predict_proba(x)[:, 1]


def domain_probability(model: DomainAdapter, x: np.ndarray) -> np.ndarray:
    """Return the domain head's probability that rows are target, (n,)."""
    net = model.network_
    with torch.inference_mode():
        features, _ = net(torch.from_numpy(x).to(net.normalize.mean.device))
        return logits_of_domains(net, features).softmax(1)[:, 1].cpu().numpy()
