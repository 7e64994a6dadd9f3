"""Settings that are declared as numbers are numbers, of methods, networks and augmentations."""

from dataclasses import dataclass, fields

import numpy as np
import pytest
from torch import nn

from dann import CDAN, DANN, METHODS, DomainAdapter, Method, Sum
from dann.augmentation import AUGMENTATIONS
from dann.backbones import BACKBONES
from dann.settings import check_declared

NAN = float("nan")
OWNERS = {**METHODS, **BACKBONES, **AUGMENTATIONS}
DECLARED = [(name, field.name) for name, kind in OWNERS.items() for field in fields(kind)]
WRONG = {  # by the kind of the default
    int: [2.5, NAN, "3", True, None],
    float: [NAN, np.float32("nan"), float("inf"), "0.5", True, None],
    bool: [1, "yes", None],
    tuple: [3, "64", (NAN,), (True,)],
}


def wrong(name, setting):
    default = getattr(OWNERS[name](), setting)
    return [] if isinstance(default, str) else WRONG[tuple if default is None else type(default)]


@pytest.mark.parametrize(("name", "setting"), DECLARED)
def test_every_number_is_checked_for_being_one(name, setting):
    owner = OWNERS[name]()
    check_declared(owner)
    for value in wrong(name, setting):
        setattr(owner, setting, value)
        with pytest.raises(ValueError, match=rf"{type(owner).__name__}\({setting}=.*\) must be "):
            check_declared(owner)


@pytest.mark.parametrize("value", [2, np.int64(2), 0.5, np.float32(0.5)])
def test_numbers_of_any_make_are_taken(value):
    check_declared(DANN(weight=value))
    check_declared(DANN(hidden=[np.int64(8)]))
    check_declared(DANN(hidden=None))
    check_declared(DANN(hidden=()))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"method": DANN(weight=NAN)}, r"DANN\(weight=nan\) must be a finite number"),
        ({"method": DANN(hidden=(8, 0))}, r"DANN\(hidden=\(8, 0\)\) must be whole numbers above 0"),
        ({"method": Sum(DANN(), CDAN(width=2.5))}, r"CDAN\(width=2.5\) must be a whole number"),
        ({"backbone": BACKBONES["mlp"](hidden=(8.5,))}, r"MLP\(hidden=\(8.5,\)\) must be whole numbers above 0"),
        (
            {"augmentation": AUGMENTATIONS["table"](noise=NAN)},
            r"TableAugmentation\(noise=nan\) must be a finite number",
        ),
        ({"strong_augmentation": AUGMENTATIONS["table"](masking="1")}, r"masking='1'\) must be a finite number"),
    ],
)
def test_what_is_no_number_is_refused_before_the_training(settings, says, arrays):
    with pytest.raises(ValueError, match=says):
        DomainAdapter(steps=5, **settings).fit(arrays.x, arrays.y, arrays.xt)
    fitted = DomainAdapter(steps=5).fit(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(ValueError, match=says):
        fitted.set_params(**settings).fit(arrays.x, arrays.y, arrays.xt)


def test_going_on_without_the_source_checks_numbers_too(arrays):
    fitted = DomainAdapter(steps=5).fit(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(ValueError, match=r"SHOT\(weight=nan\) must be a finite number"):
        fitted.adapt_to(arrays.xt, METHODS["shot"](weight=NAN))


def test_objects_of_ones_own_are_left_to_the_method_that_reads_them(arrays):
    class Schedule:
        factor = 0.5

    @dataclass
    class Scheduled(Method):
        weight: float = 1.0

        def loss(self, net, source, target, progress):
            gap = (source.features.mean(0) - target.features.mean(0)).square().sum()
            return {"label": self.label_loss(source, target), "gap": self.weight.factor * gap}

    DomainAdapter(Scheduled(Schedule()), nn.Linear(3, 4), steps=5).fit(arrays.x, arrays.y, arrays.xt)
    with pytest.raises(ValueError, match=r"Scheduled\(weight=nan\)"):
        DomainAdapter(Scheduled(NAN), nn.Linear(3, 4), steps=5).fit(arrays.x, arrays.y, arrays.xt)
