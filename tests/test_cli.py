import contextlib
import csv
import gc
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import dann
import dann.cli
import dann.estimator
import dann.experiments.adapt
import dann.experiments.moons
import dann.readers.table
from dann import DANN, MLP, DomainAdapter, runs
from dann.augmentation import PRESETS, augmentation_of
from dann.backbones import BACKBONES
from dann.cli import main
from dann.datasets import DATASETS
from dann.experiments import EXPERIMENTS, Study
from dann.experiments.recipes import RECIPES
from dann.methods import METHODS
from dann.validators import VALIDATORS

EXPLODED = []
SPECIES = ("cat", "dog")


def explode():
    EXPLODED.append(True)


class Bomb:
    """An object whose unpickling runs code."""

    def __reduce__(self):
        return explode, ()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder of its own, and a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


@pytest.fixture
def write():
    """Return a function that writes a CSV file of two species with the features a, b and c."""

    def write(name, n=30, shift=0.0, *, labels=SPECIES, columns="abc", change=None):
        rng = np.random.default_rng(n)
        x = rng.normal(size=(n, 3)).round(4) + 4 * (np.arange(n) % 2)[:, None] + [0, shift, 0]
        rows = [dict(zip("abc", row.tolist(), strict=True)) for row in x]
        for i, row in enumerate(rows):
            if labels is not None:
                row["species"] = labels[i % len(labels)]
        if change is not None:
            rows = change(rows)
        with open(name, "w", newline="") as file:
            header = [*columns, "species"] if labels is not None else list(columns)
            writer = csv.DictWriter(file, list(rows[0]) if change and rows else header)
            writer.writeheader()
            writer.writerows(rows)
        return Path(name)

    return write


@pytest.fixture
def files(write):
    """A labelled source, a labelled target, an unlabelled target."""
    return write("lab.csv"), write("field.csv", 24, 3.0), write("new.csv", 10, 3.0, labels=None)


@pytest.fixture
def undrawn(monkeypatch):
    """No figures, where a test is about something else."""
    monkeypatch.setattr(dann.experiments.adapt, "draw", lambda *_: None)
    monkeypatch.setattr(dann.experiments.moons, "draw", lambda *_: None)


@pytest.fixture
def dann_(capsys):
    """Return a function that runs a command line and gives (exit code, output, errors)."""

    def run(*words):
        code = main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def adapt(dann_):
    """Return a function that adapts in three steps."""

    def run(*words, source="lab.csv", target="field.csv", label="species"):
        named = ("--label", label) if label else ()
        return dann_("adapt", "--source", source, "--target", target, *named, "--set", "steps=3", *words)

    return run


@pytest.fixture
def refused(dann_):
    """Return a function that runs a command line that must be refused with a reason, and leave nothing behind."""

    def run(*words, because):
        before = tree()
        code, out, error = dann_(*words)
        assert code == 2, error
        assert error.strip().startswith("error: "), error
        assert "Traceback" not in error
        for reason in [because] if isinstance(because, str) else because:
            assert reason in error, f"{reason!r} is not in {error!r}"
        assert out == ""
        assert tree() == before
        return error

    return run


@pytest.fixture
def refused_data(refused):
    """Return `refused` for adapt with two files."""

    def run(source, target, *words, because, label="species"):
        named = ("--label", label) if label else ()
        return refused("adapt", "--source", source, "--target", target, *named, *words, because=because)

    return run


@pytest.fixture
def model(files, here):
    """A small trained model of the files' two species."""
    from dann.readers import read_table

    source, target = (read_table(path, "species") for path in files[:2])
    adapter = DomainAdapter("dann", MLP(hidden=(8,)), steps=2, batch_size=8).fit(source, source.y, target)
    return adapter.save(here / "model.safetensors")


@pytest.fixture
def data_page(here):
    """The names that the first two pieces of code of docs/data.md leave, and the files that they write."""
    page = (Path(__file__).parent.parent / "docs" / "data.md").read_text(encoding="utf-8")
    names = {}
    for code in re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)[:2]:
        exec(code, names)
    return names


def tree(folder="."):
    """Every file below a folder, with its content."""
    return {p.as_posix(): p.read_bytes() if p.is_file() else None for p in sorted(Path(folder).rglob("*"))}


def first_row(**changes):
    """Return a change of a table: other values in its first row."""

    def change(rows):
        rows[0].update(changes)
        return rows

    return change


def weights(path):
    return runs.load_model(path)[0]


def same_weights(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# data that cannot be adapted on


@pytest.mark.parametrize("value", ["inf", "-inf", "1e39"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_value_that_is_not_finite_is_named_by_row_and_column(side, value, files, write, refused_data):
    write("bad.csv", change=first_row(b=value))
    pair = ("bad.csv", "field.csv") if side == "source" else ("lab.csv", "bad.csv")
    refused_data(*pair, because=[f"the {side} has 1 values that are NaN or infinite", "row 0, column 'b'"])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_found_in_arrays_too(value, refused_data):
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.arange(20) % 2
    np.savez("good.npz", X=x, y=y)
    x[4, 2] = value
    np.savez("bad.npz", X=x, y=y)
    for pair in (("good.npz", "bad.npz"), ("bad.npz", "good.npz")):
        refused_data(*pair, label=None, because="NaN or infinite (as float32), the first in row 4, position 2")


def test_text_where_a_number_belongs_is_named_by_column_value_and_line(files, write, refused_data):
    write("bad.csv", change=first_row(c="tall"))
    for pair in (("bad.csv", "field.csv"), ("lab.csv", "bad.csv")):
        refused_data(*pair, because="bad.csv has text in c ('tall', line 2). Features are numbers: encode text")


def test_one_error_names_all_columns_of_both_files_with_text_or_without_a_value(files, write, refused, model):
    holes = lambda rows: [row | ({"a": "tall", "b": "NA"} if i == 3 else {}) for i, row in enumerate(rows)]  # noqa: E731
    write("odd.csv", change=holes)
    write(
        "gap.csv", labels=None, change=lambda rows: [row | ({"b": ""} if i > 7 else {}) for i, row in enumerate(rows)]
    )
    odd = "odd.csv has text in a ('tall', line 5); odd.csv has missing values in b (1, first in line 5)"
    gap = "gap.csv has missing values in b (22, first in line 10)"
    named = ("--source", "odd.csv", "--target", "gap.csv", "--label", "species")
    for words in (("adapt",), ("compare",), ("tune", "--search", "lr=1,2"), ("assess", model)):
        error = refused(*words, *named, because=[odd, gap, "impute what is missing", "drop columns"])
        assert error.count("\n") == 1
    refused("predict", model, "gap.csv", "-o", "out.csv", because=gap)


def test_names_with_underscores_are_no_numbers(files, write, refused_data):
    pair = write("lab.csv", change=lambda rows: [row | {"a": f"{i}_{i % 3}"} for i, row in enumerate(rows)]), files[1]
    refused_data(*pair, because="lab.csv has text in a ('0_0', line 2)")


def test_an_error_names_at_most_ten_columns_with_text(refused_data):
    names = [f"c{i}" for i in range(13)]
    for file in ("wide.csv", "other.csv"):
        Path(file).write_text("\n".join([",".join([*names, "species"]), *[",".join(["x"] * 13 + ["cat"])] * 3]) + "\n")
    error = refused_data("wide.csv", "other.csv", because="c9 ('x', line 2) and 3 more")
    assert "c10" not in error


def test_a_target_with_other_columns_is_told_which(files, write, refused_data):
    write("bad.csv", change=lambda rows: [{"a": r["a"], "b": r["b"], "height": 1, "width": 2} for r in rows])
    because = "the target has other columns than the source: it lacks c; only it has height, width"
    refused_data("lab.csv", "bad.csv", because=because)


def test_one_class_is_not_enough(files, write, refused_data):
    write("one.csv", labels=("cat",))
    refused_data("one.csv", "field.csv", because="the source has one class, ")


def test_a_table_with_a_header_alone_has_no_rows(files, refused_data):
    Path("empty.csv").write_text("a,b,c,species\n")
    refused_data("empty.csv", "field.csv", because="the source has no rows")
    refused_data("lab.csv", "empty.csv", because="the target has no rows")


def test_arrays_without_rows_are_refused(refused_data):
    np.savez("good.npz", X=np.ones((20, 3)), y=np.arange(20) % 2)
    np.savez("empty.npz", X=np.ones((0, 3)), y=np.empty(0, int))
    refused_data("empty.npz", "good.npz", label=None, because="the source has no rows")
    refused_data("good.npz", "empty.npz", label=None, because="the target has no rows")


def test_target_labels_that_the_source_does_not_have_are_named_before_any_training(files, write, refused_data):
    write("odd.csv", labels=("cat", "wolf"))
    refused_data("lab.csv", "odd.csv", because=["the target has labels that the source does not have: ['wolf']", "dog"])


def test_a_source_with_one_row_of_every_class_has_none_to_test_on(files, write, refused_data):
    write("two.csv", 2)
    refused_data("two.csv", "field.csv", because="the source has 2 rows of as many classes")


def test_a_source_row_without_a_label_is_named(files, write, refused_data):
    write("bad.csv", change=first_row(species=""))
    refused_data(
        "bad.csv",
        "field.csv",
        because=["bad.csv has no label in 1 of", "rows, the first in line 2 (empty cells and NA,"],
    )


@pytest.mark.parametrize(("label", "looked_for"), [("kind", "'kind'"), (None, "'label' or 'y'")])
def test_a_source_without_a_label_column_is_told_its_columns(label, looked_for, files, refused_data):
    told = "name the label column; its columns: a, b, c, species"
    because = ["lab.csv has no labels", f"looked for {looked_for}", told]
    refused_data("lab.csv", "field.csv", label=label, because=because)


def test_as_many_labels_as_rows(refused_data):
    np.savez("good.npz", X=np.ones((20, 3)), y=np.arange(20) % 2)
    np.savez("bad.npz", X=np.ones((20, 3)), y=np.arange(15) % 2)
    for pair in (("bad.npz", "good.npz"), ("good.npz", "bad.npz")):
        refused_data(*pair, label=None, because=["bad.npz: y has shape (15,)", "one label for each row"])


def test_tables_with_text_and_gaps_are_made_ready_as_the_page_shows(data_page):
    from dann.cli import _read
    from dann.experiments.adapt import Roles

    source, target = _read(Path("lab.csv"), Path("field.csv"), "kind", ("id",), Roles())
    assert source.columns == target.columns == ["age", "town_Bonn", "town_Mainz", "town_Ulm"]
    assert source.x.astype(float).tolist() == [[31, 0, 0, 1], [44, 1, 0, 0], [44, 0, 0, 1]]
    assert target.x.astype(float).tolist() == [[58, 1, 0, 0], [44, 0, 1, 0]]
    assert source.y.tolist() == ["cat", "dog", "cat"]
    assert not target.labelled.any()
    assert target.beside["id"].tolist() == ["8", "9"]


def test_folders_of_images_become_files_as_the_page_shows(data_page, adapt, undrawn):
    rng = np.random.default_rng(0)
    for i in range(24):
        for folder in (f"lab/{SPECIES[i % 2]}", "field"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 100, (20, 30, 3)).astype(np.uint8)
            Image.fromarray(pixels + np.uint8(150 * (i % 2))).save(f"{folder}/{i}.{('png', 'JPG', 'jpeg')[i % 3]}")
    Path("field/notes.txt").write_text("no image")
    data_page["save"]("lab", "lab.npz", size=(12, 8))
    data_page["save"]("field", "field.npz", labelled=False, size=(12, 8))
    with np.load("lab.npz") as lab, np.load("field.npz") as field:
        assert lab["X"].shape == field["X"].shape == (24, 8, 12, 3)
        assert lab["y"].tolist() == ["cat"] * 12 + ["dog"] * 12
        assert field.files == ["X"]
    code, _, error = adapt("--set", "backbone=small", source="lab.npz", target="field.npz", label=None)
    assert code == 0, error


# files that cannot be read


def test_a_missing_file_is_named(files, refused_data):
    refused_data("lab.csv", "feild.csv", because="there is no file feild.csv")


def test_other_kinds_of_files_are_told_what_can_be_read(files, refused_data):
    Path("field.xlsx").write_text("a,b,c\n1,2,3\n")
    refused_data("lab.csv", "field.xlsx", because=["field.xlsx", ".csv, .npy, .npz"])


def test_a_folder_of_images_is_told_to_become_a_file(files, refused, model):
    Path("photos/cat").mkdir(parents=True)
    because = (
        "photos is a folder, and a file is read: .csv, .npy, .npz; docs/data.md shows how to turn a folder of images"
    )
    for pair in (("photos", "field.csv"), ("lab.csv", "photos")):
        refused("compare", "--source", pair[0], "--target", pair[1], "--label", "species", because=because)
    refused("predict", model, "photos", "-o", "out.csv", because=because)


def test_brackets_in_a_name_are_no_markup(files, refused_data):
    refused_data("lab.csv", "[/old] [red]x.txt", because="[/old] [red]x.txt is none of the kinds")


def test_pickled_objects_are_never_unpickled(files, refused_data):
    np.save("bomb.npy", np.array([Bomb()] * 4, dtype=object), allow_pickle=True)
    np.savez("bomb.npz", X=np.array([Bomb()] * 4, dtype=object), y=np.arange(4))
    for name in ("bomb.npy", "bomb.npz"):
        refused_data("lab.csv", name, because=f"{name}")
        refused_data(name, "field.csv", label=None, because="is no readable array")
    assert EXPLODED == []


def test_an_archive_that_unpacks_to_too_much_is_refused_unread(files, refused_data, monkeypatch):
    np.savez_compressed("big.npz", X=np.zeros((1000, 3)), y=np.zeros(1000))
    monkeypatch.setattr(dann.readers.table, "MAX_BYTES", 10_000)
    monkeypatch.setattr(dann.readers.table, "load_array", lambda *_: pytest.fail("it was read"))
    refused_data("big.npz", "field.csv", label=None, because=["big.npz would unpack to", "more than 10000"])


# settings


@pytest.mark.parametrize(
    ("setting", "because"),
    [
        ("step=3", "--set step=… is not taken: there is no such setting of dann; did you mean steps?"),
        ("method__wieght=3", "did you mean method__weight?"),
        ("weight=3", "did you mean method__weight?"),
        ("augmentation__shift=3", "--set augmentation__shift=… is not taken"),
        ("qqq=3", ["choose one of: augmentation, ", "method__weight"]),
        ("backbone=resnet", ["unknown backbone 'resnet'", "mlp", "mnist"]),
        ("backbone=mnist", "MNISTNet takes images"),
        ("backbone__hidden=(3,)", "a backbone is chosen by name"),
        ("precision=fp8", ["unknown precision 'fp8'", "auto, fp32, bf16"]),
        ("compile=fast", ["unknown compile 'fast'", "auto, True, False"]),
        ("momentum=1", "momentum=1 must lie in [0, 1)"),
        ("optimizer=lbfgs", ["unknown optimizer 'lbfgs'", "adam, adamw, sgd"]),
        ("scaling=log", ["unknown scaling 'log'", "standard"]),
        ("steps=0", "steps=0 must be a whole number of at least 1"),
        ("steps=1.5", "steps=1.5 must be a whole number of at least 1"),
        ("steps", "--set takes KEY=VALUE, got 'steps'"),
        ("lr=fast", "--set lr=fast is not taken: it is a number, such as 0.002"),
        ("weight_decay=heavy", "--set weight_decay=heavy is not taken: it is a number, such as 0.001"),
        ("method__weight=-1", "weight=-1"),
        ("method=source-only", "give --method"),
        ("random_state=3", "give --seed"),
        ("device=cpu", "give --device"),
    ],
)
def test_a_setting_that_does_not_exist_or_cannot_train_is_explained(setting, because, files, refused_data):
    refused_data("lab.csv", "field.csv", "--set", setting, because=because)


def test_an_unknown_method_is_told_the_known_ones(files, refused_data):
    refused_data("lab.csv", "field.csv", "--method", "dann2", because=["unknown method 'dann2'", *METHODS])


def test_a_library_that_an_extra_brings_is_named_before_anything_is_trained(files, refused_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    refused_data("lab.csv", "field.csv", "--method", "deep-jdot", because="pip install 'dann[ot]'")


@pytest.mark.parametrize("method", ["shot", "mcc+shot"])
def test_methods_that_go_on_without_a_source_are_told_how(method, files, refused, refused_data):
    because = "shot goes on from a fitted model, without a source: dann adapt --model MODEL --target FILE --method shot"
    refused_data("lab.csv", "field.csv", "--method", method, because=because)
    named = ("--source", "lab.csv", "--target", "field.csv", "--label", "species")
    refused("compare", *named, "--methods", f"dann,{method}", because=because)
    refused("tune", *named, "--method", method, "--search", "lr=1:2", because=because)


@pytest.mark.parametrize("method", [name for name, kind in METHODS.items() if kind.source_free])
def test_a_model_goes_on_without_a_source(method, files, here, dann_):
    from dann.readers import read_table

    source, target = (read_table(path, "species") for path in files[:2])
    adapter = DomainAdapter("dann", MLP(hidden=(8,), batch_norm=True), steps=50, batch_size=8)
    model = adapter.fit(source, source.y, target).save(here / "model.safetensors")
    before = model.read_bytes()
    words = ("adapt", "--model", model, "--target", "field.csv", "--label", "species", "--method", method)
    code, out, error = dann_(*words, "--seed", "3", "--json", "found.json")
    assert code == 0, error
    assert f"{method} went on from {model} for 5 steps with lr {adapter.lr / 10:g}" in out
    assert "Accuracy on the target's labels (oracle): " in out
    later = DomainAdapter.load(f"runs/{method}")
    assert (later.config()["method"]["name"], later.random_state) == (method, 3)
    found = json.loads(Path("found.json").read_text())
    assert [each["n"] for each in found["oracle"]] == [24, 24]
    assert found["oracle"][1]["accuracy"] == later.evaluate(target, target.y)["accuracy"]
    assert len(Path(f"runs/{method}/target_predictions.csv").read_text().splitlines()) == 25
    assert model.read_bytes() == before


def test_a_model_that_was_interrupted_goes_on_from_there(files, model, dann_, monkeypatch):
    monkeypatch.setattr(dann.estimator, "CHECKPOINT_SECONDS", 0)
    words = ("adapt", "--model", model, "--target", "field.csv", "--label", "species", "--set", "steps=6", "--out")
    steps, adapt_to = [], DomainAdapter.adapt_to
    stops = [3]

    def watched(self, *args, **kwargs):
        def on_step(step):
            steps.append(step.number)
            if stops and step.number == stops[0]:
                stops.clear()
                raise KeyboardInterrupt

        return adapt_to(self, *args, **{**kwargs, "on_step": on_step})

    monkeypatch.setattr(DomainAdapter, "adapt_to", watched)
    code, _, error = dann_(*words, "cut")
    assert code == 130
    assert "the same command goes on from there" in error
    assert dann_(*words, "cut")[0] == 0
    assert len(steps) < 4 + 6
    assert dann_(*words, "whole")[0] == 0
    assert same_weights(weights("cut"), weights("whole"))
    assert sorted(path.name for path in Path("cut").iterdir()) == sorted(path.name for path in Path("whole").iterdir())


def test_what_leaves_nothing_says_so_when_it_is_interrupted(files, model, dann_, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(DomainAdapter, "load", interrupt)
    code, _, error = dann_("predict", model, "field.csv", "-o", "new.csv")
    assert (code, error.strip()) == (130, "error: interrupted; nothing is kept")


def test_hidden_target_labels_change_no_model_that_goes_on(files, model, dann_):
    words = ("adapt", "--model", model, "--set", "steps=4", "--set", "lr=0.01", "--set", "method__weight=0.2")
    for target, judged in (("field.csv", True), ("bare.csv", False), ("unknown.csv", False)):
        lines = [line.rpartition(",") for line in Path("field.csv").read_text().splitlines()]
        Path("bare.csv").write_text("\n".join(x for x, _, _ in lines) + "\n")
        Path("unknown.csv").write_text("\n".join(f"{x},{'' if y != 'species' else y}" for x, _, y in lines) + "\n")
        code, out, error = dann_(*words, "--target", target, "--label", "species", "--out", target[:-4])
        assert code == 0, error
        assert ("(oracle)" in out) == judged
        assert ("The target has no labels" in out) != judged
    assert same_weights(weights("field"), weights("bare"))
    assert same_weights(weights("field"), weights("unknown"))
    assert DomainAdapter.load("field").method_.weight == 0.2


@pytest.mark.parametrize(
    ("words", "because"),
    [
        ((), "give --source, labelled rows to train on, or --model, a saved model to go on from"),
        (("--model", "model.safetensors", "--source", "lab.csv", "--group", "a"), "leave out --source, --group"),
        (("--model", "model.safetensors", "--method", "mcc"), "mcc needs a source: give --source in place of --model"),
        (("--model", "model.safetensors", "--set", "step=3"), "there is no such setting of shot; did you mean steps?"),
        (("--model", "model.safetensors", "--set", "lr=0"), "lr=0 must be a number above 0"),
        (("--model", "model.safetensors", "--seed", "-1"), "--seed -1 must be 0 or more"),
        (("--model", "model.safetensors", "--out", "."), "model.safetensors is read and would be written over"),
        (("--model", "model.safetensors", "--out", "kept"), "kept holds the run of another command (study.json)"),
        (("--model", "model.safetensors", "--label", "kinds"), "labels that the source does not have: ['wolf']"),
        (("--model", "none"), "there is no model file none"),
    ],
)
def test_going_on_from_a_model_is_refused_with_a_reason(words, because, model, write, refused):
    write("field.csv", change=lambda rows: [{**row, "kinds": "wolf"} for row in rows])
    Path("kept").mkdir()
    Path("kept/study.json").write_text("{}")
    named = () if "kinds" in words else ("--label", "species")
    drop = ("--drop", "species") if "kinds" in words else ("--drop", "kinds")
    refused("adapt", "--target", "field.csv", *named, *drop, *words, because=because)


def test_adapt_takes_sums_of_methods(files, adapt):
    code, _, _ = adapt("--method", "dann+mcc", "--set", "method__mcc__weight=0.5")
    assert code == 0


def test_adapt_refuses_to_train_on_target_labels(files, refused_data):
    refused_data("lab.csv", "field.csv", "--method", "target-only", because="target-only trains on target labels")


@pytest.mark.parametrize("words", [("--device", "warp"), ("--seed", "-1"), ("--seed", "one")])
def test_other_options_are_checked_too(words, files, refused_data):
    refused_data("lab.csv", "field.csv", *words, because=words[1])


def test_a_device_is_refused_everywhere(files, model, refused):
    refused("predict", model, "new.csv", "-o", "out.csv", "--device", "warp", because="the device 'warp'")
    refused("reproduce", "blobs", "--device", "warp", because="the device 'warp'")


def test_a_precision_is_refused_before_anything_is_trained(refused):
    refused("demo", "--precision", "fp8", because="unknown precision 'fp8'; choose one of: auto, fp32, bf16")


def test_losses_that_explode_are_a_failure_of_the_training_with_code_1(files, adapt):
    code, _, error = adapt("--set", "lr=1e30")
    assert code == 1
    assert "at step 2: lower lr" in error


# command lines


@pytest.mark.parametrize(
    ("words", "because"),
    [
        (["adapt"], "--target"),
        (["adapt", "--source", "lab.csv"], "--target"),
        (["adapt", "--target", "field.csv"], "--source"),
        (["predict", "model.safetensors"], ["predict", "DATA"]),
        (["predict", "model.safetensors", "new.csv"], "--out"),
        (["adapt", "lab.csv", "field.csv"], "--target"),
        (["adopt"], ["adopt", "adapt"]),
        (["reproduce"], "NAME"),
        (["reproduce", "iris"], ["unknown experiment 'iris'", *EXPERIMENTS]),
        (["reproduce", "blobs", "--seeds", "0"], "give at least one seed"),
        (["reproduce", "blobs", "--seeds", "-3"], "give at least one seed"),
        (["reproduce", "blobs", "--seed", "-1"], "none below 0"),
        (["reproduce", "blobs", "--seeds", "many"], "many"),
        (["reproduce", "blobs", "--steps", "0"], "--steps 0 must be at least 1"),
        (["reproduce", "blobs", "--steps", "-4"], "--steps -4 must be at least 1"),
        (["reproduce", "blobs", "--recipe", "classic"], ["blobs has no option 'recipe'", "steps"]),
        (["reproduce", "moons", "--fast"], ["moons has no option 'fast'", "steps"]),
        (["reproduce", "moons", "books", "dvd"], "moons has no option 'domains'"),
        (["reproduce", "mnist-m", "--recipe", "modern"], ["unknown recipe 'modern'", "paper, tuned, classic, strong"]),
        (["reproduce", "amazon-reviews", "books"], "takes a source and a target"),
        (["reproduce", "amazon-reviews", "books", "toys"], ["'toys'", "kitchen"]),
        (["demo", "--seeds", "0"], "give at least one seed"),
        (["demo", "--steps", "3"], "--steps"),
        (["list", "methods"], "methods"),
    ],
)
def test_a_command_that_makes_no_sense_is_explained(words, because, files, refused):
    refused(*words, because=because)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (("adapt", "--source", "lab.csv", "--target", "field.csv", "--label", "species", "--out", ""), "--out"),
        (("compare", "--source", "lab.csv", "--target", "field.csv", "--label", "species", "--out="), "--out="),
        (("tune", "--source", "lab.csv", "--target", "field.csv", "--search", "lr=1:2", "--storage", ""), "--storage"),
        (("predict", "", "field.csv", "-o", "new.csv"), "predict"),
        (("assess", "", "--target", "field.csv"), "assess"),
    ],
)
def test_an_empty_value_is_not_the_working_folder(words, place, files, refused):
    refused(*words, because=f"an empty value stands behind {place}: give one, or leave the option out")


def test_a_mistyped_command_costs_no_earlier_results(dann_, refused, undrawn):
    assert dann_("reproduce", "moons", "--seeds", "1", "--steps", "2", "--out", "kept")[0] == 0
    kept = tree("kept")
    refused("reproduce", "mnist-m", "--recipe", "modern", "--out", "kept", because="unknown recipe")
    assert any(name.endswith(".safetensors") for name in kept)
    assert tree("kept") == kept


# model files


@pytest.mark.parametrize(
    ("damage", "because"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:-10]), "truncated"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1] + bytes([p.read_bytes()[-1] ^ 1])), "altered"),
        (lambda p: p.write_bytes(b""), "truncated"),
        (lambda p: p.unlink(), "there is no model file"),
        (lambda p: runs.save_model(p, weights(p), {**runs.load_model(p)[1], "format": 99}), "newer dann"),
        (lambda p: p.write_bytes(pickle.dumps(Bomb())), "no model file"),
        (lambda p: torch.save(Bomb(), p), "no model file"),
    ],
    ids=["truncated", "altered", "empty", "missing", "newer", "pickle", "torch"],
)
def test_a_damaged_model_is_refused_and_nothing_written(damage, because, model, refused):
    damage(model)
    refused("predict", model, "new.csv", "-o", "out.csv", because=["model.safetensors", because])
    assert EXPLODED == []


def test_a_pickled_network_is_no_model(files, refused):
    torch.save({"net": Bomb()}, "net.pt")
    refused("predict", "net.pt", "new.csv", "-o", "out.csv", because="net.pt")
    assert EXPLODED == []


def test_rows_that_do_not_fit_the_model_leave_no_predictions(model, write, refused):
    write("bad.csv", labels=None, change=first_row(a="tall"))
    refused("predict", model, "bad.csv", "-o", "out.csv", because="bad.csv has text in a ('tall', line 2)")
    write("other.csv", labels=None, change=lambda rows: [{"a": 1, "z": 2} for _ in rows])
    refused("predict", model, "other.csv", "-o", "out.csv", because="it lacks b, c; only it has z")


def numbered(rows):
    """Add an id to every row."""
    return [{"id": f"row-{i}", **row} for i, row in enumerate(rows)]


def test_columns_that_are_no_features_are_dropped_and_stand_beside_predictions(write, dann_, refused):
    write("lab.csv", change=numbered)
    write("field.csv", 24, labels=None, change=numbered)
    words = ("adapt", "--source", "lab.csv", "--target", "field.csv", "--label", "species", "--set", "steps=4")
    refused(*words, because="'row-0'")
    refused(*words, "--drop", "ID", because=["--drop ID: there is no such column", "id, a, b, c"])
    refused(*words, "--drop", "species", because="'species' cannot be the label and be dropped")
    code, _, error = dann_(*words, "--drop", "id")
    assert code == 0, error
    assert DomainAdapter.load("runs/adapt").columns_ == ["a", "b", "c"]
    assert dann_("predict", "runs/adapt", "field.csv", "--drop", "id", "-o", "out.csv")[0] == 0
    code, out, _ = dann_("predict", "runs/adapt", "field.csv", "-o", "short.csv")
    assert code == 0
    assert "Note: left out, as the model was not trained on them: id" in out
    for file in ("out.csv", "short.csv", "runs/adapt/target_predictions.csv"):
        with open(file, newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert [row["id"] for row in rows] == [f"row-{i}" for i in range(24)]
        assert {row["prediction"] for row in rows} <= set(SPECIES)


def test_several_columns_are_dropped_by_as_many_options(write, refused_data, refused, model):
    write("lab.csv", change=numbered)
    write("field.csv", 24, change=numbered)
    because = "--drop id, a: there is no such column; repeat the option for each: --drop id --drop a"
    refused_data("lab.csv", "field.csv", "--drop", "id, a", because=because)
    refused_data(
        "lab.csv", "field.csv", "--drop", "id,z", because="--drop id,z: there is no such column; there are: id,"
    )
    refused("predict", model, "field.csv", "-o", "out.csv", "--drop", "id,species", because="--drop id --drop species")


def test_a_model_knows_its_columns_and_misses_those_that_are_not_there(model, write, dann_, refused):
    write("more.csv", 40, 3.0, change=lambda rows: [{"patient": f"p{i // 2}", **r} for i, r in enumerate(rows)])
    code, out, error = dann_("predict", model, "more.csv", "-o", "out.csv")
    assert code == 0, error
    assert "not trained on them: patient, species; if one of them holds labels, name it with --label" in out
    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["patient"], row["species"]) for row in rows[:3]] == [("p0", "cat"), ("p0", "dog"), ("p1", "cat")]
    words = ("--target", "more.csv", "--source", "lab.csv", "--label", "species")
    code, out, error = dann_("assess", model, *words)
    assert code == 0, error
    assert "not trained on them: patient\n" in out
    write("less.csv", change=lambda rows: [{"a": r["a"], "b": r["b"], "patient": 1} for r in rows])
    because = "has other columns than the source: it lacks c; only it has patient"
    refused("predict", model, "less.csv", "-o", "none.csv", because=because)
    refused("assess", model, "--target", "less.csv", "--source", "lab.csv", "--label", "species", because=because)


# places that cannot be written


def test_a_run_folder_below_a_file_is_refused(files, refused_data):
    refused_data("lab.csv", "field.csv", "--set", "steps=2", "--out", "lab.csv/run", because="lab.csv")


def test_a_run_folder_that_may_not_be_written_is_refused(files, refused_data, monkeypatch):
    def forbidden(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    Path("run").mkdir()
    monkeypatch.setattr(runs, "open", forbidden, raising=False)
    refused_data("lab.csv", "field.csv", "--out", "run", because=["Permission denied", "run"])


@pytest.mark.parametrize("place", ["lab.csv/rows.json", "folder"])
def test_a_json_file_that_cannot_be_written_is_told_before_the_training(place, files, refused_data):
    Path("folder").mkdir()
    refused_data("lab.csv", "field.csv", "--json", place, because=place.split("/")[0])


def test_predictions_that_cannot_be_written_leave_nothing(model, refused, monkeypatch):
    Path("folder").mkdir()
    refused("predict", model, "new.csv", "-o", "folder", because="folder")
    refused("predict", model, "new.csv", "-o", "new.csv/out.csv", because="new.csv")
    Path("out.csv").write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    refused("predict", model, "new.csv", "-o", "out.csv", because="No space left")


@pytest.mark.parametrize("folder", ["models", "figures", "snapshots", "trainings"])
def test_a_folder_of_the_users_is_no_run_folder(folder, files, refused_data):
    (Path("mine") / folder).mkdir(parents=True)
    (Path("mine") / folder / "thesis.txt").write_text("years of work")
    refused_data("lab.csv", "field.csv", "--out", "mine", because=[f"mine/{folder}", "give another folder"])


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', "null"])
def test_a_foreign_study_file_is_never_overwritten(content, files, refused_data):
    Path("mine").mkdir()
    Path("mine/study.json").write_text(content)
    because = ["study.json", "another folder"]
    refused_data("lab.csv", "field.csv", "--set", "steps=2", "--out", "mine", because=because)


# Ctrl-C


@pytest.fixture
def trainings(monkeypatch):
    """Record the steps of every training, and interrupt one in the middle when told to."""
    record = {"steps": [], "interrupt": None}
    fit = DomainAdapter.fit

    def watched(self, *args, run=None, on_step=None, **kwargs):
        if run is None:
            return fit(self, *args, **kwargs)
        steps = []
        record["steps"].append(steps)

        def watch(step):
            steps.append(step.number)
            on_step(step)
            if (len(record["steps"]), len(steps)) == record["interrupt"]:
                raise KeyboardInterrupt

        return fit(self, *args, run=run, on_step=watch, **kwargs)

    monkeypatch.setattr(DomainAdapter, "fit", watched)
    return record


def without_seconds(path):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in json.loads(Path(path).read_text())["rows"]]


def test_an_interrupted_study_goes_on_where_it_stopped_to_the_same_rows(dann_, undrawn, trainings, monkeypatch):
    monkeypatch.setattr(dann.estimator, "CHECKPOINT_SECONDS", 0)
    command = ("reproduce", "moons", "--seeds", "2", "--steps", "6", "--out")
    trainings["interrupt"] = (3, 5)  # two methods of the first seed are done
    code, _, error = dann_(*command, "run")
    assert code == 130
    assert "the same command goes on from there" in error
    kept = json.loads(Path("run/study.json").read_text())
    assert not kept["complete"]
    assert [(r["method"], r["domain"]) for r in kept["rows"]] == [
        ("source-only", "source"),
        ("source-only", "target"),
        ("dann", "source"),
        ("dann", "target"),
    ]
    assert not [p for p in Path("run").rglob(".*")]

    trainings.update(steps=[], interrupt=None)
    assert dann_(*command, "run")[0] == 0
    assert trainings["steps"] == [[4, 5], [0, 1, 2, 3, 4, 5]]
    complete = json.loads(Path("run/study.json").read_text())
    assert complete["complete"]
    assert complete["rows"][:4] == kept["rows"]
    assert not Path("run/trainings").exists()

    assert dann_(*command, "whole")[0] == 0
    assert without_seconds("run/study.json") == without_seconds("whole/study.json")
    for path in Path("whole/models").iterdir():
        assert same_weights(weights(path), weights(Path("run/models") / path.name))


def test_an_adaptation_that_is_interrupted_leaves_the_model_of_an_earlier_one(files, adapt, undrawn, trainings):
    assert adapt()[0] == 0
    results = ("model.safetensors", "target_predictions.csv", "comparison.json", "judges/1.safetensors")
    before = [Path("runs/adapt", name).read_bytes() for name in results]
    trainings.update(steps=[], interrupt=(2, 2))
    assert adapt("--seed", "1")[0] == 130
    assert [Path("runs/adapt", name).read_bytes() for name in results] == before
    trainings.update(steps=[], interrupt=None)
    assert adapt("--seed", "1")[0] == 0
    changed = [Path("runs/adapt", name).read_bytes() != old for name, old in zip(results, before, strict=True)]
    assert changed == [True, True, False, True]  # the report names the same two methods


def test_an_interrupted_adaptation_goes_on_unless_the_data_changed(files, adapt, write, undrawn, trainings):
    trainings["interrupt"] = (2, 2)
    assert adapt()[0] == 130
    trainings.update(steps=[], interrupt=None)
    assert adapt()[0] == 0
    assert len(trainings["steps"]) == 1

    trainings.update(steps=[], interrupt=(2, 2))
    assert adapt()[0] == 130
    trainings.update(steps=[], interrupt=None)
    write("lab.csv", 40)
    assert adapt()[0] == 0
    assert len(trainings["steps"]) == 2


def test_an_interrupt_before_the_first_training_leaves_nothing(files, dann_, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Study, "fit", stop)
    before = tree()
    assert dann_("reproduce", "blobs")[0] == 130
    assert tree() == before


# what works


def test_adapt_and_predict_with_named_labels(files, adapt, dann_):
    code, out, _ = adapt("--json", "rows.json")
    assert code == 0
    assert "oracle" in out
    for place in ("training.png", "features.png", "confusion.png"):
        assert Path("runs/adapt/figures", place).stat().st_size > 1000
        assert f"runs/adapt/figures/{place}" in out
    assert "Model: runs/adapt/model.safetensors" in out

    for model in ("runs/adapt/model.safetensors", "runs/adapt"):
        code, out, _ = dann_("predict", model, "new.csv", "-o", "out.csv")
        assert (code, out) == (0, "10 predictions: out.csv\n")
    with open("out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["row"]) for row in rows] == list(range(10))
    for row in rows:
        p = {name: float(row[f"probability of {name}"]) for name in SPECIES}
        assert sum(p.values()) == pytest.approx(1, abs=2e-6)
        assert row["prediction"] == max(p, key=p.get)
    with open("runs/adapt/target_predictions.csv") as file:
        assert len(file.readlines()) == 1 + 24


def test_the_json_file_has_settings_and_rows(files, adapt, undrawn):
    assert adapt("--seed", "3", "--json", "deep/rows.json")[0] == 0
    content = json.loads(Path("deep/rows.json").read_text())
    assert content["name"] == "adapt"
    assert content["settings"]["seeds"] == [3]
    assert content["settings"]["adapter"]["steps"] == 3
    assert content["settings"]["version"] == dann.__version__
    assert [(r["dataset"], r["method"], r["seed"], r["domain"]) for r in content["rows"]] == [
        ("yours", method, 3, domain) for method in ("source-only", "dann") for domain in ("source", "target")
    ]
    for row in content["rows"]:
        assert {"accuracy", "loss", "ari", "seconds"} <= set(row)
        assert 0 <= row["accuracy"] <= 1
        assert row["loss"] > 0
        assert row["seconds"] >= 0


def test_columns_in_another_order_are_arranged_by_name(files, adapt, write, undrawn):
    write("mixed.csv", 24, 3.0, change=lambda rows: [{k: r[k] for k in ("species", "c", "a", "b")} for r in rows])
    adapt("--out", "one")
    adapt("--out", "two", target="mixed.csv")
    assert same_weights(weights("one/model.safetensors"), weights("two/model.safetensors"))
    assert Path("one/target_predictions.csv").read_text() == Path("two/target_predictions.csv").read_text()


def test_a_target_without_labels_gets_no_scores_and_the_message_says_so(files, adapt, undrawn):
    code, out, _ = adapt("--json", "rows.json", target="new.csv")
    assert code == 0
    assert "The target has no labels" in out
    assert "oracle" not in out
    rows = json.loads(Path("rows.json").read_text())["rows"]
    assert [("accuracy" in r, "loss" in r) for r in rows if r["domain"] == "target"] == [(False, False)] * 2
    assert all("accuracy" in r for r in rows if r["domain"] == "source")


def test_a_target_with_some_labels_is_judged_on_those(write, adapt, undrawn):
    write("lab.csv", labels=("3", "7"))
    write("field.csv", 24, labels=("3", "7", "", "7"))
    assert adapt("--json", "rows.json")[0] == 0
    rows = json.loads(Path("rows.json").read_text())["rows"]
    assert [r["n"] for r in rows if r["domain"] == "target"] == [18, 18]
    assert json.loads(Path("rows.json").read_text())["name"] == "adapt"


def test_a_target_with_hardly_any_labels_is_no_reason_to_fail(write, adapt, undrawn):
    write("lab.csv", 60)
    write("field.csv", 60, labels=("cat", *[""] * 29))
    assert adapt("--json", "rows.json")[0] == 0
    assert [r["n"] for r in json.loads(Path("rows.json").read_text())["rows"]] == [12, 2, 12, 2]


def test_hidden_target_labels_cannot_change_the_models(files, adapt, write, undrawn):
    write("swapped.csv", 24, 3.0, labels=SPECIES[::-1])
    write("none.csv", 24, 3.0, labels=None)
    for target in ("field", "swapped", "none"):
        assert adapt("--out", target, target=f"{target}.csv")[0] == 0
    names = [path.name for path in Path("field/models").iterdir()]
    assert len(names) == 2
    for name in names:
        for other in ("swapped", "none"):
            assert same_weights(weights(f"field/models/{name}"), weights(f"{other}/models/{name}"))


def test_settings_reach_the_saved_model(files, adapt, undrawn):
    code, _, _ = adapt("--set", "method__weight=0.5", "--set", "method__hidden=(7,)", "--set", "optimizer=sgd")
    assert code == 0
    config = runs.load_model("runs/adapt/model.safetensors")[1]["adapter"]
    assert config["method"] == {"name": "dann", "params": {**DANN(weight=0.5).get_params(), "hidden": [7]}}
    assert (config["optimizer"], config["steps"]) == ("sgd", 3)
    loaded = DomainAdapter.load("runs/adapt")
    assert loaded.network_.parts["domain"][0].out_features == 7


@pytest.mark.parametrize("method", ["source-only", "mcd"])
def test_other_methods_can_be_asked_for(method, files, adapt, undrawn):
    assert adapt("--method", method, "--json", "rows.json")[0] == 0
    rows = json.loads(Path("rows.json").read_text())["rows"]
    assert {r["method"] for r in rows} == {"source-only", method}
    assert runs.load_model("runs/adapt/model.safetensors")[1]["adapter"]["method"]["name"] == method


def test_images_of_unsigned_bytes(images, adapt, dann_, undrawn):
    np.savez("lab.npz", X=images.x.transpose(0, 2, 3, 1), y=images.y)
    np.savez("field.npz", X=images.xt.transpose(0, 2, 3, 1))
    code, _, error = adapt("--set", "backbone=small", source="lab.npz", target="field.npz", label=None)
    assert code == 0, error
    assert runs.load_model("runs/adapt")[1]["dtype"] == "uint8"
    assert dann_("predict", "runs/adapt", "field.npz", "-o", "out.csv")[0] == 0
    assert len(Path("out.csv").read_text().splitlines()) == 1 + 12


def test_predict_leaves_a_named_label_column_out(model, dann_):
    for words in (("field.csv", "--label", "species"), ("field.csv", "--label", "species", "--device", "cpu")):
        assert dann_("predict", model, *words, "-o", "out.csv")[0] == 0
    with open("out.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 1 + 24


def test_labels_come_back_as_they_were_written(write, adapt, undrawn):
    names = ('a "b", c', "007")
    write("lab.csv", labels=names)
    write("field.csv", 24, labels=None)
    assert adapt()[0] == 0
    with open("runs/adapt/target_predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["prediction"] for row in rows} <= set(names)
    assert set(rows[0]) == {"row", "prediction", *(f"probability of {name}" for name in names)}


def test_a_rare_class_is_in_training_whatever_the_seed(write, adapt, undrawn):
    write("lab.csv", 20, change=first_row(species="yak"))
    write("field.csv", 20)
    for seed in range(6):
        code, _, error = adapt("--seed", seed, "--set", "steps=1")
        assert code == 0, error
    assert DomainAdapter.load("runs/adapt").classes_.tolist() == ["cat", "dog", "yak"]


def test_the_list_shows_everything_that_has_a_name(dann_):
    code, out, _ = dann_("list")
    assert code == 0
    for registry in (METHODS, BACKBONES, PRESETS, VALIDATORS, DATASETS, EXPERIMENTS, RECIPES):
        for name in registry:
            assert any(line.split()[:1] == [name] for line in out.splitlines()), name


def test_augmentations_are_listed_by_the_names_that_can_be_set(dann_, monkeypatch):
    monkeypatch.setattr(dann.cli.console, "width", 300)
    _, out, _ = dann_("list")
    listed = out.split("Augmentations")[1].split("Validators")[0].strip().splitlines()
    assert [line.split()[0] for line in listed] == ["none", "weak", "strong"]
    assert listed[1].split(None, 1)[1].strip() == "Images: shift 2. Tables: noise 0.1."
    for line in listed:
        for shape in ((3,), (3, 16, 16)):
            assert (augmentation_of(line.split()[0], shape) is None) == (line.split()[0] == "none")


def test_the_list_marks_the_methods_that_go_on_from_a_model(dann_, monkeypatch):
    monkeypatch.setattr(dann.cli.console, "width", 300)
    lines = dann_("list")[1].splitlines()
    marked = [line.split()[0] for line in lines if "Goes on from a fitted model: dann adapt --model" in line]
    assert marked == ["shot", "dirt-t", "tent", "adabn"]


def test_reproduce_prints_figures_beside_the_published_ones(dann_, undrawn):
    code, out, _ = dann_("reproduce", "moons", "--seeds", "2", "--seed", "4", "--steps", "2", "--json", "rows.json")
    assert code == 0
    assert "published" in out
    assert "Ganin et al. 2016, figure 2" in out
    assert "Seeds: 4, 5" in out
    content = json.loads(Path("rows.json").read_text())
    assert content["settings"]["steps"] == 2
    assert {row["seed"] for row in content["rows"]} == {4, 5}
    assert content["published"] == list(EXPERIMENTS["moons"].published)


def test_demo_runs_the_experiment_of_that_name(dann_, monkeypatch):
    seen = []

    def run(study):
        seen.append((study.experiment.name, study.seeds, study.folder))
        study.add(dataset="moons", method="dann", seed=0, domain="target", accuracy=1.0)
        return study

    monkeypatch.setattr(Study, "run", run)
    assert dann_("demo")[0] == 0
    assert seen == [("demo", [0], Path("runs/demo"))]


def test_help_needs_no_heavy_library():
    heavy = {"torch", "sklearn", "matplotlib", "scipy", "PIL", "numpy"}
    code = "import sys; from dann.cli import main; code = main(sys.argv[1:]);"
    code += f"print('CODE', code, sorted({heavy} & set(sys.modules)))"
    for words in (["--help"], ["adapt", "--help"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        assert "CODE 0 []" in done.stdout
        assert done.stderr == ""


def test_only_a_process_of_its_own_changes_the_garbage_collector(dann_):
    before = gc.get_threshold()
    dann_("--version")
    assert gc.get_threshold() == before
    code = (
        "import gc, sys; from dann.cli import main; sys.argv = ['dann', '--version']; main(); print(gc.get_threshold())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{dann.__version__}\n{(10_000, *before[1:])}\n"


def test_help_explains_every_command(dann_):
    code, out, _ = dann_("--help")
    assert code == 0
    assert all(name in out for name in ("adapt", "demo", "list", "predict", "reproduce"))
    assert dann_()[1] == out


def test_version(dann_):
    assert dann_("--version")[:2] == (0, f"{dann.__version__}\n")


def test_the_package_as_a_command_gives_the_exit_code():
    done = subprocess.run([sys.executable, "-m", "dann", "predict", "no.model", "no.csv", "-o", "out.csv"],
                          capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip() == "error: there is no model file no.model"


def test_a_bug_is_not_taken_for_bad_input(monkeypatch):
    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Study, "run", broken)
    with contextlib.suppress(SystemExit), pytest.raises(RuntimeError, match="a bug"):
        main(["reproduce", "blobs"])


# compare, assess, tune


@pytest.fixture
def compare(dann_):
    """Return a function that compares two methods in a few steps."""

    def run(*words, source="lab.csv", target="field.csv", label="species"):
        named = ("--label", label) if label else ()
        files = ("--source", source, "--target", target, *named)
        return dann_("compare", *files, "--methods", "dann,mcc", "--set", "steps=20", "--set", "batch_size=8", *words)

    return run


@pytest.fixture
def many(write):
    """A labelled source and a labelled target with enough rows to judge by."""
    return write("lab.csv", 120), write("field.csv", 110, 3.0)


def test_compare_prints_methods_validators_and_a_verdict_and_leaves_a_model(many, compare):
    code, out, error = compare("--json", "found.json")
    assert code == 0, error
    found = json.loads(Path("found.json").read_text())
    assert f"Verdict: {found['assessment']['sentence']}" in out
    most = found["carriers"][0]
    named = f"{most['column']} ({most['distance']:.2f})"
    assert f"- columns that differ the most, by their Kolmogorov-Smirnov distance: {named}" in out
    for name in ("source-only", "dann", "mcc"):
        assert name in out
    assert "last*" in out
    assert len(found["candidates"]) == 3 * 2 * 2
    assert all(0 <= c["oracle_accuracy"] <= 1 for c in found["candidates"])
    assert set(found["candidates"][0]["scores"]) == set(VALIDATORS)
    assert DomainAdapter.load("runs/compare").classes_.tolist() == ["cat", "dog"]
    assert len(Path("runs/compare/target_predictions.csv").read_text().splitlines()) == 111
    assert "runs/compare/figures/estimates.png" in out
    assert Path("runs/compare/figures/estimates.png").stat().st_size > 5000


def test_dropped_columns_do_not_hide_what_predictions_say(model, dann_):
    rows = np.array([(b"k", 1.0, 2.0, 3.0), (b"l", 2.0, 1.0, 0.0)], dtype=[("row", "S3"), *((n, "f8") for n in "abc")])
    np.save("new.npy", rows)
    assert dann_("predict", model, "new.npy", "--drop", "row", "-o", "out.csv")[0] == 0
    with open("out.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["row"] for row in found] == ["0", "1"]
    assert [row["row (given)"] for row in found] == ["k", "l"]


def test_comparing_and_searching_drop_columns_too(write, compare, dann_, refused):
    write("lab.csv", 120, change=numbered)
    write("field.csv", 110, 3.0, change=numbered)
    code, _, error = compare("--drop", "id")
    assert code == 0, error
    for more in (("--drop", "id"), ()):
        assert dann_("assess", "runs/compare", "--target", "field.csv", "--label", "species", *more)[0] == 0
    refused("assess", "runs/compare", "--target", "field.csv", "--drop", "key", because="--drop key: there is no such")
    words = ("--target", "field.csv", "--baseline", "nothere")
    refused("assess", "runs/compare", *words, because="--baseline goes with --source")
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    words = ("tune", "--source", "lab.csv", "--target", "field.csv", "--label", "species", "--trials", "1")
    assert dann_(*words, "--drop", "id", "--set", "steps=4", "--search", "batch_size=4,8")[0] == 0


def test_labels_in_the_target_file_feed_the_oracle_alone(many, write, compare):
    write("none.csv", 110, 3.0, labels=None)
    write("swapped.csv", 110, 3.0, labels=SPECIES[::-1])
    reports = []
    for target in ("field", "none", "swapped"):
        assert compare("--out", target, "--json", f"{target}.json", target=f"{target}.csv")[0] == 0
        reports.append(json.loads(Path(f"{target}.json").read_text()))
    assert reports[0]["assessment"] == reports[1]["assessment"] == reports[2]["assessment"]
    scores = [[c["scores"] for c in report["candidates"]] for report in reports]
    assert scores[0] == scores[1] == scores[2]
    assert all(c["oracle_accuracy"] is None for c in reports[1]["candidates"])
    assert "*" not in compare("--out", "none", target="none.csv")[1]


def test_settings_of_a_method_reach_the_methods_that_have_them(many, compare):
    assert compare("--set", "method__weight=0.25")[0] == 0
    kept = [runs.load_model(path)[1]["adapter"]["method"] for path in Path("runs/compare/judges").glob("*.safetensors")]
    weights = {m["name"]: m["params"].get("weight") for m in kept if isinstance(m, dict)}
    assert weights["dann"] == 0.25


def test_a_baseline_that_diverges_is_a_failure_with_code_1(many, compare):
    code, _, error = compare("--set", "lr=1e30", "--set", "optimizer=sgd")
    assert code == 1
    assert "source-only itself cannot be trained" in error
    assert "Traceback" not in error


def test_the_same_comparison_goes_on_and_another_one_starts_anew(many, compare):
    def written():
        (path,) = Path("runs/compare/trainings").glob("*/dann-0/history.json")
        return path.parent.parent, path.stat().st_mtime_ns

    assert compare()[0] == 0
    first = written()
    assert compare("--seeds", "1")[0] == 0  # its trainings are there
    assert written() == first
    assert compare("--set", "lr=0.01")[0] == 0
    assert written()[0] != first[0]
    assert compare("--set", "lr=0.01", "--checkpoints", "3", "--seeds", "1")[0] == 0


def test_two_commands_do_not_share_a_run_folder(many, compare, adapt, dann_, model):
    with runs.alone("one"):
        for code, _, error in (
            dann_("adapt", "--model", model, "--target", "field.csv", "--label", "species", "--out", "one"),
            compare("--out", "one"),
            adapt("--out", "one"),
            dann_("reproduce", "moons", "--out", "one"),
        ):
            assert code == 2
            assert "error: one is the run folder of another dann that is running: wait, or give another" in error
    assert not Path("one").exists()


def test_another_unit_is_asked_about_once(write, compare, adapt, dann_, undrawn):
    write("lab.csv", 120)
    write("field.csv", 110, 3.0, change=lambda rows: [{**row, "b": 1e6 * float(row["b"])} for row in rows])
    search = ("--search", "lr=1e-3:1e-2", "--trials", "2", "--set", "steps=4")
    files = ("--source", "lab.csv", "--target", "field.csv", "--label", "species")
    for command in (compare, adapt, lambda: dann_("tune", *files, *search)):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            assert command()[0] == 0
        assert ["'b': values vary about 1e+6 times" in str(w.message) for w in warned].count(True) == 1


def test_arrays_have_no_columns_to_tell_sources_apart_by(refused):
    np.savez("lab.npz", X=np.zeros((20, 3)), y=np.arange(20) % 2, who=np.arange(20) % 3)
    because = "--domain who: the source has no such column; it has: none with a name; arrays have none: in Python"
    refused("compare", "--source", "lab.npz", "--target", "lab.npz", "--domain", "who", because=because)


def test_a_narrow_terminal_shows_every_number(many, compare, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = compare()[1]
    table = out.split("Means over seeds")[0]
    assert "…" not in table
    assert "last*" in table


@pytest.mark.parametrize(
    ("words", "because"),
    [
        (("--methods", "daan"), "unknown method 'daan'"),
        (("--methods", "target-only"), "target-only trains on target labels"),
        (("--methods", ","), "nothing to compare source-only with"),
        (("--methods", "dann,mcc,dann"), "--methods names dann twice"),
        (("--seeds", "0"), "seeds=0 must be a whole number of at least 1"),
        (("--set", "random_state=3"), "--set random_state=… is not taken: give --seeds"),
        (("--search", "lr=1:2"), "--search"),
        (("--set", "lr=fast"), "--set lr=fast is not taken: it is a number, such as 0.002"),
        (
            ("--set", "method__breadth=3"),
            "--set method__breadth=… is not taken: there is no such setting of dann, cdan, deep-coral, mcc; ",
        ),
        (("--set", "step=3"), "did you mean steps?"),
        (("--methods", "dann,shot"), "shot goes on from a fitted model"),
    ],
)
def test_a_comparison_that_makes_no_sense_is_explained(words, because, many, refused):
    refused("compare", "--source", "lab.csv", "--target", "field.csv", "--label", "species", *words, because=because)


def test_assess_judges_new_rows_with_what_compare_left(many, compare, write, dann_):
    assert compare()[0] == 0
    write("later.csv", 90, 3.2, labels=None)
    code, out, error = dann_("assess", "runs/compare", "--target", "later.csv", "--json", "later.json")
    assert code == 0, error
    found = json.loads(Path("later.json").read_text())
    assert f"Verdict: {found['sentence']}" in out
    for name, e in found["estimates"].items():
        assert re.search(rf"^{name} +{e['accuracy']:.2f} \[{e['low']:.2f}, {e['high']:.2f}\]", out, flags=re.MULTILINE)
    assert list(found["estimates"]) == ["source-only", "dann", "mcc"]
    write("few.csv", 90, 3.2, labels=("cat", "dog", "", "", "", ""))
    assert dann_("assess", "runs/compare", "--target", "few.csv", "--label", "species", "--json", "few.json")[0] == 0
    widths = [e["high"] - e["low"] for e in (found["estimates"]["source-only"],)]
    told = json.loads(Path("few.json").read_text())["estimates"]["source-only"]
    assert told["high"] - told["low"] < widths[0]


def test_assess_judges_new_rows_with_what_adapt_left(many, adapt, write, dann_):
    write("field.csv", 110, 3.0, labels=None)
    code, out, error = adapt("--set", "steps=60")
    assert code == 0, error
    assert "`dann assess runs/adapt --target FILE`, with new rows, estimates the accuracy." in out
    write("later.csv", 90, 3.2, labels=None)
    code, out, error = dann_("assess", "runs/adapt", "--target", "later.csv", "--json", "later.json")
    assert code == 0, error
    found = json.loads(Path("later.json").read_text())
    assert list(found["estimates"]) == ["source-only", "dann"]
    assert f"Verdict: {found['sentence']}" in out
    judges = [DomainAdapter.load(f"runs/adapt/judges/{number}.safetensors") for number in (0, 1)]
    saved = DomainAdapter.load("runs/adapt")
    rows = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    assert [type(judge.method_) for judge in judges] == [METHODS["source-only"], METHODS["dann"]]
    np.testing.assert_array_equal(judges[1].predict_proba(rows), saved.predict_proba(rows))
    held_out = runs.load_evidence("runs/adapt/judges/0.evidence")
    assert 20 <= len(held_out.source_y) <= 30  # a fifth of the source
    assert adapt("--set", "steps=61", source="more.csv")[0] == 2  # which is not there
    assert Path("runs/adapt/comparison.json").exists()
    write("small.csv", 12, labels=None)
    assert adapt(target="small.csv")[0] == 0
    assert dann_("assess", "runs/adapt", "--target", "later.csv")[0] == 0
    _, out, _ = dann_("assess", "runs/adapt", "--target", "small.csv")
    assert "target rows are too few, each needs 20. Keep source-only." in out  # nobody has judged dann


def test_assess_takes_a_model_file_with_rows_of_its_source(many, compare, write, dann_, refused):
    assert compare()[0] == 0
    write("more.csv", 80)
    words = ("assess", "runs/compare/model.safetensors", "--target", "field.csv", "--label", "species")
    refused(*words, because="or --source, rows that are new to it")
    code, out, _ = dann_(*words, "--source", "more.csv")
    assert code == 0
    assert "Verdict: this model: estimated target accuracy" in out
    code, out, _ = dann_(*words, "--source", "more.csv", "--baseline", "runs/compare/model.safetensors")
    assert code == 0
    assert "source-only" in out


def test_columns_called_y_are_features_where_the_source_has_them(dann_, tmp_path):
    rng = np.random.default_rng(0)
    for name, n, label in (("walk.csv", 40, True), ("run.csv", 30, False)):
        x = rng.normal(size=(n, 3)) + 4 * (np.arange(n) % 2)[:, None]
        lines = [",".join(map(str, [*row, *(["a", "b"][i % 2] * label)])) for i, row in enumerate(x.round(3).tolist())]
        Path(name).write_text("\n".join(["x,y,z" + ",label" * label, *lines]) + "\n")
    code, _, error = dann_("adapt", "--source", "walk.csv", "--target", "run.csv", "--set", "steps=5")
    assert code == 0, error
    code, _, error = dann_("predict", "runs/adapt", "run.csv", "-o", "classes.csv")
    assert code == 0, error
    assert len(Path("classes.csv").read_text().splitlines()) == 31


def test_assess_of_too_few_rows_cannot_tell(many, compare, write, dann_):
    assert compare()[0] == 0
    for rows in (9, 1):
        write("tiny.csv", rows, labels=None)
        code, out, error = dann_("assess", "runs/compare", "--target", "tiny.csv")
        assert code == 0, error
        assert "Verdict: cannot tell: " in out
        chosen = json.loads(Path("runs/compare/comparison.json").read_text())["assessment"]["choice"]
        assert f"are too few, each needs 20. Keep {chosen}." in out


def test_compare_says_first_that_there_are_too_few_rows_for_a_verdict(files, dann_):
    words = ("compare", "--source", "lab.csv", "--target", "field.csv", "--label", "species", "--methods", "dann")
    code, out, error = dann_(*words, "--set", "steps=2", "--seeds", "1", "--checkpoints", "1")
    assert code == 0, error
    assert "Note: a verdict needs 20 held-out rows of both domains, a fifth of 100." in out
    assert "Verdict: cannot tell" in out


@pytest.mark.parametrize("setting", ["lr=high", "averaging=none"])
def test_a_setting_that_is_no_number_is_named(setting, files, refused):
    words = ("adapt", "--source", "lab.csv", "--target", "field.csv", "--label", "species", "--set", setting)
    refused(*words, because=setting.split("=")[0] + "=")


def test_a_label_column_that_was_not_named_is_hinted_at(files, refused):
    words = ("--source", "lab.csv", "--target", "field.csv", "--label", "kind")
    Path("lab.csv").write_text(Path("lab.csv").read_text().replace("species", "kind"))
    refused("adapt", *words, because="only it has species: name the label column, and drop what is no feature")


def test_tune_prints_the_best_and_goes_on(many, dann_):
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    words = ("tune", "--source", "lab.csv", "--target", "field.csv", "--label", "species", "--set", "steps=10")
    search = ("--search", "lr=1e-3:1e-1:log", "--search", "batch_size=4,8")
    code, out, error = dann_(*words, *search, "--trials", "2", "--json", "trials.json")
    assert code == 0, error
    found = json.loads(Path("trials.json").read_text())
    assert len(found["trials"]) == 2
    assert f"lr={found['best']['lr']}" in out
    assert dann_(*words, *search, "--trials", "2", "--json", "trials.json")[0] == 0
    assert json.loads(Path("trials.json").read_text()) == found
    assert dann_(*words, *search, "--trials", "4", "--json", "trials.json")[0] == 0
    assert len(json.loads(Path("trials.json").read_text())["trials"]) == 4


def test_what_tune_found_stands_before_what_was_set(many, dann_):
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    words = ("tune", "--source", "lab.csv", "--target", "field.csv", "--label", "species", "--trials", "1")
    code, out, error = dann_(*words, "--set", "steps=9", "--set", "lr=0.01", "--search", "steps=10:12")
    assert code == 0, error
    told = out.split("dann compare")[1]
    assert "--set lr=0.01" in told
    assert told.count("steps=") == 1
    assert "steps=9" not in told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--search", "method=dann,mcc"), "--search method=… is not taken: give --method"),
        (("--search", "random_state=0:5"), "--search random_state=… is not taken: give --seed"),
        (
            ("--search", "step=10:20"),
            "--search step=… is not taken: there is no such setting of dann; did you mean steps?",
        ),
        (("--search", "lr=1:2", "--set", "step=3"), "--set step=… is not taken"),
        (("--search", "lr=1e-3:1e-2", "--search", "lr=1e-2:1e-1"), "--search lr=… is given twice"),
    ],
)
def test_searches_and_settings_have_one_place_each(words, message, many, refused):
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    refused("tune", "--source", "lab.csv", "--target", "field.csv", "--label", "species", *words, because=message)


@pytest.mark.parametrize("search", ["lr", "lr=", "rate=1:2", "lr=2:1"])
def test_a_search_that_makes_no_sense_is_explained(search, many, refused):
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    words = ("tune", "--source", "lab.csv", "--target", "field.csv", "--label", "species", "--search", search)
    refused(*words, because="KEY=LOW:HIGH" if search in ("lr", "lr=") else search.split("=")[0])


def test_no_file_that_is_read_is_written_over(files, refused, model):
    words = ("adapt", "--source", "lab.csv", "--target", "field.csv", "--label", "species")
    before = Path("lab.csv").read_bytes()
    refused(*words, "--json", "lab.csv", because="lab.csv is read and would be written over")
    refused("predict", str(model), "new.csv", "-o", "./new.csv", because="new.csv is read and would be written over")
    assert Path("lab.csv").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        "adapt --source lab.csv --target field.csv --label species --out . --json ./study.json",
        "compare --source lab.csv --target field.csv --label species --out . --json comparison.json",
        "adapt --model MODEL --target field.csv --out run --json run/model.safetensors",
        "assess . --target field.csv --json comparison.json",
        "predict . new.csv -o model.safetensors",
        "demo --out . --json study.json",
    ],
)
def test_no_file_that_a_run_folder_is_read_by_is_written_over(words, files, refused, model):
    Path("run").mkdir()
    because = "would be written twice" if "run/model" in words else "is the run folder's own: name another file"
    refused(*words.replace("MODEL", str(model)).split(), because=because)


def test_predictions_go_into_a_file(files, refused, model):
    refused("predict", str(model), "new.csv", "-o", ".", because=". is a folder; -o takes a file")
    refused(
        "predict", str(model), "new.csv", "-o", "p.parquet", because="-o writes CSV, and p.parquet says something else"
    )


def test_folders_of_others_beside_the_trainings_stay(many, compare):
    for name in ("0123456789abcdef0123456789abcdef", "compare-mine"):
        (Path("runs/compare/trainings") / name).mkdir(parents=True)
    assert compare()[0] == 0
    assert compare("--set", "lr=0.01")[0] == 0
    kept = sorted(path.name for path in Path("runs/compare/trainings").iterdir())
    assert len(kept) == 3
    assert {"0123456789abcdef0123456789abcdef", "compare-mine"} <= set(kept)


def test_rows_of_a_group_are_held_out_together_by_every_command(write, compare, dann_, refused):
    grouped = lambda rows: [{**row, "patient": f"p{i // 6}"} for i, row in enumerate(rows)]  # noqa: E731
    write("lab.csv", 120, change=grouped)
    write("field.csv", 110, 3.0)
    assert compare("--group", "patient")[0] == 0
    assert DomainAdapter.load("runs/compare").columns_ == ["a", "b", "c"]
    few = ("--source", "lab.csv", "--target", "field.csv", "--label", "species", "--set", "steps=2")
    code, _, error = dann_("adapt", *few, "--group", "patient")
    assert code == 0, error
    refused("adapt", *few, "--group", "ward", because="--group ward: the source has no such column; it has: a, b, c")


@pytest.fixture
def sites(write, undrawn):
    """A source from two sites, cats of the one called dogs with the weight 0, and a target."""

    def change(rows):
        rows = [{**row, "site": "AB"[i % 3 == 0], "trust": 1} for i, row in enumerate(rows)]
        wrong = [{**row, "species": "dog", "trust": 0} for row in rows if row["species"] == "cat"]
        return rows + wrong

    write("lab.csv", 120, change=change)
    write("field.csv", 110, 0.5)
    return "--domain", "site", "--weight", "trust"


def test_every_command_takes_several_sources_and_weights(sites, compare, adapt, dann_):
    assert compare(*sites)[0] == 0
    many = ("--set", "steps=150", "--set", "batch_size=16")
    code, _, error = adapt(*sites, *many)
    assert code == 0, error
    for folder in ("runs/compare", "runs/adapt"):
        model = DomainAdapter.load(folder)
        assert (model.n_domains_, model.columns_) == (3, ["a", "b", "c"])
    study = json.loads(Path("runs/adapt/study.json").read_text())
    right = {(row["method"], row["domain"]): row["accuracy"] for row in study["rows"]}
    assert right["dann", "target"] > 0.9  # 120 of 180 labels say dog where rows of weight 0 count
    accuracy = next(row["domain_accuracy"] for row in study["rows"] if row["method"] == "dann")
    assert 0.3 < accuracy < 1  # of the target against both sources, a mean over two
    files = ("--source", "lab.csv", "--target", "field.csv", "--label", "species", "--search", "lr=1e-3,1e-2")
    code, _, error = dann_("tune", *files, *sites, "--trials", "1", "--set", "steps=4", "--set", "batch_size=8")
    assert code == 0, error


def test_weights_change_what_is_learned(sites, adapt):
    """Without weights every cat of the source is as often a dog: what is tested above is no matter of course."""
    code, _, error = adapt("--domain", "site", "--drop", "trust", "--set", "steps=150", "--set", "batch_size=16")
    assert code == 0, error
    rows = json.loads(Path("runs/adapt/study.json").read_text())["rows"]
    assert next(r["accuracy"] for r in rows if (r["method"], r["domain"]) == ("dann", "target")) < 0.9


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"trust": "much"}, "the column 'trust' has 'much' where a weight belongs: a number"),
        ({"trust": ""}, "the column 'trust' has '' where a weight belongs: a number"),
        ({"trust": -1}, "sample_weight must be finite and 0 or more; number 7 is -1.0"),
        ({"trust": "nan"}, "sample_weight must be finite and 0 or more; number 7 is nan"),
        ({"site": ""}, "'site' names no source in line 9, and 1 in all: fill it in"),
        ({"site": "NA"}, "'site' names no source in line 9, and 1 in all: fill it in"),
    ],
)
@pytest.mark.parametrize("command", ["adapt", "compare"])
def test_sources_and_weights_that_make_no_sense_are_refused(command, change, because, write, refused):
    made = lambda rows: [  # noqa: E731
        {**row, "site": "AB"[i % 2], "trust": 1} | (change if i == 7 else {}) for i, row in enumerate(rows)
    ]
    files = ("--source", write("lab.csv", 120, change=made), "--target", write("field.csv", 110), "--label", "species")
    refused(command, *files, "--domain", "site", "--weight", "trust", because=because)


@pytest.mark.parametrize("option", ["domain", "weight"])
def test_columns_of_sources_and_weights_must_be_there(option, many, refused):
    files = ("--source", "lab.csv", "--target", "field.csv", "--label", "species")
    because = f"--{option} where: the source has no such column; it has: a, b, c"
    for command in ("adapt", "compare"):
        refused(command, *files, f"--{option}", "where", because=because)


def test_outputs_are_not_written_over_each_other(refused, files):
    data = ("--source", "lab.csv", "--target", "field.csv", "--label", "species")
    both = "would be written twice"
    refused("adapt", *data, "--out", "a", "--json", "a/target_predictions.csv", because=both)
    refused("compare", *data, "--out", "a", "--json", "a/target_predictions.csv", because=both)
    search = (*data, "--search", "lr=1e-3:1e-2")
    refused("tune", *search, "--out", "a", "--json", "a/trials.log", because=both)
    Path("judges").mkdir()
    refused("predict", ".", "new.csv", "-o", "judges/0.safetensors", because="the run folder's own")


@pytest.mark.parametrize("command", ["adapt", "compare"])
def test_inputs_among_what_a_run_replaces_are_refused(command, refused, files):
    Path("a/figures").mkdir(parents=True)
    shutil.copy("lab.csv", "a/figures/lab.csv")
    data = ("--source", "a/figures/lab.csv", "--target", "field.csv", "--label", "species")
    refused(command, *data, "--out", "a", because="a/figures/lab.csv lies in the run folder, among what is replaced")


def test_a_folder_is_no_input(refused, files):
    Path("a").mkdir()
    data = ("--source", "a", "--target", "field.csv", "--label", "species")
    refused("adapt", *data, "--out", "a", because="a is a folder, and a file is read")


def test_a_comparison_does_not_replace_another_commands_run(adapt, refused, files, undrawn):
    assert adapt("--out", "a")[0] == 0
    data = ("--source", "lab.csv", "--target", "field.csv", "--label", "species")
    refused("compare", *data, "--out", "a", because="a holds the run of another command (study.json)")


@pytest.mark.parametrize("rows", ["5", "[{}]", "[1]", '{"a": 1}'])
def test_a_study_of_something_else_is_refused(rows, refused, files):
    Path("a").mkdir()
    Path("a/study.json").write_text(f'{{"name": "adapt", "settings": {{}}, "rows": {rows}, "complete": false}}')
    data = ("--source", "lab.csv", "--target", "field.csv", "--label", "species")
    refused("adapt", *data, "--out", "a", because="a/study.json is no readable study")


def test_what_steers_a_terminal_is_shown_and_codes_of_emojis_stay(refused):
    shown = refused("assess", "runs/:x:/\x1b[31mred", "--target", "t.csv", because="there is no model file runs/:x:/")
    assert "\\x1b[31mred" in shown
    assert "\x1b[31mred" not in shown


def test_what_a_command_lacks_is_told_with_how_files_are_given(refused, files):
    refused("compare", "--source", "lab.csv", because="dann compare needs --target; dann compare --help tells more")
    refused("predict", "runs/compare", "new.csv", because="dann predict needs --out; ")
    refused("compare", "lab.csv", "field.csv", because="'lab.csv' is of no option: files are given as --source FILE")


def test_text_in_place_of_a_number_is_named(refused, files):
    data = ("--source", "lab.csv", "--target", "field.csv", "--label", "species")
    number = "--set steps=abc is not taken: it is a number, such as 2000"
    refused("compare", *data, "--set", "steps=abc", because=number)
    refused("adapt", *data, "--set", "method__weight=x", because="--set method__weight=x is not taken: it is a number")
    refused("adapt", *data, "--method", "domain-only", because="domain-only trains no classifier")
    refused("adapt", *data, "--method", "DANN", because="unknown method 'DANN'; did you mean dann? There are: ")


def test_numbers_that_may_name_rows_are_asked_about(adapt, write, undrawn):
    for name in ("lab.csv", "field.csv"):
        frame = pd.read_csv(write(name, 30))
        frame.assign(number=np.arange(len(frame)) + 100).to_csv(name, index=False)
    note = "Note: number has another whole number in every row; if it only names rows: --drop number"
    assert note in adapt("--out", "a")[1]
    assert note not in adapt("--out", "a", "--drop", "number")[1]


def test_a_model_that_went_on_says_how_it_is_judged(adapt, dann_, refused, files, undrawn):
    assert adapt("--out", "a")[0] == 0
    code, out, _ = dann_("adapt", "--model", "a", "--target", "new.csv", "--set", "steps=2", "--out", "b")
    assert code == 0
    assert "`dann assess b/model.safetensors --source FILE --target FILE` estimates that" in out
    refused("assess", "b", "--target", "new.csv", because="nothing is kept with b/model.safetensors to judge it by")
    refused("assess", "a/model.safetensors", "--target", "new.csv", because="is a model file alone: give its folder, a")


def test_a_search_has_its_folder_to_itself(many, refused):
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    words = ("tune", "--source", "lab.csv", "--target", "field.csv", "--label", "species", "--search", "steps=4,8")
    with runs.alone("search"):
        refused(*words, "--out", "search", because="search is the run folder of another dann that is running")
    Path("notes").touch()
    refused(*words, "--out", "notes", because="notes is a file and cannot be the run folder")
