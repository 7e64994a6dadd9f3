"""Random variations of whole batches, drawn for every row: what a stream does to its batches."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator
from torch import Generator, Tensor


class Augmentation(BaseEstimator):
    """A random variation of rows that keeps their class. Subclasses are dataclasses of how much varies.

    Amounts are relative to the rows themselves, so that scaled rows vary as much; nothing is clipped.
    """

    ndim: ClassVar[int]  # dimensions of one input row: 1 = table, 3 = image
    by_row: ClassVar[bool] = False  # no row's variation depends on other rows; if it may, domains are varied one by one

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError where this cannot vary rows of ``shape``, or an amount makes no sense."""
        if len(shape) != self.ndim:
            fits = "tables (rows, features)" if self.ndim == 1 else "images (rows, channels, height, width)"
            raise ValueError(f"the augmentation {type(self).__name__} varies {fits}; these rows have shape {shape}")
        for name, value in self.get_params().items():
            if isinstance(value, (int, float)) and not value >= 0:
                raise ValueError(f"{type(self).__name__}({name}={value!r}) must be 0 or more")

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return a variation of rows x (n, *input) of any type, as float32; the draws are the generator's."""
        raise TypeError(f"{type(self).__name__} varies nothing: define __call__")


@dataclass
class ImageAugmentation(Augmentation):
    """Shifts, affine maps, colours, inversion, blur, noise and cutout of images.

    Everything is drawn for each image. Choose amounts that keep the class: digits stand a rotation by 15°, not by 180°,
    and no mirroring. "Range" is the difference of the image's own largest and smallest value.

    Parameters
    ----------
    shift : int
        Pixels in both directions; the border is repeated.
    rotation : float
        Degrees in both directions.
    scale : float
        Size, by a factor up to 1 + scale either way; drawn for both axes alone, so that squares become rectangles.
    shear : float
        Horizontal shift for each step down, in both directions.
    mirror : float
        Probability of left and right changing sides, 0 … 1.
    contrast : float
        Of the deviation from the image's mean, by a factor up to 1 + contrast either way.
    color : float
        The same for single channels, and as much of the range added to or taken from them.
    inversion : float
        Probability, 0 … 1, that a channel changes large and small values.
    blur : float
        Share, 0 … 1, that the mean of the 3×3 neighbourhood takes at most in a pixel.
    noise : float
        Largest standard deviation of noise, as part of the range.
    cutout : float
        Largest side of a square that gets the image's mean, as part of the image's height.

    References
    ----------
    Cubuk et al., RandAugment, 2020 (https://arxiv.org/abs/1909.13719) choose a few of such variations for each image,
    where all come at once here; cutout is of DeVries & Taylor, 2017 (https://arxiv.org/abs/1708.04552).
    """

    ndim: ClassVar[int] = 3
    by_row: ClassVar[bool] = True
    shift: int = 2
    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    mirror: float = 0.0
    contrast: float = 0.0
    color: float = 0.0
    inversion: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    cutout: float = 0.0

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse tables, amounts below zero, and probabilities above one."""
        super().check(shape)
        for name in ("mirror", "inversion", "blur"):
            if getattr(self, name) > 1:
                raise ValueError(f"{type(self).__name__}({name}={getattr(self, name)!r}) must lie in [0, 1]")
        if not isinstance(self.shift, int) or not self.shift < min(shape[1:]):
            raise ValueError(f"shift={self.shift!r} must be whole pixels, fewer than images of shape {shape} have")

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return variations of images (n, channels, height, width)."""
        draw = _Draws(len(x), x.device, generator)
        x = x.float()
        if self.shift or self.rotation or self.scale or self.shear or self.mirror:
            x = self._warp(x, draw)
        if self.blur:
            x = torch.lerp(x, _neighbourhood(x), draw.up_to(self.blur))
        if self.contrast or self.color or self.inversion:
            x = self._recolor(x, draw)
        if self.noise:
            noise = torch.randn(x.shape, device=x.device, generator=generator)
            low, high = _limits(x)
            x = torch.addcmul(x, noise, draw.up_to(self.noise) * (high - low))
        return self._cut(x, draw) if self.cutout else x

    def _warp(self, x: Tensor, draw: "_Draws") -> Tensor:
        """Shift, turn, scale, shear and mirror at once."""
        height, width = x.shape[2:]
        angle = draw.around(self.rotation, 1) * (torch.pi / 180)
        shear = draw.around(self.shear, 1)
        across, down = draw.factor(self.scale, 1), draw.factor(self.scale, 1)
        if self.mirror:
            across = torch.where(draw.chance(self.mirror, 1), -across, across)
        cos, sin = angle.cos(), angle.sin()
        right, below = (draw.whole(self.shift) * (2 / size) for size in (width, height))
        upper = torch.cat([cos * across, (shear * cos - sin) * down * (height / width), right], 1)
        lower = torch.cat([sin * across * (width / height), (shear * sin + cos) * down, below], 1)
        grid = F.affine_grid(torch.stack([upper, lower], 1), list(x.shape), align_corners=False)
        interpolation = "bilinear" if self.rotation or self.scale or self.shear else "nearest"
        return F.grid_sample(x, grid, interpolation, padding_mode="border", align_corners=False)

    def _recolor(self, x: Tensor, draw: "_Draws") -> Tensor:
        """Change contrast and colours, and invert channels, by one factor and one offset a channel."""
        channels = x.shape[1]
        mean, low, high = x.mean((1, 2, 3), keepdim=True), *_limits(x)
        factor = draw.factor(self.contrast) * draw.factor(self.color, channels, 1, 1)
        inverted = draw.chance(self.inversion, channels, 1, 1)
        centre = torch.where(inverted, low + high - mean, mean) + draw.around(self.color, channels, 1, 1) * (high - low)
        factor = torch.where(inverted, -factor, factor)
        return torch.addcmul(centre - factor * mean, factor, x)

    def _cut(self, x: Tensor, draw: "_Draws") -> Tensor:
        """Give a square of each image its mean."""
        height, width = x.shape[2:]
        half = draw.up_to(self.cutout) * (height / 2)
        row, column = draw.up_to(height), draw.up_to(width)
        rows = torch.arange(height, device=x.device)[:, None] + 0.5
        columns = torch.arange(width, device=x.device) + 0.5
        inside = ((rows - row).abs() < half) & ((columns - column).abs() < half)
        return torch.where(inside, x.mean((1, 2, 3), keepdim=True), x)


@dataclass
class TableAugmentation(Augmentation):
    """Noise on the features of tables, and features that are left out.

    Means and deviations are those of a domain's rows in the batch, feature by feature.

    Parameters
    ----------
    noise : float
        Standard deviation of the noise in deviations of the feature.
    masking : float
        Probability, 0 … 1, that a value becomes the mean of its feature.
    """

    ndim: ClassVar[int] = 1
    noise: float = 0.1
    masking: float = 0.0

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse images, amounts below zero, and probabilities above one."""
        super().check(shape)
        if self.masking > 1:
            raise ValueError(f"TableAugmentation(masking={self.masking!r}) must lie in [0, 1]")

    def __call__(self, x: Tensor, generator: Generator) -> Tensor:
        """Return variations of rows (n, features)."""
        draw = _Draws(len(x), x.device, generator)
        x = x.float()
        mean = x.mean(0)
        deviation = (x - mean).square().mean(0).sqrt()
        varied = torch.addcmul(x, torch.randn(x.shape, device=x.device, generator=generator), self.noise * deviation)
        return torch.where(draw.chance(self.masking, x.shape[1]), mean, varied) if self.masking else varied


def _limits(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest value of each image, (n, 1, 1, 1)."""
    return x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)


def _neighbourhood(x: Tensor) -> Tensor:
    """Return the mean of every pixel's 3×3 neighbourhood; a fifth of the time that pooling takes."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    x = x[..., :-2] + x[..., 1:-1] + x[..., 2:]
    return (x[..., :-2, :] + x[..., 1:-1, :] + x[..., 2:, :]) / 9


@dataclass
class _Draws:
    """Random numbers for n rows, of shape (n, *shape); (n, 1, 1, 1) unless told otherwise."""

    n: int
    device: torch.device
    generator: Generator

    def up_to(self, most: float, *shape: int) -> Tensor:
        """Uniform in [0, most]."""
        return torch.rand((self.n, *(shape or (1, 1, 1))), device=self.device, generator=self.generator) * most

    def around(self, most: float, *shape: int) -> Tensor:
        """Uniform in [-most, most]."""
        return self.up_to(2 * most, *shape) - most

    def factor(self, most: float, *shape: int) -> Tensor:
        """Between 1 / (1 + most) and 1 + most, as often above one as below."""
        return (1 + most) ** self.around(1.0, *shape)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """True with a probability."""
        return self.up_to(1.0, *shape) < probability

    def whole(self, most: int) -> Tensor:
        """Whole numbers in [-most, most], (n, 1)."""
        return torch.randint(-most, most + 1, (self.n, 1), device=self.device, generator=self.generator)


AUGMENTATIONS: dict[str, type[Augmentation]] = {"image": ImageAugmentation, "table": TableAugmentation}
PRESETS: dict[str, dict[int, Augmentation]] = {  # by the dimensions of a row
    "weak": {3: ImageAugmentation(), 1: TableAugmentation()},
    "strong": {
        3: ImageAugmentation(
            shift=2,
            rotation=15.0,
            scale=0.2,
            shear=0.2,
            contrast=0.5,
            color=0.3,
            inversion=0.5,
            blur=1.0,
            noise=0.1,
            cutout=0.4,
        ),
        1: TableAugmentation(noise=0.3, masking=0.2),
    },
}


def augmentation_of(value: str | Augmentation, shape: tuple[int, ...]) -> Augmentation | None:
    """Return an augmentation for rows of a shape by its name, "none", "weak" or "strong"; an object as it is.

    Raises
    ------
    ValueError
        No such name, or the augmentation does not fit the rows.
    """
    if isinstance(value, str):
        if value == "none":
            return None
        if value not in PRESETS:
            raise ValueError(f"unknown augmentation {value!r}; choose one of: none, {', '.join(PRESETS)}, or an object")
        value = PRESETS[value][len(shape)]
    if not isinstance(value, Augmentation):
        raise ValueError(f"{value!r} is no augmentation: give a name or an object such as ImageAugmentation()")
    value.check(shape)
    return value
