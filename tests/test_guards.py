"""Guards: planted troubles are named in time, healthy trainings raise no alarm."""

import json
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from dann import DANN, MLP, DomainAdapter, ModelFileError, SourceOnly, TrainingCollapsed, TrainingWarning, runs
from dann.datasets import moons
from dann.domains import Domains
from dann.experiments import family
from dann.experiments.planted import Planted
from dann.guards import Event, Guards, harmful
from dann.network import Network, Normalize

STEPS = 1200
ONSET = 0.4


def adapter(trouble="", onset=ONSET, **settings):
    settings = {"steps": STEPS, "lr": 3e-3, "lr_schedule": "constant", "compile": True, **settings}
    network = MLP((32,), "relu", domain_hidden=(16,))
    return DomainAdapter(Planted(trouble=trouble, onset=onset), network, **settings)


@pytest.fixture(scope="module")
def task():
    return moons(seed=0)


@pytest.mark.parametrize(
    ("trouble", "onset", "kind", "says"),
    [
        ("one class", ONSET, "collapse", "the target's rows get 1.0 classes in effect"),
        ("no gradient", ONSET, "dead-adversary", "no weight of domain changes"),
        ("no gradient", 0.0, "dead-adversary", "no weight of domain changes"),
        ("constant output", 0.0, "dead-adversary", "no weight of domain changes"),
        ("forgetting", ONSET, "source-lost", "accuracy on the source fell"),
        ("explosion", ONSET, "divergence", "the loss 'label' is 1e"),
    ],
)
def test_a_planted_trouble_is_named_within_a_tenth_of_the_training(trouble, onset, kind, says, task):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fitted = adapter(trouble, onset).fit(task.source.x, task.source.y, task.target.x)
    event = next(event for event in fitted.events_ if event.kind == kind)
    assert says in event.message
    assert onset * STEPS < event.step <= (onset + 0.1) * STEPS
    assert f"{kind}: {event.message}" in [str(w.message) for w in seen if w.category is TrainingWarning]
    assert f"(step {event.step} of {STEPS})" in event.message


class Offset(nn.Module):
    """Features that a constant one outweighs: all rows get one class, until something is learned."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 4)

    def forward(self, x):
        return torch.cat([self.layer(x), 30 * torch.ones_like(x[:, :1])], 1)


@pytest.mark.filterwarnings("ignore::dann.TrainingWarning")
@pytest.mark.parametrize(("steps", "named"), [(1200, 120), (120, 60)])  # not in the first 60 of a short training
def test_a_training_that_learns_nothing_is_told(steps, named, task):
    learns_nothing = DomainAdapter("source-only", Offset(), steps=steps, lr=1e-7)
    (event,) = learns_nothing.fit(task.source.x, task.source.y, task.target.x).events_
    assert event.kind == "collapse"
    assert "nothing is learned: the target's rows get 1.0 classes in effect" in event.message
    assert ": lower lr (" in event.message  # there is no weight of the method
    assert event.step == named


def test_features_that_are_the_same_for_all_rows_are_named(task):
    fitted = adapter(steps=1).fit(task.source.x, task.source.y, task.target.x)
    domains = Domains.from_arrays(task.source.x, task.source.y, task.target.x)
    guards = Guards(fitted.network_, fitted.method_, domains, 1000, 1e-3, None, torch.device("cpu"))
    with torch.no_grad():
        fitted.network_.encoder[0].weight.zero_()
    seen = [event for done in (25, 50, 75) for event in guards.look(done, {})]
    assert [(event.kind, event.step) for event in seen if event.kind == "collapse"] == [("collapse", 75)]
    says = next(event for event in seen if event.kind == "collapse").message
    assert "the features are the same for all target rows (they vary by " in says


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "sgd", "lr": 0.02, "averaging": 0.99},
        {"weight_decay": 0.0},
        {"optimizer": "sgd", "lr": 0.5, "momentum": 0.0, "weight_decay": 0.0},
    ],
)
def test_a_healthy_training_raises_no_alarm(settings, task):
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingWarning)
        fitted = adapter(**settings).fit(task.source.x, task.source.y, task.target.x)
    assert fitted.events_ == []
    assert fitted.score(task.source_test.x, task.source_test.y) > 0.85


def test_one_class_from_the_start_is_no_work_of_the_shift_where_near_source_rows_are_of_several(task):
    """Of binary tasks: a distant target may lie on one side of a good boundary."""
    planted = family.table_adapter(Planted(trouble="one class", onset=0.0)).set_params(steps=1500)
    with pytest.warns(TrainingWarning, match=r"collapse: .*the target's rows get 1\.0 classes in effect"):
        planted.fit(task.source.x, task.source.y, task.target.x)
    assert planted.events_[0].step <= 150
    assert planted.events_[0].over is None


def test_a_trouble_that_ends_is_told_to_be_over(task):
    domains = Domains.from_arrays(task.source.x, task.source.y, task.target.x)
    fitted = adapter(steps=1).fit(task.source.x, task.source.y, task.target.x)
    guards = Guards(fitted.network_, fitted.method_, domains, 1000, 1e-3, None, torch.device("cpu"))
    sound = guards.measure()
    accuracies = iter([0.9] + [0.4] * 4 + [0.75] + [0.85] * 7 + [0.4] * 3)
    guards.measure = lambda rate: sound._replace(source_accuracy=next(accuracies), still=())
    standing = []
    for look in range(1, 17):
        guards.look(25 * look, {})
        standing.append(len(harmful(guards.events)))
    assert standing == [0] * 3 + [1] * 5 + [0] * 7 + [1]
    assert [(event.step, event.over) for event in guards.events] == [(100, 150), (400, None)]
    assert str(guards.events[0]).endswith("(step 100 of 1000), over after step 150")


def test_source_only_that_puts_a_distant_target_on_one_side_is_no_collapse(make_arrays):
    data = make_arrays(200, 200)
    fitted = adapter().set_params(method="source-only", scaling="none").fit(data.x, data.y, data.xt + 50)
    assert len(set(fitted.predict(data.xt + 50))) == 1
    assert fitted.events_ == []


@pytest.mark.parametrize(("rare", "collapsed"), [(2, False), (3, False), (10, True), (40, True)])
def test_that_the_rows_looked_at_lack_a_rare_class_is_no_collapse_where_chance_does_that(rare, collapsed, task):
    random = np.random.default_rng(0)
    y = np.arange(1000) % 100 < rare
    x, xt = (random.normal(size=(1000, 2)) for _ in range(2))
    fitted = adapter(steps=1).fit(x, y, xt)
    domains = Domains.from_arrays(x, y, xt)
    guards = Guards(fitted.network_, fitted.method_, domains, 1000, 1e-3, None, torch.device("cpu"))
    guards.near, guards.best = 1.0, 1.0
    one = guards.measure()._replace(classes=1.0, source_accuracy=1.0)
    found = [cause for _, cause, _ in guards.complaints(one, 0.6, 0.0)]
    assert ("classes" in found) == collapsed


def test_a_target_of_one_row_is_no_collapse(task):
    fitted = adapter(steps=120).fit(task.source.x, task.source.y, task.target.x[:1])
    assert not [event for event in fitted.events_ if "the features are the same" in event.message]


def test_source_only_under_the_fallback_only_warns(task):
    data = task.source.x, task.source.y, task.target.x
    lost = adapter(optimizer="sgd", lr=0.1, weight_decay=5.0, on_collapse="source-only")
    with pytest.warns(TrainingWarning, match="source-lost|collapse"):
        lost.set_params(method="source-only").fit(*data)


def test_looks_change_nothing(task, monkeypatch):
    data = task.source.x, task.source.y, task.target.x
    watched = adapter(steps=120).fit(*data)
    monkeypatch.setattr("dann.estimator.Guards.due", lambda self, done: False)
    alone = adapter(steps=120).fit(*data)
    for a, b in zip(watched.network_.state_dict().values(), alone.network_.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_short_trainings_are_not_looked_at(task):
    fitted = adapter("one class", 0.0, steps=99).fit(task.source.x, task.source.y, task.target.x)
    assert fitted.events_ == []


def test_stop_raises_and_keeps_what_was_seen(task):
    stopping = adapter("one class", on_collapse="stop")
    with pytest.raises(TrainingCollapsed, match=r"collapse: the target's rows get 1\.0 classes"):
        stopping.fit(task.source.x, task.source.y, task.target.x)
    assert stopping.events_[0].kind == "collapse"
    with pytest.raises(NotFittedError):
        stopping.predict(task.target.x)


def test_source_only_takes_over(task, tmp_path):
    data = task.source.x, task.source.y, task.target.x
    with pytest.warns(TrainingWarning, match="The model is trained on the source alone"):
        fitted = adapter("one class", on_collapse="source-only").fit(*data, run=tmp_path / "run")
    assert isinstance(fitted.method_, SourceOnly)
    assert fitted.events_[0].kind == "collapse"
    assert not harmful(fitted.events_)  # the training that was in trouble was given up
    plain = adapter().set_params(method="source-only").fit(*data)
    assert np.array_equal(fitted.predict_proba(task.target.x), plain.predict_proba(task.target.x))
    loaded = DomainAdapter.load(fitted.save(tmp_path / "model.safetensors"))
    assert np.array_equal(loaded.predict_proba(task.target.x), plain.predict_proba(task.target.x))
    assert loaded.events_ == fitted.events_
    assert isinstance(loaded.method_, SourceOnly)


def test_a_model_that_goes_on_without_a_source_stays_as_it_was(task):
    fitted = adapter().set_params(method="source-only").fit(task.source.x, task.source.y, task.target.x)
    settings = {"steps": 400, "lr": 3e10, "on_collapse": "source-only", "optimizer": "sgd"}
    with pytest.warns(TrainingWarning, match="The model stays as it was"):
        later = fitted.adapt_to(task.target.x, "shot", **settings)
    assert np.array_equal(later.predict_proba(task.target.x), fitted.predict_proba(task.target.x))


def test_alarms_of_a_training_that_was_given_up_are_not_those_of_the_model_that_stays(task, monkeypatch):
    fitted = adapter(steps=120).set_params(method="source-only").fit(task.source.x, task.source.y, task.target.x)
    fitted.events_ = [Event("source-lost", 9, "it was like this before")]

    def alarm(self, done, terms):
        self.events = [Event("collapse", done, "it fell")]
        return self.events

    monkeypatch.setattr(Guards, "look", alarm)
    with pytest.warns(TrainingWarning, match="it fell. The model stays as it was"):
        later = fitted.adapt_to(task.target.x, "shot", steps=120, on_collapse="source-only")
    assert [event.message for event in later.events_] == ["it fell", "it was like this before"]
    assert harmful(later.events_) == ["it was like this before"]


@pytest.mark.parametrize("trouble", ["one class", "no gradient"])
@pytest.mark.parametrize("stop_at", [400, 500])
def test_an_interrupted_training_raises_the_same_alarms(stop_at, trouble, task, tmp_path, monkeypatch):
    monkeypatch.setattr("dann.estimator.CHECKPOINT_SECONDS", 0.0)
    data = task.source.x, task.source.y, task.target.x

    def interrupt(step):
        if step.number == stop_at:
            raise KeyboardInterrupt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        whole = adapter(trouble).fit(*data)
        with pytest.raises(KeyboardInterrupt):
            adapter(trouble).fit(*data, run=tmp_path, on_step=interrupt)
        resumed = adapter(trouble).fit(*data, run=tmp_path)
    assert whole.events_
    assert resumed.events_ == whole.events_
    assert json.loads(Path(tmp_path / "history.json").read_text())


def test_an_unknown_reaction_is_refused(task):
    with pytest.raises(ValueError, match="unknown on_collapse 'ignore'; choose one of: warn, stop, source-only"):
        adapter(on_collapse="ignore").fit(task.source.x, task.source.y, task.target.x)


def test_a_checkpoint_of_another_version_is_refused_with_what_to_do(task, tmp_path):
    data = task.source.x, task.source.y, task.target.x
    adapter(steps=4).fit(*data, run=tmp_path)
    state = runs.load_checkpoint(tmp_path / "checkpoint.pt")
    del state["guards"]["best"]
    runs.save_checkpoint(tmp_path / "checkpoint.pt", state)
    with pytest.raises(ModelFileError, match=r"was written by another version of dann .*delete it to start anew"):
        adapter(steps=4).fit(*data, run=tmp_path)


def guards_of(x, y, xt):
    """Guards of a network that has trained for one step, in a training of forty looks: one every 25 steps."""
    fitted = adapter(steps=1).fit(x, y, xt)
    domains = Domains.from_arrays(x, y, xt)
    return Guards(fitted.network_, fitted.method_, domains, 1000, 1e-3, None, torch.device("cpu"))


def alarms(guards, looks):
    """Return kind and step of the alarms of looks that see something else than what there is."""
    sound = guards.measure()._replace(still=())
    seen = iter([sound._replace(**changes) for changes in looks])
    guards.measure = lambda rate: next(seen)
    return [(event.kind, event.step) for look in range(1, len(looks) + 1) for event in guards.look(25 * look, {})]


def spoil(head, how):
    """Leave a domain head the same output for every row: units that are all off, or a last layer of next to nothing."""
    with torch.no_grad():
        if how == "units off":
            head[0].weight.zero_()
            head[0].bias.fill_(-1)
        else:
            head[-1].weight.mul_(1e-6)


def look_while_the_bias_moves(guards, steps):
    """Return the alarms of some looks, between which the last bias of the domain head moves."""
    found = []
    for done in steps:
        with torch.no_grad():
            guards.net.parts["domain"][-1].bias.add_(0.1)
        found += guards.look(done, {})
    return [event for event in found if event.kind == "dead-adversary"]


@pytest.mark.parametrize("how", ["units off", "faint"])
def test_a_domain_head_that_moves_and_says_the_same_for_every_row_is_named(how, task):
    guards = guards_of(task.source.x, task.source.y, task.target.x)
    spoil(guards.net.parts["domain"], how)
    (event,) = look_while_the_bias_moves(guards, (25, 50, 75, 100))
    assert event.step == 75
    assert event.message.startswith("the domain head says the same for every row")


@pytest.mark.parametrize(("how", "steps"), [("units off", [100]), ("faint", [])])
def test_a_domain_head_that_comes_to_say_the_same_is_dead_only_without_a_gradient(how, steps, task):
    """Where it still gets one, it has lost the game, and that is what adaptation is for."""
    guards = guards_of(task.source.x, task.source.y, task.target.x)
    assert not look_while_the_bias_moves(guards, [25])
    spoil(guards.net.parts["domain"], how)
    assert [event.step for event in look_while_the_bias_moves(guards, (50, 75, 100, 125))] == steps


def test_a_domain_head_that_is_sure_of_far_domains_is_named(make_arrays):
    data = make_arrays(200, 200)
    quick = adapter(steps=200).set_params(method=DANN(weight=0.0, lr_multiplier=10.0), scaling="none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        fitted = quick.fit(data.x, data.y, data.xt + 30)
    (event,) = [event for event in fitted.events_ if event.kind == "dead-adversary"]
    assert event.message.startswith("the domain head is right for every row and so sure of it that next to no gradient")
    assert event.over is None


@pytest.mark.parametrize(("accuracy", "left", "steps"), [(1.0, 9e-4, [75]), (1.0, 2e-3, []), (0.99, 9e-4, [])])
def test_a_domain_head_is_too_sure_only_where_it_is_always_right_and_leaves_a_thousandth(accuracy, left, steps, task):
    guards = guards_of(task.source.x, task.source.y, task.target.x)
    looks = [{"domain_spread": 0.5, "domain_accuracy": accuracy, "domain_gradient": left}] * 4
    assert alarms(guards, looks) == [("dead-adversary", step) for step in steps]


@pytest.mark.parametrize(("classes", "steps"), [(1.9, [75]), (2.1, [])])
def test_of_ten_classes_fewer_than_two_in_effect_are_a_collapse(classes, steps):
    y = np.repeat(np.arange(10), 10)
    x = np.random.default_rng(0).normal(size=(100, 3)) + y[:, None]
    guards = guards_of(x, y, x + 1)
    looks = [{"classes": classes, "source_accuracy": 0.9}] * 4
    assert alarms(guards, looks) == [("collapse", step) for step in steps]
    assert all(f"rows get {classes} classes in effect, where the source has 10.0" in e.message for e in guards.events)


@pytest.mark.parametrize(("near", "before", "step"), [(1, 1.0, 550), (1, 2.0, 100), (2, 1.0, 75)])
def test_one_class_of_two_is_the_work_of_the_shift_for_half_of_a_training(near, before, step, make_arrays):
    """At once it is a collapse where there were two before, or where the target's rows lie near source rows of both."""
    data = make_arrays(100, 100)
    guards = guards_of(data.x, data.y, data.x[data.y < near] + 0.01)
    assert guards.near == pytest.approx(near)
    looks = [{"classes": before, "source_accuracy": 0.95}] + [{"classes": 1.0, "source_accuracy": 0.95}] * 39
    assert alarms(guards, looks) == [("collapse", step)]


@pytest.mark.parametrize(
    ("target", "dimensions"),
    [
        ([[2, 0], [-2, 0], [0, 1], [0, -1]], 25 / 17),  # variances in the ratio 4 to 1: (4 + 1)² / (4² + 1²)
        ([[1, 1], [-1, -1], [3, 3]], 1),
        ([[3, 0, 0, 0], [0, 3, 0, 0], [0, 0, 3, 0]], 2),  # three points span a plane, and none of its sides is longer
    ],
)
def test_effective_dimensions_are_the_squared_sum_of_variances_over_the_sum_of_their_squares(target, dimensions):
    target = np.array(target, np.float32)
    width = target.shape[1]
    as_they_are = Normalize(torch.zeros(width), torch.ones(width))
    net = Network(as_they_are, nn.Identity(), nn.Linear(width, 2), dim=width, n_classes=2, n_domains=2)
    domains = Domains.from_arrays(np.eye(width) * 50, np.arange(width) % 2, target + 5)
    look = Guards(net, SourceOnly(), domains, 1000, 1e-3, None, torch.device("cpu")).measure()
    assert look.rank == pytest.approx(dimensions, rel=1e-4)
    away = target - target.mean(0)
    assert look.spread == pytest.approx(np.sqrt(np.square(away).mean() / np.square(target + 5).mean()), rel=1e-4)


@dataclass
class Helps(DANN):
    """Has a part that makes a gap small by growing smaller itself."""

    def build(self, net):
        return {"projection": nn.Linear(net.dim, 4)}

    def loss(self, net, source, target, progress):
        part = net.parts["projection"]
        gap = (part(source.features).mean() - part(target.features).mean()).square()
        return {"label": self.label_loss(source, target), "gap": gap}


@pytest.mark.parametrize("steps", [100, 1000])
def test_a_part_that_shrinks_because_it_helps_is_not_dead(steps):
    task = moons(n=200, seed=0)
    for seed in range(3):
        model = DomainAdapter(Helps(), MLP((8,)), steps=steps, device="cpu", random_state=seed)
        model.fit(task.source.x, task.source.y, task.target.x)
        assert not model.events_


def test_a_part_of_which_some_weights_are_frozen_between_two_looks_is_looked_at_anew(arrays):
    def freeze(step):
        if step.number == 120:
            model.network_.parts["domain"][0].requires_grad_(False)

    model = DomainAdapter("dann", MLP((8,)), steps=200, batch_size=8, device="cpu", compile=False)
    model.fit(arrays.x, arrays.y, arrays.xt, on_step=freeze)
    assert not [event for event in model.events_ if event.kind == "dead-adversary"]


@dataclass
class Fades(DANN):
    """Has a part that only weight decay moves, and what cannot be copied, or takes no other rows."""

    how: str = "lock"

    def build(self, net):
        part = nn.Linear(net.dim, 2)
        part.extra = threading.Lock() if self.how == "lock" else None
        return {"part": part}

    def loss(self, net, source, target, progress):
        if self.how == "rows":
            assert len(source.features) == 8
        return {"label": self.label_loss(source, target), "none": 0 * net.parts["part"](source.features).sum()}


@pytest.mark.parametrize("how", ["lock", "rows", ""])
def test_a_look_never_ends_a_training(how, arrays):
    model = DomainAdapter(Fades(how=how), MLP((8,)), steps=200, batch_size=8, device="cpu", weight_decay=0.1)
    with pytest.warns(TrainingWarning, match="no weight of part changes"):
        model.fit(arrays.x, arrays.y, arrays.xt)


def test_a_loss_that_is_no_number_any_more_is_no_sound_look(task):
    """It has exploded: to say that this is over would be the opposite of what happens."""
    guards = guards_of(task.source.x, task.source.y, task.target.x)
    for look, value in enumerate([1.0, 1e6, 1e6, 1e6, *[np.nan] * 4], 1):
        guards.look(25 * look, {"trouble": torch.tensor(value)})
    (event,) = [event for event in guards.events if event.kind == "divergence"]
    assert (event.step, event.over) == (100, None)


def test_losses_that_are_no_numbers_are_named(task):
    guards = guards_of(task.source.x, task.source.y, task.target.x)
    found = [e for look in range(1, 4) for e in guards.look(25 * look, {"gap": torch.tensor(np.nan)})]
    (event,) = [event for event in found if event.kind == "divergence"]
    assert event.message.startswith("the loss 'gap' is nan: lower lr or the weight of the method")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"spread": 9e-4}, "collapse"),
        ({"spread": 2e-3}, None),
        ({"source_accuracy": 0.75}, "source-lost"),
        ({"source_accuracy": 0.85}, None),
    ],
)
def test_features_vary_too_little_below_a_thousandth_and_the_source_is_lost_by_a_fifth(change, kind, task):
    guards = guards_of(task.source.x, task.source.y, task.target.x)
    guards.best = 1.0
    found = alarms(guards, [{"source_accuracy": 1.0, **change}] * 3)
    assert [(name, step) for name, step in found if name != "dead-adversary"] == ([(kind, 75)] if kind else [])


@pytest.mark.parametrize(("grown", "steps"), [(5e3, []), (2e4, [100])])
def test_a_loss_explodes_where_it_grows_ten_thousandfold(grown, steps, task):
    guards = guards_of(task.source.x, task.source.y, task.target.x)
    found = [e for k, f in enumerate([1.0, *[grown] * 3], 1) for e in guards.look(25 * k, {"gap": torch.tensor(7 * f)})]
    assert [event.step for event in found if event.kind == "divergence"] == steps


@pytest.mark.parametrize(("best", "kinds"), [(0.6, []), (0.65, ["collapse"])])
def test_one_class_is_a_collapse_of_what_has_learned_a_quarter_of_what_there_is_to_learn(best, kinds, task):
    guards = guards_of(task.source.x, np.arange(len(task.source.y)) % 2, task.target.x)
    guards.shares, guards.most = np.array([0.5, 0.5]), 2.0
    looks = [{"classes": 1.0, "source_accuracy": best}] * 3
    assert [kind for kind, _ in alarms(guards, looks)] == kinds
