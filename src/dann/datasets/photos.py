"""Colour photos, read from the BSDS500 archive in place or from any folder."""

import gzip
import io
import tarfile
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from .fetch import fetch, open_packed

BSDS500 = "BSR_bsds500.tgz"
URLS = (f"https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/{BSDS500}",)
SHA256 = "97e49d31764f3912f0c4122707d53062ac9e783ba0f095e447a4d53c1a41af8e"
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".tif", ".tiff", ".webp"}
FORMATS = ("JPEG", "PNG", "BMP", "PPM", "TIFF", "WEBP")
MAX_BYTES = 2**30  # unpacked archive, or files of a folder; BSDS500 unpacks to 74 MB
MAX_PIXELS = 2**29  # of all photos together, 1.6 GB in memory; BSDS500's 200 training photos have 31 million


def locate_photos() -> Path:
    """Return the place of the BSDS500 archive, downloading it (71 MB) where it is missing.

    Raises
    ------
    DatasetNotFound
        When it is missing and cannot be downloaded.
    """
    return fetch(
        BSDS500,
        URLS,
        SHA256,
        others=[f"bsds500/{BSDS500}"],
        hint="Any folder of colour photos does as well: pass it as photos=.",
    )


def read_photos(path: str | Path) -> list[tuple[str, np.ndarray]]:
    """Read the photos of an archive or a folder.

    Of an archive or folder laid out like BSDS500 only the ``images/train`` part is read. An archive is read in place:
    nothing is ever extracted to the disk.

    Parameters
    ----------
    path : str or Path
        A ``.tgz``, ``.tar.gz`` or ``.tar`` archive, or a folder (with its subfolders) of jpg, png, bmp, ppm, tif or
        webp files. Other files are skipped.

    Returns
    -------
    list of (name, photo)
        Sorted by name; photos are uint8 (H, W, 3).

    Raises
    ------
    FileNotFoundError
        When nothing is at the path.
    ValueError
        When there are no photos, a file is damaged, or the whole is larger than 1 GiB of files or 2**29 pixels.
    """
    return decode(path, read_files(path))


def read_files(path: str | Path) -> list[tuple[str, bytes]]:
    """Read the image files of an archive or a folder without decoding them, sorted by name."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no photos at {path}: give a folder of photos or the {BSDS500} archive")
    try:
        files = dict(walk_folder(path) if path.is_dir() else walk_archive(path))
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not a complete .tgz or .tar archive ({error}); get it again") from error
    train = {name: content for name, content in files.items() if "/images/train/" in f"/{name}"}
    if not files:
        raise ValueError(f"{path} holds no photos: expected files that end in {', '.join(sorted(SUFFIXES))}")
    return sorted((train or files).items())


def walk_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of every image file of a folder and its subfolders."""
    total = 0
    for place in sorted(folder.rglob("*")):
        name = place.relative_to(folder).as_posix()
        if is_photo(name) and place.is_file():
            total += place.stat().st_size
            if total > MAX_BYTES:
                raise ValueError(f"{folder} holds more than {MAX_BYTES} bytes of photos: give a smaller folder")
            yield name, place.read_bytes()


def walk_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of every image file of an archive, in one pass."""
    with open_packed(path) as file, tarfile.open(fileobj=Bounded(file, MAX_BYTES, path), mode="r|") as archive:
        for member in archive:
            if member.issparse():
                raise ValueError(f"{path} holds {member.name} with holes that unpack to any size: pack it anew")
            content = archive.extractfile(member) if member.isreg() and is_photo(member.name) else None
            if content is not None:
                yield member.name, content.read()


class Bounded(io.BufferedIOBase):
    """A readable stream that refuses to yield more than a number of bytes, however well they were packed."""

    def __init__(self, stream: io.BufferedReader | gzip.GzipFile, limit: int, path: Path):
        self.stream, self.limit, self.path, self.done = stream, limit, path, 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to ``size`` bytes."""
        content = self.stream.read(-1 if size is None else size)
        self.done += len(content)
        if self.done > self.limit:
            raise ValueError(f"{self.path} unpacks to more than {self.limit} bytes: give fewer photos")
        return content


def is_photo(name: str) -> bool:
    """Tell from its name whether a file is a photo; hidden files are not."""
    pure = PurePosixPath(name)
    return pure.suffix.lower() in SUFFIXES and not pure.name.startswith(".")


def decode(path: str | Path, files: list[tuple[str, bytes]]) -> list[tuple[str, np.ndarray]]:
    """Decode image files to uint8 (H, W, 3)."""
    from PIL import Image, UnidentifiedImageError

    photos, pixels = [], 0
    for name, content in files:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                    pixels += image.width * image.height
                    if pixels > MAX_PIXELS:
                        raise ValueError(f"{path} holds more than {MAX_PIXELS} pixels: give fewer or smaller photos")
                    photos.append((name, np.asarray(image.convert("RGB"))))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ValueError(f"{name} in {path} is too large an image: {error}") from error
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise ValueError(
                f"{name} in {path} is not a readable image ({error}): remove it or get it again"
            ) from error
    return photos
