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
