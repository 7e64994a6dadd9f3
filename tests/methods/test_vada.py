import pytest
import torch
import torch.nn.functional as F

from dann import MLP, VADA, DomainAdapter
from dann.functional import entropy
from dann.methods.vada import of_length, smoothness_loss


def test_rows_are_scaled_to_a_length_whatever_their_shape():
    torch.manual_seed(0)
    scaled = of_length(torch.randn(5, 3, 4, 4), 3.5)
    torch.testing.assert_close(scaled.flatten(1).norm(dim=1), torch.full((5,), 3.5))
    for length in (1.0, 5.0, 1e6):
        assert of_length(torch.zeros(2, 3), length).tolist() == [[0, 0, 0]] * 2
        tiny = of_length(torch.full((1, 4), 1e-25), length)
        torch.testing.assert_close(tiny.norm(), torch.tensor(length))


def test_the_change_goes_where_the_predictions_change_most():
    """For a linear model of two classes that is along the difference of their weights, one way or the other."""
    weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    x = torch.tensor([[0.1, -0.2], [0.3, 0.3]])

    def predict(rows):
        return rows @ weight.T

    torch.manual_seed(0)
    found = smoothness_loss(predict, x, predict(x), radius=0.5)
    ways = []
    for sign in (1.0, -1.0):
        moved = x + sign * 0.5 * torch.tensor([0.6, 0.8])
        ways.append(F.kl_div(predict(moved).log_softmax(1), predict(x).softmax(1), reduction="none").sum(1))
    low, high = torch.minimum(*ways).mean(), torch.maximum(*ways).mean()
    assert low - 1e-6 <= found <= high + 1e-6
    across = x + 0.5 * torch.tensor([0.8, -0.6])
    assert F.kl_div(predict(across).log_softmax(1), predict(x).softmax(1), reduction="batchmean") < 1e-6


def test_the_direction_is_right_in_bfloat16_too(monkeypatch):
    seen = []
    monkeypatch.setattr("dann.methods.vada.of_length", lambda x, length: seen.append(x) or of_length(x, length))
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.Tanh(), torch.nn.Linear(64, 5))
    x = torch.randn(200, 20)
    for precision in (torch.float32, torch.bfloat16):
        torch.manual_seed(1)
        with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
            smoothness_loss(lambda rows: net(rows).float(), x, net(x).float(), 1.0)
    exact, half = seen[1], seen[3]  # of the start, and of the gradient, in each precision
    assert F.cosine_similarity(exact, half).mean() > 0.7


def test_the_predictions_at_the_row_itself_get_no_gradient():
    weight = torch.randn(2, 3, requires_grad=True)
    x = torch.randn(4, 2)
    held = (x @ weight).detach().requires_grad_()
    loss = smoothness_loss(lambda rows: rows @ weight, x, held, 1.0)
    of_row, of_weight = torch.autograd.grad(loss, [held, weight], allow_unused=True)
    assert of_row is None
    assert of_weight.abs().sum() > 0


def test_the_terms_have_the_papers_weights(sides, terms):
    s = sides(VADA())
    found = {}
    for factor in (1.0, 2.0):
        torch.manual_seed(0)
        found[factor] = terms(VADA(target_weight=0.01 * factor, source_weight=factor), s)
    assert found[1.0]["entropy"] == pytest.approx(0.01 * entropy(s.target.logits).mean().item())
    for name in ("entropy", "source smoothness", "target smoothness"):
        assert found[2.0][name] == pytest.approx(2 * found[1.0][name])
    assert found[1.0]["source smoothness"] > 0


def test_smoothness_is_of_each_sides_own_rows_and_weight(sides, terms, monkeypatch):
    monkeypatch.setattr("dann.methods.vada.smoothness_loss", lambda _, x, logits, radius: radius * (x.T @ logits).sum())
    method = VADA(source_weight=3.0, target_weight=0.2, radius=0.5)
    s = sides(method)
    found = terms(method, s)
    assert found["source smoothness"] == pytest.approx(3.0 * 0.5 * (s.f[0].T @ s.g[0]).sum())
    assert found["target smoothness"] == pytest.approx(0.2 * 0.5 * (s.f[1].T @ s.g[1]).sum())


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_the_features_get_the_reversed_gradient_from_the_start(progress, sides, leaves, gradient):
    method = VADA(weight=0.3)
    s = sides(method)
    views = leaves(s)
    found = method.loss(s.net, *views, torch.tensor(progress))["domain"]
    z_s, z_t = (s.net.parts["domain"](view.features) for view in views)
    plain = F.softplus(z_s).mean() + F.softplus(-z_t).mean()
    torch.testing.assert_close(gradient(found, views), -0.3 * gradient(plain, views))


@pytest.mark.parametrize(
    "settings", [{"radius": 0.0}, {"weight": -1.0}, {"target_weight": -1.0}, {"source_weight": -1.0}]
)
def test_settings_that_cannot_train_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        VADA(**settings).check(None)


@pytest.mark.parametrize("encoding", ["joint", "separate", "per-domain"])
def test_no_change_costs_nothing_whatever_batch_norm_saw(encoding, make_arrays):
    """Rows that do not move keep their predictions, so both come from the same statistics."""
    made = make_arrays(100, 100)
    settings = {"steps": 30, "batch_size": 50, "encoding": encoding, "log_every": 1}
    model = DomainAdapter(VADA(radius=1e-3, target_weight=1.0), MLP((16,), batch_norm=True), **settings)
    history = model.fit(made.x, made.y, made.xt).history_
    assert max(entry["source smoothness"] for entry in history) < 1e-3
    assert max(entry["target smoothness"] for entry in history) < 1e-3
