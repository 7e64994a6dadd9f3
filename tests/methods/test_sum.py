import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone

from dann import (
    AFN,
    CDAN,
    DAN,
    DANN,
    IWDAN,
    JAN,
    MCC,
    MCD,
    MLP,
    DeepCORAL,
    DomainAdapter,
    Domains,
    Sum,
    TargetOnly,
    mlp,
)
from dann.methods import method_of


def adapter(method, **settings):
    return DomainAdapter(method, MLP((8,)), **{"steps": 4, "batch_size": 8, "device": "cpu", **settings})


def test_the_label_loss_counts_once_and_the_others_keep_their_values_and_names(sides, terms):
    both = Sum(DANN(), MCC(weight=0.5))
    s = sides(both)
    assert terms(both, s) == terms(DANN(), s) | terms(MCC(weight=0.5), s)


def test_terms_of_the_same_name_are_told_apart(sides, terms):
    both = Sum(DAN(), JAN())
    s = sides(both)
    found = terms(both, s)
    assert list(found) == ["label", "mmd", "jan mmd"]
    assert (found["mmd"], found["jan mmd"]) == (terms(DAN(), s)["mmd"], terms(JAN(), s)["mmd"])


def test_names_joined_by_plus_are_a_sum(arrays):
    by_name = adapter("cdan+mcc").fit(arrays.x, arrays.y, arrays.xt)
    by_object = adapter(Sum(CDAN(), MCC())).fit(arrays.x, arrays.y, arrays.xt)
    assert by_name.history_ == by_object.history_
    assert list(by_name.history_[0]) == ["step", "label", "domain", "confusion"]


def test_parameters_of_the_parts_are_set_cloned_and_saved(arrays, tmp_path):
    model = adapter(Sum(CDAN(hidden=(3,)), MCC())).set_params(method__mcc__weight=0.25, method__cdan__entropy=False)
    copied = clone(model)
    assert copied.method == model.method
    assert copied.method.methods["mcc"] is not model.method.methods["mcc"]
    model.fit(arrays.x, arrays.y, arrays.xt)
    loaded = DomainAdapter.load(model.save(tmp_path / "m.safetensors"))
    assert loaded.method == Sum(CDAN(hidden=(3,), entropy=False), MCC(weight=0.25))
    np.testing.assert_array_equal(loaded.predict_proba(arrays.xt), model.predict_proba(arrays.xt))
    np.testing.assert_array_equal(loaded.predict_domain(arrays.xt), model.predict_domain(arrays.xt))


@pytest.mark.parametrize("name", ["iwdan+mcc", "mcc+iwdan"])
def test_a_label_loss_of_a_methods_own_counts_wherever_it_stands(name, sides, terms):
    both = method_of(name)
    s = sides(both)
    s.net.parts["shift"].weights.copy_(torch.tensor([2.0, 0.5, 0.5]))
    before = copy.deepcopy(s.net.state_dict())
    alone = terms(IWDAN(), s)
    s.net.load_state_dict(before)
    assert terms(both, s)["label"] == alone["label"]


RATES = ("One", 0.1), ("Same", 0.1), ("Other", 0.5)


def test_two_label_losses_of_their_own_are_refused(arrays):
    with pytest.raises(ValueError, match="iwdan and mine each have a label loss of their own"):
        Sum(IWDAN(), type("Mine", (MCC,), {"own_label": True})()).check(None)


def test_different_learning_rates_of_one_player_are_refused():
    slow = {name: type(name, (DAN,), {"learning_rates": lambda self, r=rate: {"encoder": r}}) for name, rate in RATES}
    Sum(slow["One"](), slow["Same"]()).check(None)
    with pytest.raises(ValueError, match=r"two methods give 'encoder' different learning rates: 0\.1 and 0\.5"):
        Sum(slow["One"](), slow["Other"]()).check(None)


@pytest.mark.parametrize("flag", ["needs_pretraining", "needs_classes", "reads_values", "two_views"])
def test_it_needs_what_one_of_its_parts_needs(flag):
    needs, other, another = (
        type(name, (DAN,), {flag: value})() for name, value in (("Needs", True), ("Other", False), ("Another", False))
    )
    assert getattr(Sum(needs, other), flag)
    assert getattr(Sum(other, needs), flag)
    assert not getattr(Sum(other, another), flag)


def test_learning_rates_of_the_parts_reach_their_players():
    slow = type("Slow", (DAN,), {"learning_rates": lambda self: {"encoder": 0.1}})
    assert Sum(slow(), DANN(lr_multiplier=10.0)).learning_rates() == {"encoder": 0.1, "domain": 10.0}


def test_all_parameters_can_be_set_again():
    method = Sum(MCC(weight=0.5), DAN())
    assert Sum(MCC(), DAN()).set_params(**method.get_params()) == method


def test_different_sums_are_not_equal():
    assert Sum(CDAN(), MCC()) != Sum(CDAN(), MCC(weight=0.5))
    assert repr(Sum(MCC(), DAN())).startswith("Sum(MCC(weight=1.0")


@pytest.mark.parametrize(
    ("method", "says"),
    [
        (Sum(MCD(), MCC()), "mcd plays a game of its own moves"),
        (Sum(MCC(), TargetOnly()), "targetonly plays a game"),
        (Sum(MCC(), type("Oracle", (DAN,), {"uses_target_labels": True})()), "oracle trains on target labels"),
        (Sum(CDAN(), DANN()), "dann and another method both train a part 'domain'"),
        (Sum(DANN(weight=-1.0), MCC()), "weight=-1.0"),
    ],
)
def test_what_cannot_be_summed_is_refused_before_training(method, says, arrays):
    with pytest.raises(ValueError, match=says):
        adapter(method).fit(arrays.x, arrays.y, arrays.xt)


@pytest.mark.parametrize("methods", [(), (MCC(),), (MCC(), MCC(weight=2.0))])
def test_it_takes_two_or_more_different_methods(methods):
    with pytest.raises(ValueError, match="two or more methods of different classes"):
        Sum(*methods)


def test_a_typo_in_a_parameter_names_the_valid_ones():
    with pytest.raises(ValueError, match=r"no parameter 'mcc__wieght'|Invalid parameter 'wieght'"):
        Sum(MCC(), DAN()).set_params(mcc__wieght=1)
    with pytest.raises(ValueError, match=r"no parameter 'cdan__weight'; it has: .*mcc__weight"):
        Sum(MCC(), DAN()).set_params(cdan__weight=1)


def test_it_needs_the_rows_that_its_parts_need(arrays):
    with pytest.raises(ValueError, match="batch_size=3 is too small for Sum, which compares at least 4 rows"):
        adapter(Sum(MCC(), DAN()), batch_size=3).fit(arrays.x, arrays.y, arrays.xt)


def test_a_recorded_training_has_the_same_bits(arrays):
    plain, same = (adapter("dann+mcc+deep-coral", compile=c).fit(arrays.x, arrays.y, arrays.xt) for c in (False, True))
    assert plain.history_ == same.history_


def test_a_part_of_ones_own_may_be_summed(arrays):
    class Mine(MCC):
        """A method from elsewhere."""

        def build(self, net):
            return {"extra": mlp(net.dim, 1)}

        def loss(self, net, source, target, progress):
            gap = net.parts["extra"](target.features).mean()
            return {"label": self.label_loss(source, target), "gap": gap.square()}

    model = adapter(Sum(Mine(), DAN())).fit(arrays.x, arrays.y, arrays.xt)
    assert list(model.history_[0]) == ["step", "label", "gap", "mmd"]
    assert torch.isfinite(model.network_.parts["extra"][0].weight).all()


def test_a_sum_of_sums_is_refused(arrays):
    nested = Sum(AFN(), Sum(MCC(), DeepCORAL()))
    with pytest.raises(ValueError, match="a Sum is no part of a Sum"):
        nested.check(Domains.from_arrays(arrays.x, arrays.y, arrays.xt))


def test_a_sum_without_the_source_is_refused_for_what_it_is(arrays):
    fitted = DomainAdapter("source-only", steps=1).fit(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(ValueError, match="shot plays a game of its own moves, which cannot be summed"):
        fitted.adapt_to(arrays.xt, "shot+dirt-t")
    with pytest.raises(ValueError, match="Sum needs source rows: use fit"):
        fitted.adapt_to(arrays.xt, "shot+mcc")
