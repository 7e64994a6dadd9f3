"""Find a dataset's files on this machine, or download them with a pinned checksum."""

import gzip
import io
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path


class DatasetNotFound(FileNotFoundError):
    """A dataset's file is neither on this machine nor to be had from its address."""


def data_home() -> Path:
    """Return the folder of the datasets: ``$DANN_DATA``, or else the user's cache folder.

    Returns
    -------
    Path
        It need not exist, and may be read-only.
    """
    named = os.environ.get("DANN_DATA")
    return Path(named).expanduser() if named else user_cache()


def user_cache() -> Path:
    """Return the folder where downloads and built datasets go when the data folder cannot be written."""
    import pooch

    return Path(pooch.os_cache("dann"))


def homes() -> list[Path]:
    """Return the folders to search, the preferred one first."""
    return list(dict.fromkeys([data_home(), user_cache()]))


def fetch(path: str, urls: Sequence[str] = (), sha256: str = "", *, others: Sequence[str] = (), hint: str = "") -> Path:
    """Return the place of a file, downloading it where it is missing.

    A file found on this machine is the user's and taken as it is; a downloaded one must have the pinned checksum, and
    is moved into place only then.

    Parameters
    ----------
    path : str
        Where the file belongs, relative to the data folder.
    urls : sequence of str
        Addresses to try, best first. None: the file has to be put there by hand.
    sha256 : str
        Of the file behind every address.
    others : sequence of str
        Other relative places where the file may lie, such as an unpacked form.
    hint : str
        What else to say when the file cannot be had.

    Returns
    -------
    Path

    Raises
    ------
    DatasetNotFound
        When the file is not there and cannot be downloaded.
    ValueError
        When a downloaded file has the wrong checksum; it is thrown away.
    """
    places = [home / relative for home in homes() for relative in (path, *others)]
    for place in places:
        if place.is_file():
            return place
    failures = [] if urls else ["It cannot be downloaded automatically."]
    folders = [home for home in homes() if can_write((home / path).parent)] if urls else []
    if urls and not folders:
        failures.append("It was not downloaded: no folder to put it in can be written.")
    for url in urls if folders else ():
        try:
            return download(url, sha256, folders[0] / path)
        except OSError as error:
            failures.append(f"Could not download {url} ({type(error).__name__}: {error}).")
    raise DatasetNotFound(
        "\n".join(
            [
                f"{path} is missing.",
                "Looked for " + ", ".join(map(str, places)) + ".",
                *failures,
                *([hint] if hint else []),
                f"Put the file at {places[0]}, or set DANN_DATA to the folder that holds {path}.",
            ]
        )
    )


def can_write(folder: Path) -> bool:
    """Tell whether files may be made in a folder, making the folder where it is missing.

    A folder marked read-only is left alone, even where the user, such as root in a container, could write to it.
    """
    try:
        present = next(place for place in (folder, *folder.parents) if place.exists())
        if not present.stat().st_mode & 0o222:
            return False
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def download(url: str, sha256: str, place: Path) -> Path:
    """Download one file, check it, and move it into place.

    Raises
    ------
    OSError
        When the address does not answer.
    ValueError
        When the downloaded file has another checksum.
    """
    import pooch

    downloader = pooch.HTTPDownloader(progressbar=Progress(place.name), chunk_size=1 << 16, timeout=30)
    try:
        return Path(pooch.retrieve(url, f"sha256:{sha256}", fname=place.name, path=place.parent, downloader=downloader))
    except ValueError as error:
        raise ValueError(
            f"The file downloaded from {url} has the wrong checksum and was thrown away: {error} "
            f"Try again, or get the file elsewhere and put it at {place}."
        ) from error


def open_packed(path: str | Path) -> io.BufferedReader | gzip.GzipFile:
    """Open a file for reading bytes, unpacking it on the way where it is gzip-compressed."""
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else open(path, "rb")


class Progress:
    """A line of text on a terminal's standard error, in the form that pooch asks for."""

    def __init__(self, name: str):
        self.name, self.total, self.done = name, 0, 0

    def update(self, n: int) -> None:
        """Count ``n`` more bytes."""
        self.done += n
        if sys.stderr.isatty():
            total = f" of {self.total / 1e6:.1f}" if self.total else ""
            print(f"\r{self.name}: {self.done / 1e6:.1f}{total} MB", end="", file=sys.stderr, flush=True)

    def reset(self) -> None:
        """Start counting again."""
        self.done = 0

    def close(self) -> None:
        """End the line."""
        if sys.stderr.isatty():
            print(file=sys.stderr)
