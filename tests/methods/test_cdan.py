import numpy as np
import pytest
import torch

from dann import CDAN, IWCDAN, MLP, DomainAdapter
from dann.methods.cdan import RandomMaps


def softmax(g):
    return np.exp(g) / np.exp(g).sum(1, keepdims=True)


def losses_of_rows(s):
    """Cross entropy of the domain head on the outer products, row by row."""
    found = []
    for domain, (f, g) in enumerate(zip(s.f, s.g, strict=True)):
        joint = np.array([np.outer(p, row).ravel() for p, row in zip(softmax(g), f, strict=True)])
        z = s.net.parts["domain"](torch.from_numpy(joint)).detach().numpy().ravel()
        found.append(np.logaddexp(0, z if domain == 0 else -z))
    return found


@pytest.mark.parametrize("conditioned", [False, True])
def test_the_domain_head_sees_outer_products_weighed_by_certainty(conditioned, sides, terms):
    method = CDAN(entropy=conditioned)
    s = sides(method)
    expected = 0.0
    for rows, g in zip(losses_of_rows(s), s.g, strict=True):
        p = softmax(g)
        weight = 1 + np.exp((p * np.log(p)).sum(1)) if conditioned else np.ones(len(p))
        expected += (weight * rows).sum() / weight.sum()
    assert terms(method, s)["domain"] == pytest.approx(expected)


def test_the_features_get_the_reversed_gradient_and_the_predictions_none(sides):
    method = CDAN(weight=0.5, entropy=False)
    s = sides(method)
    grads = {}
    for weight in (0.5, 1.0):
        s.source.features = s.source.features.detach().requires_grad_()
        loss = CDAN(weight=weight, entropy=False).loss(s.net, s.source, s.target, torch.tensor(1.0))["domain"]
        grads[weight], head = torch.autograd.grad(loss, [s.source.features, s.net.head.weight], allow_unused=True)
        assert head is None
    torch.testing.assert_close(grads[1.0], 2 * grads[0.5])
    joint = method.domain_input(s.net, s.source.features, s.source.logits)
    row = torch.nn.functional.softplus(s.net.parts["domain"](joint)).mean()
    (forward,) = torch.autograd.grad(row, s.source.features)
    torch.testing.assert_close(grads[1.0], -forward, rtol=1e-3, atol=0)  # λ(1) = .99991


def test_the_reversal_grows_with_the_progress_on_both_sides(warmed, sides, leaves, gradient):
    progress, grown = warmed
    method = CDAN(weight=0.5, entropy=False)
    s = sides(method)
    views = leaves(s)
    found = method.loss(s.net, *views, torch.tensor(progress))["domain"]
    plain = 0.0
    for sign, view, g in zip((1, -1), views, s.g, strict=True):
        joint = torch.from_numpy(softmax(g))[:, :, None] * view.features[:, None]
        plain = plain + torch.nn.functional.softplus(sign * s.net.parts["domain"](joint.flatten(1))).mean()
    torch.testing.assert_close(gradient(found, views), -0.5 * grown * gradient(plain, views), rtol=1e-5, atol=0)


def test_random_maps_keep_inner_products_on_average():
    torch.manual_seed(0)
    f, p = torch.randn(2, 30), torch.rand(2, 20)
    joint = RandomMaps(30, 20, 200_000)(f, p)
    expected = (f[0] @ f[1]) * (p[0] @ p[1])
    scale = (f.norm(dim=1).prod() * p.norm(dim=1).prod()).item()
    assert (joint[0] @ joint[1]).item() == pytest.approx(expected.item(), abs=0.05 * scale)


def test_large_outer_products_are_mapped_at_random_with_maps_that_are_saved(make_arrays, tmp_path):
    data = make_arrays(60, 20)
    labels = np.arange(60) % 30  # 30 classes of 150 features: 4500 entries
    adapter = DomainAdapter(CDAN(width=16), MLP((150,)), steps=2, batch_size=8, device="cpu")
    adapter.fit(data.x, labels, data.xt)
    assert adapter.network_.parts["maps"].features.shape == (150, 16)
    assert "maps" not in adapter.network_.players
    loaded = DomainAdapter.load(adapter.save(tmp_path / "m.safetensors"))
    assert torch.equal(loaded.network_.parts["maps"].features, adapter.network_.parts["maps"].features)
    assert np.array_equal(loaded.predict_domain(data.xt), adapter.predict_domain(data.xt))


def test_4096_entries_are_not_mapped(sides):
    assert "maps" not in sides(CDAN(), dim=2048, n_classes=2).net.parts
    assert "maps" in sides(CDAN(), dim=2049, n_classes=2).net.parts


@pytest.mark.parametrize("settings", [{"weight": -1.0}, {"width": 0}])
def test_settings_that_cannot_train_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        CDAN(**settings).check(None)


@pytest.mark.parametrize("method", [CDAN(entropy=True), IWCDAN(entropy=True)])
def test_certainty_is_a_constant_weight(method, sides):
    s = sides(method)
    for side in (s.source, s.target):
        side._logits = side.logits.detach().requires_grad_()
    loss = method.loss(s.net, s.source, s.target, torch.tensor(1.0))["domain"]
    slopes = torch.autograd.grad(loss, [s.source.logits, s.target.logits], allow_unused=True)
    assert slopes == (None, None)
