import numpy as np
import pytest
import torch

from dann import MCD
from dann.methods.mcd import discrepancy


def test_the_moves_are_the_papers_in_its_order(sides):
    method = MCD(encoder_steps=2)
    s = sides(method)
    moves = [(players, list(terms)) for players, terms in method.moves(s.net, s.batch, torch.tensor(0.5))]
    assert moves == [
        (("encoder", "head", "head2"), ["label"]),
        (("head", "head2"), ["label", "discrepancy"]),
        (("encoder",), ["discrepancy"]),
        (("encoder",), ["discrepancy"]),
    ]


def test_the_heads_widen_the_gap_that_the_encoder_narrows(sides):
    method = MCD(encoder_steps=1)
    s = sides(method)
    _, (_, heads), (_, encoder) = method.moves(s.net, s.batch, torch.tensor(0.5))
    assert heads["discrepancy"].item() == pytest.approx(-encoder["discrepancy"].item())
    assert encoder["discrepancy"] > 0


def test_the_discrepancy_is_a_mean_over_rows_and_classes():
    a, b = torch.tensor([[0.0, 0.0], [30.0, 0.0]]), torch.tensor([[30.0, 0.0], [30.0, 0.0]])
    assert discrepancy(a, b).item() == pytest.approx((0.5 + 0.5 + 0 + 0) / 4, abs=1e-6)


def test_both_heads_learn_the_labels(sides):
    method = MCD()
    s = sides(method)
    label, _ = method.losses(s.net, s.batch)
    expected = 0.0
    for head in (s.net.head, s.net.parts["head2"]):
        g = head(torch.from_numpy(s.f[0])).detach().numpy()
        y = np.arange(6) % 3
        expected += np.mean([np.log(np.exp(row).sum()) - row[k] for row, k in zip(g, y, strict=True)])
    assert label.item() == pytest.approx(expected)


def test_the_encoder_learns_the_labels_from_both_heads(sides):
    s = sides(MCD())
    x, y = s.batch.x.requires_grad_(), s.source.y  # the encoder is the identity
    _, terms = next(MCD().moves(s.net, s.batch, torch.tensor(0.5)))
    expected = sum(torch.nn.functional.cross_entropy(head(x[:6]), y) for head in (s.net.head, s.net.parts["head2"]))
    found = [torch.autograd.grad(value, x)[0] for value in (terms["label"], expected)]
    torch.testing.assert_close(*found)


def test_the_heads_start_apart(sides):
    s = sides(MCD())
    assert not torch.equal(s.net.head.weight, s.net.parts["head2"].weight)


def test_an_encoder_that_never_plays_is_refused():
    with pytest.raises(ValueError, match="encoder_steps=0"):
        MCD(encoder_steps=0).check(None)


def test_both_heads_learn_known_target_labels(sides):
    s = sides(MCD())
    y = torch.cat([s.batch.y[:6], torch.arange(6) % 3])
    label, _ = MCD().losses(s.net, s.batch._replace(y=y, target_labelled=True))
    expected = 0.0
    for head in (s.net.head, s.net.parts["head2"]):
        for f, labels in zip(s.f, (y[:6], y[6:]), strict=True):
            expected += torch.nn.functional.cross_entropy(head(torch.from_numpy(f)), labels).item()
    assert label.item() == pytest.approx(expected)


def test_the_heads_keep_learning_the_labels_while_they_part(sides):
    s = sides(MCD())
    (_, everybody), (_, heads), *_ = MCD().moves(s.net, s.batch, torch.tensor(0.5))
    for head in (s.net.head, s.net.parts["head2"]):
        found = [torch.autograd.grad(terms["label"], head.weight, retain_graph=True) for terms in (everybody, heads)]
        torch.testing.assert_close(*found)


def test_both_heads_part_and_the_encoder_makes_both_agree(sides):
    s = sides(MCD())
    x, weights = s.batch.x.requires_grad_(), [s.net.head.weight, s.net.parts["head2"].weight]
    _, (_, heads), (_, encoder), *_ = MCD().moves(s.net, s.batch, torch.tensor(0.5))
    gap = (s.net.head(x[6:]).softmax(1) - s.net.parts["head2"](x[6:]).softmax(1)).abs().mean()
    *of_heads, of_rows = torch.autograd.grad(gap, [*weights, x])
    torch.testing.assert_close(torch.autograd.grad(-heads["discrepancy"], weights), tuple(of_heads))
    torch.testing.assert_close(
        torch.autograd.grad(encoder["discrepancy"], x)[0], of_rows
    )  # the encoder is the identity
