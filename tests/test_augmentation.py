from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from scipy import ndimage

from dann import Augmentation, DomainAdapter, ImageAugmentation, TableAugmentation
from dann.augmentation import PRESETS, _Draws, augmentation_of

AMOUNTS = {"shift": 3, "cutout": 0.6, "rotation": 20.0} | dict.fromkeys(
    ("scale", "shear", "mirror", "contrast", "color", "inversion", "blur", "noise"), 0.5
)
ALONE = [ImageAugmentation(**{"shift": 0, name: amount}) for name, amount in AMOUNTS.items()]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pictures():
    """Eight smooth images (3, 12, 16), no two the same."""
    rng = np.random.default_rng(0)
    x = ndimage.gaussian_filter(rng.normal(size=(8, 3, 12, 16)), (0, 0, 1.5, 1.5))
    return torch.tensor(100 * x, dtype=torch.float32)


def test_all_amounts_are_tried_here():
    assert set(AMOUNTS) == {field.name for field in fields(ImageAugmentation)}


@pytest.mark.parametrize("augmentation", [*ALONE, *PRESETS["weak"].values(), *PRESETS["strong"].values()], ids=repr)
def test_every_variation_is_seeded_drawn_for_each_row_and_does_something(augmentation, pictures):
    x = pictures if augmentation.ndim == 3 else pictures[:, 0, 0]
    first, again, other = (augmentation(x, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert first.shape == x.shape
    assert first.dtype == torch.float32
    assert not torch.equal(first, other)
    moved = (first - x).flatten(1).abs().amax(1) > 1e-3
    assert moved.sum() >= 2  # mirror and inversion leave some as they are
    twins = augmentation(x[:1].repeat(8, *[1] * (x.dim() - 1)), generator())
    if augmentation.ndim == 3:  # rows of a constant table have no deviation
        assert len(torch.unique(twins.flatten(1), dim=0)) > 1


@pytest.mark.parametrize("augmentation", [*ALONE, PRESETS["strong"][3]], ids=repr)
def test_scaled_images_vary_as_much(augmentation, pictures):
    scaled = augmentation(0.01 * pictures + 5, generator())
    torch.testing.assert_close(scaled, 0.01 * augmentation(pictures, generator()) + 5, rtol=0, atol=1e-4)


def test_bytes_become_floats_of_the_same_values():
    x = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(ImageAugmentation(shift=0)(x, generator()), x.float())


def test_a_shift_is_by_whole_pixels_both_ways_with_a_repeated_border(pictures):
    shifted = ImageAugmentation(shift=2)(pictures.repeat(40, 1, 1, 1), generator())
    seen = set()
    for i, image in enumerate(shifted.numpy()):
        padded = np.pad(pictures[i % 8].numpy(), ((0, 0), (2, 2), (2, 2)), mode="edge")
        found = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if np.array_equal(image, padded[:, down : down + 12, right : right + 16])
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 25  # every shift from -2 to 2 both ways


def test_maps_agree_with_coordinates_worked_out_in_pixels(pictures):
    augmentation = ImageAugmentation(shift=1, rotation=30.0, scale=0.3, shear=0.2)
    draw = _Draws(8, pictures.device, generator())
    angle, shear = np.deg2rad(draw.around(30.0, 1).numpy()[:, 0]), draw.around(0.2, 1).numpy()[:, 0]
    across, down = (draw.factor(0.3, 1).numpy()[:, 0] for _ in range(2))
    right, below = (draw.whole(1).numpy()[:, 0] for _ in range(2))
    height, width = 12, 16
    rows, columns = np.meshgrid(np.arange(height) - 5.5, np.arange(width) - 7.5, indexing="ij")
    found = augmentation(pictures, generator()).numpy()
    for i in range(8):
        turn = np.array([[np.cos(angle[i]), -np.sin(angle[i])], [np.sin(angle[i]), np.cos(angle[i])]])
        matrix = turn @ np.array([[1, shear[i]], [0, 1]]) @ np.diag([across[i], down[i]])
        x, y = (matrix @ np.stack([columns.ravel(), rows.ravel()])).reshape(2, height, width)
        where = np.stack([y + 5.5 + below[i], x + 7.5 + right[i]])
        where = np.clip(where, 0, [[[height - 1]], [[width - 1]]])
        expected = [ndimage.map_coordinates(channel, where, order=1) for channel in pictures[i].numpy()]
        np.testing.assert_allclose(found[i], expected, atol=1e-3)


def test_mirroring_changes_left_and_right(pictures):
    torch.testing.assert_close(ImageAugmentation(shift=0, mirror=1.0)(pictures, generator()), pictures.flip(3))


def test_inversion_changes_large_and_small_values_of_single_channels(pictures):
    found = ImageAugmentation(shift=0, inversion=0.5)(pictures, generator())
    low, high = pictures.amin((1, 2, 3), keepdim=True), pictures.amax((1, 2, 3), keepdim=True)
    inverted = torch.isclose(found, low + high - pictures, atol=1e-3).all(3).all(2)
    kept = torch.isclose(found, pictures, atol=1e-3).all(3).all(2)
    assert (inverted ^ kept).all()
    assert inverted.any()
    assert kept.any()


def test_colours_change_by_a_factor_and_an_offset_within_the_limits(pictures):
    x = pictures.repeat(30, 1, 1, 1)
    found = ImageAugmentation(shift=0, contrast=0.5, color=0.2)(x, generator())
    mean, spread = x.mean((1, 2, 3), keepdim=True), x.amax((1, 2, 3)) - x.amin((1, 2, 3))
    factor = found.std((2, 3)) / x.std((2, 3))
    assert 1 / 1.8 <= factor.min() < 0.62
    assert 1.6 < factor.max() <= 1.8
    offset = (found - mean - factor[:, :, None, None] * (x - mean)).mean((2, 3)) / spread[:, None]
    assert offset.abs().max() <= 0.2 + 1e-4
    assert offset.min() < -0.18
    assert offset.max() > 0.18


def test_blur_lies_between_the_image_and_the_mean_of_neighbours(pictures):
    found = ImageAugmentation(shift=0, blur=1.0)(pictures, generator())
    for before, after in zip(pictures.numpy(), found.numpy(), strict=True):
        smooth = np.stack([ndimage.uniform_filter(channel, 3, mode="nearest") for channel in before])
        share = ((after - before) * (smooth - before)).sum() / np.square(smooth - before).sum()
        np.testing.assert_allclose(after, before + share * (smooth - before), atol=1e-3)
        assert 0 <= share <= 1


def test_noise_has_at_most_the_deviation_asked_for():
    x = torch.linspace(0, 50, 3 * 40 * 40).reshape(1, 3, 40, 40).repeat(40, 1, 1, 1)
    deviation = (ImageAugmentation(shift=0, noise=0.1)(x, generator()) - x).std((1, 2, 3)) / 50
    assert deviation.max() < 0.105
    assert deviation.max() > 0.09
    assert deviation.min() < 0.01


def test_cutout_puts_the_mean_into_one_square_of_limited_size(pictures):
    x = pictures.repeat(40, 1, 1, 1)
    found = ImageAugmentation(shift=0, cutout=0.5)(x, generator())
    changed = (found != x).any(1)
    for image, before, after in zip(changed.numpy(), x, found, strict=True):
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert len(rows) <= 6
        assert len(columns) <= 6
        assert image.sum() == len(rows) * len(columns)
        torch.testing.assert_close(after[:, image], before.mean().expand(3, image.sum()))
    assert changed.any(2).sum(1).max() == 6


def test_tables_get_noise_by_feature_and_means_for_masked_values():
    x = torch.randn(4000, 3, generator=generator(5)) * torch.tensor([1.0, 10.0, 0.0]) + 7
    noisy = TableAugmentation(noise=0.2)(x, generator())
    torch.testing.assert_close((noisy - x).std(0), torch.tensor([0.2, 2.0, 0.0]), rtol=0.06, atol=1e-5)
    masked = TableAugmentation(noise=0.0, masking=0.3)(x, generator())
    hidden = torch.isclose(masked, x.mean(0)) & (masked != x)
    assert hidden[:, :2].float().mean(0).tolist() == pytest.approx([0.3, 0.3], abs=0.03)
    assert hidden[:, :2].all(1).float().mean().item() == pytest.approx(0.09, abs=0.02)  # each value by itself
    assert torch.equal(masked[~hidden], x[~hidden])


@pytest.mark.parametrize(
    ("augmentation", "shape", "message"),
    [
        (ImageAugmentation(), (5,), "the augmentation ImageAugmentation varies images.*shape \\(5,\\)"),
        (TableAugmentation(), (3, 8, 8), "the augmentation TableAugmentation varies tables"),
        (ImageAugmentation(noise=-1.0), (3, 8, 8), r"ImageAugmentation\(noise=-1.0\) must be 0 or more"),
        (ImageAugmentation(color=float("nan")), (3, 8, 8), r"color=nan"),
        (ImageAugmentation(inversion=1.5), (3, 8, 8), r"inversion=1.5\) must lie in \[0, 1\]"),
        (ImageAugmentation(shift=8), (3, 8, 8), "shift=8 must be whole pixels, fewer than images"),
        (ImageAugmentation(shift=2.0), (3, 8, 8), "shift=2.0 must be whole pixels"),
        (None, (5,), "None is no augmentation"),
        (TableAugmentation(masking=2.0), (5,), r"masking=2.0\) must lie in \[0, 1\]"),
        ("strongest", (5,), "unknown augmentation 'strongest'; choose one of: none, weak, strong, or an object"),
    ],
)
def test_misuse_is_refused(augmentation, shape, message):
    with pytest.raises(ValueError, match=message):
        augmentation_of(augmentation, shape)


@dataclass
class Negative(Augmentation):
    """A user's own."""

    ndim = 1

    def __call__(self, x, generator):
        return -x


def test_the_estimator_trains_on_variations_and_predicts_without(arrays):
    settings = {"steps": 3, "batch_size": 8}
    plain, varied, own = (
        DomainAdapter(augmentation=kind, **settings).fit(arrays.x, arrays.y, arrays.xt)
        for kind in ("none", "weak", Negative())
    )
    assert not np.array_equal(plain.transform(arrays.xt), varied.transform(arrays.xt))
    assert np.array_equal(varied.transform(arrays.xt), varied.transform(arrays.xt))
    mirrored = DomainAdapter(scaling="none", **settings).fit(-arrays.x, arrays.y, -arrays.xt)
    own = DomainAdapter(augmentation=Negative(), scaling="none", **settings).fit(arrays.x, arrays.y, arrays.xt)
    assert np.array_equal(own.transform(-arrays.xt), mirrored.transform(-arrays.xt))


def test_an_interrupted_training_on_variations_goes_on_to_the_same_weights(arrays, tmp_path, monkeypatch):
    adapter = DomainAdapter("fixmatch", steps=6, batch_size=8, augmentation="weak", averaging=0.9)

    def stop(step):
        if step.number == 3:
            raise KeyboardInterrupt

    whole = adapter.fit(arrays.x, arrays.y, arrays.xt).predict_proba(arrays.xt)
    monkeypatch.setattr("dann.estimator.CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        adapter.fit(arrays.x, arrays.y, arrays.xt, run=tmp_path / "run", on_step=stop)
    resumed = adapter.fit(arrays.x, arrays.y, arrays.xt, run=tmp_path / "run")
    assert resumed.history_[-1]["step"] == 5
    assert np.array_equal(resumed.predict_proba(arrays.xt), whole)


def test_models_keep_their_augmentation(arrays, tmp_path):
    made = TableAugmentation(noise=0.4)
    adapter = DomainAdapter(augmentation=made, steps=2).fit(arrays.x, arrays.y, arrays.xt)
    assert DomainAdapter.load(adapter.save(tmp_path / "m.safetensors")).augmentation == made
    own = DomainAdapter(augmentation=Negative(), steps=2).fit(arrays.x, arrays.y, arrays.xt)
    path = own.save(tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"trained with augmentation=… of your own, .* load.path, augmentation=..."):
        DomainAdapter.load(path)
    assert DomainAdapter.load(path, augmentation=Negative()).augmentation == Negative()


def test_a_run_of_another_augmentation_of_ones_own_is_not_taken_for_this_one(arrays, tmp_path):
    @dataclass
    class Mine(TableAugmentation):
        extra: float = 0.0

    for noise in (0.1, 5.0):
        adapter = DomainAdapter(augmentation=Mine(noise=noise), steps=2, batch_size=8)
        if noise == 5.0:
            with pytest.raises(ValueError, match="holds a training with other data or settings"):
                adapter.fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
        else:
            adapter.fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)


def test_a_negative_random_state_varies_too(arrays):
    adapter = DomainAdapter(augmentation="weak", steps=2, batch_size=8, random_state=-1)
    assert np.isfinite(adapter.fit(arrays.x, arrays.y, arrays.xt).predict_proba(arrays.xt)).all()


def test_two_views_need_a_strong_augmentation(arrays):
    with pytest.raises(ValueError, match="FixMatch compares rows with strong variations: give strong_augmentation"):
        DomainAdapter("fixmatch", strong_augmentation="none").fit(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(ValueError, match="varies images"):
        DomainAdapter(augmentation=ImageAugmentation()).fit(arrays.x, arrays.y, arrays.xt)


@pytest.mark.parametrize(
    ("given", "message"), [("strongest", "unknown augmentation 'strongest'"), (ImageAugmentation(), "varies images")]
)
def test_a_second_view_that_does_not_fit_is_refused_by_methods_of_one_view_too(given, message, arrays):
    with pytest.raises(ValueError, match=message):
        DomainAdapter("dann", steps=1, strong_augmentation=given).fit(arrays.x, arrays.y, arrays.xt)
