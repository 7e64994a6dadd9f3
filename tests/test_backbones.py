import pytest
import torch
from sklearn.base import clone
from torch import nn

from dann import BACKBONES, MLP, GTSRBNet, MNISTNet, SmallNet, SVHNNet
from dann.backbones import Custom, feature_width


def shapes(module):
    """Shapes of the weights of a module's layers, in order."""
    return [tuple(p.shape) for name, p in module.named_parameters() if name.endswith("weight")]


# the papers' networks: where the definition is short, the fact is the size that the paper prints


@pytest.mark.parametrize(("same_padding", "width"), [(True, 7 * 7 * 48), (False, 4 * 4 * 48)])
def test_mnist_network_has_the_papers_feature_width(same_padding, width):
    backbone = MNISTNet(same_padding=same_padding)
    encoder = backbone.encoder((3, 28, 28))
    assert feature_width(encoder, (3, 28, 28)) == width
    assert shapes(encoder) == [(32, 3, 5, 5), (48, 32, 5, 5)]
    assert shapes(backbone.head(width, 10)) == [(100, width), (100, 100), (10, 100)]
    assert backbone.domain_hidden == (100,)


def test_svhn_network_has_the_papers_layers():
    backbone = SVHNNet()
    encoder = backbone.encoder((3, 32, 32))
    width = feature_width(encoder, (3, 32, 32))
    assert shapes(encoder) == [(64, 3, 5, 5), (64, 64, 5, 5), (128, 64, 5, 5)]
    assert width == 7 * 7 * 128
    with torch.device("meta"):
        head = backbone.head(width, 10)
    assert shapes(head) == [(3072, width), (2048, 3072), (10, 2048)]
    assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.5, 0.5]
    assert backbone.domain_hidden == (1024, 1024)


def test_traffic_sign_network_has_the_papers_layers():
    backbone = GTSRBNet()
    encoder = backbone.encoder((3, 40, 40))
    width = feature_width(encoder, (3, 40, 40))
    assert shapes(encoder) == [(96, 3, 5, 5), (144, 96, 3, 3), (256, 144, 5, 5)]
    assert width == 5 * 5 * 256
    assert shapes(backbone.head(width, 43)) == [(512, width), (43, 512)]
    assert backbone.domain_hidden == (1024, 1024)


@pytest.mark.parametrize("backbone", [MNISTNet(), SVHNNet(), GTSRBNet(), SmallNet()])
def test_rectifying_behind_the_pool_is_the_papers_network(backbone):
    torch.manual_seed(0)
    encoder = backbone.encoder((1, 20, 20))
    x = torch.randn(2, 1, 20, 20)
    expected = x
    for layer in encoder:
        if isinstance(layer, nn.MaxPool2d):
            expected = layer(expected.relu())
        elif not isinstance(layer, nn.ReLU):
            expected = layer(expected)
    if isinstance(backbone, SVHNNet):
        expected = expected.relu()  # its last convolution has no pool
    assert torch.equal(encoder(x), expected)


@pytest.mark.parametrize("kind", [MNISTNet, SVHNNet, GTSRBNet, SmallNet])
def test_the_smallest_image_a_network_admits_is_one_that_it_can_encode(kind):
    backbone = kind()
    shape = (1, backbone.smallest, backbone.smallest)
    backbone.check(shape)
    assert feature_width(backbone.encoder(shape), shape) > 0
    with pytest.raises(ValueError, match=rf"at least {backbone.smallest} pixels a side; got \(1, {shape[1] - 1}"):
        backbone.check((1, shape[1] - 1, 100))


def test_the_small_network_has_the_channels_it_is_given():
    encoder = SmallNet(channels=(5, 7)).encoder((3, 12, 12))
    assert shapes(encoder) == [(5, 3, 3, 3), (7, 5, 3, 3)]
    assert feature_width(encoder, (3, 12, 12)) == 3 * 3 * 7


def test_an_mlp_ends_in_its_activation_so_features_are_hidden_units():
    features = MLP(hidden=(5, 7), activation="sigmoid").encoder((3,))(torch.randn(4, 3))
    assert features.shape == (4, 7)
    assert ((features > 0) & (features < 1)).all()


# what is refused


@pytest.mark.parametrize(("name", "shape", "fits"), [("mlp", (3, 28, 28), "tables"), ("mnist", (20,), "images")])
def test_rows_that_do_not_fit_the_backbone_are_refused_with_what_fits(name, shape, fits):
    with pytest.raises(ValueError, match=rf"takes {fits} .*these rows have shape"):
        BACKBONES[name]().check(shape)


def test_an_unknown_activation_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown activation 'gelu'; choose one of: relu, sigmoid, tanh"):
        MLP(activation="gelu").encoder((3,))


def test_an_mlp_without_layers_is_refused():
    with pytest.raises(ValueError, match="no layer to adapt"):
        MLP(hidden=()).encoder((3,))


def test_an_encoder_for_other_rows_is_refused_with_the_shape():
    with pytest.raises(ValueError, match=r"the encoder cannot take rows of shape \(3,\)"):
        feature_width(nn.Linear(4, 2), (3,))


def test_an_encoder_whose_features_are_not_flat_is_told_to_flatten():
    with pytest.raises(ValueError, match=r"into shape \(1, 4, 6, 6\).*nn.Flatten"):
        feature_width(nn.Conv2d(3, 4, 3), (3, 8, 8))


# modules of one's own


def test_measuring_the_feature_width_leaves_batch_norm_and_its_mode_alone():
    encoder = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout())
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert feature_width(encoder, (3,)) == 4
    assert encoder[1].training
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_module_of_ones_own_is_copied_not_trained():
    module = nn.Linear(3, 2)
    encoder = Custom(module).encoder((3,))
    encoder.weight.data.zero_()
    assert (module.weight != 0).any()


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_are_cloned_with_their_parameters_as_scikit_learn_does(name):
    backbone = BACKBONES[name](domain_hidden=(3,))
    assert clone(backbone) == backbone
    assert backbone.get_params()["domain_hidden"] == (3,)
    assert clone(backbone).set_params(domain_hidden=()) != backbone
