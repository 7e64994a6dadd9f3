"""Entropy minimisation and information maximisation."""

from dataclasses import dataclass

from torch import Tensor

from ..domains import Domains
from ..functional import entropy, mean_entropy
from ..network import Network, View
from .base import Method, Terms, not_negative


@dataclass
class EntropyMinimization(Method):
    """Make the predictions on the target certain.

    The label loss plus ``weight · mean H(p_T)`` of the probabilities (n_target, classes). It moves the decision
    boundary out of dense regions of the target.

    Good for a sum with a method that aligns or balances; not for use by itself where the source's model is often wrong:
    it is as content with one class for all rows as with the right ones.

    Parameters
    ----------
    weight : float
        ≥ 0; our choice.

    References
    ----------
    Grandvalet & Bengio, Semi-supervised Learning by Entropy Minimization, NeurIPS 2004, equation 6. Differs in the
    unlabelled rows, which are another domain's.
    """

    weight: float = 0.1

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        not_negative(self, "weight")

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label loss and the mean entropy."""
        term = self.weight * entropy(target.logits).mean()
        return {"label": self.label_loss(source, target), "entropy": term}


@dataclass
class InformationMaximization(Method):
    """Make the predictions on the target certain, each for itself, and diverse, all together.

    The label loss plus ``weight · (mean H(p_T) - diversity · H(mean p_T))`` of the probabilities (n_target, classes):
    with diversity 1 the negative mutual information of rows and predicted classes.

    Good where classes are about equally frequent in the target; not where they are not: the second term pulls towards
    classes of equal size.

    Parameters
    ----------
    weight : float
        ≥ 0; our choice.
    diversity : float
        ≥ 0.

    References
    ----------
    Krause, Perona & Gomes, Discriminative Clustering by Regularized Information Maximization, NeurIPS 2010, section 2;
    for adaptation Liang et al., ICML 2020, equation 3 (https://arxiv.org/abs/2002.08546). Differs in what stands beside
    it: the label loss of the source, which both do without, and no penalty on weights, which the former has.
    """

    weight: float = 0.1
    diversity: float = 1.0

    def check(self, domains: Domains) -> None:
        """Refuse settings that cannot train."""
        not_negative(self, "weight", "diversity")

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the label loss, the mean entropy and the negative entropy of the mean."""
        return {
            "label": self.label_loss(source, target),
            "entropy": self.weight * entropy(target.logits).mean(),
            "diversity": -self.weight * self.diversity * mean_entropy(target.logits),
        }
