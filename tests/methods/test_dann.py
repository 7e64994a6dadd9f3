from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dann import DANN, MLP, DomainAdapter, Domains, Network, SourceOnly
from dann.datasets import moons
from dann.methods.dann import domain_head, logits_of_domains
from dann.network import View


def linear_net(method, n_domains=2):
    """f(x) = 2x as encoder, a label head (1, -1) · f and a domain logit ½ f: small enough to differentiate by hand."""
    encoder, head = nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False)
    net = Network(nn.Identity(), encoder, head, dim=1, n_classes=2, n_domains=n_domains)
    net.parts.update(method.build(net))
    with torch.no_grad():
        encoder.weight.fill_(2.0)
        head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        for p in net.parts["domain"].parameters():
            p.fill_(0.5 if p.dim() == 2 else 0.0)
    return net


def views(net, x_source, x_target):
    """Source rows of class 0 and unlabelled target rows, encoded."""
    sides = []
    for k, rows in ((0, x_source), (1, x_target)):
        x = torch.tensor(rows).reshape(-1, 1)
        n = len(x)
        features, _ = net(x)
        y = torch.full((n,), 0 if k == 0 else -1)
        sides.append(View(x, y, torch.full((n,), k), torch.arange(n), features, net.head, labelled=k == 0))
    return sides


def gradients(strength, x_source=(1.0, 3.0), x_target=(2.0,)):
    """Gradients of the domain term alone: (encoder weight, domain head weight)."""
    method = DANN(weight=strength, hidden=(), schedule="constant")
    net = linear_net(method)
    loss = method.loss(net, *views(net, x_source, x_target), torch.tensor(0.0))["domain"]
    return [g.item() for g in torch.autograd.grad(loss, [net.encoder.weight, net.parts["domain"][0].weight])]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def test_gradients_are_those_worked_out_by_hand():
    # the domain logit is z = ½ · 2 · x = x; dL/dz is σ(z)/n_S for source rows and (σ(z) - 1)/n_T for target rows
    dz = np.array([sigmoid(1.0) / 2, sigmoid(3.0) / 2, sigmoid(2.0) - 1])
    x = np.array([1.0, 3.0, 2.0])
    encoder, head = gradients(strength=0.7)
    assert head == pytest.approx((dz * 2 * x).sum(), rel=1e-5)  # dz/d(domain weight) = f = 2x
    assert encoder == pytest.approx(-0.7 * (dz * 0.5 * x).sum(), rel=1e-5)  # dz/d(encoder weight) = ½ x, reversed


def test_the_strength_scales_the_encoders_gradient_and_not_the_domain_heads():
    once, twice, none = gradients(1.0), gradients(2.0), gradients(0.0)
    assert twice[0] == pytest.approx(2 * once[0])
    assert none[0] == 0
    assert once[1] == twice[1] == none[1] != 0


def test_repeating_the_target_rows_changes_no_gradient():
    assert gradients(1.0, x_target=(2.0,) * 5) == pytest.approx(gradients(1.0))


@pytest.mark.parametrize(("schedule", "progress", "strength"), [
    ("warmup", 0.0, 0.0),
    ("warmup", 0.1, 0.46211716),
    ("warmup", 1.0, 0.99990920),
    ("constant", 0.0, 1.0),
])  # fmt: skip
def test_the_schedule_sets_the_strength_from_the_progress_alone(schedule, progress, strength):
    method = DANN(weight=3.0, hidden=(), schedule=schedule)
    net = linear_net(method)
    for _ in range(2):  # a second call knows nothing of the first
        loss = method.loss(net, *views(net, (1.0, 3.0), (2.0,)), torch.tensor(progress))["domain"]
        (gradient,) = torch.autograd.grad(loss, net.encoder.weight)
        assert gradient.item() == pytest.approx(3 * strength * gradients(1.0)[0], rel=1e-5, abs=1e-9)


def test_the_losses_are_the_papers_sum_of_means():
    method = DANN(hidden=())
    net = linear_net(method)
    source, target = views(net, (1.0, 3.0), (2.0, -1.0, 0.5))
    terms = method.loss(net, source, target, torch.tensor(0.5))
    logits = [net.parts["domain"](side.features).squeeze(1) for side in (source, target)]
    domain = sum(F.binary_cross_entropy_with_logits(z, torch.full_like(z, k)) for k, z in enumerate(logits))
    torch.testing.assert_close(terms["domain"], domain)
    torch.testing.assert_close(terms["label"], F.cross_entropy(source.logits, source.y))


def test_the_domain_labels_are_smoothed():
    method = DANN(hidden=(), label_smoothing=0.2)
    net = linear_net(method)
    source, target = views(net, (1.0, 3.0), (2.0, -1.0, 0.5))
    found = method.loss(net, source, target, torch.tensor(0.5))["domain"]
    logits = [net.parts["domain"](side.features).squeeze(1) for side in (source, target)]
    smoothed = zip(logits, (0.1, 0.9), strict=True)  # of two domains: half of it for each
    expected = sum(F.binary_cross_entropy_with_logits(z, torch.full_like(z, k)) for z, k in smoothed)
    torch.testing.assert_close(found, expected)


def test_unlabelled_target_rows_add_nothing_to_the_label_loss():
    method = DANN(hidden=())
    net = linear_net(method)
    source, target = views(net, (1.0, 3.0), (2.0,))
    alone = method.loss(net, source, target, torch.tensor(0.5))["label"]
    others = replace(target, labelled=True, head=lambda features: net.head(features) * -9)  # still -1 in every row
    assert alone.item() == method.loss(net, source, others, torch.tensor(0.5))["label"].item()


def test_known_target_labels_add_their_own_mean_to_the_label_loss():
    method = DANN(hidden=())
    net = linear_net(method)
    source, target = views(net, (1.0, 3.0), (2.0, -1.0))
    known = replace(target, y=torch.tensor([1, -1]), labelled=True)
    both = method.loss(net, source, known, torch.tensor(0.5))["label"]
    expected = F.cross_entropy(source.logits, source.y) + F.cross_entropy(target.logits[:1], torch.tensor([1]))
    torch.testing.assert_close(both, expected)


@pytest.mark.parametrize("n_domains", [2, 3, 5])
def test_the_domain_head_has_one_logit_fewer_than_domains(n_domains):
    net = linear_net(DANN(hidden=(7,)), n_domains)
    logits = logits_of_domains(net, torch.randn(4, 1))
    assert net.parts["domain"][-1].out_features == n_domains - 1
    assert logits.shape == (4, n_domains)
    assert (logits[:, 0] == 0).all()


def test_the_domain_head_takes_its_widths_from_the_backbone_unless_told():
    net = Network(nn.Identity(), nn.Identity(), nn.Identity(), dim=6, n_classes=2, n_domains=2, domain_hidden=(9, 8))
    assert [m.out_features for m in domain_head(net, None) if isinstance(m, nn.Linear)] == [9, 8, 1]
    assert [m.out_features for m in domain_head(net, ()) if isinstance(m, nn.Linear)] == [1]


def test_the_multiplier_is_the_domain_heads_learning_rate_in_units_of_the_networks(arrays):
    models = {
        m: DomainAdapter(DANN(lr_multiplier=m), MLP(hidden=(4,)), steps=1, lr=0.1, optimizer="sgd", random_state=0).fit(
            arrays.x, arrays.y, arrays.xt
        )
        for m in (1e-9, 1.0, 3.0)
    }
    start, once, thrice = (models[m].network_.parts["domain"][0].weight.detach() for m in (1e-9, 1.0, 3.0))
    torch.testing.assert_close(thrice - start, 3 * (once - start), atol=1e-6, rtol=1e-3)
    assert torch.equal(models[1.0].network_.head[0].weight, models[3.0].network_.head[0].weight)


def test_weight_0_trains_the_classifier_of_source_only(arrays):
    """Both draw the same first weights for encoder and head, and a head that only watches changes nothing."""
    settings = {"backbone": MLP(hidden=(8,)), "steps": 20, "batch_size": 8}
    watched = DomainAdapter(DANN(weight=0.0), **settings).fit(arrays.x, arrays.y, arrays.xt)
    plain = DomainAdapter(SourceOnly(), **settings).fit(arrays.x, arrays.y, arrays.xt)
    np.testing.assert_allclose(watched.predict_proba(arrays.xt), plain.predict_proba(arrays.xt), atol=1e-6)


@pytest.mark.filterwarnings("ignore:dead-adversary")  # the domains lie far apart
def test_known_target_labels_are_learned(make_arrays):
    """The target's classes are swapped; a few known labels tell."""
    data = make_arrays(80, 40)
    known = np.where(np.arange(40) < 10, 1 - data.yt, -1)
    settings = {
        "backbone": MLP((16,), "relu"),
        "steps": 150,
        "batch_size": 16,
        "lr": 0.01,
        "weight_decay": 0.0,
        "lr_schedule": "constant",
    }
    blind = DomainAdapter(DANN(weight=0.1), **settings).fit(data.x, data.y, data.xt)
    told = DomainAdapter(DANN(weight=0.1), **settings).fit(data.x, data.y, data.xt, known)
    swapped = 1 - data.yt[10:]
    assert blind.score(data.xt[10:], swapped) < 0.5 < 0.9 < told.score(data.xt[10:], swapped)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"schedule": "linear"}, "unknown schedule 'linear'; choose one of: warmup, constant"),
        ({"weight": -1.0}, "weight=-1.0 is negative"),
        ({"lr_multiplier": 0.0}, "the domain head untrained"),
        ({"label_smoothing": 1.0}, r"label_smoothing=1.0 must lie in \[0, 1\)"),
    ],
)
def test_settings_that_cannot_train_are_refused(settings, says, arrays):
    domains = Domains.from_arrays(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(ValueError, match=says):
        DANN(**settings).check(domains)


def test_dann_beats_source_only_on_rotated_moons():
    scores = {"source-only": [], "dann": []}
    for seed in range(3):
        task = moons(rotation=30.0, seed=seed, n_test=400)
        for name, method in (("source-only", SourceOnly()), ("dann", DANN(lr_multiplier=3.0))):
            model = DomainAdapter(
                method, MLP(hidden=(32, 32), domain_hidden=(32,)), steps=400, lr=0.01, random_state=seed
            )
            model.fit(*task.source, task.target.x)
            scores[name].append(model.score(*task.target_test))
    assert np.mean(scores["dann"]) > np.mean(scores["source-only"]) + 0.04
