import numpy as np
import pytest
import torch
from torch import nn

from dann import MLP, DomainAdapter, DomainOnly, Domains, Network, domain_accuracy
from dann.engine import train
from dann.optimizers import Optimizer
from dann.streams import ArrayStream


def trained(data, steps=80):
    return DomainAdapter(DomainOnly(), MLP(hidden=(8,), domain_hidden=(8,)), steps=steps, batch_size=16, lr=0.02).fit(
        data.x, data.y, data.xt
    )


def test_it_tells_domains_apart_that_can_be_told_apart(make_arrays):
    model, fresh = trained(make_arrays(40, 24)), make_arrays(100, 100, seed=1)
    told = np.concatenate([model.predict_domain(fresh.x), model.predict_domain(fresh.xt)])
    assert domain_accuracy(told, np.repeat([0, 1], 100)) > 0.95


def test_labels_that_it_would_not_look_at_are_refused(make_arrays):
    data = make_arrays(40, 24)
    with pytest.raises(ValueError, match="DomainOnly learns no labels: leave y_target out"):
        DomainAdapter("domain-only", steps=1).fit(data.x, data.y, data.xt, data.yt)


def test_it_stays_at_chance_on_equal_domains(make_arrays):
    data = make_arrays(200, 4)
    model = trained(data._replace(x=data.x[:100], y=data.y[:100], xt=data.x[100:]), steps=20)
    fresh = make_arrays(200, 4, seed=1).x
    told = model.predict_domain(fresh)
    assert abs(domain_accuracy(told, np.arange(200) // 100) - 0.5) < 0.12


def test_it_never_touches_the_label_head(arrays):
    torch.manual_seed(0)
    net = Network(nn.Identity(), nn.Linear(3, 4), nn.Linear(4, 2), dim=4, n_classes=2, n_domains=2)
    method = DomainOnly(hidden=())
    net.parts.update(method.build(net))
    before = net.head.weight.detach().clone()
    stream = ArrayStream(Domains.from_arrays(arrays.x, arrays.y, arrays.xt), 8, seed=0)
    list(train(net, method, stream, Optimizer([(list(net.parameters()), 0.001)], "adam", 0.9), steps=5))
    assert torch.equal(net.head.weight, before)


def test_encoder_and_domain_head_tell_the_domains_apart_together_without_reversal(sides):
    s = sides(DomainOnly())
    x = s.batch.x.requires_grad_()
    ((players, terms),) = DomainOnly().moves(s.net, s.batch, torch.tensor(0.5))
    assert players == ("encoder", "domain")
    z = s.net.parts["domain"](x)
    expected = nn.functional.softplus(z[:6]).mean() + nn.functional.softplus(-z[6:]).mean()
    torch.testing.assert_close(terms["domain"], expected)
    found = [torch.autograd.grad(value, x)[0] for value in (terms["domain"], expected)]
    torch.testing.assert_close(*found)
