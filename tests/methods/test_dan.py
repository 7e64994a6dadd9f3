import numpy as np
import pytest
import torch

from dann import DAN, JAN, DomainAdapter
from dann.functional import mmd, rbf_kernels

SCALES = (0.5, 2.0)


def kernel(a, b, width):
    return sum(np.exp(-((a - b) ** 2).sum() / (2 * scale * width)) for scale in SCALES)


def slow(f_s, f_t, estimator, kernels):
    """Squared discrepancy by loops over pairs."""
    n = len(f_s)
    pairs = [(i, j) for i in range(n) for j in range(n)]
    if estimator == "linear":
        rows = range(0, n - 1, 2)
        return np.mean(
            [
                kernels(0, i, 0, i + 1) + kernels(1, i, 1, i + 1) - kernels(0, i, 1, i + 1) - kernels(0, i + 1, 1, i)
                for i in rows
            ]
        )
    inside = [(i, j) for i, j in pairs if estimator == "biased" or i != j]
    same = sum(np.mean([kernels(k, i, k, j) for i, j in inside]) for k in (0, 1))
    return same - 2 * np.mean([kernels(0, i, 1, j) for i, j in pairs])


def mean_distance(both):
    n = len(both)
    return sum(((a - b) ** 2).sum() for a in both for b in both) / (n * (n - 1))


@pytest.fixture(autouse=True)
def in_order(request, monkeypatch):
    """Draw the pairs of the linear estimator in the order of the rows, where a loop is to be compared."""
    if "loop" in request.node.name or "jan" in request.node.name:
        monkeypatch.setattr(torch, "randperm", lambda n, device=None: torch.arange(n))


@pytest.mark.parametrize("estimator", ["biased", "unbiased", "linear"])
def test_the_term_is_that_of_a_loop_over_pairs(estimator, sides, terms):
    method = DAN(weight=2.0, scales=SCALES, estimator=estimator)
    s = sides(method)
    width = mean_distance(np.concatenate(s.f))
    expected = slow(*s.f, estimator, lambda k, i, m, j: kernel(s.f[k][i], s.f[m][j], width))
    assert terms(method, s)["mmd"] == pytest.approx(2 * expected)


@pytest.mark.parametrize("estimator", ["biased", "unbiased", "linear"])
def test_jan_multiplies_the_kernels_of_features_and_probabilities(estimator, sides, terms):
    method = JAN(weight=2.0, scales=SCALES, width=1.3, estimator=estimator)
    s = sides(method)
    width = mean_distance(np.concatenate(s.f))
    p = [np.exp(g) / np.exp(g).sum(1, keepdims=True) for g in s.g]

    def joint(k, i, m, j):
        return kernel(s.f[k][i], s.f[m][j], width) * np.exp(-((p[k][i] - p[m][j]) ** 2).sum() / 1.3)

    assert terms(method, s)["mmd"] == pytest.approx(2 * slow(*s.f, estimator, joint))


@pytest.mark.parametrize(
    "method", [DAN(weight=2.0, scales=SCALES), JAN(weight=2.0, scales=SCALES, width=1.3)], ids=["dan", "jan"]
)
def test_both_sides_get_the_gradient_through_all_that_is_compared(method, sides, leaves, gradient):
    s = sides(method)
    views = leaves(s)
    found = method.loss(s.net, *views, torch.tensor(0.5))["mmd"]
    squared = lambda x: (x[:, None] - x[None]).square().sum(2)  # noqa: E731
    apart = squared(torch.cat([view.features for view in views]))
    width = mean_distance(np.concatenate(s.f))
    kernels = sum(torch.exp(-apart / (2 * scale * width)) for scale in SCALES)
    if isinstance(method, JAN):
        kernels = kernels * torch.exp(-squared(torch.cat([view.logits.softmax(1) for view in views])) / 1.3)
    sign = torch.tensor([1.0] * 6 + [-1.0] * 6, dtype=torch.float64)
    expected = 2 * (sign @ kernels @ sign) / 6**2
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient(found, views), gradient(expected, views))


def test_the_biased_discrepancy_of_a_sample_and_itself_is_zero_and_never_negative():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        x, y = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
        kernels = torch.exp(-torch.cdist(torch.cat([x, y]), torch.cat([x, y])).square())
        assert mmd(kernels, 5) >= 0
        kernels = torch.exp(-torch.cdist(torch.cat([x, x]), torch.cat([x, x])).square())
        assert mmd(kernels, 5).item() == pytest.approx(0, abs=1e-12)


def test_the_unbiased_and_the_linear_discrepancy_of_equal_distributions_are_zero_on_average():
    generator = torch.Generator().manual_seed(0)
    for estimator in ("unbiased", "linear"):
        found = []
        for _ in range(400):
            x = torch.randn(16, 2, generator=generator)
            found.append(mmd(torch.exp(-torch.cdist(x, x).square() / 2), 8, estimator).item())
        assert abs(np.mean(found)) < 3 * np.std(found) / len(found) ** 0.5
        assert min(found) < 0


@pytest.mark.parametrize("method", [DAN, JAN])
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"estimator": "fast"}, "unknown estimator 'fast'; choose one of: biased, unbiased, linear"),
        ({"scales": (1.0, 0.0)}, "scales="),
    ],
)
def test_settings_that_make_no_kernel_are_refused(method, settings, says):
    with pytest.raises(ValueError, match=says):
        method(**settings).check(None)


def test_the_width_of_jans_second_kernel_is_above_zero():
    with pytest.raises(ValueError, match="width=0"):
        JAN(width=0.0).check(None)


def test_the_linear_estimator_pairs_rows_of_all_sources():
    """Rows of several sources lie in blocks; their mixture is the target's distribution here."""
    found = []
    for seed in range(200):
        torch.manual_seed(seed)
        source = torch.cat([torch.randn(16, 1) - 4, torch.randn(16, 1) + 4])
        target = torch.randn(32, 1) + 8 * torch.randint(2, (32, 1)) - 4
        both = torch.cat([source, target])
        found.append(mmd(torch.exp(-torch.cdist(both, both).square() / 8), 32, "linear").item())
    assert abs(np.mean(found)) < 0.05


def test_collapsed_features_are_no_distance_apart_where_denormals_are_flushed(arrays):
    class Off(torch.nn.Module):
        """An encoder whose units are all off."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(3, 4))

        def forward(self, x):
            return (x @ self.weight).relu()

    adapter = DomainAdapter(DAN(), Off(), steps=2, log_every=1, device="cpu").fit(arrays.x, arrays.y, arrays.xt)
    assert [entry["mmd"] for entry in adapter.history_] == [0, 0]


def test_features_that_have_collapsed_leave_the_gradient_finite(sides):
    s = sides(DAN())
    features = torch.zeros(6, 4, dtype=torch.float64, requires_grad=True)
    s.source.features, s.target.features = features, features * 1.0
    term = DAN().loss(s.net, s.source, s.target, torch.tensor(1.0))["mmd"]
    (gradient,) = torch.autograd.grad(term, features)
    assert gradient.isfinite().all()


def test_the_width_of_the_kernels_is_a_constant():
    squared = torch.rand(5, 5, dtype=torch.float64)
    squared = (squared + squared.T).fill_diagonal_(0).requires_grad_()
    (slope,) = torch.autograd.grad(rbf_kernels(squared, (0.5, 1.0)).sum(), squared)
    width = squared.detach().sum() / 20
    (expected,) = torch.autograd.grad(sum(torch.exp(-squared / (2 * a * width)) for a in (0.5, 1.0)).sum(), squared)
    torch.testing.assert_close(slope, expected)
