"""Encoders and label heads by name: small recipes with parameters that build modules for a given input shape."""

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator
from torch import nn

from .network import mlp

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


class Backbone(BaseEstimator):
    """A recipe for an encoder, the label head on it, and the widths of the domain head beside it.

    Subclasses are dataclasses of what the user may choose; `encoder` builds the module, and the class attributes say
    how the paper continues behind the features.
    """

    ndim: ClassVar[int] = 0  # dimensions of one input row: 1 = table, 3 = image, 0 = the dry run tells
    smallest: ClassVar[int] = 1  # pixels a side that the encoder needs
    head_hidden: tuple[int, ...] = ()
    domain_hidden: tuple[int, ...] = ()
    dropout: float = 0.0

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        """Build the module that turns rows of ``shape`` into flat features."""
        raise TypeError(f"{type(self).__name__} has no encoder")

    def head(self, dim: int, n_classes: int) -> nn.Module:
        """Build the label head on ``dim`` features."""
        return mlp(dim, *self.head_hidden, n_classes, dropout=self.dropout)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError where the encoder cannot take rows of ``shape``."""
        if self.ndim and len(shape) != self.ndim:
            fits = "tables (rows, features)" if self.ndim == 1 else "images (rows, channels, height, width)"
            raise ValueError(f"the backbone {type(self).__name__} takes {fits}; these rows have shape {shape}")
        if self.ndim == 3 and min(shape[1:]) < self.smallest:
            name = type(self).__name__
            raise ValueError(
                f"the backbone {name} needs images of at least {self.smallest} pixels a side; got {shape}; series need "
                "an encoder of your own"
            )


@dataclass
class MLP(Backbone):
    """Fully connected layers for tables and vectors.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the encoder; the last one is the width of the features.
    activation : {"relu", "sigmoid", "tanh"}
        Also behind the last layer. Smooth ones end the adversarial game better.
    head_hidden, domain_hidden : tuple of int
        Hidden widths of the label head and the domain head; () is a linear head. A narrow domain head does not learn
        its rows by heart.
    dropout : float
        Probability to drop a hidden unit of the label head, 0 … 1.
    batch_norm : bool
        In front of every activation of the encoder; see ``encoding`` of the estimator.
    """

    ndim: ClassVar[int] = 1
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    head_hidden: tuple[int, ...] = ()
    domain_hidden: tuple[int, ...] = (16,)
    dropout: float = 0.0
    batch_norm: bool = False

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        """Build linear layers, each followed by the activation."""
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {self.activation!r}; choose one of: {', '.join(ACTIVATIONS)}")
        if not self.hidden:
            raise ValueError("MLP(hidden=()) has no layer to adapt; give at least one width")
        activation = ACTIVATIONS[self.activation]
        layers = mlp(*shape, *self.hidden, activation=activation, batch_norm=self.batch_norm)
        last = [nn.BatchNorm1d(self.hidden[-1])] if self.batch_norm else []
        return nn.Sequential(*layers, *last, activation())


def block(inputs: int, outputs: int, kernel: int, padding: int, pool: int, stride: int) -> list[nn.Module]:
    """Convolution, max pooling, ReLU: pooling first is the same function, with fewer values to rectify."""
    return [nn.Conv2d(inputs, outputs, kernel, padding=padding), nn.MaxPool2d(pool, stride), nn.ReLU()]


@dataclass
class MNISTNet(Backbone):
    """The MNIST network of Ganin et al. (JMLR 2016, figure 4a): two 5×5 convolutions.

    Convolution 5×5·32, pool 2, convolution 5×5·48, pool 2 | label head 100-100 | domain head 100.

    Parameters
    ----------
    same_padding : bool
        Pad the convolutions to keep the size, as the classic notebooks do (7×7×48 features of a 28×28 image), or not,
        as LeNet and Caffe do (4×4×48). The paper does not say.
    channels : tuple of int
        Of the two convolutions; (32, 48) in the paper.
    head_hidden, domain_hidden : tuple of int
        Hidden widths of the heads.
    """

    ndim: ClassVar[int] = 3
    smallest: ClassVar[int] = 16
    same_padding: bool = True
    channels: tuple[int, int] = (32, 48)
    head_hidden: tuple[int, ...] = (100, 100)
    domain_hidden: tuple[int, ...] = (100,)

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        """Build the convolutions for images of ``shape``."""
        padding, (first, second) = 2 if self.same_padding else 0, self.channels
        convolutions = [*block(shape[0], first, 5, padding, 2, 2), *block(first, second, 5, padding, 2, 2)]
        return nn.Sequential(*convolutions, nn.Flatten())


@dataclass
class SVHNNet(Backbone):
    """The SVHN network of Ganin et al. (JMLR 2016, figure 4b): three 5×5 convolutions, wide heads with dropout.

    Convolution 5×5·64, pool 3/2, convolution 5×5·64, pool 3/2, convolution 5×5·128 | label head 3072-2048 | domain
    head 1024-1024. Padding keeps the size; the paper does not say.

    Parameters
    ----------
    head_hidden, domain_hidden : tuple of int
        Hidden widths of the heads.
    dropout : float
        Probability to drop a hidden unit of the label head, 0 … 1.
    """

    ndim: ClassVar[int] = 3
    smallest: ClassVar[int] = 8
    head_hidden: tuple[int, ...] = (3072, 2048)
    domain_hidden: tuple[int, ...] = (1024, 1024)
    dropout: float = 0.5

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        """Build the convolutions for images of ``shape``."""
        convolutions = [*block(shape[0], 64, 5, 2, 3, 2), *block(64, 64, 5, 2, 3, 2)]
        return nn.Sequential(*convolutions, nn.Conv2d(64, 128, 5, padding=2), nn.ReLU(), nn.Flatten())


@dataclass
class GTSRBNet(Backbone):
    """The traffic sign network of Ganin et al. (JMLR 2016, figure 4c): three convolutions.

    Convolution 5×5·96, pool 2, convolution 3×3·144, pool 2, convolution 5×5·256, pool 2 | label head 512 | domain head
    1024-1024. Padding keeps the size; the paper does not say.

    Parameters
    ----------
    head_hidden, domain_hidden : tuple of int
        Hidden widths of the heads.
    """

    ndim: ClassVar[int] = 3
    smallest: ClassVar[int] = 8
    head_hidden: tuple[int, ...] = (512,)
    domain_hidden: tuple[int, ...] = (1024, 1024)

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        """Build the convolutions for images of ``shape``."""
        return nn.Sequential(
            *block(shape[0], 96, 5, 2, 2, 2), *block(96, 144, 3, 1, 2, 2), *block(144, 256, 5, 2, 2, 2), nn.Flatten()
        )


@dataclass
class SmallNet(Backbone):
    """Two 3×3 convolutions, for small images and short runs: the MNIST network of the paper in small.

    Convolution 3×3·16, pool 2, convolution 3×3·32, pool 2 | label head 100-100 | domain head 100. Padding keeps the
    size.

    Parameters
    ----------
    channels : tuple of int
        Of the two convolutions.
    head_hidden, domain_hidden : tuple of int
        Hidden widths of the heads.
    """

    ndim: ClassVar[int] = 3
    smallest: ClassVar[int] = 4
    channels: tuple[int, int] = (16, 32)
    head_hidden: tuple[int, ...] = (100, 100)
    domain_hidden: tuple[int, ...] = (100,)

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        """Build the convolutions for images of ``shape``."""
        first, second = self.channels
        return nn.Sequential(*block(shape[0], first, 3, 1, 2, 2), *block(first, second, 3, 1, 2, 2), nn.Flatten())


@dataclass
class ConvNet(Backbone):
    """Blocks of 3×3 convolutions with batch norm, for images that are worth more than a paper's small network.

    Each block has its convolutions, each with batch norm and ReLU, and halves the size; features are the last block's,
    flat | linear label head | domain head 128. See ``encoding`` of the estimator for what batch norm sees.

    Parameters
    ----------
    channels : tuple of int
        Of the blocks, one or more.
    depth : int
        Convolutions in a block, ≥ 1.
    head_hidden, domain_hidden : tuple of int
        Hidden widths of the heads.
    """

    ndim: ClassVar[int] = 3
    channels: tuple[int, ...] = (32, 64, 128)
    depth: int = 1
    head_hidden: tuple[int, ...] = ()
    domain_hidden: tuple[int, ...] = (128,)

    @property
    def smallest(self) -> int:  # type: ignore[override]
        """Pixels a side that the encoder needs."""
        return 2 ** len(self.channels)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError where there is nothing to convolve with, or the images are too small."""
        if not self.channels or self.depth < 1:
            raise ValueError(f"channels={self.channels} and depth={self.depth} make no convolution; give 1 or more")
        super().check(shape)

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        """Build the convolutions for images of ``shape``."""
        layers: list[nn.Module] = []
        inputs = shape[0]
        for outputs in self.channels:
            for last in range(self.depth - 1, -1, -1):
                pool = [nn.MaxPool2d(2)] if not last else []
                convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
                layers += [convolution, *pool, nn.BatchNorm2d(outputs), nn.ReLU()]
                inputs = outputs
        return nn.Sequential(*layers, nn.Flatten())


@dataclass
class Custom(Backbone):
    """Your own encoder with a linear label head.

    Parameters
    ----------
    module : nn.Module
        (n, *input) → (n, dim). Each `fit` trains a copy of it, in single precision.
    domain_hidden : tuple of int
        Hidden widths of the domain head.
    """

    module: nn.Module | None = None
    domain_hidden: tuple[int, ...] = (64,)

    def encoder(self, shape: tuple[int, ...]) -> nn.Module:
        """Return a copy of the user's module."""
        if self.module is None:
            raise ValueError("this model was made with an encoder of your own: pass it as backbone=")
        return copy.deepcopy(self.module).float()


BACKBONES: dict[str, type[Backbone]] = {
    "mlp": MLP,
    "small": SmallNet,
    "mnist": MNISTNet,
    "svhn": SVHNNet,
    "gtsrb": GTSRBNet,
    "conv": ConvNet,
}


def memory_format_of(encoder: nn.Module, shape: tuple[int, ...]) -> torch.memory_format:
    """Return how weights and images are to lie in memory: channels last, the fastest, where the encoder takes that.

    One that flattens by ``view`` or convolves in three dimensions does not.
    """
    if len(shape) != 3:
        return torch.contiguous_format
    try:
        tried = copy.deepcopy(encoder).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        encoded(tried, shape, torch.channels_last)
    except RuntimeError:
        return torch.contiguous_format
    return torch.channels_last


def takes_series(encoder: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether an encoder takes (C, length), and not the image (1, C, length) that stands for it.

    Arrays (n, C, length) may be either, grey images or series such as those of sensors.
    """
    if len(shape) != 3 or shape[0] != 1:
        return False
    for tried in (shape, shape[1:]):
        try:
            encoded(encoder, tried, torch.contiguous_format)
            return tried != shape
        except Exception:  # of any kind: what a module of the user's says to rows that are not for it
            continue
    return False


def encoded(encoder: nn.Module, shape: tuple[int, ...], memory_format: torch.memory_format) -> Any:
    """Return what an encoder makes of one empty row, in evaluation mode: batch norm keeps its statistics."""
    training, parameter = encoder.training, next(encoder.parameters(), None)
    row = torch.zeros(1, *shape, device=None if parameter is None else parameter.device)
    encoder.eval()
    try:
        with torch.no_grad():
            return encoder(row.contiguous(memory_format=memory_format))
    finally:
        encoder.train(training)


def feature_width(encoder: nn.Module, shape: tuple[int, ...]) -> int:
    """Find the width of the features by encoding one empty row.

    Raises
    ------
    ValueError
        The encoder cannot take such rows, or gives no flat features.
    """
    try:
        features = encoded(encoder, shape, torch.contiguous_format)
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"the encoder cannot take rows of shape {shape}: {error}") from error
    if not isinstance(features, torch.Tensor):
        raise ValueError(f"the encoder returns a {type(features).__name__}; expected a tensor of features (n, dim)")
    if features.dim() != 2:
        raise ValueError(
            f"the encoder turns one row into shape {tuple(features.shape)}; expected (1, dim): end it with nn.Flatten()"
        )
    return features.shape[1]
