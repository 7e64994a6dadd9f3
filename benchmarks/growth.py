"""How time and memory grow with rows, width, classes and domains. Every point is a process of its own.

    python benchmarks/growth.py [--repeats 3] [--json FILE]

Predicts rows and trains DANN on them: tables for 500 steps of 64 + 64 rows, images, with the paper's network, for 20.
Peaks are above that of a process that has imported the package and made the rows, first of predicting, then of both;
ratios are to the first line of the kind, run in turns with it.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from turns import report

TABLE = {"kind": "table", "rows": 10_000, "width": 64, "classes": 2, "sources": 1}
IMAGES = {"kind": "images", "rows": 1_000, "width": 28, "classes": 10, "sources": 1}
POINTS = [
    TABLE,
    *({**TABLE, "rows": rows} for rows in (100_000, 1_000_000)),
    *({**TABLE, "width": width} for width in (256, 1024)),
    *({**TABLE, "classes": classes} for classes in (10, 100)),
    *({**TABLE, "sources": sources} for sources in (4, 16)),
    IMAGES,
    *({**IMAGES, "rows": rows} for rows in (10_000, 100_000)),
]


def peak():
    """Return the largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(kind, rows, width, classes, sources):
    """Predict and train; return seconds and megabytes."""
    from dann import MLP, DomainAdapter, MNISTNet

    rng = np.random.default_rng(0)
    if kind == "table":
        x, x_target = (rng.standard_normal((rows, 20), dtype=np.float32) for _ in range(2))
    else:
        x, x_target = (rng.integers(0, 256, (rows, 3, width, width), dtype=np.uint8) for _ in range(2))
    y, domain = rng.integers(0, classes, rows), rng.integers(0, sources, rows)
    backbone = MLP((width, width)) if kind == "table" else MNISTNet(same_padding=False)
    adapter = DomainAdapter("dann", backbone, steps=2, device="cpu")
    adapter.fit(x[:1000], np.arange(1000) % classes, x_target[:1000]).predict(x[:1000])  # what is imported late
    before = peak()
    result = {"data MB": (x.nbytes + x_target.nbytes) / 2**20}
    start = time.perf_counter()
    adapter.predict(x_target)
    result |= {"predict, s": time.perf_counter() - start, "predict, peak MB": peak() - before}
    start = time.perf_counter()
    adapter.set_params(steps=500 if kind == "table" else 20)
    adapter.fit(x, y, x_target, sample_domain=domain if sources > 1 else None)
    return {**result, "fit, s": time.perf_counter() - start, "fit, peak MB": peak() - before}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--point", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        print(json.dumps(measure(**json.loads(args.point))))
        return
    measured = [[] for _ in POINTS]
    for _ in range(args.repeats):
        for runs, point in zip(measured, POINTS, strict=True):
            command = [sys.executable, __file__, "--point", json.dumps(point)]
            runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    rows = []
    for runs, point in zip(measured, POINTS, strict=True):
        first = measured[POINTS.index(IMAGES if point["kind"] == "images" else TABLE)]
        row = {**point, **{key: statistics.median(run[key] for run in runs) for key in runs[0]}}
        ratios = [run["fit, s"] / other["fit, s"] for run, other in zip(runs, first, strict=True)]
        row["times the first"] = statistics.median(ratios)
        rows.append({key: value if isinstance(value, (int, str)) else round(value, 2) for key, value in row.items()})
    report("growth", rows, args.json, repeats=args.repeats)


if __name__ == "__main__":
    main()
