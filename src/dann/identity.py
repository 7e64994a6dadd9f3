"""What tells objects of the user's own apart: their settings and their code, where a name tells that of others."""

import dis
import hashlib
import inspect
import re
from collections.abc import Mapping
from functools import partial
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

OF_MODULES = frozenset(vars(nn.Module()))  # attributes that every layer has
LIBRARIES = ("dann", "torch", "numpy", "sklearn", "abc", "builtins", "typing")  # a version tells their code


def identity(*objects: Any) -> str:
    """Return a digest of the settings and the code of objects, the same in all processes of one version of Python.

    The code is the bytecode and the constants of functions, and of classes and those that they inherit from, as far as
    they are the user's; not what these call elsewhere.
    """
    return hashlib.blake2b(repr([described(each) for each in objects]).encode(), digest_size=16).hexdigest()


def is_plain(value: Any) -> bool:
    """Whether a setting can be written as JSON and read again: numbers, text, None, and sequences of them."""
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str, np.number))


def described(value: Any, above: tuple[Any, ...] = ()) -> Any:
    """Return nested lists of text that tell a value from others of its kind; ``above`` are those that it is part of."""
    if is_plain(value) or isinstance(value, (bytes, complex, torch.dtype, torch.device)):
        return repr(value)
    if any(value is other for other in above):
        return "itself"
    above = (*above, value)
    if isinstance(value, CodeType):
        return instructions(value, None, above)
    if isinstance(value, Mapping):
        return [[described(key, above), described(part, above)] for key, part in value.items()]
    if isinstance(value, (list, tuple)):
        return [described(part, above) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(described(part, above)) for part in value)
    if isinstance(value, np.ndarray) and value.dtype == object:
        return described(value.tolist(), above)
    if isinstance(value, (np.ndarray, Tensor)):
        values = value.detach().cpu() if isinstance(value, Tensor) else value
        array = np.ascontiguousarray(values.double() if isinstance(values, Tensor) else values)
        return [str(value.dtype), value.shape, hashlib.blake2b(array.tobytes()).hexdigest()]
    if hasattr(value, "__code__"):
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell != type(cell)()]
        around, (names, counters) = value.__globals__, names_in(value.__code__)
        named = {name: around[name] for name in sorted(names - counters) if is_plain(around.get(name, around))}
        around_it = [value.__defaults__, cells, named]
        return [instructions(value.__code__, value.__doc__, above), described(around_it, above)]
    if isinstance(value, type):
        return [value.__module__, value.__qualname__, code_of(value, above)]
    state = state_of(value)
    held = described(state, above) if state else re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))  # such as a path
    return [type(value).__qualname__, code_of(type(value), above), held]


def state_of(value: Any) -> dict[str, Any]:
    """Return what an object was made with: not what training changes, and of a module not its parts."""
    if isinstance(value, partial):
        return {"function": value.func, "arguments": value.args, "keywords": value.keywords}
    if hasattr(value, "get_params"):
        return value.get_params(deep=False)
    state = getattr(value, "__dict__", {})
    if isinstance(value, nn.Module):  # one that has not been trained yet, but tried
        return {name: part for name, part in state.items() if name not in OF_MODULES | kept_by_forward(type(value))}
    changed = changed_by(type(value))
    return {name: part for name, part in state.items() if name[0] != "_" and name not in changed}


def code_of(kind: type, above: tuple[Any, ...]) -> list[Any]:
    """Return the functions and constants of a class, as far as it is not a library's."""
    told: list[Any] = []
    changed = {*changed_by(kind), *getattr(kind, "__dataclass_fields__", ())}
    for name, member in own_members(kind):
        function = inspect.unwrap(getattr(member, "fget", getattr(member, "__func__", member)))
        if name == "__init__" and hasattr(function, "__code__"):
            told.append([name, instructions(function.__code__, function.__doc__, above)])  # its defaults are settings
        elif hasattr(function, "__code__"):
            told.append([name, described(function, above)])
        elif is_plain(member) and not name.startswith("__") and name not in changed:
            told.append([name, repr(member)])
    return told


def instructions(code: CodeType, doc: str | None, above: tuple[Any, ...]) -> list[Any]:
    """Return what a function does, without its docstring."""
    consts = [described(part, above) for part in code.co_consts if part is not None and part != doc]
    return [code.co_code.hex(), code.co_names, consts]


def changed_by(kind: type) -> set[str]:
    """Return the names of attributes that methods set after an object is made: counters, and no settings."""
    functions = [getattr(member, "__func__", member) for name, member in own_members(kind) if name != "__init__"]
    lines = (line for f in functions if hasattr(f, "__code__") for line in dis.get_instructions(f))
    return {line.argval for line in lines if line.opname == "STORE_ATTR"}


def kept_by_forward(kind: type) -> set[str]:
    """Return the names of attributes that a layer sets when it is called, by methods of its own that it calls too."""
    functions = [(name, getattr(member, "__func__", member)) for name, member in own_members(kind)]
    names, seen, found = ["forward"], set[str](), set[str]()
    while names:
        seen.add(name := names.pop())
        codes = [f.__code__ for other, f in functions if other == name and hasattr(f, "__code__")]  # a super's too
        for line in (line for code in codes for line in dis.get_instructions(code)):
            if line.opname == "STORE_ATTR":
                found.add(line.argval)
            elif isinstance(line.argval, str) and line.argval not in seen:
                names.append(line.argval)
    return found


def names_in(code: CodeType) -> tuple[set[str], set[str]]:
    """Return the names that a function uses, those in lambdas and the like too, and the globals that it sets."""
    names, counters = set(code.co_names), set[str]()
    counters |= {line.argval for line in dis.get_instructions(code) if line.opname == "STORE_GLOBAL"}
    for inner in (part for part in code.co_consts if isinstance(part, CodeType)):
        for mine, its in zip((names, counters), names_in(inner), strict=True):
            mine |= its
    return names, counters


def own_members(kind: type) -> list[tuple[str, Any]]:
    """Return names and members of a class and of those that it inherits from, but for libraries' classes."""
    own = [each for each in kind.__mro__ if each.__module__.split(".")[0] not in LIBRARIES]
    return [pair for each in own for pair in sorted(vars(each).items(), key=lambda pair: pair[0])]
