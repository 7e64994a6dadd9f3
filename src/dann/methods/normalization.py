"""Adapting normalisation layers alone: AdaBN and TENT."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from ..domains import Batch
from ..functional import entropy
from ..network import Network, forget_statistics
from .base import Method, Move

NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)


def layers(net: Network, kinds: type | tuple[type, ...], what: str) -> list[nn.Module]:
    """Return the encoder's layers of some kinds that training changes, or say that there are none."""
    net.encoder.train()  # where the user's own `train` keeps layers out of it, they stay as they are
    found = [layer for layer in net.encoder.modules() if isinstance(layer, kinds) and layer.training]
    if kinds is _BatchNorm:
        found = [layer for layer in found if layer.running_mean is not None]
    else:
        found = [layer for layer in found if next(layer.parameters(), None) is not None]
    if not found:
        raise ValueError(
            f"this adapts {what}; the encoder has none, or keeps them frozen, or inside TorchScript: fit one that has, "
            "such as MLP(batch_norm=True)"
        )
    return found


@dataclass
class AdaBN(Method):
    """Recompute the statistics of batch norm on the target; no weight changes.

    Use `DomainAdapter.adapt_to` with as many steps as it takes to see the target once or more. Means and variances
    (channels,) of a layer's inputs (n, channels, …) are averaged over all batches.

    Good for shifts that scale and move whole features, and costs next to nothing; not for networks without batch norm,
    which are refused, not where class shares differ, as the statistics are those of the mixture, and not for small
    targets.

    References
    ----------
    Li et al., Revisiting Batch Normalization For Practical Domain Adaptation, 2016, algorithm 1
    (https://arxiv.org/abs/1603.04779). Differs in the statistics, which are means over batches; the algorithm takes
    those of all target rows at once.
    """

    source_free = True
    needs_classes = False
    rows_needed = 2
    reads_values = True  # batch norm counts its batches when it averages over all of them

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Forget the statistics of the source; return no part."""
        for layer in layers(net, _BatchNorm, "statistics of batch norm"):
            assert isinstance(layer, _BatchNorm)
            forget_statistics(layer)
        return {}

    def moves(self, net: Network, batch: Batch, progress: Tensor) -> Iterator[Move]:
        """Show the target's rows to the network; yield no move."""
        with torch.no_grad():
            net.encode(batch, slice(batch.n_source, None))
        yield from ()


@dataclass
class TENT(Method):
    """Make a fitted model certain on the target by moving the scales and shifts of its normalisation layers alone.

    Use `DomainAdapter.adapt_to`. The entropy of predictions, logits (n, classes), is made small; batch norm takes the
    target's statistics on the way.

    Good for small shifts: few numbers change, so little can go wrong; not for many steps or a high learning rate: by
    itself certainty is as content with one class for all rows.

    References
    ----------
    Wang et al., Tent: Fully Test-Time Adaptation by Entropy Minimization, ICLR 2021, equation 1
    (https://arxiv.org/abs/2006.10726). Differs in the statistics at prediction, which are means over the target's
    batches and not those of the batch that is predicted, so that predictions do not depend on their neighbours.
    """

    source_free = True
    rows_needed = 2
    reads_values = True  # as AdaBN

    def build(self, net: Network) -> dict[str, nn.Module]:
        """Freeze all but scales and shifts; return no part."""
        adapted = layers(net, NORMS, "the scales and shifts of normalisation layers")
        net.requires_grad_(False)
        for layer in adapted:
            layer.requires_grad_(True)
            if isinstance(layer, _BatchNorm):
                forget_statistics(layer)
        return {}

    def moves(self, net: Network, batch: Batch, progress: Tensor) -> Iterator[Move]:
        """Yield one move of the scales and shifts."""
        target = net.encode(batch, slice(batch.n_source, None))
        yield ("encoder",), {"entropy": entropy(target.logits).mean()}
