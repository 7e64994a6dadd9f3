"""What the pages show works: code runs, commands exist, links lead somewhere."""

import contextlib
import csv
import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dann import METHODS, DomainAdapter, Method
from dann.cli import app, main
from dann.datasets import blobs
from dann.experiments import EXPERIMENTS, Study

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)")


def blocks(language):
    """Return the code blocks of the README in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def commands(program):
    """Return the command lines of the README that start with a program, as lists of words without it."""
    lines = [shlex.split(line, comments=True) for block in blocks("bash") for line in block.splitlines()]
    return [words[1:] for words in lines if words[:1] == [program]]


DANN = commands("dann")


def write(path, shift, labels=True):
    """Write 30 rows of two species."""
    rng = np.random.default_rng(0)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["length", "width"] + ["species"] * labels)
        for i in range(30):
            writer.writerow([*(rng.normal(size=2) + 3 * (i % 2) + shift).tolist()] + [["cat", "dog"][i % 2]] * labels)


def test_the_pages_show_code_and_commands():
    assert len(blocks("python")) >= 2
    known = {"adapt", "assess", "compare", "list", "predict", "reproduce", "tune"}
    assert {words[0] for words in DANN} == known
    assert {words[0] for words in commands("make")} == {"demo", "test"}


@pytest.mark.parametrize("name", ["methods.md", "judgement.md", "data.md", "reading.md"])
def test_python_code_of_the_pages_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    code = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    assert len(code) >= (1 if name == "reading.md" else 3)
    names = {}
    for number, block in enumerate(code):  # later blocks go on from earlier ones
        exec(compile(block, f"{name}, python block {number + 1}", "exec"), names)


def test_every_method_of_the_methods_page_exists():
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    table = page[page.index("| your case") : page.index("Several objectives")]
    named = set(re.findall(r"`([a-z-]+)`", table)) - {"augmentation"}
    assert len(named) > 10
    assert named <= set(METHODS)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_code_runs(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("python")[number], f"README.md, python block {number + 1}", "exec"), {})


@pytest.mark.parametrize("words", DANN, ids=" ".join)
def test_commands_are_known_to_the_command_line(words):
    command, *_ = app.parse_args(words, exit_on_error=False, print_error=False)
    assert command.__name__.rstrip("_") == words[0]


def test_commands_on_the_users_files_do_what_the_page_says(tmp_path, monkeypatch, capsys):
    pytest.importorskip("optuna", reason="the extra tune is not installed")
    monkeypatch.chdir(tmp_path)
    write("lab.csv", 0)
    write("field.csv", 1)
    write("new.csv", 1, labels=False)
    short = ["--set", "steps=2"]
    few = {"compare": short, "predict": [], "assess": [], "adapt": short, "tune": [*short, "--trials", "2"]}
    for words in DANN:  # in their order: later ones read what earlier ones wrote
        if words[0] in few:
            assert main([*words, *few[words[0]]]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert out.count("Verdict: ") == 2
    assert "Best by input-ami: lr=" in out
    assert "oracle" in out
    assert len(Path("predictions.csv").read_text().splitlines()) == 31


@pytest.mark.parametrize("setting", re.findall(r"--set (\S+?=[\w.]+)", README))
def test_settings_that_the_page_shows_exist(setting):
    from dann import DANN as Method
    from dann import DomainAdapter
    from dann.cli import _setting

    name, value = _setting(setting)
    assert DomainAdapter(Method()).set_params(**{name: value}).get_params()[name] == value


@pytest.mark.parametrize("words", [words for words in DANN if words[0] == "reproduce"], ids=" ".join)
def test_experiments_and_their_options_exist(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(Study, "run", lambda study: seen.append(study.experiment.name))
    assert main(words) == 0, capsys.readouterr().err
    assert seen == [words[1]]


def test_every_experiment_is_shown():
    shown = {words[1] for words in DANN if words[0] == "reproduce"} | {words[0] for words in commands("make")}
    assert set(EXPERIMENTS) <= shown


@pytest.mark.parametrize("options", re.findall(r"#.*--recipe (\w+), --steps (\d+)", README))
def test_options_in_comments_exist(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(Study, "run", lambda study: seen.append((study.options["recipe"], study.options["steps"])))
    assert main(["reproduce", "mnist-m", "--recipe", options[0], "--steps", options[1]]) == 0
    assert seen == [(options[0], int(options[1]))]


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):(?!=)", makefile, flags=re.MULTILINE))
    for page in PAGES:
        for words in re.findall(r"^make (.+)$|`make ([^`]+)`", page.read_text(encoding="utf-8"), re.MULTILINE):
            (target,) = [word for word in shlex.split("".join(words), comments=True) if "=" not in word]
            assert target in targets, f"{page.name} shows make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_to_a_file(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:|#", link):
            assert (page.parent / link.split("#")[0]).exists(), f"{page.name} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_pages_exist(page):
    text = re.sub(r"^```text\n.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)  # output
    for line in re.findall(r"^dann (.+)$|`dann ([^`]+)`", text, re.MULTILINE):
        first = shlex.split(line[0] or line[1], comments=True)[0]
        with contextlib.suppress(KeyError):
            assert app[first] is not None
            continue
        pytest.fail(f"{page.name} shows dann {first}")


def test_the_example_method_of_the_contributors_page_trains():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^ *```python\n(.*?)^ *```", text, flags=re.DOTALL | re.MULTILINE)
    names = {"dataclass": dataclass, "Method": Method}
    exec(textwrap.dedent(block), names)
    task = blobs(seed=0)
    adapter = DomainAdapter(names["Mine"](), steps=2).fit(task.source.x, task.source.y, task.target.x)
    assert set(adapter.history_[-1]) == {"step", "label", "gap"}
