"""The network that every method trains: encoder → label head, and the parts that the method adds."""

import copy
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from .domains import Batch
from .functional import single

BLOCK = 4096  # rows that are measured at once
SCALINGS = ("standard", "mean", "image", "none")
ENCODINGS = ("joint", "separate", "per-domain")
INITIALIZATIONS = ("torch", "truncated-normal", "xavier", "he")
COUNTING = threading.RLock()


def renew_lock() -> None:
    """Forget, in a process that was forked, that a thread of the other one is counting."""
    global COUNTING
    COUNTING = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=renew_lock)


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode inside the block; behind it every layer has the mode that it had."""
    modes = [(layer, layer.training) for layer in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


@dataclass
class View:
    """One side of an encoded batch, source or target, as a method sees it.

    The logits are computed when they are first asked for: a method that needs none of the target's does not pay for
    them.
    """

    x: Tensor  # (n, *input)
    y: Tensor  # (n,) class codes, -1 = unknown
    domain: Tensor  # (n,)
    index: Tensor  # (n,) row number inside its own domain
    features: Tensor  # (n, dim)
    head: Callable[[Tensor], Tensor]  # features → logits
    labelled: bool  # False: no label of this side is known
    variant: Tensor | None = None  # (n, *input) strong variations of x, on the target's side of methods of two views
    _logits: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """Logits (n, classes) of the label head."""
        if self._logits is None:  # functools.cached_property would break the graph of torch.compile
            logits = single(self.head(self.features))
            if not torch.is_grad_enabled():
                return logits  # who asks next may want gradients
            self._logits = logits
        return self._logits


class Normalize(nn.Module):
    """Turn stored rows into the floats that the encoder sees: ``(x - mean) / scale``, then per image if asked.

    Parameters
    ----------
    mean, scale : Tensor
        Broadcast against a row: (d,) for tables, (C, 1, 1) for images, (C, 1) for series, which are stored as images
        (1, C, length) and given to the encoder as (C, length).
    per_image : bool
        Also give every image mean 0 and standard deviation 1 over its pixels and channels.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, per_image: bool = False):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.per_image = per_image
        self.channels_last = True  # images; `Network.arrange` says for which encoders they are not

    @property
    def series(self) -> bool:
        """Whether rows are series of channels."""
        return self.mean.dim() == 2

    def encoded(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape in which the encoder sees stored rows of a shape."""
        return shape[1:] if self.series else shape

    def forward(self, x: Tensor) -> Tensor:
        """Normalise rows (n, *input)."""
        x = (x.to(self.mean.dtype) - self.mean).div_(self.scale)
        if self.per_image:
            x = nn.functional.layer_norm(x, x.shape[1:], eps=1e-6)  # a thousandth of the others' deviation is noise
        x = x.squeeze(1) if self.series and x.dim() == 4 else x
        return (
            x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 and self.channels_last else x.contiguous()
        )

    @classmethod
    def fit(cls, domains: Sequence[np.ndarray], scaling: str, series: bool = False) -> "Normalize":
        """Measure mean and scale so that every domain counts the same, whatever its number of rows.

        Parameters
        ----------
        domains : sequence of ndarray (n, *input)
        scaling : str
            "standard": mean 0 and standard deviation 1, per feature of a table or per channel of an image; "mean":
            subtract the mean only, the papers' preprocessing (uint8 pixels are divided by 255); "image": mean 0 and
            deviation 1 per image; "none": as stored (uint8 pixels divided by 255).
        series : bool
            Rows (1, C, length) are series of C channels, each of which is scaled by itself.
        """
        x = domains[0]
        if scaling not in SCALINGS:
            raise ValueError(f"unknown scaling {scaling!r}; choose one of: {', '.join(SCALINGS)}")
        if series:
            domains = [d.transpose(0, 2, 1, 3) for d in domains]  # no copy: (n, C, 1, length)
            x = domains[0]
        if scaling == "image" and (x.ndim != 4 or series):
            kind = "series" if series else "tables"
            raise ValueError(f"scaling='image' needs images; these rows are {kind}: use 'standard'")
        axes = (0, 2, 3) if x.ndim == 4 else (0,)
        unit = 255.0 if x.dtype == np.uint8 else 1.0
        mean, scale = np.zeros([x.shape[1]]), np.full([x.shape[1]], unit)
        measured = scaling == "standard" or (scaling == "image" and x.dtype != np.uint8)  # bytes have their unit
        if measured or scaling == "mean":
            means = [d.mean(axes, dtype=np.float64) for d in domains]
            mean = np.mean(means, axis=0)
        if measured:
            centre = mean.astype(np.float32).reshape(-1, *[1] * (x.ndim - 2))
            deviation = np.sqrt(np.mean([mean_square(d, centre, axes) for d in domains], axis=0))
            scale = np.where(deviation > 1e-7 * np.abs(mean), deviation, 1.0)  # constant: only centre
        if measured and scaling == "image":  # one unit for all channels, each image's own mean
            mean, scale = np.zeros_like(mean), np.full_like(scale, deviation.max() or 1.0)
        shape = (-1, 1) if series else (-1, 1, 1) if x.ndim == 4 else (-1,)
        as_tensor = lambda a: torch.tensor(a, dtype=torch.float32).reshape(shape)  # noqa: E731
        return cls(as_tensor(mean), as_tensor(scale), per_image=scaling == "image")


def mean_square(x: np.ndarray, centre: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Return the mean square of ``x - centre`` over some axes, a block of rows after the other to spare the memory."""
    blocks = (x[i : i + BLOCK] - centre for i in range(0, len(x), BLOCK))
    return sum(np.square(b).sum(axes, dtype=np.float64) for b in blocks) / (x.size / x.shape[1])


class Network(nn.Module):
    """Normalisation, encoder, label head, and the method's parts: one module, one ``state_dict``.

    Parameters
    ----------
    normalize : nn.Module
        (n, *input) as stored → (n, *input) floats.
    encoder : nn.Module
        (n, *input) → features (n, dim).
    head : nn.Module
        (n, dim) → logits (n, classes).
    dim, n_classes, n_domains : int
    domain_hidden : tuple of int
        Hidden widths of the domain head that the backbone's paper puts beside it.
    encoding : {"joint", "separate", "per-domain"}
        Whether the rows of a batch go through the encoder together or one domain after the other, each source by
        itself. It matters to batch norm alone: "joint" normalises by the statistics of all, "separate" each domain by
        its own. Predictions have one set of statistics: of all domains, or, with "per-domain", of the target alone.
    """

    def __init__(
        self,
        normalize: Normalize,
        encoder: nn.Module,
        head: nn.Module,
        *,
        dim: int,
        n_classes: int,
        n_domains: int,
        domain_hidden: tuple[int, ...] = (),
        encoding: str = "joint",
    ):
        super().__init__()
        if encoding not in ENCODINGS:
            raise ValueError(f"unknown encoding {encoding!r}; choose one of: {', '.join(ENCODINGS)}")
        if any(isinstance(layer, _BatchNorm) for layer in head.modules()):
            raise ValueError("the label head has batch norm, which would see one domain at a time: give it the encoder")
        self.normalize, self.encoder, self.head = normalize, encoder, head
        self.dim, self.n_classes, self.n_domains = dim, n_classes, n_domains
        self.domain_hidden, self.encoding = domain_hidden, encoding
        self.has_batch_norm = any(isinstance(layer, _BatchNorm) for layer in encoder.modules())
        self._hides_batch_norm = any("BatchNorm" in str(getattr(m, "original_name", "")) for m in encoder.modules())
        if encoding != "joint":
            self._refuse_hidden()
        self.parts = nn.ModuleDict()
        self._counted: tuple[tuple[int, ...], int] | None = None  # shape of a row, and its work

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (n, dim) and logits (n, classes) of stored rows (n, *input)."""
        features = self.features(self.normalize(x))
        return features, single(self.head(features))

    def encode(self, batch: Batch, rows: slice = slice(None)) -> View:
        """Encode some rows of a batch together; of source rows encoded apart, each source by itself."""
        of_source = rows == slice(batch.n_source)
        read = self.features_unseen if of_source and self.encoding == "per-domain" else self.features
        x = self.normalize(batch.x[rows])
        if of_source and len(batch.sizes) > 2 and self.encoding != "joint" and self.has_batch_norm:
            return self._view(batch, rows, torch.cat([read(block) for block in x.split(batch.sizes[:-1])]))
        return self._view(batch, rows, read(x))

    def features(self, x: Tensor) -> Tensor:
        """Return features (n, dim) of normalised rows (n, *input)."""
        return self._as_weights(self.encoder(x))

    def _as_weights(self, features: Tensor) -> Tensor:
        """Return features in single precision, or in what the label head's weights are in."""
        if features.dtype == torch.float32:
            return features
        weight = next(self.head.parameters(), None)
        return features.to(torch.float32 if weight is None else weight.dtype)

    def _refuse_hidden(self) -> None:
        if self._hides_batch_norm:
            raise ValueError(
                "the encoder has batch norm inside TorchScript, whose statistics cannot be kept apart: give the module "
                'that was scripted, or a method that leaves them alone, with encoding="joint"'
            )

    def features_unseen(self, x: Tensor) -> Tensor:
        """Return the features of normalised rows, which leave no trace in the running statistics of batch norm."""
        self._refuse_hidden()
        layers = [layer for layer in self.encoder.modules() if isinstance(layer, _BatchNorm) and layer.training]
        tracked = [layer.track_running_stats for layer in layers]
        try:
            for layer in layers:
                layer.track_running_stats = False
            return self.features(x)
        finally:
            for layer, tracks in zip(layers, tracked, strict=True):
                layer.track_running_stats = tracks

    def logits_unseen(self, x: Tensor) -> Tensor:
        """Return the logits (n, classes) of normalised rows, which leave no trace; see `features_unseen`."""
        return single(self.head(self.features_unseen(x)))

    def logits_alone(self, view: View) -> Tensor:
        """Return the logits of one side of a batch as `logits_unseen` has them, to be compared with those.

        They are the view's own, unless batch norm took the statistics of both sides there.
        """
        together = self.encoding == "joint" and self.has_batch_norm
        return self.logits_unseen(self.normalize(view.x)) if together else view.logits

    def __deepcopy__(self, memo: dict[int, Any]) -> "Network":
        """Copy the network; what layers keep of a forward pass, such as an activation, has no graph in the copy."""
        for layer in self.modules():
            memo.update((id(t), t.detach()) for t in vars(layer).values() if isinstance(t, Tensor) and not t.is_leaf)
        made = memo[id(self)] = self.__class__.__new__(self.__class__)
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made

    def restated(self, x: Tensor) -> "Network":
        """Return a copy, to predict with, whose batch norm has the statistics of other rows (n, *input) as stored.

        Without batch norm that trains there is nothing to state anew: that returns the network itself.
        """
        if not self.has_batch_norm:
            return self
        copied = copy.deepcopy(self)
        copied.encoder.train()
        layers = [m for m in copied.encoder.modules() if isinstance(m, _BatchNorm) and m.training]  # not frozen ones
        copied.eval()
        if not layers:
            return self
        for layer in layers:
            forget_statistics(layer)
            layer.train()
        with torch.no_grad():
            for block in x.tensor_split(max(1, len(x) // 64)):
                copied.features(copied.normalize(block.to(self.normalize.mean.device)))
        return copied.eval()

    def _view(self, batch: Batch, rows: slice, features: Tensor) -> View:
        labelled = batch.target_labelled or rows.start is None  # sources come first, and have labels
        sides = (batch.x[rows], batch.y[rows], batch.domain[rows], batch.index[rows])
        variant = batch.variant if rows.start == batch.n_source else None
        return View(*sides, features, self.head, labelled, variant)

    def views(self, batch: Batch) -> tuple[View, View]:
        """Encode a batch and split it into its source and target sides."""
        source, target = slice(batch.n_source), slice(batch.n_source, None)
        if self.encoding != "joint":
            return self.encode(batch, source), self.encode(batch, target)
        # one split, whose backward joins the halves; two slices would each fill and add a whole gradient
        sides = self.encoder(self.normalize(batch.x)).split((batch.n_source, len(batch.x) - batch.n_source))
        both = map(self._as_weights, sides)
        return self._view(batch, source, next(both)), self._view(batch, target, next(both))

    def work(self, shape: tuple[int, ...]) -> int:
        """Count the multiply-adds of the forward pass of one row, ``shape`` without the batch, by a dry run."""
        if self._counted is not None and self._counted[0] == shape:
            return self._counted[1]
        with COUNTING:  # threads that predict with a new model would hook it all at once
            if self._counted is None or self._counted[0] != shape:
                self._counted = (shape, self._count(shape))
            return self._counted[1]

    def _count(self, shape: tuple[int, ...]) -> int:
        counts: list[int] = []

        def count(layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            counts.append(multiply_adds(layer, [*given, *named.values()], output))

        layers = [layer for layer in self.modules() if not isinstance(layer, torch.jit.ScriptModule)]  # takes no hooks
        handles = [layer.register_forward_hook(count, with_kwargs=True) for layer in layers]
        whole = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)  # which calls none of a transformer's layers
        try:
            with torch.no_grad(), evaluating(self):  # batch norm keeps its statistics
                self(torch.zeros(1, *shape, device=self.normalize.mean.device))
        finally:
            torch.backends.mha.set_fastpath_enabled(whole)
            for handle in handles:
                handle.remove()
        return sum(counts)

    @property
    def players(self) -> tuple[str, ...]:
        """Everything that trains, by name: not the parts that hold buffers or frozen weights alone."""
        trains = (name for name, part in self.parts.items() if any(p.requires_grad for p in part.parameters()))
        return ("encoder", "head", *trains)

    def group(self, player: str) -> list[nn.Parameter]:
        """Trainable parameters of one player: "encoder", "head" or the name of a part."""
        return [p for p in self.module_of(player).parameters() if p.requires_grad]

    def arrange(self, memory_format: torch.memory_format) -> None:
        """Lay weights and images out in memory as the encoder takes them, see `backbones.memory_format_of`."""
        self.normalize.channels_last = memory_format == torch.channels_last
        self.to(memory_format=memory_format)  # type: ignore[call-overload]

    def module_of(self, player: str) -> nn.Module:
        """Return the module that a player names."""
        return self.parts[player] if player in self.parts else getattr(self, player)


def multiply_adds(layer: nn.Module, given: list[Any], output: Any) -> int:
    """Count the multiply-adds of one layer's matrices, without those of the layers inside it."""
    x = next((value for value in given if isinstance(value, Tensor)), None)
    y = output[0] if isinstance(output, (tuple, list)) else output
    if x is None or not isinstance(y, Tensor):
        return 0
    own = [p.numel() for p in layer.parameters(recurse=False) if p.ndim > 1]
    recurrent = isinstance(layer, (nn.RNNBase, nn.RNNCellBase))
    if isinstance(layer, nn.MultiheadAttention):
        keys = next((value for value in given[1:] if isinstance(value, Tensor)), x)
        every = sum(p.numel() for p in layer.parameters() if p.ndim > 1)  # its inner layer is not called
        return (every + 2 * keys.numel()) * (x.numel() // layer.embed_dim)
    if isinstance(layer, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return layer.weight.numel() * y.numel() // layer.weight.shape[0]
    if isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        return layer.weight.numel() * x.numel() // layer.weight.shape[0]
    if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)) or not own:
        return 0  # looked up
    # of layers that nobody knows: a product along the last axis, before or behind
    sides = [values for values in ((x,) if recurrent else (x, y)) if values.numel() and values.ndim]
    return sum(own) * max((values.numel() // values.shape[-1] for values in sides), default=1)


def forget_statistics(layer: _BatchNorm) -> None:
    """Have batch norm take its statistics anew: the plain mean over all batches to come."""
    layer.reset_running_stats()
    layer.momentum = None


def mlp(
    *widths: int, activation: type[nn.Module] = nn.ReLU, dropout: float = 0.0, batch_norm: bool = False
) -> nn.Sequential:
    """Linear layers with an activation between them, none behind the last: ``mlp(2, 64, 64, 3)``.

    Parameters
    ----------
    *widths : int
        Input, hidden and output widths.
    activation : nn.Module class
    dropout : float
        Probability to drop a hidden unit, 0 … 1.
    batch_norm : bool
        Between a hidden linear layer and its activation.
    """
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), *([nn.BatchNorm1d(b)] if batch_norm else []), activation()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers[: -1 - bool(dropout) - batch_norm])


def fresh_copy(module: nn.Module) -> nn.Module:
    """Return a copy of a module with weights drawn anew, as its layers draw them.

    Matrices of layers that cannot draw theirs, or draw something that they compute from others (a weight norm), get
    their own entries in another order.
    """
    twin = copy.deepcopy(module)
    for layer in twin.modules():
        if callable(reset := getattr(layer, "reset_parameters", None)):
            reset()
    with torch.no_grad():
        for mine, other in zip(twin.parameters(), module.parameters(), strict=True):
            if mine.dim() > 1 and not mine.is_meta and torch.equal(mine, other):
                mine.copy_(mine.flatten()[torch.randperm(mine.numel(), device=mine.device)].view_as(mine))
    return twin


def initialize(module: nn.Module, scheme: str) -> None:
    """Draw the weights of every linear and convolution layer anew, from the global generator.

    Parameters
    ----------
    module : nn.Module
    scheme : str
        "torch" leaves PyTorch's own; "truncated-normal": weights N(0, 0.1²) cut at two deviations, biases 0.1, as the
        classic DANN notebooks have it; "xavier" and "he": uniform and normal by fan, biases 0.
    """
    if scheme not in INITIALIZATIONS:
        raise ValueError(f"unknown initialization {scheme!r}; choose one of: {', '.join(INITIALIZATIONS)}")
    if scheme == "torch":
        return
    for layer in module.modules():
        if not isinstance(layer, (nn.Linear, nn.Conv2d)):
            continue
        if is_parametrized(layer):
            raise ValueError(f"initialization={scheme!r} draws no weight that is computed from others: give 'torch'")
        if scheme == "truncated-normal":
            nn.init.trunc_normal_(layer.weight, std=0.1, a=-0.2, b=0.2)
        elif scheme == "xavier":
            nn.init.xavier_uniform_(layer.weight)
        else:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.constant_(layer.bias, 0.1 if scheme == "truncated-normal" else 0.0)
