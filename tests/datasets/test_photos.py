import io
import tarfile

import numpy as np
import pytest

from dann.datasets import photos as photos_module
from dann.datasets import read_photos


def png(photo) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(photo).save(file, "PNG")
    return file.getvalue()


def pack(path, members, mode="w:gz"):
    """Write an archive of (name, content) members; content None is a symbolic link to /etc."""
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            if content is None:
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
            else:
                entry.size = len(content)
            archive.addfile(entry, None if content is None else io.BytesIO(content))
    return path


def grey(level, size=(30, 31)):
    return np.full((*size, 3), level, np.uint8)


def test_an_archive_a_plain_archive_and_a_folder_of_the_same_photos_are_read_alike(tmp_path, save_photo):
    random = np.random.default_rng(0)
    photos = {f"{k}.png": random.integers(256, size=(30, 40 + k, 3), dtype=np.uint8) for k in range(4)}
    for name, photo in photos.items():
        save_photo(tmp_path / "folder" / name, photo)
    members = [(name, png(photo)) for name, photo in reversed(photos.items())]
    for path in (tmp_path / "folder", pack(tmp_path / "a.tgz", members), pack(tmp_path / "a.tar", members, "w")):
        read = read_photos(path)
        assert [name for name, _ in read] == sorted(photos)
        for name, photo in read:
            np.testing.assert_array_equal(photo, photos[name])


def test_only_the_training_photos_of_a_bsds500_archive_are_read(tmp_path):
    base = "BSR/BSDS500/data/images"
    path = pack(
        tmp_path / "BSR_bsds500.tgz",
        [
            (f"{base}/test/1.png", png(grey(1))),
            (f"{base}/train/3.png", png(grey(3))),
            (f"{base}/train/Thumbs.db", b"no image"),
            (f"{base}/train/._2.png", b"no image"),
            (f"{base}/train/2.png", png(grey(2))),
        ],
    )
    assert [(name[-11:], int(photo[0, 0, 0])) for name, photo in read_photos(path)] == [
        ("train/2.png", 2),
        ("train/3.png", 3),
    ]


def test_a_hostile_archive_writes_nothing_anywhere(tmp_path):
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    members = [
        ("../../evil.png", png(grey(1))),
        (str(tmp_path / "absolute.png"), png(grey(2))),
        ("link", None),
        ("link/evil.png", png(grey(3))),
    ]
    path = pack(inner / "a.tgz", members)
    assert len(read_photos(path)) == 3
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    path = pack(tmp_path / "a.tgz", [("zeros.bin", bytes(10**6)), ("1.png", png(grey(1)))])
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(photos_module, "MAX_BYTES", 10**5)
    with pytest.raises(ValueError, match="unpacks to more than 100000 bytes"):
        read_photos(path)


def test_a_folder_of_too_much_is_refused(tmp_path, monkeypatch, save_photo):
    save_photo(tmp_path / "photos" / "1.png", np.random.default_rng(0).integers(256, size=(40, 40, 3), dtype=np.uint8))
    monkeypatch.setattr(photos_module, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        read_photos(tmp_path / "photos")


@pytest.mark.parametrize("limit", [1600, 1000, 500])  # at, below, and below half of the photo's pixels
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch, limit, save_photo):
    from PIL import Image

    save_photo(tmp_path / "photos" / "1.png", grey(1, (40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    if limit == 1600:
        assert len(read_photos(tmp_path / "photos")) == 1
    else:
        with pytest.raises(ValueError, match=r"1\.png in .* is too large an image"):
            read_photos(tmp_path / "photos")


def test_too_many_pixels_in_all_are_refused(tmp_path, monkeypatch, save_photo):
    for k in range(3):
        save_photo(tmp_path / "photos" / f"{k}.png", grey(k, (10, 10)))
    monkeypatch.setattr(photos_module, "MAX_PIXELS", 250)
    with pytest.raises(ValueError, match="more than 250 pixels"):
        read_photos(tmp_path / "photos")


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_an_archive_that_is_cut_off_is_an_error(tmp_path, keep):
    random = np.random.default_rng(0)
    photos = [(f"{k}.png", png(random.integers(256, size=(30, 30, 3), dtype=np.uint8))) for k in range(9)]
    path = pack(tmp_path / "a.tgz", photos)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"a\.tgz is not a complete"):
        read_photos(path)


def test_a_photo_that_cannot_be_decoded_is_named(tmp_path):
    path = pack(tmp_path / "a.tgz", [("1.png", png(grey(1))), ("2.png", png(grey(2))[:60])])
    with pytest.raises(ValueError, match=r"2\.png in .* is not a readable image"):
        read_photos(path)


def test_grey_and_transparent_photos_become_three_channels(tmp_path, save_photo):
    save_photo(tmp_path / "photos" / "grey.png", np.full((30, 30), 7, np.uint8))
    save_photo(tmp_path / "photos" / "rgba.png", np.full((30, 30, 4), 9, np.uint8))
    assert [photo[0, 0].tolist() for _, photo in read_photos(tmp_path / "photos")] == [[7, 7, 7], [9, 9, 9]]


def test_a_place_without_photos_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no photos at"):
        read_photos(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no photo")
    with pytest.raises(ValueError, match="holds no photos"):
        read_photos(tmp_path / "empty")


def test_the_real_archive_has_200_training_photos(real):
    photos = read_photos(real("BSR_bsds500.tgz") / "BSR_bsds500.tgz")
    assert len(photos) == 200
    assert {photo.shape for _, photo in photos} == {(321, 481, 3), (481, 321, 3)}


def test_files_with_holes_are_refused(tmp_path):
    header = tarfile.TarInfo("a.png")
    header.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(10**13)}
    header.pax_headers |= {"GNU.sparse.map": f"0,0,{10**13},0", "GNU.sparse.name": "a.png"}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(header)
    with pytest.raises(ValueError, match=r"holds a\.png with holes"):
        read_photos(tmp_path / "a.tar")
