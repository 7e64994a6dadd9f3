"""The benchmarks run and report every loop; what they measure is no matter of tests."""

import gzip
import importlib
import io
import json
import statistics
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
FEW = ("--turns", "2", "--steps", "1")


def call(name, *arguments):
    """Run a benchmark; return the ended process."""
    return subprocess.run([sys.executable, BENCHMARKS / f"{name}.py", *arguments], capture_output=True, text=True)


def run(tmp_path, name, *arguments):
    """Run a benchmark; return what it wrote, and what it printed."""
    file = tmp_path / "result.json"
    done = call(name, *arguments, "--json", file)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert {"processor", "cores", "gpu", "python", "dann", "torch", "numpy", "scikit-learn"} <= result["machine"].keys()
    assert f"processor {result['machine']['processor']}" in done.stdout
    return result, done.stdout


@pytest.fixture
def small_mnist_m(tmp_path, monkeypatch):
    """100 training and 40 test digits and three photos, of noise, where the commands look for the data."""
    rng = np.random.default_rng(0)
    (tmp_path / "mnist").mkdir()
    for part, n in (("train", 5_100), ("t10k", 40)):  # the last 5,000 are for validation
        x, y = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), (np.arange(n) % 10).astype(np.uint8)
        for name, array in (("images-idx3", x), ("labels-idx1", y)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (tmp_path / "mnist" / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes(), 1))
    with tarfile.open(tmp_path / "BSR_bsds500.tgz", "w:gz") as archive:
        for number in range(3):
            content = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(content, "PNG")
            entry = tarfile.TarInfo(f"BSR/BSDS500/data/images/train/{number}.png")
            entry.size = content.tell()
            content.seek(0)
            archive.addfile(entry, content)
    monkeypatch.setenv("DANN_DATA", str(tmp_path))


def test_quartiles_lie_between_the_values(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    turns = importlib.import_module("turns")
    assert turns.quartiles([1, 5]) == [2, 3, 4]
    assert turns.quartiles([2]) == [2, 2, 2]


@pytest.mark.parametrize(
    ("name", "arguments", "loops"),
    [
        ("step", FEW, ["dann", "careful", "naive"]),
        ("augment", FEW, ["dann", "step"]),
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
        assert len(row["turns"]) == 2
        assert row["ms"] == pytest.approx(statistics.median(row["turns"]), abs=0.001)
    assert result["machine"]["torch"] in printed
    assert "turns |" not in printed


def test_the_ceiling_counts_the_arithmetic_of_a_step(tmp_path):
    rows = run(tmp_path, "ceiling", *FEW)[0]["rows"]
    # multiply-adds of an image: forward and two backward passes, but none for the gradient of the pixels
    first, second = 24 * 24 * 32 * 3 * 25, 8 * 8 * 48 * 32 * 25
    heads = 768 * 100 + (768 * 100 + 100 * 100 + 100 * 10) / 2 + 100  # the label head sees half of the rows
    expected = 2 * 128 * (2 * first + 3 * second + 3 * heads) / 1e9
    assert [row["GFLOP a step"] for row in rows] == pytest.approx([expected] * 2, rel=0.01)
    assert all(row["product, GFLOP/s"] > 0 for row in rows)
    assert all(len(times) == 2 for row in rows for times in row["turns"].values())
    for row in rows:
        shares = [a / b for a, b in zip(row["turns"]["product, ms"], row["turns"]["step, ms"], strict=True)]
        share = statistics.median(shares) * expected * 1e9 / (2 * 1024**3)
        printed = float(row["of the product's rate"].split(" / ")[1].rstrip("%")) / 100
        assert printed == pytest.approx(share, abs=0.02)
        assert "convolution_backward" in row["largest costs"]


def test_imports_are_compared_with_pytorchs(tmp_path):
    rows = run(tmp_path, "imports", "--turns", "1")[0]["rows"]
    assert [row["process"] for row in rows][::3] == ["import torch", "dann --help"]
    assert rows[0]["over import torch"] == 0
    assert all(row["min"] <= row["s"] <= row["max"] and len(row["turns"]) == 1 for row in rows)


def test_two_commits_are_compared_loop_by_loop(tmp_path):
    here = subprocess.run(["git", "-C", BENCHMARKS, "rev-parse", "HEAD"], capture_output=True)
    if here.returncode:
        pytest.skip("compares commits of a git repository")
    few = ("--loop", "toy", "--turns", "2", "--limit", "1000")
    result, _ = run(tmp_path, "compare", "HEAD", "HEAD", *few)
    assert [row["loop"] for row in result["rows"]] == ["toy, old", "toy, new"]
    assert [result["old"], result["new"]] == ["HEAD", "HEAD"]
    for row in result["rows"]:
        assert len(row["turns"]) == 2
        assert row["low"] <= row["times old"] <= row["high"]


def test_a_revision_that_does_not_exist_is_told_in_a_line():
    done = call("compare", "HEAD", "no-such-revision")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("compare.py: 'no-such-revision' is no commit of ")


def test_growth_tells_every_run_and_its_range(tmp_path):
    result, printed = run(tmp_path, "growth", "--fast", "--repeats", "1")
    assert [row["kind"] for row in result["rows"]] == ["table", "images"]
    for row in result["rows"]:
        (only,) = row["turns"]
        assert row["fit, s"] == "{0:.2f} ({0:.2f} to {0:.2f})".format(only["fit, s"])
        assert row["times the first"] in printed
        assert row["times the first"] == "1.00 (1.00 to 1.00)"


def test_what_lies_around_the_training_is_measured_part_by_part(tmp_path, small_mnist_m):
    result, _ = run(tmp_path, "around", "--steps", "2", "--repeats", "2")
    parts = {row["part"]: row for row in result["rows"]}
    assert {"build the data", "load the data", "proxy A-distance", "figures, t-SNE included", "save"} <= parts.keys()
    for row in parts.values():
        assert len(row["turns"]) == 2
        assert row["min"] <= row["s"] <= row["max"]
    few, whole = (parts[name]["turns"] for name in ("2 steps of dann", "so 20000 steps of dann"))
    assert whole == pytest.approx([s * 10_000 for s in few], rel=0.01)


def test_the_clock_stops_where_the_accuracy_is_reached(tmp_path, small_mnist_m):
    result, _ = run(tmp_path, "end_to_end", "--accuracy", "0", "--seeds", "1", "--every", "2", "--device", "cpu")
    (row,) = result["rows"]
    assert (row["seed"], row["steps"]) == (0, 2)
    assert 0 <= row["oracle accuracy"] <= 1


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
