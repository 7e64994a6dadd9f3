import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dann

PACKAGE = Path(dann.__file__).parent

# From the tensors up to the command line. A module imports from its own row or the rows above it.
ROWS = [
    {"augmentation", "functional", "recording", "optimizers", "machine", "identity", "seeds"},
    {"domains"},
    {"network", "backbones", "streams", "datasets", "readers"},
    {"methods", "engine", "evidence"},
    {"validators", "metrics", "runs", "estimates", "shift", "guards", "assessment"},
    {"settings"},
    {"estimator"},
    {"adapter", "regressor"},
    {"selection"},
    {"tuning"},
    {"plots", "experiments"},
    {"cli"},
    {"__main__"},
]
ROW = {name: number for number, row in enumerate(ROWS) for name in row}
STRANGERS = {frozenset({"methods", "engine"}), frozenset({"methods", "evidence"}), frozenset({"engine", "evidence"})}


def sources():
    """Every source file but the front door, with the name of its module or package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE)
        if place.parts != ("__init__.py",):
            yield path, place.parts[0].removesuffix(".py")


def imports(path):
    """Yield (line, dotted name) of everything that a file imports, relative names made absolute."""
    package = ("dann", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "dann":  # from . import runs
                yield from ((node.lineno, f"dann.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def test_every_module_has_a_place_in_the_order():
    for path, name in sources():
        assert name in ROW, f"{path.name}: give {name!r} a row in {Path(__file__).name}, after all that it imports"


def test_imports_point_one_way():
    for path, name in sources():
        for line, imported in imports(path):
            parts = imported.split(".")
            if parts[0] != "dann" or len(parts) < 2 or parts[1] == name:
                continue
            other, where = parts[1], f"{path.relative_to(PACKAGE)}:{line}"
            assert other in ROW, f"{where} imports {imported}: take it from the module that defines it"
            assert ROW[other] <= ROW[name], (
                f"{where} imports {other}, which stands above {name}: move what both need down into "
                f"{' or '.join(sorted(ROWS[min(ROW[name], ROW[other])]))}, or let the caller in {other} pass it in"
            )
            assert frozenset({name, other}) not in STRANGERS, (
                f"{where}: {name} and {other} do not know each other; move what both need to network or functional, "
                "and let estimator bring them together"
            )


@pytest.mark.parametrize("name", ["metrics", "validators"])
def test_numbers_about_predictions_need_no_torch(name):
    for path, module in sources():
        for line, imported in imports(path):
            assert not (module == name and imported.split(".")[0] == "torch"), (
                f"{path.name}:{line} imports torch: {name} take NumPy arrays; turn tensors into arrays in adapter"
            )


@pytest.mark.parametrize("code", ["import dann", "import dann; dir(dann); dann.__version__"])
def test_importing_dann_waits_for_no_heavy_library(code):
    heavy = {"torch", "sklearn", "matplotlib", "pandas", "scipy", "PIL"}
    code += f"; import sys; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", ["dann.validators", "dann.experiments"])
def test_the_parts_of_scikit_learn_wait_for_what_needs_them(name):
    parts = {"sklearn.cluster", "sklearn.linear_model", "sklearn.manifold", "sklearn.metrics", "sklearn.neighbors"}
    code = f"import {name}; import sys; print(sorted({parts} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_public_name_can_be_imported():
    assert [name for name in dann.__all__ if not hasattr(dann, name)] == []
    assert set(dann.__all__) <= set(dir(dann))


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'dann' has no attribute 'DANN2'"):
        dann.DANN2  # noqa: B018


def test_every_method_is_a_public_name():
    assert {method.__name__ for method in dann.METHODS.values()} <= set(dann.__all__)


def test_only_the_command_line_speaks_of_its_options():
    """Who calls the functions from Python has none."""
    for path, module in sources():
        tree = ast.parse(path.read_text())
        written = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in written]
        named = [text for text in texts if isinstance(text, str) and re.search(r"(?<![\w-])--[a-z]", text)]
        assert module == "cli" or not named, f"{path.name}: {named}"
