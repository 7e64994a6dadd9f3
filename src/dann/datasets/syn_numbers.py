"""Syn Numbers: house-number-like digits drawn from the fonts of this machine."""

import importlib.util
import io
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .fetch import DatasetNotFound
from .mnist import load_mnist
from .mnist_m import coloured, take
from .task import Labelled, Task

if TYPE_CHECKING:
    from PIL import ImageFont

SIZE = 32  # pixels, as in SVHN
FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "~/Library/Fonts",
    "C:/Windows/Fonts",
    "~/AppData/Local/Microsoft/Windows/Fonts",
)
SUFFIXES = {".ttf", ".otf", ".ttc"}
MAX_FONT_BYTES = 2**24  # leaves out the large East Asian collections
POINTS = 48  # size at which fonts are loaded; images are scaled from it
DIGITS = "0123456789"

HEIGHT = (12.0, 26.0)  # pixels of the labelled digit
SHIFT = 3.0  # pixels off the centre, at most, each way
ROTATION = 20.0  # degrees, at most, each way
STROKED = 0.3  # share of numbers with an outline
BLUR = 1.2  # pixels, standard deviation at most
CONTRAST = 60.0  # grey levels between digit and background, at least


def render_numbers(n: int, seed: int = 0, fonts: Sequence[str | Path] | None = None) -> Labelled:
    """Draw numbers of one to three digits on coloured backgrounds.

    As in SVHN the label is the digit at the centre; digits to its left or right distract. Font, number, height,
    position, rotation, colours of digits, outline and background, and blur vary; the background is plain, a gradient or
    two blocks. Row i depends on the seed, i and the fonts alone, not on ``n``.

    Parameters
    ----------
    n : int, at least 1
    seed : int, not negative
    fonts : sequence of str or Path, optional
        Font files. Those that do not hold readable digits are skipped. Default: `find_fonts`, which differs from
        machine to machine.

    Returns
    -------
    Labelled
        Images uint8 (n, 3, 32, 32), labels 0 … 9 with equal chances.

    Raises
    ------
    DatasetNotFound
        When no font can be used.
    ValueError
        When ``n`` is below 1.

    References
    ----------
    Ganin & Lempitsky, Unsupervised Domain Adaptation by Backpropagation, ICML 2015, Section 4, describe their 500,000
    images in these words, without the ranges: those are ours.
    """
    if n < 1:
        raise ValueError(f"n={n} is too small: draw at least 1 number")
    usable = load_fonts(find_fonts() if fonts is None else fonts)
    draws = (draw_number(np.random.default_rng([seed, row]), usable) for row in range(n))
    images, labels = zip(*draws, strict=True)
    return Labelled(np.stack(images), np.array(labels, np.int64))


def syn_numbers(
    n: int = 10_000, *, n_test: int = 2000, seed: int = 0, fonts: Sequence[str | Path] | None = None
) -> Task:
    """Syn Numbers to MNIST: printed numbers in colour to handwritten digits.

    The paper's target is SVHN, which this package does not fetch. MNIST's digits, scaled to the same size and in three
    channels, stand in for it, so no published number compares with a score on this task.

    Parameters
    ----------
    n, n_test : int
        Rows a domain: drawn numbers, and random MNIST digits (at most 60,000 and 10,000).
    seed : int, not negative
    fonts : sequence of str or Path, optional
        Font files; see `render_numbers`.

    Returns
    -------
    Task
        Images uint8 (n, 3, 32, 32), classes 0 … 9.

    Raises
    ------
    DatasetNotFound
        When MNIST is missing and cannot be downloaded, or no font can be used.
    ValueError
        When a count is out of range.
    """
    train, test = load_mnist()
    target, target_test = take(train, n, [seed, 0]), take(test, n_test, [seed, 1])
    drawn = render_numbers(n + n_test, seed, fonts)
    return Task(
        "syn-numbers",
        source=Labelled(drawn.x[:n], drawn.y[:n]),
        target=coloured(Labelled(enlarge(target.x, SIZE), target.y)),
        source_test=Labelled(drawn.x[n:], drawn.y[n:]),
        target_test=coloured(Labelled(enlarge(target_test.x, SIZE), target_test.y)),
        description="the target is MNIST at 32×32, in the place of SVHN",
    )


def enlarge(images: np.ndarray, size: int) -> np.ndarray:
    """Scale square grey images up by linear interpolation.

    Parameters
    ----------
    images : ndarray of uint8 (n, s, s)
    size : int, at least s

    Returns
    -------
    ndarray of uint8 (n, size, size)
    """
    old = images.shape[1]
    at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)  # pixel centres in the old image
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(old))).astype(np.float32)  # (size, s), rows sum to 1
    return np.rint(weights @ images.astype(np.float32) @ weights.T).astype(np.uint8)


def find_fonts() -> list[Path]:
    """Return the font files of this machine and those inside matplotlib, one of each name, sorted by name."""
    folders = [Path(folder).expanduser() for folder in FOLDERS]
    matplotlib = importlib.util.find_spec("matplotlib")
    if matplotlib and matplotlib.origin:
        folders.append(Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf")
    found: dict[str, Path] = {}
    for folder in folders:
        for root, _, names in os.walk(folder):
            for name in names:
                if Path(name).suffix.lower() in SUFFIXES:
                    found.setdefault(name, Path(root, name))
    return [found[name] for name in sorted(found)]


def load_fonts(paths: Sequence[str | Path]) -> "list[ImageFont.FreeTypeFont]":
    """Open font files, leaving out those without readable digits.

    Raises
    ------
    DatasetNotFound
        When none is left.
    """
    fonts = [font for path in paths if (font := open_font(Path(path))) is not None and reads_as_digits(font)]
    if not fonts:
        tried = ", ".join(map(str, paths[:3])) or "none"
        raise DatasetNotFound(
            f"none of {len(paths)} font files holds readable digits (tried {tried}): "
            f"install a TrueType font, or pass its file in fonts="
        )
    return fonts


def open_font(path: Path) -> "ImageFont.FreeTypeFont | None":
    """Return a font from its file, or None where there is no such thing."""
    from PIL import ImageFont

    try:
        if path.stat().st_size > MAX_FONT_BYTES:
            return None
        # the whole file, since a font opened by name would hold a file handle
        return ImageFont.truetype(io.BytesIO(path.read_bytes()), POINTS, layout_engine=ImageFont.Layout.BASIC)
    except OSError:
        return None


def reads_as_digits(font: "ImageFont.FreeTypeFont") -> bool:
    """Tell whether a font's digits look like digits: symbol fonts put other signs in their places.

    Every glyph, scaled to a common box, is compared with the ten of Pillow's own font; at least half must be nearest to
    their own digit. Of the fonts inside matplotlib, those with digits have 6 to 10 so, those without 0 to 2.
    """
    try:
        shapes = digit_shapes(font)
    except (OSError, ValueError):
        return False
    likeness = shapes @ reference_shapes().T  # (10, 10) correlations
    return int((likeness.argmax(axis=1) == np.arange(10)).sum()) >= 5


@cache
def reference_shapes() -> np.ndarray:
    """Return the shapes of the digits of Pillow's own font."""
    from PIL import ImageFont

    return digit_shapes(ImageFont.load_default(POINTS))  # type: ignore[arg-type]


def digit_shapes(font: "ImageFont.FreeTypeFont") -> np.ndarray:
    """Return the ten digits of a font, scaled to a box of 16×16 and standardised: (10, 256).

    Raises
    ------
    ValueError
        When a digit has no ink.
    """
    from PIL import Image, ImageDraw

    shapes = []
    for digit in DIGITS:
        left, top, right, bottom = (int(edge) for edge in font.getbbox(digit))
        if right <= left or bottom <= top:
            raise ValueError(f"{digit} has no ink")
        glyph = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(glyph).text((-left, -top), digit, font=font, fill=255)
        shapes.append(np.asarray(glyph.resize((16, 16), Image.Resampling.BOX), np.float32).ravel())
    flat = np.stack(shapes)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def draw_number(random: np.random.Generator, fonts: "list[ImageFont.FreeTypeFont]") -> tuple[np.ndarray, int]:
    """Draw one number; return the image, uint8 (3, 32, 32), and the digit at its centre."""
    from PIL import Image, ImageFilter

    font = fonts[random.integers(len(fonts))]
    label = int(random.integers(10))
    before, after = neighbours(random)
    stroke = int(random.integers(2, 5)) if random.random() < STROKED else 0
    angle = np.deg2rad(random.uniform(-ROTATION, ROTATION))
    height = random.uniform(*HEIGHT)
    centre = SIZE / 2 + random.uniform(-SHIFT, SHIFT, size=2)
    first, second, outline, ink = colours(random)

    image = background(random, first, second)
    for width, colour in [(stroke, outline), (0, ink)] if stroke else [(0, ink)]:
        cover = mask(font, before, DIGITS[label], after, width, angle, height, centre)
        image += cover[..., None] * (colour - image)
    picture = Image.fromarray(np.rint(image).astype(np.uint8))
    picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0, BLUR)))
    return np.asarray(picture).transpose(2, 0, 1), label


def neighbours(random: np.random.Generator) -> tuple[str, str]:
    """Return the digits before and after the labelled one: none, one on either side, or one on both."""
    before, after = (str(digit) for digit in random.integers(10, size=2))
    length = random.integers(1, 4)
    if length == 1:
        return "", ""
    if length == 3:
        return before, after
    return (before, "") if random.random() < 0.5 else ("", after)


def colours(random: np.random.Generator) -> np.ndarray:
    """Return four colours (4, 3): two of the background, one of the outline, and one of the digits, unlike the rest."""
    while True:
        drawn = random.uniform(0, 255, size=(4, 3))
        if np.abs(drawn[:3] - drawn[3]).mean(axis=1).min() >= CONTRAST:
            return drawn


def background(random: np.random.Generator, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return a plain, graded or two-block background, float (32, 32, 3)."""
    kind = random.integers(3)
    angle = random.uniform(0, 2 * np.pi)
    if kind == 0:
        return np.tile(first, (SIZE, SIZE, 1))
    down, along = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    distance = along * np.cos(angle) + down * np.sin(angle) - random.uniform(-SIZE / 4, SIZE / 4)
    softness = SIZE if kind == 1 else 1  # pixels from one colour to the other
    share = np.clip(0.5 + distance / softness, 0, 1)[..., None]
    return first + share * (second - first)


def mask(
    font: "ImageFont.FreeTypeFont",
    before: str,
    digit: str,
    after: str,
    stroke: int,
    angle: float,
    height: float,
    centre: np.ndarray,
) -> np.ndarray:
    """Return how much of each pixel a number covers: float (32, 32) from 0 to 1.

    Parameters
    ----------
    font : FreeTypeFont
    before, digit, after : str
        The digit's own box is centred and scaled.
    stroke : int
        Width of the outline around the digits, in pixels of the unscaled font.
    angle : float
        Radians, clockwise.
    height : float
        Of the digit, in pixels.
    centre : ndarray (2,)
        Of the digit, x and y in pixels.
    """
    from PIL import Image, ImageDraw

    left, top, right, bottom = font.getbbox(digit)
    start = font.getlength(before) if before else 0.0
    margin = POINTS
    canvas = Image.new("L", (4 * POINTS + 2 * margin, 2 * POINTS + 2 * margin))
    ImageDraw.Draw(canvas).text((margin, margin), before + digit + after, font=font, fill=255, stroke_width=stroke)
    middle_x, middle_y = margin + start + (left + right) / 2, margin + (top + bottom) / 2

    fine = 2  # drawn twice as large and averaged, against jagged edges
    step = (bottom - top) / (height * fine)  # canvas pixels per fine pixel
    cos, sin = step * np.cos(angle), step * np.sin(angle)
    x, y = centre * fine
    affine = (cos, sin, middle_x - cos * x - sin * y, -sin, cos, middle_y + sin * x - cos * y)
    turned = canvas.transform((SIZE * fine,) * 2, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    return np.asarray(turned.reduce(fine), np.float64) / 255
