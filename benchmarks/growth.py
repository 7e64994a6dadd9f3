"""How time and memory grow with rows, width, classes and domains. Every point is a process of its own.

    python benchmarks/growth.py [--repeats 3] [--device cpu] [--fast] [--json FILE]

Predicts rows and trains DANN on them: tables for 500 steps of 64 + 64 rows, images, with the paper's network, for 20.
Peaks are above that of a process that has imported the package and made the rows, first of predicting, then of both;
on a GPU they are of its memory. Ratios are to the first line of the kind, run in turns with it. Behind medians stand
the least and the largest of the repeats. Tells every run as it ends; `--fast` measures a small line of each kind only.
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
import torch
from turns import report, spread, wait_for_gpu

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
FAST = [{**TABLE, "rows": 1_000}, IMAGES]


def peak(device):
    """Return the largest memory of this process so far, or of its tensors on a GPU, in MB."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return torch.cuda.max_memory_allocated(device) / 2**20


def measure(device, kind, rows, width, classes, sources):
    """Predict and train; return seconds and megabytes."""
    from dann import MLP, DomainAdapter, MNISTNet

    rng = np.random.default_rng(0)
    if kind == "table":
        x, x_target = (rng.standard_normal((rows, 20), dtype=np.float32) for _ in range(2))
    else:
        x, x_target = (rng.integers(0, 256, (rows, 3, width, width), dtype=np.uint8) for _ in range(2))
    y, domain = rng.integers(0, classes, rows), rng.integers(0, sources, rows)
    backbone = MLP((width, width)) if kind == "table" else MNISTNet(same_padding=False)
    adapter = DomainAdapter("dann", backbone, steps=2, device=device)
    adapter.fit(x[:1000], np.arange(1000) % classes, x_target[:1000]).predict(x[:1000])  # what is imported late
    before = peak(device)
    result = {"data MB": (x.nbytes + x_target.nbytes) / 2**20}
    start = time.perf_counter()
    adapter.predict(x_target)
    result |= {"predict, s": time.perf_counter() - start, "predict, peak MB": peak(device) - before}
    start = time.perf_counter()
    adapter.set_params(steps=500 if kind == "table" else 20)
    adapter.fit(x, y, x_target, sample_domain=domain if sources > 1 else None)
    wait_for_gpu()
    return {**result, "fit, s": time.perf_counter() - start, "fit, peak MB": peak(device) - before}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--point", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        print(json.dumps(measure(args.device, **json.loads(args.point))))
        return
    points = FAST if args.fast else POINTS
    measured = [[] for _ in points]
    for repeat in range(args.repeats):
        for runs, point in zip(measured, points, strict=True):
            command = [sys.executable, __file__, "--point", json.dumps(point), "--device", args.device]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            runs.append(json.loads(done.stdout))
            told = {**point, **{key: round(value, 2) for key, value in runs[-1].items()}}
            print(f"{repeat + 1}/{args.repeats}", *(f"{k} {v}" for k, v in told.items()), sep=", ", file=sys.stderr)
    first = {}  # runs of the first line of a kind
    rows = []
    for runs, point in zip(measured, points, strict=True):
        ratios = [a["fit, s"] / b["fit, s"] for a, b in zip(runs, first.setdefault(point["kind"], runs), strict=True)]
        row = {**point, "data MB": round(runs[0]["data MB"], 2)}
        for part in ("predict", "fit"):
            row[f"{part}, s"] = spread([run[f"{part}, s"] for run in runs])
            row[f"{part}, peak MB"] = round(statistics.median(run[f"{part}, peak MB"] for run in runs), 2)
        rows.append({**row, "times the first": spread(ratios), "turns": runs})
    settings = {"repeats": args.repeats, "threads": torch.get_num_threads(), "device": args.device}
    report("growth", rows, args.json, **settings)


if __name__ == "__main__":
    main()
