"""The benchmarks run and report every loop; what they measure is no matter of tests."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize(
    ("name", "loops"), [("step", {"plain", "dann"}), ("toy", {"naive", "plain", "eager", "recorded"})]
)
def test_a_benchmark_reports_the_time_of_every_loop_and_its_ratios(name, loops):
    command = [sys.executable, BENCHMARKS / f"{name}.py", "--turns", "2", "--steps", "2"]
    result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    times = result["ms CPU a step, median"]
    assert set(times) == loops
    assert all(time > 0 for time in times.values())
    ratios = [key for key in result if key.endswith("quartiles")]
    assert len(ratios) == len(loops) - 1
    assert all(len(result[key]) == 3 for key in ratios)
