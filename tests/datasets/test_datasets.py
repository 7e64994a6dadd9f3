import ast
import inspect
from pathlib import Path

import pytest

import dann.datasets
from dann.datasets import DATASETS

FILES = sorted(Path(dann.datasets.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_says_in_one_line_what_it_is(name):
    first = inspect.getdoc(DATASETS[name]).splitlines()[0]
    assert first.endswith(".")
    assert len(first) < 100


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_can_be_made_without_arguments(name):
    parameters = inspect.signature(DATASETS[name]).parameters.values()
    assert all(parameter.default is not parameter.empty for parameter in parameters)


@pytest.mark.parametrize("name", ["moons", "double-moon", "blobs"])
def test_a_task_is_named_as_in_the_list(name):
    assert DATASETS[name]().name == name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_datasets_never_import_torch_and_import_heavy_packages_late(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))

    def packages(nodes):
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield str(node.module).split(".")[0]

    assert "torch" not in set(packages(ast.walk(tree))), "datasets hold numpy arrays; tensors are made in streams"
    late = {"sklearn", "PIL", "pooch", "matplotlib"} & set(packages(tree.body))
    assert not late, f"import {late} inside the functions that need it: `import dann` stays fast"
