import copy

import numpy as np
import pytest
import torch

from dann import MLP, SHOT, DomainAdapter
from dann.methods.shot import Centres


@pytest.fixture
def source(arrays):
    """A model of the source."""
    adapter = DomainAdapter("source-only", MLP((8,)), steps=60, batch_size=8, lr=0.02, log_every=2, device="cpu")
    return adapter.fit(arrays.x, arrays.y, arrays.xt)


def same_weights(a, b):
    a, b = a.network_.state_dict(), b.network_.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_moves_the_encoder_and_nothing_else(source, arrays):
    before = copy.deepcopy(source.network_.state_dict())
    adapted = source.adapt_to(arrays.xt, steps=5)
    after = adapted.network_.state_dict()
    assert all(torch.equal(source.network_.state_dict()[name], value) for name, value in before.items())
    for name, value in before.items():
        assert torch.equal(after[name], value) != name.startswith("encoder."), name


def test_classes_that_have_moved_are_found_again(make_arrays):
    data = make_arrays(200, 200)
    moved = data.xt + np.array([2.5, 0, 0], np.float32)  # the boundary of the source's model cuts off a part of class 0
    adapter = DomainAdapter(
        "source-only",
        MLP((16,), "relu"),
        steps=200,
        lr=1e-3,
        batch_size=32,
        weight_decay=0.0,
        lr_schedule="constant",
        scaling="none",
        device="cpu",
    )
    source = adapter.fit(data.x, data.y, data.xt)
    adapted = source.adapt_to(moved, steps=300, lr=3e-3)
    assert adapted.score(moved, data.yt) > source.score(moved, data.yt) + 0.05
    assert adapted.score(moved, data.yt) > 0.95


def test_the_terms_are_the_papers(sides):
    method = SHOT(weight=0.3, diversity=2.0)
    s = sides(method)
    ((players, terms),) = method.moves(s.net, s.batch, torch.tensor(0.5))
    p = np.exp(s.g[1]) / np.exp(s.g[1]).sum(1, keepdims=True)
    centres = (p.T @ s.f[1]) / p.sum(0)[:, None]
    cosine = (s.f[1] / np.linalg.norm(s.f[1], axis=1)[:, None]) @ (centres / np.linalg.norm(centres, axis=1)[:, None]).T
    pseudo, mean = cosine.argmax(1), p.mean(0)
    assert players == ("encoder",)
    assert terms["entropy"].item() == pytest.approx(-(p * np.log(p)).sum(1).mean())
    assert terms["diversity"].item() == pytest.approx(2 * (mean * np.log(mean)).sum())
    assert terms["pseudo"].item() == pytest.approx(-0.3 * np.log(p[np.arange(6), pseudo]).mean())


def test_the_encoder_gets_the_gradient_of_every_term(sides):
    method = SHOT(weight=0.3, diversity=2.0)
    s = sides(method)
    x = s.batch.x.requires_grad_()  # the encoder is the identity
    ((_, terms),) = method.moves(s.net, s.batch, torch.tensor(0.5))
    p = s.net.head(x[6:]).softmax(1)
    pseudo, mean = Centres(3, 4).double().nearest(x[6:], p), p.mean(0)
    expected = {
        "entropy": -(p * p.log()).sum(1).mean(),
        "diversity": 2 * (mean * mean.log()).sum(),
        "pseudo": -0.3 * p[range(6), pseudo].log().mean(),
    }
    for name, value in expected.items():
        found = [torch.autograd.grad(v, x, retain_graph=True)[0] for v in (terms[name], value)]
        torch.testing.assert_close(*found, msg=lambda says, name=name: f"{name}: {says}")


def test_centres_remember_the_batches_before():
    centres = Centres(2, 2)
    one_hot = torch.eye(2)
    for _ in range(50):
        centres.nearest(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), one_hot)
    assert centres.nearest(torch.tensor([[0.9, 0.1]]), torch.tensor([[0.0, 1.0]])).tolist() == [0]


def test_a_class_that_no_row_is_predicted_as_gets_no_pseudo_label():
    centres = Centres(3, 2)
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.7, 0.7]])  # the last one is in doubt
    probabilities = torch.tensor([[0.99, 0.0, 0.01], [0.0, 0.99, 0.01], [0.35, 0.34, 0.31]])
    labels = centres.nearest(features, probabilities)
    assert (centres.sums / centres.mass[:, None])[2].tolist() == pytest.approx([0.69, 0.69], abs=0.01)  # nearest to it
    assert labels.tolist() == [0, 1, 0]
    centres.nearest(features[2:], torch.tensor([[0.3, 0.3, 0.4]]))
    assert centres.nearest(features, probabilities).tolist() == [0, 1, 2]


def test_a_saved_model_predicts_the_same_bits(source, arrays, tmp_path):
    adapted = source.adapt_to(arrays.xt, SHOT(weight=0.1), steps=3)
    loaded = DomainAdapter.load(adapted.save(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(loaded.predict_proba(arrays.xt), adapted.predict_proba(arrays.xt))
    assert loaded.method == SHOT(weight=0.1)


@pytest.mark.parametrize("settings", [{"weight": -1.0}, {"diversity": -1.0}])
def test_settings_that_cannot_train_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        SHOT(**settings).check(None)
