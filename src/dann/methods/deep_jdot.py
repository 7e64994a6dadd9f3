"""Deep joint distribution optimal transport."""

import random
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..domains import Domains
from ..network import Network, View
from .base import Method, Terms, not_negative


def transport_plan(cost: Tensor) -> Tensor:
    """Return the cheapest plan (n, m) that moves n equal masses, 1 in all, onto m equal ones, for costs (n, m).

    Solved exactly on the CPU, by the POT library, in double precision; a constant for gradients.
    """
    ot = optimal_transport()
    n, m = cost.shape
    plan = ot.emd([1 / n] * n, [1 / m] * m, cost.detach().double().cpu().numpy())
    return torch.from_numpy(plan).to(cost)


def optimal_transport() -> Any:
    """Import POT, which takes seconds, or say how to get it."""
    before = random.getstate()  # libraries that it imports draw from it
    try:
        import ot
    except ImportError as error:
        raise ImportError("DeepJDOT needs the POT library: pip install 'dann[ot]'") from error
    finally:
        random.setstate(before)
    return ot


@dataclass
class DeepJDOT(Method):
    """Transport source rows to target rows at the least cost in features and labels, and make that cost small.

    The cost of matching source row i with target row j is ``distance · ‖f_i - f_j‖² + agreement · CE(y_i, p_j)``, of
    features (n_source, dim) and (n_target, dim), labels and probabilities (n_target, classes); an exact plan
    (n_source, n_target) for each batch says which rows belong together.

    Good where the predictions are mostly right; not for small batches, as a plan is exact only for its batch, so 64
    rows a side or more; not where class shares differ, as every row has to go somewhere; not where speed counts: it
    waits for the CPU in every step.

    Parameters
    ----------
    distance : float
        α of the squared distance of the features, ≥ 0; .001 in the paper's digits experiments.
    agreement : float
        λ_t of the cross entropy of source label and target prediction, ≥ 0; 1 is our choice.

    References
    ----------
    Damodaran et al., DeepJDOT: Deep Joint Distribution Optimal Transport for Unsupervised Domain Adaptation, ECCV 2018,
    equations 5-7 (https://arxiv.org/abs/1803.10081). Differs in ``agreement=1.0``, which is our choice (.0001 in the
    authors' code for SVHN → MNIST). That code also plans by squared distances of labels and probabilities, where cost
    and loss are one here, and draws source batches with equally many rows of each class.
    """

    rows_needed = 2
    reads_values = True
    distance: float = 0.001
    agreement: float = 1.0

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train, and a missing library before any work."""
        not_negative(self, "distance", "agreement")
        optimal_transport()

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label loss and both parts of the transport's cost."""
        apart = torch.cdist(source.features, target.features, compute_mode="donot_use_mm_for_euclid_dist").square()
        unlike = -F.log_softmax(target.logits, 1)[:, source.y].T  # (n_source, n_target)
        plan = transport_plan(self.distance * apart + self.agreement * unlike)
        return {
            "label": self.label_loss(source, target),
            "distance": self.distance * (plan * apart).sum(),
            "agreement": self.agreement * (plan * unlike).sum(),
        }
