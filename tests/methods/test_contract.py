"""What every method owes: the same tests run over all of METHODS."""

import ast
import copy
import inspect
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch._dynamo.testing import CompileCounter

import dann.estimator
from dann import METHODS, MLP, DomainAdapter, Domains, Network, TableAugmentation, mlp
from dann.engine import train, update
from dann.optimizers import Optimizer
from dann.streams import ArrayStream

NAMES = [name for name, method in METHODS.items() if not method.source_free]  # test_source_free.py has the others
FEATURES = Network(nn.Identity(), nn.Identity(), nn.Linear(3, 2), dim=3, n_classes=2, n_domains=2)
BLIND = [name for name in NAMES if not METHODS[name].uses_target_labels]
DISCRIMINATING = [name for name in NAMES if "domain" in METHODS[name]().build(FEATURES)]
TINY = MLP(hidden=(8,), head_hidden=(6,), domain_hidden=(4,), dropout=0.5)  # dropout: randomness in every step


def adapter(name, **settings):
    defaults = {"backbone": TINY, "steps": 6, "batch_size": 8, "log_every": 2}
    if METHODS[name].needs_pretraining:
        defaults["pretrain_steps"] = 4
    return DomainAdapter(METHODS[name](), **{**defaults, **settings})


def target_labels(name, data):
    """What `fit` needs of the target's labels: nothing, unless the method is an oracle."""
    return data.yt if METHODS[name].uses_target_labels else None


def fit(name, data, run=None, on_step=None, **settings):
    return adapter(name, **settings).fit(data.x, data.y, data.xt, target_labels(name, data), run=run, on_step=on_step)


def same_weights(a, b):
    """Whether two estimators' networks agree bit for bit."""
    a, b = a.network_.state_dict(), b.network_.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def game(name, data, n_sources=1, batch_size=8):
    """A network with the method's parts, the method, and a stream."""
    torch.manual_seed(0)
    marks = np.arange(len(data.x)) % n_sources
    domains = Domains.from_arrays(data.x, data.y, data.xt, target_labels(name, data), marks)
    method, n_domains = METHODS[name](), n_sources + 1
    net = Network(nn.Identity(), mlp(3, 8, 8), mlp(8, 2), dim=8, n_classes=2, n_domains=n_domains, domain_hidden=(4,))
    net.parts.update(method.build(net))
    strong = TableAugmentation() if method.two_views else None
    return net, method, ArrayStream(domains, batch_size, seed=0, strong_augmentation=strong)


@pytest.mark.parametrize("n_sources", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_terms_are_finite_and_keep_their_names(name, n_sources, arrays):
    net, method, stream = game(name, arrays, n_sources)
    optimizer = Optimizer([(list(net.parameters()), 0.01)])
    seen = [step.terms for step in train(net, method, stream, optimizer, steps=5)]
    assert len({tuple(terms) for terms in seen}) == 1
    assert all(term.isfinite() and term.dim() == 0 for terms in seen for term in terms.values())


@pytest.mark.parametrize("n_sources", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_every_player_of_every_move_gets_a_gradient(name, n_sources, arrays):
    net, method, stream = game(name, arrays, n_sources)
    for players, terms in method.moves(net, stream.at(0), torch.tensor(0.5)):
        for player in players:
            gradients = torch.autograd.grad(
                sum(terms.values()), net.group(player), retain_graph=True, allow_unused=True
            )
            size = sum(g.abs().sum() for g in gradients if g is not None)
            assert size > 0, f"{player} learns nothing from {list(terms)}"


@pytest.mark.parametrize("name", NAMES)
def test_every_term_of_every_move_teaches_one_of_its_players(name, arrays):
    net, method, stream = game(name, arrays)
    if hasattr(method, "threshold"):
        method.threshold = 0.0  # a fresh model is never confident
    for step in range(2):  # what is remembered of the first batch teaches in the second
        moves = list(method.moves(net, stream.at(step), torch.tensor(0.5)))
    for players, terms in moves:
        weights = [weight for player in players for weight in net.group(player)]
        for key, term in terms.items():
            gradients = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
            assert sum(g.abs().sum() for g in gradients if g is not None) > 0, f"nobody learns from {key!r}"


@pytest.mark.parametrize("n_sources", [1, 2])
@pytest.mark.parametrize("name", [name for name in NAMES if not METHODS[name].reads_values])
def test_a_step_stays_on_the_device_of_the_batch_and_reads_no_values(name, n_sources, arrays):
    # tensors without values, which mix with no other device's, stand for those that a step would have to wait for
    net, method, stream = game(name, arrays, n_sources)
    there = {key: value.to("meta") for key, value in stream.at(0)._asdict().items() if isinstance(value, torch.Tensor)}
    batch = stream.at(0)._replace(**there)
    for players, terms in method.moves(net.to("meta"), batch, torch.tensor(0.5, device="meta")):
        assert {term.device.type for term in terms.values()} == {"meta"}
        weights = [weight for player in players for weight in net.group(player)]
        losses = [term for term in terms.values() if term.requires_grad]
        torch.autograd.grad(losses, weights, allow_unused=True)


@pytest.mark.parametrize("name", DISCRIMINATING)
def test_a_discriminator_alone_tells_separable_frozen_features_apart(name, arrays):
    _, method, stream = game(name, arrays, batch_size=16)
    torch.manual_seed(0)
    net = copy.deepcopy(FEATURES)  # the inputs themselves: the second one tells the domain
    net.head.weight.data = torch.tensor([[-1.0, 0, 0], [1, 0, 0]])  # and the first one the class
    net.parts.update(method.build(net))
    optimizer = Optimizer([(net.group("domain"), 0.02)], "adam", 0.9)
    for step in range(60):
        for players, terms in method.moves(net, stream.at(step), torch.tensor(0.5)):
            if "domain" in players:
                update(optimizer, net.group("domain"), terms)
    told = [net.parts["domain"](method.domain_input(net, x, net.head(x))).squeeze(1).detach() > 0 for x in stream.x]
    assert ((~told[0]).float().mean() + told[1].float().mean()) / 2 > 0.9


@pytest.mark.parametrize("name", [name for name in NAMES if hasattr(METHODS[name](), "hidden")])
def test_an_adversary_has_the_hidden_widths_that_it_is_given(name):
    for widths in ((), (7, 5)):
        (adversary,) = (
            p for p in METHODS[name](hidden=widths).build(FEATURES).values() if isinstance(p, nn.Sequential)
        )
        assert [layer.out_features for layer in adversary if isinstance(layer, nn.Linear)] == [*widths, 1]


@pytest.mark.parametrize("name", BLIND)
@pytest.mark.parametrize("hidden", [lambda y: y, lambda y: 1 - y, lambda y: y + np.nan, lambda y: y - 100])
def test_hidden_target_labels_cannot_change_a_run(name, hidden, arrays):
    without = fit(name, arrays)
    x, marks = np.concatenate([arrays.x, arrays.xt]), np.repeat([0, -1], [len(arrays.x), len(arrays.xt)])
    labels = np.concatenate([arrays.y, hidden(arrays.yt)])
    assert same_weights(without, adapter(name).fit(x, labels, sample_domain=marks))


@pytest.mark.parametrize("name", BLIND)
def test_several_sources_are_trained_on(name, arrays):
    marks = np.arange(len(arrays.x)) % 3
    model = adapter(name).fit(arrays.x, arrays.y, arrays.xt, sample_domain=marks)
    assert model.n_domains_ == 4
    assert model.predict_proba(arrays.xt).sum(1) == pytest.approx(np.ones(len(arrays.xt)))


@pytest.mark.parametrize("sizes", [(4, 40), (40, 4), (5, 4)])
@pytest.mark.parametrize("name", NAMES)
def test_domains_may_be_unequal_and_smaller_than_a_batch(name, sizes, make_arrays):
    data = make_arrays(*sizes)
    history = fit(name, data, batch_size=16).history_
    assert [entry["step"] for entry in history] == [0, 2, 4, 5]
    assert all(np.isfinite(value) for entry in history for value in entry.values())


@pytest.mark.parametrize("name", [name for name in NAMES if METHODS[name].rows_needed > 1])
def test_too_few_rows_for_an_estimate_are_refused(name, make_arrays):
    few = METHODS[name].rows_needed - 1
    with pytest.raises(
        ValueError, match=rf"batch_size={few} is too small for \w+, which compares at least {few + 1} rows"
    ):
        fit(name, make_arrays(20, 20), batch_size=few)
    with pytest.raises(ValueError, match=rf"the target has {few} rows, and \w+ compares at least {few + 1}"):
        fit(name, make_arrays(20, few), batch_size=16)


@pytest.mark.parametrize("name", NAMES)
def test_a_single_objective_compiles_once_as_one_graph_whatever_the_progress(name, arrays):
    net, method, stream = game(name, arrays)
    if len(list(method.moves(net, stream.at(0), torch.tensor(0.0)))) > 1:
        pytest.skip("a game of several moves is no single objective")
    torch.compiler.reset()  # the counts of other methods
    if name == "vada" or METHODS[name].reads_values:
        pytest.skip("it differentiates, or leaves PyTorch, inside its loss, which makes no full graph")
    counter = CompileCounter()

    def objective(batch, progress):
        ((_, terms),) = method.moves(net, batch, progress)
        return terms

    compiled = torch.compile(objective, backend=counter, fullgraph=True)
    for step, progress in enumerate((0.0, 0.4, 1.0)):
        batch, progress = stream.at(step), torch.tensor(progress)
        before = copy.deepcopy(net.state_dict())  # running means and the like, which the objective moves on
        torch.manual_seed(step)
        expected = objective(batch, progress)
        net.load_state_dict(before)
        torch.manual_seed(step)
        torch.testing.assert_close(compiled(batch, progress), expected)
    assert counter.frame_count == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_training_has_the_same_bits(name, arrays, monkeypatch):
    plain = fit(name, arrays, compile=False)
    if METHODS[name].reads_values:
        with pytest.warns(UserWarning, match="not compiled"):
            fit(name, arrays, compile=True)
        monkeypatch.setattr(dann.estimator, "RECORDING_PAYS", 1)
        same = fit(name, arrays)  # not tried, so there is no warning
    else:
        same = fit(name, arrays, compile=True)
    assert same_weights(plain, same)
    assert plain.history_ == same.history_


@pytest.mark.parametrize("encoding", ["joint", "separate"])
@pytest.mark.parametrize("name", [name for name in NAMES if not METHODS[name].reads_values])
def test_a_recorded_training_with_batch_norm_and_several_sources_has_the_same_bits(name, encoding, arrays):
    marks = np.arange(len(arrays.x)) % 2
    network = MLP((8,), batch_norm=True, dropout=0.5)
    plain, same = (
        adapter(name, compile=compiled, backbone=network, encoding=encoding).fit(
            arrays.x, arrays.y, arrays.xt, target_labels(name, arrays), sample_domain=marks
        )
        for compiled in (False, True)
    )
    assert same_weights(plain, same)
    assert plain.history_ == same.history_


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_trains_finite_losses(name, arrays):
    model = fit(name, arrays, precision="bf16")
    assert all(np.isfinite(value) for entry in model.history_ for value in entry.values())
    assert model.predict_proba(arrays.xt).sum(1) == pytest.approx(np.ones(len(arrays.xt)), abs=1e-5)


# runs


@pytest.mark.parametrize(("optimizer", "averaging"), [("adam", 0.0), ("sgd", 0.9)])
@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_ends_at_the_same_bits(name, optimizer, averaging, arrays, tmp_path, monkeypatch):
    monkeypatch.setattr(dann.estimator, "CHECKPOINT_SECONDS", 0.0)
    settings = {"optimizer": optimizer, "lr_schedule": "annealing", "lr": 0.01, "averaging": averaging}

    def interrupt(step):
        if step.number == 3:
            raise KeyboardInterrupt

    whole = fit(name, arrays, **settings)
    with pytest.raises(KeyboardInterrupt):
        fit(name, arrays, run=tmp_path, on_step=interrupt, **settings)
    taken = []
    resumed = fit(name, arrays, run=tmp_path, on_step=lambda step: taken.append(step.number), **settings)
    assert taken == [3, 4, 5]
    assert same_weights(whole, resumed)
    assert whole.history_ == resumed.history_


@pytest.mark.parametrize("name", NAMES)
def test_global_random_state_is_left_alone(name, arrays):
    def state():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = state()
    fit(name, arrays).predict(arrays.xt)
    assert state() == before


@pytest.mark.parametrize("name", NAMES)
def test_global_random_state_has_no_influence(name, arrays):
    models = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        models.append(fit(name, arrays))
    assert same_weights(*models)


@pytest.mark.parametrize("name", NAMES)
def test_other_seeds_give_other_weights(name, arrays):
    assert not same_weights(fit(name, arrays), fit(name, arrays, random_state=1))


# estimators


@pytest.mark.parametrize("name", NAMES)
def test_a_clone_is_unfitted_with_the_same_settings_and_trains_alike(name, arrays):
    model = fit(name, arrays)
    copied = clone(model)
    assert copied.get_params(deep=False).keys() == model.get_params(deep=False).keys()
    assert copied.method == model.method
    assert copied.method is not model.method
    assert not hasattr(copied, "network_")
    assert same_weights(copied.fit(arrays.x, arrays.y, arrays.xt, target_labels(name, arrays)), model)


@pytest.mark.parametrize("copy_of", [lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy])
@pytest.mark.parametrize("name", NAMES)
def test_a_pickled_model_predicts_the_same_bits(name, copy_of, arrays):
    model = fit(name, arrays)
    np.testing.assert_array_equal(copy_of(model).predict_proba(arrays.xt), model.predict_proba(arrays.xt))


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_predicts_the_same_bits(name, arrays, tmp_path):
    model = fit(name, arrays)
    loaded = DomainAdapter.load(model.save(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(loaded.predict_proba(arrays.xt), model.predict_proba(arrays.xt))
    np.testing.assert_array_equal(loaded.transform(arrays.xt), model.transform(arrays.xt))
    assert loaded.method == model.method
    assert loaded.history_ == model.history_
    assert same_weights(loaded, model)


@pytest.mark.parametrize(
    "path", sorted({Path(inspect.getfile(kind)) for kind in METHODS.values()}), ids=lambda p: p.stem
)
def test_a_method_fits_on_a_page(path):
    text = path.read_text(encoding="utf-8")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, documented) and ast.get_docstring(node)]
    docstrings = sum(node.body[0].end_lineno - node.body[0].lineno + 1 for node in nodes)
    assert len(text.splitlines()) - docstrings <= 90


TAUGHT = [name for name in NAMES if name not in ("source-only", "adda", "domain-only", "target-only")]


@pytest.mark.parametrize("name", TAUGHT)
def test_known_target_labels_change_the_label_term(name, arrays):
    """Weights alone would not tell: a game may have another player that learns them."""
    found = []
    for known in (arrays.yt, 1 - arrays.yt):
        net, method, _ = game(name, arrays)
        domains = Domains.from_arrays(arrays.x, arrays.y, arrays.xt, known)
        strong = TableAugmentation() if method.two_views else None
        stream = ArrayStream(domains, 8, seed=0, strong_augmentation=strong)
        torch.manual_seed(0)
        played = [terms for _, terms in method.moves(net, stream.at(0), torch.tensor(0.5))]
        found.append([terms["label"].item() for terms in played if "label" in terms])
    assert found[0][0] != found[1][0]


WEIGHED = [(name, key) for name in METHODS for key in ("weight", "distance") if hasattr(METHODS[name](), key)]


@pytest.mark.parametrize(("name", "key"), WEIGHED)
def test_weights_below_zero_are_refused(name, key, arrays):
    method = METHODS[name](**{key: -1.0})
    with pytest.raises(ValueError, match=f"{key}=-1.0 (must be 0 or more|is negative)"):
        method.check(Domains.from_arrays(arrays.x, arrays.y, arrays.xt))
