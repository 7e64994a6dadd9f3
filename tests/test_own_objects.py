"""Methods, networks and augmentations of the user's own: what a name does not tell, their code and settings do."""

import enum
import io
import random
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import dann.machine
from dann import DANN, MLP, DomainAdapter, DomainRegressor, Method, Sum
from dann.identity import described, identity
from dann.network import fresh_copy, initialize


@dataclass
class Gap(Method):
    """The distance of the means of features."""

    weight: float = 1.0

    def loss(self, net, source, target, progress):
        gap = (source.features.mean(0) - target.features.mean(0)).square().sum()
        return {"label": self.label_loss(source, target), "gap": self.weight * gap}


def edited():
    """Return a class of the same name whose loss is another."""

    @dataclass
    class Gap(Method):
        weight: float = 1.0

        def loss(self, net, source, target, progress):
            gap = (source.features.mean(0) - target.features.mean(0)).abs().sum()
            return {"label": self.label_loss(source, target), "gap": self.weight * gap}

    Gap.__qualname__ = "Gap"
    return Gap


class Plain(Method):
    """Made as scikit-learn's estimators are, and no dataclass."""

    def __init__(self, weight=1.0):
        self.weight = weight

    def loss(self, net, source, target, progress):
        return {"label": self.weight * self.label_loss(source, target)}


def adapter(method, **settings):
    return DomainAdapter(method, **{"backbone": MLP((8,)), "steps": 4, "batch_size": 8, "device": "cpu", **settings})


@pytest.mark.parametrize(("first", "second"), [(Gap(), edited()()), (Gap(), Gap(0.5)), (Plain(0.0), Plain(50.0))])
def test_a_run_of_another_code_or_setting_is_not_taken_for_this_one(first, second, arrays, tmp_path):
    adapter(first).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    again = []
    adapter(first).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path, on_step=again.append)
    assert not again
    with pytest.raises(ValueError, match="holds a training with other data or settings"):
        adapter(second).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)


def test_a_run_of_an_encoder_with_another_forward_is_not_taken_for_this_one(arrays, tmp_path):
    class Encoder(nn.Linear):
        def forward(self, x):
            return super().forward(x).relu()

    first = Encoder(3, 4)
    adapter("dann", backbone=first).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)

    class Encoder(nn.Linear):
        def forward(self, x):
            return super().forward(x).tanh()

    second = Encoder(3, 4)
    second.load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match="holds a training with other data or settings"):
        adapter("dann", backbone=second).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)


def test_an_identity_is_the_same_in_every_process():
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_own_objects as t; print(t.many())"
    folder = str(Path(__file__).parent)
    command = [sys.executable, "-c", code, folder]
    for seed in ("1", "2"):
        told = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed})
        assert told.stdout == f"{many()}\n"


def many():
    class Own:
        def change(self, name):
            """Take one of several."""
            return name in {"some", "words", "of", "many"} and (lambda: name)()

    return identity(Own(), Gap(0.3), Sum(DANN(), Gap()), nn.Linear(2, 2))


def test_constants_defaults_and_properties_of_a_class_tell_it_from_another():
    def own(size=1, half=0.5, triple=3):
        return type("Own", (), {"size": size, "part": lambda self, x=half: x, "times": property(lambda self: triple)})()

    first = identity(own())
    assert identity(own()) == first
    assert identity(own(size=2)) != first
    assert identity(own(half=0.25)) != first
    other = type("Own", (), {"size": 1, "part": lambda self, x=0.5: x, "times": property(lambda self: 3)})()
    assert identity(other) != first


def test_a_docstring_is_no_code_and_a_literal_is():
    def with_doc(x):
        """Double it."""
        return 2 * x

    def without(x):
        return 2 * x

    def other(x):
        return 3 * x

    first, second, third = (str(described(f)) for f in (with_doc, without, other))
    assert first == second != third


def given(value):
    """Return an object that holds something."""
    return type("Holder", (), {"__init__": lambda self: setattr(self, "held", value)})()


def closure(x):
    return lambda: x


class Callable:
    def __init__(self, factor):
        self.factor, self.calls = factor, 0

    def __call__(self, x):
        self.calls += 1
        return self.factor * x


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda v: v * 2, lambda v: -v),
        (lambda v, by=1: v * by, lambda v, by=2: v * by),
        (closure(1), closure(2)),
        (Callable(1), Callable(50)),
        (partial(np.add, 1), partial(np.add, 2)),
        (partial(np.add, 1), partial(np.subtract, 1)),
        (np.tanh, np.exp),
        (Path("a"), Path("b")),
        (np.datetime64("2020-01-01"), np.datetime64("2020-01-02")),
        (torch.zeros(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)),
        (torch.tanh, torch.exp),
        ({1, "a"}, {1, "b"}),
        ({"a": 1}, {"a": 2}),
        (np.arange(3), np.arange(3) + 1),
        (torch.zeros(2), torch.ones(2)),
        (np.array(["a", None], dtype=object), np.array(["b", None], dtype=object)),
        (torch.autocast("cpu")(lambda v: v * 2), torch.autocast("cpu")(lambda v: -v)),
    ],
)
def test_what_objects_hold_tells_them_apart(one, other):
    assert identity(given(one)) == identity(given(one))
    assert identity(given(one)) != identity(given(other))


def test_counters_and_circles_change_no_identity():
    counting = Callable(3)
    before = identity(counting)
    counting(1)
    assert identity(counting) == before
    counting.own = counting
    assert identity(counting) == identity(counting)


def test_settings_of_a_file_are_lists_or_tuples_as_the_given_objects_are(arrays, tmp_path):
    @dataclass
    class Listed(Gap):
        widths: list = field(default_factory=list)
        pairs: tuple = ()

    method = Listed(0.5, [3, 4], ((1, 2), (3, 4)))
    saved = adapter(method).fit(arrays.x, arrays.y, arrays.xt).save(tmp_path / "m.safetensors")
    assert DomainAdapter.load(saved, method=Listed()).method == method
    assert DomainAdapter.load(saved, method=Gap()).method == Gap(0.5)  # a class that has lost some settings


def test_a_method_may_pause_after_its_first_step(arrays):
    class Pausing(Method):
        def loss(self, net, source, target, progress):
            label = self.label_loss(source, target)
            return {"label": label if progress == 0 else label.detach()}

    assert adapter(Pausing(), compile=False).fit(arrays.x, arrays.y, arrays.xt).history_


def test_a_loaded_model_has_the_settings_that_it_was_trained_with(arrays, tmp_path):
    saved = adapter(Gap(0.3)).fit(arrays.x, arrays.y, arrays.xt).save(tmp_path / "m.safetensors")
    given = Gap()
    assert DomainAdapter.load(saved, method=given).method == Gap(0.3)
    assert given == Gap()
    saved = adapter(Sum(DANN(0.2), Gap(0.7))).fit(arrays.x, arrays.y, arrays.xt).save(tmp_path / "s.safetensors")
    assert DomainAdapter.load(saved, method=Sum(DANN(), Gap())).method == Sum(DANN(0.2), Gap(0.7))


@pytest.mark.parametrize("name", ["encoder", "head"])
def test_a_part_with_the_name_of_one_of_the_networks_is_refused(name, arrays):
    @dataclass
    class Mine(Method):
        def build(self, net):
            return {name: nn.Linear(net.dim, 1)}

    with pytest.raises(ValueError, match=f"Mine builds a part '{name}': the network has one; rename it"):
        adapter(Mine()).fit(arrays.x, arrays.y, arrays.xt)


@pytest.mark.parametrize(("parts", "kind"), [(nn.Linear(2, 1), "Linear"), (None, "NoneType")])
def test_parts_without_names_are_refused(parts, kind, arrays):
    @dataclass
    class Mine(Gap):
        def build(self, net):
            return parts

    with pytest.raises(TypeError, match=f"Mine builds a {kind}; expected its parts by name"):
        adapter(Mine()).fit(arrays.x, arrays.y, arrays.xt)


class Teaching(Method):
    """Holds a module of its own."""

    def __init__(self, teacher):
        self.teacher = teacher

    def loss(self, net, source, target, progress):
        wanted = self.teacher(target.x)
        return {"label": self.label_loss(source, target), "apart": (wanted - target.logits).square().mean()}


@pytest.mark.parametrize("method", [Teaching(nn.Linear(3, 2)), Sum(DANN(), Teaching(nn.Linear(3, 2)))])
def test_weights_that_nothing_would_train_are_refused(method, arrays):
    with pytest.raises(ValueError, match="Teaching holds weights in 'teacher' that nothing would train: return"):
        adapter(method).fit(arrays.x, arrays.y, arrays.xt)


def test_a_frozen_teacher_is_welcome(arrays):
    fitted = adapter(Teaching(nn.Linear(3, 2).requires_grad_(False))).fit(arrays.x, arrays.y, arrays.xt)
    assert fitted.history_[-1]["apart"] > 0


def test_a_learning_rate_of_a_part_that_is_not_there_is_refused(arrays):
    @dataclass
    class Mine(Gap):
        rate: float = 0.1

        def build(self, net):
            return {"critic": nn.Linear(net.dim, 1)}

        def learning_rates(self):
            return {"encoder": 0.1, "citric": self.rate}

    with pytest.raises(ValueError, match="learning_rates names 'citric'; the players are: encoder, head, critic"):
        adapter(Mine()).fit(arrays.x, arrays.y, arrays.xt)
    adapter(Mine(rate=1.0)).fit(arrays.x, arrays.y, arrays.xt)  # as a method may inherit it, without the part


class LeNet(nn.Module):
    """Flattens as textbooks do."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4 * 14 * 14, 5)

    def forward(self, x):
        x = self.conv(x).relu()
        return self.linear(x.view(len(x), -1))


class Deep(nn.Module):
    """Takes the colours for a third dimension."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3, padding=(0, 1, 1))

    def forward(self, x):
        return self.conv(x[:, None]).flatten(1)


@pytest.mark.parametrize(
    ("encoder", "fastest"), [(LeNet(), False), (Deep(), False), (nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()), True)]
)
def test_images_lie_in_memory_as_the_encoder_takes_them(encoder, fastest, images, tmp_path):
    fitted = adapter("dann", backbone=encoder).fit(images.x, images.y, images.xt)
    assert fitted.network_.normalize.channels_last == fastest
    loaded = DomainAdapter.load(fitted.save(tmp_path / "m.safetensors"), backbone=encoder, device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(images.xt), fitted.predict_proba(images.xt))


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Recurrent(nn.Module):
    """The last state of an LSTM over the channels."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(20, 4, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[1][0][-1]


def sensors(n=60):
    """Return series of three channels, of very different scales, and labels."""
    random = np.random.default_rng(0)
    return np.array([[1.0], [50.0], [1e5]]) * random.normal(1, 1, (n, 3, 20)), np.arange(n) % 2


@pytest.mark.parametrize("encoder", [nn.Sequential(nn.Conv1d(3, 4, 5), nn.Flatten()), Recurrent()])
def test_series_reach_an_encoder_that_takes_them_with_every_channel_scaled(encoder, tmp_path):
    x, y = sensors()
    fitted = adapter("dann", backbone=encoder).fit(x, y, 2 * x)
    seen = fitted.network_.normalize(torch.tensor(np.concatenate([x, 2 * x]), dtype=torch.float32)[:, None])
    assert seen.shape == (120, 3, 20)
    np.testing.assert_allclose(seen.mean((0, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(seen.square().mean((0, 2)), 1, rtol=1e-4)
    loaded = DomainAdapter.load(fitted.save(tmp_path / "m.safetensors"), backbone=encoder, device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(x), fitted.predict_proba(x))
    later = fitted.adapt_to(2 * x, "shot", steps=2)
    assert later.predict(x).shape == (60,)


class Pooled(nn.Module):
    """Averages over the pixels: a single grey image would pass for a row of its convolution."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x):
        return self.conv(x).relu().mean((2, 3))


class Attentive(nn.Module):
    """Says by itself what it takes, and makes tensors of PyTorch's default type."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(20, 2, batch_first=True)

    def forward(self, x):
        assert x.ndim == 3
        return self.attention(x, x, x + torch.zeros(20))[0].mean(1)


def test_encoders_may_refuse_what_they_do_not_take_in_any_way(double):
    x, y = sensors()
    assert not adapter("dann", backbone=Pooled()).fit(x, y, x).network_.normalize.series
    fitted = adapter("dann", backbone=Attentive()).fit(x, y, x)
    assert fitted.network_.normalize.series
    rows = torch.tensor(x, dtype=torch.float32)
    with torch.no_grad():
        torch.set_default_dtype(torch.float32)
        expected = fitted.network_(rows)[1]
        torch.testing.assert_close(fitted.network_(rows[:, None])[1], expected)
        torch.set_default_dtype(torch.float64)
    assert np.array_equal(fitted.predict(x), expected.argmax(1).numpy())


@pytest.mark.filterwarnings("ignore:no weight of the encoder")
def test_grey_images_stay_images_to_an_encoder_that_takes_these():
    x, y = sensors()
    fitted = adapter("dann", backbone=nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())).fit(x, y, x)
    assert not fitted.network_.normalize.series
    assert not adapter("dann", backbone=nn.Flatten()).fit(x, y, x).network_.normalize.series


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augmentation": "weak"}, "these rows are series"),
        ({"scaling": "image"}, "scaling='image' needs images; these rows are series"),
    ],
)
def test_series_are_no_images(settings, message):
    x, y = sensors()
    encoder = nn.Sequential(nn.Conv1d(3, 4, 5), nn.Flatten())
    with pytest.raises(ValueError, match=message):
        adapter("dann", backbone=encoder, **settings).fit(x, y, x)
    if "augmentation" in settings:
        with pytest.raises(ValueError, match=message):
            adapter("dann", backbone=encoder).fit(x, y, x).adapt_to(x, "shot", **settings)


def test_a_default_of_double_precision_changes_nothing(arrays, double, tmp_path):
    data = arrays.x, arrays.y, arrays.xt
    made = adapter("dann").fit(*data)
    assert torch.get_default_dtype() == torch.float64
    assert {p.dtype for p in made.network_.parameters()} == {torch.float32}
    loaded = DomainAdapter.load(made.save(tmp_path / "m.safetensors"), device="cpu")
    found = loaded.adapt_to(arrays.xt, "shot", steps=2).predict_proba(arrays.xt)
    torch.set_default_dtype(torch.float32)
    usual = adapter("dann").fit(*data)
    np.testing.assert_array_equal(usual.predict_proba(arrays.xt), made.predict_proba(arrays.xt))
    np.testing.assert_array_equal(usual.adapt_to(arrays.xt, "shot", steps=2).predict_proba(arrays.xt), found)


def test_an_encoder_in_double_precision_is_trained_in_single(arrays):
    encoder = nn.Sequential(nn.Linear(arrays.x.shape[1], 4), nn.ReLU()).double()
    made = adapter("dann", backbone=encoder).fit(arrays.x, arrays.y, arrays.xt)
    assert made.network_.encoder[0].weight.dtype == torch.float32
    assert encoder[0].weight.dtype == torch.float64


def test_networks_can_be_pickled_by_pytorch(arrays, images):
    for data, backbone in ((arrays, MLP((8,))), (images, "small")):
        made = adapter("dann", backbone=backbone).fit(data.x, data.y, data.xt)
        buffer = io.BytesIO()
        torch.save(made.network_, buffer)
        buffer.seek(0)
        again = torch.load(buffer, weights_only=False)
        rows = torch.from_numpy(data.xt)
        assert torch.equal(again(rows)[1], made.network_(rows)[1])


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (None, "backbone=None is neither a name, nor a Backbone, nor a module"),
        (nn.Linear, "neither a name, nor a Backbone, nor a module"),
        (nn.GRU(3, 4), "the encoder returns a tuple; expected a tensor of features"),
    ],
)
def test_what_is_no_encoder_is_refused(backbone, message, arrays):
    with pytest.raises(ValueError, match=message):
        adapter("dann", backbone=backbone).fit(arrays.x, arrays.y, arrays.xt)


def test_a_method_of_ones_own_is_told_how_to_take_continuous_labels(arrays):
    def fit(method):
        return DomainRegressor(method, MLP((8,)), steps=2, batch_size=8).fit(arrays.x, arrays.x[:, 0], arrays.xt)

    with pytest.raises(ValueError, match="give its class the attribute needs_classes = False"):
        fit(Gap())

    @dataclass
    class Both(Gap):
        needs_classes = False

    assert np.isfinite(fit(Both()).predict(arrays.xt)).all()


def mean_of(**loss):
    """Return a method with such a `loss` or `moves`."""
    return type("Mine", (Method,), {name: lambda self, *_, value=value: value(*_) for name, value in loss.items()})()


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        (
            mean_of(loss=lambda net, source, target, _: {"label": source.logits.mean().detach()}),
            ValueError,
            r"no term has a gradient, of \['label'\]",
        ),
        (mean_of(loss=lambda *_: {}), ValueError, r"no term has a gradient, of \[\]"),
        (
            mean_of(loss=lambda net, source, target, _: source.logits.mean()),
            TypeError,
            "Mine returns a Tensor; expected its terms by name",
        ),
        (
            mean_of(moves=lambda net, batch, _: iter([(("critic",), {"label": batch.x.sum()})])),
            ValueError,
            "a move is of 'critic'; the players are: encoder, head",
        ),
        (
            mean_of(moves=lambda net, batch, _: iter([("encoder", {"label": batch.x.sum()})])),
            TypeError,
            "a move is of 'encoder', one name: give a tuple of names",
        ),
    ],
)
def test_a_loss_that_trains_nothing_is_refused_at_the_first_step(method, error, message, arrays):
    with pytest.raises(error, match=message):
        adapter(method).fit(arrays.x, arrays.y, arrays.xt)


@dataclass
class Reading(Method):
    """Reads a value, and keeps a buffer that no file has, when it is built."""

    def build(self, net):
        part = nn.Linear(net.dim, 1)
        part.register_buffer("rate", torch.linspace(0, 1, net.n_classes), persistent=False)
        part.factor = float(torch.linspace(0, 1, net.n_classes).sum())
        return {"mine": part}

    def loss(self, net, source, target, progress):
        seen = net.parts["mine"](target.features)
        return {
            "label": self.label_loss(source, target),
            "mine": seen.square().mean() * net.parts["mine"].factor * net.parts["mine"].rate.mean(),
        }


def test_a_method_that_reads_values_when_it_is_built_can_be_loaded(arrays, tmp_path):
    fitted = adapter(Reading()).fit(arrays.x, arrays.y, arrays.xt)
    before = torch.get_rng_state()
    again = DomainAdapter.load(fitted.save(tmp_path / "m"), method=Reading())
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(again.predict_proba(arrays.xt), fitted.predict_proba(arrays.xt))
    assert again.network_.parts["mine"].rate.tolist() == [0.0, 1.0]


class Sharing(Method):
    """Trains a part that holds the encoder."""

    def build(self, net):
        return {"both": nn.Sequential(net.encoder, nn.Linear(net.dim, 1))}

    def loss(self, net, source, target, progress):
        return {"label": self.label_loss(source, target)}


def test_weights_that_two_parts_hold_move_once(arrays):
    settings = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.1, "steps": 1}
    alone = adapter("source-only", **settings).fit(arrays.x, arrays.y, arrays.xt)
    shared = adapter(Sharing(), **settings).fit(arrays.x, arrays.y, arrays.xt)
    for mine, its in zip(shared.network_.encoder.parameters(), alone.network_.encoder.parameters(), strict=True):
        torch.testing.assert_close(mine, its)


@pytest.mark.parametrize(("term", "seen"), [(1.0, "float"), (torch.zeros(3, requires_grad=True), r"shape \(3,\)")])
def test_a_term_that_is_no_number_is_named(term, seen, arrays):
    class Wrong(Method):
        def loss(self, net, source, target, progress):
            return {"label": self.label_loss(source, target), "mine": term}

    with pytest.raises(ValueError, match=f"the term 'mine' is no single number of a tensor, but {seen}"):
        adapter(Wrong()).fit(arrays.x, arrays.y, arrays.xt)


class Frozen(nn.Sequential):
    """Keeps its batch norm as it is, as many trainings of large encoders do."""

    def train(self, mode=True):
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm1d):
                layer.eval()
        return self


@pytest.mark.parametrize("method", ["adabn", "tent"])
def test_batch_norm_that_its_owner_keeps_frozen_is_not_forgotten(method, arrays):
    encoder = Frozen(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU())
    fitted = adapter("source-only", backbone=encoder).fit(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(ValueError, match="the encoder has none, or keeps them frozen"):
        fitted.adapt_to(arrays.xt, method, steps=2)


class InDouble(nn.Module):
    """An encoder that computes in double precision whatever it gets."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x):
        return self.layer(x).double()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_in_double_precision_are_taken(precision, arrays):
    model = DomainAdapter("cdan", InDouble(), steps=3, batch_size=8, precision=precision)
    assert model.fit(arrays.x, arrays.y, arrays.xt).transform(arrays.xt).dtype == np.float32


def test_a_class_in_place_of_an_object_is_refused(make_arrays, tmp_path):
    a = make_arrays(20, 20)
    with pytest.raises(TypeError, match=r"method=Gap is a class; give an object of it: Gap\(\)"):
        DomainAdapter(Gap, steps=1).fit(a.x, a.y, a.xt)
    DomainAdapter(Gap(), steps=1).fit(a.x, a.y, a.xt).save(tmp_path / "m.safetensors")
    with pytest.raises(TypeError, match="method=Gap is a class"):
        DomainAdapter.load(tmp_path / "m.safetensors", method=Gap)


class Private(nn.Module):
    """Keeps its setting where others do not look, and has a method that changes another."""

    def __init__(self, k=1, depth=1):
        super().__init__()
        self.layer, self._k, self.depth = nn.Linear(3, 4), k, depth

    def deepen(self):
        self.depth += 1

    def forward(self, x):
        return self.layer(x) * self._k * self.depth


@dataclass
class OfParts(Gap):
    """Has a part whose setting nothing else tells."""

    def build(self, net):
        part = nn.Identity()
        part.factor = OfParts.factor
        return {"part": part}


@pytest.mark.parametrize("others", [{"k": 5}, {"depth": 5}])
def test_a_run_of_a_network_with_another_private_setting_is_not_taken_for_this_one(others, arrays, tmp_path):
    def fit(**settings):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = Private(**settings)
        adapter(Gap(), backbone=network).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)

    fit()
    fit()
    with pytest.raises(ValueError, match="other data or settings"):
        fit(**others)


def test_a_run_with_another_part_is_not_taken_for_this_one(arrays, tmp_path):
    OfParts.factor = 1
    adapter(OfParts()).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    OfParts.factor = 2
    with pytest.raises(ValueError, match="other data or settings"):
        adapter(OfParts()).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)


FACTOR = 1.0


def scaled(x):
    return x * FACTOR


def test_constants_beside_a_function_are_part_of_it(monkeypatch):
    before = identity(scaled)
    assert identity(scaled) == before
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 2.0)
    assert identity(scaled) != before


# what training finds out and what it does not


@pytest.mark.parametrize("change", ["freeze", "weight"])
@pytest.mark.parametrize("compile", [False, "auto"])
def test_what_a_callback_changed_is_as_it_was_where_a_training_goes_on(change, compile, arrays, tmp_path, monkeypatch):
    monkeypatch.setattr("dann.estimator.CHECKPOINT_SECONDS", 0.0)

    def train(stop=None, **options):
        def on_step(step):
            if step.number == 3 and change == "freeze":
                model.network_.encoder.requires_grad_(False)
            elif step.number == 3:
                model.method_.weight = 5.0
            if step.number == stop:
                raise KeyboardInterrupt

        model = adapter(Sum(DANN(), Gap()) if change == "freeze" else Gap(), steps=10, compile=compile)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "not compiled any more")
            return model.fit(arrays.x, arrays.y, arrays.xt, on_step=on_step, **options)

    whole = train()
    with pytest.raises(KeyboardInterrupt):
        train(stop=6, run=tmp_path)
    again = train(run=tmp_path)
    for mine, its in zip(again.network_.parameters(), whole.network_.parameters(), strict=True):
        assert torch.equal(mine, its)
    if change == "weight":
        assert again.method_.weight == 5.0


@dataclass
class Draws(Gap):
    """Mixes rows by shares from generators that are not PyTorch's, as published code does."""

    def loss(self, net, source, target, progress):
        share = np.random.beta(2, 2) * random.random()  # noqa: NPY002
        return {"label": self.label_loss(source, target) * share}


def test_random_numbers_of_numpy_and_python_are_the_seeds_too(arrays, tmp_path, monkeypatch):
    monkeypatch.setattr("dann.estimator.CHECKPOINT_SECONDS", 0.0)
    before = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    fit = lambda seed, **more: adapter(Draws(), random_state=seed).fit(arrays.x, arrays.y, arrays.xt, **more)  # noqa: E731
    whole = fit(0)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    middle = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert fit(0).history_ == whole.history_
    assert fit(1).history_ != whole.history_
    assert random.getstate() == middle[0]
    np.testing.assert_array_equal(np.random.get_state()[1], middle[1])  # noqa: NPY002
    random.setstate(before[0])

    def interrupt(step):
        if step.number == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(0, run=tmp_path, on_step=interrupt)
    assert fit(0, run=tmp_path).history_ == whole.history_


class Loose(nn.Module):
    def __init__(self, persistent=False):
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.register_buffer("mean", torch.zeros(4), persistent=persistent)
        self.register_buffer("same", torch.ones(4), persistent=False)

    def forward(self, x):
        x = self.layer(x)
        if self.training:
            self.mean.lerp_(x.detach().mean(0), 0.1)
        return (x - self.mean) * self.same


def test_a_buffer_that_no_file_holds_is_told_where_training_changes_it(arrays):
    with pytest.warns(UserWarning, match="'encoder.mean' changes in training, and files do not hold it"):
        adapter(DANN(), backbone=Loose()).fit(arrays.x, arrays.y, arrays.xt)
    adapter(DANN(), backbone=Loose(persistent=True)).fit(arrays.x, arrays.y, arrays.xt)


def test_state_that_is_no_tensor_is_refused_before_the_training(arrays):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"seen": 1}

        def set_extra_state(self, state):
            pass

    with pytest.raises(ValueError, match=r"encoder\._extra_state is no tensor"):
        adapter(DANN(), backbone=Extra(3, 4)).fit(arrays.x, arrays.y, arrays.xt)


@pytest.mark.parametrize("encoder", [nn.Flatten(), nn.Linear(3, 4).requires_grad_(False)])
def test_an_encoder_that_does_not_learn_is_told(encoder, arrays):
    """Aligning features has no effect there: the model is that of source-only, to the last bit."""
    models = []
    for method in ("dann", "source-only"):
        model = adapter(method, backbone=encoder, random_state=0)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            models.append(model.fit(arrays.x, arrays.y, arrays.xt).predict_proba(arrays.xt))
        found = [str(w.message) for w in told if "no weight of the encoder is trained: DANN" in str(w.message)]
        assert len(found) == (method == "dann")
    np.testing.assert_allclose(*models, atol=1e-6)


def test_moves_that_are_not_yielded_and_negative_rates_are_refused(arrays):
    class Listed(DANN):
        def moves(self, net, batch, progress):
            return [move for move in super().moves(net, batch, progress)]

    with pytest.raises(TypeError, match=r"Listed\.moves returns a list: yield its moves"):
        adapter(Listed()).fit(arrays.x, arrays.y, arrays.xt)

    class Backwards(DANN):
        def learning_rates(self):
            return {"domain": -1.0}

    with pytest.raises(ValueError, match=r"learning_rates has -1\.0 for domain: give 0 or more"):
        adapter(Backwards()).fit(arrays.x, arrays.y, arrays.xt)


def weight_norm(layer):
    return nn.utils.parametrizations.weight_norm(layer)


class Bare(nn.Module):
    def __init__(self, dim, classes):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(dim, classes))

    def forward(self, x):
        return x @ self.matrix


@pytest.mark.parametrize(
    "head",
    [
        lambda: weight_norm(nn.Linear(8, 3, bias=False)),
        lambda: nn.utils.parametrizations.orthogonal(nn.Linear(8, 3, bias=False)),
        lambda: Bare(8, 3),
        lambda: nn.Linear(8, 3),
    ],
)
def test_a_second_head_starts_from_other_weights_whatever_the_first_is_made_of(head):
    first, x = head(), torch.randn(5, 8)
    second = fresh_copy(first)
    assert (first(x) - second(x)).abs().mean() > 0.1


def test_weights_that_are_computed_from_others_cannot_be_drawn_by_a_scheme():
    with pytest.raises(ValueError, match="initialization='he' draws no weight that is computed"):
        initialize(weight_norm(nn.Linear(3, 2)), "he")


class Level(enum.IntEnum):
    LOW = 1


class Pair(NamedTuple):
    a: int
    b: int


@dataclass
class Keeps(Gap):
    """Sets an attribute in its steps."""

    def loss(self, net, source, target, progress):
        self.seen = KEPT[-1]
        return super().loss(net, source, target, progress)


KEPT = [None]
KINDS = [np.float64(1), [np.float64(1)], Level.LOW, Pair(1, 2), [np.str_("a")], np.bool_(True), (1, [2.5, "a", None])]


@pytest.mark.parametrize("value", KINDS, ids=[type(value).__name__ for value in KINDS])
def test_attributes_of_any_kind_leave_a_checkpoint_that_can_be_read(value, arrays, tmp_path, monkeypatch):
    monkeypatch.setattr("dann.estimator.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(sys.modules[__name__], "KEPT", [value])

    def interrupt(step):
        if step.number == 1:
            raise KeyboardInterrupt

    whole = adapter(Keeps(), random_state=0).fit(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(KeyboardInterrupt):
        adapter(Keeps(), random_state=0).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path, on_step=interrupt)
    again = adapter(Keeps(), random_state=0).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    assert again.history_ == whole.history_


@pytest.mark.parametrize("method", ["mcd", "source-only"])
def test_a_training_whose_player_is_frozen_goes_on(method, arrays, tmp_path, monkeypatch):
    monkeypatch.setattr("dann.estimator.CHECKPOINT_SECONDS", 0.0)

    def train(stop=None, **options):
        def on_step(step):
            if step.number == 2:
                parts = model.network_ if method == "source-only" else model.network_.encoder
                parts.requires_grad_(False)
            if step.number == stop:
                raise KeyboardInterrupt

        model = adapter(method, steps=8, random_state=0, compile=False)
        return model.fit(arrays.x, arrays.y, arrays.xt, on_step=on_step, **options)

    whole = train()
    with pytest.raises(KeyboardInterrupt):
        train(stop=5, run=tmp_path)
    again = train(run=tmp_path)
    for mine, its in zip(again.network_.parameters(), whole.network_.parameters(), strict=True):
        assert torch.equal(mine, its)


class Forgets(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.register_buffer("cache", torch.zeros(2), persistent=False)
        self.register_buffer("nothing", torch.full((2,), torch.nan), persistent=False)

    def forward(self, x):
        self.cache = None
        return self.layer(x)


def test_buffers_that_are_dropped_or_hold_nan_are_no_matter(arrays):
    adapter(DANN(), backbone=Forgets()).fit(arrays.x, arrays.y, arrays.xt)


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.MT19937])
def test_a_generator_of_the_users_own_kind_is_given_back(kind, arrays):
    before = np.random.mtrand.get_bit_generator()
    try:
        np.random.mtrand.set_bit_generator(kind(3))
        expected = np.random.RandomState(kind(3)).random(3)
        first = adapter(Draws(), random_state=0).fit(arrays.x, arrays.y, arrays.xt)
    finally:
        found = np.random.random(3)  # noqa: NPY002
        np.random.mtrand.set_bit_generator(before)
    np.testing.assert_array_equal(found, expected)
    assert first.history_ == adapter(Draws(), random_state=0).fit(arrays.x, arrays.y, arrays.xt).history_


CALLS = 0


@dataclass
class Counting(Gap):
    """Counts in a global name, and uses one in a lambda."""

    def loss(self, net, source, target, progress):
        global CALLS
        CALLS += 1
        return super().loss(net, source, target, progress)


def in_a_lambda(x):
    return (lambda y: y * FACTOR)(x)


def test_what_training_counts_by_itself_is_no_setting(arrays, tmp_path, monkeypatch):
    class Timed(Private):
        def forward(self, x):
            self.note()
            return super().forward(x)

        def note(self):
            self.seen = time.perf_counter()

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Timed()
    for _ in range(2):  # in one process
        adapter(Counting(), backbone=network).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    before = identity(in_a_lambda)
    monkeypatch.setattr(sys.modules[__name__], "FACTOR", 3.0)
    assert identity(in_a_lambda) != before


class Gathers(nn.Module):
    """An encoder that adds its products to single-precision zeros, which PyTorch refuses for halves."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x):
        """Return features (n, 4)."""
        return torch.zeros(len(x), 4).index_add(0, torch.arange(len(x)), self.layer(x))


def test_ones_own_network_is_trained_in_single_precision_unless_half_is_asked_for(arrays, monkeypatch):
    monkeypatch.setattr(dann.machine, "has_bf16_units", lambda _: True)
    monkeypatch.setattr(dann.machine, "WORK_OF_A_THREAD", 1)
    settings = {"steps": 2, "batch_size": 4, "device": "cpu"}
    model = DomainAdapter("dann", Gathers(), **settings).fit(arrays.x, arrays.y, arrays.xt)
    assert model.precision_ == torch.float32
    with pytest.raises(RuntimeError, match="BFloat16"):
        DomainAdapter("dann", Gathers(), precision="bf16", **settings).fit(arrays.x, arrays.y, arrays.xt)
