import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn
from torch._dynamo.testing import CompileCounter

from dann.functional import (
    GradientReversal,
    annealing,
    covariance,
    cross_entropy,
    domain_loss,
    entropy,
    label_loss,
    mean_entropy,
    mmd,
    reverse_gradient,
    squared_distances,
    warmup,
)
from dann.methods.mcc import confusion
from dann.methods.sliced_wasserstein import sliced_distance

STRENGTHS = [0.0, 0.25, 1.0, 3.0, torch.tensor(0.25)]


# the gradient reversal layer


@settings(max_examples=50)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    st.floats(0, 100),
)
def test_reversal_passes_every_bit_forward(x, strength):
    x = torch.from_numpy(x)
    assert torch.equal(reverse_gradient(x, strength).view(torch.int32), x.view(torch.int32))


@pytest.mark.parametrize("strength", STRENGTHS)
def test_reversal_multiplies_the_gradient_by_minus_strength(strength):
    x = torch.randn(5, 3, requires_grad=True)
    g = torch.randn(5, 3)
    reverse_gradient(x, strength).backward(g)
    torch.testing.assert_close(x.grad, -float(strength) * g)


def test_reversal_carries_a_minus_to_the_second_derivative():
    x = torch.tensor(2.0, requires_grad=True)
    (first,) = torch.autograd.grad(reverse_gradient(x, 0.5) ** 3, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    assert first.item() == pytest.approx(-0.5 * 3 * 2**2)
    # the first derivative is -λ · 3 r(x)², whose own derivative passes the layer once more
    assert second.item() == pytest.approx((-0.5) ** 2 * 6 * 2)


def test_gradient_penalty_behind_a_reversal_trains():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, dtype=torch.float64, requires_grad=True)
    out = torch.tanh(reverse_gradient(x, 0.3) @ weight).sum()
    (g,) = torch.autograd.grad(out, x, create_graph=True)
    (norm,) = torch.autograd.grad(g.square().sum(), weight)
    expected = weight.detach().requires_grad_()
    plain = torch.autograd.grad(torch.tanh(x @ expected).sum(), x, create_graph=True)[0]
    (reference,) = torch.autograd.grad(plain.square().sum(), expected)
    torch.testing.assert_close(norm, 0.3**2 * reference)


def test_reversal_works_under_torch_func_grad():
    g = torch.func.grad(lambda x: (reverse_gradient(x, 2.0) ** 2).sum())(torch.tensor([1.0, -3.0]))
    torch.testing.assert_close(g, torch.tensor([-4.0, 12.0]))


def test_reversal_works_under_vmap_with_a_strength_for_each_row():
    x, strengths = torch.randn(4, 3), torch.tensor([0.0, 0.5, 1.0, 2.0])
    each = torch.func.vmap(torch.func.grad(lambda x, s: reverse_gradient(x, s).sum()))(x, strengths)
    torch.testing.assert_close(each, -strengths[:, None].expand(4, 3))


def test_a_new_strength_does_not_compile_again():
    counter = CompileCounter()

    @torch.compile(backend=counter, fullgraph=True)
    def reverse(x, strength):
        return reverse_gradient(x, strength)

    for value in (0.0, 0.3, 1.0):
        x = torch.ones(3, requires_grad=True)
        reverse(x, torch.tensor(value)).sum().backward()
        torch.testing.assert_close(x.grad, torch.full((3,), -value))
    assert counter.frame_count == 1


def test_a_new_strength_of_the_layer_does_not_compile_again():
    counter, layer = CompileCounter(), GradientReversal(1.0)
    compiled = torch.compile(layer, backend=counter, fullgraph=True)
    for value in (1.0, 0.25):
        layer.strength.fill_(value)
        x = torch.ones(3, requires_grad=True)
        compiled(x).sum().backward()
        torch.testing.assert_close(x.grad, torch.full((3,), -value))
    assert counter.frame_count == 1


def test_an_exported_layer_still_reverses():
    program = torch.export.export(GradientReversal(0.5), (torch.ones(2, 3),)).module()
    x = torch.randn(2, 3, requires_grad=True)
    out = program(x)
    assert torch.equal(out, x)
    out.sum().backward()
    torch.testing.assert_close(x.grad, torch.full((2, 3), -0.5))


@pytest.mark.parametrize("change", [lambda t: t.relu_(), lambda t: t.mul_(2), lambda t: t.zero_()])
def test_an_in_place_operation_may_follow_the_reversal(change):
    x = torch.randn(4, 3, requires_grad=True)
    before = x.detach().clone()
    change(reverse_gradient(x, 1.0)).sum().backward()
    assert torch.equal(x, before)
    assert x.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("strength", [0.5, torch.tensor(0.5)])
def test_reversal_keeps_the_number_format(dtype, strength):
    x = torch.randn(4, 3).to(dtype).requires_grad_()
    out = reverse_gradient(x, strength)
    out.sum().backward()
    assert out.dtype == x.grad.dtype == dtype
    assert torch.equal(out, x)
    assert (x.grad == -0.5).all()


def test_strength_of_the_layer_is_saved_and_restored_with_a_network():
    trained, fresh = (nn.Sequential(nn.Linear(2, 2), GradientReversal()) for _ in range(2))
    trained[1].strength.fill_(0.7)
    fresh.load_state_dict(trained.state_dict())
    assert fresh[1].strength.item() == pytest.approx(0.7)
    assert pickle.loads(pickle.dumps(trained))[1].strength.item() == pytest.approx(0.7)


def test_strength_of_the_layer_moves_with_its_network():
    layer = GradientReversal(0.7)
    assert layer.to("meta").strength.device.type == "meta"
    assert GradientReversal(0.7).double().strength.dtype == torch.float64


# schedules


@pytest.mark.parametrize(
    ("progress", "value"), [(0.0, 0.0), (0.1, 0.46211716), (0.25, 0.84828364), (0.5, 0.98661430), (1.0, 0.99990920)]
)
def test_warmup_has_the_values_of_the_papers_formula(progress, value):
    assert warmup(progress) == pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize(("progress", "value"), [(0.0, 0.01), (0.5, 0.00260847), (1.0, 0.00165560)])
def test_annealing_has_the_values_of_the_papers_formula(progress, value):
    assert 0.01 * annealing(progress) == pytest.approx(value, abs=1e-8)


@pytest.mark.parametrize("schedule", [warmup, annealing])
@settings(max_examples=30)
@given(st.floats(0, 1))
def test_schedules_give_tensors_what_they_give_numbers(schedule, progress):
    as_tensor = schedule(torch.tensor(progress, dtype=torch.float64))
    assert as_tensor.dim() == 0
    assert as_tensor.item() == pytest.approx(schedule(progress), rel=1e-12, abs=1e-300)


def test_warmup_grows_and_annealing_falls_over_the_whole_training():
    progress = torch.linspace(0, 1, 1001, dtype=torch.float64)
    assert (warmup(progress).diff() > 0).all()
    assert (annealing(progress).diff() < 0).all()


# losses


def test_domain_loss_is_the_sum_of_the_domains_means_worked_out_by_hand():
    # σ(0) = 1/2, σ(ln 3) = 3/4: one source row costs ln 2, the target rows cost -ln .75, -ln .75 and -ln .25
    logits = torch.tensor([[0.0, 0.0], [0.0, np.log(3)], [0.0, np.log(3)], [np.log(3), 0.0]])
    loss = domain_loss(logits, torch.tensor([0, 1, 1, 1]))
    assert loss.item() == pytest.approx(np.log(2) + (2 * np.log(4 / 3) + np.log(4)) / 3, rel=1e-6)


def test_domain_loss_of_equal_halves_is_twice_the_mean_over_the_batch():
    logits, domain = torch.randn(8, 2), torch.arange(2).repeat_interleave(4)
    torch.testing.assert_close(domain_loss(logits, domain), 2 * F.cross_entropy(logits, domain))


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_several_sources_weigh_as_much_as_one(smoothing, weighed):
    logits, domain = torch.randn(12, 4), torch.arange(4).repeat_interleave(3)
    weight = torch.ones(12) if weighed else None
    mean = F.cross_entropy(logits, domain, label_smoothing=smoothing)
    torch.testing.assert_close(domain_loss(logits, domain, smoothing, weight), 2 * mean)


def test_a_domain_loss_in_double_precision_is_as_precise():
    logits, domain = torch.randn(7, 2, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 1, 1, 1])
    means = [F.cross_entropy(logits[domain == k], domain[domain == k]) for k in (0, 1)]
    torch.testing.assert_close(domain_loss(logits, domain), means[0] + means[1], rtol=1e-14, atol=0)


def test_logits_without_columns_are_refused():
    with pytest.raises(ValueError, match=r"logits have shape \(4,\); expected \(rows, domains\)"):
        domain_loss(torch.randn(4), torch.tensor([0, 0, 1, 1]))


def test_distances_of_half_precision_are_single():
    a, b = torch.randn(3, 2), torch.randn(4, 2)
    assert squared_distances(a.bfloat16(), b.bfloat16()).dtype == torch.float32


def test_what_few_rows_cannot_tell_is_refused_and_no_nan():
    with pytest.raises(ValueError, match=r"a covariance needs two rows or more; got shape \(1, 3\)"):
        covariance(torch.randn(1, 3))
    assert torch.isfinite(mmd(torch.ones(4, 4), 1))
    for estimator, n, rest in (("unbiased", 1, 3), ("linear", 3, 1), ("biased", 0, 4), ("biased", 9, -5)):
        with pytest.raises(ValueError, match=f"'{estimator}' needs . or more rows on each side; got {n} and {rest}"):
            mmd(torch.ones(4, 4), n, estimator)


def test_an_unknown_estimator_of_the_discrepancy_is_refused():
    with pytest.raises(ValueError, match="unknown estimator 'linaer'; choose one of: biased, unbiased, linear"):
        mmd(torch.ones(4, 4), 2, "linaer")


def test_an_undecided_domain_classifier_costs_ln_2_a_domain_whatever_the_sizes():
    for sizes in ([1, 9], [5, 5], [30, 2]):
        domain = torch.arange(2).repeat_interleave(torch.tensor(sizes))
        assert domain_loss(torch.zeros(len(domain), 2), domain).item() == pytest.approx(2 * np.log(2), rel=1e-6)


def test_repeating_the_rows_of_one_domain_does_not_change_the_domain_loss():
    logits, domain = torch.randn(5, 2), torch.tensor([0, 0, 1, 1, 1])
    more = torch.tensor([0, 1, 2, 3, 4, 2, 3, 4, 2, 3, 4])
    torch.testing.assert_close(domain_loss(logits[more], domain[more]), domain_loss(logits, domain))


def test_one_logit_beside_a_fixed_zero_is_binary_cross_entropy():
    logit = torch.randn(10)
    domain = torch.arange(2).repeat_interleave(5)
    loss = domain_loss(F.pad(logit[:, None], (1, 0)), domain)
    by_side = [F.binary_cross_entropy_with_logits(logit[domain == k], domain[domain == k].float()) for k in (0, 1)]
    torch.testing.assert_close(loss, by_side[0] + by_side[1])


def test_label_smoothing_mixes_the_domain_label_with_a_uniform_one():
    logits = torch.tensor([[0.0, np.log(3)], [0.0, np.log(3)]])
    right, wrong = np.log(4 / 3), np.log(4)  # costs of the probabilities 3/4 and 1/4
    # smoothing .2 puts .9 on the true domain and .1 on the other
    expected = (0.1 * right + 0.9 * wrong) + (0.9 * right + 0.1 * wrong)
    assert domain_loss(logits, torch.tensor([0, 1]), smoothing=0.2).item() == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_ignores_unknown_labels():
    logits = torch.tensor([[0.0, np.log(3)], [5.0, -5.0], [np.log(3), 0.0]])
    loss = cross_entropy(logits, torch.tensor([1, -1, 1]))
    assert loss.item() == pytest.approx((np.log(4 / 3) + np.log(4)) / 2, rel=1e-6)


def test_cross_entropy_without_any_known_label_is_zero_and_pulls_nowhere():
    logits = torch.randn(3, 2, requires_grad=True)
    loss = cross_entropy(logits, torch.full((3,), -1))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_losses_are_computed_in_single_precision_inside_autocast():
    torch.manual_seed(0)
    x, logits = torch.randn(64, 8), torch.randn(64, 3)
    domain = torch.arange(64) % 2
    directions = F.normalize(torch.randn(8, 5), dim=0)
    losses = {
        "covariance": lambda: covariance(x),
        "smoothed": lambda: domain_loss(logits[:, :2], domain, smoothing=0.1),
        "confusion": lambda: confusion(logits, 2.5),
        "sliced": lambda: sliced_distance(x[:32], x[32:] + 1, directions),
    }
    for name, loss in losses.items():
        exact = loss()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(loss(), exact), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_half_precision_logits_are_those_of_the_same_numbers_in_single(dtype):
    torch.manual_seed(0)
    logits, domain = torch.randn(99, 2).to(dtype), torch.arange(2).repeat_interleave(torch.tensor([33, 66]))
    losses = {
        "domain": lambda z: domain_loss(z, domain),
        "one logit": lambda z: domain_loss(z[:, :1], domain),
        "smoothed": lambda z: domain_loss(z, domain, smoothing=0.1),
        "weighted": lambda z: domain_loss(z, domain, weight=torch.linspace(0, 1, 99).to(dtype)),
        "entropy": entropy,
        "mean entropy": mean_entropy,
        "confusion": lambda z: confusion(z, 2.5),
    }
    for name, loss in losses.items():
        assert torch.equal(loss(logits), loss(logits.float())), name
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(loss(logits), loss(logits.float())), name


def test_weights_may_be_counts():
    logits, domain = torch.randn(5, 2), torch.tensor([0, 0, 1, 1, 1])
    counts = torch.tensor([1, 2, 1, 0, 3])
    repeated = torch.arange(5).repeat_interleave(counts)
    torch.testing.assert_close(
        domain_loss(logits, domain, weight=counts), domain_loss(logits[repeated], domain[repeated])
    )


def test_weights_that_are_not_one_a_row_are_refused():
    domain = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"weight has shape \(2, 1\); expected one a row, \(2,\)"):
        domain_loss(torch.randn(2, 2), domain, weight=torch.rand(2, 1))  # would be broadcast to another number


def test_one_logit_a_row_is_that_of_the_second_of_two_domains():
    z, domain = torch.tensor([[2.0], [-1.0], [0.5]]), torch.tensor([0, 1, 1])
    both = torch.cat([torch.zeros_like(z), z], 1)
    assert domain_loss(z, domain) == domain_loss(both, domain)


@pytest.mark.parametrize(("outputs", "labels"), [((8, 1), (8, 1)), ((8, 2), (8,)), ((8,), (8,)), ((7, 1), (8,))])
@pytest.mark.parametrize("complete", [True, False])
def test_continuous_labels_of_another_shape_are_refused(outputs, labels, complete):
    with pytest.raises(ValueError, match="continuous labels have shape"):
        label_loss(torch.zeros(outputs), torch.zeros(labels), complete)


@pytest.mark.parametrize("options", [{}, {"smoothing": 0.1}, {"weight": torch.ones(2)}])
@pytest.mark.parametrize("number", [-1, -100, 2])
def test_no_number_of_a_domain_is_passed_over(options, number):
    with pytest.raises((IndexError, RuntimeError)):
        domain_loss(torch.zeros(2, 2), torch.tensor([0, number]), **options)
