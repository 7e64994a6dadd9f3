"""Loops that take turns in one run: the speed of a machine drifts, so only ratios within one run mean anything."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

Advance = Callable[[int], dict[str, float]]  # take so many steps → seconds of "cpu" and "wall"
HERE = Path(__file__).parent


def clock_for(device: str, threads: int = 1) -> str:
    """Say which clock tells the cost of a step: CPU time, which other programs disturb less, where one thread works."""
    return "cpu" if (device, threads) == ("cpu", 1) else "wall"


def wait_for_gpu() -> None:
    """Wait until the work of this process on a GPU is done, if PyTorch has given it any."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def stepper(loop: Iterator[Any]) -> Advance:
    """Return a loop of this process: an iterator that takes a step whenever it is asked for the next item."""

    def advance(steps: int) -> dict[str, float]:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(steps):
            next(loop)
        wait_for_gpu()
        return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}

    return advance


class Worker:
    """A loop in a process of its own, which may belong to another environment: see loops/gate.py for the other end."""

    def __init__(
        self,
        script: str,
        *arguments: object,
        python: str = sys.executable,
        threads: int = 1,
        source: Path = HERE.parent / "src",
    ):
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(source)}
        command = [python, str(HERE / "loops" / script), *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.name = script
        self.versions = self._read()  # comes with the first step

    def __call__(self, steps: int) -> dict[str, float]:
        """Take so many steps."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with exit status {self.process.wait()}")
        return json.loads(line)

    def close(self) -> dict[str, float]:
        """End the process; return its "peak" memory in MB."""
        return self(0)


def take_turns(loops: dict[str, Advance], turns: int, steps: int, clock: str = "cpu") -> dict[str, list[float]]:
    """Return the milliseconds a step of every loop in every turn; a first turn only warms up."""
    times: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(turns + 1):
        for name, advance in loops.items():
            taken = advance(steps)[clock] / steps * 1e3
            if turn:
                times[name].append(taken)
    return times


def compared(times: dict[str, list[float]], against: str) -> list[dict[str, Any]]:
    """Return a row a loop: median of its times, and quartiles of the ratio to one of the loops, turn by turn.

    The row's "turns" are its times, for `report`.
    """
    rows = []
    for name, own in times.items():
        ratios = [a / b for a, b in zip(own, times[against], strict=True)]
        low, middle, high = quartiles(ratios)
        row = {"ms": statistics.median(own), "low": low, f"times {against}": middle, "high": high}
        row = {"loop": name, **{key: round(value, 3) for key, value in row.items()}}
        rows.append({**row, "turns": [round(ms, 4) for ms in own]})
    return rows


def quartiles(values: Sequence[float]) -> list[float]:
    """Return the lower quartile, the median and the upper quartile; of one value, itself."""
    return statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3


def spread(values: Sequence[float]) -> str:
    """Return median and range as text, such as "0.16 (0.15 to 0.19)"."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def machine() -> dict[str, Any]:
    """Describe the machine and the versions of what runs on it."""
    import torch

    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # older PyTorch cannot tell
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": capabilities.get("cpu_name", platform.processor()),
        "cores": os.cpu_count(),
        "avx512_bf16": bool(capabilities.get("avx512_bf16")),
        "amx_bf16": bool(capabilities.get("amx_bf16")),
        "gpu": device,
        "python": platform.python_version(),
        **{name: version(name) for name in ("dann", "torch", "numpy", "scikit-learn")},
    }


def report(title: str, rows: Sequence[dict[str, Any]], json_file: Path | None, **more: Any) -> None:
    """Print the rows as a Markdown table under the machine; write everything as JSON if there is a file for it.

    What a row has as "turns", all that was measured for it, is in the JSON alone.
    """
    result = {"benchmark": title, "machine": machine(), **more, "rows": list(rows)}
    print(f"{title}\n" + ", ".join(f"{k} {v}" for k, v in {**result["machine"], **more}.items()) + "\n")
    columns = [column for column in rows[0] if column != "turns"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row.get(column, "")) for column in columns) + " |")
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=1) + "\n")
