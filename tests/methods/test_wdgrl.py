import pytest
import torch
from torch import nn

from dann import WDGRL
from dann.methods.wdgrl import slope_penalty


def test_the_critic_steps_come_first_and_raise_the_distance_that_the_encoder_lowers(sides):
    method = WDGRL(critic_steps=2, weight=3.0)
    s = sides(method)
    moves = list(method.moves(s.net, s.batch, torch.tensor(0.5)))
    assert [players for players, _ in moves] == [("critic",), ("critic",), ("encoder", "head")]
    critic = s.net.parts["critic"]
    gap = (critic(torch.from_numpy(s.f[0])).mean() - critic(torch.from_numpy(s.f[1])).mean()).item()
    assert moves[0][1]["distance"].item() == pytest.approx(-gap)
    assert moves[-1][1]["distance"].item() == pytest.approx(3 * gap)


@pytest.mark.parametrize("slope", [0.0, 1.0, 3.0])
def test_the_penalty_of_a_linear_critic_is_the_squared_excess_of_its_slope(slope):
    critic = nn.Linear(2, 1)
    with torch.no_grad():
        critic.weight.copy_(slope * torch.tensor([[0.6, 0.8]]))
    assert slope_penalty(critic, torch.randn(5, 2), torch.randn(3, 2)).item() == pytest.approx(
        (slope - 1) ** 2, abs=1e-6
    )


def test_the_penalty_looks_between_the_domains_too():
    class Step(nn.Module):
        """Slope 1 everywhere but in the middle, where it is 5."""

        def forward(self, x):
            inside = (x.abs() < 0.9).to(x)
            return (x * (1 + 4 * inside)).sum(1, keepdim=True)

    ends = torch.full((1000, 1), 1.0)
    torch.manual_seed(0)
    found = slope_penalty(Step(), ends, -ends).item()
    assert found == pytest.approx(
        16 * 0.9 / 3, rel=0.1
    )  # a third of the points lie between, nine tenths of them inside


def test_the_encoder_does_not_move_the_critic_nor_the_critic_the_encoder(sides):
    s = sides(WDGRL())
    s.batch.x.requires_grad_()
    (_, terms), *_ = WDGRL().moves(s.net, s.batch, torch.tensor(0.5))
    assert torch.autograd.grad(sum(terms.values()), s.batch.x, allow_unused=True)[0] is None


def test_the_critic_is_kept_near_slope_one_by_the_weight_of_the_penalty(sides):
    method = WDGRL(hidden=(), penalty=7.0)  # a linear critic: its slope is the same wherever it is measured
    s = sides(method)
    weight = s.net.parts["critic"][0].weight
    (_, terms), *_ = method.moves(s.net, s.batch, torch.tensor(0.5))
    expected = 7 * (weight.norm() - 1) ** 2
    torch.testing.assert_close(terms["slope"], expected)
    found = [torch.autograd.grad(value, weight)[0] for value in (terms["slope"], expected)]
    torch.testing.assert_close(*found)


def test_both_sides_move_to_shrink_the_distance(sides):
    method = WDGRL(critic_steps=1, weight=3.0)
    s = sides(method)
    x, critic = s.batch.x.requires_grad_(), s.net.parts["critic"]
    _, (_, terms) = method.moves(s.net, s.batch, torch.tensor(0.5))
    found = torch.autograd.grad(terms["distance"], x)[0]  # the encoder is the identity
    (expected,) = torch.autograd.grad(3 * (critic(x[:6]).mean() - critic(x[6:]).mean()), x)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("settings", [{"critic_steps": 0}, {"penalty": 0.0}])
def test_a_critic_that_measures_nothing_is_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        WDGRL(**settings).check(None)
