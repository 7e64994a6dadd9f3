import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from dann import DANN, MLP, PADA, DomainAdapter, SourceOnly


def test_source_rows_count_as_their_class_does_in_the_target(sides, terms):
    method = PADA(weight=0.7)
    s = sides(method, rows=6)
    shares = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    s.net.parts["shares"].shares.copy_(shares)
    weights = 3 * (0.99 * shares.numpy() + 0.01 * softmax(s.g[1], 1).mean(0))
    assert weights.mean() == pytest.approx(1)
    of_source = weights[s.source.y]
    logits = s.net.parts["domain"](torch.tensor(np.concatenate(s.f))).detach().numpy()[:, 0]
    of_source_domain = (np.log1p(np.exp(logits[:6])) * of_source).mean()
    of_target_domain = np.log1p(np.exp(-logits[6:])).mean()
    found = terms(method, s)
    assert found["label"] == pytest.approx((of_source * -log_softmax(s.g[0], 1)[range(6), s.source.y]).mean())
    assert found["domain"] == pytest.approx(of_source_domain + of_target_domain)


def partial(seed):
    """Four classes in the corners of a square; the target is moved and has only two of them."""
    rng = np.random.default_rng(seed)
    corners = 4 * np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
    y, yt = rng.integers(4, size=400), rng.integers(2, size=400)
    x, xt = (rng.normal(corners[labels], 0.5).astype(np.float32) for labels in (y, yt))
    return x, y, xt + np.array([0.9, 0.0], dtype=np.float32), yt


@pytest.mark.filterwarnings("ignore:source-lost")  # DANN, which this is about
def test_classes_that_the_target_lacks_lose_their_weight_and_it_keeps_what_dann_loses():
    network = MLP((32,), activation="tanh", domain_hidden=(16,))
    scores = {}
    for method in (SourceOnly(), DANN(), PADA()):
        fitted = []
        for seed in range(3):
            x, y, xt, yt = partial(seed)
            adapter = DomainAdapter(
                method, network, steps=600, lr=3e-3, weight_decay=0.0, lr_schedule="constant", random_state=seed
            ).fit(x, y, xt)
            fitted.append(adapter.score(xt, yt))
        scores[type(method).__name__] = np.mean(fitted)
    shares = adapter.network_.parts["shares"].shares
    assert shares[2:].sum() < 0.1
    assert scores["PADA"] > 0.95
    assert scores["PADA"] > scores["DANN"] + 0.1


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="weight=-1 is negative"):
        PADA(weight=-1).check(None)


def test_a_source_of_classes_that_the_target_lacks_counts_for_little():
    from dann import domain_loss

    logits = torch.zeros(6, 3, requires_grad=True)
    weight, domain = torch.tensor([1.0, 1, 1e-4, 1e-4, 1, 1]), torch.tensor([0, 0, 1, 1, 2, 2])
    (of_rows,) = torch.autograd.grad(domain_loss(logits, domain, weight=weight, normalized=False), logits)
    assert of_rows[2:4].abs().max() < 1e-3 * of_rows[:2].abs().max()
    (alike,) = torch.autograd.grad(domain_loss(logits, domain, weight=weight), logits)
    assert alike[2, 1] == pytest.approx(alike[0, 0].item())


def test_a_batch_of_light_classes_counts_for_little(sides, terms):
    method = PADA()
    s = sides(method)
    s.source.y = torch.tensor([0, 1, 2, 2, 2, 2])
    s.net.parts["shares"].shares.copy_(torch.tensor([0.8, 0.15, 0.05], dtype=torch.float64))
    found = terms(method, s)["domain"]
    weights = 3 * s.net.parts["shares"].shares.numpy()[s.source.y]
    logits = s.net.parts["domain"](torch.tensor(np.concatenate(s.f))).detach().numpy()[:, 0]
    expected = (np.log1p(np.exp(logits[:6])) * weights).mean() + np.log1p(np.exp(-logits[6:])).mean()
    assert weights.mean() < 0.8
    assert found == pytest.approx(expected)
