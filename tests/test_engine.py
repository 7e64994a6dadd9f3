import copy
import itertools
import random
import warnings
from collections import deque
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import dann.engine
import dann.estimator
from dann import DANN, MLP, DomainAdapter, Domains, Network, annealing
from dann.engine import train, update
from dann.optimizers import Optimizer
from dann.recording import record
from dann.streams import ArrayStream


def network():
    torch.manual_seed(0)
    net = Network(nn.Identity(), nn.Linear(3, 4), nn.Linear(4, 2), dim=4, n_classes=2, n_domains=2)
    net.parts["critic"] = nn.Linear(4, 1)
    return net


def optimizer(net, lr=0.1, factors=(), **settings):
    return Optimizer([(net.group(p), lr * dict(factors).get(p, 1.0)) for p in net.players], **settings)


@pytest.fixture
def stream(arrays):
    return ArrayStream(Domains.from_arrays(arrays.x, arrays.y, arrays.xt), 8, seed=0)


class Recorder:
    """A method of one plain term that writes down what the loop shows it."""

    def __init__(self):
        self.progress, self.first_rows, self.modes = [], [], []

    def moves(self, net, batch, progress):
        self.progress.append(progress.clone())
        self.first_rows.append(int(batch.index[0]))
        self.modes.append(net.training)
        _, logits = net(batch.x)
        yield ("encoder", "head"), {"norm": logits.square().mean()}


class Game:
    """Two moves against each other: the critic, then the encoder."""

    def moves(self, net, batch, progress):
        self.before = copy.deepcopy(net.state_dict())
        gap = net.parts["critic"](net(batch.x)[0]).mean()
        yield ("critic",), {"gap": -gap}
        self.between = copy.deepcopy(net.state_dict())
        gap = net.parts["critic"](net(batch.x)[0]).mean()
        yield ("encoder",), {"gap": gap, "zero": 0 * gap}


def changed(before, after):
    """Players whose weights differ."""
    names = {n for n in before if not torch.equal(before[n], after[n])}
    return {n.removeprefix("parts.").split(".")[0] for n in names}


def test_a_move_changes_its_players_and_nobody_else(stream):
    net, game = network(), Game()
    list(train(net, game, stream, optimizer(net), steps=1))
    assert changed(game.before, game.between) == {"critic"}
    assert changed(game.between, net.state_dict()) == {"encoder"}


def test_weight_decay_and_momentum_do_not_move_players_that_sit_out(stream):
    net = network()
    list(train(net, Game(), stream, optimizer(net, momentum=0.9, weight_decay=0.5), steps=3))
    assert changed(network().state_dict(), net.state_dict()) == {"encoder", "critic"}


def test_update_is_one_step_down_the_gradient_of_the_summed_terms():
    net = network()
    weight, x = net.head.weight, torch.randn(5, 4)
    terms = {"a": net.head(x).mean(), "b": 3 * net.head.weight.sum()}
    (gradient,) = torch.autograd.grad(sum(terms.values()), weight, retain_graph=True)
    expected = weight.detach() - 0.1 * gradient
    update(optimizer(net), net.group("head"), {**terms, "constant": torch.tensor(2.0)})
    torch.testing.assert_close(weight.detach(), expected)


def test_terms_of_all_moves_reach_the_caller_by_name_without_their_graph(stream):
    net = network()
    (step,) = train(net, Game(), stream, optimizer(net), steps=1)
    assert step.number == 0
    assert list(step.terms) == ["gap", "zero"]
    assert not any(term.requires_grad for term in step.terms.values())


@pytest.mark.parametrize("steps", [1, 7, 1000, 30_000])
def test_progress_goes_from_0_to_almost_1_whatever_the_length_of_the_run(stream, steps):
    net, method = network(), Recorder()
    loop = train(net, method, stream, optimizer(net), steps)
    next(loop)
    list(train(net, method, stream, optimizer(net), steps, start=steps - 1))
    assert method.progress[0].item() == 0
    assert method.progress[-1].item() == pytest.approx((steps - 1) / steps)
    assert all(p.dim() == 0 for p in method.progress)


def test_starting_late_is_the_end_of_the_whole_run(stream):
    whole, end = Recorder(), Recorder()
    for method, start in ((whole, 0), (end, 4)):
        net = network()
        numbers = [step.number for step in train(net, method, stream, optimizer(net), 6, start)]
        assert numbers == list(range(start, 6))
    assert whole.progress[4:] == end.progress
    assert whole.first_rows[4:] == end.first_rows


def test_a_finished_run_has_no_steps_left(stream):
    net = network()
    assert list(train(net, Recorder(), stream, optimizer(net), steps=3, start=3)) == []


def test_the_schedule_scales_each_groups_own_learning_rate(stream):
    net = network()
    opt = optimizer(net, lr=0.2, factors={"critic": 10.0})
    for step in train(net, Recorder(), stream, opt, 4, schedule=annealing):
        factor = annealing(step.number / 4)
        assert [float(r) for r in opt.rates] == pytest.approx([0.2 * factor, 0.2 * factor, 2.0 * factor])


def test_without_a_schedule_learning_rates_are_left_alone(stream):
    net = network()
    opt = optimizer(net, lr=0.2, factors={"critic": 10.0})
    list(train(net, Recorder(), stream, opt, 3))
    assert [float(rate) for rate in opt.rates] == [0.2, 0.2, 2.0]


def test_the_caller_may_evaluate_between_the_steps(stream):
    net, method = network(), Recorder()
    for _ in train(net, method, stream, optimizer(net), steps=3):
        net.eval()
    assert method.modes == [True, True, True]


def test_every_step_is_taken_only_when_the_caller_asks_for_it(stream):
    net, method = network(), Recorder()
    loop = train(net, method, stream, optimizer(net), steps=100)
    next(loop)
    next(loop)
    assert len(method.progress) == 2
    assert np.isfinite(net.head.weight.detach().numpy()).all()


# precision


class Watched(DANN):
    """Writes down what it computes in."""

    seen: ClassVar[list] = []

    def loss(self, net, source, target, progress):
        terms = super().loss(net, source, target, progress)
        hidden = net.parts["domain"][0](target.features)
        self.seen.append((hidden.dtype, source.features.dtype, source.logits.dtype, terms["domain"].dtype))
        return terms


@pytest.mark.parametrize(("precision", "computes"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_layers_compute_in_the_precision_and_losses_in_single(precision, computes, arrays):
    Watched.seen.clear()
    adapter = DomainAdapter(Watched(), MLP((8,)), steps=2, batch_size=8, device="cpu", precision=precision)
    adapter.fit(arrays.x, arrays.y, arrays.xt)
    assert set(Watched.seen) == {(computes, torch.float32, torch.float32, torch.float32)}
    assert adapter.precision_ == computes
    assert {p.dtype for p in adapter.network_.parameters()} == {torch.float32}
    assert adapter.predict_proba(arrays.xt).dtype == np.float32


def test_bfloat16_trains_what_single_precision_trains(arrays):
    """A run of bfloat16 that trained nothing, or something else, would be noticed."""
    losses = []
    for precision in ("fp32", "bf16"):
        adapter = DomainAdapter("dann", MLP((8,)), steps=30, lr=0.02, log_every=1, device="cpu", precision=precision)
        losses.append([entry["label"] for entry in adapter.fit(arrays.x, arrays.y, arrays.xt).history_])
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[1], losses[0], atol=0.02)
    assert losses[1][-1] < 0.8 * losses[1][0]


def test_every_move_sees_the_weights_that_the_move_before_left(stream):
    """Autocast keeps copies of the weights in half precision: a second move must not get stale ones."""
    net, seen = network(), []

    class Twice:
        def moves(self, net, batch, progress):
            for _ in range(2):
                seen.append(net.head(net.encoder(batch.x)).sum().item())
                yield ("head",), {"norm": net.head(net.encoder(batch.x)).float().square().mean()}

    list(train(net, Twice(), stream, optimizer(net, lr=1.0), steps=1, precision=torch.bfloat16))
    assert seen[0] != seen[1]


def test_predictions_take_bfloat16_only_when_it_was_asked_for(arrays, monkeypatch):
    monkeypatch.setattr(dann.machine, "has_bf16_units", lambda _: True)
    monkeypatch.setattr(dann.machine, "WORK_OF_A_THREAD", 1)
    adapter = DomainAdapter("dann", MLP((8,)), steps=2, device="cpu").fit(arrays.x, arrays.y, arrays.xt)
    assert adapter.precision_ == torch.bfloat16
    single = adapter.predict_proba(arrays.xt)
    assert np.array_equal(adapter.set_params(precision="fp32").predict_proba(arrays.xt), single)
    half = adapter.set_params(precision="bf16").predict_proba(arrays.xt)
    assert not np.array_equal(half, single)
    np.testing.assert_allclose(half, single, atol=0.01)


# processor


def test_a_small_training_uses_one_thread(arrays, three_threads):
    seen = []
    adapter = DomainAdapter(steps=2, device="cpu")
    adapter.fit(arrays.x, arrays.y, arrays.xt, on_step=lambda _: seen.append(torch.get_num_threads()))
    assert seen == [1, 1]
    assert torch.get_num_threads() == 3


# recording


def fitted(arrays, repeat, monkeypatch, steps=12, backbone=None, labelled=False, **settings):
    """Train with a recorded step, or without; return the estimator and how often one was recorded."""
    made = []
    monkeypatch.setattr(dann.estimator, "RECORDING_PAYS", 1 if repeat else 10**9)
    monkeypatch.setattr(dann.engine, "record", lambda step, *args, **kw: made.append(1) or record(step, *args, **kw))
    adapter = DomainAdapter(backbone=backbone or MLP((8,)), steps=steps, batch_size=8, device="cpu")
    adapter.set_params(**settings).fit(arrays.x, arrays.y, arrays.xt, arrays.yt if labelled else None)
    return adapter, len(made)


def test_trainings_are_recorded_where_that_pays(arrays, monkeypatch):
    made = []
    monkeypatch.setattr(dann.engine, "record", lambda step, *args, **kw: made.append(1) or record(step, *args, **kw))
    for steps in (99, 100):
        DomainAdapter(backbone=MLP((4,)), steps=steps, batch_size=4, device="cpu").fit(arrays.x, arrays.y, arrays.xt)
        assert len(made) == (steps == 100)


def test_large_steps_are_not_recorded_unless_that_is_asked_for(arrays, monkeypatch):
    monkeypatch.setattr(dann.estimator, "WORTH_RECORDING", 1.0)
    assert fitted(arrays, True, monkeypatch)[1] == 0
    assert fitted(arrays, True, monkeypatch, compile=True)[1] == 1


@pytest.mark.parametrize(("optimizer", "swing"), [("adam", 0.01), ("adamw", 0.01), ("sgd", 0.0)])
def test_guards_know_how_far_an_optimiser_swings(optimizer, swing, arrays, monkeypatch):
    seen, guards = [], dann.estimator.Guards
    monkeypatch.setattr(dann.estimator, "Guards", lambda *args: seen.append(args[4]) or guards(*args))
    adapter = DomainAdapter(backbone=MLP((4,)), optimizer=optimizer, lr=0.01, steps=2, batch_size=4, device="cpu")
    adapter.fit(arrays.x, arrays.y, arrays.xt)
    assert seen == [swing]


SETTINGS = {
    "dann": {},
    "constant weight": {"method": DANN(weight=0.3, schedule="constant", lr_multiplier=3.0, label_smoothing=0.1)},
    "source-only": {"method": "source-only"},
    "domain-only": {"method": "domain-only"},
    "target-only": {"method": "target-only", "labelled": True},
    "labelled target": {"labelled": True},
    "sgd": {"optimizer": "sgd", "lr_schedule": "annealing", "weight_decay": 0.01},
    "clipped": {"optimizer": "adamw", "clip_norm": 0.1},
    "cosine, averaged": {"lr_schedule": "cosine", "averaging": 0.9},
    "dropout": {"backbone": MLP((8,), head_hidden=(6,), dropout=0.5)},
    "apart": {"encoding": "separate"},
    "per domain": {"encoding": "per-domain", "backbone": MLP((8,), batch_norm=True)},
    "bfloat16": {"precision": "bf16"},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_recorded_training_has_the_same_bits(settings, arrays, monkeypatch):
    plain, without = fitted(arrays, False, monkeypatch, **settings)
    same, once = fitted(arrays, True, monkeypatch, **settings)
    assert (without, once) == (0, 1)
    assert same.history_ == plain.history_
    for name, weight in plain.network_.state_dict().items():
        assert torch.equal(same.network_.state_dict()[name], weight), name


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_recorded_training_goes_on_to_the_same_bits(optimizer, arrays, monkeypatch, tmp_path):
    monkeypatch.setattr(dann.estimator, "CHECKPOINT_SECONDS", 0)
    whole, _ = fitted(arrays, True, monkeypatch, optimizer=optimizer, lr_schedule="cosine")

    def interrupt(step):
        if step.number == 7:
            raise KeyboardInterrupt

    def again(**options):
        return (
            DomainAdapter(backbone=MLP((8,)), steps=12, batch_size=8, device="cpu")
            .set_params(optimizer=optimizer, lr_schedule="cosine")
            .fit(arrays.x, arrays.y, arrays.xt, run=tmp_path, **options)
        )

    with pytest.raises(KeyboardInterrupt):
        again(on_step=interrupt)
    for name, weight in again().network_.state_dict().items():
        assert torch.equal(weight, whole.network_.state_dict()[name]), name


class OnesOwn(DANN):
    """May count its steps, for all the package knows."""


@pytest.mark.parametrize(
    "settings", [{"method": OnesOwn()}, {"backbone": nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))}]
)
def test_what_could_change_from_step_to_step_is_not_recorded(settings, arrays, monkeypatch):
    assert fitted(arrays, True, monkeypatch, **settings)[1] == 0


def test_ones_own_network_is_recorded_when_asked_for(arrays, monkeypatch):
    settings = {"backbone": nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)), "method": OnesOwn()}
    plain, without = fitted(arrays, False, monkeypatch, compile=False, **settings)
    same, once = fitted(arrays, False, monkeypatch, compile=True, **settings)
    assert (without, once) == (0, 1)
    for name, weight in plain.network_.state_dict().items():
        assert torch.equal(same.network_.state_dict()[name], weight), name


class Reads(DANN):
    """Looks at the value of a loss."""

    def loss(self, net, source, target, progress):
        terms = super().loss(net, source, target, progress)
        return terms if terms["label"] > 0 else {}


def test_a_method_that_reads_values_is_trained_step_by_step_with_a_warning(arrays, monkeypatch):
    plain, _ = fitted(arrays, False, monkeypatch, compile=False, method=Reads())
    with pytest.warns(UserWarning, match=r"not compiled: .* depend on the values .*test_engine.py, line \d+") as warned:
        same, _ = fitted(arrays, False, monkeypatch, compile=True, method=Reads())
    assert len(warned) == 1
    assert same.history_ == plain.history_


@dataclass
class Kept(DANN):
    """Keeps values from step to step where no recording sees them; ``how`` is a key of KEEPING."""

    how: str = ""

    def build(self, net):
        part = nn.Linear(net.dim, 2)
        part.requires_grad_(False)
        part.memory, part.list, part.draws = deque(maxlen=3), [0], np.random.default_rng(0)
        return {**super().build(net), "kept": part}

    def loss(self, net, source, target, progress):
        terms = super().loss(net, source, target, progress)
        return {**terms, "more": KEEPING[self.how](net.parts["kept"], net.head, source.features)}


def by_data(part, head, features):
    part.weight.data = 0.9 * part.weight.data + 0.1 * head[-1].weight.data
    return (features @ part.weight.T).square().mean()


def by_deque(part, head, features):
    part.memory.append(features.detach())
    return (features.mean(0) - torch.cat(list(part.memory)).mean(0)).square().sum()


def by_list(part, head, features):
    part.list[0] += 1
    return features.square().mean() / part.list[0]


def by_generator(part, head, features):
    return features.square().mean() * float(part.draws.uniform())


def by_copy(part, head, features):
    return (features @ copy.deepcopy(head)[-1].weight.T).square().mean()


def by_parameter(part, head, features):
    return (features @ nn.Parameter(head[-1].weight.detach().clone()).T).square().mean()


def by_tensor_copy(part, head, features):
    return (features @ copy.deepcopy(part.weight.data).T).square().mean()


KEEPING = {f.__name__: f for f in (by_data, by_deque, by_list, by_generator, by_copy, by_parameter, by_tensor_copy)}


@pytest.mark.parametrize("how", KEEPING)
def test_what_a_recording_cannot_see_is_noticed_in_the_second_step(how, arrays, monkeypatch):
    plain, _ = fitted(arrays, False, monkeypatch, compile=False, method=Kept(how=how))
    with pytest.warns(UserWarning, match="not compiled: "):
        same, once = fitted(arrays, False, monkeypatch, compile=True, method=Kept(how=how))
    assert once == 1
    assert same.history_ == plain.history_
    for mine, its in zip(same.network_.parameters(), plain.network_.parameters(), strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("compile", [False, "auto", True])
@pytest.mark.parametrize("before", [False, True])
def test_weights_that_a_callback_thaws_are_trained(compile, before, arrays, monkeypatch):
    seen = []

    def change(step):
        encoder = adapter.network_.encoder
        if step.number in (3, 6):
            encoder.requires_grad_(step.number == 6)
        seen.append([p.detach().clone() for p in encoder.parameters()])

    backbone = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    backbone.requires_grad_(not before)
    network = MLP((4,)) if compile == "auto" else backbone
    monkeypatch.setattr(dann.estimator, "RECORDING_PAYS", 1)
    adapter = DomainAdapter("dann", network, steps=9, batch_size=8, device="cpu", compile=compile)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "not compiled any more|no weight of the encoder")
        adapter.fit(arrays.x, arrays.y, arrays.xt, on_step=change)
    moved = [any(not torch.equal(a, b) for a, b in zip(*pair, strict=True)) for pair in itertools.pairwise(seen)]
    assert moved[3:6] == [False] * 3
    assert moved[6:] == [True] * 2


def test_a_game_that_computes_a_term_before_an_earlier_move_is_played_is_told(arrays):
    class Early(DANN):
        def moves(self, net, batch, progress):
            source, target = net.views(batch)
            terms = self.loss(net, source, target, progress)
            yield ("domain",), {"domain": self.loss(net, *net.views(batch), progress)["domain"]}
            yield ("encoder", "head"), terms

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        DomainAdapter(Early(), MLP((4,)), steps=2, batch_size=8, device="cpu").fit(arrays.x, arrays.y, arrays.xt)


class Counts(nn.Module):
    """Keeps a number, a tensor or a generator of its own, and what it does depends on that."""

    def __init__(self, what):
        super().__init__()
        self.what, self.steps, self.layer = what, 0, nn.Linear(3, 4)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x):
        self.steps += self.what == "number"
        if self.what == "buffer":
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        factor = {"python": random.random, "numpy": np.random.uniform}.get(self.what, lambda: 1.0)()
        return self.layer(factor * x - self.mean) * (1 + self.steps / 10)


@pytest.mark.parametrize("what", ["number", "buffer", "python", "numpy"])
def test_networks_with_a_state_that_no_recording_holds_are_trained_step_by_step(what, arrays, monkeypatch):
    models = []
    for compiled in (False, True):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            models.append(fitted(arrays, False, monkeypatch, compile=compiled, backbone=Counts(what))[0])
        assert [str(w.message).startswith("not compiled: ") for w in warned] == [True] * compiled
    for name, weight in models[0].network_.state_dict().items():
        assert torch.equal(models[1].network_.state_dict()[name], weight), name


def weaken(adapter):
    adapter.method_.weight = 0.0


def freeze(adapter):
    adapter.network_.head.requires_grad_(False)


def weaken_a_part(adapter):
    adapter.method_.methods["mcc"].weight = 0.0


def replace_a_buffer(adapter):
    adapter.network_.normalize.mean = adapter.network_.normalize.mean + 1


def thin_out(adapter):
    next(layer for layer in adapter.network_.modules() if isinstance(layer, nn.Dropout)).p = 0.0


@pytest.mark.parametrize("change", [weaken, freeze, thin_out, weaken_a_part, replace_a_buffer])
def test_what_the_caller_changes_between_steps_counts_in_recorded_trainings_too(change, arrays, monkeypatch):
    models = []
    for repeat in (False, True):
        monkeypatch.setattr(dann.estimator, "RECORDING_PAYS", 1 if repeat else 10**9)
        method = "dann+mcc" if change is weaken_a_part else "dann"
        network = MLP((8,), head_hidden=(6,), dropout=0.5)
        adapter = DomainAdapter(method, network, steps=8, batch_size=8, device="cpu")
        rows = arrays.x, arrays.y, arrays.xt
        act = lambda step, adapter=adapter: change(adapter) if step.number == 3 else None  # noqa: E731
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            models.append(adapter.fit(*rows, on_step=act))
        assert ["not compiled any more" in str(w.message) for w in warned] == [True] * repeat
    for name, weight in models[0].network_.state_dict().items():
        assert torch.equal(models[1].network_.state_dict()[name], weight), name


def test_images_are_recorded_too(arrays, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (20, 1, 16, 16), dtype=np.uint8)
    models = [
        DomainAdapter("dann", "small", steps=6, batch_size=4, device="cpu", compile=c).fit(x[:10], [0, 1] * 5, x[10:])
        for c in (False, True)
    ]
    for name, weight in models[0].network_.state_dict().items():
        assert torch.equal(models[1].network_.state_dict()[name], weight), name


def test_a_short_training_is_not_recorded(arrays, monkeypatch):
    monkeypatch.setattr(dann.engine, "record", None)
    assert len(DomainAdapter(steps=3, log_every=1, device="cpu").fit(arrays.x, arrays.y, arrays.xt).history_) == 3


@pytest.mark.filterwarnings("ignore:collapse")  # all weights vanish
def test_a_small_training_leaves_no_denormal_weights(arrays):
    x, xt = (np.c_[a, np.zeros(len(a), np.float32)] for a in (arrays.x, arrays.xt))  # a feature that tells nothing
    adapter = DomainAdapter(
        "source-only",
        MLP((4,)),
        steps=140,
        batch_size=8,
        optimizer="sgd",
        momentum=0,
        lr_schedule="constant",
        device="cpu",
    )
    adapter.set_params(lr=0.1, weight_decay=5.0).fit(x, arrays.y, xt)  # halves its weights in every step
    dead = adapter.network_.encoder[0].weight[:, -1]
    assert (dead == 0).all()


class Adds(DANN):
    """Has an attribute more after its first step."""

    def loss(self, net, source, target, progress):
        self.seen = getattr(self, "seen", 0) + 1
        return super().loss(net, source, target, progress)


def test_an_attribute_that_the_first_step_adds_is_noticed(arrays, monkeypatch):
    plain, _ = fitted(arrays, False, monkeypatch, compile=False, method=Adds())
    with pytest.warns(UserWarning, match="not compiled: a step changes attributes"):
        same, _ = fitted(arrays, False, monkeypatch, compile=True, method=Adds())
    assert same.method_.seen == plain.method_.seen == 12
