import pytest
import torch
from torch import nn

from dann.optimizers import Optimizer

SETTINGS = [
    {"kind": "adam", "momentum": 0.9},
    {"kind": "adam", "momentum": 0.5, "weight_decay": 0.01},
    {"kind": "adamw", "momentum": 0.9, "weight_decay": 0.01},
    {"kind": "sgd"},
    {"kind": "sgd", "momentum": 0.9, "weight_decay": 0.01},
]


def weights():
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((4, 3), (4,), (2, 4))]


def gradients(step):
    generator = torch.Generator().manual_seed(100 + step)
    return [torch.randn(w.shape, generator=generator) for w in weights()]


def both(kind="sgd", momentum=0.0, weight_decay=0.0):
    """Return weights in two groups and our optimiser on them, and the same of PyTorch's."""
    ours, theirs = weights(), weights()
    groups = [{"params": theirs[:2], "lr": 0.1}, {"params": theirs[2:], "lr": 0.01}]
    common = {"weight_decay": weight_decay, "fused": True}
    if kind in ("adam", "adamw"):
        theirs_kind = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
        reference = theirs_kind(groups, betas=(momentum, 0.999), **common)
    else:
        reference = torch.optim.SGD(groups, momentum=momentum, **common)
    return ours, Optimizer([(ours[:2], 0.1), (ours[2:], 0.01)], kind, momentum, weight_decay), theirs, reference


@pytest.mark.parametrize("settings", SETTINGS)
def test_it_gives_the_bits_of_pytorchs_optimisers(settings):
    ours, optimizer, theirs, reference = both(**settings)
    for step in range(6):
        factor = 1 / (1 + step)
        optimizer.scale(factor)
        for group, lr in zip(reference.param_groups, (0.1, 0.01), strict=True):
            group["lr"] = lr * factor
        slopes = gradients(step)
        if step == 3:
            slopes[1] = None  # the parameter sits out
        optimizer.step(ours, slopes)
        for parameter, slope in zip(theirs, slopes, strict=True):
            parameter.grad = slope
        reference.step()
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.equal(mine, other)


@pytest.mark.parametrize("settings", SETTINGS)
def test_some_of_its_parameters_step_and_the_others_stay(settings):
    ours, optimizer, _, _ = both(**settings)
    optimizer.step([ours[2], ours[0]], [gradients(0)[2], gradients(0)[0]])
    same = [torch.equal(mine, before) for mine, before in zip(ours, weights(), strict=True)]
    assert same == [False, True, False]


@pytest.mark.parametrize("clip_norm", [0.5, 100.0])
def test_gradients_are_clipped_as_pytorch_clips_them(clip_norm):
    ours, theirs = weights(), weights()
    optimizer = Optimizer([(ours[:2], 0.1), (ours[2:], 0.01)], "sgd", clip_norm=clip_norm)
    reference = torch.optim.SGD([{"params": theirs[:2], "lr": 0.1}, {"params": theirs[2:], "lr": 0.01}], fused=True)
    slopes = gradients(0)
    slopes[1] = None
    kept = [None if slope is None else slope.clone() for slope in slopes]
    optimizer.step(ours, slopes)
    for parameter, slope in zip(theirs, kept, strict=True):
        parameter.grad = None if slope is None else slope.clone()
    nn.utils.clip_grad_norm_(theirs, clip_norm)
    reference.step()
    for mine, other, before in zip(ours, theirs, weights(), strict=True):
        assert torch.allclose(mine, other, rtol=1e-6, atol=0)
        assert torch.equal(mine, before) == (mine is ours[1])
    assert all(slope is None or torch.equal(slope, before) for slope, before in zip(slopes, kept, strict=True))


def test_gradients_whose_squares_are_infinite_are_clipped_too():
    weight = nn.Parameter(torch.ones(2))
    Optimizer([([weight], 0.1)], "sgd", clip_norm=1.0).step([weight], [torch.tensor([3e30, 0.0])])
    assert weight.tolist() == pytest.approx([0.9, 1.0])


@pytest.mark.parametrize("settings", SETTINGS)
def test_it_goes_on_from_its_state(settings):
    whole, optimizer, _, _ = both(**settings)
    for step in range(3):
        optimizer.step(whole, gradients(step))
    resumed, later, _, _ = both(**settings)
    for mine, other in zip(resumed, whole, strict=True):
        mine.data.copy_(other.detach())
    later.restore(optimizer.state())
    for step in range(3, 6):
        optimizer.step(whole, gradients(step))
        later.step(resumed, gradients(step))
    for mine, other in zip(resumed, whole, strict=True):
        assert torch.equal(mine, other)


def test_it_can_take_a_recorded_state_only_of_as_many_parameters():
    _, optimizer, _, _ = both(kind="adam", momentum=0.9)
    with pytest.raises(ValueError, match="zip"):
        Optimizer([(weights()[:1], 0.1)], "adam", 0.9).restore(optimizer.state())


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="unknown optimizer 'lbfgs'; choose one of: adam, adamw, sgd"):
        Optimizer([(weights(), 0.1)], "lbfgs")


@pytest.mark.parametrize(
    ("setting", "says"),
    [({"momentum": 1.0}, "momentum=1.0 must lie in"), ({"weight_decay": float("nan")}, "weight_decay=nan must be")],
)
def test_settings_out_of_range_are_refused(setting, says):
    with pytest.raises(ValueError, match=says):
        Optimizer([(weights(), 0.1)], **setting)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3, 1)])
def test_gradients_in_another_order_in_memory_are_taken_for_what_they_are(settings, shape):
    """Those of an einsum, or of images that lie channels last: PyTorch's kernels look at memory alone."""

    def stepped(arrange):
        parameter = nn.Parameter(torch.arange(24.0)[: torch.Size(shape).numel()].reshape(shape) / 10)
        optimizer = Optimizer([([parameter], 0.1)], **settings)
        for step in range(3):
            optimizer.step([parameter], [arrange(torch.randn(shape, generator=torch.Generator().manual_seed(step)))])
        return parameter

    def turned(gradient):
        return gradient.transpose(0, -1).contiguous().transpose(0, -1)

    assert turned(torch.ones(shape)).stride() != torch.ones(shape).stride()
    assert torch.equal(stepped(lambda gradient: gradient), stepped(turned))


@pytest.mark.parametrize("settings", SETTINGS)
def test_weights_may_be_laid_out_anew_between_the_steps(settings):
    made = []
    for arrange in (lambda p: p, lambda p: p.t().contiguous().t()):
        parameter = nn.Parameter(torch.arange(12.0).reshape(4, 3))
        optimizer = Optimizer([([parameter], 0.1)], **settings)
        for step in range(3):
            optimizer.step([parameter], [torch.randn((4, 3), generator=torch.Generator().manual_seed(step))])
            parameter.data = arrange(parameter.data)
        made.append(parameter)
    assert made[0].stride() != made[1].stride()
    assert torch.equal(*made)


def test_sparse_gradients_are_refused_with_the_remedy():
    table = nn.Embedding(5, 2, sparse=True)
    (gradient,) = torch.autograd.grad(table(torch.tensor([1, 2])).sum(), [table.weight])
    with pytest.raises(ValueError, match=r"shape \(5, 2\) is sparse.*sparse=False"):
        Optimizer([([table.weight], 0.1)]).step([table.weight], [gradient])


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_backward_pass_that_needs_the_weights_of_before_fails(settings):
    """As with PyTorch's own optimisers; its fused kernels by themselves leave gradients of mixed weights."""
    ours, optimizer, _, _ = both(**settings)
    loss = (torch.ones(1, 3) @ ours[0].T @ ours[2].T).sum()
    optimizer.step(ours[2:], gradients(0)[2:])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, [ours[0]])


def test_weights_that_are_frozen_at_first_have_a_state_from_their_first_step_on():
    ours = weights()
    ours[0].requires_grad_(False)
    optimizer = Optimizer([(ours, 0.1)], "adam", 0.9)
    assert [len(known) for known in optimizer.state()] == [0, 3, 3]
    optimizer.step(ours[1:], gradients(0)[1:])
    optimizer.step(ours, gradients(1))
    again = Optimizer([(ours, 0.1)], "adam", 0.9)
    again.restore(optimizer.state())
    assert [counts.item() for *_, counts in again.state()] == [1, 2, 2]


@pytest.mark.parametrize("take", [lambda w: w[:, :2], lambda w: w[::2], lambda w: w[:1].expand(4, 3)])
def test_weights_with_gaps_in_memory_are_refused(take):
    """The kernels would write to what lies between."""
    with pytest.raises(ValueError, match="have gaps or repeats in memory"):
        Optimizer([([nn.Parameter(take(torch.ones(4, 3)))], 0.1)])
