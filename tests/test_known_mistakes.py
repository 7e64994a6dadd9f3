"""Ten mistakes of published implementations, each in the form in which a user would meet it."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dann.estimator
from dann import DANN, MLP, DomainAdapter, Domains, Network, classification_metrics, warmup
from dann.datasets.mnist_m import build
from dann.functional import domain_loss, reverse_gradient
from dann.streams import ArrayStream


@dataclass
class Watched(DANN):
    """DANN that hands every step's strength and rows to a list outside."""

    def loss(self, net, source, target, progress):
        SEEN.append((float(self.weight * warmup(progress)), source, target))
        return super().loss(net, source, target, progress)


SEEN: list = []


@pytest.fixture
def watch(arrays):
    """Return a function that trains and returns what `Watched` saw."""

    def fit(steps=6, **data):
        SEEN.clear()
        run = data.pop("run", None)
        on_step = data.pop("on_step", None)
        a = arrays._replace(**data)
        model = DomainAdapter(Watched(), MLP(hidden=(4,)), steps=steps, batch_size=8)
        model.fit(a.x, a.y, a.xt, run=run, on_step=on_step)
        return list(SEEN)

    yield fit
    SEEN.clear()


def test_1_a_discriminator_that_ends_in_a_softmax_over_one_output_would_be_noticed(arrays):
    """The contract's gradient test fails for the mistake and passes for the library."""

    class Softmaxed(DANN):
        def build(self, net):
            return {"domain": nn.Sequential(nn.Linear(net.dim, 1), nn.Softmax(1))}

    sizes = {}
    for method in (Softmaxed(), DANN(hidden=())):
        net = Network(nn.Identity(), nn.Identity(), nn.Linear(3, 2), dim=3, n_classes=2, n_domains=2)
        net.parts.update(method.build(net))
        batch = ArrayStream(Domains.from_arrays(arrays.x, arrays.y, arrays.xt), 8, seed=0).at(0)
        terms = method.loss(net, *net.views(batch), torch.tensor(1.0))
        gradients = torch.autograd.grad(sum(terms.values()), net.group("domain"))
        sizes[type(method)] = sum(g.abs().sum().item() for g in gradients)
    assert sizes[Softmaxed] == 0
    assert sizes[DANN] > 0


@pytest.mark.parametrize("steps", [4, 40])
def test_2_the_strength_starts_at_0_and_passes_the_sigmoids_half_whatever_the_length(steps, watch):
    strengths = [strength for strength, _, _ in watch(steps)]
    assert strengths == pytest.approx([2 / (1 + np.exp(-10 * n / steps)) - 1 for n in range(steps)], abs=1e-6)
    assert strengths[0] == 0
    assert strengths[-1] > 0.99


def test_2_the_strength_survives_an_interruption(watch, tmp_path, monkeypatch):
    monkeypatch.setattr(dann.estimator, "CHECKPOINT_SECONDS", 0.0)
    whole = [strength for strength, _, _ in watch()]

    def interrupt(step):
        if step.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(run=tmp_path, on_step=interrupt)
    assert [strength for strength, _, _ in watch(run=tmp_path)] == whole[3:]


def test_3_weight_1_is_the_papers_weight_not_a_half_or_a_third():
    """The gradient on a source row's logit is that of its own mean over the source, not over the batch."""
    logit = torch.zeros(4, 1, requires_grad=True)
    domain_loss(F.pad(logit, (1, 0)), torch.tensor([0, 0, 1, 1])).backward()
    assert logit.grad.squeeze(1).tolist() == [0.25, 0.25, -0.25, -0.25]  # (σ(0) - d) / 2 rows of the domain


def test_4_the_target_rows_of_a_training_have_no_labels(watch):
    for _, source, target in watch():
        assert (source.y >= 0).all()
        assert (target.y == -1).all()


def test_5_batch_norm_over_both_domains_is_a_named_setting_with_joint_as_the_default():
    assert DomainAdapter().encoding == "joint"
    norm = nn.BatchNorm1d(1)
    net = Network(nn.Identity(), norm, nn.Identity(), dim=1, n_classes=2, n_domains=2, encoding="joint")
    both = torch.tensor([[0.0], [0.0], [4.0], [4.0]])
    net(both)
    assert norm.running_mean.item() == pytest.approx(0.1 * 2.0)


def test_6_an_in_place_activation_may_follow_the_reversal():
    features = torch.randn(4, 3, requires_grad=True)
    head = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 1))
    head(reverse_gradient(features, torch.tensor(0.5))).sum().backward()
    assert features.grad.abs().sum() > 0


@pytest.mark.parametrize(("n_source", "n_target"), [(40, 3), (4, 24), (5, 7)])
def test_7_a_smaller_domain_is_repeated_evenly_and_both_halves_stay_full(n_source, n_target, arrays, watch):
    seen = watch(12, x=arrays.x[:n_source], y=arrays.y[:n_source], xt=arrays.xt[:n_target])
    for side, n in ((1, n_source), (2, n_target)):
        blocks = [entry[side].index for entry in seen]
        assert {len(block) for block in blocks} == {8}
        counts = torch.cat(blocks).bincount(minlength=n)
        assert counts.max() - counts.min() <= 1


def test_8_the_seed_of_mnist_m_sets_the_crop_and_not_only_the_photo():
    photo = np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8)
    blank = np.zeros((6, 28, 28), np.uint8)
    first, again, other = (build(blank, [photo], seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=(1, 2, 3)).all()


def test_9_the_history_shows_whether_the_features_adapt(make_arrays):
    """A domain head that only watches gets good; one that is fought stays near two times ln 2, its loss by chance."""
    data = make_arrays(100, 100)
    data.xt[:, 1] -= 4
    domain = {}
    for weight in (0.0, 1.0):
        model = DomainAdapter(
            DANN(weight=weight),
            MLP((16, 16), "relu", domain_hidden=(16,)),
            steps=150,
            lr=0.01,
            weight_decay=0.0,
            lr_schedule="constant",
            batch_size=32,
            log_every=1,
        )
        history = model.fit(data.x, data.y, data.xt).history_
        domain[weight] = np.mean([entry["domain"] for entry in history[75:]])
    assert domain[0.0] < 0.7
    assert domain[1.0] > 1.0


def test_9_a_collapsed_classifier_shows_in_its_metrics():
    scores = classification_metrics(np.tile([0.4, 0.35, 0.25], (30, 1)), np.arange(30) % 3)
    assert scores["largest_share"] == 1
    assert scores["ari"] == 0


def test_10_the_model_is_that_of_the_last_step_not_of_the_best_target_score(arrays):
    """There is no checkpoint to choose among: fitting on is the only way to another model."""
    weights = []
    model = DomainAdapter(DANN(), MLP(hidden=(4,)), steps=8, batch_size=8)
    model.fit(
        arrays.x,
        arrays.y,
        arrays.xt,
        on_step=lambda step: weights.append(model.network_.head[0].weight.detach().clone()),
    )
    assert len(weights) == 8
    assert torch.equal(model.network_.head[0].weight, weights[-1])
    assert not torch.equal(weights[-1], weights[-2])
