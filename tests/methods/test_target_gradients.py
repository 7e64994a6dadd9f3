"""Terms of the target's predictions: the gradient that reaches the features is the formula's, not its value alone."""

import pytest
import torch

from dann import ATDOC, BNM, MCC, EntropyMinimization, FixMatch, InformationMaximization, SelfEnsembling


def of_entropy(p):
    return -(p * p.log()).sum(1)


def class_confusion(logits):
    p = (logits / 2.0).softmax(1)
    weight = 1 + torch.exp(-of_entropy(p.detach()))
    joint = p.T @ (weight[:, None] * p)
    joint = joint / joint.sum(1, keepdim=True)
    return (joint.sum() - joint.trace()) / 3


TERMS = [
    (EntropyMinimization(weight=0.3), "entropy", lambda g: 0.3 * of_entropy(g.softmax(1)).mean()),
    (InformationMaximization(0.3, 0.7), "entropy", lambda g: 0.3 * of_entropy(g.softmax(1)).mean()),
    (InformationMaximization(0.3, 0.7), "diversity", lambda g: -0.21 * of_entropy(g.softmax(1).mean(0)[None])[0]),
    (BNM(weight=0.3), "rank", lambda g: -0.3 * torch.linalg.svdvals(g.softmax(1)).sum() / 6),
    (MCC(weight=0.3, temperature=2.0), "confusion", lambda g: 0.3 * class_confusion(g)),
]


@pytest.mark.parametrize(("method", "term", "formula"), TERMS, ids=[f"{type(m).__name__}-{t}" for m, t, _ in TERMS])
def test_the_target_gets_the_formulas_gradient_and_the_source_none(method, term, formula, sides, leaves):
    s = sides(method)
    views = leaves(s)
    found = method.loss(s.net, *views, torch.tensor(0.5))[term]
    of_source, of_target = torch.autograd.grad(found, [v.features for v in views], allow_unused=True)
    (expected,) = torch.autograd.grad(formula(s.net.head(views[1].features)), views[1].features)
    assert of_source is None
    torch.testing.assert_close(of_target, expected)


def test_fixmatch_teaches_what_is_predicted_of_strong_variations(sides):
    method = FixMatch(weight=0.3, threshold=0.0)
    s = sides(method)
    variant = s.target.variant.requires_grad_()
    found = method.loss(s.net, s.source, s.target, torch.tensor(0.5))["consistency"]
    logs, label = s.net.head(variant).log_softmax(1), s.target.logits.argmax(1)
    expected = -0.3 * logs[range(6), label].mean()
    gradients = [torch.autograd.grad(value, variant, retain_graph=True)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_self_ensembling_moves_the_learner_to_the_teacher(sides):
    method = SelfEnsembling(weight=2.0, threshold=0.0, balance=0.3)
    s = sides(method)
    variant = s.target.variant.requires_grad_()
    found = method.loss(s.net, s.source, s.target, torch.tensor(0.5))
    learned, taught = s.net.head(variant).softmax(1), s.net.parts["teacher"](s.target.x).softmax(1)
    mean = learned.mean(0) + 1e-6
    balance = -(mean.log() / 3 + (1 - learned.mean(0) + 1e-6).log() * 2 / 3).sum()
    for term, value in (("consistency", 2 * (learned - taught).square().mean()), ("balance", 0.6 * balance)):
        gradients = [torch.autograd.grad(v, variant, retain_graph=True)[0] for v in (found[term], value)]
        torch.testing.assert_close(*gradients)


def test_atdoc_teaches_what_the_neighbours_agree_on(sides, leaves):
    method = ATDOC(weight=0.4, neighbours=2, memory=8)
    s = sides(method)
    memory = s.net.parts["memory"]
    memory.index.copy_(torch.arange(100, 108))
    memory.features.copy_(torch.nn.functional.normalize(torch.randn(8, 4)))
    memory.probabilities.copy_(torch.randn(8, 3).softmax(1))
    views = leaves(s)
    agreement, label = memory.neighbours(views[1], 2).max(1)
    found = method.loss(s.net, *views, torch.tensor(0.5))["neighbours"]
    losses = -s.net.head(views[1].features).log_softmax(1)[range(6), label]
    expected = 0.4 * 0.5 * (agreement * losses).sum() / agreement.sum()
    gradients = [torch.autograd.grad(value, views[1].features)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)
