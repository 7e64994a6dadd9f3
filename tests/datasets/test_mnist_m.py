import numpy as np
import pytest

from dann.datasets import DatasetNotFound, load_mnist, load_mnist_m, mnist_m
from dann.datasets import photos as photos_module
from dann.datasets.mnist_m import PARTS, blend, build, divide_photos


def coordinates(height=60, width=90):
    """A photo that says where it was cut: red is the row, green the column."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2)


def plain(n):
    """Photos of one colour each: photo k is k everywhere."""
    return [np.full((28 + k, 30, 3), k, np.uint8) for k in range(n)]


BLANK = np.zeros((200, 28, 28), np.uint8)


def test_blending_is_the_absolute_difference():
    digits = np.array([0, 0, 255, 255, 100, 200], np.uint8)
    patches = np.array([0, 30, 30, 255, 130, 150], np.uint8)
    assert blend(digits, patches).tolist() == [0, 30, 225, 0, 30, 50]


def test_build_agrees_with_a_loop_over_pixels_that_finds_each_crop():
    random = np.random.default_rng(0)
    digits = random.integers(256, size=(20, 28, 28), dtype=np.uint8) * (random.random((20, 28, 28)) < 0.3)
    digits = digits.astype(np.uint8)
    photos = [random.integers(256, size=size, dtype=np.uint8) for size in ((30, 29, 3), (28, 33, 3))]
    for binarise in (True, False):
        images = build(digits, photos, 5, binarise=binarise)
        assert images.dtype == np.uint8
        for digit, image in zip(digits, images, strict=True):
            ink = (255 * (digit > 0) if binarise else digit).astype(int)[..., None]
            expected = [
                np.abs(ink - photo[top : top + 28, left : left + 28].astype(int)).transpose(2, 0, 1)
                for photo in photos
                for top in range(photo.shape[0] - 27)
                for left in range(photo.shape[1] - 27)
            ]
            assert any((image == crop).all() for crop in expected)


def test_without_ink_the_image_is_a_crop_and_crops_reach_every_edge():
    corners = build(np.zeros((20_000, 28, 28), np.uint8), [coordinates(32, 35)], 0)[:, :2, 0, 0]
    assert set(map(tuple, corners.tolist())) == {(top, left) for top in range(5) for left in range(8)}


def test_the_seed_decides_the_photo_of_each_digit():
    first, again, other = (build(BLANK, plain(10), seed)[:, 0, 0, 0] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).mean() > 0.8
    assert set(first.tolist()) == set(range(10))


def test_the_seed_decides_the_crop_of_each_digit():
    first, again, other = (build(BLANK, [coordinates()], seed)[:, :2, 0, 0] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first[:, 0] != other[:, 0]).mean() > 0.8  # rows
    assert (first[:, 1] != other[:, 1]).mean() > 0.8  # columns


def test_binarised_ink_is_full_ink_wherever_there_is_any():
    digits = BLANK[:2].copy()
    digits[0, 3, 4] = 1
    image = build(digits, [np.full((28, 28, 3), 30, np.uint8)])
    assert image[0, :, 3, 4].tolist() == [225, 225, 225]
    assert image[0, :, 4, 4].tolist() == [30, 30, 30]
    assert build(digits, [np.full((28, 28, 3), 30, np.uint8)], binarise=False)[0, 0, 3, 4] == 29


@pytest.mark.parametrize("n", [3, 10, 200])
def test_photos_of_the_parts_do_not_overlap_and_are_all_used(n):
    parts = divide_photos(n, 0, "photos")
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(n))
    assert min(len(part) for part in parts.values()) >= 1


def test_200_photos_are_divided_140_20_40_by_the_seed():
    parts = divide_photos(200, 0, "photos")
    assert [len(parts[part]) for part in PARTS] == [140, 20, 40]
    assert set(parts["test"]) != set(divide_photos(200, 1, "photos")["test"])


def test_backgrounds_of_the_parts_come_from_different_photos_unless_shared(small_mnist, photo_folder):
    def colours(**options):
        parts = load_mnist_m(photos=photo_folder, n_validation=40, **options)
        return {part: set(map(tuple, parts[part].x[:, :, 0, 0].tolist())) for part in PARTS}  # no ink in this corner

    apart, shared = colours(), colours(split="shared")
    assert not apart["train"] & apart["test"]
    assert not apart["train"] & apart["validation"]
    assert not apart["validation"] & apart["test"]
    assert len(shared["train"]) == 10
    assert shared["test"] <= shared["train"]


def test_the_validation_part_is_the_last_training_digits(small_mnist, photo_folder):
    train, test = load_mnist()
    parts = load_mnist_m(photos=photo_folder, n_validation=40)
    assert [len(parts[part].y) for part in PARTS] == [200, 40, 40]
    np.testing.assert_array_equal(parts["validation"].y, train.y[200:])
    np.testing.assert_array_equal(parts["test"].y, test.y)


def test_every_image_shows_the_digit_of_its_label(small_mnist, photo_folder):
    parts = load_mnist_m(photos=photo_folder, n_validation=40)
    train, _ = load_mnist()
    inked = (parts["train"].x != parts["train"].x[:, :, :1, :1]).any(axis=1)  # unlike the plain background
    np.testing.assert_array_equal(inked, train.x[:200] > 0)


def test_same_seed_and_inputs_give_the_same_bytes_with_and_without_the_cache(small_mnist, photo_folder, monkeypatch):
    def load(seed=0, **options):
        return {
            part: data.x for part, data in load_mnist_m(seed, photos=photo_folder, n_validation=40, **options).items()
        }

    first = load()
    with monkeypatch.context() as patch:
        patch.setattr(photos_module, "decode", None)  # a cache hit decodes no photo
        hit = load()
    (place,) = (small_mnist / "cache").iterdir()
    place.unlink()
    rebuilt = load()
    for part in PARTS:
        assert first[part].tobytes() == hit[part].tobytes() == rebuilt[part].tobytes()
    for other in (load(1), load(split="shared"), load(binarise=False)):
        assert first["train"].tobytes() != other["train"].tobytes()


def test_another_photo_is_another_key(small_mnist, photo_folder, save_photo):
    first = load_mnist_m(photos=photo_folder, n_validation=40)["train"].x
    save_photo(photo_folder / "0.png", np.full((40, 50, 3), 77, np.uint8))
    assert (first != load_mnist_m(photos=photo_folder, n_validation=40)["train"].x).any()


def test_missing_photos_say_that_any_folder_of_photos_will_do(small_mnist):
    with pytest.raises(DatasetNotFound, match=r"(?s)BSR_bsds500\.tgz is missing.*pass it as photos="):
        load_mnist_m(n_validation=40)


@pytest.mark.parametrize(
    ("photos", "words"),
    [
        ([], "photos is empty"),
        ([coordinates(), coordinates(27, 90)], "photo 1 has 27×90 pixels, smaller than the 28×28 digits"),
        ([coordinates()[..., 0]], r"photo 0 is uint8 \(60, 90\)"),
    ],
)
def test_photos_that_cannot_serve_are_named(photos, words):
    with pytest.raises(ValueError, match=words):
        build(BLANK, photos)


def test_wrong_options_are_named_with_their_values(small_mnist, photo_folder):
    with pytest.raises(ValueError, match="split='photo' is unknown"):
        load_mnist_m(photos=photo_folder, n_validation=40, split="photo")
    with pytest.raises(ValueError, match="n_validation=240 leaves no digits of 240"):
        load_mnist_m(photos=photo_folder, n_validation=240)
    with pytest.raises(ValueError, match="2 photos cannot be divided"):
        divide_photos(2, 0, "photos")


def test_the_real_task_pairs_grey_digits_with_coloured_ones(real_mnist, real):
    real("BSR_bsds500.tgz")
    task = mnist_m(n=3000, n_test=500)
    assert task.source.x.shape == task.target.x.shape == (3000, 3, 28, 28)
    assert task.source_test.x.shape == task.target_test.x.shape == (500, 3, 28, 28)
    assert (task.source.x == task.source.x[:, :1]).all()
    assert not (task.target.x == task.target.x[:, :1]).all(axis=(1, 2, 3)).any()
    assert np.bincount(task.target.y, minlength=10).min() > 200
    assert not (task.source.y == task.target.y).all()  # drawn apart
    mean = task.target.x.mean() / 255
    assert 0.4 < mean < 0.5
    with pytest.raises(ValueError, match="60000 rows asked for: this part has 1 to 55000"):
        mnist_m(n=60_000)
