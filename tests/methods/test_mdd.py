import numpy as np
import pytest
import torch

from dann import MDD
from dann.methods.mdd import log_others


def softmax(g):
    return np.exp(g) / np.exp(g).sum(1, keepdims=True)


def test_the_terms_are_the_papers(sides, terms):
    method = MDD(margin=4.0)
    s = sides(method)
    p_s, p_t = (softmax(s.net.parts["adversary"](torch.from_numpy(f)).detach().numpy()) for f in s.f)
    y_s, y_t = (g.argmax(1) for g in s.g)
    found = terms(method, s)
    assert found["agreement"] == pytest.approx(4 * np.mean([-np.log(p[k]) for p, k in zip(p_s, y_s, strict=True)]))
    assert found["disparity"] == pytest.approx(np.mean([-np.log(1 - p[k]) for p, k in zip(p_t, y_t, strict=True)]))


def test_the_log_of_all_other_classes_stays_exact_where_one_is_certain():
    logits = torch.tensor([[40.0, 0.0, 0.0]], requires_grad=True)
    value = log_others(logits, torch.tensor([0]))
    assert value.item() == pytest.approx(np.log(2) - 40)  # log(1 - p) would be log(0)
    assert torch.autograd.grad(value.sum(), logits)[0].isfinite().all()


def test_the_label_head_learns_from_labels_alone(sides):
    s = sides(MDD())
    found = MDD().loss(s.net, s.source, s.target, torch.tensor(1.0))
    loss = found["agreement"] + found["disparity"]
    assert torch.autograd.grad(loss, s.net.head.weight, allow_unused=True)[0] is None


def test_the_encoder_gets_the_reversed_gradient_and_the_second_head_the_plain_one(warmed, sides, leaves, gradient):
    progress, grown = warmed
    method = MDD(weight=0.3, margin=2.0)
    s = sides(method)
    adversary, views = s.net.parts["adversary"], leaves(s)
    found = method.loss(s.net, *views, torch.tensor(progress))
    loss = found["agreement"] + found["disparity"]
    p_s, p_t = (adversary(v.features).softmax(1)[range(6), g.argmax(1)] for v, g in zip(views, s.g, strict=True))
    plain = -2 * p_s.log().mean() - (1 - p_t).log().mean()
    torch.testing.assert_close(gradient(loss, views), -0.3 * grown * gradient(plain, views), rtol=1e-5, atol=0)
    of_head = [torch.autograd.grad(value, adversary.weight)[0] for value in (loss, plain)]
    torch.testing.assert_close(*of_head)


def test_the_heads_start_apart(sides):
    s = sides(MDD())
    assert not torch.equal(s.net.head.weight, s.net.parts["adversary"].weight)


@pytest.mark.parametrize("settings", [{"margin": 0.0}, {"weight": -0.1}])
def test_settings_that_cannot_train_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        MDD(**settings).check(None)
