import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from dann import FixMatch, Sum, TableAugmentation
from dann.methods.fixmatch import confident_cross_entropy


def test_only_confident_rows_teach(sides, terms):
    s = sides(FixMatch(), rows=8, seed=3)
    method = FixMatch(weight=2.0, threshold=0.5)
    taught = log_softmax(s.g[1], 1)
    learned = log_softmax(s.net(s.target.variant)[1].detach().numpy(), 1)
    losses = []
    for weak, strong in zip(taught, learned, strict=True):
        best = weak.argmax()
        losses.append(-strong[best] if np.exp(weak[best]) >= 0.5 else 0.0)
    assert 0 < np.count_nonzero(losses) < 8
    found = terms(method, s)
    assert found["consistency"] == pytest.approx(2 * np.mean(losses))
    assert found["label"] == pytest.approx(-log_softmax(s.g[0], 1)[range(8), s.source.y].mean())


def test_the_weak_view_is_the_teacher_and_gets_no_gradient():
    weak, strong = (torch.randn(6, 3, requires_grad=True) for _ in range(2))
    confident_cross_entropy(strong, 5 * weak, 0.4).backward()
    assert weak.grad is None
    assert strong.grad.abs().sum() > 0


def test_sums_know_that_a_part_needs_two_views():
    from dann import DANN, MCC

    assert Sum(DANN(), FixMatch()).two_views
    assert not Sum(DANN(), MCC()).two_views


@pytest.mark.parametrize(
    ("method", "message"), [(FixMatch(weight=-1), "weight=-1 must be 0"), (FixMatch(threshold=1.0), "threshold=1.0")]
)
def test_settings_that_train_nothing_are_refused(method, message):
    with pytest.raises(ValueError, match=message):
        method.check(None)


@pytest.mark.parametrize("name", ["fixmatch", "self-ensembling", "vada"])
def test_strong_variations_leave_no_trace_in_the_statistics_of_predictions(name, arrays):
    from dann import MLP, DomainAdapter

    network = MLP((8,), batch_norm=True)
    settings = {"steps": 60, "batch_size": 24, "encoding": "per-domain", "lr": 1e-9}
    fitted = [
        DomainAdapter(method, network, strong_augmentation=TableAugmentation(noise=50.0), **settings)
        .fit(arrays.x, arrays.y, arrays.xt)
        .network_.encoder[1]
        for method in (name, "source-only")
    ]
    torch.testing.assert_close(fitted[0].running_mean, fitted[1].running_mean, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(fitted[0].running_var, fitted[1].running_var, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("encoding", ["joint", "separate"])
def test_a_variation_that_changes_nothing_teaches_what_is_predicted(encoding, make_arrays, monkeypatch):
    from dann import MLP, DomainAdapter
    from dann.methods import fixmatch

    seen = []

    def watched(logits, taught, threshold):
        seen.append((logits.detach(), taught.detach()))
        return confident_cross_entropy(logits, taught, threshold)

    monkeypatch.setattr(fixmatch, "confident_cross_entropy", watched)
    made = make_arrays(100, 100)
    settings = {"steps": 10, "batch_size": 50, "encoding": encoding, "compile": False}
    nothing = TableAugmentation(noise=0.0)
    model = DomainAdapter(FixMatch(), MLP((16,), batch_norm=True), strong_augmentation=nothing, **settings)
    model.fit(made.x, made.y, made.xt)
    for logits, taught in seen:
        torch.testing.assert_close(logits, taught)
    assert len(seen) == 10
