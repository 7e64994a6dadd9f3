import math

import numpy as np
import pytest
import torch
from torch import nn

from dann import DomainAdapter, Network, mlp
from dann.domains import Batch
from dann.network import ENCODINGS, Normalize, View, initialize, multiply_adds


def batch(n_source=6, n_target=4, shift=10.0):
    """Two features; the target's are higher by ``shift``."""
    x = torch.randn(n_source + n_target, 2, generator=torch.Generator().manual_seed(0))
    x[n_source:] += shift
    domain = torch.tensor([0] * n_source + [1] * n_target)
    return Batch(x, domain * -1, domain, torch.arange(len(x)), n_source)


def network(encoder, encoding="joint"):
    return Network(nn.Identity(), encoder, nn.Linear(2, 3), dim=2, n_classes=3, n_domains=2, encoding=encoding)


# views


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_views_are_the_two_sides_of_the_batch_and_lose_no_row(encoding):
    rows = batch()
    source, target = network(mlp(2, 2), encoding).views(rows)
    for name in ("x", "y", "domain", "index"):
        both = torch.cat([getattr(source, name), getattr(target, name)])
        assert torch.equal(both, getattr(rows, name))
    assert (source.domain == 0).all()
    assert (target.domain == 1).all()


def test_encoding_is_of_no_effect_without_batch_norm():
    encoder, head = mlp(2, 5, 2), nn.Linear(2, 3)
    nets = [
        Network(nn.Identity(), encoder, head, dim=2, n_classes=3, n_domains=2, encoding=encoding)
        for encoding in ENCODINGS
    ]
    for joint, *others in zip(*(net.views(batch()) for net in nets), strict=True):
        for other in others:
            torch.testing.assert_close(joint.logits, other.logits)


def test_joint_encoding_normalises_by_the_statistics_of_both_domains():
    source, target = network(nn.BatchNorm1d(2), "joint").views(batch())
    both = torch.cat([source.features, target.features])
    torch.testing.assert_close(both.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    assert (target.features.mean(0) - source.features.mean(0) > 1.5).all()


@pytest.mark.parametrize("encoding", ["separate", "per-domain"])
def test_sides_that_are_encoded_apart_are_normalised_by_their_own_statistics(encoding):
    for side in network(nn.BatchNorm1d(2), encoding).views(batch()):
        torch.testing.assert_close(side.features.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
        torch.testing.assert_close(side.features.var(0, unbiased=False), torch.ones(2), atol=1e-3, rtol=0)


def test_batch_norm_of_a_joint_batch_is_updated_once_and_of_separate_sides_twice():
    for encoding, updates in (("joint", 1), ("separate", 2)):
        norm = nn.BatchNorm1d(2)
        network(norm, encoding).views(batch())
        assert norm.num_batches_tracked == updates


@pytest.mark.parametrize("encoding", ["separate", "per-domain"])
def test_each_of_several_sources_is_normalised_by_its_own_statistics(encoding):
    x = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    x[3:6] += 20
    domain = torch.arange(3).repeat_interleave(3)
    rows = Batch(x, domain, domain, torch.arange(9), 6, sizes=(3, 3, 3))
    source, _ = network(nn.BatchNorm1d(2), encoding).views(rows)
    for block in source.features.split(3):
        assert torch.allclose(block.mean(0), torch.zeros(2), atol=1e-5)
    together, _ = network(nn.BatchNorm1d(2), encoding).views(rows._replace(sizes=()))
    assert not torch.allclose(together.features[:3].mean(0), torch.zeros(2), atol=0.1)


def test_per_domain_encoding_keeps_the_statistics_of_the_target_alone():
    rows, norm = batch(), nn.BatchNorm1d(2)
    net = network(norm, "per-domain")
    for _ in range(200):
        net.views(rows)
        net.features_unseen(rows.x[:6] + 100)  # as VADA does
    torch.testing.assert_close(norm.running_mean, rows.x[6:].mean(0))
    torch.testing.assert_close(norm.running_var, rows.x[6:].var(0))
    assert norm.track_running_stats
    net.eval()
    torch.testing.assert_close(net(rows.x[6:])[0].mean(0), torch.zeros(2), atol=1e-5, rtol=0)


def test_an_unknown_encoding_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown encoding 'both'; choose one of: joint, separate, per-domain"):
        network(mlp(2, 2), "both")


def test_frozen_weights_belong_to_no_player():
    net = network(mlp(2, 4, 2))
    net.encoder[0].requires_grad_(False)
    net.parts["domain"] = nn.Linear(2, 1)
    assert net.players == ("encoder", "head", "domain")
    assert [p.shape for p in net.group("encoder")] == [(2, 4), (2,)]
    assert [p.shape for p in net.group("domain")] == [(1, 2), (1,)]


# normalisation


def fitted(domains, scaling):
    return Normalize.fit([np.asarray(d) for d in domains], scaling)


def test_standard_scaling_gives_mean_0_and_deviation_1():
    x = np.random.default_rng(0).normal(3, 7, (500, 2)).astype(np.float32)
    out = fitted([x], "standard")(torch.from_numpy(x))
    torch.testing.assert_close(out.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(0, unbiased=False), torch.ones(2), atol=1e-5, rtol=0)


def test_a_domain_counts_the_same_whatever_its_number_of_rows():
    small, large = np.float32([[0.0], [2.0]]), np.float32([[10.0], [14.0]] * 500)
    norm = fitted([small, large], "standard")
    assert norm.mean.item() == pytest.approx((1 + 12) / 2)
    # around the common mean 6.5: (5.5² + 1) of the small domain, (5.5² + 4) of the large
    assert norm.scale.item() == pytest.approx(math.sqrt(5.5**2 + (1 + 4) / 2))


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_a_constant_feature_is_centred_and_stays_finite(value):
    x = np.full((30, 1), value, np.float32)
    assert (fitted([x, x[:7]], "standard")(torch.from_numpy(x)) == 0).all()


@pytest.mark.parametrize("unit", [1e-12, 1e-3, 1e15])
def test_the_unit_of_a_feature_does_not_matter(unit):
    x = np.random.default_rng(0).normal(2, 1, (50, 1)).astype(np.float32)
    in_unit = (x.astype(np.float64) * unit).astype(np.float32)
    out = fitted([in_unit], "standard")(torch.from_numpy(in_unit))
    torch.testing.assert_close(out, fitted([x], "standard")(torch.from_numpy(x)), atol=1e-4, rtol=1e-4)


def test_mean_scaling_divides_bytes_by_255_and_subtracts_each_channels_mean():
    x = np.zeros((4, 3, 2, 2), np.uint8)
    x[:2, 1], x[:, 2] = 255, 51
    out = fitted([x], "mean")(torch.from_numpy(x))
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([0.0, 0.5, 0.0]))
    torch.testing.assert_close(out[3, :, 1, 1], torch.tensor([0.0, -0.5, 0.0]))


def test_mean_scaling_leaves_the_spread_of_a_table_alone():
    x = np.float32([[0, 10], [4, 30]])
    torch.testing.assert_close(fitted([x], "mean")(torch.from_numpy(x)), torch.tensor([[-2.0, -10.0], [2.0, 10.0]]))


def test_none_scaling_gives_bytes_as_fractions_and_tables_as_they_are():
    pixels, table = np.full((2, 1, 2, 2), 255, np.uint8), np.float32([[3, -4]])
    assert (fitted([pixels], "none")(torch.from_numpy(pixels)) == 1).all()
    assert fitted([table], "none")(torch.from_numpy(table)).tolist() == [[3, -4]]


def test_image_scaling_makes_brightness_and_contrast_of_an_image_irrelevant():
    x = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    norm = fitted([x], "image")
    out = norm(torch.from_numpy(x))
    torch.testing.assert_close(out.mean((1, 2, 3)), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std((1, 2, 3), unbiased=False), torch.ones(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(norm(torch.from_numpy(3 * x + 7)), out, atol=1e-3, rtol=0)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_image_scaling_is_the_same_in_any_unit(unit):
    x = np.random.default_rng(0).random((20, 3, 4, 4), dtype=np.float32)
    scaled = (fitted([y], "image")(torch.from_numpy(y)) for y in (x, x * np.float32(unit)))
    torch.testing.assert_close(*scaled, atol=1e-4, rtol=1e-4)


def test_image_scaling_keeps_the_colour_of_an_image():
    x = np.zeros((1, 3, 4, 4), np.uint8)
    x[:, 0] = 200
    red, green, blue = fitted([x], "image")(torch.from_numpy(x))[0, :, 0, 0]
    assert red > green == blue


def test_image_scaling_leaves_an_image_of_one_colour_at_0():
    x = np.full((1, 3, 4, 4), 128, np.uint8)
    torch.testing.assert_close(fitted([x], "image")(torch.from_numpy(x)), torch.zeros(1, 3, 4, 4), atol=1e-3, rtol=0)


def test_image_scaling_of_a_table_is_refused():
    with pytest.raises(ValueError, match="needs images; these rows are tables"):
        fitted([np.zeros((3, 2), np.float32)], "image")


def test_an_unknown_scaling_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown scaling 'max'; choose one of: standard, mean, image, none"):
        fitted([np.zeros((3, 2), np.float32)], "max")


# layers and their first weights


def test_mlp_has_an_activation_and_dropout_between_the_layers_and_none_behind_the_last():
    kinds = [type(layer).__name__ for layer in mlp(2, 4, 5, 3, dropout=0.5)]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert [type(layer).__name__ for layer in mlp(2, 3)] == ["Linear"]
    kinds = [type(layer).__name__ for layer in mlp(2, 4, 3, dropout=0.5, batch_norm=True)]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]
    assert [type(layer).__name__ for layer in mlp(2, 3, batch_norm=True)] == ["Linear"]


def test_the_notebooks_initialization_cuts_weights_at_two_deviations_and_sets_biases_to_a_tenth():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 40, 5), nn.Linear(100, 100))
    initialize(layers, "truncated-normal")
    for layer in layers:
        assert layer.weight.abs().max() <= 0.2
        # a normal distribution cut at two deviations keeps .8796 of its deviation
        assert layer.weight.std().item() == pytest.approx(0.08796, rel=0.05)
        assert (layer.bias == 0.1).all()


@pytest.mark.parametrize(("scheme", "deviation"), [("xavier", math.sqrt(2 / 500)), ("he", math.sqrt(2 / 400))])
def test_xavier_and_he_scale_weights_by_the_fan(scheme, deviation):
    torch.manual_seed(0)
    layer = nn.Linear(400, 100)
    initialize(layer, scheme)
    assert layer.weight.std().item() == pytest.approx(deviation, rel=0.05)
    assert (layer.bias == 0).all()


def test_an_unknown_initialization_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown initialization 'zeros'; choose one of: torch, truncated-normal"):
        initialize(nn.Linear(2, 2), "zeros")


# work


def test_work_is_counted_in_multiply_adds_of_one_row():
    encoder = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.MaxPool2d(2), nn.Flatten())
    normalize = Normalize(torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    net = Network(normalize, encoder, mlp(5 * 4 * 4, 7, 2), dim=80, n_classes=2, n_domains=2)
    before = {name: t.clone() for name, t in net.state_dict().items()}
    assert net.work((3, 8, 8)) == net.work((3, 8, 8)) == 8 * 8 * 5 * 3 * 9 + 80 * 7 + 7 * 2
    assert net.training
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(layer._forward_hooks for layer in net.modules())


class OfSteps(nn.Module):
    """A layer that reads a series (n, channels, length) as (n, length, channels)."""

    def __init__(self, layer, dim=None):
        super().__init__()
        self.layer, self.embed = layer, nn.Identity() if dim is None else nn.Linear(3, dim)

    def forward(self, x):
        x = self.embed(x.transpose(1, 2))
        found = self.layer(x, x, value=x) if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x)
        return (found[0] if isinstance(found, tuple) else found).flatten(1)


class OfCells(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(3, 5)

    def forward(self, x):
        state = None
        for step in x.unbind(2):
            state = self.cell(step, state)
        return state


class Product(nn.Module):
    """A matrix of the user's own."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(20, 6))

    def forward(self, x):
        return (x @ self.matrix).flatten(1)


@pytest.mark.parametrize(
    "encoder",
    [
        lambda: OfSteps(nn.GRU(3, 8, batch_first=True)),
        lambda: OfSteps(nn.LSTM(3, 8, num_layers=2, bidirectional=True, batch_first=True)),
        OfCells,
        lambda: OfSteps(nn.MultiheadAttention(8, 2, batch_first=True), 8),
        lambda: OfSteps(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 8),
        lambda: nn.Sequential(nn.ConvTranspose1d(3, 4, 5, stride=2), nn.Flatten()),
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 4, 5)), nn.Flatten()),
        Product,
    ],
)
def test_work_of_every_kind_of_layer_is_what_pytorch_counts(encoder):
    from torch.backends import mkldnn
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    made = encoder().eval()
    x = torch.zeros(1, 3, 20)
    mkldnn.set_flags(False)  # whose LSTM it does not count
    try:
        with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
            dim = made(x).shape[1]
    finally:
        mkldnn.set_flags(True)
    net = Network(nn.Identity(), made, nn.Identity(), dim=dim, n_classes=2, n_domains=2)
    net.normalize.mean = torch.zeros(1)
    assert net.work((3, 20)) == counted.get_total_flops() // 2 > 0


def test_tables_that_are_looked_up_and_scripts_are_no_work():
    net = Network(
        Normalize(torch.zeros(1), torch.ones(1)), nn.Identity(), nn.Linear(3, 2), dim=3, n_classes=2, n_domains=2
    )
    net.encoder = torch.jit.script(nn.Linear(3, 3))
    assert net.work((3,)) == 6
    assert multiply_adds(nn.Embedding(1000, 8), [torch.zeros(1, 4, dtype=torch.long)], torch.zeros(1, 4, 8)) == 0


def test_logits_asked_for_without_gradients_have_them_for_who_asks_next():
    net = Network(nn.Identity(), nn.Identity(), nn.Linear(2, 3), dim=2, n_classes=3, n_domains=2)
    view = View(
        torch.ones(1, 2),
        *[torch.zeros(1, dtype=torch.long)] * 3,
        torch.ones(1, 2),
        net.head,
        labelled=True,
    )
    with torch.no_grad():
        assert not view.logits.requires_grad
    assert view.logits.requires_grad
    assert view.logits is view.logits


def test_batch_norm_in_the_label_head_is_refused():
    head = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="the label head has batch norm"):
        Network(Normalize(torch.zeros(3), torch.ones(3)), nn.Linear(3, 4), head, dim=4, n_classes=2, n_domains=2)


class FrozenNorm(nn.BatchNorm1d):
    """As in transfer learning: its statistics stay what they are."""

    def train(self, mode=True):
        return super().train(False)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, FrozenNorm])
def test_only_statistics_that_train_are_stated_anew(norm):
    encoder = nn.Sequential(nn.Linear(3, 4), norm(4))
    normalize = Normalize(torch.zeros(3), torch.ones(3))
    net = Network(normalize, encoder, nn.Linear(4, 2), dim=4, n_classes=2, n_domains=2).eval()
    x = torch.randn(200, 3) + 5
    other = net.restated(x)
    assert (other is net) == (norm is FrozenNorm)
    if other is not net:
        torch.testing.assert_close(other.encoder[1].running_mean, encoder[0](x).mean(0), atol=1e-3, rtol=1e-3)
        assert net.encoder[1].running_mean.abs().max() == 0
        assert not other.training


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:The .grad attribute")
def test_batch_norm_inside_torchscript_is_refused_where_its_statistics_would_mix(arrays):
    network = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)))
    DomainAdapter("dann", network, steps=2, device="cpu").fit(arrays.x, arrays.y, arrays.xt)
    for refused in (
        DomainAdapter("dann", network, steps=2, encoding="per-domain", device="cpu"),
        DomainAdapter("vada", network, steps=2, device="cpu"),
    ):
        with pytest.raises(ValueError, match="batch norm inside TorchScript, whose statistics cannot be kept apart"):
            refused.fit(arrays.x, arrays.y, arrays.xt)
