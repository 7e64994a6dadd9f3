"""The benchmarks run and report every loop; what they measure is no matter of tests."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
FEW = ("--turns", "2", "--steps", "1")


def run(tmp_path, name, *arguments):
    """Run a benchmark; return what it wrote, and what it printed."""
    file = tmp_path / "result.json"
    command = [sys.executable, BENCHMARKS / f"{name}.py", *arguments, "--json", file]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text()), done.stdout


@pytest.mark.parametrize(
    ("name", "arguments", "loops"),
    [
        ("step", FEW, ["dann", "careful", "naive"]),
        ("toy", FEW, ["naive", "plain", "eager", "recorded"]),
        ("predict", ("--turns", "2", "--rows", "70"), ["dann", "dann bf16", "plain", "channels-last", "channels-last"]),
    ],
)
def test_every_loop_has_its_time_and_its_ratios(name, arguments, loops, tmp_path):
    result, printed = run(tmp_path, name, *arguments)
    assert [row["loop"].split(",")[0] for row in result["rows"]] == loops
    for row in result["rows"]:
        assert row["ms"] > 0
        low, middle, high = [value for key, value in row.items() if key in ("low", "high") or key.startswith("times")]
        assert 0 < low <= middle <= high
        assert f"| {row['loop']} |" in printed
    assert result["machine"]["torch"] in printed


def test_the_ceiling_counts_the_arithmetic_of_a_step(tmp_path):
    rows = run(tmp_path, "ceiling", *FEW)[0]["rows"]
    # multiply-adds of an image: forward and two backward passes, but none for the gradient of the pixels
    first, second = 24 * 24 * 32 * 3 * 25, 8 * 8 * 48 * 32 * 25
    heads = 768 * 100 + (768 * 100 + 100 * 100 + 100 * 10) / 2 + 100  # the label head sees half of the rows
    expected = 2 * 128 * (2 * first + 3 * second + 3 * heads) / 1e9
    assert [row["GFLOP a step"] for row in rows] == pytest.approx([expected] * 2, rel=0.01)
    assert all(row["product, GFLOP/s"] > 0 for row in rows)


def test_imports_are_compared_with_pytorchs(tmp_path):
    rows = run(tmp_path, "imports", "--turns", "1")[0]["rows"]
    assert [row["process"] for row in rows][::3] == ["import torch", "dann --help"]
    assert rows[0]["over import torch"] == 0


def test_growth_measures_a_point_in_a_process_of_its_own():
    point = {"kind": "table", "rows": 2000, "width": 8, "classes": 3, "sources": 2}
    command = [sys.executable, BENCHMARKS / "growth.py", "--point", json.dumps(point)]
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert set(result) == {"data MB", "predict, s", "predict, peak MB", "fit, s", "fit, peak MB"}
    assert result["fit, peak MB"] >= result["predict, peak MB"] >= 0


def test_a_loop_that_fails_is_named(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from turns import Worker; Worker('gone.py')"],
        cwd=BENCHMARKS,
        capture_output=True,
        text=True,
    )
    assert "gone.py ended with exit status 2" in done.stderr
