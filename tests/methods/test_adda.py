import numpy as np
import pytest
import torch
from torch import nn

from dann import ADDA, MLP, DomainAdapter


def adapter(**settings):
    return DomainAdapter(
        ADDA(), MLP((8,)), **{"steps": 5, "pretrain_steps": 30, "batch_size": 8, "device": "cpu", **settings}
    )


def test_it_starts_from_the_sources_model_and_keeps_its_encoder_and_label_head(arrays):
    source = DomainAdapter("source-only", MLP((8,)), steps=30, batch_size=8, device="cpu").fit(
        arrays.x, arrays.y, arrays.xt
    )
    model = adapter().fit(arrays.x, arrays.y, arrays.xt)
    before, after = source.network_.state_dict(), model.network_.state_dict()
    for name in ("0.weight", "0.bias"):
        assert torch.equal(after[f"parts.source.{name}"], before[f"encoder.{name}"])
        assert not torch.equal(after[f"encoder.{name}"], before[f"encoder.{name}"])
    assert torch.equal(after["head.0.weight"], before["head.0.weight"])


def test_without_pretraining_it_is_refused_with_the_remedy(arrays):
    with pytest.raises(ValueError, match="ADDA starts from a model of the source: give pretrain_steps, 1000 or so"):
        adapter(pretrain_steps=0).fit(arrays.x, arrays.y, arrays.xt)


def test_the_terms_are_a_game_with_turned_labels(sides):
    s = sides(ADDA())
    (of_domain, domain), (of_encoder, fooled) = ADDA().moves(s.net, s.batch, torch.tensor(0.5))
    assert (of_domain, of_encoder) == (("domain",), ("encoder",))
    z_s, z_t = (s.net.parts["domain"](torch.from_numpy(f)).detach().numpy().ravel() for f in s.f)
    assert domain["domain"].item() == pytest.approx(np.logaddexp(0, z_s).mean() + np.logaddexp(0, -z_t).mean())
    assert fooled["fooled"].item() == pytest.approx(np.logaddexp(0, z_t).mean())  # target rows passed off as source


def test_source_rows_go_through_the_sources_model_as_it_predicts(sides):
    """With the batch norm statistics of its training, which stay; the target's encoder has those of the batch."""
    s = sides(ADDA())
    s.net.encoder = nn.BatchNorm1d(4).double()
    s.net.encoder.running_mean.fill_(2.0)
    s.net.encoder.running_var.fill_(9.0)
    s.net.parts["source"] = ADDA().build(s.net)["source"]
    (_, terms), _ = ADDA().moves(s.net.train(), s.batch, torch.tensor(0.5))
    x, xt = s.f
    real, fake = (x - 2) / np.sqrt(9 + 1e-5), (xt - xt.mean(0)) / np.sqrt(xt.var(0) + 1e-5)
    z_s, z_t = (s.net.parts["domain"](torch.from_numpy(f)).detach().numpy() for f in (real, fake))
    assert terms["domain"].item() == pytest.approx(np.logaddexp(0, z_s).mean() + np.logaddexp(0, -z_t).mean())
    assert s.net.parts["source"].running_mean.tolist() == [2.0] * 4


def test_each_of_the_game_learns_its_own_part(sides):
    s = sides(ADDA())
    x, domain = s.batch.x.requires_grad_(), s.net.parts["domain"]
    (_, of_domain), (_, of_encoder) = ADDA().moves(s.net, s.batch, torch.tensor(0.5))
    assert torch.autograd.grad(of_domain["domain"], x, allow_unused=True)[0] is None
    found = torch.autograd.grad(of_encoder["fooled"], x)[0]
    (expected,) = torch.autograd.grad(nn.functional.softplus(domain(x[6:])).mean(), x)
    torch.testing.assert_close(found, expected)  # the encoder is the identity


def test_labels_of_the_target_which_it_would_not_use_are_refused(arrays):
    with pytest.raises(ValueError, match="ADDA learns labels from the source alone: leave y_target out"):
        adapter().fit(arrays.x, arrays.y, arrays.xt, arrays.yt)


@pytest.mark.parametrize("seed", [0, None])
def test_an_interrupted_pretraining_goes_on_to_the_same_bits(seed, arrays, tmp_path, monkeypatch):
    import dann.estimator

    monkeypatch.setattr(dann.estimator, "CHECKPOINT_SECONDS", 0.0)
    train, taken = dann.estimator.train, []

    def interrupted(*args, **kwargs):
        for step in train(*args, **kwargs):
            taken.append(step.number)
            if len(taken) == 20:
                raise KeyboardInterrupt
            yield step

    monkeypatch.setattr(dann.estimator, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        adapter(random_state=seed).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    resumed = adapter(random_state=seed).fit(arrays.x, arrays.y, arrays.xt, run=tmp_path)
    assert taken[20] == 19
    whole = adapter(random_state=resumed.seed_).fit(arrays.x, arrays.y, arrays.xt)
    for name, weight in whole.network_.state_dict().items():
        assert torch.equal(resumed.network_.state_dict()[name], weight), name


def test_source_rows_are_judged_through_the_sources_encoder(make_arrays, tmp_path):
    made, held = make_arrays(200, 200), make_arrays(100, 100, seed=1)
    model = adapter(steps=150, pretrain_steps=100, batch_size=32, lr=0.01).fit(made.x, made.y, made.xt)
    assert not any("source" in str(event) for event in model.events_)
    model = DomainAdapter.load(model.save(tmp_path / "adda.safetensors"))
    model.network_.encoder[0].weight.data.zero_()  # an encoder for a target that has nothing of the source
    assert model.score(held.x, held.y) < 0.6
    assert model.evidence(held.x, held.y, held.xt).source_right.mean() > 0.95
    assert model.score(held.x, held.y) < 0.6  # evidence leaves the model as it was
