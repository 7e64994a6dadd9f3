import hashlib
from pathlib import Path

import pooch
import pytest

from dann.datasets import DatasetNotFound, data_home
from dann.datasets.fetch import fetch

CONTENT = b"the right bytes"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def serve(monkeypatch, pages):
    """Let pooch find these pages; a page that is not there is a failed connection."""

    def call(self, url, output_file, pooch, check_only=False):
        if url not in pages:
            raise ConnectionError(f"{url} does not answer")
        Path(output_file).write_bytes(pages[url])

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", call)


def test_the_data_folder_is_the_environment_variable_or_the_users_cache(monkeypatch, home, tmp_path):
    assert data_home() == home
    monkeypatch.setenv("DANN_DATA", "~/sets")
    assert data_home() == Path.home() / "sets"
    monkeypatch.delenv("DANN_DATA")
    assert data_home() == tmp_path / "user-cache"


def test_a_missing_file_is_named_with_the_places_the_address_and_the_remedy(home):
    with pytest.raises(DatasetNotFound) as caught:
        fetch("set/part.gz", ["https://example.org/part.gz"], SHA256, others=["part"], hint="Any other will do.")
    message = str(caught.value)
    for words in (
        "set/part.gz is missing",
        str(home / "set" / "part.gz"),
        str(home / "part"),
        "https://example.org/part.gz (ConnectionError: no network in tests)",
        "Any other will do.",
        f"Put the file at {home / 'set' / 'part.gz'}, or set DANN_DATA",
    ):
        assert words in message
    assert isinstance(caught.value, FileNotFoundError)


def test_a_file_without_an_address_is_not_downloaded(home):
    with pytest.raises(DatasetNotFound, match="cannot be downloaded automatically"):
        fetch("part")


@pytest.mark.parametrize("place", ["set/part.gz", "part"])
def test_a_file_of_the_users_is_taken_as_it_is(home, place):
    (home / place).parent.mkdir(parents=True)
    (home / place).write_bytes(b"packed again by the user")
    assert fetch("set/part.gz", ["https://example.org/part.gz"], SHA256, others=["part"]) == home / place


def test_the_second_mirror_serves_when_the_first_does_not(home, monkeypatch):
    serve(monkeypatch, {"https://b.org/part": CONTENT})
    place = fetch("set/part", ["https://a.org/part", "https://b.org/part"], SHA256)
    assert place == home / "set" / "part"
    assert place.read_bytes() == CONTENT


def test_a_download_with_the_wrong_checksum_is_refused_and_leaves_nothing(home, monkeypatch):
    serve(monkeypatch, {"https://a.org/part": b"other bytes"})
    with pytest.raises(ValueError, match="wrong checksum") as caught:
        fetch("set/part", ["https://a.org/part"], SHA256)
    assert SHA256 in str(caught.value)
    assert "https://a.org/part" in str(caught.value)
    assert not any(path.is_file() for path in home.rglob("*"))


def test_where_the_data_folder_cannot_be_written_a_download_goes_to_the_users_cache(tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.write_text("in the folder's place")
    monkeypatch.setenv("DANN_DATA", str(blocked / "data"))
    serve(monkeypatch, {"https://a.org/part": CONTENT})
    place = fetch("set/part", ["https://a.org/part"], SHA256)
    assert place == tmp_path / "user-cache" / "set" / "part"
    assert fetch("set/part") == place
