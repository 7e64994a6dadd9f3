"""Settings of an estimator as JSON values, and back: registered names only, nothing that could run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from inspect import formatannotation
from typing import Any

import numpy as np
from sklearn.base import clone
from torch import Tensor, nn

from . import runs
from .augmentation import AUGMENTATIONS
from .backbones import BACKBONES, Custom
from .identity import is_plain
from .methods import Method, name_of

LAYERS = ("hidden", "head_hidden", "domain_hidden", "channels", "depth")  # settings that say how many layers there are
OBJECTS: dict[str, Mapping[str, type]] = {  # settings that may be objects, and the classes that files can name
    "backbone": BACKBONES,
    "augmentation": AUGMENTATIONS,
    "strong_augmentation": AUGMENTATIONS,
}


def refuse_class(method: Any) -> None:
    """Raise where a class was given for a method of it."""
    if isinstance(method, type):
        raise TypeError(f"method={method.__name__} is a class; give an object of it: {method.__name__}()")


def kept(setting: Any) -> Any:
    """Return a setting that later changes of the user's object do not reach; modules are large, and shared."""
    return setting if isinstance(setting, (nn.Module, Custom)) else clone(setting, safe=False)


def as_json(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return an estimator's parameters as JSON values."""
    made = dict(params)
    for key in ("method", *OBJECTS):
        if not isinstance(made[key], str):
            made[key] = described(key, made[key])
    if isinstance(made["class_weight"], dict):
        made["class_weight"] = [list(pair) for pair in made["class_weight"].items()]  # JSON's keys are all text
    made["device"] = str(made["device"])
    return made


def described(key: str, value: Any) -> dict[str, Any]:
    """Return a method, a backbone or an augmentation as JSON values: its name, if it has one, and its settings."""
    names = {kind: name for name, kind in OBJECTS.get(key, {}).items()}
    name = name_of(value) if key == "method" else names.get(type(value))
    settings = value.get_params() if hasattr(value, "get_params") else {}
    kept = {k: v for k, v in settings.items() if not isinstance(v, Method) and (name or is_plain(v))}
    return {"name": name, "params": kept}


def named(value: Any, make: Callable[[str], Any], given: Any, what: str) -> Any:
    """Rebuild a method or backbone from its configuration: registered names only, or the object that was given.

    The settings are those of the file, also of an object that was given where it has such.
    """
    if isinstance(value, str):
        return value if given is None else given
    if given is None and value["name"] is None:
        more = f"methods={{name: {what}}}" if what == "method" else f"adapter=DomainAdapter({what}=...)"
        raise runs.ModelFileError(
            f"this model was trained with {what}=… of your own, which no file holds: in Python load(path, {what}=...) "
            f"takes it, for a comparison reassess(folder, rows, {more})"
        )
    made = make(value["name"]) if given is None else given
    if not value["params"] or not hasattr(made, "set_params"):
        return made
    now = made.get_params()
    params = {key: like(v, now.get(key)) for key, v in value["params"].items() if given is None or key in now}
    return clone(made).set_params(**params)


def like(value: Any, current: Any) -> Any:
    """Return a setting from a file as a list or a tuple, whichever the current one is: JSON has no tuples."""
    if not isinstance(value, list):
        return value
    parts = current if isinstance(current, (list, tuple)) else ()
    made = [like(part, parts[min(k, len(parts) - 1)] if parts else None) for k, part in enumerate(value)]
    return made if isinstance(current, list) else tuple(made)


def check_layers(configs: Sequence[Any], tensors: int) -> None:
    """Raise ValueError where a file asks for more layers than it has tensors: building them might never end."""
    for config in configs:
        settings = config["params"] if isinstance(config, dict) else {}
        named = {key: value for key, value in settings.items() if key.rpartition("__")[2] in LAYERS}
        counts = [len(value) if isinstance(value, list) else value or 0 for value in named.values()]
        if max(counts, default=0) > tensors:
            raise ValueError(f"it asks for {max(counts)} layers or more, and holds {tensors} tensors")


def fits(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless weights are of the types that a network has; shapes are seen when they are loaded."""
    for name, tensor in tensors.items():
        if name in wanted and tensor.dtype != wanted[name].dtype:
            raise ValueError(f"{name} is {tensor.dtype}, and {wanted[name].dtype} in such a network")


def check_whole(name: str, value: Any, least: int) -> None:
    """Raise ValueError unless a setting is a whole number, and not below the least."""
    if not is_whole(value) or value < least:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {least}")


def is_whole(value: Any) -> bool:
    """Whether a setting is a whole number."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """Whether a setting is a number, and neither NaN nor infinite."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and bool(np.isfinite(value))


# kind, up to a comma → whether a value is of it, and how such values are called
DECLARED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "int": (is_whole, "a whole number"),
    "float": (is_finite, "a finite number"),
    "bool": (lambda value: isinstance(value, (bool, np.bool_)), "True or False"),
    "tuple[int": (lambda value: _all(value, lambda v: is_whole(v) and v > 0), "whole numbers above 0: (64, 32)"),
    "tuple[float": (lambda value: _all(value, is_finite), "finite numbers: (0.5, 1.0)"),
}


def _all(values: Any, fit: Callable[[Any], bool]) -> bool:
    return isinstance(values, (list, tuple)) and all(map(fit, values))


def check_declared(owner: Any) -> None:
    """Raise ValueError where a setting that a dataclass declares as a number, or as numbers, is another plain value.

    What is no plain value, such as an object of the user's own class, is left to who reads it.
    """
    for field in fields(owner) if is_dataclass(owner) else ():
        kind = field.type if isinstance(field.type, str) else formatannotation(field.type)
        value = getattr(owner, field.name)
        fit, what = DECLARED.get(kind.removesuffix(" | None").partition(",")[0], (None, ""))
        if fit is None or not is_plain(value) or (value is None and kind.endswith(" | None")):
            continue
        if not fit(value):
            raise ValueError(f"{type(owner).__name__}({field.name}={value!r}) must be {what}")
