"""What importing the package adds to importing PyTorch, and the time of `dann --help`, as whole processes.

python benchmarks/imports.py [--turns 10] [--json FILE]
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from turns import report

COMMANDS = {
    "import torch": ["-c", "import torch"],
    "import torch, dann": ["-c", "import torch, dann"],
    "from dann import DomainAdapter": ["-c", "from dann import DomainAdapter"],
    "dann --help": ["-m", "dann", "--help"],
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    times = {name: [] for name in COMMANDS}
    for turn in range(args.turns + 1):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
            if turn:
                times[name].append(time.perf_counter() - start)
    rows = []
    for name, own in times.items():
        over = [a - b for a, b in zip(own, times["import torch"], strict=True)]
        row = {"process": name, "s": statistics.median(own), "min": min(own), "max": max(own)}
        row["over import torch"] = statistics.median(over)
        row = {k: v if isinstance(v, str) else round(v, 3) for k, v in row.items()}
        rows.append({**row, "turns": [round(s, 4) for s in own]})
    report("imports", rows, args.json, turns=args.turns)


if __name__ == "__main__":
    main()
