"""The contract of a method: hyper-parameters in, named losses out, no state."""

from collections.abc import Iterator
from typing import ClassVar

from sklearn.base import BaseEstimator
from torch import Tensor, nn

from ..domains import Batch, Domains
from ..functional import label_loss
from ..network import Network, View

Terms = dict[str, Tensor]
Move = tuple[tuple[str, ...], Terms]


def not_negative(method: "Method", *names: str) -> None:
    """Raise ValueError where one of some hyper-parameters is below 0, or no number."""
    for name in names:
        if not getattr(method, name) >= 0:
            raise ValueError(f"{name}={getattr(method, name)} must be 0 or more")


class Method(BaseEstimator):
    """A domain adaptation objective. Subclasses are dataclasses of hyper-parameters.

    Override `loss` for one objective that everybody minimises, or `moves` for a game of several.

    Attributes
    ----------
    needs_classes : bool
        Its formula is for class probabilities; set it False for one that takes continuous labels too.
    rows_needed : int
        On each side of a batch.
    needs_pretraining : bool
        It starts from a model of the source: `build` finds one in the network.
    two_views : bool
        It compares rows of the target with strong variations of them, `View.variant`.
    own_label : bool
        Its term "label" is not that of `label_loss`: in a `Sum` it takes the other's place.
    reads_values : bool
        Of tensors, so that its steps cannot be recorded.
    source_free : bool
        It goes on from a fitted model, with rows of the target alone.
    classifies : bool
        It trains the label head.
    uses_target_labels : bool
        An oracle.
    """

    uses_target_labels: ClassVar[bool] = False
    rows_needed: ClassVar[int] = 1
    needs_pretraining: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = True
    classifies: ClassVar[bool] = True
    own_label: ClassVar[bool] = False
    reads_values: ClassVar[bool] = False
    two_views: ClassVar[bool] = False
    source_free: ClassVar[bool] = False

    def check(self, domains: Domains) -> None:
        """Raise ValueError where the method cannot be trained on these domains."""

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Return the modules that this method trains or keeps beside the network, by name.

        What is kept from batch to batch, such as running means, belongs into buffers of such a module, changed in place
        by `loss` under ``torch.no_grad``: they are saved with the model, and an interrupted training goes on with them.
        Of attributes of the method it goes on with numbers and text alone; buffers that are not persistent are lost.

        One that is named "domain" is taken for a classifier of domains, by `DomainAdapter.predict_domain` and by the
        guards: it sees what `domain_input` returns, and has as many outputs as there are domains, or one fewer, the
        first domain's logit being 0 then.
        """
        return {}

    def learning_rates(self) -> dict[str, float]:
        """Return factors on the learning rate of single players, "encoder", "head" or a part; the others have 1."""
        return {}

    def domain_input(self, net: Network, features: Tensor, logits: Tensor) -> Tensor:
        """Return what the part "domain", if there is one, sees of features (n, dim) and logits (n, classes)."""
        return features

    def of_source(self, net: Network, x: Tensor) -> Network:
        """Return the network that source rows x (n, *input), as stored, go through when they are judged.

        That is the network itself; where batch norm has the target's statistics alone, a copy with those of the rows.
        """
        own = (net.encoding == "per-domain" or self.source_free) and len(x) > 1
        return net.restated(x) if own else net

    def loss(self, net: Network, source: View, target: View, progress: Tensor) -> Terms:
        """Return the named terms whose sum every player minimises.

        Parameters
        ----------
        net : Network
        source, target : View
        progress : 0-d Tensor
            Fraction of the training that is done, 0 … 1.
        """
        raise TypeError(f"{type(self).__name__} defines neither loss nor moves")

    def moves(self, net: Network, batch: Batch, progress: Tensor) -> Iterator[Move]:
        """Yield ``(players, terms)`` in the order of play; each is one optimiser step of these players.

        Compute the terms of a move when the one before has been played, behind its ``yield``: that has changed weights,
        and freed the graph of its terms. Random numbers are PyTorch's, NumPy's or Python's own, which are seeded.
        """
        source, target = net.views(batch)
        yield net.players, self.loss(net, source, target, progress)

    @staticmethod
    def label_loss(source: View, target: View) -> Tensor:
        """Mean loss on the source labels plus that on the target labels that the user marked as known."""
        loss = label_loss(source.logits, source.y, complete=True)
        return loss + label_loss(target.logits, target.y) if target.labelled else loss
