import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from torch import nn

from dann import DIRTT, MLP, DomainAdapter
from dann.methods.self_ensembling import Teacher


def test_terms_are_certainty_smoothness_and_the_teachers_divergence(sides):
    method = DIRTT(target_weight=0.5, teacher_weight=0.25)
    s = sides(method, rows=6)
    with torch.no_grad():
        s.net.parts["teacher"].head.weight.mul_(1.5)
    p, taught = softmax(s.g[1], 1), softmax(s.net.parts["teacher"](s.target.x).numpy(), 1)
    players, found = next(method.moves(s.net, s.batch, torch.tensor(0.5)))
    assert players == ("encoder", "head")
    assert found["entropy"].item() == pytest.approx(0.5 * -(p * np.log(p)).sum(1).mean())
    assert found["teacher"].item() == pytest.approx(0.25 * rel_entr(taught, p).sum(1).mean())
    assert found["smoothness"].item() > 0


def test_the_encoder_gets_the_gradient_of_certainty_and_of_the_teachers_divergence(sides):
    method = DIRTT(target_weight=0.5, teacher_weight=0.25)
    s = sides(method)
    with torch.no_grad():
        s.net.parts["teacher"].head.weight.mul_(1.5)
    x = s.batch.x.requires_grad_()  # the encoder is the identity
    _, terms = next(method.moves(s.net, s.batch, torch.tensor(0.5)))
    p, taught = s.net.head(x[6:]).softmax(1), s.net.parts["teacher"](x[6:]).softmax(1)
    expected = {
        "entropy": -0.5 * (p * p.log()).sum(1).mean(),
        "teacher": 0.25 * (taught * (taught.log() - p.log())).sum(1).mean(),
    }
    for name, value in expected.items():
        found = [torch.autograd.grad(v, x, retain_graph=True)[0] for v in (terms[name], value)]
        torch.testing.assert_close(*found, msg=lambda says, name=name: f"{name}: {says}")


def test_smoothness_on_the_target_has_its_weight(sides, monkeypatch):
    monkeypatch.setattr(
        "dann.methods.dirt_t.smoothness_loss", lambda _, x, logits, radius: radius * (x.T @ logits).sum()
    )
    method = DIRTT(target_weight=0.5, radius=0.2)
    s = sides(method)
    _, terms = next(method.moves(s.net, s.batch, torch.tensor(0.5)))
    assert terms["smoothness"].item() == pytest.approx(0.5 * 0.2 * (s.f[1].T @ s.g[1]).sum())


def test_the_teacher_follows_after_every_move(sides):
    method = DIRTT(decay=0.9)
    s = sides(method)
    weight = s.net.head.weight
    before = weight.detach().clone()
    for _ in method.moves(s.net, s.batch, torch.tensor(0.5)):
        weight.data += 1.0  # what the optimiser does of a move
    torch.testing.assert_close(s.net.parts["teacher"].head.weight, before + 0.1)


def test_the_teacher_starts_as_the_fitted_model_and_follows_slowly(sides):
    net = sides(DIRTT()).net
    before, teacher = net.head.weight.detach().clone(), net.parts["teacher"]
    assert torch.equal(teacher.head.weight, before)
    with torch.no_grad():
        net.head.weight.add_(1.0)
    teacher.follow(net, 0.9)
    torch.testing.assert_close(teacher.head.weight, before + 0.1)


def test_the_teacher_has_no_dropout(sides):
    net = sides(DIRTT()).net
    net.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3))
    teacher = Teacher(net, fitted=True).train()
    x = torch.randn(9, 4)
    assert teacher.training
    assert torch.equal(teacher(x), teacher(x))
    assert not torch.equal(*(Teacher(net).train()(x) for _ in range(2)))


def test_it_is_not_built_on_a_network_that_it_does_not_hold(sides):
    net = sides(DIRTT()).net
    assert net.parts["teacher"].head is not net.head
    assert isinstance(net.parts["teacher"].head, nn.Linear)


def test_it_moves_the_boundary_out_of_a_cluster():
    gains = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        y = rng.integers(2, size=400)
        x, xt = (np.stack([rng.normal(4 * y - 2 + move, 0.6), rng.normal(size=400)], 1) for move in (0.0, 1.7))
        model = DomainAdapter(
            "source-only", MLP((16,)), steps=300, random_state=seed, lr=1e-3, weight_decay=0.0, lr_schedule="constant"
        ).fit(x, y, xt)
        refined = model.adapt_to(xt, DIRTT(radius=0.5), steps=300, lr=1e-3)
        assert model.score(xt, y) < 0.93
        gains.append(refined.score(xt, y) - model.score(xt, y))
    assert min(gains) > 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"target_weight": -1.0}, "target_weight=-1.0"), ({"radius": 0.0}, "radius=0.0"), ({"decay": 1.0}, "decay=1.0")],
)
def test_settings_that_train_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DIRTT(**settings).check(None)
